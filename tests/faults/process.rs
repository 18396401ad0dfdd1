//! The program itself, as a process beside a Kong with sockets: what comes over the wire, and SIGTERM,
//! SIGKILL and start at every stage.

use std::fmt::{self, Display};
use std::future::Future;
use std::time::{Duration, SystemTime};

use futures_util::stream::{self, StreamExt as _};
use kong_cert_reloader::clock::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::kong_model::{Effect, Offers};
use testkit::{
    CertifiedPair, Fault, KongModel, KongStandIn, SecretVolume, SidecarProcess, TlsClient,
};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

use super::stage::Stage;
use super::table::Table;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kong-cert-reloader");
const NAME: &str = "a.test";
/// So many pods live at a time.
const AT_A_TIME: usize = 6;
/// Longer than any process waits for a Kong in these cases.
const NEVER: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(5);

/// What Kong is to the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    Ours,
    Adopted,
    Dbless,
}

/// A Kong, a volume, and what others have in Kong.
struct Pod {
    kong: KongStandIn,
    stage: Stage,
    bundles: Vec<CertifiedPair>,
    certs: TempDir,
    said: String,
}

impl Pod {
    async fn new(home: Home) -> Self {
        let mut stage = Stage::at(Timestamp::from(SystemTime::now()).0);
        let bundles: Vec<_> = (1..=6).rev().map(|hours| stage.bundle(&[NAME], hours * 5)).collect();
        let mut model = KongModel::new();
        model.dbless(home == Home::Dbless);
        // What is not served is waited for less long.
        model.set_db_update(0.1, 0);
        if home == Home::Adopted {
            stage.offer(NAME, &bundles[0]);
        }
        stage.furnish(&mut model);
        let (kong, certs) = (KongStandIn::start_with(model).await, tempfile::tempdir().unwrap());
        Self { kong, stage, bundles, certs, said: String::new() }
    }

    fn publish(&self, generation: usize) {
        let pair = &self.bundles[generation];
        SecretVolume::mount(self.certs.path().join("web")).publish_pair(pair);
    }

    async fn sidecar(&self) -> SidecarProcess {
        let settings = [
            ("ADMIN__URL", &*self.kong.admin_url()),
            ("CERTS_DIR", self.certs.path().to_str().unwrap()),
            ("LOG__LEVEL", "trace"),
        ];
        SidecarProcess::start(PROGRAM, &settings).await
    }

    /// It goes on with what it has in mind.
    fn node_misses_next_write(&self) {
        let mut model = self.kong.model();
        model.chain_for(Some(NAME), Offers::ALL);
        model.miss_changes(1);
    }

    fn has_announced(&self) -> bool {
        self.kong.model().requests().iter().any(|seen| seen.effect == Effect::Same)
    }

    fn writes(&self) -> u64 {
        self.kong.model().writes()
    }

    /// Waits until the sidecar says that it is done; what it says.
    async fn in_sync(&self, sidecar: &SidecarProcess, generation: usize) {
        let leaf = self.bundles[generation].leaf_fingerprint();
        let is_so =
            |web: &Value| web["state"] == "in_sync" && web["kong"]["leaf_sha256"] == json!([leaf]);
        sidecar.until("web", is_so).await;
    }

    /// All that a process said.
    async fn listen(&mut self, sidecar: &SidecarProcess) {
        for path in ["/status", "/metrics", "/"] {
            self.said += &sidecar.page(path).await.1;
        }
        self.said += &sidecar.lines().join("\n");
    }

    /// What does not hold; so many writes may have put what Kong held already until now.
    async fn flaws(&self, generation: usize, redundant: usize) -> Vec<String> {
        let newest = &self.bundles[generation];
        let mut flaws =
            self.stage.flaws(&mut self.kong.model(), &[(NAME, newest)], redundant, &self.said);
        let shown = TlsClient::new().sni(NAME).chain(self.kong.proxy_addr()).await;
        if shown.ok().as_deref() != Some(newest.chain_ders()) {
            flaws.push("a handshake shows something else".to_owned());
        }
        flaws
    }
}

/// Waits until it is so.
async fn until(mut is_so: impl FnMut() -> bool) {
    let so = async {
        while !is_so() {
            sleep(TICK).await;
        }
    };
    timeout(PATIENCE, so).await.expect("it comes about");
}

/// Plays the cases, some at a time; each tells what did not hold.
async fn play<C: Copy + Display, P: Future<Output = Vec<String>> + 'static>(
    cases: Vec<C>,
    play: impl Fn(C) -> P,
) {
    let (mut table, all) = (Table::default(), cases.len());
    let play = |case| {
        let played = play(case);
        async move { (case, spawn_local(played).await) }
    };
    let local = LocalSet::new();
    let mut played = stream::iter(cases).map(play).buffer_unordered(AT_A_TIME);
    while let Some((case, flaws)) = local.run_until(played.next()).await {
        table.note(case, flaws.unwrap_or_else(|panicked| vec![panicked.to_string()]));
    }
    table.assert_holds(all);
}

