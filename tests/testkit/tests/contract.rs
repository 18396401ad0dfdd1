//! The stand-in against the recordings of a real Kong, over sockets.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a recording that cannot be read fails its test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use rustls::{AlertDescription, CipherSuite, SignatureScheme};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use testkit::http_client::exchange;
use testkit::kong_model::{Answer, KongModel, Offers, Request};
use testkit::stand_in::KongStandIn;
use testkit::tls_client::{HandshakeError, TlsClient};
use uuid::{Uuid, uuid};

const ID: &str = "11111111-1111-4111-8111-111111111111";

#[tokio::test]
async fn every_recorded_request_is_answered_as_kong_answered_it() {
    let kong = KongStandIn::start().await;
    kong.model().set_ids(after_ours);
    assert_answers_as_recorded(&kong, "db").await;
}

#[tokio::test]
async fn every_recorded_request_without_a_database_is_answered_as_kong_answered_it() {
    let mut model = KongModel::without_database();
    // Of all the ids in these recordings Kong made one at random.
    model.set_ids(|| uuid!("01ab46dc-2c1f-4346-9a6e-831ca966d7cc"));
    model.set_now(1_795_324_282);
    let kong = KongStandIn::start_with(model).await;
    assert_answers_as_recorded(&kong, "dbless").await;
}

async fn assert_answers_as_recorded(kong: &KongStandIn, directory: &str) {
    let (mut ids, mut hashes) = (Ids::default(), Hashes::default());
    let mut differences = Vec::new();
    for (file, recording) in recordings(directory) {
        let request = recorded_request(&recording["request"]);
        ids.sent(&request);
        let mut recorded = expanded(&recording["response"]);
        if let Some(now) = recorded["body"]["updated_at"].as_i64() {
            kong.model().set_now(now);
        }
        let mut answered = as_recorded(&exchange(kong.admin_addr(), &request).await.unwrap());
        set_figures_aside(&request.path, &mut recorded, &mut answered);
        hashes.put_in(&mut recorded, &answered);
        ids.learn(&recorded, &answered);
        compare(&file, &ids.put_in(&recorded), &answered, &mut differences);
    }
    assert!(differences.is_empty(), "\n{}\n", differences.join("\n"));
}

/// In a list the ids that Kong made came after those that it was sent.
fn after_ours() -> Uuid {
    Uuid::from_u128(Uuid::new_v4().as_u128() | 1 << 127)
}

#[tokio::test]
async fn handshakes_succeed_and_fail_as_they_do_with_kong() {
    let kong = KongStandIn::start().await;
    let client = TlsClient::new().sni("serve.example.com");
    for row in rows("handshakes.json") {
        put(&kong, ID, "b.crt", "b.key", json!(["serve.example.com"])).await;
        let (cert, key) = (text(&row, "cert"), text(&row, "key"));
        let status = put(&kong, ID, &cert, &key, json!(["serve.example.com"])).await;
        assert_eq!(status, row["put_status"], "{row}");
        match client.chain(kong.proxy_addr()).await {
            Ok(chain) => {
                assert_eq!(sha256(&chain[0]), text(&row, "served_sha256"), "{row}");
                assert_eq!(chain[0] != der("b.crt"), row["served_changed"], "{row}");
            }
            Err(HandshakeError::Alert(AlertDescription::InternalError)) => {
                assert_eq!(row["handshake_error"], "TLSV1_ALERT_INTERNAL_ERROR", "{row}");
            }
            Err(error) => panic!("{error}: {row}"),
        }
    }
}

#[tokio::test]
async fn names_are_looked_up_in_kongs_order() {
    for row in rows("lookups.json").into_iter().filter(|row| row.get("snis").is_some()) {
        let kong = KongStandIn::start().await;
        for (name, cert) in row["snis"].as_object().unwrap() {
            let cert = cert.as_str().unwrap();
            let id = Uuid::new_v4().to_string();
            put(&kong, &id, cert, &cert.replace("crt", "key"), json!([name])).await;
        }
        let sni = row["client_sni"].as_str();
        let modelled = kong.model().chain_for(sni, Offers::ALL).chain().unwrap();
        assert_eq!(modelled[0], recorded_leaf(&kong, &row), "{row}");
        // rustls lower-cases what a client sends, on either side: capitals are for the model.
        if sni.is_none_or(|sni| sni == sni.to_lowercase()) {
            let client = sni.map_or_else(TlsClient::new, |sni| TlsClient::new().sni(sni));
            let served = client.chain(kong.proxy_addr()).await.unwrap();
            assert_eq!(served, modelled, "{row}");
        }
    }
}

