//! Kong's rules without sockets: what the Admin API of Kong 3.9.3 answers, and what its proxy port
//! serves. Held to the recordings in `tests/data/kong-contract`; where these are silent, to the
//! source of that version.
//!
//! Licences are Enterprise's and were not recorded: what is modelled of them is what Kong documents.
//!
//! Not modelled: forms as request bodies (415), workspaces, and other objects than these, except as
//! a part of `/config` and in the lists of services and plugins.

mod certificates;
mod database;
mod declarative;
mod entities;
mod exchange;
mod export;
mod invalid;
mod neighbour;
mod node;
mod openssl;
mod others;
mod page;
mod refusal;
mod route;
mod schema;
mod serving;
mod sni;
mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::pki::CertifiedPair;
use database::{CacheKey, Database};
use declarative::Declared;
pub use exchange::{Answer, Request};
pub use neighbour::Neighbour;
use page::Query;
use refusal::Refusal;
use route::Route;
use schema::{Kind, Object};
use serving::{Cache, Instead};
pub use serving::{Offers, Serving};
pub use yaml::load as read_yaml;

/// Larger bodies are refused by nginx, by default (`client_max_body_size` of the Admin API).
const LARGEST_BODY: usize = 10 * 1024 * 1024;
/// The moment of the recordings; a model's clock stands there until it is set.
const RECORDED: i64 = 1_795_324_280;

/// A Kong in memory: one node, its database, and the certificates it serves.
pub struct KongModel {
    database: Database,
    database_down: bool,
    dbless: bool,
    enterprise: bool,
    workspace: Option<String>,
    withheld: Vec<(&'static str, &'static str)>,
    declared: Declared,
    cache: Cache,
    /// All that nodes can hear of, from the beginning.
    changes: Vec<CacheKey>,
    default: Arc<CertifiedKey>,
    instead: Instead,
    root: Value,
    largest_body: usize,
    now: i64,
    requests: Vec<Seen>,
    writes: u64,
    hooks: Vec<Hook>,
    ids: Box<dyn FnMut() -> Uuid + Send>,
}

/// A request that reached Kong. Never its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// In capitals.
    pub method: String,
    /// With the query.
    pub path: String,
    /// What Kong answered.
    pub status: u16,
    /// What it did to what is stored.
    pub effect: Effect,
}

/// What a request did to what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing was written.
    None,
    /// What was stored already was stored again: no field is another but `updated_at`.
    Same,
    /// Something is another than before.
    Change,
}

impl Default for KongModel {
    fn default() -> Self {
        Self::new()
    }
}

impl KongModel {
    /// A Kong on an empty database, with a self-signed default certificate.
    #[must_use]
    pub fn new() -> Self {
        Self {
            database: Database::default(),
            database_down: false,
            dbless: false,
            enterprise: false,
            workspace: None,
            withheld: Vec::new(),
            declared: Declared::default(),
            cache: Cache::default(),
            changes: Vec::new(),
            default: serving::self_signed(),
            instead: Instead::default(),
            root: node::root(),
            largest_body: LARGEST_BODY,
            now: RECORDED,
            requests: Vec::new(),
            writes: 0,
            hooks: Vec::new(),
            ids: Box::new(Uuid::new_v4),
        }
    }

    /// A Kong without a database, and with an empty configuration: it is written by `POST /config`.
    #[must_use]
    pub fn without_database() -> Self {
        let mut kong = Self::new();
        kong.dbless(true);
        kong
    }

    /// What the Admin API answers.
    pub fn answer(&mut self, request: &Request) -> Answer {
        self.run_hook(Moment::Before, request);
        let before = (self.database.rows_written(), self.database.rows_changed());
        let answer = self.dispatch(request).unwrap_or_else(|refusal| refusal.answer());
        let changes = self.database.take_changes();
        self.changes.extend(changes.iter().cloned());
        self.cache.hear(changes);
        let effect = match (self.database.rows_written(), self.database.rows_changed()) {
            (written, _) if written == before.0 => Effect::None,
            (_, changed) if changed == before.1 => Effect::Same,
            _ => Effect::Change,
        };
        self.writes += u64::from(effect != Effect::None);
        self.requests.push(Seen {
            method: request.method.clone(),
            path: request.path.clone(),
            status: answer.status,
            effect,
        });
        answer
    }

    /// What a handshake with the proxy port gets. Fills the node's cache, as a handshake does.
    pub fn chain_for(&mut self, sni: Option<&str>, offers: Offers) -> Serving {
        if let Some(pair) = sni.and_then(|sni| self.instead.pair_for(sni)) {
            return Serving::Certified(pair);
        }
        let database = (!self.database_down).then_some(&self.database);
        match sni {
            Some(sni) => self.cache.serve(sni, offers, database, &self.default),
            None => Serving::Certified(Arc::clone(&self.default)),
        }
    }

    /// The DER of the chain of `kong.conf`: for clients without SNI, and for unknown names.
    #[must_use]
    pub fn default_chain(&self) -> Vec<Vec<u8>> {
        self.default.cert.iter().map(|der| der.to_vec()).collect()
    }

    /// Replaces the pair of `kong.conf`. Panics where Kong would not start with it.
    pub fn set_default_pair(&mut self, cert: &str, key: &str) {
        self.default = openssl::served(cert, key).unwrap();
    }

    /// Handshakes for `sni` get this pair, whatever is stored; `None` takes it off. `*.b.test` is
    /// any one label beneath `b.test`, `a.b.test` goes before it. Panics where Kong would not serve
    /// the pair.
    pub fn serve_instead(&mut self, sni: &str, pair: Option<&CertifiedPair>) {
        let served = |pair: &CertifiedPair| openssl::served(&pair.chain_pem(), &pair.key_pem());
        self.instead.set(sni, pair.map(|pair| served(pair).unwrap()));
    }

    /// Sets Kong's clock, in Unix seconds. It stands still otherwise.
    pub fn set_now(&mut self, seconds: i64) {
        self.now = seconds;
    }

