//! The point-in-time join as it runs.
//!
//! The spine is collected, since it must be grouped by key, or parts of it one after the other where it is more than memory holds
//! (`spine_parts`). It is dealt into lanes by key (`lanes`), as files are into buckets: a lane meets only the files of its keys. Lanes go through side by side, a core each. Rows whose order does not matter leave lane by lane, in the
//! order of the lanes. Where order matters, all lanes' values are put straight into their places, if they fit into the query's memory;
//! else each lane waits, spilled where it must, and all are put together in the spine's order. Right sides that are no feature views are read
//! first (`plain_side`), and met with all rows of a part before these are dealt.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, SpillMetrics};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, SpillManager};
use feature::policy::Mask;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc::Sender;

use super::cores::{apart, cores};
use super::exec::{Reports, Side};
use super::fetch::{self, Gathered};
use super::lanes::{Dealt, DealtBy, Ordered};
use super::meters::Meters;
use super::plain_side::PlainSide;
use super::spine_parts::{Part, SpineParts, WHOLE};
use super::spine_times::micros;
use super::working_memory::WorkingMemory;
use super::{Found, Lookup, LookupReport, NullReason, Output, SpineOrder, gather};
use crate::access::{Guard, VisibleRows};
use crate::data_files::DataFiles;
use crate::row_bytes::{bytes_of, bytes_of_column};

/// Of the memory limit, the share that a right side may take that is no feature view; it waits on disk beyond.
const PLAIN: usize = 8;
/// Of the memory limit, the share that lanes may take that wait for their place; they wait on disk beyond.
const ORDERED: usize = 4;
/// Of the rows that leave in any order, a lane makes so many bytes at once: few enough to stay near their core.
const LANE_BYTES: usize = 64 << 20;
/// What a spine row costs besides its columns: its entry, its best candidate, its answer.
const ROW_BYTES: usize = 64;
/// A lane of fewer rows is not worth its while.
const LEAST_LANE_ROWS: usize = 4096;
/// More would make lanes of a few rows.
const MOST_LANES: u32 = 4096;

pub struct Run {
    /// The spine, then the plain right sides.
    pub inputs: Vec<Arc<dyn ExecutionPlan>>,
    pub sides: Vec<Side>,
    pub files: DataFiles,
    pub schema: SchemaRef,
    pub reports: Reports,
    pub metrics: ExecutionPlanMetricsSet,
    pub meters: Meters,
    pub keeps_order: bool,
    /// Rows of the spine, by side, whose keys the asker may not see.
    pub hidden: Vec<AtomicU64>,
    pub context: Arc<TaskContext>,
}

/// Where rows go; it says when nobody reads any more.
type Rows = Sender<Result<RecordBatch>>;

/// Into how many lanes a spine is dealt, and how they come together.
struct Dealing {
    lanes: u32,
    /// All rows are put together in memory, in the spine's order.
    together: bool,
}

impl Run {
    pub async fn run(self, rows: Rows) -> Result<()> {
        let reservation = self.reservation();
        let Some(left) = self.inputs.first().cloned() else {
            return internal_err!("a point-in-time join lost its spine");
        };
        let mut spine = SpineParts::new(self.rows_of(&left)?, reservation.new_empty(), self.memory_limit());
        let whole = spine.whole().await?;
        let plain = self.plain_sides(&reservation).await?;
        let of_plain: usize = plain.iter().flatten().map(PlainSide::row_bytes).sum();
        let beside = ROW_BYTES + self.answer_bytes() + of_plain;
        let most = self.memory_limit() / WHOLE;
        let run = Arc::new(self);
        let mut reports: Option<Vec<LookupReport>> = None;
        let mut next = match whole {
            Some(whole) if whole.rows().saturating_mul(of_plain) <= most => Some(whole),
            Some(whole) => {
                spine.give_back(whole);
                spine.next(beside).await?
            }
            None => spine.next(beside).await?,
        };
        let parts = MetricBuilder::new(&run.metrics).counter("spine_parts", 0);
        while let Some(part) = next {
            parts.add(1);
            let Some(found) = run.clone().part(part, &plain, &rows).await? else { return Ok(()) };
            match &mut reports {
                None => reports = Some(found),
                Some(all) => all.iter_mut().zip(&found).for_each(|(all, found)| all.add(found)),
            }
            next = spine.next(beside).await?;
        }
        run.report(reports.unwrap_or_default());
        Ok(())
    }

