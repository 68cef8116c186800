//! `history('weather')`: every row of a feature view, each with its times, its batch and where it lies.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use catalog::VisibleFile;
use catalog::state::ViewVersion;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
    ReplaceChildrenOptions,
};
use feature::{FeatureType, Sequence};
use futures::{StreamExt, stream};

use crate::access::Guard;
use crate::data_files::DataFiles;
use crate::point_in_time::working_memory::WorkingMemory;
use crate::scan::{
    BATCH, FILE, FileRows, Meters, Predicate, RETRACTED, ROW, SEQUENCE, Shown, deal, may_hold,
    taken_over_guarded,
};

/// All rows of a version, superseded and retracted ones included.
#[derive(Debug, Clone)]
pub struct HistoryTable {
    version: Arc<ViewVersion>,
    files: Arc<Vec<VisibleFile>>,
    data: DataFiles,
    sequence: Sequence,
    schema: SchemaRef,
    /// The same columns; those that only the log knows have names that no feature can have.
    stored: SchemaRef,
    /// What is kept from the asker.
    guard: Option<Arc<Guard>>,
}

/// What a history calls a column that only the log knows, and what it is called beside features.
const OF_LOG: [(&str, &str); 5] =
    [("retracted", RETRACTED), ("sequence", SEQUENCE), ("batch", BATCH), ("file", FILE), ("row", ROW)];

impl HistoryTable {
    pub(crate) fn new(
        version: Arc<ViewVersion>,
        files: Arc<Vec<VisibleFile>>,
        data: DataFiles,
        sequence: Sequence,
    ) -> Self {
        let time = FeatureType::Timestamp.arrow();
        let mut fields: Vec<Field> = version
            .keys()
            .iter()
            .map(|key| Field::new(key.name.as_str(), key.data_type.arrow(), false))
            .collect();
        if let Some(occurrence) = &version.definition.occurrence {
            fields.push(Field::new(occurrence.name.as_str(), occurrence.data_type.arrow(), true));
        }
        fields.push(Field::new("valid_at", time.clone(), false));
        fields.push(Field::new("known_at", time, false));
        for feature in &version.definition.features {
            fields.push(Field::new(feature.name.as_str(), feature.data_type.arrow(), true));
        }
        let types = [DataType::Boolean, DataType::UInt64, DataType::Utf8, DataType::Utf8, DataType::UInt64];
        let mut stored = fields.clone();
        for ((shown, name), data_type) in OF_LOG.into_iter().zip(types) {
            // To some askers rows have no number.
            let nullable = name == ROW;
            fields.push(Field::new(shown, data_type.clone(), nullable));
            stored.push(Field::new(name, data_type, nullable));
        }
        let (schema, stored) = (Arc::new(Schema::new(fields)), Arc::new(Schema::new(stored)));
        Self { version, files, data, sequence, schema, stored, guard: None }
    }

    /// The same with something kept from the asker.
    pub(crate) fn guarded(self, guard: Option<Arc<Guard>>) -> Self {
        Self { guard, ..self }
    }

    /// Whether rows are hidden: the number of a row in its file counts those before it.
    fn hides(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.rows().is_some())
    }

    pub fn version(&self) -> &Arc<ViewVersion> {
        &self.version
    }

    /// The snapshot that the rows are of.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// Its columns as [`FileRows`] gives them.
    pub(crate) fn stored(&self) -> &SchemaRef {
        &self.stored
    }
}

#[async_trait]
impl TableProvider for HistoryTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// No rule applies, so that conditions on every column come first, but those on numbers that are not told.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let guard = self.guard.as_deref();
        let told = |name: &str| !self.hides() || !is_number(name);
        Ok(filters.iter().map(|filter| taken_over_guarded(filter, guard, told)).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (schema, stored) = match projection {
            Some(projection) => {
                (Arc::new(self.schema.project(projection)?), Arc::new(self.stored.project(projection)?))
            }
            None => (self.schema.clone(), self.stored.clone()),
        };
        let conditions = guarded_conditions(&self.version, self.guard.as_deref(), &schema, filters)?;
        let named = |shown: &str| {
            let of_log = OF_LOG.iter().find(|(name, _)| *name == shown);
            of_log.map_or(shown, |(_, name)| name).to_owned()
        };
        let predicate = Predicate::compile(session, &self.stored, &conditions, named)?.map(Arc::new);
        let files = left_of(&self.version, &self.files, predicate.as_deref());
        let pruned = self.files.len() - files.len();
        if files.is_empty() && pruned == 0 {
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let rows = FileRows::new(self.data.clone(), &self.stored, stored, predicate, self.guard.clone())?;
        let rows = if self.hides() { rows.unnumbered() } else { rows };
        let partitions = session.config().target_partitions();
        let version = self.version.clone();
        Ok(Arc::new(HistoryExec::new(version, rows, schema, files, pruned, partitions)))
    }
}

