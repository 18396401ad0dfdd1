//! What the settings of all bindings have in common, of whatever kind: a name that no other binding
//! has, perhaps an id, perhaps a single file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use uuid::Uuid;

use super::declarative::{self, Declarative};
use super::mistake::Fault;
use super::path::absolute;
use super::reader::Reader;
use super::{authority, certificate, license, reload};
use crate::names::FoldedName;
use crate::quote::Quoted;

/// The groups of settings whose names are those of bindings.
const GROUPS: [&str; 4] = [certificate::GROUP, authority::GROUP, license::GROUP, reload::GROUP];

/// Reads all bindings of `group`.
pub(super) fn read_all<T>(
    reader: &mut Reader,
    group: &str,
    read: impl Fn(&mut Reader, &FoldedName) -> T,
) -> BTreeMap<FoldedName, T> {
    let names = reader.names(group);
    let names = names.iter().filter_map(|name| name.parse().ok());
    names.map(|name: FoldedName| (name.clone(), read(reader, &name))).collect()
}

/// The path of a binding's setting.
pub(super) fn path_to(group: &str, name: &FoldedName, field: &str) -> String {
    format!("{group}.{name}.{field}")
}

/// Takes the id of an object in Kong.
pub(super) fn id(text: &str) -> Result<Uuid, Fault> {
    Uuid::try_parse(text).map_err(|_| Fault::Id(Quoted::new(text)))
}

/// Reads the file that a binding cannot be without; empty only where that is noted as a mistake.
pub(super) fn file(reader: &mut Reader, path: &str) -> PathBuf {
    if reader.is_whole() && !reader.is_set(path) {
        reader.reject(path, Fault::NoFile);
    }
    reader.text(path, absolute).unwrap_or_default()
}

/// Notes it where two bindings have one name. That of `DECLARATIVE__FILE` is taken where it is set.
pub(super) fn reject_shared_names(reader: &mut Reader) {
    let mut claims = Vec::new();
    if reader.is_set(declarative::FILE) {
        claims.push((Declarative::NAME.to_owned(), declarative::FILE.to_owned()));
    }
    for group in GROUPS {
        for name in reader.names(group) {
            let binding = format!("{group}.{name}");
            // Users write settings, not groups: one of them shows where the name is.
            let fields = reader.names(&binding);
            claims.extend(fields.first().map(|field| (name, format!("{binding}.{field}"))));
        }
    }
    for Shared { path, first, .. } in shared(claims) {
        let other = reader.written(&first);
        reader.reject(&path, Fault::NameTwice { other });
    }
}

/// Notes it where two bindings of `group` have one id.
pub(super) fn reject_shared_ids<'a>(
    reader: &mut Reader,
    group: &str,
    ids: impl IntoIterator<Item = (&'a FoldedName, Option<Uuid>)>,
) {
    let ids = ids.into_iter().filter_map(|(name, id)| Some((id?, path_to(group, name, "id"))));
    for Shared { path, first, .. } in shared(ids) {
        let other = reader.written(&first);
        reader.reject(&path, Fault::IdTwice { other });
    }
}

/// What the setting at `path` claims, although the one at `first` has it.
pub(super) struct Shared<T> {
    pub(super) claim: T,
    pub(super) path: String,
    pub(super) first: String,
}

/// What more than one path claims, with the path that had it first.
pub(super) fn shared<T: Ord>(claims: impl IntoIterator<Item = (T, String)>) -> Vec<Shared<T>> {
    let mut firsts: BTreeMap<T, String> = BTreeMap::new();
    let mut shared = Vec::new();
    for (claim, path) in claims {
        match firsts.get(&claim) {
            Some(first) => shared.push(Shared { claim, path, first: first.clone() }),
            None => _ = firsts.insert(claim, path),
        }
    }
    shared
}
