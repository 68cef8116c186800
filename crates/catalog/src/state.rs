//! What exists at each sequence: the fold of the log's records.
//!
//! [`State::apply`] is pure. It depends on the state and the entry alone, so every process that has read the same
//! prefix of the log holds the same state. Nothing is forgotten when something newer comes: everything carries the
//! sequence at which it appeared, and so one state answers for every sequence up to its head.

mod alerts;
mod changes;
mod chunked;
mod compactions;
mod counted;
mod deprecations;
mod erasures;
mod expiry;
mod holds;
mod mended;
mod policies;
pub mod producers;
mod quarantine;
pub mod registry;
mod samples;
mod spines;
mod stored;
pub(crate) mod sweeps;
mod tables;
pub(crate) mod unread;
mod withdrawals;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use feature::definition::{Definition, Entity, FeatureService, FeatureView, Key};
use feature::digest::{Digest, HashAlgorithm};
use feature::{
    BatchId, EntityId, Name, Sequence, ServiceId, StoreId, Timestamp, TrainingSetId, VersionId, ViewId,
};
use storage::checkpoint::Unread;

use crate::records::{
    BatchCommitted, BatchDropped, BatchQuarantined, BatchRefused, BatchReleased, BatchRestored,
    BatchWithdrawn, Derivation, Described, EntityDefined, ReadsRecorded, Record, ServiceDefined,
    StoreCreated, Subject, TrainingSetRecorded, Verified, VersionRestored, VersionWithdrawn,
    ViewVersionDefined,
};
use crate::state::compactions::Compactions;
use crate::state::producers::Producers;
use crate::state::registry::Registry;
use crate::state::stored::Stored;

pub use alerts::{Alert, Alerts, OnItsWay, Standing};
pub use changes::{AppliedPlan, Changes, Proposal, Vote};
pub use compactions::{Compaction, Run};
pub(crate) use counted::{CountedBatch, Which};
pub use deprecations::{Deprecation, Deprecations, Stage};
pub use erasures::{Erasure, Erasures, computed_from};
pub use expiry::{Deleted, Expired, Expiry, Gone};
pub use holds::{Hold, Holds};
pub use mended::{Mended, Mending};
pub use policies::{AppliedPolicies, PolicyHistory};
pub use quarantine::{End, Held, Quarantine};
pub use samples::{Sample, Samples};
pub use spines::{Spine, Spines};
pub(crate) use stored::AllButBatches;
pub use sweeps::{Setting, Sweep, Sweeps};
pub(crate) use tables::{Table, Tables};
pub use withdrawals::{Withdrawable, Withdrawal, Withdrawals};

/// Project and name: what a definition is found by.
pub type Qualified = (Name, Name);

/// Where the log ends, as far as it has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub sequence: Sequence,
    pub digest: Digest,
    pub committed_at: Timestamp,
}

/// Who wrote an entry and when: what every record of it carries.
#[derive(Clone, Debug, PartialEq)]
pub struct Provenance {
    pub sequence: Sequence,
    pub committed_at: Timestamp,
    pub principal: String,
    pub program: String,
    pub run: Option<String>,
    pub experiment: Option<String>,
}

#[derive(Clone, Debug)]
pub struct EntityVersion {
    pub entity: EntityId,
    pub version: VersionId,
    pub number: u32,
    pub digest: String,
    pub definition: Arc<Entity>,
    pub by: Arc<Provenance>,
}

/// One immutable version of a feature view, with the entity's keys that it has.
#[derive(Clone, Debug)]
pub struct ViewVersion {
    pub view: ViewId,
    pub version: VersionId,
    pub number: u32,
    pub line: VersionId,
    pub digest: String,
    pub definition: Arc<FeatureView>,
    pub entity: Arc<Entity>,
    pub by: Arc<Provenance>,
}

impl ViewVersion {
    pub fn keys(&self) -> &[Key] {
        &self.entity.keys
    }

    /// `weather@2`, with its project where that is not `default`.
    pub fn label(&self) -> String {
        let name = &self.definition.name;
        if self.definition.project == Name::default_project() {
            format!("{name}@{}", self.number)
        } else {
            format!("{}.{name}@{}", self.definition.project, self.number)
        }
    }
}

#[derive(Clone, Debug)]
pub struct ServiceVersion {
    pub service: ServiceId,
    pub version: VersionId,
    pub number: u32,
    pub digest: String,
    pub definition: Arc<FeatureService>,
    pub by: Arc<Provenance>,
}

#[derive(Clone, Debug)]
pub struct Batch {
    pub record: BatchCommitted,
    pub line: VersionId,
    /// The number of the version that it was written under.
    pub number: u32,
    pub by: Arc<Provenance>,
}

