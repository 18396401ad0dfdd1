//! Files that nginx reads only when it is told to: when it is told, and what is said of it. Sidecars
//! beside an nginx in memory, on a clock that the test holds.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "the nginx in memory reads files as nginx does")]

#[path = "schedule/kong.rs"]
mod kong;
#[path = "schedule/log.rs"]
mod log;
#[path = "schedule/nginx.rs"]
mod nginx;
#[path = "schedule/pod.rs"]
mod pod;

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kong::{Fault, KongInProcess};
use kong_cert_reloader::bundle::LeafDigest;
use kong_cert_reloader::nginx::NoReload;
use kong_cert_reloader::proof::{Handshake as _, ProxyPort};
use kong_cert_reloader::settings::{HostPort, ReloadFile, Settings};
use kong_cert_reloader::status::{Shown, State};
use log::Log;
use nginx::{INIT_WORKER, NginxInMemory, RELOAD};
use pod::{Pod, START, assert_within};
use testkit::kong_model::Offers;
use testkit::{CertifiedPair, KeyKind, Pki};
use tokio::time::sleep;

/// The port at which nginx shows the files of `web`, and that of `api`.
const WEB: u16 = 9443;
const API: u16 = 9444;
/// As the defaults are.
const INTERVAL: Duration = s(30);
const GATHER: Duration = ms(250);
const A_MOMENT: Duration = ms(500);
/// By then new workers have to be there.
const PATIENCE: Duration = s(60);

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Where the files of `name` lie: no certificates of Kong's are found there.
fn place(name: &str) -> String {
    format!("files/{name}")
}

fn pairs() -> [CertifiedPair; 3] {
    let pki = Pki::at(START);
    [(); 3].map(|()| pki.pair(&["a.test"]))
}

fn expired() -> CertifiedPair {
    Pki::at(START).leaf(&["a.test"]).not_before(START - 90_000).not_after(START - 3600).issue()
}

/// Valid in some days.
fn future() -> CertifiedPair {
    Pki::at(START).leaf(&["a.test"]).not_before(START + 864_000).issue()
}

/// A pod in which nginx has `pair` at the port of each name.
struct Scene {
    kong: KongInProcess,
    pod: Pod,
    nginx: NginxInMemory,
    published: Cell<u32>,
}

impl Scene {
    /// nginx has read the pair, and the sidecar does not run yet.
    fn new(names: &[&str], pair: &CertifiedPair) -> Self {
        let scene = Self::away(names, pair);
        scene.nginx.start();
        scene
    }

    fn away(names: &[&str], pair: &CertifiedPair) -> Self {
        let (kong, pod) = (KongInProcess::new(), Pod::new());
        for name in names {
            pod.publish(&place(name), pair);
        }
        let ports: Vec<(u16, Vec<PathBuf>)> =
            names.iter().map(|name| (port(name), vec![pod.directory(&place(name))])).collect();
        let ports: Vec<_> = ports.iter().map(|(port, all)| (*port, all.as_slice())).collect();
        let nginx = NginxInMemory::away(&kong, &ports);
        Self { kong, pod, nginx, published: Cell::new(0) }
    }

    /// A sidecar without an Admin API.
    fn start(&mut self, names: &[&str]) {
        self.start_with(names, |_| {});
    }

    fn start_with(&mut self, names: &[&str], change: impl FnOnce(&mut Settings)) {
        let directories: Vec<_> =
            names.iter().map(|name| (*name, self.pod.directory(&place(name)))).collect();
        let nginx = self.nginx.clone();
        self.pod.start_beside(&self.kong, nginx.clone(), Box::new(nginx), |settings| {
            settings.admin.url = None;
            for (name, directory) in directories {
                let address = format!("127.0.0.1:{}", port(name)).parse().unwrap();
                let (cert, key) = (directory.join("tls.crt"), directory.join("tls.key"));
                let file = ReloadFile { cert, key, address: Some(address) };
                settings.reload.files.insert(name.parse().unwrap(), file);
            }
            change(settings);
        });
    }

    async fn started(names: &[&str], pair: &CertifiedPair) -> Self {
        let mut scene = Self::new(names, pair);
        scene.start(names);
        scene.pod.until_state(State::InSync).await;
        scene
    }

    /// As if an hour later than the one before: files go by the real clock.
    fn publish(&self, name: &str, pair: &CertifiedPair) {
        self.pod.publish(&place(name), pair);
        self.date(name);
    }

    fn date(&self, name: &str) {
        self.published.set(self.published.get() + 1);
        let cert = self.pod.directory(&place(name)).join("tls.crt");
        let written = cert.metadata().unwrap().modified().unwrap() + s(3600) * self.published.get();
        std::fs::File::options().write(true).open(cert).unwrap().set_modified(written).unwrap();
    }

    /// The certificate of one pair, the key of another.
    fn publish_broken(&self, name: &str, [cert, key, _]: &[CertifiedPair; 3]) {
        let (cert, key) = (cert.chain_pem(), key.key_pem());
        let volume = testkit::SecretVolume::mount(self.pod.directory(&place(name)));
        volume.publish(&[("tls.crt", cert.as_bytes()), ("tls.key", key.as_bytes())]);
        self.date(name);
        self.pod.wake_at(&place(name));
    }

