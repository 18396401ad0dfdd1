//! The certificate object that a binding feeds, its SNIs and tags.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{Owner, Refusal, Want, demand_no_other_controller};
use crate::bundle::{Facts, Fingerprint, Reason};
use crate::few::Few;
use crate::held::{Held, HeldCertificate, HeldObject, Snapshot};
use crate::names::Sni;
use crate::quote::Quoted;
use crate::settings::CertificateSettings;

/// The object as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredCertificate {
    /// Its id.
    pub id: Uuid,
    /// On what terms it is written.
    pub footing: Footing,
    /// Names to move to it from objects of others.
    pub take: BTreeSet<Sni>,
    /// Names that it does not get, and who has them.
    pub left: BTreeMap<Sni, Owner>,
    /// Names that are not on an adopted object, whose SNIs are left alone.
    pub missing: BTreeSet<Sni>,
    /// Names of the SAN that Kong does not take.
    pub unusable: Vec<Quoted>,
}

impl DesiredCertificate {
    /// What Kong's object serves, as far as it is this binding's: the second pair of an adopted
    /// object is someone else's unless the file has one too, or had.
    pub fn held_facts<'a>(&self, held: &'a HeldCertificate) -> &'a Result<Facts, Reason> {
        match (&self.footing, &held.main_facts) {
            (Footing::Adopted { alt: Alt::Keep, .. }, Some(main)) => main,
            _ => &held.facts,
        }
    }

    /// Kong's object, seen as this binding's.
    #[must_use]
    pub fn held(&self, held: HeldCertificate) -> Held {
        Held { facts: self.held_facts(&held).clone(), object: HeldObject::Certificate(held) }
    }

    /// The names that are written with it.
    pub(super) fn written_names(&self) -> BTreeSet<&str> {
        let taken = self.take.iter().map(AsRef::as_ref);
        match &self.footing {
            Footing::Ours { fields, .. } => {
                fields.snis.iter().map(String::as_str).chain(taken).collect()
            }
            Footing::Adopted { .. } => taken.collect(),
        }
    }

    pub(super) const fn fields_differ(&self) -> bool {
        matches!(self.footing, Footing::Ours { differ: true, .. })
    }
}

/// On what terms an object is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Footing {
    /// Created by us, or to be created: written as a whole.
    Ours {
        /// Every field but certificate and key.
        fields: CertificateFields,
        /// Whether Kong's fields are others.
        differ: bool,
    },
    /// Someone else's: certificate and key are replaced, the rest is left alone.
    Adopted {
        /// What becomes of its second pair.
        alt: Alt,
        /// Main and second pair change places, so that key types stay where they are.
        swap: bool,
    },
}

/// The fields of an object of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFields {
    /// All its SNIs.
    pub snis: Few<String>,
    /// All its tags.
    pub tags: Few<String>,
    /// Kept as Kong has it; left out, Kong resets it.
    pub created_at: Option<i64>,
}

/// What becomes of the second pair of an adopted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alt {
    /// There is none, or it is not ours.
    Keep,
    /// Ours is written.
    Write,
    /// It was ours, and the file has none any more.
    Clear,
}

/// The configured names, or else those of the certificate.
#[must_use]
pub fn names(settings: &CertificateSettings, facts: &Facts) -> Names {
    if let Some(snis) = &settings.snis {
        return Names { usable: snis.clone(), unusable: Vec::new() };
    }
    let mut names = Names::default();
    for name in &facts.names {
        match name.parse::<Sni>() {
            Ok(sni) => drop(names.usable.insert(sni)),
            Err(_) => names.unusable.push(Quoted::new(name)),
        }
    }
    names
}

/// Names for a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Those that Kong takes.
    pub usable: BTreeSet<Sni>,
    /// Those that it does not take.
    pub unusable: Vec<Quoted>,
}