#[derive(Clone, Debug)]
pub struct RefusedBatch {
    pub record: BatchRefused,
    pub by: Arc<Provenance>,
}

#[derive(Clone, Debug)]
pub struct TrainingSet {
    pub record: TrainingSetRecorded,
    pub by: Arc<Provenance>,
}

#[derive(Clone, Debug)]
pub struct Verification {
    pub record: Verified,
    pub by: Arc<Provenance>,
}

/// Reads of one flush.
#[derive(Clone, Debug)]
pub struct RecordedReads {
    pub record: ReadsRecorded,
    pub by: Arc<Provenance>,
}

/// Where a batch came from.
#[derive(Clone, Copy, Debug)]
pub struct BatchOrigin<'a> {
    pub batch: BatchId,
    /// That it was written under.
    pub version: VersionId,
    pub sequence: Sequence,
    pub principal: &'a str,
    pub run: Option<&'a str>,
    pub sources: &'a [Digest],
    pub derivation: Option<&'a Derivation>,
}

/// A line of the log, for people.
#[derive(Clone, Debug)]
pub struct LogLine {
    pub by: Arc<Provenance>,
    pub digest: Digest,
    /// Number and name of each record.
    pub records: Vec<(u32, &'static str)>,
}

/// A request that was answered: its key is bound to what it asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub digest: Digest,
    pub sequence: Sequence,
}

/// An entry as the fold sees it.
pub struct Applied<'a> {
    pub by: Provenance,
    pub digest: Digest,
    pub request: Option<(&'a str, Digest)>,
    pub records: &'a [Record],
}

#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("entry {0} is not the one after {1}")]
    OutOfOrder(Sequence, Sequence),
    #[error("entry {0} begins a store that was begun before")]
    CreatedTwice(Sequence),
    #[error("entry {sequence} refers to {what} {id}, which no earlier entry defines")]
    Unresolved { sequence: Sequence, what: &'static str, id: String },
    #[error("entry {sequence} repeats {what} {id}")]
    Repeated { sequence: Sequence, what: &'static str, id: String },
    #[error("entry {sequence} compacts what cannot be: {why}")]
    Compaction { sequence: Sequence, why: String },
    #[error("entry {sequence} sweeps what it may not: {why}")]
    Sweep { sequence: Sequence, why: String },
    #[error("entry {sequence} says of rows that are too old what cannot be: {why}")]
    Expiry { sequence: Sequence, why: String },
    #[error("entry {sequence} erases what it cannot: {why}")]
    Erasure { sequence: Sequence, why: String },
    #[error("entry {sequence} is behind a fence: {why}")]
    Fenced { sequence: Sequence, why: String },
    #[error("entry {sequence} holds a definition that this program cannot read: {why}")]
    Definition { sequence: Sequence, why: String },
    #[error("entry {sequence} holds parts of streams that cannot be: {why}")]
    Stream { sequence: Sequence, why: String },
}

/// Lines of the log, in order.
#[derive(Clone, Copy, Debug)]
pub struct LogLines<'a> {
    stored: &'a [LogLine],
    since: &'a [LogLine],
}

impl<'a> LogLines<'a> {
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &'a LogLine> + use<'a> {
        self.stored.iter().chain(self.since)
    }

    pub fn last(&self) -> Option<&'a LogLine> {
        self.since.last().or(self.stored.last())
    }
}

/// The folded log.
///
/// What grows with the log comes in two parts where the state was opened from a checkpoint: what that holds,
/// which is read when it is asked for, and what came since.
#[derive(Clone, Debug)]
pub struct State {
    pub store: StoreId,
    pub hash: HashAlgorithm,
    pub head: Head,
    stored: Option<Arc<Stored>>,
    // Shared until they change: most entries say nothing of them.
    definitions: Arc<Definitions>,
    registry: Arc<Registry>,
    refused: Arc<Vec<RefusedBatch>>,
    verifications: Arc<Vec<Verification>>,
    reads: Arc<Vec<RecordedReads>>,
    withdrawals: Arc<Withdrawals>,
    quarantine: Arc<Quarantine>,
    compactions: Arc<Compactions>,
    producers: Producers,
    sweeps: Arc<Sweeps>,
    holds: Arc<Holds>,
    expiry: Arc<Expiry>,
    erasures: Arc<Erasures>,
    policies: Arc<PolicyHistory>,
    samples: Arc<Samples>,
    mended: Arc<Mended>,
    spines: Arc<Spines>,
    deprecations: Arc<Deprecations>,
    changes: Arc<Changes>,
    alerts: Arc<Alerts>,
    /// Fields of records that this program does not know, in the order in which they came.
    unread: Arc<Vec<Unread>>,
    // What came since the checkpoint.
    /// In the order of the log.
    admitted: Vec<Arc<Batch>>,
    /// Of each line that grew, all batches, in the order of the log.
    lines: HashMap<VersionId, Arc<Vec<Arc<Batch>>>>,
    batches: HashMap<BatchId, Arc<Batch>>,
    training_sets: BTreeMap<TrainingSetId, TrainingSet>,
    requests: HashMap<String, Request>,
    /// Source files that were taken, by line.
    sources: HashSet<(VersionId, Digest)>,
    log: Vec<LogLine>,
}

