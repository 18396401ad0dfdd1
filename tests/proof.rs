//! What follows from what handshakes show, hour by hour: a paused clock, and a Kong in memory whose
//! node may be behind.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and read its files"
)]

#[path = "schedule/kong.rs"]
mod kong;
#[path = "schedule/pod.rs"]
mod pod;

use std::collections::BTreeMap;
use std::time::Duration;

use kong::{Fault, KongInProcess};
use kong_cert_reloader::desired::Own;
use kong_cert_reloader::names::Instance;
use kong_cert_reloader::proof::Unseen;
use kong_cert_reloader::quote::Quoted;
use kong_cert_reloader::settings::Settings;
use kong_cert_reloader::status::{Reason, State};
use pod::{Pod, START, assert_within};
use serde_json::{Value, json};
use testkit::kong_model::Offers;
use testkit::{CertifiedPair, KeyKind, Pki, Request, SecretVolume};
use tokio::time::sleep;

const A_MOMENT: Duration = Duration::from_millis(100);
/// Kong's default for `db_update_frequency`, and the 3 s that we add.
const PATIENCE: Duration = Duration::from_secs(8);
/// What was given up is looked at together with others.
const SOON: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Two generations for `a.test`, the second one begun later.
fn generations() -> [CertifiedPair; 2] {
    let pki = Pki::at(START);
    [-30, -20].map(|hours| pki.leaf(&["a.test"]).not_before(START + hours * 3600).issue())
}

/// A pod that has served the first of two generations, its Kong, and the second one.
async fn served() -> (Pod, KongInProcess, CertifiedPair) {
    let [first, second] = generations();
    let kong = KongInProcess::new();
    let pod = Pod::with(&first, &kong);
    pod.until_in_sync_with(&first).await;
    (pod, kong, second)
}

/// What is sent to announce `web` and its name.
fn announcement() -> [String; 2] {
    let id = Own::new(&Instance::default(), None).certificate(&"web".parse().unwrap());
    [format!("PATCH /certificates/{id}"), "PATCH /snis/a.test".to_owned()]
}

/// Another writer puts `pair` into the object of `web`.
fn put_elsewhere(kong: &KongInProcess, pair: &CertifiedPair) {
    let body = json!({"cert": pair.chain_pem(), "key": pair.key_pem()});
    kong.elsewhere(&Request::json("PATCH", "/certificates/a.test", &body));
}

fn patches(kong: &KongInProcess, from: Duration) -> Vec<String> {
    kong.calls_since(from).into_iter().filter(|call| call.starts_with("PATCH")).collect()
}

fn message(pod: &Pod) -> String {
    pod.binding("web").message.unwrap_or_default()
}

