//! Spines that were ingested once and are asked for many times: `spines/{digest}.parquet`, named by their content.
//!
//! Such an object is proved by its name: whoever reads it digests its rows. Ingesting the same rows again writes nothing.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use catalog::Catalog;
use catalog::records::Object;
use datafusion::common::{DataFusionError, Result, plan_datafusion_err};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use feature::digest::{ContentDigest, digest_batches, hash};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions};

/// Rows of a batch as it is read.
const BATCH_ROWS: usize = 65_536;

/// A spine as it was ingested.
#[derive(Clone, Debug)]
pub struct KeptSpine {
    /// Where it lies, with the digest of the object's bytes.
    pub object: Object,
    /// Of its rows.
    pub digest: ContentDigest,
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

/// Keeps a spine that was encoded as Parquet with Arrow's schema. False where one of the same content was there already.
///
/// # Errors
/// Those of the object storage.
pub async fn keep(catalog: &Catalog, digest: &ContentDigest, bytes: Bytes) -> Result<bool> {
    let options = PutOptions::from(PutMode::Create);
    let objects = catalog.store().objects();
    match objects.put_opts(&path_of(digest), bytes.into(), options).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::AlreadyExists { .. }) => {
            // What is there must be whole before anything rests on it.
            find(catalog, &digest.to_string()).await?;
            Ok(false)
        }
        Err(error) => Err(unavailable(error)),
    }
}

/// The spine of a digest, proved.
///
/// # Errors
/// A text that is no digest; a digest of which no spine was ingested; `External(catalog::Error)` where the object was changed.
pub async fn find(catalog: &Catalog, digest: &str) -> Result<KeptSpine> {
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
    let bytes = got.bytes().await.map_err(unavailable)?;
    let (name, algorithm) = (path.to_string(), catalog.state().hash);
    let read = tokio::task::spawn_blocking(move || {
        let changed = |why: &str| {
            let error = storage::Error::corrupt(&name, why);
            DataFusionError::External(Box::new(catalog::Error::from(error)))
        };
        let unreadable = |error: &dyn std::fmt::Display| changed(&format!("it cannot be read: {error}"));
        let object =
            Object { path: name.clone(), bytes: bytes.len() as u64, digest: hash(algorithm, &bytes) };
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| unreadable(&error))?;
        let schema = builder.schema().clone();
        let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(|error| unreadable(&error))?;
        let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|error| unreadable(&error))?;
        let found =
            digest_batches(digest.algorithm(), &schema, &batches).map_err(|error| unreadable(&error))?;
        if found.digest != digest {
            return Err(changed(
                "its rows do not give the digest that it is named by; it was changed after it was written",
            ));
        }
        Ok(KeptSpine { object, digest, schema, batches })
    });
    read.await.map_err(|error| DataFusionError::External(Box::new(error)))?
}

fn unavailable(error: object_store::Error) -> DataFusionError {
    DataFusionError::External(Box::new(catalog::Error::from(storage::Error::from(error))))
}

/// Only the digits of a digest go into a path, never what a caller wrote.
fn path_of(digest: &ContentDigest) -> Path {
    Path::from(format!("spines/{}.parquet", digest.to_string().replace(':', "-")))
}

impl KeptSpine {
    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// As a table that plans can scan.
    pub(crate) fn table(self) -> Result<Arc<datafusion::datasource::MemTable>> {
        Ok(Arc::new(datafusion::datasource::MemTable::try_new(self.schema, vec![self.batches])?))
    }
}
