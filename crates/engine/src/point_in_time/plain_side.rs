//! A right side that is no feature view, as it is kept: in memory up to a share of the limit, else in blocks on disk, in the order in which
//! its rows came.
//!
//! A spine meets the blocks one after the other, each together with the rows that won so far. These come first, as they did before, so that
//! the last among equals wins as it does where all is held.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::{SendableRecordBatchStream, SpillFile};
use datafusion::physical_plan::SpillManager;
use futures::TryStreamExt;

use super::exec::Side;
use super::nearest::nearest;
use super::working_memory::WorkingMemory;
use crate::row_bytes::{bytes_of, parts_of};

/// A block is made of so many parts or more, so that little goes over its share.
const PARTS: usize = 8;

pub struct PlainSide {
    schema: SchemaRef,
    kept: Kept,
    row_bytes: usize,
}

enum Kept {
    Memory { rows: RecordBatch, _held: MemoryReservation },
    Disk(SpillManager, Vec<Arc<dyn SpillFile>>),
}

impl PlainSide {
    /// Reads all rows; up to `share` bytes of them are held, and charged to `held`.
    ///
    /// # Errors
    /// Those of the rows; more would wait on disk than may.
    pub async fn read(
        mut rows: SendableRecordBatchStream,
        spills: SpillManager,
        held: MemoryReservation,
        share: usize,
    ) -> Result<Self> {
        let schema = rows.schema();
        let (mut waiting, mut blocks) = (Vec::new(), Vec::new());
        let (mut all_rows, mut all_bytes, mut beyond) = (0usize, 0usize, false);
        while let Some(batch) = rows.try_next().await? {
            for part in parts_of(batch, share / PARTS) {
                let bytes = held_by(&part);
                (all_rows, all_bytes) = (all_rows + part.num_rows(), all_bytes + bytes);
                if held.size().saturating_add(bytes) > share || held.try_grow(bytes).is_err() {
                    // It goes to disk with what comes, if not before.
                    beyond = true;
                    blocks.extend(block(&spills, std::mem::take(&mut waiting)).await?);
                    held.resize(bytes);
                }
                waiting.push(part);
            }
        }
        let row_bytes = all_bytes / all_rows.max(1);
        let kept = if beyond {
            blocks.extend(block(&spills, waiting).await?);
            held.free();
            Kept::Disk(spills, blocks)
        } else {
            // For a moment they are there twice.
            held.grow(all_bytes);
            let whole = concat_batches(&schema, &waiting)?;
            drop(waiting);
            held.resize(all_bytes);
            Kept::Memory { rows: whole, _held: held }
        };
        Ok(Self { schema, kept, row_bytes })
    }

    /// What a row takes on average.
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Its columns, each row beside the spine row that it is nearest to; null where there is none.
    pub async fn columns(
        &self,
        spine: &[RecordBatch],
        side: &Side,
        memory: &WorkingMemory,
    ) -> Result<Vec<ArrayRef>> {
        let (spills, blocks) = match &self.kept {
            Kept::Memory { rows, .. } => {
                return taken(rows, &nearest(spine, rows, side, memory).await?);
            }
            Kept::Disk(spills, blocks) => (spills, blocks),
        };
        let mut best = RecordBatch::new_empty(self.schema.clone());
        let mut found = UInt32Array::new_null(spine.iter().map(RecordBatch::num_rows).sum());
        for block in blocks {
            let held = memory.hold(2 * held_by(&best));
            let mut rows = vec![best];
            let mut read = spills.read_spill_as_stream(block.clone(), None)?;
            while let Some(batch) = read.try_next().await? {
                held.grow(2 * held_by(&batch));
                rows.push(batch);
            }
            let whole = concat_batches(&self.schema, &rows)?;
            drop(rows);
            held.resize(held_by(&whole));
            (best, found) = winners(&whole, &nearest(spine, &whole, side, memory).await?)?;
        }
        taken(&best, &found)
    }
}

/// The rows that were found, each once and in their order, and where each is among them now.
fn winners(rows: &RecordBatch, found: &UInt32Array) -> Result<(RecordBatch, UInt32Array)> {
    let mut won = vec![false; rows.num_rows()];
    found.iter().flatten().for_each(|row| won[row as usize] = true);
    let winners: UInt32Array = (0u32..).zip(&won).filter(|(_, won)| **won).map(|(row, _)| row).collect();
    let mut places = vec![0u32; rows.num_rows()];
    for (place, row) in (0u32..).zip(winners.values()) {
        places[*row as usize] = place;
    }
    let found = found.iter().map(|row| row.map(|row| places[row as usize])).collect();
    Ok((take_record_batch(rows, &winners)?, found))
}

