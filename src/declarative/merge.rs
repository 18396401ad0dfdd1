//! What is ours into a configuration, and nothing else of it changed.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use super::Document;
use super::entities::{Entity, SNIS, ids, name_of, owner, tags};
use super::value::{Map, Value};
use crate::few::Few;

/// An object as it should be.
#[derive(Clone, Copy)]
pub enum Entry<'a> {
    /// A certificate with its SNIs.
    Certificate {
        /// Its id.
        id: Uuid,
        /// The chain of its main pair.
        cert: &'a str,
        /// And the key.
        key: &'a str,
        /// What becomes of its second pair.
        alt: AltPair<'a>,
        /// Its names and tags; `None` leaves those of someone else's object alone.
        fields: Option<OwnFields<'a>>,
        /// Names that are moved to it from other objects.
        take: &'a BTreeSet<String>,
    },
    /// A CA certificate.
    Authority {
        /// Its id.
        id: Uuid,
        /// PEM.
        cert: &'a str,
        /// All its tags; `None` leaves them alone.
        tags: Option<&'a BTreeSet<String>>,
    },
    /// A licence.
    License {
        /// Its id.
        id: Uuid,
        /// JSON.
        payload: &'a str,
    },
}

/// What becomes of a second pair.
#[derive(Clone, Copy)]
pub enum AltPair<'a> {
    /// There is none, or it is not ours.
    Keep,
    /// It was ours, and there is none any more.
    Clear,
    /// Ours is written.
    Write {
        /// The chain.
        cert: &'a str,
        /// The key.
        key: &'a str,
    },
}

/// All that an object of ours has besides its pairs.
#[derive(Clone, Copy, Debug)]
pub struct OwnFields<'a> {
    /// All its names but those that are taken.
    pub snis: &'a Few<String>,
    /// All its tags.
    pub tags: &'a Few<String>,
}

impl Document {
    /// Writes an object, in the place of the one with its id, or as a new one. The same entry again
    /// changes nothing.
    ///
    /// Names that are new or moved stand at the top level; others stay where they are.
    pub fn put(&mut self, entry: Entry<'_>) {
        match entry {
            Entry::Certificate { id, cert, key, alt, fields, take } => {
                let object = self.object_mut(Entity::Certificate, id);
                let mut differs = set_text(object, "cert", cert) | set_text(object, "key", key);
                differs |= set_alt(object, alt);
                differs |= fields.is_some_and(|fields| set_tags(object, fields.tags));
                forget_times(object, differs);
                self.set_names(id, fields.map(|fields| fields.snis), take);
            }
            Entry::Authority { id, cert, tags } => {
                let object = self.object_mut(Entity::Authority, id);
                let mut differs = set_text(object, "cert", cert);
                if differs {
                    // Of the one before; Kong makes it anew.
                    object.remove("cert_digest");
                }
                differs |= tags.is_some_and(|tags| set_tags(object, tags));
                forget_times(object, differs);
            }
            Entry::License { id, payload } => {
                let object = self.object_mut(Entity::License, id);
                let differs = set_text(object, "payload", payload);
                forget_times(object, differs);
            }
        }
    }

    /// Takes an object out, a certificate with its SNIs.
    pub fn remove(&mut self, entity: Entity, id: Uuid) {
        let mut known = ids(entity, self.root.elements(entity.list())).into_iter();
        self.retain(entity.list(), |_| known.next() != Some(id));
        if entity == Entity::Certificate {
            self.retain(SNIS, |sni| sni.as_map().and_then(owner) != Some(id));
        }
    }

    /// Takes names out of certificates that stand beside them, too: an export tells them twice, and
    /// is not taken back so (`kong-contract`, DB-less).
    pub(super) fn drop_echoed_names(&mut self) {
        let beside = self.root.elements(SNIS).iter().filter_map(Value::as_map);
        let owners: HashMap<String, Uuid> =
            beside.filter_map(|sni| Some((sni.text("name")?.to_owned(), owner(sni)?))).collect();
        self.retain_inside(|id, sni| name_of(sni).is_none_or(|name| owners.get(name) != Some(&id)));
    }

    /// Moves names to a certificate that is there.
    pub(super) fn take_names(&mut self, id: Uuid, names: &BTreeSet<String>) {
        if self.objects(Entity::Certificate).any(|(found, _)| found == id) {
            self.set_names(id, None, names);
        }
    }

