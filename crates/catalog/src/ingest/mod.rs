//! The one way in for rows: decide, validate, stage, commit.
//!
//! Rows are validated one by one against the version in force. Those that pass are sorted and written as immutable
//! files, those that do not go to quarantine with their reasons, and one entry makes all of it visible at once. A
//! crash before that entry leaves nothing visible; the same request sent again gives the first answer.

pub mod arrow_messages;
mod checking;
mod knowledge;
pub mod mending;
pub(crate) mod quarantine;
mod row_files;
mod sources;
pub mod stream;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use feature::definition::{Entity, FeatureView, FileFormat, KnownAt, OnFail};
use feature::digest::{Digest, TableDigest, hash};
use feature::quality::{Judged, Judging, Verdict};
use feature::validation::Reason;
use feature::{BatchId, BodyId, FileId, Name, Sequence, VersionId};
use storage::environment;
use storage::manifest;
use storage::partition::{self, Columns, Layout};

pub use quarantine::{read as read_quarantine, schema as quarantine_schema};
pub use row_files::FileRows;
pub use sources::Rows;

pub(crate) use knowledge::overlap;

use knowledge::Knowledge;

use crate::author::Author;
use crate::catalog::{Catalog, Intent, Outcome, RequestBinding};
use crate::conditions::Conditions;
use crate::error::{Error, Result};
use crate::plan::did_you_mean;
use crate::quality;
use crate::records::{
    BatchCommitted, BatchQuarantined, BatchRefused, Derivation, Object, Record, SourceFile,
};
use crate::retention;
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
    /// How the rows were made, where the view is derived. Its rows come in no other way.
    pub derivation: Option<Made>,
    /// The batch whose rejected rows these are, mended.
    pub mends: Option<BatchId>,
}

/// What a refresh says of its rows.
#[derive(Clone, Debug)]
pub struct Made {
    pub derivation: Derivation,
    /// The version that they were made for.
    pub version: VersionId,
    pub sql: String,
    pub plan: String,
    /// What each column of the view comes from, as docs/format.md writes edges; none where it could not be traced.
    pub lineage: Option<serde_json::Value>,
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
            derivation: None,
            mends: None,
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

/// Files of a source that were left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Taken by an earlier ingest.
    pub taken: usize,
    /// Refused by an earlier ingest under the same definition; another definition gives them another chance.
    pub refused: usize,
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
    /// Files of the source that were met before and left alone.
    pub skipped: Skipped,
    /// Rows that the source's `where` left out.
    pub filtered: u64,
    /// Whether an earlier request under the same key did all this.
    pub repeated: bool,
    /// The verdict on the batch, where its view declares checks.
    pub judged: Option<Judged>,
    /// Whether the batch was kept back: its rows count for nobody until it is released.
    pub quarantined: bool,
    /// Rows that another batch had rejected and this one has.
    pub mended: u64,
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
    let mut rows = FileRows::open(path, format)?;
    let batches = rows.by_ref().collect::<Result<Vec<_>>>()?;
    Ok(Rows::from_batches(rows.origin(), rows.schema, batches))
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

/// How often the version in force may change under one ingest before it gives up.
const ATTEMPTS: u32 = 8;

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
    for _ in 0..ATTEMPTS {
        match attempt(catalog, &request, &conditions, author, &progress).await? {
            Attempt::Done(report) => return Ok(*report),
            // Other rules are in force now: the rows are checked again, by these.
            Attempt::VersionChanged => {}
        }
    }
    Err(Error::Contended(format!(
        "the definition of `{}` changed {ATTEMPTS} times while its rows were written; nothing was ingested: try again",
        request.view
    )))
}

enum Attempt {
    Done(Box<Report>),
    VersionChanged,
}

/// Why a batch that is ready was not appended.
enum Superseded {
    /// Another process took the same files.
    SourcesTaken,
    VersionChanged,
    /// Batches came whose times were not compared with this one's.
    LaterBatches,
}

