//! The fields of Kong's objects and what each may hold (`kong/db/schema/entities`).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::openssl::{self, Certificate};
use super::refusal::{Refusal, Violations, Wrong};
use super::sni;

/// An object as it is stored: every field is there, null where it is not set.
pub(super) type Object = Map<String, Value>;

/// The tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Certificates,
    Snis,
    CaCertificates,
    /// Of Enterprise alone.
    Licenses,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Id,
    Timestamp,
    Certificate,
    Key,
    Tags,
    SniList,
    SniName,
    CertificateId,
    Digest,
    License,
}

impl Kind {
    pub(super) const ALL: [Self; 4] =
        [Self::Certificates, Self::Snis, Self::CaCertificates, Self::Licenses];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Certificates => "certificates",
            Self::Snis => "snis",
            Self::CaCertificates => "ca_certificates",
            Self::Licenses => "licenses",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The fields, and which are required.
    const fn fields(self) -> &'static [(&'static str, Field, bool)] {
        match self {
            Self::Certificates => &[
                ("id", Field::Id, false),
                ("created_at", Field::Timestamp, false),
                ("updated_at", Field::Timestamp, false),
                ("cert", Field::Certificate, true),
                ("key", Field::Key, true),
                ("cert_alt", Field::Certificate, false),
                ("key_alt", Field::Key, false),
                ("tags", Field::Tags, false),
                ("snis", Field::SniList, false),
            ],
            Self::Snis => &[
                ("id", Field::Id, false),
                ("created_at", Field::Timestamp, false),
                ("updated_at", Field::Timestamp, false),
                ("name", Field::SniName, true),
                ("tags", Field::Tags, false),
                ("certificate", Field::CertificateId, true),
            ],
            Self::CaCertificates => &[
                ("id", Field::Id, false),
                ("created_at", Field::Timestamp, false),
                ("updated_at", Field::Timestamp, false),
                ("cert", Field::Certificate, true),
                ("cert_digest", Field::Digest, false),
                ("tags", Field::Tags, false),
            ],
            Self::Licenses => &[
                ("id", Field::Id, false),
                ("created_at", Field::Timestamp, false),
                ("updated_at", Field::Timestamp, false),
                ("payload", Field::License, true),
            ],
        }
    }
}

/// `sent` with every field that it lacks: an id, both times (`created_at` is kept where it was
/// sent), and null.
pub(super) fn completed(
    kind: Kind,
    mut sent: Object,
    now: i64,
    ids: &mut dyn FnMut() -> Uuid,
) -> Object {
    for (name, field, _) in kind.fields() {
        let value = sent.entry(*name).or_insert(Value::Null);
        match (*name, field) {
            ("id", _) if value.is_null() => *value = json!(ids().to_string()),
            ("created_at", _) if value.is_null() => *value = json!(now),
            ("updated_at", _) => *value = json!(now),
            (_, Field::Tags) => reorder(value),
            _ => {}
        }
    }
    sent
}

/// `stored` with the fields that were sent, and a new `updated_at`.
pub(super) fn merged(mut stored: Object, sent: Object, now: i64) -> Object {
    stored.extend(sent);
    stored.insert("updated_at".to_owned(), json!(now));
    if let Some(tags) = stored.get_mut("tags") {
        reorder(tags);
    }
    stored
}

/// Tags are a set: each once, and in an order of Kong's own. Here the longest come first, so that
/// no client gets by with comparing lists, sorted or not.
fn reorder(tags: &mut Value) {
    if let Value::Array(list) = tags {
        list.sort_by_cached_key(|tag| (std::cmp::Reverse(tag.to_string().len()), tag.to_string()));
        list.dedup();
    }
}

/// Refuses `object` where anything is wrong with it.
pub(super) fn check(kind: Kind, object: &Object, now: i64) -> Result<(), Refusal> {
    violations(kind, object, now).none_or_refuse()
}

/// Everything that is wrong with `object`, each field by itself and the whole.
pub(super) fn violations(kind: Kind, object: &Object, now: i64) -> Violations {
    let mut wrong = Violations::default();
    for (name, value) in object {
        match kind.fields().iter().find(|(known, ..)| known == name) {
            Some((_, field, required)) => check_field(name, *field, *required, value, &mut wrong),
            None => wrong.add(name, Wrong::whole("unknown field")),
        }
    }
    for (name, _, required) in kind.fields() {
        if *required && object.get(*name).is_none_or(Value::is_null) {
            wrong.add(name, Wrong::whole("required field missing"));
        }
    }
    match kind {
        Kind::Certificates => check_pairs(object, &mut wrong),
        Kind::CaCertificates => check_ca(object, now, &mut wrong),
        Kind::Snis | Kind::Licenses => {}
    }
    wrong
}

fn check_field(name: &str, field: Field, required: bool, value: &Value, wrong: &mut Violations) {
    if value.is_null() && !required {
        return;
    }
    let found = match field {
        Field::Id => text(value).and_then(check_id).map_err(Wrong::Whole),
        Field::Timestamp => check_timestamp(value).map_err(Wrong::whole),
        Field::Certificate | Field::Key if is_reference(value) => Ok(()),
        Field::Certificate => text(value).and_then(check_certificate).map_err(Wrong::Whole),
        Field::Key => text(value).and_then(check_key).map_err(Wrong::Whole),
        Field::Tags => check_elements(value, "expected a set", check_tag),
        Field::SniList => check_elements(value, "expected an array", sni::check),
        Field::SniName => text(value).and_then(sni::check).map_err(Wrong::Whole),
        Field::CertificateId => check_certificate_id(value),
        Field::License => text(value).and_then(check_license).map_err(Wrong::Whole),
        Field::Digest => text(value).map(|_| ()).map_err(Wrong::Whole),
    };
    if let Err(text) = found {
        wrong.add(name, text);
    }
}

