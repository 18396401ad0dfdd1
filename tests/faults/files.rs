//! A sidecar whose files cannot be read, or vanish: Kong keeps the last bundle meanwhile, and gets the
//! newest afterwards.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kong_cert_reloader::bundle::LeafDigest;
use kong_cert_reloader::status::{BindingStatus, State};
use rustix::io::Errno;
use testkit::{CertifiedPair, SecretVolume};
use tokio::time::sleep;

use super::disk::{Call, Disk};
use super::kong::KongInProcess;
use super::log::Log;
use super::pod::{Pod, START, assert_within};
use super::stage::Stage;
use super::table::Table;

/// `POLL_INTERVAL`, and what a pass takes.
const NEXT_POLL: Duration = Duration::from_millis(30_100);

/// A sidecar beside a Kong that others use, on a disk that fails as it is told to. Kong serves the
/// first bundle.
struct Scene {
    stage: Stage,
    kong: KongInProcess,
    disk: Arc<Disk>,
    pod: Pod,
    first: CertifiedPair,
    log: Log,
}

impl Scene {
    async fn new() -> Self {
        Self::beside(KongInProcess::new()).await
    }

    async fn beside(kong: KongInProcess) -> Self {
        let log = Log::listen();
        let mut stage = Stage::at(START);
        stage.furnish(&mut kong.model());
        let disk = Arc::new(Disk::with(|_| Ok(usize::MAX)));
        let mut pod = Pod::new();
        pod.read_by(Arc::clone(&disk) as Arc<_>);
        let first = stage.bundle(&["a.test"], 100);
        pod.publish("web", &first);
        pod.start(&kong);
        pod.until_in_sync_with(&first).await;
        // What follows the first write, a proof and the like, is over.
        sleep(Duration::from_secs(1)).await;
        Self { stage, kong, disk, pod, first, log }
    }

    fn volume(&self) -> SecretVolume {
        SecretVolume::mount(self.pod.directory("web"))
    }

    fn said(&self) -> String {
        [self.pod.said(), self.log.said()].join("\n")
    }

    /// What does not hold when `newest` should be served, and was written in so many writes.
    fn flaws(&self, newest: &CertifiedPair, writes: &[&CertifiedPair]) -> Vec<String> {
        let newest = [("a.test", newest)];
        let mut flaws = self.stage.flaws(&mut self.kong.model(), &newest, 1, &self.said());
        let leaves: Vec<_> = writes.iter().map(|pair| pair.leaf_der().to_vec()).collect();
        if self.kong.history() != leaves {
            flaws.push(format!("Kong had {} bundles in turn", self.kong.history().len()));
        }
        if self.kong.model().writes() != writes.len() as u64 {
            flaws.push(format!("{} writes", self.kong.model().writes()));
        }
        flaws
    }
}

fn publish(volume: &SecretVolume, pair: &CertifiedPair) {
    volume.publish_pair(pair);
}

