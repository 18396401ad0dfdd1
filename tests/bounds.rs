//! What others may cost: files, answers and visitors without bounds. The program runs as a process,
//! and is measured from outside.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test may panic, read its files, and tell what it has measured"
)]

#[path = "bounds/admin.rs"]
mod admin;
#[path = "bounds/process.rs"]
mod process;
#[path = "bounds/stock.rs"]
mod stock;
#[path = "bounds/visitors.rs"]
mod visitors;

use std::env;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use admin::{Odd, OddAdmin};
use process::{MemoryGroup, Process, raise_own_limit};
use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::Value;
use stock::{Kind, Stock, Store, Taken};
use tempfile::TempDir;
use testkit::{
    CertifiedPair, KongStandIn, Pki, Request, SecretVolume, SidecarProcess, with_settings,
};
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use visitors::{Origin, Visit, Visitors};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kong-cert-reloader");
/// The kubelet waits so long for a probe, unless it is told otherwise.
const KUBELET: Duration = Duration::from_secs(1);
/// Bindings that are only there to be told of: they make pages long.
const OTHERS: usize = 300;
/// Nothing that is waited for takes longer on any machine.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);
const MIB: u64 = 1024 * 1024;
/// Whoever measures times or makes the machine busy holds it.
static ALONE: Mutex<()> = Mutex::const_new(());

fn publish(volume: &SecretVolume, pair: &CertifiedPair) {
    let (cert, key) = (pair.chain_pem(), pair.key_pem());
    assert!(volume.publish(&[("tls.crt", cert.as_bytes()), ("tls.key", key.as_bytes())]));
}

/// Asks both probes as the kubelet does, which takes two failures in a row but not a third; returns
/// how long the slowest answer took.
async fn probed(sidecar: &SidecarProcess) -> Duration {
    let mut slowest = Duration::ZERO;
    for path in ["/livez", "/readyz"] {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let asked = timeout(KUBELET, visitors::ask(sidecar.address(), path)).await;
            slowest = slowest.max(began.elapsed());
            if asked == Ok(Some(200)) {
                break;
            }
            failures += 1;
            assert!(failures < 3, "{path}: {asked:?} after {:?}", began.elapsed());
        }
    }
    slowest
}

/// The sidecar's bindings. Two take turns: one that is renewed again and again has to wait.
const OURS: [&str; 2] = ["web", "api"];

/// A Kong, and what a sidecar has to keep there.
struct Pod {
    kong: KongStandIn,
    certs: TempDir,
    pki: Pki,
}

impl Pod {
    async fn new() -> Self {
        let pod = Self {
            kong: KongStandIn::start().await,
            certs: tempfile::tempdir().unwrap(),
            pki: Pki::new(),
        };
        for name in OURS {
            pod.publish(name);
        }
        pod
    }

    fn publish(&self, name: &str) -> CertifiedPair {
        let pair = self.pki.pair(&[&format!("{name}.test")]);
        publish(&SecretVolume::mount(self.certs.path().join(name)), &pair);
        pair
    }

    /// Returns when Kong has it.
    async fn renew(&self, name: &str) {
        let renewed = self.publish(name).chain_pem();
        let request = Request::new("GET", &format!("/certificates/{name}.test"));
        let is_there = async {
            while self.kong.model().answer(&request).value()["cert"] != renewed {
                sleep(PAUSE).await;
            }
        };
        timeout(PATIENCE, is_there).await.expect("the renewed certificate in Kong");
    }

    fn command(&self, program: &Path) -> Command {
        let (url, certs) = (self.kong.admin_url(), self.certs.path().to_str().unwrap());
        with_settings(
            program,
            &[
                ("ADMIN__URL", &url),
                ("CERTS_DIR", certs),
                ("LISTEN", "127.0.0.1:0"),
                ("LOG__FORMAT", "json"),
            ],
        )
    }
}

