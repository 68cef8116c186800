//! Records of batches whose rows were written anew.

use feature::{BatchId, CompactionId, Sequence, VersionId, ViewId};
use serde::{Deserialize, Serialize};

use super::Object;

/// Neighbouring batches whose rows lie in other files from here on. It changes no answer: every row is kept, and says which batch it is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compacted {
    pub compaction: CompactionId,
    pub view: ViewId,
    /// That all of the batches were written under.
    pub version: VersionId,
    /// The first of the batches in the order of the log.
    pub first: BatchId,
    pub last: BatchId,
    /// How many they are, with all between.
    pub batches: u64,
    /// How many batches of their line come before them.
    pub place: u64,
    /// Earlier compactions of some of them, whose files are replaced; of the other batches those that they were written to are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<CompactionId>,
    /// The last compaction of the view that whoever wrote this knew of; none where there was none. The fence: it must be the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Sequence>,
    /// The last erasure of something of the view that whoever wrote this knew of when it read the rows; none where there was none. A
    /// fence too: what was read before may hold what is erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased: Option<Sequence>,
    pub rows: u64,
    /// The files: `manifests/{id}.parquet`.
    pub manifest: Object,
}
