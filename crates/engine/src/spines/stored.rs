//! A spine that lies in the store as Parquet: proved once, then read a batch at a time, whole or some of its rows. A small one lies in
//! memory as its bytes, a larger one in a file of this machine's disk, so that what was proved is what is read.

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use catalog::Catalog;
use catalog::records::Object;
use datafusion::catalog::TableProvider;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::PageIndexPolicy;
use datafusion::parquet::file::reader::ChunkReader;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::PartitionStream;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::file::{self, SpineFile};
use super::{changed, in_memory_share, unavailable, unreadable};
use crate::streamed_rows::StreamedRows;

/// Batches that may wait for their reader.
const BATCHES_AHEAD: usize = 2;

/// A spine whose bytes are proved.
#[derive(Clone)]
pub struct StoredSpine {
    /// The object, for errors.
    name: Arc<str>,
    bytes: Proved,
    described: ArrowReaderMetadata,
}

#[derive(Clone)]
enum Proved {
    Memory(
        Bytes,
        #[allow(dead_code, reason = "it is given back with the last who reads")] Arc<MemoryReservation>,
    ),
    Disk(SpineFile),
}

impl StoredSpine {
    /// Whether an object is read in memory, where there is any.
    pub fn is_small(object: &Object, environment: &RuntimeEnv) -> bool {
        object.bytes <= in_memory_share(environment)
    }

    /// The object that a manifest or the log names.
    ///
    /// # Errors
    /// `External(catalog::Error)` where it was changed or is gone; the disk has no room for a large one.
    pub async fn open(catalog: &Catalog, object: &Object, environment: &Arc<RuntimeEnv>) -> Result<Self> {
        let memory = MemoryConsumer::new("spine").register(&environment.memory_pool);
        let size = usize::try_from(object.bytes).unwrap_or(usize::MAX);
        if Self::is_small(object, environment) && memory.try_grow(size).is_ok() {
            let bytes = catalog.object(object).await;
            let bytes = bytes.map_err(|error| DataFusionError::External(Box::new(error)))?;
            return Self::of(&object.path, Proved::Memory(bytes, Arc::new(memory)));
        }
        let objects = catalog.store().objects();
        let got = objects.get(&Path::from(object.path.as_str())).await.map_err(unavailable)?;
        let (file, found) = file::fetch(got, object.digest.algorithm(), environment).await?;
        if found != object.digest {
            return Err(changed(
                &object.path,
                "its bytes do not give the digest that the log holds; it was changed after it was written",
            ));
        }
        let name = object.path.clone();
        let opened = tokio::task::spawn_blocking(move || Self::of(&name, Proved::Disk(file)));
        opened.await.map_err(|error| DataFusionError::External(Box::new(error)))?
    }

    /// The same; none where the object is gone.
    ///
    /// # Errors
    /// Those of [`Self::open`] but for that.
    pub async fn open_if_there(
        catalog: &Catalog,
        object: &Object,
        environment: &Arc<RuntimeEnv>,
    ) -> Result<Option<Self>> {
        match Self::open(catalog, object, environment).await {
            Ok(opened) => Ok(Some(opened)),
            Err(DataFusionError::External(error))
                if error.downcast_ref().is_some_and(catalog::Error::is_missing) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn of(name: &str, bytes: Proved) -> Result<Self> {
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let described = match &bytes {
            Proved::Memory(bytes, _) => ArrowReaderMetadata::load(bytes, options),
            Proved::Disk(file) => ArrowReaderMetadata::load(&File::open(file.path())?, options),
        };
        let described = described.map_err(|error| unreadable(name, &error))?;
        Ok(Self { name: name.into(), bytes, described })
    }

    pub fn schema(&self) -> &SchemaRef {
        self.described.schema()
    }

    pub fn rows(&self) -> u64 {
        u64::try_from(self.described.metadata().file_metadata().num_rows()).unwrap_or_default()
    }

    /// Some of its rows as a table. They are decoded as they are read, in batches of the session's size that begin with the first of them.
    ///
    /// # Errors
    /// None that is known: the schema is its own.
    pub fn table(&self, rows: Range<u64>) -> Result<Arc<dyn TableProvider>> {
        let (spine, schema) = (self.clone(), self.schema().clone());
        Ok(Arc::new(StreamedRows::new(Arc::new(Rows { spine, schema, rows }))?))
    }

    /// Some of its rows at once; only pages that hold one are decoded.
    ///
    /// # Errors
    /// `External(catalog::Error)` where they cannot be decoded.
    pub async fn read(&self, rows: Range<u64>, batch_rows: usize) -> Result<Vec<RecordBatch>> {
        let spine = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let batches = spine.reader(&rows, batch_rows)?;
            batches.map(|batch| batch.map_err(|error| unreadable(&spine.name, &error))).collect()
        });
        read.await.map_err(|error| DataFusionError::External(Box::new(error)))?
    }

    fn reader(&self, rows: &Range<u64>, batch_rows: usize) -> Result<ParquetRecordBatchReader> {
        let reader = match &self.bytes {
            Proved::Memory(bytes, _) => reader(bytes.clone(), &self.described, rows, batch_rows),
            Proved::Disk(file) => reader(File::open(file.path())?, &self.described, rows, batch_rows),
        };
        reader.map_err(|error| unreadable(&self.name, &error))
    }
}

impl fmt::Debug for StoredSpine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredSpine").field("name", &self.name).finish_non_exhaustive()
    }
}

fn reader<T: ChunkReader + 'static>(
    bytes: T,
    described: &ArrowReaderMetadata,
    rows: &Range<u64>,
    batch_rows: usize,
) -> Result<ParquetRecordBatchReader, ParquetError> {
    let place = |row: u64| usize::try_from(row).unwrap_or(usize::MAX);
    ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, described.clone())
        .with_offset(place(rows.start))
        .with_limit(place(rows.end.saturating_sub(rows.start)))
        .with_batch_size(batch_rows.max(1))
        .build()
}

/// Rows of a spine, read as often as they are wanted.
#[derive(Debug)]
struct Rows {
    spine: StoredSpine,
    schema: SchemaRef,
    rows: Range<u64>,
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut answer = RecordBatchReceiverStream::builder(self.schema.clone(), BATCHES_AHEAD);
        let (spine, wanted, rows) = (self.spine.clone(), self.rows.clone(), answer.tx());
        answer.spawn_blocking(move || {
            for batch in spine.reader(&wanted, context.session_config().batch_size())? {
                let batch = batch.map_err(|error| unreadable(&spine.name, &error));
                if rows.blocking_send(batch).is_err() {
                    break;
                }
            }
            Ok(())
        });
        answer.build()
    }
}
