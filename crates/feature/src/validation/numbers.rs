//! Numbers of every width to the declared one.
//!
//! The one rounding that is accepted is to a float's nearest value, for numbers written in decimals or as wider floats:
//! hardly any of those is a float exactly. Whole numbers must stay what they are in floats too.

use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int64Type, UInt64Type};
use arrow::error::ArrowError;

use super::convert::{Converted, each, each_text, unforeseen};
use super::fault::Fault;
use super::text::{parse_decimal, shift_decimal};

pub(super) fn to_integer<T>(source: &ArrayRef) -> Result<Converted, ArrowError>
where
    T: ArrowPrimitiveType,
    T::Native: TryFrom<i64> + TryFrom<u64> + TryFrom<i128> + FromStr,
{
    let target = &T::DATA_TYPE;
    let narrow = |wide: i128| T::Native::try_from(wide).map_err(|_| Fault::OutsideType);
    Ok(match source.data_type() {
        // Booleans are 1 and 0, which every integer type holds.
        DataType::Boolean => Converted::whole(cast(source, target)?),
        DataType::Int64 => each::<_, T>(source.as_primitive::<Int64Type>(), target, |value| {
            T::Native::try_from(value).map_err(|_| Fault::OutsideType)
        }),
        DataType::UInt64 => each::<_, T>(source.as_primitive::<UInt64Type>(), target, |value| {
            T::Native::try_from(value).map_err(|_| Fault::OutsideType)
        }),
        DataType::Float64 => each::<_, T>(source.as_primitive::<Float64Type>(), target, |value| {
            if value.is_infinite() {
                Err(Fault::OutsideType)
            } else if value.fract() != 0.0 {
                // NaN too, whose fraction is NaN.
                Err(Fault::Inexact)
            } else if value.abs() < EXACT_I64 {
                T::Native::try_from(value as i64).map_err(|_| Fault::OutsideType)
            } else {
                narrow(value as i128)
            }
        }),
        DataType::Decimal128(_, scale) => {
            let shift = -i64::from(*scale);
            each::<_, T>(source.as_primitive::<Decimal128Type>(), target, |value| {
                narrow(shift_decimal(value, shift)?)
            })
        }
        // `3.0` is whole too: that is how a column of integers with gaps is often written.
        DataType::Utf8 => {
            each_text::<T>(source.as_string(), target, |text| match text.parse::<T::Native>() {
                Ok(value) => Ok(value),
                Err(_) => narrow(parse_decimal(text, 0)?),
            })
        }
        other => return Err(unforeseen(other)),
    })
}

/// 2^62: floats below it are i64 without loss.
const EXACT_I64: f64 = 4_611_686_018_427_387_904.0;

pub(super) fn to_float64(source: &ArrayRef) -> Result<Converted, ArrowError> {
    let target = &DataType::Float64;
    let same = |float: f64, wide: i128| if float as i128 == wide { Ok(float) } else { Err(Fault::Inexact) };
    Ok(match source.data_type() {
        DataType::Int64 => each::<_, Float64Type>(source.as_primitive::<Int64Type>(), target, |value| {
            if value.unsigned_abs() <= 1 << 53 { Ok(value as f64) } else { same(value as f64, value.into()) }
        }),
        DataType::UInt64 => each::<_, Float64Type>(source.as_primitive::<UInt64Type>(), target, |value| {
            if value <= 1 << 53 { Ok(value as f64) } else { same(value as f64, value.into()) }
        }),
        DataType::Float64 => Converted::whole(Arc::clone(source)),
        DataType::Decimal128(_, scale) => {
            let scale = *scale;
            each::<_, Float64Type>(source.as_primitive::<Decimal128Type>(), target, |value| {
                nearest(value, scale)
            })
        }
        DataType::Utf8 => each_text::<Float64Type>(source.as_string(), target, parse_float::<f64>),
        other => return Err(unforeseen(other)),
    })
}

