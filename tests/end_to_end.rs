//! The scenarios of `end_to_end/scenarios.rs` and `end_to_end/dbless.rs` against a stand-in Kong, those
//! of `end_to_end/reload.rs` against a real nginx, and their cleaning up.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and has a clock"
)]

#[path = "end_to_end/cleaning.rs"]
mod cleaning;
#[path = "end_to_end/dbless.rs"]
mod dbless;
#[path = "end_to_end/reload.rs"]
mod reload;
#[path = "end_to_end/scenarios.rs"]
mod scenarios;
#[path = "end_to_end/stage.rs"]
mod stage;
#[path = "end_to_end/target.rs"]
mod target;

use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{CertifiedPair, KongModel, KongStandIn, NginxProcess, Pki, Request};

use cleaning::play;
use dbless::play_alone;
use reload::{Signalled, play_and_put_back};
use stage::{Stage, in_sync_with, publish};
use target::{Place, Target};

macro_rules! against_the_stand_in {
    ($scenario:ident) => {
        #[tokio::test]
        async fn $scenario() {
            let kong = stand_in().await;
            play(Target::new(place_of(&kong)), scenarios::$scenario).await;
            assert_eq!(left_in(&kong), [""; 0]);
        }
    };
}
scenarios::for_each_scenario!(against_the_stand_in);

macro_rules! against_the_stand_in_without_a_database {
    ($scenario:ident) => {
        #[tokio::test]
        async fn $scenario() {
            let kong = stand_in_with(KongModel::without_database()).await;
            play_alone(Target::new(place_of(&kong)), dbless::$scenario).await;
            assert_eq!(export_of(&kong), "_format_version: '3.0'\n_transform: false\n");
        }
    };
}
dbless::for_each_dbless_scenario!(against_the_stand_in_without_a_database);

macro_rules! against_an_nginx {
    ($scenario:ident) => {
        #[tokio::test]
        async fn $scenario() {
            let Some(served) = Served::start().await else { return };
            play_and_put_back(served.signalled(), reload::$scenario).await;
            served.is_as_at_first().await;
        }
    };
}
reload::for_each_reload_scenario!(against_an_nginx);

macro_rules! against_an_nginx_beside_the_stand_in {
    ($scenario:ident) => {
        #[tokio::test]
        async fn $scenario() {
            let Some(served) = Served::start().await else { return };
            let kong = stand_in_with(KongModel::without_database()).await;
            forget_at_each_reload(&kong, served.nginx.error_log_file());
            let scenario = async |nginx: &Signalled, _: &Pki| {
                let scenario = async |stage: &Stage| reload::$scenario(nginx, stage).await;
                play_alone(Target::new(place_of(&kong)), scenario).await;
            };
            play_and_put_back(served.signalled(), scenario).await;
            served.is_as_at_first().await;
        }
    };
}
reload::for_each_forgetful_scenario!(against_an_nginx_beside_the_stand_in);

