//! The observations of a feature view that survive at a snapshot, as a node of a physical plan.
//!
//! Data files are sorted by key and time, so nothing is sorted and no table is built: files that may have rows of one key and
//! time are merged as they are read, and the last of each run of equals is what survives. Files that cannot share a key and a time are
//! read apart, side by side.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::datatypes::{Schema, SchemaRef};
use catalog::VisibleFile;
use catalog::state::ViewVersion;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::rows::{RETRACTED, ROW, SEQUENCE};
use super::runs::LastOfRuns;
use super::{FileRows, Meters, Predicate, Shown, deal};
use crate::access::Guard;
use crate::data_files::DataFiles;
use crate::history::HistoryExec;
use crate::point_in_time::working_memory::WorkingMemory;

/// Files that are merged as they are read. Each is held open; more are sorted, in memory that spills.
const MERGED: usize = 128;
/// Files of a merge that are read in whole batches; of more, the batches are smaller.
const WHOLE_BATCHES: usize = 8;
const LEAST_BATCH_ROWS: usize = 64;

/// What is wanted of a view.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub version: Arc<ViewVersion>,
    pub data: DataFiles,
    /// The columns of the view's history, those that only the log knows under names of their own.
    pub history: SchemaRef,
    /// Those that manifests do not rule out, in the order of the log.
    pub files: Vec<VisibleFile>,
    /// How many they did.
    pub pruned: usize,
    /// Over columns that a run of equals has in common; it changes nothing whether it is looked at before the rule or after it.
    pub predicate: Option<Arc<Predicate>>,
    /// What is given: some columns of the view's table.
    pub schema: SchemaRef,
    pub limit: Option<usize>,
    /// What is kept from the asker; the rows that are hidden are in the predicate.
    pub guard: Option<Arc<Guard>>,
}

impl Wanted {
    fn hides(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.rows().is_some())
    }
}

