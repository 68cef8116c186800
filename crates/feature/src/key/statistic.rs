//! The bytes of single values in the statistics of files, and how they are read back for comparing.
//!
//! A value is written as within a key but without the length of text; floats as IEEE 754, little-endian, in their own
//! width.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array,
    Float64Array, Int64Array, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Float32Type, Float64Type, TimeUnit};

use super::{KeyError, Part, part};

/// Why a value has no statistic, or bytes are not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatisticError {
    #[error("columns of the type {0} have no statistics; only the types of keys and features have")]
    Type(String),
    #[error("{length} bytes are not a value of the type {data_type}")]
    Bytes { data_type: String, length: usize },
    #[error("row {row} was asked for, but there are {rows}")]
    NoRow { row: usize, rows: usize },
    #[error("the values cannot be read: {0}")]
    Array(String),
}

/// What is known of the values of a column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    pub nulls: u64,
    /// Floats that are not a number; `least` and `greatest` leave them out.
    pub nans: u64,
    /// No value is below; `None` when there is no value. Among floats a zero counts as −0.0.
    pub least: Option<Vec<u8>>,
    /// No value is above; `None` when there is no value. Among floats a zero counts as +0.0.
    pub greatest: Option<Vec<u8>>,
}

/// A value of a statistic, to be compared with others of its type.
#[derive(Clone, Debug, PartialEq)]
pub enum StatisticValue {
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    /// Unscaled, at the scale of the type.
    Decimal(i128),
    /// Days since 1970.
    Date(i32),
    /// Microseconds since 1970 in UTC.
    Timestamp(i64),
    Float32(f32),
    Float64(f64),
    Text(String),
    Bytes(Vec<u8>),
}

/// The statistic bytes of a value; `None` where it is null.
///
/// # Errors
/// If the type is neither a key's nor a feature's, or there is no such row.
pub fn statistic_bytes(array: &ArrayRef, row: usize) -> Result<Option<Vec<u8>>, StatisticError> {
    if row >= array.len() {
        return Err(StatisticError::NoRow { row, rows: array.len() });
    }
    Ok(bounds(&array.slice(row, 1), true)?.least)
}

/// Counts and bounds of a column.
///
/// # Errors
/// If the type is neither a key's nor a feature's.
pub fn bounds_of(array: &ArrayRef) -> Result<Bounds, StatisticError> {
    bounds(array, false)
}

impl StatisticValue {
    /// Reads a value of a column of this type.
    ///
    /// # Errors
    /// If the type has no statistics or the bytes are none of its values.
    pub fn decode(data_type: &DataType, bytes: &[u8]) -> Result<Self, StatisticError> {
        let wrong = || StatisticError::Bytes { data_type: data_type.to_string(), length: bytes.len() };
        let value = match data_type {
            DataType::Dictionary(_, value) => return Self::decode(value, bytes),
            DataType::RunEndEncoded(_, value) => return Self::decode(value.data_type(), bytes),
            DataType::Boolean => match bytes {
                [0] => Self::Bool(false),
                [1] => Self::Bool(true),
                _ => return Err(wrong()),
            },
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                Self::Signed(i64::from_le_bytes(bytes.try_into().map_err(|_| wrong())?))
            }
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
                Self::Unsigned(u64::from_le_bytes(bytes.try_into().map_err(|_| wrong())?))
            }
            DataType::Decimal32(_, _) | DataType::Decimal64(_, _) | DataType::Decimal128(_, _) => {
                Self::Decimal(i128::from_le_bytes(bytes.try_into().map_err(|_| wrong())?))
            }
            DataType::Date32 => Self::Date(i32::from_le_bytes(bytes.try_into().map_err(|_| wrong())?)),
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
                Self::Timestamp(i64::from_le_bytes(bytes.try_into().map_err(|_| wrong())?))
            }
            DataType::Float32 => Self::Float32(f32::from_le_bytes(bytes.try_into().map_err(|_| wrong())?)),
            DataType::Float64 => Self::Float64(f64::from_le_bytes(bytes.try_into().map_err(|_| wrong())?)),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Self::Text(String::from_utf8(bytes.to_vec()).map_err(|_| wrong())?)
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Self::Bytes(bytes.to_vec()),
            other => return Err(StatisticError::Type(other.to_string())),
        };
        Ok(value)
    }

    /// The order of the values: numbers by value, floats by IEEE 754's total order, text and bytes by unsigned
    /// bytes, false before true. `None` when the two are not of one type.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(one), Self::Bool(other)) => Some(one.cmp(other)),
            (Self::Signed(one), Self::Signed(other)) => Some(one.cmp(other)),
            (Self::Unsigned(one), Self::Unsigned(other)) => Some(one.cmp(other)),
            (Self::Decimal(one), Self::Decimal(other)) => Some(one.cmp(other)),
            (Self::Date(one), Self::Date(other)) => Some(one.cmp(other)),
            (Self::Timestamp(one), Self::Timestamp(other)) => Some(one.cmp(other)),
            (Self::Float32(one), Self::Float32(other)) => Some(one.total_cmp(other)),
            (Self::Float64(one), Self::Float64(other)) => Some(one.total_cmp(other)),
            (Self::Text(one), Self::Text(other)) => Some(one.cmp(other)),
            (Self::Bytes(one), Self::Bytes(other)) => Some(one.cmp(other)),
            _ => None,
        }
    }
}

