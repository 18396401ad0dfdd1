//! How long it takes from a swap to Kong.
//!
//! Side by side in one run: the floor (`floor.c`), the sidecar, and a loop in a shell. Each has a
//! volume and a Kong of its own; they are measured in turn, so that what else this machine does
//! touches all of them alike.

use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::certificates::{mark, renewals, swap};
use super::contender::Running;
use super::instant_kong::InstantKong;
use super::percentiles::{Durations, ms};
use tempfile::TempDir;
use testkit::{CertifiedPair, KeyKind, SecretVolume};

/// Swaps of each contender.
const SWAPS: usize = 300;
/// Swaps before any counts.
const WARM_UP: usize = 20;
/// What takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// After so long without a request none comes.
const QUIET: Duration = Duration::from_millis(500);
const BURSTS: usize = 100;
const SWAPS_OF_A_BURST: usize = 5;

pub(crate) fn print(_: Option<usize>) {
    println!("swap → request with the new pair at a server that answers at once, ms");
    let mut lanes = lanes();
    for turn in 0..WARM_UP + SWAPS {
        for lane in &mut lanes {
            lane.swap_and_wait(turn);
            sleep(Duration::from_millis(fastrand::u64(10..30)));
        }
    }
    println!(
        "{:<24}{:>7}{:>9}{:>9}{:>9}{:>7}{:>7}",
        "", "swaps", "p50", "p90", "p99", "×p50", "×p99"
    );
    let floor = (lanes[0].took.percentile(0.5), lanes[0].took.percentile(0.99));
    for lane in &lanes {
        let at = |share| lane.took.percentile(share);
        println!(
            "{:<24}{:>7}{:>9}{:>9}{:>9}{:>7.1}{:>7.1}{}",
            lane.name,
            lane.took.count(),
            ms(at(0.5)),
            ms(at(0.9)),
            ms(at(0.99)),
            at(0.5).as_secs_f64() / floor.0.as_secs_f64(),
            at(0.99).as_secs_f64() / floor.1.as_secs_f64(),
            if lane.lost > 0 { format!("  lost {}", lane.lost) } else { String::new() },
        );
    }
    bursts();
}

/// One contender with all that is its own.
struct Lane {
    name: &'static str,
    kong: InstantKong,
    volumes: Vec<(SecretVolume, Vec<CertifiedPair>)>,
    took: Durations,
    lost: usize,
    _running: Running,
    _home: TempDir,
}

type Start = fn(&Path, &InstantKong) -> io::Result<Option<Running>>;

fn lanes() -> Vec<Lane> {
    let sidecar: Start = |home, kong| super::contender::sidecar(home, kong).map(Some);
    let floor: Start = |home, kong| super::contender::floor(&home.join("web0"), kong).map(Some);
    let shell: Start = |home, kong| super::contender::shell_loop(&home.join("web0"), kong);
    // A binding that changes more often than ten times a minute is slowed down: the sidecar has several.
    let several = (WARM_UP + SWAPS) / 8;
    let contenders = [
        ("floor in C", KeyKind::P256, 1, floor),
        ("the sidecar, P-256", KeyKind::P256, several, sidecar),
        ("the sidecar, RSA 2048", KeyKind::Rsa2048, several, sidecar),
        ("inotifywait + curl", KeyKind::P256, 1, shell),
    ];
    let lanes = contenders.into_iter();
    lanes
        .filter_map(|(name, kind, volumes, start)| Lane::with(name, kind, volumes, start))
        .collect()
}

impl Lane {
    fn with(name: &'static str, kind: KeyKind, count: usize, start: Start) -> Option<Self> {
        let (home, kong) = (tempfile::tempdir().unwrap(), InstantKong::start().unwrap());
        let swaps = (WARM_UP + SWAPS).div_ceil(count) + 1;
        let volume = |number| {
            let name = format!("web{number}");
            let volume = SecretVolume::mount(home.path().join(&name));
            let mut pairs = renewals(&format!("{name}.bench.test"), kind, swaps);
            swap(&volume, &pairs.remove(0), || ());
            (volume, pairs)
        };
        let volumes = (0..count).map(volume).collect();
        let Some(running) = start(home.path(), &kong).unwrap() else {
            println!("not measured: {name}, of which something is not installed");
            return None;
        };
        // It watches by now, and has written what was there.
        while kong.next(QUIET).is_some() {}
        let (took, lost) = (Durations::default(), 0);
        Some(Self { name, kong, volumes, took, lost, _running: running, _home: home })
    }

    fn swap_and_wait(&mut self, turn: usize) {
        let (volume, pairs) = &self.volumes[turn % self.volumes.len()];
        let pair = &pairs[turn / self.volumes.len()];
        let mark = mark(&pair.leaf_pem());
        let swapped = swap(volume, pair, Instant::now);
        let arrived = loop {
            match self.kong.next(PATIENCE) {
                Some(arrived) if arrived.is_write() && arrived.body.contains(&mark) => {
                    break arrived;
                }
                Some(_) => {}
                None => {
                    self.lost += 1;
                    return;
                }
            }
        };
        if turn >= WARM_UP {
            self.took.add(arrived.at - swapped);
        }
    }
}

/// Five swaps, 1 to 10 ms apart, of one binding after the other: the last has to arrive, each with its
/// own key, and nothing older after a newer one.
fn bursts() {
    let (home, kong) = (tempfile::tempdir().unwrap(), InstantKong::start().unwrap());
    let binding = |number| {
        let name = format!("web{number}");
        let volume = SecretVolume::mount(home.path().join(&name));
        let mut pairs =
            renewals(&format!("{name}.bench.test"), KeyKind::P256, SWAPS_OF_A_BURST + 1);
        swap(&volume, &pairs.remove(0), || ());
        (volume, pairs)
    };
    let bindings: Vec<_> = (0..BURSTS).map(binding).collect();
    let _running = super::contender::sidecar(home.path(), &kong).unwrap();
    while kong.next(QUIET).is_some() {}
    let (mut took, mut writes) = (Durations::default(), 0);
    for (volume, pairs) in &bindings {
        let mut swapped = Instant::now();
        for pair in pairs {
            swapped = swap(volume, pair, Instant::now);
            sleep(Duration::from_millis(fastrand::u64(1..=10)));
        }
        let mut newest = 0;
        while newest < SWAPS_OF_A_BURST {
            let arrived = kong.next(PATIENCE).expect("the last of a burst arrives");
            if !arrived.is_write() {
                continue;
            }
            writes += 1;
            let has = |pem: String| arrived.body.contains(&mark(&pem));
            let number = pairs.iter().position(|pair| has(pair.leaf_pem())).unwrap() + 1;
            assert!(has(pairs[number - 1].key_pem()), "another's key");
            assert!(number > newest, "{number} arrived after {newest}");
            newest = number;
            if number == SWAPS_OF_A_BURST {
                took.add(arrived.at - swapped);
            }
        }
        sleep(Duration::from_millis(20));
    }
    println!(
        "\n{BURSTS} bursts of {SWAPS_OF_A_BURST} swaps, 1 to 10 ms apart: each last one arrived, {} ms p50 and {} ms p99 after its swap, in {writes} writes",
        ms(took.percentile(0.5)),
        ms(took.percentile(0.99)),
    );
}
