//! What is known about a bundle: everything that others may see of it.

use std::path::Path;

use super::certificate::folded;
use super::chain::Chain;
use super::{Authority, Fingerprint, Invalid, KeyType, LeafDigest, Warning};
use crate::clock::Timestamp;
use crate::few::Few;

/// From the first second to the last, both included (RFC 5280, section 4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: Timestamp,
    /// The last second.
    pub not_after: Timestamp,
}

impl Validity {
    /// The time in which both are valid.
    fn both(self, other: Self) -> Self {
        Self {
            not_before: self.not_before.max(other.not_before),
            not_after: self.not_after.min(other.not_after),
        }
    }
}

/// What is known about a bundle, or about what Kong holds. Nothing in it is secret, and two that
/// are equal may stand for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The identity of it all.
    pub fingerprint: Fingerprint,
    /// The identity of each chain alone, main first: what a handshake shows is one of them. Of
    /// authorities and licences, which are not served, there is none, nor a name or key type.
    pub chains: Vec<Fingerprint>,
    /// Each leaf's own digest, main first; or each authority's.
    pub leaves: Vec<LeafDigest>,
    /// The `dNSName`s of all leaves, ASCII lower-case, without a trailing dot, otherwise as written.
    pub names: Few<String>,
    /// Of the leaves: the latest `notBefore` and the earliest `notAfter` where there are two. Of
    /// authorities the earliest of both, as one of them is of use while another has expired.
    pub validity: Validity,
    /// The earliest `notAfter` of all certificates, leaves included.
    pub chain_not_after: Timestamp,
    /// Main first.
    pub key_types: Vec<KeyType>,
    /// Made by cert-manager to stand in until the issuer has answered.
    pub temporary: bool,
    /// What is served all the same, but may not work for all clients.
    pub warnings: Vec<Warning>,
}

impl Facts {
    /// Of one chain, or of two with keys of different types.
    pub(super) fn of(main: &Chain, alt: Option<&Chain>) -> Self {
        let chains: Vec<&Chain> = [Some(main), alt].into_iter().flatten().collect();
        let leaves = || chains.iter().map(|chain| chain.leaf());
        Self {
            fingerprint: Fingerprint::of(&chains),
            chains: chains.iter().map(|chain| Fingerprint::of(&[chain])).collect(),
            leaves: leaves().map(|leaf| LeafDigest::of(leaf.der())).collect(),
            names: leaves().flat_map(|leaf| leaf.names.clone()).collect(),
            validity: leaves().map(|leaf| leaf.validity).fold(main.leaf().validity, Validity::both),
            chain_not_after: chains
                .iter()
                .map(|chain| chain.not_after())
                .fold(main.not_after(), Ord::min),
            key_types: chains.iter().map(|chain| chain.key_type()).collect(),
            temporary: leaves().any(|leaf| leaf.temporary),
            warnings: warnings(&chains),
        }
    }

    /// Of all of them together, in whatever order and however often they come; `None` of none. For
    /// what Kong holds, too.
    pub fn of_authorities<'a>(members: impl IntoIterator<Item = &'a Authority>) -> Option<Self> {
        let mut members: Vec<&Authority> = members.into_iter().collect();
        members.sort_by_key(|member| member.der());
        members.dedup();
        let validities = || members.iter().map(|member| member.validity());
        let not_after = validities().map(|validity| validity.not_after).min()?;
        let not_before = validities().map(|validity| validity.not_before).min()?;
        Some(Self {
            leaves: members.iter().map(|member| member.digest()).collect(),
            warnings: members.iter().filter_map(|member| member.warning()).collect(),
            ..Self::unserved(
                Fingerprint::of_parts(members.iter().map(|member| member.der())),
                Validity { not_before, not_after },
            )
        })
    }

    /// Of a licence, as its JSON is spelled canonically.
    pub(super) fn of_license(canonical: &[u8], validity: Validity) -> Self {
        Self::unserved(Fingerprint::of_text(canonical), validity)
    }

    /// Of what no handshake shows.
    fn unserved(fingerprint: Fingerprint, validity: Validity) -> Self {
        Self {
            fingerprint,
            chains: Vec::new(),
            leaves: Vec::new(),
            names: Few::default(),
            validity,
            chain_not_after: validity.not_after,
            key_types: Vec::new(),
            temporary: false,
            warnings: Vec::new(),
        }
    }

    /// Whether a client accepts a leaf for this host name, or for every host of this pattern:
    /// `*.example.com` in the leaf covers `a.example.com` and `*.example.com`, but neither
    /// `a.b.example.com` nor `example.com` (RFC 9525, section 6.3).
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        let name = folded(name);
        if self.names.contains(&name) {
            return true;
        }
        match name.split_once('.') {
            Some((label, parent)) if !label.is_empty() => {
                self.names.contains(&format!("*.{parent}"))
            }
            _ => false,
        }
    }

    /// Whether a leaf is past its last second; of authorities, whether one of them is.
    #[must_use]
    pub fn expired_at(&self, now: Timestamp) -> bool {
        now > self.validity.not_after
    }

    /// [`Invalid::Expired`] if a leaf is past its last second; `file` is for the message.
    pub fn check_expired(&self, file: &Path, now: Timestamp) -> Result<(), Invalid> {
        if self.expired_at(now) {
            return Err(Invalid::expired(file, self.validity.not_after));
        }
        Ok(())
    }

    /// Whether a leaf's first second is still to come; of authorities, that of all of them.
    #[must_use]
    pub fn not_yet_valid_at(&self, now: Timestamp) -> bool {
        now < self.validity.not_before
    }

    /// [`Facts::warnings`], and whether another certificate of the chain has expired at `now`.
    #[must_use]
    pub fn warnings_at(&self, now: Timestamp) -> Vec<Warning> {
        let mut warnings = self.warnings.clone();
        if now > self.chain_not_after && !self.expired_at(now) {
            warnings.push(Warning::ExpiredIntermediate { not_after: self.chain_not_after });
        }
        warnings
    }
}

