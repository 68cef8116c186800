//! The one way in for rows: decide, validate, stage, commit.
//!
//! Rows are validated one by one against the version in force. Those that pass are sorted and written as immutable
//! files, those that do not go to quarantine with their reasons, and one entry makes all of it visible at once. A
//! crash before that entry leaves nothing visible; the same request sent again gives the first answer.

mod quarantine;
mod sources;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{RecordBatch, TimestampMicrosecondArray};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use feature::definition::{Entity, FeatureView, FileFormat, KnownAt};
use feature::digest::{Digest, TableDigest, hash};
use feature::validation::{Reason, Rejection, Validator};
use feature::{BatchId, BodyId, FileId, Name, Sequence, Timestamp};
use storage::environment;
use storage::manifest;
use storage::partition::{self, Columns, Layout};

pub use quarantine::{read as read_quarantine, schema as quarantine_schema};
pub use sources::Rows;

use crate::author::Author;
use crate::catalog::{Catalog, Intent, Outcome, RequestBinding};
use crate::conditions::{Condition, Conditions};
use crate::error::{Error, Result};
use crate::plan::did_you_mean;
use crate::records::{BatchCommitted, BatchRefused, KnownAtSource, Object, SourceFile};
use crate::state::{State, ViewVersion};

/// What is to be ingested.
#[derive(Clone, Debug)]
pub enum Input {
    /// The files of the view's declared source that it has not had yet.
    Source,
    /// These files, whether it had them or not.
    Files { paths: Vec<PathBuf>, format: Option<FileFormat> },
    /// Rows that the caller has at hand.
    Rows(Rows),
}

/// What a batch says of times that the view already covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// These rows could have been known when the view's rule says; they only come late to this store.
    BackFill,
    /// These rows correct what was known; they are known from now on.
    Correction,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub project: Name,
    pub view: String,
    pub input: Input,
    /// Makes a repeat harmless: the same key and content gives the first answer.
    pub key: Option<String>,
    pub claim: Option<Claim>,
    pub layout: Layout,
}

impl Request {
    pub fn new(view: impl Into<String>, input: Input) -> Self {
        Self {
            project: Name::default_project(),
            view: view.into(),
            input,
            key: None,
            claim: None,
            layout: Layout::default(),
        }
    }
}

/// How far an ingest has come. `rows` of a stage counts up to `of`.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub stage: Stage,
    pub rows: u64,
    pub of: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Reading,
    Validating,
    Writing,
    Committing,
}

/// What an ingest did.
#[derive(Clone, Debug)]
pub struct Report {
    /// `weather@2`.
    pub version: String,
    /// None where there was nothing new to take.
    pub batch: Option<BatchId>,
    pub sequence: Option<Sequence>,
    pub rows: u64,
    pub rejected: u64,
    /// Rejections by reason and column, most frequent first.
    pub reasons: Vec<(Reason, String, u64)>,
    /// The first few rejections, in words.
    pub examples: Vec<String>,
    /// Files that were taken before and left alone.
    pub skipped: usize,
    /// Rows that the source's `where` left out.
    pub filtered: u64,
    /// Whether an earlier request under the same key did all this.
    pub repeated: bool,
}

