//! Whatever is put into whatever configuration, what is not ours stays as it was.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fmt::Write as _;
use std::sync::OnceLock;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value as Json, json};
use testkit::{KongModel, Pki, Request};

use super::*;

/// Certificates of others; ids from this one on are new.
const FOREIGN: usize = 3;
const NAMES: [&str; 6] = ["n0.test", "n1.test", "n2.test", "n3.test", "n4.test", "n5.test"];
/// The kinds that are written to.
const WRITTEN: [&str; 3] = ["certificates", "snis", "ca_certificates"];
/// Texts, numbers and more that readers differ over, in every style.
const ODD: [&str; 24] = [
    "0o17",
    "NaN",
    "2020-01-01",
    "y",
    "yes",
    "010",
    "0x1F",
    "1_000",
    "1:30",
    "~",
    "'010'",
    "-5",
    "\"yes\\n\\u00e9\"",
    "1.50",
    "1e3",
    "9223372036854775807",
    "{}",
    "[]",
    "it's",
    "'it''s'",
    "!!str 5",
    "$2b$10$a.b/c",
    "\"\"",
    "é",
];
/// One of each kind of entity. `@` is an odd scalar, `#n` the id of certificate n.
const SECTIONS: [&str; 8] = [
    "services:\n- {id: 33333333-3333-4333-8333-333333333333, name: web, path: @, client_certificate: {id: #0}}\n- name: nested\n  tags: &tags [k, @]\n  routes: [{name: inside, headers: {x: [@]}}]\n",
    "plugins:\n- id: 66666666-6666-4666-8666-666666666666\n  name: request-transformer\n  tags: [k]\n  config: {add: {headers: [@, @], deep: [[{deeper: @}]]}}\n- id: 77777777-7777-4777-8777-777777777777\n  name: other\n  config:\n    pem: |\n      -----BEGIN X-----\n      body\n    folded: >-\n      a\n      b\n    ca_certificates: [#9]\n",
    "consumers:\n- username: c1\n  custom_id: @\n  basicauth_credentials:\n  - {id: 44444444-4444-4444-8444-444444444444, username: u, password: $2b$10$hashed, odd: @}\n",
    "upstreams:\n- name: up\n  hash_on: @\n  targets: [{id: 55555555-5555-4555-8555-555555555555, target: '1.2.3.4:80', weight: @}]\n",
    "vaults: [{prefix: v, name: env, config: {prefix: @}}]\n",
    "key_sets: [{name: ks, tags: ['010', @]}]\n",
    "routes:\n- &route {name: alone, paths: [/a], priority: @}\n- <<: *route\n  name: alike\n",
    "acls: []\nkeys: {}\n",
];

/// Where the names of a certificate stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Inside,
    Beside,
    /// As in an export.
    Both,
}

/// A configuration of others.
#[derive(Clone, Debug)]
struct Configuration {
    head: String,
    sections: Vec<&'static str>,
    odd: Vec<&'static str>,
    standing: Vec<Standing>,
    /// By name: the certificate that has it.
    owners: Vec<Option<usize>>,
    /// There is a certificate without an id, too.
    has_one_without_id: bool,
    has_authority: bool,
}

fn configuration() -> impl Strategy<Value = Configuration> {
    let head = (
        select(vec!["'1.1'", "\"2.1\"", "'3.0'"]),
        select(vec![
            "",
            "_transform: false\n",
            "_transform: yes\n",
            "_comment: 'a: b'\n_ignore: [{a: 1}]\n",
        ]),
    )
        .prop_map(|(format, meta)| format!("_format_version: {format}\n{meta}"));
    let standing = select(vec![Standing::Inside, Standing::Beside, Standing::Both]);
    (
        head,
        subsequence(SECTIONS.to_vec(), 0..=SECTIONS.len()),
        proptest::collection::vec(select(ODD.to_vec()), 16),
        proptest::collection::vec(standing, FOREIGN),
        proptest::collection::vec(proptest::option::of(0..FOREIGN), 4),
        any::<[bool; 2]>(),
    )
        .prop_map(|(head, sections, odd, standing, owners, has)| Configuration {
            head,
            sections,
            odd,
            standing,
            owners,
            has_one_without_id: has[0],
            has_authority: has[1],
        })
}

