//! A recorded training set as Parquet files in a folder or a bucket: rebuilt as a replay does, or read from a server, written a file at
//! a time, read back, proved.
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
use feature::digest::{ContentDigest, HashAlgorithm, TableDigest};
use feature::policy::Action;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
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
        let manifest = self.manifest(id).await?;
        let allowed = self.require_as_recorded(&manifest, author);
        let words = || format!("export: training set {id}");
        self.on_record(author, Action::Read, Some(ReadKind::TrainingSet), words, allowed).await?;
        let files = ExportFiles::look(id, manifest.rows, to, rows_per_file).await?;
        let then = format!("it is not exported; `lineament replay {id}` reports on it");
        let ReplayStream { schema, rows, report } = self.replay_stream(id, then, author).await?;
        let digest = async move {
            let replayed = report.await;
            let replayed = replayed.map_err(|error| Error::internal("the replay has no report", error))?;
            Ok::<_, Error>(replayed.report.digest)
        };
        files.write(ExportedRows { schema, rows, digest: digest.boxed() }, progress).await
    }
}

/// The rows of a recorded set in their order, on their way into files.
pub struct ExportedRows {
    pub schema: SchemaRef,
    pub rows: Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>,
    /// The digest by which the set was recorded; there when all rows were given.
    pub digest: BoxFuture<'static, Result<String>>,
}

/// The files of an export, and which of them are there.
pub struct ExportFiles<'a> {
    id: TrainingSetId,
    rows: u64,
    to: &'a ExportTo,
    parts: Vec<Part>,
}

impl<'a> ExportFiles<'a> {
    /// Looks for the files of a set of so many rows, before any of them is read.
    ///
    /// # Errors
    /// A place that holds other Parquet files or cannot be written.
    pub async fn look(id: TrainingSetId, rows: u64, to: &'a ExportTo, rows_per_file: usize) -> Result<Self> {
        let rows_per_file = rows_per_file.max(1);
        let total = usize::try_from(rows).unwrap_or(usize::MAX);
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
        Ok(Self { id, rows, to, parts })
    }

    /// Writes those that are not there yet, and reads all of them back. `progress` is told how many rows are done.
    ///
    /// # Errors
    /// Those of the rows; a place that cannot be written; `Damaged` where what is read back is not what was recorded.
    pub async fn write(self, rows: ExportedRows, progress: impl Fn(u64, u64) + Send) -> Result<ExportReport> {
        let Self { id, rows: total, to, parts } = self;
        let ExportedRows { schema, rows, digest } = rows;
        let progress = move |done| progress(done, total);
        let mut coming = Coming { rows, rest: None, done: 0, total, progress };
        for part in &parts {
            let rows = coming.next_rows(part.rows);
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
        coming.next_rows(1).try_for_each(async |_| Ok(())).await?;
        drop(coming);
        let recorded = digest.await?;
        let known = recorded.parse::<ContentDigest>();
        let known =
            known.map_err(|error| Error::new(Kind::Damaged, format!("training set {id}: {error}")))?;
        let digest = digest_of(to, &parts, &schema, known.algorithm()).await?;
        if digest != recorded {
            return Err(Error::new(
                Kind::Damaged,
                format!(
                    "the files in `{to}` hold {digest}, but the training set {id} is {recorded}: a file was changed, or the disk is at fault; remove them and export again"
                ),
            ));
        }
        let kept = parts.iter().filter(|part| part.there).count() as u64;
        Ok(ExportReport { training_set: id, digest, rows: total, files: parts.len() as u64, kept })
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

/// The rows of the set as they come, to be cut into files.
struct Coming<P> {
    rows: Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>,
    /// What is left of the batch that was cut last.
    rest: Option<RecordBatch>,
    done: u64,
    total: u64,
    progress: P,
}

impl<P: Fn(u64) + Send> Coming<P> {
    /// The next so many rows; none after the last. No file is whole of which some do not come.
    fn next_rows(&mut self, count: usize) -> Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send + '_>> {
        let rows = futures::stream::try_unfold((self, count), async |(coming, left)| {
            if left == 0 {
                return Ok(None);
            }
            let batch = match coming.rest.take() {
                Some(rest) => Some(rest),
                None => coming.rows.try_next().await?,
            };
            let Some(batch) = batch else {
                if coming.done < coming.total {
                    let why = format!("{} of {} rows came", coming.done, coming.total);
                    return Err(Error::internal("the training set ended before its last row", why));
                }
                return Ok(None);
            };
            let rows = batch.num_rows().min(left);
            if rows < batch.num_rows() {
                coming.rest = Some(batch.slice(rows, batch.num_rows() - rows));
            }
            coming.done += rows as u64;
            (coming.progress)(coming.done);
            Ok(Some((batch.slice(0, rows), (coming, left - rows))))
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
