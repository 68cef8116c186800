//! The point-in-time join as it runs.
//!
//! The spine is collected, since it must be grouped by key. Where all fits into the query's memory and the spine's order is wanted, it
//! goes through as one; else it is dealt into lanes by key (`lanes`), which go through one after the other. Rows whose order does
//! not matter leave lane by lane; others wait, spilled where they must, and are put together in the spine's order.

use std::sync::{Arc, PoisonError};

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{concat, concat_batches};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, SpillMetrics};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc::Sender;

use super::exec::{Reports, Side};
use super::lanes::{Dealt, DealtBy, Ordered};
use super::nearest::nearest;
use super::spine_times::micros;
use super::{LookupReport, SpineOrder, fetch, look_up};
use crate::data_files::DataFiles;

/// Of the rows that leave in any order, so many bytes are made at once: enough for every core to be busy, and little enough to
/// stay near them.
const LANE_BYTES: usize = 256 << 20;
/// What a spine row costs besides its columns: its entry, its best candidate, its answer.
const ROW_BYTES: usize = 64;

pub struct Run {
    /// The spine, then the plain right sides.
    pub inputs: Vec<Arc<dyn ExecutionPlan>>,
    pub sides: Vec<Side>,
    pub files: DataFiles,
    pub schema: SchemaRef,
    pub reports: Reports,
    pub metrics: ExecutionPlanMetricsSet,
    pub keeps_order: bool,
    pub context: Arc<TaskContext>,
}

/// Where rows go; it says when nobody reads any more.
type Rows = Sender<Result<RecordBatch>>;

impl Run {
    pub async fn run(self, rows: Rows) -> Result<()> {
        let pool = self.context.memory_pool();
        let reservation = MemoryConsumer::new("PointInTime").with_can_spill(true).register(pool);
        let Some(left) = self.inputs.first() else {
            return internal_err!("a point-in-time join lost its spine");
        };
        let spine = self.collect(left, &reservation).await?;
        let rows_in_all: usize = spine.iter().map(RecordBatch::num_rows).sum();
        MetricBuilder::new(&self.metrics).output_rows(0).add(rows_in_all);
        let lanes = self.lanes(&spine, rows_in_all);
        MetricBuilder::new(&self.metrics).counter("lanes", 0).add(lanes as usize);
        let mut reports: Vec<Option<LookupReport>> = vec![None; self.sides.len()];
        if lanes == 1 {
            let found = self.found(&spine, &reservation, &mut reports).await?;
            self.report(reports);
            self.send(&spine, found, &rows).await?;
            return Ok(());
        }

        let keys = self.dealt_by();
        let mut dealt = Dealt::new(lanes);
        for batch in spine {
            dealt.deal(&batch, keys.as_ref())?;
            reservation.try_shrink(batch.get_array_memory_size().min(reservation.size()))?;
        }
        reservation.try_grow(dealt.memory())?;
        let spills = SpillMetrics::new(&self.metrics, 0);
        let mut ordered = self.keeps_order.then(|| Ordered::new(&self.context, &self.schema, spills));
        for lane in dealt.into_lanes() {
            let held = reservation.size();
            let (places, lane) = lane.rows(&left.schema())?;
            let found = self.found(std::slice::from_ref(&lane), &reservation, &mut reports).await?;
            match &mut ordered {
                None => {
                    if !self.send(std::slice::from_ref(&lane), found, &rows).await? {
                        return Ok(());
                    }
                }
                Some(ordered) => ordered.add(places, self.joined(&lane, &found, 0)?, &reservation)?,
            }
            // What the lookups held is free again; what waits to be ordered has a reservation of its own.
            reservation.try_shrink(reservation.size().saturating_sub(held))?;
        }
        self.report(reports);
        if let Some(ordered) = ordered {
            ordered.emit(rows_in_all, &rows).await?;
        }
        Ok(())
    }

    /// Into how many lanes the spine is dealt; 1 for none.
    fn lanes(&self, spine: &[RecordBatch], rows: usize) -> u32 {
        let mut views = self.sides.iter().filter_map(|side| match side {
            Side::View { lookup, .. } => Some(lookup),
            Side::Plain { .. } => None,
        });
        let Some(first) = views.next() else { return 1 };
        let spine: usize = spine.iter().map(RecordBatch::get_array_memory_size).sum();
        let widths: usize = std::iter::once(first).chain(views).map(fetch::row_bytes).sum();
        let bytes = spine + rows * (ROW_BYTES + widths);
        let budget = match self.context.memory_pool().memory_limit() {
            // Half of it, for what is decoded and what is put together exist at once.
            MemoryLimit::Finite(limit) => limit / 2,
            MemoryLimit::Infinite | MemoryLimit::Unknown => usize::MAX,
        };
        let within = |most: usize| {
            u32::try_from(bytes.div_ceil(most.max(1)))
                .unwrap_or(u32::MAX)
                .clamp(1, MOST_LANES)
                .next_power_of_two()
        };
        if self.keeps_order {
            return within(budget);
        }
        // Lanes that are finer than the files' buckets decode files again, so only memory makes them so.
        within(LANE_BYTES).min(self.buckets()).max(within(budget))
    }