/// What things are called and who uses them, as a token: those of two states are equal where nothing of it changed in between.
#[derive(Clone, Debug)]
pub struct Naming {
    definitions: Arc<Definitions>,
    registry: Arc<Registry>,
    withdrawals: Arc<Withdrawals>,
    training_sets: usize,
}

impl PartialEq for Naming {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.definitions, &other.definitions)
            && Arc::ptr_eq(&self.registry, &other.registry)
            && Arc::ptr_eq(&self.withdrawals, &other.withdrawals)
            && self.training_sets == other.training_sets
    }
}

/// What was declared.
#[derive(Clone, Debug, Default)]
struct Definitions {
    entities: BTreeMap<Qualified, Vec<EntityVersion>>,
    views: BTreeMap<Qualified, Vec<ViewVersion>>,
    services: BTreeMap<Qualified, Vec<ServiceVersion>>,
    /// Each version's place among those of its name.
    versions: HashMap<VersionId, (Qualified, usize)>,
    /// Versions of views in the order of the log.
    order: Vec<VersionId>,
    /// Source files that were refused, by version: another version may have other rules.
    refused_sources: HashSet<(VersionId, Digest)>,
}

impl Definitions {
    fn view_version(&self, id: VersionId) -> Option<&ViewVersion> {
        let (name, place) = self.versions.get(&id)?;
        self.views.get(name)?.get(*place)
    }

    fn view_version_mut(&mut self, id: VersionId) -> Option<&mut ViewVersion> {
        let (name, place) = self.versions.get(&id)?;
        self.views.get_mut(name)?.get_mut(*place)
    }
}

impl State {
    /// The state after the first entry, which must begin with `store_created`.
    pub fn begin(entry: &Applied<'_>) -> Result<Self, ApplyError> {
        let unresolved = || ApplyError::Unresolved {
            sequence: entry.by.sequence,
            what: "the store",
            id: "(the first record must be store_created)".to_owned(),
        };
        let Some((Record::StoreCreated(StoreCreated { store, hash, .. }), rest)) =
            entry.records.split_first()
        else {
            return Err(unresolved());
        };
        let mut state = Self::bare(*store, *hash, head_of(entry));
        state.fold(entry, rest)?;
        Ok(state)
    }

    /// A state that holds nothing yet.
    fn bare(store: StoreId, hash: HashAlgorithm, head: Head) -> Self {
        Self {
            store,
            hash,
            head,
            stored: None,
            definitions: Arc::default(),
            registry: Arc::default(),
            refused: Arc::default(),
            verifications: Arc::default(),
            reads: Arc::default(),
            withdrawals: Arc::default(),
            quarantine: Arc::default(),
            compactions: Arc::default(),
            producers: Producers::default(),
            sweeps: Arc::default(),
            holds: Arc::default(),
            expiry: Arc::default(),
            erasures: Arc::default(),
            policies: Arc::default(),
            samples: Arc::default(),
            mended: Arc::default(),
            spines: Arc::default(),
            deprecations: Arc::default(),
            changes: Arc::default(),
            alerts: Arc::default(),
            unread: Arc::default(),
            admitted: Vec::new(),
            lines: HashMap::new(),
            batches: HashMap::new(),
            training_sets: BTreeMap::new(),
            requests: HashMap::new(),
            sources: HashSet::new(),
            log: Vec::new(),
        }
    }

    /// The next entry: all of its records, or an error and a state that must be thrown away.
    pub fn apply_entry(&mut self, entry: &Applied<'_>) -> Result<(), ApplyError> {
        if entry.by.sequence != self.head.sequence.next() {
            return Err(ApplyError::OutOfOrder(entry.by.sequence, self.head.sequence));
        }
        self.fold(entry, entry.records)
    }

    fn fold(&mut self, entry: &Applied<'_>, records: &[Record]) -> Result<(), ApplyError> {
        let by = Arc::new(entry.by.clone());
        for record in records {
            self.apply(record, &by)?;
        }
        if let Some((key, digest)) = &entry.request {
            if self.request(key).is_some() {
                return Err(repeated(&by, "the request key", (*key).to_owned()));
            }
            let request = Request { digest: *digest, sequence: by.sequence };
            self.requests.insert((*key).to_owned(), request);
        }
        self.log.push(LogLine {
            by,
            digest: entry.digest,
            records: entry.records.iter().map(|record| (record.number(), record.name())).collect(),
        });
        self.head = head_of(entry);
        Ok(())
    }

