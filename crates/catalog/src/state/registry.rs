//! Experiments, runs, models, aliases, deployments and uses, as the log tells of them.
//!
//! Nothing is overwritten: each observation stands with its entry, and a question is answered as of a sequence.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use feature::{
    DeploymentId, ExperimentId, Id, ModelId, ModelVersionId, RunId, Sequence, Timestamp, TrainingSetId,
};
use uuid::Uuid;

use super::{ApplyError, Provenance, repeated, unresolved};
use crate::external::{External, RunName};
use crate::records::{
    AliasObserved, AuthorityAliased, DeploymentChanged, DeploymentMeasured, ExperimentObserved,
    ExternalLinked, How, Kind, Lifecycle, ModelObserved, ModelVersionObserved, Object, Reconciled, Record,
    Role, RunObserved, UseRecorded,
};

/// A record with the entry that it came in.
#[derive(Clone, Debug)]
pub struct Noted<T> {
    pub record: T,
    pub by: Arc<Provenance>,
}

/// An id of ours and the foreign one.
#[derive(Clone, Debug)]
pub struct Link {
    pub id: Uuid,
    pub external: External,
    pub how: How,
    pub by: Arc<Provenance>,
}

/// An experiment, as last seen by some sequence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExperimentNow {
    pub name: Option<String>,
    pub hypothesis: Option<String>,
    pub owner: Option<String>,
    pub lifecycle: Option<Lifecycle>,
    pub body: Option<Object>,
}

/// A run, as last seen by some sequence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunNow {
    pub experiment: Option<ExperimentId>,
    pub parent: Option<RunId>,
    pub name: Option<String>,
    pub status: Option<String>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub lifecycle: Option<Lifecycle>,
    pub body: Option<Object>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ModelNow {
    pub name: String,
    pub lifecycle: Option<Lifecycle>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ModelVersionNow {
    pub model: ModelId,
    pub version: String,
    pub run: Option<RunId>,
    pub created_at: Option<Timestamp>,
    pub status: Option<String>,
    pub lifecycle: Option<Lifecycle>,
    pub body: Option<Object>,
}

/// The folded records of the registry.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    links: Vec<Link>,
    ids: BTreeMap<External, Uuid>,
    /// Each id's last link, by its place.
    last_links: HashMap<Uuid, usize>,
    /// The address that stands for each other address of its server.
    authorities: BTreeMap<String, String>,
    aliased: Vec<Noted<AuthorityAliased>>,
    experiments: BTreeMap<ExperimentId, Vec<Noted<ExperimentObserved>>>,
    runs: BTreeMap<RunId, Vec<Noted<RunObserved>>>,
    models: BTreeMap<ModelId, Vec<Noted<ModelObserved>>>,
    model_versions: BTreeMap<ModelVersionId, Vec<Noted<ModelVersionObserved>>>,
    aliases: Vec<Noted<AliasObserved>>,
    deployments: BTreeMap<DeploymentId, Vec<Noted<DeploymentChanged>>>,
    uses: Vec<Noted<UseRecorded>>,
    reconciled: Vec<Noted<Reconciled>>,
    measured: Vec<Noted<DeploymentMeasured>>,
}

fn noted<T: Clone>(record: &T, by: &Arc<Provenance>) -> Noted<T> {
    Noted { record: record.clone(), by: by.clone() }
}

/// The fold.
impl Registry {
    pub(super) fn link(&mut self, body: &ExternalLinked, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let external = External {
            kind: body.kind,
            system: body.system.clone(),
            authority: body.authority.clone(),
            id: body.external_id.clone(),
        };
        if self.ids.insert(external.clone(), body.id).is_some() {
            return Err(repeated(by, "the foreign id", external.to_string()));
        }
        match body.kind {
            Kind::Experiment => drop(self.experiments.entry(body.id.into()).or_default()),
            Kind::Run => drop(self.runs.entry(body.id.into()).or_default()),
            Kind::Model => drop(self.models.entry(body.id.into()).or_default()),
            Kind::ModelVersion => drop(self.model_versions.entry(body.id.into()).or_default()),
        }
        self.last_links.insert(body.id, self.links.len());
        self.links.push(Link { id: body.id, external, how: body.how, by: by.clone() });
        Ok(())
    }

