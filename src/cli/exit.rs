//! What the exit codes mean.

use crate::status::{BindingStatus, Reason, State};

/// Everything is in place, or was asked to end.
pub(super) const OK: u8 = 0;
/// It did not succeed.
pub(super) const FAILED: u8 = 1;
/// The command line or the settings are wrong.
pub(super) const USAGE: u8 = 2;
/// File, Kong and what is served are not all the same.
pub(super) const DIFFERS: u8 = 3;

/// How one binding stands towards what was asked, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Fine,
    Differs,
    Fails,
}

impl Standing {
    /// Whether it is in Kong. With `DRY_RUN` nothing gets there, and nothing to a Kong that cannot be
    /// fed.
    pub(super) fn after_sync(binding: &BindingStatus) -> Self {
        if binding.state == State::InSync { Self::Fine } else { Self::Fails }
    }

    /// Whether file, Kong and what is served agree; it fails where that cannot be told, or where the
    /// file or the object is at fault.
    pub(super) fn in_diff(binding: &BindingStatus) -> Self {
        match (binding.state, binding.reason) {
            (State::InSync, _) => Self::Fine,
            // What is served was not seen.
            (State::NotServed, Some(Reason::Unseen(_))) => Self::Fails,
            (State::Pending, Some(Reason::DryRun))
            | (State::Held | State::NotYetValid | State::NotServed, _) => Self::Differs,
            (
                State::Pending
                | State::Unsupported
                | State::Invalid
                | State::Refused
                | State::Unauthorized
                | State::Unreachable,
                _,
            ) => Self::Fails,
        }
    }
}

/// The exit code where bindings stand like this: the worst counts, and none is a failure.
pub(super) fn code(standings: impl IntoIterator<Item = Standing>) -> u8 {
    match standings.into_iter().max() {
        Some(Standing::Fine) => OK,
        Some(Standing::Differs) => DIFFERS,
        Some(Standing::Fails) | None => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle;
    use crate::clock::Timestamp;

    fn binding(state: State, reason: Option<Reason>) -> BindingStatus {
        BindingStatus { state, reason, ..BindingStatus::starting(Timestamp(0)) }
    }

    #[test]
    fn each_state_has_its_exit_codes() {
        let held = Some(Reason::Held("kong_newer"));
        let expired = Some(Reason::Bundle(bundle::Reason::Expired));
        for (state, reason, sync, diff) in [
            (State::InSync, None, OK, OK),
            (State::Unsupported, Some(Reason::NoLicenses), FAILED, FAILED),
            (State::Pending, Some(Reason::DryRun), FAILED, DIFFERS),
            (State::Held, held, FAILED, DIFFERS),
            (State::NotYetValid, Some(Reason::NotBefore), FAILED, DIFFERS),
            (State::NotServed, Some(Reason::OtherCertificate), FAILED, DIFFERS),
            (State::NotServed, Some(Reason::Unseen("no_tls")), FAILED, FAILED),
            (State::Pending, Some(Reason::Starting), FAILED, FAILED),
            (State::Pending, Some(Reason::Changing), FAILED, FAILED),
            (State::Pending, Some(Reason::Conflict), FAILED, FAILED),
            (State::Pending, Some(Reason::Proving), FAILED, FAILED),
            (State::Pending, None, FAILED, FAILED),
            (State::Invalid, expired, FAILED, FAILED),
            (State::Refused, Some(Reason::ByKong), FAILED, FAILED),
            (State::Unauthorized, Some(Reason::Credentials), FAILED, FAILED),
            (State::Unreachable, Some(Reason::NoAnswer), FAILED, FAILED),
        ] {
            let binding = binding(state, reason);
            let codes =
                (code([Standing::after_sync(&binding)]), code([Standing::in_diff(&binding)]));
            assert_eq!(codes, (sync, diff), "{state} {reason:?}");
        }
    }

    #[test]
    fn the_worst_of_several_counts_and_none_is_a_failure() {
        use Standing::{Differs, Fails, Fine};
        for (standings, expected) in [
            (vec![], FAILED),
            (vec![Fine, Fine], OK),
            (vec![Fine, Differs, Fine], DIFFERS),
            (vec![Fails, Differs, Fine], FAILED),
        ] {
            assert_eq!(code(standings.clone()), expected, "{standings:?}");
        }
    }
}
