//! How each column of a file is encoded and compressed: chosen by looking at the rows, for a reader of few rows and of all.
//!
//! A column of few distinct values has a dictionary, also where they are floats: that is most of what a general compression
//! would save, and costs a reader next to nothing. The dictionary stays small, since who reads one page reads it too. What
//! is left is compressed only where that saves a fifth of a sample. Keys and times are never compressed: as differences in sort order they are
//! a few bits a row, and every match reads them.

use arrow::array::{Array, ArrayRef, RecordBatch, UInt64Array};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression as Codec, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use parquet::schema::types::ColumnPath;

use super::layout::{Compression, Layout};

/// Most rows of a row group: what one reader of a file takes at least.
const ROW_GROUP_ROWS: usize = 1 << 20;
/// Rows that are looked at; stretches of them, so that repetition in sort order is seen.
const SAMPLE_ROWS: usize = 32_768;
const SAMPLE_STRETCHES: usize = 4;
/// Bytes of a feature's dictionary at most.
const DICTIONARY_BYTES: usize = 256 << 10;
/// Of a text key's: every match reads all of the column anyway, and equal keys lie together.
const KEY_DICTIONARY_BYTES: usize = 16 << 20;
/// Compressed and uncompressed size of the sample: above this share compression does not pay.
const COMPRESS_BELOW: f64 = 0.8;

/// The properties to write these rows with; `sort` holds the positions of the columns that they are sorted by.
pub(super) fn choose(
    rows: &RecordBatch,
    sort: &[usize],
    layout: &Layout,
) -> Result<WriterProperties, ParquetError> {
    let sample = sample(rows)?;
    let schema = rows.schema_ref();
    let mut encoded = shared(layout, sort);
    for (position, field) in schema.fields().iter().enumerate() {
        let column = ColumnPath::new(vec![field.name().clone()]);
        let key = sort.contains(&position);
        encoded = match encoding_of(field.data_type()) {
            Some(encoding) => encoded.set_column_encoding(column.clone(), encoding),
            // Few values get a dictionary; the encoding is what the column falls back to when it grows too large.
            None => {
                let bytes = if key { KEY_DICTIONARY_BYTES } else { DICTIONARY_BYTES };
                let dictionary = key || dictionary_bytes(sample.column(position), rows.num_rows())? <= bytes;
                encoded
                    .set_column_encoding(column.clone(), Encoding::PLAIN)
                    .set_column_dictionary_enabled(column.clone(), dictionary)
                    .set_column_dictionary_page_size_limit(column.clone(), bytes)
            }
        };
        // Statistics of pages are for finding keys; for a wide view they would weigh more than its footer.
        let statistics = if key { EnabledStatistics::Page } else { EnabledStatistics::Chunk };
        encoded = encoded.set_column_statistics_enabled(column, statistics);
    }
    let codec = match layout.compression {
        Compression::None => return Ok(encoded.build()),
        Compression::Lz4 => Codec::LZ4_RAW,
        Compression::Zstd => Codec::ZSTD(ZstdLevel::try_new(1)?),
    };
    let trial = encoded.clone().set_compression(codec).build();
    for (position, share) in shares(&sample, trial)?.into_iter().enumerate() {
        if !sort.contains(&position) && share < COMPRESS_BELOW {
            let column = ColumnPath::new(vec![schema.field(position).name().clone()]);
            encoded = encoded.set_column_compression(column, codec);
        }
    }
    Ok(encoded.build())
}

