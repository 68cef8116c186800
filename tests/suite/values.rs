//! Values of tests: made into Arrow columns of any type that holds them, and read back.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array,
    Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    UInt64Type,
};
use feature::Timestamp;

/// One value; `Ord` so that keys can be compared, floats by their bits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    Bool(bool),
    /// Any integer.
    Int(i128),
    Float(u64),
    Text(String),
    Bytes(Vec<u8>),
    /// Days since 1970.
    Date(i32),
    /// Microseconds since 1970.
    Instant(i64),
    /// Unscaled, and the scale.
    Decimal(i128, i8),
}

impl Value {
    pub fn float(value: f64) -> Self {
        Self::Float(value.to_bits())
    }

    pub fn text(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(bits) => write!(f, "{:?}", f64::from_bits(*bits)),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Bytes(bytes) => write!(f, "{bytes:02x?}"),
            Self::Date(days) => write!(f, "{}", Timestamp(i64::from(*days) * 86_400_000_000)),
            Self::Instant(micros) => write!(f, "{}", Timestamp(*micros)),
            Self::Decimal(unscaled, scale) => write!(f, "{unscaled}e-{scale}"),
        }
    }
}

fn micros() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A column of this type. Values must be of one kind, and the type must hold them.
pub fn column(values: &[Option<Value>], data_type: &DataType) -> ArrayRef {
    let kind = values.iter().flatten().next();
    let base: ArrayRef = match kind {
        None => return arrow::array::new_null_array(data_type, values.len()),
        Some(Value::Bool(_)) => Arc::new(BooleanArray::from_iter(values.iter().map(|value| match value {
            Some(Value::Bool(value)) => Some(*value),
            _ => None,
        }))),
        Some(Value::Int(_)) if *data_type == DataType::UInt64 => {
            Arc::new(UInt64Array::from_iter(values.iter().map(|value| match value {
                Some(Value::Int(value)) => Some(u64::try_from(*value).unwrap()),
                _ => None,
            })))
        }
        Some(Value::Int(_)) => Arc::new(Int64Array::from_iter(values.iter().map(|value| match value {
            Some(Value::Int(value)) => Some(i64::try_from(*value).unwrap()),
            _ => None,
        }))),
        Some(Value::Float(_)) => Arc::new(Float64Array::from_iter(values.iter().map(|value| match value {
            Some(Value::Float(bits)) => Some(f64::from_bits(*bits)),
            _ => None,
        }))),
        Some(Value::Text(_)) => Arc::new(StringArray::from_iter(values.iter().map(|value| match value {
            Some(Value::Text(text)) => Some(text.as_str()),
            _ => None,
        }))),
        Some(Value::Bytes(_)) => Arc::new(BinaryArray::from_iter(values.iter().map(|value| match value {
            Some(Value::Bytes(bytes)) => Some(bytes.as_slice()),
            _ => None,
        }))),
        Some(Value::Date(_)) => Arc::new(Date32Array::from_iter(values.iter().map(|value| match value {
            Some(Value::Date(days)) => Some(*days),
            _ => None,
        }))),
        Some(Value::Instant(_)) => {
            let times = values.iter().map(|value| match value {
                Some(Value::Instant(micros)) => Some(*micros),
                _ => None,
            });
            Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        }
        Some(Value::Decimal(_, scale)) => {
            let unscaled = values.iter().map(|value| match value {
                Some(Value::Decimal(value, _)) => Some(*value),
                _ => None,
            });
            let decimals = unscaled.collect::<Decimal128Array>();
            Arc::new(decimals.with_precision_and_scale(38, *scale).unwrap())
        }
    };
    let cast = cast(&base, data_type).unwrap();
    assert_eq!(cast.null_count(), base.null_count(), "{data_type} does not hold {values:?}");
    cast
}

/// Instants finer than a microsecond: (microseconds, nanoseconds beyond them).
pub fn nanoseconds(times: &[Option<(i64, u16)>]) -> ArrayRef {
    let times = times.iter().map(|time| time.map(|(micros, nanos)| micros * 1000 + i64::from(nanos)));
    Arc::new(times.collect::<TimestampNanosecondArray>().with_timezone("UTC"))
}

/// Reads a column whatever its width.
pub fn read(column: &ArrayRef) -> Vec<Option<Value>> {
    fn each(column: &ArrayRef, read: impl Fn(usize) -> Value) -> Vec<Option<Value>> {
        (0..column.len()).map(|row| column.is_valid(row).then(|| read(row))).collect()
    }
    match column.data_type() {
        DataType::Boolean => each(column, |row| Value::Bool(column.as_boolean().value(row))),
        DataType::UInt64 => {
            each(column, |row| Value::Int(column.as_primitive::<UInt64Type>().value(row).into()))
        }
        kind if kind.is_integer() => {
            let column = cast(column, &DataType::Int64).unwrap();
            each(&column, |row| Value::Int(column.as_primitive::<Int64Type>().value(row).into()))
        }
        DataType::Float64 => {
            each(column, |row| Value::float(column.as_primitive::<Float64Type>().value(row)))
        }
        DataType::Utf8 => each(column, |row| Value::text(column.as_string::<i32>().value(row))),
        DataType::Utf8View => each(column, |row| Value::text(column.as_string_view().value(row))),
        DataType::Binary => each(column, |row| Value::Bytes(column.as_binary::<i32>().value(row).to_vec())),
        DataType::Date32 => each(column, |row| Value::Date(column.as_primitive::<Date32Type>().value(row))),
        DataType::Decimal128(_, scale) => {
            each(column, |row| Value::Decimal(column.as_primitive::<Decimal128Type>().value(row), *scale))
        }
        kind if *kind == micros() => {
            each(column, |row| Value::Instant(column.as_primitive::<TimestampMicrosecondType>().value(row)))
        }
        other => panic!("tests read no {other}"),
    }
}

/// The same rows in several batches, some of them empty.
pub fn cut(whole: &RecordBatch, cuts: &[u8]) -> Vec<RecordBatch> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| usize::from(*cut) % (whole.num_rows() + 1)).collect();
    places.extend([0, whole.num_rows()]);
    places.sort_unstable();
    places.windows(2).map(|pair| whole.slice(pair[0], pair[1] - pair[0])).collect()
}
