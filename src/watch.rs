//! Kernel file events, boiled down to "look again here"; the only file that knows notify.
//!
//! Measured on Linux: a swap by kubelet raises about seven events in the directory and none names
//! `tls.crt`, so events are not filtered by name; our own reads raise `Access(Open)`, so those are
//! dropped or every look would cause the next.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use notify::event::{AccessKind, AccessMode};
use notify::{ErrorKind, Event, EventKind, NullWatcher, RecursiveMode};
use rustix::io::Errno;
use tokio::sync::mpsc;

use crate::log::tell;
use crate::packed::pack;
use crate::quote::Quoted;

/// Wake-ups that wait to be taken; more of them become one that says "everywhere".
const BACKLOG: usize = 1024;

/// Something may have changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// At this path, or in the directory that it is.
    At(PathBuf),
    /// What was at this path is gone: a watch on it is deaf, even if something new is there, which
    /// may bear the same inode number.
    Gone(PathBuf),
    /// Anywhere: events were lost.
    Everywhere,
}

/// The end that events go into.
#[derive(Clone, Debug)]
pub struct Waker {
    sender: mpsc::Sender<Wake>,
    overflowed: Arc<AtomicBool>,
}

impl Waker {
    /// Says "look again"; never blocks, and never loses that something happened.
    pub fn wake(&self, wake: Wake) {
        if matches!(self.sender.try_send(wake), Err(mpsc::error::TrySendError::Full(_))) {
            self.overflowed.store(true, Ordering::Release);
        }
    }
}

/// The end that wake-ups are taken from.
#[derive(Debug)]
pub struct Wakes {
    receiver: mpsc::Receiver<Wake>,
    overflowed: Arc<AtomicBool>,
}

impl Wakes {
    /// The two ends.
    #[must_use]
    pub fn channel() -> (Waker, Self) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let overflowed = Arc::new(AtomicBool::new(false));
        (Waker { sender, overflowed: Arc::clone(&overflowed) }, Self { receiver, overflowed })
    }

    /// Waits for a wake-up. `None` once nobody can send any more. May be dropped and called again.
    pub async fn next(&mut self) -> Option<Wake> {
        let wake = self.receiver.recv().await?;
        Some(self.or_everywhere(wake))
    }

    /// The wake-ups that are there already.
    pub fn now(&mut self) -> Vec<Wake> {
        let mut taken = Vec::new();
        for _ in 0..self.receiver.len() {
            let Ok(wake) = self.receiver.try_recv() else { break };
            taken.push(self.or_everywhere(wake));
        }
        taken
    }

    fn or_everywhere(&self, wake: Wake) -> Wake {
        if self.overflowed.swap(false, Ordering::AcqRel) { Wake::Everywhere } else { wake }
    }
}

/// Makes the kernel's watcher. The sidecar passes [`kernel`], a test one that fails.
pub type Make = Box<dyn FnMut(Waker) -> notify::Result<Box<dyn notify::Watcher + Send>> + Send>;

/// A [`Make`] for inotify.
#[must_use]
pub fn kernel() -> Make {
    Box::new(|waker| {
        let watcher = notify::recommended_watcher(move |event| forward(&waker, event))?;
        Ok(Box::new(watcher))
    })
}

/// A [`Make`] for who looks once: nothing is ever heard.
#[must_use]
pub fn deaf() -> Make {
    Box::new(|_| Ok(Box::new(NullWatcher)))
}

fn forward(waker: &Waker, event: notify::Result<Event>) {
    match event {
        Ok(event) if event.need_rescan() => {
            tell!(EVENTS_LOST);
            waker.wake(Wake::Everywhere);
        }
        Ok(event) if is_own_read(event.kind) => {}
        Ok(Event { kind: EventKind::Remove(_), paths, .. }) => {
            paths.into_iter().for_each(|path| waker.wake(Wake::Gone(path)));
        }
        Ok(event) => event.paths.into_iter().for_each(|path| waker.wake(Wake::At(path))),
        Err(_) => waker.wake(Wake::Everywhere),
    }
}

