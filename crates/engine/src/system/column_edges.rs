//! Column edges of recorded training sets, from their manifests, and of batches of derived views, from their bodies.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use catalog::records::Object;
use catalog::state::{Batch, ViewVersion};
use datafusion::catalog::TableProvider;
use datafusion::common::Result;
use feature::{Influence, VersionId};
use serde::Deserialize;

use super::by_object::{self, Listed, parsed};
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
    Arc::new(Schema::new([of_subject(), of_edge()].concat()))
}

/// What is known without its object.
fn of_subject() -> Vec<Field> {
    vec![text("subject"), text("label"), Field::new("snapshot", DataType::UInt64, true)]
}

fn of_edge() -> Vec<Field> {
    vec![
        text("output"),
        text("expression"),
        text("project"),
        text("feature_view"),
        Field::new("version", DataType::UInt32, true),
        text("version_id"),
        text("given"),
        text("column"),
        text("kind"),
        text("subtype"),
    ]
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

/// A row an edge to a column of a recorded set.
pub fn of_sets(snapshot: &Snapshot) -> Result<Arc<dyn TableProvider>> {
    let sets = told(snapshot);
    let all = || sets.iter();
    let known: Vec<ArrayRef> = vec![
        texts(all().map(|set| Some(set.record.training_set))),
        texts(all().map(|set| set.record.name.clone())),
        Arc::new(UInt64Array::from_iter_values(all().map(|set| set.record.sequence.0))),
    ];
    let known = RecordBatch::try_new(Arc::new(Schema::new(of_subject())), known)?;
    let objects = all().map(|set| set.record.manifest.clone()).collect();
    by_object::table(snapshot, Listed { objects, known }, &Arc::new(Schema::new(of_edge())), of_manifest)
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
    let batches: Vec<(&Arc<Batch>, &Object)> = derived
        .into_iter()
        .filter_map(|batch| state.batch(batch))
        .chain(waits.map(|held| &held.batch).filter(|batch| batch.record.derivation.is_some()))
        .filter(|batch| batch.by.sequence <= at && is_told(snapshot, &sights, batch))
        .filter_map(|batch| Some((batch, batch.record.body.as_ref()?)))
        .collect();
    let all = || batches.iter();
    let label = |batch: &Batch| state.view_version(batch.record.version).map(ViewVersion::label);
    let read_at = |batch: &Batch| batch.record.derivation.as_ref().map(|made| made.sequence.0);
    let known: Vec<ArrayRef> = vec![
        texts(all().map(|(batch, _)| Some(batch.record.batch))),
        texts(all().map(|(batch, _)| label(batch))),
        Arc::new(all().map(|(batch, _)| read_at(batch)).collect::<UInt64Array>()),
    ];
    let known = RecordBatch::try_new(Arc::new(Schema::new(of_subject())), known)?;
    let objects = all().map(|(_, body)| Object::clone(body)).collect();
    by_object::table(snapshot, Listed { objects, known }, &Arc::new(Schema::new(of_edge())), of_body)
}

/// Whether an asker is told how a batch was made: whoever made it is, and whoever sees whole what it is of and all that it was made of.
fn is_told(snapshot: &Snapshot, sights: &Sights<'_>, batch: &Batch) -> bool {
    let own = snapshot.guards.as_ref().is_none_or(|guards| guards.is_asker(&batch.by.principal));
    own || sights.of_batch(batch)
}

fn of_manifest(object: &Object, bytes: &[u8]) -> Result<RecordBatch> {
    let manifest: Manifest = parsed(object, bytes)?;
    rows(&manifest.lineage)
}

fn of_body(object: &Object, bytes: &[u8]) -> Result<RecordBatch> {
    let body: Body = parsed(object, bytes)?;
    rows(&body.derived.map(|derived| derived.lineage).unwrap_or_default())
}

fn rows(edges: &[Edge]) -> Result<RecordBatch> {
    let versions: Vec<_> = edges.iter().map(|edge| edge.source.version()).collect();
    let all = || edges.iter();
    let named = || versions.iter().map(Option::as_ref);
    let columns: Vec<ArrayRef> = vec![
        texts(all().map(|edge| Some(&edge.output))),
        // The set's request and the batch's query say how; by column it is told of reads alone.
        texts(all().map(|_| None::<String>)),
        texts(named().map(|version| version.map(|(project, ..)| project))),
        texts(named().map(|version| version.map(|(_, view, _)| view))),
        Arc::new(named().map(|version| version?.2).collect::<UInt32Array>()),
        texts(all().map(|edge| edge.source.version_id())),
        texts(all().map(|edge| edge.source.given())),
        texts(all().map(|edge| Some(edge.source.column()))),
        texts(all().map(|edge| Some(edge.kind.directness()))),
        texts(all().map(|edge| Some(edge.kind.as_str()))),
    ];
    Ok(RecordBatch::try_new(Arc::new(Schema::new(of_edge())), columns)?)
}

fn texts<T: ToString>(values: impl Iterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.map(|value| value.map(|value| value.to_string())).collect::<StringArray>())
}
