//! The only memory: what the bindings ask for, and where each stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info, warn};
use uuid::Uuid;

use super::memory::{Memory, Pair};
use super::plan::{Candidate, Decided, Outcome, Plan, Planned};
use super::verdict::{Verdict, tell, warnings, why};
use super::{Again, Conclusion, Obstacle, Woken};
use crate::binding::Binding;
use crate::bundle::{self, Bundle, Facts};
use crate::claims::Claims;
use crate::clock::Timestamp;
use crate::decide::{Decision, Situation, Wait, decide};
use crate::desired::{self, Desired, Footing, Owner, Want, desired};
use crate::held::{HeldCertificate, Snapshot};
use crate::kong::{Failure, Query};
use crate::metrics::{Metrics, PushOutcome};
use crate::names::{BindingName, Instance, Workspace};
use crate::settings::Settings;
use crate::status::{ObjectStatus, Reason, Shown, State};
use crate::volume::{Generation, Reason as Unreadable};

pub(super) struct Ledger {
    metrics: Metrics,
    instance: Instance,
    workspace: Option<Workspace>,
    own_tag: String,
    hold: Duration,
    debounce: Duration,
    claims: Claims,
    memory: BTreeMap<BindingName, Memory>,
}

/// What a look at the files of a binding came to.
pub(super) enum Looked {
    /// They are as they were.
    Unchanged,
    /// There is nothing to bring to Kong.
    Concluded(Box<Conclusion>),
    Servable(Box<Candidate>),
}

impl Ledger {
    pub(super) fn new(settings: &Settings, metrics: Metrics) -> Self {
        Self {
            metrics,
            instance: settings.instance.clone(),
            workspace: settings.admin.workspace.clone(),
            own_tag: desired::own_tag(&settings.instance),
            hold: settings.hold,
            debounce: settings.debounce,
            claims: Claims::default(),
            memory: BTreeMap::new(),
        }
    }

    /// Makes a binding known, so that the others leave it what is its own.
    pub(super) fn expect(&mut self, binding: &Binding, now: Timestamp) {
        if self.memory.contains_key(&binding.name) {
            return;
        }
        self.memory.insert(binding.name.clone(), Memory::new(now));
        let id = self.id_of(binding);
        self.claims.claim_object(&binding.name, id);
        if let Some(snis) = &binding.settings.snis {
            self.claims.claim_names(&binding.name, snis, true);
        }
    }

    fn id_of(&self, binding: &Binding) -> Uuid {
        binding.settings.id.unwrap_or_else(|| {
            desired::own_id(&self.instance, self.workspace.as_ref(), &binding.name)
        })
    }

    fn memory(&mut self, name: &BindingName, now: Timestamp) -> &mut Memory {
        self.memory.entry(name.clone()).or_insert_with(|| Memory::new(now))
    }

    // Files.

    /// Reads and judges the files of one generation.
    pub(super) fn look_at_files(&mut self, woken: Woken, now: Timestamp) -> Looked {
        let Woken { binding, even_if_unchanged } = woken;
        let memory = self.memory(&binding.name, now);
        if !even_if_unchanged && memory.is_of(&binding.source().identity()) {
            return Looked::Unchanged;
        }
        let read = binding.source().read();
        memory.note_identity(read.as_ref().ok().map(|generation| generation.identity().clone()));
        let judged = match &read {
            Ok(generation) => self.judge(&binding, generation, now),
            Err(unreadable) if unreadable.reason() == Unreadable::Changing => {
                let message = unreadable.to_string();
                Err(Early::LookAgain(Verdict::new(State::Pending, Reason::Changing, message)))
            }
            Err(unreadable)
                if unreadable.reason() == Unreadable::Missing
                    && memory.was_seen()
                    && !binding.source().is_swapped()
                    && memory.takes_second_look() =>
            {
                // Unlinked, and perhaps not made again yet.
                let message = unreadable.to_string();
                Err(Early::LookAgain(Verdict::new(State::Pending, Reason::Changing, message)))
            }
            Err(unreadable) => {
                let reason = Reason::File(unreadable.reason());
                let message = with_cause(unreadable);
                Err(Early::Concluded(Verdict::new(State::Invalid, reason, message), None))
            }
        };
        match judged {
            Ok(bundle) => Looked::Servable(Box::new(self.candidate(binding, bundle))),
            Err(early) => {
                Looked::Concluded(Box::new(self.conclude_early(&binding.name, early, now)))
            }
        }
    }

