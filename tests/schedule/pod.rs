//! Pods whose time is the test's: real files, a Kong in memory, and tokio's paused clock.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use kong_cert_reloader::bundle::LeafDigest;
use kong_cert_reloader::clock::{Clock, Timestamp};
use kong_cert_reloader::kong::{Kong, Wire};
use kong_cert_reloader::metrics::{Exposition, Metrics};
use kong_cert_reloader::nginx::{Nginx, Reload};
use kong_cert_reloader::page::{self, View};
use kong_cert_reloader::proof::Handshake;
use kong_cert_reloader::settings::Settings;
use kong_cert_reloader::sidecar::{self, Parts, clock_from};
use kong_cert_reloader::status::{BindingStatus, Shown, State, Status};
use kong_cert_reloader::volume::{Files, Mounted};
use kong_cert_reloader::watch::{self as events, Make, Wake, Waker, Wakes, Watch};
use tempfile::TempDir;
use testkit::{CertifiedPair, SecretVolume};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::kong::KongInProcess;

/// The wall-clock time at which every test begins.
pub(crate) const START: i64 = 1_800_000_000;
/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// A pod on a node: its volumes, and perhaps a sidecar that runs.
pub(crate) struct Pod {
    certs: TempDir,
    files: Arc<dyn Files>,
    watcher: fn() -> Make,
    /// How many seconds the wall clock is set ahead.
    ahead: Arc<AtomicI64>,
    sidecar: Option<Sidecar>,
}

struct Sidecar {
    waker: Waker,
    status: watch::Receiver<Arc<Status>>,
    metrics: Exposition,
    clock: Arc<dyn Clock>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    /// Without it nobody could ask the loop whether it turns.
    _pings: mpsc::Sender<sidecar::Ping>,
}

impl Pod {
    /// A pod without a sidecar yet.
    pub(crate) fn new() -> Self {
        let ahead = Arc::default();
        let files = Arc::new(Mounted);
        Self { certs: in_memory(), files, watcher: events::deaf, ahead, sidecar: None }
    }

    /// Sidecars that are started then read their files by these.
    pub(crate) fn read_by(&mut self, files: Arc<dyn Files>) {
        self.files = files;
    }

    /// The kernel wakes sidecars that are started then, and time is not paused.
    pub(crate) fn woken_by_the_kernel(&mut self) {
        self.watcher = events::kernel;
    }

    /// Someone sets the wall clock so many seconds ahead of the right time, or behind it.
    pub(crate) fn set_clock(&self, ahead: i64) {
        self.ahead.store(ahead, Ordering::Relaxed);
    }

    /// A pod that has `pair` as `web`, and a sidecar beside `kong`.
    pub(crate) fn with(pair: &CertifiedPair, kong: &KongInProcess) -> Self {
        let mut pod = Self::new();
        pod.publish("web", pair);
        pod.start(kong);
        pod
    }

    /// Starts a sidecar with the defaults.
    pub(crate) fn start(&mut self, kong: &KongInProcess) {
        self.start_with(kong, |_| {});
    }

    /// Starts a sidecar with other settings.
    pub(crate) fn start_with(&mut self, kong: &KongInProcess, change: impl FnOnce(&mut Settings)) {
        self.start_beside(kong, kong.clone(), Box::new(Nginx::new(None)), change);
    }

    /// Starts a sidecar beside another nginx; it has no Admin API where `ADMIN__URL` is not set.
    pub(crate) fn start_beside(
        &mut self,
        kong: &KongInProcess,
        handshake: impl Handshake + 'static,
        nginx: Box<dyn Reload>,
        change: impl FnOnce(&mut Settings),
    ) {
        self.start_on(kong.elapsed(), kong.clone(), handshake, nginx, change);
    }

