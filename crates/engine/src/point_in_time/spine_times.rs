//! The times of a spine, whatever their type.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use datafusion::common::{Result, exec_err};

/// Times as microseconds. Finer times are floored, which is safe for a spine: an earlier time knows less. A time
/// without a zone is UTC, the zone of every session.
pub fn micros(times: &ArrayRef) -> Result<Int64Array> {
    let floor = |per_micro: i64| -> Result<Int64Array> {
        let numbers = cast(times, &DataType::Int64)?;
        let numbers = numbers.as_primitive::<Int64Type>();
        Ok(numbers.unary(|number| number.div_euclid(per_micro)))
    };
    let scale = |micros: i64| -> Result<Int64Array> {
        let numbers = cast(times, &DataType::Int64)?;
        let numbers = numbers.as_primitive::<Int64Type>();
        Ok(numbers.try_unary(|number| {
            number.checked_mul(micros).ok_or_else(|| {
                arrow::error::ArrowError::ComputeError(format!("the spine's time {number} is out of range"))
            })
        })?)
    };
    match times.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => floor(1_000),
        DataType::Timestamp(TimeUnit::Microsecond, _) => floor(1),
        DataType::Timestamp(TimeUnit::Millisecond, _) => scale(1_000),
        DataType::Timestamp(TimeUnit::Second, _) => scale(1_000_000),
        DataType::Date32 => scale(86_400_000_000),
        DataType::Date64 => scale(1_000),
        DataType::Null => Ok(Int64Array::new_null(times.len())),
        other => exec_err!("the spine's time is {other}; it must be a timestamp or a date"),
    }
}
