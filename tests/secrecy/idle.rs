//! What is left of keys in the memory of a sidecar that has nothing to do any more.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::pki::LONG_AGO;
use testkit::{
    Answer, CertifiedPair, Fault, KeyKind, KongStandIn, Pki, Request, SecretVolume, SidecarProcess,
    TestKey, TlsFront, not_tested,
};
use tokio::time::{sleep, timeout};

use crate::memory;
use crate::searcher::Searcher;
use crate::{PROGRAM, TOKEN, license};

/// So long after the last proof nothing of a key is left.
const A_WHILE: Duration = Duration::from_secs(1);
/// So often is it waited for where the machine is busy. Nothing happens in the sidecar meanwhile
/// that could hide anything.
const LOOKS: usize = 5;
/// Nothing that is waited for takes longer on any machine.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);

/// A Kong, volumes, and all keys that the sidecar beside them gets to see.
struct Stage<'a> {
    program: &'a Path,
    kong: KongStandIn,
    pki: Pki,
    home: TempDir,
    keys: Searcher,
    issued: i64,
}

impl<'a> Stage<'a> {
    async fn new(program: &'a Path) -> Self {
        let kong = KongStandIn::start().await;
        let home = tempfile::tempdir().unwrap();
        Self { program, kong, pki: Pki::new(), home, keys: Searcher::default(), issued: 0 }
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
        publish(&volume, cert, key);
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

    async fn sidecar(&self, settings: &[(&str, String)]) -> SidecarProcess {
        let (url, certs) = (self.kong.admin_url(), text(&self.home.path().join("certs")));
        // All that is said is put together in memory, too.
        let mut all = vec![("ADMIN__URL", &*url), ("CERTS_DIR", &*certs), ("LOG__LEVEL", "trace")];
        // Between two passes it is left alone.
        all.extend([("DECLARATIVE__POLL", "1h"), ("POLL_INTERVAL", "1h"), ("DEBOUNCE", "10ms")]);
        all.extend(settings.iter().map(|(name, value)| (*name, value.as_str())));
        SidecarProcess::start(self.program, &all).await
    }

    /// Others have a certificate that is gone on with.
    fn have_kong_hold_one_of_others(&mut self) {
        let theirs = self.issue("p2560", KeyKind::Rsa2048);
        let body = json!({
            "cert": theirs.chain_pem(), "key": theirs.key_pem(), "snis": ["p2560.test"],
            "tags": ["theirs"],
        });
        self.elsewhere(&Request::json("POST", "/certificates", &body));
    }

    /// What others have in a Kong without a database.
    fn configuration_of_others(&mut self) -> String {
        let mut others = Vec::new();
        for number in 0..40 {
            let pair = self.issue(&format!("others{number}"), KeyKind::Rsa2048);
            others.push(json!({
                "cert": pair.chain_pem(), "key": pair.key_pem(),
                "snis": [{ "name": format!("others{number}.test") }],
            }));
        }
        json!({ "_format_version": "3.0", "certificates": others }).to_string()
    }

    /// Has a sidecar bring keys of every kind to Kong, twice, and looks each time for what is left.
    async fn created_and_renewed(&mut self, settings: &[(&str, String)]) -> SidecarProcess {
        let created = self.publish_all();
        let sidecar = self.sidecar(settings).await;
        for (name, pair) in &created {
            until_served(&sidecar, name, pair).await;
        }
        self.assert_nothing_is_left(&sidecar, "created").await;
        for (name, pair) in &self.publish_all() {
            until_served(&sidecar, name, pair).await;
        }
        self.assert_nothing_is_left(&sidecar, "renewed").await;
        sidecar
    }

    /// A pair of each kind of key in each of its encodings, with the name of its binding.
    fn publish_all(&mut self) -> Vec<(String, CertifiedPair)> {
        let publish = |(name, kind, which): (String, KeyKind, usize)| {
            let pair = self.issue(&name, kind);
            self.publish(&name, &pair.chain_pem(), &pair.key().pem_encodings()[which]);
            (name, pair)
        };
        encodings().into_iter().map(publish).collect()
    }

    async fn nothing_is_left_of_lost_answers(&mut self, sidecar: &SidecarProcess) {
        for (moment, fault) in [
            ("the answer was lost", Fault::reset_after()),
            ("the answer was cut short", Fault::cut_short()),
            ("the answer was no JSON", Fault::cut_json()),
            ("the database failed", Fault::status(500)),
        ] {
            let pair = self.issue("rsa20480", KeyKind::Rsa2048);
            self.kong.inject(fault.only("PUT"));
            self.publish("rsa20480", &pair.chain_pem(), &pair.key_pem());
            until_served(sidecar, "rsa20480", &pair).await;
            self.assert_nothing_is_left(sidecar, moment).await;
        }
    }

    /// Kong refuses `pair`, and repeats keys.
    async fn nothing_is_left_of_an_echo(
        &self,
        sidecar: &SidecarProcess,
        method: &str,
        echo: &Value,
        pair: &CertifiedPair,
    ) {
        let refusal = Fault::instead(Answer::json(400, echo));
        self.kong.inject(refusal.only(method).always());
        self.publish("rsa20480", &pair.chain_pem(), &pair.key_pem());
        sidecar.until_state("rsa20480", "refused").await;
        self.assert_nothing_is_left(sidecar, "refused with an echo").await;
        self.kong.clear_faults();
    }

    /// The search finds what is there: while a write is not answered, the keys that it has.
    async fn keys_are_found_while_they_are_sent(&mut self, sidecar: &SidecarProcess) {
        let pair = self.issue("rsa20480", KeyKind::Rsa2048);
        let mut sent = Searcher::default();
        sent.add_private_numbers("the key that is sent", pair.key());
        self.kong.inject(Fault::slow(PATIENCE, Duration::ZERO).only("POST"));
        self.publish("rsa20480", &pair.chain_pem(), &pair.key_pem());
        let found = async {
            // Mappings come and go while it is at work.
            while !memory::traces(sidecar.pid(), &sent).is_ok_and(|traces| !traces.is_empty()) {
                sleep(PAUSE).await;
            }
        };
        timeout(PATIENCE, found).await.expect("the key, while it is sent");
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

fn publish(volume: &SecretVolume, cert: &str, key: &str) {
    volume.publish(&[("tls.crt", cert.as_bytes()), ("tls.key", key.as_bytes())]);
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

/// The program of this build, and the one that is shipped: its allocator and its optimizations are
/// others. None where their memory cannot be read.
fn programs() -> Vec<PathBuf> {
    if !rustix::process::geteuid().is_root() {
        not_tested("what is left of keys in memory, which takes root");
        return Vec::new();
    }
    let shipped = env::var_os("KONG_CERT_RELOADER_STATIC").map(PathBuf::from);
    if shipped.is_none() {
        not_tested(
            "what is left of keys in the memory of the static program: KONG_CERT_RELOADER_STATIC names none; .ci/run builds one",
        );
    }
    [Some(PROGRAM.into()), shipped].into_iter().flatten().collect()
}

#[tokio::test]
async fn no_private_key_is_left_once_it_is_served_from_a_database() {
    for program in programs() {
        let mut stage = Stage::new(&program).await;
        let admin = Pki::new();
        let (server, client) = (admin.leaf(&["localhost"]), admin.pair(&["client.test"]));
        let server = server.ip([127, 0, 0, 1].into()).issue();
        let mut front = TlsFront::start(stage.kong.admin_addr(), &server).await;
        front.demand_clients_of(admin.root());
        stage.kong.require_header("Kong-Admin-Token", TOKEN, 401);
        stage.have_kong_hold_one_of_others();
        let (one, other) =
            (stage.issue("odd", KeyKind::Rsa2048), stage.issue("odd", KeyKind::P256));
        stage.publish("odd", &one.chain_pem(), &other.key_pem());
        let settings = [
            ("ADMIN__URL", front.url("127.0.0.1")),
            ("ADMIN__CA_FILE", stage.file("ca.crt", admin.root().pem())),
            ("ADMIN__CLIENT_CERT_FILE", stage.file("client.crt", client.chain_pem())),
            ("ADMIN__CLIENT_KEY_FILE", stage.file("client.key", client.key_pem())),
            ("ADMIN__TOKEN", TOKEN.to_owned()),
        ];
        let sidecar = stage.created_and_renewed(&settings).await;
        sidecar.until_state("odd", "invalid").await;
        stage.nothing_is_left_of_lost_answers(&sidecar).await;
        let pair = stage.issue("rsa20480", KeyKind::Rsa2048);
        let words = format!("schema violation (key: {})", pair.key_pem());
        let fields = json!({ "key": pair.key_pem() });
        let echo = json!({ "message": words, "code": 2, "fields": fields });
        stage.nothing_is_left_of_an_echo(&sidecar, "PUT", &echo, &pair).await;

        // What is needed as long as it runs is there: this would find it.
        let mut kept = Searcher::default();
        kept.add_private_numbers("the client's key", client.key());
        assert!(!traces_in(&sidecar, &kept).is_empty(), "not even the client's key is found");
    }
}

#[tokio::test]
async fn no_private_key_is_left_once_it_is_served_without_a_database() {
    for program in programs() {
        let mut stage = Stage::new(&program).await;
        stage.kong.model().dbless(true);
        let config = stage.configuration_of_others();
        stage.elsewhere(&Request::json("POST", "/config", &json!({ "config": config })));
        let sidecar = stage.created_and_renewed(&[]).await;
        let pair = stage.issue("rsa20480", KeyKind::Rsa2048);
        let echo = json!({ "message": format!("declarative config is invalid: {config}") });
        stage.nothing_is_left_of_an_echo(&sidecar, "POST", &echo, &pair).await;
        stage.keys_are_found_while_they_are_sent(&sidecar).await;
    }
}

#[tokio::test]
async fn no_private_key_is_left_once_a_file_brings_the_rest() {
    for program in programs() {
        let mut stage = Stage::new(&program).await;
        stage.kong.model().dbless(true);
        let config = stage.configuration_of_others();
        let settings = [("DECLARATIVE__FILE", stage.file("kong.json", config))];
        let sidecar = stage.created_and_renewed(&settings).await;
        stage.keys_are_found_while_they_are_sent(&sidecar).await;
    }
}

#[tokio::test]
async fn no_licence_is_left_and_no_key_that_nginx_reads() {
    for program in programs() {
        for is_dbless in [false, true] {
            let mut stage = Stage::new(&program).await;
            stage.kong.model().enterprise(true);
            stage.kong.model().dbless(is_dbless);
            if is_dbless {
                let config = stage.configuration_of_others();
                stage.elsewhere(&Request::json("POST", "/config", &json!({ "config": config })));
            }
            let pair = stage.issue("nginx", KeyKind::Rsa2048);
            let directory = stage.home.path().join("nginx");
            publish(&SecretVolume::mount(&directory), &pair.chain_pem(), &pair.key_pem());
            let license = license(0, &mut stage.keys);
            let settings = [
                ("LICENSES__EE__FILE", stage.file("ee.json", license)),
                ("RELOAD__FILES__NGINX__DIR", text(&directory)),
                // Of no process: no nginx of this machine is signalled.
                ("RELOAD__PID_FILE", text(&stage.home.path().join("nginx.pid"))),
            ];
            let sidecar = stage.sidecar(&settings).await;
            sidecar.until_state("ee", "in_sync").await;
            sidecar.until_state("nginx", "unreachable").await;
            stage.assert_nothing_is_left(&sidecar, "with a licence").await;
        }
    }
}
