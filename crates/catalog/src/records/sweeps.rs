//! Records of what may be deleted, and how long things are kept at least.

use feature::{Horizon, Sequence, Span};
use serde::{Deserialize, Serialize};

/// What is condemned from here on, whether it was deleted yet or not. Written before anything is deleted: from this entry on nobody can
/// name what it condemns, so that safety needs no clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// Objects with a lesser id that no entry up to this one names. The fence: a later entry that brings a lesser id is refused.
    pub before: Horizon,
    /// Data files that a compaction up to this entry replaced; none where it is absent. Their manifests stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compacted: Option<Sequence>,
    /// For how long what was condemned had been of no use at least, by the clock of whoever swept.
    pub grace: Span,
    /// What was found of them before this was written, by kind. What came to light after it counts all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<Found>,
}

/// Objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// `data`, `manifest`, `body`, …
    pub kind: String,
    pub objects: u64,
    pub bytes: u64,
}

/// How long things are kept at least, from here on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionSet {
    /// How long an object has been of no use before it is swept. Not less than the longest read.
    pub grace: Span,
    /// How long a read may last; one that lasts longer fails, for its files may be gone.
    pub longest_read: Span,
}
