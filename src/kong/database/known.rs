//! What the certificates amount to that were read lately: where Kong holds the same text as before, it
//! is not parsed again.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::bundle::{Facts, Fingerprint, Reason};
use crate::held::parsed_facts;

/// As many as most sidecars keep in Kong.
const MOST: usize = 64;
/// Of certificates with more names nothing is kept. With it, all is about 100 KB at most.
const MOST_NAMES: usize = 16;

/// Digests of the two texts of an object. What else someone put beside the certificates may be a
/// secret: they are not shown.
type Texts = (Fingerprint, Option<Fingerprint>);

/// Facts of certificates by their texts, of which they follow and of nothing else. The oldest make
/// room.
#[derive(Default)]
pub(in crate::kong) struct Known(Mutex<VecDeque<(Texts, Result<Facts, Reason>)>>);

impl Known {
    /// [`parsed_facts`].
    pub(super) fn facts(&self, cert: &str, cert_alt: Option<&str>) -> Result<Facts, Reason> {
        let digest = |text: &str| Fingerprint::of_text(text.as_bytes());
        let texts = (digest(cert), cert_alt.map(digest));
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, facts)) = known.iter().find(|(known, _)| *known == texts) {
            return facts.clone();
        }
        let facts = parsed_facts(cert, cert_alt);
        if facts.as_ref().is_ok_and(|facts| facts.names.len() > MOST_NAMES) {
            return facts;
        }
        if known.len() == MOST {
            known.pop_front();
        }
        known.push_back((texts, facts.clone()));
        facts
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use testkit::{CertifiedPair, KeyKind, Pki};

    use super::*;

    #[test]
    fn facts_are_those_of_the_texts_however_often_and_in_whatever_order_they_are_asked_for() {
        let pki = Pki::new();
        let pairs: Vec<CertifiedPair> =
            (0..MOST + 2).map(|n| pki.pair(&[&format!("n{n}.test")])).collect();
        let rsa = pki.leaf(&["n0.test"]).kind(KeyKind::Rsa2048).issue().chain_pem();
        let mut cases: Vec<(String, Option<&str>)> =
            pairs.iter().map(|pair| (pair.chain_pem(), None)).collect();
        cases.push((pairs[0].chain_pem(), Some(&rsa)));
        cases.push((rsa.clone(), None));
        cases.push((rsa.clone(), Some(&rsa)));
        cases.push(("-----BEGIN CERTIFICATE-----\n".to_owned(), None));
        cases.push((String::new(), None));
        let known = Known::default();
        for (cert, alt) in cases.iter().chain(&cases).chain(cases.iter().rev()) {
            assert_eq!(known.facts(cert, *alt), parsed_facts(cert, *alt));
            assert!(known.0.lock().unwrap().len() <= MOST);
        }
    }

    #[test]
    fn what_was_parsed_lately_is_not_parsed_again_unless_it_has_many_names() {
        let pki = Pki::new();
        let [first, second] = ["a.test", "b.test"].map(|name| pki.pair(&[name]).chain_pem());
        let known = Known::default();
        let names: Vec<String> = (0..=MOST_NAMES).map(|number| format!("n{number}.test")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let many = pki.pair(&names).chain_pem();
        let parsed = [&first, &second, &first, &first, &many].map(|text| {
            known.facts(text, None).unwrap();
            known.0.lock().unwrap().len()
        });
        assert_eq!(parsed, [1, 2, 2, 2, 2]);
    }
}
