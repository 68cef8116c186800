//! The order of file-system operations that makes a write survive a power cut.
//!
//! Bytes are synced before they get their name, and the name before the write is acknowledged; so an object is
//! whole or absent at any moment, and there once acknowledged. What a crashed writer leaves behind is a file named
//! `{object}#{digits}`, which reading and listing do not see.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use object_store::PutPayload;

use super::file_system::{FileSystem, Kind};
use crate::environment;

#[derive(Debug)]
pub(super) struct Writer<F: FileSystem> {
    fs: F,
    root: PathBuf,
    /// Directories whose own names are known to be durable.
    entered: Mutex<HashSet<PathBuf>>,
    /// Why nothing may be read or written any more.
    broken: OnceLock<String>,
}

/// A file that has no object's name yet.
#[derive(Debug)]
pub(super) struct Staged<H> {
    pub file: H,
    path: PathBuf,
}

/// An operation that failed, and where.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0} exists")]
    Exists(PathBuf),
    #[error("could not {verb} {path}: {source}")]
    Io { verb: &'static str, path: PathBuf, source: io::Error },
    #[error("{0}")]
    Refused(String),
}

pub(super) fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_path_buf();
    move |source| Failure::Io { verb, path, source }
}

impl<F: FileSystem> Writer<F> {
    pub fn new(fs: F, root: PathBuf) -> Self {
        Self { fs, root, entered: Mutex::default(), broken: OnceLock::new() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Fails once a directory could not be synced. The system may have dropped what it could not write, and a
    /// second sync would then report success for what is lost: only a fresh look at the disk can tell.
    pub fn intact(&self) -> Result<(), Failure> {
        match self.broken.get() {
            None => Ok(()),
            Some(why) => Err(Failure::Refused(format!(
                "{why}; nothing is read or written until the store is opened anew"
            ))),
        }
    }

    /// Makes the root where it is missing, and the directories above it.
    pub fn create_root(&self) -> Result<(), Failure> {
        self.intact()?;
        let mut missing = Vec::new();
        let mut path = self.root.as_path();
        loop {
            match self.fs.kind(path).map_err(failed("look at", path))? {
                Some(Kind::Directory) => break,
                // A link above the root was resolved when the root was.
                Some(_) => return Err(Failure::Refused(format!("{} is not a folder", path.display()))),
                None => missing.push(path),
            }
            match path.parent() {
                Some(parent) => path = parent,
                None => break,
            }
        }
        for directory in missing.into_iter().rev() {
            self.make(directory)?;
            if let Some(parent) = directory.parent() {
                self.sync_directory(parent)?;
            }
        }
        Ok(())
    }

    /// Makes the object; `Exists` where there is one.
    pub fn create(&self, to: &Path, content: &PutPayload) -> Result<(), Failure> {
        let staged = self.stage_whole(to, content)?;
        let linked = self.fs.link(&staged.path, to);
        self.discard(staged);
        match linked {
            Ok(()) => self.sync_directory_of(to),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Failure::Exists(to.to_path_buf()))
            }
            Err(error) => Err(failed("name", to)(error)),
        }
    }

    /// Makes the object or replaces the one there.
    pub fn replace(&self, to: &Path, content: &PutPayload) -> Result<(), Failure> {
        let staged = self.stage_whole(to, content)?;
        self.rename(staged, to)
    }

    /// A new file beside an object's place, to be filled, then finished or discarded.
    pub fn stage(&self, to: &Path) -> Result<Staged<F::File>, Failure> {
        self.intact()?;
        let directory = directory_of(to)?;
        let mut again = true;
        loop {
            self.enter(directory)?;
            let path = staged_path(to);
            match self.fs.create_file(&path) {
                Ok(file) => return Ok(Staged { file, path }),
                // Somebody removed a directory that was made before.
                Err(error) if error.kind() == io::ErrorKind::NotFound && again => {
                    again = false;
                    self.known().clear();
                }
                Err(error) => return Err(failed("create", &path)(error)),
            }
        }
    }

    pub fn write_at(
        &self,
        file: &F::File,
        offset: u64,
        content: &PutPayload,
        to: &Path,
    ) -> Result<(), Failure> {
        let mut offset = offset;
        for chunk in content {
            self.fs.write_at(file, offset, chunk).map_err(failed("write", to))?;
            offset += chunk.len() as u64;
        }
        Ok(())
    }

    /// Gives a filled file its name, and replaces what has it.
    pub fn finish(&self, staged: Staged<F::File>, to: &Path) -> Result<(), Failure> {
        match self.fs.sync_file(&staged.file) {
            Ok(()) => self.rename(staged, to),
            Err(error) => {
                self.discard(staged);
                Err(failed("sync", to)(error))
            }
        }
    }

