//! Mounted files, read as one generation.
//!
//! kubelet publishes a Secret by writing a new directory and swapping the symlink `..data` onto it
//! ([AtomicWriter]). Whoever reads `tls.crt` and `tls.key` by their visible names can get one file
//! of each generation. So the link is resolved once, both files are read beneath its target, and the
//! link is looked at again at the end.
//!
//! [AtomicWriter]: https://pkg.go.dev/k8s.io/kubernetes/pkg/volume/util#AtomicWriter

mod diagnose;
mod files;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use thiserror::Error;
use zeroize::Zeroizing;

pub use self::diagnose::{FrozenMount, Mounts};
use self::files::Opened;
pub use self::files::{Files, Mounted};

/// The link that kubelet swaps.
const DATA: &str = "..data";
/// A larger file is no certificate, no key and no list of CAs.
pub const LARGEST_FILE: u64 = 1024 * 1024;
/// So often is a generation read again when it changed under our hands.
const READS: usize = 5;

/// Files that belong together, and the directories above them that may be a volume. There may be
/// thousands of them, and what they have in common is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    names: Arc<[PathBuf]>,
    directory: Option<Arc<Path>>,
    above: Option<Arc<Path>>,
    limit: u64,
}

impl Source {
    /// `names` are absolute, unless they are said to be [beneath](Self::beneath) a directory.
    ///
    /// Of a file's own directory, the one that it is beneath, and the one that it is
    /// [within](Self::within), the nearest that holds `..data` is its volume's root.
    #[must_use]
    pub fn new(names: impl Into<Arc<[PathBuf]>>) -> Self {
        Self { names: names.into(), directory: None, above: None, limit: LARGEST_FILE }
    }

    /// The names are beneath `directory`, but for those that are absolute.
    #[must_use]
    pub fn beneath(mut self, directory: impl Into<Arc<Path>>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// The files may be of a volume that is mounted at `above`.
    #[must_use]
    pub fn within(mut self, above: impl Into<Arc<Path>>) -> Self {
        self.above = Some(above.into());
        self
    }

    /// Takes files of up to `limit` bytes, in place of [`LARGEST_FILE`].
    #[must_use]
    pub fn up_to(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    /// Reads all files of one generation.
    ///
    /// Never blocks on what is no regular file, and never returns files of two generations.
    ///
    /// # Errors
    ///
    /// Says which file cannot be read and why; [`Unreadable::Changing`] if it changed at each of
    /// several reads.
    pub fn read(&self, files: &dyn Files) -> Result<Generation, Unreadable> {
        self.read_as(self.identity(files), files)
    }

    /// The same where the identity was `seen` just before.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn read_as(&self, seen: Identity, files: &dyn Files) -> Result<Generation, Unreadable> {
        let mut before = seen;
        let changing = || Unreadable::Changing { path: self.file(0) };
        let mut result = Err(changing());
        for _ in 0..READS {
            result = self.read_once(files);
            let after = self.identity(files);
            if before == after {
                return result.map(|files| Generation { identity: after, files });
            }
            before = after;
        }
        match result {
            Err(error) => Err(error),
            Ok(_) => Err(changing()),
        }
    }

    fn read_once(&self, files: &dyn Files) -> Result<Vec<Content>, Unreadable> {
        let mut resolved: Option<Resolved> = None;
        let mut read = |path: &Path, root: Option<Root>| {
            let Some(root) = root else { return read_regular(path, path, self.limit, files) };
            let volume = match resolved.take().filter(|volume| volume.root == root) {
                Some(volume) => volume,
                None => Resolved::of(root, files).map_err(|error| Unreadable::of(path, error))?,
            };
            let bytes = volume.read(path, self.limit, files)?;
            resolved = Some(volume);
            Ok(bytes)
        };
        self.with_roots(files)
            .map(|(path, root)| Ok(Content { bytes: read(&path, root?)?, path }))
            .collect()
    }

    /// A cheap look: equal values mean that nothing was swapped or written in between.
    #[must_use]
    pub fn identity(&self, files: &dyn Files) -> Identity {
        let mut stamps = DefaultHasher::new();
        let mut modified = None;
        for (path, root) in self.with_roots(files) {
            let target = root.ok().flatten().map(|root| root.target);
            let stat = files.metadata(&path).ok().as_ref().map(Stat::from);
            modified = modified.max(stat.as_ref().and_then(Stat::last_change));
            (target, stat).hash(&mut stamps);
        }
        Identity { stamps: stamps.finish(), modified }
    }

    /// See [`Place::is_swapped`].
    #[must_use]
    pub fn is_swapped(&self, files: &dyn Files) -> bool {
        self.place(files).is_swapped
    }

    /// Where the files lie now, for who waits for a change of them.
    #[must_use]
    pub fn place(&self, files: &dyn Files) -> Place {
        let mut place = Place { is_swapped: true, watch_points: BTreeSet::new() };
        for (path, root) in self.with_roots(files) {
            if let Ok(Some(root)) = root {
                place.watch_points.insert(self.shared(&root.path));
            } else {
                place.is_swapped = false;
                place.watch_points.extend(path.parent().map(|parent| self.shared(parent)));
                place.watch_points.insert(path.into());
            }
        }
        place
    }

    /// The paths of the files, as they were named.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        (0..self.names.len()).map(|number| self.file(number))
    }

