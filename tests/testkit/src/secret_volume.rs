//! A Secret volume as kubelet writes it, step by step.
//!
//! Replays the order of Kubernetes' `AtomicWriter` (`pkg/volume/util/atomic_writer.go`), as it is
//! since the user-visible links are made after the swap. Every method panics where the file system
//! refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use uuid::Uuid;

use crate::CertifiedPair;

/// The link that names the generation in force.
const DATA: &str = "..data";
/// What is renamed onto [`DATA`].
const DATA_TMP: &str = "..data_tmp";

/// A mounted volume: a directory that holds one generation of files at a time.
#[derive(Debug)]
pub struct SecretVolume {
    root: PathBuf,
    mode: u32,
}

impl SecretVolume {
    /// An empty volume at `path`, which is made if it is not there.
    #[must_use]
    pub fn mount(path: impl Into<PathBuf>) -> Self {
        let root = path.into();
        fs::create_dir_all(&root).unwrap();
        Self { root, mode: 0o644 }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The mode of files published from now on (a pod's `defaultMode`); 0644 at first.
    /// kubelet compares contents only: a new mode alone publishes nothing.
    pub fn set_mode(&mut self, mode: u32) {
        self.mode = mode;
    }

    /// Publishes `files` (path within the volume, content), all steps at once.
    ///
    /// Answers whether there is a new generation: where paths and contents are those in force,
    /// kubelet makes none.
    pub fn publish(&self, files: &[(&str, &[u8])]) -> bool {
        match self.prepare(files) {
            Some(prepared) => {
                prepared.swap().clean_up();
                true
            }
            None => false,
        }
    }

    /// Publishes a pair as cert-manager does, as `tls.crt` and `tls.key`; see [`Self::publish`].
    pub fn publish_pair(&self, pair: &CertifiedPair) -> bool {
        let (cert, key) = (pair.chain_pem(), pair.key_pem());
        self.publish(&[("tls.crt", cert.as_bytes()), ("tls.key", key.as_bytes())])
    }

    /// The first step: writes the new generation beside the one in force, and the link to it that
    /// will be swapped in. Readers see no difference yet.
    ///
    /// `None` where nothing differs; links that a reader of the volume lost are made again then.
    #[must_use]
    pub fn prepare(&self, files: &[(&str, &[u8])]) -> Option<Prepared<'_>> {
        let files: BTreeMap<PathBuf, &[u8]> =
            files.iter().map(|(path, content)| (inside(path), *content)).collect();
        let old = self.generation();
        let gone = old.as_deref().map(|old| gone(old, &files)).unwrap_or_default();
        if let Some(old) = &old
            && gone.is_empty()
            && files.iter().all(|(path, content)| holds(&old.join(path), content))
        {
            self.link(&files);
            return None;
        }
        let new = self.write(&files);
        symlink(new.file_name().unwrap(), self.root.join(DATA_TMP)).unwrap();
        let links = files.into_keys().collect();
        Some(Prepared(Publication { volume: self, links, gone, old }))
    }

    /// The timestamped directory in force, if anything was published.
    #[must_use]
    pub fn generation(&self) -> Option<PathBuf> {
        match fs::read_link(self.root.join(DATA)) {
            Ok(name) => Some(self.root.join(name)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => panic!("{DATA} is no link: {error}"),
        }
    }

    /// Takes the volume away, directory and all.
    pub fn unmount(&self) {
        fs::remove_dir_all(&self.root).unwrap();
    }

    /// Brings an unmounted volume back, empty.
    pub fn remount(&self) {
        fs::create_dir_all(&self.root).unwrap();
    }

    /// Writes `files` into a directory of their own. Modes do not depend on the umask.
    fn write(&self, files: &BTreeMap<PathBuf, &[u8]>) -> PathBuf {
        let directory = self.root.join(timestamp());
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        for (path, content) in files {
            let path = directory.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(self.mode)).unwrap();
        }
        directory
    }

    /// Makes the links that users read through, one for each first component.
    fn link<T>(&self, files: &BTreeMap<PathBuf, T>) {
        for name in files.keys().map(|path| path.iter().next().unwrap()) {
            let link = self.root.join(name);
            if fs::symlink_metadata(&link).is_err() {
                symlink(Path::new(DATA).join(name), link).unwrap();
            }
        }
    }
}

/// A generation that is written and not yet in force.
#[derive(Debug)]
#[must_use = "nothing is published before the swap"]
pub struct Prepared<'a>(Publication<'a>);

impl<'a> Prepared<'a> {
    /// The second step: puts the generation in force with one rename.
    pub fn swap(self) -> Swapped<'a> {
        let root = &self.0.volume.root;
        fs::rename(root.join(DATA_TMP), root.join(DATA)).unwrap();
        Swapped(self.0)
    }
}

