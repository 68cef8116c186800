//! What the values of a batch are like without those that are erased.

use std::collections::HashMap;
use std::sync::Arc;

use feature::CompactionId;
use feature::profile::BatchProfile;
use storage::manifest::DataFile;

use super::files::of_batch;
use crate::catalog::Catalog;
use crate::compaction::input;
use crate::error::{Error, Result};
use crate::state::{Batch, Run, State, ViewVersion};

/// The profile of what is left of a batch: of its own files, or of those that it was merged into. Where its rows are nowhere, one of no rows:
/// nobody can tell any more what of it was the key's.
pub(super) async fn left(
    catalog: &Catalog,
    state: &State,
    version: &ViewVersion,
    batch: &Batch,
    own: &[DataFile],
    merged: &HashMap<CompactionId, Vec<DataFile>>,
) -> Result<Vec<u8>> {
    let mut profile = BatchProfile::of(&version.definition.features);
    if !add(catalog, &mut profile, batch, own).await? {
        profile = BatchProfile::of(&version.definition.features);
        let files = merged_files(catalog, state, batch, merged).await?;
        if !add(catalog, &mut profile, batch, &files).await? {
            profile = BatchProfile::of(&version.definition.features);
        }
    }
    // Names and types of columns are of nobody.
    if let Some(object) = &batch.record.profile {
        let before = BatchProfile::from_json(&catalog.object(object).await?);
        profile.source = before.map(|before| before.source).unwrap_or_default();
    }
    Ok(profile.to_json())
}

/// False where some of the files are not there.
async fn add(
    catalog: &Catalog,
    profile: &mut BatchProfile,
    batch: &Batch,
    files: &[DataFile],
) -> Result<bool> {
    let batch = batch.record.batch;
    for file in files.iter().filter(|file| file.pieces.iter().any(|piece| piece.batch == batch)) {
        let rows = match input::read(catalog, file).await {
            Ok(rows) => rows,
            Err(error) if error.is_missing() => return Ok(false),
            Err(error) => return Err(error),
        };
        let added = profile.add(&of_batch(&rows, batch)?);
        added.map_err(|error| Error::internal("rows cannot be profiled", error))?;
    }
    Ok(true)
}

/// The files of the run that a batch was merged into; none where it was not.
async fn merged_files(
    catalog: &Catalog,
    state: &State,
    batch: &Batch,
    merged: &HashMap<CompactionId, Vec<DataFile>>,
) -> Result<Vec<DataFile>> {
    let holds = |batches: &[Arc<Batch>]| batches.iter().any(|one| one.record.batch == batch.record.batch);
    for run in state.runs_of_line(batch.line) {
        let Run::Compacted(compaction, batches) = run else { continue };
        if !holds(batches) {
            continue;
        }
        if let Some(files) = merged.get(&compaction.record.compaction) {
            return Ok(files.clone());
        }
        let files = catalog.compaction_files(compaction, batches).await?;
        return Ok(files.iter().map(|visible| DataFile::clone(&visible.file)).collect());
    }
    Ok(Vec::new())
}
