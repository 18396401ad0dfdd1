//! Certificates of every shape that rcgen can make: roots, intermediates that can be issued again, leaves.
//!
//! What rcgen cannot make (DSA, SHA-1, encrypted keys) lies in `tests/data/certs`.

use std::cell::Cell;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber, SignatureAlgorithm,
};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

pub use rcgen::ExtendedKeyUsagePurpose as KeyPurpose;

/// 2020-01-01: where lives begin that say nothing else.
pub const LONG_AGO: i64 = 1_577_836_800;
/// 2120-01-01: where lives end that say nothing else.
pub const FAR_AHEAD: i64 = 4_733_510_400;

/// A root certificate authority and what it issues.
///
/// Leaves live from [`LONG_AGO`] to [`FAR_AHEAD`], or around a given now: see [`Pki::at`].
#[derive(Clone, Debug)]
pub struct Pki {
    root: Authority,
    leaf_life: (i64, i64),
}

impl Pki {
    /// A fresh root, `CN=Test Root`. Two of them share a name, but no key.
    #[must_use]
    pub fn new() -> Self {
        Self { root: Authority::root("Test Root", KeyKind::P256), leaf_life: (LONG_AGO, FAR_AHEAD) }
    }

    /// As [`Pki::new`], but leaves live from an hour before `now` (Unix seconds) to 90 days after.
    #[must_use]
    pub fn at(now: i64) -> Self {
        Self { leaf_life: (now - 3600, now + 90 * 86_400), ..Self::new() }
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> &Authority {
        &self.root
    }

    /// An intermediate under the root.
    #[must_use]
    pub fn intermediate(&self, common_name: &str) -> Authority {
        self.root.intermediate(common_name)
    }

    /// A leaf for these DNS names, from the root, with a fresh P-256 key unless told otherwise.
    #[must_use]
    pub fn leaf(&self, names: &[&str]) -> LeafBuilder {
        self.leaf_from(&self.root, names)
    }

    /// As [`Pki::leaf`], from another authority.
    #[must_use]
    pub fn leaf_from(&self, issuer: &Authority, names: &[&str]) -> LeafBuilder {
        let (not_before, not_after) = self.leaf_life;
        issuer.leaf(names).not_before(not_before).not_after(not_after)
    }

    /// The quickest way to a servable pair: P-256, these names, straight from the root.
    #[must_use]
    pub fn pair(&self, names: &[&str]) -> CertifiedPair {
        self.leaf(names).issue()
    }
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

/// A certificate authority: its certificate, its key, and the intermediates above it.
#[derive(Clone)]
pub struct Authority {
    common_name: String,
    key: TestKey,
    der: Vec<u8>,
    issuer: Option<Box<Self>>,
}

impl Authority {
    /// A self-signed root.
    #[must_use]
    pub fn root(common_name: &str, kind: KeyKind) -> Self {
        let key = TestKey::new(kind);
        let params = authority_params(common_name, LONG_AGO, FAR_AHEAD);
        Self {
            common_name: common_name.to_owned(),
            der: certificate(&params, &key, &params, &key),
            key,
            issuer: None,
        }
    }

    /// An intermediate under this authority, with a fresh P-256 key.
    #[must_use]
    pub fn intermediate(&self, common_name: &str) -> Self {
        let key = TestKey::new(KeyKind::P256);
        self.certify(common_name, key, LONG_AGO, FAR_AHEAD)
    }

    /// An intermediate that lives from `not_before` to `not_after`, with a key of this kind.
    #[must_use]
    pub fn intermediate_with(
        &self,
        common_name: &str,
        kind: KeyKind,
        not_before: i64,
        not_after: i64,
    ) -> Self {
        self.certify(common_name, TestKey::new(kind), not_before, not_after)
    }

    /// The same name and key in a new certificate: what it issued before still chains to it.
    #[must_use]
    pub fn reissued(&self) -> Self {
        let key = self.key.clone();
        match &self.issuer {
            Some(above) => above.certify(&self.common_name, key, LONG_AGO, FAR_AHEAD),
            None => {
                let params = authority_params(&self.common_name, LONG_AGO, FAR_AHEAD);
                let der = certificate(&params, &key, &params, &key);
                Self { der, ..self.clone() }
            }
        }
    }

    /// A leaf for these DNS names from this authority, with a fresh P-256 key and a long life.
    #[must_use]
    pub fn leaf(&self, names: &[&str]) -> LeafBuilder {
        LeafBuilder {
            issuer: Some(self.clone()),
            names: names.iter().map(|&name| dns(name)).collect(),
            common_name: names.first().map(|&name| name.to_owned()),
            subject_serial: None,
            serial: None,
            not_before: LONG_AGO,
            not_after: FAR_AHEAD,
            purposes: Vec::new(),
            extensions: Vec::new(),
            key: None,
            kind: KeyKind::P256,
            with_root: false,
        }
    }

    /// This authority's own certificate.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// This authority's own certificate as PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        pem_block("CERTIFICATE", &self.der)
    }

    /// This authority's key.
    #[must_use]
    pub fn key(&self) -> &TestKey {
        &self.key
    }

    fn certify(&self, common_name: &str, key: TestKey, not_before: i64, not_after: i64) -> Self {
        let params = authority_params(common_name, not_before, not_after);
        Self {
            common_name: common_name.to_owned(),
            der: certificate(&params, &key, &self.params(), &self.key),
            key,
            issuer: Some(Box::new(self.clone())),
        }
    }

    fn params(&self) -> CertificateParams {
        authority_params(&self.common_name, LONG_AGO, FAR_AHEAD)
    }

    /// Itself and all above it, without the root unless `with_root`.
    fn path(&self, with_root: bool) -> Vec<Vec<u8>> {
        let mut ders = Vec::new();
        let mut next = Some(self);
        while let Some(authority) = next {
            next = authority.issuer.as_deref();
            if next.is_some() || with_root {
                ders.push(authority.der.clone());
            }
        }
        ders
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Authority").field(&self.common_name).finish()
    }
}

/// What a leaf is to be; [`LeafBuilder::issue`] makes it, as often as wanted, each time anew.
#[derive(Clone, Debug)]
pub struct LeafBuilder {
    issuer: Option<Authority>,
    names: Vec<SanType>,
    common_name: Option<String>,
    subject_serial: Option<String>,
    serial: Option<Vec<u8>>,
    not_before: i64,
    not_after: i64,
    purposes: Vec<KeyPurpose>,
    extensions: Vec<CustomExtension>,
    key: Option<TestKey>,
    kind: KeyKind,
    with_root: bool,
}

impl LeafBuilder {
    /// Adds an IP address to the subjectAltName.
    #[must_use]
    pub fn ip(mut self, address: IpAddr) -> Self {
        self.names.push(SanType::IpAddress(address));
        self
    }

