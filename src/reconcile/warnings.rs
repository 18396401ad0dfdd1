//! The objects that a binding feeds, and what is odd about them.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::bundle::Facts;
use crate::clock::Timestamp;
use crate::desired::{AuthorityFooting, Desired, DesiredAuthority, DesiredCertificate, Footing};
use crate::held::{Held, HeldCertificate};
use crate::status::ObjectStatus;

/// So many of those to which nothing refers are named in a warning; all are in the objects.
const FIRST_DOUBTED: usize = 3;

/// Kong's objects, as they are shown.
pub(super) fn objects(desired: &Desired, held: &Held) -> Vec<ObjectStatus> {
    let plain = |id, adopted| ObjectStatus { id, adopted, ..ObjectStatus::default() };
    match desired {
        Desired::Certificate(desired, _) => {
            let adopted = matches!(desired.footing, Footing::Adopted { .. });
            let snis = held.certificate().map(|held| held.snis.clone()).unwrap_or_default();
            vec![ObjectStatus { snis, ..plain(desired.id, adopted) }]
        }
        Desired::Authorities(desired) => {
            let shown = |object: &DesiredAuthority| ObjectStatus {
                subject: Some(object.authority.subject().to_string()),
                ..plain(object.id, !matches!(object.footing, AuthorityFooting::Ours { .. }))
            };
            let ids = held.ids();
            let there = desired.objects.iter().filter(|object| ids.contains(&object.id));
            there.map(shown).collect()
        }
        Desired::License(desired, _) => vec![plain(desired.id, desired.is_shared)],
    }
}

/// What is odd about a bundle and its objects, although Kong serves it.
pub(super) fn warnings(
    desired: &Desired,
    held: Option<&Held>,
    facts: &Facts,
    doubted: &BTreeSet<Uuid>,
    now: Timestamp,
) -> Vec<String> {
    let mut warnings: Vec<String> =
        facts.warnings_at(now).iter().map(ToString::to_string).collect();
    match desired {
        Desired::Certificate(desired, _) => {
            warnings.extend(of_certificate(desired, held.and_then(Held::certificate), facts));
        }
        Desired::Authorities(desired) => {
            let held = held.map(Held::ids).unwrap_or_default();
            let is_doubted = |id: &Uuid| doubted.contains(id) && held.contains(id);
            let doubted = desired.objects.iter().filter(|object| is_doubted(&object.id));
            warnings.extend(of_doubted(&doubted.collect::<Vec<_>>()));
        }
        Desired::License(..) => {}
    }
    warnings
}

/// One for all of them.
fn of_doubted(doubted: &[&DesiredAuthority]) -> Option<String> {
    let shown =
        |object: &&DesiredAuthority| format!("{} ({})", object.id, object.authority.subject());
    let first: Vec<String> = doubted.iter().take(FIRST_DOUBTED).map(shown).collect();
    let all = match doubted.len() {
        0 => return None,
        1 => format!("CA certificate {} yet; name it", first.concat()),
        count => {
            let more = count.saturating_sub(FIRST_DOUBTED);
            let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
            format!("{count} CA certificates yet ({}{rest}); name them", first.join(", "))
        }
    };
    Some(format!(
        "nothing in kong refers to {all} in ca_certificates of a service or plugin, or set ID to the one that they name"
    ))
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
