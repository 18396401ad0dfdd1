//! A private key: whether it holds together, and the public half that tells whose it is.
//!
//! Key bytes are wiped when dropped, and nothing here has a `Debug`.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use x509_parser::asn1_rs::Oid;
use zeroize::Zeroizing;

use super::der::{self, Element, tag};
use super::pem::{self, KeyEncoding};
use super::public_key::{Curve, KeyFlaw, PublicKey, RsaPublicKey, oid};

/// A key that Kong can serve.
pub(super) struct PrivateKey {
    pem: Zeroizing<String>,
    public: PublicKey,
}

impl PrivateKey {
    /// Checks the whole key, not only that it can be read.
    pub(super) fn parse(encoding: KeyEncoding, der: &[u8]) -> Result<Self, KeyFlaw> {
        match encoding {
            KeyEncoding::Pkcs8 => pkcs8(der),
            KeyEncoding::Pkcs1 => {
                check_rsa_size(der)?;
                let pair = RsaKeyPair::from_der(der).map_err(|_| KeyFlaw::Broken)?;
                Self::of(rsa_half(&pair)?, encoding, der)
            }
            KeyEncoding::Sec1 => {
                let curve = sec1_curve(der)?;
                let pair = EcdsaKeyPair::from_private_key_der(curve.signing(), der)
                    .map_err(|_| KeyFlaw::Broken)?;
                Self::of(ec_half(curve, &pair), encoding, der)
            }
        }
    }

    /// Encoded anew from the DER that was checked. Kept as PKCS#8, PKCS#1 or SEC1, but for version 2
    /// of PKCS#8, which OpenSSL 3.0 cannot read: that becomes version 1.
    pub(super) fn pem(&self) -> &Zeroizing<String> {
        &self.pem
    }

    /// The half that is no secret.
    pub(super) fn public(&self) -> &PublicKey {
        &self.public
    }

    fn of(public: PublicKey, encoding: KeyEncoding, der: &[u8]) -> Result<Self, KeyFlaw> {
        public.servable()?;
        Ok(Self { pem: pem::encode(encoding.label(), der), public })
    }
}

/// RFC 5958: version, algorithm, key, and in version 2 perhaps the public key.
fn pkcs8(der: &[u8]) -> Result<PrivateKey, KeyFlaw> {
    let parts = der::sequence(der).ok_or(KeyFlaw::Broken)?;
    let [version, algorithm, key, ..] = parts.as_slice() else {
        return Err(KeyFlaw::Broken);
    };
    if tags([version, algorithm, key]) != [tag::INTEGER, tag::SEQUENCE, tag::OCTET_STRING] {
        return Err(KeyFlaw::Broken);
    }
    let version1 = version.content == [0];
    let algorithm = der::elements(algorithm.content).ok_or(KeyFlaw::Broken)?;
    match dotted(algorithm.first())?.as_str() {
        oid::RSA => pkcs8_rsa(der, key.content, version1),
        oid::EC => pkcs8_ec(der, algorithm.get(1), version1),
        oid::ED25519 => pkcs8_ed25519(der, &parts),
        other => Err(unsupported(&PublicKey::named(other))),
    }
}

fn pkcs8_rsa(der: &[u8], inner: &[u8], version1: bool) -> Result<PrivateKey, KeyFlaw> {
    check_rsa_size(inner)?;
    let pair = RsaKeyPair::from_pkcs8(der).map_err(|_| KeyFlaw::Broken)?;
    let public = rsa_half(&pair)?;
    if version1 {
        return PrivateKey::of(public, KeyEncoding::Pkcs8, der);
    }
    let der = pair.as_der().map_err(|_| KeyFlaw::Broken)?;
    PrivateKey::of(public, KeyEncoding::Pkcs8, der.as_ref())
}

