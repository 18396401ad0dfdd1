//! Is a generation servable, and what is its identity? Pure; the only place that knows X.509.
//!
//! The rules follow what Kong 3.9.3 and OpenSSL 3.0 were seen to do: Kong answers 200 to some
//! bundles with which every handshake then fails, so what may be sent is decided here.

use std::path::Path;

mod authorities;
mod certificate;
mod chain;
mod der;
mod facts;
mod fingerprint;
mod invalid;
mod license;
mod pair;
mod pairs;
mod pem;
mod private_key;
mod public_key;
mod served;
mod shape;
mod warning;

pub use authorities::{Authorities, Authority, held_authority};
pub use facts::{Facts, Validity};
pub use fingerprint::{Fingerprint, LeafDigest};
pub use invalid::{Invalid, Reason};
pub use license::{License, held_license};
pub use pair::Pair;
pub use pairs::{CertificateBundle, PairSource, Pairs, held_facts};
pub use pem::PemFlaw;
pub use public_key::KeyType;
pub use served::ServedChain;
pub use warning::Warning;

/// Why Kong cannot serve what it holds; the paths in it are `Kong's cert` and `Kong's cert_alt`.
pub type Unservable = Invalid;

/// One file: where it was read, for messages, and what was in it.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// Where it lies.
    pub path: &'a Path,
    /// All of it.
    pub bytes: &'a [u8],
}
