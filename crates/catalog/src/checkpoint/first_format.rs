//! Tables of the first format, which stand in the order of the log and are read whole.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::state::{Table, Tables};

/// The rows of a table, which must be so many and of its schema.
fn decode(table: Table, rows: u64, bytes: &Bytes) -> Result<RecordBatch, String> {
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
pub(super) fn decode_all(parts: &[(Table, u64, Bytes)]) -> Result<Tables, String> {
    let every = Table::GROWING.into_iter().chain(Table::WHOLE);
    let decoded = std::thread::scope(|scope| {
        let of_table = move |table: Table| -> Result<(Table, RecordBatch), String> {
            let mine = parts.iter().filter(|(of, _, _)| *of == table);
            let batches = mine
                .map(|(table, rows, bytes)| decode(*table, *rows, bytes))
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