#[tokio::test]
async fn probes_are_answered_whatever_else_comes_to_the_port() {
    let _alone = ALONE.lock().await;
    raise_own_limit();
    let pod = Pod::new().await;
    for number in 0..OTHERS {
        let directory = pod.certs.path().join(format!("other-{number}"));
        fs::create_dir(&directory).unwrap();
        for file in ["tls.crt", "tls.key"] {
            fs::write(directory.join(file), "no PEM").unwrap();
        }
    }
    let sidecar = SidecarProcess::spawn(pod.command(Path::new(PROGRAM))).await;
    sidecar.until_state("web", "in_sync").await;
    sidecar.until_state("other-1", "invalid").await;
    let process = Process::of(sidecar.pid());
    probed(&sidecar).await;
    let (descriptors, memory) = (process.descriptors(), process.memory());
    let calm = probed(&sidecar).await;
    eprintln!("calm: {calm:?}, {descriptors} descriptors, {} KiB", memory / 1024);

    let visits =
        Visit::ALL.into_iter().flat_map(|visit| visit.origins().iter().map(move |at| (visit, *at)));
    let mut ours = OURS.into_iter().cycle();
    for (visit, origin) in visits {
        let visitors = timeout(PATIENCE, Visitors::come(sidecar.address(), visit, origin));
        let visitors = visitors.await.expect("room for all visitors");
        let mut worst = Duration::ZERO;
        for _ in 0..5 {
            worst = worst.max(probed(&sidecar).await);
        }
        pod.renew(ours.next().unwrap()).await;
        for _ in 0..5 {
            worst = worst.max(probed(&sidecar).await);
        }
        let (open, at_most) = (process.descriptors(), process.peak_memory());
        let of = format!("{visit:?} from {origin:?}");
        eprintln!("{of}: {worst:?}, {open} descriptors, at most {} KiB", at_most / 1024);
        drop(visitors);
        assert!(open <= descriptors + 80, "{of}: {open} descriptors");
        assert!(at_most <= memory + 64 * MIB, "{of}: {} KiB", at_most / 1024);
        process.until_descriptors(descriptors + 4).await;
    }
    let left = process.memory();
    eprintln!("afterwards: {} KiB", left / 1024);
    assert!(left <= memory + 32 * MIB, "{} KiB", left / 1024);
}

#[tokio::test]
async fn probes_are_answered_when_descriptors_run_out() {
    let pod = Pod::new().await;
    let mut command = pod.command(Path::new("/bin/sh"));
    command.args(["-c", "ulimit -n 40 && exec \"$0\"", PROGRAM]);
    let sidecar = SidecarProcess::spawn(command).await;
    sidecar.until_state("web", "in_sync").await;
    let visitors = Visitors::come(sidecar.address(), Visit::Idle, Origin::Many).await;
    let mut worst = Duration::ZERO;
    for _ in 0..10 {
        worst = worst.max(probed(&sidecar).await);
    }
    eprintln!("with 40 descriptors: {worst:?}");
    drop(visitors);
    pod.renew(OURS[0]).await;
}

#[tokio::test]
async fn an_answer_without_end_is_given_up() {
    for (odd, binding, reason, words, most) in [
        (Odd::Head, "web", "no_answer", "message head is too large", 64 * MIB),
        (Odd::Body, "web", "not_kong", "larger than 1048576 bytes", 64 * MIB),
        (Odd::Drip, "web", "no_answer", "no answer in time", 64 * MIB),
        (Odd::Object, "web", "not_kong", "larger than 1048576 bytes", 64 * MIB),
        (Odd::List, "clients", "not_kong", "too large to be read", 64 * MIB),
        (Odd::Pages, "clients", "too_large", "more than 100000 objects", 64 * MIB),
        // How much is read depends on the machine's memory.
        (Odd::Configuration, "web", "too_large", "kong holds too much", 192 * MIB),
    ] {
        let began = Instant::now();
        let (shown, memory) = beside(odd, binding).await;
        let took = began.elapsed();
        eprintln!("{odd:?}: {}, {} KiB, {took:?}", shown["message"], memory / 1024);
        assert_eq!(shown["reason"], reason, "{odd:?}: {shown}");
        assert!(shown["message"].as_str().unwrap().contains(words), "{odd:?}: {shown}");
        assert!(memory <= most, "{odd:?}: {} KiB", memory / 1024);
    }
}

