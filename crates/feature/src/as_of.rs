//! The state of a store that is asked for, in place of its newest.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Sequence, Timestamp};

/// A state of a store: by its sequence, or the one in force at an instant. JSON holds a number, or RFC 3339 text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AsOf {
    /// After this entry of the log.
    Sequence(Sequence),
    /// After the last entry that was committed by then.
    Instant(Timestamp),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is neither a sequence of the log nor an instant: write a whole number, or an instant with its zone, as 2013-07-09T12:30:00Z"
)]
pub struct AsOfError {
    text: String,
}

impl FromStr for AsOf {
    type Err = AsOfError;

    fn from_str(text: &str) -> Result<Self, AsOfError> {
        if let Ok(sequence) = text.parse::<u64>() {
            return Ok(Self::Sequence(Sequence(sequence)));
        }
        text.parse::<Timestamp>().map(Self::Instant).map_err(|_| AsOfError { text: text.to_owned() })
    }
}

impl Serialize for AsOf {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Sequence(sequence) => sequence.serialize(serializer),
            Self::Instant(instant) => serializer.collect_str(instant),
        }
    }
}

impl<'de> Deserialize<'de> for AsOf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

/// Reads what a client wrote; text is read as on the command line.
struct Written;

impl Visitor<'_> for Written {
    type Value = AsOf;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence of the log, or an instant as \"2013-07-09T12:30:00Z\"")
    }

    fn visit_u64<E: de::Error>(self, sequence: u64) -> Result<AsOf, E> {
        Ok(AsOf::Sequence(Sequence(sequence)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<AsOf, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_sequence_and_all_else_an_instant() {
        assert_eq!("7".parse::<AsOf>(), Ok(AsOf::Sequence(Sequence(7))));
        let instant = AsOf::Instant("2013-01-01T10:00:00Z".parse().unwrap());
        assert_eq!("2013-01-01T05:00:00-05:00".parse::<AsOf>(), Ok(instant));
        for text in ["", "-1", "7.0", "noon", "2013-01-01", "2013-01-01T10:00:00", "18446744073709551616"] {
            let error = text.parse::<AsOf>().unwrap_err();
            assert!(error.to_string().contains(&format!("`{text}` is neither")), "{error}");
        }
    }

    #[test]
    fn json_holds_a_number_or_a_text() {
        for text in ["7", "\"2013-01-01T10:00:00Z\"", "\"2013-01-01T10:00:00.000001Z\""] {
            let read: AsOf = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
        for (text, why) in [
            ("-1", "invalid type: integer `-1`, expected a sequence of the log, or an instant"),
            ("1.5", "invalid type: floating point `1.5`, expected a sequence"),
            ("true", "expected a sequence"),
            ("\"noon\"", "`noon` is neither a sequence of the log nor an instant"),
        ] {
            let error = serde_json::from_str::<AsOf>(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
