//! When things happen: sidecars beside a Kong in memory, on a clock that the test holds.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "schedule/cold_start.rs"]
mod cold_start;
#[path = "schedule/kong.rs"]
mod kong;
#[path = "schedule/log.rs"]
mod log;
#[path = "schedule/pod.rs"]
mod pod;

use std::collections::BTreeSet;
use std::time::Duration;

use kong_cert_reloader::bundle::LeafDigest;
use kong_cert_reloader::clock::Timestamp;
use kong_cert_reloader::desired::Own;
use kong_cert_reloader::names::Instance;
use kong_cert_reloader::settings::CertificateSettings;
use kong_cert_reloader::status::{BindingStatus, State};
use serde_json::{Value, json};
use testkit::{CertifiedPair, Pki, Request, SecretVolume};
use tokio::time::{sleep, timeout};

use kong::{Fault, KongInProcess};
use log::Log;
use pod::{Pod, START, assert_within};

const HOUR: Duration = Duration::from_secs(3600);
/// What calls and timers of whole milliseconds add to a wait.
const A_MOMENT: Duration = Duration::from_millis(20);

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Three generations for `a.test`, each begun later than the one before.
fn generations() -> [CertifiedPair; 3] {
    let pki = Pki::at(START);
    [-30, -20, -10].map(|hours| pki.leaf(&["a.test"]).not_before(START + hours * 3600).issue())
}

/// Another writer puts `pair` into the object that has `a.test`.
fn put_elsewhere(kong: &KongInProcess, pair: &CertifiedPair) {
    let body = json!({"cert": pair.chain_pem(), "key": pair.key_pem()});
    kong.elsewhere(&Request::json("PATCH", "/certificates/a.test", &body));
}

/// Where the object of a binding is.
fn path_of(binding: &str) -> String {
    let id = Own::new(&Instance::default(), None).certificate(&binding.parse().unwrap());
    format!("/certificates/{id}")
}

/// What Kong shows at `path`; not counted.
fn shown(kong: &KongInProcess, path: &str) -> Value {
    kong.model().elsewhere(|model| model.answer(&Request::new("GET", path))).value()
}

fn writes(kong: &KongInProcess) -> u64 {
    kong.model().writes()
}

fn leaves(pairs: &[&CertifiedPair]) -> Vec<Vec<u8>> {
    pairs.iter().map(|pair| pair.leaf_der().to_vec()).collect()
}

/// Each wait but the first, from `times`, against twice the one before, up to 30 s.
fn assert_backoff(times: &[Duration]) {
    let mut longest = ms(200);
    for pair in times.windows(2) {
        assert_within(pair[1] - pair[0], longest / 2, longest + A_MOMENT);
        longest = (longest * 2).min(s(30));
    }
}

// --- Kong does not answer ------------------------------------------------------------------------

