//! The public key of a certificate: its type, its strength, and what a private key must match.

use aws_lc_rs::signature::{self, EcdsaSigningAlgorithm, ParsedPublicKey, VerificationAlgorithm};
use x509_parser::asn1_rs::{Any, Class, Tag};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::der;

/// What Kong calls the type of a key: the pair and its alternative must be of different ones.
/// All curves are one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyType {
    /// RSA, of whatever length.
    Rsa,
    /// P-256, P-384 or P-521.
    Ec,
    /// Ed25519.
    Ed25519,
}

impl KeyType {
    /// A name for labels and fields.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::Ec => "ec",
            Self::Ed25519 => "ed25519",
        }
    }
}

/// The fewest bits that OpenSSL's security level takes for RSA and DSA.
const FEWEST_BITS: usize = 2048;
/// The most bits that aws-lc checks, which is more than any client takes.
const MOST_BITS: usize = 8192;

/// A public key, from a certificate or derived from a private key.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum PublicKey {
    Rsa(RsaPublicKey),
    Ec {
        curve: Curve,
        point: Vec<u8>,
    },
    Ed25519(Vec<u8>),
    /// Of a type that Kong does not serve; such a key may well have signed the leaf.
    Other {
        kind: String,
        strength: Strength,
    },
}

/// What OpenSSL makes of a key that issued others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strength {
    Enough,
    Weak,
    Unknown,
}

/// What is wrong with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyFlaw {
    /// Of a type that is not served; in words.
    Unsupported(String),
    /// Too small; in words.
    Weak(String),
    /// Not whole, or its parts contradict each other.
    Broken,
}

