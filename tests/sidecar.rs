//! The program as it is, from files to handshakes: real files, sockets and TLS, and a stand-in Kong.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test reads and tells what it likes"
)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use testkit::{
    Answer, CertifiedPair, Fault, KongStandIn, Pki, Request, SecretVolume, SidecarProcess,
    TlsClient,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kong-cert-reloader");

/// A Kong, a directory of volumes, and a sidecar between them.
struct Pod {
    kong: KongStandIn,
    certs: TempDir,
    pki: Pki,
}

impl Pod {
    async fn new() -> Self {
        Self {
            kong: KongStandIn::start().await,
            certs: tempfile::tempdir().unwrap(),
            pki: Pki::new(),
        }
    }

    fn volume(&self, name: &str) -> SecretVolume {
        SecretVolume::mount(self.certs.path().join(name))
    }

    async fn sidecar(&self, settings: &[(&str, &str)]) -> SidecarProcess {
        let url = self.kong.admin_url();
        let certs = self.certs.path().to_str().unwrap();
        let mut all =
            vec![("ADMIN__URL", url.as_str()), ("CERTS_DIR", certs), ("LOG__LEVEL", "debug")];
        all.extend(settings);
        SidecarProcess::start(PROGRAM, &all).await
    }

    async fn served(&self, sni: &str) -> Vec<Vec<u8>> {
        TlsClient::new().sni(sni).chain(self.kong.proxy_addr()).await.unwrap()
    }

    /// An object of Kong, as its Admin API shows it.
    fn held(&self, sni: &str) -> Value {
        self.kong.model().answer(&Request::new("GET", &format!("/certificates/{sni}"))).value()
    }

    fn put(&self, id: &str, pair: &CertifiedPair, more: &Value) {
        let mut body = json!({"cert": pair.chain_pem(), "key": pair.key_pem()});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let path = format!("/certificates/{id}");
        let answer = self.kong.model().answer(&Request::json("PUT", &path, &body));
        assert_eq!(answer.status, 200, "{}", answer.value());
    }

    fn writes(&self) -> u64 {
        self.kong.model().writes()
    }
}

fn publish(volume: &SecretVolume, pair: &CertifiedPair) {
    assert!(volume.publish_pair(pair));
}

fn in_sync_with(pair: &CertifiedPair) -> impl Fn(&Value) -> bool {
    let leaf = colons(&pair.leaf_sha256());
    move |shown| shown["state"] == "in_sync" && shown["kong"]["leaf_sha256"][0] == leaf.as_str()
}

fn colons(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_a_restart() {
    let pod = Pod::new().await;
    let volume = pod.volume("web");
    let first = pod.pki.pair(&["a.test", "*.b.test"]);
    publish(&volume, &first);
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until("web", in_sync_with(&first)).await;
    assert_eq!(pod.served("a.test").await, first.chain_ders());
    let renewed = pod.pki.pair(&["a.test", "*.b.test"]);
    publish(&volume, &renewed);
    sidecar.until("web", in_sync_with(&renewed)).await;
    assert_eq!(pod.served("a.test").await, renewed.chain_ders());
    assert_eq!(pod.served("x.b.test").await, renewed.chain_ders());
    assert_eq!(pod.writes(), 2);
    assert_eq!(pod.held("a.test")["tags"], json!(["managed-by:kong-cert-reloader:default"]));
}

#[tokio::test]
async fn a_swap_costs_one_look_and_one_write() {
    let pod = Pod::new().await;
    let volume = pod.volume("web");
    publish(&volume, &pod.pki.pair(&["a.test"]));
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until_state("web", "in_sync").await;
    let before = pod.kong.model().requests().len();
    let renewed = pod.pki.pair(&["a.test"]);
    publish(&volume, &renewed);
    sidecar.until("web", in_sync_with(&renewed)).await;
    let methods: Vec<String> =
        pod.kong.model().requests()[before..].iter().map(|seen| seen.method.clone()).collect();
    assert_eq!(methods, ["GET", "PUT"]);
}

#[tokio::test]
async fn a_mismatched_pair_is_not_pushed_and_the_last_good_one_stays() {
    let pod = Pod::new().await;
    let volume = pod.volume("web");
    let good = pod.pki.pair(&["a.test"]);
    publish(&volume, &good);
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until_state("web", "in_sync").await;
    let reason = "kong_cert_reloader_state_reason{binding=\"web\"";
    let told = sidecar.page("/metrics").await.1;
    assert!(!told.contains(reason), "in_sync needs none: {told}");
    let (cert, key) = (pod.pki.pair(&["a.test"]).chain_pem(), pod.pki.pair(&["a.test"]).key_pem());
    volume.publish(&[("tls.crt", cert.as_bytes()), ("tls.key", key.as_bytes())]);
    let shown = sidecar.until_state("web", "invalid").await;
    assert_eq!(shown["reason"], "key_mismatch");
    let told = sidecar.page("/metrics").await.1;
    let why =
        format!("{reason},kind=\"certificate\",state=\"invalid\",reason=\"key_mismatch\"}} 1");
    assert!(told.contains(&why), "{told}");
    let message = shown["message"].as_str().unwrap();
    assert!(message.contains("tls.key") && message.contains("write both"), "{message}");
    assert_eq!((pod.served("a.test").await, pod.writes()), (good.chain_ders().to_vec(), 1));
    let next = pod.pki.pair(&["a.test"]);
    publish(&volume, &next);
    sidecar.until("web", in_sync_with(&next)).await;
}

#[tokio::test]
async fn a_resync_repairs_what_was_deleted_or_altered() {
    let pod = Pod::new().await;
    let volume = pod.volume("web");
    let pair = pod.pki.pair(&["a.test"]);
    publish(&volume, &pair);
    let sidecar = pod.sidecar(&[("RESYNC_INTERVAL", "200ms"), ("HOLD", "100ms")]).await;
    sidecar.until_state("web", "in_sync").await;
    pod.kong.model().forget_everything();
    until(|| pod.held("a.test")["snis"] == json!(["a.test"])).await;
    assert_eq!(pod.served("a.test").await, pair.chain_ders());
    let id = pod.held("a.test")["id"].as_str().unwrap().to_owned();
    pod.put(&id, &pair, &json!({"snis": []}));
    until(|| pod.held("a.test")["snis"] == json!(["a.test"])).await;
    let counted = "kong_cert_reloader_contested_total{binding=\"web\"} 2";
    let told = async {
        while !sidecar.page("/metrics").await.1.contains(counted) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), told).await.expect("both were counted");
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let so = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), so).await.expect("it came about within 20 s");
}

