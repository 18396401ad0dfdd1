//! A Kong without a database takes its whole configuration in one write: all that differs goes into
//! it together. Where the rest comes from a file, what runs is always made of that and all of ours.

mod declared;
mod series;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

pub(super) use self::declared::{Declared, SURE_FOR};
use self::series::{Refused, Said, Series};
use super::ledger::Ledger;
use super::plan::{Candidate, Look, Outcome, Plan, Planned};
use super::verdict::Verdict;
use super::{Again, Conclusion, Passed, Reconciler};
use crate::bundle::Fingerprint;
use crate::clock::Timestamp;
use crate::decide::until_restored;
use crate::declarative::{Document, Outlived};
use crate::desired::Desired;
use crate::held::Snapshot;
use crate::kong::{Failure, Hash, Running, Wire};
use crate::log::tell;
use crate::metrics::PushOutcome;
use crate::names::BindingName;
use crate::quote::Quoted;
use crate::status::{Reason, State};

/// The rest of the configuration, where it comes from a file.
#[derive(Default)]
pub(super) enum FromFile {
    /// It comes from Kong itself.
    #[default]
    None,
    /// It was not looked at.
    Unread,
    /// The file is invalid: what runs stays.
    Invalid,
    /// As it is read now.
    Read(Base),
}

/// `DECLARATIVE__FILE`.
pub(super) struct Base {
    pub(super) name: BindingName,
    pub(super) document: Arc<Document>,
    pub(super) fingerprint: Fingerprint,
}

impl FromFile {
    const fn base(&self) -> Option<&Base> {
        match self {
            Self::Read(base) => Some(base),
            Self::None | Self::Unread | Self::Invalid => None,
        }
    }
}

/// Why nothing is concluded.
enum PutOff {
    Failure(Failure),
    /// Kong is busy enough: its hash tells when it is done.
    Applying,
    /// All are to be looked at, as they are now.
    ConcernsAll,
}

impl From<Failure> for PutOff {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// What is to be done about a text.
enum Step {
    /// It would be written, but for `DRY_RUN`; or there is nothing to write.
    Nothing,
    /// It runs.
    IsThere,
    /// Kong would not have it before.
    RefusedBefore(Failure),
    /// Someone else's is replaced by the file's again and again: not before this long.
    Rest(Duration),
    /// It is written.
    Write,
}

impl<W: Wire> Reconciler<W> {
    /// Whether Kong runs another configuration than when it was last looked at, or may take by now
    /// what it refused.
    ///
    /// # Errors
    ///
    /// If Kong does not say.
    pub(super) async fn has_moved(&mut self) -> Result<bool, Failure> {
        let Some(kong) = &self.kong else { return Ok(false) };
        let declared = &mut self.ledger.declared;
        match kong.configuration_hash().await {
            Ok(hash) => Ok(declared.take_look() || declared.has_moved_to(hash).unwrap_or(false)),
            // It may have a database by now.
            Err(Failure::NoSuchPath { .. }) => Ok(true),
            Err(failure) => Err(failure),
        }
    }

    /// Brings all that was looked at in line. Returns what kept Kong from being looked at.
    pub(super) async fn together(
        &mut self,
        mut candidates: Vec<Candidate>,
        file: FromFile,
        is_all: bool,
        now: Timestamp,
        passed: &mut Passed,
    ) -> Option<Failure> {
        let written = match self.running(&file, is_all).await {
            Ok(running) => self.written_together(&mut candidates, &file, running, now).await,
            Err(put_off) => Err(put_off),
        };
        match written {
            Ok(conclusions) => {
                passed.conclusions.extend(conclusions);
                None
            }
            Err(PutOff::ConcernsAll) => {
                passed.wants_all = true;
                None
            }
            Err(PutOff::Applying) => {
                candidates.retain(|candidate| !self.ledger.stands(candidate));
                let (verdict, names) = (Verdict::applying(), names_of(&candidates, &file));
                let waits = names.iter().map(|name| self.ledger.waits(name, &verdict, now));
                passed.conclusions.extend(waits);
                None
            }
            Err(PutOff::Failure(failure)) => {
                passed.conclusions.extend(self.all_failed(&candidates, &file, &failure, now));
                Some(failure)
            }
        }
    }

    /// What Kong runs, unless it is not to be written to now. The file is never written without all
    /// the others, and what became of all is not known where something else runs.
    async fn running(&mut self, file: &FromFile, is_all: bool) -> Result<Running, PutOff> {
        let (Some(kong), declared) = (&self.kong, &self.ledger.declared) else {
            return Err(PutOff::Failure(Failure::NotSent));
        };
        let hash = kong.configuration_hash().await?;
        if declared.is_applying(hash) {
            return Err(PutOff::Applying);
        }
        if !is_all && (file.base().is_some() || declared.has_moved_to(hash) != Some(false)) {
            return Err(PutOff::ConcernsAll);
        }
        let running = kong.configuration(hash).await;
        if matches!(running, Err(Failure::TooLarge { .. })) {
            // Kong is not asked to write it all down again before it runs another, or at a resync.
            self.ledger.declared.note(hash);
        }
        Ok(running?)
    }

