//! Explain: why one cell of a training set, or one value of a feature, is what it is.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, ArrayRef, StringArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::util::display::array_value_to_string;
use async_recursion::async_recursion;
use catalog::Author;
use catalog::records::Object;
use catalog::state::{Batch, ViewVersion, Withdrawable};
use catalog::{State, VisibleFile};
use datafusion::common::DataFusionError;
use engine::access::Sights;
use engine::point_in_time::{CandidateRow, Cut, NullReason, candidates, cast_key};
use engine::{KeyFile, Snapshot};
use feature::name::nearest;
use feature::policy::Action;
use feature::{Reference, Sequence, Timestamp, TrainingSetId, with_null_reason};
use serde::{Deserialize, Serialize};

use crate::erased_rows;
use crate::error::{Error, Kind, Result};
use crate::judgement::{Judgement, Known};
use crate::looked_at::looked_at;
use crate::reads::{Read, ReadKind};
use crate::replay::cut_of;
use crate::retrieve::Serving;

/// Which cell.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    pub training_set: TrainingSetId,
    /// The first is 0.
    pub row: u64,
    pub column: String,
    /// Whether every file that may hold the key is opened, however many they are.
    #[serde(default)]
    pub exhaustive: bool,
}

impl ExplainRequest {
    pub fn new(training_set: TrainingSetId, row: u64, column: impl Into<String>) -> Self {
        Self { training_set, row, column: column.into(), exhaustive: false }
    }
}

/// Which value, without a training set: a feature of an entity, as a retrieval would give it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainValueRequest {
    /// `weather.temp`, `weather@1.temp`
    pub feature: String,
    /// By key column, as text, number or truth value; null matches nothing.
    pub key: BTreeMap<String, serde_json::Value>,
    #[serde(with = "required_instant")]
    pub at: Timestamp,
    /// One instant in place of `at` as the limit on what was known.
    #[serde(default, with = "feature::time::rfc3339::option")]
    pub known_by: Option<Timestamp>,
    /// The snapshot; the newest where none is given.
    #[serde(default)]
    pub sequence: Option<Sequence>,
    /// Whether every file that may hold the key is opened, however many they are.
    #[serde(default)]
    pub exhaustive: bool,
}

mod required_instant {
    use feature::Timestamp;
    use serde::{Deserialize, Deserializer, de};

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Set, row and column of the cell; none for a value that was asked for without a set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training_set: Option<TrainingSetId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    pub value: Option<String>,
    /// Why the value is null; none where it is not.
    pub null_reason: Option<String>,
    /// Whether the declared default stands in for an observation.
    pub defaulted: bool,
    /// `weather@3.temp`
    pub reference: String,
    /// Who withdrew that version by now, and why; none where it is not withdrawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<String>,
    pub key: BTreeMap<String, Option<String>>,
    pub at: Option<String>,
    pub winner: Option<Candidate>,
    /// The first few that lost, nearest to the asked time first.
    pub losers: Vec<Candidate>,
    /// How many lost, by reason. Exact, unless files were left unopened.
    pub losers_by_reason: BTreeMap<String, u64>,
    /// Files that may hold more candidates that lost, and were left unopened since there are very many. The winner is never among
    /// them. `exhaustive` opens them too.
    #[serde(skip_serializing_if = "is_zero")]
    pub unopened_files: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A row that could have answered.
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    pub valid_at: String,
    pub known_at: String,
    pub value: Option<String>,
    pub batch: String,
    pub sequence: Sequence,
    /// The version that it was written under.
    pub version: String,
    pub file: String,
    /// The place in the file; none where rows of the view are hidden, as it counts those before.
    pub row: Option<u64>,
    pub principal: String,
    pub program: String,
    pub run: Option<String>,
    /// Where the batch's rows came from.
    pub origin: Option<String>,
    /// What was done to them before, as the writer stated.
    pub steps: Vec<String>,
    /// The query that made it, where its view is derived and is seen whole, as is all that it was made of: a literal of it may be a value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// Why it lost; none for the winner.
    pub reason: Option<String>,
}

const LOSERS_SHOWN: usize = 10;
/// So many files of a key are opened whatever is in them; of more, only those that the answer depends on.
const FILES_OPENED: usize = 64;
/// Files that are opened at once where only some are.
const FILES_AT_ONCE: usize = 8;

