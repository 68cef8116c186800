//! From the types that sources have to the declared ones: exactly, or not at all.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, NullBufferBuilder, PrimitiveArray,
    StringArray, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, nullif};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;

use super::fault::{Fault, Faults};
use super::numbers::{to_decimal, to_float32, to_float64, to_integer};
use super::text::{parse_bool, parse_time};
use super::times::{Clock, DAY, Zone, day_in_range, in_range, micros};
use crate::datatype::FeatureType;

/// A column of the declared type; faulty cells are null, and listed in the order of rows.
pub(super) struct Converted {
    pub array: ArrayRef,
    pub faults: Faults,
}

impl Converted {
    pub(super) fn whole(array: ArrayRef) -> Self {
        Self { array, faults: Vec::new() }
    }
}

/// How one source column becomes a declared type; found once a source.
#[derive(Clone, Debug)]
pub(super) struct Conversion {
    /// The plain type of the same values, without dictionaries, views and narrow widths.
    plain: DataType,
    target: FeatureType,
    zone: Option<Zone>,
}

/// Why no value of a source type can become the declared one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// Clock readings, and no zone is declared.
    NoZone,
    /// A whole number says neither its unit nor its beginning.
    NumberAsTime,
    /// An instant is on different days in different zones.
    InstantAsDate,
    /// Numbers and times have many spellings.
    NotText,
    /// Lists, structs and maps.
    Nested,
    Never,
}

impl Conversion {
    pub(super) fn new(from: &DataType, target: FeatureType, zone: Option<Zone>) -> Result<Self, Refusal> {
        let plain = plain(from, target);
        possible(&plain, target, zone.is_some())?;
        Ok(Self { plain, target, zone })
    }

    /// Faults are the rows'; an error is the batch's, such as more than 2 GiB of text.
    pub(super) fn apply(&self, source: &ArrayRef) -> Result<Converted, ArrowError> {
        let target = self.target.arrow();
        if *source.data_type() == target && !self.is_time() {
            return Ok(Converted::whole(Arc::clone(source)));
        }
        if self.plain == DataType::Null {
            return Ok(Converted::whole(new_null_array(&target, source.len())));
        }
        let source =
            if *source.data_type() == self.plain { Arc::clone(source) } else { cast(source, &self.plain)? };
        match self.target {
            FeatureType::Bool => self.to_bool(&source),
            FeatureType::Int8 => to_integer::<Int8Type>(&source),
            FeatureType::Int16 => to_integer::<Int16Type>(&source),
            FeatureType::Int32 => to_integer::<Int32Type>(&source),
            FeatureType::Int64 => to_integer::<Int64Type>(&source),
            FeatureType::Uint8 => to_integer::<UInt8Type>(&source),
            FeatureType::Uint16 => to_integer::<UInt16Type>(&source),
            FeatureType::Uint32 => to_integer::<UInt32Type>(&source),
            FeatureType::Uint64 => to_integer::<UInt64Type>(&source),
            FeatureType::Float32 => to_float32(&source),
            FeatureType::Float64 => to_float64(&source),
            FeatureType::String | FeatureType::Binary => to_text(&source, &target),
            FeatureType::Decimal { precision, scale } => to_decimal(&source, precision, scale),
            FeatureType::Date => to_date(&source),
            FeatureType::Timestamp => self.to_timestamp(&source),
        }
    }

    /// Times and dates are looked at even when their type is right: their range is narrower than their type's.
    fn is_time(&self) -> bool {
        matches!(self.target, FeatureType::Date | FeatureType::Timestamp)
    }

