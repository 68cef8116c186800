//! Spines that were ingested once and are asked for many times: `spines/{digest}.parquet`, named by their content.
//!
//! Such an object is proved by its name: whoever reads it digests its rows. Ingesting the same rows again writes nothing. A large one is
//! fetched to a file of the query's own first, so that what was proved is what is read.

mod file;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use catalog::Catalog;
use catalog::records::Object;
use datafusion::catalog::TableProvider;
use datafusion::common::{DataFusionError, Result, plan_datafusion_err};
use datafusion::datasource::MemTable;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use feature::digest::{ContentDigest, digest_batches, hash};
use object_store::path::Path;
use object_store::{GetResult, ObjectStoreExt, PutMode, PutOptions};

pub use file::{SpineFile, SpineWriter, writer_properties};

use crate::streamed_rows::StreamedRows;

/// Rows of a batch as it is read.
const BATCH_ROWS: usize = 65_536;
/// Of the memory limit, the share that an object may have to be read in memory. Its rows take some times as much.
const IN_MEMORY: u64 = 16;
/// An object of fewer bytes is written in one request, by which only one of several writers makes it.
const ONE_REQUEST: u64 = 32 << 20;

/// A spine as it was ingested.
#[derive(Clone, Debug)]
pub struct KeptSpine {
    /// Where it lies, with the digest of the object's bytes.
    pub object: Object,
    /// Of its rows.
    pub digest: ContentDigest,
    pub schema: SchemaRef,
    pub rows: u64,
    table: Arc<dyn TableProvider>,
}

/// Keeps a spine that was encoded as Parquet with Arrow's schema. False where one of the same content was there already.
///
/// # Errors
/// Those of the object storage.
pub async fn keep(
    catalog: &Catalog,
    digest: &ContentDigest,
    bytes: Bytes,
    environment: &Arc<RuntimeEnv>,
) -> Result<bool> {
    let options = PutOptions::from(PutMode::Create);
    let objects = catalog.store().objects();
    match objects.put_opts(&path_of(digest), bytes.into(), options).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::AlreadyExists { .. }) => {
            // What is there must be whole before anything rests on it.
            find(catalog, &digest.to_string(), environment).await?;
            Ok(false)
        }
        Err(error) => Err(unavailable(error)),
    }
}

/// The same of a spine that was written to a file.
///
/// # Errors
/// Those of the object storage and of the disk.
pub async fn keep_file(
    catalog: &Catalog,
    digest: &ContentDigest,
    file: &SpineFile,
    environment: &Arc<RuntimeEnv>,
) -> Result<bool> {
    if file.bytes() <= ONE_REQUEST {
        return keep(catalog, digest, file.read().await?, environment).await;
    }
    // Parts cannot be put only where nothing is. Writers that do not see each other write rows of the same digest.
    match catalog.store().objects().head(&path_of(digest)).await {
        Ok(_) => {
            find(catalog, &digest.to_string(), environment).await?;
            Ok(false)
        }
        Err(object_store::Error::NotFound { .. }) => {
            let put = catalog.put_file(path_of(digest).to_string(), file.path().to_owned()).await;
            put.map_err(|error| DataFusionError::External(Box::new(error)))?;
            Ok(true)
        }
        Err(error) => Err(unavailable(error)),
    }
}