    /// Looks some rows up and sends them off. What each view reports; none where nobody reads any more.
    async fn part(
        self: Arc<Self>,
        part: Part,
        plain: &[Option<PlainSide>],
        rows: &Rows,
    ) -> Result<Option<Vec<LookupReport>>> {
        let rows_in_all = part.rows();
        let Part { batches, held } = part;
        MetricBuilder::new(&self.metrics).output_rows(0).add(rows_in_all);
        let plain = self.plain_columns(&batches, plain, &held).await?;
        let dealing = self.dealing(&batches, rows_in_all);
        MetricBuilder::new(&self.metrics).counter("lanes", 0).add(dealing.lanes as usize);
        if dealing.together {
            self.all_together(batches, plain, dealing.lanes, &held, rows).await
        } else {
            self.lane_by_lane(batches, plain, dealing.lanes, &held, rows).await
        }
    }

    /// Every lane's values into their places in the spine's order.
    async fn all_together(
        self: Arc<Self>,
        spine: Vec<RecordBatch>,
        plain: PlainColumns,
        lanes: u32,
        reservation: &MemoryReservation,
        rows: &Rows,
    ) -> Result<Option<Vec<LookupReport>>> {
        let mut gathered: Vec<Vec<Gathered>> = self.sides.iter().map(|_| Vec::new()).collect();
        if lanes == 1 {
            let found = self.gather(&spine, None, reservation, cores()).await?;
            for (side, found) in gathered.iter_mut().zip(found) {
                side.extend(found);
            }
        } else {
            let dealt = self.deal(spine.iter().cloned(), lanes, reservation).await?;
            let mut found = self.clone().in_lanes(dealt, |run, places, lane, held| async move {
                let places = Some(Arc::new(places));
                let found = run.gather(std::slice::from_ref(&lane), places, &held, 1).await?;
                Ok((found, held))
            });
            while let Some((sides, held)) = found.try_next().await? {
                reservation.try_grow(held.free())?;
                for (side, found) in gathered.iter_mut().zip(sides) {
                    side.extend(found);
                }
            }
        }
        let rows_in_all = spine.iter().map(RecordBatch::num_rows).sum();
        let mut columns = Vec::new();
        let mut reports = Vec::new();
        for ((side, parts), of_plain) in self.sides.iter().zip(gathered).zip(plain) {
            match side {
                Side::View { lookup, keys, .. } => {
                    let found = self.assembled(lookup, keys, &spine, parts, rows_in_all, reservation).await?;
                    columns.extend(found.columns);
                    reports.push(found.report);
                }
                Side::Plain { .. } => columns.extend(of_plain),
            }
        }
        Ok(self.send(&spine, &columns, rows).await?.then_some(reports))
    }

