//! Records of what is kept because somebody says so.

use feature::HoldId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldKind {
    Batch,
    /// A version of a feature view, with the batches that were written under it.
    Version,
    TrainingSet,
    /// With the training sets that it was made of.
    ModelVersion,
}

impl HeldKind {
    /// As the log has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Version => "version",
            Self::TrainingSet => "training_set",
            Self::ModelVersion => "model_version",
        }
    }
}

/// A thing, and all that it needs, must stay until the hold is lifted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldPlaced {
    pub hold: HoldId,
    pub kind: HeldKind,
    /// Of the thing.
    pub id: Uuid,
    /// Why, in the writer's words.
    pub reason: String,
}

/// A hold that is no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldLifted {
    pub hold: HoldId,
    pub reason: String,
}
