//! Which chain a handshake gets: Kong's word that it holds a certificate is no proof that it serves
//! it.
//!
//! A handshake asks one server name, with full effort: nothing is resumed, and the server has to
//! show that it has the key. What the client is asked for afterwards does not matter.

mod client;
mod errand;
mod ladder;
mod port;

use std::future::Future;

use rustls::pki_types::ServerName;
use thiserror::Error;

pub use self::client::ProxyClient;
pub use self::errand::{About, Errand, Evidence};
pub use self::ladder::{Finding, GIVEN_UP, Ladder, Step};
pub use self::port::{NoProof, ProxyPort};
use crate::bundle::{KeyType, ServedChain};
use crate::names::Sni;
use crate::quote::Quoted;

/// What one handshake asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// The name that is to be served; a wildcard is asked by [`Question::asked`].
    pub name: Option<Sni>,
    /// The only type of key that is offered to verify, where two pairs are to be told apart.
    pub key_type: Option<KeyType>,
}

impl Question {
    /// As a client that sends no server name.
    pub const WITHOUT_NAME: Self = Self { name: None, key_type: None };

    /// The server name that is sent. `label` stands for a wildcard: a name that nobody has of its
    /// own.
    #[must_use]
    pub fn asked(&self, label: &str) -> Option<String> {
        let name = self.name.as_ref()?.as_ref();
        Some(match name {
            // RFC 6761: nobody has such a name.
            "*" => format!("{label}.invalid"),
            name => name.replace('*', label),
        })
    }
}

/// Whether a client can ask for this name, with `label` for a wildcard: TLS libraries send host
/// names, and Kong takes more than those.
#[must_use]
pub fn is_askable(name: &Sni, label: &str) -> bool {
    let question = Question { name: Some(name.clone()), key_type: None };
    question.asked(label).is_some_and(|asked| ServerName::try_from(asked).is_ok())
}

/// Makes handshakes. The program's is [`ProxyClient`]; tests have one without sockets.
pub trait Handshake {
    /// One full handshake with `port`: the chain that it shows to whoever asks for `sni`, and
    /// proves to have the key of.
    fn chain(
        &self,
        port: &ProxyPort,
        sni: Option<&str>,
        key_type: Option<KeyType>,
    ) -> impl Future<Output = Result<ServedChain, Unseen>>;
}

/// Why a handshake showed no chain.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unseen {
    /// Nobody listens, or there is no way there.
    #[error(
        "no connection to {to}: {cause}; see whether Kong's proxy listens there, or set PROXY__ADDRESS"
    )]
    NoConnection {
        /// Host and port.
        to: Quoted,
        /// What happened.
        cause: Quoted,
    },
    /// It listens, and says nothing.
    #[error("no answer in time; check PROXY__ADDRESS and PROXY__PROTOCOL")]
    Silent,
    /// What answers speaks something else.
    #[error("that port speaks no TLS; set PROXY__ADDRESS to a proxy_listen of Kong that has ssl")]
    NoTls,
    /// It hung up, as a port does that wants the PROXY protocol first.
    #[error(
        "the connection was closed; if that port wants the PROXY protocol, set PROXY__PROTOCOL"
    )]
    Closed,
    /// It refused.
    #[error("the handshake was refused: {0}")]
    Refused(Quoted),
    /// The chain is not its own.
    #[error("the server does not have the key of the certificate that it shows")]
    NoKey,
    /// This name cannot be sent.
    #[error("no client can ask for this name")]
    Unaskable,
}

impl Unseen {
    /// Whether every other name would end like this one.
    #[must_use]
    pub const fn is_silence(&self) -> bool {
        matches!(self, Self::NoConnection { .. } | Self::Silent | Self::NoTls)
    }

    /// What happened, without what to do.
    #[must_use]
    pub fn fact(&self) -> String {
        match self {
            Self::NoConnection { cause, .. } => format!("no connection ({cause})"),
            Self::Silent => "no answer in time".to_owned(),
            Self::NoTls => "it speaks no TLS".to_owned(),
            Self::Closed => {
                "it closes the connection, as where it wants the PROXY protocol".to_owned()
            }
            Self::Refused(_) | Self::NoKey | Self::Unaskable => self.to_string(),
        }
    }

    /// The word for labels and reasons.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NoConnection { .. } | Self::Silent => "no_connection",
            Self::NoTls => "no_tls",
            Self::Closed | Self::Refused(_) | Self::NoKey | Self::Unaskable => "no_handshake",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_wildcard_is_asked_by_a_label_that_nobody_has() {
        for (name, asked) in
            [("a.test", "a.test"), ("*.a.test", "x1.a.test"), ("a.*", "a.x1"), ("*", "x1.invalid")]
        {
            let question = Question { name: Some(name.parse().unwrap()), key_type: None };
            assert_eq!(question.asked("x1").as_deref(), Some(asked));
        }
        assert_eq!(Question::WITHOUT_NAME.asked("x1"), None);
    }

    #[test]
    fn a_name_that_is_no_host_name_cannot_be_asked_for() {
        let long = format!("*.{}.test", vec!["x".repeat(60); 4].join("."));
        for (name, askable) in [
            ("a.test", true),
            ("*.a.test", true),
            ("a_b.test", true),
            ("localhost", true),
            ("-a.test", false),
            ("a.123", false),
            (&*long, false),
        ] {
            assert_eq!(is_askable(&name.parse().unwrap(), "proof-0123abcd"), askable, "{name}");
        }
    }
}
