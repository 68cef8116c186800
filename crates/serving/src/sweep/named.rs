//! What the log names, and what the objects that it names name themselves.

use std::collections::{HashMap, HashSet};

use async_recursion::async_recursion;
use catalog::records::{Named as Role, Object, Record, Replacement};
use catalog::{Catalog, State};
use feature::digest::{Digest, HashAlgorithm, hash};
use feature::{BatchId, CompactionId, Sequence, SpineId, Timestamp};
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;
use storage::manifest::{self, DataFile};

use super::Bounds;
use super::listed::Candidate;
use crate::error::{Error, Kind, Result};
use crate::retain::Deletions;

/// Manifests that are read at a time.
const AT_A_TIME: usize = 16;

/// Objects by a digest of their path: millions of paths themselves would be too many to hold.
#[derive(Default)]
pub(super) struct Named {
    paths: HashSet<u128>,
    /// Data files that are in no file's place any more, with the compaction that replaced them first.
    replaced: HashMap<u128, Sequence>,
    /// Data files of which all rows are gone, or would be. Those that no entry said so of when they were looked at are looked at again; of the
    /// others, which only become more, nothing is held.
    expired: HashMap<u128, Option<Box<DataFile>>>,
    /// What is to be gone.
    due: Deletions,
    /// Spines that were put up, and those of them that were dropped, with the time.
    kept_spines: HashMap<u128, SpineId>,
    dropped: HashMap<SpineId, Timestamp>,
    /// How far the log was read.
    read: Option<(Sequence, Digest)>,
}

/// What became of a spine that was put up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeptSpine {
    Kept,
    Dropped(Timestamp),
}

/// A manifest of which the files are yet to be read.
enum Manifest {
    Batch(BatchId, Object),
    Compaction(CompactionId, Object),
    TrainingSet(Object),
}

/// What was written anew by a compaction, and by which first.
#[derive(Default)]
struct Replacements {
    batches: HashMap<BatchId, Sequence>,
    compactions: HashMap<CompactionId, Sequence>,
}

impl Replacements {
    fn of(state: &State) -> Self {
        let mut found = Self::default();
        for one in state.compactions() {
            let at = one.by.sequence;
            let batches = state.batches_of_line(one.line).get(one.places()).unwrap_or_default();
            for batch in batches {
                found.batches.entry(batch.record.batch).or_insert(at);
            }
            for compaction in &one.record.replaces {
                found.compactions.entry(*compaction).or_insert(at);
            }
        }
        found
    }
}

impl Named {
    pub fn new(due: Deletions) -> Self {
        Self { due, ..Self::default() }
    }

    /// What is to be gone, that no entry said of before.
    pub fn due(&self) -> &Deletions {
        &self.due
    }

    /// Whether all rows of a data file are gone (`true`) or would be.
    pub fn expired(&self, path: &str) -> Option<bool> {
        self.expired.get(&key(path)).map(Option::is_none)
    }

    /// Reads on to the head of this state. From the log and not from the state: no record can be forgotten, whatever becomes of it
    /// in the fold.
    #[async_recursion]
    pub async fn read(&mut self, catalog: &Catalog, state: &State) -> Result<()> {
        let replacements = Replacements::of(state);
        loop {
            let (entries, more) =
                catalog.store().log().next_entries(self.read).await.map_err(catalog::Error::from)?;
            let mut manifests = Vec::new();
            for (entry, digest) in entries {
                if entry.sequence > state.head.sequence {
                    return self.manifests(catalog, state, manifests, &replacements).await;
                }
                for raw in &entry.records {
                    let record = Record::decode(raw.number, &raw.body).map_err(|error| {
                        let (sequence, why) = (entry.sequence, error.to_string());
                        Error::from(catalog::Error::Damaged { sequence, why })
                    })?;
                    self.record(&record, entry.committed_at, &mut manifests);
                }
                self.read = Some((entry.sequence, digest));
            }
            self.manifests(catalog, state, manifests, &replacements).await?;
            if !more {
                return Ok(());
            }
        }
    }