/// One value that is to be explained.
struct Asked<'a> {
    version: Arc<ViewVersion>,
    feature: &'a str,
    /// One row a key column, cast to the key's type where that holds it.
    key: Vec<(String, ArrayRef)>,
    judgement: Judgement,
    exhaustive: bool,
}

/// What is said of a value whose row may not be seen: no more than of any other such.
fn hidden(asked: &Asked<'_>, key: BTreeMap<String, Option<String>>) -> Explanation {
    unseen(asked, key, NullReason::Hidden.as_str())
}

/// What is said of a value of which no row is looked at.
fn unseen(asked: &Asked<'_>, key: BTreeMap<String, Option<String>>, reason: &str) -> Explanation {
    Explanation {
        training_set: None,
        row: None,
        column: None,
        value: None,
        null_reason: Some(reason.to_owned()),
        defaulted: false,
        reference: format!("{}.{}", asked.version.label(), asked.feature),
        withdrawn: None,
        key,
        at: asked.judgement.at.map(|at| at.to_string()),
        winner: None,
        losers: Vec::new(),
        losers_by_reason: BTreeMap::new(),
        unopened_files: 0,
    }
}

/// Who withdrew a version, and why.
fn withdrawn(newest: &Snapshot, version: &ViewVersion) -> Option<String> {
    let of = Withdrawable::Version(version.version);
    let withdrawal = newest.state.withdrawals().at(of, newest.sequence)?;
    let (principal, sequence) = (&withdrawal.by.principal, withdrawal.by.sequence);
    Some(format!("by {principal} at sequence {sequence}: {}", withdrawal.reason))
}

/// An explanation of a masked feature: which rows there are, and nothing of what is in them.
fn without_values(mut explanation: Explanation) -> Explanation {
    explanation.value = None;
    explanation.null_reason = Some(NullReason::Hidden.to_string());
    explanation.defaulted = false;
    for candidate in explanation.losers.iter_mut().chain(&mut explanation.winner) {
        candidate.value = None;
    }
    explanation
}

/// An explanation of a view of which some rows are hidden: where a row lies in its file counts those before it.
fn without_places(mut explanation: Explanation) -> Explanation {
    for candidate in explanation.losers.iter_mut().chain(&mut explanation.winner) {
        candidate.row = None;
    }
    explanation
}

impl Serving {
    /// Explains one cell of a recorded training set.
    ///
    /// # Errors
    /// An id, row or column that there is not; `Forbidden` where the author may see less than the set shows, as its spine is shown too.
    #[async_recursion]
    pub async fn explain(&self, request: ExplainRequest, author: &Author) -> Result<Explanation> {
        let words = format!(
            "explain: training set {}, row {}, {}",
            request.training_set, request.row, request.column
        );
        let answer = self.explained_cell(request, author);
        self.on_record(author, Action::Read, Some(ReadKind::Explain), || words, answer).await
    }