    /// The path of one of them.
    fn file(&self, number: usize) -> PathBuf {
        let name = &self.names[number];
        self.directory.as_ref().map_or_else(|| name.clone(), |directory| directory.join(name))
    }

    /// A directory as it is in memory already, if it is.
    fn shared(&self, directory: &Path) -> Arc<Path> {
        let mut known = [&self.directory, &self.above].into_iter().flatten();
        known.find(|known| ***known == *directory).map_or_else(|| directory.into(), Arc::clone)
    }

    /// Each file with its root; files of one directory have one, looked at once.
    fn with_roots<'a>(
        &'a self,
        files: &'a dyn Files,
    ) -> impl Iterator<Item = (PathBuf, Result<Option<Root>, Unreadable>)> {
        let mut last: Option<(Option<PathBuf>, Option<Root>)> = None;
        self.files().map(move |file| {
            let directory = file.parent();
            let beside = last.take().filter(|(last, _)| last.as_deref() == directory);
            let root = beside.map_or_else(|| self.root_of(&file, files), |(_, root)| Ok(root));
            last = root.as_ref().ok().map(|root| (directory.map(Path::to_path_buf), root.clone()));
            (file, root)
        })
    }

    fn root_of(&self, file: &Path, files: &dyn Files) -> Result<Option<Root>, Unreadable> {
        let above = [&self.directory, &self.above].into_iter().flatten().map(AsRef::as_ref);
        let mut candidates: Vec<&Path> =
            file.parent().into_iter().chain(above).filter(|root| file.starts_with(root)).collect();
        candidates.sort_by_key(|root| std::cmp::Reverse(root.components().count()));
        for path in candidates {
            if let Some(target) = data_link(path, files)? {
                return Ok(Some(Root { path: path.to_path_buf(), target }));
            }
        }
        Ok(None)
    }
}

/// Where files lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Every file lies in a volume that is swapped as a whole, so that what is seen is already
    /// complete.
    pub is_swapped: bool,
    /// Where changes of the files can be noticed: the volume's root, or for files outside of a volume
    /// their directory and (for those that are mounted one by one) they themselves.
    pub watch_points: BTreeSet<Arc<Path>>,
}

/// One generation as it was read.
#[derive(Debug)]
pub struct Generation {
    identity: Identity,
    files: Vec<Content>,
}

impl Generation {
    /// What tells this generation from the next.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The content of the file that was named `path`; empty if no such file belongs to it.
    #[must_use]
    pub fn content(&self, path: &Path) -> &[u8] {
        self.files.iter().find(|file| file.path == path).map_or(&[], |file| &file.bytes)
    }
}

struct Content {
    path: PathBuf,
    bytes: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes)", self.path.display(), self.bytes.len())
    }
}

/// Link target and stat of each file, in one number: thousands of them are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    stamps: u64,
    /// When the last of the files was written or put there, if the file system tells.
    pub modified: Option<SystemTime>,
}

