//! Columns of the tables, as values.

use arrow::array::{
    Array, AsArray, FixedSizeBinaryArray, ListArray, RecordBatch, StringArray, StructArray, UInt64Array,
};
use arrow::datatypes::UInt64Type;
use feature::digest::{Digest, HashAlgorithm};
use uuid::Uuid;

use crate::records::Object;

/// A column of objects.
#[derive(Debug)]
pub(super) struct Objects {
    column: StructArray,
    path: StringArray,
    bytes: UInt64Array,
    digest: FixedSizeBinaryArray,
}

impl Objects {
    pub fn new(column: &StructArray) -> Self {
        Self {
            path: column.column(0).as_string::<i32>().clone(),
            bytes: column.column(1).as_primitive::<UInt64Type>().clone(),
            digest: column.column(2).as_fixed_size_binary().clone(),
            column: column.clone(),
        }
    }

    pub fn get(&self, row: usize, hash: HashAlgorithm) -> Object {
        Object {
            path: self.path.value(row).to_owned(),
            bytes: self.bytes.value(row),
            digest: Digest::new(hash, bytes(&self.digest, row)),
        }
    }

    pub fn find(&self, row: usize, hash: HashAlgorithm) -> Option<Object> {
        self.column.is_valid(row).then(|| self.get(row, hash))
    }
}

pub(super) fn id_column(rows: &RecordBatch, column: usize) -> FixedSizeBinaryArray {
    rows.column(column).as_fixed_size_binary().clone()
}

/// The type of the column says how many bytes there are.
pub(super) fn bytes<const N: usize>(array: &FixedSizeBinaryArray, row: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(array.value(row));
    bytes
}

pub(super) fn id<I: From<Uuid>>(array: &FixedSizeBinaryArray, row: usize) -> I {
    I::from(Uuid::from_bytes(bytes(array, row)))
}

pub(super) fn text(array: &StringArray, row: usize) -> Option<String> {
    array.is_valid(row).then(|| array.value(row).to_owned())
}

/// The places of a row's elements; Arrow's offsets are never negative.
pub(super) fn range(list: &ListArray, row: usize) -> std::ops::Range<usize> {
    let offsets = list.offsets();
    offsets[row] as usize..offsets[row + 1] as usize
}
