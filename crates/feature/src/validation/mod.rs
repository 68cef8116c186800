//! From a source's rows to the rows of a feature view: every row is accepted, or rejected with all its reasons.
//!
//! A source is any Arrow schema: from Parquet, CSV, Flight or pandas. Values become what the definition declares,
//! exactly or not at all: nothing is truncated, floored or guessed, and nothing is dropped without a word. CSV is best
//! read with all columns as text, so that each cell is judged by the declared type and not by one that was guessed
//! from the first rows.
//!
//! ```text
//! Validator::new(entity, view, schema)   what is wrong with the source as a whole, all of it at once
//!   .validate(batch, first_row)          converts, and finds what is wrong with each row
//!   .check(check, results)               adds cross-feature checks, evaluated elsewhere over .rows()
//!   .split()                             accepted rows | rejected rows with their reasons
//! ```

mod columns;
mod convert;
mod fault;
mod finder;
mod numbers;
mod outcome;
mod reason;
mod rules;
mod schema;
#[cfg(test)]
mod tests;
mod text;
mod times;

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::nullif;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use self::columns::{Column, Role};
use self::convert::{delayed, null_faults};
use self::fault::{Fault, Faults};
use self::finder::Finder;
pub use self::outcome::{REASONS, ROW, Split, Validated};
pub use self::reason::{Reason, ReasonError, Rejection};
use self::rules::FeatureRules;
pub use self::schema::{SchemaError, SchemaErrors};
use crate::datatype::FeatureType;
use crate::definition::{Entity, FeatureView, KnownAt, TimeRule};

/// The source column, and the column of accepted rows, that marks retractions.
pub const RETRACTED: &str = "_retracted";

/// The rules of one feature view over one source schema, ready to run over any number of its batches.
///
/// Where a batch is known by another rule than the view's usual one, hand in a view with that rule in `time.known_at`.
#[derive(Clone, Debug)]
pub struct Validator {
    source: SchemaRef,
    output: SchemaRef,
    /// As `output`, with every field nullable: rows that are still to be rejected have nulls anywhere.
    converted: SchemaRef,
    time: TimeRule,
    keys: Vec<Column>,
    valid_at: Column,
    known_at: Option<Column>,
    features: Vec<(Column, FeatureRules)>,
    /// The types of the features, where the source has retractions and none of the feature columns.
    absent: Vec<DataType>,
    retracted: Option<Column>,
}

/// Why a batch could not be validated at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ValidationError {
    #[error(
        "column `{column}` is {found} in this batch and {expected} in the source's schema; a source has one schema"
    )]
    SchemaChanged { column: String, expected: String, found: String },
    #[error("the check `{check}` gave {found} results for {rows} rows")]
    CheckLength { check: String, found: usize, rows: usize },
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