    async fn explained_cell(&self, request: ExplainRequest, author: &Author) -> Result<Explanation> {
        let started = Instant::now();
        let manifest = self.manifest(request.training_set).await?;
        self.require_as_recorded(&manifest, author).await?;
        let Some(reference) = manifest.references.iter().find(|known| known.output == request.column) else {
            return Err(self.unknown_column(&request, &manifest));
        };
        if request.row >= manifest.rows {
            return Err(Error::new(
                Kind::NotFound,
                format!(
                    "the training set has rows 0 to {}, not {}",
                    manifest.rows.saturating_sub(1),
                    request.row
                ),
            ));
        }
        let Some(spine_row) = self.stored_row(&manifest, request.row).await? else {
            return Err(Error::new(Kind::Damaged, format!("the stored spine has no row {}", request.row)));
        };
        // Later batches are looked at too, so that those which came after can be told of.
        let newest = self.snapshot_for(None, author).await?;
        let Some(version) = newest.state.view_version(reference.version) else {
            return Err(Error::new(
                Kind::Damaged,
                format!("the store knows no version {}", reference.version),
            ));
        };
        let version = Arc::new(version.clone());
        let mut key: Vec<(String, ArrayRef)> = Vec::new();
        for part in version.keys() {
            let name = part.name.as_str();
            let Some(column) = spine_row.column_by_name(name) else {
                return Err(Error::new(Kind::Damaged, format!("the stored spine has no column `{name}`")));
            };
            key.push((name.to_owned(), column.clone()));
        }
        let at = match spine_row.column_by_name(&manifest.spine.at) {
            Some(at) => {
                let at = engine::point_in_time::micros(at)?;
                at.is_valid(0).then(|| Timestamp(at.value(0)))
            }
            None => None,
        };
        let ttl =
            manifest.views.iter().find(|view| view.version == reference.version).and_then(|view| view.ttl);
        let asked = Asked {
            version,
            feature: &reference.feature,
            key,
            judgement: Judgement { sequence: manifest.sequence, at, cut: cut_of(&manifest), ttl },
            exhaustive: request.exhaustive,
        };
        let traced = looked_at([(&*asked.version, newest.sequence, &*reference.feature, &*request.column)]);
        let traced = Arc::new(traced);
        let place = self.reads.reserve(&traced)?;
        let mut read = Read::new(author, newest.sequence, self.catalog().store().clock().now(), traced);
        read.asked(
            ReadKind::Explain,
            format!(
                "explain: training set {}, row {}, {}",
                request.training_set, request.row, request.column
            ),
        );
        let (mut explanation, rows) = match erased_rows::is_erased(&manifest, &spine_row) {
            true => {
                let key = asked.key.iter().map(|(name, _)| (name.clone(), None)).collect();
                (unseen(&asked, key, erased_rows::REASON), 0)
            }
            false => self.explained(&newest, &asked).await?,
        };
        explanation.withdrawn = withdrawn(&newest, &asked.version);
        explanation.training_set = Some(request.training_set);
        explanation.row = Some(request.row);
        explanation.column = Some(request.column);
        read.rows = rows;
        read.micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.record_read(place, read).await?;
        Ok(explanation)
    }

    /// Explains the value that a retrieval gives for an entity at a time. The version's own ttl counts.
    ///
    /// # Errors
    /// A feature, key or sequence that there is not; a key that is not one of the entity's, or lacks a part.
    #[async_recursion]
    pub async fn explain_value(&self, request: ExplainValueRequest, author: &Author) -> Result<Explanation> {
        let words = format!("explain: {} at {}", request.feature, request.at);
        let answer = self.explained_value(request, author);
        self.on_record(author, Action::Read, Some(ReadKind::Explain), || words, answer).await
    }

    async fn explained_value(&self, request: ExplainValueRequest, author: &Author) -> Result<Explanation> {
        let started = Instant::now();
        let newest = self.snapshot_for(None, author).await?;
        let sequence = request.sequence.unwrap_or(newest.sequence);
        if sequence > newest.sequence {
            return Err(Error::new(
                Kind::NotFound,
                format!("the log ends at sequence {}; there is no {sequence} yet", newest.sequence),
            ));
        }
        let snapshot = self.engine.snapshot(Some(sequence)).await?;
        let reference = request
            .feature
            .parse::<Reference>()
            .map_err(|error| Error::new(Kind::Invalid, error.to_string()))?;
        let Some(name) = reference.feature.as_ref().map(ToString::to_string) else {
            return Err(Error::new(
                Kind::Invalid,
                format!("`{}` stands for all features of a view; name the one to explain", request.feature),
            ));
        };
        let version =
            snapshot.version(reference.project.as_str(), reference.view.as_str(), reference.version)?;
        let features = &version.definition.features;
        if !features.iter().any(|feature| feature.name.as_str() == name) {
            let known: Vec<&str> = features.iter().map(|feature| feature.name.as_str()).collect();
            let hint = did_you_mean(&name, &known);
            return Err(Error::new(
                Kind::NotFound,
                format!("`{}` has no feature `{name}`{hint}; it has {}", version.label(), known.join(", ")),
            ));
        }
        let cut = request.known_by.map_or(Cut::Row, Cut::Instant);
        let asked = Asked {
            key: key_of(&version, &request.key)?,
            judgement: Judgement { sequence, at: Some(request.at), cut, ttl: version.definition.ttl },
            version,
            feature: &name,
            exhaustive: request.exhaustive,
        };
        let traced = Arc::new(looked_at([(&*asked.version, newest.sequence, &*name, &*name)]));
        let place = self.reads.reserve(&traced)?;
        let mut read = Read::new(author, newest.sequence, self.catalog().store().clock().now(), traced);
        read.asked(ReadKind::Explain, format!("explain: {} at {}", request.feature, request.at));
        let (mut explanation, rows) = self.explained(&newest, &asked).await?;
        explanation.withdrawn = withdrawn(&newest, &asked.version);
        read.rows = rows;
        read.micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.record_read(place, read).await?;
        Ok(explanation)
    }

