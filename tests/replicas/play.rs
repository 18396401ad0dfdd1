//! Replicas of a gateway on a clock that is the test's: each has a volume that its node's kubelet
//! swaps in its own time, a Kong, and a sidecar.

mod promise;

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use kong_cert_reloader::nginx::Nginx;
use kong_cert_reloader::settings::{CertificateSettings, Settings};
use serde_json::json;
use testkit::{CertifiedPair, Pki, Request, SecretVolume};
use tokio::time::sleep;

use super::cluster::{Cluster, Generation, Node, Trouble, Write};
use super::pod::{Pod, START};

/// When what is played begins: all replicas run by then.
pub(crate) const BEGINS: Duration = Duration::from_secs(400);
/// Within so long they are started before that.
const ROLLOUT: Duration = Duration::from_secs(300);
/// So long is watched afterwards: more than `HOLD`, and than the longest time between two resyncs.
const AFTERWARDS: Duration = Duration::from_secs(400);

/// How the bindings stand in Kong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Footing {
    /// One that was created by a sidecar.
    Ours,
    /// One that someone else made.
    Adopted,
    /// One whose names are configured.
    Configured,
    /// Five that were created by sidecars.
    Several,
}

/// What is in place when a play begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) footing: Footing,
    /// What is in the files and in Kong.
    pub(crate) first: Generation,
    /// When the generations expire.
    pub(crate) expires: [i64; 3],
    /// `POLL_INTERVAL`.
    pub(crate) poll: Duration,
}

impl Setup {
    /// One binding, created by a sidecar, and all as it is by default.
    pub(crate) const fn with(first: Generation) -> Self {
        let expires = [START + 90 * 86_400; 3];
        Self { footing: Footing::Ours, first, expires, poll: Duration::from_secs(30) }
    }
}

/// What happens to one pod, or to Kong.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// kubelet swaps the volume to this version of the Secret, unless it has a later one.
    Swap { pod: usize, version: usize, generation: Generation, is_heard: bool },
    /// The certificate file of the volume is broken.
    Break { pod: usize },
    /// The sidecar is started again, with the volume as it is.
    Restart { pod: usize },
    /// A new pod, with a volume of this generation.
    Join { version: usize, generation: Generation },
    /// A node, or all of them, begin to suffer, or are healed.
    Trouble { pod: Option<usize>, trouble: Option<Trouble> },
    /// The database goes, or comes back.
    Database { is_down: bool },
}

/// A pod with its own Kong.
struct Replica {
    pod: Pod,
    node: Node,
    /// When its sidecar was started last.
    started: Duration,
    /// The version of the Secret that kubelet has, and the generations that it had, with their times.
    version: usize,
    volume: Vec<(Duration, Generation)>,
    /// kubelet needs so long, and not the time of the others.
    lag: Option<Duration>,
    is_broken: bool,
}

/// A play: replicas, what is to happen, and what did.
pub(crate) struct Play {
    pub(crate) cluster: Cluster,
    pub(crate) random: Rng,
    replicas: Vec<Replica>,
    bindings: Vec<(String, Vec<CertifiedPair>)>,
    setup: Setup,
    agenda: BTreeMap<(Duration, usize), Event>,
    events: usize,
    versions: usize,
    /// What is in the Secret.
    secret: Generation,
    swaps: usize,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The generations that Kong held of the first binding, in order.
    pub(crate) history: Vec<Generation>,
    /// All writes.
    pub(crate) writes: Vec<Write>,
    /// How often a kubelet swapped a volume.
    pub(crate) swaps: usize,
    /// How often Kong was read until all were in sync.
    pub(crate) looks: usize,
    /// After how long the last replica was in sync.
    pub(crate) in_sync: Duration,
}

