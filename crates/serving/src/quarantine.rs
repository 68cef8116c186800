//! Batches in quarantine: which there are, and what becomes of them.

use catalog::Author;
use catalog::release::{self, Ending};
use catalog::state::{Held, State, ViewVersion};
use feature::name::split_project;
use feature::policy::Action;
use feature::quality::Judged;
use feature::{BatchId, Sequence};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::retrieve::Serving;

/// What is to become of a batch in quarantine.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct QuarantineRequest {
    pub batch: BatchId,
    pub action: QuarantineAction,
    /// Why; it stands in the log.
    pub reason: String,
    /// On release: its rows could have been known when the view's rule says, although others of their time came since.
    #[serde(default)]
    pub back_fill: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QuarantineAction {
    Release,
    Drop,
}

/// A batch in quarantine.
#[derive(Clone, Debug, Serialize)]
pub struct QuarantinedBatch {
    pub batch: BatchId,
    /// `weather@2`
    pub version: String,
    pub rows: u64,
    /// The entry that wrote it.
    pub since: Sequence,
    pub principal: String,
    pub judged: Option<Judged>,
}

/// What was done.
#[derive(Clone, Debug, Serialize)]
pub struct QuarantineReport {
    pub batch: BatchId,
    pub version: String,
    pub rows: u64,
    pub action: QuarantineAction,
    pub sequence: Sequence,
}

impl Serving {
    /// The batches that wait, of one view (`weather`, `fraud.cards`) or of all, in the order of the log.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn quarantined(&self, view: Option<&str>) -> Result<Vec<QuarantinedBatch>> {
        let state = self.catalog().refresh().await?;
        let named = view.map(split_project);
        let wanted = |held: &&Held| {
            let definition = state.view_version(held.batch.record.version).map(|version| &version.definition);
            let of_view = named.is_none_or(|(project, name)| {
                definition.is_some_and(|view| view.project.as_str() == project && view.name.as_str() == name)
            });
            held.waits(state.head.sequence) && of_view
        };
        Ok(state.quarantine().all().iter().filter(wanted).map(|held| told(&state, held)).collect())
    }

    /// Releases or drops a batch.
    ///
    /// # Errors
    /// `NotFound` for a batch that was never kept back, `Invalid` for one that waits no more, for no reason, and for a release into
    /// times that others came to since, unless it is said to be a back-fill.
    pub async fn end_quarantine(
        &self,
        request: &QuarantineRequest,
        author: &Author,
    ) -> Result<QuarantineReport> {
        let state = self.catalog().refresh().await?;
        let held = state.quarantine().of(request.batch);
        if let Some(version) = held.and_then(|held| state.view_version(held.batch.record.version)) {
            self.require(&state, author, Action::Withdraw, &version.definition).await?;
        }
        let ending = match request.action {
            QuarantineAction::Release => Ending::Release { back_fill: request.back_fill },
            QuarantineAction::Drop => Ending::Drop,
        };
        let sequence = release::end(self.catalog(), request.batch, ending, &request.reason, author).await?;
        let state = self.catalog().state();
        let held = state.quarantine().of(request.batch);
        let told = held.map(|held| told(&state, held));
        Ok(QuarantineReport {
            batch: request.batch,
            version: told.as_ref().map(|told| told.version.clone()).unwrap_or_default(),
            rows: told.map_or(0, |told| told.rows),
            action: request.action,
            sequence,
        })
    }
}

fn told(state: &State, held: &Held) -> QuarantinedBatch {
    let record = &held.batch.record;
    QuarantinedBatch {
        batch: record.batch,
        version: state.view_version(record.version).map(ViewVersion::label).unwrap_or_default(),
        rows: record.rows,
        since: held.batch.by.sequence,
        principal: held.batch.by.principal.clone(),
        judged: record.judged.clone(),
    }
}