impl Validator {
    /// Finds the view's columns in the source.
    ///
    /// # Errors
    /// Everything that is wrong with the source as a whole, at once: columns that are missing, repeated, or of a type
    /// from which the declared one can never come, times without a zone, retractions of a view that has none.
    pub fn new(entity: &Entity, view: &FeatureView, source: &Schema) -> Result<Self, SchemaErrors> {
        let mut finder = Finder::new(view, source);
        let retracted = finder.has(RETRACTED);
        let only_retractions = retracted && !view.features.iter().any(|feature| finder.has(&feature.column));

        let keys = finder.keys(entity);
        let time = |role: Role| (role, FeatureType::Timestamp);
        let valid_at = finder.column(
            "valid_at",
            &view.time.valid_at,
            time(Role::ValidAt),
            "`valid_at`",
            view.name.as_str(),
        );
        let known_at = match &view.time.known_at {
            KnownAt::Column(column) => {
                finder.column("known_at", column, time(Role::KnownAt), "`known_at`", view.name.as_str())
            }
            KnownAt::Delay(_) | KnownAt::Assumed => {
                finder.fields.push(Field::new("known_at", FeatureType::Timestamp.arrow(), false));
                None
            }
            KnownAt::Arrival => None,
        };
        let mut features = Vec::new();
        let mut absent = Vec::new();
        for feature in &view.features {
            if only_retractions {
                finder.fields.push(Field::new(feature.name.as_str(), feature.data_type.arrow(), true));
                absent.push(feature.data_type.arrow());
            } else {
                features.extend(finder.feature(feature));
            }
        }
        let retracted = if retracted { finder.retracted() } else { None };

        let Finder { errors, fields, .. } = finder;
        let wrong = |errors| SchemaErrors {
            view: view.name.to_string(),
            errors,
            columns: source.fields().iter().map(|field| field.name().clone()).collect(),
        };
        let Some(valid_at) = valid_at.filter(|_| errors.is_empty()) else { return Err(wrong(errors)) };
        let nullable: Vec<Field> = fields.iter().map(|field| field.clone().with_nullable(true)).collect();
        Ok(Self {
            source: Arc::new(source.clone()),
            output: Arc::new(Schema::new(fields)),
            converted: Arc::new(Schema::new(nullable)),
            time: view.time.clone(),
            keys,
            valid_at,
            known_at,
            features,
            absent,
            retracted,
        })
    }

    /// Of accepted rows: the entity's keys, the occurrence where the view has one, `valid_at`, `known_at` unless that is
    /// arrival, the features, and `_retracted` where the source has it. Features alone are nullable, for a retraction has
    /// none.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }

    /// Of rejected rows: the source's columns (lists, structs and the like as text), then `_row` (the row's number in the
    /// source, from 0) and `_reasons` (a list of reason, column, value and message).
    pub fn rejected_schema(&self) -> SchemaRef {
        outcome::rejected_schema(&self.source)
    }

    /// Source columns that nothing is read from.
    pub fn unused_columns(&self) -> Vec<&str> {
        let used: HashSet<usize> = self.columns().map(|column| column.source).collect();
        let fields = self.source.fields().iter().enumerate();
        fields.filter(|(index, _)| !used.contains(index)).map(|(_, field)| field.name().as_str()).collect()
    }

    fn columns(&self) -> impl Iterator<Item = &Column> {
        let times = std::iter::once(&self.valid_at).chain(&self.known_at);
        let features = self.features.iter().map(|(column, _)| column);
        self.keys.iter().chain(times).chain(features).chain(&self.retracted)
    }

