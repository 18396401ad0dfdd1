//! TLS before a plain port, as where Kong's `admin_listen` says `ssl`.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncWriteExt as _, copy, copy_bidirectional, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::pki::{Authority, CertifiedPair};

/// Terminates TLS on a free port of 127.0.0.1 and copies what comes to another address. Dropping it
/// closes the port and its connections.
#[derive(Debug)]
pub struct TlsFront {
    address: SocketAddr,
    config: watch::Sender<Arc<ServerConfig>>,
    pair: CertifiedPair,
    clients_of: Option<Authority>,
}

impl TlsFront {
    /// Serves `pair` before `to`, on the tokio runtime of the caller, and asks for no client
    /// certificate.
    pub async fn start(to: SocketAddr, pair: &CertifiedPair) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (config, configs) = watch::channel(server_config(pair, None));
        tokio::spawn(accept(listener, configs, to));
        Self { address, config, pair: pair.clone(), clients_of: None }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https://HOST:PORT`.
    #[must_use]
    pub fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.address.port())
    }

    /// Serves another pair from now on. Open connections are closed, as nginx does on a reload.
    pub fn serve(&mut self, pair: &CertifiedPair) {
        self.pair = pair.clone();
        self.reload();
    }

    /// Takes clients from now on that show a certificate of `ca`, and no others. Open connections
    /// are closed.
    pub fn demand_clients_of(&mut self, ca: &Authority) {
        self.clients_of = Some(ca.clone());
        self.reload();
    }

    fn reload(&self) {
        self.config.send_replace(server_config(&self.pair, self.clients_of.as_ref()));
    }
}

/// Lives as long as the front that sends the configurations.
async fn accept(
    listener: TcpListener,
    mut configs: watch::Receiver<Arc<ServerConfig>>,
    to: SocketAddr,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            changed = configs.changed() => match changed {
                Ok(()) => connections.abort_all(),
                Err(_) => break,
            },
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                let config = Arc::clone(&configs.borrow_and_update());
                connections.spawn(carry(stream, config, to));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection. A client that is turned away gets to read the alert: nothing of what it sent is
/// left unread, which would reset the connection.
async fn carry(stream: TcpStream, config: Arc<ServerConfig>, to: SocketAddr) {
    match TlsAcceptor::from(config).accept(stream).into_fallible().await {
        Ok(mut tls) => {
            if let Ok(mut plain) = TcpStream::connect(to).await {
                let _ = copy_bidirectional(&mut tls, &mut plain).await;
            }
        }
        Err((_, mut stream)) => {
            let _ = stream.shutdown().await;
            let _ = copy(&mut stream, &mut sink()).await;
        }
    }
}

fn server_config(pair: &CertifiedPair, clients_of: Option<&Authority>) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS12, &TLS13])
        .unwrap()
        .with_client_cert_verifier(client_verifier(clients_of));
    let chain = pair.chain_ders().iter().map(|der| CertificateDer::from(der.clone())).collect();
    let key = PrivateKeyDer::try_from(pair.key().pkcs8_der().to_vec()).unwrap();
    Arc::new(builder.with_single_cert(chain, key).unwrap())
}

/// Demands a client certificate of this authority, or asks for none.
pub(crate) fn client_verifier(clients_of: Option<&Authority>) -> Arc<dyn ClientCertVerifier> {
    let Some(ca) = clients_of else {
        return WebPkiClientVerifier::no_client_auth();
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.der().to_vec())).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap()
}
