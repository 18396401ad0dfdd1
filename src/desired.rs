//! Which object of Kong a binding feeds, and what its fields should be. Pure.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;
use uuid::Uuid;

use crate::bundle::{Facts, Fingerprint, Reason};
use crate::claims::Claims;
use crate::held::{HeldCertificate, Snapshot};
use crate::names::{BindingName, Instance, Sni, Workspace};
use crate::quote::Quoted;
use crate::settings::CertificateSettings;

/// UUIDv5 namespace of the objects that we create. Never changes: an id that changes is a duplicate.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1c_29a4_58d3_4b7e_9a02_c4d1_7be3_50f6);
/// The tag of Kong's own ingress controller, which would undo what we write.
const INGRESS_CONTROLLER: &str = "managed-by-ingress-controller";
/// Our tag is this and the instance's name.
const MANAGED_BY: &str = "managed-by:kong-cert-reloader:";

/// The id of the object that `name` feeds if nothing else is configured or found: replicas that
/// race to create it meet in one object.
#[must_use]
pub fn own_id(instance: &Instance, workspace: Option<&Workspace>, name: &BindingName) -> Uuid {
    let workspace = workspace.map_or("default", AsRef::as_ref);
    let path = format!("{instance}/{workspace}/certificates/{name}");
    Uuid::new_v5(&NAMESPACE, path.as_bytes())
}

/// The tag on every object that this instance created.
#[must_use]
pub fn own_tag(instance: &Instance) -> String {
    format!("{MANAGED_BY}{instance}")
}

/// What a binding asks of Kong.
#[derive(Clone, Copy, Debug)]
pub struct Want<'a> {
    /// Whose wish it is.
    pub binding: &'a BindingName,
    /// The configured id, or else [`own_id`].
    pub id: Uuid,
    /// What is configured for it.
    pub settings: &'a CertificateSettings,
    /// See [`own_tag`].
    pub own_tag: &'a str,
    /// What the other bindings ask for.
    pub claims: &'a Claims,
}

impl Want<'_> {
    /// The names that Kong should serve `facts` for, and those of its SAN that Kong does not take.
    #[must_use]
    pub fn names(&self, facts: &Facts) -> Names {
        names(self.settings, facts)
    }
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

/// The object as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
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

/// On what terms an object is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Footing {
    /// Created by us, or to be created: written as a whole.
    Ours {
        /// Every field but certificate and key.
        fields: Fields,
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
pub struct Fields {
    /// All its SNIs.
    pub snis: BTreeSet<String>,
    /// All its tags.
    pub tags: BTreeSet<String>,
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

/// Who has a name that the binding wants too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// An object in Kong.
    Object(Uuid),
    /// Another binding, which comes first.
    Binding(BindingName),
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Object(id) => write!(f, "certificate {id}"),
            Self::Binding(name) => write!(f, "binding {name}"),
        }
    }
}

/// Why no object may be written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No name that Kong could serve it for.
    #[error("the certificate has no name that kong can serve it for{}; give it a DNS name, or configure SNIS", listed(" but ", .unusable))]
    NoSni {
        /// Names that Kong does not take.
        unusable: Vec<Quoted>,
    },
    /// Every name belongs to someone else.
    #[error("every name is taken ({}); remove it there, or set TAKE_SNIS", names_and_owners(.left))]
    SnisTaken {
        /// The names and who has them.
        left: BTreeMap<Sni, Owner>,
    },
    /// The names belong to several objects.
    #[error("the names belong to several certificates ({}); gather them in one, set TAKE_SNIS, or set ADOPT to false", names_and_owners(.owners))]
    SeveralOwners {
        /// The names and who has them.
        owners: BTreeMap<Sni, Owner>,
    },
    /// The object of someone else also serves names that the file does not cover.
    #[error("certificate {id} also serves {}, which the file does not cover; add the names to the file, set TAKE_SNIS, or set ADOPT to false", listed("", .names))]
    Uncovered {
        /// The object.
        id: Uuid,
        /// The names that would be lost.
        names: Vec<Quoted>,
    },
    /// Another controller writes it.
    #[error(
        "certificate {id} is managed by another controller (tag {tag}); renew it there, or set ID to an object of its own"
    )]
    OtherController {
        /// The object.
        id: Uuid,
        /// The tag that says so.
        tag: Quoted,
    },
    /// Certificate or key is in a vault.
    #[error(
        "certificate {id} refers to a vault; rotate it there, or set ID to an object of its own"
    )]
    VaultReference {
        /// The object.
        id: Uuid,
    },
    /// The configured object is not ours, and may not be adopted.
    #[error("certificate {id} was not created by this instance; set ADOPT to true, or another ID")]
    NotOurs {
        /// The object.
        id: Uuid,
    },
    /// The second pair of an adopted object has our key type.
    #[error(
        "certificate {id} has a second pair with the key type of the file; remove cert_alt and key_alt there, or mount both pairs"
    )]
    AltKeyType {
        /// The object.
        id: Uuid,
    },
}

