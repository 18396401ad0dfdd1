//! The kernel's own events, in real time: in a flood, lost, and of directories that move. Polls and
//! comparisons are hours away, so that nothing else can find what is new.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use kong_cert_reloader::settings::Settings;
use kong_cert_reloader::status::{BindingStatus, State};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testkit::{CertifiedPair, KongStandIn, Pki, SecretVolume, SidecarProcess, not_tested};
use tokio::time::timeout;

use super::kong::KongInProcess;
use super::pod::{Pod, START, in_memory};
use super::stage::Stage;
use super::table::Table;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kong-cert-reloader");
/// Nothing that is waited for takes longer on any machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// A longer queue of events is not filled.
const LONGEST_QUEUE: usize = 100_000;
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// A sidecar that hears of files by the kernel alone.
struct Scene {
    stage: Stage,
    kong: KongInProcess,
    pod: Pod,
}

impl Scene {
    fn new() -> Self {
        let kong = KongInProcess::new();
        let mut stage = Stage::at(START);
        stage.furnish(&mut kong.model());
        let mut pod = Pod::new();
        pod.woken_by_the_kernel();
        Self { stage, kong, pod }
    }

    fn start(&mut self, change: impl FnOnce(&mut Settings)) {
        self.pod.start_with(&self.kong, |settings| {
            (settings.poll_interval, settings.resync_interval) = (NEVER, NEVER);
            change(settings);
        });
    }

    /// Waits until `web` is as it should be.
    async fn until(&self, is_so: impl Fn(&BindingStatus) -> bool) {
        let so = timeout(PATIENCE, self.pod.until(is_so)).await;
        assert!(so.is_ok(), "{:#?}", self.pod.status());
    }

    async fn until_in_sync_with(&self, pair: &CertifiedPair) {
        let so = timeout(PATIENCE, self.pod.until_in_sync_with(pair)).await;
        assert!(so.is_ok(), "{:#?}", self.pod.status());
    }

    fn flaws(&self, newest: &CertifiedPair) -> Vec<String> {
        self.stage.flaws(&mut self.kong.model(), &[("a.test", newest)], 1, &self.pod.said())
    }
}

#[tokio::test(flavor = "local")]
async fn of_a_thousand_swaps_in_ten_seconds_few_are_written_all_whole_and_the_last_is_served() {
    const SWAPS: i64 = 1000;
    let mut scene = Scene::new();
    let pki = Pki::at(START);
    let issue = |second| pki.leaf(&["a.test"]).not_before(START - 10_000 + second).issue();
    let pairs: Vec<CertifiedPair> = (0..=SWAPS).map(issue).collect();
    scene.pod.publish_unheard("web", &pairs[0]);
    scene.start(|_| {});
    scene.until_in_sync_with(&pairs[0]).await;
    let last = pairs[pairs.len() - 1].clone();
    let (volume, swapped) = (SecretVolume::mount(scene.pod.directory("web")), pairs.clone());
    let kubelet = thread::spawn(move || {
        let began = Instant::now();
        for (pair, turn) in swapped[1..].iter().zip(1..) {
            volume.publish_pair(pair);
            let next = began + Duration::from_millis(10) * turn;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        (began, began.elapsed())
    });
    scene.until_in_sync_with(&last).await;
    let (began, took) = kubelet.join().unwrap();
    let served = began.elapsed();

    let sent = scene.kong.bodies();
    let sent = sent.iter().map(|body| serde_json::from_slice::<Value>(body).unwrap());
    let generation = |sent: Value| {
        let is_sent = |pair: &CertifiedPair| {
            sent["cert"] == pair.chain_pem() && sent["key"] == pair.key_pem()
        };
        pairs.iter().position(is_sent).expect("a whole generation")
    };
    let written: Vec<usize> =
        sent.filter(|sent| sent["cert"].is_string()).map(generation).collect();
    assert!(written.is_sorted(), "{written:?}");
    println!("{SWAPS} swaps in {took:?}, of which were written: {written:?}");
    println!("the last was served {served:?} after the first swap");
    // Ten, and then one every 6 s, however long a busy machine takes for it.
    assert!(written.len() as u64 <= 1 + 10 + served.as_secs() / 6 + 2, "{written:?}");
    assert!(written.ends_with(&[pairs.len() - 1]), "{written:?}");
    assert_eq!(scene.flaws(&last), [""; 0]);
}

/// What becomes of a directory while it is away.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Return {
    AsItWas,
    WithAnotherGeneration,
    AnotherInItsPlace,
}

