//! A Kong on a database: each object has a path of its own.

mod authorities;
mod certificates;
mod known;
mod licenses;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

pub use self::authorities::Refused;
pub(super) use self::known::Known;
use super::{Answer, Call, Failure, Kong, Method, Wire, parse};
use crate::desired::{Desired, Footing};
use crate::few::Few;
use crate::held::{Held, Snapshot};
use crate::names::Sni;
use crate::quote::Quoted;

/// Objects of a page: as many as Kong gives, and fewer where these are too large.
const PAGES: [usize; 3] = [1000, 100, 10];
/// A page is no larger, in bytes: with what is read from it, it has to fit into little memory.
const PAGE_LIMIT: usize = 8 * 1024 * 1024;
/// A list has no more objects: one that does not end would be read for ever.
const MOST_OBJECTS: usize = 100_000;

/// What a binding has to know of Kong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// A certificate.
    Certificate {
        /// The object that it would feed.
        id: Uuid,
        /// The names that it would have.
        names: Few<Sni>,
    },
    /// CA certificates.
    Authorities {
        /// Those of which it is asked whether anything refers to them.
        doubted: BTreeSet<Uuid>,
    },
    /// Licences.
    Licenses,
}

/// What Kong holds after a write, and why it would not have the rest.
pub type Written = (Held, Option<Failure>);

/// What is read once for several queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shared {
    /// Certificates with one of these ids, and those that have one of these names, out of all.
    Certificates {
        /// Ids.
        ids: BTreeSet<Uuid>,
        /// Names.
        names: BTreeSet<Sni>,
    },
    /// CA certificates; of those that are `doubted` it is asked whether anything refers to them.
    Authorities {
        /// Those.
        doubted: BTreeSet<Uuid>,
    },
    /// Licences.
    Licenses,
}

impl Shared {
    /// What is read once for several of `queries`: the list of certificates for `many` of them, and
    /// whatever is a list in any case.
    pub fn of<'a>(queries: impl Iterator<Item = &'a Query>, many: usize) -> Vec<Self> {
        let (mut certificates, mut licenses) = (0, false);
        let (mut wanted, mut wanted_names) = (BTreeSet::new(), BTreeSet::new());
        let mut authorities = None::<BTreeSet<Uuid>>;
        for query in queries {
            match query {
                Query::Certificate { id, names } => {
                    certificates += 1;
                    wanted.insert(*id);
                    wanted_names.extend(names.iter().cloned());
                }
                Query::Authorities { doubted } => {
                    authorities.get_or_insert_default().extend(doubted);
                }
                Query::Licenses => licenses = true,
            }
        }
        let certificates = (certificates >= many)
            .then_some(Self::Certificates { ids: wanted, names: wanted_names });
        let authorities = authorities.map(|doubted| Self::Authorities { doubted });
        let licenses = licenses.then_some(Self::Licenses);
        [certificates, authorities, licenses].into_iter().flatten().collect()
    }

    /// Whether its answer is one to `query`, too.
    #[must_use]
    pub fn covers(&self, query: &Query) -> bool {
        match (self, query) {
            (Self::Certificates { ids, names }, Query::Certificate { id, names: asked }) => {
                ids.contains(id) && asked.iter().all(|name| names.contains(name))
            }
            (Self::Authorities { doubted }, Query::Authorities { doubted: asked }) => {
                doubted.is_superset(asked)
            }
            (Self::Licenses, Query::Licenses) => true,
            _ => false,
        }
    }
}

impl<W: Wire> Kong<W> {
    /// Reads the object of one query, and those that could stand in its way.
    ///
    /// # Errors
    ///
    /// If any of it cannot be read.
    pub async fn look(&self, query: &Query) -> Result<Snapshot, Failure> {
        let mut snapshot = Snapshot::default();
        match query {
            Query::Certificate { id, names } => {
                self.look_at_certificate(*id, names, &mut snapshot).await?;
            }
            Query::Authorities { doubted } => {
                self.look_at_authorities(doubted, &mut snapshot).await?;
            }
            Query::Licenses => self.look_at_licenses(&mut snapshot).await?,
        }
        Ok(snapshot)
    }

    /// Reads what several queries ask for.
    ///
    /// # Errors
    ///
    /// As [`Self::look`].
    pub async fn look_once(&self, shared: &Shared) -> Result<Snapshot, Failure> {
        let mut snapshot = Snapshot::default();
        match shared {
            Shared::Certificates { ids, names } => {
                self.look_at_certificates(ids, names, &mut snapshot).await?;
            }
            Shared::Authorities { doubted } => {
                self.look_at_authorities(doubted, &mut snapshot).await?;
            }
            Shared::Licenses => self.look_at_licenses(&mut snapshot).await?,
        }
        Ok(snapshot)
    }

    /// Writes what is desired, but for what Kong has `refused` of it before; returns what Kong holds
    /// then, and why it would not have the rest.
    ///
    /// # Errors
    ///
    /// If Kong does not show afterwards what was sent.
    pub async fn write(
        &self,
        desired: &Desired,
        refused: &mut Refused,
    ) -> Result<Written, Failure> {
        match desired {
            Desired::Certificate(desired, bundle) => {
                let pairs = bundle.pairs().ok_or(Failure::NotSent)?;
                Ok((self.write_certificate(desired, pairs).await?, None))
            }
            Desired::Authorities(desired) => self.write_authorities(desired, refused).await,
            Desired::License(desired, license) => {
                Ok((self.write_license(desired, license).await?, None))
            }
        }
    }

