//! A Kong without a database that someone else writes to, or that starts anew. A paused clock, and a
//! Kong in memory.
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

use std::collections::BTreeSet;
use std::time::Duration;

use kong::{Fault, KongInProcess};
use kong_cert_reloader::status::State;
use pod::{Pod, START, assert_within};
use serde_json::json;
use stage::{
    FILE, HOUR, ID, OTHERS, POLL, WithFile, certificate, edited, kong, leaf, load, pki, posts,
    restart, rows, served, state, with_certificates,
};
use testkit::Request;
use tokio::time::sleep;

/// Kong starts anew with this, and serves what is expected a moment later, each minute.
async fn expect_after_restarts(kong: &KongInProcess, config: &str, times: u32, leaf: &[u8]) {
    for time in 1..=times {
        restart(kong, config);
        sleep(POLL).await;
        assert_eq!(served(kong, "a.test"), leaf, "restart {time}");
        sleep(Duration::from_secs(60)).await;
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_kong_that_starts_anew_with_an_older_pair_is_no_other_writer() {
    let pki = pki();
    let new = leaf(&pki, &["a.test"], 20);
    let expired = pki.leaf(&["a.test"]).not_before(START - 300 * HOUR).not_after(START - HOUR);
    for old in [leaf(&pki, &["a.test"], 30), expired.issue()] {
        let config = with_certificates(&json!([certificate(Some(ID), &old, &["a.test"])]));
        let kong = kong(&config);
        let pod = Pod::with(&new, &kong);
        pod.until_in_sync_with(&new).await;
        expect_after_restarts(&kong, &config, 9, new.leaf_der()).await;
        assert_eq!(pod.metric("contested_total{binding=\"web\"}"), 0);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn with_a_file_a_kong_that_starts_anew_with_that_is_no_other_writer() {
    let pki = pki();
    let [old, new] = [30, 20].map(|hours| leaf(&pki, &["a.test"], hours));
    let config = with_certificates(&json!([certificate(Some(ID), &old, &["a.test"])]));
    let it = WithFile::new(&config, &[("web", &new)]).await;
    it.pod.until_in_sync_with(&new).await;
    expect_after_restarts(&it.kong, &config, 9, new.leaf_der()).await;
    assert_eq!(state(&it.pod, FILE), (State::InSync, ""));
    assert_eq!(it.pod.metric(&format!("contested_total{{binding=\"{FILE}\"}}")), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_war_with_another_writer_has_bounds_and_is_never_given_up() {
    let (kong, pki) = (kong(OTHERS), pki());
    let pair = leaf(&pki, &["a.test"], 20);
    let pod = Pod::with(&pair, &kong);
    pod.until_in_sync_with(&pair).await;
    let mut seen = BTreeSet::new();
    for _ in 0..360 {
        load(&kong, OTHERS);
        sleep(Duration::from_secs(10)).await;
        seen.insert(state(&pod, "web"));
    }
    // The first, ten at once, and one a minute.
    assert_within(posts(&kong), 1 + 10 + 50, 1 + 10 + 60);
    assert!(seen.contains(&(State::Refused, "contested")), "{seen:?}");
    assert!(pod.metric("contested_total{binding=\"web\"}") > 40);
    sleep(Duration::from_secs(61)).await;
    assert_eq!(served(&kong, "a.test"), pair.leaf_der());
    assert_eq!(state(&pod, "web"), (State::InSync, ""));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn with_a_file_a_war_has_bounds_and_is_never_given_up() {
    let pair = leaf(&pki(), &["a.test"], 20);
    let it = WithFile::new(OTHERS, &[("web", &pair)]).await;
    it.pod.until_in_sync_with(&pair).await;
    let theirs = it.kong.model().elsewhere(|model| model.answer(&Request::new("GET", "/config")));
    let theirs = edited(theirs.value()["config"].as_str().unwrap());
    let mut seen = BTreeSet::new();
    for _ in 0..360 {
        // What is ours is in it: the rest alone is fought over.
        load(&it.kong, &theirs);
        sleep(Duration::from_secs(10)).await;
        seen.insert(state(&it.pod, FILE));
        assert_eq!(state(&it.pod, "web"), (State::InSync, ""));
    }
    assert_within(posts(&it.kong), 1 + 10 + 50, 1 + 10 + 60);
    assert!(seen.contains(&(State::Refused, "contested")), "{seen:?}");
    assert!(it.pod.metric(&format!("contested_total{{binding=\"{FILE}\"}}")) > 40);
    // A renewal does not wait, and brings the file.
    load(&it.kong, &theirs);
    let new = leaf(&pki(), &["a.test"], 10);
    it.pod.publish("web", &new);
    sleep(POLL).await;
    it.pod.until_in_sync_with(&new).await;
    assert_eq!(rows(&it.kong, "/services")[0]["host"], "10.0.0.1");
    assert_eq!(state(&it.pod, FILE), (State::InSync, ""));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_someone_loads_just_after_ours_is_seen() {
    let (kong, pki) = (kong(OTHERS), pki());
    let pair = leaf(&pki, &["a.test"], 20);
    let pod = Pod::with(&pair, &kong);
    while rows(&kong, "/certificates").is_empty() {
        sleep(Duration::from_micros(100)).await;
    }
    // Before it was asked what runs now.
    load(&kong, &edited(OTHERS));
    sleep(POLL * 2).await;
    assert_eq!(rows(&kong, "/certificates").len(), 1);
    pod.until_in_sync_with(&pair).await;
    assert_eq!(served(&kong, "a.test"), pair.leaf_der());
    assert_eq!(rows(&kong, "/services")[0]["host"], "10.0.0.2");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_someone_loads_just_after_the_file_is_replaced_by_it() {
    let pair = leaf(&pki(), &["a.test"], 20);
    let it = WithFile::new(OTHERS, &[("web", &pair)]).await;
    it.pod.until_in_sync_with(&pair).await;
    let export = it.kong.model().elsewhere(|model| model.answer(&Request::new("GET", "/config")));
    let export = export.value()["config"].as_str().unwrap().to_owned();
    it.edit(&edited(OTHERS));
    while rows(&it.kong, "/services")[0]["host"] != "10.0.0.2" {
        sleep(Duration::from_micros(100)).await;
    }
    load(&it.kong, &export.replace("10.0.0.1", "10.0.0.9"));
    sleep(POLL * 2).await;
    assert_eq!(rows(&it.kong, "/services")[0]["host"], "10.0.0.2");
    assert_eq!(state(&it.pod, FILE), (State::InSync, ""));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_someone_loads_just_after_the_file_again_and_again_does_not_stay_for_it() {
    // The same each time, or another.
    for theirs in [["10.0.0.9", "10.0.0.9"], ["10.0.0.8", "10.0.0.9"]] {
        let pair = leaf(&pki(), &["a.test"], 20);
        let it = WithFile::new(OTHERS, &[("web", &pair)]).await;
        it.pod.until_in_sync_with(&pair).await;
        let request = Request::new("GET", "/config");
        let export = it.kong.model().elsewhere(|model| model.answer(&request));
        let export = export.value()["config"].as_str().unwrap().to_owned();
        it.edit(&edited(OTHERS));
        for host in theirs {
            let before = it.kong.elapsed();
            while rows(&it.kong, "/services")[0]["host"] != "10.0.0.2" {
                sleep(Duration::from_micros(100)).await;
                assert!(it.kong.elapsed() < before + Duration::from_secs(60));
            }
            load(&it.kong, &export.replace("10.0.0.1", host));
        }
        // One hash after two writes of a text may be Kong's own for it, but for an hour.
        let is_same = theirs[0] == theirs[1];
        sleep(if is_same { Duration::from_secs(3600 + 360) } else { POLL * 2 }).await;
        assert_eq!(rows(&it.kong, "/services")[0]["host"], "10.0.0.2", "{theirs:?}");
        assert_eq!(state(&it.pod, FILE), (State::InSync, ""));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_kong_that_starts_anew_while_an_answer_is_waited_for_gets_the_others_again() {
    let (kong, pki) = (kong(OTHERS), pki());
    let [old, new] = [30, 20].map(|hours| leaf(&pki, &["a.test"], hours));
    let other = leaf(&pki, &["b.test"], 20);
    let pod = Pod::with(&old, &kong);
    pod.publish("own", &other);
    pod.until_named("own", |own| own.state == State::InSync).await;
    kong.inject(Fault::timeout(Duration::from_secs(13)).only("POST"));
    pod.publish("web", &new);
    pod.until(|web| web.reason.is_some_and(|reason| reason.as_str() == "applying")).await;
    // Nobody waits for it any more.
    pod.write("web", "tls.key", "broken");
    pod.wake_at("web");
    pod.until_named("web", |it| it.state == State::Invalid).await;
    restart(&kong, OTHERS);
    sleep(POLL * 2).await;
    assert_eq!(served(&kong, "b.test"), other.leaf_der());
}