#[derive(Hash)]
struct Stat {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Stat {
    fn from(metadata: &Metadata) -> Self {
        Self {
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Stat {
    /// Copies may keep the time of the original; that of the change is the kernel's.
    fn last_change(&self) -> Option<SystemTime> {
        let time = |(seconds, nanoseconds)| {
            let seconds = u64::try_from(seconds).ok()?;
            Some(UNIX_EPOCH + Duration::new(seconds, u32::try_from(nanoseconds).ok()?))
        };
        [self.modified, self.changed].into_iter().filter_map(time).max()
    }
}

#[derive(Clone, PartialEq, Eq)]
struct Root {
    path: PathBuf,
    target: OsString,
}

/// The target of `..data` in `root`; `None` where there is no such link.
fn data_link(root: &Path, files: &dyn Files) -> Result<Option<OsString>, Unreadable> {
    let link = root.join(DATA);
    let target = match files.read_link(&link) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            return Err(Unreadable::OddDataLink { path: link });
        }
        Err(error) => return Err(Unreadable::of(&link, error)),
    };
    let mut components = target.components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(name)), None) if starts_with_dots(name) => {
            Ok(Some(name.to_owned()))
        }
        _ => Err(Unreadable::OddDataLink { path: link }),
    }
}

fn starts_with_dots(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"..")
}

/// A volume's root, and the generation that it points to.
struct Resolved {
    root: Root,
    generation: PathBuf,
    /// The generation is a directory beside the link, as kubelet makes it, and no link itself.
    is_directory: bool,
}

impl Resolved {
    fn of(root: Root, files: &dyn Files) -> io::Result<Self> {
        let generation = root.path.join(&root.target);
        let is_directory = files.link_metadata(&generation)?.is_dir();
        Ok(Self { root, generation, is_directory })
    }

    /// Reads the file that is named `path`, which must lie in the generation.
    fn read(
        &self,
        path: &Path,
        limit: u64,
        files: &dyn Files,
    ) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
        let named = path.strip_prefix(&self.root.path).unwrap_or(path);
        let real = self.generation.join(named);
        if self.is_directory && is_one_component(named) {
            // Nothing on the way can be a link but the file itself.
            let metadata =
                files.link_metadata(&real).map_err(|error| Unreadable::of(path, error))?;
            if !metadata.is_symlink() {
                demand_regular(path, &metadata, limit)?;
                return read_opened(path, &real, limit, files);
            }
        }
        let without_links =
            |named: &Path| files.canonicalize(named).map_err(|error| Unreadable::of(path, error));
        let (generation, real) = (without_links(&self.generation)?, without_links(&real)?);
        if !real.starts_with(generation) {
            return Err(Unreadable::LeavesVolume { path: path.to_path_buf() });
        }
        read_regular(path, &real, limit, files)
    }
}

fn is_one_component(path: &Path) -> bool {
    let mut components = path.components();
    matches!((components.next(), components.next()), (Some(Component::Normal(_)), None))
}

/// Reads `real`; errors name it `path`.
fn read_regular(
    path: &Path,
    real: &Path,
    limit: u64,
    files: &dyn Files,
) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
    let metadata = files.metadata(real).map_err(|error| Unreadable::of(path, error))?;
    demand_regular(path, &metadata, limit)?;
    read_opened(path, real, limit, files)
}

/// Reads `real`, which was a regular file just before.
fn read_opened(
    path: &Path,
    real: &Path,
    limit: u64,
    files: &dyn Files,
) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
    let file = files.open(real).map_err(|error| Unreadable::of(path, error))?;
    let metadata = files.metadata_of(&file).map_err(|error| Unreadable::of(path, error))?;
    demand_regular(path, &metadata, limit)?;
    // One allocation that never moves: a buffer that grows leaves copies of a key behind.
    let expected = usize::try_from(metadata.size().min(limit)).unwrap_or(0) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected));
    Opened { files, file }
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Unreadable::of(path, error))?;
    if bytes.len() as u64 > limit {
        return Err(Unreadable::TooLarge { path: path.to_path_buf(), limit });
    }
    Ok(bytes)
}

