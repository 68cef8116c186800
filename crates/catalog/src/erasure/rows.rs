//! Rows of a key in the data files of some views, in what was rejected of them, and in what is known of their values.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use feature::{BatchId, BodyId, CompactionId, VersionId, ViewId};
use storage::environment;
use storage::manifest::{self, DataFile};
use storage::partition::{Layout, batch_digest};

use super::files::{Rewriting, Rewritten};
use super::key::{EntityKey, TypedKey};
use super::{profiles, rejected};
use crate::catalog::Catalog;
use crate::error::Result;
use crate::records::{Object, Replaced, Replacement};
use crate::state::{Batch, State, ViewVersion};

/// What some views have of a key.
#[derive(Debug, Default)]
pub struct Found {
    /// Rows of each batch that go.
    pub batches: BTreeMap<BatchId, u64>,
    /// These batches, and those that may have had such rows and lie nowhere any more.
    pub touched: BTreeSet<BatchId>,
    /// Data files that have such rows.
    pub files: u64,
    /// Reasons of rejected rows that are of the key.
    pub rejected: u64,
    /// What was written; nothing where it was only looked for.
    pub replaced: Vec<Replaced>,
    /// Paths of data files that go.
    pub gone: Vec<String>,
    /// Of compactions whose files were written anew.
    merged: HashMap<CompactionId, Vec<DataFile>>,
}

impl Found {
    /// Rows of all batches.
    pub fn rows(&self) -> u64 {
        self.batches.values().sum()
    }

    fn take(&mut self, rewritten: &Rewritten) {
        for (batch, rows) in &rewritten.lost {
            // A batch that was merged has its rows twice, until the sweep.
            let known = self.batches.entry(*batch).or_default();
            *known = (*rows).max(*known);
        }
        self.files += rewritten.gone.len() as u64;
        self.gone.extend(rewritten.gone.iter().cloned());
    }
}

/// Looks for the rows of a key in all that the views have: batches that were withdrawn, kept back or refused, and files that were replaced and
/// not swept yet, too. With `writes`, writes all of it anew without them; nothing refers to that yet.
///
/// # Errors
/// Those of the storage; `Corrupt` where something is not what was written: nothing is erased beside damage.
pub async fn rows_of(
    catalog: &Catalog,
    state: &State,
    key: &EntityKey,
    views: &BTreeSet<ViewId>,
    layout: &Layout,
    writes: bool,
) -> Result<Found> {
    let looking = Looking { catalog, state, key, layout, writes };
    let mut found = Found::default();
    for compaction in state.compactions().filter(|one| views.contains(&one.record.view)) {
        let record = &compaction.record;
        let Some(rewritten) = looking.manifest(record.version, &record.manifest).await? else { continue };
        found.take(&rewritten);
        // What was swept of it lies in a later one or in none.
        found.touched.extend(rewritten.lost.keys());
        if writes {
            let (compaction, version) = (record.compaction, record.version);
            let rows = rewritten.files.iter().map(|file| file.rows).sum();
            let of = Replacement::Compaction { compaction, version, rows };
            found.replaced.push(looking.replaced(&record.manifest, &rewritten.files, of).await?);
            found.merged.insert(compaction, rewritten.files);
        }
    }
    for batch in batches(state, views) {
        let record = &batch.record;
        let (Some(version), Some(typed)) = looking.typed(record.version) else { continue };
        let mut own = None;
        if let Some(rewritten) = looking.manifest(record.version, &record.manifest).await? {
            found.take(&rewritten);
            found.touched.extend(rewritten.lost.keys().chain(&rewritten.unknown));
            if writes {
                let rows = rewritten.files.iter().map(|file| file.rows).sum();
                let digest = batch_digest(record.digest.algorithm(), &rewritten.files);
                let of = Replacement::Manifest { batch: record.batch, version: record.version, rows, digest };
                found.replaced.push(looking.replaced(&record.manifest, &rewritten.files, of).await?);
            }
            own = Some(rewritten.files);
        }
        let lost = found.touched.contains(&record.batch);
        if let (true, true, Some(profile)) = (writes, lost, &record.profile) {
            let own = match own {
                Some(files) => files,
                None => looking.files(&record.manifest).await?,
            };
            let bytes = profiles::left(catalog, state, version, &batch, &own, &found.merged).await?;
            let path = format!("profiles/{}.json", environment::mint::<BodyId>());
            let after = catalog.put_object(path, bytes.into()).await?;
            let before = state.erasures().in_force(profile).path.clone();
            found.replaced.push(Replaced { before, after, of: Replacement::Profile { batch: record.batch } });
        }
        if let Some(object) = &record.quarantine {
            looking.rejected(record.batch, record.rejected, object, &typed, &mut found).await?;
        }
    }
    for refused in state.refused().iter().filter(|one| views.contains(&one.record.view)) {
        let record = &refused.record;
        let (_, Some(typed)) = looking.typed(record.version) else { continue };
        looking.rejected(record.batch, record.rejected, &record.quarantine, &typed, &mut found).await?;
    }
    Ok(found)
}

