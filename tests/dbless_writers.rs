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

use std::time::Duration;

use kong::KongInProcess;
use kong_cert_reloader::status::State;
use pod::{Pod, START, assert_within};
use serde_json::json;
use stage::{
    HOUR, ID, OTHERS, POLL, WithFile, certificate, kong, leaf, load, pki, posts, restart, served,
    state, with_certificates,
};
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
    assert_eq!(state(&it.pod, stage::FILE), (State::InSync, ""));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_war_with_another_writer_has_bounds_and_is_never_given_up() {
    let (kong, pki) = (kong(OTHERS), pki());
    let pair = leaf(&pki, &["a.test"], 20);
    let pod = Pod::with(&pair, &kong);
    pod.until_in_sync_with(&pair).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..360 {
        load(&kong, OTHERS);
        sleep(Duration::from_secs(10)).await;
        seen.insert(state(&pod, "web"));
    }
    // The first, ten at once, and one a minute.
    assert_within(posts(&kong), 1 + 10 + 50, 1 + 10 + 60);
    assert!(seen.contains(&(State::Refused, "contested")), "{seen:?}");
    assert!(pod.metric("contested_total{binding=\"web\"}") > 50);
    sleep(Duration::from_secs(61)).await;
    assert_eq!(served(&kong, "a.test"), pair.leaf_der());
    assert_eq!(state(&pod, "web"), (State::InSync, ""));
}