    pub(super) fn alias_authority(&mut self, body: &AuthorityAliased, by: &Arc<Provenance>) {
        self.authorities.insert(body.alias.clone(), body.authority.clone());
        self.aliased.push(noted(body, by));
    }

    pub(super) fn see_experiment(
        &mut self,
        body: &ExperimentObserved,
        by: &Arc<Provenance>,
    ) -> Result<(), ApplyError> {
        let seen = self.experiments.get_mut(&body.experiment);
        seen.ok_or_else(|| unresolved(by, "experiment", body.experiment.to_string()))?.push(noted(body, by));
        Ok(())
    }

    pub(super) fn see_run(&mut self, body: &RunObserved, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        if let Some(experiment) = body.experiment.filter(|id| !self.experiments.contains_key(id)) {
            return Err(unresolved(by, "experiment", experiment.to_string()));
        }
        if let Some(parent) = body.parent.filter(|id| !self.runs.contains_key(id)) {
            return Err(unresolved(by, "run", parent.to_string()));
        }
        let seen = self.runs.get_mut(&body.run);
        seen.ok_or_else(|| unresolved(by, "run", body.run.to_string()))?.push(noted(body, by));
        Ok(())
    }

    pub(super) fn see_model(&mut self, body: &ModelObserved, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let seen = self.models.get_mut(&body.model);
        seen.ok_or_else(|| unresolved(by, "model", body.model.to_string()))?.push(noted(body, by));
        Ok(())
    }

    pub(super) fn see_model_version(
        &mut self,
        body: &ModelVersionObserved,
        by: &Arc<Provenance>,
    ) -> Result<(), ApplyError> {
        if !self.models.contains_key(&body.model) {
            return Err(unresolved(by, "model", body.model.to_string()));
        }
        if let Some(run) = body.run.filter(|id| !self.runs.contains_key(id)) {
            return Err(unresolved(by, "run", run.to_string()));
        }
        let seen = self.model_versions.get_mut(&body.model_version);
        seen.ok_or_else(|| unresolved(by, "model version", body.model_version.to_string()))?
            .push(noted(body, by));
        Ok(())
    }

    pub(super) fn see_alias(&mut self, body: &AliasObserved, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        if !self.models.contains_key(&body.model) {
            return Err(unresolved(by, "model", body.model.to_string()));
        }
        if let Some(version) = body.model_version.filter(|id| !self.model_versions.contains_key(id)) {
            return Err(unresolved(by, "model version", version.to_string()));
        }
        self.aliases.push(noted(body, by));
        Ok(())
    }

    pub(super) fn deploy(
        &mut self,
        body: &DeploymentChanged,
        by: &Arc<Provenance>,
    ) -> Result<(), ApplyError> {
        if let Some(version) = body.model_version.filter(|id| !self.model_versions.contains_key(id)) {
            return Err(unresolved(by, "model version", version.to_string()));
        }
        self.deployments.entry(body.deployment).or_default().push(noted(body, by));
        Ok(())
    }

    pub(super) fn record_use(&mut self, body: &UseRecorded, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        if !self.runs.contains_key(&body.run) {
            return Err(unresolved(by, "run", body.run.to_string()));
        }
        self.uses.push(noted(body, by));
        Ok(())
    }

    pub(super) fn measure(
        &mut self,
        body: &DeploymentMeasured,
        by: &Arc<Provenance>,
    ) -> Result<(), ApplyError> {
        if !self.deployments.contains_key(&body.deployment) {
            return Err(unresolved(by, "deployment", body.deployment.to_string()));
        }
        if let Some(version) = body.model_version.filter(|id| !self.model_versions.contains_key(id)) {
            return Err(unresolved(by, "model version", version.to_string()));
        }
        self.measured.push(noted(body, by));
        Ok(())
    }

