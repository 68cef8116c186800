//! The scoreboard: what batches came to, by version and week, and so those of an experiment and of a model version.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use catalog::scoreboard::{Consumer, Score, Scoreboard, VersionWeeks};
use catalog::state::ViewVersion;
use datafusion::common::{DataFusionError, Result};
use feature::{ExperimentId, Id, ModelVersionId, RunId, Timestamp, TrainingSetId, VersionId};

use super::Columns;
use crate::access::Sights;
use crate::snapshot::Snapshot;

/// The relation of that name, if it is one of these.
pub async fn relation(snapshot: &Snapshot, name: &str) -> Result<Option<RecordBatch>> {
    Ok(Some(match name {
        "state_scores" => versions(snapshot, &board(snapshot).await?)?,
        "state_experiment_scores" => {
            let board = board(snapshot).await?;
            let consumers = experiments_of_sets(snapshot);
            let used = used(snapshot, &consumers).await?;
            experiments(snapshot, &board, &consumers, &used)?
        }
        "state_model_scores" => {
            let (named, consumers) = model_versions(snapshot);
            let used = used(snapshot, &consumers).await?;
            models(snapshot, &named, &consumers, &used)?
        }
        _ => return Ok(None),
    }))
}

pub const RELATIONS: [&str; 3] = ["state_scores", "state_experiment_scores", "state_model_scores"];

async fn board(snapshot: &Snapshot) -> Result<Scoreboard> {
    snapshot.catalog.scoreboard(&snapshot.state, snapshot.sequence).await.map_err(of_catalog)
}

async fn used(snapshot: &Snapshot, consumers: &[Consumer]) -> Result<Vec<Arc<VersionWeeks>>> {
    snapshot.catalog.scores_of_sets(&snapshot.state, consumers).await.map_err(of_catalog)
}

