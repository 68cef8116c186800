//! The messages of Arrow IPC files and streams that lie in memory whole.

use arrow::ipc::{Block, root_as_footer, root_as_message};

use super::{Limits, MessageCheck, Refused};

/// Stands at both ends of a file, and not at the beginning of a stream.
pub const MAGIC: &[u8; 6] = b"ARROW1";
/// Stands before the length of a message's header; very old streams lack it.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Whether a file or stream can be decoded without harm.
///
/// # Errors
/// What is wrong with it; also where it ends within a message.
pub fn check(bytes: &[u8]) -> Result<(), Refused> {
    if bytes.starts_with(MAGIC) { check_file(bytes) } else { check_stream(bytes) }
}

fn check_stream(mut rest: &[u8]) -> Result<(), Refused> {
    let mut check = MessageCheck::new(Limits::STORED);
    while let Some((header, body, after)) = message(rest)? {
        check.admit(header, body)?;
        rest = after;
    }
    Ok(())
}

/// A file is read by the places that its footer names, and by nothing else.
fn check_file(bytes: &[u8]) -> Result<(), Refused> {
    let end = bytes.len().checked_sub(MAGIC.len() + 4).filter(|_| bytes.ends_with(MAGIC));
    let Some((before, length)) = end.and_then(|end| bytes[..end + 4].split_last_chunk::<4>()) else {
        return Err(cut());
    };
    let length = usize::try_from(i32::from_le_bytes(*length)).map_err(|_| cut())?;
    let footer = before.len().checked_sub(length).map(|from| &before[from..]).ok_or_else(cut)?;
    let footer = root_as_footer(footer)
        .map_err(|error| Refused(format!("its footer is not one of an Arrow IPC file: {error}")))?;
    let mut check = MessageCheck::new(Limits::STORED);
    check.begin(footer.schema().ok_or_else(|| Refused("its footer has no schema".to_owned()))?)?;
    for block in
        footer.dictionaries().into_iter().flatten().chain(footer.recordBatches().into_iter().flatten())
    {
        let (header, body) = placed(bytes, block).ok_or_else(cut)?;
        check.admit(header, body)?;
    }
    Ok(())
}

/// Header and body of the message that a footer names.
fn placed<'a>(bytes: &'a [u8], block: &Block) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.get(usize::try_from(block.offset()).ok()?..)?;
    let (before, body) = at.split_at_checked(usize::try_from(block.metaDataLength()).ok()?)?;
    let body = body.get(..usize::try_from(block.bodyLength()).ok()?)?;
    let before = before.strip_prefix(&CONTINUATION).unwrap_or(before);
    let (length, header) = before.split_first_chunk::<4>()?;
    Some((header.get(..usize::try_from(i32::from_le_bytes(*length)).ok()?)?, body))
}

/// Header, body and what comes after them; none at the end.
type Message<'a> = (&'a [u8], &'a [u8], &'a [u8]);

fn message(bytes: &[u8]) -> Result<Option<Message<'_>>, Refused> {
    let bytes = bytes.strip_prefix(&CONTINUATION).unwrap_or(bytes);
    let Some((length, bytes)) = bytes.split_first_chunk::<4>() else {
        // A stream may also end without saying so.
        return if bytes.is_empty() { Ok(None) } else { Err(cut()) };
    };
    let length = usize::try_from(i32::from_le_bytes(*length)).map_err(|_| cut())?;
    if length == 0 {
        return Ok(None);
    }
    let (header, bytes) = bytes.split_at_checked(length).ok_or_else(cut)?;
    let body = root_as_message(header)
        .map_err(|error| Refused(format!("a message's header is not Arrow IPC metadata: {error}")))?
        .bodyLength();
    let (body, after) =
        usize::try_from(body).ok().and_then(|length| bytes.split_at_checked(length)).ok_or_else(cut)?;
    Ok(Some((header, body, after)))
}

fn cut() -> Refused {
    Refused("it ends within a message, or its lengths are wrong: the file is cut or damaged".to_owned())
}
