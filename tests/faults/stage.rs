//! What every case begins with: a Kong with objects of others, of every kind; and the one assertion
//! that every case ends with, when the fault is over.

#![allow(dead_code, reason = "each family takes what it needs")]

use std::collections::BTreeMap;
use std::fmt::Display;

use serde_json::{Value, json};
use testkit::kong_model::{Effect, Offers};
use testkit::{CertifiedPair, KongModel, Pki, Request};

use super::searcher::Searcher;

/// The objects of others.
const CERTIFICATE: &str = "11111111-1111-4111-8111-111111111111";
const CERTIFICATE_WITHOUT_NAMES: &str = "22222222-2222-4222-8222-222222222222";
const AUTHORITY: &str = "33333333-3333-4333-8333-333333333333";
const SERVICE: &str = "44444444-4444-4444-8444-444444444444";
const ROUTE: &str = "55555555-5555-4555-8555-555555555555";
const PLUGIN: &str = "66666666-6666-4666-8666-666666666666";
const CONSUMER: &str = "77777777-7777-4777-8777-777777777777";
const NAMES: [(&str, &str); 2] = [
    ("88888888-8888-4888-8888-888888888888", "other.test"),
    ("99999999-9999-4999-8999-999999999999", "*.other.test"),
];
/// What a push of ours changes in an object that others have a hand in.
const PUSHED: [&str; 5] = ["cert", "key", "cert_alt", "key_alt", "updated_at"];

/// A Kong that others use, and what is theirs in it.
pub(crate) struct Stage {
    pki: Pki,
    now: i64,
    pair: CertifiedPair,
    /// Rows by kind and id.
    others: BTreeMap<String, Value>,
    /// Rows that are fed by us, without what we push.
    shared: BTreeMap<String, Value>,
    secrets: Searcher,
}

impl Stage {
    /// At this time, before anyone is there.
    pub(crate) fn at(now: i64) -> Self {
        let pki = Pki::at(now);
        let pair = pki.pair(&["other.test", "*.other.test"]);
        let (others, shared, secrets) = (BTreeMap::new(), BTreeMap::new(), Searcher::default());
        let mut stage = Self { pki, now, pair: pair.clone(), others, shared, secrets };
        stage.keep_secret(&pair);
        stage
    }

    /// The next bundle for these names, begun `hours` ago. Its key must never be shown.
    pub(crate) fn bundle(&mut self, names: &[&str], hours: i64) -> CertifiedPair {
        let pair = self.pki.leaf(names).not_before(self.now - hours * 3600).issue();
        self.keep_secret(&pair);
        pair
    }

    fn keep_secret(&mut self, pair: &CertifiedPair) {
        for pem in pair.key().pem_encodings() {
            self.secrets.add_pem("a private key", &pem);
        }
    }

    /// Others put their objects into `kong`, each time the same ones.
    pub(crate) fn furnish(&mut self, kong: &mut KongModel) {
        let is_dbless = kong.root_mut()["configuration"]["database"] == "off";
        kong.elsewhere(|kong| if is_dbless { self.load(kong) } else { self.create(kong) });
        self.others = kong.everything();
    }

    fn create(&self, kong: &mut KongModel) {
        for id in [CERTIFICATE, CERTIFICATE_WITHOUT_NAMES] {
            put(kong, &format!("/certificates/{id}"), &self.certificate());
        }
        for (id, name) in NAMES {
            let certificate = json!({ "id": CERTIFICATE });
            let sni = json!({ "name": name, "certificate": certificate, "tags": ["theirs"] });
            put(kong, &format!("/snis/{id}"), &sni);
        }
        put(kong, &format!("/ca_certificates/{AUTHORITY}"), &self.authority());
        for (entity, object) in elsewhere() {
            kong.insert_raw(entity, object);
        }
    }

