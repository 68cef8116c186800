//! Canonical bytes of entity keys, and the buckets that they fall into.
//!
//! The bytes of a key are those of its parts, one after the other: text and bytes as u32 length and bytes; signed
//! integers as i64, unsigned ones as u64, decimals as i128 of the unscaled value, timestamps as i64 microseconds,
//! dates as i32 days, booleans as u8; numbers little-endian. So a key has the same bytes in every width and encoding
//! of its type, but an int64 1 and a uint64 1 that were not cast to the declared type only look alike.

pub mod statistic;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array,
    Int64Array, LargeBinaryArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Int64Type, TimeUnit, TimestampMicrosecondType, UInt64Type,
};
use xxhash_rust::xxh3::xxh3_64;

/// Why rows have no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a key has at least one column")]
    NoColumns,
    #[error("part {part} of the key is null in row {row}; a key has no nulls")]
    Null { part: usize, row: usize },
    #[error(
        "part {part} of the key has the type {data_type}; keys are bool, integers, string, binary, date, decimal or timestamp (in microseconds, with a zone)"
    )]
    Type { part: usize, data_type: String },
    #[error("part {part} of the key has {found} rows, part 1 has {expected}")]
    Rows { part: usize, expected: usize, found: usize },
    #[error("row {row} was asked for, but there are {rows}")]
    NoRow { row: usize, rows: usize },
    #[error("part {part} of the key is {length} bytes long in row {row}; the most is 4,294,967,295")]
    Long { part: usize, row: usize, length: usize },
    #[error("{0} is not a number of buckets; it must be a power of two")]
    Buckets(u32),
    #[error("part {part} of the key cannot be read: {why}")]
    Array { part: usize, why: String },
}

/// The bucket of every row: the top bits of the XXH3-64 hash, with seed 0, of its canonical key. With one bucket,
/// all are 0. A bucket of n falls into two of 2n: `2 * bucket` and `2 * bucket + 1`.
///
/// # Errors
/// If `buckets` is not a power of two, or as [`CanonicalKeys::new`].
pub fn bucket_of_rows(keys: &[ArrayRef], buckets: u32) -> Result<Vec<u32>, KeyError> {
    if !buckets.is_power_of_two() {
        return Err(KeyError::Buckets(buckets));
    }
    let keys = CanonicalKeys::new(keys)?;
    if buckets == 1 {
        return Ok(vec![0; keys.rows()]);
    }
    keys.each(|key| bucket_of_bytes(key, buckets))
}

/// The canonical bytes of the key in one row; for many rows use [`CanonicalKeys`].
///
/// # Errors
/// As [`CanonicalKeys::new`], and if there is no such row.
pub fn canonical_key(keys: &[ArrayRef], row: usize) -> Result<Vec<u8>, KeyError> {
    let rows = keys.first().map_or(0, |key| key.len());
    if keys.is_empty() {
        return Err(KeyError::NoColumns);
    }
    if row >= rows {
        return Err(KeyError::NoRow { row, rows });
    }
    let mut one = Vec::with_capacity(keys.len());
    for (index, key) in keys.iter().enumerate() {
        if key.len() != rows {
            return Err(KeyError::Rows { part: index + 1, expected: rows, found: key.len() });
        }
        if key.is_null(row) {
            return Err(KeyError::Null { part: index + 1, row });
        }
        one.push(key.slice(row, 1));
    }
    let mut bytes = Vec::new();
    CanonicalKeys::new(&one)?.write(0, &mut bytes)?;
    Ok(bytes)
}

/// The hashes by which manifests tell the keys of a file, ascending and each once: of a key, the low 32 bits of the XXH3-64 hash, with seed 0,
/// of its canonical bytes. (Buckets are of the top bits.)
///
/// # Errors
/// As [`CanonicalKeys::new`].
pub fn key_hashes(keys: &[ArrayRef]) -> Result<Vec<u32>, KeyError> {
    let mut hashes = CanonicalKeys::new(keys)?.each(hash_of_bytes)?;
    hashes.sort_unstable();
    hashes.dedup();
    Ok(hashes)
}

/// The [`key_hashes`] of rows whose equal keys stand together; none where there are more than `most` keys.
///
/// # Errors
/// As [`CanonicalKeys::new`].
pub fn hashes_of_few_keys(keys: &[ArrayRef], most: usize) -> Result<Option<Vec<u32>>, KeyError> {
    let keys = CanonicalKeys::new(keys)?;
    let (mut hashes, mut row, mut bytes) = (Vec::new(), 0, Vec::new());
    while row < keys.rows() {
        if hashes.len() == most {
            return Ok(None);
        }
        bytes.clear();
        keys.write(row, &mut bytes)?;
        hashes.push(hash_of_bytes(&bytes));
        row = keys.end_of(row, &bytes)?;
    }
    hashes.sort_unstable();
    hashes.dedup();
    Ok(Some(hashes))
}

