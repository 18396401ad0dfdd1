//! What runs and `DECLARATIVE__FILE` lacks, or has otherwise: which of the two is loaded with the next
//! edition of the file. A paused clock, and a Kong in memory.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and read its files"
)]

#[path = "schedule/kong.rs"]
mod kong;
#[path = "schedule/pod.rs"]
mod pod;
#[path = "dbless/stage.rs"]
mod stage;

use kong_cert_reloader::settings::{AuthoritySettings, CertificateSettings, Settings};
use kong_cert_reloader::status::State;
use pod::START;
use serde_json::json;
use stage::{
    FILE, HOUR, ID, WithFile, certificate, edited, leaf, pki, posts, rows, served, state,
    with_certificates,
};
use testkit::{CertifiedPair, KeyKind, SecretVolume};
use tokio::time::{Duration, sleep};

/// A file with one certificate.
fn with(pair: &CertifiedPair, names: &[&str]) -> String {
    with_certificates(&json!([certificate(Some(ID), pair, names)]))
}

impl WithFile {
    /// The Secret cannot be used any more.
    async fn break_it(&self, name: &str) {
        self.pod.write(name, "tls.key", "broken");
        self.pod.wake_at(name);
        self.pod.until_named(name, |it| it.state == State::Invalid).await;
    }

