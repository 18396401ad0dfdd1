//! Sets that are kept for long, seldom change, and mostly hold few: a certificate has a name or two, and a
//! tree of them has room for eleven.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::ops::Deref;

use serde::Serialize;

/// In ascending order, each once, and with room for no more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Few<T>(Box<[T]>);

impl<T: Ord> Few<T> {
    /// Whether this is one of them.
    pub fn contains<Q: Ord + ?Sized>(&self, value: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.0.binary_search_by(|one| one.borrow().cmp(value)).is_ok()
    }

    /// Puts one more in, if it is not there.
    pub fn insert(&mut self, one: T) {
        let mut all = std::mem::take(&mut self.0).into_vec();
        if let Err(place) = all.binary_search(&one) {
            all.insert(place, one);
        }
        self.0 = all.into();
    }

    /// Keeps those that `stays` says.
    pub fn retain(&mut self, stays: impl FnMut(&T) -> bool) {
        let mut all = std::mem::take(&mut self.0).into_vec();
        all.retain(stays);
        self.0 = all.into();
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Ord> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        let mut all = Vec::from_iter(all);
        all.sort_unstable();
        all.dedup();
        Self(all.into())
    }
}

impl<T: Ord, const N: usize> From<[T; N]> for Few<T> {
    fn from(all: [T; N]) -> Self {
        all.into_iter().collect()
    }
}

impl<T: Ord> From<BTreeSet<T>> for Few<T> {
    fn from(all: BTreeSet<T>) -> Self {
        Self(all.into_iter().collect())
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_vec().into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_there_once_and_in_order() {
        let few: Few<u8> = [3, 1, 2, 3, 1].into();
        assert_eq!(few[..], [1, 2, 3]);
        assert_eq!([0, 1, 2, 3, 4].map(|one| few.contains(&one)), [false, true, true, true, false]);
        assert_eq!(few, BTreeSet::from([3, 2, 1]).into());
        let mut few = few;
        few.insert(2);
        few.insert(0);
        few.retain(|one| *one != 3);
        assert_eq!(few[..], [0, 1, 2]);
    }
}
