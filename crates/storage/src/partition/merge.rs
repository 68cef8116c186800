//! Writing the rows of several batches as one file.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::row::SortField;
use bytes::Bytes;
use feature::digest::{HashAlgorithm, hash};
use feature::{FileId, ViewId};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::encode::{blocks, key_hashes, order, parquet, path, statistics};
use super::layout::Layout;
use super::places::Place;
use super::{BATCH, KNOWN_AT, VALID_AT, blocking, invalid};
use crate::Result;
use crate::manifest::{BLOCK_BYTES, DataFile, Piece};

/// What becomes one file.
#[derive(Clone, Debug)]
pub struct Merged {
    pub id: FileId,
    pub view: ViewId,
    /// The number of the view's version.
    pub version: u32,
    /// The store's hash.
    pub hash: HashAlgorithm,
    pub place: Place,
    /// The columns as they are stored: the keys first, `_batch` last. Of equal keys and times, those of the earlier batch come first. Not empty.
    pub rows: RecordBatch,
    /// When each row was known, also where its `known_at` is null.
    pub known: TimestampMicrosecondArray,
    /// How many of the first columns are the key.
    pub keys: usize,
    /// With the numbers of rows that lie in this file.
    pub pieces: Vec<Piece>,
    pub layout: Layout,
}

/// Writes a file, and gives what the manifest says of it, with its bytes. Nothing refers to it yet.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) if the rows cannot be stored; [`Error::Unavailable`](crate::Error::Unavailable) if the object
/// storage fails.
pub async fn write_merged(objects: &Arc<dyn ObjectStore>, merged: Merged) -> Result<(DataFile, Bytes)> {
    let what = format!("merged file {}", merged.id);
    let (file, bytes) = blocking(&what.clone(), move || encode(&merged, &what)).await?;
    objects.put(&Path::from(file.path.as_str()), bytes.clone().into()).await?;
    Ok((file, bytes))
}

fn encode(merged: &Merged, what: &str) -> Result<(DataFile, Bytes)> {
    let wrong = |error: String| invalid(what, error);
    let schema = merged.rows.schema();
    let position = |name: &str| schema.index_of(name).map_err(|error| wrong(error.to_string()));
    let valid_at = position(VALID_AT)?;
    let mut columns: Vec<ArrayRef> = merged.rows.columns()[..merged.keys].to_vec();
    columns.push(merged.rows.column(valid_at).clone());
    columns.push(Arc::new(merged.known.clone()));
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let order = order(&columns, fields).map_err(|error| wrong(error.to_string()))?;
    let rows = match order.is_sorted() {
        true => merged.rows.clone(),
        false => take_record_batch(&merged.rows, &UInt32Array::from(order))
            .map_err(|error| wrong(error.to_string()))?,
    };
    let mut sort: Vec<usize> = (0..merged.keys).chain([valid_at]).collect();
    // Where it is null, the file does not say what the rows are sorted by.
    if let Ok(known) = schema.index_of(KNOWN_AT)
        && rows.column(known).null_count() == 0
    {
        sort.push(known);
    }
    let bytes = parquet(&rows, &sort, &merged.layout).map_err(|error| wrong(error.to_string()))?;
    // The pieces say which batches there are.
    let told: Vec<usize> =
        (0..rows.num_columns()).filter(|column| schema.field(*column).name() != BATCH).collect();
    let told = rows.project(&told).map_err(|error| wrong(error.to_string()))?;
    let statistics = statistics(&told)
        .map_err(|(column, error)| wrong(format!("its column `{column}` cannot be stored: {error}")))?;
    let first = rows.column(valid_at).as_primitive_opt::<TimestampMicrosecondType>();
    let first = first.filter(|times| !times.is_empty()).map(|times| times.value(0));
    let first = first.ok_or_else(|| wrong("it has no rows".to_owned()))?;
    let Place { granularity, partition, bucket, buckets } = merged.place;
    let file = DataFile {
        id: merged.id,
        path: path(merged.view, merged.version, &granularity.name(first), (bucket, buckets), merged.id),
        version: merged.version,
        from: partition.from,
        until: partition.until,
        bucket,
        buckets,
        rows: rows.num_rows() as u64,
        bytes: bytes.len() as u64,
        key_hashes: key_hashes(&rows, &sort[..merged.keys], what)?,
        statistics,
        pieces: merged.pieces.clone(),
        digest: hash(merged.hash, &bytes),
        block_bytes: BLOCK_BYTES,
        blocks: blocks(merged.hash, &bytes),
    };
    Ok((file, bytes))
}
