//! Where a consumer stands in the log, kept in a file of its own.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use feature::{Sequence, StoreId};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// The format that this program writes; it reads no other.
const FORMAT: u32 = 1;

/// An event's place: its entry, and which of the entry's events it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub sequence: Sequence,
    pub part: usize,
}

impl Default for Position {
    fn default() -> Self {
        Self { sequence: Sequence::ZERO, part: 0 }
    }
}

/// The file. It is replaced in one step, so it holds the old place or the new one.
#[derive(Clone, Debug)]
pub struct Cursor {
    path: PathBuf,
    store: StoreId,
    to: String,
    kept: Option<Position>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    store: StoreId,
    to: String,
    /// The next event.
    sequence: Sequence,
    part: usize,
}

impl Cursor {
    pub fn new(path: PathBuf, store: StoreId, to: &str) -> Self {
        Self { path, store, to: to.to_owned(), kept: None }
    }

    /// The next event; none where there is no such file yet.
    ///
    /// # Errors
    /// A file that is no cursor, or one of another store or consumer.
    pub fn read(&self) -> Result<Option<Position>> {
        let invalid =
            |why: String| Error::new(Kind::Invalid, format!("the cursor `{}` {why}", self.path.display()));
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(invalid(format!("cannot be read: {error}"))),
        };
        let again = "remove it to begin at the first entry, or name another";
        let stored: Stored =
            serde_json::from_str(&text).map_err(|error| invalid(format!("is none ({error}); {again}")))?;
        if stored.format != FORMAT {
            return Err(invalid(format!(
                "has format {}, and this program reads {FORMAT}; {again}",
                stored.format
            )));
        }
        if stored.store != self.store {
            return Err(invalid(format!(
                "is of store {}, and this is {}; {again}",
                stored.store, self.store
            )));
        }
        if stored.to != self.to {
            return Err(invalid(format!("is of {}, not of {}; {again}", stored.to, self.to)));
        }
        Ok(Some(Position { sequence: stored.sequence, part: stored.part }))
    }

    /// Keeps a place; durable when this returns.
    ///
    /// # Errors
    /// `Unavailable` where the file cannot be written.
    pub fn keep(&mut self, next: Position) -> Result<()> {
        if self.kept == Some(next) {
            return Ok(());
        }
        let stored = Stored {
            format: FORMAT,
            store: self.store,
            to: self.to.clone(),
            sequence: next.sequence,
            part: next.part,
        };
        let text =
            serde_json::to_string(&stored).map_err(|error| Error::internal("a cursor has no JSON", error))?;
        replace(&self.path, format!("{text}\n").as_bytes()).map_err(|error| {
            Error::new(
                Kind::Unavailable,
                format!("the cursor `{}` cannot be written: {error}", self.path.display()),
            )
        })?;
        self.kept = Some(next);
        Ok(())
    }
}

/// Puts bytes in the place of a file, in one step.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = PathBuf::from(name);
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
