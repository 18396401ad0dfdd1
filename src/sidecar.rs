//! When: wake, debounce, pass, sleep; and the end.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{error, info, warn};

use crate::binding::{Binding, Bindings};
use crate::clock::{Clock, Timestamp};
use crate::kong::{Gate, Kong, Wire};
use crate::metrics::Metrics;
use crate::names::BindingName;
use crate::proof::{Evidence, Handshake};
use crate::reconcile::{Again, Conclusion, Passed, Prove, Reconciler, Woken};
use crate::schedule::{Due, Schedule, Trigger};
use crate::settings::Settings;
use crate::status::{BindingStatus, KongStatus, Status};
use crate::watch::{Wake, Wakes, Watch};

/// After SIGTERM a write under way gets this long.
const LAST_WRITE: Duration = Duration::from_millis(1500);
/// A longer sleep is cut: the wall clock may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(60 * 60);

/// There is something to prove.
const AT_ONCE: Prove = Prove::After(Duration::ZERO);

/// Asks the loop whether it still turns.
pub type Ping = oneshot::Sender<()>;

/// What the loop works with; each part may be a test's own.
pub struct Parts<W, H> {
    /// `None` where no Admin API is configured.
    pub kong: Option<Kong<W>>,
    /// Handshakes with Kong's proxy port.
    pub handshake: H,
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
    let Parts { kong, handshake, watch, mut wakes, clock, metrics, status, forced, mut pings } =
        parts;
    let mut reconciler = Reconciler::new(settings, kong, metrics.clone(), forced);
    let gate = reconciler.gate();
    let mut sidecar = Sidecar::new(settings, watch, clock, metrics, status);
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
        let errands = due.proofs.iter().filter_map(|name| reconciler.errand(name));
        proofs.extend(errands.map(|errand| errand.run(&handshake)));
        if sidecar.take_look_without_name() {
            proofs.extend(reconciler.errand_without_name().map(|errand| errand.run(&handshake)));
        }
        if due.looks.is_empty() {
            tokio::select! {
                Some(evidence) = proofs.next() => sidecar.proved(&mut reconciler, evidence),
                Some(wake) = wakes.next() => sidecar.heard([wake]),
                Some(ping) = pings.recv() => drop(ping.send(()).ok()),
                () = sleep_until(sidecar.next_deadline()) => {}
                () = &mut shutdown => return,
            }
            continue;
        }
        let (woken, ask_kong) = sidecar.woken_by(due);
        let mut heard = Vec::new();
        let passed = {
            let now = sidecar.clock.now();
            let status = sidecar.status.clone();
            let tell = move |conclusions: &[Conclusion]| tell_meanwhile(&status, conclusions);
            let mut pass = std::pin::pin!(reconciler.pass(woken, now, ask_kong, tell));
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
        sidecar.concluded(&passed, ask_kong, around);
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
        warn!("a call to kong was cut off by the shutdown");
    }
}

struct Sidecar<'a> {
    settings: &'a Settings,
    bindings: Bindings,
    watch: Watch,
    points: Points,
    schedule: Schedule,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    status: watch::Sender<Arc<Status>>,
    next_poll: Instant,
    next_resync: Instant,
    looks_without_name: bool,
    ready_by: Option<Instant>,
}

/// What is known besides the bindings.
struct Around {
    kong: KongStatus,
    findings: BTreeSet<String>,
}

/// Which bindings are concerned by what happens at a path.
#[derive(Default)]
struct Points {
    of: BTreeMap<BindingName, BTreeSet<PathBuf>>,
    bindings: BTreeMap<PathBuf, BTreeSet<BindingName>>,
}

impl Points {
    /// Returns whether anything changed.
    fn set(&mut self, binding: &Binding) -> bool {
        let points = binding.source().watch_points();
        if self.of.get(&binding.name) == Some(&points) {
            return false;
        }
        self.forget(&binding.name);
        for point in &points {
            self.bindings.entry(point.clone()).or_default().insert(binding.name.clone());
        }
        self.of.insert(binding.name.clone(), points);
        true
    }