#[tokio::test]
async fn a_swap_during_an_outage_arrives_when_kong_is_back() {
    let mut pod = Pod::new().await;
    let volume = pod.volume("web");
    publish(&volume, &pod.pki.pair(&["a.test"]));
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until_state("web", "in_sync").await;
    pod.kong.stop().await;
    publish(&volume, &pod.pki.pair(&["a.test"]));
    let newest = pod.pki.pair(&["a.test"]);
    publish(&volume, &newest);
    assert_eq!(sidecar.until_state("web", "unreachable").await["reason"], "no_answer");
    assert_eq!(sidecar.page("/livez").await.0, 200);
    assert_eq!(sidecar.page("/readyz").await.0, 200);
    pod.kong.restart().await;
    sidecar.until("web", in_sync_with(&newest)).await;
    assert_eq!(pod.served("a.test").await, newest.chain_ders());
}

#[tokio::test]
async fn odd_answers_are_told_retried_or_refused_and_never_crash() {
    let elsewhere = "http://127.0.0.1:9/";
    let cases = [
        ("html", Fault::html(), "unreachable", "not_kong"),
        ("half a body", Fault::cut_short(), "unreachable", "no_answer"),
        ("half a JSON", Fault::cut_json(), "unreachable", "not_kong"),
        ("10 MB", Fault::huge(), "unreachable", "not_kong"),
        ("nothing", Fault::nothing(), "unreachable", "not_kong"),
        ("a redirect", Fault::redirect(elsewhere), "unreachable", "not_kong"),
        ("another body", Fault::other_json(&json!({"hello": "world"})), "unreachable", "not_kong"),
        ("a reset", Fault::reset_before(), "unreachable", "no_answer"),
        ("429", Fault::status_retry_after(429, "0"), "unreachable", "no_answer"),
        ("500", Fault::status(500), "unreachable", "no_answer"),
        ("503", Fault::status(503), "unreachable", "no_answer"),
        ("401", Fault::status(401), "unauthorized", "credentials"),
        ("400", Fault::status(400), "refused", "by_kong"),
        ("413", Fault::status(413), "refused", "by_kong"),
    ];
    for (case, fault, state, reason) in cases {
        let pod = Pod::new().await;
        let volume = pod.volume("web");
        publish(&volume, &pod.pki.pair(&["a.test"]));
        let sidecar = pod.sidecar(&[]).await;
        sidecar.until_state("web", "in_sync").await;
        pod.kong.inject(fault.only("PUT").always());
        let next = pod.pki.pair(&["a.test"]);
        publish(&volume, &next);
        let shown = sidecar.until_state("web", state).await;
        assert_eq!(shown["reason"], reason, "{case}: {shown}");
        pod.kong.clear_faults();
        let next = pod.pki.pair(&["a.test"]);
        publish(&volume, &next);
        sidecar.until("web", in_sync_with(&next)).await;
        assert_eq!(pod.served("a.test").await, next.chain_ders(), "{case}");
    }
}