    /// Writes what is desired as [`Self::write`] does, where nothing was when Kong was looked at, and
    /// only if nothing is there still. `None` if something is, or if that cannot be told: look again.
    ///
    /// A certificate is one request, and Kong itself sees to it that nothing is replaced; where that
    /// is not let through, it is asked first what is there.
    ///
    /// # Errors
    ///
    /// As [`Self::write`]; [`Failure::Conflict`] also if a certificate is there by now.
    pub async fn create(
        &self,
        desired: &Desired,
        refused: &mut Refused,
    ) -> Result<Option<Written>, Failure> {
        if let Desired::Certificate(certificate, bundle) = desired
            && let Footing::Ours { fields, .. } = &certificate.footing
            && !self.is_post_barred.load(Ordering::Relaxed)
        {
            let pairs = bundle.pairs().ok_or(Failure::NotSent)?;
            if let Some(held) = self.create_certificate(certificate, fields, pairs).await? {
                return Ok(Some((held, None)));
            }
            self.is_post_barred.store(true, Ordering::Relaxed);
        }
        match self.is_absent(desired).await {
            Ok(true) => self.write(desired, refused).await.map(Some),
            Ok(false) | Err(_) => Ok(None),
        }
    }

    /// Whether there is still no object where `desired` would be created.
    async fn is_absent(&self, desired: &Desired) -> Result<bool, Failure> {
        let path = match desired {
            Desired::Certificate(desired, _) => certificates::path(desired.id),
            Desired::Authorities(desired) => match &desired.objects[..] {
                [object] if desired.is_in_place => authorities::path(object.id),
                // Whoever creates one under an id that is made of its digest creates the same.
                _ => return Ok(true),
            },
            Desired::License(desired, _) => licenses::path(desired.id),
        };
        Ok(self.get(&path).await?.is_none())
    }

    /// `None` if there is no such object.
    async fn get(&self, path: &str) -> Result<Option<Answer>, Failure> {
        let path = self.placed(path);
        let call = Call::new(Method::Get, path, None);
        match self.ask(call).await {
            Ok(answer) => Ok(Some(answer)),
            Err(Failure::NoSuchPath { status: 404, .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, Failure> {
        let path = self.placed(path);
        let call = Call::new(method, path, Some(body));
        self.ask(call).await.map_err(|failure| gone_meanwhile(failure, method))
    }

    /// Hands over each object of a list.
    async fn each<T: DeserializeOwned>(
        &self,
        list: &str,
        mut take: impl FnMut(T),
    ) -> Result<(), Failure> {
        self.each_page(list, |objects: Vec<T>, _| objects.into_iter().for_each(&mut take)).await
    }

    /// Hands over each page of a list: its objects, and the text that they were in.
    async fn each_page<T: DeserializeOwned>(
        &self,
        list: &str,
        mut take: impl FnMut(Vec<T>, &[u8]),
    ) -> Result<(), Failure> {
        let mut offset = None::<String>;
        let mut seen = BTreeSet::new();
        // A page that was too large once is not asked for again at each look.
        let mut sizes = &PAGES[self.page.load(Ordering::Relaxed)..];
        let mut read = 0;
        while read < MOST_OBJECTS {
            let place = offset
                .as_deref()
                .map_or_else(String::new, |offset| format!("&offset={}", percent_encoded(offset)));
            let path = self.placed(&format!("{list}?size={}{place}", sizes[0]));
            let call = Call { limit: PAGE_LIMIT, ..Call::new(Method::Get, path, None) };
            let answer = match self.ask(call).await {
                Err(Failure::TooLarge { .. }) if sizes.len() > 1 => {
                    sizes = &sizes[1..];
                    self.page.store(PAGES.len() - sizes.len(), Ordering::Relaxed);
                    continue;
                }
                Err(Failure::TooLarge { .. }) => {
                    let few = sizes[0];
                    return Err(Failure::not_kong(format!(
                        "{few} objects of its list {list} are too large to be read"
                    )));
                }
                answer => answer?,
            };
            let page: Page<T> = parse(&answer)?;
            take(page.data, &answer.body);
            // A page with nothing on it counts, too.
            read += sizes[0];
            match page.offset {
                Some(next) if seen.insert(next.clone()) => offset = Some(next),
                Some(_) => {
                    return Err(Failure::not_kong(format!("its list {list} leads in a circle")));
                }
                None => return Ok(()),
            }
        }
        let detail = format!(
            "its list {list} has more than {MOST_OBJECTS} objects, and is not read to its end; delete those that nobody needs"
        );
        Err(Failure::TooLarge { detail })
    }
}

#[derive(Deserialize)]
struct Page<T> {
    data: Vec<T>,
    offset: Option<String>,
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

/// An answer that is no object of ours.
fn another_body(answer: &Answer) -> Failure {
    Failure::not_kong(format!("status {} with another body", answer.status))
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