#[tokio::test]
async fn of_two_pairs_each_client_gets_the_one_it_takes() {
    let kong = KongStandIn::start().await;
    let mut body = pair("a.crt", "a.key", &json!(["dual.l.test"]));
    body["cert_alt"] = json!(pem("ec.crt"));
    body["key_alt"] = json!(pem("ec.key"));
    let path = format!("/certificates/{ID}");
    let answer = exchange(kong.admin_addr(), &Request::json("PUT", &path, &body)).await.unwrap();
    assert_eq!(answer.status, 200);
    let rows: Vec<Value> = rows("lookups.json");
    let rows: Vec<&Value> = rows.iter().filter(|row| row.get("dual").is_some()).collect();
    assert_eq!(rows.len(), 6);
    for row in rows {
        let client = openssl_client(&text(row, "client")).sni("dual.l.test");
        let served = client.chain(kong.proxy_addr()).await.unwrap();
        assert_eq!(served, [recorded_leaf(&kong, row)], "{row}");
    }
}

/// The client that `openssl s_client` is with these options.
fn openssl_client(options: &str) -> TlsClient {
    let mut client = TlsClient::new();
    let mut words = options.split(' ');
    while let Some(word) = words.next() {
        client = match word {
            "-tls1_2" => client.tls12(),
            "-tls1_3" => client.tls13(),
            "-sigalgs" => client.schemes(&[match words.next().unwrap() {
                "rsa_pss_rsae_sha256" => SignatureScheme::RSA_PSS_SHA256,
                "ecdsa_secp256r1_sha256" => SignatureScheme::ECDSA_NISTP256_SHA256,
                other => panic!("{other}"),
            }]),
            "-cipher" => client.cipher_suites(&[match words.next().unwrap() {
                "ECDHE-RSA-AES128-GCM-SHA256" => CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                "ECDHE-ECDSA-AES128-GCM-SHA256" => {
                    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                }
                other => panic!("{other}"),
            }]),
            other => panic!("{other}"),
        };
    }
    client
}

fn recorded_leaf(kong: &KongStandIn, row: &Value) -> Vec<u8> {
    match text(row, "served").as_str() {
        "the default certificate of kong.conf" => kong.model().default_chain().remove(0),
        file => der(file),
    }
}

/// Recordings by file name, in order.
fn recordings(directory: &str) -> BTreeMap<String, Value> {
    let files = fs::read_dir(data().join(directory)).unwrap();
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
    };
    files.map(|file| read(file.unwrap().path())).collect()
}

fn rows(file: &str) -> Vec<Value> {
    let table: Value = serde_json::from_slice(&fs::read(data().join(file)).unwrap()).unwrap();
    table["rows"].as_array().unwrap().clone()
}

fn recorded_request(recorded: &Value) -> Request {
    let mut request = Request::new(&text(recorded, "method"), &text(recorded, "path"));
    request.body = match &recorded["body"] {
        Value::Null => return request,
        Value::String(body) => recorded_text(body),
        body => expanded(body).to_string().into_bytes(),
    };
    request.headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    for (name, value) in recorded["headers"].as_object().unwrap() {
        request.headers = vec![(name.clone(), value.as_str().unwrap().to_owned())];
    }
    request
}

/// `<N bytes>` stands for that many.
fn recorded_text(body: &str) -> Vec<u8> {
    match body.strip_prefix('<').and_then(|rest| rest.strip_suffix(" bytes>")) {
        Some(length) => vec![b'x'; length.parse().unwrap()],
        None => body.into(),
    }
}

/// With the files that are named in it.
fn expanded(recorded: &Value) -> Value {
    match recorded {
        Value::String(text) => match text.strip_prefix("@pem/") {
            Some(file) => json!(pem(file)),
            None => recorded.clone(),
        },
        Value::Array(list) => list.iter().map(expanded).collect(),
        Value::Object(object) => {
            let entry = |(key, value): (&String, &Value)| (key.clone(), expanded(value));
            Value::Object(object.iter().map(entry).collect())
        }
        _ => recorded.clone(),
    }
}

/// An answer in the form of the recordings.
fn as_recorded(answer: &Answer) -> Value {
    let body = String::from_utf8(answer.body.clone()).unwrap();
    let body = match serde_json::from_str(&body) {
        Ok(json) => json,
        Err(_) if body.is_empty() => Value::Null,
        Err(_) => json!(body),
    };
    let headers = answer.headers.iter().map(|(name, value)| (name.clone(), json!(value)));
    json!({ "status": answer.status, "headers": headers.collect::<Map<_, _>>(), "body": body })
}

/// What no two Kongs have in common: memory, counters, and all that is left out of the recording
/// of `GET /`.
fn set_figures_aside(path: &str, recorded: &mut Value, answered: &mut Value) {
    if recorded["status"] == 304 {
        // Kong sends a length of zero, the server beneath the stand-in none.
        recorded["headers"].as_object_mut().unwrap().remove("content-length");
    }
    match path {
        "/" => {
            cut_to(&recorded["body"], &mut answered["body"]);
            for answer in [recorded, answered] {
                without_figures(&mut answer["body"]["pids"]);
            }
        }
        "/status" => {
            for answer in [recorded, answered] {
                answer["headers"].as_object_mut().unwrap().remove("content-length");
                without_figures(&mut answer["body"]["memory"]);
                without_figures(&mut answer["body"]["server"]);
            }
        }
        _ => {}
    }
}