    pub(super) fn reconciled(&mut self, body: &Reconciled, by: &Arc<Provenance>) {
        self.reconciled.push(noted(body, by));
    }
}

/// What a checkpoint keeps.
impl Registry {
    /// Every record after a sequence, the kinds one after the other, each in the order of the log. Applied in
    /// this order they give the registry again.
    pub(super) fn records_after(&self, after: Option<Sequence>) -> Vec<(Sequence, Record)> {
        let mut records = Vec::new();
        for link in self.links.iter().filter(|link| Some(link.by.sequence) > after) {
            let External { kind, system, authority, id } = link.external.clone();
            let linked =
                ExternalLinked { id: link.id, kind, system, authority, external_id: id, how: link.how };
            records.push((link.by.sequence, linked.into()));
        }
        told(&mut records, after, &self.aliased);
        told(&mut records, after, self.experiments.values().flatten());
        told(&mut records, after, self.runs.values().flatten());
        told(&mut records, after, self.models.values().flatten());
        told(&mut records, after, self.model_versions.values().flatten());
        told(&mut records, after, &self.aliases);
        told(&mut records, after, self.deployments.values().flatten());
        told(&mut records, after, &self.uses);
        told(&mut records, after, &self.reconciled);
        told(&mut records, after, &self.measured);
        records
    }
}

impl Registry {
    /// Whether something that was said of an experiment, a run or a model version lies in this object.
    pub(super) fn has_body(&self, path: &str) -> bool {
        let is = |body: &Option<Object>| body.as_ref().is_some_and(|body| body.path == path);
        self.experiments.values().flatten().any(|noted| is(&noted.record.body))
            || self.runs.values().flatten().any(|noted| is(&noted.record.body))
            || self.model_versions.values().flatten().any(|noted| is(&noted.record.body))
    }

    pub(super) fn has_model_version(&self, id: ModelVersionId) -> bool {
        self.model_versions.contains_key(&id)
    }
}

/// Adds what was noted after a sequence.
pub(super) fn told<'a, T: Clone + Into<Record> + 'a>(
    records: &mut Vec<(Sequence, Record)>,
    after: Option<Sequence>,
    noted: impl IntoIterator<Item = &'a Noted<T>>,
) {
    let later = noted.into_iter().filter(|noted| Some(noted.by.sequence) > after);
    records.extend(later.map(|noted| (noted.by.sequence, noted.record.clone().into())));
}

/// Questions.
impl Registry {
    /// How deployments did, in the order of the log.
    pub fn measured(&self) -> &[Noted<DeploymentMeasured>] {
        &self.measured
    }

    /// The model version that a deployment served at a time, as far as is known.
    pub fn served(&self, deployment: DeploymentId, at: Timestamp) -> Option<ModelVersionId> {
        let changes = self.deployments.get(&deployment)?.iter();
        let last = changes.filter(|noted| noted.record.from <= at).max_by_key(|noted| noted.record.from)?;
        last.record.model_version
    }

    /// Passes over tracking servers, in the order of the log.
    pub fn passes(&self) -> &[Noted<Reconciled>] {
        &self.reconciled
    }

    /// The last pass over a server.
    pub fn last_pass(&self, system: &str, authority: &str) -> Option<&Reconciled> {
        let of_server =
            |noted: &&Noted<Reconciled>| noted.record.system == system && noted.record.authority == authority;
        self.reconciled.iter().rev().find(of_server).map(|noted| &noted.record)
    }

    /// The id of a foreign thing, if it was ever heard of.
    pub fn find(&self, external: &External) -> Option<Uuid> {
        if let Some(id) = self.ids.get(external) {
            return Some(*id);
        }
        let authority = self.authorities.get(&external.authority)?;
        self.ids.get(&External { authority: authority.clone(), ..external.clone() }).copied()
    }

