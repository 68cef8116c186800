//! Values of a joined table beside values of a feature, in one type, so that what is equal can be told.

use arrow::array::{Array, ArrayRef};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};

use crate::error::{Error, Kind, Result};

/// The type in which a column and a feature are compared; none where they cannot be. Of two floats it is the narrower: a value that
/// was rounded on its way is still the value.
pub fn comparable(column: &DataType, feature: &DataType) -> Option<DataType> {
    let column = match column {
        DataType::Dictionary(_, values) => values.as_ref(),
        DataType::RunEndEncoded(_, values) => values.data_type(),
        other => other,
    };
    if column == feature || column.is_null() {
        return Some(feature.clone());
    }
    if column.is_numeric() && feature.is_numeric() {
        return Some(numbers(column, feature));
    }
    let text = |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let bytes = |kind: &DataType| {
        matches!(
            kind,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_)
        )
    };
    match (column, feature) {
        (column, feature) if text(column) && text(feature) => Some(DataType::Utf8),
        (column, feature) if bytes(column) && bytes(feature) => Some(DataType::Binary),
        // Nanoseconds hold what either can say, of the years that tables are about.
        (DataType::Timestamp(_, Some(_)), DataType::Timestamp(_, Some(zone))) => {
            Some(DataType::Timestamp(TimeUnit::Nanosecond, Some(zone.clone())))
        }
        (DataType::Date32 | DataType::Date64, DataType::Date32) => Some(DataType::Date32),
        _ => None,
    }
}

fn numbers(column: &DataType, feature: &DataType) -> DataType {
    let width = |kind: &DataType| kind.primitive_width().unwrap_or(8);
    match (column.is_floating(), feature.is_floating()) {
        (true, true) if width(column) < width(feature) => column.clone(),
        (true, true) => feature.clone(),
        (true, false) | (false, true) => DataType::Float64,
        (false, false) => {
            let scale = |kind: &DataType| match kind {
                DataType::Decimal32(_, scale)
                | DataType::Decimal64(_, scale)
                | DataType::Decimal128(_, scale)
                | DataType::Decimal256(_, scale) => *scale,
                _ => 0,
            };
            DataType::Decimal256(76, scale(column).max(scale(feature)))
        }
    }
}

/// A column in the type of comparison.
///
/// # Errors
/// A value that this type does not hold.
pub fn converted(name: &str, column: &ArrayRef, kind: &DataType) -> Result<ArrayRef> {
    let values = cast(column, kind).map_err(|error| {
        Error::new(Kind::Invalid, format!("the column `{name}` cannot be compared: {error}"))
    })?;
    if values.logical_null_count() != column.logical_null_count() {
        return Err(Error::new(
            Kind::Invalid,
            format!(
                "the column `{name}` holds values that {kind} does not, in which it would be compared; cast it"
            ),
        ));
    }
    Ok(values)
}
