//! A Kong that can be asked over its two ports and by nothing else, and the names that one run has
//! there: runs beside each other, and what else is in that Kong, do not meet.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::http_client::exchange;
use testkit::{Answer, Authority, CertifiedPair, Request, TlsClient};
use tokio::time::{sleep, timeout};

/// No real Kong on a busy machine takes longer, other nodes of it included.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(20);
/// All names of all runs end in this.
const DOMAIN: &str = "kong-cert-reloader.test";

/// Where a Kong is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The Admin API.
    pub(crate) admin: SocketAddr,
    /// The TLS proxy port.
    pub(crate) proxy: SocketAddr,
    /// What leads a sidecar there, by the names of settings.
    pub(crate) settings: Vec<(&'static str, String)>,
}

/// A Kong, and the names of one run.
#[derive(Debug)]
pub(crate) struct Target {
    place: Place,
    run: String,
    /// The ids of what was made by [`Self::make`].
    made: RefCell<BTreeSet<String>>,
}

impl Target {
    /// With names of its own.
    pub(crate) fn new(place: Place) -> Self {
        let run = (0..8).map(|_| fastrand::alphanumeric().to_ascii_lowercase()).collect();
        Self { place, run, made: RefCell::default() }
    }

    /// What leads a sidecar there.
    pub(crate) fn settings(&self) -> &[(&'static str, String)] {
        &self.place.settings
    }

    /// The `INSTANCE` of the run.
    pub(crate) fn instance(&self) -> String {
        format!("test-{}", self.run)
    }

    /// The tag of what this instance makes.
    pub(crate) fn own_tag(&self) -> String {
        format!("managed-by:kong-cert-reloader:{}", self.instance())
    }

    /// Where all names of the run are.
    pub(crate) fn suffix(&self) -> String {
        format!("{}.{DOMAIN}", self.run)
    }

    /// A name of the run: `a` is `a.x7f3….kong-cert-reloader.test`.
    pub(crate) fn name(&self, label: &str) -> String {
        format!("{label}.{}", self.suffix())
    }

    /// Several of them, as a list in Kong.
    pub(crate) fn names(&self, labels: &[&str]) -> Value {
        labels.iter().map(|label| self.name(label)).collect()
    }
}

/// The Admin API. Of what it answers only words are ever printed: it echoes keys, and lists those
/// of others.
impl Target {
    /// One request, whatever becomes of it.
    pub(crate) async fn ask(&self, request: &Request) -> Answer {
        let Request { method, path, .. } = request;
        match timeout(PATIENCE, exchange(self.place.admin, request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => panic!("{method} {path}: {error}"),
            Err(_) => panic!("{method} {path}: no answer within {PATIENCE:?}"),
        }
    }

    /// One request that is taken, and the object in its answer.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.ask(&Request::json(method, path, body)).await;
        if (200..300).contains(&answer.status) {
            return sorted(answer.value());
        }
        let why = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        panic!("{method} {path}: status {}, {}", answer.status, why["message"]);
    }

    /// What is at `path`, if anything is.
    pub(crate) async fn look(&self, path: &str) -> Option<Value> {
        let answer = self.ask(&Request::new("GET", path)).await;
        match answer.status {
            200 => Some(sorted(answer.value())),
            404 => None,
            status => panic!("GET {path}: status {status}"),
        }
    }

    /// The certificate that has this name.
    pub(crate) async fn object(&self, label: &str) -> Value {
        let path = format!("/certificates/{}", self.name(label));
        self.look(&path).await.unwrap_or_else(|| panic!("{path} is not there"))
    }

    /// The SNI of this name.
    pub(crate) async fn sni(&self, label: &str) -> Option<Value> {
        self.look(&format!("/snis/{}", self.name(label))).await
    }

    /// The object that has this CA certificate.
    pub(crate) async fn authority(&self, authority: &Authority) -> Option<Value> {
        let all = self.all("ca_certificates").await;
        all.into_iter().find(|object| object["cert"] == authority.pem())
    }

    /// Every object of a list, page by page.
    pub(crate) async fn all(&self, list: &str) -> Vec<Value> {
        let (mut all, mut next) = (Vec::new(), Some(format!("/{list}?size=1000")));
        while let Some(path) = next {
            let mut page = self.look(&path).await.unwrap_or_default();
            let rows = page["data"].as_array_mut().map(std::mem::take);
            all.extend(rows.unwrap_or_default().into_iter().map(sorted));
            next = page["next"].as_str().map(str::to_owned);
        }
        all
    }

    /// Whether [`Self::make`] made it, whatever became of it.
    pub(crate) fn has_made(&self, object: &Value) -> bool {
        object["id"].as_str().is_some_and(|id| self.made.borrow().contains(id))
    }

    /// An id for an object that a scenario lets be made.
    pub(crate) fn new_id(&self) -> String {
        let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid();
        self.made.borrow_mut().insert(id.to_string());
        id.to_string()
    }

    /// Makes a certificate as someone else would. `more` is what it has beside certificate and key.
    pub(crate) async fn make(&self, pair: &CertifiedPair, more: &Value) -> Value {
        let id = self.new_id();
        let mut body = json!({"cert": pair.chain_pem(), "key": pair.key_pem()});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.send("PUT", &format!("/certificates/{id}"), &body).await
    }
}

/// The proxy port.
impl Target {
    /// Waits until a client gets exactly this chain for a name.
    pub(crate) async fn serves(&self, label: &str, chain: &[Vec<u8>]) {
        self.serves_to(&TlsClient::new(), label, chain).await;
    }

    /// As [`Self::serves`], for a client of its own kind.
    pub(crate) async fn serves_to(&self, client: &TlsClient, label: &str, chain: &[Vec<u8>]) {
        let client = client.clone().sni(&self.name(label));
        let is_served = async || {
            let shown = client.chain(self.place.proxy).await;
            shown.is_ok_and(|shown| shown == chain).then_some(())
        };
        until(&format!("handshakes for {label} show that chain"), is_served).await;
    }

    /// Waits until a client gets anything but this leaf for a name.
    pub(crate) async fn no_longer_serves(&self, label: &str, leaf: &[u8]) {
        let client = TlsClient::new().sni(&self.name(label));
        let is_gone = async || {
            let shown = client.chain(self.place.proxy).await.ok()?;
            (shown.first().map(Vec::as_slice) != Some(leaf)).then_some(())
        };
        until(&format!("handshakes for {label} do not show that leaf"), is_gone).await;
    }
}

/// Asks again and again until there is an answer; panics after 30 s.
pub(crate) async fn until<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            sleep(PAUSE).await;
        }
    };
    timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// Tags and SNIs are sets: Kong may show them in any order.
fn sorted(mut object: Value) -> Value {
    for field in ["tags", "snis"] {
        if let Some(texts) = object.get_mut(field).and_then(Value::as_array_mut) {
            texts.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
        }
    }
    object
}