fn pkcs8_ec(
    der: &[u8],
    parameters: Option<&Element<'_>>,
    version1: bool,
) -> Result<PrivateKey, KeyFlaw> {
    let curve = named_curve(parameters)?;
    let pair = EcdsaKeyPair::from_pkcs8(curve.signing(), der).map_err(|_| KeyFlaw::Broken)?;
    let public = ec_half(curve, &pair);
    if version1 {
        return PrivateKey::of(public, KeyEncoding::Pkcs8, der);
    }
    let der = pair.to_pkcs8v1().map_err(|_| KeyFlaw::Broken)?;
    PrivateKey::of(public, KeyEncoding::Pkcs8, der.as_ref())
}

/// RFC 8410. A public key that is written beside the seed must be the seed's.
fn pkcs8_ed25519(der: &[u8], parts: &[Element<'_>]) -> Result<PrivateKey, KeyFlaw> {
    const PUBLIC_KEY: u8 = 0x81;
    let seed = der::only(parts[2].content, tag::OCTET_STRING).ok_or(KeyFlaw::Broken)?;
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyFlaw::Broken)?;
    let public = pair.public_key().as_ref();
    let written = parts[3..].iter().find(|part| part.tag == PUBLIC_KEY);
    // The first byte of a bit string counts the bits that its last byte lacks.
    if written.is_some_and(|part| part.content.strip_prefix(&[0]) != Some(public)) {
        return Err(KeyFlaw::Broken);
    }
    let public = PublicKey::Ed25519(public.to_vec());
    if parts[0].content == [0] {
        return PrivateKey::of(public, KeyEncoding::Pkcs8, der);
    }
    let der = pair.to_pkcs8v1().map_err(|_| KeyFlaw::Broken)?;
    PrivateKey::of(public, KeyEncoding::Pkcs8, der.as_ref())
}

/// Tells a small key from a broken one, which aws-lc does not.
fn check_rsa_size(pkcs1: &[u8]) -> Result<(), KeyFlaw> {
    let parts = der::sequence(pkcs1).ok_or(KeyFlaw::Broken)?;
    let [_version, modulus, exponent, ..] = parts.as_slice() else {
        return Err(KeyFlaw::Broken);
    };
    let public = RsaPublicKey::from_parts(modulus, exponent).ok_or(KeyFlaw::Broken)?;
    PublicKey::Rsa(public).servable().map(|_| ())
}

/// The curve that SEC1's optional parameters name; OpenSSL cannot do without them.
fn sec1_curve(der: &[u8]) -> Result<Curve, KeyFlaw> {
    let parts = der::sequence(der).ok_or(KeyFlaw::Broken)?;
    let parameters = parts.iter().find(|part| part.tag == tag::CONTEXT_0);
    let parameters = der::elements(parameters.ok_or(KeyFlaw::Broken)?.content);
    named_curve(parameters.ok_or(KeyFlaw::Broken)?.first())
}

fn named_curve(parameters: Option<&Element<'_>>) -> Result<Curve, KeyFlaw> {
    if parameters.is_some_and(|parameters| parameters.tag == tag::SEQUENCE) {
        return Err(unsupported(&PublicKey::explicit_curve()));
    }
    let name = dotted(parameters)?;
    Curve::named(&name).ok_or_else(|| unsupported(&PublicKey::other_curve(&name)))
}

fn unsupported(key: &PublicKey) -> KeyFlaw {
    key.servable().err().unwrap_or(KeyFlaw::Broken)
}

fn rsa_half(pair: &RsaKeyPair) -> Result<PublicKey, KeyFlaw> {
    let public = RsaPublicKey::of(pair.public_key().as_ref()).ok_or(KeyFlaw::Broken)?;
    Ok(PublicKey::Rsa(public))
}

fn ec_half(curve: Curve, pair: &EcdsaKeyPair) -> PublicKey {
    let point = pair.public_key().as_ref().to_vec();
    PublicKey::Ec { curve, point }
}

fn dotted(element: Option<&Element<'_>>) -> Result<String, KeyFlaw> {
    match element {
        Some(element) if element.tag == tag::OID => {
            Ok(Oid::new(element.content.into()).to_id_string())
        }
        _ => Err(KeyFlaw::Broken),
    }
}

