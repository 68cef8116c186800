//! A recorded training set in stretches of rows that are read side by side.
//!
//! A set that fits into its share of the memory is rebuilt once, proved whole, and shared by all who read stretches of it. Of a
//! larger one each stretch is rebuilt alone as it is read, and each block of it proved by the leaves that the manifest has. Either way a
//! stretch is the same rows in the same order, whenever it is read.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_recursion::async_recursion;
use catalog::Author;
use catalog::records::Verdict;
use engine::column_lineage::Traced;
use engine::features;
use feature::TrainingSetId;
use feature::digest::BLOCK_ROWS;
use feature::policy::Action;
use futures::StreamExt;
use lineage::Manifest;
use serde::Serialize;

use crate::erased_rows;
use crate::error::{Error, Kind, Result};
use crate::looked_at::looked_at;
use crate::reads::{Read, ReadKind};
use crate::rebuilding::{Differing, Taker};
use crate::rebuilt_sets::RebuiltSet;
use crate::retrieve::{Retrieval, Serving, async_stream};

/// Blocks of a stretch at least, so that each is worth a call of its own, and at most, so that one can be rebuilt alone.
const LEAST_BLOCKS: u64 = 4;
const MOST_BLOCKS: u64 = 16;
/// Stretches that a set is dealt into, where their size allows it.
const STRETCHES: u64 = 16;
/// Bytes that a cell is reckoned at, with what is held beside it while a set is rebuilt. What a spine carries along may be more.
const CELL_BYTES: u64 = 16;

/// How a recorded set is dealt out.
#[derive(Clone, Debug)]
pub struct Stretches {
    pub schema: SchemaRef,
    pub rows: u64,
    /// Rows of each, in their order; together they are the set.
    pub stretches: Vec<Range<u64>>,
}

/// What is said of a stretch after its last row.
#[derive(Clone, Debug, Serialize)]
pub struct StretchReport {
    pub training_set: TrainingSetId,
    /// Of the whole set, as recorded.
    pub digest: String,
    /// Of the whole set.
    pub rows: u64,
    /// The stretch is the rows from here …
    pub from: u64,
    /// … to before this one.
    pub until: u64,
    /// Always `equal`, or equal minus what was erased: rows that are not as recorded are not given.
    pub verdict: Verdict,
    /// What proved them: the digest of the whole set, or the leaves of the stretch's blocks.
    pub proved_by: &'static str,
}

impl Serving {
    /// How a recorded set is dealt into stretches. Nothing is rebuilt.
    ///
    /// # Errors
    /// An id that is not known; a spine that was changed or is gone.
    #[async_recursion]
    pub async fn stretches(&self, id: TrainingSetId) -> Result<Stretches> {
        let manifest = self.manifest(id).await?;
        let (session, mut resolved) = self.as_recorded(&manifest, |_| true).await?;
        resolved.null_reasons = manifest.null_reasons;
        let spine = session.rows("spine", self.stored_schema(&manifest).await?, Vec::new())?;
        let plan = features::plan(spine, &manifest.spine.at, &resolved)?;
        let plan = erased_rows::hidden(plan, &manifest)?;
        let schema = session.prepare(&plan).await?.schema();
        Ok(Stretches { schema, rows: manifest.rows, stretches: dealt(manifest.rows) })
    }

    /// The rows of one stretch, each block of which is proved before the first of its rows is given.
    ///
    /// # Errors
    /// An id that is not known; rows that are no whole blocks of the set; `Damaged` where the set cannot be rebuilt as it was, for a large set
    /// in place of the first block that differs.
    #[async_recursion]
    pub async fn stretch(
        &self,
        id: TrainingSetId,
        rows: Range<u64>,
        author: &Author,
    ) -> Result<(Retrieval, StretchReport)> {
        let started = Instant::now();
        let manifest = self.manifest(id).await?;
        verify(&manifest, &rows)?;
        let allowed = self.require_as_recorded(&manifest, author);
        let words = || format!("training_set: {id}, rows {} to {}", rows.start, rows.end);
        self.on_record(author, Action::Read, Some(ReadKind::TrainingSet), words, allowed).await?;
        let traced = Arc::new(self.trace(&manifest)?);
        // A full queue refuses a read rather than forget it.
        let place = self.reads.reserve(&traced)?;
        let cells = manifest.rows.saturating_mul(manifest.columns.len() as u64);
        let bytes = cells.saturating_mul(CELL_BYTES).saturating_add(manifest.spine.object.bytes);
        let sequence = manifest.sequence;
        let mut read = Read::new(author, sequence, self.catalog().store().clock().now(), traced);
        read.asked(ReadKind::TrainingSet, format!("training_set: {id}, rows {} to {}", rows.start, rows.end));
        // What is reckoned spares a rebuild that would not fit; whether one does, it shows itself.
        let set = if bytes <= self.rebuilt_sets.share(self.memory()) {
            self.rebuilt_sets.get(self, id, author).await?
        } else {
            None
        };
        let report = StretchReport {
            training_set: id,
            digest: manifest.digest.clone(),
            rows: manifest.rows,
            from: rows.start,
            until: rows.end,
            verdict: self.verdict_of_equal(id),
            proved_by: if set.is_some() { "digest" } else { "leaves" },
        };
        if let Some(set) = set {
            read.rows = rows.end - rows.start;
            read.micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.record_read(place, read).await?;
            let (schema, batches) = (set.schema.clone(), slices(&set, &rows));
            let stream =
                futures::stream::iter(batches.into_iter().map(Ok)).inspect(move |_| _ = &set).boxed();
            return Ok((Retrieval { sequence, schema, deprecations: Vec::new(), stream }, report));
        }
        let rebuilding = self.rebuilding(manifest, rows).await?;
        let (schema, serving) = (rebuilding.schema(), self.clone());
        let stream = async_stream(move |mut emit| async move {
            let mut taker = Taker { emit: &mut emit, rows: 0 };
            let rebuilt = rebuilding.run(Some(&mut taker), Differing::Fails).await;
            read.rows = taker.rows;
            read.micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            if let Err(error) = rebuilt {
                read.error = Some(error.to_string());
                emit.send(Err(error)).await;
            }
            if let Err(error) = serving.record_read(place, read).await {
                emit.send(Err(error)).await;
            }
        });
        Ok((Retrieval { sequence, schema, deprecations: Vec::new(), stream }, report))
    }

