//! Rows that are too old: from when on they do not count, and which of them are gone.

use std::collections::HashMap;
use std::sync::Arc;

use feature::{BatchId, Sequence, Timestamp, ViewId};
use storage::manifest::DataFile;

use super::{ApplyError, Batch, Provenance, State, ViewVersion, unresolved};
use crate::records::{Record, RowsDeleted, RowsExpired};

/// From an entry on, rows of a view that are valid before an instant do not count.
#[derive(Clone, Debug)]
pub struct Expired {
    pub record: RowsExpired,
    pub by: Arc<Provenance>,
}

/// From an entry on, such rows of some batches are gone.
#[derive(Clone, Debug)]
pub struct Deleted {
    pub record: RowsDeleted,
    pub by: Arc<Provenance>,
}

/// All that expired, and what of it is gone.
#[derive(Clone, Debug, Default)]
pub struct Expiry {
    /// In the order of the log.
    expired: Vec<Expired>,
    /// Places in `expired`, by view.
    places: HashMap<ViewId, Vec<usize>>,
    /// In the order of the log.
    deleted: Vec<Deleted>,
    /// Rows of a batch that are valid before the instant are gone, by the entry that said so last.
    gone: HashMap<BatchId, (Timestamp, Sequence)>,
}

/// Rows that a snapshot has, and that are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The sequence of the batch that they are of.
    pub came: Sequence,
    pub before: Timestamp,
    /// The entry that said so.
    pub at: Sequence,
}

impl Expiry {
    /// In the order of the log.
    pub fn expired(&self) -> &[Expired] {
        &self.expired
    }

    /// In the order of the log.
    pub fn deleted(&self) -> &[Deleted] {
        &self.deleted
    }

    /// What decides at a sequence that rows of a view do not count; none where all do.
    pub fn of(&self, view: ViewId, at: Sequence) -> Option<&Expired> {
        let places = self.places.get(&view)?.iter().rev();
        places.map(|place| &self.expired[*place]).find(|one| one.by.sequence <= at)
    }

    /// Rows of a view that are valid before this do not count at a sequence; none where all do.
    pub fn before(&self, view: ViewId, at: Sequence) -> Option<Timestamp> {
        self.of(view, at).map(|one| one.record.before)
    }

    /// Rows of a batch that are valid before this are gone; none where all are there.
    pub fn gone(&self, batch: BatchId) -> Option<Timestamp> {
        self.gone.get(&batch).map(|(before, _)| *before)
    }

    /// Whether a file is gone: all of its rows are, whichever of its batches they are of.
    pub fn is_gone(&self, file: &DataFile) -> bool {
        !self.gone.is_empty()
            && file.valid_at_range().is_some_and(|(_, newest)| {
                file.pieces
                    .iter()
                    .all(|piece| self.gone(piece.batch).is_some_and(|before| newest < before.micros()))
            })
    }

    /// The last entry by which something of a view is gone.
    pub fn last_deleted(&self, view: ViewId) -> Option<Sequence> {
        self.deleted.iter().rev().find(|one| one.record.view == view).map(|one| one.by.sequence)
    }

    /// Takes one in that was found right.
    pub(super) fn recorded(&mut self, record: &Record, by: &Arc<Provenance>) {
        match record {
            Record::RowsExpired(body) => {
                self.places.entry(body.view).or_default().push(self.expired.len());
                self.expired.push(Expired { record: body.clone(), by: by.clone() });
            }
            Record::RowsDeleted(body) => {
                for batch in &body.batches {
                    let gone = self.gone.entry(*batch).or_insert((body.before, by.sequence));
                    *gone = (body.before.max(gone.0), by.sequence);
                }
                self.deleted.push(Deleted { record: body.clone(), by: by.clone() });
            }
            _ => {}
        }
    }

    /// Those after a sequence, as records.
    pub(super) fn records_after(&self, after: Option<Sequence>) -> impl Iterator<Item = (Sequence, Record)> {
        let expired = self.expired.iter().map(|one| (one.by.sequence, Record::from(one.record.clone())));
        let deleted = self.deleted.iter().map(|one| (one.by.sequence, Record::from(one.record.clone())));
        expired.chain(deleted).filter(move |(sequence, _)| Some(*sequence) > after)
    }
}

impl State {
    /// Rows that are too old, and which of them are gone.
    pub fn expiry(&self) -> &Expiry {
        &self.expiry
    }

    /// Rows that a version has at a sequence and that are gone; none where all are there.
    pub fn gone_of(&self, version: &ViewVersion, at: Sequence) -> Option<Gone> {
        self.expiry.last_deleted(version.view)?;
        let counted = self.expiry.before(version.view, at);
        let gone = |batch: &Arc<Batch>| {
            let (before, at) = *self.expiry.gone.get(&batch.record.batch)?;
            (Some(before) > counted).then_some(Gone { came: batch.by.sequence, before, at })
        };
        self.batches_of_line(version.line)
            .iter()
            .filter(|batch| self.expiry.gone.contains_key(&batch.record.batch))
            .filter(|batch| self.counts(batch, version, at))
            .find_map(gone)
    }

    pub(super) fn expire(&mut self, record: &Record, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let wrong = |why: String| Err(ApplyError::Expiry { sequence: by.sequence, why });
        match record {
            Record::RowsExpired(body) => {
                if self.views().all(|version| version.view != body.view) {
                    return Err(unresolved(by, "feature view", body.view.to_string()));
                }
                let last = self.expiry.before(body.view, by.sequence);
                if Some(body.before) <= last {
                    return wrong(format!("rows before {} do not count already", body.before));
                }
            }
            Record::RowsDeleted(body) => {
                if self.expiry.before(body.view, by.sequence) < Some(body.before) {
                    return wrong(format!("rows of {} before {} still count", body.view, body.before));
                }
                for batch in &body.batches {
                    match self.batch(*batch) {
                        None => return Err(unresolved(by, "batch", batch.to_string())),
                        Some(found) if found.record.view != body.view => {
                            return wrong(format!("batch {batch} is of another view"));
                        }
                        Some(_) => {}
                    }
                }
            }
            _ => {}
        }
        Arc::make_mut(&mut self.expiry).recorded(record, by);
        Ok(())
    }

    /// Why a training set cannot be recorded any more: what it was made of is gone meanwhile.
    pub(super) fn lacks_rows(&self, record: &Record) -> Option<String> {
        let Record::TrainingSetRecorded(set) = record else { return None };
        let mut selected = set.selected.iter().flatten();
        selected.find_map(|one| {
            let version = self.view_version(one.version)?;
            let gone = self.gone_of(version, set.sequence)?;
            Some(format!(
                "rows of {} that this training set was made of are gone since sequence {}, by the view's retention; nothing of the set counts, \
                 ask again",
                version.label(),
                gone.at
            ))
        })
    }
}
