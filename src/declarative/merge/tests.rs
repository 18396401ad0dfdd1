#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use serde_json::{Value as Json, json};
use testkit::Pki;

use super::property::loaded;
use super::*;
use crate::quote::Quoted;

const ONE: Uuid = Uuid::from_u128(0x11111111_1111_4111_8111_111111111111);
const TWO: Uuid = Uuid::from_u128(0x22222222_2222_4222_8222_222222222222);

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn document(text: &str) -> Document {
    Document::parse(text.as_bytes()).unwrap()
}

/// With a format.
fn of(fields: &str) -> Document {
    document(&format!("_format_version: '3.0'\n{fields}"))
}

fn json_of(document: &Document) -> Json {
    serde_json::from_slice(&document.to_json()).unwrap()
}

/// What is put in these tests where content does not matter.
#[derive(Clone)]
struct Put {
    id: Uuid,
    cert: String,
    key: String,
    fields: Option<(Few<String>, Few<String>)>,
    take: BTreeSet<String>,
}

impl Put {
    /// As one's own.
    fn own(id: Uuid, snis: &[&str], tags: &[&str]) -> Self {
        Self { fields: Some((set(snis).into(), set(tags).into())), ..Self::adopted(id) }
    }

    fn adopted(id: Uuid) -> Self {
        let (cert, key) = ("new cert".to_owned(), "new key".to_owned());
        Self { id, cert, key, fields: None, take: BTreeSet::new() }
    }

    fn taking(self, names: &[&str]) -> Self {
        Self { take: set(names), ..self }
    }

    fn put_into(&self, document: &mut Document) {
        self.with(AltPair::Keep, document);
    }

    fn with(&self, alt: AltPair<'_>, document: &mut Document) {
        let Self { id, cert, key, take, fields } = self;
        let fields = fields.as_ref().map(|(snis, tags)| OwnFields { snis, tags });
        document.put(Entry::Certificate { id: *id, cert, key, alt, fields, take });
    }
}

fn export_of(recording: &str) -> String {
    let path =
        format!("{}/tests/data/kong-contract/dbless/{recording}", env!("CARGO_MANIFEST_DIR"));
    #[expect(clippy::disallowed_methods, reason = "a test reads its files")]
    let recorded: Json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    recorded["response"]["body"]["config"].as_str().unwrap().to_owned()
}

/// Recording `get-config`: names that came inside a certificate stand there and beside it.
#[test]
fn what_kong_exported_can_be_sent_again_with_another_pair() {
    let mut document = document(&export_of("10-get-config.json"));
    let pair = Pki::new().pair(&["a.example.com"]);
    let put = Put {
        cert: pair.chain_pem(),
        key: pair.key_pem(),
        ..Put::own(ONE, &["a.example.com"], &["ours"])
    };
    put.put_into(&mut document);
    assert_eq!(
        json_of(&document),
        json!({
            "_format_version": "3.0",
            "_transform": false,
            "certificates": [{
                "tags": ["ours"],
                "cert_alt": null,
                "cert": pair.chain_pem(),
                "id": ONE,
                "key": pair.key_pem(),
                "created_at": 1_795_324_282,
                "key_alt": null,
            }],
            "snis": [{
                "certificate": ONE,
                "tags": null,
                "id": "01ab46dc-2c1f-4346-9a6e-831ca966d7cc",
                "created_at": 1_795_324_282,
                "updated_at": 1_795_324_282,
                "name": "a.example.com",
            }],
        })
    );
    loaded(&document);
}

#[test]
fn what_differs_in_nothing_is_not_touched() {
    let text = "certificates: [{id: 11111111-1111-4111-8111-111111111111, cert: new cert, key: new key, tags: [b, a], snis: [{name: x}], updated_at: 5, cert_alt: ~}]\n\
                ca_certificates: [{cert: c, cert_digest: d, id: 22222222-2222-4222-8222-222222222222, updated_at: 5}]\n\
                licenses: [{payload: p, id: 22222222-2222-4222-8222-222222222222, updated_at: 5}]\n";
    let mut document = of(text);
    Put::own(ONE, &["x"], &["a", "b"]).with(AltPair::Clear, &mut document);
    document.put(Entry::Authority { id: TWO, cert: "c", tags: Some(&set(&[])) });
    document.put(Entry::License { id: TWO, payload: "p" });
    assert!(document == of(text));
}

