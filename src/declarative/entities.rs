//! What a configuration holds of the kinds that are written to, and who else names it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use uuid::Uuid;
use zeroize::Zeroizing;

use super::Document;
use super::json::unpacked;
use super::value::{Map, Text, Value};
use crate::bundle::LeafDigest;
use crate::held::{
    HeldCertificate, INGRESS_CONTROLLER, RawCertificate, is_reference, parsed_facts,
};
use crate::quote::Quoted;

/// UUIDv5 namespace of the ids that objects without one are known by.
const PLACES: Uuid = Uuid::from_u128(0x3d0c_51be_9a47_4c02_8f6e_b7a1_20d9_e465);
/// Where names stand.
pub(super) const SNIS: &str = "snis";

/// A kind of object that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entity {
    /// A certificate, with its SNIs.
    Certificate,
    /// A CA certificate.
    Authority,
    /// A licence of Kong Enterprise.
    License,
}

impl Entity {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Certificate, Self::Authority, Self::License];

    /// What Kong calls one.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Authority => "ca_certificate",
            Self::License => "license",
        }
    }

    /// Its list.
    pub(super) const fn list(self) -> &'static str {
        match self {
            Self::Certificate => "certificates",
            Self::Authority => "ca_certificates",
            Self::License => "licenses",
        }
    }
}

/// A CA certificate as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawAuthority {
    /// Its id.
    pub id: Uuid,
    /// PEM, or whatever stands in its place.
    pub cert: String,
    /// Its SHA-256, where Kong wrote it down.
    pub digest: Option<LeafDigest>,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// Seconds since the Unix epoch.
    pub created_at: Option<i64>,
}

/// A licence as it stands there.
#[derive(Clone, PartialEq, Eq)]
pub struct RawLicense {
    /// Its id.
    pub id: Uuid,
    /// JSON, or whatever stands in its place.
    pub payload: Zeroizing<String>,
    /// Seconds since the Unix epoch.
    pub created_at: Option<i64>,
}

/// Prints no payload.
impl fmt::Debug for RawLicense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawLicense").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Objects without an id are known by one that is made of what they hold, and of how many before them
/// hold the same: it holds until one of these is removed, or [`Document::put`] writes it down.
impl Document {
    /// All certificates, with the SNIs that stand in them or beside them.
    #[must_use]
    pub fn certificates(&self) -> Vec<HeldCertificate> {
        let mut names: BTreeMap<Uuid, BTreeSet<String>> = BTreeMap::new();
        for sni in self.root.elements(SNIS).iter().filter_map(Value::as_map) {
            if let (Some(name), Some(owner)) = (sni.text("name"), owner(sni)) {
                names.entry(owner).or_default().insert(name.to_owned());
            }
        }
        let held = |(id, object): (Uuid, &Map)| {
            let mut snis = names.remove(&id).unwrap_or_default();
            snis.extend(object.elements(SNIS).iter().filter_map(name_of).map(str::to_owned));
            held(id, object, snis)
        };
        self.objects(Entity::Certificate).map(held).collect()
    }

    /// All CA certificates.
    #[must_use]
    pub fn authorities(&self) -> Vec<RawAuthority> {
        let raw = |(id, object): (Uuid, &Map)| RawAuthority {
            id,
            cert: object.text("cert").unwrap_or_default().to_owned(),
            digest: object.text("cert_digest").and_then(LeafDigest::from_hex),
            tags: tags(object).map(str::to_owned).collect(),
            created_at: created_at(object),
        };
        self.objects(Entity::Authority).map(raw).collect()
    }

    /// All licences.
    #[must_use]
    pub fn licenses(&self) -> Vec<RawLicense> {
        let raw = |(id, object): (Uuid, &Map)| RawLicense {
            id,
            payload: Zeroizing::new(object.text("payload").unwrap_or_default().to_owned()),
            created_at: created_at(object),
        };
        self.objects(Entity::License).map(raw).collect()
    }

    /// The tag of Kong's ingress controller, if any object has it: it would undo what is written.
    #[must_use]
    pub fn other_controller(&self) -> Option<Quoted> {
        let mut lists = self.root.iter().map(|(_, value)| value);
        lists.any(is_of_controller).then(|| Quoted::new(INGRESS_CONTROLLER))
    }