    fn forget(&mut self, binding: &BindingName) {
        for point in self.of.remove(binding).into_iter().flatten() {
            if let Entry::Occupied(mut names) = self.bindings.entry(point) {
                names.get_mut().remove(binding);
                if names.get().is_empty() {
                    names.remove();
                }
            }
        }
    }
}

impl<'a> Sidecar<'a> {
    fn new(
        settings: &'a Settings,
        watch: Watch,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        status: watch::Sender<Arc<Status>>,
    ) -> Self {
        let started = Instant::now();
        Self {
            settings,
            bindings: Bindings::new(&settings.certs_dir, &settings.certificates),
            watch,
            points: Points::default(),
            schedule: Schedule::default(),
            clock,
            metrics,
            status,
            next_poll: started + settings.poll_interval,
            next_resync: started + resync_in(settings.resync_interval),
            looks_without_name: false,
            ready_by: (!settings.ready.strict).then(|| started + settings.ready.timeout),
        }
    }

    fn begin(&mut self) {
        info!(
            version = env!("CARGO_PKG_VERSION"), instance = %self.settings.instance,
            certs_dir = %self.settings.certs_dir.display(), dry_run = self.settings.dry_run, "started"
        );
        self.discover();
        self.follow();
        if self.bindings.iter().next().is_none() {
            warn!(
                certs_dir = %self.settings.certs_dir.display(),
                "no certificates found; mount Secrets with tls.crt and tls.key beneath it, or set CERT_RELOADER__CERTIFICATES__NAME__DIR"
            );
        }
        self.publish(None, &[]);
    }

    /// Takes in bindings that are new; each is looked at, at once. Returns whether other paths are to
    /// be watched.
    fn discover(&mut self) -> bool {
        let before = self.bindings.candidates().clone();
        for oddity in self.bindings.look() {
            warn!(problem = %oddity, "directory left out");
        }
        let mut changed = before != *self.bindings.candidates();
        for replaced in self.bindings.just_replaced() {
            self.points.forget(replaced);
            self.schedule.forget(replaced);
        }
        let known: Vec<_> = self.bindings.iter().cloned().collect();
        for binding in known {
            if self.points.of.contains_key(&binding.name) {
                continue;
            }
            info!(binding = %binding.name, file = %binding.cert_path().display(), "binding found");
            self.points.set(&binding);
            self.schedule.at(&binding.name, Instant::now(), Trigger::Start);
            changed = true;
        }
        changed
    }

    /// Brings the kernel's watches in line with what is there now.
    fn follow(&mut self) {
        loop {
            // What came before the watch raised no event.
            let fresh = self.follow_once();
            let is_candidate = |point: &PathBuf| self.bindings.candidates().contains(point);
            let mut moved = fresh.iter().any(is_candidate) && self.discover();
            for point in &fresh {
                moved |= self.touched(point);
            }
            if !moved {
                break;
            }
        }
    }

    fn follow_once(&mut self) -> BTreeSet<PathBuf> {
        let mut wanted: BTreeSet<PathBuf> = self.points.bindings.keys().cloned().collect();
        wanted.extend(self.bindings.candidates().iter().cloned());
        let was_polling = self.watch.polling().is_some();
        let fresh = self.watch.follow(&wanted);
        match self.watch.polling() {
            Some(problem) if !was_polling => error!(problem, "files are polled"),
            None if was_polling => info!("files are watched again"),
            _ => {}
        }
        fresh
    }

    /// Takes wake-ups, each path once.
    fn heard(&mut self, wakes: impl IntoIterator<Item = Wake>) {
        let wakes: BTreeSet<Wake> = wakes.into_iter().collect();
        for wake in wakes {
            match wake {
                Wake::At(path) => self.woken(&path, false),
                Wake::Gone(path) => {
                    let was_watched = self.watch.forget(&path);
                    self.woken(&path, was_watched);
                }
                // Soon, and not once more for each event that is lost meanwhile.
                Wake::Everywhere => {
                    let soon = Instant::now() + self.settings.debounce;
                    self.next_poll = self.next_poll.min(soon);
                }
            }
        }
    }

