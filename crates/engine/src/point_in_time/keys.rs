//! The distinct keys of a spine, numbered, and found again among the keys of a sorted file.

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

/// Stands for a row without a key.
pub const NO_GROUP: u32 = u32::MAX;

/// A run of one key in a file: the spine's number of the key, and the file's rows from `from` to before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRun {
    pub group: u32,
    pub from: usize,
    pub until: usize,
}

/// The numbers of a spine's distinct keys.
#[derive(Debug)]
pub enum KeyGroups {
    /// No key: every row is of one group.
    All,
    /// One whole-numbered column: most keys are, and need no encoding to be compared.
    Whole(HashMap<u64, u32, RandomState>),
    /// Any columns, in Arrow's row format.
    Rows { converter: RowConverter, types: Vec<DataType>, numbers: HashMap<Box<[u8]>, u32, RandomState> },
}

impl KeyGroups {
    /// Numbers the keys in the order in which they come first, and gives each row its number; rows in `nulls` get none.
    pub fn number(keys: &[ArrayRef], rows: usize, nulls: Option<&NullBuffer>) -> Result<(Self, Vec<u32>)> {
        let usable = |row: usize| nulls.is_none_or(|nulls| nulls.is_valid(row));
        let mut group_of = Vec::with_capacity(rows);
        if keys.is_empty() {
            group_of.extend((0..rows).map(|row| if usable(row) { 0 } else { NO_GROUP }));
            return Ok((Self::All, group_of));
        }
        if let [key] = keys
            && let Some(values) = whole(key)
        {
            let mut numbers: HashMap<u64, u32, RandomState> = HashMap::default();
            for (row, value) in values.into_iter().enumerate() {
                let next = numbers.len() as u32;
                group_of.push(if usable(row) { *numbers.entry(value).or_insert(next) } else { NO_GROUP });
            }
            return Ok((Self::Whole(numbers), group_of));
        }
        let types: Vec<DataType> = keys.iter().map(|key| key.data_type().clone()).collect();
        let converter = RowConverter::new(types.iter().cloned().map(SortField::new).collect())?;
        let mut numbers: HashMap<Box<[u8]>, u32, RandomState> = HashMap::default();
        for from in (0..rows).step_by(ROWS_AT_ONCE) {
            let count = ROWS_AT_ONCE.min(rows - from);
            let part: Vec<ArrayRef> = keys.iter().map(|key| key.slice(from, count)).collect();
            for (row, encoded) in (from..).zip(&converter.convert_columns(&part)?) {
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
        }
        Ok((Self::Rows { converter, types, numbers }, group_of))
    }

    pub fn len(&self) -> usize {
        match self {
            Self::All => 1,
            Self::Whole(numbers) => numbers.len(),
            Self::Rows { numbers, .. } => numbers.len(),
        }
    }

    /// The runs of a sorted file's keys that the spine has, in the order of the file.
    pub fn runs(&self, keys: &[ArrayRef], rows: usize) -> Result<Vec<KeyRun>> {
        if rows == 0 {
            return Ok(Vec::new());
        }
        match self {
            Self::All => Ok(vec![KeyRun { group: 0, from: 0, until: rows }]),
            Self::Whole(numbers) => {
                let Some(values) = keys.first().and_then(whole) else { return Ok(Vec::new()) };
                let mut runs = Vec::new();
                for (from, until) in runs_of(&values) {
                    if let Some(group) = numbers.get(&values[from]) {
                        runs.push(KeyRun { group: *group, from, until });
                    }
                }
                Ok(runs)
            }
            Self::Rows { converter, types, numbers } => {
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
                for (range, key) in ranges.into_iter().zip(&encoded) {
                    if let Some(group) = numbers.get(key.data()) {
                        runs.push(KeyRun { group: *group, from: range.start, until: range.end });
                    }
                }
                Ok(runs)
            }
        }
    }
}

const ROWS_AT_ONCE: usize = 65_536;

/// Where each run of equal values begins and ends. Gallops, for runs are long where entities have a history.
fn runs_of(values: &[u64]) -> impl Iterator<Item = (usize, usize)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let value = *values.get(from)?;
        let start = from;
        let mut known = start;
        let mut step = 1;
        while values.get(known + step) == Some(&value) {
            known += step;
            step *= 2;
        }
        let end = values.len().min(known + step);
        from = known + 1 + values[known + 1..end].partition_point(|other| *other == value);
        Some((start, from))
    })
}

/// The values of a whole-numbered column as 64 bits, equal where they are equal; whatever lies under a null among them.
fn whole(column: &ArrayRef) -> Option<Vec<u64>> {
    macro_rules! values {
        ($kind:ty) => {
            column.as_primitive_opt::<$kind>()?.values().iter().map(|value| *value as u64).collect()
        };
    }
    Some(match column.data_type() {
        DataType::Int8 => values!(Int8Type),
        DataType::Int16 => values!(Int16Type),
        DataType::Int32 => values!(Int32Type),
        DataType::Int64 => values!(Int64Type),
        DataType::UInt8 => values!(UInt8Type),
        DataType::UInt16 => values!(UInt16Type),
        DataType::UInt32 => values!(UInt32Type),
        DataType::UInt64 => values!(UInt64Type),
        DataType::Date32 => values!(Date32Type),
        DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, _) => values!(TimestampMicrosecondType),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use std::sync::Arc;

    #[test]
    fn runs_are_found_whatever_their_lengths() {
        let mut values = Vec::new();
        let mut expected = Vec::new();
        for (value, length) in [1usize, 2, 3, 1, 7, 8, 9, 64, 1].into_iter().enumerate() {
            expected.push((values.len(), values.len() + length));
            values.extend(std::iter::repeat_n(value as u64, length));
        }
        assert_eq!(runs_of(&values).collect::<Vec<_>>(), expected);
        assert_eq!(runs_of(&[]).count(), 0);
    }

    #[test]
    fn keys_of_a_file_are_found_by_number() {
        let spine: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), Some(-1), None, Some(7)]));
        let nulls = spine.nulls().cloned();
        let (groups, of) = KeyGroups::number(&[spine], 4, nulls.as_ref()).unwrap();
        assert_eq!(of, [0, 1, NO_GROUP, 0]);
        let file: ArrayRef = Arc::new(Int64Array::from(vec![-1, -1, 3, 7]));
        let expected = [KeyRun { group: 1, from: 0, until: 2 }, KeyRun { group: 0, from: 3, until: 4 }];
        assert_eq!(groups.runs(&[file], 4).unwrap(), expected);
    }

    #[test]
    fn keys_of_several_columns_too() {
        let spine: [ArrayRef; 2] =
            [Arc::new(StringArray::from(vec!["b", "a"])), Arc::new(Int64Array::from(vec![1, 2]))];
        let (groups, of) = KeyGroups::number(&spine, 2, None).unwrap();
        assert_eq!(of, [0, 1]);
        let file: [ArrayRef; 2] = [
            Arc::new(StringArray::from(vec!["a", "a", "a", "b"])),
            Arc::new(Int64Array::from(vec![1, 2, 2, 1])),
        ];
        let expected = [KeyRun { group: 1, from: 1, until: 3 }, KeyRun { group: 0, from: 3, until: 4 }];
        assert_eq!(groups.runs(&file, 4).unwrap(), expected);
    }
}
