//! A wall clock that is set, ahead and back: certificates count by it, all waiting goes by another.

use std::time::Duration;

use kong_cert_reloader::status::State;
use testkit::{CertifiedPair, Request};
use tokio::time::{advance, sleep};

use super::kong::{KongInProcess, ONE_WAY};
use super::log::Log;
use super::pod::{Pod, START, assert_within};
use super::stage::Stage;
use super::table::Table;

const HOUR: i64 = 60 * 60;
const YEAR: i64 = 365 * 24 * HOUR;
/// 1969, where Unix time is below zero.
const BEFORE_UNIX: i64 = -START - HOUR;

/// How far the clock is set ahead, and where a bundle stands then that is valid now.
const JUMPS: [(i64, State); 5] = [
    (HOUR, State::InSync),
    (-HOUR, State::InSync),
    (YEAR, State::Invalid),
    (-YEAR, State::NotYetValid),
    (BEFORE_UNIX, State::NotYetValid),
];

/// `POLL_INTERVAL`, and what a pass takes.
const NEXT_POLL: Duration = Duration::from_millis(30_100);
/// `RESYNC_INTERVAL` with its jitter, and what a pass takes.
const NEXT_RESYNC: Duration = Duration::from_secs(331);
const HOLD: Duration = Duration::from_secs(300);

/// A sidecar beside a Kong that others use.
struct Scene {
    stage: Stage,
    kong: KongInProcess,
    pod: Pod,
    log: Log,
}

impl Scene {
    fn new() -> Self {
        let log = Log::listen();
        let kong = KongInProcess::new();
        let mut stage = Stage::at(START);
        stage.furnish(&mut kong.model());
        Self { stage, kong, pod: Pod::new(), log }
    }

    /// Kong serves this bundle.
    async fn serving(&mut self, hours: i64) -> CertifiedPair {
        let pair = self.stage.bundle(&["a.test"], hours);
        self.pod.publish("web", &pair);
        self.pod.start(&self.kong);
        self.pod.until_in_sync_with(&pair).await;
        sleep(Duration::from_secs(1)).await;
        pair
    }

    /// The clock is right again: what is in the files is served at the next poll.
    async fn set_right(&self, newest: &CertifiedPair) {
        self.pod.set_clock(0);
        let since = self.kong.elapsed();
        self.pod.until_in_sync_with(newest).await;
        assert_within(self.kong.elapsed() - since, Duration::ZERO, NEXT_POLL);
        sleep(2 * NEXT_RESYNC).await;
    }

