//! A cluster of Kong without sockets: one database, and in each pod a node with a cache of its own,
//! which hears of what others wrote within `db_update_frequency`. Who wrote what, and what he had
//! seen before, is recorded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use kong_cert_reloader::bundle::{KeyType, ServedChain};
use kong_cert_reloader::kong::{Answer, Call, Lost, Wire};
use kong_cert_reloader::proof::{Handshake, ProxyPort, Unseen};
use kong_cert_reloader::quote::Quoted;
use serde_json::Value;
use testkit::kong_model::Neighbour;
use testkit::{CertifiedPair, KongModel, Request};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::kong::{offers, received, request, shown};
use super::pod::START;

/// How often a node asks what others wrote: Kong's default.
const UPDATE_FREQUENCY: Duration = Duration::from_secs(5);
/// `ADMIN__TIMEOUT`.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a binding has: which of its generations, by `notBefore`.
pub(crate) type Generation = usize;

/// What a node, or all of them, suffer from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nobody listens.
    Down,
    /// A call takes seconds.
    Slow,
    /// What is sent is done, and not answered in time.
    Mute,
}

/// A write that reached Kong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    /// When, from the beginning.
    pub(crate) at: Duration,
    /// Which pod's sidecar.
    pub(crate) by: usize,
    pub(crate) path: String,
    pub(crate) status: u16,
    /// Binding and generation that were there, and are there now; `None` where that is no certificate.
    pub(crate) from: Option<(String, Generation)>,
    pub(crate) to: Option<(String, Generation)>,
    /// It changed nothing but the time of the last change.
    pub(crate) is_same: bool,
    /// The writer's last look had shown what was there.
    pub(crate) was_seen: bool,
}

impl Write {
    /// Whether it replaced a generation by another one, or nothing by one.
    pub(crate) fn changes(&self) -> bool {
        self.from != self.to
    }
}

/// The database, and what happened to it. Clones are the same.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<Shared>);

struct Shared {
    began: Instant,
    model: Mutex<KongModel>,
    random: Mutex<Rng>,
    trouble: Mutex<Option<Trouble>>,
    known: Mutex<Vec<Known>>,
    record: Mutex<Record>,
}

/// A generation of a binding, as it is recognised.
struct Known {
    cert: String,
    leaf: Vec<u8>,
    what: (String, Generation),
}

#[derive(Default)]
struct Record {
    looks: Vec<Duration>,
    writes: Vec<Write>,
    /// So many changes there were after which time.
    changes: Vec<(Duration, usize)>,
    /// How often what lies at a path became something else.
    versions: BTreeMap<String, u64>,
}

