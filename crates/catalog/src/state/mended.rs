//! Which batches have rows that others had rejected.

use std::collections::HashMap;
use std::sync::Arc;

use feature::{BatchId, Sequence};

use super::{ApplyError, Provenance, State, repeated, unresolved};
use crate::records::{Record, RowsMended};

/// Rows that were mended, with the entry that tells of it.
#[derive(Clone, Debug)]
pub struct Mending {
    pub record: RowsMended,
    pub by: Arc<Provenance>,
}

/// All rows that ever were mended.
#[derive(Clone, Debug, Default)]
pub struct Mended {
    /// In the order of the log.
    all: Vec<Mending>,
    /// By the batch that had rejected them.
    of: HashMap<BatchId, Vec<usize>>,
}

impl Mended {
    /// In the order of the log.
    pub fn all(&self) -> &[Mending] {
        &self.all
    }

    /// What was mended of a batch's rejected rows, in the order of the log.
    pub fn of(&self, batch: BatchId) -> impl Iterator<Item = &Mending> {
        let places = self.of.get(&batch).map(Vec::as_slice).unwrap_or_default();
        places.iter().filter_map(|place| self.all.get(*place))
    }

    /// Whether a batch is of mended rows.
    pub fn has(&self, batch: BatchId) -> bool {
        self.all.iter().any(|mending| mending.record.batch == batch)
    }

    pub(super) fn take(&mut self, record: &RowsMended, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        if self.of(record.of).any(|known| known.record.batch == record.batch) {
            return Err(repeated(by, "the mending by batch", record.batch.to_string()));
        }
        self.of.entry(record.of).or_default().push(self.all.len());
        self.all.push(Mending { record: record.clone(), by: by.clone() });
        Ok(())
    }

    /// Those after a sequence, as records.
    pub(super) fn records_after(&self, after: Option<Sequence>) -> impl Iterator<Item = (Sequence, Record)> {
        let later = self.all.iter().filter(move |mending| Some(mending.by.sequence) > after);
        later.map(|mending| (mending.by.sequence, mending.record.clone().into()))
    }
}

impl State {
    /// Rejected rows that were mended.
    pub fn mended(&self) -> &Mended {
        &self.mended
    }

    /// The batches that took over rejected rows of one by a sequence, and whether what they accepted is in them still.
    pub fn mendings(&self, of: BatchId, at: Sequence) -> Vec<(BatchId, bool)> {
        let by_then = self.mended.of(of).filter(|mending| mending.by.sequence <= at);
        by_then.map(|mending| (mending.record.batch, self.has_rows(mending.record.batch, at))).collect()
    }

    /// Whether a batch counts or waits at a sequence: it was not dropped, and is not withdrawn.
    fn has_rows(&self, batch: BatchId, at: Sequence) -> bool {
        let waits = self.quarantine.of(batch).is_some_and(|held| held.waits(at));
        let counts = |batch: &super::Batch| batch.by.sequence <= at && self.counts_at(batch, at);
        waits || self.batch(batch).is_some_and(|batch| counts(batch))
    }

    /// Whether a batch has rejected rows or was refused for them.
    fn rejected_of(&self, batch: BatchId) -> bool {
        let rejected = |record: &crate::records::BatchCommitted| record.quarantine.is_some();
        self.batch(batch).is_some_and(|batch| rejected(&batch.record))
            || self.quarantine.of(batch).is_some_and(|held| rejected(&held.batch.record))
            || self.refused.iter().any(|refused| refused.record.batch == batch)
    }

    pub(super) fn mend(&mut self, body: &RowsMended, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        if !self.rejected_of(body.of) {
            return Err(unresolved(by, "the rejected rows of batch", body.of.to_string()));
        }
        let written = |batch: &super::Batch| batch.by.sequence == by.sequence;
        let in_entry = self.batch(body.batch).is_some_and(|batch| written(batch))
            || self.quarantine.of(body.batch).is_some_and(|held| written(&held.batch))
            || self
                .refused
                .iter()
                .any(|one| one.record.batch == body.batch && one.by.sequence == by.sequence);
        if !in_entry {
            return Err(unresolved(by, "batch", body.batch.to_string()));
        }
        Arc::make_mut(&mut self.mended).take(body, by)
    }
}