    fn state(&self, name: &str) -> (State, &'static str) {
        let binding = self.pod.binding(name);
        (binding.state, binding.reason.map_or("", |reason| reason.as_str()))
    }

    /// The leaf that handshakes showed.
    fn leaf_served(&self, name: &str) -> LeafDigest {
        self.pod.binding(name).served.unwrap().leaf_sha256[0]
    }

    /// nginx shows `pair`, and the sidecar knows.
    async fn until_served(&self, pair: &CertifiedPair) {
        let leaf = LeafDigest::of(pair.leaf_der());
        let shows = |shown: &Option<Arc<Shown>>| {
            shown.as_ref().is_some_and(|shown| shown.leaf_sha256.contains(&leaf))
        };
        let is_so = |web: &kong_cert_reloader::status::BindingStatus| {
            web.state == State::InSync && shows(&web.file) && shows(&web.served)
        };
        self.pod.until(is_so).await;
    }

    fn signals(&self) -> usize {
        self.nginx.signals().len()
    }

    /// The leaf that nginx shows at the port of `name`.
    async fn shown(&self, name: &str) -> String {
        let at = HostPort { host: "127.0.0.1".to_owned(), port: port(name) };
        let port = ProxyPort { at, proxy_protocol: false };
        self.nginx.chain(&port, None, None).await.unwrap().leaf.to_string()
    }
}

fn port(name: &str) -> u16 {
    if name == "web" { WEB } else { API }
}

fn nowhere(settings: &mut Settings) {
    for file in settings.reload.files.values_mut() {
        file.address = None;
    }
}