pub(super) fn to_float32(source: &ArrayRef) -> Result<Converted, ArrowError> {
    let target = &DataType::Float32;
    let same = |float: f32, wide: i128| if float as i128 == wide { Ok(float) } else { Err(Fault::Inexact) };
    Ok(match source.data_type() {
        DataType::Int64 => each::<_, Float32Type>(source.as_primitive::<Int64Type>(), target, |value| {
            if value.unsigned_abs() <= 1 << 24 { Ok(value as f32) } else { same(value as f32, value.into()) }
        }),
        DataType::UInt64 => each::<_, Float32Type>(source.as_primitive::<UInt64Type>(), target, |value| {
            if value <= 1 << 24 { Ok(value as f32) } else { same(value as f32, value.into()) }
        }),
        DataType::Float64 => each::<_, Float32Type>(source.as_primitive::<Float64Type>(), target, |value| {
            let narrow = value as f32;
            if narrow.is_infinite() && value.is_finite() { Err(Fault::OutsideType) } else { Ok(narrow) }
        }),
        DataType::Decimal128(_, scale) => {
            let scale = *scale;
            each::<_, Float32Type>(source.as_primitive::<Decimal128Type>(), target, |value| {
                parse_float::<f32>(&format!("{value}e{}", -i32::from(scale)))
            })
        }
        DataType::Utf8 => each_text::<Float32Type>(source.as_string(), target, parse_float::<f32>),
        other => return Err(unforeseen(other)),
    })
}

/// The nearest float; `nan` and `inf` only where they are written.
fn parse_float<F: FromStr + Into<f64> + Copy>(text: &str) -> Result<F, Fault> {
    let float = text.parse::<F>().map_err(|_| Fault::WrongType)?;
    if float.into().is_infinite() && text.bytes().any(|b| b.is_ascii_digit()) {
        return Err(Fault::OutsideType);
    }
    Ok(float)
}

/// The float that is nearest to `value` over ten to the `scale`.
fn nearest(value: i128, scale: i8) -> Result<f64, Fault> {
    // Both are floats exactly, so the quotient is rounded once.
    if (0..=22).contains(&scale) && value.unsigned_abs() <= 1 << 53 {
        return Ok(value as f64 / TENS[scale as usize]);
    }
    parse_float::<f64>(&format!("{value}e{}", -i32::from(scale)))
}

const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

pub(super) fn to_decimal(source: &ArrayRef, precision: u8, scale: i8) -> Result<Converted, ArrowError> {
    let target = &DataType::Decimal128(precision, scale);
    let limit = 10i128.pow(u32::from(precision.min(38)));
    let fit =
        |value: i128| if value.unsigned_abs() < limit as u128 { Ok(value) } else { Err(Fault::OutsideType) };
    Ok(match source.data_type() {
        DataType::Int64 => each::<_, Decimal128Type>(source.as_primitive::<Int64Type>(), target, |value| {
            fit(shift_decimal(value.into(), scale.into())?)
        }),
        DataType::UInt64 => each::<_, Decimal128Type>(source.as_primitive::<UInt64Type>(), target, |value| {
            fit(shift_decimal(value.into(), scale.into())?)
        }),
        DataType::Decimal128(_, from) => {
            let shift = i64::from(scale) - i64::from(*from);
            each::<_, Decimal128Type>(source.as_primitive::<Decimal128Type>(), target, |value| {
                fit(shift_decimal(value, shift)?)
            })
        }
        DataType::Float32 => {
            each::<_, Decimal128Type>(source.as_primitive::<Float32Type>(), target, |value| {
                fit(shortest(&value.to_string(), scale)?)
            })
        }
        DataType::Float64 => {
            each::<_, Decimal128Type>(source.as_primitive::<Float64Type>(), target, |value| {
                let units = (value * TENS[usize::from(scale.unsigned_abs()).min(22)]).round();
                // Where this many digits are exact in a float, the nearest decimal gives the float back, or there is none.
                if (0..=22).contains(&scale) && units.abs() < EXACT_DIGITS {
                    let back = units / TENS[usize::from(scale.unsigned_abs())];
                    return if back == value { fit(units as i128) } else { Err(Fault::Inexact) };
                }
                fit(shortest(&value.to_string(), scale)?)
            })
        }
        DataType::Utf8 => {
            each_text::<Decimal128Type>(source.as_string(), target, |text| fit(parse_decimal(text, scale)?))
        }
        other => return Err(unforeseen(other)),
    })
}

/// 2^50: below it, a float times a power of ten is less than half off.
const EXACT_DIGITS: f64 = 1_125_899_906_842_624.0;

/// The decimal that a float's shortest digits write; NaN and infinities are none.
fn shortest(digits: &str, scale: i8) -> Result<i128, Fault> {
    parse_decimal(digits, scale)
        .map_err(|fault| if fault == Fault::WrongType { Fault::OutsideType } else { fault })
}
