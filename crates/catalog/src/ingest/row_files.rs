//! Files of rows, read a batch at a time: Parquet, CSV or Arrow IPC.

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
use bytes::Bytes;
use feature::definition::FileFormat;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::ChunkReader;

use super::arrow_messages;
use crate::error::{Error, Result};

const BATCH_ROWS: usize = 65_536;

/// The rows of a file, in its order, decoded as they are asked for. After an error there are no more.
pub struct FileRows {
    pub schema: SchemaRef,
    path: PathBuf,
    format: FileFormat,
    batches: Batches,
    ended: bool,
}

/// What is wrong is said in words; the file's name comes with whoever reads it.
type Batches = Box<dyn Iterator<Item = Result<RecordBatch, String>> + Send>;
type Opened = Result<(SchemaRef, Batches), String>;

impl FileRows {
    /// A file of which no more than a batch is held, in CSV with types by the values of all rows.
    ///
    /// # Errors
    /// `NotFound` where it cannot be opened; `Invalid` where it is not what its ending says.
    pub fn open(path: &Path, format: Option<FileFormat>) -> Result<Self> {
        let unreadable =
            |error: std::io::Error| Error::NotFound(format!("cannot read `{}`: {error}", path.display()));
        let file = File::open(path).map_err(unreadable)?;
        let format = format.map_or_else(|| format_by_ending(path), Ok)?;
        Self::opened(path, format, move || match format {
            FileFormat::Parquet => parquet(file),
            FileFormat::Csv => csv(BufReader::new(file), CsvTypes::Inferred),
            FileFormat::Arrow => ipc(file),
        })
    }

    /// A file that was read.
    ///
    /// # Errors
    /// `Invalid` where the bytes are not of the format.
    pub(super) fn of_bytes(
        path: &Path,
        bytes: Bytes,
        format: Option<FileFormat>,
        csv_types: CsvTypes,
    ) -> Result<Self> {
        let format = format.map_or_else(|| format_by_ending(path), Ok)?;
        Self::opened(path, format, || match format {
            FileFormat::Parquet => parquet(bytes),
            FileFormat::Csv => csv(BufReader::new(Cursor::new(bytes)), csv_types),
            FileFormat::Arrow => ipc(Cursor::new(bytes)),
        })
    }

    fn opened(path: &Path, format: FileFormat, open: impl FnOnce() -> Opened) -> Result<Self> {
        let (schema, batches) =
            guarded(open).and_then(|opened| opened).map_err(|why| refused(path, format, &why))?;
        Ok(Self { schema, path: path.to_owned(), format, batches, ended: false })
    }

    /// The file's name, as people know it.
    pub fn origin(&self) -> String {
        let name = self.path.file_name();
        name.map_or_else(|| self.path.display().to_string(), |name| name.to_string_lossy().into_owned())
    }
}

impl Iterator for FileRows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = guarded(|| self.batches.next().transpose());
        match read.and_then(|read| read) {
            Ok(Some(batch)) => Some(Ok(batch)),
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(why) => {
                self.ended = true;
                Some(Err(refused(&self.path, self.format, &why)))
            }
        }
    }
}

/// Of bytes that were changed the decoders of Parquet and Arrow may think what cannot be, and give up.
fn guarded<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read))
        .map_err(|_| "its bytes contradict each other: it is damaged".to_owned())
}

fn refused(path: &Path, format: FileFormat, why: &str) -> Error {
    let (path, format) = (path.display(), name_of(format));
    Error::Invalid(format!("`{path}` cannot be read as {format}: {why}; nothing of it was taken"))
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

fn parquet<T: ChunkReader + 'static>(file: T) -> Opened {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| error.to_string())?;
    let schema = builder.schema().clone();
    let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(|error| error.to_string())?;
    Ok((schema, Box::new(reader.map(|batch| batch.map_err(|error| error.to_string())))))
}

/// How the columns of a CSV file are read. An empty cell is null either way; the first line names the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CsvTypes {
    /// As text: validation reads each by its declared type, and nothing is lost to a guess (`00501` stays `00501`).
    Text,
    /// By the values of all rows, where nothing is declared yet.
    Inferred,
}

fn csv<R: Read + Seek + Send + 'static>(mut text: BufReader<R>, types: CsvTypes) -> Opened {
    let wrong = |error: ArrowError| error.to_string();
    let format = Format::default().with_header(true);
    let sample = if types == CsvTypes::Text { Some(0) } else { None };
    let (inferred, _) = format.infer_schema(&mut text, sample).map_err(wrong)?;
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
    let read = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let schema = Arc::new(with_zones(&read, &times, &format, &mut text).map_err(wrong)?);
    text.rewind().map_err(|error| error.to_string())?;
    let builder = arrow::csv::ReaderBuilder::new(read).with_format(format).with_batch_size(BATCH_ROWS);
    let reader = builder.build_buffered(text).map_err(wrong)?;
    let typed = schema.clone();
    Ok((
        schema,
        Box::new(reader.map(move |batch| batch.and_then(|batch| with_times(&typed, batch)).map_err(wrong))),
    ))
}

/// The schema with columns of times in place of their texts: with a zone where every value says its own, else without.
fn with_zones<R: Read>(
    schema: &SchemaRef,
    times: &[(usize, TimeUnit)],
    format: &Format,
    text: &mut BufReader<R>,
) -> Result<Schema, ArrowError> {
    let mut zoned = vec![true; times.len()];
    if !times.is_empty() {
        let reader = arrow::csv::ReaderBuilder::new(schema.clone())
            .with_format(format.clone())
            .with_batch_size(BATCH_ROWS)
            .with_projection(times.iter().map(|(place, _)| *place).collect())
            .build_buffered(text)?;
        for batch in reader {
            for (column, zoned) in batch?.columns().iter().zip(&mut zoned) {
                let texts = column.as_string_opt::<i32>().into_iter().flatten().flatten();
                *zoned = *zoned && texts.into_iter().all(says_its_zone);
            }
        }
    }
    let mut fields: Vec<Field> = schema.fields().iter().map(|field| Field::clone(field)).collect();
    for ((place, unit), zoned) in times.iter().zip(zoned) {
        if let Some(field) = fields.get_mut(*place) {
            let zone = zoned.then(|| "UTC".into());
            *field = Field::new(field.name(), DataType::Timestamp(*unit, zone), true);
        }
    }
    Ok(Schema::new(fields))
}

/// Reads columns of text as the times that the schema has in their places.
fn with_times(schema: &SchemaRef, batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() {
            Ok(column.clone())
        } else {
            cast_with_options(column, field.data_type(), &strict)
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)
}

/// Whether a time is written as 2013-07-09T12:30:00Z or with an offset behind its clock time.
fn says_its_zone(time: &str) -> bool {
    let clock = time.trim().get(10..).unwrap_or_default();
    clock.ends_with(['Z', 'z']) || clock.contains(['+', '-'])
}

fn ipc<R: Read + Seek + Send + 'static>(file: R) -> Opened {
    let rows = arrow_messages::ArrowRows::open(file).map_err(|refused| refused.to_string())?;
    Ok((rows.schema.clone(), Box::new(rows.map(|batch| batch.map_err(|refused| refused.to_string())))))
}
