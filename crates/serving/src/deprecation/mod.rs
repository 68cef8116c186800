//! What will go: announced by name, told to whoever reads it, refused to new uses at its date.
//!
//! A model in force is not surprised: what it stands on is closed to others alone, and withdrawn only by somebody who says why.

mod due;
mod notice;
mod rights;

use std::collections::BTreeSet;

use async_recursion::async_recursion;
use catalog::deprecation::{self, Announcement};
use catalog::records::{Deprecable, DeprecatedKind};
use catalog::state::{ServiceVersion, State, ViewVersion};
use catalog::{Author, plan::did_you_mean};
use feature::policy::Action;
use feature::{Id, Name, Sequence, Timestamp};
use lineage::Graph;
use lineage::graph::Node;
use serde::{Deserialize, Serialize};

pub use due::{DueReport, PutOff, StepTaken};
pub use notice::DeprecationNotice;
pub(crate) use notice::{Met, Reading};

use crate::error::{Error, Kind, Result};
use crate::retrieve::Serving;

/// What is to be deprecated, or not after all.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeprecateRequest {
    /// A version (`weather@1`), a feature view (`weather`) with all its versions, or a feature service (`delay`).
    pub node: String,
    /// Why; it stands in the log.
    pub reason: String,
    /// A day or an instant, from which on nothing new may be made of it.
    pub closed_on: Option<String>,
    /// From when on it is read no more; it stays closed, where there is none.
    pub withdrawn_on: Option<String>,
    /// What takes its place.
    pub instead: Option<String>,
    /// Takes the deprecation back.
    pub undo: bool,
}

/// What was deprecated, or is no more.
#[derive(Clone, Debug, Serialize)]
pub struct DeprecationReport {
    /// As people call it.
    pub of: String,
    /// `version`, `feature_view` or `feature_service`.
    pub kind: &'static str,
    pub undo: bool,
    /// RFC 3339.
    pub closed_at: Option<String>,
    pub withdrawn_at: Option<String>,
    pub instead: Option<String>,
    /// What stands on it now: it is warned, and as long as it is in force the thing is not withdrawn without a word.
    pub training_sets: usize,
    pub model_versions: Vec<String>,
    pub deployments: Vec<String>,
    /// Why `lineament reconcile` will name it: its author is not its owner, and no policies said that they may.
    pub without_right: Option<String>,
    pub sequence: Sequence,
}

impl Serving {
    /// Announces that something will go, or takes that back.
    ///
    /// # Errors
    /// `NotFound` for a name of nothing; `Forbidden` for who may not; `Invalid` for dates that are past, no date, no reason, and what is as
    /// it is asked to be already.
    #[async_recursion]
    pub async fn deprecate(&self, request: &DeprecateRequest, author: &Author) -> Result<DeprecationReport> {
        let (state, graph) = self.graph(None).await?;
        let of = find(&state, &request.node)?;
        let words = || format!("deprecate {}", request.node);
        let right = self.right_of(&state, of, author);
        let right = self.on_record(author, Action::Deprecate, None, words, right).await?;
        let announcement = match request.undo {
            true => None,
            false => Some(announcement(&state, of, request)?),
        };
        let sequence = match &announcement {
            Some(announcement) => deprecation::announce(self.catalog(), announcement, author).await?.1,
            None => deprecation::revoke(self.catalog(), of, &request.reason, author).await?,
        };
        let uses = Uses::of(&state, &graph, of);
        let (model_versions, deployments) = (uses.model_versions(&graph), uses.deployments(&graph));
        Ok(DeprecationReport {
            of: state.label_of(of).unwrap_or_else(|| request.node.clone()),
            kind: of.kind.name(),
            undo: request.undo,
            closed_at: announcement.as_ref().map(|wanted| wanted.closed_at.to_string()),
            withdrawn_at: announcement.as_ref().and_then(|wanted| Some(wanted.withdrawn_at?.to_string())),
            instead: announcement.and_then(|wanted| state.label_of(wanted.instead?)),
            training_sets: uses.training_sets.len(),
            model_versions,
            deployments,
            without_right: right.err(),
            sequence,
        })
    }
}

fn announcement(state: &State, of: Deprecable, request: &DeprecateRequest) -> Result<Announcement> {
    let Some(closed_on) = &request.closed_on else {
        return Err(Error::new(
            Kind::Invalid,
            "say from which day on nothing new may be made of it (`--closed-on 2027-01-01`), and by `--withdrawn-on` from which on it is \
             read no more",
        ));
    };
    Ok(Announcement {
        of,
        reason: request.reason.clone(),
        closed_at: day(closed_on)?,
        withdrawn_at: request.withdrawn_on.as_deref().map(day).transpose()?,
        instead: request.instead.as_deref().map(|name| find(state, name)).transpose()?,
    })
}

/// The beginning of a day in UTC, or an instant with its zone.
fn day(text: &str) -> Result<Timestamp> {
    let text = text.trim();
    let begins = text.parse::<Timestamp>();
    begins.or_else(|_| format!("{text}T00:00:00Z").parse::<Timestamp>()).map_err(|_| {
        Error::new(
            Kind::Invalid,
            format!("`{text}` is not a day: write it as 2027-01-01, or an instant as 2027-01-01T12:00:00Z"),
        )
    })
}

