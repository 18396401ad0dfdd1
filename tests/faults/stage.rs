//! What every case begins with: a Kong with objects of others, of every kind; and the one assertion
//! that every case ends with, when the fault is over.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};
use testkit::kong_model::{Effect, Offers, read_yaml};
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
const OFFERED: &str = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa";
const OFFERED_NAME: &str = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb";
const ADDED_NAME: &str = "cccccccc-cccc-4ccc-8ccc-cccccccccccc";
const NAMES: [(&str, &str); 2] = [
    ("88888888-8888-4888-8888-888888888888", "other.test"),
    ("99999999-9999-4999-8999-999999999999", "*.other.test"),
];
/// What a push of ours changes in an object that others have a hand in.
const PUSHED: [&str; 5] = ["cert", "key", "cert_alt", "key_alt", "updated_at"];

/// A Kong that others use, and what is theirs in it. A clone goes on for itself; there are no new
/// bundles from then on.
#[derive(Clone)]
pub(crate) struct Stage {
    pki: Pki,
    now: i64,
    theirs: Theirs,
    /// Rows by kind and id.
    others: BTreeMap<String, Value>,
    /// Rows that are fed by us, without what we push.
    shared: BTreeMap<String, Value>,
    secrets: Rc<Searcher>,
}

/// What others put into a Kong, each time the same.
#[derive(Clone)]
pub(crate) struct Theirs {
    now: i64,
    pair: CertifiedPair,
    authority: String,
    /// A name with its bundle, in an object of its own: it can be adopted.
    offered: Option<(String, CertifiedPair)>,
}

impl Stage {
    /// At this time, before anyone is there.
    pub(crate) fn at(now: i64) -> Self {
        let pki = Pki::at(now);
        let pair = pki.pair(&["other.test", "*.other.test"]);
        let theirs = Theirs { now, pair: pair.clone(), authority: pki.root().pem(), offered: None };
        let (others, shared) = (BTreeMap::new(), BTreeMap::new());
        let mut stage = Self { pki, now, theirs, others, shared, secrets: Rc::default() };
        stage.keep_secret(&pair);
        stage
    }

    /// The next bundle for these names, begun `hours` ago. Its key must never be shown.
    pub(crate) fn bundle(&mut self, names: &[&str], hours: i64) -> CertifiedPair {
        let pair = self.pki.leaf(names).not_before(self.now - hours * 3600).issue();
        self.keep_secret(&pair);
        pair
    }

    /// What the certificate of others serves that has names.
    pub(crate) fn pair_of_others(&self) -> &CertifiedPair {
        &self.theirs.pair
    }

    fn keep_secret(&mut self, pair: &CertifiedPair) {
        let secrets = Rc::get_mut(&mut self.secrets).unwrap();
        for pem in pair.key().pem_encodings() {
            secrets.add_pem("a private key", &pem);
        }
    }

    /// A text that must never be shown.
    pub(crate) fn keep_text_secret(&mut self, name: &str, text: &str) {
        Rc::get_mut(&mut self.secrets).unwrap().add_text(name, text);
    }

    /// The others will have an object for `name` that can be adopted.
    pub(crate) fn offer(&mut self, name: &str, pair: &CertifiedPair) {
        self.theirs.offered = Some((name.to_owned(), pair.clone()));
    }

    /// Others put their objects into `kong`.
    pub(crate) fn furnish(&mut self, kong: &mut KongModel) {
        kong.elsewhere(|kong| self.theirs.furnish(kong));
        self.others = kong.everything();
        let offered = self.offered_rows();
        self.others.retain(|key, _| !offered.contains(key));
        self.keep_offered(kong);
    }

    /// What others put into a Kong.
    pub(crate) fn theirs(&self) -> Theirs {
        self.theirs.clone()
    }

    fn offered_rows(&self) -> [String; 2] {
        [format!("certificates/{OFFERED}"), format!("snis/{OFFERED_NAME}")]
    }

    /// Of our object nothing is there any more that must be kept, but for what others put there.
    pub(crate) fn keep_offered(&mut self, kong: &KongModel) {
        let rows = kong.everything();
        let row = |key: String| rows.get(&key).map(|row| (key, kept(row)));
        self.shared = self.offered_rows().into_iter().filter_map(row).collect();
    }

    /// Someone else tags the object that has `name`, and the name: from now on these, ids and the
    /// times of creation must stay.
    pub(crate) fn share(&mut self, kong: &mut KongModel, name: &str, tag: &str) {
        kong.elsewhere(|kong| add_tag(kong, name, tag));
        let rows = kong.everything();
        let keys = rows_of(&rows, name).unwrap();
        self.shared = keys.map(|key| (key.clone(), kept(&rows[&key]))).into();
    }

    /// Someone else will have added this tag there meanwhile.
    pub(crate) fn expect_tag(&mut self, tag: &str) {
        for row in self.shared.values_mut() {
            let tags = row["tags"].as_array().into_iter().flatten().cloned();
            row["tags"] = tags.chain([json!(tag)]).collect();
        }
    }

