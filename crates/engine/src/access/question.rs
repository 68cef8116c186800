//! `access('weather.temp', principal => 'ann', at => TIMESTAMP '…')`: what somebody could do, then or now, and why.

use arrow::array::RecordBatch;
use async_trait::async_trait;
use datafusion::common::Result;
use feature::policy::{Action, Purpose};
use feature::{Sequence, Timestamp};

use crate::snapshot::Snapshot;

/// As of when it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Moment {
    /// The snapshot of the query.
    #[default]
    Snapshot,
    Sequence(Sequence),
    Instant(Timestamp),
}

/// What is asked about somebody.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccessQuestion {
    /// `weather`, `weather@2`, `fraud.cards`, and one feature of it or all.
    pub reference: String,
    pub principal: String,
    /// None: those that the principal was last seen with by then, in the reads on record.
    pub roles: Option<Vec<String>>,
    pub groups: Vec<String>,
    pub purpose: Purpose,
    pub action: Action,
    pub at: Moment,
}

/// Who can answer that. This crate knows that there are policies, and not how they decide.
#[async_trait]
pub trait AccessRelations: Send + Sync {
    /// A row for the view and one for each feature that is asked about, by the policies in force then.
    ///
    /// # Errors
    /// A view, a feature or a moment that there is not.
    async fn access(&self, snapshot: &Snapshot, question: &AccessQuestion) -> Result<RecordBatch>;
}