impl Cluster {
    /// An empty database. Everything random comes from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        let mut model = KongModel::new();
        model.set_proxy_listener("127.0.0.1", 8443);
        model.set_now(START);
        let mut ids = Rng::with_seed(seed);
        model.set_ids(move || Uuid::from_u128(ids.u128(..)));
        Self(Arc::new(Shared {
            began: Instant::now(),
            model: Mutex::new(model),
            random: Mutex::new(Rng::with_seed(seed)),
            trouble: Mutex::default(),
            known: Mutex::default(),
            record: Mutex::default(),
        }))
    }

    /// Since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.began.elapsed()
    }

    /// The database and the node that nobody's pod has; not over an `await`.
    pub(crate) fn model(&self) -> MutexGuard<'_, KongModel> {
        self.0.model.lock().unwrap()
    }

    /// From now on `pair` is known to be this generation of a binding.
    pub(crate) fn know(&self, pair: &CertifiedPair, binding: &str, generation: Generation) {
        let (cert, leaf) = (pair.chain_pem(), pair.leaf_der().to_vec());
        let known = Known { cert, leaf, what: (binding.to_owned(), generation) };
        self.0.known.lock().unwrap().push(known);
    }

    /// All nodes suffer from this; `None` ends it.
    pub(crate) fn suffer(&self, trouble: Option<Trouble>) {
        *self.0.trouble.lock().unwrap() = trouble;
    }

    /// The node of pod `number`.
    pub(crate) fn node(&self, number: usize) -> Node {
        let phase = self.random(|random| random.u64(0..5_000));
        Node {
            cluster: self.clone(),
            own: Arc::new(Own {
                number,
                phase: Duration::from_millis(phase),
                neighbour: Mutex::default(),
                seen: Mutex::default(),
                served: Mutex::default(),
                trouble: Mutex::default(),
            }),
        }
    }

    /// When Kong was read, from `from` until `to`.
    pub(crate) fn looks(&self, from: Duration, to: Duration) -> usize {
        let record = self.record();
        record.looks.iter().filter(|at| (from..=to).contains(*at)).count()
    }

    /// When Kong was read, and what was written.
    pub(crate) fn calls(&self) -> (Vec<Duration>, Vec<Write>) {
        let record = self.record();
        (record.looks.clone(), record.writes.clone())
    }

    /// What was written from `from` on.
    pub(crate) fn writes_since(&self, from: Duration) -> Vec<Write> {
        let record = self.record();
        record.writes.iter().filter(|write| write.at >= from).cloned().collect()
    }

    /// What another client sends; panics where Kong refuses.
    pub(crate) fn elsewhere(&self, request: &Request) {
        let answer = self.model().elsewhere(|model| model.answer(request));
        assert!(answer.status < 300, "{answer:?}");
    }

    /// What Kong shows at `path`; not counted.
    pub(crate) fn shown(&self, path: &str) -> Option<Value> {
        let request = Request::new("GET", path);
        let answer = self.model().elsewhere(|model| model.answer(&request));
        (answer.status == 200).then(|| answer.value())
    }

    /// How many objects a list has.
    pub(crate) fn count(&self, list: &str) -> usize {
        self.shown(list).unwrap()["data"].as_array().unwrap().len()
    }

    /// Which generation a name has.
    pub(crate) fn held(&self, sni: &str) -> Option<Generation> {
        let object = self.shown(&format!("/certificates/{sni}"))?;
        self.generation(&object).map(|(_, generation)| generation)
    }

    fn generation(&self, object: &Value) -> Option<(String, Generation)> {
        let cert = object["cert"].as_str()?;
        let known = self.0.known.lock().unwrap();
        Some(known.iter().find(|known| known.cert == cert)?.what.clone())
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.record.lock().unwrap()
    }

    fn random<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.0.random.lock().unwrap())
    }
}

/// The Kong of one pod. Clones are the same.
#[derive(Clone)]
pub(crate) struct Node {
    cluster: Cluster,
    own: Arc<Own>,
}

struct Own {
    number: usize,
    /// When it asks what others wrote, the first time.
    phase: Duration,
    neighbour: Mutex<Neighbour>,
    /// Which version of a path its sidecar saw last.
    seen: Mutex<BTreeMap<String, u64>>,
    /// What handshakes showed, one for each change: binding and generation, or nothing known.
    served: Mutex<Vec<Option<(String, Generation)>>>,
    trouble: Mutex<Option<Trouble>>,
}

impl Node {
    /// This node alone suffers; `None` ends it.
    pub(crate) fn suffer(&self, trouble: Option<Trouble>) {
        *self.own.trouble.lock().unwrap() = trouble;
    }

    /// The generations that handshakes showed for a binding, one for each change.
    pub(crate) fn served(&self, binding: &str) -> Vec<Generation> {
        let served = self.own.served.lock().unwrap();
        let of_binding = served.iter().flatten().filter(|(name, _)| name == binding);
        let mut shown: Vec<Generation> = of_binding.map(|(_, generation)| *generation).collect();
        shown.dedup();
        shown
    }

    fn trouble(&self) -> Option<Trouble> {
        let own = *self.own.trouble.lock().unwrap();
        own.or(*self.cluster.0.trouble.lock().unwrap())
    }

    async fn on_the_way(&self) {
        let range = if self.trouble() == Some(Trouble::Slow) { 500..2_000 } else { 1..10 };
        let delay = self.cluster.random(|random| random.u64(range));
        sleep(Duration::from_millis(delay)).await;
    }

