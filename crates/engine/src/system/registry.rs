//! Relations of experiments, runs, models, deployments and of what training sets were selected from.

use catalog::records::{DeploymentChanged, DeploymentMeasured, Evidence, Kind, Lifecycle, Selected};
use catalog::registry::{MeasurementBody, RunBody, body};
use catalog::selection::selected;
use catalog::state::TrainingSet;
use catalog::state::registry::Noted;
use datafusion::arrow::array::{Float64Array, RecordBatch};
use datafusion::common::{DataFusionError, Result};
use feature::{BatchId, Id, RunId, Timestamp, TrainingSetId};
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use std::sync::Arc;

use super::Columns;
use crate::access::Sights;
use crate::snapshot::Snapshot;

/// Side objects that are read at a time.
const AT_A_TIME: usize = 16;

/// The relation of that name, if it is one of these.
pub async fn relation(snapshot: &Snapshot, name: &str) -> Result<Option<RecordBatch>> {
    Ok(Some(match name {
        "state_links" => links(snapshot)?,
        "state_experiments" => experiments(snapshot)?,
        "state_runs" => runs(snapshot)?,
        "state_run_params" => run_params(snapshot).await?,
        "state_run_metrics" => run_metrics(snapshot).await?,
        "state_models" => models(snapshot)?,
        "state_model_versions" => model_versions(snapshot)?,
        "state_aliases" => aliases(snapshot)?,
        "state_deployments" => deployments(snapshot)?,
        "state_uses" => uses(snapshot)?,
        "state_selected" => selections(snapshot).await?,
        "state_passes" => passes(snapshot)?,
        "state_measured" => measured(snapshot).await?,
        _ => return Ok(None),
    }))
}

pub const RELATIONS: [&str; 13] = [
    "state_links",
    "state_experiments",
    "state_runs",
    "state_run_params",
    "state_run_metrics",
    "state_models",
    "state_model_versions",
    "state_aliases",
    "state_deployments",
    "state_uses",
    "state_selected",
    "state_passes",
    "state_measured",
];

/// A word of a record, as it stands in the log.
fn word(value: impl Serialize) -> Option<String> {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned))
}