    /// Lane by lane, in the order of the lanes; where the spine's order is wanted, the lanes wait until all are there.
    async fn lane_by_lane(
        self: Arc<Self>,
        spine: Vec<RecordBatch>,
        plain: PlainColumns,
        lanes: u32,
        reservation: &MemoryReservation,
        rows: &Rows,
    ) -> Result<Option<Vec<LookupReport>>> {
        let rows_in_all = spine.iter().map(RecordBatch::num_rows).sum();
        // Batches are let go as they are dealt.
        reservation.try_shrink(spine.iter().map(bytes_of).sum::<usize>().min(reservation.size()))?;
        let dealt = self.deal(spine.into_iter(), lanes, reservation).await?;
        let spills = SpillMetrics::new(&self.metrics, 0);
        let mut ordered = self
            .keeps_order
            .then(|| Ordered::new(&self.context, &self.schema, spills, self.memory_limit() / ORDERED));
        let mut reports: Vec<Option<LookupReport>> = vec![None; self.sides.len()];
        let plain = Arc::new(plain);
        let mut done = self.clone().in_lanes(dealt, move |run, places, lane, held| {
            let plain = plain.clone();
            async move {
                let places = UInt32Array::from(places);
                let (columns, reports) =
                    run.lane_columns(std::slice::from_ref(&lane), &places, &plain, &held).await?;
                Ok((places, lane, columns, reports, held))
            }
        });
        while let Some((places, lane, columns, found, held)) = done.try_next().await? {
            for (total, found) in reports.iter_mut().zip(found) {
                match (total, found) {
                    (Some(total), Some(found)) => total.add(&found),
                    (none, found) => *none = found,
                }
            }
            match &mut ordered {
                None => {
                    if !self.send(std::slice::from_ref(&lane), &columns, rows).await? {
                        return Ok(None);
                    }
                }
                Some(ordered) => {
                    let joined = self.joined(&lane, &columns, 0)?;
                    // It has a reservation of its own while it waits.
                    held.free();
                    ordered.add(places, joined, reservation)?;
                }
            }
        }
        if let Some(ordered) = ordered
            && !ordered.emit(rows_in_all, rows).await?
        {
            return Ok(None);
        }
        Ok(Some(reports.into_iter().flatten().collect()))
    }

    /// Does work for each lane: its places in the spine, its rows, and what it may charge memory to. A core a lane; in the order of the
    /// lanes.
    fn in_lanes<T, F>(
        self: Arc<Self>,
        dealt: Dealt,
        work: impl Fn(Arc<Self>, Vec<u32>, RecordBatch, MemoryReservation) -> F + Clone + Send + 'static,
    ) -> impl Stream<Item = Result<T>> + Unpin
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send,
    {
        let schema = self.inputs[0].schema();
        let lanes = dealt.into_lanes().map(move |lane| {
            let (run, schema, work) = (self.clone(), schema.clone(), work.clone());
            apart(async move {
                let held = run.reservation();
                let (places, lane) = lane.rows(&schema)?;
                work(run, places, lane, held).await
            })
        });
        stream::iter(lanes.collect::<Vec<_>>()).buffered(cores())
    }

    /// What was gathered from a view, in the order of so many rows, and charged.
    async fn assembled(
        &self,
        lookup: &Lookup,
        keys: &[Arc<dyn PhysicalExpr>],
        spine: &[RecordBatch],
        parts: Vec<Gathered>,
        rows: usize,
        reservation: &MemoryReservation,
    ) -> Result<Found> {
        let _timer = self.meters.assemble_time.timer();
        let mut found = fetch::assemble(lookup, parts, rows).await?;
        if let Some(guard) = &lookup.guard {
            say_hidden(lookup, keys, spine, &mut found)?;
            veil(lookup, guard, &mut found, rows);
        }
        for column in &found.columns {
            reservation.try_grow(column.get_array_memory_size())?;
        }
        Ok(found)
    }

    fn reservation(&self) -> MemoryReservation {
        let pool = self.context.memory_pool();
        MemoryConsumer::new("PointInTime").with_can_spill(true).register(pool)
    }

    /// The plain right sides, by side.
    async fn plain_sides(&self, reservation: &MemoryReservation) -> Result<Vec<Option<PlainSide>>> {
        let mut plain = Vec::with_capacity(self.sides.len());
        for side in &self.sides {
            plain.push(match side {
                Side::View { .. } => None,
                Side::Plain { input, .. } => {
                    let Some(right) = self.inputs.get(*input) else {
                        return internal_err!("a point-in-time join lost a right side");
                    };
                    let spills = SpillMetrics::new(&self.metrics, 0);
                    let spills = SpillManager::new(self.context.runtime_env(), spills, right.schema());
                    let (rows, held) = (self.rows_of(right)?, reservation.new_empty());
                    Some(PlainSide::read(rows, spills, held, self.memory_limit() / PLAIN).await?)
                }
            });
        }
        Ok(plain)
    }

