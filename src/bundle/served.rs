//! A chain as a handshake showed it.

use super::certificate::Certificate;
use super::{Fingerprint, LeafDigest, Validity};
use crate::few::Few;

/// What a client is shown: compared with what Kong holds, and shown itself. Nothing in it is
/// secret, and nothing is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedChain {
    /// The identity of the chain, as [`super::Facts::chains`] have it.
    pub fingerprint: Fingerprint,
    /// The leaf's own digest.
    pub leaf: LeafDigest,
    /// The leaf's validity, if it can be read.
    pub validity: Option<Validity>,
    /// The leaf's `dNSName`s, if it can be read.
    pub names: Few<String>,
}

impl ServedChain {
    /// Of DER, leaf first.
    #[must_use]
    pub fn of<'a>(leaf: &'a [u8], others: impl Iterator<Item = &'a [u8]>) -> Self {
        let parsed = Certificate::parse(leaf.to_vec()).ok();
        Self {
            fingerprint: Fingerprint::of_parts(std::iter::once(leaf).chain(others)),
            leaf: LeafDigest::of(leaf),
            validity: parsed.as_ref().map(|certificate| certificate.validity),
            names: parsed.map(|certificate| certificate.names.into()).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use testkit::{KeyKind, Pki};

    use super::super::held_facts;
    use super::*;

    #[test]
    fn a_chain_that_is_shown_is_known_by_what_is_held() {
        let pki = Pki::new();
        let ca = pki.intermediate("CA");
        let rsa = pki.leaf_from(&ca, &["a.test"]).kind(KeyKind::Rsa2048).issue();
        let ec = pki.leaf_from(&ca, &["a.test"]).issue();
        let shown =
            |chain: &[Vec<u8>]| ServedChain::of(&chain[0], chain[1..].iter().map(Vec::as_slice));
        let facts = held_facts(&rsa.chain_pem(), Some(&ec.chain_pem())).unwrap();
        let (first, second) = (shown(rsa.chain_ders()), shown(ec.chain_ders()));
        assert_eq!(facts.chains, [first.fingerprint, second.fingerprint]);
        assert_eq!(facts.leaves, [first.leaf, second.leaf]);
        assert_eq!(first.names, facts.names);
        // The leaf alone is another chain.
        assert_ne!(shown(&rsa.chain_ders()[..1]).fingerprint, first.fingerprint);
        let alone = held_facts(&ec.chain_pem(), None).unwrap();
        assert_eq!(
            (alone.chains, alone.fingerprint),
            (vec![second.fingerprint], second.fingerprint)
        );
    }

    #[test]
    fn a_leaf_that_cannot_be_read_is_told_by_its_digest() {
        let served = ServedChain::of(b"odd", std::iter::empty());
        assert_eq!((served.validity, served.leaf), (None, LeafDigest::of(b"odd")));
    }
}
