//! Why a cell differs, from the two winners and what each set could see.

use catalog::state::{Batch, State};
use engine::point_in_time::{Cut, Winner};
use feature::{BatchId, Sequence};
use serde::Serialize;

use crate::recorded::Winners;

/// Why a cell differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The observation of one set came in after the other set's snapshot.
    NewerData,
    /// The same, and it is of the same instant as the one that it took the place of.
    Correction,
    /// The batch of the observation was withdrawn at the other set's snapshot.
    Withdrawn,
    /// The observation was too old by the view's retention at the other set's snapshot.
    Retention,
    /// The observation does not count for the other set's version of the view.
    OtherVersion,
    /// The column is of another feature, or of the spine in one set and a feature in the other.
    OtherFeature,
    /// The observation is too old under the other set's ttl.
    Ttl,
    /// The observation was not known by the other set's limit on known_at.
    Knowledge,
    /// Both sets found the same observation, or none, and the versions give another value for it: another default.
    Definition,
    /// The column came with the spine.
    Spine,
    /// None of these; a fault of ours, or of the store.
    Unexplained,
}

impl Cause {
    /// As it stands in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NewerData => "newer_data",
            Self::Correction => "correction",
            Self::Withdrawn => "withdrawn",
            Self::Retention => "retention",
            Self::OtherVersion => "other_version",
            Self::OtherFeature => "other_feature",
            Self::Ttl => "ttl",
            Self::Knowledge => "knowledge",
            Self::Definition => "definition",
            Self::Spine => "spine",
            Self::Unexplained => "unexplained",
        }
    }
}

/// A cause, and the batch of the observation that it is told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub cause: Cause,
    pub by: Option<(Sequence, BatchId)>,
}

impl Cause {
    pub fn alone(self) -> Told {
        Told { cause: self, by: None }
    }
}

/// Why the two sets differ at a place of their winners. First it is asked why the other set's observation did not win in
/// the first; where it could have, why the first set's did not win in the other.
pub fn told(state: &State, a: &Winners, b: &Winners, place: usize) -> Told {
    let (Some(one), Some(other)) = (a.found.get(place), b.found.get(place)) else {
        return Cause::Unexplained.alone();
    };
    let (one, other) = (one.as_ref().ok(), other.as_ref().ok());
    let at = a.at.get(place).copied().flatten();
    match (one, other) {
        (None, None) => return Cause::Definition.alone(),
        (Some(one), Some(other)) if is_same(one, other) => {
            return Cause::Definition.alone();
        }
        _ => {}
    }
    for (seen, winner, rival) in [(a, other, one), (b, one, other)] {
        let Some(winner) = winner else { continue };
        let batch = &winner.batch;
        if let Some(cause) = excludes(state, seen, batch, winner, rival, at) {
            return Told { cause, by: Some((batch.by.sequence, batch.record.batch)) };
        }
    }
    Cause::Unexplained.alone()
}

/// Whether two winners of one key are one observation: of those of a batch with equal times, only the last can win.
fn is_same(one: &Winner, other: &Winner) -> bool {
    let told = |winner: &Winner| (winner.batch.record.batch, winner.valid_at, winner.known_at);
    told(one) == told(other)
}

/// The first reason for which a set could not take an observation that another took.
fn excludes(
    state: &State,
    seen: &Winners,
    batch: &Batch,
    winner: &Winner,
    rival: Option<&Winner>,
    at: Option<i64>,
) -> Option<Cause> {
    let at = at?;
    let cut = match seen.cut {
        Cut::Row => at,
        Cut::Instant(instant) => instant.micros(),
        Cut::None => i64::MAX,
    };
    let oldest = seen.ttl.map_or(i64::MIN, |ttl| at.saturating_sub(ttl.micros()));
    if batch.line != seen.version.line {
        Some(Cause::OtherVersion)
    } else if batch.by.sequence > seen.sequence {
        let corrects = rival.is_some_and(|rival| rival.valid_at == winner.valid_at);
        Some(if corrects { Cause::Correction } else { Cause::NewerData })
    } else if !state.counts_for(batch, &seen.version) {
        Some(Cause::OtherVersion)
    } else if !state.counts_at(batch, seen.sequence) {
        Some(Cause::Withdrawn)
    } else if Some(winner.valid_at) < state.expiry().before(seen.version.view, seen.sequence) {
        Some(Cause::Retention)
    } else if winner.known_at.micros() > cut {
        Some(Cause::Knowledge)
    } else if winner.valid_at.micros() < oldest {
        Some(Cause::Ttl)
    } else {
        None
    }
}
