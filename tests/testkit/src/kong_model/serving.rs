//! What a Kong node serves to TLS clients: a cache over the database, so that it can be behind.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, SignatureAlgorithm, SignatureScheme};

use super::database::{CacheKey, Database};
use super::openssl;
use super::schema::{Kind, Object};
use super::sni::candidates;

/// What a handshake gets.
#[derive(Clone, Debug)]
pub enum Serving {
    /// A chain, with the key that proves it.
    Certified(Arc<CertifiedKey>),
    /// Kong fails the handshake with the alert `internal_error`.
    Broken,
}

impl Serving {
    /// The DER of the chain, leaf first; `None` where the handshake fails.
    #[must_use]
    pub fn chain(&self) -> Option<Vec<Vec<u8>>> {
        match self {
            Self::Certified(pair) => Some(pair.cert.iter().map(|der| der.to_vec()).collect()),
            Self::Broken => None,
        }
    }
}

/// What a client can verify: decides between the two pairs of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offers {
    /// RSA signatures.
    pub rsa: bool,
    /// ECDSA signatures.
    pub ecdsa: bool,
    /// Ed25519 signatures.
    pub ed25519: bool,
}

impl Offers {
    /// A client that takes anything.
    pub const ALL: Self = Self { rsa: true, ecdsa: true, ed25519: true };

    /// What a ClientHello offers. Where it offers TLS 1.2 only, its cipher suites count too.
    #[must_use]
    pub fn of(hello: &ClientHello<'_>) -> Self {
        let suites = hello.cipher_suites();
        let any_suite = |known: &[CipherSuite]| suites.iter().any(|suite| known.contains(suite));
        let tls13 = any_suite(&TLS13);
        let scheme = |known: fn(SignatureScheme) -> bool| {
            hello.signature_schemes().iter().any(|scheme| known(*scheme))
        };
        let ecdsa_suite = tls13 || any_suite(&ECDHE_ECDSA);
        Self {
            rsa: scheme(is_rsa) && (tls13 || any_suite(&ECDHE_RSA)),
            ecdsa: scheme(is_ecdsa) && ecdsa_suite,
            ed25519: scheme(|scheme| scheme == SignatureScheme::ED25519) && ecdsa_suite,
        }
    }

    fn take(self, algorithm: SignatureAlgorithm) -> bool {
        match algorithm {
            SignatureAlgorithm::RSA => self.rsa,
            SignatureAlgorithm::ECDSA => self.ecdsa,
            SignatureAlgorithm::ED25519 => self.ed25519,
            _ => false,
        }
    }
}

const TLS13: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];
const ECDHE_ECDSA: [CipherSuite; 3] = [
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
];
const ECDHE_RSA: [CipherSuite; 3] = [
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

fn is_rsa(scheme: SignatureScheme) -> bool {
    use SignatureScheme as S;
    let pss = [S::RSA_PSS_SHA256, S::RSA_PSS_SHA384, S::RSA_PSS_SHA512];
    let pkcs1 = [S::RSA_PKCS1_SHA256, S::RSA_PKCS1_SHA384, S::RSA_PKCS1_SHA512];
    pss.contains(&scheme) || pkcs1.contains(&scheme)
}

fn is_ecdsa(scheme: SignatureScheme) -> bool {
    use SignatureScheme as S;
    [S::ECDSA_NISTP256_SHA256, S::ECDSA_NISTP384_SHA384, S::ECDSA_NISTP521_SHA512].contains(&scheme)
}

/// A node's cache, filled by handshakes and emptied by what the node hears of changes.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// Which certificate a name has; `None` where it has none.
    snis: BTreeMap<String, Option<String>>,
    certificates: BTreeMap<String, Option<Object>>,
    /// The database as this node last saw it, where it hears of nothing.
    frozen: Option<Database>,
    held_back: Vec<CacheKey>,
    /// How many writes it is yet to miss.
    deaf_for: u32,
}

impl Cache {
    /// From now on the node goes by `database` as it is now, and hears of no change.
    pub(super) fn freeze(&mut self, database: &Database) {
        self.frozen.get_or_insert_with(|| database.clone());
    }

    /// The node hears of all that it missed.
    pub(super) fn catch_up(&mut self) {
        self.frozen = None;
        for key in std::mem::take(&mut self.held_back) {
            self.forget(&key);
        }
    }

    /// The node never hears of the next `writes`.
    pub(super) fn miss(&mut self, writes: u32) {
        self.deaf_for = writes;
    }