/// Statistics as a column of the type, one row for each, null where there is none: what a query engine prunes with.
///
/// # Errors
/// If the type has no statistics, or bytes are none of its values.
pub fn statistics_array(data_type: &DataType, values: &[Option<&[u8]>]) -> Result<ArrayRef, StatisticError> {
    let mut decoded = Vec::with_capacity(values.len());
    for value in values {
        decoded.push(value.map(|bytes| StatisticValue::decode(data_type, bytes)).transpose()?);
    }
    macro_rules! collected {
        ($variant:ident) => {
            decoded
                .into_iter()
                .map(|value| match value {
                    Some(StatisticValue::$variant(value)) => Some(value),
                    _ => None,
                })
                .collect()
        };
    }
    let widest: ArrayRef = match logical(data_type) {
        DataType::Boolean => {
            let values: Vec<Option<bool>> = collected!(Bool);
            Arc::new(BooleanArray::from(values))
        }
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            let values: Int64Array = collected!(Signed);
            Arc::new(values)
        }
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            let values: UInt64Array = collected!(Unsigned);
            Arc::new(values)
        }
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => {
            let values: Decimal128Array = collected!(Decimal);
            let values = values.with_precision_and_scale(*precision, *scale);
            Arc::new(values.map_err(|error| StatisticError::Array(error.to_string()))?)
        }
        DataType::Date32 => {
            let values: Date32Array = collected!(Date);
            Arc::new(values)
        }
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) => {
            let values: TimestampMicrosecondArray = collected!(Timestamp);
            Arc::new(values.with_timezone(zone.clone()))
        }
        DataType::Float32 => {
            let values: Float32Array = collected!(Float32);
            Arc::new(values)
        }
        DataType::Float64 => {
            let values: Float64Array = collected!(Float64);
            Arc::new(values)
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let values: StringArray = collected!(Text);
            Arc::new(values)
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let values: BinaryArray = collected!(Bytes);
            Arc::new(values)
        }
        other => return Err(StatisticError::Type(other.to_string())),
    };
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&widest, data_type, &strict).map_err(|error| StatisticError::Array(error.to_string()))
}

/// The type of the values, whatever their encoding.
fn logical(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, value) => logical(value),
        DataType::RunEndEncoded(_, value) => logical(value.data_type()),
        other => other,
    }
}

