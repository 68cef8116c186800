//! Why a row was rejected: a frozen vocabulary, and one rejection with its sentence.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident = $text:literal,)*) => {
        /// Why a row was rejected. The texts are stored in quarantine files: they are added to, and never changed.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])* $reason,)*
        }

        impl Reason {
            /// Every reason, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$reason,)*];

            /// The stored text, in snake case.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$reason => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// A key or the occurrence column has no value.
    NullKey = "null_key",
    /// `valid_at` or `known_at` has no value.
    NullTime = "null_time",
    /// A time has parts below a microsecond.
    TimeTooFine = "time_too_fine",
    /// A local time that the declared zone skips.
    NonexistentTime = "nonexistent_time",
    /// A local time that the declared zone has twice, where the view refuses those.
    RepeatedTime = "repeated_time",
    /// A text without a zone where the view declares none.
    TimeWithoutZone = "time_without_zone",
    /// A time or date before year 1 or after year 9999.
    TimeOutOfRange = "time_out_of_range",
    /// A value that the declared type cannot hold exactly.
    WrongType = "wrong_type",
    /// No value where the feature needs one.
    NullValue = "null_value",
    /// NaN where the feature refuses it.
    Nan = "nan",
    /// Less than the least accepted value.
    BelowRange = "below_range",
    /// Greater than the greatest accepted value.
    AboveRange = "above_range",
    /// Not among the accepted values.
    NotOneOf = "not_one_of",
    /// A check over the whole row is false.
    Check = "check",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a reason of rejection; reasons are {}", all())]
pub struct ReasonError {
    text: String,
}

fn all() -> String {
    Reason::ALL.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join(", ")
}

impl FromStr for Reason {
    type Err = ReasonError;

    fn from_str(text: &str) -> Result<Self, ReasonError> {
        let found = Self::ALL.iter().copied().find(|reason| reason.as_str() == text);
        found.ok_or_else(|| ReasonError { text: text.to_owned() })
    }
}

/// One reason why one row was rejected; a row may have several.
#[derive(Clone, PartialEq, Debug)]
pub struct Rejection {
    /// The row's number in the whole source; the first is 0.
    pub row: u64,
    /// The row's number in its batch; the first is 0.
    pub index: usize,
    pub reason: Reason,
    /// The source column; the check's name where `reason` is `check`.
    pub column: Arc<str>,
    /// The value as the source has it, shortened; text in quotes. For a check, the values that it is about.
    pub value: String,
    /// What is wrong with the value, to be read after it.
    pub(super) phrase: Arc<str>,
    /// The converted column that it is about, where it is about one.
    pub(super) output: Option<usize>,
}

impl Rejection {
    /// A sentence for people: row, column, value, and what is accepted.
    pub fn message(&self) -> String {
        let Self { row, column, value, phrase, .. } = self;
        if self.reason != Reason::Check {
            return format!("row {row}, column `{column}`: {value} {phrase}");
        }
        let with = if value.is_empty() { "" } else { ", with " };
        format!("row {row}, check `{column}`: {phrase}{with}{value}")
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}