const fn is_own_read(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access)
        if !matches!(access, AccessKind::Close(AccessMode::Write)))
}

/// Keeps kernel watches where they are wanted, whatever appears, vanishes or comes back.
pub struct Watch {
    make: Make,
    waker: Waker,
    watcher: Option<Box<dyn notify::Watcher + Send>>,
    /// What is watched, and which file or directory it was then.
    watched: BTreeMap<Arc<Path>, Inode>,
    /// Each wanted path, and the path that is watched for it: itself or its nearest parent.
    points: BTreeMap<Arc<Path>, Arc<Path>>,
    /// The other way round, those that are not watched themselves.
    detours: BTreeMap<Arc<Path>, Vec<Arc<Path>>>,
    polling: Option<String>,
}

type Inode = (u64, u64);

impl Watch {
    /// Events go to `waker`; nothing is watched yet.
    #[must_use]
    pub fn new(make: Make, waker: Waker) -> Self {
        Self {
            make,
            waker,
            watcher: None,
            watched: BTreeMap::new(),
            points: BTreeMap::new(),
            detours: BTreeMap::new(),
            polling: None,
        }
    }

    /// Brings the watches in line with `wanted`: for what does not exist, its nearest parent that
    /// does. Returns the wanted paths that were not watched before this call, or not as the same
    /// file: what happened there until now raised no event.
    ///
    /// Where the kernel gives no watch, [`Self::polling`] says why; the next call tries again.
    pub fn follow(&mut self, wanted: &BTreeSet<Arc<Path>>) -> BTreeSet<Arc<Path>> {
        if self.watcher.is_none() {
            match (self.make)(self.waker.clone()) {
                Ok(watcher) => self.watcher = Some(watcher),
                Err(error) => {
                    self.polling = Some(with_mend(&error));
                    return BTreeSet::new();
                }
            }
        }
        self.polling = None;
        let mut targets = BTreeMap::new();
        self.points = wanted
            .iter()
            .filter_map(|path| {
                let (existing, inode) = nearest(path)?;
                // One inode has one watch, under the first of its names.
                let name = targets.entry(inode).or_insert_with(|| shared(existing, path));
                Some((Arc::clone(path), Arc::clone(name)))
            })
            .collect();
        self.detours.clear();
        for (path, at) in self.points.iter().filter(|(path, at)| path != at) {
            self.detours.entry(Arc::clone(at)).or_default().push(Arc::clone(path));
        }
        let targets: BTreeMap<_, _> =
            targets.into_iter().map(|(inode, path)| (path, inode)).collect();
        let fresh = self.replace(targets);
        self.points
            .iter()
            .filter(|(_, at)| fresh.contains(*at))
            .map(|(path, _)| Arc::clone(path))
            .collect()
    }

