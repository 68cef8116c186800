//! Digests: of bytes ([`Digest`]), and of the values of a table ([`TableDigest`], scheme `lmt1`).
//!
//! An object's digest changes with every byte. The content digest `lmt1` sees only names, types, values and their
//! order: the same table gives the same digest from any files, batches, slices and encodings.

mod block;
mod canonical_type;
mod hasher;
mod table;
mod text;
mod tree;

#[cfg(test)]
mod tests;

pub use canonical_type::type_text;
pub use hasher::{BytesDigest, HashAlgorithm, hash};
pub use table::{BLOCK_ROWS, ColumnDigest, TableDigest, TableDigestResult, digest_batches};
pub use text::{ContentDigest, Digest, DigestTextError};

/// Why a table has no content digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    #[error(
        "column `{column}` has the type {data_type}, which `lmt1` refuses; cast it to a number, a time or text"
    )]
    Refused { column: String, data_type: String },
    #[error("two columns are named `{0}`; a content digest tells columns by their names, so rename one")]
    DuplicateColumn(String),
    #[error("the rows have {found} columns, not the {expected} that the digest began with")]
    Columns { expected: usize, found: usize },
    #[error("column {position} is `{found}`, not `{expected}` as in the schema that the digest began with")]
    Name { position: usize, expected: String, found: String },
    #[error(
        "column `{column}` has the type {found}, not {expected} as in the schema that the digest began with"
    )]
    Type { column: String, expected: String, found: String },
    #[error("column `{column}`, in the block of rows from {row} on: {why}")]
    Value { column: String, row: u64, why: String },
}