impl Configuration {
    fn yaml(&self) -> String {
        let mut text = self.head.clone();
        let mut odd = self.odd.iter().cycle();
        for section in &self.sections {
            for (at, part) in section.split('@').enumerate() {
                text += if at > 0 { odd.next().unwrap() } else { "" };
                text += part;
            }
        }
        text = text.replace("#0", &id(0).to_string()).replace("#9", &id(9).to_string());
        text + &self.certificates() + &self.authority()
    }

    fn certificates(&self) -> String {
        let (mut text, mut beside) = ("certificates:\n".to_owned(), "snis: # others\n".to_owned());
        if self.has_one_without_id {
            let [cert, key] = [&pairs()[0].0, &pairs()[0].1].map(|pem| indented(pem));
            let _ =
                write!(text, "- snis: [{{name: plain.test}}]\n  cert: |\n{cert}  key: |\n{key}");
        }
        for (at, standing) in self.standing.iter().enumerate() {
            let (cert, key) = &pairs()[at];
            let (id, cert, key) = (id(at), indented(cert), indented(key));
            let _ =
                write!(text, "- id: {id}\n  cert: |\n{cert}  key: |\n{key}  created_at: 17{at}\n");
            let names = NAMES.iter().zip(&self.owners).filter(|(_, owner)| **owner == Some(at));
            let names: Vec<_> = names.map(|(name, _)| *name).collect();
            if *standing != Standing::Beside && !names.is_empty() {
                text += "  snis:\n";
                names
                    .iter()
                    .for_each(|name| text += &format!("  - {{name: {name}, tags: [t-{name}]}}\n"));
            }
            if *standing != Standing::Inside {
                let sni = |name: &&str| {
                    format!("- {{name: {name}, certificate: {id}, tags: [t-{name}]}}\n")
                };
                names.iter().for_each(|name| beside += &sni(name));
            }
        }
        text + &beside
    }

    fn authority(&self) -> String {
        if self.has_authority || self.sections.contains(&SECTIONS[1]) {
            format!(
                "ca_certificates: [{{id: {}, tags: [t], cert: {}}}]\n",
                id(9),
                json!(authority())
            )
        } else {
            String::new()
        }
    }

    /// An export as such is not taken back.
    fn is_export(&self) -> bool {
        let is_twice = |owner: &usize| self.standing[*owner] == Standing::Both;
        self.owners.iter().flatten().any(is_twice)
    }
}

/// A certificate that is put.
#[derive(Clone, Debug)]
struct Put {
    at: usize,
    pair: usize,
    fields: Option<(BTreeSet<String>, BTreeSet<String>)>,
    take: BTreeSet<String>,
}

fn put() -> impl Strategy<Value = Put> {
    let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
    let names = subsequence(NAMES.to_vec(), 0..=NAMES.len()).prop_map(owned);
    let tags = subsequence(vec!["a", "b", "c"], 0..=3).prop_map(owned);
    let take = subsequence(NAMES.to_vec(), 0..=2).prop_map(owned);
    (0..FOREIGN + 2, 0..3usize, proptest::option::of((names, tags)), take)
        .prop_map(|(at, pair, fields, take)| Put { at, pair, fields, take })
}

