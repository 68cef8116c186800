//! Records of what will go: announced, closed to new uses, withdrawn, or not after all.

use std::collections::BTreeMap;

use feature::{DeprecationId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What can be deprecated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeprecatedKind {
    /// One version of a feature view.
    Version,
    /// A feature view with all its versions, those to come among them.
    FeatureView,
    FeatureService,
}

impl DeprecatedKind {
    /// As the log has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::FeatureView => "feature_view",
            Self::FeatureService => "feature_service",
        }
    }
}

/// A thing that can be deprecated, by its kind and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deprecable {
    pub kind: DeprecatedKind,
    pub id: Uuid,
}

/// From here on it is known that a thing will go, and when. Who uses it is warned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deprecated {
    pub deprecation: DeprecationId,
    pub of: Deprecable,
    /// Why, in the writer's words.
    pub reason: String,
    /// From when on nothing new may be made of it.
    pub closed_at: Timestamp,
    /// From when on it is read no more; it stays closed, where there is none. Not before `closed_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn_at: Option<Timestamp>,
    /// What takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<Deprecable>,
    /// What the principal was, as policies ask: so that it can be said later whether it had the right.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, Vec<String>>,
}

/// A step on the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeprecationStep {
    /// Nothing new may be made of it; what there is goes on.
    Closed,
    /// It is read no more but by replays.
    Withdrawn,
}

impl DeprecationStep {
    /// As the log has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A step of a deprecation is taken, by whoever met its date first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeprecationAdvanced {
    pub deprecation: DeprecationId,
    pub step: DeprecationStep,
    /// Why it is withdrawn although a model in force stands on it; absent where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub despite: Option<String>,
}

/// A deprecation that is no more, whatever steps were taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeprecationRevoked {
    pub deprecation: DeprecationId,
    pub reason: String,
}