impl Refusal {
    /// The word, as it stands in states and labels.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NoSni { .. } => "no_sni",
            Self::SnisTaken { .. } => "snis_taken",
            Self::SeveralOwners { .. } => "several_owners",
            Self::Uncovered { .. } => "names_uncovered",
            Self::OtherController { .. } => "other_controller",
            Self::VaultReference { .. } => "vault_reference",
            Self::NotOurs { .. } => "not_ours",
            Self::AltKeyType { .. } => "alt_key_type",
        }
    }
}

/// Chooses the object and its fields.
///
/// `settled` is the last bundle on which file and Kong agreed.
///
/// # Errors
///
/// Says why no object may be written, naming owners and names.
pub fn desired(
    want: &Want<'_>,
    facts: &Facts,
    snapshot: &Snapshot,
    settled: Option<Fingerprint>,
) -> Result<Desired, Refusal> {
    let names = want.names(facts);
    match home(want, facts, &names, snapshot)? {
        Home::Ours(id) => ours(want, names, snapshot, id),
        Home::Adopted(held) => adopted(facts, names, held, settled),
    }
}

/// What Kong's object serves, as far as it is this binding's: the second pair of an adopted object
/// is someone else's unless the file has one too, or had.
pub fn held_facts<'a>(desired: &Desired, held: &'a HeldCertificate) -> &'a Result<Facts, Reason> {
    match (&desired.footing, &held.main_facts) {
        (Footing::Adopted { alt: Alt::Keep, .. }, Some(main)) => main,
        _ => &held.facts,
    }
}

enum Home<'a> {
    Ours(Uuid),
    Adopted(&'a HeldCertificate),
}

fn home<'a>(
    want: &Want<'_>,
    facts: &Facts,
    names: &Names,
    snapshot: &'a Snapshot,
) -> Result<Home<'a>, Refusal> {
    if want.settings.id.is_some() {
        return match snapshot.certificate(want.id) {
            Some(held) if !held.tags.contains(want.own_tag) => {
                if !want.settings.adopt {
                    return Err(Refusal::NotOurs { id: held.id });
                }
                demand_adoptable(held)?;
                Ok(Home::Adopted(held))
            }
            _ => Ok(Home::Ours(want.id)),
        };
    }
    let owners: BTreeMap<Uuid, &HeldCertificate> = names
        .usable
        .iter()
        .filter_map(|sni| snapshot.owner(sni.as_ref()))
        .map(|held| (held.id, held))
        .collect();
    let is_others =
        |held: &&&HeldCertificate| !want.claims.is_fed_by_another(want.binding, held.id);
    let mut others = owners.values().filter(is_others);
    match (others.next(), others.next()) {
        (None, _) => Ok(Home::Ours(want.id)),
        _ if owners.contains_key(&want.id) => Ok(Home::Ours(want.id)),
        // Left behind by a binding of this instance that was renamed.
        (Some(only), None) if only.tags.contains(want.own_tag) => Ok(Home::Ours(only.id)),
        _ if !want.settings.adopt => Ok(Home::Ours(want.id)),
        (Some(only), None) => {
            match demand_adoptable(only).and_then(|()| demand_covered(only, facts)) {
                Ok(()) => Ok(Home::Adopted(only)),
                Err(_) if want.settings.take_snis => Ok(Home::Ours(want.id)),
                Err(refusal) => Err(refusal),
            }
        }
        (Some(_), Some(_)) if want.settings.take_snis => Ok(Home::Ours(want.id)),
        (Some(_), Some(_)) => Err(Refusal::SeveralOwners { owners: owners_of(names, snapshot) }),
    }
}