/// Every batch of some views, those that were kept back too.
fn batches(state: &State, views: &BTreeSet<ViewId>) -> Vec<Arc<Batch>> {
    let of_views = state.views().filter(|version| views.contains(&version.view));
    let lines: BTreeSet<VersionId> = of_views.map(|version| version.line).collect();
    let mut found: BTreeMap<BatchId, Arc<Batch>> = BTreeMap::new();
    for line in lines {
        let of_line = state.batches_of_line(line).iter();
        found.extend(of_line.map(|batch| (batch.record.batch, batch.clone())));
    }
    let held = state.quarantine().all().iter().map(|held| &held.batch);
    for batch in held.filter(|batch| views.contains(&batch.record.view)) {
        found.entry(batch.record.batch).or_insert_with(|| batch.clone());
    }
    found.into_values().collect()
}

struct Looking<'a> {
    catalog: &'a Catalog,
    state: &'a State,
    key: &'a EntityKey,
    layout: &'a Layout,
    writes: bool,
}

impl<'a> Looking<'a> {
    /// The version, and the key as it has it; none where it cannot have it.
    fn typed(&self, version: VersionId) -> (Option<&'a ViewVersion>, Option<TypedKey>) {
        let version = self.state.view_version(version);
        (version, version.and_then(|version| self.key.typed(version.keys())))
    }

    async fn manifest(&self, version: VersionId, object: &Object) -> Result<Option<Rewritten>> {
        let (Some(version), Some(key)) = self.typed(version) else { return Ok(None) };
        let files = self.files(object).await?;
        let (catalog, layout, writes) = (self.catalog, self.layout, self.writes);
        let rewriting = Rewriting { catalog, key: &key, keys: version.keys().len(), layout, writes };
        rewriting.files(&files).await
    }

    async fn files(&self, object: &Object) -> Result<Vec<DataFile>> {
        let object = self.state.erasures().in_force(object);
        let bytes = self.catalog.object(object).await?;
        Ok(manifest::decode(&object.path, &bytes)?)
    }

    async fn replaced(&self, object: &Object, files: &[DataFile], of: Replacement) -> Result<Replaced> {
        let path = format!("manifests/{}.parquet", environment::mint::<BodyId>());
        let after = self.catalog.put_object(path, manifest::encode(files)?).await?;
        let before = self.state.erasures().in_force(object).path.clone();
        Ok(Replaced { before, after, of })
    }

    async fn rejected(
        &self,
        batch: BatchId,
        rejected: u64,
        object: &Object,
        typed: &TypedKey,
        found: &mut Found,
    ) -> Result<()> {
        let object = self.state.erasures().in_force(object);
        let bytes = self.catalog.object(object).await?;
        let Some((bytes, reasons)) = rejected::without(bytes, self.key, typed, &object.path)? else {
            return Ok(());
        };
        found.rejected += reasons;
        if self.writes {
            let path = format!("quarantine/{}/rejected.parquet", environment::mint::<BodyId>());
            let after = self.catalog.put_object(path, bytes).await?;
            let of = Replacement::Quarantine { batch, rejected };
            found.replaced.push(Replaced { before: object.path.clone(), after, of });
        }
        Ok(())
    }
}