    /// The explanation, and how many rows were looked at.
    async fn explained(&self, newest: &Snapshot, asked: &Asked<'_>) -> Result<(Explanation, u64)> {
        let mut key_text = BTreeMap::new();
        for (name, column) in &asked.key {
            let text = if column.is_null(0) { None } else { Some(shown(column)?) };
            key_text.insert(name.clone(), text);
        }
        let guard = newest.guard(&asked.version)?;
        let mut veiled = false;
        if let Some(guard) = &guard {
            guard.allow(&asked.version, [asked.feature]).map_err(DataFusionError::from)?;
            let keys: Vec<ArrayRef> = asked.key.iter().map(|(_, part)| part.clone()).collect();
            let whole = keys.iter().all(|part| part.is_valid(0));
            if let Some(rows) = guard.rows()
                && whole
                && !rows.sees(&keys)?.value(0)
            {
                return Ok((hidden(asked, key_text), 0));
            }
            let features = &asked.version.definition.features;
            let place = features.iter().position(|known| known.name.as_str() == asked.feature);
            veiled = place.is_some_and(|place| guard.mask(place).is_some());
        }
        let judgement = &asked.judgement;
        let null_key = judgement.at.is_none() || asked.key.iter().any(|(_, column)| column.is_null(0));
        let Opened { rows, known, unopened } = self.open_files(newest, asked).await?;
        let judged = judgement.judge(&rows, &known);
        let mut losers_by_reason = BTreeMap::new();
        let mut losers = Vec::new();
        let mut winner = None;
        let mut bodies = HashMap::new();
        for (row, reason) in &judged {
            match reason {
                Some(reason) => {
                    *losers_by_reason.entry((*reason).to_owned()).or_default() += 1;
                    if losers.len() < LOSERS_SHOWN {
                        losers.push(
                            self.candidate(row, &known.files, newest, Some(reason), &mut bodies).await?,
                        );
                    }
                }
                None => {
                    winner =
                        Some((*row, self.candidate(row, &known.files, newest, None, &mut bodies).await?));
                }
            }
        }
        let default = asked
            .version
            .definition
            .features
            .iter()
            .find(|feature| feature.name.as_str() == asked.feature)
            .and_then(|feature| feature.default.as_ref());
        let (value, null_reason, defaulted) = match &winner {
            Some((row, _)) if row.retracted => (None, Some(NullReason::Retracted), false),
            Some((row, _)) if !row.in_batch => (None, Some(NullReason::NotInBatch), false),
            Some((row, _)) if row.value.is_none() => (None, Some(NullReason::NullAtSource), false),
            Some((row, _)) => (row.value.clone(), None, false),
            None => match default {
                Some(default) => (serde_json::to_string(default).ok(), None, true),
                None => (None, Some(judgement.furthest(null_key, &rows, &known)), false),
            },
        };
        // Of an entity that was erased nothing is left to tell by; what came since is judged as any other's.
        let nothing = null_reason.is_some() && winner.is_none() && rows.is_empty();
        let null_reason = match nothing && self.was_erased(newest, asked).await? {
            true => Some(erased_rows::REASON.to_owned()),
            false => null_reason.map(|reason| reason.to_string()),
        };
        let explanation = Explanation {
            training_set: None,
            row: None,
            column: None,
            value,
            null_reason,
            defaulted,
            reference: format!("{}.{}", asked.version.label(), asked.feature),
            withdrawn: None,
            key: key_text,
            at: judgement.at.map(|at| at.to_string()),
            winner: winner.map(|(_, candidate)| candidate),
            losers,
            losers_by_reason,
            unopened_files: unopened,
        };
        let explanation = if veiled { without_values(explanation) } else { explanation };
        let hides = guard.is_some_and(|guard| guard.rows().is_some());
        let explanation = if hides { without_places(explanation) } else { explanation };
        Ok((explanation, rows.len() as u64))
    }