/// `exact` gives a value's own bytes: NaN and the sign of zero as they are.
fn bounds(array: &ArrayRef, exact: bool) -> Result<Bounds, StatisticError> {
    let value_type = logical(array.data_type());
    if array.data_type() != value_type {
        let plain = cast(array, value_type).map_err(|error| StatisticError::Array(error.to_string()))?;
        return bounds(&plain, exact);
    }
    let nulls = array.logical_null_count() as u64;
    let mut found = Bounds { nulls, ..Bounds::default() };
    macro_rules! floats {
        ($type:ty, $zero:expr) => {{
            let Some(values) = array.as_primitive_opt::<$type>() else {
                return Err(StatisticError::Type(value_type.to_string()));
            };
            let mut range = None;
            for value in values.iter().flatten() {
                if value.is_nan() && !exact {
                    found.nans += 1;
                    continue;
                }
                let (least, greatest) = range.unwrap_or((value, value));
                let least = if value.total_cmp(&least).is_lt() { value } else { least };
                let greatest = if value.total_cmp(&greatest).is_gt() { value } else { greatest };
                range = Some((least, greatest));
            }
            if let Some((least, greatest)) = range {
                // Whoever compares may take the two zeros as equal or not; the bounds hold either way.
                let least = if least == $zero && !exact { -$zero } else { least };
                let greatest = if greatest == $zero && !exact { $zero } else { greatest };
                found.least = Some(least.to_le_bytes().to_vec());
                found.greatest = Some(greatest.to_le_bytes().to_vec());
            }
        }};
    }
    match value_type {
        DataType::Float32 => floats!(Float32Type, 0.0f32),
        DataType::Float64 => floats!(Float64Type, 0.0f64),
        _ => {
            let widened = part(1, array).map_err(|error| match error {
                KeyError::Array { why, .. } => StatisticError::Array(why),
                _ => StatisticError::Type(value_type.to_string()),
            })?;
            (found.least, found.greatest) = bounds_of_part(&widened).unzip();
        }
    }
    Ok(found)
}