fn owners_of(names: &Names, snapshot: &Snapshot) -> BTreeMap<Sni, Owner> {
    let owner = |sni: &Sni| Some((sni.clone(), Owner::Object(snapshot.owner(sni.as_ref())?.id)));
    names.usable.iter().filter_map(owner).collect()
}

fn demand_adoptable(held: &HeldCertificate) -> Result<(), Refusal> {
    let foreign = |tag: &&String| *tag == INGRESS_CONTROLLER || tag.starts_with(MANAGED_BY);
    if let Some(tag) = held.tags.iter().find(foreign) {
        return Err(Refusal::OtherController { id: held.id, tag: Quoted::new(tag) });
    }
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

fn ours(want: &Want<'_>, names: Names, snapshot: &Snapshot, id: Uuid) -> Result<Desired, Refusal> {
    let held = snapshot.certificate(id);
    let mut take = BTreeSet::new();
    let mut left = BTreeMap::new();
    let mut snis = BTreeSet::new();
    for sni in &names.usable {
        match snapshot.owner(sni.as_ref()) {
            Some(owner) if owner.id == id => drop(snis.insert(sni.to_string())),
            Some(owner) if takes(want, sni, owner) => drop(take.insert(sni.clone())),
            Some(owner) => drop(left.insert(sni.clone(), Owner::Object(owner.id))),
            None => match want.claims.before(want.binding, sni) {
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
    if want.settings.snis.is_none() {
        snis.extend(held.into_iter().flat_map(|held| kept(held, &names.usable)));
    }
    let mut tags: BTreeSet<String> = want.settings.tags.iter().map(ToString::to_string).collect();
    tags.insert(want.own_tag.to_owned());
    tags.extend(held.into_iter().flat_map(|held| held.tags.iter().cloned()));
    let differ =
        !take.is_empty() || held.is_some_and(|held| held.snis != snis || held.tags != tags);
    let created_at = held.and_then(|held| held.created_at);
    let fields = Fields { snis, tags, created_at };
    let footing = Footing::Ours { fields, differ };
    let missing = BTreeSet::new();
    Ok(Desired { id, footing, take, left, missing, unusable: names.unusable })
}

/// Whether a name is moved here from `owner`: from a binding beside us what that does not ask for
/// any more, or is configured here and merely stands in the certificate there (two that take would
/// never rest); from others by `TAKE_SNIS`.
fn takes(want: &Want<'_>, sni: &Sni, owner: &HeldCertificate) -> bool {
    if !want.claims.is_fed_by_another(want.binding, owner.id) {
        return want.settings.take_snis;
    }
    let is_given_up = !want.claims.is_wanted_by_feeder(owner.id, sni)
        && want.claims.before(want.binding, sni).is_none();
    is_given_up || (want.settings.take_snis && want.settings.snis.is_some())
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
) -> Result<Desired, Refusal> {
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
    Ok(Desired {
        id: held.id,
        footing: Footing::Adopted { alt, swap },
        take: BTreeSet::new(),
        left: BTreeMap::new(),
        missing: missing.collect(),
        unusable: names.unusable,
    })
}

fn names_and_owners(left: &BTreeMap<Sni, Owner>) -> String {
    let pairs: Vec<_> = left.iter().map(|(sni, owner)| format!("{sni}: {owner}")).collect();
    Quoted::new(&pairs.join(", ")).to_string()
}

fn listed(lead: &str, names: &[Quoted]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let names: Vec<_> = names.iter().map(Quoted::as_str).collect();
    Quoted::new(&format!("{lead}{}", names.join(", "))).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use testkit::{KeyKind, Pki};

    use super::*;
    use crate::bundle;

    const OURS: &str = "managed-by:kong-cert-reloader:default";

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
            id: Uuid::from_u128(id),
            facts: Ok(facts(names)),
            main_facts: None,
            snis: strings(snis),
            tags: strings(tags),
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

        fn desired(&self, facts: &Facts) -> Result<Desired, Refusal> {
            let binding = "web".parse().unwrap();
            let want = Want {
                binding: &binding,
                id: self.settings.id.unwrap_or(Uuid::from_u128(1)),
                settings: &self.settings,
                own_tag: OURS,
                claims: &self.claims,
            };
            desired(&want, facts, &self.snapshot, self.settled)
        }

        fn refusal(&self, names: &[&str]) -> &'static str {
            self.desired(&facts(names)).unwrap_err().as_str()
        }

        /// Id, SNIs and tags of an object of ours, and whether Kong's differ.
        fn fields(&self, names: &[&str]) -> (u128, Vec<String>, Vec<String>, bool) {
            let desired = self.desired(&facts(names)).unwrap();
            let Footing::Ours { fields, differ } = desired.footing else { panic!("not ours") };
            let list = |set: BTreeSet<String>| set.into_iter().collect();
            (desired.id.as_u128(), list(fields.snis), list(fields.tags), differ)
        }

        fn snis(&self, names: &[&str]) -> Vec<String> {
            self.fields(names).1
        }
    }

    #[test]
    fn ids_are_the_same_in_every_replica_and_differ_by_instance_workspace_and_name() {
        let id = |instance: &str, workspace: Option<&str>, name: &str| {
            let workspace = workspace.map(|name| name.parse().unwrap());
            own_id(&instance.parse().unwrap(), workspace.as_ref(), &name.parse().unwrap())
        };
        let expected: Uuid = "53ba7694-8c43-5413-a2d1-7732f254482c".parse().unwrap();
        assert_eq!(id("default", None, "web"), expected);
        assert_eq!(id("default", Some("default"), "web"), expected);
        for other in
            [id("edge", None, "web"), id("default", Some("a"), "web"), id("default", None, "api")]
        {
            assert_ne!(other, expected);
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
        assert_eq!(desired.id, Uuid::from_u128(7));
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
        assert_eq!(stray.desired(&facts(&["a.test"])).unwrap().id, Uuid::from_u128(7));
        let wildcard = Case::new([object(7, &["*.a.test"], &["w.a.test"], &[])]);
        assert_eq!(
            wildcard.desired(&facts(&["*.a.test", "w.a.test"])).unwrap().id,
            Uuid::from_u128(7)
        );
    }

    #[test]
    fn a_refusal_names_owners_and_names() {
        let two = Case::new([
            object(7, &["a.test"], &["a.test"], &[]),
            object(8, &["b.test"], &["b.test"], &[]),
        ]);
        let said = two.desired(&facts(&["a.test", "b.test"])).unwrap_err().to_string();
        for part in [
            "a.test",
            "b.test",
            &Uuid::from_u128(7).to_string(),
            &Uuid::from_u128(8).to_string(),
            "TAKE_SNIS",
        ] {
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
        assert_eq!(desired.id, Uuid::from_u128(1));
        assert_eq!(
            desired.left,
            [("b.test".parse().unwrap(), Owner::Object(Uuid::from_u128(7)))].into()
        );
        let taking = case().with(|settings| settings.take_snis = true);
        let desired = taking.desired(&facts(&["a.test", "b.test"])).unwrap();
        assert_eq!(desired.take, ["b.test".parse().unwrap()].into());
        let Footing::Ours { fields, differ } = desired.footing else { panic!("not ours") };
        assert_eq!((fields.snis, differ), (strings(&["a.test"]), true));
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
        assert_eq!((desired.id.as_u128(), desired.take.len()), (1, 1));
    }

    #[test]
    fn a_configured_id_is_ours_where_it_is_new_or_bears_our_tag_and_adopted_elsewhere() {
        let configured = |objects: Vec<HeldCertificate>| {
            Case::new(objects).with(|settings| settings.id = Some(Uuid::from_u128(5)))
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
    fn bindings_of_one_sidecar_do_not_fight_over_a_name() {
        let (api, sni) = ("api".parse().unwrap(), "a.test".parse().unwrap());
        let mut case = Case::new([object(2, &["a.test"], &["a.test"], &[OURS])]);
        case.claims.claim_object(&api, Uuid::from_u128(2));
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
        assert_eq!(held_facts(&kept, &held), &Ok(rsa.clone()));
        case.settled = Some(both.fingerprint);
        assert_eq!(alt(&case, &rsa), Ok((Alt::Clear, false)));
        assert_eq!(alt(&case, &ec), Ok((Alt::Clear, false)));
    }
}
