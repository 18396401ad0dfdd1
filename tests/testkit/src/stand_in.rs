//! A Kong to talk to: the Admin API and a TLS proxy port over one [`KongModel`], on ports of the
//! loopback address that stay the same over [`KongStandIn::stop`] and [`KongStandIn::restart`].

mod admin;
mod fault;
mod port;
mod proxy;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::kong_model::KongModel;
pub use fault::Fault;
use port::Port;

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
        self.proxy.close().await;
    }

    /// Both ports listen again, where they did. Nothing where they do.
    pub async fn restart(&mut self) {
        let shared = Arc::clone(&self.shared);
        self.admin.open(move |stream| admin::serve(stream, Arc::clone(&shared)));
        let shared = Arc::clone(&self.shared);
        self.proxy.open(move |stream| proxy::serve(stream, Arc::clone(&shared)));
    }

    /// Adds a fault of the Admin API. The first that fits a request is applied, one to a request.
    pub fn inject(&self, fault: Fault) {
        self.shared.faults().push(fault);
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
}
