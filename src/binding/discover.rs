//! How bindings are found: those that are configured, and the directories that hold a pair.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::{Binding, CERT, Configured, KEY, Kind};
use crate::names::{BindingName, FoldedName};
use crate::packed::pack;
use crate::quote::Quoted;
use crate::settings::{CertificateSettings, Settings};

/// The name of the binding that `CERTS_DIR` itself is.
pub(crate) const DEFAULT: &str = "default";

/// All bindings: those that are configured, and those found in `CERTS_DIR`. Once in, a binding
/// stays until restart, even if its files vanish.
#[derive(Debug)]
pub struct Bindings {
    certs_dir: Arc<Path>,
    settings: BTreeMap<FoldedName, Configured>,
    /// What is configured where nothing is.
    default: Configured,
    known: BTreeMap<BindingName, Arc<Binding>>,
    /// Those whose names are no folded ones.
    unfolded: BTreeMap<FoldedName, BindingName>,
    /// Configured ones whose directory was not there yet: it may have another spelling.
    placeholders: BTreeSet<BindingName>,
    candidates: BTreeSet<Arc<Path>>,
    replaced: Vec<BindingName>,
    told: BTreeSet<Oddity>,
}

impl Bindings {
    /// Starts with what is configured; [`Self::look`] finds the rest.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let mut bindings = Self::new(&settings.certs_dir, &settings.certificates);
        for binding in Binding::configured(settings) {
            bindings.keep(binding);
        }
        bindings
    }

    /// The certificates in `certs_dir` alone, and those that are configured.
    #[must_use]
    pub fn new(certs_dir: &Path, settings: &BTreeMap<FoldedName, CertificateSettings>) -> Self {
        Self {
            certs_dir: certs_dir.into(),
            settings: settings
                .iter()
                .map(|(name, one)| (name.clone(), one.clone().into()))
                .collect(),
            default: CertificateSettings::default().into(),
            known: BTreeMap::new(),
            unfolded: BTreeMap::new(),
            placeholders: BTreeSet::new(),
            candidates: BTreeSet::new(),
            replaced: Vec::new(),
            told: BTreeSet::new(),
        }
    }

    /// Looks for directories that hold a pair; returns what is odd about them and was not told
    /// before.
    pub fn look(&mut self) -> Vec<Oddity> {
        let before = self.known.len();
        let Found { pairs, others, mut oddities } = Found::beneath(&self.certs_dir);
        self.candidates = others;
        for (name, directory) in pairs {
            match self.like(&name.folded()) {
                None => self.insert(name, &directory),
                Some(known) if known.kind() != Kind::Certificate => {
                    let (setting, kind) = (known.name.clone(), known.kind());
                    oddities.push(Oddity::NameTaken { name, setting, kind });
                }
                Some(known) if known.name == name => drop(self.placeholders.remove(&name)),
                // Configured under its folded name before the directory was there.
                Some(known) if self.placeholders.contains(&known.name) => {
                    let placeholder = known.name.clone();
                    self.known.remove(&placeholder);
                    self.placeholders.remove(&placeholder);
                    self.replaced.push(placeholder);
                    self.insert(name, &directory);
                }
                Some(known) => oddities.push(Oddity::FoldAlike(name, known.name.clone())),
            }
        }
        self.insert_configured();
        if self.known.len() > before {
            pack(&mut self.known);
        }
        // A configured one is missed as a binding, not as a directory.
        oddities.retain(
            |oddity| !matches!(oddity, Oddity::Half { name, .. } if self.like(name).is_some()),
        );
        oddities.retain(|oddity| self.told.insert(oddity.clone()));
        oddities
    }

    fn insert(&mut self, name: BindingName, directory: &Path) {
        let configured = self.settings.get(&name.folded()).unwrap_or(&self.default);
        let elsewhere = configured_directory(&configured.settings);
        let directory = elsewhere.as_deref().unwrap_or(directory);
        let binding = Binding::certificate(name, directory, &self.certs_dir, configured);
        self.keep(binding);
    }

    fn keep(&mut self, binding: Binding) {
        let (name, folded) = (binding.name.clone(), binding.name.folded());
        if name.as_str() != folded.as_str() {
            self.unfolded.insert(folded, name.clone());
        }
        self.known.insert(name, Arc::new(binding));
    }

    /// The binding whose name folds to this.
    fn like(&self, folded: &FoldedName) -> Option<&Arc<Binding>> {
        let unfolded = self.unfolded.get(folded);
        unfolded.map_or_else(
            || self.known.get(&BindingName::from(folded.clone())),
            |name| self.known.get(name),
        )
    }

    fn insert_configured(&mut self) {
        let is_absent = |name: &&FoldedName| self.like(name).is_none();
        let absent: Vec<_> = self.settings.keys().filter(is_absent).cloned().collect();
        for folded in absent {
            let name = BindingName::from(folded);
            let directory = self.certs_dir.join(name.as_ref());
            let configured = self.settings.get(&name.folded());
            if configured.is_none_or(|configured| configured.settings.dir.is_none()) {
                self.placeholders.insert(name.clone());
            }
            self.insert(name, &directory);
        }
    }

    /// Names that only stood for a directory which is there now, under another name.
    #[must_use]
    pub fn just_replaced(&self) -> &[BindingName] {
        &self.replaced
    }

    /// Takes those names.
    pub fn replaced(&mut self) -> Vec<BindingName> {
        std::mem::take(&mut self.replaced)
    }

    /// Directories in which a pair may appear.
    #[must_use]
    pub const fn candidates(&self) -> &BTreeSet<Arc<Path>> {
        &self.candidates
    }

    /// The binding of this name.
    #[must_use]
    pub fn named(&self, name: &BindingName) -> Option<&Arc<Binding>> {
        self.known.get(name)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Binding>> {
        self.known.values()
    }
}

