//! What the sidecar costs while nothing happens, and what it grows to.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::certificates::{renewals, swap};
use super::contender::Running;
use super::instant_kong::InstantKong;
use super::process::Figures;
use tempfile::TempDir;
use testkit::{CertifiedPair, KeyKind, SecretVolume};

const PATIENCE: Duration = Duration::from_secs(60);
/// Two of the safety polls are in it.
const IDLE: Duration = Duration::from_secs(60);
const SWAPS: usize = 1000;

/// With 1, 100 and 1,000 bindings, or with `size`.
pub(crate) fn print(size: Option<usize>) {
    let counts = size.map_or_else(|| vec![1, 100, 1000], |size| vec![size]);
    println!(
        "{:>8}{:>12}{:>10}{:>10}{:>14}{:>12}",
        "bindings", "USS KiB", "RSS KiB", "peak KiB", "wake-ups/min", "CPU ms/min"
    );
    let mut smallest = None;
    for count in counts {
        let stage = Stage::with(count);
        let (before, began) = (Figures::of(stage.running.pid()), Instant::now());
        sleep(IDLE);
        let after = Figures::of(stage.running.pid());
        let minutes = began.elapsed().as_secs_f64() / 60.0;
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let wake_ups = (after.wake_ups - before.wake_ups) as f64 / minutes;
        let cpu = (after.cpu - before.cpu).as_secs_f64() * 1000.0 / minutes;
        let uss = after.uss.map_or_else(|| "not seen".to_owned(), |uss| uss.to_string());
        println!(
            "{count:>8}{uss:>12}{:>10}{:>10}{wake_ups:>14.0}{cpu:>12.0}",
            after.rss, after.peak
        );
        match smallest {
            None => smallest = Some((count, after.rss)),
            Some((fewer, rss)) if count > fewer => {
                #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
                let grown = (after.rss.saturating_sub(rss)) as f64 / (count - fewer) as f64;
                println!("{:>8} {grown:.2} KiB of RSS for each binding more", "");
            }
            Some(_) => {}
        }
    }
    let stage = Stage::with(20);
    let renewed: Vec<_> = (0..stage.volumes.len())
        .map(|number| {
            let name = format!("web{number}.bench.test");
            renewals(&name, KeyKind::P256, SWAPS / stage.volumes.len())
        })
        .collect();
    let mut writes = 0;
    for turn in 0..SWAPS {
        let number = turn % stage.volumes.len();
        swap(&stage.volumes[number], &renewed[number][turn / stage.volumes.len()], || ());
        // What changes more often than ten times a minute is written less often.
        sleep(Duration::from_millis(50));
        writes += stage.kong.drain().iter().filter(|arrived| arrived.is_write()).count();
    }
    let figures = Figures::of(stage.running.pid());
    println!(
        "\n{SWAPS} swaps among 20 bindings, {writes} writes: at most {} KiB resident, {} now, {} descriptors",
        figures.peak,
        figures.rss,
        figures.descriptors.map_or_else(|| "unseen".to_owned(), |count| count.to_string()),
    );
}

/// A sidecar that has brought all its bindings to Kong.
struct Stage {
    kong: InstantKong,
    volumes: Vec<SecretVolume>,
    running: Running,
    _home: TempDir,
}

impl Stage {
    fn with(count: usize) -> Self {
        let (home, kong) = (tempfile::tempdir().unwrap(), InstantKong::start().unwrap());
        let mut volumes = Vec::new();
        for number in 0..count {
            let volume = SecretVolume::mount(home.path().join(format!("web{number}")));
            let pair: Vec<CertifiedPair> =
                renewals(&format!("web{number}.bench.test"), KeyKind::P256, 1);
            swap(&volume, &pair[0], || ());
            volumes.push(volume);
        }
        let running = super::contender::sidecar(home.path(), &kong).unwrap();
        let mut written = 0;
        while written < count {
            written += usize::from(kong.next(PATIENCE).unwrap().is_write());
        }
        sleep(Duration::from_secs(2));
        Self { kong, volumes, running, _home: home }
    }
}
