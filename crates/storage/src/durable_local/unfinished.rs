//! Files that never became objects: what a writer leaves that is stopped before it gave a file its name.

use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use feature::Timestamp;

/// A file that no listing shows.
#[derive(Clone, Debug)]
pub struct Unfinished {
    path: PathBuf,
    pub bytes: u64,
    /// When it was written last, as the file system says.
    pub modified: Timestamp,
}

/// Whether this is the name of a file that is being written: that of an object, `#`, and digits.
pub(super) fn is_staged(name: &str) -> bool {
    match name.split_once('#') {
        Some((_, digits)) => !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => false,
    }
}

/// All of them below a folder. Links are not followed; what vanishes meanwhile is passed over.
pub(super) fn find(root: &Path) -> io::Result<Vec<Unfinished>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
                continue;
            }
            if !kind.is_file() || !entry.file_name().to_str().is_some_and(is_staged) {
                continue;
            }
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let since = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            let modified = Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
            found.push(Unfinished { path: entry.path(), bytes: metadata.len(), modified });
        }
    }
    Ok(found)
}

/// Removes them. A writer that is at work on one fails, and says so.
pub(super) fn remove(files: &[Unfinished]) -> io::Result<()> {
    for file in files {
        match std::fs::remove_file(&file.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