/// Those of all chains, each once.
fn warnings(chains: &[&Chain]) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for warning in chains.iter().flat_map(|chain| chain.warnings()) {
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a panic is how a test fails

    use testkit::Pki;

    use super::super::held_facts;
    use super::*;

    fn facts(names: &[&str]) -> Facts {
        held_facts(&Pki::new().pair(names).chain_pem(), None).unwrap()
    }

    #[test]
    fn a_leaf_covers_its_names_and_one_label_below_a_wildcard() {
        let facts = facts(&["a.test", "*.b.test", "UPPER.test.", "xn--bcher-kva.test"]);
        for (name, covered) in [
            ("a.test", true),
            ("A.Test.", true),
            ("upper.test", true),
            ("xn--bcher-kva.test", true),
            ("x.b.test", true),
            ("*.b.test", true),
            ("x.y.b.test", false),
            ("b.test", false),
            (".b.test", false),
            ("x.a.test", false),
            ("*.test", false),
            ("*", false),
            ("", false),
            (".", false),
        ] {
            assert_eq!(facts.covers(name), covered, "{name}");
        }
    }

    #[test]
    fn only_dns_names_are_names() {
        let pki = Pki::new();
        let pair = pki
            .leaf(&["B.test.", "*.a.test"])
            .ip([192, 0, 2, 1].into())
            .email("c@d.test")
            .common_name("e.test")
            .issue();
        let facts = held_facts(&pair.chain_pem(), None).unwrap();
        assert_eq!(Vec::from_iter(facts.names), ["*.a.test", "b.test"]);
    }

    #[test]
    fn the_last_second_of_a_life_is_part_of_it() {
        let pair = Pki::new().leaf(&["a.test"]).not_before(100).not_after(200).issue();
        let facts = held_facts(&pair.chain_pem(), None).unwrap();
        for (now, early, late) in
            [(99, true, false), (100, false, false), (200, false, false), (201, false, true)]
        {
            assert_eq!(facts.not_yet_valid_at(Timestamp(now)), early, "{now}");
            assert_eq!(facts.expired_at(Timestamp(now)), late, "{now}");
        }
    }

    #[test]
    fn an_expired_intermediate_is_warned_of_while_the_leaf_lives() {
        let pki = Pki::new();
        let upper = pki.root().intermediate_with("Upper", testkit::KeyKind::P256, 100, 200);
        let pair = upper.leaf(&["a.test"]).not_before(100).not_after(300).issue();
        let facts = held_facts(&pair.chain_pem(), None).unwrap();
        assert_eq!(facts.chain_not_after, Timestamp(200));
        assert_eq!(facts.warnings_at(Timestamp(200)), []);
        assert_eq!(
            facts.warnings_at(Timestamp(201)),
            [Warning::ExpiredIntermediate { not_after: Timestamp(200) }]
        );
        assert_eq!(facts.warnings_at(Timestamp(301)), []);
    }
}
