//! The digest of a state: one number that is equal where two states are, whoever folded them, from whatever
//! they began.
//!
//! Entries make blocks of 1,024 by their sequence. The digest of a block is over the content digests of its
//! rows in each growing table, the digest of a state over those of its blocks and of the whole tables. So a
//! block that is full never changes, and only the last is made anew for the next checkpoint.

use arrow::array::RecordBatch;
use feature::Sequence;
use feature::digest::{Digest, DigestError, HashAlgorithm, digest_batches, hash};

use crate::state::{Table, Tables};

/// How the digest is made; the files that a checkpoint has may change without it.
const FORMAT: u32 = 1;
const BLOCK: u64 = 1_024;

/// Digests of a state's blocks.
pub(crate) struct Blocks {
    hash: HashAlgorithm,
    /// Of full blocks.
    pub whole: Vec<Digest>,
    /// Of the block that has room yet.
    last: Option<Digest>,
}

/// The first entry after so many full blocks.
pub(crate) fn begin(blocks: usize) -> Sequence {
    Sequence(blocks as u64 * BLOCK)
}

/// All blocks up to the head. `known` are the digests of the first ones; the tables hold what comes after.
pub(crate) fn blocks(
    hash: HashAlgorithm,
    tables: &Tables,
    known: Vec<Digest>,
    head: Sequence,
) -> Result<Blocks, DigestError> {
    let mut blocks = Blocks { hash, whole: known, last: None };
    loop {
        let from = begin(blocks.whole.len());
        if from > head {
            return Ok(blocks);
        }
        let until = Sequence(from.0 + BLOCK - 1);
        let digest = block(hash, tables, from, until)?;
        if until > head {
            blocks.last = Some(digest);
            return Ok(blocks);
        }
        blocks.whole.push(digest);
    }
}

impl Blocks {
    /// The digest of the state, of whose head the whole tables are.
    pub fn digest(&self, tables: &Tables) -> Result<Digest, DigestError> {
        let mut text = format!("lineament.state {FORMAT}\n").into_bytes();
        for table in Table::WHOLE {
            text.extend(content(self.hash, tables.of(table))?);
        }
        for block in self.whole.iter().chain(&self.last) {
            text.extend(block.bytes());
        }
        Ok(hash(self.hash, &text))
    }
}

fn block(
    algorithm: HashAlgorithm,
    tables: &Tables,
    from: Sequence,
    until: Sequence,
) -> Result<Digest, DigestError> {
    let mut text = Vec::with_capacity(32 * Table::GROWING.len());
    for table in Table::GROWING {
        let rows = tables.within(table, from, until);
        // It came later: states without profiles have the digest that they always had.
        if table != Table::Profiles || rows.num_rows() > 0 {
            text.extend(content(algorithm, &rows)?);
        }
    }
    Ok(hash(algorithm, &text))
}

fn content(algorithm: HashAlgorithm, rows: &RecordBatch) -> Result<[u8; 32], DigestError> {
    Ok(*digest_batches(algorithm, rows.schema_ref(), [rows])?.digest.bytes())
}
