//! What runs, into a configuration that does not have it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use uuid::Uuid;
use zeroize::Zeroizing;

use super::Document;
use super::document::LISTS;
use super::entities::{Entity, SNIS, owner, tags};
use super::merge::{AltPair, Entry, OwnFields};
use super::value::{Map, Value};
use crate::bundle::{Fingerprint, held_authority, held_license};
use crate::clock::Timestamp;
use crate::held::HeldCertificate;

/// A certificate whose pair may be the last good one of a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlived {
    /// Its id.
    pub id: Uuid,
    /// What it is where it does not run, if that can be served now.
    pub here: Option<Fingerprint>,
    /// What it is where it runs.
    pub there: Fingerprint,
    /// It began earlier where it does not run.
    pub is_older: bool,
}

impl Document {
    /// Adds what a configuration that runs has of ours and this one, which comes from a file, lacks:
    /// objects with our tag, and their names unless someone has them here.
    pub fn carry_over(&mut self, running: &Self, own_tag: &str) {
        let names: HashSet<String> = self.names().map(str::to_owned).collect();
        let is_ours = |tag: &String| tag == own_tag;
        let present: HashSet<Uuid> = self.objects(Entity::Certificate).map(|(id, _)| id).collect();
        for held in running.certificates() {
            if held.tags.iter().any(is_ours) && !present.contains(&held.id) {
                let snis = held.snis.into_iter().filter(|name| !names.contains(name)).collect();
                let fields = OwnFields { snis: &snis, tags: &held.tags };
                self.carry_certificate(running, held.id, Some(fields));
            }
        }
        let present: HashSet<Uuid> = self.objects(Entity::Authority).map(|(id, _)| id).collect();
        for held in running.authorities() {
            if held.tags.iter().any(is_ours) && !present.contains(&held.id) {
                let (id, cert, tags) = (held.id, &*held.cert, Some(&held.tags));
                self.put(Entry::Authority { id, cert, tags });
            }
        }
    }

    /// Puts ours behind those of others, in an order that is the same each time: by id and name, in
    /// lists that stand last.
    pub fn sort_ours(&mut self, own_tag: &str) {
        let is_ours = |object: &Map| tags(object).any(|tag| tag == own_tag);
        let certificates = self.objects(Entity::Certificate);
        let own: BTreeSet<Uuid> =
            certificates.filter(|(_, object)| is_ours(object)).map(|(id, _)| id).collect();
        for entity in [Entity::Certificate, Entity::Authority] {
            // All of ours have an id.
            self.sort(entity.list(), |object| is_ours(object).then(|| object.text("id")).flatten());
        }
        // They have no tags.
        self.sort(Entity::License.list(), |object| object.text("id"));
        self.sort(SNIS, |sni| {
            sni.text("name").filter(|_| owner(sni).is_some_and(|id| own.contains(&id)))
        });
        LISTS.iter().for_each(|list| self.root.move_to_end(list));
    }

