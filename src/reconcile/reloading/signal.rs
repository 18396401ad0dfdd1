//! The signal: when it is sent, what keeps it back, and what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::step::Step;
use super::{Known, LOOK, Readable, Reloads, SLACK, may_be_newer};
use crate::binding::Kind;
use crate::bundle::Fingerprint;
use crate::clock::Timestamp;
use crate::log::tell;
use crate::metrics::PushOutcome;
use crate::names::BindingName;
use crate::nginx::{NoReload, Reloading};
use crate::reconcile::ledger::Ledger;
use crate::reconcile::memory::Memory;
use crate::status::State;

/// nginx, as it is seen in one pass.
pub(super) struct Seen {
    named: Option<u32>,
    pub(super) trouble: Option<NoReload>,
    pub(super) loaded: Option<SystemTime>,
}

/// A signal of which it is not known what became.
pub(super) struct UnderWay {
    pub(super) reloading: Reloading,
    pub(super) since: Instant,
    pub(super) files: BTreeMap<BindingName, Fingerprint>,
    /// Those that it had not read before.
    told: BTreeSet<BindingName>,
}

/// Why nginx is not told now.
pub(super) enum NotTold {
    DryRun,
    /// It would not reload for the files of another binding, or serve what is not valid yet.
    Beside(BindingName),
    /// It was told not long ago.
    TooSoon(Duration),
    /// Other files may change in this moment.
    Gathering(Duration),
    Failed(NoReload),
}

impl Reloads {
    pub(super) fn seen(&self, named: Option<u32>) -> Seen {
        let loaded = self.nginx.loaded_at(named);
        // Workers come, and are called so, a while after their master.
        let starts = || loaded.is_none().then_some(NoReload::NotRunning);
        let trouble = self.nginx.check(named).err().or_else(starts);
        Seen { named, trouble, loaded }
    }

    /// Whether workers came since this was last asked. Those of one reload come at about the same
    /// time.
    pub(super) fn note_loaded(&mut self, loaded: Option<SystemTime>) -> bool {
        let Some(loaded) = loaded else { return false };
        let before = self.loaded.replace(loaded);
        before.is_none_or(|before| loaded > before + SLACK || before > loaded + SLACK)
    }

    pub(super) fn note_due(&mut self, steps: &[(Readable, Step)]) {
        for (readable, _) in steps.iter().filter(|(_, step)| *step != Step::Tell) {
            self.due.remove(&readable.name);
        }
    }

    fn rest_of_interval(&self, loaded: Option<SystemTime>, now: Timestamp) -> Option<Duration> {
        // A process of ours that ran before this one may have signalled.
        let elsewhere = loaded.and_then(|loaded| age(loaded, now));
        let elsewhere = elsewhere.map(|age| age.max(self.began.elapsed()));
        let signalled = self.signalled.map(|at| at.elapsed());
        let since = elsewhere.into_iter().chain(signalled).min()?;
        rest(since, self.min_interval)
    }

    fn rest_of_gathering(&mut self, steps: &[(Readable, Step)]) -> Option<Duration> {
        let now = Instant::now();
        let told = steps.iter().filter(|(_, step)| *step == Step::Tell);
        let since = told.map(|(readable, _)| *self.due.entry(readable.name.clone()).or_insert(now));
        let since = since.min()?;
        rest(since.elapsed(), self.gather)
    }
}

fn rest(since: Duration, wait: Duration) -> Option<Duration> {
    Some(wait.saturating_sub(since)).filter(|rest| !rest.is_zero())
}

/// How long ago that was; `None` where it is to come.
fn age(loaded: SystemTime, now: Timestamp) -> Option<Duration> {
    let loaded = loaded.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let now = Duration::from_secs(u64::try_from(now.0).ok()?);
    (loaded <= now + SLACK).then(|| now.saturating_sub(loaded))
}

impl Ledger {
    /// Returns those whose new files nginx was told of.
    pub(super) fn tell_nginx(
        &mut self,
        seen: &Seen,
        steps: &[(Readable, Step)],
        now: Timestamp,
    ) -> Result<BTreeSet<BindingName>, NotTold> {
        if let Some(name) = self.held_up_by(seen, steps) {
            return Err(NotTold::Beside(name));
        }
        let reloads = &mut self.reloads;
        if reloads.dry_run {
            return Err(NotTold::DryRun);
        }
        if let Some(trouble) = &seen.trouble {
            reloads.due.clear();
            return Err(NotTold::Failed(trouble.clone()));
        }
        if let Some(rest) = reloads.rest_of_interval(seen.loaded, now) {
            return Err(NotTold::TooSoon(rest));
        }
        if let Some(rest) = reloads.rest_of_gathering(steps) {
            return Err(NotTold::Gathering(rest));
        }
        if self.files_for_nginx().any(|(_, memory)| memory.is_changing(&*self.files)) {
            return Err(NotTold::Gathering(self.reloads.gather.max(LOOK)));
        }
        self.reloads.due.clear();
        self.signal(seen).map_err(NotTold::Failed)
    }

