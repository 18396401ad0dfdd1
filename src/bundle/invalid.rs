//! Why a generation cannot be served: which file, and the mend.

use std::path::Path;

use super::public_key::KeyFlaw;
use super::{KeyType, PemFlaw};
use crate::clock::Timestamp;
use crate::quote::Quoted;

/// What keeps a generation from being served. Shown as one sentence that names the file and the
/// mend. Holds no file content but labels of blocks and names of algorithms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Nothing in it.
    #[error("{path} is empty: put {lacks} into it")]
    Empty {
        /// The file.
        path: Quoted,
        /// What belongs into it.
        lacks: &'static str,
    },
    /// Not PEM, or broken PEM.
    #[error("{path} is not usable PEM: {flaw}")]
    NotPem {
        /// The file.
        path: Quoted,
        /// What is wrong, and the mend.
        flaw: PemFlaw,
    },
    /// A block that does not belong there.
    #[error("{path} has a block {label}: {mend}")]
    ForeignBlock {
        /// The file.
        path: Quoted,
        /// What stands in its BEGIN line.
        label: Quoted,
        /// What to do.
        mend: &'static str,
    },
    /// A block that is no certificate, or a damaged one.
    #[error("certificate {position} of {path} is damaged, {flaw}: {mend}")]
    BadCertificate {
        /// The file.
        path: Quoted,
        /// Counted from 1.
        position: usize,
        /// What is wrong.
        flaw: &'static str,
        /// What to do.
        mend: &'static str,
    },
    /// No certificate.
    #[error("{path} holds no certificate: put the chain into it, leaf first")]
    NoCertificate {
        /// The file.
        path: Quoted,
    },
    /// No private key.
    #[error("{path} holds no private key: put the leaf's into it")]
    NoKey {
        /// The file.
        path: Quoted,
    },
    /// More than one private key.
    #[error("{path} holds several private keys: leave only the leaf's in it")]
    SeveralKeys {
        /// The file.
        path: Quoted,
    },
    /// A passphrase would be needed.
    #[error(
        "the private key in {path} is encrypted: decrypt it with `openssl pkey -in FILE -out FILE`"
    )]
    EncryptedKey {
        /// The file.
        path: Quoted,
    },
    /// A key type that Kong does not serve, or OpenSSL does not know.
    #[error(
        "{subject} is {kind}, which cannot be served: issue the certificate with RSA (2048 to 8192 \
         bits), P-256, P-384, P-521 or Ed25519"
    )]
    UnsupportedKey {
        /// Which key of which file.
        subject: Quoted,
        /// The type, in words.
        kind: Quoted,
    },
    /// Kong takes it with 200, and then every handshake fails.
    #[error(
        "{subject} is {kind}, with which every handshake of Kong fails: issue the certificate anew \
         with at least 2048 bits"
    )]
    WeakKey {
        /// Which key of which file.
        subject: Quoted,
        /// Type and size, in words.
        kind: Quoted,
    },
    /// Kong takes it with 200, and then every handshake fails.
    #[error(
        "certificate {position} of {path} is signed with {algorithm}, with which every handshake \
         of Kong fails: have it issued anew with SHA-256"
    )]
    WeakSignature {
        /// The file.
        path: Quoted,
        /// Counted from 1.
        position: usize,
        /// The digest, or an OID.
        algorithm: Quoted,
    },
    /// A key that cannot be read, or whose parts contradict each other.
    #[error("the private key in {path} is damaged: write it anew")]
    BadKey {
        /// The file.
        path: Quoted,
    },
    /// Two files, two key pairs.
    #[error(
        "the private key in {key} belongs to no certificate in {cert}: write both from one issuance"
    )]
    KeyMismatch {
        /// The chain's file.
        cert: Quoted,
        /// The key's file.
        key: Quoted,
    },
    /// Each file holds what belongs into the other.
    #[error("{cert} holds the private key and {key} the certificates: swap the two")]
    Swapped {
        /// The file for the chain.
        cert: Quoted,
        /// The file for the key.
        key: Quoted,
    },
    /// The key belongs to a later certificate.
    #[error(
        "the private key in {key} belongs to certificate {position} of {cert}: put that one first"
    )]
    LeafNotFirst {
        /// The chain's file.
        cert: Quoted,
        /// The key's file.
        key: Quoted,
        /// Counted from 1.
        position: usize,
    },
    /// Kong takes a second pair of another key type only.
    #[error(
        "{cert} and {cert_alt} both have keys of the type {}: make one RSA and the other EC",
        .key_type.as_str()
    )]
    AltSameType {
        /// The chain of the main pair.
        cert: Quoted,
        /// The chain of the other pair.
        cert_alt: Quoted,
        /// Their type.
        key_type: KeyType,
    },
    /// Past its life.
    #[error("the certificate in {path} expired at {not_after}: renew it")]
    Expired {
        /// The file.
        path: Quoted,
        /// Its last second.
        not_after: Timestamp,
    },
    /// More than any chain has, or than Kong should be given.
    #[error("{path} holds more than {most} certificates: {mend}")]
    TooMany {
        /// The file.
        path: Quoted,
        /// So many are taken.
        most: usize,
        /// What to do.
        mend: &'static str,
    },
    /// No certificate of it may issue others.
    #[error(
        "no certificate in {path} is a CA's: put the CA's own into it, one with the basic constraint \
         CA:TRUE"
    )]
    NoAuthority {
        /// The file.
        path: Quoted,
    },
    /// Of the certificates that may issue others all are past their lives.
    #[error("all CA certificates in {path} have expired, the last at {not_after}: replace them")]
    AuthoritiesExpired {
        /// The file.
        path: Quoted,
        /// The last second of the one that lived longest.
        not_after: Timestamp,
    },
    /// Not JSON, or broken JSON.
    #[error(
        "{path} is not JSON from line {line}, column {column} on: put the licence into it as Kong \
         handed it out"
    )]
    NotJson {
        /// The file.
        path: Quoted,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// JSON of another shape.
    #[error(
        "{path} is no licence of Kong, as {field} is missing or cannot be read: put the licence into \
         it as Kong handed it out"
    )]
    NotALicense {
        /// The file.
        path: Quoted,
        /// What is looked for, from the outside in.
        field: &'static str,
    },
    /// A licence past its life.
    #[error("the licence in {path} expired at {not_after}: put its successor into it")]
    LicenseExpired {
        /// The file.
        path: Quoted,
        /// Its last second.
        not_after: Timestamp,
    },
}

