//! What becomes of a call of Kong's Admin API.

use std::time::Duration;

use super::kong::Fault;

/// The default of `ADMIN__TIMEOUT`.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    NoConnection,
    TimesOut,
    TimesOutApplied,
    /// Kong does it after nobody waits any more.
    LandsLate,
    Slow,
    Reset,
    /// Also half a body of an answer that announces all of it.
    ResetApplied,
    Status(u16),
    RetryAfter(u16),
    /// A gateway before Kong gave up; Kong did not.
    GatewayTimeoutApplied,
    Html,
    HtmlOfGateway,
    Redirect,
    OtherBody,
    EmptyBody,
    HalfBody,
    HugeBody,
}

impl Call {
    /// Every one.
    pub(crate) const ALL: [Self; 23] = [
        Self::NoConnection,
        Self::TimesOut,
        Self::TimesOutApplied,
        Self::LandsLate,
        Self::Slow,
        Self::Reset,
        Self::ResetApplied,
        Self::Status(401),
        Self::Status(408),
        Self::Status(429),
        Self::Status(500),
        Self::Status(502),
        Self::Status(503),
        Self::Status(504),
        Self::RetryAfter(503),
        Self::GatewayTimeoutApplied,
        Self::Html,
        Self::HtmlOfGateway,
        Self::Redirect,
        Self::OtherBody,
        Self::EmptyBody,
        Self::HalfBody,
        Self::HugeBody,
    ];

    /// That they are sorted alike is seen where they come once.
    pub(crate) const fn is_sorted_as_another(self) -> bool {
        match self {
            Self::Status(status) => !matches!(status, 401 | 503),
            Self::Reset
            | Self::GatewayTimeoutApplied
            | Self::HtmlOfGateway
            | Self::Redirect
            | Self::OtherBody
            | Self::EmptyBody
            | Self::HugeBody => true,
            _ => false,
        }
    }

    /// Kong does it, and the sidecar does not hear of it.
    pub(crate) const fn is_done_unheard(self) -> bool {
        matches!(
            self,
            Self::TimesOutApplied
                | Self::LandsLate
                | Self::ResetApplied
                | Self::GatewayTimeoutApplied
                | Self::HalfBody
        )
    }

    /// As a call meets it.
    pub(crate) fn fault(self) -> Fault {
        match self {
            Self::NoConnection => Fault::no_connection(),
            Self::TimesOut => Fault::timeout(TIMEOUT),
            Self::TimesOutApplied => Fault::timeout(TIMEOUT).landed(),
            Self::LandsLate => Fault::timeout(TIMEOUT).lands_after(TIMEOUT * 2),
            Self::Slow => Fault::late(TIMEOUT / 2),
            Self::Reset => Fault::broken(),
            Self::ResetApplied => Fault::broken().landed(),
            Self::Status(status) => Fault::status(status),
            Self::RetryAfter(status) => Fault::retry_after(status, Duration::from_secs(7)),
            Self::GatewayTimeoutApplied => Fault::other(504, false, "<html>").landed(),
            Self::Html => Fault::other(200, false, "<html>Welcome</html>"),
            Self::HtmlOfGateway => Fault::other(502, false, "<html>Bad Gateway</html>"),
            Self::Redirect => Fault::other(301, false, ""),
            Self::OtherBody => Fault::other(200, true, r#"{"hello":"world"}"#),
            Self::EmptyBody => Fault::other(200, true, ""),
            Self::HalfBody => Fault::half_json(),
            Self::HugeBody => Fault::too_large(),
        }
    }
}
