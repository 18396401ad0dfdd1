//! The only memory: what the bindings ask for, and where each stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::memory::{Memory, Pair, ReadByNginx};
use super::plan::{Candidate, Decided, Look, Plan, Planned};
use super::proving::Proof;
use super::reloading::Reloads;
use super::subject::Proving;
use super::together::{Declared, SURE_FOR};
use crate::binding::{Binding, Kind, Material};
use crate::bundle::{self, Facts, Fingerprint};
use crate::claims::Claims;
use crate::clock::Timestamp;
use crate::decide::{Decision, Situation, decide};
use crate::declarative::Entity;
use crate::desired::{self, Desired, Own, Owner, Want};
use crate::held::Held;
use crate::kong::Failure;
use crate::metrics::Metrics;
use crate::names::BindingName;
use crate::nginx::Reload;
use crate::packed::pack;
use crate::settings::Settings;
use crate::volume::Files;

pub(super) struct Ledger {
    pub(super) files: Arc<dyn Files>,
    pub(super) metrics: Metrics,
    pub(super) own: Own,
    pub(super) hold: Duration,
    pub(super) debounce: Duration,
    forced: BTreeSet<BindingName>,
    /// Whether other replicas write to what this Kong reads.
    pub(super) is_shared: bool,
    pub(super) proof: Proof,
    pub(super) reloads: Reloads,
    pub(super) declared: Declared,
    /// How often a Kong without a database is asked what it runs.
    pub(super) poll: Duration,
    /// `DECLARATIVE__FILE` is set.
    pub(super) has_file: bool,
    /// Write although another controller does.
    pub(super) force: bool,
    pub(super) claims: Claims,
    /// Objects that are fed by their ids alone: CA certificates in place, licences.
    pub(super) places: BTreeMap<BindingName, (Entity, Uuid)>,
    /// Certificates of `DECLARATIVE__FILE` that ran with a newer pair when both were first seen: by
    /// their ids, what the file had and what ran.
    pub(super) found: Option<BTreeMap<Uuid, (Option<Fingerprint>, Fingerprint)>>,
    /// Bindings that take their names from others.
    takers: BTreeSet<BindingName>,
    pub(super) memory: BTreeMap<BindingName, Box<Memory>>,
}

impl Ledger {
    pub(super) fn new(
        settings: &Settings,
        files: Arc<dyn Files>,
        metrics: Metrics,
        forced: BTreeSet<BindingName>,
        nginx: Box<dyn Reload>,
    ) -> Self {
        Self {
            files,
            metrics,
            own: Own::new(&settings.instance, settings.admin.workspace.as_ref()),
            hold: settings.hold,
            debounce: settings.debounce,
            forced,
            is_shared: true,
            proof: Proof::new(!settings.dry_run, &settings.proxy),
            reloads: Reloads::new(nginx, settings),
            declared: Declared::default(),
            poll: settings.declarative.poll,
            has_file: settings.declarative.file.is_some(),
            force: settings.declarative.force,
            claims: Claims::default(),
            places: BTreeMap::new(),
            found: None,
            takers: BTreeSet::new(),
            memory: BTreeMap::new(),
        }
    }

    /// Makes a binding known, so that the others leave it what is its own.
    pub(super) fn expect(&mut self, binding: &Binding, now: Timestamp) {
        if self.memory.contains_key(&binding.name) {
            return;
        }
        let memory = self.memory(&binding.name, now);
        memory.status_mut().kind = binding.kind();
        memory.read_by_nginx = (binding.kind() == Kind::Reload)
            .then(|| Box::new(ReadByNginx { source: binding.source().clone(), written: None }));
        match &binding.material {
            Material::Certificate(settings) => {
                let id = self.own.certificate_of(&binding.name, settings);
                self.claims.claim_object(&binding.name, id);
                if let Some(snis) = &settings.snis {
                    self.claims.claim_names(&binding.name, snis, true);
                }
                if settings.take_snis {
                    self.takers.insert(binding.name.clone());
                }
            }
            // Kong holds each CA once, and licences without names: no two of them can fight.
            Material::Authorities(settings) => {
                if let Some(id) = settings.id {
                    self.places.insert(binding.name.clone(), (Entity::Authority, id));
                }
            }
            Material::License(settings) => {
                let id = settings.id.unwrap_or_else(|| self.own.license(&binding.name));
                self.places.insert(binding.name.clone(), (Entity::License, id));
            }
            Material::Reload(_) | Material::Configuration => {}
        }
    }

    /// Whether every binding that Kong holds something for is among these.
    pub(super) fn are_all_for_kong(&self, looked: &BTreeSet<BindingName>) -> bool {
        let mut all = self.memory.iter();
        all.all(|(name, memory)| memory.status.kind == Kind::Reload || looked.contains(name))
    }

    /// The objects of bindings that take names from others.
    pub(super) fn takers(&self) -> impl Iterator<Item = Uuid> {
        self.takers.iter().filter_map(|name| self.claims.fed_by(name))
    }

    /// Takes no more room than is needed, after many became known.
    pub(super) fn pack(&mut self) {
        pack(&mut self.memory);
        self.claims.pack();
        self.metrics.pack();
    }

    /// What is remembered of a binding, if it is known.
    pub(super) fn known(&self, name: &BindingName) -> Option<&Memory> {
        self.memory.get(name).map(Box::as_ref)
    }

    pub(super) fn memory(&mut self, name: &BindingName, now: Timestamp) -> &mut Memory {
        self.memory.entry(name.clone()).or_insert_with(|| {
            self.metrics.begin(name);
            Box::new(Memory::new(now))
        })
    }