    /// Where the ids come from that Kong makes; random (v4) otherwise. Lists go by them.
    pub fn set_ids(&mut self, ids: impl FnMut() -> Uuid + Send + 'static) {
        self.ids = Box::new(ids);
    }

    /// What `GET /` answers, to be changed at will.
    pub fn root_mut(&mut self) -> &mut Value {
        &mut self.root
    }

    /// Tells a TLS proxy port in `GET /`, and no other.
    pub fn set_proxy_listener(&mut self, ip: &str, port: u16) {
        self.root["configuration"]["proxy_listeners"] = json!([node::tls_listener(ip, port)]);
    }

    /// Tells of the first proxy port in `GET /` whether it demands a PROXY header. Panics where
    /// none is told.
    pub fn set_proxy_protocol(&mut self, demand: bool) {
        node::set_proxy_protocol(&mut self.root["configuration"]["proxy_listeners"][0], demand);
    }

    /// Tells in `GET /` how often a node asks for changes (`db_update_frequency`), and how much
    /// later it asks what changed (`db_update_propagation`): numbers of seconds.
    pub fn set_db_update(&mut self, frequency: impl Into<Value>, propagation: impl Into<Value>) {
        let configuration = &mut self.root["configuration"];
        configuration["db_update_frequency"] = frequency.into();
        configuration["db_update_propagation"] = propagation.into();
    }

    /// Takes bodies of so many bytes (`nginx_admin_client_max_body_size`).
    pub fn set_largest_body(&mut self, bytes: usize) {
        self.largest_body = bytes;
    }

    /// Every request answered, in order.
    #[must_use]
    pub fn requests(&self) -> &[Seen] {
        &self.requests
    }

    /// Forgets the requests so far: a run without end would fill memory with them.
    pub fn forget_requests(&mut self) {
        self.requests = Vec::new();
    }

    /// How many requests wrote to the database.
    #[must_use]
    pub const fn writes(&self) -> u64 {
        self.writes
    }

    /// All that is stored: each row, by its kind and id.
    #[must_use]
    pub fn everything(&self) -> BTreeMap<String, Value> {
        let own = Kind::ALL
            .into_iter()
            .flat_map(|kind| self.database.rows(kind).map(move |row| (kind.name(), row)));
        let rows = own.chain(self.declared.all());
        rows.map(|(kind, row)| {
            let id = row["id"].as_str().unwrap_or_default();
            (format!("{kind}/{id}"), Value::Object(row.clone()))
        })
        .collect()
    }

