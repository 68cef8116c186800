//! Constants of a definition: read by the type of their feature, compared, and written in one form only.
//!
//! A `Literal` is what stands in JSON; a `Constant` is what it means. Numbers have one form each: a whole number up to
//! 2^53 is an `Int`, even where the feature is a float, so that a literal survives canonical JSON unchanged.

use std::cmp::Ordering;
use std::fmt;

use chrono::{Datelike, NaiveDate, NaiveDateTime};
use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::{Feature, Literal, Range};
use crate::datatype::FeatureType;
use crate::time::Timestamp;

/// The greatest integer that every reader of JSON keeps exactly.
const EXACT: i128 = 1 << 53;

/// The days from 0001-01-01 to 1970-01-01.
const EPOCH: i32 = 719_163;

/// A literal read by its feature's type.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    Bool(bool),
    /// Any of the integer types.
    Int(i128),
    /// Finite; rounded to float32 where that is the type.
    Float(f64),
    Text(String),
    /// Days since 1970-01-01.
    Date(i32),
    Timestamp(Timestamp),
    /// The unscaled value, at the type's own scale.
    Decimal(i128),
}

impl PartialOrd for Constant {
    /// By value; none between constants of different types.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Int(b)) | (Self::Decimal(a), Self::Decimal(b)) => Some(a.cmp(b)),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(b),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Date(a), Self::Date(b)) => Some(a.cmp(b)),
            (Self::Timestamp(a), Self::Timestamp(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

/// A literal that does not fit the type of its feature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value} is not {}{}", accepted(*.data_type), .hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
pub struct LiteralError {
    value: String,
    data_type: FeatureType,
    /// The nearest value that would fit, or the type that would.
    hint: Option<String>,
}

/// A constant as it was written, in TOML or in JSON.
#[derive(Clone, Copy, Debug)]
pub(super) enum Written<'a> {
    Bool(bool),
    Int(i128),
    /// The number, and how it was spelled where that is known.
    Float(f64, Option<&'a str>),
    /// In quotes, or a date or time of TOML.
    Text(&'a str),
}

/// What a type accepts, for messages.
pub(super) fn accepted(data_type: FeatureType) -> String {
    if let Some((least, greatest)) = integer_bounds(data_type) {
        return format!("{data_type}, a whole number from {least} to {greatest}");
    }
    match data_type {
        FeatureType::Bool => "bool, true or false without quotes".to_owned(),
        FeatureType::Float32 | FeatureType::Float64 => format!("{data_type}, a finite number"),
        FeatureType::String => "string, text in quotes".to_owned(),
        FeatureType::Date => "date, a day such as \"2013-07-09\"".to_owned(),
        FeatureType::Timestamp => {
            "timestamp, an instant with its zone and no finer than a microsecond, such as \"2013-07-09T12:30:00Z\"".to_owned()
        }
        FeatureType::Decimal { precision, scale } => {
            format!("{data_type}, a number with at most {precision} digits, {scale} of them decimals")
        }
        other => format!("{other}, for which no constant can be written"),
    }
}

/// Least and greatest value of an integer type; none for other types.
pub(super) fn integer_bounds(data_type: FeatureType) -> Option<(i128, i128)> {
    Some(match data_type {
        FeatureType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        FeatureType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        FeatureType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        FeatureType::Int64 => (i64::MIN.into(), i64::MAX.into()),
        FeatureType::Uint8 => (0, u8::MAX.into()),
        FeatureType::Uint16 => (0, u16::MAX.into()),
        FeatureType::Uint32 => (0, u32::MAX.into()),
        FeatureType::Uint64 => (0, u64::MAX.into()),
        _ => return None,
    })
}

/// The least signed integer type that holds a number, or uint64.
fn holding(number: i128) -> Option<FeatureType> {
    let types =
        [FeatureType::Int8, FeatureType::Int16, FeatureType::Int32, FeatureType::Int64, FeatureType::Uint64];
    types.into_iter().find(|wide| {
        integer_bounds(*wide).is_some_and(|(least, greatest)| (least..=greatest).contains(&number))
    })
}

impl Literal {
    /// What this means for a feature of the type. Float32 rounds to the nearest float32, as its column does.
    pub fn constant(&self, data_type: FeatureType) -> Result<Constant, LiteralError> {
        let written = match self {
            Self::Bool(value) => Written::Bool(*value),
            Self::Int(value) => Written::Int((*value).into()),
            Self::Float(value) => Written::Float(*value, None),
            Self::Text(value) => Written::Text(value),
        };
        written.constant(data_type)
    }
}

impl Feature {
    /// The default, typed; none where none is declared.
    pub fn default_constant(&self) -> Result<Option<Constant>, LiteralError> {
        self.default.as_ref().map(|literal| literal.constant(self.data_type)).transpose()
    }

    /// Least and greatest accepted value, typed; an open end, or no range at all, is `None`.
    pub fn bounds(&self) -> Result<(Option<Constant>, Option<Constant>), LiteralError> {
        let Some(Range { least, greatest }) = &self.range else { return Ok((None, None)) };
        let end = |end: &Option<Literal>| end.as_ref().map(|end| end.constant(self.data_type)).transpose();
        Ok((end(least)?, end(greatest)?))
    }

    /// The accepted values, typed; none where any value in the range is accepted.
    pub fn accepted(&self) -> Result<Option<Vec<Constant>>, LiteralError> {
        let Some(literals) = &self.one_of else { return Ok(None) };
        literals.iter().map(|literal| literal.constant(self.data_type)).collect::<Result<_, _>>().map(Some)
    }
}

impl Written<'_> {
    /// Reads the constant by its type.
    pub(super) fn constant(self, data_type: FeatureType) -> Result<Constant, LiteralError> {
        let refuse = |hint: Option<String>| LiteralError { value: self.to_string(), data_type, hint };
        let refused = |write: Option<String>| refuse(write.map(|value| format!("write {value}")));
        if let Some((least, greatest)) = integer_bounds(data_type) {
            let number = match self {
                Written::Int(number) => number,
                Written::Text(text) => text.parse().map_err(|_| refused(None))?,
                Written::Float(number, _) if number.fract() == 0.0 && number.abs() <= EXACT as f64 => {
                    return Err(refused(Some(format!("{number:.0}"))));
                }
                _ => return Err(refused(None)),
            };
            return if (least..=greatest).contains(&number) {
                Ok(Constant::Int(number))
            } else {
                Err(refuse(holding(number).map(|wider| format!("{wider} would hold it"))))
            };
        }
        match (data_type, self) {
            (FeatureType::Bool, Written::Bool(value)) => Ok(Constant::Bool(value)),
            (FeatureType::Bool, Written::Text(text @ ("true" | "false"))) => {
                Err(refused(Some(text.to_owned())))
            }
            (FeatureType::Float32 | FeatureType::Float64, Written::Int(number)) => {
                float(number as f64, data_type).ok_or_else(|| refused(None))
            }
            (FeatureType::Float32 | FeatureType::Float64, Written::Float(number, _)) => {
                float(number, data_type).ok_or_else(|| refused(None))
            }
            (FeatureType::Float32 | FeatureType::Float64, Written::Text(text)) => Err(refused(
                text.parse::<f64>().ok().filter(|n| n.is_finite()).map(|_| format!("{text} without quotes")),
            )),
            (FeatureType::String, Written::Text(text)) => Ok(Constant::Text(text.to_owned())),
            (FeatureType::String, other) => Err(refused(Some(format!("\"{other}\"")))),
            (FeatureType::Date, Written::Text(text)) => match NaiveDate::parse_from_str(text, "%Y-%m-%d") {
                Ok(date) if date.to_string() == text => Ok(Constant::Date(date.num_days_from_ce() - EPOCH)),
                Ok(date) => Err(refused(Some(format!("\"{date}\"")))),
                Err(_) => Err(refused(None)),
            },
            (FeatureType::Timestamp, Written::Text(text)) => match text.parse::<Timestamp>() {
                Ok(time) => Ok(Constant::Timestamp(time)),
                Err(_) => Err(refused(instant_meant(text))),
            },
            (FeatureType::Decimal { precision, scale }, Written::Int(number)) => {
                decimal(&number.to_string(), precision, scale).ok_or_else(|| refused(None))
            }
            (FeatureType::Decimal { precision, scale }, Written::Float(number, spelled)) => {
                let text = spelled.map_or_else(|| number.to_string(), str::to_owned);
                decimal(&text, precision, scale).ok_or_else(|| refused(None))
            }
            (FeatureType::Decimal { precision, scale }, Written::Text(text)) => {
                decimal(text, precision, scale).ok_or_else(|| refused(None))
            }
            _ => Err(refused(None)),
        }
    }
}

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Float(_, Some(spelled)) => f.write_str(spelled),
            Self::Float(value, None) => value.fmt(f),
            Self::Text(text) => write!(f, "\"{text}\""),
        }
    }
}