/// More than [`LARGEST_FILE`] is read of what is large by its nature, as far as memory allows.
const fn mend_of_size(limit: u64) -> &'static str {
    if limit > LARGEST_FILE {
        "raise this container's memory limit, by which more is read (up to 64 MiB), or write less into it"
    } else {
        "mount what belongs there alone"
    }
}

fn demand_regular(path: &Path, metadata: &Metadata, limit: u64) -> Result<(), Unreadable> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return if metadata.size() > limit {
            Err(Unreadable::TooLarge { path: path.to_path_buf(), limit })
        } else {
            Ok(())
        };
    }
    let found = if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(Unreadable::NotAFile { path: path.to_path_buf(), found })
}

/// Why a generation cannot be read; each names the path and the mend.
#[derive(Debug, Error)]
pub enum Unreadable {
    /// No such file or directory.
    #[error("{path} does not exist; mount the Secret there, or name the file that does", path = path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file's mode or owner keeps us out.
    #[error("{path} may not be read by uid {uid} ({mode}); set securityContext.fsGroup of the pod, so that kubelet lets its group read the files, or widen the volume's defaultMode", path = path.display())]
    Denied {
        /// The file.
        path: PathBuf,
        /// Who we are.
        uid: u32,
        /// Mode and owner of it, or of the directory above it that is closed.
        mode: String,
    },
    /// A directory, FIFO, socket or device.
    #[error("{path} is {found}, not a regular file; mount a file there", path = path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// Larger than such a file is.
    #[error("{path} is larger than {} MiB; {}", limit / (1024 * 1024), mend_of_size(*limit), path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// In bytes.
        limit: u64,
    },
    /// Symbolic links that lead in a circle.
    #[error("{path} is a loop of symbolic links; mount a file there", path = path.display())]
    LinkLoop {
        /// The file.
        path: PathBuf,
    },
    /// A link in a volume that leads out of its generation.
    #[error("{path} links to a file outside of its volume's generation; put the file into the volume itself", path = path.display())]
    LeavesVolume {
        /// The file.
        path: PathBuf,
    },
    /// `..data` is not what kubelet makes.
    #[error("{path} is not a link to one directory beside it whose name begins with `..`; mount a volume that kubelet writes, or remove it", path = path.display())]
    OddDataLink {
        /// The link.
        path: PathBuf,
    },
    /// It never stood still.
    #[error("{path} changes faster than it can be read; it is looked at again", path = path.display())]
    Changing {
        /// The first file.
        path: PathBuf,
    },
    /// Anything else the system says.
    #[error("{path} cannot be read; see the cause", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

impl Unreadable {
    fn of(path: &Path, error: io::Error) -> Self {
        let path = path.to_path_buf();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing { path },
            io::ErrorKind::PermissionDenied => Self::Denied {
                uid: rustix::process::geteuid().as_raw(),
                mode: mode_and_owner(&path),
                path,
            },
            _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                Self::LinkLoop { path }
            }
            _ => Self::Io { path, source: error },
        }
    }

    /// What it says, and the system's words where there are any.
    #[must_use]
    pub fn with_cause(&self) -> String {
        match self {
            Self::Io { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }

    /// The kind of trouble, for states and labels.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Missing { .. } => Reason::Missing,
            Self::Denied { .. } => Reason::Denied,
            Self::NotAFile { .. } => Reason::NotAFile,
            Self::TooLarge { .. } => Reason::TooLarge,
            Self::LinkLoop { .. } | Self::LeavesVolume { .. } | Self::OddDataLink { .. } => {
                Reason::Link
            }
            Self::Changing { .. } => Reason::Changing,
            Self::Io { .. } => Reason::Io,
        }
    }
}

/// Of `path`, or of the nearest directory above it of which they can be seen: that one is closed.
fn mode_and_owner(path: &Path) -> String {
    for seen in path.ancestors() {
        let Ok(metadata) = fs::metadata(seen) else { continue };
        let (mode, owner, group) = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
        let rights = format!("mode {mode:04o}, owner {owner}:{group}");
        return if seen == path { rights } else { format!("{} has {rights}", seen.display()) };
    }
    "its mode cannot be seen".to_owned()
}

