//! The content digest of a table, taken batch by batch.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema};

use super::DigestError;
use super::block::Block;
use super::canonical_type::type_text;
use super::hasher::{HashAlgorithm, Hasher};
use super::text::ContentDigest;
use super::tree::root;

/// Rows of a block, the unit that a leaf of a column's hash tree stands for.
pub const BLOCK_ROWS: usize = 65_536;

/// A content digest in progress: rows come in batches, cut anywhere, and the result does not depend on where.
///
/// It holds at most one block of every column in memory.
pub struct TableDigest {
    algorithm: HashAlgorithm,
    rows: u64,
    columns: Vec<Column>,
}

/// The digest of a table and what it was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDigestResult {
    pub rows: u64,
    pub digest: ContentDigest,
    /// In the order of the schema.
    pub columns: Vec<ColumnDigest>,
}

/// The digest of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnDigest {
    pub name: String,
    /// The type as `lmt1` names it, see [`type_text`].
    pub type_text: String,
    /// Over name, type, rows and values.
    pub digest: [u8; 32],
    /// One for each 65,536 rows, in order: where two columns differ, the first leaf that differs says where.
    pub leaves: Vec<[u8; 32]>,
}

impl TableDigestResult {
    /// Name, type and leaves of each column.
    pub fn leaves(&self) -> impl Iterator<Item = (&str, &str, &[[u8; 32]])> {
        self.columns.iter().map(|column| (&*column.name, &*column.type_text, &*column.leaves))
    }
}

struct Column {
    name: String,
    type_text: String,
    /// The Arrow type seen last, so that texts are compared only when it changes.
    data_type: DataType,
    block: Block,
    leaves: Vec<[u8; 32]>,
}

impl TableDigest {
    /// # Errors
    /// If a type is refused or two columns have one name.
    pub fn new(algorithm: HashAlgorithm, schema: &Schema) -> Result<Self, DigestError> {
        let mut names = HashSet::new();
        let mut columns = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            if !names.insert(field.name()) {
                return Err(DigestError::DuplicateColumn(field.name().clone()));
            }
            let data_type = field.data_type();
            let (Some(type_text), Some(block)) = (type_text(data_type), Block::new(data_type)) else {
                return Err(refused(field.name(), data_type));
            };
            let (name, data_type) = (field.name().clone(), data_type.clone());
            columns.push(Column { name, type_text, data_type, block, leaves: Vec::new() });
        }
        Ok(Self { algorithm, rows: 0, columns })
    }

    /// Takes in the next rows. Their encodings, offset widths and zone names may differ from the schema's.
    ///
    /// # Errors
    /// If names or types are not the schema's, or if a value cannot be represented: a `Date64` that is not a
    /// whole day, text longer than 4 GiB. After an error the digest is not to be used any more.
    pub fn update(&mut self, batch: &RecordBatch) -> Result<(), DigestError> {
        let schema = batch.schema_ref();
        if schema.fields().len() != self.columns.len() {
            let (expected, found) = (self.columns.len(), schema.fields().len());
            return Err(DigestError::Columns { expected, found });
        }
        for (position, (column, field)) in self.columns.iter_mut().zip(schema.fields()).enumerate() {
            if *field.name() != column.name {
                let (expected, found) = (column.name.clone(), field.name().clone());
                return Err(DigestError::Name { position, expected, found });
            }
            column.accept(field.data_type())?;
        }
        for (column, array) in self.columns.iter_mut().zip(batch.columns()) {
            column.update(self.algorithm, array)?;
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Name, type and leaves so far of each column: of every block that is full.
    pub fn leaves(&self) -> impl Iterator<Item = (&str, &str, &[[u8; 32]])> {
        self.columns.iter().map(|column| (&*column.name, &*column.type_text, &*column.leaves))
    }

    pub fn finish(mut self) -> TableDigestResult {
        let mut hasher = Hasher::new(self.algorithm);
        hasher.update(&[0x03]);
        hasher.update_text("lmt1");
        hasher.update(&self.rows.to_le_bytes());
        hasher.update(&(self.columns.len() as u32).to_le_bytes());
        let mut columns = Vec::with_capacity(self.columns.len());
        for column in self.columns.drain(..) {
            let column = column.finish(self.algorithm, self.rows);
            hasher.update(&column.digest);
            columns.push(column);
        }
        let digest = ContentDigest::new(self.algorithm, hasher.finish());
        TableDigestResult { rows: self.rows, digest, columns }
    }
}

/// The content digest of all the batches together, see [`TableDigest`].
///
/// # Errors
/// As [`TableDigest::new`] and [`TableDigest::update`].
pub fn digest_batches<'a>(
    algorithm: HashAlgorithm,
    schema: &Schema,
    batches: impl IntoIterator<Item = &'a RecordBatch>,
) -> Result<TableDigestResult, DigestError> {
    let mut table = TableDigest::new(algorithm, schema)?;
    for batch in batches {
        table.update(batch)?;
    }
    Ok(table.finish())
}

fn refused(column: &str, data_type: &DataType) -> DigestError {
    DigestError::Refused { column: column.to_owned(), data_type: data_type.to_string() }
}

impl Column {
    fn accept(&mut self, data_type: &DataType) -> Result<(), DigestError> {
        if self.data_type == *data_type {
            return Ok(());
        }
        let found = type_text(data_type).ok_or_else(|| refused(&self.name, data_type))?;
        if found != self.type_text {
            let (column, expected) = (self.name.clone(), self.type_text.clone());
            return Err(DigestError::Type { column, expected, found });
        }
        self.data_type = data_type.clone();
        Ok(())
    }

    fn update(&mut self, algorithm: HashAlgorithm, array: &ArrayRef) -> Result<(), DigestError> {
        let mut from = 0;
        while from < array.len() {
            let piece = array.slice(from, (BLOCK_ROWS - self.block.rows() as usize).min(array.len() - from));
            from += piece.len();
            if piece.len() == BLOCK_ROWS
                && let Some(payload) = self.block.direct(&piece)
            {
                let mut hasher = leaf(algorithm, BLOCK_ROWS as u64);
                hasher.update(&0u32.to_le_bytes());
                hasher.update(payload);
                self.leaves.push(hasher.finish());
                continue;
            }
            self.block.append(&piece, None).map_err(|why| DigestError::Value {
                column: self.name.clone(),
                row: (self.leaves.len() * BLOCK_ROWS) as u64,
                why,
            })?;
            if self.block.rows() == BLOCK_ROWS as u64 {
                self.end_block(algorithm);
            }
        }
        Ok(())
    }

    fn end_block(&mut self, algorithm: HashAlgorithm) {
        let mut hasher = leaf(algorithm, self.block.rows());
        self.block.write(&mut hasher);
        self.leaves.push(hasher.finish());
        self.block.clear();
    }

    fn finish(mut self, algorithm: HashAlgorithm, rows: u64) -> ColumnDigest {
        if self.block.rows() > 0 {
            self.end_block(algorithm);
        }
        let mut hasher = Hasher::new(algorithm);
        hasher.update(&[0x02]);
        hasher.update_text(&self.name);
        hasher.update_text(&self.type_text);
        hasher.update(&rows.to_le_bytes());
        hasher.update(&root(algorithm, &self.leaves));
        let digest = hasher.finish();
        ColumnDigest { name: self.name, type_text: self.type_text, digest, leaves: self.leaves }
    }
}

/// A leaf's hash as far as its body.
fn leaf(algorithm: HashAlgorithm, rows: u64) -> Hasher {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(&[0x00]);
    hasher.update(&(rows as u32).to_le_bytes());
    hasher
}