    fn woken(&mut self, path: &Path, is_deaf: bool) {
        let concerned: Vec<PathBuf> = self.watch.concerned(path).map(Path::to_path_buf).collect();
        let mut moved = is_deaf || concerned.iter().any(|point| !self.watch.is_current(point));
        if concerned.iter().any(|point| self.bindings.candidates().contains(point)) {
            moved |= self.discover();
        }
        for point in &concerned {
            moved |= self.touched(point);
        }
        if moved {
            self.follow();
        }
    }

    /// Something happened at a watched path. Returns whether other paths are to be watched.
    fn touched(&mut self, point: &Path) -> bool {
        let names = self.points.bindings.get(point).cloned().unwrap_or_default();
        let mut moved = false;
        for name in names {
            let Some(binding) = self.bindings.named(&name) else { continue };
            let wait =
                if binding.source().is_swapped() { Duration::ZERO } else { self.settings.debounce };
            moved |= self.points.set(binding);
            self.schedule.files(&name, Instant::now(), wait);
        }
        moved
    }

    /// What is done at its time whether anything happened or not.
    fn tick(&mut self, now: Instant) {
        if self.next_poll <= now {
            self.next_poll = now + self.settings.poll_interval;
            self.poll();
        }
        if self.next_resync <= now {
            self.next_resync = now + resync_in(self.settings.resync_interval);
            for binding in self.bindings.iter() {
                self.schedule.at(&binding.name, now, Trigger::Resync);
            }
            self.looks_without_name = true;
        }
        if self.ready_by.is_some_and(|by| by <= now) {
            self.ready_by = None;
            self.publish(None, &[]);
        }
    }

    /// Looks at all files, because events may be lost.
    fn poll(&mut self) {
        self.discover();
        let known: Vec<_> = self.bindings.iter().cloned().collect();
        for binding in known {
            self.points.set(&binding);
            self.schedule.poll(&binding.name, Instant::now());
        }
        self.follow();
    }

    fn next_deadline(&self) -> Instant {
        let fixed = self.next_poll.min(self.next_resync);
        [self.schedule.next(), self.ready_by].into_iter().flatten().fold(fixed, Instant::min)
    }

    fn woken_by(&self, due: Due) -> (Vec<Woken>, bool) {
        let triggers: BTreeSet<Trigger> = due.looks.values().copied().collect();
        for trigger in triggers {
            self.metrics.reconcile(trigger.as_str());
        }
        let woken = due.looks.into_iter().filter_map(|(name, trigger)| {
            let binding = self.bindings.named(&name)?.clone();
            Some(Woken { binding, even_if_unchanged: trigger.ignores_files() })
        });
        (woken.collect(), due.ask_kong)
    }

    fn concluded(&mut self, passed: &Passed, asked_kong: bool, around: Around) {
        let now = Instant::now();
        let conclusions = &passed.conclusions;
        let wish = conclusions.iter().filter_map(|conclusion| match conclusion.again {
            Some(Again::Retry { not_before }) => not_before,
            _ => None,
        });
        let wish = wish.max();
        let answers: Vec<bool> =
            conclusions.iter().filter_map(|conclusion| conclusion.answered).collect();
        if asked_kong && !answers.is_empty() {
            let answered = answers.contains(&true);
            self.schedule.pass_ended(answered, now, wish, fastrand::f64());
        }
        // What failed together is tried again together: by one read of all, if they are many.
        let jitter = fastrand::f64();
        for conclusion in conclusions {
            self.plan_next(conclusion, now, jitter);
        }
        for name in &passed.disturbed {
            self.schedule.at(name, now, Trigger::Timer);
        }
        // What is renewed for its names may have to be renewed for clients without one.
        self.looks_without_name |=
            conclusions.iter().any(|conclusion| conclusion.prove == Some(AT_ONCE));
        self.publish(Some(around), conclusions);
    }

