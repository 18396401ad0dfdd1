//! What the security model tells to allow at the Admin API, against what the sidecar asks there.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "schedule/kong.rs"]
mod kong;
#[path = "schedule/pod.rs"]
mod pod;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use kong_cert_reloader::settings::{
    AuthoritySettings, CertificateSettings, LicenseSettings, Settings,
};
use kong_cert_reloader::status::State;
use serde_json::json;
use testkit::{Authority, KeyKind, Pki, Request};
use tokio::time::sleep;
use uuid::Uuid;

use kong::KongInProcess;
use pod::{Pod, START};

const DOCUMENT: &str = include_str!("../docs/security-model.md");
/// So many certificates are read by pages.
const MANY: usize = 60;
const HOUR: i64 = 3600;
/// Longer than it takes until Kong is compared again.
const RESYNC: Duration = Duration::from_secs(6 * 60);

/// Endpoints as the document has them, each with what may be done there.
type Rights = BTreeMap<&'static str, BTreeSet<&'static str>>;

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_smallest_role_is_what_the_sidecar_asks_for() {
    let (told, mut asked) = (told(), Rights::new());
    let with_one = beside_a_database().await.into_iter();
    let with_many = beside_a_database_with_many().await;
    for call in with_one.chain(with_many).chain(without_a_database().await) {
        let endpoint =
            *told.keys().find(|endpoint| covers(endpoint, &call.1)).unwrap_or_else(|| {
                panic!("the role may not {} {}", call.0, call.1);
            });
        let actions = asked.entry(endpoint).or_default();
        // An upsert does either, and is taken for an update by some and for a creation by others.
        actions.extend(match call.0 {
            "GET" => &["read"][..],
            "PATCH" => &["update"],
            "PUT" => &["create", "update"],
            "POST" => &["create"],
            other => panic!("{other} is never sent"),
        });
    }
    assert_eq!(asked, told);
}

fn covers(endpoint: &str, path: &str) -> bool {
    match endpoint.strip_suffix('*') {
        Some(list) => path.strip_prefix(list).is_some_and(|rest| !rest.is_empty()),
        None => endpoint == path,
    }
}

/// The table of the document.
fn told() -> Rights {
    let (_, section) = DOCUMENT.split_once("## The smallest role").unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| {
        let mut cells = row.trim_matches('|').split(" | ");
        let (endpoints, actions) = (cells.next().unwrap(), cells.next().unwrap());
        let actions: BTreeSet<&str> = actions.split(", ").map(str::trim).collect();
        let endpoints = endpoints.split(',').map(|endpoint| endpoint.trim().trim_matches('`'));
        endpoints.map(move |endpoint| (endpoint, actions.clone()))
    })
    .collect()
}

/// Everything that is done to a Kong on a database: created, renewed, announced, a name taken, CA
/// certificates and licences.
async fn beside_a_database() -> Vec<(&'static str, String)> {
    let kong = KongInProcess::new();
    kong.model().set_now(START);
    kong.model().enterprise(true);
    let pki = Pki::at(START);
    let pair =
        |hours: i64| pki.leaf(&["a.test", "b.test"]).not_before(START - hours * HOUR).issue();
    let other = pki.leaf(&["b.test"]).not_before(START - 40 * HOUR).issue();
    kong.elsewhere(&Request::json(
        "POST",
        "/certificates",
        &json!({"cert": other.chain_pem(), "key": other.key_pem(), "snis": ["b.test"]}),
    ));
    let mut pod = Pod::new();
    pod.publish("web", &pair(30));
    let dirs = publish_others(&pod);
    let dir = Some(pod.directory("web"));
    let web = CertificateSettings { dir, take_snis: true, adopt: false, ..Default::default() };
    pod.start_with(&kong, |settings| {
        settings.certificates.insert("web".parse().unwrap(), web);
        others(settings, &dirs, None);
    });
    for name in ["web", "clients", "ee"] {
        pod.until_named(name, |shown| shown.state == State::InSync).await;
    }
    kong.model().freeze_serving();
    pod.publish("web", &pair(20));
    pod.until_state(State::NotServed).await;
    kong.model().catch_up();
    pod.until_state(State::InSync).await;
    sleep(RESYNC).await;
    paths(&kong)
}

async fn beside_a_database_with_many() -> Vec<(&'static str, String)> {
    let (kong, pki, mut pod) = (KongInProcess::new(), Pki::at(START), Pod::new());
    kong.model().enterprise(true);
    for name in 0..MANY {
        pod.publish(&format!("n{name}"), &pki.pair(&[&format!("n{name}.test")]));
    }
    let dirs = publish_others(&pod);
    pod.start_with(&kong, |settings| others(settings, &dirs, Some(Uuid::from_u128(1 << 80))));
    pod.until_ready().await;
    paths(&kong)
}

/// Mounts CA certificates and a licence.
fn publish_others(pod: &Pod) -> [PathBuf; 2] {
    pod.publish_file("clients", "ca.crt", &Authority::root("Clients", KeyKind::P256).pem());
    pod.publish_file("ee", "license.json", &license());
    ["clients", "ee"].map(|name| pod.directory(name))
}

fn others(settings: &mut Settings, [clients, ee]: &[PathBuf; 2], id: Option<Uuid>) {
    let clients = AuthoritySettings { file: clients.join("ca.crt"), id, tags: [].into() };
    settings.authorities.insert("clients".parse().unwrap(), clients);
    let ee = LicenseSettings { file: ee.join("license.json"), id };
    settings.licenses.insert("ee".parse().unwrap(), ee);
}

async fn without_a_database() -> Vec<(&'static str, String)> {
    let kong = KongInProcess::new();
    kong.model().dbless(true);
    let others = "_format_version: '3.0'\nservices: [{name: echo, host: 10.0.0.1}]\n";
    kong.elsewhere(&Request::json("POST", "/config", &json!({ "config": others })));
    let pair = Pki::at(START).leaf(&["a.test"]).not_before(START - HOUR).issue();
    let pod = Pod::with(&pair, &kong);
    pod.until_in_sync_with(&pair).await;
    paths(&kong)
}

fn license() -> String {
    let payload = json!({
        "license_creation_date": "2026-02-01",
        "license_expiration_date": "2028-02-01",
        "license_key": "ASDASDASDASDASDASDASDASDASD",
    });
    json!({"license": {"version": "1", "payload": payload, "signature": "6985968131533a96"}})
        .to_string()
}

/// Each call of ours, without its query.
fn paths(kong: &KongInProcess) -> Vec<(&'static str, String)> {
    let path = |path: String| path.split('?').next().unwrap().to_owned();
    kong.calls().into_iter().map(|call| (call.method, path(call.path))).collect()
}
