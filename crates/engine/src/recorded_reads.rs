//! Recorded reads as relations: read from `reads/`, object by object, so that no more than one of them is held.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema, SchemaRef};
use catalog::recorded_reads::{LINEAGE, decode, edge_fields, schema};
use catalog::records::Object;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{StreamExt, TryStreamExt, stream};
use parquet::errors::ParquetError;

use crate::snapshot::Snapshot;

/// One row a read, without its edges.
pub fn reads(snapshot: &Snapshot) -> Result<Arc<dyn TableProvider>> {
    table(snapshot, Shape::Reads)
}

/// One row an edge: `read`, `at`, and the edge's fields.
pub fn read_columns(snapshot: &Snapshot) -> Result<Arc<dyn TableProvider>> {
    table(snapshot, Shape::Edges)
}

fn table(snapshot: &Snapshot, shape: Shape) -> Result<Arc<dyn TableProvider>> {
    let recorded = snapshot.state.reads().iter().filter(|reads| reads.by.sequence <= snapshot.sequence);
    let objects = recorded.map(|reads| reads.record.object.clone()).collect();
    let schema = shape.schema();
    let relation = Recorded { snapshot: snapshot.clone(), objects, shape, schema: schema.clone() };
    Ok(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(relation)])?))
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Reads,
    Edges,
}

impl Shape {
    fn schema(self) -> SchemaRef {
        let whole = schema();
        let mut fields: Vec<Arc<Field>> = Vec::new();
        match self {
            Self::Reads => {
                fields.extend(whole.fields().iter().filter(|field| field.name() != LINEAGE).cloned())
            }
            Self::Edges => {
                let of_read =
                    whole.fields().iter().filter(|field| ["read", "at"].contains(&field.name().as_str()));
                fields.extend(of_read.cloned());
                fields.extend(edge_fields().iter().cloned());
            }
        }
        Arc::new(Schema::new(fields))
    }

    /// Columns of the file that it needs.
    fn stored(self) -> Vec<String> {
        match self {
            Self::Reads => self.schema().fields().iter().map(|field| field.name().clone()).collect(),
            Self::Edges => ["read", "at", LINEAGE].map(str::to_owned).into(),
        }
    }

    fn rows(self, batch: RecordBatch) -> Result<RecordBatch> {
        match self {
            Self::Reads => Ok(batch),
            Self::Edges => edges(&batch, self.schema()),
        }
    }
}

struct Recorded {
    snapshot: Snapshot,
    objects: Vec<Object>,
    shape: Shape,
    schema: SchemaRef,
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recorded({:?}, {} objects)", self.shape, self.objects.len())
    }
}

impl PartitionStream for Recorded {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (catalog, shape) = (self.snapshot.catalog.clone(), self.shape);
        let batches = stream::iter(self.objects.clone())
            .then(move |object| {
                let (catalog, context) = (catalog.clone(), context.clone());
                async move {
                    let held = MemoryConsumer::new("recorded reads").register(context.memory_pool());
                    held.try_grow(usize::try_from(object.bytes).unwrap_or(usize::MAX))?;
                    let bytes = catalog
                        .object(&object)
                        .await
                        .map_err(|error| DataFusionError::External(Box::new(error)))?;
                    let stored = shape.stored();
                    let stored: Vec<&str> = stored.iter().map(String::as_str).collect();
                    let batches = decode(bytes, &stored).map_err(damaged)?;
                    let rows = batches.map(move |batch| {
                        // Held as long as there are batches to come.
                        let _held = &held;
                        shape.rows(batch.map_err(damaged)?)
                    });
                    Ok::<_, DataFusionError>(stream::iter(rows))
                }
            })
            .try_flatten()
            .boxed();
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches))
    }
}

fn damaged(error: ParquetError) -> DataFusionError {
    DataFusionError::ParquetError(Box::new(error))
}

/// The edges of all reads of a batch, one row each.
fn edges(reads: &RecordBatch, schema: SchemaRef) -> Result<RecordBatch> {
    let Some(lists) = reads.column_by_name(LINEAGE).and_then(|column| column.as_list_opt::<i32>()) else {
        return Ok(RecordBatch::new_empty(schema));
    };
    let mut owners = Vec::with_capacity(lists.values().len());
    let mut places = Vec::with_capacity(lists.values().len());
    for (read, bounds) in lists.offsets().windows(2).enumerate() {
        let [from, until] = bounds else { continue };
        if lists.is_null(read) {
            continue;
        }
        for place in *from..*until {
            owners.push(u32::try_from(read).unwrap_or(u32::MAX));
            places.push(u32::try_from(place).unwrap_or(u32::MAX));
        }
    }
    let (owners, places) = (UInt32Array::from(owners), UInt32Array::from(places));
    let edges = take(lists.values(), &places, None)?;
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let of_read = reads.column_by_name(field.name());
        columns.push(
            match (of_read, edges.as_struct_opt().and_then(|edges| edges.column_by_name(field.name()))) {
                (Some(column), _) => take(column, &owners, None)?,
                (None, Some(column)) => column.clone(),
                (None, None) => arrow::array::new_null_array(field.data_type(), owners.len()),
            },
        );
    }
    Ok(RecordBatch::try_new(schema, columns)?)
}
