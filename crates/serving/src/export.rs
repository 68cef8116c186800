//! Rows as one Parquet file, in their order; the columns of a row group are encoded side by side.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_empty_array};
use arrow::datatypes::{Field, SchemaRef};
use engine::row_bytes::bytes_of;
use futures::{Stream, StreamExt};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::add_encoded_arrow_schema_to_metadata;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::SerializedFileWriter;
use tokio::task::JoinSet;

use crate::error::{Error, Kind, Result};

/// Rows of a row group: enough for dictionaries to pay, and few enough that two of them fit beside what made them.
const ROW_GROUP_ROWS: usize = 1 << 18;
/// Its bytes in memory, which wide rows reach first: one is gathered while another is encoded.
const ROW_GROUP_BYTES: usize = 32 << 20;

/// Writes rows to a file that any reader of Parquet can read, compressed by Zstandard. Gives the number of rows.
///
/// # Errors
/// Those of the rows; those of the file, as `Unavailable`; a column that Parquet cannot hold.
pub async fn write_parquet<W: Write + Send>(
    schema: SchemaRef,
    mut rows: impl Stream<Item = Result<RecordBatch>> + Unpin,
    file: W,
) -> Result<u64> {
    let mut properties = properties().build();
    add_encoded_arrow_schema_to_metadata(&schema, &mut properties);
    let properties = Arc::new(properties);
    let described = ArrowSchemaConverter::new().convert(&schema).map_err(wrong)?;
    let mut writer =
        SerializedFileWriter::new(file, described.root_schema_ptr(), properties).map_err(wrong)?;
    let factory = ArrowRowGroupWriterFactory::new(&writer, schema.clone());
    let mut written = 0u64;
    let mut group = 0;
    let mut gathered: Vec<RecordBatch> = Vec::new();
    let (mut gathered_rows, mut gathered_bytes) = (0, 0);
    let mut encoding: Option<Encoding> = None;
    loop {
        let batch = rows.next().await.transpose()?;
        let ended = batch.is_none();
        if let Some(batch) = batch {
            gathered_rows += batch.num_rows();
            gathered_bytes += bytes_of(&batch);
            written += batch.num_rows() as u64;
            gathered.push(batch);
        }
        let full = gathered_rows >= ROW_GROUP_ROWS || gathered_bytes >= ROW_GROUP_BYTES;
        if full || ended && gathered_rows > 0 {
            // While one row group is encoded, the rows of the next are made.
            if let Some(encoding) = encoding.take() {
                encoding.append_to(&mut writer).await?;
            }
            let writers = factory.create_column_writers(group).map_err(wrong)?;
            encoding = Some(Encoding::begin(&schema, std::mem::take(&mut gathered), writers)?);
            (gathered_rows, gathered_bytes) = (0, 0);
            group += 1;
        }
        if ended {
            if let Some(encoding) = encoding.take() {
                encoding.append_to(&mut writer).await?;
            }
            writer.close().map_err(wrong)?;
            return Ok(written);
        }
    }
}

/// How files for others are written.
pub(crate) fn properties() -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by("lineament".to_owned())
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
}

/// A row group on its way, a task a column.
struct Encoding {
    columns: JoinSet<std::result::Result<(usize, Vec<ArrowColumnChunk>), ParquetError>>,
    count: usize,
}

impl Encoding {
    fn begin(schema: &SchemaRef, batches: Vec<RecordBatch>, writers: Vec<ArrowColumnWriter>) -> Result<Self> {
        let mut writers = VecDeque::from(writers);
        let mut columns = JoinSet::new();
        for (index, field) in schema.fields().iter().enumerate() {
            let leaves = compute_leaves(field, &new_empty_array(field.data_type())).map_err(wrong)?.len();
            let writers: Vec<ArrowColumnWriter> = writers.drain(..leaves.min(writers.len())).collect();
            let parts: Vec<ArrayRef> = batches.iter().map(|batch| batch.column(index).clone()).collect();
            let field = field.clone();
            columns.spawn_blocking(move || Ok((index, encode(&field, parts, writers)?)));
        }
        Ok(Self { columns, count: schema.fields().len() })
    }

    async fn append_to<W: Write + Send>(mut self, writer: &mut SerializedFileWriter<W>) -> Result<()> {
        let mut chunks: Vec<Vec<ArrowColumnChunk>> = Vec::new();
        chunks.resize_with(self.count, Vec::new);
        while let Some(done) = self.columns.join_next().await {
            let (index, encoded) =
                done.map_err(|error| Error::internal("encoding stopped", error))?.map_err(wrong)?;
            chunks[index] = encoded;
        }
        let mut group = writer.next_row_group().map_err(wrong)?;
        for chunk in chunks.into_iter().flatten() {
            chunk.append_to_row_group(&mut group).map_err(wrong)?;
        }
        group.close().map_err(wrong)?;
        Ok(())
    }
}

fn encode(
    field: &Field,
    parts: Vec<ArrayRef>,
    mut writers: Vec<ArrowColumnWriter>,
) -> std::result::Result<Vec<ArrowColumnChunk>, ParquetError> {
    for part in parts {
        for (leaf, writer) in compute_leaves(field, &part)?.iter().zip(&mut writers) {
            writer.write(leaf)?;
        }
    }
    writers.into_iter().map(ArrowColumnWriter::close).collect()
}

fn wrong(error: ParquetError) -> Error {
    let kind = if matches!(error, ParquetError::External(_)) { Kind::Unavailable } else { Kind::Invalid };
    Error::new(kind, format!("the rows cannot be written as Parquet: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Schema};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    #[tokio::test]
    async fn rows_come_back_in_their_order_over_several_row_groups() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("number", DataType::Int64, false),
            Field::new("text", DataType::Utf8, true),
        ]));
        let rows = ROW_GROUP_ROWS as i64 + 20_000;
        let batches: Vec<RecordBatch> = (0..rows)
            .step_by(10_000)
            .map(|from| {
                let numbers: Vec<i64> = (from..rows.min(from + 10_000)).collect();
                let texts: StringArray =
                    numbers.iter().map(|number| (number % 3 > 0).then(|| (number % 7).to_string())).collect();
                let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(numbers)), Arc::new(texts)];
                RecordBatch::try_new(schema.clone(), columns).unwrap()
            })
            .collect();
        let mut bytes = Vec::new();
        let stream = futures::stream::iter(batches.clone().into_iter().map(Ok));
        assert_eq!(write_parquet(schema.clone(), stream, &mut bytes).await.unwrap(), rows as u64);
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap();
        assert_eq!(reader.metadata().num_row_groups(), 2);
        assert_eq!(reader.schema(), &schema);
        let read: Vec<RecordBatch> = reader.build().unwrap().collect::<std::result::Result<_, _>>().unwrap();
        let concat = |batches: &[RecordBatch]| arrow::compute::concat_batches(&schema, batches).unwrap();
        assert_eq!(concat(&read), concat(&batches));
    }

    #[tokio::test]
    async fn no_rows_are_a_file_too() {
        let schema = Arc::new(Schema::new(vec![Field::new("number", DataType::Int64, false)]));
        let mut bytes = Vec::new();
        let none = futures::stream::iter(Vec::new());
        assert_eq!(write_parquet(schema, none, &mut bytes).await.unwrap(), 0);
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap();
        assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
    }
}
