//! Rejected rows that were mended and come in after all: which they are, and that each is mended once.
//!
//! `quarantine/{batch}/mended.parquet` lists them: one row for each, by the name of its source and its number there.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray, UInt64Array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, UInt64Type};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use feature::BatchId;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use super::{Rows, read_quarantine};
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::records::Object;
use crate::state::{State, ViewVersion};

/// Columns that say which rejected row a mended one was, as an export of them has it.
pub const ORIGIN: &str = "rejected_origin";
pub const ROW: &str = "rejected_row";
/// What was wrong with it, in words; not read again.
pub const FOR: &str = "rejected_for";

/// A rejected row: the name of its source, and its number there.
pub type Rejected = (String, u64);

/// Rows that are offered for rejected ones of a batch.
pub struct Mends {
    pub of: BatchId,
    /// How often rows of it were mended before.
    pub before: usize,
    /// Of each input, in its order, which rejected row each row was.
    rows: Vec<Vec<Rejected>>,
}

impl Mends {
    /// Those whose rows were not rejected again, which are told by input and number.
    pub fn accepted(&self, rejected: &HashSet<(usize, u64)>) -> Vec<&Rejected> {
        let rows = self.rows.iter().enumerate();
        let numbered =
            rows.flat_map(|(input, rows)| (0u64..).zip(rows).map(move |(row, of)| ((input, row), of)));
        numbered.filter(|(place, _)| !rejected.contains(place)).map(|(_, of)| of).collect()
    }
}

/// Where the rejected rows of a batch lie.
///
/// # Errors
/// `NotFound` for a batch that is not there, or of which no row was rejected.
pub fn rejected_rows(state: &State, batch: BatchId) -> Result<(feature::VersionId, Object)> {
    let held = state.quarantine().of(batch).map(|held| &held.batch);
    if let Some(found) = state.batch(batch).or(held) {
        return match &found.record.quarantine {
            Some(object) => Ok((found.record.version, object.clone())),
            None => Err(Error::NotFound(format!("no row of batch {batch} was rejected"))),
        };
    }
    let refused = state.refused().iter().rev().find(|refused| refused.record.batch == batch);
    let refused = refused.ok_or_else(|| {
        Error::NotFound(format!(
            "there is no batch {batch}; `SELECT DISTINCT batch FROM lineament.rejected_rows` lists those with rejected rows"
        ))
    })?;
    Ok((refused.record.version, refused.record.quarantine.clone()))
}

/// Rejected rows of a batch that were mended, with the batches that have them.
///
/// # Errors
/// `Storage` for a list that is gone or was altered.
pub async fn mended(catalog: &Catalog, state: &State, batch: BatchId) -> Result<Vec<(Rejected, BatchId)>> {
    let mut all = Vec::new();
    for mending in state.mended().of(batch) {
        let object = &mending.record.mended;
        let rows = decode(catalog.object(object).await?)
            .map_err(|error| storage::Error::corrupt(&object.path, error.to_string()))?;
        all.extend(rows.into_iter().map(|row| (row, mending.record.batch)));
    }
    Ok(all)
}

/// Which rejected rows are offered.
///
/// # Errors
/// `Invalid` where the rows do not say which they were, for a row that was not rejected, was mended before or is offered twice, and for a
/// batch of another view.
pub(super) async fn verify(
    catalog: &Catalog,
    state: &State,
    version: &ViewVersion,
    of: BatchId,
    inputs: &[Rows],
) -> Result<Mends> {
    let (written, object) = rejected_rows(state, of)?;
    if state.view_version(written).is_none_or(|written| written.view != version.view) {
        return Err(Error::Invalid(format!("batch {of} is not of `{}`", version.definition.name)));
    }
    let before = state.mended().of(of).count();
    let bytes = catalog.object(&object).await?;
    let known = known(bytes).map_err(|error| storage::Error::corrupt(&object.path, error.to_string()))?;
    let mut taken: HashSet<Rejected> =
        mended(catalog, state, of).await?.into_iter().map(|(row, _)| row).collect();
    let mended_before = taken.len();
    let mut rows = Vec::with_capacity(inputs.len());
    for input in inputs {
        let offered = which(input)?;
        for row in &offered {
            let told = format!("{}, row {} of `{}`", input.origin, row.1, row.0);
            if !known.contains(row) {
                return Err(Error::Invalid(format!("{told} is no rejected row of that batch")));
            }
            if !taken.insert(row.clone()) {
                return Err(Error::Invalid(match mended_before {
                    0 => format!("{told} is there twice; a rejected row is mended once"),
                    _ => format!(
                        "{told} was mended before, or is there twice; `mended_by` in lineament.rejected_rows says by which batch"
                    ),
                }));
            }
        }
        rows.push(offered);
    }
    Ok(Mends { of, before, rows })
}

fn known(bytes: Bytes) -> Result<HashSet<Rejected>, ParquetError> {
    let mut known = HashSet::new();
    for batch in read_quarantine(bytes)? {
        known.extend(pairs(&batch, "origin", "row"));
    }
    Ok(known)
}

fn pairs(batch: &RecordBatch, origin: &str, row: &str) -> Vec<Rejected> {
    let origins = batch.column_by_name(origin).and_then(|column| column.as_string_opt::<i32>());
    let rows = batch.column_by_name(row).and_then(|column| column.as_primitive_opt::<UInt64Type>());
    let (Some(origins), Some(rows)) = (origins, rows) else { return Vec::new() };
    origins.iter().zip(rows).filter_map(|(origin, row)| Some((origin?.to_owned(), row?))).collect()
}

/// Which rejected rows those of an input were, by its columns.
fn which(input: &Rows) -> Result<Vec<Rejected>> {
    let wrong = |why: String| {
        Error::Invalid(format!(
            "{}: {why}; a mended row says by the columns {ORIGIN} and {ROW} which rejected row it was, as \
             `lineament quarantine export` writes them: keep them as they are",
            input.origin
        ))
    };
    let mut all = Vec::new();
    for batch in &input.batches {
        let column = |name: &str, data_type: &DataType| -> Result<ArrayRef> {
            let column =
                batch.column_by_name(name).ok_or_else(|| wrong(format!("it has no column {name}")))?;
            let strict = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(column, data_type, &strict)
                .map_err(|error| wrong(format!("its column {name} cannot be read: {error}")))
        };
        let named = RecordBatch::try_from_iter([
            (ORIGIN, column(ORIGIN, &DataType::Utf8)?),
            (ROW, column(ROW, &DataType::UInt64)?),
        ]);
        let named = named.map_err(|error| wrong(error.to_string()))?;
        let found = pairs(&named, ORIGIN, ROW);
        if found.len() != batch.num_rows() {
            return Err(wrong(format!("some of its rows have no {ORIGIN} or no {ROW}")));
        }
        all.extend(found);
    }
    Ok(all)
}

/// The list of mended rows as it is stored.
pub(super) fn encode(rows: &[&Rejected]) -> Result<Bytes, ParquetError> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("origin", DataType::Utf8, false),
        Field::new("row", DataType::UInt64, false),
    ]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(origin, _)| origin))),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|(_, row)| *row))),
    ];
    let batch = RecordBatch::try_new(schema.clone(), columns)?;
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(bytes.into())
}

/// Reads such a list back.
pub fn decode(bytes: Bytes) -> Result<Vec<Rejected>, ParquetError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()?;
    let mut all = Vec::new();
    for batch in reader {
        all.extend(pairs(&batch?, "origin", "row"));
    }
    Ok(all)
}