// --- after a write -------------------------------------------------------------------------------

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_renewal_is_in_sync_when_a_handshake_shows_it() {
    let (pod, kong, renewed) = served().await;
    let before = pod.binding("web");
    assert_eq!(before.served, before.kong);
    let from = kong.elapsed();
    kong.model().freeze_serving();
    pod.publish("web", &renewed);
    pod.until(|web| web.kong != before.kong).await;
    assert_eq!(pod.web(), (State::Pending, "proving"));
    sleep(s(3)).await;
    assert_eq!(pod.web(), (State::Pending, "proving"));
    assert_eq!(pod.binding("web").served, before.served, "what is served is shown");
    kong.model().catch_up();
    pod.until_in_sync_with(&renewed).await;
    let web = pod.binding("web");
    assert_eq!((&web.served, web.last_success.unwrap().0), (&web.kong, START + 3));
    assert_within(kong.elapsed() - from, s(3), s(4) + A_MOMENT);
    assert_eq!(pod.metric("propagation_seconds_count"), 2);
    assert_eq!(pod.metric(r#"propagation_seconds_bucket{le="1.0"}"#), 1);
    assert_eq!(patches(&kong, from), [""; 0]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_node_that_never_heard_of_it_is_told_again_once() {
    let (pod, kong, renewed) = served().await;
    let from = kong.elapsed();
    kong.model().miss_changes(1);
    pod.publish("web", &renewed);
    sleep(s(7)).await;
    assert_eq!(pod.web(), (State::Pending, "proving"));
    pod.until_in_sync_with(&renewed).await;
    assert_within(kong.elapsed() - from, PATIENCE, PATIENCE + A_MOMENT);
    assert_eq!(patches(&kong, from), announcement());
    assert!(kong.calls_since(from).contains(&"GET /status".to_owned()));
    assert_eq!(pod.metric(r#"reconciles_total{trigger="proof"}"#), 1);
    sleep(HOUR).await;
    assert_eq!(patches(&kong, from).len(), 2);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_not_served_after_the_announcement_is_told_until_it_is() {
    let (pod, kong, renewed) = served().await;
    let from = kong.elapsed();
    let former = pod.binding("web").served;
    kong.model().freeze_serving();
    pod.publish("web", &renewed);
    let web = pod.until_state(State::NotServed).await;
    assert_within(kong.elapsed() - from, 2 * PATIENCE, 2 * PATIENCE + SOON + 2 * A_MOMENT);
    assert_eq!(pod.web().1, "other_certificate");
    assert_eq!(web.served, former);
    let leaf = &former.unwrap().leaf_sha256[0].to_string();
    assert!(message(&pod).contains("a.test") && message(&pod).contains(leaf), "{}", message(&pod));
    sleep(HOUR).await;
    assert_eq!(pod.web().0, State::NotServed);
    assert_eq!(patches(&kong, from), announcement(), "announced once");
    kong.model().catch_up();
    let healed = kong.elapsed();
    pod.until_in_sync_with(&renewed).await;
    assert_within(kong.elapsed() - healed, Duration::ZERO, s(30));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_name_that_the_node_does_not_know_gets_the_default_certificate() {
    let kong = KongInProcess::new();
    kong.model().freeze_serving();
    let pod = Pod::with(&generations()[0], &kong);
    pod.until_state(State::NotServed).await;
    assert_eq!(pod.web().1, "default_certificate");
    assert!(pod.metric(r#"proofs_total{result="other"}"#) > 5);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn where_nobody_answers_nothing_is_announced_and_kong_is_asked_for_its_ports() {
    for (unseen, reason) in [
        (
            Unseen::NoConnection {
                to: Quoted::new("127.0.0.1:8443"),
                cause: Quoted::new("Connection refused"),
            },
            "no_connection",
        ),
        (Unseen::NoTls, "no_tls"),
        (Unseen::Refused(Quoted::new("InternalError")), "no_handshake"),
    ] {
        let (pod, kong, renewed) = served().await;
        let from = kong.elapsed();
        let is_silence = unseen.is_silence();
        kong.show_nothing(Some(unseen));
        pod.publish("web", &renewed);
        pod.until_state(State::NotServed).await;
        assert_eq!(pod.web().1, reason);
        assert_within(kong.elapsed() - from, PATIENCE, PATIENCE + SOON + A_MOMENT);
        assert_eq!(patches(&kong, from), [""; 0]);
        sleep(2 * s(330)).await;
        assert_eq!(kong.calls_since(from).contains(&"GET /".to_owned()), is_silence, "{reason}");
        kong.show_nothing(None);
        pod.until_in_sync_with(&renewed).await;
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_kong_without_its_database_is_unreachable_and_nothing_is_announced() {
    let (pod, kong, renewed) = served().await;
    let from = kong.elapsed();
    kong.model().freeze_serving();
    // The database goes between the look at the certificate and that at the status.
    kong.model().before_next("GET", "/status", |model: &mut testkit::KongModel| {
        model.database_down(true);
    });
    pod.publish("web", &renewed);
    pod.until_state(State::Unreachable).await;
    assert_eq!((pod.web().1, patches(&kong, from).len()), ("no_database", 0));
    sleep(s(60)).await;
    assert_eq!((pod.web().0, patches(&kong, from).len()), (State::Unreachable, 0));
    kong.model().database_down(false);
    kong.model().catch_up();
    pod.until_in_sync_with(&renewed).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_patience_is_kongs_own_or_as_configured() {
    for (frequency, propagation, configured, patience) in [
        (json!(1), json!(0), None, s(4)),
        (json!(2.5), json!(4), None, Duration::from_millis(9500)),
        (json!(60), json!(0), Some(s(2)), s(2)),
    ] {
        let [pair, _] = generations();
        let kong = KongInProcess::new();
        let mut pod = Pod::new();
        kong.model().set_db_update(frequency, propagation);
        kong.model().freeze_serving();
        pod.publish("web", &pair);
        pod.start_with(&kong, |settings| settings.proxy.timeout = configured);
        let announced = async {
            while patches(&kong, Duration::ZERO).is_empty() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        announced.await;
        assert_within(kong.elapsed(), patience, patience + A_MOMENT);
    }
}

/// Two names, so that one of them can be lost.
async fn served_for_two_names() -> (Pod, KongInProcess, CertifiedPair) {
    let pair = Pki::at(START).pair(&["a.test", "b.test"]);
    let kong = KongInProcess::new();
    let pod = Pod::with(&pair, &kong);
    pod.until_in_sync_with(&pair).await;
    (pod, kong, pair)
}

/// The files are written anew with the same pair: they are looked at, and so is Kong.
fn look(pod: &Pod, pair: &CertifiedPair) {
    let (cert, key) = (format!("\n{}", pair.chain_pem()), pair.key_pem());
    SecretVolume::mount(pod.directory("web"))
        .publish(&[("tls.crt", cert.as_bytes()), ("tls.key", key.as_bytes())]);
    pod.wake_at("web");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_repaired_is_proven_anew() {
    let id = Own::new(&Instance::default(), None).certificate(&"web".parse().unwrap());
    for lost in [format!("/certificates/{id}"), "/snis/b.test".to_owned()] {
        let (pod, kong, pair) = served_for_two_names().await;
        kong.elsewhere(&Request::new("DELETE", &lost));
        // The node does not hear that it is there again.
        kong.model().chain_for(Some("b.test"), Offers::ALL);
        kong.model().miss_changes(1);
        let before = kong.model().writes();
        look(&pod, &pair);
        sleep(s(1)).await;
        assert_eq!(kong.model().writes(), before + 1, "{lost}");
        assert_eq!(pod.web(), (State::Pending, "proving"), "{lost}");
        pod.until_state(State::InSync).await;
        assert_eq!(pod.binding("web").served, pod.binding("web").kong);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_an_earlier_round_has_shown_is_no_answer_to_a_later_one() {
    let (pod, kong, pair) = served_for_two_names().await;
    // A round is under way while a name is added that the node does not hear of.
    fastrand::seed(1);
    let named = || kong.handshakes().iter().filter(|(_, sni)| sni.is_some()).count();
    let asked = named();
    while named() < asked + 2 {
        sleep(Duration::from_millis(1)).await;
    }
    kong.model().chain_for(Some("hand.test"), Offers::ALL);
    kong.model().miss_changes(1);
    let id = Own::new(&Instance::default(), None).certificate(&"web".parse().unwrap());
    kong.elsewhere(&Request::json(
        "POST",
        "/snis",
        &json!({"name": "hand.test", "certificate": {"id": id}}),
    ));
    look(&pod, &pair);
    let from = kong.handshakes().len();
    sleep(s(1)).await;
    let asked: Vec<_> =
        kong.handshakes().into_iter().skip(from).filter_map(|(_, sni)| sni).collect();
    for name in ["a.test", "b.test", "hand.test"] {
        assert!(asked.contains(&name.to_owned()), "{name}: {asked:?}");
    }
    assert!(pod.binding("web").objects[0].snis.contains("hand.test"));
    assert_eq!(pod.web(), (State::Pending, "proving"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_announcement_that_is_refused_ends_in_one_state_that_lasts() {
    let (pod, kong, renewed) = served().await;
    kong.model().freeze_serving();
    kong.inject(Fault::status(403).only("PATCH").always());
    pod.publish("web", &renewed);
    pod.until_state(State::NotServed).await;
    let since = pod.binding("web").since;
    assert!(message(&pod).contains("could not be told again"), "{}", message(&pod));
    sleep(HOUR).await;
    assert_eq!((pod.web().0, pod.binding("web").since), (State::NotServed, since));
    assert_eq!(kong.times_of("PATCH").len(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_announcement_that_fails_for_a_moment_is_made_all_the_same() {
    for fault in [
        Fault::status(503).only("GET").at("/status"),
        Fault::status(503).only("PATCH"),
        Fault::timeout(s(10)).only("PATCH"),
    ] {
        let (pod, kong, renewed) = served().await;
        kong.model().miss_changes(1);
        kong.inject(fault.times(1));
        pod.publish("web", &renewed);
        pod.until_in_sync_with(&renewed).await;
        assert!(patches(&kong, Duration::ZERO).ends_with(&announcement()));
        assert_within(kong.elapsed(), PATIENCE, PATIENCE * 2 + s(12));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_announcement_whose_answer_is_lost_is_not_made_again_once_it_was_heard() {
    let (pod, kong, renewed) = served().await;
    kong.model().miss_changes(1);
    kong.inject(Fault::timeout(s(10)).landed().only("PATCH").always());
    pod.publish("web", &renewed);
    pod.until_in_sync_with(&renewed).await;
    sleep(HOUR).await;
    assert_eq!(patches(&kong, Duration::ZERO), announcement()[..1]);
    assert_eq!(pod.web().0, State::InSync);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn while_no_announcement_is_answered_it_is_not_served_and_then_made_all_the_same() {
    let (pod, kong, renewed) = served().await;
    kong.model().miss_changes(1);
    kong.inject(Fault::status(500).only("PATCH").always());
    pod.publish("web", &renewed);
    pod.until_state(State::NotServed).await;
    assert_within(kong.elapsed(), PATIENCE * 2, PATIENCE * 2 + s(2));
    let message = pod.binding("web").message.unwrap();
    assert!(
        message.contains("could not be told again: kong is unavailable: status 500"),
        "{message}"
    );
    let (mut looks, tries) = (0, kong.times_of("PATCH").len());
    while looks < 600 {
        sleep(s(1)).await;
        assert_eq!(pod.web().0, State::NotServed);
        looks += 1;
    }
    assert_within(kong.times_of("PATCH").len() - tries, 15, 20);
    kong.heal();
    pod.until_in_sync_with(&renewed).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_rest_that_kong_wishes_for_instead_of_an_announcement_is_given_to_it() {
    let (pod, kong, renewed) = served().await;
    kong.model().miss_changes(1);
    kong.inject(Fault::retry_after(429, s(120)).only("PATCH"));
    pod.publish("web", &renewed);
    while kong.times_of("PATCH").is_empty() {
        sleep(s(1)).await;
    }
    let asked = kong.times_of("PATCH")[0];
    pod.until_in_sync_with(&renewed).await;
    assert_within(kong.times_of("PATCH")[1] - asked, s(120), s(140));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_node_that_was_down_and_missed_it_is_told_when_it_is_back() {
    let (pod, kong, renewed) = served().await;
    kong.show_nothing(Some(Unseen::Closed));
    kong.model().miss_changes(1);
    pod.publish("web", &renewed);
    pod.until_state(State::NotServed).await;
    kong.show_nothing(None);
    let back = kong.elapsed();
    pod.until_in_sync_with(&renewed).await;
    assert_within(kong.elapsed() - back, Duration::ZERO, s(30) + SOON);
    assert_eq!(patches(&kong, back), announcement());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_was_announced_is_not_announced_again_after_an_outage() {
    let (pod, kong, renewed) = served().await;
    kong.model().freeze_serving();
    pod.publish("web", &renewed);
    pod.until_state(State::NotServed).await;
    for _ in 0..5 {
        kong.inject(Fault::status(503).only("GET").times(1));
        pod.until_state(State::Unreachable).await;
        pod.until(|web| web.state != State::Unreachable).await;
        assert_eq!(pod.web().0, State::NotServed);
    }
    assert_eq!(patches(&kong, Duration::ZERO), announcement());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_name_that_came_while_it_was_waited_for_is_asked_for() {
    let (pod, kong, renewed) = served().await;
    let id = Own::new(&Instance::default(), None).certificate(&"web".parse().unwrap());
    kong.model().freeze_serving();
    pod.publish("web", &renewed);
    sleep(s(5)).await;
    let sni = json!({"name": "hand.test", "certificate": {"id": id}});
    kong.elsewhere(&Request::json("POST", "/snis", &sni));
    sleep(s(5)).await;
    kong.model().catch_up();
    kong.model().serve_instead("hand.test", Some(&Pki::at(START).pair(&["hand.test"])));
    pod.until_state(State::NotServed).await;
    assert!(message(&pod).contains("hand.test"), "{}", message(&pod));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_kong_that_gets_a_port_for_tls_is_asked_from_then_on() {
    let kong = KongInProcess::new();
    let listeners = kong.model().root_mut()["configuration"]["proxy_listeners"].take();
    let [pair, _] = generations();
    let pod = Pod::with(&pair, &kong);
    pod.until_in_sync_with(&pair).await;
    sleep(HOUR).await;
    assert_eq!(kong.handshakes().len(), 0);
    kong.model().root_mut()["configuration"]["proxy_listeners"] = listeners;
    sleep(s(331)).await;
    assert!(kong.handshakes().len() > 1);
    assert_eq!(pod.binding("web").served, pod.binding("web").kong);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_dead_port_costs_kong_no_more_calls_than_a_live_one() {
    let pki = Pki::at(START);
    let kong = KongInProcess::new();
    kong.show_nothing(Some(Unseen::Silent));
    let mut pod = Pod::new();
    for name in 0..10 {
        pod.publish(&format!("n{name}"), &pki.pair(&[&format!("n{name}.test")]));
    }
    pod.start(&kong);
    sleep(HOUR).await;
    let from = kong.elapsed();
    sleep(HOUR).await;
    let calls = kong.calls_since(from);
    // One for each binding and resync, and now and then what Kong says of its ports.
    assert_within(calls.len(), 10 * 10, 10 * 13 + 13);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_kong_that_loses_its_database_is_unreachable_and_not_not_served() {
    let (pod, kong, renewed) = served().await;
    kong.model().freeze_serving();
    pod.publish("web", &renewed);
    while patches(&kong, Duration::ZERO).is_empty() {
        sleep(s(1)).await;
    }
    kong.model().database_down(true);
    pod.until_state(State::Unreachable).await;
    assert_within(kong.elapsed(), 2 * PATIENCE - s(1), 2 * PATIENCE + s(2));
    kong.model().database_down(false);
    pod.until_state(State::NotServed).await;
    kong.model().database_down(true);
    let gone = kong.elapsed();
    pod.until_state(State::Unreachable).await;
    assert_within(kong.elapsed() - gone, Duration::ZERO, s(31));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_name_that_no_client_can_send_is_left_out_and_told() {
    let kong = KongInProcess::new();
    let pair = Pki::at(START).pair(&["a.test", "a.123"]);
    let pod = Pod::with(&pair, &kong);
    let web = pod.until_state(State::InSync).await;
    assert!(web.warnings.iter().any(|warning| warning.contains("a.123")), "{:?}", web.warnings);
    let asked: Vec<_> = kong.handshakes().into_iter().filter_map(|(_, sni)| sni).collect();
    assert_eq!(asked, ["a.test"]);
    let kong = KongInProcess::new();
    let pod = Pod::with(&Pki::at(START).pair(&["a.123"]), &kong);
    let web = pod.until_state(State::InSync).await;
    assert!(web.warnings.iter().any(|warning| warning.contains("a.123")), "{:?}", web.warnings);
}

// --- what is asked -------------------------------------------------------------------------------

#[tokio::test(flavor = "local", start_paused = true)]
async fn each_name_is_asked_and_wildcards_by_one_label_that_nobody_has() {
    let kong = KongInProcess::new();
    let pair = Pki::at(START).pair(&["a.test", "*.b.test", "c.test"]);
    let pod = Pod::with(&pair, &kong);
    pod.until_in_sync_with(&pair).await;
    let asked = |from: usize| -> Vec<String> {
        kong.handshakes()[from..].iter().filter_map(|(_, sni)| sni.clone()).collect()
    };
    let first = asked(0);
    assert_eq!(first.len(), 3, "{first:?}");
    assert!(first.contains(&"a.test".to_owned()) && first.contains(&"c.test".to_owned()));
    let label = first.iter().find_map(|name| name.strip_suffix(".b.test")).unwrap();
    assert!(label.starts_with("proof-") && label.len() == 14, "{label}");
    let from = kong.handshakes().len();
    sleep(HOUR).await;
    let wild: Vec<String> =
        asked(from).into_iter().filter(|name| name.ends_with("b.test")).collect();
    assert!(wild.len() > 9 && wild.iter().all(|name| *name == format!("{label}.b.test")));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn of_two_pairs_each_is_asked_for_by_its_type_of_key() {
    let pki = Pki::at(START);
    let rsa = pki.leaf(&["a.test"]).kind(KeyKind::Rsa2048).issue();
    let ec = pki.pair(&["a.test"]);
    let kong = KongInProcess::new();
    let mut pod = Pod::new();
    for (file, content) in [
        ("tls.crt", rsa.chain_pem()),
        ("tls.key", rsa.key_pem()),
        ("alt.crt", ec.chain_pem()),
        ("alt.key", ec.key_pem()),
    ] {
        pod.write("web", file, &content);
    }
    pod.start_with(&kong, |settings| {
        let web = settings.certificates.entry("web".parse().unwrap()).or_default();
        web.cert_alt = Some("alt.crt".into());
        web.key_alt = Some("alt.key".into());
    });
    pod.until_state(State::InSync).await;
    let names: Vec<_> = kong.handshakes().into_iter().filter_map(|(_, sni)| sni).collect();
    assert_eq!(names, ["a.test", "a.test"]);
    assert_eq!(pod.metric(r#"proofs_total{result="served"}"#), 2);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn one_pair_of_two_that_is_not_served_yet_is_waited_for() {
    let pki = Pki::at(START);
    let begun = |at, kind| pki.leaf(&["a.test"]).not_before(START + at).kind(kind).issue();
    let rsa = begun(-900, KeyKind::Rsa2048);
    let kong = KongInProcess::new();
    let mut pod = Pod::new();
    let write = |pod: &Pod, ec: &CertifiedPair| {
        for (file, content) in [
            ("tls.crt", rsa.chain_pem()),
            ("tls.key", rsa.key_pem()),
            ("alt.crt", ec.chain_pem()),
            ("alt.key", ec.key_pem()),
        ] {
            pod.write("web", file, &content);
        }
    };
    write(&pod, &begun(-800, KeyKind::P256));
    pod.start_with(&kong, |settings| {
        let web = settings.certificates.entry("web".parse().unwrap()).or_default();
        web.cert_alt = Some("alt.crt".into());
        web.key_alt = Some("alt.key".into());
    });
    pod.until_state(State::InSync).await;
    kong.model().freeze_serving();
    write(&pod, &begun(-700, KeyKind::P256));
    pod.until(|web| web.reason == Some(Reason::Proving)).await;
    sleep(s(2)).await;
    // The RSA pair is as it was: it is seen once, and not asked for again.
    assert_eq!(pod.metric(r#"proofs_total{result="served"}"#), 2 + 1);
    assert_eq!(pod.web(), (State::Pending, "proving"));
    kong.model().catch_up();
    pod.until_state(State::InSync).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn beside_a_second_pair_that_is_not_ours_ours_is_asked_for_by_its_type() {
    let pki = Pki::at(START);
    let begun = |at| pki.leaf(&["a.test"]).not_before(START + at).kind(KeyKind::Rsa2048).issue();
    let (theirs, ec) = (begun(-9000), pki.pair(&["a.test"]));
    let kong = KongInProcess::new();
    let body = json!({
        "cert": theirs.chain_pem(), "key": theirs.key_pem(), "snis": ["a.test"],
        "cert_alt": ec.chain_pem(), "key_alt": ec.key_pem(),
    });
    let id = "44444444-4444-4444-8444-444444444444";
    kong.elsewhere(&Request::json("PUT", &format!("/certificates/{id}"), &body));
    let pod = Pod::with(&begun(-600), &kong);
    let web = pod.until_state(State::InSync).await;
    assert!(web.objects[0].adopted);
    assert_eq!(web.served, web.file);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn proofs_are_spread_over_the_resync_period() {
    let pki = Pki::at(START);
    let kong = KongInProcess::new();
    let mut pod = Pod::new();
    for name in 0..20 {
        pod.publish(&format!("n{name}"), &pki.pair(&[&format!("n{name}.test")]));
    }
    pod.start(&kong);
    sleep(HOUR).await;
    let from = kong.elapsed();
    sleep(s(300)).await;
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    let mut seconds: BTreeMap<u64, usize> = BTreeMap::new();
    for (at, sni) in kong.handshakes().into_iter().filter(|(at, _)| *at > from) {
        if let Some(sni) = sni {
            *asked.entry(sni).or_default() += 1;
            *seconds.entry(at.as_secs() / 10).or_default() += 1;
        }
    }
    assert_eq!(asked.len(), 20, "{asked:?}");
    assert!(asked.values().all(|times| (1..=2).contains(times)), "{asked:?}");
    assert!(seconds.values().all(|at_once| *at_once <= 8), "{seconds:?}");
}

// --- where nothing is proven ---------------------------------------------------------------------

#[tokio::test(flavor = "local", start_paused = true)]
async fn without_a_port_kongs_word_counts_and_the_reason_is_told() {
    type Change = fn(&mut Settings);
    type Root = fn(&mut Value);
    let cases: [(Change, Root, &str); 4] = [
        (|settings| settings.proxy.address = None, |_| {}, "PROXY__ADDRESS is empty"),
        (|_| {}, |root| root["role"] = json!("control_plane"), "a control plane"),
        (|_| {}, |root| root["proxy_listeners"] = json!({}), "has no ssl"),
        (
            |settings| settings.admin.mode = kong_cert_reloader::settings::AdminMode::Database,
            |_| {},
            "because of ADMIN__MODE",
        ),
    ];
    for (change, root, why) in cases {
        let [first, second] = generations();
        let kong = KongInProcess::new();
        root(&mut kong.model().root_mut()["configuration"]);
        let mut pod = Pod::new();
        pod.publish("web", &first);
        pod.start_with(&kong, change);
        pod.until_in_sync_with(&first).await;
        pod.publish("web", &second);
        pod.until_in_sync_with(&second).await;
        assert_eq!((kong.handshakes().len(), pod.binding("web").served), (0, None));
        assert_eq!(pod.metric("propagation_seconds_count"), 2);
        let told = pod.status().kong.unproven.clone().unwrap();
        assert!(told.contains(why), "{told}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn while_a_file_is_held_what_kong_serves_is_shown_and_counts_for_nothing() {
    let [older, newer] = generations();
    let kong = KongInProcess::new();
    let (ahead, mut behind) = (Pod::with(&newer, &kong), Pod::new());
    ahead.until_in_sync_with(&newer).await;
    behind.publish("web", &older);
    behind.start(&kong);
    let web = behind.until_state(State::Held).await;
    assert_eq!(web.served, None);
    let web = behind.until(|web| web.served.is_some()).await;
    assert_eq!((&web.served, web.state), (&web.kong, State::Held));
    kong.show_nothing(Some(Unseen::NoTls));
    sleep(HOUR).await;
    assert_eq!(behind.web(), (State::Held, "kong_newer"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_dry_run_proves_and_announces_nothing() {
    let (mut pod, kong, renewed) = served().await;
    pod.stop().await;
    kong.model().freeze_serving();
    pod.publish_unheard("web", &renewed);
    pod.start(&kong);
    pod.until(|web| web.reason == Some(Reason::Proving)).await;
    pod.stop().await;
    let from = kong.elapsed();
    pod.start_with(&kong, |settings| settings.dry_run = true);
    pod.until_state(State::NotServed).await;
    assert_within(kong.elapsed() - from, PATIENCE, PATIENCE + SOON + A_MOMENT);
    assert_eq!(patches(&kong, from), [""; 0]);
}

// --- later ---------------------------------------------------------------------------------------

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_another_replica_pushed_is_noticed_by_a_handshake_and_kong_is_looked_at() {
    // The next proof comes before the next resync, which it does not always.
    fastrand::seed(1);
    let (pod, kong, renewed) = served().await;
    let from = kong.elapsed();
    put_elsewhere(&kong, &renewed);
    pod.until_state(State::Held).await;
    let shown = kong.handshakes().into_iter().filter(|(at, sni)| *at > from && sni.is_some());
    let (shown, _) = shown.min().unwrap();
    assert_within(kong.elapsed(), shown, shown + A_MOMENT);
    assert_eq!(pod.metric(r#"reconciles_total{trigger="resync"}"#), 0);
    assert_eq!(patches(&kong, from), [""; 0]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_not_held_any_more_is_not_announced() {
    let (pod, kong, renewed) = served().await;
    let other = Pki::at(START).pair(&["a.test"]);
    kong.model().serve_instead("a.test", Some(&other));
    pod.until(|web| web.reason == Some(Reason::Proving)).await;
    let from = kong.elapsed();
    // Meanwhile both the files and Kong go on, unheard.
    sleep(s(4)).await;
    pod.publish_unheard("web", &renewed);
    put_elsewhere(&kong, &renewed);
    sleep(s(6)).await;
    assert_eq!(pod.binding("web").file, pod.binding("web").kong);
    assert_eq!(patches(&kong, from), [""; 0]);
    // What is held now has its own time.
    pod.until_state(State::NotServed).await;
    assert_eq!(patches(&kong, from), announcement());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_older_certificate_for_clients_without_a_name_is_told_until_it_is_renewed() {
    let [older, newer] = generations();
    let kong = KongInProcess::new();
    kong.model().set_default_pair(&older.chain_pem(), &older.key_pem());
    let pod = Pod::with(&older, &kong);
    pod.until_in_sync_with(&older).await;
    sleep(s(1)).await;
    assert_eq!(pod.status().findings.len(), 0);
    pod.publish("web", &newer);
    pod.until_in_sync_with(&newer).await;
    sleep(s(1)).await;
    let findings = pod.status().findings.clone();
    let told = findings.first().unwrap();
    assert!(told.contains("web") && told.contains("ssl_cert"), "{told}");
    kong.model().set_default_pair(&newer.chain_pem(), &newer.key_pem());
    sleep(s(331)).await;
    assert_eq!(pod.status().findings.len(), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn files_that_change_every_second_cost_few_writes_and_end_with_the_newest() {
    let pki = Pki::at(START);
    let kong = KongInProcess::new();
    let first = pki.leaf(&["a.test"]).not_before(START - 3600).issue();
    let pod = Pod::with(&first, &kong);
    pod.until_in_sync_with(&first).await;
    let mut last = first;
    for second in 0..120 {
        last = pki.leaf(&["a.test"]).not_before(START - 3000 + second).issue();
        pod.publish("web", &last);
        sleep(s(1)).await;
    }
    assert_eq!(pod.web(), (State::Held, "flapping"));
    let rested = kong.elapsed();
    pod.until_in_sync_with(&last).await;
    assert_within(kong.elapsed() - rested, Duration::ZERO, s(6));
    assert_within(kong.model().writes(), 20, 10 + 120 / 6 + 3);
    assert_eq!(pod.metric(r#"generations_total{binding="web"}"#), 121);
    // One at a time, and never an older one.
    let history = kong.history();
    assert_eq!(history.last().unwrap(), last.leaf_der());
    assert_eq!(history.len() as u64, kong.model().writes());
    sleep(HOUR).await;
    assert_eq!(pod.web().0, State::InSync);
}