    /// Gives a certificate its names: all that are wanted (`None`: those that it has) and taken.
    fn set_names(&mut self, id: Uuid, wanted: Option<&Few<String>>, take: &BTreeSet<String>) {
        let mut missing: BTreeSet<&str> =
            wanted.into_iter().flatten().chain(take).map(String::as_str).collect();
        let is_to_go = |name: &str| {
            wanted.is_some_and(|wanted| !wanted.contains(name)) && !take.contains(name)
        };
        self.retain(SNIS, |sni| {
            let Some(sni) = sni.as_map_mut() else { return true };
            let Some(name) = sni.text("name") else { return true };
            let is_had = owner(sni) == Some(id);
            if is_had && is_to_go(name) {
                return false;
            }
            if missing.remove(name) && !is_had {
                set_owner(sni, id);
            }
            true
        });
        let mut moved = Vec::new();
        self.retain_inside(|owner, sni| match name_of(sni) {
            Some(name) if owner == id => {
                missing.remove(name);
                !is_to_go(name)
            }
            Some(name) if missing.remove(name) => {
                moved.push(sni.clone());
                false
            }
            _ => true,
        });
        let new = missing.into_iter().map(Value::text);
        for sni in moved.into_iter().chain(new) {
            self.add_sni(sni, id);
        }
    }

    /// Adds one at the top level, whoever had it.
    fn add_sni(&mut self, sni: Value, id: Uuid) {
        let mut object = match sni {
            Value::Map(object) => object,
            name => {
                let mut object = Map::default();
                object.set("name", name);
                object
            }
        };
        if owner(&object) != Some(id) {
            set_owner(&mut object, id);
        }
        self.root.list_mut(SNIS).push(Value::Map(object));
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let inside = self.objects(Entity::Certificate);
        let inside = inside.flat_map(|(_, object)| object.elements(SNIS));
        self.root.elements(SNIS).iter().chain(inside).filter_map(name_of)
    }

    fn object_mut(&mut self, entity: Entity, id: Uuid) -> &mut Map {
        let place = self.objects(entity).position(|(found, _)| found == id);
        let list = self.root.list_mut(entity.list());
        let at = place.unwrap_or(list.len());
        if at == list.len() {
            list.push(Value::Map(Map::default()));
        }
        let object = list[at].map_mut();
        if object.text("id").is_none_or(|present| present.parse() != Ok(id)) {
            object.set("id", Value::text(&id.to_string()));
        }
        object
    }

    pub(super) fn retain(&mut self, field: &str, keep: impl FnMut(&mut Value) -> bool) {
        if let Some(Value::List(list)) = self.root.get_mut(field) {
            list.retain_mut(keep);
        }
    }

    /// Of the names inside certificates; a list that ends up empty goes.
    fn retain_inside(&mut self, mut keep: impl FnMut(Uuid, &Value) -> bool) {
        let Some(Value::List(list)) = self.root.get_mut(Entity::Certificate.list()) else { return };
        let known = ids(Entity::Certificate, list);
        for (id, object) in known.into_iter().zip(list) {
            let Some(object) = object.as_map_mut() else { continue };
            let Some(Value::List(inside)) = object.get_mut(SNIS) else { continue };
            let before = inside.len();
            inside.retain(|sni| keep(id, sni));
            if inside.is_empty() && before > 0 {
                object.remove(SNIS);
            }
        }
    }
}

/// Whether that changes anything, as with all that set something here.
fn set_text(object: &mut Map, field: &str, text: &str) -> bool {
    let differs = object.text(field) != Some(text);
    if differs {
        object.set(field, Value::text(text));
    }
    differs
}

fn set_alt(object: &mut Map, alt: AltPair<'_>) -> bool {
    match alt {
        AltPair::Keep => false,
        AltPair::Write { cert, key } => {
            set_text(object, "cert_alt", cert) | set_text(object, "key_alt", key)
        }
        AltPair::Clear => clear(object, "cert_alt") | clear(object, "key_alt"),
    }
}

fn clear(object: &mut Map, field: &str) -> bool {
    let differs = object.get(field).is_some_and(|value| *value != Value::Null);
    if differs {
        object.set(field, Value::Null);
    }
    differs
}

/// A set: those that stay keep their order.
fn set_tags<'a>(object: &mut Map, wanted: impl IntoIterator<Item = &'a String>) -> bool {
    let wanted: BTreeSet<&str> = wanted.into_iter().map(String::as_str).collect();
    let present: BTreeSet<&str> = tags(object).collect();
    if present == wanted {
        return false;
    }
    if wanted.is_empty() {
        return clear(object, "tags");
    }
    let stay = tags(object).filter(|tag| wanted.contains(*tag));
    let new = wanted.iter().copied().filter(|tag| !present.contains(tag));
    let tags = stay.chain(new).map(Value::text).collect();
    object.set("tags", Value::List(tags));
    true
}

/// Kong sets the time of an update where there is none; that of the creation is kept.
fn forget_times(object: &mut Map, differs: bool) {
    if differs {
        object.remove("updated_at");
    }
}

fn set_owner(sni: &mut Map, id: Uuid) {
    let mut reference = Map::default();
    reference.set("id", Value::text(&id.to_string()));
    sni.set("certificate", Value::Map(reference));
    forget_times(sni, true);
}

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
