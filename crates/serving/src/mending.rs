//! Rejected rows on their way out, to be mended, and in again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, UInt64Type};
use async_recursion::async_recursion;
use catalog::Author;
use catalog::ingest::mending::{self, FOR, ORIGIN, ROW, Rejected};
use catalog::ingest::{Claim, Input, Progress, Report, Request, read_quarantine};
use catalog::state::ViewVersion;
use engine::Snapshot;
use feature::policy::Action;
use feature::{BatchId, Name};
use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};
use crate::retrieve::Serving;

/// Rejected rows of a batch that nobody has mended yet.
#[derive(Clone, Debug)]
pub struct RejectedRows {
    /// `weather@2`
    pub version: String,
    pub batch: BatchId,
    /// Their columns as they came, as text, after those that say which they are and what was wrong.
    pub rows: RecordBatch,
    /// How many more were rejected, and are mended.
    pub mended: usize,
}

/// A rejected row, and what was wrong with it.
struct Row {
    of: Rejected,
    messages: Vec<String>,
    source: Map<String, Value>,
}

impl Serving {
    /// The rejected rows of a batch that were not mended yet, as a table that can be mended and handed to [`Self::mend`].
    ///
    /// # Errors
    /// `NotFound` for a batch without rejected rows; `Forbidden` for whoever something of the view is kept from, as they are as they came.
    #[async_recursion]
    pub async fn rejected_rows(&self, batch: BatchId, author: &Author) -> Result<RejectedRows> {
        let snapshot = self.snapshot_for(None, author).await?;
        let state = snapshot.state.clone();
        let (version, object) = mending::rejected_rows(&state, batch)?;
        let version = state
            .view_version(version)
            .ok_or_else(|| Error::new(Kind::NotFound, format!("the view of batch {batch} is not known")))?;
        let words = || format!("rejected rows of batch {batch}");
        let allowed = std::future::ready(refuse_part(&snapshot, version, author));
        self.on_record(author, Action::Read, None, words, allowed).await?;
        let damaged = |why: &dyn std::fmt::Display| {
            Error::new(Kind::Damaged, format!("`{}` cannot be read: {why}", object.path))
        };
        let mended = mending::mended(self.catalog(), &state, batch, snapshot.sequence).await?;
        let mended: HashSet<Rejected> = mended.into_iter().map(|(row, _)| row).collect();
        let bytes = self.catalog().object(&object).await?;
        let mut rows: Vec<Row> = Vec::new();
        let mut places: HashMap<Rejected, usize> = HashMap::new();
        for part in read_quarantine(bytes).map_err(|error| damaged(&error))? {
            let text =
                |name: &str| part.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
            let numbers =
                part.column_by_name("row").and_then(|column| column.as_primitive_opt::<UInt64Type>());
            let (Some(origins), Some(numbers), Some(messages), Some(sources)) =
                (text("origin"), numbers, text("message"), text("source_row"))
            else {
                return Err(damaged(&"it lacks a column"));
            };
            for row in 0..part.num_rows() {
                let of: Rejected = (origins.value(row).to_owned(), numbers.value(row));
                if mended.contains(&of) {
                    continue;
                }
                let place = match places.get(&of) {
                    Some(place) => *place,
                    None => {
                        let source =
                            serde_json::from_str(sources.value(row)).map_err(|error| damaged(&error))?;
                        places.insert(of.clone(), rows.len());
                        rows.push(Row { of, messages: Vec::new(), source });
                        rows.len() - 1
                    }
                };
                if let Some(known) = rows.get_mut(place) {
                    known.messages.push(messages.value(row).to_owned());
                }
            }
        }
        let table = table(&rows).map_err(|error| Error::internal("listing rejected rows", error))?;
        Ok(RejectedRows { version: version.label(), batch, rows: table, mended: mended.len() })
    }

    /// Ingests rejected rows of a batch that were mended: a batch of its own, tied to the one that had rejected them.
    ///
    /// # Errors
    /// `NotFound` for a batch without rejected rows; those of [`Self::ingest`]; `Invalid` for rows that do not say which rejected rows of
    /// the batch they were, or were mended before.
    #[async_recursion]
    pub async fn mend(
        &self,
        batch: BatchId,
        input: Input,
        claim: Option<Claim>,
        author: &Author,
        progress: Arc<dyn Fn(Progress) + Send + Sync>,
    ) -> Result<Report> {
        let state = self.catalog().refresh().await?;
        let (version, _) = mending::rejected_rows(&state, batch)?;
        let version = state
            .view_version(version)
            .ok_or_else(|| Error::new(Kind::NotFound, format!("the view of batch {batch} is not known")))?;
        let view = &version.definition;
        let allowed = self.require(&state, author, Action::Ingest, view);
        let words = || format!("mend rows of batch {batch}");
        self.on_record(author, Action::Ingest, None, words, allowed).await?;
        let named = match view.project == Name::default_project() {
            true => view.name.to_string(),
            false => format!("{}.{}", view.project, view.name),
        };
        let request = Request { claim, mends: Some(batch), ..Request::new(named, input) };
        self.ingest(request, author, progress).await
    }
}

/// # Errors
/// `Forbidden` for whoever something of a version is kept from.
fn refuse_part(snapshot: &Snapshot, version: &ViewVersion, author: &Author) -> Result<()> {
    if snapshot.guard(version)?.is_none() {
        return Ok(());
    }
    Err(Error::denial(
        format!("{}.*", version.label()),
        format!(
            "rejected rows are as they came, and something of `{}` is kept from `{}`; ask whoever governs the store",
            version.label(),
            author.principal
        ),
    ))
}

/// What says which rows they are, then their columns in the order in which they came first.
fn table(rows: &[Row]) -> std::result::Result<RecordBatch, arrow::error::ArrowError> {
    let mut names: Vec<&str> = Vec::new();
    let mut seen: HashSet<&str> = HashSet::new();
    // An export that was ingested as it is has such columns of its own.
    let is_mark = |name: &str| [ORIGIN, ROW, FOR].contains(&name);
    for name in rows.iter().flat_map(|row| row.source.keys()) {
        if !is_mark(name) && seen.insert(name) {
            names.push(name);
        }
    }
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let mut fields = vec![text(ORIGIN), Field::new(ROW, DataType::UInt64, true), text(FOR)];
    let origins = rows.iter().map(|row| row.of.0.as_str());
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(origins)),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.of.1))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.messages.join("; ")))),
    ];
    for name in names {
        fields.push(text(name));
        let values: StringArray =
            rows.iter().map(|row| row.source.get(name).and_then(Value::as_str)).collect();
        columns.push(Arc::new(values));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}
