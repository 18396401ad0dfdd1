//! A Kong to talk to: the Admin API and a TLS proxy port over one [`KongModel`], on ports of the
//! loopback address that stay the same over [`KongStandIn::stop`] and [`KongStandIn::restart`].

mod admin;
mod fault;
mod handshake;
mod plain_http;
mod port;
mod proxy;
mod proxy_header;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::SupportedProtocolVersion;

use crate::kong_model::KongModel;
use crate::pki::Authority;
pub use fault::Fault;
pub use handshake::Handshake;
use port::Port;
use proxy::Listener;

/// A running Kong. Dropping it closes its ports and connections.
#[derive(Debug)]
pub struct KongStandIn {
    shared: Arc<Shared>,
    admin: Port,
    proxy: Port,
}

/// What both ports work on.
#[derive(Debug)]
struct Shared {
    model: Mutex<KongModel>,
    faults: Mutex<Vec<Fault>>,
    demand: Mutex<Option<Demand>>,
    listener: Mutex<Listener>,
    handshakes: Mutex<Vec<Handshake>>,
}

/// A header without which the Admin API answers nothing.
#[derive(Clone, Debug)]
struct Demand {
    name: String,
    value: String,
    status: u16,
}

impl KongStandIn {
    /// Starts a Kong on an empty database, on the tokio runtime of the caller.
    ///
    /// `GET /` tells its proxy port.
    pub async fn start() -> Self {
        Self::start_with(KongModel::new()).await
    }

    /// Starts with `model`, whose proxy listener is set.
    pub async fn start_with(mut model: KongModel) -> Self {
        let (admin, proxy) = (Port::reserve(), Port::reserve());
        model.set_proxy_listener(&proxy.address().ip().to_string(), proxy.address().port());
        let shared = Arc::new(Shared {
            model: Mutex::new(model),
            faults: Mutex::default(),
            demand: Mutex::default(),
            listener: Mutex::default(),
            handshakes: Mutex::default(),
        });
        let mut stand_in = Self { shared, admin, proxy };
        stand_in.restart().await;
        stand_in
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin.address())
    }

    /// Where the Admin API listens.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.address()
    }

    /// Where handshakes are answered.
    #[must_use]
    pub fn proxy_addr(&self) -> SocketAddr {
        self.proxy.address()
    }

    /// Kong itself. Requests and handshakes wait as long as this is held: not over an `await`.
    pub fn model(&self) -> MutexGuard<'_, KongModel> {
        self.shared.model()
    }

    /// Both ports refuse connections from now on, and open connections are closed. What is stored
    /// stays.
    pub async fn stop(&mut self) {
        self.admin.close().await;
        self.stop_proxy().await;
    }

    /// Both ports listen again, where they did. Nothing where they do.
    pub async fn restart(&mut self) {
        let shared = Arc::clone(&self.shared);
        self.admin.open(move |stream| admin::serve(stream, Arc::clone(&shared)));
        self.restart_proxy().await;
    }

    /// As [`Self::stop`], of the proxy port alone.
    pub async fn stop_proxy(&mut self) {
        self.proxy.close().await;
    }

    /// As [`Self::restart`], of the proxy port alone.
    pub async fn restart_proxy(&mut self) {
        let shared = Arc::clone(&self.shared);
        let serve = move |stream| {
            let listener = shared.listener().clone();
            proxy::serve(stream, listener, Arc::clone(&shared))
        };
        self.proxy.open(serve);
    }

    /// Adds a fault of the Admin API. The first that fits a request is applied, one to a request.
    pub fn inject(&self, fault: Fault) {
        self.shared.faults().push(fault);
    }

    /// How often each fault is still to happen, of those that end by themselves.
    #[must_use]
    pub fn faults_left(&self) -> Vec<u32> {
        self.shared.faults().iter().filter_map(Fault::left).collect()
    }

    /// Takes all faults away.
    pub fn clear_faults(&self) {
        self.shared.faults().clear();
    }

    /// Requests without exactly this header are answered `status` (401, 403) and reach nothing.
    pub fn require_header(&self, name: &str, value: &str, status: u16) {
        let (name, value) = (name.to_owned(), value.to_owned());
        *self.shared.demand() = Some(Demand { name, value, status });
    }
}

/// What the proxy port is to connections accepted from then on.
impl KongStandIn {
    /// The versions of TLS that it speaks; 1.2 and 1.3 otherwise. At least one.
    pub fn proxy_versions(&self, versions: &[&'static SupportedProtocolVersion]) {
        self.shared.listener().versions = versions.to_vec();
    }

    /// It speaks plain HTTP, as nginx on a listener without `ssl`: what is no request is answered
    /// with the page `400 Bad Request`. `GET /` goes on telling TLS.
    pub fn proxy_speaks_plain_http(&self, plain: bool) {
        self.shared.listener().is_plain = plain;
    }

    /// It answers nothing, and closes nothing.
    pub fn proxy_is_silent(&self, silent: bool) {
        self.shared.listener().is_silent = silent;
    }

    /// It demands a PROXY header (version 1 or 2) before all else, as nginx with `proxy_protocol`:
    /// without one the connection is closed. `GET /` tells it.
    pub fn demand_proxy_protocol(&self, demand: bool) {
        self.shared.listener().proxy_protocol = demand;
        self.model().set_proxy_protocol(demand);
    }

    /// It fails the handshake of a client without a certificate of `ca`, after it has shown its
    /// own: of TLS 1.3 the client has finished its part by then.
    pub fn demand_proxy_clients_of(&self, ca: &Authority) {
        self.shared.listener().clients_of = Some(ca.clone());
    }

    /// It asks for no client certificate, as at first.
    pub fn demand_no_proxy_clients(&self) {
        self.shared.listener().clients_of = None;
    }

    /// Every ClientHello that came, in order, whatever became of it. Without the PROXY header that
    /// is demanded none comes.
    #[must_use]
    pub fn handshakes(&self) -> Vec<Handshake> {
        self.shared.handshakes().clone()
    }

    /// Forgets the requests and handshakes so far: a run without end would fill memory with them.
    pub fn forget_what_came(&self) {
        self.model().forget_requests();
        self.shared.handshakes().clear();
    }
}

impl Shared {
    fn model(&self) -> MutexGuard<'_, KongModel> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn demand(&self) -> MutexGuard<'_, Option<Demand>> {
        self.demand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listener(&self) -> MutexGuard<'_, Listener> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handshakes(&self) -> MutexGuard<'_, Vec<Handshake>> {
        self.handshakes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