    /// How many changes of rows there were of which nodes can hear.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.changes.len()
    }

    /// What another client of the same Kong does: not in [`Self::requests`] or [`Self::writes`].
    pub fn elsewhere<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        let (requests, writes) = (self.requests.len(), self.writes);
        let done = act(self);
        self.requests.truncate(requests);
        self.writes = writes;
        done
    }

    /// Lets another client act just before the next such request is looked at.
    pub fn before_next(&mut self, method: &str, path_prefix: &str, act: impl Act) {
        self.hooks.push(Hook::new(Moment::Before, method, path_prefix, act));
    }

    /// Lets another client act in the middle of the next such write of a certificate: the names
    /// were found free, and are not stored yet. A race for a name is lost with 409 there.
    pub fn amid_next(&mut self, method: &str, path_prefix: &str, act: impl Act) {
        self.hooks.push(Hook::new(Moment::Amid, method, path_prefix, act));
    }

    /// Empties the database, as if it were restored from before we came; the node hears of it.
    /// Without a database: as if it were started in an empty prefix.
    pub fn forget_everything(&mut self) {
        self.database = Database::default();
        self.declared = Declared::default();
        self.cache.purge();
    }

    /// Takes the database away, or gives it back.
    pub fn database_down(&mut self, down: bool) {
        self.database_down = down;
    }

    /// Makes it a Kong without a database: what is stored can be read, and only be written as a
    /// whole, by `POST /config`.
    pub fn dbless(&mut self, dbless: bool) {
        self.dbless = dbless;
        let database = if dbless { "off" } else { "postgres" };
        self.root["configuration"]["database"] = json!(database);
    }

    /// Makes it Kong Enterprise, or Kong OSS again, which knows no licences.
    pub fn enterprise(&mut self, enterprise: bool) {
        self.enterprise = enterprise;
        self.root["edition"] = json!(if enterprise { "enterprise" } else { "community" });
    }

    /// Makes it Kong Enterprise with a workspace, whose name may stand before any path. Not recorded;
    /// what belongs to another workspace is not modelled.
    pub fn workspace(&mut self, name: &str) {
        self.enterprise(true);
        self.workspace = Some(name.to_owned());
    }

    /// Takes the right to `create`, `read`, `update` or `delete` at this path, and no other, as RBAC
    /// of Kong Enterprise does. Not recorded: what Kong documents.
    pub fn withhold(&mut self, action: &'static str, path: &'static str) {
        self.withheld.push((action, path));
    }

    fn may(&self, method: &str, path: &str) -> Result<(), Refusal> {
        let action = match method {
            "POST" => "create",
            "PUT" | "PATCH" => "update",
            "DELETE" => "delete",
            _ => "read",
        };
        if !self.withheld.contains(&(action, path)) {
            return Ok(());
        }
        let words = format!("kong, you do not have permissions to {action} this resource");
        Err(Refusal::plain(403, &words))
    }

    fn without_workspace<'a>(&self, path: &'a str) -> &'a str {
        let beneath = self
            .workspace
            .as_ref()
            .and_then(|name| path.strip_prefix('/')?.strip_prefix(name.as_str()));
        beneath.filter(|rest| rest.starts_with('/')).unwrap_or(path)
    }

    /// The proxy port goes on serving what is stored now, as a node that has not heard yet.
    pub fn freeze_serving(&mut self) {
        self.cache.freeze(&self.database);
    }

    /// The proxy port serves what is stored again.
    pub fn catch_up(&mut self) {
        self.cache.catch_up();
    }

    /// The node never hears of the next `writes`: what it has cached stays, until a later write to
    /// the same row.
    pub fn miss_changes(&mut self, writes: u32) {
        self.cache.miss(writes);
    }

    fn dispatch(&mut self, request: &Request) -> Result<Answer, Refusal> {
        if request.body.len() > self.largest_body {
            let page = Answer::page("413 Request Entity Too Large");
            return Ok(page.without_header("access-control-allow-origin"));
        }
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let path = self.without_workspace(path);
        self.may(&request.method, path)?;
        let route = Route::of(path).filter(|route| route.kind().is_none_or(|kind| self.has(kind)));
        let route = route.ok_or_else(|| Refusal::plain(404, "Not found"))?;
        if !takes_content(request, &route) {
            return Ok(Answer::page("415 Unsupported Media Type"));
        }
        if !route.allows(&request.method) {
            return Err(Refusal::plain(405, "Method not allowed"));
        }
        let sent = sent_object(request, &route)?;
        match request.method.as_str() {
            "OPTIONS" => Ok(Answer::empty(204).with_header("allow", route.methods())),
            "HEAD" => self.run(&route, "GET", &Query::parse(query), sent, request),
            method => self.run(&route, method, &Query::parse(query), sent, request),
        }
    }

    fn run(
        &mut self,
        route: &Route,
        method: &str,
        query: &Query,
        sent: Object,
        request: &Request,
    ) -> Result<Answer, Refusal> {
        match route {
            Route::Root if self.database_down => {
                Err(Refusal::plain(500, "An unexpected error happened"))
            }
            Route::Root => Ok(Answer::json(200, &self.root)),
            Route::Status => Ok(Answer::json(200, &self.status())),
            Route::Config => self.config(method, request),
            Route::Cache => {
                self.cache.purge();
                Ok(Answer::empty(204))
            }
            Route::CacheKey(key) if method == "DELETE" => {
                let database = (!self.database_down).then_some(&self.database);
                if let Some(name) = key.strip_prefix("snis:") {
                    self.cache.drop_sni(name, database);
                }
                Ok(Answer::empty(204))
            }
            Route::CacheKey(_) => Err(Refusal::plain(404, "Not found")),
            Route::Validate(name) => self.validate(name, sent),
            _ if self.database_down => Err(Refusal::unexpected()),
            Route::List(kind) if method == "POST" => self.create(*kind, sent, request),
            Route::List(kind) => self.list(*kind, query),
            Route::Others(entity) => self.list_others(entity, query),
            Route::SnisOf(key) => self.snis_of(key, method, query, sent),
            Route::One(Kind::Certificates, key) => self.certificate(key, method, sent, request),
            Route::One(kind, key) => self.object(*kind, key, method, sent),
        }
    }

    fn status(&self) -> Value {
        if self.dbless {
            return node::status("configuration_hash", &json!(self.configuration_hash()));
        }
        node::status("database", &json!({ "reachable": !self.database_down }))
    }

    fn has(&self, kind: Kind) -> bool {
        kind != Kind::Licenses || self.enterprise
    }

    /// Looks at the object alone, not at what is stored.
    fn validate(&mut self, name: &str, sent: Object) -> Result<Answer, Refusal> {
        let kind = Kind::named(name)
            .filter(|kind| self.has(*kind))
            .ok_or_else(|| Refusal::plain(404, &format!("No entity named '{name}'")))?;
        schema::check(kind, &self.completed(kind, sent), self.now)?;
        Ok(Answer::message(200, "schema validation successful"))
    }

    fn list(&self, kind: Kind, query: &Query) -> Result<Answer, Refusal> {
        let path = format!("/{}", kind.name());
        let (rows, next) = query.page(&path, self.database.rows(kind))?;
        let data: Vec<Value> = rows.into_iter().map(|row| self.shown(kind, row)).collect();
        Ok(Answer::json(200, &next.body(&data)))
    }

    fn create(&mut self, kind: Kind, sent: Object, request: &Request) -> Result<Answer, Refusal> {
        let row = match kind {
            Kind::Certificates => self.create_certificate(sent, request)?,
            Kind::Snis | Kind::CaCertificates | Kind::Licenses => self.insert(kind, sent)?,
        };
        Ok(Answer::json(201, &self.shown(kind, &row)))
    }

    /// All but certificates, by id; SNIs by their name, too.
    fn object(
        &mut self,
        kind: Kind,
        key: &str,
        method: &str,
        mut sent: Object,
    ) -> Result<Answer, Refusal> {
        let by_name = kind == Kind::Snis && !schema::is_uuid(key);
        if by_name {
            sni::check(key).map_err(|words| Refusal::invalid_name(&words))?;
        } else if !schema::is_uuid(key) {
            return Err(Refusal::invalid_id());
        }
        let field = if by_name { "name" } else { "id" };
        let stored = self.find(kind, key).cloned();
        match (method, stored) {
            ("GET", Some(row)) => Ok(Answer::json(200, &self.shown(kind, &row))),
            ("GET", None) => Err(Refusal::plain(404, "Not found")),
            ("DELETE", stored) => {
                if let Some(row) = stored {
                    self.remove(kind, &row)?;
                }
                Ok(Answer::empty(204))
            }
            ("PATCH", Some(row)) => {
                let row = self.update(kind, row, sent)?;
                Ok(Answer::json(200, &self.shown(kind, &row)))
            }
            ("PATCH", None) => Err(Refusal::not_found(field, key)),
            (_, stored) => {
                let id = match stored {
                    Some(row) => row["id"].as_str().unwrap_or_default().to_owned(),
                    None if by_name => self.new_id(),
                    None => key.to_ascii_lowercase(),
                };
                if by_name {
                    sent.insert(field.to_owned(), json!(key));
                }
                let row = self.upsert(kind, &id, sent)?;
                Ok(Answer::json(200, &self.shown(kind, &row)))
            }
        }
    }

    fn find(&self, kind: Kind, key: &str) -> Option<&Object> {
        if schema::is_uuid(key) {
            return self.database.row(kind, &key.to_ascii_lowercase());
        }
        self.database.sni(key).filter(|_| kind == Kind::Snis)
    }

    fn insert(&mut self, kind: Kind, sent: Object) -> Result<Object, Refusal> {
        let row = self.completed(kind, sent);
        // Postgres writes UUIDs in lower case.
        let id = row["id"].as_str().unwrap_or_default().to_ascii_lowercase();
        if self.database.row(kind, &id).is_some() {
            schema::check(kind, &row, self.now)?;
            return Err(Refusal::primary_key_taken(&id));
        }
        self.checked_store(kind, &id, row, "create")
    }

    fn update(&mut self, kind: Kind, stored: Object, sent: Object) -> Result<Object, Refusal> {
        let id = stored["id"].as_str().unwrap_or_default().to_owned();
        self.checked_store(kind, &id, schema::merged(stored, sent, self.now), "update")
    }

    fn upsert(&mut self, kind: Kind, id: &str, sent: Object) -> Result<Object, Refusal> {
        let row = self.completed(kind, sent);
        self.checked_store(kind, id, row, "create or update")
    }

    fn completed(&mut self, kind: Kind, sent: Object) -> Object {
        schema::completed(kind, sent, self.now, &mut self.ids)
    }

    fn new_id(&mut self) -> String {
        (self.ids)().to_string()
    }

    /// Stores `row` under `id`, whichever id it was sent with. The names of a certificate are
    /// checked with it and not stored in it.
    fn checked_store(
        &mut self,
        kind: Kind,
        id: &str,
        mut row: Object,
        verb: &str,
    ) -> Result<Object, Refusal> {
        schema::check(kind, &row, self.now)?;
        self.writable(&format!("{verb} '{}' entities", kind.name()))?;
        row.insert("id".to_owned(), json!(id));
        row.remove("snis");
        self.database.store(kind, row)
    }

    fn remove(&mut self, kind: Kind, row: &Object) -> Result<(), Refusal> {
        self.writable(&format!("remove '{}' entities", kind.name()))?;
        let id = row["id"].as_str().unwrap_or_default();
        if kind == Kind::CaCertificates {
            self.refuse_referred_to(id)?;
        }
        self.database.remove(kind, id);
        Ok(())
    }

    fn writable(&self, what: &str) -> Result<(), Refusal> {
        if self.dbless { Err(Refusal::unsupported(what)) } else { Ok(()) }
    }

    /// A row as it is answered: certificates with the names that belong to them.
    fn shown(&self, kind: Kind, row: &Object) -> Value {
        let mut row = row.clone();
        if kind == Kind::Certificates {
            let names = self.database.names_of(row["id"].as_str().unwrap_or_default());
            row.insert("snis".to_owned(), json!(names));
        }
        Value::Object(row)
    }

    fn run_hook(&mut self, moment: Moment, request: &Request) {
        let due = |hook: &Hook| hook.is_due(moment, request);
        if let Some(at) = self.hooks.iter().position(due) {
            let hook = self.hooks.remove(at);
            self.elsewhere(hook.act);
        }
    }
}

