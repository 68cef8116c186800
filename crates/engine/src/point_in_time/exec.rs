//! The point-in-time join as it runs.
//!
//! The spine is collected, since it must be sorted by key and time; its memory is charged to the query's pool. Each
//! view is then looked up on its own task, and the answer leaves in spine order. The inputs are one partition each.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{cast, concat, concat_batches, take};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, exec_err, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, Distribution, ExecutionPlan,
    ExecutionPlanProperties, InputDistributionRequirements, Partitioning, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::{Cut, Direction, Lookup, LookupReport, SpineOrder, in_memory, look_up};
use crate::data_files::DataFiles;

/// Expressions of the left and of the right side that must be equal.
type KeyPair = (Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>);

/// A right side, compiled.
#[derive(Clone, Debug)]
pub enum Side {
    View {
        lookup: Lookup,
        keys: Vec<Arc<dyn PhysicalExpr>>,
        at: Arc<dyn PhysicalExpr>,
    },
    /// `input` is the position of the right side among the children.
    Plain {
        input: usize,
        keys: Vec<KeyPair>,
        at: Arc<dyn PhysicalExpr>,
        time: Arc<dyn PhysicalExpr>,
        direction: Direction,
    },
}

#[derive(Debug)]
pub struct PointInTimeExec {
    /// The spine, then the plain right sides.
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    sides: Vec<Side>,
    files: DataFiles,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    reports: Arc<Mutex<Vec<LookupReport>>>,
}

impl PointInTimeExec {
    pub fn new(
        inputs: Vec<Arc<dyn ExecutionPlan>>,
        sides: Vec<Side>,
        files: DataFiles,
        schema: SchemaRef,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self {
            inputs,
            sides,
            files,
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
            reports: Arc::default(),
        }
    }

    /// What each feature view answered, in the order of the views; empty until the operator has run.
    pub fn reports(&self) -> Vec<LookupReport> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl DisplayAs for PointInTimeExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PointInTimeExec: ")?;
        for (index, side) in self.sides.iter().enumerate() {
            if index > 0 {
                write!(f, "; ")?;
            }
            match side {
                Side::View { lookup, at, .. } => {
                    write!(
                        f,
                        "{}, match=[{at} {} valid_at], columns={}",
                        lookup.version.label(),
                        lookup.direction.operator(),
                        lookup.outputs.len()
                    )?;
                    match lookup.cut {
                        Cut::Row => write!(f, ", known_at<={at}")?,
                        Cut::Instant(instant) => write!(f, ", known_at<={instant}")?,
                        Cut::None => write!(f, ", known_at unlimited")?,
                    }
                    if let Some(ttl) = lookup.ttl {
                        write!(f, ", ttl={ttl}")?;
                    }
                    write!(f, ", files={}", lookup.files.len())?;
                }
                Side::Plain { at, time, direction, keys, .. } => {
                    let keys: Vec<String> =
                        keys.iter().map(|(left, right)| format!("{left} = {right}")).collect();
                    write!(
                        f,
                        "nearest, on=[{}], match=[{at} {} {time}]",
                        keys.join(", "),
                        direction.operator()
                    )?;
                }
            }
        }
        Ok(())
    }
}

impl ExecutionPlan for PointInTimeExec {
    fn name(&self) -> &str {
        "PointInTimeExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition; self.inputs.len()])
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        (0..self.inputs.len()).map(|input| input == 0).collect()
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.inputs.len()]
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for side in &self.sides {
            let expressions: Vec<&Arc<dyn PhysicalExpr>> = match side {
                Side::View { keys, at, .. } => keys.iter().chain([at]).collect(),
                Side::Plain { keys, at, time, .. } => {
                    keys.iter().flat_map(|(left, right)| [left, right]).chain([at, time]).collect()
                }
            };
            for expression in expressions {
                if visit(expression)? == TreeNodeRecursion::Stop {
                    return Ok(TreeNodeRecursion::Stop);
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.len() != self.inputs.len() {
            return internal_err!("a point-in-time join has {} inputs", self.inputs.len());
        }
        let mut replaced = Self::new(children, self.sides.clone(), self.files.clone(), self.schema.clone());
        // Whoever holds the plan as it was must still find the report.
        replaced.reports = self.reports.clone();
        Ok(Arc::new(replaced))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("a point-in-time join has one partition, not {partition}");
        }
        let run = Run {
            inputs: self.inputs.clone(),
            sides: self.sides.clone(),
            files: self.files.clone(),
            schema: self.schema.clone(),
            reports: self.reports.clone(),
            metrics: self.metrics.clone(),
        };
        let batches = stream::once(async move { run.run(context).await })
            .map_ok(|batches| stream::iter(batches.into_iter().map(Ok)))
            .try_flatten()
            .boxed();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches)))
    }
}

