//! A file that counts for a view at a snapshot, and the batches that its rows are of.

use std::collections::HashMap;
use std::sync::Arc;

use feature::{BatchId, Id, Timestamp};
use storage::manifest::DataFile;

use crate::state::Batch;

/// A file, and the batches in it that count.
#[derive(Clone, Debug)]
pub struct VisibleFile {
    /// Shared: it holds a digest of each of the file's blocks.
    pub file: Arc<DataFile>,
    pub batches: FileBatches,
    /// Rows that are valid before this do not count; none where all rows are later, or count all the same.
    pub since: Option<Timestamp>,
}

/// Which batches a file's rows are of.
#[derive(Clone, Debug)]
pub enum FileBatches {
    /// All rows are of this one.
    One(Arc<Batch>),
    /// Each row says in the column `_batch`.
    Several(Arc<Several>),
}

/// The batches of a file of several.
#[derive(Debug)]
pub struct Several {
    /// Those that count, in the order of the log; never none.
    counted: Vec<Arc<Batch>>,
    places: HashMap<[u8; 16], u32>,
    /// Whether the file has rows of others.
    partial: bool,
}

impl VisibleFile {
    /// As it was written with its batch.
    pub fn of_one(file: Arc<DataFile>, batch: Arc<Batch>) -> Self {
        Self { file, batches: FileBatches::One(batch), since: None }
    }

    /// Of a run, whose batches that count come in the order of the log; none where no row of the file counts.
    pub fn of_several(file: Arc<DataFile>, counted: &[Arc<Batch>]) -> Option<Self> {
        let mut wanted: HashMap<BatchId, bool> =
            file.pieces.iter().map(|piece| (piece.batch, false)).collect();
        let within: Vec<Arc<Batch>> = counted
            .iter()
            .filter(|batch| {
                wanted.get_mut(&batch.record.batch).is_some_and(|found| !std::mem::replace(found, true))
            })
            .cloned()
            .collect();
        if within.is_empty() {
            return None;
        }
        let partial = wanted.values().any(|found| !found);
        let places =
            (0..).zip(&within).map(|(place, batch)| (*batch.record.batch.uuid().as_bytes(), place)).collect();
        let several = Several { counted: within, places, partial };
        Some(Self { file, batches: FileBatches::Several(Arc::new(several)), since: None })
    }

    /// The same without the rows that are valid before an instant; none where that leaves no row.
    #[must_use]
    pub fn since(self, before: Option<Timestamp>) -> Option<Self> {
        let Some(before) = before else { return Some(self) };
        match self.file.valid_at_range() {
            Some((_, newest)) if newest < before.micros() => None,
            Some((oldest, _)) if oldest >= before.micros() => Some(self),
            _ => Some(Self { since: Some(before), ..self }),
        }
    }

    /// The batches that count, in the order of the log; never none.
    pub fn batches(&self) -> &[Arc<Batch>] {
        match &self.batches {
            FileBatches::One(batch) => std::slice::from_ref(batch),
            FileBatches::Several(several) => &several.counted,
        }
    }

    /// The last of them.
    pub fn last(&self) -> &Arc<Batch> {
        self.batches().last().unwrap_or_else(|| self.first())
    }

    /// Whether it is as it was written with its batch.
    pub fn is_of_one(&self) -> bool {
        matches!(self.batches, FileBatches::One(_))
    }

    /// The first of them. All of a file are of one version.
    pub fn first(&self) -> &Arc<Batch> {
        match &self.batches {
            FileBatches::One(batch) => batch,
            FileBatches::Several(several) => &several.counted[0],
        }
    }
}

impl Several {
    /// The place among those that count of the batch that `_batch` names.
    pub fn place(&self, batch: &[u8]) -> Option<u32> {
        self.places.get(batch).copied()
    }

    /// Whether the file has rows of batches that do not count.
    pub fn is_partial(&self) -> bool {
        self.partial
    }
}
