//! Files that nginx reads only when it starts or reloads: whether it has read them, and when it is
//! told to.

mod signal;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use self::signal::{NotTold, UnderWay};
use self::step::{Shown, Situation, Step, step};
use super::ledger::Ledger;
use super::memory::Memory;
use super::subject::Subject;
use super::verdict::Verdict;
use super::{Again, Conclusion, Prove};
use crate::bundle::{Facts, Fingerprint};
use crate::clock::Timestamp;
use crate::log::tell;
use crate::metrics::PushOutcome;
use crate::names::BindingName;
use crate::nginx::{NoReload, Reload};
use crate::proof::ProxyPort;
use crate::settings::{ProxyAddress, ReloadFile, Settings};
use crate::status::{Reason, State};

/// So often is it seen whether nginx has new workers.
const LOOK: Duration = Duration::from_millis(100);
/// By then nginx has them, or has not taken its files: what a large Kong does before that takes
/// many seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between looks at what may be mended meanwhile; an nginx that is away for no longer is none to
/// tell of.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Between looks at the files of others that hold a signal up.
const LOOK_BESIDE: Duration = Duration::from_secs(5);
/// A worker's start is known to the second or so.
const SLACK: Duration = Duration::from_secs(2);

/// Files that can be served, and are to be read by nginx.
pub(super) struct Readable {
    pub(super) name: BindingName,
    pub(super) files: Arc<ReloadFile>,
    pub(super) facts: Facts,
    /// When they were written, if the file system tells.
    pub(super) written: Option<SystemTime>,
}

/// nginx, and what it is known to have read.
pub(super) struct Reloads {
    nginx: Box<dyn Reload>,
    min_interval: Duration,
    /// What changes within this time is told by one signal.
    gather: Duration,
    /// By then new workers are there, or none will come.
    patience: Duration,
    dry_run: bool,
    began: Instant,
    /// When its workers were started, as it was last seen.
    loaded: Option<SystemTime>,
    /// What is to be told, and since when.
    due: BTreeMap<BindingName, Instant>,
    /// When the last signal was sent.
    signalled: Option<Instant>,
    /// The process that Kong calls its master is none here.
    pub(super) is_master_lost: bool,
    under_way: Option<UnderWay>,
    has_reloaded: bool,
    known: BTreeMap<BindingName, Known>,
    /// Since when it could not be told.
    trouble_since: Option<Instant>,
    /// Why it could not be told now, though nothing is to be told.
    pub(super) finding: Option<String>,
}

/// What is known of one pair of files.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// What nginx has read.
    read: Option<Fingerprint>,
    /// What it may have read: what lay there when we looked first, or was read before workers came
    /// that we did not ask for.
    perhaps: Option<Fingerprint>,
    /// What new workers alone say that it has read, and after how many signals: no handshake has
    /// shown it since.
    unseen: Option<(Fingerprint, u8)>,
    /// What lay there at the last signal.
    at_signal: Option<Fingerprint>,
    /// What nginx was told of and did not take, and when.
    failed: Option<(Fingerprint, Instant)>,
    /// What nginx could not be told of.
    untold: Option<Fingerprint>,
}

/// Where handshakes show a pair of files.
enum Place {
    At(ProxyPort),
    /// No port does.
    Nowhere,
    /// At the proxy port, and Kong has not told that yet.
    NotKnown,
}

impl Known {
    fn found(file: Fingerprint) -> Self {
        Self { perhaps: Some(file), ..Self::default() }
    }
}

impl Readable {
    fn file(&self) -> Fingerprint {
        self.facts.fingerprint
    }

    pub(super) fn is_at_proxy_port(&self) -> bool {
        matches!(self.files.address, Some(ProxyAddress::Auto))
    }
}

/// Whether nginx may have loaded its files before these were written.
fn may_be_newer(written: Option<SystemTime>, loaded: Option<SystemTime>) -> bool {
    match (written, loaded) {
        (Some(written), Some(loaded)) => written + SLACK > loaded,
        _ => true,
    }
}

impl Reloads {
    pub(super) fn new(nginx: Box<dyn Reload>, settings: &Settings) -> Self {
        Self {
            nginx,
            min_interval: settings.reload.min_interval,
            gather: settings.debounce,
            patience: settings.proxy.timeout.unwrap_or(PATIENCE).max(PATIENCE),
            dry_run: settings.dry_run,
            began: Instant::now(),
            loaded: None,
            due: BTreeMap::new(),
            signalled: None,
            is_master_lost: false,
            under_way: None,
            has_reloaded: false,
            known: BTreeMap::new(),
            trouble_since: None,
            finding: None,
        }
    }