async fn attempt(
    catalog: &Catalog,
    request: &Request,
    conditions: &Arc<dyn Conditions>,
    author: &Author,
    progress: &Arc<OnProgress>,
) -> Result<Attempt> {
    let mut state = catalog.refresh().await?;
    let version = resolve(&state, &request.project, &request.view)?;
    verify_origin(&version, request)?;
    let (rows, skipped) = read_input(&state, &version, request, progress).await?;
    let binding = bind(&state, &version, request, &rows)?;
    if let Some(binding) = &binding
        && let Some(answer) = state.request(&binding.key)
        && answer.digest == binding.digest
    {
        return Ok(Attempt::Done(Box::new(first_answer(catalog, &state, &version, answer.sequence).await?)));
    }
    let only_new = matches!(request.input, Input::Source);
    let offered: u64 = rows.iter().map(Rows::count).sum();
    if offered == 0 && only_new {
        return Ok(Attempt::Done(Box::new(nothing_new(&version, skipped))));
    }
    if offered == 0 {
        // Columns that do not fit say more than rows that are missing: a file without a header looks like one without rows.
        for rows in rows.iter().filter(|rows| !rows.schema.fields().is_empty()) {
            checking::fit(&version, rows)?;
        }
        let origins: Vec<&str> = rows.iter().map(|rows| rows.origin.as_str()).collect();
        return Err(Error::Invalid(format!(
            "there are no rows to ingest into `{}`: the input is empty ({})",
            version.label(),
            origins.join(", ")
        )));
    }
    let mends = match request.mends {
        Some(of) => Some(mending::verify(catalog, &state, &version, of, &rows).await?),
        None => None,
    };
    let rows = if mends.is_some() { mending::without_marks(rows)? } else { rows };
    let sources: Vec<SourceFile> = rows.iter().filter_map(|rows| rows.file.clone()).collect();
    let origins: Vec<String> = rows.iter().map(|rows| rows.origin.clone()).collect();
    let checked = {
        let (version, conditions, progress) = (version.clone(), conditions.clone(), progress.clone());
        tokio::task::spawn_blocking(move || {
            checking::check_rows(&version, rows, only_new, conditions.as_ref(), &*progress)
        })
        .await
        .map_err(|error| Error::internal("validation stopped", error))??
    };

    let batch: BatchId = environment::mint();
    let mut report = checked.report(&version, batch, skipped);
    let total = report.rows + report.rejected;
    if total == 0 {
        // All of it is what the source's `where` leaves out.
        report.batch = None;
        return Ok(Attempt::Done(Box::new(report)));
    }
    let body = write_body(catalog, author, &origins, request.derivation.as_ref()).await?;
    let quarantine = match checked.quarantine {
        Some(bytes) => Some(catalog.put_object(format!("quarantine/{batch}/rejected.parquet"), bytes).await?),
        None => None,
    };
    let mut taken_over = mends.as_ref().map(|mends| mends.taken_over(&checked.rejected_places));
    let threshold = version.definition.reject_above.unwrap_or(1.0);
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
            sources,
            body,
        };
        let mut records: Vec<Record> = vec![record.into()];
        if let (Some(mends), Some(taken_over)) = (&mends, &mut taken_over) {
            // Of what it would have accepted nothing was taken: that stays with the batch that had rejected it.
            taken_over.retain(|row| row.again);
            records.push(mending::tie(catalog, batch, mends.of, taken_over).await?.into());
        }
        let outcome = catalog
            .commit::<()>(author, binding.as_ref(), |state| {
                mends.as_ref().map_or(Ok(()), |mends| mends.still_hold(state))?;
                Ok(Intent::Append(records.clone()))
            })
            .await?;
        if let Outcome::Committed(sequence) = outcome
            && catalog.state().refused().iter().all(|refused| refused.record.batch != batch)
        {
            let state = catalog.state();
            return Ok(Attempt::Done(Box::new(first_answer(catalog, &state, &version, sequence).await?)));
        }
        report.rows = 0;
        return Err(Error::Refused(Box::new(Refusal { report, offered: total, threshold })));
    }

    let knowledge = Knowledge::of(&version, request.claim);
    if knowledge.excludes_overlap {
        knowledge::refuse_overlap(catalog, &state, &version, &checked.rows, None).await?;
    }
    let rows = knowledge.date(checked.rows);
    let judging = if mends.is_some() { Judging::Mended } else { Judging::Batch };
    let judged = quality::judge(catalog, &state, &version, judging, &checked.profile).await?;
    let profile =
        catalog.put_object(format!("profiles/{batch}.json"), checked.profile.to_json().into()).await?;
    let staged =
        stage(catalog, &version, batch, rows.clone(), &request.layout, progress.as_ref(), report.rows)
            .await?;
    report.quarantined = keeps_back(&version, judged.as_ref());
    report.judged.clone_from(&judged);
    progress(Progress { stage: Stage::Committing, rows: report.rows, of: report.rows });
    let record = BatchCommitted {
        batch,
        view: version.view,
        version: version.version,
        rows: report.rows,
        rejected: report.rejected,
        known_at: knowledge.source,
        manifest: staged.manifest,
        digest: staged.digest,
        quarantine,
        sources: sources.clone(),
        body,
        derivation: request.derivation.as_ref().map(|made| made.derivation.clone()),
        profile: Some(profile),
        judged,
    };
    let record: Record =
        if report.quarantined { BatchQuarantined { batch: record }.into() } else { record.into() };
    let mut records = vec![record];
    if let (Some(mends), Some(taken_over)) = (&mends, &taken_over) {
        report.mended = taken_over.iter().filter(|row| !row.again).count() as u64;
        records.push(mending::tie(catalog, batch, mends.of, taken_over).await?.into());
    }
    loop {
        let compared = state.head.sequence;
        let outcome = catalog
            .commit(author, binding.as_ref(), |state| {
                // Whatever was decided above is decided again, on the state that the entry will follow.
                if only_new && sources.iter().any(|source| state.has_source(version.line, source.digest)) {
                    return Ok(Intent::Done(Superseded::SourcesTaken));
                }
                if resolve(state, &request.project, &request.view)?.version != version.version {
                    return Ok(Intent::Done(Superseded::VersionChanged));
                }
                let newest = state.batches_of_line(version.line).last().map(|batch| batch.by.sequence);
                if let Some(made) = &request.derivation
                    && newest.is_some_and(|newest| newest > made.derivation.sequence)
                {
                    return Err(Error::Contended(format!(
                        "another refresh of `{}` was faster; nothing was taken of this one: refresh again",
                        version.label()
                    )));
                }
                if knowledge.excludes_overlap && newest.is_some_and(|newest| newest > compared) {
                    return Ok(Intent::Done(Superseded::LaterBatches));
                }
                mends.as_ref().map_or(Ok(()), |mends| mends.still_hold(state))?;
                Ok(Intent::Append(records.clone()))
            })
            .await?;
        state = catalog.state();
        return Ok(match outcome {
            Outcome::Committed(sequence)
                if state.batch(batch).is_none() && state.quarantine().of(batch).is_none() =>
            {
                Attempt::Done(Box::new(first_answer(catalog, &state, &version, sequence).await?))
            }
            Outcome::Committed(sequence) => {
                report.sequence = Some(sequence);
                Attempt::Done(Box::new(report))
            }
            Outcome::Done(Superseded::SourcesTaken) => {
                let taken = skipped.taken + sources.len();
                Attempt::Done(Box::new(nothing_new(&version, Skipped { taken, ..skipped })))
            }
            Outcome::Done(Superseded::VersionChanged) => Attempt::VersionChanged,
            Outcome::Done(Superseded::LaterBatches) => {
                knowledge::refuse_overlap(catalog, &state, &version, &rows, Some(compared)).await?;
                continue;
            }
        });
    }
}