    /// One record of an entry.
    pub fn apply(&mut self, record: &Record, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        if let Some(why) = self.fenced(record) {
            return Err(ApplyError::Fenced { sequence: by.sequence, why });
        }
        match record {
            Record::StoreCreated(_) => Err(ApplyError::CreatedTwice(by.sequence)),
            Record::EntityDefined(body) => self.define_entity(body, by),
            Record::ViewVersionDefined(body) => self.define_view(body, by),
            Record::ServiceDefined(body) => self.define_service(body, by),
            Record::Described(body) => self.describe(body, by),
            Record::BatchCommitted(body) => self.admit(body, by),
            Record::BatchRefused(body) => {
                let refused = body.sources.iter().map(|source| (body.version, source.digest));
                if !body.sources.is_empty() {
                    Arc::make_mut(&mut self.definitions).refused_sources.extend(refused);
                }
                let refused = RefusedBatch { record: body.clone(), by: by.clone() };
                Arc::make_mut(&mut self.refused).push(refused);
                Ok(())
            }
            Record::TrainingSetRecorded(body) => {
                if self.training_set(body.training_set).is_some() {
                    return Err(repeated(by, "training set", body.training_set.to_string()));
                }
                let set = TrainingSet { record: body.clone(), by: by.clone() };
                self.training_sets.insert(body.training_set, set);
                Ok(())
            }
            Record::ReadsRecorded(body) => {
                let reads = RecordedReads { record: body.clone(), by: by.clone() };
                Arc::make_mut(&mut self.reads).push(reads);
                Ok(())
            }
            Record::Compacted(body) => self.compact(body, by),
            Record::StreamPartsCommitted(body) => self.commit_parts(body, by),
            Record::Swept(body) => Arc::make_mut(&mut self.sweeps).sweep(body, by),
            Record::RetentionSet(body) => Arc::make_mut(&mut self.sweeps).set(body, by),
            Record::SpineKept(body) => Arc::make_mut(&mut self.spines).keep(body, by),
            Record::SpinesDropped(body) => Arc::make_mut(&mut self.spines).drop(body, by),
            Record::SpineUsed(body) => {
                if self.training_set(body.training_set).is_none() {
                    return Err(unresolved(by, "training set", body.training_set.to_string()));
                }
                Arc::make_mut(&mut self.spines).need(body, by)
            }
            Record::HoldPlaced(body) => self.place_hold(body, by),
            Record::RowsExpired(_) | Record::RowsDeleted(_) => self.expire(record, by),
            Record::Erased(body) => self.erase(body, by),
            Record::HoldLifted(body) => Arc::make_mut(&mut self.holds).lift(body, by),
            Record::Verified(body) => {
                if self.training_set(body.training_set).is_none() {
                    return Err(unresolved(by, "training set", body.training_set.to_string()));
                }
                let verified = Verification { record: body.clone(), by: by.clone() };
                Arc::make_mut(&mut self.verifications).push(verified);
                Ok(())
            }
            Record::BatchWithdrawn(BatchWithdrawn { batch, .. })
            | Record::BatchRestored(BatchRestored { batch, .. }) => {
                if self.batch(*batch).is_none() {
                    return Err(unresolved(by, "batch", batch.to_string()));
                }
                Arc::make_mut(&mut self.withdrawals).take(record, by)
            }
            Record::BatchQuarantined(BatchQuarantined { batch }) => self.keep_back(batch, by),
            Record::BatchReleased(BatchReleased { batch, reason }) => {
                let held = Arc::make_mut(&mut self.quarantine).end(*batch, true, reason, by)?;
                let (record, by) = (held.batch.record.clone(), held.admitted_by(by));
                self.admit(&record, &by)
            }
            Record::BatchDropped(BatchDropped { batch, reason }) => {
                Arc::make_mut(&mut self.quarantine).end(*batch, false, reason, by).map(|_| ())
            }
            Record::VersionWithdrawn(VersionWithdrawn { version, .. })
            | Record::VersionRestored(VersionRestored { version, .. }) => {
                if self.view_version(*version).is_none() {
                    return Err(unresolved(by, "feature view version", version.to_string()));
                }
                Arc::make_mut(&mut self.withdrawals).take(record, by)
            }
            Record::PoliciesApplied(body) => Arc::make_mut(&mut self.policies).take(body, by),
            Record::Sampled(body) => self.take_sample(body, by),
            Record::RowsMended(body) => self.mend(body, by),
            Record::Deprecated(_) | Record::DeprecationAdvanced(_) | Record::DeprecationRevoked(_) => {
                self.take_deprecation(record, by)
            }
            Record::PlanProposed(_)
            | Record::PlanApproved(_)
            | Record::PlanDeclined(_)
            | Record::PlanApplied(_) => Arc::make_mut(&mut self.changes).take(record, by),
            Record::AlertsRaised(body) => Arc::make_mut(&mut self.alerts).raise(body, by),
            Record::AlertDelivery(body) => Arc::make_mut(&mut self.alerts).step(body, by),
            Record::ExternalLinked(body) => self.registry_mut().link(body, by),
            Record::AuthorityAliased(body) => {
                self.registry_mut().alias_authority(body, by);
                Ok(())
            }
            Record::ExperimentObserved(body) => self.registry_mut().see_experiment(body, by),
            Record::RunObserved(body) => self.registry_mut().see_run(body, by),
            Record::ModelObserved(body) => self.registry_mut().see_model(body, by),
            Record::ModelVersionObserved(body) => self.registry_mut().see_model_version(body, by),
            Record::AliasObserved(body) => self.registry_mut().see_alias(body, by),
            Record::DeploymentChanged(body) => self.registry_mut().deploy(body, by),
            Record::UseRecorded(body) => {
                if self.training_set(body.training_set).is_none() {
                    return Err(unresolved(by, "training set", body.training_set.to_string()));
                }
                self.registry_mut().record_use(body, by)
            }
            Record::DeploymentMeasured(body) => self.registry_mut().measure(body, by),
            Record::Reconciled(body) => {
                self.registry_mut().reconciled(body, by);
                Ok(())
            }
        }
    }

