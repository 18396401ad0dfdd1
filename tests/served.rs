//! The proof with the program as it is: handshakes with a stand-in Kong whose proxy port is what
//! a Kong's may be.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use rustls::version::{TLS12, TLS13};
use serde_json::Value;
use tempfile::TempDir;
use testkit::{CertifiedPair, KongStandIn, Pki, SecretVolume, SidecarProcess};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kong-cert-reloader");
/// So that what is not served is given up after twice this long.
const PATIENCE: (&str, &str) = ("PROXY__TIMEOUT", "300ms");

struct Pod {
    kong: KongStandIn,
    certs: TempDir,
    pki: Pki,
}

impl Pod {
    async fn new() -> Self {
        let (kong, certs) = (KongStandIn::start().await, tempfile::tempdir().unwrap());
        Self { kong, certs, pki: Pki::new() }
    }

    /// A new generation for `a.test`.
    fn publish(&self) -> CertifiedPair {
        let pair = self.pki.pair(&["a.test", "*.b.test"]);
        let volume = SecretVolume::mount(self.certs.path().join("web"));
        assert!(volume.publish_pair(&pair));
        pair
    }

    async fn sidecar(&self, settings: &[(&str, &str)]) -> SidecarProcess {
        let url = self.kong.admin_url();
        let certs = self.certs.path().to_str().unwrap();
        let mut all = vec![("ADMIN__URL", url.as_str()), ("CERTS_DIR", certs)];
        all.extend(settings);
        SidecarProcess::start(PROGRAM, &all).await
    }
}