#[tokio::test]
async fn what_kong_refused_is_not_sent_again_until_something_changes() {
    let pod = Pod::new().await;
    let volume = pod.volume("web");
    publish(&volume, &pod.pki.pair(&["a.test"]));
    let sidecar = pod.sidecar(&[("RESYNC_INTERVAL", "50ms")]).await;
    sidecar.until_state("web", "in_sync").await;
    pod.kong.inject(Fault::status(400).only("PUT").always());
    publish(&volume, &pod.pki.pair(&["a.test"]));
    sidecar.until_state("web", "refused").await;
    let looks = |pod: &Pod| pod.kong.model().requests().len();
    let before = looks(&pod);
    until(|| looks(&pod) > before + 4).await;
    let text = sidecar.page("/metrics").await.1;
    let refused = "kong_cert_reloader_pushes_total{binding=\"web\",outcome=\"refused\"} 1";
    assert!(text.contains(refused), "{text}");
}

#[tokio::test]
async fn a_write_that_timed_out_but_landed_is_not_written_again() {
    let pod = Pod::new().await;
    let volume = pod.volume("web");
    let pair = pod.pki.pair(&["a.test"]);
    pod.kong.inject(Fault::slow(Duration::ZERO, Duration::from_secs(5)).only("PUT"));
    publish(&volume, &pair);
    let sidecar = pod.sidecar(&[("ADMIN__TIMEOUT", "300ms")]).await;
    sidecar.until("web", in_sync_with(&pair)).await;
    assert_eq!(pod.writes(), 1);
}

#[tokio::test]
async fn a_connection_that_broke_is_made_again_at_once() {
    let pod = Pod::new().await;
    let volume = pod.volume("web");
    publish(&volume, &pod.pki.pair(&["a.test"]));
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until_state("web", "in_sync").await;
    pod.kong.inject(Fault::reset_before().only("PUT"));
    let next = pod.pki.pair(&["a.test"]);
    publish(&volume, &next);
    sidecar.until("web", in_sync_with(&next)).await;
    let failed = |line: &String| line.contains("unreachable");
    assert!(!sidecar.lines().iter().any(failed), "{:?}", sidecar.lines());
}

#[tokio::test]
async fn a_proxy_in_the_environment_is_not_used() {
    let pod = Pod::new().await;
    let pair = pod.pki.pair(&["a.test"]);
    publish(&pod.volume("web"), &pair);
    let mut command = tokio::process::Command::new(PROGRAM);
    command
        .env_clear()
        .envs([("http_proxy", "http://127.0.0.1:9"), ("all_proxy", "http://127.0.0.1:9")]);
    command.env("CERT_RELOADER__LISTEN", "127.0.0.1:0");
    command.env("CERT_RELOADER__LOG__FORMAT", "json");
    command.env("CERT_RELOADER__CERTS_DIR", pod.certs.path());
    command.env("CERT_RELOADER__ADMIN__URL", pod.kong.admin_url());
    let sidecar = SidecarProcess::spawn(command).await;
    sidecar.until("web", in_sync_with(&pair)).await;
}