    fn judge(
        &mut self,
        binding: &Binding,
        generation: &Generation,
        now: Timestamp,
    ) -> Result<Bundle, Early> {
        let bundle = binding.bundle(generation).and_then(|bundle| {
            // An expired certificate is shown, too: its date is what one wants to see.
            self.note_bundle(binding, bundle.facts(), now);
            bundle.check_expired(binding.cert_path(), now).map(|()| bundle)
        });
        let bundle = match bundle {
            Ok(bundle) => bundle,
            Err(invalid) => {
                let may_be_torn = invalid.is_torn() && !binding.source().is_swapped();
                let message = invalid.to_string();
                if may_be_torn && self.memory(&binding.name, now).takes_second_look() {
                    let verdict = Verdict::new(State::Pending, Reason::Changing, message);
                    return Err(Early::LookAgain(verdict));
                }
                let reason = Reason::Bundle(invalid.reason());
                return Err(Early::Concluded(Verdict::new(State::Invalid, reason, message), None));
            }
        };
        if bundle.facts().not_yet_valid_at(now) {
            let from = bundle.facts().validity.not_before;
            return Err(Early::Concluded(Verdict::not_yet_valid(from), Some(Again::At(from))));
        }
        Ok(bundle)
    }

    fn note_bundle(&mut self, binding: &Binding, facts: &Facts, now: Timestamp) {
        let memory = self.memory(&binding.name, now);
        memory.status.file = Some(Shown::from(facts));
        memory.status.renew_at = Some(renew_at(binding, facts));
        if memory.note_bundle(facts.fingerprint) {
            self.metrics.generation(&binding.name);
            info!(
                binding = %binding.name, fingerprint = %facts.fingerprint,
                not_after = %facts.validity.not_after, "generation seen"
            );
        }
    }

    fn candidate(&mut self, binding: Binding, bundle: Bundle) -> Candidate {
        let names = desired::names(&binding.settings, bundle.facts()).usable;
        let configured = binding.settings.snis.is_some();
        self.claims.claim_names(&binding.name, &names, configured);
        let query = Query { id: self.id_of(&binding), names };
        Candidate { binding, bundle, query }
    }

    fn conclude_early(&mut self, name: &BindingName, early: Early, now: Timestamp) -> Conclusion {
        match early {
            Early::Concluded(verdict, again) => self.stand(name, verdict, again, None, now),
            Early::LookAgain(verdict) => {
                let status = &self.memory(name, now).status;
                // Until it is known better, what was said last holds.
                let is_first = status.reason == Some(Reason::Starting);
                let verdict = if is_first { verdict } else { Verdict::unchanged(status) };
                self.stand(name, verdict, Some(Again::After(self.debounce)), None, now)
            }
        }
    }

    // Plan.

    /// Decides about a candidate after a look at Kong.
    pub(super) fn plan(
        &self,
        candidate: Candidate,
        look: Result<Arc<Snapshot>, Failure>,
        is_fresh: bool,
        now: Timestamp,
    ) -> Planned {
        let (plan, held) = match look {
            Ok(snapshot) => self.decide(&candidate, &snapshot, now),
            Err(failure) => (Plan::Unread(failure), None),
        };
        Planned { candidate, held, plan, is_fresh }
    }