impl fmt::Debug for KongModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KongModel").field("requests", &self.requests).finish_non_exhaustive()
    }
}

/// What another client does at a moment that a test chose.
pub trait Act: FnOnce(&mut KongModel) + Send + 'static {}
impl<F: FnOnce(&mut KongModel) + Send + 'static> Act for F {}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    Before,
    Amid,
}

struct Hook {
    moment: Moment,
    method: String,
    path_prefix: String,
    act: Box<dyn FnOnce(&mut KongModel) + Send>,
}

impl Hook {
    fn new(moment: Moment, method: &str, path_prefix: &str, act: impl Act) -> Self {
        let (method, path_prefix) = (method.to_owned(), path_prefix.to_owned());
        Self { moment, method, path_prefix, act: Box::new(act) }
    }

    fn is_due(&self, moment: Moment, request: &Request) -> bool {
        self.moment == moment
            && self.method == request.method
            && request.path.starts_with(&self.path_prefix)
    }
}

/// Kong asks for JSON wherever it reads a body; a configuration may be YAML.
fn takes_content(request: &Request, route: &Route) -> bool {
    if !reads_body(request) {
        return true;
    }
    match request.header("content-type") {
        Some(content_type) => {
            let is_yaml = *route == Route::Config && content_type.starts_with("text/yaml");
            is_yaml || content_type.starts_with("application/json")
        }
        None => request.body.is_empty(),
    }
}

fn reads_body(request: &Request) -> bool {
    matches!(request.method.as_str(), "PUT" | "POST" | "PATCH")
}

