//! What `reads/{id}.parquet` holds: one row a read, with the sources of its columns.
//!
//! Columns are added, never given another meaning. A file that an earlier version wrote lacks the later ones, and they are null then.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterProperties;

/// The column of the edges.
pub const LINEAGE: &str = "lineage";

/// Values of the longest column that one batch has when a file is read back.
const BATCH_VALUES: u64 = 65_536;
/// … and rows.
const BATCH_ROWS: u64 = 8_192;

/// Columns of a file of reads.
pub fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::UInt64, true);
    let list = |name: &str, item: DataType| Field::new_list(name, Field::new_list_field(item, true), true);
    Arc::new(Schema::new(vec![
        text("read"),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        text("principal"),
        text("program"),
        text("run"),
        text("experiment"),
        number("sequence"),
        text("columns"),
        text("sql"),
        number("rows"),
        number("micros"),
        text("error"),
        text("status"),
        text("node"),
        text("reason"),
        text("parameters"),
        list("filters", DataType::Utf8),
        list("functions", DataType::Utf8),
        list("system", DataType::Utf8),
        list(LINEAGE, DataType::Struct(edge_fields())),
        text("kind"),
        text("roles"),
        text("purpose"),
        number("policies"),
        text("action"),
    ]))
}

/// An edge. `output` is null where it holds for every output column; the source is null for an output that is constant.
pub fn edge_fields() -> Fields {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    Fields::from(vec![
        text("output"),
        text("expression"),
        text("feature_view"),
        Field::new("version", DataType::UInt32, true),
        text("version_id"),
        Field::new("sequence", DataType::UInt64, true),
        text("given"),
        text("column"),
        text("kind"),
        text("subtype"),
        Field::new("masking", DataType::Boolean, true),
    ])
}

/// Writes a file of reads.
pub fn encode(reads: &RecordBatch) -> Result<Bytes, ParquetError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::LZ4_RAW)
        .set_created_by("lineament".to_owned())
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, reads.schema(), Some(properties))?;
    writer.write(reads)?;
    writer.close()?;
    Ok(bytes.into())
}

/// Reads a file back, batch by batch and under [`schema`]; `only` names the columns that are wanted, in the schema's order.
pub fn decode(
    bytes: Bytes,
    only: &[&str],
) -> Result<impl Iterator<Item = Result<RecordBatch, ParquetError>> + Send + use<>, ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), only.iter().copied());
    let rows = batch_rows(builder.metadata());
    let reader = builder.with_projection(mask).with_batch_size(rows).build()?;
    let fields: Vec<Field> = schema()
        .fields()
        .iter()
        .filter(|field| only.contains(&field.name().as_str()))
        .map(|field| Field::clone(field))
        .collect();
    let wanted = Arc::new(Schema::new(fields));
    Ok(reader.map(move |batch| adapt(&batch?, &wanted)))
}

fn adapt(batch: &RecordBatch, wanted: &SchemaRef) -> Result<RecordBatch, ParquetError> {
    let column = |field: &Field| -> Result<ArrayRef, ParquetError> {
        match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
            Some(column) => Ok(cast(column, field.data_type())?),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        }
    };
    let columns = wanted.fields().iter().map(|field| column(field)).collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(wanted.clone(), columns, &options)?)
}

/// How many reads fit into a batch: one read may have very many edges.
fn batch_rows(file: &ParquetMetaData) -> usize {
    let rows = u64::try_from(file.file_metadata().num_rows()).unwrap_or(0).max(1);
    let values = |column: usize| -> u64 {
        let parts = file.row_groups().iter().filter_map(|group| group.columns().get(column));
        parts.map(|part| u64::try_from(part.num_values()).unwrap_or(0)).sum()
    };
    let columns = file.file_metadata().schema_descr().num_columns();
    let longest = (0..columns).map(values).max().unwrap_or(0).max(rows);
    let each = longest.div_ceil(rows);
    usize::try_from((BATCH_VALUES / each.max(1)).clamp(1, BATCH_ROWS)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use arrow::array::{StringArray, UInt64Array};

    use super::*;

    #[test]
    fn a_file_of_an_earlier_version_opens_with_nulls_for_what_it_lacks() {
        let early = RecordBatch::try_from_iter([
            ("read", Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef),
            ("rows", Arc::new(UInt64Array::from(vec![3, 4]))),
        ])
        .unwrap();
        let bytes = encode(&early).unwrap();
        let all: Vec<String> = schema().fields().iter().map(|field| field.name().clone()).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let batches: Vec<RecordBatch> = decode(bytes, &all).unwrap().collect::<Result<_, _>>().unwrap();
        let [batch] = batches.as_slice() else { panic!("{batches:?}") };
        assert_eq!(batch.schema(), schema());
        assert_eq!(batch.num_rows(), 2);
        assert_eq!(batch.column_by_name("rows").unwrap().null_count(), 0);
        assert_eq!(batch.column_by_name(LINEAGE).unwrap().null_count(), 2);
        assert_eq!(batch.column_by_name("status").unwrap().null_count(), 2);
    }
}