#[tokio::test(flavor = "local", start_paused = true)]
async fn while_kong_is_down_it_is_asked_ever_more_rarely_and_once_for_all_bindings() {
    let kong = KongInProcess::new();
    kong.inject(Fault::no_connection().always());
    let pair = &generations()[0];
    let mut pod = Pod::new();
    for name in 0..20 {
        pod.publish(&format!("n{name}"), pair);
    }
    pod.start(&kong);
    sleep(s(600)).await;
    assert!(kong.calls().iter().all(|call| call.path == "/"), "{:?}", kong.calls());
    let times = kong.times_of("GET");
    assert_within(times.len(), 20, 60);
    assert_backoff(&times);
    let longest: Vec<_> = times.windows(2).skip(8).map(|pair| pair[1] - pair[0]).collect();
    let spread = *longest.iter().max().unwrap() - *longest.iter().min().unwrap();
    assert!(spread > s(1), "without jitter: {longest:?}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_kong_that_goes_away_costs_a_few_calls_for_each_attempt() {
    let pki = Pki::at(START);
    // Up to 15 bindings are looked up one by one, more of them by pages.
    for (bindings, most) in [(15, 6), (60, 1)] {
        let kong = KongInProcess::new();
        let mut pod = Pod::new();
        for name in 0..bindings {
            pod.publish(&format!("n{name}"), &pki.pair(&[&format!("n{name}.test")]));
        }
        pod.start(&kong);
        sleep(s(1)).await;
        kong.inject(Fault::no_connection().always());
        sleep(s(20 * 60)).await;
        let mut attempts: Vec<Vec<Duration>> = Vec::new();
        for at in kong.calls().iter().map(|call| call.at).filter(|at| *at > s(1)) {
            match attempts.last_mut() {
                Some(attempt) if at - attempt[0] < ms(50) => attempt.push(at),
                _ => attempts.push(vec![at]),
            }
        }
        let calls = attempts.iter().map(Vec::len).max().unwrap();
        assert_within(calls, 1, most);
        assert_backoff(&attempts.iter().map(|attempt| attempt[0]).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_admin_api_elsewhere_is_told_once_an_outage_and_no_more_when_kong_answers() {
    const TOLD: &str = "an Admin API answers elsewhere";
    let log = Log::listen();
    let told = || log.warnings().iter().filter(|warning| *warning == TOLD).count();
    let kong = KongInProcess::new();
    kong.inject(Fault::no_connection().always());
    let [pair, renewed, _] = generations();
    let pod = Pod::with(&pair, &kong);
    // Kong is not up yet: it is looked for again, but not at each of the attempts.
    sleep(s(300)).await;
    let searches = kong.searches();
    assert_within(searches.len(), 3, 5);
    for pair in searches.windows(2) {
        assert_within(pair[1] - pair[0], s(60), s(95));
    }
    assert!(pod.status().findings.is_empty() && told() == 0);
    kong.listen_at("http://127.0.0.1:9001");
    sleep(s(300)).await;
    assert_eq!((kong.searches().len(), told()), (searches.len() + 1, 1));
    let findings = pod.status().findings.clone();
    let said = "an Admin API answers at http://127.0.0.1:9001; set CERT_RELOADER__ADMIN__URL to it";
    assert_eq!(Vec::from_iter(findings), [said]);
    kong.heal();
    pod.until_in_sync_with(&pair).await;
    assert!(pod.status().findings.is_empty());
    // The next outage is another one.
    kong.inject(Fault::no_connection().always());
    pod.publish("web", &renewed);
    pod.until(|web| web.state == State::Unreachable).await;
    sleep(s(1)).await;
    assert_eq!((pod.status().findings.len(), told()), (1, 2));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_admin_api_is_looked_for_elsewhere_only_where_the_address_may_be_wrong() {
    let [pair, ..] = generations();
    let cases = [
        (Fault::no_connection(), true),
        (Fault::timeout(s(10)), true),
        (Fault::refusal(404, "no Route matched with those values"), true),
        (Fault::refusal(404, "Not found"), true),
        (Fault::status(500), false),
        (Fault::status(401), false),
    ];
    for (fault, expected) in cases {
        let kong = KongInProcess::new();
        kong.inject(fault.always());
        let _pod = Pod::with(&pair, &kong);
        sleep(s(30)).await;
        assert_eq!(!kong.searches().is_empty(), expected, "{:?}", kong.calls());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_kong_that_answers_for_one_binding_is_not_looked_for_elsewhere() {
    let pki = Pki::at(START);
    for silent in ["n0", "n1"] {
        let kong = KongInProcess::new();
        kong.inject(Fault::timeout(s(10)).at(&path_of(silent)));
        let mut pod = Pod::new();
        for name in ["n0", "n1"] {
            pod.publish(name, &pki.pair(&[&format!("{name}.test")]));
        }
        pod.start(&kong);
        sleep(s(60)).await;
        assert_eq!((writes(&kong), kong.searches()), (2, Vec::new()), "{silent}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn retry_after_is_honoured_up_to_five_minutes() {
    let [pair, ..] = generations();
    for (status, wish, wait) in [(503, s(7), s(7)), (429, s(40), s(40)), (503, HOUR, s(300))] {
        let kong = KongInProcess::new();
        kong.inject(Fault::retry_after(status, wish).only("PUT"));
        let pod = Pod::with(&pair, &kong);
        pod.until_in_sync_with(&pair).await;
        let puts = kong.times_of("PUT");
        assert_within(puts[1] - puts[0], wait, wait + A_MOMENT);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_kong_that_comes_back_gets_the_newest_within_thirty_seconds() {
    let [first, missed, newest] = generations();
    let kong = KongInProcess::new();
    let pod = Pod::with(&first, &kong);
    pod.until_in_sync_with(&first).await;
    kong.inject(Fault::no_connection().always());
    pod.publish("web", &missed);
    pod.until_state(State::Unreachable).await;
    sleep(s(300)).await;
    pod.publish_unheard("web", &newest);
    sleep(s(300)).await;
    kong.heal();
    let back = kong.elapsed();
    pod.until_in_sync_with(&newest).await;
    assert_within(kong.elapsed() - back, Duration::ZERO, s(30) + A_MOMENT);
    assert_eq!(kong.history(), leaves(&[&first, &newest]));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn one_that_kong_fails_alone_puts_the_others_off_by_no_more_than_thirty_seconds() {
    let pki = Pki::at(START);
    let kong = KongInProcess::new();
    let mut pod = Pod::new();
    pod.publish("bad", &pki.pair(&["bad.test"]));
    pod.publish("web", &pki.pair(&["a.test"]));
    kong.inject(Fault::status(500).only("PUT").at(&path_of("bad")).always());
    pod.start(&kong);
    pod.until_state(State::InSync).await;
    for hours in 1..=3 {
        sleep(HOUR).await;
        let renewed = pki.leaf(&["a.test"]).not_before(START + hours).issue();
        pod.publish("web", &renewed);
        let swapped = kong.elapsed();
        pod.until_in_sync_with(&renewed).await;
        assert_within(kong.elapsed() - swapped, Duration::ZERO, s(30) + A_MOMENT);
        assert_eq!(pod.binding("bad").state, State::Unreachable);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn many_that_share_a_certificate_all_get_the_next_when_kong_fails_meanwhile() {
    let [first, next, _] = generations();
    let kong = KongInProcess::new();
    let mut pod = Pod::new();
    let names: Vec<String> = (10..50).map(|name| format!("n{name}")).collect();
    for name in &names {
        pod.publish(name, &first);
    }
    pod.start_with(&kong, |settings| {
        for name in &names {
            let snis = Some([format!("{name}.test").parse().unwrap()].into());
            let certificate = CertificateSettings { snis, ..CertificateSettings::default() };
            settings.certificates.insert(name.parse().unwrap(), certificate);
        }
    });
    pod.until_ready().await;
    // Someone else had it before us.
    let body = json!({"cert": next.chain_pem(), "key": next.key_pem(), "snis": ["other.test"]});
    kong.elsewhere(&Request::json("POST", "/certificates", &body));
    kong.inject(Fault::timeout(s(1)).only("PUT").times(10));
    for name in &names {
        pod.publish(name, &next);
    }
    sleep(s(60)).await;
    let states: Vec<_> = names.iter().map(|name| pod.binding(name).state).collect();
    assert!(states.iter().all(|state| *state == State::InSync), "{states:?}");
    for name in &names {
        let held = shown(&kong, &format!("/certificates/{name}.test"));
        assert_eq!(held["cert"], next.chain_pem());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn many_that_lack_credentials_ask_together() {
    let pki = Pki::at(START);
    let kong = KongInProcess::new();
    let mut pod = Pod::new();
    for name in 0..40 {
        pod.publish(&format!("n{name}"), &pki.pair(&[&format!("n{name}.test")]));
    }
    pod.start(&kong);
    pod.until_ready().await;
    kong.inject(Fault::status(401).always());
    let from = kong.elapsed();
    sleep(HOUR / 2).await;
    assert!(pod.status().bindings.values().all(|binding| binding.state == State::Unauthorized));
    assert_within(kong.calls_since(from).len(), 60, 130);
}

// --- files ---------------------------------------------------------------------------------------

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_swap_without_an_event_is_found_by_the_poll() {
    let [before, after, _] = generations();
    let kong = KongInProcess::new();
    let pod = Pod::with(&before, &kong);
    pod.until_in_sync_with(&before).await;
    sleep(s(70)).await;
    pod.publish_unheard("web", &after);
    let swapped = kong.elapsed();
    pod.until_in_sync_with(&after).await;
    assert_within(kong.elapsed() - swapped, Duration::ZERO, s(30) + A_MOMENT);
    // A volume that appears, and one that goes.
    pod.publish_unheard("new", &Pki::at(START).pair(&["new.test"]));
    std::fs::remove_dir_all(pod.directory("web")).unwrap();
    sleep(s(30) + A_MOMENT).await;
    assert_eq!(pod.binding("new").state, State::InSync);
    // It could be on its way, and is looked at twice more.
    sleep(A_MOMENT + s(1)).await;
    assert_eq!(pod.web(), (State::Invalid, "missing"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_swap_is_acted_upon_at_once_and_plain_files_once_they_are_quiet() {
    let [first, second, third] = generations();
    let kong = KongInProcess::new();
    let mut pod = Pod::new();
    pod.write("web", "tls.crt", &first.chain_pem());
    pod.write("web", "tls.key", &first.key_pem());
    pod.start(&kong);
    pod.until_in_sync_with(&first).await;
    let looks = pod.metric(r#"reconciles_total{trigger="files"}"#);
    pod.write("web", "tls.crt", &second.chain_pem());
    sleep(ms(200)).await;
    pod.write("web", "tls.key", &second.key_pem());
    sleep(ms(200)).await;
    // A touch puts it off, too.
    pod.write("web", "tls.key", &second.key_pem());
    let quiet_from = kong.elapsed();
    pod.until_in_sync_with(&second).await;
    assert_within(kong.elapsed() - quiet_from, ms(250), ms(250) + A_MOMENT);
    assert_eq!(pod.metric(r#"reconciles_total{trigger="files"}"#), looks + 1);

    std::fs::remove_dir_all(pod.directory("web")).unwrap();
    pod.publish("web", &third);
    let swapped = kong.elapsed();
    pod.until_in_sync_with(&third).await;
    assert_within(kong.elapsed() - swapped, Duration::ZERO, A_MOMENT);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_torn_pair_of_plain_files_is_looked_at_twice_more_before_it_is_invalid() {
    let [first, second, third] = generations();
    let kong = KongInProcess::new();
    let mut pod = Pod::new();
    pod.write("web", "tls.crt", &first.chain_pem());
    pod.write("web", "tls.key", &first.key_pem());
    pod.start(&kong);
    pod.until_in_sync_with(&first).await;
    // The other half comes between the second look and the third, and its event is lost.
    pod.write("web", "tls.crt", &second.chain_pem());
    sleep(ms(600)).await;
    assert_eq!(pod.web(), (State::InSync, ""));
    std::fs::write(pod.directory("web").join("tls.key"), second.key_pem()).unwrap();
    pod.until_in_sync_with(&second).await;
    assert_eq!(pod.metric(r#"reconciles_total{trigger="timer"}"#), 2);
    // It never comes.
    let torn = kong.elapsed();
    pod.write("web", "tls.crt", &third.chain_pem());
    pod.until_state(State::Invalid).await;
    assert_within(kong.elapsed() - torn, ms(750), ms(750) + A_MOMENT);
    assert_eq!(pod.web(), (State::Invalid, "key_mismatch"));
    assert_eq!(kong.history(), leaves(&[&first, &second]));
}

// --- rules that take time ------------------------------------------------------------------------

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_rollback_elsewhere_that_the_file_does_not_follow_is_pushed_after_the_hold() {
    let [older, ours, _] = generations();
    let kong = KongInProcess::new();
    let pod = Pod::with(&ours, &kong);
    pod.until_in_sync_with(&ours).await;
    put_elsewhere(&kong, &older);
    pod.until_state(State::Held).await;
    let seen = kong.elapsed();
    assert_eq!(pod.web(), (State::Held, "rollback_possible"));
    pod.until_in_sync_with(&ours).await;
    assert_within(kong.elapsed() - seen, s(300), s(300) + A_MOMENT);
    assert_eq!(kong.history(), leaves(&[&ours, &older, &ours]));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_newer_certificate_in_kong_is_never_replaced_and_told_after_the_hold() {
    let [ours, _, newer] = generations();
    let log = Log::listen();
    let kong = KongInProcess::new();
    let mut pod = Pod::new();
    pod.publish("web", &ours);
    // Looks in between do not put it off.
    pod.start_with(&kong, |settings| settings.resync_interval = s(80));
    pod.until_in_sync_with(&ours).await;
    let before = writes(&kong);
    put_elsewhere(&kong, &newer);
    let held = pod.until_state(State::Held).await;
    let seen = kong.elapsed();
    assert_eq!(pod.web(), (State::Held, "kong_newer"));
    let told = pod.until(|web| web.message != held.message).await;
    assert_within(kong.elapsed() - seen, s(300), s(300) + A_MOMENT);
    assert!(told.message.unwrap().contains("still began later"));
    sleep(6 * HOUR).await;
    let told = log.warnings().into_iter().filter(|warning| warning.contains("HOLD"));
    assert_eq!(told.count(), 1);
    assert_eq!((pod.web(), writes(&kong)), ((State::Held, "kong_newer"), before));
    pod.publish("web", &newer);
    pod.until_in_sync_with(&newer).await;
    assert_eq!(writes(&kong), before);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_newer_certificate_in_kong_that_expires_is_replaced() {
    let pki = Pki::at(START);
    let ours = pki.leaf(&["a.test"]).not_before(START - 7200).issue();
    let newer = pki.leaf(&["a.test"]).not_after(START + 7200).issue();
    let kong = KongInProcess::new();
    let pod = Pod::with(&ours, &kong);
    pod.until_in_sync_with(&ours).await;
    put_elsewhere(&kong, &newer);
    pod.until_state(State::Held).await;
    pod.until_in_sync_with(&ours).await;
    assert_within(kong.elapsed(), 2 * HOUR, 2 * HOUR + s(331));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_file_that_expires_is_told_and_kong_keeps_what_it_has() {
    let short = Pki::at(START).leaf(&["a.test"]).not_after(START + 7200).issue();
    let kong = KongInProcess::new();
    let pod = Pod::with(&short, &kong);
    pod.until_in_sync_with(&short).await;
    pod.until_state(State::Invalid).await;
    assert_within(kong.elapsed(), 2 * HOUR, 2 * HOUR + s(331));
    assert_eq!((pod.web(), writes(&kong)), ((State::Invalid, "expired"), 1));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_certificate_of_the_future_is_pushed_when_it_begins() {
    let begins = s(3 * 3600 + 1234);
    let from = START + i64::try_from(begins.as_secs()).unwrap();
    let early = Pki::at(START).leaf(&["a.test"]).not_before(from).issue();
    let kong = KongInProcess::new();
    let pod = Pod::with(&early, &kong);
    pod.until_state(State::NotYetValid).await;
    assert!(kong.calls().is_empty(), "{:?}", kong.calls());
    pod.until_in_sync_with(&early).await;
    // The wall clock counts whole seconds here.
    assert_within(kong.elapsed() - begins, Duration::ZERO, s(1) + ms(100));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_resync_repairs_what_was_deleted() {
    let [pair, ..] = generations();
    let kong = KongInProcess::new();
    let pod = Pod::with(&pair, &kong);
    pod.until_in_sync_with(&pair).await;
    for _ in 0..2 {
        let before = writes(&kong);
        kong.model().forget_everything();
        let repaired = async {
            while writes(&kong) == before {
                sleep(s(1)).await;
            }
        };
        assert!(timeout(s(332), repaired).await.is_ok());
        assert_eq!(shown(&kong, "/certificates/a.test")["snis"], json!(["a.test"]));
    }
}

// --- other writers -------------------------------------------------------------------------------

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_war_with_another_writer_ends_and_begins_again_once_an_hour_at_most() {
    let [older, ours, renewed] = generations();
    let kong = KongInProcess::new();
    let pod = Pod::with(&ours, &kong);
    pod.until_in_sync_with(&ours).await;
    let rival = tokio::spawn({
        let (kong, older, ours) = (kong.clone(), older.clone(), ours.clone());
        async move {
            loop {
                if kong.history().last().unwrap() == ours.leaf_der() {
                    put_elsewhere(&kong, &older);
                }
                sleep(s(5)).await;
            }
        }
    });
    pod.until_state(State::Refused).await;
    assert_eq!(pod.web(), (State::Refused, "contested"));
    assert_eq!((writes(&kong), pod.metric(r#"contested_total{binding="web"}"#)), (1 + 2, 3));
    // The first revert is an hour old a while after that.
    sleep(s(20 * 60)).await;
    assert_eq!(writes(&kong), 3);
    sleep(6 * HOUR).await;
    assert_within(writes(&kong), 4, 3 + 3 * 6);
    // A renewal is no part of it.
    pod.publish("web", &renewed);
    pod.until_in_sync_with(&renewed).await;
    rival.abort();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_another_writer_deletes_again_and_again_is_put_back_once_a_minute() {
    let [ours, ..] = generations();
    let kong = KongInProcess::new();
    let pod = Pod::with(&ours, &kong);
    pod.until_in_sync_with(&ours).await;
    let mut was_contested = false;
    for hours in 1..=6 {
        for _ in 0..360 {
            kong.model().forget_everything();
            sleep(s(10)).await;
            was_contested |= pod.web() == (State::Refused, "contested");
        }
        // Found at each comparison, twelve of which are in an hour.
        assert_within(writes(&kong), 1 + 10 * hours, 1 + 60 * hours);
    }
    assert!(was_contested);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn three_replicas_follow_their_nodes_with_one_write_and_no_step_back() {
    let [older, newer, _] = generations();
    for (seed, resync) in [s(20), s(45), s(300), s(20), s(45), s(300)].into_iter().enumerate() {
        for (before, after) in [(&older, &newer), (&newer, &older)] {
            let mut random = fastrand::Rng::with_seed(seed as u64);
            let kong = KongInProcess::new();
            let mut pods = [Pod::new(), Pod::new(), Pod::new()];
            for pod in &mut pods {
                pod.publish("web", before);
                pod.start_with(&kong, |settings| settings.resync_interval = resync);
                pod.until_in_sync_with(before).await;
            }
            assert_eq!(writes(&kong), 1);
            sleep(s(random.u64(0..300))).await;
            // kubelets refresh each node in its own time; some events are lost.
            for pod in &pods {
                if random.bool() {
                    pod.publish("web", after);
                } else {
                    pod.publish_unheard("web", after);
                }
                sleep(s(random.u64(0..45))).await;
            }
            for pod in &pods {
                pod.until_in_sync_with(after).await;
            }
            sleep(s(700)).await;
            assert_eq!(kong.history(), leaves(&[before, after]), "seed {seed}");
            assert_within(writes(&kong), 2, 3);
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn three_replicas_that_race_to_create_meet_in_one_object() {
    let [pair, ..] = generations();
    let kong = KongInProcess::new();
    let path = path_of("web");
    // Two lose: one in the middle of its write, the other between look and write.
    kong.inject(
        Fault::refusal(409, r#"UNIQUE violation detected on '{name="a.test"}'"#).only("PUT"),
    );
    kong.inject(
        Fault::refusal(
            400,
            "schema violation (snis: a.test already associated with existing certificate 'x')",
        )
        .only("PUT"),
    );
    let pods = [Pod::with(&pair, &kong), Pod::with(&pair, &kong), Pod::with(&pair, &kong)];
    for pod in &pods {
        pod.until_in_sync_with(&pair).await;
        assert_eq!(pod.metric(r#"pushes_total{binding="web",outcome="refused"}"#), 0);
        assert_eq!(pod.metric(r#"pushes_total{binding="web",outcome="failed"}"#), 0);
    }
    assert_within(kong.elapsed(), Duration::ZERO, A_MOMENT);
    sleep(HOUR).await;
    assert_eq!(shown(&kong, "/certificates")["data"].as_array().unwrap().len(), 1);
    assert_eq!(shown(&kong, &path)["tags"], json!(["managed-by:kong-cert-reloader:default"]));
    assert_within(kong.times_of("PUT").len(), 3, 5);
    assert_within(writes(&kong), 1, 3);
}

// --- answers that are lost, and refusals ---------------------------------------------------------

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_first_write_that_timed_out_but_landed_is_not_written_again() {
    let [pair, ..] = generations();
    let kong = KongInProcess::new();
    kong.inject(Fault::timeout(s(10)).landed().only("PUT"));
    let pod = Pod::with(&pair, &kong);
    pod.until_in_sync_with(&pair).await;
    sleep(HOUR).await;
    assert_eq!(kong.times_of("PUT").len(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_write_that_timed_out_but_landed_is_rolled_back_with_its_file_at_once() {
    let [older, newer, _] = generations();
    let kong = KongInProcess::new();
    let pod = Pod::with(&older, &kong);
    pod.until_in_sync_with(&older).await;
    kong.inject(Fault::timeout(s(10)).landed().only("PUT"));
    pod.publish("web", &newer);
    sleep(s(5)).await;
    pod.publish("web", &older);
    pod.until(|web| web.state == State::Unreachable).await;
    pod.until_in_sync_with(&older).await;
    assert_within(kong.elapsed(), s(10), s(10) + s(1));
    assert_eq!(kong.history(), leaves(&[&older, &newer, &older]));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_kong_refuses_is_sent_once_until_file_or_kong_change() {
    let [older, refused, other] = generations();
    let kong = KongInProcess::new();
    let pod = Pod::with(&older, &kong);
    pod.until_in_sync_with(&older).await;
    kong.inject(Fault::refusal(400, "schema violation (cert: no)").only("PUT").always());
    let puts = || kong.times_of("PUT").len();
    pod.publish("web", &refused);
    pod.until_state(State::Refused).await;
    assert_eq!((pod.web(), puts()), ((State::Refused, "by_kong"), 2));
    sleep(HOUR).await;
    assert_eq!(puts(), 2);
    // In Kong something else changes.
    let sni = json!({"name": "b.test", "certificate": {"id": shown(&kong, "/snis/a.test")["certificate"]["id"]}});
    kong.elsewhere(&Request::json("POST", "/snis", &sni));
    sleep(HOUR).await;
    assert_eq!(puts(), 3);
    pod.publish("web", &other);
    sleep(HOUR).await;
    assert_eq!((pod.web(), puts()), ((State::Refused, "by_kong"), 4));
    kong.heal();
    pod.publish("web", &refused);
    pod.until_in_sync_with(&refused).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_name_that_is_taken_between_look_and_write_is_looked_at_again() {
    let [theirs, ours, _] = generations();
    for (tags, expected) in [
        (json!(["team:edge"]), (State::InSync, "")),
        (json!(["managed-by-ingress-controller"]), (State::Refused, "other_controller")),
    ] {
        let kong = KongInProcess::new();
        let body = json!({"cert": theirs.chain_pem(), "key": theirs.key_pem(), "snis": ["a.test"], "tags": tags});
        let create = Request::json("POST", "/certificates", &body);
        kong.model().before_next("PUT", "/certificates/", move |model| drop(model.answer(&create)));
        let pod = Pod::with(&ours, &kong);
        pod.until(|web| web.state != State::Pending).await;
        assert_eq!(pod.web(), expected);
        assert_within(kong.elapsed(), Duration::ZERO, A_MOMENT);
        let held = shown(&kong, "/certificates/a.test");
        assert_eq!((&held["tags"], &held["snis"]), (&tags, &json!(["a.test"])));
        let cert = if expected.0 == State::InSync { &ours } else { &theirs };
        assert_eq!(held["cert"], cert.chain_pem());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_another_replica_wrote_between_look_and_write_costs_no_third_write() {
    let [older, newer, _] = generations();
    let kong = KongInProcess::new();
    let pods = [Pod::with(&older, &kong), Pod::with(&older, &kong)];
    for pod in &pods {
        pod.until_in_sync_with(&older).await;
    }
    let before = kong.times_of("PUT").len();
    for pod in &pods {
        pod.publish("web", &newer);
    }
    for pod in &pods {
        pod.until_in_sync_with(&newer).await;
    }
    sleep(HOUR).await;
    assert_within(kong.times_of("PUT").len() - before, 1, 2);
    assert_eq!(kong.history(), leaves(&[&older, &newer]));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_write_to_no_such_path_makes_it_find_out_the_mode_again() {
    let [older, newer, _] = generations();
    for status in [404, 405] {
        let kong = KongInProcess::new();
        let pod = Pod::with(&older, &kong);
        pod.until_in_sync_with(&older).await;
        kong.inject(Fault::status(status).only("PUT"));
        let from = kong.elapsed();
        pod.publish("web", &newer);
        pod.until_in_sync_with(&newer).await;
        assert_within(kong.elapsed() - from, ms(100), ms(200) + A_MOMENT);
        let calls = kong.calls_since(from);
        let methods: Vec<_> = calls.iter().map(|call| call.split('/').next().unwrap()).collect();
        assert_eq!(methods, ["GET ", "PUT ", "GET ", "GET ", "PUT "]);
        assert_eq!(calls[2], "GET /");
    }
    // It is another Kong indeed.
    let kong = KongInProcess::new();
    let pod = Pod::with(&older, &kong);
    pod.until_in_sync_with(&older).await;
    kong.model().dbless(true);
    pod.publish("web", &newer);
    pod.until_in_sync_with(&newer).await;
    assert_eq!(pod.status().kong.mode, Some("dbless"));
}

/// Of many the keys are not kept where each is written by itself; where all are one write they are needed.
#[tokio::test(flavor = "local", start_paused = true)]
async fn many_get_their_renewals_from_a_kong_that_has_no_database_any_more() {
    let (pki, kong, mut pod) = (Pki::at(START), KongInProcess::new(), Pod::new());
    let name = |number| (format!("n{number}"), format!("n{number}.test"));
    for (name, sni) in (0..40).map(name) {
        pod.publish(&name, &pki.leaf(&[&sni]).not_before(START - 10).issue());
    }
    pod.start(&kong);
    pod.until_ready().await;
    kong.model().dbless(true);
    for (name, sni) in (0..40).map(name) {
        pod.publish_unheard(&name, &pki.leaf(&[&sni]).not_before(START).issue());
    }
    let is_renewed = |binding: &BindingStatus| {
        let held = binding.kong.as_ref().map(|held| held.not_before);
        binding.state == State::InSync && held == Some(Timestamp(START))
    };
    sleep(s(120)).await;
    let status = pod.status();
    assert_eq!(status.kong.mode, Some("dbless"));
    let left: Vec<_> = status.bindings.iter().filter(|(_, one)| !is_renewed(one)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(kong.times_of("POST").len(), 40 + 1, "one write of all");
}

// --- readiness, idleness, many, and the end ------------------------------------------------------

#[tokio::test(flavor = "local", start_paused = true)]
async fn ready_is_what_came_to_a_conclusion_or_waited_long_enough() {
    let [pair, ..] = generations();
    let kong = KongInProcess::new();
    let mut pod = Pod::with(&pair, &kong);
    pod.until_ready().await;
    assert_within(kong.elapsed(), Duration::ZERO, A_MOMENT);
    // What is ready stays ready.
    kong.inject(Fault::no_connection().always());
    kong.model().forget_everything();
    sleep(HOUR).await;
    assert_eq!((pod.web().0, pod.status().ready), (State::Unreachable, true));
    pod.stop().await;

    let from = kong.elapsed();
    pod.start(&kong);
    pod.until_ready().await;
    assert_within(kong.elapsed() - from, s(60), s(60) + A_MOMENT);
    pod.stop().await;

    pod.start_with(&kong, |settings| settings.ready.strict = true);
    sleep(HOUR).await;
    assert!(!pod.status().ready);
    kong.heal();
    pod.until_ready().await;
    assert_eq!(pod.web(), (State::InSync, ""));
    pod.stop().await;

    pod.publish("web", &Pki::at(START).leaf(&["a.test"]).not_after(START - 1).issue());
    for strict in [false, true] {
        pod.start_with(&kong, |settings| settings.ready.strict = strict);
        sleep(HOUR).await;
        assert_eq!((pod.web().0, pod.status().ready), (State::Invalid, !strict));
        pod.stop().await;
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn idle_means_idle() {
    let [pair, ..] = generations();
    let kong = KongInProcess::new();
    let pod = Pod::with(&pair, &kong);
    pod.until_in_sync_with(&pair).await;
    let from = kong.elapsed();
    let generation = |trigger| pod.metric(&format!("reconciles_total{{trigger=\"{trigger}\"}}"));
    sleep(HOUR).await;
    let calls = kong.calls_since(from);
    assert!(calls.iter().all(|call| *call == format!("GET {}", path_of("web"))), "{calls:?}");
    assert_within(calls.len(), 10, 13);
    assert_eq!(calls.len() as u64, generation("resync"));
    assert_eq!(generation("poll"), 120);
    for trigger in ["files", "timer", "retry"] {
        assert_eq!(generation(trigger), 0, "{trigger}");
    }
    let times: Vec<_> = kong.times_of("GET").into_iter().filter(|at| *at > from).collect();
    for pair in times.windows(2) {
        assert_within(pair[1] - pair[0], s(270), s(330) + A_MOMENT);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn of_many_bindings_a_restart_reads_pages_and_a_renewal_touches_one() {
    let pki = Pki::at(START);
    let kong = KongInProcess::new();
    let mut pod = Pod::new();
    pod.publish("web", &pki.pair(&["a.test"]));
    for name in 1..60 {
        pod.publish(&format!("n{name}"), &pki.pair(&[&format!("n{name}.test")]));
    }
    pod.start(&kong);
    pod.until_ready().await;
    assert_eq!(writes(&kong), 60);
    assert_eq!(kong.calls_since(Duration::ZERO)[..2], ["GET /", "GET /certificates?size=1000"]);
    pod.stop().await;

    let from = kong.elapsed();
    pod.start(&kong);
    pod.until_ready().await;
    assert_eq!(kong.calls_since(from), ["GET /", "GET /certificates?size=1000"]);
    assert!(pod.status().bindings.values().all(|binding| binding.state == State::InSync));

    let from = kong.elapsed();
    let renewed = pki.leaf(&["a.test"]).not_before(START).issue();
    pod.publish("web", &renewed);
    pod.until_in_sync_with(&renewed).await;
    let path = path_of("web");
    assert_eq!(kong.calls_since(from), [format!("GET {path}"), format!("PUT {path}")]);
}

/// Keys of many are read again when it is their turn.
#[tokio::test(flavor = "local", start_paused = true)]
async fn of_many_bindings_what_changes_between_the_judgement_and_the_write_is_judged_anew() {
    let pki = Pki::at(START);
    let [older, newer] = [10, 20].map(|day| pki.leaf(&["a.test"]).not_before(START - day).issue());
    let broken = || [("tls.crt", newer.chain_pem()), ("tls.key", older.key_pem())];
    for (files, expected) in [
        ([("tls.crt", newer.chain_pem()), ("tls.key", newer.key_pem())], State::InSync),
        (broken(), State::Invalid),
    ] {
        let kong = KongInProcess::new();
        let mut pod = Pod::new();
        for name in 0..160 {
            pod.publish(&format!("n{name:03}"), &pki.pair(&[&format!("n{name}.test")]));
        }
        pod.publish("z", &older);
        let directory = pod.directory("z");
        // Nothing tells of this swap, and the poll is far away.
        kong.inject(Fault::refusal(400, "no").only("POST").with(move |_| {
            let files = files.each_ref().map(|(name, text)| (*name, text.as_bytes()));
            SecretVolume::mount(directory).publish(&files);
        }));
        pod.start(&kong);
        pod.until_named("z", |z| z.state == expected).await;
        assert_within(kong.elapsed(), Duration::ZERO, s(20));
        let leaf = LeafDigest::of(newer.leaf_der());
        let file = pod.binding("z").file.unwrap();
        assert_eq!(file.leaf_sha256.contains(&leaf), expected == State::InSync);
        let was_served = |pair: &CertifiedPair| kong.history().contains(&pair.leaf_der().to_vec());
        assert_eq!((was_served(&older), was_served(&newer)), (false, expected == State::InSync));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn kong_is_asked_ahead_for_the_names_that_a_binding_has_and_again_where_they_change() {
    let pki = Pki::at(START);
    let kong = KongInProcess::new();
    let first = pki.pair(&["a.test"]);
    let pod = Pod::with(&first, &kong);
    pod.until_in_sync_with(&first).await;
    let path = path_of("web");
    let [get, put] = ["GET", "PUT"].map(|method| format!("{method} {path}"));

    let from = kong.elapsed();
    let renewed = pki.leaf(&["a.test"]).not_before(START).issue();
    pod.publish("web", &renewed);
    pod.until_in_sync_with(&renewed).await;
    assert_eq!(kong.calls_since(from), [get.clone(), put.clone()]);

    let from = kong.elapsed();
    let widened = pki.leaf(&["a.test", "b.test"]).not_before(START).issue();
    pod.publish("web", &widened);
    pod.until_in_sync_with(&widened).await;
    let owner = "GET /snis/b.test".to_owned();
    assert_eq!(kong.calls_since(from), [get.clone(), get, owner, put]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_wrong_with_a_file_is_told_while_kong_is_still_to_answer() {
    let [first, second, _] = generations();
    let kong = KongInProcess::new();
    let pod = Pod::with(&first, &kong);
    pod.until_in_sync_with(&first).await;
    kong.inject(Fault::timeout(s(10)).always());
    let swapped = kong.elapsed();
    pod.publish_file("web", "tls.crt", &second.chain_pem());
    pod.until_state(State::Invalid).await;
    assert_within(kong.elapsed() - swapped, Duration::ZERO, A_MOMENT);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn for_what_cannot_be_served_kong_is_not_asked_at_each_poll() {
    let [first, second, third] = generations();
    let kong = KongInProcess::new();
    let pod = Pod::with(&first, &kong);
    pod.until_in_sync_with(&first).await;
    pod.publish_file("web", "tls.crt", &second.chain_pem());
    pod.until_state(State::Invalid).await;
    sleep(s(1)).await;
    let from = kong.elapsed();
    // No resync is in it.
    sleep(s(200)).await;
    assert_eq!(kong.calls_since(from), Vec::<String>::new());
    pod.publish("web", &third);
    pod.until_in_sync_with(&third).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn of_very_many_bindings_the_first_are_told_while_the_others_go_on() {
    let pki = Pki::at(START);
    let kong = KongInProcess::new();
    let mut pod = Pod::new();
    for name in 0..400 {
        pod.publish(&format!("n{name:03}"), &pki.pair(&[&format!("n{name}.test")]));
    }
    pod.start(&kong);
    let reasons = |pod: &Pod| -> BTreeSet<&str> {
        let bindings = pod.status();
        let reasons = bindings.bindings.values().map(|binding| binding.reason);
        reasons.map(|reason| reason.map_or("", |reason| reason.as_str())).collect()
    };
    let mut seen = BTreeSet::new();
    while reasons(&pod) != [""].into() {
        seen.insert(reasons(&pod));
        sleep(ms(5)).await;
    }
    assert!(seen.contains(&["proving", "starting"].into()), "{seen:?}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_write_that_hangs_ends_with_the_sidecar_within_two_seconds() {
    let [older, newer, _] = generations();
    let kong = KongInProcess::new();
    let mut pod = Pod::with(&older, &kong);
    pod.until_in_sync_with(&older).await;
    kong.inject(Fault::timeout(s(10)).only("PUT").always());
    pod.publish("web", &newer);
    sleep(s(1)).await;
    let asked = kong.elapsed();
    pod.stop().await;
    assert_within(kong.elapsed() - asked, s(1), s(2));
    assert_eq!(kong.times_of("PUT").len(), 2);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_sidecar_that_waits_for_kong_ends_at_once() {
    let [pair, ..] = generations();
    let kong = KongInProcess::new();
    kong.inject(Fault::no_connection().always());
    let mut pod = Pod::with(&pair, &kong);
    sleep(s(100)).await;
    let asked = kong.elapsed();
    pod.stop().await;
    assert_eq!(kong.elapsed(), asked);
}
