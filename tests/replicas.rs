//! Many replicas beside one cluster of Kong, on a clock that the test holds: whatever the kubelets do
//! in which order, Kong never goes back while something newer that can be served is held, comes to
//! rest, and is written hardly more than once for each rotation.
//!
//! With `--nocapture` a table tells how often. `REPLICAS_SEEDS=50` plays each scenario so often.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "more seeds are asked for by the environment")]

#[path = "replicas/cluster.rs"]
mod cluster;
#[path = "schedule/kong.rs"]
mod kong;
#[path = "replicas/play.rs"]
mod play;
#[path = "schedule/pod.rs"]
mod pod;

use std::time::Duration;

use cluster::{Generation, Trouble};
use play::{BEGINS, Footing, Outcome, Play, Setup};
use pod::START;

/// How many replicas, and with how many seeds that is played.
const SIZES: [(usize, u64); 4] = [(1, 1), (3, 4), (20, 1), (100, 1)];
/// By `notBefore`.
const OLD: Generation = 0;
const NEW: Generation = 1;
const NEWEST: Generation = 2;
/// Whatever a rotation meets, and however many replicas there are.
const WRITES: usize = 2;

/// What is played, and how often it may be written.
#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    setup: Setup,
    /// Certificates that are rotated, each time that they are.
    rotations: usize,
    /// So many writes may one rotation cost.
    writes: usize,
    plan: fn(&mut Play),
}

impl Scenario {
    const fn new(name: &'static str, first: Generation, plan: fn(&mut Play)) -> Self {
        Self { name, setup: Setup::with(first), rotations: 1, writes: WRITES, plan }
    }

    const fn of_rotations(mut self, rotations: usize) -> Self {
        self.rotations = rotations;
        self
    }

    /// Plays it at each size with each seed; `promised` judges what Kong held one after another.
    async fn play(&self, promised: impl Fn(usize, &Outcome) -> bool) {
        for (replicas, seeds) in SIZES {
            let mut outcomes = Vec::new();
            for seed in 0..asked_seeds().unwrap_or(seeds) {
                say(self.name, replicas, seed);
                let mut play = Play::begin(replicas, seed, self.setup).await;
                (self.plan)(&mut play);
                let outcome = play.run().await;
                assert!(promised(replicas, &outcome), "{outcome:#?}");
                outcomes.push(outcome);
            }
            self.tell(replicas, &outcomes);
            let worst = outcomes.iter().map(|outcome| outcome.writes.len()).max().unwrap();
            assert!(
                worst <= self.writes * self.rotations,
                "{} with {replicas}: {worst}",
                self.name
            );
        }
    }

    #[allow(clippy::print_stderr, reason = "a table for whoever wants to know")]
    fn tell(&self, replicas: usize, outcomes: &[Outcome]) {
        let writes = |outcome: &Outcome| outcome.writes.len() as f64 / self.rotations as f64;
        let mean = outcomes.iter().map(writes).sum::<f64>() / outcomes.len() as f64;
        let worst = outcomes.iter().map(writes).fold(0.0, f64::max);
        let most = |count: fn(&Outcome) -> usize| outcomes.iter().map(count).max().unwrap();
        let changes = most(|outcome| outcome.history.len().saturating_sub(1));
        let (looks, seeds) = (most(|outcome| outcome.looks), outcomes.len());
        let last = outcomes.iter().map(|outcome| outcome.in_sync).max().unwrap();
        eprintln!(
            "{:<40} | {replicas:>3} replicas, {seeds:>2} seeds | writes per rotation {mean:>5.2}, at most {worst:>5.1} | changes {changes:>2} | GETs {looks:>5} | last in sync after {:>3} s",
            self.name,
            last.as_secs()
        );
    }
}

/// What is played; shown where it fails.
#[allow(clippy::print_stdout, reason = "a seed to play again")]
fn say(name: &str, replicas: usize, seed: u64) {
    println!("{name}: {replicas} replicas, seed {seed}");
}

