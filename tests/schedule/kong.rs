//! Kong's Admin API without sockets: an idle socket makes paused time jump.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use kong_cert_reloader::bundle::{KeyType, ServedChain};
use kong_cert_reloader::kong::{Answer, Call, Elsewhere, Lost, Wire};
use kong_cert_reloader::proof::{Handshake, ProxyPort, Unseen};
use kong_cert_reloader::quote::Quoted;
use serde_json::{Value, json};
use testkit::kong_model::{Offers, Serving};
use testkit::{KongModel, Request};
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

/// From a sidecar to Kong, and back.
pub(crate) const ONE_WAY: Duration = Duration::from_millis(1);

/// One Kong, as every sidecar sees it. Clones are the same Kong.
#[derive(Clone)]
pub(crate) struct KongInProcess(Arc<Shared>, usize);

/// Stands between the sidecars and Kong: the caller, as [`KongInProcess::as_seen_by`] names it, and
/// what it asks.
pub(crate) type Witness = Box<dyn FnMut(&mut KongModel, usize, &Request) -> testkit::Answer + Send>;

struct Shared {
    began: Instant,
    model: Mutex<KongModel>,
    faults: Mutex<Vec<Fault>>,
    hits: Mutex<usize>,
    calls: Mutex<Vec<Called>>,
    changes: Mutex<Vec<Vec<u8>>>,
    handshakes: Mutex<Vec<(Duration, Option<String>)>>,
    unseen: Mutex<Option<Unseen>>,
    moved_to: Mutex<Option<Elsewhere>>,
    searches: Mutex<Vec<Duration>>,
    bodies: Mutex<Vec<Vec<u8>>>,
    disliked: Mutex<Option<String>>,
    blamed: Mutex<Option<(String, String)>>,
    witness: Mutex<Option<Witness>>,
}

/// A call as it was made, whether or not it reached Kong.
#[derive(Clone, Debug)]
pub(crate) struct Called {
    /// When, from the beginning.
    pub(crate) at: Duration,
    pub(crate) method: &'static str,
    pub(crate) path: String,
}

impl KongInProcess {
    pub(crate) fn new() -> Self {
        let mut model = KongModel::new();
        model.set_proxy_listener("127.0.0.1", 8443);
        let shared = Arc::new(Shared {
            began: Instant::now(),
            model: Mutex::new(model),
            faults: Mutex::default(),
            hits: Mutex::default(),
            calls: Mutex::default(),
            changes: Mutex::default(),
            handshakes: Mutex::default(),
            unseen: Mutex::default(),
            moved_to: Mutex::default(),
            searches: Mutex::default(),
            bodies: Mutex::default(),
            disliked: Mutex::default(),
            blamed: Mutex::default(),
            witness: Mutex::default(),
        });
        Self(shared, 0)
    }

    /// The same Kong; its witness is told that calls come from this one.
    pub(crate) fn as_seen_by(&self, caller: usize) -> Self {
        Self(Arc::clone(&self.0), caller)
    }

    /// From now on calls that reach Kong go through `witness`.
    pub(crate) fn witnessed_by(&self, witness: Witness) {
        *self.0.witness.lock().unwrap() = Some(witness);
    }

    /// Every handshake: when, and for which name.
    pub(crate) fn handshakes(&self) -> Vec<(Duration, Option<String>)> {
        self.0.handshakes.lock().unwrap().clone()
    }

    /// No handshake shows anything from now on; `None` ends that.
    pub(crate) fn show_nothing(&self, unseen: Option<Unseen>) {
        *self.0.unseen.lock().unwrap() = unseen;
    }

