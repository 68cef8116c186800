//! Records of what was read.

use feature::{BatchId, Sequence, Timestamp, TrainingSetId, VersionId};
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
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the set was selected from, as in the manifest. Entries of the first programs have it in the manifest alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<Vec<Selected>>,
}

/// What a training set took of one version of a feature view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Selected {
    pub version: VersionId,
    /// The features, in the order of the set's columns.
    pub features: Vec<String>,
    /// The batches that answered, with how many of the set's rows each did. Cells are rows times features.
    pub hits: Vec<BatchHit>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchHit {
    pub batch: BatchId,
    pub rows: u64,
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
    /// What was not erased is as recorded, and of blocks that lost rows what is left is as it was found to be then.
    EqualMinusErasures,
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
