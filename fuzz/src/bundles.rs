//! Certificates with their keys, CA certificates, and licences.
//!
//! One part is a file of whatever kind, two are a chain and its key, four are two such pairs. Behind
//! `DER` stands a certificate for a key that is at hand: within base64 little can be done to it.

use std::path::Path;

use kong_cert_reloader::bundle::{
    Authorities, Authority, Facts, Invalid, License, Pair, PairSource, Pairs, ServedChain, Source,
    held_authority, held_facts, held_license,
};
use kong_cert_reloader::clock::Timestamp;
use testkit::pem_block;

use super::parts;
use super::said::{Secret, assert_is_a_line};

const NOW: Timestamp = Timestamp(1_800_000_000);
/// Of most certificates in `tests/data/certs`.
const KEY: &[u8] = include_bytes!("../../tests/data/certs/rsa.key");

/// Fails unless what is taken is taken again as it is sent, and no error tells more than it may.
pub fn check(input: &[u8]) {
    if let Some(der) = input.strip_prefix(b"DER") {
        let pem = pem_block("CERTIFICATE", der);
        check_file(pem.as_bytes());
        check_pairs(PairFiles { cert: pem.as_bytes(), key: KEY }, None);
        let served = ServedChain::of(der, std::iter::empty());
        if let Ok(held) = held_facts(&pem, None) {
            assert_eq!((&held.names, held.fingerprint), (&served.names, served.fingerprint));
        }
        return;
    }
    match parts(input)[..] {
        [cert, key, cert_alt, key_alt, ..] => {
            let alt = PairFiles { cert: cert_alt, key: key_alt };
            check_pairs(PairFiles { cert, key }, Some(alt));
        }
        [cert, key, ..] => check_pairs(PairFiles { cert, key }, None),
        [file] => check_file(file),
        [] => {}
    }
}

/// Two files, or twice the same.
#[derive(Clone, Copy)]
struct PairFiles<'a> {
    cert: &'a [u8],
    key: &'a [u8],
}

impl<'a> PairFiles<'a> {
    fn source(self, cert: &'a str, key: &'a str) -> PairSource<'a> {
        PairSource { cert: source(cert, self.cert), key: source(key, self.key) }
    }

    fn secret(self) -> Secret<'a> {
        Secret::new(self.key, self.cert)
    }
}

fn source<'a>(path: &'a str, bytes: &'a [u8]) -> Source<'a> {
    Source { path: Path::new(path), bytes }
}

fn parse_pairs(main: PairFiles<'_>, alt: Option<PairFiles<'_>>) -> Result<Pairs, Invalid> {
    let alt = alt.map(|alt| alt.source("alt.crt", "alt.key"));
    Pairs::parse(main.source("tls.crt", "tls.key"), alt)
}

fn check_pairs(main: PairFiles<'_>, alt: Option<PairFiles<'_>>) {
    let secrets: Vec<_> = [Some(main), alt].into_iter().flatten().map(PairFiles::secret).collect();
    match parse_pairs(main, alt) {
        Ok(pairs) => check_taken(&pairs, &secrets),
        Err(invalid) => check_refusal(&invalid, &secrets),
    }
}

fn check_taken(pairs: &Pairs, secrets: &[Secret<'_>]) {
    check_facts(pairs.facts(), secrets);
    let shown = format!("{pairs:?} {:?} {:?}", pairs.main(), pairs.alt());
    secrets.iter().for_each(|secret| secret.assert_is_not_in(&shown));

    let (main, alt) = (Sent::of(pairs.main()), pairs.alt().map(Sent::of));
    let again = parse_pairs(main.files(), alt.as_ref().map(Sent::files)).unwrap();
    assert_eq!(again.facts(), pairs.facts(), "what is sent is another bundle");
    assert_eq!(Sent::of(again.main()), main, "what is sent would be sent otherwise");
    let held = held_facts(&main.cert, alt.as_ref().map(|alt| &*alt.cert)).unwrap();
    assert_eq!(&held, pairs.facts(), "what Kong would hold is another bundle");
}

/// What Kong gets.
#[derive(Debug, PartialEq)]
struct Sent {
    cert: String,
    key: String,
}

impl Sent {
    fn of(pair: &Pair) -> Self {
        Self { cert: pair.cert_pem(), key: pair.key_pem().as_str().to_owned() }
    }

    fn files(&self) -> PairFiles<'_> {
        PairFiles { cert: self.cert.as_bytes(), key: self.key.as_bytes() }
    }
}