fn taken(rows: &RecordBatch, places: &UInt32Array) -> Result<Vec<ArrayRef>> {
    let taken = rows.columns().iter().map(|column| take(column, places, None));
    Ok(taken.collect::<Result<_, _>>()?)
}

/// Bytes of the rows, with the texts that views point to: these go to disk with them.
fn held_by(rows: &RecordBatch) -> usize {
    let texts = rows.columns().iter().map(|column| match column.data_type() {
        DataType::Utf8View => column.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => column.as_binary_view().total_buffer_bytes_used(),
        _ => 0,
    });
    bytes_of(rows) + texts.sum::<usize>()
}

/// Rows as a block on disk; none where there are no rows.
async fn block(spills: &SpillManager, rows: Vec<RecordBatch>) -> Result<Option<Arc<dyn SpillFile>>> {
    if rows.is_empty() {
        return Ok(None);
    }
    let spills = spills.clone();
    let write = move || spills.spill_record_batch_and_finish(&rows, "ASOF JOIN");
    let written = tokio::task::spawn_blocking(write).await;
    written.map_err(|error| DataFusionError::External(Box::new(error)))?
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{Field, Schema};
    use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryPool};
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::physical_expr::PhysicalExpr;
    use datafusion::physical_expr::expressions::Column;
    use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

    use super::*;
    use crate::point_in_time::Direction;

    /// Keys and times from few values, some null, and a text that tells the rows apart.
    fn table(seed: u64, rows: u64) -> RecordBatch {
        let drawn = |row: u64, salt: u64, below: u64| {
            let state = (row + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (seed << 32) ^ (salt << 20);
            let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let value = (state >> 33) % below;
            (value > 0).then_some(value as i64)
        };
        let schema = Schema::new(vec![
            Field::new("key", DataType::Int64, true),
            Field::new("time", DataType::Int64, true),
            Field::new("text", DataType::Utf8, false),
        ]);
        let texts = (0..rows).map(|row| format!("row {row} {}", "x".repeat((row % 90) as usize)));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter((0..rows).map(|row| drawn(row, 1, 20)))),
            Arc::new(Int64Array::from_iter((0..rows).map(|row| drawn(row, 2, 300)))),
            Arc::new(StringArray::from_iter_values(texts)),
        ];
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    #[tokio::test]
    async fn blocks_on_disk_answer_as_the_whole_does_and_all_is_given_back() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(64 << 20));
        let environment = RuntimeEnvBuilder::new().with_memory_pool(pool.clone()).build_arc().unwrap();
        let (spine, right) = (table(1, 2_000), table(2, 5_000));
        let column = |name, place| -> Arc<dyn PhysicalExpr> { Arc::new(Column::new(name, place)) };
        let read = async |share: usize| {
            let batches = (0..10).map(|batch| right.slice(batch * 500, 500));
            let batches: Vec<Result<RecordBatch>> = batches.map(Ok).collect();
            let rows = RecordBatchStreamAdapter::new(right.schema(), futures::stream::iter(batches));
            let metrics = SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0);
            let spills = SpillManager::new(environment.clone(), metrics, right.schema());
            let held = MemoryConsumer::new("test").register(&pool);
            PlainSide::read(Box::pin(rows), spills, held, share).await.unwrap()
        };
        let (whole, parted) = (read(usize::MAX).await, read(20_000).await);
        let Kept::Disk(_, blocks) = &parted.kept else { panic!("it is held") };
        assert!(blocks.len() > 10, "{} blocks", blocks.len());
        assert!(matches!(whole.kept, Kept::Memory { .. }) && pool.reserved() > 5_000 * 20);
        let memory = WorkingMemory::of(&pool, "test");
        for direction in [Direction::AtOrBefore, Direction::Before, Direction::AtOrAfter, Direction::After] {
            for keys in [vec![], vec![(column("key", 0), column("key", 0))]] {
                let (at, time) = (column("time", 1), column("time", 1));
                let side = Side::Plain { input: 1, keys, at, time, direction };
                let expected = whole.columns(std::slice::from_ref(&spine), &side, &memory).await.unwrap();
                let found = parted.columns(std::slice::from_ref(&spine), &side, &memory).await.unwrap();
                assert!(found == expected, "{direction:?}");
                let nulls = expected[2].null_count();
                assert!(nulls > 0 && nulls < 1_000, "{nulls} rows found nothing");
            }
        }
        drop((whole, parted));
        assert_eq!((pool.reserved(), environment.disk_manager.used_disk_space()), (0, 0));
    }
}