    /// Converts a batch, and finds what is wrong with each of its rows by every rule but the view's checks.
    ///
    /// `first_row` is the number of the batch's first row in the whole source, for messages.
    ///
    /// # Errors
    /// When the batch has not the schema that this was made for, or arrow cannot hold the result, such as more than 2 GiB of
    /// text in one column. What is wrong with a row is never an error.
    pub fn validate(&self, rows: &RecordBatch, first_row: u64) -> Result<Validated, ValidationError> {
        self.same_schema(rows)?;
        let mut rejections = Vec::new();
        let mut reject = |column: &Column, faults: &Faults| {
            column.reject(faults, rows, first_row, &self.time, &mut rejections)
        };
        let mut outputs: Vec<ArrayRef> = Vec::with_capacity(self.converted.fields().len());

        for column in &self.keys {
            outputs.push(needed(column, rows, &mut reject)?);
        }
        let valid_at = needed(&self.valid_at, rows, &mut reject)?;
        outputs.push(Arc::clone(&valid_at));
        match (&self.time.known_at, &self.known_at) {
            (KnownAt::Column(_), Some(column)) => outputs.push(needed(column, rows, &mut reject)?),
            (KnownAt::Delay(delay), _) => {
                let known_at = delayed(&valid_at, delay.micros());
                reject(&self.valid_at, &known_at.faults)?;
                outputs.push(known_at.array);
            }
            (KnownAt::Assumed, _) => outputs.push(valid_at),
            (KnownAt::Column(_), None) | (KnownAt::Arrival, _) => {}
        }

        // Whether a row retracts is known before its features are looked at, for then it needs none.
        let mut retractions = None;
        let mut marked = None;
        let mut unmarked = (Faults::new(), Faults::new());
        if let Some(column) = &self.retracted {
            let converted = column.convert(rows)?;
            let nulls = column.nulls(&converted);
            let marks = converted.array.as_boolean().clone();
            if !self.absent.is_empty() {
                let takes = |row: &usize| marks.is_valid(*row) && !marks.value(*row);
                unmarked.1 = (0..marks.len()).filter(takes).map(|row| (row, Fault::NothingToTake)).collect();
            }
            unmarked.0 = merged(converted.faults, nulls);
            let known: BooleanArray = marks.iter().map(|mark| Some(mark == Some(true))).collect();
            retractions = (known.true_count() > 0).then_some(known);
            marked = Some(converted.array);
        }
        for data_type in &self.absent {
            outputs.push(new_null_array(data_type, rows.num_rows()));
        }
        for (column, rules) in &self.features {
            let (array, faults) = feature(column, rules, rows, retractions.as_ref())?;
            reject(column, &faults)?;
            outputs.push(array);
        }
        if let Some(column) = &self.retracted {
            reject(column, &unmarked.0)?;
            reject(column, &unmarked.1)?;
        }
        outputs.extend(marked);

        rejections.sort_by_key(|rejection| rejection.index);
        Ok(Validated {
            rows: RecordBatch::try_new(Arc::clone(&self.converted), outputs)?,
            source: rows.clone(),
            accepted: Arc::clone(&self.output),
            first_row,
            retracted: retractions,
            rejections,
        })
    }

    fn same_schema(&self, rows: &RecordBatch) -> Result<(), ValidationError> {
        let schema = rows.schema();
        if schema.fields().len() != self.source.fields().len() {
            return Err(ValidationError::SchemaChanged {
                column: "*".to_owned(),
                expected: format!("one of {} columns", self.source.fields().len()),
                found: format!("one of {} columns", schema.fields().len()),
            });
        }
        for (expected, found) in self.source.fields().iter().zip(schema.fields()) {
            if expected.name() != found.name() || expected.data_type() != found.data_type() {
                return Err(ValidationError::SchemaChanged {
                    column: expected.name().clone(),
                    expected: expected.data_type().to_string(),
                    found: format!("`{}`, {}", found.name(), found.data_type()),
                });
            }
        }
        Ok(())
    }
}

/// A key or a time: every row needs a value.
fn needed(
    column: &Column,
    rows: &RecordBatch,
    reject: &mut impl FnMut(&Column, &Faults) -> Result<(), ArrowError>,
) -> Result<ArrayRef, ArrowError> {
    let converted = column.convert(rows)?;
    let nulls = column.nulls(&converted);
    reject(column, &merged(converted.faults, nulls))?;
    Ok(converted.array)
}

/// A feature's cells by all its rules. Retractions have none, whatever the source holds there.
fn feature(
    column: &Column,
    rules: &FeatureRules,
    rows: &RecordBatch,
    retracted: Option<&BooleanArray>,
) -> Result<(ArrayRef, Faults), ArrowError> {
    let converted = column.convert(rows)?;
    let nulls = if rules.nullable { Faults::new() } else { column.nulls(&converted) };
    let broken = rules.rules.faults(&converted.array);
    let mut array = null_faults(&converted.array, &broken)?;
    let mut faults = merged(merged(converted.faults, nulls), broken);
    if let Some(retracted) = retracted {
        faults.retain(|(row, _)| !retracted.value(*row));
        array = nullif(&array, retracted)?;
    }
    Ok((array, faults))
}

/// Both lists in the order of rows.
fn merged(mut faults: Faults, more: Faults) -> Faults {
    if faults.is_empty() {
        return more;
    }
    if !more.is_empty() {
        faults.extend(more);
        faults.sort_by_key(|(row, _)| *row);
    }
    faults
}
