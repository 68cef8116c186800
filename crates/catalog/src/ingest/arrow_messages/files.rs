//! Arrow IPC files and streams, read a message at a time; each is checked before it is decoded.

use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{FileDecoder, StreamDecoder};
use arrow::ipc::{Block, root_as_footer, root_as_message};

use super::{Limits, MessageCheck, Refused};

/// Stands at both ends of a file, and not at the beginning of a stream.
const MAGIC: &[u8; 6] = b"ARROW1";
/// Stands before the length of a message's header; very old streams lack it.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// Ends a stream.
const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// The rows of an Arrow IPC file or stream. After an error there are no more.
pub struct ArrowRows<R> {
    pub schema: SchemaRef,
    bytes: Bytes<R>,
    check: MessageCheck,
    messages: Messages,
}

enum Messages {
    /// By the places that a file's footer names, and by nothing else.
    Placed { decoder: FileDecoder, blocks: std::vec::IntoIter<Block> },
    /// One after the other.
    InTurn { decoder: StreamDecoder, waiting: Buffer, ended: bool },
}

impl<R: Read + Seek> ArrowRows<R> {
    /// An IPC file, which begins with a magic word, or a stream, which does not.
    ///
    /// # Errors
    /// What is wrong with its footer, schema or dictionaries.
    pub fn open(file: R) -> Result<Self, Refused> {
        let mut bytes = Bytes::of(file)?;
        let begin = bytes.length.min(MAGIC.len() as u64);
        if bytes.at(0, begin)? == MAGIC { Self::file(bytes) } else { Self::stream(bytes) }
    }

    fn file(mut bytes: Bytes<R>) -> Result<Self, Refused> {
        let end = bytes.length.checked_sub(MAGIC.len() as u64 + 4).ok_or_else(cut)?;
        let last = bytes.at(end, MAGIC.len() as u64 + 4)?;
        let length = last.first_chunk().filter(|_| last.ends_with(MAGIC)).ok_or_else(cut)?;
        let length = u64::try_from(i32::from_le_bytes(*length)).map_err(|_| cut())?;
        let footer = bytes.at(end.checked_sub(length).ok_or_else(cut)?, length)?;
        let footer = root_as_footer(&footer)
            .map_err(|error| Refused(format!("its footer is not one of an Arrow IPC file: {error}")))?;
        let mut check = MessageCheck::new(Limits::STORED);
        let described = footer.schema().ok_or_else(|| Refused("its footer has no schema".to_owned()))?;
        check.begin(described)?;
        let schema = Arc::new(fb_to_schema(described));
        let mut decoder = FileDecoder::new(schema.clone(), footer.version());
        for block in footer.dictionaries().into_iter().flatten() {
            let message = bytes.placed(block, &mut check)?;
            decoder.read_dictionary(block, &message).map_err(undecodable)?;
        }
        let blocks: Vec<Block> = footer.recordBatches().into_iter().flatten().copied().collect();
        let messages = Messages::Placed { decoder, blocks: blocks.into_iter() };
        Ok(Self { schema, bytes, check, messages })
    }

    fn stream(mut bytes: Bytes<R>) -> Result<Self, Refused> {
        let mut check = MessageCheck::new(Limits::STORED);
        bytes.seek(0)?;
        let none = || Refused("it has no schema: the file is empty, cut or damaged".to_owned());
        let first = bytes.message(&mut check)?.ok_or_else(none)?;
        let schema = check.schema().ok_or_else(none)?;
        let messages = Messages::InTurn { decoder: StreamDecoder::new(), waiting: first, ended: false };
        Ok(Self { schema: Arc::new(schema), bytes, check, messages })
    }

