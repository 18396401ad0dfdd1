//! What is served all the same, but may not work for all clients.

use std::fmt;

use crate::clock::Timestamp;
use crate::quote::Quoted;

/// A flaw of a bundle that Kong takes without complaint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The leaf's issuer is not in the file. Harmless where that is a root which clients know.
    IncompleteChain {
        /// The issuer that is missing.
        issuer: Quoted,
    },
    /// A certificate stands before the one it has issued: for TLS 1.2 that is an error.
    UnorderedChain,
    /// A certificate that has issued none of the others.
    UnrelatedCertificate {
        /// Whose it is.
        subject: Quoted,
    },
    /// A certificate above the leaf has expired. Only [`super::Facts::warnings_at`] tells this.
    ExpiredIntermediate {
        /// Its last second.
        not_after: Timestamp,
    },
    /// extendedKeyUsage lists neither serverAuth nor any purpose.
    NoServerAuth,
    /// keyUsage is there without digitalSignature: with such an EC leaf OpenSSL refuses TLS 1.2.
    NoDigitalSignature,
    /// The leaf has no `dNSName`.
    NoNames,
    /// A self-signed certificate bears a signature that would be refused on another one.
    WeakSelfSignature {
        /// Whose it is.
        subject: Quoted,
        /// What was signed, such as `SHA-1`.
        digest: &'static str,
    },
    /// A CA certificate that has expired is not sent, as Kong would refuse it.
    ExpiredAuthority {
        /// Whose it is.
        subject: Quoted,
        /// Its last second.
        not_after: Timestamp,
    },
    /// A certificate that is no CA's is not sent, as Kong would refuse it.
    NotAnAuthority {
        /// Whose it is.
        subject: Quoted,
    },
    /// A CA certificate of which OpenSSL may not take what it has issued.
    WeakAuthority {
        /// Whose it is.
        subject: Quoted,
        /// Its key or its signature, in words.
        weakness: Quoted,
    },
}

impl Warning {
    /// A name for labels and fields, of a closed list.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::IncompleteChain { .. } => "incomplete_chain",
            Self::UnorderedChain => "unordered_chain",
            Self::UnrelatedCertificate { .. } => "unrelated_certificate",
            Self::ExpiredIntermediate { .. } => "expired_intermediate",
            Self::NoServerAuth => "no_server_auth",
            Self::NoDigitalSignature => "no_digital_signature",
            Self::NoNames => "no_names",
            Self::WeakSelfSignature { .. } => "weak_self_signature",
            Self::ExpiredAuthority { .. } => "expired_authority",
            Self::NotAnAuthority { .. } => "not_an_authority",
            Self::WeakAuthority { .. } => "weak_authority",
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IncompleteChain { issuer } => write!(
                f,
                "the chain lacks the leaf's issuer ({issuer}): append it, unless clients know it"
            ),
            Self::UnorderedChain => {
                f.write_str("the chain is out of order: put each certificate before its issuer")
            }
            Self::UnrelatedCertificate { subject } => write!(
                f,
                "the chain has a certificate that issued none of the others ({subject}): remove it"
            ),
            Self::ExpiredIntermediate { not_after } => write!(
                f,
                "a certificate above the leaf expired at {not_after}: fetch the chain anew"
            ),
            Self::NoServerAuth => f.write_str(
                "the leaf is not for servers: issue it with the extended key usage serverAuth",
            ),
            Self::NoDigitalSignature => f.write_str(
                "the leaf must not sign, so TLS 1.2 fails: issue it with the key usage digitalSignature",
            ),
            Self::NoNames => {
                f.write_str("the leaf has no DNS name, and clients will not trust it: issue it with a subject alternative name; it is refused unless SNIS names some")
            }
            Self::WeakSelfSignature { subject, digest } => write!(
                f,
                "a self-signed certificate ({subject}) is signed with {digest}: issue it anew with SHA-256, or \
                 leave it out if it is a root"
            ),
            Self::ExpiredAuthority { subject, not_after } => write!(
                f,
                "a CA certificate ({subject}) expired at {not_after} and is left out: replace it, or remove it"
            ),
            Self::NotAnAuthority { subject } => write!(
                f,
                "a certificate ({subject}) lacks the basic constraint CA:TRUE and is left out: put the CA's \
                 own in its place, or remove it"
            ),
            Self::WeakAuthority { subject, weakness } => write!(
                f,
                "a CA certificate ({subject}) is weak, {weakness}, and what it issued may be refused: issue it \
                 anew with at least 2048 bits and SHA-256"
            ),
        }
    }
}