    /// Whether the key was erased from the view.
    async fn was_erased(&self, newest: &Snapshot, asked: &Asked<'_>) -> Result<bool> {
        let erasures: Vec<_> = newest.state.erasures().of_view(asked.version.view).collect();
        if erasures.is_empty() {
            return Ok(false);
        }
        let mut key = Vec::with_capacity(asked.key.len());
        for ((name, part), declared) in asked.key.iter().zip(asked.version.keys()) {
            key.push(cast_key(name, part, &declared.data_type.arrow())?);
        }
        if key.iter().any(|part| part.is_null(0)) {
            return Ok(false);
        }
        let canonical = feature::key::canonical_key(&key, 0);
        let canonical = canonical.map_err(|error| Error::internal("a key has no bytes", error))?;
        for one in erasures {
            if catalog::erasure::is_of(self.catalog(), &one.record, &canonical).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The rows of the key. Files that cannot hold it are told by their manifests and never opened.
    async fn open_files(&self, newest: &Snapshot, asked: &Asked<'_>) -> Result<Opened> {
        let mut key = Vec::with_capacity(asked.key.len());
        for ((name, part), declared) in asked.key.iter().zip(asked.version.keys()) {
            key.push(cast_key(name, part, &declared.data_type.arrow())?);
        }
        let (state, at) = (&newest.state, asked.judgement.sequence);
        if let Some(gone) = state.gone_of(&asked.version, at) {
            return Err(catalog::Error::gone(&asked.version, at, gone).into());
        }
        let mut opened = Opened::default();
        opened.known.since = state.expiry().before(asked.version.view, at);
        opened.known.since_now = state.expiry().before(asked.version.view, newest.sequence);
        // Null, or what no key of the entity can be: no file has it.
        if key.iter().any(|part| part.is_null(0)) {
            return Ok(opened);
        }
        let mut files = self.key_files.of_key(self.catalog(), &newest.state, &asked.version, &key).await?;
        files.extend(self.kept_back(newest, asked).await?);
        if asked.exhaustive || files.len() <= FILES_OPENED {
            opened.open(newest, asked, files).await?;
            return Ok(opened);
        }
        let mut near = Nearest::of(files, &newest.state, &asked.judgement, opened.known.since);
        while let Some(next) = near.next_past(&opened, &asked.judgement) {
            opened.open(newest, asked, next).await?;
        }
        // Whether the entity is known at all only later files can tell, where no earlier one has it.
        while opened.rows.is_empty()
            && let Some(next) = near.next_later()
        {
            opened.open(newest, asked, next).await?;
        }
        let left = FILES_OPENED.saturating_sub(opened.known.files.len());
        let rest = near.rest();
        let (some, unopened) = rest.split_at(left.min(rest.len()));
        opened.open(newest, asked, some.to_vec()).await?;
        opened.unopened = unopened.len() as u64;
        Ok(opened)
    }

    /// Files of batches in quarantine, and of those that were dropped from there: they cannot win, and a reader may look for them.
    async fn kept_back(&self, newest: &Snapshot, asked: &Asked<'_>) -> Result<Vec<KeyFile>> {
        let mut files = Vec::new();
        for held in newest.state.quarantine().all() {
            let batch = &held.batch;
            if batch.line != asked.version.line || newest.state.batch(batch.record.batch).is_some() {
                continue;
            }
            for file in self.catalog().batch_files(batch).await?.iter() {
                files.push(KeyFile {
                    valid_at: file.valid_at_range(),
                    counts: newest.state.counts_for(batch, &asked.version),
                    kept_back: true,
                    file: VisibleFile::of_one(file.clone(), batch.clone()),
                });
            }
        }
        Ok(files)
    }

    fn unknown_column(&self, request: &ExplainRequest, manifest: &lineage::Manifest) -> Error {
        let column = &request.column;
        if manifest.says_why_null(column)
            && let Some(output) = with_null_reason(column)
        {
            return Error::new(
                Kind::Invalid,
                format!(
                    "`{column}` says why the feature `{output}` is null; explain `{output}`, which tells that and more"
                ),
            );
        }
        if manifest.columns.iter().any(|known| known.name == *column) {
            return Error::new(
                Kind::Invalid,
                format!(
                    "`{column}` is a column of the spine, carried through as it was given; features can be explained"
                ),
            );
        }
        let known: Vec<&str> =
            manifest.references.iter().map(|reference| reference.output.as_str()).collect();
        let hint = did_you_mean(column, &known);
        Error::new(
            Kind::NotFound,
            format!("the training set has no feature `{column}`{hint}; it has {}", known.join(", ")),
        )
    }

    async fn candidate(
        &self,
        row: &CandidateRow,
        files: &[VisibleFile],
        snapshot: &Snapshot,
        reason: Option<&str>,
        bodies: &mut HashMap<String, Body>,
    ) -> Result<Candidate> {
        let Some(VisibleFile { file, .. }) = files.get(row.file) else {
            return Err(Error::new(Kind::Internal, "a candidate is of no file"));
        };
        let batch = &row.batch;
        let body = match &batch.record.body {
            Some(object) => self.body(object, bodies).await?,
            None => Body::default(),
        };
        let version = snapshot.state.view_version(batch.record.version);
        let made = body.derived.filter(|_| Sights::of_snapshot(snapshot).of_batch(batch));
        Ok(Candidate {
            valid_at: row.valid_at.to_string(),
            known_at: row.known_at.to_string(),
            value: row.value.clone(),
            batch: batch.record.batch.to_string(),
            sequence: batch.by.sequence,
            version: version.map(catalog::state::ViewVersion::label).unwrap_or_default(),
            file: file.path.clone(),
            row: Some(row.row),
            principal: batch.by.principal.clone(),
            program: batch.by.program.clone(),
            run: batch.by.run.clone(),
            origin: (!body.origins.is_empty()).then(|| body.origins.join(", ")),
            steps: body.steps,
            sql: made.map(|made| made.sql),
            reason: reason.map(str::to_owned),
        })
    }

    async fn body(&self, object: &Object, bodies: &mut HashMap<String, Body>) -> Result<Body> {
        if let Some(body) = bodies.get(&object.path) {
            return Ok(body.clone());
        }
        let bytes = self.catalog().object(object).await?;
        let body: Body = serde_json::from_slice(&bytes)
            .map_err(|error| Error::new(Kind::Damaged, format!("`{}`: {error}", object.path)))?;
        bodies.insert(object.path.clone(), body.clone());
        Ok(body)
    }
}

/// What a batch's writer said of where its rows came from.
#[derive(Clone, Debug, Default, Deserialize)]
struct Body {
    #[serde(default)]
    origins: Vec<String>,
    #[serde(default)]
    steps: Vec<String>,
    derived: Option<MadeBy>,
}

/// How a refresh made a batch.
#[derive(Clone, Debug, Deserialize)]
struct MadeBy {
    sql: String,
}

/// What was read of a key.
#[derive(Default)]
struct Opened {
    rows: Vec<CandidateRow>,
    known: Known,
    unopened: u64,
}

impl Opened {
    async fn open(&mut self, newest: &Snapshot, asked: &Asked<'_>, files: Vec<KeyFile>) -> Result<()> {
        let before = self.known.files.len();
        for file in files {
            self.known.counts.push(file.counts);
            let withdrawn = |batch: &&Arc<Batch>| !newest.state.counts_at(batch, asked.judgement.sequence);
            let withdrawn = file.file.batches().iter().filter(withdrawn).map(|batch| batch.record.batch);
            self.known.withdrawn.extend(withdrawn);
            let kept_back = |batch: &&Arc<Batch>| newest.state.batch(batch.record.batch).is_none();
            let kept_back = file.file.batches().iter().filter(kept_back).map(|batch| batch.record.batch);
            self.known.quarantined.extend(kept_back);
            self.known.files.push(file.file);
        }
        let new = &self.known.files[before..];
        let rows = candidates(&newest.files, &asked.version, new, &asked.key, asked.feature).await?;
        self.rows.extend(rows.into_iter().map(|row| CandidateRow { file: before + row.file, ..row }));
        Ok(())
    }
}

/// The files of a key in the order in which they are worth opening.
struct Nearest {
    /// Those that may hold the winner, the greatest valid_at last.
    past: Vec<KeyFile>,
    /// Of the snapshot, but all of their rows are later; the nearest last.
    later: Vec<KeyFile>,
    /// Those that cannot win at all.
    others: Vec<KeyFile>,
    at: i64,
}

impl Nearest {
    fn of(files: Vec<KeyFile>, state: &State, judgement: &Judgement, since: Option<Timestamp>) -> Self {
        let at = judgement.at.map_or(i64::MIN, Timestamp::micros);
        let mut near = Self { past: Vec::new(), later: Vec::new(), others: Vec::new(), at };
        for file in files {
            let wins = |batch: &Arc<Batch>| {
                batch.by.sequence <= judgement.sequence && state.counts_at(batch, judgement.sequence)
            };
            let too_old = since.is_some_and(|since| greatest(&file) < since.micros());
            if !file.counts || file.kept_back || too_old || !file.file.batches().iter().any(wins) {
                near.others.push(file);
            } else if least(&file) <= at {
                near.past.push(file);
            } else {
                near.later.push(file);
            }
        }
        // Stable, so that of equals the last in the log is opened first.
        near.past.sort_by_key(|file| greatest(file).min(at));
        near.later.sort_by_key(|file| std::cmp::Reverse(least(file)));
        near
    }

    /// The next files that may change who wins; none where that is decided.
    fn next_past(&mut self, opened: &Opened, judgement: &Judgement) -> Option<Vec<KeyFile>> {
        let next = greatest(self.past.last()?);
        let decided = match judgement.best(&opened.rows, &opened.known) {
            Some(best) => opened.rows.get(best).is_some_and(|best| best.valid_at.micros() > next),
            // All that is left is too old; one such row says so, if it was known.
            None => {
                next < judgement.oldest()
                    && judgement.furthest(false, &opened.rows, &opened.known) == NullReason::Expired
            }
        };
        if decided { None } else { Some(some(&mut self.past)) }
    }

    fn next_later(&mut self) -> Option<Vec<KeyFile>> {
        if self.later.is_empty() { None } else { Some(some(&mut self.later)) }
    }

    /// What was not opened, the nearest to the asked time first.
    fn rest(self) -> Vec<KeyFile> {
        let mut rest = self.past;
        rest.extend(self.later);
        rest.extend(self.others);
        rest.sort_by_key(|file| {
            (least(file).saturating_sub(self.at)).max(self.at.saturating_sub(greatest(file)))
        });
        rest
    }
}

fn some(files: &mut Vec<KeyFile>) -> Vec<KeyFile> {
    files.split_off(files.len().saturating_sub(FILES_AT_ONCE))
}

/// A file without bounds may hold any time.
fn least(file: &KeyFile) -> i64 {
    file.valid_at.map_or(i64::MIN, |(least, _)| least)
}

fn greatest(file: &KeyFile) -> i64 {
    file.valid_at.map_or(i64::MAX, |(_, greatest)| greatest)
}

/// The key that was named, a column of one row a part.
fn key_of(
    version: &ViewVersion,
    given: &BTreeMap<String, serde_json::Value>,
) -> Result<Vec<(String, ArrayRef)>> {
    let names: Vec<&str> = version.keys().iter().map(|key| key.name.as_str()).collect();
    if let Some(strange) = given.keys().find(|name| !names.contains(&name.as_str())) {
        return Err(Error::new(
            Kind::Invalid,
            format!(
                "`{strange}` is no key of entity `{}`{}; its keys: {}",
                version.definition.entity,
                did_you_mean(strange, &names),
                names.join(", ")
            ),
        ));
    }
    let mut key = Vec::with_capacity(names.len());
    for part in version.keys() {
        let name = part.name.as_str();
        let Some(value) = given.get(name) else {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "the key `{name}` is missing; entity `{}` has the keys {}",
                    version.definition.entity,
                    names.join(", ")
                ),
            ));
        };
        let kind = part.data_type.arrow();
        let text = match value {
            serde_json::Value::Null => {
                key.push((name.to_owned(), new_null_array(&kind, 1)));
                continue;
            }
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let column =
            cast_with_options(&StringArray::from(vec![text.as_str()]), &kind, &strict).map_err(|_| {
                Error::new(
                    Kind::Invalid,
                    format!("the key `{name}` is a {}, and `{text}` is none", part.data_type),
                )
            })?;
        key.push((name.to_owned(), column));
    }
    Ok(key)
}

fn did_you_mean(wrong: &str, known: &[&str]) -> String {
    nearest(wrong, known.iter().copied()).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
}

fn shown(column: &ArrayRef) -> Result<String> {
    array_value_to_string(column, 0).map_err(|error| Error::internal("a key cannot be shown", error))
}
