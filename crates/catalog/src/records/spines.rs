//! Records of spines that are kept under the digest of their rows.

use feature::{SpineId, TrainingSetId};
use serde::{Deserialize, Serialize};

use super::Object;

/// A spine that may be asked for by the digest of its rows from here on. Said again of the same one, by who puts the same rows up
/// later: its age begins anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpineKept {
    /// Minted before the object was written.
    pub spine: SpineId,
    /// Of its rows, `lmt1:…`. No two of one digest are kept at a time.
    pub digest: String,
    pub rows: u64,
    pub object: Object,
}

/// Spines that nobody can ask for from here on, and that no training set was made for. Their objects may go once every read that
/// began before has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpinesDropped {
    pub spines: Vec<SpineId>,
}

/// A training set is made again of a spine that is kept: it is never dropped from here on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpineUsed {
    pub spine: SpineId,
    pub training_set: TrainingSetId,
}
