//! What can be wrong with one cell, before it is put into words.

use super::reason::Reason;

/// What is wrong with one cell of a column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// Not a value of the type at all.
    WrongType,
    /// Below or above what the type holds.
    OutsideType,
    /// The type would round it.
    Inexact,
    /// A time of day where a date is wanted.
    NotADay,
    TimeTooFine,
    TimeNonexistent,
    TimeRepeated,
    TimeWithoutZone,
    TimeOutOfRange,
    /// The time itself is in range, the time plus the declared delay is not.
    DelayOutOfRange,
    Null,
    Nan,
    Below,
    Above,
    NotOneOf,
    /// Not a retraction, in a source that has no feature columns.
    NothingToTake,
}

/// Faulty rows of one column, each with what is wrong.
pub(super) type Faults = Vec<(usize, Fault)>;

impl Fault {
    /// The reason of a feature's cell; keys and times have their own word for null.
    pub(super) fn reason(self) -> Reason {
        match self {
            Self::WrongType | Self::OutsideType | Self::Inexact | Self::NotADay => Reason::WrongType,
            Self::TimeTooFine => Reason::TimeTooFine,
            Self::TimeNonexistent => Reason::NonexistentTime,
            Self::TimeRepeated => Reason::RepeatedTime,
            Self::TimeWithoutZone => Reason::TimeWithoutZone,
            Self::TimeOutOfRange | Self::DelayOutOfRange => Reason::TimeOutOfRange,
            Self::Null | Self::NothingToTake => Reason::NullValue,
            Self::Nan => Reason::Nan,
            Self::Below => Reason::BelowRange,
            Self::Above => Reason::AboveRange,
            Self::NotOneOf => Reason::NotOneOf,
        }
    }
}