    /// Whether nginx has reloaded since this was last asked.
    pub(super) const fn just_reloaded(&mut self) -> bool {
        std::mem::replace(&mut self.has_reloaded, false)
    }

    pub(super) fn forget(&mut self, name: &BindingName) {
        self.known.remove(name);
        self.due.remove(name);
    }

    /// Whether it is not known yet what became of a signal.
    pub(super) const fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Whether a signal of ours may be why workers came.
    const fn asked_for_workers(&self) -> bool {
        self.is_under_way() || self.has_reloaded
    }

    /// New workers came after the signal, and handshakes go on showing another pair. One that crashed
    /// may have been taken for them: then nginx is to be told again. If that brings new workers, too,
    /// it has read these files, and they are not those that are shown.
    pub(super) fn doubt_workers(&mut self, name: &BindingName, file: Fingerprint) {
        let known = self.known(name);
        if known.read == Some(file) && known.unseen == Some((file, 1)) {
            *known = Known { read: None, failed: Some((file, Instant::now())), ..*known };
        }
    }

    /// Whether nginx is known to have read this file.
    pub(super) fn has_read(&self, name: &BindingName, file: Fingerprint) -> bool {
        self.known.get(name).is_some_and(|known| known.read == Some(file))
    }

    fn known(&mut self, name: &BindingName) -> &mut Known {
        self.known.entry(name.clone()).or_default()
    }

    /// Whether nginx was told of this file before, and did not take it.
    fn refused(&self, name: &BindingName, file: Fingerprint) -> bool {
        let failed = self.known.get(name).and_then(|known| known.failed);
        failed.is_some_and(|(failed, _)| failed == file)
    }

    fn situation(
        &mut self,
        readable: &Readable,
        shown: Shown,
        loaded: Option<SystemTime>,
    ) -> Situation {
        let (name, file) = (&readable.name, readable.file());
        let rest = self.min_interval;
        let under_way = self.under_way.as_ref();
        let loading = under_way.and_then(|under_way| under_way.files.get(name)).copied();
        let known = self.known.entry(name.clone()).or_insert_with(|| Known::found(file));
        let failed = known.failed.filter(|(failed, _)| *failed == file);
        Situation {
            is_read: known.read == Some(file),
            is_under_way: loading == Some(file),
            loads_other: loading.is_some_and(|other| other != file),
            is_perhaps_read: known.read.is_none() && known.perhaps == Some(file),
            is_untold: known.untold == Some(file),
            refused: failed.map(|(_, at)| at.elapsed() < rest),
            shown,
            may_be_newer: may_be_newer(readable.written, loaded),
        }
    }

    /// Keeps why nginx could not be told now, unless a state says so; tells it once.
    fn note_trouble(&mut self, trouble: Option<&NoReload>, is_state: bool) {
        let since = trouble.map(|_| *self.trouble_since.get_or_insert_with(Instant::now));
        self.trouble_since = since;
        let lasts = since.is_some_and(|since| since.elapsed() >= LOOK_AGAIN);
        let finding = trouble
            .filter(|trouble| !is_state && (lasts || !trouble.may_pass()))
            .map(|trouble| format!("nginx could not be told of a renewal now: {trouble}"));
        if let Some(problem) = finding.as_ref().filter(|_| self.finding != finding) {
            tell!(NO_SIGNAL, %problem);
        }
        self.finding = finding;
    }
}

impl Ledger {
    /// Sees to it that nginx reads these. One signal is for all of them. `named` is the pid that
    /// Kong calls its master's.
    pub(super) fn reload(
        &mut self,
        readables: Vec<Readable>,
        named: Option<u32>,
        now: Timestamp,
    ) -> Vec<Conclusion> {
        self.follow();
        let seen = self.reloads.seen(named);
        if self.reloads.note_loaded(seen.loaded) {
            self.doubt_what_was_shown(&readables);
            if !self.reloads.asked_for_workers() {
                self.doubt_what_was_read(seen.loaded);
            }
        }
        self.reloads.is_master_lost = matches!(seen.trouble, Some(NoReload::Gone { .. }));
        let with_step = |readable: Readable| {
            let shown = self.shown_of(&readable);
            let step = step(&self.reloads.situation(&readable, shown, seen.loaded));
            (readable, step)
        };
        let steps: Vec<(Readable, Step)> = readables.into_iter().map(with_step).collect();
        self.reloads.note_due(&steps);
        let is_due = steps.iter().any(|(_, step)| *step == Step::Tell);
        let sent = if is_due { Some(self.tell_nginx(&seen, &steps, now)) } else { None };
        let is_state = matches!(sent, Some(Err(NotTold::Failed(_))));
        let trouble = seen.trouble;
        self.reloads.note_trouble(trouble.as_ref(), is_state);
        let mut open = match &sent {
            Some(Ok(told)) => told.clone(),
            _ => BTreeSet::new(),
        };
        let mut conclusions = Vec::new();
        for (readable, step) in steps {
            open.remove(&readable.name);
            conclusions.push(match (step, &sent) {
                (Step::Tell, Some(sent)) => self.concluded_telling(&readable, sent, now),
                _ => self.concluded_step(&readable, step, trouble.as_ref(), now),
            });
        }
        // Others waited for the same signal.
        conclusions.extend(open.iter().map(|name| self.reloading(name, now)));
        conclusions
    }