/// Why a file is not readable, as a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is not there.
    Missing,
    /// Mode or owner.
    Denied,
    /// A directory, FIFO, socket or device.
    NotAFile,
    /// Larger than such a file is.
    TooLarge,
    /// A link that may not be followed.
    Link,
    /// It never stood still.
    Changing,
    /// Another error of the system.
    Io,
}

impl Reason {
    /// The word, as it stands in states and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Denied => "permission_denied",
            Self::NotAFile => "not_a_file",
            Self::TooLarge => "too_large",
            Self::Link => "bad_link",
            Self::Changing => "changing",
            Self::Io => "io_error",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, Mode};
    use tempfile::TempDir;
    use testkit::SecretVolume;

    use super::*;

    fn source(directory: &Path) -> Source {
        Source::new(["tls.crt", "tls.key"].map(PathBuf::from)).beneath(directory)
    }

    fn plain() -> (TempDir, Source) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("tls.crt"), "certificate").unwrap();
        fs::write(directory.path().join("tls.key"), "key").unwrap();
        let source = source(directory.path());
        (directory, source)
    }

    #[test]
    fn plain_files_are_read_by_their_names() {
        let (directory, source) = plain();
        let generation = source.read(&Mounted).unwrap();
        assert_eq!(generation.content(&directory.path().join("tls.crt")), b"certificate");
        assert_eq!(generation.content(&directory.path().join("tls.key")), b"key");
        assert!(!source.is_swapped(&Mounted));
    }

    #[test]
    fn a_generation_is_read_beneath_the_link_that_was_resolved() {
        let directory = tempfile::tempdir().unwrap();
        let volume = SecretVolume::mount(directory.path());
        volume.publish(&[("tls.crt", b"one"), ("tls.key", b"1")]);
        let source = source(directory.path());
        let first = source.read(&Mounted).unwrap();
        volume.publish(&[("tls.crt", b"two"), ("tls.key", b"2")]);
        let second = source.read(&Mounted).unwrap();
        assert_ne!(first.identity(), second.identity());
        assert_eq!(second.content(&directory.path().join("tls.crt")), b"two");
        assert_eq!(second.content(&directory.path().join("tls.key")), b"2");
        assert!(source.is_swapped(&Mounted));
        assert_eq!(source.place(&Mounted).watch_points, BTreeSet::from([directory.path().into()]));
    }

    #[test]
    fn one_data_link_may_stand_above_several_directories() {
        let directory = tempfile::tempdir().unwrap();
        let volume = SecretVolume::mount(directory.path());
        volume.publish(&[("web/tls.crt", b"c"), ("web/tls.key", b"k")]);
        let web = directory.path().join("web");
        let files = ["tls.crt", "tls.key"].map(PathBuf::from);
        let source = Source::new(files).beneath(web.as_path()).within(directory.path());
        assert_eq!(source.place(&Mounted).watch_points, BTreeSet::from([directory.path().into()]));
        assert_eq!(source.read(&Mounted).unwrap().content(&web.join("tls.key")), b"k");
    }

    #[test]
    fn a_visible_link_that_lags_behind_the_swap_does_not_mix_generations() {
        let directory = tempfile::tempdir().unwrap();
        let volume = SecretVolume::mount(directory.path());
        volume.publish(&[("tls.crt", b"one"), ("tls.key", b"1")]);
        fs::remove_file(directory.path().join("tls.key")).unwrap();
        fs::write(directory.path().join("tls.key"), "stray").unwrap();
        let generation = source(directory.path()).read(&Mounted).unwrap();
        assert_eq!(generation.content(&directory.path().join("tls.key")), b"1");
    }

    #[test]
    fn what_is_not_a_readable_file_is_told_and_never_blocks() {
        type Case = (&'static str, Reason, fn(&Path));
        let cases: [Case; 8] = [
            ("missing", Reason::Missing, |_| ()),
            ("a directory", Reason::NotAFile, |path| fs::create_dir(path).unwrap()),
            ("a FIFO", Reason::NotAFile, |path| {
                rustix::fs::mkfifoat(CWD, path, Mode::from_raw_mode(0o644)).unwrap();
            }),
            ("a socket", Reason::NotAFile, |path| drop(UnixListener::bind(path).unwrap())),
            ("a device", Reason::NotAFile, |path| symlink("/dev/zero", path).unwrap()),
            ("a loop", Reason::Link, |path| symlink(path, path).unwrap()),
            ("100 MB", Reason::TooLarge, |path| {
                fs::File::create(path).unwrap().set_len(100_000_000).unwrap();
            }),
            ("beneath a file", Reason::Missing, |path| {
                symlink("/etc/passwd/tls.crt", path).unwrap();
            }),
        ];
        for (case, reason, arrange) in cases {
            let (directory, source) = plain();
            let path = directory.path().join("tls.crt");
            fs::remove_file(&path).unwrap();
            arrange(&path);
            let error = source.read(&Mounted).expect_err(case);
            assert_eq!(error.reason(), reason, "{case}: {error}");
            assert!(error.to_string().contains("tls.crt"), "{case}: {error}");
            assert!(error.to_string().contains("; "), "{case} has no mend: {error}");
        }
    }

    #[test]
    fn a_file_of_exactly_the_largest_size_is_read() {
        let (directory, source) = plain();
        let path = directory.path().join("tls.crt");
        fs::File::create(&path).unwrap().set_len(LARGEST_FILE).unwrap();
        assert_eq!(source.read(&Mounted).unwrap().content(&path).len() as u64, LARGEST_FILE);
    }

    #[test]
    fn a_link_out_of_the_generation_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let volume = SecretVolume::mount(directory.path());
        volume.publish(&[("tls.crt", b"one"), ("tls.key", b"1")]);
        let inside = directory.path().join("..data").join("tls.key");
        fs::remove_file(&inside).unwrap();
        symlink("/etc/hostname", &inside).unwrap();
        let error = source(directory.path()).read(&Mounted).unwrap_err();
        assert!(matches!(error, Unreadable::LeavesVolume { .. }), "{error}");
    }

    #[test]
    fn a_data_link_that_kubelet_would_not_make_is_refused() {
        for target in ["/etc", "../elsewhere", "..a/b", "plain", "..", "."] {
            let directory = tempfile::tempdir().unwrap();
            symlink(target, directory.path().join(DATA)).unwrap();
            let error = source(directory.path()).read(&Mounted).unwrap_err();
            assert!(matches!(error, Unreadable::OddDataLink { .. }), "{target}: {error}");
        }
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join(DATA)).unwrap();
        let error = source(directory.path()).read(&Mounted).unwrap_err();
        assert!(matches!(error, Unreadable::OddDataLink { .. }), "{error}");
    }

    #[test]
    fn a_closed_file_is_told_with_mode_and_owner() {
        let (directory, source) = plain();
        let path = directory.path().join("tls.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        if rustix::process::geteuid().is_root() {
            // Root reads everything: the same text, made from the same error.
            let error = Unreadable::of(&path, Errno::ACCESS.into());
            assert!(error.to_string().contains("mode 0000, owner 0:0"), "{error}");
            assert_eq!(error.reason(), Reason::Denied);
        } else {
            assert_eq!(source.read(&Mounted).unwrap_err().reason(), Reason::Denied);
        }
    }

    #[test]
    fn a_swap_and_a_write_change_the_identity_and_a_read_does_not() {
        let (directory, source) = plain();
        let before = source.identity(&Mounted);
        source.read(&Mounted).unwrap();
        assert_eq!(before, source.identity(&Mounted));
        fs::write(directory.path().join("tls.key"), "longer key").unwrap();
        assert_ne!(before, source.identity(&Mounted));
    }

    #[test]
    fn debug_shows_no_content() {
        let (_directory, source) = plain();
        let shown = format!("{:?}", source.read(&Mounted).unwrap());
        assert!(!shown.contains("certificate"), "{shown}");
        assert!(shown.contains("(11 bytes)"), "{shown}");
    }
}
