//! What is said of experiments, runs, models and deployments becomes records of the log.
//!
//! Everything here may be said again: what is known already appends nothing.

use std::collections::{BTreeMap, HashMap};

use feature::digest::hash;
use feature::time::rfc3339;
use feature::{
    BodyId, DeploymentId, ExperimentId, Id, ModelId, ModelVersionId, RunId, Sequence, Timestamp,
    TrainingSetId,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use storage::environment;
use uuid::Uuid;

use crate::author::Author;
use crate::catalog::{Catalog, Intent, Outcome};
use crate::error::{Error, Result};
use crate::external::{self, External, OWN, RunName};
use crate::plan::did_you_mean;
use crate::records::{
    AliasObserved, DeploymentChanged, DeploymentMeasured, Evidence, ExperimentObserved, ExternalLinked, How,
    Kind, Lifecycle, ModelObserved, ModelVersionObserved, Object, Reconciled, Record, Role, RunObserved,
    UseRecorded,
};
use crate::state::State;
use crate::state::registry::{ExperimentNow, ModelNow, ModelVersionNow, Registry, RunNow, overlay};

/// Things that one call may tell of.
const THINGS: usize = 10_000;
/// The longest name, status or hypothesis: they stand in the log.
const TEXT_BYTES: usize = 4_096;
/// The longest body of one thing: its parameters, metrics and tags.
const BODY_BYTES: usize = 4 << 20;

/// What was seen of one server, or is said of what is known here alone. Ids are the other system's.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Observations {
    /// `mlflow`, …; left out: what has a name here alone.
    pub system: Option<String>,
    /// Which server.
    pub authority: String,
    pub how: Option<How>,
    /// When the server was asked before: an alias that moved did so since then.
    #[serde(with = "rfc3339::option")]
    pub previous_seen_at: Option<Timestamp>,
    /// When the server was asked; now where left out.
    #[serde(with = "rfc3339::option")]
    pub seen_at: Option<Timestamp>,
    /// This ends a pass over the server: with what was told before of the same `seen_at`, it is all that there is.
    pub complete: Option<Complete>,
    pub experiments: Vec<SeenExperiment>,
    pub runs: Vec<SeenRun>,
    pub models: Vec<SeenModel>,
    pub model_versions: Vec<SeenModelVersion>,
    pub aliases: Vec<SeenAlias>,
    pub measurements: Vec<Measurement>,
}

/// How well a deployment did: metrics of the predictions of some time, once their labels are known.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Measurement {
    pub deployment: String,
    /// Left out: `production`.
    pub environment: Option<String>,
    #[serde(with = "rfc3339::option")]
    pub from: Option<Timestamp>,
    #[serde(with = "rfc3339::option")]
    pub until: Option<Timestamp>,
    pub metrics: BTreeMap<String, f64>,
}

/// What lies beside the log of a measurement.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct MeasurementBody {
    pub metrics: BTreeMap<String, f64>,
}