/// A generation in force, with the one before still lying about, and new names not linked yet.
#[derive(Debug)]
#[must_use = "new files are not visible before the links are made"]
pub struct Swapped<'a>(Publication<'a>);

impl Swapped<'_> {
    /// The last step: links new names, removes links of names that are gone, and removes the
    /// generation before.
    pub fn clean_up(self) {
        let Publication { volume, links, gone, old } = self.0;
        volume.link(&links.into_iter().map(|path| (path, ())).collect());
        for path in gone.iter().filter(|path| path.iter().count() == 1) {
            fs::remove_file(volume.root.join(path)).unwrap();
        }
        if let Some(old) = old {
            fs::remove_dir_all(old).unwrap();
        }
    }
}

/// What the steps of one publication hand on.
#[derive(Debug)]
struct Publication<'a> {
    volume: &'a SecretVolume,
    links: BTreeSet<PathBuf>,
    gone: BTreeSet<PathBuf>,
    old: Option<PathBuf>,
}

/// A path that stays within the volume and does not begin with `..`, which kubelet reserves.
fn inside(path: &str) -> PathBuf {
    let clean: PathBuf = Path::new(path).components().collect();
    let refused = path.is_empty()
        || path.starts_with("..")
        || clean.is_absolute()
        || clean.iter().any(|part| part == "..");
    assert!(!refused, "kubelet writes no file at {path:?}");
    clean
}

/// The paths below `old` that are neither in `files` nor a directory above one of them.
fn gone(old: &Path, files: &BTreeMap<PathBuf, &[u8]>) -> BTreeSet<PathBuf> {
    let kept: BTreeSet<&Path> = files.keys().flat_map(|path| path.ancestors()).collect();
    let mut gone = below(old);
    gone.retain(|path| !kept.contains(path.as_path()));
    gone
}