/// A naive time with Z, or a day's first instant, when the text is one of these.
fn instant_meant(text: &str) -> Option<String> {
    let text = text.replace(' ', "T");
    for format in ["%Y-%m-%dT%H:%M:%S%.6f", "%Y-%m-%dT%H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(&text, format) {
            return Some(format!("\"{}\"", Timestamp(time.and_utc().timestamp_micros())));
        }
    }
    let day = NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok()?;
    Some(format!("\"{day}T00:00:00Z\""))
}

fn float(number: f64, data_type: FeatureType) -> Option<Constant> {
    let number = if data_type == FeatureType::Float32 { f64::from(number as f32) } else { number };
    // Adding zero turns −0 into 0, which canonical JSON would do anyway.
    number.is_finite().then_some(Constant::Float(number + 0.0))
}

/// The unscaled value, when the text is a plain decimal number that the type holds exactly.
fn decimal(text: &str, precision: u8, scale: i8) -> Option<Constant> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || digits.ends_with('.') || !plain(whole) || !plain(decimals) {
        return None;
    }
    let scale = usize::try_from(scale).ok()?;
    let decimals = decimals.trim_end_matches('0');
    if decimals.len() > scale {
        return None;
    }
    let unscaled: i128 = format!("{whole}{decimals:0<scale$}").parse().ok()?;
    if unscaled >= 10i128.pow(u32::from(precision)) {
        return None;
    }
    Some(Constant::Decimal(if negative { -unscaled } else { unscaled }))
}