/// Each call of this kind fails.
fn failing(kind: Call, error: Errno) -> impl FnMut(Call) -> io::Result<usize> + Send {
    move |call| if call == kind { Err(error.into()) } else { Ok(usize::MAX) }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn while_files_cannot_be_read_kong_keeps_the_last_bundle_and_the_reason_is_told() {
    let cases = [
        (Call::ReadLink, Errno::IO, "io_error", "..data"),
        (Call::ReadLink, Errno::ACCESS, "permission_denied", "..data"),
        (Call::LinkMetadata, Errno::STALE, "io_error", "tls.crt"),
        (Call::LinkMetadata, Errno::NOENT, "missing", "tls.crt"),
        (Call::LinkMetadata, Errno::ACCESS, "permission_denied", "tls.crt"),
        (Call::Open, Errno::IO, "io_error", "tls.crt"),
        (Call::Open, Errno::ACCESS, "permission_denied", "tls.crt"),
        (Call::Open, Errno::MFILE, "io_error", "tls.crt"),
        (Call::MetadataOf, Errno::STALE, "io_error", "tls.crt"),
        (Call::Read, Errno::IO, "io_error", "tls.crt"),
    ];
    let mut table = Table::default();
    for (call, error, reason, file) in cases {
        for begins_anew in [false, true] {
            let mut scene = Scene::new().await;
            let [second, third] = [24, 12].map(|hours| scene.stage.bundle(&["a.test"], hours));
            if begins_anew {
                scene.pod.stop().await;
            }
            scene.disk.begin(failing(call, error));
            scene.pod.publish("web", &second);
            if begins_anew {
                scene.pod.start(&scene.kong);
            }
            let told = scene.pod.until_state(State::Invalid).await.message.unwrap();
            let mut flaws = Vec::new();
            if scene.pod.web().1 != reason || !told.contains(file) {
                flaws.push(format!("{:?}: {told}", scene.pod.web()));
            }
            sleep(Duration::from_secs(600)).await;
            scene.pod.publish("web", &third);
            sleep(Duration::from_secs(600)).await;
            flaws.extend(scene.flaws(&scene.first, &[&scene.first]));
            scene.disk.heal();
            let over = scene.kong.elapsed();
            scene.pod.until_in_sync_with(&third).await;
            assert_within(scene.kong.elapsed() - over, Duration::ZERO, NEXT_POLL);
            sleep(Duration::from_secs(600)).await;
            flaws.extend(scene.flaws(&third, &[&scene.first, &third]));
            table.note(format!("{error} at {call:?}, begins anew: {begins_anew}"), flaws);
        }
    }
    table.assert_holds(2 * cases.len());
}

/// What happens at one call of a look at a renewal.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Fails(Errno),
    /// kubelet publishes the next generation and removes this one; nobody hears of it.
    Swapped,
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn whatever_happens_at_any_call_of_a_look_the_newest_is_served_by_the_next_poll() {
    let faults = [Errno::IO, Errno::NOENT, Errno::ACCESS].map(Happens::Fails);
    let (mut table, mut cases) = (Table::default(), 0);
    for fault in faults.into_iter().chain([Happens::Swapped]) {
        // Until no call has that number.
        for number in 1.. {
            let mut scene = Scene::new().await;
            let [second, third] = [24, 12].map(|hours| scene.stage.bundle(&["a.test"], hours));
            let calls = Arc::new(AtomicUsize::new(0));
            let (counted, volume, next) = (Arc::clone(&calls), scene.volume(), third.clone());
            scene.disk.begin(move |_| {
                let is_it = counted.fetch_add(1, Ordering::Relaxed) + 1 == number;
                match fault {
                    Happens::Fails(error) if is_it => return Err(error.into()),
                    Happens::Swapped if is_it => publish(&volume, &next),
                    _ => {}
                }
                Ok(usize::MAX)
            });
            scene.pod.publish("web", &second);
            sleep(NEXT_POLL).await;
            if calls.load(Ordering::Relaxed) < number {
                break;
            }
            let flaws = match fault {
                Happens::Fails(_) => scene.flaws(&second, &[&scene.first, &second]),
                // It may have been read before.
                Happens::Swapped => {
                    let is_between = scene.kong.history().len() > 2;
                    let between = [&scene.first, &second, &third];
                    let at_once = [&scene.first, &third];
                    scene.flaws(&third, if is_between { &between } else { &at_once })
                }
            };
            table.note(format!("{fault:?} at call {number}"), flaws);
            cases += 1;
        }
    }
    table.assert_holds(cases);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn without_a_database_whatever_call_fails_neither_of_two_bundles_is_withdrawn() {
    let (mut table, mut cases) = (Table::default(), 0);
    // Until no call has that number.
    for number in 1.. {
        let kong = KongInProcess::new();
        kong.model().dbless(true);
        let mut scene = Scene::beside(kong).await;
        let [web, api, next] = [("a", 24), ("b", 100), ("b", 24)]
            .map(|(name, hours)| scene.stage.bundle(&[&format!("{name}.test")], hours));
        let is_in_sync = |pair: &CertifiedPair| {
            let leaf = LeafDigest::of(pair.leaf_der());
            move |shown: &BindingStatus| {
                let held = shown.kong.as_ref();
                shown.state == State::InSync
                    && held.is_some_and(|held| held.leaf_sha256.contains(&leaf))
            }
        };
        scene.pod.publish("api", &api);
        scene.pod.wake_at("");
        scene.pod.until_named("api", is_in_sync(&api)).await;
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        scene.disk.begin(move |_| {
            let is_it = counted.fetch_add(1, Ordering::Relaxed) + 1 == number;
            if is_it { Err(Errno::IO.into()) } else { Ok(usize::MAX) }
        });
        scene.pod.publish("web", &web);
        scene.pod.publish("api", &next);
        sleep(NEXT_POLL).await;
        if calls.load(Ordering::Relaxed) < number {
            break;
        }
        let newest = [("a.test", &web), ("b.test", &next)];
        let mut flaws = scene.stage.flaws(&mut scene.kong.model(), &newest, 1, &scene.said());
        if scene.kong.history() != [scene.first.leaf_der(), web.leaf_der()] {
            flaws.push(format!("Kong had {} bundles in turn", scene.kong.history().len()));
        }
        table.note(format!("call {number}"), flaws);
        cases += 1;
    }
    table.assert_holds(cases);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn of_a_secret_that_changes_every_second_nothing_is_served_that_is_older_than_seven_seconds()
{
    let mut scene = Scene::new().await;
    let mut published = vec![scene.first.clone()];
    for second in 1..=60 {
        let next = scene.stage.bundle(&["a.test"], 100 - second);
        scene.pod.publish("web", &next);
        published.push(next);
        sleep(Duration::from_secs(1)).await;
        let served = scene.kong.history().pop().unwrap();
        let served = published.iter().rposition(|pair| pair.leaf_der() == served).unwrap();
        // The first ten at once, and then one every 6 s.
        let behind = published.len() - 1 - served;
        assert!(behind <= if second < 10 { 0 } else { 6 }, "{behind} s behind at {second} s");
    }
    let last = &published[60];
    scene.pod.until_in_sync_with(last).await;
    let written: Vec<usize> = scene
        .kong
        .history()
        .iter()
        .filter_map(|leaf| published.iter().position(|pair| pair.leaf_der() == leaf))
        .collect();
    println!("of 60 generations in 60 s these were written: {written:?}");
    assert!(written.is_sorted(), "{written:?}");
    assert_within(written.len(), 10, 1 + 10 + 60 / 6);
    let given: Vec<&CertifiedPair> = written.iter().map(|index| &published[*index]).collect();
    assert_eq!(scene.flaws(last, &given), [""; 0]);
}
