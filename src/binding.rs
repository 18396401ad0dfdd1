//! A name, where its files are, and what is configured for it.

mod discover;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use thiserror::Error;

pub(crate) use self::discover::DEFAULT;
pub use self::discover::{Bindings, Oddity};
use crate::allowance::{Room, allowance};
use crate::bundle::{
    Authorities, CertificateBundle, Facts, Fingerprint, Invalid, License, PairSource, Pairs,
    Source as BundleSource,
};
use crate::clock::Timestamp;
use crate::declarative::{Document, Unreadable};
use crate::names::BindingName;
use crate::quote::Quoted;
use crate::settings::{
    AuthoritySettings, CertificateSettings, Declarative, LicenseSettings, ReloadFile, RenewBy,
    Settings,
};
use crate::volume::{Generation, Source};

/// The file that cert-manager and kubelet call the certificate.
const CERT: &str = "tls.crt";
/// The file that they call the key.
const KEY: &str = "tls.key";

/// What is to be kept in Kong, and where its files are.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// Its name.
    pub name: BindingName,
    /// What its files hold.
    pub material: Material,
    source: Source,
}

/// What the files of a binding hold, and what is configured for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Material {
    /// A certificate with its key and SNIs.
    Certificate(Arc<CertificateSettings>),
    /// CA certificates.
    Authorities(Arc<AuthoritySettings>),
    /// A licence of Kong Enterprise.
    License(Arc<LicenseSettings>),
    /// A pair that nginx reads when it starts or reloads.
    Reload(Arc<ReloadFile>),
    /// The rest of the configuration of a Kong without a database.
    Configuration,
}

/// What a binding feeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A certificate with its key and SNIs.
    Certificate,
    /// CA certificates.
    CaCertificate,
    /// A licence of Kong Enterprise.
    License,
    /// Files that nginx reads when it starts or reloads.
    Reload,
    /// The file with the rest of the configuration of a Kong without a database.
    Declarative,
}

impl Kind {
    /// The word, as it stands in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::CaCertificate => "ca_certificate",
            Self::License => "license",
            Self::Reload => "reload",
            Self::Declarative => "declarative",
        }
    }

    /// Whether a handshake can show it.
    #[must_use]
    pub const fn is_served(self) -> bool {
        matches!(self, Self::Certificate | Self::Reload)
    }

    /// Whether Kong's Admin API holds it.
    #[must_use]
    pub const fn is_in_kong(self) -> bool {
        !matches!(self, Self::Reload)
    }

    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Certificate, Self::CaCertificate, Self::License, Self::Reload, Self::Declarative];

    /// Whether there is more to show of it than where it stands.
    #[must_use]
    pub const fn has_facts(self) -> bool {
        !matches!(self, Self::Declarative)
    }

    /// Whether it is renewed by a rhythm: CAs and licences have none.
    #[must_use]
    pub const fn is_renewed(self) -> bool {
        matches!(self, Self::Certificate | Self::Reload)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a binding asks for: the bundle in its files, and what is configured for it.
#[derive(Debug)]
pub enum Content {
    /// Kong should hold it.
    Wish(Wish),
    /// nginx should have read it. Its key is not kept.
    Read(Arc<ReloadFile>, Facts),
    /// Kong should have loaded it, with what the other bindings wish.
    Configuration(Configuration),
}

/// What is in `DECLARATIVE__FILE`.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// As it is read.
    pub document: Arc<Document>,
    /// Of its text.
    pub fingerprint: Fingerprint,
    /// Bytes of its text.
    pub length: usize,
}

impl Content {
    /// What is known about the bundle; nothing of it is secret. `None` of a configuration.
    #[must_use]
    pub fn facts(&self) -> Option<&Facts> {
        match self {
            Self::Wish(wish) => Some(wish.facts()),
            Self::Read(_, facts) => Some(facts),
            Self::Configuration(_) => None,
        }
    }

    /// [`Invalid::Expired`] or the like if it is past its life; `file` is for the message.
    pub fn check_expired(&self, file: &Path, now: Timestamp) -> Result<(), Invalid> {
        match self {
            Self::Wish(Wish::License(_, license)) => license.check_expired(file, now),
            _ => self.facts().map_or(Ok(()), |facts| facts.check_expired(file, now)),
        }
    }
}

/// Why what is in the files cannot be brought to Kong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unfit {
    /// It cannot be served.
    #[error(transparent)]
    Bundle(#[from] Invalid),
    /// It is no configuration.
    #[error("{path} is no declarative configuration: {problem}")]
    Configuration {
        /// The file.
        path: Quoted,
        /// What is wrong, and where.
        problem: Unreadable,
    },
}

impl Unfit {
    /// Whether a file that is being written looks like this.
    #[must_use]
    pub const fn is_torn(&self) -> bool {
        match self {
            Self::Bundle(invalid) => invalid.is_torn(),
            Self::Configuration { problem, .. } => !matches!(problem, Unreadable::TooLarge),
        }
    }
}

/// What Kong should hold.
#[derive(Clone, Debug)]
pub enum Wish {
    /// A certificate.
    Certificate(Arc<CertificateSettings>, CertificateBundle),
    /// CA certificates.
    Authorities(Arc<AuthoritySettings>, Arc<Authorities>),
    /// A licence.
    License(Arc<LicenseSettings>, Arc<License>),
}

impl Wish {
    /// Gives keys away that can be read again.
    pub fn put_down(&mut self) {
        if let Self::Certificate(_, bundle) = self {
            bundle.put_down();
        }
    }

    /// Whether its keys were given away.
    #[must_use]
    pub const fn is_put_down(&self) -> bool {
        matches!(self, Self::Certificate(_, CertificateBundle::Known(_)))
    }

