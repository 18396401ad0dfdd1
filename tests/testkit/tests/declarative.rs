//! The stand-in without a database: what `POST /config` takes, and what becomes of it.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails"
)]

use std::fs;

use serde_json::{Value, json};
use testkit::kong_model::{Answer, KongModel, Offers, Request};

const ONE: &str = "11111111-1111-4111-8111-111111111111";
const TWO: &str = "22222222-2222-4222-8222-222222222222";

#[test]
fn an_export_with_names_inside_a_certificate_is_no_configuration() {
    let mut kong = KongModel::without_database();
    let config = configuration(&[with(pair(ONE, "a"), "snis", json!([{ "name": "a.test" }]))], &[]);
    assert_eq!(post(&mut kong, &config).status, 201);
    let export = export(&mut kong);
    let refused = post_text(&mut kong, "/config", &export);
    let words = "uniqueness violation: 'snis' entity with name set to 'a.test' already declared";
    assert_eq!((refused.status, &refused.value()["fields"]), (400, &json!({ "snis": [words] })));
    let flattened = post_text(&mut kong, "/config?flatten_errors=1", &export).value();
    assert_eq!((&flattened["fields"], &flattened["flattened_errors"]), (&json!({}), &json!({})));
}

#[test]
fn an_export_with_names_beside_the_certificates_goes_round() {
    let mut kong = KongModel::without_database();
    let mut config = configuration(&[pair(ONE, "a")], &[("a.test", ONE), ("*.b.test", ONE)]);
    config["_transform"] = json!(true);
    config["ca_certificates"] = json!([{ "id": TWO, "cert": pem("root.crt") }]);
    config["services"] = json!([{
        "name": "echo", "host": "10.0.0.1", "tags": ["yes", "2020-01-01", "~"],
        "routes": [{ "name": "echo", "paths": ["/~^[a-z]: #$"], "snis": ["a.test"] }],
        "plugins": [{ "name": "cors", "config": { "max_age": 1.5, "origins": [], "x": null } }],
    }]);
    config["consumers"] = json!([{
        "username": "010", "keyauth_credentials": [{ "key": "0o17" }], "acls": [{ "group": "x" }],
    }]);
    config["upstreams"] = json!([{ "name": "up", "targets": [{ "target": "10.0.0.1:80" }] }]);
    config["key_sets"] = json!([{ "name": "set", "keys": [{ "name": "key", "kid": "1" }] }]);
    config["vaults"] =
        json!([{ "prefix": "env-1", "name": "env", "description": "text ".repeat(40) }]);
    let answer = post(&mut kong, &config);
    assert_eq!(answer.status, 201);
    let rows = answer.value();
    for entity in [
        "services",
        "routes",
        "plugins",
        "consumers",
        "keyauth_credentials",
        "acls",
        "upstreams",
        "targets",
        "key_sets",
        "keys",
        "vaults",
        "ca_certificates",
    ] {
        assert_eq!(rows[entity].as_object().unwrap().len(), 1, "{entity}");
    }
    kong.set_now(1_900_000_000);
    let first = export(&mut kong);
    let posted = post_text(&mut kong, "/config", &first);
    assert_eq!(posted.status, 201, "{}", posted.value());
    assert_eq!(export(&mut kong), first);
    assert!(first.contains("_transform: false"), "{first}");
}

#[test]
fn a_configuration_is_served_at_once() {
    let mut kong = KongModel::without_database();
    post(&mut kong, &configuration(&[pair(ONE, "a")], &[("a.test", ONE)]));
    assert!(serves(&mut kong, "a.test", "a"));
    post(&mut kong, &configuration(&[pair(ONE, "a2")], &[("new.test", ONE)]));
    assert!(serves(&mut kong, "new.test", "a2"));
    assert!(!serves(&mut kong, "a.test", "a") && !serves(&mut kong, "a.test", "a2"));
    assert_eq!(kong.writes(), 2);
}

#[test]
fn a_frozen_node_serves_the_configuration_before() {
    let mut kong = KongModel::without_database();
    post(&mut kong, &configuration(&[pair(ONE, "a")], &[("a.test", ONE)]));
    kong.freeze_serving();
    post(&mut kong, &configuration(&[pair(ONE, "a2")], &[("a.test", ONE)]));
    assert!(serves(&mut kong, "a.test", "a"));
    kong.catch_up();
    assert!(serves(&mut kong, "a.test", "a2"));
}

