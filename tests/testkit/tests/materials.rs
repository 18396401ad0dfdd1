//! The stand-in's CA certificates and licences, and the lists of what may refer to them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails"
)]

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use testkit::kong_model::{Answer, KongModel, Request};
use testkit::{Authority, KeyKind, Pki};

const ONE: &str = "11111111-1111-4111-8111-111111111111";
const TWO: &str = "22222222-2222-4222-8222-222222222222";
const EXPIRED: &str = "certificate expired, \"Not After\" time is in the past";

#[test]
fn ca_certificates_come_in_pages() {
    let mut kong = KongModel::new();
    for number in 0..5 {
        let body = json!({ "cert": ca("CA").pem(), "tags": [format!("n:{number}")] });
        assert_eq!(send(&mut kong, "POST", "/ca_certificates", &body).status, 201);
    }
    assert_eq!(page_lengths(&mut kong, "/ca_certificates?size=2"), [2, 2, 1]);
    assert_eq!(page_lengths(&mut kong, "/ca_certificates?size=1000"), [5]);
    assert_eq!(page_lengths(&mut kong, "/ca_certificates?tags=n:3"), [1]);
}

#[test]
fn a_ca_certificate_is_replaced_and_patched_by_its_id() {
    let mut kong = KongModel::new();
    let (first, second, third) = (ca("First"), ca("Second"), ca("Third"));
    let path = format!("/ca_certificates/{ONE}");
    put(&mut kong, &path, &json!({ "cert": first.pem(), "tags": ["x"] }));
    let patched = send(&mut kong, "PATCH", &path, &json!({ "cert": second.pem() })).value();
    assert_eq!((&patched["cert"], &patched["tags"]), (&json!(second.pem()), &json!(["x"])));
    assert_eq!(patched["cert_digest"], digest(&second));
    let patched = send(&mut kong, "PATCH", &path, &json!({ "tags": ["y"] })).value();
    assert_eq!((&patched["cert"], &patched["tags"]), (&json!(second.pem()), &json!(["y"])));
    put(&mut kong, &path, &json!({ "cert": third.pem() }));
    let shown = ask(&mut kong, &path).value();
    assert_eq!((&shown["cert_digest"], &shown["tags"]), (&json!(digest(&third)), &Value::Null));
    let other = format!("/ca_certificates/{TWO}");
    assert_eq!(send(&mut kong, "PATCH", &other, &json!({})).value()["code"], 6);
    put(&mut kong, &other, &json!({ "cert": first.pem() }));
    let taken = send(&mut kong, "PATCH", &other, &json!({ "cert": third.pem() }));
    assert_eq!(
        (taken.status, &taken.value()["fields"]),
        (409, &json!({ "cert_digest": digest(&third) }))
    );
    assert_eq!(ask(&mut kong, &other).value()["cert"], json!(first.pem()));
}

#[test]
fn an_expired_ca_certificate_is_refused_however_it_comes() {
    let old = Pki::new().root().intermediate_with("Old", KeyKind::P256, 100, 200).pem();
    let mut kong = KongModel::new();
    kong.set_now(200);
    let path = format!("/ca_certificates/{ONE}");
    put(&mut kong, &path, &json!({ "cert": old }));
    kong.set_now(201);
    let other = format!("/ca_certificates/{TWO}");
    for (method, path) in [("PUT", &*other), ("PATCH", &path), ("POST", "/ca_certificates")] {
        let refused = send(&mut kong, method, path, &json!({ "cert": old }));
        assert_eq!(refused.value()["message"], format!("schema violation ({EXPIRED})"));
        assert_eq!(refused.status, 400);
    }
    assert_eq!(ask(&mut kong, &path).status, 200, "it stays where it is");
    kong = KongModel::without_database();
    let refused = declare(&mut kong, "ca_certificates", &json!([{ "cert": old }])).value();
    assert_eq!(refused["fields"], json!({ "ca_certificates": [{ "@entity": [EXPIRED] }] }));
}

#[test]
fn a_ca_certificate_that_is_referred_to_stays() {
    for (entity, referring) in [
        ("services", json!({ "id": TWO, "host": "a.test", "ca_certificates": [ONE] })),
        (
            "plugins",
            json!({ "id": TWO, "name": "mtls-auth", "config": { "ca_certificates": [ONE] } }),
        ),
    ] {
        let mut kong = KongModel::new();
        let path = format!("/ca_certificates/{ONE}");
        put(&mut kong, &path, &json!({ "cert": ca("CA").pem() }));
        kong.insert_raw("services", json!({ "host": "b.test", "ca_certificates": [TWO] }));
        kong.insert_raw("plugins", json!({ "name": "cors", "config": {} }));
        kong.insert_raw(entity, referring);
        let refused = send(&mut kong, "DELETE", &path, &Value::Null);
        let words = format!("ca certificate {ONE} is still referenced by {entity} (id = {TWO})");
        assert_eq!((refused.status, &refused.value()["message"]), (400, &json!(words)));
        kong.insert_raw(entity, json!({ "id": TWO }));
        assert_eq!(send(&mut kong, "DELETE", &path, &Value::Null).status, 204);
        assert_eq!(ask(&mut kong, &path).status, 404);
    }
}