    fn to_bool(&self, source: &ArrayRef) -> Result<Converted, ArrowError> {
        let bit = |number: Option<bool>| number.ok_or(Fault::WrongType);
        let cells: Vec<Option<Result<bool, Fault>>> = match source.data_type() {
            DataType::Boolean => return Ok(Converted::whole(Arc::clone(source))),
            DataType::Int64 => {
                let source = source.as_primitive::<Int64Type>();
                source.iter().map(|cell| cell.map(|n| bit(bool_of(n.try_into().ok())))).collect()
            }
            DataType::UInt64 => {
                let source = source.as_primitive::<UInt64Type>();
                source.iter().map(|cell| cell.map(|n| bit(bool_of(n.try_into().ok())))).collect()
            }
            DataType::Utf8 => source.as_string::<i32>().iter().map(|cell| cell.map(parse_bool)).collect(),
            other => return Err(unforeseen(other)),
        };
        let mut faults = Faults::new();
        for (row, cell) in cells.iter().enumerate() {
            if let Some(Err(fault)) = cell {
                faults.push((row, *fault));
            }
        }
        let array: BooleanArray = cells.into_iter().map(|cell| cell.and_then(Result::ok)).collect();
        Ok(Converted { array: Arc::new(array), faults })
    }

    fn to_timestamp(&self, source: &ArrayRef) -> Result<Converted, ArrowError> {
        let mut clock = Clock::new(self.zone);
        let target = &FeatureType::Timestamp.arrow();
        let start = |clock: &mut Clock, day: i64| clock.start_of_day(day);
        Ok(match source.data_type() {
            DataType::Timestamp(unit, zone) => {
                let (unit, naive) = (*unit, zone.is_none());
                each_time(source, unit, target, |count| {
                    let micros = micros(count, unit)?;
                    if naive { clock.instant(micros) } else { Ok(micros) }
                })
            }
            DataType::Date32 => {
                let days = source.as_primitive::<Date32Type>();
                each::<_, TimestampMicrosecondType>(days, target, |day| start(&mut clock, i64::from(day)))
            }
            DataType::Date64 => {
                let days = source.as_primitive::<Date64Type>();
                each::<_, TimestampMicrosecondType>(days, target, |millis| {
                    start(&mut clock, whole_day(millis, DAY / 1000)?)
                })
            }
            DataType::Utf8 => each_text::<TimestampMicrosecondType>(source.as_string(), target, |text| {
                clock.written(parse_time(text)?)
            }),
            other => return Err(unforeseen(other)),
        })
    }
}

/// The plain type that a source type is first turned into; itself where there is none.
fn plain(from: &DataType, target: FeatureType) -> DataType {
    use DataType as D;
    // Float32 keeps its width on the way to a decimal: its shortest digits are what was meant.
    let decimal = matches!(target, FeatureType::Decimal { .. });
    match from {
        D::Dictionary(_, values) => plain(values, target),
        D::RunEndEncoded(_, values) => plain(values.data_type(), target),
        D::Int8 | D::Int16 | D::Int32 => D::Int64,
        D::UInt8 | D::UInt16 | D::UInt32 => D::UInt64,
        D::Float16 | D::Float32 if decimal => D::Float32,
        D::Float16 | D::Float32 => D::Float64,
        D::Decimal32(precision, scale) | D::Decimal64(precision, scale) => D::Decimal128(*precision, *scale),
        D::LargeUtf8 | D::Utf8View => D::Utf8,
        D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => D::Binary,
        other => other.clone(),
    }
}