    /// Whether anything but the object itself and its SNIs names this id, such as a service in its
    /// `ca_certificates`.
    #[must_use]
    pub fn refers_to(&self, id: Uuid) -> bool {
        let id = id.to_string();
        self.root.iter().any(|(field, value)| match field {
            SNIS => false,
            _ => value.unpacked().filter(|object| !is_it(object, &id)).any(|object| {
                object.as_map().is_some_and(|map| map.iter().any(|(_, value)| names(value, &id)))
            }),
        })
    }

    /// The objects of a kind, by the ids that they are known by.
    pub(super) fn objects(&self, entity: Entity) -> impl Iterator<Item = (Uuid, &Map)> {
        let objects = self.root.elements(entity.list());
        let known = ids(entity, objects).into_iter().zip(objects);
        known.filter_map(|(id, object)| Some((id, object.as_map()?)))
    }
}

fn held(id: Uuid, object: &Map, snis: BTreeSet<String>) -> HeldCertificate {
    let mut keys = ["key", "key_alt"].into_iter().filter_map(|field| object.text(field));
    let raw = RawCertificate {
        id,
        cert: object.text("cert").unwrap_or_default(),
        cert_alt: object.text("cert_alt"),
        has_key_reference: keys.any(is_reference),
        snis: snis.into(),
        tags: tags(object).map(str::to_owned).collect(),
        created_at: created_at(object),
    };
    raw.judged(parsed_facts)
}

/// The ids that the objects of a list are known by.
pub(super) fn ids(entity: Entity, objects: &[Value]) -> Vec<Uuid> {
    let given = objects.iter().map(|object| object.as_map()?.text("id")?.parse().ok());
    let given: Vec<Option<Uuid>> = given.collect();
    let mut used: HashSet<Uuid> = given.iter().copied().flatten().collect();
    let made = |(at, given): (usize, Option<Uuid>)| {
        given.unwrap_or_else(|| {
            // By what it holds: its place may be another's tomorrow.
            let held = objects[at].as_map();
            let held =
                held.and_then(|object| object.text("cert").or_else(|| object.text("payload")));
            let known = held.map_or_else(|| at.to_string(), str::to_owned);
            let mut id = made_of(entity, &known);
            // The same may stand there several times.
            for count in 1.. {
                if used.insert(id) {
                    break;
                }
                id = made_of(entity, &format!("{known}/{count}"));
            }
            id
        })
    };
    given.into_iter().enumerate().map(made).collect()
}

fn made_of(entity: Entity, known: &str) -> Uuid {
    Uuid::new_v5(&PLACES, format!("{}/{known}", entity.list()).as_bytes())
}

/// The certificate of an SNI: a bare id, or a mapping that holds it.
pub(super) fn owner(sni: &Map) -> Option<Uuid> {
    let id = match sni.get("certificate")? {
        Value::Map(reference) => reference.text("id"),
        other => other.as_text(),
    };
    id?.parse().ok()
}

/// Of an SNI, inside a certificate or beside it.
pub(super) fn name_of(sni: &Value) -> Option<&str> {
    sni.as_map().map_or_else(|| sni.as_text(), |map| map.text("name"))
}

pub(super) fn tags(object: &Map) -> impl Iterator<Item = &str> {
    object.elements("tags").iter().filter_map(Value::as_text)
}

fn created_at(object: &Map) -> Option<i64> {
    match object.get("created_at")? {
        Value::Number(number) => number.parse().ok(),
        _ => None,
    }
}

/// Lists hold objects, and these have lists of others in them. A plugin's `config` is no list, and
/// what is called a tag there is none.
fn is_of_controller(list: &Value) -> bool {
    if let Value::Packed(packed) = list {
        let names_it = |text: &&Text| text.contains(INGRESS_CONTROLLER);
        let mut objects = packed.texts().iter().filter(names_it).map(|text| unpacked(text));
        return objects.any(|object| is_of_controller(&Value::List(vec![object])));
    }
    list.elements().iter().filter_map(Value::as_map).any(|object| {
        tags(object).any(|tag| tag == INGRESS_CONTROLLER)
            || object.iter().any(|(_, value)| is_of_controller(value))
    })
}

fn is_it(object: &Value, id: &str) -> bool {
    let own = object.as_map().and_then(|object| object.text("id"));
    own.is_some_and(|own| own.eq_ignore_ascii_case(id))
}

fn names(value: &Value, id: &str) -> bool {
    match value {
        Value::Text(text) => text.eq_ignore_ascii_case(id),
        Value::List(list) => list.iter().any(|element| names(element, id)),
        Value::Map(map) => map.iter().any(|(_, value)| names(value, id)),
        // It holds objects of its own.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Packed(_) => false,
    }
}
