//! A Kong on a database takes each object by a write of its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::poll_immediate;
use futures_util::stream::{self, FuturesUnordered, StreamExt as _};
use tokio::task::yield_now;

use super::ahead::Ahead;
use super::plan::{Candidate, Look, Outcome, Plan, Planned};
use super::together::FromFile;
use super::{Conclusion, Passed, Reconciler};
use crate::clock::Timestamp;
use crate::desired::Desired;
use crate::held::Snapshot;
use crate::kong::{Failure, Kong, Shared, Wire};
use crate::names::Sni;
use crate::quote::Quoted;

/// From so many bindings on, Kong is read by pages, and keys are not kept meanwhile; and no more are
/// under way at a time, however many connections there are.
pub(super) const MANY: usize = 32;
/// So many are under way for each connection: while one is answered the next is at hand. Of many
/// bindings the keys of no more are in memory.
const UNDER_WAY: usize = 2;
/// What so many came to is told while the others go on.
const TOLD_TOGETHER: usize = 4 * MANY;
/// So often is Kong looked at again at once when another writer was faster; where that was of no use
/// before, it is left to the next try.
const CONFLICTS: usize = 3;

impl<W: Wire> Reconciler<W> {
    /// Each object of a Kong on a database has a write of its own. Returns what kept Kong from being
    /// looked at.
    pub(super) async fn one_by_one(
        &mut self,
        mut candidates: Vec<Candidate>,
        ahead: Option<Ahead>,
        file: FromFile,
        now: Timestamp,
        mut tell: impl FnMut(&[Conclusion]),
        passed: &mut Passed,
    ) -> Option<Failure> {
        let conclusions = &mut passed.conclusions;
        if let FromFile::Read(base) = file {
            conclusions.push(self.ledger.useless(&base.name, now));
        }
        let mut written = BTreeSet::new();
        candidates.sort_by_key(|candidate| candidate.place().is_none());
        let is_fresh = candidates.len() < MANY;
        let Some(kong) = &self.kong else { return None };
        let looks = match ahead {
            Some(look) => vec![look.map(Arc::new)],
            None => look(kong, &candidates).await,
        };
        // If one was answered, Kong answers.
        let unread = looks.iter().map(|look| look.as_ref().err());
        let trouble = unread.reduce(|first, next| next.and(first)).flatten().cloned();
        let mut looked = candidates.into_iter().zip(looks).peekable();
        while looked.peek().is_some() {
            let some = looked.by_ref().take(TOLD_TOGETHER);
            let before = conclusions.len();
            let planned = self.plan(some, is_fresh, now);
            let (placed, others): (Vec<_>, Vec<_>) =
                planned.into_iter().partition(|planned| planned.candidate.place().is_some());
            // What has a place of its own goes there before others look for one.
            for group in [placed, others] {
                for (planned, outcome) in self.apply(group, now).await {
                    if let Outcome::Written(held) = &outcome {
                        written.extend(held.ids());
                    }
                    // It may feed another object than was planned, when it was looked at again.
                    self.ledger.claim(&planned);
                    conclusions.push(self.conclude(planned, outcome, now));
                }
            }
            tell(&conclusions[before..]);
        }
        passed.disturbed = self.ledger.disturbed_by(&written);
        trouble
    }

    /// Decides in their order.
    fn plan(
        &mut self,
        looked: impl Iterator<Item = (Candidate, Result<Arc<Snapshot>, Failure>)>,
        is_fresh: bool,
        now: Timestamp,
    ) -> Vec<Planned> {
        let mut planned = Vec::new();
        for (candidate, look) in looked {
            let one = self.ledger.plan(candidate, look.map(Look::from), is_fresh, now);
            self.ledger.claim(&one);
            planned.push(one);
        }
        planned
    }

    /// Writes what is planned to be written.
    async fn apply(&self, planned: Vec<Planned>, now: Timestamp) -> Vec<(Planned, Outcome)> {
        let most = MANY.min(self.connections * UNDER_WAY);
        let mut under_way = FuturesUnordered::new();
        let mut applied = Vec::new();
        for (place, one) in planned.into_iter().enumerate() {
            if under_way.len() == most {
                applied.extend(under_way.next().await);
            }
            let is_put_down = one.candidate.wish.is_put_down();
            under_way.push(self.apply_in_turn(one, now).map(move |done| (place, done)));
            if is_put_down {
                // Its keys are read and it is sent before those of the next are read.
                while let Some(done) = poll_immediate(under_way.next()).await.flatten() {
                    applied.push(done);
                }
                yield_now().await;
            }
        }
        applied.extend(under_way.collect::<Vec<_>>().await);
        applied.sort_unstable_by_key(|(place, _)| *place);
        applied.into_iter().map(|(_, done)| done).collect()
    }

