//! What came of a plan: what the ledger keeps of it, and where the binding stands now.

use std::sync::Arc;
use std::time::Duration;

use super::ledger::{Ledger, pair};
use super::memory::Memory;
use super::plan::{Candidate, Decided, Outcome, Plan, Planned};
use super::verdict::{Verdict, log_state, why};
use super::warnings::{objects, warnings};
use super::{Again, Conclusion, Obstacle};
use crate::bundle::Facts;
use crate::clock::Timestamp;
use crate::decide::{Decision, RESTORES, Wait};
use crate::desired::Desired;
use crate::held::Held;
use crate::kong::{Failure, Query};
use crate::log::tell;
use crate::metrics::PushOutcome;
use crate::names::BindingName;
use crate::status::{Reason, Shown, State};

impl Ledger {
    /// What prevented the whole pass.
    pub(super) fn obstructed(
        &mut self,
        name: &BindingName,
        obstacle: &Obstacle,
        now: Timestamp,
    ) -> Conclusion {
        match obstacle {
            Obstacle::Failure(failure) => self.failed(name, failure, now),
            Obstacle::NoAdminApi => self.stand(name, obstacle.verdict(), None, Some(true), now),
        }
    }

    /// What came of a plan.
    pub(super) fn conclude(
        &mut self,
        planned: Planned,
        outcome: Outcome,
        now: Timestamp,
    ) -> Conclusion {
        let Planned { candidate, held, plan, .. } = planned;
        let name = &candidate.binding.name;
        let facts = candidate.facts();
        if !matches!(plan, Plan::Unread(_)) {
            self.memory(name, now).note_look(&candidate);
        }
        let decided = match plan {
            Plan::Decided(decided) => decided,
            Plan::Unread(failure) => return self.failed(name, &failure, now),
            Plan::RefusedBefore(failure, decided) => {
                self.remember(name, &decided, held.as_deref(), facts, now);
                self.show_object(name, &decided.desired, held.as_deref(), facts, now);
                return self.failed(name, &failure, now);
            }
            Plan::Refused(refusal) => {
                let reason = Reason::Refusal(refusal.as_str());
                let verdict = Verdict::new(State::Refused, reason, refusal.to_string());
                return self.stand(name, verdict, None, Some(true), now);
            }
        };
        self.remember(name, &decided, held.as_deref(), facts, now);
        match outcome {
            Outcome::Unwritten if decided.decision == Decision::InSync => {
                self.in_sync(name, held.as_deref(), facts, now)
            }
            Outcome::Unwritten | Outcome::DryRun => {
                let prove = self.observe(name, held.as_deref(), now);
                let conclusion = if matches!(outcome, Outcome::DryRun) {
                    let verdict = Verdict::of_dry_run(decided.decision, &decided.desired);
                    self.stand(name, verdict, None, Some(true), now)
                } else {
                    self.unwritten(name, decided.decision, facts, now)
                };
                Conclusion { prove, ..conclusion }
            }
            Outcome::FilesMoved => {
                let unchanged = Verdict::unchanged(&self.memory(name, now).status);
                self.stand(name, unchanged, Some(Again::After(Duration::ZERO)), Some(true), now)
            }
            Outcome::Announced => self.announced(name, None, now),
            Outcome::NotAnnounced(failure) => self.not_announced(name, failure, now),
            Outcome::NoDatabase => {
                let again = Some(Again::Retry { not_before: None });
                self.stand(name, Verdict::no_database(), again, Some(true), now)
            }
            Outcome::Applying => {
                let memory = self.memory(name, now);
                let sent = decided.desired.ids().first().map(|id| (*id, facts.fingerprint));
                memory.sent = sent.map(Box::new);
                let again = Some(Again::After(self.poll));
                self.stand(name, Verdict::applying(), again, Some(true), now)
            }
            Outcome::Written(held) => self.pushed(name, &decided, &held, facts, now),
            Outcome::WrittenInPart(held, failure) => {
                self.pushed_in_part(name, &decided, held, facts, &failure, now)
            }
            Outcome::Unsent(failure) | Outcome::Failed(failure @ Failure::NotSent) => {
                self.failed(name, &failure, now)
            }
            Outcome::Failed(failure) => {
                self.write_failed(name, &decided, held, facts, &failure, now)
            }
        }
    }

    fn in_sync(
        &mut self,
        name: &BindingName,
        held: Option<&Held>,
        facts: &Facts,
        now: Timestamp,
    ) -> Conclusion {
        let memory = self.memory(name, now);
        // Else another replica pushed it, or a write of ours landed that was not answered.
        if memory.settled.is_none() {
            memory.was_settled_before();
        }
        memory.settle(facts);
        self.agreed(name, held.and_then(Held::certificate), facts, false, now)
    }

