//! Certificates of a Kong on a database: `/certificates` and `/snis`.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::future::try_join_all;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::super::{Answer, Failure, Kong, Method, Wire, parse, wiped_json};
use super::{another_body, percent_encoded};
use crate::bundle::{Facts, Pair, Pairs, Reason};
use crate::desired::{Alt, CertificateFields, DesiredCertificate, Footing};
use crate::held::{Held, HeldCertificate, RawCertificate, Snapshot, is_reference, parsed_facts};
use crate::names::Sni;

const LIST: &str = "/certificates";

impl<W: Wire> Kong<W> {
    pub(super) async fn look_at_certificate(
        &self,
        id: Uuid,
        names: &[Sni],
        snapshot: &mut Snapshot,
    ) -> Result<(), Failure> {
        if let Some(held) = self.certificate(id).await? {
            snapshot.insert(held);
        }
        let unowned = names.iter().filter(|sni| snapshot.owner(sni.as_ref()).is_none());
        let owners = try_join_all(unowned.map(|sni| self.sni_owner(sni))).await?;
        let owners: BTreeSet<Uuid> = owners.into_iter().flatten().collect();
        let others = owners.into_iter().filter(|other| *other != id);
        let others = try_join_all(others.map(|other| self.certificate(other))).await?;
        others.into_iter().flatten().for_each(|held| snapshot.insert(held));
        Ok(())
    }

    /// Of all, which may be many, those are kept that are of interest.
    pub(super) async fn look_at_certificates(
        &self,
        ids: &BTreeSet<Uuid>,
        names: &BTreeSet<Sni>,
        snapshot: &mut Snapshot,
    ) -> Result<(), Failure> {
        let names: BTreeSet<&str> = names.iter().map(AsRef::as_ref).collect();
        self.each(LIST, |Listed(held)| {
            if ids.contains(&held.id) || held.snis.iter().any(|sni| names.contains(sni.as_str())) {
                snapshot.insert(held);
            }
        })
        .await
    }

    /// Writes one object, and then moves the names to it that are taken from others.
    pub(super) async fn write_certificate(
        &self,
        desired: &DesiredCertificate,
        pairs: &Pairs,
    ) -> Result<Held, Failure> {
        let (method, body) = match &desired.footing {
            Footing::Ours { fields, .. } => (Method::Put, whole(None, pairs, fields)),
            Footing::Adopted { alt, swap } => (Method::Patch, pairs_alone(pairs, *alt, *swap)),
        };
        let answer = self.send(method, &path(desired.id), body).await?;
        self.written(desired, pairs, &answer).await
    }

    /// Creates one object, unless there is one with its id, or with one of its names: a `POST` with
    /// an id inserts, and never replaces. (Not recorded: `insert` in `kong/db/dao/init.lua` and
    /// `kong/db/strategies/postgres/init.lua` of Kong 3.9.3.) Sent twice, it creates one all the same.
    /// `None` if no `POST` is let through.
    pub(super) async fn create_certificate(
        &self,
        desired: &DesiredCertificate,
        fields: &CertificateFields,
        pairs: &Pairs,
    ) -> Result<Option<Held>, Failure> {
        let body = whole(Some(desired.id), pairs, fields);
        let answer = match self.send(Method::Post, LIST, body).await {
            // RBAC has a right of its own for it, and a proxy a page of its own.
            Err(
                Failure::Unauthorized { status: 403 }
                | Failure::NoSuchPath { .. }
                | Failure::NotKong { .. },
            ) => return Ok(None),
            answer => answer?,
        };
        self.written(desired, pairs, &answer).await.map(Some)
    }

    /// The object as it is after a write, if the `answer` shows what was sent, and with the names that
    /// are moved to it from others.
    async fn written(
        &self,
        desired: &DesiredCertificate,
        pairs: &Pairs,
        answer: &Answer,
    ) -> Result<Held, Failure> {
        let mut written = self.object(answer)?;
        let is_shown = desired
            .held_facts(&written)
            .as_ref()
            .is_ok_and(|facts| facts.fingerprint == pairs.facts().fingerprint);
        if written.id != desired.id || !is_shown {
            return Err(another_body(answer));
        }
        for sni in &desired.take {
            self.move_sni(sni, desired.id).await?;
        }
        let taken = desired.take.iter().map(ToString::to_string);
        written.snis = written.snis.into_iter().chain(taken).collect();
        Ok(desired.held(written))
    }