/// What all columns share.
fn shared(layout: &Layout, sort: &[usize]) -> WriterPropertiesBuilder {
    let sorting = sort
        .iter()
        .map(|position| SortingColumn { column_idx: *position as i32, descending: false, nulls_first: false })
        .collect();
    let page_rows = layout.page_rows.max(1);
    WriterProperties::builder()
        .set_created_by(concat!("lineament version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_compression(Codec::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(page_rows)
        // Pages end only between batches of the writer.
        .set_write_batch_size(page_rows.min(1024))
        .set_sorting_columns(Some(sorting))
}

/// The encoding of types that have one for all values: integers, dates and times are packed as differences.
fn encoding_of(data_type: &DataType) -> Option<Encoding> {
    match data_type {
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Date32
        | DataType::Timestamp(_, _) => Some(Encoding::DELTA_BINARY_PACKED),
        DataType::Boolean => Some(Encoding::RLE),
        _ => None,
    }
}

fn sample(rows: &RecordBatch) -> Result<RecordBatch, ParquetError> {
    if rows.num_rows() <= SAMPLE_ROWS {
        return Ok(rows.clone());
    }
    let stretch = SAMPLE_ROWS / SAMPLE_STRETCHES;
    let apart = (rows.num_rows() - stretch) / (SAMPLE_STRETCHES - 1);
    let places = (0..SAMPLE_STRETCHES).flat_map(|index| index * apart..index * apart + stretch);
    let places = UInt64Array::from_iter_values(places.map(|place| place as u64));
    Ok(arrow::compute::take_record_batch(rows, &places)?)
}

/// Bytes that a dictionary of a column would take, estimated from a sample. Where the second half of it brought about as many new values
/// as the first, so will the rest of the rows.
fn dictionary_bytes(sample: &ArrayRef, rows: usize) -> Result<usize, ParquetError> {
    let halves = sample.len() / 2;
    let converter = RowConverter::new(vec![SortField::new(sample.data_type().clone())])?;
    let values = converter.convert_columns(std::slice::from_ref(sample))?;
    let mut seen = std::collections::HashSet::with_capacity(sample.len());
    let (mut first_half, mut bytes) = (0, 0);
    for (row, value) in values.iter().enumerate() {
        if sample.is_valid(row) && seen.insert(value.data().to_vec()) {
            bytes += value.data().len();
        }
        if row == halves {
            first_half = seen.len();
        }
    }
    let grows = seen.len() > first_half + first_half / 2;
    Ok(if grows && sample.len() < rows { bytes.saturating_mul(rows) / sample.len().max(1) } else { bytes })
}

/// By column: compressed size as a share of the uncompressed one.
fn shares(sample: &RecordBatch, properties: WriterProperties) -> Result<Vec<f64>, ParquetError> {
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), sample.schema(), options)?;
    writer.write(sample)?;
    let metadata = writer.close()?;
    let mut shares = vec![1.0; sample.num_columns()];
    for group in metadata.row_groups() {
        for (share, column) in shares.iter_mut().zip(group.columns()) {
            *share = column.compressed_size() as f64 / column.uncompressed_size().max(1) as f64;
        }
    }
    Ok(shares)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Float64Array;
    use arrow::datatypes::{Field, Schema};
    use std::sync::Arc;

    const ROWS: usize = 100_000;

    fn properties_of(value: impl Fn(usize) -> f64) -> (bool, Codec) {
        let schema = Schema::new(vec![Field::new("value", DataType::Float64, true)]);
        let column: ArrayRef = Arc::new(Float64Array::from_iter_values((0..ROWS).map(value)));
        let rows = RecordBatch::try_new(Arc::new(schema), vec![column]).unwrap();
        let properties = choose(&rows, &[], &Layout::default()).unwrap();
        let path = ColumnPath::new(vec!["value".to_owned()]);
        (properties.dictionary_enabled(&path), properties.compression(&path))
    }

    /// Numbers that look random, below a bound.
    fn drawn(row: usize, below: usize) -> usize {
        ((row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize * 2_654_435_761 % 1_000_003 % below
    }

    /// A value of its own for each number, of bits that look random.
    fn noise(number: usize) -> f64 {
        f64::from_bits(
            0x3ff0_0000_0000_0000 | ((number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12),
        )
    }

    #[test]
    fn few_values_get_a_dictionary_and_many_do_not() {
        assert_eq!(properties_of(|row| noise(drawn(row, 50))), (true, Codec::UNCOMPRESSED));
        assert_eq!(properties_of(|row| noise(drawn(row, 9000))), (true, Codec::UNCOMPRESSED));
        assert_eq!(properties_of(noise), (false, Codec::UNCOMPRESSED));
    }

    #[test]
    fn what_repeats_is_compressed() {
        // Too many values for a dictionary, and each there twice.
        assert_eq!(properties_of(|row| noise(row / 2)), (false, Codec::LZ4_RAW));
    }
}
