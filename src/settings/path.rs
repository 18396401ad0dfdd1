//! Paths, each by its grammar.

use std::path::{Component, Path, PathBuf};

use super::mistake::Fault;
use crate::quote::Quoted;

/// Takes a path, which holds no control characters (NUL would end it), and no PEM: paths are shown,
/// and a key that was put there by mistake must not be.
pub(crate) fn path_of(text: &str) -> Result<PathBuf, Fault> {
    if text.chars().any(char::is_control) || text.contains("-----BEGIN") {
        return Err(Fault::Path(Quoted::new(text)));
    }
    Ok(PathBuf::from(text))
}

/// Takes an absolute path without `..`.
pub(super) fn absolute(text: &str) -> Result<PathBuf, Fault> {
    let path = path_of(text)?;
    if !path.is_absolute() {
        return Err(Fault::Relative(Quoted::new(text)));
    }
    if climbs(&path) {
        return Err(Fault::Climbs(Quoted::new(text)));
    }
    Ok(path)
}

/// Takes a file, if relative then in the directory that it is relative to, and not above.
pub(super) fn inside(text: &str) -> Result<PathBuf, Fault> {
    let path = path_of(text)?;
    if path.file_name().is_none() || climbs(&path) {
        return Err(Fault::Outside(Quoted::new(text)));
    }
    Ok(path)
}

fn climbs(path: &Path) -> bool {
    path.components().any(|part| part == Component::ParentDir)
}
