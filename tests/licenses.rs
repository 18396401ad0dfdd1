//! Licences beside a Kong Enterprise in memory, on a clock that the test holds.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "schedule/kong.rs"]
mod kong;
#[path = "schedule/log.rs"]
mod log;
#[path = "schedule/pod.rs"]
mod pod;

use std::time::Duration;

use kong_cert_reloader::desired::Own;
use kong_cert_reloader::names::Instance;
use kong_cert_reloader::settings::{LicenseSettings, Settings};
use kong_cert_reloader::status::{BindingStatus, State};
use serde_json::{Value, json};
use testkit::Request;
use tokio::time::sleep;
use uuid::Uuid;

use kong::{Fault, KongInProcess};
use log::Log;
use pod::{Pod, START};

/// Longer than it takes until Kong is compared again.
const RESYNC: Duration = Duration::from_secs(6 * 60);

/// A licence between these days; the test begins on 2027-01-15.
fn license(created: &str, expires: &str) -> String {
    let payload = json!({
        "customer": "Customer Of Ours, Incorporated",
        "license_creation_date": created,
        "license_expiration_date": expires,
        "license_key": "ASDASDASDASDASDASDASDASDASD",
    });
    json!({"license": {"version": "1", "payload": payload, "signature": "6985968131533a96"}})
        .to_string()
}

fn enterprise() -> KongInProcess {
    let kong = KongInProcess::new();
    kong.model().set_now(START);
    kong.model().enterprise(true);
    kong
}

fn start_with(
    pod: &mut Pod,
    id: Option<Uuid>,
    kong: &KongInProcess,
    more: impl FnOnce(&mut Settings),
) {
    let settings = LicenseSettings { file: pod.directory("ee").join("license.json"), id };
    pod.start_with(kong, |all| {
        all.licenses.insert("ee".parse().unwrap(), settings);
        more(all);
    });
}

/// A pod with this licence as `ee`, and a sidecar beside `kong`.
fn pod_with(text: &str, id: Option<Uuid>, kong: &KongInProcess) -> Pod {
    let mut pod = Pod::new();
    publish(&pod, text);
    start_with(&mut pod, id, kong, |_| {});
    pod
}

fn publish(pod: &Pod, text: &str) {
    pod.publish_file("ee", "license.json", text);
}

async fn until_state(pod: &Pod, state: State) -> BindingStatus {
    pod.until_named("ee", |shown| shown.state == state).await
}

/// Waits until Kong holds what is in the file, and that ends on this day.
async fn until_ends(pod: &Pod, day: &str) {
    let ends = |shown: &BindingStatus| {
        let end = shown.kong.as_ref().map(|kong| kong.not_after.to_string());
        shown.state == State::InSync && end.is_some_and(|end| end.starts_with(day))
    };
    pod.until_named("ee", ends).await;
}

fn held(kong: &KongInProcess) -> Vec<Value> {
    let list = Request::new("GET", "/licenses");
    let page = kong.model().elsewhere(|model| model.answer(&list)).value();
    page["data"].as_array().unwrap().clone()
}

fn put(kong: &KongInProcess, id: Uuid, text: &str) {
    let body = json!({"payload": text});
    kong.elsewhere(&Request::json("PUT", &format!("/licenses/{id}"), &body));
}

fn own_id() -> Uuid {
    Own::new(&Instance::default(), None).license(&"ee".parse().unwrap())
}

fn puts(kong: &KongInProcess) -> usize {
    kong.times_of("PUT").len()
}