    /// Returns the paths that are watched newly.
    fn replace(&mut self, targets: BTreeMap<Arc<Path>, Inode>) -> BTreeSet<Arc<Path>> {
        let Some(watcher) = self.watcher.as_mut() else { return BTreeSet::new() };
        let before = self.watched.len();
        self.watched.retain(|path, inode| {
            let stays = targets.get(path) == Some(inode);
            if !stays {
                // It fails where the kernel dropped the watch already, with the directory.
                let _ = watcher.unwatch(path);
            }
            stays
        });
        let mut fresh = BTreeSet::new();
        for (path, inode) in targets {
            if self.watched.contains_key(&path) {
                continue;
            }
            match watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    fresh.insert(Arc::clone(&path));
                    self.watched.insert(path, inode);
                }
                Err(error) if matches!(error.kind, ErrorKind::PathNotFound) => {}
                // A file that may not be read is told when it is read; its directory is watched.
                Err(error) if is_denied(&error) && !path.is_dir() => {}
                Err(error) => self.polling = Some(with_mend(&error)),
            }
        }
        if self.watched.len() > before {
            pack(&mut self.watched);
        }
        fresh
    }

    /// Watches `path` anew at the next [`Self::follow`]: what was there is gone. Returns whether it
    /// was watched.
    pub fn forget(&mut self, path: &Path) -> bool {
        let was_watched = self.watched.remove(path).is_some();
        if was_watched && let Some(watcher) = &mut self.watcher {
            // It fails where the kernel dropped the watch already.
            let _ = watcher.unwatch(path);
        }
        was_watched
    }

    /// The wanted paths that an event at `path` may concern.
    pub fn concerned<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a Arc<Path>> {
        let watched = [Some(path), path.parent()].into_iter().flatten();
        watched.flat_map(|at| {
            let itself = self.points.get(at).filter(|point| ***point == *at);
            itself.into_iter().chain(self.detours.get(at).into_iter().flatten())
        })
    }

    /// Whether what is watched for `wanted` is still what should be.
    #[must_use]
    pub fn is_current(&self, wanted: &Path) -> bool {
        let Some((_, inode)) = nearest(wanted) else { return false };
        let at = self.points.get(wanted);
        at.and_then(|at| self.watched.get(at)) == Some(&inode)
    }

    /// Why changes are found by polling alone, if they are, and the mend.
    #[must_use]
    pub fn polling(&self) -> Option<&str> {
        self.polling.as_deref()
    }
}

fn is_denied(error: &notify::Error) -> bool {
    matches!(&error.kind, ErrorKind::Io(io) if io.kind() == io::ErrorKind::PermissionDenied)
}

/// Why there is no watch, and what to do. Which limit it is tells the system call: `inotify_init` or
/// `inotify_add_watch`.
fn with_mend(error: &notify::Error) -> String {
    let mend = match &error.kind {
        ErrorKind::MaxFilesWatch => "raise fs.inotify.max_user_watches on the node",
        ErrorKind::Io(io) if io.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
            "raise fs.inotify.max_user_instances on the node, or the container's limit of open files"
        }
        _ if is_denied(error) => "let the sidecar's user read that directory",
        _ => "mend that, or lower POLL_INTERVAL",
    };
    format!("{}; {mend}", Quoted::new(&error.to_string()))
}

/// The path itself or its nearest parent that exists, and which file that is.
fn nearest(path: &Path) -> Option<(&Path, Inode)> {
    path.ancestors().find_map(|path| {
        let metadata = fs::metadata(path).ok()?;
        Some((path, (metadata.dev(), metadata.ino())))
    })
}

