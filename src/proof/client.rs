//! The handshake as it is made over a socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::{Handshake, ProxyPort, Unseen};
use crate::bundle::{KeyType, ServedChain};
use crate::quote::Quoted;
use crate::settings::HostPort;
use crate::tls::AnyCertificate;

/// Longer than any handshake within a pod or a cluster takes.
const TIMEOUT: Duration = Duration::from_secs(3);
/// A port that said nothing is asked again after this long.
const REST: Duration = Duration::from_millis(500);
/// So many at a time: each costs Kong a signature.
const AT_A_TIME: usize = 4;

/// Makes handshakes over TCP, a few at a time. Knows no roots: what it is shown is compared, not
/// trusted.
#[derive(Debug)]
pub struct ProxyClient {
    provider: CryptoProvider,
    permits: Semaphore,
    silence: Mutex<Option<Silence>>,
}

/// A port that said nothing until the time was up, and when.
#[derive(Debug)]
struct Silence {
    port: ProxyPort,
    at: Instant,
    /// How many in a row; a single one may be the fault of its name.
    times: u32,
}

impl Default for ProxyClient {
    fn default() -> Self {
        Self {
            provider: aws_lc_rs::default_provider(),
            permits: Semaphore::new(AT_A_TIME),
            silence: Mutex::default(),
        }
    }
}

impl Handshake for ProxyClient {
    async fn chain(
        &self,
        port: &ProxyPort,
        sni: Option<&str>,
        key_type: Option<KeyType>,
    ) -> Result<ServedChain, Unseen> {
        let _permit = self.permits.acquire().await.map_err(|_| Unseen::Silent)?;
        if self.is_silent(port) {
            return Err(Unseen::Silent);
        }
        let witness = Arc::new(Witness::new(&self.provider, key_type));
        let shaken = timeout(TIMEOUT, shake(port, sni, &witness)).await;
        let chain = match (witness.proven(), shaken) {
            // What comes after that does not matter: it may want a client certificate.
            (Some(chain), _) => Ok(chain),
            (None, Ok(Err(unseen))) => Err(unseen),
            (None, Ok(Ok(())) | Err(_)) => Err(Unseen::Silent),
        };
        self.note(port, chain == Err(Unseen::Silent));
        chain
    }
}

impl ProxyClient {
    /// Whether the port said nothing to the last one: thousands may wait for their turn.
    fn is_silent(&self, port: &ProxyPort) -> bool {
        let silence = self.silence();
        silence.as_ref().is_some_and(|silence| {
            silence.port == *port && silence.times > 1 && silence.at.elapsed() < REST
        })
    }

    fn note(&self, port: &ProxyPort, is_silent: bool) {
        let mut silence = self.silence();
        let before = silence.take().filter(|before| before.port == *port);
        let times = before.map_or(0, |before| before.times).saturating_add(1);
        let at = Instant::now();
        *silence = is_silent.then(|| Silence { port: port.clone(), at, times });
    }

    fn silence(&self) -> MutexGuard<'_, Option<Silence>> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn shake(port: &ProxyPort, sni: Option<&str>, witness: &Arc<Witness>) -> Result<(), Unseen> {
    let no_connection = |error: io::Error| Unseen::NoConnection {
        to: Quoted::new(&port.to_string()),
        cause: Quoted::new(&error.to_string()),
    };
    let mut stream = connect(&port.at).await.map_err(no_connection)?;
    // Without a name the client sends none: an address is no server name.
    let name = match sni {
        Some(sni) => ServerName::try_from(sni.to_owned()).map_err(|_| Unseen::Unaskable)?,
        None => ServerName::IpAddress(IpAddr::from(Ipv4Addr::LOCALHOST).into()),
    };
    let config = Witness::config(witness).map_err(|error| unseen(&error))?;
    if port.proxy_protocol {
        let header = proxy_header(&stream).map_err(no_connection)?;
        stream.write_all(header.as_bytes()).await.map_err(|_| Unseen::Closed)?;
    }
    match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
        Ok(_) => Ok(()),
        Err(error) => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(refused) => Err(unseen(refused)),
            None => Err(Unseen::Closed),
        },
    }
}

/// `localhost` is never looked up.
async fn connect(at: &HostPort) -> io::Result<TcpStream> {
    if at.host.eq_ignore_ascii_case("localhost") {
        let both: [SocketAddr; 2] =
            [(Ipv4Addr::LOCALHOST, at.port).into(), (Ipv6Addr::LOCALHOST, at.port).into()];
        return TcpStream::connect(&both[..]).await;
    }
    TcpStream::connect((at.host.as_str(), at.port)).await
}

