//! A batch measured against any baseline, from profiles alone. Nothing is written.

use async_recursion::async_recursion;
use catalog::Author;
use catalog::state::{Batch, State, ViewVersion};
use engine::access::Sights;
use feature::definition::{Baseline, Quality};
use feature::name::split_project;
use feature::policy::Action;
use feature::quality::{self, Judging, Taken, Verdict};
use feature::{BatchId, Sequence};
use serde::Serialize;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::retrieve::Serving;

/// What is to be measured.
#[derive(Clone, Debug, Default)]
pub struct DriftRequest {
    /// `weather`, `fraud.cards`
    pub view: String,
    /// The latest batch of the view where none is named, one in quarantine included.
    pub batch: Option<BatchId>,
    /// What the view declares where none is named.
    pub baseline: Option<Baseline>,
}

/// How far a batch is from its baseline.
#[derive(Clone, Debug, Serialize)]
pub struct DriftReport {
    pub version: String,
    pub batch: BatchId,
    pub rows: u64,
    pub baseline_batches: u64,
    pub baseline_rows: u64,
    /// Every measure that was taken, in the order of the features.
    pub measures: Vec<Measured>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// None of the batch as a whole.
    pub feature: Option<String>,
    pub measure: &'static str,
    pub value: f64,
    /// Above which it warns and fails, with what is usual for the baseline.
    pub warn: Option<f64>,
    pub fail: Option<f64>,
    pub verdict: Verdict,
}

impl Serving {
    /// Measures a batch against a baseline: batches before it, in the order of the log, and never itself.
    ///
    /// # Errors
    /// `NotFound` for a view or batch that is not there, and for a batch of a program that made no profiles; `Forbidden` for who may not
    /// see all rows of the view. Of features that are masked or denied nothing is told.
    #[async_recursion]
    pub async fn drift(&self, request: &DriftRequest, author: &Author) -> Result<DriftReport> {
        let words = || format!("drift {}", request.view);
        self.on_record(author, Action::Read, None, words, self.measured(request, author)).await
    }

    async fn measured(&self, request: &DriftRequest, author: &Author) -> Result<DriftReport> {
        let snapshot = self.snapshot_for(None, author).await?;
        let state = snapshot.state.clone();
        let (project, name) = split_project(&request.view);
        let head = state.head.sequence;
        let version = state.view(project, name, None, head);
        let version =
            version.ok_or_else(|| not_found(format!("there is no feature view `{}`", request.view)))?;
        let sight = Sights::of_snapshot(&snapshot).of(version);
        if !sight.counts() {
            return Err(Error::denial(
                format!("{}.*", version.label()),
                format!(
                    "how far the batches of `{}` drift is told to who may see all of its rows, and policies keep some from `{}`; ask whoever governs the store",
                    version.label(),
                    author.principal
                ),
            ));
        }
        let batch = batch_of(&state, version, request)?;
        let profile = catalog::quality::profile(self.catalog(), &batch).await?.ok_or_else(|| {
            not_found(format!("batch {} was written by a program that made no profiles", batch.record.batch))
        })?;
        let rules = version.definition.quality.clone().unwrap_or_default();
        let baseline = request.baseline.clone().unwrap_or_else(|| rules.baseline());
        // A named time or model is meant as it is; else what came before.
        let until = match baseline {
            Baseline::Batches(_) => Sequence(batch.by.sequence.0.saturating_sub(1)),
            Baseline::Between { .. } | Baseline::Model(_) => head,
        };
        let compared = catalog::quality::baseline(self.catalog(), &state, version, &baseline, until).await?;
        let compared: Vec<_> =
            compared.into_iter().filter(|(id, _)| *id != batch.record.batch).map(|(_, own)| own).collect();
        let now = batch.by.committed_at;
        let of = if state.mended().has(batch.record.batch) { Judging::Mended } else { Judging::Batch };
        let taken = quality::measures_of(&Quality { baseline: None, ..rules }, of, &profile, &compared, now)
            .map_err(|error| {
                Error::new(Kind::Internal, format!("the profiles do not fit each other: {error}"))
            })?;
        Ok(DriftReport {
            version: version.label(),
            batch: batch.record.batch,
            rows: profile.rows,
            baseline_batches: compared.len() as u64,
            baseline_rows: compared.iter().map(|profile| profile.rows).sum(),
            measures: taken
                .into_iter()
                .filter(|taken| taken.feature.as_deref().is_none_or(|feature| sight.shows(feature)))
                .map(measured)
                .collect(),
        })
    }
}

fn batch_of(state: &State, version: &ViewVersion, request: &DriftRequest) -> Result<Arc<Batch>> {
    let held = state.quarantine().all().iter().map(|held| &held.batch);
    let of_line =
        held.filter(|batch| batch.line == version.line && state.batch(batch.record.batch).is_none());
    let mut all = state.batches_of_line(version.line).iter().chain(of_line);
    match request.batch {
        Some(wanted) => all.find(|batch| batch.record.batch == wanted).cloned().ok_or_else(|| {
            not_found(format!("`{}` has no batch {wanted}; lineament.batches lists them", version.label()))
        }),
        None => all
            .max_by_key(|batch| batch.by.sequence)
            .cloned()
            .ok_or_else(|| not_found(format!("`{}` has no batch yet", version.label()))),
    }
}

fn measured(taken: Taken) -> Measured {
    Measured {
        verdict: taken.verdict(),
        measure: taken.measure.name(),
        feature: taken.feature,
        value: taken.value,
        warn: taken.warn,
        fail: taken.fail,
    }
}

fn not_found(message: String) -> Error {
    Error::new(Kind::NotFound, message)
}
