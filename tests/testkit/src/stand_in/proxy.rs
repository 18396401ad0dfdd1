//! The TLS proxy port: TLS 1.2 and 1.3, no resumption, and the model asked at each handshake.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::server::{Acceptor, NoServerSessionStorage};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ContentType, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;

use super::Shared;
use crate::kong_model::{Offers, Serving};

/// What Kong says where no route matches.
const NO_ROUTE: &[u8] = b"HTTP/1.1 404 Not Found\r\n\
    Content-Type: application/json; charset=utf-8\r\nConnection: close\r\nContent-Length: 48\r\n\r\n\
    {\"message\":\"no Route matched with those values\"}";

/// Answers one handshake, and one request if it comes.
pub(super) async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let Ok(start) = LazyConfigAcceptor::new(Acceptor::default(), &mut stream).await else {
        return;
    };
    let hello = start.client_hello();
    let offers = Offers::of(&hello);
    let serving = shared.model().chain_for(hello.server_name(), offers);
    match serving {
        Serving::Certified(pair) => {
            // A client that only looks at the certificate is gone by now.
            if let Ok(mut tls) = start.into_stream(Arc::new(config(&pair))).await
                && tls.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0)
            {
                let _ = tls.write_all(NO_ROUTE).await;
                let _ = tls.shutdown().await;
            }
        }
        Serving::Broken => {
            drop(start);
            let _ = stream.write_all(&fatal(AlertDescription::InternalError)).await;
            let _ = stream.shutdown().await;
        }
    }
}

fn config(pair: &CertifiedKey) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS12, &TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair.clone())));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

/// A TLS record with one fatal alert.
fn fatal(alert: AlertDescription) -> [u8; 7] {
    [ContentType::Alert.into(), 3, 3, 0, 2, 2, alert.into()]
}
