//! The few things that [`DurableLocal`](super::DurableLocal) asks of a file system, so that a test can see their order.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

/// What a name stands for; links are not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Link,
    Other,
}

pub(super) trait FileSystem: Send + Sync + std::fmt::Debug + 'static {
    type File: Send + Sync + std::fmt::Debug + 'static;

    /// `None` where nothing has this name.
    fn kind(&self, path: &Path) -> io::Result<Option<Kind>>;
    /// For the owner alone; `AlreadyExists` where anything has this name.
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    /// A new empty file for the owner alone; `AlreadyExists` where anything has this name.
    fn create_file(&self, path: &Path) -> io::Result<Self::File>;
    fn write_at(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// The file's bytes and length survive a power cut after this, though its name may not.
    fn sync_file(&self, file: &Self::File) -> io::Result<()>;
    /// One more name for a file; `AlreadyExists` where anything has it.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Replaces what has the new name, in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory survive a power cut after this.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// The machine's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Real;

impl FileSystem for Real {
    type File = File;

    fn kind(&self, path: &Path) -> io::Result<Option<Kind>> {
        let kind = match std::fs::symlink_metadata(path) {
            Ok(metadata) => metadata.file_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(if kind.is_symlink() {
            Kind::Link
        } else if kind.is_dir() {
            Kind::Directory
        } else if kind.is_file() {
            Kind::File
        } else {
            Kind::Other
        }))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)
    }

    fn create_file(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
    }

    fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}
