//! The object that a licence feeds.

use uuid::Uuid;

use super::Want;
use crate::bundle::License;
use crate::held::{Held, HeldObject, Snapshot};
use crate::settings::LicenseSettings;

/// A licence as Kong should hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredLicense {
    /// The id of its object.
    pub id: Uuid,
    /// Someone else's with this very licence: used as it is.
    pub is_shared: bool,
}

impl DesiredLicense {
    pub(super) fn held(&self, snapshot: &Snapshot) -> Option<Held> {
        let held = snapshot.license(self.id)?.clone();
        Some(Held { facts: held.facts.clone(), object: HeldObject::License(held) })
    }
}

/// The configured object, or else the one that holds this very licence, or one of our own.
pub(super) fn desired(
    want: &Want<'_>,
    settings: &LicenseSettings,
    license: &License,
    snapshot: &Snapshot,
) -> DesiredLicense {
    let own = settings.id.unwrap_or_else(|| want.own.license(want.binding));
    let is_own = || snapshot.holds(own, license.facts().fingerprint);
    let like = || snapshot.license_like(license.facts().fingerprint).map(|held| held.id);
    // Kong goes by the one that was written last: a second of the same would be of no use.
    let shared = if settings.id.is_some() || is_own() { None } else { like() };
    DesiredLicense { id: shared.unwrap_or(own), is_shared: shared.is_some() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::path::Path;

    use super::*;
    use crate::bundle::{Source, held_license};
    use crate::claims::Claims;
    use crate::desired::Own;
    use crate::held::HeldLicense;
    use crate::names::Instance;

    const OTHER: Uuid = Uuid::from_u128(7);

    fn text(end: &str) -> String {
        format!(
            r#"{{"license": {{"payload": {{"license_expiration_date": "{end}"}}, "signature": "x"}}}}"#
        )
    }

    #[test]
    fn a_licence_has_a_place_of_its_own_unless_kong_has_this_very_one_elsewhere() {
        let own_id = Own::new(&Instance::default(), None).license(&"ee".parse().unwrap());
        let (this, that) = (text("2030-01-31"), text("2031-01-31"));
        let configured = Uuid::from_u128(5);
        for (id, held, expected) in [
            (None, vec![], (own_id, false)),
            (None, vec![(OTHER, &that)], (own_id, false)),
            (None, vec![(OTHER, &this)], (OTHER, true)),
            (None, vec![(OTHER, &this), (own_id, &that)], (OTHER, true)),
            (None, vec![(OTHER, &this), (own_id, &this)], (own_id, false)),
            (Some(configured), vec![(OTHER, &this)], (configured, false)),
        ] {
            let mut snapshot = Snapshot::default();
            for (id, text) in &held {
                let facts = held_license(text).map_err(|invalid| invalid.reason());
                snapshot.insert_license(HeldLicense { id: *id, facts });
            }
            let source = Source { path: Path::new("l"), bytes: this.as_bytes() };
            let license = License::parse(source).unwrap();
            let settings = LicenseSettings { file: "/l".into(), id };
            let own = Own::new(&Instance::default(), None);
            let (claims, binding) = (Claims::default(), "ee".parse().unwrap());
            let want = Want { binding: &binding, own: &own, claims: &claims };
            let found = desired(&want, &settings, &license, &snapshot);
            assert_eq!((found.id, found.is_shared), expected, "{held:?}");
        }
    }
}
