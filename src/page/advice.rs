//! What a state means and what to do, where the status has no message of its own.

use crate::binding::Kind;
use crate::status::{BindingStatus, Reason, State};

/// The name of a state among people.
pub(super) const fn name(state: State) -> &'static str {
    match state {
        State::Pending => "Pending",
        State::InSync => "In sync",
        State::NotYetValid => "Not yet valid",
        State::Held => "Held",
        State::Invalid => "Invalid",
        State::Refused => "Refused",
        State::Unauthorized => "Unauthorized",
        State::Unreachable => "Unreachable",
        State::NotServed => "Not served",
        State::Unsupported => "Unsupported",
    }
}

/// What a binding feeds, in words.
pub(super) const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Certificate => "certificate",
        Kind::CaCertificate => "CA certificates",
        Kind::License => "licence",
        Kind::Reload => "files that nginx reads",
        Kind::Declarative => "configuration file",
    }
}

/// A sentence for where a binding stands; `is_proven`: whether handshakes are made.
pub(super) const fn sentence(binding: &BindingStatus, is_proven: bool) -> &'static str {
    match binding.state {
        State::Pending => pending(binding.reason),
        State::InSync => in_sync(binding.kind, is_proven),
        State::NotYetValid => "the certificate begins later; wait, or check the node's clock",
        State::Held => {
            "file and Kong differ, and Kong's may be right; it ends when this node's files follow"
        }
        State::Invalid => {
            "the files cannot be read or served, and Kong keeps what it has; mend the files"
        }
        State::Refused => "it may not be written, or Kong will not have it; see the log",
        State::Unauthorized => {
            "Kong wants other credentials, or nginx may not be signalled; check ADMIN__TOKEN_FILE and the user"
        }
        State::Unreachable => {
            "Kong or its nginx does not answer; it is tried again; check Kong and ADMIN__URL"
        }
        State::NotServed => {
            "Kong holds it, and handshakes show something else, or nothing; look into Kong's log"
        }
        State::Unsupported => "this Kong cannot be fed this way; remove it from the settings",
    }
}

const fn pending(reason: Option<Reason>) -> &'static str {
    match reason {
        Some(Reason::DryRun) => "it would be written, were it not for DRY_RUN",
        Some(Reason::Changing) => "the files are being written; it waits until they rest",
        Some(Reason::Conflict) => "other writers were faster each time; it is tried again",
        Some(Reason::Proving) => "no handshake has shown it yet; wait",
        Some(Reason::Reloading) => "nginx is told to reload; wait",
        Some(Reason::ReloadInterval) => "nginx was told not long ago; wait",
        Some(Reason::EmptyConfiguration) => "this Kong has no configuration yet; load one",
        Some(Reason::Applying) => "Kong did not answer in time, and may go on with it; wait",
        _ => "it has not been looked at yet; wait",
    }
}

const fn in_sync(kind: Kind, is_proven: bool) -> &'static str {
    match (kind, is_proven) {
        (Kind::Certificate, true) => "handshakes show what the file holds",
        (Kind::Certificate, false) => "Kong holds what the file holds; no handshakes are made",
        (Kind::CaCertificate | Kind::License, _) => "Kong holds what the file holds",
        (Kind::Reload, _) => "nginx has read what the files hold",
        (Kind::Declarative, _) => "Kong has loaded what the file holds",
    }
}
