//! Services and plugins: lists of what a test put in or a configuration brought, and that a CA
//! certificate stays while one of them names it (`kong/db/dao/ca_certificates.lua`).
//!
//! Not recorded. Not modelled: which plugins have CA certificates; here any does that names some.

use serde_json::Value;

use super::exchange::Answer;
use super::page::Query;
use super::refusal::Refusal;
use super::schema::Object;
use super::{KongModel, entities};

impl KongModel {
    /// Stores an object such as a service or a plugin, with the id, the times and the defaults that
    /// it lacks, and without a look at it; the node's hash of its configuration stays. Panics if it
    /// is no object, or of a kind that is unknown or has routes to write it.
    pub fn insert_raw(&mut self, entity: &str, object: Value) {
        assert!(entities::is_other(entity), "{entity}");
        let Value::Object(mut row) = object else { panic!("no object: {entity}") };
        let made = || entities::made_id(entity, &row).to_string();
        let id = row.get("id").cloned().unwrap_or_else(|| made().into());
        row.insert("id".to_owned(), id);
        self.declared.insert(entity, entities::with_defaults(entity, row, self.now));
    }

    pub(super) fn list_others(&self, entity: &str, query: &Query) -> Result<Answer, Refusal> {
        let (rows, next) = query.page(&format!("/{entity}"), self.declared.rows(entity))?;
        let data: Vec<Value> = rows.into_iter().cloned().map(Value::Object).collect();
        Ok(Answer::json(200, &next.body(&data)))
    }

    /// Services are looked at first, and one is told.
    pub(super) fn refuse_referred_to(&self, ca: &str) -> Result<(), Refusal> {
        let of_service = |row: &Object| names(row.get("ca_certificates"), ca);
        let of_plugin = |row: &Object| {
            names(row.get("config").and_then(|config| config.get("ca_certificates")), ca)
        };
        let service = self.declared.rows("services").find(|row| of_service(row));
        let plugin = || self.declared.rows("plugins").find(|row| of_plugin(row));
        let found = service.map(|row| ("services", row));
        match found.or_else(|| plugin().map(|row| ("plugins", row))) {
            Some((entity, row)) => {
                Err(Refusal::referred_to(ca, entity, row["id"].as_str().unwrap_or_default()))
            }
            None => Ok(()),
        }
    }
}

fn names(ids: Option<&Value>, ca: &str) -> bool {
    ids.and_then(Value::as_array).is_some_and(|ids| ids.iter().any(|id| id == ca))
}
