//! The distinct keys of a spine, numbered in the order of files, and found again among the keys of a sorted file.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, partition, take};
use arrow::datatypes::{
    DataType, Date32Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow::row::{RowConverter, SortField};
use datafusion::common::Result;
use foldhash::fast::RandomState;

use super::pauses::{pause_within, sort, stretches};

/// Stands for a row without a key.
pub const NO_GROUP: u32 = u32::MAX;

/// A run of one key in a file: the spine's number of the key, and the file's rows from `from` to before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRun {
    pub group: u32,
    pub from: usize,
    pub until: usize,
}

/// The distinct keys of a spine, ascending as files are sorted; a key's number is its place.
#[derive(Debug)]
pub enum KeyGroups {
    /// No key: every row is of one group.
    All,
    /// One whole-numbered column: most keys are, and need no encoding to be compared.
    Whole(Vec<u64>),
    /// Any columns, in Arrow's row format.
    Rows { converter: RowConverter, types: Vec<DataType>, keys: Vec<Box<[u8]>> },
}

impl KeyGroups {
    /// Numbers the keys, and gives each row the number of its key; rows in `nulls` get none.
    pub async fn number(
        keys: &[ArrayRef],
        rows: usize,
        nulls: Option<&NullBuffer>,
    ) -> Result<(Self, Vec<u32>)> {
        let usable = |row: usize| nulls.is_none_or(|nulls| nulls.is_valid(row));
        let mut group_of = Vec::with_capacity(rows);
        if keys.is_empty() {
            group_of.extend((0..rows).map(|row| if usable(row) { 0 } else { NO_GROUP }));
            return Ok((Self::All, group_of));
        }
        if let [key] = keys
            && let Some(values) = whole(key)
        {
            if let Some(numbered) = number_by_value(&values, usable) {
                return Ok(numbered);
            }
            let mut numbers: HashMap<u64, u32, RandomState> = HashMap::default();
            for part in stretches(0..rows) {
                for (row, value) in part.clone().zip(&values[part.clone()]) {
                    let next = numbers.len() as u32;
                    group_of.push(if usable(row) {
                        *numbers.entry(*value).or_insert(next)
                    } else {
                        NO_GROUP
                    });
                }
                pause_within(part.end, rows).await;
            }
            return Ok((Self::Whole(ascending(numbers, &mut group_of).await), group_of));
        }
        let types: Vec<DataType> = keys.iter().map(|key| key.data_type().clone()).collect();
        let converter = RowConverter::new(types.iter().cloned().map(SortField::new).collect())?;
        let mut numbers: HashMap<Box<[u8]>, u32, RandomState> = HashMap::default();
        for part in stretches(0..rows) {
            let columns: Vec<ArrayRef> = keys.iter().map(|key| key.slice(part.start, part.len())).collect();
            for (row, encoded) in part.clone().zip(&converter.convert_columns(&columns)?) {
                if !usable(row) {
                    group_of.push(NO_GROUP);
                } else if let Some(number) = numbers.get(encoded.data()) {
                    group_of.push(*number);
                } else {
                    let next = numbers.len() as u32;
                    numbers.insert(encoded.data().into(), next);
                    group_of.push(next);
                }
            }
            pause_within(part.end, rows).await;
        }
        let keys = ascending(numbers, &mut group_of).await;
        Ok((Self::Rows { converter, types, keys }, group_of))
    }

    /// The number of each row's key, of rows in any order; `NO_GROUP` where the spine has it not, or a part of it is null.
    pub async fn find(&self, keys: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let mut nulls: Option<NullBuffer> = None;
        for key in keys {
            nulls = NullBuffer::union(nulls.as_ref(), key.logical_nulls().as_ref());
        }
        let usable = |row: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        let place = |found: Result<usize, usize>| found.map_or(NO_GROUP, |place| place as u32);
        let mut numbers = Vec::with_capacity(rows);
        match self {
            Self::All => numbers.resize(rows, 0),
            Self::Whole(known) => {
                let values = keys.first().and_then(whole).unwrap_or_default();
                for part in stretches(0..rows.min(values.len())) {
                    let number = |row: usize| match usable(row) {
                        true => place(known.binary_search(&values[row])),
                        false => NO_GROUP,
                    };
                    numbers.extend(part.clone().map(number));
                    pause_within(part.end, rows).await;
                }
                numbers.resize(rows, NO_GROUP);
            }
            Self::Rows { converter, types, keys: known } => {
                for part in stretches(0..rows) {
                    let columns = keys
                        .iter()
                        .zip(types)
                        .map(|(key, kind)| Ok(cast(&key.slice(part.start, part.len()), kind)?))
                        .collect::<Result<Vec<_>>>()?;
                    for (row, key) in part.clone().zip(&converter.convert_columns(&columns)?) {
                        let number = || place(known.binary_search_by(|known| (**known).cmp(key.data())));
                        numbers.push(if usable(row) { number() } else { NO_GROUP });
                    }
                    pause_within(part.end, rows).await;
                }
            }
        }
        Ok(numbers)
    }

