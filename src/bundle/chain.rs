//! The certificates of one file: leaf first, each one such that OpenSSL takes it.

use std::path::Path;

use super::certificate::{Certificate, Signature, Weakness};
use super::pem::{self, Block};
use super::public_key::{KeyType, PublicKey};
use super::{Invalid, Warning};
use crate::clock::Timestamp;

/// More certificates than any chain has.
const MOST_CERTIFICATES: usize = 100;
/// What to do about a certificate that is damaged.
const FETCH_ANEW: &str = "fetch the chain anew";

/// At least one certificate, and none that OpenSSL would refuse to serve.
pub(super) struct Chain {
    certificates: Vec<Certificate>,
    key_type: KeyType,
}

/// What a private key among the certificates is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// Ours, or none of our business.
    Ignored,
    /// A mistake.
    Refused,
}

impl Chain {
    /// Errs unless every block is a certificate that OpenSSL serves.
    pub(super) fn parse(path: &Path, blocks: &[Block<'_>], keys: Keys) -> Result<Self, Invalid> {
        let blocks = certificate_blocks(path, blocks, keys)?;
        if blocks.len() > MOST_CERTIFICATES {
            let mend = "leave only the leaf's chain in it";
            return Err(Invalid::too_many(path, MOST_CERTIFICATES, mend));
        }
        let mut certificates = Vec::with_capacity(blocks.len());
        for (block, position) in blocks.into_iter().zip(1..) {
            certificates.push(Certificate::of_block(path, position, block, FETCH_ANEW)?);
        }
        let key_type = leaf_key_type(path, &certificates)?;
        for (certificate, position) in certificates.iter().zip(1..) {
            check_strength(path, position, certificate)?;
        }
        Ok(Self { certificates, key_type })
    }

    pub(super) fn leaf(&self) -> &Certificate {
        &self.certificates[0]
    }

    /// As the file has them.
    pub(super) fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Of the leaf's key.
    pub(super) fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// The earliest of all.
    pub(super) fn not_after(&self) -> Timestamp {
        self.certificates
            .iter()
            .map(|certificate| certificate.validity.not_after)
            .fold(self.leaf().validity.not_after, Ord::min)
    }

    /// The place, counted from 0, of the first certificate for this key.
    pub(super) fn position_of(&self, key: &PublicKey) -> Option<usize> {
        self.certificates.iter().position(|certificate| key.belongs_to(&certificate.public_key))
    }

    /// What clients may stumble over.
    pub(super) fn warnings(&self) -> Vec<Warning> {
        let leaf = self.leaf();
        let mut warnings = Vec::new();
        if leaf.names.is_empty() {
            warnings.push(Warning::NoNames);
        }
        if !leaf.for_servers {
            warnings.push(Warning::NoServerAuth);
        }
        if !leaf.may_sign && self.key_type != KeyType::Rsa {
            warnings.push(Warning::NoDigitalSignature);
        }
        if !leaf.self_signed && self.issuer_of(leaf).is_none() {
            warnings.push(Warning::IncompleteChain { issuer: leaf.issuer_shown.clone() });
        }
        warnings.extend(self.order_warnings());
        warnings.extend(self.signature_warnings());
        warnings
    }

    fn issuer_of(&self, issued: &Certificate) -> Option<&Certificate> {
        self.certificates.iter().find(|certificate| certificate.may_have_issued(issued))
    }

    /// In order means: each certificate has issued one that stands before it.
    fn order_warnings(&self) -> Vec<Warning> {
        let related = self.related_to_the_leaf();
        let mut warnings = Vec::new();
        for (place, certificate) in self.certificates.iter().enumerate().skip(1) {
            if !related[place] {
                let subject = certificate.subject_shown.clone();
                warnings.push(Warning::UnrelatedCertificate { subject });
                continue;
            }
            let before = &self.certificates[..place];
            let in_order = before.iter().any(|other| certificate.may_have_issued(other));
            if !in_order && !warnings.contains(&Warning::UnorderedChain) {
                warnings.push(Warning::UnorderedChain);
            }
        }
        warnings
    }

    /// Which of them have issued the leaf, or another one of these.
    fn related_to_the_leaf(&self) -> Vec<bool> {
        let mut related = vec![false; self.certificates.len()];
        let mut pending = vec![0];
        while let Some(place) = pending.pop() {
            if std::mem::replace(&mut related[place], true) {
                continue;
            }
            let issued = &self.certificates[place];
            let issuers = self.certificates.iter().enumerate();
            pending.extend(
                issuers
                    .filter(|(_, certificate)| certificate.may_have_issued(issued))
                    .map(|(place, _)| place),
            );
        }
        related
    }

    fn signature_warnings(&self) -> impl Iterator<Item = Warning> {
        self.certificates.iter().filter_map(|certificate| match certificate.signature {
            Signature::Weak(digest) => Some(Warning::WeakSelfSignature {
                subject: certificate.subject_shown.clone(),
                digest,
            }),
            _ => None,
        })
    }
}

/// The blocks to decode, once every block is known to belong here.
fn certificate_blocks<'a, 'b>(
    path: &Path,
    blocks: &'b [Block<'a>],
    keys: Keys,
) -> Result<Vec<&'b Block<'a>>, Invalid> {
    let mut certificates = Vec::with_capacity(blocks.len());
    for block in blocks {
        let belongs_to_key = block.is_key() || block.label == pem::EC_PARAMETERS;
        if block.label == pem::CERTIFICATE {
            certificates.push(block);
        } else if keys == Keys::Refused || !belongs_to_key {
            return Err(foreign_or_no_certificate(path, blocks, block.label));
        }
    }
    Ok(certificates)
}

