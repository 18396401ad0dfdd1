//! A client that looks at what a TLS port serves.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct, Error,
    SignatureScheme, SupportedProtocolVersion,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::pki::CertifiedPair;

/// Makes full handshakes and accepts whatever certificate comes, but does look whether the server
/// has its key.
#[derive(Clone, Debug)]
pub struct TlsClient {
    sni: Option<String>,
    versions: Vec<&'static SupportedProtocolVersion>,
    provider: CryptoProvider,
    schemes: Vec<SignatureScheme>,
    preface: Vec<u8>,
    identity: Option<CertifiedPair>,
}

impl Default for TlsClient {
    fn default() -> Self {
        Self::new()
    }
}

impl TlsClient {
    /// Without SNI, TLS 1.2 and 1.3, every signature scheme.
    #[must_use]
    pub fn new() -> Self {
        let provider = aws_lc_rs::default_provider();
        let schemes = provider.signature_verification_algorithms.supported_schemes();
        let versions = vec![&TLS12, &TLS13];
        Self { sni: None, versions, provider, schemes, preface: Vec::new(), identity: None }
    }

    /// With this SNI.
    #[must_use]
    pub fn sni(self, name: &str) -> Self {
        Self { sni: Some(name.to_owned()), ..self }
    }

    /// TLS 1.2 and no other.
    #[must_use]
    pub fn tls12(self) -> Self {
        Self { versions: vec![&TLS12], ..self }
    }

    /// TLS 1.3 and no other.
    #[must_use]
    pub fn tls13(self) -> Self {
        Self { versions: vec![&TLS13], ..self }
    }

    /// Offers these signature schemes alone.
    #[must_use]
    pub fn schemes(self, schemes: &[SignatureScheme]) -> Self {
        Self { schemes: schemes.to_vec(), ..self }
    }

    /// Offers these cipher suites alone.
    #[must_use]
    pub fn cipher_suites(mut self, suites: &[CipherSuite]) -> Self {
        self.provider.cipher_suites.retain(|suite| suites.contains(&suite.suite()));
        self
    }

    /// Sends these bytes before the handshake, such as a PROXY header.
    #[must_use]
    pub fn preface(self, bytes: &[u8]) -> Self {
        Self { preface: bytes.to_vec(), ..self }
    }

    /// Shows this certificate where the server asks for one.
    #[must_use]
    pub fn identity(self, pair: &CertifiedPair) -> Self {
        Self { identity: Some(pair.clone()), ..self }
    }

    /// One full handshake: the chain that the server sends, in DER, leaf first.
    ///
    /// # Errors
    ///
    /// Where there is no connection, no handshake, or the server does not have the leaf's key.
    pub async fn chain(&self, address: SocketAddr) -> Result<Vec<Vec<u8>>, HandshakeError> {
        let tls = self.open(address).await?;
        let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
        Ok(chain.iter().map(|der| der.to_vec()).collect())
    }

    /// The chain that the server shows, even where the handshake fails after that (empty where it
    /// fails before), and what becomes of it: in TLS 1.3 the server may refuse a client whose part
    /// is finished.
    pub async fn shown(&self, address: SocketAddr) -> (Vec<Vec<u8>>, Result<(), HandshakeError>) {
        let shown = Shown::default();
        let end = match self.connect(address, &shown).await {
            Ok(tls) => take_leave(tls).await,
            Err(error) => Err(error),
        };
        let chain = shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (chain, end)
    }

    /// One full handshake: the connection after it.
    ///
    /// # Errors
    ///
    /// As [`Self::chain`].
    pub async fn open(&self, address: SocketAddr) -> Result<TlsStream<TcpStream>, HandshakeError> {
        self.connect(address, &Shown::default()).await
    }

