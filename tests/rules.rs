//! The rules as a whole, from files to what Kong serves: no servable certificate is ever replaced by
//! one that is not.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and read its files"
)]

#[path = "schedule/kong.rs"]
mod kong;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kong::{Fault, KongInProcess};
use kong_cert_reloader::binding::Bindings;
use kong_cert_reloader::clock::Timestamp;
use kong_cert_reloader::desired::Own;
use kong_cert_reloader::kong::Kong;
use kong_cert_reloader::metrics::Metrics;
use kong_cert_reloader::names::{BindingName, Instance};
use kong_cert_reloader::nginx::Nginx;
use kong_cert_reloader::reconcile::{Ask, Reconciler, Woken};
use kong_cert_reloader::settings::{CertificateSettings, Settings};
use kong_cert_reloader::volume::Mounted;
use proptest::prelude::*;
use serde_json::json;
use testkit::kong_model::Offers;
use testkit::{CertifiedPair, KeyKind, Pki, Request, SecretVolume};
use tokio::runtime::Builder;
use tokio::time::advance;

const NOW: i64 = 1_800_000_000;
const SOMEONE_ELSES: &str = "77777777-7777-4777-8777-777777777777";

/// What is in the files, or in Kong: a chain and a key, as text.
#[derive(Clone, Debug)]
struct Content {
    cert: Vec<u8>,
    key: Vec<u8>,
    /// The chain that may be served, if it is servable.
    servable: Option<Vec<Vec<u8>>>,
}

/// One step: another writer may act, the files change, time goes by, and a pass runs.
#[derive(Clone, Debug)]
struct Step {
    elsewhere: Option<(bool, Content)>,
    files: Content,
    after: Duration,
    trouble: Trouble,
}

#[derive(Clone, Copy, Debug)]
enum Trouble {
    None,
    Lost,
    LostButLanded,
    Refused,
}

fn content(pair: &CertifiedPair, is_servable: bool) -> Content {
    Content {
        cert: pair.chain_pem().into_bytes(),
        key: pair.key_pem().into_bytes(),
        servable: is_servable.then(|| pair.chain_ders().to_vec()),
    }
}

