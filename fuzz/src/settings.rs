//! The environment, and the file of settings.
//!
//! The first part is an environment as `/proc/PID/environ` shows it, the second the file that
//! `CERT_RELOADER__CONFIG` names.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use kong_cert_reloader::settings::Settings;
use tempfile::TempDir;

use super::parts;
use super::said::{assert_is_a_line, contains};

const CONFIG: &str = "CERT_RELOADER__CONFIG";
/// Shorter ones stand in our own words, too.
const SHORTEST_SECRET: usize = 8;

/// Fails unless all is understood or told by name, and nothing is shown that is secret.
pub fn check(input: &[u8]) {
    let parts = parts(input);
    let mut vars: Vec<_> = parts[0].split(|byte| *byte == 0).filter_map(var).collect();
    if let Some(file) = parts.get(1) {
        vars.push((CONFIG.into(), written(file).into_os_string()));
    }
    let secrets: Vec<_> = vars.iter().filter_map(|var| secret(var, input)).collect();
    match Settings::from_env(vars.clone()) {
        Ok(settings) => {
            let shown = format!("{settings:?}");
            secrets.iter().for_each(|secret| assert!(!shown.contains(secret), "{shown}"));
            let again = Settings::from_env(vars);
            assert_eq!(again.as_ref(), Ok(&settings), "the same is read otherwise");
        }
        Err(mistakes) => {
            assert!(mistakes.iter().next().is_some(), "no mistake is named");
            for mistake in &mistakes {
                assert!(!mistake.setting.as_str().is_empty(), "{mistake}");
                let said = mistake.to_string();
                assert_is_a_line(&said);
                secrets.iter().for_each(|secret| assert!(!said.contains(secret), "{said}"));
            }
        }
    }
}

fn var(line: &[u8]) -> Option<(OsString, OsString)> {
    let at = line.iter().position(|byte| *byte == b'=')?;
    let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let (name, value) = (text(&line[..at]), text(&line[at + 1..]));
    // The fuzzer reads no files but its own.
    (!name.eq_ignore_ascii_case(CONFIG)).then_some((name, value))
}

/// The value of a secret setting that stands nowhere else in the input.
fn secret((name, value): &(OsString, OsString), input: &[u8]) -> Option<String> {
    let name = name.to_str()?.to_ascii_uppercase();
    let is_secret = name == "CERT_RELOADER__ADMIN__TOKEN"
        || name.starts_with("CERT_RELOADER__ADMIN__HEADERS__");
    let value = value.to_str().filter(|value| is_secret && value.len() >= SHORTEST_SECRET)?;
    let at = input.windows(value.len()).position(|window| window == value.as_bytes())?;
    (!contains(&input[at + 1..], value.as_bytes())).then(|| value.to_owned())
}

/// In the same place each time.
fn written(file: &[u8]) -> PathBuf {
    thread_local!(static HOME: OnceCell<TempDir> = const { OnceCell::new() });
    HOME.with(|home| {
        let home = home.get_or_init(|| tempfile::tempdir().unwrap());
        let path = home.path().join("settings.yaml");
        fs::write(&path, file).unwrap();
        path
    })
}