impl PublicKey {
    /// Errs with [`KeyFlaw::Broken`] alone: a key that is not served may stand above the leaf.
    pub(super) fn of(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, KeyFlaw> {
        let bits = &info.subject_public_key;
        if bits.unused_bits != 0 {
            return Err(KeyFlaw::Broken);
        }
        let parameters = info.algorithm.parameters.as_ref();
        let is_oid = |any: &&Any<'_>| any.tag() == Tag::Oid && any.class() == Class::Universal;
        let named_curve = parameters.filter(is_oid).and_then(|any| any.as_oid().ok());
        match info.algorithm.algorithm.to_id_string().as_str() {
            oid::RSA => Ok(Self::Rsa(RsaPublicKey::of(&bits.data).ok_or(KeyFlaw::Broken)?)),
            oid::RSA_PSS => Self::rsa_pss(&bits.data),
            oid::EC => match named_curve {
                Some(curve) => Self::on_curve(&curve.to_id_string(), &bits.data),
                None if parameters.is_some_and(|any| any.tag() == Tag::Sequence) => {
                    Ok(Self::explicit_curve())
                }
                None => Err(KeyFlaw::Broken),
            },
            oid::ED25519 if bits.data.len() == 32 => Ok(Self::Ed25519(bits.data.to_vec())),
            oid::ED25519 => Err(KeyFlaw::Broken),
            oid::DSA => Self::dsa(parameters.map_or(&[], |any| any.data)),
            other => Ok(Self::named(other)),
        }
    }

    /// Whether a private key with this public half belongs to `certified`.
    pub(super) fn belongs_to(&self, certified: &Self) -> bool {
        match (self, certified) {
            (Self::Ec { curve, point }, Self::Ec { curve: other, point: written }) => {
                curve == other && (point == written || compressed(point) == *written)
            }
            _ => self == certified,
        }
    }

    /// Its type, if Kong can serve it and it is strong enough.
    pub(super) fn servable(&self) -> Result<KeyType, KeyFlaw> {
        match self {
            Self::Rsa(key) if key.bits() < FEWEST_BITS => Err(KeyFlaw::Weak(key.in_words())),
            Self::Rsa(key) if key.bits() > MOST_BITS => Err(KeyFlaw::Unsupported(key.in_words())),
            Self::Rsa(_) => Ok(KeyType::Rsa),
            Self::Ec { .. } => Ok(KeyType::Ec),
            Self::Ed25519(_) => Ok(KeyType::Ed25519),
            Self::Other { kind, .. } => Err(KeyFlaw::Unsupported(kind.clone())),
        }
    }

    /// Whether OpenSSL takes a certificate with this key above the leaf.
    pub(super) fn fit_to_issue(&self) -> Result<(), KeyFlaw> {
        match self {
            Self::Rsa(key) if key.bits() < FEWEST_BITS => Err(KeyFlaw::Weak(key.in_words())),
            Self::Other { kind, strength: Strength::Weak } => Err(KeyFlaw::Weak(kind.clone())),
            Self::Other { kind, strength: Strength::Unknown } => {
                Err(KeyFlaw::Unsupported(kind.clone()))
            }
            _ => Ok(()),
        }
    }

    /// A type that is known by its OID alone.
    pub(super) fn named(algorithm: &str) -> Self {
        let (kind, strength) = match algorithm {
            oid::ED448 => ("Ed448".to_owned(), Strength::Enough),
            oid::DSA => ("DSA".to_owned(), Strength::Unknown),
            oid::RSA_PSS => ("RSA-PSS".to_owned(), Strength::Unknown),
            oid::X25519 => ("X25519".to_owned(), Strength::Unknown),
            oid::X448 => ("X448".to_owned(), Strength::Unknown),
            other => (format!("of the type {other}"), Strength::Unknown),
        };
        Self::Other { kind, strength }
    }

    /// A curve that is written out instead of named: OpenSSL serves it, clients refuse it.
    pub(super) fn explicit_curve() -> Self {
        Self::Other {
            kind: "EC on a curve that is not named".to_owned(),
            strength: Strength::Enough,
        }
    }

    /// A curve other than Kong's three. OpenSSL reads no key on a curve that it does not know.
    pub(super) fn other_curve(curve: &str) -> Self {
        const BRAINPOOL: &str = "1.3.36.3.3.2.8.1.1.";
        let (name, strength) = match (curve, curve.strip_prefix(BRAINPOOL)) {
            (oid::P192, _) => ("P-192", Strength::Weak),
            (oid::P224, _) => ("P-224", Strength::Enough),
            (oid::SECP256K1, _) => ("secp256k1", Strength::Enough),
            (_, Some("1" | "2" | "3" | "4")) => ("brainpool", Strength::Weak),
            (_, Some("5" | "6" | "7" | "8" | "9" | "10" | "11" | "12" | "13" | "14")) => {
                ("brainpool", Strength::Enough)
            }
            _ => (curve, Strength::Unknown),
        };
        Self::Other { kind: format!("EC on the curve {name}"), strength }
    }

    fn on_curve(curve: &str, point: &[u8]) -> Result<Self, KeyFlaw> {
        let Some(curve) = Curve::named(curve) else {
            return Ok(Self::other_curve(curve));
        };
        ParsedPublicKey::new(curve.verification(), point).map_err(|_| KeyFlaw::Broken)?;
        let point = point.to_vec();
        Ok(Self::Ec { curve, point })
    }

    fn rsa_pss(bits: &[u8]) -> Result<Self, KeyFlaw> {
        let key = RsaPublicKey::of(bits).ok_or(KeyFlaw::Broken)?;
        Ok(Self::Other {
            kind: format!("RSA-PSS with {} bits", key.bits()),
            strength: Strength::of(key.bits()),
        })
    }

    /// The first of DSA's parameters is the prime that counts; without it the strength is unknown.
    fn dsa(parameters: &[u8]) -> Result<Self, KeyFlaw> {
        let parameters = der::elements(parameters).ok_or(KeyFlaw::Broken)?;
        let Some(prime) = parameters.first() else {
            return Ok(Self::named(oid::DSA));
        };
        let prime = der::unsigned(prime).ok_or(KeyFlaw::Broken)?;
        Ok(Self::Other {
            kind: format!("DSA with {} bits", bit_length(&prime)),
            strength: Strength::of(bit_length(&prime)),
        })
    }
}

impl Strength {
    fn of(bits: usize) -> Self {
        if bits < FEWEST_BITS { Self::Weak } else { Self::Enough }
    }
}

/// Modulus and exponent, without leading zeros.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RsaPublicKey {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl RsaPublicKey {
    /// Reads PKCS#1's `RSAPublicKey`.
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        match der::sequence(der)?.as_slice() {
            [modulus, exponent] => Self::from_parts(modulus, exponent),
            _ => None,
        }
    }

    /// From the two integers.
    pub(super) fn from_parts(
        modulus: &der::Element<'_>,
        exponent: &der::Element<'_>,
    ) -> Option<Self> {
        let key = Self { modulus: der::unsigned(modulus)?, exponent: der::unsigned(exponent)? };
        (!key.modulus.is_empty() && !key.exponent.is_empty()).then_some(key)
    }

    fn bits(&self) -> usize {
        bit_length(&self.modulus)
    }

    fn in_words(&self) -> String {
        format!("RSA with {} bits", self.bits())
    }
}

