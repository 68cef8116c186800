//! Writing manifests.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, FixedSizeBinaryArray, Int64Array, ListArray, ListBuilder, RecordBatch,
    StringArray, StructArray, UInt32Array, UInt32Builder, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::error::ArrowError;
use bytes::Bytes;
use feature::Id;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::columns::{piece_fields, schema, statistics_fields};
use super::{ColumnStatistics, DataFile, FORMAT, FORMAT_KEY, Piece};
use crate::{Error, Result};

/// The bytes of a manifest; the same files give the same bytes from the same program.
///
/// # Errors
/// [`Error::Invalid`] if the files contradict the format, as [`super::decode`] would find.
pub fn encode(files: &[DataFile]) -> Result<Bytes> {
    let invalid = |why: String| Error::Invalid { what: "a manifest".to_owned(), why };
    for file in files {
        super::decode::check(file).map_err(invalid)?;
    }
    let rows = rows(files).map_err(|error| invalid(error.to_string()))?;
    write(&rows).map_err(|error| invalid(error.to_string()))
}

fn write(rows: &RecordBatch) -> Result<Bytes, parquet::errors::ParquetError> {
    let format = KeyValue::new(FORMAT_KEY.to_owned(), FORMAT.to_string());
    let properties = WriterProperties::builder()
        .set_created_by("lineament".to_owned())
        .set_key_value_metadata(Some(vec![format]))
        .set_compression(Compression::LZ4_RAW)
        .build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), rows.schema(), options)?;
    writer.write(rows)?;
    Ok(writer.into_inner()?.into())
}

fn rows(files: &[DataFile]) -> Result<RecordBatch, ArrowError> {
    let statistics: Vec<&ColumnStatistics> = files.iter().flat_map(|file| &file.statistics).collect();
    let pieces: Vec<&Piece> = files.iter().flat_map(|file| &file.pieces).collect();
    let blocks = files.iter().flat_map(|file| file.blocks.iter().map(|block| *block.bytes()));
    let statistics = structs(
        statistics_fields(),
        vec![
            texts(statistics.iter().map(|column| column.column.clone())),
            counts(statistics.iter().map(|column| column.nulls)),
            counts(statistics.iter().map(|column| column.nans)),
            Arc::new(BinaryArray::from_iter(statistics.iter().map(|column| column.least.as_ref()))),
            Arc::new(BinaryArray::from_iter(statistics.iter().map(|column| column.greatest.as_ref()))),
        ],
    )?;
    let pieces = structs(
        piece_fields(),
        vec![
            fixed(16, pieces.iter().map(|piece| *piece.batch.uuid().as_bytes())),
            times(pieces.iter().map(|piece| piece.from)),
            times(pieces.iter().map(|piece| piece.until)),
            numbers(pieces.iter().map(|piece| piece.bucket)),
            numbers(pieces.iter().map(|piece| piece.buckets)),
            counts(pieces.iter().map(|piece| piece.rows)),
            texts(pieces.iter().map(|piece| piece.digest.to_string())),
        ],
    )?;
    let schema = schema();
    RecordBatch::try_new(
        schema.clone(),
        vec![
            fixed(16, files.iter().map(|file| *file.id.uuid().as_bytes())),
            texts(files.iter().map(|file| file.path.clone())),
            numbers(files.iter().map(|file| file.version)),
            times(files.iter().map(|file| file.from)),
            times(files.iter().map(|file| file.until)),
            numbers(files.iter().map(|file| file.bucket)),
            numbers(files.iter().map(|file| file.buckets)),
            counts(files.iter().map(|file| file.rows)),
            counts(files.iter().map(|file| file.bytes)),
            key_hashes(files),
            lists(&schema, "statistics", files.iter().map(|file| file.statistics.len()), statistics)?,
            lists(&schema, "pieces", files.iter().map(|file| file.pieces.len()), pieces)?,
            texts(files.iter().map(|file| file.digest.to_string())),
            numbers(files.iter().map(|file| file.block_bytes)),
            lists(&schema, "blocks", files.iter().map(|file| file.blocks.len()), fixed(32, blocks))?,
        ],
    )
}

fn fixed<const N: usize>(size: i32, values: impl Iterator<Item = [u8; N]>) -> ArrayRef {
    Arc::new(FixedSizeBinaryArray::new(size, values.flatten().collect::<Vec<u8>>().into(), None))
}

fn key_hashes(files: &[DataFile]) -> ArrayRef {
    let element = Field::new("element", DataType::UInt32, false);
    let mut lists = ListBuilder::new(UInt32Builder::new()).with_field(element);
    for file in files {
        lists.append_option(file.key_hashes.as_ref().map(|hashes| hashes.iter().copied().map(Some)));
    }
    Arc::new(lists.finish())
}

fn texts(values: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn times(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn numbers(values: impl Iterator<Item = u32>) -> ArrayRef {
    Arc::new(UInt32Array::from_iter_values(values))
}

fn counts(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

fn structs(fields: Fields, columns: Vec<ArrayRef>) -> Result<ArrayRef, ArrowError> {
    Ok(Arc::new(StructArray::try_new(fields, columns, None)?))
}

fn lists(
    schema: &Schema,
    name: &str,
    lengths: impl Iterator<Item = usize>,
    values: ArrayRef,
) -> Result<ArrayRef, ArrowError> {
    let DataType::List(item) = schema.field_with_name(name)?.data_type() else {
        return Err(ArrowError::SchemaError(format!("{name} is no list")));
    };
    Ok(Arc::new(ListArray::try_new(item.clone(), OffsetBuffer::from_lengths(lengths), values, None)?))
}
