//! Records of what was profiled as it passed by.

use feature::quality::Judged;
use feature::{SampleId, Timestamp, VersionId, ViewId};
use serde::{Deserialize, Serialize};

use super::Object;

/// Where rows passed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PassedBy {
    /// On their way out, as features of a retrieval.
    Reads,
    /// On their way in, by streams of producers.
    Streams,
}

impl PassedBy {
    /// As it is declared and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Streams => "streams",
        }
    }
}

/// A declared share of what passed by of a version, profiled and compared with its baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampled {
    pub sample: SampleId,
    pub view: ViewId,
    pub version: VersionId,
    pub of: PassedBy,
    /// Of the entities, by the hash of their keys; the greatest that was declared meanwhile.
    pub share: f64,
    /// When the first and the last of it passed by, by the clock of whoever saw it.
    pub from: Timestamp,
    pub until: Timestamp,
    /// Rows that passed by.
    pub passed: u64,
    /// Those of entities in the share.
    pub rows: u64,
    /// What their values are like: `profiles/{sample}.json`.
    pub profile: Object,
    pub judged: Judged,
}
