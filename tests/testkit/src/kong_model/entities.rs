//! What a declarative configuration may hold besides certificates, SNIs, CA certificates and
//! licences. Such objects are kept as they are: of their fields only the references are known here.

use serde_json::{Value, json};
use uuid::Uuid;

use super::schema::{Kind, Object};

/// Its name, the fields that refer to entities before it, and the field whose value is its own.
type Entity = (&'static str, &'static [(&'static str, &'static str)], Option<&'static str>);

/// All of Kong OSS, and the licences of Enterprise.
const ENTITIES: [Entity; 25] = [
    (LICENSES, &[], None),
    ("ca_certificates", &[], None),
    ("certificates", &[], None),
    ("consumers", &[], Some("username")),
    ("key_sets", &[], Some("name")),
    ("vaults", &[], Some("prefix")),
    ("services", &[("client_certificate", "certificates")], Some("name")),
    ("upstreams", &[("client_certificate", "certificates")], Some("name")),
    ("keys", &[("set", "key_sets")], Some("name")),
    ("routes", &[("service", "services")], Some("name")),
    ("snis", &[("certificate", "certificates")], Some("name")),
    ("targets", &[("upstream", "upstreams")], None),
    ("acls", &CONSUMER, None),
    ("basicauth_credentials", &CONSUMER, Some("username")),
    ("hmacauth_credentials", &CONSUMER, Some("username")),
    ("jwt_secrets", &CONSUMER, Some("key")),
    ("keyauth_credentials", &CONSUMER, Some("key")),
    ("oauth2_credentials", &CONSUMER, Some("client_id")),
    ("oauth2_authorization_codes", &[], Some("code")),
    ("oauth2_tokens", &[("credential", "oauth2_credentials")], Some("access_token")),
    ("filter_chains", &[("service", "services"), ("route", "routes")], Some("name")),
    ("acme_storage", &[], Some("key")),
    ("sessions", &[], Some("session_id")),
    ("parameters", &[], Some("key")),
    ("plugins", &[("service", "services"), ("route", "routes"), ("consumer", "consumers")], None),
];
const LICENSES: &str = "licenses";
const CONSUMER: [(&str, &str); 1] = [("consumer", "consumers")];

/// The root of the ids that Kong makes from names.
const NAMESPACE: Uuid = Uuid::from_u128(0xfd02_801f_0957_4a15_a55a_c8d9_606f_30b5);

/// In the order in which they refer to each other.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    ENTITIES.iter().map(|(name, ..)| *name)
}

/// Whether Kong OSS, or Enterprise, takes such objects.
pub(super) fn is_known_to(enterprise: bool, entity: &str) -> bool {
    known(entity).is_some() && (enterprise || entity != LICENSES)
}

/// Whether there is such an entity, and it is none of those with rows of their own kind.
pub(super) fn is_other(entity: &str) -> bool {
    known(entity).is_some() && Kind::named(entity).is_none()
}

/// The fields that name another entity, and which.
pub(super) fn references(entity: &str) -> &'static [(&'static str, &'static str)] {
    known(entity).map_or(&[], |(_, references, _)| references)
}

/// What may stand as a list inside such an entity, and the field of those that refers to it.
pub(super) fn children(entity: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let of = |(name, references, _): &Entity| {
        let reference = references.iter().find(|(_, to)| *to == entity);
        reference.map(|(field, _)| (*name, *field))
    };
    ENTITIES.iter().filter_map(of).collect::<Vec<_>>().into_iter()
}

/// By what an entity may be named where its id may.
pub(super) fn own_key<'a>(entity: &str, row: &'a Object) -> Option<(&'static str, &'a str)> {
    let field = known(entity)?.2?;
    row.get(field)?.as_str().map(|key| (field, key))
}

/// The id that an object without one gets: the same each time. Kong does it so for what has a name
/// (recorded for SNIs); from which of their fields it makes those of the others is not modelled.
pub(super) fn made_id(entity: &str, row: &Object) -> Uuid {
    let all = Value::Object(row.clone()).to_string();
    let key = own_key(entity, row).map_or(all.as_str(), |(_, key)| key);
    Uuid::new_v5(&Uuid::new_v5(&NAMESPACE, entity.as_bytes()), key.as_bytes())
}

/// Fields that Kong fills in; recorded for services and routes.
pub(super) fn with_defaults(entity: &str, mut row: Object, now: i64) -> Object {
    let defaults = match entity {
        "services" => json!({
            "ca_certificates": null, "client_certificate": null, "connect_timeout": 60000,
            "enabled": true, "name": null, "path": null, "port": 80, "protocol": "http",
            "read_timeout": 60000, "retries": 5, "tls_verify": null, "tls_verify_depth": null,
            "write_timeout": 60000,
        }),
        "routes" => json!({
            "destinations": null, "headers": null, "hosts": null,
            "https_redirect_status_code": 426, "methods": null, "name": null,
            "path_handling": "v0", "paths": null, "preserve_host": false,
            "protocols": ["http", "https"], "regex_priority": 0, "request_buffering": true,
            "response_buffering": true, "service": null, "snis": null, "sources": null,
            "strip_path": true,
        }),
        _ => json!({}),
    };
    let always = json!({ "created_at": now, "updated_at": now, "tags": null });
    for (field, value) in [defaults, always].iter().filter_map(Value::as_object).flatten() {
        row.entry(field).or_insert_with(|| value.clone());
    }
    row
}

fn known(entity: &str) -> Option<&'static Entity> {
    ENTITIES.iter().find(|(name, ..)| *name == entity)
}