// --- at the start --------------------------------------------------------------------------------

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_nginx_that_has_read_the_newest_files_is_not_signalled() {
    let [first, second, _] = pairs();
    for change in [|_: &mut Settings| {}, nowhere] {
        let mut scene = Scene::new(&["web"], &first);
        scene.start_with(&["web"], change);
        scene.pod.until_state(State::InSync).await;
        scene.publish("web", &second);
        scene.pod.until(|web| web.state == State::InSync && web.renew_at.is_some()).await;
        sleep(s(60)).await;
        assert_eq!(scene.signals(), 1);
        scene.pod.stop().await;
        scene.start_with(&["web"], change);
        scene.pod.until_state(State::InSync).await;
        sleep(s(600)).await;
        assert_eq!((scene.state("web"), scene.signals()), ((State::InSync, ""), 1));
        assert_eq!(scene.pod.metric("propagation_seconds_count"), 0);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_renewal_that_nobody_signalled_is_signalled_at_the_start() {
    let pki = Pki::at(START);
    let (first, second) = (pki.pair(&["a.test"]), pki.pair(&["a.test"]));
    let other_type = pki.leaf(&["a.test"]).kind(KeyKind::Rsa2048).issue();
    for renewed in [second, other_type] {
        let mut scene = Scene::new(&["web"], &first);
        scene.publish("web", &renewed);
        scene.start(&["web"]);
        scene.until_served(&renewed).await;
        assert_eq!(scene.signals(), 1);
        assert_within(scene.kong.elapsed(), RELOAD, RELOAD + GATHER + A_MOMENT);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_no_port_shows_goes_by_the_times_of_files_and_workers() {
    let [first, second, _] = pairs();
    let mut scene = Scene::new(&["web"], &first);
    let log = Log::listen();
    scene.publish("web", &second);
    scene.start_with(&["web"], nowhere);
    let shown = scene.pod.until_state(State::InSync).await;
    assert_eq!(scene.signals(), 1);
    sleep(s(600)).await;
    assert_eq!(scene.signals(), 1);
    // What is not known of it is told for as long as it stands, and not in the log.
    let told = [shown, scene.pod.binding("web")].map(|shown| shown.message.unwrap());
    assert!(told.iter().all(|told| told.contains("lua_ssl_trusted_certificate")), "{told:?}");
    assert_eq!(log.times("lua_ssl_trusted_certificate"), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_nginx_that_starts_after_the_sidecar_is_waited_for_and_not_signalled() {
    let [first, second, third] = pairs();
    for change in [|_: &mut Settings| {}, nowhere] {
        let mut scene = Scene::away(&["web"], &first);
        scene.start_with(&["web"], change);
        sleep(s(1)).await;
        assert_eq!(scene.state("web"), (State::Unreachable, "not_running"));
        sleep(s(60)).await;
        assert_eq!(scene.state("web"), (State::Unreachable, "not_running"));
        // It is renewed meanwhile.
        scene.publish("web", &second);
        sleep(s(60)).await;
        assert_eq!(scene.state("web"), (State::Unreachable, "not_running"));
        scene.nginx.start_slowly();
        let from = scene.kong.elapsed();
        scene.pod.until_state(State::InSync).await;
        assert_within(scene.kong.elapsed() - from, INIT_WORKER, INIT_WORKER + s(31));
        sleep(s(600)).await;
        assert_eq!(scene.signals(), 0);
        scene.publish("web", &third);
        sleep(s(60)).await;
        assert_eq!((scene.state("web"), scene.signals()), ((State::InSync, ""), 1));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_nginx_whose_workers_are_not_there_yet_is_waited_for_and_not_signalled() {
    let [first, ..] = pairs();
    for change in [|_: &mut Settings| {}, nowhere] {
        let mut scene = Scene::away(&["web"], &first);
        scene.nginx.start_slowly();
        scene.start_with(&["web"], change);
        sleep(s(1)).await;
        assert_eq!(scene.state("web"), (State::Unreachable, "not_running"));
        scene.pod.until_state(State::InSync).await;
        assert_within(scene.kong.elapsed(), INIT_WORKER, INIT_WORKER + s(5));
        sleep(s(600)).await;
        assert_eq!((scene.signals(), scene.pod.status().findings.len()), (0, 0));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn signals_keep_their_distance_over_restarts_of_the_sidecar() {
    let [first, second, _] = pairs();
    let mut scene = Scene::new(&["web"], &first);
    scene.publish("web", &second);
    let wall = std::time::UNIX_EPOCH + s(START.unsigned_abs());
    scene.nginx.be_loaded_at(wall - s(5));
    for _ in 0..3 {
        scene.start(&["web"]);
        sleep(s(5)).await;
        assert_eq!(scene.state("web"), (State::Pending, "reload_interval"));
        scene.pod.stop().await;
    }
    scene.start(&["web"]);
    scene.until_served(&second).await;
    assert_eq!(scene.signals(), 1);
    assert_within(scene.kong.elapsed(), INTERVAL - s(6), INTERVAL - s(3));
}

// --- a renewal -----------------------------------------------------------------------------------

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_swap_is_one_signal_and_in_sync_when_it_is_shown() {
    let [first, second, _] = pairs();
    let scene = Scene::started(&["web"], &first).await;
    let from = scene.kong.elapsed();
    scene.publish("web", &second);
    scene.until_served(&second).await;
    assert_within(scene.kong.elapsed() - from, GATHER + RELOAD, GATHER + RELOAD + A_MOMENT);
    sleep(s(3600)).await;
    assert_eq!(scene.signals(), 1);
    let metric = |name| scene.pod.metric(name);
    assert_eq!(metric(r#"pushes_total{binding="web",outcome="applied"}"#), 1);
    assert_eq!(metric(r#"generations_total{binding="web"}"#), 2);
    assert_eq!(metric("propagation_seconds_count"), 1);
    assert_eq!(metric(r#"state{binding="web",kind="reload",state="in_sync"}"#), 1);
    assert!(metric(r#"last_success_timestamp_seconds{binding="web"}"#) > 0);
    let times = r#"not_after_timestamp_seconds{binding="web",source="#;
    assert_eq!(metric(&format!("{times}\"file\"}}")), metric(&format!("{times}\"served\"}}")));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn files_that_change_within_a_moment_are_told_by_one_signal() {
    let [first, second, _] = pairs();
    let scene = Scene::started(&["api", "web"], &first).await;
    scene.publish("api", &second);
    sleep(ms(150)).await;
    scene.publish("web", &second);
    scene.until_served(&second).await;
    assert_eq!(scene.state("api"), (State::InSync, ""));
    sleep(s(600)).await;
    assert_eq!(scene.signals(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn signals_keep_their_distance_and_the_newest_files_win() {
    let [first, second, third] = pairs();
    let scene = Scene::started(&["web"], &first).await;
    scene.publish("web", &second);
    scene.until_served(&second).await;
    scene.publish("web", &first);
    sleep(s(5)).await;
    assert_eq!(scene.state("web"), (State::Pending, "reload_interval"));
    scene.publish("web", &third);
    scene.until_served(&third).await;
    let signals = scene.nginx.signals();
    assert_eq!(signals.len(), 2);
    assert_within(signals[1] - signals[0], INTERVAL, INTERVAL + A_MOMENT);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_rolled_back_before_its_signal_needs_none() {
    let [first, second, third] = pairs();
    let scene = Scene::started(&["web"], &first).await;
    scene.publish("web", &second);
    scene.until_served(&second).await;
    scene.publish("web", &third);
    sleep(s(5)).await;
    scene.publish("web", &second);
    sleep(s(300)).await;
    assert_eq!((scene.state("web"), scene.signals()), ((State::InSync, ""), 1));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_invalid_pair_is_no_signal_and_holds_up_the_others_until_it_is_mended() {
    let all = pairs();
    let scene = Scene::started(&["api", "web"], &all[0]).await;
    scene.publish_broken("api", &all);
    sleep(s(60)).await;
    assert_eq!(scene.state("api"), (State::Invalid, "key_mismatch"));
    scene.publish("web", &all[1]);
    sleep(s(60)).await;
    assert_eq!(scene.state("web"), (State::Held, "broken_beside"));
    assert!(scene.pod.binding("web").message.unwrap().contains("api"));
    assert_eq!(scene.signals(), 0);
    scene.publish("api", &all[2]);
    let from = scene.kong.elapsed();
    scene.until_served(&all[1]).await;
    assert_within(scene.kong.elapsed() - from, RELOAD, RELOAD + GATHER + A_MOMENT);
    sleep(s(60)).await;
    assert_eq!((scene.state("api"), scene.signals()), ((State::InSync, ""), 1));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_not_valid_yet_waits_and_what_expired_in_place_keeps_nobody_waiting() {
    let pki = Pki::at(START);
    let brief = pki.leaf(&["a.test"]).not_after(START + 600).issue();
    let (later, second) =
        (pki.leaf(&["a.test"]).not_before(START + 3600).issue(), pki.pair(&["b.test"]));
    let scene = Scene::started(&["api", "web"], &brief).await;
    sleep(s(1200)).await;
    assert_eq!(scene.state("api"), (State::Invalid, "expired"));
    scene.publish("web", &second);
    scene.until_served(&second).await;
    scene.publish("web", &later);
    sleep(s(60)).await;
    assert_eq!((scene.state("web"), scene.signals()), ((State::NotYetValid, "not_before"), 1));
    // nginx would read it, too.
    scene.publish("api", &second);
    sleep(s(60)).await;
    assert_eq!((scene.state("api"), scene.signals()), ((State::Held, "broken_beside"), 1));
    scene.until_served(&later).await;
    assert_within(scene.kong.elapsed(), s(3600), s(3602));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_expired_pair_that_nginx_has_not_read_holds_up_the_others() {
    let [first, _, renewed] = pairs();
    let scene = Scene::started(&["api", "web"], &first).await;
    scene.publish("api", &expired());
    sleep(s(60)).await;
    assert_eq!(scene.state("api"), (State::Invalid, "expired"));
    scene.publish("web", &renewed);
    sleep(s(60)).await;
    assert_eq!(scene.state("web"), (State::Held, "broken_beside"));
    assert_eq!(scene.signals(), 0);
    assert_eq!(scene.shown("api").await, first.leaf_fingerprint());
    scene.publish("api", &renewed);
    scene.until_served(&renewed).await;
    assert_eq!((scene.state("api"), scene.signals()), ((State::InSync, ""), 1));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_expired_before_the_sidecar_started_keeps_nobody_waiting() {
    let pki = Pki::at(START);
    let brief = pki.leaf(&["a.test"]).not_after(START + 600).issue();
    let second = pki.pair(&["b.test"]);
    let mut scene = Scene::started(&["api", "web"], &brief).await;
    scene.pod.stop().await;
    sleep(s(1200)).await;
    scene.start(&["api", "web"]);
    scene.pod.until_state(State::Invalid).await;
    scene.publish("web", &second);
    scene.until_served(&second).await;
    assert_eq!((scene.state("api"), scene.signals()), ((State::Invalid, "expired"), 1));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_nginx_loaded_before_it_is_valid_keeps_nobody_waiting() {
    let pki = Pki::at(START);
    let later = pki.leaf(&["a.test"]).not_before(START + 86_400).issue();
    let (first, second) = (pki.pair(&["b.test"]), pki.pair(&["b.test"]));
    let mut scene = Scene::away(&["api", "web"], &first);
    scene.publish("api", &later);
    scene.nginx.start();
    scene.start(&["api", "web"]);
    scene.pod.until_state(State::InSync).await;
    scene.publish("web", &second);
    scene.until_served(&second).await;
    assert_eq!((scene.state("api").0, scene.signals()), (State::NotYetValid, 1));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_pair_that_is_mended_waits_for_nobody_not_even_itself() {
    let all = pairs();
    let mut scene = Scene::new(&["web"], &all[0]);
    scene.start_with(&["web"], nowhere);
    scene.pod.until_state(State::InSync).await;
    scene.publish_broken("web", &all);
    sleep(s(7)).await;
    assert_eq!(scene.state("web"), (State::Invalid, "key_mismatch"));
    let from = scene.kong.elapsed();
    scene.publish("web", &all[2]);
    scene.pod.until_state(State::InSync).await;
    assert_within(scene.kong.elapsed() - from, RELOAD, RELOAD + GATHER + A_MOMENT);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_rolled_back_while_nginx_loads_is_not_in_sync_before_it_is_read_again() {
    let [first, second, _] = pairs();
    let mut scene = Scene::new(&["web"], &first);
    scene.start_with(&["web"], nowhere);
    scene.pod.until_state(State::InSync).await;
    scene.publish("web", &second);
    sleep(GATHER + ms(20)).await;
    assert_eq!(scene.signals(), 1);
    scene.publish("web", &first);
    sleep(ms(50)).await;
    assert_eq!(scene.state("web"), (State::Pending, "reloading"));
    sleep(s(5)).await;
    assert_eq!(scene.state("web"), (State::Pending, "reload_interval"));
    scene.pod.until_state(State::InSync).await;
    assert_eq!(scene.signals(), 2);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_rolled_back_at_once_leaves_the_next_change_its_time_to_gather() {
    let [first, second, third] = pairs();
    let scene = Scene::started(&["web"], &first).await;
    scene.publish("web", &second);
    sleep(ms(100)).await;
    scene.publish("web", &first);
    sleep(s(60)).await;
    let from = scene.kong.elapsed();
    scene.publish("web", &third);
    scene.until_served(&third).await;
    let signals = scene.nginx.signals();
    assert_eq!(signals.len(), 1);
    assert_within(signals[0] - from, GATHER, GATHER + A_MOMENT);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_plain_file_that_is_half_written_beside_is_waited_for() {
    let [first, second, third] = pairs();
    let mut scene = Scene::new(&["web"], &first);
    let write = |file: &str, content: &str| scene.pod.write(&place("api"), file, content);
    write("tls.crt", &first.chain_pem());
    write("tls.key", &first.key_pem());
    let directories = ["api", "web"].map(|name| scene.pod.directory(&place(name)));
    let [api, web] = directories.each_ref().map(std::slice::from_ref);
    scene.nginx = NginxInMemory::started(&scene.kong, &[(API, api), (WEB, web)]);
    scene.start(&["api", "web"]);
    scene.pod.until_state(State::InSync).await;
    scene.publish("web", &second);
    sleep(ms(100)).await;
    scene.pod.write(&place("api"), "tls.crt", &third.chain_pem());
    sleep(ms(300)).await;
    assert_eq!(scene.signals(), 0);
    scene.pod.write(&place("api"), "tls.key", &third.key_pem());
    scene.until_served(&second).await;
    assert_eq!((scene.state("api"), scene.signals()), ((State::InSync, ""), 1));
    assert_within(scene.kong.elapsed(), RELOAD, RELOAD + GATHER + s(2));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn with_dry_run_it_is_told_what_would_be_signalled() {
    let [first, second, _] = pairs();
    let mut scene = Scene::new(&["web"], &first);
    scene.start_with(&["web"], |settings| settings.dry_run = true);
    scene.pod.until_state(State::InSync).await;
    scene.publish("web", &second);
    sleep(s(600)).await;
    assert_eq!((scene.state("web"), scene.signals()), ((State::Pending, "dry_run"), 0));
}

// --- after the signal ----------------------------------------------------------------------------

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_nginx_that_does_not_take_its_files_is_told_of_and_told_again() {
    let log = Log::listen();
    let [first, second, _] = pairs();
    let scene = Scene::started(&["web"], &first).await;
    scene.nginx.be_deaf(true);
    scene.publish("web", &second);
    scene.pod.until_state(State::Refused).await;
    assert_eq!(scene.state("web"), (State::Refused, "not_reloaded"));
    let refused = scene.kong.elapsed();
    assert_within(refused, PATIENCE, PATIENCE + s(1));
    assert_eq!(scene.leaf_served("web"), LeafDigest::of(first.leaf_der()));
    sleep(s(400)).await;
    assert_eq!(scene.state("web").0, State::Refused);
    assert_eq!(log.warnings().len(), 2, "{:?}", log.warnings());
    let signals = scene.nginx.signals();
    assert_within(signals.len(), 4, 6);
    assert_within(signals[1] - refused, INTERVAL - A_MOMENT, INTERVAL + A_MOMENT);
    scene.nginx.be_deaf(false);
    scene.until_served(&second).await;
    let metric = |outcome| {
        scene.pod.metric(&format!("pushes_total{{binding=\"web\",outcome=\"{outcome}\"}}"))
    };
    assert_eq!(metric("applied"), 1);
    assert_within(metric("refused"), 4, 6);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_became_of_a_signal_is_seen_while_its_files_are_broken() {
    let all = pairs();
    let scene = Scene::started(&["web"], &all[0]).await;
    scene.publish("web", &all[1]);
    sleep(GATHER + ms(20)).await;
    assert_eq!((scene.state("web"), scene.signals()), ((State::Pending, "reloading"), 1));
    scene.publish_broken("web", &all);
    sleep(s(90)).await;
    assert_eq!(scene.state("web"), (State::Invalid, "key_mismatch"));
    assert_eq!(scene.pod.metric(r#"pushes_total{binding="web",outcome="applied"}"#), 1);
    scene.publish("web", &all[1]);
    scene.until_served(&all[1]).await;
    sleep(s(60)).await;
    assert_eq!((scene.state("web"), scene.signals()), ((State::InSync, ""), 1));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_crash_that_looked_like_a_reload_is_found_by_handshakes_and_nginx_is_told_again() {
    let [first, second, _] = pairs();
    let scene = Scene::started(&["web"], &first).await;
    scene.nginx.be_deaf(true);
    scene.publish("web", &second);
    sleep(GATHER + ms(20)).await;
    assert_eq!(scene.signals(), 1);
    scene.nginx.crash_worker();
    scene.pod.until_state(State::NotServed).await;
    assert_eq!(scene.state("web").1, "other_certificate");
    // It takes no files for a while yet.
    sleep(s(300)).await;
    assert_eq!(scene.state("web"), (State::Refused, "not_reloaded"));
    let signals = scene.nginx.signals();
    assert_within(signals[1] - signals[0], INTERVAL, INTERVAL + s(15));
    scene.nginx.be_deaf(false);
    scene.until_served(&second).await;
    let signals = scene.signals();
    sleep(s(3600)).await;
    assert_eq!((scene.state("web"), scene.signals()), ((State::InSync, ""), signals));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_port_that_shows_something_else_is_told_with_its_setting() {
    let [first, second, _] = pairs();
    for timeout in [None, Some(s(2))] {
        // Both at one port: that of `web` is first.
        let mut scene = Scene::new(&["api", "web"], &first);
        scene.start_with(&["web"], |settings| {
            let at = format!("127.0.0.1:{API}");
            settings
                .reload
                .files
                .values_mut()
                .for_each(|file| file.address = Some(at.parse().unwrap()));
            settings.proxy.timeout = timeout;
        });
        scene.pod.until_state(State::InSync).await;
        let from = scene.kong.elapsed();
        scene.publish("web", &second);
        let web = scene.pod.until_state(State::NotServed).await;
        let patience = timeout.unwrap_or(s(10));
        assert_within(scene.kong.elapsed() - from, patience, patience + s(3));
        let message = web.message.unwrap();
        assert!(
            message.contains("ADDRESS") && message.contains(&first.leaf_fingerprint()),
            "{message}"
        );
        assert_eq!(scene.state("web").1, "other_certificate");
        sleep(s(600)).await;
        // Once more, as the new workers may have come of a crash.
        assert_eq!((scene.state("web").1, scene.signals()), ("other_certificate", 2));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn pairs_of_two_key_types_at_one_port_are_each_asked_for() {
    let pki = Pki::at(START);
    let rsa = || pki.leaf(&["a.test"]).kind(KeyKind::Rsa2048).issue();
    let (kong, pod) = (KongInProcess::new(), Pod::new());
    pod.publish(&place("api"), &rsa());
    pod.publish(&place("web"), &pki.pair(&["a.test"]));
    let both = ["api", "web"].map(|name| pod.directory(&place(name)));
    let nginx = NginxInMemory::started(&kong, &[(WEB, &both)]);
    let mut scene = Scene { kong, pod, nginx, published: Cell::new(0) };
    scene.start_with(&["api", "web"], |settings| {
        let at = format!("127.0.0.1:{WEB}");
        settings
            .reload
            .files
            .values_mut()
            .for_each(|file| file.address = Some(at.parse().unwrap()));
    });
    scene.pod.until_state(State::InSync).await;
    assert_eq!((scene.state("api"), scene.signals()), ((State::InSync, ""), 0));
    let renewed = rsa();
    scene.publish("api", &renewed);
    sleep(s(60)).await;
    assert_eq!((scene.state("api"), scene.signals()), ((State::InSync, ""), 1));
    assert_eq!(scene.leaf_served("api"), LeafDigest::of(renewed.leaf_der()));
}

// --- someone else reloads it ---------------------------------------------------------------------

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_rollback_is_signalled_where_a_restart_had_nginx_read_what_lay_there_before() {
    let [first, ..] = pairs();
    let at_a_port: fn(&mut Settings) = |_| {};
    for (change, bad) in [(at_a_port, expired()), (at_a_port, future()), (nowhere, future())] {
        let mut scene = Scene::new(&["web"], &first);
        scene.start_with(&["web"], change);
        scene.pod.until_state(State::InSync).await;
        scene.publish("web", &bad);
        sleep(s(60)).await;
        assert_eq!(scene.signals(), 0);
        scene.nginx.stop();
        sleep(s(2)).await;
        scene.nginx.start();
        sleep(s(60)).await;
        assert_eq!(scene.shown("web").await, bad.leaf_fingerprint());
        scene.publish("web", &first);
        sleep(s(120)).await;
        assert_eq!((scene.state("web"), scene.signals()), ((State::InSync, ""), 1));
        assert_eq!(scene.shown("web").await, first.leaf_fingerprint());
        sleep(s(3600)).await;
        assert_eq!(scene.signals(), 1);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_rollback_is_signalled_where_someone_else_reloaded_before_the_interval_ended() {
    let [first, second, third] = pairs();
    for change in [nowhere, |_: &mut Settings| {}] {
        let mut scene = Scene::new(&["web"], &first);
        scene.start_with(&["web"], |settings| {
            change(settings);
            settings.reload.min_interval = s(600);
        });
        scene.pod.until_state(State::InSync).await;
        scene.publish("web", &second);
        scene.pod.until(|web| web.state == State::InSync && web.renew_at.is_some()).await;
        sleep(s(10)).await;
        assert_eq!(scene.signals(), 1);
        scene.publish("web", &third);
        sleep(s(10)).await;
        assert_eq!(scene.state("web"), (State::Pending, "reload_interval"));
        scene.nginx.reload_by_hand();
        sleep(s(5)).await;
        scene.publish("web", &second);
        sleep(s(3600)).await;
        assert_eq!((scene.state("web"), scene.signals()), ((State::InSync, ""), 2));
        assert_eq!(scene.shown("web").await, second.leaf_fingerprint());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_restart_or_a_reload_by_hand_with_files_that_were_read_needs_no_signal() {
    let [first, second, _] = pairs();
    for change in [nowhere, |_: &mut Settings| {}] {
        let mut scene = Scene::new(&["api", "web"], &first);
        scene.start_with(&["api", "web"], change);
        scene.pod.until_state(State::InSync).await;
        scene.publish("web", &second);
        scene.pod.until(|web| web.state == State::InSync && web.renew_at.is_some()).await;
        sleep(s(60)).await;
        assert_eq!(scene.signals(), 1);
        for times in 1..=2 {
            scene.nginx.stop();
            sleep(s(40)).await;
            scene.nginx.start_slowly();
            sleep(s(60)).await;
            scene.nginx.reload_by_hand();
            // Workers are younger each time, whatever they read.
            scene.nginx.be_loaded_at(SystemTime::now() + s(7200 * times));
            sleep(s(600)).await;
            for name in ["api", "web"] {
                assert_eq!((scene.state(name), scene.signals()), ((State::InSync, ""), 1));
            }
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_worker_that_crashes_while_a_signal_is_kept_back_is_not_taken_for_a_reload() {
    let [first, second, _] = pairs();
    let mut scene = Scene::new(&["web"], &first);
    scene.start_with(&["web"], |settings| {
        nowhere(settings);
        settings.reload.min_interval = s(600);
    });
    scene.pod.until_state(State::InSync).await;
    scene.publish("web", &second);
    scene.pod.until(|web| web.state == State::InSync && web.renew_at.is_some()).await;
    sleep(s(10)).await;
    scene.publish("web", &first);
    sleep(s(10)).await;
    assert_eq!(scene.state("web"), (State::Pending, "reload_interval"));
    scene.nginx.be_loaded_at(SystemTime::now() + s(86_400));
    sleep(s(3600)).await;
    assert_eq!((scene.state("web"), scene.signals()), ((State::InSync, ""), 2));
    assert_eq!(scene.shown("web").await, first.leaf_fingerprint());
}

// --- nginx cannot be told ------------------------------------------------------------------------

const DENIED: NoReload = NoReload::Denied { pid: 7, owner: 1000, ours: 65532 };

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_forbids_a_signal_is_a_finding_before_it_is_needed_and_goes_when_it_is_mended() {
    let log = Log::listen();
    let [first, ..] = pairs();
    for trouble in [DENIED, NoReload::Several { pids: vec![7, 8] }, NoReload::Unshared] {
        let before = log.warnings().len();
        let mut scene = Scene::new(&["web"], &first);
        scene.nginx.be_out_of_reach(Some(trouble.clone()));
        scene.start(&["web"]);
        scene.pod.until_state(State::InSync).await;
        sleep(s(600)).await;
        let findings = scene.pod.status().findings.clone();
        assert!(findings.iter().any(|told| told.contains(&trouble.to_string())), "{findings:?}");
        assert_eq!(log.warnings().len(), before + 1, "{:?}", log.warnings());
        scene.nginx.be_out_of_reach(None);
        sleep(s(40)).await;
        assert_eq!(scene.pod.status().findings, [].into());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_forbids_a_signal_is_the_state_when_one_is_due_until_someone_reloads() {
    let [first, second, _] = pairs();
    for (change, by_hand) in
        [(nowhere as fn(&mut Settings), false), (nowhere, true), (|_| {}, false), (|_| {}, true)]
    {
        let mut scene = Scene::new(&["web"], &first);
        scene.nginx.be_out_of_reach(Some(DENIED));
        scene.start_with(&["web"], change);
        scene.pod.until_state(State::InSync).await;
        scene.publish("web", &second);
        scene.pod.until_state(State::Unauthorized).await;
        sleep(s(300)).await;
        assert_eq!(scene.state("web"), (State::Unauthorized, "permission_denied"));
        assert!(scene.pod.binding("web").message.unwrap().contains("runAsUser: 1000"));
        assert_eq!(scene.pod.status().findings, [].into(), "it is told once");
        if by_hand {
            scene.nginx.reload_by_hand();
        } else {
            scene.nginx.be_out_of_reach(None);
        }
        let from = scene.kong.elapsed();
        scene.pod.until_state(State::InSync).await;
        assert_within(scene.kong.elapsed() - from, Duration::ZERO, s(32));
        sleep(s(300)).await;
        assert_eq!(scene.signals(), usize::from(!by_hand));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_master_that_goes_away_after_the_signal_is_waited_for() {
    let [first, second, _] = pairs();
    for change in [|_: &mut Settings| {}, nowhere] {
        let mut scene = Scene::new(&["web"], &first);
        scene.start_with(&["web"], change);
        scene.pod.until_state(State::InSync).await;
        scene.publish("web", &second);
        sleep(GATHER + ms(20)).await;
        assert_eq!(scene.signals(), 1);
        scene.nginx.stop();
        sleep(s(60)).await;
        assert_eq!(scene.state("web"), (State::Unreachable, "not_running"));
        scene.nginx.start();
        scene.pod.until_state(State::InSync).await;
        sleep(s(300)).await;
        assert_eq!(scene.signals(), 1);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_change_that_waits_is_not_told_to_an_nginx_that_was_started_anew() {
    let [first, second, third] = pairs();
    let scene = Scene::started(&["web"], &first).await;
    scene.publish("web", &second);
    scene.until_served(&second).await;
    scene.publish("web", &third);
    sleep(ms(10)).await;
    scene.nginx.stop();
    scene.nginx.start();
    scene.until_served(&third).await;
    sleep(s(60)).await;
    assert_eq!((scene.state("web"), scene.signals()), ((State::InSync, ""), 1));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_somebody_has_to_mend_keeps_no_pod_from_being_ready() {
    let [first, second, _] = pairs();
    let mut scene = Scene::new(&["web"], &first);
    scene.nginx.be_out_of_reach(Some(NoReload::Unshared));
    scene.publish("web", &second);
    scene.start(&["web"]);
    scene.pod.until_ready().await;
    assert_eq!(scene.state("web"), (State::Unreachable, "processes_not_shared"));
    assert_within(scene.kong.elapsed(), Duration::ZERO, s(1));
}

// --- beside an Admin API -------------------------------------------------------------------------

/// nginx has this pid, and Kong tells it.
fn name_master(scene: &Scene, pid: u32) {
    scene.kong.model().root_mut()["pids"] = serde_json::json!({"master": pid, "workers": []});
    scene.nginx.be_process(pid);
}

fn with_admin_api(settings: &mut Settings) {
    settings.admin.url = Settings::default().admin.url;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn at_the_proxy_port_it_is_shown_where_kong_says() {
    let [first, second, _] = pairs();
    let mut scene = Scene::new(&["web"], &first);
    scene.kong.model().set_proxy_listener("127.0.0.1", WEB);
    scene.start_with(&["web"], |settings| {
        with_admin_api(settings);
        let auto = Settings::default().proxy.address;
        settings.reload.files.values_mut().for_each(|file| file.address.clone_from(&auto));
    });
    scene.pod.until_state(State::InSync).await;
    assert_eq!(scene.signals(), 0);
    scene.publish("web", &second);
    scene.until_served(&second).await;
    assert_eq!(scene.signals(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_admin_api_that_is_down_delays_no_signal() {
    let [first, second, third] = pairs();
    let mut scene = Scene::new(&["web"], &first);
    scene.kong.inject(Fault::no_connection().always());
    scene.pod.publish("k", &first);
    scene.start_with(&["web"], with_admin_api);
    scene.pod.until_state(State::InSync).await;
    sleep(s(600)).await;
    assert_eq!(scene.state("k").0, State::Unreachable);
    let from = scene.kong.elapsed();
    scene.publish("web", &second);
    scene.until_served(&second).await;
    assert_within(scene.kong.elapsed() - from, RELOAD, RELOAD + GATHER + A_MOMENT);
    scene.publish("web", &third);
    scene.until_served(&third).await;
    let signals = scene.nginx.signals();
    assert_within(signals[1] - signals[0], INTERVAL, INTERVAL + A_MOMENT);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn without_kongs_word_for_its_port_it_is_signalled_and_proven_when_kong_answers() {
    let [first, second, _] = pairs();
    let mut scene = Scene::new(&["web"], &first);
    scene.kong.model().set_proxy_listener("127.0.0.1", WEB);
    scene.kong.inject(Fault::no_connection().always());
    scene.start_with(&["web"], |settings| {
        with_admin_api(settings);
        let auto = Settings::default().proxy.address;
        settings.reload.files.values_mut().for_each(|file| file.address.clone_from(&auto));
    });
    sleep(s(60)).await;
    assert_eq!((scene.state("web"), scene.signals()), ((State::Pending, "proving"), 0));
    scene.publish("web", &second);
    sleep(s(60)).await;
    assert_eq!((scene.state("web"), scene.signals()), ((State::Pending, "proving"), 1));
    scene.kong.heal();
    scene.until_served(&second).await;
    assert_eq!(scene.signals(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn kongs_word_for_its_master_counts_only_from_loopback() {
    let [first, second, _] = pairs();
    for (url, told) in [("http://127.0.0.1:8001", Some(77)), ("http://kong:8001", None)] {
        let mut scene = Scene::new(&["web"], &first);
        scene.kong.model().root_mut()["pids"] = serde_json::json!({"master": 77, "workers": [78]});
        scene.pod.publish("k", &first);
        scene.start_with(&["web"], |settings| settings.admin.url = Some(url.parse().unwrap()));
        scene.pod.until_state(State::InSync).await;
        sleep(s(1)).await;
        scene.publish("web", &second);
        scene.until_served(&second).await;
        assert_eq!(scene.nginx.named(), told, "{url}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_master_that_kong_named_and_that_is_gone_is_asked_for_again() {
    let [first, second, _] = pairs();
    let mut scene = Scene::new(&["web"], &first);
    name_master(&scene, 77);
    scene.pod.publish("k", &first);
    scene.start_with(&["web"], with_admin_api);
    scene.pod.until_state(State::InSync).await;
    sleep(s(1)).await;
    name_master(&scene, 99);
    scene.publish("web", &second);
    let from = scene.kong.elapsed();
    scene.until_served(&second).await;
    assert_eq!((scene.nginx.named(), scene.signals()), (Some(99), 1));
    assert_within(scene.kong.elapsed() - from, RELOAD, RELOAD + s(5));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_kong_that_forgot_what_was_posted_gets_it_again_at_once() {
    let [old, new, pushed] = pairs();
    let mut scene = Scene::away(&["web"], &old);
    scene.kong.model().dbless(true);
    scene.nginx.read_config("_format_version: '3.0'\nservices: [{name: a, host: a}]\n");
    scene.nginx.start();
    scene.pod.publish("pushed", &pushed);
    scene.start_with(&["web"], |settings| {
        settings.admin.url = Settings::default().admin.url;
        settings.declarative.poll = s(3600);
    });
    scene.until_served(&old).await;
    scene.pod.until_named("pushed", |pushed| pushed.state == State::InSync).await;
    let from = scene.kong.elapsed();
    scene.publish("web", &new);
    scene.until_served(&new).await;
    let is_there = || scene.kong.model().chain_for(Some("a.test"), Offers::ALL).chain();
    let has_time = || scene.kong.elapsed() - from < s(10);
    while has_time() && is_there().is_none_or(|chain| chain[0] != pushed.leaf_der()) {
        sleep(ms(10)).await;
    }
    assert_within(scene.kong.elapsed() - from, RELOAD, RELOAD + GATHER + s(1));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn without_an_admin_api_certificates_beside_are_unsupported_and_it_is_ready() {
    let [first, ..] = pairs();
    let mut scene = Scene::new(&["web"], &first);
    scene.pod.publish("k", &first);
    scene.start(&["web"]);
    scene.pod.until_ready().await;
    assert_eq!(scene.state("k"), (State::Unsupported, "no_admin_api"));
    assert_eq!(scene.state("web"), (State::InSync, ""));
    assert_within(scene.kong.elapsed(), Duration::ZERO, s(1));
    assert_eq!(scene.kong.calls().len(), 0);
}