#[tokio::test]
async fn a_token_is_read_from_its_file_and_read_again() {
    let pod = Pod::new().await;
    let home = tempfile::tempdir().unwrap();
    let token = home.path().join("token");
    fs::write(&token, "wrong\n").unwrap();
    pod.kong.require_header("Kong-Admin-Token", "right", 401);
    let volume = pod.volume("web");
    publish(&volume, &pod.pki.pair(&["a.test"]));
    let sidecar = pod.sidecar(&[("ADMIN__TOKEN_FILE", token.to_str().unwrap())]).await;
    sidecar.until_state("web", "unauthorized").await;
    assert_ne!(sidecar.page("/readyz").await.0, 200);
    fs::write(&token, "right\n").unwrap();
    sidecar.until_state("web", "in_sync").await;
    assert_eq!(sidecar.page("/readyz").await.0, 200);
}

#[tokio::test]
async fn several_directories_under_one_data_link_are_bindings_of_their_own() {
    let pod = Pod::new().await;
    let volume = SecretVolume::mount(pod.certs.path());
    let (a, b) = (pod.pki.pair(&["a.test"]), pod.pki.pair(&["b.test"]));
    let both = |a: &CertifiedPair, b: &CertifiedPair| {
        let files = [a.chain_pem(), a.key_pem(), b.chain_pem(), b.key_pem()];
        let names = ["a/tls.crt", "a/tls.key", "b/tls.crt", "b/tls.key"];
        let files: Vec<_> = names.into_iter().zip(files.iter().map(String::as_bytes)).collect();
        volume.publish(&files);
    };
    both(&a, &b);
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until("a", in_sync_with(&a)).await;
    sidecar.until("b", in_sync_with(&b)).await;
    let writes = pod.writes();
    let renewed = pod.pki.pair(&["b.test"]);
    both(&a, &renewed);
    sidecar.until("b", in_sync_with(&renewed)).await;
    assert_eq!(pod.writes(), writes + 1);
}

#[tokio::test]
async fn plain_files_are_read_when_they_are_quiet() {
    let pod = Pod::new().await;
    let web = pod.certs.path().join("web");
    fs::create_dir(&web).unwrap();
    let write = |pair: &CertifiedPair| {
        fs::write(web.join("tls.crt"), pair.chain_pem()).unwrap();
        fs::write(web.join("tls.key"), pair.key_pem()).unwrap();
    };
    let first = pod.pki.pair(&["a.test"]);
    write(&first);
    let sidecar = pod.sidecar(&[("DEBOUNCE", "50ms")]).await;
    sidecar.until("web", in_sync_with(&first)).await;
    let renewed = pod.pki.pair(&["a.test"]);
    write(&renewed);
    sidecar.until("web", in_sync_with(&renewed)).await;
    assert!(!sidecar.lines().iter().any(|line| line.contains("invalid")), "{:?}", sidecar.lines());
    let half = pod.pki.pair(&["a.test"]);
    fs::write(web.join("tls.crt"), half.chain_pem()).unwrap();
    assert_eq!(sidecar.until_state("web", "invalid").await["reason"], "key_mismatch");
    fs::write(web.join("tls.key"), half.key_pem()).unwrap();
    sidecar.until("web", in_sync_with(&half)).await;
}

#[tokio::test]
async fn a_directory_that_appears_vanishes_and_comes_back_is_followed() {
    let pod = Pod::new().await;
    let sidecar = pod.sidecar(&[]).await;
    sidecar.logged("no certificates found; mount Secrets with tls.crt and tls.key beneath it, or set CERT_RELOADER__CERTIFICATES__NAME__DIR").await;
    let volume = pod.volume("web");
    let first = pod.pki.pair(&["a.test"]);
    publish(&volume, &first);
    sidecar.until("web", in_sync_with(&first)).await;
    volume.unmount();
    assert_eq!(sidecar.until_state("web", "invalid").await["reason"], "missing");
    assert_eq!(pod.served("a.test").await, first.chain_ders());
    volume.remount();
    let second = pod.pki.pair(&["a.test"]);
    publish(&volume, &second);
    sidecar.until("web", in_sync_with(&second)).await;
}

