//! A spine as a Parquet file on this machine's disk, charged to a query's share of it and gone with the last who holds it.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SpillFile, SpillWriter};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::WriterProperties;
use feature::digest::{BytesDigest, Digest, HashAlgorithm, TableDigest, TableDigestResult};
use futures::TryStreamExt;
use object_store::GetResult;

use crate::memory::OverSpillLimit;

/// A row group is closed when so many bytes of it wait in memory.
const ROW_GROUP_BYTES: usize = 8 << 20;
/// Bytes of an object that are written at once as it is fetched.
const WRITE_BYTES: usize = 4 << 20;

/// A file that is complete.
#[derive(Clone)]
pub struct SpineFile {
    /// Keeps it on disk.
    _file: Arc<dyn SpillFile>,
    path: PathBuf,
    bytes: u64,
}

/// Writes a spine as it comes, and digests it.
pub struct SpineWriter {
    table: TableDigest,
    writer: ArrowWriter<Box<dyn SpillWriter>>,
    file: Arc<dyn SpillFile>,
    path: PathBuf,
    memory: MemoryReservation,
}

impl SpineWriter {
    /// # Errors
    /// A column that cannot be digested or written as Parquet (`Plan`); the disk fails.
    pub fn new(algorithm: HashAlgorithm, schema: &SchemaRef, environment: &Arc<RuntimeEnv>) -> Result<Self> {
        let table = TableDigest::new(algorithm, schema).map_err(|error| not_kept(&error))?;
        let (file, path) = create(environment)?;
        let writer = ArrowWriter::try_new(file.open_writer()?, schema.clone(), Some(writer_properties()))
            .map_err(|error| failed(&error))?;
        let memory = MemoryConsumer::new("spine").register(&environment.memory_pool);
        Ok(Self { table, writer, file, path, memory })
    }

    /// # Errors
    /// More than the disk's limit allows, by the name that the error of DataFusion has; a value that cannot be digested (`Plan`).
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.table.update(batch).map_err(|error| not_kept(&error))?;
        self.writer.write(batch).map_err(|error| failed(&error))?;
        if self.writer.in_progress_size() >= ROW_GROUP_BYTES {
            self.writer.flush().map_err(|error| failed(&error))?;
        }
        // It is small and given back soon, so that nothing is refused for it.
        self.memory.resize(self.writer.memory_size());
        Ok(())
    }

    /// The file, and what its rows are.
    ///
    /// # Errors
    /// Those of [`Self::write`].
    pub fn finish(self) -> Result<(SpineFile, TableDigestResult)> {
        let mut inner = self.writer.into_inner().map_err(|error| failed(&error))?;
        inner.flush()?;
        inner.finish()?;
        let file = SpineFile::of(self.file, self.path)?;
        Ok((file, self.table.finish()))
    }
}

/// How spines are written, large and small.
pub fn writer_properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::LZ4_RAW)
        .set_created_by("lineament".to_owned())
        .build()
}

impl SpineFile {
    fn of(file: Arc<dyn SpillFile>, path: PathBuf) -> Result<Self> {
        let bytes = std::fs::metadata(&path)?.len();
        Ok(Self { _file: file, path, bytes })
    }

    /// Where it lies, as long as this is held.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All of its bytes.
    pub(super) async fn read(&self) -> Result<Bytes> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || std::fs::read(path));
        Ok(read.await.map_err(|error| DataFusionError::External(Box::new(error)))??.into())
    }
}

impl fmt::Debug for SpineFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpineFile").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Fetches an object to a file, and digests its bytes on the way.
pub(super) async fn fetch(
    got: GetResult,
    algorithm: HashAlgorithm,
    environment: &Arc<RuntimeEnv>,
) -> Result<(SpineFile, Digest)> {
    let (file, path) = create(environment)?;
    let mut writer = file.open_writer()?;
    let mut digest = BytesDigest::new(algorithm);
    let mut bytes = got.into_stream();
    let mut ended = false;
    while !ended {
        let mut waiting = Vec::with_capacity(WRITE_BYTES);
        while waiting.len() < WRITE_BYTES {
            match bytes.try_next().await.map_err(super::unavailable)? {
                Some(some) => waiting.extend_from_slice(&some),
                None => {
                    ended = true;
                    break;
                }
            }
        }
        let written = tokio::task::spawn_blocking(move || {
            digest.update(&waiting);
            writer.write_all(&waiting).map_err(|error| failed(&error))?;
            Ok::<_, DataFusionError>((writer, digest))
        });
        (writer, digest) = written.await.map_err(|error| DataFusionError::External(Box::new(error)))??;
    }
    writer.flush()?;
    writer.finish()?;
    Ok((SpineFile::of(file, path)?, digest.finish()))
}

fn create(environment: &Arc<RuntimeEnv>) -> Result<(Arc<dyn SpillFile>, PathBuf)> {
    let file = environment.disk_manager.create_tmp_file("a spine")?;
    let Some(path) = file.path().map(Path::to_owned) else {
        return internal_err!("a file of a spine is not on this machine");
    };
    Ok((file, path))
}

fn failed(error: &(dyn std::error::Error + 'static)) -> DataFusionError {
    match OverSpillLimit::of(&error.to_string()) {
        Some(refused) => DataFusionError::External(Box::new(refused)),
        None => match error.downcast_ref::<ParquetError>() {
            Some(error) => not_kept(error),
            None => DataFusionError::External(error.to_string().into()),
        },
    }
}

fn not_kept(error: &dyn fmt::Display) -> DataFusionError {
    DataFusionError::Plan(format!("the spine cannot be kept: {error}"))
}
