//! Which policies are in force at each sequence.

use std::sync::Arc;

use feature::Sequence;

use super::{ApplyError, Provenance};
use crate::records::{PoliciesApplied, Record};

/// Policies that were applied.
#[derive(Clone, Debug)]
pub struct AppliedPolicies {
    pub record: PoliciesApplied,
    pub by: Arc<Provenance>,
}

/// All policies that ever were in force.
#[derive(Clone, Debug, Default)]
pub struct PolicyHistory(Vec<AppliedPolicies>);

impl PolicyHistory {
    /// In the order of the log.
    pub fn all(&self) -> &[AppliedPolicies] {
        &self.0
    }

    /// The last that were applied up to a sequence; they may be none, as those say that were lifted.
    pub fn last(&self, at: Sequence) -> Option<&AppliedPolicies> {
        self.0.iter().rev().find(|applied| applied.by.sequence <= at)
    }

    /// Whether policies that were applied before have the key that lies there.
    pub(super) fn has_key(&self, path: &str) -> bool {
        self.0.iter().any(|applied| applied.record.key.path == path)
    }

    /// Those in force at a sequence; none where nothing is governed.
    pub fn in_force(&self, at: Sequence) -> Option<&AppliedPolicies> {
        self.last(at).filter(|applied| !applied.record.files.is_empty())
    }

    /// # Errors
    /// `Repeated` for a number that is not the next.
    pub(super) fn take(&mut self, record: &PoliciesApplied, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX).saturating_add(1);
        if record.number != next {
            return Err(super::repeated(by, "the number of policies", record.number.to_string()));
        }
        self.0.push(AppliedPolicies { record: record.clone(), by: by.clone() });
        Ok(())
    }

    /// Those after a sequence, as records.
    pub(super) fn records_after(&self, after: Option<Sequence>) -> impl Iterator<Item = (Sequence, Record)> {
        let later = self.0.iter().filter(move |applied| Some(applied.by.sequence) > after);
        later.map(|applied| (applied.by.sequence, applied.record.clone().into()))
    }
}