/// `DIR`, or the directory of an absolute `CERT`.
fn configured_directory(settings: &CertificateSettings) -> Option<PathBuf> {
    let cert = settings.cert.as_deref().filter(|cert| cert.is_absolute());
    settings.dir.clone().or_else(|| Some(cert?.parent()?.to_path_buf()))
}

/// What lies in `CERTS_DIR`.
#[derive(Default)]
struct Found {
    /// The directories that hold a pair: it itself (as `default`), and its children.
    pairs: BTreeMap<BindingName, PathBuf>,
    /// It itself and its other children.
    others: BTreeSet<Arc<Path>>,
    oddities: Vec<Oddity>,
}

impl Found {
    fn beneath(directory: &Path) -> Self {
        let mut found = Self { others: [directory.into()].into(), ..Self::default() };
        if holds_pair(directory)
            && let Ok(name) = DEFAULT.parse()
        {
            found.pairs.insert(name, directory.to_path_buf());
        }
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if name.as_encoded_bytes().starts_with(b".") || !path.is_dir() {
                continue;
            }
            if !holds_pair(&path) {
                found.oddities.extend(half_of_a_pair(&path));
                found.others.insert(path.into());
                continue;
            }
            match name.to_str().and_then(|name| name.parse::<BindingName>().ok()) {
                Some(name) if found.pairs.contains_key(&name) => {
                    found.oddities.push(Oddity::FoldAlike(name.clone(), name));
                }
                Some(name) => drop(found.pairs.insert(name, path)),
                None => found.oddities.push(Oddity::BadName(Quoted::new(&name.to_string_lossy()))),
            }
        }
        found
    }
}

fn holds_pair(directory: &Path) -> bool {
    [CERT, KEY].iter().all(|file| fs::symlink_metadata(directory.join(file)).is_ok())
}