    /// What the plain right sides have for some rows of the spine, charged.
    async fn plain_columns(
        &self,
        spine: &[RecordBatch],
        plain: &[Option<PlainSide>],
        reservation: &MemoryReservation,
    ) -> Result<PlainColumns> {
        let memory = WorkingMemory::beside(reservation);
        let mut columns = Vec::with_capacity(plain.len());
        for (side, right) in self.sides.iter().zip(plain) {
            let Some(right) = right else {
                columns.push(Vec::new());
                continue;
            };
            let _timer = self.meters.match_time.timer();
            let found = right.columns(spine, side, &memory).await?;
            reservation.try_grow(found.iter().map(|column| bytes_of_column(column)).sum())?;
            columns.push(found);
        }
        Ok(columns)
    }

    fn dealing(&self, spine: &[RecordBatch], rows: usize) -> Dealing {
        let mut views = self.sides.iter().filter_map(|side| match side {
            Side::View { lookup, .. } => Some(lookup),
            Side::Plain { .. } => None,
        });
        if views.next().is_none() {
            return Dealing { lanes: 1, together: true };
        }
        let spine: usize = spine.iter().map(bytes_of).sum();
        let bytes = spine + rows * (ROW_BYTES + self.answer_bytes());
        let limit = self.memory_limit();
        let within = |most: usize| {
            u32::try_from(bytes.div_ceil(most.max(1)))
                .unwrap_or(u32::MAX)
                .clamp(1, MOST_LANES)
                .next_power_of_two()
        };
        // Lanes that are finer than the files' buckets decode files again, so only memory makes them so.
        let worthwhile = u32::try_from(rows / LEAST_LANE_ROWS).unwrap_or(u32::MAX).max(1);
        let natural = self.buckets().min(1 << worthwhile.ilog2());
        // What was gathered and what is put together exist at once.
        if self.keeps_order && bytes <= limit / 3 {
            return Dealing { lanes: natural.min(MOST_LANES), together: true };
        }
        let needed = within(limit / (8 * cores()));
        let lanes = natural.max(needed).min(MOST_LANES);
        // Many small lanes of one file would decode it for each.
        let lanes = if self.keeps_order { lanes } else { lanes.max(within(LANE_BYTES).min(self.buckets())) };
        Dealing { lanes, together: lanes == 1 }
    }

    /// Bytes that all views' values take for a row.
    fn answer_bytes(&self) -> usize {
        let views = self.sides.iter().filter_map(|side| match side {
            Side::View { lookup, .. } => Some(fetch::row_bytes(lookup)),
            Side::Plain { .. } => None,
        });
        views.sum()
    }

    fn memory_limit(&self) -> usize {
        match self.context.memory_pool().memory_limit() {
            MemoryLimit::Finite(limit) => limit,
            MemoryLimit::Infinite | MemoryLimit::Unknown => usize::MAX,
        }
    }

    /// Deals the spine.
    async fn deal(
        &self,
        spine: impl Iterator<Item = RecordBatch>,
        lanes: u32,
        reservation: &MemoryReservation,
    ) -> Result<Dealt> {
        let dealt = Dealt::new(spine, self.dealt_by(), lanes).await?;
        reservation.try_grow(dealt.memory())?;
        Ok(dealt)
    }

    /// The keys of the view with the most rows: the spine is dealt by them.
    fn dealt_by(&self) -> Option<DealtBy> {
        let views = self.sides.iter().filter_map(|side| match side {
            Side::View { lookup, keys, .. } => {
                Some((lookup.files.iter().map(|file| file.file.rows).sum::<u64>(), lookup, keys))
            }
            Side::Plain { .. } => None,
        });
        let (_, lookup, keys) = views.max_by_key(|(rows, _, _)| *rows)?;
        let types = lookup.version.keys().iter().map(|key| key.data_type.arrow()).collect();
        Some(DealtBy { keys: keys.clone(), types })
    }

