//! Trees that are kept for long.

use std::collections::BTreeMap;

/// Fills the nodes of a tree, which are half empty where it grew in ascending order.
pub(crate) fn pack<K: Ord, V>(tree: &mut BTreeMap<K, V>) {
    *tree = std::mem::take(tree).into_iter().collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_tree_holds_what_it_held() {
        let mut tree = BTreeMap::new();
        for number in 0..100 {
            tree.insert(number, number * 2);
        }
        let before = tree.clone();
        pack(&mut tree);
        assert_eq!(tree, before);
    }
}
