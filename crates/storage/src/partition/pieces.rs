//! Pieces within files of several batches: which rows are whose, and whether they are what was first written.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use arrow::row::SortField;
use feature::BatchId;
use feature::digest::{ContentDigest, HashAlgorithm, digest_batches};
use feature::key::bucket_of_rows;
use uuid::Uuid;

use super::encode::order;
use super::{BATCH, KNOWN_AT, RETRACTED, VALID_AT, invalid};
use crate::Result;
use crate::manifest::Piece;

/// Of each row of a file of several batches, which of these pieces it is of: by its batch, and where a batch has several, by its time and by the
/// bucket of its key. The first `keys` columns are the key.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid), naming `what`, if a row is of no piece.
pub fn piece_of_rows(rows: &RecordBatch, keys: usize, pieces: &[Piece], what: &str) -> Result<Vec<u32>> {
    let mut of_batches: HashMap<BatchId, Vec<usize>> = HashMap::new();
    for (place, piece) in pieces.iter().enumerate() {
        of_batches.entry(piece.batch).or_default().push(place);
    }
    let batches = rows
        .column_by_name(BATCH)
        .and_then(|column| column.as_fixed_size_binary_opt())
        .ok_or_else(|| invalid(what, format!("it has no column `{BATCH}`")))?;
    let times = rows
        .column_by_name(VALID_AT)
        .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
        .ok_or_else(|| invalid(what, "its `valid_at` cannot be read"))?;
    let several = of_batches.values().any(|places| places.len() > 1);
    let most = pieces.iter().map(|piece| piece.buckets).max().unwrap_or(1);
    let buckets = match several {
        true => {
            bucket_of_rows(&rows.columns()[..keys], most).map_err(|error| invalid(what, error.to_string()))?
        }
        false => Vec::new(),
    };
    let mut found = Vec::with_capacity(rows.num_rows());
    // Rows of one batch often lie together.
    let mut last: Option<(&[u8], &[usize])> = None;
    for row in 0..rows.num_rows() {
        let bytes = batches.value(row);
        let places = match last {
            Some((known, places)) if known == bytes => places,
            _ => {
                let id = Uuid::from_slice(bytes).ok().map(BatchId::from);
                let places = id.and_then(|id| of_batches.get(&id));
                places.ok_or_else(|| {
                    invalid(what, format!("its row {row} is of a batch that has no piece in it"))
                })?
            }
        };
        last = Some((bytes, places));
        let holds = |place: &usize| {
            let piece = &pieces[*place];
            let time = times.value(row);
            piece.from <= time
                && time < piece.until
                && buckets.get(row).is_none_or(|bucket| bucket / (most / piece.buckets) == piece.bucket)
        };
        let place = match places {
            [one] => Some(one),
            several => several.iter().find(|place| holds(place)),
        };
        let place =
            place.ok_or_else(|| invalid(what, format!("its row {row} is of no piece of its batch")))?;
        found.push(*place as u32);
    }
    Ok(found)
}

/// Whether rows, all those of a piece, are what was first written. They may come in any order of files, but as they stand in each.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid), naming `what`, for columns that have no digest.
pub fn reproduces(rows: &RecordBatch, keys: usize, piece: &Piece, what: &str) -> Result<bool> {
    let wrong = |error: ArrowError| invalid(what, error.to_string());
    let rows = as_written(rows, keys).map_err(wrong)?;
    let digest = |rows: &RecordBatch| {
        let content = digest_batches(piece.digest.algorithm(), rows.schema_ref(), [rows]);
        content.map(|content| content.digest).map_err(|error| invalid(what, error.to_string()))
    };
    if digest(&rows)? == piece.digest {
        return Ok(true);
    }
    // A batch without retractions had no column for them.
    let Ok(retracted) = rows.schema_ref().index_of(RETRACTED) else { return Ok(false) };
    let none = rows.column(retracted).as_boolean_opt().is_some_and(|bits| !bits.has_true());
    let mut without = rows.clone();
    without.remove_column(retracted);
    Ok(none && digest(&without)? == piece.digest)
}

/// The digest of rows, all those of a piece, by which [`reproduces`] finds them again.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid), naming `what`, for columns that have no digest.
pub fn digest_of_piece(
    rows: &RecordBatch,
    keys: usize,
    algorithm: HashAlgorithm,
    what: &str,
) -> Result<ContentDigest> {
    let rows = as_written(rows, keys).map_err(|error| invalid(what, error.to_string()))?;
    let content = digest_batches(algorithm, rows.schema_ref(), [&rows]);
    content.map(|content| content.digest).map_err(|error| invalid(what, error.to_string()))
}

/// The rows in the order and with the columns of the piece's first file, but for `_retracted`.
fn as_written(rows: &RecordBatch, keys: usize) -> Result<RecordBatch, ArrowError> {
    let mut rows = rows.clone();
    if let Ok(batch) = rows.schema_ref().index_of(BATCH) {
        rows.remove_column(batch);
    }
    if let Ok(known) = rows.schema_ref().index_of(KNOWN_AT)
        && rows.column(known).null_count() == rows.num_rows()
    {
        rows.remove_column(known);
    }
    let times = [VALID_AT, KNOWN_AT].into_iter().filter_map(|name| rows.column_by_name(name).cloned());
    let columns: Vec<ArrayRef> = rows.columns()[..keys].iter().cloned().chain(times).collect();
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let order = order(&columns, fields)?;
    match order.is_sorted() {
        true => Ok(rows),
        false => take_record_batch(&rows, &UInt32Array::from(order)),
    }
}