    fn registry_mut(&mut self) -> &mut Registry {
        Arc::make_mut(&mut self.registry)
    }

    fn define_entity(&mut self, body: &EntityDefined, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let definition: Entity = read_definition(&body.definition, by)?;
        let definitions = Arc::make_mut(&mut self.definitions);
        let versions =
            definitions.entities.entry((definition.project.clone(), definition.name.clone())).or_default();
        if body.number as usize != versions.len() + 1 {
            return Err(repeated(by, "the version number of entity", definition.name.to_string()));
        }
        versions.push(EntityVersion {
            entity: body.entity,
            version: body.version,
            number: body.number,
            digest: body.digest.clone(),
            definition: Arc::new(definition),
            by: by.clone(),
        });
        Ok(())
    }

    fn define_view(&mut self, body: &ViewVersionDefined, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let definition: FeatureView = read_definition(&body.definition, by)?;
        let definitions = Arc::make_mut(&mut self.definitions);
        let entity = definitions
            .entities
            .get(&(definition.project.clone(), definition.entity.clone()))
            .and_then(|versions| versions.iter().find(|version| version.version == body.entity_version))
            .ok_or_else(|| unresolved(by, "entity version", body.entity_version.to_string()))?
            .definition
            .clone();
        let versions =
            definitions.views.entry((definition.project.clone(), definition.name.clone())).or_default();
        if body.number as usize != versions.len() + 1 {
            return Err(repeated(by, "the version number of feature view", definition.name.to_string()));
        }
        if body.line != body.version && !versions.iter().any(|version| version.line == body.line) {
            return Err(unresolved(by, "line of batches", body.line.to_string()));
        }
        let place = ((definition.project.clone(), definition.name.clone()), versions.len());
        if definitions.versions.insert(body.version, place).is_some() {
            return Err(repeated(by, "feature view version", body.version.to_string()));
        }
        definitions.order.push(body.version);
        versions.push(ViewVersion {
            view: body.view,
            version: body.version,
            number: body.number,
            line: body.line,
            digest: body.digest.clone(),
            definition: Arc::new(definition),
            entity,
            by: by.clone(),
        });
        Ok(())
    }

    fn define_service(&mut self, body: &ServiceDefined, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let definition: FeatureService = read_definition(&body.definition, by)?;
        let definitions = Arc::make_mut(&mut self.definitions);
        let versions =
            definitions.services.entry((definition.project.clone(), definition.name.clone())).or_default();
        if body.number as usize != versions.len() + 1 {
            return Err(repeated(by, "the version number of feature service", definition.name.to_string()));
        }
        versions.push(ServiceVersion {
            service: body.service,
            version: body.version,
            number: body.number,
            digest: body.digest.clone(),
            definition: Arc::new(definition),
            by: by.clone(),
        });
        Ok(())
    }