    /// The next edition is loaded.
    async fn edit_and_load(&self, config: &str) {
        self.edit(&edited(config));
        self.until_host("10.0.0.2").await;
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_newer_pair_in_the_file_beats_the_last_good_one() {
    let pki = pki();
    let [old, good, newest] = [30, 20, 10].map(|hours| leaf(&pki, &["a.test"], hours));
    let it = WithFile::new(&with(&old, &["a.test"]), &[("web", &good)]).await;
    it.pod.until_in_sync_with(&good).await;
    it.break_it("web").await;
    it.edit_and_load(&with(&newest, &["a.test"])).await;
    assert_eq!(served(&it.kong, "a.test"), newest.leaf_der());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_pair_in_the_file_beats_the_last_good_one_that_has_expired() {
    let pki = pki();
    let old = leaf(&pki, &["a.test"], 30);
    let good = pki.leaf(&["a.test"]).not_before(START - 20 * HOUR).not_after(START + HOUR).issue();
    let it = WithFile::new(&with(&old, &["a.test"]), &[("web", &good)]).await;
    it.pod.until_in_sync_with(&good).await;
    sleep(Duration::from_secs(2 * 3600)).await;
    it.edit_and_load(&with(&old, &["a.test"])).await;
    assert_eq!(served(&it.kong, "a.test"), old.leaf_der());
    assert_eq!(state(&it.pod, "web").0, State::Invalid);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_no_binding_can_feed_goes_back_with_the_file() {
    let pki = pki();
    let [older, newer] = [40, 10].map(|hours| leaf(&pki, &["f.test"], hours));
    let nameless = leaf(&pki, &["10.0.0.1"], 20);
    // Refused for its names; never readable, and for another name; likewise, and for another object.
    let it = WithFile::before(&with(&newer, &["f.test"]), &[("nameless", &nameless)]);
    for name in ["named", "placed"] {
        it.pod.write(name, "tls.crt", "broken");
        it.pod.write(name, "tls.key", "broken");
    }
    let [named, placed] = ["named", "placed"].map(|name| Some(it.pod.directory(name)));
    let configure = |settings: &mut Settings| {
        let snis = Some(["b.test".parse().unwrap()].into());
        let named = CertificateSettings { dir: named, snis, ..Default::default() };
        let id = Some(uuid::Uuid::from_u128(7));
        let placed = CertificateSettings { dir: placed, id, ..Default::default() };
        settings.certificates.insert("named".parse().unwrap(), named);
        settings.certificates.insert("placed".parse().unwrap(), placed);
    };
    let it = it.started(configure).await;
    it.edit_and_load(&with(&older, &["f.test"])).await;
    assert_eq!(served(&it.kong, "f.test"), older.leaf_der());
    assert_eq!(state(&it.pod, "nameless"), (State::Refused, "no_sni"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn names_that_were_taken_outlive_a_change_of_the_file_with_a_broken_secret() {
    let pki = pki();
    let wide = leaf(&pki, &["a.test", "b.test", "x.test"], 30);
    let config = with(&wide, &["a.test", "b.test", "x.test"]);
    let [two, one] = [&["a.test", "b.test"][..], &["a.test"]].map(|names| leaf(&pki, names, 20));
    let it = WithFile::before(&config, &[("web", &two)]);
    let dir = Some(it.pod.directory("web"));
    let take = |settings: &mut Settings| {
        let taking = CertificateSettings { dir, take_snis: true, ..Default::default() };
        settings.certificates.insert("web".parse().unwrap(), taking);
    };
    let it = it.started(take).await;
    it.pod.until_in_sync_with(&two).await;
    // One that is given up goes back to the file's.
    it.pod.publish("web", &one);
    it.pod.until_in_sync_with(&one).await;
    let leaf_of = |name| served(&it.kong, name);
    assert_eq!(
        (leaf_of("a.test"), leaf_of("b.test")),
        (one.leaf_der().into(), wide.leaf_der().into())
    );
    it.break_it("web").await;
    it.edit_and_load(&config).await;
    assert_eq!(
        (leaf_of("a.test"), leaf_of("b.test")),
        (one.leaf_der().into(), wide.leaf_der().into())
    );
    let count = posts(&it.kong);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!((posts(&it.kong), state(&it.pod, FILE)), (count, (State::InSync, "")));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_same_pair_twice_in_the_file_without_ids_is_two_objects() {
    let pki = pki();
    let [old, new] = [30, 20].map(|hours| leaf(&pki, &["a.test", "b.test"], hours));
    let both = ["a.test", "b.test"].map(|name| certificate(None, &old, &[name]));
    let it = WithFile::new(&with_certificates(&json!(both)), &[("web", &new)]).await;
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(state(&it.pod, "web"), (State::Refused, "several_owners"));
    assert_eq!((posts(&it.kong), state(&it.pod, FILE)), (1, (State::InSync, "")));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_sidecar_that_starts_anew_without_a_secret_keeps_what_it_brought() {
    let pki = pki();
    let [older, new] = [300, 20].map(|hours| leaf(&pki, &["a.test"], hours));
    let expired = pki.leaf(&["a.test"]).not_before(START - 300 * HOUR).not_after(START - HOUR);
    let others = [40, 30].map(|hours| leaf(&pki, &["b.test"], hours));
    for (old, id) in [(&older, Some(ID)), (&older, None), (&expired.issue(), Some(ID))] {
        let config = with_certificates(&json!([certificate(id, old, &["a.test"])]));
        let mut it = WithFile::new(&config, &[("web", &new), ("own", &others[0])]).await;
        it.pod.until_in_sync_with(&new).await;
        it.pod.stop().await;
        // An optional Secret that is being made anew: its volume is empty.
        SecretVolume::mount(it.pod.directory("web")).publish(&[]);
        it.start(|_| {}).await;
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(served(&it.kong, "a.test"), new.leaf_der());
        it.pod.publish("own", &others[1]);
        it.pod.until_named("own", |own| own.state == State::InSync).await;
        it.edit_and_load(&config).await;
        assert_eq!(served(&it.kong, "a.test"), new.leaf_der());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_rollback_in_the_file_is_followed_after_a_start_of_the_sidecar_too() {
    let pki = pki();
    let [oldest, older, new] = [300, 200, 20].map(|hours| leaf(&pki, &["f.test"], hours));
    let other = leaf(&pki, &["b.test"], 40);
    let mut it = WithFile::new(&with(&new, &["f.test"]), &[("own", &other)]).await;
    it.pod.until_named("own", |own| own.state == State::InSync).await;
    it.pod.stop().await;
    // Nobody knows whether the file was rolled back, or a binding has gone.
    it.edit(&with(&older, &["f.test"]));
    it.start(|_| {}).await;
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(served(&it.kong, "f.test"), new.leaf_der());
    it.edit_and_load(&with(&oldest, &["f.test"])).await;
    assert_eq!(served(&it.kong, "f.test"), oldest.leaf_der());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_ca_certificate_in_the_file_beats_the_last_one_of_a_binding_that_has_expired() {
    let pki = pki();
    let ca = |name, hours| {
        pki.root().intermediate_with(name, KeyKind::P256, START - HOUR, START + hours * HOUR)
    };
    let (old, new) = (ca("Old", 2), ca("New", 4000));
    let config = |ca: &str, host: &str| {
        let cas = json!([{"id": ID, "cert": ca}]);
        let services = json!([{"name": "echo", "host": host}]);
        json!({"_format_version": "3.0", "ca_certificates": cas, "services": services}).to_string()
    };
    let [pair, renewed] = [30, 20].map(|hours| leaf(&pki, &["a.test"], hours));
    let mut it = WithFile::before(&config(&old.pem(), "10.0.0.1"), &[("web", &pair)]);
    let file = it.pod.write_file("ca.crt", &old.pem());
    it.start(|settings| {
        let trust = AuthoritySettings { file, id: Some(ID.parse().unwrap()), tags: [].into() };
        settings.authorities.insert("trust".parse().unwrap(), trust);
    })
    .await;
    it.pod.until_in_sync_with(&pair).await;
    sleep(Duration::from_secs(3 * 3600)).await;
    it.kong.model().set_now(START + 3 * HOUR);
    it.pod.wake_at("ca.crt");
    it.edit(&config(&new.pem(), "10.0.0.2"));
    it.until_host("10.0.0.2").await;
    assert_eq!(rows(&it.kong, "/ca_certificates")[0]["cert"], json!(new.pem()));
    it.pod.publish("web", &renewed);
    it.pod.until_in_sync_with(&renewed).await;
}
