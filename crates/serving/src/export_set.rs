//! A recorded training set as Parquet files in a folder or a bucket: rebuilt as a replay does, written a file at a time,
//! read back, proved.
//!
//! A file has its name only when it is whole, so an export that was cut goes on where it stopped. What is
//! there in the end is what was recorded: all of it is read back and digested.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use catalog::Author;
use feature::TrainingSetId;
use feature::digest::{HashAlgorithm, TableDigest};
use feature::policy::Action;
use futures::{Stream, StreamExt, TryStreamExt};
use serde::Serialize;

use crate::digesting::Digesting;
use crate::error::{Error, Kind, Result};
use crate::export_to::ExportTo;
use crate::reads::ReadKind;
use crate::replay::ReplayStream;
use crate::retrieve::Serving;

/// Where a file's schema says of which set it is, and which of the set's rows comes first in it.
const TRAINING_SET: &str = "lineament.training_set";
const FIRST_ROW: &str = "lineament.first_row";

/// What an export did.
#[derive(Clone, Debug, Serialize)]
pub struct ExportReport {
    pub training_set: TrainingSetId,
    /// Of what was recorded, and of what the files hold: they are equal.
    pub digest: String,
    pub rows: u64,
    pub files: u64,
    /// Of the files, those that an earlier export had written.
    pub kept: u64,
}

impl Serving {
    /// Writes a training set into a folder or bucket, `part-00000.parquet` and so on, each with `rows_per_file` rows
    /// but the last. Files of the same set that are there already are kept. `progress` is told how many rows
    /// are done.
    ///
    /// # Errors
    /// A set that is not known or cannot be rebuilt; a place that holds other Parquet files or cannot be
    /// written; `Damaged` where what is read back is not what was recorded.
    pub async fn export(
        &self,
        id: TrainingSetId,
        to: &ExportTo,
        rows_per_file: usize,
        author: &Author,
        progress: impl Fn(u64, u64) + Send,
    ) -> Result<ExportReport> {
        let rows_per_file = rows_per_file.max(1);
        let manifest = self.manifest(id).await?;
        let allowed = self.require_as_recorded(&manifest, author);
        let words = || format!("export: training set {id}");
        self.on_record(author, Action::Read, Some(ReadKind::TrainingSet), words, allowed).await?;
        let total = usize::try_from(manifest.rows).unwrap_or(usize::MAX);
        let count = total.div_ceil(rows_per_file).max(1);
        to.prepare()?;
        refuse_strangers(to, count).await?;
        let mut parts = Vec::with_capacity(count);
        for number in 0..count {
            let first = number * rows_per_file;
            let rows = rows_per_file.min(total - first);
            let name = file_name(number);
            let there = is_there(to, &name, id, first, rows).await?;
            parts.push(Part { name, first, rows, there });
        }
        let then = format!("it is not exported; `lineament replay {id}` reports on it");
        let ReplayStream { schema, rows, report } = self.replay_stream(id, then, author).await?;
        let mut rebuilt =
            Rebuilt { rows, rest: None, done: 0, progress: move |done| progress(done, total as u64) };
        for part in &parts {
            let rows = rebuilt.next_rows(part.rows);
            if part.there {
                rows.try_for_each(async |_| Ok(())).await?;
            } else {
                let schema = marked(&schema, id, part.first);
                let marked = rows.map(|batch| {
                    let batch = batch?.with_schema(schema.clone());
                    batch.map_err(|error| Error::internal("a batch cannot be marked", error))
                });
                to.write(&part.name, schema.clone(), marked).await?;
            }
        }
        // The end of the rows, or why there is none.
        rebuilt.next_rows(1).try_for_each(async |_| Ok(())).await?;
        drop(rebuilt);
        let replayed =
            report.await.map_err(|error| Error::internal("the replay has no report", error))?.report;
        let kept = parts.iter().filter(|part| part.there).count() as u64;
        let digest = digest_of(to, &parts, &schema, self.catalog().state().hash).await?;
        if digest != replayed.digest {
            return Err(Error::new(
                Kind::Damaged,
                format!(
                    "the files in `{to}` hold {digest}, but the training set {id} is {}: a file was changed, or the disk is at fault; remove them and export again",
                    replayed.digest
                ),
            ));
        }
        Ok(ExportReport { training_set: id, digest, rows: replayed.rows, files: count as u64, kept })
    }
}