fn hash_of_bytes(key: &[u8]) -> u32 {
    xxh3_64(key) as u32
}

/// The bucket of a canonical key; `buckets` is a power of two.
fn bucket_of_bytes(key: &[u8], buckets: u32) -> u32 {
    match buckets.trailing_zeros() {
        0 => 0,
        bits => (xxh3_64(key) >> (64 - bits)) as u32,
    }
}

/// The canonical bytes of the keys of many rows.
pub struct CanonicalKeys {
    rows: usize,
    parts: Vec<Part>,
}

/// One column of the key, widened to how its values are written.
enum Part {
    Bool(BooleanArray),
    Signed(Int64Array),
    Unsigned(UInt64Array),
    Decimal(Decimal128Array),
    Days(Date32Array),
    Micros(TimestampMicrosecondArray),
    Bytes(BinaryArray),
    LargeBytes(LargeBinaryArray),
    BytesView(BinaryViewArray),
}

impl CanonicalKeys {
    /// # Errors
    /// If there is no column, a type is none of a key, a key is null, or columns have not the same number of rows.
    pub fn new(keys: &[ArrayRef]) -> Result<Self, KeyError> {
        let Some(first) = keys.first() else { return Err(KeyError::NoColumns) };
        let rows = first.len();
        let mut parts = Vec::with_capacity(keys.len());
        for (index, key) in keys.iter().enumerate() {
            if key.len() != rows {
                return Err(KeyError::Rows { part: index + 1, expected: rows, found: key.len() });
            }
            if let Some(nulls) = key.logical_nulls()
                && let Some(row) = (!nulls.inner()).set_indices().next()
            {
                return Err(KeyError::Null { part: index + 1, row });
            }
            parts.push(part(index + 1, key)?);
        }
        Ok(Self { rows, parts })
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Something of the key of each row.
    fn each<T>(&self, of: impl Fn(&[u8]) -> T) -> Result<Vec<T>, KeyError> {
        let (mut found, mut bytes) = (Vec::with_capacity(self.rows), Vec::new());
        for row in 0..self.rows {
            bytes.clear();
            self.write(row, &mut bytes)?;
            found.push(of(&bytes));
        }
        Ok(found)
    }

    /// Where the rows end that have the key of `row` and stand together with it: found in as many steps as their number has bits.
    fn end_of(&self, row: usize, key: &[u8]) -> Result<usize, KeyError> {
        let mut bytes = Vec::with_capacity(key.len());
        let mut same = |row| {
            bytes.clear();
            self.write(row, &mut bytes).map(|()| bytes == key)
        };
        let (mut last, mut end, mut step) = (row, self.rows, 1);
        while row + step < end {
            if same(row + step)? {
                last = row + step;
                step *= 2;
            } else {
                end = row + step;
            }
        }
        while last + 1 < end {
            let middle = last + (end - last) / 2;
            if same(middle)? {
                last = middle;
            } else {
                end = middle;
            }
        }
        Ok(end)
    }

    /// Appends the key of a row.
    ///
    /// # Errors
    /// If there is no such row, or text is longer than its length can say.
    pub fn write(&self, row: usize, bytes: &mut Vec<u8>) -> Result<(), KeyError> {
        if row >= self.rows {
            return Err(KeyError::NoRow { row, rows: self.rows });
        }
        for (index, part) in self.parts.iter().enumerate() {
            let text = match part {
                Part::Bool(values) => {
                    bytes.push(u8::from(values.value(row)));
                    continue;
                }
                Part::Signed(values) => {
                    bytes.extend_from_slice(&values.value(row).to_le_bytes());
                    continue;
                }
                Part::Unsigned(values) => {
                    bytes.extend_from_slice(&values.value(row).to_le_bytes());
                    continue;
                }
                Part::Decimal(values) => {
                    bytes.extend_from_slice(&values.value(row).to_le_bytes());
                    continue;
                }
                Part::Days(values) => {
                    bytes.extend_from_slice(&values.value(row).to_le_bytes());
                    continue;
                }
                Part::Micros(values) => {
                    bytes.extend_from_slice(&values.value(row).to_le_bytes());
                    continue;
                }
                Part::Bytes(values) => values.value(row),
                Part::LargeBytes(values) => values.value(row),
                Part::BytesView(values) => values.value(row),
            };
            let length = u32::try_from(text.len()).map_err(|_| KeyError::Long {
                part: index + 1,
                row,
                length: text.len(),
            })?;
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(text);
        }
        Ok(())
    }
}

/// Widens a column without nulls. Casts from text to bytes share the buffers.
fn part(part: usize, array: &ArrayRef) -> Result<Part, KeyError> {
    let refused = || KeyError::Type { part, data_type: array.data_type().to_string() };
    let wide = |data_type: &DataType| {
        cast(array, data_type).map_err(|error| KeyError::Array { part, why: error.to_string() })
    };
    let widened = match array.data_type() {
        DataType::Dictionary(_, value) => return self::part(part, &wide(value)?),
        DataType::RunEndEncoded(_, value) => return self::part(part, &wide(value.data_type())?),
        DataType::Boolean => array.as_boolean_opt().map(|array| Part::Bool(array.clone())),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            wide(&DataType::Int64)?.as_primitive_opt::<Int64Type>().map(|array| Part::Signed(array.clone()))
        }
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => wide(&DataType::UInt64)?
            .as_primitive_opt::<UInt64Type>()
            .map(|array| Part::Unsigned(array.clone())),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => wide(&DataType::Decimal128(*precision, *scale))?
            .as_primitive_opt::<Decimal128Type>()
            .map(|array| Part::Decimal(array.clone())),
        DataType::Date32 => array.as_primitive_opt::<Date32Type>().map(|array| Part::Days(array.clone())),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
            array.as_primitive_opt::<TimestampMicrosecondType>().map(|array| Part::Micros(array.clone()))
        }
        DataType::Utf8 | DataType::Binary => {
            wide(&DataType::Binary)?.as_binary_opt::<i32>().map(|array| Part::Bytes(array.clone()))
        }
        DataType::LargeUtf8 | DataType::LargeBinary => {
            wide(&DataType::LargeBinary)?.as_binary_opt::<i64>().map(|array| Part::LargeBytes(array.clone()))
        }
        DataType::Utf8View | DataType::BinaryView => {
            wide(&DataType::BinaryView)?.as_binary_view_opt().map(|array| Part::BytesView(array.clone()))
        }
        _ => None,
    };
    widened.ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;
    use std::sync::Arc;

    use arrow::array::{DictionaryArray, Float64Array, Int8Array, Int32Array, StringArray, UInt8Array};
    use arrow::datatypes::{Int16Type, Int32Type};
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// The key columns of a vector, one row, in the types as the file spells them.
    fn columns(parts: &[Value]) -> Vec<ArrayRef> {
        let mut columns = Vec::new();
        for part in parts {
            let data_type: crate::FeatureType = part["type"].as_str().unwrap().parse().unwrap();
            let value = &part["value"];
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let column: ArrayRef = match data_type {
                crate::FeatureType::Binary => {
                    let bytes: Vec<u8> = (0..text.len() / 2)
                        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
                        .collect();
                    Arc::new(BinaryArray::from_vec(vec![&bytes]))
                }
                crate::FeatureType::Date => Arc::new(Date32Array::from(vec![text.parse::<i32>().unwrap()])),
                crate::FeatureType::Timestamp => Arc::new(
                    TimestampMicrosecondArray::from(vec![text.parse::<i64>().unwrap()]).with_timezone("UTC"),
                ),
                crate::FeatureType::Decimal { precision, scale } => Arc::new(
                    Decimal128Array::from(vec![text.parse::<i128>().unwrap()])
                        .with_precision_and_scale(precision, scale)
                        .unwrap(),
                ),
                other => {
                    cast(&(Arc::new(StringArray::from(vec![text])) as ArrayRef), &other.arrow()).unwrap()
                }
            };
            assert_eq!(column.null_count(), 0, "{part}");
            columns.push(column);
        }
        columns
    }

    #[test]
    fn keys_give_the_bytes_and_buckets_of_the_vectors() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/vectors/keys.json");
        let vectors: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let vectors = vectors["vectors"].as_array().unwrap();
        assert!(vectors.len() >= 30);
        for vector in vectors {
            let keys = columns(vector["key"].as_array().unwrap());
            let bytes = canonical_key(&keys, 0).unwrap();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, vector["bytes"].as_str().unwrap(), "{vector}");
            let whole = vector["xxh3"].as_str().unwrap();
            assert_eq!(format!("{:016x}", xxh3_64(&bytes)), whole, "{vector}");
            assert_eq!(format!("{:08x}", key_hashes(&keys).unwrap()[0]), whole[8..], "{vector}");
            for (buckets, bucket) in vector["buckets"].as_object().unwrap() {
                let found = bucket_of_rows(&keys, buckets.parse().unwrap()).unwrap();
                assert_eq!(found, [bucket.as_u64().unwrap() as u32], "{buckets} buckets, {vector}");
            }
        }
    }

    #[test]
    fn encodings_and_widths_of_one_type_give_the_same_key() {
        let plain: ArrayRef = Arc::new(StringArray::from(vec!["JFK", "", "JFK", "é"]));
        let keyed: DictionaryArray<Int16Type> = vec!["JFK", "", "JFK", "é"].into_iter().collect();
        let mut all = vec![plain.clone(), Arc::new(keyed) as ArrayRef];
        for data_type in [DataType::LargeUtf8, DataType::Utf8View, DataType::Binary, DataType::BinaryView] {
            all.push(cast(&plain, &data_type).unwrap());
        }
        for other in &all {
            assert_eq!(bucket_of_rows(from_ref(other), 1 << 31), bucket_of_rows(&all[..1], 1 << 31));
            assert_eq!(canonical_key(from_ref(other), 3), canonical_key(&all[..1], 3));
        }
        let narrow: ArrayRef = Arc::new(Int8Array::from(vec![-1, 7]));
        let wide: ArrayRef = Arc::new(Int32Array::from(vec![-1, 7]));
        assert_eq!(canonical_key(&[narrow], 0), canonical_key(&[wide], 0));
        let small: ArrayRef = Arc::new(UInt8Array::from(vec![255]));
        assert_eq!(canonical_key(&[small], 0).unwrap(), [255, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
        let number: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        let float: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0]));
        let naive: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1, 2]));
        let values = StringArray::from(vec![Some("a"), None]);
        let keyed: ArrayRef =
            Arc::new(DictionaryArray::<Int32Type>::try_new(vec![0, 1].into(), Arc::new(values)).unwrap());
        assert_eq!(bucket_of_rows(&[], 4), Err(KeyError::NoColumns));
        assert_eq!(bucket_of_rows(from_ref(&number), 3), Err(KeyError::Buckets(3)));
        assert_eq!(bucket_of_rows(from_ref(&number), 0), Err(KeyError::Buckets(0)));
        assert_eq!(
            bucket_of_rows(&[number.clone(), text.clone()], 1),
            Err(KeyError::Null { part: 2, row: 1 })
        );
        assert_eq!(bucket_of_rows(from_ref(&keyed), 4), Err(KeyError::Null { part: 1, row: 1 }));
        assert_eq!(canonical_key(&[keyed], 1), Err(KeyError::Null { part: 1, row: 0 }));
        assert_eq!(canonical_key(from_ref(&text), 1), Err(KeyError::Null { part: 1, row: 1 }));
        assert!(canonical_key(&[text], 0).is_ok());
        assert_eq!(canonical_key(from_ref(&number), 2), Err(KeyError::NoRow { row: 2, rows: 2 }));
        let short = number.slice(0, 1);
        let rows = Err(KeyError::Rows { part: 2, expected: 2, found: 1 });
        assert_eq!(bucket_of_rows(&[number.clone(), short], 2), rows);
        for refused in [float, naive] {
            let message = bucket_of_rows(&[number.clone(), refused], 2).unwrap_err().to_string();
            assert!(message.starts_with("part 2 of the key has the type"), "{message}");
        }
    }

    proptest! {
        #[test]
        fn few_keys_are_told_and_many_are_not(
            runs in prop::collection::btree_map("[ab]{0,3}", 1usize..40, 0..12),
            most in 0usize..12,
        ) {
            let rows = runs.iter().flat_map(|(key, rows)| std::iter::repeat_n(key.as_str(), *rows));
            let keys: [ArrayRef; 1] = [Arc::new(StringArray::from(rows.collect::<Vec<_>>()))];
            let found = hashes_of_few_keys(&keys, most).unwrap();
            prop_assert_eq!(found, (runs.len() <= most).then(|| key_hashes(&keys).unwrap()));
        }

        #[test]
        fn a_bucket_falls_into_two_when_their_number_doubles(
            ids in prop::collection::vec(any::<i64>(), 1..50),
            bits in 0u32..16,
        ) {
            let keys: [ArrayRef; 1] = [Arc::new(Int64Array::from(ids))];
            let few = bucket_of_rows(&keys, 1 << bits).unwrap();
            let many = bucket_of_rows(&keys, 2 << bits).unwrap();
            for (few, many) in few.iter().zip(&many) {
                prop_assert_eq!(*few, many / 2);
                prop_assert!(*few < 1 << bits);
            }
        }
    }
}
