//! What ad-hoc reads leave behind: who read which columns of which versions, flushed together.
//!
//! Reads wait in memory and go to `reads/{id}.parquet` with one entry a flush. A full queue refuses reads rather than forget them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array};
use arrow::datatypes::{Field, Schema};
use catalog::records::{ReadsRecorded, Record};
use catalog::{Author, Intent};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::LogicalPlan;
use engine::feature_view::FeatureViewTable;
use engine::history::HistoryTable;
use feature::{BodyId, ReadId, Sequence, Timestamp};
use parquet::arrow::ArrowWriter;
use storage::environment;

use crate::error::{Error, Kind, Result};
use crate::retrieve::Serving;

/// Reads that may wait for a flush.
const QUEUE: usize = 100_000;

/// One read, as it will stand on record.
#[derive(Clone, Debug)]
pub struct Read {
    id: ReadId,
    principal: String,
    program: String,
    run: Option<String>,
    experiment: Option<String>,
    sequence: Sequence,
    /// What was asked for: the statement, or a call in its words.
    sql: String,
    /// Columns read, by version (`weather@2`).
    columns: BTreeMap<String, BTreeSet<String>>,
    at: Timestamp,
    pub rows: u64,
    pub micros: u64,
    pub error: Option<String>,
}

impl Read {
    pub fn new(author: &Author, sequence: Sequence, at: Timestamp) -> Self {
        Self {
            id: environment::mint(),
            principal: author.principal.clone(),
            program: author.program.clone(),
            run: author.run.clone(),
            experiment: author.experiment.clone(),
            sequence,
            sql: String::new(),
            columns: BTreeMap::new(),
            at,
            rows: 0,
            micros: 0,
            error: None,
        }
    }

    /// Notes columns of a version that are read.
    pub fn columns_of(&mut self, version: String, columns: impl IntoIterator<Item = String>) {
        self.columns.entry(version).or_default().extend(columns);
    }

    pub fn asked(&mut self, words: impl Into<String>) {
        self.sql = words.into();
    }

    /// Takes from a plan what it reads. The version is that of the object that will be read, not of its name.
    pub fn see(&mut self, plan: &LogicalPlan) -> Result<()> {
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                let provider = source_as_provider(&scan.source)?;
                let version = provider
                    .downcast_ref::<FeatureViewTable>()
                    .map(|table| table.version())
                    .or_else(|| provider.downcast_ref::<HistoryTable>().map(HistoryTable::version));
                if let Some(version) = version {
                    let columns = scan.projected_schema.fields().iter().map(|field| field.name().clone());
                    self.columns_of(version.label(), columns);
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(())
    }
}

/// Reads that wait for the next flush.
#[derive(Default)]
pub struct Reads {
    waiting: Mutex<Vec<Read>>,
    reserved: AtomicUsize,
}

/// A place in the queue, held from before the first row until the read is on record or given up.
pub struct Place {
    reads: Arc<Reads>,
    used: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.used {
            self.reads.reserved.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Reads {
    pub fn reserve(self: &Arc<Self>) -> Result<Place> {
        if self.reserved.fetch_add(1, Ordering::Relaxed) >= QUEUE {
            self.reserved.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::new(
                Kind::Unavailable,
                format!("{QUEUE} reads wait to be recorded; no read goes unrecorded: try again in a moment"),
            ));
        }
        Ok(Place { reads: self.clone(), used: false })
    }

    /// Reads that touched no feature are not kept: system views and constants have no lineage.
    pub fn record(&self, mut place: Place, read: Read) {
        if read.columns.is_empty() {
            return;
        }
        place.used = true;
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(read);
    }

    fn take(&self) -> Vec<Read> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put_back(&self, mut reads: Vec<Read>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        reads.append(&mut waiting);
        *waiting = reads;
    }
}

impl Serving {
    /// Writes what ad-hoc reads left to the log: one object and one entry for all of them.
    pub async fn flush(&self, author: &Author) -> Result<()> {
        let reads = self.reads.take();
        if reads.is_empty() {
            return Ok(());
        }
        match self.write(&reads, author).await {
            Ok(()) => {
                self.reads.reserved.fetch_sub(reads.len(), Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                self.reads.put_back(reads);
                Err(error)
            }
        }
    }

    async fn write(&self, reads: &[Read], author: &Author) -> Result<()> {
        let id: BodyId = environment::mint();
        let bytes = encode(reads).map_err(|error| Error::internal("reads cannot be written", error))?;
        let object = self.catalog().put_object(format!("reads/{id}.parquet"), bytes.into()).await?;
        let record = Record::from(ReadsRecorded { reads: reads.len() as u64, object });
        self.catalog().commit::<()>(author, None, |_| Ok(Intent::Append(vec![record.clone()]))).await?;
        Ok(())
    }
}

fn encode(reads: &[Read]) -> Result<Vec<u8>, parquet::errors::ParquetError> {
    let text = |of: fn(&Read) -> Option<String>| -> ArrayRef {
        Arc::new(reads.iter().map(of).collect::<StringArray>())
    };
    let columns = |read: &Read| {
        let all: Vec<String> = read
            .columns
            .iter()
            .flat_map(|(version, names)| names.iter().map(move |name| format!("{version}.{name}")))
            .collect();
        Some(all.join(", "))
    };
    let arrays: Vec<(&str, ArrayRef)> = vec![
        ("read", text(|read| Some(read.id.to_string()))),
        (
            "at",
            Arc::new(
                reads
                    .iter()
                    .map(|read| Some(read.at.micros()))
                    .collect::<TimestampMicrosecondArray>()
                    .with_timezone("UTC"),
            ),
        ),
        ("principal", text(|read| Some(read.principal.clone()))),
        ("program", text(|read| Some(read.program.clone()))),
        ("run", text(|read| read.run.clone())),
        ("experiment", text(|read| read.experiment.clone())),
        ("sequence", Arc::new(UInt64Array::from_iter_values(reads.iter().map(|read| read.sequence.0)))),
        ("columns", text(columns)),
        ("sql", text(|read| Some(read.sql.clone()))),
        ("rows", Arc::new(UInt64Array::from_iter_values(reads.iter().map(|read| read.rows)))),
        ("micros", Arc::new(UInt64Array::from_iter_values(reads.iter().map(|read| read.micros)))),
        ("error", text(|read| read.error.clone())),
    ];
    let fields: Vec<Field> =
        arrays.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), arrays.into_iter().map(|(_, array)| array).collect())?;
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(bytes)
}
