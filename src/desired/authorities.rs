//! The objects that a file of CA certificates feeds: one for each certificate in it.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{Refusal, Want, demand_no_other_controller};
use crate::bundle::{Authorities, Authority, Facts, Reason};
use crate::claims::Place;
use crate::held::{Held, HeldAuthority, HeldObject, Snapshot};
use crate::names::BindingName;
use crate::quote::Quoted;
use crate::settings::AuthoritySettings;

/// CA certificates as Kong should hold them, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredAuthorities {
    /// One for each certificate in the file.
    pub objects: Vec<DesiredAuthority>,
    /// There is one, and it is replaced in place.
    pub is_in_place: bool,
}

/// One CA certificate as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredAuthority {
    /// The id of its object.
    pub id: Uuid,
    /// What is written.
    pub authority: Authority,
    /// On what terms it is written.
    pub footing: AuthorityFooting,
    /// What Kong has in its place.
    pub held: Option<HeldAuthority>,
}

impl DesiredAuthority {
    /// Whether Kong has it, with whatever other fields.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.is(&self.authority))
    }

    fn fields_differ(&self) -> bool {
        matches!(self.footing, AuthorityFooting::Ours { differ: true, .. })
    }

    /// Who is to write it, if that is another binding of ours.
    fn left(&self) -> Option<String> {
        let AuthorityFooting::Left(to) = &self.footing else { return None };
        Some(format!(
            "{}: binding {to} has the place for it ({})",
            self.authority.subject(),
            self.id
        ))
    }

    /// What Kong has, if nothing is to be written.
    #[must_use]
    pub fn at_rest(&self) -> Option<&HeldAuthority> {
        self.held.as_ref().filter(|_| self.is_there() && !self.fields_differ())
    }
}

/// On what terms the object of a CA certificate is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorityFooting {
    /// Created by us, or to be created: written as a whole.
    Ours {
        /// All its tags.
        tags: BTreeSet<String>,
        /// Kept as Kong has it; left out, Kong resets it.
        created_at: Option<i64>,
        /// Whether Kong's tags are others.
        differ: bool,
    },
    /// Someone else's with the configured id: the certificate is replaced, the rest is left alone.
    Adopted,
    /// Someone else's with this very certificate, which Kong holds once only: used as it is.
    Shared,
    /// Kong lacks it, and this binding of ours has a place for it: that one writes it.
    Left(BindingName),
}

impl DesiredAuthorities {
    /// What Kong holds in their place, as far as it does.
    pub(super) fn held(&self, snapshot: &Snapshot) -> Option<Held> {
        let held: Vec<HeldAuthority> =
            self.objects.iter().filter_map(|object| self.counted(object, snapshot)).collect();
        (!held.is_empty()).then(|| held_together(held))
    }

    /// Whether there are several places, and one of them lacks its certificate.
    pub(super) fn lacks_some(&self, snapshot: &Snapshot) -> bool {
        !self.is_in_place
            && self.objects.iter().any(|object| self.counted(object, snapshot).is_none())
    }

    /// What another binding of ours is to write before this one is whole, if that is all that is
    /// missing.
    pub(super) fn waits_for(&self, snapshot: &Snapshot) -> Option<Quoted> {
        let lacking = self.objects.iter().filter(|object| self.counted(object, snapshot).is_none());
        let left: Option<Vec<String>> = lacking.map(DesiredAuthority::left).collect();
        let left = left.filter(|left| !left.is_empty() && !self.fields_differ())?;
        Some(Quoted::new(&left.join("; ")))
    }

    /// What counts at a place: one that may change its certificate has what is there.
    fn counted(&self, object: &DesiredAuthority, snapshot: &Snapshot) -> Option<HeldAuthority> {
        let there = snapshot.authority(object.id)?;
        let counts = self.is_in_place || there.is(&object.authority);
        counts.then(|| there.read_as(&object.authority))
    }

    /// Those that Kong has no object for, and get one of this binding's.
    pub fn created(&self) -> impl Iterator<Item = &DesiredAuthority> {
        let is_left =
            |object: &DesiredAuthority| matches!(object.footing, AuthorityFooting::Left(_));
        self.objects.iter().filter(move |object| object.held.is_none() && !is_left(object))
    }

