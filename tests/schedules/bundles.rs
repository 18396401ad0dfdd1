//! Everything that a file, or another writer, may hold in a schedule. Made once: keys take time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use kong_cert_reloader::bundle::{Fingerprint, held_facts};
use serde_json::Value;
use testkit::{Authority, KeyKind, Pki, TestKey, pem_block};

use super::pod::START;

const HOUR: i64 = 3600;

/// What is watched. Each has its own way of becoming an object in Kong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Binding {
    /// Its names are those of its certificate.
    Web,
    /// Its names and a tag are configured, and it has a pair of each key type.
    Api,
    /// Someone else made its object before we came.
    Old,
}

impl Binding {
    pub(crate) const ALL: [Self; 3] = [Self::Web, Self::Api, Self::Old];

    /// As it is called in settings and in Kong.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Api => "api",
            Self::Old => "old",
        }
    }

    /// Its names, if they are configured.
    pub(crate) const fn configured(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Api => Some(&["*.api.test", "api.test"]),
            Self::Web | Self::Old => None,
        }
    }

    const fn names(self, what: What) -> &'static [&'static str] {
        match (self, what) {
            (Self::Web, What::MoreNames) => &["a.test", "www.a.test"],
            (Self::Web, What::OtherNames) => &["www.a.test"],
            (Self::Web, _) => &["a.test"],
            (Self::Api, What::OtherNames) => &["other.test"],
            (Self::Api, _) => &["api.test", "*.api.test"],
            (Self::Old, What::MoreNames) => &["o.test", "p.o.test"],
            (Self::Old, What::OtherNames) => &["p.o.test"],
            (Self::Old, _) => &["o.test"],
        }
    }
}

/// What lies in the files of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// Each begins four hours after the one before: the next is a renewal, another a rollback.
    Generation(u8),
    /// The same pair in another text: CRLF, comments.
    OtherText(u8),
    /// The same leaf with another intermediate.
    OtherChain(u8),
    /// Begins together with generation 2.
    Twin,
    /// Begins between generations 1 and 2.
    MoreNames,
    /// Begins between generations 2 and 3.
    OtherNames,
    /// The newest; expires three hours after the beginning.
    Short,
    /// Begins two hours after the beginning.
    Future,
    Expired,
    /// The second block of the chain is cut.
    Broken,
    /// The key of another pair.
    Mismatched,
    /// RSA with 1024 bits.
    Weak,
    /// Without the key.
    Half,
}

/// The generations of a binding.
pub(crate) const GENERATIONS: u8 = 5;

impl What {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let numbered = [Self::Generation, Self::OtherText, Self::OtherChain];
        let numbered = numbered.into_iter().flat_map(|what| (0..GENERATIONS).map(what));
        numbered.chain([
            Self::Twin,
            Self::MoreNames,
            Self::OtherNames,
            Self::Short,
            Self::Future,
            Self::Expired,
            Self::Broken,
            Self::Mismatched,
            Self::Weak,
            Self::Half,
        ])
    }

    /// From when until when, in hours from the beginning.
    const fn life(self) -> (i64, i64) {
        const LONG: i64 = 90 * 24;
        match self {
            Self::Generation(number) | Self::OtherText(number) | Self::OtherChain(number) => {
                (-30 + 4 * number as i64, LONG)
            }
            Self::Twin => (-22, LONG),
            Self::MoreNames => (-24, LONG),
            Self::OtherNames => (-20, LONG),
            Self::Short => (-5, 3),
            Self::Future => (2, LONG),
            Self::Expired => (-300, -1),
            Self::Broken | Self::Mismatched | Self::Weak | Self::Half => (-30, LONG),
        }
    }
}

/// Which pair, or pairs: two texts of one have one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BundleId {
    pub(crate) binding: Binding,
    pub(crate) what: What,
}

