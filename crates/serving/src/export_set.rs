//! A recorded training set as a folder of Parquet files: rebuilt as a replay does, written a file at a time,
//! read back, proved.
//!
//! A file has its name only when it is whole, so an export that was cut goes on where it stopped. What is in
//! the folder in the end is what was recorded: all of it is read back and digested.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use catalog::Author;
use feature::TrainingSetId;
use feature::digest::{HashAlgorithm, TableDigest};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::export::write_parquet;
use crate::retrieve::Serving;

/// Where a file's schema says of which set it is, and which of the set's rows comes first in it.
const TRAINING_SET: &str = "lineament.training_set";
const FIRST_ROW: &str = "lineament.first_row";
/// The ending of a file that is being written.
const UNFINISHED: &str = ".unfinished";

/// What an export did.
#[derive(Clone, Debug, Serialize)]
pub struct ExportReport {
    pub training_set: TrainingSetId,
    /// Of what was recorded, and of what the folder holds: they are equal.
    pub digest: String,
    pub rows: u64,
    pub files: u64,
    /// Of the files, those that an earlier export had written.
    pub kept: u64,
}

impl Serving {
    /// Writes a training set into a folder, `part-00000.parquet` and so on, each with `rows_per_file` rows
    /// but the last. Files of the same set that are there already are kept. `progress` is told how many rows
    /// are done.
    ///
    /// # Errors
    /// A set that is not known or cannot be rebuilt; a folder that holds other Parquet files or cannot be
    /// written; `Damaged` where what is read back is not what was recorded.
    pub async fn export(
        &self,
        id: TrainingSetId,
        folder: &Path,
        rows_per_file: usize,
        author: &Author,
        progress: impl Fn(u64, u64) + Send,
    ) -> Result<ExportReport> {
        let rows_per_file = rows_per_file.max(1);
        let (replayed, set) = self.replay(id, author).await?;
        replayed.require_equal(format_args!("it is not exported; `lineament replay {id}` reports on it"))?;
        let total = usize::try_from(replayed.rows).unwrap_or(usize::MAX);
        let count = total.div_ceil(rows_per_file).max(1);
        fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
        refuse_strangers(folder, count)?;
        let mut kept = 0;
        let mut paths = Vec::with_capacity(count);
        for number in 0..count {
            let first = number * rows_per_file;
            let rows = rows_per_file.min(total - first);
            let path = folder.join(file_name(number));
            if is_there(&path, id, first, rows)? {
                kept += 1;
            } else {
                let schema = marked(&set.schema, id, first);
                write(&path, schema, slices(&set.batches, first, rows)).await?;
            }
            paths.push(path);
            progress((first + rows) as u64, total as u64);
        }
        let algorithm = self.catalog().state().hash;
        let schema = set.schema.clone();
        drop(set);
        let digest = tokio::task::spawn_blocking(move || digest_of(&paths, &schema, algorithm))
            .await
            .map_err(|error| Error::internal("digesting stopped", error))??;
        if digest != replayed.digest {
            return Err(Error::new(
                Kind::Damaged,
                format!(
                    "the files in `{}` hold {digest}, but the training set {id} is {}: a file was changed, or the disk is at fault; remove them and export again",
                    folder.display(),
                    replayed.digest
                ),
            ));
        }
        Ok(ExportReport { training_set: id, digest, rows: replayed.rows, files: count as u64, kept })
    }
}

fn file_name(number: usize) -> String {
    format!("part-{number:05}.parquet")
}

/// Whoever reads the folder reads all Parquet files in it, so there must be no others.
fn refuse_strangers(folder: &Path, count: usize) -> Result<()> {
    let entries = fs::read_dir(folder).map_err(|error| unwritable(folder, &error))?;
    let expected: HashSet<String> = (0..count).map(file_name).collect();
    for entry in entries {
        let name = entry.map_err(|error| unwritable(folder, &error))?.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".parquet") && !expected.contains(&*name) {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "`{}` holds `{name}`, which is no part of this export; name an empty folder, or that of the same export with as many rows a file",
                    folder.display()
                ),
            ));
        }
    }
    Ok(())
}

