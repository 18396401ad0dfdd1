//! The environment's variables that are ours, as leaves of the tree.

use std::ffi::{OsStr, OsString};

use config::ValueKind;

use super::mistake::{Fault, Mistake};
use super::spelling::{PREFIX, Spelling};
use super::table::{Place, place};
use super::tree::Leaves;
use crate::names::folded;
use crate::quote::Quoted;

/// What an empty value means something for.
const KEPT_EMPTY: [&str; 2] = ["admin.url", "proxy.address"];

/// The settings among `vars`, in any case of letters. Empty ones count as not set, but for
/// `ADMIN__URL` and `PROXY__ADDRESS`. Variables without our prefix, such as Kubernetes' own for a service
/// (`CERT_RELOADER_SERVICE_HOST`), are none of ours.
pub(super) fn leaves(
    vars: impl IntoIterator<Item = (OsString, OsString)>,
    mistakes: &mut Vec<Mistake>,
) -> Leaves {
    let mut ours: Vec<_> = vars.into_iter().filter(|(name, _)| is_ours(name)).collect();
    ours.sort();
    let mut leaves = Leaves::default();
    for (name, value) in ours {
        let setting = Quoted::new(&name.to_string_lossy());
        if let Err(fault) = add(&mut leaves, &setting, &name, value) {
            mistakes.push(Mistake { setting, fault });
        }
    }
    leaves
}

fn is_ours(name: &OsStr) -> bool {
    let start = name.as_encoded_bytes().get(..PREFIX.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(PREFIX.as_bytes()))
}

fn add(leaves: &mut Leaves, setting: &Quoted, name: &OsStr, value: OsString) -> Result<(), Fault> {
    let name = name.to_str().and_then(|name| name.get(PREFIX.len()..)).ok_or(Fault::NameNotUtf8)?;
    let Place::Setting(path) = place(&folded(name), Spelling::Variable)? else {
        return Err(Fault::Group);
    };
    let value = value.into_string().map_err(|_| Fault::NotUtf8)?;
    if value.is_empty() && !KEPT_EMPTY.contains(&path.as_str()) {
        return Ok(());
    }
    leaves.add(path, setting, ValueKind::String(value))
}
