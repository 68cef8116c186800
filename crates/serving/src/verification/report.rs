//! What a verification found.

use std::fmt;

use feature::digest::Digest;
use feature::{BatchId, SampleId, Sequence, SpineId, StoreId, TrainingSetId};
use serde::Serialize;

use super::objects::MISSING;

/// What was found of a store.
#[derive(Clone, Debug, Serialize)]
pub struct StoreVerification {
    pub location: String,
    /// Whether contents were read, and not only metadata.
    pub full: bool,
    /// None where the first entry cannot be read.
    pub store: Option<StoreId>,
    /// The newest entry. The chain vouches for all entries before; note its digest elsewhere and compare.
    pub head: Option<Sequence>,
    pub head_digest: Option<Digest>,
    /// Entries of the log that are there.
    pub entries: u64,
    /// Checkpoints that are whole and, where the log could be folded, agree with it.
    pub checkpoints: u64,
    pub batches: u64,
    pub training_sets: u64,
    /// Objects beside the log that were looked at.
    pub objects: u64,
    /// Bytes that were read of them.
    pub bytes: u64,
    /// What is wrong, by object.
    pub faults: Vec<Fault>,
    /// What was not looked at, and why; what nobody vouches for.
    pub notes: Vec<String>,
    /// Objects that nothing names; no fault. A writer that stopped, or that is at work now, leaves them. The first of them.
    pub orphans: Vec<Orphan>,
    /// How many orphans there are.
    pub orphan_objects: u64,
}

/// An object that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Its path in the store.
    pub object: String,
    /// The entry that names it, or that it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Sequence>,
    pub why: String,
    pub harms: Vec<Harm>,
    pub advice: String,
    /// Whether it was put right.
    pub mended: bool,
}

/// What a fault takes away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Harm {
    /// The log from this entry on, and so the store.
    Log { sequence: Sequence },
    /// Rows of this batch.
    Batch { batch: BatchId },
    /// The training set cannot be rebuilt.
    TrainingSet { training_set: TrainingSetId },
    /// Rejected rows of this batch, which can no longer be looked at.
    RejectedRows { batch: BatchId },
    /// What was said of the origin of this batch.
    Origins { batch: BatchId },
    /// What the values of this batch are like: later batches cannot be compared with it.
    Profile { batch: BatchId },
    /// What the values of this sample were like.
    SampleProfile { sample: SampleId },
    /// What is known of ad-hoc reads.
    Reads,
    /// A spine that a client put up.
    KeptSpine { spine: SpineId },
    /// What another system said of a run, a model or a deployment.
    Observation,
    /// Masks that hash: what they show cannot be made again.
    MaskKey,
    /// Opening the store takes longer; no answer changes.
    Opening,
}

/// An object that nothing names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Orphan {
    pub object: String,
    pub bytes: u64,
    /// Seconds since it was written, as the storage says.
    pub age_seconds: i64,
}

/// How far a verification is.
#[derive(Clone, Copy, Debug)]
pub struct VerifyProgress {
    /// Objects beside the log that were looked at.
    pub objects: u64,
    /// Objects beside the log that were listed.
    pub of: u64,
}

impl Fault {
    /// Whether it is that the object is not there.
    pub(super) fn is_missing(&self) -> bool {
        self.why == MISSING
    }
}

impl StoreVerification {
    pub(super) fn of(location: &str, full: bool) -> Self {
        Self {
            location: location.to_owned(),
            full,
            store: None,
            head: None,
            head_digest: None,
            entries: 0,
            checkpoints: 0,
            batches: 0,
            training_sets: 0,
            objects: 0,
            bytes: 0,
            faults: Vec::new(),
            notes: Vec::new(),
            orphans: Vec::new(),
            orphan_objects: 0,
        }
    }

    /// Whether nothing is wrong, or all of it was mended.
    pub fn holds(&self) -> bool {
        self.faults.iter().all(|fault| fault.mended)
    }

    pub(super) fn sort(&mut self) {
        self.faults.sort_by(|one, other| (&one.object, &one.why).cmp(&(&other.object, &other.why)));
        // Checkpoints share parts, and training sets may share what they need.
        self.faults.dedup();
    }
}

impl Fault {
    pub(super) fn new(object: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            object: object.into(),
            sequence: None,
            why: why.into(),
            harms: Vec::new(),
            advice: "restore it from a copy of the store".to_owned(),
            mended: false,
        }
    }

    pub(super) fn at(self, sequence: Sequence) -> Self {
        Self { sequence: Some(sequence), ..self }
    }

    pub(super) fn harming(mut self, harm: Harm) -> Self {
        self.harms.push(harm);
        self
    }

    pub(super) fn advising(self, advice: impl Into<String>) -> Self {
        Self { advice: advice.into(), ..self }
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log { sequence } => write!(f, "the log from entry {sequence} on"),
            Self::Batch { batch } => write!(f, "rows of batch {batch}"),
            Self::TrainingSet { training_set } => {
                write!(f, "training set {training_set}, which cannot be rebuilt")
            }
            Self::RejectedRows { batch } => write!(f, "the rejected rows of batch {batch}"),
            Self::Origins { batch } => write!(f, "what was said of the origin of batch {batch}"),
            Self::Profile { batch } => {
                write!(f, "the profile of batch {batch}, with which later ones are compared")
            }
            Self::SampleProfile { sample } => write!(f, "the profile of sample {sample}"),
            Self::Reads => f.write_str("what is known of ad-hoc reads"),
            Self::KeptSpine { spine } => write!(f, "the spine {spine}, which can no longer be asked for"),
            Self::MaskKey => f.write_str("masks that hash values: what they showed cannot be made again"),
            Self::Observation => f.write_str("what another system said of a run, a model or a deployment"),
            Self::Opening => f.write_str("opening, which takes longer; no answer changes"),
        }
    }
}
