//! Recorded reads as relations: read from `reads/`, object by object, so that no more than one of them is held.

mod told;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{filter_record_batch, not, nullif, take};
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

use crate::access::Sights;
use crate::snapshot::{Snapshot, split_name};
use crate::system;

/// What stands for the name of an output that is not told: it may be an expression with its literals.
const NOT_TOLD: &str = "(hidden)";

/// One row a read, without its edges.
pub fn reads(snapshot: &Snapshot) -> Result<Arc<dyn TableProvider>> {
    table(snapshot, Shape::Reads)
}

/// One row an edge: `read`, `at`, and the edge's fields.
pub fn read_columns(snapshot: &Snapshot) -> Result<Arc<dyn TableProvider>> {
    table(snapshot, Shape::Edges)
}

/// One row an edge, as those of training sets and batches stand in `lineament.column_edges`; of reads that are told whole.
pub fn column_edges(snapshot: &Snapshot) -> Result<Arc<dyn TableProvider>> {
    table(snapshot, Shape::Told)
}

fn table(snapshot: &Snapshot, shape: Shape) -> Result<Arc<dyn TableProvider>> {
    let recorded = snapshot.state.reads().iter().filter(|reads| reads.by.sequence <= snapshot.sequence);
    let objects = recorded.map(|reads| reads.record.object.clone()).collect();
    let schema = shape.schema();
    let veil = Arc::new(Veil { snapshot: snapshot.clone(), whole: Mutex::default() });
    let relation = Recorded { snapshot: snapshot.clone(), objects, shape, schema: schema.clone(), veil };
    Ok(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(relation)])?))
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Reads,
    Edges,
    Told,
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
            Self::Told => return system::column_edges::schema(),
        }
        Arc::new(Schema::new(fields))
    }

    /// Columns of the file that it needs.
    fn stored(self) -> Vec<String> {
        match self {
            Self::Reads => self.schema().fields().iter().map(|field| field.name().clone()).collect(),
            Self::Edges | Self::Told => {
                ["read", "at", "principal", "columns", LINEAGE].map(str::to_owned).into()
            }
        }
    }

    fn rows(self, batch: RecordBatch, veil: &Veil) -> Result<RecordBatch> {
        let hidden = veil.of(&batch);
        match self {
            Self::Reads => veiled(batch, hidden),
            Self::Edges => edges(&batch, self.schema(), hidden),
            Self::Told => {
                let shown = match hidden {
                    Some(hidden) => filter_record_batch(&batch, &not(&hidden)?)?,
                    None => batch,
                };
                told::edges(&edges(&shown, Self::Edges.schema(), None)?)
            }
        }
    }
}

/// Which reads an asker is told all of: their own, and those of versions that they see whole. Of others they are told that there
/// was a read, by whom and of what, and neither the statement, whose literals may be values, nor how much it found.
struct Veil {
    snapshot: Snapshot,
    whole: Mutex<HashMap<String, bool>>,
}

/// The action of reading, as denials have it; reads that were allowed have none.
const READ: &str = "read";

/// What is not told of a read of somebody else.
const VEILED: [&str; 7] = ["sql", "parameters", "filters", "rows", "micros", "error", "reason"];