struct Run {
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    sides: Vec<Side>,
    files: DataFiles,
    schema: SchemaRef,
    reports: Arc<Mutex<Vec<LookupReport>>>,
    metrics: ExecutionPlanMetricsSet,
}

impl Run {
    async fn run(self, context: Arc<TaskContext>) -> Result<Vec<RecordBatch>> {
        let reservation = MemoryConsumer::new("PointInTime").register(context.memory_pool());
        let Some(left) = self.inputs.first() else {
            return internal_err!("a point-in-time join lost its spine");
        };
        let mut spine = collect_within(left, &context, &reservation).await?;
        if spine.is_empty() {
            spine.push(RecordBatch::new_empty(left.schema()));
        }
        let rows: usize = spine.iter().map(RecordBatch::num_rows).sum();

        let mut found: Vec<Vec<ArrayRef>> = vec![Vec::new(); self.sides.len()];
        let mut reports: Vec<Option<LookupReport>> = vec![None; self.sides.len()];
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
                            let names = lookup.version.keys().iter().map(|key| key.name.to_string());
                            let order = Arc::new(wanted.order(names, &spine)?);
                            reservation.try_grow(order.memory())?;
                            orders.push((wanted, order.clone()));
                            order
                        }
                    };
                    let (files, lookup) = (self.files.clone(), lookup.clone());
                    let elapsed = MetricBuilder::new(&self.metrics).subset_time("lookup_time", index);
                    lookups.push(async move {
                        let _timer = elapsed.timer();
                        Ok::<_, DataFusionError>((index, look_up(&files, &lookup, &order).await?))
                    });
                }
                Side::Plain { input, keys, at, time, direction } => {
                    let Some(right) = self.inputs.get(*input) else {
                        return internal_err!("a point-in-time join lost a right side");
                    };
                    let schema = right.schema();
                    let right = collect_within(right, &context, &reservation).await?;
                    let right = concat_batches(&schema, &right)?;
                    found[index] = nearest(&spine, &right, keys, at, time, *direction)?;
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
            reports[index] = Some(answer.report);
        }
        drop(lookups);
        let reports: Vec<LookupReport> = reports.into_iter().flatten().collect();
        let matched: u64 = reports.iter().map(|report| report.matched).sum();
        MetricBuilder::new(&self.metrics).counter("rows_matched", 0).add(matched as usize);
        MetricBuilder::new(&self.metrics).output_rows(0).add(rows);
        *self.reports.lock().unwrap_or_else(PoisonError::into_inner) = reports;

        let found: Vec<ArrayRef> = found.into_iter().flatten().collect();
        let most = context.session_config().batch_size().max(1);
        let mut answer = Vec::new();
        let mut first = 0;
        for batch in spine {
            for from in (0..batch.num_rows()).step_by(most) {
                let count = most.min(batch.num_rows() - from);
                let mut columns = batch.slice(from, count).columns().to_vec();
                columns.extend(found.iter().map(|column| column.slice(first + from, count)));
                let options = RecordBatchOptions::new().with_row_count(Some(count));
                answer.push(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?);
            }
            first += batch.num_rows();
        }
        Ok(answer)
    }
}

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