impl Play {
    /// `replicas` that run, and have the same in their files and in Kong.
    pub(crate) async fn begin(replicas: usize, seed: u64, setup: Setup) -> Self {
        let mut play = Self::empty(seed, setup);
        if setup.footing == Footing::Adopted {
            play.give_to_someone();
        }
        for pod in 0..replicas {
            play.join(setup.first).await;
            // The first has written before the others come.
            if pod == 0 {
                sleep(Duration::from_secs(1)).await;
            }
            let rest = ROLLOUT / u32::try_from(replicas).unwrap();
            sleep(rest.mul_f64(play.random.f64())).await;
        }
        sleep(BEGINS.saturating_sub(play.cluster.elapsed())).await;
        play.assert_all_follow_the_secret();
        play
    }

    /// No replica, and an empty database.
    pub(crate) fn empty(seed: u64, setup: Setup) -> Self {
        // What the sidecars draw comes from the seed, too.
        fastrand::seed(seed);
        let cluster = Cluster::new(seed);
        let pki = Pki::at(START);
        let count = if setup.footing == Footing::Several { 5 } else { 1 };
        let names = ["web", "api", "shop", "login", "static"];
        let bindings = names.iter().take(count).map(|name| {
            let generations = [0, 1, 2].map(|generation: usize| {
                let begins = START - 30 * 3600 + 10 * 3600 * i64::try_from(generation).unwrap();
                let leaf = pki.leaf(&[&format!("{name}.test")]);
                let pair = leaf.not_before(begins).not_after(setup.expires[generation]).issue();
                cluster.know(&pair, name, generation);
                pair
            });
            ((*name).to_owned(), generations.into())
        });
        Self {
            bindings: bindings.collect(),
            cluster,
            random: Rng::with_seed(seed),
            replicas: Vec::new(),
            setup,
            agenda: BTreeMap::new(),
            events: 0,
            versions: 0,
            secret: setup.first,
            swaps: 0,
        }
    }

    fn give_to_someone(&self) {
        for (name, generations) in &self.bindings {
            let pair = &generations[self.setup.first];
            let snis = [format!("{name}.test")];
            let body = json!({"cert": pair.chain_pem(), "key": pair.key_pem(), "snis": snis, "tags": ["team:edge"]});
            self.cluster.elsewhere(&Request::json("POST", "/certificates", &body));
        }
    }

    // --- what is to happen -----------------------------------------------------------------------

    /// From `at` on the Secret has this generation, and each kubelet swaps its volume within `spread`:
    /// some before others that have not seen the version before this one. Some events are lost,
    /// unless all swap in one instant. Times are seconds from [`BEGINS`].
    pub(crate) fn publish(&mut self, at: u64, generation: Generation, spread: u64) {
        self.versions += 1;
        self.secret = generation;
        for pod in 0..self.replicas.len() {
            let lag = Duration::from_secs(spread).mul_f64(self.random.f64());
            let lag = self.replicas[pod].lag.unwrap_or(lag);
            self.swap_at(Duration::from_secs(at) + lag, pod, spread == 0);
        }
    }

    /// As [`Self::publish`] for several versions, but each kubelet looks at the Secret every `period`
    /// seconds, and swaps to what is there then.
    pub(crate) fn publish_in_step(&mut self, versions: &[(u64, Generation)], period: u64) {
        let periods = versions.last().unwrap().0 / period + 2;
        let phases: Vec<Duration> = (0..self.replicas.len())
            .map(|_| Duration::from_secs(period).mul_f64(self.random.f64()))
            .collect();
        for (index, (from, generation)) in versions.iter().enumerate() {
            self.versions += 1;
            self.secret = *generation;
            let until = versions.get(index + 1).map_or(u64::MAX, |(until, _)| *until);
            let is_there = |at: &Duration| (*from..until).contains(&at.as_secs());
            for (pod, phase) in phases.iter().enumerate() {
                let looks = (0..periods).map(|turn| *phase + Duration::from_secs(period * turn));
                if let Some(at) = looks.into_iter().find(is_there) {
                    self.swap_at(at, pod, false);
                }
            }
        }
    }

