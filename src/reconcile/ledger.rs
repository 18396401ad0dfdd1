//! The only memory: what the bindings ask for, and where each stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::memory::{Memory, Pair};
use super::plan::{Candidate, Decided, Plan, Planned};
use super::proving::Proof;
use super::subject::Proving;
use crate::binding::{Binding, Material};
use crate::bundle::{self, Facts};
use crate::claims::Claims;
use crate::clock::Timestamp;
use crate::decide::{Decision, Situation, decide};
use crate::desired::{Desired, Own, Owner, Want, desired};
use crate::held::{Held, Snapshot};
use crate::kong::Failure;
use crate::metrics::Metrics;
use crate::names::BindingName;
use crate::settings::Settings;

pub(super) struct Ledger {
    pub(super) metrics: Metrics,
    pub(super) own: Own,
    pub(super) hold: Duration,
    pub(super) debounce: Duration,
    forced: BTreeSet<BindingName>,
    pub(super) proof: Proof,
    pub(super) claims: Claims,
    pub(super) memory: BTreeMap<BindingName, Memory>,
}

impl Ledger {
    pub(super) fn new(
        settings: &Settings,
        metrics: Metrics,
        forced: BTreeSet<BindingName>,
    ) -> Self {
        Self {
            metrics,
            own: Own::new(&settings.instance, settings.admin.workspace.as_ref()),
            hold: settings.hold,
            debounce: settings.debounce,
            forced,
            proof: Proof::new(!settings.dry_run),
            claims: Claims::default(),
            memory: BTreeMap::new(),
        }
    }

    /// Makes a binding known, so that the others leave it what is its own.
    pub(super) fn expect(&mut self, binding: &Binding, now: Timestamp) {
        if self.memory.contains_key(&binding.name) {
            return;
        }
        let mut memory = Memory::new(now);
        memory.status.kind = binding.kind();
        self.memory.insert(binding.name.clone(), memory);
        match &binding.material {
            Material::Certificate(files) => {
                let id = self.own.certificate_of(&binding.name, &files.settings);
                self.claims.claim_object(&binding.name, id);
                if let Some(snis) = &files.settings.snis {
                    self.claims.claim_names(&binding.name, snis, true);
                }
            }
        }
    }

    pub(super) fn memory(&mut self, name: &BindingName, now: Timestamp) -> &mut Memory {
        self.memory.entry(name.clone()).or_insert_with(|| Memory::new(now))
    }
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
        let announce = match &plan {
            Plan::Decided(decided) if decided.decision == Decision::InSync => {
                let memory = self.memory.get(&candidate.binding.name);
                let proving = memory.and_then(|memory| memory.proving.as_ref());
                let announcing = proving.filter(|proving| proving.ladder.is_announcing());
                let still_held = |proving: &Proving| {
                    let held = held.as_ref().and_then(Held::certificate);
                    let subject = self.subject(held, candidate.facts(), true);
                    proving.to_announce(subject.as_ref())
                };
                announcing.map(still_held).unwrap_or_default()
            }
            _ => BTreeSet::new(),
        };
        Planned { candidate, held, plan, is_fresh, announce }
    }

    fn decide(
        &self,
        candidate: &Candidate,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> (Plan, Option<Held>) {
        let name = &candidate.binding.name;
        let facts = candidate.facts();
        let memory = self.memory.get(name);
        let settled = memory.and_then(|memory| memory.settled_in(snapshot));
        let want = Want { binding: name, own: &self.own, claims: &self.claims };
        let desired = match desired(&want, &candidate.wish, snapshot, settled) {
            Ok(desired) => desired,
            Err(refusal) => return (Plan::Refused(refusal), None),
        };
        let held = desired.held(snapshot);
        let held_facts = held.as_ref().map(|held| &held.facts);
        let (pushes, since_push) = memory.map(Memory::pushes).unwrap_or_default();
        let decision = decide(&Situation {
            now,
            file: Some(facts),
            held: held_facts.map(|held| held.as_ref().map_err(|reason| *reason)),
            fields_differ: desired.fields_differ(),
            is_shared: true,
            settled,
            unchanged_for: memory
                .map(|memory| memory.unchanged_for(&pair(facts, held_facts)))
                .unwrap_or_default(),
            hold: self.hold,
            reverts: memory.map_or(0, Memory::reverts),
            pushes,
            since_push,
            forced: self.forced.contains(name),
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
            let Desired::Certificate(desired, _) = &decided.desired;
            self.claims.claim_object(&planned.candidate.binding.name, desired.id);
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
}

pub(super) fn pair(facts: &Facts, held: Option<&Result<Facts, bundle::Reason>>) -> Pair {
    let held = held.map(|held| match held {
        Ok(held) => Ok(held.fingerprint),
        Err(reason) => Err(*reason),
    });
    (facts.fingerprint, held)
}
