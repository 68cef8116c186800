//! Records of the store itself and of what is declared in it.

use feature::digest::HashAlgorithm;
use feature::{EntityId, ServiceId, StoreId, VersionId, ViewId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The first record of the first entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoreCreated {
    pub store: StoreId,
    /// The hash of everything in this store.
    pub hash: HashAlgorithm,
    pub format: u32,
    /// Whether the object storage proved, by a race, that it creates an object only where none is.
    pub put_if_absent_proved: bool,
}

/// A version of an entity. `number` is 1 for the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EntityDefined {
    pub entity: EntityId,
    pub version: VersionId,
    pub number: u32,
    pub digest: String,
    pub definition: Value,
}

/// A version of a feature view. Versions with the same `line` share their batches; a version that starts a
/// line is its own line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewVersionDefined {
    pub view: ViewId,
    pub version: VersionId,
    pub number: u32,
    pub line: VersionId,
    pub entity: EntityId,
    /// The entity's version whose keys the view has.
    pub entity_version: VersionId,
    pub digest: String,
    pub definition: Value,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceDefined {
    pub service: ServiceId,
    pub version: VersionId,
    pub number: u32,
    pub digest: String,
    pub definition: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    Entity,
    FeatureView,
    FeatureService,
}

/// Other words for people, or another place to read from: the definition whole, with the digest that it had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Described {
    pub subject: Subject,
    pub version: VersionId,
    pub definition: Value,
}