    fn record(&mut self, record: &Record, at: Timestamp, manifests: &mut Vec<Manifest>) {
        if let Record::SpinesDropped(record) = record {
            self.dropped.extend(record.spines.iter().map(|spine| (*spine, at)));
        }
        for (role, object) in record.objects() {
            if let Role::KeptSpine(record) = role {
                self.kept_spines.insert(key(&object.path), record.spine);
                continue;
            }
            self.paths.insert(key(&object.path));
            match role {
                Role::Manifest(record) => manifests.push(Manifest::Batch(record.batch, object.clone())),
                Role::Compaction(record) => {
                    manifests.push(Manifest::Compaction(record.compaction, object.clone()));
                }
                Role::TrainingSet(_) | Role::Erased(Replacement::TrainingSet { .. }) => {
                    manifests.push(Manifest::TrainingSet(object.clone()));
                }
                Role::Erased(Replacement::Manifest { batch, .. }) => {
                    manifests.push(Manifest::Batch(*batch, object.clone()));
                }
                Role::Erased(Replacement::Compaction { compaction, .. }) => {
                    manifests.push(Manifest::Compaction(*compaction, object.clone()));
                }
                _ => {}
            }
        }
    }

    async fn manifests(
        &mut self,
        catalog: &Catalog,
        state: &State,
        manifests: Vec<Manifest>,
        replacements: &Replacements,
    ) -> Result<()> {
        let mut read = futures::stream::iter(manifests)
            .map(|manifest| async move {
                let named = named_by(catalog, &manifest).await?;
                Ok::<_, Error>((manifest, named))
            })
            .buffered(AT_A_TIME);
        while let Some((manifest, named)) = read.try_next().await? {
            let replaced = match manifest {
                Manifest::Batch(batch, _) => replacements.batches.get(&batch),
                Manifest::Compaction(compaction, _) => replacements.compactions.get(&compaction),
                Manifest::TrainingSet(_) => None,
            };
            for path in named.paths {
                self.paths.insert(path);
            }
            for file in named.files {
                let path = key(&file.path);
                self.paths.insert(path);
                if let Some(at) = replaced {
                    self.replaced.insert(path, *at);
                }
                if self.due.is_gone(&file, state.expiry()) {
                    let said = state.expiry().is_gone(&file);
                    self.expired.insert(path, (!said).then(|| Box::new(file)));
                }
            }
        }
        Ok(())
    }

    pub fn names(&self, path: &str) -> bool {
        self.paths.contains(&key(path))
    }

    /// What became of a spine that was put up by itself; none of other objects.
    pub fn kept_spine(&self, path: &str) -> Option<KeptSpine> {
        let spine = self.kept_spines.get(&key(path))?;
        Some(self.dropped.get(spine).map_or(KeptSpine::Kept, |at| KeptSpine::Dropped(*at)))
    }

    /// The compaction that replaced a data file; none where it is read still.
    pub fn replaced(&self, path: &str) -> Option<Sequence> {
        self.replaced.get(&key(path)).copied()
    }

    /// Whether something that was to go is named after all.
    pub fn needs(&self, candidate: &Candidate, bounds: Bounds, state: &State) -> bool {
        let Some(path) = candidate.object() else { return false };
        let path = path.as_ref();
        if self.kept_spine(path) == Some(KeptSpine::Kept) {
            return true;
        }
        let unsaid = self.expired.get(&key(path));
        let is_gone =
            unsaid.is_some_and(|file| file.as_ref().is_none_or(|file| state.expiry().is_gone(file)));
        self.names(path) && !is_gone && self.replaced(path).is_none_or(|at| Some(at) > bounds.compacted)
    }
}

/// What a manifest names.
#[derive(Default)]
struct Names {
    files: Vec<DataFile>,
    /// Other objects, as keys.
    paths: Vec<u128>,
}

async fn named_by(catalog: &Catalog, manifest: &Manifest) -> Result<Names> {
    match manifest {
        Manifest::Batch(_, object) | Manifest::Compaction(_, object) => {
            let bytes = catalog.object(object).await?;
            let files = manifest::decode(&object.path, &bytes).map_err(catalog::Error::from)?;
            Ok(Names { files, ..Names::default() })
        }
        Manifest::TrainingSet(object) => {
            let bytes = catalog.object(object).await?;
            let manifest: Value = serde_json::from_slice(&bytes).map_err(|error| {
                Error::new(
                    Kind::Damaged,
                    format!("`{}` is no manifest of a training set: {error}", object.path),
                )
            })?;
            let mut paths = Vec::new();
            paths_in(&manifest, &mut paths);
            Ok(Names { paths, ..Names::default() })
        }
    }
}

/// Every path in a manifest, wherever it stands: what a later version names in a new place is kept by this one too.
fn paths_in(value: &Value, found: &mut Vec<u128>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(path) if name == "path" => found.push(key(path)),
                    other => paths_in(other, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| paths_in(value, found)),
        _ => {}
    }
}

fn key(path: &str) -> u128 {
    let digest = hash(HashAlgorithm::Blake3, path.as_bytes());
    digest.bytes().iter().take(16).fold(0, |key, byte| key << 8 | u128::from(*byte))
}