    fn decide(
        &self,
        candidate: &Candidate,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> (Plan, Option<HeldCertificate>) {
        let name = &candidate.binding.name;
        let facts = candidate.bundle.facts();
        let memory = self.memory.get(name);
        let settled = memory.and_then(|memory| memory.settled_in(snapshot));
        let want = Want {
            binding: name,
            id: candidate.query.id,
            settings: &candidate.binding.settings,
            own_tag: &self.own_tag,
            claims: &self.claims,
        };
        let desired = match desired(&want, facts, snapshot, settled) {
            Ok(desired) => desired,
            Err(refusal) => return (Plan::Refused(refusal), None),
        };
        let held = snapshot.certificate(desired.id).cloned();
        let held_facts = held.as_ref().map(|held| desired::held_facts(&desired, held));
        let decision = decide(&Situation {
            now,
            file: Some(facts),
            held: held_facts.map(|held| held.as_ref().map_err(|reason| *reason)),
            fields_differ: matches!(desired.footing, Footing::Ours { differ: true, .. }),
            is_shared: true,
            settled,
            unchanged_for: memory
                .map(|memory| memory.unchanged_for(&pair(facts, held_facts)))
                .unwrap_or_default(),
            hold: self.hold,
            reverts: memory.map_or(0, Memory::reverts),
        });
        let refused = memory.and_then(|memory| memory.refused.as_ref());
        if decision.writes()
            && let Some((file, before, failure)) = refused
            && *file == facts.fingerprint
            && *before == held
        {
            return (Plan::RefusedBefore(failure.clone()), held);
        }
        let contends = decision.writes() || decision == Decision::Contested;
        let is_revert = contends
            && settled == Some(facts.fingerprint)
            && memory.is_some_and(|memory| !memory.repairing);
        let decided = Decided { desired, decision, settled, is_revert };
        (Plan::Decided(Box::new(decided)), held)
    }

    /// What is planned to be fed by one binding is not adopted by the next.
    pub(super) fn claim_object(&mut self, planned: &Planned) {
        if let Plan::Decided(decided) = &planned.plan {
            self.claims.claim_object(&planned.candidate.binding.name, decided.desired.id);
        }
    }

    // Conclusions.

    /// What prevented the whole pass.
    pub(super) fn obstructed(
        &mut self,
        name: &BindingName,
        obstacle: &Obstacle,
        now: Timestamp,
    ) -> Conclusion {
        match obstacle {
            Obstacle::Failure(failure) => self.failed(name, failure, now),
            Obstacle::Unsupported(_) => self.stand(name, obstacle.verdict(), None, Some(true), now),
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
        let facts = candidate.bundle.facts();
        let decided = match plan {
            Plan::Decided(decided) => decided,
            Plan::Unread(failure) | Plan::RefusedBefore(failure) => {
                return self.failed(name, &failure, now);
            }
            Plan::Refused(refusal) => {
                let reason = Reason::Refusal(refusal.as_str());
                let verdict = Verdict::new(State::Refused, reason, refusal.to_string());
                return self.stand(name, verdict, None, Some(true), now);
            }
        };
        self.remember(name, &decided, held.as_ref(), facts, now);
        match outcome {
            Outcome::Unwritten => {
                if decided.decision == Decision::InSync {
                    let memory = self.memory(name, now);
                    let is_first = memory.settled.is_none();
                    // Another replica pushed it, or a write of ours landed that was not answered.
                    if let Some(after) = memory.settle(facts, now)
                        && !is_first
                    {
                        self.metrics.propagated(after);
                    }
                }
                let hold = self.hold;
                let memory = self.memory(name, now);
                let rest = hold.saturating_sub(memory.pair_age());
                let (verdict, again) = Verdict::of_decision(decided.decision, facts, rest);
                let is_overdue =
                    decided.decision == Decision::Hold(Wait::KongNewer { overdue: true });
                if is_overdue && memory.status.message != verdict.message {
                    let detail = verdict.message.as_deref().unwrap_or_default();
                    warn!(binding = %name, detail, "held for longer than HOLD");
                }
                self.stand(name, verdict, again, Some(true), now)
            }
            Outcome::DryRun => {
                let verdict = Verdict::of_dry_run(decided.decision);
                self.stand(name, verdict, None, Some(true), now)
            }
            Outcome::Written(held) => self.pushed(name, &decided, &held, facts, now),
            Outcome::Unsent(failure) | Outcome::Failed(failure @ Failure::NotSent) => {
                self.failed(name, &failure, now)
            }
            Outcome::Failed(failure) => {
                let memory = self.memory(name, now);
                if failure.may_have_landed() {
                    memory.sent = Some((decided.desired.id, facts.fingerprint));
                }
                let outcome = if failure.is_passing() {
                    PushOutcome::Failed
                } else {
                    memory.refused = Some((facts.fingerprint, held, failure.clone()));
                    PushOutcome::Refused
                };
                self.metrics.push(name, outcome);
                let mut conclusion = self.failed(name, &failure, now);
                // It was answered when it was looked at: others need not wait for this one, unless
                // Kong wishes it.
                if matches!(failure, Failure::Unavailable { retry_after: None, .. }) {
                    conclusion.answered = Some(true);
                }
                conclusion
            }
        }
    }

    /// Bindings that left a name to one of these objects.
    pub(super) fn disturbed_by(&self, written: &BTreeSet<Uuid>) -> Vec<BindingName> {
        if written.is_empty() {
            return Vec::new();
        }
        let was_written =
            |owner: &Owner| matches!(owner, Owner::Object(id) if written.contains(id));
        let disturbed =
            self.memory.iter().filter(|(_, memory)| memory.left.values().any(was_written));
        disturbed.map(|(name, _)| name.clone()).collect()
    }

    /// There is no such binding any more.
    pub(super) fn forget(&mut self, binding: &BindingName) {
        self.memory.remove(binding);
        self.claims.release(binding);
    }

    /// Keeps what the next decision depends on, and what is shown.
    fn remember(
        &mut self,
        name: &BindingName,
        decided: &Decided,
        held: Option<&HeldCertificate>,
        facts: &Facts,
        now: Timestamp,
    ) {
        if decided.is_revert {
            self.metrics.contested(name);
        }
        let held_facts = held.map(|held| desired::held_facts(&decided.desired, held));
        let memory = self.memory(name, now);
        memory.settled = decided.settled;
        memory.left.clone_from(&decided.desired.left);
        memory.note_pair(pair(facts, held_facts));
        if decided.is_revert {
            memory.note_revert();
        }
        memory.status.kong = held_facts.and_then(|facts| Some(Shown::from(facts.as_ref().ok()?)));
        // What is written is shown when it is there.
        if !decided.decision.writes() {
            self.show_object(name, &decided.desired, held, facts, now);
        }
    }

    fn pushed(
        &mut self,
        name: &BindingName,
        decided: &Decided,
        held: &HeldCertificate,
        facts: &Facts,
        now: Timestamp,
    ) -> Conclusion {
        info!(
            binding = %name, object = %decided.desired.id, fingerprint = %facts.fingerprint,
            why = why(decided.decision), "pushed"
        );
        self.metrics.push(name, PushOutcome::Applied);
        self.show_object(name, &decided.desired, Some(held), facts, now);
        let memory = self.memory(name, now);
        memory.pair = None;
        memory.status.kong = Some(Shown::from(facts));
        if let Some(after) = memory.settle(facts, now) {
            self.metrics.propagated(after);
        }
        self.stand(name, Verdict::IN_SYNC, None, Some(true), now)
    }

    fn show_object(
        &mut self,
        name: &BindingName,
        desired: &Desired,
        held: Option<&HeldCertificate>,
        facts: &Facts,
        now: Timestamp,
    ) {
        let adopted = matches!(desired.footing, Footing::Adopted { .. });
        let snis = held.map(|held| held.snis.clone()).unwrap_or_default();
        let object = ObjectStatus { id: desired.id, adopted, snis };
        let warnings = warnings(desired, &object, facts, now);
        let status = &mut self.memory(name, now).status;
        for warning in warnings.iter().filter(|warning| !status.warnings.contains(warning)) {
            warn!(binding = %name, warning, "served with a warning");
        }
        status.warnings = warnings;
        status.object = held.is_some().then_some(object);
    }

    fn failed(&mut self, name: &BindingName, failure: &Failure, now: Timestamp) -> Conclusion {
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
    fn stand(
        &mut self,
        name: &BindingName,
        verdict: Verdict,
        again: Option<Again>,
        answered: Option<bool>,
        now: Timestamp,
    ) -> Conclusion {
        let status = &mut self.memory(name, now).status;
        let changed = (status.state, status.reason) != (verdict.state, verdict.reason);
        if status.state != verdict.state {
            status.since = now;
        }
        status.state = verdict.state;
        status.reason = verdict.reason;
        status.message = verdict.message;
        if changed {
            tell(name, status);
        } else {
            debug!(binding = %name, state = %status.state, "looked at");
        }
        Conclusion { name: name.clone(), status: status.clone(), again, answered }
    }
}

/// The files are no candidate for Kong now.
enum Early {
    Concluded(Verdict, Option<Again>),
    /// They may be half written.
    LookAgain(Verdict),
}

fn pair(facts: &Facts, held: Option<&Result<Facts, bundle::Reason>>) -> Pair {
    let held = held.map(|held| match held {
        Ok(held) => Ok(held.fingerprint),
        Err(reason) => Err(*reason),
    });
    (facts.fingerprint, held)
}

fn renew_at(binding: &Binding, facts: &Facts) -> Timestamp {
    let validity = facts.validity;
    let life = validity.not_before.until(validity.not_after);
    let share = life.mul_f64(binding.settings.renew_by.share()).as_secs();
    Timestamp(validity.not_before.0.saturating_add(i64::try_from(share).unwrap_or(i64::MAX)))
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
