//! The proof of a compaction: the rows of each piece, taken out of the new files, give the digest that the piece has had since it was first written.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use storage::manifest::{DataFile, Piece};
use storage::partition::{Layout, piece_of_rows, reproduces};

use super::{PieceKey, input, whole_pieces};
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::state::{Compaction, State};

/// What a check of a compaction found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub files: usize,
    pub pieces: usize,
    pub rows: u64,
}

/// Reads all files of a compaction that is in force, and proves each piece of them.
///
/// # Errors
/// `Corrupt` names the file or the batch that is not what it was.
pub async fn check(catalog: &Catalog, state: &State, compaction: &Compaction) -> Result<Checked> {
    let version = state.view_version(compaction.record.version);
    let keys = version.map_or(0, |version| version.keys().len());
    let batches = state.batches_of_line(compaction.line).get(compaction.places()).unwrap_or_default();
    let files = catalog.compaction_files(compaction, batches).await?;
    let files: Vec<Arc<DataFile>> = files.iter().map(|visible| visible.file.clone()).collect();
    let rows: u64 = match state.erasures().rows_of(&compaction.record.manifest) {
        Some(left) => left,
        // It may have left out what was gone.
        None if batches.iter().any(|batch| state.expiry().gone(batch.record.batch).is_some())
            || compaction.record.erased.is_some() =>
        {
            compaction.record.rows
        }
        None => batches.iter().map(|batch| batch.record.rows).sum(),
    };
    if rows != files.iter().map(|file| file.rows).sum::<u64>() {
        let why = format!("its files have not the {rows} rows of its batches");
        return Err(storage::Error::corrupt(&compaction.record.manifest.path, why).into());
    }
    let (gone, files): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| state.expiry().is_gone(file));
    let gone: HashSet<PieceKey> = gone.iter().flat_map(|file| &file.pieces).map(PieceKey::of).collect();
    // What is left of a piece that is gone in part proves nothing.
    let mut pieces = whole_pieces(files.iter());
    pieces.retain(|piece| !gone.contains(&PieceKey::of(piece)));
    let rows = files.iter().map(|file| file.rows).sum();
    let checked = Checked { files: files.len(), pieces: pieces.len(), rows };
    let mut proof = Proof::new(keys, pieces);
    for file in &files {
        proof.take(file, &input::read(catalog, file).await?)?;
    }
    let files: Vec<DataFile> = files.iter().map(|file| DataFile::clone(file)).collect();
    proof.finish(catalog, &files, &Layout::default()).await?;
    Ok(checked)
}

/// Pieces that are yet to be proved.
pub(super) struct Proof {
    keys: usize,
    /// With all of its rows.
    pieces: HashMap<PieceKey, Piece>,
}

impl Proof {
    pub fn new(keys: usize, pieces: Vec<Piece>) -> Self {
        let pieces = pieces.into_iter().filter(|piece| piece.rows > 0);
        Self { keys, pieces: pieces.map(|piece| (PieceKey::of(&piece), piece)).collect() }
    }

    /// Proves the pieces that lie in one file as a whole.
    ///
    /// # Errors
    /// `Corrupt` names the first that is not what it was.
    pub fn take(&mut self, file: &DataFile, rows: &RecordBatch) -> Result<()> {
        let wanted = |piece: &Piece| {
            self.pieces.get(&PieceKey::of(piece)).is_some_and(|whole| whole.rows == piece.rows)
        };
        for (piece, rows) in parts(file, rows, self.keys, wanted)? {
            self.prove(&piece, &rows, &file.path)?;
        }
        Ok(())
    }

    fn prove(&mut self, piece: &Piece, rows: &RecordBatch, path: &str) -> Result<()> {
        if rows.num_rows() as u64 != piece.rows || !reproduces(rows, self.keys, piece, path)? {
            let why = format!("its rows of batch {} are not those that were written", piece.batch);
            return Err(storage::Error::corrupt(path, why).into());
        }
        self.pieces.remove(&PieceKey::of(piece));
        Ok(())
    }

    /// Proves the pieces that lie in several files, a file's worth of their rows at a time.
    ///
    /// # Errors
    /// `Corrupt` as [`Self::take`], and where the rows of a piece are not there.
    pub async fn finish(mut self, catalog: &Catalog, files: &[DataFile], layout: &Layout) -> Result<()> {
        while let Some(some) = self.next(layout.target_rows as u64) {
            let mut found: HashMap<PieceKey, Vec<RecordBatch>> = HashMap::new();
            for file in files {
                if !file.pieces.iter().any(|piece| some.contains_key(&PieceKey::of(piece))) {
                    continue;
                }
                let rows = input::read(catalog, file).await?;
                for (piece, rows) in
                    parts(file, &rows, self.keys, |piece| some.contains_key(&PieceKey::of(piece)))?
                {
                    found.entry(PieceKey::of(&piece)).or_default().push(rows);
                }
            }
            for (key, piece) in some {
                let parts = found.remove(&key).unwrap_or_default();
                let Some(first) = parts.first() else {
                    let why = format!("no rows of batch {} are left", piece.batch);
                    return Err(Error::internal("batches cannot be merged", why));
                };
                let rows = concat_batches(&first.schema(), &parts);
                let rows = rows.map_err(|error| Error::internal("a piece cannot be read", error))?;
                let path = files.first().map(|file| file.path.clone()).unwrap_or_default();
                self.prove(&piece, &rows, &path)?;
            }
        }
        Ok(())
    }

    /// Some of the pieces that are left, of so many rows, but at least one; none where none is left.
    fn next(&self, most: u64) -> Option<HashMap<PieceKey, Piece>> {
        let mut some: HashMap<PieceKey, Piece> = HashMap::new();
        let mut rows = 0;
        for (key, piece) in &self.pieces {
            if !some.is_empty() && rows + piece.rows > most {
                break;
            }
            rows += piece.rows;
            some.insert(*key, piece.clone());
        }
        (!some.is_empty()).then_some(some)
    }
}

/// The rows of those pieces of a file that are wanted.
pub(crate) fn parts(
    file: &DataFile,
    rows: &RecordBatch,
    keys: usize,
    wanted: impl Fn(&Piece) -> bool,
) -> Result<Vec<(Piece, RecordBatch)>> {
    let mut of_pieces: Vec<Vec<u32>> = vec![Vec::new(); file.pieces.len()];
    for (row, piece) in (0..).zip(piece_of_rows(rows, keys, &file.pieces, &file.path)?) {
        of_pieces[piece as usize].push(row);
    }
    let mut parts = Vec::new();
    for (piece, of_piece) in file.pieces.iter().zip(of_pieces) {
        if wanted(piece) {
            let part = take_record_batch(rows, &UInt32Array::from(of_piece));
            parts.push((
                piece.clone(),
                part.map_err(|error| Error::internal("a piece cannot be read", error))?,
            ));
        }
    }
    Ok(parts)
}
