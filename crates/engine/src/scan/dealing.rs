//! What a plan's partitions read.

/// Shares things out so that each partition has about as many rows; each keeps the order that they are given in. There are no more
/// partitions than things.
pub fn deal<T>(things: Vec<T>, partitions: usize, rows: impl Fn(&T) -> u64) -> Vec<Vec<T>> {
    let partitions = partitions.clamp(1, things.len().max(1));
    let mut dealt: Vec<(u64, Vec<T>)> = Vec::new();
    dealt.resize_with(partitions, || (0, Vec::new()));
    for thing in things {
        // The first of equals, so that the same things are dealt in the same way.
        if let Some((load, share)) = dealt.iter_mut().min_by_key(|(load, share)| (*load, share.len())) {
            *load += rows(&thing);
            share.push(thing);
        }
    }
    dealt.into_iter().map(|(_, share)| share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_shared_out_evenly_and_in_order() {
        assert_eq!(deal(vec![8, 1, 2, 3], 2, |rows| *rows), [vec![8], vec![1, 2, 3]]);
        assert_eq!(deal(vec![0, 0, 0], 2, |rows| *rows), [vec![0, 0], vec![0]]);
        assert_eq!(deal(vec![5], 4, |rows| *rows), [vec![5]]);
        assert_eq!(deal(Vec::<u64>::new(), 4, |rows| *rows), [Vec::<u64>::new()]);
    }
}
