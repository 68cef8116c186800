//! Records of batches that wait: written, judged, and counted by nobody until somebody has looked.

use feature::BatchId;
use serde::{Deserialize, Serialize};

use super::BatchCommitted;

/// A batch that failed its checks where its view keeps such batches back. Its files lie where those of every batch
/// do, and no snapshot has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchQuarantined {
    /// As it would have been committed.
    pub batch: BatchCommitted,
}

/// A quarantined batch that counts from this entry on: its place in the order of the log and the time of its arrival are
/// this entry's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchReleased {
    pub batch: BatchId,
    /// Why, in the writer's words.
    pub reason: String,
}

/// A quarantined batch that will never count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchDropped {
    pub batch: BatchId,
    pub reason: String,
}
