//! A Kong without a database: what is written to it as a whole, and when. A paused clock, and a Kong
//! in memory.
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
use kong_cert_reloader::settings::{AuthoritySettings, LicenseSettings};
use kong_cert_reloader::status::State;
use pod::{Pod, START, assert_within};
use serde_json::json;
use stage::{
    HOUR, OTHERS, OWN_TAG, POLL, POST, exports, kong, leaf, license, load, others, pki, posts,
    restart, rows, served, settled, state,
};
use testkit::{KeyKind, Request};
use tokio::time::sleep;

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_certificate_goes_in_and_nothing_else_is_touched() {
    let (kong, pki) = (kong(OTHERS), pki());
    let before = others(&kong);
    let pair = leaf(&pki, &["a.test", "*.b.test"], 20);
    let pod = Pod::with(&pair, &kong);
    pod.until_in_sync_with(&pair).await;
    assert_eq!(served(&kong, "a.test"), pair.leaf_der());
    assert_eq!(served(&kong, "x.b.test"), pair.leaf_der());
    assert_eq!(others(&kong), before);
    assert_eq!(
        (posts(&kong), kong.calls_since(Duration::ZERO).contains(&POST.to_owned())),
        (1, true)
    );
    let certificates = rows(&kong, "/certificates");
    assert_eq!((certificates.len(), &certificates[0]["tags"]), (1, &json!([OWN_TAG])));
    assert_eq!(pod.status().kong.mode, Some("dbless"));
    // The safety poll, resyncs and Kong's hash write nothing.
    sleep(Duration::from_secs(3600)).await;
    assert_eq!((posts(&kong), others(&kong)), (1, before));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_renewal_is_one_write_and_so_is_a_rollback() {
    let (kong, pki) = (kong(OTHERS), pki());
    let [old, new] = [30, 20].map(|hours| leaf(&pki, &["a.test"], hours));
    let pod = Pod::with(&old, &kong);
    pod.until_in_sync_with(&old).await;
    let id = rows(&kong, "/certificates")[0]["id"].clone();
    let sni = rows(&kong, "/snis")[0].clone();
    for (pair, count) in [(&new, 2), (&old, 3)] {
        pod.publish("web", pair);
        pod.until_in_sync_with(pair).await;
        assert_eq!((served(&kong, "a.test"), posts(&kong)), (pair.leaf_der().to_vec(), count));
    }
    assert_eq!(rows(&kong, "/certificates")[0]["id"], id);
    assert_eq!(rows(&kong, "/snis")[0]["id"], sni["id"]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn all_that_changed_together_is_one_write() {
    let (kong, pki) = (kong(OTHERS), pki());
    let mut pod = Pod::new();
    let names: Vec<String> = (0..40).map(|number| format!("n{number}")).collect();
    for name in &names {
        pod.publish(name, &leaf(&pki, &[&format!("{name}.test")], 20));
    }
    pod.start(&kong);
    for name in &names {
        pod.until_named(name, |binding| binding.state == State::InSync).await;
    }
    assert_eq!((posts(&kong), rows(&kong, "/certificates?size=1000").len()), (1, 40));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_kong_that_forgot_it_gets_it_again() {
    let (kong, pki) = (kong(OTHERS), pki());
    let pair = leaf(&pki, &["a.test"], 20);
    let pod = Pod::with(&pair, &kong);
    pod.until_in_sync_with(&pair).await;
    // More often than another writer would be suffered.
    for count in 2..9 {
        restart(&kong, OTHERS);
        assert_eq!(rows(&kong, "/certificates").len(), 0);
        sleep(POLL).await;
        pod.until_in_sync_with(&pair).await;
        assert_eq!((served(&kong, "a.test"), posts(&kong)), (pair.leaf_der().to_vec(), count));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_renewal_just_after_kong_forgot_brings_back_the_others_too() {
    let (kong, pki) = (kong(OTHERS), pki());
    let [old, new] = [30, 20].map(|hours| leaf(&pki, &["a.test"], hours));
    let other = leaf(&pki, &["b.test"], 20);
    let pod = Pod::with(&old, &kong);
    pod.publish("own", &other);
    pod.until_named("own", |own| own.state == State::InSync).await;
    restart(&kong, OTHERS);
    pod.publish("web", &new);
    pod.until_in_sync_with(&new).await;
    sleep(POLL).await;
    assert_eq!(served(&kong, "a.test"), new.leaf_der());
    assert_eq!(served(&kong, "b.test"), other.leaf_der());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_kong_serves_instead_is_told_without_reading_it_all_the_time() {
    let (kong, pki) = (kong(OTHERS), pki());
    let [pair, other] = [20, 40].map(|hours| leaf(&pki, &["a.test"], hours));
    kong.model().serve_instead("a.test", Some(&other));
    let pod = Pod::with(&pair, &kong);
    pod.until_state(State::NotServed).await;
    assert_eq!(state(&pod, "web").1, "other_certificate");
    sleep(Duration::from_secs(600)).await;
    assert!(exports(&kong) < 30, "{}", exports(&kong));
    assert_eq!(posts(&kong), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_kong_without_a_configuration_gets_none_of_ours_alone() {
    let pki = pki();
    let kong = KongInProcess::new();
    kong.model().dbless(true);
    let pair = leaf(&pki, &["a.test"], 20);
    let pod = Pod::with(&pair, &kong);
    pod.until(|web| web.reason.is_some_and(|reason| reason.as_str() == "empty_configuration"))
        .await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!((posts(&kong), state(&pod, "web").0), (0, State::Pending));
    load(&kong, OTHERS);
    sleep(POLL).await;
    pod.until_in_sync_with(&pair).await;
    assert_eq!(posts(&kong), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_another_controller_writes_is_left_to_it_unless_forced() {
    let pki = pki();
    let managed = OTHERS.replace("yes-1", "managed-by-ingress-controller");
    let kong = kong(&managed);
    let pair = leaf(&pki, &["a.test"], 20);
    let mut pod = Pod::with(&pair, &kong);
    pod.until_state(State::Refused).await;
    assert_eq!((state(&pod, "web").1, posts(&kong)), ("other_controller", 0));
    pod.stop().await;
    pod.start_with(&kong, |settings| settings.declarative.force = true);
    pod.until_in_sync_with(&pair).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_certificate_of_someone_else_is_renewed_in_place() {
    let pki = pki();
    let [old, new] = [30, 20].map(|hours| leaf(&pki, &["a.test"], hours));
    let id = "11111111-1111-4111-8111-111111111111";
    let config = json!({
        "_format_version": "3.0",
        "certificates": [{
            "id": id, "cert": old.chain_pem(), "key": old.key_pem(), "tags": ["team:edge"],
            "snis": [{ "name": "a.test", "tags": ["hand"] }],
        }],
    });
    let kong = kong(&config.to_string());
    let pod = Pod::with(&new, &kong);
    pod.until_in_sync_with(&new).await;
    let certificates = rows(&kong, "/certificates");
    assert_eq!(
        (&certificates[0]["id"], &certificates[0]["tags"]),
        (&json!(id), &json!(["team:edge"]))
    );
    assert_eq!(rows(&kong, "/snis")[0]["tags"], json!(["hand"]));
    assert_eq!(served(&kong, "a.test"), new.leaf_der());
    assert!(pod.binding("web").objects[0].adopted);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_kong_refuses_is_left_out_and_the_rest_goes_in() {
    let (kong, pki) = (kong(OTHERS), pki());
    let mut pod = Pod::new();
    let ca = pki.root().intermediate_with("Bad", KeyKind::P256, START - HOUR, START + 400 * HOUR);
    let file = pod.write_file("ca.crt", &ca.pem());
    for name in ["a", "b"] {
        pod.publish(name, &leaf(&pki, &[&format!("{name}.test")], 20));
    }
    // By Kong's clock it has expired.
    kong.model().set_now(START + 500 * HOUR);
    pod.start_with(&kong, |settings| {
        let settings_of_it = AuthoritySettings { file, id: None, tags: [].into() };
        settings.authorities.insert("trust".parse().unwrap(), settings_of_it);
    });
    settled(&pod, &["a", "b", "trust"]).await;
    assert_eq!((state(&pod, "a").0, state(&pod, "b").0), (State::InSync, State::InSync));
    assert_eq!(state(&pod, "trust"), (State::Refused, "by_kong"));
    assert_eq!((rows(&kong, "/certificates").len(), posts(&kong)), (2, 2));
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(posts(&kong), 2);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_someone_loads_between_two_writes_is_not_undone() {
    let (kong, pki) = (kong(OTHERS), pki());
    let mut pod = Pod::new();
    pod.publish("web", &leaf(&pki, &["a.test"], 20));
    let ca = pki.root().intermediate_with("Bad", KeyKind::P256, START - HOUR, START + 400 * HOUR);
    let file = pod.write_file("ca.crt", &ca.pem());
    // By Kong's clock it has expired: the first write is refused.
    kong.model().set_now(START + 500 * HOUR);
    pod.start_with(&kong, |settings| {
        let settings_of_it = AuthoritySettings { file, id: None, tags: [].into() };
        settings.authorities.insert("trust".parse().unwrap(), settings_of_it);
    });
    while posts(&kong) == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    load(&kong, &OTHERS.replace("10.0.0.1", "10.0.0.2"));
    settled(&pod, &["web", "trust"]).await;
    assert_eq!((state(&pod, "web").0, state(&pod, "trust").0), (State::InSync, State::Refused));
    assert_eq!(rows(&kong, "/services")[0]["host"], "10.0.0.2");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_ca_certificate_that_expires_holds_no_renewal_up() {
    let (kong, pki) = (kong(OTHERS), pki());
    let mut pod = Pod::new();
    let short = pki.root().intermediate_with("Short", KeyKind::P256, START - HOUR, START + HOUR);
    let file =
        pod.write_file("ca.crt", &format!("{}{}", short.pem(), pki.intermediate("Long").pem()));
    let [old, new] = [30, 20].map(|hours| leaf(&pki, &["a.test"], hours));
    pod.publish("web", &old);
    pod.start_with(&kong, |settings| {
        let settings_of_it = AuthoritySettings { file, id: None, tags: [].into() };
        settings.authorities.insert("trust".parse().unwrap(), settings_of_it);
    });
    settled(&pod, &["web", "trust"]).await;
    assert_eq!(rows(&kong, "/ca_certificates").len(), 2);
    sleep(Duration::from_secs(2 * 3600)).await;
    kong.model().set_now(START + 2 * HOUR);
    pod.publish("web", &new);
    pod.until_in_sync_with(&new).await;
    assert_eq!(served(&kong, "a.test"), new.leaf_der());
    assert_eq!(rows(&kong, "/ca_certificates").len(), 1);
    sleep(Duration::from_secs(600)).await;
    let trust = pod.binding("trust");
    let is_told = |warning: &String| warning.contains("CN=Short") && warning.contains("expired");
    assert!(trust.warnings.iter().any(is_told), "{trust:?}");
    assert_eq!((trust.state, posts(&kong)), (State::InSync, 3));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_refusal_that_names_nothing_is_narrowed_down() {
    let (kong, pki) = (kong(OTHERS), pki());
    let mut pod = Pod::new();
    let names: Vec<String> = (0..8).map(|number| format!("n{number}")).collect();
    for name in &names {
        pod.publish(name, &leaf(&pki, &[&format!("{name}.test")], 20));
    }
    kong.refuse_config_with("n5.test");
    pod.start(&kong);
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    settled(&pod, &all).await;
    assert!(kong.elapsed() < Duration::from_secs(10), "{:?}", kong.elapsed());
    for name in &names {
        let expected = if name == "n5" { State::Refused } else { State::InSync };
        assert_eq!(pod.binding(name).state, expected, "{name}");
    }
    assert_eq!(rows(&kong, "/certificates").len(), 7);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_busy_kong_is_asked_again() {
    let (kong, pki) = (kong(OTHERS), pki());
    let pair = leaf(&pki, &["a.test"], 20);
    for status in [429, 503] {
        kong.inject(Fault::status(status).only("POST"));
    }
    let pod = Pod::with(&pair, &kong);
    pod.until_in_sync_with(&pair).await;
    assert_eq!(posts(&kong), 3);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_configuration_that_is_too_large_is_told_with_its_mend_and_not_sent_again() {
    let (kong, pki) = (kong(OTHERS), pki());
    kong.inject(Fault::refusal(413, "not enough memory: MDB_MAP_FULL").only("POST").always());
    let pod = Pod::with(&leaf(&pki, &["a.test"], 20), &kong);
    pod.until_state(State::Refused).await;
    let message = pod.binding("web").message.unwrap();
    assert!(message.contains("KONG_LMDB_MAP_SIZE"), "{message}");
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(posts(&kong), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_configuration_that_is_too_large_to_be_read_is_left_alone_until_it_is_another() {
    let (kong, pki) = (kong(OTHERS), pki());
    kong.inject(Fault::too_large().at("/config").only("GET").always());
    let pair = leaf(&pki, &["a.test"], 20);
    let pod = Pod::with(&pair, &kong);
    pod.until_state(State::Refused).await;
    assert_eq!(pod.binding("web").reason.unwrap().as_str(), "too_large");
    sleep(Duration::from_secs(120)).await;
    assert_eq!((exports(&kong), posts(&kong)), (1, 0));
    load(&kong, &format!("{OTHERS}- {{username: more}}\n"));
    sleep(POLL * 3).await;
    assert_eq!(exports(&kong), 2);
    // At each resync.
    sleep(Duration::from_secs(3600)).await;
    assert_within(exports(&kong), 10, 20);
    kong.heal();
    pod.until_in_sync_with(&pair).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_refusal_that_is_too_long_to_be_read_is_a_refusal() {
    let (kong, pki) = (kong(OTHERS), pki());
    kong.inject(Fault::too_large_with(400).only("POST").always());
    let pod = Pod::with(&leaf(&pki, &["a.test"], 20), &kong);
    pod.until_state(State::Refused).await;
    let shown = pod.binding("web");
    assert_eq!(shown.reason.unwrap().as_str(), "by_kong");
    assert!(shown.message.as_ref().unwrap().contains("too long to read"), "{shown:?}");
    sleep(Duration::from_secs(3000)).await;
    assert_eq!(posts(&kong), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_kong_that_does_not_answer_is_looked_for_elsewhere_until_it_does() {
    let (kong, pki) = (kong(OTHERS), pki());
    let pair = leaf(&pki, &["a.test"], 20);
    let pod = Pod::with(&pair, &kong);
    pod.until_in_sync_with(&pair).await;
    kong.listen_at("http://127.0.0.1:9001");
    kong.inject(Fault::no_connection().always());
    sleep(POLL * 10).await;
    assert_eq!((pod.status().findings.len(), kong.searches().len()), (1, 1));
    kong.heal();
    sleep(POLL * 2).await;
    assert!(pod.status().findings.is_empty());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_kong_that_is_slow_to_say_what_it_runs_is_asked_less_often() {
    let (kong, pki) = (kong(OTHERS), pki());
    let pair = leaf(&pki, &["a.test"], 20);
    let pod = Pod::with(&pair, &kong);
    pod.until_in_sync_with(&pair).await;
    let asked =
        |kong: &KongInProcess| kong.calls().iter().filter(|call| call.path == "/status").count();
    for (fault, from, to) in
        [(Fault::timeout(Duration::from_secs(10)), 6, 12), (Fault::no_connection(), 90, 200)]
    {
        kong.inject(fault.at("/status").always());
        let before = asked(&kong);
        sleep(Duration::from_secs(300)).await;
        assert_within(asked(&kong) - before, from, to);
        kong.heal();
        sleep(Duration::from_secs(40)).await;
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_not_answered_in_time_is_watched_and_not_sent_again() {
    let (kong, pki) = (kong(OTHERS), pki());
    let pair = leaf(&pki, &["a.test"], 20);
    // It is applied after 23 s, long after the answer was waited for.
    kong.inject(Fault::timeout(Duration::from_secs(13)).only("POST"));
    let pod = Pod::with(&pair, &kong);
    pod.until(|web| web.reason.is_some_and(|reason| reason.as_str() == "applying")).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!((posts(&kong), state(&pod, "web").1), (1, "applying"));
    assert_eq!(exports(&kong), 1, "it is busy enough");
    let sent = kong.bodies().pop().unwrap();
    let applied = Request::json("POST", "/config", &serde_json::from_slice(&sent).unwrap());
    kong.elsewhere(&applied);
    sleep(POLL * 2).await;
    pod.until_in_sync_with(&pair).await;
    assert_eq!(posts(&kong), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_not_applied_is_sent_again_within_seconds() {
    let gateway = Fault::status(504);
    let silence = Fault::timeout(Duration::from_secs(13));
    for (fault, from, to) in [(gateway, 3, 6), (silence, 26, 29)] {
        let (kong, pki) = (kong(OTHERS), pki());
        let pair = leaf(&pki, &["a.test"], 20);
        kong.inject(fault.only("POST"));
        let pod = Pod::with(&pair, &kong);
        pod.until_in_sync_with(&pair).await;
        let times = kong.times_of("POST");
        assert_eq!(times.len(), 2);
        let between = (times[1] - times[0]).as_secs();
        assert_within(between, from, to);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_never_answered_in_time_is_sent_ever_more_rarely() {
    let (kong, pki) = (kong(OTHERS), pki());
    let [old, new] = [30, 20].map(|hours| leaf(&pki, &["a.test"], hours));
    kong.inject(Fault::status(504).only("POST").always());
    let pod = Pod::with(&old, &kong);
    sleep(Duration::from_secs(600)).await;
    let times = kong.times_of("POST");
    let rests: Vec<u64> = times.windows(2).map(|two| (two[1] - two[0]).as_secs()).collect();
    // Twice as long each time, seen at the next look; at most two minutes.
    let expected = [3_u64, 6, 12, 24, 48, 96, 120, 120, 120];
    let is_so = |(rest, expected): (&u64, &u64)| (*expected..*expected + 3).contains(rest);
    assert_eq!(rests.len(), expected.len(), "{rests:?}");
    assert!(rests.iter().zip(&expected).all(is_so), "{rests:?}");
    // What is answered begins it anew.
    kong.heal();
    pod.until_in_sync_with(&old).await;
    let before = kong.times_of("POST").len();
    kong.inject(Fault::status(504).only("POST"));
    pod.publish("web", &new);
    pod.until_in_sync_with(&new).await;
    let times = kong.times_of("POST").split_off(before);
    assert_within((times[1] - times[0]).as_secs(), 3, 6);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn with_dry_run_nothing_is_written() {
    let (kong, pki) = (kong(OTHERS), pki());
    let mut pod = Pod::new();
    pod.publish("web", &leaf(&pki, &["a.test"], 20));
    pod.start_with(&kong, |settings| settings.dry_run = true);
    pod.until(|web| web.reason.is_some_and(|reason| reason.as_str() == "dry_run")).await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(posts(&kong), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_kong_that_is_started_anew_with_a_database_is_fed_there() {
    let (kong, pki) = (kong(OTHERS), pki());
    let [old, new] = [30, 20].map(|hours| leaf(&pki, &["a.test"], hours));
    let pod = Pod::with(&old, &kong);
    pod.until_in_sync_with(&old).await;
    kong.model().forget_everything();
    kong.model().dbless(false);
    pod.publish("web", &new);
    pod.until_in_sync_with(&new).await;
    assert_eq!(pod.status().kong.mode, Some("database"));
    kong.model().dbless(true);
    load(&kong, OTHERS);
    pod.publish("web", &old);
    pod.until_in_sync_with(&old).await;
    assert_eq!(pod.status().kong.mode, Some("dbless"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn ca_certificates_and_licences_go_into_the_configuration() {
    let (kong, pki) = (kong(OTHERS), pki());
    kong.model().enterprise(true);
    let mut pod = Pod::new();
    let pair = leaf(&pki, &["a.test"], 20);
    pod.publish("web", &pair);
    let (one, two) = (pki.intermediate("One"), pki.intermediate("Two"));
    let trust = pod.write_file("ca.crt", &format!("{}{}", one.pem(), two.pem()));
    let license = pod.write_file("license.json", &license("2035-01-31"));
    let settings = |settings: &mut kong_cert_reloader::settings::Settings| {
        let authorities = AuthoritySettings { file: trust.clone(), id: None, tags: [].into() };
        settings.authorities.insert("trust".parse().unwrap(), authorities);
        let license = LicenseSettings { file: license.clone(), id: None };
        settings.licenses.insert("kong".parse().unwrap(), license);
    };
    pod.start_with(&kong, settings);
    settled(&pod, &["web", "trust", "kong"]).await;
    for name in ["web", "trust", "kong"] {
        assert_eq!(state(&pod, name), (State::InSync, ""), "{name} {:?}", pod.binding(name));
    }
    assert_eq!((rows(&kong, "/ca_certificates").len(), posts(&kong)), (2, 1));
    assert_eq!(rows(&kong, "/licenses").len(), 1);
    let warnings = pod.binding("trust").warnings;
    assert!(
        warnings.iter().any(|warning| warning.contains("nothing in kong refers")),
        "{warnings:?}"
    );
    pod.stop().await;
    // Without Enterprise the rest goes in, and it is told once.
    kong.model().enterprise(false);
    restart(&kong, OTHERS);
    pod.start_with(&kong, settings);
    settled(&pod, &["web", "trust", "kong"]).await;
    assert_eq!(state(&pod, "kong"), (State::Unsupported, "no_licenses"));
    assert_eq!((state(&pod, "web").0, state(&pod, "trust").0), (State::InSync, State::InSync));
    let count = posts(&kong);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(posts(&kong), count);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn line_separators_in_what_is_not_ours_stay_what_they_are() {
    let config = |message: &str| {
        let plugin = json!({ "name": "request-termination", "config": { "message": message } });
        let service = json!({ "name": "echo", "host": "10.0.0.1", "plugins": [plugin] });
        json!({ "_format_version": "3.0", "services": [service] }).to_string()
    };
    let message = "a\u{2028}b\u{2029}c\u{85}d";
    let kong = kong(&config(message));
    let pair = leaf(&pki(), &["a.test"], 20);
    let pod = Pod::with(&pair, &kong);
    pod.until_in_sync_with(&pair).await;
    assert_eq!(rows(&kong, "/plugins")[0]["config"]["message"], message);
}
