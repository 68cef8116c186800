//! Validation of what is to be ingested: rows that pass, and what is to be said of those that do not.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, mpsc};

use arrow::array::RecordBatch;
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use feature::BatchId;
use feature::profile::BatchProfile;
use feature::validation::{Reason, Rejection, Split, Validator};

use super::quarantine::Quarantine;
use super::{EXAMPLES, OnProgress, Progress, Report, Rows, Skipped, Stage, nothing_new, row_schema};
use crate::conditions::{Condition, Conditions};
use crate::error::{Error, Result};
use crate::state::ViewVersion;

/// Rows that passed, and what is to be said of those that did not.
pub struct CheckedRows {
    pub rows: RecordBatch,
    pub rejected: u64,
    /// Which they are: by input, and number in it.
    pub rejected_places: HashSet<(usize, u64)>,
    pub filtered: u64,
    reasons: BTreeMap<(Reason, String), u64>,
    examples: Vec<String>,
    pub quarantine: Option<Bytes>,
    /// Of the rows that passed.
    pub profile: BatchProfile,
}

impl CheckedRows {
    pub fn report(&self, version: &ViewVersion, batch: BatchId, skipped: Skipped) -> Report {
        let mut reasons: Vec<_> =
            self.reasons.iter().map(|((reason, column), count)| (*reason, column.clone(), *count)).collect();
        reasons.sort_by_key(|(_, _, count)| std::cmp::Reverse(*count));
        Report {
            batch: Some(batch),
            rows: self.rows.num_rows() as u64,
            rejected: self.rejected,
            reasons,
            examples: self.examples.clone(),
            filtered: self.filtered,
            ..nothing_new(version, skipped)
        }
    }
}

/// Batches of rows that passed and wait to be profiled.
const TO_PROFILE: usize = 2;

/// Validates rows one by one: declared types, rules and checks. `filter` applies the source's `where` first. Rows that passed are
/// profiled while the next are validated.
pub fn check_rows(
    version: &ViewVersion,
    inputs: Vec<Rows>,
    filter: bool,
    conditions: &dyn Conditions,
    progress: &OnProgress,
) -> Result<CheckedRows> {
    let features = &version.definition.features;
    let (passed, to_profile) = mpsc::sync_channel::<RecordBatch>(TO_PROFILE);
    std::thread::scope(|scope| {
        let profiling = scope.spawn(move || {
            let mut profile = BatchProfile::of(features);
            to_profile.into_iter().try_for_each(|rows| profile.add(&rows)).map(|()| profile)
        });
        let checked = check_each(version, inputs, filter, conditions, progress, passed);
        let profile = profiling.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let mut checked = checked?;
        let source = std::mem::take(&mut checked.profile.source);
        checked.profile = profile.map_err(|error| Error::internal("profiling accepted rows", error))?;
        checked.profile.source = source;
        Ok(checked)
    })
}

