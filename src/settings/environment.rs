//! The environment's variables that are ours, as leaves of the tree.

use std::ffi::{OsStr, OsString};

use config::ValueKind;

use super::mistake::{Fault, Mistake};
use super::spelling::{PREFIX, Spelling};
use super::table::{Place, meant_with_single_underscores, place};
use super::tree::Leaves;
use crate::names::folded;
use crate::quote::Quoted;

/// The settings among `vars`, in any case of letters. Empty ones count as not set, but for
/// `ADMIN__URL`, `PROXY__ADDRESS` and `RELOAD__FILES__<NAME>__ADDRESS`. Variables without our prefix,
/// such as Kubernetes' own for a service (`CERT_RELOADER_SERVICE_HOST`), are none of ours.
pub(super) fn leaves(
    vars: impl IntoIterator<Item = (OsString, OsString)>,
    mistakes: &mut Vec<Mistake>,
) -> Leaves {
    let (mut ours, others): (Vec<_>, Vec<_>) =
        vars.into_iter().partition(|(name, _)| is_ours(name));
    ours.sort();
    let slips = others.iter().filter_map(|(name, _)| slip(name));
    mistakes.extend(slips);
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

/// One underscore where two belong: ignored, `DRY_RUN` for one would be missed too late.
fn slip(name: &OsStr) -> Option<Mistake> {
    let name = name.to_str()?;
    let rest = folded(name).strip_prefix(&PREFIX[..PREFIX.len() - 1].to_lowercase())?.to_owned();
    let meant = meant_with_single_underscores(&rest)?;
    let fault = Fault::Unknown(Some(Quoted::new(&meant)));
    Some(Mistake { setting: Quoted::new(name), fault })
}

fn add(leaves: &mut Leaves, setting: &Quoted, name: &OsStr, value: OsString) -> Result<(), Fault> {
    let name = name.to_str().and_then(|name| name.get(PREFIX.len()..)).ok_or(Fault::NameNotUtf8)?;
    let Place::Setting(path) = place(&folded(name), Spelling::Variable)? else {
        return Err(Fault::Group);
    };
    let value = value.into_string().map_err(|_| Fault::NotUtf8)?;
    if value.is_empty() && !is_kept_empty(&path) {
        return Ok(());
    }
    leaves.add(path, setting, ValueKind::String(value))
}

/// Whether an empty value means something.
fn is_kept_empty(path: &str) -> bool {
    let levels: Vec<&str> = path.split('.').collect();
    matches!(
        levels[..],
        ["admin", "url"] | ["proxy", "address"] | ["reload", "files", _, "address"]
    )
}
