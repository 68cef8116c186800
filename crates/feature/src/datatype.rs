//! The types that keys and features may have, and how each is spelled in a definition.

use std::fmt;
use std::str::FromStr;

use arrow::datatypes::{DataType, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::name::nearest;

/// The type of a key or feature. Definitions and JSON spell it as `Display` does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FeatureType {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Float32,
    Float64,
    String,
    Binary,
    Date,
    /// An instant in UTC, whole microseconds.
    Timestamp,
    /// `decimal(precision,scale)`, precision 1 to 38, scale 0 to precision.
    Decimal {
        precision: u8,
        scale: i8,
    },
}

/// The fixed spellings; decimals carry numbers and are parsed apart.
const SPELLINGS: [(&str, FeatureType); 15] = [
    ("bool", FeatureType::Bool),
    ("int8", FeatureType::Int8),
    ("int16", FeatureType::Int16),
    ("int32", FeatureType::Int32),
    ("int64", FeatureType::Int64),
    ("uint8", FeatureType::Uint8),
    ("uint16", FeatureType::Uint16),
    ("uint32", FeatureType::Uint32),
    ("uint64", FeatureType::Uint64),
    ("float32", FeatureType::Float32),
    ("float64", FeatureType::Float64),
    ("string", FeatureType::String),
    ("binary", FeatureType::Binary),
    ("date", FeatureType::Date),
    ("timestamp", FeatureType::Timestamp),
];

impl FeatureType {
    /// How a value of this type lies in memory and in files.
    pub fn arrow(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int8 => DataType::Int8,
            Self::Int16 => DataType::Int16,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::Uint8 => DataType::UInt8,
            Self::Uint16 => DataType::UInt16,
            Self::Uint32 => DataType::UInt32,
            Self::Uint64 => DataType::UInt64,
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::String => DataType::Utf8,
            Self::Binary => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Decimal { precision, scale } => DataType::Decimal128(precision, scale),
        }
    }

    pub fn is_float(self) -> bool {
        matches!(self, Self::Float32 | Self::Float64)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a type{}; types are bool, int8 to int64, uint8 to uint64, float32, float64, string, binary, date, timestamp and decimal(precision,scale)",
    meant(.text)
)]
pub struct FeatureTypeError {
    text: String,
}

fn meant(text: &str) -> String {
    let folded = text.to_ascii_lowercase();
    let meant = match folded.as_str() {
        "str" | "text" | "utf8" | "varchar" | "object" => Some("string"),
        "int" | "integer" | "bigint" | "long" | "i64" => Some("int64"),
        "i32" => Some("int32"),
        "float" | "double" | "f64" | "real" | "number" => Some("float64"),
        "f32" => Some("float32"),
        "boolean" => Some("bool"),
        "datetime" | "time" => Some("timestamp"),
        "bytes" => Some("binary"),
        _ => nearest(&folded, SPELLINGS.iter().map(|(name, _)| *name)),
    };
    meant.map(|meant| format!(" (did you mean `{meant}`?)")).unwrap_or_default()
}

impl FromStr for FeatureType {
    type Err = FeatureTypeError;

    fn from_str(text: &str) -> Result<Self, FeatureTypeError> {
        if let Some((_, found)) = SPELLINGS.iter().find(|(name, _)| *name == text) {
            return Ok(*found);
        }
        let decimal = text
            .strip_prefix("decimal(")
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|inside| inside.split_once(','))
            .and_then(|(precision, scale)| {
                Some((precision.trim().parse().ok()?, scale.trim().parse().ok()?))
            });
        match decimal {
            Some((precision @ 1..=38, scale)) if (0..=precision as i8).contains(&scale) => {
                Ok(Self::Decimal { precision, scale })
            }
            _ => Err(FeatureTypeError { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for FeatureType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Decimal { precision, scale } = self {
            return write!(f, "decimal({precision},{scale})");
        }
        let spelling = SPELLINGS.iter().find(|(_, spelled)| spelled == self).map_or("", |(name, _)| *name);
        f.write_str(spelling)
    }
}

impl TryFrom<String> for FeatureType {
    type Error = FeatureTypeError;
    fn try_from(text: String) -> Result<Self, FeatureTypeError> {
        text.parse()
    }
}

impl From<FeatureType> for String {
    fn from(spelled: FeatureType) -> Self {
        spelled.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_read_back_as_spelled() {
        for (text, _) in SPELLINGS {
            assert_eq!(text.parse::<FeatureType>().unwrap().to_string(), text);
        }
        assert_eq!("decimal(10, 2)".parse::<FeatureType>().unwrap().to_string(), "decimal(10,2)");
        for text in ["decimal(39,2)", "decimal(3,4)", "decimal", "Float64"] {
            assert!(text.parse::<FeatureType>().is_err(), "{text}");
        }
        let message = "doubel".parse::<FeatureType>().unwrap_err().to_string();
        assert!(message.starts_with("`doubel` is not a type"), "{message}");
        assert!("double".parse::<FeatureType>().unwrap_err().to_string().contains("did you mean `float64`?"));
    }
}
