//! Relations whose rows lie in objects, one for each thing that the log knows. An object is read when its rows are asked for, and is left unread where a
//! condition on what the log knows of it rules it out.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};
use async_trait::async_trait;
use catalog::Catalog;
use catalog::records::Object;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{StreamExt, stream};
use serde::de::DeserializeOwned;

use crate::scan::{Predicate, is_plain};
use crate::snapshot::Snapshot;

/// Objects that are read at a time.
const AT_A_TIME: usize = 8;

/// Which object a row of what is known belongs to. It is the last column, and no column of the relation.
const PLACE: &str = "place";

/// What the log knows.
pub struct Listed {
    pub objects: Vec<Object>,
    /// A row for each of them, in their order.
    pub known: RecordBatch,
}

/// The rows of an object, without what the log knows of it.
pub type RowsOf = Arc<dyn Fn(&Object, &[u8]) -> Result<RecordBatch> + Send + Sync>;

/// What is known of each object, beside each of its rows. The rows have this schema.
pub fn table(
    snapshot: &Snapshot,
    listed: Listed,
    rows: &SchemaRef,
    rows_of: RowsOf,
) -> Result<Arc<dyn TableProvider>> {
    let Listed { objects, known } = listed;
    let mut fields = known.schema().fields().to_vec();
    let both = fields.iter().chain(rows.fields().iter()).cloned();
    let schema = Arc::new(Schema::new(both.collect::<Vec<_>>()));
    let count = u32::try_from(objects.len()).unwrap_or(u32::MAX);
    fields.push(Arc::new(Field::new(PLACE, DataType::UInt32, false)));
    let mut columns = known.columns().to_vec();
    columns.push(Arc::new(UInt32Array::from_iter_values(0..count)));
    let known = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    Ok(Arc::new(ByObject { catalog: snapshot.catalog.clone(), objects, known, schema, rows_of }))
}

/// What an object says.
///
/// # Errors
/// It is not what was written.
pub fn parsed<T: DeserializeOwned>(object: &Object, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| damaged(object, &error))
}

/// An object that is not what was written.
pub fn damaged(object: &Object, error: &impl ToString) -> DataFusionError {
    let damaged = storage::Error::corrupt(object.path.as_str(), error.to_string());
    DataFusionError::External(Box::new(catalog::Error::from(damaged)))
}

struct ByObject {
    catalog: Catalog,
    objects: Vec<Object>,
    known: RecordBatch,
    schema: SchemaRef,
    rows_of: RowsOf,
}

impl std::fmt::Debug for ByObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ByObject({} objects)", self.objects.len())
    }
}

impl ByObject {
    /// Whether a condition is on what is known alone, and can never fail. Such a one is taken over whole.
    fn takes(&self, condition: &Expr) -> bool {
        let columns = condition.column_refs();
        let known = self.known.schema();
        let is_known = |name: &str| known.column_with_name(name).is_some();
        is_plain(condition) && !columns.is_empty() && columns.iter().all(|column| is_known(&column.name))
    }

    /// What is known of the objects that the conditions leave.
    fn left(&self, session: &dyn Session, conditions: &[Expr]) -> Result<RecordBatch> {
        let schema = self.known.schema();
        let predicate = Predicate::compile(session, &schema, conditions, |name| name.to_owned())?;
        let Some(predicate) = predicate else { return Ok(self.known.clone()) };
        match predicate.on_rows_of(&schema)? {
            Some(condition) => condition.filter(&self.known),
            None => Ok(self.known.clone()),
        }
    }
}

#[async_trait]
impl TableProvider for ByObject {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let taken = |filter: &&Expr| match self.takes(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(taken).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let known = self.left(session, filters)?;
        let mut parts = Vec::with_capacity(known.num_rows());
        let places = known.column_by_name(PLACE).and_then(|places| places.as_primitive_opt::<UInt32Type>());
        for (row, place) in places.into_iter().flat_map(|places| places.values().iter()).enumerate() {
            if let Some(object) = self.objects.get(*place as usize) {
                parts.push((object.clone(), known.slice(row, 1)));
            }
        }
        let objects = Objects {
            catalog: self.catalog.clone(),
            parts,
            schema: self.schema.clone(),
            rows_of: self.rows_of.clone(),
        };
        let streamed = StreamingTable::try_new(self.schema.clone(), vec![Arc::new(objects)])?;
        streamed.scan(session, projection, &[], limit).await
    }
}

/// The objects that are read.
struct Objects {
    catalog: Catalog,
    /// Each with the row of what is known of it.
    parts: Vec<(Object, RecordBatch)>,
    schema: SchemaRef,
    rows_of: RowsOf,
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Objects({})", self.parts.len())
    }
}

impl PartitionStream for Objects {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (catalog, schema, rows_of) = (self.catalog.clone(), self.schema.clone(), self.rows_of.clone());
        let batches = stream::iter(self.parts.clone())
            .map(move |(object, known)| {
                let (catalog, schema, context) = (catalog.clone(), schema.clone(), context.clone());
                let rows_of = rows_of.clone();
                async move {
                    let held = MemoryConsumer::new("recorded lineage").register(context.memory_pool());
                    held.try_grow(usize::try_from(object.bytes).unwrap_or(usize::MAX))?;
                    let bytes = catalog
                        .object(&object)
                        .await
                        .map_err(|error| DataFusionError::External(Box::new(error)))?;
                    let rows = rows_of(&object, &bytes)?;
                    drop(bytes);
                    let batch = beside(&known, &rows, schema)?;
                    held.try_resize(batch.get_array_memory_size())?;
                    Ok::<_, DataFusionError>((held, batch))
                }
            })
            .buffered(AT_A_TIME)
            // Accounted for as long as it waits here for its turn.
            .map(|read| read.map(|(_held, batch)| batch))
            .boxed();
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches))
    }
}

/// What is known of an object beside each of its rows.
fn beside(known: &RecordBatch, rows: &RecordBatch, schema: SchemaRef) -> Result<RecordBatch> {
    let same = UInt32Array::from(vec![0_u32; rows.num_rows()]);
    let shown = known.num_columns().saturating_sub(1);
    let mut columns = Vec::with_capacity(schema.fields().len());
    for column in known.columns().iter().take(shown) {
        columns.push(take(column, &same, None)?);
    }
    columns.extend(rows.columns().iter().cloned());
    Ok(RecordBatch::try_new(schema, columns)?)
}