impl Veil {
    /// The reads that are not told; none where nothing is governed.
    fn of(&self, reads: &RecordBatch) -> Option<BooleanArray> {
        let guards = self.snapshot.guards.as_ref()?;
        let text = |name: &str| reads.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let (principals, columns) = (text("principal"), text("columns"));
        let cell = |column: Option<&'_ StringArray>, row: usize| {
            column.filter(|column| column.is_valid(row)).map(|column| column.value(row).to_owned())
        };
        let actions = text("action");
        let hidden = (0..reads.num_rows()).map(|row| {
            let own = cell(principals, row).is_some_and(|principal| guards.is_asker(&principal));
            // Of other actions there are no statements.
            let reads = cell(actions, row).is_none_or(|action| action == READ);
            Some(reads && !own && !cell(columns, row).is_some_and(|columns| self.sees(&columns)))
        });
        Some(hidden.collect())
    }

    /// Whether all that a read read (`weather@1.temp, fraud.cards@2.*`) is seen whole. Of nothing it is not known.
    fn sees(&self, columns: &str) -> bool {
        let mut labels = columns.split(", ").map(|column| column.rsplit_once('.').map(|(label, _)| label));
        labels.all(|label| label.is_some_and(|label| self.is_whole(label)))
    }

    fn is_whole(&self, label: &str) -> bool {
        let mut known = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        let decided = || {
            let (project, view, number) = split_name(label)?;
            let state = &self.snapshot.state;
            let version = state.view(&project, &view, Some(number?), state.head.sequence)?;
            Some(Sights::of_snapshot(&self.snapshot).of(version).is_whole())
        };
        *known.entry(label.to_owned()).or_insert_with(|| decided().unwrap_or(false))
    }
}

fn veiled(reads: RecordBatch, hidden: Option<BooleanArray>) -> Result<RecordBatch> {
    let Some(hidden) = hidden else { return Ok(reads) };
    // Why a read was denied names a policy, and no value.
    let denied = reads.column_by_name("status").and_then(|status| status.as_string_opt::<i32>());
    let denied =
        |row: usize| denied.is_some_and(|status| status.is_valid(row) && status.value(row) == "denied");
    let failed: BooleanArray =
        hidden.iter().enumerate().map(|(row, hidden)| hidden.map(|hidden| hidden && !denied(row))).collect();
    let schema = reads.schema();
    let columns =
        schema.fields().iter().zip(reads.columns()).map(|(field, column)| match field.name().as_str() {
            "error" => nullif(column, &failed),
            name if VEILED.contains(&name) => nullif(column, &hidden),
            _ => Ok(column.clone()),
        });
    let columns = columns.collect::<Result<Vec<ArrayRef>, _>>()?;
    Ok(RecordBatch::try_new(schema, columns)?)
}

struct Recorded {
    snapshot: Snapshot,
    objects: Vec<Object>,
    shape: Shape,
    schema: SchemaRef,
    veil: Arc<Veil>,
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
        let (catalog, shape, veil) = (self.snapshot.catalog.clone(), self.shape, self.veil.clone());
        let batches = stream::iter(self.objects.clone())
            .then(move |object| {
                let (catalog, context, veil) = (catalog.clone(), context.clone(), veil.clone());
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
                        shape.rows(batch.map_err(damaged)?, &veil)
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
fn edges(reads: &RecordBatch, schema: SchemaRef, hidden: Option<BooleanArray>) -> Result<RecordBatch> {
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
    let hidden = hidden.map(|hidden| take(&hidden, &owners, None)).transpose()?;
    let hidden = hidden.as_ref().and_then(|hidden| hidden.as_boolean_opt());
    let told = |name: &str, column: &ArrayRef| -> Result<ArrayRef> {
        Ok(match (hidden, name) {
            (Some(hidden), "expression") => nullif(column, hidden)?,
            (Some(hidden), "output") => {
                // A null has a meaning of its own here.
                let named = arrow::compute::and(hidden, &arrow::compute::is_not_null(column)?)?;
                zip(&named, &StringArray::new_scalar(NOT_TOLD), column)?
            }
            _ => column.clone(),
        })
    };
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let of_read = reads.column_by_name(field.name());
        columns.push(
            match (of_read, edges.as_struct_opt().and_then(|edges| edges.column_by_name(field.name()))) {
                (Some(column), _) => take(column, &owners, None)?,
                (None, Some(column)) => told(field.name(), column)?,
                (None, None) => arrow::array::new_null_array(field.data_type(), owners.len()),
            },
        );
    }
    Ok(RecordBatch::try_new(schema, columns)?)
}
