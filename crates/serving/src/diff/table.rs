//! Every changed cell as a row of a table.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, RecordBatch, StringBuilder, TimestampMicrosecondBuilder, UInt32Array, UInt64Array,
    UInt64Builder,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use engine::point_in_time::Winner;

use super::{Column, Comparison, unshown};
use crate::error::{Error, Result};
use crate::recorded::{RecordedSet, column};

/// Rows of a batch.
const BATCH_ROWS: usize = 65_536;

/// What stands beside the keys, in order.
const COLUMNS: [&str; 17] = [
    "at",
    "occurrence",
    "row_a",
    "row_b",
    "column",
    "class",
    "cause",
    "value_a",
    "value_b",
    "batch_a",
    "sequence_a",
    "valid_at_a",
    "known_at_a",
    "batch_b",
    "sequence_b",
    "valid_at_b",
    "known_at_b",
];

/// The keys as the first set has them, then what changed. A key that has the name of another column is called `key_…`.
pub fn schema(a: Option<&RecordedSet>, keys: &[String]) -> Result<SchemaRef> {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let mut fields = Vec::new();
    if let Some(a) = a {
        for key in keys {
            let name = if COLUMNS.contains(&key.as_str()) { format!("key_{key}") } else { key.clone() };
            fields.push(Field::new(name, column(&a.spine, key)?.data_type().clone(), true));
        }
    }
    for name in COLUMNS {
        let kind = match name {
            "at" => match a {
                Some(a) => a.at()?.data_type().clone(),
                None => time.clone(),
            },
            "occurrence" => DataType::UInt32,
            "row_a" | "row_b" | "sequence_a" | "sequence_b" => DataType::UInt64,
            "valid_at_a" | "known_at_a" | "valid_at_b" | "known_at_b" => time.clone(),
            _ => DataType::Utf8,
        };
        fields.push(Field::new(name, kind, true));
    }
    Ok(Arc::new(Schema::new(fields)))
}

pub fn rows(comparison: &Comparison, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    for column in &comparison.columns {
        for changes in column.changes.chunks(BATCH_ROWS) {
            batches.push(batch(comparison, column, changes, schema)?);
        }
    }
    Ok(batches)
}

fn batch(
    comparison: &Comparison,
    column: &Column,
    changes: &[(u32, super::Class)],
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let wrong = |error: arrow::error::ArrowError| Error::internal("the changes cannot be written", error);
    let pair = |place: &u32| comparison.alignment.pairs.get(*place as usize).copied().unwrap_or_default();
    let rows: UInt32Array = changes.iter().map(|(place, _)| Some(pair(place).0)).collect();
    let others = changes.iter().map(|(place, _)| u64::from(pair(place).1));
    let spine = &comparison.a.spine;
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for key in &comparison.keys {
        columns.push(take(super::column(spine, key)?, &rows, None).map_err(wrong)?);
    }
    columns.push(take(comparison.a.at()?, &rows, None).map_err(wrong)?);
    let occurrence = |row: &u32| comparison.occurrences.get(*row as usize).copied();
    columns.push(Arc::new(rows.values().iter().map(occurrence).collect::<UInt32Array>()));
    columns.push(Arc::new(UInt64Array::from_iter_values(rows.values().iter().map(|row| u64::from(*row)))));
    columns.push(Arc::new(UInt64Array::from_iter_values(others)));

    let mut texts: [StringBuilder; 5] = Default::default();
    let mut winners: [WinnerColumns; 2] = Default::default();
    let options = FormatOptions::default();
    let formatters = [&column.a, &column.b]
        .map(|values| ArrayFormatter::try_new(values.as_ref(), &options).map_err(unshown));
    let [a_text, b_text] = formatters;
    let (a_text, b_text) = (a_text?, b_text?);
    let sides = comparison.sides_of(column.source);
    for (place, class) in changes {
        let told = comparison.told(column.source, *place);
        texts[0].append_value(&column.name);
        texts[1].append_value(class.as_str());
        texts[2].append_value(told.cause.as_str());
        let at = *place as usize;
        for (values, text, into) in [(&column.a, &a_text, 3), (&column.b, &b_text, 4)] {
            if values.is_null(at) {
                texts[into].append_null();
            } else {
                texts[into].append_value(text.value(at).try_to_string().map_err(unshown)?);
            }
        }
        let index = sides.and_then(|sides| Some((sides, sides.winner(*place)?)));
        let [of_a, of_b] = &mut winners;
        match index {
            Some((sides, index)) => {
                of_a.append(sides.a.found.get(index).and_then(|found| found.as_ref().ok()));
                of_b.append(sides.b.found.get(index).and_then(|found| found.as_ref().ok()));
            }
            None => {
                of_a.append_none();
                of_b.append_none();
            }
        }
    }
    columns.extend(texts.iter_mut().map(|text| Arc::new(text.finish()) as ArrayRef));
    for winner in winners {
        columns.extend(winner.finish());
    }
    RecordBatch::try_new(schema.clone(), columns).map_err(wrong)
}

/// Where values came from: batch, sequence and times of the winner, null where no observation won.
#[derive(Default)]
struct WinnerColumns {
    batch: StringBuilder,
    sequence: UInt64Builder,
    valid_at: TimestampMicrosecondBuilder,
    known_at: TimestampMicrosecondBuilder,
}

impl WinnerColumns {
    fn append(&mut self, winner: Option<&Winner>) {
        let Some(winner) = winner else { return self.append_none() };
        self.batch.append_value(winner.batch.record.batch.to_string());
        self.sequence.append_value(winner.batch.by.sequence.0);
        self.valid_at.append_value(winner.valid_at.micros());
        self.known_at.append_value(winner.known_at.micros());
    }

    fn append_none(&mut self) {
        self.batch.append_null();
        self.sequence.append_null();
        self.valid_at.append_null();
        self.known_at.append_null();
    }

    fn finish(mut self) -> [ArrayRef; 4] {
        [
            Arc::new(self.batch.finish()),
            Arc::new(self.sequence.finish()),
            Arc::new(self.valid_at.finish().with_timezone("UTC")),
            Arc::new(self.known_at.finish().with_timezone("UTC")),
        ]
    }
}
