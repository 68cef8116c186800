//! Spines that were ingested once and are asked for many times, by the digest of their rows.
//!
//! Whoever reads one proves that its object is what the log says. Ingesting the same rows again writes no object. How long they are kept:
//! `docs/sweep.md`.

mod file;
mod stored;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use catalog::records::SpineKept;
use catalog::{Author, Catalog, State, kept_spines};
use datafusion::catalog::TableProvider;
use datafusion::common::{DataFusionError, Result, plan_datafusion_err};
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::execution::runtime_env::RuntimeEnv;
use feature::SpineId;
use feature::digest::ContentDigest;

pub use file::{SpineFile, SpineWriter, writer_properties};
pub use stored::StoredSpine;

/// Of the memory limit, the share that an object may have to be read in memory. Its rows take some times as much.
const IN_MEMORY: u64 = 16;
/// An object of fewer bytes is written in one request.
const ONE_REQUEST: u64 = 32 << 20;

/// A spine as it was ingested.
#[derive(Clone, Debug)]
pub struct KeptSpine {
    pub record: SpineKept,
    pub schema: SchemaRef,
    table: Arc<dyn TableProvider>,
}

/// The bytes of a spine, as Parquet with Arrow's schema.
pub enum Encoded<'a> {
    Memory(Bytes),
    File(&'a SpineFile),
}

/// Keeps a spine of so many rows. False where one of the same content was there already.
///
/// # Errors
/// Those of the object storage and of the disk.
pub async fn keep(
    catalog: &Catalog,
    digest: &ContentDigest,
    rows: u64,
    bytes: Encoded<'_>,
    environment: &Arc<RuntimeEnv>,
    author: &Author,
) -> Result<bool> {
    let of_catalog = |error: catalog::Error| DataFusionError::External(Box::new(error));
    if kept_spines::keep_again(catalog, digest, author).await.map_err(of_catalog)? {
        // What is there must be whole before anything rests on it.
        find(catalog, &digest.to_string(), environment).await?;
        return Ok(false);
    }
    let spine: SpineId = storage::environment::mint();
    let path = format!("spines/{spine}.parquet");
    let object = match bytes {
        Encoded::Memory(bytes) => catalog.put_object(path, bytes).await,
        Encoded::File(file) if file.bytes() <= ONE_REQUEST => {
            catalog.put_object(path, file.read().await?).await
        }
        Encoded::File(file) => catalog.put_file(path, file.path().to_owned()).await,
    };
    let object = object.map_err(of_catalog)?;
    let record = SpineKept { spine, digest: digest.to_string(), rows, object };
    kept_spines::keep(catalog, &record, author).await.map_err(of_catalog)
}

/// The spine of a digest, proved.
///
/// # Errors
/// A text that is no digest; a digest of which no spine was ingested; `External(catalog::Error)` where the object was changed; a large
/// one where the disk has no room.
pub async fn find(catalog: &Catalog, digest: &str, environment: &Arc<RuntimeEnv>) -> Result<KeptSpine> {
    let digest: ContentDigest = digest.parse().map_err(|error| plan_datafusion_err!("the spine: {error}"))?;
    let missing = || {
        let missing = format!(
            "no spine {digest} is kept in this store: it was never ingested, or so long ago that it was swept; ingest it by DoPut with the \
             command {{\"spine\": {{}}}}, which answers its digest"
        );
        DataFusionError::External(Box::new(catalog::Error::NotFound(missing)))
    };
    let of_digest =
        |state: &State| state.spines().of_digest(&digest.to_string()).map(|spine| spine.record.clone());
    let record = match of_digest(&catalog.state()) {
        Some(record) => record,
        // Another process may have kept it a moment ago.
        None => {
            let newest =
                catalog.refresh().await.map_err(|error| DataFusionError::External(Box::new(error)))?;
            of_digest(&newest).ok_or_else(missing)?
        }
    };
    if catalog.state().erasures().took(&record.object.path) {
        let erased = format!(
            "the spine {digest} had rows of an entity that was erased, and is not kept any more; put its rows up again without those"
        );
        return Err(DataFusionError::External(Box::new(catalog::Error::NotFound(erased))));
    }
    let Some(opened) = StoredSpine::open_if_there(catalog, &record.object, environment).await? else {
        // It may have been swept since this process looked at the log; else it is damage.
        let newest = catalog.refresh().await.map_err(|error| DataFusionError::External(Box::new(error)))?;
        return Err(match of_digest(&newest) {
            Some(_) => changed(&record.object.path, "it is missing"),
            None => missing(),
        });
    };
    let (schema, table) = (opened.schema().clone(), opened.table(0..record.rows)?);
    Ok(KeptSpine { record, schema, table })
}

/// The most bytes that an object may have to be read in memory.
fn in_memory_share(environment: &RuntimeEnv) -> u64 {
    match environment.memory_pool.memory_limit() {
        MemoryLimit::Finite(limit) => limit as u64 / IN_MEMORY,
        MemoryLimit::Infinite | MemoryLimit::Unknown => u64::MAX,
    }
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

impl KeptSpine {
    /// As a table that plans can scan.
    pub fn table(&self) -> Arc<dyn TableProvider> {
        self.table.clone()
    }
}
