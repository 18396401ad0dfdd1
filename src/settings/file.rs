//! The YAML file as leaves of the tree.

use std::collections::BTreeMap;
use std::fs::File as OpenFile;
use std::io::{self, Read};
use std::path::Path;

use config::{ConfigError, File, FileFormat, Map, Source, Value, ValueKind};

use super::mistake::{Fault, Mistake};
use super::spelling::Spelling;
use super::table::{Place, place};
use super::tree::Leaves;
use super::yaml;
use crate::names::folded;
use crate::quote::Quoted;

/// Thousands of certificates need less.
const LARGEST: usize = 1024 * 1024;

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

fn read(path: &Path) -> Result<Map<String, Value>, Fault> {
    let shown = Quoted::new(&path.display().to_string());
    let unreadable =
        |error: io::Error| Fault::File { path: shown.clone(), cause: error.to_string() };
    let bytes = bytes(path).map_err(unreadable)?;
    if bytes.len() > LARGEST {
        return Err(Fault::TooLarge(shown));
    }
    let text = io::read_to_string(&*bytes).map_err(unreadable)?;
    // Who reads it calls itself for each level, and copies what an alias stands for.
    if !yaml::is_bounded(&text) {
        return Err(Fault::Unbounded(shown));
    }
    File::from_str(&text, FileFormat::Yaml).collect().map_err(|error| match complaint(&error) {
        Some(cause) => Fault::Yaml { path: shown, cause: Quoted::new(&cause) },
        None => Fault::NotATree(shown),
    })
}

/// Read once, at the start, and by the operator's word. At most one byte more than is taken: pipes and
/// devices have no end.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    OpenFile::open(path)?.take(LARGEST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
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
