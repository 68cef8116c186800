//! Records of what was ingested, and of what was refused.

use std::collections::BTreeMap;

use feature::digest::Digest;
use feature::quality::Judged;
use feature::{BatchId, Sequence, VersionId, ViewId};
use serde::{Deserialize, Serialize};

use super::Object;

/// How the known-at times of a batch came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnownAtSource {
    /// A column of the source said.
    Column,
    /// `valid_at` plus the declared delay.
    Delay,
    /// The time of the commit.
    Arrival,
    /// Nobody said: taken as `valid_at`.
    Assumed,
}

/// A file that was read, by the digest of its bytes; its name lies in the batch's body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceFile {
    pub digest: Digest,
    pub bytes: u64,
}

/// One ingested write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchCommitted {
    pub batch: BatchId,
    pub view: ViewId,
    pub version: VersionId,
    pub rows: u64,
    pub rejected: u64,
    pub known_at: KnownAtSource,
    /// The files: `manifests/{id}.parquet`.
    pub manifest: Object,
    /// The hash over the digests of the batch's pieces.
    pub digest: Digest,
    /// The rejected rows with their reasons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Object>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceFile>,
    /// Names of sources and the transformation steps that the writer stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Object>,
    /// What the rows were made of, for a batch of a derived view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derivation: Option<Derivation>,
    /// What its values are like: `profiles/{batch}.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Object>,
    /// The verdict of its view's checks, where it declares any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<Judged>,
}

/// How a refresh of a derived view made its rows. The query and its plan lie in the batch's body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Derivation {
    /// The snapshot that was read.
    pub sequence: Sequence,
    /// Only rows of batches after this sequence were read; none where all were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Sequence>,
    /// Whether each row was made of one row: what came of a batch is then exact, else at most.
    pub row_preserving: bool,
    pub parents: Vec<Parent>,
}

impl Derivation {
    /// Whether the columns of its query were traced to those of all parents.
    pub fn is_traced(&self) -> bool {
        self.parents.iter().all(|parent| parent.bears_on.is_some())
    }
}

/// What was read of a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parent {
    pub version: VersionId,
    /// Features that the query reads.
    pub features: Vec<String>,
    pub batches: Vec<BatchId>,
    /// By feature of this version, the features of the derived view whose values it bears on, and [`Parent::ROWS`] where
    /// it bears on which rows there are, and so on all of them. Those that bear on nothing are left out. None where the
    /// columns of the query were not traced, and in entries of earlier programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bears_on: Option<BTreeMap<String, Vec<String>>>,
}

impl Parent {
    /// In [`Parent::bears_on`]: which rows the derived view has.
    pub const ROWS: &str = "*";
}

/// A batch of which too many rows were rejected. None of it counts; its rejected rows lie in quarantine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchRefused {
    pub batch: BatchId,
    pub view: ViewId,
    pub version: VersionId,
    /// Rows that were offered.
    pub rows: u64,
    pub rejected: u64,
    pub quarantine: Object,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Object>,
}
