//! What Kong serves to clients, and what that amounts to in what Kong holds.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::chain::{Chain, Keys};
use super::{Facts, Invalid, Pair, Source, Unservable, pem};

/// A chain and its key. Both may be one file: then both paths are the same.
#[derive(Clone, Copy)]
pub struct PairSource<'a> {
    /// The chain, leaf first.
    pub cert: Source<'a>,
    /// The leaf's private key.
    pub key: Source<'a>,
}

/// What Kong serves to clients: a chain with its key, and perhaps a second of another key type.
/// It can be served, but for its dates: see [`Facts::check_expired`].
pub struct Pairs {
    main: Pair,
    alt: Option<Pair>,
    facts: Arc<Facts>,
}

/// The bundle of a certificate, with its keys or without: of many bundles, the keys are read again
/// when it is the turn of the one that is written.
#[derive(Clone, Debug)]
pub enum CertificateBundle {
    /// As it was read.
    Whole(Arc<Pairs>),
    /// What is known of it.
    Known(Arc<Facts>),
}

impl CertificateBundle {
    /// What is known about it; nothing of it is secret.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        match self {
            Self::Whole(pairs) => pairs.facts(),
            Self::Known(facts) => facts,
        }
    }

    /// What is written.
    #[must_use]
    pub fn pairs(&self) -> Option<&Pairs> {
        match self {
            Self::Whole(pairs) => Some(pairs),
            Self::Known(_) => None,
        }
    }

    /// Gives the keys away.
    pub fn put_down(&mut self) {
        if let Self::Whole(pairs) = self {
            *self = Self::Known(Arc::clone(&pairs.facts));
        }
    }
}

impl Pairs {
    /// Parses a pair, and perhaps a second one of another key type. One bad half makes all invalid.
    ///
    /// Never panics, and no error holds a part of a file's content but names in certificates.
    pub fn parse(main: PairSource<'_>, alt: Option<PairSource<'_>>) -> Result<Self, Invalid> {
        let paths = (main.cert.path, alt.map(|alt| alt.cert.path));
        let main = Pair::parse(main)?;
        let alt = alt.map(Pair::parse).transpose()?;
        let facts = facts(paths, main.chain(), alt.as_ref().map(Pair::chain))?;
        Ok(Self { main, alt, facts: Arc::new(facts) })
    }

    /// What is known about it; nothing of it is secret.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The first pair.
    #[must_use]
    pub fn main(&self) -> &Pair {
        &self.main
    }

    /// The pair of the other key type.
    #[must_use]
    pub fn alt(&self) -> Option<&Pair> {
        self.alt.as_ref()
    }
}

/// Prints facts only, never a key.
impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pairs").field(&self.facts).finish()
    }
}

/// What the PEM that Kong holds amounts to, no key being looked at.
///
/// Errs when Kong cannot serve it: a broken block, a weak key, a weak signature. A private key
/// beside the certificates is no error, as Kong ignores it there.
pub fn held_facts(cert: &str, cert_alt: Option<&str>) -> Result<Facts, Unservable> {
    let (main_path, alt_path) = (Path::new("Kong's cert"), Path::new("Kong's cert_alt"));
    let main = held_chain(main_path, cert)?;
    let alt = cert_alt.map(|text| held_chain(alt_path, text)).transpose()?;
    facts((main_path, Some(alt_path)), &main, alt.as_ref())
}

fn held_chain(path: &Path, text: &str) -> Result<Chain, Invalid> {
    let blocks = pem::blocks(path, text.as_bytes())?;
    Chain::parse(path, &blocks, Keys::Ignored)
}