    /// A run by our id or as callers name it.
    pub fn run(&self, text: &str) -> Option<RunId> {
        if let Some(id) = text.parse().ok().filter(|id| self.runs.contains_key(id)) {
            return Some(id);
        }
        self.find(&RunName::parse(text).ok()?.run).map(RunId::from)
    }

    /// An experiment by our id or as callers name it.
    pub fn experiment(&self, text: &str) -> Option<ExperimentId> {
        if let Some(id) = text.parse().ok().filter(|id| self.experiments.contains_key(id)) {
            return Some(id);
        }
        self.find(&crate::external::experiment(text).ok()?).map(ExperimentId::from)
    }

    /// The server that an address stands for.
    pub fn authority(&self, address: &str) -> String {
        let address = crate::external::normalised(address);
        self.authorities.get(&address).cloned().unwrap_or(address)
    }

    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// How a thing is known elsewhere, by its last name.
    pub fn external(&self, id: impl Id) -> Option<&External> {
        let place = *self.last_links.get(&id.uuid())?;
        self.links.get(place).map(|link| &link.external)
    }

    pub fn experiments(&self) -> impl Iterator<Item = (ExperimentId, &[Noted<ExperimentObserved>])> {
        self.experiments.iter().map(|(id, seen)| (*id, seen.as_slice()))
    }

    pub fn runs(&self) -> impl Iterator<Item = (RunId, &[Noted<RunObserved>])> {
        self.runs.iter().map(|(id, seen)| (*id, seen.as_slice()))
    }

    pub fn models(&self) -> impl Iterator<Item = (ModelId, &[Noted<ModelObserved>])> {
        self.models.iter().map(|(id, seen)| (*id, seen.as_slice()))
    }

    pub fn model_versions(&self) -> impl Iterator<Item = (ModelVersionId, &[Noted<ModelVersionObserved>])> {
        self.model_versions.iter().map(|(id, seen)| (*id, seen.as_slice()))
    }

    /// Every move of every alias, in the order of the log.
    pub fn aliases(&self) -> &[Noted<AliasObserved>] {
        &self.aliases
    }

    /// Every deployment with its changes, in the order of the log.
    pub fn deployments(&self) -> impl Iterator<Item = (DeploymentId, &[Noted<DeploymentChanged>])> {
        self.deployments.iter().map(|(id, changes)| (*id, changes.as_slice()))
    }

    pub fn uses(&self) -> &[Noted<UseRecorded>] {
        &self.uses
    }

    pub fn is_used(&self, training_set: TrainingSetId, run: RunId, role: Role) -> bool {
        self.uses.iter().any(|noted| {
            let used = &noted.record;
            used.training_set == training_set && used.run == run && used.role == role
        })
    }

    pub fn experiment_at(&self, id: ExperimentId, at: Sequence) -> Option<ExperimentNow> {
        let mut now = ExperimentNow::default();
        for seen in until(self.experiments.get(&id)?, at) {
            overlay(&mut now.name, &seen.name);
            overlay(&mut now.hypothesis, &seen.hypothesis);
            overlay(&mut now.owner, &seen.owner);
            overlay(&mut now.lifecycle, &seen.lifecycle);
            overlay(&mut now.body, &seen.body);
        }
        Some(now)
    }

    pub fn run_at(&self, id: RunId, at: Sequence) -> Option<RunNow> {
        let mut now = RunNow::default();
        for seen in until(self.runs.get(&id)?, at) {
            overlay(&mut now.experiment, &seen.experiment);
            overlay(&mut now.parent, &seen.parent);
            overlay(&mut now.name, &seen.name);
            overlay(&mut now.status, &seen.status);
            overlay(&mut now.started_at, &seen.started_at);
            overlay(&mut now.ended_at, &seen.ended_at);
            overlay(&mut now.lifecycle, &seen.lifecycle);
            overlay(&mut now.body, &seen.body);
        }
        Some(now)
    }

