//! Where an export goes: a folder of this machine, or a bucket.

use std::fmt;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{AsyncArrowWriter, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use storage::{Clock, Store};

use crate::error::{Error, Kind, Result};
use crate::export::{properties, write_parquet};

/// The ending of a file that is being written.
const UNFINISHED: &str = ".unfinished";
/// Rows of a batch as files are read back.
const BATCH_ROWS: usize = 65_536;

/// A place for Parquet files. A file has its name only when it is whole.
#[derive(Clone, Debug)]
pub enum ExportTo {
    Folder(PathBuf),
    Bucket {
        objects: Arc<dyn ObjectStore>,
        /// Its address, which holds no credentials.
        location: String,
    },
}

impl ExportTo {
    /// The path of a folder, or an address as that of a store: `s3://bucket/exports/one`.
    ///
    /// # Errors
    /// An address of no kind that is known, or without what it takes to reach it; `memory://`.
    pub fn parse(address: &str) -> Result<Self> {
        if !address.contains("://") {
            return Ok(Self::Folder(PathBuf::from(address)));
        }
        if address.starts_with("memory://") {
            return Err(Error::new(
                Kind::Invalid,
                "files in memory:// are gone when the export ends; name a folder, or s3://, gs:// or az:// with a prefix",
            ));
        }
        // Opened as a store, a folder that holds an earlier export would be refused.
        if let Some(folder) = Store::folder_of(address).map_err(catalog::Error::from)? {
            return Ok(Self::Folder(folder));
        }
        let store = Store::open(address, Clock::System).map_err(catalog::Error::from)?;
        Ok(Self::Bucket { objects: store.objects(), location: store.location().to_owned() })
    }

    /// Makes a folder that is not there; a bucket must be there.
    pub(crate) fn prepare(&self) -> Result<()> {
        match self {
            Self::Folder(folder) => fs::create_dir_all(folder).map_err(|error| self.unwritable("", &error)),
            Self::Bucket { .. } => Ok(()),
        }
    }

    /// A file's place, for errors.
    pub(crate) fn place(&self, name: &str) -> String {
        match self {
            Self::Folder(folder) => folder.join(name).display().to_string(),
            Self::Bucket { location, .. } => format!("{}/{name}", location.trim_end_matches('/')),
        }
    }

    /// What lies there.
    pub(crate) async fn names(&self) -> Result<Vec<String>> {
        match self {
            Self::Folder(folder) => {
                let entries = fs::read_dir(folder).map_err(|error| self.unwritable("", &error))?;
                let name = |entry: std::io::Result<fs::DirEntry>| {
                    Ok(entry
                        .map_err(|error| self.unwritable("", &error))?
                        .file_name()
                        .to_string_lossy()
                        .into_owned())
                };
                entries.map(name).collect()
            }
            Self::Bucket { objects, .. } => {
                let found = objects.list_with_delimiter(None).await;
                let found = found.map_err(|error| self.unwritable("", &error))?;
                let name = |found: &object_store::ObjectMeta| found.location.filename().map(str::to_owned);
                Ok(found.objects.iter().filter_map(name).collect())
            }
        }
    }

    /// The columns and the number of rows of a file; none where it is not there.
    pub(crate) async fn described(&self, name: &str) -> Result<Option<(SchemaRef, usize)>> {
        let rows = |rows: i64| usize::try_from(rows).unwrap_or_default();
        match self {
            Self::Folder(folder) => {
                let file = match File::open(folder.join(name)) {
                    Ok(file) => file,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(self.unreadable(name, &error)),
                };
                let reader = ParquetRecordBatchReaderBuilder::try_new(file);
                let reader = reader.map_err(|error| self.unreadable(name, &error))?;
                Ok(Some((reader.schema().clone(), rows(reader.metadata().file_metadata().num_rows()))))
            }
            Self::Bucket { objects, .. } => {
                let Some(reader) = self.object(objects, name).await? else { return Ok(None) };
                Ok(Some((reader.schema().clone(), rows(reader.metadata().file_metadata().num_rows()))))
            }
        }
    }

    /// Writes a file. What was written of one that fails is not there under its name.
    pub(crate) async fn write(
        &self,
        name: &str,
        schema: SchemaRef,
        mut rows: impl Stream<Item = Result<RecordBatch>> + Unpin,
    ) -> Result<()> {
        match self {
            Self::Folder(folder) => {
                let unfinished = format!("{name}{UNFINISHED}");
                let path = folder.join(&unfinished);
                let failed = |error: std::io::Error| self.unwritable(&unfinished, &error);
                let file = File::create(&path).map_err(failed)?;
                let again = file.try_clone().map_err(failed)?;
                write_parquet(schema, rows, file).await?;
                again.sync_all().map_err(failed)?;
                fs::rename(&path, folder.join(name)).map_err(|error| self.unwritable(name, &error))
            }
            Self::Bucket { objects, .. } => {
                let failed = |error: &dyn fmt::Display| self.unwritable(name, error);
                let upload = BufWriter::new(objects.clone(), object(name));
                let mut writer = AsyncArrowWriter::try_new(upload, schema, Some(properties().build()))
                    .map_err(|error| failed(&error))?;
                let written = async {
                    while let Some(batch) = rows.try_next().await? {
                        writer.write(&batch).await.map_err(|error| failed(&error))?;
                    }
                    Ok::<_, Error>(())
                };
                let written = written.await;
                if let Err(error) = written {
                    // What matters is why; parts that are left over expire by the bucket's own rules.
                    let _ = writer.into_inner().abort().await;
                    return Err(error);
                }
                // An upload that fails at its end takes back its parts itself, and aborting it once more is a panic.
                writer.finish().await.map_err(|error| failed(&error))?;
                Ok(())
            }
        }
    }

    /// The rows of a file.
    pub(crate) async fn read(&self, name: &str) -> Result<BoxStream<'_, Result<RecordBatch>>> {
        let name = name.to_owned();
        match self {
            Self::Folder(folder) => {
                let file = File::open(folder.join(&name)).map_err(|error| self.unreadable(&name, &error))?;
                let reader = ParquetRecordBatchReaderBuilder::try_new(file)
                    .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build())
                    .map_err(|error| self.unreadable(&name, &error))?;
                let batches = reader.map(move |batch| batch.map_err(|error| self.unreadable(&name, &error)));
                Ok(futures::stream::iter(batches).boxed())
            }
            Self::Bucket { objects, .. } => {
                let builder = self.object(objects, &name).await?;
                let gone = || self.unreadable(&name, &"it is gone");
                let builder = builder.ok_or_else(gone)?.with_batch_size(BATCH_ROWS);
                let batches = builder.build().map_err(|error| self.unreadable(&name, &error))?;
                Ok(batches.map_err(move |error| self.unreadable(&name, &error)).boxed())
            }
        }
    }

    /// A file of a bucket; none where it is not there.
    async fn object(
        &self,
        objects: &Arc<dyn ObjectStore>,
        name: &str,
    ) -> Result<Option<ParquetRecordBatchStreamBuilder<Ranges>>> {
        let size = match objects.head(&object(name)).await {
            Ok(found) => found.size,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.unwritable(name, &error)),
        };
        let reader = Ranges { objects: objects.clone(), path: object(name), size };
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await;
        builder.map(Some).map_err(|error| self.unreadable(name, &error))
    }

    fn unwritable(&self, name: &str, error: &dyn fmt::Display) -> Error {
        let place = if name.is_empty() { self.to_string() } else { self.place(name) };
        Error::new(Kind::Unavailable, format!("`{place}` cannot be written: {error}"))
    }

    fn unreadable(&self, name: &str, error: &dyn fmt::Display) -> Error {
        let place = self.place(name);
        Error::new(Kind::Damaged, format!("`{place}` cannot be read: {error}; remove it and export again"))
    }
}

