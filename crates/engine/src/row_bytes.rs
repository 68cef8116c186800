//! How much memory rows take, and rows cut to a size.

use arrow::array::{Array, RecordBatch};

/// Of its rows alone: a batch is often a slice of a larger one, which all share their buffers.
pub fn bytes_of(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| bytes_of_column(column)).sum()
}

/// Of the values of a column; of all its buffers where its type does not tell them apart.
pub fn bytes_of_column(column: &dyn Array) -> usize {
    column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_buffer_memory_size())
}

/// A batch in parts of about so many bytes, by its average row. One row is never cut, and a batch without rows is no part.
pub fn parts_of(batch: RecordBatch, bytes: usize) -> impl Iterator<Item = RecordBatch> {
    let rows = batch.num_rows();
    let count = bytes_of(&batch).div_ceil(bytes.max(1)).max(1);
    let step = rows.div_ceil(count).max(1);
    (0..rows).step_by(step).map(move |start| batch.slice(start, step.min(rows - start)))
}