    fn signal(&mut self, seen: &Seen) -> Result<BTreeSet<BindingName>, NoReload> {
        let file = |(name, memory): (&BindingName, &Memory)| {
            memory.present().map(|file| (name.clone(), file))
        };
        let files: BTreeMap<_, _> = self.files_for_nginx().filter_map(file).collect();
        let reloads = &mut self.reloads;
        let reloading = reloads.nginx.reload(seen.named)?;
        tell!(SIGNALLED, pid = reloading.pid());
        let since = Instant::now();
        reloads.signalled = Some(since);
        for (name, file) in &files {
            reloads.known(name).at_signal = Some(*file);
        }
        let is_new = |(name, file): &(&BindingName, &Fingerprint)| !reloads.has_read(name, **file);
        let told: BTreeSet<_> = files.iter().filter(is_new).map(|(name, _)| name.clone()).collect();
        reloads.under_way = Some(UnderWay { reloading, since, files, told: told.clone() });
        Ok(told)
    }

    fn files_for_nginx(&self) -> impl Iterator<Item = (&BindingName, &Memory)> {
        let all = self.memory.iter().map(|(name, memory)| (name, &**memory));
        all.filter(|(_, memory)| memory.status.kind == Kind::Reload)
    }

    /// Whose files keep nginx from being told while they are as they are.
    fn held_up_by(&self, seen: &Seen, steps: &[(Readable, Step)]) -> Option<BindingName> {
        // Where these stood before says nothing about what they hold now.
        let is_readable =
            |name: &BindingName| steps.iter().any(|(readable, _)| readable.name == *name);
        let mut others = self.files_for_nginx().filter(|(name, _)| !is_readable(name));
        let is_read = |name: &BindingName, memory: &Memory| {
            memory.present().is_some_and(|file| self.reloads.has_read(name, file))
        };
        let holds_up = |(name, memory): &(&BindingName, &Memory)| {
            let is_unfit = matches!(memory.status.state, State::Invalid | State::NotYetValid);
            // What nginx has read as it is, is no reason to keep back others.
            is_unfit && !is_read(name, memory) && may_be_newer(memory.written(), seen.loaded)
        };
        others.find(holds_up).map(|(name, _)| name.clone())
    }

    /// Sees what became of the last signal.
    pub(super) fn follow(&mut self) {
        let Some(under_way) = self.reloads.under_way.take() else { return };
        let seen = self.reloads.nginx.has_new_workers(&under_way.reloading);
        if seen == Some(false) && under_way.since.elapsed() < self.reloads.patience {
            self.reloads.under_way = Some(under_way);
            return;
        }
        let is_new =
            |(name, file): &(&BindingName, &Fingerprint)| !self.reloads.has_read(name, **file);
        let files: Vec<_> = under_way.files.iter().filter(is_new).collect();
        let was_refused = files.iter().all(|(name, file)| self.reloads.refused(name, **file));
        let outcome = match seen {
            Some(true) => {
                tell!(RELOADED);
                self.reloads.has_reloaded = true;
                PushOutcome::Applied
            }
            Some(false) if was_refused => {
                tell!(NOT_RELOADED_AGAIN);
                PushOutcome::Refused
            }
            Some(false) => {
                tell!(NOT_RELOADED);
                PushOutcome::Refused
            }
            None => PushOutcome::Failed,
        };
        for name in &under_way.told {
            self.metrics.push(name, outcome);
        }
        // Of the others a handshake was quicker to tell.
        for (name, file) in files {
            let known = self.reloads.known(name);
            match outcome {
                PushOutcome::Applied => {
                    let before = known.unseen.filter(|(unseen, _)| unseen == file);
                    let times = before.map_or(1, |(_, times)| times.saturating_add(1));
                    let (read, unseen) = (Some(*file), Some((*file, times)));
                    *known = Known { read, unseen, failed: None, untold: None, ..*known };
                    // What was seen before the reload says nothing about it.
                    if let Some(memory) = self.memory.get_mut(name) {
                        memory.proving = None;
                    }
                }
                PushOutcome::Refused => {
                    let failed = Some((*file, Instant::now()));
                    *known = Known { failed, unseen: None, ..*known };
                }
                // The master is gone: one that starts reads everything.
                PushOutcome::Failed => *known = Known::found(*file),
            }
        }
    }
}
