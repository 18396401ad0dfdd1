//! What OpenSSL 3.0 says inside Kong of certificates and keys: when they are stored, and again
//! when they are served.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls_pemfile::Item;
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::parse_der;
use x509_parser::oid_registry::{self, Oid};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey as Parsed;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Recorded with Kong 3.9.3 for every certificate that is none.
const NO_CERTIFICATE: &str = "x509.new: error:688010A:asn1 encoding routines:\
    asn1_item_embed_d2i:nested asn1 error:crypto/asn1/tasn_dec.c:375:";
/// Recorded with Kong 3.9.3.
const ENCRYPTED: &str = "pkey.new:load_key: error:4800068:PEM routines:pem_read_bio_key_legacy:\
    bad password read:crypto/pem/pem_pkey.c:159:";
/// Not recorded: keys that are broken otherwise.
const NO_KEY: &str = "pkey.new:load_key: error:68000A8:asn1 encoding routines:asn1_check_tlen:\
    wrong tag:crypto/asn1/tasn_dec.c:1156:";

/// A public key, comparable however it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PublicKey {
    /// Modulus and exponent, without leading zeros.
    Rsa(Vec<u8>, Vec<u8>),
    /// The SubjectPublicKeyInfo.
    Other(Vec<u8>),
}

/// A certificate that Kong stores: only the first of the text is looked at.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    pub(super) der: CertificateDer<'static>,
    pub(super) key: PublicKey,
    /// What must differ between a pair and its alternative.
    pub(super) key_type: String,
    pub(super) is_ca: bool,
    /// Unix seconds.
    pub(super) not_after: i64,
}

impl Certificate {
    pub(super) fn parse(pem: &str) -> Result<Self, String> {
        let first = certificates(pem).into_iter().next().and_then(Result::ok);
        first.and_then(Self::of).ok_or_else(|| NO_CERTIFICATE.to_owned())
    }

    fn of(der: CertificateDer<'static>) -> Option<Self> {
        let (_, x509) = X509Certificate::from_der(&der).ok()?;
        let constraints = x509.basic_constraints().ok()?;
        let is_ca = constraints.is_some_and(|found| found.value.ca);
        let info = x509.public_key();
        let (key, key_type) = (public_key(info), info.algorithm.algorithm.to_id_string());
        let not_after = x509.validity().not_after.timestamp();
        Some(Self { der, key, key_type, is_ca, not_after })
    }
}

/// The public half of the private key in `pem`. Curves that the kit cannot serve are refused,
/// though Kong takes them.
pub(super) fn public_half(pem: &str) -> Result<PublicKey, String> {
    if pem.contains("BEGIN ENCRYPTED PRIVATE KEY") || pem.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(ENCRYPTED.to_owned());
    }
    let key = private_key(pem).ok_or(NO_KEY)?;
    if let Some(rsa) = rsa_numbers(&key) {
        return Ok(rsa);
    }
    let key = any_supported_type(&key).map_err(|_| NO_KEY)?;
    Ok(PublicKey::Other(key.public_key().ok_or(NO_KEY)?.to_vec()))
}

/// The pair as a handshake uses it. `None` where OpenSSL gives up at that moment: a later block
/// that is broken, or any certificate below security level 2.
pub(super) fn served(cert: &str, key: &str) -> Option<Arc<CertifiedKey>> {
    let chain: Vec<_> = certificates(cert).into_iter().collect::<Result<_, _>>().ok()?;
    if chain.is_empty() || chain.iter().any(is_too_weak) {
        return None;
    }
    let key = any_supported_type(&private_key(key)?).ok()?;
    Some(Arc::new(CertifiedKey::new(chain, key)))
}

