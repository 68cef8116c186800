//! What an audit found in a column: counts, examples, and every finding as a row of a table.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder, UInt32Array,
    UInt64Array, UInt64Builder,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use feature::{BatchId, Sequence, Timestamp};
use serde::Serialize;

use super::Subject;
use crate::error::{Error, Result};

/// What is wrong with a cell that is not what was knowable at its row's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditClass {
    /// It is what only a later observation says, or one that became known later.
    Leaked,
    /// It is what an observation said that was known, but was not the one to take: one that was superseded or too old.
    Stale,
    /// It is null, though a value was knowable.
    Missing,
    /// No observation of the entity has this value.
    Unexplained,
}

impl AuditClass {
    /// As it stands in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leaked => "leaked",
            Self::Stale => "stale",
            Self::Missing => "missing",
            Self::Unexplained => "unexplained",
        }
    }
}

/// One column's cells, counted: `knowable` and the four classes make up all of them.
#[derive(Clone, Debug, Serialize)]
pub struct ColumnAudit {
    pub column: String,
    /// `weather@3.temp`
    pub reference: String,
    pub cells: u64,
    /// Cells that are what was knowable at their row's time, null where nothing was.
    pub knowable: u64,
    pub leaked: u64,
    /// Of the leaked cells, those whose value another observation had that was known and within the ttl. Told by value alone, such
    /// a cell may be stale and not leaked.
    pub ambiguous: u64,
    pub stale: u64,
    pub missing: u64,
    pub unexplained: u64,
    /// How long before it could be known the leaked values stand.
    pub lead: Option<Lead>,
    /// Where the leaked values come from; most cells first.
    pub batches: Vec<AuditBatch>,
    /// The leaked cells that stand longest before they could be known, then others.
    pub examples: Vec<AuditExample>,
}

/// In microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lead {
    pub least: i64,
    pub median: i64,
    pub greatest: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditBatch {
    pub batch: BatchId,
    pub sequence: Sequence,
    pub cells: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct AuditExample {
    pub class: AuditClass,
    /// The first is 0.
    pub row: u64,
    pub key: BTreeMap<String, Option<String>>,
    pub at: Option<String>,
    pub value: Option<String>,
    /// What was knowable in its place.
    pub knowable: Option<String>,
    /// The times of the observation that has the value.
    pub valid_at: Option<String>,
    pub known_at: Option<String>,
    /// How long after the row's time it could be known, in microseconds.
    pub lead: Option<i64>,
    pub batch: Option<BatchId>,
}

/// The observation that a finding stands on.
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    pub valid_at: Timestamp,
    pub known_at: Timestamp,
    pub batch: BatchId,
    /// Of the batch.
    pub sequence: Sequence,
}

pub struct Finding {
    pub row: u32,
    pub class: AuditClass,
    pub ambiguous: bool,
    pub evidence: Option<Evidence>,
}

/// A column that was judged.
pub struct Audited {
    pub column: String,
    pub reference: String,
    pub values: ArrayRef,
    /// What was knowable.
    pub answer: ArrayRef,
    /// Ascending by row.
    pub findings: Vec<Finding>,
}

/// How long after a row's time an observation was true and known.
fn lead(subject: &Subject, finding: &Finding) -> Option<i64> {
    let at = subject.times.get(finding.row as usize).copied().flatten()?;
    let evidence = finding.evidence.filter(|_| finding.class == AuditClass::Leaked)?;
    Some(evidence.valid_at.max(evidence.known_at).micros().saturating_sub(at))
}

pub fn summed(subject: &Subject, column: &Audited, examples: usize) -> Result<ColumnAudit> {
    let of =
        |class: AuditClass| column.findings.iter().filter(|finding| finding.class == class).count() as u64;
    let mut leads: Vec<i64> = column.findings.iter().filter_map(|finding| lead(subject, finding)).collect();
    leads.sort_unstable();
    let mut batches: BTreeMap<(Sequence, BatchId), u64> = BTreeMap::new();
    for finding in column.findings.iter().filter(|finding| finding.class == AuditClass::Leaked) {
        if let Some(evidence) = finding.evidence {
            *batches.entry((evidence.sequence, evidence.batch)).or_default() += 1;
        }
    }
    let mut batches: Vec<AuditBatch> =
        batches.into_iter().map(|((sequence, batch), cells)| AuditBatch { batch, sequence, cells }).collect();
    batches.sort_by_key(|batch| (Reverse(batch.cells), batch.sequence));
    let mut worst: Vec<&Finding> = column.findings.iter().collect();
    worst.sort_by_key(|finding| (finding.class, Reverse(lead(subject, finding)), finding.row));
    let mut shown = Vec::new();
    let mut of_class = 0;
    for (place, finding) in worst.iter().enumerate() {
        let first = place == 0 || worst[place - 1].class != finding.class;
        of_class = if first { 1 } else { of_class + 1 };
        if of_class <= examples {
            shown.push(example(subject, column, finding)?);
        }
    }
    let cells = subject.times.len() as u64;
    Ok(ColumnAudit {
        column: column.column.clone(),
        reference: column.reference.clone(),
        cells,
        knowable: cells - column.findings.len() as u64,
        leaked: of(AuditClass::Leaked),
        ambiguous: column.findings.iter().filter(|finding| finding.ambiguous).count() as u64,
        stale: of(AuditClass::Stale),
        missing: of(AuditClass::Missing),
        unexplained: of(AuditClass::Unexplained),
        lead: match (leads.first(), leads.get(leads.len() / 2), leads.last()) {
            (Some(least), Some(median), Some(greatest)) => {
                Some(Lead { least: *least, median: *median, greatest: *greatest })
            }
            _ => None,
        },
        batches,
        examples: shown,
    })
}