    /// How many buckets the largest file of any view is one of.
    fn buckets(&self) -> u32 {
        let files = self.sides.iter().filter_map(|side| match side {
            Side::View { lookup, .. } => Some(lookup.files.iter()),
            Side::Plain { .. } => None,
        });
        files.flatten().max_by_key(|file| file.file.rows).map_or(1, |file| file.file.buckets)
    }

    /// The order of some rows of the spine, by side; none for plain sides. Views of one entity share it.
    async fn orders(
        &self,
        spine: &[RecordBatch],
        reservation: &MemoryReservation,
    ) -> Result<Vec<Option<Arc<SpineOrder>>>> {
        let _timer = self.meters.order_time.timer();
        let mut known: Vec<(SpineKey, Arc<SpineOrder>, u64)> = Vec::new();
        let mut orders = Vec::with_capacity(self.sides.len());
        for (side, counted) in self.sides.iter().zip(&self.hidden) {
            let Side::View { lookup, keys, at } = side else {
                orders.push(None);
                continue;
            };
            let types = lookup.version.keys().iter().map(|key| key.data_type.arrow()).collect();
            let visible = lookup.visible().cloned();
            let wanted = SpineKey { keys: keys.clone(), at: at.clone(), types, visible };
            if let Some((_, order, hidden)) = known.iter().find(|(known, _, _)| *known == wanted) {
                counted.fetch_add(*hidden, Ordering::Relaxed);
                orders.push(Some(order.clone()));
                continue;
            }
            let names = lookup.version.keys().iter().map(|key| key.name.to_string()).collect();
            let (order, hidden) = wanted.order(names, spine).await?;
            let order = Arc::new(order);
            counted.fetch_add(hidden, Ordering::Relaxed);
            reservation.try_grow(order.memory())?;
            known.push((wanted, order.clone(), hidden));
            orders.push(Some(order));
        }
        Ok(orders)
    }

    /// What each view has for some rows of the spine, not yet in their order; none for plain sides. `places` are the rows' places in
    /// the spine, where they are not the whole of it.
    async fn gather(
        &self,
        spine: &[RecordBatch],
        places: Option<Arc<Vec<u32>>>,
        reservation: &MemoryReservation,
        at_once: usize,
    ) -> Result<Vec<Option<Gathered>>> {
        let orders = self.orders(spine, reservation).await?;
        let rows: usize = spine.iter().map(RecordBatch::num_rows).sum();
        let shares = (rows / LEAST_LANE_ROWS).clamp(1, at_once);
        let memory = WorkingMemory::beside(reservation);
        let mut lookups = Vec::new();
        for (index, (side, order)) in self.sides.iter().zip(orders).enumerate() {
            let (Side::View { lookup, .. }, Some(order)) = (side, order) else { continue };
            let (files, lookup, meters) = (self.files.clone(), lookup.clone(), self.meters.clone());
            let (places, memory) = (places.clone(), memory.clone());
            lookups.push(async move {
                let gathered = gather(&files, &lookup, &order, places, &meters, &memory, shares).await?;
                Ok::<_, DataFusionError>((index, gathered))
            });
        }
        let mut found: Vec<Option<Gathered>> = self.sides.iter().map(|_| None).collect();
        // Each works on several files at once; a second one fills the cores where the first has little left to do.
        let mut lookups = stream::iter(lookups).buffer_unordered(at_once);
        while let Some((index, gathered)) = lookups.try_next().await? {
            reservation.try_grow(gathered.memory())?;
            found[index] = Some(gathered);
        }
        Ok(found)
    }