    /// Rows changed by one write.
    pub(super) fn hear(&mut self, changes: Vec<CacheKey>) {
        if changes.is_empty() {
            return;
        }
        if self.frozen.is_some() {
            self.held_back.extend(changes);
        } else if self.deaf_for > 0 {
            self.deaf_for -= 1;
        } else {
            changes.iter().for_each(|key| self.forget(key));
        }
    }

    /// `DELETE /cache/{key}`: a frozen node, too, asks the database for that name again.
    pub(super) fn drop_sni(&mut self, name: &str, database: Option<&Database>) {
        self.forget(&CacheKey::Sni(name.to_owned()));
        if let (true, Some(database)) = (self.frozen.is_some(), database) {
            self.snis.insert(name.to_owned(), database.owner(name).map(str::to_owned));
        }
    }

    /// `DELETE /cache`.
    pub(super) fn purge(&mut self) {
        *self = Self::default();
    }

    /// The handshake for `sni`. `database` is `None` while it is down: what is cached goes on
    /// being served, any other name gets the default certificate.
    pub(super) fn serve(
        &mut self,
        sni: &str,
        offers: Offers,
        database: Option<&Database>,
        default: &Arc<CertifiedKey>,
    ) -> Serving {
        let mut names = candidates(sni).into_iter();
        match names.find_map(|name| self.sni(&name, database)) {
            Some(id) => match self.certificate(&id, database) {
                Some(row) => serve_row(&row, offers),
                None => Serving::Broken,
            },
            None => Serving::Certified(Arc::clone(default)),
        }
    }

    fn sni(&mut self, name: &str, database: Option<&Database>) -> Option<String> {
        if let Some(cached) = self.snis.get(name) {
            return cached.clone();
        }
        let database = database.map(|live| self.frozen.as_ref().unwrap_or(live))?;
        let found = database.owner(name).map(str::to_owned);
        self.snis.insert(name.to_owned(), found.clone());
        found
    }

    fn certificate(&mut self, id: &str, database: Option<&Database>) -> Option<Object> {
        if let Some(cached) = self.certificates.get(id) {
            return cached.clone();
        }
        let database = database.map(|live| self.frozen.as_ref().unwrap_or(live))?;
        let found = database.row(Kind::Certificates, id).cloned();
        self.certificates.insert(id.to_owned(), found.clone());
        found
    }

    fn forget(&mut self, key: &CacheKey) {
        match key {
            CacheKey::Certificate(id) => drop(self.certificates.remove(id)),
            CacheKey::Sni(name) => drop(self.snis.remove(name)),
        }
    }
}

/// Pairs that are served whatever is stored, by name.
#[derive(Debug, Default)]
pub(super) struct Instead(BTreeMap<String, Arc<CertifiedKey>>);

impl Instead {
    /// `None` takes it off.
    pub(super) fn set(&mut self, sni: &str, pair: Option<Arc<CertifiedKey>>) {
        match pair {
            Some(pair) => drop(self.0.insert(sni.to_owned(), pair)),
            None => drop(self.0.remove(sni)),
        }
    }

    /// By its own name, or by the wildcard of one label above it.
    pub(super) fn pair_for(&self, sni: &str) -> Option<Arc<CertifiedKey>> {
        let wildcard = || self.0.get(&format!("*.{}", sni.split_once('.')?.1));
        self.0.get(sni).or_else(wildcard).cloned()
    }
}

/// The pair that OpenSSL picks: ECDSA before the others, among what the client takes. A single
/// pair is served to every client, and a client that does not take it ends the handshake.
fn serve_row(row: &Object, offers: Offers) -> Serving {
    let pair = |cert: &str, key: &str| match (row[cert].as_str(), row[key].as_str()) {
        (Some(cert), Some(key)) => Some(openssl::served(cert, key)),
        _ => None,
    };
    match (pair("cert", "key"), pair("cert_alt", "key_alt")) {
        (Some(Some(only)), None) => Serving::Certified(only),
        (Some(Some(main)), Some(Some(alternative))) => {
            let mut pairs = [main, alternative];
            pairs.sort_by_key(|pair| pair.key.algorithm() != SignatureAlgorithm::ECDSA);
            let taken = pairs.iter().find(|pair| offers.take(pair.key.algorithm()));
            Serving::Certified(Arc::clone(taken.unwrap_or(&pairs[0])))
        }
        _ => Serving::Broken,
    }
}

/// The certificate of `kong.conf`, for clients without SNI and for unknown names.
pub(super) fn self_signed() -> Arc<CertifiedKey> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = made.signing_key.serialize_der().try_into().unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let chain = vec![CertificateDer::from(made.cert.der().to_vec())];
    Arc::new(CertifiedKey::new(chain, key))
}