    /// Whatever was written when it last asked, it has heard of.
    fn hear(&self) {
        let now = self.cluster.elapsed();
        let periods = now.saturating_sub(self.own.phase).as_millis() / UPDATE_FREQUENCY.as_millis();
        let asked = self.own.phase + UPDATE_FREQUENCY * u32::try_from(periods).unwrap();
        let record = self.cluster.record();
        let heard = record.changes.iter().rev().find(|(at, _)| *at <= asked);
        if let Some((_, changes)) = heard {
            self.own.neighbour.lock().unwrap().hear(&self.cluster.model(), *changes);
        }
    }

    fn pass_on(&self, call: &Call) -> Answer {
        if call.method.as_str() == "GET" { self.look(call) } else { self.write(call) }
    }

    fn look(&self, call: &Call) -> Answer {
        let mut record = self.cluster.record();
        record.looks.push(self.cluster.elapsed());
        let version = record.versions.get(&call.path).copied().unwrap_or_default();
        self.own.seen.lock().unwrap().insert(call.path.clone(), version);
        received(self.cluster.model().answer(&request(call)))
    }

    fn write(&self, call: &Call) -> Answer {
        let path = &call.path;
        let before = self.cluster.shown(path);
        let answer = {
            let mut model = self.cluster.model();
            self.own.neighbour.lock().unwrap().answer(&mut model, &request(call))
        };
        let after = self.cluster.shown(path);
        let mut record = self.cluster.record();
        record.changes.push((self.cluster.elapsed(), self.cluster.model().changes()));
        let version = record.versions.entry(path.clone()).or_default();
        let was_seen = self.own.seen.lock().unwrap().get(path) == Some(version);
        let is_same = before.as_ref().map(lasting) == after.as_ref().map(lasting);
        *version += u64::from(!is_same);
        self.own.seen.lock().unwrap().insert(path.clone(), *version);
        record.writes.push(Write {
            at: self.cluster.elapsed(),
            by: self.own.number,
            path: path.clone(),
            status: answer.status,
            from: before.and_then(|object| self.cluster.generation(&object)),
            to: after.and_then(|object| self.cluster.generation(&object)),
            is_same,
            was_seen,
        });
        received(answer)
    }
}

/// All but what a write without effect changes, too.
fn lasting(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("updated_at");
    }
    object
}

impl Wire for Node {
    async fn call(&self, call: Call) -> Result<Answer, Lost> {
        self.on_the_way().await;
        match self.trouble() {
            Some(Trouble::Down) => Err(Lost::Connect {
                to: Quoted::new("http://kong:8001"),
                cause: Quoted::new("Connection refused"),
            }),
            Some(Trouble::Mute) => {
                drop(self.pass_on(&call));
                sleep(TIMEOUT).await;
                Err(Lost::Timeout)
            }
            Some(Trouble::Slow) | None => {
                let answer = self.pass_on(&call);
                self.on_the_way().await;
                Ok(answer)
            }
        }
    }
}

impl Handshake for Node {
    async fn chain(
        &self,
        port: &ProxyPort,
        sni: Option<&str>,
        key_type: Option<KeyType>,
    ) -> Result<ServedChain, Unseen> {
        self.on_the_way().await;
        if self.trouble() == Some(Trouble::Down) {
            let to = Quoted::new(&port.to_string());
            return Err(Unseen::NoConnection { to, cause: Quoted::new("Connection refused") });
        }
        self.hear();
        let serving = {
            let mut neighbour = self.own.neighbour.lock().unwrap();
            neighbour.chain_for(&self.cluster.model(), sni, offers(key_type))
        };
        if sni.is_some() {
            let leaf = serving.chain().and_then(|chain| chain.into_iter().next());
            let known = self.cluster.0.known.lock().unwrap();
            let found = known.iter().find(|known| leaf.as_deref() == Some(&known.leaf[..]));
            let found = found.map(|known| known.what.clone());
            let mut served = self.own.served.lock().unwrap();
            if served.last() != Some(&found) {
                served.push(found);
            }
        }
        shown(&serving)
    }
}
