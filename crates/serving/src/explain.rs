//! Explain: why one cell of a training set has its value.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use arrow::util::display::array_value_to_string;
use catalog::records::Object;
use catalog::state::ViewVersion;
use catalog::{Author, VisibleFile};
use engine::column_lineage::{Edge, Influence, Output, Scan, Source, Traced};
use engine::point_in_time::{CandidateRow, Cut, NullReason, candidates};
use feature::name::nearest;
use feature::{Sequence, Timestamp, TrainingSetId};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::historical::row_of;
use crate::reads::Read;
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
}

#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    pub training_set: TrainingSetId,
    pub row: u64,
    pub column: String,
    pub value: Option<String>,
    /// Why the value is null; none where it is not.
    pub null_reason: Option<String>,
    /// Whether the declared default stands in for an observation.
    pub defaulted: bool,
    /// `weather@3.temp`
    pub reference: String,
    pub key: BTreeMap<String, Option<String>>,
    pub at: Option<String>,
    pub winner: Option<Candidate>,
    /// The first few that lost, nearest to the asked time first.
    pub losers: Vec<Candidate>,
    /// How many lost, by reason. Exact.
    pub losers_by_reason: BTreeMap<String, u64>,
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
    pub row: u64,
    pub principal: String,
    pub program: String,
    pub run: Option<String>,
    /// Where the batch's rows came from.
    pub origin: Option<String>,
    /// What was done to them before, as the writer stated.
    pub steps: Vec<String>,
    /// Why it lost; none for the winner.
    pub reason: Option<String>,
}

/// What an explanation reads: the feature, and the keys and times by which its candidates are judged.
fn traced(version: &ViewVersion, sequence: Sequence, feature: &str, output: &str) -> Traced {
    let keys = version.keys().iter().map(|key| (key.name.as_str(), Influence::Join));
    let times = ["valid_at", "known_at"].map(|time| (time, Influence::Sort));
    let read: Vec<(&str, Influence)> =
        [(feature, Influence::Identity)].into_iter().chain(keys).chain(times).collect();
    let edge = |(column, influence): &(&str, Influence)| Edge {
        source: Arc::new(Source::FeatureView {
            version: version.version,
            label: version.label(),
            sequence,
            column: (*column).to_owned(),
        }),
        influence: *influence,
    };
    let mut columns: Vec<String> = read.iter().map(|(column, _)| (*column).to_owned()).collect();
    columns.sort();
    Traced {
        outputs: vec![Output {
            name: output.to_owned(),
            expression: format!("{}.{feature}", version.label()),
            sources: read.iter().map(edge).collect(),
        }],
        scans: vec![Scan { version: version.version, label: version.label(), sequence, columns }],
        ..Traced::default()
    }
}

const LOSERS_SHOWN: usize = 10;

