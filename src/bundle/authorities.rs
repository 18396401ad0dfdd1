//! The certificates of authorities that Kong is to know. A file may hold many of them, and Kong
//! keeps each as an object of its own.

use std::fmt;
use std::path::Path;

use super::certificate::{Certificate, Weakness};
use super::pem::{self, Block};
use super::public_key::KeyFlaw;
use super::{Facts, Invalid, LeafDigest, Source, Unservable, Validity, Warning};
use crate::clock::Timestamp;
use crate::quote::Quoted;

/// Operating systems bring about 150.
const MOST_CERTIFICATES: usize = 1000;

/// One certificate with the basic constraint CA:TRUE, as Kong's `ca_certificates` hold it.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    der: Vec<u8>,
    subject: Quoted,
    validity: Validity,
    weakness: Option<Quoted>,
}

impl Authority {
    fn of(certificate: &Certificate) -> Self {
        Self {
            der: certificate.der().to_vec(),
            subject: certificate.subject_shown.clone(),
            validity: certificate.validity,
            weakness: certificate.weakness().map(in_words),
        }
    }

    /// SHA-256 of its DER: what Kong calls `cert_digest`, and keeps no two objects with.
    #[must_use]
    pub fn digest(&self) -> LeafDigest {
        LeafDigest::of(&self.der)
    }

    /// Whose it is.
    #[must_use]
    pub fn subject(&self) -> &Quoted {
        &self.subject
    }

    /// From its first second to its last.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// PEM without whatever stood around it: LF, 64 columns.
    #[must_use]
    pub fn pem(&self) -> String {
        pem::encode(pem::CERTIFICATE, &self.der).to_string()
    }

    pub(super) fn der(&self) -> &[u8] {
        &self.der
    }

    /// Kong takes it all the same: it is not served, and only looked at when a client or an
    /// upstream shows what it issued.
    pub(super) fn warning(&self) -> Option<Warning> {
        let weakness = self.weakness.clone()?;
        Some(Warning::WeakAuthority { subject: self.subject.clone(), weakness })
    }
}

/// Prints whose it is, and its digest.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Authority").field(&self.subject).field(&self.digest()).finish()
    }
}

/// What a file of CA certificates amounts to: at least one that Kong takes.
#[derive(Clone, Debug)]
pub struct Authorities {
    members: Vec<Authority>,
    facts: Facts,
}

impl Authorities {
    /// Parses a file whose blocks are all certificates; one that is broken makes all invalid.
    ///
    /// Those that Kong would refuse `now`, being expired or no CA's, are left out, each with a
    /// warning; errs if none is left. Never panics.
    pub fn parse(source: Source<'_>, now: Timestamp) -> Result<Self, Invalid> {
        let (mut members, mut left_out) = (Vec::new(), Vec::new());
        let certificates = certificates(source)?;
        for certificate in &certificates {
            match unfit(certificate, now) {
                None => members.push(Authority::of(certificate)),
                Some(warning) if left_out.contains(&warning) => {}
                Some(warning) => left_out.push(warning),
            }
        }
        let facts = Facts::of_authorities(&members);
        let mut facts = facts.ok_or_else(|| none_fit(source.path, &certificates))?;
        facts.warnings.extend(left_out);
        Ok(Self { members, facts })
    }

    /// In the order of their DER, none of them twice.
    #[must_use]
    pub fn members(&self) -> &[Authority] {
        &self.members
    }

    /// What is known about them.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }
}

/// What one of Kong's objects holds; Kong looks at the first certificate alone.
///
/// Errs where Kong could not have taken it. Expired ones are none of these: they stay in Kong.
pub fn held_authority(cert: &str) -> Result<Authority, Unservable> {
    let path = Path::new("Kong's cert");
    let blocks = pem::blocks(path, cert.as_bytes())?;
    let first = blocks.iter().find(|block| block.label == pem::CERTIFICATE);
    let first = first.ok_or_else(|| Invalid::no_certificate(path))?;
    let certificate = read(path, 1, first)?;
    if !certificate.is_authority {
        return Err(Invalid::no_authority(path));
    }
    Ok(Authority::of(&certificate))
}

/// In the order of their DER, so that neither the file's order nor a repetition adds anything.
fn certificates(source: Source<'_>) -> Result<Vec<Certificate>, Invalid> {
    let path = source.path;
    let blocks = pem::blocks(path, source.bytes)?;
    if let Some(foreign) = blocks.iter().find(|block| block.label != pem::CERTIFICATE) {
        let mend = if foreign.is_key() {
            "remove it, as Kong needs no key of a CA"
        } else {
            "leave nothing but CERTIFICATE blocks in it"
        };
        return Err(Invalid::foreign_block(path, foreign.label, mend));
    }
    if blocks.len() > MOST_CERTIFICATES {
        let mend = "leave only those in it that issue what Kong has to verify";
        return Err(Invalid::too_many(path, MOST_CERTIFICATES, mend));
    }
    let read = blocks.iter().zip(1..).map(|(block, position)| read(path, position, block));
    let mut certificates = read.collect::<Result<Vec<_>, _>>()?;
    certificates.sort_by(|one, other| one.der().cmp(other.der()));
    certificates.dedup_by(|one, other| one.der() == other.der());
    Ok(certificates)
}

