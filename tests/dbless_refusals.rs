//! What a Kong without a database will not have: that is left out, what it runs stays, and neither is
//! sent over and over, but after a restart of Kong and once an hour. A paused clock, and a Kong in
//! memory.
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

use std::time::Duration;

use kong::{Fault, KongInProcess};
use kong_cert_reloader::settings::{AuthoritySettings, Settings};
use kong_cert_reloader::status::{BindingStatus, State};
use pod::{Pod, START, assert_within};
use serde_json::json;
use stage::{
    FILE, HOUR, ID, OTHERS, POLL, WithFile, edited, kong, leaf, load, pki, posts, rows, served,
    state,
};
use testkit::{CertifiedPair, KeyKind, Pki, Request};
use tokio::time::sleep;

const AN_HOUR: Duration = Duration::from_secs(3600);
/// What is refused is not sent again before an hour is over.
const UNDER_AN_HOUR: Duration = Duration::from_secs(59 * 60);
/// The default of `RESYNC_INTERVAL`, with its jitter.
const RESYNC: Duration = Duration::from_secs(360);

/// A line that no other certificate has.
fn line_of(pair: &CertifiedPair) -> String {
    pair.chain_pem().lines().nth(5).unwrap().to_owned()
}

/// A CA certificate in the place of one object.
fn authority(file: std::path::PathBuf) -> impl Fn(&mut Settings) {
    move |settings| {
        let id = Some(ID.parse().unwrap());
        let trust = AuthoritySettings { file: file.clone(), id, tags: [].into() };
        settings.authorities.insert("trust".parse().unwrap(), trust);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_renewal_that_kong_refuses_leaves_the_certificate_that_is_served() {
    let (kong, pki) = (kong(OTHERS), pki());
    let [old, new] = [30, 20].map(|hours| leaf(&pki, &["a.test"], hours));
    let pod = Pod::with(&old, &kong);
    pod.until_in_sync_with(&old).await;
    let id = rows(&kong, "/certificates")[0]["id"].as_str().unwrap().to_owned();
    kong.refuse_config_blaming(&line_of(&new), &id);
    pod.publish("web", &new);
    pod.until_state(State::Refused).await;
    assert_eq!(rows(&kong, "/certificates").len(), 1);
    assert_eq!(served(&kong, "a.test"), old.leaf_der());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn with_a_file_a_renewal_that_kong_refuses_leaves_the_certificate_that_is_served() {
    let pki = pki();
    let [old, new] = [30, 20].map(|hours| leaf(&pki, &["a.test"], hours));
    let it = WithFile::new(OTHERS, &[("web", &old)]).await;
    it.pod.until_in_sync_with(&old).await;
    let id = rows(&it.kong, "/certificates")[0]["id"].as_str().unwrap().to_owned();
    it.kong.refuse_config_blaming(&line_of(&new), &id);
    it.pod.publish("web", &new);
    it.pod.until_state(State::Refused).await;
    sleep(AN_HOUR).await;
    assert_eq!(state(&it.pod, "web").0, State::Refused);
    assert_eq!(served(&it.kong, "a.test"), old.leaf_der());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_ca_certificate_that_kong_refuses_leaves_the_one_in_its_place() {
    let (kong, pki) = (kong(OTHERS), pki());
    let [old, new] = [("Old", 1000), ("New", 400)].map(|(name, hours)| {
        pki.root().intermediate_with(name, KeyKind::P256, START - HOUR, START + hours * HOUR)
    });
    let mut pod = Pod::new();
    let file = pod.write_file("ca.crt", &old.pem());
    pod.start_with(&kong, authority(file));
    pod.until_named("trust", |it| it.state == State::InSync).await;
    // By Kong's clock the new one has expired.
    kong.model().set_now(START + 500 * HOUR);
    pod.write_file("ca.crt", &new.pem());
    pod.until_named("trust", |it| it.state == State::Refused).await;
    let authorities = rows(&kong, "/ca_certificates");
    assert_eq!((authorities.len(), &authorities[0]["cert"]), (1, &old.pem().into()));
    sleep(UNDER_AN_HOUR).await;
    assert_eq!(posts(&kong), 2);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_change_that_is_refused_alone_loads_nothing() {
    let (kong, pki) = (kong(OTHERS), pki());
    let mut pod = Pod::new();
    let ca = pki.root().intermediate_with("Bad", KeyKind::P256, START - HOUR, START + 400 * HOUR);
    let file = pod.write_file("ca.crt", &ca.pem());
    // By Kong's clock it has expired.
    kong.model().set_now(START + 500 * HOUR);
    pod.start_with(&kong, authority(file));
    pod.until_named("trust", |it| it.state == State::Refused).await;
    sleep(UNDER_AN_HOUR).await;
    assert_eq!(posts(&kong), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_refusal_for_what_is_not_ours_is_not_sent_over_and_over() {
    let pki = pki();
    let ca = pki.root().intermediate_with("Old", KeyKind::P256, START - HOUR, START + 400 * HOUR);
    let config = json!({
        "_format_version": "3.0",
        "ca_certificates": [{ "id": ID, "cert": ca.pem() }],
        "services": [{ "name": "echo", "host": "10.0.0.1" }],
    });
    let kong = kong(&config.to_string());
    let [old, new] = [30, 20].map(|hours| leaf(&pki, &["a.test"], hours));
    let pod = Pod::with(&old, &kong);
    pod.until_in_sync_with(&old).await;
    kong.model().set_now(START + 500 * HOUR);
    pod.publish("web", &new);
    pod.until_state(State::Refused).await;
    let message = pod.binding("web").message.unwrap();
    assert!(message.contains("not because of this binding"), "{message}");
    sleep(UNDER_AN_HOUR).await;
    assert_eq!((state(&pod, "web"), posts(&kong)), ((State::Refused, "by_kong"), 2));
    // Someone takes it out, and nothing else is changed.
    load(&kong, OTHERS);
    sleep(POLL).await;
    pod.until_in_sync_with(&new).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_file_that_is_too_large_holds_up_no_certificate() {
    let pair = leaf(&pki(), &["a.test"], 20);
    let it = WithFile::before(&edited(OTHERS), &[("web", &pair)]);
    load(&it.kong, OTHERS);
    it.kong.inject(Fault::refusal(413, "not enough memory: MDB_MAP_FULL").only("POST"));
    let it = it.started(|_| {}).await;
    it.pod.until_in_sync_with(&pair).await;
    sleep(UNDER_AN_HOUR).await;
    assert_eq!((state(&it.pod, FILE), posts(&it.kong)), ((State::Refused, "by_kong"), 2));
    assert_eq!(rows(&it.kong, "/services")[0]["host"], "10.0.0.1");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_was_too_large_is_sent_again_when_the_rest_is_another() {
    let (kong, pki) = (kong(OTHERS), pki());
    let [old, new] = [30, 20].map(|hours| leaf(&pki, &["a.test"], hours));
    let pod = Pod::with(&old, &kong);
    pod.until_in_sync_with(&old).await;
    kong.inject(Fault::refusal(413, "not enough memory: MDB_MAP_FULL").only("POST"));
    pod.publish("web", &new);
    pod.until_state(State::Refused).await;
    assert_eq!(pod.metric("pushes_total{binding=\"web\",outcome=\"refused\"}"), 1);
    // Someone makes it smaller; ours is in it as it was.
    let export = kong.model().elsewhere(|model| model.answer(&Request::new("GET", "/config")));
    load(&kong, &edited(export.value()["config"].as_str().unwrap()));
    sleep(POLL).await;
    pod.until_in_sync_with(&new).await;
    assert_eq!(posts(&kong), 3);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_file_that_is_not_taken_says_nothing_of_what_is_in_sync() {
    let pair = leaf(&pki(), &["a.test"], 20);
    let full = Fault::refusal(413, "not enough memory: MDB_MAP_FULL");
    let silent = Fault::timeout(Duration::from_secs(13));
    for (fault, expected) in [
        (full, (State::Refused, "by_kong")),
        (Fault::status(503), (State::Unreachable, "no_answer")),
        (silent, (State::Pending, "applying")),
    ] {
        let it = WithFile::new(OTHERS, &[("web", &pair)]).await;
        it.pod.until_in_sync_with(&pair).await;
        it.kong.inject(fault.only("POST").always());
        it.edit(&edited(OTHERS));
        let is_told = |file: &BindingStatus| file.state != State::InSync;
        it.pod.until_named(FILE, is_told).await;
        for _ in 0..60 {
            assert_eq!(state(&it.pod, "web"), (State::InSync, ""), "{expected:?}");
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(state(&it.pod, FILE), expected);
        let pushes = |outcome: &str| {
            it.pod.metric(&format!("pushes_total{{binding=\"web\",outcome=\"{outcome}\"}}"))
        };
        assert_eq!((pushes("applied"), pushes("refused"), pushes("failed")), (1, 0, 0));
    }
}

/// Kong would not have a renewal, for its size; what is served, and by whom, is as it was.
async fn too_large(kong: &KongInProcess, pki: &Pki) -> (Pod, CertifiedPair) {
    let [old, new] = [30, 20].map(|hours| leaf(pki, &["a.test"], hours));
    let pod = Pod::with(&old, kong);
    pod.until_in_sync_with(&old).await;
    kong.inject(Fault::refusal(413, "not enough memory: MDB_MAP_FULL").only("POST"));
    pod.publish("web", &new);
    pod.until_state(State::Refused).await;
    (pod, new)
}

/// Kong is started anew, with a larger map and the data that it had.
async fn away_for_a_minute(kong: &KongInProcess) {
    kong.inject(Fault::no_connection().always());
    sleep(Duration::from_secs(60)).await;
    kong.heal();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_was_too_large_is_sent_again_when_kong_is_back_with_the_same_data() {
    let (kong, pki) = (kong(OTHERS), pki());
    let (pod, new) = too_large(&kong, &pki).await;
    away_for_a_minute(&kong).await;
    sleep(POLL).await;
    pod.until_in_sync_with(&new).await;
    assert_within(kong.elapsed(), Duration::from_secs(60), Duration::from_secs(75));
    assert_eq!(posts(&kong), 3);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_was_too_large_is_sent_again_once_an_hour_where_no_restart_was_seen() {
    let (kong, pki) = (kong(OTHERS), pki());
    let (pod, new) = too_large(&kong, &pki).await;
    // Not yet, and three times more.
    kong.inject(Fault::refusal(413, "not enough memory: MDB_MAP_FULL").only("POST").always());
    sleep(UNDER_AN_HOUR).await;
    assert_eq!(posts(&kong), 2);
    sleep(AN_HOUR * 3).await;
    assert_eq!(posts(&kong), 2 + 3);
    kong.heal();
    sleep(AN_HOUR + RESYNC).await;
    pod.until_in_sync_with(&new).await;
    assert_eq!(posts(&kong), 2 + 3 + 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_file_that_was_too_large_is_loaded_when_kong_is_back_without_anything() {
    let pair = leaf(&pki(), &["a.test"], 20);
    let it = WithFile::before(OTHERS, &[("web", &pair)]);
    it.kong.inject(Fault::refusal(413, "not enough memory: MDB_MAP_FULL").only("POST"));
    let it = it.started(|_| {}).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!((state(&it.pod, FILE), posts(&it.kong)), ((State::Refused, "by_kong"), 1));
    away_for_a_minute(&it.kong).await;
    sleep(POLL * 4).await;
    assert_eq!((state(&it.pod, FILE), rows(&it.kong, "/services").len()), ((State::InSync, ""), 1));
    assert_eq!(served(&it.kong, "a.test"), pair.leaf_der());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_change_that_was_refused_is_sent_again_when_kong_is_back() {
    let (kong, pki) = (kong(OTHERS), pki());
    let mut pod = Pod::new();
    let ca = pki.root().intermediate_with("New", KeyKind::P256, START - HOUR, START + 400 * HOUR);
    let file = pod.write_file("ca.crt", &ca.pem());
    // By Kong's clock it has expired, until that is set.
    kong.model().set_now(START + 500 * HOUR);
    pod.start_with(&kong, authority(file));
    pod.until_named("trust", |it| it.state == State::Refused).await;
    kong.model().set_now(START);
    sleep(AN_HOUR / 2).await;
    assert_eq!(posts(&kong), 1);
    away_for_a_minute(&kong).await;
    sleep(POLL).await;
    pod.until_named("trust", |it| it.state == State::InSync).await;
    assert_eq!(posts(&kong), 2);
}