    fn read(&mut self) -> Result<Option<RecordBatch>, Refused> {
        loop {
            match &mut self.messages {
                Messages::Placed { decoder, blocks } => {
                    let Some(block) = blocks.next() else { return Ok(None) };
                    let message = self.bytes.placed(&block, &mut self.check)?;
                    if let Some(batch) = decoder.read_record_batch(&block, &message).map_err(undecodable)? {
                        return Ok(Some(batch));
                    }
                }
                Messages::InTurn { decoder, waiting, ended } => {
                    if !waiting.is_empty() {
                        if let Some(batch) = decoder.decode(waiting).map_err(undecodable)? {
                            return Ok(Some(batch));
                        }
                    } else if *ended {
                        return Ok(None);
                    } else if let Some(message) = self.bytes.message(&mut self.check)? {
                        *waiting = message;
                    } else {
                        // A stream may also end without saying so. A message without a body is decoded when the next one comes.
                        (*waiting, *ended) = (Buffer::from_vec(END.to_vec()), true);
                    }
                }
            }
        }
    }
}

impl<R: Read + Seek> Iterator for ArrowRows<R> {
    type Item = Result<RecordBatch, Refused>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// A file, of which nothing is read that it does not have.
struct Bytes<R> {
    file: R,
    length: u64,
    place: u64,
}

impl<R: Read + Seek> Bytes<R> {
    fn of(mut file: R) -> Result<Self, Refused> {
        let length = file.seek(SeekFrom::End(0)).map_err(unreadable)?;
        Ok(Self { file, length, place: length })
    }

    fn seek(&mut self, place: u64) -> Result<(), Refused> {
        self.place = self.file.seek(SeekFrom::Start(place)).map_err(unreadable)?;
        Ok(())
    }

    /// The next bytes.
    fn take(&mut self, length: u64) -> Result<Vec<u8>, Refused> {
        if self.length.saturating_sub(self.place) < length {
            return Err(cut());
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| cut())?];
        self.file.read_exact(&mut bytes).map_err(unreadable)?;
        self.place += length;
        Ok(bytes)
    }

    fn at(&mut self, place: u64, length: u64) -> Result<Vec<u8>, Refused> {
        self.seek(place)?;
        self.take(length)
    }

    /// The message that a footer names, header and body, checked.
    fn placed(&mut self, block: &Block, check: &mut MessageCheck) -> Result<Buffer, Refused> {
        let size = |length: i64| u64::try_from(length).map_err(|_| cut());
        let (before, body) = (size(block.metaDataLength().into())?, size(block.bodyLength())?);
        let bytes = self.at(size(block.offset())?, before.checked_add(body).ok_or_else(cut)?)?;
        let (header, body) =
            bytes.split_at_checked(usize::try_from(before).map_err(|_| cut())?).ok_or_else(cut)?;
        let header = header.strip_prefix(&CONTINUATION).unwrap_or(header);
        let (length, header) = header.split_first_chunk::<4>().ok_or_else(cut)?;
        let length = usize::try_from(i32::from_le_bytes(*length)).map_err(|_| cut())?;
        check.admit(header.get(..length).ok_or_else(cut)?, body)?;
        Ok(Buffer::from_vec(bytes))
    }

    /// The next message of a stream, with the length of its header before it, checked; none at the end.
    fn message(&mut self, check: &mut MessageCheck) -> Result<Option<Buffer>, Refused> {
        if self.place == self.length {
            return Ok(None);
        }
        let mut length = self.take(4)?;
        if length == CONTINUATION {
            if self.place == self.length {
                return Ok(None);
            }
            length = self.take(4)?;
        }
        let stated = length.first_chunk().ok_or_else(cut)?;
        let stated = u64::try_from(i32::from_le_bytes(*stated)).map_err(|_| cut())?;
        if stated == 0 {
            return Ok(None);
        }
        let header = self.take(stated)?;
        let body = root_as_message(&header)
            .map_err(|error| Refused(format!("a message's header is not Arrow IPC metadata: {error}")))?
            .bodyLength();
        let body = self.take(u64::try_from(body).map_err(|_| cut())?)?;
        check.admit(&header, &body)?;
        Ok(Some(Buffer::from_vec([&CONTINUATION[..], &length, &header, &body].concat())))
    }
}

fn cut() -> Refused {
    Refused("it ends within a message, or its lengths are wrong: the file is cut or damaged".to_owned())
}

fn unreadable(error: std::io::Error) -> Refused {
    Refused(error.to_string())
}

fn undecodable(error: ArrowError) -> Refused {
    Refused(error.to_string())
}
