//! Records of rejected rows that were mended and came in after all.

use feature::BatchId;
use serde::{Deserialize, Serialize};

use super::Object;

/// Rows of a batch in this entry are those that another batch had rejected, mended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowsMended {
    /// The batch that has them now, committed or kept back by this entry.
    pub batch: BatchId,
    /// The batch that had rejected them, or that was refused for them.
    pub of: BatchId,
    pub rows: u64,
    /// Which: `quarantine/{batch}/mended.parquet`.
    pub mended: Object,
}