    /// The keys of the view with the most rows: the spine is dealt by them.
    fn dealt_by(&self) -> Option<DealtBy<'_>> {
        let views = self.sides.iter().filter_map(|side| match side {
            Side::View { lookup, keys, .. } => {
                Some((lookup.files.iter().map(|file| file.file.rows).sum::<u64>(), lookup, keys))
            }
            Side::Plain { .. } => None,
        });
        let (_, lookup, keys) = views.max_by_key(|(rows, _, _)| *rows)?;
        let types = lookup.version.keys().iter().map(|key| key.data_type.arrow()).collect();
        Some(DealtBy { keys, types })
    }

    /// How many buckets the largest file of any view is one of.
    fn buckets(&self) -> u32 {
        let files = self.sides.iter().filter_map(|side| match side {
            Side::View { lookup, .. } => Some(lookup.files.iter()),
            Side::Plain { .. } => None,
        });
        files.flatten().max_by_key(|file| file.file.rows).map_or(1, |file| file.file.buckets)
    }

    /// What each side has for these rows, in their order.
    async fn found(
        &self,
        spine: &[RecordBatch],
        reservation: &MemoryReservation,
        reports: &mut [Option<LookupReport>],
    ) -> Result<Vec<ArrayRef>> {
        let mut found: Vec<Vec<ArrayRef>> = vec![Vec::new(); self.sides.len()];
        let mut orders: Vec<(SpineKey, Arc<SpineOrder>)> = Vec::new();
        let mut lookups = Vec::new();
        for (index, side) in self.sides.iter().enumerate() {
            match side {
                Side::View { lookup, keys, at } => {
                    let types = lookup.version.keys().iter().map(|key| key.data_type.arrow()).collect();
                    let wanted = SpineKey { keys: keys.clone(), at: at.clone(), types };
                    let order = match orders.iter().find(|(known, _)| *known == wanted) {
                        Some((_, order)) => order.clone(),
                        None => {
                            let elapsed = MetricBuilder::new(&self.metrics).subset_time("order_time", 0);
                            let _timer = elapsed.timer();
                            let names = lookup.version.keys().iter().map(|key| key.name.to_string());
                            let order = Arc::new(wanted.order(names, spine)?);
                            reservation.try_grow(order.memory())?;
                            orders.push((wanted, order.clone()));
                            order
                        }
                    };
                    let (files, lookup, metrics) = (self.files.clone(), lookup.clone(), self.metrics.clone());
                    lookups.push(async move {
                        Ok::<_, DataFusionError>((index, look_up(&files, &lookup, &order, &metrics).await?))
                    });
                }
                Side::Plain { input, keys, at, time, direction } => {
                    let Some(right) = self.inputs.get(*input) else {
                        return internal_err!("a point-in-time join lost a right side");
                    };
                    let right = concat_batches(&right.schema(), &self.collect(right, reservation).await?)?;
                    found[index] = nearest(spine, &right, keys, at, time, *direction)?;
                }
            }
        }
        // Each works on several files at once; a second one fills the cores where the first has little left to do.
        let mut lookups = stream::iter(lookups).buffer_unordered(2);
        while let Some((index, answer)) = lookups.try_next().await? {
            for column in &answer.columns {
                reservation.try_grow(column.get_array_memory_size())?;
            }
            found[index] = answer.columns;
            match &mut reports[index] {
                Some(report) => report.add(&answer.report),
                none => *none = Some(answer.report),
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    fn report(&self, reports: Vec<Option<LookupReport>>) {
        let reports: Vec<LookupReport> = reports.into_iter().flatten().collect();
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
    async fn send(&self, spine: &[RecordBatch], found: Vec<ArrayRef>, rows: &Rows) -> Result<bool> {
        let most = self.context.session_config().batch_size().max(1);
        let mut first = 0;
        for batch in spine {
            for from in (0..batch.num_rows()).step_by(most) {
                let part = batch.slice(from, most.min(batch.num_rows() - from));
                if rows.send(self.joined(&part, &found, first + from)).await.is_err() {
                    return Ok(false);
                }
            }
            first += batch.num_rows();
        }
        Ok(true)
    }

    /// The batches of an input of one partition, charged to the query's memory; at least one.
    async fn collect(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        reservation: &MemoryReservation,
    ) -> Result<Vec<RecordBatch>> {
        if plan.output_partitioning().partition_count() != 1 {
            return internal_err!("a point-in-time join's input has several partitions");
        }
        let mut stream = plan.execute(0, self.context.clone())?;
        let mut batches = Vec::new();
        while let Some(batch) = stream.try_next().await? {
            reservation.try_grow(batch.get_array_memory_size())?;
            batches.push(batch);
        }
        if batches.is_empty() {
            batches.push(RecordBatch::new_empty(plan.schema()));
        }
        Ok(batches)
    }
}

/// More would make lanes of a few rows.
const MOST_LANES: u32 = 4096;

/// What a spine is ordered by. Views of one entity share the order.
struct SpineKey {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    at: Arc<dyn PhysicalExpr>,
    types: Vec<DataType>,
}

impl PartialEq for SpineKey {
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys && *self.at == *other.at && self.types == other.types
    }
}

impl SpineKey {
    fn order(&self, names: impl Iterator<Item = String>, spine: &[RecordBatch]) -> Result<SpineOrder> {
        let keys = names
            .zip(&self.keys)
            .map(|(name, key)| Ok((name, evaluate(key, spine)?)))
            .collect::<Result<Vec<_>>>()?;
        SpineOrder::new(&keys, &self.types, &micros(&evaluate(&self.at, spine)?)?)
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
