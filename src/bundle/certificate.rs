//! One certificate: the few things about it that decide what happens to its chain.

use std::collections::BTreeSet;
use std::path::Path;

use x509_parser::certificate::{TbsCertificate, X509Certificate};
use x509_parser::extensions::{
    AuthorityKeyIdentifier, ExtendedKeyUsage, GeneralName, KeyIdentifier, KeyUsage,
    SubjectAlternativeName,
};
use x509_parser::oid_registry::{
    OID_X509_COMMON_NAME, OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, OID_X509_EXT_BASIC_CONSTRAINTS,
    OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE, OID_X509_EXT_SUBJECT_ALT_NAME,
    OID_X509_EXT_SUBJECT_KEY_IDENTIFIER, OID_X509_SERIALNUMBER, Oid,
};
use x509_parser::prelude::FromDer;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::{AlgorithmIdentifier, X509Name};

use super::pem::Block;
use super::public_key::{KeyFlaw, PublicKey};
use super::{Invalid, Validity, shape};
use crate::clock::Timestamp;
use crate::quote::Quoted;

/// A certificate that OpenSSL can read.
pub(super) struct Certificate {
    der: Vec<u8>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    /// The subject, to be shown.
    pub(super) subject_shown: Quoted,
    /// The issuer, to be shown.
    pub(super) issuer_shown: Quoted,
    /// Signed by its own key, as far as names and key identifiers tell: OpenSSL looks at no more.
    pub(super) self_signed: bool,
    pub(super) validity: Validity,
    pub(super) public_key: PublicKey,
    pub(super) signature: Signature,
    /// The `dNSName`s, folded.
    pub(super) names: BTreeSet<String>,
    /// Whether one of the extensions is malformed that OpenSSL looks at.
    pub(super) malformed: bool,
    /// Whether keyUsage, if there is one, allows signatures.
    pub(super) may_sign: bool,
    /// Whether extendedKeyUsage, if there is one, lets it be a server's.
    pub(super) for_servers: bool,
    /// What cert-manager makes to stand in until the issuer has answered.
    pub(super) temporary: bool,
    /// Whether basicConstraints, once and well-formed, says so.
    pub(super) is_authority: bool,
}

/// What OpenSSL refuses in a chain, however well the rest of it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Weakness<'a> {
    Key(KeyFlaw),
    /// The digest that was signed, or an OID.
    Signature(&'a str),
}

/// The digest that was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Signature {
    Strong,
    /// By a digest that OpenSSL's security level refuses; in words.
    Weak(&'static str),
    /// By something that OpenSSL does not know, and so refuses: its OID.
    Unknown(String),
}

impl Certificate {
    /// The certificate in a block that stands at `position`, counted from 1; `mend` is for the
    /// message of one that is damaged.
    pub(super) fn of_block(
        path: &Path,
        position: usize,
        block: &Block<'_>,
        mend: &'static str,
    ) -> Result<Self, Invalid> {
        let der = block.certificate().map_err(|flaw| Invalid::not_pem(path, flaw))?;
        Self::parse(der).map_err(|flaw| Invalid::bad_certificate(path, position, flaw, mend))
    }

    /// Errs, in fixed words, unless `der` is one whole certificate and nothing else.
    pub(super) fn parse(der: Vec<u8>) -> Result<Self, &'static str> {
        if !shape::is_certificate(&der) {
            return Err("its structure is not that of a certificate, or data follows it");
        }
        let (_, x509) =
            X509Certificate::from_der(&der).map_err(|_| "a field of it cannot be read")?;
        let public_key =
            PublicKey::of(x509.public_key()).map_err(|_| "its public key cannot be read")?;
        Ok(Self {
            subject: x509.subject().as_raw().to_vec(),
            issuer: x509.issuer().as_raw().to_vec(),
            subject_shown: Quoted::new(&x509.subject().to_string()),
            issuer_shown: Quoted::new(&x509.issuer().to_string()),
            self_signed: is_self_signed(&x509),
            validity: Validity {
                not_before: Timestamp(x509.validity().not_before.timestamp()),
                not_after: Timestamp(x509.validity().not_after.timestamp()),
            },
            public_key,
            signature: Signature::of(&x509.signature_algorithm),
            names: dns_names(&x509),
            malformed: has_malformed_extension(&x509),
            may_sign: extension::<KeyUsage>(&x509, &OID_X509_EXT_KEY_USAGE)
                .is_none_or(|usage| usage.digital_signature()),
            for_servers: is_for_servers(&x509),
            temporary: is_temporary(&x509),
            is_authority: x509
                .basic_constraints()
                .is_ok_and(|found| found.is_some_and(|constraints| constraints.value.ca)),
            der,
        })
    }

    pub(super) fn der(&self) -> &[u8] {
        &self.der
    }

    /// `None` if OpenSSL takes it above a leaf. A signature by its own key is not looked at.
    pub(super) fn weakness(&self) -> Option<Weakness<'_>> {
        if let Err(flaw) = self.public_key.fit_to_issue() {
            return Some(Weakness::Key(flaw));
        }
        match &self.signature {
            _ if self.self_signed => None,
            Signature::Strong => None,
            Signature::Weak(digest) => Some(Weakness::Signature(digest)),
            Signature::Unknown(oid) => Some(Weakness::Signature(oid)),
        }
    }

    /// Whether `self` bears the name of the one that issued `other`.
    pub(super) fn may_have_issued(&self, other: &Self) -> bool {
        self.subject == other.issuer
    }
}

