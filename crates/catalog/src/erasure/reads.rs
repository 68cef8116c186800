//! What reads were recorded with: statements, parameters and filters in which a key stands.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use feature::BodyId;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use storage::environment;

use super::key::{EntityKey, TypedKey};
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::recorded_reads::{self, LINEAGE};
use crate::records::{Replaced, Replacement};
use crate::state::State;

/// Columns in which people's own words stand.
const WORDS: [&str; 5] = ["sql", "error", "parameters", "filters", LINEAGE];

/// The recorded reads that speak of a key, written anew without their words; how many they are. With `writes` false nothing is written.
///
/// # Errors
/// Those of the storage; `Corrupt` where an object cannot be read.
pub async fn recorded_reads(
    catalog: &Catalog,
    state: &State,
    key: &EntityKey,
    typed: &TypedKey,
    writes: bool,
) -> Result<(Vec<Replaced>, u64)> {
    let (mut replaced, mut found) = (Vec::new(), 0);
    for reads in state.reads() {
        let object = state.erasures().in_force(&reads.record.object);
        let bytes = catalog.object(object).await?;
        let Some((bytes, of_key)) = without(bytes, key, typed, &object.path)? else { continue };
        found += of_key;
        if writes {
            let path = format!("reads/{}.parquet", environment::mint::<BodyId>());
            let after = catalog.put_object(path, bytes).await?;
            let of = Replacement::Reads { reads: reads.record.reads };
            replaced.push(Replaced { before: object.path.clone(), after, of });
        }
    }
    Ok((replaced, found))
}

fn without(bytes: Bytes, key: &EntityKey, typed: &TypedKey, path: &str) -> Result<Option<(Bytes, u64)>> {
    let corrupt = |why: String| storage::Error::corrupt(path, why);
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| corrupt(error.to_string()))?;
    let schema = builder.schema().clone();
    let reader = builder.build().map_err(|error| corrupt(error.to_string()))?;
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|error| corrupt(error.to_string()))?;
    let all = concat_batches(&schema, &batches).map_err(|error| corrupt(error.to_string()))?;
    let mut kept: Vec<Option<u32>> = Vec::with_capacity(all.num_rows());
    for row in 0..all.num_rows() {
        let words = words_of(&all, row).map_err(|error| corrupt(error.to_string()))?;
        kept.push((!key.is_in(&words, typed)).then_some(row as u32));
    }
    let of_key = kept.iter().filter(|row| row.is_none()).count() as u64;
    if of_key == 0 {
        return Ok(None);
    }
    let kept = UInt32Array::from(kept);
    let wrong = |error: arrow::error::ArrowError| Error::internal("reads cannot be written", error);
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(all.num_columns());
    for (field, column) in schema.fields().iter().zip(all.columns()) {
        columns.push(match WORDS.contains(&field.name().as_str()) {
            true => take(column, &kept, None).map_err(wrong)?,
            false => column.clone(),
        });
    }
    let all = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(wrong)?;
    let bytes = recorded_reads::encode(&all);
    let bytes = bytes.map_err(|error| Error::internal("reads cannot be written", error))?;
    Ok(Some((bytes, of_key)))
}

/// All words of a read, one after the other.
fn words_of(reads: &RecordBatch, row: usize) -> Result<String, arrow::error::ArrowError> {
    let options = FormatOptions::default();
    let mut words = String::new();
    for column in WORDS.iter().filter_map(|name| reads.column_by_name(name)) {
        if column.is_valid(row) {
            let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
            words.push_str(&formatter.value(row).try_to_string()?);
            words.push('\n');
        }
    }
    Ok(words)
}