    fn describe(&mut self, body: &Described, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let missing = || unresolved(by, "version", body.version.to_string());
        let definitions = Arc::make_mut(&mut self.definitions);
        match body.subject {
            Subject::Entity => {
                let found =
                    definitions.entities.values_mut().flatten().find(|found| found.version == body.version);
                found.ok_or_else(missing)?.definition = Arc::new(read_definition(&body.definition, by)?);
            }
            Subject::FeatureView => {
                // It may bear more rejections now, or read its files otherwise.
                definitions.refused_sources.retain(|(version, _)| *version != body.version);
                let found = definitions.view_version_mut(body.version);
                found.ok_or_else(missing)?.definition = Arc::new(read_definition(&body.definition, by)?);
            }
            Subject::FeatureService => {
                let found =
                    definitions.services.values_mut().flatten().find(|found| found.version == body.version);
                found.ok_or_else(missing)?.definition = Arc::new(read_definition(&body.definition, by)?);
            }
        }
        Ok(())
    }

    fn keep_back(&mut self, body: &BatchCommitted, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let (line, number) = self
            .view_version(body.version)
            .map(|version| (version.line, version.number))
            .ok_or_else(|| unresolved(by, "feature view version", body.version.to_string()))?;
        if self.batch(body.batch).is_some() || self.quarantine.of(body.batch).is_some() {
            return Err(repeated(by, "batch", body.batch.to_string()));
        }
        let batch = Batch { record: body.clone(), line, number, by: by.clone() };
        Arc::make_mut(&mut self.quarantine).keep(Arc::new(batch));
        Ok(())
    }

    fn admit(&mut self, body: &BatchCommitted, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let (line, number) = self
            .view_version(body.version)
            .map(|version| (version.line, version.number))
            .ok_or_else(|| unresolved(by, "feature view version", body.version.to_string()))?;
        if self.batch(body.batch).is_some() {
            return Err(repeated(by, "batch", body.batch.to_string()));
        }
        for source in &body.sources {
            self.sources.insert((line, source.digest));
        }
        let batch = Arc::new(Batch { record: body.clone(), line, number, by: by.clone() });
        let stored = &self.stored;
        let of_line = self.lines.entry(line).or_insert_with(|| {
            let before = stored.as_ref().map(|stored| stored.batches_of_line(line));
            Arc::new(before.unwrap_or_default().to_vec())
        });
        Arc::make_mut(of_line).push(batch.clone());
        self.batches.insert(body.batch, batch.clone());
        self.admitted.push(batch);
        Ok(())
    }
}

/// Questions. Each takes the sequence it is asked for; pass `head.sequence` for now.
impl State {
    pub fn entities(&self) -> impl Iterator<Item = &EntityVersion> {
        self.definitions.entities.values().flatten()
    }

    pub fn views(&self) -> impl Iterator<Item = &ViewVersion> {
        self.definitions.views.values().flatten()
    }

    pub fn services(&self) -> impl Iterator<Item = &ServiceVersion> {
        self.definitions.services.values().flatten()
    }

    /// Whether names or uses changed since another state is told by this.
    pub fn naming(&self) -> Naming {
        let stored = self.stored_training_sets().map_or(0, BTreeMap::len);
        Naming {
            definitions: self.definitions.clone(),
            registry: self.registry.clone(),
            withdrawals: self.withdrawals.clone(),
            training_sets: stored + self.training_sets.len(),
        }
    }

    pub fn refused(&self) -> &[RefusedBatch] {
        &self.refused
    }

    /// In the order of their ids.
    pub fn training_sets(&self) -> impl Iterator<Item = &TrainingSet> {
        let mut stored = self.stored_training_sets().into_iter().flatten().peekable();
        let mut since = self.training_sets.iter().peekable();
        std::iter::from_fn(move || match (stored.peek(), since.peek()) {
            (Some((before, _)), Some((id, _))) if before > id => since.next(),
            (None, _) => since.next(),
            (Some(_), _) => stored.next(),
        })
        .map(|(_, set)| set)
    }

    pub fn training_set(&self, id: TrainingSetId) -> Option<&TrainingSet> {
        self.training_sets.get(&id).or_else(|| self.stored_training_sets()?.get(&id))
    }

    fn stored_training_sets(&self) -> Option<&BTreeMap<TrainingSetId, TrainingSet>> {
        self.stored.as_ref().map(|stored| stored.training_sets())
    }

    pub fn verifications(&self) -> &[Verification] {
        &self.verifications
    }

    /// Experiments, runs, models, deployments and uses.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The policies that are and were in force.
    pub fn policies(&self) -> &PolicyHistory {
        &self.policies
    }

    /// What was withdrawn and restored.
    pub fn withdrawals(&self) -> &Withdrawals {
        &self.withdrawals
    }

    /// Batches that were kept back, and what became of them.
    pub fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    /// Objects of recorded reads, in the order of the log.
    pub fn reads(&self) -> &[RecordedReads] {
        &self.reads
    }