fn of_catalog(error: catalog::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

impl Columns {
    /// How things are known elsewhere: `external_id`, `system`, `authority`.
    fn external<I: Id>(self, snapshot: &Snapshot, ids: impl Iterator<Item = I> + Clone) -> Self {
        let registry = snapshot.state.registry();
        let of = |id: I| registry.external(id);
        self.text("external_id", ids.clone().map(|id| Some(&of(id)?.id)))
            .text("system", ids.clone().map(|id| Some(&of(id)?.system)))
            .text("authority", ids.map(|id| Some(&of(id)?.authority).filter(|server| !server.is_empty())))
    }

    pub(super) fn instant(self, name: &str, values: impl Iterator<Item = Option<Timestamp>>) -> Self {
        let times = values.map(|time| time.map(Timestamp::micros));
        let times: arrow::array::TimestampMicrosecondArray = times.collect();
        self.add(name, Arc::new(times.with_timezone("UTC")))
    }

    fn lifecycle(self, values: impl Iterator<Item = Option<Lifecycle>>) -> Self {
        self.text("lifecycle", values.map(|lifecycle| lifecycle.and_then(word)))
    }
}

fn links(snapshot: &Snapshot) -> Result<RecordBatch> {
    let all = || {
        let links = snapshot.state.registry().links().iter();
        links.filter(|link| link.by.sequence <= snapshot.sequence)
    };
    Columns::default()
        .text("id", all().map(|link| Some(link.id)))
        .text("kind", all().map(|link| word(link.external.kind)))
        .text("system", all().map(|link| Some(&link.external.system)))
        .text(
            "authority",
            all().map(|link| Some(&link.external.authority).filter(|server| !server.is_empty())),
        )
        .text("external_id", all().map(|link| Some(&link.external.id)))
        .text("how", all().map(|link| word(link.how)))
        .by(all().map(|link| &link.by))
        .finish()
}

/// Ids that were linked by this snapshot; one that has two names is one.
fn known<I: Id>(snapshot: &Snapshot, kind: Kind) -> Vec<I> {
    let links = snapshot.state.registry().links().iter();
    let mut seen = std::collections::HashSet::new();
    links
        .filter(|link| link.external.kind == kind && link.by.sequence <= snapshot.sequence)
        .filter(|link| seen.insert(link.id))
        .map(|link| I::from(link.id))
        .collect()
}

fn experiments(snapshot: &Snapshot) -> Result<RecordBatch> {
    let (registry, at) = (snapshot.state.registry(), snapshot.sequence);
    let ids: Vec<feature::ExperimentId> = known(snapshot, Kind::Experiment);
    let rows: Vec<_> =
        ids.iter().map(|id| (*id, registry.experiment_at(*id, at).unwrap_or_default())).collect();
    let all = || rows.iter();
    Columns::default()
        .text("experiment", all().map(|(id, _)| Some(id)))
        .text("name", all().map(|(_, now)| now.name.clone()))
        .text("hypothesis", all().map(|(_, now)| now.hypothesis.clone()))
        .text("owner", all().map(|(_, now)| now.owner.clone()))
        .lifecycle(all().map(|(_, now)| now.lifecycle))
        .external(snapshot, all().map(|(id, _)| *id))
        .finish()
}

fn runs(snapshot: &Snapshot) -> Result<RecordBatch> {
    let (registry, at) = (snapshot.state.registry(), snapshot.sequence);
    let ids: Vec<RunId> = known(snapshot, Kind::Run);
    let rows: Vec<_> = ids.iter().map(|id| (*id, registry.run_at(*id, at).unwrap_or_default())).collect();
    let all = || rows.iter();
    Columns::default()
        .text("run", all().map(|(id, _)| Some(id)))
        .text("experiment", all().map(|(_, now)| now.experiment))
        .text("parent_run", all().map(|(_, now)| now.parent))
        .text("name", all().map(|(_, now)| now.name.clone()))
        .text("status", all().map(|(_, now)| now.status.clone()))
        .instant("started_at", all().map(|(_, now)| now.started_at))
        .instant("ended_at", all().map(|(_, now)| now.ended_at))
        .lifecycle(all().map(|(_, now)| now.lifecycle))
        .external(snapshot, all().map(|(id, _)| *id))
        .finish()
}

/// Runs with what lies beside the log of them.
async fn bodies(snapshot: &Snapshot) -> Result<Vec<(RunId, RunBody)>> {
    let (registry, at) = (snapshot.state.registry(), snapshot.sequence);
    let ids: Vec<RunId> = known(snapshot, Kind::Run);
    let objects = ids.into_iter().filter_map(|id| Some((id, registry.run_at(id, at)?.body?)));
    let objects: Vec<_> = objects.collect();
    let catalog = snapshot.catalog.clone();
    futures::stream::iter(objects)
        .map(move |(id, object)| {
            let catalog = catalog.clone();
            async move { Ok((id, body(&catalog, &object).await.map_err(of_catalog)?)) }
        })
        .buffered(AT_A_TIME)
        .try_collect()
        .await
}

async fn run_params(snapshot: &Snapshot) -> Result<RecordBatch> {
    let bodies = bodies(snapshot).await?;
    let all = || {
        let of_run = |(run, body): &'_ (RunId, RunBody)| {
            let cut = body.truncated.clone();
            let run = *run;
            let values = body.params.clone().into_iter();
            values.map(move |(name, value)| (run, cut.contains(&name), name, value))
        };
        bodies.iter().flat_map(of_run)
    };
    Columns::default()
        .text("run", all().map(|(run, ..)| Some(run)))
        .text("name", all().map(|(_, _, name, _)| Some(name)))
        .text("value", all().map(|(_, _, _, value)| Some(value)))
        .truth("truncated", all().map(|(_, cut, ..)| cut))
        .finish()
}

