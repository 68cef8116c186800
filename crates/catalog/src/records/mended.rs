//! Records of rejected rows that were mended and came in after all.

use feature::BatchId;
use serde::{Deserialize, Serialize};

use super::Object;

/// A batch of this entry has rows that another batch had rejected: mended, or rejected again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowsMended {
    /// The batch that has them now, committed, kept back or refused by this entry.
    pub batch: BatchId,
    /// The batch that had rejected them, or that was refused for them.
    pub of: BatchId,
    pub rows: u64,
    /// How many of them were rejected again, and are rejected rows of this batch now; none where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<u64>,
    /// Which: `quarantine/{batch}/mended.parquet`.
    pub mended: Object,
}