    /// Those that have a key, by it, behind those that have none.
    fn sort(&mut self, field: &str, key: impl for<'a> Fn(&'a Map) -> Option<&'a str>) {
        if let Some(Value::List(list)) = self.root.get_mut(field) {
            list.sort_by_cached_key(|object| object.as_map().and_then(&key).map(str::to_owned));
        }
    }

    /// Takes out an object with our tag, by Kong's word for its kind. Returns whether there was one.
    pub fn remove_ours(&mut self, word: &str, id: Uuid, own_tag: &str) -> bool {
        let Some(entity) = Entity::ALL.into_iter().find(|entity| entity.word() == word) else {
            return false;
        };
        let is_ours =
            |(found, object): (Uuid, &Map)| found == id && tags(object).any(|tag| tag == own_tag);
        let is_there = self.objects(entity).any(is_ours);
        if is_there {
            self.remove(entity, id);
        }
        is_there
    }

    /// A CA certificate or licence `id` stays what it is in `running`, unless it is here and that one
    /// can be used no more, or began earlier.
    pub fn carry_object(&mut self, running: &Self, entity: Entity, id: Uuid, now: Timestamp) {
        let there = running.objects(entity).find(|(found, _)| *found == id);
        let Some((_, object)) = there else { return };
        if self.objects(entity).any(|(found, _)| found == id) {
            let [here, there] = [&*self, running].map(|it| it.usable_since(entity, id, now));
            if there.is_none() || there < here {
                return;
            }
        }
        match entity {
            Entity::Certificate => self.carry_pair(running, id),
            Entity::Authority => {
                let cert = object.text("cert").unwrap_or_default().to_owned();
                let tags: BTreeSet<String> = tags(object).map(str::to_owned).collect();
                let is_here = self.objects(entity).any(|(found, _)| found == id);
                let tags = (!is_here).then_some(&tags);
                self.put(Entry::Authority { id, cert: &cert, tags });
            }
            Entity::License => {
                let payload = Zeroizing::new(object.text("payload").unwrap_or_default().to_owned());
                self.put(Entry::License { id, payload: &payload });
            }
        }
    }

    /// Certificates that are here, and in `running` with a pair that can be served now and did not
    /// begin earlier.
    #[must_use]
    pub fn outlived_in(&self, running: &Self, now: Timestamp) -> Vec<Outlived> {
        let servable = |held: &HeldCertificate| {
            let facts = held.facts.as_ref().ok().filter(|facts| !facts.expired_at(now))?;
            Some((facts.validity.not_before, facts.fingerprint))
        };
        let here = self.certificates();
        let here: BTreeMap<Uuid, _> = here.iter().map(|held| (held.id, servable(held))).collect();
        let outlived = running.certificates().into_iter().filter_map(|held| {
            let here = *here.get(&held.id)?;
            let (began, there) = servable(&held)?;
            let began_here = here.map(|(began, _)| began);
            let here = here.map(|(_, fingerprint)| fingerprint);
            let is_older = began_here < Some(began);
            (began_here <= Some(began)).then_some(Outlived { id: held.id, here, there, is_older })
        });
        outlived.collect()
    }

    /// Since when the CA certificate or licence `id` is valid, if it can be used now.
    fn usable_since(&self, entity: Entity, id: Uuid, now: Timestamp) -> Option<Timestamp> {
        let validity = match entity {
            Entity::Certificate => None,
            Entity::Authority => {
                let held = self.authorities().into_iter().find(|held| held.id == id)?;
                held_authority(&held.cert).ok().map(|authority| authority.validity())
            }
            Entity::License => {
                let held = self.licenses().into_iter().find(|held| held.id == id)?;
                held_license(&held.payload).ok().map(|facts| facts.validity)
            }
        };
        validity.filter(|validity| now <= validity.not_after).map(|validity| validity.not_before)
    }

    /// Names that the certificate `id` has in `running`, and that are `wanted`, are its names here,
    /// too, whoever has them.
    pub fn carry_names(&mut self, running: &Self, id: Uuid, wanted: impl Fn(&str) -> bool) {
        let there = running.certificates().into_iter().find(|held| held.id == id);
        let names = there.into_iter().flat_map(|held| held.snis);
        let names: BTreeSet<String> = names.filter(|name| wanted(name)).collect();
        if !names.is_empty() {
            self.take_names(id, &names);
        }
    }

    /// The certificate `id` gets the pairs that it has in `running`, if it is in both.
    pub fn carry_pair(&mut self, running: &Self, id: Uuid) {
        if self.objects(Entity::Certificate).any(|(found, _)| found == id) {
            self.carry_certificate(running, id, None);
        }
    }

    fn carry_certificate(&mut self, running: &Self, id: Uuid, fields: Option<OwnFields<'_>>) {
        let there = running.objects(Entity::Certificate).find(|(found, _)| *found == id);
        let Some((_, there)) = there else { return };
        let (Some(cert), Some(key)) = (there.text("cert"), there.text("key")) else { return };
        let alt = match there.text("cert_alt").zip(there.text("key_alt")) {
            Some((cert, key)) => AltPair::Write { cert, key },
            None => AltPair::Clear,
        };
        let take = &BTreeSet::new();
        self.put(Entry::Certificate { id, cert, key, alt, fields, take });
    }
}
