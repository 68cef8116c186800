//! Stretches of a file, read into memory that nobody clears first: `object_store` fills each buffer with zeros and then reads into it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};

use super::writer::{Failure, failed};

/// The bytes of each range, in their order.
///
/// # Errors
/// A file that cannot be read, or ends before a range does.
pub(super) fn read(path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, Failure> {
    let file = File::open(path).map_err(failed("open", path))?;
    ranges.iter().map(|range| exactly(&file, range).map_err(failed("read", path))).collect()
}

fn exactly(file: &File, range: &Range<u64>) -> io::Result<Bytes> {
    let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(io::Error::other)?;
    while bytes.len() < length {
        let next = range.start + bytes.len() as u64;
        match pread(file, spare_capacity(&mut bytes), next) {
            Ok(0) => {
                let missing = format!("it ends at byte {next}, and bytes up to {} were asked for", range.end);
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, missing));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(length);
    Ok(bytes.into())
}