/// A file with a key alone lacks a certificate, rather than having a key too many.
fn foreign_or_no_certificate(path: &Path, blocks: &[Block<'_>], label: &str) -> Invalid {
    let has_certificate = blocks.iter().any(|block| block.label == pem::CERTIFICATE);
    if !has_certificate && blocks.iter().any(Block::is_key) {
        Invalid::no_certificate(path)
    } else {
        Invalid::foreign_block(path, label, "leave nothing but CERTIFICATE blocks in it")
    }
}

fn leaf_key_type(path: &Path, certificates: &[Certificate]) -> Result<KeyType, Invalid> {
    let leaf = certificates.first().ok_or_else(|| Invalid::no_certificate(path))?;
    // OpenSSL 3.0 serves such a leaf to TLS 1.3 clients only, and they refuse it.
    if leaf.malformed {
        let flaw = "an extension of it cannot be read";
        return Err(Invalid::bad_certificate(path, 1, flaw, FETCH_ANEW));
    }
    leaf.public_key.servable().map_err(|flaw| Invalid::certified_key(path, 1, flaw))
}

/// OpenSSL refuses both when a chain is set, and then Kong has none at all for the name.
fn check_strength(path: &Path, position: usize, certificate: &Certificate) -> Result<(), Invalid> {
    match certificate.weakness() {
        None => Ok(()),
        Some(Weakness::Key(flaw)) => Err(Invalid::certified_key(path, position, flaw)),
        Some(Weakness::Signature(algorithm)) => {
            Err(Invalid::weak_signature(path, position, algorithm))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a panic is how a test fails

    use testkit::{Authority, CertifiedPair, KeyPurpose, Pki};

    use super::super::{Reason, held_facts};
    use super::*;

    fn names(text: &str) -> Vec<&'static str> {
        let facts = held_facts(text, None).unwrap();
        facts.warnings.iter().map(Warning::as_str).collect()
    }

    /// A leaf below two intermediates.
    fn three_deep() -> (Pki, Authority, Authority, CertifiedPair) {
        let pki = Pki::new();
        let upper = pki.intermediate("Upper");
        let lower = upper.intermediate("Lower");
        let pair = pki.leaf_from(&lower, &["a.test"]).issue();
        (pki, upper, lower, pair)
    }

    #[test]
    fn the_order_of_a_chain_is_warned_of() {
        let (pki, upper, lower, pair) = three_deep();
        let (leaf, lower, upper, root) =
            (pair.leaf_pem(), lower.pem(), upper.pem(), pki.root().pem());
        let other = Pki::new().intermediate("Other").pem();
        for (chain, warnings) in [
            (vec![&leaf, &lower, &upper], vec![]),
            (vec![&leaf, &lower, &upper, &root], vec![]),
            (vec![&leaf, &lower], vec![]),
            (vec![&leaf], vec!["incomplete_chain"]),
            (vec![&leaf, &upper, &lower], vec!["unordered_chain"]),
            (vec![&leaf, &root, &upper, &lower], vec!["unordered_chain"]),
            (vec![&leaf, &other, &lower, &upper], vec!["unrelated_certificate"]),
            (vec![&leaf, &leaf, &lower], vec!["unrelated_certificate"]),
            (vec![&leaf, &upper], vec!["incomplete_chain", "unrelated_certificate"]),
        ] {
            let text: String = chain.into_iter().map(String::as_str).collect();
            assert_eq!(names(&text), warnings);
        }
    }

    #[test]
    fn a_cross_signed_issuer_is_related() {
        let (_, upper, lower, pair) = three_deep();
        let text = [pair.leaf_pem(), lower.pem(), lower.reissued().pem(), upper.pem()].concat();
        assert_eq!(names(&text), Vec::<&str>::new());
    }

    #[test]
    fn what_a_leaf_lacks_is_warned_of() {
        let leaf = Pki::new().leaf(&["a.test"]).self_signed();
        let with =
            |purposes: &[KeyPurpose]| names(&leaf.clone().purposes(purposes).issue().chain_pem());
        assert_eq!(with(&[]), Vec::<&str>::new());
        assert_eq!(with(&[KeyPurpose::ClientAuth, KeyPurpose::ServerAuth]), Vec::<&str>::new());
        assert_eq!(with(&[KeyPurpose::Any]), Vec::<&str>::new());
        assert_eq!(with(&[KeyPurpose::ClientAuth]), ["no_server_auth"]);
        let without_signing = [0x03, 0x02, 0x05, 0x20];
        let leaf = leaf.extension("2.5.29.15", &without_signing);
        assert_eq!(names(&leaf.issue().chain_pem()), ["no_digital_signature"]);
        let leaf = leaf.kind(testkit::KeyKind::Rsa2048);
        assert_eq!(names(&leaf.no_san().issue().chain_pem()), ["no_names"]);
    }

    #[test]
    fn a_hundred_certificates_are_taken_and_no_more() {
        let (_, _, lower, pair) = three_deep();
        let chain = |length: usize| pair.leaf_pem() + &lower.pem().repeat(length - 1);
        assert!(held_facts(&chain(100), None).is_ok());
        let error = held_facts(&chain(101), None).unwrap_err();
        assert_eq!(error.reason(), Reason::TooMany);
    }
}
