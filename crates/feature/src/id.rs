//! The register of ids: one type a kind, so that a batch can never be passed for a file.
//!
//! Every id is a UUID of version 7 (RFC 9562), written in lower case with hyphens, and minted once.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What all ids share: they are a UUID and nothing else.
pub trait Id: Copy + Eq + Ord + fmt::Display + From<Uuid> {
    fn uuid(self) -> Uuid;
}

/// A text that is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id; ids are written as 01982f5a-7c31-7e90-b1d4-5a7e8c9d0e1f")]
pub struct IdError(String);

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Uuid);

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl Id for $name {
            fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::try_parse(text).map(Self).map_err(|_| IdError(text.to_owned()))
            }
        }
    )*};
}

ids! {
    /// A store: one root in object storage with one log.
    StoreId;
    /// One attempt to append an entry. Random, so that a writer recognises its own bytes when it reads them back.
    CommitId;
    /// An entity.
    EntityId;
    /// A feature view, through all its versions and names.
    ViewId;
    /// One immutable version of a feature view, an entity or a feature service.
    VersionId;
    /// A feature service.
    ServiceId;
    /// One ingested write.
    BatchId;
    /// One data file.
    FileId;
    /// One write of batches into other files.
    CompactionId;
    /// A side object that an entry names by digest.
    BodyId;
    /// A stored spine.
    SpineId;
    /// A recorded training set.
    TrainingSetId;
    /// Any retrieval, recorded as a training set or not.
    ReadId;
    /// An experiment, known here or to a tracking server.
    ExperimentId;
    /// A run of an experiment.
    RunId;
    /// A registered model.
    ModelId;
    /// A version of a registered model.
    ModelVersionId;
    /// A place where a model serves.
    DeploymentId;
    /// A bound between ids: it names nothing itself, and what a lesser id names was begun before it.
    Horizon;
    /// A reason for which something is kept.
    HoldId;
    /// What was profiled of that which passed by.
    SampleId;
    /// An announcement that something will go.
    DeprecationId;
    /// Something that somebody is told of.
    AlertId;
    /// A process that sends alerts.
    SenderId;
    /// An erasure of an entity.
    ErasureId;
}

/// The position of an entry in the log; the state at a sequence is a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(pub u64);

impl Sequence {
    pub const ZERO: Self = Self(0);

    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sequence({})", self.0)
    }
}