#[test]
fn new_objects_go_into_new_lists() {
    for lists in ["", "certificates: {}\nsnis: ~\nca_certificates: []\nlicenses: {}\n"] {
        let mut document = of(lists);
        Put::own(ONE, &["b", "a"], &["t"]).put_into(&mut document);
        document.put(Entry::Authority { id: TWO, cert: "ca", tags: Some(&set(&["t"])) });
        document.put(Entry::License { id: TWO, payload: "{}" });
        assert_eq!(
            json_of(&document),
            json!({
                "_format_version": "3.0",
                "certificates": [{"id": ONE, "cert": "new cert", "key": "new key", "tags": ["t"]}],
                "snis": [
                    {"name": "a", "certificate": {"id": ONE}},
                    {"name": "b", "certificate": {"id": ONE}},
                ],
                "ca_certificates": [{"id": TWO, "cert": "ca", "tags": ["t"]}],
                "licenses": [{"id": TWO, "payload": "{}"}],
            })
        );
    }
}

#[test]
fn a_second_pair_is_kept_cleared_or_written() {
    let before = format!("certificates: [{{id: {ONE}, cert_alt: old, key_alt: old}}]");
    for (alt, expected) in [
        (AltPair::Keep, json!(["old", "old"])),
        (AltPair::Clear, json!([null, null])),
        (AltPair::Write { cert: "c", key: "k" }, json!(["c", "k"])),
    ] {
        let mut document = of(&before);
        Put::adopted(ONE).with(alt, &mut document);
        let object = &json_of(&document)["certificates"][0];
        assert_eq!(json!([object["cert_alt"], object["key_alt"]]), expected);
    }
}

#[test]
fn an_adopted_object_keeps_its_names_and_tags() {
    let names = format!("snis: [{{name: b, certificate: {ONE}, updated_at: 5}}]");
    let mut document =
        of(&format!("certificates: [{{id: {ONE}, snis: [{{name: a}}], tags: [theirs]}}]\n{names}"));
    Put::adopted(ONE).put_into(&mut document);
    assert_eq!(
        json_of(&document)["certificates"],
        json!([{"id": ONE, "snis": [{"name": "a"}], "tags": ["theirs"], "cert": "new cert", "key": "new key"}])
    );
    assert!(document.root.get(SNIS) == of(&names).root.get(SNIS));
}

/// All forms in which an SNI names its certificate, and an SNI that is in another.
const NAMES: &str = "certificates:\n\
    - {id: 11111111-1111-4111-8111-111111111111, snis: [{name: in, id: i, tags: [t]}, {name: in-gone}]}\n\
    - {id: 22222222-2222-4222-8222-222222222222, snis: [{name: theirs}, {name: in-taken, id: j, updated_at: 5}]}\n\
    snis:\n\
    - {name: bare, id: k, certificate: 11111111-1111-4111-8111-111111111111, tags: [t]}\n\
    - {name: gone, certificate: 11111111-1111-4111-8111-111111111111}\n\
    - {name: taken, id: l, certificate: {id: 22222222-2222-4222-8222-222222222222}, updated_at: 5}\n\
    - {name: left, certificate: {id: 22222222-2222-4222-8222-222222222222}, updated_at: 5}\n\
    - {name: nobodys}\n";

#[test]
fn names_that_stay_keep_their_objects_and_others_go_or_come() {
    let mut document = of(NAMES);
    Put::own(ONE, &["in", "bare", "new"], &[])
        .taking(&["taken", "in-taken"])
        .put_into(&mut document);
    let json = json_of(&document);
    assert_eq!(
        json["certificates"],
        json!([
            {"id": ONE, "snis": [{"name": "in", "id": "i", "tags": ["t"]}], "cert": "new cert", "key": "new key"},
            {"id": TWO, "snis": [{"name": "theirs"}]},
        ])
    );
    assert_eq!(
        json["snis"],
        json!([
            {"name": "bare", "id": "k", "certificate": ONE, "tags": ["t"]},
            {"name": "taken", "id": "l", "certificate": {"id": ONE}},
            {"name": "left", "certificate": {"id": TWO}, "updated_at": 5},
            {"name": "nobodys"},
            {"name": "in-taken", "id": "j", "certificate": {"id": ONE}},
            {"name": "new", "certificate": {"id": ONE}},
        ])
    );
}

