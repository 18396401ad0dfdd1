//! A Kong that has many certificates, and a sidecar that keeps some of them.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{
    Authority, CertifiedPair, KeyKind, KongModel, KongStandIn, Pki, Request, SidecarProcess,
    TestKey,
};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::process::Process;

/// For thousands of handshakes and writes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(50);
const SERVICE: &str = "_format_version: '3.0'\nservices:\n- {name: echo, host: 10.0.0.1}\n";

/// Where Kong keeps its configuration, and where the sidecar has it from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    Database,
    /// Without a database: the sidecar reads `GET /config`.
    Memory,
    /// Without a database: the sidecar reads `DECLARATIVE__FILE`.
    File,
}

/// How many certificates there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stock {
    pub(crate) store: Store,
    /// Of others.
    pub(crate) others: usize,
    /// What each of these weighs besides, in bytes.
    pub(crate) ballast: usize,
    /// The sidecar's.
    pub(crate) ours: usize,
}

/// What the sidecar took, in bytes.
pub(crate) struct Taken {
    /// At most.
    pub(crate) peak: u64,
    /// When all was in Kong.
    pub(crate) idle: u64,
    pub(crate) time: Duration,
}

/// Certificates as they are common: an RSA key, and one intermediate in the chain.
struct Issuer {
    authority: Authority,
    key: TestKey,
}

impl Issuer {
    fn new() -> Self {
        let authority = Pki::new().intermediate("Test Issuer");
        Self { authority, key: TestKey::new(KeyKind::Rsa2048) }
    }

    fn pair(&self, name: &str) -> CertifiedPair {
        self.authority.leaf(&[name]).key(&self.key).issue()
    }

    fn write(&self, certs: &Path, number: usize) {
        let pair = self.pair(&format!("ours-{number}.test"));
        let directory = certs.join(format!("ours-{number}"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("tls.crt"), pair.chain_pem()).unwrap();
        fs::write(directory.join("tls.key"), pair.key_pem()).unwrap();
    }

    fn object(&self, number: usize, ballast: usize) -> Value {
        let name = format!("other-{number}.test");
        let pair = self.pair(&name);
        let id = Uuid::from_u128(number as u128 + 1).to_string();
        let mut object =
            json!({"id": id, "cert": pair.chain_pem(), "key": pair.key_pem(), "snis": [name]});
        if ballast > 0 {
            object["tags"] = json!(["x".repeat(ballast)]);
        }
        object
    }
}

impl Stock {
    /// Has `program` bring all of ours to such a Kong.
    pub(crate) async fn measured(self, program: &Path) -> Taken {
        let (home, issuer) = (tempfile::tempdir().unwrap(), Issuer::new());
        let certs = home.path().join("certs");
        (0..self.ours).for_each(|number| issuer.write(&certs, number));
        let (model, file) = match self.store {
            Store::Database => (self.on_a_database(&issuer), None),
            Store::Memory => (without_a_database(&self.configuration(&issuer)), None),
            Store::File => {
                let file = home.path().join("kong.json");
                fs::write(&file, self.configuration(&issuer)).unwrap();
                (without_a_database(SERVICE), Some(file))
            }
        };
        let kong = KongStandIn::start_with(model).await;
        let url = kong.admin_url();
        let mut settings = vec![("ADMIN__URL", &*url), ("CERTS_DIR", certs.to_str().unwrap())];
        settings.extend(file.iter().map(|file| ("DECLARATIVE__FILE", file.to_str().unwrap())));
        let began = Instant::now();
        let sidecar = SidecarProcess::start(program, &settings).await;
        timeout(PATIENCE, until_in_sync(&sidecar)).await.expect("all certificates in Kong");
        let (process, time) = (Process::of(sidecar.pid()), began.elapsed());
        Taken { peak: process.peak_memory(), idle: process.memory(), time }
    }

    fn on_a_database(self, issuer: &Issuer) -> KongModel {
        let mut model = KongModel::new();
        for number in 0..self.others {
            let object = issuer.object(number, self.ballast);
            let path = format!("/certificates/{}", object["id"].as_str().unwrap());
            assert_eq!(model.answer(&Request::json("PUT", &path, &object)).status, 200);
        }
        model
    }

    fn configuration(self, issuer: &Issuer) -> String {
        let others = (0..self.others).map(|number| {
            let mut object = issuer.object(number, self.ballast);
            object["snis"] = json!([{"name": object["snis"][0]}]);
            object
        });
        let mut configuration: Value = json!({"services": [{"name": "echo", "host": "10.0.0.1"}]});
        configuration["_format_version"] = "3.0".into();
        configuration["certificates"] = others.collect();
        configuration.to_string()
    }
}

/// One whose limits are raised, as they have to be for so much.
fn without_a_database(configuration: &str) -> KongModel {
    let mut model = KongModel::without_database();
    model.set_largest_body(usize::MAX);
    let posted = Request::json("POST", "/config", &json!({"config": configuration}));
    assert_eq!(model.answer(&posted).status, 201);
    model
}

async fn until_in_sync(sidecar: &SidecarProcess) {
    loop {
        let status = sidecar.status().await;
        let mut bindings = status["bindings"].as_object().unwrap().iter().peekable();
        let is_started = bindings.peek().is_some();
        match bindings.find(|(_, shown)| shown["state"] != "in_sync") {
            None if is_started => return,
            Some((name, shown)) => {
                let passes = ["pending", "not_served"].map(|state| shown["state"] == state);
                assert!(passes.contains(&true), "{name}: {shown}");
            }
            None => {}
        }
        sleep(PAUSE).await;
    }
}
