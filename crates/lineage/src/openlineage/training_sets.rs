//! Training sets: one run of `retrieve.<name>` each; and their replays.

use catalog::records::{TrainingSetRecorded, Verdict, Verified};
use catalog::state::TrainingSet;
use feature::Timestamp;
use feature::digest::{HashAlgorithm, hash};
use serde_json::{Map, Value, json};

use super::Telling;
use super::event::{Dataset, RunOf, RunState};
use super::facet::{Facet, Facets, error, job_type};
use super::naming::{Named, with_dashes};
use crate::edges::Source;
use crate::manifest::{Knowledge, Manifest};

/// How sure one may be of a set.
#[derive(Clone, Copy)]
enum Level {
    Recorded,
    Replayed,
}

impl Telling<'_> {
    pub(super) fn training_set_recorded(&mut self, body: &TrainingSetRecorded) {
        let Some(set) = self.state.training_set(body.training_set) else { return };
        let manifest = self.material.manifests.get(&body.training_set);
        let run = RunOf {
            id: body.training_set.to_string(),
            run_facets: self.run_facets(),
            job: self.namespace.named(format!("retrieve.{}", called(set))),
            job_facets: Facets::default().with(Facet::JOB_TYPE, job_type("QUERY")),
        };
        let inputs = manifest.map(|manifest| self.read_by(manifest, set)).unwrap_or_default();
        let mut output = self.training_set(set, Level::Recorded, manifest);
        output.of_this_run =
            output.of_this_run.with(Facet::OUTPUT_STATISTICS, json!({ "rowCount": body.rows }));
        let began = self.minted(body.training_set);
        self.run_event(RunState::Start, began, &run, &inputs, &[]);
        self.run_event(RunState::Complete, self.by.committed_at, &run, &inputs, &[output]);
    }

    pub(super) fn verified(&mut self, body: &Verified, place: usize) {
        let Some(set) = self.state.training_set(body.training_set) else { return };
        let mut run = RunOf {
            id: self.replay_id(body.at, place),
            run_facets: self.run_facets(),
            job: self.namespace.named(format!("replay.{}", called(set))),
            job_facets: Facets::default().with(Facet::JOB_TYPE, job_type("QUERY")),
        };
        // Rows that were erased since are no fault of the set.
        let equal = body.verdict != Verdict::Differs;
        let level = if equal { Level::Replayed } else { Level::Recorded };
        let input = self.training_set(set, level, None);
        let at = body.at.min(self.by.committed_at);
        self.run_event(RunState::Start, at, &run, std::slice::from_ref(&input), &[]);
        if !equal {
            let message =
                format!("the set was rebuilt with the digest {}, not {}", body.digest, set.record.digest);
            run.run_facets = run.run_facets.with(Facet::ERROR, error(&message));
        }
        let end = if equal { RunState::Complete } else { RunState::Fail };
        self.run_event(end, self.by.committed_at, &run, &[input], &[]);
    }

    /// A replay has no id in the log: its run's is a UUID of version 7 made of its time and of where it
    /// stands.
    fn replay_id(&self, at: Timestamp, place: usize) -> String {
        let origin = format!("replay {} {} {place}", self.state.store, self.by.sequence);
        let chance = hash(HashAlgorithm::Blake3, origin.as_bytes()).to_string();
        let chance = chance.rsplit(':').next().unwrap_or_default();
        let chance = u128::from_str_radix(chance.get(..32).unwrap_or_default(), 16).unwrap_or_default();
        let millis = u128::from(at.micros().max(0).unsigned_abs() / 1000) & ((1 << 48) - 1);
        let (middle, low) = (chance >> 116, chance & ((1 << 62) - 1));
        let id = (millis << 80) | (7 << 76) | (middle << 64) | (2 << 62) | low;
        with_dashes(&format!("{id:032x}")).unwrap_or_default()
    }

    pub(super) fn training_set_named(&self, set: &TrainingSet) -> Named {
        self.namespace.named(format!("training_sets/{}", called(set)))
    }

    /// A set in the words of later entries, which have no manifest at hand.
    pub(super) fn training_set_used(&self, set: &TrainingSet) -> Dataset {
        self.training_set(set, Level::Recorded, None)
    }

    fn training_set(&self, set: &TrainingSet, level: Level, manifest: Option<&Manifest>) -> Dataset {
        let named = self.training_set_named(set);
        let facets = Facets::default()
            .with(Facet::VERSION, json!({ "datasetVersion": set.record.training_set }))
            .with(Facet::DATASET_TYPE, json!({ "datasetType": "TABLE", "subType": "TRAINING_SET" }))
            .with(Facet::TRAINING_SET, training_set_facet(set, level, manifest));
        let Some(manifest) = manifest else { return Dataset::new(named, facets) };
        let spine = self.spine_named(set);
        let facets = facets
            .with(Facet::SCHEMA, json!({ "fields": columns(manifest) }))
            .with_some(Facet::COLUMN_LINEAGE, self.column_lineage(manifest, &spine))
            .with(Facet::QUALITY, metrics(manifest));
        Dataset::new(named, facets)
    }

    fn spine_named(&self, set: &TrainingSet) -> Named {
        self.namespace.named(format!("spines/{}", called(set)))
    }

    /// The spine and the views, each view once, whichever versions of it were read.
    fn read_by(&self, manifest: &Manifest, set: &TrainingSet) -> Vec<Dataset> {
        let of_spine = |name: &str| {
            let carried = |source: &Source| matches!(source, Source::Spine { column } if column == name);
            manifest
                .lineage
                .iter()
                .any(|edge| edge.output == name && edge.kind.is_direct() && carried(&edge.source))
        };
        let columns: Vec<Value> = manifest
            .columns
            .iter()
            .filter(|column| of_spine(&column.name))
            .map(|column| json!({ "name": column.name, "type": column.data_type }))
            .collect();
        let facets = Facets::default()
            .with(Facet::SCHEMA, json!({ "fields": columns }))
            .with(Facet::VERSION, json!({ "datasetVersion": manifest.spine.digest }))
            .with(Facet::DATASET_TYPE, json!({ "datasetType": "TABLE", "subType": "SPINE" }));
        let mut spine = Dataset::new(self.spine_named(set), facets);
        spine.of_this_run =
            spine.of_this_run.with(Facet::INPUT_STATISTICS, json!({ "rowCount": manifest.spine.rows }));
        let mut inputs = vec![spine];
        let versions = manifest.versions();
        let versions = versions.iter().filter_map(|version| self.state.view_version(*version));
        inputs.extend(self.views_read(versions, manifest.sequence));
        inputs
    }
}