#[test]
fn an_id_that_is_no_uuid_is_refused() {
    let mut kong = KongModel::new();
    kong.enterprise(true);
    for path in ["/ca_certificates/web", "/licenses/web"] {
        for method in ["GET", "PUT", "PATCH", "DELETE"] {
            let refused = send(&mut kong, method, path, &json!({ "payload": license("a") }));
            assert_eq!((refused.status, &refused.value()["code"]), (400, &json!(1)), "{method}");
        }
    }
    assert_eq!(kong.writes(), 0);
}

#[test]
fn kong_oss_knows_no_licence() {
    let mut kong = KongModel::new();
    kong.enterprise(true);
    kong.enterprise(false);
    let body = json!({ "payload": license("a") });
    for (method, path) in [
        ("GET", "/licenses"),
        ("POST", "/licenses"),
        ("PUT", &*license_path(ONE)),
        ("POST", "/schemas/licenses/validate"),
    ] {
        assert_eq!(send(&mut kong, method, path, &body).status, 404, "{method} {path}");
    }
    kong.dbless(true);
    let refused = declare(&mut kong, "licenses", &json!([{ "id": ONE, "payload": license("a") }]));
    assert_eq!(refused.value()["fields"], json!({ "licenses": "unknown field" }));
    assert_eq!(ask(&mut kong, "/").value()["edition"], "community");
}

#[test]
fn a_licence_is_stored_as_it_is_sent() {
    let mut kong = KongModel::new();
    kong.enterprise(true);
    assert_eq!(ask(&mut kong, "/").value()["edition"], "enterprise");
    assert_eq!(ask(&mut kong, "/licenses").value(), json!({ "data": [], "next": null }));
    let path = license_path(ONE);
    assert_eq!(ask(&mut kong, &path).status, 404);
    kong.set_now(1_900_000_000);
    let payload = format!(" {}\n", license("a"));
    let stored = put(&mut kong, &path, &json!({ "payload": payload }));
    let times = json!(1_900_000_000);
    assert_eq!(
        stored,
        json!({ "id": ONE, "payload": payload, "created_at": times, "updated_at": times })
    );
    kong.set_now(1_900_000_009);
    let patched = send(&mut kong, "PATCH", &path, &json!({ "payload": license("b") })).value();
    assert_eq!(patched["payload"], license("b"));
    assert_eq!((&patched["created_at"], &patched["updated_at"]), (&times, &json!(1_900_000_009)));
    assert_eq!(ask(&mut kong, &path).value(), patched);
    assert_eq!(
        send(&mut kong, "POST", "/licenses", &json!({ "payload": license("c") })).status,
        201
    );
    assert_eq!(page_lengths(&mut kong, "/licenses?size=1"), [1, 1]);
    assert_eq!(send(&mut kong, "DELETE", &path, &Value::Null).status, 204);
    assert_eq!(page_lengths(&mut kong, "/licenses"), [1]);
}

