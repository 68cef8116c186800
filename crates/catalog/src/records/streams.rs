//! Records of what came in over streams.

use feature::digest::Digest;
use feature::{BatchId, ViewId};
use serde::{Deserialize, Serialize};

/// The parts of streams that a batch of the same entry holds. It follows that batch, which was committed or
/// refused.
///
/// A part is told by the view, the producer, its epoch and its number, once for ever: the fold refuses an
/// entry that repeats one or leaves one out. So a part that is sent again finds the batch that took it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamPartsCommitted {
    pub batch: BatchId,
    pub view: ViewId,
    /// In the order of the batch's rows.
    pub runs: Vec<PartRun>,
}

/// Neighbouring parts of one producer. Epochs and numbers begin with 1 and are at most 2⁵³.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartRun {
    pub producer: String,
    pub epoch: u64,
    /// Numbers of the first part and the last, both of which are in it.
    pub first: u64,
    pub last: u64,
    /// Rows that were taken, and those that were rejected.
    pub rows: u64,
    pub rejected: u64,
    /// Of the last part, what its request was.
    pub digest: Digest,
    /// Each part: in every entry of the log, and in no checkpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<StreamPart>,
}

/// What one part asked and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamPart {
    pub digest: Digest,
    pub rows: u64,
    pub rejected: u64,
}