/// Chooses the object and its fields.
///
/// `settled` is the last bundle on which file and Kong agreed.
///
/// # Errors
///
/// Says why no object may be written, naming owners and names.
pub(super) fn desired(
    want: &Want<'_>,
    settings: &CertificateSettings,
    facts: &Facts,
    snapshot: &Snapshot,
    settled: Option<Fingerprint>,
) -> Result<DesiredCertificate, Refusal> {
    let asking = &Asking { want: *want, settings };
    let names = names(settings, facts);
    match home(asking, facts, &names, snapshot)? {
        Home::Ours(id) => ours(asking, names, snapshot, id),
        Home::Adopted(held) => adopted(facts, names, held, settled),
    }
}

/// What a binding wants, and what is configured for it.
struct Asking<'a> {
    want: Want<'a>,
    settings: &'a CertificateSettings,
}

impl Asking<'_> {
    /// The object that is fed unless another has the names.
    fn id(&self) -> Uuid {
        self.want.own.certificate_of(self.want.binding, self.settings)
    }
}

enum Home<'a> {
    Ours(Uuid),
    Adopted(&'a HeldCertificate),
}

fn home<'a>(
    asking: &Asking<'_>,
    facts: &Facts,
    names: &Names,
    snapshot: &'a Snapshot,
) -> Result<Home<'a>, Refusal> {
    if asking.settings.id.is_some() {
        return match snapshot.certificate(asking.id()) {
            Some(held) if !held.tags.contains(asking.want.own.tag()) => {
                if !asking.settings.adopt {
                    return Err(Refusal::NotOurs { id: held.id });
                }
                demand_adoptable(held)?;
                Ok(Home::Adopted(held))
            }
            _ => Ok(Home::Ours(asking.id())),
        };
    }
    let owners: BTreeMap<Uuid, &HeldCertificate> = names
        .usable
        .iter()
        .filter_map(|sni| snapshot.owner(sni.as_ref()))
        .map(|held| (held.id, held))
        .collect();
    let is_others = |held: &&&HeldCertificate| {
        !asking.want.claims.is_fed_by_another(asking.want.binding, held.id)
    };
    let mut others = owners.values().filter(is_others);
    match (others.next(), others.next()) {
        (None, _) => Ok(Home::Ours(asking.id())),
        _ if owners.contains_key(&asking.id()) => Ok(Home::Ours(asking.id())),
        // Left behind by a binding of this instance that was renamed.
        (Some(only), None) if only.tags.contains(asking.want.own.tag()) => Ok(Home::Ours(only.id)),
        _ if !asking.settings.adopt => Ok(Home::Ours(asking.id())),
        (Some(only), None) => {
            match demand_adoptable(only).and_then(|()| demand_covered(only, facts)) {
                Ok(()) => Ok(Home::Adopted(only)),
                Err(_) if asking.settings.take_snis => Ok(Home::Ours(asking.id())),
                Err(refusal) => Err(refusal),
            }
        }
        (Some(_), Some(_)) if asking.settings.take_snis => Ok(Home::Ours(asking.id())),
        (Some(_), Some(_)) => Err(Refusal::SeveralOwners { owners: owners_of(names, snapshot) }),
    }
}

fn owners_of(names: &Names, snapshot: &Snapshot) -> BTreeMap<Sni, Owner> {
    let owner = |sni: &Sni| Some((sni.clone(), Owner::Object(snapshot.owner(sni.as_ref())?.id)));
    names.usable.iter().filter_map(owner).collect()
}

fn demand_adoptable(held: &HeldCertificate) -> Result<(), Refusal> {
    demand_no_other_controller(held.id, &held.tags)?;
    if held.is_reference {
        return Err(Refusal::VaultReference { id: held.id });
    }
    Ok(())
}

/// No name that the present leaf covers may lose its cover.
fn demand_covered(held: &HeldCertificate, facts: &Facts) -> Result<(), Refusal> {
    let Ok(present) = &held.facts else { return Ok(()) };
    let lost = |sni: &&String| present.covers(sni) && !facts.covers(sni);
    let names: Vec<_> = held.snis.iter().filter(lost).map(|sni| Quoted::new(sni)).collect();
    if names.is_empty() { Ok(()) } else { Err(Refusal::Uncovered { id: held.id, names }) }
}