/// Every certificate block, up to and including the first that is broken; other blocks are skipped.
fn certificates(pem: &str) -> Vec<Result<CertificateDer<'static>, Broken>> {
    let mut found = Vec::new();
    // OpenSSL's PEM_read_bio_X509 takes this label as well.
    let pem = pem.replace("X509 CERTIFICATE-----", "CERTIFICATE-----");
    for item in rustls_pemfile::read_all(&mut pem.as_bytes()) {
        match item {
            Ok(Item::X509Certificate(der)) if X509Certificate::from_der(&der).is_ok() => {
                found.push(Ok(der));
            }
            Ok(Item::X509Certificate(_)) | Err(_) => {
                found.push(Err(Broken));
                break;
            }
            Ok(_) => {}
        }
    }
    found
}

struct Broken;

fn private_key(pem: &str) -> Option<PrivateKeyDer<'static>> {
    rustls_pemfile::private_key(&mut pem.as_bytes()).ok().flatten()
}

fn public_key(info: &SubjectPublicKeyInfo<'_>) -> PublicKey {
    match info.parsed() {
        Ok(Parsed::RSA(rsa)) => number_pair(rsa.modulus, rsa.exponent),
        _ => PublicKey::Other(info.raw.to_vec()),
    }
}

/// Modulus and exponent of a private key, of any size: rustls loads none below 2048 bits, while
/// Kong stores them.
fn rsa_numbers(key: &PrivateKeyDer<'_>) -> Option<PublicKey> {
    match key {
        PrivateKeyDer::Pkcs1(der) => pkcs1_numbers(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => {
            let (_, info) = parse_der(der.secret_pkcs8_der()).ok()?;
            let [_, algorithm, inner, ..] = info.as_sequence().ok()?.as_slice() else {
                return None;
            };
            let oid = algorithm.as_sequence().ok()?.first()?.as_oid().ok()?;
            (*oid == oid_registry::OID_PKCS1_RSAENCRYPTION)
                .then(|| inner.as_slice().ok())?
                .and_then(pkcs1_numbers)
        }
        _ => None,
    }
}

/// RFC 8017, appendix A.1.2: version, modulus, public exponent, and what is secret.
fn pkcs1_numbers(der: &[u8]) -> Option<PublicKey> {
    let (_, key) = parse_der(der).ok()?;
    let [_, modulus, exponent, ..] = key.as_sequence().ok()?.as_slice() else {
        return None;
    };
    Some(number_pair(modulus.as_slice().ok()?, exponent.as_slice().ok()?))
}

fn number_pair(modulus: &[u8], exponent: &[u8]) -> PublicKey {
    PublicKey::Rsa(without_zeros(modulus), without_zeros(exponent))
}

fn without_zeros(number: &[u8]) -> Vec<u8> {
    number.iter().copied().skip_while(|byte| *byte == 0).collect()
}

/// Below OpenSSL's security level 2: RSA under 2048 bits, or signed with SHA-1 or MD5 by another.
fn is_too_weak(der: &CertificateDer<'_>) -> bool {
    let Ok((_, x509)) = X509Certificate::from_der(der) else {
        return true;
    };
    let signed_by_itself = x509.subject() == x509.issuer();
    is_short(&public_key(x509.public_key()))
        || (!signed_by_itself && is_weak_signature(&x509.signature_algorithm.algorithm))
}

fn is_short(key: &PublicKey) -> bool {
    match key {
        PublicKey::Rsa(modulus, _) => {
            let first = modulus.first().copied().unwrap_or_default();
            8 * modulus.len() < 2048 + first.leading_zeros() as usize
        }
        PublicKey::Other(_) => false,
    }
}

fn is_weak_signature(oid: &Oid<'_>) -> bool {
    [
        oid_registry::OID_PKCS1_MD4WITHRSAENC,
        oid_registry::OID_PKCS1_MD5WITHRSAENC,
        oid_registry::OID_PKCS1_SHA1WITHRSA,
        ECDSA_WITH_SHA1,
    ]
    .contains(oid)
}

/// RFC 3279, section 2.2.3.
const ECDSA_WITH_SHA1: Oid<'static> = x509_parser::der_parser::oid!(1.2.840.10045.4.1);
