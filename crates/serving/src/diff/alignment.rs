//! Which row of one set is which row of another: by entity key, time, and occurrence, for several rows may have both in common.

use std::collections::HashMap;

use arrow::row::Rows;
use feature::digest::BLOCK_ROWS;

/// Rows that both sets have, and those that only one has.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Alignment {
    /// Row of the first set and row of the other, in the order of the first.
    pub pairs: Vec<(u32, u32)>,
    /// Rows of the first set alone.
    pub removed: Vec<u32>,
    /// Rows of the other set alone.
    pub added: Vec<u32>,
    /// Places in `pairs` of rows that stand elsewhere: the fewest without which all others are in the same order.
    pub moved: Vec<u32>,
}

/// Aligns rows by their keys, as comparable bytes. Of rows with one key the first meets the first, the second the second.
pub fn align(a: &Rows, b: &Rows) -> Alignment {
    // By key, the first row of the other set that no row has met yet; then from each row to the next of its key.
    let mut heads: HashMap<&[u8], Option<u32>> = HashMap::with_capacity(b.num_rows());
    let mut next: Vec<Option<u32>> = vec![None; b.num_rows()];
    for row in (0..b.num_rows()).rev() {
        let head = heads.entry(b.row(row).data()).or_default();
        next[row] = head.replace(row as u32);
    }
    let mut alignment = Alignment::default();
    let mut met = vec![false; b.num_rows()];
    for row in 0..a.num_rows() {
        let found = match heads.get_mut(a.row(row).data()) {
            Some(head) => {
                let found = *head;
                *head = found.and_then(|found| next[found as usize]);
                found
            }
            None => None,
        };
        match found {
            Some(other) => {
                met[other as usize] = true;
                alignment.pairs.push((row as u32, other));
            }
            None => alignment.removed.push(row as u32),
        }
    }
    alignment.added = (0..b.num_rows()).filter(|row| !met[*row]).map(|row| row as u32).collect();
    alignment.moved = moved(&alignment.pairs);
    alignment
}

/// The alignment of sets whose rows are the same, in some blocks.
pub fn identical(blocks: &[usize], rows: usize) -> Alignment {
    let rows = blocks
        .iter()
        .flat_map(|block| (block * BLOCK_ROWS).min(rows)..((block + 1) * BLOCK_ROWS).min(rows))
        .map(|row| (row as u32, row as u32));
    Alignment { pairs: rows.collect(), ..Alignment::default() }
}

/// The occurrence of each row: how many rows of its key stand before it.
pub fn occurrences(rows: &Rows) -> Vec<u32> {
    let mut seen: HashMap<&[u8], u32> = HashMap::with_capacity(rows.num_rows());
    rows.iter()
        .map(|row| {
            let count = seen.entry(row.data()).or_default();
            *count += 1;
            *count - 1
        })
        .collect()
}

/// All but a longest stretch of pairs in which both sides ascend.
fn moved(pairs: &[(u32, u32)]) -> Vec<u32> {
    if pairs.is_sorted_by_key(|(_, other)| *other) {
        return Vec::new();
    }
    // By length, the place whose stretch of that length ends lowest; and from each place to the one before it.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = vec![None; pairs.len()];
    for (place, (_, other)) in pairs.iter().enumerate() {
        let length = ends.partition_point(|end| pairs[*end].1 < *other);
        before[place] = length.checked_sub(1).map(|shorter| ends[shorter]);
        if length == ends.len() {
            ends.push(place);
        } else {
            ends[length] = place;
        }
    }
    let mut stays = vec![false; pairs.len()];
    let mut place = ends.last().copied();
    while let Some(kept) = place {
        stays[kept] = true;
        place = before[kept];
    }
    (0..pairs.len()).filter(|place| !stays[*place]).map(|place| place as u32).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};
    use engine::point_in_time::equal_bytes;
    use proptest::prelude::*;

    use super::*;

    fn rows(keys: &[i64]) -> Rows {
        let column: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
        equal_bytes(&[column]).unwrap()
    }

    #[test]
    fn rows_are_aligned_by_key_and_occurrence() {
        let found = align(&rows(&[1, 2, 1, 3]), &rows(&[1, 1, 1, 2, 4]));
        assert_eq!(found.pairs, [(0, 0), (1, 3), (2, 1)]);
        assert_eq!((found.removed, found.added, found.moved), (vec![3], vec![2, 4], vec![1]));
        assert_eq!(occurrences(&rows(&[5, 7, 5, 5])), [0, 0, 1, 2]);
    }

    #[test]
    fn rows_that_only_make_room_are_not_moved() {
        let found = align(&rows(&[1, 2, 3, 4]), &rows(&[9, 1, 2, 8, 3, 4]));
        assert_eq!((found.moved.len(), found.added.len()), (0, 2));
        let found = align(&rows(&[1, 2, 3, 4]), &rows(&[4, 1, 2, 3]));
        assert_eq!(found.moved, [3]);
    }

    proptest! {
        #[test]
        fn as_few_rows_are_moved_as_can_be(keys in prop::collection::vec(0i64..9, 0..9), other in prop::collection::vec(0i64..9, 0..9)) {
            let found = align(&rows(&keys), &rows(&other));
            prop_assert_eq!(found.pairs.len() + found.removed.len(), keys.len());
            prop_assert_eq!(found.pairs.len() + found.added.len(), other.len());
            for (one, two) in &found.pairs {
                prop_assert_eq!(keys[*one as usize], other[*two as usize]);
            }
            // No choice of rows to leave out is smaller and leaves the rest in order.
            let count = found.pairs.len();
            let fewest = (0..1u32 << count)
                .filter(|out| {
                    let left = (0..count).filter(|place| out & (1 << place) == 0).map(|place| found.pairs[place].1);
                    left.is_sorted()
                })
                .map(u32::count_ones)
                .min();
            prop_assert_eq!(Some(found.moved.len() as u32), fewest);
        }
    }
}