/// All files and directories below `top`, by their path from there.
fn below(top: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![top.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            found.insert(path.strip_prefix(top).unwrap().to_path_buf());
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    found
}

fn holds(path: &Path, content: &[u8]) -> bool {
    fs::read(path).is_ok_and(|found| found == content)
}

/// A name such as `..2026_11_22_05_11_20.123456789`: the time in UTC, and a random number.
fn timestamp() -> String {
    let now = OffsetDateTime::now_utc();
    let (year, month, day) = (now.year(), u8::from(now.month()), now.day());
    let (hour, minute, second) = now.to_hms();
    let random = Uuid::new_v4().as_fields().0;
    format!("..{year}_{month:02}_{day:02}_{hour:02}_{minute:02}_{second:02}.{random}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &[(&str, &[u8])] = &[("tls.crt", b"old chain"), ("tls.key", b"old key")];
    const NEW: &[(&str, &[u8])] = &[("tls.crt", b"new chain"), ("tls.key", b"new key")];

    fn volume() -> (tempfile::TempDir, SecretVolume) {
        let home = tempfile::tempdir().unwrap();
        let volume = SecretVolume::mount(home.path().join("secret"));
        (home, volume)
    }

    /// The volume's top level, links with their targets; generations by their number.
    fn listing(volume: &SecretVolume, generations: &[&Path]) -> Vec<String> {
        let mut lines: Vec<String> = fs::read_dir(volume.root())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
            .map(|(name, path)| match fs::read_link(path) {
                Ok(target) => format!("{name} -> {}", target.display()),
                Err(_) => name,
            })
            .map(|line| numbered(line, generations))
            .collect();
        lines.sort();
        lines
    }

    fn numbered(line: String, generations: &[&Path]) -> String {
        generations.iter().enumerate().fold(line, |line, (number, directory)| {
            line.replace(directory.file_name().unwrap().to_str().unwrap(), &format!("G{number}"))
        })
    }

    fn read(volume: &SecretVolume, name: &str) -> Vec<u8> {
        fs::read(volume.root().join(name)).unwrap()
    }

    #[test]
    fn a_first_generation_is_read_through_two_links() {
        let (_home, volume) = volume();
        assert!(volume.publish(OLD));
        let generation = volume.generation().unwrap();
        assert_eq!(
            listing(&volume, &[&generation]),
            ["..data -> G0", "G0", "tls.crt -> ..data/tls.crt", "tls.key -> ..data/tls.key"]
        );
        assert_eq!(read(&volume, "tls.crt"), b"old chain");
    }

    #[test]
    fn a_generation_is_named_by_its_time() {
        let (_home, volume) = volume();
        volume.publish(OLD);
        let generation = volume.generation().unwrap();
        let name = generation.file_name().unwrap().to_str().unwrap();
        let (time, random) = name.strip_prefix("..").unwrap().split_once('.').unwrap();
        assert_eq!(time.len(), "2026_11_22_05_11_20".len(), "{name}");
        assert!(time.split('_').all(|part| part.parse::<u32>().is_ok()), "{name}");
        assert!(random.parse::<u32>().is_ok(), "{name}");
    }

    #[test]
    fn what_is_prepared_is_not_seen() {
        let (_home, volume) = volume();
        volume.publish(OLD);
        let old = volume.generation().unwrap();
        let prepared = volume.prepare(NEW).unwrap();
        let new = volume.root().join(fs::read_link(volume.root().join(DATA_TMP)).unwrap());
        assert_eq!(
            listing(&volume, &[&old, &new]),
            [
                "..data -> G0",
                "..data_tmp -> G1",
                "G0",
                "G1",
                "tls.crt -> ..data/tls.crt",
                "tls.key -> ..data/tls.key"
            ]
        );
        assert_eq!(read(&volume, "tls.crt"), b"old chain");
        prepared.swap().clean_up();
    }

    #[test]
    fn a_swap_changes_all_files_at_once_and_leaves_the_old_ones_lying() {
        let (_home, volume) = volume();
        volume.publish(OLD);
        let old = volume.generation().unwrap();
        let swapped = volume.prepare(NEW).unwrap().swap();
        let new = volume.generation().unwrap();
        assert_eq!(
            listing(&volume, &[&old, &new]),
            ["..data -> G1", "G0", "G1", "tls.crt -> ..data/tls.crt", "tls.key -> ..data/tls.key"]
        );
        assert_eq!(read(&volume, "tls.crt"), b"new chain");
        assert_eq!(fs::read(old.join("tls.crt")).unwrap(), b"old chain");
        swapped.clean_up();
        assert!(!old.exists());
    }

    #[test]
    fn a_new_name_is_visible_only_after_the_clean_up() {
        let (_home, volume) = volume();
        volume.publish(OLD);
        let more: Vec<_> = OLD.iter().copied().chain([("ca.crt", &b"ca"[..])]).collect();
        let swapped = volume.prepare(&more).unwrap().swap();
        assert!(!volume.root().join("ca.crt").exists());
        swapped.clean_up();
        assert_eq!(read(&volume, "ca.crt"), b"ca");
    }

    #[test]
    fn a_name_that_is_gone_loses_its_link() {
        let (_home, volume) = volume();
        volume.publish(OLD);
        assert!(volume.publish(&OLD[..1]));
        let generation = volume.generation().unwrap();
        assert_eq!(
            listing(&volume, &[&generation]),
            ["..data -> G0", "G0", "tls.crt -> ..data/tls.crt"]
        );
    }

    #[test]
    fn the_same_files_make_no_new_generation() {
        let (_home, volume) = volume();
        volume.publish(OLD);
        let before = volume.generation();
        assert!(!volume.publish(OLD));
        assert_eq!(volume.generation(), before);
    }

    #[test]
    fn a_lost_link_comes_back_without_a_new_generation() {
        let (_home, volume) = volume();
        volume.publish(OLD);
        fs::remove_file(volume.root().join("tls.crt")).unwrap();
        assert!(!volume.publish(OLD));
        assert_eq!(read(&volume, "tls.crt"), b"old chain");
    }

    #[test]
    fn a_directory_is_linked_once_and_goes_with_its_last_file() {
        let (_home, volume) = volume();
        let two: &[(&str, &[u8])] = &[("web/tls.crt", b"1"), ("web/tls.key", b"2"), ("api", b"3")];
        volume.publish(two);
        let generation = volume.generation().unwrap();
        assert_eq!(
            listing(&volume, &[&generation]),
            ["..data -> G0", "G0", "api -> ..data/api", "web -> ..data/web"]
        );
        volume.publish(&[two[0], two[2]]);
        assert_eq!(read(&volume, "web/tls.crt"), b"1");
        assert!(!volume.root().join("web/tls.key").exists());
        volume.publish(&two[2..]);
        assert!(fs::symlink_metadata(volume.root().join("web")).is_err());
    }

    #[test]
    fn modes_are_as_set_whatever_the_umask() {
        let (_home, mut volume) = volume();
        volume.publish(OLD);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&volume.root().join("tls.key")), 0o644);
        assert_eq!(mode(&volume.generation().unwrap()), 0o755);
        volume.set_mode(0o440);
        assert!(!volume.publish(OLD), "a mode alone is no change");
        volume.publish(NEW);
        assert_eq!(mode(&volume.root().join("tls.key")), 0o440);
    }

    #[test]
    fn an_unmounted_volume_comes_back_empty() {
        let (_home, volume) = volume();
        volume.publish(OLD);
        volume.unmount();
        assert!(!volume.root().exists());
        volume.remount();
        assert_eq!(volume.generation(), None);
        assert!(volume.publish(OLD));
    }

    #[test]
    #[should_panic(expected = "kubelet writes no file at \"..data/x\"")]
    fn names_that_kubelet_reserves_are_refused() {
        let (_home, volume) = volume();
        volume.publish(&[("..data/x", b"")]);
    }
}