    /// Adds a mail address to the subjectAltName.
    #[must_use]
    pub fn email(mut self, address: &str) -> Self {
        let address = address.try_into().expect("an ASCII address");
        self.names.push(SanType::Rfc822Name(address));
        self
    }

    /// Leaves the subjectAltName out.
    #[must_use]
    pub fn no_san(mut self) -> Self {
        self.names.clear();
        self
    }

    /// First second of its life, in Unix seconds.
    #[must_use]
    pub fn not_before(mut self, at: i64) -> Self {
        self.not_before = at;
        self
    }

    /// Last second of its life, in Unix seconds.
    #[must_use]
    pub fn not_after(mut self, at: i64) -> Self {
        self.not_after = at;
        self
    }

    /// A fresh key of this kind. See [`TestKey::new`] for how fresh an RSA key is.
    #[must_use]
    pub fn kind(mut self, kind: KeyKind) -> Self {
        self.kind = kind;
        self.key = None;
        self
    }

    /// This key: how a renewal keeps the key of the certificate before.
    #[must_use]
    pub fn key(mut self, key: &TestKey) -> Self {
        self.key = Some(key.clone());
        self
    }

    /// What extendedKeyUsage lists; without this the extension is absent.
    #[must_use]
    pub fn purposes(mut self, purposes: &[KeyPurpose]) -> Self {
        self.purposes = purposes.to_vec();
        self
    }

    /// A critical extension with this dotted OID and content, whatever that may be.
    #[must_use]
    pub fn extension(mut self, oid: &str, content: &[u8]) -> Self {
        let oid: Result<Vec<u64>, _> = oid.split('.').map(str::parse).collect();
        let oid = oid.expect("a dotted OID");
        let mut extension = CustomExtension::from_oid_content(&oid, content.to_vec());
        extension.set_criticality(true);
        self.extensions.push(extension);
        self
    }

