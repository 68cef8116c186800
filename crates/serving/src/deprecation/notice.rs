//! What is said to whoever reads what will go, and what is refused.

use std::fmt;
use std::sync::{Arc, PoisonError};

use catalog::Author;
use catalog::deprecation::why_not;
use catalog::records::{Deprecable, DeprecatedKind, DeprecationStep};
use catalog::state::{Deprecation, ServiceVersion, Stage, State};
use feature::{Sequence, Timestamp, VersionId};
use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::retrieve::Serving;

/// Microseconds between two looks at what waits to be withdrawn.
const LOOK_EVERY: i64 = 60_000_000;

/// That something which was read will go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeprecationNotice {
    /// `weather@1`
    pub of: String,
    /// `version`, `feature_view` or `feature_service`.
    pub kind: &'static str,
    /// `announced` or `closed`.
    pub stage: &'static str,
    pub reason: String,
    pub by: String,
    /// Of the announcement.
    pub sequence: Sequence,
    /// RFC 3339: from when on nothing new may be made of it.
    pub closed_at: String,
    /// From when on it is read no more.
    pub withdrawn_at: Option<String>,
    pub instead: Option<String>,
}

impl fmt::Display for DeprecationNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, stage, reason, by, closed_at, withdrawn_at, instead, .. } = self;
        write!(f, "{of} is deprecated by {by}: {reason}; ")?;
        match *stage {
            "closed" => f.write_str("it is closed to new training sets")?,
            _ => write!(f, "it is closed to new training sets on {closed_at}")?,
        }
        if let Some(withdrawn) = withdrawn_at {
            write!(f, ", and read no more from {withdrawn} on")?;
        }
        match instead {
            Some(instead) => write!(f, "; use {instead} instead"),
            None => Ok(()),
        }
    }
}

/// What features are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// To look; nothing is recorded but the read.
    Look,
    /// To make a training set.
    TrainingSet,
    /// To be scored by a model that is there: what it was trained on may be closed to others.
    Score,
}

/// What a read meets.
pub(crate) struct Met<'a> {
    pub versions: Vec<VersionId>,
    pub services: &'a [ServiceVersion],
    pub reading: Reading,
}

impl Serving {
    /// What there is to say to a reader; the steps whose dates it meets first are taken.
    ///
    /// # Errors
    /// `Invalid` for what is withdrawn, and for a training set of what is closed to new uses; both name the successor.
    pub(crate) async fn meet_deprecations(
        &self,
        state: &Arc<State>,
        met: &Met<'_>,
        author: &Author,
    ) -> Result<Vec<DeprecationNotice>> {
        // Most stores have none, and nobody waits for them.
        if state.deprecations().all().is_empty() {
            return Ok(Vec::new());
        }
        let now = self.catalog().store().clock().now();
        let overdue = |one: &(String, &Deprecation, Stage)| {
            let next = one.1.next(state.head.sequence).filter(|(_, due)| *due <= now);
            next.is_some_and(|(step, _)| step == DeprecationStep::Closed || self.looks_again(now))
        };
        let state = if found(state, met).iter().any(overdue) {
            self.advance_deprecations(None, author).await?;
            self.catalog().state()
        } else {
            state.clone()
        };
        let mut notices = Vec::new();
        for (label, one, stage) in found(&state, met) {
            if refuses(&state, one, stage, met) {
                return Err(Error::new(Kind::Invalid, why_not(&state, one, &label)));
            }
            let notice = notice(&state, one, stage);
            if !notices.contains(&notice) {
                notices.push(notice);
            }
        }
        Ok(notices)
    }

    /// Whether it is time to look again if something may be withdrawn: what a model in force stands on is met by each of its reads, and
    /// asking the whole graph each time would slow them.
    fn looks_again(&self, now: Timestamp) -> bool {
        let mut last = self.withdrawals_looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let again = last.is_none_or(|last| now.micros() - last.micros() >= LOOK_EVERY);
        if again {
            *last = Some(now);
        }
        again
    }
}

/// The deprecations of what a read meets, with how it is called.
fn found<'s>(state: &'s State, met: &Met<'_>) -> Vec<(String, &'s Deprecation, Stage)> {
    let head = state.head.sequence;
    let versions = met.versions.iter().filter_map(|id| state.view_version(*id));
    let versions = versions.filter_map(|version| {
        let (one, stage) = state.deprecation_of(version, head)?;
        Some((version.label(), one, stage))
    });
    let services = met.services.iter().filter_map(|service| {
        let (one, stage) = state.deprecation_of_service(service, head)?;
        Some((format!("the feature service {}", state.label_of(one.record.of)?), one, stage))
    });
    versions.chain(services).collect()
}

fn refuses(state: &State, one: &Deprecation, stage: Stage, met: &Met<'_>) -> bool {
    match (stage, met.reading) {
        (Stage::Withdrawn, _) | (Stage::Closed, Reading::TrainingSet) => true,
        (Stage::Announced, _) | (Stage::Closed, Reading::Look) => false,
        // What no model was ever trained on is scored by none.
        (Stage::Closed, Reading::Score) => !was_selected(state, one.record.of),
    }
}

/// Whether some training set was made of a thing. Of a service that is not known.
fn was_selected(state: &State, of: Deprecable) -> bool {
    if of.kind == DeprecatedKind::FeatureService {
        return true;
    }
    let versions: Vec<VersionId> =
        state.versions_under(of).into_iter().map(|version| version.version).collect();
    let mut selected = state.training_sets().flat_map(|set| match &set.record.selected {
        Some(selected) => selected.iter().map(|one| Some(one.version)).collect(),
        // The first programs did not say.
        None => vec![None],
    });
    selected.any(|version| version.is_none_or(|version| versions.contains(&version)))
}

fn notice(state: &State, one: &Deprecation, stage: Stage) -> DeprecationNotice {
    let Deprecation { record, by, .. } = one;
    DeprecationNotice {
        of: state.label_of(record.of).unwrap_or_else(|| record.of.id.to_string()),
        kind: record.of.kind.name(),
        stage: stage.name(),
        reason: record.reason.clone(),
        by: by.principal.clone(),
        sequence: by.sequence,
        closed_at: record.closed_at.to_string(),
        withdrawn_at: record.withdrawn_at.map(|at| at.to_string()),
        instead: record.instead.and_then(|of| state.label_of(of)),
    }
}
