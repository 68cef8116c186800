//! Manifests: `manifests/{id}.parquet`, the files that a batch or a compaction wrote.
//!
//! A manifest is a Parquet file with one row a data file. Later versions may add columns, also within its lists; a
//! reader passes over those that it does not know.

mod columns;
mod decode;
mod encode;

#[cfg(test)]
mod tests;

use feature::digest::{ContentDigest, Digest};
use feature::key::statistic::{Bounds, StatisticValue};
use feature::{BatchId, FeatureType, FileId};

pub use decode::decode;
pub use encode::encode;

/// Bytes of a block of a new data file, the unit that an ordinary read checks: a sparse read touches single pages, which have about as
/// many.
pub const BLOCK_BYTES: u32 = 16 * 1024;

/// Keys of a file that its manifest tells by their hashes. Bounds say little of a file of few keys, and many files have few.
pub const KEYS_TOLD: usize = 64;

/// The number of the manifest's format, in the metadata of its Parquet file under [`FORMAT_KEY`].
const FORMAT: u32 = 2;
/// The format without the column `block_bytes`, and what it was then.
const FORMAT_OF_LARGE_BLOCKS: u32 = 1;
const LARGE_BLOCK_BYTES: u32 = 64 * 1024;
const FORMAT_KEY: &str = "lineament.manifest";

/// One immutable Parquet file with rows of one version of a feature view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    pub id: FileId,
    /// Relative to the root of the store that wrote it.
    pub path: String,
    /// The number of the view's version that the rows were written under.
    pub version: u32,
    /// The least valid_at that the file's partition may hold, in microseconds since 1970.
    pub from: i64,
    /// The end of the partition, not within it.
    pub until: i64,
    /// Which of `buckets` the keys of all rows fall into.
    pub bucket: u32,
    /// A power of two.
    pub buckets: u32,
    pub rows: u64,
    pub bytes: u64,
    /// The [`key_hashes`](feature::key::key_hashes) of the file's rows; `None` where it is not told: of more than
    /// [`KEYS_TOLD`] keys, of files of the first programs, and after an erasure.
    pub key_hashes: Option<Vec<u32>>,
    /// In the order of the file's columns.
    pub statistics: Vec<ColumnStatistics>,
    /// The batches that the file holds rows of.
    pub pieces: Vec<Piece>,
    /// Of the whole file.
    pub digest: Digest,
    /// Bytes of a block; a power of two.
    pub block_bytes: u32,
    /// Of each block of the file in order, by the algorithm of `digest`; the last block may be shorter.
    pub blocks: Vec<Digest>,
}

/// What is known of the values of a column, as bytes of `feature::key::statistic`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnStatistics {
    pub column: String,
    pub nulls: u64,
    /// Floats that are not a number. `least` and `greatest` leave them out, so prune floats only where this is 0.
    pub nans: u64,
    /// No value is below. `None` when there is no value, or it is too long to note: a column that is not all null
    /// and has no bounds may hold anything.
    pub least: Option<Vec<u8>>,
    /// No value is above; `None` as for `least`.
    pub greatest: Option<Vec<u8>>,
}

/// A batch's rows of one partition and bucket, as they were first written. Compaction keeps the piece and its digest
/// whatever file its rows then lie in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub batch: BatchId,
    /// The partition and bucket that the piece was written for; those of a fresh file are the file's own.
    pub from: i64,
    pub until: i64,
    pub bucket: u32,
    pub buckets: u32,
    /// Rows of the piece that lie in this file.
    pub rows: u64,
    /// Over the stored columns of the whole piece, in the order of the file that it was first written to.
    pub digest: ContentDigest,
}

impl DataFile {
    /// Whether one of the keys with these [`key_hashes`](feature::key::key_hashes) may be in the file.
    pub fn may_hold(&self, key_hashes: &[u32]) -> bool {
        let Some(held) = &self.key_hashes else { return true };
        let (few, many) = if held.len() < key_hashes.len() {
            (held.as_slice(), key_hashes)
        } else {
            (key_hashes, held.as_slice())
        };
        few.iter().any(|hash| many.binary_search(hash).is_ok())
    }

    /// The statistics of a column; `None` if the file lacks it.
    pub fn column(&self, name: &str) -> Option<&ColumnStatistics> {
        self.statistics.iter().find(|column| column.column == name)
    }

    /// Least and greatest valid_at of the rows, in microseconds; `None` in a file without rows.
    pub fn valid_at_range(&self) -> Option<(i64, i64)> {
        let column = self.column("valid_at")?;
        let micros = |bytes: &Option<Vec<u8>>| match StatisticValue::decode(
            &FeatureType::Timestamp.arrow(),
            bytes.as_deref()?,
        ) {
            Ok(StatisticValue::Timestamp(micros)) => Some(micros),
            _ => None,
        };
        Some((micros(&column.least)?, micros(&column.greatest)?))
    }
}

/// Longest least or greatest value that a manifest notes; beyond, the column counts as unbounded.
const LONGEST_BOUND: usize = 1024;

impl ColumnStatistics {
    /// The statistics of a column with these bounds, which are left out where one is too long to note.
    pub fn new(column: &str, bounds: Bounds) -> Self {
        let Bounds { nulls, nans, least, greatest } = bounds;
        let long = |bound: &Option<Vec<u8>>| bound.as_ref().is_some_and(|bound| bound.len() > LONGEST_BOUND);
        let noted = !long(&least) && !long(&greatest);
        let (least, greatest) = (least.filter(|_| noted), greatest.filter(|_| noted));
        Self { column: column.to_owned(), nulls, nans, least, greatest }
    }
}
