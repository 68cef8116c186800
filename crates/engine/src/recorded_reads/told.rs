//! Edges of reads in the columns of `lineament.column_edges`, which names a version by its project, view and number.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, new_null_array};
use datafusion::common::Result;
use feature::name::split_project;

use crate::system::column_edges;

/// Edges with the fields that a file of reads has.
pub fn edges(of_reads: &RecordBatch) -> Result<RecordBatch> {
    let named = of_reads.column_by_name("feature_view").and_then(|views| views.as_string_opt::<i32>());
    let views = || named.into_iter().flatten().map(|name| name.map(split_project));
    let schema = column_edges::schema();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let kept = |name: &str| of_reads.column_by_name(name).cloned();
        let column = match field.name().as_str() {
            "subject" => kept("read"),
            "snapshot" => kept("sequence"),
            "project" => Some(texts(views().map(|view| view.map(|(project, _)| project)))),
            "feature_view" => Some(texts(views().map(|view| view.map(|(_, view)| view)))),
            name => kept(name),
        };
        columns.push(column.unwrap_or_else(|| new_null_array(field.data_type(), of_reads.num_rows())));
    }
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}
