//! The objects that a binding feeds, and what is odd about them.

use crate::bundle::Facts;
use crate::clock::Timestamp;
use crate::desired::{Desired, DesiredCertificate};
use crate::held::{Held, HeldCertificate};
use crate::status::ObjectStatus;

/// Kong's objects, as they are shown.
pub(super) fn objects(desired: &Desired, held: &Held) -> Vec<ObjectStatus> {
    let adopted = desired.is_adopted();
    let snis = held.certificate().map(|held| held.snis.clone()).unwrap_or_default();
    desired.ids().into_iter().map(|id| ObjectStatus { id, adopted, snis: snis.clone() }).collect()
}

/// What is odd about a bundle and its objects, although Kong serves it.
pub(super) fn warnings(
    desired: &Desired,
    held: Option<&Held>,
    facts: &Facts,
    now: Timestamp,
) -> Vec<String> {
    let mut warnings: Vec<String> =
        facts.warnings_at(now).iter().map(ToString::to_string).collect();
    match desired {
        Desired::Certificate(desired, _) => {
            warnings.extend(of_certificate(desired, held.and_then(Held::certificate), facts));
        }
    }
    warnings
}

fn of_certificate(
    desired: &DesiredCertificate,
    held: Option<&HeldCertificate>,
    facts: &Facts,
) -> Vec<String> {
    let mut warnings = Vec::new();
    for (sni, owner) in &desired.left {
        warnings.push(format!("{sni} stays with {owner}; remove it there, or set TAKE_SNIS"));
    }
    if !desired.missing.is_empty() {
        let missing: Vec<_> = desired.missing.iter().map(ToString::to_string).collect();
        warnings.push(format!(
            "certificate {} was not created by us and lacks the names {}; add them there",
            desired.id,
            missing.join(", ")
        ));
    }
    for name in &desired.unusable {
        warnings.push(format!("kong does not take the name {name}; it is left out"));
    }
    let snis = held.map(|held| &held.snis).filter(|snis| !snis.is_empty());
    if snis.is_some_and(|snis| !snis.iter().any(|sni| facts.covers(sni))) {
        warnings.push(
            "the certificate covers none of its SNIs, and clients will not trust it; check SNIS"
                .to_owned(),
        );
    }
    warnings
}
