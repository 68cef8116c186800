//! A file that is read again when it has changed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How often it is looked at, at most. A token that is taken out of its file counts no longer than this.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest file that is read.
const FILE_BYTES: u64 = 4 << 20;

/// What a file holds. Where the file is changed to something that cannot be read, what it held before stays in force, and the log
/// says so.
pub struct WatchedFile<T> {
    path: PathBuf,
    read: fn(&str) -> Result<T, String>,
    held: Mutex<Held<T>>,
}

struct Held<T> {
    content: Arc<T>,
    stamp: Stamp,
    looked_at: Instant,
}

/// What tells that a file is another than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl<T> WatchedFile<T> {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// Why it cannot be read, with its name.
    pub fn open(path: &Path, read: fn(&str) -> Result<T, String>) -> Result<Self, String> {
        let stamp = stamp(path)?;
        let content = Arc::new(content(path, read)?);
        let held = Mutex::new(Held { content, stamp, looked_at: Instant::now() });
        Ok(Self { path: path.to_owned(), read, held })
    }

    /// What the file holds now, or did at most a second ago.
    pub fn current(&self) -> Arc<T> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.looked_at.elapsed() >= LOOK_EVERY {
            held.looked_at = Instant::now();
            self.look(&mut held);
        }
        held.content.clone()
    }

    fn look(&self, held: &mut Held<T>) {
        let found = stamp(&self.path).and_then(|found| match found == held.stamp {
            true => Ok(None),
            // The stamp is taken first: what is written in between is found the next time.
            false => content(&self.path, self.read).map(|content| Some((found, content))),
        });
        match found {
            Ok(None) => {}
            Ok(Some((stamp, content))) => {
                tracing::info!(file = %self.path.display(), "read again: it was changed");
                (held.stamp, held.content) = (stamp, Arc::new(content));
            }
            Err(why) => tracing::error!("{why}; what it held before stays in force"),
        }
    }
}

fn stamp(path: &Path) -> Result<Stamp, String> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path).map_err(|error| format!("`{}`: {error}", path.display()))?;
    Ok(Stamp { modified: found.modified().ok(), bytes: found.len(), inode: found.ino() })
}

fn content<T>(path: &Path, read: fn(&str) -> Result<T, String>) -> Result<T, String> {
    let said = |why: String| format!("`{}`: {why}", path.display());
    let bytes = std::fs::metadata(path).map_err(|error| said(error.to_string()))?.len();
    if bytes > FILE_BYTES {
        return Err(said(format!("it has {bytes} bytes; at most {FILE_BYTES} are read")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| said(error.to_string()))?;
    read(&text).map_err(said)
}
