//! Records of rows that are too old: they count no more, and then they are gone.

use feature::{BatchId, Span, Timestamp, ViewId};
use serde::{Deserialize, Serialize};

/// Rows of a view that do not count from this sequence on: all that are valid before an instant, in all of its lines, also those that come
/// later. Snapshots before have them as long as they are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsExpired {
    pub view: ViewId,
    /// Of the view, never less than in an earlier one.
    pub before: Timestamp,
    /// For how long the view's definition said that rows are kept.
    pub keep: Span,
}

/// Rows that are gone from here on, whether they were deleted yet or not: of these batches those that are valid before an instant. A data
/// file is deleted once all of its rows are such; none of them counts any more, and nothing that is kept needs them. Written before
/// anything is deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsDeleted {
    pub view: ViewId,
    /// No later than what the view's last `rows_expired` says.
    pub before: Timestamp,
    pub batches: Vec<BatchId>,
}
