//! `POST /config`: a whole configuration in one write, taken or refused as a whole
//! (`kong/api/routes/config.lua`, `kong/db/schema/others/declarative_config.lua`).
//!
//! Not modelled: the fields of other entities than those of [`Kind`], and the routes under which
//! these others can be read but for the lists of services and plugins.

use std::collections::BTreeMap;

use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use uuid::Uuid;

use super::database::{Database, is_same};
use super::exchange::{Answer, Request};
use super::invalid::Invalid;
use super::page::unescape;
use super::refusal::Refusal;
use super::schema::{self, Kind, Object};
use super::{KongModel, entities, yaml};

/// Rows by entity and id.
pub(super) type Rows = BTreeMap<String, BTreeMap<String, Object>>;

/// What came with the last configuration, or was put in by a test, besides what the database of a model holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Declared {
    hash: Option<String>,
    rows: Rows,
}

impl Declared {
    /// In the order of ids.
    pub(super) fn rows(&self, entity: &str) -> impl Iterator<Item = &Object> {
        self.rows.get(entity).into_iter().flat_map(BTreeMap::values)
    }

    /// With the names of the entities.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &Object)> {
        let of =
            |(entity, rows)| BTreeMap::values(rows).map(move |row| (String::as_str(entity), row));
        self.rows.iter().flat_map(of)
    }

    pub(super) fn insert(&mut self, entity: &str, row: Object) {
        let id = row["id"].as_str().unwrap_or_default().to_owned();
        self.rows.entry(entity.to_owned()).or_default().insert(id, row);
    }
}

impl KongModel {
    pub(super) fn config(&mut self, method: &str, request: &Request) -> Result<Answer, Refusal> {
        match (self.dbless, method) {
            (false, _) => Err(Refusal::plain(
                400,
                "this endpoint is only available when Kong is configured to not use a database",
            )),
            (true, "GET") => Ok(Answer::json(200, &json!({ "config": self.export() }))),
            (true, _) => self.declare(request),
        }
    }

    /// All zeros where nothing is configured.
    pub(super) fn configuration_hash(&self) -> String {
        let rows: Vec<_> = Kind::ALL.iter().flat_map(|kind| self.database.rows(*kind)).collect();
        match &self.declared.hash {
            Some(hash) => hash.clone(),
            None if rows.is_empty() => "0".repeat(32),
            None => hash(&json!(rows).to_string()),
        }
    }

    fn declare(&mut self, request: &Request) -> Result<Answer, Refusal> {
        let query = request.path.split_once('?').map_or("", |(_, query)| query);
        let sent = Sent::of(request)?;
        let same = sent.hash.as_ref() == Some(&self.configuration_hash());
        if same && parameter(query, "check_hash").as_deref() == Some("1") {
            return Ok(Answer::empty(304));
        }
        let flattened = parameter(query, "flatten_errors").is_some_and(|value| {
            ["true", "1", "on", "yes"].contains(&value.to_lowercase().as_str())
        });
        let rows = match Flattening::of(&sent.config, self.enterprise, self.now, &mut self.ids) {
            Ok(rows) => rows,
            Err(invalid) if flattened => return Err(invalid.flattened(&sent.config)),
            Err(invalid) => return Err(invalid.refusal()),
        };
        let answer = Answer::json(201, &json!(rows));
        let of_text = || sent.hash.unwrap_or_else(|| hash(&json!(rows).to_string()));
        let hash = (!rows.is_empty()).then(of_text);
        self.load(hash, rows);
        Ok(answer)
    }

    /// Served from now on, on a node that hears of changes.
    fn load(&mut self, hash: Option<String>, mut rows: Rows) {
        let rows_before = self.everything();
        let stored = Kind::ALL.map(|kind| (kind, rows.remove(kind.name()).unwrap_or_default()));
        let before = std::mem::take(&mut self.database);
        self.database = Database::loaded(stored.into(), &before);
        self.declared = Declared { hash, rows };
        let same = |(one, other): (&Value, &Value)| match (one, other) {
            (Value::Object(one), Value::Object(other)) => is_same(one, other),
            _ => false,
        };
        let rows = self.everything();
        if !rows.keys().eq(rows_before.keys()) || !rows.values().zip(rows_before.values()).all(same)
        {
            self.database.note_change();
        }
    }
}

