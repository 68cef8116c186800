//! Validation of the parts of one view: all rows of one schema at once, and a verdict for each part.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use feature::profile::BatchProfile;
use feature::validation::{Rejection, Validator};

use super::super::checking::{compile_checks, fit, split};
use super::super::quarantine::Quarantine;
use super::super::{EXAMPLES, Rows};
use crate::conditions::{Condition, Conditions};
use crate::error::{Error, Result};
use crate::state::ViewVersion;

/// Rows of one part, by what people call it.
pub struct Offered {
    pub origin: String,
    pub rows: RecordBatch,
}

/// What is to be said of one part.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Rows that are taken.
    pub rows: u64,
    pub rejected: u64,
    /// More was rejected than the view bears.
    pub refused: bool,
    pub examples: Vec<String>,
}

/// The parts of one view, in their order.
pub struct CheckedParts {
    /// An error where a part cannot be validated at all.
    pub verdicts: Vec<Result<Verdict>>,
    /// All rows that are taken.
    pub rows: RecordBatch,
    /// Rejected rows of parts that are taken.
    pub quarantine: Option<Bytes>,
    /// Rejected rows of parts that are refused.
    pub refused: Option<Bytes>,
    /// Of all rows that are taken.
    pub profile: BatchProfile,
}

/// A part's rows that passed, and the rejections of the others, counted from its first row.
struct Passed {
    rows: RecordBatch,
    rejections: Vec<Rejection>,
}

/// Validates parts one by one, as an ingest does a batch.
pub fn check_parts(
    version: &ViewVersion,
    parts: &[Offered],
    conditions: &dyn Conditions,
) -> Result<CheckedParts> {
    let mut passed: Vec<Option<Result<Passed>>> = parts.iter().map(|_| None).collect();
    for (schema, members) in by_schema(parts) {
        for (member, one) in members.iter().zip(of_one_schema(version, &schema, parts, &members, conditions))
        {
            passed[*member] = Some(one);
        }
    }
    let threshold = version.definition.reject_above.unwrap_or(1.0);
    let mut verdicts = Vec::with_capacity(parts.len());
    let mut taken = Vec::new();
    let (mut quarantine, mut refused) = (Kept::new(), Kept::new());
    for (part, one) in parts.iter().zip(passed) {
        let one = one.unwrap_or_else(|| Err(Error::internal("validation", "a part was passed over")));
        let mut one = match one {
            Ok(one) => one,
            Err(error) => {
                verdicts.push(Err(error));
                continue;
            }
        };
        let mut verdict = Verdict { rows: one.rows.num_rows() as u64, ..Verdict::default() };
        let mut last = None;
        for rejection in &one.rejections {
            verdict.rejected += u64::from(last != Some(rejection.row));
            last = Some(rejection.row);
            if verdict.examples.len() < EXAMPLES {
                verdict.examples.push(format!("{}, {}", part.origin, rejection.message()));
            }
        }
        let total = verdict.rows + verdict.rejected;
        verdict.refused = verdict.rows == 0 || verdict.rejected as f64 > threshold * total as f64;
        let kept = if verdict.refused { &mut refused } else { &mut quarantine };
        kept.add(part, &mut one.rejections)?;
        if verdict.refused {
            verdict.rows = 0;
        } else {
            taken.push(one.rows);
        }
        verdicts.push(Ok(verdict));
    }
    let rows = joined(taken)?;
    let mut profile = BatchProfile::of(&version.definition.features);
    profile.add(&rows).map_err(|error| Error::internal("profiling accepted rows", error))?;
    Ok(CheckedParts { verdicts, rows, profile, quarantine: quarantine.bytes()?, refused: refused.bytes()? })
}

/// Rejected rows, none at first.
struct Kept(Option<Quarantine>);

impl Kept {
    fn new() -> Self {
        Self(None)
    }

    fn add(&mut self, part: &Offered, rejections: &mut [Rejection]) -> Result<()> {
        if rejections.is_empty() {
            return Ok(());
        }
        self.0
            .get_or_insert_with(Quarantine::new)
            .add(&part.origin, &part.rows, rejections, None, 0)
            .map_err(|error| Error::internal("keeping rejected rows", error))
    }

    fn bytes(self) -> Result<Option<Bytes>> {
        let finished = self.0.map(Quarantine::finish).transpose();
        finished.map_err(|error| Error::internal("writing rejected rows", error))
    }
}