    /// Since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.began.elapsed()
    }

    /// Kong itself; not over an `await`.
    pub(crate) fn model(&self) -> MutexGuard<'_, KongModel> {
        self.0.model.lock().unwrap()
    }

    /// Adds a fault; the first that fits a call is applied, one to a call.
    pub(crate) fn inject(&self, fault: Fault) {
        self.0.faults.lock().unwrap().push(fault);
    }

    /// Takes all faults away.
    pub(crate) fn heal(&self) {
        self.0.faults.lock().unwrap().clear();
    }

    /// How many calls a fault befell.
    pub(crate) fn hits(&self) -> usize {
        *self.0.hits.lock().unwrap()
    }

    /// Every call, in order.
    pub(crate) fn calls(&self) -> Vec<Called> {
        self.0.calls.lock().unwrap().clone()
    }

    /// `METHOD /path` of every call from `from` on.
    pub(crate) fn calls_since(&self, from: Duration) -> Vec<String> {
        let calls = self.calls().into_iter().filter(|call| call.at >= from);
        calls.map(|call| format!("{} {}", call.method, call.path)).collect()
    }

    /// When calls of this method were made.
    pub(crate) fn times_of(&self, method: &str) -> Vec<Duration> {
        let calls = self.calls().into_iter().filter(|call| call.method == method);
        calls.map(|call| call.at).collect()
    }

    /// The leaves that `a.test` was served with, one for each change.
    pub(crate) fn history(&self) -> Vec<Vec<u8>> {
        self.0.changes.lock().unwrap().clone()
    }

    /// From now on an Admin API is found at `url`, if it is looked for.
    pub(crate) fn listen_at(&self, url: &str) {
        let found = Elsewhere { url: url.to_owned(), wants_credentials: false };
        *self.0.moved_to.lock().unwrap() = Some(found);
    }

    /// Every body that was sent, in order.
    pub(crate) fn bodies(&self) -> Vec<Vec<u8>> {
        self.0.bodies.lock().unwrap().clone()
    }

    /// From now on no configuration is taken that has this in it, and why is not told.
    pub(crate) fn refuse_config_with(&self, text: &str) {
        *self.0.disliked.lock().unwrap() = Some(text.to_owned());
    }

    /// From now on no configuration is taken that has this in it, and this certificate is blamed.
    pub(crate) fn refuse_config_blaming(&self, text: &str, id: &str) {
        *self.0.blamed.lock().unwrap() = Some((text.to_owned(), id.to_owned()));
    }

    /// When one was looked for.
    pub(crate) fn searches(&self) -> Vec<Duration> {
        self.0.searches.lock().unwrap().clone()
    }

    /// What another client of this Kong sends; panics where Kong refuses.
    pub(crate) fn elsewhere(&self, request: &Request) {
        let answer = self.model().elsewhere(|model| model.answer(request));
        assert!(answer.status < 300, "{answer:?}");
        self.note_change();
    }

    /// Notes what `a.test` is served with, if that is new.
    fn note_change(&self) {
        let chain = self.model().chain_for(Some("a.test"), Offers::ALL).chain();
        let leaf = chain.and_then(|chain| chain.into_iter().next()).unwrap_or_default();
        let mut changes = self.0.changes.lock().unwrap();
        if changes.last() != Some(&leaf) {
            changes.push(leaf);
        }
    }

    fn fault_for(&self, call: &Call) -> Option<Fault> {
        let mut faults = self.0.faults.lock().unwrap();
        let is_over = |until: Instant| until <= Instant::now();
        faults.retain(|fault| fault.left != Some(0) && !fault.until.is_some_and(is_over));
        let fault = faults.iter_mut().find(|fault| fault.fits(call))?;
        fault.left = fault.left.map(|left| left - 1);
        *self.0.hits.lock().unwrap() += 1;
        Some(fault.clone())
    }

    /// Why a configuration is not taken, if it has something in it that is not.
    fn distaste_for(&self, call: &Call) -> Option<Fault> {
        let body = call.body.as_deref().filter(|_| call.path.starts_with("/config"))?;
        let body = String::from_utf8_lossy(body);
        let is_in_it = |text: &str| body.contains(text);
        if self.0.disliked.lock().unwrap().as_deref().is_some_and(is_in_it) {
            return Some(Fault::refusal(400, "declarative config is invalid: {}"));
        }
        let blamed = self.0.blamed.lock().unwrap().clone();
        let (_, id) = blamed.filter(|(text, _)| is_in_it(text))?;
        Some(Fault::new(What::Blames(id)))
    }

    fn pass_on(&self, call: &Call) -> Answer {
        let request = request(call);
        let answer = match &mut *self.0.witness.lock().unwrap() {
            Some(witness) => witness(&mut self.model(), self.1, &request),
            None => self.model().answer(&request),
        };
        if call.method.as_str() != "GET" {
            self.note_change();
        }
        received(answer)
    }
}

/// A call, as Kong gets it.
pub(crate) fn request(call: &Call) -> Request {
    let mut request = Request::new(call.method.as_str(), &call.path);
    if let Some(body) = &call.body {
        request.headers.push(("content-type".to_owned(), "application/json".to_owned()));
        request.body = body.to_vec();
    }
    request
}

/// What Kong answers, as a sidecar gets it.
pub(crate) fn received(answer: testkit::Answer) -> Answer {
    let is_json = answer
        .headers
        .iter()
        .any(|(name, value)| name == "content-type" && value.starts_with("application/json"));
    let body = Zeroizing::new(answer.body);
    Answer { status: answer.status, is_json, retry_after: None, body }
}

