//! Values that count as equal, as bytes: for finding a value among many.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::Result;

/// The bytes of each value of some columns: the same for equal values, for null and null, for any two NaN, and for the two
/// zeros. Columns of the same types give comparable bytes.
///
/// # Errors
/// A type that has no order, such as a map.
pub fn equal_bytes(columns: &[ArrayRef]) -> Result<Rows> {
    let columns: Vec<ArrayRef> = columns.iter().map(plain).collect::<Result<_>>()?;
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    Ok(RowConverter::new(fields)?.convert_columns(&columns)?)
}

/// One NaN and one zero for all.
fn plain(column: &ArrayRef) -> Result<ArrayRef> {
    macro_rules! floats {
        ($kind:ty, $nan:expr) => {
            match column.as_primitive_opt::<$kind>() {
                Some(values) => Arc::new(values.unary::<_, $kind>(|value| {
                    if value.is_nan() {
                        $nan
                    } else if value == 0.0 {
                        0.0
                    } else {
                        value
                    }
                })),
                None => column.clone(),
            }
        };
    }
    Ok(match column.data_type() {
        DataType::Float16 => plain(&cast(column, &DataType::Float32)?)?,
        DataType::Float32 => floats!(Float32Type, f32::NAN),
        DataType::Float64 => floats!(Float64Type, f64::NAN),
        _ => column.clone(),
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, StringArray};

    use super::*;

    #[test]
    fn zeros_are_equal_and_so_are_all_that_are_no_number() {
        let odd = f64::from_bits(f64::NAN.to_bits() | 1);
        let column: ArrayRef = Arc::new(Float64Array::from(vec![
            Some(0.0),
            Some(-0.0),
            Some(f64::NAN),
            Some(odd),
            None,
            Some(1.0),
        ]));
        let rows = equal_bytes(&[column]).unwrap();
        let equal = |one: usize, other: usize| rows.row(one) == rows.row(other);
        assert!(equal(0, 1) && equal(2, 3));
        assert!(!equal(0, 2) && !equal(0, 4) && !equal(2, 4) && !equal(0, 5));
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some(""), None]));
        let rows = equal_bytes(&[text]).unwrap();
        assert!(rows.row(0) != rows.row(1));
    }
}
