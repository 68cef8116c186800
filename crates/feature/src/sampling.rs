//! Which entities a share of them is: a function of the key alone, so that it is the same whoever asks, at any time and in any process.

use arrow::array::{Array, ArrayRef, BooleanArray, UInt64Array};
use arrow::compute::{filter, take};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::key::{CanonicalKeys, KeyError};

/// Another seed than that of buckets: else a sample would be some buckets whole.
const SEED: u64 = 1;
/// 2^64
const HASHES: f64 = 18_446_744_073_709_551_616.0;

/// The rows, ascending, whose entity is in the share (0 to 1): XXH3-64 with seed 1 of its canonical key, over 2^64, is less. Every greater
/// share has the entities of a lesser one. Rows with a null in their key are in none.
///
/// # Errors
/// Those of [`CanonicalKeys::new`] but for nulls.
pub fn rows_of_share(keys: &[ArrayRef], share: f64) -> Result<Vec<u64>, KeyError> {
    let Some(first) = keys.first() else { return Err(KeyError::NoColumns) };
    let rows = first.len();
    let nulls = keys.iter().any(|key| key.logical_null_count() > 0);
    if !nulls {
        return within(keys, share, |row| row);
    }
    let whole: BooleanArray = (0..rows)
        .map(|row| Some(keys.iter().all(|key| key.logical_nulls().is_none_or(|nulls| nulls.is_valid(row)))))
        .collect();
    let places: Vec<u64> = (0..rows as u64).filter(|row| whole.value(*row as usize)).collect();
    let kept = keys.iter().enumerate().map(|(part, key)| {
        filter(key, &whole).map_err(|error| KeyError::Array { part: part + 1, why: error.to_string() })
    });
    within(&kept.collect::<Result<Vec<_>, _>>()?, share, |row| places[row as usize])
}

fn within(keys: &[ArrayRef], share: f64, place: impl Fn(u64) -> u64) -> Result<Vec<u64>, KeyError> {
    let keys = CanonicalKeys::new(keys)?;
    if share >= 1.0 {
        return Ok((0..keys.rows() as u64).map(place).collect());
    }
    // Of no share and of none that is a number: no entity.
    let below = (share.max(0.0) * HASHES) as u64;
    let (mut bytes, mut found) = (Vec::new(), Vec::new());
    for row in 0..keys.rows() {
        bytes.clear();
        keys.write(row, &mut bytes)?;
        if xxh3_64_with_seed(&bytes, SEED) < below {
            found.push(place(row as u64));
        }
    }
    Ok(found)
}

/// These rows of a column.
///
/// # Errors
/// Where there is no such row.
pub fn rows_of(column: &ArrayRef, rows: &[u64]) -> Result<ArrayRef, arrow::error::ArrowError> {
    take(column, &UInt64Array::from_iter_values(rows.iter().copied()), None)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use arrow::array::{DictionaryArray, Int32Array, Int64Array, StringArray};
    use arrow::datatypes::Int8Type;

    use super::*;

    fn numbers(from: i64, until: i64) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(from..until))
    }

    #[test]
    fn a_share_is_of_entities_and_grows() {
        let keys = numbers(0, 100_000);
        let mut before = BTreeSet::new();
        for share in [0.0, 0.01, 0.05, 0.5, 1.0] {
            let rows: BTreeSet<u64> =
                rows_of_share(std::slice::from_ref(&keys), share).unwrap().into_iter().collect();
            assert!(before.is_subset(&rows), "{share}");
            // Five standard deviations of a binomial.
            let spread = (100_000.0 * share * (1.0 - share)).sqrt();
            assert!((rows.len() as f64 - 100_000.0 * share).abs() <= 5.0 * spread, "{share}: {}", rows.len());
            before = rows;
        }
    }

    #[test]
    fn the_same_entities_in_any_piece_and_width() {
        let whole = rows_of_share(&[numbers(0, 1_000)], 0.1).unwrap();
        let parts = [(0, 300), (300, 301), (301, 1_000)].into_iter().flat_map(|(from, until)| {
            let rows = rows_of_share(&[numbers(from, until)], 0.1).unwrap();
            rows.into_iter().map(move |row| row + from as u64)
        });
        assert_eq!(parts.collect::<Vec<_>>(), whole);
        let narrow: ArrayRef = Arc::new(Int32Array::from_iter_values(0..1_000));
        assert_eq!(rows_of_share(&[narrow], 0.1).unwrap(), whole);
    }

    #[test]
    fn rows_without_a_key_are_in_no_share() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("JFK"), None, Some("LGA"), Some("EWR")]));
        let gates: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(2), None, Some(4)]));
        assert_eq!(rows_of_share(&[texts.clone(), gates], 1.0).unwrap(), [0, 3]);
        let keyed: DictionaryArray<Int8Type> =
            vec![Some("JFK"), None, Some("LGA"), Some("EWR")].into_iter().collect();
        assert_eq!(rows_of_share(&[Arc::new(keyed)], 0.6).unwrap(), rows_of_share(&[texts], 0.6).unwrap());
    }
}