/// Whether a file is there and holds these rows of this set, by what it says itself. What it really holds is
/// digested in the end.
fn is_there(path: &Path, id: TrainingSetId, first: usize, rows: usize) -> Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(unreadable(path, &error)),
    };
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| unreadable(path, &error))?;
    let said = reader.schema().metadata().clone();
    let of = said.get(TRAINING_SET).map(String::as_str).unwrap_or_default();
    if of != id.to_string() {
        return Err(Error::new(
            Kind::Invalid,
            format!(
                "`{}` is {}, not of {id}; name another folder",
                path.display(),
                if of.is_empty() {
                    "of no training set".to_owned()
                } else {
                    format!("of the training set {of}")
                }
            ),
        ));
    }
    let counted = usize::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or_default();
    if said.get(FIRST_ROW).map(String::as_str) != Some(&first.to_string()) || counted != rows {
        return Err(Error::new(
            Kind::Invalid,
            format!(
                "`{}` holds other rows of the training set than rows {first} to {}; export with as many rows a file as before, or into another folder",
                path.display(),
                (first + rows).saturating_sub(1)
            ),
        ));
    }
    Ok(true)
}

async fn write(path: &Path, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<()> {
    let unfinished = PathBuf::from(format!("{}{UNFINISHED}", path.display()));
    let file = File::create(&unfinished).map_err(|error| unwritable(&unfinished, &error))?;
    let again = file.try_clone().map_err(|error| unwritable(&unfinished, &error))?;
    let rows = futures::stream::iter(batches.into_iter().map({
        let schema = schema.clone();
        move |batch| {
            batch
                .with_schema(schema.clone())
                .map_err(|error| Error::internal("a batch cannot be marked", error))
        }
    }));
    write_parquet(schema, rows, file).await?;
    again.sync_all().map_err(|error| unwritable(&unfinished, &error))?;
    fs::rename(&unfinished, path).map_err(|error| unwritable(path, &error))
}

fn marked(schema: &Schema, id: TrainingSetId, first: usize) -> SchemaRef {
    let mut metadata: HashMap<String, String> = schema.metadata().clone();
    metadata.insert(TRAINING_SET.to_owned(), id.to_string());
    metadata.insert(FIRST_ROW.to_owned(), first.to_string());
    Arc::new(schema.clone().with_metadata(metadata))
}

/// Some rows of many batches.
fn slices(batches: &[RecordBatch], first: usize, rows: usize) -> Vec<RecordBatch> {
    let mut begin = 0;
    let mut taken = Vec::new();
    for batch in batches {
        let end = begin + batch.num_rows();
        let (from, to) = (first.max(begin), (first + rows).min(end));
        if from < to {
            taken.push(batch.slice(from - begin, to - from));
        }
        begin = end;
    }
    taken
}

/// The digest of what the files hold, one after the other.
fn digest_of(paths: &[PathBuf], schema: &Schema, algorithm: HashAlgorithm) -> Result<String> {
    let wrong = |error: feature::digest::DigestError| {
        Error::new(Kind::Damaged, format!("what was exported cannot be digested: {error}"))
    };
    let mut table = TableDigest::new(algorithm, schema).map_err(wrong)?;
    for path in paths {
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file)
            .and_then(|builder| builder.with_batch_size(65_536).build())
            .map_err(|error| unreadable(path, &error))?;
        for batch in reader {
            let batch = batch.map_err(|error| unreadable(path, &error))?;
            table.update(&batch).map_err(wrong)?;
        }
    }
    Ok(table.finish().digest.to_string())
}

fn unwritable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::new(Kind::Unavailable, format!("`{}` cannot be written: {error}", path.display()))
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::new(
        Kind::Damaged,
        format!("`{}` cannot be read: {error}; remove it and export again", path.display()),
    )
}