#[test]
fn one_bad_object_fails_all_and_is_told_with_what_was_sent() {
    let mut kong = KongModel::without_database();
    post(&mut kong, &configuration(&[pair(ONE, "a")], &[("a.test", ONE)]));
    let before = hash(&mut kong);
    let mut bad = with(pair(TWO, "b"), "key", json!(pem("a.key")));
    bad["tags"] = json!(["team:edge"]);
    bad["snis"] = json!([{ "name": "*.ad.*" }]);
    let config = configuration(&[pair(ONE, "a2"), bad], &[("a.test", ONE)]);
    let refused = post(&mut kong, &config).value();
    assert_eq!(
        refused["fields"],
        json!({ "certificates": [null, {
            "@entity": ["certificate does not match key"],
            "snis": [{ "name": "only one wildcard must be specified" }],
        }] })
    );
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("{certificates={[2]={[\"@entity\"]={\"certificate does"), "{message}");
    let request = Request::json("POST", "/config?flatten_errors=1", &config);
    let told = kong.answer(&request).value()["flattened_errors"].clone();
    assert_eq!(
        (&told[0]["entity_type"], &told[0]["entity_name"]),
        (&json!("sni"), &json!("*.ad.*"))
    );
    assert_eq!(told[1]["entity_id"], TWO);
    assert_eq!(told[1]["entity_tags"], json!(["team:edge"]));
    assert_eq!(told[1]["entity"]["key"], pem("a.key"), "private keys are echoed");
    assert_eq!(hash(&mut kong), before);
    assert!(serves(&mut kong, "a.test", "a"));
}

#[test]
fn a_name_without_its_certificate_is_told_only_in_the_plain_form() {
    let mut kong = KongModel::without_database();
    let config = configuration(&[pair(ONE, "a")], &[("a.test", ONE), ("lost.test", TWO)]);
    let refused = post(&mut kong, &config).value();
    let words = format!(
        "invalid reference 'certificate: {{\"id\":\"{TWO}\"}}' (no such entry in 'certificates')"
    );
    assert_eq!(refused["fields"], json!({ "snis": { "lost.test": [words] } }));
    let request = Request::json("POST", "/config?flatten_errors=1", &config);
    let flattened = kong.answer(&request).value();
    assert_eq!((&flattened["fields"], &flattened["flattened_errors"]), (&json!({}), &json!({})));
}

#[test]
fn what_kong_does_not_know_is_refused() {
    let mut kong = KongModel::without_database();
    for (key, value, words) in [
        ("_info", json!({}), "unknown field"),
        ("_workspace", json!("default"), "unknown field"),
        ("consumer_groups", json!([]), "unknown field"),
        ("services", json!("none"), "expected an array"),
        ("_format_version", json!("4.0"), "expected one of: 1.1, 2.1, 3.0"),
        ("_format_version", json!(3.0), "expected a string"),
    ] {
        let config = with(configuration(&[], &[]), key, value);
        let answer = post(&mut kong, &config);
        assert_eq!((answer.status, &answer.value()["fields"][key]), (400, &json!(words)), "{key}");
    }
    for version in ["1.1", "2.1"] {
        let config = with(configuration(&[pair(ONE, "a")], &[]), "_format_version", json!(version));
        assert_eq!(post(&mut kong, &config).status, 201);
        assert!(export(&mut kong).starts_with("_format_version: '3.0'\n"));
    }
}

