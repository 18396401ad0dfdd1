//! Where a binding stands, in words: a state, a reason, and a sentence that says what to do.

use std::time::Duration;

use crate::bundle::{Facts, Reason as BundleReason};
use crate::clock::Timestamp;
use crate::decide::{Decision, FLAP_PAUSE, RESTORE_PAUSE, REVERTS, Wait};
use crate::desired::{Desired, DesiredAuthority};
use crate::kong::Failure;
use crate::log::tell;
use crate::names::BindingName;
use crate::nginx::NoReload;
use crate::quote::Quoted;
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

    /// nginx should have read it, and no handshake can tell.
    pub(super) fn in_sync_unseen() -> Self {
        let message = "nginx has started its workers since, which is all that is known, as no port shows the pair; what Kong copies when it starts (lua_ssl_trusted_certificate, and through it a data plane's shared cluster_cert) needs a restart";
        Self { message: Some(message.to_owned()), ..Self::IN_SYNC }
    }

    pub(super) fn new(state: State, reason: Reason, message: impl Into<String>) -> Self {
        Self { state, reason: Some(reason), message: Some(message.into()) }
    }

    /// Kong holds it, and was not seen to serve it yet.
    pub(super) fn proving() -> Self {
        let message = "kong holds it; no handshake has shown it yet";
        Self::new(State::Pending, Reason::Proving, message)
    }

    /// A Kong without a database did not answer in time.
    pub(super) fn applying() -> Self {
        let message = "kong did not answer in time, and may go on with what it was sent; it is watched, and sent again if nothing comes of it";
        Self::new(State::Pending, Reason::Applying, message)
    }

    /// A Kong without a database has nothing to serve yet.
    pub(super) fn empty_configuration(has_file: bool) -> Self {
        let mend = if has_file {
            "mend DECLARATIVE__FILE"
        } else {
            "load one into it, or set DECLARATIVE__FILE to it"
        };
        let message = format!(
            "kong has no configuration yet, and would call itself ready with certificates alone; {mend}"
        );
        Self::new(State::Pending, Reason::EmptyConfiguration, message)
    }

    /// Another controller writes whole configurations, too.
    pub(super) fn another_controller(tag: &Quoted) -> Self {
        let message = format!(
            "another controller writes this kong's configuration (tag {tag}), and would undo ours; renew the certificates there, or set DECLARATIVE__FORCE if it is gone"
        );
        Self::new(State::Refused, Reason::Refusal("other_controller"), message)
    }

    /// Another writer takes it away, and it is put back all the same.
    pub(super) fn contested() -> Self {
        let message = format!(
            "another writer takes it away again and again, and it is put back at most every {} s; look for what else writes to this kong, such as a pipeline that deletes it or posts configurations, or for what starts it anew",
            RESTORE_PAUSE.as_secs()
        );
        Self::new(State::Refused, Reason::Contested, message)
    }

    /// nginx should have read it, and was not seen to serve it yet.
    pub(super) fn showing() -> Self {
        let message = "nginx should have read it; no handshake has shown it yet";
        Self::new(State::Pending, Reason::Proving, message)
    }

    /// As [`Self::showing`]; nobody can be asked.
    pub(super) fn port_unknown() -> Self {
        let message = "no handshake can be made before the Admin API tells kong's proxy port; set ADDRESS to the port that shows the pair, or leave it empty";
        Self::new(State::Pending, Reason::Proving, message)
    }

    /// nginx is told to reload.
    pub(super) fn reloading() -> Self {
        let message = "nginx is told to reload, and has not started new workers yet";
        Self::new(State::Pending, Reason::Reloading, message)
    }

    /// nginx was told not long ago.
    pub(super) fn reload_interval() -> Self {
        let message =
            "nginx was told to reload not long ago; it is told again after RELOAD__MIN_INTERVAL";
        Self::new(State::Pending, Reason::ReloadInterval, message)
    }

    /// `DRY_RUN` keeps nginx from being told.
    pub(super) fn would_reload() -> Self {
        Self::new(State::Pending, Reason::DryRun, "nginx would be told to reload")
    }

    /// nginx was told, and kept what it had.
    pub(super) fn not_reloaded() -> Self {
        let message = "nginx was told to reload, and went on with what it had, because it cannot take some file of its configuration; its error log says which";
        Self::new(State::Refused, Reason::NotReloaded, message)
    }

    /// nginx reads all of its files or none.
    pub(super) fn broken_beside(other: &BindingName) -> Self {
        let message = format!(
            "nginx reads all of its files or none, and those of {other} cannot be served, or not yet; mend them"
        );
        Self::new(State::Held, Reason::BrokenBeside, message)
    }

    /// nginx cannot be told.
    pub(super) fn no_reload(problem: &NoReload) -> Self {
        let state = match problem {
            NoReload::Denied { .. } | NoReload::Confined { .. } => State::Unauthorized,
            _ => State::Unreachable,
        };
        let (word, may_pass) = (problem.as_str(), problem.may_pass());
        Self::new(state, Reason::NoReload { word, may_pass }, problem.to_string())
    }

    /// Names that Kong has not cached get its default certificate now.
    pub(super) fn no_database() -> Self {
        let message = "kong does not reach its database, and serves what it has cached; mend the database, or the way to it";
        Self::new(State::Unreachable, Reason::NoDatabase, message)
    }

    pub(super) fn not_yet_valid(from: Timestamp) -> Self {
        let message = format!("it begins at {from}, and is pushed then");
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
            Decision::Contested { remaining: None } => {
                let message = format!(
                    "another writer undid it {REVERTS} times within an hour; find it by the object's updated_at, or set ID to an object of its own"
                );
                (Self::new(State::Refused, Reason::Contested, message), None)
            }
            Decision::Contested { remaining: Some(remaining) } => {
                (Self::contested(), Some(Again::After(remaining)))
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
                "kong's began later than the file's, so another replica is ahead; it ends when this node's volume follows, or with `sync --force NAME` if the file's is the one to serve".to_owned(),
                Some(Again::After(rest)),
            ),
            Wait::KongNewer { overdue: true } => (
                "kong's still began later than the file's; renew the Secret, or say `sync --force NAME` if the file's is the one to serve".to_owned(),
                None,
            ),
            Wait::RollbackPossible { remaining } => (
                "kong went to one that is no newer than the file's; if the file does not follow, it is pushed after HOLD".to_owned(),
                Some(Again::After(remaining)),
            ),
        };
        (Self::new(State::Held, Reason::Held(wait.as_str()), message), again)
    }

    pub(super) fn of_failure(failure: &Failure) -> Self {
        let (state, reason) = match failure {
            Failure::Refused { .. } | Failure::RefusedInPart { .. } => {
                (State::Refused, Reason::ByKong)
            }
            Failure::Conflict { .. } => (State::Pending, Reason::Conflict),
            Failure::Unauthorized { .. } => (State::Unauthorized, Reason::Credentials),
            Failure::Unusable(_) => (State::Unauthorized, Reason::CredentialsUnusable),
            Failure::NoSuchPath { .. } => (State::Unreachable, Reason::NoSuchPath),
            Failure::NoLicenses => (State::Unsupported, Reason::NoLicenses),
            Failure::NotKong { .. } => (State::Unreachable, Reason::NotKong),
            Failure::TooLarge { .. } => (State::Refused, Reason::TooLarge),
            Failure::Unavailable { .. } | Failure::NotSent => {
                (State::Unreachable, Reason::NoAnswer)
            }
        };
        Self::new(state, reason, failure.to_string())
    }

    /// `DRY_RUN` keeps it from being written.
    pub(super) fn of_dry_run(decision: Decision, desired: &Desired) -> Self {
        let would = match decision {
            Decision::Create => {
                would_be_created(desired).unwrap_or_else(|| "it would be created".to_owned())
            }
            Decision::Amend => "its SNIs or tags would be written".to_owned(),
            _ => "it would be replaced".to_owned(),
        };
        Self::new(State::Pending, Reason::DryRun, would)
    }

    /// What `status` says already.
    pub(super) fn unchanged(status: &BindingStatus) -> Self {
        Self { state: status.state, reason: status.reason, message: status.message.clone() }
    }
}

