//! The configuration of a Kong without a database, and what is ours put into it.
//!
//! The first two bytes say what is put, the rest is the configuration.

use std::collections::{BTreeMap, BTreeSet};

use kong_cert_reloader::clock::Timestamp;
use kong_cert_reloader::declarative::{AltPair, Document, Entity, Entry, OwnFields, Unreadable};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::said::assert_is_a_line;

const CERT: &str = include_str!("../../tests/data/certs/ec-compressed.crt");
const KEY: &str = include_str!("../../tests/data/certs/ec-compressed.key");
const AUTHORITY: &str = include_str!("../../tests/data/certs/v1.crt");
const LICENSE: &str = r#"{"license":{"payload":{},"signature":"\u0000"}}"#;
const NOW: Timestamp = Timestamp(1_800_000_000);
const OURS: &str = "ours";
const NAMES: [&str; 4] = ["a.test", "b.test", "*.a.test", "c.test"];
/// What may be written to: of all else each byte stays.
const WRITTEN: [&str; 4] = ["certificates", "snis", "ca_certificates", "licenses"];

/// Fails unless what is ours arrives, what is not stays as it was, and the same again changes nothing.
pub fn check(input: &[u8]) {
    let [first, second, base @ ..] = input else { return };
    for parse in [Document::parse, Document::parse_exported] {
        match parse(base) {
            Ok(document) => {
                check_text(&document);
                let put = Put::of(*first, *second, &document);
                let merged = check_merge(&document, &put);
                check_carrying(&merged, &put);
            }
            Err(unreadable) => check_refusal(&unreadable),
        }
    }
}

fn check_refusal(unreadable: &Unreadable) {
    assert_is_a_line(&unreadable.to_string());
    assert_is_a_line(&format!("{unreadable:?}"));
}

/// It is sent as JSON that means the same.
fn check_text(document: &Document) {
    let json = document.to_json();
    let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&json).unwrap();
    assert!(fields["_format_version"].get().starts_with('"'), "the format is no text");
    let again = Document::parse(&json).unwrap();
    assert!(again == *document, "what is sent means something else");
    assert_eq!(*again.to_json(), *json, "what is sent is written otherwise the next time");
}

/// An object of each kind of ours.
struct Put {
    id: Uuid,
    names: BTreeSet<String>,
    take: BTreeSet<String>,
    tags: BTreeSet<String>,
    is_ours: bool,
}

impl Put {
    /// The id is a new one, or that of an object that is there.
    fn of(first: u8, second: u8, document: &Document) -> Self {
        let chosen = |bits: u8| {
            let names = NAMES.iter().enumerate().filter(|(at, _)| bits & 1 << at != 0);
            names.map(|(_, name)| (*name).to_owned()).collect()
        };
        let there = document.certificates();
        let there = there.get(usize::from(second & 3));
        Self {
            id: there.map_or(Uuid::from_u128(1), |held| held.id),
            names: chosen(first & 0xf),
            take: chosen(first >> 4 & second >> 4),
            tags: [OURS.to_owned()].into(),
            is_ours: second & 4 == 0,
        }
    }

    fn put_into(&self, document: &mut Document) {
        let (snis, tags) = (&self.names.clone().into(), &self.tags.clone().into());
        let fields = OwnFields { snis, tags };
        document.put(Entry::Certificate {
            id: self.id,
            cert: CERT,
            key: KEY,
            alt: AltPair::Clear,
            fields: self.is_ours.then_some(fields),
            take: &self.take,
        });
        let id = Uuid::from_u128(2);
        document.put(Entry::Authority { id, cert: AUTHORITY, tags: Some(&self.tags) });
        document.put(Entry::License { id, payload: LICENSE });
    }
}

fn check_merge(before: &Document, put: &Put) -> Document {
    let mut after = before.clone();
    put.put_into(&mut after);
    let once = after.clone();
    put.put_into(&mut after);
    assert!(after == once, "the same again changes something");
    check_text(&after);

    let held = after.certificates();
    let ours = held.iter().find(|held| held.id == put.id).unwrap();
    assert!(ours.facts.is_ok(), "another certificate arrived");
    assert!(
        put.take.iter().all(|name| ours.snis.contains(name)),
        "a name that is taken is missing"
    );
    if put.is_ours {
        assert_eq!(ours.snis, (&put.names | &put.take).into());
        assert_eq!(ours.tags, put.tags.clone().into());
    }
    let is_other = |id: Uuid| id != put.id;
    let others = |document: &Document| {
        let others = document.certificates().into_iter().filter(|held| is_other(held.id));
        others.map(|held| (held.id, held.facts, held.tags, held.created_at)).collect::<Vec<_>>()
    };
    assert_eq!(others(before), others(&after), "someone else's certificate differs");
    let kept = |document: &Document| {
        let held = document.certificates().into_iter().filter(|held| is_other(held.id));
        let names = |held: kong_cert_reloader::held::HeldCertificate| {
            let mut names = held.snis;
            names.retain(|name| !put.names.contains(name) && !put.take.contains(name));
            (held.id, names)
        };
        held.map(names).collect::<Vec<_>>()
    };
    assert_eq!(kept(before), kept(&after), "someone else's name is gone");
    assert_eq!(foreign(before), foreign(&after), "what is not ours differs");

    after.remove(Entity::Certificate, put.id);
    assert!(after.certificates().iter().all(|held| held.id != put.id), "it is there still");
    after.sort_ours(OURS);
    check_text(&after);
    once
}

/// All of it that is not written to, in the text that is sent.
fn foreign(document: &Document) -> BTreeMap<String, String> {
    let fields: BTreeMap<String, Box<RawValue>> =
        serde_json::from_slice(&document.to_json()).unwrap();
    let others = fields.into_iter().filter(|(field, _)| !WRITTEN.contains(&&**field));
    others.map(|(field, value)| (field, value.get().to_owned())).collect()
}

/// What runs, into a file that lacks it.
fn check_carrying(running: &Document, put: &Put) {
    let mut file = Document::parse(br#"{"_format_version":"3.0"}"#).unwrap();
    file.carry_over(running, OURS);
    check_text(&file);
    if put.is_ours {
        let held = |document: &Document| {
            document.certificates().into_iter().find(|held| held.id == put.id).unwrap()
        };
        let (there, here) = (held(running), held(&file));
        assert_eq!((&here.facts, &here.snis, &here.tags), (&there.facts, &there.snis, &there.tags));
    }
    let once = file.clone();
    file.carry_over(running, OURS);
    assert!(file == once, "what was carried over is carried over again");
    for entity in [Entity::Certificate, Entity::Authority, Entity::License] {
        file.carry_object(running, entity, put.id, NOW);
    }
    check_text(&file);
    let doubted = running.authorities().iter().map(|raw| raw.id).collect();
    let _ = (running.snapshot(&doubted), running.other_controller(), running.has_objects());
}
