//! The objects beside the log that a record names: what must be there for as long as the record is.

use feature::{BatchId, Id, SampleId};
use uuid::Uuid;

use super::{
    BatchCommitted, BatchRefused, Compacted, Erased, Object, ReadsRecorded, Record, Replacement, RowsMended,
    SpineKept, TrainingSetRecorded,
};

/// What an object is to the record that names it.
#[derive(Clone, Debug, PartialEq)]
pub enum Named<'a> {
    /// The files of a batch.
    Manifest(&'a BatchCommitted),
    /// The files that several batches were written anew to.
    Compaction(&'a Compacted),
    /// The rejected rows of a batch, of which there are so many.
    Quarantine { batch: BatchId, rejected: u64 },
    /// What the writer of a batch said of it.
    BatchBody(BatchId),
    /// What the values of a batch are like.
    Profile(BatchId),
    /// What the values of a sample are like.
    SampleProfile(SampleId),
    /// Which rows that were rejected a batch has now.
    Mended(&'a RowsMended),
    /// How a training set was made.
    TrainingSet(&'a TrainingSetRecorded),
    /// Ad-hoc reads of one flush.
    Reads(&'a ReadsRecorded),
    /// A spine that a client put up: it need not be there once it was dropped.
    KeptSpine(&'a SpineKept),
    /// What another system said of an experiment, a run, a model version or a deployment.
    Observation,
    /// What values are hashed with.
    MaskKey,
    /// What is read in the place of an object that held something of an entity.
    Erased(&'a Replacement),
    /// What erased keys are hashed with.
    ErasureSecret,
}

impl Record {
    /// Every object that the record names itself. The data files of a batch are named by its manifest, the spine of a
    /// training set by the set's.
    pub fn objects(&self) -> Vec<(Named<'_>, &Object)> {
        // Without a wildcard, so that a new record cannot be forgotten here.
        match self {
            Self::BatchCommitted(record) => committed(record),
            Self::BatchQuarantined(record) => committed(&record.batch),
            Self::BatchRefused(record) => refused(record),
            Self::Compacted(record) => vec![(Named::Compaction(record), &record.manifest)],
            Self::TrainingSetRecorded(record) => vec![(Named::TrainingSet(record), &record.manifest)],
            Self::ReadsRecorded(record) => vec![(Named::Reads(record), &record.object)],
            Self::ExperimentObserved(record) => observation(record.body.as_ref()),
            Self::RunObserved(record) => observation(record.body.as_ref()),
            Self::ModelVersionObserved(record) => observation(record.body.as_ref()),
            Self::DeploymentMeasured(record) => observation(Some(&record.body)),
            Self::SpineKept(record) => vec![(Named::KeptSpine(record), &record.object)],
            Self::PoliciesApplied(record) => vec![(Named::MaskKey, &record.key)],
            Self::Sampled(record) => vec![(Named::SampleProfile(record.sample), &record.profile)],
            Self::RowsMended(record) => vec![(Named::Mended(record), &record.mended)],
            Self::Erased(record) => erased(record),
            Self::StoreCreated(_)
            | Self::EntityDefined(_)
            | Self::ViewVersionDefined(_)
            | Self::ServiceDefined(_)
            | Self::Described(_)
            | Self::VersionWithdrawn(_)
            | Self::VersionRestored(_)
            | Self::BatchWithdrawn(_)
            | Self::BatchRestored(_)
            | Self::StreamPartsCommitted(_)
            | Self::BatchReleased(_)
            | Self::BatchDropped(_)
            | Self::Verified(_)
            | Self::ExternalLinked(_)
            | Self::AuthorityAliased(_)
            | Self::ModelObserved(_)
            | Self::AliasObserved(_)
            | Self::DeploymentChanged(_)
            | Self::UseRecorded(_)
            | Self::Reconciled(_)
            | Self::Swept(_)
            | Self::RetentionSet(_)
            | Self::RowsExpired(_)
            | Self::RowsDeleted(_)
            | Self::HoldPlaced(_)
            | Self::HoldLifted(_)
            | Self::SpinesDropped(_)
            | Self::SpineUsed(_)
            | Self::Deprecated(_)
            | Self::DeprecationAdvanced(_)
            | Self::DeprecationRevoked(_)
            | Self::PlanProposed(_)
            | Self::PlanApproved(_)
            | Self::PlanDeclined(_)
            | Self::PlanApplied(_)
            | Self::AlertsRaised(_)
            | Self::AlertDelivery(_) => Vec::new(),
        }
    }
}

impl Record {
    /// The id that was minted before the first object that the record brings was written, so that all of its objects have greater
    /// ids; none of a record that brings none. What it names and an earlier record brought does not count.
    pub fn minted(&self) -> Option<Uuid> {
        match self {
            Self::BatchCommitted(record) => Some(record.batch.uuid()),
            Self::BatchQuarantined(record) => Some(record.batch.batch.uuid()),
            Self::BatchRefused(record) => Some(record.batch.uuid()),
            Self::Compacted(record) => Some(record.compaction.uuid()),
            Self::TrainingSetRecorded(record) => Some(record.training_set.uuid()),
            Self::SpineKept(record) => Some(record.spine.uuid()),
            Self::Erased(record) => Some(record.erasure.uuid()),
            // Of all others each object is one by itself, and its id is in its name.
            _ => self.objects().into_iter().filter_map(|(_, object)| object.id()).min(),
        }
    }
}

impl Object {
    /// The id in the object's name: of a file, or of the folder that it lies in.
    pub fn id(&self) -> Option<Uuid> {
        let named = |part: &str| Uuid::try_parse(part.split('.').next()?).ok();
        self.path.rsplit('/').find_map(named)
    }
}

fn committed(record: &BatchCommitted) -> Vec<(Named<'_>, &Object)> {
    let BatchCommitted { batch, rejected, .. } = *record;
    let quarantine = record.quarantine.iter().map(|object| (Named::Quarantine { batch, rejected }, object));
    let body = record.body.iter().map(|object| (Named::BatchBody(batch), object));
    let profile = record.profile.iter().map(|object| (Named::Profile(batch), object));
    let manifest = [(Named::Manifest(record), &record.manifest)];
    manifest.into_iter().chain(quarantine).chain(body).chain(profile).collect()
}

fn refused(record: &BatchRefused) -> Vec<(Named<'_>, &Object)> {
    let BatchRefused { batch, rejected, .. } = *record;
    let body = record.body.iter().map(|object| (Named::BatchBody(batch), object));
    [(Named::Quarantine { batch, rejected }, &record.quarantine)].into_iter().chain(body).collect()
}

fn erased(record: &Erased) -> Vec<(Named<'_>, &Object)> {
    let secret = [(Named::ErasureSecret, &record.secret)];
    let replaced = record.replaced.iter().map(|one| (Named::Erased(&one.of), &one.after));
    secret.into_iter().chain(replaced).collect()
}

fn observation(body: Option<&Object>) -> Vec<(Named<'_>, &Object)> {
    body.map(|object| (Named::Observation, object)).into_iter().collect()
}
