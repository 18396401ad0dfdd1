//! When: wake, debounce, pass, sleep; and the end.

mod agenda;
mod lookout;
mod points;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout};

use self::points::Points;
use self::report::{Around, tell_meanwhile};
use crate::binding::Bindings;
use crate::clock::{Clock, Timestamp};
use crate::kong::{Gate, Kong, Wire};
use crate::log::tell;
use crate::metrics::Metrics;
use crate::names::BindingName;
use crate::nginx::Reload;
use crate::proof::Handshake;
use crate::reconcile::{Conclusion, Reconciler};
use crate::schedule::Schedule;
use crate::settings::Settings;
use crate::status::{KongStatus, Status};
use crate::volume::Files;
use crate::watch::{Wakes, Watch};

/// After SIGTERM a write under way gets this long.
const LAST_WRITE: Duration = Duration::from_millis(1500);

/// Asks the loop whether it still turns.
pub type Ping = oneshot::Sender<()>;

/// What the loop works with; each part may be a test's own.
pub struct Parts<W, H> {
    /// `None` where no Admin API is configured.
    pub kong: Option<Kong<W>>,
    /// Handshakes with Kong's proxy port.
    pub handshake: H,
    /// The nginx that Kong runs in.
    pub nginx: Box<dyn Reload>,
    /// The file system.
    pub files: Arc<dyn Files>,
    /// Kernel watches.
    pub watch: Watch,
    /// What they, or a test, wake us with.
    pub wakes: Wakes,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Metrics,
    /// What is known is told here.
    pub status: watch::Sender<Arc<Status>>,
    /// Bindings whose file is pushed though Kong's may be right (`sync --force`).
    pub forced: BTreeSet<BindingName>,
    /// Questions whether the loop still turns.
    pub pings: mpsc::Receiver<Ping>,
}

/// What is known before anything was looked at.
#[must_use]
pub fn initial_status(settings: &Settings) -> Arc<Status> {
    Arc::new(Status {
        version: env!("CARGO_PKG_VERSION"),
        instance: settings.instance.to_string(),
        dry_run: settings.dry_run,
        ready: false,
        idle: false,
        polling: None,
        kong: KongStatus::default(),
        findings: BTreeSet::new(),
        bindings: BTreeMap::new(),
    })
}

/// Runs until `shutdown`; a write that is under way then is finished, within 2 s.
pub async fn run<W: Wire, H: Handshake>(
    settings: &Settings,
    parts: Parts<W, H>,
    shutdown: impl Future<Output = ()>,
) {
    let Parts { kong, handshake, nginx, files, watch, mut wakes, .. } = parts;
    let Parts { clock, metrics, status, forced, mut pings, .. } = parts;
    let mut reconciler =
        Reconciler::new(settings, Arc::clone(&files), kong, metrics.clone(), forced, nginx);
    let gate = reconciler.gate();
    let mut sidecar = Sidecar::new(settings, files, watch, clock, metrics, status);
    let mut shutdown = std::pin::pin!(shutdown);
    // Handshakes take their time beside everything else.
    let mut proofs = FuturesUnordered::new();
    sidecar.begin();
    loop {
        // Even if events never cease, others get their turn: probes are answered, and the end comes.
        yield_now().await;
        while let Ok(ping) = pings.try_recv() {
            let _ = ping.send(());
        }
        if shutdown.as_mut().now_or_never().is_some() {
            return;
        }
        sidecar.heard(wakes.now());
        sidecar.tick(Instant::now());
        for gone in sidecar.bindings.replaced() {
            reconciler.forget(&gone);
        }
        let due = sidecar.schedule.take_due(Instant::now());
        let errands = sidecar.errands(&reconciler, &due);
        proofs.extend(errands.into_iter().map(|errand| errand.run(&handshake)));
        let ask = sidecar.ask(&reconciler, &due);
        if due.looks.is_empty() && !ask.hash {
            tokio::select! {
                Some(evidence) = proofs.next() => sidecar.proved(&mut reconciler, evidence),
                Some(wake) = wakes.next() => sidecar.heard([wake]),
                Some(ping) = pings.recv() => drop(ping.send(()).ok()),
                () = sleep_until(sidecar.next_deadline()) => {}
                () = &mut shutdown => return,
            }
            continue;
        }
        let woken = sidecar.woken_by(due);
        let mut heard = Vec::new();
        let passed = {
            let now = sidecar.clock.now();
            let status = sidecar.status.clone();
            let tell = move |conclusions: &[Conclusion]| tell_meanwhile(&status, conclusions);
            let mut pass = std::pin::pin!(reconciler.pass(woken, now, ask, tell));
            loop {
                tokio::select! {
                    passed = &mut pass => break passed,
                    Some(evidence) = proofs.next() => heard.push(evidence),
                    Some(ping) = pings.recv() => drop(ping.send(()).ok()),
                    () = &mut shutdown => return finish(pass, gate.as_deref()).await,
                }
            }
        };
        let around = Around { kong: reconciler.kong_status(), findings: reconciler.findings() };
        sidecar.concluded(&passed, ask, around);
        for evidence in heard {
            sidecar.proved(&mut reconciler, evidence);
        }
    }
}

/// Lets the calls of `pass` that are under way end, and begins no more.
async fn finish(pass: impl Future, gate: Option<&Gate>) {
    if let Some(gate) = gate {
        gate.close();
    }
    if timeout(LAST_WRITE, pass).await.is_err() {
        tell!(CUT_OFF);
    }
}

struct Sidecar<'a> {
    settings: &'a Settings,
    bindings: Bindings,
    files: Arc<dyn Files>,
    watch: Watch,
    points: Points,
    schedule: Schedule,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    status: watch::Sender<Arc<Status>>,
    next_poll: Instant,
    next_resync: Instant,
    /// When a Kong without a database is asked what it runs.
    next_hash: Option<Instant>,
    looks_without_name: bool,
    ready_by: Option<Instant>,
}

impl<'a> Sidecar<'a> {
    fn new(
        settings: &'a Settings,
        files: Arc<dyn Files>,
        watch: Watch,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        status: watch::Sender<Arc<Status>>,
    ) -> Self {
        let started = Instant::now();
        Self {
            settings,
            bindings: Bindings::of(settings),
            files,
            watch,
            points: Points::default(),
            schedule: Schedule::default(),
            clock,
            metrics,
            status,
            next_poll: started + settings.poll_interval,
            next_resync: started + resync_in(settings.resync_interval),
            next_hash: None,
            looks_without_name: false,
            ready_by: (!settings.ready.strict).then(|| started + settings.ready.timeout),
        }
    }

    fn begin(&mut self) {
        let admin_url = self.settings.admin.url.as_ref().map(ToString::to_string);
        tell!(STARTED, version = env!("CARGO_PKG_VERSION"), instance = %self.settings.instance,
            admin_url, certs_dir = %self.settings.certs_dir.display(), dry_run = self.settings.dry_run);
        self.discover();
        self.follow();
        if self.bindings.is_empty() {
            tell!(NONE_FOUND, certs_dir = %self.settings.certs_dir.display());
        }
        self.publish(None, &[]);
    }
}

/// Spread, so that replicas that started together do not all read at once.
fn resync_in(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + fastrand::f64() / 5.0)
}

/// A wall clock that reads `start` now and goes with tokio's, which a test can pause.
#[must_use]
pub fn clock_from(start: Timestamp) -> impl Clock {
    let began = Instant::now();
    move || {
        let seconds = i64::try_from(began.elapsed().as_secs()).unwrap_or(i64::MAX);
        Timestamp(start.0.saturating_add(seconds))
    }
}
