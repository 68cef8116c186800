//! A file without some of its rows, as another file in its place.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use bytes::Bytes;
use feature::FileId;
use feature::digest::{HashAlgorithm, digest_batches, hash};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::encode::{blocks, key_hashes, parquet, statistics};
use super::layout::Layout;
use super::{BATCH, KNOWN_AT, VALID_AT, blocking, invalid, piece_of_rows};
use crate::Result;
use crate::manifest::{BLOCK_BYTES, DataFile, Piece};

/// What is left of a file.
#[derive(Clone, Debug)]
pub struct Left {
    /// Of the new file.
    pub id: FileId,
    pub of: DataFile,
    /// The columns as they are stored, the keys first, in the order of the file. Not empty.
    pub rows: RecordBatch,
    /// How many of the first columns are the key.
    pub keys: usize,
    /// The store's hash.
    pub hash: HashAlgorithm,
    pub layout: Layout,
}

/// Writes what is left of a file beside it, and gives what a manifest says of it. Nothing refers to it yet. A file of one batch has the
/// digest of its piece; of one of several the pieces have their numbers of rows, and the digests that they had before: their rows may lie
/// in other files too.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) if the rows cannot be stored; [`Error::Unavailable`](crate::Error::Unavailable) if the object
/// storage fails.
pub async fn write_left(objects: &Arc<dyn ObjectStore>, left: Left) -> Result<DataFile> {
    let what = format!("file {}", left.id);
    let (file, bytes) = blocking(&what.clone(), move || encode(left, &what)).await?;
    objects.put(&Path::from(file.path.as_str()), bytes.into()).await?;
    Ok(file)
}

fn encode(left: Left, what: &str) -> Result<(DataFile, Bytes)> {
    let Left { id, of, rows, keys, hash: algorithm, layout } = left;
    let wrong = |error: String| invalid(what, error);
    let schema = rows.schema();
    let position = |name: &str| schema.index_of(name).map_err(|error| wrong(error.to_string()));
    let mut sort: Vec<usize> = (0..keys).chain([position(VALID_AT)?]).collect();
    // Where it is null, the file does not say what the rows are sorted by.
    if let Ok(known) = schema.index_of(KNOWN_AT)
        && rows.column(known).null_count() == 0
    {
        sort.push(known);
    }
    let bytes = parquet(&rows, &sort, &layout).map_err(|error| wrong(error.to_string()))?;
    // The pieces say which batches there are.
    let told: Vec<usize> =
        (0..rows.num_columns()).filter(|column| schema.field(*column).name() != BATCH).collect();
    let told = rows.project(&told).map_err(|error| wrong(error.to_string()))?;
    let statistics = statistics(&told)
        .map_err(|(column, error)| wrong(format!("its column `{column}` cannot be stored: {error}")))?;
    let of_one = schema.index_of(BATCH).is_err();
    let pieces = match (of.pieces.as_slice(), of_one) {
        ([piece], true) => {
            let content = digest_batches(algorithm, rows.schema_ref(), [&rows]);
            let content = content.map_err(|error| wrong(error.to_string()))?;
            vec![Piece { rows: rows.num_rows() as u64, digest: content.digest, ..piece.clone() }]
        }
        (_, true) => {
            return Err(wrong(format!("`{}` is of several batches and does not say which", of.path)));
        }
        (pieces, false) => {
            let mut counts = vec![0u64; pieces.len()];
            for piece in piece_of_rows(&rows, keys, pieces, what)? {
                counts[piece as usize] += 1;
            }
            let held = pieces.iter().zip(counts).filter(|(_, rows)| *rows > 0);
            held.map(|(piece, rows)| Piece { rows, ..piece.clone() }).collect()
        }
    };
    let folder = of.path.rsplit_once('/').map(|(folder, _)| folder);
    let folder = folder.ok_or_else(|| wrong(format!("`{}` lies in no folder", of.path)))?;
    let file = DataFile {
        id,
        path: format!("{folder}/{id}.parquet"),
        rows: rows.num_rows() as u64,
        bytes: bytes.len() as u64,
        key_hashes: key_hashes(&rows, &(0..keys).collect::<Vec<_>>(), what)?,
        statistics,
        pieces,
        digest: hash(algorithm, &bytes),
        block_bytes: BLOCK_BYTES,
        blocks: blocks(algorithm, &bytes),
        ..of
    };
    Ok((file, bytes))
}
