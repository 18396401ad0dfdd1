//! What is due, and what follows from what was found out.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::report::Around;
use super::{Sidecar, resync_in};
use crate::kong::Wire;
use crate::names::BindingName;
use crate::proof::{Errand, Evidence};
use crate::reconcile::{Again, Ask, Conclusion, Passed, Prove, Reconciler, Woken};
use crate::schedule::{Due, Trigger};

/// A longer sleep is cut: the wall clock may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(60 * 60);

/// The longest that a slow Kong is not asked what it runs.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// So that what fails together is looked at together.
const SOON: Duration = Duration::from_secs(1);

/// There is something to prove.
const AT_ONCE: Prove = Prove::After(Duration::ZERO);

impl Sidecar<'_> {
    /// What is done at its time whether anything happened or not.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.next_poll <= now {
            self.next_poll = now + self.settings.poll_interval;
            self.poll();
        }
        if self.next_resync <= now {
            self.next_resync = now + resync_in(self.settings.resync_interval);
            for binding in self.bindings.iter() {
                self.schedule.at(&binding.name, now, Trigger::Resync);
            }
            self.looks_without_name = true;
        }
        if self.ready_by.is_some_and(|by| by <= now) {
            self.ready_by = None;
            self.publish(None, &[]);
        }
    }

    /// What is asked of Kong now: a Kong without a database may have forgotten what it was sent.
    pub(super) fn ask<W: Wire>(&mut self, reconciler: &Reconciler<W>, due: &Due) -> Ask {
        let now = Instant::now();
        if !reconciler.watches_hash() {
            self.next_hash = None;
            return Ask { kong: due.ask_kong, hash: false };
        }
        let soon = now + self.settings.declarative.poll;
        let is_due = *self.next_hash.get_or_insert(soon) <= now;
        if is_due {
            self.next_hash = Some(soon);
        }
        Ask { kong: due.ask_kong, hash: is_due && due.ask_kong }
    }

    pub(super) fn next_deadline(&self) -> Instant {
        let others = [self.schedule.next(), self.ready_by, self.next_hash];
        others.into_iter().flatten().fold(self.next_poll.min(self.next_resync), Instant::min)
    }

    pub(super) fn woken_by(&self, due: Due) -> Vec<Woken> {
        let triggers: BTreeSet<Trigger> = due.looks.values().copied().collect();
        for trigger in triggers {
            self.metrics.reconcile(trigger.as_str());
        }
        let woken = due.looks.into_iter().filter_map(|(name, trigger)| {
            let binding = self.bindings.named(&name)?.clone();
            Some(Woken { binding, even_if_unchanged: trigger.ignores_files() })
        });
        woken.collect()
    }

    pub(super) fn concluded(&mut self, passed: &Passed, ask: Ask, around: Around) {
        let now = Instant::now();
        let conclusions = &passed.conclusions;
        let wish = conclusions.iter().filter_map(|conclusion| match conclusion.again {
            Some(Again::Retry { not_before }) => not_before,
            _ => None,
        });
        let wish = wish.max();
        let answers: Vec<bool> =
            conclusions.iter().filter_map(|conclusion| conclusion.answered).collect();
        if ask.kong && !answers.is_empty() {
            let answered = answers.contains(&true);
            self.schedule.pass_ended(answered, now, wish, fastrand::f64());
        }
        if let (true, Some(next)) = (ask.hash, &mut self.next_hash) {
            // The loop is not to wait for nothing but a Kong that is slow to answer.
            let took = now.saturating_duration_since(*next - self.settings.declarative.poll);
            *next = (*next).max(now + (took * 4).min(LONGEST_REST));
        }
        // What failed together is tried again together: by one read of all, if they are many.
        let jitter = fastrand::f64();
        for conclusion in conclusions {
            self.plan_next(conclusion, now, jitter);
        }
        for name in &passed.disturbed {
            self.schedule.at(name, now, Trigger::Timer);
        }
        if passed.wants_all {
            for binding in self.bindings.iter() {
                self.schedule.at(&binding.name, now, Trigger::Configuration);
            }
        }
        // What is renewed for its names may have to be renewed for clients without one.
        self.looks_without_name |=
            conclusions.iter().any(|conclusion| conclusion.prove == Some(AT_ONCE));
        self.publish(Some(around), conclusions);
    }

    /// The handshakes that are due; first that with which the others are compared.
    pub(super) fn errands<W: Wire>(
        &mut self,
        reconciler: &Reconciler<W>,
        due: &Due,
    ) -> Vec<Errand> {
        let looks_without_name = std::mem::take(&mut self.looks_without_name);
        let first = looks_without_name.then(|| reconciler.errand_without_name()).flatten();
        let mut errands: Vec<Errand> = first.into_iter().collect();
        for name in &due.proofs {
            match reconciler.errand(name) {
                Some(errand) => errands.push(errand),
                // There may be a port, or something to ask for, later.
                None => self.prove_within_resync(name),
            }
        }
        errands
    }

    /// Handshakes were made.
    pub(super) fn proved<W: Wire>(&mut self, reconciler: &mut Reconciler<W>, evidence: Evidence) {
        let concerned = reconciler.hear(evidence, self.clock.now());
        if let Some(conclusion) = &concerned {
            self.plan_proof(conclusion);
            let wait = match conclusion.again {
                Some(Again::AtOnce) => Some(Duration::ZERO),
                Some(Again::Soon) => Some(SOON),
                _ => None,
            };
            if let Some(wait) = wait {
                self.schedule.at(&conclusion.name, Instant::now() + wait, Trigger::Proof);
            }
        }
        let around = Around { kong: reconciler.kong_status(), findings: reconciler.findings() };
        self.publish(Some(around), concerned.as_slice());
    }

    fn plan_proof(&mut self, conclusion: &Conclusion) {
        let now = Instant::now();
        match conclusion.prove {
            Some(Prove::After(wait)) => self.schedule.prove(&conclusion.name, now + wait),
            Some(Prove::WithinResync) => self.prove_within_resync(&conclusion.name),
            None => {}
        }
    }

    fn prove_within_resync(&mut self, name: &BindingName) {
        let wait = self.settings.resync_interval.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.schedule.prove(name, Instant::now() + wait);
    }

    fn plan_next(&mut self, conclusion: &Conclusion, now: Instant, jitter: f64) {
        let name = &conclusion.name;
        self.schedule.concluded(name);
        self.plan_proof(conclusion);
        match conclusion.again {
            Some(Again::Retry { not_before }) => {
                self.schedule.retry(name, now, not_before, jitter);
                return;
            }
            Some(Again::After(wait)) => self.schedule.at(name, now + wait, Trigger::Timer),
            Some(Again::AtOnce) => self.schedule.at(name, now, Trigger::Proof),
            Some(Again::Soon) => self.schedule.at(name, now + SOON, Trigger::Proof),
            Some(Again::At(time)) => {
                // The whole second is reached a little after it was counted down to.
                let wait = self.clock.now().until(time) + Duration::from_millis(50);
                self.schedule.at(name, now + wait.min(LONGEST_SLEEP), Trigger::Timer);
            }
            None => {}
        }
        self.schedule.succeeded(name);
    }
}
