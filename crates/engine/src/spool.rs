//! Rows between one who sends them and one who reads them later: in memory up to a share of the limit, on disk from there on.
//!
//! Nothing holds the sender back but the disk's limit. A client may send all of its rows before it reads one of the answer, and would wait
//! for ever if it were made to wait for itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result, exec_err, internal_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::SpillManager;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
use datafusion::physical_plan::spill::spill_pool::{SpillPoolSink, spsc_channel};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::row_bytes::{bytes_of, parts_of};

/// Files of about so many bytes: each is given back once it is read.
const FILE_BYTES: usize = 32 << 20;
/// Batches are cut to about so many bytes before they go to disk, so that little is in memory when they are read.
const PART_BYTES: usize = 1 << 20;

/// Takes rows in.
pub struct SpoolWriter {
    slots: UnboundedSender<Slot>,
    failure: oneshot::Sender<DataFusionError>,
    disk: Arc<SpillPoolSink>,
    memory: Held,
    /// Bytes that may wait in memory.
    share: usize,
}

/// What comes next.
enum Slot {
    Memory(RecordBatch, Held),
    /// The next batch on disk.
    Disk,
    End,
}

/// Bytes that wait in memory, of so many in all.
struct Held {
    bytes: usize,
    reservation: MemoryReservation,
    in_all: Arc<AtomicUsize>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.in_all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A spool that keeps up to `share` bytes in memory, and its reader. The reader fails where the writer is dropped before
/// [`SpoolWriter::finish`].
pub(crate) fn spool(
    environment: Arc<RuntimeEnv>,
    schema: SchemaRef,
    share: usize,
) -> (SpoolWriter, SendableRecordBatchStream) {
    let reservation = MemoryConsumer::new("spool").with_can_spill(true).register(&environment.memory_pool);
    let metrics = SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0);
    let spills = SpillManager::new(environment, metrics, schema.clone());
    let (disk, spilled) = spsc_channel(FILE_BYTES, Arc::new(spills));
    let (slots, received) = unbounded_channel();
    let memory = Held { bytes: 0, reservation, in_all: Arc::default() };
    let (failure, failed) = oneshot::channel();
    let writer = SpoolWriter { slots, failure, disk: Arc::new(disk), memory, share };
    let reader = Reader { slots: received, failed: Some(failed), spilled };
    let rows = futures::stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.next().await?.map(|batch| (batch, reader)))
    });
    (writer, Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
}

struct Reader {
    slots: UnboundedReceiver<Slot>,
    /// None once nothing can come by it.
    failed: Option<oneshot::Receiver<DataFusionError>>,
    spilled: SendableRecordBatchStream,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        match self.slot().await? {
            // Whoever takes it charges it.
            Some(Slot::Memory(batch, held)) => {
                drop(held);
                Ok(Some(batch))
            }
            Some(Slot::Disk) => match self.spilled.try_next().await? {
                Some(batch) => Ok(Some(batch)),
                None => internal_err!("rows that were written to disk are not there"),
            },
            Some(Slot::End) => Ok(None),
            None => exec_err!("the rows ended before their sender had said that they were all"),
        }
    }

    /// The next slot; a failure comes before all that waits.
    async fn slot(&mut self) -> Result<Option<Slot>> {
        if let Some(failed) = &mut self.failed {
            tokio::select! {
                biased;
                failure = failed => match failure {
                    Ok(error) => return Err(error),
                    // The writer is done, and what it left is there.
                    Err(_) => self.failed = None,
                },
                slot = self.slots.recv() => return Ok(slot),
            }
        }
        Ok(self.slots.recv().await)
    }
}

impl SpoolWriter {
    /// Takes a batch in. False where nobody reads any more.
    ///
    /// # Errors
    /// What waits on disk is more than the limit allows, or the disk fails.
    pub async fn push(&mut self, batch: RecordBatch) -> Result<bool> {
        if batch.num_rows() == 0 {
            return Ok(!self.slots.is_closed());
        }
        if let Some(held) = self.room_for(bytes_of(&batch)) {
            return Ok(self.slots.send(Slot::Memory(batch, held)).is_ok());
        }
        for part in parts_of(batch, PART_BYTES) {
            let disk = self.disk.clone();
            let written = tokio::task::spawn_blocking(move || disk.push_batch(&part)).await;
            written.map_err(|error| DataFusionError::External(Box::new(error)))??;
            if self.slots.send(Slot::Disk).is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All rows are there.
    pub fn finish(self) {
        let _ = self.slots.send(Slot::End);
    }

    /// No more rows come, and why: the reader fails with it at once, whatever waits for it.
    pub fn fail(self, error: DataFusionError) {
        let _ = self.failure.send(error);
    }

    /// What the work gives; none where nobody reads any more, and the work is dropped.
    pub async fn unless_left<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.slots.closed() => None,
            done = work => Some(done),
        }
    }