fn of_catalog(error: catalog::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// What some batches came to.
struct Line<'a> {
    /// Whose they are, and of which week; none where there are none.
    of: Option<(&'a ViewVersion, Timestamp)>,
    /// Whether the asker is told how many rows there are, and how far values drifted.
    counts: bool,
    whole: bool,
    score: Score,
}

impl<'a> Line<'a> {
    fn new(sights: &Sights<'_>, version: &'a ViewVersion, week: Timestamp, score: &Score) -> Self {
        let sight = sights.of(version);
        let (counts, whole) = (sight.counts(), sight.is_whole());
        Self { of: Some((version, week)), counts, whole, score: score.clone() }
    }

    fn of_nothing() -> Self {
        Self { of: None, counts: true, whole: true, score: Score::default() }
    }
}

impl Columns {
    /// There may be many, of which each names its view.
    fn names<'a>(self, name: &str, values: impl Iterator<Item = Option<&'a str>>) -> Self {
        self.add(name, Arc::new(values.collect::<StringArray>()))
    }

    fn lines(self, lines: &[Line<'_>]) -> Self {
        let all = || lines.iter();
        let version = || all().map(|line| line.of.map(|(version, _)| version));
        let number = |of: fn(&Score) -> u64| all().map(move |line| Some(of(&line.score)));
        let counted = |of: fn(&Score) -> u64| all().map(move |line| line.counts.then(|| of(&line.score)));
        self.names("project", version().map(|of| of.map(|version| version.definition.project.as_str())))
            .names("feature_view", version().map(|of| of.map(|version| version.definition.name.as_str())))
            .small_told("version", version().map(|of| of.map(|version| version.number)))
            .instant("week", all().map(|line| line.of.map(|(_, week)| week)))
            .count("batches", number(|score| score.batches))
            .count("passed", number(|score| score.passed))
            .count("warned", number(|score| score.warned))
            .count("failed", number(|score| score.failed))
            .count("unjudged", number(Score::unjudged))
            .count("quarantined", number(|score| score.quarantined))
            .count("refused", number(|score| score.refused))
            .count("rows", counted(|score| score.rows))
            .count("rejected", counted(|score| score.rejected))
            // A drift is the greatest of all features; an age is that of the last of all rows.
            .real("drift", all().map(|line| line.score.drift.filter(|_| line.whole)))
            .real("age_hours", all().map(|line| line.score.age_hours.filter(|_| line.counts)))
            .count("untraced", number(|score| score.untraced))
            .instant("last_batch_at", all().map(|line| line.score.last_at))
    }
}

/// A line a version and week, in the order in which they are shown.
fn versions(snapshot: &Snapshot, board: &Scoreboard) -> Result<RecordBatch> {
    let sights = Sights::of_snapshot(snapshot);
    let mut lines: Vec<Line<'_>> = Vec::new();
    for version in snapshot.state.views() {
        let mut before = None;
        for (week, _, score) in board.weeks(version.version) {
            match lines.last_mut().filter(|_| before == Some(week)) {
                Some(line) => line.score.merge(score),
                None => lines.push(Line::new(&sights, version, week, score)),
            }
            before = Some(week);
        }
    }
    Columns::default().lines(&lines).finish()
}

/// Experiments whose runs used training sets, with the sets.
fn experiments_of_sets(snapshot: &Snapshot) -> Vec<Consumer> {
    let (registry, at) = (snapshot.state.registry(), snapshot.sequence);
    let mut of_run: HashMap<RunId, Option<ExperimentId>> = HashMap::new();
    let mut sets: BTreeMap<ExperimentId, BTreeSet<TrainingSetId>> = BTreeMap::new();
    for used in registry.uses().iter().filter(|noted| noted.by.sequence <= at).map(|noted| &noted.record) {
        let of_this = || registry.run_at(used.run, at).and_then(|run| run.experiment);
        if let Some(experiment) = *of_run.entry(used.run).or_insert_with(of_this) {
            sets.entry(experiment).or_default().insert(used.training_set);
        }
    }
    sets.into_iter().map(|(id, sets)| Consumer { id: id.uuid(), sets: sets.into_iter().collect() }).collect()
}

/// A line an experiment, version and week: of the batches that were written for it, and of those that its training sets had rows of.
fn experiments(
    snapshot: &Snapshot,
    board: &Scoreboard,
    consumers: &[Consumer],
    used: &[Arc<VersionWeeks>],
) -> Result<RecordBatch> {
    let (state, at) = (&snapshot.state, snapshot.sequence);
    let registry = state.registry();
    let mut known: HashMap<&str, Option<ExperimentId>> = HashMap::new();
    let mut wrote: BTreeMap<(ExperimentId, VersionId, Timestamp), Score> = BTreeMap::new();
    for version in state.views() {
        for (week, words, score) in board.weeks(version.version) {
            let Some(words) = words else { continue };
            // Writers make known what they name.
            if let Some(id) = *known.entry(words).or_insert_with(|| registry.experiment(words)) {
                wrote.entry((id, version.version, week)).or_default().merge(score);
            }
        }
    }
    let wrote = wrote.iter().map(|((id, version, week), score)| (*id, "wrote", *version, *week, score));
    let used = consumers.iter().zip(used).flat_map(|(consumer, weeks)| {
        let id = ExperimentId::from(consumer.id);
        weeks.iter().map(move |((version, week), score)| (id, "used", *version, *week, score))
    });
    let sights = Sights::of_snapshot(snapshot);
    let (mut owners, mut lines) = (Vec::new(), Vec::new());
    for (id, role, version, week, score) in wrote.chain(used) {
        let Some(version) = state.view_version(version) else { continue };
        owners.push((id, role));
        lines.push(Line::new(&sights, version, week, score));
    }
    let mut names: HashMap<ExperimentId, Option<String>> = HashMap::new();
    for (id, _) in &owners {
        names.entry(*id).or_insert_with(|| {
            let name = registry.experiment_at(*id, at).and_then(|now| now.name);
            name.or_else(|| registry.external(*id).map(|external| external.id.clone()))
        });
    }
    let name = |id: &ExperimentId| names.get(id).and_then(|name| name.as_deref());
    Columns::default()
        .text("experiment", owners.iter().map(|(id, _)| Some(id)))
        .names("name", owners.iter().map(|(id, _)| name(id)))
        .names("role", owners.iter().map(|(_, role)| Some(*role)))
        .lines(&lines)
        .finish()
}

/// A model version as people call it.
struct Named {
    /// `delay`
    model: String,
    /// `delay/3`
    label: String,
}

/// All model versions, with the training sets that the run of each used.
fn model_versions(snapshot: &Snapshot) -> (Vec<Named>, Vec<Consumer>) {
    let (registry, at) = (snapshot.state.registry(), snapshot.sequence);
    let mut sets: HashMap<RunId, BTreeSet<TrainingSetId>> = HashMap::new();
    for used in registry.uses().iter().filter(|noted| noted.by.sequence <= at).map(|noted| &noted.record) {
        sets.entry(used.run).or_default().insert(used.training_set);
    }
    let (mut named, mut consumers) = (Vec::new(), Vec::new());
    for (id, _) in registry.model_versions() {
        let Some(now) = registry.model_version_at(id, at) else { continue };
        let model = registry.model_at(now.model, at).map(|model| model.name).unwrap_or_default();
        named.push(Named { label: format!("{model}/{}", now.version), model });
        let of_run = now.run.and_then(|run| sets.get(&run));
        consumers.push(Consumer { id: id.uuid(), sets: of_run.into_iter().flatten().copied().collect() });
    }
    (named, consumers)
}

/// A line a model version, version and week; one without a version for a model version of which no training set is known.
fn models(
    snapshot: &Snapshot,
    named: &[Named],
    consumers: &[Consumer],
    used: &[Arc<VersionWeeks>],
) -> Result<RecordBatch> {
    let sights = Sights::of_snapshot(snapshot);
    let (mut owners, mut lines) = (Vec::new(), Vec::new());
    for ((named, consumer), weeks) in named.iter().zip(consumers).zip(used) {
        let id = ModelVersionId::from(consumer.id);
        if consumer.sets.is_empty() {
            owners.push((id, named));
            lines.push(Line::of_nothing());
        }
        for ((version, week), score) in weeks.iter() {
            let Some(version) = snapshot.state.view_version(*version) else { continue };
            owners.push((id, named));
            lines.push(Line::new(&sights, version, *week, score));
        }
    }
    Columns::default()
        .text("model_version", owners.iter().map(|(id, _)| Some(id)))
        .names("name", owners.iter().map(|(_, named)| Some(named.model.as_str())))
        .names("label", owners.iter().map(|(_, named)| Some(named.label.as_str())))
        .lines(&lines)
        .finish()
}