/// A configuration as it came.
struct Sent {
    config: Object,
    /// Only of a text; Kong makes that of an object from what it has read.
    hash: Option<String>,
}

impl Sent {
    fn of(request: &Request) -> Result<Self, Refusal> {
        let is_json = |header: &str| header.starts_with("application/json");
        let mut body = Object::new();
        if request.header("content-type").is_some_and(is_json) {
            body = match serde_json::from_slice(&request.body) {
                Ok(Value::Object(body)) => body,
                _ => return Err(Refusal::plain(400, "Cannot parse JSON body")),
            };
        }
        if body.contains_key("_format_version") {
            return Ok(Self { config: body, hash: None });
        }
        match body.get("config") {
            Some(Value::String(text)) => Self::of_text(text),
            Some(_) => Err(Refusal::unexpected()),
            None if request.body.is_empty() => {
                Err(Refusal::plain(400, "expected a declarative configuration"))
            }
            None => Self::of_text(&String::from_utf8_lossy(&request.body)),
        }
    }

    /// JSON, or else YAML.
    fn of_text(text: &str) -> Result<Self, Refusal> {
        let hash = Some(hash(text));
        let parsed = match serde_json::from_str(text) {
            Ok(Value::Object(config)) => return Ok(Self { config, hash }),
            _ => yaml::load(text),
        };
        match parsed {
            Ok(Value::Object(config)) => Ok(Self { config, hash }),
            Ok(_) => Err(Invalid::text("expected an object").refusal()),
            Err(error) => Err(Invalid::text(&error).refusal()),
        }
    }
}

/// As Kong's source has it; the recordings do not tell more than that equal texts have equal ones.
fn hash(text: &str) -> String {
    hex::encode(Md5::digest(text))
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| unescape(value))
}

/// A nested configuration on its way to rows.
struct Flattening<'a> {
    rows: Rows,
    /// Ids by entity and name.
    named: BTreeMap<(&'static str, String), String>,
    wrong: Invalid,
    now: i64,
    ids: &'a mut dyn FnMut() -> Uuid,
}

impl<'a> Flattening<'a> {
    fn of(
        config: &Object,
        enterprise: bool,
        now: i64,
        ids: &'a mut dyn FnMut() -> Uuid,
    ) -> Result<Rows, Invalid> {
        Invalid::check(config, enterprise, now)?;
        let (rows, named, wrong) = (Rows::new(), BTreeMap::new(), Invalid::default());
        let mut flattening = Self { rows, named, wrong, now, ids };
        for entity in entities::all() {
            for (at, item) in elements(config.get(entity)).into_iter().enumerate() {
                flattening.add(entity, at, item);
            }
        }
        flattening.resolve_references();
        if config.get("_transform") != Some(&json!(false)) {
            flattening.hash_passwords();
        }
        if flattening.wrong.is_none() { Ok(flattening.rows) } else { Err(flattening.wrong) }
    }

    /// Adds an object with all that is in it.
    fn add(&mut self, entity: &'static str, at: usize, mut item: Object) -> Object {
        item.remove("_comment");
        item.remove("_ignore");
        let mut row = Object::new();
        let mut inside = Vec::new();
        for (field, value) in item {
            let child = entities::children(entity).find(|(child, _)| *child == field);
            match child {
                Some(child) => inside.push((child, value)),
                None => drop(row.insert(field, value)),
            }
        }
        let mut row = self.completed(entity, row);
        for ((child, field), items) in inside {
            let owner = json!({ "id": row["id"] });
            let mut added = Vec::new();
            for (at, mut item) in elements(Some(&items)).into_iter().enumerate() {
                item.insert(field.to_owned(), owner.clone());
                if child == Kind::Snis.name() && !item.contains_key("id") {
                    item.insert("id".to_owned(), json!((self.ids)().to_string()));
                }
                let mut row = self.add(child, at, item);
                row.extend([
                    ("_comment".to_owned(), json!(null)),
                    ("_ignore".to_owned(), json!(null)),
                ]);
                added.push(row);
            }
            if child == Kind::Snis.name() && !added.is_empty() {
                row.insert(child.to_owned(), json!(added));
            }
        }
        self.keep(entity, at, row.clone());
        row
    }

