//! Random schedules of file changes, troubles of Kong, other writers, restarts and time, against a
//! small model of the truth. Real files, a Kong in memory, and a paused clock.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test may panic, read its files and environment, and say what it does"
)]

#[path = "schedules/bundles.rs"]
mod bundles;
#[path = "schedules/event.rs"]
mod event;
#[path = "schedule/kong.rs"]
mod kong;
#[path = "schedule/pod.rs"]
mod pod;
#[path = "schedules/rows.rs"]
mod rows;
#[path = "schedules/stage.rs"]
mod stage;
#[path = "schedules/truth.rs"]
mod truth;

use std::cell::RefCell;
use std::env;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use event::{Family, schedules};
use stage::play;

/// The seed in `cargo test`.
const SEED: u64 = 1;
/// Without `SCHEDULES_CASES`, of each kind of Kong.
const CASES: u64 = 250;

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |value| value.parse().expect(variable))
}

/// Each schedule has a seed of its own, so that one is replayed without those before it.
fn play_many(family: Family) {
    let (first, cases) = (number("SCHEDULES_SEED", SEED), number("SCHEDULES_CASES", CASES));
    eprintln!("{family:?}: {cases} schedules from SCHEDULES_SEED={first}");
    let end = first + cases;
    let next = AtomicU64::new(first);
    let play_next = || {
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|it| *it < end) {
            if let Err(why) = play_one(family, seed) {
                next.store(end, Ordering::Relaxed);
                panic!("{why}");
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(play_next);
        }
    });
}

fn play_one(family: Family, seed: u64) -> Result<(), String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config {
        cases: 1,
        failure_persistence: None,
        max_shrink_iters: 1_000,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, rng);
    // What the runner has in hand when it gives up is not always what failed last.
    let failed = RefCell::new(None);
    let played = runner.run(&schedules(family), |schedule| {
        play(&schedule, family).map_err(|why| {
            *failed.borrow_mut() = Some((why.clone(), schedule));
            TestCaseError::fail(why)
        })
    });
    if let Some((why, schedule)) = failed.into_inner() {
        return Err(format!(
            "{why}\n\nThe shortest schedule, {} events:\n{schedule:?}\nReplay it: \
             SCHEDULES_SEED={seed} SCHEDULES_CASES=1 cargo test --test schedules\n",
            schedule.0.len()
        ));
    }
    played.map_err(|why| why.to_string())
}

#[test]
fn schedules_on_a_database() {
    play_many(Family::Database);
}

#[test]
fn schedules_without_a_database() {
    play_many(Family::Dbless);
}
