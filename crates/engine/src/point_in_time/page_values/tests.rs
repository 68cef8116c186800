use std::sync::Arc;

use arrow::array::{Float32Array, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use datafusion::parquet::file::properties::{WriterProperties, WriterVersion};

use super::*;

/// Numbers that look random.
fn drawn(number: u64) -> u64 {
    let mut state = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state ^ (state >> 27)
}

/// Noise, few values, few values with runs and nulls, one value, nulls at first, floats of 32 bits, and text.
fn rows(count: usize) -> RecordBatch {
    let float = |value: fn(u64) -> Option<f64>| -> ArrayRef {
        Arc::new(Float64Array::from_iter((0..count as u64).map(value)))
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("noise", float(|row| Some(drawn(row) as f64))),
        ("few", float(|row| Some((drawn(row) % 50) as f64))),
        ("runs", float(|row| (!drawn(row / 37).is_multiple_of(5)).then_some((row / 100 % 7) as f64))),
        ("noisy_nulls", float(|row| (!drawn(row).is_multiple_of(3)).then_some(drawn(row + 1) as f64))),
        ("one", float(|_| Some(1.0))),
        ("late", float(|row| (row > 300).then_some((row % 9) as f64))),
        ("narrow", Arc::new(Float32Array::from_iter((0..count as u64).map(|row| Some(drawn(row) as f32))))),
        (
            "text",
            Arc::new(StringArray::from_iter((0..count as u64).map(|row| {
                (!drawn(row).is_multiple_of(11))
                    .then(|| format!("text number {} of some length", drawn(row) % 300))
            }))),
        ),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let arrays = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn file(rows: &RecordBatch, compression: Compression) -> (ArrowReaderMetadata, Bytes) {
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_compression(compression)
        .set_max_row_group_row_count(Some(700))
        .set_write_batch_size(64)
        .set_data_page_row_count_limit(100)
        .set_dictionary_enabled(true);
    for plain in ["noise", "noisy_nulls", "narrow"] {
        properties = properties.set_column_dictionary_enabled(plain.into(), false);
    }
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties.build())).unwrap();
    writer.write(rows).unwrap();
    let bytes = Bytes::from(writer.into_inner().unwrap());
    let metadata = ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Required)
        .parse_and_finish(&bytes)
        .unwrap();
    let fields: Vec<Field> = rows
        .schema()
        .fields()
        .iter()
        .map(|field| match field.data_type() {
            DataType::Utf8 => Field::clone(field).with_data_type(DataType::Utf8View),
            _ => Field::clone(field),
        })
        .collect();
    let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields)));
    (ArrowReaderMetadata::try_new(Arc::new(metadata), options).unwrap(), bytes)
}

/// The values of some rows, by column.
fn values(footer: &ArrowReaderMetadata, bytes: &Bytes, column: usize, asked: &[u32]) -> ArrayRef {
    let mut parts: Vec<ArrayRef> = Vec::new();
    let (mut first, mut from) = (0u64, 0);
    for (group, metadata) in footer.metadata().row_groups().iter().enumerate() {
        let end = first + metadata.num_rows() as u64;
        let until = from + asked[from..].partition_point(|row| u64::from(*row) < end);
        if from < until {
            let rows =
                ColumnRows::new(footer, column, &mut GroupRows::new(group, &asked[from..until], first))
                    .unwrap();
            let stretches = rows.stretches().into_iter();
            let read = stretches
                .map(|stretch| (stretch.start, bytes.slice(stretch.start as usize..stretch.end as usize)));
            parts.push(rows.values(read.collect()).unwrap().expect("a column of these encodings"));
        }
        (first, from) = (end, until);
    }
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    arrow::compute::concat(&parts).unwrap()
}

#[test]
fn values_are_those_that_were_written() {
    let rows = rows(3000);
    let mut compared = 0;
    for compression in [Compression::UNCOMPRESSED, Compression::LZ4_RAW] {
        let (footer, bytes) = file(&rows, compression);
        assert!(footer.metadata().num_row_groups() > 3);
        for (column, name) in rows.schema().fields().iter().map(|field| field.name().clone()).enumerate() {
            assert!(has_direct_values(&footer, column), "{name}");
            for sparse in [1, 2, 3, 10, 97, 1000] {
                // Some rows stand there twice.
                let asked: Vec<u32> = (0..3000u32)
                    .filter(|row| drawn(u64::from(*row) * 31 + sparse).is_multiple_of(sparse))
                    .flat_map(|row| std::iter::repeat_n(row, 1 + (drawn(u64::from(row)) % 4 / 3) as usize))
                    .collect();
                let found = values(&footer, &bytes, column, &asked);
                let expected = take(rows.column(column), &UInt32Array::from(asked), None).unwrap();
                let found = arrow::compute::cast(&found, expected.data_type()).unwrap();
                assert_eq!(&found, &expected, "{name}, one of {sparse}, {compression}");
                compared += found.len() - found.null_count();
            }
        }
    }
    assert!(compared > 50_000, "{compared}");
}

#[test]
fn pages_without_a_row_are_not_read() {
    let rows = rows(700);
    let (footer, _) = file(&rows, Compression::UNCOMPRESSED);
    let sparse = ColumnRows::new(&footer, 0, &mut GroupRows::new(0, &[5, 650], 0)).unwrap();
    let (hit, all) = sparse.pages();
    assert_eq!(hit, 2);
    assert!(all >= 6, "{all}");
    let read: u64 = sparse.stretches().iter().map(|stretch| stretch.end - stretch.start).sum();
    let whole = footer.metadata().row_group(0).column(0).byte_range().1;
    assert!(read < whole / 2, "{read} of {whole}");
}

#[test]
fn what_is_cut_short_is_an_error_and_no_panic() {
    let rows = rows(600);
    let (footer, bytes) = file(&rows, Compression::UNCOMPRESSED);
    let asked: Vec<u32> = (0..600).collect();
    let mut refused = 0;
    let mut asked = GroupRows::new(0, &asked, 0);
    for column in 0..rows.num_columns() {
        let whole = ColumnRows::new(&footer, column, &mut asked).unwrap();
        let (start, length) = whole.chunk().byte_range();
        for place in (start..start + length).step_by(3) {
            let mut altered = bytes.to_vec();
            altered[place as usize] ^= 0xff;
            let altered = Bytes::from(altered).slice(start as usize..(start + length) as usize);
            // Whatever it gives: it returns.
            refused += usize::from(whole.values(vec![(start, altered)]).is_err());
        }
        let cut = bytes.slice(start as usize..(start + length / 2) as usize);
        assert!(whole.values(vec![(start, cut)]).is_err());
    }
    assert!(refused > 20, "{refused}");
}

#[test]
fn runs_may_be_long_and_widths_none() {
    // Ten times 3, then eight packed numbers of three bits: 0 to 7.
    let mut bytes = vec![3u8, 20, 3];
    bytes.extend([3, 0b1000_1000, 0b1100_0110, 0b1111_1010]);
    let mut indices = Indices::new(&bytes).unwrap();
    assert_eq!([0, 9, 10, 13, 13, 17].map(|place| indices.get(place).unwrap()), [3, 3, 0, 3, 3, 7]);
    assert!(indices.get(18).is_err());
    let mut none = Indices::new(&[0, 200, 1]).unwrap();
    assert_eq!(none.get(99).unwrap(), 0);
    assert!(none.get(100).is_err());
    assert!(Indices::new(&[33]).is_err());
    assert!(Indices::new(&[]).is_err());
}
