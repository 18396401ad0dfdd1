//! Certificates of a Kong on a database: `/certificates` and `/snis`.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Answer, Call, Failure, Kong, LIST_LIMIT, Method, OBJECT_LIMIT, Wire, parse};
use crate::bundle::{Bundle, Pair, held_facts};
use crate::desired::{Alt, Desired, Fields, Footing};
use crate::held::{HeldCertificate, Snapshot};
use crate::names::Sni;
use crate::quote::Quoted;

/// Kong's largest page.
const PAGE: usize = 1000;

/// What a binding has to know of Kong.
#[derive(Clone, Debug)]
pub struct Query {
    /// The object that it would feed.
    pub id: Uuid,
    /// The names that it would have.
    pub names: BTreeSet<Sni>,
}

/// A write: the object as it should be, and the bundle that goes into it.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The object.
    pub desired: &'a Desired,
    /// Its content.
    pub bundle: &'a Bundle,
}

impl<W: Wire> Kong<W> {
    /// Reads the object of one query, and those that have its names.
    ///
    /// # Errors
    ///
    /// If any of it cannot be read.
    pub async fn look(&self, query: &Query) -> Result<Snapshot, Failure> {
        let mut snapshot = Snapshot::default();
        if let Some(held) = self.certificate(query.id).await? {
            snapshot.insert(held);
        }
        let unowned = query.names.iter().filter(|sni| snapshot.owner(sni.as_ref()).is_none());
        let owners = try_join_all(unowned.map(|sni| self.sni_owner(sni))).await?;
        let owners: BTreeSet<Uuid> = owners.into_iter().flatten().collect();
        let others = owners.into_iter().filter(|id| *id != query.id);
        for held in try_join_all(others.map(|id| self.certificate(id))).await?.into_iter().flatten()
        {
            snapshot.insert(held);
        }
        Ok(snapshot)
    }

    /// Whether there is no object with this id.
    ///
    /// # Errors
    ///
    /// If that cannot be told.
    pub async fn is_absent(&self, id: Uuid) -> Result<bool, Failure> {
        Ok(self.get(&format!("/certificates/{id}")).await?.is_none())
    }

    /// Reads all certificates, page by page: cheaper than [`Self::look`] for many bindings.
    ///
    /// # Errors
    ///
    /// If any page cannot be read.
    pub async fn look_at_all(&self) -> Result<Arc<Snapshot>, Failure> {
        let mut snapshot = Snapshot::default();
        let mut offset = None::<String>;
        let mut seen = BTreeSet::new();
        loop {
            let page = offset
                .as_deref()
                .map_or_else(String::new, |offset| format!("&offset={}", percent_encoded(offset)));
            let path = self.path(&format!("/certificates?size={PAGE}{page}"));
            let call = Call { method: Method::Get, path, body: None, limit: LIST_LIMIT };
            let answer = self.ask(call).await?;
            let page: Page = parse(&answer)?;
            page.data.into_iter().for_each(|object| snapshot.insert(object.into()));
            match page.offset {
                Some(next) if seen.insert(next.clone()) => offset = Some(next),
                Some(_) => {
                    return Err(Failure::not_kong("its list of certificates leads in a circle"));
                }
                None => return Ok(Arc::new(snapshot)),
            }
        }
    }

    /// Writes one object, and then moves the names to it that are taken from others.
    ///
    /// # Errors
    ///
    /// If Kong does not show afterwards what was sent.
    pub async fn write(&self, change: Change<'_>) -> Result<HeldCertificate, Failure> {
        let Change { desired, bundle } = change;
        let (method, body) = match &desired.footing {
            Footing::Ours { fields, .. } => (Method::Put, whole(bundle, fields)),
            Footing::Adopted { alt, swap } => (Method::Patch, pairs_alone(bundle, *alt, *swap)),
        };
        let path = self.path(&format!("/certificates/{}", desired.id));
        let call = Call { method, path, body: Some(body), limit: OBJECT_LIMIT };
        let answer = self.ask(call).await.map_err(|failure| gone_meanwhile(failure, method))?;
        let mut held = object(&answer)?;
        if held.id != desired.id || !shows(&held, desired, bundle) {
            return Err(Failure::not_kong(format!("status {} with another body", answer.status)));
        }
        for sni in &desired.take {
            self.move_sni(sni, desired.id).await?;
            held.snis.insert(sni.to_string());
        }
        Ok(held)
    }

