//! What is left of keys in the memory of a sidecar that has nothing to do any more.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::pki::LONG_AGO;
use testkit::{
    Answer, CertifiedPair, Fault, KeyKind, KongStandIn, Pki, Request, SecretVolume, SidecarProcess,
    TestKey, TlsFront, not_tested,
};
use tokio::time::sleep;

use crate::memory;
use crate::searcher::Searcher;
use crate::{PROGRAM, TOKEN};

/// So long after the last proof nothing of a key is left.
const A_WHILE: Duration = Duration::from_secs(1);
/// So often is it waited for where the machine is busy. Nothing happens in the sidecar meanwhile
/// that could hide anything.
const LOOKS: usize = 5;

/// A Kong, volumes, and all keys that the sidecar beside them gets to see.
struct Stage {
    kong: KongStandIn,
    pki: Pki,
    home: TempDir,
    keys: Searcher,
    issued: i64,
}

impl Stage {
    async fn new() -> Self {
        let kong = KongStandIn::start().await;
        let home = tempfile::tempdir().unwrap();
        Self { kong, pki: Pki::new(), home, keys: Searcher::default(), issued: 0 }
    }

    /// A pair that begins later than the one before.
    fn issue(&mut self, name: &str, kind: KeyKind) -> CertifiedPair {
        self.issued += 1;
        let leaf = self.pki.leaf(&[&format!("{name}.test")]);
        let pair = leaf.kind(kind).not_before(LONG_AGO + self.issued).issue();
        self.know(&format!("the key of {name}"), pair.key());
        pair
    }

    fn know(&mut self, name: &str, key: &TestKey) {
        self.keys.add_private_numbers(&format!("{name} ({:?})", key.kind()), key);
    }

    fn publish(&self, name: &str, cert: &str, key: &str) {
        let volume = SecretVolume::mount(self.home.path().join("certs").join(name));
        volume.publish(&[("tls.crt", cert.as_bytes()), ("tls.key", key.as_bytes())]);
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.home.path().join(name);
        fs::write(&path, content).unwrap();
        text(&path)
    }

    /// Someone else writes to Kong.
    fn elsewhere(&self, request: &Request) {
        let answer = self.kong.model().elsewhere(|model| model.answer(request));
        assert!(answer.status < 300, "{}", answer.value());
    }

    async fn sidecar(&self, settings: &[(&str, &str)]) -> SidecarProcess {
        let (url, certs) = (self.kong.admin_url(), text(&self.home.path().join("certs")));
        // All that is said is put together in memory, too.
        let mut all = vec![("ADMIN__URL", &*url), ("CERTS_DIR", &*certs), ("LOG__LEVEL", "trace")];
        // Between two passes it is left alone.
        all.extend([("DECLARATIVE__POLL", "1h"), ("POLL_INTERVAL", "1h"), ("DEBOUNCE", "10ms")]);
        all.extend(settings);
        SidecarProcess::start(PROGRAM, &all).await
    }

    /// Fails where something of a key is left once `sidecar` was idle for a while.
    async fn assert_nothing_is_left(&self, sidecar: &SidecarProcess, moment: &str) {
        let mut traces = Vec::new();
        for _ in 0..LOOKS {
            sleep(A_WHILE).await;
            traces = traces_in(sidecar, &self.keys);
            if traces.is_empty() {
                break;
            }
        }
        assert!(traces.is_empty(), "{moment}: {} traces, the first: {}", traces.len(), traces[0]);
    }
}

fn traces_in(sidecar: &SidecarProcess, keys: &Searcher) -> Vec<String> {
    memory::traces(sidecar.pid(), keys).unwrap()
}

/// Each kind of key in each of its encodings, with a name for a binding.
fn encodings() -> Vec<(String, KeyKind, usize)> {
    let kinds = KeyKind::ALL.into_iter().chain([KeyKind::Rsa4096]);
    kinds
        .flat_map(|kind| {
            let count = TestKey::new(kind).pem_encodings().len();
            (0..count).map(move |which| (format!("{kind:?}{which}").to_lowercase(), kind, which))
        })
        .collect()
}

async fn until_served(sidecar: &SidecarProcess, name: &str, pair: &CertifiedPair) {
    let leaf = pair.leaf_fingerprint();
    let is_served = |shown: &Value| {
        shown["state"] == "in_sync" && shown["file"]["leaf_sha256"][0] == leaf.as_str()
    };
    sidecar.until(name, is_served).await;
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// The sidecar shows its memory to root alone.
fn can_be_read() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        not_tested("what is left of keys in memory, which takes root");
    }
    is_root
}

