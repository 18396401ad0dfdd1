//! The object that a licence feeds.

use uuid::Uuid;

use super::Want;
use crate::bundle::{Fingerprint, License};
use crate::held::{Held, HeldLicense, HeldObject, Snapshot};
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
    /// What Kong goes by: this object, or another's that was written later.
    pub(super) fn held(&self, license: &License, snapshot: &Snapshot) -> Option<Held> {
        let this = license.facts().fingerprint;
        let other = last(snapshot, self.id, this).filter(|last| !last.is(this));
        let held = other.or_else(|| snapshot.license(self.id))?.clone();
        Some(Held { facts: held.facts.clone(), object: HeldObject::License(held) })
    }
}

/// The configured object, or else the one that holds this very licence and that Kong goes by, or one
/// of our own.
pub(super) fn desired(
    want: &Want<'_>,
    settings: &LicenseSettings,
    license: &License,
    snapshot: &Snapshot,
) -> DesiredLicense {
    let own = settings.id.unwrap_or_else(|| want.own.license(want.binding));
    let this = license.facts().fingerprint;
    let shared = match last(snapshot, own, this) {
        _ if settings.id.is_some() || snapshot.license(own).is_some_and(|held| held.is(this)) => {
            None
        }
        Some(last) => Some(last),
        None => snapshot.licenses().find(|held| held.is(this)),
    };
    let shared = shared.filter(|held| held.id != own && held.is(this)).map(|held| held.id);
    DesiredLicense { id: shared.unwrap_or(own), is_shared: shared.is_some() }
}

/// The licence that was written last; of several at once that of `own`, at worst one that is not
/// `this`. `None` where it is not told when they were written.
///
/// Kong's [documentation] says that data planes use the one with the latest `updated_at`; that a node
/// which has the database does the same is taken for granted. The code is closed.
///
/// [documentation]: https://docs.konghq.com/gateway/3.1.x/admin-api/licenses/reference/
fn last(snapshot: &Snapshot, own: Uuid, this: Fingerprint) -> Option<&HeldLicense> {
    let dated = snapshot.licenses().filter(|held| held.updated_at.is_some());
    dated.max_by_key(|held| (held.updated_at, held.id == own, !held.is(this)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::path::Path;

    use super::*;
    use crate::bundle::{Source, held_license};
    use crate::claims::Claims;
    use crate::desired::Own;
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
        let third = Uuid::from_u128(8);
        for (id, held, expected) in [
            (None, vec![], (own_id, false, None)),
            (None, vec![(OTHER, &that, 1)], (own_id, false, Some(OTHER))),
            (None, vec![(OTHER, &this, 1)], (OTHER, true, Some(OTHER))),
            (None, vec![(OTHER, &this, 2), (own_id, &that, 1)], (OTHER, true, Some(OTHER))),
            (None, vec![(OTHER, &this, 2), (own_id, &this, 1)], (own_id, false, Some(own_id))),
            (None, vec![(OTHER, &that, 1), (own_id, &this, 2)], (own_id, false, Some(own_id))),
            (None, vec![(OTHER, &that, 2), (own_id, &this, 1)], (own_id, false, Some(OTHER))),
            (None, vec![(OTHER, &that, 1), (own_id, &this, 1)], (own_id, false, Some(own_id))),
            // Of another's, what was written last.
            (None, vec![(OTHER, &this, 1), (third, &that, 2)], (own_id, false, Some(third))),
            (None, vec![(OTHER, &this, 2), (third, &that, 1)], (OTHER, true, Some(OTHER))),
            (None, vec![(OTHER, &this, 1), (third, &that, 1)], (own_id, false, Some(third))),
            (Some(configured), vec![(OTHER, &this, 1)], (configured, false, None)),
            (Some(configured), vec![(OTHER, &that, 1)], (configured, false, Some(OTHER))),
            // Of a configuration as a whole nobody knows.
            (None, vec![(OTHER, &that, 0)], (own_id, false, None)),
            (None, vec![(OTHER, &this, 0), (third, &that, 0)], (OTHER, true, Some(OTHER))),
            (None, vec![(OTHER, &that, 0), (own_id, &that, 0)], (own_id, false, Some(own_id))),
        ] {
            let mut snapshot = Snapshot::default();
            for (id, text, at) in &held {
                let facts = held_license(text).map_err(|invalid| invalid.reason());
                let updated_at = Some(*at).filter(|at| *at > 0);
                snapshot.insert_license(HeldLicense { id: *id, facts, updated_at });
            }
            let source = Source { path: Path::new("l"), bytes: this.as_bytes() };
            let license = License::parse(source).unwrap();
            let settings = LicenseSettings { file: "/l".into(), id };
            let own = Own::new(&Instance::default(), None);
            let (claims, binding) = (Claims::default(), "ee".parse().unwrap());
            let want = Want { binding: &binding, own: &own, claims: &claims };
            let found = desired(&want, &settings, &license, &snapshot);
            let counts = found.held(&license, &snapshot).map(|held| held.ids()[0]);
            assert_eq!((found.id, found.is_shared, counts), expected, "{held:?}");
        }
    }
}