/// The same without the profile, whose rows are passed on.
fn check_each(
    version: &ViewVersion,
    inputs: Vec<Rows>,
    filter: bool,
    conditions: &dyn Conditions,
    progress: &OnProgress,
    passed: mpsc::SyncSender<RecordBatch>,
) -> Result<CheckedRows> {
    let view = &version.definition;
    let of = inputs.iter().map(Rows::count).sum();
    let mut checks: Option<(SchemaRef, Vec<Arc<dyn Condition>>)> = None;
    let mut accepted = Vec::new();
    let mut schema: Option<SchemaRef> = None;
    let mut quarantine = Quarantine::new();
    let mut checked = CheckedRows {
        rows: RecordBatch::new_empty(Arc::new(row_schema(&version.entity, view))),
        rejected: 0,
        rejected_places: HashSet::new(),
        filtered: 0,
        reasons: BTreeMap::new(),
        examples: Vec::new(),
        quarantine: None,
        profile: BatchProfile::of(&view.features),
    };
    let mut done = 0;
    for (input, rows) in inputs.into_iter().enumerate() {
        let validator = fit(version, &rows)?;
        for field in rows.schema.fields() {
            checked.profile.source.insert(field.name().clone(), field.data_type().to_string());
        }
        let condition = match view.source.as_ref().and_then(|source| source.filter.as_ref()) {
            Some(sql) if filter => Some(conditions.compile(sql, &rows.schema).map_err(|why| {
                Error::Invalid(format!("the `where` of `{}`'s source, `{sql}`: {why}", version.label()))
            })?),
            _ => None,
        };
        let output = validator.output_schema();
        if checks.as_ref().is_none_or(|(known, _)| *known != output) {
            checks = Some((output.clone(), compile_checks(version, conditions, &output)?));
        }
        if let Some(schema) = &schema
            && *schema != output
        {
            return Err(Error::Invalid(format!(
                "{} has a `_retracted` column and another file has none; ingest them one by one",
                rows.origin
            )));
        }
        schema = Some(output);
        let mut first_row = 0;
        for batch in &rows.batches {
            let count = batch.num_rows() as u64;
            let (kept, keep) = match &condition {
                Some(condition) => {
                    let keep = condition.evaluate(batch).map_err(Error::Invalid)?;
                    let kept = filter_record_batch(batch, &keep)
                        .map_err(|error| Error::internal("filtering", error))?;
                    checked.filtered += count - kept.num_rows() as u64;
                    (kept, Some(keep))
                }
                None => (batch.clone(), None),
            };
            let compiled = checks.as_ref().map_or(&[][..], |(_, compiled)| compiled.as_slice());
            let mut split = split(version, &validator, compiled, &kept, first_row)?;
            if !split.rejections.is_empty() {
                quarantine
                    .add(&rows.origin, &kept, &mut split.rejections, keep.as_ref(), first_row)
                    .map_err(|error| Error::internal("keeping rejected rows", error))?;
                note_rejections(&mut checked, input, &rows.origin, &split.rejections);
            }
            // Who does not take them any more says why.
            _ = passed.send(split.accepted.clone());
            accepted.push(split.accepted);
            first_row += count;
            done += count;
            progress(Progress { stage: Stage::Validating, rows: done, of });
        }
    }
    if let Some(schema) = schema {
        checked.rows = concat_batches(&schema, &accepted)
            .map_err(|error| Error::internal("joining accepted rows", error))?;
    }
    if checked.rejected > 0 {
        let bytes = quarantine.finish().map_err(|error| Error::internal("writing rejected rows", error))?;
        checked.quarantine = Some(bytes);
    }
    Ok(checked)
}

/// The checks of a version, for rows of these columns.
pub fn compile_checks(
    version: &ViewVersion,
    conditions: &dyn Conditions,
    output: &SchemaRef,
) -> Result<Vec<Arc<dyn Condition>>> {
    let compiled = version.definition.checks.iter().map(|check| {
        conditions
            .compile(&check.sql, output)
            .map_err(|why| Error::Invalid(format!("check `{}` of `{}`: {why}", check.name, version.label())))
    });
    compiled.collect()
}

/// The rows of a batch that pass, and the rejections of the others.
pub fn split(
    version: &ViewVersion,
    validator: &Validator,
    checks: &[Arc<dyn Condition>],
    rows: &RecordBatch,
    first_row: u64,
) -> Result<Split> {
    let mut validated =
        validator.validate(rows, first_row).map_err(|error| Error::Invalid(error.to_string()))?;
    for (check, condition) in version.definition.checks.iter().zip(checks) {
        let passes = condition.evaluate(validated.rows()).map_err(Error::Invalid)?;
        validated
            .check(check, &passes)
            .map_err(|error| Error::internal("a check gave a wrong answer", error))?;
    }
    validated.split().map_err(|error| Error::internal("splitting accepted rows", error))
}

/// A validator for these rows.
///
/// # Errors
/// `Invalid` where their columns are not those that the version reads.
pub fn fit(version: &ViewVersion, rows: &Rows) -> Result<Validator> {
    Validator::new(&version.entity, &version.definition, &rows.schema).map_err(|errors| {
        Error::Invalid(format!("{} does not fit `{}`: {errors}", rows.origin, version.label()))
    })
}

fn note_rejections(checked: &mut CheckedRows, input: usize, origin: &str, rejections: &[Rejection]) {
    let mut last = None;
    for rejection in rejections {
        if last != Some(rejection.row) {
            checked.rejected += 1;
            checked.rejected_places.insert((input, rejection.row));
            last = Some(rejection.row);
        }
        *checked.reasons.entry((rejection.reason, rejection.column.to_string())).or_default() += 1;
        if checked.examples.len() < EXAMPLES {
            checked.examples.push(format!("{origin}, {}", rejection.message()));
        }
    }
}