const OTHER: Uuid = Uuid::from_u128(0x1111_1111_1111_4111_8111_1111_1111_1117);

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_licence_is_put_and_its_successor_replaces_it() {
    let kong = enterprise();
    let first = license("2026-02-01", "2027-02-01");
    let pod = pod_with(&format!("{first}\n"), None, &kong);
    let shown = until_state(&pod, State::InSync).await;
    let told: Vec<_> = shown.objects.iter().map(|object| (object.id, object.adopted)).collect();
    assert_eq!(told, [(own_id(), false)]);
    let end = "not_after_timestamp_seconds{binding=\"ee\",source=\"kong\"}";
    assert_eq!(pod.metric(end), 1_801_440_000);
    assert_eq!(pod.metric("state{binding=\"ee\",kind=\"license\",state=\"in_sync\"}"), 1);
    assert!(!pod.metrics().contains("renewal_overdue{"));
    assert_eq!(held(&kong)[0]["payload"], first);
    publish(&pod, &license("2027-01-10", "2028-02-01"));
    until_ends(&pod, "2028-02-01").await;
    let objects = held(&kong);
    assert_eq!((objects.len(), &objects[0]["id"]), (1, &json!(own_id())));
    // White space and the order of fields make no other licence.
    publish(&pod, &license("2027-01-10", "2028-02-01").replace(':', " : "));
    sleep(RESYNC * 2).await;
    assert_eq!(puts(&kong), 2);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn licences_are_in_no_workspace() {
    let kong = enterprise();
    let mut pod = Pod::new();
    publish(&pod, &license("2026-02-01", "2027-02-01"));
    start_with(&mut pod, Some(OTHER), &kong, |settings| {
        settings.admin.workspace = Some("team-a".parse().unwrap());
    });
    until_state(&pod, State::InSync).await;
    assert_eq!(held(&kong)[0]["id"], json!(OTHER));
    let calls = kong.calls_since(Duration::ZERO);
    assert!(calls.iter().all(|call| !call.contains("team-a")), "{calls:?}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_kong_without_licences_is_asked_at_each_comparison_alone_and_no_alarm_is_given() {
    let log = Log::listen();
    let kong = KongInProcess::new();
    let pod = pod_with(&license("2026-02-01", "2027-02-01"), None, &kong);
    let shown = until_state(&pod, State::Unsupported).await;
    assert_eq!(shown.reason.unwrap().as_str(), "no_licenses");
    assert!(shown.message.unwrap().contains("LICENSES"));
    pod.until_ready().await;
    sleep(Duration::from_secs(3600)).await;
    let asked = kong.calls().iter().filter(|call| call.path.starts_with("/licenses")).count();
    assert!((11..=15).contains(&asked), "{asked}");
    assert_eq!(log.warnings(), [""; 0]);
    assert_eq!(log.times("state=unsupported"), 1);
    assert_eq!(kong.searches().len(), 0);
    // It becomes an Enterprise, without a restart of ours.
    kong.model().enterprise(true);
    until_state(&pod, State::InSync).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_same_licence_at_another_place_is_used_as_it_is() {
    let kong = enterprise();
    let first = license("2026-02-01", "2027-02-01");
    put(&kong, OTHER, &first);
    let pod = pod_with(&first, None, &kong);
    let shown = until_state(&pod, State::InSync).await;
    let told: Vec<_> = shown.objects.iter().map(|object| (object.id, object.adopted)).collect();
    assert_eq!(told, [(OTHER, true)]);
    sleep(RESYNC).await;
    assert_eq!(puts(&kong), 0);
    // Its successor is ours: Kong goes by what was written last.
    publish(&pod, &license("2027-01-10", "2028-02-01"));
    until_ends(&pod, "2028-02-01").await;
    let ids: Vec<Value> = held(&kong).iter().map(|object| object["id"].clone()).collect();
    assert!(ids.contains(&json!(OTHER)) && ids.contains(&json!(own_id())), "{ids:?}");
    assert!(!pod.binding("ee").objects[0].adopted);
}

const THIRD: Uuid = Uuid::from_u128(0x1111_1111_1111_4111_8111_1111_1111_1118);

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_newer_licence_at_another_place_is_held_until_the_file_has_it_too() {
    let kong = enterprise();
    let (old, new) = (license("2026-02-01", "2027-02-01"), license("2027-01-10", "2028-02-01"));
    put(&kong, OTHER, &new);
    kong.model().set_now(START + 60);
    let pod = pod_with(&old, None, &kong);
    let shown = until_state(&pod, State::Held).await;
    assert_eq!(shown.reason.unwrap().as_str(), "kong_newer");
    assert!(shown.kong.unwrap().not_after.to_string().starts_with("2028-02-01"));
    sleep(RESYNC * 2).await;
    assert_eq!((pod.binding("ee").state, puts(&kong)), (State::Held, 0));
    publish(&pod, &new);
    let shown = until_state(&pod, State::InSync).await;
    let told: Vec<_> = shown.objects.iter().map(|object| (object.id, object.adopted)).collect();
    assert_eq!((told, puts(&kong)), (vec![(OTHER, true)], 0));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn of_several_licences_ours_is_the_one_that_was_written_last() {
    let kong = enterprise();
    let (this, older) = (license("2026-02-01", "2027-02-01"), license("2026-01-01", "2027-01-31"));
    put(&kong, OTHER, &this);
    kong.model().set_now(START + 60);
    put(&kong, THIRD, &older);
    kong.model().set_now(START + 120);
    // The same at another place is of no use where Kong goes by a third.
    let pod = pod_with(&this, None, &kong);
    let shown = until_state(&pod, State::InSync).await;
    let told: Vec<_> = shown.objects.iter().map(|object| (object.id, object.adopted)).collect();
    assert_eq!((told, puts(&kong)), (vec![(own_id(), false)], 1));
    // Someone writes an older one later on.
    kong.model().set_now(START + 180);
    put(&kong, THIRD, &older);
    kong.model().set_now(START + 900);
    sleep(RESYNC * 3).await;
    assert_eq!((pod.binding("ee").state, puts(&kong)), (State::InSync, 2));
    let last = held(&kong).into_iter().max_by_key(|object| object["updated_at"].as_i64()).unwrap();
    assert_eq!(last["id"], json!(own_id()));
    sleep(RESYNC * 3).await;
    assert_eq!(puts(&kong), 2);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_licence_that_has_expired_is_told_with_the_mend_and_not_put() {
    let kong = enterprise();
    let pod = pod_with(&license("2026-01-01", "2027-01-01"), None, &kong);
    let shown = until_state(&pod, State::Invalid).await;
    assert_eq!(shown.reason.unwrap().as_str(), "expired");
    assert!(shown.message.unwrap().contains("put its successor into it"));
    assert!(shown.file.unwrap().not_after.to_string().starts_with("2027-01-01"));
    assert_eq!(puts(&kong), 0);
    publish(&pod, &license("2026-12-01", "2027-01-16"));
    until_state(&pod, State::InSync).await;
    // It expires in Kong while nothing else happens.
    sleep(Duration::from_secs(24 * 3600)).await;
    assert_eq!(pod.binding("ee").state, State::Invalid);
    assert_eq!((puts(&kong), held(&kong).len()), (1, 1));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_licence_that_kong_refuses_is_told_without_a_word_of_it_and_not_sent_again() {
    let kong = enterprise();
    let says = "schema violation (payload: ASDASDASDASDASDASDASDASDASD is no key)";
    kong.inject(Fault::refusal(400, says).only("PUT").always());
    let pod = pod_with(&license("2026-02-01", "2027-02-01"), None, &kong);
    let shown = until_state(&pod, State::Refused).await;
    assert_eq!(shown.reason.unwrap().as_str(), "by_kong");
    let message = shown.message.unwrap();
    assert!(message.contains("(400)") && !message.contains("ASDASD"), "{message}");
    sleep(RESYNC * 2).await;
    assert_eq!(puts(&kong), 1);
    kong.heal();
    publish(&pod, &license("2027-01-10", "2028-02-01"));
    until_ends(&pod, "2028-02-01").await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_newest_licence_is_put_when_kong_is_back() {
    let kong = enterprise();
    let pod = pod_with(&license("2026-02-01", "2027-02-01"), None, &kong);
    until_state(&pod, State::InSync).await;
    kong.inject(Fault::no_connection().always());
    for end in ["2028-02-01", "2029-02-01"] {
        publish(&pod, &license("2027-01-10", end));
        sleep(Duration::from_secs(600)).await;
    }
    assert_eq!(pod.binding("ee").state, State::Unreachable);
    kong.heal();
    until_ends(&pod, "2029-02-01").await;
    assert_eq!(puts(&kong), 2);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_newer_licence_in_kong_is_held_until_it_expires() {
    let kong = enterprise();
    let pod = pod_with(&license("2026-02-01", "2027-02-01"), Some(OTHER), &kong);
    until_state(&pod, State::InSync).await;
    put(&kong, OTHER, &license("2027-01-10", "2027-01-17"));
    sleep(RESYNC * 2).await;
    let shown = pod.binding("ee");
    assert_eq!((shown.state, shown.reason.unwrap().as_str()), (State::Held, "kong_newer"));
    assert_eq!(puts(&kong), 1);
    sleep(Duration::from_secs(2 * 24 * 3600)).await;
    assert_eq!((pod.binding("ee").state, puts(&kong)), (State::InSync, 2));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_licence_that_was_deleted_is_put_again_however_often() {
    let kong = enterprise();
    let pod = pod_with(&license("2026-02-01", "2027-02-01"), None, &kong);
    until_state(&pod, State::InSync).await;
    for _ in 0..4 {
        kong.elsewhere(&Request::new("DELETE", &format!("/licenses/{}", own_id())));
        sleep(RESYNC).await;
        assert_eq!(pod.binding("ee").state, State::InSync);
    }
    assert_eq!(pod.metric("contested_total{binding=\"ee\"}"), 4);
}