    pub(super) fn fields_differ(&self) -> bool {
        self.objects.iter().any(DesiredAuthority::fields_differ)
    }
}

/// Objects that are one binding's.
#[must_use]
pub fn held_together(held: Vec<HeldAuthority>) -> Held {
    let members: Result<Vec<&Authority>, _> =
        held.iter().map(|held| held.authority.as_ref().map_err(|reason| *reason)).collect();
    let facts =
        members.and_then(|members| Facts::of_authorities(members).ok_or(Reason::NoCertificate));
    Held { facts, object: HeldObject::Authorities(held) }
}

pub(super) fn desired(
    want: &Want<'_>,
    settings: &AuthoritySettings,
    authorities: &Authorities,
    snapshot: &Snapshot,
) -> Result<DesiredAuthorities, Refusal> {
    let members = authorities.members();
    let objects = match settings.id {
        Some(id) => vec![in_place(want, settings, id, members, snapshot)?],
        None => {
            members.iter().map(|authority| by_digest(want, settings, authority, snapshot)).collect()
        }
    };
    Ok(DesiredAuthorities { objects, is_in_place: settings.id.is_some() })
}

/// The configured object is the place of one CA, whichever that is.
fn in_place(
    want: &Want<'_>,
    settings: &AuthoritySettings,
    id: Uuid,
    members: &[Authority],
    snapshot: &Snapshot,
) -> Result<DesiredAuthority, Refusal> {
    let [authority] = members else {
        return Err(Refusal::SeveralAuthorities { id, count: members.len() });
    };
    if let Some(other) = snapshot.authority_like(authority).filter(|other| other.id != id) {
        return Err(Refusal::AuthorityElsewhere { id, other: other.id });
    }
    let held = snapshot.authority(id);
    let footing = match held.filter(|held| !held.tags.contains(want.own.tag())) {
        Some(held) => {
            demand_no_other_controller(id, &held.tags)?;
            AuthorityFooting::Adopted
        }
        None => ours(want, settings, held),
    };
    let held = held.map(|held| held.read_as(authority));
    Ok(DesiredAuthority { id, authority: authority.clone(), footing, held })
}

fn by_digest(
    want: &Want<'_>,
    settings: &AuthoritySettings,
    authority: &Authority,
    snapshot: &Snapshot,
) -> DesiredAuthority {
    let own = want.own.authority(want.binding, authority.digest());
    let like = snapshot.authority_like(authority);
    let place = want.claims.place_of(want.binding, authority.digest());
    if let (None, Some(Place { binding, id })) = (like, place) {
        let footing = AuthorityFooting::Left(binding.clone());
        return DesiredAuthority { id: *id, authority: authority.clone(), footing, held: None };
    }
    let held = like.or_else(|| snapshot.authority(own)).map(|held| held.read_as(authority));
    // One that lost our tag is still at the place that is ours alone.
    let is_ours = |held: &HeldAuthority| held.id == own || held.tags.contains(want.own.tag());
    let footing = match &held {
        Some(held) if !is_ours(held) => AuthorityFooting::Shared,
        held => ours(want, settings, held.as_ref()),
    };
    let id = held.as_ref().map_or(own, |held| held.id);
    DesiredAuthority { id, authority: authority.clone(), footing, held }
}