/// The stand-in has no files of its own: it reads `declarative_config` when this nginx reloads.
fn forget_at_each_reload(kong: &Arc<KongStandIn>, log: PathBuf) {
    let kong = Arc::downgrade(kong);
    tokio::spawn(async move {
        let mut reloads = 0;
        while let Some(kong) = kong.upgrade() {
            let log = fs::read_to_string(&log).unwrap();
            let seen = log.matches("signal 1 (SIGHUP) received").count();
            if std::mem::replace(&mut reloads, seen) < seen {
                let config = "_format_version: '3.0'\nconsumers: [{username: there}]\n";
                let body = json!({ "config": config });
                kong.model().forget_everything();
                kong.model().answer(&Request::json("POST", "/config", &body));
            }
            drop(kong);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

/// An nginx, and the pair of files that it serves.
struct Served {
    nginx: NginxProcess,
    cert: PathBuf,
    key: PathBuf,
    pair: CertifiedPair,
    _home: TempDir,
}

impl Served {
    /// `None`, and told so, where there is no nginx.
    async fn start() -> Option<Self> {
        let Some(program) = NginxProcess::program() else {
            testkit::missing("nginx, which is not installed; .ci/run fetches it");
            return None;
        };
        let (home, pair) = (tempfile::tempdir().unwrap(), Pki::new().pair(&["a.test"]));
        let [cert, key] = ["tls.crt", "tls.key"].map(|name| home.path().join(name));
        fs::write(&cert, pair.chain_pem()).unwrap();
        fs::write(&key, pair.key_pem()).unwrap();
        let files = (cert.clone(), key.clone());
        let nginx = NginxProcess::start(&program, home.path(), &[files]).await;
        Some(Self { nginx, cert, key, pair, _home: home })
    }

    fn signalled(&self) -> Signalled {
        let (proxy, pid_file) = (self.nginx.address(0), self.nginx.pid_file());
        Signalled { proxy, pid_file, cert: self.cert.clone(), key: self.key.clone() }
    }

    /// The files, and what clients get.
    async fn is_as_at_first(&self) {
        let Self { cert, key, pair, .. } = self;
        assert_eq!(fs::read_to_string(cert).unwrap(), pair.chain_pem());
        assert_eq!(fs::read_to_string(key).unwrap(), pair.key_pem());
        self.signalled().serves(pair.chain_ders()).await;
    }
}

/// A Kong whose clock goes on, as a real one's does.
async fn stand_in() -> Arc<KongStandIn> {
    stand_in_with(KongModel::new()).await
}

async fn stand_in_with(model: KongModel) -> Arc<KongStandIn> {
    let kong = Arc::new(KongStandIn::start_with(model).await);
    let ticking = Arc::downgrade(&kong);
    tokio::spawn(async move {
        while let Some(kong) = ticking.upgrade() {
            let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
            kong.model().set_now(now.try_into().unwrap());
            drop(kong);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    kong
}

fn place_of(kong: &KongStandIn) -> Place {
    let settings = vec![("ADMIN__URL", kong.admin_url()), ("PROXY__ADDRESS", "auto".to_owned())];
    Place { admin: kong.admin_addr(), proxy: kong.proxy_addr(), settings }
}

/// What a Kong without a database runs.
fn export_of(kong: &KongStandIn) -> String {
    let export = kong.model().answer(&Request::new("GET", "/config")).value();
    export["config"].as_str().unwrap().to_owned()
}

/// The ids of certificates and CA certificates in Kong, and the names of SNIs.
fn left_in(kong: &KongStandIn) -> Vec<String> {
    let mut left = Vec::new();
    for (list, field) in [("/certificates", "id"), ("/snis", "name"), ("/ca_certificates", "id")] {
        let mut next = Some(format!("{list}?size=1000"));
        while let Some(path) = next {
            let page = kong.model().answer(&Request::new("GET", &path)).value();
            let rows = page["data"].as_array().unwrap().iter();
            left.extend(rows.map(|row| row[field].as_str().unwrap().to_owned()));
            next = page["next"].as_str().map(str::to_owned);
        }
    }
    left
}

#[tokio::test]
async fn a_scenario_that_fails_leaves_nothing_behind_and_what_is_foreign_stays() {
    let kong = stand_in().await;
    let put = |id: &str, more: &Value| {
        let pair = Pki::new().pair(&["a.test"]);
        let mut body = json!({"cert": pair.chain_pem(), "key": pair.key_pem()});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let request = Request::json("PUT", &format!("/certificates/{id}"), &body);
        assert_eq!(kong.model().answer(&request).status, 200);
    };
    // Lists go by ids: a whole page of others' comes first.
    for number in 0..1000 {
        put(&format!("00000000-0000-4000-8000-{number:012}"), &json!({}));
    }
    let target = Target::new(place_of(&kong));
    let suffix = target.suffix();
    put(
        "00000000-0000-4000-9000-000000000000",
        &json!({"snis": ["kong-cert-reloader.test", "a.other.kong-cert-reloader.test", format!("a.{suffix}.org"), format!("x{suffix}")]}),
    );
    put(
        "00000000-0000-4000-9000-000000000001",
        &json!({"tags": ["managed-by:kong-cert-reloader:default", format!("{}2", target.own_tag())]}),
    );
    let foreign = left_in(&kong);
    let fails = async |stage: &Stage| {
        let pod = stage.pod();
        let pair = stage.pair(&["a", "b"]);
        publish(&pod.volume("web"), &pair);
        let sidecar = pod.sidecar(&[]).await;
        sidecar.until("web", in_sync_with(&pair)).await;
        // Such as a sidecar might leave that is wrong.
        let (name, tag) = (stage.kong.name("hand"), stage.kong.own_tag());
        put("ffffffff-ffff-4fff-8fff-fffffffffff0", &json!({"snis": ["a.test", name]}));
        put("ffffffff-ffff-4fff-8fff-fffffffffff1", &json!({"tags": ["team:edge", tag]}));
        stage.kong.make(&pair, &json!({})).await;
        assert_eq!(left_in(&kong).len(), foreign.len() + (1 + 2) + (1 + 2) + 1 + 1);
        panic!("as tests may");
    };
    let panic = AssertUnwindSafe(play(target, fails)).catch_unwind().await.unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"as tests may"));
    assert_eq!(left_in(&kong), foreign);
}

#[tokio::test]
async fn a_scenario_that_fails_leaves_the_configuration_that_was_there() {
    let kong = stand_in_with(KongModel::without_database()).await;
    let pair = Pki::new().pair(&["a.test"]);
    let config = json!({
        "_format_version": "3.0",
        // Exported twice: inside, and beside the certificate.
        "certificates": [{
            "id": "11111111-1111-4111-8111-111111111111", "tags": ["0o17"],
            "cert": pair.chain_pem(), "key": pair.key_pem(), "snis": [{"name": "a.test"}],
        }],
        "consumers": [{
            "username": "010", "basicauth_credentials": [{"username": "y", "password": "secret"}],
        }],
        "services": [{"name": "theirs", "host": "10.0.0.9", "tags": ["2020-01-01", "y"]}],
    });
    let request = Request::json("POST", "/config", &json!({ "config": config.to_string() }));
    assert_eq!(kong.model().answer(&request).status, 201);
    let but_for_names = |export: &str| {
        let mut export = testkit::kong_model::read_yaml(export).unwrap();
        export["certificates"][0].as_object_mut().unwrap().remove("snis");
        export
    };
    let before = export_of(&kong);
    let fails = async |stage: &Stage| {
        let pod = stage.pod();
        let pair = stage.pair(&["a"]);
        publish(&pod.volume("web"), &pair);
        let sidecar = pod.sidecar(&[]).await;
        sidecar.until("web", in_sync_with(&pair)).await;
        assert!(!export_of(&kong).contains("theirs"));
        panic!("as tests may");
    };
    let target = Target::new(place_of(&kong));
    let panic = AssertUnwindSafe(play_alone(target, fails)).catch_unwind().await.unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"as tests may"));
    assert_eq!(but_for_names(&export_of(&kong)), but_for_names(&before));
}

#[tokio::test]
async fn a_scenario_that_fails_puts_the_former_files_back() {
    let Some(served) = Served::start().await else { return };
    let fails = async |nginx: &Signalled, pki: &Pki| {
        reload::renewed_files_are_served_to_clients_without_sni(nginx, pki).await;
        assert_ne!(fs::read_to_string(&nginx.cert).unwrap(), served.pair.chain_pem());
        panic!("as tests may");
    };
    let played = play_and_put_back(served.signalled(), fails);
    let panic = AssertUnwindSafe(played).catch_unwind().await.unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"as tests may"));
    served.is_as_at_first().await;
}
