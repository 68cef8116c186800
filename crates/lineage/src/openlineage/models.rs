//! Model versions and deployments. OpenLineage has no word for either: both are datasets.

use catalog::records::{DeploymentChanged, Lifecycle, ModelVersionObserved};
use feature::ModelVersionId;
use serde_json::json;

use super::Telling;
use super::event::Dataset;
use super::facet::{Facet, Facets, known};
use super::naming::Namespace;

impl Telling<'_> {
    pub(super) fn model_version_observed(&mut self, body: &ModelVersionObserved) {
        let registry = self.state.registry();
        let Some(model) = self.model_version(body.model_version) else { return };
        let now = registry.model_version_at(body.model_version, self.by.sequence);
        let before = registry.model_version_at(body.model_version, self.before());
        let mut told = model.clone();
        let change = match (&before, &now) {
            (_, Some(now)) if now.lifecycle.is_some_and(|lifecycle| lifecycle != Lifecycle::Active) => "DROP",
            (None, _) => "CREATE",
            _ => "ALTER",
        };
        told.facets = told.facets.with(Facet::LIFECYCLE, json!({ "lifecycleStateChange": change }));
        self.dataset_event(self.by.committed_at, &told);
        let run = now.and_then(|now| now.run);
        if let Some(run) = run.filter(|_| before.and_then(|before| before.run).is_none()) {
            self.made(run, &model);
        }
    }

    /// A version of a model: the dataset is the model, the version a facet.
    pub(super) fn model_version(&self, id: ModelVersionId) -> Option<Dataset> {
        let registry = self.state.registry();
        let now = registry.model_version_at(id, self.by.sequence)?;
        let model = registry.model_at(now.model, self.by.sequence)?;
        let namespace = registry.external(now.model).map(|external| self.namespace.of_external(external));
        let namespace: Namespace = namespace.unwrap_or_else(|| self.namespace.clone());
        let facets = Facets::default()
            .with(Facet::VERSION, json!({ "datasetVersion": now.version }))
            .with(Facet::DATASET_TYPE, json!({ "datasetType": "MODEL" }));
        Some(Dataset::new(namespace.named(format!("models/{}", model.name)), facets))
    }

    pub(super) fn deployment_changed(&mut self, body: &DeploymentChanged) {
        let registry = self.state.registry();
        let earlier = registry
            .deployments()
            .find(|(id, _)| *id == body.deployment)
            .is_some_and(|(_, changes)| changes.iter().any(|noted| noted.by.sequence < self.by.sequence));
        let change = match body.model_version {
            None => "DROP",
            Some(_) if earlier => "ALTER",
            Some(_) => "CREATE",
        };
        let mut version = None;
        let serves = body.model_version.and_then(|id| {
            let now = registry.model_version_at(id, self.by.sequence)?;
            let name = registry.model_at(now.model, self.by.sequence)?.name;
            version = Some(json!({ "datasetVersion": format!("{name}/{}", now.version) }));
            let mut model = self.model_version(id)?.named.json();
            model["version"] = now.version.into();
            Some(model)
        });
        let facet = known(json!({
            "id": body.deployment,
            "name": body.name,
            "environment": body.environment,
            "model": serves,
            "service": body.service,
            "endpoint": body.endpoint,
            "from": self.instant(body.from),
            "evidence": body.evidence,
        }));
        let facets = Facets::default()
            .with_some(Facet::VERSION, version)
            .with(Facet::DATASET_TYPE, json!({ "datasetType": "MODEL", "subType": "DEPLOYMENT" }))
            .with(Facet::LIFECYCLE, json!({ "lifecycleStateChange": change }))
            .with(Facet::DEPLOYMENT, facet);
        let name = format!("deployments/{}/{}", body.environment, body.name);
        let dataset = Dataset::new(self.namespace.named(name), facets);
        self.dataset_event(self.by.committed_at, &dataset);
    }
}
