//! A file that is merged: read from end to end, checked, and given the columns of what it becomes a part of.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, RecordBatch, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use bytes::Bytes;
use feature::digest::hash;
use feature::{FeatureType, Id};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use storage::manifest::DataFile;
use storage::partition::BATCH;

use crate::catalog::Catalog;
use crate::error::Result;
use crate::state::ViewVersion;
use crate::visible_file::{FileBatches, VisibleFile};

const KNOWN_AT: &str = "known_at";
const RETRACTED: &str = "_retracted";
/// Columns that a batch may do without; other files have them, and say the same by them.
const OPTIONAL: [&str; 3] = [KNOWN_AT, RETRACTED, BATCH];

/// The columns that files which are merged must have in common, in their order.
pub(super) fn common_columns(file: &DataFile) -> Vec<String> {
    let names = file.statistics.iter().map(|column| column.column.clone());
    names.filter(|name| !OPTIONAL.contains(&name.as_str())).collect()
}

/// The columns of the files that these become.
pub(super) fn schema(version: &ViewVersion, files: &[VisibleFile]) -> SchemaRef {
    let common = files.first().map(|visible| common_columns(&visible.file)).unwrap_or_default();
    let has = |name: &str| files.iter().any(|visible| visible.file.column(name).is_some());
    let known = files.iter().filter_map(|visible| visible.file.column(KNOWN_AT).map(|column| column.nulls));
    let all_known = known.clone().count() == files.len() && known.sum::<u64>() == 0;
    let mut fields = Vec::with_capacity(common.len() + OPTIONAL.len());
    for name in &common {
        let kind = type_of(version, name);
        let required = name == "valid_at" || version.keys().iter().any(|key| key.name.as_str() == name);
        fields.push(Field::new(name, kind, !required));
        if name == "valid_at" && has(KNOWN_AT) {
            fields.push(Field::new(KNOWN_AT, FeatureType::Timestamp.arrow(), !all_known));
        }
    }
    if has(RETRACTED) {
        fields.push(Field::new(RETRACTED, DataType::Boolean, false));
    }
    fields.push(Field::new(BATCH, DataType::FixedSizeBinary(16), false));
    Arc::new(Schema::new(fields))
}

fn type_of(version: &ViewVersion, name: &str) -> DataType {
    let view = &version.definition;
    let key = version.keys().iter().find(|key| key.name.as_str() == name).map(|key| key.data_type);
    let occurrence = view.occurrence.as_ref().filter(|of| of.name.as_str() == name).map(|of| of.data_type);
    let feature = view.features.iter().find(|of| of.name.as_str() == name).map(|of| of.data_type);
    key.or(occurrence).or(feature).unwrap_or(FeatureType::Timestamp).arrow()
}

/// Rows of a file with the columns of [`schema`], and when each was known.
#[derive(Clone)]
pub(super) struct Rows {
    pub rows: RecordBatch,
    pub known: TimestampMicrosecondArray,
}

/// Reads a whole file, and compares it with its manifest.
///
/// # Errors
/// `Corrupt` where it is not what was written.
pub(crate) async fn read(catalog: &Catalog, file: &DataFile) -> Result<RecordBatch> {
    let objects = catalog.store().objects();
    let bytes = objects.get(&Path::from(file.path.as_str())).await.map_err(storage::Error::from)?;
    let bytes = bytes.bytes().await.map_err(storage::Error::from)?;
    if hash(file.digest.algorithm(), &bytes) != file.digest {
        let why = "its bytes do not give the digest in its manifest; it was changed after it was written: restore it \
                   from a copy of the store";
        return Err(storage::Error::corrupt(&file.path, why).into());
    }
    decode(&file.path, bytes).await
}

