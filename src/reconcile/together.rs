//! A Kong without a database takes its whole configuration in one write: all that differs goes into
//! it together.

mod series;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

use self::series::{Refused, Said, write};
use super::ledger::Ledger;
use super::plan::{Candidate, Look, Outcome, Plan, Planned};
use super::verdict::Verdict;
use super::{Again, Conclusion, Passed, Reconciler};
use crate::bundle::Fingerprint;
use crate::clock::Timestamp;
use crate::declarative::Document;
use crate::desired::Desired;
use crate::held::Snapshot;
use crate::kong::{Failure, Hash, Running, Wire};
use crate::metrics::PushOutcome;
use crate::names::BindingName;
use crate::quote::Quoted;
use crate::status::{Reason, State};

/// So long is a configuration waited for that Kong may still be applying.
const LONGEST_APPLYING: Duration = Duration::from_secs(120);

/// What is remembered of a Kong without a database.
#[derive(Debug, Default)]
pub(super) struct Declared {
    /// What ran when it was last looked at.
    hash: Option<Hash>,
    /// Since when Kong has not answered a write, and runs what it ran before.
    sent: Option<Instant>,
    /// What of `DECLARATIVE__FILE` Kong has taken, and what ran then.
    file: Option<(Fingerprint, Hash)>,
    /// What of it Kong would not have, and why.
    refused: Option<(Fingerprint, Quoted)>,
}

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

/// Why all of Kong is not read.
enum NotRead {
    Failure(Failure),
    /// It is busy enough: its hash tells when it is done.
    Applying,
    /// Written without the others, what became of them would be taken for known.
    ConcernsAll,
}

impl From<Failure> for NotRead {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl<W: Wire> Reconciler<W> {
    /// Whether Kong runs another configuration than when it was last looked at.
    ///
    /// # Errors
    ///
    /// If Kong does not say.
    pub(super) async fn has_moved(&self) -> Result<bool, Failure> {
        let (Some(kong), Some(known)) = (&self.kong, self.ledger.declared.hash) else {
            return Ok(false);
        };
        match kong.configuration_hash().await {
            Ok(hash) => Ok(hash != known && self.ledger.declared.sent.is_none()),
            // It may have a database by now.
            Err(Failure::NoSuchPath { .. }) => Ok(true),
            Err(failure) => Err(failure),
        }
    }

    /// Brings all that was looked at in line. Returns what kept Kong from being looked at.
    pub(super) async fn together(
        &mut self,
        candidates: Vec<Candidate>,
        file: FromFile,
        is_all: bool,
        now: Timestamp,
        passed: &mut Passed,
    ) -> Option<Failure> {
        match self.running(&file, is_all).await {
            Ok(running) => {
                let conclusions = self.written_together(candidates, file, running, now).await;
                passed.conclusions.extend(conclusions);
                None
            }
            Err(NotRead::ConcernsAll) => {
                passed.wants_all = true;
                None
            }
            Err(NotRead::Applying) => {
                let (verdict, names) = (Verdict::applying(), names_of(&candidates, &file));
                let waits = names.iter().map(|name| self.ledger.waits(name, &verdict, now));
                passed.conclusions.extend(waits);
                None
            }
            Err(NotRead::Failure(failure)) => {
                passed.conclusions.extend(self.all_failed(&candidates, &file, &failure, now));
                Some(failure)
            }
        }
    }

    /// What Kong runs, unless it is not to be written to now.
    async fn running(&self, file: &FromFile, is_all: bool) -> Result<Running, NotRead> {
        let (Some(kong), declared) = (&self.kong, &self.ledger.declared) else {
            return Err(NotRead::Failure(Failure::NotSent));
        };
        let hash = kong.configuration_hash().await?;
        if declared.is_applying() && declared.hash == Some(hash) {
            return Err(NotRead::Applying);
        }
        if !is_all && declared.concerns_all(file, hash) {
            return Err(NotRead::ConcernsAll);
        }
        Ok(kong.configuration(hash).await?)
    }