    fn unwritten(
        &mut self,
        name: &BindingName,
        decision: Decision,
        facts: &Facts,
        now: Timestamp,
    ) -> Conclusion {
        let hold = self.hold;
        let memory = self.memory(name, now);
        let rest = hold.saturating_sub(memory.pair_age());
        let (verdict, again) = Verdict::of_decision(decision, facts, rest);
        let is_overdue = decision == Decision::Hold(Wait::KongNewer { overdue: true });
        if is_overdue && memory.status.message != verdict.message {
            let detail = verdict.message.as_deref().unwrap_or_default();
            tell!(HELD_LONG, binding = %name, detail);
        }
        self.stand(name, verdict, again, Some(true), now)
    }

    fn write_failed(
        &mut self,
        name: &BindingName,
        decided: &Decided,
        held: Option<Box<Held>>,
        facts: &Facts,
        failure: &Failure,
        now: Timestamp,
    ) -> Conclusion {
        let memory = self.memory(name, now);
        memory.doubt(&decided.desired);
        if failure.may_have_landed() {
            let sent = decided.desired.ids().first().map(|id| (*id, facts.fingerprint));
            memory.sent = sent.map(Box::new);
        }
        if matches!(failure, Failure::RefusedInPart { .. }) {
            self.show_object(name, &decided.desired, held.as_deref(), facts, now);
        }
        let memory = self.memory(name, now);
        memory.is_in_conflict =
            matches!(failure, Failure::Conflict { .. } | Failure::RefusedInPart { .. });
        let outcome = if failure.is_passing() {
            PushOutcome::Failed
        } else {
            memory.note_refused(facts.fingerprint, held, failure.clone());
            self.claims.release_place(name);
            PushOutcome::Refused
        };
        self.metrics.push(name, outcome);
        let mut conclusion = self.failed(name, failure, now);
        // It was answered when it was looked at: others need not wait for this one, unless Kong
        // wishes it.
        if matches!(failure, Failure::Unavailable { retry_after: None, .. }) {
            conclusion.answered = Some(true);
        }
        conclusion
    }

    /// What may pass is tried again, if handshakes show that it is needed still; what will not is told
    /// when the time is up.
    fn not_announced(
        &mut self,
        name: &BindingName,
        failure: Failure,
        now: Timestamp,
    ) -> Conclusion {
        let may_pass = matches!(
            failure,
            Failure::Unavailable { .. } | Failure::NotKong { .. } | Failure::Conflict { .. }
        );
        if may_pass {
            self.unanswered(name, failure, now)
        } else {
            self.announced(name, Some(failure), now)
        }
    }

    /// Keeps what the next decision depends on, and what is shown.
    fn remember(
        &mut self,
        name: &BindingName,
        decided: &Decided,
        held: Option<&Held>,
        facts: &Facts,
        now: Timestamp,
    ) {
        let held_facts = held.map(|held| &held.facts);
        let memory = self.memory(name, now);
        memory.settled = decided.settled;
        memory.left_to = decided.desired.left().into_values().collect();
        memory.note_pair(pair(facts, held_facts));
        if decided.is_revert {
            self.note_revert(name, now);
        }
        let memory = self.memory(name, now);
        memory.note_doubted(&decided.unreferenced);
        memory.note_held(held_facts.and_then(|facts| facts.as_ref().ok()));
        // What is written is shown when it is there.
        if !decided.decision.writes() {
            self.show_object(name, &decided.desired, held, facts, now);
        }
    }

    /// What was settled is undone. A Kong without a database forgets it when it restarts, so there it
    /// is another writer's doing only if it goes on.
    pub(super) fn note_revert(&mut self, name: &BindingName, now: Timestamp) {
        let memory = self.memory(name, now);
        memory.note_revert();
        let reverts = memory.reverts();
        if self.is_shared || reverts > RESTORES {
            self.metrics.contested(name);
        }
    }

    fn pushed(
        &mut self,
        name: &BindingName,
        decided: &Decided,
        held: &Held,
        facts: &Facts,
        now: Timestamp,
    ) -> Conclusion {
        tell!(PUSHED, binding = %name, object = %decided.desired.shown(), fingerprint = %facts.fingerprint,
            why = why(decided.decision));
        tell_created(name, &decided.desired, held);
        self.metrics.push(name, PushOutcome::Applied);
        self.show_object(name, &decided.desired, Some(held), facts, now);
        let memory = self.memory(name, now);
        memory.pair = None;
        memory.note_write();
        memory.note_held(Some(facts));
        if !matches!(decided.decision, Decision::Amend) {
            memory.note_push();
        }
        memory.settle(facts);
        let again = memory.doubt(&decided.desired);
        let conclusion = self.agreed(name, held.certificate(), facts, true, now);
        Conclusion { again: again.or(conclusion.again), ..conclusion }
    }