fn example(subject: &Subject, column: &Audited, finding: &Finding) -> Result<AuditExample> {
    let row = finding.row as usize;
    let mut key = BTreeMap::new();
    for (name, values) in &subject.keys {
        key.insert(name.clone(), text(values, row)?);
    }
    Ok(AuditExample {
        class: finding.class,
        row: finding.row.into(),
        key,
        at: subject.times.get(row).copied().flatten().map(|at| Timestamp(at).to_string()),
        value: text(&column.values, row)?,
        knowable: text(&column.answer, row)?,
        valid_at: finding.evidence.map(|evidence| evidence.valid_at.to_string()),
        known_at: finding.evidence.map(|evidence| evidence.known_at.to_string()),
        lead: lead(subject, finding),
        batch: finding.evidence.map(|evidence| evidence.batch),
    })
}

fn text(column: &ArrayRef, row: usize) -> Result<Option<String>> {
    if column.is_null(row) {
        return Ok(None);
    }
    arrow::util::display::array_value_to_string(column, row).map(Some).map_err(unshown)
}

fn unshown(error: arrow::error::ArrowError) -> Error {
    Error::internal("a value cannot be shown", error)
}

/// What stands beside the keys, in order.
const COLUMNS: [&str; 12] = [
    "row",
    "at",
    "column",
    "reference",
    "class",
    "value",
    "knowable",
    "valid_at",
    "known_at",
    "lead_micros",
    "batch",
    "sequence",
];

/// Rows of a batch.
const BATCH_ROWS: usize = 65_536;

/// The table's keys, then what was found. A key that has the name of another column is called `key_…`.
pub fn schema(subject: &Subject) -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let mut fields: Vec<Field> = subject
        .keys
        .iter()
        .map(|(key, values)| {
            let name = if COLUMNS.contains(&key.as_str()) { format!("key_{key}") } else { key.clone() };
            Field::new(name, values.data_type().clone(), true)
        })
        .collect();
    for name in COLUMNS {
        let kind = match name {
            "row" | "sequence" => DataType::UInt64,
            "at" => subject.at.data_type().clone(),
            "valid_at" | "known_at" => time.clone(),
            "lead_micros" => DataType::Int64,
            _ => DataType::Utf8,
        };
        fields.push(Field::new(name, kind, true));
    }
    Arc::new(Schema::new(fields))
}

pub fn rows(subject: &Subject, columns: &[Audited], schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    for column in columns {
        for findings in column.findings.chunks(BATCH_ROWS) {
            batches.push(batch(subject, column, findings, schema)?);
        }
    }
    Ok(batches)
}

fn batch(
    subject: &Subject,
    column: &Audited,
    findings: &[Finding],
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let wrong = |error: arrow::error::ArrowError| Error::internal("the findings cannot be written", error);
    let places = UInt32Array::from_iter_values(findings.iter().map(|finding| finding.row));
    let picked = |values: &ArrayRef| take(values, &places, None).map_err(wrong);
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for (_, values) in &subject.keys {
        arrays.push(picked(values)?);
    }
    let numbers = places.values().iter().map(|row| u64::from(*row));
    arrays.push(Arc::new(UInt64Array::from_iter_values(numbers)));
    arrays.push(picked(&subject.at)?);
    let options = FormatOptions::default();
    let values = ArrayFormatter::try_new(column.values.as_ref(), &options).map_err(unshown)?;
    let answers = ArrayFormatter::try_new(column.answer.as_ref(), &options).map_err(unshown)?;
    let mut texts: [StringBuilder; 6] = Default::default();
    let mut times: [TimestampMicrosecondBuilder; 2] = Default::default();
    let (mut leads, mut sequences) = (Int64Builder::new(), UInt64Builder::new());
    for finding in findings {
        let row = finding.row as usize;
        texts[0].append_value(&column.column);
        texts[1].append_value(&column.reference);
        texts[2].append_value(finding.class.as_str());
        for (array, shown, into) in [(&column.values, &values, 3), (&column.answer, &answers, 4)] {
            if array.is_null(row) {
                texts[into].append_null();
            } else {
                texts[into].append_value(shown.value(row).try_to_string().map_err(unshown)?);
            }
        }
        times[0].append_option(finding.evidence.map(|evidence| evidence.valid_at.micros()));
        times[1].append_option(finding.evidence.map(|evidence| evidence.known_at.micros()));
        leads.append_option(lead(subject, finding));
        texts[5].append_option(finding.evidence.map(|evidence| evidence.batch.to_string()));
        sequences.append_option(finding.evidence.map(|evidence| evidence.sequence.0));
    }
    let [names, references, classes, given, knowable, batches] = &mut texts;
    for text in [names, references, classes, given, knowable] {
        arrays.push(Arc::new(text.finish()));
    }
    for time in &mut times {
        arrays.push(Arc::new(time.finish().with_timezone("UTC")));
    }
    arrays.push(Arc::new(leads.finish()));
    arrays.push(Arc::new(batches.finish()));
    arrays.push(Arc::new(sequences.finish()));
    RecordBatch::try_new(schema.clone(), arrays).map_err(wrong)
}
