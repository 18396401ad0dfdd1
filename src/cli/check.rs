//! `check`: could the files be served, and until when? Kong is not asked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf, absolute};

use serde::Serialize;

use super::arguments::Check;
use super::exit::{self, Standing};
use super::table::{self, Row};
use super::{cells, complain, found};
use crate::binding::{self, Binding, Bindings, Content, Kind};
use crate::bundle::Facts;
use crate::clock::Timestamp;
use crate::quote::Quoted;
use crate::settings::{Settings, path_of};
use crate::status::{Reason, Shown, words};
use crate::volume::Mounted;

/// What the files of one binding come to.
#[derive(Debug, Serialize)]
struct Checked {
    name: String,
    kind: Kind,
    /// Where its certificate lies.
    cert: String,
    /// Whether Kong could serve it now.
    servable: bool,
    reason: Option<Reason>,
    message: Option<String>,
    /// What is in the files, if that can be parsed.
    file: Option<Shown>,
    days_left: Option<i64>,
    key_types: Vec<&'static str>,
    warnings: Vec<String>,
}

/// Shows what the files come to: those of the settings, or those in the given directories.
pub(super) fn check(settings: &Settings, asked: &Check, now: Timestamp) -> u8 {
    let mut has_odd = false;
    let bindings = if asked.directories.is_empty() {
        let Some(bindings) = found::bindings_told(settings) else { return exit::USAGE };
        if bindings.is_empty() {
            complain(&found::none_of_the_settings(&settings.certs_dir));
        }
        vec![bindings]
    } else {
        let Some(directories) = named(&asked.directories) else { return exit::USAGE };
        let beneath = directories.iter().map(|directory| beneath(directory));
        beneath
            .map(|(bindings, is_odd)| {
                has_odd |= is_odd;
                bindings
            })
            .collect()
    };
    let has_empty = bindings.iter().any(Bindings::is_empty);
    let all = bindings.iter().flat_map(Bindings::iter);
    let mut checked: Vec<Checked> = all.map(|binding| Checked::of(binding, now)).collect();
    if !asked.directories.is_empty() {
        checked.iter_mut().for_each(Checked::be_named_by_directory);
    }
    let shows_files = !asked.directories.is_empty();
    let output = asked.output.output;
    let printed = output.print(&checked, |width| report(&checked, shows_files, now, width));
    let standings = checked.iter().map(Checked::standing);
    exit::code(standings.chain((has_empty || has_odd).then_some(Standing::Fails))).max(printed)
}

/// The directories as absolute paths, or nothing if one of them is none that could be shown; tells
/// which.
fn named(directories: &[PathBuf]) -> Option<Vec<PathBuf>> {
    let paths = directories.iter().map(|directory| {
        let path = absolute(directory).unwrap_or_else(|_| directory.clone());
        match path_of(&path.to_string_lossy()) {
            Ok(_) => Some(path),
            Err(fault) => {
                complain(&fault);
                None
            }
        }
    });
    paths.collect()
}

/// What lies there, as if it were `CERTS_DIR`, and whether any of it is odd; tells that, and if there
/// is nothing.
fn beneath(directory: &Path) -> (Bindings, bool) {
    let mut bindings = Bindings::new(directory, &BTreeMap::new());
    let oddities = bindings.look();
    for oddity in &oddities {
        complain(oddity);
    }
    if bindings.is_empty() {
        let none = found::none_in(directory);
        let mend = if directory.is_file() {
            "give its directory; files of CA certificates and licences are checked by `check` alone, as the settings name them"
        } else {
            "give the directory with tls.crt and tls.key, or the one above it"
        };
        complain(&format_args!("no certificates: {none}; {mend}"));
    }
    (bindings, !oddities.is_empty())
}

/// Why a binding cannot be served now.
struct Flaw {
    reason: Reason,
    message: String,
}

