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
    /// Without a database: the sidecar reads `DECLARATIVE__FILE`, in JSON.
    Json,
    /// The same in YAML.
    Yaml,
}

/// What there is of others.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Certificates,
    /// Each with a route.
    Services,
    /// Each with a credential and a group.
    Consumers,
}

impl Kind {
    const fn list(self) -> &'static str {
        match self {
            Self::Certificates => "certificates",
            Self::Services => "services",
            Self::Consumers => "consumers",
        }
    }
}

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stock {
    pub(crate) store: Store,
    pub(crate) kind: Kind,
    /// Of others.
    pub(crate) others: usize,
    /// What each of these weighs besides, in bytes.
    pub(crate) ballast: usize,
    /// The sidecar's certificates.
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
    /// Chain and key of all of the others': nobody looks for their names in them.
    others: (String, String),
}

impl Issuer {
    fn new() -> Self {
        let authority = Pki::new().intermediate("Test Issuer");
        let key = TestKey::new(KeyKind::Rsa2048);
        let pair = authority.leaf(&["other.test"]).key(&key).issue();
        Self { authority, key, others: (pair.chain_pem(), pair.key_pem()) }
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

    fn certificate(&self, number: usize, ballast: usize) -> Value {
        let name = format!("other-{number}.test");
        let id = Uuid::from_u128(number as u128 + 1).to_string();
        let (chain, key) = &self.others;
        let mut object = json!({"id": id, "cert": chain, "key": key, "snis": [name]});
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
            Store::Memory => (without_a_database(&self.json(&issuer)), None),
            Store::Json => (without_a_database(SERVICE), Some(self.json(&issuer))),
            Store::Yaml => (without_a_database(SERVICE), Some(self.yaml(&issuer))),
        };
        let kong = KongStandIn::start_with(model).await;
        let url = kong.admin_url();
        let mut settings = vec![("ADMIN__URL", &*url), ("CERTS_DIR", certs.to_str().unwrap())];
        let path = home.path().join("kong.yaml");
        if let Some(text) = file {
            fs::write(&path, text).unwrap();
            settings.push(("DECLARATIVE__FILE", path.to_str().unwrap()));
        }
        let began = Instant::now();
        let sidecar = SidecarProcess::start(program, &settings).await;
        timeout(PATIENCE, until_in_sync(&sidecar)).await.expect("all certificates in Kong");
        let time = began.elapsed();
        // By now Kong has all that the file has.
        let held = |status: &Value| status["bindings"]["ours-0"]["kong"].clone();
        let before = held(&sidecar.status().await);
        issuer.write(&certs, 0);
        let until_renewed = async {
            while held(&sidecar.status().await) == before {
                sleep(PAUSE).await;
            }
            until_in_sync(&sidecar).await;
        };
        timeout(PATIENCE, until_renewed).await.expect("the renewed one in Kong");
        let process = Process::of(sidecar.pid());
        Taken { peak: process.peak_memory(), idle: process.memory(), time }
    }

    fn on_a_database(self, issuer: &Issuer) -> KongModel {
        let mut model = KongModel::new();
        for number in 0..self.others {
            let object = issuer.certificate(number, self.ballast);
            let path = format!("/certificates/{}", object["id"].as_str().unwrap());
            assert_eq!(model.answer(&Request::json("PUT", &path, &object)).status, 200);
        }
        model
    }

    fn objects(self, issuer: &Issuer) -> impl Iterator<Item = Value> {
        (0..self.others).map(move |number| match self.kind {
            Kind::Certificates => {
                let mut object = issuer.certificate(number, self.ballast);
                object["snis"] = json!([{"name": object["snis"][0]}]);
                object
            }
            Kind::Services => json!({
                "name": format!("service-{number}"),
                "host": format!("backend-{number}.test"),
                "routes": [{"name": format!("route-{number}"), "paths": [format!("/api/{number}")]}],
            }),
            Kind::Consumers => json!({
                "username": format!("user-{number}"),
                "keyauth_credentials": [{"key": format!("key-{number}")}],
                "acls": [{"group": format!("group-{}", number % 9)}],
            }),
        })
    }

    fn json(self, issuer: &Issuer) -> String {
        let mut configuration = json!({"_format_version": "3.0", "upstreams": [{"name": "echo"}]});
        configuration[self.kind.list()] = self.objects(issuer).collect();
        configuration.to_string()
    }

    /// In YAML, as a file.
    pub(crate) fn text(self) -> String {
        self.yaml(&Issuer::new())
    }

    fn yaml(self, issuer: &Issuer) -> String {
        let objects = self.objects(issuer).map(|object| format!("- {object}\n"));
        let objects: String = objects.collect();
        format!(
            "_format_version: '3.0'\nupstreams:\n- {{name: echo}}\n{}:\n{objects}",
            self.kind.list()
        )
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
                // A busy machine may be too slow for a call.
                let passing = ["pending", "not_served", "unreachable"];
                assert!(
                    passing.map(|state| shown["state"] == state).contains(&true),
                    "{name}: {shown}"
                );
            }
            None => {}
        }
        sleep(PAUSE).await;
    }
}