    async fn written_together(
        &mut self,
        candidates: Vec<Candidate>,
        file: FromFile,
        running: Running,
        now: Timestamp,
    ) -> Vec<Conclusion> {
        self.ledger.declared.note(&running);
        let mut conclusions = Vec::new();
        let base = match &file {
            FromFile::Read(base) => match self.ledger.declared.why_refused(base) {
                Some(message) => {
                    conclusions.push(self.ledger.file_refused(&base.name, &message, now));
                    None
                }
                None => Some(base),
            },
            FromFile::None | FromFile::Unread | FromFile::Invalid => None,
        };
        if let Some(verdict) = self.ledger.obstacle(&running, base) {
            let file = if base.is_some() { file } else { FromFile::None };
            let names = names_of(&candidates, &file);
            conclusions.extend(names.iter().map(|name| self.ledger.waits(name, &verdict, now)));
            return conclusions;
        }
        let document = match base {
            Some(base) => self.ledger.completed(&base.document, &running.document),
            None => running.document.clone(),
        };
        let look = Look::from(Arc::new(running.document.snapshot(&self.ledger.doubted())));
        let look = match base {
            Some(_) => Look { base: Arc::new(document.snapshot(&BTreeSet::new())), ..look },
            None => look,
        };
        let mut planned = Vec::new();
        for candidate in candidates {
            let one = self.ledger.plan(candidate, Ok(look.clone()), true, now);
            self.ledger.claim_object(&one);
            planned.push(one);
        }
        let said = self.write_together(document, &planned, base, &running).await;
        if let (Some(base), Some(message)) = (base, &said.base) {
            // Kong will not have the rest of it: ours goes into what runs.
            self.ledger.declared.refused = Some((base.fingerprint, message.clone()));
            self.ledger.metrics.push(&base.name, PushOutcome::Refused);
            let candidates = planned.into_iter().map(|planned| planned.candidate).collect();
            return Box::pin(self.written_together(candidates, file, running, now)).await;
        }
        conclusions.extend(self.conclude_together(planned, base, &said, running.hash, now));
        conclusions
    }

    /// Writes what differs, and where the rest comes from a file that Kong has not taken yet, all.
    async fn write_together(
        &self,
        document: Document,
        planned: &[Planned],
        base: Option<&Base>,
        running: &Running,
    ) -> Said {
        let Some(kong) = &self.kong else { return Said::nothing(document) };
        let changes: Vec<(usize, &Desired)> = planned
            .iter()
            .enumerate()
            .filter_map(|(place, planned)| Some((place, planned.change(base.is_some())?)))
            .collect();
        let (declared, own_tag) = (&self.ledger.declared, self.ledger.own.tag());
        let unknown = base.filter(|base| !declared.has_taken(base, running.hash));
        let writes = planned.iter().any(Planned::writes);
        if unknown.is_some() && !writes {
            let said = Said::of_what_runs(document.clone(), &changes, own_tag, running.hash);
            if said.is_there || self.dry_run {
                return said;
            }
        }
        if self.dry_run || (unknown.is_none() && !writes) {
            return Said::nothing(document);
        }
        if let Some(base) = unknown.filter(|base| declared.is_overridden(base, running.hash)) {
            warn!(binding = %base.name, "kong ran another configuration than the file's: it is loaded again");
        }
        write(kong, document, &changes, own_tag, running.hash).await
    }