#[tokio::test]
async fn certificates_that_are_named_may_lie_anywhere() {
    let pod = Pod::new().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let (live, archive) = (elsewhere.path().join("live"), elsewhere.path().join("archive"));
    fs::create_dir(&live).unwrap();
    fs::create_dir(&archive).unwrap();
    let certbot = |generation: u32, pair: &CertifiedPair| {
        for (name, text) in [("fullchain", pair.chain_pem()), ("privkey", pair.key_pem())] {
            let file = format!("{name}{generation}.pem");
            fs::write(archive.join(&file), text).unwrap();
            let link = live.join(format!("{name}.pem"));
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(Path::new("../archive").join(file), link).unwrap();
        }
    };
    let first = pod.pki.pair(&["a.test"]);
    certbot(1, &first);
    let settings = [
        ("CERTIFICATES__SITE__DIR", live.to_str().unwrap()),
        ("CERTIFICATES__SITE__CERT", "fullchain.pem"),
        ("CERTIFICATES__SITE__KEY", "privkey.pem"),
        ("CERTIFICATES__SITE__SNIS", "a.test, www.a.test"),
        ("CERTIFICATES__SITE__TAGS", "prod"),
        ("DEBOUNCE", "50ms"),
    ];
    let sidecar = pod.sidecar(&settings).await;
    sidecar.until("site", in_sync_with(&first)).await;
    assert_eq!(pod.held("a.test")["snis"], json!(["a.test", "www.a.test"]));
    let renewed = pod.pki.pair(&["a.test"]);
    certbot(2, &renewed);
    sidecar.until("site", in_sync_with(&renewed)).await;
}

#[tokio::test]
async fn a_certificate_of_the_future_waits_for_its_time() {
    let pod = Pod::new().await;
    let volume = pod.volume("web");
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    let early = pod.pki.leaf(&["a.test"]).not_before(now + 3).not_after(now + 3600).issue();
    publish(&volume, &early);
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until_state("web", "not_yet_valid").await;
    assert_eq!(pod.writes(), 0);
    sidecar.until("web", in_sync_with(&early)).await;
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let pod = Pod::new().await;
    let volume = pod.volume("web");
    publish(&volume, &pod.pki.pair(&["a.test"]));
    let sidecar = pod.sidecar(&[("DRY_RUN", "true")]).await;
    let shown = sidecar.until("web", |shown| shown["reason"] == "dry_run").await;
    assert_eq!(shown["state"], "pending");
    assert!(shown["message"].as_str().unwrap().contains("created"), "{shown}");
    assert_eq!(pod.writes(), 0);
}

#[tokio::test]
async fn a_kong_without_a_database_is_renewed_and_a_broken_pair_never_gets_there() {
    let pod = Pod::new().await;
    pod.kong.model().dbless(true);
    let config = json!({"_format_version": "3.0", "services": [{"name": "echo", "host": "a"}]});
    pod.kong.model().answer(&Request::json("POST", "/config", &config));
    let (volume, first) = (pod.volume("web"), pod.pki.pair(&["a.test"]));
    publish(&volume, &first);
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until("web", in_sync_with(&first)).await;
    assert_eq!(sidecar.page("/readyz").await.0, 200);
    let second = pod.pki.pair(&["a.test"]);
    let (cert, key) = (second.chain_pem(), first.key_pem());
    volume.publish(&[("tls.crt", cert.as_bytes()), ("tls.key", key.as_bytes())]);
    sidecar.until_state("web", "invalid").await;
    let served = || async { TlsClient::new().sni("a.test").chain(pod.kong.proxy_addr()).await };
    assert_eq!(served().await.unwrap(), first.chain_ders());
    publish(&volume, &second);
    sidecar.until("web", in_sync_with(&second)).await;
    assert_eq!(served().await.unwrap(), second.chain_ders());
    let services = pod.kong.model().answer(&Request::new("GET", "/services")).value();
    assert_eq!(services["data"][0]["name"], "echo");
}