fn recorded(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/kong-contract/pem/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

/// Contents that Kong takes: it answers 200 to each of them, whatever becomes of its handshakes.
fn taken_by_kong() -> Vec<Content> {
    let pki = Pki::at(NOW);
    let leaf = |hours: i64| pki.leaf(&["a.test"]).not_before(NOW + hours * 3600);
    let below = |hours| leaf(hours).issuer(&pki.intermediate("ca"));
    let good = [
        leaf(-30).issue(),
        leaf(-30).issue(),
        below(-20).issue(),
        leaf(-10).kind(KeyKind::Rsa2048).issue(),
        pki.leaf(&["a.test", "b.test"]).issue(),
    ];
    let mut contents: Vec<_> = good.iter().map(|pair| content(pair, true)).collect();
    contents.push(content(&leaf(-40).not_after(NOW - 1).issue(), false));
    let mut broken = content(&below(-5).issue(), false);
    let second = String::from_utf8(broken.cert.clone()).unwrap().rfind("-----BEGIN").unwrap();
    broken.cert.splice(second + 40..second + 44, *b"AAAA");
    contents.push(broken);
    let (cert, key) = (recorded("rsa1024.crt"), recorded("rsa1024.key"));
    contents.push(Content { cert, key, servable: None });
    contents
}

/// Kong takes this, too, and clients not yet.
fn of_the_future() -> Content {
    content(&Pki::at(NOW).leaf(&["a.test"]).not_before(NOW + 3600).issue(), false)
}

/// Contents of files: those, torn ones, cut ones, and junk.
fn file(taken: Vec<Content>) -> impl Strategy<Value = Content> {
    let whole = prop::sample::select(taken);
    let torn = (whole.clone(), whole.clone()).prop_map(|(one, other)| {
        let servable = if one.key == other.key { one.servable } else { None };
        Content { cert: one.cert, key: other.key, servable }
    });
    let cut = (whole.clone(), any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(mut content, at, in_key)| {
            let file = if in_key { &mut content.key } else { &mut content.cert };
            // Between two blocks it would be servable.
            let first_block = String::from_utf8_lossy(file).find("-----END").unwrap();
            file.truncate(at.index(first_block));
            content.servable = None;
            content
        },
    );
    let bytes = || prop::collection::vec(any::<u8>(), 0..300);
    let junk = (bytes(), bytes()).prop_map(|(cert, key)| Content { cert, key, servable: None });
    prop_oneof![6 => whole, 2 => torn, 1 => cut, 1 => junk]
}

fn step(taken: Vec<Content>) -> impl Strategy<Value = Step> {
    let elsewhere = (any::<bool>(), prop::sample::select(taken.clone()));
    let trouble = prop_oneof![
        6 => Just(Trouble::None),
        1 => Just(Trouble::Lost),
        1 => Just(Trouble::LostButLanded),
        1 => Just(Trouble::Refused),
    ];
    let after = prop::sample::select(vec![0, 1, 299, 301, 4000]).prop_map(Duration::from_secs);
    (prop::option::of(elsewhere), file(taken), after, trouble)
        .prop_map(|(elsewhere, files, after, trouble)| Step { elsewhere, files, after, trouble })
}

/// A sidecar without its loop: each pass is run by hand.
struct World {
    kong: KongInProcess,
    reconciler: Reconciler<KongInProcess>,
    bindings: Bindings,
    volume: SecretVolume,
}

impl World {
    /// With `SNIS` set, or with those of the certificate.
    fn new(certs_dir: &Path, snis_set: bool) -> Self {
        let name: BindingName = "web".parse().unwrap();
        let snis = snis_set.then(|| ["a.test".parse().unwrap()].into());
        let web = CertificateSettings { snis, ..CertificateSettings::default() };
        let certificates = [(name.folded(), web)].into();
        let mut bindings = Bindings::new(certs_dir, &certificates);
        bindings.look();
        let settings = Settings { certificates, ..Settings::default() };
        let kong = KongInProcess::new();
        let wire = Kong::new(kong.clone(), &settings.admin, Metrics::default());
        Self {
            reconciler: Reconciler::new(
                &settings,
                Arc::new(Mounted),
                Some(wire),
                Metrics::default(),
                BTreeSet::new(),
                Box::new(Nginx::new(None)),
            ),
            volume: SecretVolume::mount(certs_dir.join("web")),
            kong,
            bindings,
        }
    }

    fn act_elsewhere(&self, is_ours: bool, content: &Content) {
        let id = if is_ours {
            Own::new(&Instance::default(), None).certificate(&"web".parse().unwrap()).to_string()
        } else {
            SOMEONE_ELSES.to_owned()
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (cert, key) = (text(&content.cert), text(&content.key));
        let body = json!({"cert": cert, "key": key, "snis": ["a.test"]});
        let put = Request::json("PUT", &format!("/certificates/{id}"), &body);
        self.kong.model().forget_everything();
        self.kong.elsewhere(&put);
    }

    fn served(&self, sni: &str) -> Option<Vec<Vec<u8>>> {
        self.kong.model().chain_for(Some(sni), Offers::ALL).chain()
    }

    async fn pass(&mut self) {
        self.bindings.look();
        let binding = self.bindings.iter().next().unwrap().clone();
        let woken = vec![Woken { binding, even_if_unchanged: true }];
        self.reconciler.pass(woken, Timestamp(NOW), Ask { kong: true, hash: false }, |_| {}).await;
    }

    async fn play(&mut self, step: &Step) -> Result<(), TestCaseError> {
        if let Some((is_ours, content)) = &step.elsewhere {
            self.act_elsewhere(*is_ours, content);
        }
        let files = [("tls.crt", &step.files.cert[..]), ("tls.key", &step.files.key[..])];
        self.volume.publish(&files);
        advance(step.after).await;
        match step.trouble {
            Trouble::None => {}
            Trouble::Lost => self.kong.inject(Fault::timeout(Duration::from_secs(10))),
            Trouble::LostButLanded => {
                self.kong.inject(Fault::timeout(Duration::from_secs(10)).landed().only("PUT"));
                self.kong.inject(Fault::timeout(Duration::from_secs(10)).landed().only("PATCH"));
            }
            Trouble::Refused => self.kong.inject(Fault::refusal(400, "no").only("PUT")),
        }
        let names = ["a.test", "b.test"];
        let before = names.map(|name| self.served(name));
        self.pass().await;
        self.kong.heal();
        for (name, before) in names.into_iter().zip(before) {
            let after = self.served(name);
            let given_up = name == "b.test" && after == Some(self.kong.model().default_chain());
            let of_file = step.files.servable.is_some() && after == step.files.servable;
            let is_legal =
                after == before || of_file || (step.files.servable.is_some() && given_up);
            prop_assert!(is_legal, "{} at {:?}", name, step);
        }
        Ok(())
    }
}

#[test]
fn no_servable_certificate_is_replaced_by_one_that_is_not() {
    let taken = [taken_by_kong(), vec![of_the_future()]].concat();
    let steps = prop::collection::vec(step(taken), 1..6);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) };
    proptest!(config, |(steps in steps, snis_set in any::<bool>())| {
        let home = tempfile::tempdir().unwrap();
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(home.path(), snis_set);
            for step in &steps {
                world.play(step).await?;
            }
            Ok::<(), TestCaseError>(())
        })?;
    });
}

#[test]
fn what_is_newest_and_servable_arrives_whatever_was_there() {
    let home = tempfile::tempdir().unwrap();
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let taken = taken_by_kong();
        let newest = content(&Pki::at(NOW).leaf(&["a.test"]).not_before(NOW).issue(), true);
        for (at, before) in taken.iter().enumerate() {
            for is_ours in [true, false] {
                let mut world = World::new(&home.path().join(format!("{at}{is_ours}")), false);
                world.act_elsewhere(is_ours, before);
                let (files, trouble) = (newest.clone(), Trouble::None);
                let step = Step { elsewhere: None, files, after: Duration::ZERO, trouble };
                world.play(&step).await.unwrap();
                let arrived = world.served("a.test") == newest.servable;
                assert!(arrived, "{is_ours} {}", String::from_utf8_lossy(&before.cert));
            }
        }
    });
}
