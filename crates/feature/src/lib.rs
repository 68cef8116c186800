//! What a feature is: ids, names, times, types, definitions, versions, validation and digests.
//!
//! This crate is pure. It knows no clock, no random number, no object storage, no query engine and no
//! network: everything here is a function of its arguments, so that the other crates can fold, replay
//! and test it freely. Minting an id needs a clock and chance, and so happens in `storage`.

pub mod as_of;
pub mod datatype;
pub mod definition;
pub mod digest;
pub mod evolution;
pub mod id;
pub mod inference;
pub mod influence;
pub mod key;
pub mod name;
pub mod policy;
pub mod profile;
pub mod quality;
pub mod reference;
pub mod sampling;
pub mod time;
pub mod validation;

pub use as_of::AsOf;
pub use datatype::FeatureType;
pub use definition::Definition;
pub use id::{
    AlertId, BatchId, BodyId, CommitId, CompactionId, DeploymentId, DeprecationId, EntityId, ErasureId,
    ExperimentId, FileId, HoldId, Horizon, Id, ModelId, ModelVersionId, ReadId, RunId, SampleId, SenderId,
    Sequence, ServiceId, SpineId, StoreId, TrainingSetId, VersionId, ViewId,
};
pub use influence::Influence;
pub use name::Name;
pub use reference::{Reference, null_reason_of, with_null_reason};
pub use time::{Span, Timestamp};