/// CA certificates have ids that can be named before they are there.
fn would_be_created(desired: &Desired) -> Option<String> {
    let shown =
        |object: &DesiredAuthority| format!("{} ({})", object.id, object.authority.subject());
    let created: Vec<String> = desired.created_authorities().map(shown).collect();
    let all = Quoted::new(&created.join(", "));
    (!created.is_empty()).then(|| format!("{} would be created: {all}", created.len()))
}

/// Why something was written.
pub(super) const fn why(decision: Decision) -> &'static str {
    match decision {
        Decision::Create => "kong held nothing",
        Decision::Amend => "SNIs or tags differed",
        Decision::Push(why) => why.as_str(),
        Decision::Contested { .. } => "another writer took it away",
        _ => "",
    }
}

/// Says where a binding stands now that it stood elsewhere before.
pub(super) fn log_state(name: &BindingName, status: &BindingStatus) {
    let reason = status.reason.map_or("", Reason::as_str);
    let detail = status.message.as_deref().unwrap_or_default();
    let state = status.state;
    match state {
        State::InSync => tell!(IN_SYNC, binding = %name),
        State::Held => tell!(HELD, binding = %name, reason, detail),
        State::Pending if status.reason == Some(Reason::Proving) => {
            tell!(NOT_SEEN, binding = %name);
        }
        State::Pending if status.reason == Some(Reason::Reloading) => {
            tell!(NOT_READ, binding = %name);
        }
        State::Pending | State::NotYetValid | State::Unsupported => {
            tell!(NOT_PUSHED, binding = %name, %state, reason, detail);
        }
        State::Invalid
        | State::Refused
        | State::Unauthorized
        | State::Unreachable
        | State::NotServed => {
            tell!(NOT_IN_PLACE, binding = %name, %state, reason, detail);
        }
    }
}
