//! The columns of recorded training sets, as their manifests have them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::RecordBatch;
use catalog::records::Object;
use catalog::state::TrainingSet;
use datafusion::catalog::TableProvider;
use datafusion::common::Result;
use feature::with_null_reason;
use serde::Deserialize;

use super::Columns;
use super::by_object::{self, Listed, parsed};
use crate::access::Sights;
use crate::snapshot::Snapshot;

/// The part of a manifest that is read here; `lineage` has it whole.
#[derive(Deserialize)]
struct Manifest {
    columns: Vec<Column>,
    references: Vec<Reference>,
    #[serde(default)]
    null_reasons: bool,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    data_type: String,
    digest: String,
}

#[derive(Deserialize)]
struct Reference {
    asked: String,
    resolved: String,
    feature: String,
    output: String,
    nulls: BTreeMap<String, u64>,
    defaulted: u64,
}

/// Which sets an asker is told what lies in their manifests: those whose digests they are told.
pub fn told(snapshot: &Snapshot) -> Vec<&TrainingSet> {
    let sights = Sights::of_snapshot(snapshot);
    let by_then = snapshot.state.training_sets().filter(|set| set.by.sequence <= snapshot.sequence);
    by_then.filter(|set| sights.of_set(set)).collect()
}

/// One row a column.
pub fn table(snapshot: &Snapshot) -> Result<Arc<dyn TableProvider>> {
    let sets = told(snapshot);
    let known = Columns::default()
        .text("training_set", sets.iter().map(|set| Some(set.record.training_set)))
        .finish()?;
    let objects = sets.iter().map(|set| set.record.manifest.clone()).collect();
    let none = Manifest { columns: Vec::new(), references: Vec::new(), null_reasons: false };
    let listed = Listed { objects, known };
    by_object::table(snapshot, listed, &columns(&none)?.schema(), Arc::new(of_manifest))
}

fn of_manifest(object: &Object, bytes: &[u8]) -> Result<RecordBatch> {
    columns(&parsed(object, bytes)?)
}

/// What a column is, and the feature that it is of.
fn origin<'a>(
    column: &Column,
    features: &HashMap<&str, &'a Reference>,
    null_reasons: bool,
) -> (&'static str, Option<&'a Reference>) {
    if let Some(feature) = features.get(column.name.as_str()).copied() {
        return ("feature", Some(feature));
    }
    let beside = with_null_reason(&column.name).filter(|_| null_reasons);
    match beside.and_then(|output| features.get(output).copied()) {
        Some(feature) => ("null_reason", Some(feature)),
        None => ("spine", None),
    }
}

fn columns(manifest: &Manifest) -> Result<RecordBatch> {
    let references = manifest.references.iter();
    let features: HashMap<&str, &Reference> =
        references.map(|reference| (reference.output.as_str(), reference)).collect();
    let rows: Vec<(&Column, &'static str, Option<&Reference>)> = manifest
        .columns
        .iter()
        .map(|column| {
            let (kind, reference) = origin(column, &features, manifest.null_reasons);
            (column, kind, reference)
        })
        .collect();
    let all = || rows.iter();
    let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    let version = |reference: &Reference| {
        let label = reference.resolved.rsplit_once('.').map(|(label, _)| label.to_owned());
        label.unwrap_or_default()
    };
    // Why it is null and how often is said of the feature, and not of the column that says so row by row.
    let values = || all().map(|(_, kind, reference)| reference.filter(|_| *kind == "feature"));
    let nulls = |reference: &Reference| reference.nulls.values().sum::<u64>();
    let reasons = |reference: &Reference| {
        let reasons: Vec<String> =
            reference.nulls.iter().map(|(reason, cells)| format!("{reason} {cells}")).collect();
        (!reasons.is_empty()).then(|| reasons.join(", "))
    };
    Columns::default()
        .small("position", 1..=count)
        .text("name", all().map(|(column, ..)| Some(&column.name)))
        .text("type", all().map(|(column, ..)| Some(&column.data_type)))
        .text("kind", all().map(|(_, kind, _)| Some(*kind)))
        .text("reference", all().map(|(.., reference)| reference.map(|of| &of.asked)))
        .text("view_version", all().map(|(.., reference)| reference.map(version)))
        .text("feature", all().map(|(.., reference)| reference.map(|of| &of.feature)))
        .told("null_cells", values().map(|of| of.map(nulls)))
        .text("null_reasons", values().map(|of| of.and_then(reasons)))
        .told("defaulted", values().map(|of| of.map(|of| of.defaulted)))
        .text("digest", all().map(|(column, ..)| Some(&column.digest)))
        .finish()
}
