//! Experiments, runs, models and deployments, as callers tell of them.

use catalog::Author;
use catalog::records::{How, Role};
use catalog::registry::{self, Deployment, Observations, Told};
use feature::TrainingSetId;

use crate::error::Result;
use crate::retrieve::Serving;

impl Serving {
    /// Records what was seen of experiments, runs and models; see [`registry::observe`].
    pub async fn observe(&self, seen: Observations, author: &Author) -> Result<Told> {
        Ok(registry::observe(self.catalog(), seen, author).await?)
    }

    /// Records that a run used a training set; see [`registry::record_use`].
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
    pub async fn deploy(&self, wanted: Deployment, author: &Author) -> Result<Told> {
        Ok(registry::deploy(self.catalog(), wanted, author).await?)
    }
}