    /// Starts a sidecar, so long after the beginning of the test, with another way to Kong.
    pub(crate) fn start_on(
        &mut self,
        elapsed: Duration,
        wire: impl Wire + 'static,
        handshake: impl Handshake + 'static,
        nginx: Box<dyn Reload>,
        change: impl FnOnce(&mut Settings),
    ) {
        let mut settings =
            Settings { certs_dir: self.certs.path().to_path_buf(), ..Settings::default() };
        change(&mut settings);
        // All sidecars of a test go by one clock, from the beginning of the test.
        let start = START + i64::try_from(elapsed.as_secs()).unwrap();
        let (right, ahead) = (clock_from(Timestamp(start)), Arc::clone(&self.ahead));
        let clock: Arc<dyn Clock> = Arc::new(move || {
            Timestamp(right.now().0.saturating_add(ahead.load(Ordering::Relaxed)))
        });
        let told_time = Arc::clone(&clock);
        let metrics = Metrics::default();
        let (sender, status) = watch::channel(sidecar::initial_status(&settings));
        let (pings, pinged) = mpsc::channel(1);
        let (waker, wakes) = Wakes::channel();
        let (stop, stopped) = oneshot::channel();
        let watch = Watch::new((self.watcher)(), waker.clone());
        let exposition = metrics.exposition(status.clone(), Arc::clone(&clock));
        let has_admin_api = settings.admin.url.is_some();
        let kong = has_admin_api.then(|| Kong::new(wire, &settings.admin, metrics.clone()));
        let forced = BTreeSet::new();
        let parts = Parts {
            kong,
            handshake,
            nginx,
            files: Arc::clone(&self.files),
            watch,
            wakes,
            clock,
            metrics,
            status: sender,
            forced,
            pings: pinged,
        };
        let task = tokio::task::spawn_local(async move {
            sidecar::run(&settings, parts, async { drop(stopped.await) }).await;
        });
        self.sidecar = Some(Sidecar {
            waker,
            status,
            metrics: exposition,
            clock: told_time,
            stop,
            task,
            _pings: pings,
        });
    }

    /// SIGTERM, and the end.
    pub(crate) async fn stop(&mut self) {
        let sidecar = self.sidecar.take().unwrap();
        sidecar.stop.send(()).unwrap();
        sidecar.task.await.unwrap();
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.sidecar.take().unwrap().task.abort();
    }

    /// Whether its sidecar is gone, though nobody stopped it.
    pub(crate) fn has_ended(&self) -> bool {
        self.sidecar.as_ref().is_some_and(|sidecar| sidecar.task.is_finished())
    }

    /// Whether it has a sidecar.
    pub(crate) fn is_started(&self) -> bool {
        self.sidecar.is_some()
    }

