//! Which files may hold a key, told from manifests alone: by its bucket and by the least and greatest keys of each file.
//!
//! Bounds are kept per line of batches, which only grows, so that a question costs one pass over them and opens nothing.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::ArrayRef;
use catalog::state::{Batch, State, ViewVersion};
use catalog::{Catalog, VisibleFile};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use feature::VersionId;
use feature::definition::Key;
use feature::key::bucket_of_rows;
use feature::key::statistic::{StatisticValue, statistic_bytes};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use storage::manifest::DataFile;

/// Manifests that are read at once.
const MANIFESTS: usize = 32;

/// A file that may hold rows of the key. There may be very many, so that what it holds is only looked up for those that are opened.
#[derive(Clone, Debug)]
pub struct KeyFile {
    pub batch: Arc<Batch>,
    manifest: Arc<Vec<Arc<DataFile>>>,
    /// Position in the manifest.
    file: usize,
    /// Whether the file's batch counts for the version, at whatever sequence.
    pub counts: bool,
    /// Least and greatest valid_at of the file's rows, in microseconds; none where it is not known.
    pub valid_at: Option<(i64, i64)>,
}

impl KeyFile {
    /// The file, to be opened; none where its manifest has no such file.
    pub fn visible(&self) -> Option<VisibleFile> {
        let file = self.manifest.get(self.file)?.clone();
        Some(VisibleFile { file, batch: self.batch.clone() })
    }
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
    files: Vec<Bounded>,
}

struct Bounded {
    batch: Arc<Batch>,
    manifest: Arc<Vec<Arc<DataFile>>>,
    file: usize,
    bucket: u32,
    buckets: u32,
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
        // Few numbers of buckets are in use, and each asks for one hash.
        let mut buckets: Vec<(u32, u32)> = Vec::new();
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = lines.get(&version.line) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for bounded in &line.files {
            let bucket = match buckets.iter().find(|(number, _)| *number == bounded.buckets) {
                Some((_, bucket)) => *bucket,
                None => {
                    let rows = bucket_of_rows(key, bounded.buckets).map_err(|error| wrong(&error))?;
                    let bucket = rows.first().copied().unwrap_or(0);
                    buckets.push((bounded.buckets, bucket));
                    bucket
                }
            };
            if bucket != bounded.bucket || !bounded.may_hold(&parts) {
                continue;
            }
            found.push(KeyFile {
                batch: bounded.batch.clone(),
                manifest: bounded.manifest.clone(),
                file: bounded.file,
                counts: state.counts_for(&bounded.batch, version),
                valid_at: bounded.valid_at,
            });
        }
        Ok(found)
    }

    /// Takes in the batches that came since.
    async fn extend(&self, catalog: &Catalog, state: &State, version: &ViewVersion) -> Result<()> {
        let batches = state.batches_of_line(version.line);
        let known = {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.entry(version.line).or_default().batches
        };
        let new = batches.get(known..).unwrap_or_default();
        if new.is_empty() {
            return Ok(());
        }
        let mut reads = Vec::with_capacity(new.len());
        for batch in new {
            reads.push(catalog.batch_files(batch).boxed());
        }
        let manifests: Vec<Arc<Vec<Arc<DataFile>>>> = stream::iter(reads)
            .buffered(MANIFESTS)
            .try_collect()
            .await
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.entry(version.line).or_default();
        for (place, (batch, manifest)) in (known..).zip(new.iter().zip(manifests)) {
            // Somebody else may have taken it in meanwhile.
            if place != line.batches {
                continue;
            }
            for file in 0..manifest.len() {
                line.files.push(Bounded::new(batch, &manifest, file, version));
            }
            line.batches += 1;
        }
        Ok(())
    }
}

impl Bounded {
    fn new(
        batch: &Arc<Batch>,
        manifest: &Arc<Vec<Arc<DataFile>>>,
        index: usize,
        version: &ViewVersion,
    ) -> Self {
        let file = &manifest[index];
        let bounds = version.keys().iter().map(|key| bounds_of_key(file, key));
        Self {
            batch: batch.clone(),
            manifest: manifest.clone(),
            file: index,
            bucket: file.bucket,
            buckets: file.buckets,
            valid_at: file.valid_at_range(),
            keys: bounds.collect(),
        }
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