#[derive(Debug)]
pub struct SurvivorsExec {
    wanted: Wanted,
    /// By partition: files that are merged, one lot after the other.
    lots: Vec<Vec<Vec<VisibleFile>>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// The node that gives what is wanted, in so many partitions at most. In one alone rows come by the view's keys, its occurrence, and then
/// by time, so that the same table has the same order each time.
pub fn plan(wanted: Wanted, partitions: usize) -> Result<Arc<dyn ExecutionPlan>> {
    let occurrence = wanted.version.definition.occurrence.clone();
    let (Some(occurrence), true) = (occurrence, partitions <= 1) else {
        return Ok(Arc::new(SurvivorsExec::new(wanted, partitions)));
    };
    // Files know no occurrence in their order.
    let mut columns = wanted.schema.fields().to_vec();
    let mut by: Vec<&str> = wanted.version.keys().iter().map(|key| key.name.as_str()).collect();
    by.extend([occurrence.name.as_str(), "valid_at"]);
    for name in &by {
        if wanted.schema.index_of(name).is_err() {
            columns.push(Arc::new(wanted.history.field_with_name(name)?.clone()));
        }
    }
    let schema = Arc::new(Schema::new(columns));
    let (given, limit) = (wanted.schema.clone(), wanted.limit);
    let Some(order) = LexOrdering::new(by.iter().map_while(|name| ascending(&schema, name))) else {
        return internal_err!("the rows of a feature view have no time");
    };
    let survivors = SurvivorsExec::new(Wanted { schema, limit: None, ..wanted }, partitions);
    let sorted = SortExec::new(order, Arc::new(survivors)).with_fetch(limit);
    let given = given.fields().iter().enumerate().map(|(place, field)| ProjectionExpr {
        expr: Arc::new(Column::new(field.name(), place)),
        alias: field.name().clone(),
    });
    Ok(Arc::new(ProjectionExec::try_new(given.collect::<Vec<_>>(), Arc::new(sorted))?))
}

impl SurvivorsExec {
    /// For so many partitions at most. In one alone all rows come by key, then by time.
    pub fn new(wanted: Wanted, partitions: usize) -> Self {
        let lots = if partitions <= 1 { vec![wanted.files.clone()] } else { apart(&wanted.files) };
        let lots = deal(lots, partitions, |lot| lot.iter().map(|visible| visible.file.rows).sum());
        let sorted = lots.iter().all(|lots| lots.len() <= 1);
        let order = if sorted { order(&wanted.version, &wanted.schema, &["valid_at"]) } else { None };
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(wanted.schema.clone(), order),
            Partitioning::UnknownPartitioning(lots.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { wanted, lots, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

/// By the keys that come first and are there, then, where all keys are, by the columns named.
fn order(version: &ViewVersion, schema: &Schema, then: &[&str]) -> Option<LexOrdering> {
    let keys = version.keys().iter().map(|key| key.name.as_str());
    LexOrdering::new(keys.chain(then.iter().copied()).map_while(|name| ascending(schema, name)))
}

/// By a column, if it is there.
fn ascending(schema: &Schema, name: &str) -> Option<PhysicalSortExpr> {
    let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(name, schema.index_of(name).ok()?));
    Some(PhysicalSortExpr::new(column, SortOptions { descending: false, nulls_first: false }))
}

/// Lots of files such that no two of different lots can have rows of the same key and time.
fn apart(files: &[VisibleFile]) -> Vec<Vec<VisibleFile>> {
    let times = |visible: &VisibleFile| {
        let (oldest, newest) = visible.file.valid_at_range().unwrap_or((i64::MIN, i64::MAX));
        (i128::from(oldest), i128::from(newest) + 1)
    };
    // A bucket is a stretch of the hashes, whatever the number of buckets.
    let hashes = |visible: &VisibleFile| {
        let of = i128::from(visible.file.buckets.max(1));
        let bucket = i128::from(visible.file.bucket);
        ((bucket << 64) / of, ((bucket + 1) << 64) / of)
    };
    let mut lots = vec![(0..files.len()).collect::<Vec<usize>>()];
    for by_times in [true, false, true] {
        lots = lots
            .into_iter()
            .flat_map(|lot| {
                let stretch = |place: &usize| {
                    files.get(*place).map_or((0, 0), |file| if by_times { times(file) } else { hashes(file) })
                };
                disjoint(lot, stretch)
            })
            .collect();
    }
    lots.into_iter()
        .map(|mut lot| {
            lot.sort_unstable();
            lot.into_iter().filter_map(|place| files.get(place).cloned()).collect()
        })
        .collect()
}

/// Things whose stretches (half open) do not overlap come apart.
fn disjoint<T>(mut things: Vec<T>, stretch: impl Fn(&T) -> (i128, i128)) -> Vec<Vec<T>> {
    things.sort_by_cached_key(|thing| stretch(thing));
    let mut lots: Vec<Vec<T>> = Vec::new();
    let mut end = i128::MIN;
    for thing in things {
        let (from, until) = stretch(&thing);
        match lots.last_mut() {
            Some(lot) if from < end => lot.push(thing),
            _ => lots.push(vec![thing]),
        }
        end = end.max(until);
    }
    lots
}

impl DisplayAs for SurvivorsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wanted { version, files, pruned, schema, predicate, limit, .. } = &self.wanted;
        let (files, pruned, predicate) = (files.len(), *pruned, predicate.as_deref());
        let hides = self.wanted.hides();
        write!(f, "{}", Shown { node: self.name(), version, files, pruned, schema, predicate, hides })?;
        match limit {
            Some(limit) => write!(f, ", fetch={limit}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for SurvivorsExec {
    fn name(&self) -> &str {
        "SurvivorsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        (!self.wanted.hides()).then(|| self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(lots) = self.lots.get(partition).cloned() else {
            return internal_err!("a table has {} partitions, not {partition}", self.lots.len());
        };
        let meters = Meters::new(&self.metrics, partition);
        if partition == 0 {
            meters.files_pruned.add(self.wanted.pruned);
        }
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let (wanted, left) = (self.wanted.clone(), self.wanted.limit);
        let given = baseline.clone();
        let rows = stream::iter(lots)
            .map(move |lot| wanted.survivors(lot, &context, partition, &meters, &baseline))
            .try_flatten();
        let rows = limited(rows.boxed(), left).inspect_ok(move |batch| given.record_output(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.wanted.schema.clone(), rows)))
    }
}

/// The first rows, so many.
fn limited(
    rows: BoxStream<'static, Result<RecordBatch>>,
    limit: Option<usize>,
) -> BoxStream<'static, Result<RecordBatch>> {
    let Some(limit) = limit else { return rows };
    let first = rows.scan(limit, |left, batch| {
        let batch = match batch {
            _ if *left == 0 => return futures::future::ready(None),
            Ok(batch) => Ok(batch.slice(0, batch.num_rows().min(*left))),
            Err(error) => Err(error),
        };
        *left -= batch.as_ref().map_or(0, RecordBatch::num_rows);
        futures::future::ready(Some(batch))
    });
    first.boxed()
}

impl Wanted {
    /// What survives of some files, by key and then by time.
    fn survivors(
        &self,
        files: Vec<VisibleFile>,
        context: &Arc<TaskContext>,
        partition: usize,
        meters: &Meters,
        baseline: &BaselineMetrics,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let view = &self.version.definition;
        let mut names: Vec<&str> = self.version.keys().iter().map(|key| key.name.as_str()).collect();
        names.push("valid_at");
        let same = names.len();
        names.push(RETRACTED);
        names.extend(view.occurrence.as_ref().map(|occurrence| occurrence.name.as_str()));
        if files.len() > 1 {
            names.push("known_at");
        }
        if files.len() > MERGED {
            names.extend([SEQUENCE, ROW]);
        }
        for field in self.schema.fields() {
            if !names.contains(&field.name().as_str()) {
                names.push(field.name());
            }
        }
        let places = names.iter().map(|name| self.history.index_of(name)).collect::<Result<Vec<_>, _>>()?;
        let read = Arc::new(self.history.project(&places)?);
        let occurrence = view.occurrence.as_ref().map(|occurrence| read.index_of(occurrence.name.as_str()));
        let mut runs = LastOfRuns::new(same, occurrence.transpose()?, read.index_of(RETRACTED)?);
        let given = self.schema.fields().iter().map(|field| read.index_of(field.name()));
        let given = given.collect::<Result<Vec<_>, _>>()?;
        let schema = self.schema.clone();
        let rows = self.sorted(files, read, context, partition, meters, baseline)?;
        let survivors = rows.map(Some).chain(stream::once(std::future::ready(None))).map(move |batch| {
            let last = match batch {
                Some(batch) => runs.push(&batch?)?,
                None => runs.finish()?.into_iter().collect(),
            };
            let last =
                last.into_iter().map(|batch| Ok(batch.project(&given)?.with_schema(schema.clone())?));
            Ok::<_, DataFusionError>(stream::iter(last.collect::<Vec<Result<RecordBatch>>>()))
        });
        Ok(survivors.try_flatten().boxed())
    }