async fn run_metrics(snapshot: &Snapshot) -> Result<RecordBatch> {
    let bodies = bodies(snapshot).await?;
    let all = || bodies.iter().flat_map(|(run, body)| body.metrics.iter().map(move |metric| (run, metric)));
    let values: Float64Array = all().map(|(_, (_, value))| Some(*value)).collect();
    Columns::default()
        .text("run", all().map(|(run, _)| Some(run)))
        .text("name", all().map(|(_, (name, _))| Some(name)))
        .add("value", Arc::new(values))
        .finish()
}

fn models(snapshot: &Snapshot) -> Result<RecordBatch> {
    let (registry, at) = (snapshot.state.registry(), snapshot.sequence);
    let ids: Vec<feature::ModelId> = known(snapshot, Kind::Model);
    let rows: Vec<_> = ids.iter().map(|id| (*id, registry.model_at(*id, at))).collect();
    let all = || rows.iter();
    Columns::default()
        .text("model", all().map(|(id, _)| Some(id)))
        .text("name", all().map(|(_, now)| Some(now.as_ref()?.name.clone())))
        .lifecycle(all().map(|(_, now)| now.as_ref()?.lifecycle))
        .external(snapshot, all().map(|(id, _)| *id))
        .finish()
}

fn model_versions(snapshot: &Snapshot) -> Result<RecordBatch> {
    let (registry, at) = (snapshot.state.registry(), snapshot.sequence);
    let ids: Vec<feature::ModelVersionId> = known(snapshot, Kind::ModelVersion);
    let rows: Vec<_> = ids.iter().filter_map(|id| Some((*id, registry.model_version_at(*id, at)?))).collect();
    let all = || rows.iter();
    Columns::default()
        .text("model_version", all().map(|(id, _)| Some(id)))
        .text("model", all().map(|(_, now)| Some(now.model)))
        .text("name", all().map(|(_, now)| Some(registry.model_at(now.model, at)?.name)))
        .text("version", all().map(|(_, now)| Some(now.version.clone())))
        .text("run", all().map(|(_, now)| now.run))
        .instant("created_at", all().map(|(_, now)| now.created_at))
        .text("status", all().map(|(_, now)| now.status.clone()))
        .lifecycle(all().map(|(_, now)| now.lifecycle))
        .external(snapshot, all().map(|(id, _)| *id))
        .finish()
}

fn aliases(snapshot: &Snapshot) -> Result<RecordBatch> {
    let (registry, at) = (snapshot.state.registry(), snapshot.sequence);
    let rows: Vec<_> =
        registry.aliases().iter().enumerate().filter(|(_, noted)| noted.by.sequence <= at).collect();
    let all = || rows.iter().map(|(_, noted)| &noted.record);
    // An alias means a version until it is next seen to move.
    let until = |(place, noted): &(usize, &Noted<catalog::records::AliasObserved>)| {
        let later = rows.iter().find(|(later, next)| {
            later > place
                && next.record.model == noted.record.model
                && next.record.alias == noted.record.alias
        });
        later.map(|(_, next)| next.record.seen_at)
    };
    Columns::default()
        .text("model", all().map(|seen| Some(seen.model)))
        .text("name", all().map(|seen| Some(registry.model_at(seen.model, at)?.name)))
        .text("alias", all().map(|seen| Some(&seen.alias)))
        .text("model_version", all().map(|seen| seen.model_version))
        .text("version", all().map(|seen| Some(registry.model_version_at(seen.model_version?, at)?.version)))
        .instant("not_before", all().map(|seen| seen.previous_seen_at))
        .instant("seen_at", all().map(|seen| Some(seen.seen_at)))
        .instant("until", rows.iter().map(until))
        .by(rows.iter().map(|(_, noted)| &noted.by))
        .finish()
}

