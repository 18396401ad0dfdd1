//! What has happened so far, and how it is shown.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _, stdout};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::clients::Clients;
use crate::sidecar::Figures;

/// Between two lines where nobody watches a terminal.
const QUIET: Duration = Duration::from_secs(10);
/// Between two of them on a terminal, each in the place of the one before.
const LIVE: Duration = Duration::from_millis(250);
/// No more latencies are kept: a run may take days.
const KEPT: usize = 1_000_000;

/// Counts of the whole run.
#[derive(Debug)]
pub(crate) struct Tally {
    began: Instant,
    length: Duration,
    rotations: Cell<u64>,
    superseded: Cell<u64>,
    faults: RefCell<BTreeMap<&'static str, u64>>,
    /// From a swap to the first client that gets it, in calm.
    calm: RefCell<Vec<Duration>>,
    /// From the end of a fault, or a later swap.
    troubled: RefCell<Vec<Duration>>,
    /// Of each sidecar, by its name.
    figures: RefCell<BTreeMap<&'static str, Figures>>,
}

impl Tally {
    pub(crate) fn new(length: Duration) -> Self {
        Self {
            began: Instant::now(),
            length,
            rotations: Cell::default(),
            superseded: Cell::default(),
            faults: RefCell::default(),
            calm: RefCell::default(),
            troubled: RefCell::default(),
            figures: RefCell::default(),
        }
    }

    /// Since the beginning, as a share of the whole.
    pub(crate) fn share(&self) -> f64 {
        self.began.elapsed().as_secs_f64() / self.length.as_secs_f64()
    }

    /// Until the end.
    pub(crate) fn left(&self) -> Duration {
        self.length.saturating_sub(self.began.elapsed())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// A generation is served.
    pub(crate) fn rotated(&self, took: Duration, is_calm: bool) {
        self.rotations.set(self.rotations.get() + 1);
        let mut kept = if is_calm { &self.calm } else { &self.troubled }.borrow_mut();
        if kept.len() < KEPT {
            kept.push(took);
        }
    }

    /// A generation was followed by the next before it was waited for.
    pub(crate) fn superseded(&self) {
        self.superseded.set(self.superseded.get() + 1);
    }

    pub(crate) fn fault(&self, name: &'static str) {
        *self.faults.borrow_mut().entry(name).or_default() += 1;
    }

    pub(crate) fn note(&self, sidecar: &'static str, figures: Figures) {
        self.figures.borrow_mut().insert(sidecar, figures);
    }

    /// Shows how it goes, without end.
    pub(crate) async fn tell(&self, clients: &[&Clients]) {
        let is_live = stdout().is_terminal();
        loop {
            sleep(if is_live { LIVE } else { QUIET }).await;
            let line = self.line(clients);
            if is_live {
                print!("\r\x1b[2K{line}");
                let _ = stdout().flush();
            } else {
                println!("{line}");
            }
        }
    }

    /// Ends the line of a terminal.
    pub(crate) fn end_line() {
        if stdout().is_terminal() {
            println!();
        }
    }

    fn line(&self, clients: &[&Clients]) -> String {
        let seconds = self.began.elapsed().as_secs();
        let rotations = self.rotations.get();
        let faults: u64 = self.faults.borrow().values().sum();
        let served = Spread::of(&self.calm.borrow());
        let figures: Vec<String> = self
            .figures
            .borrow()
            .iter()
            .map(|(name, figures)| {
                let resident = mib(figures.resident);
                let descriptors = figures.descriptors;
                let descriptors = descriptors.map(|count| format!(", {count} descriptors"));
                format!("{name} {resident} MiB{}", descriptors.unwrap_or_default())
            })
            .collect();
        let looks: u64 = clients.iter().map(|clients| clients.looks()).sum();
        format!(
            "{:02}:{:02} rotations {rotations} ({:.1}/s)  faults {faults}  served in {served}  handshakes {looks}  {}",
            seconds / 60,
            seconds % 60,
            self.rate(),
            figures.join("  "),
        )
    }

    fn rate(&self) -> f64 {
        f64::from(u32::try_from(self.rotations.get()).unwrap_or(u32::MAX))
            / self.began.elapsed().as_secs_f64()
    }

    /// All of it, at the end.
    pub(crate) fn summary(&self, clients: &[&Clients]) -> String {
        let faults = self.faults.borrow();
        let looks: u64 = clients.iter().map(|clients| clients.looks()).sum();
        let by_kind: Vec<String> =
            faults.iter().map(|(name, times)| format!("{name} {times}")).collect();
        format!(
            "{} rotations in {:.0} s ({:.1} a second), {} more overtaken by the next\n\
             {} faults: {}\n\
             served after the swap, nothing amiss: {}\n\
             served after a start, or the end of a fault: {}\n\
             {looks} handshakes looked at",
            self.rotations.get(),
            self.began.elapsed().as_secs_f64(),
            self.rate(),
            self.superseded.get(),
            faults.values().sum::<u64>(),
            by_kind.join(", "),
            Spread::of(&self.calm.borrow()),
            Spread::of(&self.troubled.borrow()),
        )
    }
}

/// How long it took.
struct Spread {
    count: usize,
    median: Duration,
    late: Duration,
    longest: Duration,
}

impl Spread {
    fn of(all: &[Duration]) -> Self {
        let mut all = all.to_vec();
        all.sort_unstable();
        let at = |part: usize| all.get(all.len() * part / 100).copied().unwrap_or_default();
        let longest = all.last().copied().unwrap_or_default();
        Self { count: all.len(), median: at(50), late: at(99), longest }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count, median, late, longest } = self;
        write!(
            f,
            "{} ms (median of {count}; of 100 one over {} ms, longest {} ms)",
            median.as_millis(),
            late.as_millis(),
            longest.as_millis()
        )
    }
}

pub(crate) fn mib(kib: u64) -> String {
    format!("{}.{}", kib / 1024, kib % 1024 * 10 / 1024)
}
