//! Reading what is to be ingested: files by pattern, in Parquet, CSV or Arrow IPC.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use feature::definition::{FileFormat, Source};
use feature::digest::{HashAlgorithm, hash};

use super::row_files::{CsvTypes, FileRows};
use crate::error::{Error, Result};
use crate::records::SourceFile;

/// Rows from one place, all of one schema.
#[derive(Clone, Debug)]
pub struct Rows {
    /// What people call the place: a file's name, or `rows` for what came over the wire.
    pub origin: String,
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    /// Absent for rows that did not come from a file.
    pub file: Option<SourceFile>,
}

impl Rows {
    pub fn from_batches(origin: impl Into<String>, schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self { origin: origin.into(), schema, batches, file: None }
    }

    pub fn count(&self) -> u64 {
        self.batches.iter().map(|batch| batch.num_rows() as u64).sum()
    }
}

/// The files that a source's pattern names, sorted.
pub fn files_of(source: &Source) -> Result<Vec<PathBuf>> {
    let pattern = &source.files;
    let invalid = |why: String| Error::Invalid(format!("source files `{pattern}`: {why}"));
    let mut files = Vec::new();
    for path in glob::glob(pattern).map_err(|error| invalid(error.to_string()))? {
        files.push(path.map_err(|error| invalid(error.to_string()))?);
    }
    if files.is_empty() {
        return Err(Error::NotFound(format!(
            "no file matches `{pattern}`; the pattern is relative to the definition's folder: mend [source] files there and apply it, or name the files on the command line"
        )));
    }
    files.sort();
    Ok(files)
}

/// Opens a file's bytes and their digest, so that a file which was taken before is known before it is decoded.
pub fn open(path: &Path, algorithm: HashAlgorithm) -> Result<(Bytes, SourceFile)> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(|error| Error::NotFound(format!("cannot read `{}`: {error}", path.display())))?;
    let bytes = Bytes::from(bytes);
    let file = SourceFile { digest: hash(algorithm, &bytes), bytes: bytes.len() as u64 };
    Ok((bytes, file))
}

/// Decodes a file that was opened.
///
/// # Errors
/// `Invalid` where the bytes are not of the format, with the file's name and what is wrong in it.
pub fn decode(
    path: &Path,
    bytes: Bytes,
    file: SourceFile,
    format: Option<FileFormat>,
    csv_types: CsvTypes,
) -> Result<Rows> {
    let mut rows = FileRows::of_bytes(path, bytes, format, csv_types)?;
    let batches = rows.by_ref().collect::<Result<Vec<_>>>()?;
    Ok(Rows { origin: rows.origin(), schema: rows.schema, batches, file: Some(file) })
}

/// Gives the inputs of one ingest names that tell them apart: files of one name have their paths from the folder that they share.
/// Rejected rows are found by the name of their input.
pub fn tell_apart(paths: &[&Path], inputs: &mut [Rows]) {
    let mut alike: HashMap<String, (usize, PathBuf)> = HashMap::new();
    for (path, rows) in paths.iter().zip(inputs.iter()) {
        let folder = path.parent().unwrap_or(Path::new(""));
        let (count, shared) = alike.entry(rows.origin.clone()).or_insert_with(|| (0, folder.to_owned()));
        *count += 1;
        let both = shared.components().zip(folder.components());
        *shared = both.take_while(|(one, other)| one == other).map(|(one, _)| one).collect();
    }
    let mut named: HashMap<String, usize> = HashMap::new();
    for (path, rows) in paths.iter().zip(inputs) {
        if let Some((_, shared)) = alike.get(&rows.origin).filter(|(count, _)| *count > 1) {
            rows.origin = path.strip_prefix(shared).unwrap_or(path).display().to_string();
        }
        let times = named.entry(rows.origin.clone()).or_default();
        *times += 1;
        // The same file may be named twice.
        if *times > 1 {
            rows.origin = format!("{} ({times})", rows.origin);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Schema;

    use super::*;

    #[test]
    fn files_of_one_name_are_told_apart() {
        let told = |paths: &[&str]| {
            let paths: Vec<&Path> = paths.iter().map(Path::new).collect();
            let named = |path: &&Path| path.file_name().unwrap().to_string_lossy().into_owned();
            let rows = |path: &&Path| Rows::from_batches(named(path), Arc::new(Schema::empty()), Vec::new());
            let mut inputs: Vec<Rows> = paths.iter().map(rows).collect();
            tell_apart(&paths, &mut inputs);
            inputs.into_iter().map(|rows| rows.origin).collect::<Vec<_>>()
        };
        assert_eq!(told(&["/in/a/x.csv", "/in/b/y.csv"]), ["x.csv", "y.csv"]);
        assert_eq!(
            told(&["/in/a/x.csv", "/in/b/c/x.csv", "/in/y.csv", "/in/x.csv"]),
            ["a/x.csv", "b/c/x.csv", "y.csv", "x.csv"]
        );
        assert_eq!(told(&["x.csv", "x.csv"]), ["x.csv", "x.csv (2)"]);
    }
}
