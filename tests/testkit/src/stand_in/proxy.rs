//! The proxy port: TLS without resumption, the model asked at each handshake; or what else a port
//! of Kong may be.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::server::{Accepted, NoServerSessionStorage};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ContentType, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, sink};
use tokio::net::TcpStream;
use tokio_rustls::StartHandshake;

use super::handshake::{Hello, NoHello};
use super::plain_http::{First, NO_ROUTE};
use super::{Shared, plain_http, proxy_header};
use crate::kong_model::{Offers, Serving};
use crate::pki::Authority;
use crate::tls_front::client_verifier;

/// What nginx was told of the port.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    pub(super) versions: Vec<&'static SupportedProtocolVersion>,
    pub(super) is_plain: bool,
    pub(super) is_silent: bool,
    pub(super) proxy_protocol: bool,
    pub(super) clients_of: Option<Authority>,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            versions: vec![&TLS12, &TLS13],
            is_plain: false,
            is_silent: false,
            proxy_protocol: false,
            clients_of: None,
        }
    }
}

/// Answers one connection: a handshake, and one request if it comes.
pub(super) async fn serve(mut stream: TcpStream, listener: Listener, shared: Arc<Shared>) {
    let mut proxy_header = None;
    if listener.proxy_protocol {
        proxy_header = proxy_header::read(&mut stream).await;
        if proxy_header.is_none() {
            return;
        }
    }
    let record = |hello: &Hello| shared.handshakes().push(hello.handshake(proxy_header));
    if listener.is_silent {
        if let Ok(hello) = Hello::read(&mut stream).await {
            record(&hello);
        }
        let _ = copy(&mut stream, &mut sink()).await;
    } else if listener.is_plain {
        let Some(first) = plain_http::read(&mut stream).await else {
            return;
        };
        if let First::Other(bytes) = &first
            && let Some(hello) = Hello::in_bytes(bytes)
        {
            record(&hello);
        }
        finish(stream, &plain_http::answer(&first)).await;
    } else {
        match Hello::read(&mut stream).await {
            Ok(hello) => {
                record(&hello);
                speak_tls(stream, hello.accepted, &listener, &shared).await;
            }
            Err(NoHello { alert }) => finish(stream, &alert).await,
        }
    }
}

async fn speak_tls(stream: TcpStream, hello: Accepted, listener: &Listener, shared: &Shared) {
    let client = hello.client_hello();
    let serving = shared.model().chain_for(client.server_name(), Offers::of(&client));
    let Serving::Certified(pair) = serving else {
        return finish(stream, &fatal(AlertDescription::InternalError)).await;
    };
    let start = StartHandshake::from_parts(hello, stream);
    match start.into_stream(Arc::new(config(&pair, listener))).into_fallible().await {
        Ok(mut tls) => {
            // A client that only looks at the certificate is gone by now.
            if tls.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
                let _ = tls.write_all(NO_ROUTE).await;
                let _ = tls.shutdown().await;
            }
        }
        // The alert is sent.
        Err((_, stream)) => finish(stream, &[]).await,
    }
}

/// Lets the client read the last words: what it sent and nobody read would reset the connection.
async fn finish(mut stream: TcpStream, last_words: &[u8]) {
    let _ = stream.write_all(last_words).await;
    let _ = stream.shutdown().await;
    let _ = copy(&mut stream, &mut sink()).await;
}

fn config(pair: &CertifiedKey, listener: &Listener) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&listener.versions)
        .unwrap()
        .with_client_cert_verifier(client_verifier(listener.clients_of.as_ref()))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair.clone())));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

/// A TLS record with one fatal alert.
fn fatal(alert: AlertDescription) -> [u8; 7] {
    [ContentType::Alert.into(), 3, 3, 0, 2, 2, alert.into()]
}