/// What a pass over a server found in all.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Complete {
    /// Experiments, runs, model versions and aliases that it has.
    pub found: u64,
    /// What it has no more.
    pub gone: u64,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SeenExperiment {
    pub id: String,
    pub name: Option<String>,
    pub hypothesis: Option<String>,
    pub owner: Option<String>,
    pub lifecycle: Option<Lifecycle>,
    pub tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SeenRun {
    pub id: String,
    pub experiment: Option<String>,
    pub parent: Option<String>,
    pub name: Option<String>,
    pub status: Option<String>,
    #[serde(with = "rfc3339::option")]
    pub started_at: Option<Timestamp>,
    #[serde(with = "rfc3339::option")]
    pub ended_at: Option<Timestamp>,
    pub lifecycle: Option<Lifecycle>,
    pub user: Option<String>,
    pub source_commit: Option<String>,
    pub params: BTreeMap<String, String>,
    pub metrics: BTreeMap<String, f64>,
    pub tags: BTreeMap<String, String>,
    /// Keys whose values the other system has cut.
    pub truncated: Vec<String>,
}

/// What of a run may have to be erased: it lies beside the log.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct RunBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_commit: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Keys whose values the other system has cut.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub truncated: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SeenModel {
    pub id: String,
    /// Left out: the id.
    pub name: Option<String>,
    pub lifecycle: Option<Lifecycle>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SeenModelVersion {
    /// Left out: `<model>/<version>`.
    pub id: Option<String>,
    pub model: String,
    pub version: String,
    /// The name that the model had before, where the same versions are under another now.
    pub renamed_from: Option<String>,
    pub run: Option<String>,
    #[serde(with = "rfc3339::option")]
    pub created_at: Option<Timestamp>,
    pub status: Option<String>,
    pub lifecycle: Option<Lifecycle>,
    pub source_uri: Option<String>,
    pub logged_model: Option<String>,
    pub tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct ModelVersionBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logged_model: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SeenAlias {
    pub model: String,
    pub alias: String,
    /// The id of the version, as in `model_versions`; none: the alias was taken away.
    pub version: Option<String>,
}

/// What became of a call.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    /// The entry; none where all was known.
    pub sequence: Option<Sequence>,
}

impl From<Outcome<()>> for Told {
    fn from(outcome: Outcome<()>) -> Self {
        match outcome {
            Outcome::Committed(sequence) => Self { sequence: Some(sequence) },
            Outcome::Done(()) => Self { sequence: None },
        }
    }
}

/// Records what was seen, as one entry.
///
/// # Errors
/// `Invalid` for a thing without an id, texts that are too long, a run of an unknown system.
pub async fn observe(catalog: &Catalog, seen: Observations, author: &Author) -> Result<Told> {
    verify(&seen)?;
    let seen_at = seen.seen_at.unwrap_or_else(|| catalog.store().clock().now());
    let state = catalog.refresh().await?;
    let bodies = Bodies::keep(catalog, &state, &seen).await?;
    let mut measured = Vec::with_capacity(seen.measurements.len());
    for measurement in &seen.measurements {
        let bytes = json(&MeasurementBody { metrics: measurement.metrics.clone() })?;
        let id: BodyId = environment::mint();
        measured.push(catalog.put_object(format!("bodies/{id}.json"), bytes.into()).await?);
    }
    let outcome = catalog
        .commit(author, None, |state| {
            let mut telling = Telling::new(state, &seen, seen_at);
            for experiment in &seen.experiments {
                telling.experiment(experiment, &bodies)?;
            }
            for run in &seen.runs {
                telling.run(run, &bodies)?;
            }
            for model in &seen.models {
                telling.model(model)?;
            }
            for version in &seen.model_versions {
                telling.model_version(version, &bodies)?;
            }
            for alias in &seen.aliases {
                telling.alias(alias)?;
            }
            for (measurement, body) in seen.measurements.iter().zip(&measured) {
                telling.measurement(measurement, body)?;
            }
            telling.end_pass();
            Ok(if telling.records.is_empty() { Intent::Done(()) } else { Intent::Append(telling.records) })
        })
        .await?;
    Ok(outcome.into())
}

/// Records that a run used a training set.
///
/// # Errors
/// `NotFound` where there is no such training set; `Invalid` for a run that cannot be read.
pub async fn record_use(
    catalog: &Catalog,
    training_set: TrainingSetId,
    run: &str,
    role: Role,
    how: How,
    author: &Author,
) -> Result<Told> {
    let seen = Observations { how: Some(how), ..Default::default() };
    let outcome = catalog
        .commit(author, None, |state| {
            if state.training_set(training_set).is_none() {
                return Err(no_training_set(training_set));
            }
            let mut telling = Telling::new(state, &seen, state.head.committed_at);
            let run = telling.run_named(run)?;
            if state.registry().is_used(training_set, run, role) {
                return Ok(Intent::Done(()));
            }
            telling.records.push(UseRecorded { training_set, run, role, how }.into());
            Ok(Intent::Append(telling.records))
        })
        .await?;
    Ok(outcome.into())
}

fn no_training_set(id: TrainingSetId) -> Error {
    Error::NotFound(format!(
        "there is no training set {id}; `SELECT * FROM lineament.training_sets` lists them"
    ))
}

/// What serves from now on, or from `from` on.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deployment {
    pub name: String,
    /// Left out: `production`.
    pub environment: Option<String>,
    /// `delay/3`, `delay@champion`, or the id of a model version; none ends the deployment.
    pub model_version: Option<String>,
    pub service: Option<String>,
    pub endpoint: Option<String>,
    #[serde(with = "rfc3339::option")]
    pub from: Option<Timestamp>,
    /// How that is known; left out: somebody says so.
    pub evidence: Option<Evidence>,
}

