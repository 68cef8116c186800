//! Which cells of two aligned columns differ, and how.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::cast;
use arrow::compute::kernels::cmp::distinct;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, TimeUnit};
use feature::digest::{HashAlgorithm, digest_batches, type_text};
use serde::Serialize;

use crate::error::{Error, Result};

/// How a cell differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// One value and another.
    Value,
    NullToValue,
    ValueToNull,
    /// The same value in another type, or values of types that cannot be compared.
    Type,
    /// NaN on one side, a number on the other.
    Nan,
    /// 0.0 and -0.0.
    ZeroSign,
}

impl Class {
    /// As it stands in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::NullToValue => "null_to_value",
            Self::ValueToNull => "value_to_null",
            Self::Type => "type",
            Self::Nan => "nan",
            Self::ZeroSign => "zero_sign",
        }
    }
}

/// The rows that differ, ascending. As in the content digest, encodings, widths of offsets and names of zones do not count,
/// and one NaN is as good as another.
///
/// # Errors
/// Types that cannot be read; none of those that a training set has.
pub fn changes(a: &ArrayRef, b: &ArrayRef) -> Result<Vec<(u32, Class)>> {
    let (a, b) = (decoded(a)?, decoded(b)?);
    let retyped = type_text(a.data_type()) != type_text(b.data_type());
    let kind = if retyped { common(a.data_type(), b.data_type()) } else { Some(a.data_type().clone()) };
    let differs = match &kind {
        Some(kind) => {
            let (left, right) = (converted(&a, kind)?, converted(&b, kind)?);
            differing(&left, &right)?
        }
        None => BooleanArray::from(vec![false; a.len()]),
    };
    let (a_nulls, b_nulls) = (a.logical_nulls(), b.logical_nulls());
    let null = |nulls: &Option<arrow::buffer::NullBuffer>, row: usize| {
        nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    };
    let floats = match (a.data_type().is_floating(), b.data_type().is_floating()) {
        (true, true) => Some((converted(&a, &DataType::Float64)?, converted(&b, &DataType::Float64)?)),
        _ => None,
    };
    let mut found = Vec::new();
    for row in 0..a.len() {
        let class = match (null(&a_nulls, row), null(&b_nulls, row)) {
            (true, true) => None,
            (true, false) => Some(Class::NullToValue),
            (false, true) => Some(Class::ValueToNull),
            (false, false) if differs.value(row) => match &floats {
                Some((left, right)) => {
                    let value = |column: &ArrayRef| column.as_primitive::<Float64Type>().value(row);
                    of_floats(value(left), value(right)).or(retyped.then_some(Class::Type))
                }
                None => Some(Class::Value),
            },
            (false, false) => retyped.then_some(Class::Type),
        };
        found.extend(class.map(|class| (row as u32, class)));
    }
    Ok(found)
}

fn of_floats(a: f64, b: f64) -> Option<Class> {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => None,
        (true, false) | (false, true) => Some(Class::Nan),
        (false, false) if a == b => Some(Class::ZeroSign),
        (false, false) => Some(Class::Value),
    }
}

fn differing(a: &ArrayRef, b: &ArrayRef) -> Result<BooleanArray> {
    if a.data_type().is_null() {
        return Ok(BooleanArray::from(vec![false; a.len()]));
    }
    if !a.data_type().is_nested() {
        return distinct(a, b).map_err(|error| Error::internal("columns cannot be compared", error));
    }
    let schema = Schema::new(vec![Field::new("cell", a.data_type().clone(), true)]);
    let digest = |cell: ArrayRef| {
        let batch = RecordBatch::try_new(schema.clone().into(), vec![cell])
            .map_err(|error| Error::internal("a cell cannot be compared", error))?;
        digest_batches(HashAlgorithm::Blake3, &schema, [&batch])
            .map_err(|error| Error::internal("a cell cannot be compared", error))
    };
    let mut differs = Vec::with_capacity(a.len());
    for row in 0..a.len() {
        let (one, other) = (a.slice(row, 1), b.slice(row, 1));
        // Where the bytes differ, the values may still count as equal.
        differs.push(one.to_data() != other.to_data() && digest(one)?.digest != digest(other)?.digest);
    }
    Ok(differs.into())
}

