//! Objects as local files that survive a power cut: `object_store`'s own local files are never synced.

mod file_system;
mod ranges;
mod unfinished;
mod upload;
mod writer;

#[cfg(test)]
mod power_cut;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use file_system::Real;
use upload::Upload;
use writer::{Failure, Writer};

pub use unfinished::Unfinished;

const NAME: &str = "local files";

/// An object store over one folder of the machine; cheap to clone.
///
/// - A write that was acknowledged survives a power cut; one that was not is there whole or not at all.
/// - `PutMode::Create` makes an object only where none is, also between processes. It needs hard links.
/// - The folder is made by [`create_root`](Self::create_root) alone; until then the store is empty.
/// - Symbolic links below the folder are not written through.
/// - Listing is in no order. Attributes and `PutMode::Update` are not offered.
/// - After a directory could not be synced every call fails, since nobody can tell then what the disk holds.
#[derive(Clone, Debug)]
pub struct DurableLocal {
    writer: Arc<Writer<Real>>,
    reader: Arc<OnceLock<LocalFileSystem>>,
}

impl DurableLocal {
    /// `root` is absolute and resolved; it need not exist.
    pub fn new(root: PathBuf) -> Self {
        Self { writer: Arc::new(Writer::new(Real, root)), reader: Arc::default() }
    }

    /// Makes the folder, for its owner alone, and those above it that are missing. Harmless where it exists.
    pub async fn create_root(&self) -> Result<()> {
        self.write(|writer| writer.create_root()).await
    }

    /// Makes every name in this directory durable, also those that another process made: what somebody will act
    /// on must not be lost to a power cut because its writer died before it synced.
    pub async fn settle(&self, directory: &Path) -> Result<()> {
        let directory = self.file_path(directory)?;
        self.write(move |writer| writer.settle(&directory)).await
    }

    /// Files that never became objects.
    pub async fn unfinished(&self) -> Result<Vec<Unfinished>> {
        self.write(|writer| {
            let root = writer.root();
            unfinished::find(root).map_err(writer::failed("look through", root))
        })
        .await
    }

    /// Removes files that never became objects.
    pub async fn remove_unfinished(&self, files: Vec<Unfinished>) -> Result<()> {
        self.write(move |writer| {
            writer.intact()?;
            unfinished::remove(&files).map_err(writer::failed("remove what was left in", writer.root()))
        })
        .await
    }

    async fn write<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Writer<Real>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let writer = self.writer.clone();
        // The task runs to its end also where nobody waits for it any more.
        Ok(tokio::task::spawn_blocking(move || operation(&writer)).await??)
    }

    /// `None` while the folder does not exist.
    fn reader(&self) -> Result<Option<&LocalFileSystem>> {
        self.writer.intact()?;
        if let Some(reader) = self.reader.get() {
            return Ok(Some(reader));
        }
        if !self.writer.root().is_dir() {
            return Ok(None);
        }
        let reader = LocalFileSystem::new_with_prefix(self.writer.root())?;
        Ok(Some(self.reader.get_or_init(|| reader)))
    }

    fn reader_of(&self, location: &Path) -> Result<&LocalFileSystem> {
        self.reader()?.ok_or_else(|| {
            let source = format!("the folder {} does not exist", self.writer.root().display());
            object_store::Error::NotFound { path: location.to_string(), source: source.into() }
        })
    }

    fn file_path(&self, location: &Path) -> Result<PathBuf> {
        let mut path = self.writer.root().to_path_buf();
        for part in location.parts() {
            let part = part.as_ref();
            if part.is_empty() || part == "." || part == ".." || part.contains(['/', '\\', '\0']) {
                return Err(Failure::Refused(format!("`{location}` is not the name of an object")).into());
            }
            path.push(part);
        }
        Ok(path)
    }

    /// The file of an object that is to be written; names of staged files are refused.
    fn object_path(&self, location: &Path) -> Result<PathBuf> {
        match location.filename() {
            Some(name) if !unfinished::is_staged(name) => self.file_path(location),
            _ => Err(Failure::Refused(format!("`{location}` cannot be the name of an object")).into()),
        }
    }
}

fn not_offered(what: &str) -> object_store::Error {
    object_store::Error::NotImplemented { operation: what.to_owned(), implementer: NAME.to_owned() }
}

impl fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableLocal({})", self.writer.root().display())
    }
}

#[async_trait::async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if !opts.attributes.is_empty() {
            return Err(not_offered("put with attributes"));
        }
        let path = self.object_path(location)?;
        match opts.mode {
            PutMode::Create => self.write(move |writer| writer.create(&path, &payload)).await?,
            PutMode::Overwrite => self.write(move |writer| writer.replace(&path, &payload)).await?,
            PutMode::Update(_) => return Err(not_offered("conditional update")),
        }
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        if !opts.attributes.is_empty() {
            return Err(not_offered("multipart put with attributes"));
        }
        let path = self.object_path(location)?;
        let to = path.clone();
        let staged = self.write(move |writer| writer.stage(&to)).await?;
        Ok(Box::new(Upload::new(self.writer.clone(), staged, path)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.reader_of(location)?.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.reader_of(location)?;
        let (path, ranges) = (self.file_path(location)?, ranges.to_vec());
        Ok(tokio::task::spawn_blocking(move || ranges::read(&path, &ranges)).await??)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .map(move |location| {
                let store = store.clone();
                async move {
                    let location = location?;
                    let path = store.object_path(&location)?;
                    store.write(move |writer| writer.delete(&path)).await?;
                    Ok(location)
                }
            })
            .buffered(10)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.reader() {
            Ok(Some(reader)) => reader.list(prefix),
            Ok(None) => futures::stream::empty().boxed(),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.reader() {
            Ok(Some(reader)) => reader.list_with_offset(prefix, offset),
            Ok(None) => futures::stream::empty().boxed(),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        match self.reader()? {
            Some(reader) => reader.list_with_delimiter(prefix).await,
            None => Ok(ListResult { common_prefixes: Vec::new(), objects: Vec::new() }),
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (from, to) = (self.object_path(from)?, self.object_path(to)?);
        let replace = matches!(options.mode, CopyMode::Overwrite);
        self.write(move |writer| writer.copy(&from, &to, replace)).await
    }
}

impl From<Failure> for object_store::Error {
    fn from(failure: Failure) -> Self {
        let path = match &failure {
            Failure::Exists(path) | Failure::Io { path, .. } => path.display().to_string(),
            Failure::Refused(_) => String::new(),
        };
        match &failure {
            Failure::Exists(_) => Self::AlreadyExists { path, source: Box::new(failure) },
            Failure::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => Self::NotFound { path, source: Box::new(failure) },
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                    Self::PermissionDenied { path, source: Box::new(failure) }
                }
                _ => Self::Generic { store: NAME, source: Box::new(failure) },
            },
            Failure::Refused(_) => Self::Generic { store: NAME, source: Box::new(failure) },
        }
    }
}
