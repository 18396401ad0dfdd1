//! Names and counters: what Prometheus scrapes.

mod families;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::watch;

use self::families::help;
pub use self::families::{FAMILIES, MetricFamily};
use crate::binding::Kind;
use crate::clock::{Clock, Timestamp};
use crate::names::BindingName;
use crate::packed::pack;
use crate::status::{BindingStatus, Shown, State, Status};

/// The content type of Prometheus' own text format.
pub const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The content type of OpenMetrics.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds from the swap until Kong serves it, or from a request until its answer.
const BUCKETS: [f64; 12] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

/// The counters; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    of_bindings: Arc<Mutex<BTreeMap<BindingName, Counts>>>,
    reconciles: Family<TriggerLabel, Counter>,
    proofs: Family<ResultLabel, Counter>,
    propagation: Histogram,
    admin_requests: Family<RequestLabels, Counter>,
    admin_duration: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            of_bindings: Arc::default(),
            reconciles: Family::default(),
            proofs: Family::default(),
            propagation: Histogram::new(BUCKETS),
            admin_requests: Family::default(),
            admin_duration: Histogram::new(BUCKETS),
        }
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushOutcome {
    /// Kong holds it.
    Applied,
    /// Kong will not have it.
    Refused,
    /// It may succeed later.
    Failed,
}

impl PushOutcome {
    const ALL: [Self; 3] = [Self::Applied, Self::Refused, Self::Failed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl Metrics {
    /// Nothing happened to `binding` yet. A counter that is first seen at 1 has never increased as
    /// far as Prometheus can tell.
    pub fn begin(&self, binding: &BindingName) {
        self.count(binding, |_| ());
    }

    /// Takes no more room than is needed, after many were begun.
    pub fn pack(&self) {
        pack(&mut self.of_bindings.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn count(&self, binding: &BindingName, count: impl FnOnce(&mut Counts)) {
        let mut all = self.of_bindings.lock().unwrap_or_else(PoisonError::into_inner);
        count(all.entry(binding.clone()).or_default());
    }

    /// A write came to its end.
    pub fn push(&self, binding: &BindingName, outcome: PushOutcome) {
        self.count(binding, |counts| counts.pushes[outcome as usize] += 1);
    }

    /// A pass began because of `trigger`.
    pub fn reconcile(&self, trigger: &'static str) {
        self.reconciles.get_or_create(&TriggerLabel { trigger }).inc();
    }

    /// Another bundle is in the files.
    pub fn generation(&self, binding: &BindingName) {
        self.count(binding, |counts| counts.generations += 1);
    }

    /// Another writer undid what was settled.
    pub fn contested(&self, binding: &BindingName) {
        self.count(binding, |counts| counts.contested += 1);
    }

    /// A handshake was made.
    pub fn proof(&self, result: &'static str) {
        self.proofs.get_or_create(&ResultLabel { result }).inc();
    }

    /// A generation was seen this long before Kong served it, or took it where that is not proven.
    pub fn propagated(&self, after: Duration) {
        self.propagation.observe(after.as_secs_f64());
    }

    /// A call ended; `code` is `None` where no answer came.
    pub fn admin_request(&self, method: &'static str, code: Option<u16>, took: Duration) {
        let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        self.admin_requests.get_or_create(&RequestLabels { method, code }).inc();
        self.admin_duration.observe(took.as_secs_f64());
    }

    /// Everything to be scraped: these counters, and gauges read from `status` at each scrape.
    #[must_use]
    pub fn exposition(
        &self,
        status: watch::Receiver<Arc<Status>>,
        clock: Arc<dyn Clock>,
    ) -> Exposition {
        let mut registry = Registry::default();
        let ours = registry.sub_registry_with_prefix("kong_cert_reloader");
        let info = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        ours.register("build", help("build"), info);
        let of_bindings = |samples| PerBinding { all: Arc::clone(&self.of_bindings), samples };
        ours.register("pushes", help("pushes"), of_bindings(Counts::of_pushes));
        ours.register("reconciles", help("reconciles"), self.reconciles.clone());
        ours.register("generations", help("generations"), of_bindings(Counts::of_generations));
        ours.register("contested", help("contested"), of_bindings(Counts::of_contested));
        ours.register("proofs", help("proofs"), self.proofs.clone());
        ours.register("admin_requests", help("admin_requests"), self.admin_requests.clone());
        for (name, histogram) in
            [("propagation", &self.propagation), ("admin_request_duration", &self.admin_duration)]
        {
            ours.register_with_unit(name, help(name), Unit::Seconds, histogram.clone());
        }
        ours.register_collector(Box::new(Gauges { status, clock }));
        registry.register_collector(Box::new(Process));
        Exposition(registry)
    }
}

/// What is scraped.
#[derive(Debug)]
pub struct Exposition(Registry);

impl Exposition {
    /// In OpenMetrics.
    #[must_use]
    pub fn open_metrics(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut text, &self.0);
        text
    }

    /// In Prometheus' own format, in which a counter's family bears the name of its samples, and
    /// which knows no types but its own.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let open = self.open_metrics();
        let counters: Vec<&str> = families_of(&open, "counter").collect();
        let infos: Vec<&str> = families_of(&open, "info").collect();
        let mut text = String::with_capacity(open.len());
        for line in open.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("#"), Some(what), Some(family), Some(rest)) if counters.contains(&family) => {
                    text.push_str(&format!("# {what} {family}_total {rest}\n"));
                }
                (Some("#"), Some(what), Some(family), Some(rest)) if infos.contains(&family) => {
                    let rest = if what == "TYPE" { "gauge" } else { rest };
                    text.push_str(&format!("# {what} {family}_info {rest}\n"));
                }
                _ => {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        text
    }
}

fn families_of<'a>(open: &'a str, kind: &'a str) -> impl Iterator<Item = &'a str> {
    open.lines().filter_map(move |line| {
        let (family, found) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        (found == kind).then_some(family)
    })
}

/// What was counted of one binding.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// By [`PushOutcome`].
    pushes: [u32; PushOutcome::ALL.len()],
    generations: u32,
    contested: u32,
}

/// The labels of a sample besides the binding, and the sample.
type Sample = (Option<(&'static str, &'static str)>, u32);

impl Counts {
    fn of_pushes(&self) -> Vec<Sample> {
        let sample = |outcome: PushOutcome| {
            (Some(("outcome", outcome.as_str())), self.pushes[outcome as usize])
        };
        PushOutcome::ALL.map(sample).into()
    }