fn ours(
    asking: &Asking<'_>,
    names: Names,
    snapshot: &Snapshot,
    id: Uuid,
) -> Result<DesiredCertificate, Refusal> {
    let held = snapshot.certificate(id);
    let mut take = BTreeSet::new();
    let mut left = BTreeMap::new();
    let mut snis = BTreeSet::new();
    for sni in &names.usable {
        match snapshot.owner(sni.as_ref()) {
            Some(owner) if owner.id == id => drop(snis.insert(sni.to_string())),
            Some(owner) if takes(asking, sni, owner) => drop(take.insert(sni.clone())),
            Some(owner) => drop(left.insert(sni.clone(), Owner::Object(owner.id))),
            None => match asking.want.claims.before(asking.want.binding, sni) {
                Some(binding) => drop(left.insert(sni.clone(), Owner::Binding(binding.clone()))),
                None => drop(snis.insert(sni.to_string())),
            },
        }
    }
    if snis.is_empty() && take.is_empty() {
        return Err(if left.is_empty() {
            Refusal::NoSni { unusable: names.unusable }
        } else {
            Refusal::SnisTaken { left }
        });
    }
    if asking.settings.snis.is_none() {
        snis.extend(held.into_iter().flat_map(|held| kept(held, &names.usable)));
    }
    let mut tags: BTreeSet<String> = asking.settings.tags.iter().map(ToString::to_string).collect();
    tags.insert(asking.want.own.tag().to_owned());
    tags.extend(held.into_iter().flat_map(|held| held.tags.iter().cloned()));
    let (snis, tags): (Few<_>, Few<_>) = (snis.into(), tags.into());
    let differ =
        !take.is_empty() || held.is_some_and(|held| held.snis != snis || held.tags != tags);
    let created_at = held.and_then(|held| held.created_at);
    let fields = CertificateFields { snis, tags, created_at };
    let footing = Footing::Ours { fields, differ };
    let missing = BTreeSet::new();
    Ok(DesiredCertificate { id, footing, take, left, missing, unusable: names.unusable })
}

/// Whether a name is moved here from `owner`: from an object of ours that a binding beside us feeds
/// what that does not ask for any more; from whatever it feeds what is configured here and merely
/// stands in the certificate there, by `TAKE_SNIS` (two that take would never rest); from others by
/// `TAKE_SNIS`.
fn takes(asking: &Asking<'_>, sni: &Sni, owner: &HeldCertificate) -> bool {
    if !asking.want.claims.is_fed_by_another(asking.want.binding, owner.id) {
        return asking.settings.take_snis;
    }
    // One that is adopted is someone else's, and so are its names.
    let is_given_up = owner.tags.contains(asking.want.own.tag())
        && !asking.want.claims.is_wanted_by_feeder(owner.id, sni)
        && asking.want.claims.before(asking.want.binding, sni).is_none();
    is_given_up || (asking.settings.take_snis && asking.settings.snis.is_some())
}

/// The names on the object that stay: those made by hand, that is, all but the ones which its
/// certificate had and the file's has no more.
fn kept(held: &HeldCertificate, names: &BTreeSet<Sni>) -> BTreeSet<String> {
    let had = |sni: &str| held.facts.as_ref().is_ok_and(|facts| facts.names.contains(sni));
    let wanted = |sni: &str| names.iter().any(|name| name.as_ref() == sni);
    held.snis.iter().filter(|sni| wanted(sni) || !had(sni)).cloned().collect()
}