/// A configuration is read where it is used.
fn sent_object(request: &Request, route: &Route) -> Result<Object, Refusal> {
    if *route == Route::Config || !reads_body(request) || request.header("content-type").is_none() {
        return Ok(Object::new());
    }
    match serde_json::from_slice(&request.body) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(Refusal::plain(400, "Cannot parse JSON body")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "/certificates/11111111-1111-4111-8111-111111111111";
    const TWO: &str = "/certificates/22222222-2222-4222-8222-222222222222";

    fn pem(file: &str) -> String {
        let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/kong-contract/pem");
        std::fs::read_to_string(format!("{data}/{file}")).unwrap()
    }

    /// A body with the pair NAME.crt and NAME.key.
    fn pair(name: &str, snis: &[&str]) -> Value {
        let (cert, key) = (pem(&format!("{name}.crt")), pem(&format!("{name}.key")));
        json!({ "cert": cert, "key": key, "snis": snis })
    }

    fn with(mut body: Value, key: &str, value: Value) -> Value {
        body[key] = value;
        body
    }

    impl KongModel {
        fn send(&mut self, method: &str, path: &str, body: &Value) -> Answer {
            self.answer(&Request::json(method, path, body))
        }

        fn ask(&mut self, path: &str) -> Value {
            self.answer(&Request::new("GET", path)).value()
        }

        /// The file whose leaf is served.
        fn served(&mut self, sni: &str) -> String {
            let Some(chain) = self.chain_for(Some(sni), Offers::ALL).chain() else {
                return "broken".to_owned();
            };
            let same = |name: &&str| leaf(&pem(&format!("{name}.crt"))) == chain[0];
            let known = ["a", "a2", "b", "ec"].into_iter().find(same);
            known.unwrap_or("default").to_owned()
        }
    }

    fn leaf(pem: &str) -> Vec<u8> {
        rustls_pemfile::certs(&mut pem.as_bytes()).next().unwrap().unwrap().to_vec()
    }

    #[test]
    fn what_is_stored_again_as_it_was_is_no_change() {
        let mut kong = KongModel::new();
        for body in [pair("a", &["a.test"]), json!({})] {
            kong.send("PUT", ONE, &body);
        }
        for (method, path) in [("PUT", ONE), ("PATCH", ONE), ("PATCH", "/snis/a.test")] {
            let body = if method == "PUT" { pair("a", &["a.test"]) } else { json!({}) };
            let created = with(body, "created_at", json!(RECORDED));
            kong.set_now(RECORDED + 1);
            kong.send(method, path, &created);
        }
        kong.send("PATCH", ONE, &json!({ "tags": ["another"] }));
        kong.send("DELETE", ONE, &json!({}));
        let effects: Vec<Effect> = kong.requests().iter().map(|seen| seen.effect).collect();
        let (none, same, change) = (Effect::None, Effect::Same, Effect::Change);
        assert_eq!(effects, [change, none, same, same, same, change, change]);
        assert_eq!(kong.writes(), 6);

        let mut kong = KongModel::without_database();
        for host in ["one", "one", "two"] {
            let service = json!({ "name": "echo", "host": host });
            let config = json!({ "_format_version": "3.0", "services": [service] });
            kong.send("POST", "/config", &config);
        }
        let effects: Vec<Effect> = kong.requests().iter().map(|seen| seen.effect).collect();
        assert_eq!(effects, [change, same, change]);
    }

    #[test]
    fn a_name_that_stays_keeps_its_row_and_one_that_returns_does_not() {
        let mut kong = KongModel::new();
        kong.send("PUT", ONE, &pair("a", &["stays.test", "returns.test"]));
        for name in ["stays", "returns"] {
            kong.send("PATCH", &format!("/snis/{name}.test"), &json!({ "tags": ["mine"] }));
        }
        let before = (kong.ask("/snis/stays.test"), kong.ask("/snis/returns.test"));
        kong.send("PUT", ONE, &pair("a2", &["stays.test"]));
        kong.send("PUT", ONE, &pair("a2", &["stays.test", "returns.test"]));
        assert_eq!(kong.ask("/snis/stays.test"), before.0);
        let returned = kong.ask("/snis/returns.test");
        assert_eq!(returned["tags"], Value::Null);
        assert_ne!(returned["id"], before.1["id"]);
    }

    #[test]
    fn a_patch_changes_what_it_names_and_null_clears() {
        let mut kong = KongModel::new();
        let dual = with(pair("a", &["a.test"]), "cert_alt", json!(pem("ec.crt")));
        let dual = with(dual, "key_alt", json!(pem("ec.key")));
        kong.send("PUT", ONE, &with(dual, "tags", json!(["x"])));
        let created = kong.ask(ONE)["created_at"].clone();
        kong.set_now(RECORDED + 9);
        let mut pair = pair("a2", &[]);
        pair.as_object_mut().unwrap().remove("snis");
        let patched = kong.send("PATCH", ONE, &pair).value();
        assert_eq!(patched["cert"], json!(pem("a2.crt")));
        assert_eq!(patched["cert_alt"], json!(pem("ec.crt")));
        assert_eq!((&patched["tags"], &patched["snis"]), (&json!(["x"]), &json!(["a.test"])));
        assert_eq!(
            (&patched["created_at"], &patched["updated_at"]),
            (&created, &json!(RECORDED + 9))
        );
        let cleared = json!({ "tags": null, "snis": null, "cert_alt": null, "key_alt": null });
        let patched = kong.send("PATCH", ONE, &cleared).value();
        assert_eq!((&patched["tags"], &patched["snis"]), (&Value::Null, &json!([])));
        assert_eq!((&patched["cert_alt"], &patched["key_alt"]), (&Value::Null, &Value::Null));
        let patched = kong.send("PATCH", ONE, &json!({ "snis": ["b.test", "a.test"] })).value();
        assert_eq!(patched["snis"], json!(["a.test", "b.test"]));
    }

    #[test]
    fn a_patch_is_checked_together_with_what_is_stored() {
        let mut kong = KongModel::new();
        kong.send("PUT", ONE, &pair("a", &[]));
        let answer = kong.send("PATCH", ONE, &json!({ "key": pem("b.key") }));
        assert_eq!(answer.value()["message"], "schema violation (certificate does not match key)");
        let answer = kong.send("PATCH", TWO, &json!({}));
        assert_eq!((answer.status, &answer.value()["code"]), (404, &json!(6)));
    }

    /// Not recorded: `check_insert` and `insert` of `kong/db/dao/init.lua` (an id that is sent is
    /// kept, and a row is never replaced), `toerror` of `kong/db/strategies/postgres/init.lua`, and
    /// `insert` of `kong/db/dao/certificates.lua` with `check_list_is_new` of `kong/db/dao/snis.lua`
    /// (names are looked at first, and no certificate counts as their own), all of 3.9.3.
    #[test]
    fn a_certificate_is_created_under_the_id_that_is_sent_and_never_replaced() {
        let id = "aaaaaaaa-1111-4111-8111-111111111111";
        let sent = |name: &str, snis: &[&str]| with(pair(name, snis), "id", json!(id));
        let mut kong = KongModel::new();
        let created = kong.send("POST", "/certificates", &sent("a", &["a.test"]));
        assert_eq!((created.status, &created.value()["id"]), (201, &json!(id)));
        assert_eq!(created.value()["snis"], json!(["a.test"]));
        let before = kong.everything();
        let own = format!(
            "schema violation (snis: a.test already associated with existing certificate '{id}')"
        );
        let there = format!("primary key violation on key '{{id=\"{id}\"}}'");
        for (body, code, message) in [
            (sent("b", &["a.test"]), 2, &own),
            (sent("a", &["a.test"]), 2, &own),
            (sent("b", &["b.test"]), 3, &there),
            (sent("b", &[]), 3, &there),
            (with(sent("b", &[]), "id", json!(id.to_uppercase())), 3, &there),
        ] {
            let refused = kong.send("POST", "/certificates", &body);
            assert_eq!((refused.status, &refused.value()["code"]), (400, &json!(code)));
            assert_eq!(refused.value()["message"], **message);
        }
        assert_eq!(kong.everything(), before);
    }

    /// `insert` of `kong/db/dao/certificates.lua` stores the row before the names.
    #[test]
    fn one_that_loses_a_name_while_it_is_created_stays_under_its_id_without_names() {
        let id = ONE.strip_prefix("/certificates/").unwrap();
        let mut kong = KongModel::new();
        kong.amid_next("POST", "/certificates", |kong| {
            kong.send("PUT", TWO, &pair("b", &["a.test"]));
        });
        let sent = with(pair("a", &["a.test", "b.test"]), "id", json!(id));
        let lost = kong.send("POST", "/certificates", &sent);
        assert_eq!((lost.status, &lost.value()["code"]), (409, &json!(5)));
        assert_eq!((&kong.ask(ONE)["id"], &kong.ask(ONE)["snis"]), (&json!(id), &json!([])));
    }

    #[test]
    fn a_right_that_is_withheld_is_missed_for_its_action_and_path_alone() {
        let mut kong = KongModel::new();
        kong.withhold("create", "/certificates");
        assert_eq!(kong.send("POST", "/certificates", &pair("a", &[])).status, 403);
        assert_eq!(kong.send("PUT", ONE, &pair("a", &[])).status, 200);
        assert_eq!(kong.ask("/certificates")["data"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_told_in_kongs_words() {
        let a = || pair("a", &[]);
        let ec = || with(a(), "cert_alt", json!(pem("ec.crt")));
        let long = "2 schema violations (all or none of these fields must be set: 'cert_alt', \
            'key_alt'; certificate and alternative certificate need to have different type (e.g. \
            RSA and ECDSA), the provided certificates were both of the same type)";
        let mut kong = KongModel::new();
        for (body, message) in [
            (with(a(), "cert", json!(7)), "schema violation (cert: expected a string)"),
            (with(a(), "tags", json!("x")), "schema violation (tags: expected a set)"),
            (
                with(a(), "tags", json!(["x", ""])),
                "schema violation (tags.2: length must be at least 1)",
            ),
            (with(a(), "snis", json!({})), "schema violation (snis: expected an array)"),
            (with(a(), "id", json!("x")), "schema violation (id: expected a valid UUID)"),
            (
                with(a(), "created_at", json!("x")),
                "schema violation (created_at: expected an integer)",
            ),
            (
                with(ec(), "key_alt", json!(pem("ec521.key"))),
                "schema violation (alternative certificate does not match key)",
            ),
            (with(a(), "cert_alt", json!(pem("b.crt"))), long),
        ] {
            let answer = kong.send("PUT", ONE, &body);
            assert_eq!(answer.value()["message"], message);
            assert_eq!(answer.status, 400);
        }
        assert_eq!(kong.writes(), 0);
    }

    #[test]
    fn of_several_names_that_are_taken_the_first_in_order_is_told() {
        let mut kong = KongModel::new();
        kong.send("PUT", ONE, &pair("a", &["a.test", "b.test"]));
        let refused = kong.send("PUT", TWO, &pair("b", &["b.test", "a.test"]));
        let fields = &refused.value()["fields"]["snis"];
        assert!(fields.as_str().unwrap().starts_with("a.test already associated"));
    }

    #[test]
    fn a_reference_to_a_vault_is_stored_as_it_is_and_cannot_be_served_here() {
        let mut kong = KongModel::new();
        let reference = json!("{vault://env/cert}");
        let answer =
            kong.send("PUT", ONE, &with(pair("a", &["a.test"]), "cert", reference.clone()));
        assert_eq!((answer.status, &answer.value()["cert"]), (200, &reference));
        assert_eq!(kong.served("a.test"), "broken");
    }

    #[test]
    fn tags_are_a_set_in_an_order_of_kongs_own() {
        let mut kong = KongModel::new();
        let body = with(pair("a", &[]), "tags", json!(["a", "ccc", "bb", "a"]));
        assert_eq!(kong.send("PUT", ONE, &body).value()["tags"], json!(["ccc", "bb", "a"]));
    }

    #[test]
    fn lists_come_in_pages_and_by_tags() {
        let mut kong = KongModel::new();
        for number in 0..5 {
            let tags = json!([format!("n:{number}"), if number % 2 == 0 { "even" } else { "odd" }]);
            let id = format!("/certificates/{number}0000000-0000-4000-8000-000000000000");
            kong.send("PUT", &id, &with(pair("ec", &[&format!("n{number}.test")]), "tags", tags));
        }
        let mut pages = Vec::new();
        let mut next = json!("/certificates?size=2");
        while let Some(path) = next.as_str() {
            let page = kong.ask(path);
            pages.push(page["data"].as_array().unwrap().len());
            assert_eq!(page.get("offset").is_some(), page["next"].is_string());
            next = page["next"].clone();
        }
        assert_eq!(pages, [2, 2, 1]);
        for (query, found) in [
            ("tags=even", 3),
            ("tags=even,n:2", 1),
            ("tags=n%3A1/n%3A2", 2),
            ("tags=nothing", 0),
            ("size=1000", 5),
        ] {
            let list = kong.ask(&format!("/certificates?{query}"));
            assert_eq!(list["data"].as_array().unwrap().len(), found, "{query}");
        }
        assert_eq!(kong.ask("/snis?size=3")["data"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn a_page_that_cannot_be_is_refused() {
        let mut kong = KongModel::new();
        for (query, code) in [
            ("size=0", 9),
            ("size=1001", 9),
            ("size=many", 9),
            ("offset=!", 7),
            ("offset=AAAA", 7),
            ("tags=a,b/c", 11),
            ("tags=a,b,c,d,e,f", 11),
        ] {
            let answer = kong.answer(&Request::new("GET", &format!("/certificates?{query}")));
            assert_eq!((answer.status, &answer.value()["code"]), (400, &json!(code)), "{query}");
        }
    }

    #[test]
    fn snis_are_objects_of_their_own() {
        let mut kong = KongModel::new();
        kong.send("PUT", ONE, &pair("a", &[]));
        kong.send("PUT", TWO, &pair("b", &[]));
        let owner = |path: &str| json!({ "id": path.strip_prefix("/certificates/").unwrap() });
        let body = json!({ "name": "x.test", "certificate": owner(ONE) });
        assert_eq!(kong.send("POST", "/snis", &body).status, 201);
        assert_eq!(kong.send("POST", "/snis", &body).status, 409);
        let moved = kong.send("PUT", "/snis/x.test", &json!({ "certificate": owner(TWO) }));
        assert_eq!(moved.status, 200);
        assert_eq!(kong.ask(TWO)["snis"], json!(["x.test"]));
        let own = kong.send("POST", &format!("{ONE}/snis"), &json!({ "name": "y.test" }));
        assert_eq!((own.status, &own.value()["certificate"]), (201, &owner(ONE)));
        let nobody = json!({ "certificate": { "id": Uuid::nil().to_string() } });
        let refused = kong.send("PATCH", "/snis/x.test", &nobody);
        assert_eq!((refused.status, &refused.value()["code"]), (400, &json!(4)));
        assert_eq!(kong.answer(&Request::new("DELETE", "/snis/x.test")).status, 204);
        assert_eq!(kong.answer(&Request::new("GET", "/snis/x.test")).status, 404);
        assert_eq!(kong.send("PATCH", "/snis/x.test", &json!({})).value()["code"], 6);
        assert_eq!(kong.ask("/snis/10.0.0.1")["message"], "must not be an IP");
    }

    #[test]
    fn methods_that_a_path_has_not_are_405() {
        let mut kong = KongModel::new();
        for (method, path) in [("DELETE", "/"), ("PUT", "/certificates"), ("POST", ONE)] {
            let answer = kong.answer(&Request::new(method, path));
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.value(), json!({ "message": "Method not allowed" }));
        }
    }

    #[test]
    fn a_certificate_goes_with_its_names() {
        let mut kong = KongModel::new();
        kong.send("PUT", ONE, &pair("a", &["a.test"]));
        assert_eq!(kong.served("a.test"), "a");
        kong.answer(&Request::new("DELETE", "/certificates/a.test"));
        assert_eq!(kong.ask("/snis")["data"], json!([]));
        assert_eq!(kong.served("a.test"), "default");
    }

    #[test]
    fn without_its_database_kong_serves_what_it_has_cached() {
        let mut kong = KongModel::new();
        kong.send("PUT", ONE, &pair("a", &["seen.test", "unseen.test"]));
        assert_eq!(kong.served("seen.test"), "a");
        kong.database_down(true);
        for (path, status, message) in [
            ("/", 500, json!("An unexpected error happened")),
            (ONE, 500, json!("An unexpected error occurred")),
            ("/snis", 500, json!("An unexpected error occurred")),
            ("/status", 200, Value::Null),
        ] {
            let answer = kong.answer(&Request::new("GET", path));
            assert_eq!((answer.status, &answer.value()["message"]), (status, &message), "{path}");
        }
        assert_eq!(kong.ask("/status")["database"], json!({ "reachable": false }));
        assert_eq!(kong.send("PUT", ONE, &pair("b", &[])).status, 500);
        assert_eq!(kong.served("seen.test"), "a");
        assert_eq!(kong.served("unseen.test"), "default");
        kong.answer(&Request::new("DELETE", "/cache/snis:seen.test"));
        assert_eq!(kong.served("seen.test"), "default");
        kong.database_down(false);
        assert_eq!(
            (kong.served("seen.test"), kong.served("unseen.test")),
            ("a".into(), "a".into())
        );
    }

    #[test]
    fn a_kong_without_a_database_takes_no_writes() {
        let mut kong = KongModel::new();
        assert_eq!(kong.send("PUT", ONE, &pair("a", &["a.test"])).status, 200);
        kong.dbless(true);
        assert_eq!(kong.ask("/")["configuration"]["database"], "off");
        assert_eq!(kong.ask(ONE)["snis"], json!(["a.test"]));
        let status = kong.ask("/status");
        assert_eq!(status.get("database"), None);
        assert_ne!(status["configuration_hash"], "0".repeat(32));
        for (method, path, what) in [
            ("PUT", ONE, "create or update 'certificates' entities"),
            ("POST", "/certificates", "create 'certificates' entities"),
            ("DELETE", ONE, "remove 'snis' entities by 'name'"),
        ] {
            let answer = kong.send(method, path, &pair("a", &[]));
            let message = format!("cannot {what} when not using a database");
            assert_eq!((answer.status, &answer.value()["message"]), (405, &json!(message)));
        }
        assert_eq!(kong.ask(ONE)["snis"], json!(["a.test"]));
    }

    #[test]
    fn a_frozen_node_serves_what_was_until_it_catches_up() {
        let mut kong = KongModel::new();
        kong.send("PUT", ONE, &pair("a", &["a.test"]));
        kong.freeze_serving();
        kong.send("PUT", ONE, &pair("a2", &["a.test", "new.test"]));
        assert_eq!(
            (kong.served("a.test"), kong.served("new.test")),
            ("a".into(), "default".into())
        );
        kong.catch_up();
        assert_eq!((kong.served("a.test"), kong.served("new.test")), ("a2".into(), "a2".into()));
    }

    #[test]
    fn a_missed_change_is_healed_by_a_write_to_the_same_row() {
        let mut kong = KongModel::new();
        kong.send("PUT", ONE, &pair("a", &["a.test"]));
        assert_eq!(
            (kong.served("a.test"), kong.served("new.test")),
            ("a".into(), "default".into())
        );
        kong.miss_changes(1);
        kong.send("PUT", ONE, &pair("a2", &["a.test", "new.test"]));
        assert_eq!(
            (kong.served("a.test"), kong.served("new.test")),
            ("a".into(), "default".into())
        );
        kong.send("PATCH", ONE, &json!({}));
        assert_eq!(
            (kong.served("a.test"), kong.served("new.test")),
            ("a2".into(), "default".into())
        );
        kong.send("PUT", ONE, &pair("a2", &["a.test", "new.test"]));
        assert_eq!(kong.served("new.test"), "default", "an identical PUT touches no name");
        let owner = kong.ask("/snis/new.test")["certificate"].clone();
        kong.send("PATCH", "/snis/new.test", &json!({ "certificate": owner }));
        assert_eq!(kong.served("new.test"), "a2");
    }

    #[test]
    fn a_cached_name_can_be_dropped_from_a_frozen_node() {
        let mut kong = KongModel::new();
        kong.freeze_serving();
        kong.send("PUT", ONE, &pair("a", &["a.test"]));
        assert_eq!(kong.served("a.test"), "default");
        kong.answer(&Request::new("DELETE", "/cache/snis:a.test"));
        assert_eq!(kong.served("a.test"), "broken", "the name is known, its certificate is not");
    }

    #[test]
    fn a_chain_below_security_level_2_breaks_every_handshake() {
        // sha256WithRSAEncryption, and the same with SHA-1 and MD5.
        let oid = |last: u8| [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, last];
        let signed = |file: &str, last: u8| {
            let mut der = leaf(&pem(file));
            for at in 0..der.len() - 9 {
                if der[at..at + 9] == oid(11) {
                    der[at..at + 9].copy_from_slice(&oid(last));
                }
            }
            let text = page::base64(&der) + &"=".repeat((3 - der.len() % 3) % 3);
            format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
        };
        for (second, served) in [
            (pem("root.crt"), "a"),
            (signed("root.crt", 5), "a"),
            (signed("b.crt", 5), "broken"),
            (signed("b.crt", 4), "broken"),
            (pem("rsa1024.crt"), "broken"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(), "broken"),
        ] {
            let mut kong = KongModel::new();
            let chain = json!(pem("a.crt") + &second);
            let answer = kong.send("PUT", ONE, &with(pair("a", &["a.test"]), "cert", chain));
            assert_eq!(answer.status, 200);
            assert_eq!(kong.served("a.test"), served, "{second}");
        }
    }

    #[test]
    fn of_two_pairs_the_one_that_the_client_takes_is_served() {
        let mut kong = KongModel::new();
        let dual = with(pair("a", &["a.test"]), "cert_alt", json!(pem("ec.crt")));
        kong.send("PUT", ONE, &with(dual, "key_alt", json!(pem("ec.key"))));
        let rsa = Offers { ecdsa: false, ..Offers::ALL };
        let chain = |serving: Serving| serving.chain().unwrap().remove(0);
        assert_eq!(chain(kong.chain_for(Some("a.test"), Offers::ALL)), leaf(&pem("ec.crt")));
        assert_eq!(chain(kong.chain_for(Some("a.test"), rsa)), leaf(&pem("a.crt")));
    }

    #[test]
    fn names_are_served_as_they_are_written() {
        let mut kong = KongModel::new();
        kong.send("PUT", ONE, &pair("a", &["UPPER.test", "dot.test."]));
        assert_eq!(kong.served("upper.test"), "default");
        assert_eq!(kong.served("dot.test"), "default");
        assert_eq!(kong.served("UPPER.test"), "a");
    }

    #[test]
    fn another_writer_can_come_first() {
        let mut kong = KongModel::new();
        kong.before_next("PUT", ONE, |kong| {
            kong.send("PUT", TWO, &pair("b", &["a.test"]));
        });
        assert_eq!(kong.send("PUT", TWO, &pair("b", &[])).status, 200, "not the one it waits for");
        let lost = kong.send("PUT", ONE, &pair("a", &["a.test"]));
        assert_eq!((lost.status, &lost.value()["code"]), (400, &json!(2)));
        assert_eq!(kong.send("PUT", TWO, &pair("b", &[])).status, 200, "it comes once");
        assert_eq!(kong.requests().len(), 3);
        assert_eq!(kong.writes(), 2);
    }

    #[test]
    fn a_race_for_a_name_leaves_the_loser_without_it() {
        let mut kong = KongModel::new();
        kong.amid_next("PUT", ONE, |kong| {
            kong.send("PUT", TWO, &pair("b", &["a.test"]));
        });
        let lost = kong.send("PUT", ONE, &pair("a", &["a.test"]));
        assert_eq!((lost.status, &lost.value()["fields"]["name"]), (409, &json!("a.test")));
        assert_eq!(kong.ask(ONE)["snis"], json!([]));
        assert_eq!(kong.served("a.test"), "b");
    }

    #[test]
    fn a_forgotten_database_is_empty() {
        let mut kong = KongModel::new();
        kong.send("PUT", ONE, &pair("a", &["a.test"]));
        assert_eq!(kong.served("a.test"), "a");
        kong.forget_everything();
        assert_eq!(kong.answer(&Request::new("GET", ONE)).status, 404);
        assert_eq!(kong.served("a.test"), "default");
    }

    #[test]
    fn requests_are_told_without_what_was_in_them() {
        let mut kong = KongModel::new();
        kong.send("PUT", ONE, &pair("a", &[]));
        kong.ask("/status?unit=k");
        let told: Vec<_> = kong
            .requests()
            .iter()
            .map(|seen| format!("{} {} {}", seen.method, seen.path, seen.status))
            .collect();
        assert_eq!(told, [format!("PUT {ONE} 200"), "GET /status?unit=k 200".to_owned()]);
        assert_eq!(kong.writes(), 1);
        assert!(!format!("{kong:?}").contains("BEGIN"));
    }

    #[test]
    fn a_ca_that_has_expired_is_refused() {
        let mut kong = KongModel::new();
        let path = "/ca_certificates/33333333-3333-4333-8333-333333333333";
        let answer = kong.send("PUT", path, &json!({ "cert": pem("root.crt") }));
        assert_eq!(answer.status, 200);
        kong.set_now(i64::MAX);
        let answer = kong.send("PUT", path, &json!({ "cert": pem("root2.crt") }));
        let fields = &answer.value()["fields"]["@entity"][0];
        assert_eq!(fields, "certificate expired, \"Not After\" time is in the past");
    }
}