impl Checked {
    fn of(binding: &Binding, now: Timestamp) -> Self {
        let (bundle, unusable) = match parse(binding, now) {
            Ok(bundle) => (Some(bundle), None),
            Err(flaw) => (None, Some(flaw)),
        };
        let flaw = unusable.or_else(|| untimely(binding, bundle.as_ref()?, now));
        let facts = bundle.as_ref().and_then(Content::facts);
        let key_types = |facts: &Facts| facts.key_types.iter().map(|kind| kind.as_str()).collect();
        let warnings =
            |facts: &Facts| facts.warnings_at(now).iter().map(ToString::to_string).collect();
        Self {
            name: binding.name.to_string(),
            kind: binding.kind(),
            cert: Quoted::new(&binding.file().to_string_lossy()).to_string(),
            servable: flaw.is_none(),
            reason: flaw.as_ref().map(|flaw| flaw.reason),
            message: flaw.map(|flaw| flaw.message),
            file: facts.map(Shown::from),
            days_left: facts.map(|facts| words::days_left(facts.validity.not_after, now)),
            key_types: facts.map(key_types).unwrap_or_default(),
            warnings: facts.map(warnings).unwrap_or_default(),
        }
    }

    /// A directory that was given is no `default` of anything.
    fn be_named_by_directory(&mut self) {
        let directory = Path::new(&self.cert).parent().and_then(Path::file_name);
        if let (true, Some(directory)) = (self.name == binding::DEFAULT, directory) {
            self.name = directory.to_string_lossy().into_owned();
        }
    }

    const fn standing(&self) -> Standing {
        if self.servable { Standing::Fine } else { Standing::Fails }
    }
}

fn parse(binding: &Binding, now: Timestamp) -> Result<Content, Flaw> {
    let generation = binding.source().read(&Mounted).map_err(|unreadable| Flaw {
        reason: Reason::File(unreadable.reason()),
        message: unreadable.with_cause(),
    })?;
    binding
        .content(&generation, now)
        .map_err(|invalid| Flaw { reason: Reason::from(&invalid), message: invalid.to_string() })
}

/// The time is not within its life.
fn untimely(binding: &Binding, content: &Content, now: Timestamp) -> Option<Flaw> {
    if let Err(expired) = content.check_expired(&binding.file(), now) {
        let reason = Reason::Bundle(expired.reason());
        return Some(Flaw { reason, message: expired.to_string() });
    }
    let facts = content.facts()?;
    facts.not_yet_valid_at(now).then(|| {
        let from = facts.validity.not_before;
        let message = format!("it begins at {from}; wait, or check the clock of this machine");
        Flaw { reason: Reason::NotBefore, message }
    })
}

fn report(checked: &[Checked], shows_files: bool, now: Timestamp, width: Option<u16>) -> String {
    let shows_kind = cells::has_other_kinds(checked.iter().map(|checked| checked.kind));
    let mut head = vec!["NAME", "SERVABLE", "UNTIL", "KEY", "NAMES"];
    if shows_kind {
        head.insert(1, "KIND");
    }
    if shows_files {
        head.push("FILE");
    }
    let row = |checked| row(checked, shows_kind, shows_files, now);
    let rows: Vec<Row> = checked.iter().map(row).collect();
    if rows.is_empty() { String::new() } else { table::table(&head, &rows, width) }
}

fn row(checked: &Checked, shows_kind: bool, shows_file: bool, now: Timestamp) -> Row {
    let nothing = || cells::NOTHING.to_owned();
    let file = checked.file.as_ref();
    let keys = checked.key_types.join(", ");
    let mut cells = vec![
        checked.name.clone(),
        if checked.servable { "yes" } else { "no" }.to_owned(),
        file.map_or_else(nothing, |file| words::until(file.not_after, now)),
        if keys.is_empty() { nothing() } else { keys },
        file.map_or_else(nothing, |file| cells::content(checked.kind, file)),
    ];
    if shows_kind {
        cells.insert(1, checked.kind.to_string());
    }
    if shows_file {
        cells.push(checked.cert.clone());
    }
    let flaw = checked.reason.zip(checked.message.as_ref());
    let flaw = flaw.map(|(reason, message)| format!("{reason}: {message}"));
    let warnings = checked.warnings.iter().map(|warning| format!("warning: {warning}"));
    Row { cells, notes: flaw.into_iter().chain(warnings).collect() }
}