    /// Someone else will have added this name there meanwhile.
    pub(crate) fn expect_name(&mut self, name: &str) {
        let row = json!({ "id": ADDED_NAME, "name": name });
        self.shared.insert(format!("snis/{ADDED_NAME}"), row);
    }

    /// Kong lost what we had put into it: there is nothing to be kept.
    pub(crate) fn forget_shared(&mut self) {
        self.shared.clear();
    }

    /// What does not hold although the fault is over: each name is served with its bundle, nothing
    /// of others is gone or another, Kong was sent what it held no more than `redundant` times, and
    /// nothing that was `said` has a key in it.
    pub(crate) fn flaws(
        &self,
        kong: &mut KongModel,
        newest: &[(&str, &CertifiedPair)],
        redundant: usize,
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
        let is_dbless = is_dbless(kong);
        for (key, before) in &self.others {
            // All of a configuration is loaded at once, and so these times are those of the load.
            let row =
                |row: &Value| if is_dbless { without(row, &["updated_at"]) } else { row.clone() };
            flaws.extend(flaw(key, &row(before), rows.get(key).map(row)));
        }
        for (key, before) in &self.shared {
            flaws.extend(flaw(key, before, rows.get(key).map(kept)));
        }
        let writes = redundant_writes(kong);
        if writes > redundant {
            flaws.push(format!("{writes} writes of what Kong held already"));
        }
        flaws.extend(self.secrets.finds(said).map(|name| format!("{name} was shown")));
        flaws
    }
}

impl Theirs {
    /// By Kong's clock an hour ago.
    pub(crate) fn furnish(&self, kong: &mut KongModel) {
        kong.set_now(self.now - 3600);
        if is_dbless(kong) {
            self.load(kong);
        } else {
            self.create(kong);
        }
        kong.set_now(self.now);
    }

    fn create(&self, kong: &mut KongModel) {
        for (id, certificate) in self.certificates() {
            send(kong, "PUT", &format!("/certificates/{id}"), &certificate);
        }
        for sni in self.snis() {
            send(kong, "PUT", &format!("/snis/{}", sni["id"].as_str().unwrap()), &sni);
        }
        let authority = self.authority();
        send(kong, "PUT", &format!("/ca_certificates/{AUTHORITY}"), &authority);
        for (entity, object) in elsewhere() {
            kong.insert_raw(entity, object);
        }
    }

    fn load(&self, kong: &mut KongModel) {
        let certificates = self.certificates().into_iter();
        let certificates: Vec<Value> = certificates.map(|(_, certificate)| certificate).collect();
        let mut config = json!({
            "_format_version": "3.0",
            "certificates": certificates,
            "snis": self.snis(),
            "ca_certificates": [self.authority()],
        });
        for (entity, object) in elsewhere() {
            config[entity] = json!([object]);
        }
        post(kong, &config);
    }

    fn certificates(&self) -> Vec<(&'static str, Value)> {
        let offered = self.offered.iter().map(|(_, pair)| (OFFERED, pair));
        let own = [CERTIFICATE, CERTIFICATE_WITHOUT_NAMES].map(|id| (id, &self.pair));
        let object = |(id, pair): (_, &CertifiedPair)| {
            let (cert, key) = (pair.chain_pem(), pair.key_pem());
            (id, json!({ "id": id, "cert": cert, "key": key, "tags": ["theirs", "team:edge"] }))
        };
        own.into_iter().chain(offered).map(object).collect()
    }

    fn snis(&self) -> Vec<Value> {
        let offered = self.offered.iter().map(|(name, _)| (OFFERED_NAME, name.as_str(), OFFERED));
        let own = NAMES.map(|(id, name)| (id, name, CERTIFICATE));
        let object = |(id, name, certificate): (&str, &str, &str)| {
            let certificate = json!({ "id": certificate });
            json!({ "id": id, "name": name, "certificate": certificate, "tags": ["theirs"] })
        };
        own.into_iter().chain(offered).map(object).collect()
    }

    fn authority(&self) -> Value {
        json!({ "id": AUTHORITY, "cert": self.authority, "tags": ["theirs"] })
    }
}

/// Adds a tag to the object that has `name`, and to the name.
pub(crate) fn add_tag(kong: &mut KongModel, name: &str, tag: &str) {
    let tagged = |row: &Value| {
        let tags = row["tags"].as_array().into_iter().flatten().cloned();
        tags.chain([json!(tag)]).collect::<Value>()
    };
    let rows = kong.everything();
    for key in rows_of(&rows, name).unwrap() {
        change(kong, &key, &json!({ "tags": tagged(&rows[&key]) }));
    }
}

/// Puts `pair` into the object that has `name`.
pub(crate) fn replace_pair(kong: &mut KongModel, name: &str, pair: &CertifiedPair) {
    let [_, certificate] = rows_of(&kong.everything(), name).unwrap();
    change(kong, &certificate, &json!({ "cert": pair.chain_pem(), "key": pair.key_pem() }));
}