    pub fn model_at(&self, id: ModelId, at: Sequence) -> Option<ModelNow> {
        let mut now: Option<ModelNow> = None;
        for seen in until(self.models.get(&id)?, at) {
            let lifecycle = seen.lifecycle.or(now.and_then(|now| now.lifecycle));
            now = Some(ModelNow { name: seen.name.clone(), lifecycle });
        }
        now
    }

    pub fn model_version_at(&self, id: ModelVersionId, at: Sequence) -> Option<ModelVersionNow> {
        let mut now: Option<ModelVersionNow> = None;
        for seen in until(self.model_versions.get(&id)?, at) {
            let now = now.get_or_insert_with(|| ModelVersionNow {
                model: seen.model,
                version: seen.version.clone(),
                run: None,
                created_at: None,
                status: None,
                lifecycle: None,
                body: None,
            });
            overlay(&mut now.run, &seen.run);
            overlay(&mut now.created_at, &seen.created_at);
            overlay(&mut now.status, &seen.status);
            overlay(&mut now.lifecycle, &seen.lifecycle);
            overlay(&mut now.body, &seen.body);
        }
        now
    }

    /// What an alias of a model means.
    pub fn alias(&self, model: ModelId, alias: &str, at: Sequence) -> Option<&Noted<AliasObserved>> {
        self.aliases.iter().rev().find(|noted| {
            noted.by.sequence <= at && noted.record.model == model && noted.record.alias == alias
        })
    }

    /// A model that is not gone, by its name here or in its registry.
    pub fn model_named(&self, name: &str, at: Sequence) -> Option<ModelId> {
        let named = |id: &ModelId| {
            self.model_at(*id, at)
                .is_some_and(|model| model.name == name && model.lifecycle != Some(Lifecycle::Gone))
        };
        self.models.keys().rev().find(|id| named(id)).copied()
    }

    /// `delay/3` or `delay@champion`: a version of a model, the newest of that number that is not gone. Also an id of ours or of its registry.
    pub fn model_version_named(&self, text: &str, at: Sequence) -> Option<ModelVersionId> {
        let is_it = |link: &&Link| link.external.kind == Kind::ModelVersion && link.external.id == text;
        if let Some(link) = self.links.iter().rev().find(is_it).filter(|link| link.by.sequence <= at) {
            return Some(link.id.into());
        }
        if let Some(id) = text.parse().ok().filter(|id| self.model_versions.contains_key(id)) {
            return Some(id);
        }
        if let Some((model, alias)) = text.rsplit_once('@') {
            return self.alias(self.model_named(model, at)?, alias, at)?.record.model_version;
        }
        let (model, version) = text.rsplit_once('/')?;
        let model = self.model_named(model, at)?;
        let is_it = |id: &ModelVersionId| {
            self.model_version_at(*id, at).is_some_and(|now| {
                now.model == model && now.version == version && now.lifecycle != Some(Lifecycle::Gone)
            })
        };
        self.model_versions.keys().rev().find(|id| is_it(id)).copied()
    }

    pub fn deployment_named(&self, name: &str, environment: &str) -> Option<DeploymentId> {
        let is_it = |changes: &[Noted<DeploymentChanged>]| {
            changes
                .first()
                .is_some_and(|first| first.record.name == name && first.record.environment == environment)
        };
        self.deployments.iter().find(|(_, changes)| is_it(changes)).map(|(id, _)| *id)
    }
}

/// What was seen by a sequence, in order.
fn until<T>(seen: &[Noted<T>], at: Sequence) -> impl Iterator<Item = &T> {
    seen.iter().take_while(move |noted| noted.by.sequence <= at).map(|noted| &noted.record)
}

/// What is left out says nothing.
pub(crate) fn overlay<T: Clone>(now: &mut Option<T>, seen: &Option<T>) {
    if seen.is_some() {
        now.clone_from(seen);
    }
}