    /// Removes a staged file. One that stays is invisible and harmless, so a failure is no error.
    pub fn discard(&self, staged: Staged<F::File>) {
        let _ = self.fs.remove(&staged.path);
    }

    pub fn delete(&self, path: &Path) -> Result<(), Failure> {
        self.intact()?;
        self.fs.remove(path).map_err(failed("delete", path))?;
        self.sync_directory_of(path)
    }

    /// One more name for an object; its bytes are durable already. `Exists` where an object has it, unless that
    /// is to be replaced.
    pub fn copy(&self, from: &Path, to: &Path, replace: bool) -> Result<(), Failure> {
        self.intact()?;
        self.enter(directory_of(to)?)?;
        let target = if replace { staged_path(to) } else { to.to_path_buf() };
        match self.fs.link(from, &target) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !replace => {
                return Err(Failure::Exists(to.to_path_buf()));
            }
            Err(error) => return Err(failed("copy", from)(error)),
        }
        if replace {
            let renamed = self.fs.rename(&target, to);
            // Renaming one name of a file over another of the same file does nothing and succeeds.
            let _ = self.fs.remove(&target);
            renamed.map_err(failed("name", to))?;
        }
        self.sync_directory_of(to)
    }

    /// Makes every name in a directory durable, whoever made it; a directory that is not there has none.
    pub fn settle(&self, directory: &Path) -> Result<(), Failure> {
        self.intact()?;
        match self.fs.kind(directory).map_err(failed("look at", directory))? {
            None => Ok(()),
            Some(_) => {
                self.enter(directory)?;
                self.sync_directory(directory)
            }
        }
    }

    fn stage_whole(&self, to: &Path, content: &PutPayload) -> Result<Staged<F::File>, Failure> {
        let staged = self.stage(to)?;
        let written = self
            .write_at(&staged.file, 0, content, to)
            .and_then(|()| self.fs.sync_file(&staged.file).map_err(failed("sync", to)));
        match written {
            Ok(()) => Ok(staged),
            Err(failure) => {
                self.discard(staged);
                Err(failure)
            }
        }
    }

    fn rename(&self, staged: Staged<F::File>, to: &Path) -> Result<(), Failure> {
        if let Err(error) = self.fs.rename(&staged.path, to) {
            self.discard(staged);
            return Err(failed("name", to)(error));
        }
        self.sync_directory_of(to)
    }

    /// Makes the directories down to this one and their names durable. A directory that is found may have been
    /// made by a process that crashed before it synced, so each is synced once by each process.
    fn enter(&self, directory: &Path) -> Result<(), Failure> {
        if self.known().contains(directory) {
            return Ok(());
        }
        let below = directory
            .strip_prefix(&self.root)
            .map_err(|_| Failure::Refused(format!("{} is outside of the store", directory.display())))?;
        self.enter_root()?;
        let mut path = self.root.clone();
        for part in below.components() {
            let parent = path.clone();
            path.push(part);
            if self.known().contains(&path) {
                continue;
            }
            self.make(&path)?;
            self.sync_directory(&parent)?;
            self.known().insert(path.clone());
        }
        Ok(())
    }

    fn enter_root(&self) -> Result<(), Failure> {
        if self.known().contains(&self.root) {
            return Ok(());
        }
        if let Some(above) = self.root.parent() {
            match self.fs.sync_directory(above) {
                Ok(()) => {}
                // Who may not read the directory above did not make the root in it either.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(failed("sync", above)(error)),
            }
        }
        self.known().insert(self.root.clone());
        Ok(())
    }

    fn make(&self, directory: &Path) -> Result<(), Failure> {
        match self.fs.create_directory(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("create", directory)(error)),
        }
        match self.fs.kind(directory).map_err(failed("look at", directory))? {
            Some(Kind::Directory) => Ok(()),
            Some(Kind::Link) => Err(Failure::Refused(format!(
                "{} is a symbolic link, which could lead out of the store",
                directory.display()
            ))),
            _ => Err(Failure::Refused(format!("{} is not a folder", directory.display()))),
        }
    }

    fn sync_directory_of(&self, path: &Path) -> Result<(), Failure> {
        self.sync_directory(directory_of(path)?)
    }

    fn sync_directory(&self, directory: &Path) -> Result<(), Failure> {
        self.fs.sync_directory(directory).map_err(|error| {
            let failure = failed("sync", directory)(error);
            let _ = self.broken.set(failure.to_string());
            failure
        })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.entered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn directory_of(path: &Path) -> Result<&Path, Failure> {
    path.parent().ok_or_else(|| Failure::Refused(format!("{} has no folder", path.display())))
}

/// Digits after `#` keep a file out of every listing, and random ones keep it apart from what crashes left.
fn staged_path(to: &Path) -> PathBuf {
    let mut path = to.as_os_str().to_owned();
    path.push(format!("#{}", environment::chance()));
    PathBuf::from(path)
}