#[tokio::test]
async fn no_private_key_is_left_once_it_is_served_from_a_database() {
    if !can_be_read() {
        return;
    }
    let mut stage = Stage::new().await;
    let admin = Pki::new();
    let (server, client) = (admin.leaf(&["localhost"]), admin.pair(&["client.test"]));
    let server = server.ip([127, 0, 0, 1].into()).issue();
    let mut front = TlsFront::start(stage.kong.admin_addr(), &server).await;
    front.demand_clients_of(admin.root());
    stage.kong.require_header("Kong-Admin-Token", TOKEN, 401);
    let (url, ca) = (front.url("127.0.0.1"), stage.file("ca.crt", admin.root().pem()));
    let cert = stage.file("client.crt", client.chain_pem());
    let key = stage.file("client.key", client.key_pem());
    // Others have a certificate that is gone on with.
    let theirs = stage.issue("p2560", KeyKind::Rsa2048);
    let body = json!({
        "cert": theirs.chain_pem(), "key": theirs.key_pem(), "snis": ["p2560.test"],
        "tags": ["theirs"],
    });
    stage.elsewhere(&Request::json("POST", "/certificates", &body));

    let (one, other) = (stage.issue("odd", KeyKind::Rsa2048), stage.issue("odd", KeyKind::P256));
    stage.publish("odd", &one.chain_pem(), &other.key_pem());
    let mut sidecar = None;
    for round in ["created", "renewed"] {
        let mut served = Vec::new();
        for (name, kind, which) in encodings() {
            let pair = stage.issue(&name, kind);
            stage.publish(&name, &pair.chain_pem(), &pair.key().pem_encodings()[which]);
            served.push((name, pair));
        }
        if sidecar.is_none() {
            let settings = [
                ("ADMIN__URL", &*url),
                ("ADMIN__CA_FILE", &ca),
                ("ADMIN__CLIENT_CERT_FILE", &cert),
                ("ADMIN__CLIENT_KEY_FILE", &key),
                ("ADMIN__TOKEN", TOKEN),
            ];
            sidecar = Some(stage.sidecar(&settings).await);
        }
        let sidecar = sidecar.as_ref().unwrap();
        for (name, pair) in &served {
            until_served(sidecar, name, pair).await;
        }
        sidecar.until_state("odd", "invalid").await;
        stage.assert_nothing_is_left(sidecar, round).await;
    }
    let sidecar = sidecar.unwrap();

    for (moment, fault) in [
        ("the answer was lost", Fault::reset_after()),
        ("the answer was cut short", Fault::cut_short()),
        ("the answer was no JSON", Fault::cut_json()),
        ("the database failed", Fault::status(500)),
    ] {
        let pair = stage.issue("rsa20480", KeyKind::Rsa2048);
        stage.kong.inject(fault.only("PUT"));
        stage.publish("rsa20480", &pair.chain_pem(), &pair.key_pem());
        until_served(&sidecar, "rsa20480", &pair).await;
        stage.assert_nothing_is_left(&sidecar, moment).await;
    }

    let pair = stage.issue("rsa20480", KeyKind::Rsa2048);
    let words = format!("schema violation (key: {})", pair.key_pem());
    let echo = json!({ "message": words, "code": 2, "fields": { "key": pair.key_pem() } });
    stage.kong.inject(Fault::instead(Answer::json(400, &echo)).only("PUT").always());
    stage.publish("rsa20480", &pair.chain_pem(), &pair.key_pem());
    sidecar.until_state("rsa20480", "refused").await;
    stage.assert_nothing_is_left(&sidecar, "refused with an echo").await;

    // What is needed as long as it runs is there: this would find it.
    let mut kept = Searcher::default();
    kept.add_private_numbers("the client's key", client.key());
    assert!(!traces_in(&sidecar, &kept).is_empty(), "not even the client's key is found");
}

#[tokio::test]
async fn no_private_key_is_left_once_it_is_served_without_a_database() {
    if !can_be_read() {
        return;
    }
    let mut stage = Stage::new().await;
    stage.kong.model().dbless(true);
    let mut others = Vec::new();
    for number in 0..40 {
        let pair = stage.issue(&format!("others{number}"), KeyKind::Rsa2048);
        others.push(json!({
            "cert": pair.chain_pem(), "key": pair.key_pem(),
            "snis": [{ "name": format!("others{number}.test") }],
        }));
    }
    let config = json!({ "_format_version": "3.0", "certificates": others }).to_string();
    let body = json!({ "config": config });
    stage.elsewhere(&Request::json("POST", "/config", &body));
    let mut sidecar = None;
    for round in ["created", "renewed"] {
        let mut served = Vec::new();
        for (name, kind, which) in encodings() {
            let pair = stage.issue(&name, kind);
            stage.publish(&name, &pair.chain_pem(), &pair.key().pem_encodings()[which]);
            served.push((name, pair));
        }
        if sidecar.is_none() {
            sidecar = Some(stage.sidecar(&[]).await);
        }
        let sidecar = sidecar.as_ref().unwrap();
        for (name, pair) in &served {
            until_served(sidecar, name, pair).await;
        }
        stage.assert_nothing_is_left(sidecar, round).await;
    }
    let sidecar = sidecar.unwrap();
    let pair = stage.issue("p2560", KeyKind::P256);
    let echo = json!({ "message": format!("declarative config is invalid: {config}") });
    stage.kong.inject(Fault::instead(Answer::json(400, &echo)).only("POST").always());
    stage.publish("p2560", &pair.chain_pem(), &pair.key_pem());
    sidecar.until_state("p2560", "refused").await;
    stage.assert_nothing_is_left(&sidecar, "refused with an echo").await;
}