/// Records that a deployment serves a model version, or none any more.
///
/// # Errors
/// `NotFound` where there is no such model version, or no such deployment to end.
pub async fn deploy(catalog: &Catalog, wanted: Deployment, author: &Author) -> Result<Told> {
    let environment = wanted.environment.clone().unwrap_or_else(|| "production".to_owned());
    for text in [Some(&wanted.name), Some(&environment), wanted.service.as_ref(), wanted.endpoint.as_ref()] {
        short("the deployment", text)?;
    }
    if wanted.name.trim().is_empty() {
        return Err(Error::Invalid("the deployment has no name".to_owned()));
    }
    let from = wanted.from.unwrap_or_else(|| catalog.store().clock().now());
    let outcome = catalog
        .commit(author, None, |state| {
            let (registry, head) = (state.registry(), state.head.sequence);
            let known = registry.deployment_named(&wanted.name, &environment);
            let model_version = match &wanted.model_version {
                Some(text) => Some(model_version_named(registry, text, head)?),
                None => None,
            };
            if known.is_none() && model_version.is_none() {
                return Err(no_deployment(registry, &wanted.name, &environment));
            }
            let change = DeploymentChanged {
                deployment: known.unwrap_or_else(environment::mint::<DeploymentId>),
                name: wanted.name.clone(),
                environment: environment.clone(),
                model_version,
                service: wanted.service.clone(),
                endpoint: wanted.endpoint.clone(),
                from,
                evidence: wanted.evidence.unwrap_or(Evidence::Declared),
            };
            let newest = registry
                .deployments()
                .find(|(id, _)| *id == change.deployment)
                .and_then(|(_, changes)| changes.last());
            let same = newest.is_some_and(|newest| {
                DeploymentChanged { from: change.from, ..newest.record.clone() } == change
            });
            Ok(if same { Intent::Done(()) } else { Intent::Append(vec![change.into()]) })
        })
        .await?;
    Ok(outcome.into())
}

fn no_deployment(registry: &Registry, name: &str, environment: &str) -> Error {
    let all = || registry.deployments().filter_map(|(_, changes)| changes.first());
    let names: Vec<&str> = all().map(|first| first.record.name.as_str()).collect();
    let hint = did_you_mean(name, names.iter().copied());
    Error::NotFound(format!(
        "there is no deployment `{name}` in `{environment}`{hint}; name the model version that it serves to make one"
    ))
}

/// A model version as people name it.
///
/// # Errors
/// `NotFound`, with the nearest name.
pub fn model_version_named(registry: &Registry, text: &str, at: Sequence) -> Result<ModelVersionId> {
    registry.model_version_named(text, at).ok_or_else(|| {
        let names: Vec<String> = registry
            .model_versions()
            .filter_map(|(id, _)| {
                let version = registry.model_version_at(id, at)?;
                let model = registry.model_at(version.model, at)?;
                Some(format!("{}/{}", model.name, version.version))
            })
            .collect();
        let hint = did_you_mean(text, names.iter().map(String::as_str));
        Error::NotFound(format!(
            "there is no model version `{text}`{hint}; write it as delay/3 or delay@champion; `SELECT * FROM lineament.model_versions` lists them"
        ))
    })
}

/// The records that make a run and an experiment known which an author names for the first time.
pub(crate) fn introduction(state: &State, author: &Author) -> Result<Vec<Record>> {
    let registry = state.registry();
    let is_new = author.run.as_deref().is_some_and(|run| registry.run(run).is_none())
        || author.experiment.as_deref().is_some_and(|name| registry.experiment(name).is_none());
    if !is_new {
        return Ok(Vec::new());
    }
    let seen = Observations { how: Some(author.how), ..Default::default() };
    let mut telling = Telling::new(state, &seen, state.head.committed_at);
    let experiment = author.experiment.as_deref().map(|name| telling.experiment_named(name)).transpose()?;
    if let Some(run) = author.run.as_deref()
        && registry.run(run).is_none()
    {
        let id = telling.run_named(run)?;
        if let Some(experiment) = experiment {
            let known = telling.records.iter_mut().find_map(|record| match record {
                Record::RunObserved(seen) if seen.run == id => Some(seen),
                _ => None,
            });
            match known {
                Some(seen) => seen.experiment = seen.experiment.or(Some(experiment)),
                None => telling.records.push(blank_run(id, Some(experiment), state.head.committed_at).into()),
            }
        }
    }
    Ok(telling.records)
}