    async fn written_together(
        &mut self,
        candidates: &mut Vec<Candidate>,
        file: &FromFile,
        running: Running,
        now: Timestamp,
    ) -> Result<Vec<Conclusion>, PutOff> {
        self.ledger.declared.note(running.hash);
        let mut conclusions = Vec::new();
        let mut base = file.base();
        loop {
            if let Some(verdict) = self.ledger.obstacle(&running, base) {
                let names = candidates.iter().map(|candidate| &candidate.binding.name);
                let names: Vec<_> = names.chain(base.map(|base| &base.name)).collect();
                conclusions.extend(names.iter().map(|name| self.ledger.waits(name, &verdict, now)));
                return Ok(conclusions);
            }
            let (planned, document) = self.planned(std::mem::take(candidates), base, &running, now);
            if matches!(file, FromFile::Unread) && planned.iter().any(Planned::writes) {
                return Err(PutOff::ConcernsAll);
            }
            let (step, said) = self.attempt(&planned, document, base, running.hash, now).await;
            match (base, &said.whole) {
                // What runs may have changed since.
                (Some(_), Some(_)) if matches!(step, Step::Write) => {
                    return Err(PutOff::ConcernsAll);
                }
                (Some(refused), Some(failure)) => {
                    // Kong will not have the rest of it: ours goes into what runs.
                    conclusions.push(self.ledger.file_refused(&refused.name, failure, now));
                    candidates.extend(planned.into_iter().map(|planned| planned.candidate));
                    base = None;
                }
                _ => {
                    conclusions.extend(self.conclude_together(planned, base, &said, &step, now));
                    return Ok(conclusions);
                }
            }
        }
    }

    /// Writes what is planned, if it is to be written, and keeps what Kong said to it.
    async fn attempt(
        &mut self,
        planned: &[Planned],
        document: Document,
        base: Option<&Base>,
        running: Hash,
        now: Timestamp,
    ) -> (Step, Said) {
        let changes: Vec<(usize, &Desired)> = planned
            .iter()
            .enumerate()
            .filter_map(|(place, planned)| Some((place, planned.change(base.is_some())?)))
            .collect();
        let own_tag = self.ledger.own.tag().to_owned();
        let series = Series {
            changes: &changes,
            own_tag: &own_tag,
            running,
            is_base_new: base.is_some(),
            doubted: self.ledger.declared.doubted(),
        };
        let writes = planned.iter().any(Planned::writes);
        // Without a file nothing need be known of a text that is not written.
        let text = (base.is_some() || writes).then(|| series.text(&document));
        let step = self.step(text, base, writes, running, now);
        let said = match (&step, &self.kong, text) {
            (Step::Write, Some(kong), _) => series.write(kong, document).await,
            (Step::IsThere, _, Some(text)) => Said::there(document, text, running),
            (Step::RefusedBefore(failure), ..) => {
                Said::refused_before(document, &changes, failure.clone())
            }
            _ => Said::nothing(document),
        };
        self.ledger.declared.take(&said, base, running);
        if let (Step::Write, Some(failure), Some(text)) = (&step, &said.whole, text) {
            self.ledger.declared.note_refused(text, failure.clone());
            let refused = planned.iter().filter(|planned| base.is_none() && planned.contends());
            let refused = refused.map(|planned| &planned.candidate.binding.name);
            let refused = refused.chain(base.map(|base| &base.name));
            refused.for_each(|name| self.ledger.metrics.push(name, PushOutcome::Refused));
        }
        (step, said)
    }

    /// What is to be done about each, and what it goes into.
    fn planned(
        &mut self,
        mut candidates: Vec<Candidate>,
        base: Option<&Base>,
        running: &Running,
        now: Timestamp,
    ) -> (Vec<Planned>, Document) {
        let document = match base {
            Some(base) => self.ledger.completed(&base.document, &running.document, now),
            None => running.document.clone(),
        };
        let look = Look::from(Arc::new(running.document.snapshot(&self.ledger.doubted())));
        let look = match base {
            Some(_) => Look { base: Arc::new(document.snapshot(&BTreeSet::new())), ..look },
            None => look,
        };
        candidates.sort_by_key(|candidate| candidate.place().is_none());
        let mut planned = Vec::new();
        for candidate in candidates {
            let one = self.ledger.plan(candidate, Ok(look.clone()), true, now);
            self.ledger.claim(&one);
            planned.push(one);
        }
        // What a bundle found there gives way to what is configured to be there.
        planned.sort_by_key(|planned| planned.candidate.place().is_some());
        (planned, document)
    }