/// Keeps what `shape` has, at every depth.
fn cut_to(shape: &Value, value: &mut Value) {
    if let (Value::Object(shape), Value::Object(value)) = (shape, value) {
        value.retain(|key, _| shape.contains_key(key));
        value.iter_mut().for_each(|(key, value)| cut_to(&shape[key], value));
    }
}

fn without_figures(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(without_figures),
        Value::Object(object) => object.values_mut().for_each(without_figures),
        figure => *figure = Value::Null,
    }
}

/// Ids that Kong made then, and the stand-in now.
#[derive(Default)]
struct Ids {
    made: BTreeMap<String, String>,
    sent: BTreeSet<String>,
}

impl Ids {
    /// Ids in a request are no one's invention.
    fn sent(&mut self, request: &Request) {
        let text = request.path.clone() + &String::from_utf8_lossy(&request.body);
        let words = text.split(|c: char| !c.is_ascii_hexdigit() && c != '-');
        let ids = words.filter(|word| word.len() == 36).map(str::to_owned);
        self.sent.extend(ids);
    }

    fn learn(&mut self, recorded: &Value, answered: &Value) {
        match (recorded, answered) {
            (Value::Object(recorded), Value::Object(answered)) => {
                for (key, recorded) in recorded {
                    match (key.as_str(), recorded, answered.get(key)) {
                        ("id" | "node_id", Value::String(then), Some(Value::String(now))) => {
                            self.pair(then, now);
                        }
                        (_, recorded, Some(answered)) => self.learn(recorded, answered),
                        _ => {}
                    }
                }
            }
            (Value::Array(recorded), Value::Array(answered)) => {
                recorded.iter().zip(answered).for_each(|(then, now)| self.learn(then, now));
            }
            _ => {}
        }
    }

    fn pair(&mut self, then: &str, now: &str) {
        if !self.sent.contains(then) && Uuid::try_parse(now).is_ok() {
            self.made.entry(then.to_owned()).or_insert_with(|| now.to_owned());
        }
    }

    fn put_in(&self, recorded: &Value) -> Value {
        let text = self
            .made
            .iter()
            .fold(recorded.to_string(), |text, (then, now)| text.replace(then, now));
        serde_json::from_str(&text).unwrap()
    }
}

/// Hashes of the configuration then and now: not the same, and alike where they were.
#[derive(Default)]
struct Hashes(BTreeMap<String, Value>);

impl Hashes {
    fn put_in(&mut self, recorded: &mut Value, answered: &Value) {
        let Some(then) = recorded["body"]["configuration_hash"].as_str() else {
            return;
        };
        let now = &answered["body"]["configuration_hash"];
        let is_known = self.0.values().any(|known| known == now);
        let zeros = "0".repeat(32);
        if then != zeros && *now != zeros && !is_known {
            self.0.insert(then.to_owned(), now.clone());
        }
        if let Some(now) = self.0.get(then).cloned() {
            recorded["body"]["configuration_hash"] = now;
        }
    }
}

/// Status, recorded headers, and body.
fn compare(file: &str, recorded: &Value, answered: &Value, differences: &mut Vec<String>) {
    let mut differ = |at: &str, recorded: &Value, answered: &Value| {
        if recorded != answered {
            differences.push(format!("{file} {at}: recorded {recorded}, answered {answered}"));
        }
    };
    differ("status", &recorded["status"], &answered["status"]);
    for (name, value) in recorded["headers"].as_object().unwrap() {
        differ(name, value, &answered["headers"][name]);
    }
    for (at, then, now) in unlike("body", &recorded["body"], &answered["body"]) {
        differ(&at, &then, &now);
    }
}

/// Where two values differ, as deep as both are objects.
fn unlike(at: &str, recorded: &Value, answered: &Value) -> Vec<(String, Value, Value)> {
    match (recorded, answered) {
        (Value::Object(then), Value::Object(now)) => {
            let keys: BTreeSet<_> = then.keys().chain(now.keys()).collect();
            let gone = json!("(nothing)");
            let value = |of: &Map<String, Value>, key: &str| of.get(key).unwrap_or(&gone).clone();
            let below =
                |key: &String| unlike(&format!("{at}.{key}"), &value(then, key), &value(now, key));
            keys.into_iter().flat_map(below).collect()
        }
        _ => vec![(at.to_owned(), recorded.clone(), answered.clone())],
    }
}

async fn put(kong: &KongStandIn, id: &str, cert: &str, key: &str, snis: Value) -> u16 {
    let request = Request::json("PUT", &format!("/certificates/{id}"), &pair(cert, key, &snis));
    exchange(kong.admin_addr(), &request).await.unwrap().status
}

fn pair(cert: &str, key: &str, snis: &Value) -> Value {
    json!({ "cert": pem(cert), "key": pem(key), "snis": snis })
}

fn pem(file: &str) -> String {
    fs::read_to_string(data().join("pem").join(file)).unwrap()
}

/// The first certificate of a file.
fn der(file: &str) -> Vec<u8> {
    rustls_pemfile::certs(&mut pem(file).as_bytes()).next().unwrap().unwrap().to_vec()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap().to_owned()
}

fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../data/kong-contract")
}