/// A batch of which too much was wrong.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub report: Report,
    /// Rows that were offered, the rejected ones among them.
    pub offered: u64,
    pub threshold: f64,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { version, rejected, examples, .. } = &self.report;
        write!(
            f,
            "{rejected} of {} rows were rejected, more than the {}% that `{version}` bears (reject_above), so none was taken; \
             `SELECT * FROM lineament.rejected_rows` lists them",
            self.offered,
            self.threshold * 100.0
        )?;
        for example in examples {
            write!(f, "\n  {example}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// Reads a whole file: a spine, or rows to infer a definition from.
pub fn read_file(path: &std::path::Path, format: Option<FileFormat>) -> Result<Rows> {
    let (bytes, file) = sources::open(path, feature::digest::HashAlgorithm::Blake3)?;
    sources::decode(path, bytes, file, format, sources::CsvTypes::Inferred)
}

type OnProgress = dyn Fn(Progress) + Send + Sync;

/// The columns of a view's rows as validated: keys, occurrence, `valid_at`, `known_at`, features.
pub fn row_schema(entity: &Entity, view: &FeatureView) -> Schema {
    let time = feature::FeatureType::Timestamp.arrow();
    let mut fields: Vec<Field> =
        entity.keys.iter().map(|key| Field::new(key.name.as_str(), key.data_type.arrow(), false)).collect();
    if let Some(occurrence) = &view.occurrence {
        fields.push(Field::new(occurrence.name.as_str(), occurrence.data_type.arrow(), false));
    }
    fields.push(Field::new("valid_at", time.clone(), false));
    if view.time.known_at != KnownAt::Arrival {
        fields.push(Field::new("known_at", time, false));
    }
    for feature in &view.features {
        fields.push(Field::new(feature.name.as_str(), feature.data_type.arrow(), true));
    }
    Schema::new(fields)
}

/// Ingests rows into the version of a view that is in force.
///
/// # Errors
/// `NotFound` and `Invalid` before anything is written; `Refused` where more rows were rejected than the view bears
/// (recorded, so that the rows can be listed); storage's errors, after which nothing is visible and the
/// same request may be sent again.
pub async fn ingest(
    catalog: &Catalog,
    request: Request,
    conditions: Arc<dyn Conditions>,
    author: &Author,
    progress: Arc<OnProgress>,
) -> Result<Report> {
    let state = catalog.refresh().await?;
    let version = resolve(&state, &request)?;
    let (rows, skipped) = read_input(&state, &version, &request, &progress).await?;
    if rows.is_empty() {
        return Ok(nothing_new(&version, skipped));
    }
    let binding = bind(&state, &version, &request, &rows)?;
    if let Some(binding) = &binding
        && let Some(answer) = state.request(&binding.key)
        && answer.digest == binding.digest
    {
        return first_answer(&state, &version, answer.sequence);
    }

    let offered: u64 = rows.iter().map(Rows::count).sum();
    if offered == 0 {
        return Err(Error::Invalid(format!(
            "there are no rows to ingest into `{}`: the input is empty",
            version.label()
        )));
    }
    let sources: Vec<SourceFile> = rows.iter().filter_map(|rows| rows.file.clone()).collect();
    let origins: Vec<String> = rows.iter().map(|rows| rows.origin.clone()).collect();
    let checked = {
        let (version, conditions, progress) = (version.clone(), conditions.clone(), progress.clone());
        let filter = matches!(request.input, Input::Source);
        tokio::task::spawn_blocking(move || {
            check_rows(&version, rows, filter, conditions.as_ref(), &*progress)
        })
        .await
        .map_err(|error| Error::internal("validation stopped", error))??
    };

    let batch: BatchId = environment::mint();
    let mut report = checked.report(&version, batch, skipped);
    let body = write_body(catalog, author, &origins).await?;
    let quarantine = match checked.quarantine {
        Some(bytes) => Some(catalog.put_object(format!("quarantine/{batch}/rejected.parquet"), bytes).await?),
        None => None,
    };
    let threshold = version.definition.reject_above.unwrap_or(1.0);
    let total = report.rows + report.rejected;
    let refused =
        report.rows == 0 && report.rejected > 0 || report.rejected as f64 > threshold * total as f64;
    if let (true, Some(quarantine)) = (refused, quarantine.clone()) {
        let record = BatchRefused {
            batch,
            view: version.view,
            version: version.version,
            rows: total,
            rejected: report.rejected,
            quarantine,
            sources: Vec::new(),
            body,
        };
        catalog.commit::<()>(author, None, |_| Ok(Intent::Append(vec![record.clone().into()]))).await?;
        report.rows = 0;
        return Err(Error::Refused(Box::new(Refusal { report, offered: total, threshold })));
    }
    if total == 0 {
        return Err(Error::Invalid(format!(
            "none of the {offered} rows meets the source's `where`; nothing was ingested into `{}`",
            version.label()
        )));
    }

    let (rows, known_at) = settle_known_at(catalog, &state, &version, checked.rows, request.claim).await?;
    let staged = stage(catalog, &version, batch, rows, &request.layout, &*progress, report.rows).await?;
    progress(Progress { stage: Stage::Committing, rows: report.rows, of: report.rows });
    let record = BatchCommitted {
        batch,
        view: version.view,
        version: version.version,
        rows: report.rows,
        rejected: report.rejected,
        known_at,
        manifest: staged.manifest,
        digest: staged.digest,
        quarantine,
        sources: sources.clone(),
        body,
    };
    let only_new = matches!(request.input, Input::Source);
    let outcome = catalog
        .commit(author, binding.as_ref(), |state| {
            // Another process may have taken the same files meanwhile.
            if only_new && sources.iter().any(|source| state.has_source(version.line, source.digest)) {
                return Ok(Intent::Done(()));
            }
            Ok(Intent::Append(vec![record.clone().into()]))
        })
        .await?;
    match outcome {
        Outcome::Committed(sequence) => {
            let ours = catalog.state().batch(batch).is_some();
            if !ours {
                return first_answer(&catalog.state(), &version, sequence);
            }
            report.sequence = Some(sequence);
            Ok(report)
        }
        Outcome::Done(()) => Ok(nothing_new(&version, skipped + sources.len())),
    }
}

fn resolve(state: &State, request: &Request) -> Result<ViewVersion> {
    let (project, name) = match request.view.split_once('.') {
        Some((project, name)) => (project, name),
        None => (request.project.as_str(), request.view.as_str()),
    };
    if name.contains('@') {
        return Err(Error::Invalid(format!(
            "`{name}` names a version; rows go into the version in force: leave `@…` out"
        )));
    }
    state.view(project, name, None, state.head.sequence).cloned().ok_or_else(|| {
        let all: Vec<&str> =
            state.views_in_force(state.head.sequence).map(|view| view.definition.name.as_str()).collect();
        let near = did_you_mean(name, all.iter().copied());
        let list = if all.is_empty() {
            "none is defined yet: write a definition and `lineament apply` it".to_owned()
        } else {
            format!("there are: {}", all.join(", "))
        };
        Error::NotFound(format!("there is no feature view `{name}`{near}; {list}"))
    })
}

async fn read_input(
    state: &Arc<State>,
    version: &ViewVersion,
    request: &Request,
    progress: &Arc<OnProgress>,
) -> Result<(Vec<Rows>, usize)> {
    let (paths, format, only_new) = match &request.input {
        Input::Rows(rows) => return Ok((vec![rows.clone()], 0)),
        Input::Files { paths, format } => (paths.clone(), *format, false),
        Input::Source => {
            let source = version.definition.source.as_ref().ok_or_else(|| {
                Error::Invalid(format!(
                    "`{}` declares no [source]; name the files to ingest, or declare where its rows come from",
                    version.label()
                ))
            })?;
            (sources::files_of(source)?, source.format, true)
        }
    };
    let (state, line, progress) = (state.clone(), version.line, progress.clone());
    tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        let mut skipped = 0;
        let of = paths.len() as u64;
        for (read, path) in paths.iter().enumerate() {
            progress(Progress { stage: Stage::Reading, rows: read as u64, of });
            let (bytes, file) = sources::open(path, state.hash)?;
            let known = state.has_source(line, file.digest)
                || all
                    .iter()
                    .any(|rows: &Rows| rows.file.as_ref().is_some_and(|seen| seen.digest == file.digest));
            if only_new && known {
                skipped += 1;
            } else {
                all.push(sources::decode(path, bytes, file, format, sources::CsvTypes::Text)?);
            }
        }
        Ok((all, skipped))
    })
    .await
    .map_err(|error| Error::internal("reading stopped", error))?
}