    /// Writes an object and some of its names again as they are, so that nodes hear of them that
    /// missed it: an empty PATCH heals a stale certificate, one with its own certificate a stale
    /// name (measured).
    ///
    /// # Errors
    ///
    /// If Kong does not take it, or a name has moved elsewhere meanwhile.
    pub async fn announce(&self, id: Uuid, names: &BTreeSet<Sni>) -> Result<(), Failure> {
        let path = self.path(&format!("/certificates/{id}"));
        let (method, body) = (Method::Patch, Some(Bytes::from_static(b"{}")));
        let call = Call { method, path, body, limit: OBJECT_LIMIT };
        let answer = self.ask(call).await.map_err(|failure| gone_meanwhile(failure, method))?;
        let held = object(&answer)?;
        for sni in names.iter().filter(|sni| held.snis.contains(sni.as_ref())) {
            self.move_sni(sni, id).await?;
        }
        Ok(())
    }

    async fn certificate(&self, id: Uuid) -> Result<Option<HeldCertificate>, Failure> {
        match self.get(&format!("/certificates/{id}")).await? {
            Some(answer) => object(&answer).map(Some),
            None => Ok(None),
        }
    }

    async fn sni_owner(&self, sni: &Sni) -> Result<Option<Uuid>, Failure> {
        match self.get(&sni_path(sni)).await? {
            Some(answer) => Ok(Some(parse::<SniObject>(&answer)?.certificate.id)),
            None => Ok(None),
        }
    }