    /// This pod's kubelet swaps to what is in the Secret now.
    fn swap_at(&mut self, at: Duration, pod: usize, is_heard: bool) {
        let (version, generation) = (self.versions, self.secret);
        let is_heard = is_heard || self.random.u8(0..4) > 0;
        self.at(at, Event::Swap { pod, version, generation, is_heard });
    }

    /// kubelet of this pod needs `seconds` for everything.
    pub(crate) fn delay(&mut self, pod: usize, seconds: u64) {
        self.replicas[pod].lag = Some(Duration::from_secs(seconds));
    }

    /// The certificate file of this pod is broken from `at` on.
    pub(crate) fn break_file(&mut self, at: u64, pod: usize) {
        self.at(Duration::from_secs(at), Event::Break { pod });
    }

    /// The sidecar of this pod is started again.
    pub(crate) fn restart(&mut self, at: u64, pod: usize) {
        self.at(Duration::from_secs(at), Event::Restart { pod });
    }

    /// A new pod comes with `generation`; if that is not the Secret's, its kubelet swaps within
    /// `spread`.
    pub(crate) fn scale_up(&mut self, at: u64, generation: Generation, spread: u64) {
        let at = Duration::from_secs(at);
        let is_stale = generation != self.secret;
        let pod = self.replicas.len() + self.joins();
        self.at(at, Event::Join { version: self.versions - usize::from(is_stale), generation });
        if is_stale {
            let lag = Duration::from_secs(spread).mul_f64(self.random.f64());
            self.swap_at(at + lag, pod, false);
        }
    }

    /// A node, or with `None` all of them, suffer from `at` on for `seconds`.
    pub(crate) fn trouble(&mut self, at: u64, seconds: u64, pod: Option<usize>, trouble: Trouble) {
        let at = Duration::from_secs(at);
        self.at(at, Event::Trouble { pod, trouble: Some(trouble) });
        self.at(at + Duration::from_secs(seconds), Event::Trouble { pod, trouble: None });
    }

    /// The database is away from `at` on for `seconds`.
    pub(crate) fn lose_database(&mut self, at: u64, seconds: u64) {
        let at = Duration::from_secs(at);
        self.at(at, Event::Database { is_down: true });
        self.at(at + Duration::from_secs(seconds), Event::Database { is_down: false });
    }

    fn joins(&self) -> usize {
        self.agenda.values().filter(|event| matches!(event, Event::Join { .. })).count()
    }

    fn at(&mut self, after: Duration, event: Event) {
        self.agenda.insert((BEGINS + after, self.events), event);
        self.events += 1;
    }

    pub(crate) fn replicas(&self) -> usize {
        self.replicas.len()
    }

    // --- and what happens ------------------------------------------------------------------------

    /// Plays all that is to happen, and what follows from it.
    pub(crate) async fn run(&mut self) -> Outcome {
        let mut last = BEGINS;
        while let Some(((at, _), event)) = self.agenda.pop_first() {
            sleep(at.saturating_sub(self.cluster.elapsed())).await;
            self.act(event).await;
            last = at;
        }
        sleep((last + AFTERWARDS).saturating_sub(self.cluster.elapsed())).await;
        self.judge(BEGINS, last)
    }

    /// Replicas come within `spread`, and Kong has nothing yet.
    pub(crate) async fn create(&mut self, replicas: usize, spread: Duration) -> Outcome {
        let mut times: Vec<Duration> =
            (0..replicas).map(|_| spread.mul_f64(self.random.f64())).collect();
        times.sort_unstable();
        for at in times {
            sleep(at.saturating_sub(self.cluster.elapsed())).await;
            self.join(self.setup.first).await;
        }
        let last = self.cluster.elapsed();
        sleep(AFTERWARDS).await;
        let objects = self.cluster.count("/certificates");
        assert_eq!((objects, self.cluster.count("/snis")), (self.bindings.len(), objects));
        self.judge(Duration::ZERO, last)
    }