    fn room_for(&self, bytes: usize) -> Option<Held> {
        let in_all = self.memory.in_all.clone();
        if in_all.load(Ordering::Relaxed).saturating_add(bytes) > self.share {
            return None;
        }
        let reservation = self.memory.reservation.new_empty();
        reservation.try_grow(bytes).ok()?;
        in_all.fetch_add(bytes, Ordering::Relaxed);
        Some(Held { bytes, reservation, in_all })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;

    use super::*;

    const ROWS: i64 = 1_000;

    fn batch(number: i64) -> RecordBatch {
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
        let values = Int64Array::from_iter_values(number * ROWS..(number + 1) * ROWS);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(values)]).unwrap()
    }

    fn environment(memory: usize, disk: u64) -> (Arc<RuntimeEnv>, Arc<dyn MemoryPool>) {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(memory));
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(pool.clone())
            .with_max_temp_directory_size(disk)
            .build_arc()
            .unwrap();
        (environment, pool)
    }

    #[tokio::test]
    async fn rows_come_out_in_their_order_through_memory_and_disk() {
        let (environment, pool) = environment(1 << 20, 1 << 30);
        let schema = batch(0).schema();
        // Three batches fit into the share.
        let (mut writer, mut rows) = spool(environment.clone(), schema, 3 * 8 * ROWS as usize);
        let mut expected = 0;
        for number in 0..40 {
            assert!(writer.push(batch(number)).await.unwrap());
            // Some are taken in between, so that there is room again.
            if number % 5 == 4 {
                for _ in 0..3 {
                    let came = rows.try_next().await.unwrap().unwrap();
                    assert_eq!(came.column(0).as_primitive::<Int64Type>().value(0), expected);
                    expected += came.num_rows() as i64;
                }
            }
        }
        assert!(pool.reserved() <= 3 * 8 * ROWS as usize, "{}", pool.reserved());
        assert!(environment.disk_manager.used_disk_space() > 0);
        writer.finish();
        while let Some(came) = rows.try_next().await.unwrap() {
            assert_eq!(came.column(0).as_primitive::<Int64Type>().value(0), expected);
            expected += came.num_rows() as i64;
        }
        assert_eq!(expected, 40 * ROWS);
        drop(rows);
        assert_eq!((pool.reserved(), environment.disk_manager.used_disk_space()), (0, 0));
    }

    #[tokio::test]
    async fn a_failure_comes_at_once_and_an_end_that_was_not_said_is_one() {
        let (environment, pool) = environment(1 << 20, 1 << 30);
        let (mut writer, mut rows) = spool(environment.clone(), batch(0).schema(), 1 << 20);
        writer.push(batch(0)).await.unwrap();
        writer.fail(DataFusionError::Plan("broken".to_owned()));
        assert!(rows.try_next().await.unwrap_err().to_string().contains("broken"));
        drop(rows);

        let (mut writer, mut rows) = spool(environment.clone(), batch(0).schema(), 1 << 20);
        writer.push(batch(0)).await.unwrap();
        drop(writer);
        assert_eq!(rows.try_next().await.unwrap().unwrap(), batch(0));
        assert!(rows.try_next().await.unwrap_err().to_string().contains("ended before"));

        let (mut writer, rows) = spool(environment, batch(0).schema(), 1 << 20);
        drop(rows);
        assert!(!writer.push(batch(0)).await.unwrap());
        assert!(writer.unless_left(std::future::pending::<()>()).await.is_none());
        drop(writer);
        assert_eq!(pool.reserved(), 0);
    }

    #[tokio::test]
    async fn more_than_the_disk_may_take_is_refused() {
        let (environment, _) = environment(1, 64 << 10);
        let (mut writer, _rows) = spool(environment, batch(0).schema(), 1 << 20);
        let mut refused = None;
        for number in 0..20 {
            if let Err(error) = writer.push(batch(number)).await {
                refused = Some(error.to_string());
                break;
            }
        }
        let refused = refused.expect("160 KB do not fit into 64 KiB");
        assert!(crate::OverSpillLimit::of(&refused).is_some(), "{refused}");
    }
}
