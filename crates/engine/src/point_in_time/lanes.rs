//! A spine in lanes: dealt by key, so that a lane meets only the files of its keys, and put back into order afterwards.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, interleave_record_batch, take, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::SpillManager;
use datafusion::physical_plan::metrics::SpillMetrics;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc::Sender;

use super::cores::{apart, cores};
use super::spine::cast_key;

/// A spine's rows by lane.
pub struct Dealt {
    lanes: Vec<Lane>,
    next: u32,
}

/// What a spine is dealt by: expressions, and the types that files have these keys in.
pub struct DealtBy {
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    pub types: Vec<DataType>,
}

/// Some of a spine's rows, in its order, with their places in it.
#[derive(Clone, Default)]
pub struct Lane {
    batches: Vec<RecordBatch>,
    places: Vec<u32>,
}

impl Dealt {
    /// Deals batches side by side, by the bucket of each row's key, as files are; rows without a key go to the first lane. `lanes` is a power of
    /// two.
    pub async fn new(
        spine: impl Iterator<Item = RecordBatch>,
        by: Option<DealtBy>,
        lanes: u32,
    ) -> Result<Self> {
        let by = by.map(Arc::new);
        let hands = spine.map(|batch| {
            let by = by.clone();
            apart(async move { Ok((batch.num_rows() as u32, deal(&batch, by.as_deref(), lanes)?)) })
        });
        let hands: Vec<_> = hands.collect();
        let mut hands = stream::iter(hands).buffered(cores());
        let mut dealt = Self { lanes: vec![Lane::default(); lanes as usize], next: 0 };
        while let Some((rows, hand)) = hands.try_next().await? {
            for Hand { lane, places, rows } in hand {
                let lane = &mut dealt.lanes[lane];
                lane.places.extend(places.into_iter().map(|row| dealt.next + row));
                lane.batches.push(rows);
            }
            dealt.next += rows;
        }
        Ok(dealt)
    }

    pub fn memory(&self) -> usize {
        let batches = self.lanes.iter().flat_map(|lane| &lane.batches);
        batches.map(RecordBatch::get_array_memory_size).sum::<usize>() + self.next as usize * 4
    }

    /// The lanes that have rows.
    pub fn into_lanes(self) -> impl Iterator<Item = Lane> {
        self.lanes.into_iter().filter(|lane| !lane.places.is_empty())
    }
}

/// What a lane gets of a batch: rows and their places in it.
struct Hand {
    lane: usize,
    places: Vec<u32>,
    rows: RecordBatch,
}

/// The rows of a batch by lane.
fn deal(batch: &RecordBatch, by: Option<&DealtBy>, lanes: u32) -> Result<Vec<Hand>> {
    let rows = batch.num_rows();
    let mut lane_of = vec![0u32; rows];
    if let Some(DealtBy { keys, types }) = by {
        let mut columns = Vec::with_capacity(types.len());
        for (expression, kind) in keys.iter().zip(types) {
            let column = expression.evaluate(batch)?.into_array(rows)?;
            columns.push(cast_key(&expression.to_string(), &column, kind)?);
        }
        let usable: UInt32Array =
            (0..rows as u32).filter(|row| columns.iter().all(|key| key.is_valid(*row as usize))).collect();
        let columns: Vec<ArrayRef> =
            columns.iter().map(|key| take(key, &usable, None)).collect::<Result<_, _>>()?;
        let buckets = feature::key::bucket_of_rows(&columns, lanes)
            .map_err(|error| DataFusionError::Internal(error.to_string()))?;
        for (row, bucket) in usable.values().iter().zip(buckets) {
            lane_of[*row as usize] = bucket;
        }
    }
    let mut dealt: Vec<Vec<u32>> = vec![Vec::new(); lanes as usize];
    for (row, lane) in lane_of.into_iter().enumerate() {
        dealt[lane as usize].push(row as u32);
    }
    let with_rows = dealt.into_iter().enumerate().filter(|(_, places)| !places.is_empty());
    with_rows
        .map(|(lane, places)| {
            let places = UInt32Array::from(places);
            let rows = take_record_batch(batch, &places)?;
            Ok(Hand { lane, places: places.values().to_vec(), rows })
        })
        .collect()
}

impl Lane {
    /// Its rows as one batch, and their places in the spine.
    pub fn rows(self, schema: &SchemaRef) -> Result<(Vec<u32>, RecordBatch)> {
        Ok((self.places, concat_batches(schema, &self.batches)?))
    }
}

/// How many times the bytes of its answer a lane takes while it is at work.
const NEEDED_BY_A_LANE: usize = 3;

/// Answers of lanes that wait until all are there.
pub struct Ordered {
    waiting: Vec<Waiting>,
    reservation: MemoryReservation,
    /// Bytes that may wait in memory.
    most: usize,
    spills: SpillManager,
    batch_rows: usize,
}