    /// The subject's CN; without this it is the first DNS name.
    #[must_use]
    pub fn common_name(mut self, name: &str) -> Self {
        self.common_name = Some(name.to_owned());
        self
    }

    /// The subject's serialNumber attribute (2.5.4.5); cert-manager's temporary leaves carry `1234567890`.
    #[must_use]
    pub fn subject_serial(mut self, number: &str) -> Self {
        self.subject_serial = Some(number.to_owned());
        self
    }

    /// The certificate's own serial number, big-endian; without this it is unique.
    #[must_use]
    pub fn serial(mut self, number: &[u8]) -> Self {
        self.serial = Some(number.to_vec());
        self
    }

    /// Another authority.
    #[must_use]
    pub fn issuer(mut self, issuer: &Authority) -> Self {
        self.issuer = Some(issuer.clone());
        self
    }

    /// Signed by its own key.
    #[must_use]
    pub fn self_signed(mut self) -> Self {
        self.issuer = None;
        self
    }

    /// The root ends the chain; without this the chain ends below it.
    #[must_use]
    pub fn with_root(mut self) -> Self {
        self.with_root = true;
        self
    }

    /// Makes the certificate.
    #[must_use]
    pub fn issue(&self) -> CertifiedPair {
        let key = self.key.clone().unwrap_or_else(|| TestKey::new(self.kind));
        let params = self.params();
        let leaf = match &self.issuer {
            Some(issuer) => certificate(&params, &key, &issuer.params(), &issuer.key),
            None => certificate(&params, &key, &params, &key),
        };
        let mut chain = vec![leaf];
        if let Some(issuer) = &self.issuer {
            chain.extend(issuer.path(self.with_root));
        }
        CertifiedPair { chain, key }
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = &self.common_name {
            params.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        if let Some(number) = &self.subject_serial {
            let kind = DnType::CustomDnType(vec![2, 5, 4, 5]);
            params.distinguished_name.push(kind, number.as_str());
        }
        params.not_before = date(self.not_before);
        params.not_after = date(self.not_after);
        params.serial_number = self.serial.as_deref().map(SerialNumber::from_slice);
        params.subject_alt_names.clone_from(&self.names);
        params.extended_key_usages.clone_from(&self.purposes);
        params.custom_extensions.clone_from(&self.extensions);
        params.use_authority_key_identifier_extension = true;
        params
    }
}

/// A leaf, the certificates above it, and the leaf's key.
#[derive(Clone, Debug)]
pub struct CertifiedPair {
    chain: Vec<Vec<u8>>,
    key: TestKey,
}

impl CertifiedPair {
    /// Leaf and intermediates as one PEM text: what stands in `tls.crt`.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(|der| pem_block("CERTIFICATE", der)).collect()
    }

    /// The leaf alone as PEM.
    #[must_use]
    pub fn leaf_pem(&self) -> String {
        pem_block("CERTIFICATE", self.leaf_der())
    }

    /// The key as PKCS#8 PEM: what stands in `tls.key`.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.key.pkcs8_pem()
    }

    /// The key, for a renewal or in other encodings.
    #[must_use]
    pub fn key(&self) -> &TestKey {
        &self.key
    }

    /// The leaf.
    #[must_use]
    pub fn leaf_der(&self) -> &[u8] {
        &self.chain[0]
    }

    /// Leaf first.
    #[must_use]
    pub fn chain_ders(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// SHA-256 of the leaf.
    #[must_use]
    pub fn leaf_sha256(&self) -> [u8; 32] {
        Sha256::digest(self.leaf_der()).into()
    }

    /// The same, as openssl and `/status` show it.
    #[must_use]
    pub fn leaf_fingerprint(&self) -> String {
        self.leaf_sha256().map(|byte| format!("{byte:02X}")).join(":")
    }
}

/// The kinds of keys that Kong can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA with 2048 bits.
    Rsa2048,
    /// RSA with 3072 bits.
    Rsa3072,
    /// RSA with 4096 bits: as the others but slower, and so not among [`Self::ALL`].
    Rsa4096,
    /// The curve secp256r1.
    P256,
    /// The curve secp384r1.
    P384,
    /// The curve secp521r1.
    P521,
    /// The curve of RFC 8032.
    Ed25519,
}