impl From<&Path> for ExportTo {
    fn from(folder: &Path) -> Self {
        Self::Folder(folder.to_owned())
    }
}

impl fmt::Display for ExportTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Bucket { location, .. } => f.write_str(location),
        }
    }
}

/// An object, read in stretches.
struct Ranges {
    objects: Arc<dyn ObjectStore>,
    path: object_store::path::Path,
    size: u64,
}

impl AsyncFileReader for Ranges {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        let read = async move { self.objects.get_range(&self.path, range).await };
        read.map(|read| read.map_err(|error| ParquetError::External(error.into()))).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let size = self.size;
        let read = async move { ParquetMetaDataReader::new().load_and_finish(self, size).await };
        read.map(|read| read.map(Arc::new)).boxed()
    }
}

fn object(name: &str) -> object_store::path::Path {
    object_store::path::Path::from(name)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};
    use object_store::local::LocalFileSystem;

    use super::*;

    #[tokio::test]
    async fn an_upload_that_fails_at_its_end_is_an_error() {
        // A file cannot take the place of a folder, which shows when all of it is written.
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("part.parquet/taken")).unwrap();
        let objects = Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap());
        let to = ExportTo::Bucket { objects, location: "s3://bucket".to_owned() };
        let schema = Arc::new(Schema::new(vec![Field::new("number", DataType::Int64, false)]));
        let none = futures::stream::iter(Vec::new());
        let error = to.write("part.parquet", schema, none).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.to_string().contains("`s3://bucket/part.parquet` cannot be written"), "{error}");
    }
    #[test]
    fn a_file_address_is_a_folder_and_memory_is_no_place() {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("file://{}", folder.path().display());
        for _ in 0..2 {
            let to = ExportTo::parse(&address).unwrap();
            assert!(matches!(&to, ExportTo::Folder(path) if path == folder.path()), "{to}");
            // As an export leaves it.
            fs::write(folder.path().join("part-00000.parquet"), "rows").unwrap();
        }
        let error = ExportTo::parse("memory://").unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains("name a folder"), "{error}");
    }
}