/// A file of which it is not known what it is.
fn check_file(bytes: &[u8]) {
    let file = source("file", bytes);
    let secrets = [Secret::new(private(bytes), &[])];
    match Pairs::parse(PairSource { cert: file, key: file }, None) {
        Ok(pairs) => check_taken(&pairs, &secrets),
        Err(invalid) => check_refusal(&invalid, &secrets),
    }
    match Authorities::parse(file, NOW) {
        Ok(authorities) => check_authorities(&authorities),
        Err(invalid) => check_refusal(&invalid, &secrets),
    }
    // All of a licence is private.
    let secrets = [Secret::new(bytes, &[])];
    match License::parse(file) {
        Ok(license) => check_license(&license, &secrets),
        Err(invalid) => check_refusal(&invalid, &secrets),
    }
    let text = String::from_utf8_lossy(bytes);
    for held in [held_facts(&text, None), held_facts(&text, Some(&text)), held_license(&text)] {
        let _ = held.map_err(|unservable| check_refusal(&unservable, &secrets));
    }
    if let Ok(authority) = held_authority(&text) {
        assert_eq!(held_authority(&authority.pem()).as_ref(), Ok(&authority));
    }
}

/// What stands in the file from its first private key on.
fn private(bytes: &[u8]) -> &[u8] {
    const LABEL: &[u8] = b"PRIVATE KEY-----";
    let at = bytes.windows(LABEL.len()).position(|window| window == LABEL);
    at.map_or(&[], |at| &bytes[at..])
}

fn check_authorities(authorities: &Authorities) {
    check_facts(authorities.facts(), &[]);
    let sent: String = authorities.members().iter().map(Authority::pem).collect();
    let again = Authorities::parse(source("file", sent.as_bytes()), NOW).unwrap();
    assert_eq!(again.members(), authorities.members(), "what is sent are others");
    assert_eq!(again.facts().fingerprint, authorities.facts().fingerprint);
    for member in authorities.members() {
        assert_eq!(held_authority(&member.pem()).as_ref(), Ok(member));
        assert_is_a_line(&format!("({})", member.subject()));
    }
}

fn check_license(license: &License, secrets: &[Secret<'_>]) {
    check_facts(license.facts(), secrets);
    let shown = format!("{license:?}");
    secrets.iter().for_each(|secret| secret.assert_is_not_in(&shown));
    let held = held_license(license.payload());
    assert_eq!(held.as_ref(), Ok(license.facts()), "what is sent is another licence");
    let again = License::parse(source("file", license.payload().as_bytes())).unwrap();
    assert_eq!(again.payload(), license.payload());
}

fn check_facts(facts: &Facts, secrets: &[Secret<'_>]) {
    for warning in facts.warnings_at(NOW) {
        check_line(&warning.to_string(), secrets);
    }
    for name in &facts.names {
        assert!(facts.covers(name), "a name is not covered by itself: {name}");
    }
    let _ = facts.check_expired(Path::new("file"), NOW).map_err(|it| check_refusal(&it, secrets));
}

fn check_refusal(invalid: &Invalid, secrets: &[Secret<'_>]) {
    check_line(&invalid.to_string(), secrets);
    check_line(&format!("{invalid:?}"), secrets);
}

fn check_line(text: &str, secrets: &[Secret<'_>]) {
    assert_is_a_line(text);
    secrets.iter().for_each(|secret| secret.assert_is_not_in(text));
}
