//! `history('weather')`: every row of a feature view, each with its times, its batch and where it lies.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, StringArray, TimestampMicrosecondArray,
    UInt64Array, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use catalog::VisibleFile;
use catalog::state::ViewVersion;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
    ReplaceChildrenOptions,
};
use feature::{FeatureType, Sequence};
use futures::{StreamExt, TryStreamExt, stream};

use crate::data_files::DataFiles;

/// All rows of a version, superseded and retracted ones included.
#[derive(Debug, Clone)]
pub struct HistoryTable {
    version: Arc<ViewVersion>,
    files: Arc<Vec<VisibleFile>>,
    data: DataFiles,
    sequence: Sequence,
    schema: SchemaRef,
}

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
        fields.push(Field::new("retracted", DataType::Boolean, false));
        fields.push(Field::new("sequence", DataType::UInt64, false));
        fields.push(Field::new("batch", DataType::Utf8, false));
        fields.push(Field::new("file", DataType::Utf8, false));
        fields.push(Field::new("row", DataType::UInt64, false));
        Self { version, files, data, sequence, schema: Arc::new(Schema::new(fields)) }
    }

    pub fn version(&self) -> &Arc<ViewVersion> {
        &self.version
    }

    /// The snapshot that the rows are of.
    pub fn sequence(&self) -> Sequence {
        self.sequence
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

    async fn scan(
        &self,
        _session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(projection) => Arc::new(self.schema.project(projection)?),
            None => self.schema.clone(),
        };
        if self.files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(self.files.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Arc::new(HistoryExec { table: self.clone(), schema, properties: Arc::new(properties) }))
    }
}

/// One partition a file.
#[derive(Debug)]
struct HistoryExec {
    table: HistoryTable,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl DisplayAs for HistoryExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(
            f,
            "HistoryExec: {}, files={}, columns=[{}]",
            self.table.version.label(),
            self.table.files.len(),
            columns.join(", ")
        )
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

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(file) = self.table.files.get(partition).cloned() else {
            return internal_err!("a history has {} partitions, not {partition}", self.table.files.len());
        };
        let (data, schema) = (self.table.data.clone(), self.schema.clone());
        let batch_rows = context.session_config().batch_size().max(1);
        let batches = stream::once(async move { read(&data, &file, schema).await })
            .map_ok(move |whole| {
                let rows = whole.num_rows();
                let slices = (0..rows)
                    .step_by(batch_rows)
                    .map(move |from| Ok(whole.slice(from, batch_rows.min(rows - from))));
                stream::iter(slices.collect::<Vec<_>>())
            })
            .try_flatten()
            .boxed();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches)))
    }
}

/// A file's rows, with the columns that only the log knows.
async fn read(data: &DataFiles, file: &VisibleFile, schema: SchemaRef) -> Result<RecordBatch> {
    let mut names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    names.push("_retracted");
    let stored = data.columns(file, &names, None).await?;
    let rows = usize::try_from(file.file.rows).unwrap_or(usize::MAX);
    let text = |value: String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, rows)))
    };
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let column: ArrayRef = match (field.name().as_str(), stored.column_by_name(field.name())) {
            ("retracted", _) => match stored.column_by_name("_retracted") {
                Some(retracted) => retracted.clone(),
                None => Arc::new(BooleanArray::from(vec![false; rows])),
            },
            ("sequence", _) => Arc::new(UInt64Array::from_value(file.batch.by.sequence.0, rows)),
            ("batch", _) => text(file.batch.record.batch.to_string()),
            ("file", _) => text(file.file.path.clone()),
            ("row", _) => Arc::new(UInt64Array::from_iter_values(0..rows as u64)),
            ("known_at", None) => {
                let arrival = file.batch.by.committed_at.micros();
                Arc::new(TimestampMicrosecondArray::from_value(arrival, rows).with_timezone("UTC"))
            }
            (_, Some(column)) => cast(column, field.data_type())?,
            // A feature that the batch does not have.
            (_, None) => new_null_array(field.data_type(), rows),
        };
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}
