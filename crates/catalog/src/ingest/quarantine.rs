//! Rejected rows, kept with every reason each of them got: `quarantine/{batch id}/rejected.parquet`.
//!
//! One row a reason. `source_row` is the row as it came, as JSON of its columns' text, so that any source can be kept whatever its types.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringBuilder, UInt64Builder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use feature::validation::Rejection;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use serde_json::{Map, Value};

/// Columns of a quarantine file.
pub fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    Arc::new(Schema::new(vec![
        text("origin"),
        Field::new("row", DataType::UInt64, false),
        text("reason"),
        text("column"),
        text("value"),
        text("message"),
        text("source_row"),
    ]))
}

/// Gathers rejections while a batch is validated.
pub struct Quarantine {
    origin: StringBuilder,
    row: UInt64Builder,
    reason: StringBuilder,
    column: StringBuilder,
    value: StringBuilder,
    message: StringBuilder,
    source_row: StringBuilder,
}

impl Quarantine {
    pub fn new() -> Self {
        Self {
            origin: StringBuilder::new(),
            row: UInt64Builder::new(),
            reason: StringBuilder::new(),
            column: StringBuilder::new(),
            value: StringBuilder::new(),
            message: StringBuilder::new(),
            source_row: StringBuilder::new(),
        }
    }

    /// `rows` are those of a source from `first_row` on that `keep` holds for (all, where there is none); rejections are
    /// renumbered to count the source's rows.
    pub fn add(
        &mut self,
        origin: &str,
        rows: &RecordBatch,
        rejections: &mut [Rejection],
        keep: Option<&BooleanArray>,
        first_row: u64,
    ) -> Result<(), ArrowError> {
        let places: Option<Vec<usize>> =
            keep.map(|keep| (0..keep.len()).filter(|row| keep.is_valid(*row) && keep.value(*row)).collect());
        let options = FormatOptions::default();
        let columns = rows
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options))
            .collect::<Result<Vec<_>, _>>()?;
        for rejection in rejections {
            let index = rejection.index;
            if let Some(place) = places.as_ref().and_then(|places| places.get(index)) {
                rejection.row = first_row + *place as u64;
            }
            let mut source = Map::new();
            for ((field, column), array) in rows.schema().fields().iter().zip(&columns).zip(rows.columns()) {
                let value = if array.is_null(index) {
                    Value::Null
                } else {
                    Value::String(column.value(index).try_to_string()?)
                };
                source.insert(field.name().clone(), value);
            }
            self.origin.append_value(origin);
            self.row.append_value(rejection.row);
            self.reason.append_value(rejection.reason.as_str());
            self.column.append_value(&*rejection.column);
            self.value.append_value(&rejection.value);
            self.message.append_value(rejection.message());
            self.source_row.append_value(Value::Object(source).to_string());
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<Bytes, ParquetError> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.origin.finish()),
            Arc::new(self.row.finish()),
            Arc::new(self.reason.finish()),
            Arc::new(self.column.finish()),
            Arc::new(self.value.finish()),
            Arc::new(self.message.finish()),
            Arc::new(self.source_row.finish()),
        ];
        let batch = RecordBatch::try_new(schema(), columns)?;
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, schema(), None)?;
        writer.write(&batch)?;
        writer.close()?;
        Ok(bytes.into())
    }
}

/// The first few rejections of a quarantine file, in words, as the report of its batch had them.
pub fn examples(bytes: Bytes, most: usize) -> Result<Vec<String>, ParquetError> {
    let mut examples = Vec::new();
    for batch in read(bytes)? {
        let text = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let (Some(origins), Some(messages)) = (text("origin"), text("message")) else { continue };
        for (origin, message) in origins.iter().flatten().zip(messages.iter().flatten()) {
            if examples.len() == most {
                return Ok(examples);
            }
            examples.push(format!("{origin}, {message}"));
        }
    }
    Ok(examples)
}

/// Reads a quarantine file back.
pub fn read(bytes: Bytes) -> Result<Vec<RecordBatch>, ParquetError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()?;
    Ok(reader.collect::<Result<_, _>>()?)
}
