//! Earlier states of a store: the sequence in force at an instant, and the snapshot at it.

use datafusion::common::{Result, plan_datafusion_err, plan_err};
use feature::{AsOf, Sequence, Timestamp};

use crate::snapshot::Snapshot;

impl Snapshot {
    /// The store as it was, where that is asked for.
    ///
    /// # Errors
    /// Those of [`Snapshot::sequence_of`].
    pub fn at(self, as_of: Option<AsOf>) -> Result<Self> {
        let Some(as_of) = as_of else { return Ok(self) };
        let sequence = self.sequence_of(as_of)?;
        Ok(Self { sequence, ..self })
    }

    /// The sequence of a state that is asked for.
    ///
    /// # Errors
    /// A sequence that is not there yet; an instant before the store, or one that is still to come.
    pub fn sequence_of(&self, as_of: AsOf) -> Result<Sequence> {
        match as_of {
            AsOf::Sequence(sequence) if sequence > self.sequence => {
                plan_err!("the log ends at sequence {}; there is no {sequence} yet", self.sequence)
            }
            AsOf::Sequence(sequence) => Ok(sequence),
            AsOf::Instant(instant) => self.sequence_at(instant),
        }
    }

    /// The last entry that was committed by an instant.
    fn sequence_at(&self, instant: Timestamp) -> Result<Sequence> {
        let entries = || self.state.log().iter().filter(|line| line.by.sequence <= self.sequence);
        let now = self.catalog.store().clock().now();
        let newest = entries().map(|line| line.by.committed_at).max();
        if instant > now && newest.is_none_or(|newest| instant > newest) {
            return plan_err!(
                "{instant} is still to come, and what the store will hold then is not known; leave it out for the newest state"
            );
        }
        let last =
            entries().filter(|line| line.by.committed_at <= instant).map(|line| line.by.sequence).max();
        last.ok_or_else(|| {
            let first = entries().map(|line| line.by.committed_at).min();
            let first = first.map(|first| format!(" at {first}")).unwrap_or_default();
            plan_datafusion_err!("the store begins{first}; there is nothing as of {instant}")
        })
    }
}