/// A file of the export.
struct Part {
    name: String,
    /// The first of its rows, and how many they are.
    first: usize,
    rows: usize,
    /// Whether an earlier export wrote it.
    there: bool,
}

/// The rows of the set as they are made again, to be cut into files.
struct Rebuilt<P> {
    rows: Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>,
    /// What is left of the batch that was cut last.
    rest: Option<RecordBatch>,
    done: u64,
    progress: P,
}

impl<P: Fn(u64) + Send> Rebuilt<P> {
    /// The next so many rows, or as many as there are.
    fn next_rows(&mut self, count: usize) -> Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send + '_>> {
        let rows = futures::stream::try_unfold((self, count), async |(rebuilt, left)| {
            if left == 0 {
                return Ok(None);
            }
            let batch = match rebuilt.rest.take() {
                Some(rest) => Some(rest),
                None => rebuilt.rows.try_next().await?,
            };
            let Some(batch) = batch else { return Ok(None) };
            let rows = batch.num_rows().min(left);
            if rows < batch.num_rows() {
                rebuilt.rest = Some(batch.slice(rows, batch.num_rows() - rows));
            }
            rebuilt.done += rows as u64;
            (rebuilt.progress)(rebuilt.done);
            Ok(Some((batch.slice(0, rows), (rebuilt, left - rows))))
        });
        rows.boxed()
    }
}

fn file_name(number: usize) -> String {
    format!("part-{number:05}.parquet")
}

/// Whoever reads the folder reads all Parquet files in it, so there must be no others.
async fn refuse_strangers(to: &ExportTo, count: usize) -> Result<()> {
    let expected: HashSet<String> = (0..count).map(file_name).collect();
    for name in to.names().await? {
        if name.ends_with(".parquet") && !expected.contains(&name) {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "`{to}` holds `{name}`, which is no part of this export; name an empty folder, or that of the same export with as many rows a file"
                ),
            ));
        }
    }
    Ok(())
}

/// Whether a file is there and holds these rows of this set, by what it says itself. What it really holds is
/// digested in the end.
async fn is_there(to: &ExportTo, name: &str, id: TrainingSetId, first: usize, rows: usize) -> Result<bool> {
    let Some((schema, counted)) = to.described(name).await? else { return Ok(false) };
    let said = schema.metadata();
    let of = said.get(TRAINING_SET).map(String::as_str).unwrap_or_default();
    let place = to.place(name);
    if of != id.to_string() {
        let what = match of {
            "" => "of no training set".to_owned(),
            of => format!("of the training set {of}"),
        };
        let why = format!("`{place}` is {what}, not of {id}; name another folder");
        return Err(Error::new(Kind::Invalid, why));
    }
    if said.get(FIRST_ROW).map(String::as_str) != Some(&first.to_string()) || counted != rows {
        return Err(Error::new(
            Kind::Invalid,
            format!(
                "`{place}` holds other rows of the training set than rows {first} to {}; export with as many rows a file as before, or into another folder",
                (first + rows).saturating_sub(1)
            ),
        ));
    }
    Ok(true)
}

fn marked(schema: &Schema, id: TrainingSetId, first: usize) -> SchemaRef {
    let mut metadata: HashMap<String, String> = schema.metadata().clone();
    metadata.insert(TRAINING_SET.to_owned(), id.to_string());
    metadata.insert(FIRST_ROW.to_owned(), first.to_string());
    Arc::new(schema.clone().with_metadata(metadata))
}

/// The digest of what the files hold, one after the other.
async fn digest_of(
    to: &ExportTo,
    parts: &[Part],
    schema: &Schema,
    algorithm: HashAlgorithm,
) -> Result<String> {
    let wrong = |error: &dyn std::fmt::Display| {
        Error::new(Kind::Damaged, format!("what was exported cannot be digested: {error}"))
    };
    let mut digesting = Digesting::begin(TableDigest::new(algorithm, schema).map_err(|error| wrong(&error))?);
    for part in parts {
        let mut rows = to.read(&part.name).await?;
        while let Some(batch) = rows.try_next().await? {
            digesting.add(batch).await.map_err(|error| wrong(&error))?;
        }
    }
    let found = digesting.finish().await.map_err(|error| wrong(&error))?;
    Ok(found.digest.to_string())
}
