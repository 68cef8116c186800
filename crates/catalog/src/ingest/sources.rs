//! Reading what is to be ingested: files by pattern, in Parquet, CSV or Arrow IPC.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use bytes::Bytes;
use feature::definition::{FileFormat, Source};
use feature::digest::{HashAlgorithm, hash};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::arrow_messages;
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

const BATCH_ROWS: usize = 65_536;

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

/// Decodes a file.
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
    let format = match format {
        Some(format) => format,
        None => format_by_ending(path)?,
    };
    // Of bytes that were changed the decoders of Parquet and Arrow may think what cannot be, and give up.
    let decoded = catch_unwind(AssertUnwindSafe(|| match format {
        FileFormat::Parquet => parquet(bytes),
        FileFormat::Csv => csv(bytes, csv_types),
        FileFormat::Arrow => ipc(bytes),
    }));
    let decoded =
        decoded.unwrap_or_else(|_| Err("its bytes contradict each other: it is damaged".to_owned()));
    let (schema, batches) = decoded.map_err(|why| {
        Error::Invalid(format!(
            "`{}` cannot be read as {}: {why}; nothing of it was taken",
            path.display(),
            name_of(format)
        ))
    })?;
    let origin = path
        .file_name()
        .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    Ok(Rows { origin, schema, batches, file: Some(file) })
}

fn format_by_ending(path: &Path) -> Result<FileFormat> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    match ending.as_str() {
        "parquet" | "pq" => Ok(FileFormat::Parquet),
        "csv" => Ok(FileFormat::Csv),
        "arrow" | "arrows" | "feather" | "ipc" => Ok(FileFormat::Arrow),
        _ => Err(Error::Invalid(format!(
            "`{}` does not say by its ending what it is; endings are .parquet, .csv and .arrow, or set `format` in [source]",
            path.display()
        ))),
    }
}

fn name_of(format: FileFormat) -> &'static str {
    match format {
        FileFormat::Parquet => "Parquet",
        FileFormat::Csv => "CSV",
        FileFormat::Arrow => "Arrow IPC",
    }
}

type Decoded = Result<(SchemaRef, Vec<RecordBatch>), String>;

fn parquet(bytes: Bytes) -> Decoded {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| error.to_string())?;
    let schema = builder.schema().clone();
    let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(|error| error.to_string())?;
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    Ok((schema, batches))
}

/// How the columns of a CSV file are read. An empty cell is null either way; the first line names the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CsvTypes {
    /// As text: validation reads each by its declared type, and nothing is lost to a guess (`00501` stays `00501`).
    Text,
    /// By the values of all rows, where nothing is declared yet.
    Inferred,
}

fn csv(bytes: Bytes, types: CsvTypes) -> Decoded {
    let mut text = BufReader::new(Cursor::new(bytes));
    let format = Format::default().with_header(true);
    let sample = if types == CsvTypes::Text { Some(0) } else { None };
    let (inferred, _) = format.infer_schema(&mut text, sample).map_err(|error| error.to_string())?;
    text.rewind().map_err(|error| error.to_string())?;
    // Times are read as text first, for the inference drops their zones.
    let mut times = Vec::new();
    let fields = inferred.fields().iter().enumerate().map(|(place, field)| {
        let kind = match (types, field.data_type()) {
            (CsvTypes::Text, _) => DataType::Utf8,
            (CsvTypes::Inferred, DataType::Timestamp(unit, _)) => {
                times.push((place, *unit));
                DataType::Utf8
            }
            (CsvTypes::Inferred, other) => other.clone(),
        };
        Field::new(field.name(), kind, true)
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let reader = arrow::csv::ReaderBuilder::new(schema.clone())
        .with_format(format)
        .with_batch_size(BATCH_ROWS)
        .build(text)
        .map_err(|error| error.to_string())?;
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    with_times(schema, batches, &times).map_err(|error| error.to_string())
}

/// Reads columns of text as times: with a zone where every value says its own, else without.
fn with_times(
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    times: &[(usize, TimeUnit)],
) -> Result<(SchemaRef, Vec<RecordBatch>), ArrowError> {
    let mut fields: Vec<Field> = schema.fields().iter().map(|field| Field::clone(field)).collect();
    for (place, unit) in times {
        let texts = || batches.iter().filter_map(|batch| batch.column(*place).as_string_opt::<i32>());
        let zoned = texts().flat_map(|texts| texts.iter()).flatten().all(says_its_zone);
        let zone = zoned.then(|| "UTC".into());
        fields[*place] = Field::new(fields[*place].name(), DataType::Timestamp(*unit, zone), true);
    }
    let schema = Arc::new(Schema::new(fields));
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let mut read = Vec::with_capacity(batches.len());
    for batch in batches {
        let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
            if column.data_type() == field.data_type() {
                Ok(column.clone())
            } else {
                cast_with_options(column, field.data_type(), &strict)
            }
        });
        read.push(RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)?);
    }
    Ok((schema, read))
}

/// Whether a time is written as 2013-07-09T12:30:00Z or with an offset behind its clock time.
fn says_its_zone(time: &str) -> bool {
    let clock = time.trim().get(10..).unwrap_or_default();
    clock.ends_with(['Z', 'z']) || clock.contains(['+', '-'])
}

/// An IPC file, which begins with a magic word, or a stream, which does not.
fn ipc(bytes: Bytes) -> Decoded {
    arrow_messages::check_file(&bytes).map_err(|refused| refused.to_string())?;
    let is_file = bytes.starts_with(arrow_messages::MAGIC);
    let cursor = Cursor::new(bytes);
    if is_file {
        let reader = FileReader::try_new(cursor, None).map_err(|error| error.to_string())?;
        let schema = reader.schema();
        Ok((schema, reader.collect::<Result<_, _>>().map_err(|error| error.to_string())?))
    } else {
        let reader = StreamReader::try_new(cursor, None).map_err(|error| error.to_string())?;
        let schema = reader.schema();
        Ok((schema, reader.collect::<Result<_, _>>().map_err(|error| error.to_string())?))
    }
}
