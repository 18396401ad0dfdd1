//! What a Kong without a database will not have: that is left out, what it runs stays, and neither is
//! sent over and over. A paused clock, and a Kong in memory.
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

use kong_cert_reloader::settings::{AuthoritySettings, Settings};
use kong_cert_reloader::status::State;
use pod::{Pod, START};
use stage::{HOUR, ID, OTHERS, WithFile, kong, leaf, pki, rows, served, state};
use testkit::{CertifiedPair, KeyKind};
use tokio::time::sleep;

const AN_HOUR: Duration = Duration::from_secs(3600);

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
}
