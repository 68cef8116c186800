//! Records of experiments, runs, models and deployments: what other systems, or people, say of them.
//!
//! An id is minted when the store first hears of a thing, and `external_linked` ties it to the key that finds it
//! again. What is observed later adds to what was known: a field that is left out says nothing.

use feature::{DeploymentId, ExperimentId, ModelId, ModelVersionId, RunId, Timestamp, TrainingSetId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Object;

/// What a foreign id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Experiment,
    Run,
    Model,
    ModelVersion,
}

/// How something became known here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The caller said so in the call.
    #[default]
    Explicit,
    /// The active run of the caller's thread.
    Thread,
    /// The caller's environment.
    Environment,
    /// The set came before the run, which began in the same process.
    Pending,
    /// A tag of the run.
    Tag,
    /// An id that travelled with the rows.
    Artifact,
    /// A pass over the tracking server.
    Reconciliation,
}

/// Ties an id of ours to the one that another system has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExternalLinked {
    pub id: Uuid,
    pub kind: Kind,
    /// `mlflow`, `wandb`, `other:<name>`; `lineament` for what is known here alone.
    pub system: String,
    /// Which server, normalised; empty where the system has one only.
    pub authority: String,
    pub external_id: String,
    pub how: How,
}

/// Two addresses of one server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuthorityAliased {
    pub authority: String,
    pub alias: String,
}

/// Whether the other system still has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    Active,
    /// Marked as deleted, and can be restored.
    Deleted,
    /// It is not there any more.
    Gone,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExperimentObserved {
    pub experiment: ExperimentId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is to find out, in the words of its owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hypothesis: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
    pub seen_at: Timestamp,
    /// Tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Object>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunObserved {
    pub run: RunId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<ExperimentId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<RunId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// In the other system's words, as `FINISHED`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
    pub seen_at: Timestamp,
    /// User, parameters, metrics, tags, source commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Object>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelObserved {
    pub model: ModelId,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
    pub seen_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelVersionObserved {
    pub model_version: ModelVersionId,
    pub model: ModelId,
    /// In the registry's words, as `3`.
    pub version: String,
    /// The run that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
    pub seen_at: Timestamp,
    /// Where the model's files are, and tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Object>,
}

/// What an alias of a model means. It moved after `previous_seen_at` and not later than `seen_at`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AliasObserved {
    pub model: ModelId,
    pub alias: String,
    /// None: the alias was taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<ModelVersionId>,
    pub seen_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_seen_at: Option<Timestamp>,
}

/// How it is known that a model serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// A caller named its model when it read features.
    Serving,
    /// Somebody said so.
    Declared,
    /// An alias that stands for production.
    Alias,
}

/// From `from` on, a deployment serves this model version; none ends it. What it served before ends there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeploymentChanged {
    pub deployment: DeploymentId,
    pub name: String,
    pub environment: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<ModelVersionId>,
    /// The feature service that it reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    pub from: Timestamp,
    pub evidence: Evidence,
}

/// A pass over a tracking server came to its end: what was observed at `seen_at` is all that there was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reconciled {
    pub system: String,
    pub authority: String,
    pub seen_at: Timestamp,
    /// Experiments, runs, model versions and aliases that the server has.
    pub found: u64,
    /// What it has no more.
    pub gone: u64,
}

/// How well a deployment did over some time, as its labels came in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeploymentMeasured {
    pub deployment: DeploymentId,
    /// What it served when the time began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<ModelVersionId>,
    /// The predictions that were looked at are those of this time.
    pub from: Timestamp,
    pub until: Timestamp,
    /// Metrics.
    pub body: Object,
}

/// What a training set was used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Train,
    Validate,
    Test,
    Score,
    #[default]
    Unknown,
}

impl Role {
    /// As it stands in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validate => "validate",
            Self::Test => "test",
            Self::Score => "score",
            Self::Unknown => "unknown",
        }
    }
}

/// A run used a training set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UseRecorded {
    pub training_set: TrainingSetId,
    pub run: RunId,
    pub role: Role,
    pub how: How,
}
