//! How much a call makes, told from its arguments.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::compute::kernels::length::length;
use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;

/// How a function grows what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Growth {
    /// The first, as often as the second says.
    Times,
    /// As long as the second says.
    Padded,
    /// The second in the first, by the third.
    Replaced,
    /// As Replaced, where the second is a pattern.
    PatternReplaced,
    /// The numbers from the first to the second.
    Series,
    /// The first, made as long as the second says, filled with the third.
    Resized,
    /// The elements of the first with the second between them.
    Joined,
    /// All others with the first between them.
    SumWith,
    /// All arguments.
    Sum,
}

pub const FUNCTIONS: [(&str, Growth); 20] = [
    ("repeat", Growth::Times),
    ("lpad", Growth::Padded),
    ("rpad", Growth::Padded),
    ("replace", Growth::Replaced),
    ("regexp_replace", Growth::PatternReplaced),
    ("range", Growth::Series),
    ("generate_series", Growth::Series),
    ("array_repeat", Growth::Times),
    ("array_resize", Growth::Resized),
    ("array_to_string", Growth::Joined),
    ("concat_ws", Growth::SumWith),
    ("concat", Growth::Sum),
    ("array_concat", Growth::Sum),
    ("array_append", Growth::Sum),
    ("array_prepend", Growth::Sum),
    ("make_array", Growth::Sum),
    ("struct", Growth::Sum),
    ("named_struct", Growth::Sum),
    ("map", Growth::Sum),
    ("arrays_zip", Growth::Sum),
];

impl Growth {
    /// Bytes that a call makes of so many rows, or more than that.
    pub fn bytes(self, args: &[ColumnarValue], rows: usize) -> Result<u64> {
        if self == Self::Series {
            return Ok(series_length(args, rows)?.saturating_mul(8));
        }
        let sizes = args.iter().map(Sizes::of).collect::<Result<Vec<_>>>()?;
        // Left out, they add nothing.
        let size = |argument: usize, row: usize| sizes.get(argument).map_or(0, |sizes| sizes.at(row));
        let count = match self {
            Self::Times | Self::Padded | Self::Resized => args.get(1).map(Numbers::of).transpose()?,
            _ => None,
        };
        let count = |row: usize| count.as_ref().map_or(0, |count| u64::try_from(count.at(row)).unwrap_or(0));
        let made = |row: usize| match self {
            Self::Times => size(0, row).max(1).saturating_mul(count(row)),
            // A sign takes up to four bytes, and what fills may be such.
            Self::Padded => count(row).saturating_mul(if sizes.len() > 2 { 4 } else { 1 }),
            Self::Resized => size(0, row).saturating_add(count(row).saturating_mul(size(2, row).max(8))),
            Self::Replaced => {
                let found = size(0, row) / size(1, row).max(1) + 1;
                size(0, row).saturating_add(found.saturating_mul(size(2, row)))
            }
            Self::PatternReplaced => (size(0, row) + 1).saturating_mul(size(2, row) + 1),
            // An element takes at least half a byte of those that it is told by, and one more when it is written.
            Self::Joined => {
                size(0, row).saturating_mul(4).saturating_add(size(0, row).saturating_mul(size(1, row)) / 4)
            }
            Self::SumWith => (1..sizes.len()).map(|argument| size(argument, row) + size(0, row)).sum(),
            Self::Sum | Self::Series => (0..sizes.len()).map(|argument| size(argument, row)).sum(),
        };
        Ok((0..rows).map(made).fold(0, u64::saturating_add))
    }
}

/// Bytes of each value.
enum Sizes {
    One(u64),
    Each(Vec<u64>),
}

impl Sizes {
    fn of(value: &ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Scalar(scalar) => {
                Self::One(sizes(&scalar.to_array()?)?.first().copied().unwrap_or(0))
            }
            ColumnarValue::Array(array) => Self::Each(sizes(array)?),
        })
    }

    fn at(&self, row: usize) -> u64 {
        match self {
            Self::One(size) => *size,
            Self::Each(sizes) => sizes.get(row).copied().unwrap_or(0),
        }
    }
}