fn deployments(snapshot: &Snapshot) -> Result<RecordBatch> {
    let (registry, at) = (snapshot.state.registry(), snapshot.sequence);
    let mut rows: Vec<(feature::DeploymentId, &DeploymentChanged, Option<Timestamp>)> = Vec::new();
    for (id, changes) in registry.deployments() {
        let changes: Vec<_> = changes.iter().take_while(|noted| noted.by.sequence <= at).collect();
        for (place, noted) in changes.iter().enumerate() {
            // A change without a version ends what was before, and is no deployment itself.
            if noted.record.model_version.is_some() {
                rows.push((id, &noted.record, changes.get(place + 1).map(|next| next.record.from)));
            }
        }
    }
    let all = || rows.iter();
    let version = |change: &DeploymentChanged| {
        let now = registry.model_version_at(change.model_version?, at)?;
        Some(format!("{}/{}", registry.model_at(now.model, at)?.name, now.version))
    };
    let evidence = |evidence: Evidence| word(evidence);
    Columns::default()
        .text("deployment", all().map(|(id, ..)| Some(id)))
        .text("name", all().map(|(_, change, _)| Some(&change.name)))
        .text("environment", all().map(|(_, change, _)| Some(&change.environment)))
        .text("model_version", all().map(|(_, change, _)| change.model_version))
        .text("version", all().map(|(_, change, _)| version(change)))
        .text("service", all().map(|(_, change, _)| change.service.clone()))
        .text("endpoint", all().map(|(_, change, _)| change.endpoint.clone()))
        .instant("from", all().map(|(_, change, _)| Some(change.from)))
        .instant("until", all().map(|(.., until)| *until))
        .text("evidence", all().map(|(_, change, _)| evidence(change.evidence)))
        .finish()
}

fn uses(snapshot: &Snapshot) -> Result<RecordBatch> {
    let rows: Vec<_> = snapshot
        .state
        .registry()
        .uses()
        .iter()
        .filter(|noted| noted.by.sequence <= snapshot.sequence)
        .collect();
    let all = || rows.iter().map(|noted| &noted.record);
    Columns::default()
        .text("training_set", all().map(|used| Some(used.training_set)))
        .text("run", all().map(|used| Some(used.run)))
        .text("role", all().map(|used| word(used.role)))
        .text("how", all().map(|used| word(used.how)))
        .external(snapshot, all().map(|used| used.run))
        .time("at", rows.iter().map(|noted| noted.by.committed_at.micros()))
        .finish()
}

async fn measured(snapshot: &Snapshot) -> Result<RecordBatch> {
    let (registry, at) = (snapshot.state.registry(), snapshot.sequence);
    // What was measured again replaces what was.
    let mut newest: Vec<&Noted<DeploymentMeasured>> = Vec::new();
    for noted in registry.measured().iter().filter(|noted| noted.by.sequence <= at) {
        let same = |other: &&Noted<DeploymentMeasured>| {
            let (one, other) = (&noted.record, &other.record);
            (one.deployment, one.from, one.until) == (other.deployment, other.from, other.until)
        };
        newest.retain(|other| !same(other));
        newest.push(noted);
    }
    let mut rows: Vec<(&DeploymentMeasured, String, f64)> = Vec::new();
    for noted in newest {
        let body: MeasurementBody = body(&snapshot.catalog, &noted.record.body).await.map_err(of_catalog)?;
        rows.extend(body.metrics.into_iter().map(|(metric, value)| (&noted.record, metric, value)));
    }
    let all = || rows.iter();
    let first = |id: feature::DeploymentId| {
        let mut changes = registry.deployments().find(|(known, _)| *known == id)?.1.iter();
        Some(&changes.next()?.record)
    };
    let values: Float64Array = all().map(|(.., value)| Some(*value)).collect();
    let version = |measured: &DeploymentMeasured| {
        let now = registry.model_version_at(measured.model_version?, at)?;
        Some(format!("{}/{}", registry.model_at(now.model, at)?.name, now.version))
    };
    let run = |measured: &DeploymentMeasured| registry.model_version_at(measured.model_version?, at)?.run;
    Columns::default()
        .text("name", all().map(|(measured, ..)| Some(&first(measured.deployment)?.name)))
        .text("environment", all().map(|(measured, ..)| Some(&first(measured.deployment)?.environment)))
        .instant("from", all().map(|(measured, ..)| Some(measured.from)))
        .instant("until", all().map(|(measured, ..)| Some(measured.until)))
        .text("version", all().map(|(measured, ..)| version(measured)))
        .text("run", all().map(|(measured, ..)| run(measured)))
        .text("metric", all().map(|(_, metric, _)| Some(metric)))
        .add("value", Arc::new(values))
        .finish()
}

