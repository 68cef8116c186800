//! Rejected rows that were mended and come in after all: which they are, and that each is mended once.
//!
//! `quarantine/{batch}/mended.parquet` lists them: one row for each, by the name of its source and its number there. What is rejected again
//! is listed too: it is a rejected row of the new batch from there on, and of the old one no more.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray, UInt64Array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, UInt64Type};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use feature::{BatchId, Sequence};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use super::{Rows, read_quarantine};
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::records::{Object, RowsMended};
use crate::state::{State, ViewVersion};

/// Columns that say which rejected row a mended one was, as an export of them has it.
pub const ORIGIN: &str = "rejected_origin";
pub const ROW: &str = "rejected_row";
/// What was wrong with it, in words; not read again.
pub const FOR: &str = "rejected_for";

/// A rejected row: the name of its source, and its number there.
pub type Rejected = (String, u64);

/// A rejected row that a later batch took over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenOver {
    pub row: Rejected,
    /// Whether it was rejected again.
    pub again: bool,
}

/// Rows that are offered for rejected ones of a batch.
pub struct Mends {
    pub of: BatchId,
    /// Which batches took over rows of it before, and whether they have them still.
    before: Vec<(BatchId, bool)>,
    /// Of each input, in its order, which rejected row each row was.
    rows: Vec<Vec<Rejected>>,
}

impl Mends {
    /// All of them; those that were rejected again are told by input and number.
    pub fn taken_over(&self, rejected: &HashSet<(usize, u64)>) -> Vec<TakenOver> {
        let rows = self.rows.iter().enumerate();
        let numbered =
            rows.flat_map(|(input, rows)| (0u64..).zip(rows).map(move |(row, of)| ((input, row), of)));
        numbered.map(|(place, of)| TakenOver { row: of.clone(), again: rejected.contains(&place) }).collect()
    }

    /// Whether what was decided still holds.
    ///
    /// # Errors
    /// `Contended` where others mended rows of the batch since, or what they had mended came back or went.
    pub fn still_hold(&self, state: &State) -> Result<()> {
        if state.mendings(self.of, state.head.sequence) == self.before {
            return Ok(());
        }
        Err(Error::Contended(format!(
            "others mended rows of batch {} meanwhile; nothing was ingested: export what is left, and try again",
            self.of
        )))
    }
}

/// Ties a batch that is about to be written to the one that had rejected its rows.
pub(super) async fn tie(
    catalog: &Catalog,
    batch: BatchId,
    of: BatchId,
    rows: &[TakenOver],
) -> Result<RowsMended> {
    let list =
        encode(rows).map_err(|error| Error::internal("the list of mended rows cannot be written", error))?;
    let mended = catalog.put_object(format!("quarantine/{batch}/mended.parquet"), list).await?;
    let again = rows.iter().filter(|row| row.again).count() as u64;
    Ok(RowsMended { batch, of, rows: rows.len() as u64, again: (again > 0).then_some(again), mended })
}

/// The rows without what says which rejected ones they were: that is no part of what their source has.
pub(super) fn without_marks(inputs: Vec<Rows>) -> Result<Vec<Rows>> {
    let failed = |error: ArrowError| Error::internal("leaving out which rejected rows these were", error);
    let bare = |rows: Rows| -> Result<Rows> {
        let fields = rows.schema.fields().iter().enumerate();
        let kept = fields.filter(|(_, field)| ![ORIGIN, ROW, FOR].contains(&field.name().as_str()));
        let kept: Vec<usize> = kept.map(|(place, _)| place).collect();
        let schema = Arc::new(rows.schema.project(&kept).map_err(failed)?);
        let batches = rows.batches.iter().map(|batch| batch.project(&kept));
        let batches = batches.collect::<Result<Vec<RecordBatch>, ArrowError>>().map_err(failed)?;
        Ok(Rows { origin: rows.origin, schema, batches, file: rows.file })
    };
    inputs.into_iter().map(bare).collect()
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

/// Rejected rows of a batch that others have at a sequence, mended or rejected again. What was mended by a batch that was dropped or is
/// withdrawn is to be mended anew.
///
/// # Errors
/// `Storage` for a list that is gone or was altered.
pub async fn mended(
    catalog: &Catalog,
    state: &State,
    batch: BatchId,
    at: Sequence,
) -> Result<Vec<(Rejected, BatchId)>> {
    let mut all = Vec::new();
    for (mending, (by, has_rows)) in state.mended().of(batch).zip(state.mendings(batch, at)) {
        let object = &mending.record.mended;
        let rows = decode(catalog.object(object).await?)
            .map_err(|error| storage::Error::corrupt(&object.path, error.to_string()))?;
        let theirs = rows.into_iter().filter(|row| row.again || has_rows);
        all.extend(theirs.map(|row| (row.row, by)));
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
    let head = state.head.sequence;
    let before = state.mendings(of, head);
    let bytes = catalog.object(&object).await?;
    let known = known(bytes).map_err(|error| storage::Error::corrupt(&object.path, error.to_string()))?;
    let mut taken: HashSet<Rejected> =
        mended(catalog, state, of, head).await?.into_iter().map(|(row, _)| row).collect();
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
fn encode(rows: &[TakenOver]) -> Result<Bytes, ParquetError> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("origin", DataType::Utf8, false),
        Field::new("row", DataType::UInt64, false),
        Field::new("again", DataType::Boolean, false),
    ]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.row.0.as_str()))),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.row.1))),
        Arc::new(rows.iter().map(|row| Some(row.again)).collect::<BooleanArray>()),
    ];
    let batch = RecordBatch::try_new(schema.clone(), columns)?;
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(bytes.into())
}

/// Reads such a list back.
fn decode(bytes: Bytes) -> Result<Vec<TakenOver>, ParquetError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()?;
    let mut all = Vec::new();
    for batch in reader {
        let batch = batch?;
        let marked = batch.column_by_name("again").and_then(|column| column.as_boolean_opt());
        let again = |row: usize| marked.is_some_and(|marked| marked.is_valid(row) && marked.value(row));
        let rows = pairs(&batch, "origin", "row").into_iter().enumerate();
        all.extend(rows.map(|(place, row)| TakenOver { row, again: again(place) }));
    }
    Ok(all)
}