#[test]
fn certificates_are_read_with_all_their_names() {
    let read = of(NAMES).certificates();
    let names = read.iter().map(|held| (held.id, held.snis.iter().cloned().collect()));
    assert_eq!(
        names.collect::<Vec<_>>(),
        [
            (ONE, set(&["bare", "gone", "in", "in-gone"])),
            (TWO, set(&["in-taken", "left", "taken", "theirs"])),
        ]
    );
}

#[test]
fn what_is_read_is_what_stands_there() {
    let pair = Pki::new().pair(&["a.test"]);
    let object = json!({
        "_format_version": "3.0",
        "certificates": [
            {"id": ONE, "cert": pair.chain_pem(), "key": pair.key_pem(), "tags": ["b", "a"], "created_at": 7},
            {"id": TWO, "cert": "{vault://env/cert}", "key": "{vault://env/key}", "cert_alt": pair.chain_pem()},
        ],
        "ca_certificates": [{"id": ONE, "cert": "ca", "tags": ["x"], "created_at": 8}],
        "licenses": [{"id": TWO, "payload": "s3cret"}],
    });
    let document = document(&object.to_string());
    let [one, two] = &document.certificates()[..] else { panic!("two stand there") };
    assert!(one.facts.as_ref().is_ok_and(|facts| facts.names.contains("a.test")));
    assert_eq!((one.tags.clone(), one.created_at), (set(&["a", "b"]).into(), Some(7)));
    assert!(!one.is_reference && !one.has_alt() && two.is_reference && two.has_alt());
    let [ca] = &document.authorities()[..] else { panic!("one stands there") };
    assert_eq!((ca.id, &*ca.cert, ca.created_at), (ONE, "ca", Some(8)));
    assert_eq!(ca.tags, set(&["x"]));
    let [license] = &document.licenses()[..] else { panic!("one stands there") };
    assert_eq!((license.id, license.payload.as_str()), (TWO, "s3cret"));
    assert!(!format!("{license:?}").contains("s3cret"), "{license:?}");
}

#[test]
fn an_object_without_an_id_is_found_again() {
    let mut document = of(
        "certificates: [{cert: a}, {cert: b, snis: [{name: x}, y]}]\nca_certificates: [{cert: a}]\n",
    );
    let ids = document.certificates().iter().map(|held| held.id).collect::<Vec<_>>();
    assert_ne!(document.authorities()[0].id, ids[0]);
    // Its place may be another's in the next edition of the file.
    let other = of("certificates: [{cert: c}, {cert: b}, {cert: a}]\n");
    let others = other.certificates().iter().map(|held| held.id).collect::<Vec<_>>();
    assert_eq!([others[2], others[1]], ids[..]);
    Put::own(ids[1], &["x", "y", "z"], &[]).put_into(&mut document);
    assert_eq!(
        json_of(&document)["certificates"],
        json!([{"cert": "a"}, {"cert": "new cert", "snis": [{"name": "x"}, "y"], "key": "new key", "id": ids[1]}])
    );
    assert_eq!(document.certificates()[1].snis, set(&["x", "y", "z"]).into());
}

#[test]
fn another_ca_has_another_digest() {
    let mut document = of(&format!(
        "ca_certificates: [{{id: {ONE}, cert: a, cert_digest: d, tags: [t], created_at: 1, updated_at: 2}}]"
    ));
    document.put(Entry::Authority { id: ONE, cert: "b", tags: None });
    assert_eq!(
        json_of(&document)["ca_certificates"],
        json!([{"id": ONE, "cert": "b", "tags": ["t"], "created_at": 1}])
    );
}

#[test]
fn a_certificate_goes_with_its_names() {
    let mut document = of(NAMES);
    document.remove(Entity::Certificate, ONE);
    let names = document.names().collect::<Vec<_>>();
    assert_eq!(names, ["taken", "left", "nobodys", "theirs", "in-taken"]);
    assert_eq!(document.certificates().len(), 1);
    document.remove(Entity::Authority, TWO);
    assert_eq!(document.certificates().len(), 1);
}

