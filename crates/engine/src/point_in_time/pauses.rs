//! Where long work lets others have their turn. A task that nobody waits for any more ends where it pauses next, so that whoever drops a
//! query is heard within the time that one stretch takes.

use std::ops::Range;

/// Rows between two pauses: some milliseconds of work at most.
pub const ROWS_AT_ONCE: usize = 1 << 16;
/// What is sorted in one go.
const SORTED_AT_ONCE: usize = 1 << 17;

pub async fn pause() {
    tokio::task::yield_now().await;
}

/// A pause where there is more to do.
pub async fn pause_within(done: usize, all: usize) {
    if done < all {
        pause().await;
    }
}

/// A range in stretches, for a pause between each two.
pub fn stretches(rows: Range<usize>) -> impl Iterator<Item = Range<usize>> + Send {
    let until = rows.end;
    rows.step_by(ROWS_AT_ONCE).map(move |from| from..until.min(from + ROWS_AT_ONCE))
}

/// Sorts in stretches. Equal values must not be told apart.
pub async fn sort<T: Ord + Send>(values: &mut [T]) {
    let mut waiting = vec![values];
    while let Some(part) = waiting.pop() {
        if part.len() <= SORTED_AT_ONCE {
            part.sort_unstable();
        } else {
            let middle = part.len() / 2;
            part.select_nth_unstable(middle);
            let (low, high) = part.split_at_mut(middle);
            waiting.extend([high, low]);
        }
        pause_within(0, waiting.len()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_sorted_in_stretches_is_sorted_as_a_whole() {
        let count = 5 * SORTED_AT_ONCE as u64 + 3;
        let drawn = |row: u64| row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let mut values: Vec<u64> = (0..count).map(drawn).collect();
        let mut expected = values.clone();
        expected.sort_unstable();
        sort(&mut values).await;
        assert!(values == expected);
    }

    #[test]
    fn stretches_are_the_range() {
        let ranges = |rows: Range<usize>| -> Vec<(usize, usize)> {
            stretches(rows).map(|part| (part.start, part.end)).collect()
        };
        assert!(ranges(3..3).is_empty());
        assert_eq!(ranges(3..5), [(3, 5)]);
        let most = ROWS_AT_ONCE + 4;
        assert_eq!(ranges(4..most + 1), [(4, most), (most, most + 1)]);
    }
}