fn passes(snapshot: &Snapshot) -> Result<RecordBatch> {
    let rows: Vec<_> = snapshot
        .state
        .registry()
        .passes()
        .iter()
        .filter(|noted| noted.by.sequence <= snapshot.sequence)
        .collect();
    let all = || rows.iter().map(|noted| &noted.record);
    Columns::default()
        .text("system", all().map(|pass| Some(&pass.system)))
        .text("authority", all().map(|pass| Some(&pass.authority).filter(|server| !server.is_empty())))
        .time("checked_at", all().map(|pass| pass.seen_at.micros()))
        .number("found", all().map(|pass| pass.found))
        .number("gone", all().map(|pass| pass.gone))
        .number("sequence", rows.iter().map(|noted| noted.by.sequence.0))
        .finish()
}

/// One row for each batch of each training set that answered a cell, and one without a batch for versions of which none did.
async fn selections(snapshot: &Snapshot) -> Result<RecordBatch> {
    struct Row {
        set: TrainingSetId,
        name: Option<String>,
        version: String,
        features: Vec<String>,
        batch: Option<BatchId>,
        /// None where they are not told.
        rows: Option<u64>,
    }
    let sets = snapshot.state.training_sets().filter(|set| set.by.sequence <= snapshot.sequence);
    let sets: Vec<TrainingSet> = sets.cloned().collect();
    let catalog = snapshot.catalog.clone();
    let taken: Vec<(TrainingSet, Vec<Selected>)> = futures::stream::iter(sets)
        .map(move |set| {
            let catalog = catalog.clone();
            async move {
                let taken = selected(&catalog, &set).await.map_err(of_catalog)?.into_owned();
                Ok::<_, DataFusionError>((set, taken))
            }
        })
        .buffered(AT_A_TIME)
        .try_collect()
        .await?;
    let mut rows = Vec::new();
    let sights = Sights::of_snapshot(snapshot);
    for (set, taken) in taken {
        for taken in taken {
            let told = sights.of_set(&set) || sights.of_id(taken.version).is_whole();
            let version = snapshot.state.view_version(taken.version);
            let version = version.map_or_else(|| taken.version.to_string(), |version| version.label());
            let row = |batch, rows| Row {
                set: set.record.training_set,
                name: set.record.name.clone(),
                version: version.clone(),
                features: taken.features.clone(),
                batch,
                rows: Some(rows).filter(|_| told),
            };
            if taken.hits.is_empty() {
                rows.push(row(None, 0));
            }
            rows.extend(taken.hits.iter().map(|hit| row(Some(hit.batch), hit.rows)));
        }
    }
    let all = || rows.iter();
    Columns::default()
        .text("training_set", all().map(|row| Some(row.set)))
        .text("name", all().map(|row| row.name.clone()))
        .text("view_version", all().map(|row| Some(row.version.clone())))
        .text("features", all().map(|row| Some(row.features.join(", "))))
        .text("batch", all().map(|row| row.batch))
        .told("rows", all().map(|row| row.rows))
        .told("cells", all().map(|row| row.rows.map(|rows| rows * row.features.len() as u64)))
        .finish()
}
