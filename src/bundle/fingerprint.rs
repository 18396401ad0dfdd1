//! Identities: of what a bundle holds, and of one certificate.

use std::fmt;

use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::certificate::Certificate;
use super::chain::Chain;

/// Identity of the chain or chains: SHA-256 over the DER of every certificate, each after its
/// length. The key adds nothing to it, nor does the PEM around the DER, nor which of two chains is
/// the main one. That of authorities is over their DER in ascending order, that of a licence over
/// its JSON with sorted keys and without white space, and 64 zero bytes. Shown as 64 lower-case hex
/// digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

/// As long as a block.
const NOTHING: [u8; 64] = [0; 64];
/// Stands where a certificate's length would, between two chains: no certificate is that long.
const NEXT_CHAIN: u64 = u64::MAX;

impl Fingerprint {
    pub(super) fn of(chains: &[&Chain]) -> Self {
        let mut ordered = chains.to_vec();
        ordered.sort_by_key(|chain| chain.key_type());
        let mut hash = Sha256::new();
        for (position, chain) in ordered.iter().enumerate() {
            if position > 0 {
                hash.update(NEXT_CHAIN.to_be_bytes());
            }
            add_parts(&mut hash, chain.certificates().iter().map(Certificate::der));
        }
        Self(hash.finalize().into())
    }

    /// Of a text as it is, which may be a secret: no identity of certificates.
    #[must_use]
    pub fn of_text(text: &[u8]) -> Self {
        let mut hash = Sha256::new();
        add_parts(&mut hash, std::iter::once(text));
        // A hash that is finished leaves copies of its last block behind.
        hash.update(NOTHING);
        Self(hash.finalize().into())
    }

    /// Of one chain in DER, or of CA certificates.
    pub(super) fn of_parts<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut hash = Sha256::new();
        add_parts(&mut hash, parts);
        Self(hash.finalize().into())
    }
}

fn add_parts<'a>(hash: &mut Sha256, parts: impl Iterator<Item = &'a [u8]>) {
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A certificate's own SHA-256, shown as `openssl x509 -fingerprint -sha256` prints it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeafDigest([u8; 32]);

impl LeafDigest {
    /// The digest of this certificate's DER: what a handshake showed, for one.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }

    /// What Kong calls `cert_digest`: hexadecimal digits. `None` if it is something else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits: Vec<u32> =
            text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
        let byte = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair[1]).ok();
        let bytes: Vec<u8> = digits.chunks_exact(2).map(byte).collect::<Option<_>>()?;
        (digits.len() == 64).then(|| bytes.try_into().ok().map(Self))?
    }
}

impl fmt::Display for LeafDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, byte) in self.0.iter().enumerate() {
            let colon = if position == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl Serialize for LeafDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for LeafDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a panic is how a test fails

    use testkit::{KeyKind, Pki};

    use super::super::held_facts;
    use super::*;

    #[test]
    fn a_fingerprint_is_over_each_length_and_certificate() {
        let pki = Pki::new();
        let upper = pki.intermediate("Upper");
        let rsa = pki.leaf_from(&upper, &["a.test"]).kind(KeyKind::Rsa2048).issue();
        let ec = pki.leaf_from(&upper, &["a.test"]).issue();
        let hashed = |chain: &[Vec<u8>]| -> Vec<u8> {
            let parts = chain.iter().map(|der| [&der.len().to_be_bytes()[..], der].concat());
            parts.collect::<Vec<_>>().concat()
        };
        let (rsa_part, ec_part) = (hashed(rsa.chain_ders()), hashed(ec.chain_ders()));
        let facts = held_facts(&rsa.chain_pem(), None).unwrap();
        assert_eq!(facts.fingerprint.0[..], Sha256::digest(&rsa_part)[..]);
        let facts = held_facts(&ec.chain_pem(), Some(&rsa.chain_pem())).unwrap();
        let both = [&rsa_part[..], &[0xff; 8], &ec_part].concat();
        assert_eq!(facts.fingerprint.0[..], Sha256::digest(both)[..]);
    }

    #[test]
    fn a_fingerprint_is_shown_in_lower_case_hex() {
        let fingerprint = Fingerprint([0xab; 32]);
        assert_eq!(fingerprint.to_string(), "ab".repeat(32));
        assert_eq!(format!("{fingerprint:?}"), "ab".repeat(32));
    }

    #[test]
    fn a_leaf_digest_is_shown_as_openssl_prints_it() {
        // printf abc | sha256sum
        let shown = LeafDigest::of(b"abc").to_string();
        let (hex, digest) = (shown.replace(':', ""), LeafDigest::of(b"abc"));
        for hex in [hex.to_lowercase(), hex.clone()] {
            assert_eq!(LeafDigest::from_hex(&hex), Some(digest), "{hex}");
        }
        for other in ["", &hex[1..], &hex[2..], &format!("{hex}0"), &hex.replace('B', "x")] {
            assert_eq!(LeafDigest::from_hex(other), None, "{other}");
        }
        assert_eq!(&shown[..11], "BA:78:16:BF");
        assert_eq!(&shown[shown.len() - 6..], ":15:AD");
        assert_eq!(shown.len(), 32 * 3 - 1);
    }
}