    fn load(&self, kong: &mut KongModel) {
        let with_id = |id: &str, mut object: Value| {
            object["id"] = json!(id);
            object
        };
        let certificate = |id: &str| with_id(id, self.certificate());
        let snis = NAMES.map(|(id, name)| {
            json!({ "id": id, "name": name, "certificate": CERTIFICATE, "tags": ["theirs"] })
        });
        let mut config = json!({
            "_format_version": "3.0",
            "certificates": [certificate(CERTIFICATE), certificate(CERTIFICATE_WITHOUT_NAMES)],
            "snis": snis,
            "ca_certificates": [with_id(AUTHORITY, self.authority())],
        });
        for (entity, object) in elsewhere() {
            config[entity] = json!([object]);
        }
        let body = json!({ "config": config.to_string() });
        let answer = kong.answer(&Request::json("POST", "/config", &body));
        assert_eq!(answer.status, 201, "{answer:?}");
    }

    fn certificate(&self) -> Value {
        let (cert, key) = (self.pair.chain_pem(), self.pair.key_pem());
        json!({ "cert": cert, "key": key, "tags": ["theirs", "team:edge"] })
    }

    fn authority(&self) -> Value {
        json!({ "cert": self.pki.root().pem(), "tags": ["theirs"] })
    }

    /// Someone else makes the object that has `name`, with tags of their own: it can be adopted.
    pub(crate) fn offer(&mut self, kong: &mut KongModel, name: &str, pair: &CertifiedPair) {
        let (cert, key) = (pair.chain_pem(), pair.key_pem());
        let object = json!({ "cert": cert, "key": key, "snis": [name], "tags": ["theirs"] });
        kong.elsewhere(|kong| put(kong, &format!("/certificates/{name}"), &object));
        self.share(kong, name);
    }

    /// Someone else adds a tag to the object that has `name`, and to the name: from now on these,
    /// ids and the times of creation must stay.
    pub(crate) fn share(&mut self, kong: &mut KongModel, name: &str) {
        kong.elsewhere(|kong| {
            for path in [format!("/certificates/{name}"), format!("/snis/{name}")] {
                let mut row = kong.answer(&Request::new("GET", &path)).value();
                let tags = row["tags"].as_array_mut();
                let tags = tags.into_iter().flatten().map(Value::take);
                let tags: Vec<Value> = tags.chain([json!("by-hand")]).collect();
                send(kong, "PATCH", &path, &json!({ "tags": tags }));
            }
        });
        self.watch(kong, name);
    }

    /// As the object that has `name` stands now, its fields must stay, but for those that are pushed.
    pub(crate) fn watch(&mut self, kong: &KongModel, name: &str) {
        let rows = kong.everything();
        let sni = rows.iter().find(|(key, row)| key.starts_with("snis/") && row["name"] == name);
        let (sni, row) = sni.unwrap();
        let owner = format!("certificates/{}", row["certificate"]["id"].as_str().unwrap());
        self.shared = [sni, &owner].map(|key| (key.clone(), kept(&rows[key]))).into();
    }

    /// Kong lost what we had put into it: there is nothing to be kept.
    pub(crate) fn forget_shared(&mut self) {
        self.shared.clear();
    }

    /// What does not hold although the fault is over: each name is served with its bundle, nothing
    /// of others is gone or another, and nothing that was `said` has a key in it.
    pub(crate) fn flaws(
        &self,
        kong: &mut KongModel,
        newest: &[(&str, &CertifiedPair)],
        said: &str,
    ) -> Vec<String> {
        let mut flaws = Vec::new();
        for (name, pair) in newest {
            let served = kong.chain_for(Some(name), Offers::ALL).chain();
            if served.as_deref() != Some(pair.chain_ders()) {
                flaws.push(format!("{name} is not served with the newest servable bundle"));
            }
        }
        let rows = kong.everything();
        let is_dbless = kong.root_mut()["configuration"]["database"] == "off";
        for (key, before) in &self.others {
            // All of a configuration is loaded at once, and so these times are those of the load.
            let row =
                |row: &Value| if is_dbless { without(row, &["updated_at"]) } else { row.clone() };
            flaws.extend(flaw(key, &row(before), rows.get(key).map(row)));
        }
        for (key, before) in &self.shared {
            flaws.extend(flaw(key, before, rows.get(key).map(kept)));
        }
        let redundant = redundant(kong);
        if redundant > 1 {
            flaws.push(format!("{redundant} writes of what Kong held already"));
        }
        flaws.extend(self.secrets.finds(said).map(|name| format!("{name} was shown")));
        flaws
    }
}