impl Serving {
    /// Explains one cell of a recorded training set.
    ///
    /// # Errors
    /// An id, row or column that there is not.
    pub async fn explain(&self, request: ExplainRequest, author: &Author) -> Result<Explanation> {
        let started = Instant::now();
        let manifest = self.manifest(request.training_set).await?;
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
        let (session, _) = self.as_recorded(&manifest).await?;
        let snapshot = session.snapshot();
        let spine = self.stored_spine(&manifest).await?;
        let Some(spine_row) = row_of(&spine, request.row) else {
            return Err(Error::new(Kind::Damaged, format!("the stored spine has no row {}", request.row)));
        };
        let Some(version) = snapshot.state.view_version(reference.version) else {
            return Err(Error::new(
                Kind::Damaged,
                format!("the store knows no version {}", reference.version),
            ));
        };
        let version = Arc::new(version.clone());
        let mut key: Vec<(String, ArrayRef)> = Vec::new();
        let mut key_text = BTreeMap::new();
        for part in version.keys() {
            let name = part.name.as_str();
            let Some(column) = spine_row.column_by_name(name) else {
                return Err(Error::new(Kind::Damaged, format!("the stored spine has no column `{name}`")));
            };
            let text = if column.is_null(0) { None } else { Some(shown(column)?) };
            key_text.insert(name.to_owned(), text);
            key.push((name.to_owned(), column.clone()));
        }
        let at = spine_row.column_by_name(&manifest.spine.at).and_then(micros);

        // Later batches are looked at too, so that those which came after can be told of.
        let newest = self.engine.snapshot(None).await?;
        let traced = Arc::new(traced(&version, newest.sequence, &reference.feature, &request.column));
        let place = self.reads.reserve(&traced)?;
        let mut read = Read::new(author, newest.sequence, self.catalog().store().clock().now(), traced);
        read.asked(format!(
            "explain: training set {}, row {}, {}",
            request.training_set, request.row, request.column
        ));
        let files = newest.visible_files(&version).await?;
        let rows = candidates(&newest.files, &version, &files, &key, &reference.feature).await?;
        let ttl =
            manifest.views.iter().find(|view| view.version == reference.version).and_then(|view| view.ttl);
        let judgement = Judgement { sequence: manifest.sequence, at, cut: cut_of(&manifest), ttl };
        let judged = judge(&rows, &files, &judgement);

        let mut losers_by_reason = BTreeMap::new();
        let mut shown_losers = Vec::new();
        let mut winner = None;
        let mut bodies = HashMap::new();
        for (row, reason) in &judged {
            match reason {
                Some(reason) => {
                    *losers_by_reason.entry((*reason).to_owned()).or_default() += 1;
                    if shown_losers.len() < LOSERS_SHOWN {
                        shown_losers
                            .push(self.candidate(row, &files, &newest, Some(reason), &mut bodies).await?);
                    }
                }
                None => winner = Some((*row, self.candidate(row, &files, &newest, None, &mut bodies).await?)),
            }
        }
        read.rows = rows.len() as u64;
        read.micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.reads.record(place, read);
        let null_key = at.is_none() || key.iter().any(|(_, column)| column.is_null(0));
        let default = version
            .definition
            .features
            .iter()
            .find(|feature| feature.name.as_str() == reference.feature)
            .and_then(|feature| feature.default.as_ref());
        let (value, null_reason, defaulted) = match &winner {
            Some((row, _)) if row.retracted => (None, Some(NullReason::Retracted), false),
            Some((row, _)) if !row.in_batch => (None, Some(NullReason::NotInBatch), false),
            Some((row, _)) if row.value.is_none() => (None, Some(NullReason::NullAtSource), false),
            Some((row, _)) => (row.value.clone(), None, false),
            None => match default {
                Some(default) => (serde_json::to_string(default).ok(), None, true),
                None => (None, Some(furthest(null_key, &rows, &files, &judgement)), false),
            },
        };
        Ok(Explanation {
            training_set: request.training_set,
            row: request.row,
            column: request.column,
            value,
            null_reason: null_reason.map(|reason| reason.to_string()),
            defaulted,
            reference: reference.resolved.clone(),
            key: key_text,
            at: at.map(|at| at.to_string()),
            winner: winner.map(|(_, candidate)| candidate),
            losers: shown_losers,
            losers_by_reason,
        })
    }

    fn unknown_column(&self, request: &ExplainRequest, manifest: &lineage::Manifest) -> Error {
        let column = &request.column;
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
        let hint = nearest(column, known.iter().copied())
            .map(|near| format!(" (did you mean `{near}`?)"))
            .unwrap_or_default();
        Error::new(
            Kind::NotFound,
            format!("the training set has no feature `{column}`{hint}; it has {}", known.join(", ")),
        )
    }