/// The batches of an input of one partition, charged to the query's memory.
async fn collect_within(
    plan: &Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
    reservation: &MemoryReservation,
) -> Result<Vec<RecordBatch>> {
    if plan.output_partitioning().partition_count() != 1 {
        return internal_err!("a point-in-time join's input has several partitions");
    }
    let mut stream = plan.execute(0, context.clone())?;
    let mut batches = Vec::new();
    while let Some(batch) = stream.try_next().await? {
        reservation.try_grow(batch.get_array_memory_size())?;
        batches.push(batch);
    }
    Ok(batches)
}

/// An expression over all rows of some batches.
fn evaluate(expression: &Arc<dyn PhysicalExpr>, batches: &[RecordBatch]) -> Result<ArrayRef> {
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

/// Times as microseconds. Finer times are floored, which is safe for a spine: an earlier time knows less. A time
/// without a zone is UTC, the zone of every session.
fn micros(times: &ArrayRef) -> Result<Int64Array> {
    let floor = |per_micro: i64| -> Result<Int64Array> {
        let numbers = cast(times, &DataType::Int64)?;
        let numbers = numbers.as_primitive::<Int64Type>();
        Ok(numbers.unary(|number| number.div_euclid(per_micro)))
    };
    let scale = |micros: i64| -> Result<Int64Array> {
        let numbers = cast(times, &DataType::Int64)?;
        let numbers = numbers.as_primitive::<Int64Type>();
        Ok(numbers.try_unary(|number| {
            number.checked_mul(micros).ok_or_else(|| {
                arrow::error::ArrowError::ComputeError(format!("the spine's time {number} is out of range"))
            })
        })?)
    };
    match times.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => floor(1_000),
        DataType::Timestamp(TimeUnit::Microsecond, _) => floor(1),
        DataType::Timestamp(TimeUnit::Millisecond, _) => scale(1_000),
        DataType::Timestamp(TimeUnit::Second, _) => scale(1_000_000),
        DataType::Date32 => scale(86_400_000_000),
        DataType::Date64 => scale(1_000),
        DataType::Null => Ok(Int64Array::new_null(times.len())),
        other => exec_err!("the spine's time is {other}; it must be a timestamp or a date"),
    }
}

fn nearest(
    spine: &[RecordBatch],
    right: &RecordBatch,
    keys: &[KeyPair],
    at: &Arc<dyn PhysicalExpr>,
    time: &Arc<dyn PhysicalExpr>,
    direction: Direction,
) -> Result<Vec<ArrayRef>> {
    let mut left_keys = Vec::with_capacity(keys.len());
    let mut right_keys = Vec::with_capacity(keys.len());
    for (left, matching) in keys {
        left_keys.push((left.to_string(), evaluate(left, spine)?));
        right_keys.push(matching.evaluate(right)?.into_array(right.num_rows())?);
    }
    let types: Vec<DataType> = right_keys.iter().map(|key| key.data_type().clone()).collect();
    let at = evaluate(at, spine)?;
    let time = time.evaluate(right)?.into_array(right.num_rows())?;
    let (at, time) = ranks(&at, &time)?;
    let order = Arc::new(SpineOrder::new(&left_keys, &types, &at)?);
    let rows: UInt32Array = in_memory(&order, &right_keys, &time, direction)?.into_iter().collect();
    let columns = right.columns().iter().map(|column| take(column, &rows, None)).collect::<Result<_, _>>()?;
    Ok(columns)
}

/// Both sides' times as numbers that order as the times do, whatever their type.
fn ranks(left: &ArrayRef, right: &ArrayRef) -> Result<(Int64Array, Int64Array)> {
    let both = concat(&[left.as_ref(), right.as_ref()])?;
    let ranks = arrow::compute::rank(&both, None)?;
    let nulls = both.logical_nulls();
    let ranks: Int64Array = ranks
        .into_iter()
        .enumerate()
        .map(|(row, rank)| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)).then_some(i64::from(rank)))
        .collect();
    Ok((ranks.slice(0, left.len()), ranks.slice(left.len(), right.len())))
}

/// The operator of a plan tree that holds one, for its report.
pub fn find(plan: &Arc<dyn ExecutionPlan>) -> Option<&PointInTimeExec> {
    let node: &dyn Any = plan.as_ref();
    node.downcast_ref::<PointInTimeExec>().or_else(|| plan.children().into_iter().find_map(find))
}
