//! What is to be done about a binding whose files are servable, and what came of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

use crate::binding::{Binding, Wish};
use crate::bundle::{Facts, Fingerprint, LeafDigest};
use crate::claims::Place;
use crate::decide::Decision;
use crate::desired::{Desired, Refusal};
use crate::held::{Held, Snapshot};
use crate::kong::{Failure, Query, Refused};
use crate::names::Sni;
use crate::quote::Quoted;

/// What Kong was found to hold.
#[derive(Clone)]
pub(super) struct Look {
    /// What is written into: what runs, or what a file has.
    pub(super) base: Arc<Snapshot>,
    /// What runs.
    pub(super) running: Arc<Snapshot>,
}

impl From<Arc<Snapshot>> for Look {
    fn from(snapshot: Arc<Snapshot>) -> Self {
        Self { base: Arc::clone(&snapshot), running: snapshot }
    }
}

/// A binding whose files are servable.
pub(super) struct Candidate {
    pub(super) binding: Arc<Binding>,
    pub(super) wish: Wish,
    pub(super) query: Query,
    /// What Kong would not have of it.
    pub(super) refused: Refused,
}

impl Candidate {
    pub(super) fn facts(&self) -> &Facts {
        self.wish.facts()
    }

    /// Where it is configured to be, if it is a CA certificate with a place of its own.
    pub(super) fn place(&self) -> Option<(LeafDigest, Place)> {
        let Wish::Authorities(settings, authorities) = &self.wish else { return None };
        let [authority] = authorities.members() else { return None };
        let place = Place { binding: self.binding.name.clone(), id: settings.id? };
        Some((authority.digest(), place))
    }
}

/// What is to be done about a candidate.
pub(super) struct Planned {
    pub(super) candidate: Candidate,
    /// What Kong holds, if it holds anything.
    pub(super) held: Option<Box<Held>>,
    pub(super) plan: Plan,
    /// Whether Kong was looked at for this candidate alone, just now.
    pub(super) is_fresh: bool,
    /// Names for which Kong goes on serving something else: the nodes are to be told again.
    pub(super) announce: BTreeSet<Sni>,
}

impl Planned {
    /// Whether something is to be written for it.
    pub(super) fn writes(&self) -> bool {
        let Plan::Decided(decided) = &self.plan else { return false };
        decided.decision.writes() && decided.waits_for.is_none()
    }

    /// Whether something would be written for it if another writer did not undo it again and again.
    pub(super) fn contends(&self) -> bool {
        matches!(&self.plan, Plan::Decided(decided) if decided.decision.contends())
    }

    /// Gives keys away: they are needed no more.
    pub(super) fn put_down(&mut self) {
        self.candidate.wish.put_down();
        if let Plan::Decided(decided) = &mut self.plan
            && let Desired::Certificate(_, bundle) = &mut decided.desired
        {
            bundle.put_down();
        }
    }

    /// What is to be written for it, if anything is written; with `even_in_sync` also what Kong
    /// holds already.
    pub(super) fn change(&self, even_in_sync: bool) -> Option<&Desired> {
        let Plan::Decided(decided) = &self.plan else { return None };
        let is_held = even_in_sync && decided.decision == Decision::InSync;
        (decided.decision.contends() || is_held).then_some(&decided.desired)
    }
}

pub(super) enum Plan {
    /// Kong could not be looked at.
    Unread(Failure),
    /// No object may be written.
    Refused(Refusal),
    /// Kong refused just this before.
    RefusedBefore(Failure, Box<Decided>),
    Decided(Box<Decided>),
}

pub(super) struct Decided {
    pub(super) desired: Desired,
    pub(super) decision: Decision,
    /// The last bundle on which file and Kong agreed.
    pub(super) settled: Option<Fingerprint>,
    /// What other bindings of ours are to write, if that is all that Kong lacks.
    pub(super) waits_for: Option<Quoted>,
    /// CA certificates to which nothing refers, of those that were doubted.
    pub(super) unreferenced: BTreeSet<Uuid>,
    /// Another writer undid what was settled, and it was not counted yet.
    pub(super) is_revert: bool,
}

/// What came of a plan.
pub(super) enum Outcome {
    /// Nothing was to be written.
    Unwritten,
    /// It would have been written.
    DryRun,
    /// Kong holds it now.
    Written(Box<Held>),
    /// Kong holds this much of it, and would not have the rest.
    WrittenInPart(Box<Held>, Failure),
    /// What Kong holds was announced to its nodes.
    Announced,
    /// It was not, because Kong would not have it, or did not answer.
    NotAnnounced(Failure),
    /// It was not, because Kong does not reach its database.
    NoDatabase,
    /// It was not answered in time, and may be applied yet.
    Applying,
    /// It was not answered, or refused.
    Failed(Failure),
    /// Nothing was sent, because Kong could not be looked at again.
    Unsent(Failure),
    /// Nothing was sent, because the files hold something else than what was judged.
    FilesMoved,
}