/// The curves that Kong serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    /// The curve with this OID.
    pub(super) fn named(oid: &str) -> Option<Self> {
        match oid {
            oid::P256 => Some(Self::P256),
            oid::P384 => Some(Self::P384),
            oid::P521 => Some(Self::P521),
            _ => None,
        }
    }

    pub(super) fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            Self::P384 => &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
            Self::P521 => &signature::ECDSA_P521_SHA512_ASN1_SIGNING,
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::P256 => &signature::ECDSA_P256_SHA256_ASN1,
            Self::P384 => &signature::ECDSA_P384_SHA384_ASN1,
            Self::P521 => &signature::ECDSA_P521_SHA512_ASN1,
        }
    }
}

/// Algorithms of keys, as dotted OIDs.
pub(super) mod oid {
    pub(in super::super) const RSA: &str = "1.2.840.113549.1.1.1";
    pub(in super::super) const RSA_PSS: &str = "1.2.840.113549.1.1.10";
    pub(in super::super) const DSA: &str = "1.2.840.10040.4.1";
    pub(in super::super) const EC: &str = "1.2.840.10045.2.1";
    pub(in super::super) const X25519: &str = "1.3.101.110";
    pub(in super::super) const X448: &str = "1.3.101.111";
    pub(in super::super) const ED25519: &str = "1.3.101.112";
    pub(in super::super) const ED448: &str = "1.3.101.113";
    pub(in super::super) const P192: &str = "1.2.840.10045.3.1.1";
    pub(in super::super) const P224: &str = "1.3.132.0.33";
    pub(in super::super) const P256: &str = "1.2.840.10045.3.1.7";
    pub(in super::super) const P384: &str = "1.3.132.0.34";
    pub(in super::super) const P521: &str = "1.3.132.0.35";
    pub(in super::super) const SECP256K1: &str = "1.3.132.0.10";
}

/// The short form of an uncompressed point: the half that is left out shows in the first byte.
fn compressed(point: &[u8]) -> Vec<u8> {
    let (Some((_, halves)), Some(last)) = (point.split_first(), point.last()) else {
        return Vec::new();
    };
    let mut short = vec![2 + (last & 1)];
    short.extend_from_slice(&halves[..halves.len() / 2]);
    short
}

fn bit_length(number: &[u8]) -> usize {
    match number.split_first() {
        Some((first, rest)) => 8 * (rest.len() + 1) - first.leading_zeros() as usize,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_above_the_leaf_are_judged_as_openssl_does() {
        for (curve, expected) in [
            (oid::P224, Ok(())),
            (oid::SECP256K1, Ok(())),
            ("1.3.36.3.3.2.8.1.1.7", Ok(())),
            (oid::P192, Err(KeyFlaw::Weak("EC on the curve P-192".to_owned()))),
            ("1.2.3", Err(KeyFlaw::Unsupported("EC on the curve 1.2.3".to_owned()))),
        ] {
            let key = PublicKey::other_curve(curve);
            assert_eq!(key.fit_to_issue(), expected);
            assert!(matches!(key.servable(), Err(KeyFlaw::Unsupported(_))));
        }
    }

    #[test]
    fn a_curve_that_is_not_named_by_an_oid_is_refused() {
        let pair = testkit::Pki::new().pair(&["a.test"]);
        let p256 = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        for other_tag in [0x86, 0x04] {
            let mut der = pair.leaf_der().to_vec();
            let place = der.windows(10).position(|window| window == p256);
            der[place.expect("the curve")] = other_tag;
            let text = testkit::pem_block("CERTIFICATE", &der);
            let error = super::super::held_facts(&text, None).expect_err("no key");
            assert!(error.to_string().contains("its public key"), "{error}");
        }
    }

    #[test]
    fn the_modulus_decides_how_strong_rsa_is() {
        let key = |modulus: Vec<u8>| PublicKey::Rsa(RsaPublicKey { modulus, exponent: vec![3] });
        let weak = |bits: usize| Err(KeyFlaw::Weak(format!("RSA with {bits} bits")));
        let large = Err(KeyFlaw::Unsupported("RSA with 8193 bits".to_owned()));
        for (first, length, expected) in [
            (0x80, 256, Ok(KeyType::Rsa)),
            (0x7f, 256, weak(2047)),
            (0x80, 128, weak(1024)),
            (0xff, 1024, Ok(KeyType::Rsa)),
            (0x01, 1025, large),
        ] {
            let modulus = [vec![first], vec![0; length - 1]].concat();
            assert_eq!(key(modulus).servable(), expected);
        }
    }
}
