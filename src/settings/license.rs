//! What may be set for one licence of Kong Enterprise.

use std::collections::BTreeMap;
use std::path::PathBuf;

use uuid::Uuid;

use super::binding::{self, path_to, reject_shared_ids};
use super::reader::Reader;
use crate::names::FoldedName;

/// Beneath it each licence has its name.
pub(super) const GROUP: &str = "licenses";

/// Settings of one licence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LicenseSettings {
    /// The file that holds it, absolute, without `..`.
    pub file: PathBuf,
    /// Its id in Kong, no other licence's.
    pub id: Option<Uuid>,
}

impl LicenseSettings {
    /// All of them by name; no two share an id.
    pub(super) fn read_all(reader: &mut Reader) -> BTreeMap<FoldedName, Self> {
        let all = binding::read_all(reader, GROUP, Self::read);
        reject_shared_ids(reader, GROUP, all.iter().map(|(name, one)| (name, one.id)));
        all
    }

    fn read(reader: &mut Reader, name: &FoldedName) -> Self {
        let at = |field| path_to(GROUP, name, field);
        Self { file: binding::file(reader, &at("file")), id: reader.text(&at("id"), binding::id) }
    }
}