impl KeyKind {
    /// One of each.
    pub const ALL: [Self; 6] =
        [Self::Rsa2048, Self::Rsa3072, Self::P256, Self::P384, Self::P521, Self::Ed25519];
}

/// A private key. Clones are the same key.
#[derive(Clone)]
pub struct TestKey {
    pair: Arc<KeyPair>,
    kind: KeyKind,
}

impl TestKey {
    /// A fresh key. RSA keys take long to generate, so each thread takes them in turn from a small
    /// pool: two keys taken one after the other differ, the seventh (of 3072 bits: the third, of
    /// 4096 bits: the second) is the first again.
    #[must_use]
    pub fn new(kind: KeyKind) -> Self {
        let pair = match kind {
            KeyKind::Rsa2048 => pooled(RSA_2048),
            KeyKind::Rsa3072 => pooled(RSA_3072),
            KeyKind::Rsa4096 => pooled(RSA_4096),
            KeyKind::P256 => generated(&rcgen::PKCS_ECDSA_P256_SHA256),
            KeyKind::P384 => generated(&rcgen::PKCS_ECDSA_P384_SHA384),
            KeyKind::P521 => generated(&rcgen::PKCS_ECDSA_P521_SHA512),
            KeyKind::Ed25519 => generated_ed25519(),
        };
        Self { pair: Arc::new(pair), kind }
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// `PRIVATE KEY`, version 1, as OpenSSL and cert-manager write it.
    #[must_use]
    pub fn pkcs8_pem(&self) -> String {
        pem_block("PRIVATE KEY", self.pkcs8_der())
    }

    /// The same as DER.
    #[must_use]
    pub fn pkcs8_der(&self) -> &[u8] {
        self.pair.serialized_der()
    }

    /// `RSA PRIVATE KEY`; none unless the key is RSA.
    #[must_use]
    pub fn pkcs1_pem(&self) -> Option<String> {
        match self.kind {
            KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => {
                Some(pem_block("RSA PRIVATE KEY", rsa_inside(self.pkcs8_der())))
            }
            _ => None,
        }
    }

    /// `EC PRIVATE KEY`; none unless the key is on one of the P curves.
    #[must_use]
    pub fn sec1_pem(&self) -> Option<String> {
        let algorithm: &EcdsaSigningAlgorithm = match self.kind {
            KeyKind::P256 => &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            KeyKind::P384 => &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
            KeyKind::P521 => &signature::ECDSA_P521_SHA512_ASN1_SIGNING,
            _ => return None,
        };
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, self.pkcs8_der()).expect("a key of ours");
        let der = pair.private_key().as_der().expect("a key of ours");
        Some(pem_block("EC PRIVATE KEY", der.as_ref()))
    }

    /// The key in every PEM encoding it has.
    #[must_use]
    pub fn pem_encodings(&self) -> Vec<String> {
        [Some(self.pkcs8_pem()), self.pkcs1_pem(), self.sec1_pem()].into_iter().flatten().collect()
    }
}

impl fmt::Debug for TestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TestKey").field(&self.kind).finish()
    }
}

/// One PEM block, LF, 64 columns.
#[must_use]
pub fn pem_block(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in base64(der).as_bytes().chunks(64) {
        text.extend(line.iter().map(|&byte| char::from(byte)));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

fn certificate(
    params: &CertificateParams,
    key: &TestKey,
    issuer_params: &CertificateParams,
    issuer_key: &TestKey,
) -> Vec<u8> {
    let mut params = params.clone();
    params.serial_number.get_or_insert_with(unused_serial);
    let issuer = Issuer::from_params(issuer_params, &*issuer_key.pair);
    let issued = params.signed_by(&*key.pair, &issuer);
    issued.expect("parameters of ours").der().to_vec()
}

fn authority_params(common_name: &str, not_before: i64, not_after: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date(not_before);
    params.not_after = date(not_after);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

/// No two certificates of a process share one, so re-issuing makes other bytes for every key type.
fn unused_serial() -> SerialNumber {
    static NEXT: AtomicU64 = AtomicU64::new(0x4b6f_6e67_0000_0000);
    SerialNumber::from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes())
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("an ASCII name"))
}

fn date(at: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at).expect("a year below 10000")
}

