//! A table of a checkpoint as Parquet bytes.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use storage::checkpoint::Part;

use crate::state::{Table, Tables};

/// Columns of bytes that look random: neither a dictionary nor compression makes them smaller.
const RANDOM: [&str; 8] = [
    "batch",
    "training_set",
    "digest",
    "manifest.digest",
    "body.digest",
    "quarantine.digest",
    "sources.list.element.digest",
    "selected.list.element.hits.list.element.batch",
];

/// The bytes of a table; the same rows give the same bytes from the same program.
pub(super) fn encode(table: Table, rows: &RecordBatch) -> Result<Bytes, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_created_by("lineament".to_owned())
        .set_compression(Compression::LZ4_RAW)
        .set_statistics_enabled(EnabledStatistics::None);
    // Digests of sets and definitions are text, which is like others often enough.
    if !matches!(table, Table::TrainingSets | Table::Definitions) {
        for column in RANDOM {
            let column = ColumnPath::from(column.split('.').map(str::to_owned).collect::<Vec<_>>());
            properties = properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_compression(column, Compression::UNCOMPRESSED);
        }
    }
    let options =
        ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), rows.schema(), options)?;
    writer.write(rows)?;
    Ok(writer.into_inner()?.into())
}

/// The rows of a table, which must be so many and of its schema.
pub(super) fn decode(table: Table, rows: u64, bytes: &Bytes) -> Result<RecordBatch, String> {
    let wrong = |why: String| format!("its table `{}` {why}", table.name());
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes.clone())
        .map_err(|error| wrong(format!("is not a readable Parquet file ({error})")))?;
    let schema = table.schema();
    let found = builder.metadata().file_metadata().num_rows();
    if u64::try_from(found) != Ok(rows) {
        return Err(wrong(format!("has {found} rows, and {rows} were written")));
    }
    let types = |fields: &arrow::datatypes::Fields| -> Vec<_> {
        fields.iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
    };
    if types(builder.schema().fields()) != types(schema.fields()) {
        return Err(wrong("has other columns than this program writes".to_owned()));
    }
    let unreadable = |error: String| wrong(format!("cannot be read ({error})"));
    let whole = usize::try_from(rows).unwrap_or(usize::MAX).max(1);
    let reader = builder.with_batch_size(whole).build().map_err(|error| unreadable(error.to_string()))?;
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|error| unreadable(error.to_string()))?;
    let all = match batches.as_slice() {
        [all] => all.clone(),
        several => {
            let schema = several.first().map_or_else(|| schema.clone(), RecordBatch::schema);
            concat_batches(&schema, several).map_err(|error| unreadable(error.to_string()))?
        }
    };
    // This also finds nulls where none may be.
    RecordBatch::try_new(schema, all.columns().to_vec()).map_err(|error| unreadable(error.to_string()))
}

/// All tables of a checkpoint, from their parts in the order of the log.
pub(super) fn decode_all(parts: Vec<(Table, Part, Bytes)>) -> Result<Tables, String> {
    let every = Table::GROWING.into_iter().chain(Table::WHOLE);
    let decoded = std::thread::scope(|scope| {
        let parts = &parts;
        let of_table = move |table: Table| -> Result<(Table, RecordBatch), String> {
            let mine = parts.iter().filter(|(of, _, _)| *of == table);
            let batches = mine
                .map(|(table, part, bytes)| decode(*table, part.rows, bytes))
                .collect::<Result<Vec<_>, _>>()?;
            let rows = match batches.as_slice() {
                [one] => one.clone(),
                several => concat_batches(&table.schema(), several).map_err(|error| error.to_string())?,
            };
            Ok((table, rows))
        };
        let running: Vec<_> = every.map(|table| scope.spawn(move || of_table(table))).collect();
        let panicked = || "a page of it cannot be decoded".to_owned();
        running
            .into_iter()
            .map(|running| running.join().map_err(|_| panicked())?)
            .collect::<Result<Vec<_>, String>>()
    })?;
    let mut tables = Tables::empty();
    for (table, rows) in decoded {
        tables.set(table, rows);
    }
    Ok(tables)
}