    pub fn log(&self) -> LogLines<'_> {
        let stored = self.stored.as_ref().map(|stored| stored.log());
        LogLines { stored: stored.unwrap_or_default(), since: &self.log }
    }

    pub fn request(&self, key: &str) -> Option<Request> {
        self.requests.get(key).cloned().or_else(|| self.stored.as_ref()?.request(key))
    }

    /// How many entries and records came after a sequence, as far back as this state was folded and not
    /// opened.
    pub(crate) fn folded_after(&self, after: Option<Sequence>) -> (usize, usize) {
        let later = self.log.iter().rev().take_while(|line| Some(line.by.sequence) > after);
        later.fold((0, 0), |(entries, records), line| (entries + 1, records + line.records.len()))
    }

    pub fn entity(&self, project: &Name, name: &Name, at: Sequence) -> Option<&EntityVersion> {
        let versions = self.definitions.entities.get(&(project.clone(), name.clone()))?;
        versions.iter().rev().find(|version| version.by.sequence <= at)
    }

    /// The version in force at a sequence, or the one of that number if it existed by then.
    pub fn view(&self, project: &str, name: &str, number: Option<u32>, at: Sequence) -> Option<&ViewVersion> {
        let key = (project.parse().ok()?, name.parse().ok()?);
        let versions = self.definitions.views.get(&key)?;
        versions.iter().rev().find(|version| {
            version.by.sequence <= at
                && match number {
                    Some(number) => version.number == number,
                    None => !self.is_withdrawn(version, at),
                }
        })
    }

    /// When what a line holds last changed up to a sequence: a batch came, was withdrawn or was restored, or rows expired.
    pub fn line_changed(&self, line: VersionId, at: Sequence) -> Option<Sequence> {
        let of_line = |moved: &&Withdrawal| match moved.of {
            Withdrawable::Batch(batch) => self.batch(batch).is_some_and(|batch| batch.line == line),
            Withdrawable::Version(_) => false,
        };
        let by_then = |change: &Sequence| *change <= at;
        let mut written = self.batches_of_line(line).iter().rev().map(|batch| batch.by.sequence);
        let mut moved = self.withdrawals.all().iter().rev().filter(of_line).map(|moved| moved.by.sequence);
        let view = self.view_version(line).map(|version| version.view);
        let expired = view.and_then(|view| self.expiry.of(view, at)).map(|one| one.by.sequence);
        let erased = self
            .erasures
            .all()
            .iter()
            .rev()
            .filter(|one| view.is_some_and(|view| one.record.views.contains(&view)));
        let erased = erased.map(|one| one.by.sequence).find(by_then);
        written.find(by_then).max(moved.find(by_then)).max(expired).max(erased)
    }

    fn is_withdrawn(&self, version: &ViewVersion, at: Sequence) -> bool {
        self.withdrawals.at(Withdrawable::Version(version.version), at).is_some()
    }

    /// All versions of a name that there ever were, the first one first.
    pub fn versions_of(&self, project: &Name, name: &Name) -> &[ViewVersion] {
        let versions = self.definitions.views.get(&(project.clone(), name.clone()));
        versions.map(Vec::as_slice).unwrap_or_default()
    }

    pub fn view_version(&self, id: VersionId) -> Option<&ViewVersion> {
        self.definitions.view_version(id)
    }

    /// The feature views in force at a sequence.
    pub fn views_in_force(&self, at: Sequence) -> impl Iterator<Item = &ViewVersion> {
        let in_force =
            move |version: &&ViewVersion| version.by.sequence <= at && !self.is_withdrawn(version, at);
        self.definitions.views.values().filter_map(move |versions| versions.iter().rev().find(in_force))
    }

    pub fn service(&self, project: &Name, name: &Name, at: Sequence) -> Option<&ServiceVersion> {
        let versions = self.definitions.services.get(&(project.clone(), name.clone()))?;
        versions.iter().rev().find(|version| version.by.sequence <= at)
    }

    /// Every batch, of all views, in the order of the log within each line.
    pub fn batches(&self) -> impl Iterator<Item = &Arc<Batch>> {
        if let Some(stored) = &self.stored {
            stored.read_all();
        }
        let lines = self.definitions.order.iter().filter(|version| self.starts_a_line(**version));
        lines.flat_map(|line| self.batches_of_line(*line))
    }

    /// Where each batch came from, in the order of [`Self::batches`]. For who asks for all batches of a large
    /// store and for this alone.
    pub fn batch_origins(&self, mut visit: impl FnMut(BatchOrigin<'_>)) {
        let mut sources = Vec::new();
        let origins = self.stored.as_ref().map(|stored| stored.origins());
        for line in self.definitions.order.iter().filter(|version| self.starts_a_line(**version)) {
            if let Some(origins) = origins.as_ref().filter(|_| !self.lines.contains_key(line)) {
                origins.of_line(*line, &mut visit);
                continue;
            }
            for batch in self.batches_of_line(*line) {
                sources.clear();
                sources.extend(batch.record.sources.iter().map(|source| source.digest));
                visit(BatchOrigin {
                    batch: batch.record.batch,
                    version: batch.record.version,
                    sequence: batch.by.sequence,
                    principal: &batch.by.principal,
                    run: batch.by.run.as_deref(),
                    sources: &sources,
                    derivation: batch.record.derivation.as_ref(),
                });
            }
        }
    }

    fn starts_a_line(&self, version: VersionId) -> bool {
        self.view_version(version).is_some_and(|found| found.line == version)
    }

    pub fn batch(&self, id: BatchId) -> Option<&Arc<Batch>> {
        self.batches.get(&id).or_else(|| self.stored.as_ref()?.batch(id))
    }

    /// The batches that count for a version at a sequence, in the order of the log. A batch counts for every version
    /// of its line; for one that is earlier than its own only if it has all of that one's features. One that is withdrawn at that
    /// sequence does not.
    pub fn batches_of(&self, version: &ViewVersion, at: Sequence) -> Vec<Arc<Batch>> {
        let of_line = self.batches_of_line(version.line).iter();
        of_line.filter(|batch| self.counts(batch, version, at)).cloned().collect()
    }

    /// Whether a batch counts for a version at a sequence.
    pub fn counts(&self, batch: &Batch, version: &ViewVersion, at: Sequence) -> bool {
        batch.by.sequence <= at && self.counts_for(batch, version) && self.counts_at(batch, at)
    }

    /// Whether a batch is not withdrawn at a sequence.
    pub fn counts_at(&self, batch: &Batch, at: Sequence) -> bool {
        self.withdrawals.at(Withdrawable::Batch(batch.record.batch), at).is_none()
    }

    /// Whether a batch counts for a version, once its sequence is reached and while it is not withdrawn.
    pub fn counts_for(&self, batch: &Batch, version: &ViewVersion) -> bool {
        let later = batch.number > version.number;
        batch.line == version.line && (!later || self.has_all_features(batch, version))
    }

    fn has_all_features(&self, batch: &Batch, version: &ViewVersion) -> bool {
        let Some(written) = self.view_version(batch.record.version) else { return false };
        version
            .definition
            .features
            .iter()
            .all(|wanted| written.definition.features.iter().any(|had| had.name == wanted.name))
    }

    /// The batches of a line, in the order of the log.
    pub fn batches_of_line(&self, line: VersionId) -> &[Arc<Batch>] {
        match (self.lines.get(&line), &self.stored) {
            (Some(grown), _) => grown,
            (None, Some(stored)) => stored.batches_of_line(line),
            (None, None) => &[],
        }
    }

    /// Whether a source file of these bytes was refused under a version before.
    pub fn has_refused(&self, version: VersionId, digest: Digest) -> bool {
        self.definitions.refused_sources.contains(&(version, digest))
    }

    /// Whether a source file of these bytes was taken into a line before.
    pub fn has_source(&self, line: VersionId, digest: Digest) -> bool {
        self.sources.contains(&(line, digest))
            || self.quarantine.has_source(line, digest)
            || self.stored.as_ref().is_some_and(|stored| stored.has_source(line, digest))
    }
}