    /// One that Kong refuses does not keep the others from it.
    fn pushed_in_part(
        &mut self,
        name: &BindingName,
        decided: &Decided,
        held: Box<Held>,
        facts: &Facts,
        failure: &Failure,
        now: Timestamp,
    ) -> Conclusion {
        tell_created(name, &decided.desired, &held);
        self.metrics.push(name, PushOutcome::Refused);
        self.show_object(name, &decided.desired, Some(&held), facts, now);
        let memory = self.memory(name, now);
        memory.note_held(held.facts.as_ref().ok());
        let again = memory.doubt(&decided.desired);
        memory.note_refused(facts.fingerprint, Some(held), failure.clone());
        let conclusion = self.failed(name, failure, now);
        Conclusion { again: again.or(conclusion.again), ..conclusion }
    }

    fn show_object(
        &mut self,
        name: &BindingName,
        desired: &Desired,
        held: Option<&Held>,
        facts: &Facts,
        now: Timestamp,
    ) {
        let doubted = self.memory(name, now).doubted();
        let mut warnings = warnings(desired, held, facts, &doubted, now);
        warnings.extend(self.unasked(held.and_then(Held::certificate)));
        let status = self.memory(name, now).status_mut();
        for warning in warnings.iter().filter(|warning| !status.warnings.contains(warning)) {
            tell!(ODD, binding = %name, warning);
        }
        status.warnings = warnings;
        status.objects = held.map(|held| objects(desired, held)).unwrap_or_default();
    }

    pub(super) fn failed(
        &mut self,
        name: &BindingName,
        failure: &Failure,
        now: Timestamp,
    ) -> Conclusion {
        let not_before = match failure {
            Failure::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        };
        let again = failure.is_passing().then_some(Again::Retry { not_before });
        let mut verdict = Verdict::of_failure(failure);
        let status = &self.memory(name, now).status;
        if *failure == Failure::NotSent && status.state == State::Unreachable {
            // The call before this one was told why.
            verdict = Verdict::unchanged(status);
        }
        self.stand(name, verdict, again, Some(!failure.is_of_all_kong()), now)
    }

    /// Keeps where the binding stands, and tells it where that changed.
    pub(super) fn stand(
        &mut self,
        name: &BindingName,
        verdict: Verdict,
        again: Option<Again>,
        answered: Option<bool>,
        now: Timestamp,
    ) -> Conclusion {
        let memory = self.memory(name, now);
        let status = memory.status_mut();
        let changed = (status.state, status.reason) != (verdict.state, verdict.reason);
        if status.state != verdict.state {
            status.since = now;
        }
        status.state = verdict.state;
        status.reason = verdict.reason;
        status.message = verdict.message;
        if changed {
            log_state(name, status);
        } else {
            tell!(LOOKED_AT, binding = %name, state = %status.state);
        }
        Conclusion { name: name.clone(), status: memory.told(), again, prove: None, answered }
    }
}

/// Whoever configures a service or plugin needs the ids.
fn tell_created(name: &BindingName, desired: &Desired, held: &Held) {
    let ids = held.ids();
    for object in desired.created_authorities().filter(|object| ids.contains(&object.id)) {
        let subject = object.authority.subject();
        tell!(CA_CREATED, binding = %name, object = %object.id, %subject);
    }
}

impl Memory {
    /// What Kong holds, where that can be read.
    fn note_held(&mut self, held: Option<&Facts>) {
        let shown = held.map(|facts| self.shown(&Arc::new(Shown::from(facts))));
        self.status_mut().kong = shown;
    }

    /// Kong was looked at for a candidate.
    fn note_look(&mut self, candidate: &Candidate) {
        self.note_refused_members(&candidate.refused);
        if matches!(&candidate.query, Query::Authorities { doubted } if !doubted.is_empty()) {
            self.note_lookup();
        }
    }

    /// Nothing may refer to what Kong did not hold before; the next look asks.
    fn doubt(&mut self, desired: &Desired) -> Option<Again> {
        self.doubt_all(desired.created_authorities().map(|object| object.id));
        (!self.doubted().is_empty()).then_some(Again::After(Duration::ZERO))
    }
}
