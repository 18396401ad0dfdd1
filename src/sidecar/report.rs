//! What is known, told to everyone who asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Sidecar;
use crate::log::tell;
use crate::reconcile::Conclusion;
use crate::status::{BindingStatus, KongStatus, Status};

/// What is known besides the bindings.
pub(super) struct Around {
    pub(super) kong: KongStatus,
    pub(super) findings: BTreeSet<String>,
}

impl Sidecar<'_> {
    /// Tells what is known.
    pub(super) fn publish(&mut self, around: Option<Around>, conclusions: &[Conclusion]) {
        let now = self.clock.now();
        let polling = self.watch.polling().map(str::to_owned);
        let is_idle = self.schedule.next().is_none_or(|at| at > Instant::now());
        let mut is_ready = false;
        self.status.send_modify(|status| {
            // A copy is made only while someone reads the last one.
            let status = Arc::make_mut(status);
            note(status, conclusions);
            if status.bindings.len() != self.bindings.len() {
                let mut known = std::mem::take(&mut status.bindings);
                // What all of a kind start with is there once.
                let mut starting = BTreeMap::new();
                let all = self.bindings.iter().map(|binding| {
                    let kind = binding.kind();
                    let one = starting.entry(kind).or_insert_with(|| {
                        Arc::new(BindingStatus { kind, ..BindingStatus::starting(now) })
                    });
                    let status = known.remove(&binding.name).unwrap_or_else(|| Arc::clone(one));
                    (binding.name.clone(), status)
                });
                status.bindings = all.collect();
            }
            if let Some(around) = around {
                status.kong = around.kong;
                status.findings = around.findings;
            }
            status.polling = polling;
            status.idle = is_idle;
            is_ready = !status.ready && self.is_ready(status);
            status.ready |= is_ready;
        });
        if is_ready {
            self.ready_by = None;
            tell!(READY);
        }
    }

    fn is_ready(&self, status: &Status) -> bool {
        let mut bindings = status.bindings.values().map(|binding| &**binding);
        if self.settings.ready.strict {
            bindings.all(BindingStatus::is_in_place)
        } else {
            self.ready_by.is_none() || bindings.all(BindingStatus::is_concluded)
        }
    }
}

/// Tells what a pass has found out so far.
pub(super) fn tell_meanwhile(status: &watch::Sender<Arc<Status>>, conclusions: &[Conclusion]) {
    status.send_modify(|status| {
        let status = Arc::make_mut(status);
        note(status, conclusions);
        status.idle = false;
    });
}

fn note(status: &mut Status, conclusions: &[Conclusion]) {
    let told = conclusions.iter();
    let told = told.map(|one| (one.name.clone(), Arc::clone(&one.status)));
    status.bindings.extend(told);
}