impl Constant {
    /// The one form in which this stands in JSON.
    #[must_use]
    pub fn literal(&self, data_type: FeatureType) -> Literal {
        match self {
            Self::Bool(value) => Literal::Bool(*value),
            Self::Int(value) => match i64::try_from(*value) {
                Ok(small) if value.abs() <= EXACT => Literal::Int(small),
                _ => Literal::Text(value.to_string()),
            },
            // A float32 is written as the shortest number that rounds to it.
            Self::Float(value) if data_type == FeatureType::Float32 => {
                number((*value as f32).to_string().parse().unwrap_or(*value))
            }
            Self::Float(value) => number(*value),
            Self::Text(text) => Literal::Text(text.clone()),
            Self::Date(days) => {
                let date = days.checked_add(EPOCH).and_then(NaiveDate::from_num_days_from_ce_opt);
                Literal::Text(date.map_or_else(|| days.to_string(), |date| date.to_string()))
            }
            Self::Timestamp(time) => Literal::Text(time.to_string()),
            Self::Decimal(unscaled) => {
                let scale = match data_type {
                    FeatureType::Decimal { scale, .. } => usize::try_from(scale).unwrap_or(0),
                    _ => 0,
                };
                Literal::Text(spelled(*unscaled, scale))
            }
        }
    }
}

fn spelled(unscaled: i128, scale: usize) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, decimals) = digits.split_at(digits.len() - scale);
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{decimals}") }
}

/// A number in its one form.
fn number(value: f64) -> Literal {
    if value.fract() == 0.0 && value.abs() <= EXACT as f64 {
        Literal::Int(value as i64)
    } else {
        Literal::Float(value)
    }
}

/// As in TOML, with text in quotes.
impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Text(text) => write!(f, "\"{text}\""),
        }
    }
}

impl<'de> Deserialize<'de> for Literal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LiteralVisitor)
    }
}

struct LiteralVisitor;