/// The rows of a file's bytes.
pub(super) async fn decode(path: &str, bytes: Bytes) -> Result<RecordBatch> {
    let decoded = tokio::task::spawn_blocking(move || -> Result<RecordBatch, String> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| error.to_string())?;
        let schema = reader.schema().clone();
        let rows = usize::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0).max(1);
        let reader = reader.with_batch_size(rows).build().map_err(|error| error.to_string())?;
        let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        concat_batches(&schema, &batches).map_err(|error| error.to_string())
    });
    // The Parquet reader panics on some damaged pages.
    let decoded = decoded.await.map_err(|error| error.to_string()).and_then(|decoded| decoded);
    Ok(decoded.map_err(|why| storage::Error::corrupt(path, format!("it cannot be read ({why})")))?)
}

/// Gives a file's rows the columns of what it is merged into.
///
/// # Errors
/// `Corrupt` where the file has not the columns that its manifest says.
pub(super) fn arranged(visible: &VisibleFile, stored: &RecordBatch, schema: &SchemaRef) -> Result<Rows> {
    let corrupt = |why: String| storage::Error::corrupt(&visible.file.path, why);
    let rows = stored.num_rows();
    let batches = batches(visible, stored)?;
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let column: ArrayRef = match (field.name().as_str(), stored.column_by_name(field.name())) {
            (BATCH, _) => batches.clone(),
            (_, Some(column)) => {
                cast(column, field.data_type()).map_err(|error| corrupt(error.to_string()))?
            }
            (RETRACTED, None) => Arc::new(BooleanArray::from(vec![false; rows])),
            (KNOWN_AT, None) => new_null_array(field.data_type(), rows),
            (name, None) => return Err(corrupt(format!("it has no column `{name}`")).into()),
        };
        columns.push(column);
    }
    let arranged =
        RecordBatch::try_new(schema.clone(), columns).map_err(|error| corrupt(error.to_string()))?;
    let known = known(visible, &arranged)?;
    Ok(Rows { rows: arranged, known })
}

fn batches(visible: &VisibleFile, stored: &RecordBatch) -> Result<ArrayRef> {
    match &visible.batches {
        FileBatches::One(batch) => {
            let bytes = batch.record.batch.uuid().as_bytes().repeat(stored.num_rows());
            Ok(Arc::new(FixedSizeBinaryArray::new(16, bytes.into(), None)))
        }
        FileBatches::Several(_) => match stored.column_by_name(BATCH) {
            Some(column)
                if *column.data_type() == DataType::FixedSizeBinary(16) && column.null_count() == 0 =>
            {
                Ok(column.clone())
            }
            _ => {
                Err(storage::Error::corrupt(&visible.file.path, format!("it has no column `{BATCH}`")).into())
            }
        },
    }
}

/// When each row was known; by arrival, where it does not say.
fn known(visible: &VisibleFile, rows: &RecordBatch) -> Result<TimestampMicrosecondArray> {
    let corrupt = |why: &str| storage::Error::corrupt(&visible.file.path, why);
    let stored = rows.column_by_name(KNOWN_AT);
    let stored = stored.and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    if let Some(stored) = stored.filter(|stored| stored.null_count() == 0) {
        return Ok(stored.clone());
    }
    let batches = rows.column_by_name(BATCH).and_then(|column| column.as_fixed_size_binary_opt());
    let batches = batches.ok_or_else(|| corrupt("it does not say which batches its rows are of"))?;
    let arrival = |row: usize| match &visible.batches {
        FileBatches::One(batch) => Some(batch.by.committed_at.micros()),
        FileBatches::Several(several) => {
            let batch = visible.batches().get(several.place(batches.value(row))? as usize)?;
            Some(batch.by.committed_at.micros())
        }
    };
    let mut known = Vec::with_capacity(rows.num_rows());
    for row in 0..rows.num_rows() {
        let time = match stored.filter(|stored| stored.is_valid(row)) {
            Some(stored) => Some(stored.value(row)),
            None => arrival(row),
        };
        known.push(time.ok_or_else(|| corrupt("it has rows of a batch that its manifest does not name"))?);
    }
    Ok(TimestampMicrosecondArray::from(known).with_timezone("UTC"))
}
