//! What an erasure says of itself.

use catalog::State;
use catalog::state::computed_from;
use feature::{BatchId, ErasureId, Sequence, TrainingSetId, ViewId};
use serde::Serialize;

use super::{EraseRequest, Planned, Target};
use crate::error::Result;
use crate::retrieve::Serving;

/// What went, or would go. It names the key nowhere.
#[derive(Clone, Debug, Serialize)]
pub struct EraseReport {
    /// `plane`, as it was asked for.
    pub entity: String,
    pub dry_run: bool,
    /// None where nothing was written: a dry run, or nothing was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erasure: Option<ErasureId>,
    /// The entry from which on the values are gone, at every sequence.
    pub sequence: Option<Sequence>,
    /// The views of the entity, whether they have rows of it or not.
    pub views: Vec<String>,
    /// Rows of all batches.
    pub rows: u64,
    pub batches: Vec<ErasedBatch>,
    /// Data files that have such rows.
    pub files: u64,
    /// Reasons of rejected rows.
    pub rejected: u64,
    /// Recorded reads that spoke of it.
    pub reads: u64,
    /// Spines that clients put up: nobody can ask for them any more.
    pub spines: u64,
    /// Profiles of samples of what was read or streamed, among whose entities it is.
    pub samples: u64,
    /// More of these than one entry can name: the next erasure goes on.
    pub samples_left: u64,
    /// Batches of derived views of other entities that were computed from batches with such rows. They stay as they are, values that were computed
    /// from what is erased too.
    pub derived_left: Vec<DerivedBatch>,
    pub training_sets: Vec<ErasedTrainingSet>,
    /// What was made of these sets, and knows what is erased: `model version delay/3`, `deployment delay-api`.
    pub kept_for: Vec<String>,
}

/// Rows of one batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErasedBatch {
    pub batch: BatchId,
    /// `weather@2`
    pub version: String,
    pub rows: u64,
}

/// A batch of a derived view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DerivedBatch {
    pub batch: BatchId,
    /// `monthly@1`
    pub version: String,
}

/// A training set that had rows of the entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErasedTrainingSet {
    pub training_set: TrainingSetId,
    pub name: Option<String>,
    pub rows: u64,
    /// Whether a replay can prove what is left; not known before it is erased.
    pub provable: Option<bool>,
}

impl Serving {
    pub(super) async fn told(
        &self,
        state: &State,
        target: &Target,
        planned: Planned,
        request: &EraseRequest,
        sequence: Option<Sequence>,
    ) -> Result<EraseReport> {
        let version = |batch: BatchId| {
            let held = state.quarantine().of(batch).map(|held| &held.batch);
            let batch = state.batch(batch).or(held);
            let version = batch.and_then(|batch| state.view_version(batch.record.version));
            version.map(catalog::state::ViewVersion::label).unwrap_or_default()
        };
        let rows = planned.rows.rows();
        let batches = planned.rows.batches.iter();
        let batches =
            batches.map(|(batch, rows)| ErasedBatch { batch: *batch, version: version(*batch), rows: *rows });
        let sets = planned.sets.iter().map(|set| ErasedTrainingSet {
            training_set: set.record.training_set,
            name: set.name.clone(),
            rows: set.record.rows,
            provable: sequence.map(|_| set.record.digest.is_some()),
        });
        let training_sets: Vec<ErasedTrainingSet> = sets.collect();
        let views: Vec<ViewId> = target.versions.keys().copied().collect();
        let derived = state.derived_batches();
        let derived = computed_from(&derived, &planned.rows.touched, &views, planned.seen.next());
        let derived_left = derived.into_iter().map(|batch| {
            let batch = batch.record.batch;
            DerivedBatch { batch, version: version(batch) }
        });
        let derived_left: Vec<DerivedBatch> = derived_left.collect();
        Ok(EraseReport {
            entity: request.entity.clone(),
            dry_run: request.dry_run,
            erasure: sequence.map(|_| planned.erasure),
            sequence,
            views: target.versions.values().map(catalog::state::ViewVersion::label).collect(),
            rows,
            batches: batches.collect(),
            files: planned.rows.files,
            rejected: planned.rows.rejected,
            reads: planned.reads,
            spines: planned.spines.len() as u64,
            samples: planned.samples.len() as u64,
            samples_left: planned.samples_left,
            derived_left,
            kept_for: self.made_of(&training_sets).await?,
            training_sets,
        })
    }

    /// What models and deployments were made of some sets, each once.
    async fn made_of(&self, sets: &[ErasedTrainingSet]) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for set in sets {
            let kept = self.kept_by(&set.training_set.to_string(), None).await?;
            // The set itself stands in the report.
            let steps = kept.kept_by.iter().flat_map(|one| &one.path);
            for step in steps.filter(|step| matches!(step.kind, "model_version" | "deployment" | "hold")) {
                let named = format!("{} {}", step.kind.replace('_', " "), step.label);
                if !found.contains(&named) {
                    found.push(named);
                }
            }
        }
        Ok(found)
    }
}
