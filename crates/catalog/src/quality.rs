//! What a batch is compared with, and the verdict on it.

use std::collections::HashSet;
use std::sync::Arc;

use feature::definition::Baseline;
use feature::profile::BatchProfile;
use feature::quality::{self, Judged, Judging};
use feature::{BatchId, Sequence};
use futures::{StreamExt, TryStreamExt};

use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::selection;
use crate::state::{Batch, State, ViewVersion};

/// Profiles that are read at a time.
const AT_A_TIME: usize = 16;

/// The verdict on a batch that is about to be written; none where its view declares no checks.
///
/// # Errors
/// Those of [`baseline`].
pub(crate) async fn judge(
    catalog: &Catalog,
    state: &State,
    version: &ViewVersion,
    of: Judging,
    batch: &BatchProfile,
) -> Result<Option<Judged>> {
    let Some(rules) = &version.definition.quality else { return Ok(None) };
    let compared = baseline(catalog, state, version, &rules.baseline(), state.head.sequence).await?;
    let profiles: Vec<BatchProfile> = compared.into_iter().map(|(_, profile)| profile).collect();
    let judged = quality::judge(rules, of, batch, &profiles, catalog.store().clock().now());
    judged.map(Some).map_err(|error| Error::internal("a batch cannot be compared with its baseline", error))
}

/// The batches that count for a version at a sequence and are of a baseline, with their profiles, in the order of the log.
/// Those of programs that made no profiles are left out, and those of mended rows: a few of other batches, which are like none.
///
/// # Errors
/// `Storage` where a profile is missing or was altered; `NotFound` where the baseline names a model that is not there.
pub async fn baseline(
    catalog: &Catalog,
    state: &State,
    version: &ViewVersion,
    baseline: &Baseline,
    at: Sequence,
) -> Result<Vec<(BatchId, BatchProfile)>> {
    let mut batches = state.batches_of(version, at);
    let mends: HashSet<BatchId> = state.mended().all().iter().map(|one| one.record.batch).collect();
    batches.retain(|batch| batch.record.profile.is_some() && !mends.contains(&batch.record.batch));
    match baseline {
        Baseline::Batches(most) => {
            let first = batches.len().saturating_sub(*most as usize);
            batches.drain(..first);
        }
        Baseline::Between { from, until } => {
            let mut within = Vec::new();
            for batch in batches {
                let files = catalog.batch_files(&batch).await?;
                let inside =
                    |(least, greatest): (i64, i64)| from.micros() <= least && greatest < until.micros();
                if files.iter().all(|file| file.valid_at_range().is_some_and(inside)) {
                    within.push(batch);
                }
            }
            batches = within;
        }
        Baseline::Model(model) => {
            let trained = trained_on(catalog, state, model, at).await?;
            batches.retain(|batch| trained.contains(&batch.record.batch));
        }
    }
    futures::stream::iter(batches)
        .map(|batch| async move {
            let profile = profile(catalog, &batch).await?;
            Ok(profile.map(|profile| (batch.record.batch, profile)))
        })
        .buffered(AT_A_TIME)
        .try_filter_map(|found| async move { Ok(found) })
        .try_collect()
        .await
}

/// The profile of a batch; none where it was written without one.
///
/// # Errors
/// `Storage` where it is missing or was altered.
pub async fn profile(catalog: &Catalog, batch: &Arc<Batch>) -> Result<Option<BatchProfile>> {
    let Some(object) = &batch.record.profile else { return Ok(None) };
    let bytes = catalog.object(object).await?;
    let profile = BatchProfile::from_json(&bytes);
    Ok(Some(profile.map_err(|error| storage::Error::corrupt(&object.path, error.to_string()))?))
}

/// Batches that the training sets of a model's deployed versions had rows of; of a model that is deployed nowhere, those of all its
/// versions.
async fn trained_on(catalog: &Catalog, state: &State, model: &str, at: Sequence) -> Result<HashSet<BatchId>> {
    let registry = state.registry();
    let id = registry.model_named(model, at).ok_or_else(|| {
        Error::NotFound(format!(
            "the baseline is what the model `{model}` was trained on, and no such model is known; \
             `SELECT name FROM lineament.models` lists those that are"
        ))
    })?;
    let of_model = |version: &feature::ModelVersionId| {
        registry.model_version_at(*version, at).filter(|now| now.model == id).and_then(|now| now.run)
    };
    let by_then = |sequence: Sequence| sequence <= at;
    let deployed = registry.deployments().filter_map(|(_, changes)| {
        changes.iter().rev().find(|change| by_then(change.by.sequence))?.record.model_version
    });
    let mut runs: HashSet<_> = deployed.filter_map(|version| of_model(&version)).collect();
    if runs.is_empty() {
        runs = registry.model_versions().filter_map(|(version, _)| of_model(&version)).collect();
    }
    let mut batches = HashSet::new();
    let uses = registry.uses().iter().filter(|noted| by_then(noted.by.sequence));
    for used in uses.filter(|noted| runs.contains(&noted.record.run)) {
        let Some(set) = state.training_set(used.record.training_set) else { continue };
        for selected in selection::selected(catalog, set).await?.iter() {
            batches.extend(selected.hits.iter().map(|hit| hit.batch));
        }
    }
    Ok(batches)
}