    /// A lane's columns in the order of its rows, and what each view reports. View by view, so that little waits to be put in order.
    async fn lane_columns(
        &self,
        lane: &[RecordBatch],
        places: &UInt32Array,
        plain: &[Vec<ArrayRef>],
        reservation: &MemoryReservation,
    ) -> Result<(Vec<ArrayRef>, Vec<Option<LookupReport>>)> {
        let rows = lane.iter().map(RecordBatch::num_rows).sum();
        let orders = self.orders(lane, reservation).await?;
        let memory = WorkingMemory::beside(reservation);
        let mut columns = Vec::new();
        let mut reports = Vec::with_capacity(self.sides.len());
        for ((side, order), of_plain) in self.sides.iter().zip(orders).zip(plain) {
            let (Side::View { lookup, keys, .. }, Some(order)) = (side, order) else {
                for column in of_plain {
                    columns.push(take(column, places, None)?);
                }
                reports.push(None);
                continue;
            };
            let gathered = gather(&self.files, lookup, &order, None, &self.meters, &memory, 1).await?;
            let waiting = gathered.memory();
            reservation.try_grow(waiting)?;
            let found = self.assembled(lookup, keys, lane, vec![gathered], rows, reservation).await?;
            reservation.try_shrink(waiting)?;
            columns.extend(found.columns);
            reports.push(Some(found.report));
        }
        Ok((columns, reports))
    }

    fn report(&self, mut reports: Vec<LookupReport>) {
        let views = self.sides.iter().zip(&self.hidden);
        let views = views.filter(|(side, _)| matches!(side, Side::View { .. }));
        for (report, (_, hidden)) in reports.iter_mut().zip(views) {
            tell_hidden(report, hidden.load(Ordering::Relaxed));
        }
        let matched: u64 = reports.iter().map(|report| report.matched).sum();
        MetricBuilder::new(&self.metrics).counter("rows_matched", 0).add(matched as usize);
        *self.reports.lock().unwrap_or_else(PoisonError::into_inner) = reports;
    }

    /// Rows of the spine and what was found for them, from a row on.
    fn joined(&self, spine: &RecordBatch, found: &[ArrayRef], first: usize) -> Result<RecordBatch> {
        let rows = spine.num_rows();
        let mut columns = spine.columns().to_vec();
        columns.extend(found.iter().map(|column| column.slice(first, rows)));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }

    /// Sends rows off. False where nobody reads any more.
    async fn send(&self, spine: &[RecordBatch], found: &[ArrayRef], rows: &Rows) -> Result<bool> {
        let most = self.context.session_config().batch_size().max(1);
        let mut first = 0;
        for batch in spine {
            for from in (0..batch.num_rows()).step_by(most) {
                let part = batch.slice(from, most.min(batch.num_rows() - from));
                if rows.send(self.joined(&part, found, first + from)).await.is_err() {
                    return Ok(false);
                }
            }
            first += batch.num_rows();
        }
        Ok(true)
    }

    /// An input of one partition, as it runs.
    fn rows_of(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<SendableRecordBatchStream> {
        if plan.output_partitioning().partition_count() != 1 {
            return internal_err!("a point-in-time join's input has several partitions");
        }
        plan.execute(0, self.context.clone())
    }
}

/// By side, the columns of a plain right side for some rows of the spine; none for views.
type PlainColumns = Vec<Vec<ArrayRef>>;

/// What a spine is ordered by. Views of one entity share the order.
struct SpineKey {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    at: Arc<dyn PhysicalExpr>,
    types: Vec<DataType>,
    visible: Option<Arc<VisibleRows>>,
}

impl PartialEq for SpineKey {
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys
            && *self.at == *other.at
            && self.types == other.types
            && self.visible == other.visible
    }
}