fn head_of(entry: &Applied<'_>) -> Head {
    Head { sequence: entry.by.sequence, digest: entry.digest, committed_at: entry.by.committed_at }
}

fn read_definition<T: Defined>(definition: &serde_json::Value, by: &Provenance) -> Result<T, ApplyError> {
    let unreadable = |why: String| ApplyError::Definition { sequence: by.sequence, why };
    let definition = Definition::from_json(definition).map_err(|why| unreadable(why.to_string()))?;
    let kind = definition.kind();
    T::take(definition).ok_or_else(|| unreadable(format!("it is of another kind than its record: {kind}")))
}

/// A kind of definition.
trait Defined: Sized {
    fn take(definition: Definition) -> Option<Self>;
}

impl Defined for Entity {
    fn take(definition: Definition) -> Option<Self> {
        if let Definition::Entity(entity) = definition { Some(entity) } else { None }
    }
}

impl Defined for FeatureView {
    fn take(definition: Definition) -> Option<Self> {
        if let Definition::FeatureView(view) = definition { Some(view) } else { None }
    }
}

impl Defined for FeatureService {
    fn take(definition: Definition) -> Option<Self> {
        if let Definition::FeatureService(service) = definition { Some(service) } else { None }
    }
}

fn unresolved(by: &Provenance, what: &'static str, id: String) -> ApplyError {
    ApplyError::Unresolved { sequence: by.sequence, what, id }
}

fn repeated(by: &Provenance, what: &'static str, id: String) -> ApplyError {
    ApplyError::Repeated { sequence: by.sequence, what, id }
}