    /// All rows of some files by key, valid_at and known_at; those that are equal in the order of the log.
    fn sorted(
        &self,
        mut files: Vec<VisibleFile>,
        read: SchemaRef,
        context: &Arc<TaskContext>,
        partition: usize,
        meters: &Meters,
        baseline: &BaselineMetrics,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let (predicate, guard) = (self.predicate.clone(), self.guard.clone());
        let rows = FileRows::new(self.data.clone(), &self.history, read.clone(), predicate, guard)?;
        let batch_rows = context.session_config().batch_size().max(1);
        let held = MemoryConsumer::new(format!("SurvivorsExec[{partition}]")).register(context.memory_pool());
        let memory = WorkingMemory::beside(&held);
        if files.len() <= 1 {
            return Ok(match files.pop() {
                Some(file) => rows.of(file, batch_rows, meters.clone(), memory).boxed(),
                None => stream::empty().boxed(),
            });
        }
        let mut then = vec!["valid_at", "known_at"];
        if files.len() > MERGED {
            then.extend([SEQUENCE, ROW]);
        }
        let Some(order) = order(&self.version, &read, &then) else {
            return internal_err!("the rows of a feature view have no time");
        };
        if files.len() > MERGED {
            let unsorted = HistoryExec::new(self.version.clone(), rows, read, files, 0, 1);
            let sorted = SortExec::new(order, Arc::new(unsorted.metered_by(meters.clone())));
            return Ok(sorted.execute(0, context.clone())?.boxed());
        }
        let shared =
            (batch_rows * WHOLE_BATCHES / files.len()).clamp(LEAST_BATCH_ROWS.min(batch_rows), batch_rows);
        let streams = files.into_iter().map(|file| rows.of(file, shared, meters.clone(), memory.clone()));
        // Of equals the first file's come first.
        let merged = StreamingMergeBuilder::new()
            .with_streams(streams.collect())
            .with_schema(read.clone())
            .with_expressions(&order)
            .with_metrics(baseline.intermediate())
            .with_batch_size(batch_rows)
            .with_reservation(held)
            .with_round_robin_tie_breaker(false)
            .build()?;
        Ok(merged.boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_that_overlap_stay_together() {
        let lots = |stretches: &[(i128, i128)]| disjoint(stretches.to_vec(), |stretch| *stretch);
        assert_eq!(lots(&[(4, 6), (0, 2), (1, 3)]), [vec![(0, 2), (1, 3)], vec![(4, 6)]]);
        // Half open: those that only touch are apart.
        assert_eq!(lots(&[(0, 2), (2, 3)]), [vec![(0, 2)], vec![(2, 3)]]);
        // A long one holds together what lies within it.
        assert_eq!(lots(&[(0, 9), (1, 2), (3, 4)]).len(), 1);
    }
}
