//! Which bindings are concerned by what happens at a path.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::few::Few;
use crate::names::BindingName;
use crate::packed::pack;

/// Where changes of each binding can be noticed, and whom a change there concerns.
#[derive(Default)]
pub(super) struct Points {
    of: BTreeMap<BindingName, Few<Arc<Path>>>,
    bindings: BTreeMap<Arc<Path>, Few<BindingName>>,
}

impl Points {
    /// Changes of the files of `binding` can be noticed at `points`. Returns whether that is new.
    pub(super) fn set(&mut self, binding: &BindingName, points: BTreeSet<Arc<Path>>) -> bool {
        if self.of.get(binding).is_some_and(|known| known.iter().eq(&points)) {
            return false;
        }
        self.forget(binding);
        for point in &points {
            self.bindings.entry(Arc::clone(point)).or_default().insert(binding.clone());
        }
        self.of.insert(binding.clone(), points.into());
        true
    }

    /// Takes no more room than is needed, after many were set.
    pub(super) fn pack(&mut self) {
        pack(&mut self.of);
        pack(&mut self.bindings);
    }

    pub(super) fn forget(&mut self, binding: &BindingName) {
        for point in self.of.remove(binding).into_iter().flatten() {
            if let Entry::Occupied(mut names) = self.bindings.entry(point) {
                names.get_mut().retain(|name| name != binding);
                if names.get().is_empty() {
                    names.remove();
                }
            }
        }
    }

    /// Whether the binding has been noted.
    pub(super) fn knows(&self, binding: &BindingName) -> bool {
        self.of.contains_key(binding)
    }

    /// All paths to be watched.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Arc<Path>> {
        self.bindings.keys()
    }

    /// Those concerned by what happens at `point`.
    pub(super) fn concerned(&self, point: &Path) -> Few<BindingName> {
        self.bindings.get(point).cloned().unwrap_or_default()
    }
}