fn blank_run(run: RunId, experiment: Option<ExperimentId>, seen_at: Timestamp) -> RunObserved {
    RunObserved {
        run,
        experiment,
        parent: None,
        name: None,
        status: None,
        started_at: None,
        ended_at: None,
        lifecycle: None,
        seen_at,
        body: None,
    }
}

fn verify(seen: &Observations) -> Result<()> {
    let things = seen.experiments.len()
        + seen.runs.len()
        + seen.models.len()
        + seen.model_versions.len()
        + seen.aliases.len()
        + seen.measurements.len();
    if things > THINGS {
        return Err(Error::Invalid(format!(
            "{things} things are told at once; at most {THINGS} are allowed: tell them in several calls"
        )));
    }
    for seen in &seen.experiments {
        short("an experiment", Some(&seen.id))?;
        short("the name of an experiment", seen.name.as_ref())?;
        short("a hypothesis", seen.hypothesis.as_ref())?;
        short("the owner of an experiment", seen.owner.as_ref())?;
    }
    for seen in &seen.runs {
        short("a run", Some(&seen.id))?;
        short("the name of a run", seen.name.as_ref())?;
        short("the status of a run", seen.status.as_ref())?;
        if let Some((name, _)) = seen.metrics.iter().find(|(_, value)| !value.is_finite()) {
            return Err(Error::Invalid(format!("the metric `{name}` of run `{}` is no number", seen.id)));
        }
    }
    for seen in &seen.models {
        short("a model", Some(&seen.id))?;
        short("the name of a model", seen.name.as_ref())?;
    }
    for seen in &seen.model_versions {
        short("a model version", seen.id.as_ref())?;
        short("a model", Some(&seen.model))?;
        short("a model version", Some(&seen.version))?;
        if seen.version.trim().is_empty() {
            return Err(Error::Invalid(format!("a version of the model `{}` has no number", seen.model)));
        }
    }
    for seen in &seen.measurements {
        let name = &seen.deployment;
        let (Some(from), Some(until)) = (seen.from, seen.until) else {
            return Err(Error::Invalid(format!(
                "the measurement of `{name}` needs from and until, the time whose predictions were looked at"
            )));
        };
        if from >= until {
            return Err(Error::Invalid(format!("the measurement of `{name}` ends before it begins")));
        }
        if let Some((metric, _)) = seen.metrics.iter().find(|(_, value)| !value.is_finite()) {
            return Err(Error::Invalid(format!("the metric `{metric}` of `{name}` is no number")));
        }
    }
    seen.aliases.iter().try_for_each(|seen| short("an alias", Some(&seen.alias)))
}

fn short(what: &str, text: Option<&String>) -> Result<()> {
    match text {
        Some(text) if text.len() > TEXT_BYTES => Err(Error::Invalid(format!(
            "{what} has {} bytes; at most {TEXT_BYTES} are allowed: it is kept in the log as it is",
            text.len()
        ))),
        _ => Ok(()),
    }
}

/// The side objects of what is told, written before the entry that names them.
struct Bodies(HashMap<External, Object>);

impl Bodies {
    async fn keep(catalog: &Catalog, state: &State, seen: &Observations) -> Result<Self> {
        let registry = state.registry();
        let head = state.head.sequence;
        let mut bodies = HashMap::new();
        let mut wanted: Vec<(External, Vec<u8>, Option<Object>)> = Vec::new();
        for run in &seen.runs {
            let body = run.body();
            if body == RunBody::default() {
                continue;
            }
            let external = seen.external(Kind::Run, &run.id)?;
            let known = registry.find(&external).and_then(|id| registry.run_at(id.into(), head)?.body);
            wanted.push((external, json(&body)?, known));
        }
        for version in &seen.model_versions {
            let body = version.body();
            if body == ModelVersionBody::default() {
                continue;
            }
            let external = seen.external(Kind::ModelVersion, &version.id())?;
            let known =
                registry.find(&external).and_then(|id| registry.model_version_at(id.into(), head)?.body);
            wanted.push((external, json(&body)?, known));
        }
        for experiment in seen.experiments.iter().filter(|experiment| !experiment.tags.is_empty()) {
            let external = seen.external(Kind::Experiment, &experiment.id)?;
            let known = registry.find(&external).and_then(|id| registry.experiment_at(id.into(), head)?.body);
            wanted.push((external, json(&serde_json::json!({ "tags": experiment.tags }))?, known));
        }
        for (external, bytes, known) in wanted {
            if bytes.len() > BODY_BYTES {
                return Err(Error::Invalid(format!(
                    "parameters, metrics and tags of {external} have {} bytes; at most {BODY_BYTES} are allowed",
                    bytes.len()
                )));
            }
            let object = match known {
                Some(known) if known.digest == hash(state.hash, &bytes) => known,
                _ => {
                    let id: BodyId = environment::mint();
                    catalog.put_object(format!("bodies/{id}.json"), bytes.into()).await?
                }
            };
            bodies.insert(external, object);
        }
        Ok(Self(bodies))
    }

