//! Records of entities whose bytes are gone.

use std::collections::BTreeSet;

use feature::digest::Digest;
use feature::{BatchId, CompactionId, EntityId, ErasureId, Sequence, TrainingSetId, VersionId, ViewId};
use serde::{Deserialize, Serialize};

use super::Object;

/// The values of an entity are gone from here on, at every sequence, whether their bytes were deleted yet or not: what objects held of
/// them lies in no object that is read any more. Written before anything is deleted. It holds no key and no value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Erased {
    /// Minted before the first object was written.
    pub erasure: ErasureId,
    pub entity: EntityId,
    /// The views that describe the entity, whether they had rows of it or not.
    pub views: Vec<ViewId>,
    /// Of each key its canonical bytes, hashed under the secret.
    pub keys: Vec<Digest>,
    /// What keys are hashed with: `bodies/{id}.key`. Without it the digests tell nothing.
    pub secret: Object,
    /// What people wrote: no name and no key belongs into it.
    pub reason: String,
    /// The request that asked for it, as whoever keeps such requests calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The last entry that whoever wrote this had looked at. The fence: no later one may bring an object that can hold rows.
    pub seen: Sequence,
    /// Rows of data files that are gone.
    pub rows: u64,
    /// Objects that entries name, and what is read in their place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<Replaced>,
    /// Objects that were named by what is replaced, or that nobody reads any more: data files, spines, and profiles of samples, by their paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<String>,
    /// Training sets that had rows of the entity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<ErasedSet>,
}

impl Erased {
    /// Batches that lost rows, or may have had some that lay nowhere any more.
    pub fn batches(&self) -> BTreeSet<BatchId> {
        let of = self.replaced.iter().filter_map(|one| match one.of {
            Replacement::Manifest { batch, .. } | Replacement::Profile { batch } => Some(batch),
            _ => None,
        });
        of.collect()
    }
}

/// An object that lies elsewhere from here on, without what is erased.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replaced {
    /// As an entry named it, or an earlier erasure.
    pub before: String,
    pub after: Object,
    pub of: Replacement,
}

/// What an object is that was replaced, and what it says now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Replacement {
    /// The files of a batch, with the rows and the digest that they give now.
    Manifest {
        batch: BatchId,
        version: VersionId,
        rows: u64,
        digest: Digest,
    },
    /// The files of a compaction.
    Compaction {
        compaction: CompactionId,
        version: VersionId,
        rows: u64,
    },
    /// Rejected rows: as many as before, those of the entity without their texts.
    Quarantine {
        batch: BatchId,
        rejected: u64,
    },
    Profile {
        batch: BatchId,
    },
    /// The manifest of a training set, with the digest that it says now.
    TrainingSet {
        training_set: TrainingSetId,
        digest: String,
    },
    Reads {
        reads: u64,
    },
}

/// A training set that had rows of an entity. Its manifest names the spine without them, and the leaves of the blocks that they were in
/// are those of what is left; all others are as they were recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErasedSet {
    pub training_set: TrainingSetId,
    pub rows: u64,
    /// The blocks of 65,536 rows that had one, ascending.
    pub blocks: Vec<u64>,
    /// Of the set as it is now, `lmt1:…`; none where it could not be made again before its rows went, so that nothing can be proved of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}