    /// Writes an object and some of its names again as they are, so that nodes hear of them that
    /// missed it: an empty PATCH heals a stale certificate, one with its own certificate a stale
    /// name (measured).
    ///
    /// # Errors
    ///
    /// If Kong does not take it, or a name has moved elsewhere meanwhile.
    pub async fn announce(&self, id: Uuid, names: &BTreeSet<Sni>) -> Result<(), Failure> {
        let answer = self.send(Method::Patch, &path(id), Bytes::from_static(b"{}")).await?;
        let held = self.object(&answer)?;
        for sni in names.iter().filter(|sni| held.snis.contains(sni.as_ref())) {
            self.move_sni(sni, id).await?;
        }
        Ok(())
    }

    async fn certificate(&self, id: Uuid) -> Result<Option<HeldCertificate>, Failure> {
        match self.get(&path(id)).await? {
            Some(answer) => self.object(&answer).map(Some),
            None => Ok(None),
        }
    }

    fn object(&self, answer: &Answer) -> Result<HeldCertificate, Failure> {
        let object = parse::<Object>(answer)?;
        Ok(object.held(|cert, cert_alt| self.known.facts(cert, cert_alt)))
    }

    async fn sni_owner(&self, sni: &Sni) -> Result<Option<Uuid>, Failure> {
        match self.get(&sni_path(sni)).await? {
            Some(answer) => Ok(Some(parse::<SniObject>(&answer)?.certificate.id)),
            None => Ok(None),
        }
    }

    /// No handshake is lost (measured); dropping the name and adding it elsewhere leaves a gap.
    async fn move_sni(&self, sni: &Sni, id: Uuid) -> Result<(), Failure> {
        let body = Bytes::from(format!(r#"{{"certificate":{{"id":"{id}"}}}}"#));
        let answer = self.send(Method::Patch, &sni_path(sni), body).await?;
        if parse::<SniObject>(&answer)?.certificate.id == id {
            Ok(())
        } else {
            Err(another_body(&answer))
        }
    }
}

/// A `PUT` replaces: what is left out is gone (SNIs, tags, second pair) or reset (`created_at`). It has
/// the `id` in its path, a `POST` in its body.
fn whole(id: Option<Uuid>, bundle: &Pairs, fields: &CertificateFields) -> Bytes {
    #[derive(Serialize)]
    struct Whole<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Uuid>,
        cert: String,
        key: &'a str,
        cert_alt: Option<String>,
        key_alt: Option<&'a str>,
        snis: &'a [String],
        tags: &'a [String],
        #[serde(skip_serializing_if = "Option::is_none")]
        created_at: Option<i64>,
    }
    wiped_json(&Whole {
        id,
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
fn pairs_alone(bundle: &Pairs, alt: Alt, swap: bool) -> Bytes {
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
    wiped_json(&Pairs { cert: main.cert_pem(), key: main.key_pem(), cert_alt, key_alt })
}

pub(super) fn path(id: Uuid) -> String {
    format!("{LIST}/{id}")
}

fn sni_path(sni: &Sni) -> String {
    format!("/snis/{}", percent_encoded(sni.as_ref()))
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

/// One of a page, of which only what is kept takes memory while the page is read.
#[derive(Deserialize)]
#[serde(from = "Object")]
struct Listed(HeldCertificate);

impl From<Object> for Listed {
    fn from(object: Object) -> Self {
        Self(object.held(parsed_facts))
    }
}

/// Whether a key is a `{vault://…}` reference: all that is ever looked at.
struct IsReference(bool);

impl<'de> Deserialize<'de> for IsReference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = Zeroizing::new(String::deserialize(deserializer)?);
        Ok(Self(is_reference(&key)))
    }
}

impl Object {
    fn held(self, facts: impl Fn(&str, Option<&str>) -> Result<Facts, Reason>) -> HeldCertificate {
        let alt_is_reference = self.key_alt.is_some_and(|key| key.0);
        let raw = RawCertificate {
            id: self.id,
            cert: &self.cert,
            cert_alt: self.cert_alt.as_deref(),
            has_key_reference: self.key.0 || alt_is_reference,
            snis: self.snis.into_iter().flatten().collect(),
            tags: self.tags.into_iter().flatten().collect(),
            created_at: self.created_at,
        };
        raw.judged(facts)
    }
}