/// What a client offers that asks for keys of this type, or for any.
pub(crate) fn offers(key_type: Option<KeyType>) -> Offers {
    let Some(key_type) = key_type else { return Offers::ALL };
    Offers {
        rsa: key_type == KeyType::Rsa,
        ecdsa: key_type == KeyType::Ec,
        ed25519: key_type == KeyType::Ed25519,
    }
}

/// What a handshake shows.
pub(crate) fn shown(serving: &Serving) -> Result<ServedChain, Unseen> {
    let chain = serving.chain().ok_or(Unseen::Refused(Quoted::new("internal_error")))?;
    Ok(ServedChain::of(&chain[0], chain[1..].iter().map(Vec::as_slice)))
}

impl Wire for KongInProcess {
    async fn find_elsewhere(&self) -> Option<Elsewhere> {
        self.0.searches.lock().unwrap().push(self.elapsed());
        sleep(ONE_WAY).await;
        self.0.moved_to.lock().unwrap().clone()
    }

    async fn call(&self, call: Call) -> Result<Answer, Lost> {
        self.0.calls.lock().unwrap().push(Called {
            at: self.elapsed(),
            method: call.method.as_str(),
            path: call.path.clone(),
        });
        self.0.bodies.lock().unwrap().extend(call.body.as_ref().map(|body| body.to_vec()));
        let fault = self.fault_for(&call).or_else(|| self.distaste_for(&call));
        sleep(ONE_WAY).await;
        let Some(fault) = fault else {
            let answer = self.pass_on(&call);
            sleep(ONE_WAY).await;
            return Ok(answer);
        };
        if let Some(act) = fault.act.as_ref().and_then(|act| act.lock().unwrap().take()) {
            self.model().elsewhere(act);
        }
        let applied = fault.lands.then(|| self.pass_on(&call));
        if let Some(later) = fault.lands_after {
            let (kong, call) = (self.clone(), call.clone());
            tokio::spawn(async move {
                sleep(later).await;
                kong.pass_on(&call);
            });
        }
        sleep(fault.after).await;
        match fault.what {
            What::Late => {
                let answer = self.pass_on(&call);
                sleep(ONE_WAY).await;
                Ok(answer)
            }
            What::HalfJson => {
                let mut answer = applied.unwrap_or_else(|| answer(200, None, &json!({})));
                let half = answer.body.len() / 2;
                answer.body.truncate(half);
                Ok(answer)
            }
            What::Other { status, is_json, body } => {
                let body = Zeroizing::new(body.as_bytes().to_vec());
                Ok(Answer { status, is_json, retry_after: None, body })
            }
            What::TooLarge { status } => Err(Lost::TooLarge { limit: call.limit, status }),
            What::NoConnection => Err(Lost::Connect {
                to: Quoted::new("http://kong:8001"),
                cause: Quoted::new("Connection refused"),
            }),
            What::Broken => Err(Lost::Broken(Quoted::new("connection reset"))),
            What::Timeout => Err(Lost::Timeout),
            What::Status { status, retry_after, message } => {
                Ok(answer(status, retry_after, &json!({ "message": message })))
            }
            What::Blames(id) => {
                let errors =
                    json!([{ "type": "entity", "message": "invalid certificate: x509.new" }]);
                let bad =
                    json!({ "entity_type": "certificate", "entity_id": id, "errors": errors });
                let message = "declarative config is invalid: {}";
                Ok(answer(400, None, &json!({ "message": message, "flattened_errors": [bad] })))
            }
        }
    }
}

impl Handshake for KongInProcess {
    async fn chain(
        &self,
        _: &ProxyPort,
        sni: Option<&str>,
        key_type: Option<KeyType>,
    ) -> Result<ServedChain, Unseen> {
        self.0.handshakes.lock().unwrap().push((self.elapsed(), sni.map(str::to_owned)));
        sleep(ONE_WAY * 2).await;
        if let Some(unseen) = self.0.unseen.lock().unwrap().clone() {
            return Err(unseen);
        }
        shown(&self.model().chain_for(sni, offers(key_type)))
    }
}

/// What may go wrong with a call; once, unless told otherwise.
#[derive(Clone)]
pub(crate) struct Fault {
    what: What,
    method: Option<&'static str>,
    path: Option<String>,
    only_writes: bool,
    until: Option<Instant>,
    after: Duration,
    lands: bool,
    lands_after: Option<Duration>,
    /// What happens to Kong when the fault first does.
    act: Option<Arc<Mutex<Option<Act>>>>,
    left: Option<u32>,
}