fn read(path: &Path, position: usize, block: &Block<'_>) -> Result<Certificate, Invalid> {
    Certificate::of_block(path, position, block, "fetch the file anew")
}

/// Why Kong would refuse it.
fn unfit(certificate: &Certificate, now: Timestamp) -> Option<Warning> {
    let (subject, not_after) = (certificate.subject_shown.clone(), certificate.validity.not_after);
    if !certificate.is_authority {
        Some(Warning::NotAnAuthority { subject })
    } else if now > not_after {
        Some(Warning::ExpiredAuthority { subject, not_after })
    } else {
        None
    }
}

fn none_fit(path: &Path, certificates: &[Certificate]) -> Invalid {
    let authorities = certificates.iter().filter(|certificate| certificate.is_authority);
    match authorities.map(|certificate| certificate.validity.not_after).max() {
        Some(not_after) => Invalid::authorities_expired(path, not_after),
        None => Invalid::no_authority(path),
    }
}

fn in_words(weakness: Weakness<'_>) -> Quoted {
    Quoted::new(&match weakness {
        Weakness::Key(KeyFlaw::Weak(kind) | KeyFlaw::Unsupported(kind)) => {
            format!("its key is {kind}")
        }
        Weakness::Key(KeyFlaw::Broken) => "its key is damaged".to_owned(),
        Weakness::Signature(algorithm) => format!("it is signed with {algorithm}"),
    })
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
    use testkit::{Authority as TestAuthority, KeyKind, LeafBuilder, Pki, pem_block};

    use super::super::Reason;
    use super::*;

    const FILE: &str = "/certs/clients/ca.crt";
    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn parse(text: impl AsRef<[u8]>) -> Result<Authorities, Invalid> {
        parse_at(text, NOW)
    }

    fn parse_at(text: impl AsRef<[u8]>, now: Timestamp) -> Result<Authorities, Invalid> {
        let (path, bytes) = (Path::new(FILE), text.as_ref());
        Authorities::parse(Source { path, bytes }, now)
    }

    fn subjects(authorities: &Authorities) -> Vec<String> {
        let mut subjects: Vec<_> =
            authorities.members().iter().map(|member| member.subject().to_string()).collect();
        subjects.sort();
        subjects
    }

    fn root(name: &str) -> TestAuthority {
        TestAuthority::root(name, KeyKind::P256)
    }

    /// A CA that lives from `not_before` to `not_after`.
    fn living(name: &str, not_before: i64, not_after: i64) -> TestAuthority {
        Pki::new().root().intermediate_with(name, KeyKind::P256, not_before, not_after)
    }

    /// The last certificate of a chain in tests/data/certs.
    fn last_of(name: &str) -> String {
        let path = format!("{}/tests/data/certs/{name}", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(path).unwrap();
        text[text.rfind("-----BEGIN").unwrap()..].to_owned()
    }

    #[test]
    fn a_file_is_known_by_its_certificates_in_whatever_order() {
        let (one, two) = (root("One").pem(), root("Two").pem());
        let expired = living("Old", 100, 200).pem();
        let file = parse(one.clone() + &two + &expired).unwrap();
        assert_eq!(subjects(&file), ["CN=One", "CN=Two"]);
        let again = [&expired[..], "# two\r\n", &two, &one, &expired, &two].concat();
        assert_eq!(parse(again).unwrap().facts(), file.facts());
        for other in [one.clone(), one + &two + &root("One").pem()] {
            assert_ne!(parse(other).unwrap().facts().fingerprint, file.facts().fingerprint);
        }
    }

    #[test]
    fn the_facts_are_those_of_all_members() {
        let early = living("Early", NOW.0 - 900, NOW.0 + 300);
        let late = living("Late", NOW.0 - 100, NOW.0 + 200);
        let file = parse(early.pem() + &late.pem()).unwrap();
        let mut ders = [early.der(), late.der()];
        ders.sort_unstable();
        let facts = file.facts();
        assert_eq!(facts.leaves, ders.map(LeafDigest::of));
        let (not_before, not_after) = (Timestamp(NOW.0 - 900), Timestamp(NOW.0 + 200));
        assert_eq!(facts.validity, Validity { not_before, not_after });
        assert_eq!(facts.chain_not_after, not_after);
        assert!(facts.chains.is_empty() && facts.names.is_empty() && facts.key_types.is_empty());
        assert!(!facts.temporary && !facts.covers("") && !facts.covers("a.test"));
        for now in [not_after, Timestamp(not_after.0 + 1)] {
            assert_eq!(facts.warnings_at(now), []);
        }
    }

    #[test]
    fn what_is_sent_is_the_same_certificate_and_nothing_else() {
        let root = root("One");
        let text = format!("subject=a\r\n{}\r\n# end", root.pem().replace('\n', "\r\n"));
        let file = parse(text).unwrap();
        let member = &file.members()[0];
        assert_eq!(member.pem(), root.pem());
        assert_eq!(member.digest(), LeafDigest::of(root.der()));
        let held = held_authority(&member.pem()).unwrap();
        assert_eq!(&held, member);
        assert_eq!(Facts::of_authorities([&held, &held]).as_ref(), Some(file.facts()));
        assert_eq!(Facts::of_authorities([]), None);
    }

    #[test]
    fn what_kong_would_refuse_is_left_out_and_told() {
        let lasting = root("Lasting").pem();
        let leaf = || Pki::new().pair(&["a.test"]).leaf_pem();
        let old = || living("Old", 100, NOW.0 - 1).pem();
        for (two, warning, words) in [
            (old() + &old(), "expired_authority", "(CN=Old) expired at 2027-01-15T07:59:59Z"),
            (
                leaf() + &leaf(),
                "not_an_authority",
                "(CN=a.test) lacks the basic constraint CA:TRUE",
            ),
            (last_of("v1.crt"), "not_an_authority", "(CN=serve.example.com) lacks"),
        ] {
            let file = parse(two + &lasting).unwrap();
            assert_eq!(subjects(&file), ["CN=Lasting"]);
            let [only] = file.facts().warnings.as_slice() else { panic!("{file:?}") };
            assert_eq!(only.as_str(), warning);
            assert!(only.to_string().contains(words), "{only}");
        }
    }

    #[test]
    fn the_last_second_of_a_life_is_part_of_it() {
        let old = living("Old", 100, 200).pem();
        assert!(parse_at(&old, Timestamp(200)).is_ok());
        assert_eq!(parse_at(&old, Timestamp(201)).unwrap_err().reason(), Reason::Expired);
    }

    #[test]
    fn one_that_is_not_valid_yet_is_a_member() {
        let next = living("Next", NOW.0 + 1, NOW.0 + 9).pem();
        let file = parse(next + &root("Now").pem()).unwrap();
        assert_eq!(subjects(&file), ["CN=Next", "CN=Now"]);
        assert!(!file.facts().not_yet_valid_at(NOW));
    }

    #[test]
    fn a_weak_authority_is_a_member_and_told_unless_its_weakness_is_its_own_signature() {
        for (name, weakness) in [
            ("sha1-root.crt", None),
            ("rsa1024-root.crt", Some("its key is RSA with 1024 bits")),
            ("rsa1024-intermediate.crt", Some("its key is RSA with 1024 bits")),
            ("sha1-intermediate.crt", Some("it is signed with SHA-1")),
        ] {
            let file = parse(last_of(name)).unwrap();
            let warnings: Vec<String> =
                file.facts().warnings.iter().map(Warning::to_string).collect();
            assert_eq!(file.members().len(), 1, "{name}");
            assert_eq!(warnings.len(), usize::from(weakness.is_some()), "{name}: {warnings:?}");
            assert!(warnings.iter().all(|text| text.contains(weakness.unwrap())), "{warnings:?}");
            let held = held_authority(&last_of(name)).unwrap();
            assert_eq!(Facts::of_authorities([&held]).as_ref(), Some(file.facts()));
        }
    }

    /// What a user may do wrong: the file, the reason, and a part of the mend.
    fn mistakes() -> Vec<(Vec<u8>, Reason, &'static str)> {
        let (root, other) = (root("One"), living("Old", 100, 200));
        let (pem, key) = (root.pem(), root.key().pkcs8_pem());
        let leaf = Pki::new().pair(&["a.test"]).leaf_pem();
        let with_tail = pem_block("CERTIFICATE", &[root.der(), &[0]].concat());
        let text = |parts: &[&str]| parts.concat().into_bytes();
        vec![
            (text(&[" \r\n"]), Reason::Empty, "put PEM into it"),
            (root.der().to_vec(), Reason::NotPem, "openssl x509 -inform der"),
            (text(&[&pem, &pem[..300]]), Reason::NotPem, "cut or is being written"),
            (text(&[&pem, &with_tail]), Reason::BadCertificate, "fetch the file anew"),
            (text(&[&pem, &key]), Reason::ForeignBlock, "remove it"),
            (text(&[&key]), Reason::ForeignBlock, "remove it"),
            (text(&[&pem, &pem_block("X509 CRL", b"0")]), Reason::ForeignBlock, "CERTIFICATE"),
            (text(&[&last_of("trusted.crt")]), Reason::ForeignBlock, "openssl x509 -in"),
            (text(&[&leaf]), Reason::NoAuthority, "CA:TRUE"),
            (text(&[&other.pem(), &leaf]), Reason::Expired, "1970-01-01T00:03:20Z: replace"),
            (text(&[&pem.repeat(1001)]), Reason::TooMany, "leave only those"),
        ]
    }

    #[test]
    fn each_mistake_is_told_with_the_file_and_the_mend() {
        for (text, reason, mend) in mistakes() {
            let error = parse(text).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.reason(), reason, "{text}");
            assert!(text.contains(mend) && text.contains(FILE), "{text}: {mend}");
            assert!(!text.ends_with('.') && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn no_mistake_shows_what_the_files_hold() {
        for (file, ..) in mistakes() {
            let error = parse(&file).unwrap_err();
            let shown = format!("{error} {error:?}");
            let text = String::from_utf8_lossy(&file);
            let body: String = text.lines().filter(|line| !line.contains('-')).collect();
            let body: Vec<char> = body.chars().take(4000).collect();
            for run in body.windows(24) {
                assert!(!shown.contains(&String::from_iter(run)), "{shown}");
            }
        }
    }

    #[test]
    fn a_thousand_certificates_are_taken() {
        assert_eq!(parse(root("One").pem().repeat(1000)).unwrap().members().len(), 1);
    }

    #[test]
    fn what_kong_holds_but_cannot_use_is_told() {
        let pair = Pki::new().pair(&["a.test"]);
        for (cert, reason) in [
            (pair.leaf_pem(), Reason::NoAuthority),
            (pair.key_pem(), Reason::NoCertificate),
            ("{vault://env/cert}".to_owned(), Reason::NotPem),
            (pem_block("CERTIFICATE", b"0"), Reason::BadCertificate),
        ] {
            let error = held_authority(&cert).unwrap_err();
            assert_eq!(error.reason(), reason);
            assert!(error.to_string().contains("Kong's cert"), "{error}");
        }
    }

    #[test]
    fn only_a_constraint_that_is_true_and_there_once_makes_an_authority() {
        let (ca_true, ca_false) = ([0x30, 0x03, 0x01, 0x01, 0xff], [0x30, 0x00]);
        for (constraints, is_authority) in [
            (vec![&ca_true[..]], true),
            (vec![&ca_false], false),
            (vec![&ca_true, &ca_true], false),
            (vec![&ca_true[..4]], false),
        ] {
            let leaf = Pki::new().leaf(&["a.test"]);
            let with = |leaf: LeafBuilder, content: &&[u8]| leaf.extension("2.5.29.19", content);
            let pem = constraints.iter().fold(leaf, with).issue().leaf_pem();
            assert_eq!(parse(&pem).is_ok(), is_authority, "{constraints:?}");
            assert_eq!(held_authority(&pem).is_ok(), is_authority, "{constraints:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn arbitrary_bytes_are_refused_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            prop_assert!(parse(&bytes).is_err());
            let block = pem_block("CERTIFICATE", &bytes);
            prop_assert!(parse(&block).is_err());
            prop_assert!(held_authority(&block).is_err());
        }

        #[test]
        fn neither_order_nor_white_space_is_part_of_the_identity(
            order in Just(vec![0, 1, 2, 3]).prop_shuffle(),
            newline in prop::sample::select(vec!["\n", "\r\n", " \n", "\t\r\n"]),
            between in "([# a-z=ä]{0,20}\r?\n){0,3}",
        ) {
            let pems = ["One", "Two", "Three", "Four"].map(|name| root(name).pem());
            let shuffled: Vec<&str> = order.iter().map(|&place: &usize| &*pems[place]).collect();
            let text = shuffled.join(&between).replace('\n', newline);
            let (expected, found) = (parse(pems.concat()).unwrap(), parse(text).unwrap());
            prop_assert_eq!(found.facts(), expected.facts());
            prop_assert_eq!(found.members(), expected.members());
            let held = Facts::of_authorities(found.members().iter().rev());
            prop_assert_eq!(held.as_ref(), Some(expected.facts()));
        }

        #[test]
        fn every_byte_is_part_of_the_identity(place in any::<prop::sample::Index>(), mask in 1_u8..) {
            let root = root("One");
            let mut der = root.der().to_vec();
            let place = place.index(der.len());
            der[place] ^= mask;
            if let Ok(changed) = parse(pem_block("CERTIFICATE", &der)) {
                let before = parse(root.pem()).unwrap().facts().fingerprint;
                prop_assert_ne!(changed.facts().fingerprint, before);
            }
        }
    }
}