    /// There are new workers: what the old ones showed says nothing about them.
    fn doubt_what_was_shown(&mut self, readables: &[Readable]) {
        for readable in readables {
            let memory = self.memory.get_mut(&readable.name);
            if let Some(memory) = memory.filter(|memory| memory.has_shown_other()) {
                memory.proving = None;
            }
        }
    }

    /// A worker crashed, or someone else had nginx read whatever lay there then: it has what it had
    /// before only where that lay there, too.
    fn doubt_what_was_read(&mut self, loaded: Option<SystemTime>) {
        for (name, known) in &mut self.reloads.known {
            let Some(read) = known.read else { continue };
            let memory = self.memory.get(name).map(Box::as_ref);
            let is_there = memory.and_then(Memory::present) == Some(read);
            let lay_there = memory.is_some_and(|memory| !may_be_newer(memory.written(), loaded));
            if !(is_there && lay_there) {
                known.read = None;
                known.perhaps = is_there.then_some(read);
            }
        }
    }

    fn shown_of(&self, readable: &Readable) -> Shown {
        let Place::At(_) = self.place_of(&readable.files) else { return Shown::Never };
        let memory = self.known(&readable.name);
        let proving = memory.and_then(|memory| memory.proving.as_ref());
        let proving = proving.filter(|proving| proving.is_about(readable.file()));
        match proving {
            Some(proving) if proving.shows_other() => Shown::Other,
            // A port that nobody answers at is none.
            Some(proving) if proving.ladder.is_given_up() => Shown::Never,
            _ => Shown::NotYet,
        }
    }

    fn concluded_step(
        &mut self,
        readable: &Readable,
        step: Step,
        trouble: Option<&NoReload>,
        now: Timestamp,
    ) -> Conclusion {
        self.note_warnings(readable, now);
        let name = &readable.name;
        match step {
            Step::InPlace => self.in_place(readable, trouble, now),
            Step::Ask => self.ask(readable, trouble, now),
            Step::Wait | Step::Tell => self.reloading(name, now),
            Step::NotTaken => {
                let again = Some(Again::After(self.reloads.min_interval));
                let is_unseen = self.reloads.known(name).unseen.is_some();
                let verdict =
                    if is_unseen { self.not_served(name) } else { Verdict::not_reloaded() };
                let conclusion = self.stand(name, verdict, again, None, now);
                self.watched(readable, conclusion, now)
            }
        }
    }

    fn in_place(
        &mut self,
        readable: &Readable,
        trouble: Option<&NoReload>,
        now: Timestamp,
    ) -> Conclusion {
        let name = &readable.name;
        let place = self.place_of(&readable.files);
        if matches!(place, Place::NotKnown) {
            let again = Some(Again::Retry { not_before: None });
            return self.stand(name, Verdict::port_unknown(), again, None, now);
        }
        if matches!(place, Place::Nowhere) {
            self.note_read(name, readable.file(), now);
        }
        let subject = self.subject_of_files(readable);
        let conclusion = self.agreed_on(name, subject, false, None, now);
        // Whether it is mended, nobody else tells.
        let again = trouble.map(|_| Again::After(LOOK_AGAIN)).or(conclusion.again);
        Conclusion { again, ..conclusion }
    }