#[test]
fn what_is_no_licence_is_refused() {
    let mut kong = KongModel::new();
    kong.enterprise(true);
    for payload in [
        json!(null),
        json!({}),
        json!("{}"),
        json!("license"),
        json!(r#"{"license":{"payload":{}}}"#),
        json!(r#"{"license":{"signature":""}}"#),
    ] {
        let refused = send(&mut kong, "PUT", &license_path(ONE), &json!({ "payload": payload }));
        assert_eq!((refused.status, &refused.value()["code"]), (400, &json!(2)), "{payload}");
    }
    let tagged = json!({ "payload": license("a"), "tags": ["x"] });
    let refused = send(&mut kong, "PUT", &license_path(ONE), &tagged).value();
    assert_eq!(refused["fields"], json!({ "tags": "unknown field" }));
}

#[test]
fn without_a_database_a_licence_comes_with_the_configuration() {
    let mut kong = KongModel::without_database();
    kong.enterprise(true);
    let row = json!({ "id": ONE, "payload": license("a") });
    assert_eq!(declare(&mut kong, "licenses", &json!([row])).status, 201);
    assert_eq!(ask(&mut kong, &license_path(ONE)).value()["payload"], license("a"));
    assert_eq!(page_lengths(&mut kong, "/licenses"), [1]);
    let export = ask(&mut kong, "/config").value()["config"].clone();
    assert!(export.as_str().unwrap().contains("licenses:\n"), "{export}");
    let again = send(&mut kong, "POST", "/config", &json!({ "config": export }));
    assert_eq!(again.status, 201, "{}", again.value());
    assert_eq!(ask(&mut kong, &license_path(ONE)).value()["payload"], license("a"));
    let refused = send(&mut kong, "PUT", &license_path(ONE), &row);
    assert_eq!((refused.status, &refused.value()["code"]), (405, &json!(12)));
}

#[test]
fn services_and_plugins_are_listed_and_no_more() {
    for database in ["postgres", "off"] {
        let mut kong = KongModel::new();
        kong.dbless(database == "off");
        for number in 0..5 {
            let name = format!("n{number}");
            kong.insert_raw("services", json!({ "name": name, "host": "a.test" }));
            kong.insert_raw("plugins", json!({ "name": "cors", "instance_name": name }));
        }
        for path in ["/services", "/plugins"] {
            assert_eq!(page_lengths(&mut kong, &format!("{path}?size=2")), [2, 2, 1]);
            assert_eq!(ask(&mut kong, &format!("{path}?size=0")).status, 400);
            assert_eq!(send(&mut kong, "POST", path, &json!({})).status, 405);
            assert_eq!(ask(&mut kong, &format!("{path}/n1")).status, 404);
        }
        let first = ask(&mut kong, "/services?size=1").value()["data"][0].clone();
        assert_eq!((&first["host"], &first["port"]), (&json!("a.test"), &json!(80)));
        assert!(kong.requests().iter().all(|seen| seen.status != 200 || seen.method == "GET"));
        assert_eq!(kong.writes(), 0);
        kong.forget_everything();
        assert_eq!(page_lengths(&mut kong, "/plugins"), [0]);
        kong.database_down(true);
        assert_eq!(ask(&mut kong, "/plugins").status, 500);
    }
}

#[test]
fn without_a_database_services_and_plugins_come_with_the_configuration() {
    let mut kong = KongModel::without_database();
    let plugin = json!({ "id": TWO, "name": "mtls-auth", "config": { "ca_certificates": [ONE] } });
    let service =
        json!({ "name": "a", "host": "a.test", "ca_certificates": [ONE], "plugins": [plugin] });
    assert_eq!(declare(&mut kong, "services", &json!([service])).status, 201);
    let first = |kong: &mut KongModel, path: &str| ask(kong, path).value()["data"][0].clone();
    let service = first(&mut kong, "/services");
    assert_eq!(service["ca_certificates"], json!([ONE]));
    let plugin = first(&mut kong, "/plugins");
    assert_eq!(plugin["config"], json!({ "ca_certificates": [ONE] }));
    assert_eq!((&plugin["id"], &plugin["service"]["id"]), (&json!(TWO), &service["id"]));
}

fn send(kong: &mut KongModel, method: &str, path: &str, body: &Value) -> Answer {
    match method {
        "GET" | "DELETE" => kong.answer(&Request::new(method, path)),
        _ => kong.answer(&Request::json(method, path, body)),
    }
}

fn ask(kong: &mut KongModel, path: &str) -> Answer {
    send(kong, "GET", path, &Value::Null)
}

fn put(kong: &mut KongModel, path: &str, body: &Value) -> Value {
    let answer = send(kong, "PUT", path, body);
    assert_eq!(answer.status, 200, "{}", answer.value());
    answer.value()
}

fn declare(kong: &mut KongModel, entity: &str, rows: &Value) -> Answer {
    let config = json!({ "_format_version": "3.0", entity: rows });
    send(kong, "POST", "/config", &config)
}

/// The pages from this path on.
fn page_lengths(kong: &mut KongModel, path: &str) -> Vec<usize> {
    let mut lengths = Vec::new();
    let mut next = json!(path);
    while let Some(path) = next.as_str() {
        let page = ask(kong, path).value();
        lengths.push(page["data"].as_array().unwrap().len());
        next = page["next"].clone();
    }
    lengths
}

fn ca(name: &str) -> Authority {
    Authority::root(name, KeyKind::P256)
}

fn digest(ca: &Authority) -> String {
    hex::encode(Sha256::digest(ca.der()))
}

fn license_path(id: &str) -> String {
    format!("/licenses/{id}")
}

/// A licence with this key.
fn license(key: &str) -> String {
    let payload = json!({ "license_expiration_date": "2030-01-31", "license_key": key });
    json!({ "license": { "version": "1", "payload": payload, "signature": "00" } }).to_string()
}