    /// Keys that were given away are at hand as long as the write takes.
    async fn apply_in_turn(&self, mut planned: Planned, now: Timestamp) -> (Planned, Outcome) {
        if self.would_write(&planned)
            && planned.candidate.wish.is_put_down()
            && !self.ledger.take_up(&mut planned, now)
        {
            return (planned, Outcome::FilesMoved);
        }
        let (mut planned, outcome) = self.apply_one(planned, now).await;
        planned.put_down();
        (planned, outcome)
    }

    fn would_write(&self, planned: &Planned) -> bool {
        matches!(&planned.plan, Plan::Decided(decided) if decided.decision.writes())
            && !self.dry_run
    }

    async fn apply_one(&self, mut planned: Planned, now: Timestamp) -> (Planned, Outcome) {
        let mut conflict = Quoted::new("");
        let lasts = self.ledger.is_in_conflict(&planned.candidate.binding.name);
        for _ in 0..=(if lasts { 0 } else { CONFLICTS }) {
            let (Plan::Decided(decided), Some(kong)) = (&planned.plan, &self.kong) else {
                return (planned, Outcome::Unwritten);
            };
            if !decided.decision.writes() {
                let outcome = announce(kong, &decided.desired, &planned.announce).await;
                return (planned, outcome);
            }
            if self.dry_run {
                return (planned, Outcome::DryRun);
            }
            // What is replaced is merged from a look just before; what is not there need only be
            // absent still.
            let (desired, refused) = (&decided.desired, &mut planned.candidate.refused);
            let written = if planned.is_fresh {
                kong.write(desired, refused).await.map(Some)
            } else if planned.held.is_none() {
                kong.create(desired, refused).await
            } else {
                Ok(None)
            };
            match written {
                Ok(Some((held, None))) => return (planned, Outcome::Written(Box::new(held))),
                Ok(Some((held, Some(refused)))) => {
                    return (planned, Outcome::WrittenInPart(Box::new(held), refused));
                }
                Ok(None) => {}
                Err(Failure::Conflict { message }) => conflict = message,
                Err(failure) => return (planned, Outcome::Failed(failure)),
            }
            match kong.look(&planned.candidate.query).await {
                Ok(snapshot) => {
                    let look = Ok(Look::from(Arc::new(snapshot)));
                    planned = self.ledger.plan(planned.candidate, look, true, now);
                }
                Err(failure) => return (planned, Outcome::Unsent(failure)),
            }
        }
        let message = Quoted::new(&format!("each time that it was looked at again; {conflict}"));
        let failure = match planned.candidate.refused.failure() {
            Some(Failure::Refused { status, message: refused }) => {
                Failure::RefusedInPart { status, message: refused, conflict: message }
            }
            _ => Failure::Conflict { message },
        };
        (planned, Outcome::Failed(failure))
    }
}

/// Tells the nodes of Kong again what it holds, if that is asked for.
async fn announce<W: Wire>(kong: &Kong<W>, desired: &Desired, names: &BTreeSet<Sni>) -> Outcome {
    let Desired::Certificate(desired, _) = desired else { return Outcome::Unwritten };
    if names.is_empty() {
        return Outcome::Unwritten;
    }
    match kong.is_database_reachable().await {
        Ok(true) => {}
        Ok(false) => return Outcome::NoDatabase,
        Err(failure) => return Outcome::Unsent(failure),
    }
    match kong.announce(desired.id, names).await {
        Ok(()) => Outcome::Announced,
        Err(failure @ Failure::NotSent) => Outcome::Unsent(failure),
        Err(failure) => Outcome::NotAnnounced(failure),
    }
}

/// Looks at Kong for each candidate: at few certificates one by one, at many by pages. CA
/// certificates and licences are always read all together, and so once for all candidates.
async fn look<W: Wire>(
    kong: &Kong<W>,
    candidates: &[Candidate],
) -> Vec<Result<Arc<Snapshot>, Failure>> {
    let mut shared = Vec::new();
    for wider in Shared::of(candidates.iter().map(|candidate| &candidate.query), MANY) {
        let look = kong.look_once(&wider).await.map(Arc::new);
        shared.push((wider, look));
    }
    let looks: Vec<_> = candidates
        .iter()
        .map(async |Candidate { query, .. }| {
            match shared.iter().find(|(wider, _)| wider.covers(query)) {
                Some((_, look)) => look.clone(),
                // Room for it is needed by few.
                None => Box::pin(kong.look(query)).await.map(Arc::new),
            }
        })
        .collect();
    stream::iter(looks).buffered(MANY).collect().await
}
