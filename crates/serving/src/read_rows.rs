//! Reads as rows of `reads/{id}.parquet`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, ListArray, ListBuilder, RecordBatch, StringArray, StringBuilder, StructArray,
    TimestampMicrosecondArray, UInt32Builder, UInt64Array, UInt64Builder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use catalog::recorded_reads::{edge_fields, schema};
use catalog::state::{PolicyHistory, Provenance};
use engine::column_lineage::{Edge, Output, ROWS, Scan, Source};

use crate::reads::Read;

/// One row a read.
pub fn of(reads: &[(Read, usize)], policies: &PolicyHistory) -> Result<RecordBatch, ArrowError> {
    let all = || reads.iter().map(|(read, _)| read);
    let text =
        |of: fn(&Read) -> Option<String>| -> ArrayRef { Arc::new(all().map(of).collect::<StringArray>()) };
    let number =
        |of: fn(&Read) -> u64| -> ArrayRef { Arc::new(UInt64Array::from_iter_values(all().map(of))) };
    let at = all().map(|read| Some(read.at.micros())).collect::<TimestampMicrosecondArray>();
    let columns: Vec<ArrayRef> = vec![
        text(|read| Some(read.id.to_string())),
        Arc::new(at.with_timezone("UTC")),
        text(|read| Some(read.principal.clone())),
        text(|read| Some(read.program.clone())),
        text(|read| read.run.clone()),
        text(|read| read.experiment.clone()),
        number(|read| read.sequence().0),
        text(|read| {
            Some(
                read.denied
                    .as_ref()
                    .map_or_else(|| columns_read(&read.traced.scans), |denied| denied.asked.clone()),
            )
        }),
        text(|read| Some(read.sql.clone())),
        number(|read| read.rows),
        number(|read| read.micros),
        text(|read| read.error.clone()),
        text(|read| Some(status(read).to_owned())),
        text(|read| read.traced.refused.as_ref().map(|refusal| refusal.node.clone())),
        text(|read| read.traced.refused.as_ref().map(|refusal| refusal.reason.clone())),
        text(|read| read.parameters.clone()),
        texts(all().map(|read| read.traced.filters.as_slice())),
        texts(all().map(|read| read.traced.functions.as_slice())),
        texts(all().map(|read| read.traced.system.as_slice())),
        lineage(all())?,
        text(|read| read.kind.map(|kind| kind.as_str().to_owned())),
        text(|read| (!read.roles.is_empty()).then(|| read.roles.join(", "))),
        text(|read| Some(read.purpose.to_string())),
        Arc::new(all().map(|read| in_force(policies, read)).collect::<UInt64Array>()),
        text(|read| read.denied.as_ref().map(|denied| denied.action.to_string())),
    ];
    RecordBatch::try_new(schema(), columns)
}

fn status(read: &Read) -> &'static str {
    match (&read.denied, &read.traced.refused) {
        (Some(_), _) => "denied",
        (None, Some(_)) => "refused",
        (None, None) => "complete",
    }
}

/// The number of the policies by which the read was decided: those in force when it was asked for.
fn in_force(policies: &PolicyHistory, read: &Read) -> Option<u64> {
    // Entries are dated after each other, and so ahead of the clock where they come fast: what the snapshot has was in force whatever the time.
    let had = |by: &Provenance| by.sequence <= read.session || by.committed_at <= read.at;
    let applied = policies.all().iter().rev().find(|applied| had(&applied.by))?;
    (!applied.record.files.is_empty()).then_some(u64::from(applied.record.number))
}

/// `weather@2.temp, weather@2.valid_at`; `weather@2.*` where only the number of rows counts.
fn columns_read(scans: &[Scan]) -> String {
    let mut all: Vec<String> = Vec::new();
    for scan in scans {
        if scan.columns.is_empty() {
            all.push(format!("{}.{ROWS}", scan.label));
        }
        all.extend(scan.columns.iter().map(|column| format!("{}.{column}", scan.label)));
    }
    // A version may be read at two sequences.
    all.sort();
    all.dedup();
    all.join(", ")
}

fn texts<'a>(lists: impl Iterator<Item = &'a [String]>) -> ArrayRef {
    let mut builder = ListBuilder::new(StringBuilder::new());
    for list in lists {
        for text in list {
            builder.values().append_value(text);
        }
        builder.append(true);
    }
    Arc::new(builder.finish())
}

/// The edges of each read; an output without any stands there alone.
fn lineage<'a>(reads: impl Iterator<Item = &'a Read>) -> Result<ArrayRef, ArrowError> {
    let mut edges = Edges::default();
    let mut lengths = Vec::new();
    for read in reads {
        let before = edges.rows;
        for output in read.traced.outputs.iter().filter(|output| output.sources.is_empty()) {
            edges.add(Some(output), None);
        }
        for (output, edge) in read.traced.edges() {
            edges.add(output, Some(edge));
        }
        lengths.push(edges.rows - before);
    }
    let item = Field::new_list_field(DataType::Struct(edge_fields()), true);
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(Arc::new(item), offsets, Arc::new(edges.finish()?), None)?))
}

#[derive(Default)]
struct Edges {
    rows: usize,
    output: StringBuilder,
    expression: StringBuilder,
    feature_view: StringBuilder,
    version: UInt32Builder,
    version_id: StringBuilder,
    sequence: UInt64Builder,
    given: StringBuilder,
    column: StringBuilder,
    kind: StringBuilder,
    subtype: StringBuilder,
    masking: BooleanBuilder,
}

impl Edges {
    fn add(&mut self, output: Option<&Output>, edge: Option<&Edge>) {
        self.rows += 1;
        self.output.append_option(output.map(|output| output.name.as_str()));
        self.expression.append_option(output.map(|output| output.expression.as_str()));
        let source = edge.map(|edge| edge.source.as_ref());
        let (view, number, id, sequence) = match source {
            Some(Source::FeatureView { version, label, sequence, .. }) => {
                let (view, number) = label.rsplit_once('@').unwrap_or((label, ""));
                (Some(view), number.parse().ok(), Some(version.to_string()), Some(sequence.0))
            }
            Some(Source::Given { .. }) | None => (None, None, None, None),
        };
        self.feature_view.append_option(view);
        self.version.append_option(number);
        self.version_id.append_option(id);
        self.sequence.append_option(sequence);
        self.given.append_option(match source {
            Some(Source::Given { table, .. }) => Some(table),
            _ => None,
        });
        self.column.append_option(source.map(Source::column));
        self.kind.append_option(edge.map(|edge| edge.influence.directness()));
        self.subtype.append_option(edge.map(|edge| edge.influence.as_str()));
        // No policy masks yet.
        self.masking.append_option(edge.map(|_| false));
    }

    fn finish(mut self) -> Result<StructArray, ArrowError> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.output.finish()),
            Arc::new(self.expression.finish()),
            Arc::new(self.feature_view.finish()),
            Arc::new(self.version.finish()),
            Arc::new(self.version_id.finish()),
            Arc::new(self.sequence.finish()),
            Arc::new(self.given.finish()),
            Arc::new(self.column.finish()),
            Arc::new(self.kind.finish()),
            Arc::new(self.subtype.finish()),
            Arc::new(self.masking.finish()),
        ];
        StructArray::try_new(edge_fields(), columns, None)
    }
}