/// What can be served, at its time.
pub(crate) struct Bundle {
    pub(crate) id: BundleId,
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    /// The names that it is wanted for.
    pub(crate) wanted: BTreeSet<&'static str>,
    /// The names in its certificate.
    pub(crate) covers: BTreeSet<&'static str>,
    /// DER, leaf first: by key type where there are two.
    pub(crate) chains: Vec<(KeyKind, Vec<Vec<u8>>)>,
    /// As the sidecar shows it.
    pub(crate) fingerprint: Fingerprint,
}

impl Bundle {
    pub(crate) fn is_valid_at(&self, wall: i64) -> bool {
        (self.not_before..=self.not_after).contains(&wall)
    }
}

/// The files of a binding.
pub(crate) struct Files {
    pub(crate) texts: Vec<(&'static str, String)>,
    /// `None` if it can never be served.
    pub(crate) bundle: Option<BundleId>,
}

/// What an object in Kong holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Bundle(BundleId),
    /// Kong took it, and every handshake fails.
    Unservable,
    /// None of all these.
    Unknown,
}

/// All of it.
pub(crate) struct Bundles {
    files: BTreeMap<(Binding, What), Files>,
    bundles: BTreeMap<BundleId, Bundle>,
    by_text: BTreeMap<(String, Option<String>), Held>,
}

/// Made at its first use.
pub(crate) static BUNDLES: LazyLock<Bundles> = LazyLock::new(Bundles::new);

impl Bundles {
    fn new() -> Self {
        let mut all =
            Self { files: BTreeMap::new(), bundles: BTreeMap::new(), by_text: BTreeMap::new() };
        for binding in Binding::ALL {
            let issuer = Issuer::new(binding);
            for what in What::all() {
                all.add(binding, what, &issuer.pairs(what));
            }
        }
        all
    }

    fn add(&mut self, binding: Binding, what: What, pairs: &[Pair]) {
        let texts = written(what, pairs.iter().map(Pair::text).collect());
        let id = match what {
            What::OtherText(number) => BundleId { binding, what: What::Generation(number) },
            _ => BundleId { binding, what },
        };
        let is_servable =
            !matches!(what, What::Broken | What::Mismatched | What::Weak | What::Half);
        let key = (texts[0].0.clone(), texts.get(1).map(|(cert, _)| cert.clone()));
        if is_servable && id.what == what {
            let (not_before, not_after) = what.life();
            let covers: BTreeSet<_> = binding.names(what).iter().copied().collect();
            let wanted = binding.configured().map(|names| names.iter().copied().collect());
            let fingerprint = held_facts(&key.0, key.1.as_deref()).unwrap().fingerprint;
            let bundle = Bundle {
                id,
                not_before: START + not_before * HOUR,
                not_after: START + not_after * HOUR,
                wanted: wanted.unwrap_or_else(|| covers.clone()),
                covers,
                chains: pairs.iter().map(|pair| (pair.kind, pair.chain.clone())).collect(),
                fingerprint,
            };
            self.bundles.insert(id, bundle);
            self.by_text.insert(key, Held::Bundle(id));
        } else if matches!(what, What::Broken | What::Weak) {
            self.by_text.insert(key, Held::Unservable);
        }
        let names = [("tls.crt", "tls.key"), ("alt.crt", "alt.key")];
        let files = texts.into_iter().zip(names);
        let files = files.flat_map(|((cert, key), names)| [(names.0, cert), (names.1, key)]);
        let is_there = |(name, _): &(&str, String)| what != What::Half || *name != "tls.key";
        let bundle = is_servable.then_some(id);
        let files = Files { texts: files.filter(is_there).collect(), bundle };
        self.files.insert((binding, what), files);
    }

    pub(crate) fn files(&self, binding: Binding, what: What) -> &Files {
        &self.files[&(binding, what)]
    }

    pub(crate) fn bundle(&self, id: BundleId) -> &Bundle {
        &self.bundles[&id]
    }

