//! Records of what no longer counts, and counts again: nothing is deleted by them, and none of them is final.

use feature::{BatchId, VersionId};
use serde::{Deserialize, Serialize};

/// A batch that no snapshot has from this sequence on. Its rows stay, and earlier snapshots have it as before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchWithdrawn {
    pub batch: BatchId,
    /// Why, in the writer's words.
    pub reason: String,
}

/// A withdrawn batch that counts again from this sequence on, at the place in the order of the log that it always had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchRestored {
    pub batch: BatchId,
    pub reason: String,
}

/// A version of a feature view that is not in force from this sequence on: the one before it is, and who names the number still
/// reads this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionWithdrawn {
    pub version: VersionId,
    pub reason: String,
}

/// A withdrawn version that may be in force again from this sequence on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionRestored {
    pub version: VersionId,
    pub reason: String,
}