    fn of_generations(&self) -> Vec<Sample> {
        vec![(None, self.generations)]
    }

    fn of_contested(&self) -> Vec<Sample> {
        vec![(None, self.contested)]
    }
}

/// A family of counters that each binding has.
#[derive(Debug)]
struct PerBinding {
    all: Arc<Mutex<BTreeMap<BindingName, Counts>>>,
    samples: fn(&Counts) -> Vec<Sample>,
}

impl EncodeMetric for PerBinding {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, counts) in all.iter() {
            for (label, value) in (self.samples)(counts) {
                let labels = [Some(("binding", name.as_ref())), label];
                let labels: Vec<(&str, &str)> = labels.into_iter().flatten().collect();
                ConstCounter::new(u64::from(value))
                    .encode(encoder.encode_family(&labels.as_slice())?)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TriggerLabel {
    trigger: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    code: String,
}

/// Gauges that follow from the status, and from nothing else.
struct Gauges {
    status: watch::Receiver<Arc<Status>>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gauges")
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = Arc::clone(&self.status.borrow());
        states(&mut encoder, &status)?;
        reasons(&mut encoder, &status)?;
        validity(&mut encoder, &status)?;
        timeliness(&mut encoder, &status, self.clock.now())?;
        let family = Gauge::begin(&mut encoder, "watch_polling", None)?;
        family.only(i64::from(status.polling.is_some()))?;
        Gauge::begin(&mut encoder, "findings", None)?.only(count(status.findings.len()))
    }
}

fn states(encoder: &mut DescriptorEncoder<'_>, status: &Status) -> fmt::Result {
    let mut family = Gauge::begin(encoder, "state", None)?;
    for (name, binding) in &status.bindings {
        for state in State::ALL {
            let labels = [
                ("binding", name.as_ref()),
                ("kind", binding.kind.as_str()),
                ("state", state.as_str()),
            ];
            family.set(&labels, i64::from(binding.state == state))?;
        }
    }
    Ok(())
}

/// Free texts are no labels: of warnings there is a count.
fn reasons(encoder: &mut DescriptorEncoder<'_>, status: &Status) -> fmt::Result {
    let mut family = Gauge::begin(encoder, "state_reason", None)?;
    for (name, binding) in &status.bindings {
        if let Some(reason) = binding.reason {
            let labels = [
                ("binding", name.as_ref()),
                ("kind", binding.kind.as_str()),
                ("state", binding.state.as_str()),
                ("reason", reason.as_str()),
            ];
            family.set(&labels, 1)?;
        }
    }
    let mut family = Gauge::begin(encoder, "warnings", None)?;
    for (name, binding) in &status.bindings {
        family.set(&[("binding", name.as_ref())], count(binding.warnings.len()))?;
    }
    Ok(())
}

fn count(things: usize) -> i64 {
    i64::try_from(things).unwrap_or(i64::MAX)
}

fn validity(encoder: &mut DescriptorEncoder<'_>, status: &Status) -> fmt::Result {
    let mut family = Gauge::begin(encoder, "not_after_timestamp", Some(&Unit::Seconds))?;
    for (name, binding) in &status.bindings {
        family.per_source(name, binding, |shown| Some(shown.not_after.0))?;
    }
    let mut family = Gauge::begin(encoder, "not_before_timestamp", Some(&Unit::Seconds))?;
    for (name, binding) in &status.bindings {
        // Several of them begin each at its time, and no one time is that of all.
        let has_begin =
            |shown: &Shown| binding.kind != Kind::CaCertificate || shown.leaf_sha256.len() == 1;
        family.per_source(name, binding, |shown| has_begin(shown).then_some(shown.not_before.0))?;
    }
    Ok(())
}

fn timeliness(encoder: &mut DescriptorEncoder<'_>, status: &Status, now: Timestamp) -> fmt::Result {
    let mut family = Gauge::begin(encoder, "last_success_timestamp", Some(&Unit::Seconds))?;
    for (name, binding) in &status.bindings {
        if let Some(last) = binding.last_success {
            family.set(&[("binding", name.as_ref())], last.0)?;
        }
    }
    let mut family = Gauge::begin(encoder, "renewal_overdue", None)?;
    for (name, binding) in &status.bindings {
        if binding.kind.is_renewed() {
            family.set(&[("binding", name.as_ref())], i64::from(binding.is_overdue(now)))?;
        }
    }
    Ok(())
}

/// One family of gauges under way.
struct Gauge<'a>(MetricEncoder<'a>);

impl<'a> Gauge<'a> {
    fn begin(
        encoder: &'a mut DescriptorEncoder<'_>,
        name: &'a str,
        unit: Option<&'a Unit>,
    ) -> Result<Self, fmt::Error> {
        encoder.encode_descriptor(name, help(name), unit, MetricType::Gauge).map(Self)
    }

