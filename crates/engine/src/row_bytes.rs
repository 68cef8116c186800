//! How much memory rows take, and rows cut to a size.

use arrow::array::RecordBatch;

/// Of its rows alone: a batch is often a slice of a larger one, which all share their buffers.
pub fn bytes_of(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}

/// A batch in parts of about so many bytes, by its average row. One row is never cut.
pub fn parts_of(batch: RecordBatch, bytes: usize) -> impl Iterator<Item = RecordBatch> {
    let rows = batch.num_rows();
    let count = bytes_of(&batch).div_ceil(bytes.max(1)).max(1);
    let step = rows.div_ceil(count).max(1);
    (0..rows).step_by(step).map(move |start| batch.slice(start, step.min(rows - start)))
}