    /// What is known about the bundle; nothing of it is secret.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        match self {
            Self::Certificate(_, bundle) => bundle.facts(),
            Self::Authorities(_, authorities) => authorities.facts(),
            Self::License(_, license) => license.facts(),
        }
    }
}

impl Binding {
    /// A certificate in `directory`; `above` may be its volume's root.
    fn certificate(
        name: BindingName,
        directory: &Path,
        above: &Arc<Path>,
        configured: &Configured,
    ) -> Self {
        let files = Arc::clone(&configured.files);
        let source = Source::new(files).beneath(directory).within(Arc::clone(above));
        let material = Material::Certificate(Arc::clone(&configured.settings));
        Self { name, material, source }
    }

    /// All that are configured and no certificate.
    fn configured(settings: &Settings) -> Vec<Self> {
        let alone = |file: &Path, material| (vec![file.to_path_buf()], material);
        let authorities = settings.authorities.iter().map(|(name, one)| {
            (name, alone(&one.file, Material::Authorities(Arc::new(one.clone()))))
        });
        let licenses = settings
            .licenses
            .iter()
            .map(|(name, one)| (name, alone(&one.file, Material::License(Arc::new(one.clone())))));
        let reloads = settings.reload.files.iter().map(|(name, one)| {
            let files = vec![one.cert.clone(), one.key.clone()];
            (name, (files, Material::Reload(Arc::new(one.clone()))))
        });
        let all = authorities.chain(licenses).chain(reloads);
        let all = all.map(|(name, (files, material))| Self {
            name: name.clone().into(),
            material,
            source: Source::new(files).within(settings.certs_dir.as_path()),
        });
        let configuration = settings.declarative.file.iter().filter_map(|file| {
            let name = Declarative::NAME.parse().ok()?;
            let source = Source::new([file.clone()]).up_to(allowance() as u64);
            Some(Self { name, material: Material::Configuration, source })
        });
        all.chain(configuration).collect()
    }

    /// Its files.
    #[must_use]
    pub const fn source(&self) -> &Source {
        &self.source
    }

    /// The first of its files, for messages: that with the certificate.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.source.files().next().unwrap_or_default()
    }

    /// What it feeds.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self.material {
            Material::Certificate(_) => Kind::Certificate,
            Material::Authorities(_) => Kind::CaCertificate,
            Material::License(_) => Kind::License,
            Material::Reload(_) => Kind::Reload,
            Material::Configuration => Kind::Declarative,
        }
    }

    /// The share of its life at which it should have been renewed; CAs and licences have no rhythm.
    #[must_use]
    pub fn renew_by(&self) -> Option<RenewBy> {
        match &self.material {
            Material::Certificate(settings) => Some(settings.renew_by),
            Material::Reload(_) => Some(RenewBy::default()),
            Material::Authorities(_) | Material::License(_) | Material::Configuration => None,
        }
    }

    /// Parses what was read from [`Self::source`].
    ///
    /// # Errors
    ///
    /// Says why Kong could not serve it.
    pub fn content(&self, generation: &Generation, now: Timestamp) -> Result<Content, Unfit> {
        let paths: Vec<PathBuf> = self.source.files().collect();
        let file = read(&paths[0], generation);
        Ok(match &self.material {
            Material::Certificate(settings) => {
                let bundle = CertificateBundle::Whole(Arc::new(pairs(&paths, generation)?));
                Content::Wish(Wish::Certificate(Arc::clone(settings), bundle))
            }
            Material::Authorities(settings) => {
                let authorities = Authorities::parse(file, now)?;
                Content::Wish(Wish::Authorities(Arc::clone(settings), Arc::new(authorities)))
            }
            Material::License(settings) => {
                let license = License::parse(file)?;
                Content::Wish(Wish::License(Arc::clone(settings), Arc::new(license)))
            }
            Material::Reload(files) => {
                let pairs = pairs(&paths, generation)?;
                Content::Read(Arc::clone(files), pairs.facts().clone())
            }
            Material::Configuration => {
                let document = Document::parse_within(Room::of_memory(), file.bytes);
                let document = document.map_err(|problem| Unfit::Configuration {
                    path: Quoted::new(&file.path.to_string_lossy()),
                    problem,
                })?;
                Content::Configuration(Configuration {
                    document: Arc::new(document),
                    fingerprint: Fingerprint::of_text(file.bytes),
                    length: file.bytes.len(),
                })
            }
        })
    }
}

/// What is configured for certificates, and what follows from it; those of which nothing is configured
/// share it.
#[derive(Clone, Debug)]
struct Configured {
    settings: Arc<CertificateSettings>,
    /// Certificate and key, and those of the second pair.
    files: Arc<[PathBuf]>,
}

impl From<CertificateSettings> for Configured {
    fn from(settings: CertificateSettings) -> Self {
        let named = |path: &Option<PathBuf>, usual: &str| path.clone().unwrap_or(usual.into());
        let main = [named(&settings.cert, CERT), named(&settings.key, KEY)];
        let alt = settings.cert_alt.clone().zip(settings.key_alt.clone());
        let alt = alt.into_iter().flat_map(|(cert, key)| [cert, key]);
        Self { files: main.into_iter().chain(alt).collect(), settings: Arc::new(settings) }
    }
}

/// The pairs in the files of a [`Configured`], or of a pair that nginx reads.
fn pairs(files: &[PathBuf], generation: &Generation) -> Result<Pairs, Invalid> {
    let pair = |at: usize| PairSource {
        cert: read(&files[at], generation),
        key: read(&files[at + 1], generation),
    };
    Pairs::parse(pair(0), (files.len() > 2).then(|| pair(2)))
}

fn read<'a>(path: &'a Path, generation: &'a Generation) -> BundleSource<'a> {
    BundleSource { path, bytes: generation.content(path) }
}