fn bounds_of_part(part: &Part) -> Option<(Vec<u8>, Vec<u8>)> {
    macro_rules! numbers {
        ($values:expr) => {{
            let (least, greatest) = (arrow::compute::min($values)?, arrow::compute::max($values)?);
            (least.to_le_bytes().to_vec(), greatest.to_le_bytes().to_vec())
        }};
    }
    fn bytes<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<(Vec<u8>, Vec<u8>)> {
        let first = values.next()?;
        let (mut least, mut greatest) = (first, first);
        for value in values {
            if value < least {
                least = value;
            } else if value > greatest {
                greatest = value;
            }
        }
        Some((least.to_vec(), greatest.to_vec()))
    }
    Some(match part {
        Part::Bool(values) => {
            let (least, greatest) =
                (arrow::compute::min_boolean(values)?, arrow::compute::max_boolean(values)?);
            (vec![u8::from(least)], vec![u8::from(greatest)])
        }
        Part::Signed(values) => numbers!(values),
        Part::Unsigned(values) => numbers!(values),
        Part::Decimal(values) => numbers!(values),
        Part::Days(values) => numbers!(values),
        Part::Micros(values) => numbers!(values),
        Part::Bytes(values) => bytes(values.iter().flatten())?,
        Part::LargeBytes(values) => bytes(values.iter().flatten())?,
        Part::BytesView(values) => bytes(values.iter().flatten())?,
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, Int8Array, Time64MicrosecondArray};
    use arrow::datatypes::Int8Type;

    use super::*;

    fn array(values: impl Array + 'static) -> ArrayRef {
        Arc::new(values)
    }

    #[test]
    fn bounds_read_back_as_the_values_that_they_are() {
        let keyed: DictionaryArray<Int8Type> =
            vec![Some("b"), None, Some("é"), Some("")].into_iter().collect();
        let decimals =
            Decimal128Array::from(vec![Some(5), None, Some(-7)]).with_precision_and_scale(9, 2).unwrap();
        let times = TimestampMicrosecondArray::from(vec![Some(3), Some(-1)]).with_timezone("+00:00");
        for (values, nulls, least, greatest) in [
            (array(Int8Array::from(vec![Some(3), None, Some(-3)])), 1, 2, 0),
            (array(UInt64Array::from(vec![u64::MAX, 1])), 0, 1, 0),
            (array(BooleanArray::from(vec![Some(true), Some(false), None])), 1, 1, 0),
            (array(decimals), 1, 2, 0),
            (array(Date32Array::from(vec![1, -1])), 0, 1, 0),
            (array(times), 0, 1, 0),
            (array(StringArray::from(vec![Some("b"), None, Some("é"), Some("")])), 1, 3, 2),
            (array(keyed), 1, 3, 2),
            (array(BinaryArray::from(vec![&[0xff_u8][..], &[0xfe, 0xff], &[]])), 0, 2, 0),
            (array(Float64Array::from(vec![Some(1.5), Some(-2.0), None])), 1, 1, 0),
        ] {
            let bounds = bounds_of(&values).unwrap();
            assert_eq!((bounds.nulls, bounds.nans), (nulls, 0), "{values:?}");
            assert_eq!(bounds.least, statistic_bytes(&values, least).unwrap(), "{values:?}");
            assert_eq!(bounds.greatest, statistic_bytes(&values, greatest).unwrap(), "{values:?}");
            let statistics = [bounds.least.as_deref(), None, bounds.greatest.as_deref()];
            let read = statistics_array(values.data_type(), &statistics).unwrap();
            assert_eq!(read.data_type(), values.data_type());
            assert_eq!(statistic_bytes(&read, 0).unwrap(), bounds.least);
            assert_eq!(statistic_bytes(&read, 1).unwrap(), None);
            assert_eq!(statistic_bytes(&read, 2).unwrap(), bounds.greatest);
            let decode = |bytes: &Option<Vec<u8>>| {
                StatisticValue::decode(values.data_type(), bytes.as_deref().unwrap()).unwrap()
            };
            let (least, greatest) = (decode(&bounds.least), decode(&bounds.greatest));
            assert_eq!(least.compare(&greatest), Some(Ordering::Less), "{values:?}");
        }
    }

    #[test]
    fn floats_leave_nan_out_and_take_zero_with_both_signs() {
        let values = array(Float32Array::from(vec![Some(f32::NAN), Some(0.0), None, Some(-f32::NAN)]));
        let bounds = bounds_of(&values).unwrap();
        assert_eq!((bounds.nulls, bounds.nans), (1, 2));
        assert_eq!(bounds.least.unwrap(), (-0.0f32).to_le_bytes());
        assert_eq!(bounds.greatest.unwrap(), 0.0f32.to_le_bytes());
        let bounds = bounds_of(&array(Float64Array::from(vec![-0.0]))).unwrap();
        assert_eq!(bounds.greatest.unwrap(), 0.0f64.to_le_bytes());
        let only_nan = bounds_of(&array(Float64Array::from(vec![f64::NAN]))).unwrap();
        assert_eq!(only_nan, Bounds { nans: 1, ..Bounds::default() });
    }

    #[test]
    fn the_bytes_are_as_the_format_says() {
        let text = array(StringArray::from(vec!["é"]));
        assert_eq!(statistic_bytes(&text, 0).unwrap().unwrap(), [0xc3, 0xa9]);
        let small = array(Int8Array::from(vec![-1]));
        assert_eq!(statistic_bytes(&small, 0).unwrap().unwrap(), [0xff; 8]);
        let float = array(Float32Array::from(vec![1.0]));
        assert_eq!(statistic_bytes(&float, 0).unwrap().unwrap(), [0, 0, 0x80, 0x3f]);
        let nan = array(Float64Array::from(vec![f64::NAN]));
        assert_eq!(statistic_bytes(&nan, 0).unwrap().unwrap(), f64::NAN.to_le_bytes());
    }

    #[test]
    fn other_types_and_damaged_bytes_are_refused() {
        let times = array(Time64MicrosecondArray::from(vec![1]));
        assert!(matches!(bounds_of(&times), Err(StatisticError::Type(_))));
        assert!(matches!(statistic_bytes(&times, 1), Err(StatisticError::NoRow { row: 1, rows: 1 })));
        for (data_type, bytes) in [
            (DataType::Int8, &[1u8][..]),
            (DataType::Boolean, &[2]),
            (DataType::Utf8, &[0xff]),
            (DataType::Float32, &[0; 8]),
        ] {
            let message = StatisticValue::decode(&data_type, bytes).unwrap_err().to_string();
            assert!(message.contains("are not a value of the type"), "{message}");
        }
        // An i64 that no int8 column can hold.
        let wide = 300i64.to_le_bytes();
        assert!(statistics_array(&DataType::Int8, &[Some(&wide)]).is_err());
        assert_eq!(StatisticValue::Bool(true).compare(&StatisticValue::Signed(1)), None);
    }
}
