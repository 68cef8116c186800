//! What validation leaves: the converted rows with what is wrong with each, then accepted rows and rejected rows apart.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, ListArray, RecordBatch, RecordBatchOptions, StringArray, StructArray,
    UInt32Array, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, filter_record_batch, take};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::ValidationError;
use super::columns::Values;
use super::reason::{Reason, Rejection};
use crate::definition::Check;

/// The columns that rejected rows have beside the source's own; a source's columns of these names are left out.
pub const ROW: &str = "_row";
pub const REASONS: &str = "_reasons";

/// A batch after all rules but the cross-feature checks, which another crate evaluates over `rows` and hands to `check`.
#[derive(Clone, Debug)]
pub struct Validated {
    pub(super) rows: RecordBatch,
    pub(super) source: RecordBatch,
    pub(super) accepted: SchemaRef,
    pub(super) first_row: u64,
    pub(super) retracted: Option<BooleanArray>,
    pub(super) rejections: Vec<Rejection>,
}

/// A batch's rows after every rule and check.
#[derive(Clone, Debug)]
pub struct Split {
    /// The accepted rows in the source's order, with `Validator::output_schema`.
    pub accepted: RecordBatch,
    /// The rejected rows in the source's order, with `Validator::rejected_schema`.
    pub rejected: RecordBatch,
    /// Why, in the order of rows; one or more for each rejected row.
    pub rejections: Vec<Rejection>,
}

impl Validated {
    /// One row per source row, accepted or not, converted to the declared types. A cell that is null was null, or faulty;
    /// all features of a retraction are null. Every field is nullable here.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// In the order of rows; within a row in the order of the view's columns, then of the checks.
    pub fn rejections(&self) -> &[Rejection] {
        &self.rejections
    }

    /// Rejects the rows in which a check is false. Null passes, as in SQL; so do retractions, which have no values, and rows
    /// in which a value that the check names was faulty, for the check saw null in its place.
    ///
    /// # Errors
    /// When there is not one result for each row.
    pub fn check(&mut self, check: &Check, results: &BooleanArray) -> Result<(), ValidationError> {
        if results.len() != self.rows.num_rows() {
            let (found, rows) = (results.len(), self.rows.num_rows());
            return Err(ValidationError::CheckLength { check: check.name.to_string(), found, rows });
        }
        if results.true_count() + results.null_count() == results.len() {
            return Ok(());
        }
        let schema = self.rows.schema();
        let named: Vec<usize> = named_columns(&check.sql, &schema);
        let mut values = Vec::new();
        for column in &named {
            values.push((schema.field(*column).name().clone(), Values::new(self.rows.column(*column))?));
        }
        let name: Arc<str> = check.name.as_str().into();
        let phrase: Arc<str> = format!("`{}` is false", check.sql.trim()).into();
        let mut found = Vec::new();
        let mut known = self.rejections.iter().peekable();
        for index in 0..results.len() {
            let mut faulty = false;
            while let Some(rejection) = known.next_if(|rejection| rejection.index <= index) {
                faulty |= rejection.index == index
                    && rejection.output.is_some_and(|output| named.contains(&output));
            }
            let retracted = self.retracted.as_ref().is_some_and(|retracted| retracted.value(index));
            if results.is_null(index) || results.value(index) || retracted || faulty {
                continue;
            }
            let value: Vec<String> =
                values.iter().map(|(name, values)| format!("{name} = {}", values.text(index))).collect();
            found.push(Rejection {
                row: self.first_row + index as u64,
                index,
                reason: Reason::Check,
                column: Arc::clone(&name),
                value: value.join(", "),
                phrase: Arc::clone(&phrase),
                output: None,
            });
        }
        self.rejections.extend(found);
        self.rejections.sort_by_key(|rejection| rejection.index);
        Ok(())
    }

    /// Accepted rows and rejected rows apart.
    ///
    /// # Errors
    /// Only where arrow cannot hold the result, such as more than 2 GiB of text in one column.
    pub fn split(self) -> Result<Split, ValidationError> {
        let rejected = rejected_rows(&self.source, &self.rejections, self.first_row)?;
        let kept = if self.rejections.is_empty() {
            self.rows
        } else {
            let mut keep = vec![true; self.rows.num_rows()];
            for rejection in &self.rejections {
                keep[rejection.index] = false;
            }
            filter_record_batch(&self.rows, &BooleanArray::from(keep))?
        };
        let accepted = RecordBatch::try_new(self.accepted, kept.columns().to_vec())?;
        Ok(Split { accepted, rejected, rejections: self.rejections })
    }
}