type Act = Box<dyn FnOnce(&mut KongModel) + Send>;

#[derive(Clone)]
enum What {
    NoConnection,
    Broken,
    Timeout,
    Status {
        status: u16,
        retry_after: Option<Duration>,
        message: &'static str,
    },
    /// 400, with this certificate named.
    Blames(String),
    /// Kong's own answer, but not at once.
    Late,
    /// Half of Kong's answer, as if it were all of it.
    HalfJson,
    /// What Kong would not say.
    Other {
        status: u16,
        is_json: bool,
        body: &'static str,
    },
    TooLarge {
        status: u16,
    },
}

fn answer(status: u16, retry_after: Option<Duration>, body: &Value) -> Answer {
    let body = Zeroizing::new(body.to_string().into_bytes());
    Answer { status, is_json: true, retry_after, body }
}

impl Fault {
    /// Nobody listens.
    pub(crate) const fn no_connection() -> Self {
        Self::new(What::NoConnection)
    }

    /// The connection breaks before the answer.
    pub(crate) const fn broken() -> Self {
        Self::new(What::Broken)
    }

    /// No answer comes within this time.
    pub(crate) const fn timeout(after: Duration) -> Self {
        let mut fault = Self::new(What::Timeout);
        fault.after = after;
        fault
    }

    /// This status, and no more said.
    pub(crate) const fn status(status: u16) -> Self {
        Self::refusal(status, "An unexpected error occurred")
    }

    /// This status and message.
    pub(crate) const fn refusal(status: u16, message: &'static str) -> Self {
        Self::new(What::Status { status, retry_after: None, message })
    }

    /// This status with a `Retry-After`.
    pub(crate) const fn retry_after(status: u16, wish: Duration) -> Self {
        let message = "Currently loading previous configuration";
        Self::new(What::Status { status, retry_after: Some(wish), message })
    }

    /// Kong takes its time, and then does it and answers.
    pub(crate) const fn late(after: Duration) -> Self {
        let mut fault = Self::new(What::Late);
        fault.after = after;
        fault
    }

    /// Kong does it, and half of its answer comes, as if it were all of it.
    pub(crate) const fn half_json() -> Self {
        Self::new(What::HalfJson).landed()
    }

    /// Something else answers.
    pub(crate) const fn other(status: u16, is_json: bool, body: &'static str) -> Self {
        Self::new(What::Other { status, is_json, body })
    }

    /// The answer is larger than is read.
    pub(crate) const fn too_large() -> Self {
        Self::new(What::TooLarge { status: 200 })
    }

    /// The same of an answer with this status.
    pub(crate) const fn too_large_with(status: u16) -> Self {
        Self::new(What::TooLarge { status })
    }

    /// Kong does it all the same, so much later.
    pub(crate) const fn lands_after(mut self, later: Duration) -> Self {
        self.lands_after = Some(later);
        self
    }

    /// Something happens to Kong, too, when the fault first does.
    pub(crate) fn with(mut self, act: impl FnOnce(&mut KongModel) + Send + 'static) -> Self {
        self.act = Some(Arc::new(Mutex::new(Some(Box::new(act)))));
        self
    }

    /// Kong has done it all the same.
    pub(crate) const fn landed(mut self) -> Self {
        self.lands = true;
        self
    }

    /// For calls of this method alone.
    pub(crate) const fn only(mut self, method: &'static str) -> Self {
        self.method = Some(method);
        self
    }

    /// For calls alone that write.
    pub(crate) const fn only_writes(mut self) -> Self {
        self.only_writes = true;
        self
    }

    /// For calls of this path alone.
    pub(crate) fn at(mut self, path: &str) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// For so many calls.
    pub(crate) const fn times(mut self, times: u32) -> Self {
        self.left = Some(times);
        self
    }

    /// Until [`KongInProcess::heal`].
    pub(crate) const fn always(mut self) -> Self {
        self.left = None;
        self
    }

    /// For all calls within this time.
    pub(crate) fn lasting(mut self, time: Duration) -> Self {
        self.until = Some(Instant::now() + time);
        self.always()
    }

    fn fits(&self, call: &Call) -> bool {
        self.method.is_none_or(|method| method == call.method.as_str())
            && !(self.only_writes && call.method.as_str() == "GET")
            && self.path.as_ref().is_none_or(|path| *path == call.path)
    }

    const fn new(what: What) -> Self {
        Self {
            what,
            method: None,
            path: None,
            only_writes: false,
            until: None,
            after: Duration::ZERO,
            lands: false,
            lands_after: None,
            act: None,
            left: Some(1),
        }
    }
}