/// Whether a batch of this verdict waits until somebody has looked.
fn keeps_back(version: &ViewVersion, judged: Option<&Judged>) -> bool {
    let on_fail = version.definition.quality.as_ref().map(|quality| quality.on_fail);
    on_fail == Some(OnFail::Quarantine) && judged.is_some_and(|judged| judged.verdict == Verdict::Fail)
}

/// Rows of a derived view come from its query, and others do not.
fn verify_origin(version: &ViewVersion, request: &Request) -> Result<()> {
    match (&version.definition.derived, &request.derivation) {
        (Some(_), None) => Err(Error::Invalid(format!(
            "`{0}` is derived, so that its rows come from its query: `lineament refresh {0}` brings it up to date",
            version.definition.name
        ))),
        (None, Some(_)) => Err(Error::Invalid(format!("`{}` is not derived", version.label()))),
        (Some(_), Some(made)) if made.version != version.version => Err(Error::Contended(format!(
            "the definition of `{}` changed while its rows were made; refresh again",
            version.definition.name
        ))),
        _ => Ok(()),
    }
}

/// The version that rows of a view go into: the one in force, of the project in its name, or of `project` where it names none.
///
/// # Errors
/// `NotFound` for a view that is not there, `Invalid` for the name of a version.
pub fn resolve(state: &State, project: &Name, view: &str) -> Result<ViewVersion> {
    let (project, name) = match view.split_once('.') {
        Some((project, name)) => (project, name),
        None => (project.as_str(), view),
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
) -> Result<(Vec<Rows>, Skipped)> {
    let (paths, format, only_new) = match &request.input {
        Input::Rows(rows) => return Ok((vec![rows.clone()], Skipped::default())),
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
    let (state, progress) = (state.clone(), progress.clone());
    let (line, version) = (version.line, version.version);
    tokio::task::spawn_blocking(move || {
        let (mut all, mut read_from) = (Vec::new(), Vec::new());
        let mut skipped = Skipped::default();
        let of = paths.len() as u64;
        for (read, path) in paths.iter().enumerate() {
            progress(Progress { stage: Stage::Reading, rows: read as u64, of });
            let (bytes, file) = sources::open(path, state.hash)?;
            let taken = state.has_source(line, file.digest)
                || all
                    .iter()
                    .any(|rows: &Rows| rows.file.as_ref().is_some_and(|seen| seen.digest == file.digest));
            if only_new && taken {
                skipped.taken += 1;
            } else if only_new && state.has_refused(version, file.digest) {
                skipped.refused += 1;
            } else {
                all.push(sources::decode(path, bytes, file, format, row_files::CsvTypes::Text)?);
                read_from.push(path.as_path());
            }
        }
        sources::tell_apart(&read_from, &mut all);
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
    if let Some(of) = request.mends {
        content.push_str(&format!(" mends {of}"));
    }
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

fn nothing_new(version: &ViewVersion, skipped: Skipped) -> Report {
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
        judged: None,
        quarantined: false,
        mended: 0,
    }
}

/// What the request that stands at a sequence was answered.
async fn first_answer(
    catalog: &Catalog,
    state: &State,
    version: &ViewVersion,
    sequence: Sequence,
) -> Result<Report> {
    let kept_back = || state.quarantine().all().iter().find(|held| held.batch.by.sequence == sequence);
    // The key is bound to the view, of which there may be other lines by now.
    let of_view = state.versions_of(&version.definition.project, &version.definition.name).iter();
    let mut admitted = of_view.flat_map(|version| state.batches_of_line(version.line));
    let admitted = admitted.find(|batch| batch.by.sequence == sequence).cloned();
    if let Some(batch) = admitted.or_else(|| kept_back().map(|held| held.batch.clone())) {
        return Ok(Report {
            judged: batch.record.judged.clone(),
            quarantined: state.quarantine().of(batch.record.batch).is_some(),
            batch: Some(batch.record.batch),
            sequence: Some(sequence),
            rows: batch.record.rows,
            rejected: batch.record.rejected,
            repeated: true,
            mended: state
                .mended()
                .all()
                .iter()
                .filter(|one| one.by.sequence == sequence)
                .map(|one| one.record.rows.saturating_sub(one.record.again.unwrap_or(0)))
                .sum(),
            ..nothing_new(version, Skipped::default())
        });
    }
    let Some(refused) = state.refused().iter().find(|refused| refused.by.sequence == sequence) else {
        return Err(Error::Invalid(format!(
            "the request key was used at sequence {sequence} for something else; choose another"
        )));
    };
    let BatchRefused { batch, rows, rejected, quarantine, .. } = &refused.record;
    let bytes = catalog.object(quarantine).await?;
    let examples = quarantine::examples(bytes, EXAMPLES)
        .map_err(|why| storage::Error::corrupt(&quarantine.path, why.to_string()))?;
    let report = Report {
        batch: Some(*batch),
        sequence: Some(sequence),
        rejected: *rejected,
        examples,
        repeated: true,
        ..nothing_new(version, Skipped::default())
    };
    let threshold = version.definition.reject_above.unwrap_or(1.0);
    Err(Error::Refused(Box::new(Refusal { report, offered: *rows, threshold })))
}

/// Rejections that a report quotes in words.
const EXAMPLES: usize = 5;

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
    let layout = &retention::layout(&catalog.state(), version.view, layout);
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
async fn write_body(
    catalog: &Catalog,
    author: &Author,
    origins: &[String],
    made: Option<&Made>,
) -> Result<Option<Object>> {
    if author.steps.is_empty() && origins.is_empty() {
        return Ok(None);
    }
    let mut body = serde_json::json!({ "origins": origins, "steps": author.steps });
    if let Some(made) = made {
        body["derived"] = serde_json::json!({ "sql": made.sql, "plan": made.plan });
        if let Some(lineage) = &made.lineage {
            body["derived"]["lineage"] = lineage.clone();
        }
    }
    let id: BodyId = environment::mint();
    let bytes =
        serde_json::to_vec(&body).map_err(|error| Error::internal("a body cannot be written", error))?;
    Ok(Some(catalog.put_object(format!("bodies/{id}.json"), bytes.into()).await?))
}
