//! The bytes of a part that were proved when it was opened, and are read in pieces: of a folder of this machine from the file, which stays
//! open and so can be read also after a sweep removed its name; of other storage from memory.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use feature::digest::{BytesDigest, Digest};
use object_store::{GetResult, GetResultPayload, ObjectStoreExt};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};

use super::Part;
use crate::error::{Error, Result};
use crate::store::Store;

/// Bytes that are digested at a time.
const PIECE: usize = 1 << 20;
/// Bytes that a reader who does not say how many it wants is given at a time.
const AHEAD: usize = 64 << 10;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct PartBytes(Held);

#[derive(Clone, Debug)]
enum Held {
    Memory(Bytes),
    File(Arc<File>, u64),
}

impl From<Bytes> for PartBytes {
    fn from(bytes: Bytes) -> Self {
        Self(Held::Memory(bytes))
    }
}

/// Opens a part and proves all of it by its digest.
///
/// # Errors
/// `Corrupt` where its bytes are not what was written, `Unavailable` where they cannot be had.
pub async fn open_part(store: &Store, part: &Part) -> Result<PartBytes> {
    let path = part.path();
    let (digest, length) = (part.digest, part.bytes);
    let (opened, found) = match store.objects().get(&path).await? {
        GetResult { payload: GetResultPayload::File(file, _), .. } => {
            let file = Arc::new(file);
            let read = file.clone();
            let found = tokio::task::spawn_blocking(move || digest_of(&read, length, digest)).await;
            let found = found.map_err(io::Error::other).and_then(|found| found);
            let found = found
                .map_err(|error| object_store::Error::Generic { store: "file", source: error.into() })?;
            (PartBytes(Held::File(file, length)), found)
        }
        got => {
            let bytes = got.bytes().await?;
            let mut found = BytesDigest::new(digest.algorithm());
            found.update(&bytes);
            (PartBytes::from(bytes), found.finish())
        }
    };
    if opened.len() != length || found != digest {
        return Err(Error::corrupt(path.as_ref(), "its bytes do not give the digest in its name"));
    }
    Ok(opened)
}

/// The digest of a file that has so many bytes; of one that has others, one that is not that of the part.
fn digest_of(file: &File, length: u64, expected: Digest) -> io::Result<Digest> {
    let mut digest = BytesDigest::new(expected.algorithm());
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    loop {
        let read = match file.read_at(&mut piece, at) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if read == 0 {
            return Ok(digest.finish());
        }
        digest.update(piece.get(..read).unwrap_or_default());
        at += read as u64;
        if at > length {
            digest.update(b"longer");
            return Ok(digest.finish());
        }
    }
}

impl PartBytes {
    /// All of them, in memory.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn whole(&self) -> io::Result<Bytes> {
        self.piece(0, usize::try_from(self.len()).map_err(io::Error::other)?)
    }

    fn piece(&self, start: u64, length: usize) -> io::Result<Bytes> {
        let ends = || io::Error::new(io::ErrorKind::UnexpectedEof, "it ends before what was asked for");
        let left = self.len().checked_sub(start).ok_or_else(ends)?;
        if length as u64 > left {
            return Err(ends());
        }
        match &self.0 {
            Held::Memory(bytes) => {
                let start = usize::try_from(start).map_err(io::Error::other)?;
                Ok(bytes.slice(start..start + length))
            }
            Held::File(file, _) => {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, start)?;
                Ok(bytes.into())
            }
        }
    }
}

impl Length for PartBytes {
    fn len(&self) -> u64 {
        match &self.0 {
            Held::Memory(bytes) => bytes.len() as u64,
            Held::File(_, length) => *length,
        }
    }
}

impl ChunkReader for PartBytes {
    type T = Onward;

    fn get_read(&self, start: u64) -> ParquetResult<Onward> {
        Ok(Onward { bytes: self.clone(), next: start, ahead: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.piece(start, length).map_err(ParquetError::from)
    }
}

/// All from a place on. No cursor is shared with other readers.
#[derive(Debug)]
pub struct Onward {
    bytes: PartBytes,
    next: u64,
    ahead: Bytes,
}

impl Read for Onward {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.ahead.is_empty() {
            let left = self.bytes.len().saturating_sub(self.next);
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(AHEAD.max(into.len()));
            self.ahead = self.bytes.piece(self.next, length)?;
            self.next += length as u64;
        }
        let read = self.ahead.len().min(into.len());
        if let Some(into) = into.get_mut(..read) {
            self.ahead.copy_to_slice(into);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_those_of_the_whole() {
        let whole: Vec<u8> = (0..200_000u32).map(|byte| (byte % 251) as u8).collect();
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&whole, 0).unwrap();
        let file = PartBytes(Held::File(Arc::new(file), whole.len() as u64));
        for part in [file, PartBytes::from(Bytes::from(whole.clone()))] {
            for (start, length) in [(0, 0), (0, 1), (7, 70_000), (199_999, 1), (200_000, 0)] {
                let found = part.get_bytes(start as u64, length).unwrap();
                assert_eq!(found, &whole[start..start + length]);
                // Two readers at once do not move each other.
                let (mut one, mut other) = (part.get_read(start as u64).unwrap(), part.get_read(3).unwrap());
                let (mut first, mut second) = ([0; 1], Vec::new());
                other.read_exact(&mut first).unwrap();
                one.read_to_end(&mut second).unwrap();
                assert_eq!((first[0], &second[..]), (whole[3], &whole[start..]));
            }
            assert!(part.get_bytes(199_999, 2).is_err());
            assert!(part.get_bytes(200_001, 0).is_err());
        }
    }
}
