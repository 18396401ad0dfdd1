//! `/certificates`: rows and the names that belong to them, in the order in which Kong does it
//! (`kong/api/routes/certificates.lua`, `kong/db/dao/certificates.lua`).

use serde_json::{Value, json};

use super::exchange::{Answer, Request};
use super::page::Query;
use super::refusal::{Refusal, Violations};
use super::schema::{self, Kind, Object};
use super::{KongModel, Moment, sni};

/// What a path under `/certificates` names.
struct Addressed {
    id: String,
    /// The SNI, where it was one.
    name: Option<String>,
}

impl KongModel {
    pub(super) fn certificate(
        &mut self,
        key: &str,
        method: &str,
        mut sent: Object,
        request: &Request,
    ) -> Result<Answer, Refusal> {
        let Addressed { id, name } = self.addressed(key, method)?;
        match method {
            "GET" => Ok(Answer::json(200, &self.stored_certificate(&id)?)),
            "DELETE" => self.delete_certificate(&id),
            "PATCH" => {
                as_list(&mut sent);
                self.patch_certificate(&id, sent, request)
            }
            _ => {
                as_list(&mut sent);
                with_own_name(&mut sent, name);
                self.put_certificate(&id, sent, request)
            }
        }
    }

    pub(super) fn snis_of(
        &mut self,
        key: &str,
        method: &str,
        query: &Query,
        mut sent: Object,
    ) -> Result<Answer, Refusal> {
        let Addressed { id, .. } = self.addressed(key, method)?;
        if self.database.row(Kind::Certificates, &id).is_none() {
            return Err(Refusal::plain(404, "Not found"));
        }
        if method == "POST" {
            sent.insert("certificate".to_owned(), json!({ "id": id }));
            let row = self.insert(Kind::Snis, sent)?;
            return Ok(Answer::json(201, &Value::Object(row)));
        }
        let path = format!("/certificates/{id}/snis");
        let (rows, next) = query.page(&path, self.database.snis_of(&id))?;
        let data: Vec<Value> = rows.into_iter().cloned().map(Value::Object).collect();
        Ok(Answer::json(200, &next.body(&data)))
    }

    /// Checks the names first, stores the row, then the names: a race for a name is lost only
    /// then, and leaves the row without it.
    pub(super) fn create_certificate(
        &mut self,
        sent: Object,
        request: &Request,
    ) -> Result<Object, Refusal> {
        let names = self.wanted_names(&sent, None)?;
        self.run_hook(Moment::Amid, request);
        let row = self.insert(Kind::Certificates, sent)?;
        self.add_names(&row, &names.unwrap_or_default())?;
        Ok(row)
    }

    /// By id, or by the name of one of its SNIs. A `PUT` to any other name makes a certificate.
    fn addressed(&mut self, key: &str, method: &str) -> Result<Addressed, Refusal> {
        if schema::is_uuid(key) {
            return Ok(Addressed { id: key.to_ascii_lowercase(), name: None });
        }
        sni::check(key).map_err(|words| Refusal::invalid_name(&words))?;
        let id = match (self.database.owner(key), method) {
            (Some(id), _) => id.to_owned(),
            (None, "PUT") => self.new_id(),
            (None, _) => return Err(Refusal::plain(404, "SNI not found")),
        };
        let name = Some(key.to_owned());
        Ok(Addressed { id, name })
    }

    /// Without names it takes all names away.
    fn put_certificate(
        &mut self,
        id: &str,
        sent: Object,
        request: &Request,
    ) -> Result<Answer, Refusal> {
        let names = self.wanted_names(&sent, Some(id))?;
        self.run_hook(Moment::Amid, request);
        let row = self.upsert(Kind::Certificates, id, sent)?;
        self.replace_names(&row, &names.unwrap_or_default())?;
        Ok(Answer::json(200, &self.shown(Kind::Certificates, &row)))
    }

