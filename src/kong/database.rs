//! A Kong on a database: each object has a path of its own.

mod certificates;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Answer, Call, Failure, Kong, LIST_LIMIT, Method, OBJECT_LIMIT, Wire, parse};
use crate::desired::Desired;
use crate::held::{Held, Snapshot};
use crate::names::Sni;
use crate::quote::Quoted;

/// Whether Kong looks it up in a vault.
pub(super) fn is_reference(text: &str) -> bool {
    text.starts_with("{vault://")
}

/// Kong's largest page.
const PAGE: usize = 1000;

/// What a binding has to know of Kong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// A certificate.
    Certificate {
        /// The object that it would feed.
        id: Uuid,
        /// The names that it would have.
        names: BTreeSet<Sni>,
    },
}

impl<W: Wire> Kong<W> {
    /// Reads the object of one query, and those that could stand in its way.
    ///
    /// # Errors
    ///
    /// If any of it cannot be read.
    pub async fn look(&self, query: &Query) -> Result<Snapshot, Failure> {
        match query {
            Query::Certificate { id, names } => self.look_at_certificate(*id, names).await,
        }
    }

    /// Reads all that these queries ask for, page by page: cheaper than [`Self::look`] for many.
    ///
    /// # Errors
    ///
    /// If any page cannot be read.
    pub async fn look_at_all(&self) -> Result<Arc<Snapshot>, Failure> {
        let mut snapshot = Snapshot::default();
        self.look_at_certificates(&mut snapshot).await?;
        Ok(Arc::new(snapshot))
    }

    /// Whether there is still no object where `desired` would be created.
    ///
    /// # Errors
    ///
    /// If that cannot be told.
    pub async fn is_absent(&self, desired: &Desired) -> Result<bool, Failure> {
        match desired {
            Desired::Certificate(desired, _) => {
                Ok(self.get(&certificates::path(desired.id)).await?.is_none())
            }
        }
    }

    /// Writes what is desired; returns what Kong holds then.
    ///
    /// # Errors
    ///
    /// If Kong does not show afterwards what was sent.
    pub async fn write(&self, desired: &Desired) -> Result<Held, Failure> {
        match desired {
            Desired::Certificate(desired, pairs) => self.write_certificate(desired, pairs).await,
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

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, Failure> {
        let path = self.path(path);
        let call = Call { method, path, body: Some(body), limit: OBJECT_LIMIT };
        self.ask(call).await.map_err(|failure| gone_meanwhile(failure, method))
    }

    /// Hands over each object of a list.
    async fn each<T: DeserializeOwned>(
        &self,
        list: &str,
        mut take: impl FnMut(T),
    ) -> Result<(), Failure> {
        let mut offset = None::<String>;
        let mut seen = BTreeSet::new();
        loop {
            let page = offset
                .as_deref()
                .map_or_else(String::new, |offset| format!("&offset={}", percent_encoded(offset)));
            let path = self.path(&format!("{list}?size={PAGE}{page}"));
            let call = Call { method: Method::Get, path, body: None, limit: LIST_LIMIT };
            let answer = self.ask(call).await?;
            let page: Page<T> = parse(&answer)?;
            page.data.into_iter().for_each(&mut take);
            match page.offset {
                Some(next) if seen.insert(next.clone()) => offset = Some(next),
                Some(_) => {
                    return Err(Failure::not_kong(format!("its list {list} leads in a circle")));
                }
                None => return Ok(()),
            }
        }
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
