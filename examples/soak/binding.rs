//! What is rotated: files of every kind, one generation after the other.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kong_cert_reloader::clock::Timestamp;
use rustls::SignatureScheme;
use serde_json::{Value, json};
use testkit::{Authority, CertifiedPair, KeyKind, Pki, SecretVolume, TlsClient};
use tokio::time::Instant;
use uuid::Uuid;

use crate::clients::{Chain, Clients};

const DAY: i64 = 86_400;
/// The product pushes a binding ten times a minute at once, and then each six seconds.
const REST: Duration = Duration::from_millis(6_200);
const RSA: [SignatureScheme; 3] = [
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PKCS1_SHA256,
];
const ECDSA: [SignatureScheme; 1] = [SignatureScheme::ECDSA_NISTP256_SHA256];

/// What a binding's files hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A pair of this kind, in an object of ours.
    Own(KeyKind),
    /// Two pairs in one object.
    Dual,
    /// A pair, in an object that someone else made.
    Adopted,
    /// A pair in a directory that no kubelet writes.
    Plain,
    /// A CA certificate.
    Authority,
    /// A licence.
    License,
}

impl Kind {
    /// Whether clients get to see it.
    pub(crate) const fn is_served(self) -> bool {
        !matches!(self, Self::Authority | Self::License)
    }
}

/// A binding, and the generation in its files.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) volume: SecretVolume,
    issuer: Authority,
    /// What someone else may have in its place: servable, and older than all that is ours.
    older: CertifiedPair,
    /// Unix seconds before which no generation begins.
    begin: i64,
    generation: u64,
    /// The numbers of its views with the clients.
    pub(crate) views: Vec<usize>,
    /// What Kong must hold of what no client sees.
    held: String,
    rotated: Option<Instant>,
    served: Cell<Option<Instant>>,
    served_generation: Cell<u64>,
    /// How often it was undone since it was rotated, as the sidecar may count it.
    pub(crate) undone: u32,
}