impl Visitor<'_> for LiteralVisitor {
    type Value = Literal;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false, a finite number or text")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Literal, E> {
        Ok(Literal::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Literal, E> {
        // Canonical JSON writes a great float without its exponent; integers so great are text.
        Ok(if i128::from(value).abs() <= EXACT { Literal::Int(value) } else { Literal::Float(value as f64) })
    }

    fn visit_u64<E>(self, value: u64) -> Result<Literal, E> {
        Ok(match i64::try_from(value) {
            Ok(small) if i128::from(value) <= EXACT => Literal::Int(small),
            _ => Literal::Float(value as f64),
        })
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Literal, E> {
        if value.is_finite() {
            Ok(number(value))
        } else {
            Err(E::invalid_value(de::Unexpected::Float(value), &self))
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<Literal, E> {
        Ok(Literal::Text(value.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(written: Written<'_>, data_type: &str) -> Result<Literal, String> {
        let data_type = data_type.parse().unwrap();
        let constant = written.constant(data_type).map_err(|error| error.to_string())?;
        let literal = constant.literal(data_type);
        assert_eq!(literal.constant(data_type).unwrap(), constant, "a literal means what it was made from");
        let plain: Literal = serde_json::from_str(&serde_json::to_string(&literal).unwrap()).unwrap();
        assert_eq!(plain, literal, "JSON keeps a literal");
        let canonical = serde_json_canonicalizer::to_string(&literal).unwrap();
        assert_eq!(
            serde_json::from_str::<Literal>(&canonical).unwrap(),
            literal,
            "canonical JSON keeps a literal"
        );
        Ok(literal)
    }

    #[test]
    fn each_type_has_one_form() {
        use Written::{Bool, Float, Int, Text};
        for (written, data_type, literal) in [
            (Bool(true), "bool", Literal::Bool(true)),
            (Int(-128), "int8", Literal::Int(-128)),
            (Int(1 << 53), "int64", Literal::Int(1 << 53)),
            (Int((1 << 53) + 1), "int64", Literal::Text("9007199254740993".into())),
            (Text("18446744073709551615"), "uint64", Literal::Text("18446744073709551615".into())),
            (Int(200), "float64", Literal::Int(200)),
            (Float(-0.0, None), "float64", Literal::Int(0)),
            (Float(0.1, None), "float32", Literal::Float(0.1)),
            (Float(1e18, None), "float64", Literal::Float(1e18)),
            (Float(1e300, None), "float64", Literal::Float(1e300)),
            (Text("a\"b"), "string", Literal::Text("a\"b".into())),
            (Text("1969-12-31"), "date", Literal::Text("1969-12-31".into())),
            (Text("2013-07-09T08:30:00-04:00"), "timestamp", Literal::Text("2013-07-09T12:30:00Z".into())),
            (Text("-1.5"), "decimal(10,2)", Literal::Text("-1.50".into())),
            (Text("-0.05"), "decimal(10,2)", Literal::Text("-0.05".into())),
            (Int(7), "decimal(3,0)", Literal::Text("7".into())),
            (Float(99.5, Some("99.5")), "decimal(4,2)", Literal::Text("99.50".into())),
        ] {
            assert_eq!(read(written, data_type), Ok(literal), "{written} as {data_type}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        use Written::{Bool, Float, Int, Text};
        for (written, data_type, message) in [
            (Int(128), "int8", "128 is not int8, a whole number from -128 to 127; int16 would hold it"),
            (
                Int(-1),
                "uint64",
                "-1 is not uint64, a whole number from 0 to 18446744073709551615; int8 would hold it",
            ),
            (Float(3.0, Some("3.0")), "int8", "3.0 is not int8, a whole number from -128 to 127; write 3"),
            (Float(f64::NAN, None), "float64", "NaN is not float64, a finite number"),
            (
                Float(1e39, None),
                "float32",
                "1000000000000000000000000000000000000000 is not float32, a finite number",
            ),
            (Text("1.5"), "float64", "\"1.5\" is not float64, a finite number; write 1.5 without quotes"),
            (Text("true"), "bool", "\"true\" is not bool, true or false without quotes; write true"),
            (Int(3), "string", "3 is not string, text in quotes; write \"3\""),
            (Bool(true), "binary", "true is not binary, for which no constant can be written"),
            (
                Text("2013-7-9"),
                "date",
                "\"2013-7-9\" is not date, a day such as \"2013-07-09\"; write \"2013-07-09\"",
            ),
            (
                Text("1.505"),
                "decimal(10,2)",
                "\"1.505\" is not decimal(10,2), a number with at most 10 digits, 2 of them decimals",
            ),
        ] {
            assert_eq!(read(written, data_type), Err(message.to_owned()));
        }
        for text in ["", "1e5", "1.", ".5", "--1", "1000", "99999999999999999999999999999999999999999"] {
            assert!(read(Text(text), "decimal(3,1)").is_err(), "{text}");
        }
        let naive = read(Text("2013-07-09 12:30"), "timestamp").unwrap_err();
        assert!(naive.ends_with("; write \"2013-07-09T12:30:00Z\""), "{naive}");
    }
}