fn leaf(pair: &CertifiedPair) -> String {
    let digest = pair.leaf_sha256();
    digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

fn is_served(pair: &CertifiedPair) -> impl Fn(&Value) -> bool {
    let leaf = leaf(pair);
    move |shown| shown["state"] == "in_sync" && shown["served"]["leaf_sha256"][0] == leaf.as_str()
}

#[tokio::test]
async fn a_renewal_is_proven_by_a_handshake_for_each_name() {
    let pod = Pod::new().await;
    let first = pod.publish();
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until("web", is_served(&first)).await;
    let before = pod.kong.handshakes().len();
    let renewed = pod.publish();
    sidecar.until("web", is_served(&renewed)).await;
    let asked: Vec<String> =
        pod.kong.handshakes()[before..].iter().filter_map(|shaken| shaken.sni.clone()).collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked.contains(&"a.test".to_owned()));
    assert!(asked.iter().any(|name| name.starts_with("proof-") && name.ends_with(".b.test")));
    let metrics = sidecar.page("/metrics").await.1;
    assert!(metrics.contains(r#"proofs_total{result="served"} 4"#), "{metrics}");
    let served = r#"not_after_timestamp_seconds{binding="web",source="served"}"#;
    assert!(metrics.contains(served), "{metrics}");
}

#[tokio::test]
async fn a_listener_is_asked_as_kong_describes_it() {
    type Change = fn(&Pod);
    let cases: [(&str, Change); 4] = [
        ("the PROXY protocol", |pod| pod.kong.demand_proxy_protocol(true)),
        ("a client certificate", |pod| pod.kong.demand_proxy_clients_of(pod.pki.root())),
        ("TLS 1.2", |pod| pod.kong.proxy_versions(&[&TLS12])),
        ("TLS 1.3", |pod| pod.kong.proxy_versions(&[&TLS13])),
    ];
    for (what, change) in cases {
        let pod = Pod::new().await;
        change(&pod);
        let pair = pod.publish();
        let sidecar = pod.sidecar(&[PATIENCE]).await;
        let shown = sidecar.until("web", |shown| shown["state"] != "pending").await;
        assert!(is_served(&pair)(&shown), "{what}: {shown:#}");
    }
}

#[tokio::test]
async fn another_certificate_in_its_place_is_told_by_name_and_digest_until_it_is_gone() {
    let pod = Pod::new().await;
    let pair = pod.publish();
    let other = pod.pki.pair(&["a.test"]);
    pod.kong.model().serve_instead("a.test", Some(&other));
    let sidecar = pod.sidecar(&[PATIENCE]).await;
    let shown = sidecar.until_state("web", "not_served").await;
    assert_eq!(shown["reason"], "other_certificate");
    let message = shown["message"].as_str().unwrap();
    assert!(message.contains("a.test") && message.contains(&leaf(&other)), "{message}");
    assert_eq!(shown["served"]["leaf_sha256"][0], leaf(&other).as_str());
    assert_eq!(shown["kong"]["leaf_sha256"][0], leaf(&pair).as_str());
    let told = sidecar.logged("not in place").await;
    assert_eq!((&told["level"], &told["reason"]), (&"WARN".into(), &"other_certificate".into()));
    pod.kong.model().serve_instead("a.test", None);
    let renewed = pod.publish();
    sidecar.until("web", is_served(&renewed)).await;
}

#[tokio::test]
async fn a_stale_node_is_healed_by_the_announcement() {
    let pod = Pod::new().await;
    let first = pod.publish();
    let sidecar = pod.sidecar(&[PATIENCE]).await;
    sidecar.until("web", is_served(&first)).await;
    pod.kong.model().miss_changes(1);
    let renewed = pod.publish();
    sidecar.until("web", is_served(&renewed)).await;
    let patched: Vec<String> = pod
        .kong
        .model()
        .requests()
        .iter()
        .filter(|seen| seen.method == "PATCH")
        .map(|seen| seen.path.clone())
        .collect();
    assert!(patched[0].starts_with("/certificates/"), "{patched:?}");
    assert!(patched.contains(&"/snis/a.test".to_owned()), "{patched:?}");
    sidecar.logged("announced").await;
}

#[tokio::test]
async fn a_port_that_cannot_prove_anything_is_told_with_the_mend() {
    let mut pod = Pod::new().await;
    pod.kong.proxy_speaks_plain_http(true);
    pod.publish();
    let sidecar = pod.sidecar(&[PATIENCE]).await;
    let shown = sidecar.until_state("web", "not_served").await;
    assert_eq!(shown["reason"], "no_tls");
    assert!(shown["message"].as_str().unwrap().contains("PROXY__ADDRESS"), "{shown}");
    pod.kong.proxy_speaks_plain_http(false);
    pod.kong.stop_proxy().await;
    pod.publish();
    let shown = sidecar.until("web", |shown| shown["reason"] == "no_connection").await;
    assert_eq!(shown["state"], "not_served");
    pod.kong.restart_proxy().await;
    let renewed = pod.publish();
    sidecar.until("web", is_served(&renewed)).await;
}

#[tokio::test]
async fn a_port_that_hangs_puts_no_push_off_nor_the_end() {
    let pod = Pod::new().await;
    pod.kong.proxy_is_silent(true);
    pod.publish();
    let mut sidecar = pod.sidecar(&[]).await;
    sidecar.until("web", |shown| shown["reason"] == "proving").await;
    let renewed = pod.publish();
    let renewed = leaf(&renewed);
    sidecar.until("web", |shown| shown["kong"]["leaf_sha256"][0] == renewed.as_str()).await;
    // Not one of the handshakes has come to its end.
    let metrics = sidecar.page("/metrics").await.1;
    assert!(!metrics.contains("proofs_total{"), "{metrics}");
    assert!(sidecar.terminate().await.success());
}

#[tokio::test]
async fn where_handshakes_are_made_is_told_in_the_status() {
    let pod = Pod::new().await;
    let pair = pod.publish();
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until("web", is_served(&pair)).await;
    let status = sidecar.status().await;
    assert_eq!(status["kong"]["proxy"], pod.kong.proxy_addr().to_string());
    assert_eq!(status["kong"]["unproven"], Value::Null);
    let unproven = pod.sidecar(&[("PROXY__ADDRESS", "")]).await;
    unproven.until_state("web", "in_sync").await;
    let status = unproven.status().await;
    assert_eq!(status["kong"]["unproven"], "PROXY__ADDRESS is empty");
    assert_eq!(status["bindings"]["web"]["served"], Value::Null);
    unproven.logged("no handshakes are made").await;
}

#[tokio::test]
async fn kongs_own_certificate_that_is_older_than_the_file_is_told() {
    let pod = Pod::new().await;
    let older = pod.pki.leaf(&["a.test"]).not_before(1_000_000_000).issue();
    pod.kong.model().set_default_pair(&older.chain_pem(), &older.key_pem());
    pod.publish();
    let sidecar = pod.sidecar(&[]).await;
    let told = sidecar.logged("clients without SNI get an older certificate").await;
    let detail = told["problem"].as_str().unwrap();
    assert!(detail.contains("web") && detail.contains("ssl_cert"), "{detail}");
    let status = sidecar.status().await;
    assert_eq!(status["findings"][0], detail);
}
