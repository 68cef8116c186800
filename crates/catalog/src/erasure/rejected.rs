//! Rejected rows of a key: that they were rejected, and why, stays; what they were does not.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use serde_json::{Map, Value};

use super::key::{EntityKey, TypedKey};
use crate::error::{Error, Result};
use crate::ingest::quarantine;

/// What stands in the place of a text that is gone.
pub(super) const ERASED: &str = "(erased)";

/// A quarantine file without what it says of the rows of a key, and how many reasons are of such; none where none is.
///
/// # Errors
/// `Corrupt` where it cannot be read.
pub(super) fn without(
    bytes: Bytes,
    key: &EntityKey,
    typed: &TypedKey,
    path: &str,
) -> Result<Option<(Bytes, u64)>> {
    let corrupt = |why: String| storage::Error::corrupt(path, why);
    let mut reasons = 0;
    let mut batches = Vec::new();
    for batch in quarantine::read(bytes).map_err(|error| corrupt(error.to_string()))? {
        let rows = batch.column_by_name("source_row").and_then(|column| column.as_string_opt::<i32>());
        let rows = rows.ok_or_else(|| corrupt("it has no column `source_row`".to_owned()))?;
        let of_key: BooleanArray = rows.iter().map(|row| Some(is_of(row, key, typed))).collect();
        reasons += of_key.true_count() as u64;
        batches.push(blanked(&batch, &of_key)?);
    }
    if reasons == 0 {
        return Ok(None);
    }
    let written = || -> Result<Vec<u8>, parquet::errors::ParquetError> {
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, quarantine::schema(), None)?;
        for batch in &batches {
            writer.write(batch)?;
        }
        writer.close()?;
        Ok(bytes)
    };
    let bytes = written().map_err(|error| Error::internal("rejected rows cannot be written", error))?;
    Ok(Some((bytes.into(), reasons)))
}

fn is_of(row: Option<&str>, key: &EntityKey, typed: &TypedKey) -> bool {
    let row: Option<Map<String, Value>> = row.and_then(|row| serde_json::from_str(row).ok());
    row.is_some_and(|row| key.is_of(&row, typed))
}

fn blanked(batch: &RecordBatch, of_key: &BooleanArray) -> Result<RecordBatch> {
    let schema = quarantine::schema();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let column = batch.column_by_name(field.name());
        let column =
            column.ok_or_else(|| Error::internal("rejected rows", format!("no `{}`", field.name())))?;
        let blank = match field.name().as_str() {
            "value" => "",
            "message" => ERASED,
            "source_row" => "{}",
            _ => {
                columns.push(column.clone());
                continue;
            }
        };
        let texts = column.as_string::<i32>().iter().zip(of_key.values().iter());
        let texts: StringArray =
            texts.map(|(text, erased)| if erased { Some(blank) } else { text }).collect();
        columns.push(Arc::new(texts));
    }
    RecordBatch::try_new(schema, columns)
        .map_err(|error| Error::internal("rejected rows cannot be written", error))
}
