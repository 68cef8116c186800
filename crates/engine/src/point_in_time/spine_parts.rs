//! A spine as it comes: whole where a share of the memory holds it, else in parts, each looked up by itself.
//!
//! What a row finds does not depend on the other rows of its spine, so that a part is a spine like any other. Parts keep the order that
//! the rows come in; each meets the files anew, which is what a spine beyond memory costs.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryReservation;
use futures::TryStreamExt;

use crate::row_bytes::bytes_of;

/// Of the memory limit, the share that a spine may take before it is dealt with in parts.
pub const WHOLE: usize = 4;
/// Of the memory limit, the share that a part and its answer may take. They are gathered and put together beside what has been read.
const PART: usize = 6;

/// Rows that have come and those that are still to come.
pub struct SpineParts {
    rows: SendableRecordBatchStream,
    ended: bool,
    waiting: VecDeque<RecordBatch>,
    /// For what waits.
    held: MemoryReservation,
    limit: usize,
}

/// Rows that are looked up together, and the memory that they take.
pub struct Part {
    pub batches: Vec<RecordBatch>,
    pub held: MemoryReservation,
}

impl Part {
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

impl SpineParts {
    /// `held` is charged for what has come; `limit` is all the memory that there is.
    pub fn new(rows: SendableRecordBatchStream, held: MemoryReservation, limit: usize) -> Self {
        Self { rows, ended: false, waiting: VecDeque::new(), held, limit }
    }

    /// Reads on until the spine has ended or takes its share. None where more is to come: then go by [`Self::next`].
    ///
    /// # Errors
    /// Those of the rows; not even one batch has room.
    pub async fn whole(&mut self) -> Result<Option<Part>> {
        while !self.ended {
            match self.rows.try_next().await? {
                None => self.ended = true,
                Some(batch) => {
                    let bytes = bytes_of(&batch);
                    let room = self.held.try_grow(bytes);
                    if room.is_err() && self.waiting.is_empty() {
                        room?;
                    } else if room.is_err() {
                        // Others took the memory; what has come is looked up first.
                        self.held.grow(bytes);
                        self.waiting.push_back(batch);
                        return Ok(None);
                    }
                    self.waiting.push_back(batch);
                    if self.held.size() > self.limit / WHOLE {
                        return Ok(None);
                    }
                }
            }
        }
        let mut batches: Vec<RecordBatch> = self.waiting.drain(..).collect();
        if batches.is_empty() {
            batches.push(RecordBatch::new_empty(self.rows.schema()));
        }
        Ok(Some(Part { batches, held: self.held.take() }))
    }

    /// Takes back what was the whole: it goes by in parts after all.
    pub fn give_back(&mut self, whole: Part) {
        self.held.grow(whole.held.free());
        self.waiting.extend(whole.batches);
    }

    /// The next rows, each of which takes `beside` bytes beside its own; none where all have gone.
    ///
    /// # Errors
    /// Those of the rows; there is no room for a batch.
    pub async fn next(&mut self, beside: usize) -> Result<Option<Part>> {
        let held = self.held.new_empty();
        let (mut batches, mut taken) = (Vec::new(), 0usize);
        let most = (self.limit / PART).max(1);
        while taken < most {
            let Some(batch) = self.next_batch().await? else { break };
            let (rows, bytes) = (batch.num_rows(), bytes_of(&batch));
            if rows == 0 {
                continue;
            }
            let of_row = (bytes / rows + beside).max(1);
            let fit = ((most - taken) / of_row).clamp(1, rows);
            // A part ends with a batch where it can, so that rows leave in the batches in which they came.
            if fit < rows && !batches.is_empty() {
                self.held.grow(bytes);
                self.waiting.push_front(batch);
                break;
            }
            if fit < rows {
                let rest = batch.slice(fit, rows - fit);
                self.held.grow(bytes_of(&rest));
                self.waiting.push_front(rest);
            }
            let batch = batch.slice(0, fit);
            held.try_grow(bytes_of(&batch))?;
            taken = taken.saturating_add(bytes_of(&batch) + fit * beside);
            batches.push(batch);
        }
        Ok((!batches.is_empty()).then_some(Part { batches, held }))
    }

    /// Not charged any more, or not yet.
    async fn next_batch(&mut self) -> Result<Option<RecordBatch>, DataFusionError> {
        if let Some(batch) = self.waiting.pop_front() {
            self.held.shrink(bytes_of(&batch).min(self.held.size()));
            return Ok(Some(batch));
        }
        if self.ended {
            return Ok(None);
        }
        let batch = self.rows.try_next().await?;
        self.ended = batch.is_none();
        Ok(batch)
    }
}