/// [`Invalid`] as a value of a closed list, for states and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// [`Invalid::Empty`].
    Empty,
    /// [`Invalid::NotPem`].
    NotPem,
    /// [`Invalid::ForeignBlock`].
    ForeignBlock,
    /// [`Invalid::BadCertificate`].
    BadCertificate,
    /// [`Invalid::NoCertificate`].
    NoCertificate,
    /// [`Invalid::NoKey`].
    NoKey,
    /// [`Invalid::SeveralKeys`].
    SeveralKeys,
    /// [`Invalid::EncryptedKey`].
    EncryptedKey,
    /// [`Invalid::UnsupportedKey`].
    UnsupportedKey,
    /// [`Invalid::WeakKey`].
    WeakKey,
    /// [`Invalid::WeakSignature`].
    WeakSignature,
    /// [`Invalid::BadKey`].
    BadKey,
    /// [`Invalid::KeyMismatch`].
    KeyMismatch,
    /// [`Invalid::Swapped`].
    Swapped,
    /// [`Invalid::LeafNotFirst`].
    LeafNotFirst,
    /// [`Invalid::AltSameType`].
    AltSameType,
    /// [`Invalid::Expired`], [`Invalid::AuthoritiesExpired`] or [`Invalid::LicenseExpired`].
    Expired,
    /// [`Invalid::TooMany`].
    TooMany,
    /// [`Invalid::NoAuthority`].
    NoAuthority,
    /// [`Invalid::NotJson`].
    NotJson,
    /// [`Invalid::NotALicense`].
    NotALicense,
}