type Files = Vec<(&'static str, String)>;

impl Binding {
    pub(crate) fn new(
        name: String,
        kind: Kind,
        directory: &Path,
        pki: &Pki,
        clients: &Clients,
    ) -> Self {
        let views = match kind {
            Kind::Authority | Kind::License => Vec::new(),
            Kind::Dual => {
                let of = |schemes: &[SignatureScheme]| TlsClient::new().schemes(schemes);
                [of(&RSA), of(&ECDSA)].map(|client| clients.add(&host(&name), client)).into()
            }
            _ => vec![clients.add(&host(&name), TlsClient::new())],
        };
        let issuer = pki.intermediate("Soak Issuing CA");
        let begin = now() - 30 * DAY;
        let older = issuer.leaf(&[&host(&name)]).not_before(begin - DAY).issue();
        for view in &views {
            clients.expect(*view, 0, older.chain_ders().to_vec());
        }
        Self {
            volume: SecretVolume::mount(directory.join(&name)),
            issuer,
            older,
            begin,
            generation: 0,
            views,
            held: String::new(),
            rotated: None,
            served: Cell::new(None),
            served_generation: Cell::new(0),
            undone: 0,
            kind,
            name,
        }
    }

    pub(crate) fn host(&self) -> String {
        host(&self.name)
    }

    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) const fn older(&self) -> &CertifiedPair {
        &self.older
    }

    /// What leads the sidecar to the files, beyond where they lie.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let name = self.name.to_uppercase();
        let at = |file: &str| self.volume.root().join(file).to_string_lossy().into_owned();
        match self.kind {
            Kind::Dual => vec![
                (format!("CERTIFICATES__{name}__CERT_ALT"), "alt.crt".to_owned()),
                (format!("CERTIFICATES__{name}__KEY_ALT"), "alt.key".to_owned()),
            ],
            Kind::Authority => vec![
                (format!("CA_CERTIFICATES__{name}__FILE"), at("ca.crt")),
                (format!("CA_CERTIFICATES__{name}__ID"), Uuid::from_u128(self.id()).to_string()),
            ],
            Kind::License => vec![(format!("LICENSES__{name}__FILE"), at("license.json"))],
            Kind::Own(_) | Kind::Adopted | Kind::Plain => Vec::new(),
        }
    }

    /// Whether it may be pushed at once.
    pub(crate) fn is_rested(&self) -> bool {
        self.served.get().is_none_or(|at| at.elapsed() >= REST)
    }

    /// Clients get the present generation. Returns whether they did not before: what Kong lost is
    /// served once more.
    pub(crate) fn note_served(&self) -> bool {
        self.served.set(Some(Instant::now()));
        self.served_generation.replace(self.generation) != self.generation
    }

    pub(crate) const fn rotated(&self) -> Option<Instant> {
        self.rotated
    }

    /// Publishes the next generation. Clients may get it from now on.
    pub(crate) fn rotate(&mut self, clients: &Clients) {
        self.generation += 1;
        self.undone = 0;
        let (files, chains) = self.issue();
        for (view, chain) in self.views.iter().zip(chains) {
            clients.expect(*view, self.generation, chain);
        }
        self.rotated = Some(Instant::now());
        self.write(&files);
    }

    /// Publishes files that cannot be served. `how` draws one kind of them.
    pub(crate) fn break_files(&self, how: usize) {
        let pair = self.pair(KeyKind::P256, self.begin);
        let (cert, key) = (pair.chain_pem(), pair.key_pem());
        let names = self.names();
        let broken = match how % 5 {
            0 => [cert, self.pair(KeyKind::P256, self.begin).key_pem()],
            1 => [cert[..cert.len() / 2].to_owned(), key],
            2 => [key, cert],
            3 => [String::new(), String::new()],
            _ => {
                let expired = self.issuer.leaf(&[&self.host()]).not_after(self.begin).issue();
                [expired.chain_pem(), expired.key_pem()]
            }
        };
        let (cert, key) = names;
        let broken: Files = match self.kind {
            Kind::Authority | Kind::License => vec![(cert, broken[1].clone())],
            _ => [cert, key].into_iter().zip(broken).collect(),
        };
        self.write(&broken);
    }

    /// Whether Kong holds what the files do. `list` tells the rows of a list in Kong.
    pub(crate) fn is_held(&self, list: impl FnOnce(&str) -> Vec<Value>) -> bool {
        let (path, field) = match self.kind {
            Kind::Authority => ("/ca_certificates", "cert"),
            _ => ("/licenses", "payload"),
        };
        list(path).iter().any(|row| row[field] == self.held.as_str())
    }

    fn issue(&mut self) -> (Files, Vec<Chain>) {
        let from = self.begin + i64::try_from(self.generation).unwrap_or_default();
        let (cert, key) = self.names();
        match self.kind {
            Kind::Authority => {
                let issuer = Pki::new();
                let until = now() + 90 * DAY;
                let ca =
                    issuer.root().intermediate_with(&self.name, KeyKind::P256, from, until).pem();
                self.held.clone_from(&ca);
                (vec![(cert, ca)], Vec::new())
            }
            Kind::License => {
                self.held = license(self.generation);
                (vec![(cert, self.held.clone())], Vec::new())
            }
            Kind::Dual => {
                let [rsa, ec] = [KeyKind::Rsa2048, KeyKind::P256].map(|kind| self.pair(kind, from));
                let mut files = files_of((cert, key), &rsa);
                files.extend(files_of(("alt.crt", "alt.key"), &ec));
                (files, [rsa, ec].map(|pair| pair.chain_ders().to_vec()).into())
            }
            Kind::Own(_) | Kind::Adopted | Kind::Plain => {
                let kind = if let Kind::Own(kind) = self.kind { kind } else { KeyKind::P256 };
                let pair = self.pair(kind, from);
                (files_of((cert, key), &pair), vec![pair.chain_ders().to_vec()])
            }
        }
    }

    fn pair(&self, kind: KeyKind, from: i64) -> CertifiedPair {
        let leaf = self.issuer.leaf(&[&self.host()]).kind(kind);
        leaf.not_before(from).not_after(now() + 90 * DAY).issue()
    }

    const fn names(&self) -> (&'static str, &'static str) {
        match self.kind {
            Kind::Authority => ("ca.crt", ""),
            Kind::License => ("license.json", ""),
            _ => ("tls.crt", "tls.key"),
        }
    }

    fn write(&self, files: &[(&'static str, String)]) {
        if self.kind == Kind::Plain {
            for (name, content) in files {
                let path: PathBuf = self.volume.root().join(name);
                fs::write(path, content).expect("a directory of our own");
            }
        } else {
            let files: Vec<_> =
                files.iter().map(|(name, content)| (*name, content.as_bytes())).collect();
            self.volume.publish(&files);
        }
    }

    fn id(&self) -> u128 {
        let name = self.name.bytes().fold(0, |sum, byte| sum * 31 + u128::from(byte));
        0x1111_1111_1111_4111_8111_0000_0000_0000 + name % 0xffff_ffff
    }
}

fn files_of((cert, key): (&'static str, &'static str), pair: &CertifiedPair) -> Files {
    vec![(cert, pair.chain_pem()), (key, pair.key_pem())]
}

fn host(name: &str) -> String {
    format!("{name}.soak.test")
}

fn license(generation: u64) -> String {
    let payload = json!({
        "customer": "Soak",
        "license_creation_date": "2025-01-31",
        "license_expiration_date": "2119-01-31",
        "license_key": format!("KEY{generation:08}"),
    });
    json!({"license": {"version": "1", "payload": payload, "signature": "6985968131533a96"}})
        .to_string()
}

pub(crate) fn now() -> i64 {
    Timestamp::from(SystemTime::now()).0
}
