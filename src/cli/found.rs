//! The bindings that there are before anything runs, and what to do where there are none.

use std::fs;
use std::io;
use std::path::Path;

use super::complain;
use crate::binding::{Bindings, Oddity};
use crate::quote::Quoted;
use crate::settings::Settings;

/// The bindings of the settings, and what is odd in `CERTS_DIR`.
///
/// # Errors
///
/// Directories that no variable could tell apart are a mistake like those in the settings.
pub(super) fn bindings(settings: &Settings) -> Result<(Bindings, Vec<Oddity>), String> {
    let mut bindings = Bindings::of(settings);
    let oddities = bindings.look();
    let clashes = oddities
        .iter()
        .filter(|oddity| matches!(oddity, Oddity::FoldAlike(..) | Oddity::NameTaken { .. }));
    let clashes: Vec<String> = clashes.map(ToString::to_string).collect();
    if clashes.is_empty() { Ok((bindings, oddities)) } else { Err(clashes.join("\n")) }
}

/// The bindings of the settings, or nothing if the names of two are a mistake. Tells that, and what
/// else is odd.
pub(super) fn bindings_told(settings: &Settings) -> Option<Bindings> {
    match bindings(settings) {
        Ok((bindings, oddities)) => {
            for oddity in oddities {
                complain(&oddity);
            }
            Some(bindings)
        }
        Err(clashes) => {
            complain(&clashes);
            None
        }
    }
}

/// Says why the settings lead to no certificate, and what to do.
pub(super) fn none_of_the_settings(certs_dir: &Path) -> String {
    format!(
        "no certificates: {}; mount Secrets there, or set CERT_RELOADER__CERTS_DIR, or CERT_RELOADER__CERTIFICATES__<NAME>__DIR",
        none_in(certs_dir)
    )
}

/// Says why no certificate was found in a directory.
pub(super) fn none_in(directory: &Path) -> String {
    let shown = Quoted::new(&directory.to_string_lossy());
    match fs::read_dir(directory) {
        Ok(_) => format!("neither {shown} nor a directory in it holds tls.crt and tls.key"),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => format!("{shown} does not exist"),
            io::ErrorKind::NotADirectory => format!("{shown} is no directory"),
            io::ErrorKind::PermissionDenied => {
                format!("{shown} may not be read by this user ({error})")
            }
            _ => format!("{shown} cannot be read: {error}"),
        },
    }
}