fn ours(
    want: &Want<'_>,
    settings: &AuthoritySettings,
    held: Option<&HeldAuthority>,
) -> AuthorityFooting {
    let mut tags: BTreeSet<String> = settings.tags.iter().map(ToString::to_string).collect();
    tags.insert(want.own.tag().to_owned());
    tags.extend(held.into_iter().flat_map(|held| held.tags.iter().cloned()));
    let differ = held.is_some_and(|held| held.tags != tags);
    AuthorityFooting::Ours { tags, created_at: held.and_then(|held| held.created_at), differ }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::path::Path;

    use testkit::{Authority as TestAuthority, KeyKind};

    use super::*;
    use crate::bundle::{LeafDigest, Source, held_authority};
    use crate::claims::Claims;
    use crate::clock::Timestamp;
    use crate::desired::{INGRESS_CONTROLLER, Own};
    use crate::names::Instance;

    const OURS: &str = "managed-by:kong-cert-reloader:default";

    fn own() -> Own {
        Own::new(&Instance::default(), None)
    }

    const fn numbered(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn strings(texts: &[&str]) -> BTreeSet<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn root(name: &str) -> TestAuthority {
        TestAuthority::root(name, KeyKind::P256)
    }

    fn place(authority: &TestAuthority) -> Uuid {
        own().authority(&"web".parse().unwrap(), LeafDigest::of(authority.der()))
    }

    fn object(id: Uuid, cert: &str, tags: &[&str]) -> HeldAuthority {
        let authority = held_authority(cert).map_err(|invalid| invalid.reason());
        HeldAuthority { id, authority, digest: None, tags: strings(tags), created_at: Some(7) }
    }

    /// What a file of these, configured so, asks of a Kong with these objects.
    fn desired(
        file: &[&TestAuthority],
        id: Option<Uuid>,
        objects: Vec<HeldAuthority>,
    ) -> Result<DesiredAuthorities, Refusal> {
        let text: String = file.iter().map(|authority| authority.pem()).collect();
        let source = Source { path: Path::new("ca.crt"), bytes: text.as_bytes() };
        let authorities = Authorities::parse(source, Timestamp(1_800_000_000)).unwrap();
        let tags = ["team:edge".parse().unwrap()].into();
        let settings = AuthoritySettings { file: "/ca.crt".into(), id, tags };
        let mut snapshot = Snapshot::default();
        objects.into_iter().for_each(|object| snapshot.insert_authority(object));
        let (own, claims, binding) = (own(), Claims::default(), "web".parse().unwrap());
        let want = Want { binding: &binding, own: &own, claims: &claims };
        super::desired(&want, &settings, &authorities, &snapshot)
    }

    /// Of a file with one: its id, its tags if it is ours, and whether something is to be written.
    fn one(
        file: &TestAuthority,
        id: Option<Uuid>,
        objects: Vec<HeldAuthority>,
    ) -> (Uuid, Option<BTreeSet<String>>, bool) {
        let found = desired(&[file], id, objects).unwrap();
        let object = &found.objects[0];
        let tags = match &object.footing {
            AuthorityFooting::Ours { tags, .. } => Some(tags.clone()),
            _ => None,
        };
        (object.id, tags, object.at_rest().is_none())
    }

    #[test]
    fn each_has_a_place_of_its_own_unless_kong_has_it_elsewhere() {
        let (ca, other) = (root("One"), root("Other"));
        let wanted = Some(strings(&[OURS, "team:edge"]));
        let own = place(&ca);
        assert_ne!(own, place(&other));
        let (pem, theirs) = (ca.pem(), numbered(7));
        for (held, expected) in [
            (vec![], (own, wanted.clone(), true)),
            (vec![object(own, &pem, &[OURS, "team:edge"])], (own, wanted.clone(), false)),
            (vec![object(own, &pem, &[OURS])], (own, wanted.clone(), true)),
            // It lost its tag, or its certificate.
            (vec![object(own, &pem, &[])], (own, wanted.clone(), true)),
            (vec![object(own, &other.pem(), &[OURS])], (own, wanted.clone(), true)),
            (vec![object(own, "{vault://env/ca}", &[OURS])], (own, wanted.clone(), true)),
            // That of another binding of ours.
            (vec![object(theirs, &pem, &[OURS, "team:edge"])], (theirs, wanted.clone(), false)),
            (vec![object(theirs, &pem, &[OURS])], (theirs, wanted.clone(), true)),
            (vec![object(theirs, &pem, &[])], (theirs, None, false)),
            (vec![object(theirs, &pem, &[INGRESS_CONTROLLER])], (theirs, None, false)),
            (vec![object(theirs, &other.pem(), &[])], (own, wanted.clone(), true)),
        ] {
            assert_eq!(one(&ca, None, held.clone()), expected, "{held:?}");
        }
    }

    #[test]
    fn tags_made_by_hand_and_the_time_of_creation_stay() {
        let ca = root("One");
        let held = vec![object(place(&ca), &ca.pem(), &[OURS, "by:hand"])];
        let found = desired(&[&ca], None, held).unwrap();
        let AuthorityFooting::Ours { tags, created_at, differ } = &found.objects[0].footing else {
            panic!("not ours")
        };
        assert_eq!(*tags, strings(&[OURS, "by:hand", "team:edge"]));
        assert_eq!((*created_at, *differ), (Some(7), true));
    }

    #[test]
    fn a_configured_place_is_ours_unless_someone_else_made_it() {
        let (ca, former) = (root("One"), root("Former"));
        let id = numbered(5);
        for (held, tags, writes) in [
            (vec![], Some(strings(&[OURS, "team:edge"])), true),
            (vec![object(id, &former.pem(), &[OURS])], Some(strings(&[OURS, "team:edge"])), true),
            (vec![object(id, &former.pem(), &["theirs"])], None, true),
            (vec![object(id, &ca.pem(), &["theirs"])], None, false),
        ] {
            assert_eq!(one(&ca, Some(id), held.clone()), (id, tags, writes), "{held:?}");
        }
    }

    #[test]
    fn a_configured_place_is_refused_where_that_could_hurt_someone_or_kong_would_refuse_it() {
        let (ca, other) = (root("One"), root("Other"));
        let (id, elsewhere) = (numbered(5), numbered(9));
        let foreign = |tag: &str| vec![object(id, &other.pem(), &[tag])];
        let instance = "managed-by:kong-cert-reloader:edge";
        for (file, held, expected, told) in [
            (vec![&ca], foreign(INGRESS_CONTROLLER), "other_controller", INGRESS_CONTROLLER),
            (vec![&ca], foreign(instance), "other_controller", instance),
            (
                vec![&ca],
                vec![object(elsewhere, &ca.pem(), &[OURS])],
                "authority_elsewhere",
                "set ID",
            ),
            (vec![&ca, &other], vec![], "several_authorities", "leave ID out"),
        ] {
            let refusal = desired(&file, Some(id), held).unwrap_err();
            assert_eq!(refusal.as_str(), expected);
            let said = refusal.to_string();
            assert!(said.contains(told) && said.contains(&id.to_string()), "{said}");
        }
    }

    fn snapshot(objects: &[HeldAuthority]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        objects.iter().for_each(|object| snapshot.insert_authority(object.clone()));
        snapshot
    }

    #[test]
    fn what_kong_holds_of_a_file_is_what_is_there_and_whether_it_lacks_some() {
        let (one, two) = (root("One"), root("Two"));
        let held = |objects: &[&HeldAuthority]| {
            let objects: Vec<_> = objects.iter().map(|&object| object.clone()).collect();
            let snapshot = snapshot(&objects);
            let found = desired(&[&one, &two], None, objects).unwrap();
            let ids = found.held(&snapshot).map(|held| held.ids().len()).unwrap_or_default();
            (ids, found.lacks_some(&snapshot), found.created().count())
        };
        let (first, second) = (
            object(numbered(1), &one.pem(), &[]),
            object(place(&two), &two.pem(), &[OURS, "team:edge"]),
        );
        let changed = object(place(&two), &root("Changed").pem(), &[OURS]);
        assert_eq!(held(&[]), (0, true, 2));
        assert_eq!(held(&[&first]), (1, true, 1));
        assert_eq!(held(&[&first, &changed]), (1, true, 0));
        assert_eq!(held(&[&first, &second]), (2, false, 0));
        // In place it is whatever is there.
        let snapshot = snapshot(std::slice::from_ref(&changed));
        let in_place = desired(&[&one], Some(changed.id), vec![changed]).unwrap();
        let held = in_place.held(&snapshot).unwrap();
        assert_eq!((held.ids().len(), in_place.lacks_some(&snapshot)), (1, false));
    }
}
