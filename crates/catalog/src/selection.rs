//! What a recorded training set was selected from.
//!
//! Entries say it themselves; those of the first programs leave it to the manifest.

use std::borrow::Cow;

use feature::{BatchId, VersionId};
use serde::Deserialize;

use crate::catalog::Catalog;
use crate::error::Result;
use crate::records::{BatchHit, Selected};
use crate::state::TrainingSet;

/// The part of a manifest that is read here; `lineage` has it whole.
#[derive(Deserialize)]
struct Manifest {
    references: Vec<Reference>,
    views: Vec<View>,
}

#[derive(Deserialize)]
struct Reference {
    version: VersionId,
    feature: String,
}

#[derive(Deserialize)]
struct View {
    version: VersionId,
    hits: Vec<Hit>,
}

#[derive(Deserialize)]
struct Hit {
    batch: BatchId,
    rows: u64,
}

/// Versions, features and batches that a training set took its cells from.
///
/// # Errors
/// `Storage` where the manifest of an old set is missing or was altered.
pub async fn selected<'a>(catalog: &Catalog, set: &'a TrainingSet) -> Result<Cow<'a, [Selected]>> {
    if let Some(selected) = &set.record.selected {
        return Ok(Cow::Borrowed(selected));
    }
    let object = &set.record.manifest;
    let bytes = catalog.object(object).await?;
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|error| storage::Error::corrupt(&object.path, format!("it is no manifest: {error}")))?;
    let features = |version: VersionId| {
        let of_version = |reference: &&Reference| reference.version == version;
        manifest.references.iter().filter(of_version).map(|reference| reference.feature.clone()).collect()
    };
    let selected = |view: &View| Selected {
        version: view.version,
        features: features(view.version),
        hits: view.hits.iter().map(|hit| BatchHit { batch: hit.batch, rows: hit.rows }).collect(),
    };
    Ok(Cow::Owned(manifest.views.iter().map(selected).collect()))
}