/// `path` itself, if it is the one that exists.
fn shared(existing: &Path, path: &Arc<Path>) -> Arc<Path> {
    if *existing == **path { Arc::clone(path) } else { existing.into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may panic")]

    use std::time::Duration;

    use testkit::SecretVolume;
    use tokio::time::timeout;

    use super::*;

    struct Watched {
        watch: Watch,
        wakes: Wakes,
    }

    impl Watched {
        fn new() -> Self {
            let (waker, wakes) = Wakes::channel();
            Self { watch: Watch::new(kernel(), waker), wakes }
        }

        fn follow(&mut self, paths: &[&Path]) -> BTreeSet<Arc<Path>> {
            self.watch.follow(&paths.iter().map(|path| Arc::from(*path)).collect())
        }

        /// Waits until an event concerns `wanted`.
        async fn hears(&mut self, wanted: &Path) {
            let heard = async {
                loop {
                    let Some(Wake::At(path) | Wake::Gone(path)) = self.wakes.next().await else {
                        panic!("no event")
                    };
                    if self.watch.concerned(&path).any(|path| **path == *wanted) {
                        return;
                    }
                }
            };
            timeout(Duration::from_secs(10), heard).await.expect("an event within 10 s");
        }

        /// Whether anything is heard until `marker` is made, which is heard for sure.
        async fn is_quiet_until(&mut self, marker: &Path) -> bool {
            fs::write(marker, "").unwrap();
            let mut quiet = true;
            loop {
                match timeout(Duration::from_secs(10), self.wakes.next()).await.unwrap() {
                    Some(Wake::At(path)) if path == marker => return quiet,
                    other => quiet = other.is_none(),
                }
            }
        }
    }

    #[tokio::test]
    async fn a_swap_wakes_its_volume_and_no_other() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut watched = Watched::new();
        watched.follow(&[a.path(), b.path()]);
        SecretVolume::mount(a.path()).publish(&[("tls.crt", b"x")]);
        watched.hears(a.path()).await;
        for wake in watched.wakes.now() {
            let (Wake::At(path) | Wake::Gone(path)) = wake else { panic!("events were lost") };
            assert!(watched.watch.concerned(&path).all(|path| **path == *a.path()));
        }
    }

    #[tokio::test]
    async fn reading_wakes_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tls.crt");
        fs::write(&file, "x").unwrap();
        let mut watched = Watched::new();
        watched.follow(&[directory.path(), &file]);
        assert_eq!(fs::read(&file).unwrap(), b"x");
        assert!(watched.is_quiet_until(&directory.path().join("marker")).await);
    }

    #[tokio::test]
    async fn a_directory_that_appears_vanishes_and_comes_back_is_followed() {
        let root = tempfile::tempdir().unwrap();
        let wanted = root.path().join("web");
        let mut watched = Watched::new();
        assert_eq!(watched.follow(&[&wanted]).len(), 1);
        for _ in 0..2 {
            fs::create_dir(&wanted).unwrap();
            watched.hears(&wanted).await;
            assert_eq!(watched.follow(&[&wanted]), BTreeSet::from([wanted.as_path().into()]));
            fs::write(wanted.join("tls.crt"), "x").unwrap();
            watched.hears(&wanted).await;
            fs::remove_dir_all(&wanted).unwrap();
            watched.hears(&wanted).await;
            watched.follow(&[&wanted]);
        }
    }

    #[tokio::test]
    async fn a_directory_that_was_replaced_is_watched_anew() {
        let root = tempfile::tempdir().unwrap();
        let (wanted, aside) = (root.path().join("web"), root.path().join("aside"));
        fs::create_dir(&wanted).unwrap();
        let mut watched = Watched::new();
        watched.follow(&[&wanted]);
        fs::rename(&wanted, &aside).unwrap();
        fs::create_dir(&wanted).unwrap();
        assert_eq!(watched.follow(&[&wanted]), BTreeSet::from([wanted.as_path().into()]));
        watched.wakes.now();
        fs::write(wanted.join("tls.crt"), "x").unwrap();
        watched.hears(&wanted).await;
        assert_eq!(watched.follow(&[&wanted]), BTreeSet::new());
    }

    #[tokio::test]
    async fn a_directory_made_again_at_once_is_watched_even_if_it_bears_the_same_number() {
        let root = tempfile::tempdir().unwrap();
        let wanted = root.path().join("web");
        fs::create_dir(&wanted).unwrap();
        let mut watched = Watched::new();
        watched.follow(&[&wanted]);
        for _ in 0..5 {
            fs::remove_dir_all(&wanted).unwrap();
            fs::create_dir(&wanted).unwrap();
            loop {
                let wake = timeout(Duration::from_secs(10), watched.wakes.next()).await.unwrap();
                if let Some(Wake::Gone(path)) = wake
                    && watched.watch.forget(&path)
                {
                    break;
                }
            }
            assert_eq!(watched.follow(&[&wanted]), BTreeSet::from([wanted.as_path().into()]));
            watched.wakes.now();
            fs::write(wanted.join("tls.crt"), "x").unwrap();
            watched.hears(&wanted).await;
        }
    }

    #[tokio::test]
    async fn a_file_written_in_place_is_heard() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tls.crt");
        fs::write(&file, "x").unwrap();
        let mut watched = Watched::new();
        watched.follow(&[&file]);
        fs::write(&file, "y").unwrap();
        watched.hears(&file).await;
    }

    #[test]
    fn a_backlog_that_overflows_says_everywhere() {
        let (waker, mut wakes) = Wakes::channel();
        for _ in 0..=BACKLOG {
            waker.wake(Wake::At("/a".into()));
        }
        let taken = wakes.now();
        assert_eq!(taken[..2], [Wake::Everywhere, Wake::At("/a".into())]);
        assert_eq!(taken.len(), BACKLOG);
    }

    #[test]
    fn lost_events_say_everywhere() {
        let (waker, mut wakes) = Wakes::channel();
        let event = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        forward(&waker, Ok(event));
        assert_eq!(wakes.now(), [Wake::Everywhere]);
        forward(&waker, Err(notify::Error::generic("lost")));
        assert_eq!(wakes.now(), [Wake::Everywhere]);
    }

    type Fail = fn() -> notify::Error;

    fn system_error(errno: Errno) -> notify::Error {
        notify::Error::io(errno.into())
    }

    #[test]
    fn without_a_watcher_it_polls_tells_the_mend_and_tries_again() {
        let cases: [(Fail, &str); 3] = [
            (|| system_error(Errno::MFILE), "raise fs.inotify.max_user_instances"),
            (|| system_error(Errno::NOSYS), "lower POLL_INTERVAL"),
            (|| notify::Error::generic("\u{1b}[31m"), "\\u{1b}[31m; mend"),
        ];
        for (error, mend) in cases {
            let directory = tempfile::tempdir().unwrap();
            let wanted = BTreeSet::from([directory.path().into()]);
            let mut failures = 2;
            let make: Make = Box::new(move |waker| {
                if failures > 0 {
                    failures -= 1;
                    return Err(error());
                }
                kernel()(waker)
            });
            let mut watch = Watch::new(make, Wakes::channel().0);
            for _ in 0..2 {
                assert_eq!(watch.follow(&wanted), BTreeSet::new());
                let polling = watch.polling().unwrap();
                assert!(polling.contains(mend), "{polling}");
            }
            assert_eq!(watch.follow(&wanted), wanted);
            assert_eq!(watch.polling(), None);
        }
    }

    /// Gives no watch so often.
    struct Short(u32, Fail);

    impl notify::Watcher for Short {
        fn new<F: notify::EventHandler>(_: F, _: notify::Config) -> notify::Result<Self> {
            Err(notify::Error::generic("it is made by hand"))
        }

        fn watch(&mut self, path: &Path, _: RecursiveMode) -> notify::Result<()> {
            if self.0 == 0 {
                return Ok(());
            }
            self.0 -= 1;
            Err((self.1)().add_path(path.to_path_buf()))
        }

        fn unwatch(&mut self, _: &Path) -> notify::Result<()> {
            Ok(())
        }

        fn kind() -> notify::WatcherKind {
            notify::WatcherKind::NullWatcher
        }
    }

    #[test]
    fn where_the_kernel_gives_no_watch_it_polls_tells_the_mend_and_tries_again() {
        let cases: [(Fail, &str); 2] = [
            (|| notify::Error::new(ErrorKind::MaxFilesWatch), "raise fs.inotify.max_user_watches"),
            (|| system_error(Errno::ACCESS), "let the sidecar's user read"),
        ];
        for (error, mend) in cases {
            let directory = tempfile::tempdir().unwrap();
            let wanted = BTreeSet::from([directory.path().into()]);
            let make: Make = Box::new(move |_| Ok(Box::new(Short(1, error))));
            let mut watch = Watch::new(make, Wakes::channel().0);
            assert_eq!(watch.follow(&wanted), BTreeSet::new());
            let polling = watch.polling().unwrap();
            let path = directory.path().to_str().unwrap();
            assert!(polling.contains(mend) && polling.contains(path), "{polling}");
            assert_eq!(watch.follow(&wanted), wanted);
            assert_eq!(watch.polling(), None);
        }
    }
}
