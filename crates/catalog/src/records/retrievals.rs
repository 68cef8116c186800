//! Records of what was read.

use feature::{Sequence, Timestamp, TrainingSetId};
use serde::{Deserialize, Serialize};

use super::Object;

/// A retrieval that can be rebuilt from its id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingSetRecorded {
    pub training_set: TrainingSetId,
    /// The snapshot that it was read at.
    pub sequence: Sequence,
    pub rows: u64,
    pub columns: u32,
    /// The content digest, `lmt1:…`.
    pub digest: String,
    /// `training_sets/{id}/manifest.json`.
    pub manifest: Object,
}

/// Retrievals of one flush: `reads/{id}.parquet`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReadsRecorded {
    pub reads: u64,
    pub object: Object,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Equal,
    Differs,
}

/// A training set was rebuilt and compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    pub training_set: TrainingSetId,
    pub verdict: Verdict,
    /// The digest of the rebuilt set.
    pub digest: String,
    pub at: Timestamp,
}