/// Places of the parts by their columns, in the order in which those came.
fn by_schema(parts: &[Offered]) -> Vec<(SchemaRef, Vec<usize>)> {
    let mut groups: Vec<(SchemaRef, Vec<usize>)> = Vec::new();
    for (place, part) in parts.iter().enumerate() {
        let schema = part.rows.schema_ref();
        match groups.iter_mut().find(|(known, _)| Arc::ptr_eq(known, schema) || known == schema) {
            Some((_, members)) => members.push(place),
            None => groups.push((schema.clone(), vec![place])),
        }
    }
    groups
}

/// One result for each member.
fn of_one_schema(
    version: &ViewVersion,
    schema: &SchemaRef,
    parts: &[Offered],
    members: &[usize],
    conditions: &dyn Conditions,
) -> Vec<Result<Passed>> {
    let origin = members.first().map_or_else(String::new, |first| parts[*first].origin.clone());
    let prepared =
        fit(version, &Rows::from_batches(origin, schema.clone(), Vec::new())).and_then(|validator| {
            let checks = compile_checks(version, conditions, &validator.output_schema())?;
            Ok((validator, checks))
        });
    let (validator, checks) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            let error = Arc::new(error);
            return members.iter().map(|_| Err(Error::Shared(error.clone()))).collect();
        }
    };
    let rows: Vec<&RecordBatch> = members.iter().map(|member| &parts[*member].rows).collect();
    // What cannot be joined or validated together is tried one by one, so that the fault stays with its part.
    if let Ok(whole) = concat_batches(schema, rows.iter().copied())
        && let Ok(passed) = pass(version, &validator, &checks, &whole, &rows)
    {
        return passed.into_iter().map(Ok).collect();
    }
    let alone = |rows: &&RecordBatch| {
        let mut passed = pass(version, &validator, &checks, rows, &[*rows])?;
        passed.pop().ok_or_else(|| Error::internal("validation", "a part gave nothing"))
    };
    rows.iter().map(alone).collect()
}

/// Validates rows that are those of these parts, one after another.
fn pass(
    version: &ViewVersion,
    validator: &Validator,
    checks: &[Arc<dyn Condition>],
    whole: &RecordBatch,
    parts: &[&RecordBatch],
) -> Result<Vec<Passed>> {
    let all = split(version, validator, checks, whole, 0)?;
    let mut rejections = all.rejections.into_iter().peekable();
    let (mut row, mut accepted) = (0, 0);
    let mut passed = Vec::with_capacity(parts.len());
    for part in parts {
        let until = row + part.num_rows();
        let mut own = Vec::new();
        let (mut rejected, mut last) = (0, None);
        while let Some(mut rejection) = rejections.next_if(|rejection| rejection.index < until) {
            rejected += usize::from(last != Some(rejection.index));
            last = Some(rejection.index);
            rejection.index -= row;
            rejection.row = rejection.index as u64;
            own.push(rejection);
        }
        let taken = part.num_rows().saturating_sub(rejected);
        passed.push(Passed { rows: all.accepted.slice(accepted, taken), rejections: own });
        accepted += taken;
        row = until;
    }
    if accepted != all.accepted.num_rows() || rejections.next().is_some() {
        return Err(Error::internal("validation", "rows and rejections do not add up to the parts"));
    }
    Ok(passed)
}

/// Rows that may differ in whether they have the column of retractions.
fn joined(taken: Vec<RecordBatch>) -> Result<RecordBatch> {
    let failed = |error| Error::internal("joining accepted rows", error);
    let Some(widest) = taken.iter().map(RecordBatch::schema).max_by_key(|schema| schema.fields().len())
    else {
        return Ok(RecordBatch::new_empty(Arc::new(Schema::empty())));
    };
    let alike: Vec<RecordBatch> = taken
        .into_iter()
        .map(|rows| if rows.schema() == widest { Ok(rows) } else { widened(&rows, &widest) })
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    concat_batches(&widest, &alike).map_err(failed)
}

/// Rows with the columns of others: what they lack says that none is retracted.
fn widened(rows: &RecordBatch, to: &SchemaRef) -> Result<RecordBatch, arrow::error::ArrowError> {
    let column = |field: &Arc<Field>| -> ArrayRef {
        match rows.column_by_name(field.name()) {
            Some(column) => column.clone(),
            None if *field.data_type() == DataType::Boolean => {
                Arc::new(BooleanArray::from(vec![false; rows.num_rows()]))
            }
            None => arrow::array::new_null_array(field.data_type(), rows.num_rows()),
        }
    };
    RecordBatch::try_new(to.clone(), to.fields().iter().map(column).collect())
}