// --- what comes over the wire --------------------------------------------------------------------

/// What Kong's port answers, or something in its place.
#[derive(Clone, Copy, Debug)]
enum Answers {
    Status(u16),
    RetryAtOnce(u16),
    Html,
    Redirect,
    OtherBody,
    EmptyBody,
    HugeBody,
    /// Of the length that was announced.
    HalfBody,
    /// As if it were all.
    HalfJson,
    Reset,
    ResetApplied,
    Slow,
}

impl Answers {
    /// Kong does it, and the sidecar does not hear of it.
    const fn is_done_unheard(self) -> bool {
        matches!(self, Self::HalfBody | Self::HalfJson | Self::ResetApplied)
    }

    fn fault(self) -> Fault {
        match self {
            Self::Status(status) => Fault::status(status),
            Self::RetryAtOnce(status) => Fault::status_retry_after(status, "0"),
            Self::Html => Fault::html(),
            Self::Redirect => Fault::redirect("http://127.0.0.1:9/"),
            Self::OtherBody => Fault::other_json(&json!({ "hello": "world" })),
            Self::EmptyBody => Fault::nothing(),
            Self::HugeBody => Fault::huge(),
            Self::HalfBody => Fault::cut_short(),
            Self::HalfJson => Fault::cut_json(),
            Self::Reset => Fault::reset_before(),
            Self::ResetApplied => Fault::reset_after(),
            Self::Slow => Fault::slow(TICK * 20, TICK * 20),
        }
    }
}

const ANSWERS: [Answers; 17] = [
    Answers::Slow,
    Answers::Status(408),
    Answers::RetryAtOnce(429),
    Answers::Status(500),
    Answers::Status(502),
    Answers::RetryAtOnce(503),
    Answers::Status(504),
    Answers::Status(401),
    Answers::Html,
    Answers::Redirect,
    Answers::OtherBody,
    Answers::EmptyBody,
    Answers::HugeBody,
    Answers::HalfBody,
    Answers::HalfJson,
    Answers::Reset,
    Answers::ResetApplied,
];

#[derive(Clone, Copy)]
struct OverTheWire(Home, Answers);

impl Display for OverTheWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {:?}", self.1, self.0)
    }
}

/// Why there is no such case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Never {
    /// Kong may go on with a configuration after its gateway gave up: it is watched for as long as
    /// that could take, twice as long each time. `outages` plays it, on a paused clock.
    TakesLong,
}

impl OverTheWire {
    const fn never(self) -> Option<Never> {
        match self {
            Self(Home::Dbless, Answers::Status(504)) => Some(Never::TakesLong),
            _ => None,
        }
    }

    /// One sidecar meets the same fault at each moment, one after the other.
    async fn flaws(self) -> Vec<String> {
        let Self(home, answers) = self;
        // Once more than a call is made again at once.
        let twice = || answers.fault().times(2);
        let mut pod = Pod::new(home).await;
        let mut flaws = Vec::new();
        let first = usize::from(home == Home::Adopted);
        let unheard = usize::from(answers.is_done_unheard());
        pod.kong.inject(twice().only("GET"));
        pod.kong.inject(twice().only_writes());
        pod.publish(first);
        let mut sidecar = pod.sidecar().await;
        pod.in_sync(&sidecar, first).await;
        flaws.extend(pod.flaws_at("the start", first, unheard).await);
        pod.stage.share(&mut pod.kong.model(), NAME, "by-hand");

        let moments = [
            ("a look", twice().only("GET"), unheard),
            ("a write", twice().only_writes(), 2 * unheard),
        ];
        for ((when, fault, redundant), generation) in moments.into_iter().zip(first + 1..) {
            pod.kong.inject(fault);
            pod.publish(generation);
            pod.in_sync(&sidecar, generation).await;
            flaws.extend(pod.flaws_at(when, generation, redundant).await);
        }

        let last = first + 3;
        pod.kong.stop().await;
        pod.publish(last);
        sidecar.until_state("web", "unreachable").await;
        pod.kong.inject(twice());
        pod.kong.restart().await;
        pod.in_sync(&sidecar, last).await;
        pod.listen(&sidecar).await;
        assert!(sidecar.terminate().await.success());
        flaws.extend(pod.flaws_at("the end of an outage", last, 2 * unheard).await);
        flaws
    }
}

impl Pod {
    /// What does not hold after a moment; see [`Self::flaws`].
    async fn flaws_at(&self, when: &str, generation: usize, redundant: usize) -> Vec<String> {
        let mut flaws = self.flaws(generation, redundant).await;
        if self.kong.faults_left().iter().any(|left| *left > 1) {
            flaws.push("a fault did not happen".to_owned());
        }
        self.kong.clear_faults();
        flaws.into_iter().map(|flaw| format!("{when}: {flaw}")).collect()
    }
}