    /// Where the rest comes from a file, the text that runs is to be the one that the file and all of
    /// ours make; else it is written if something of ours differs.
    fn step(
        &mut self,
        text: Option<Hash>,
        base: Option<&Base>,
        writes: bool,
        running: Hash,
        now: Timestamp,
    ) -> Step {
        let Some(text) = text else { return Step::Nothing };
        let declared = &self.ledger.declared;
        if !writes && declared.has_taken(text, running) {
            return Step::IsThere;
        }
        if let Some(failure) = declared.why_refused(text) {
            return Step::RefusedBefore(failure.clone());
        }
        if self.dry_run {
            return Step::Nothing;
        }
        if let Some(base) = base.filter(|base| declared.is_overridden(base, running)) {
            let rest = self.ledger.until_reloaded(&base.name, now);
            if !writes && !rest.is_zero() {
                return Step::Rest(rest);
            }
            if !running.is_empty() {
                tell!(LOADED_AGAIN, binding = %base.name);
            }
        }
        Step::Write
    }

    fn conclude_together(
        &mut self,
        planned: Vec<Planned>,
        base: Option<&Base>,
        said: &Said,
        step: &Step,
        now: Timestamp,
    ) -> Vec<Conclusion> {
        let mut conclusions = Vec::new();
        let held = if said.loaded {
            said.document.snapshot(&BTreeSet::new())
        } else {
            Snapshot::default()
        };
        for (place, planned) in planned.into_iter().enumerate() {
            let failed = said.failed.iter().find(|(failed, _)| *failed == place);
            let outcome = match (&planned.plan, failed.map(|(_, why)| why)) {
                (_, Some(Refused::Itself(failure))) => Outcome::Failed(failure.clone()),
                // What Kong holds is not touched by what became of the rest.
                _ if !planned.contends() => Outcome::Unwritten,
                (_, Some(Refused::Failure(failure))) => Outcome::Failed(failure.clone()),
                (_, Some(Refused::Elsewhere(failure))) => Outcome::Unsent(failure.clone()),
                (_, Some(Refused::Applying(_))) => Outcome::Applying,
                (Plan::Decided(decided), None) => {
                    let desired = &decided.desired;
                    let is_taken = said.taken.contains(&place);
                    match (desired.held(&held), &decided.waits_for) {
                        (Some(whole), _) if is_taken && !desired.lacks_some(&held) => {
                            Outcome::Written(Box::new(whole))
                        }
                        // No write of its own brings it.
                        (_, Some(message)) if !self.dry_run => {
                            Outcome::Unsent(Failure::Conflict { message: message.clone() })
                        }
                        _ if is_taken => {
                            // It was there before, at the place of another binding.
                            let message = Quoted::new("another CA certificate has its place now");
                            Outcome::Failed(Failure::Conflict { message })
                        }
                        _ if decided.decision.writes() => Outcome::DryRun,
                        _ => Outcome::Unwritten,
                    }
                }
                (_, None) => Outcome::Unwritten,
            };
            conclusions.push(self.conclude(planned, outcome, now));
        }
        if let Some(base) = base {
            conclusions.push(self.ledger.concluded_file(base, said, step, now));
        }
        conclusions
    }

    fn all_failed(
        &mut self,
        candidates: &[Candidate],
        file: &FromFile,
        failure: &Failure,
        now: Timestamp,
    ) -> Vec<Conclusion> {
        if let (Failure::Refused { .. } | Failure::NoSuchPath { .. }, Some(kong)) =
            (failure, &mut self.kong)
        {
            // It may have a database since it was started anew.
            kong.doubt_node();
        }
        let names = names_of(candidates, file);
        names.iter().map(|name| self.ledger.failed(name, failure, now)).collect()
    }
}

pub(super) fn names_of(candidates: &[Candidate], file: &FromFile) -> Vec<BindingName> {
    let file = file.base().map(|base| base.name.clone());
    candidates.iter().map(|candidate| candidate.binding.name.clone()).chain(file).collect()
}

impl Ledger {
    /// Kong does not answer. If it is started anew with larger limits, it may run what it ran: its
    /// hash does not tell.
    pub(super) fn note_silence(&mut self) {
        if self.is_shared {
            return;
        }
        let mut had_refused = self.declared.forget_refused();
        for memory in self.memory.values_mut() {
            had_refused |= memory.refused.take().is_some();
        }
        if had_refused {
            self.declared.want_look();
        }
    }

    /// What keeps everything from being written.
    fn obstacle(&self, running: &Running, base: Option<&Base>) -> Option<Verdict> {
        if self.declared.waits() {
            return Some(Verdict::applying());
        }
        let others = || base.and_then(|base| base.document.other_controller());
        match running.document.other_controller().or_else(others) {
            Some(tag) if !self.force => return Some(Verdict::another_controller(&tag)),
            _ => {}
        }
        // With ours alone Kong would call itself ready, without routes.
        (base.is_none() && running.hash.is_empty())
            .then(|| Verdict::empty_configuration(self.has_file))
    }