    /// With all fields. The times that came are kept, and so goes an export round unchanged.
    fn completed(&mut self, entity: &str, mut row: Object) -> Object {
        let kind = Kind::named(entity);
        if row.get("id").is_none_or(Value::is_null) && kind.is_none_or(|kind| kind == Kind::Snis) {
            row.insert("id".to_owned(), json!(entities::made_id(entity, &row).to_string()));
        }
        for (field, _) in entities::references(entity) {
            if let Some(Value::Object(reference)) = row.get_mut(*field) {
                reference.retain(|key, _| key == "id");
            }
        }
        let Some(kind) = kind else {
            return entities::with_defaults(entity, row, self.now);
        };
        let updated = row.get("updated_at").filter(|at| !at.is_null()).cloned();
        as_list(&mut row, "tags");
        let mut row = schema::completed(kind, row, self.now, self.ids);
        if let Some(updated) = updated {
            row.insert("updated_at".to_owned(), updated);
        }
        row
    }

    fn keep(&mut self, entity: &'static str, at: usize, row: Object) {
        let id = row["id"].as_str().unwrap_or_default().to_owned();
        if let Some((field, key)) = entities::own_key(entity, &row)
            && self.named.insert((entity, key.to_owned()), id.clone()).is_some()
        {
            return self.wrong.add_twice(entity, at, field, key);
        }
        let rows = self.rows.entry(entity.to_owned()).or_default();
        if rows.contains_key(&id) {
            return self.wrong.add_twice(entity, at, "primary key", &id);
        }
        rows.insert(id, row);
    }

    /// What is referred to by name is by its id then.
    fn resolve_references(&mut self) {
        let mut resolved = self.rows.clone();
        for entity in entities::all() {
            for (id, row) in self.rows.get(entity).into_iter().flatten() {
                for (field, to) in entities::references(entity) {
                    let Some(value) = row.get(*field).filter(|value| !value.is_null()) else {
                        continue;
                    };
                    let key = value.get("id").unwrap_or(value).as_str().unwrap_or_default();
                    let known = self.rows.get(*to).is_some_and(|rows| rows.contains_key(key));
                    let named = self.named.get(&(*to, key.to_owned()));
                    match named.map(String::as_str).or(known.then_some(key)) {
                        Some(found) => {
                            let row = resolved.get_mut(entity).and_then(|rows| rows.get_mut(id));
                            row.unwrap().insert((*field).to_owned(), json!({ "id": found }));
                        }
                        None => {
                            let at = entities::own_key(entity, row).map_or(&**id, |(_, key)| key);
                            self.wrong.add_reference(entity, at, field, value, to);
                        }
                    }
                }
            }
        }
        self.rows = resolved;
    }

    /// Whatever they are: those of an export are hashed already. Not with Kong's hash.
    fn hash_passwords(&mut self) {
        let credentials = self.rows.get_mut("basicauth_credentials");
        for row in credentials.into_iter().flat_map(BTreeMap::values_mut) {
            let text = |field: &str| row.get(field).map(ToString::to_string).unwrap_or_default();
            let hashed = hash(&format!("{}{}", text("password"), text("consumer")));
            row.insert("password".to_owned(), json!(hashed));
        }
    }
}

/// Lua has one empty table for lists and mappings.
pub(super) fn as_list(row: &mut Object, field: &str) {
    if let Some(value) = row.get_mut(field)
        && value.as_object().is_some_and(serde_json::Map::is_empty)
    {
        *value = json!([]);
    }
}

/// The objects of a list that was checked.
fn elements(list: Option<&Value>) -> Vec<Object> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_object).cloned().collect()
}
