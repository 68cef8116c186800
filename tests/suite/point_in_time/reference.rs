//! The rule of retrieval as DESIGN states it: one loop over all rows. It shares nothing with the product.

use std::collections::BTreeMap;

use crate::suite::values::Value;

/// A row of a feature view as it was given.
#[derive(Clone, Debug)]
pub struct Observation {
    pub key: Vec<Value>,
    pub occurrence: Option<i64>,
    pub valid_at: i64,
    pub known_at: i64,
    pub sequence: u64,
    /// Its place among all rows ever received.
    pub received: usize,
    pub retracted: bool,
    /// The features that its batch has.
    pub values: BTreeMap<usize, Option<Value>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    AtOrBefore,
    Before,
    AtOrAfter,
    After,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    AtRow,
    By(i64),
    Unlimited,
}

/// In the order in which a row gets further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    NullKeyOrTime,
    UnknownEntity,
    Later,
    NotYetKnown,
    Expired,
    Retracted,
    NotInBatch,
    NullAtSource,
}

impl Reason {
    pub const ALL: [Self; 8] = [
        Self::NullKeyOrTime,
        Self::UnknownEntity,
        Self::Later,
        Self::NotYetKnown,
        Self::Expired,
        Self::Retracted,
        Self::NotInBatch,
        Self::NullAtSource,
    ];

    pub fn text(self) -> &'static str {
        match self {
            Self::NullKeyOrTime => "null_key_or_time",
            Self::UnknownEntity => "unknown_entity",
            Self::Later => "later",
            Self::NotYetKnown => "not_yet_known",
            Self::Expired => "expired",
            Self::Retracted => "retracted",
            Self::NotInBatch => "not_in_batch",
            Self::NullAtSource => "null_at_source",
        }
    }
}

/// What one spine row asks of one view.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// None where any part is null.
    pub key: Option<&'a [Value]>,
    pub at: Option<i64>,
    pub direction: Direction,
    pub ttl: Option<i64>,
    pub knowledge: Knowledge,
}

/// The observation that wins, or why there is none. `seen` are the rows of the view's version at the snapshot.
pub fn winner<'a>(seen: &[&'a Observation], question: &Question<'_>) -> Result<&'a Observation, Reason> {
    let (Some(key), Some(at)) = (question.key, question.at) else {
        return Err(Reason::NullKeyOrTime);
    };
    let back = matches!(question.direction, Direction::AtOrBefore | Direction::Before);
    let mut best: Option<&Observation> = None;
    let mut furthest = Reason::UnknownEntity;
    for &row in seen {
        if row.key != key {
            continue;
        }
        let in_time = match question.direction {
            Direction::AtOrBefore => row.valid_at <= at,
            Direction::Before => row.valid_at < at,
            Direction::AtOrAfter => row.valid_at >= at,
            Direction::After => row.valid_at > at,
        };
        let known = match question.knowledge {
            Knowledge::AtRow => row.known_at <= at,
            Knowledge::By(instant) => row.known_at <= instant,
            Knowledge::Unlimited => true,
        };
        let alive = match question.ttl {
            Some(ttl) if back => row.valid_at >= at - ttl,
            _ => true,
        };
        if !in_time {
            furthest = furthest.max(Reason::Later);
        } else if !known {
            furthest = furthest.max(Reason::NotYetKnown);
        } else if !alive {
            furthest = furthest.max(Reason::Expired);
        } else if best.is_none_or(|best| beats(row, best, back)) {
            best = Some(row);
        }
    }
    match best {
        Some(row) if row.retracted => Err(Reason::Retracted),
        Some(row) => Ok(row),
        None => Err(furthest),
    }
}

fn beats(row: &Observation, best: &Observation, back: bool) -> bool {
    if row.valid_at != best.valid_at {
        return (row.valid_at > best.valid_at) == back;
    }
    (row.known_at, row.sequence, row.received) > (best.known_at, best.sequence, best.received)
}

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Value(Value),
    Default(Value),
    Null(Reason),
}

impl Cell {
    pub fn value(&self) -> Option<&Value> {
        match self {
            Self::Value(value) | Self::Default(value) => Some(value),
            Self::Null(_) => None,
        }
    }
}

pub fn cell(winner: Result<&Observation, Reason>, feature: usize, default: Option<&Value>) -> Cell {
    match winner {
        Ok(row) => match row.values.get(&feature) {
            Some(Some(value)) => Cell::Value(value.clone()),
            Some(None) => Cell::Null(Reason::NullAtSource),
            None => Cell::Null(Reason::NotInBatch),
        },
        Err(Reason::Retracted) => Cell::Null(Reason::Retracted),
        Err(reason) => match default {
            Some(default) => Cell::Default(default.clone()),
            None => Cell::Null(reason),
        },
    }
}

/// The rows of the table: per key, valid_at and occurrence the latest known, without retractions.
pub fn surviving<'a>(seen: &[&'a Observation]) -> Vec<&'a Observation> {
    let same = |row: &Observation, other: &Observation| {
        row.key == other.key && row.valid_at == other.valid_at && row.occurrence == other.occurrence
    };
    let mut left = Vec::new();
    for &row in seen {
        if !row.retracted && !seen.iter().any(|other| same(row, other) && beats(other, row, true)) {
            left.push(row);
        }
    }
    left
}