    /// Where a binding's files lie.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        self.certs.path().join(name)
    }

    /// kubelet swaps a volume, and the kernel tells.
    pub(crate) fn publish(&self, name: &str, pair: &CertifiedPair) {
        self.publish_unheard(name, pair);
        self.wake(&self.directory(name));
    }

    /// kubelet swaps a volume, and the event is lost.
    pub(crate) fn publish_unheard(&self, name: &str, pair: &CertifiedPair) {
        SecretVolume::mount(self.directory(name)).publish_pair(pair);
    }

    /// kubelet swaps a volume of one file, and the kernel tells.
    pub(crate) fn publish_file(&self, name: &str, file: &str, content: &str) {
        SecretVolume::mount(self.directory(name)).publish(&[(file, content.as_bytes())]);
        self.wake(&self.directory(name));
    }

    /// Someone writes a plain file, and the kernel tells.
    pub(crate) fn write(&self, name: &str, file: &str, content: &str) {
        std::fs::create_dir_all(self.directory(name)).unwrap();
        std::fs::write(self.directory(name).join(file), content).unwrap();
        self.wake(&self.directory(name).join(file));
    }

    /// Someone writes a file of its own; where it lies.
    pub(crate) fn write_file(&self, file: &str, content: &str) -> PathBuf {
        let path = self.certs.path().join(file);
        std::fs::write(&path, content).unwrap();
        self.wake(&path);
        path
    }

    /// The kernel tells of a swap.
    pub(crate) fn wake_at(&self, name: &str) {
        self.wake(&self.directory(name));
    }

    fn wake(&self, path: &Path) {
        if let Some(sidecar) = &self.sidecar {
            sidecar.waker.wake(Wake::At(path.to_path_buf()));
        }
    }

    fn sidecar(&self) -> &Sidecar {
        self.sidecar.as_ref().unwrap()
    }

    /// What is told of all.
    pub(crate) fn status(&self) -> Arc<Status> {
        self.sidecar().status.borrow().clone()
    }

    /// What is told of one binding.
    pub(crate) fn binding(&self, name: &str) -> BindingStatus {
        (*self.status().bindings[&name.parse().unwrap()]).clone()
    }

    /// State and reason of `web`, as words.
    pub(crate) fn web(&self) -> (State, &'static str) {
        let web = self.binding("web");
        (web.state, web.reason.map_or("", |reason| reason.as_str()))
    }

    /// Waits until `web` is as `is_so` wants.
    pub(crate) async fn until(&self, is_so: impl Fn(&BindingStatus) -> bool) -> BindingStatus {
        self.until_named("web", is_so).await
    }

    /// Waits until a binding is as `is_so` wants.
    pub(crate) async fn until_named(
        &self,
        name: &str,
        is_so: impl Fn(&BindingStatus) -> bool,
    ) -> BindingStatus {
        let name = name.parse().unwrap();
        let mut status = self.sidecar().status.clone();
        let so = status.wait_for(|status| status.bindings.get(&name).is_some_and(|one| is_so(one)));
        match timeout(PATIENCE, so).await {
            Ok(status) => (*status.unwrap().bindings[&name]).clone(),
            Err(_) => panic!("{:#?}", self.status()),
        }
    }

    /// Waits until `web` is in `state`.
    pub(crate) async fn until_state(&self, state: State) -> BindingStatus {
        self.until(|web| web.state == state).await
    }

    /// Waits until `web` has `pair`, in its files and in Kong.
    pub(crate) async fn until_in_sync_with(&self, pair: &CertifiedPair) {
        let leaf = LeafDigest::of(pair.leaf_der());
        let shows = |shown: &Option<Arc<Shown>>| {
            shown.as_ref().is_some_and(|shown| shown.leaf_sha256.contains(&leaf))
        };
        self.until(|web| web.state == State::InSync && shows(&web.file) && shows(&web.kong)).await;
    }

    /// Waits until the sidecar says that it is ready.
    pub(crate) async fn until_ready(&self) {
        let mut status = self.sidecar().status.clone();
        let ready = status.wait_for(|status| status.ready);
        assert!(timeout(PATIENCE, ready).await.is_ok(), "{:#?}", self.status());
    }

    /// What `/metrics` shows.
    pub(crate) fn metrics(&self) -> String {
        self.sidecar().metrics.prometheus()
    }

    /// All that can be seen from outside.
    pub(crate) fn said(&self) -> String {
        let status = self.status();
        let json = serde_json::to_string(&*status).unwrap();
        let page = page::render(&status, self.sidecar().clock.now(), View::of_query(None));
        [json, page, self.metrics(), self.sidecar().metrics.open_metrics()].join("\n")
    }

    /// A sample of `/metrics`, zero where it is not there.
    pub(crate) fn metric(&self, sample: &str) -> u64 {
        let text = self.metrics();
        let value = text.lines().find_map(|line| {
            line.strip_prefix("kong_cert_reloader_")?.strip_prefix(sample)?.strip_prefix(' ')
        });
        value.map_or(0, |value| value.parse().unwrap())
    }
}

/// A directory in memory, as those of Secrets are, where there is a place for it.
pub(crate) fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Fails unless `found` lies within `from` and `to`.
pub(crate) fn assert_within<T: Copy + PartialOrd + Debug>(found: T, from: T, to: T) {
    assert!(from <= found && found <= to, "{found:?} is not within {from:?} and {to:?}");
}