#[tokio::test]
async fn whatever_comes_over_the_wire_it_recovers() {
    let homes = [Home::Ours, Home::Adopted, Home::Dbless].into_iter();
    let cases = homes.flat_map(|home| ANSWERS.map(|answers| OverTheWire(home, answers)));
    let cases = cases.filter(|case| case.never().is_none());
    play(cases.collect(), OverTheWire::flaws).await;
}

// --- signals -------------------------------------------------------------------------------------

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Term,
    Kill,
}

/// How far it had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    /// Nobody listens yet.
    NoKong,
    /// Kong was asked, and has not answered.
    Asked,
    /// Kong has what is to be written, and has not done it.
    Sent,
    /// Kong has written it, and has not answered.
    Written,
    /// A handshake was begun.
    Proof,
    /// The node did not hear of the write, and is told again.
    Announcement,
    Idle,
}

#[derive(Clone, Copy)]
struct Signal {
    home: Home,
    is_renewal: bool,
    point: Point,
    end: End,
}

impl Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = if self.is_renewal { "renewal" } else { "first write" };
        write!(f, "{:?} at {:?} of the {when}, {:?}", self.end, self.point, self.home)
    }
}

impl Signal {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for home in [Home::Ours, Home::Adopted, Home::Dbless] {
            for is_renewal in [false, true] {
                for point in [
                    Point::NoKong,
                    Point::Asked,
                    Point::Sent,
                    Point::Written,
                    Point::Proof,
                    Point::Announcement,
                    Point::Idle,
                ] {
                    // Without a database there are no other nodes.
                    if home == Home::Dbless && point == Point::Announcement {
                        continue;
                    }
                    all.extend([End::Term, End::Kill].map(|end| Self {
                        home,
                        is_renewal,
                        point,
                        end,
                    }));
                }
            }
        }
        all
    }

    async fn flaws(self) -> Vec<String> {
        let Self { home, is_renewal, point, end } = self;
        let mut pod = Pod::new(home).await;
        let mut running = None;
        if is_renewal {
            pod.publish(0);
            let sidecar = pod.sidecar().await;
            pod.in_sync(&sidecar, 0).await;
            pod.stage.share(&mut pod.kong.model(), NAME, "by-hand");
            running = Some(sidecar);
        }
        let (writes, handshakes) = (pod.writes(), pod.kong.handshakes().len());
        match point {
            Point::NoKong => pod.kong.stop().await,
            Point::Asked => pod.kong.inject(Fault::slow(NEVER, Duration::ZERO).only("GET")),
            Point::Sent => pod.kong.inject(Fault::slow(TICK * 80, Duration::ZERO).only_writes()),
            Point::Written => pod.kong.inject(Fault::slow(Duration::ZERO, NEVER).only_writes()),
            Point::Proof => pod.kong.proxy_is_silent(true),
            Point::Announcement => pod.node_misses_next_write(),
            Point::Idle => {}
        }
        pod.publish(1);
        let mut sidecar = match running {
            Some(running) => running,
            None => pod.sidecar().await,
        };
        match point {
            Point::NoKong => drop(sidecar.until_state("web", "unreachable").await),
            Point::Asked | Point::Sent => until(|| pod.kong.faults_left() == [0]).await,
            Point::Written => until(|| pod.writes() > writes).await,
            Point::Proof => {
                until(|| pod.writes() > writes && pod.kong.handshakes().len() > handshakes).await;
            }
            Point::Announcement => until(|| pod.has_announced()).await,
            Point::Idle => pod.in_sync(&sidecar, 1).await,
        }
        let mut flaws = Vec::new();
        match end {
            End::Term if !sidecar.terminate().await.success() => {
                flaws.push("it did not end well".to_owned());
            }
            End::Term => {}
            End::Kill => sidecar.kill().await,
        }
        pod.said += &sidecar.lines().join("\n");
        if point == Point::Sent {
            // It lands, whoever is there to hear of it.
            until(|| pod.writes() > writes).await;
        }
        pod.kong.proxy_is_silent(false);
        pod.kong.restart().await;
        let mut sidecar = pod.sidecar().await;
        pod.in_sync(&sidecar, 1).await;
        pod.listen(&sidecar).await;
        let redundant = match point {
            // A write may have been done unheard.
            Point::Sent | Point::Written => 1,
            // Two faults: the node missed it, and who told it again was ended.
            Point::Announcement => 2,
            _ => 0,
        };
        flaws.extend(pod.flaws(1, redundant).await);
        // It is as alive as any.
        pod.publish(2);
        pod.in_sync(&sidecar, 2).await;
        let next = pod.flaws(2, redundant).await;
        flaws.extend(next.into_iter().map(|flaw| format!("next: {flaw}")));
        assert!(sidecar.terminate().await.success());
        flaws
    }
}

#[tokio::test]
async fn wherever_it_is_ended_the_next_one_goes_on() {
    play(Signal::all(), Signal::flaws).await;
}
