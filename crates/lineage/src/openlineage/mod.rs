//! The log's entries in OpenLineage's words (its schema 2-0-2), for those who keep one catalog of lineage for
//! all their systems.
//!
//! [`Translator::translate`] is pure: an entry, the state right after it and the side objects that it names
//! give its events, byte for byte the same whenever and wherever they are asked for. docs/openlineage.md says
//! what each entry becomes.

mod batches;
mod columns;
mod datasets;
mod event;
mod facet;
mod models;
mod naming;
mod quality;
mod reads;
mod runs;
mod subjects;
mod training_sets;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use catalog::records::{Record, Subject};
use catalog::state::Provenance;
use catalog::{Followed, State};
use feature::{BatchId, Sequence, StoreId, TrainingSetId};
use serde::Deserialize;

use crate::edges::Edge;
use crate::manifest::Manifest;

pub use event::Event;
pub use naming::{AuthorityError, Namespace};
pub use quality::{ColumnProfile, Profile};
pub use reads::RecordedRead;
pub use subjects::subjects;

/// Who makes the events, as `producer` says. The number changes when an entry comes to give other events than
/// before.
pub const PRODUCER: &str = "urn:lineament:openlineage:1";

/// What a writer said of a batch: `bodies/{id}.json`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct BatchBody {
    /// Names of the files or places that the rows came from, in their order.
    #[serde(default)]
    pub origins: Vec<String>,
    /// Steps that made the rows before they came, as the writer states them.
    #[serde(default)]
    pub steps: Vec<String>,
    /// How the rows of a derived view were made.
    pub derived: Option<DerivedBody>,
}

/// What a refresh said of its rows.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct DerivedBody {
    /// What each column of the view comes from; none where that was not known or not told.
    pub lineage: Option<Vec<Edge>>,
}

/// The side objects that an entry names. What is not handed in is left out of the events.
#[derive(Clone, Debug, Default)]
pub struct Material {
    pub profiles: HashMap<BatchId, Profile>,
    pub bodies: HashMap<BatchId, BatchBody>,
    pub manifests: HashMap<TrainingSetId, Manifest>,
    /// Reads in the order of their object, by its path. Reads are told only where they are handed in.
    pub reads: HashMap<String, Vec<RecordedRead>>,
}

/// Tells of a store's entries under one namespace.
#[derive(Clone, Debug)]
pub struct Translator {
    namespace: Namespace,
}

impl Translator {
    pub fn new(namespace: Namespace) -> Self {
        Self { namespace }
    }

    /// A store that goes by its id.
    pub fn of_store(store: StoreId) -> Self {
        Self::new(Namespace::of_store(store))
    }

    /// The events of an entry, in order; `state` is the one right after it.
    pub fn translate(&self, entry: &Followed, state: &State, material: &Material) -> Vec<Event> {
        let mut events = Vec::new();
        for place in 0..entry.records.len() {
            events.extend(self.translate_record(entry, place, events.len(), state, material));
        }
        events
    }

    /// The events of one of an entry's records, for who does not want to hold those of all; `earlier` is how many the
    /// records before it gave. A place beyond the last record gives none.
    pub fn translate_record(
        &self,
        entry: &Followed,
        place: usize,
        earlier: usize,
        state: &State,
        material: &Material,
    ) -> Vec<Event> {
        let mut telling = Telling {
            namespace: &self.namespace,
            by: &entry.by,
            state,
            material,
            place,
            earlier,
            events: Vec::new(),
        };
        if let Some(record) = entry.records.get(place) {
            telling.record(record, place, &entry.records);
        }
        telling.events
    }
}

/// An entry on its way to events.
struct Telling<'a> {
    namespace: &'a Namespace,
    by: &'a Provenance,
    state: &'a State,
    material: &'a Material,
    /// The record that is told of.
    place: usize,
    /// How many events the records before it gave.
    earlier: usize,
    events: Vec<Event>,
}

impl Telling<'_> {
    fn record(&mut self, record: &Record, place: usize, all: &[Record]) {
        match record {
            Record::ViewVersionDefined(body) => self.view_defined(body),
            Record::Described(body) if body.subject == Subject::FeatureView => {
                self.view_described(body.version)
            }
            Record::BatchCommitted(body) => self.batch_committed(body),
            Record::BatchReleased(body) => {
                if let Some(batch) = self.state.batch(body.batch) {
                    self.batch_committed(&batch.record);
                }
            }
            Record::BatchRefused(body) => self.batch_refused(body),
            Record::TrainingSetRecorded(body) => self.training_set_recorded(body),
            Record::Verified(body) => self.verified(body, place),
            Record::ExternalLinked(body) => self.linked(body),
            Record::RunObserved(body) => {
                let is_first =
                    |seen: &Record| matches!(seen, Record::RunObserved(seen) if seen.run == body.run);
                if !all[..place].iter().any(is_first) {
                    self.run_observed(body.run);
                }
            }
            Record::UseRecorded(body) => self.used(body),
            Record::ModelVersionObserved(body) => self.model_version_observed(body),
            Record::DeploymentChanged(body) => self.deployment_changed(body),
            Record::ReadsRecorded(body) => self.reads_recorded(body),
            // What is declared of entities and services shows in the views and sets that it bears on. That a run whose events were
            // told has no effect any more is nothing that OpenLineage has an event for.
            Record::StoreCreated(_)
            | Record::EntityDefined(_)
            | Record::ServiceDefined(_)
            | Record::Described(_)
            | Record::BatchWithdrawn(_)
            | Record::BatchRestored(_)
            // Nobody has rows of it yet.
            | Record::BatchQuarantined(_)
            | Record::BatchDropped(_)
            | Record::VersionWithdrawn(_)
            | Record::VersionRestored(_)
            | Record::AuthorityAliased(_)
            | Record::ExperimentObserved(_)
            | Record::ModelObserved(_)
            | Record::AliasObserved(_)
            | Record::Reconciled(_)
            | Record::DeploymentMeasured(_)
            // The same rows elsewhere.
            | Record::Compacted(_)
            | Record::StreamPartsCommitted(_)
            | Record::Swept(_)
            | Record::RetentionSet(_)
            | Record::RowsExpired(_)
            | Record::RowsDeleted(_)
            // Of whom, nobody is told; that rows are fewer shows in what is read.
            | Record::Erased(_)
            | Record::HoldPlaced(_)
            | Record::HoldLifted(_)
            | Record::SpineKept(_)
            | Record::SpinesDropped(_)
            | Record::SpineUsed(_)
            // What will go is there still, and the versions of an applied plan are told by themselves.
            | Record::Deprecated(_)
            | Record::DeprecationAdvanced(_)
            | Record::DeprecationRevoked(_)
            | Record::PlanProposed(_)
            | Record::PlanApproved(_)
            | Record::PlanDeclined(_)
            | Record::PlanApplied(_)
            // Who may see something is no lineage.
            | Record::PoliciesApplied(_)
            // What values were like as they passed by made none.
            | Record::Sampled(_)
            // The batch that has them tells of them itself.
            | Record::RowsMended(_)
            // Neither is who was told of it.
            | Record::AlertsRaised(_)
            | Record::AlertDelivery(_) => {}
        }
    }

    /// The sequence before this entry.
    fn before(&self) -> Sequence {
        Sequence(self.by.sequence.0.saturating_sub(1))
    }
}