/// `{vault://…}`: stored as it is, resolved when it is served.
fn is_reference(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with("{vault://") && text.ends_with('}'))
}

fn text(value: &Value) -> Result<&str, String> {
    match value.as_str() {
        Some("") => Err("length must be at least 1".to_owned()),
        Some(text) => Ok(text),
        None => Err("expected a string".to_owned()),
    }
}

fn check_id(id: &str) -> Result<(), String> {
    if is_uuid(id) { Ok(()) } else { Err("expected a valid UUID".to_owned()) }
}

/// Only the form with hyphens, as Kong's.
pub(super) fn is_uuid(text: &str) -> bool {
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}

fn check_timestamp(value: &Value) -> Result<(), &'static str> {
    match value.as_i64() {
        Some(1..) => Ok(()),
        Some(_) => Err("expected a valid timestamp"),
        None => Err("expected an integer"),
    }
}

fn check_certificate(pem: &str) -> Result<(), String> {
    let found = Certificate::parse(pem);
    found.map(|_| ()).map_err(|error| format!("invalid certificate: {error}"))
}

fn check_key(pem: &str) -> Result<(), String> {
    let found = openssl::public_half(pem);
    found.map(|_| ()).map_err(|error| format!("invalid key: {error}"))
}

/// Kong checks the signature, too. Its words for what is no licence were not recorded.
fn check_license(json: &str) -> Result<(), String> {
    let parsed: Value = serde_json::from_str(json).unwrap_or_default();
    let license = &parsed["license"];
    if license["payload"].is_object() && license["signature"].is_string() {
        return Ok(());
    }
    Err("invalid license".to_owned())
}

fn check_tag(tag: &str) -> Result<(), String> {
    if tag.chars().all(|c| !matches!(c, ',' | '/') && !c.is_ascii_control()) {
        return Ok(());
    }
    Err(format!(
        "invalid tag '{tag}': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"
    ))
}

fn check_elements(
    list: &Value,
    no_list: &str,
    check: fn(&str) -> Result<(), String>,
) -> Result<(), Wrong> {
    let Value::Array(elements) = list else {
        return Err(Wrong::whole(no_list));
    };
    let wrong: BTreeMap<usize, String> = elements
        .iter()
        .enumerate()
        .filter_map(|(at, element)| Some((at, text(element).and_then(check).err()?)))
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(Wrong::Elements(wrong)) }
}

fn check_certificate_id(value: &Value) -> Result<(), Wrong> {
    match value.get("id") {
        _ if value.is_null() => Ok(()),
        None => Err(Wrong::Nested("id", "missing primary key".to_owned())),
        Some(id) => text(id).and_then(check_id).map_err(|text| Wrong::Nested("id", text)),
    }
}

/// What must be true of the pairs together. A check is left out where one of its fields is wrong
/// by itself, or a reference.
fn check_pairs(object: &Object, wrong: &mut Violations) {
    let halves = ["cert_alt", "key_alt"];
    let set = halves.map(|name| !object.get(name).is_none_or(Value::is_null));
    let sound = halves.iter().all(|name| !wrong.concern(name));
    let plain = halves.iter().all(|name| !object.get(*name).is_some_and(is_reference));
    if set[0] != set[1] && sound && plain {
        wrong.add_to_entity("all or none of these fields must be set: 'cert_alt', 'key_alt'");
    }
    let certificate = |name| pem(object, name, wrong).and_then(|pem| Certificate::parse(pem).ok());
    let key = |name| pem(object, name, wrong).and_then(|pem| openssl::public_half(pem).ok());
    let (main, alternative) = (certificate("cert"), certificate("cert_alt"));
    let keys = (key("key"), key("key_alt"));
    if differ(main.as_ref(), keys.0.as_ref()) {
        wrong.add_to_entity("certificate does not match key");
    }
    if differ(alternative.as_ref(), keys.1.as_ref()) {
        wrong.add_to_entity("alternative certificate does not match key");
    }
    if let (Some(main), Some(alternative)) = (main, alternative)
        && main.key_type == alternative.key_type
    {
        wrong.add_to_entity(SAME_TYPE);
    }
}

const SAME_TYPE: &str = "certificate and alternative certificate need to have different type \
    (e.g. RSA and ECDSA), the provided certificates were both of the same type";

fn pem<'a>(object: &'a Object, name: &str, wrong: &Violations) -> Option<&'a str> {
    if wrong.concern(name) { None } else { object.get(name)?.as_str() }
}

fn differ(certificate: Option<&Certificate>, key: Option<&openssl::PublicKey>) -> bool {
    matches!((certificate, key), (Some(certificate), Some(key)) if certificate.key != *key)
}

/// That expired ones are refused was not recorded.
fn check_ca(object: &Object, now: i64, wrong: &mut Violations) {
    let Some(pem) = pem(object, "cert", wrong) else {
        return;
    };
    if pem.matches("-----BEGIN CERTIFICATE-----").count() > 1 {
        wrong.add_to_entity("please submit only one certificate at a time");
        return;
    }
    match Certificate::parse(pem) {
        Ok(ca) if ca.not_after < now => {
            wrong.add_to_entity("certificate expired, \"Not After\" time is in the past");
        }
        Ok(ca) if !ca.is_ca => wrong.add_to_entity(NO_CA),
        _ => {}
    }
}

const NO_CA: &str = "certificate does not appear to be a CA because it is missing the \"CA\" \
    basic constraint";
