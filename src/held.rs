//! What Kong holds, as far as a decision needs it: no key is kept.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::bundle::{Authority, Facts, Fingerprint, LeafDigest, Reason, held_facts};
use crate::few::Few;

/// The tag of Kong's own ingress controller, which would undo what we write.
pub(crate) const INGRESS_CONTROLLER: &str = "managed-by-ingress-controller";

/// Whether Kong looks a certificate or key up in a vault.
pub(crate) fn is_reference(text: &str) -> bool {
    text.starts_with("{vault://")
}

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
    pub snis: Few<String>,
    /// Its tags.
    pub tags: Few<String>,
    /// Sent back with a PUT, which resets it otherwise. Seconds since the Unix epoch.
    pub created_at: Option<i64>,
    /// Certificate or key is a `{vault://…}` reference.
    pub is_reference: bool,
}

/// A certificate object as it was read, not judged yet.
pub(crate) struct RawCertificate<'a> {
    pub(crate) id: Uuid,
    pub(crate) cert: &'a str,
    pub(crate) cert_alt: Option<&'a str>,
    /// One of its keys is a `{vault://…}` reference.
    pub(crate) has_key_reference: bool,
    pub(crate) snis: Few<String>,
    pub(crate) tags: Few<String>,
    pub(crate) created_at: Option<i64>,
}

impl RawCertificate<'_> {
    /// With what `facts` says of its two texts.
    pub(crate) fn judged(
        self,
        facts: impl Fn(&str, Option<&str>) -> Result<Facts, Reason>,
    ) -> HeldCertificate {
        let has_reference = is_reference(self.cert) || self.cert_alt.is_some_and(is_reference);
        HeldCertificate {
            id: self.id,
            facts: facts(self.cert, self.cert_alt),
            main_facts: self.cert_alt.is_some().then(|| facts(self.cert, None)),
            snis: self.snis,
            tags: self.tags,
            created_at: self.created_at,
            is_reference: has_reference || self.has_key_reference,
        }
    }
}

/// What the two texts of a certificate object amount to.
pub(crate) fn parsed_facts(cert: &str, cert_alt: Option<&str>) -> Result<Facts, Reason> {
    held_facts(cert, cert_alt).map_err(|invalid| invalid.reason())
}

impl HeldCertificate {
    /// Whether it has a second pair.
    #[must_use]
    pub const fn has_alt(&self) -> bool {
        self.main_facts.is_some()
    }
}

/// An object of Kong with a CA certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldAuthority {
    /// Its id.
    pub id: Uuid,
    /// The certificate; `Err` if it is none that can be read.
    pub authority: Result<Authority, Reason>,
    /// Its SHA-256, as Kong has it (`cert_digest`): no two objects have the same.
    pub digest: Option<LeafDigest>,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// Sent back with a PUT, which resets it otherwise. Seconds since the Unix epoch.
    pub created_at: Option<i64>,
}

impl HeldAuthority {
    /// Whether it holds this certificate.
    #[must_use]
    pub fn is(&self, authority: &Authority) -> bool {
        self.digest() == Some(authority.digest())
    }

    /// Kong's OpenSSL reads more kinds of PEM: what cannot be read here is what Kong says.
    fn digest(&self) -> Option<LeafDigest> {
        self.authority.as_ref().map_or(self.digest, |authority| Some(authority.digest()))
    }

    /// As it is, with what it holds put in words of ours, if that is `authority`.
    #[must_use]
    pub fn read_as(&self, authority: &Authority) -> Self {
        let read = if self.is(authority) { Ok(authority.clone()) } else { self.authority.clone() };
        Self { authority: read, ..self.clone() }
    }
}

/// An object of Kong with a licence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLicense {
    /// Its id.
    pub id: Uuid,
    /// What it is; `Err` if it is none that can be read.
    pub facts: Result<Facts, Reason>,
    /// When it was written, where Kong tells: a configuration as a whole does not, as Kong makes the
    /// time of its load of it. Seconds since the Unix epoch.
    pub updated_at: Option<i64>,
}

