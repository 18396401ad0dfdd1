//! What may be set for one certificate, and what two of them may not share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::str::FromStr;

use uuid::Uuid;

use super::binding::{self, Shared, path_to, reject_shared_ids, shared};
use super::mistake::Fault;
use super::path::{absolute, inside};
use super::reader::Reader;
use crate::names::{FoldedName, Sni, Tag};
use crate::quote::Quoted;

/// Beneath it each certificate has its name.
pub(super) const GROUP: &str = "certificates";

/// Settings of one certificate. They add it, or override one that was found under this name.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateSettings {
    /// Its directory, absolute, without `..`.
    pub dir: Option<PathBuf>,
    /// Its chain: relative to its directory or absolute, without `..`. So are the next three.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// The chain of the other key type; there is a `key_alt` if and only if there is this.
    pub cert_alt: Option<PathBuf>,
    /// The key of the other key type.
    pub key_alt: Option<PathBuf>,
    /// Its id in Kong, no other certificate's.
    pub id: Option<Uuid>,
    /// Exactly these server names, at least one, none of them another certificate's.
    pub snis: Option<BTreeSet<Sni>>,
    /// More tags in Kong.
    pub tags: BTreeSet<Tag>,
    /// Take server names that another certificate in Kong has.
    pub take_snis: bool,
    /// Go on with the certificate that has these server names in Kong.
    pub adopt: bool,
    /// When a renewal is overdue.
    pub renew_by: RenewBy,
}

impl Default for CertificateSettings {
    fn default() -> Self {
        Self {
            dir: None,
            cert: None,
            key: None,
            cert_alt: None,
            key_alt: None,
            id: None,
            snis: None,
            tags: BTreeSet::new(),
            take_snis: false,
            adopt: true,
            renew_by: RenewBy::default(),
        }
    }
}

impl CertificateSettings {
    /// All of them by name; no two share an id or a server name.
    pub(super) fn read_all(reader: &mut Reader) -> BTreeMap<FoldedName, Self> {
        let all = binding::read_all(reader, GROUP, Self::read);
        reject_shared_snis(reader, &all);
        reject_shared_ids(reader, GROUP, all.iter().map(|(name, one)| (name, one.id)));
        all
    }

    fn read(reader: &mut Reader, name: &FoldedName) -> Self {
        let default = Self::default();
        let at = |field| path_to(GROUP, name, field);
        reader.reject_single(&at("cert_alt"), &at("key_alt"));
        Self {
            dir: reader.text(&at("dir"), absolute),
            cert: reader.text(&at("cert"), inside),
            key: reader.text(&at("key"), inside),
            cert_alt: reader.text(&at("cert_alt"), inside),
            key_alt: reader.text(&at("key_alt"), inside),
            id: reader.text(&at("id"), binding::id),
            snis: snis(reader, &at("snis")),
            tags: reader.list(&at("tags"), Tag::from_str).unwrap_or_default(),
            take_snis: reader.truth(&at("take_snis")).unwrap_or(default.take_snis),
            adopt: reader.truth(&at("adopt")).unwrap_or(default.adopt),
            renew_by: reader.plain(&at("renew_by"), RenewBy::from_str).unwrap_or(default.renew_by),
        }
    }
}

/// The share of a certificate's life after which its renewal is overdue: above 0, at most 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct RenewBy(f64);

impl RenewBy {
    /// The share.
    #[must_use]
    pub const fn share(self) -> f64 {
        self.0
    }
}

impl Default for RenewBy {
    fn default() -> Self {
        Self(0.75)
    }
}

impl FromStr for RenewBy {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        match text.parse() {
            Ok(share) if share > 0.0 && share <= 1.0 => Ok(Self(share)),
            _ => Err(Fault::RenewBy(Quoted::new(text))),
        }
    }
}

fn snis(reader: &mut Reader, path: &str) -> Option<BTreeSet<Sni>> {
    let snis: BTreeSet<Sni> = reader.list(path, Sni::from_str)?;
    if snis.is_empty() {
        reader.reject(path, Fault::NoSnis);
    }
    Some(snis)
}

fn reject_shared_snis(reader: &mut Reader, all: &BTreeMap<FoldedName, CertificateSettings>) {
    let claims = all.iter().flat_map(|(name, settings)| {
        let snis = settings.snis.iter().flatten();
        snis.map(|sni| (sni.clone(), path_to(GROUP, name, "snis")))
    });
    for Shared { claim: sni, path, first } in shared(claims) {
        let other = reader.written(&first);
        reader.reject(&path, Fault::SniTwice { sni, other });
    }
}
