//! Instants and spans, both whole microseconds; instants are UTC.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// An instant: microseconds since 1970-01-01T00:00:00Z. JSON holds the number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub fn micros(self) -> i64 {
        self.0
    }
}

/// RFC 3339 in UTC, with as many decimals as the instant has; a bare number of microseconds where the
/// calendar ends.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::<Utc>::from_timestamp_micros(self.0) {
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => write!(f, "{} µs", self.0),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an instant: write it as 2013-07-09T12:30:00Z, with its zone")]
pub struct TimestampError {
    text: String,
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let time =
            DateTime::parse_from_rfc3339(text).map_err(|_| TimestampError { text: text.to_owned() })?;
        if time.timestamp_subsec_nanos() % 1000 != 0 {
            return Err(TimestampError { text: text.to_owned() });
        }
        Ok(Self(time.timestamp_micros()))
    }
}

/// Instants as RFC 3339 text, for JSON that people and clients write.
pub mod rfc3339 {
    /// An instant that may be left out.
    pub mod option {
        use serde::{Deserialize, Deserializer, Serializer, de};

        use crate::Timestamp;

        #[allow(clippy::ref_option)]
        pub fn serialize<S: Serializer>(
            instant: &Option<Timestamp>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match instant {
                Some(instant) => serializer.collect_str(instant),
                None => serializer.serialize_none(),
            }
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Timestamp>, D::Error> {
            let text: Option<String> = Option::deserialize(deserializer)?;
            text.map(|text| text.parse().map_err(de::Error::custom)).transpose()
        }
    }
}

/// A length of time in microseconds, never negative: a ttl or a delay. Written `30m`, `7d`, `1h30m`; the units
/// are w, d, h, m, s, ms, us, each of fixed length (a day is 24 hours).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(i64);

const UNITS: [(&str, i64); 7] = [
    ("w", 604_800_000_000),
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

impl Span {
    pub const ZERO: Self = Self(0);

    /// `None` when negative.
    #[must_use]
    pub fn from_micros(micros: i64) -> Option<Self> {
        (micros >= 0).then_some(Self(micros))
    }

    pub fn micros(self) -> i64 {
        self.0
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a length of time: write a whole number and a unit, as in 30m, 7d or 1h30m (units: w d h m s ms us)"
)]
pub struct SpanError {
    text: String,
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let wrong = || SpanError { text: text.to_owned() };
        let mut rest = text.trim();
        let mut total = 0i64;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let (number, tail) = rest.split_at(digits);
            let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let (_, micros) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
            total = number
                .parse::<i64>()
                .ok()
                .and_then(|number| number.checked_mul(*micros))
                .and_then(|part| total.checked_add(part))
                .ok_or_else(wrong)?;
            rest = tail;
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (unit, micros) in UNITS {
            if rest >= micros {
                write!(f, "{}{unit}", rest / micros)?;
                rest %= micros;
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Span {
    type Error = SpanError;
    fn try_from(text: String) -> Result<Self, SpanError> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_back_as_written() {
        for (text, micros, shown) in [
            ("30m", 1_800_000_000, "30m"),
            ("90m", 5_400_000_000, "1h30m"),
            ("1d12h", 129_600_000_000, "1d12h"),
            ("0s", 0, "0s"),
            ("5ms", 5_000, "5ms"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.micros(), micros);
            assert_eq!(span.to_string(), shown);
        }
        for text in ["", "5", "m", "-3d", "3 days", "99999999999999w", "1.5h"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn timestamps_are_utc_micros() {
        let time: Timestamp = "2013-01-01T05:00:00-05:00".parse().unwrap();
        assert_eq!(time.to_string(), "2013-01-01T10:00:00Z");
        assert!("2013-01-01T05:00:00".parse::<Timestamp>().is_err());
        assert!("2013-01-01T05:00:00.000000001Z".parse::<Timestamp>().is_err());
    }
}
