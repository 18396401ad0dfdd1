//! What is desired, as entries of a configuration.

use std::collections::BTreeSet;

use crate::bundle::{Pair, Pairs};
use crate::declarative::{AltPair, Document, Entry, OwnFields};
use crate::desired::{Alt, AuthorityFooting, Desired, DesiredCertificate, Footing};

/// Puts what is desired into `document`, whose own entry stays where the keys are not at hand.
pub fn enter(document: &mut Document, desired: &Desired) {
    match desired {
        Desired::Certificate(desired, bundle) => {
            if let Some(pairs) = bundle.pairs() {
                enter_certificate(document, desired, pairs);
            }
        }
        Desired::Authorities(desired) => {
            for object in &desired.objects {
                let tags = match &object.footing {
                    AuthorityFooting::Ours { tags, .. } => Some(tags),
                    AuthorityFooting::Adopted => None,
                    AuthorityFooting::Shared | AuthorityFooting::Left(_) => continue,
                };
                let cert = object.authority.pem();
                document.put(Entry::Authority { id: object.id, cert: &cert, tags });
            }
        }
        Desired::License(desired, license) => {
            document.put(Entry::License { id: desired.id, payload: license.payload() });
        }
    }
}

fn enter_certificate(document: &mut Document, desired: &DesiredCertificate, pairs: &Pairs) {
    let is_swapped = matches!(desired.footing, Footing::Adopted { swap: true, .. });
    let (main, second) = match pairs.alt() {
        Some(second) if is_swapped => (second, Some(pairs.main())),
        second => (pairs.main(), second),
    };
    let (cert, cert_alt) = (main.cert_pem(), second.map(Pair::cert_pem));
    let written = second.zip(cert_alt.as_deref());
    let written = written.map(|(pair, cert)| AltPair::Write { cert, key: pair.key_pem() });
    let (alt, fields) = match &desired.footing {
        Footing::Ours { fields, .. } => (
            written.unwrap_or(AltPair::Clear),
            Some(OwnFields { snis: &fields.snis, tags: &fields.tags }),
        ),
        Footing::Adopted { alt: Alt::Write, .. } => (written.unwrap_or(AltPair::Keep), None),
        Footing::Adopted { alt: Alt::Clear, .. } => (AltPair::Clear, None),
        Footing::Adopted { alt: Alt::Keep, .. } => (AltPair::Keep, None),
    };
    let take: BTreeSet<String> = desired.take.iter().map(ToString::to_string).collect();
    let key = main.key_pem();
    document.put(Entry::Certificate { id: desired.id, cert: &cert, key, alt, fields, take: &take });
}
