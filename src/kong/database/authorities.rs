//! CA certificates of a Kong on a database: `/ca_certificates`, and what refers to them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::{Answer, Failure, Kong, Method, Wire, parse, wiped_json};
use super::another_body;
use crate::bundle::{Authority, LeafDigest, held_authority};
use crate::desired::{AuthorityFooting, DesiredAuthorities, DesiredAuthority, held_together};
use crate::held::{Held, HeldAuthority, Snapshot};
use crate::quote::Quoted;

const LIST: &str = "/ca_certificates";
/// What may refer to CA certificates by their ids: services, and plugins such as `mtls-auth`.
const REFERRERS: [&str; 2] = ["/services", "/plugins"];
/// With its hyphens.
const ID_LENGTH: usize = 36;

impl<W: Wire> Kong<W> {
    /// Kong finds a CA certificate by its id alone, and holds each once: all of them are read.
    pub(super) async fn look_at_authorities(
        &self,
        doubted: &BTreeSet<Uuid>,
        snapshot: &mut Snapshot,
    ) -> Result<(), Failure> {
        self.each(LIST, |object: Object| snapshot.insert_authority(object.into())).await?;
        let is_there = |id: &Uuid| snapshot.authority(*id).is_some();
        let held: BTreeSet<Uuid> = doubted.iter().copied().filter(is_there).collect();
        snapshot.note_cleared(&held - &self.unreferenced(held.clone()).await?);
        Ok(())
    }

    /// Those of `ids` that stand in no object which may refer to them. Where those cannot be read,
    /// nobody can tell: none.
    async fn unreferenced(&self, mut ids: BTreeSet<Uuid>) -> Result<BTreeSet<Uuid>, Failure> {
        for list in REFERRERS {
            if ids.is_empty() {
                break;
            }
            let forget = |_: Vec<IgnoredAny>, text: &[u8]| forget_named(&mut ids, text);
            match self.each_page(list, forget).await {
                Ok(()) => {}
                Err(failure @ (Failure::Unavailable { .. } | Failure::NotSent)) => {
                    return Err(failure);
                }
                Err(_) => return Ok(BTreeSet::new()),
            }
        }
        Ok(ids)
    }

    /// Writes what Kong lacks, but for what it has `refused`. One that it refuses does not keep the
    /// others from it: it is told beside what Kong holds then.
    pub(super) async fn write_authorities(
        &self,
        desired: &DesiredAuthorities,
        refused: &mut Refused,
    ) -> Result<(Held, Option<Failure>), Failure> {
        let (mut held, mut conflict) = (Vec::new(), None);
        for object in &desired.objects {
            if let Some(there) = object.at_rest() {
                refused.forget(object);
                held.push(there.clone());
                continue;
            }
            if refused.is_known(object) {
                continue;
            }
            refused.forget(object);
            match self.write_authority(object).await {
                Ok(written) => held.push(written),
                Err(Failure::Refused { status, message }) => refused.add(object, status, &message),
                Err(Failure::Conflict { message }) => conflict = Some(of_one(object, &message)),
                Err(failure) => return Err(failure),
            }
        }
        match (conflict, refused.failure()) {
            (Some(message), _) => Err(Failure::Conflict { message }),
            (None, Some(refused)) if held.is_empty() => Err(refused),
            (None, refused) => Ok((held_together(held), refused)),
        }
    }

    async fn write_authority(&self, desired: &DesiredAuthority) -> Result<HeldAuthority, Failure> {
        let (method, body) = match &desired.footing {
            AuthorityFooting::Ours { tags, created_at, .. } => {
                (Method::Put, whole(&desired.authority, tags, *created_at))
            }
            AuthorityFooting::Adopted => (Method::Patch, certificate_alone(&desired.authority)),
            AuthorityFooting::Shared => {
                let gone = Quoted::new("it was changed meanwhile");
                return Err(Failure::Conflict { message: gone });
            }
            AuthorityFooting::Left(to) => {
                let message = format!("binding {to} has the place for it ({})", desired.id);
                return Err(Failure::Conflict { message: Quoted::new(&message) });
            }
        };
        let answer = self.send(method, &path(desired.id), body).await?;
        let written = object(&answer)?;
        if written.id == desired.id && written.is(&desired.authority) {
            Ok(written)
        } else {
            Err(another_body(&answer))
        }
    }
}

pub(super) fn path(id: Uuid) -> String {
    format!("{LIST}/{id}")
}

/// What Kong would not have of a file: not sent again while its place is as it was.
#[derive(Clone, Debug, Default)]
pub struct Refused(BTreeMap<LeafDigest, Refusal>);

#[derive(Clone, Debug)]
struct Refusal {
    /// What was in its place.
    place: Option<HeldAuthority>,
    status: u16,
    told: Quoted,
}

impl Refused {
    /// Whether Kong would have all of it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Why, of all of them.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        let status = self.0.values().next_back()?.status;
        let told: Vec<String> = self.0.values().map(|refusal| refusal.told.to_string()).collect();
        Some(Failure::Refused { status, message: Quoted::new(&told.join("; ")) })
    }

    fn is_known(&self, object: &DesiredAuthority) -> bool {
        let refusal = self.0.get(&object.authority.digest());
        refusal.is_some_and(|refusal| refusal.place == object.held)
    }

    fn add(&mut self, object: &DesiredAuthority, status: u16, message: &Quoted) {
        let (place, told) = (object.held.clone(), of_one(object, message));
        self.0.insert(object.authority.digest(), Refusal { place, status, told });
    }

    fn forget(&mut self, object: &DesiredAuthority) {
        self.0.remove(&object.authority.digest());
    }
}

fn of_one(object: &DesiredAuthority, message: &Quoted) -> Quoted {
    Quoted::new(&format!("{}: {message}", object.authority.subject()))
}

/// JSON has an id between quotation marks, whatever field it stands in.
fn forget_named(ids: &mut BTreeSet<Uuid>, text: &[u8]) {
    for named in text.split(|&byte| byte == b'"').filter(|named| named.len() == ID_LENGTH) {
        if let Ok(id) = Uuid::try_parse_ascii(named) {
            ids.remove(&id);
        }
    }
}

fn whole(authority: &Authority, tags: &BTreeSet<String>, created_at: Option<i64>) -> Bytes {
    #[derive(Serialize)]
    struct Whole<'a> {
        cert: String,
        tags: &'a BTreeSet<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        created_at: Option<i64>,
    }
    wiped_json(&Whole { cert: authority.pem(), tags, created_at })
}

fn certificate_alone(authority: &Authority) -> Bytes {
    #[derive(Serialize)]
    struct Certificate {
        cert: String,
    }
    wiped_json(&Certificate { cert: authority.pem() })
}

fn object(answer: &Answer) -> Result<HeldAuthority, Failure> {
    parse::<Object>(answer).map(HeldAuthority::from)
}

#[derive(Deserialize)]
struct Object {
    id: Uuid,
    cert: String,
    cert_digest: Option<String>,
    tags: Option<Vec<String>>,
    created_at: Option<i64>,
}

impl From<Object> for HeldAuthority {
    fn from(object: Object) -> Self {
        Self {
            id: object.id,
            authority: held_authority(&object.cert).map_err(|invalid| invalid.reason()),
            digest: object.cert_digest.as_deref().and_then(LeafDigest::from_hex),
            tags: object.tags.into_iter().flatten().collect(),
            created_at: object.created_at,
        }
    }
}
