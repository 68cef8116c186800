//! How far an LZ4 frame can unfold, told from its block headers. The decoder does not stop at the length that was claimed.

use super::Refused;

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// An LZ4 block cannot unfold to more than this many times its size.
const RATIO: u64 = 255;
const UNCOMPRESSED: u32 = 1 << 31;

/// The most bytes that this frame can unfold to.
///
/// # Errors
/// Where it is not one LZ4 frame of the current format.
pub fn bound(frame: &[u8]) -> Result<u64, Refused> {
    let broken = || Refused("a buffer is said to be an LZ4 frame and is not one".to_owned());
    let rest = frame.strip_prefix(&MAGIC).ok_or_else(broken)?;
    let [flags, sizes, rest @ ..] = rest else { return Err(broken()) };
    let block_bytes: u64 = match (sizes >> 4) & 7 {
        4 => 64 << 10,
        5 => 256 << 10,
        6 => 1 << 20,
        7 => 4 << 20,
        _ => return Err(broken()),
    };
    let block_checksums = flags & 0b1_0000 != 0;
    let content_size = if flags & 0b1000 != 0 { 8 } else { 0 };
    let dictionary = if flags & 1 != 0 { 4 } else { 0 };
    // What is optional, then one byte of checksum.
    let mut blocks = rest.get(content_size + dictionary + 1..).ok_or_else(broken)?;
    let mut bound = 0u64;
    loop {
        let Some((header, rest)) = blocks.split_first_chunk::<4>() else { return Err(broken()) };
        let header = u32::from_le_bytes(*header);
        if header == 0 {
            return Ok(bound);
        }
        let length = (header & !UNCOMPRESSED) as usize;
        let unfolds = length as u64 * if header & UNCOMPRESSED == 0 { RATIO } else { 1 };
        bound += unfolds.min(block_bytes);
        let skip = length + if block_checksums { 4 } else { 0 };
        blocks = rest.get(skip..).ok_or_else(broken)?;
    }
}