    async fn connect(
        &self,
        address: SocketAddr,
        shown: &Shown,
    ) -> Result<TlsStream<TcpStream>, HandshakeError> {
        let mut stream = TcpStream::connect(address).await.map_err(HandshakeError::Connect)?;
        stream.write_all(&self.preface).await.map_err(HandshakeError::Connect)?;
        let name = match &self.sni {
            Some(sni) => ServerName::try_from(sni.clone()).unwrap(),
            None => ServerName::IpAddress(address.ip().into()),
        };
        let connector = TlsConnector::from(Arc::new(self.config(shown)));
        connector.connect(name, stream).await.map_err(|error| HandshakeError::of(&error))
    }

    fn config(&self, shown: &Shown) -> ClientConfig {
        let provider = Arc::new(self.provider.clone());
        let anyone = Anyone {
            provider: Arc::clone(&provider),
            schemes: self.schemes.clone(),
            shown: Arc::clone(shown),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(anyone));
        let mut config = match &self.identity {
            Some(pair) => {
                let chain = pair.chain_ders().iter().cloned().map(CertificateDer::from).collect();
                let key = PrivateKeyDer::try_from(pair.key().pkcs8_der().to_vec()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        config
    }
}

/// What came with the server's Certificate message.
type Shown = Arc<Mutex<Vec<Vec<u8>>>>;

/// Says that it goes, and hears what the server still has to say.
async fn take_leave(mut tls: TlsStream<TcpStream>) -> Result<(), HandshakeError> {
    let _ = tls.shutdown().await;
    match tls.read(&mut [0]).await.map_err(|error| HandshakeError::of(&error)) {
        Err(error @ HandshakeError::Alert(_)) => Err(error),
        _ => Ok(()),
    }
}

/// Why there is no chain.
#[derive(Debug)]
pub enum HandshakeError {
    /// No connection.
    Connect(io::Error),
    /// The server said so.
    Alert(AlertDescription),
    /// Anything else, such as an end of the connection.
    Other(String),
}

impl HandshakeError {
    fn of(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(Error::AlertReceived(alert)) => Self::Alert(*alert),
            _ => Self::Other(error.to_string()),
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "no connection: {error}"),
            Self::Alert(alert) => write!(f, "alert {alert:?}"),
            Self::Other(text) => write!(f, "no handshake: {text}"),
        }
    }
}

impl std::error::Error for HandshakeError {}

#[derive(Debug)]
struct Anyone {
    provider: Arc<CryptoProvider>,
    schemes: Vec<SignatureScheme>,
    shown: Shown,
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = [leaf].into_iter().chain(issuers).map(|der| der.to_vec()).collect();
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        as_far_as_possible(verify_tls12_signature(message, leaf, signature, known))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        as_far_as_possible(verify_tls13_signature(message, leaf, signature, known))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// A leaf that the verifier cannot read proves nothing, and is no mistake of the server.
fn as_far_as_possible(
    verified: Result<HandshakeSignatureValid, Error>,
) -> Result<HandshakeSignatureValid, Error> {
    match verified {
        Err(Error::InvalidCertificate(error)) if error != CertificateError::BadSignature => {
            Ok(HandshakeSignatureValid::assertion())
        }
        verified => verified,
    }
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// Serves one certificate with the key of another.
    async fn impostor(listener: TcpListener) {
        let made = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (shown, held) = (made("shown.test"), made("held.test"));
        let key = held.signing_key.serialize_der().try_into().unwrap();
        let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
        let pair = CertifiedKey::new(vec![shown.cert.der().clone()], key);
        let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_protocol_versions(&[&TLS12, &TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = acceptor.accept(stream).await;
        }
    }

    #[tokio::test]
    async fn a_server_without_the_key_of_its_certificate_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(impostor(listener));
        for client in [TlsClient::new().tls12(), TlsClient::new().tls13()] {
            let error = client.chain(address).await.unwrap_err();
            assert!(error.to_string().contains("BadSignature"), "{error}");
        }
        server.abort();
    }
}