    async fn candidate(
        &self,
        row: &CandidateRow,
        files: &[VisibleFile],
        snapshot: &engine::Snapshot,
        reason: Option<&str>,
        bodies: &mut HashMap<String, Body>,
    ) -> Result<Candidate> {
        let VisibleFile { file, batch } = &files[row.file];
        let body = match &batch.record.body {
            Some(object) => self.body(object, bodies).await?,
            None => Body::default(),
        };
        let version = snapshot.state.view_version(batch.record.version);
        Ok(Candidate {
            valid_at: row.valid_at.to_string(),
            known_at: row.known_at.to_string(),
            value: row.value.clone(),
            batch: batch.record.batch.to_string(),
            sequence: batch.by.sequence,
            version: version.map(catalog::state::ViewVersion::label).unwrap_or_default(),
            file: file.path.clone(),
            row: row.row,
            principal: batch.by.principal.clone(),
            program: batch.by.program.clone(),
            run: batch.by.run.clone(),
            origin: (!body.origins.is_empty()).then(|| body.origins.join(", ")),
            steps: body.steps,
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
}

struct Judgement {
    sequence: Sequence,
    at: Option<Timestamp>,
    cut: Cut,
    ttl: Option<feature::Span>,
}

impl Judgement {
    fn cut_at(&self) -> Timestamp {
        match (self.cut, self.at) {
            (Cut::Row, Some(at)) => at,
            (Cut::Row, None) => Timestamp(i64::MIN),
            (Cut::Instant(instant), _) => instant,
            (Cut::None, _) => Timestamp(i64::MAX),
        }
    }
}

/// Every candidate with the first reason for which it lost; the winner has none.
fn judge<'a>(
    rows: &'a [CandidateRow],
    files: &[VisibleFile],
    judgement: &Judgement,
) -> Vec<(&'a CandidateRow, Option<&'static str>)> {
    let mut judged: Vec<(&CandidateRow, Option<&'static str>)> = Vec::with_capacity(rows.len());
    let sequence = |row: &CandidateRow| files[row.file].batch.by.sequence;
    let mut best: Option<usize> = None;
    for (index, row) in rows.iter().enumerate() {
        let cut = judgement.cut_at();
        let oldest = judgement
            .at
            .zip(judgement.ttl)
            .map_or(i64::MIN, |(at, ttl)| at.micros().saturating_sub(ttl.micros()));
        let lost = if sequence(row) > judgement.sequence {
            Some("after_sequence")
        } else if row.known_at > cut {
            Some("not_yet_known")
        } else if judgement.at.is_none_or(|at| row.valid_at > at) {
            Some("later")
        } else if row.valid_at.micros() < oldest {
            Some("expired")
        } else {
            None
        };
        if lost.is_none() {
            let order = |row: &CandidateRow| (row.valid_at, row.known_at, sequence(row), row.file, row.row);
            if best.is_none_or(|best| order(row) >= order(&rows[best])) {
                best = Some(index);
            }
        }
        judged.push((row, lost));
    }
    if let Some(best) = best {
        let winner = &rows[best];
        for (index, (row, lost)) in judged.iter_mut().enumerate() {
            if index == best || lost.is_some() {
                continue;
            }
            *lost = Some(if row.valid_at < winner.valid_at {
                "older"
            } else if row.known_at < winner.known_at {
                "corrected"
            } else {
                "tie"
            });
        }
    }
    // Nearest to the asked time first: those are the ones that a reader would have expected to win.
    let at = judgement.at.map_or(0, Timestamp::micros);
    judged.sort_by_key(|(row, _)| {
        (
            row.valid_at.micros().abs_diff(at),
            std::cmp::Reverse((row.valid_at, row.known_at, row.file, row.row)),
        )
    });
    judged
}

/// Of all candidates of the snapshot, the reason of the one that came furthest.
fn furthest(
    null_key: bool,
    rows: &[CandidateRow],
    files: &[VisibleFile],
    judgement: &Judgement,
) -> NullReason {
    let Some(at) = judgement.at.filter(|_| !null_key) else { return NullReason::NullKeyOrTime };
    let mut reason = NullReason::UnknownEntity;
    for row in rows.iter().filter(|row| files[row.file].batch.by.sequence <= judgement.sequence) {
        let reached = if row.valid_at > at {
            NullReason::Later
        } else if row.known_at > judgement.cut_at() {
            NullReason::NotYetKnown
        } else {
            NullReason::Expired
        };
        reason = reason.max(reached);
    }
    reason
}

fn shown(column: &ArrayRef) -> Result<String> {
    array_value_to_string(column, 0).map_err(|error| Error::internal("a key cannot be shown", error))
}

/// A spine's time, floored to microseconds.
fn micros(column: &ArrayRef) -> Option<Timestamp> {
    if column.is_null(0) {
        return None;
    }
    let cast = |unit: TimeUnit| {
        let zone = match column.data_type() {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => Some("UTC".into()),
        };
        arrow::compute::cast(column, &DataType::Timestamp(unit, zone)).ok()
    };
    if let DataType::Timestamp(TimeUnit::Nanosecond, _) = column.data_type() {
        let nanos = cast(TimeUnit::Nanosecond)?;
        let nanos = nanos.as_primitive::<arrow::datatypes::TimestampNanosecondType>();
        return Some(Timestamp(nanos.value(0).div_euclid(1_000)));
    }
    let micros = cast(TimeUnit::Microsecond)?;
    Some(Timestamp(micros.as_primitive_opt::<TimestampMicrosecondType>()?.value(0)))
}
