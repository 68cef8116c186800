//! The files of a manifest, written anew without the rows of a key.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch, not};
use feature::{BatchId, FileId};
use storage::environment;
use storage::manifest::{DataFile, Piece};
use storage::partition::{self, BATCH, Layout, Left, digest_of_piece};
use uuid::Uuid;

use super::key::TypedKey;
use crate::catalog::Catalog;
use crate::compaction::input;
use crate::compaction::proof::parts;
use crate::error::{Error, Result};

/// Times are kept where all other bounds go: what expired is told by them.
const TIMES: [&str; 2] = ["valid_at", "known_at"];

/// What became of the files of a manifest.
#[derive(Debug, Default)]
pub(super) struct Rewritten {
    /// As the new manifest has them.
    pub files: Vec<DataFile>,
    /// Paths of files that had rows of the key.
    pub gone: Vec<String>,
    /// How many rows each batch lost.
    pub lost: BTreeMap<BatchId, u64>,
    /// Batches with files that are not there any more, and may have had rows of the key.
    pub unknown: BTreeSet<BatchId>,
}

/// How files are written anew.
pub(super) struct Rewriting<'a> {
    pub catalog: &'a Catalog,
    pub key: &'a TypedKey,
    /// How many of the first columns are the key.
    pub keys: usize,
    pub layout: &'a Layout,
    /// Else it is only told what would go.
    pub writes: bool,
}

impl Rewriting<'_> {
    /// The files without the rows of the key; none where no file has, or may have had, one.
    ///
    /// # Errors
    /// Those of the storage; `Corrupt` where a file is not what its manifest says.
    pub async fn files(&self, files: &[DataFile]) -> Result<Option<Rewritten>> {
        let mut found = Rewritten::default();
        let mut changed: BTreeSet<PieceKey> = BTreeSet::new();
        for file in files {
            if !self.key.may_lie_in(file) {
                found.files.push(file.clone());
                continue;
            }
            let rows = match input::read(self.catalog, file).await {
                Ok(rows) => rows,
                // Replaced and swept, or too old and gone: its bounds may tell of the key.
                Err(error) if error.is_missing() => {
                    let bare = without_bounds(file);
                    // Else an earlier erasure took them.
                    if bare != *file {
                        found.unknown.extend(file.pieces.iter().map(|piece| piece.batch));
                    }
                    found.files.push(bare);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let of_key = self.key.rows_in(&rows)?.filter(|of_key| of_key.true_count() > 0);
            let Some(of_key) = of_key else {
                found.files.push(file.clone());
                continue;
            };
            count(file, &rows, &of_key, &mut found.lost)?;
            found.gone.push(file.path.clone());
            if !self.writes {
                continue;
            }
            changed.extend(file.pieces.iter().map(PieceKey::of));
            let kept = not(&of_key).and_then(|kept| filter_record_batch(&rows, &kept));
            let kept = kept.map_err(|error| Error::internal("rows cannot be left out", error))?;
            if kept.num_rows() > 0 {
                found.files.push(self.write(file, kept).await?);
            }
        }
        if found.gone.is_empty() && found.unknown.is_empty() {
            return Ok(None);
        }
        self.digest_pieces(&mut found.files, &changed).await?;
        Ok(Some(found))
    }

    async fn write(&self, file: &DataFile, rows: RecordBatch) -> Result<DataFile> {
        let id: FileId = environment::mint();
        let (keys, hash, layout) = (self.keys, self.catalog.state().hash, *self.layout);
        let left = Left { id, of: file.clone(), rows, keys, hash, layout };
        Ok(partition::write_left(&self.catalog.store().objects(), left).await?)
    }

    /// Gives the pieces that lost rows, and lie in files of several batches, the digests of what is left of them.
    async fn digest_pieces(&self, files: &mut [DataFile], changed: &BTreeSet<PieceKey>) -> Result<()> {
        let is_changed = |piece: &Piece| changed.contains(&PieceKey::of(piece));
        let mut rows: HashMap<PieceKey, Vec<RecordBatch>> = HashMap::new();
        for file in files.iter().filter(|file| file.pieces.iter().any(is_changed)) {
            let stored = match input::read(self.catalog, file).await {
                Ok(stored) => stored,
                // Of a piece that is gone in part nothing is proved.
                Err(error) if error.is_missing() => continue,
                Err(error) => return Err(error),
            };
            // That of a file of one batch is known.
            if stored.column_by_name(BATCH).is_none() {
                continue;
            }
            for (piece, part) in parts(file, &stored, self.keys, is_changed)? {
                rows.entry(PieceKey::of(&piece)).or_default().push(part);
            }
        }
        let algorithm = self.catalog.state().hash;
        for (key, parts) in rows {
            let Some(first) = parts.first() else { continue };
            let whole = concat_batches(&first.schema(), &parts);
            let whole = whole.map_err(|error| Error::internal("a piece cannot be read", error))?;
            let digest = digest_of_piece(&whole, self.keys, algorithm, "a piece that lost rows")?;
            for file in files.iter_mut() {
                for piece in file.pieces.iter_mut().filter(|piece| PieceKey::of(piece) == key) {
                    piece.digest = digest;
                }
            }
        }
        Ok(())
    }
}

/// A batch's rows of one partition and bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct PieceKey(BatchId, i64, i64, u32, u32);

impl PieceKey {
    fn of(piece: &Piece) -> Self {
        Self(piece.batch, piece.from, piece.until, piece.bucket, piece.buckets)
    }
}

/// Rows of one batch among those of a file of several.
pub(super) fn of_batch(rows: &RecordBatch, batch: BatchId) -> Result<RecordBatch> {
    let Some(column) = rows.column_by_name(BATCH) else { return Ok(rows.clone()) };
    let Some(batches) = column.as_fixed_size_binary_opt() else {
        return Err(Error::internal("rows cannot be told apart", "`_batch` is no id"));
    };
    let is_of: BooleanArray = (0..batches.len())
        .map(|row| Some(Uuid::from_slice(batches.value(row)).ok().map(BatchId::from) == Some(batch)))
        .collect();
    filter_record_batch(rows, &is_of).map_err(|error| Error::internal("rows cannot be told apart", error))
}

fn count(
    file: &DataFile,
    rows: &RecordBatch,
    of_key: &BooleanArray,
    lost: &mut BTreeMap<BatchId, u64>,
) -> Result<()> {
    let corrupt = || storage::Error::corrupt(&file.path, "it does not say which batches its rows are of");
    let Some(column) = rows.column_by_name(BATCH) else {
        let piece = file.pieces.first().ok_or_else(corrupt)?;
        *lost.entry(piece.batch).or_default() += of_key.true_count() as u64;
        return Ok(());
    };
    let batches = column.as_fixed_size_binary_opt().ok_or_else(corrupt)?;
    for row in of_key.values().set_indices() {
        let batch = Uuid::from_slice(batches.value(row)).map_err(|_| corrupt())?;
        *lost.entry(BatchId::from(batch)).or_default() += 1;
    }
    Ok(())
}

/// What a manifest says of a file that is not there any more, but for its keys, and the least and greatest of its values.
fn without_bounds(file: &DataFile) -> DataFile {
    let mut file = DataFile { key_hashes: None, ..file.clone() };
    for column in &mut file.statistics {
        if !TIMES.contains(&column.column.as_str()) {
            (column.least, column.greatest) = (None, None);
        }
    }
    file
}
