//! Sets that are kept for long, seldom change, and mostly hold few: a certificate has a name or two, and a
//! tree of them has room for eleven.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;
use std::slice;

use serde::{Serialize, Serializer};

/// In ascending order, each once, and with room for no more; a single one takes no room elsewhere.
#[derive(Clone)]
pub struct Few<T>(Kept<T>);

#[derive(Clone)]
enum Kept<T> {
    One(T),
    /// None, or several.
    Others(Box<[T]>),
}

impl<T: Ord> Few<T> {
    /// Whether this is one of them.
    pub fn contains<Q: Ord + ?Sized>(&self, value: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.binary_search_by(|one| one.borrow().cmp(value)).is_ok()
    }

    /// Puts one more in, if it is not there.
    pub fn insert(&mut self, one: T) {
        let mut all = std::mem::take(self).into_vec();
        if let Err(place) = all.binary_search(&one) {
            all.insert(place, one);
        }
        *self = Self::kept(all);
    }

    /// Keeps those that `stays` says.
    pub fn retain(&mut self, stays: impl FnMut(&T) -> bool) {
        let mut all = std::mem::take(self).into_vec();
        all.retain(stays);
        *self = Self::kept(all);
    }
}

impl<T> Few<T> {
    /// Of those in order.
    fn kept(mut all: Vec<T>) -> Self {
        Self(match all.pop() {
            Some(one) if all.is_empty() => Kept::One(one),
            last => {
                all.extend(last);
                Kept::Others(all.into())
            }
        })
    }

    fn into_vec(self) -> Vec<T> {
        match self.0 {
            Kept::One(one) => vec![one],
            Kept::Others(all) => all.into(),
        }
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Kept::Others(Box::default()))
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Kept::One(one) => slice::from_ref(one),
            Kept::Others(all) => all,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Few<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Few<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Few<T> {}

impl<T: Serialize> Serialize for Few<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<T: Ord> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        let mut all = Vec::from_iter(all);
        all.sort_unstable();
        all.dedup();
        Self::kept(all)
    }
}

impl<T: Ord, const N: usize> From<[T; N]> for Few<T> {
    fn from(all: [T; N]) -> Self {
        all.into_iter().collect()
    }
}

impl<T: Ord> From<BTreeSet<T>> for Few<T> {
    fn from(all: BTreeSet<T>) -> Self {
        Self::kept(all.into_iter().collect())
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.into_vec().into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
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
        few.retain(|one| *one == 1);
        assert_eq!((&few, &few[..]), (&[1].into(), &[1][..]));
        few.retain(|_| false);
        assert_eq!(few, Few::default());
        few.insert(7);
        assert_eq!(few.into_iter().collect::<Vec<_>>(), [7]);
    }
}