/// A directory with one of the two files was meant to be a binding.
fn half_of_a_pair(directory: &Path) -> Option<Oddity> {
    let has = |file: &str| fs::symlink_metadata(directory.join(file)).is_ok();
    let (there, missing) = match (has(CERT), has(KEY)) {
        (true, false) => (CERT, KEY),
        (false, true) => (KEY, CERT),
        _ => return None,
    };
    let name = directory.file_name()?.to_str()?.parse::<BindingName>().ok()?.folded();
    let directory = Quoted::new(&directory.to_string_lossy());
    Some(Oddity::Half { name, directory, there, missing })
}

/// What is odd about a directory in `CERTS_DIR`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum Oddity {
    /// Its name cannot be a binding's.
    #[error(
        "directory {0} holds a certificate but cannot be a binding: a name is letters, digits, `-`, `.`, `_`, begins with a letter or digit, and has at most 128 characters; rename the mount"
    )]
    BadName(Quoted),
    /// It holds one file of a pair.
    #[error(
        "{directory} holds {there} and no {missing}: it is left out until both are there; name other files with CERT_RELOADER__CERTIFICATES__<NAME>__CERT and __KEY"
    )]
    Half {
        /// The name that it would have, folded.
        name: FoldedName,
        /// Where it is.
        directory: Quoted,
        /// The file that is there.
        there: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// Two names that no variable can tell apart.
    #[error(
        "{0} is no binding: it cannot be told from {1}, because `-`, `.`, `_` and case do not count in variables; rename one of the mounts"
    )]
    FoldAlike(BindingName, BindingName),
    /// The settings have something else of that name.
    #[error(
        "{name} is no binding: {setting} is the name of a {kind} in the settings, and metrics and commands know both by name alone; rename the mount or the setting"
    )]
    NameTaken {
        /// The directory's.
        name: BindingName,
        /// The one in the settings.
        setting: BindingName,
        /// What it feeds.
        kind: Kind,
    },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use testkit::SecretVolume;

    use super::*;

    fn pair_at(directory: &Path) {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join(CERT), "").unwrap();
        fs::write(directory.join(KEY), "").unwrap();
    }

    fn names(bindings: &Bindings) -> Vec<&str> {
        bindings.iter().map(|binding| binding.name.as_ref()).collect()
    }

    #[test]
    fn a_directory_with_half_a_pair_is_told_once_unless_it_is_configured() {
        let root = tempfile::tempdir().unwrap();
        for (name, file) in [("web", CERT), ("api", KEY), ("other", "ca.crt"), ("mine", CERT)] {
            fs::create_dir_all(root.path().join(name)).unwrap();
            fs::write(root.path().join(name).join(file), "").unwrap();
        }
        let settings = [("mine".parse().unwrap(), CertificateSettings::default())].into();
        let mut bindings = Bindings::new(root.path(), &settings);
        let told: Vec<String> = bindings.look().iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.iter().any(|told| told.contains("web holds tls.crt and no tls.key")));
        assert!(told.iter().any(|told| told.contains("api holds tls.key and no tls.crt")));
        assert_eq!(bindings.look(), []);
        fs::write(root.path().join("web").join(KEY), "").unwrap();
        bindings.look();
        assert_eq!(names(&bindings), ["mine", "web"]);
    }

    #[test]
    fn children_that_hold_a_pair_are_bindings() {
        let root = tempfile::tempdir().unwrap();
        for name in ["web", "api.example.com", ".hidden"] {
            pair_at(&root.path().join(name));
        }
        fs::create_dir(root.path().join("empty")).unwrap();
        pair_at(&root.path().join("deep/er"));
        fs::write(root.path().join("file"), "").unwrap();
        let mut bindings = Bindings::new(root.path(), &BTreeMap::new());
        assert_eq!(bindings.look(), []);
        assert_eq!(names(&bindings), ["api.example.com", "web"]);
    }

    #[test]
    fn a_directory_that_holds_a_pair_itself_is_the_default_binding() {
        let root = tempfile::tempdir().unwrap();
        SecretVolume::mount(root.path()).publish(&[("tls.crt", b""), ("tls.key", b"")]);
        let mut bindings = Bindings::new(root.path(), &BTreeMap::new());
        bindings.look();
        assert_eq!(names(&bindings), ["default"]);
        assert_eq!(bindings.iter().next().unwrap().file(), root.path().join("tls.crt"));
    }

    #[test]
    fn a_projected_volume_with_paths_holds_several_bindings() {
        let root = tempfile::tempdir().unwrap();
        let volume = SecretVolume::mount(root.path());
        volume.publish(&[
            ("a/tls.crt", b""),
            ("a/tls.key", b""),
            ("b/tls.crt", b""),
            ("b/tls.key", b""),
        ]);
        let mut bindings = Bindings::new(root.path(), &BTreeMap::new());
        bindings.look();
        assert_eq!(names(&bindings), ["a", "b"]);
    }

    #[test]
    fn a_binding_stays_when_its_directory_vanishes() {
        let root = tempfile::tempdir().unwrap();
        pair_at(&root.path().join("web"));
        let mut bindings = Bindings::new(root.path(), &BTreeMap::new());
        bindings.look();
        fs::remove_dir_all(root.path().join("web")).unwrap();
        bindings.look();
        assert_eq!(names(&bindings), ["web"]);
    }

    #[test]
    fn a_configured_binding_is_there_before_its_directory() {
        let root = tempfile::tempdir().unwrap();
        let folded = "My-Cert".parse::<BindingName>().unwrap().folded();
        let settings = BTreeMap::from([(folded, CertificateSettings::default())]);
        let mut bindings = Bindings::new(root.path(), &settings);
        bindings.look();
        assert_eq!(names(&bindings), ["my_cert"]);
        pair_at(&root.path().join("My-Cert"));
        assert_eq!(bindings.look(), []);
        assert_eq!(names(&bindings), ["My-Cert"]);
    }

    #[test]
    fn settings_override_what_was_found() {
        let root = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        pair_at(&root.path().join("web"));
        let web = CertificateSettings {
            dir: Some(elsewhere.path().to_path_buf()),
            cert: Some("fullchain.pem".into()),
            key: Some("privkey.pem".into()),
            ..CertificateSettings::default()
        };
        let folded = "web".parse::<BindingName>().unwrap().folded();
        let mut bindings = Bindings::new(root.path(), &BTreeMap::from([(folded, web)]));
        bindings.look();
        let web = bindings.iter().next().unwrap();
        let expected = ["fullchain.pem", "privkey.pem"].map(|file| elsewhere.path().join(file));
        assert!(web.source().files().eq(expected));
    }

    #[test]
    fn a_directory_with_the_name_of_another_kind_is_none_and_is_told_with_whose_it_is() {
        let root = tempfile::tempdir().unwrap();
        pair_at(&root.path().join("my-ca"));
        pair_at(&root.path().join("web"));
        let file = ["CERT_RELOADER__CA_CERTIFICATES__MY_CA__FILE", "/ca.crt"].map(Into::into);
        let mut settings = Settings::from_env([file.into()]).unwrap();
        settings.certs_dir = root.path().to_path_buf();
        let mut bindings = Bindings::of(&settings);
        let told: Vec<String> = bindings.look().iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        let words = "my-ca is no binding: my_ca is the name of a ca_certificate in the settings";
        assert!(told[0].starts_with(words), "{told:?}");
        assert_eq!(bindings.look(), []);
        assert_eq!(names(&bindings), ["my_ca", "web"]);
        assert_eq!(bindings.iter().next().unwrap().kind(), Kind::CaCertificate);
    }

    #[test]
    fn oddities_are_told_once() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a-b", "a.b", "-dash"] {
            pair_at(&root.path().join(name));
        }
        let mut bindings = Bindings::new(root.path(), &BTreeMap::new());
        let told = bindings.look();
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(bindings.look(), []);
        assert_eq!(names(&bindings), ["a-b"]);
    }
}
