//! Where a binding stands, in words: a state, a reason, and a sentence that says what to do.

use std::time::Duration;

use tracing::{debug, info, warn};

use crate::bundle::{Facts, Reason as BundleReason};
use crate::clock::Timestamp;
use crate::decide::{Decision, FLAP_PAUSE, REVERTS, Wait};
use crate::kong::Failure;
use crate::names::BindingName;
use crate::reconcile::Again;
use crate::status::{BindingStatus, Reason, State};

#[derive(Clone)]
pub(super) struct Verdict {
    pub(super) state: State,
    pub(super) reason: Option<Reason>,
    pub(super) message: Option<String>,
}

impl Verdict {
    pub(super) const IN_SYNC: Self = Self { state: State::InSync, reason: None, message: None };

    pub(super) fn new(state: State, reason: Reason, message: impl Into<String>) -> Self {
        Self { state, reason: Some(reason), message: Some(message.into()) }
    }

    /// Kong holds it, and was not seen to serve it yet.
    pub(super) fn proving() -> Self {
        let message = "kong holds it; no handshake has shown it yet";
        Self::new(State::Pending, Reason::Proving, message)
    }

    /// Names that Kong has not cached get its default certificate now.
    pub(super) fn no_database() -> Self {
        let message = "kong does not reach its database, and serves what it has cached; mend the database, or the way to it";
        Self::new(State::Unreachable, Reason::NoDatabase, message)
    }

    pub(super) fn not_yet_valid(from: Timestamp) -> Self {
        let message = format!("the certificate begins at {from}; it is pushed then");
        Self::new(State::NotYetValid, Reason::NotBefore, message)
    }

    /// What follows from a decision not to write, and when to look again; `rest` is what is left of
    /// the hold.
    pub(super) fn of_decision(
        decision: Decision,
        facts: &Facts,
        rest: Duration,
    ) -> (Self, Option<Again>) {
        match decision {
            Decision::InSync => (Self::IN_SYNC, None),
            Decision::NotYetValid { from } => (Self::not_yet_valid(from), Some(Again::At(from))),
            Decision::Hold(wait) => Self::of_wait(wait, rest),
            Decision::Contested => {
                let message = format!(
                    "another writer undid it {REVERTS} times within an hour; find it by the object's updated_at, or set ID to an object of its own"
                );
                (Self::new(State::Refused, Reason::Contested, message), None)
            }
            // The files were servable when they were read; they expired since.
            Decision::Keep | Decision::Create | Decision::Amend | Decision::Push(_) => {
                let at = facts.validity.not_after;
                let message = format!("the certificate expired at {at}; renew it");
                (Self::new(State::Invalid, Reason::Bundle(BundleReason::Expired), message), None)
            }
        }
    }

    fn of_wait(wait: Wait, rest: Duration) -> (Self, Option<Again>) {
        let (message, again) = match wait {
            Wait::FileTemporary => (
                "the file holds cert-manager's temporary certificate, kong a real one; it waits for the issuer".to_owned(),
                None,
            ),
            Wait::Flapping { remaining } => (
                format!("the files change again and again, and are pushed every {} s until they rest; look for two writers of the Secret", FLAP_PAUSE.as_secs()),
                Some(Again::After(remaining)),
            ),
            Wait::KongNewer { overdue: false } => (
                "kong's certificate began later than the file's, so another replica is ahead; it ends when this node's volume follows, or with `sync --force NAME` if the file's is the one to serve".to_owned(),
                Some(Again::After(rest)),
            ),
            Wait::KongNewer { overdue: true } => (
                "kong's certificate still began later than the file's; renew the Secret, or say `sync --force NAME` if the file's is the one to serve".to_owned(),
                None,
            ),
            Wait::RollbackPossible { remaining } => (
                "kong went to a certificate that is no newer than the file's; if the file does not follow, it is pushed after HOLD".to_owned(),
                Some(Again::After(remaining)),
            ),
        };
        (Self::new(State::Held, Reason::Held(wait.as_str()), message), again)
    }

    pub(super) fn of_failure(failure: &Failure) -> Self {
        let (state, reason) = match failure {
            Failure::Refused { .. } => (State::Refused, Reason::ByKong),
            Failure::Conflict { .. } => (State::Pending, Reason::Conflict),
            Failure::Unauthorized { .. } => (State::Unauthorized, Reason::Credentials),
            Failure::Unusable(_) => (State::Unauthorized, Reason::CredentialsUnusable),
            Failure::NoSuchPath { .. } => (State::Unreachable, Reason::NoSuchPath),
            Failure::NotKong { .. } => (State::Unreachable, Reason::NotKong),
            Failure::Unavailable { .. } | Failure::NotSent => {
                (State::Unreachable, Reason::NoAnswer)
            }
        };
        Self::new(state, reason, failure.to_string())
    }

    /// `DRY_RUN` keeps it from being written.
    pub(super) fn of_dry_run(decision: Decision) -> Self {
        let would = match decision {
            Decision::Create => "it would be created",
            Decision::Amend => "its SNIs or tags would be written",
            _ => "it would be replaced",
        };
        Self::new(State::Pending, Reason::DryRun, would)
    }

    /// What `status` says already.
    pub(super) fn unchanged(status: &BindingStatus) -> Self {
        Self { state: status.state, reason: status.reason, message: status.message.clone() }
    }
}

/// Why something was written.
pub(super) const fn why(decision: Decision) -> &'static str {
    match decision {
        Decision::Create => "kong held nothing",
        Decision::Amend => "SNIs or tags differed",
        Decision::Push(why) => why.as_str(),
        _ => "",
    }
}

/// Says where a binding stands now that it stood elsewhere before.
pub(super) fn tell(name: &BindingName, status: &BindingStatus) {
    let reason = status.reason.map_or("", Reason::as_str);
    let detail = status.message.as_deref().unwrap_or_default();
    let state = status.state;
    match state {
        State::InSync => info!(binding = %name, "in sync"),
        State::Held => info!(binding = %name, reason, detail, "held"),
        State::Pending if status.reason == Some(Reason::Proving) => {
            debug!(binding = %name, "not seen served yet");
        }
        State::Pending | State::NotYetValid | State::Unsupported => {
            info!(binding = %name, %state, reason, detail, "not pushed");
        }
        State::Invalid
        | State::Refused
        | State::Unauthorized
        | State::Unreachable
        | State::NotServed => {
            warn!(binding = %name, %state, reason, detail, "not in place");
        }
    }
}