/// What is concluded of `binding`, and the most memory that it took.
async fn beside(odd: Odd, binding: &str) -> (Value, u64) {
    let admin = OddAdmin::start(odd).await;
    let pki = Pki::new();
    let home = tempfile::tempdir().unwrap();
    publish(&SecretVolume::mount(home.path().join("certs/web")), &pki.pair(&["a.test"]));
    let authority = home.path().join("ca.crt");
    fs::write(&authority, pki.root().pem()).unwrap();
    let (url, certs) = (format!("http://{}", admin.address), home.path().join("certs"));
    let settings = [
        ("ADMIN__URL", &*url),
        // An answer that is waited for is told before the test gives up.
        ("ADMIN__TIMEOUT", if odd == Odd::Drip { "1s" } else { "5s" }),
        ("CERTS_DIR", certs.to_str().unwrap()),
        ("CA_CERTIFICATES__CLIENTS__FILE", authority.to_str().unwrap()),
    ];
    let sidecar = SidecarProcess::start(PROGRAM, &settings).await;
    let shown = sidecar.until(binding, |shown| shown["state"] != "pending").await;
    (shown, Process::of(sidecar.pid()).peak_memory())
}

#[tokio::test]
async fn files_without_bounds_are_invalid_and_disturb_no_other() {
    let pod = Pod::new().await;
    for number in 0..10_000 {
        fs::create_dir(pod.certs.path().join(format!("empty-{number}"))).unwrap();
    }
    let key = pod.pki.pair(&["b.test"]).key_pem();
    let chain = |name: &str| {
        let directory = pod.certs.path().join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("tls.key"), &key).unwrap();
        directory.join("tls.crt")
    };
    File::create(chain("large")).unwrap().set_len(MIB + 1).unwrap();
    File::create(chain("sparse")).unwrap().set_len(MIB * MIB).unwrap();
    mkfifoat(CWD, chain("fifo"), Mode::from_raw_mode(0o644)).unwrap();
    symlink("/dev/zero", chain("device")).unwrap();
    let growing = Growing::start(&chain("growing"));

    let sidecar = SidecarProcess::spawn(pod.command(Path::new(PROGRAM))).await;
    sidecar.until_state("web", "in_sync").await;
    for (binding, reason) in [
        ("large", "too_large"),
        ("sparse", "too_large"),
        ("fifo", "not_a_file"),
        ("device", "not_a_file"),
        ("growing", "too_large"),
    ] {
        let shown = sidecar.until(binding, |shown| shown["reason"] == reason).await;
        assert_eq!(shown["state"], "invalid", "{shown}");
    }
    drop(growing);
    let most = Process::of(sidecar.pid()).peak_memory();
    eprintln!("files: at most {} KiB", most / 1024);
    assert!(most <= 64 * MIB, "{} KiB", most / 1024);
}

/// A file that is written to until this is dropped, or it is much too large.
struct Growing {
    is_over: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
}

impl Growing {
    fn start(path: &Path) -> Self {
        let mut file = File::create(path).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_over);
        let writer = thread::spawn(move || {
            for _ in 0..2 * MIB / 4096 {
                file.write_all(&[b'#'; 4096]).unwrap();
                if stop.load(Relaxed) {
                    return;
                }
                thread::sleep(Duration::from_millis(2));
            }
        });
        Self { is_over, writer: Some(writer) }
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        self.writer.take().unwrap().join().unwrap();
    }
}

#[tokio::test]
async fn memory_stays_within_the_limits_of_the_chart() {
    let _alone = ALONE.lock().await;
    let database = chart_limit("kong-cert-reloader/values.yaml");
    let declarative = chart_limit("overlays/dbless.yaml");
    for (store, kind, others, ballast, ours, limit) in [
        (Store::Database, Kind::Certificates, 3000, 0, 40, database),
        // A page of 1,000 has 60 MB.
        (Store::Database, Kind::Certificates, 1000, 60_000, 40, database),
        (Store::Memory, Kind::Certificates, 3000, 0, 10, declarative),
        (Store::Json, Kind::Certificates, 3000, 0, 10, declarative),
        // Small objects: text alone is the least of it.
        (Store::Memory, Kind::Services, 8000, 0, 1, database),
        (Store::Yaml, Kind::Services, 8000, 0, 1, database),
        (Store::Memory, Kind::Consumers, 15_000, 0, 1, database),
        (Store::Yaml, Kind::Consumers, 15_000, 0, 1, database),
    ] {
        let stock = Stock { store, kind, others, ballast, ours };
        let Taken { peak, time, .. } = stock.measured(Path::new(PROGRAM)).await;
        eprintln!("{stock:?}: at most {} KiB of {}, {time:?}", peak / 1024, limit / 1024);
        assert!(peak <= limit, "{stock:?}: {} KiB", peak / 1024);
    }
}

