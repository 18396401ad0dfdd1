//! Many bindings: all of them at a cold start, none at a warm one, and one among them.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use super::certificates::{mark, renewals, swap};
use super::instant_kong::{Arrived, InstantKong};
use super::percentiles::{Durations, ms};
use super::process::Figures;
use tempfile::TempDir;
use testkit::{KeyKind, SecretVolume};

/// The default of `ADMIN__CONCURRENCY`.
const CONNECTIONS: usize = 4;
/// A real Kong 3.9.3 took about 140 writes a second on four connections, and 850 reads.
const PER_WRITE: Duration = Duration::from_micros(28_500);
const PER_READ: Duration = Duration::from_micros(4_700);
const PATIENCE: Duration = Duration::from_secs(60);
const CHANGES: usize = 200;
const CHANGES_OF_ONE: usize = 8;
/// After so long without a request none comes.
const QUIET: Duration = Duration::from_secs(1);

/// With 1,000 bindings, or with `size`.
pub(crate) fn print(size: Option<usize>) {
    let count = size.unwrap_or(1000);
    let stage = Stage::with(count);
    for (what, per_write, per_read) in [
        ("an Admin API as fast as a real Kong's", PER_WRITE, PER_READ),
        ("one that answers at once", Duration::ZERO, Duration::ZERO),
    ] {
        println!("\n{count} certificates, {what}");
        stage.start_cold_and_warm(&InstantKong::start_at_pace(per_write, per_read).unwrap());
    }
    println!("\none change, swap → request, at once");
    let alone = Stage::with(1).change_one();
    let among = stage.change_one();
    for (what, took) in [("of 1", &alone), (&*format!("of {count}"), &among)] {
        println!(
            "{what:>12}: {} ms p50, {} ms p99",
            ms(took.percentile(0.5)),
            ms(took.percentile(0.99))
        );
    }
}

struct Stage {
    home: TempDir,
    volumes: Vec<SecretVolume>,
}

impl Stage {
    fn with(count: usize) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut volumes = Vec::new();
        for number in 0..count {
            let volume = SecretVolume::mount(home.path().join(format!("web{number}")));
            let pairs = renewals(&format!("web{number}.bench.test"), KeyKind::P256, 1);
            swap(&volume, &pairs[0], || ());
            volumes.push(volume);
        }
        Self { home, volumes }
    }

    fn start_cold_and_warm(&self, kong: &InstantKong) {
        let cold = self.start(kong);
        println!("  cold start: {cold}");
        println!("  warm start: {}", self.start(kong));
        let writes = cold.writes.len();
        let bare = bare_client(kong, cold.writes);
        println!(
            "  a bare client's {writes} writes on {CONNECTIONS} connections: {} ms; the cold start has {:.0} % of its pace",
            ms(bare),
            100.0 * bare.as_secs_f64() / cold.took.as_secs_f64()
        );
    }

    /// Runs a sidecar until it has been quiet for a while.
    fn start(&self, kong: &InstantKong) -> Start {
        kong.drain();
        let started = Instant::now();
        let running = super::contender::sidecar(self.home.path(), kong).unwrap();
        let (mut last, mut requests, mut writes) = (started, BTreeMap::new(), Vec::new());
        let is_cold = kong.count() == 0;
        let is_under_way = |requests: &BTreeMap<_, usize>| {
            let (awaited, count) =
                if is_cold { ("writes", self.volumes.len()) } else { ("pages", 1) };
            requests.get(awaited).is_none_or(|seen| *seen < count)
        };
        // What it looks at last is not known: it is over when nothing came for a while.
        let quiet = Duration::from_secs(2);
        while let Some(arrived) = kong.next(if is_under_way(&requests) { PATIENCE } else { quiet })
        {
            last = arrived.at;
            *requests.entry(kind(&arrived)).or_default() += 1;
            if arrived.is_write() {
                writes.push(arrived);
            }
        }
        assert_eq!(is_cold, !writes.is_empty(), "a warm start writes nothing");
        assert_eq!(kong.count(), self.volumes.len());
        let peak = Figures::of(running.pid()).peak;
        Start { took: last - started, requests, writes, peak }
    }

    /// One after the other renews, beside others that do not. One that changes more often than ten
    /// times a minute is slowed down: a sidecar that has few is started anew.
    fn change_one(&self) -> Durations {
        let mut took = Durations::default();
        while took.count() < CHANGES {
            self.change_each(&mut took);
        }
        took
    }

    fn change_each(&self, took: &mut Durations) {
        let kong = InstantKong::start().unwrap();
        let _running = super::contender::sidecar(self.home.path(), &kong).unwrap();
        let mut written = 0;
        while written < self.volumes.len() {
            written += usize::from(kong.next(PATIENCE).unwrap().is_write());
        }
        while kong.next(QUIET).is_some() {}
        for (number, volume) in self.volumes.iter().enumerate().take(CHANGES / CHANGES_OF_ONE) {
            for pair in renewals(&format!("web{number}.bench.test"), KeyKind::P256, CHANGES_OF_ONE)
            {
                let mark = mark(&pair.leaf_pem());
                let swapped = swap(volume, &pair, Instant::now);
                let mut requests = 1;
                let arrived = loop {
                    let arrived = kong.next(PATIENCE).unwrap();
                    if arrived.is_write() && arrived.body.contains(&mark) {
                        break arrived;
                    }
                    requests += 1;
                };
                took.add(arrived.at - swapped);
                assert!(requests <= 2, "{requests} requests for one change");
                sleep(Duration::from_millis(fastrand::u64(5..15)));
            }
        }
    }
}

/// What a start came to.
struct Start {
    took: Duration,
    requests: BTreeMap<&'static str, usize>,
    writes: Vec<Arrived>,
    peak: u64,
}

impl std::fmt::Display for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ms, {:?}, at most {} KiB resident", ms(self.took), self.requests, self.peak)
    }
}

fn kind(arrived: &Arrived) -> &'static str {
    match (&*arrived.method, &*arrived.path) {
        ("GET", "/") => "GET /",
        ("GET", path) if path.starts_with("/certificates?") => "pages",
        ("GET", _) => "objects read",
        _ => "writes",
    }
}

/// The same writes, ready made, on as many connections, and nothing looked at.
fn bare_client(kong: &InstantKong, writes: Vec<Arrived>) -> Duration {
    kong.forget();
    let (address, writes) = (kong.address(), Mutex::new(writes.into_iter()));
    let began = Instant::now();
    thread::scope(|threads| {
        for _ in 0..CONNECTIONS {
            threads.spawn(|| {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                let mut answer = vec![0; 64 * 1024];
                while let Some(write) = next(&writes) {
                    let head = format!(
                        "{} {} HTTP/1.1\r\nHost: kong\r\nContent-Length: {}\r\n\r\n",
                        write.method,
                        write.path,
                        write.body.len()
                    );
                    stream.write_all(&[head.as_bytes(), write.body.as_bytes()].concat()).unwrap();
                    // Its answer is written at once, and smaller than this.
                    assert!(stream.read(&mut answer).unwrap() > 0);
                }
            });
        }
    });
    began.elapsed()
}

fn next(writes: &Mutex<std::vec::IntoIter<Arrived>>) -> Option<Arrived> {
    writes.lock().unwrap().next()
}