    /// Decides about a candidate after a look at Kong.
    pub(super) fn plan(
        &self,
        candidate: Candidate,
        look: Result<Look, Failure>,
        is_fresh: bool,
        now: Timestamp,
    ) -> Planned {
        let (plan, held) = match look {
            Ok(look) => self.decide(&candidate, &look, now),
            Err(failure) => (Plan::Unread(failure), None),
        };
        let announce = match &plan {
            Plan::Decided(decided) if decided.decision == Decision::InSync => {
                let memory = self.known(&candidate.binding.name);
                let proving = memory.and_then(|memory| memory.proving.as_deref());
                let announcing = proving.filter(|proving| proving.ladder.is_announcing());
                let still_held = |proving: &Proving| {
                    let held = held.as_deref().and_then(Held::certificate);
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
        look: &Look,
        now: Timestamp,
    ) -> (Plan, Option<Box<Held>>) {
        let name = &candidate.binding.name;
        let facts = candidate.facts();
        let memory = self.known(name);
        let settled = memory.and_then(|memory| memory.settled_in(&look.running));
        let want = Want { binding: name, own: &self.own, claims: &self.claims };
        let desired = match desired::desired(&want, &candidate.wish, &look.base, settled) {
            Ok(desired) => desired,
            Err(refusal) => return (Plan::Refused(refusal), None),
        };
        let held = desired.held(&look.running).map(Box::new);
        let waits_for = desired.waits_for(&look.running);
        let whole = held.as_deref().filter(|_| !desired.lacks_some(&look.running));
        let held_facts = whole.map(|held| &held.facts);
        // What is written goes into the base; what differs is what runs.
        let fields_differ = if Arc::ptr_eq(&look.base, &look.running) {
            desired.fields_differ()
        } else {
            desired::desired(&want, &candidate.wish, &look.running, settled)
                .map_or(true, |there| there.fields_differ())
        };
        let decision = decide(&Situation {
            now,
            file: Some(facts),
            held: held_facts.map(|held| held.as_ref().map_err(|reason| *reason)),
            fields_differ,
            is_shared: self.is_shared,
            settled,
            unchanged_for: memory
                .map(|memory| memory.unchanged_for(&pair(facts, held_facts)))
                .unwrap_or_default(),
            hold: self.hold,
            reverts: memory.map_or(0, Memory::reverts),
            pushes: memory.map_or(0, Memory::pushes),
            since_write: memory.map_or(Duration::MAX, Memory::since_write),
            forced: self.forced.contains(name),
        });
        let refused = memory.and_then(|memory| memory.refused.as_deref());
        let refused = refused.filter(|refused| {
            decision.writes()
                && refused.file == facts.fingerprint
                && refused.held == held
                && (self.is_shared || refused.since.elapsed() < SURE_FOR)
        });
        let is_revert = decision.contends()
            && settled == Some(facts.fingerprint)
            && memory.is_some_and(|memory| !memory.repairing)
            && refused.is_none();
        let doubted = memory.map(Memory::doubted).unwrap_or_default();
        let unreferenced = &doubted - look.running.cleared();
        let decided =
            Box::new(Decided { desired, decision, settled, waits_for, unreferenced, is_revert });
        let plan = match refused {
            Some(refused) => Plan::RefusedBefore(refused.why.clone(), decided),
            None => Plan::Decided(decided),
        };
        (plan, held)
    }

    /// What is planned to be fed by one binding is not adopted by the next, and a CA certificate that
    /// gets to its place is created nowhere else.
    pub(super) fn claim(&mut self, planned: &Planned) {
        let name = &planned.candidate.binding.name;
        match &planned.plan {
            Plan::Unread(_) => {}
            // It feeds none.
            Plan::Refused(_) => self.claims.release_place(name),
            Plan::RefusedBefore(_, decided) | Plan::Decided(decided) => {
                let is_refused = matches!(planned.plan, Plan::RefusedBefore(..));
                match planned.candidate.place().filter(|_| !is_refused) {
                    Some((digest, place)) => self.claims.claim_place(digest, place),
                    None => self.claims.release_place(name),
                }
                if let Desired::Certificate(desired, _) = &decided.desired {
                    self.claims.claim_object(name, desired.id);
                }
            }
        }
    }

    pub(super) fn is_in_conflict(&self, name: &BindingName) -> bool {
        self.known(name).is_some_and(|memory| memory.is_in_conflict)
    }

    /// Bindings that left a name to one of these objects, or used a CA certificate where another had
    /// its place.
    pub(super) fn disturbed_by(&self, written: &BTreeSet<Uuid>) -> Vec<BindingName> {
        if written.is_empty() {
            return Vec::new();
        }
        let was_written =
            |owner: &Owner| matches!(owner, Owner::Object(id) if written.contains(id));
        let is_place =
            |id: &Uuid| self.places.values().any(|place| *place == (Entity::Authority, *id));
        let places: BTreeSet<Uuid> = written.iter().copied().filter(is_place).collect();
        let was_used = |name: &BindingName, memory: &Memory| {
            let mut used = memory.status.objects.iter();
            !places.is_empty()
                && !self.places.contains_key(name)
                && used.any(|object| places.contains(&object.id))
        };
        let is_disturbed = |name: &BindingName, memory: &Memory| {
            memory.left_to.iter().any(was_written) || was_used(name, memory)
        };
        let disturbed = self.memory.iter().filter(|(name, memory)| is_disturbed(name, memory));
        disturbed.map(|(name, _)| name.clone()).collect()
    }

    /// There is no such binding any more.
    pub(super) fn forget(&mut self, binding: &BindingName) {
        self.memory.remove(binding);
        self.places.remove(binding);
        self.takers.remove(binding);
        self.reloads.forget(binding);
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
