//! Reading what is to be ingested: files by pattern, in Parquet, CSV or Arrow IPC.

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
