//! A Kong without a database, what runs in it, and a pod beside it.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::path::PathBuf;
use std::time::Duration;

use kong_cert_reloader::settings::Settings;
use kong_cert_reloader::status::{BindingStatus, State};
use serde_json::{Value, json};
use testkit::kong_model::Offers;
use testkit::{CertifiedPair, Pki, Request};
use tokio::time::sleep;

use super::kong::KongInProcess;
use super::pod::{Pod, START};

pub(crate) const OWN_TAG: &str = "managed-by:kong-cert-reloader:default";
pub(crate) const POST: &str = "POST /config?check_hash=1&flatten_errors=1";
/// The default of `DECLARATIVE__POLL`, and a moment.
pub(crate) const POLL: Duration = Duration::from_millis(2100);
pub(crate) const A_MOMENT: Duration = Duration::from_millis(100);
/// The binding of `DECLARATIVE__FILE`.
pub(crate) const FILE: &str = "declarative_file";
pub(crate) const HOUR: i64 = 3600;

/// What someone has in Kong besides certificates, with scalars that YAML libraries differ over.
pub(crate) const OTHERS: &str = "\
_format_version: '3.0'
_transform: true
services:
- name: echo
  host: 10.0.0.1
  tags: [yes-1, '2020-01-01', 'y', '0o17']
  routes:
  - name: echo
    paths: [/echo]
  plugins:
  - name: cors
    config: {max_age: 10, origins: ['*']}
consumers:
- username: '010'
  basicauth_credentials:
  - {username: ann, password: secret}
";

/// Of an object that someone else made.
pub(crate) const ID: &str = "11111111-1111-4111-8111-111111111111";

/// A configuration that has certificates of its own, and a service.
pub(crate) fn with_certificates(certificates: &Value) -> String {
    json!({
        "_format_version": "3.0",
        "certificates": certificates,
        "services": [{ "name": "echo", "host": "10.0.0.1" }],
    })
    .to_string()
}

/// As it stands in such a configuration.
pub(crate) fn certificate(id: Option<&str>, pair: &CertifiedPair, names: &[&str]) -> Value {
    let snis: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
    let mut object = json!({ "cert": pair.chain_pem(), "key": pair.key_pem(), "snis": snis });
    if let Some(id) = id {
        object["id"] = json!(id);
    }
    object
}

/// The next edition of a configuration.
pub(crate) fn edited(config: &str) -> String {
    config.replace("10.0.0.1", "10.0.0.2")
}

/// A Kong without a database that runs this.
pub(crate) fn kong(config: &str) -> KongInProcess {
    let kong = KongInProcess::new();
    kong.model().dbless(true);
    load(&kong, config);
    kong
}

/// Someone else loads a configuration.
pub(crate) fn load(kong: &KongInProcess, config: &str) {
    kong.elsewhere(&Request::json("POST", "/config", &json!({ "config": config })));
}

/// Kong starts anew, and reads its own file.
pub(crate) fn restart(kong: &KongInProcess, config: &str) {
    kong.model().forget_everything();
    load(kong, config);
}

pub(crate) fn pki() -> Pki {
    Pki::at(START)
}

/// Begun so many hours ago.
pub(crate) fn leaf(pki: &Pki, names: &[&str], hours_ago: i64) -> CertifiedPair {
    pki.leaf(names).not_before(START - hours_ago * HOUR).issue()
}

/// The rows of an entity, as the Admin API lists them.
pub(crate) fn rows(kong: &KongInProcess, list: &str) -> Vec<Value> {
    let request = Request::new("GET", list);
    let answer = kong.model().elsewhere(|model| model.answer(&request));
    answer.value()["data"].as_array().unwrap().clone()
}

/// All but what is about certificates, as Kong exports it.
pub(crate) fn others(kong: &KongInProcess) -> String {
    let request = Request::new("GET", "/config");
    let answer = kong.model().elsewhere(|model| model.answer(&request)).value();
    let text = answer["config"].as_str().unwrap().to_owned();
    let mut is_ours = false;
    let kept = text.lines().filter(|line| {
        if !line.starts_with([' ', '-']) {
            let ours = ["certificates:", "snis:", "ca_certificates:", "licenses:"];
            is_ours = ours.contains(line);
        }
        !is_ours
    });
    kept.filter(|line| !line.contains("updated_at")).collect::<Vec<_>>().join("\n")
}

/// How often a configuration was posted.
pub(crate) fn posts(kong: &KongInProcess) -> usize {
    kong.calls().iter().filter(|call| call.method == "POST").count()
}

/// How often all of the configuration was read.
pub(crate) fn exports(kong: &KongInProcess) -> usize {
    let calls = kong.calls();
    calls.iter().filter(|call| (call.method, &*call.path) == ("GET", "/config")).count()
}

/// The leaf that a name gets.
pub(crate) fn served(kong: &KongInProcess, name: &str) -> Vec<u8> {
    let chain = kong.model().chain_for(Some(name), Offers::ALL).chain();
    chain.unwrap().swap_remove(0)
}

pub(crate) fn state(pod: &Pod, name: &str) -> (State, &'static str) {
    let binding = pod.binding(name);
    (binding.state, binding.reason.map_or("", |reason| reason.as_str()))
}

/// Waits until every binding is concluded.
pub(crate) async fn settled(pod: &Pod, names: &[&str]) {
    for name in names {
        pod.until_named(name, |binding: &BindingStatus| binding.state != State::Pending).await;
    }
}

pub(crate) fn license(until: &str) -> String {
    json!({ "license": { "version": "1", "signature": "c2lnbmF0dXJl", "payload": {
        "customer": "Example", "license_creation_date": "2025-01-31",
        "license_expiration_date": until, "license_key": "a1b2c3",
    } } })
    .to_string()
}

/// A pod whose Kong has the rest of its configuration from a file of ours.
pub(crate) struct WithFile {
    pub(crate) pod: Pod,
    pub(crate) kong: KongInProcess,
    file: PathBuf,
}

impl WithFile {
    /// Kong was started with nothing.
    pub(crate) async fn new(config: &str, pairs: &[(&str, &CertifiedPair)]) -> Self {
        let it = Self::before(config, pairs);
        it.started(|_| {}).await
    }

    /// The sidecar was not started yet.
    pub(crate) fn before(config: &str, pairs: &[(&str, &CertifiedPair)]) -> Self {
        let kong = KongInProcess::new();
        kong.model().dbless(true);
        let pod = Pod::new();
        let file = pod.write_file("kong.yaml", config);
        pairs.iter().for_each(|(name, pair)| pod.publish(name, pair));
        Self { pod, kong, file }
    }

    pub(crate) async fn started(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        self.start(change).await;
        self
    }

    /// Until it is known where the file stands.
    pub(crate) async fn start(&mut self, change: impl FnOnce(&mut Settings)) {
        let file = self.file.clone();
        self.pod.start_with(&self.kong, |settings| {
            settings.declarative.file = Some(file);
            change(settings);
        });
        let is_told = |it: &BindingStatus| {
            it.state != State::Pending
                || it.reason.is_some_and(|reason| reason.as_str() == "dry_run")
        };
        self.pod.until_named(FILE, is_told).await;
    }

    pub(crate) fn edit(&self, config: &str) {
        self.pod.write_file("kong.yaml", config);
    }

    /// Until Kong has the service at this host.
    pub(crate) async fn until_host(&self, host: &str) {
        self.pod.until_named(FILE, |_| rows(&self.kong, "/services")[0]["host"] == host).await;
        sleep(A_MOMENT).await;
    }
}
