//! What is counted of batches. A scoreboard goes through all of them, which are more than anybody would hold for it.

use std::collections::HashSet;

use feature::quality::{Judged, Verdict};
use feature::{BatchId, Sequence, Timestamp, VersionId};
use serde::Deserialize;

use super::{Batch, State};

/// What is counted of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CountedBatch<'a> {
    pub batch: BatchId,
    /// That it was written under.
    pub version: VersionId,
    pub committed_at: Timestamp,
    /// That it was written for, in the words of its writer.
    pub experiment: Option<&'a str>,
    pub rows: u64,
    pub rejected: u64,
    pub checks: Option<Checks>,
    /// Whether it was made by a query whose columns were not traced.
    pub untraced: bool,
}

/// What a verdict says, but for its findings.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Checks {
    pub verdict: Verdict,
    #[serde(default)]
    pub drift: Option<f64>,
    #[serde(default)]
    pub age_hours: Option<f64>,
}

impl From<&Judged> for Checks {
    fn from(judged: &Judged) -> Self {
        Self { verdict: judged.verdict, drift: judged.drift, age_hours: judged.age_hours }
    }
}

/// Which batches are counted.
#[derive(Clone, Copy)]
pub(crate) enum Which<'a> {
    /// Those that came after a sequence, or from the beginning on, and up to another.
    Between {
        after: Option<Sequence>,
        until: Sequence,
    },
    These(&'a HashSet<BatchId>),
}

impl Which<'_> {
    pub fn has(self, sequence: Sequence, batch: BatchId) -> bool {
        match self {
            Self::Between { after, until } => Some(sequence) > after && sequence <= until,
            Self::These(batches) => batches.contains(&batch),
        }
    }

    /// Whether some of the batches of these entries, both ends included, may be among them.
    pub fn may_be_within(self, first: Sequence, last: Sequence) -> bool {
        match self {
            Self::Between { after, until } => Some(last) > after && first <= until,
            Self::These(batches) => !batches.is_empty(),
        }
    }
}

impl<'a> CountedBatch<'a> {
    pub fn of(batch: &'a Batch) -> Self {
        let record = &batch.record;
        Self {
            batch: record.batch,
            version: record.version,
            committed_at: batch.by.committed_at,
            experiment: batch.by.experiment.as_deref(),
            rows: record.rows,
            rejected: record.rejected,
            checks: record.judged.as_ref().map(Checks::from),
            untraced: record.derivation.as_ref().is_some_and(|made| !made.is_traced()),
        }
    }
}

impl State {
    /// Visits each of these batches that was admitted, in no order. What lies in a checkpoint is read for this alone, and not held.
    pub(crate) fn count_batches(&self, which: Which<'_>, mut visit: impl FnMut(CountedBatch<'_>)) {
        match which {
            Which::Between { after, until } => {
                if let Some(stored) = &self.stored {
                    stored.count(which, &mut visit);
                }
                let first = self.admitted.partition_point(|batch| Some(batch.by.sequence) <= after);
                let later = self.admitted.get(first..).unwrap_or_default().iter();
                for batch in later.take_while(|batch| batch.by.sequence <= until) {
                    visit(CountedBatch::of(batch));
                }
            }
            Which::These(batches) => {
                let mut before = HashSet::new();
                for id in batches {
                    match self.batches.get(id) {
                        Some(batch) => visit(CountedBatch::of(batch)),
                        None => _ = before.insert(*id),
                    }
                }
                if let Some(stored) = &self.stored {
                    stored.count(Which::These(&before), &mut visit);
                }
            }
        }
    }
}