/// Gives `name` to a certificate of others that does not cover it.
pub(crate) fn take_name(kong: &mut KongModel, name: &str) {
    let owner = json!({ "id": CERTIFICATE });
    match rows_of(&kong.everything(), name) {
        Some([sni, _]) => change(kong, &sni, &json!({ "certificate": owner })),
        None => create_name(kong, &json!({ "name": name, "certificate": owner })),
    }
}

/// Gives the object that has `name` one more.
pub(crate) fn add_name(kong: &mut KongModel, name: &str, more: &str) {
    let [_, certificate] = rows_of(&kong.everything(), name).unwrap();
    let owner = certificate.strip_prefix("certificates/");
    create_name(kong, &json!({ "id": ADDED_NAME, "name": more, "certificate": { "id": owner } }));
}

fn create_name(kong: &mut KongModel, sni: &Value) {
    if is_dbless(kong) {
        reconfigure(kong, |config| config["snis"].as_array_mut().unwrap().push(sni.clone()));
    } else {
        assert_eq!(kong.answer(&Request::json("POST", "/snis", sni)).status, 201);
    }
}

/// Deletes the object that has `name`.
pub(crate) fn delete(kong: &mut KongModel, name: &str) {
    let rows = rows_of(&kong.everything(), name).unwrap();
    if is_dbless(kong) {
        return reconfigure(kong, |config| {
            for key in rows {
                let (kind, id) = key.split_once('/').unwrap();
                config[kind].as_array_mut().unwrap().retain(|object| object["id"] != id);
            }
        });
    }
    let answer = kong.answer(&Request::new("DELETE", &format!("/certificates/{name}")));
    assert_eq!(answer.status, 204);
}

/// The name's row, and that of the object that has it.
fn rows_of(rows: &BTreeMap<String, Value>, name: &str) -> Option<[String; 2]> {
    let is_it = |(key, row): &(&String, &Value)| key.starts_with("snis/") && row["name"] == name;
    let (key, row) = rows.iter().find(is_it)?;
    Some([key.clone(), format!("certificates/{}", row["certificate"]["id"].as_str().unwrap())])
}

/// Someone else writes these fields of a row.
fn change(kong: &mut KongModel, key: &str, fields: &Value) {
    if !is_dbless(kong) {
        return send(kong, "PATCH", &format!("/{key}"), fields);
    }
    let (kind, id) = key.split_once('/').unwrap();
    reconfigure(kong, |config| {
        let mut objects = config[kind].as_array_mut().unwrap().iter_mut();
        let object = objects.find(|object| object["id"] == id).unwrap().as_object_mut().unwrap();
        object.extend(fields.as_object().unwrap().clone());
    });
}

/// Someone else edits what a Kong without a database runs.
fn reconfigure(kong: &mut KongModel, edit: impl FnOnce(&mut Value)) {
    let export = kong.answer(&Request::new("GET", "/config")).value();
    let mut config = read_yaml(export["config"].as_str().unwrap()).unwrap();
    // An export has them within the objects, too, and is not taken so.
    for object in config["certificates"].as_array_mut().unwrap() {
        object.as_object_mut().unwrap().remove("snis");
    }
    edit(&mut config);
    post(kong, &config);
}

fn is_dbless(kong: &mut KongModel) -> bool {
    kong.root_mut()["configuration"]["database"] == "off"
}

/// What was changed of a row, by field.
fn flaw(key: &str, before: &Value, after: Option<Value>) -> Option<String> {
    let Some(after) = after else { return Some(format!("{key} is gone")) };
    let fields = before.as_object().into_iter().flatten();
    let differs = |field: &str, value: &Value| match field {
        // Kong has them in an order of its own.
        "tags" => sorted(&after[field]) != sorted(value),
        _ => after[field] != *value,
    };
    let changed: Vec<&String> =
        fields.filter(|(field, value)| differs(field, value)).map(|(field, _)| field).collect();
    (!changed.is_empty()).then(|| format!("{key} has other fields than before: {changed:?}"))
}

/// How many writes put what Kong held already: after them no field of any row was another, but for
/// `updated_at`. One that announces an object to the nodes announces its names, too, each once: that
/// is one.
fn redundant_writes(kong: &KongModel) -> usize {
    let (mut objects, mut names) = (0, BTreeMap::<&str, usize>::new());
    for seen in kong.requests().iter().filter(|seen| seen.effect == Effect::Same) {
        match seen.path.strip_prefix("/snis/") {
            Some(name) => *names.entry(name).or_default() += 1,
            None => objects += 1,
        }
    }
    names.into_values().fold(objects, usize::max)
}

fn sorted(tags: &Value) -> Vec<String> {
    let mut tags: Vec<String> =
        tags.as_array().into_iter().flatten().map(Value::to_string).collect();
    tags.sort();
    tags
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

fn post(kong: &mut KongModel, config: &Value) {
    let body = json!({ "config": config.to_string() });
    let answer = kong.answer(&Request::json("POST", "/config", &body));
    assert_eq!(answer.status, 201, "{}", answer.value());
}

fn send(kong: &mut KongModel, method: &str, path: &str, object: &Value) {
    let answer = kong.answer(&Request::json(method, path, object));
    assert_eq!(answer.status, 200, "{}", answer.value());
}
