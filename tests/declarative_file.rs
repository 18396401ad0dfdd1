//! A Kong without a database whose configuration comes from `DECLARATIVE__FILE`. A paused clock, and a
//! Kong in memory.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and read its files"
)]

#[path = "schedule/kong.rs"]
mod kong;
#[path = "schedule/log.rs"]
mod log;
#[path = "schedule/pod.rs"]
mod pod;
#[path = "dbless/stage.rs"]
mod stage;

use std::time::Duration;

use kong::Fault;
use kong_cert_reloader::settings::{
    AuthoritySettings, CertificateSettings, LicenseSettings, Settings,
};
use kong_cert_reloader::status::State;
use log::Log;
use serde_json::json;
use stage::{
    FILE, ID, OTHERS, POLL, WithFile, certificate, edited, exports, leaf, license, load, pki,
    posts, rows, served, state, with_certificates,
};
use testkit::{CertifiedPair, KeyKind, Request, SecretVolume};
use tokio::time::sleep;

const AN_HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_rest_may_come_from_a_file_that_is_loaded_when_it_changes() {
    let pki = pki();
    let pair = leaf(&pki, &["a.test"], 20);
    let it = WithFile::new(OTHERS, &[("web", &pair)]).await;
    it.pod.until_in_sync_with(&pair).await;
    assert_eq!(state(&it.pod, FILE), (State::InSync, ""));
    assert_eq!((posts(&it.kong), rows(&it.kong, "/services").len()), (1, 1));
    it.edit(&edited(OTHERS));
    it.until_host("10.0.0.2").await;
    assert_eq!(served(&it.kong, "a.test"), pair.leaf_der());
    assert_eq!(posts(&it.kong), 2);
    // Kong starts anew with nothing, and gets all of it.
    it.kong.model().forget_everything();
    sleep(POLL).await;
    it.pod.until_in_sync_with(&pair).await;
    assert_eq!((posts(&it.kong), rows(&it.kong, "/services").len()), (3, 1));
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(posts(&it.kong), 3);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_file_that_is_broken_or_refused_changes_nothing_and_holds_up_no_renewal() {
    let pki = pki();
    let pairs = [40, 30, 20].map(|hours| leaf(&pki, &["a.test"], hours));
    let it = WithFile::new(OTHERS, &[("web", &pairs[0])]).await;
    it.pod.until_in_sync_with(&pairs[0]).await;
    it.edit("_format_version: '3.0'\nservices: [{name: a: b}]\n");
    it.pod.until_named(FILE, |it| it.state == State::Invalid).await;
    let message = it.pod.binding(FILE).message.unwrap();
    assert!(message.contains("kong.yaml") && message.contains("2:"), "{message}");
    it.pod.publish("web", &pairs[1]);
    it.pod.until_in_sync_with(&pairs[1]).await;
    assert_eq!(rows(&it.kong, "/services").len(), 1);
    it.edit("_format_version: '3.0'\ngizmos: [{name: a}]\n");
    it.pod.until_named(FILE, |it| it.state == State::Refused).await;
    it.pod.publish("web", &pairs[2]);
    it.pod.until_in_sync_with(&pairs[2]).await;
    assert_eq!((rows(&it.kong, "/services").len(), state(&it.pod, FILE).1), (1, "by_kong"));
    it.edit(OTHERS);
    it.pod.until_named(FILE, |it| it.state == State::InSync).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_last_good_certificate_outlives_a_change_of_the_file() {
    let pki = pki();
    let [old, new] = [30, 20].map(|hours| leaf(&pki, &["a.test"], hours));
    let own = leaf(&pki, &["b.test"], 20);
    let config = with_certificates(&json!([certificate(Some(ID), &old, &["a.test"])]));
    let it = WithFile::new(&config, &[("web", &new), ("own", &own)]).await;
    it.pod.until_in_sync_with(&new).await;
    for name in ["web", "own"] {
        it.pod.write(name, "tls.key", "broken");
        it.pod.wake_at(name);
        it.pod.until_named(name, |it| it.state == State::Invalid).await;
    }
    it.edit(&edited(&config));
    it.until_host("10.0.0.2").await;
    assert_eq!(served(&it.kong, "a.test"), new.leaf_der());
    assert_eq!(served(&it.kong, "b.test"), own.leaf_der());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_last_good_certificate_outlives_a_restart_of_the_sidecar_with_a_broken_secret() {
    let pki = pki();
    let [old, new] = [30, 20].map(|hours| leaf(&pki, &["a.test"], hours));
    let config = with_certificates(&json!([certificate(Some(ID), &old, &["a.test"])]));
    let mut it = WithFile::new(&config, &[("web", &new)]).await;
    it.pod.until_in_sync_with(&new).await;
    it.pod.stop().await;
    it.pod.write("web", "tls.key", "broken");
    it.start(|_| {}).await;
    it.edit(&edited(&config));
    it.until_host("10.0.0.2").await;
    assert_eq!(
        (served(&it.kong, "a.test"), state(&it.pod, "web").0),
        (new.leaf_der().to_vec(), State::Invalid)
    );
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_last_good_licence_and_ca_certificate_outlive_a_change_of_the_file() {
    let pki = pki();
    let (one, two) = (pki.intermediate("One"), pki.intermediate("Two"));
    let config = json!({
        "_format_version": "3.0",
        "ca_certificates": [{ "id": ID, "cert": one.pem() }],
        "services": [{ "name": "echo", "host": "10.0.0.1" }],
    })
    .to_string();
    let it = WithFile::before(&config, &[]);
    it.kong.model().enterprise(true);
    let trust = it.pod.write_file("ca.crt", &two.pem());
    let payload = license("2035-01-31");
    let kong = it.pod.write_file("license.json", &payload);
    let it = it
        .started(|settings| {
            let id = Some(ID.parse().unwrap());
            let trust = AuthoritySettings { file: trust, id, tags: [].into() };
            settings.authorities.insert("trust".parse().unwrap(), trust);
            let kong = LicenseSettings { file: kong, id: None };
            settings.licenses.insert("kong".parse().unwrap(), kong);
        })
        .await;
    let held = || {
        let cert = rows(&it.kong, "/ca_certificates")[0]["cert"].as_str().unwrap().to_owned();
        let licenses = rows(&it.kong, "/licenses");
        (cert, licenses[0]["payload"].as_str().unwrap().to_owned())
    };
    let wanted = (two.pem(), payload);
    assert_eq!(held(), wanted);
    for (file, name) in [("ca.crt", "trust"), ("license.json", "kong")] {
        it.pod.write_file(file, "broken");
        it.pod.until_named(name, |it| it.state == State::Invalid).await;
    }
    it.edit(&edited(&config));
    it.until_host("10.0.0.2").await;
    assert_eq!(held(), wanted);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn certificates_of_the_file_may_change_places_and_need_no_ids() {
    let pki = pki();
    let [old, new] = [30, 20].map(|hours| leaf(&pki, &["a.test"], hours));
    let other = leaf(&pki, &["b.test"], 20);
    let ours = certificate(None, &old, &["a.test"]);
    let it = WithFile::new(&with_certificates(&json!([ours])), &[("web", &new)]).await;
    it.pod.until_in_sync_with(&new).await;
    let theirs = certificate(None, &other, &["b.test"]);
    it.edit(&edited(&with_certificates(&json!([theirs, ours]))));
    it.until_host("10.0.0.2").await;
    assert_eq!(served(&it.kong, "a.test"), new.leaf_der());
    assert_eq!(served(&it.kong, "b.test"), other.leaf_der());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn names_that_are_taken_from_the_file_are_taken_once() {
    let pki = pki();
    let [wide, new] = [(&["a.test", "x.test"][..], 30), (&["a.test"], 20)]
        .map(|(names, hours)| leaf(&pki, names, hours));
    let config = with_certificates(&json!([certificate(Some(ID), &wide, &["a.test", "x.test"])]));
    let it = WithFile::before(&config, &[("web", &new)]);
    let dir = Some(it.pod.directory("web"));
    let take = |settings: &mut Settings| {
        let settings_of_it = CertificateSettings { dir, take_snis: true, ..Default::default() };
        settings.certificates.insert("web".parse().unwrap(), settings_of_it);
    };
    let it = it.started(take).await;
    it.pod.until_in_sync_with(&new).await;
    sleep(AN_HOUR).await;
    assert_eq!(posts(&it.kong), 1);
    it.edit(&edited(&config));
    it.until_host("10.0.0.2").await;
    assert_eq!(served(&it.kong, "a.test"), new.leaf_der());
    assert_eq!(served(&it.kong, "x.test"), wide.leaf_der());
    assert_eq!(state(&it.pod, "web"), (State::InSync, ""));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_file_alone_is_loaded_by_a_kong_that_was_busy() {
    let it = WithFile::before(OTHERS, &[]);
    it.kong.inject(Fault::status(503).only("POST"));
    let it = it.started(|_| {}).await;
    assert_eq!(state(&it.pod, FILE), (State::Unreachable, "no_answer"));
    it.pod.until_named(FILE, |it| it.state == State::InSync).await;
    assert_eq!((posts(&it.kong), rows(&it.kong, "/services").len()), (2, 1));
    let pushes = |outcome: &str| {
        it.pod.metric(&format!("pushes_total{{binding=\"{FILE}\",outcome=\"{outcome}\"}}"))
    };
    assert_eq!((pushes("failed"), pushes("applied"), pushes("refused")), (1, 1, 0));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_file_that_is_too_large_for_kong_is_refused_with_the_mend_and_sent_once_an_hour() {
    let it = WithFile::before(OTHERS, &[("web", &leaf(&pki(), &["a.test"], 20))]);
    let full = Fault::refusal(413, "not enough memory: MDB_MAP_FULL");
    it.kong.inject(full.only("POST").always());
    let it = it.started(|_| {}).await;
    sleep(AN_HOUR - Duration::from_secs(60)).await;
    assert_eq!((state(&it.pod, FILE), posts(&it.kong)), ((State::Refused, "by_kong"), 1));
    // Then with a look that is due by `RESYNC_INTERVAL`.
    sleep(Duration::from_secs(60 + 360)).await;
    assert_eq!((state(&it.pod, FILE), posts(&it.kong)), ((State::Refused, "by_kong"), 2));
    let message = it.pod.binding(FILE).message.unwrap();
    assert!(message.contains("KONG_LMDB_MAP_SIZE"), "{message}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_refused_file_is_tried_again_when_kong_runs_something_else() {
    let pki = pki();
    let pair = leaf(&pki, &["a.test"], 20);
    let payload = json!(license("2035-01-31"));
    let config = format!("{}licenses:\n- {{id: {ID}, payload: {payload}}}\n", edited(OTHERS));
    let it = WithFile::new(&config, &[("web", &pair)]).await;
    assert_eq!((state(&it.pod, FILE), posts(&it.kong)), ((State::Refused, "by_kong"), 1));
    // Kong is started anew as another edition.
    it.kong.model().enterprise(true);
    load(&it.kong, OTHERS);
    sleep(POLL).await;
    it.pod.until_in_sync_with(&pair).await;
    it.until_host("10.0.0.2").await;
    assert_eq!(state(&it.pod, FILE), (State::InSync, ""));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_export_of_kong_may_become_the_file() {
    let pki = pki();
    let old = leaf(&pki, &["a.test"], 30);
    let new = leaf(&pki, &["a.test", "b.test"], 20);
    let it = WithFile::new(OTHERS, &[("web", &old)]).await;
    it.pod.until_in_sync_with(&old).await;
    let export = it.kong.model().elsewhere(|model| model.answer(&Request::new("GET", "/config")));
    it.edit(&edited(export.value()["config"].as_str().unwrap()));
    it.until_host("10.0.0.2").await;
    it.pod.publish("web", &new);
    it.pod.until_in_sync_with(&new).await;
    sleep(AN_HOUR).await;
    assert_eq!((served(&it.kong, "b.test"), posts(&it.kong)), (new.leaf_der().to_vec(), 3));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_sidecar_that_starts_anew_writes_nothing_that_is_there() {
    let rsa = pki().leaf(&["a.test"]).kind(KeyKind::Rsa2048).issue();
    let mut it = WithFile::new(OTHERS, &[("web", &rsa)]).await;
    it.pod.until_in_sync_with(&rsa).await;
    let certificates = rows(&it.kong, "/certificates");
    for is_dry_run in [false, true, false] {
        it.pod.stop().await;
        it.start(|settings| settings.dry_run = is_dry_run).await;
        assert_eq!(state(&it.pod, FILE), (State::InSync, ""));
        assert_eq!(rows(&it.kong, "/certificates"), certificates);
        assert_eq!(posts(&it.kong), 1);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_sidecar_that_starts_anew_goes_back_with_the_file() {
    let pki = pki();
    let [old, new] = [30, 20].map(|hours| leaf(&pki, &["a.test"], hours));
    let mut it = WithFile::new(OTHERS, &[("web", &new)]).await;
    it.pod.until_in_sync_with(&new).await;
    it.pod.stop().await;
    it.pod.publish("web", &old);
    let began = it.kong.elapsed();
    it.start(|_| {}).await;
    it.pod.until_in_sync_with(&old).await;
    assert!(it.kong.elapsed() - began < Duration::from_secs(1), "nobody else feeds this Kong");
    assert_eq!(served(&it.kong, "a.test"), old.leaf_der());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn with_dry_run_it_is_told_and_not_written() {
    let pair = leaf(&pki(), &["a.test"], 20);
    let it = WithFile::before(OTHERS, &[("web", &pair)]);
    let it = it.started(|settings| settings.dry_run = true).await;
    sleep(AN_HOUR).await;
    assert_eq!(state(&it.pod, FILE), (State::Pending, "dry_run"));
    assert!(exports(&it.kong) < 30, "{} times all was read", exports(&it.kong));
    assert_eq!((state(&it.pod, "web").1, posts(&it.kong)), ("dry_run", 0));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_renewal_is_made_of_the_file_and_all_of_ours_with_one_write() {
    let pki = pki();
    let [old, new] = [30, 20].map(|hours| leaf(&pki, &["a.test"], hours));
    let it = WithFile::new(OTHERS, &[("web", &old), ("own", &leaf(&pki, &["b.test"], 20))]).await;
    it.pod.until_in_sync_with(&old).await;
    let looks = || it.pod.metric("reconciles_total{trigger=\"configuration\"}");
    let before = looks();
    for (pair, count) in [(&new, 1), (&old, 2)] {
        it.pod.publish("web", pair);
        it.pod.until_in_sync_with(pair).await;
        sleep(POLL).await;
        assert_eq!(
            (looks() - before, posts(&it.kong)),
            (count, 1 + usize::try_from(count).unwrap())
        );
    }
    assert_eq!(state(&it.pod, FILE), (State::InSync, ""));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn after_renewals_a_sidecar_that_starts_anew_finds_nothing_to_do() {
    let pki = pki();
    let [old, new] = [30, 20].map(|hours| leaf(&pki, &["a.test"], hours));
    let it = WithFile::before(OTHERS, &[("web", &old)]);
    it.kong.model().enterprise(true);
    let authorities = it.pod.write_file("ca.crt", &pki.intermediate("One").pem());
    let licenses = ["2035-01-31", "2036-01-31"]
        .map(|until| it.pod.write_file(&format!("{until}.json"), &license(until)));
    let change = |settings: &mut Settings| {
        let trust = AuthoritySettings { file: authorities.clone(), id: None, tags: [].into() };
        settings.authorities.insert("aaa".parse().unwrap(), trust);
        for (name, file) in ["one", "two"].into_iter().zip(&licenses) {
            let license = LicenseSettings { file: file.clone(), id: None };
            settings.licenses.insert(name.parse().unwrap(), license);
        }
    };
    let mut it = it.started(change).await;
    it.pod.until_in_sync_with(&old).await;
    it.pod.publish("web", &new);
    it.pod.until_in_sync_with(&new).await;
    it.pod.write_file("2036-01-31.json", &license("2037-01-31"));
    while posts(&it.kong) < 3 {
        sleep(POLL).await;
    }
    for is_dry_run in [true, false] {
        it.pod.stop().await;
        it.start(|settings| {
            change(settings);
            settings.dry_run = is_dry_run;
        })
        .await;
        assert_eq!(state(&it.pod, FILE), (State::InSync, ""));
        sleep(AN_HOUR).await;
        assert_eq!(posts(&it.kong), 3);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn names_that_are_taken_stay_when_the_file_is_seen_with_another_renewal() {
    let pki = pki();
    let wide = leaf(&pki, &["a.test", "x.test"], 30);
    let new = leaf(&pki, &["a.test"], 20);
    let others = [30, 20].map(|hours| leaf(&pki, &["b.test"], hours));
    let config = with_certificates(&json!([certificate(Some(ID), &wide, &["a.test", "x.test"])]));
    let it = WithFile::before(&config, &[("web", &new), ("own", &others[0])]);
    // One volume has the file and a pair: a swap shows both, and the file as it was.
    let volume = SecretVolume::mount(it.pod.directory("own"));
    let publish = |pair: &CertifiedPair| {
        let (cert, key) = (pair.chain_pem(), pair.key_pem());
        let files = [("tls.crt", cert.as_bytes()), ("tls.key", key.as_bytes())];
        assert!(volume.publish(&[&files[..], &[("kong.json", config.as_bytes())]].concat()));
    };
    publish(&others[0]);
    let dir = Some(it.pod.directory("web"));
    let file = it.pod.directory("own").join("kong.json");
    let it = it
        .started(|settings| {
            settings.declarative.file = Some(file);
            let taking = CertificateSettings { dir, take_snis: true, ..Default::default() };
            settings.certificates.insert("web".parse().unwrap(), taking);
        })
        .await;
    it.pod.until_in_sync_with(&new).await;
    publish(&others[1]);
    it.pod.wake_at("own");
    for _ in 0..6000 {
        sleep(Duration::from_millis(100)).await;
        assert_eq!(served(&it.kong, "a.test"), new.leaf_der());
    }
    assert_eq!(served(&it.kong, "b.test"), others[1].leaf_der());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_someone_else_loads_is_replaced_by_the_file_and_that_is_told() {
    let log = Log::listen();
    let told = || {
        let warnings = log.warnings();
        warnings.iter().filter(|told| told.contains("kong ran another configuration")).count()
    };
    let pair = leaf(&pki(), &["a.test"], 20);
    let it = WithFile::new(OTHERS, &[("web", &pair)]).await;
    it.pod.until_in_sync_with(&pair).await;
    it.kong.model().forget_everything();
    sleep(POLL).await;
    assert_eq!((told(), posts(&it.kong)), (0, 2), "it had forgotten it");
    load(&it.kong, &edited(OTHERS));
    assert_eq!(rows(&it.kong, "/certificates").len(), 0);
    it.until_host("10.0.0.1").await;
    assert_eq!(told(), 1);
    assert_eq!((served(&it.kong, "a.test"), posts(&it.kong)), (pair.leaf_der().to_vec(), 3));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_plain_file_that_is_being_written_takes_nothing_away() {
    let long = format!("{OTHERS}# {}\n", "-".repeat(80));
    let cut = &OTHERS[..OTHERS.find("  plugins:").unwrap()];
    let hollow = format!("_format_version: '3.0'\n# {}\n", "-".repeat(1000));
    let it = WithFile::new(&long, &[("web", &leaf(&pki(), &["a.test"], 20))]).await;
    for begun in [cut, &hollow] {
        it.edit(begun);
        sleep(Duration::from_millis(400)).await;
        it.edit(&long);
        for _ in 0..100 {
            sleep(Duration::from_millis(50)).await;
            assert_eq!(rows(&it.kong, "/plugins").len(), 1);
        }
        assert_eq!(state(&it.pod, FILE), (State::InSync, ""));
    }
    // One that stays so is meant so.
    it.edit(cut);
    sleep(Duration::from_secs(2)).await;
    assert_eq!((rows(&it.kong, "/plugins").len(), rows(&it.kong, "/services").len()), (0, 1));
    it.edit(&hollow);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(rows(&it.kong, "/services").len(), 0);
}