/// A request key is bound to the view, the claim and the content.
fn bind(
    state: &State,
    version: &ViewVersion,
    request: &Request,
    rows: &[Rows],
) -> Result<Option<RequestBinding>> {
    let Some(key) = &request.key else { return Ok(None) };
    let mut content = format!("ingest {} {:?}", version.view, request.claim);
    for rows in rows {
        match &rows.file {
            Some(file) => content.push_str(&format!(" {}", file.digest)),
            None => {
                let mut table = TableDigest::new(state.hash, &rows.schema)
                    .map_err(|error| Error::Invalid(error.to_string()))?;
                for batch in &rows.batches {
                    table.update(batch).map_err(|error| Error::Invalid(error.to_string()))?;
                }
                content.push_str(&format!(" {}", table.finish().digest));
            }
        }
    }
    Ok(Some(RequestBinding { key: key.clone(), digest: hash(state.hash, content.as_bytes()) }))
}

fn nothing_new(version: &ViewVersion, skipped: usize) -> Report {
    Report {
        version: version.label(),
        batch: None,
        sequence: None,
        rows: 0,
        rejected: 0,
        reasons: Vec::new(),
        examples: Vec::new(),
        skipped,
        filtered: 0,
        repeated: false,
    }
}

fn first_answer(state: &State, version: &ViewVersion, sequence: Sequence) -> Result<Report> {
    let batch = state.batches().find(|batch| batch.by.sequence == sequence);
    let Some(batch) = batch else {
        return Err(Error::Invalid(format!(
            "the request key was used at sequence {sequence} for something else"
        )));
    };
    Ok(Report {
        batch: Some(batch.record.batch),
        sequence: Some(sequence),
        rows: batch.record.rows,
        rejected: batch.record.rejected,
        repeated: true,
        ..nothing_new(version, 0)
    })
}

