//! Batches in quarantine: which there are, and what becomes of them.

use async_recursion::async_recursion;
use catalog::Author;
use catalog::release::{self, Ending};
use catalog::state::{Held, State, ViewVersion};
use engine::access::Sights;
use feature::name::split_project;
use feature::policy::Action;
use feature::quality::{Finding, Judged};
use feature::{BatchId, Sequence, VersionId};
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
    /// None where policies keep rows of it from the asker.
    pub rows: Option<u64>,
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
    #[async_recursion]
    pub async fn quarantined(&self, view: Option<&str>, author: &Author) -> Result<Vec<QuarantinedBatch>> {
        let snapshot = self.snapshot_for(None, author).await?;
        let sights = Sights::of_snapshot(&snapshot);
        let state = snapshot.state.clone();
        let named = view.map(split_project);
        let wanted = |held: &&Held| {
            let definition = state.view_version(held.batch.record.version).map(|version| &version.definition);
            let of_view = named.is_none_or(|(project, name)| {
                definition.is_some_and(|view| view.project.as_str() == project && view.name.as_str() == name)
            });
            held.waits(state.head.sequence) && of_view
        };
        Ok(state.quarantine().all().iter().filter(wanted).map(|held| told(&state, held, &sights)).collect())
    }

    /// Releases or drops a batch.
    ///
    /// # Errors
    /// `NotFound` for a batch that was never kept back, `Invalid` for one that waits no more, for no reason, and for a release into
    /// times that others came to since, unless it is said to be a back-fill.
    #[async_recursion]
    pub async fn end_quarantine(
        &self,
        request: &QuarantineRequest,
        author: &Author,
    ) -> Result<QuarantineReport> {
        let words = || format!("quarantine: {:?} batch {}", request.action, request.batch).to_lowercase();
        self.on_record(author, Action::Withdraw, None, words, self.ended(request, author)).await
    }

    async fn ended(&self, request: &QuarantineRequest, author: &Author) -> Result<QuarantineReport> {
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
        // Who may end a quarantine is told how many rows that moves.
        let record = held.map(|held| &held.batch.record);
        Ok(QuarantineReport {
            batch: request.batch,
            version: record.map(|record| label(&state, record.version)).unwrap_or_default(),
            rows: record.map_or(0, |record| record.rows),
            action: request.action,
            sequence,
        })
    }
}

fn label(state: &State, version: VersionId) -> String {
    state.view_version(version).map(ViewVersion::label).unwrap_or_default()
}

fn told(state: &State, held: &Held, sights: &Sights<'_>) -> QuarantinedBatch {
    let record = &held.batch.record;
    let sight = sights.of_id(record.version);
    let shown = |finding: &Finding| match &finding.feature {
        Some(feature) => sight.shows(feature),
        None => sight.counts(),
    };
    let judged = record.judged.clone().map(|mut judged| {
        judged.findings.retain(shown);
        judged.drift = judged.drift.filter(|_| sight.is_whole());
        judged.age_hours = judged.age_hours.filter(|_| sight.counts());
        judged
    });
    QuarantinedBatch {
        batch: record.batch,
        version: label(state, record.version),
        rows: sight.counts().then_some(record.rows),
        since: held.batch.by.sequence,
        principal: held.batch.by.principal.clone(),
        judged,
    }
}
