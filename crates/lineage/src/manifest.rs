//! The manifest of a training set: `training_sets/{id}/manifest.json`.
//!
//! It names the spine, the references resolved to versions, the snapshot and the options: with these the set is made again.
//! And it says what came out: schema, digests, and how many rows each batch answered. Fields are added, never given
//! another meaning.

use std::collections::BTreeMap;

use catalog::records::Object;
use feature::digest::Digest;
use feature::policy::Purpose;
use feature::{BatchId, ReadId, Sequence, Span, Timestamp, TrainingSetId, VersionId};
use serde::{Deserialize, Serialize};

use crate::edges::Edge;
use crate::split::Split;

/// The format that this program writes.
pub const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub id: TrainingSetId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub created_at: Timestamp,
    pub created_by: String,
    pub program: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<String>,
    /// The snapshot that was read.
    pub sequence: Sequence,
    pub knowledge: Knowledge,
    pub spine: SpineManifest,
    /// In the order of the output's columns after the spine's.
    pub references: Vec<ReferenceManifest>,
    pub views: Vec<ViewManifest>,
    /// The plan as it was analysed, for people; replay plans anew.
    pub plan: String,
    pub rows: u64,
    /// The content digest, `lmt1:…`.
    pub digest: String,
    pub columns: Vec<ColumnManifest>,
    pub lineage: Vec<Edge>,
    /// The machine that it was made on, as the compiler names it.
    pub target: String,
    /// How the set was declared to fall into parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// Whether after the features stands, for each in their order, a column that says why it is null.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub null_reasons: bool,
    /// By which policies it was made, and what they kept from whoever made it; none where nothing was governed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyManifest>,
}

impl Manifest {
    /// Whether a column says why the feature beside it is null.
    pub fn says_why_null(&self, column: &str) -> bool {
        let of = feature::with_null_reason(column).filter(|_| self.null_reasons);
        of.is_some_and(|output| self.references.iter().any(|reference| reference.output == output))
    }

    /// The versions that it was made of, each once: those that features were looked up in, then those that the spine's query read.
    pub fn versions(&self) -> Vec<VersionId> {
        let mut versions: Vec<VersionId> = self.views.iter().map(|view| view.version).collect();
        for source in self.spine.query.iter().flat_map(|query| &query.sources) {
            if !versions.contains(&source.version) {
                versions.push(source.version);
            }
        }
        versions
    }
}

/// The policies that a set was made under.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyManifest {
    pub number: u32,
    pub digest: Digest,
    /// Who asked, and what for.
    pub principal: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    pub purpose: Purpose,
    /// Those of which something was kept from the asker.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<ViewPolicy>,
}

/// What was kept of a view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewPolicy {
    pub version: VersionId,
    /// Conditions that all hold of the rows that were seen, each after the policy that says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<(String, String)>,
    /// By feature: `null`, `hash`, `round:10`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub masks: BTreeMap<String, String>,
}

/// What could be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Knowledge {
    /// What was known at each row's own time.
    AtRow,
    /// What was known at one instant.
    By(Timestamp),
    /// Without a limit: the set leaks, on purpose.
    Unlimited,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpineManifest {
    pub object: Object,
    pub digest: String,
    pub rows: u64,
    /// The column of the times that features were asked at.
    pub at: String,
    /// Where a query that read features gave the rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<SpineQuery>,
}

/// A query that gave a spine its rows. Its text is in the record of its read, which an erasure finds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpineQuery {
    pub read: ReadId,
    /// What it read, whether its columns could be traced or not.
    pub sources: Vec<SpineSource>,
}

/// A version that the query of a spine read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpineSource {
    pub version: VersionId,
    pub label: String,
    /// The snapshot that was read: with time travel in the query not the set's.
    pub sequence: Sequence,
    /// None where only the number of rows counted.
    pub columns: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceManifest {
    pub asked: String,
    /// `weather@3.temp`
    pub resolved: String,
    pub version: VersionId,
    pub feature: String,
    pub output: String,
    /// Null cells by reason.
    pub nulls: BTreeMap<String, u64>,
    pub defaulted: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewManifest {
    pub version: VersionId,
    pub label: String,
    /// The ttl that was used: the version's own, or the one given for this retrieval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
    /// Spine rows that found an observation.
    pub matched: u64,
    /// Every batch that counted.
    pub batches: Vec<BatchId>,
    /// Rows whose values came from a batch; cells are this times the columns taken from the view.
    pub hits: Vec<Hit>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    pub batch: BatchId,
    pub rows: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnManifest {
    pub name: String,
    /// As `lmt1` names it.
    #[serde(rename = "type")]
    pub data_type: String,
    pub digest: String,
    /// One for each 65,536 rows, so that a difference is found by block.
    pub leaves: Vec<String>,
}