    fn of(&self, external: &External) -> Option<Object> {
        self.0.get(external).cloned()
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::internal("a body cannot be written", error))
}

/// Reads a body again.
///
/// # Errors
/// `Storage` where it is missing or was altered; `Damaged` where it cannot be read.
pub async fn body<T: DeserializeOwned>(catalog: &Catalog, object: &Object) -> Result<T> {
    let bytes = catalog.object(object).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        storage::Error::corrupt(&object.path, format!("it is not the JSON of a body: {error}")).into()
    })
}

impl Observations {
    fn external(&self, kind: Kind, id: &str) -> Result<External> {
        External::new(kind, self.system.as_deref().unwrap_or(OWN), &self.authority, id)
    }
}

impl SeenRun {
    fn body(&self) -> RunBody {
        RunBody {
            user: self.user.clone(),
            source_commit: self.source_commit.clone(),
            params: self.params.clone(),
            metrics: self.metrics.clone(),
            tags: self.tags.clone(),
            truncated: self.truncated.clone(),
        }
    }
}

impl SeenModelVersion {
    fn body(&self) -> ModelVersionBody {
        ModelVersionBody {
            source_uri: self.source_uri.clone(),
            logged_model: self.logged_model.clone(),
            tags: self.tags.clone(),
        }
    }

    fn id(&self) -> String {
        self.id.clone().unwrap_or_else(|| format!("{}/{}", self.model, self.version))
    }
}

/// Records under construction, over a state.
struct Telling<'a> {
    state: &'a State,
    seen: &'a Observations,
    seen_at: Timestamp,
    fresh: HashMap<External, Uuid>,
    records: Vec<Record>,
}

impl<'a> Telling<'a> {
    fn new(state: &'a State, seen: &'a Observations, seen_at: Timestamp) -> Self {
        Self { state, seen, seen_at, fresh: HashMap::new(), records: Vec::new() }
    }