    fn set(&mut self, labels: &[(&str, &str)], value: i64) -> fmt::Result {
        ConstGauge::new(value).encode(self.0.encode_family(&labels)?)
    }

    /// The family has this one sample, without labels.
    fn only(self, value: i64) -> fmt::Result {
        ConstGauge::new(value).encode(self.0)
    }

    fn per_source(
        &mut self,
        name: &BindingName,
        binding: &BindingStatus,
        value: impl Fn(&Shown) -> Option<i64>,
    ) -> fmt::Result {
        for (source, shown) in
            [("file", &binding.file), ("kong", &binding.kong), ("served", &binding.served)]
        {
            if let Some(value) = shown.as_deref().and_then(&value) {
                self.set(&[("binding", name.as_ref()), ("source", source)], value)?;
            }
        }
        Ok(())
    }
}

/// `process_*`, under the names that every Prometheus client uses.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Ok(process) = procfs::process::Process::myself() else { return Ok(()) };
        let Ok(stat) = process.stat() else { return Ok(()) };
        let ticks = procfs::ticks_per_second() as f64;
        let seconds = (stat.utime + stat.stime) as f64 / ticks;
        let (name, unit) = ("process_cpu", Some(&Unit::Seconds));
        let cpu = encoder.encode_descriptor(name, help(name), unit, MetricType::Counter)?;
        ConstCounter::new(seconds).encode(cpu)?;
        let resident = stat.rss.saturating_mul(procfs::page_size());
        let mut gauge = |name: &str, unit: Option<&Unit>, value: u64| {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            Gauge::begin(&mut encoder, name, unit)?.only(value)
        };
        gauge("process_resident_memory", Some(&Unit::Bytes), resident)?;
        gauge("process_virtual_memory", Some(&Unit::Bytes), stat.vsize)?;
        if let Ok(open) = process.fd_count() {
            gauge("process_open_fds", None, open as u64)?;
        }
        if let Ok(limits) = process.limits()
            && let procfs::process::LimitValue::Value(most) = limits.max_open_files.soft_limit
        {
            gauge("process_max_fds", None, most)?;
        }
        if let Ok(boot) = procfs::boot_time_secs() {
            let started = boot + stat.starttime / procfs::ticks_per_second();
            gauge("process_start_time", Some(&Unit::Seconds), started)?;
        }
        Ok(())
    }
}
