//! How large the program is, and how soon it works.

use std::time::{Duration, Instant};

use super::certificates::{mark, renewals, swap};
use super::instant_kong::InstantKong;
use super::percentiles::{Durations, ms};
use testkit::{KeyKind, SecretVolume};

const STARTS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn print(_: Option<usize>) {
    let size = std::fs::metadata(super::contender::program()).unwrap().len();
    println!("the program, stripped: {:.2} MiB", mib(size));
    let pair = &renewals("web.bench.test", KeyKind::P256, 1)[0];
    let mark = mark(&pair.leaf_pem());
    let home = tempfile::tempdir().unwrap();
    let volume = SecretVolume::mount(home.path().join("web"));
    swap(&volume, pair, || ());
    let (mut to_request, mut to_pair) = (Durations::default(), Durations::default());
    for _ in 0..STARTS {
        let kong = InstantKong::start().unwrap();
        let started = Instant::now();
        let _running = super::contender::sidecar(home.path(), &kong).unwrap();
        to_request.add(kong.next(PATIENCE).unwrap().at - started);
        let written = loop {
            let arrived = kong.next(PATIENCE).unwrap();
            if arrived.is_write() && arrived.body.contains(&mark) {
                break arrived;
            }
        };
        to_pair.add(written.at - started);
    }
    for (what, took) in [("first request", &to_request), ("first pair at Kong", &to_pair)] {
        let (half, most) = (took.percentile(0.5), took.percentile(0.99));
        println!("exec → {what}: {} ms p50, {} ms p99 of {STARTS} starts", ms(half), ms(most));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few million")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
