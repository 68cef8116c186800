//! A file of events, one a line.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use async_trait::async_trait;
use lineage::openlineage::Event;

use super::{Refusal, Sink};
use crate::error::{Error, Kind, Result};

/// Bytes that are read at a time when the last line is looked for.
const BLOCK: u64 = 64 * 1024;
/// Bytes of events that are held before they are written.
const HELD: usize = 1 << 20;

/// Appends events to a file. Lines are whole: one that a crash cut short is taken away before the next is
/// written, and its event comes again.
pub struct FileSink {
    place: String,
    file: File,
    /// Where the last whole line ends; not known before the first write, so that who only asks changes
    /// nothing.
    length: Option<u64>,
    held: Vec<u8>,
}

impl FileSink {
    /// # Errors
    /// A file that cannot be opened or written.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(Kind::Invalid, format!("events cannot be written to `{}`: {error}", path.display()))
        };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        Ok(Self {
            place: path.display().to_string(),
            file: file.map_err(failed)?,
            length: None,
            held: Vec::new(),
        })
    }

    fn write_held(&mut self) -> std::io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let length = match self.length {
            Some(length) => length,
            None => whole_lines(&mut self.file)?,
        };
        self.length = Some(length);
        // Also after a write that failed: half of a line is worse than none of it.
        self.file.set_len(length)?;
        self.file.seek(SeekFrom::Start(length))?;
        self.file.write_all(&self.held)?;
        self.length = Some(length + self.held.len() as u64);
        self.held.clear();
        Ok(())
    }

    fn not_now(error: &std::io::Error) -> Refusal {
        Refusal::NotNow { why: error.to_string(), after: None }
    }
}

#[async_trait]
impl Sink for FileSink {
    fn place(&self) -> &str {
        &self.place
    }

    async fn send(&mut self, event: &Event) -> Result<(), Refusal> {
        // Written before the event is taken, so that a failure is of this event and not of one that was
        // taken.
        if self.held.len() >= HELD {
            self.write_held().map_err(|error| Self::not_now(&error))?;
        }
        self.held.extend_from_slice(event.json.as_bytes());
        self.held.push(b'\n');
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), Refusal> {
        self.write_held().map_err(|error| Self::not_now(&error))?;
        self.file.sync_data().map_err(|error| Self::not_now(&error))
    }
}

/// The length up to the end of the last whole line.
fn whole_lines(file: &mut File) -> std::io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut block = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(begin))?;
        block.clear();
        Read::by_ref(file).take(end - begin).read_to_end(&mut block)?;
        if let Some(last) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(begin + last as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(part: usize) -> Event {
        Event {
            sequence: feature::Sequence(4),
            part,
            record: 0,
            about: String::new(),
            json: format!("{{\"part\":{part}}}"),
        }
    }

    #[tokio::test]
    async fn a_line_that_was_cut_short_is_taken_away() {
        let folder = std::env::temp_dir().join(format!("lineament-events-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("events.jsonl");
        for torn in ["", "{\"par", &"x".repeat(200_000)] {
            std::fs::write(&path, format!("{{\"part\":0}}\n{torn}")).unwrap();
            let mut sink = FileSink::open(&path).unwrap();
            sink.send(&event(1)).await.unwrap();
            sink.settle().await.unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"part\":0}\n{\"part\":1}\n");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_is_no_file() {
        let error = FileSink::open(&std::env::temp_dir()).err().unwrap();
        assert!(error.to_string().contains("events cannot be written to"), "{error}");
    }
}