/// Rows that passed, and what is to be said of those that did not.
struct CheckedRows {
    rows: RecordBatch,
    rejected: u64,
    filtered: u64,
    reasons: BTreeMap<(Reason, String), u64>,
    examples: Vec<String>,
    quarantine: Option<bytes::Bytes>,
}

impl CheckedRows {
    fn report(&self, version: &ViewVersion, batch: BatchId, skipped: usize) -> Report {
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

const EXAMPLES: usize = 5;

fn check_rows(
    version: &ViewVersion,
    inputs: Vec<Rows>,
    filter: bool,
    conditions: &dyn Conditions,
    progress: &OnProgress,
) -> Result<CheckedRows> {
    let view = &version.definition;
    let of = inputs.iter().map(Rows::count).sum();
    let mut checks: Option<(SchemaRef, Vec<Arc<dyn Condition>>)> = None;
    let mut accepted = Vec::new();
    let mut schema: Option<SchemaRef> = None;
    let mut quarantine = quarantine::Quarantine::new();
    let mut checked = CheckedRows {
        rows: RecordBatch::new_empty(Arc::new(row_schema(&version.entity, view))),
        rejected: 0,
        filtered: 0,
        reasons: BTreeMap::new(),
        examples: Vec::new(),
        quarantine: None,
    };
    let mut done = 0;
    for rows in inputs {
        let validator = Validator::new(&version.entity, view, &rows.schema).map_err(|errors| {
            Error::Invalid(format!("{} does not fit `{}`: {errors}", rows.origin, version.label()))
        })?;
        let condition = match view.source.as_ref().and_then(|source| source.filter.as_ref()) {
            Some(sql) if filter => Some(conditions.compile(sql, &rows.schema).map_err(|why| {
                Error::Invalid(format!("the `where` of `{}`'s source, `{sql}`: {why}", version.label()))
            })?),
            _ => None,
        };
        let output = validator.output_schema();
        if checks.as_ref().is_none_or(|(known, _)| *known != output) {
            let compiled = view
                .checks
                .iter()
                .map(|check| {
                    conditions.compile(&check.sql, &output).map_err(|why| {
                        Error::Invalid(format!("check `{}` of `{}`: {why}", check.name, version.label()))
                    })
                })
                .collect::<Result<Vec<_>>>()?;
            checks = Some((output.clone(), compiled));
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
            let mut validated =
                validator.validate(&kept, first_row).map_err(|error| Error::Invalid(error.to_string()))?;
            if let Some((_, compiled)) = &checks {
                for (check, condition) in view.checks.iter().zip(compiled) {
                    let passes = condition.evaluate(validated.rows()).map_err(Error::Invalid)?;
                    validated
                        .check(check, &passes)
                        .map_err(|error| Error::internal("a check gave a wrong answer", error))?;
                }
            }
            let mut split =
                validated.split().map_err(|error| Error::internal("splitting accepted rows", error))?;
            if !split.rejections.is_empty() {
                quarantine
                    .add(&rows.origin, &kept, &mut split.rejections, keep.as_ref(), first_row)
                    .map_err(|error| Error::internal("keeping rejected rows", error))?;
                note_rejections(&mut checked, &rows.origin, &split.rejections);
            }
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

fn note_rejections(checked: &mut CheckedRows, origin: &str, rejections: &[Rejection]) {
    let mut last = None;
    for rejection in rejections {
        if last != Some(rejection.row) {
            checked.rejected += 1;
            last = Some(rejection.row);
        }
        *checked.reasons.entry((rejection.reason, rejection.column.to_string())).or_default() += 1;
        if checked.examples.len() < EXAMPLES {
            checked.examples.push(format!("{origin}, {}", rejection.message()));
        }
    }
}

/// Gives the rows the known-at times that the view's rule and the writer's claim say. A batch dated by a delay or by an
/// assumption that reaches into times already ingested must say what it is: a correction dated so would leak.
async fn settle_known_at(
    catalog: &Catalog,
    state: &State,
    version: &ViewVersion,
    rows: RecordBatch,
    claim: Option<Claim>,
) -> Result<(RecordBatch, KnownAtSource)> {
    let usual = match version.definition.time.known_at {
        KnownAt::Column(_) => return Ok((rows, KnownAtSource::Column)),
        KnownAt::Arrival => return Ok((rows, KnownAtSource::Arrival)),
        KnownAt::Delay(_) => KnownAtSource::Delay,
        KnownAt::Assumed => KnownAtSource::Assumed,
    };
    match claim {
        Some(Claim::BackFill) => Ok((rows, usual)),
        Some(Claim::Correction) => {
            let index =
                rows.schema().index_of("known_at").map_err(|error| Error::internal("known_at", error))?;
            let mut rows = rows;
            rows.remove_column(index);
            Ok((rows, KnownAtSource::Arrival))
        }
        None => {
            if let Some((from, until)) = overlap(catalog, state, version, &rows).await? {
                return Err(Error::Invalid(format!(
                    "`{}` already has observations between {from} and {until}, the time of these rows, and it dates what is known by a rule; \
                     say what they are by a claim: `back_fill` (--back-fill) where they could have been known when the rule says, \
                     `correction` (--correction) where they are known from now on",
                    version.label()
                )));
            }
            Ok((rows, usual))
        }
    }
}

/// The span in which new rows and the view's earlier ones overlap.
async fn overlap(
    catalog: &Catalog,
    state: &State,
    version: &ViewVersion,
    rows: &RecordBatch,
) -> Result<Option<(Timestamp, Timestamp)>> {
    let times = rows
        .column_by_name("valid_at")
        .and_then(|column| column.as_any().downcast_ref::<TimestampMicrosecondArray>());
    let Some(times) = times else { return Ok(None) };
    let (Some(least), Some(greatest)) = (arrow::compute::min(times), arrow::compute::max(times)) else {
        return Ok(None);
    };
    for visible in catalog.files(state, version, state.head.sequence).await? {
        if let Some((from, until)) = visible.file.valid_at_range()
            && from <= greatest
            && until >= least
        {
            return Ok(Some((Timestamp(from.max(least)), Timestamp(until.min(greatest)))));
        }
    }
    Ok(None)
}

struct Staged {
    manifest: Object,
    digest: Digest,
}

async fn stage(
    catalog: &Catalog,
    version: &ViewVersion,
    batch: BatchId,
    rows: RecordBatch,
    layout: &Layout,
    progress: &OnProgress,
    of: u64,
) -> Result<Staged> {
    progress(Progress { stage: Stage::Writing, rows: 0, of });
    let columns = Columns {
        keys: version.keys().iter().map(|key| key.name.to_string()).collect(),
        occurrence: version.definition.occurrence.as_ref().map(|occurrence| occurrence.name.to_string()),
        has_known_at: rows.schema().index_of("known_at").is_ok(),
        has_retracted: rows.schema().index_of("_retracted").is_ok(),
    };
    let hash_algorithm = catalog.state().hash;
    let mut mint = || environment::mint::<FileId>();
    let target =
        partition::Target { view: version.view, version: version.number, batch, hash: hash_algorithm };
    let files =
        partition::write(&catalog.store().objects(), &target, rows, &columns, layout, &mut mint).await?;
    progress(Progress { stage: Stage::Writing, rows: of, of });
    let id: BodyId = environment::mint();
    let bytes = manifest::encode(&files)?;
    let digest = partition::batch_digest(hash_algorithm, &files);
    let manifest = catalog.put_object(format!("manifests/{id}.parquet"), bytes).await?;
    Ok(Staged { manifest, digest })
}

/// What the writer said of where the rows come from and what was done to them.
async fn write_body(catalog: &Catalog, author: &Author, origins: &[String]) -> Result<Option<Object>> {
    if author.steps.is_empty() && origins.is_empty() {
        return Ok(None);
    }
    let body = serde_json::json!({ "origins": origins, "steps": author.steps });
    let id: BodyId = environment::mint();
    let bytes =
        serde_json::to_vec(&body).map_err(|error| Error::internal("a body cannot be written", error))?;
    Ok(Some(catalog.put_object(format!("bodies/{id}.json"), bytes.into()).await?))
}
