//! Kong's tables, their constraints, and what a node is told when a row changes.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::openssl::Certificate;
use super::refusal::Refusal;
use super::schema::{Kind, Object};

/// What a node keeps in its cache, and drops when it hears that the row changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CacheKey {
    Certificate(String),
    Sni(String),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Database {
    rows: BTreeMap<Kind, BTreeMap<String, Object>>,
    /// Since they were last taken.
    changes: Vec<CacheKey>,
    rows_written: u64,
    rows_changed: u64,
}

impl Database {
    /// All rows of a configuration at once, in the place of those `before`. Constraints were
    /// checked, or are none of Kong's without a database.
    pub(super) fn loaded(rows: BTreeMap<Kind, BTreeMap<String, Object>>, before: &Self) -> Self {
        let mut loaded = Self {
            rows,
            changes: Vec::new(),
            rows_written: before.rows_written + 1,
            rows_changed: before.rows_changed,
        };
        for (kind, rows) in before.rows.iter().chain(&loaded.rows.clone()) {
            rows.values().for_each(|row| loaded.changed(*kind, Some(row)));
        }
        loaded
    }

    pub(super) fn row(&self, kind: Kind, id: &str) -> Option<&Object> {
        self.rows.get(&kind)?.get(id)
    }

    /// In the order of ids.
    pub(super) fn rows(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.rows.get(&kind).into_iter().flat_map(BTreeMap::values)
    }

    pub(super) fn sni(&self, name: &str) -> Option<&Object> {
        self.rows(Kind::Snis).find(|row| row["name"] == *name)
    }

    /// The certificate that has a name.
    pub(super) fn owner(&self, name: &str) -> Option<&str> {
        self.sni(name)?["certificate"]["id"].as_str()
    }

    pub(super) fn snis_of<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Object> {
        self.rows(Kind::Snis).filter(move |row| row["certificate"]["id"] == *id)
    }

    /// The names that belong to a certificate, sorted.
    pub(super) fn names_of(&self, id: &str) -> Vec<String> {
        let name = |row: &Object| row["name"].as_str().map(str::to_owned);
        let mut names: Vec<String> = self.snis_of(id).filter_map(name).collect();
        names.sort();
        names
    }

    /// Stores a checked row, new or not, unless a constraint is against it.
    pub(super) fn store(&mut self, kind: Kind, mut row: Object) -> Result<Object, Refusal> {
        match kind {
            Kind::Certificates | Kind::Licenses => {}
            Kind::Snis => self.check_sni(&row)?,
            Kind::CaCertificates => self.check_digest(&mut row)?,
        }
        let id = id_of(&row);
        let before = self.rows.entry(kind).or_default().insert(id, row.clone());
        self.changed(kind, before.as_ref());
        self.changed(kind, Some(&row));
        self.rows_written += 1;
        if !before.is_some_and(|before| is_same(&before, &row)) {
            self.note_change();
        }
        Ok(row)
    }

    pub(super) fn remove(&mut self, kind: Kind, id: &str) {
        if let Some(row) = self.rows.entry(kind).or_default().remove(id) {
            self.changed(kind, Some(&row));
            self.rows_written += 1;
            self.note_change();
        }
    }

    /// Something is stored that was not, or no more.
    pub(super) const fn note_change(&mut self) {
        self.rows_changed += 1;
    }

    /// How many rows were ever stored or removed.
    pub(super) const fn rows_written(&self) -> u64 {
        self.rows_written
    }

    /// How many of these were others than before.
    pub(super) const fn rows_changed(&self) -> u64 {
        self.rows_changed
    }

    /// What changed since this was last asked.
    pub(super) fn take_changes(&mut self) -> Vec<CacheKey> {
        std::mem::take(&mut self.changes)
    }

    fn check_sni(&self, row: &Object) -> Result<(), Refusal> {
        let (id, name) = (id_of(row), row["name"].as_str().unwrap_or_default());
        if self.sni(name).is_some_and(|other| other["id"] != *id) {
            return Err(Refusal::not_unique("name", name));
        }
        let owner = row["certificate"]["id"].as_str().unwrap_or_default();
        match self.row(Kind::Certificates, owner) {
            Some(_) => Ok(()),
            None => Err(Refusal::no_such_certificate(owner)),
        }
    }

    fn check_digest(&self, row: &mut Object) -> Result<(), Refusal> {
        let pem = row["cert"].as_str().unwrap_or_default();
        let der = Certificate::parse(pem).map(|ca| ca.der).unwrap();
        let digest = hex::encode(Sha256::digest(&der));
        let same = |other: &&Object| other["cert_digest"] == *digest && other["id"] != row["id"];
        if self.rows(Kind::CaCertificates).any(|other| same(&other)) {
            return Err(Refusal::not_unique("cert_digest", &digest));
        }
        row.insert("cert_digest".to_owned(), json!(digest));
        Ok(())
    }

    fn changed(&mut self, kind: Kind, row: Option<&Object>) {
        let text = |field: &str| row.and_then(|row| row[field].as_str()).map(str::to_owned);
        match kind {
            Kind::Certificates => self.changes.extend(text("id").map(CacheKey::Certificate)),
            Kind::Snis => self.changes.extend(text("name").map(CacheKey::Sni)),
            Kind::CaCertificates | Kind::Licenses => {}
        }
    }
}

/// Whether one row is as the other but for `updated_at`.
pub(super) fn is_same(one: &Object, other: &Object) -> bool {
    let fields = |row: &Object| -> Object {
        let fields = row.iter().filter(|(field, _)| *field != "updated_at");
        fields.map(|(field, value)| (field.clone(), value.clone())).collect()
    };
    fields(one) == fields(other)
}

/// Postgres writes UUIDs in lower case.
fn id_of(row: &Object) -> String {
    row.get("id").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase()
}