    fn patch_certificate(
        &mut self,
        id: &str,
        sent: Object,
        request: &Request,
    ) -> Result<Answer, Refusal> {
        let names = self.wanted_names(&sent, Some(id))?;
        self.run_hook(Moment::Amid, request);
        let stored = self.database.row(Kind::Certificates, id).cloned();
        let stored = stored.ok_or_else(|| Refusal::not_found("id", id))?;
        let row = self.update(Kind::Certificates, stored, sent)?;
        if let Some(names) = names {
            self.replace_names(&row, &names)?;
        }
        Ok(Answer::json(200, &self.shown(Kind::Certificates, &row)))
    }

    /// The names go first, then the row.
    fn delete_certificate(&mut self, id: &str) -> Result<Answer, Refusal> {
        let names: Vec<Object> = self.database.snis_of(id).cloned().collect();
        if !names.is_empty() {
            self.writable("remove 'snis' entities by 'name'")?;
        }
        for row in &names {
            self.remove(Kind::Snis, row)?;
        }
        if let Some(row) = self.database.row(Kind::Certificates, id).cloned() {
            self.remove(Kind::Certificates, &row)?;
        }
        Ok(Answer::empty(204))
    }

    fn stored_certificate(&self, id: &str) -> Result<Value, Refusal> {
        let row = self.database.row(Kind::Certificates, id);
        let row = row.ok_or_else(|| Refusal::not_found("id", id))?;
        Ok(self.shown(Kind::Certificates, row))
    }

    /// The names that were sent, none of them twice or another certificate's; `None` where the
    /// request says nothing of names.
    fn wanted_names(
        &self,
        sent: &Object,
        id: Option<&str>,
    ) -> Result<Option<Vec<String>>, Refusal> {
        let mut names: Vec<String> = match sent.get("snis") {
            Some(Value::Null) => Vec::new(),
            Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
                list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => return Ok(None),
        };
        refuse_twice(&names)?;
        names.sort();
        for name in &names {
            self.refuse_taken(name, id)?;
        }
        Ok(Some(names))
    }

    fn refuse_taken(&self, name: &str, id: Option<&str>) -> Result<(), Refusal> {
        sni::check(name).map_err(|words| Refusal::invalid_name(&words))?;
        match self.database.owner(name) {
            Some(owner) if Some(owner) != id => {
                let words =
                    format!("{name} already associated with existing certificate '{owner}'");
                Err(Refusal::schema(&Violations::of("snis", &words)))
            }
            _ => Ok(()),
        }
    }

    /// New names are added, then those not wanted any more are dropped; the rows of names that
    /// stay are not touched.
    fn replace_names(&mut self, certificate: &Object, names: &[String]) -> Result<(), Refusal> {
        let id = certificate["id"].as_str().unwrap_or_default();
        let before: Vec<Object> = self.database.snis_of(id).cloned().collect();
        let is_new = |name: &&String| before.iter().all(|row| row["name"] != ***name);
        let new: Vec<String> = names.iter().filter(is_new).cloned().collect();
        self.add_names(certificate, &new)?;
        for row in before.iter().filter(|row| names.iter().all(|name| row["name"] != *name)) {
            self.remove(Kind::Snis, row)?;
        }
        Ok(())
    }

    fn add_names(&mut self, certificate: &Object, names: &[String]) -> Result<(), Refusal> {
        for name in names {
            let mut row = Object::new();
            row.insert("name".to_owned(), json!(name));
            row.insert("certificate".to_owned(), json!({ "id": certificate["id"] }));
            self.insert(Kind::Snis, row)?;
        }
        Ok(())
    }
}

/// One name may stand for a list of it.
fn as_list(sent: &mut Object) {
    if let Some(name @ Value::String(_)) = sent.get_mut("snis") {
        *name = json!([name]);
    }
}

/// A `PUT` to an SNI keeps that SNI, if the request has names at all.
fn with_own_name(sent: &mut Object, own: Option<String>) {
    if let (Some(own), Some(Value::Array(names))) = (own, sent.get_mut("snis"))
        && !names.contains(&json!(own))
    {
        names.push(json!(own));
    }
}

fn refuse_twice(names: &[String]) -> Result<(), Refusal> {
    for (at, name) in names.iter().enumerate() {
        if names[..at].contains(name) {
            let words = format!("{name} is duplicated");
            return Err(Refusal::schema(&Violations::of("snis", &words)));
        }
    }
    Ok(())
}