    fn conclude_together(
        &mut self,
        planned: Vec<Planned>,
        base: Option<&Base>,
        said: &Said,
        before: Hash,
        now: Timestamp,
    ) -> Vec<Conclusion> {
        let mut conclusions = Vec::new();
        self.ledger.declared.take(said, base, before);
        let held = if said.loaded {
            said.document.snapshot(&BTreeSet::new())
        } else {
            Snapshot::default()
        };
        for (place, planned) in planned.into_iter().enumerate() {
            let failed = said.failed.iter().find(|(failed, _)| *failed == place);
            let outcome = match (&planned.plan, failed) {
                (_, Some((_, Refused::Failure(failure)))) => Outcome::Failed(failure.clone()),
                (_, Some((_, Refused::Elsewhere(failure)))) => Outcome::Unsent(failure.clone()),
                (_, Some((_, Refused::Applying))) => Outcome::Applying,
                (Plan::Decided(decided), None) if said.taken.contains(&place) => {
                    match decided.desired.held(&held).filter(|_| decided.decision.writes()) {
                        Some(held) => Outcome::Written(Box::new(held)),
                        None => Outcome::Unwritten,
                    }
                }
                (Plan::Decided(decided), None) if decided.decision.writes() => Outcome::DryRun,
                _ => Outcome::Unwritten,
            };
            conclusions.push(self.conclude(planned, outcome, now));
        }
        if let Some(base) = base {
            conclusions.push(self.ledger.concluded_file(base, said, self.dry_run, now));
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
    let file = match file {
        FromFile::Read(base) => Some(base.name.clone()),
        FromFile::None | FromFile::Unread | FromFile::Invalid => None,
    };
    candidates.iter().map(|candidate| candidate.binding.name.clone()).chain(file).collect()
}

impl Declared {
    /// Whether Kong may still go on with what it was sent.
    fn is_applying(&self) -> bool {
        self.sent.is_some_and(|since| since.elapsed() <= LONGEST_APPLYING)
    }

    /// What runs now. Another configuration than before ends the wait for it, and one that may be
    /// taken where it was not.
    fn note(&mut self, running: &Running) {
        if self.hash != Some(running.hash) {
            self.sent = None;
            self.refused = None;
        } else if !self.is_applying() {
            self.sent = None;
        }
        self.hash = Some(running.hash);
    }

    /// What came of a series of writes into what ran `before`.
    fn take(&mut self, said: &Said, base: Option<&Base>, before: Hash) {
        if matches!(said.ended, Some(Refused::Applying)) {
            self.sent = Some(Instant::now());
        }
        if let (true, Some(hash)) = (said.loaded || said.is_there, said.hash) {
            self.hash = Some(hash);
            let kept = self.file.filter(|(_, ran)| *ran == before).map(|(file, _)| file);
            self.file = base.map(|base| base.fingerprint).or(kept).map(|file| (file, hash));
        }
    }

    /// Whether more than what was looked at may have to be written, now that Kong runs this.
    fn concerns_all(&self, file: &FromFile, running: Hash) -> bool {
        let ran = self.file.map(|(_, ran)| ran);
        let is_other = match file {
            FromFile::None | FromFile::Invalid => false,
            FromFile::Unread => ran != Some(running),
            FromFile::Read(base) => !self.has_taken(base, running),
        };
        is_other || self.hash != Some(running)
    }

    /// Whether something else runs than what was made of the file, and not nothing.
    fn is_overridden(&self, base: &Base, running: Hash) -> bool {
        let loaded = self.file.filter(|(file, _)| *file == base.fingerprint);
        !running.is_empty() && loaded.is_some_and(|(_, ran)| ran != running)
    }

    fn why_refused(&self, base: &Base) -> Option<Quoted> {
        let refused = self.refused.as_ref().filter(|(file, _)| *file == base.fingerprint);
        refused.map(|(_, message)| message.clone())
    }

    fn has_taken(&self, base: &Base, running: Hash) -> bool {
        self.file == Some((base.fingerprint, running))
    }
}

impl Ledger {
    /// What keeps everything from being written.
    fn obstacle(&self, running: &Running, base: Option<&Base>) -> Option<Verdict> {
        if self.declared.sent.is_some() {
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
        let again = self.declared.sent.map(|_| Again::After(self.poll));
        self.stand(name, verdict.clone(), again, Some(true), now)
    }

    /// What is in the file, with what of ours runs and the file does not have.
    fn completed(&self, file: &Document, running: &Document) -> Document {
        let mut document = file.clone();
        document.carry_over(running, self.own.tag());
        for id in self.claims.objects() {
            document.carry_pair(running, id);
        }
        if !self.are_all_placed() {
            // Which of them is fed by a binding whose files cannot be read is not known.
            let newer = document.older_than_in(running);
            newer.into_iter().for_each(|id| document.carry_pair(running, id));
        }
        for (entity, id) in self.places.values() {
            document.carry_object(running, *entity, *id);
        }
        document
    }

    fn doubted(&self) -> BTreeSet<Uuid> {
        self.memory.values().flat_map(|memory| memory.doubted.iter().copied()).collect()
    }

    fn file_refused(&mut self, name: &BindingName, message: &Quoted, now: Timestamp) -> Conclusion {
        let message =
            format!("kong refused it: {message}; what runs stays, with our objects in it");
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
        is_dry_run: bool,
        now: Timestamp,
    ) -> Conclusion {
        let name = &base.name;
        match &said.ended {
            Some(Refused::Applying) => return self.waits(name, &Verdict::applying(), now),
            Some(Refused::Failure(failure) | Refused::Elsewhere(failure)) => {
                let failure = failure.clone();
                let is_passing = failure.is_passing();
                if let Failure::Refused { message, .. } = &failure {
                    self.declared.refused = Some((base.fingerprint, message.clone()));
                }
                let outcome = if is_passing { PushOutcome::Failed } else { PushOutcome::Refused };
                self.metrics.push(name, outcome);
                return self.failed(name, &failure, now);
            }
            None => {}
        }
        let has_taken = self.declared.file.is_some_and(|(file, _)| file == base.fingerprint);
        if has_taken {
            if said.loaded {
                info!(binding = %name, "configuration loaded");
                self.metrics.push(name, PushOutcome::Applied);
            }
            let landed = self.memory(name, now).land(now);
            landed.into_iter().for_each(|after| self.metrics.propagated(after));
            return self.stand(name, Verdict::IN_SYNC, None, Some(true), now);
        }
        let verdict = if is_dry_run {
            Verdict::new(State::Pending, Reason::DryRun, "it would be loaded")
        } else {
            Verdict::unchanged(&self.memory(name, now).status)
        };
        self.stand(name, verdict, Some(Again::After(self.poll)), Some(true), now)
    }
}
