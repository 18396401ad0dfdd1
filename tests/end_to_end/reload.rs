//! What the program does about files that nginx reads itself. The same scenarios run against an nginx
//! of the tests' own and against a real Kong's.

use std::fs;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};

use futures_util::FutureExt as _;
use serde_json::Value;
use tempfile::TempDir;
use testkit::{CertifiedPair, Pki, SidecarProcess, TlsClient};
use tokio::process::Command;

use crate::stage::{PROGRAM, Stage, compared_again, in_sync_with, publish};
use crate::target::until;

/// Hands each scenario to `$test`, which makes a test of it.
macro_rules! for_each_reload_scenario {
    ($test:ident) => {
        $test!(renewed_files_are_served_to_clients_without_sni);
        $test!(nginx_is_not_told_of_a_broken_pair_and_serves_the_former);
    };
}
pub(crate) use for_each_reload_scenario;

/// As [`for_each_reload_scenario`]; these are for an nginx that is a Kong's without a database, which
/// reads `declarative_config` when it reloads, and forgets what was posted.
macro_rules! for_each_forgetful_scenario {
    ($test:ident) => {
        $test!(what_kong_forgets_when_it_reloads_is_there_again);
    };
}
pub(crate) use for_each_forgetful_scenario;

/// The binding.
const NAME: &str = "ssl_cert";
/// What the program says when it signals.
const TOLD: &str = "nginx signalled";

/// An nginx that serves a pair of files to clients without SNI, and can be signalled from here.
#[derive(Debug)]
pub(crate) struct Signalled {
    /// Where handshakes show the pair.
    pub(crate) proxy: SocketAddr,
    /// Where it keeps its process id.
    pub(crate) pid_file: PathBuf,
    /// The chain, which can be replaced from here.
    pub(crate) cert: PathBuf,
    /// Its key, likewise.
    pub(crate) key: PathBuf,
}

/// Plays a scenario and then puts the former files back, also where it fails, until they are served.
/// Its panic goes on after that.
pub(crate) async fn play_and_put_back(
    nginx: Signalled,
    scenario: impl AsyncFnOnce(&Signalled, &Pki),
) {
    let former = (fs::read(&nginx.cert).unwrap(), fs::read(&nginx.key).unwrap());
    let mut pem = &*former.0;
    let served: Vec<_> = rustls_pemfile::certs(&mut pem).map(|der| der.unwrap().to_vec()).collect();
    // Others than these would not be put back.
    nginx.serves(&served).await;
    // Its sidecar is killed when it ends, either way.
    let played = AssertUnwindSafe(scenario(&nginx, &Pki::new())).catch_unwind().await;
    nginx.write(&former.0, &former.1);
    nginx.signal().await;
    nginx.serves(&served).await;
    if let Err(panic) = played {
        resume_unwind(panic);
    }
}

pub(crate) async fn renewed_files_are_served_to_clients_without_sni(nginx: &Signalled, pki: &Pki) {
    let home = tempfile::tempdir().unwrap();
    let sidecar = nginx.sidecar(&home).await;
    sidecar.until_state(NAME, "in_sync").await;
    let told = times_told(&sidecar);
    for times in 1..=2 {
        let renewed = pki.pair(&["a.test"]);
        nginx.publish(&renewed);
        nginx.serves(renewed.chain_ders()).await;
        sidecar.until(NAME, in_sync_with(&renewed)).await;
        assert_eq!(times_told(&sidecar), told + times);
    }
}

pub(crate) async fn nginx_is_not_told_of_a_broken_pair_and_serves_the_former(
    nginx: &Signalled,
    pki: &Pki,
) {
    let home = tempfile::tempdir().unwrap();
    let good = pki.pair(&["a.test"]);
    let sidecar = nginx.sidecar(&home).await;
    nginx.publish(&good);
    sidecar.until(NAME, in_sync_with(&good)).await;
    let told = times_told(&sidecar);
    let (one, other) = (pki.pair(&["a.test"]), pki.pair(&["a.test"]));
    nginx.write(one.chain_pem().as_bytes(), other.key_pem().as_bytes());
    assert_eq!(sidecar.until_state(NAME, "invalid").await["reason"], "key_mismatch");
    compared_again(&sidecar).await;
    assert_eq!(times_told(&sidecar), told);
    nginx.serves(good.chain_ders()).await;
    let mended = pki.pair(&["a.test"]);
    nginx.publish(&mended);
    sidecar.until(NAME, in_sync_with(&mended)).await;
    nginx.serves(mended.chain_ders()).await;
}

