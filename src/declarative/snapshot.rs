//! What a configuration holds, as a decision needs it.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::Document;
use super::entities::{Entity, ids};
use super::value::Map;
use crate::bundle::{held_authority, held_license};
use crate::held::{HeldAuthority, HeldLicense, Snapshot};

/// An id and a name, as far as an object has them.
pub type Known = (Option<Uuid>, Option<String>);

impl Document {
    /// Id and name of the object of a list that has this as either.
    #[must_use]
    pub fn known_by(&self, list: &str, key: &str) -> Option<Known> {
        let is_it =
            |object: &Map| ["name", "id"].iter().any(|field| object.text(field) == Some(key));
        let mut objects = self.root.get(list)?.unpacked();
        let at = objects.position(|object| object.as_map().is_some_and(is_it))?;
        self.known_at(list, at)
    }

    /// All that is of interest; of the CA certificates that are `doubted`, whether anything refers
    /// to them.
    #[must_use]
    pub fn snapshot(&self, doubted: &BTreeSet<Uuid>) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.certificates().into_iter().for_each(|held| snapshot.insert(held));
        for raw in self.authorities() {
            snapshot.insert_authority(HeldAuthority {
                id: raw.id,
                authority: held_authority(&raw.cert).map_err(|invalid| invalid.reason()),
                digest: raw.digest,
                tags: raw.tags,
                created_at: raw.created_at,
            });
        }
        for raw in self.licenses() {
            let facts = held_license(&raw.payload).map_err(|invalid| invalid.reason());
            snapshot.insert_license(HeldLicense { id: raw.id, facts, updated_at: None });
        }
        let cleared = doubted.iter().copied().filter(|id| self.refers_to(*id));
        snapshot.note_cleared(cleared.collect());
        snapshot
    }

    /// Id and name of the object at this place of a list.
    #[must_use]
    pub fn known_at(&self, list: &str, at: usize) -> Option<Known> {
        let object = self.root.get(list)?.unpacked().nth(at)?;
        let object = object.as_map()?;
        let entity = Entity::ALL.into_iter().find(|entity| entity.list() == list);
        let id = match entity {
            Some(entity) => ids(entity, self.root.elements(list)).get(at).copied(),
            None => object.text("id").and_then(|id| id.parse().ok()),
        };
        Some((id, object.text("name").map(str::to_owned)))
    }
}
