//! Reads values out of the tree, and collects what is wrong with them instead of stopping.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use config::{Value, ValueKind};

use super::mistake::{Fault, Mistake};
use super::path::path_of;
use super::spelling::Spelling;
use super::tree::Tree;
use crate::quote::Quoted;

/// Reads `tree` by paths such as `admin.url`, and notes mistakes. What is wrong reads as not set.
pub(super) struct Reader<'a> {
    tree: &'a Tree,
    mistakes: &'a mut Vec<Mistake>,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(tree: &'a Tree, mistakes: &'a mut Vec<Mistake>) -> Self {
        Self { tree, mistakes }
    }

    /// A value that is text; YAML's numbers and truth values are mistakes.
    pub(super) fn text<T, E: Into<Fault>>(
        &mut self,
        path: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let parsed = match self.value(path)? {
            ValueKind::String(text) => parse(text).map_err(Into::into),
            ValueKind::Array(_) => Err(Fault::NotOne),
            _ => Err(Fault::Unquoted),
        };
        self.noted(path, parsed)
    }

    /// A value that YAML may also have as a number or a truth value.
    pub(super) fn plain<T>(
        &mut self,
        path: &str,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        let parsed = match self.value(path)? {
            ValueKind::Array(_) => Err(Fault::NotOne),
            plain => parse(&plain.to_string()),
        };
        self.noted(path, parsed)
    }

    /// A YAML list of texts, or text with commas; empty items do not count.
    pub(super) fn list<T, E: Into<Fault>, C: FromIterator<T>>(
        &mut self,
        path: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<C> {
        let items: Vec<Result<T, Fault>> = match self.value(path)? {
            ValueKind::String(text) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                items.map(|item| parse(item).map_err(Into::into)).collect()
            }
            ValueKind::Array(items) => items.iter().map(|item| item_of(item, &parse)).collect(),
            _ => vec![Err(Fault::NotAList)],
        };
        // All of them, not `collect::<Option<_>>()`, which would stop at the first mistake.
        let items: Vec<Option<T>> = items.into_iter().map(|item| self.noted(path, item)).collect();
        items.into_iter().collect()
    }

    pub(super) fn truth(&mut self, path: &str) -> Option<bool> {
        self.plain(path, |text| match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(Fault::Truth(Quoted::new(text))),
        })
    }

    pub(super) fn duration(
        &mut self,
        path: &str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        self.plain(path, |text| {
            let unitless = text.bytes().all(|byte| byte.is_ascii_digit());
            match humantime::parse_duration(text) {
                Ok(duration) if range.contains(&duration) && !unitless => Ok(duration),
                Ok(_) if !unitless => Err(Fault::Range {
                    text: Quoted::new(text),
                    shortest: humantime::format_duration(*range.start()).to_string(),
                    longest: humantime::format_duration(*range.end()).to_string(),
                }),
                _ => Err(Fault::Duration(Quoted::new(text))),
            }
        })
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, path: &str, choices: &[(&str, T)]) -> Option<T> {
        self.text(path, |text| {
            let chosen = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
            chosen.map(|(_, choice)| *choice).ok_or_else(|| Fault::Choice {
                text: Quoted::new(text),
                choices: choices.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", "),
            })
        })
    }

    pub(super) fn path(&mut self, path: &str) -> Option<PathBuf> {
        self.text(path, path_of)
    }

    /// The names beneath a group.
    pub(super) fn names(&self, group: &str) -> Vec<String> {
        let Some(ValueKind::Table(entries)) = self.value(group) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries.keys().cloned().collect();
        names.sort();
        names
    }

    /// Whether there is a value, right or wrong.
    pub(super) fn is_set(&self, path: &str) -> bool {
        self.value(path).is_some()
    }

    /// Whether the value is there, and empty.
    pub(super) fn is_blank(&self, path: &str) -> bool {
        self.node(path).is_some_and(|value| value.kind == ValueKind::String(String::new()))
    }

    /// Whether what is not set is not set indeed, and not in a file that could not be read.
    pub(super) const fn is_whole(&self) -> bool {
        self.tree.whole
    }

    /// Notes that something is wrong with the setting at `path`.
    pub(super) fn reject(&mut self, path: &str, fault: Fault) {
        let setting = self.written(path);
        self.mistakes.push(Mistake { setting, fault });
    }

    /// Notes it where one of two settings is there without the other.
    pub(super) fn reject_single(&mut self, one: &str, other: &str) {
        let (there, missing) = match (self.is_set(one), self.is_set(other)) {
            (true, false) => (one, other),
            (false, true) => (other, one),
            _ => return,
        };
        if self.tree.whole {
            let partner = self.written(missing);
            self.reject(there, Fault::Partner(partner));
        }
    }

    /// The setting at `path` as the user wrote it, or would write it.
    pub(super) fn written(&self, path: &str) -> Quoted {
        match self.node(path).and_then(Value::origin) {
            Some(origin) => Quoted::new(origin),
            None => Quoted::new(&Spelling::Variable.shown(&path.replace('.', "__"))),
        }
    }

    fn noted<T>(&mut self, path: &str, parsed: Result<T, Fault>) -> Option<T> {
        parsed.map_err(|fault| self.reject(path, fault)).ok()
    }

    /// The value at `path`; YAML's `~` and empty text are none.
    fn value(&self, path: &str) -> Option<&'a ValueKind> {
        let kind = &self.node(path)?.kind;
        match kind {
            ValueKind::Nil => None,
            ValueKind::String(text) if text.is_empty() => None,
            _ => Some(kind),
        }
    }

    fn node(&self, path: &str) -> Option<&'a Value> {
        let tree = self.tree;
        path.split('.').try_fold(&tree.root, |value, key| match &value.kind {
            ValueKind::Table(entries) => entries.get(key),
            _ => None,
        })
    }
}

fn item_of<T, E: Into<Fault>>(
    item: &Value,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, Fault> {
    match &item.kind {
        ValueKind::String(text) => parse(text).map_err(Into::into),
        ValueKind::Table(_) | ValueKind::Array(_) => Err(Fault::NotAList),
        _ => Err(Fault::Unquoted),
    }
}