fn adopted(
    facts: &Facts,
    names: Names,
    held: &HeldCertificate,
    settled: Option<Fingerprint>,
) -> Result<DesiredCertificate, Refusal> {
    let was_ours = || held.facts.as_ref().is_ok_and(|held| settled == Some(held.fingerprint));
    let alt = match (facts.key_types.len() > 1, held.has_alt()) {
        (true, _) => Alt::Write,
        (false, true) if was_ours() => Alt::Clear,
        (false, _) => Alt::Keep,
    };
    let held_types = held.facts.as_ref().map_or(&[][..], |facts| &facts.key_types[..]);
    if alt == Alt::Keep && held_types.get(1) == facts.key_types.first() && held.has_alt() {
        return Err(Refusal::AltKeyType { id: held.id });
    }
    let swap = alt == Alt::Write && held_types.first() == facts.key_types.get(1);
    let missing = names.usable.into_iter().filter(|sni| !held.snis.contains(sni.as_ref()));
    Ok(DesiredCertificate {
        id: held.id,
        footing: Footing::Adopted { alt, swap },
        take: BTreeSet::new(),
        left: BTreeMap::new(),
        missing: missing.collect(),
        unusable: names.unusable,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use testkit::{KeyKind, Pki};

    use super::*;
    use crate::bundle;
    use crate::claims::Claims;
    use crate::desired::Own;
    use crate::held::INGRESS_CONTROLLER;
    use crate::names::Instance;

    const OURS: &str = "managed-by:kong-cert-reloader:default";

    /// 1 is the id of `web`'s own.
    fn numbered(number: u128) -> Uuid {
        let own = Own::new(&Instance::default(), None).certificate(&"web".parse().unwrap());
        if number == 1 { own } else { Uuid::from_u128(number) }
    }

    fn number(id: Uuid) -> u128 {
        if id == numbered(1) { 1 } else { id.as_u128() }
    }

    fn facts(names: &[&str]) -> Facts {
        bundle::held_facts(&Pki::new().pair(names).chain_pem(), None).unwrap()
    }

    fn facts_of_kind(names: &[&str], kind: KeyKind) -> Facts {
        let pair = Pki::new().leaf(names).kind(kind).issue();
        bundle::held_facts(&pair.chain_pem(), None).unwrap()
    }

    fn strings(texts: &[&str]) -> BTreeSet<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    /// An object in Kong whose leaf covers `names`.
    fn object(id: u128, names: &[&str], snis: &[&str], tags: &[&str]) -> HeldCertificate {
        HeldCertificate {
            id: numbered(id),
            facts: Ok(facts(names)),
            main_facts: None,
            snis: strings(snis).into(),
            tags: strings(tags).into(),
            created_at: Some(1),
            is_reference: false,
        }
    }

    /// A binding `web` with the id 1 of its own, and what is in Kong.
    struct Case {
        settings: CertificateSettings,
        claims: Claims,
        snapshot: Snapshot,
        settled: Option<Fingerprint>,
    }

    impl Case {
        fn new(objects: impl IntoIterator<Item = HeldCertificate>) -> Self {
            let mut snapshot = Snapshot::default();
            objects.into_iter().for_each(|object| snapshot.insert(object));
            Self {
                settings: CertificateSettings::default(),
                claims: Claims::default(),
                snapshot,
                settled: None,
            }
        }

        fn with(mut self, change: impl FnOnce(&mut CertificateSettings)) -> Self {
            change(&mut self.settings);
            self
        }

        fn desired(&self, facts: &Facts) -> Result<DesiredCertificate, Refusal> {
            let binding = "web".parse().unwrap();
            let own = Own::new(&Instance::default(), None);
            let want = Want { binding: &binding, own: &own, claims: &self.claims };
            desired(&want, &self.settings, facts, &self.snapshot, self.settled)
        }

        fn refusal(&self, names: &[&str]) -> &'static str {
            self.desired(&facts(names)).unwrap_err().as_str()
        }

        /// Id, SNIs and tags of an object of ours, and whether Kong's differ.
        fn fields(&self, names: &[&str]) -> (u128, Vec<String>, Vec<String>, bool) {
            let desired = self.desired(&facts(names)).unwrap();
            let Footing::Ours { fields, differ } = desired.footing else { panic!("not ours") };
            let list = |few: Few<String>| few.into_iter().collect();
            (number(desired.id), list(fields.snis), list(fields.tags), differ)
        }

        fn snis(&self, names: &[&str]) -> Vec<String> {
            self.fields(names).1
        }
    }

    #[test]
    fn without_an_object_one_is_created_under_its_own_id() {
        let (id, snis, tags, _) = Case::new([]).fields(&["b.test", "A.test", "*.c.test"]);
        assert_eq!((id, snis), (1, vec!["*.c.test".into(), "a.test".into(), "b.test".into()]));
        assert_eq!(tags, [OURS]);
    }

    #[test]
    fn our_object_is_as_wanted_or_differs() {
        let ours = |snis, tags| Case::new([object(1, &["a.test"], snis, tags)]);
        assert!(!ours(&["a.test"], &[OURS]).fields(&["a.test"]).3);
        assert!(ours(&["a.test"], &[]).fields(&["a.test"]).3);
        assert!(ours(&[], &[OURS]).fields(&["a.test"]).3);
        let tagged = ours(&["a.test"], &["team:edge", OURS]);
        assert!(!tagged.fields(&["a.test"]).3);
        let configured = tagged.with(|settings| settings.tags = ["prod".parse().unwrap()].into());
        let (_, _, tags, differ) = configured.fields(&["a.test"]);
        assert_eq!((tags, differ), (vec![OURS.into(), "prod".into(), "team:edge".into()], true));
    }

    #[test]
    fn snis_follow_the_certificate_and_those_made_by_hand_stay() {
        let ours = Case::new([object(
            1,
            &["a.test", "b.test"],
            &["a.test", "b.test", "hand.test"],
            &[OURS],
        )]);
        assert_eq!(ours.snis(&["a.test", "b.test"]), ["a.test", "b.test", "hand.test"]);
        assert_eq!(ours.snis(&["b.test", "c.test"]), ["b.test", "c.test", "hand.test"]);
        let bare = Case::new([object(1, &["a.test"], &[], &[OURS])]);
        assert_eq!(bare.snis(&["a.test"]), ["a.test"]);
        let broken = HeldCertificate {
            facts: Err(Reason::BadCertificate),
            ..object(1, &["a.test"], &["a.test"], &[OURS])
        };
        assert_eq!(Case::new([broken]).snis(&["b.test"]), ["a.test", "b.test"]);
    }

    #[test]
    fn configured_snis_are_exact() {
        let ours = Case::new([object(1, &["a.test"], &["a.test", "hand.test"], &[OURS])])
            .with(|settings| settings.snis = Some(["x.test".parse().unwrap()].into()));
        assert_eq!(ours.fields(&["a.test"]), (1, vec!["x.test".into()], vec![OURS.into()], true));
    }

    #[test]
    fn names_that_kong_does_not_take_are_left_out() {
        let desired = Case::new([]).desired(&facts(&["a.test", "f*.test"])).unwrap();
        assert_eq!(desired.unusable, [Quoted::new("f*.test")]);
        assert_eq!(Case::new([]).refusal(&["f*.test"]), "no_sni");
        assert_eq!(Case::new([]).refusal(&[]), "no_sni");
    }

    #[test]
    fn the_one_object_that_has_our_names_is_adopted() {
        let desired = Case::new([object(7, &["a.test"], &["a.test"], &["team:edge"])])
            .desired(&facts(&["a.test", "b.test"]))
            .unwrap();
        assert_eq!(desired.id, numbered(7));
        assert_eq!(desired.footing, Footing::Adopted { alt: Alt::Keep, swap: false });
        assert_eq!(desired.missing, ["b.test".parse().unwrap()].into());
    }

    #[test]
    fn an_object_is_not_adopted_where_that_could_hurt_someone() {
        let two = Case::new([
            object(7, &["a.test"], &["a.test"], &[]),
            object(8, &["b.test"], &["b.test"], &[]),
        ]);
        assert_eq!(two.refusal(&["a.test", "b.test"]), "several_owners");
        let wider = Case::new([object(7, &["a.test", "x.test"], &["a.test", "x.test"], &[])]);
        assert_eq!(wider.refusal(&["a.test"]), "names_uncovered");
        let ingress = Case::new([object(7, &["a.test"], &["a.test"], &[INGRESS_CONTROLLER])]);
        assert_eq!(ingress.refusal(&["a.test"]), "other_controller");
        let instance = Case::new([object(
            7,
            &["a.test"],
            &["a.test"],
            &["managed-by:kong-cert-reloader:edge"],
        )]);
        assert_eq!(instance.refusal(&["a.test"]), "other_controller");
        let vault =
            HeldCertificate { is_reference: true, ..object(7, &["a.test"], &["a.test"], &[]) };
        assert_eq!(Case::new([vault]).refusal(&["a.test"]), "vault_reference");
    }

    #[test]
    fn a_name_on_an_adopted_object_that_its_leaf_does_not_cover_is_no_hindrance() {
        let stray = Case::new([object(7, &["a.test"], &["a.test", "stray.test"], &[])]);
        assert_eq!(stray.desired(&facts(&["a.test"])).unwrap().id, numbered(7));
        let wildcard = Case::new([object(7, &["*.a.test"], &["w.a.test"], &[])]);
        assert_eq!(wildcard.desired(&facts(&["*.a.test", "w.a.test"])).unwrap().id, numbered(7));
    }

    #[test]
    fn a_refusal_names_owners_and_names() {
        let two = Case::new([
            object(7, &["a.test"], &["a.test"], &[]),
            object(8, &["b.test"], &["b.test"], &[]),
        ]);
        let said = two.desired(&facts(&["a.test", "b.test"])).unwrap_err().to_string();
        for part in
            ["a.test", "b.test", &numbered(7).to_string(), &numbered(8).to_string(), "TAKE_SNIS"]
        {
            assert!(said.contains(part), "{part} is missing: {said}");
        }
    }

    #[test]
    fn on_our_object_a_name_of_someone_else_is_left_and_the_rest_is_pushed() {
        let case = || {
            Case::new([
                object(1, &["a.test"], &["a.test"], &[OURS]),
                object(7, &["b.test"], &["b.test"], &[]),
            ])
        };
        let desired = case().desired(&facts(&["a.test", "b.test"])).unwrap();
        assert_eq!(desired.id, numbered(1));
        assert_eq!(desired.left, [("b.test".parse().unwrap(), Owner::Object(numbered(7)))].into());
        let taking = case().with(|settings| settings.take_snis = true);
        let desired = taking.desired(&facts(&["a.test", "b.test"])).unwrap();
        assert_eq!(desired.take, ["b.test".parse().unwrap()].into());
        let Footing::Ours { fields, differ } = desired.footing else { panic!("not ours") };
        assert_eq!((fields.snis, differ), (strings(&["a.test"]).into(), true));
    }

    #[test]
    fn without_adoption_names_of_others_are_left_to_them() {
        let case = || {
            Case::new([object(7, &["a.test"], &["a.test"], &[])])
                .with(|settings| settings.adopt = false)
        };
        assert_eq!(case().refusal(&["a.test"]), "snis_taken");
        assert_eq!(case().fields(&["a.test", "b.test"]).1, ["b.test"]);
        let taking = case().with(|settings| settings.take_snis = true);
        let desired = taking.desired(&facts(&["a.test"])).unwrap();
        assert_eq!((number(desired.id), desired.take.len()), (1, 1));
    }

    #[test]
    fn a_configured_id_is_ours_where_it_is_new_or_bears_our_tag_and_adopted_elsewhere() {
        let configured = |objects: Vec<HeldCertificate>| {
            Case::new(objects).with(|settings| settings.id = Some(numbered(5)))
        };
        assert_eq!(configured(vec![]).fields(&["a.test"]).0, 5);
        assert_eq!(
            configured(vec![object(5, &["a.test"], &["a.test"], &[OURS])]).fields(&["a.test"]).0,
            5
        );
        let foreign = || vec![object(5, &["a.test"], &["a.test"], &[])];
        let desired = configured(foreign()).desired(&facts(&["a.test"])).unwrap();
        assert!(matches!(desired.footing, Footing::Adopted { .. }));
        let strict = configured(foreign()).with(|settings| settings.adopt = false);
        assert_eq!(strict.refusal(&["a.test"]), "not_ours");
    }

    #[test]
    fn what_a_renamed_binding_left_behind_is_taken_over() {
        let left_behind = Case::new([object(6, &["a.test"], &["a.test"], &[OURS])]);
        assert_eq!(left_behind.fields(&["a.test"]).0, 6);
    }

    #[test]
    fn a_name_of_an_object_that_a_binding_beside_us_has_adopted_is_left_there() {
        let held = |tags| {
            let theirs = object(7, &["other.test"], &["other.test", "www.test"], tags);
            let mut case = Case::new([theirs]);
            case.claims.claim_object(&"other".parse().unwrap(), numbered(7));
            let other = ["other.test".parse().unwrap()].into();
            case.claims.claim_names(&"other".parse().unwrap(), &other, false);
            case.desired(&facts(&["web.test", "www.test"])).unwrap()
        };
        let www: Sni = "www.test".parse().unwrap();
        let adopted = held(&["team:edge"]);
        assert!(adopted.take.is_empty());
        assert_eq!(adopted.left, [(www.clone(), Owner::Object(numbered(7)))].into());
        // From an object of ours a name goes where it is asked for.
        assert_eq!(held(&[OURS]).take, [www].into());
    }

    #[test]
    fn bindings_of_one_sidecar_do_not_fight_over_a_name() {
        let (api, sni) = ("api".parse().unwrap(), "a.test".parse().unwrap());
        let mut case = Case::new([object(2, &["a.test"], &["a.test"], &[OURS])]);
        case.claims.claim_object(&api, numbered(2));
        assert_eq!(case.fields(&["a.test", "b.test"]).1, ["b.test"]);
        let taking = case.with(|settings| settings.take_snis = true);
        assert_eq!(taking.fields(&["a.test", "b.test"]).1, ["b.test"]);

        let mut unborn = Case::new([]);
        unborn.claims.claim_names(&api, &[sni].into(), false);
        let desired = unborn.desired(&facts(&["a.test", "b.test"])).unwrap();
        assert_eq!(desired.left.values().next(), Some(&Owner::Binding(api)));
    }

    #[test]
    fn the_second_pair_of_an_adopted_object_is_someone_elses_until_it_was_ours() {
        let (rsa, ec) = (
            facts_of_kind(&["a.test"], KeyKind::Rsa2048),
            facts_of_kind(&["a.test"], KeyKind::P256),
        );
        let both = {
            let pki = Pki::new();
            let main = pki.leaf(&["a.test"]).kind(KeyKind::Rsa2048).issue();
            let second = pki.leaf(&["a.test"]).kind(KeyKind::P256).issue();
            bundle::held_facts(&main.chain_pem(), Some(&second.chain_pem())).unwrap()
        };
        let held = HeldCertificate {
            facts: Ok(both.clone()),
            main_facts: Some(Ok(rsa.clone())),
            ..object(7, &["a.test"], &["a.test"], &[])
        };
        let mut case = Case::new([held.clone()]);
        let alt = |case: &Case, facts: &Facts| {
            case.desired(facts).map(|desired| match desired.footing {
                Footing::Adopted { alt, swap } => (alt, swap),
                Footing::Ours { .. } => panic!("not adopted"),
            })
        };
        assert_eq!(alt(&case, &rsa), Ok((Alt::Keep, false)));
        assert_eq!(alt(&case, &ec).unwrap_err().as_str(), "alt_key_type");
        assert_eq!(alt(&case, &both), Ok((Alt::Write, false)));
        let swapped =
            Facts { key_types: both.key_types.iter().rev().copied().collect(), ..both.clone() };
        assert_eq!(alt(&case, &swapped), Ok((Alt::Write, true)));
        let kept = case.desired(&rsa).unwrap();
        assert_eq!(kept.held_facts(&held), &Ok(rsa.clone()));
        case.settled = Some(both.fingerprint);
        assert_eq!(alt(&case, &rsa), Ok((Alt::Clear, false)));
        assert_eq!(alt(&case, &ec), Ok((Alt::Clear, false)));
    }
}