    /// Nothing happens for so long.
    pub(crate) async fn rest(&mut self, duration: Duration) -> Outcome {
        sleep(duration).await;
        let looks = self.cluster.looks(BEGINS, self.cluster.elapsed());
        Outcome { looks, ..self.judge(BEGINS, BEGINS) }
    }

    async fn act(&mut self, event: Event) {
        match event {
            Event::Swap { pod, version, generation, is_heard } => {
                self.swap(pod, version, generation, is_heard);
            }
            Event::Break { pod } => {
                self.replicas[pod].is_broken = true;
                for (name, generations) in &self.bindings {
                    let pod = &self.replicas[pod].pod;
                    let key = generations[0].key_pem();
                    SecretVolume::mount(pod.directory(name))
                        .publish(&[("tls.crt", b"broken"), ("tls.key", key.as_bytes())]);
                    pod.wake_at(name);
                }
            }
            Event::Restart { pod } => {
                self.replicas[pod].pod.stop().await;
                self.start(pod);
            }
            Event::Join { version, generation } => {
                self.join(generation).await;
                self.replicas.last_mut().unwrap().version = version;
            }
            Event::Trouble { pod: Some(pod), trouble } => self.replicas[pod].node.suffer(trouble),
            Event::Trouble { pod: None, trouble } => self.cluster.suffer(trouble),
            Event::Database { is_down } => self.cluster.model().database_down(is_down),
        }
    }

    /// A pod is created with this generation in its volumes.
    pub(crate) async fn join(&mut self, generation: Generation) {
        let number = self.replicas.len();
        let replica = Replica {
            pod: Pod::new(),
            node: self.cluster.node(number),
            started: Duration::ZERO,
            version: 0,
            volume: vec![(self.cluster.elapsed(), generation)],
            lag: None,
            is_broken: false,
        };
        for (name, generations) in &self.bindings {
            replica.pod.publish(name, &generations[generation]);
        }
        self.replicas.push(replica);
        self.start(number);
        tokio::task::yield_now().await;
    }

    fn start(&mut self, pod: usize) {
        let (elapsed, setup) = (self.cluster.elapsed(), self.setup);
        let replica = &mut self.replicas[pod];
        replica.started = elapsed;
        let (wire, handshake) = (replica.node.clone(), replica.node.clone());
        let bindings = &self.bindings;
        replica.pod.start_on(elapsed, wire, handshake, Box::new(Nginx::new(None)), |settings| {
            settings.poll_interval = setup.poll;
            if setup.footing == Footing::Configured {
                configure_names(settings, bindings);
            }
        });
    }

    fn swap(&mut self, pod: usize, version: usize, generation: Generation, is_heard: bool) {
        let replica = &mut self.replicas[pod];
        if version <= replica.version || replica.is_broken {
            return;
        }
        replica.version = version;
        if replica.volume.last().is_some_and(|(_, before)| *before == generation) {
            return;
        }
        replica.volume.push((self.cluster.elapsed(), generation));
        self.swaps += 1;
        for (name, generations) in &self.bindings {
            if is_heard {
                replica.pod.publish(name, &generations[generation]);
            } else {
                replica.pod.publish_unheard(name, &generations[generation]);
            }
        }
    }
}

fn configure_names(settings: &mut Settings, bindings: &[(String, Vec<CertifiedPair>)]) {
    for (name, _) in bindings {
        let snis = [format!("{name}.test"), format!("www.{name}.test")];
        let snis = snis.iter().map(|sni| sni.parse().unwrap()).collect();
        let certificate =
            CertificateSettings { snis: Some(snis), ..CertificateSettings::default() };
        settings.certificates.insert(name.parse().unwrap(), certificate);
    }
}
