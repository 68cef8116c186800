//! Small tables, written as text: the first line has name and type of each column, `|` stands between cells, `null` is null.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

/// The table that a text shows.
pub fn table(text: &str) -> RecordBatch {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let header = lines.next().unwrap_or_else(|| panic!("a table needs a first line"));
    let mut names = Vec::new();
    let mut types = Vec::new();
    for column in header.split('|') {
        let (name, kind) = column.trim().split_once(' ').unwrap_or_else(|| panic!("{column} has no type"));
        names.push(name);
        types.push(data_type(kind.trim()));
    }
    let mut cells: Vec<Vec<Option<&str>>> = vec![Vec::new(); names.len()];
    for line in lines {
        let row: Vec<&str> = line.split('|').map(str::trim).collect();
        assert_eq!(row.len(), names.len(), "{line}");
        for (column, cell) in cells.iter_mut().zip(row) {
            column.push((cell != "null").then_some(cell));
        }
    }
    let rows = cells[0].len();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (cells, kind) in cells.into_iter().zip(&types) {
        // Nothing that is written here may become null by the way.
        let options = CastOptions { safe: false, ..CastOptions::default() };
        columns.push(cast_with_options(&StringArray::from(cells), kind, &options).unwrap());
    }
    let fields: Vec<Field> =
        names.iter().zip(types).map(|(name, kind)| Field::new(*name, kind, true)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).unwrap()
}

fn data_type(text: &str) -> DataType {
    match text {
        "bool" => DataType::Boolean,
        "int32" => DataType::Int32,
        "int64" => DataType::Int64,
        "float64" => DataType::Float64,
        "string" => DataType::Utf8,
        "date" => DataType::Date32,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "timestamp_ns" => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
        "timestamp_without_zone" => DataType::Timestamp(TimeUnit::Microsecond, None),
        other => panic!("tests write no {other}"),
    }
}