fn tags(elements: [&Element<'_>; 3]) -> [u8; 3] {
    elements.map(|element| element.tag)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a panic is how a test fails

    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
    use testkit::{KeyKind, TestKey};

    use super::*;

    fn decoded(pem: &str) -> (KeyEncoding, Vec<u8>) {
        let path = std::path::Path::new("tls.key");
        let block = &pem::blocks(path, pem.as_bytes()).unwrap()[0];
        (KeyEncoding::of(block.label).unwrap(), block.key().unwrap().to_vec())
    }

    fn flaw(encoding: KeyEncoding, der: &[u8]) -> Option<KeyFlaw> {
        PrivateKey::parse(encoding, der).err()
    }

    #[test]
    fn every_encoding_of_a_key_has_the_same_public_half_and_is_kept() {
        for kind in KeyKind::ALL {
            let key = TestKey::new(kind);
            let expected = PrivateKey::parse(KeyEncoding::Pkcs8, key.pkcs8_der()).unwrap();
            for pem in key.pem_encodings() {
                let (encoding, der) = decoded(&pem);
                let parsed = PrivateKey::parse(encoding, &der).unwrap();
                assert!(parsed.public() == expected.public(), "{kind:?}");
                assert_eq!(**parsed.pem(), pem, "{kind:?}");
            }
        }
    }

    #[test]
    fn version_2_of_pkcs8_becomes_version_1() {
        let v2 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let parsed = PrivateKey::parse(KeyEncoding::Pkcs8, v2.as_ref()).unwrap();
        let (encoding, der) = decoded(parsed.pem());
        assert_eq!(der::sequence(&der).unwrap()[0].content, [0]);
        assert_eq!(der::sequence(&der).unwrap().len(), 3);
        let again = PrivateKey::parse(encoding, &der).unwrap();
        assert!(again.public() == parsed.public());
    }

    #[test]
    fn a_public_key_beside_another_seed_is_refused() {
        let v2 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let mut der = v2.as_ref().to_vec();
        *der.last_mut().unwrap() ^= 1;
        assert_eq!(flaw(KeyEncoding::Pkcs8, &der), Some(KeyFlaw::Broken));
    }

    #[test]
    fn a_private_half_that_is_not_the_public_ones_is_refused() {
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let sec1: aws_lc_rs::encoding::EcPrivateKeyRfc5915Der<'_> =
            ec.private_key().as_der().unwrap();
        let (_, pkcs1) = decoded(&TestKey::new(KeyKind::Rsa2048).pkcs1_pem().unwrap());
        // The last byte of the scalar; of the private exponent, a prime and a coefficient.
        for (encoding, der, places) in [
            (KeyEncoding::Sec1, sec1.as_ref(), vec![7 + 31]),
            (KeyEncoding::Pkcs8, ec.to_pkcs8v1().unwrap().as_ref(), vec![36 + 31]),
            (KeyEncoding::Pkcs1, &pkcs1, vec![300, 560, 700, 900, pkcs1.len() - 1]),
        ] {
            assert_eq!(flaw(encoding, der), None);
            for place in places {
                let mut der = der.to_vec();
                der[place] ^= 2;
                assert_eq!(flaw(encoding, &der), Some(KeyFlaw::Broken), "{encoding:?} {place}");
            }
        }
    }

    #[test]
    fn data_behind_a_key_is_refused() {
        for kind in KeyKind::ALL {
            for pem in TestKey::new(kind).pem_encodings() {
                let (encoding, mut der) = decoded(&pem);
                der.push(0);
                assert_eq!(flaw(encoding, &der), Some(KeyFlaw::Broken), "{kind:?}");
            }
        }
    }

    #[test]
    fn a_sec1_key_that_names_no_curve_is_refused_as_openssl_does() {
        let (_, der) = decoded(&TestKey::new(KeyKind::P256).sec1_pem().unwrap());
        let parts = der::sequence(&der).unwrap();
        let mut bare = vec![0x30, 0x25, 0x02, 0x01, 0x01, 0x04, 0x20];
        bare.extend_from_slice(parts[1].content);
        assert_eq!(flaw(KeyEncoding::Sec1, &bare), Some(KeyFlaw::Broken));
    }
}