impl HeldLicense {
    /// Whether it holds this licence.
    #[must_use]
    pub fn is(&self, license: Fingerprint) -> bool {
        is(&self.facts, license)
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
#[expect(clippy::large_enum_variant, reason = "nearly all are the largest")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldObject {
    /// A certificate object.
    Certificate(HeldCertificate),
    /// CA certificates, an object each.
    Authorities(Vec<HeldAuthority>),
    /// A licence.
    License(HeldLicense),
}

impl Held {
    /// Their ids.
    #[must_use]
    pub fn ids(&self) -> Vec<Uuid> {
        match &self.object {
            HeldObject::Certificate(held) => vec![held.id],
            HeldObject::Authorities(held) => held.iter().map(|held| held.id).collect(),
            HeldObject::License(held) => vec![held.id],
        }
    }

    /// The certificate object, if it is one.
    #[must_use]
    pub const fn certificate(&self) -> Option<&HeldCertificate> {
        match &self.object {
            HeldObject::Certificate(held) => Some(held),
            HeldObject::Authorities(_) | HeldObject::License(_) => None,
        }
    }
}

/// What was read from Kong in one look.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    certificates: BTreeMap<Uuid, HeldCertificate>,
    owners: BTreeMap<String, Uuid>,
    authorities: BTreeMap<Uuid, HeldAuthority>,
    digests: BTreeMap<LeafDigest, Uuid>,
    licenses: BTreeMap<Uuid, HeldLicense>,
    /// CA certificates that need not be doubted any more.
    cleared: BTreeSet<Uuid>,
}

impl Snapshot {
    /// Adds an object and the ownership of its SNIs.
    pub fn insert(&mut self, certificate: HeldCertificate) {
        for sni in &certificate.snis {
            self.owners.insert(sni.clone(), certificate.id);
        }
        self.certificates.insert(certificate.id, certificate);
    }

    /// Adds a CA certificate.
    pub fn insert_authority(&mut self, held: HeldAuthority) {
        self.digests.extend(held.digest().map(|digest| (digest, held.id)));
        self.authorities.insert(held.id, held);
    }

    /// Adds a licence.
    pub fn insert_license(&mut self, held: HeldLicense) {
        self.licenses.insert(held.id, held);
    }

    /// Notes that something in Kong refers to these CA certificates, or that nobody can tell.
    pub fn note_cleared(&mut self, ids: BTreeSet<Uuid>) {
        self.cleared = ids;
    }

    /// CA certificates to which something refers, or nobody can tell, of those that were asked for.
    #[must_use]
    pub const fn cleared(&self) -> &BTreeSet<Uuid> {
        &self.cleared
    }

    /// The CA certificate with this id, if Kong holds one.
    #[must_use]
    pub fn authority(&self, id: Uuid) -> Option<&HeldAuthority> {
        self.authorities.get(&id)
    }

    /// The object that holds this very CA certificate, if any does: Kong has each once only.
    #[must_use]
    pub fn authority_like(&self, authority: &Authority) -> Option<&HeldAuthority> {
        self.authority(*self.digests.get(&authority.digest())?)
    }

    /// The licence with this id, if Kong holds one.
    #[must_use]
    pub fn license(&self, id: Uuid) -> Option<&HeldLicense> {
        self.licenses.get(&id)
    }

    /// All licences.
    pub fn licenses(&self) -> impl Iterator<Item = &HeldLicense> {
        self.licenses.values()
    }

    /// The object with this id, if Kong holds one.
    #[must_use]
    pub fn certificate(&self, id: Uuid) -> Option<&HeldCertificate> {
        self.certificates.get(&id)
    }

    /// Whether the object with this id holds this bundle.
    #[must_use]
    pub fn holds(&self, id: Uuid, bundle: Fingerprint) -> bool {
        let certificate = self.certificate(id).is_some_and(|held| {
            is(&held.facts, bundle) || held.main_facts.as_ref().is_some_and(|main| is(main, bundle))
        });
        let authority = self.authority(id).and_then(|held| held.authority.as_ref().ok());
        let authority = authority.and_then(|authority| Facts::of_authorities([authority]));
        certificate
            || authority.is_some_and(|facts| facts.fingerprint == bundle)
            || self.license(id).is_some_and(|held| held.is(bundle))
    }

    /// The object that has this SNI, if any has.
    #[must_use]
    pub fn owner(&self, sni: &str) -> Option<&HeldCertificate> {
        self.certificate(*self.owners.get(sni)?)
    }
}

fn is(facts: &Result<Facts, Reason>, bundle: Fingerprint) -> bool {
    facts.as_ref().is_ok_and(|facts| facts.fingerprint == bundle)
}