enum Waiting {
    Memory(Vec<RecordBatch>),
    Spilled(SendableRecordBatchStream),
}

/// The column of places, after all others.
const PLACE: &str = "_place";

impl Ordered {
    pub fn new(context: &Arc<TaskContext>, schema: &SchemaRef, metrics: SpillMetrics, most: usize) -> Self {
        let mut fields: Vec<Field> = schema.fields().iter().map(|field| Field::clone(field)).collect();
        fields.push(Field::new(PLACE, DataType::UInt32, false));
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        Self {
            waiting: Vec::new(),
            reservation: MemoryConsumer::new("PointInTimeOrder")
                .with_can_spill(true)
                .register(context.memory_pool()),
            most,
            spills: SpillManager::new(context.runtime_env(), metrics, schema),
            batch_rows: context.session_config().batch_size().max(1),
        }
    }

    /// Keeps a lane's rows in memory, or on disk where there is no room.
    pub fn add(&mut self, places: UInt32Array, rows: RecordBatch, lookups: &MemoryReservation) -> Result<()> {
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(places));
        let whole = RecordBatch::try_new(self.spills.schema().clone(), columns)?;
        let bytes = whole.get_array_memory_size();
        let parts: Vec<RecordBatch> = (0..whole.num_rows())
            .step_by(self.batch_rows)
            .map(|from| whole.slice(from, self.batch_rows.min(whole.num_rows() - from)))
            .collect();
        // The lanes that are on their way need several times as much each, and what they read, which is as much as their files are large.
        let needed = bytes.saturating_mul(NEEDED_BY_A_LANE * cores());
        let within = self.reservation.size().saturating_add(bytes) <= self.most;
        let room = lookups.try_grow(needed).is_ok();
        if room {
            lookups.try_shrink(needed)?;
        }
        if room && within && self.reservation.try_grow(bytes).is_ok() {
            self.waiting.push(Waiting::Memory(parts));
            return Ok(());
        }
        if let Some(file) = self.spills.spill_record_batch_and_finish(&parts, "PointInTime")? {
            self.waiting.push(Waiting::Spilled(self.spills.read_spill_as_stream(file, None)?));
        }
        Ok(())
    }

    /// Sends all rows off in the spine's order. Places ascend within a lane, so each lane is read once. False where nobody reads any more.
    pub async fn emit(self, rows: usize, to: &Sender<Result<RecordBatch>>) -> Result<bool> {
        let mut lanes: Vec<Reader> = self.waiting.into_iter().map(Reader::new).collect();
        for first in (0..rows).step_by(self.batch_rows) {
            let end = rows.min(first + self.batch_rows);
            let mut sources = Vec::new();
            let mut places = vec![None; end - first];
            for lane in &mut lanes {
                lane.take_until(end as u32, |batch, rows| {
                    let column = batch.column(batch.num_columns() - 1).as_primitive::<UInt32Type>();
                    for row in rows {
                        places[column.value(row) as usize - first] = Some((sources.len(), row));
                    }
                    sources.push(batch);
                })
                .await?;
            }
            let Some(places) = places.into_iter().collect::<Option<Vec<_>>>() else {
                return internal_err!("a row of the spine was lost between lanes");
            };
            let sources: Vec<&RecordBatch> = sources.iter().collect();
            let mut ordered = interleave_record_batch(&sources, &places)?;
            ordered.remove_column(ordered.num_columns() - 1);
            if to.send(Ok(ordered)).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A lane's answers as they are asked for.
struct Reader {
    batches: BoxStream<'static, Result<RecordBatch>>,
    /// Read and not used up; the first from this row on.
    waiting: VecDeque<RecordBatch>,
    from: usize,
}

impl Reader {
    fn new(waiting: Waiting) -> Self {
        let batches = match waiting {
            Waiting::Memory(batches) => stream::iter(batches.into_iter().map(Ok)).boxed(),
            Waiting::Spilled(stream) => stream.boxed(),
        };
        Self { batches, waiting: VecDeque::new(), from: 0 }
    }

    /// Hands out all rows whose place is before `end`.
    async fn take_until(
        &mut self,
        end: u32,
        mut each: impl FnMut(RecordBatch, std::ops::Range<usize>),
    ) -> Result<()> {
        loop {
            if self.waiting.is_empty() {
                match self.batches.try_next().await? {
                    Some(batch) => self.waiting.push_back(batch),
                    None => return Ok(()),
                }
            }
            let Some(batch) = self.waiting.front() else { return Ok(()) };
            let places = batch.column(batch.num_columns() - 1).as_primitive::<UInt32Type>();
            let until = self.from + places.values()[self.from..].partition_point(|place| *place < end);
            if until > self.from {
                each(batch.clone(), self.from..until);
            }
            if until < batch.num_rows() {
                self.from = until;
                return Ok(());
            }
            self.waiting.pop_front();
            self.from = 0;
        }
    }
}
