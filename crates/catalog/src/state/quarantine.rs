//! Batches that wait to be released or dropped, and what became of those that waited.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use feature::digest::Digest;
use feature::{BatchId, Sequence, VersionId};

use super::{ApplyError, Batch, Provenance};
use crate::records::{BatchDropped, BatchQuarantined, BatchReleased, Record};

/// A batch that was kept back, with the entry that wrote it.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its `by` is the entry that wrote it, in which it did not count.
    pub batch: Arc<Batch>,
    pub end: Option<End>,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct End {
    /// Released, else dropped.
    pub released: bool,
    pub reason: String,
    pub by: Arc<Provenance>,
}

impl Held {
    /// Whether it waits at a sequence.
    pub fn waits(&self, at: Sequence) -> bool {
        self.batch.by.sequence <= at && self.end_at(at).is_none()
    }

    /// What had become of it by a sequence.
    pub fn end_at(&self, at: Sequence) -> Option<&End> {
        self.end.as_ref().filter(|end| end.by.sequence <= at)
    }

    /// As whom it counts once it is released: written by its writer, at the place and time of its release.
    pub(super) fn admitted_by(&self, release: &Provenance) -> Arc<Provenance> {
        let Provenance { sequence, committed_at, .. } = *release;
        Arc::new(Provenance { sequence, committed_at, ..Provenance::clone(&self.batch.by) })
    }
}

/// All batches that ever were kept back.
#[derive(Clone, Debug, Default)]
pub struct Quarantine {
    /// In the order of the log.
    all: Vec<Held>,
    places: HashMap<BatchId, usize>,
    /// Source files of theirs, by line: none is taken twice.
    sources: HashSet<(VersionId, Digest)>,
}

impl Quarantine {
    /// In the order of the log.
    pub fn all(&self) -> &[Held] {
        &self.all
    }

    pub fn of(&self, batch: BatchId) -> Option<&Held> {
        self.places.get(&batch).map(|place| &self.all[*place])
    }

    pub(super) fn has_source(&self, line: VersionId, digest: Digest) -> bool {
        self.sources.contains(&(line, digest))
    }

    pub(super) fn keep(&mut self, batch: Arc<Batch>) {
        self.sources.extend(batch.record.sources.iter().map(|source| (batch.line, source.digest)));
        self.places.insert(batch.record.batch, self.all.len());
        self.all.push(Held { batch, end: None });
    }

    /// Notes what became of a batch, and gives it back.
    ///
    /// # Errors
    /// `Unresolved` for a batch that was not kept back, `Repeated` for one that waits no more.
    pub(super) fn end(
        &mut self,
        batch: BatchId,
        released: bool,
        reason: &str,
        by: &Arc<Provenance>,
    ) -> Result<&Held, ApplyError> {
        let place = self.places.get(&batch).copied();
        let place = place.ok_or_else(|| super::unresolved(by, "quarantined batch", batch.to_string()))?;
        let held = &mut self.all[place];
        if held.end.is_some() {
            return Err(super::repeated(by, "the end of quarantined batch", batch.to_string()));
        }
        held.end = Some(End { released, reason: reason.to_owned(), by: by.clone() });
        Ok(held)
    }

    /// Those after a sequence, as records.
    pub(super) fn records_after(&self, after: Option<Sequence>) -> Vec<(Sequence, Record)> {
        let mut records = Vec::new();
        for Held { batch, end } in &self.all {
            let kept = BatchQuarantined { batch: batch.record.clone() };
            records.push((batch.by.sequence, kept.into()));
            if let Some(end) = end {
                let (batch, reason) = (batch.record.batch, end.reason.clone());
                records.push((
                    end.by.sequence,
                    if end.released {
                        BatchReleased { batch, reason }.into()
                    } else {
                        BatchDropped { batch, reason }.into()
                    },
                ));
            }
        }
        records.retain(|(sequence, _)| Some(*sequence) > after);
        records.sort_by_key(|(sequence, _)| *sequence);
        records
    }
}