    fn registry(&self) -> &'a Registry {
        self.state.registry()
    }

    /// The id of a foreign thing; the first time, it gets one.
    fn link(&mut self, external: External) -> Uuid {
        if let Some(id) = self.registry().find(&external).or_else(|| self.fresh.get(&external).copied()) {
            return id;
        }
        let id = environment::mint::<RunId>().uuid();
        self.link_to(external, id);
        id
    }

    fn link_to(&mut self, external: External, id: Uuid) {
        let External { kind, system, authority, id: external_id } = external.clone();
        let how = self.seen.how.unwrap_or_default();
        self.records.push(ExternalLinked { id, kind, system, authority, external_id, how }.into());
        self.fresh.insert(external, id);
    }

    /// A run by our id, or as a caller names it.
    fn run_named(&mut self, text: &str) -> Result<RunId> {
        if let Some(known) = self.registry().run(text) {
            return Ok(known);
        }
        let name = RunName::parse(text)?;
        let run = RunId::from(self.link(name.run));
        if let Some(experiment) = name.experiment {
            let experiment = ExperimentId::from(self.link(experiment));
            self.records.push(blank_run(run, Some(experiment), self.seen_at).into());
        }
        Ok(run)
    }

    fn experiment_named(&mut self, text: &str) -> Result<ExperimentId> {
        if let Some(known) = self.registry().experiment(text) {
            return Ok(known);
        }
        Ok(self.link(external::experiment(text)?).into())
    }

    /// A run of the same server, or any by our id.
    fn run_of(&mut self, id: &str) -> Result<RunId> {
        if let Some(known) = id.parse().ok().filter(|id| self.registry().run_at(*id, self.head()).is_some()) {
            return Ok(known);
        }
        if id.contains(';') {
            return self.run_named(id);
        }
        Ok(self.link(self.seen.external(Kind::Run, id)?).into())
    }

    fn head(&self) -> Sequence {
        self.state.head.sequence
    }

    fn experiment(&mut self, seen: &SeenExperiment, bodies: &Bodies) -> Result<()> {
        let external = self.seen.external(Kind::Experiment, &seen.id)?;
        let body = bodies.of(&external);
        let id = ExperimentId::from(self.link(external));
        let before = self.registry().experiment_at(id, self.head()).unwrap_or_default();
        let mut after = before.clone();
        overlay(&mut after.name, &seen.name);
        overlay(&mut after.hypothesis, &seen.hypothesis);
        overlay(&mut after.owner, &seen.owner);
        overlay(&mut after.lifecycle, &seen.lifecycle);
        overlay(&mut after.body, &body);
        if after != before {
            let ExperimentNow { name, hypothesis, owner, lifecycle, body } = after;
            let seen_at = self.seen_at;
            let record =
                ExperimentObserved { experiment: id, name, hypothesis, owner, lifecycle, seen_at, body };
            self.records.push(record.into());
        }
        Ok(())
    }

    fn run(&mut self, seen: &SeenRun, bodies: &Bodies) -> Result<()> {
        let external = self.seen.external(Kind::Run, &seen.id)?;
        let body = bodies.of(&external);
        let id = RunId::from(self.link(external));
        let experiment = match &seen.experiment {
            Some(text) if text.contains(';') => Some(self.experiment_named(text)?),
            Some(text) => Some(self.link(self.seen.external(Kind::Experiment, text)?).into()),
            None => None,
        };
        let parent = seen.parent.as_deref().map(|parent| self.run_of(parent)).transpose()?;
        let before = self.registry().run_at(id, self.head()).unwrap_or_default();
        let mut after = before.clone();
        overlay(&mut after.experiment, &experiment);
        overlay(&mut after.parent, &parent);
        overlay(&mut after.name, &seen.name);
        overlay(&mut after.status, &seen.status);
        overlay(&mut after.started_at, &seen.started_at);
        overlay(&mut after.ended_at, &seen.ended_at);
        overlay(&mut after.lifecycle, &seen.lifecycle);
        overlay(&mut after.body, &body);
        if after != before {
            let RunNow { experiment, parent, name, status, started_at, ended_at, lifecycle, body } = after;
            let seen_at = self.seen_at;
            let record = RunObserved {
                run: id,
                experiment,
                parent,
                name,
                status,
                started_at,
                ended_at,
                lifecycle,
                seen_at,
                body,
            };
            self.records.push(record.into());
        }
        Ok(())
    }

    fn model(&mut self, seen: &SeenModel) -> Result<()> {
        let id = ModelId::from(self.link(self.seen.external(Kind::Model, &seen.id)?));
        let before = self.registry().model_at(id, self.head());
        let name = seen.name.clone().unwrap_or_else(|| seen.id.clone());
        let lifecycle = seen.lifecycle.or(before.as_ref().and_then(|before| before.lifecycle));
        let after = ModelNow { name, lifecycle };
        if before.as_ref() != Some(&after) {
            let ModelNow { name, lifecycle } = after;
            self.records.push(ModelObserved { model: id, name, lifecycle, seen_at: self.seen_at }.into());
        }
        Ok(())
    }

    /// The model of a version or an alias. One that nobody told of yet has its id for a name.
    fn model_of(&mut self, id: &str) -> Result<ModelId> {
        let external = self.seen.external(Kind::Model, id)?;
        let is_new = self.registry().find(&external).is_none() && !self.fresh.contains_key(&external);
        let model = ModelId::from(self.link(external));
        if is_new {
            let seen_at = self.seen_at;
            self.records.push(ModelObserved { model, name: id.to_owned(), lifecycle: None, seen_at }.into());
        }
        Ok(model)
    }

    /// The model and the version keep their ids under the new name.
    fn rename(&mut self, seen: &SeenModelVersion, before: &str) -> Result<()> {
        let (from, to) =
            (self.seen.external(Kind::Model, before)?, self.seen.external(Kind::Model, &seen.model)?);
        if let Some(model) = self.registry().find(&from)
            && self.registry().find(&to).is_none()
            && !self.fresh.contains_key(&to)
        {
            self.link_to(to, model);
            let (name, seen_at) = (seen.model.clone(), self.seen_at);
            self.records.push(ModelObserved { model: model.into(), name, lifecycle: None, seen_at }.into());
        }
        let id = seen.id();
        let old = format!("{before}{}", id.strip_prefix(seen.model.as_str()).unwrap_or(&id));
        let (from, to) =
            (self.seen.external(Kind::ModelVersion, &old)?, self.seen.external(Kind::ModelVersion, &id)?);
        if let Some(version) = self.registry().find(&from)
            && self.registry().find(&to).is_none()
        {
            self.link_to(to, version);
        }
        Ok(())
    }

    fn measurement(&mut self, seen: &Measurement, body: &Object) -> Result<()> {
        let registry = self.registry();
        let environment = seen.environment.as_deref().unwrap_or("production");
        let Some(deployment) = registry.deployment_named(&seen.deployment, environment) else {
            return Err(no_deployment(registry, &seen.deployment, environment));
        };
        let (Some(from), Some(until)) = (seen.from, seen.until) else { return Ok(()) };
        let model_version = registry.served(deployment, from);
        let known = registry
            .measured()
            .iter()
            .rev()
            .map(|noted| &noted.record)
            .find(|known| known.deployment == deployment && known.from == from && known.until == until);
        if known.is_none_or(|known| known.body.digest != body.digest) {
            let body = body.clone();
            self.records.push(DeploymentMeasured { deployment, model_version, from, until, body }.into());
        }
        Ok(())
    }

    fn end_pass(&mut self) {
        let Some(Complete { found, gone }) = self.seen.complete else { return };
        let (system, authority) =
            (self.seen.system.clone().unwrap_or_else(|| OWN.to_owned()), &self.seen.authority);
        let authority = self.registry().authority(authority);
        self.records.push(Reconciled { system, authority, seen_at: self.seen_at, found, gone }.into());
    }

    fn model_version(&mut self, seen: &SeenModelVersion, bodies: &Bodies) -> Result<()> {
        if let Some(before) = &seen.renamed_from {
            self.rename(seen, before)?;
        }
        let model = self.model_of(&seen.model)?;
        let external = self.seen.external(Kind::ModelVersion, &seen.id())?;
        let body = bodies.of(&external);
        let id = ModelVersionId::from(self.link(external));
        let run = seen.run.as_deref().map(|run| self.run_of(run)).transpose()?;
        let before = self.registry().model_version_at(id, self.head());
        let mut after = before.clone().unwrap_or_else(|| ModelVersionNow {
            model,
            version: seen.version.clone(),
            run: None,
            created_at: None,
            status: None,
            lifecycle: None,
            body: None,
        });
        overlay(&mut after.run, &run);
        overlay(&mut after.created_at, &seen.created_at);
        overlay(&mut after.status, &seen.status);
        overlay(&mut after.lifecycle, &seen.lifecycle);
        overlay(&mut after.body, &body);
        if before.as_ref() != Some(&after) {
            let ModelVersionNow { model, version, run, created_at, status, lifecycle, body } = after;
            let seen_at = self.seen_at;
            let record = ModelVersionObserved {
                model_version: id,
                model,
                version,
                run,
                created_at,
                status,
                lifecycle,
                seen_at,
                body,
            };
            self.records.push(record.into());
        }
        Ok(())
    }

    fn alias(&mut self, seen: &SeenAlias) -> Result<()> {
        let model = self.model_of(&seen.model)?;
        let model_version = match &seen.version {
            None => None,
            Some(version) => {
                let external = self.seen.external(Kind::ModelVersion, version)?;
                let known = self.registry().find(&external).or_else(|| self.fresh.get(&external).copied());
                let Some(id) = known else {
                    return Err(Error::NotFound(format!(
                        "the alias `{}` of `{}` means the version `{version}`, which nobody told of; tell of it in `model_versions` first",
                        seen.alias, seen.model
                    )));
                };
                Some(ModelVersionId::from(id))
            }
        };
        let before = self.registry().alias(model, &seen.alias, self.head());
        if before.map_or(model_version.is_none(), |before| before.record.model_version == model_version) {
            return Ok(());
        }
        let record = AliasObserved {
            model,
            alias: seen.alias.clone(),
            model_version,
            seen_at: self.seen_at,
            previous_seen_at: self.seen.previous_seen_at,
        };
        self.records.push(record.into());
        Ok(())
    }
}