#[tokio::test]
async fn a_kong_whose_database_is_down_is_waited_for() {
    let pod = Pod::new().await;
    pod.kong.model().database_down(true);
    let pair = pod.pki.pair(&["a.test"]);
    publish(&pod.volume("web"), &pair);
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until_state("web", "unreachable").await;
    pod.kong.model().database_down(false);
    sidecar.until("web", in_sync_with(&pair)).await;
}

#[tokio::test]
async fn many_certificates_are_read_by_pages_and_a_restart_writes_none() {
    let pod = Pod::new().await;
    let pairs: Vec<_> = (0..40).map(|n| pod.pki.pair(&[&format!("n{n}.test")])).collect();
    for (n, pair) in pairs.iter().enumerate() {
        publish(&pod.volume(&format!("n{n}")), pair);
    }
    let mut sidecar = pod.sidecar(&[]).await;
    for (n, pair) in pairs.iter().enumerate() {
        sidecar.until(&format!("n{n}"), in_sync_with(pair)).await;
    }
    assert_eq!(pod.writes(), 40);
    assert!(sidecar.terminate().await.success());
    let paths = |from: usize| -> Vec<String> {
        pod.kong.model().requests()[from..].iter().map(|seen| seen.path.clone()).collect()
    };
    let before = paths(0).len();
    assert_eq!(paths(0)[..2], ["/", "/certificates?size=1000"]);
    assert_eq!(paths(2), vec!["/certificates"; 40]);
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until("n39", in_sync_with(&pairs[39])).await;
    assert_eq!(paths(before), ["/", "/certificates?size=1000"]);
    assert_eq!(pod.writes(), 40);
}

#[tokio::test]
async fn sigterm_finishes_the_write_under_way_within_two_seconds() {
    let pod = Pod::new().await;
    let volume = pod.volume("web");
    let pair = pod.pki.pair(&["a.test"]);
    publish(&volume, &pair);
    pod.kong.inject(Fault::slow(Duration::ZERO, Duration::from_millis(700)).only("PUT"));
    let mut sidecar = pod.sidecar(&[]).await;
    until(|| pod.writes() == 1).await;
    let asked = Instant::now();
    assert!(sidecar.terminate().await.success());
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert_eq!(pod.served("a.test").await, pair.chain_ders());
    // The answer was waited for.
    sidecar.logged("pushed").await;
    sidecar.logged("stopped").await;
}

#[tokio::test]
async fn a_name_that_moves_from_one_certificate_to_another_is_never_without_one() {
    let pod = Pod::new().await;
    let volume = SecretVolume::mount(pod.certs.path());
    let both = |a: &CertifiedPair, b: &CertifiedPair| {
        let files = [a.chain_pem(), a.key_pem(), b.chain_pem(), b.key_pem()];
        let names = ["a/tls.crt", "a/tls.key", "b/tls.crt", "b/tls.key"];
        let files: Vec<_> = names.into_iter().zip(files.iter().map(String::as_bytes)).collect();
        volume.publish(&files);
    };
    let (a, b) = (pod.pki.pair(&["a.test", "x.test"]), pod.pki.pair(&["b.test"]));
    both(&a, &b);
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until("a", in_sync_with(&a)).await;
    sidecar.until("b", in_sync_with(&b)).await;
    let (a, b) = (pod.pki.pair(&["a.test"]), pod.pki.pair(&["b.test", "x.test"]));
    both(&a, &b);
    until(|| pod.held("x.test")["snis"] == json!(["b.test", "x.test"])).await;
    assert_eq!(pod.served("x.test").await, b.chain_ders());
    // Now the one that gains the name is renewed before the one that loses it.
    let gains = pod.pki.pair(&["a.test", "x.test"]);
    both(&gains, &b);
    sidecar.until("a", in_sync_with(&gains)).await;
    assert_eq!(pod.served("x.test").await, b.chain_ders());
    both(&gains, &pod.pki.pair(&["b.test"]));
    until(|| pod.held("x.test")["snis"] == json!(["a.test", "x.test"])).await;
    assert_eq!(pod.served("x.test").await, gains.chain_ders());
}