/// Its name; its id where it has none.
fn called(set: &TrainingSet) -> String {
    set.record.name.clone().unwrap_or_else(|| set.record.training_set.to_string())
}

fn columns(manifest: &Manifest) -> Vec<Value> {
    let columns = manifest.columns.iter().enumerate();
    columns
        .map(|(position, column)| {
            json!({ "name": column.name, "type": column.data_type, "ordinal_position": position + 1 })
        })
        .collect()
}

/// Nulls of the features; those of the spine's own columns are not counted.
fn metrics(manifest: &Manifest) -> Value {
    let mut columns = Map::new();
    for reference in &manifest.references {
        let nulls: u64 = reference.nulls.values().sum();
        let count = manifest.rows.saturating_sub(nulls);
        columns.insert(reference.output.clone(), json!({ "nullCount": nulls, "count": count }));
    }
    json!({ "rowCount": manifest.rows, "columnMetrics": columns })
}

/// The body of `lineament_trainingSet`.
fn training_set_facet(set: &TrainingSet, level: Level, manifest: Option<&Manifest>) -> Value {
    let record = &set.record;
    let mut facet = json!({
        "id": record.training_set,
        "digest": record.digest,
        "sequence": record.sequence,
        "rows": record.rows,
        "columns": record.columns,
        "level": match level {
            Level::Recorded => "recorded",
            Level::Replayed => "replayed",
        },
    });
    let Some(manifest) = manifest else { return facet };
    match manifest.knowledge {
        Knowledge::AtRow => facet["knowledge"] = "at_row".into(),
        Knowledge::By(instant) => {
            facet["knowledge"] = "by".into();
            facet["knownBy"] = instant.to_string().into();
        }
        Knowledge::Unlimited => facet["knowledge"] = "unlimited".into(),
    }
    let features = manifest.references.iter().map(|reference| {
        json!({
            "output": reference.output,
            "asked": reference.asked,
            "resolved": reference.resolved,
            "nulls": reference.nulls,
            "defaulted": reference.defaulted,
        })
    });
    facet["features"] = features.collect();
    let hits = manifest.views.iter().flat_map(|view| {
        view.hits.iter().map(|hit| json!({ "version": view.label, "batch": hit.batch, "rows": hit.rows }))
    });
    facet["hits"] = hits.collect();
    facet
}
