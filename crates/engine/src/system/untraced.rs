//! Batches of derived views whose columns nobody could trace to those that they were made of.

use std::sync::Arc;

use catalog::state::{Batch, ViewVersion};
use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result;

use super::Columns;
use crate::access::Sights;
use crate::snapshot::Snapshot;

/// A row a batch. What stood in the way was not recorded, and the query is told to those alone who see whole the view and what it is made of,
/// as a literal of it may be a value.
pub fn batches(snapshot: &Snapshot) -> Result<RecordBatch> {
    let state = &snapshot.state;
    let mut found = Vec::new();
    state.batch_origins(|origin| {
        if origin.sequence <= snapshot.sequence && origin.derivation.is_some_and(|made| !made.is_traced()) {
            found.push((origin.batch, origin.version));
        }
    });
    let rows: Vec<(&Arc<Batch>, &ViewVersion)> = found
        .into_iter()
        .filter_map(|(batch, version)| Some((state.batch(batch)?, state.view_version(version)?)))
        .collect();
    let all = || rows.iter();
    let sights = Sights::of_snapshot(snapshot);
    let query = |batch: &Batch, view: &ViewVersion| {
        let derived = view.definition.derived.as_ref().filter(|_| sights.of_batch(batch));
        derived.map(|derived| derived.sql.clone())
    };
    Columns::default()
        .text("batch", all().map(|(batch, _)| Some(batch.record.batch)))
        .text("view_version", all().map(|(_, view)| Some(view.label())))
        .text("node", all().map(|_| None::<String>))
        .time("committed_at", all().map(|(batch, _)| batch.by.committed_at.micros()))
        .text("principal", all().map(|(batch, _)| Some(&batch.by.principal)))
        .text("sql", all().map(|(batch, view)| query(batch, view)))
        .finish()
}
