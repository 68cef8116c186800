//! Experiments, runs, models and deployments, as callers tell of them.

use std::sync::PoisonError;

use async_recursion::async_recursion;
use catalog::Author;
use catalog::records::{How, Role};
use catalog::registry::{self, Deployment, Observations, Told};
use feature::TrainingSetId;
use serde::Serialize;

use crate::error::Result;
use crate::retrieve::Serving;

/// What is kept of the last pass over a tracking server, for the status of this process. After a pass that failed, the
/// counts are those of the last that did not.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LastTrackingPass {
    /// Which server.
    pub authority: String,
    /// When it was asked, RFC 3339; null where no pass succeeded yet.
    pub at: Option<String>,
    /// Experiments, runs, models, model versions and aliases that it has.
    pub found: u64,
    /// What it has no more, though it was known not to be gone.
    pub gone: u64,
    /// Uses of training sets that the store had not been told of.
    pub linked: u64,
    /// Uses of training sets that this store does not have.
    pub foreign: u64,
    /// Aliases that mean another version than before.
    pub moved: u64,
    /// Passes that failed since.
    pub failures: u64,
    /// Why the last of them did.
    pub error: Option<String>,
    pub seconds: f64,
}

/// Passes over a tracking server since this process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackingPasses {
    pub made: u64,
    /// Of these.
    pub failed: u64,
}

/// What is kept of passes over a tracking server.
#[derive(Debug, Default)]
pub(crate) struct Tracked {
    last: Option<LastTrackingPass>,
    passes: TrackingPasses,
}

impl Serving {
    /// The last pass over a tracking server; none before the first.
    pub fn last_tracking_pass(&self) -> Option<LastTrackingPass> {
        self.tracked.lock().unwrap_or_else(PoisonError::into_inner).last.clone()
    }

    pub fn tracking_passes(&self) -> TrackingPasses {
        self.tracked.lock().unwrap_or_else(PoisonError::into_inner).passes
    }

    /// Keeps what a pass found, or why it failed.
    pub fn note_tracking_pass(&self, last: LastTrackingPass) {
        let mut tracked = self.tracked.lock().unwrap_or_else(PoisonError::into_inner);
        tracked.passes.made += 1;
        tracked.passes.failed += u64::from(last.error.is_some());
        tracked.last = Some(last);
    }

    /// Records what was seen of experiments, runs and models; see [`registry::observe`].
    #[async_recursion]
    pub async fn observe(&self, seen: Observations, author: &Author) -> Result<Told> {
        Ok(registry::observe(self.catalog(), seen, author).await?)
    }

    /// Records that a run used a training set; see [`registry::record_use`].
    #[async_recursion]
    pub async fn record_use(
        &self,
        training_set: TrainingSetId,
        run: &str,
        role: Role,
        how: How,
        author: &Author,
    ) -> Result<Told> {
        Ok(registry::record_use(self.catalog(), training_set, run, role, how, author).await?)
    }

    /// Records what a deployment serves; see [`registry::deploy`].
    #[async_recursion]
    pub async fn deploy(&self, wanted: Deployment, author: &Author) -> Result<Told> {
        Ok(registry::deploy(self.catalog(), wanted, author).await?)
    }
}