    /// What a certificate object holds.
    pub(crate) fn held(&self, object: &Value) -> Held {
        let text = |field: &str| object[field].as_str().map(str::to_owned);
        let key = (text("cert").unwrap_or_default(), text("cert_alt"));
        self.by_text.get(&key).copied().unwrap_or(Held::Unknown)
    }

    /// The body by which a writer puts these files into an object.
    pub(crate) fn body(&self, binding: Binding, what: What) -> Value {
        let text = |file: &str| {
            let texts = &self.files(binding, what).texts;
            texts.iter().find(|(name, _)| *name == file).map(|(_, text)| text.clone())
        };
        let mut body = serde_json::json!({ "cert": text("tls.crt"), "key": text("tls.key") });
        if let Some(cert_alt) = text("alt.crt") {
            body["cert_alt"] = cert_alt.into();
            body["key_alt"] = text("alt.key").into();
        }
        body
    }
}

/// The texts as they are published.
fn written(what: What, mut texts: Vec<(String, String)>) -> Vec<(String, String)> {
    let recorded = |name: &str| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/kong-contract/pem/");
        std::fs::read_to_string(format!("{path}{name}")).unwrap()
    };
    let (cert, key) = &mut texts[0];
    match what {
        What::OtherText(_) => {
            *cert = format!("# renewed by hand\r\n{}", cert.replace('\n', "\r\n"));
        }
        What::Broken => cert.push_str(&pem_block("CERTIFICATE", b"cut")),
        What::Mismatched => *key = TestKey::new(KeyKind::P256).pkcs8_pem(),
        What::Weak => (*cert, *key) = (recorded("rsa1024.crt"), recorded("rsa1024.key")),
        _ => {}
    }
    texts
}

/// What one binding's certificates are made with.
struct Issuer {
    binding: Binding,
    pki: Pki,
    ca: Authority,
    generations: Vec<Vec<Pair>>,
}

impl Issuer {
    fn new(binding: Binding) -> Self {
        let pki = Pki::at(START);
        let ca = pki.intermediate("Test CA");
        let mut issuer = Self { binding, pki, ca, generations: Vec::new() };
        let generations = (0..GENERATIONS).map(What::Generation);
        issuer.generations = generations.map(|what| issuer.issue(what)).collect();
        issuer
    }

    /// One for each key type.
    fn issue(&self, what: What) -> Vec<Pair> {
        let (from, until) = what.life();
        let kinds: &[KeyKind] = match self.binding {
            // RSA keys take long to load.
            Binding::Api => &[KeyKind::P256, KeyKind::Ed25519],
            Binding::Web | Binding::Old => &[KeyKind::P256],
        };
        let pair = |kind: &KeyKind| {
            let leaf = self.pki.leaf_from(&self.ca, self.binding.names(what)).kind(*kind);
            let leaf = leaf.not_before(START + from * HOUR).not_after(START + until * HOUR);
            let issued = leaf.issue();
            Pair { kind: *kind, chain: issued.chain_ders().to_vec(), key: issued.key_pem() }
        };
        kinds.iter().map(pair).collect()
    }

    fn pairs(&self, what: What) -> Vec<Pair> {
        match what {
            What::Generation(number) | What::OtherText(number) => {
                self.generations[usize::from(number)].clone()
            }
            What::OtherChain(number) => {
                let mut pairs = self.generations[usize::from(number)].clone();
                let again = self.ca.reissued();
                pairs.iter_mut().for_each(|pair| pair.chain[1] = again.der().to_vec());
                pairs
            }
            _ => self.issue(what),
        }
    }
}

#[derive(Clone)]
struct Pair {
    kind: KeyKind,
    /// DER, leaf first.
    chain: Vec<Vec<u8>>,
    key: String,
}

impl Pair {
    fn text(&self) -> (String, String) {
        let blocks = self.chain.iter().map(|der| pem_block("CERTIFICATE", der));
        (blocks.collect(), self.key.clone())
    }
}
