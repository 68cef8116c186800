//! The hash tree over the blocks of a column, shaped as in RFC 9162.

use super::hasher::{HashAlgorithm, Hasher};

/// The root over the leaves; that of no leaves is the hash of nothing.
pub(super) fn root(algorithm: HashAlgorithm, leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => Hasher::new(algorithm).finish(),
        [leaf] => *leaf,
        _ => {
            // The greatest power of two below the number of leaves.
            let first = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(first);
            let mut hasher = Hasher::new(algorithm);
            hasher.update(&[0x01]);
            hasher.update(&root(algorithm, left));
            hasher.update(&root(algorithm, right));
            hasher.finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hash;
    use super::*;

    #[test]
    fn the_tree_splits_at_the_greatest_power_of_two() {
        let algorithm = HashAlgorithm::Blake3;
        let leaf = |i: u8| [i; 32];
        let node =
            |left: [u8; 32], right: [u8; 32]| *hash(algorithm, &[&[1][..], &left, &right].concat()).bytes();
        let leaves: Vec<_> = (0..6).map(leaf).collect();
        assert_eq!(root(algorithm, &[]), *hash(algorithm, b"").bytes());
        assert_eq!(root(algorithm, &leaves[..1]), leaf(0));
        assert_eq!(root(algorithm, &leaves[..2]), node(leaf(0), leaf(1)));
        assert_eq!(root(algorithm, &leaves[..3]), node(node(leaf(0), leaf(1)), leaf(2)));
        let four = node(node(leaf(0), leaf(1)), node(leaf(2), leaf(3)));
        assert_eq!(root(algorithm, &leaves[..4]), four);
        assert_eq!(root(algorithm, &leaves[..5]), node(four, leaf(4)));
        assert_eq!(root(algorithm, &leaves), node(four, node(leaf(4), leaf(5))));
    }
}