impl Reason {
    /// A name for labels and fields.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotPem => "not_pem",
            Self::ForeignBlock => "foreign_block",
            Self::BadCertificate => "bad_certificate",
            Self::NoCertificate => "no_certificate",
            Self::NoKey => "no_key",
            Self::SeveralKeys => "several_keys",
            Self::EncryptedKey => "encrypted_key",
            Self::UnsupportedKey => "unsupported_key",
            Self::WeakKey => "weak_key",
            Self::WeakSignature => "weak_signature",
            Self::BadKey => "bad_key",
            Self::KeyMismatch => "key_mismatch",
            Self::Swapped => "swapped",
            Self::LeafNotFirst => "leaf_not_first",
            Self::AltSameType => "alt_same_type",
            Self::Expired => "expired",
            Self::TooMany => "too_many",
            Self::NoAuthority => "no_authority",
            Self::NotJson => "not_json",
            Self::NotALicense => "not_a_license",
        }
    }
}

impl Invalid {
    /// What it is, as a value of a closed list.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Empty { .. } => Reason::Empty,
            Self::NotPem { .. } => Reason::NotPem,
            Self::ForeignBlock { .. } => Reason::ForeignBlock,
            Self::BadCertificate { .. } => Reason::BadCertificate,
            Self::NoCertificate { .. } => Reason::NoCertificate,
            Self::NoKey { .. } => Reason::NoKey,
            Self::SeveralKeys { .. } => Reason::SeveralKeys,
            Self::EncryptedKey { .. } => Reason::EncryptedKey,
            Self::UnsupportedKey { .. } => Reason::UnsupportedKey,
            Self::WeakKey { .. } => Reason::WeakKey,
            Self::WeakSignature { .. } => Reason::WeakSignature,
            Self::BadKey { .. } => Reason::BadKey,
            Self::KeyMismatch { .. } => Reason::KeyMismatch,
            Self::Swapped { .. } => Reason::Swapped,
            Self::LeafNotFirst { .. } => Reason::LeafNotFirst,
            Self::AltSameType { .. } => Reason::AltSameType,
            Self::Expired { .. }
            | Self::AuthoritiesExpired { .. }
            | Self::LicenseExpired { .. } => Reason::Expired,
            Self::TooMany { .. } => Reason::TooMany,
            Self::NoAuthority { .. } => Reason::NoAuthority,
            Self::NotJson { .. } => Reason::NotJson,
            Self::NotALicense { .. } => Reason::NotALicense,
        }
    }

    /// Whether plain files may look like this while they are being replaced: worth another look.
    #[must_use]
    pub const fn is_torn(&self) -> bool {
        matches!(
            self.reason(),
            Reason::Empty
                | Reason::NotPem
                | Reason::BadCertificate
                | Reason::NoCertificate
                | Reason::NoKey
                | Reason::BadKey
                | Reason::KeyMismatch
                | Reason::LeafNotFirst
                | Reason::AltSameType
                | Reason::NotJson
        )
    }

    pub(super) fn empty(path: &Path, lacks: &'static str) -> Self {
        let path = shown(path);
        Self::Empty { path, lacks }
    }

    pub(super) fn not_pem(path: &Path, flaw: PemFlaw) -> Self {
        let path = shown(path);
        Self::NotPem { path, flaw }
    }

    pub(super) fn foreign_block(path: &Path, label: &str, mend: &'static str) -> Self {
        let mend = match label {
            "TRUSTED CERTIFICATE" => "convert it with `openssl x509 -in`",
            "PKCS7" => "convert it with `openssl pkcs7 -print_certs`",
            _ => mend,
        };
        Self::ForeignBlock { path: shown(path), label: Quoted::new(label), mend }
    }

    pub(super) fn bad_certificate(
        path: &Path,
        position: usize,
        flaw: &'static str,
        mend: &'static str,
    ) -> Self {
        let path = shown(path);
        Self::BadCertificate { path, position, flaw, mend }
    }

    pub(super) fn no_certificate(path: &Path) -> Self {
        let path = shown(path);
        Self::NoCertificate { path }
    }

    pub(super) fn no_key(path: &Path) -> Self {
        let path = shown(path);
        Self::NoKey { path }
    }

    pub(super) fn several_keys(path: &Path) -> Self {
        let path = shown(path);
        Self::SeveralKeys { path }
    }

    pub(super) fn encrypted_key(path: &Path) -> Self {
        let path = shown(path);
        Self::EncryptedKey { path }
    }

    /// A label such as `DSA PRIVATE KEY`.
    pub(super) fn unsupported_key_block(path: &Path, label: &str) -> Self {
        let flaw = KeyFlaw::Unsupported(format!("a {label}"));
        Self::private_key(path, flaw)
    }

    /// A flaw of the private key itself.
    pub(super) fn private_key(path: &Path, flaw: KeyFlaw) -> Self {
        let subject = format!("the private key in {}", path.display());
        Self::key(path, &subject, flaw)
    }

    /// A flaw of the key that a certificate is for.
    pub(super) fn certified_key(path: &Path, position: usize, flaw: KeyFlaw) -> Self {
        let subject = format!("the key of certificate {position} of {}", path.display());
        Self::key(path, &subject, flaw)
    }

    fn key(path: &Path, subject: &str, flaw: KeyFlaw) -> Self {
        let subject = Quoted::new(subject);
        match flaw {
            KeyFlaw::Unsupported(kind) => {
                Self::UnsupportedKey { subject, kind: Quoted::new(&kind) }
            }
            KeyFlaw::Weak(kind) => Self::WeakKey { subject, kind: Quoted::new(&kind) },
            KeyFlaw::Broken => Self::BadKey { path: shown(path) },
        }
    }

    pub(super) fn weak_signature(path: &Path, position: usize, algorithm: &str) -> Self {
        Self::WeakSignature { path: shown(path), position, algorithm: Quoted::new(algorithm) }
    }

    pub(super) fn key_mismatch(cert: &Path, key: &Path) -> Self {
        Self::KeyMismatch { cert: shown(cert), key: shown(key) }
    }

    pub(super) fn swapped(cert: &Path, key: &Path) -> Self {
        Self::Swapped { cert: shown(cert), key: shown(key) }
    }

    pub(super) fn leaf_not_first(cert: &Path, key: &Path, position: usize) -> Self {
        Self::LeafNotFirst { cert: shown(cert), key: shown(key), position }
    }

    pub(super) fn alt_same_type(cert: &Path, cert_alt: &Path, key_type: KeyType) -> Self {
        Self::AltSameType { cert: shown(cert), cert_alt: shown(cert_alt), key_type }
    }

    pub(super) fn expired(path: &Path, not_after: Timestamp) -> Self {
        let path = shown(path);
        Self::Expired { path, not_after }
    }

    pub(super) fn too_many(path: &Path, most: usize, mend: &'static str) -> Self {
        let path = shown(path);
        Self::TooMany { path, most, mend }
    }

    pub(super) fn no_authority(path: &Path) -> Self {
        let path = shown(path);
        Self::NoAuthority { path }
    }

    pub(super) fn authorities_expired(path: &Path, not_after: Timestamp) -> Self {
        let path = shown(path);
        Self::AuthoritiesExpired { path, not_after }
    }

    pub(super) fn not_json(path: &Path, line: usize, column: usize) -> Self {
        let path = shown(path);
        Self::NotJson { path, line, column }
    }

    pub(super) fn not_a_license(path: &Path, field: &'static str) -> Self {
        let path = shown(path);
        Self::NotALicense { path, field }
    }

    pub(super) fn license_expired(path: &Path, not_after: Timestamp) -> Self {
        let path = shown(path);
        Self::LicenseExpired { path, not_after }
    }
}

fn shown(path: &Path) -> Quoted {
    Quoted::new(&path.to_string_lossy())
}