/// Whether a history calls the number of a row so.
fn is_number(shown: &str) -> bool {
    OF_LOG.contains(&(shown, ROW))
}

/// The conditions of a scan, with the one on rows that may be seen before all others.
///
/// # Errors
/// [`Denied`](crate::access::Denied) where the scan would give a feature that may not be read.
pub(crate) fn guarded_conditions(
    version: &ViewVersion,
    guard: Option<&Guard>,
    schema: &Schema,
    filters: &[Expr],
) -> Result<Vec<Expr>> {
    let Some(guard) = guard else { return Ok(filters.to_vec()) };
    guard.allow(version, schema.fields().iter().map(|field| field.name().as_str()))?;
    let seen = guard.rows().map(|rows| rows.condition().clone());
    Ok(seen.into_iter().chain(filters.iter().cloned()).collect())
}

/// The files that manifests do not rule out, in their order.
pub(crate) fn left_of(
    version: &ViewVersion,
    files: &[VisibleFile],
    predicate: Option<&Predicate>,
) -> Vec<VisibleFile> {
    let Some(predicate) = predicate else { return files.to_vec() };
    let kept = may_hold(version, files, predicate);
    files.iter().zip(kept).filter(|(_, kept)| *kept).map(|(file, _)| file.clone()).collect()
}

/// Rows of files, file by file.
#[derive(Debug)]
pub(crate) struct HistoryExec {
    version: Arc<ViewVersion>,
    rows: FileRows,
    /// The columns of `rows` as they are given.
    schema: SchemaRef,
    /// By partition.
    files: Vec<Vec<VisibleFile>>,
    pruned: usize,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    /// Where the node stands within another, that one's.
    meters: Option<Meters>,
}

impl HistoryExec {
    /// In so many partitions at most. In one alone files come in the order in which they are given.
    pub fn new(
        version: Arc<ViewVersion>,
        rows: FileRows,
        schema: SchemaRef,
        files: Vec<VisibleFile>,
        pruned: usize,
        partitions: usize,
    ) -> Self {
        let files = deal(files, partitions, |visible| visible.file.rows);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(files.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let (properties, metrics) = (Arc::new(properties), ExecutionPlanMetricsSet::new());
        Self { version, rows, schema, files, pruned, properties, metrics, meters: None }
    }

    /// The same that counts what it reads among what another node does.
    pub fn metered_by(self, meters: Meters) -> Self {
        Self { meters: Some(meters), ..self }
    }
}

impl DisplayAs for HistoryExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.files.iter().map(Vec::len).sum();
        let (version, schema, predicate) = (&self.version, &self.schema, self.rows.predicate());
        let (pruned, hides) = (self.pruned, self.rows.hides());
        write!(f, "{}", Shown { node: self.name(), version, files, pruned, schema, predicate, hides })
    }
}

impl ExecutionPlan for HistoryExec {
    fn name(&self) -> &str {
        "HistoryExec"
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
        (!self.rows.hides()).then(|| self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(files) = self.files.get(partition).cloned() else {
            return internal_err!("a history has {} partitions, not {partition}", self.files.len());
        };
        let meters = match &self.meters {
            Some(meters) => meters.clone(),
            None => Meters::new(&self.metrics, partition),
        };
        if partition == 0 {
            meters.files_pruned.add(self.pruned);
        }
        // Within another node its rows are not the answer's.
        let baseline = self.meters.is_none().then(|| BaselineMetrics::new(&self.metrics, partition));
        let (rows, batch_rows) = (self.rows.clone(), context.session_config().batch_size().max(1));
        let (schema, given) = (self.schema.clone(), self.schema.clone());
        let memory = WorkingMemory::of(context.memory_pool(), format!("HistoryExec[{partition}]"));
        let batches = stream::iter(files)
            .flat_map(move |file| rows.of(file, batch_rows, meters.clone(), memory.clone()))
            .map(move |batch| {
                let (_, columns, rows) = batch?.into_parts();
                if let Some(baseline) = &baseline {
                    baseline.record_output(rows);
                }
                let options = RecordBatchOptions::new().with_row_count(Some(rows));
                Ok(RecordBatch::try_new_with_options(given.clone(), columns, &options)?)
            });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}