/// Whether some value of the plain type can become the declared one.
fn possible(plain: &DataType, target: FeatureType, zone: bool) -> Result<(), Refusal> {
    use DataType as D;
    use FeatureType as F;
    match (plain, target) {
        (D::Null, _) => Ok(()),
        (D::List(_) | D::LargeList(_) | D::FixedSizeList(..) | D::ListView(_) | D::LargeListView(_), _)
        | (D::Struct(_) | D::Map(..) | D::Union(..), _) => Err(Refusal::Nested),
        (D::Boolean | D::Int64 | D::UInt64 | D::Utf8, F::Bool) => Ok(()),
        (D::Utf8 | D::Binary, F::String | F::Binary) => Ok(()),
        (D::Int64 | D::UInt64, F::String) => Ok(()),
        (
            D::Boolean | D::Float64 | D::Decimal128(..) | D::Date32 | D::Date64 | D::Timestamp(..),
            F::String,
        ) => Err(Refusal::NotText),
        (D::Date32 | D::Date64 | D::Utf8, F::Date | F::Timestamp) => Ok(()),
        (D::Timestamp(_, None), F::Date) => Ok(()),
        (D::Timestamp(_, Some(_)), F::Date) => Err(Refusal::InstantAsDate),
        (D::Timestamp(_, None), F::Timestamp) if !zone => Err(Refusal::NoZone),
        (D::Timestamp(..), F::Timestamp) => Ok(()),
        (D::Int64 | D::UInt64 | D::Float64 | D::Decimal128(..), F::Date | F::Timestamp) => {
            Err(Refusal::NumberAsTime)
        }
        (_, F::Bool | F::String | F::Binary | F::Date | F::Timestamp) => Err(Refusal::Never),
        (D::Int64 | D::UInt64 | D::Float64 | D::Decimal128(..) | D::Utf8, _) => Ok(()),
        (D::Float32, F::Decimal { .. }) => Ok(()),
        (D::Boolean, target) if !target.is_float() && !matches!(target, F::Decimal { .. }) => Ok(()),
        _ => Err(Refusal::Never),
    }
}

pub(super) fn unforeseen(plain: &DataType) -> ArrowError {
    ArrowError::CastError(format!("a column of type {plain} was not foreseen here"))
}

fn bool_of(number: Option<u8>) -> Option<bool> {
    match number {
        Some(0) => Some(false),
        Some(1) => Some(true),
        _ => None,
    }
}

/// A validity that is false at the faults.
fn without(nulls: Option<&NullBuffer>, faults: &Faults, rows: usize) -> Option<NullBuffer> {
    if faults.is_empty() {
        return nulls.cloned();
    }
    let mut valid = NullBufferBuilder::new(rows);
    let mut next = 0;
    for (row, _) in faults {
        if *row >= next {
            valid.append_n_non_nulls(*row - next);
            valid.append_null();
            next = *row + 1;
        }
    }
    valid.append_n_non_nulls(rows - next);
    NullBuffer::union(nulls, valid.finish().as_ref())
}

/// The column with the faulty cells nulled. Faults are in the order of rows.
pub(super) fn null_faults(array: &ArrayRef, faults: &Faults) -> Result<ArrayRef, ArrowError> {
    if faults.is_empty() {
        return Ok(Arc::clone(array));
    }
    let mut faulty = vec![false; array.len()];
    for (row, _) in faults {
        faulty[*row] = true;
    }
    nullif(array, &BooleanArray::from(faulty))
}

pub(super) fn each<S, T>(
    source: &PrimitiveArray<S>,
    target: &DataType,
    mut f: impl FnMut(S::Native) -> Result<T::Native, Fault>,
) -> Converted
where
    S: ArrowPrimitiveType,
    T: ArrowPrimitiveType,
{
    let mut values = Vec::with_capacity(source.len());
    let mut faults = Faults::new();
    for (row, value) in source.values().iter().enumerate() {
        match f(*value) {
            Ok(value) => values.push(value),
            Err(fault) => {
                values.push(T::Native::default());
                // What lies under a null is not a value.
                if source.is_valid(row) {
                    faults.push((row, fault));
                }
            }
        }
    }
    finish::<T>(values, source.nulls(), faults, target)
}

pub(super) fn each_text<T: ArrowPrimitiveType>(
    source: &StringArray,
    target: &DataType,
    mut f: impl FnMut(&str) -> Result<T::Native, Fault>,
) -> Converted {
    let mut values = Vec::with_capacity(source.len());
    let mut faults = Faults::new();
    for (row, text) in source.iter().enumerate() {
        let value = match text.map(&mut f) {
            Some(Ok(value)) => value,
            Some(Err(fault)) => {
                faults.push((row, fault));
                T::Native::default()
            }
            None => T::Native::default(),
        };
        values.push(value);
    }
    finish::<T>(values, source.nulls(), faults, target)
}