    /// What reading a recorded set looks at.
    pub(crate) fn trace(&self, manifest: &Manifest) -> Result<Traced> {
        let state = self.catalog().state();
        let mut versions = Vec::with_capacity(manifest.references.len());
        for reference in &manifest.references {
            let Some(version) = state.view_version(reference.version) else {
                return Err(Error::new(
                    Kind::Damaged,
                    format!("the store knows no version {}", reference.version),
                ));
            };
            versions.push((version, reference));
        }
        Ok(looked_at(versions.iter().map(|(version, reference)| {
            (&**version, manifest.sequence, &*reference.feature, &*reference.output)
        })))
    }
}

/// Stretches of whole blocks. Tickets hold the rows themselves, so that another way to deal changes none that was given out.
fn dealt(rows: u64) -> Vec<Range<u64>> {
    let block = BLOCK_ROWS as u64;
    let blocks = rows.div_ceil(block).div_ceil(STRETCHES).clamp(LEAST_BLOCKS, MOST_BLOCKS);
    let step = blocks * block;
    let stretches: Vec<Range<u64>> =
        (0..rows.div_ceil(step)).map(|number| number * step..((number + 1) * step).min(rows)).collect();
    stretches
}

fn verify(manifest: &Manifest, rows: &Range<u64>) -> Result<()> {
    let block = BLOCK_ROWS as u64;
    let whole = rows.start.is_multiple_of(block)
        && (rows.end.is_multiple_of(block) || rows.end == manifest.rows)
        && rows.start < rows.end
        && rows.end <= manifest.rows;
    if whole {
        return Ok(());
    }
    Err(Error::new(
        Kind::Invalid,
        format!(
            "rows {} to {} are no stretch of the training set {}, which has {} rows in blocks of {block}; GetFlightInfo gives its tickets",
            rows.start, rows.end, manifest.id, manifest.rows
        ),
    ))
}

/// The rows of a stretch, without a copy.
fn slices(set: &RebuiltSet, rows: &Range<u64>) -> Vec<RecordBatch> {
    let (first, end) = (place(rows.start), place(rows.end));
    let mut begin = 0;
    let mut taken = Vec::new();
    for batch in &set.batches {
        let until = begin + batch.num_rows();
        let (from, to) = (first.max(begin), end.min(until));
        if from < to {
            taken.push(batch.slice(from - begin, to - from));
        }
        begin = until;
    }
    taken
}

pub(crate) fn bytes_of(batches: &[RecordBatch]) -> u64 {
    batches.iter().map(|batch| engine::row_bytes::bytes_of(batch) as u64).sum()
}

fn place(row: u64) -> usize {
    usize::try_from(row).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_whole_blocks_and_together_the_set() {
        let block = BLOCK_ROWS as u64;
        for rows in [1, 7, block, 4 * block, 4 * block + 1, 5_000_000, 100_000_000] {
            let dealt = dealt(rows);
            assert_eq!((dealt[0].start, dealt[dealt.len() - 1].end), (0, rows));
            assert!(dealt.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(dealt.iter().all(|stretch| stretch.start % block == 0 && !stretch.is_empty()));
            assert!(dealt.iter().all(|stretch| stretch.end - stretch.start <= MOST_BLOCKS * block));
        }
        assert_eq!(dealt(5_000_000).len(), 16);
        assert_eq!(dealt(200_000).len(), 1);
        assert!(dealt(0).is_empty());
    }
}