    pub fn len(&self) -> usize {
        match self {
            Self::All => 1,
            Self::Whole(keys) => keys.len(),
            Self::Rows { keys, .. } => keys.len(),
        }
    }

    /// The runs of a sorted file's keys that the spine has, in the order of the file, which is that of the numbers.
    pub fn runs(&self, keys: &[ArrayRef], rows: usize) -> Result<Vec<KeyRun>> {
        if rows == 0 {
            return Ok(Vec::new());
        }
        match self {
            Self::All => Ok(vec![KeyRun { group: 0, from: 0, until: rows }]),
            Self::Whole(known) => {
                let Some(values) = keys.first().and_then(whole) else { return Ok(Vec::new()) };
                let mut runs = Vec::new();
                if known.len() < rows / FEW_OF_ROWS {
                    let mut from = 0;
                    for (group, key) in (0u32..).zip(known) {
                        from = gallop(&values, from, |value| value < key);
                        let until = gallop(&values, from, |value| value == key);
                        if until > from {
                            runs.push(KeyRun { group, from, until });
                        }
                        from = until;
                    }
                    return Ok(runs);
                }
                let mut next = 0;
                let mut from = 0;
                while let Some(key) = values.get(from) {
                    let until = gallop(&values, from, |value| value == key);
                    next = gallop(known, next, |known| known < key);
                    if known.get(next) == Some(key) {
                        runs.push(KeyRun { group: next as u32, from, until });
                    }
                    from = until;
                }
                Ok(runs)
            }
            Self::Rows { converter, types, keys: known } => {
                // Only the first row of each run is encoded.
                let ranges = partition(keys)?.ranges();
                let firsts = UInt32Array::from_iter_values(ranges.iter().map(|range| range.start as u32));
                let firsts = keys
                    .iter()
                    .zip(types)
                    .map(|(key, kind)| Ok(cast(&take(key, &firsts, None)?, kind)?))
                    .collect::<Result<Vec<_>>>()?;
                let encoded = converter.convert_columns(&firsts)?;
                let mut runs = Vec::new();
                let mut next = 0;
                for (range, key) in ranges.into_iter().zip(&encoded) {
                    next = gallop(known, next, |known| known.as_ref() < key.data());
                    if known.get(next).is_some_and(|known| known.as_ref() == key.data()) {
                        runs.push(KeyRun { group: next as u32, from: range.start, until: range.end });
                    }
                }
                Ok(runs)
            }
        }
    }
}

/// Numbers whole keys by a table of all values between the least and the greatest. None where it would have far more places than rows.
fn number_by_value(values: &[u64], usable: impl Fn(usize) -> bool) -> Option<(KeyGroups, Vec<u32>)> {
    let of_rows = || values.iter().enumerate().filter(|(row, _)| usable(*row)).map(|(_, value)| *value);
    let (least, greatest) = (of_rows().min()?, of_rows().max()?);
    let places = usize::try_from(greatest - least).ok()?.checked_add(1)?;
    if places > values.len().saturating_mul(MOST_PLACES_A_ROW) {
        return None;
    }
    let mut numbers = vec![NO_GROUP; places];
    for value in of_rows() {
        numbers[(value - least) as usize] = 0;
    }
    let mut keys = Vec::new();
    for (place, number) in (0u64..).zip(&mut numbers).filter(|(_, number)| **number != NO_GROUP) {
        *number = keys.len() as u32;
        keys.push(least + place);
    }
    let number = |(row, value): (usize, &u64)| match usable(row) {
        true => numbers[(value - least) as usize],
        false => NO_GROUP,
    };
    let group_of = values.iter().enumerate().map(number).collect();
    Some((KeyGroups::Whole(keys), group_of))
}

/// The keys in ascending order; numbers that were given as they came become places in it.
async fn ascending<K: Ord + Send>(numbers: HashMap<K, u32, RandomState>, group_of: &mut [u32]) -> Vec<K> {
    let mut keys: Vec<(K, u32)> = numbers.into_iter().collect();
    sort(&mut keys).await;
    let mut places = vec![0; keys.len()];
    for (place, (_, number)) in (0u32..).zip(&keys) {
        places[*number as usize] = place;
    }
    let rows = group_of.len();
    for part in stretches(0..rows) {
        for group in group_of[part.clone()].iter_mut().filter(|group| **group != NO_GROUP) {
            *group = places[*group as usize];
        }
        pause_within(part.end, rows).await;
    }
    keys.into_iter().map(|(key, _)| key).collect()
}

/// The first place from `from` on that the condition does not hold for; it holds for a prefix. A short way costs few steps, a long one a
/// logarithm.
pub(super) fn gallop<T>(values: &[T], from: usize, holds: impl Fn(&T) -> bool) -> usize {
    let values = &values[from.min(values.len())..];
    let mut bound = 1;
    while bound <= values.len() && holds(&values[bound - 1]) {
        bound *= 2;
    }
    let low = bound / 2;
    let high = values.len().min(bound);
    from + low + values[low..high].partition_point(holds)
}