/// What was changed of a row, by field.
fn flaw(key: &str, before: &Value, after: Option<Value>) -> Option<String> {
    let Some(after) = after else { return Some(format!("{key} is gone")) };
    let fields = before.as_object().into_iter().flatten();
    let changed: Vec<&String> =
        fields.filter(|(field, value)| after[*field] != **value).map(|(field, _)| field).collect();
    (!changed.is_empty()).then(|| format!("{key} has other fields than before: {changed:?}"))
}

/// How many writes put what Kong held already: after them no field of any row was another, but for
/// `updated_at`. One that announces an object to the nodes announces its names, too, each once: that
/// is one.
fn redundant(kong: &KongModel) -> usize {
    let (mut objects, mut names) = (0, BTreeMap::<&str, usize>::new());
    for seen in kong.requests().iter().filter(|seen| seen.effect == Effect::Same) {
        match seen.path.strip_prefix("/snis/") {
            Some(name) => *names.entry(name).or_default() += 1,
            None => objects += 1,
        }
    }
    names.into_values().fold(objects, usize::max)
}

fn kept(row: &Value) -> Value {
    without(row, &PUSHED)
}

fn without(row: &Value, fields: &[&str]) -> Value {
    let mut row = row.clone();
    row.as_object_mut().unwrap().retain(|field, _| !fields.contains(&field.as_str()));
    row
}

/// What others have in Kong besides certificates.
fn elsewhere() -> [(&'static str, Value); 4] {
    let tags = json!(["theirs"]);
    let service = json!({ "id": SERVICE, "name": "echo", "host": "10.0.0.1", "tags": tags });
    let route = json!({
        "id": ROUTE, "name": "echo", "paths": ["/echo"], "service": { "id": SERVICE }, "tags": tags,
    });
    let plugin = json!({
        "id": PLUGIN, "name": "mtls-auth", "config": { "ca_certificates": [AUTHORITY] },
        "service": { "id": SERVICE }, "tags": tags,
    });
    let consumer = json!({ "id": CONSUMER, "username": "ann", "custom_id": "010", "tags": tags });
    [("services", service), ("routes", route), ("plugins", plugin), ("consumers", consumer)]
}

fn put(kong: &mut KongModel, path: &str, object: &Value) {
    send(kong, "PUT", path, object);
}

fn send(kong: &mut KongModel, method: &str, path: &str, object: &Value) {
    let answer = kong.answer(&Request::json(method, path, object));
    assert_eq!(answer.status, 200, "{}", answer.value());
}

/// Keeps what did not hold in any case, and tells all of it at once.
#[derive(Default)]
pub(crate) struct Table {
    cases: usize,
    flaws: Vec<String>,
}

impl Table {
    /// A case was played.
    pub(crate) fn note(&mut self, case: impl Display, flaws: Vec<String>) {
        self.cases += 1;
        self.flaws.extend(flaws.into_iter().map(|flaw| format!("{case}: {flaw}")));
    }

    /// Fails if something did not hold, or if fewer cases were played than there are.
    pub(crate) fn assert_holds(self, cases: usize) {
        let Self { flaws, .. } = &self;
        assert!(flaws.is_empty(), "of {} cases:\n{}", self.cases, flaws.join("\n"));
        assert_eq!(self.cases, cases, "cases that were played");
    }
}