/// Moves a directory away and back, and publishes once more. Returns what does not hold.
async fn moved(moving: &str, is_volume: bool, comes_back: Return, poll: Duration) -> Vec<String> {
    const WEB: &str = "above/certs/web";
    let mut scene = Scene::new();
    let [first, second, third] = [72, 48, 24].map(|hours| scene.stage.bundle(&["a.test"], hours));
    let publish = |pod: &Pod, directory: &Path, pair: &CertifiedPair| {
        let directory = pod.directory(directory.to_str().unwrap());
        let (cert, key) = (pair.chain_pem(), pair.key_pem());
        let files = [("tls.crt", cert.as_bytes()), ("tls.key", key.as_bytes())];
        if is_volume {
            SecretVolume::mount(directory).publish(&files);
            return;
        }
        fs::create_dir_all(&directory).unwrap();
        for (name, content) in files {
            fs::write(directory.join(name), content).unwrap();
        }
    };
    publish(&scene.pod, Path::new(WEB), &first);
    let certs_dir = scene.pod.directory("above/certs");
    scene.start(|settings| {
        settings.certs_dir = certs_dir;
        settings.poll_interval = poll;
    });
    scene.until_in_sync_with(&first).await;

    let [here, away] = [moving, "away"].map(|name| scene.pod.directory(name));
    fs::rename(&here, &away).unwrap();
    scene.until(|web| web.state == State::Invalid).await;
    let mut flaws = scene.flaws(&first);
    let is_new = comes_back != Return::AsItWas;
    match comes_back {
        Return::AsItWas => {}
        Return::WithAnotherGeneration => {
            let web = Path::new("away").join(Path::new(WEB).strip_prefix(moving).unwrap());
            publish(&scene.pod, &web, &second);
        }
        Return::AnotherInItsPlace => publish(&scene.pod, Path::new(WEB), &second),
    }
    if comes_back != Return::AnotherInItsPlace {
        fs::rename(&away, &here).unwrap();
    }
    scene.until_in_sync_with(if is_new { &second } else { &first }).await;
    publish(&scene.pod, Path::new(WEB), &third);
    scene.until_in_sync_with(&third).await;
    flaws.extend(scene.flaws(&third));
    flaws
}

#[tokio::test(flavor = "local")]
async fn directories_that_are_moved_away_and_back_are_followed() {
    let returns = [Return::AsItWas, Return::WithAnotherGeneration, Return::AnotherInItsPlace];
    // The kernel tells of what is moved itself, and not of what is above it.
    let places =
        [("above/certs/web", NEVER), ("above/certs", NEVER), ("above", Duration::from_millis(200))];
    let mut cases = Vec::new();
    for (moving, poll) in places {
        for is_volume in [true, false] {
            cases.extend(returns.map(|comes_back| (moving, is_volume, comes_back, poll)));
        }
    }
    let played = cases.iter().map(|(moving, is_volume, comes_back, poll)| async move {
        let flaws = moved(moving, *is_volume, *comes_back, *poll).await;
        (format!("{moving}, volume: {is_volume}, back {comes_back:?}"), flaws)
    });
    let mut table = Table::default();
    for (case, flaws) in join_all(played).await {
        table.note(case, flaws);
    }
    table.assert_holds(18);
}

/// The kernel keeps so many events for one who does not take them. `None`, and told so, where it would
/// take too long to fill that.
fn longest_queue() -> Option<usize> {
    let setting = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let longest = setting.trim().parse().unwrap();
    if longest > LONGEST_QUEUE {
        not_tested(&format!(
            "events that the kernel drops: fs.inotify.max_queued_events is {longest}, more than {LONGEST_QUEUE}"
        ));
        return None;
    }
    Some(longest)
}

#[tokio::test]
async fn a_renewal_whose_events_the_kernel_dropped_is_served_all_the_same() {
    let Some(longest_queue) = longest_queue() else { return };
    let (kong, pki) = (KongStandIn::start().await, Pki::new());
    let home = in_memory();
    let volume = SecretVolume::mount(home.path().join("web"));
    let [first, second] = [pki.pair(&["a.test"]), pki.pair(&["a.test"])];
    let publish = |pair: &CertifiedPair| {
        volume.publish_pair(pair);
    };
    publish(&first);
    let url = kong.admin_url();
    let settings = [
        ("ADMIN__URL", url.as_str()),
        ("CERTS_DIR", home.path().to_str().unwrap()),
        ("POLL_INTERVAL", "24h"),
        ("RESYNC_INTERVAL", "24h"),
        ("LOG__LEVEL", "debug"),
    ];
    let sidecar = SidecarProcess::start(PROGRAM, &settings).await;
    let shows = |pair: &CertifiedPair| {
        let leaf = pair.leaf_fingerprint();
        move |shown: &Value| {
            let held = shown["kong"]["leaf_sha256"][0].as_str();
            shown["state"] == "in_sync" && held.is_some_and(|held| held.contains(&leaf))
        }
    };
    sidecar.until("web", shows(&first)).await;
    let pid = Pid::from_raw(i32::try_from(sidecar.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    // Each costs two events or more, and no two in a row are alike.
    for number in 0..longest_queue {
        let stray = home.path().join(format!(".stray-{}", number % 2));
        fs::write(&stray, "").unwrap();
    }
    publish(&second);
    kill_process(pid, Signal::CONT).unwrap();
    sidecar.logged("file events were lost").await;
    sidecar.until("web", shows(&second)).await;
    assert_eq!(kong.model().writes(), 2);
}
