//! What a failed case was about, as small tables.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::pretty::pretty_format_batches;
use feature::{Span, Timestamp};

use super::reference::Cell;
use super::spine::Rows;
use super::world::{Known, key_name};
use crate::suite::values::Value;

fn time(micros: i64) -> String {
    Timestamp(micros).to_string()
}

fn text(value: Option<&Value>) -> String {
    value.map_or("-".to_owned(), Value::to_string)
}

fn table(head: Vec<String>, lines: Vec<Vec<String>>) -> String {
    let columns = head.into_iter().enumerate().map(|(place, name)| {
        let column = StringArray::from_iter_values(lines.iter().map(|line| &line[place]));
        (Field::new(name, DataType::Utf8, false), Arc::new(column) as ArrayRef)
    });
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.unzip();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    pretty_format_batches(&[batch]).unwrap().to_string()
}

/// The versions of a view and all of its rows, in the order in which they came.
pub fn view(view: &Known) -> String {
    let mut told = String::new();
    for version in &view.versions {
        told += &format!("{}@{}: ", view.name, version.number);
        for feature in &version.features {
            told += &format!("{} ({}", view.feature_name(*feature), view.feature_arrow(*feature));
            if let Some(default) = view.default(version, *feature) {
                told += &format!(", default {default}");
            }
            told += "), ";
        }
        let ttl = version.ttl.and_then(Span::from_micros).map_or("none".to_owned(), |ttl| ttl.to_string());
        told += &format!("ttl {ttl}, known_at {:?}, line of version {}\n", version.rule, version.line);
    }
    let features: Vec<usize> = (0..super::scenario::FEATURES)
        .filter(|feature| view.versions.iter().any(|version| version.features.contains(feature)))
        .collect();
    let mut head = vec!["sequence".to_owned(), "line".to_owned()];
    head.extend(view.keys.iter().map(|key| key_name(*key).to_owned()));
    head.extend(["valid_at", "known_at", "retracted"].map(str::to_owned));
    head.extend(features.iter().map(|feature| view.feature_name(*feature)));
    let lines = view.rows().map(|(line, row)| {
        let mut cells = vec![row.sequence.to_string(), line.to_string()];
        cells.extend(row.key.iter().map(Value::to_string));
        cells.extend([
            time(row.valid_at),
            time(row.known_at),
            if row.retracted { "yes" } else { "" }.to_owned(),
        ]);
        cells.extend(features.iter().map(|feature| match row.values.get(feature) {
            Some(value) => text(value.as_ref()),
            None => "not in batch".to_owned(),
        }));
        cells
    });
    told + &table(head, lines.collect())
}

pub fn spine(rows: &Rows) -> String {
    pretty_format_batches(std::slice::from_ref(&rows.whole)).unwrap().to_string()
}

/// Marks a row of [`answers`].
pub const WRONG: &str = "<-- wrong";

/// A spine, with what each row should have got and what it got.
pub fn answers(rows: &Rows, expected: &[Cell], found: &[Option<Value>]) -> String {
    let mut fields: Vec<Field> =
        rows.whole.schema().fields().iter().map(|field| Field::clone(field)).collect();
    let mut columns = rows.whole.columns().to_vec();
    let mut add = |name: &str, values: Vec<String>| {
        fields.push(Field::new(name, DataType::Utf8, false));
        columns.push(Arc::new(StringArray::from(values)));
    };
    let told = |cell: &Cell| match cell {
        Cell::Value(value) => value.to_string(),
        Cell::Default(value) => format!("{value} (default)"),
        Cell::Null(reason) => format!("- ({})", reason.text()),
    };
    add("expected", expected.iter().map(told).collect());
    add("got", found.iter().map(|value| text(value.as_ref())).collect());
    let wrong = expected.iter().zip(found).map(|(expected, found)| expected.value() != found.as_ref());
    add("", wrong.map(|wrong| if wrong { WRONG } else { "" }.to_owned()).collect());
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    pretty_format_batches(&[batch]).unwrap().to_string()
}

/// Rows of values without a head.
pub fn lines(lines: &[Vec<Option<Value>>]) -> String {
    let Some(first) = lines.first() else { return "no rows".to_owned() };
    let head = (1..=first.len()).map(|place| place.to_string()).collect();
    table(head, lines.iter().map(|line| line.iter().map(|value| text(value.as_ref())).collect()).collect())
}