fn converted(column: &ArrayRef, kind: &DataType) -> Result<ArrayRef> {
    cast(column, kind).map_err(|error| Error::internal("a column cannot be converted", error))
}

/// The values of a dictionary or of runs, in full.
fn decoded(column: &ArrayRef) -> Result<ArrayRef> {
    match column.data_type() {
        DataType::Dictionary(_, value) => converted(column, value),
        DataType::RunEndEncoded(_, value) => converted(column, value.data_type()),
        _ => Ok(column.clone()),
    }
}

/// A type that holds the values of both.
fn common(a: &DataType, b: &DataType) -> Option<DataType> {
    let scale = |kind: &DataType| match kind {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => Some(*scale),
        kind if kind.is_integer() => Some(0),
        _ => None,
    };
    if a.is_numeric() && b.is_numeric() {
        if a.is_floating() || b.is_floating() {
            return Some(DataType::Float64);
        }
        return Some(DataType::Decimal256(76, scale(a)?.max(scale(b)?)));
    }
    match (a, b) {
        (DataType::Timestamp(_, one), DataType::Timestamp(_, other)) if one.is_some() == other.is_some() => {
            Some(DataType::Timestamp(TimeUnit::Nanosecond, one.clone()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        Float32Array, Float64Array, Int32Array, Int64Array, ListArray, NullArray, StringArray,
    };
    use arrow::datatypes::Int32Type;

    use super::*;

    fn found(a: impl Array + 'static, b: impl Array + 'static) -> Vec<(u32, &'static str)> {
        let (a, b): (ArrayRef, ArrayRef) = (Arc::new(a), Arc::new(b));
        changes(&a, &b).unwrap().into_iter().map(|(row, class)| (row, class.as_str())).collect()
    }

    #[test]
    fn floats_differ_in_four_ways() {
        let odd = f64::from_bits(f64::NAN.to_bits() | 1);
        let a = Float64Array::from(vec![1.0, f64::NAN, 0.0, f64::NAN, 2.0]);
        let b = Float64Array::from(vec![1.0, odd, -0.0, 3.0, 4.0]);
        assert_eq!(found(a, b), [(2, "zero_sign"), (3, "nan"), (4, "value")]);
        let a = Float64Array::from(vec![None, Some(1.0), None]);
        let b = Float64Array::from(vec![Some(f64::NAN), None, None]);
        assert_eq!(found(a, b), [(0, "null_to_value"), (1, "value_to_null")]);
    }

    #[test]
    fn another_type_is_no_other_value() {
        let a = Int32Array::from(vec![Some(1), Some(2), None, Some(4)]);
        let b = Int64Array::from(vec![Some(1), Some(3), None, None]);
        assert_eq!(found(a.clone(), b), [(0, "type"), (1, "value"), (3, "value_to_null")]);
        let text = StringArray::from(vec!["1", "2", "3", "4"]);
        assert_eq!(found(a.clone(), text), [(0, "type"), (1, "type"), (2, "null_to_value"), (3, "type")]);
        assert_eq!(
            found(NullArray::new(4), a),
            [(0, "null_to_value"), (1, "null_to_value"), (3, "null_to_value")]
        );
        let narrow = Float32Array::from(vec![0.5, f32::NAN, 0.1]);
        let wide = Float64Array::from(vec![0.5, f64::NAN, 0.1]);
        assert_eq!(found(narrow, wide), [(0, "type"), (1, "type"), (2, "value")]);
    }

    #[test]
    fn encodings_do_not_count_and_lists_are_compared_whole() {
        let plain: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("b")]));
        let keyed =
            cast(&plain, &DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8))).unwrap();
        let view = cast(&plain, &DataType::Utf8View).unwrap();
        assert!(changes(&plain, &keyed).unwrap().is_empty());
        assert!(changes(&keyed, &view).unwrap().is_empty());
        let lists = |last| {
            ListArray::from_iter_primitive::<Int32Type, _, _>([
                Some(vec![Some(1), None]),
                None,
                Some(vec![last]),
            ])
        };
        assert_eq!(found(lists(Some(2)), lists(Some(2))), []);
        assert_eq!(found(lists(Some(2)), lists(None)), [(2, "value")]);
    }
}