/// Errs if both chains are of one key type; the paths are for that message.
fn facts(
    (main_path, alt_path): (&Path, Option<&Path>),
    main: &Chain,
    alt: Option<&Chain>,
) -> Result<Facts, Invalid> {
    if let (Some(alt), Some(alt_path)) = (alt, alt_path)
        && alt.key_type() == main.key_type()
    {
        return Err(Invalid::alt_same_type(main_path, alt_path, main.key_type()));
    }
    Ok(Facts::of(main, alt))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::disallowed_methods,
        reason = "a panic is how a test fails"
    )]

    use std::fs;

    use proptest::prelude::*;
    use serde_json::Value;
    use testkit::{CertifiedPair, KeyKind, Pki, pem_block};

    use super::super::{KeyType, LeafDigest, Reason, Validity, Warning};
    use super::*;
    use crate::clock::Timestamp;

    const CERT: &str = "/certs/web/tls.crt";
    const KEY: &str = "/certs/web/tls.key";

    fn source<'a>(path: &'a str, bytes: &'a [u8]) -> Source<'a> {
        let path = Path::new(path);
        Source { path, bytes }
    }

    fn two_files<'a>(cert: &'a [u8], key: &'a [u8]) -> PairSource<'a> {
        PairSource { cert: source(CERT, cert), key: source(KEY, key) }
    }

    fn one_file(text: &[u8]) -> PairSource<'_> {
        PairSource { cert: source(CERT, text), key: source(CERT, text) }
    }

    fn parse(cert: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Pairs, Invalid> {
        Pairs::parse(two_files(cert.as_ref(), key.as_ref()), None)
    }

    fn parse_two(main: &CertifiedPair, alt: &CertifiedPair) -> Result<Pairs, Invalid> {
        let (main_cert, main_key) = (main.chain_pem(), main.key_pem());
        let (alt_cert, alt_key) = (alt.chain_pem(), alt.key_pem());
        Pairs::parse(
            two_files(main_cert.as_bytes(), main_key.as_bytes()),
            Some(PairSource {
                cert: source("/certs/web/alt.crt", alt_cert.as_bytes()),
                key: source("/certs/web/alt.key", alt_key.as_bytes()),
            }),
        )
    }

    fn parsed(pair: &CertifiedPair) -> Pairs {
        parse(pair.chain_pem(), pair.key_pem()).unwrap()
    }

    fn data(path: &str) -> Vec<u8> {
        fs::read(format!("{}/tests/data/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    /// From tests/data/certs.
    fn made(name: &str) -> Vec<u8> {
        data(&format!("certs/{name}"))
    }

    /// From the recordings.
    fn recorded(name: &str) -> Vec<u8> {
        data(&format!("kong-contract/pem/{name}"))
    }

    fn below_an_intermediate(kind: KeyKind) -> CertifiedPair {
        let pki = Pki::new();
        let issuer = pki.intermediate("Upper");
        pki.leaf_from(&issuer, &["a.test"]).kind(kind).issue()
    }

    /// What a user may do wrong: the two files, the reason, and a part of the mend.
    fn mistakes() -> Vec<(Vec<u8>, Vec<u8>, Reason, &'static str)> {
        let pair = below_an_intermediate(KeyKind::P256);
        let other = below_an_intermediate(KeyKind::P256);
        let (cert, key) = (pair.chain_pem().into_bytes(), pair.key_pem().into_bytes());
        let issuer = pem_block("CERTIFICATE", &pair.chain_ders()[1]).into_bytes();
        let reversed = [&issuer[..], pair.leaf_pem().as_bytes()].concat();
        let rsa = |name: &str| (made(name), made("rsa.key"));
        let mut broken_key = pair.key().pkcs8_der().to_vec();
        broken_key[40] ^= 1;
        let with_tail = [pair.leaf_der(), &[0]].concat();

        let mut mistakes: Vec<(Vec<u8>, Vec<u8>, Reason, &'static str)> = Vec::new();
        let mut add = |cert: &[u8], key: &[u8], reason, mend| {
            mistakes.push((cert.to_vec(), key.to_vec(), reason, mend));
        };
        add(b" \r\n", &key, Reason::Empty, "put PEM into it");
        add(&cert, b"", Reason::Empty, "put PEM into it");
        add(&made("rsa.der"), &key, Reason::NotPem, "openssl x509 -inform der");
        add(&cert, pair.key().pkcs8_der(), Reason::NotPem, "openssl pkey -inform der");
        add(&cert[..300], &key, Reason::NotPem, "cut or is being written");
        add(&cert, &key[..100], Reason::NotPem, "cut or is being written");
        add(&made("trusted.crt"), &key, Reason::ForeignBlock, "openssl x509 -in");
        add(&[&cert[..], &key].concat(), &key, Reason::ForeignBlock, "nothing but CERTIFICATE");
        add(
            &cert,
            &[&cert[..], &key].concat(),
            Reason::ForeignBlock,
            "nothing but the private key",
        );
        add(pem_block("X509 CRL", b"0").as_bytes(), &key, Reason::ForeignBlock, "CERTIFICATE");
        add(
            pem_block("CERTIFICATE", &with_tail).as_bytes(),
            &key,
            Reason::BadCertificate,
            "fetch the chain anew",
        );
        add(&key, &key, Reason::NoCertificate, "put the chain into it");
        add(&cert, &cert, Reason::NoKey, "put the leaf's into it");
        add(&cert, &[&key[..], &key].concat(), Reason::SeveralKeys, "leave only the leaf's");
        for name in ["rsa-encrypted.key", "rsa-legacy-encrypted.key"] {
            add(&made("rsa.crt"), &made(name), Reason::EncryptedKey, "openssl pkey -in");
        }
        for name in ["dsa", "ed448", "secp256k1", "rsa-pss", "ec-explicit"] {
            let (cert, key) = (made(&format!("{name}.crt")), made(&format!("{name}.key")));
            add(&cert, &key, Reason::UnsupportedKey, "Ed25519");
            add(pair.chain_pem().as_bytes(), &key, Reason::UnsupportedKey, "Ed25519");
        }
        let old_dsa = pem_block("DSA PRIVATE KEY", b"0");
        add(&cert, old_dsa.as_bytes(), Reason::UnsupportedKey, "Ed25519");
        let rsa1024 = (recorded("rsa1024.crt"), recorded("rsa1024.key"));
        add(&rsa1024.0, &rsa1024.1, Reason::WeakKey, "at least 2048 bits");
        add(&cert, &rsa1024.1, Reason::WeakKey, "at least 2048 bits");
        for name in ["rsa1024-intermediate.crt", "rsa1024-root.crt"] {
            add(&rsa(name).0, &rsa(name).1, Reason::WeakKey, "certificate 2 of");
        }
        for name in
            ["sha1-leaf.crt", "md5-leaf.crt", "pss-sha1-signed.crt", "sha1-intermediate.crt"]
        {
            add(&rsa(name).0, &rsa(name).1, Reason::WeakSignature, "anew with SHA-256");
        }
        let broken_key = pem_block("PRIVATE KEY", &broken_key);
        add(&cert, broken_key.as_bytes(), Reason::BadKey, "write it anew");
        let mislabelled = pem_block("RSA PRIVATE KEY", pair.key().pkcs8_der());
        add(&cert, mislabelled.as_bytes(), Reason::BadKey, "write it anew");
        add(&cert, other.key_pem().as_bytes(), Reason::KeyMismatch, "from one issuance");
        add(&key, &cert, Reason::Swapped, "swap the two");
        add(&reversed, &key, Reason::LeafNotFirst, "put that one first");
        mistakes
    }

    #[test]
    fn each_mistake_is_told_with_the_file_and_the_mend() {
        for (cert, key, reason, mend) in mistakes() {
            let error = parse(cert, key).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.reason(), reason, "{text}");
            assert!(text.contains(mend), "{text}: {mend}");
            assert!(text.contains(CERT) || text.contains(KEY), "{text}");
            assert!(!text.ends_with('.') && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn no_mistake_shows_what_the_files_hold() {
        for (cert, key, ..) in mistakes() {
            let error = parse(&cert, &key).unwrap_err();
            for secret in [&cert, &key] {
                assert_hides(&format!("{error} {error:?}"), secret);
            }
        }
    }

    #[test]
    fn a_key_in_an_unlikely_place_is_not_shown() {
        let pair = below_an_intermediate(KeyKind::Rsa2048);
        let key = pair.key_pem();
        let on_one_line = key.replace('\n', " ");
        let body: String = key.lines().filter(|line| !line.contains('-')).collect();
        for text in [
            on_one_line.clone(),
            format!("-----BEGIN {body}-----\n-----END {body}-----\n"),
            format!("-----BEGIN {body}"),
            format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"),
            format!("-----BEGIN EC PRIVATE KEY-----\n{body}\n-----END EC PRIVATE KEY-----\n"),
            key.replace("MII", "MI!"),
            body.clone(),
        ] {
            for (cert, key) in [(&text, &pair.chain_pem()), (&pair.chain_pem(), &text)] {
                let error = parse(cert, key).unwrap_err();
                assert_hides(&format!("{error} {error:?}"), text.as_bytes());
                assert_hides(&format!("{error} {error:?}"), pair.key().pkcs8_der());
            }
        }
    }

    #[test]
    fn a_bundle_prints_no_key() {
        for kind in KeyKind::ALL {
            let pair = below_an_intermediate(kind);
            let bundle = parsed(&pair);
            let text = format!("{bundle:?} {:?} {:?}", bundle.main(), bundle.facts());
            assert_hides(&text, pair.key().pkcs8_der());
            assert_hides(&text, pair.key_pem().as_bytes());
        }
    }

    /// No 24 characters of `secret` in PEM, base64 or hex.
    fn assert_hides(text: &str, secret: &[u8]) {
        let mut forms = vec![
            String::from_utf8_lossy(secret).into_owned(),
            hex::encode(secret),
            hex::encode_upper(secret),
            format!("{secret:?}"),
        ];
        for skipped in 0..secret.len().min(3) {
            let pem = pem::encode("", &secret[skipped..]);
            forms.push(pem.lines().filter(|line| !line.contains('-')).collect());
        }
        for form in forms {
            let form: Vec<char> = form.chars().collect();
            for run in form.windows(24).filter(|run| !run.starts_with(&['-'])) {
                let run: String = run.iter().collect();
                let is_marker = run.contains("PRIVATE KEY") || run.contains("CERTIFICATE");
                assert!(is_marker || !text.contains(&run), "{run:?} in {text}");
            }
        }
    }

    #[test]
    fn what_a_half_finished_update_leaves_is_looked_at_again() {
        for (cert, key, reason, _) in mistakes() {
            let torn = [
                Reason::Empty,
                Reason::NotPem,
                Reason::BadCertificate,
                Reason::NoCertificate,
                Reason::NoKey,
                Reason::BadKey,
                Reason::KeyMismatch,
                Reason::LeafNotFirst,
            ];
            let error = parse(cert, key).unwrap_err();
            assert_eq!(error.is_torn(), torn.contains(&reason), "{error}");
        }
    }

    #[test]
    fn what_kong_serves_is_a_bundle_and_what_it_does_not_is_none() {
        let rows: Value = serde_json::from_slice(&data("kong-contract/handshakes.json")).unwrap();
        let rows = rows["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 21);
        for row in rows {
            let name = |field: &str| row[field].as_str().unwrap();
            let (cert, key) = (recorded(name("cert")), recorded(name("key")));
            let source =
                if name("cert") == name("key") { one_file(&cert) } else { two_files(&cert, &key) };
            let is_served = row["put_status"] == 200 && row.get("handshake_error").is_none();
            match Pairs::parse(source, None) {
                Ok(bundle) => {
                    assert!(is_served, "{row}");
                    let served = bundle.facts().leaves[0].to_string().replace(':', "");
                    assert_eq!(served.to_lowercase(), name("served_sha256"), "{row}");
                }
                Err(error) => assert!(!is_served, "{row}: {error}"),
            }
        }
    }

    #[test]
    fn an_expired_leaf_is_told_with_its_date() {
        let bundle = parse(recorded("expired.crt"), recorded("expired.key")).unwrap();
        let Validity { not_after, .. } = bundle.facts().validity;
        assert!(bundle.facts().check_expired(Path::new(CERT), not_after).is_ok());
        let next = Timestamp(not_after.0 + 1);
        let error = bundle.facts().check_expired(Path::new(CERT), next).unwrap_err();
        assert_eq!(error.reason(), Reason::Expired);
        let text = format!("the certificate in {CERT} expired at {not_after}: renew it");
        assert_eq!(error.to_string(), text);
        assert!(!error.is_torn());
    }

    #[test]
    fn what_openssl_serves_is_not_refused() {
        for (cert, key) in [
            ("ec-parameters.crt", "ec-parameters.key"),
            ("ec-compressed.crt", "ec-compressed.key"),
            ("v1.crt", "rsa.key"),
            ("pss-signed.crt", "rsa.key"),
            ("rsa.crt", "rsa.key"),
        ] {
            if let Err(error) = parse(made(cert), made(key)) {
                panic!("{cert}: {error}");
            }
        }
    }

    #[test]
    fn a_weak_signature_on_a_self_signed_certificate_is_only_warned_of() {
        for cert in ["sha1-self-signed-leaf.crt", "sha1-root.crt"] {
            let bundle = parse(made(cert), made("rsa.key")).unwrap();
            let warnings = bundle.facts().warnings.iter().map(Warning::as_str);
            assert_eq!(Vec::from_iter(warnings), ["weak_self_signature"], "{cert}");
        }
    }

    #[test]
    fn a_temporary_certificate_of_cert_manager_is_known() {
        for (cert, temporary) in [
            ("cert-manager-temporary.crt", true),
            ("cert-manager-temporary-old.crt", true),
            ("rsa.crt", false),
        ] {
            let bundle = parse(made(cert), made("rsa.key")).unwrap();
            assert_eq!(bundle.facts().temporary, temporary, "{cert}");
        }
        let numbered = Pki::new().leaf(&["a.test"]).subject_serial("1234567890").issue();
        assert!(!parsed(&numbered).facts().temporary);
    }

    #[test]
    fn every_encoding_of_the_key_is_the_same_bundle() {
        for kind in KeyKind::ALL {
            let pair = below_an_intermediate(kind);
            let facts = parsed(&pair).facts().clone();
            for key in pair.key().pem_encodings() {
                let bundle = parse(pair.chain_pem(), &key).unwrap();
                assert_eq!(bundle.facts(), &facts);
                assert_eq!(**bundle.main().key_pem(), key);
            }
        }
    }

    #[test]
    fn what_is_sent_is_the_same_bundle_and_nothing_else() {
        for kind in KeyKind::ALL {
            let pair = below_an_intermediate(kind);
            let cert = format!("subject=a\r\n{}\r\n# end", pair.chain_pem().replace('\n', "\r\n"));
            let bundle = parse(cert, pair.key_pem()).unwrap();
            assert_eq!(bundle.main().cert_pem(), pair.chain_pem());
            let sent = parse(bundle.main().cert_pem(), bundle.main().key_pem().as_bytes());
            assert_eq!(sent.unwrap().facts(), bundle.facts());
            let held = held_facts(&bundle.main().cert_pem(), None);
            assert_eq!(held.as_ref(), Ok(bundle.facts()));
        }
    }

    #[test]
    fn one_file_may_hold_both() {
        let pair = below_an_intermediate(KeyKind::P384);
        let facts = parsed(&pair).facts().clone();
        for text in
            [pair.chain_pem() + &pair.key_pem(), pair.key().sec1_pem().unwrap() + &pair.chain_pem()]
        {
            let bundle = Pairs::parse(one_file(text.as_bytes()), None).unwrap();
            assert_eq!(bundle.facts(), &facts);
            assert_eq!(held_facts(&text, None).as_ref(), Ok(&facts));
        }
    }

    #[test]
    fn what_kong_holds_but_cannot_serve_is_told() {
        for (cert, reason) in [
            (recorded("a-chain-garbage-second.crt"), Reason::NotPem),
            (recorded("a-chain-truncated-second.crt"), Reason::NotPem),
            (recorded("rsa1024.crt"), Reason::WeakKey),
            (made("sha1-intermediate.crt"), Reason::WeakSignature),
            (b"{vault://env/cert}".to_vec(), Reason::NotPem),
        ] {
            let text = String::from_utf8(cert).unwrap();
            let error = held_facts(&text, None).unwrap_err();
            assert_eq!(error.reason(), reason, "{error}");
            assert!(error.to_string().contains("Kong's cert"), "{error}");
            let good = Pki::new().pair(&["a.test"]).chain_pem();
            let error = held_facts(&good, Some(&text)).unwrap_err();
            assert!(error.to_string().contains("Kong's cert_alt"), "{error}");
        }
    }

    #[test]
    fn two_pairs_are_one_bundle_whichever_is_main() {
        let pki = Pki::new();
        let rsa = pki.leaf(&["a.test"]).kind(KeyKind::Rsa2048).not_before(100).not_after(300);
        let ec = pki.leaf(&["b.test"]).not_before(200).not_after(400);
        let (rsa, ec) = (rsa.issue(), ec.issue());
        let (one, other) = (parse_two(&rsa, &ec).unwrap(), parse_two(&ec, &rsa).unwrap());
        assert_eq!(one.facts().fingerprint, other.facts().fingerprint);
        assert_eq!(one.facts().key_types, [KeyType::Rsa, KeyType::Ec]);
        assert_eq!(other.facts().key_types, [KeyType::Ec, KeyType::Rsa]);
        assert_eq!(one.facts().leaves[0], LeafDigest::of(rsa.leaf_der()));
        assert_eq!(Vec::from_iter(&one.facts().names), ["a.test", "b.test"]);
        let (not_before, not_after) = (Timestamp(200), Timestamp(300));
        assert_eq!(one.facts().validity, Validity { not_before, not_after });
        assert_eq!(one.facts().warnings.len(), 1, "each warning once");
        assert_ne!(one.facts().fingerprint, parsed(&rsa).facts().fingerprint);
        assert_ne!(one.facts().fingerprint, parsed(&ec).facts().fingerprint);
        let held = held_facts(&rsa.chain_pem(), Some(&ec.chain_pem()));
        assert_eq!(held.as_ref(), Ok(one.facts()));
    }

    #[test]
    fn two_pairs_of_one_key_type_are_refused() {
        let pki = Pki::new();
        let pair = |kind| pki.leaf(&["a.test"]).kind(kind).issue();
        let error = parse_two(&pair(KeyKind::P256), &pair(KeyKind::P521)).unwrap_err();
        assert_eq!(error.reason(), Reason::AltSameType);
        let text = error.to_string();
        assert!(text.contains(CERT) && text.contains("/certs/web/alt.crt"), "{text}");
        assert!(text.contains("make one RSA"), "{text}");
        for kind in [KeyKind::P256, KeyKind::Rsa3072] {
            assert!(parse_two(&pair(KeyKind::Ed25519), &pair(kind)).is_ok());
        }
    }

    #[test]
    fn one_bad_half_makes_both_invalid() {
        let pki = Pki::new();
        let good = pki.leaf(&["a.test"]).kind(KeyKind::Rsa2048).issue();
        let (cert, key) = (good.chain_pem(), good.key_pem());
        let other = pki.pair(&["a.test"]);
        let (bad_cert, bad_key) = (other.chain_pem(), pki.pair(&["a.test"]).key_pem());
        let good = two_files(cert.as_bytes(), key.as_bytes());
        let bad = two_files(bad_cert.as_bytes(), bad_key.as_bytes());
        assert_eq!(Pairs::parse(good, Some(bad)).unwrap_err().reason(), Reason::KeyMismatch);
        assert_eq!(Pairs::parse(bad, Some(good)).unwrap_err().reason(), Reason::KeyMismatch);
    }

    #[test]
    fn a_certificate_that_moves_to_the_other_chain_makes_another_identity() {
        let pki = Pki::new();
        let upper = pki.intermediate("Upper");
        let rsa = pki.leaf(&["a.test"]).kind(KeyKind::Rsa2048).issue().chain_pem();
        let ec = pki.pair(&["a.test"]).chain_pem();
        let upper = upper.pem();
        let fingerprint = |cert: &str, alt: &str| held_facts(cert, Some(alt)).unwrap().fingerprint;
        let first = fingerprint(&(rsa.clone() + &upper), &ec);
        let second = fingerprint(&rsa, &(ec.clone() + &upper));
        assert_ne!(first, second);
        // The order within a chain matters, as it is served in that order.
        let other = pki.intermediate("Other").pem();
        let third = fingerprint(&[&rsa[..], &upper, &other].concat(), &ec);
        let fourth = fingerprint(&[&rsa[..], &other, &upper].concat(), &ec);
        assert_ne!(third, fourth);
    }

    #[test]
    fn an_unknown_extension_is_passed_over_but_no_malformed_one() {
        let leaf = Pki::new().leaf(&["a.test"]);
        let unknown = leaf.clone().extension("1.2.3.4", b"\x05\x00").issue();
        assert_eq!(Vec::from_iter(&parsed(&unknown).facts().names), ["a.test"]);
        let malformed = leaf.no_san().extension("2.5.29.17", b"\x30\x05").issue();
        let error = parse(malformed.chain_pem(), malformed.key_pem()).unwrap_err();
        assert_eq!(error.reason(), Reason::BadCertificate);
    }

    #[test]
    fn an_intermediate_issued_again_makes_another_identity() {
        let pki = Pki::new();
        let upper = pki.intermediate("Upper");
        let leaf = pki.leaf_from(&upper, &["a.test"]).issue().leaf_pem();
        let fingerprint = |issuer: &str| {
            let chain = leaf.clone() + issuer;
            held_facts(&chain, None).unwrap().fingerprint
        };
        assert_ne!(fingerprint(&upper.pem()), fingerprint(&upper.reissued().pem()));
    }

    /// PEM with white space, comments and line widths as chance has it.
    fn reformatted(ders: &[Vec<u8>], width: usize, newline: &str, between: &str) -> String {
        let mut text = between.to_owned();
        for der in ders {
            let block = pem_block("CERTIFICATE", der);
            let body: String = block.lines().filter(|line| !line.contains('-')).collect();
            text.push_str("-----BEGIN CERTIFICATE-----");
            for line in body.as_bytes().chunks(width) {
                text.push_str(newline);
                text.push_str(std::str::from_utf8(line).unwrap());
            }
            text.push_str(newline);
            text.push_str("-----END CERTIFICATE-----");
            text.push_str(newline);
            text.push_str(between);
        }
        text
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_text_around_the_der_is_no_part_of_the_identity(
            width in 1_usize..200,
            newline in prop::sample::select(vec!["\n", "\r\n", " \n", "\t\r\n"]),
            mark in "\u{feff}?",
            between in "([# a-z=ä]{0,20}\r?\n){0,3}",
            key in 0_usize..2,
            is_cut in any::<bool>(),
        ) {
            let pair = below_an_intermediate(KeyKind::P256);
            let mut text = mark + &reformatted(pair.chain_ders(), width, newline, &between);
            if is_cut {
                text.truncate(text.rfind("-----").unwrap() + 5);
            }
            let key = &pair.key().pem_encodings()[key];
            let bundle = parse(text, key.replace('\n', newline)).unwrap();
            let expected = parsed(&pair);
            prop_assert_eq!(bundle.facts(), expected.facts());
        }

        #[test]
        fn every_byte_of_the_chain_is_part_of_the_identity(place in any::<prop::sample::Index>(), mask in 1_u8..) {
            let pair = below_an_intermediate(KeyKind::P256);
            let before = parsed(&pair).facts().fingerprint;
            let mut ders = pair.chain_ders().to_vec();
            let place = place.index(ders.iter().map(Vec::len).sum());
            let leaf_length = ders[0].len();
            if place < leaf_length {
                ders[0][place] ^= mask;
            } else {
                ders[1][place - leaf_length] ^= mask;
            }
            let text: String = ders.iter().map(|der| pem_block("CERTIFICATE", der)).collect();
            if let Ok(after) = held_facts(&text, None) {
                prop_assert_ne!(after.fingerprint, before);
            }
            if let Ok(after) = parse(&text, pair.key_pem()) {
                prop_assert_ne!(after.facts().fingerprint, before);
            }
        }

        #[test]
        fn arbitrary_bytes_are_refused_without_a_panic(
            cert in prop::collection::vec(any::<u8>(), 0..400),
            key in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            prop_assert!(parse(&cert, &key).is_err());
            let cert = pem_block("CERTIFICATE", &cert);
            for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"] {
                prop_assert!(parse(&cert, pem_block(label, &key)).is_err());
                let pair = below_an_intermediate(KeyKind::P256);
                prop_assert!(parse(pair.chain_pem(), pem_block(label, &key)).is_err());
            }
        }

        #[test]
        fn a_mutated_pair_is_refused_or_still_holds_together(
            kind in prop::sample::select(KeyKind::ALL.to_vec()),
            places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            in_key in any::<bool>(),
            in_der in any::<bool>(),
        ) {
            let pair = below_an_intermediate(kind);
            let (mut leaf, mut key) = (pair.leaf_der().to_vec(), pair.key().pkcs8_der().to_vec());
            let mutate = |bytes: &mut Vec<u8>| {
                for (place, byte) in &places {
                    let place = place.index(bytes.len());
                    bytes[place] = *byte;
                }
            };
            if in_der {
                mutate(if in_key { &mut key } else { &mut leaf });
            }
            let mut cert = pem_block("CERTIFICATE", &leaf).into_bytes();
            let mut key = pem_block("PRIVATE KEY", &key).into_bytes();
            if !in_der {
                mutate(if in_key { &mut key } else { &mut cert });
            }
            if let Ok(bundle) = parse(&cert, &key) {
                let sent = parse(bundle.main().cert_pem(), bundle.main().key_pem().as_bytes());
                let sent = sent.unwrap();
                prop_assert_eq!(sent.facts(), bundle.facts());
            }
        }
    }
}