fn finish<T: ArrowPrimitiveType>(
    values: Vec<T::Native>,
    nulls: Option<&NullBuffer>,
    faults: Faults,
    target: &DataType,
) -> Converted {
    let nulls = without(nulls, &faults, values.len());
    let array = PrimitiveArray::<T>::new(values.into(), nulls).with_data_type(target.clone());
    Converted { array: Arc::new(array), faults }
}

fn each_time(
    source: &ArrayRef,
    unit: TimeUnit,
    target: &DataType,
    f: impl FnMut(i64) -> Result<i64, Fault>,
) -> Converted {
    type Micros = TimestampMicrosecondType;
    match unit {
        TimeUnit::Second => each::<_, Micros>(source.as_primitive::<TimestampSecondType>(), target, f),
        TimeUnit::Millisecond => {
            each::<_, Micros>(source.as_primitive::<TimestampMillisecondType>(), target, f)
        }
        TimeUnit::Microsecond => {
            each::<_, Micros>(source.as_primitive::<TimestampMicrosecondType>(), target, f)
        }
        TimeUnit::Nanosecond => {
            each::<_, Micros>(source.as_primitive::<TimestampNanosecondType>(), target, f)
        }
    }
}

/// Each valid_at plus a delay; faulty where the sum leaves the years 1 to 9999.
pub(super) fn delayed(valid_at: &ArrayRef, delay: i64) -> Converted {
    each::<_, TimestampMicrosecondType>(
        valid_at.as_primitive::<TimestampMicrosecondType>(),
        valid_at.data_type(),
        |at| at.checked_add(delay).and_then(|at| in_range(at).ok()).ok_or(Fault::DelayOutOfRange),
    )
}

fn to_text(source: &ArrayRef, target: &DataType) -> Result<Converted, ArrowError> {
    let array = cast(source, target)?;
    let mut faults = Faults::new();
    if array.null_count() > source.null_count() {
        for row in 0..source.len() {
            if array.is_null(row) && source.is_valid(row) {
                faults.push((row, Fault::WrongType));
            }
        }
    }
    Ok(Converted { array, faults })
}

fn to_date(source: &ArrayRef) -> Result<Converted, ArrowError> {
    let target = &DataType::Date32;
    Ok(match source.data_type() {
        DataType::Date32 => each::<_, Date32Type>(source.as_primitive::<Date32Type>(), target, |day| {
            day_in_range(i64::from(day))
        }),
        DataType::Date64 => each::<_, Date32Type>(source.as_primitive::<Date64Type>(), target, |millis| {
            day_in_range(whole_day(millis, DAY / 1000)?)
        }),
        DataType::Timestamp(unit, None) => {
            let unit = *unit;
            let day = |count: i64| day_in_range(whole_day(micros(count, unit)?, DAY)?);
            match unit {
                TimeUnit::Second => {
                    each::<_, Date32Type>(source.as_primitive::<TimestampSecondType>(), target, day)
                }
                TimeUnit::Millisecond => {
                    each::<_, Date32Type>(source.as_primitive::<TimestampMillisecondType>(), target, day)
                }
                TimeUnit::Microsecond => {
                    each::<_, Date32Type>(source.as_primitive::<TimestampMicrosecondType>(), target, day)
                }
                TimeUnit::Nanosecond => {
                    each::<_, Date32Type>(source.as_primitive::<TimestampNanosecondType>(), target, day)
                }
            }
        }
        DataType::Utf8 => each_text::<Date32Type>(source.as_string(), target, |text| {
            let written = parse_time(text)?;
            if written.offset.is_some() {
                return Err(Fault::NotADay);
            }
            day_in_range(whole_day(written.local, DAY)?)
        }),
        other => return Err(unforeseen(other)),
    })
}

fn whole_day(count: i64, day: i64) -> Result<i64, Fault> {
    if count.rem_euclid(day) == 0 { Ok(count.div_euclid(day)) } else { Err(Fault::NotADay) }
}