/// A host name as it is compared: ASCII lower-case, without the dot that may end it.
pub(super) fn folded(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

impl Signature {
    fn of(algorithm: &AlgorithmIdentifier<'_>) -> Self {
        const RSA_PSS: &str = "1.2.840.113549.1.1.10";
        let oid = algorithm.algorithm.to_id_string();
        if oid != RSA_PSS {
            return Self::by(&oid);
        }
        let parameters = algorithm.parameters.as_ref();
        match parameters.map(RsaSsaPssParams::try_from) {
            Some(Ok(parameters)) => {
                Self::by_digest(&parameters.hash_algorithm_oid().to_id_string())
            }
            _ => Self::Unknown(oid),
        }
    }

    fn by(oid: &str) -> Self {
        match oid {
            // RSA: RFC 8017 and RFC 3279.
            "1.2.840.113549.1.1.2" => Self::Weak("MD2"),
            "1.2.840.113549.1.1.3" => Self::Weak("MD4"),
            "1.2.840.113549.1.1.4" | "1.3.14.3.2.3" => Self::Weak("MD5"),
            "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => Self::Weak("SHA-1"),
            // ECDSA and DSA: RFC 3279.
            "1.2.840.10045.4.1" | "1.2.840.10040.4.3" | "1.3.14.3.2.27" => Self::Weak("SHA-1"),
            // RSA with SHA-2: RFC 8017.
            "1.2.840.113549.1.1.11"
            | "1.2.840.113549.1.1.12"
            | "1.2.840.113549.1.1.13"
            | "1.2.840.113549.1.1.14" => Self::Strong,
            // ECDSA with SHA-2: RFC 5758.
            "1.2.840.10045.4.3.1"
            | "1.2.840.10045.4.3.2"
            | "1.2.840.10045.4.3.3"
            | "1.2.840.10045.4.3.4" => Self::Strong,
            // Ed25519 and Ed448: RFC 8410.
            "1.3.101.112" | "1.3.101.113" => Self::Strong,
            other => Self::by_nist(other),
        }
    }

    /// NIST's own arc. OpenSSL 3.0 knows the strength of DSA with SHA-224 and SHA-256 and of RSA
    /// with SHA-3, but of no other there, nor of RSA with SHA-512/256.
    fn by_nist(oid: &str) -> Self {
        let number = oid.strip_prefix("2.16.840.1.101.3.4.3.");
        match number.and_then(|number| number.parse::<u32>().ok()) {
            Some(1 | 2 | 13..=16) => Self::Strong,
            _ => Self::Unknown(oid.to_owned()),
        }
    }

    fn by_digest(oid: &str) -> Self {
        match oid {
            "1.2.840.113549.2.5" => Self::Weak("MD5"),
            "1.3.14.3.2.26" => Self::Weak("SHA-1"),
            _ => match oid.strip_prefix("2.16.840.1.101.3.4.2.") {
                Some(_) => Self::Strong,
                None => Self::Unknown(oid.to_owned()),
            },
        }
    }
}

fn is_self_signed(x509: &X509Certificate<'_>) -> bool {
    if x509.subject().as_raw() != x509.issuer().as_raw() {
        return false;
    }
    let own = extension::<KeyIdentifier<'_>>(x509, &OID_X509_EXT_SUBJECT_KEY_IDENTIFIER);
    let signer =
        extension::<AuthorityKeyIdentifier<'_>>(x509, &OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER)
            .and_then(|signer| signer.key_identifier);
    match (own, signer) {
        (Some(own), Some(signer)) => own == signer,
        _ => true,
    }
}

fn dns_names(x509: &X509Certificate<'_>) -> BTreeSet<String> {
    let Some(names) = extension::<SubjectAlternativeName<'_>>(x509, &OID_X509_EXT_SUBJECT_ALT_NAME)
    else {
        return BTreeSet::new();
    };
    let names = names.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(folded(name)),
        _ => None,
    });
    names.filter(|name| !name.is_empty()).collect()
}