    fn waits(&mut self, name: &BindingName, verdict: &Verdict, now: Timestamp) -> Conclusion {
        let again = self.declared.waits().then_some(Again::After(self.poll));
        self.stand(name, verdict.clone(), again, Some(true), now)
    }

    /// Whether the candidate was in sync with just these files.
    fn stands(&self, candidate: &Candidate) -> bool {
        self.known(&candidate.binding.name).is_some_and(|memory| {
            memory.status.state == State::InSync
                && memory.settled == Some(candidate.facts().fingerprint)
        })
    }

    /// Someone else's configuration runs in place of the file's: how long it stays.
    fn until_reloaded(&mut self, name: &BindingName, now: Timestamp) -> Duration {
        if !self.memory(name, now).repairing {
            self.note_revert(name, now);
        }
        let memory = self.memory(name, now);
        until_restored(memory.reverts(), memory.since_write())
    }

    /// What is in the file, with what of ours runs and the file does not have: that of bindings whose
    /// files cannot be read now has no other place.
    fn completed(&mut self, file: &Document, running: &Document, now: Timestamp) -> Document {
        let mut document = file.clone();
        document.carry_over(running, self.own.tag());
        let outlived = document.outlived_in(running, now);
        // Whose last good one that is cannot be known of a binding whose files were never seen: it
        // stays until the file says something else of it.
        let found = self.found.get_or_insert_with(|| {
            let newer = outlived.iter().filter(|one| one.is_older);
            newer.map(|one| (one.id, (one.here, one.there))).collect()
        });
        for Outlived { id, here, there, .. } in outlived {
            let is_as_found = found.get(&id) == Some(&(here, there));
            if here.is_none() || is_as_found || self.claims.is_fed(id) {
                document.carry_pair(running, id);
            }
        }
        for id in self.takers() {
            let is_wanted = |name: &str| {
                name.parse().is_ok_and(|name| self.claims.is_wanted_by_feeder(id, &name))
            };
            document.carry_names(running, id, is_wanted);
        }
        for (entity, id) in self.places.values() {
            document.carry_object(running, *entity, *id, now);
        }
        document
    }

    fn doubted(&self) -> BTreeSet<Uuid> {
        self.memory.values().flat_map(|memory| memory.doubted()).collect()
    }

    fn file_refused(&mut self, name: &BindingName, why: &Failure, now: Timestamp) -> Conclusion {
        let message = format!("{why}; what runs stays, with our objects in it");
        let verdict = Verdict::new(State::Refused, Reason::ByKong, message);
        self.stand(name, verdict, None, Some(true), now)
    }

    /// A Kong on a database takes no such file.
    pub(super) fn useless(&mut self, name: &BindingName, now: Timestamp) -> Conclusion {
        let message = "this kong has a database, and takes no configuration as a whole; remove DECLARATIVE__FILE";
        let verdict = Verdict::new(State::Unsupported, Reason::HasDatabase, message);
        self.stand(name, verdict, None, Some(true), now)
    }

    /// Where the file itself stands.
    fn concluded_file(
        &mut self,
        base: &Base,
        said: &Said,
        step: &Step,
        now: Timestamp,
    ) -> Conclusion {
        let name = &base.name;
        if said.loaded {
            tell!(LOADED, binding = %name);
            self.metrics.push(name, PushOutcome::Applied);
            self.memory(name, now).note_write();
        }
        match &said.ended {
            Some(Refused::Applying(_)) => return self.waits(name, &Verdict::applying(), now),
            Some(
                Refused::Itself(failure) | Refused::Failure(failure) | Refused::Elsewhere(failure),
            ) => {
                if !said.loaded {
                    self.metrics.push(name, PushOutcome::Failed);
                }
                return self.failed(name, failure, now);
            }
            None => {}
        }
        if self.declared.runs(base) {
            let memory = self.memory(name, now);
            memory.repairing = false;
            let landed = memory.land(now);
            landed.into_iter().for_each(|after| self.metrics.propagated(after));
            return self.stand(name, Verdict::IN_SYNC, None, Some(true), now);
        }
        let (verdict, again) = match step {
            Step::Rest(rest) => (Verdict::contested(), Some(Again::After(*rest))),
            Step::Nothing => {
                (Verdict::new(State::Pending, Reason::DryRun, "it would be loaded"), None)
            }
            // Kong did not say what it runs now: that is asked soon.
            _ => (Verdict::unchanged(&self.memory(name, now).status), None),
        };
        self.stand(name, verdict, again, Some(true), now)
    }
}
