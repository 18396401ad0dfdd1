//! File and environment as one tree, the environment winning setting by setting.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use config::{Config, ConfigError, Map, Source, Value, ValueKind};

use super::mistake::{Fault, Mistake};
use super::{environment, file};
use crate::quote::Quoted;

/// What is set. Each value's origin is its setting as the user wrote it.
pub(super) struct Tree {
    pub(super) root: Value,
    /// False where the file could not be read: then a setting that seems missing may stand there.
    pub(super) whole: bool,
}

impl Tree {
    /// Merges `vars` and the file that they name; notes in `mistakes` what names no setting.
    pub(super) fn merged(
        vars: impl IntoIterator<Item = (OsString, OsString)>,
        mistakes: &mut Vec<Mistake>,
    ) -> Self {
        let mut variables = environment::leaves(vars, mistakes);
        let file = match variables.take("config") {
            None => Some(Leaves::default()),
            Some(named) => file::leaves(&named, mistakes),
        };
        let whole = file.is_some();
        let merged = Config::builder()
            .add_source(file.unwrap_or_default())
            .add_source(variables)
            .build()
            .expect("no source of ours errs");
        Self { root: merged.cache, whole }
    }
}

/// The settings of one source, by their paths in the tree.
#[derive(Clone, Default)]
pub(super) struct Leaves(BTreeMap<String, Value>);

impl Leaves {
    /// Adds the setting that the user wrote as `written`; errs if it is there already.
    pub(super) fn add(
        &mut self,
        path: String,
        written: &Quoted,
        value: ValueKind,
    ) -> Result<(), Fault> {
        if let Some(first) = self.0.get(&path).and_then(Value::origin) {
            return Err(Fault::Twice(Quoted::new(first)));
        }
        self.0.insert(path, Value::new(Some(&written.to_string()), value));
        Ok(())
    }

    fn take(&mut self, path: &str) -> Option<Value> {
        self.0.remove(path)
    }
}

impl Source for Leaves {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone().into_iter().collect())
    }
}

/// The paths alone: values may be secret.
impl fmt::Debug for Leaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
