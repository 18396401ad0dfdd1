//! The program beside a real nginx: from files in a volume to handshakes, without an Admin API.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;
use testkit::{
    CertifiedPair, KeyKind, NginxProcess, Pki, SecretVolume, SidecarProcess, TlsClient, missing,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kong-cert-reloader");
/// What nginx says of a signal that it got.
const SIGNAL: &str = "signal 1 (SIGHUP) received";

/// An nginx that serves what is in two volumes, each at a port of its own.
struct Pod {
    nginx: NginxProcess,
    volumes: [SecretVolume; 2],
    pki: Pki,
    home: TempDir,
}

const NAMES: [&str; 2] = ["web", "api"];

impl Pod {
    /// `None`, and told so, where there is no nginx.
    async fn new() -> Option<Self> {
        let Some(program) = NginxProcess::program() else {
            missing("nginx, which is not installed; .ci/run fetches it");
            return None;
        };
        let (home, pki) = (tempfile::tempdir().unwrap(), Pki::new());
        let volumes = NAMES.map(|name| SecretVolume::mount(home.path().join(name)));
        for volume in &volumes {
            publish(volume, &pki.pair(&["a.test"]));
        }
        let pairs = volumes.each_ref().map(files);
        let nginx = NginxProcess::start(&program, home.path(), &pairs).await;
        Some(Self { nginx, volumes, pki, home })
    }

    async fn sidecar(&self, settings: &[(&str, &str)]) -> SidecarProcess {
        let at = |name| self.home.path().join(name).display().to_string();
        let [web, api] = NAMES.map(at);
        let none = at("none");
        let [web_port, api_port] = [0, 1].map(|server| self.nginx.address(server).to_string());
        let pid_file = self.nginx.pid_file().display().to_string();
        let common = [
            ("ADMIN__URL", ""),
            ("CERTS_DIR", &none),
            ("RELOAD__FILES__WEB__DIR", &web),
            ("RELOAD__FILES__WEB__ADDRESS", &web_port),
            ("RELOAD__FILES__API__DIR", &api),
            ("RELOAD__FILES__API__ADDRESS", &api_port),
            ("RELOAD__PID_FILE", &pid_file),
            ("RELOAD__MIN_INTERVAL", "1s"),
        ];
        SidecarProcess::start(PROGRAM, &[&common, settings].concat()).await
    }

    fn renew(&self, server: usize) -> CertifiedPair {
        let pair = self.pki.pair(&["a.test"]);
        publish(&self.volumes[server], &pair);
        pair
    }

    async fn served(&self, server: usize) -> Vec<Vec<u8>> {
        TlsClient::new().chain(self.nginx.address(server)).await.unwrap()
    }

    fn signals(&self) -> usize {
        self.nginx.error_log().matches(SIGNAL).count()
    }
}

fn files(volume: &SecretVolume) -> (PathBuf, PathBuf) {
    (volume.root().join("tls.crt"), volume.root().join("tls.key"))
}

fn publish(volume: &SecretVolume, pair: &CertifiedPair) {
    assert!(volume.publish_pair(pair));
}

/// It is in sync, and what is shown and served is this.
fn in_sync_with(pair: &CertifiedPair) -> impl Fn(&Value) -> bool {
    let leaf = pair.leaf_fingerprint();
    move |shown| {
        let is_leaf = |place: &str| shown[place]["leaf_sha256"][0] == *leaf;
        shown["state"] == "in_sync" && is_leaf("file") && is_leaf("served")
    }
}

#[tokio::test]
async fn a_renewal_in_the_volume_is_served_and_a_restart_of_the_sidecar_signals_nothing() {
    let Some(pod) = Pod::new().await else { return };
    let mut sidecar = pod.sidecar(&[]).await;
    sidecar.until_state("web", "in_sync").await;
    sidecar.until_state("api", "in_sync").await;
    assert_eq!(pod.signals(), 0);
    let renewed = pod.renew(0);
    sidecar.until("web", in_sync_with(&renewed)).await;
    assert_eq!(pod.served(0).await, renewed.chain_ders());
    assert_eq!(pod.signals(), 1);
    assert!(sidecar.terminate().await.success());
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until("web", in_sync_with(&renewed)).await;
    sidecar.until_state("api", "in_sync").await;
    assert_eq!((pod.signals(), sidecar.page("/readyz").await.0), (1, 200));
}

#[tokio::test]
async fn a_renewal_that_came_while_no_sidecar_ran_is_served_when_one_starts() {
    let Some(pod) = Pod::new().await else { return };
    let other_type = pod.pki.leaf(&["a.test"]).kind(KeyKind::Rsa2048).issue();
    publish(&pod.volumes[0], &other_type);
    let renewed = pod.renew(1);
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until("web", in_sync_with(&other_type)).await;
    sidecar.until("api", in_sync_with(&renewed)).await;
    assert_eq!(pod.signals(), 1);
}

#[tokio::test]
async fn a_broken_pair_holds_up_the_other_and_both_are_served_when_it_is_mended() {
    let Some(pod) = Pod::new().await else { return };
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until_state("web", "in_sync").await;
    let (cert, key) = (pod.pki.pair(&["a.test"]).chain_pem(), pod.pki.pair(&["a.test"]).key_pem());
    pod.volumes[1].publish(&[("tls.crt", cert.as_bytes()), ("tls.key", key.as_bytes())]);
    sidecar.until_state("api", "invalid").await;
    let web = pod.renew(0);
    let held = sidecar.until_state("web", "held").await;
    assert_eq!((&held["reason"], pod.signals()), (&Value::from("broken_beside"), 0));
    let api = pod.renew(1);
    sidecar.until("api", in_sync_with(&api)).await;
    sidecar.until("web", in_sync_with(&web)).await;
    assert_eq!(
        (pod.served(0).await, pod.served(1).await),
        (web.chain_ders().to_vec(), api.chain_ders().to_vec())
    );
    assert_eq!(pod.signals(), 1);
}

#[tokio::test]
async fn a_pid_file_that_is_left_behind_is_told_and_diff_signals_nothing() {
    let Some(mut pod) = Pod::new().await else { return };
    let renewed = pod.renew(0);
    let settings = |pod: &Pod| {
        let at = |name| pod.home.path().join(name).display().to_string();
        [
            ("ADMIN__URL", String::new()),
            ("CERTS_DIR", at("none")),
            ("RELOAD__FILES__WEB__DIR", at("web")),
            ("RELOAD__FILES__WEB__ADDRESS", pod.nginx.address(0).to_string()),
            ("RELOAD__PID_FILE", pod.nginx.pid_file().display().to_string()),
            ("RELOAD__MIN_INTERVAL", "1s".to_owned()),
        ]
    };
    let run = async |command: &str| {
        let all = settings(&pod);
        let all: Vec<_> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut process = testkit::sidecar_process::with_settings(PROGRAM.as_ref(), &all);
        let output = process.arg(command).output().await.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, told) = run("diff").await;
    assert_eq!((code, pod.signals()), (Some(3), 0), "{told}");
    assert!(told.starts_with("web: nginx would be told to reload\n"), "{told}");
    assert!(!told.contains("    kong"), "{told}");
    let (code, told) = run("sync").await;
    assert_eq!((code, pod.signals()), (Some(0), 1), "{told}");
    assert_eq!(pod.served(0).await, renewed.chain_ders());
    let (code, told) = run("diff").await;
    assert_eq!((code, pod.signals()), (Some(0), 1), "{told}");
    let (path, pid) = (pod.nginx.pid_file(), pod.nginx.pid());
    pod.nginx.stop();
    std::fs::write(&path, format!("{pid}\n")).unwrap();
    let sidecar = pod.sidecar(&[]).await;
    let shown = sidecar.until_state("web", "unreachable").await;
    let told = shown["reason"].as_str().unwrap();
    // The second where the tests are alone in a container.
    assert!(["pid_file_stale", "processes_not_shared"].contains(&told), "{shown}");
}