#[test]
fn the_hash_is_that_of_the_text_and_zero_where_nothing_is() {
    let mut kong = KongModel::without_database();
    let zeros = "0".repeat(32);
    assert_eq!(hash(&mut kong), zeros);
    let text = configuration(&[pair(ONE, "a")], &[("a.test", ONE)]).to_string();
    assert_eq!(post_text(&mut kong, "/config?check_hash=1", &text).status, 201);
    let first = hash(&mut kong);
    assert_ne!(first, zeros);
    assert_eq!(post_text(&mut kong, "/config?check_hash=1", &text).status, 304);
    assert_eq!(post_text(&mut kong, "/config", &text).status, 201, "only where it is asked");
    assert_eq!(post_text(&mut kong, "/config?check_hash=1", &(text.clone() + " ")).status, 201);
    assert_ne!(hash(&mut kong), first);
    kong.forget_everything();
    assert_eq!(hash(&mut kong), zeros);
    assert_eq!(post_text(&mut kong, "/config?check_hash=1", &text).status, 201);
    post_text(&mut kong, "/config", "_format_version: '3.0'\n");
    assert_eq!(hash(&mut kong), zeros);
}

#[test]
fn a_name_beside_its_certificate_keeps_its_id_and_one_inside_does_not() {
    let mut kong = KongModel::without_database();
    let beside = configuration(&[pair(ONE, "a")], &[("a.test", ONE)]);
    let inside = with(pair(ONE, "a"), "snis", json!([{ "name": "a.test" }]));
    let inside = configuration(&[inside], &[]);
    let mut id = |config: &Value| {
        let rows = post(&mut kong, config).value();
        rows["snis"].as_object().unwrap().keys().next().unwrap().clone()
    };
    assert_eq!(id(&beside), id(&beside));
    assert_ne!(id(&inside), id(&inside));
}

#[test]
fn an_export_that_is_to_be_transformed_hashes_its_passwords_again() {
    let mut kong = KongModel::without_database();
    let mut config = configuration(&[], &[]);
    let credential = json!({ "username": "jo", "password": "secret" });
    config["consumers"] = json!([{ "username": "jo", "basicauth_credentials": [credential] }]);
    post(&mut kong, &config);
    let first = export(&mut kong);
    assert!(!first.contains("secret"), "{first}");
    post_text(&mut kong, "/config", &first);
    assert_eq!(export(&mut kong), first);
    post_text(&mut kong, "/config", &first.replace("_transform: false", "_transform: true"));
    assert_ne!(export(&mut kong), first);
}

#[test]
fn with_a_database_there_is_no_configuration() {
    let mut kong = KongModel::new();
    for answer in
        [post(&mut kong, &configuration(&[], &[])), kong.answer(&Request::new("GET", "/config"))]
    {
        let words = "this endpoint is only available when Kong is configured to not use a database";
        assert_eq!((answer.status, &answer.value()["message"]), (400, &json!(words)));
    }
}

fn configuration(certificates: &[Value], snis: &[(&str, &str)]) -> Value {
    let sni = |(name, id): &(&str, &str)| json!({ "name": name, "certificate": { "id": id } });
    json!({
        "_format_version": "3.0",
        "certificates": certificates,
        "snis": snis.iter().map(sni).collect::<Vec<_>>(),
    })
}

fn post(kong: &mut KongModel, config: &Value) -> Answer {
    kong.answer(&Request::json("POST", "/config", config))
}

fn post_text(kong: &mut KongModel, path: &str, text: &str) -> Answer {
    kong.answer(&Request::json("POST", path, &json!({ "config": text })))
}

fn export(kong: &mut KongModel) -> String {
    let answer = kong.answer(&Request::new("GET", "/config")).value();
    answer["config"].as_str().unwrap().to_owned()
}

fn hash(kong: &mut KongModel) -> String {
    let answer = kong.answer(&Request::new("GET", "/status")).value();
    answer["configuration_hash"].as_str().unwrap().to_owned()
}

fn serves(kong: &mut KongModel, sni: &str, name: &str) -> bool {
    let chain = kong.chain_for(Some(sni), Offers::ALL).chain().unwrap();
    let pem = pem(&format!("{name}.crt"));
    let leaf = rustls_pemfile::certs(&mut pem.as_bytes()).next().unwrap().unwrap();
    chain[0] == leaf.to_vec()
}

fn pair(id: &str, name: &str) -> Value {
    json!({ "id": id, "cert": pem(&format!("{name}.crt")), "key": pem(&format!("{name}.key")) })
}

fn with(mut value: Value, key: &str, field: Value) -> Value {
    value[key] = field;
    value
}

fn pem(file: &str) -> String {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/kong-contract/pem");
    fs::read_to_string(format!("{data}/{file}")).unwrap()
}