/// Test keys made with `openssl genrsa BITS | openssl pkcs8 -topk8 -nocrypt`.
const RSA_2048: &[&str] = &[
    include_str!("keys/rsa2048-1.pem"),
    include_str!("keys/rsa2048-2.pem"),
    include_str!("keys/rsa2048-3.pem"),
    include_str!("keys/rsa2048-4.pem"),
    include_str!("keys/rsa2048-5.pem"),
    include_str!("keys/rsa2048-6.pem"),
];
const RSA_3072: &[&str] = &[include_str!("keys/rsa3072-1.pem"), include_str!("keys/rsa3072-2.pem")];
const RSA_4096: &[&str] = &[include_str!("keys/rsa4096-1.pem")];

fn pooled(pool: &[&str]) -> KeyPair {
    thread_local!(static TURN: Cell<usize> = const { Cell::new(0) });
    let turn = TURN.replace(TURN.get() + 1);
    KeyPair::from_pem(pool[turn % pool.len()]).expect("a key of ours")
}

fn generated(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).expect("randomness")
}

/// By way of version 1 of PKCS#8: rcgen generates version 2, which OpenSSL 3.0 cannot read.
fn generated_ed25519() -> KeyPair {
    let pair = Ed25519KeyPair::generate().expect("randomness");
    let der = pair.to_pkcs8v1().expect("a key of ours");
    KeyPair::try_from(der.as_ref()).expect("a key of ours")
}

/// The PKCS#1 key inside a PKCS#8 one: RSA's header is 26 bytes long from 1024 bits to beyond 4096.
fn rsa_inside(pkcs8: &[u8]) -> &[u8] {
    const HEADER: usize = 26;
    &pkcs8[HEADER..]
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte))
            << (8 * (3 - group.len()));
        for place in 0..4 {
            if place <= group.len() {
                let index = bits >> (18 - 6 * place) & 63;
                text.push(char::from(ALPHABET[index as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use x509_parser::parse_x509_certificate;

    use super::*;

    #[test]
    fn each_certificate_of_a_chain_names_the_next_as_issuer() {
        let pki = Pki::new();
        let upper = pki.intermediate("Upper");
        let lower = upper.intermediate("Lower");
        for kind in KeyKind::ALL {
            let pair = pki.leaf_from(&lower, &["a.test"]).kind(kind).with_root().issue();
            let chain: Vec<_> = pair
                .chain_ders()
                .iter()
                .map(|der| parse_x509_certificate(der).expect("a certificate").1)
                .collect();
            assert_eq!(chain.len(), 4);
            for link in chain.windows(2) {
                assert_eq!(link[0].issuer(), link[1].subject());
            }
        }
    }

    #[test]
    fn an_authority_issued_again_keeps_name_and_key_alone() {
        let before = Pki::new().intermediate("Upper");
        let after = before.reissued();
        assert_ne!(before.der(), after.der());
        let parsed = |authority: &Authority| {
            let (_, x509) = parse_x509_certificate(authority.der()).expect("a certificate");
            (x509.subject().to_string(), x509.public_key().raw.to_vec())
        };
        assert_eq!(parsed(&before), parsed(&after));
    }

    #[test]
    fn a_renewal_may_keep_its_key() {
        let pki = Pki::at(1_800_000_000);
        let before = pki.pair(&["a.test"]);
        let after = pki.leaf(&["a.test"]).key(before.key()).issue();
        assert_eq!(before.key_pem(), after.key_pem());
        assert_ne!(before.leaf_sha256(), after.leaf_sha256());
    }

    #[test]
    fn every_encoding_of_a_key_is_the_same_key() {
        for kind in KeyKind::ALL {
            let key = TestKey::new(kind);
            for pem in key.pem_encodings() {
                let read = KeyPair::from_pem(&pem).expect("a key");
                assert_eq!(read.public_key_raw(), key.pair.public_key_raw(), "{kind:?}");
            }
        }
    }

    #[test]
    fn base64_is_padded() {
        assert_eq!(base64(b""), "");
        assert_eq!(base64(b"f"), "Zg==");
        assert_eq!(base64(b"fo"), "Zm8=");
        assert_eq!(base64(b"foo"), "Zm9v");
    }
}
