//! What Kong holds, as far as a decision needs it: no key is kept.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::bundle::{Facts, Fingerprint, Reason};

/// A certificate object of Kong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldCertificate {
    /// Its id.
    pub id: Uuid,
    /// What it serves, both pairs taken together; `Err` if Kong cannot serve it.
    pub facts: Result<Facts, Reason>,
    /// What its main pair alone serves, where there is a second one.
    pub main_facts: Option<Result<Facts, Reason>>,
    /// The names of its SNIs, as Kong stores them.
    pub snis: BTreeSet<String>,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// Sent back with a PUT, which resets it otherwise. Seconds since the Unix epoch.
    pub created_at: Option<i64>,
    /// Certificate or key is a `{vault://…}` reference.
    pub is_reference: bool,
}

impl HeldCertificate {
    /// Whether it has a second pair.
    #[must_use]
    pub const fn has_alt(&self) -> bool {
        self.main_facts.is_some()
    }
}

/// What Kong holds for a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What it serves, as far as it is this binding's; `Err` if Kong cannot serve it.
    pub facts: Result<Facts, Reason>,
    /// Kong's object.
    pub object: HeldObject,
}

/// An object of Kong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldObject {
    /// A certificate object.
    Certificate(HeldCertificate),
}

impl Held {
    /// Their ids.
    #[must_use]
    pub fn ids(&self) -> Vec<Uuid> {
        match &self.object {
            HeldObject::Certificate(held) => vec![held.id],
        }
    }

    /// The certificate object, if it is one.
    #[must_use]
    pub const fn certificate(&self) -> Option<&HeldCertificate> {
        match &self.object {
            HeldObject::Certificate(held) => Some(held),
        }
    }
}

/// What was read from Kong in one look.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    certificates: BTreeMap<Uuid, HeldCertificate>,
    owners: BTreeMap<String, Uuid>,
}

impl Snapshot {
    /// Adds an object and the ownership of its SNIs.
    pub fn insert(&mut self, certificate: HeldCertificate) {
        for sni in &certificate.snis {
            self.owners.insert(sni.clone(), certificate.id);
        }
        self.certificates.insert(certificate.id, certificate);
    }

    /// The object with this id, if Kong holds one.
    #[must_use]
    pub fn certificate(&self, id: Uuid) -> Option<&HeldCertificate> {
        self.certificates.get(&id)
    }

    /// Whether the object with this id holds this bundle.
    #[must_use]
    pub fn holds(&self, id: Uuid, bundle: Fingerprint) -> bool {
        let is_it = |facts: &Result<Facts, Reason>| {
            facts.as_ref().is_ok_and(|facts| facts.fingerprint == bundle)
        };
        self.certificate(id)
            .is_some_and(|held| is_it(&held.facts) || held.main_facts.as_ref().is_some_and(is_it))
    }

    /// The object that has this SNI, if any has.
    #[must_use]
    pub fn owner(&self, sni: &str) -> Option<&HeldCertificate> {
        self.certificate(*self.owners.get(sni)?)
    }
}