fn asked_seeds() -> Option<u64> {
    std::env::var("REPLICAS_SEEDS").ok()?.parse().ok()
}

/// Kong held one of these sequences.
fn one_of(expected: &'static [&'static [Generation]]) -> impl Fn(usize, &Outcome) -> bool {
    move |_, outcome| expected.contains(&&outcome.history[..])
}

/// Kong held exactly these.
fn exactly(expected: &'static [Generation]) -> impl Fn(usize, &Outcome) -> bool {
    move |_, outcome| outcome.history == expected
}

// --- renewals ------------------------------------------------------------------------------------

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_renewal_is_written_once_however_the_kubelets_take_their_time() {
    Scenario::new("a renewal over 90 s", OLD, |play| play.publish(0, NEW, 90))
        .play(exactly(&[OLD, NEW]))
        .await;
}

/// Nobody waits for others: who looks before the first write is there writes the same once more.
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_renewal_that_comes_to_all_in_one_instant_is_written_by_none_twice() {
    let scenarios: [(_, _, _, fn(&mut Play)); 2] = [
        ("a renewal in one instant", OLD, NEW, |play| play.publish(0, NEW, 0)),
        ("a rollback in one instant", NEW, OLD, |play| play.publish(0, OLD, 0)),
    ];
    for (name, first, next, plan) in scenarios {
        let mut scenario = Scenario::new(name, first, plan);
        scenario.writes = usize::MAX;
        let promised = move |replicas: usize, outcome: &Outcome| {
            outcome.history == [first, next] && outcome.writes.len() <= replicas
        };
        scenario.play(promised).await;
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn of_two_renewals_some_kubelets_skip_the_first() {
    Scenario::new("two renewals, 30 s apart", OLD, |play| {
        play.publish(0, NEW, 90);
        play.publish(30, NEWEST, 90);
    })
    .of_rotations(2)
    .play(one_of(&[&[OLD, NEW, NEWEST], &[OLD, NEWEST]]))
    .await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn sidecars_that_start_again_with_the_old_volume_do_not_bring_it_back() {
    Scenario::new("a renewal, all restart", OLD, |play| {
        play.publish(0, NEW, 90);
        for pod in 0..play.replicas() {
            let at = play.random.u64(1..120);
            play.restart(at, pod);
        }
    })
    .play(exactly(&[OLD, NEW]))
    .await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn new_pods_may_come_with_the_old_one_or_the_new_one() {
    Scenario::new("a renewal, eight new pods", OLD, |play| {
        play.publish(0, NEW, 90);
        for at in [5, 20, 40, 60] {
            play.scale_up(at, OLD, 90);
            play.scale_up(at, NEW, 90);
        }
    })
    .play(exactly(&[OLD, NEW]))
    .await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_pod_whose_kubelet_is_ten_minutes_late_waits_for_it() {
    Scenario::new("a renewal, one kubelet 10 min late", OLD, |play| {
        play.delay(0, 600);
        play.publish(0, NEW, 90);
    })
    .play(exactly(&[OLD, NEW]))
    .await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_file_that_is_broken_at_one_is_no_matter_of_the_others() {
    Scenario::new("a renewal, one file broken", OLD, |play| {
        if play.replicas() > 1 {
            play.break_file(0, 0);
        }
        play.publish(0, NEW, 90);
    })
    .play(exactly(&[OLD, NEW]))
    .await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_old_one_that_expires_meanwhile_changes_nothing() {
    let mut scenario =
        Scenario::new("a renewal, the old one expires", OLD, |play| play.publish(0, NEW, 90));
    scenario.setup.expires[OLD] = START + i64::try_from(BEGINS.as_secs()).unwrap() + 45;
    scenario.play(exactly(&[OLD, NEW])).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn objects_of_others_configured_names_and_several_bindings_are_rotated_alike() {
    let renewal: fn(&mut Play) = |play| play.publish(0, NEW, 90);
    let rollback: fn(&mut Play) = |play| play.publish(0, OLD, 90);
    for (footing, rotations, name) in [
        (Footing::Adopted, 1, ["a renewal, adopted", "a rollback, adopted"]),
        (Footing::Configured, 1, ["a renewal, configured SNIs", "a rollback, configured SNIs"]),
        (Footing::Several, 5, ["a renewal, five bindings", "a rollback, five bindings"]),
    ] {
        for (name, first, plan, promised) in [
            (name[0], OLD, renewal, exactly(&[OLD, NEW])),
            (name[1], NEW, rollback, exactly(&[NEW, OLD])),
        ] {
            let mut scenario = Scenario::new(name, first, plan).of_rotations(rotations);
            scenario.setup.footing = footing;
            scenario.play(promised).await;
        }
    }
}

// --- rollbacks -----------------------------------------------------------------------------------

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_rollback_is_written_once_and_those_behind_wait() {
    Scenario::new("a rollback over 90 s", NEW, |play| play.publish(0, OLD, 90))
        .play(exactly(&[NEW, OLD]))
        .await;
}

/// Kubelets that look at the Secret in their own times are at one in what it had last.
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_rollback_that_is_taken_back_is_two_rotations() {
    Scenario::new("a rollback, taken back after 30 s", NEW, |play| {
        play.publish_in_step(&[(0, OLD), (30, NEW)], 90);
    })
    .of_rotations(2)
    .play(one_of(&[&[NEW, OLD, NEW], &[]]))
    .await;
}

/// Where a kubelet is so far behind that it brings the rollback when others have taken it back already,
/// no sidecar can know which of the two is meant (rule 8). Each follows its file, once.
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_rollback_that_comes_to_some_after_it_was_taken_back_is_followed_once_by_each() {
    let mut scenario = Scenario::new("the same, kubelets at odds", NEW, |play| {
        play.publish(0, OLD, 90);
        play.publish(30, NEW, 90);
    });
    scenario.writes = usize::MAX;
    scenario.play(|_, outcome| outcome.writes.len() <= outcome.swaps).await;
}

/// Only who was there before knows that an older one is meant (rule 11): the rollback comes with the
/// kubelet of the one that was started again.
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_rollback_is_undone_by_one_that_starts_with_the_newer_file_until_that_follows() {
    let mut scenario = Scenario::new("a rollback, one restarts with the newer", NEW, |play| {
        play.delay(0, 80);
        play.publish(0, OLD, 60);
        play.restart(70, 0);
    });
    scenario.writes = 3;
    scenario.play(twice_unless_alone).await;
}

/// Who waits for `HOLD` in vain takes the rollback for another writer's (rule 10).
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_rollback_is_undone_by_one_whose_kubelet_needs_longer_than_the_hold() {
    let mut scenario = Scenario::new("a rollback, one kubelet 10 min late", NEW, |play| {
        play.delay(0, 600);
        play.publish(0, OLD, 90);
    });
    scenario.writes = 3;
    scenario.play(twice_unless_alone).await;
}

fn twice_unless_alone(replicas: usize, outcome: &Outcome) -> bool {
    let expected: &[Generation] = if replicas == 1 { &[NEW, OLD] } else { &[NEW, OLD, NEW, OLD] };
    outcome.history == expected
}

// --- a Kong that fails ---------------------------------------------------------------------------

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_kong_that_fails_meanwhile_is_written_once_when_it_is_back() {
    let scenarios = [
        Scenario::new("a renewal, all Kongs down for 60 s", OLD, |play| {
            play.trouble(5, 60, None, Trouble::Down);
            play.publish(0, NEW, 90);
        }),
        Scenario::new("a renewal, one Kong down for 200 s", OLD, |play| {
            play.trouble(0, 200, Some(0), Trouble::Down);
            play.publish(0, NEW, 90);
        }),
        Scenario::new("a renewal, one Kong slow for 200 s", OLD, |play| {
            play.trouble(0, 200, Some(0), Trouble::Slow);
            play.publish(0, NEW, 90);
        }),
        Scenario::new("a renewal, one Kong mute for 30 s", OLD, |play| {
            play.trouble(0, 30, Some(0), Trouble::Mute);
            play.publish(0, NEW, 20);
        }),
        Scenario::new("a renewal, all Kongs mute for 30 s", OLD, |play| {
            play.trouble(0, 30, None, Trouble::Mute);
            play.publish(0, NEW, 20);
        }),
        Scenario::new("a renewal, no database for 60 s", OLD, |play| {
            play.lose_database(5, 60);
            play.publish(0, NEW, 90);
        }),
    ];
    for scenario in scenarios {
        scenario.play(exactly(&[OLD, NEW])).await;
    }
    Scenario::new("a rollback, all Kongs down for 60 s", NEW, |play| {
        play.trouble(5, 60, None, Trouble::Down);
        play.publish(0, OLD, 90);
    })
    .play(exactly(&[NEW, OLD]))
    .await;
}

/// Calls take seconds: whoever looks before the first write is there writes, too.
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_cluster_that_is_slow_is_written_by_those_who_looked_before_the_first_write() {
    let mut scenario = Scenario::new("a renewal, all Kongs slow for 200 s", OLD, |play| {
        play.trouble(0, 200, None, Trouble::Slow);
        play.publish(0, NEW, 90);
    });
    scenario.writes = 6;
    scenario.play(exactly(&[OLD, NEW])).await;
}

// --- creation, and rest --------------------------------------------------------------------------

#[tokio::test(flavor = "local", start_paused = true)]
async fn replicas_that_create_it_meet_in_one_object() {
    for (name, footing, spread) in [
        ("creation, all at once", Footing::Ours, Duration::ZERO),
        ("creation, one after another", Footing::Ours, Duration::from_secs(90)),
        ("creation of five, all within 0.1 s", Footing::Several, Duration::from_millis(100)),
    ] {
        let mut scenario = Scenario::new(name, OLD, |_| {});
        scenario.setup.footing = footing;
        if footing == Footing::Several {
            scenario = scenario.of_rotations(5);
        }
        for (replicas, seeds) in SIZES {
            let mut outcomes = Vec::new();
            for seed in 0..asked_seeds().unwrap_or(seeds) {
                say(name, replicas, seed);
                let mut play = Play::empty(seed, scenario.setup);
                outcomes.push(play.create(replicas, spread).await);
            }
            scenario.tell(replicas, &outcomes);
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn replicas_at_rest_read_kong_at_each_resync_and_write_nothing_for_a_day() {
    let mut scenario = Scenario::new("a day at rest", OLD, |_| {});
    // The files are not what is looked at here.
    scenario.setup.poll = Duration::from_secs(60 * 60);
    for (replicas, hours) in [(1, 24), (3, 24), (20, 6), (100, 3)] {
        let mut play = Play::begin(replicas, 0, scenario.setup).await;
        let outcome = play.rest(Duration::from_secs(hours * 60 * 60)).await;
        assert!(outcome.writes.is_empty(), "{:?}", outcome.writes);
        // Every 5 min, give or take a tenth.
        let hours = usize::try_from(hours).unwrap();
        let resyncs = 10 * hours * replicas..=14 * hours * replicas;
        assert!(resyncs.contains(&outcome.looks), "{replicas} replicas: {}", outcome.looks);
        scenario.tell(replicas, &[outcome]);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_seed_plays_the_same_each_time() {
    let mut played = Vec::new();
    for _ in 0..3 {
        let mut play = Play::begin(20, 7, Setup::with(NEW)).await;
        play.publish(0, OLD, 90);
        play.publish(30, NEW, 90);
        let outcome = play.run().await;
        played.push((outcome, play.cluster.calls()));
    }
    assert!(played[0] == played[1] && played[0] == played[2], "{played:#?}");
}
