//! What was withdrawn and restored, and what counts at each sequence.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use feature::{BatchId, Sequence, VersionId};

use super::{ApplyError, Provenance};
use crate::records::{BatchRestored, BatchWithdrawn, Record, VersionRestored, VersionWithdrawn};

/// What can be withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Withdrawable {
    Batch(BatchId),
    Version(VersionId),
}

impl Withdrawable {
    pub fn kind(self) -> &'static str {
        match self {
            Self::Batch(_) => "batch",
            Self::Version(_) => "version",
        }
    }

    /// What a record withdraws or restores, which of the two, and why.
    pub(super) fn told_of(record: &Record) -> Option<(Self, bool, &str)> {
        match record {
            Record::BatchWithdrawn(body) => Some((Self::Batch(body.batch), true, &body.reason)),
            Record::BatchRestored(body) => Some((Self::Batch(body.batch), false, &body.reason)),
            Record::VersionWithdrawn(body) => Some((Self::Version(body.version), true, &body.reason)),
            Record::VersionRestored(body) => Some((Self::Version(body.version), false, &body.reason)),
            _ => None,
        }
    }

    /// The record that says so.
    pub fn record(self, withdrawn: bool, reason: String) -> Record {
        match (self, withdrawn) {
            (Self::Batch(batch), true) => BatchWithdrawn { batch, reason }.into(),
            (Self::Batch(batch), false) => BatchRestored { batch, reason }.into(),
            (Self::Version(version), true) => VersionWithdrawn { version, reason }.into(),
            (Self::Version(version), false) => VersionRestored { version, reason }.into(),
        }
    }
}

/// The id, without its kind.
impl fmt::Display for Withdrawable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch(id) => id.fmt(f),
            Self::Version(id) => id.fmt(f),
        }
    }
}

/// One thing withdrawn or restored.
#[derive(Clone, Debug)]
pub struct Withdrawal {
    pub of: Withdrawable,
    /// Withdrawn, else restored.
    pub withdrawn: bool,
    pub reason: String,
    pub by: Arc<Provenance>,
}

/// All that was withdrawn and restored.
#[derive(Clone, Debug, Default)]
pub struct Withdrawals {
    /// In the order of the log.
    all: Vec<Withdrawal>,
    /// Places in `all`, by what they are of.
    places: HashMap<Withdrawable, Vec<usize>>,
}

impl Withdrawals {
    /// In the order of the log.
    pub fn all(&self) -> &[Withdrawal] {
        &self.all
    }

    /// The withdrawal by which a thing does not count at a sequence; none where it counts.
    pub fn at(&self, of: Withdrawable, at: Sequence) -> Option<&Withdrawal> {
        let places = self.places.get(&of)?.iter().rev();
        let last = places.map(|place| &self.all[*place]).find(|noted| noted.by.sequence <= at)?;
        last.withdrawn.then_some(last)
    }

    /// Takes in one more; a record of anything else is nothing to it.
    ///
    /// # Errors
    /// `Repeated` for what is withdrawn already, or restored and was not withdrawn, or is moved twice by one entry.
    pub(super) fn take(&mut self, record: &Record, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let Some((of, withdrawn, reason)) = Withdrawable::told_of(record) else { return Ok(()) };
        let last = self.places.get(&of).and_then(|places| places.last()).map(|place| &self.all[*place]);
        let is_withdrawn = last.is_some_and(|last| last.withdrawn);
        if is_withdrawn == withdrawn || last.is_some_and(|last| last.by.sequence == by.sequence) {
            let what = if withdrawn { "the withdrawal of" } else { "the restoring of" };
            return Err(super::repeated(by, what, format!("{} {of}", of.kind())));
        }
        self.places.entry(of).or_default().push(self.all.len());
        self.all.push(Withdrawal { of, withdrawn, reason: reason.to_owned(), by: by.clone() });
        Ok(())
    }

    /// Those after a sequence, as records.
    pub(super) fn records_after(&self, after: Option<Sequence>) -> impl Iterator<Item = (Sequence, Record)> {
        let later = self.all.iter().filter(move |noted| Some(noted.by.sequence) > after);
        later.map(|noted| (noted.by.sequence, noted.of.record(noted.withdrawn, noted.reason.clone())))
    }
}