#[tokio::test]
async fn probes_and_sigterm_are_heeded_in_a_flood_of_events() {
    let pod = Pod::new().await;
    let web = pod.certs.path().join("web");
    fs::create_dir(&web).unwrap();
    let pair = pod.pki.pair(&["a.test"]);
    fs::write(web.join("tls.crt"), pair.chain_pem()).unwrap();
    fs::write(web.join("tls.key"), pair.key_pem()).unwrap();
    let mut sidecar = pod.sidecar(&[("LOG__LEVEL", "info")]).await;
    sidecar.until_state("web", "in_sync").await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let flood = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            fs::write(web.join("one.log"), "x").unwrap();
            fs::write(web.join("two.log"), "x").unwrap();
        }
    });
    for _ in 0..3 {
        let asked = Instant::now();
        assert_eq!(sidecar.page("/livez").await.0, 200);
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    }
    let asked = Instant::now();
    assert!(sidecar.terminate().await.success());
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    flood.join().unwrap();
}

#[tokio::test]
async fn sigterm_ends_it_within_two_seconds_even_if_kong_never_answers() {
    let pod = Pod::new().await;
    publish(&pod.volume("web"), &pod.pki.pair(&["a.test"]));
    pod.kong.inject(Fault::slow(Duration::from_secs(9), Duration::ZERO).always());
    let mut sidecar = pod.sidecar(&[]).await;
    sidecar.logged("generation seen").await;
    let asked = Instant::now();
    assert!(sidecar.terminate().await.success());
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn as_pid_1_it_heeds_sigterm() {
    let pod = Pod::new().await;
    publish(&pod.volume("web"), &pod.pki.pair(&["a.test"]));
    let mut command = tokio::process::Command::new("unshare");
    command.args([
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        PROGRAM,
    ]);
    command.env_clear().env("PATH", "/usr/bin:/bin");
    for (name, value) in [
        ("LISTEN", "127.0.0.1:0"),
        ("LOG__FORMAT", "json"),
        ("CERTS_DIR", pod.certs.path().to_str().unwrap()),
        ("ADMIN__URL", &pod.kong.admin_url()),
    ] {
        command.env(format!("CERT_RELOADER__{name}"), value);
    }
    if !may_make_namespaces().await {
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            b"not tested: no namespaces may be made here\n",
        );
        return;
    }
    let mut sidecar = SidecarProcess::spawn(command).await;
    sidecar.until_state("web", "in_sync").await;
    let inner = child_of(sidecar.pid());
    let status = fs::read_to_string(format!("/proc/{inner}/status")).unwrap();
    let pids = status.lines().find(|line| line.starts_with("NSpid:")).unwrap();
    assert!(pids.ends_with("\t1"), "{pids}");
    let killed = tokio::process::Command::new("kill").args(["-TERM", &inner.to_string()]).status();
    assert!(killed.await.unwrap().success());
    assert!(sidecar.ended().await.success());
    sidecar.logged("stopped").await;
}

async fn may_make_namespaces() -> bool {
    let mut probe = tokio::process::Command::new("unshare");
    probe.args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "true"]);
    probe.output().await.is_ok_and(|output| output.status.success())
}

