//! What may be set for one CA certificate.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::str::FromStr;

use uuid::Uuid;

use super::binding::{self, path_to, reject_shared_ids};
use super::reader::Reader;
use crate::names::{FoldedName, Tag};

/// Beneath it each CA certificate has its name.
pub(super) const GROUP: &str = "ca_certificates";

/// Settings of one CA certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthoritySettings {
    /// The file that holds it, absolute, without `..`.
    pub file: PathBuf,
    /// Its id in Kong, no other CA certificate's.
    pub id: Option<Uuid>,
    /// More tags in Kong.
    pub tags: BTreeSet<Tag>,
}

impl AuthoritySettings {
    /// All of them by name; no two share an id.
    pub(super) fn read_all(reader: &mut Reader) -> BTreeMap<FoldedName, Self> {
        let all = binding::read_all(reader, GROUP, Self::read);
        reject_shared_ids(reader, GROUP, all.iter().map(|(name, one)| (name, one.id)));
        all
    }

    fn read(reader: &mut Reader, name: &FoldedName) -> Self {
        let at = |field| path_to(GROUP, name, field);
        Self {
            file: binding::file(reader, &at("file")),
            id: reader.text(&at("id"), binding::id),
            tags: reader.list(&at("tags"), Tag::from_str).unwrap_or_default(),
        }
    }
}