pub(crate) async fn what_kong_forgets_when_it_reloads_is_there_again(
    nginx: &Signalled,
    stage: &Stage,
) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let pushed = stage.pair(&["a"]);
    publish(&pod.volume("web"), &pushed);
    let settings = nginx.settings();
    let mut settings: Vec<_> = settings.iter().map(|(name, value)| (*name, &**value)).collect();
    // Only the reload can tell that it is gone.
    settings.extend([("DECLARATIVE__POLL", "1h"), ("RELOAD__MIN_INTERVAL", "1s")]);
    let sidecar = pod.sidecar(&settings).await;
    sidecar.until("web", in_sync_with(&pushed)).await;
    sidecar.until_state(NAME, "in_sync").await;
    assert_eq!(kong.all("services").await.len(), 1);
    let renewed = stage.pki.pair(&["a.test"]);
    nginx.publish(&renewed);
    nginx.serves(renewed.chain_ders()).await;
    // What someone else posted is gone for good.
    let has_forgotten = async || kong.all("services").await.is_empty().then_some(());
    until("kong forgets; is declarative_config set, without services?", has_forgotten).await;
    let is_there = async || {
        let all = kong.all("certificates").await;
        all.iter().any(|object| object["cert"] == pushed.chain_pem()).then_some(())
    };
    until("the certificate is there again", is_there).await;
    kong.serves("a", pushed.chain_ders()).await;
    sidecar.until("web", in_sync_with(&pushed)).await;
}

fn times_told(sidecar: &SidecarProcess) -> usize {
    let is_it = |line: &String| {
        serde_json::from_str::<Value>(line).is_ok_and(|event| event["message"] == TOLD)
    };
    sidecar.lines().iter().filter(|line| is_it(line)).count()
}

impl Signalled {
    /// What leads a sidecar to its files and its process.
    fn settings(&self) -> [(&'static str, String); 4] {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        [
            ("RELOAD__FILES__SSL_CERT__CERT", text(&self.cert)),
            ("RELOAD__FILES__SSL_CERT__KEY", text(&self.key)),
            ("RELOAD__FILES__SSL_CERT__ADDRESS", self.proxy.to_string()),
            ("RELOAD__PID_FILE", text(&self.pid_file)),
        ]
    }

    /// Starts the program with nothing to do but this.
    async fn sidecar(&self, home: &TempDir) -> SidecarProcess {
        let settings = self.settings();
        let mut settings: Vec<_> = settings.iter().map(|(name, value)| (*name, &**value)).collect();
        settings.extend([
            ("ADMIN__URL", ""),
            ("CERTS_DIR", home.path().to_str().unwrap()),
            ("RELOAD__MIN_INTERVAL", "1s"),
            ("RESYNC_INTERVAL", "500ms"),
            ("LOG__LEVEL", "debug"),
        ]);
        SidecarProcess::start(PROGRAM, &settings).await
    }

    fn publish(&self, pair: &CertifiedPair) {
        self.write(pair.chain_pem().as_bytes(), pair.key_pem().as_bytes());
    }

    /// Into the files that are there, which stay whose they are.
    fn write(&self, cert: &[u8], key: &[u8]) {
        fs::write(&self.cert, cert).unwrap();
        fs::write(&self.key, key).unwrap();
    }

    async fn signal(&self) {
        let pid = fs::read_to_string(&self.pid_file).unwrap();
        let signal = Command::new("kill").args(["-HUP", "--", pid.trim()]).status().await;
        assert!(signal.unwrap().success(), "kill -HUP {}", pid.trim());
    }

    /// Waits until a client without SNI gets exactly this chain.
    pub(crate) async fn serves(&self, chain: &[Vec<u8>]) {
        let is_served = async || {
            let shown = TlsClient::new().chain(self.proxy).await;
            shown.is_ok_and(|shown| shown == chain).then_some(())
        };
        until("handshakes without SNI show that chain", is_served).await;
    }
}