/// The columns whose names stand in an expression. Texts in it may name one too many, which only makes a message longer.
fn named_columns(sql: &str, schema: &Schema) -> Vec<usize> {
    let mut named = Vec::new();
    for word in sql.split(|c: char| !(c.is_alphanumeric() || c == '_')) {
        let column = schema.index_of(word).or_else(|_| schema.index_of(&word.to_ascii_lowercase()));
        if let Ok(column) = column
            && !named.contains(&column)
        {
            named.push(column);
        }
    }
    named
}

fn reason_fields() -> Fields {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    vec![text("reason"), text("column"), text("value"), text("message")].into()
}

/// The source's columns, nested ones as text, then `_row` and `_reasons`.
pub(super) fn rejected_schema(source: &Schema) -> SchemaRef {
    let mut fields = Vec::new();
    for column in kept_columns(source) {
        let field = source.field(column);
        fields.push(Field::new(field.name(), kept_type(field.data_type()), true));
    }
    fields.push(Field::new(ROW, DataType::UInt64, false));
    let item = Field::new("item", DataType::Struct(reason_fields()), false);
    fields.push(Field::new(REASONS, DataType::List(Arc::new(item)), false));
    Arc::new(Schema::new(fields))
}

fn kept_columns(source: &Schema) -> impl Iterator<Item = usize> {
    let kept = |column: &usize| ![ROW, REASONS].contains(&source.field(*column).name().as_str());
    (0..source.fields().len()).filter(kept)
}

/// The type in which a rejected row keeps a value: its own where a Parquet file and every reader has it, else text.
fn kept_type(own: &DataType) -> DataType {
    match own {
        DataType::Dictionary(_, values) => kept_type(values),
        DataType::RunEndEncoded(_, values) => kept_type(values.data_type()),
        DataType::Interval(_) | DataType::Duration(_) | DataType::Float16 => DataType::Utf8,
        own if own.is_nested() => DataType::Utf8,
        own => own.clone(),
    }
}

fn kept_values(column: &ArrayRef, rows: &UInt32Array) -> Result<ArrayRef, ArrowError> {
    let taken = take(column, rows, None)?;
    let kept = kept_type(taken.data_type());
    if *taken.data_type() == kept {
        return Ok(taken);
    }
    if let DataType::Dictionary(..) | DataType::RunEndEncoded(..) = taken.data_type() {
        let plain = match column.data_type() {
            DataType::Dictionary(_, values) => cast(&taken, values)?,
            DataType::RunEndEncoded(_, values) => cast(&taken, values.data_type())?,
            _ => Arc::clone(&taken),
        };
        let all: UInt32Array = (0..plain.len() as u32).collect();
        return kept_values(&plain, &all);
    }
    let options = FormatOptions::new();
    let cells = ArrayFormatter::try_new(&taken, &options)?;
    let mut texts = Vec::with_capacity(taken.len());
    for row in 0..taken.len() {
        texts.push(taken.is_valid(row).then(|| cells.value(row).to_string()));
    }
    Ok(Arc::new(StringArray::from(texts)))
}

fn rejected_rows(
    source: &RecordBatch,
    rejections: &[Rejection],
    first_row: u64,
) -> Result<RecordBatch, ArrowError> {
    let schema = rejected_schema(&source.schema());
    let mut rows: Vec<u32> = Vec::new();
    let mut reasons_per_row: Vec<usize> = Vec::new();
    for rejection in rejections {
        let row =
            u32::try_from(rejection.index).map_err(|_| ArrowError::OffsetOverflowError(rejection.index))?;
        match reasons_per_row.last_mut() {
            Some(reasons) if rows.last() == Some(&row) => *reasons += 1,
            _ => {
                rows.push(row);
                reasons_per_row.push(1);
            }
        }
    }
    let numbers: UInt64Array = rows.iter().map(|row| first_row + u64::from(*row)).collect();
    let count = rows.len();
    let rows = UInt32Array::from(rows);
    let mut columns = Vec::with_capacity(schema.fields().len());
    for column in kept_columns(&source.schema()) {
        columns.push(kept_values(source.column(column), &rows)?);
    }
    columns.push(Arc::new(numbers));
    let text = |of: fn(&Rejection) -> String| -> ArrayRef {
        Arc::new(rejections.iter().map(|rejection| Some(of(rejection))).collect::<StringArray>())
    };
    let reasons = StructArray::new(
        reason_fields(),
        vec![
            text(|rejection| rejection.reason.to_string()),
            text(|rejection| rejection.column.to_string()),
            text(|rejection| rejection.value.clone()),
            text(Rejection::message),
        ],
        None,
    );
    let item = Field::new("item", DataType::Struct(reason_fields()), false);
    let offsets = OffsetBuffer::from_lengths(reasons_per_row);
    columns.push(Arc::new(ListArray::try_new(Arc::new(item), offsets, Arc::new(reasons), None)?));
    RecordBatch::try_new_with_options(schema, columns, &RecordBatchOptions::new().with_row_count(Some(count)))
}