/// What comes before TLS in version 1 of the [PROXY protocol].
///
/// [PROXY protocol]: https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt
fn proxy_header(stream: &TcpStream) -> io::Result<String> {
    let (from, to) = (stream.local_addr()?, stream.peer_addr()?);
    let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
    Ok(format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port()))
}

fn unseen(error: &Error) -> Unseen {
    match error {
        Error::InvalidMessage(_) => Unseen::NoTls,
        Error::AlertReceived(alert) => Unseen::Refused(Quoted::new(&format!("{alert:?}"))),
        Error::InvalidCertificate(CertificateError::BadSignature) => Unseen::NoKey,
        other => Unseen::Refused(Quoted::new(&other.to_string())),
    }
}

/// Keeps the chain that is shown, once the server has proven that it has the key.
#[derive(Debug)]
struct Witness {
    any: AnyCertificate,
    schemes: Vec<SignatureScheme>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    chain: Option<ServedChain>,
    is_signed: bool,
}

impl Witness {
    /// Verifies no other signatures than those of `key_type`.
    fn new(provider: &CryptoProvider, key_type: Option<KeyType>) -> Self {
        let mut provider = provider.clone();
        let mut schemes = provider.signature_verification_algorithms.supported_schemes();
        if let Some(key_type) = key_type {
            schemes.retain(|scheme| type_of(*scheme) == Some(key_type));
            provider.cipher_suites.retain(|suite| goes_with(suite.suite(), key_type));
        }
        Self { any: AnyCertificate(Arc::new(provider)), schemes, seen: Mutex::default() }
    }

    /// One for each handshake: there is no session that could be resumed, and show no certificate.
    fn config(witness: &Arc<Self>) -> Result<ClientConfig, Error> {
        Ok(ClientConfig::builder_with_provider(Arc::clone(&witness.any.0))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(witness) as Arc<_>)
            .with_no_client_auth())
    }

    fn proven(&self) -> Option<ServedChain> {
        let mut seen = self.seen();
        seen.chain.take().filter(|_| seen.is_signed)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A leaf that the library cannot read is compared all the same.
    fn note(
        &self,
        verified: Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = match verified {
            Err(Error::InvalidCertificate(error)) if error != CertificateError::BadSignature => {
                Ok(HandshakeSignatureValid::assertion())
            }
            verified => verified,
        };
        self.seen().is_signed |= verified.is_ok();
        verified
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let others = others.iter().map(AsRef::as_ref);
        self.seen().chain = Some(ServedChain::of(leaf, others));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.note(self.any.verify_tls12_signature(message, leaf, signed))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.note(self.any.verify_tls13_signature(message, leaf, signed))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

fn type_of(scheme: SignatureScheme) -> Option<KeyType> {
    use SignatureScheme as Scheme;
    match scheme {
        Scheme::RSA_PKCS1_SHA256
        | Scheme::RSA_PKCS1_SHA384
        | Scheme::RSA_PKCS1_SHA512
        | Scheme::RSA_PSS_SHA256
        | Scheme::RSA_PSS_SHA384
        | Scheme::RSA_PSS_SHA512 => Some(KeyType::Rsa),
        Scheme::ECDSA_NISTP256_SHA256
        | Scheme::ECDSA_NISTP384_SHA384
        | Scheme::ECDSA_NISTP521_SHA512 => Some(KeyType::Ec),
        Scheme::ED25519 => Some(KeyType::Ed25519),
        _ => None,
    }
}

/// Suites of TLS 1.2 are for one kind of key, those of TLS 1.3 for any.
fn goes_with(suite: CipherSuite, key_type: KeyType) -> bool {
    match key_type {
        KeyType::Rsa => !ECDSA_SUITES.contains(&suite),
        // Ed25519 goes with the suites of ECDSA (RFC 8422, section 5.10).
        KeyType::Ec | KeyType::Ed25519 => !RSA_SUITES.contains(&suite),
    }
}

/// Those of TLS 1.2 for RSA that the library has.
const RSA_SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];
/// Those of TLS 1.2 for ECDSA that the library has.
const ECDSA_SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_type_of_key_is_offered_where_one_is_asked_for() {
        let provider = aws_lc_rs::default_provider();
        for key_type in [KeyType::Rsa, KeyType::Ec, KeyType::Ed25519] {
            let witness = Witness::new(&provider, Some(key_type));
            assert!(!witness.schemes.is_empty());
            assert!(witness.schemes.iter().all(|scheme| type_of(*scheme) == Some(key_type)));
            assert_eq!(witness.any.0.cipher_suites.len(), 6, "{key_type:?}");
        }
    }
}
