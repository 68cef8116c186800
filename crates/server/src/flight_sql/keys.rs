//! Keys of tables. What tells an observation of a feature view from another is its primary key: the entity's keys, `valid_at`, and the
//! occurrence column where there is one. There are no foreign keys: an entity is no table.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::sql::CommandGetPrimaryKeys;
use serving::Serving;
use tonic::Status;

use super::metadata::{CATALOG, DEFAULT_SCHEMA, SYSTEM_SCHEMA};
use crate::status;

fn text(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

pub fn primary_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("catalog_name", true),
        text("db_schema_name", true),
        text("table_name", false),
        text("column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("key_name", true),
    ]))
}

/// Of exported and imported keys, and of cross references.
pub fn foreign_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
}

/// Always without rows.
pub fn foreign() -> RecordBatch {
    RecordBatch::new_empty(foreign_schema())
}

/// The primary key of a table; no rows for a system view.
///
/// # Errors
/// A table that is not there.
pub async fn primary(wanted: &CommandGetPrimaryKeys, serving: &Serving) -> Result<RecordBatch, Status> {
    let project = wanted.db_schema.as_deref().filter(|schema| !schema.is_empty()).unwrap_or(DEFAULT_SCHEMA);
    let elsewhere =
        wanted.catalog.as_deref().is_some_and(|catalog| !catalog.is_empty() && catalog != CATALOG);
    if project == SYSTEM_SCHEMA || elsewhere {
        return Ok(RecordBatch::new_empty(primary_schema()));
    }
    let (view, number) = match wanted.table.rsplit_once('@') {
        Some((view, number)) => (view, number.parse().ok()),
        None => (wanted.table.as_str(), None),
    };
    // Names of columns are no secret, whoever asks.
    let session = serving.session(&catalog::Author::default()).await.map_err(|error| status::of(&error))?;
    let version =
        session.snapshot().version(project, view, number).map_err(|error| status::of(&error.into()))?;
    let mut columns: Vec<String> = version.keys().iter().map(|key| key.name.to_string()).collect();
    columns.push("valid_at".to_owned());
    columns.extend(version.definition.occurrence.iter().map(|occurrence| occurrence.name.to_string()));
    let rows = columns.len();
    let same = |value: &str| -> ArrayRef { Arc::new(StringArray::from(vec![value; rows])) };
    let key_name = format!("{view}_pk");
    let arrays: Vec<ArrayRef> = vec![
        same(CATALOG),
        same(project),
        same(&wanted.table),
        Arc::new(StringArray::from(columns)),
        Arc::new(Int32Array::from_iter_values((1..).take(rows))),
        same(&key_name),
    ];
    RecordBatch::try_new(primary_schema(), arrays).map_err(|error| status::encoding(&error))
}