    /// `None` if there is no such object.
    async fn get(&self, path: &str) -> Result<Option<Answer>, Failure> {
        let path = self.path(path);
        let call = Call { method: Method::Get, path, body: None, limit: OBJECT_LIMIT };
        match self.ask(call).await {
            Ok(answer) => Ok(Some(answer)),
            Err(Failure::NoSuchPath { status: 404, .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// No handshake is lost (measured); dropping the name and adding it elsewhere leaves a gap.
    async fn move_sni(&self, sni: &Sni, id: Uuid) -> Result<(), Failure> {
        let body = Bytes::from(format!(r#"{{"certificate":{{"id":"{id}"}}}}"#));
        let path = self.path(&sni_path(sni));
        let method = Method::Patch;
        let call = Call { method, path, body: Some(body), limit: OBJECT_LIMIT };
        let answer = self.ask(call).await.map_err(|failure| gone_meanwhile(failure, method))?;
        if parse::<SniObject>(&answer)?.certificate.id == id {
            Ok(())
        } else {
            Err(Failure::not_kong(format!("status {} with another body", answer.status)))
        }
    }
}

/// What is changed was there when it was looked at, just before.
fn gone_meanwhile(failure: Failure, method: Method) -> Failure {
    match failure {
        Failure::NoSuchPath { status: 404, .. } if method == Method::Patch => {
            Failure::Conflict { message: Quoted::new("it was deleted meanwhile") }
        }
        failure => failure,
    }
}

/// A `PUT` replaces: what is left out is gone (SNIs, tags, second pair) or reset (`created_at`).
fn whole(bundle: &Bundle, fields: &Fields) -> Bytes {
    #[derive(Serialize)]
    struct Whole<'a> {
        cert: String,
        key: &'a str,
        cert_alt: Option<String>,
        key_alt: Option<&'a str>,
        snis: &'a BTreeSet<String>,
        tags: &'a BTreeSet<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        created_at: Option<i64>,
    }
    json(&Whole {
        cert: bundle.main().cert_pem(),
        key: bundle.main().key_pem(),
        cert_alt: bundle.alt().map(Pair::cert_pem),
        key_alt: bundle.alt().map(|pair| pair.key_pem().as_str()),
        snis: &fields.snis,
        tags: &fields.tags,
        created_at: fields.created_at,
    })
}

/// A `PATCH` of certificate and key keeps all the rest.
fn pairs_alone(bundle: &Bundle, alt: Alt, swap: bool) -> Bytes {
    #[derive(Serialize)]
    struct Pairs<'a> {
        cert: String,
        key: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        cert_alt: Option<Option<String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        key_alt: Option<Option<&'a str>>,
    }
    let (main, second) = match bundle.alt() {
        Some(second) if swap => (second, Some(bundle.main())),
        second => (bundle.main(), second),
    };
    let (cert_alt, key_alt) = match alt {
        Alt::Keep => (None, None),
        Alt::Clear => (Some(None), Some(None)),
        Alt::Write => {
            (Some(second.map(Pair::cert_pem)), Some(second.map(|pair| pair.key_pem().as_str())))
        }
    };
    json(&Pairs { cert: main.cert_pem(), key: main.key_pem(), cert_alt, key_alt })
}

/// JSON in one buffer that is wiped when dropped.
fn json(body: &impl Serialize) -> Bytes {
    struct Wiped(Zeroizing<Vec<u8>>);
    impl AsRef<[u8]> for Wiped {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    // Large enough for two pairs with long chains: a buffer that grows leaves copies behind.
    let mut buffer = Zeroizing::new(Vec::with_capacity(64 * 1024));
    // Strings and sets of strings into memory: there is nothing that could fail.
    let _ = serde_json::to_writer(&mut *buffer, body);
    Bytes::from_owner(Wiped(buffer))
}

fn shows(held: &HeldCertificate, desired: &Desired, bundle: &Bundle) -> bool {
    let facts = crate::desired::held_facts(desired, held);
    facts.as_ref().is_ok_and(|facts| facts.fingerprint == bundle.facts().fingerprint)
}

fn sni_path(sni: &Sni) -> String {
    format!("/snis/{}", percent_encoded(sni.as_ref()))
}

/// Everything but RFC 3986's unreserved characters.
fn percent_encoded(segment: &str) -> String {
    let mut encoded = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn object(answer: &Answer) -> Result<HeldCertificate, Failure> {
    parse::<Object>(answer).map(HeldCertificate::from)
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Object>,
    offset: Option<String>,
}

#[derive(Deserialize)]
struct SniObject {
    certificate: Reference,
}

#[derive(Deserialize)]
struct Reference {
    id: Uuid,
}

#[derive(Deserialize)]
struct Object {
    id: Uuid,
    cert: String,
    key: IsReference,
    cert_alt: Option<String>,
    key_alt: Option<IsReference>,
    snis: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    created_at: Option<i64>,
}

/// Whether a key is a `{vault://…}` reference: all that is ever looked at.
struct IsReference(bool);

impl<'de> Deserialize<'de> for IsReference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = Zeroizing::new(String::deserialize(deserializer)?);
        Ok(Self(is_reference(&key)))
    }
}

fn is_reference(text: &str) -> bool {
    text.starts_with("{vault://")
}

impl From<Object> for HeldCertificate {
    fn from(object: Object) -> Self {
        let alt = object.cert_alt.as_deref();
        let references = [Some(object.cert.as_str()), alt].into_iter().flatten().any(is_reference);
        let key_references =
            [Some(&object.key), object.key_alt.as_ref()].into_iter().flatten().any(|key| key.0);
        Self {
            id: object.id,
            facts: held_facts(&object.cert, alt).map_err(|invalid| invalid.reason()),
            main_facts: alt
                .is_some()
                .then(|| held_facts(&object.cert, None).map_err(|invalid| invalid.reason())),
            snis: object.snis.into_iter().flatten().collect(),
            tags: object.tags.into_iter().flatten().collect(),
            created_at: object.created_at,
            is_reference: references || key_references,
        }
    }
}
