//! Which files may hold a key, told from manifests alone: by its bucket, by the keys of files of few, and by the least and greatest keys of
//! each file.
//!
//! What is told is kept per line of batches, which only grows, so that a question costs one pass over them and opens nothing.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::ArrayRef;
use catalog::state::{State, ViewVersion};
use catalog::{Catalog, VisibleFile};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use feature::definition::Key;
use feature::key::statistic::{StatisticValue, statistic_bytes};
use feature::key::{bucket_of_rows, key_hashes};
use feature::{Sequence, VersionId};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use storage::manifest::DataFile;

/// Manifests that are read at once.
const MANIFESTS: usize = 32;

/// A file that may hold rows of the key.
#[derive(Clone, Debug)]
pub struct KeyFile {
    pub file: VisibleFile,
    /// Whether the file's batches count for the version, at whatever sequence.
    pub counts: bool,
    /// Whether its batch was kept back, so that it counts at no sequence.
    pub kept_back: bool,
    /// Least and greatest valid_at of the file's rows, in microseconds; none where it is not known.
    pub valid_at: Option<(i64, i64)>,
}

/// What is known of the files of each line; cheap to clone, and shared by all that ask.
#[derive(Clone, Default)]
pub struct KeyFiles {
    lines: Arc<Mutex<HashMap<VersionId, Line>>>,
}

#[derive(Default)]
struct Line {
    /// How many of the line's batches are in `files`.
    batches: usize,
    /// The view's last compaction when they were taken in: a later one puts others in their place.
    compacted: Option<Sequence>,
    /// The last entry by which something of the view is gone or erased: what was there may not be.
    deleted: Option<Sequence>,
    files: Vec<Bounded>,
}

struct Bounded {
    file: VisibleFile,
    valid_at: Option<(i64, i64)>,
    /// By key part; none where a part may be anything.
    keys: Vec<Option<(StatisticValue, StatisticValue)>>,
}

/// Least and greatest value of a key part in a file; none where it may be anything.
pub(crate) fn bounds_of_key(file: &DataFile, key: &Key) -> Option<(StatisticValue, StatisticValue)> {
    let statistics = file.column(key.name.as_str())?;
    let kind = key.data_type.arrow();
    let least = StatisticValue::decode(&kind, statistics.least.as_deref()?).ok()?;
    let greatest = StatisticValue::decode(&kind, statistics.greatest.as_deref()?).ok()?;
    Some((least, greatest))
}

impl KeyFiles {
    /// The files of all batches of a version's line that may hold a key of one row, in the order of the log. Batches that came
    /// after any sequence are among them.
    ///
    /// # Errors
    /// A key that has a null, or is of another type than the version's; manifests that cannot be read.
    pub async fn of_key(
        &self,
        catalog: &Catalog,
        state: &State,
        version: &ViewVersion,
        key: &[ArrayRef],
    ) -> Result<Vec<KeyFile>> {
        self.extend(catalog, state, version).await?;
        let wrong =
            |error: &dyn std::fmt::Display| exec_datafusion_err!("the key cannot be looked up: {error}");
        let mut parts = Vec::with_capacity(key.len());
        for (part, declared) in key.iter().zip(version.keys()) {
            let bytes = statistic_bytes(part, 0).map_err(|error| wrong(&error))?;
            let Some(bytes) = bytes else { return Ok(Vec::new()) };
            let kind = declared.data_type.arrow();
            parts.push(StatisticValue::decode(&kind, &bytes).map_err(|error| wrong(&error))?);
        }
        let hashes = key_hashes(key).map_err(|error| wrong(&error))?;
        // Few numbers of buckets are in use, and each asks for one hash.
        let mut buckets: Vec<(u32, u32)> = Vec::new();
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = lines.get(&version.line) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for bounded in &line.files {
            let file = &bounded.file.file;
            let bucket = match buckets.iter().find(|(number, _)| *number == file.buckets) {
                Some((_, bucket)) => *bucket,
                None => {
                    let rows = bucket_of_rows(key, file.buckets).map_err(|error| wrong(&error))?;
                    let bucket = rows.first().copied().unwrap_or(0);
                    buckets.push((file.buckets, bucket));
                    bucket
                }
            };
            if bucket != file.bucket || !file.may_hold(&hashes) || !bounded.may_hold(&parts) {
                continue;
            }
            found.push(KeyFile {
                file: bounded.file.clone(),
                counts: state.counts_for(bounded.file.first(), version),
                kept_back: false,
                valid_at: bounded.valid_at,
            });
        }
        Ok(found)
    }

    /// Takes in the batches that came since, or all anew where some were written into other files.
    async fn extend(&self, catalog: &Catalog, state: &State, version: &ViewVersion) -> Result<()> {
        let compacted = state.last_compaction(version.view);
        let erased = state.erasures().last_of(version.view);
        let deleted = state.expiry().last_deleted(version.view).max(erased);
        let known = {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            let line = lines.entry(version.line).or_default();
            if line.compacted < compacted || line.deleted < deleted {
                let (compacted, deleted) = (compacted.max(line.compacted), deleted.max(line.deleted));
                *line = Line { compacted, deleted, ..Line::default() };
            }
            // One that has seen a later compaction has all batches that this state has.
            if (line.compacted, line.deleted) == (compacted, deleted) { line.batches } else { usize::MAX }
        };
        if known >= state.batches_of_line(version.line).len() {
            return Ok(());
        }
        let runs = state.runs_of_line(version.line);
        let mut reads = Vec::with_capacity(runs.len());
        let mut place = 0;
        for run in runs {
            let from = place;
            place += run.batches().len();
            if from >= known {
                let read =
                    async move { Ok((from..place, catalog.run_files(state, run, run.batches()).await?)) };
                reads.push(read.boxed());
            }
        }
        let manifests: Vec<(Range<usize>, Vec<VisibleFile>)> = stream::iter(reads)
            .buffered(MANIFESTS)
            .try_collect()
            .await
            .map_err(|error: catalog::Error| DataFusionError::External(Box::new(error)))?;
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.entry(version.line).or_default();
        for (batches, files) in manifests {
            // Somebody else may have taken it in meanwhile, or all anew.
            if batches.start != line.batches || (line.compacted, line.deleted) != (compacted, deleted) {
                continue;
            }
            line.files.extend(files.into_iter().map(|file| Bounded::new(file, version)));
            line.batches = batches.end;
        }
        Ok(())
    }
}

impl Bounded {
    fn new(file: VisibleFile, version: &ViewVersion) -> Self {
        let keys = version.keys().iter().map(|key| bounds_of_key(&file.file, key)).collect();
        Self { valid_at: file.file.valid_at_range(), keys, file }
    }

    fn may_hold(&self, key: &[StatisticValue]) -> bool {
        self.keys.iter().zip(key).all(|(bounds, part)| match bounds {
            Some((least, greatest)) => {
                part.compare(least) != Some(Ordering::Less)
                    && part.compare(greatest) != Some(Ordering::Greater)
            }
            None => true,
        })
    }
}