/// What a name means: a version, a feature view, or a feature service. `service:delay` and `view:delay` say which.
fn find(state: &State, name: &str) -> Result<Deprecable> {
    let (kind, plain) = match name.trim().split_once(':') {
        Some((kind @ ("service" | "view"), plain)) => (Some(kind), plain),
        _ => (None, name.trim()),
    };
    let head = state.head.sequence;
    let missing = |what: &str, known: Vec<&str>| {
        let hint = did_you_mean(plain, known);
        Error::new(
            Kind::NotFound,
            format!(
                "there is no {what} `{plain}`{hint}; name a version (weather@1), a feature view (weather) or a service"
            ),
        )
    };
    let views = || state.views().map(|version| version.definition.name.as_str()).collect::<Vec<_>>();
    let Some((project, view, number)) = engine::split_name(plain) else {
        return Err(missing("feature view or service", views()));
    };
    if number.is_some() {
        let found = state.view(&project, &view, number, head);
        let found = found.ok_or_else(|| missing("version", views()))?;
        return Ok(Deprecable { kind: DeprecatedKind::Version, id: found.version.uuid() });
    }
    let names = project.parse::<Name>().ok().zip(view.parse::<Name>().ok());
    let (project, view) = names.ok_or_else(|| missing("feature view or service", views()))?;
    let of_view = state.versions_of(&project, &view).first().filter(|_| kind != Some("service"));
    let service = state.service(&project, &view, head).filter(|_| kind != Some("view"));
    match (of_view, service) {
        (Some(_), Some(_)) => Err(Error::new(
            Kind::Invalid,
            format!(
                "`{plain}` is a feature view and a feature service; write view:{plain} or service:{plain}"
            ),
        )),
        (Some(found), None) => Ok(Deprecable { kind: DeprecatedKind::FeatureView, id: found.view.uuid() }),
        (None, Some(found)) => {
            Ok(Deprecable { kind: DeprecatedKind::FeatureService, id: found.service.uuid() })
        }
        (None, None) => {
            let services = state.services().map(|service| service.definition.name.as_str());
            Err(missing("feature view or service", views().into_iter().chain(services).collect()))
        }
    }
}

/// What stands on a thing that can be deprecated, as places of a graph.
#[derive(Clone, Debug, Default)]
struct Uses {
    training_sets: BTreeSet<u32>,
    models: BTreeSet<u32>,
    /// Deployments in force, each with the model version that it serves.
    live: BTreeSet<(u32, u32)>,
}

impl Uses {
    fn of(state: &State, graph: &Graph, of: Deprecable) -> Self {
        let mut uses = Self::default();
        let nodes = state.versions_under(of).into_iter().map(|version| Node::ViewVersion(version.version));
        for reached in
            nodes.filter_map(|node| graph.place(&node)).flat_map(|place| graph.impact(place).reached)
        {
            uses.training_sets.insert(reached.training_set);
            uses.models.extend(reached.model_version);
            uses.live.extend(reached.deployment.zip(reached.model_version));
        }
        if of.kind == DeprecatedKind::FeatureService {
            uses.live.extend(served_with(state, graph, of));
            uses.models.extend(uses.live.iter().map(|(_, model)| *model));
        }
        uses
    }

    fn model_versions(&self, graph: &Graph) -> Vec<String> {
        self.models.iter().map(|place| graph.label(*place).into_owned()).collect()
    }

    /// `delay-api in production (delay/3)`
    fn deployments(&self, graph: &Graph) -> Vec<String> {
        let told = |(deployment, model): &(u32, u32)| {
            format!("{} ({})", graph.label(*deployment), graph.label(*model))
        };
        self.live.iter().map(told).collect()
    }
}

/// Deployments in force that say they use a feature service.
fn served_with(state: &State, graph: &Graph, of: Deprecable) -> Vec<(u32, u32)> {
    let Some(label) = state.label_of(of) else { return Vec::new() };
    let at = graph.sequence();
    let deployments = state.registry().deployments().filter_map(|(id, changes)| {
        let now = changes.iter().rev().find(|noted| noted.by.sequence <= at)?;
        let model = now.record.model_version.filter(|_| now.record.service.as_deref() == Some(&label))?;
        graph.place(&Node::Deployment(id)).zip(graph.place(&Node::ModelVersion(model)))
    });
    deployments.collect()
}

/// The definitions whose policies decide of a thing: of a service those of the views that it lists.
fn views_of(state: &State, of: Deprecable) -> Vec<&ViewVersion> {
    let head = state.head.sequence;
    match of.kind {
        DeprecatedKind::Version => state.versions_under(of),
        DeprecatedKind::FeatureView => {
            let versions = state.versions_under(of);
            let in_force = versions.last().and_then(|last| {
                let (project, name) = (&last.definition.project, &last.definition.name);
                state.view(project.as_str(), name.as_str(), None, head)
            });
            in_force.or(versions.last().copied()).into_iter().collect()
        }
        DeprecatedKind::FeatureService => {
            let Some(service) = service_of(state, of) else { return Vec::new() };
            let listed = service.definition.features.iter().filter_map(|reference| {
                state.view(reference.project.as_str(), reference.view.as_str(), reference.version, head)
            });
            listed.collect()
        }
    }
}

/// The newest version of a service.
fn service_of(state: &State, of: Deprecable) -> Option<&ServiceVersion> {
    let versions = state.services().filter(|service| service.service.uuid() == of.id);
    versions.max_by_key(|service| service.number)
}