impl SpineKey {
    /// The order, and how many rows of the spine stand in no group because the asker may not see what is known of their keys.
    async fn order(&self, names: Vec<String>, spine: &[RecordBatch]) -> Result<(SpineOrder, u64)> {
        let mut keys = self.keys.iter().map(|key| evaluate(key, spine)).collect::<Result<Vec<_>>>()?;
        let hidden = match &self.visible {
            Some(visible) => visible.hide(&mut keys)?,
            None => 0,
        };
        let keys: Vec<(String, ArrayRef)> = names.into_iter().zip(keys).collect();
        let at = micros(&evaluate(&self.at, spine)?)?;
        Ok((SpineOrder::new(&keys, &self.types, &at).await?, hidden))
    }
}

/// Masks what was found, and tells of masked features no more than that they are hidden.
fn veil(lookup: &Lookup, guard: &Guard, found: &mut Found, rows: usize) {
    for (output, column) in lookup.outputs.iter().zip(&mut found.columns) {
        if let Output::NullReason(feature) = output
            && guard.mask(*feature) == Some(Mask::Null)
        {
            let hidden = std::iter::repeat_n(Some(NullReason::Hidden.as_str()), rows);
            *column = Arc::new(hidden.collect::<StringArray>());
        }
        let Output::Feature(feature) = output else { continue };
        let Some(mask) = guard.mask(*feature) else { continue };
        *column = guard.shown(*feature, column.clone());
        let Some(name) = lookup.version.definition.features.get(*feature).map(|known| known.name.as_str())
        else {
            continue;
        };
        for report in found.report.features.iter_mut().filter(|report| report.name == name) {
            if mask == Mask::Null {
                report.nulls = BTreeMap::from([(NullReason::Hidden, rows as u64)]);
                report.defaulted = 0;
            }
        }
    }
}

/// The same of single rows, where these say why they found nothing.
fn say_hidden(
    lookup: &Lookup,
    keys: &[Arc<dyn PhysicalExpr>],
    spine: &[RecordBatch],
    found: &mut Found,
) -> Result<()> {
    let says_why = |output: &Output| matches!(output, Output::NullReason(_));
    let Some(visible) = lookup.visible().filter(|_| lookup.outputs.iter().any(says_why)) else {
        return Ok(());
    };
    let keys = keys.iter().map(|key| evaluate(key, spine)).collect::<Result<Vec<_>>>()?;
    let seen = visible.sees(&keys)?;
    let hidden = |row: usize| !seen.value(row) && keys.iter().all(|key| key.is_valid(row));
    for (output, column) in lookup.outputs.iter().zip(&mut found.columns) {
        let Some(texts) = column.as_string_opt::<i32>().filter(|_| says_why(output)) else { continue };
        let said = texts.iter().enumerate().map(|(row, text)| match text {
            Some(text) if text == NullReason::NullKeyOrTime.as_str() && hidden(row) => {
                Some(NullReason::Hidden.as_str())
            }
            other => other,
        });
        *column = Arc::new(said.collect::<StringArray>());
    }
    Ok(())
}

/// Rows whose keys were hidden found nothing for that reason, and not because they had none.
fn tell_hidden(report: &mut LookupReport, hidden: u64) {
    for feature in report.features.iter_mut().filter(|_| hidden > 0) {
        let Some(nulls) = feature.nulls.get_mut(&NullReason::NullKeyOrTime) else { continue };
        let moved = hidden.min(*nulls);
        *nulls -= moved;
        if *nulls == 0 {
            feature.nulls.remove(&NullReason::NullKeyOrTime);
        }
        *feature.nulls.entry(NullReason::Hidden).or_default() += moved;
    }
}

/// An expression over all rows of some batches.
pub fn evaluate(expression: &Arc<dyn PhysicalExpr>, batches: &[RecordBatch]) -> Result<ArrayRef> {
    let mut parts = Vec::with_capacity(batches.len());
    for batch in batches {
        parts.push(expression.evaluate(batch)?.into_array(batch.num_rows())?);
    }
    match parts.as_slice() {
        [whole] => Ok(whole.clone()),
        [] => internal_err!("a point-in-time join has no batches to evaluate `{expression}` over"),
        several => Ok(concat(&several.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>())?),
    }
}