    fn take_look_without_name(&mut self) -> bool {
        std::mem::take(&mut self.looks_without_name)
    }

    /// Handshakes were made.
    fn proved<W: Wire>(&mut self, reconciler: &mut Reconciler<W>, evidence: Evidence) {
        let concerned = reconciler.hear(evidence, self.clock.now());
        if let Some(conclusion) = &concerned {
            self.plan_proof(conclusion);
            if conclusion.again == Some(Again::AtOnce) {
                self.schedule.at(&conclusion.name, Instant::now(), Trigger::Proof);
            }
        }
        let around = Around { kong: reconciler.kong_status(), findings: reconciler.findings() };
        self.publish(Some(around), concerned.as_slice());
    }

    fn plan_proof(&mut self, conclusion: &Conclusion) {
        let now = Instant::now();
        match conclusion.prove {
            Some(Prove::After(wait)) => self.schedule.prove(&conclusion.name, now + wait),
            Some(Prove::WithinResync) => {
                let wait = self.settings.resync_interval.mul_f64(0.5 + fastrand::f64() / 2.0);
                self.schedule.prove(&conclusion.name, now + wait);
            }
            None => {}
        }
    }

    fn plan_next(&mut self, conclusion: &Conclusion, now: Instant, jitter: f64) {
        let name = &conclusion.name;
        self.schedule.concluded(name);
        self.plan_proof(conclusion);
        match conclusion.again {
            Some(Again::Retry { not_before }) => {
                self.schedule.retry(name, now, not_before, jitter);
                return;
            }
            Some(Again::After(wait)) => self.schedule.at(name, now + wait, Trigger::Timer),
            Some(Again::AtOnce) => self.schedule.at(name, now, Trigger::Proof),
            Some(Again::At(time)) => {
                // The whole second is reached a little after it was counted down to.
                let wait = self.clock.now().until(time) + Duration::from_millis(50);
                self.schedule.at(name, now + wait.min(LONGEST_SLEEP), Trigger::Timer);
            }
            None => {}
        }
        self.schedule.succeeded(name);
    }

    /// Tells what is known.
    fn publish(&mut self, around: Option<Around>, conclusions: &[Conclusion]) {
        let now = self.clock.now();
        let polling = self.watch.polling().map(str::to_owned);
        let is_idle = self.schedule.next().is_none_or(|at| at > Instant::now());
        let mut is_ready = false;
        self.status.send_modify(|status| {
            // A copy is made only while someone reads the last one.
            let status = Arc::make_mut(status);
            note(status, conclusions);
            if status.bindings.len() != self.bindings.iter().count() {
                status.bindings.retain(|name, _| self.bindings.named(name).is_some());
                for binding in self.bindings.iter() {
                    let known = status.bindings.entry(binding.name.clone());
                    known.or_insert_with(|| BindingStatus::starting(now));
                }
            }
            if let Some(around) = around {
                status.kong = around.kong;
                status.findings = around.findings;
            }
            status.polling = polling;
            status.idle = is_idle;
            is_ready = !status.ready && self.is_ready(status);
            status.ready |= is_ready;
        });
        if is_ready {
            self.ready_by = None;
            info!("ready");
        }
    }

    fn is_ready(&self, status: &Status) -> bool {
        let mut bindings = status.bindings.values();
        if self.settings.ready.strict {
            bindings.all(BindingStatus::is_in_place)
        } else {
            self.ready_by.is_none() || bindings.all(BindingStatus::is_concluded)
        }
    }
}

/// Tells what a pass has found out so far.
fn tell_meanwhile(status: &watch::Sender<Arc<Status>>, conclusions: &[Conclusion]) {
    status.send_modify(|status| {
        let status = Arc::make_mut(status);
        note(status, conclusions);
        status.idle = false;
    });
}

fn note(status: &mut Status, conclusions: &[Conclusion]) {
    let told = conclusions.iter();
    let told = told.map(|conclusion| (conclusion.name.clone(), conclusion.status.clone()));
    status.bindings.extend(told);
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