#[test]
fn objects_of_ours_that_a_file_lacks_are_carried_over() {
    let running = of(&format!(
        "certificates:\n\
         - {{id: {ONE}, cert: a, key: k, created_at: 1, tags: [ours, x], snis: [{{name: in}}, {{name: in-file}}]}}\n\
         - {{id: {TWO}, cert: b, key: k, tags: [ours]}}\n\
         - {{id: 33333333-3333-4333-8333-333333333333, cert: c, key: k, tags: [theirs]}}\n\
         snis: [{{name: beside, id: k, certificate: {ONE}}}, {{name: two, certificate: {TWO}}}]\n\
         ca_certificates: [{{id: {ONE}, cert: c, tags: [ours]}}, {{id: {TWO}, tags: [theirs]}}]\n\
         services: [{{name: gone}}]\n"
    ));
    let mut file = of(&format!(
        "certificates: [{{id: {TWO}, cert: file}}]\nsnis: [{{name: in-file, certificate: {TWO}}}]\n"
    ));
    file.carry_over(&running, "ours");
    assert_eq!(
        json_of(&file),
        json!({
            "_format_version": "3.0",
            "certificates": [
                {"id": TWO, "cert": "file"},
                {"id": ONE, "cert": "a", "key": "k", "tags": ["ours", "x"]},
            ],
            "snis": [
                {"name": "in-file", "certificate": TWO},
                {"name": "beside", "certificate": {"id": ONE}},
                {"name": "in", "certificate": {"id": ONE}},
            ],
            "ca_certificates": [{"id": ONE, "cert": "c", "tags": ["ours"]}],
        })
    );
    let once = json_of(&file);
    file.carry_over(&running, "ours");
    assert_eq!(json_of(&file), once);
}

#[test]
fn ours_come_last_and_always_in_the_same_order() {
    let third: Uuid = "33333333-3333-4333-8333-333333333333".parse().unwrap();
    let theirs = "certificates: [{cert: b}, {cert: a, snis: [{name: a}]}]\nsnis: [{name: z}]\n";
    let (mut one, mut other) = (of(theirs), of(theirs));
    let puts = [(ONE, "n1"), (TWO, "n2"), (third, "n0")];
    puts.iter().for_each(|(id, name)| Put::own(*id, &[name], &["ours"]).put_into(&mut one));
    puts.iter().rev().for_each(|(id, name)| Put::own(*id, &[name], &["ours"]).put_into(&mut other));
    assert_ne!(one.to_json(), other.to_json());
    one.sort_ours("ours");
    other.sort_ours("ours");
    assert_eq!(one.to_json(), other.to_json());
    let names: Vec<_> = one.names().collect();
    assert_eq!(names, ["z", "n0", "n1", "n2", "a"]);
    let ids: Vec<_> = one.certificates().iter().map(|held| held.id).skip(2).collect();
    assert_eq!(ids, [ONE, TWO, third]);
}

#[test]
fn who_names_an_id_is_found_wherever_it_is() {
    let id = TWO;
    for (fields, expected) in [
        (format!("services: [{{ca_certificates: [{id}]}}]"), true),
        (format!("services: [{{client_certificate: {{id: {id}}}}}]"), true),
        (format!("plugins: [{{config: {{ca_certificates: [x, {id}]}}}}]"), true),
        (format!("services: [{{routes: [{{plugins: [{{config: {{a: {{b: {id}}}}}}}]}}]}}]"), true),
        (format!("ca_certificates: [{{id: {id}}}]"), false),
        (format!("certificates: [{{id: {id}, snis: [{{certificate: {id}}}]}}]"), false),
        (format!("snis: [{{certificate: {id}}}]"), false),
        (format!("services: [{{name: x{id}}}]"), false),
    ] {
        assert_eq!(of(&fields).refers_to(id), expected, "{fields}");
        assert!(!of(&fields).refers_to(ONE), "{fields}");
    }
}

#[test]
fn the_ingress_controller_is_known_by_the_tag_of_any_object() {
    let tag = "managed-by-ingress-controller";
    for (fields, expected) in [
        (format!("services: [{{tags: [k8s, {tag}]}}]"), true),
        (format!("services: [{{routes: [{{plugins: [{{tags: [{tag}]}}]}}]}}]"), true),
        (format!("plugins: [{{config: {{tags: [{tag}]}}}}]"), false),
        (format!("services: [{{name: {tag}, tags: [x-{tag}]}}]"), false),
        (String::new(), false),
    ] {
        let found = of(&fields).other_controller();
        assert_eq!(found.as_ref().map(Quoted::as_str), expected.then_some(tag), "{fields}");
    }
}