/// Where the spine has fewer keys than this share of a file's rows, they are looked for in the file, else the file's among them.
const FEW_OF_ROWS: usize = 16;
/// A table of more places would leave the cores' caches, where hashing the keys costs no more.
const MOST_PLACES_A_ROW: usize = 4;

/// The values of a whole-numbered column as 64 bits that order as they do; whatever lies under a null among them.
fn whole(column: &ArrayRef) -> Option<Vec<u64>> {
    macro_rules! signed {
        ($kind:ty) => {
            column
                .as_primitive_opt::<$kind>()?
                .values()
                .iter()
                .map(|value| *value as u64 ^ (1 << 63))
                .collect()
        };
    }
    macro_rules! unsigned {
        ($kind:ty) => {
            column.as_primitive_opt::<$kind>()?.values().iter().map(|value| u64::from(*value)).collect()
        };
    }
    Some(match column.data_type() {
        DataType::Int8 => signed!(Int8Type),
        DataType::Int16 => signed!(Int16Type),
        DataType::Int32 => signed!(Int32Type),
        DataType::Int64 => signed!(Int64Type),
        DataType::UInt8 => unsigned!(UInt8Type),
        DataType::UInt16 => unsigned!(UInt16Type),
        DataType::UInt32 => unsigned!(UInt32Type),
        DataType::UInt64 => unsigned!(UInt64Type),
        DataType::Date32 => signed!(Date32Type),
        DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, _) => signed!(TimestampMicrosecondType),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use std::sync::Arc;

    #[tokio::test]
    async fn runs_are_found_whatever_their_lengths_and_however_many_keys_there_are() {
        let lengths = [1usize, 2, 3, 1, 7, 8, 9, 64, 1];
        let mut values: Vec<i64> = Vec::new();
        let mut expected = Vec::new();
        for (key, length) in lengths.into_iter().enumerate() {
            expected.push((key as i64 - 4, values.len(), values.len() + length));
            values.extend(std::iter::repeat_n(key as i64 - 4, length));
        }
        let rows = values.len();
        let file: ArrayRef = Arc::new(Int64Array::from(values));
        // The last ones are too far apart for a table.
        for asked in
            [vec![-4], vec![4, -4, 0, 9, -9], (-50..50).rev().collect(), vec![4, i64::MIN, -4, i64::MAX]]
        {
            let spine: ArrayRef = Arc::new(Int64Array::from(asked.clone()));
            let (groups, of) = KeyGroups::number(&[spine], asked.len(), None).await.unwrap();
            let number = |key: i64| asked.iter().position(|asked| *asked == key).map(|row| of[row]);
            let runs = expected.iter().filter_map(|(key, from, until)| {
                Some(KeyRun { group: number(*key)?, from: *from, until: *until })
            });
            assert_eq!(
                groups.runs(std::slice::from_ref(&file), rows).unwrap(),
                runs.collect::<Vec<_>>(),
                "{asked:?}"
            );
        }
        assert!(KeyGroups::Whole(vec![1]).runs(&[file.slice(0, 0)], 0).unwrap().is_empty());
    }

    #[tokio::test]
    async fn keys_of_a_file_are_found_by_number() {
        let spine: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), Some(-1), None, Some(7)]));
        let nulls = spine.nulls().cloned();
        let (groups, of) = KeyGroups::number(&[spine], 4, nulls.as_ref()).await.unwrap();
        assert_eq!(of, [1, 0, NO_GROUP, 1]);
        let file: ArrayRef = Arc::new(Int64Array::from(vec![-1, -1, 3, 7]));
        let expected = [KeyRun { group: 0, from: 0, until: 2 }, KeyRun { group: 1, from: 3, until: 4 }];
        assert_eq!(groups.runs(&[file], 4).unwrap(), expected);
        let others: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None, Some(3), Some(-1)]));
        assert_eq!(groups.find(&[others], 4).await.unwrap(), [1, NO_GROUP, NO_GROUP, 0]);
        assert_eq!(KeyGroups::All.find(&[], 2).await.unwrap(), [0, 0]);
    }

    #[tokio::test]
    async fn keys_of_several_columns_too() {
        let spine: [ArrayRef; 2] =
            [Arc::new(StringArray::from(vec!["b", "a"])), Arc::new(Int64Array::from(vec![1, 2]))];
        let (groups, of) = KeyGroups::number(&spine, 2, None).await.unwrap();
        assert_eq!(of, [1, 0]);
        let file: [ArrayRef; 2] = [
            Arc::new(StringArray::from(vec!["a", "a", "a", "b"])),
            Arc::new(Int64Array::from(vec![1, 2, 2, 1])),
        ];
        let expected = [KeyRun { group: 0, from: 1, until: 3 }, KeyRun { group: 1, from: 3, until: 4 }];
        assert_eq!(groups.runs(&file, 4).unwrap(), expected);
        let others: [ArrayRef; 2] = [
            Arc::new(StringArray::from(vec![Some("b"), Some("a"), None, Some("a")])),
            Arc::new(Int64Array::from(vec![1, 2, 2, 3])),
        ];
        assert_eq!(groups.find(&others, 4).await.unwrap(), [1, 0, NO_GROUP, NO_GROUP]);
    }
}