impl Put {
    fn put_into(&self, document: &mut Document) {
        let (cert, key) = &pairs()[self.pair];
        let fields = self.fields.clone().map(|(snis, tags)| (snis.into(), tags.into()));
        let fields = fields.as_ref().map(|(snis, tags)| OwnFields { snis, tags });
        let (id, alt, take) = (id(self.at), AltPair::Clear, &self.take);
        document.put(Entry::Certificate { id, cert, key, alt, fields, take });
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.fields.iter().flat_map(|(names, _)| names).chain(&self.take)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn what_is_not_ours_stays_as_it_was(
        configuration in configuration(),
        as_json in any::<bool>(),
        puts in proptest::collection::vec(put(), 1..4),
        authority_at in proptest::option::of(9..11usize),
    ) {
        let mut text = configuration.yaml();
        let before = Document::parse(text.as_bytes()).unwrap();
        if as_json || configuration.is_export() {
            text = String::from_utf8(before.to_json().to_vec()).unwrap();
        }
        let mut after = Document::parse(text.as_bytes()).unwrap();
        prop_assert!(before == after, "JSON and YAML differ");
        for put in &puts {
            put.put_into(&mut after);
        }
        let tags = BTreeSet::from(["t".to_owned()]);
        if let Some(at) = authority_at {
            after.put(Entry::Authority { id: id(at), cert: authority(), tags: Some(&tags) });
        }

        let last = puts.last().unwrap();
        let once = after.clone();
        last.put_into(&mut after);
        prop_assert!(once == after, "the same again changes something");
        let held = after.certificates();
        let held = held.iter().find(|held| held.id == id(last.at)).unwrap();
        prop_assert!(last.names().all(|name| held.snis.contains(name)));
        if let Some((snis, tags)) = &last.fields {
            prop_assert_eq!(&held.snis, &(snis | &last.take).into());
            prop_assert_eq!(&held.tags, &tags.clone().into());
        }

        same_nodes(&before, &after, &puts)?;
        same_rows(&rows(&text), &loaded(&after), &puts)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_is_carried_over_disturbs_nothing_and_can_be_taken_out_again(
        file in configuration(),
        names in proptest::collection::vec(subsequence(NAMES.to_vec(), 0..=NAMES.len()), 1..3),
    ) {
        let file = Document::parse(file.yaml().as_bytes()).unwrap();
        let mut running = file.clone();
        let ours = BTreeSet::from(["ours".to_owned()]);
        let nobodys = |names: &[&str]| {
            let free = names.iter().filter(|name| file.names().all(|there| there != **name));
            free.map(|name| (*name).to_owned()).collect::<BTreeSet<_>>()
        };
        // Names that the file has were ours before: the next edition of the file has them.
        let puts = names.iter().enumerate().map(|(at, names)| {
            let wanted: BTreeSet<_> = names.iter().map(|name| (*name).to_owned()).collect();
            let (at, take) = (FOREIGN + at, BTreeSet::new());
            Put { at, pair: 0, fields: Some((wanted, ours.clone())), take }.put_into(&mut running);
            Put { at, pair: 0, fields: Some((nobodys(names), ours.clone())), take: BTreeSet::new() }
        });
        let puts: Vec<_> = puts.collect();

        let mut after = file.clone();
        after.carry_over(&running, "ours");
        same_nodes(&file, &after, &puts)?;
        same_rows(&loaded(&file), &loaded(&after), &puts)?;
        let held = after.certificates();
        for (at, put) in puts.iter().enumerate() {
            let held = held.iter().find(|held| held.id == id(put.at)).unwrap();
            let is_later = |name: &&String| puts[at + 1..].iter().any(|put| put.names().any(|other| other == *name));
            let lasting: BTreeSet<String> = put.names().filter(|name| !is_later(name)).cloned().collect();
            prop_assert_eq!(&held.snis, &lasting.into());
        }

        for put in &puts {
            prop_assert!(after.remove_ours("certificate", id(put.at), "ours"));
        }
        same_nodes(&file, &after, &[])?;
        same_rows(&loaded(&file), &loaded(&after), &[])?;
    }
}

/// Node by node, in the same order.
fn same_nodes(before: &Document, after: &Document, puts: &[Put]) -> Result<(), TestCaseError> {
    let others = |document: &Document| {
        let others = document.root.iter().filter(|(field, _)| !WRITTEN.contains(field));
        others.map(|(field, value)| (field.to_owned(), value.clone())).collect::<Vec<_>>()
    };
    prop_assert!(others(before) == others(after), "another entity differs");
    let is_put = |id_put: Uuid| puts.iter().any(|put| id(put.at) == id_put);
    let is_named = |name: &str| puts.iter().any(|put| put.names().any(|named| named == name));
    let certificates = |document: &Document| {
        let others = document.objects(Entity::Certificate).filter(|(id, _)| !is_put(*id));
        let without_names = |(id, object): (Uuid, &Map)| {
            let mut object = object.clone();
            let inside = object.remove(SNIS).unwrap_or(Value::Null);
            let left = inside.elements().iter().filter(|sni| !name_of(sni).is_some_and(is_named));
            (id, object, left.cloned().collect::<Vec<_>>())
        };
        others.map(without_names).collect::<Vec<_>>()
    };
    prop_assert!(certificates(before) == certificates(after), "another certificate differs");
    let names = |document: &Document| {
        let is_others = |sni: &&Value| {
            let owner = sni.as_map().and_then(owner);
            !name_of(sni).is_some_and(is_named) && !owner.is_some_and(is_put)
        };
        document.root.elements(SNIS).iter().filter(is_others).cloned().collect::<Vec<_>>()
    };
    prop_assert!(names(before) == names(after), "another name differs");
    Ok(())
}

/// As Kong has loaded both.
fn same_rows(before: &Json, after: &Json, puts: &[Put]) -> Result<(), TestCaseError> {
    let others = |rows: &Json| {
        let mut rows = rows.as_object().unwrap().clone();
        WRITTEN.iter().for_each(|entity| drop(rows.remove(*entity)));
        as_lua(&Json::Object(rows))
    };
    prop_assert_eq!(others(before), others(after));
    for (at, (cert, _)) in pairs().iter().enumerate() {
        let id = id(at).to_string();
        let (old, new) = (&before["certificates"][&id], &after["certificates"][&id]);
        if puts.iter().all(|put| put.at != at) {
            for field in ["cert", "key", "cert_alt", "tags", "created_at"] {
                prop_assert_eq!(&old[field], &new[field]);
            }
            prop_assert_eq!(&new["cert"], cert);
        }
        prop_assert_eq!(&old["created_at"], &new["created_at"]);
    }
    let sni = |rows: &Json, name: &str| {
        let rows = rows["snis"].as_object().into_iter().flat_map(|rows| rows.values());
        let found = rows.filter(|row| row["name"] == name).collect::<Vec<_>>();
        found.first().map(|row| json!([row["certificate"]["id"], row["tags"]]))
    };
    for name in NAMES {
        let (old, new) = (sni(before, name), sni(after, name));
        let owner = old.as_ref().map(|old| old[0].clone());
        let is_put = puts.iter().any(|put| owner == Some(json!(id(put.at))));
        let is_named = puts.iter().any(|put| put.names().any(|named| named == name));
        if !is_named && !is_put {
            prop_assert_eq!(old, new);
        } else if let (Some(old), Some(new)) = (old, new) {
            // One that was dropped and came again is another.
            let is_dropped = |put: &Put| put.names().all(|named| named != name);
            if !puts.iter().any(is_dropped) {
                prop_assert_eq!(&old[1], &new[1]);
            }
        }
    }
    Ok(())
}

/// Lua has one kind of number.
fn as_lua(value: &Json) -> Json {
    match value {
        Json::Number(number) => json!(number.as_f64()),
        Json::Array(list) => list.iter().map(as_lua).collect(),
        Json::Object(map) => map.iter().map(|(key, value)| (key.clone(), as_lua(value))).collect(),
        other => other.clone(),
    }
}

/// What the stand-in makes of it: rows by entity and id.
pub(super) fn loaded(document: &Document) -> Json {
    rows(std::str::from_utf8(&document.to_json()).unwrap())
}

fn rows(text: &str) -> Json {
    let body = json!({ "config": text });
    let answer = KongModel::without_database().answer(&Request::json("POST", "/config", &body));
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    answer.value()
}

/// Chains and keys that Kong takes.
fn pairs() -> &'static [(String, String)] {
    static PAIRS: OnceLock<Vec<(String, String)>> = OnceLock::new();
    PAIRS.get_or_init(|| {
        let pki = Pki::new();
        let pair = |_| pki.pair(&["a.test"]);
        let pairs = (0..FOREIGN).map(pair);
        pairs.map(|pair| (pair.chain_pem(), pair.key_pem())).collect()
    })
}

fn authority() -> &'static str {
    static PEM: OnceLock<String> = OnceLock::new();
    PEM.get_or_init(|| Pki::new().root().pem())
}

fn id(at: usize) -> Uuid {
    Uuid::from_u128(0xc0c0_c0c0_c0c0_4c0c_8c0c_c0c0_c0c0_0000 + at as u128)
}

fn indented(pem: &str) -> String {
    pem.lines().fold(String::new(), |text, line| text + "    " + line + "\n")
}
