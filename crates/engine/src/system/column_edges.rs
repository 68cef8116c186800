//! Column edges of recorded training sets, from their manifests, and of batches of derived views, from their bodies.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use catalog::records::Object;
use catalog::state::{Batch, ViewVersion};
use datafusion::catalog::TableProvider;
use datafusion::common::Result;
use feature::{Influence, VersionId};
use serde::Deserialize;

use super::Columns;
use super::by_object::{self, Listed, RowsOf, parsed};
use super::set_columns::told;
use crate::access::Sights;
use crate::snapshot::{Snapshot, split_name};

/// The part of a manifest that is read here; `lineage` has it whole.
#[derive(Deserialize)]
struct Manifest {
    lineage: Vec<Edge>,
}

/// The part of a batch's body.
#[derive(Deserialize)]
struct Body {
    derived: Option<Derived>,
}

#[derive(Deserialize)]
struct Derived {
    /// Missing where the query could not be traced.
    #[serde(default)]
    lineage: Vec<Edge>,
}

/// As `lineage` writes it.
#[derive(Deserialize)]
struct Edge {
    output: String,
    source: Source,
    kind: Influence,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", tag = "of")]
enum Source {
    FeatureView { version: VersionId, label: String, column: String },
    Spine { column: String },
    Given { table: String, column: String },
}

impl Source {
    fn column(&self) -> &str {
        match self {
            Self::FeatureView { column, .. } | Self::Spine { column } | Self::Given { column, .. } => column,
        }
    }

    /// The rows that the caller gave, as reads name them.
    fn given(&self) -> Option<&str> {
        match self {
            Self::FeatureView { .. } => None,
            Self::Spine { .. } => Some("spine"),
            Self::Given { table, .. } => Some(table.as_str()),
        }
    }

    fn version_id(&self) -> Option<VersionId> {
        match self {
            Self::FeatureView { version, .. } => Some(*version),
            Self::Spine { .. } | Self::Given { .. } => None,
        }
    }

    /// Project, view and number of the version.
    fn version(&self) -> Option<(String, String, Option<u32>)> {
        match self {
            Self::FeatureView { label, .. } => split_name(label),
            Self::Spine { .. } | Self::Given { .. } => None,
        }
    }
}

/// The columns of the edges of sets and of batches, and of those of reads. The snapshot is the sequence that was read.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new([known(&[]).fields, columns(&[]).fields].concat()))
}

/// A set or a batch, as it is known without its object.
struct Subject<'a> {
    id: String,
    label: Option<String>,
    snapshot: Option<u64>,
    object: &'a Object,
}

/// A row an edge to a column of a recorded set.
pub fn of_sets(snapshot: &Snapshot) -> Result<Arc<dyn TableProvider>> {
    let sets = told(snapshot);
    let subjects: Vec<Subject<'_>> = sets
        .iter()
        .map(|set| Subject {
            id: set.record.training_set.to_string(),
            label: set.record.name.clone(),
            snapshot: Some(set.record.sequence.0),
            object: &set.record.manifest,
        })
        .collect();
    table(snapshot, &subjects, Arc::new(of_manifest))
}

/// A row an edge to a column of a batch that a refresh made, those in quarantine and the withdrawn ones among them.
pub fn of_batches(snapshot: &Snapshot) -> Result<Arc<dyn TableProvider>> {
    let (state, at) = (&snapshot.state, snapshot.sequence);
    let mut derived = Vec::new();
    state.batch_origins(|origin| {
        if origin.derivation.is_some() {
            derived.push(origin.batch);
        }
    });
    let sights = Sights::of_snapshot(snapshot);
    let held = state.quarantine().all().iter();
    let waits = held.filter(|held| held.end_at(at).is_none_or(|end| !end.released));
    let batches: Vec<&Arc<Batch>> = derived
        .into_iter()
        .filter_map(|batch| state.batch(batch))
        .chain(waits.map(|held| &held.batch).filter(|batch| batch.record.derivation.is_some()))
        .filter(|batch| batch.by.sequence <= at && is_told(snapshot, &sights, batch))
        .collect();
    let subjects: Vec<Subject<'_>> = batches
        .into_iter()
        .filter_map(|batch| {
            Some(Subject {
                id: batch.record.batch.to_string(),
                label: state.view_version(batch.record.version).map(ViewVersion::label),
                snapshot: batch.record.derivation.as_ref().map(|made| made.sequence.0),
                object: batch.record.body.as_ref()?,
            })
        })
        .collect();
    table(snapshot, &subjects, Arc::new(of_body))
}

fn table(snapshot: &Snapshot, subjects: &[Subject<'_>], rows_of: RowsOf) -> Result<Arc<dyn TableProvider>> {
    let objects = subjects.iter().map(|subject| subject.object.clone()).collect();
    let listed = Listed { objects, known: known(subjects).finish()? };
    by_object::table(snapshot, listed, &Arc::new(Schema::new(columns(&[]).fields)), rows_of)
}

fn known(subjects: &[Subject<'_>]) -> Columns {
    Columns::default()
        .text("subject", subjects.iter().map(|subject| Some(&subject.id)))
        .text("label", subjects.iter().map(|subject| subject.label.as_ref()))
        .told("snapshot", subjects.iter().map(|subject| subject.snapshot))
}

/// Whether an asker is told how a batch was made: whoever made it is, and whoever sees whole what it is of and all that it was made of.
fn is_told(snapshot: &Snapshot, sights: &Sights<'_>, batch: &Batch) -> bool {
    let own = snapshot.guards.as_ref().is_none_or(|guards| guards.is_asker(&batch.by.principal));
    own || sights.of_batch(batch)
}

fn of_manifest(object: &Object, bytes: &[u8]) -> Result<RecordBatch> {
    let manifest: Manifest = parsed(object, bytes)?;
    columns(&manifest.lineage).finish()
}

fn of_body(object: &Object, bytes: &[u8]) -> Result<RecordBatch> {
    let body: Body = parsed(object, bytes)?;
    columns(&body.derived.map(|derived| derived.lineage).unwrap_or_default()).finish()
}

fn columns(edges: &[Edge]) -> Columns {
    let versions: Vec<_> = edges.iter().map(|edge| edge.source.version()).collect();
    let all = || edges.iter();
    let named = || versions.iter().map(Option::as_ref);
    Columns::default()
        .text("output", all().map(|edge| Some(&edge.output)))
        // The set's request and the batch's query say how; by column it is told of reads alone.
        .text("expression", all().map(|_| None::<String>))
        .text("project", named().map(|version| version.map(|(project, ..)| project)))
        .text("feature_view", named().map(|version| version.map(|(_, view, _)| view)))
        .small_told("version", named().map(|version| version?.2))
        .text("version_id", all().map(|edge| edge.source.version_id()))
        .text("given", all().map(|edge| edge.source.given()))
        .text("column", all().map(|edge| Some(edge.source.column())))
        .text("kind", all().map(|edge| Some(edge.kind.directness())))
        .text("subtype", all().map(|edge| Some(edge.kind.as_str())))
}
