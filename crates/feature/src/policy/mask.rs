//! How values are shown to those who may not see them as they are.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};

/// Hexadecimal digits of a hashed text: 128 bits.
const HASH_DIGITS: usize = 32;

/// What is shown in place of a value. A mask never changes the type of a column; what it cannot do to a type, it hides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mask {
    /// The nearest multiple of this, away from zero where two are as near. Numbers; of anything else nothing is shown.
    Round(f64),
    /// A hash with the key of the store, the same for the same value in all of its features: texts become 32
    /// hexadecimal digits, `int64` another `int64`; of any other type nothing is shown.
    Hash,
    /// Nothing.
    Null,
}

impl Mask {
    fn rank(self) -> (u8, f64) {
        match self {
            Self::Round(step) => (0, step),
            Self::Hash => (1, 0.0),
            Self::Null => (2, 0.0),
        }
    }

    /// The stronger of two: null before hash before rounding, a greater step before a smaller one.
    #[must_use]
    pub fn stronger(self, other: Self) -> Self {
        if self.compare(other) == Ordering::Less { other } else { self }
    }

    /// Which of two shows less.
    pub fn compare(self, other: Self) -> Ordering {
        let ((one, step), (two, other)) = (self.rank(), other.rank());
        one.cmp(&two).then(step.total_cmp(&other))
    }

    /// What the mask is for values of a type: one that cannot be hashed or rounded is hidden.
    #[must_use]
    pub fn of_type(self, data_type: &DataType) -> Self {
        let works = match self {
            Self::Null => true,
            Self::Hash => matches!(data_type, DataType::Utf8 | DataType::Int64),
            Self::Round(_) => {
                data_type.is_integer() || matches!(data_type, DataType::Float32 | DataType::Float64)
            }
        };
        if works { self } else { Self::Null }
    }

    /// The values as they are shown. Nulls stay null.
    pub fn apply(self, values: &ArrayRef, key: &MaskKey) -> ArrayRef {
        let hidden = || new_null_array(values.data_type(), values.len());
        match (self.of_type(values.data_type()), values.data_type()) {
            (Self::Hash, DataType::Utf8) => {
                let values = values.as_string::<i32>();
                Arc::new(StringArray::from_iter(values.iter().map(|value| value.map(|text| key.text(text)))))
            }
            (Self::Hash, DataType::Int64) => {
                let hashed = |value: i64| Some(key.number(value));
                Arc::new(values.as_primitive::<Int64Type>().unary_opt::<_, Int64Type>(hashed))
            }
            (Self::Round(step), data_type) => match data_type {
                DataType::Float32 | DataType::Float64 => {
                    let Ok(wide) = cast(values, &DataType::Float64) else { return hidden() };
                    let rounded = |value: f64| Some((value / step).round() * step);
                    let wide = wide.as_primitive::<Float64Type>();
                    let rounded: ArrayRef = Arc::new(wide.unary_opt::<_, Float64Type>(rounded));
                    cast(&rounded, data_type).unwrap_or_else(|_| hidden())
                }
                DataType::Int8 => whole::<Int8Type>(values, step),
                DataType::Int16 => whole::<Int16Type>(values, step),
                DataType::Int32 => whole::<Int32Type>(values, step),
                DataType::Int64 => whole::<Int64Type>(values, step),
                DataType::UInt8 => whole::<UInt8Type>(values, step),
                DataType::UInt16 => whole::<UInt16Type>(values, step),
                DataType::UInt32 => whole::<UInt32Type>(values, step),
                DataType::UInt64 => whole::<UInt64Type>(values, step),
                _ => hidden(),
            },
            _ => hidden(),
        }
    }
}

/// Whole numbers are rounded to whole steps (at least 1); a multiple that the type cannot hold is hidden.
fn whole<T>(values: &ArrayRef, step: f64) -> ArrayRef
where
    T: ArrowPrimitiveType,
    T::Native: Into<i128> + TryFrom<i128>,
{
    #[allow(clippy::cast_possible_truncation, reason = "it saturates")]
    let step = (step.round() as i128).clamp(1, i128::from(i64::MAX));
    let nearest = |value: T::Native| {
        let value: i128 = value.into();
        let multiple = (value.abs() + step / 2) / step * step * value.signum();
        T::Native::try_from(multiple).ok()
    };
    Arc::new(values.as_primitive::<T>().unary_opt::<_, T>(nearest))
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Hash => f.write_str("hash"),
            Self::Round(step) => write!(f, "round:{step}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a mask; write null, hash, or round: and a number greater than zero, as in round:10")]
pub struct MaskError(pub String);

impl FromStr for Mask {
    type Err = MaskError;

    fn from_str(text: &str) -> Result<Self, MaskError> {
        let wrong = || MaskError(text.to_owned());
        match text {
            "null" => Ok(Self::Null),
            "hash" => Ok(Self::Hash),
            _ => {
                let step = text.strip_prefix("round:").ok_or_else(wrong)?;
                let step: f64 = step.trim().parse().map_err(|_| wrong())?;
                if step.is_finite() && step > 0.0 { Ok(Self::Round(step)) } else { Err(wrong()) }
            }
        }
    }
}

/// The secret of a store that its hashes are made with. It is never shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MaskKey([u8; 32]);

impl MaskKey {
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn text(&self, value: &str) -> String {
        let mut hex = blake3::keyed_hash(&self.0, value.as_bytes()).to_hex().to_string();
        hex.truncate(HASH_DIGITS);
        hex
    }

    fn number(&self, value: i64) -> i64 {
        let hash = blake3::keyed_hash(&self.0, &value.to_le_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        i64::from_le_bytes(first)
    }
}

impl fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MaskKey(…)")
    }
}