fn has_malformed_extension(x509: &TbsCertificate<'_>) -> bool {
    let looked_at = [
        OID_X509_EXT_BASIC_CONSTRAINTS,
        OID_X509_EXT_KEY_USAGE,
        OID_X509_EXT_EXTENDED_KEY_USAGE,
        OID_X509_EXT_SUBJECT_KEY_IDENTIFIER,
        OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER,
        OID_X509_EXT_SUBJECT_ALT_NAME,
    ];
    x509.extensions().iter().any(|extension| {
        looked_at.contains(&extension.oid) && extension.parsed_extension().error().is_some()
    })
}

fn is_for_servers(x509: &X509Certificate<'_>) -> bool {
    extension::<ExtendedKeyUsage<'_>>(x509, &OID_X509_EXT_EXTENDED_KEY_USAGE)
        .is_none_or(|usage| usage.server_auth || usage.any)
}

/// cert-manager signs them with a throw-away authority and writes a fixed serialNumber into the
/// subject; its first versions used a fixed serial number of the certificate instead.
fn is_temporary(x509: &X509Certificate<'_>) -> bool {
    const AUTHORITY: &str = "cert-manager.local";
    const SUBJECT_SERIAL: &str = "1234567890";
    const SERIAL: &[u8] = &[0x12, 0x34, 0x56, 0x78, 0x90];

    let stands_in = has_attribute(x509.subject(), &OID_X509_SERIALNUMBER, SUBJECT_SERIAL)
        && has_attribute(x509.issuer(), &OID_X509_COMMON_NAME, AUTHORITY);
    stands_in || x509.raw_serial() == SERIAL
}

fn has_attribute(name: &X509Name<'_>, oid: &Oid<'_>, value: &str) -> bool {
    name.iter_attributes()
        .any(|attribute| attribute.attr_type() == oid && attribute.as_slice() == value.as_bytes())
}

/// The first extension with this OID, if it can be read.
fn extension<'a, T>(x509: &TbsCertificate<'a>, oid: &Oid<'_>) -> Option<T>
where
    T: FromDer<'a, x509_parser::error::X509Error>,
{
    let extension = x509.extensions().iter().find(|extension| extension.oid == *oid)?;
    T::from_der(extension.value).ok().map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use testkit::{LeafBuilder, Pki};

    use super::*;

    #[test]
    fn self_signed_is_what_names_and_key_identifiers_say() {
        let pki = Pki::new();
        let is_self_signed = |leaf: &LeafBuilder| {
            let der = leaf.issue().leaf_der().to_vec();
            Certificate::parse(der).is_ok_and(|certificate| certificate.self_signed)
        };
        let leaf = pki.leaf(&["a.test"]);
        assert!(!is_self_signed(&leaf));
        let leaf = leaf.self_signed();
        assert!(is_self_signed(&leaf));
        let other_key = leaf.extension("2.5.29.14", &[0x04, 0x01, 0x00]);
        assert!(!is_self_signed(&other_key));
    }

    #[test]
    fn signatures_are_judged_as_openssl_does() {
        for (oid, expected) in [
            ("1.2.840.113549.1.1.4", Signature::Weak("MD5")),
            ("1.2.840.113549.1.1.5", Signature::Weak("SHA-1")),
            ("1.2.840.10045.4.1", Signature::Weak("SHA-1")),
            ("1.2.840.113549.1.1.11", Signature::Strong),
            ("1.2.840.10045.4.3.2", Signature::Strong),
            ("1.3.101.112", Signature::Strong),
            ("2.16.840.1.101.3.4.3.2", Signature::Strong),
            ("2.16.840.1.101.3.4.3.14", Signature::Strong),
        ] {
            assert_eq!(Signature::by(oid), expected, "{oid}");
        }
        // RSA with SHA-512/256 and RIPEMD-160, ECDSA with SHA3-256, ML-DSA-44.
        for oid in [
            "1.2.840.113549.1.1.16",
            "1.3.36.3.3.1.2",
            "2.16.840.1.101.3.4.3.10",
            "2.16.840.1.101.3.4.3.17",
        ] {
            assert_eq!(Signature::by(oid), Signature::Unknown(oid.to_owned()));
        }
    }
}
