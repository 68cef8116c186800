//! What was profiled as it passed by, at each sequence.

use std::sync::Arc;

use feature::{SampleId, Sequence};

use super::{ApplyError, Provenance, State, repeated, unresolved};
use crate::records::{Record, Sampled};

/// A sample, with the entry that tells of it.
#[derive(Clone, Debug)]
pub struct Sample {
    pub record: Sampled,
    pub by: Arc<Provenance>,
}

/// All samples, in the order of the log.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<Sample>);

impl Samples {
    /// In the order of the log.
    pub fn all(&self) -> &[Sample] {
        &self.0
    }

    /// Ids are minted in the order of time, so that one that is there is near the end.
    pub fn find(&self, sample: SampleId) -> Option<&Sample> {
        self.0.iter().rev().find(|known| known.record.sample == sample)
    }

    pub(super) fn take(&mut self, record: &Sampled, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let of_entry = self.0.iter().rev().take_while(|known| known.by.sequence == by.sequence);
        if of_entry.into_iter().any(|known| known.record.sample == record.sample) {
            return Err(repeated(by, "sample", record.sample.to_string()));
        }
        self.0.push(Sample { record: record.clone(), by: by.clone() });
        Ok(())
    }

    /// Those after a sequence, as records.
    pub(super) fn records_after(&self, after: Option<Sequence>) -> impl Iterator<Item = (Sequence, Record)> {
        let from = self.0.partition_point(|sample| Some(sample.by.sequence) <= after);
        let later = self.0.get(from..).unwrap_or_default();
        later.iter().map(|sample| (sample.by.sequence, sample.record.clone().into()))
    }
}

impl State {
    /// What was profiled as it passed by.
    pub fn samples(&self) -> &Samples {
        &self.samples
    }

    pub(super) fn take_sample(&mut self, body: &Sampled, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        if self.view_version(body.version).is_none() {
            return Err(unresolved(by, "feature view version", body.version.to_string()));
        }
        Arc::make_mut(&mut self.samples).take(body, by)
    }
}
