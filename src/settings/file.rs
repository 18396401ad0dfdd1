//! The YAML file as leaves of the tree.

use std::collections::BTreeMap;
use std::path::Path;

use config::{ConfigError, File, FileFormat, Map, Source, Value, ValueKind};

use super::mistake::{Fault, Mistake};
use super::spelling::Spelling;
use super::table::{Place, place};
use super::tree::Leaves;
use crate::names::folded;
use crate::quote::Quoted;

/// The settings in the file that `named` names; nothing if it cannot be read.
pub(super) fn leaves(named: &Value, mistakes: &mut Vec<Mistake>) -> Option<Leaves> {
    let ValueKind::String(path) = &named.kind else {
        return None;
    };
    match read(Path::new(path)) {
        Ok(tree) => {
            let file = Quoted::new(path);
            let mut walk = Walk { file, leaves: Leaves::default(), mistakes };
            walk.group("", "", tree);
            Some(walk.leaves)
        }
        Err(fault) => {
            let setting = Quoted::new(named.origin().unwrap_or_default());
            mistakes.push(Mistake { setting, fault });
            None
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "read once, at the start, and by the operator's word"
)]
fn read(path: &Path) -> Result<Map<String, Value>, Fault> {
    let shown = Quoted::new(&path.display().to_string());
    let text = std::fs::read_to_string(path)
        .map_err(|error| Fault::File { path: shown.clone(), cause: error.to_string() })?;
    File::from_str(&text, FileFormat::Yaml).collect().map_err(|error| match complaint(&error) {
        Some(cause) => Fault::Yaml { path: shown, cause: Quoted::new(&cause) },
        None => Fault::NotATree(shown),
    })
}

/// What the scanner says, which ends with the place; other errors tell values, and are withheld.
fn complaint(error: &ConfigError) -> Option<String> {
    let ConfigError::FileParse { cause, .. } = error else {
        return None;
    };
    let text = cause.to_string();
    let (said, at) = text.rsplit_once(" at byte ")?;
    let (_, at) = at.split_once(" line ")?;
    let (line, column) = at.split_once(" column ")?;
    let (line, column): (usize, usize) = (line.parse().ok()?, column.parse().ok()?);
    let said = if said.contains("duplicated key") { "a key is there twice" } else { said };
    Some(format!("{said}, line {line}, column {column}"))
}

struct Walk<'a> {
    file: Quoted,
    leaves: Leaves,
    mistakes: &'a mut Vec<Mistake>,
}

impl Walk<'_> {
    /// Takes in what is beneath `path`, which the user wrote as `written`.
    fn group(&mut self, path: &str, written: &str, group: Map<String, Value>) {
        let mut seen = BTreeMap::new();
        for (key, value) in group.into_iter().collect::<BTreeMap<_, _>>() {
            let written = join(written, Quoted::new(&key).as_str());
            let key = folded(&key);
            let fault = match seen.insert(key.clone(), written.clone()) {
                Some(first) => Err(Fault::Twice(self.at(&first))),
                None => self.entry(&join(path, &key), &written, value),
            };
            if let Err(fault) = fault {
                self.mistakes.push(Mistake { setting: self.at(&written), fault });
            }
        }
    }

    fn entry(&mut self, path: &str, written: &str, value: Value) -> Result<(), Fault> {
        match (place(path, Spelling::Key)?, value.kind) {
            (Place::Setting(path), _) if path == "config" => Err(Fault::NotInFile),
            // The merge forgets where a mapping came from.
            (Place::Setting(_), ValueKind::Table(_)) => Err(Fault::Mapping),
            (Place::Setting(path), kind) => self.leaves.add(path, &self.at(written), kind),
            (Place::Group, ValueKind::Table(group)) => {
                self.group(path, written, group);
                Ok(())
            }
            (Place::Group, ValueKind::Nil) => Ok(()),
            (Place::Group, _) => Err(Fault::Group),
        }
    }

    fn at(&self, written: &str) -> Quoted {
        Quoted::new(&format!("{written} in {}", self.file))
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