#[tokio::test]
async fn a_configuration_that_does_not_fit_is_told_and_nobody_is_killed() {
    let limit = 48 * MIB;
    let Some(group) = MemoryGroup::with_limit(limit) else {
        eprintln!("not tested: no control group can be made here");
        return;
    };
    // Its text would fit.
    let (store, kind) = (Store::Yaml, Kind::Consumers);
    let text = Stock { store, kind, others: 45_000, ballast: 0, ours: 0 }.text();
    assert!((text.len() as u64) < (limit - 24 * MIB) / 4, "{}", text.len());
    let admin = OddAdmin::start(Odd::Configuration).await;
    let home = tempfile::tempdir().unwrap();
    publish(&SecretVolume::mount(home.path().join("certs/web")), &Pki::new().pair(&["a.test"]));
    let (certs, file) = (home.path().join("certs"), home.path().join("kong.yaml"));
    fs::write(&file, text).unwrap();
    let url = format!("http://{}", admin.address);
    let mut command = with_settings(
        Path::new("/bin/sh"),
        &[
            ("ADMIN__URL", &*url),
            ("CERTS_DIR", certs.to_str().unwrap()),
            ("DECLARATIVE__FILE", file.to_str().unwrap()),
            ("LISTEN", "127.0.0.1:0"),
            ("LOG__FORMAT", "json"),
        ],
    );
    command.args(group.enter(PROGRAM));
    let sidecar = SidecarProcess::spawn(command).await;
    for (binding, state) in [("declarative_file", "invalid"), ("web", "refused")] {
        let shown = sidecar.until(binding, |shown| shown["reason"] == "too_large").await;
        assert_eq!(shown["state"], state, "{shown}");
    }
    probed(&sidecar).await;
    let most = Process::of(sidecar.pid()).peak_memory();
    eprintln!("in a control group of {} KiB: at most {} KiB", limit / 1024, most / 1024);
    assert!(most <= limit, "{} KiB", most / 1024);
}

/// The figures of `helm/README.md`, with the program that `KONG_CERT_RELOADER_STATIC` names.
#[tokio::test]
#[ignore = "it takes minutes, and is there for its figures"]
async fn memory_by_the_number_of_certificates() {
    let program = env::var("KONG_CERT_RELOADER_STATIC").expect("the program as it is shipped");
    let certificates =
        [(100, 10), (1000, 100), (3000, 10), (0, 1000)].map(|most| (Kind::Certificates, most));
    let small = [(Kind::Services, (40_000, 10)), (Kind::Consumers, (50_000, 10))];
    for (kind, (others, ours)) in certificates.into_iter().chain(small) {
        for store in [Store::Database, Store::Memory, Store::Json, Store::Yaml] {
            if store == Store::Database && !matches!(kind, Kind::Certificates) {
                continue;
            }
            let stock = Stock { store, kind, others, ballast: 0, ours };
            let Taken { peak, idle, time } = stock.measured(Path::new(&program)).await;
            let (peak, idle) = (peak.div_ceil(MIB), idle.div_ceil(MIB));
            eprintln!("{stock:?}: at most {peak} MiB, idle {idle} MiB, {time:?}");
        }
    }
}

/// The memory limit in a file of `helm`, in bytes.
fn chart_limit(file: &str) -> u64 {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("helm").join(file);
    let text = fs::read_to_string(path).unwrap();
    let (_, limits) = text.split_once("limits:").unwrap();
    let memory = limits.lines().find_map(|line| line.trim().strip_prefix("memory: ")).unwrap();
    memory.strip_suffix("Mi").unwrap().parse::<u64>().unwrap() * MIB
}
