//! The rows of many files, written anew file by file: of what is written, about as many rows as one file should have are in memory at a time.

use arrow::array::{Array, AsArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::{concat, concat_batches, filter, filter_record_batch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use futures::{StreamExt, TryStreamExt, stream};
use storage::environment;
use storage::manifest::{DataFile, Piece};
use storage::partition::{self, Layout, Merged, Place, Stretch, piece_of_rows};

use super::{input, proof, whole_pieces};
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::state::{Run, State, ViewVersion};
use crate::visible_file::VisibleFile;

/// Files that are read at once.
const READ_AT_ONCE: usize = 8;

/// The files of some runs, in the order of the log.
pub(super) struct Inputs {
    files: Vec<VisibleFile>,
    schema: SchemaRef,
    keys: usize,
    /// Each once, with all of its rows.
    pieces: Vec<Piece>,
}

pub(super) async fn inputs(
    catalog: &Catalog,
    state: &State,
    version: &ViewVersion,
    runs: &[Run<'_>],
) -> Result<Inputs> {
    let mut files = Vec::new();
    for run in runs {
        files.extend(catalog.run_files(state, *run, run.batches()).await?);
    }
    Ok(Inputs {
        schema: input::schema(version, &files),
        keys: version.keys().len(),
        pieces: whole_pieces(files.iter().map(|visible| &visible.file)),
        files,
    })
}

/// Writes all rows, and proves that each piece is what it was. `planted` may spoil what is written: tests see by it that the proof notices.
pub(super) async fn write(
    catalog: &Catalog,
    version: &ViewVersion,
    inputs: &Inputs,
    layout: &Layout,
    planted: &(dyn Fn(&mut Merged) + Sync),
) -> Result<Vec<DataFile>> {
    let objects = catalog.store().objects();
    let hash = catalog.state().hash;
    let files: Vec<&DataFile> = inputs.files.iter().map(|visible| visible.file.as_ref()).collect();
    let mut proof = proof::Proof::new(inputs.keys, inputs.pieces.clone());
    let mut written = Vec::new();
    for Stretch { whole, places } in partition::stretches(&files, row_bytes(catalog, inputs).await?, layout) {
        let read = inputs.rows_of(catalog, whole).await?;
        for place in places {
            let id = environment::mint();
            let what = format!("merged file {id}");
            let input::Rows { rows, known } = inputs.within(&read, place, &what)?;
            if rows.num_rows() == 0 {
                continue;
            }
            let pieces = inputs.pieces_of(&rows, &what)?;
            let mut merged = Merged {
                id,
                view: version.view,
                version: version.number,
                hash,
                place,
                rows,
                known,
                keys: inputs.keys,
                pieces,
                layout: *layout,
            };
            planted(&mut merged);
            let (file, bytes) = partition::write_merged(&objects, merged).await?;
            // What was encoded is decoded again: a proof is of what will be read.
            let stored = input::decode(&file.path, bytes).await?;
            proof.take(&file, &stored)?;
            written.push(file);
        }
    }
    proof.finish(catalog, &written, layout).await?;
    Ok(written)
}

/// Bytes of a row in memory, as far as the first file with rows tells.
async fn row_bytes(catalog: &Catalog, inputs: &Inputs) -> Result<usize> {
    let Some(visible) = inputs.files.iter().find(|visible| visible.file.rows > 0) else { return Ok(1) };
    let rows = input::read(catalog, &visible.file).await?;
    let bytes = rows.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0));
    Ok(bytes.sum::<usize>() / rows.num_rows().max(1) + 16)
}

impl Inputs {
    /// All rows that belong to a place, those of earlier batches first.
    async fn rows_of(&self, catalog: &Catalog, place: Place) -> Result<input::Rows> {
        let here = self.files.iter().filter(|visible| place.may_hold(&visible.file));
        let reads: Vec<_> = here.map(|visible| self.part_of(catalog, visible, place)).collect();
        let parts: Vec<input::Rows> = stream::iter(reads).buffered(READ_AT_ONCE).try_collect().await?;
        let wrong = |error: arrow::error::ArrowError| Error::internal("files cannot be merged", error);
        let rows = concat_batches(&self.schema, parts.iter().map(|part| &part.rows)).map_err(wrong)?;
        let known: Vec<&dyn Array> = parts.iter().map(|part| &part.known as &dyn Array).collect();
        if known.is_empty() {
            let known = TimestampMicrosecondArray::from(Vec::<i64>::new()).with_timezone("UTC");
            return Ok(input::Rows { rows, known });
        }
        let known = concat(&known).map_err(wrong)?.as_primitive::<TimestampMicrosecondType>().clone();
        Ok(input::Rows { rows, known })
    }

    async fn part_of(&self, catalog: &Catalog, visible: &VisibleFile, place: Place) -> Result<input::Rows> {
        let stored = input::read(catalog, &visible.file).await?;
        let whole = input::arranged(visible, &stored, &self.schema)?;
        self.within(&whole, place, &visible.file.path)
    }

    /// Those of some rows that belong to a place; `path` is where they are from.
    fn within(&self, whole: &input::Rows, place: Place, path: &str) -> Result<input::Rows> {
        let times = whole.rows.column_by_name("valid_at");
        let times = times.and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
        let times = times.ok_or_else(|| storage::Error::corrupt(path, "it has no `valid_at`"))?;
        let holds = place.holds(&whole.rows.columns()[..self.keys], times.values());
        let holds = holds.map_err(|error| storage::Error::corrupt(path, error.to_string()))?;
        if holds.true_count() == holds.len() {
            return Ok(whole.clone());
        }
        let wrong = |error: arrow::error::ArrowError| Error::internal("files cannot be merged", error);
        Ok(input::Rows {
            rows: filter_record_batch(&whole.rows, &holds).map_err(wrong)?,
            known: filter(&whole.known, &holds)
                .map_err(wrong)?
                .as_primitive::<TimestampMicrosecondType>()
                .clone(),
        })
    }

    /// The pieces that rows are of, with their numbers.
    fn pieces_of(&self, rows: &RecordBatch, what: &str) -> Result<Vec<Piece>> {
        let mut counts = vec![0u64; self.pieces.len()];
        for piece in piece_of_rows(rows, self.keys, &self.pieces, what)? {
            counts[piece as usize] += 1;
        }
        let held = self.pieces.iter().zip(counts).filter(|(_, rows)| *rows > 0);
        Ok(held.map(|(piece, rows)| Piece { rows, ..piece.clone() }).collect())
    }
}