    /// What does not hold if Kong was to be given these, one after the other.
    fn flaws(&self, given: &[&CertifiedPair]) -> Vec<String> {
        let said = [self.pod.said(), self.log.said()].join("\n");
        let newest = given[given.len() - 1];
        let mut flaws = self.stage.flaws(&mut self.kong.model(), &[("a.test", newest)], 1, &said);
        let leaves: Vec<_> = given.iter().map(|pair| pair.leaf_der().to_vec()).collect();
        if self.kong.history() != leaves {
            flaws.push(format!("Kong had {} bundles in turn", self.kong.history().len()));
        }
        flaws
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_clock_that_is_wrong_for_hours_withdraws_nothing_and_writes_nothing() {
    let mut table = Table::default();
    for (ahead, state) in JUMPS {
        let mut scene = Scene::new();
        let pair = scene.serving(48).await;
        scene.pod.set_clock(ahead);
        sleep(NEXT_RESYNC).await;
        let mut flaws = Vec::new();
        if scene.pod.web().0 != state {
            flaws.push(format!("it is {:?}", scene.pod.web()));
        }
        sleep(Duration::from_secs(3 * 60 * 60)).await;
        flaws.extend(scene.flaws(&[&pair]));
        scene.set_right(&pair).await;
        flaws.extend(scene.flaws(&[&pair]));
        assert_eq!(scene.kong.model().writes(), 1);
        table.note(ahead, flaws);
    }
    table.assert_holds(JUMPS.len());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_renewal_while_the_clock_is_wrong_is_served_when_it_is_servable_by_it_or_the_clock_is_right()
 {
    let mut table = Table::default();
    for (ahead, state) in JUMPS {
        let mut scene = Scene::new();
        let first = scene.serving(48).await;
        let second = scene.stage.bundle(&["a.test"], 24);
        scene.pod.set_clock(ahead);
        scene.pod.publish("web", &second);
        sleep(NEXT_RESYNC).await;
        let mut flaws = Vec::new();
        if scene.pod.web().0 != state {
            flaws.push(format!("it is {:?}", scene.pod.web()));
        }
        let both = [&first, &second];
        let given = if state == State::InSync { &both[..] } else { &both[..1] };
        flaws.extend(scene.flaws(given));
        scene.set_right(&second).await;
        flaws.extend(scene.flaws(&[&first, &second]));
        assert_eq!(scene.kong.model().writes(), 2);
        table.note(ahead, flaws);
    }
    table.assert_holds(JUMPS.len());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_clock_that_is_set_between_look_and_write_costs_no_second_write() {
    let mut table = Table::default();
    for (ahead, _) in JUMPS {
        let mut scene = Scene::new();
        let first = scene.serving(48).await;
        let second = scene.stage.bundle(&["a.test"], 24);
        let (asked, written) = (scene.kong.times_of("GET").len(), scene.kong.model().writes());
        scene.pod.publish("web", &second);
        while scene.kong.times_of("GET").len() == asked {
            tokio::task::yield_now().await;
        }
        advance(ONE_WAY / 2).await;
        scene.pod.set_clock(ahead);
        assert_eq!(scene.kong.model().writes(), written);
        sleep(NEXT_RESYNC).await;
        let mut flaws = scene.flaws(&[&first, &second]);
        scene.set_right(&second).await;
        flaws.extend(scene.flaws(&[&first, &second]));
        assert_eq!(scene.kong.model().writes(), 2);
        table.note(ahead, flaws);
    }
    table.assert_holds(JUMPS.len());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_hold_lasts_as_long_whatever_the_clock_says() {
    let mut table = Table::default();
    for (ahead, _) in JUMPS {
        let mut scene = Scene::new();
        let older = scene.stage.bundle(&["a.test"], 72);
        let ours = scene.serving(48).await;
        let body = serde_json::json!({ "cert": older.chain_pem(), "key": older.key_pem() });
        scene.kong.elsewhere(&Request::json("PATCH", "/certificates/a.test", &body));
        scene.pod.until_state(State::Held).await;
        let held = scene.kong.elapsed();
        sleep(Duration::from_secs(50)).await;
        scene.pod.set_clock(ahead);
        sleep(Duration::from_secs(150)).await;
        let mut flaws = scene.flaws(&[&ours, &older]);
        scene.pod.set_clock(0);
        scene.pod.until_in_sync_with(&ours).await;
        assert_within(scene.kong.elapsed() - held, HOLD, HOLD + NEXT_POLL);
        sleep(2 * NEXT_RESYNC).await;
        flaws.extend(scene.flaws(&[&ours, &older, &ours]));
        table.note(ahead, flaws);
    }
    table.assert_holds(JUMPS.len());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_certificate_of_the_future_is_served_when_the_clock_says_so_however_it_got_there() {
    // It begins in three hours. After one hour the clock is set, and in some cases set right two
    // hours later. In how many hours from the beginning is it served?
    let cases = [
        (2 * HOUR, false, 1),
        (HOUR, false, 2),
        (-HOUR, false, 4),
        (20 * 24 * HOUR, false, 1),
        (-YEAR, true, 3),
        (BEFORE_UNIX, true, 3),
    ];
    let hours = |hours: u64| Duration::from_secs(hours * 60 * 60);
    let mut table = Table::default();
    for (ahead, is_set_right, due) in cases {
        let mut scene = Scene::new();
        let early = scene.stage.bundle(&["a.test"], -3);
        scene.pod.publish("web", &early);
        scene.pod.start(&scene.kong);
        scene.pod.until_state(State::NotYetValid).await;
        sleep(hours(1)).await;
        scene.pod.set_clock(ahead);
        if is_set_right {
            sleep(hours(2)).await;
            assert_eq!(scene.pod.web().0, State::NotYetValid);
            scene.pod.set_clock(0);
        }
        scene.pod.until_in_sync_with(&early).await;
        // The wall clock counts whole seconds here.
        let latest = hours(due) + NEXT_POLL + Duration::from_secs(1);
        assert_within(scene.kong.elapsed(), hours(due), latest);
        scene.pod.set_clock(0);
        sleep(2 * NEXT_RESYNC).await;
        table.note(ahead, scene.flaws(&[&early]));
        assert_eq!(scene.kong.model().writes(), 1);
    }
    table.assert_holds(cases.len());
}
