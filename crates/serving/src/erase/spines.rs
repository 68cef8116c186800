//! Spines with rows of a key, and what is left of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{or, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use catalog::State;
use catalog::erasure::TypedKey;
use catalog::records::Object;
use engine::spines::StoredSpine;
use feature::SpineId;
use feature::digest::BLOCK_ROWS;
use lineage::manifest::SpineManifest;
use storage::environment;

use crate::erased_rows::MARK;
use crate::error::{Error, Kind, Result};
use crate::historical::encode_spine;
use crate::retrieve::Serving;

/// Which rows of a spine are of the key.
pub(super) struct OfKey {
    pub rows: u64,
    /// Blocks of 65,536 rows that have one.
    pub blocks: BTreeSet<u64>,
}

impl Serving {
    /// Opens the spine of an object that a manifest or an entry names; none where it was swept.
    pub(super) async fn open_spine(&self, object: &Object) -> Result<Option<StoredSpine>> {
        let environment = self.engine.environment()?;
        Ok(StoredSpine::open_if_there(self.catalog(), object, &environment).await?)
    }

    /// Spines that were put up by themselves and have rows of the key, by their paths.
    pub(super) async fn kept_spines_of(&self, state: &State, key: &TypedKey) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for kept in state.spines().all() {
            let object = &kept.record.object;
            if state.erasures().took(&object.path) {
                continue;
            }
            let Some(spine) = self.open_spine(object).await? else { continue };
            if rows_of(&spine, key).await?.is_some() {
                found.push(object.path.clone());
            }
        }
        Ok(found)
    }

    /// Writes a spine anew: rows of the key are null in all columns, and marked.
    pub(super) async fn write_without(
        &self,
        spine: &StoredSpine,
        key: &TypedKey,
        before: &SpineManifest,
    ) -> Result<SpineManifest> {
        let schema = marked_schema(spine.schema());
        let mut batches = Vec::new();
        let mut from = 0;
        while from < spine.rows() {
            let until = spine.rows().min(from + BLOCK_ROWS as u64);
            for batch in spine.read(from..until, BLOCK_ROWS).await? {
                batches.push(without(&batch, key, &schema)?);
            }
            from = until;
        }
        let algorithm = self.catalog().state().hash;
        let encoded = tokio::task::spawn_blocking(move || encode_spine(schema, &batches, algorithm));
        let encoded = encoded.await.map_err(|error| Error::internal("writing the spine stopped", error))?;
        let (bytes, digest) = encoded?;
        let id: SpineId = environment::mint();
        let object = self.catalog().put_object(format!("spines/{id}.parquet"), bytes.into()).await?;
        Ok(SpineManifest { object, digest, ..before.clone() })
    }
}

/// The rows of the key; none where the spine has none.
pub(super) async fn rows_of(spine: &StoredSpine, key: &TypedKey) -> Result<Option<OfKey>> {
    let empty = RecordBatch::new_empty(spine.schema().clone());
    if key.rows_in(&empty)?.is_none() {
        return Ok(None);
    }
    let mut found = OfKey { rows: 0, blocks: BTreeSet::new() };
    let mut from = 0;
    while from < spine.rows() {
        let until = spine.rows().min(from + BLOCK_ROWS as u64);
        for batch in spine.read(from..until, BLOCK_ROWS).await? {
            let Some(of_key) = key.rows_in(&batch)? else { return Ok(None) };
            let rows = of_key.true_count() as u64;
            found.rows += rows;
            if rows > 0 {
                found.blocks.insert(from / BLOCK_ROWS as u64);
            }
        }
        from = until;
    }
    Ok((found.rows > 0).then_some(found))
}

/// The columns of a spine, all of which may be null, and the mark.
fn marked_schema(schema: &SchemaRef) -> SchemaRef {
    let own = schema.fields().iter().filter(|field| field.name() != MARK);
    let mut fields: Vec<Field> = own.map(|field| Field::clone(field).with_nullable(true)).collect();
    fields.push(Field::new(MARK, DataType::Boolean, false));
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn without(batch: &RecordBatch, key: &TypedKey, schema: &SchemaRef) -> Result<RecordBatch> {
    let wrong = |error: arrow::error::ArrowError| Error::internal("rows of a spine cannot be erased", error);
    let none = || BooleanArray::from(vec![false; batch.num_rows()]);
    let mut erased = key.rows_in(batch)?.unwrap_or_else(none);
    // Of an earlier erasure.
    if let Some(before) = batch.column_by_name(MARK) {
        let before = before.as_boolean_opt().ok_or_else(|| {
            Error::new(
                Kind::Invalid,
                format!("a spine has a column `{MARK}` of its own; it cannot be erased from"),
            )
        })?;
        erased = or(&erased, before).map_err(wrong)?;
    }
    let kept: UInt32Array = (0..)
        .zip(erased.values().iter())
        .map(|(row, erased): (u32, bool)| (!erased).then_some(row))
        .collect();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields().iter().filter(|field| field.name() != MARK) {
        let column = batch.column_by_name(field.name());
        let column = column.ok_or_else(|| Error::internal("a spine cannot be written", field.name()))?;
        columns.push(take(column, &kept, None).map_err(wrong)?);
    }
    columns.push(Arc::new(erased));
    RecordBatch::try_new(schema.clone(), columns).map_err(wrong)
}