fn sizes(array: &ArrayRef) -> Result<Vec<u64>> {
    let each = match array.data_type() {
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView => 1,
        DataType::List(_) | DataType::LargeList(_) => {
            // The elements of a list are taken to be of one size.
            let values = array
                .as_list_opt::<i32>()
                .map(|list| list.values().clone())
                .or_else(|| array.as_list_opt::<i64>().map(|list| list.values().clone()));
            values.map_or(8, |values| average(&values).max(1))
        }
        _ => return Ok(vec![average(array); array.len()]),
    };
    let lengths = cast(&length(array)?, &DataType::Int64)?;
    let lengths = lengths.as_primitive::<Int64Type>();
    Ok(lengths
        .iter()
        .map(|length| u64::try_from(length.unwrap_or(0)).unwrap_or(0).saturating_mul(each))
        .collect())
}

fn average(array: &ArrayRef) -> u64 {
    crate::row_bytes::bytes_of_column(array).div_ceil(array.len().max(1)) as u64
}

/// A number of each row; nulls are zero.
enum Numbers {
    One(i64),
    Each(ArrayRef),
}

impl Numbers {
    fn of(value: &ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Scalar(scalar) => {
                Self::One(number(&cast(&scalar.to_array()?, &DataType::Int64)?, 0))
            }
            ColumnarValue::Array(array) => Self::Each(cast(array, &DataType::Int64)?),
        })
    }

    fn at(&self, row: usize) -> i64 {
        match self {
            Self::One(number) => *number,
            Self::Each(array) => number(array, row),
        }
    }
}

fn number(array: &ArrayRef, row: usize) -> i64 {
    let numbers = array.as_primitive::<Int64Type>();
    if row < numbers.len() && numbers.is_valid(row) { numbers.value(row) } else { 0 }
}

/// How many numbers or times the series of so many rows have together.
pub fn series_length(args: &[ColumnarValue], rows: usize) -> Result<u64> {
    let (start, stop, step) = match args {
        [stop] => (None, stop, None),
        [start, stop] => (Some(start), stop, None),
        [start, stop, step] => (Some(start), stop, Some(step)),
        // The function itself says what is wrong.
        _ => return Ok(0),
    };
    let start = start.map(Ends::of).transpose()?;
    let stop = Ends::of(stop)?;
    let step = step.map(Ends::of).transpose()?;
    let made = |row: usize| -> u64 {
        let start = start.as_ref().map_or(0, |start| start.at(row));
        let step = step.as_ref().map_or(1, |step| step.at(row));
        if step == 0 {
            return 0;
        }
        let steps = (stop.at(row) - start) / step;
        u64::try_from(steps.saturating_add(1)).unwrap_or(if steps < 0 { 0 } else { u64::MAX })
    };
    Ok((0..rows).map(made).fold(0, u64::saturating_add))
}

/// Numbers as they are; times and intervals in nanoseconds, months as the shortest.
struct Ends {
    values: ArrayRef,
    one: bool,
    times: i128,
}

const DAY: i128 = 86_400_000_000_000;

impl Ends {
    fn of(value: &ColumnarValue) -> Result<Self> {
        let (array, one) = match value {
            ColumnarValue::Scalar(scalar) => (scalar.to_array()?, true),
            ColumnarValue::Array(array) => (array.clone(), false),
        };
        let (to, times) = match array.data_type() {
            DataType::Interval(_) => (DataType::Interval(IntervalUnit::MonthDayNano), 1),
            DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _) => {
                let micros = cast(&array, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
                return Ok(Self { values: cast(&micros, &DataType::Int64)?, one, times: 1_000 });
            }
            _ => (DataType::Int64, 1),
        };
        Ok(Self { values: cast(&array, &to)?, one, times })
    }

    fn at(&self, row: usize) -> i128 {
        let row = if self.one { 0 } else { row };
        if row >= self.values.len() || self.values.is_null(row) {
            return 0;
        }
        match self.values.as_primitive_opt::<IntervalMonthDayNanoType>() {
            Some(intervals) => {
                let (months, days, nanos) = IntervalMonthDayNanoType::to_parts(intervals.value(row));
                i128::from(months) * 28 * DAY + i128::from(days) * DAY + i128::from(nanos)
            }
            None => i128::from(number(&self.values, row)) * self.times,
        }
    }
}