    fn ask(
        &mut self,
        readable: &Readable,
        trouble: Option<&NoReload>,
        now: Timestamp,
    ) -> Conclusion {
        let name = &readable.name;
        let retry = Some(Again::Retry { not_before: None });
        if let Some(problem) = trouble.filter(|trouble| trouble.is_absence()) {
            return self.stand(name, Verdict::no_reload(problem), retry, None, now);
        }
        let subject = self.subject_of_files(readable);
        let status = &self.memory(name, now).status;
        if trouble.is_some() && matches!(status.reason, Some(Reason::NoReload { .. })) {
            let unchanged = Verdict::unchanged(status);
            let conclusion = self.stand(name, unchanged, retry, None, now);
            return self.watched(readable, conclusion, now);
        }
        self.agreed_on(name, subject, false, None, now)
    }

    fn reloading(&mut self, name: &BindingName, now: Timestamp) -> Conclusion {
        let memory = self.memory(name, now);
        // While it is tried again, what came of the last time holds.
        let is_again = memory.status.reason == Some(Reason::NotReloaded)
            || memory.status.state == State::NotServed;
        let unchanged = Verdict::unchanged(&memory.status);
        let file = memory.fingerprint();
        let is_again = is_again && file.is_some_and(|file| self.reloads.refused(name, file));
        let verdict = if is_again { unchanged } else { Verdict::reloading() };
        self.stand(name, verdict, Some(Again::After(LOOK)), None, now)
    }

    fn concluded_telling(
        &mut self,
        readable: &Readable,
        sent: &Result<BTreeSet<BindingName>, NotTold>,
        now: Timestamp,
    ) -> Conclusion {
        self.note_warnings(readable, now);
        let name = &readable.name;
        let (verdict, again) = match sent {
            Ok(_) => return self.reloading(name, now),
            Err(NotTold::Gathering(rest)) => {
                let conclusion = self.reloading(name, now);
                return Conclusion { again: Some(Again::After(*rest)), ..conclusion };
            }
            Err(NotTold::DryRun) => (Verdict::would_reload(), Again::After(self.hold)),
            Err(NotTold::Beside(other)) => {
                (Verdict::broken_beside(other), Again::After(LOOK_BESIDE))
            }
            Err(NotTold::TooSoon(rest)) => (Verdict::reload_interval(), Again::After(*rest)),
            Err(NotTold::Failed(problem)) => {
                self.metrics.push(name, PushOutcome::Failed);
                self.reloads.known(name).untold = Some(readable.file());
                (Verdict::no_reload(problem), Again::Retry { not_before: None })
            }
        };
        let conclusion = self.stand(name, verdict, Some(again), None, now);
        self.watched(readable, conclusion, now)
    }

    fn note_warnings(&mut self, readable: &Readable, now: Timestamp) {
        let warnings = readable.facts.warnings_at(now).iter().map(ToString::to_string).collect();
        self.memory(&readable.name, now).status_mut().warnings = warnings;
    }

    /// Handshakes go on: someone else may tell nginx.
    fn watched(
        &mut self,
        readable: &Readable,
        conclusion: Conclusion,
        now: Timestamp,
    ) -> Conclusion {
        let Some(subject) = self.subject_of_files(readable) else { return conclusion };
        let known = self.memory(&readable.name, now).proving.as_ref();
        if known.is_some_and(|proving| proving.subject == subject) {
            return conclusion;
        }
        self.begin_proving(&readable.name, subject, now);
        let status = self.memory(&readable.name, now).told();
        Conclusion { status, prove: Some(Prove::After(Duration::ZERO)), ..conclusion }
    }

    /// nginx was seen to have read this file.
    pub(super) fn note_read(&mut self, name: &BindingName, file: Fingerprint, now: Timestamp) {
        let known = self.reloads.known(name);
        let was_so_before = known.perhaps == Some(file) && known.at_signal != Some(file);
        *known = Known { read: Some(file), unseen: None, failed: None, untold: None, ..*known };
        if was_so_before {
            self.memory(name, now).was_settled_before();
        }
    }

    /// What handshakes should show of files that nginx reads; `None` where none can.
    fn subject_of_files(&self, readable: &Readable) -> Option<Subject> {
        match self.place_of(&readable.files) {
            Place::At(port) => Some(Subject::of_files(&readable.facts, port)),
            Place::Nowhere | Place::NotKnown => None,
        }
    }

    /// Where a handshake shows these files.
    fn place_of(&self, files: &ReloadFile) -> Place {
        match &files.address {
            None => Place::Nowhere,
            Some(ProxyAddress::At(at)) => Place::At(self.proof.port_at(at)),
            Some(ProxyAddress::Auto) => match (self.proof.port(), self.proof.why_not()) {
                (Some(port), _) => Place::At(port.clone()),
                (None, Some(_)) => Place::Nowhere,
                (None, None) => Place::NotKnown,
            },
        }
    }
}