/// The spine of a digest, proved.
///
/// # Errors
/// A text that is no digest; a digest of which no spine was ingested; `External(catalog::Error)` where the object was changed; a large
/// one where the disk has no room.
pub async fn find(catalog: &Catalog, digest: &str, environment: &Arc<RuntimeEnv>) -> Result<KeptSpine> {
    let digest: ContentDigest = digest.parse().map_err(|error| plan_datafusion_err!("the spine: {error}"))?;
    let path = path_of(&digest);
    let got = match catalog.store().objects().get(&path).await {
        Ok(got) => got,
        Err(object_store::Error::NotFound { .. }) => {
            let missing = format!(
                "no spine {digest} was ingested into this store; ingest it by DoPut with the command {{\"spine\": {{}}}}, which answers its digest"
            );
            return Err(DataFusionError::External(Box::new(catalog::Error::NotFound(missing))));
        }
        Err(error) => return Err(unavailable(error)),
    };
    let limit = match environment.memory_pool.memory_limit() {
        MemoryLimit::Finite(limit) => limit as u64,
        MemoryLimit::Infinite | MemoryLimit::Unknown => u64::MAX,
    };
    let name = path.to_string();
    if got.meta.size > limit / IN_MEMORY {
        return from_file(got, name, digest, catalog, environment).await;
    }
    in_memory(got, name, digest, catalog).await
}

async fn in_memory(
    got: GetResult,
    name: String,
    digest: ContentDigest,
    catalog: &Catalog,
) -> Result<KeptSpine> {
    let bytes = got.bytes().await.map_err(unavailable)?;
    let algorithm = catalog.state().hash;
    let read = tokio::task::spawn_blocking(move || {
        let object =
            Object { path: name.clone(), bytes: bytes.len() as u64, digest: hash(algorithm, &bytes) };
        let builder =
            ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| unreadable(&name, &error))?;
        let schema = builder.schema().clone();
        let reader =
            builder.with_batch_size(BATCH_ROWS).build().map_err(|error| unreadable(&name, &error))?;
        let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|error| unreadable(&name, &error))?;
        let found = digest_batches(digest.algorithm(), &schema, &batches)
            .map_err(|error| unreadable(&name, &error))?;
        verify(&name, &found.digest, &digest)?;
        let rows = batches.iter().map(RecordBatch::num_rows).sum::<usize>() as u64;
        let table = Arc::new(MemTable::try_new(schema.clone(), vec![batches])?);
        Ok(KeptSpine { object, digest, schema, rows, table })
    });
    read.await.map_err(|error| DataFusionError::External(Box::new(error)))?
}

async fn from_file(
    got: GetResult,
    name: String,
    digest: ContentDigest,
    catalog: &Catalog,
    environment: &Arc<RuntimeEnv>,
) -> Result<KeptSpine> {
    let (file, object) = file::fetch(got, name.clone(), catalog.state().hash, environment).await?;
    let read = tokio::task::spawn_blocking(move || {
        let found = file.digest(digest.algorithm()).map_err(|error| unreadable(&name, &error))?;
        verify(&name, &found.digest, &digest)?;
        let schema = file.schema().map_err(|error| unreadable(&name, &error))?;
        let table = Arc::new(StreamedRows::new(file.rows(schema.clone()))?);
        Ok(KeptSpine { object, digest, schema, rows: found.rows, table })
    });
    read.await.map_err(|error| DataFusionError::External(Box::new(error)))?
}

fn verify(name: &str, found: &ContentDigest, wanted: &ContentDigest) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    Err(changed(
        name,
        "its rows do not give the digest that it is named by; it was changed after it was written",
    ))
}

fn changed(name: &str, why: &str) -> DataFusionError {
    DataFusionError::External(Box::new(catalog::Error::from(storage::Error::corrupt(name, why))))
}

fn unreadable(name: &str, error: &dyn std::fmt::Display) -> DataFusionError {
    changed(name, &format!("it cannot be read: {error}"))
}

fn unavailable(error: object_store::Error) -> DataFusionError {
    DataFusionError::External(Box::new(catalog::Error::from(storage::Error::from(error))))
}

/// Only the digits of a digest go into a path, never what a caller wrote.
fn path_of(digest: &ContentDigest) -> Path {
    Path::from(format!("spines/{}.parquet", digest.to_string().replace(':', "-")))
}

impl KeptSpine {
    /// As a table that plans can scan.
    pub fn table(&self) -> Arc<dyn TableProvider> {
        self.table.clone()
    }
}