fn child_of(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_is_seen_from_outside_tells_and_keeps_its_limits() {
    let pod = Pod::new().await;
    publish(&pod.volume("web"), &pod.pki.pair(&["a.test"]));
    let sidecar = pod.sidecar(&[]).await;
    let shown = sidecar.until_state("web", "in_sync").await;
    let warnings = shown["warnings"].as_array().unwrap().len();
    assert_eq!(warnings, 1, "{shown}");
    for path in ["/livez", "/readyz"] {
        assert_eq!(sidecar.page(path).await.0, 200);
    }
    assert_eq!(sidecar.page("/nothing").await.0, 404);
    let post = Request::new("POST", "/livez");
    let answer = testkit::http_client::exchange(sidecar.address(), &post).await.unwrap();
    assert_eq!(answer.status, 405);
    let mut open = Request::new("GET", "/metrics");
    open.headers.push(("Accept".into(), "application/openmetrics-text; version=1.0.0".into()));
    let open: Answer = testkit::http_client::exchange(sidecar.address(), &open).await.unwrap();
    assert!(String::from_utf8(open.body).unwrap().ends_with("# EOF\n"));
    let (_, text) = sidecar.page("/metrics").await;
    for line in [
        "kong_cert_reloader_state{binding=\"web\",kind=\"certificate\",state=\"in_sync\"} 1",
        "kong_cert_reloader_state{binding=\"web\",kind=\"certificate\",state=\"held\"} 0",
        "kong_cert_reloader_pushes_total{binding=\"web\",outcome=\"applied\"} 1",
        "kong_cert_reloader_generations_total{binding=\"web\"} 1",
        "kong_cert_reloader_reconciles_total{trigger=\"start\"} 1",
        "kong_cert_reloader_renewal_overdue{binding=\"web\"} 0",
        "kong_cert_reloader_watch_polling 0",
        "kong_cert_reloader_findings 0",
        &*format!("kong_cert_reloader_warnings{{binding=\"web\"}} {warnings}"),
        "kong_cert_reloader_pushes_total{binding=\"web\",outcome=\"refused\"} 0",
        "kong_cert_reloader_contested_total{binding=\"web\"} 0",
        "kong_cert_reloader_propagation_seconds_count 1",
        "# TYPE kong_cert_reloader_pushes_total counter",
        "# TYPE kong_cert_reloader_build_info gauge",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    for family in [
        "not_after_timestamp_seconds{binding=\"web\",source=\"file\"}",
        "not_before_timestamp_seconds{binding=\"web\",source=\"kong\"}",
        "last_success_timestamp_seconds{",
        "admin_requests_total{method=\"PUT\",code=\"200\"} 1",
    ] {
        assert!(
            text.contains(&format!("kong_cert_reloader_{family}")),
            "{family} is not in\n{text}"
        );
    }
    assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
}

#[tokio::test]
async fn metrics_are_clean_for_promtool() {
    let pod = Pod::new().await;
    publish(&pod.volume("web"), &pod.pki.pair(&["a.test"]));
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until_state("web", "in_sync").await;
    let (_, text) = sidecar.page("/metrics").await;
    let promtool = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        testkit::missing("promtool is not installed; .ci/run fetches it");
        return;
    };
    std::io::Write::write_all(&mut promtool.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[tokio::test]
async fn a_probe_asks_the_sidecar_beside_it() {
    let pod = Pod::new().await;
    publish(&pod.volume("web"), &pod.pki.pair(&["a.test"]));
    let mut sidecar = pod.sidecar(&[]).await;
    sidecar.until_state("web", "in_sync").await;
    let address = sidecar.address().to_string();
    let probe = |what: &str| {
        let mut command = tokio::process::Command::new(PROGRAM);
        command.args(["probe", what]).env_clear().env("CERT_RELOADER__LISTEN", &address);
        command.output()
    };
    assert_eq!(probe("livez").await.unwrap().status.code(), Some(0));
    assert_eq!(probe("readyz").await.unwrap().status.code(), Some(0));
    assert_eq!(probe("nonsense").await.unwrap().status.code(), Some(2));
    sidecar.terminate().await;
    let output = probe("livez").await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("LISTEN"), "{output:?}");
}

#[tokio::test]
async fn it_leaves_no_core_dump() {
    let pod = Pod::new().await;
    let sidecar = pod.sidecar(&[]).await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", sidecar.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
}

#[tokio::test]
async fn directories_that_no_variable_can_tell_apart_are_a_mistake() {
    let pod = Pod::new().await;
    for name in ["a-b", "a.b"] {
        publish(&pod.volume(name), &pod.pki.pair(&["a.test"]));
    }
    let mut command = tokio::process::Command::new(PROGRAM);
    command.env_clear().env("CERT_RELOADER__CERTS_DIR", pod.certs.path());
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("a-b") && said.contains("a.b") && said.contains("rename"), "{said}");
}

#[tokio::test]
async fn wrong_settings_are_all_told_at_once_with_exit_code_2() {
    let mut command = tokio::process::Command::new(PROGRAM);
    command.env_clear().envs([
        ("CERT_RELOADER__HOLD", "long"),
        ("CERT_RELOADER__ADMIN__URL", "http://kong.example.com:8001"),
        ("CERT_RELOADER__COLOUR", "red"),
    ]);
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for name in ["HOLD", "ADMIN__URL", "COLOUR"] {
        assert!(said.contains(name), "{name} is not in {said}");
    }
}
