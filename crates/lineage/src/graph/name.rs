//! How people name a node of the graph.

use std::borrow::Cow;

use catalog::State;
use feature::name::nearest;
use uuid::Uuid;

use super::{Graph, Node};

/// The kinds that a name may begin with, as `batch:…`.
const KINDS: [&str; 12] = [
    "source",
    "principal",
    "batch",
    "view_version",
    "feature",
    "service",
    "training_set",
    "experiment",
    "run",
    "model",
    "model_version",
    "deployment",
];

/// Why a name is of no node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error(
        "nothing is called `{name}`{hint}; name a batch, a training set, a run or a source by its id, weather, weather@3 or weather@3.temp, delay/3 or delay@champion, a deployment, an experiment or a person by name"
    )]
    Unknown { name: String, hint: String },
    #[error("`{name}` may be {}; write which", .nodes.join(" or "))]
    Ambiguous { name: String, nodes: Vec<String> },
}

impl Graph {
    /// The node of a name: an id, `weather` (the version in force), `weather@3`, `weather@3.temp`, `delay/3`, `delay@champion`, a run as its system
    /// calls it, a deployment, an experiment, a principal. `run:x` says which kind is meant.
    ///
    /// # Errors
    /// Names the nearest node, or those that it may be.
    pub fn find(&self, state: &State, name: &str) -> Result<u32, NameError> {
        let name = name.trim();
        let (kind, plain) = match name.split_once(':') {
            Some((kind, rest)) if KINDS.contains(&kind) => (Some(kind), rest),
            _ => (None, name),
        };
        let mut found: Vec<u32> = self.candidates(state, plain);
        found.retain(|place| kind.is_none_or(|kind| self.node(*place).kind() == kind));
        found.sort_unstable();
        found.dedup();
        match found.as_slice() {
            [place] => Ok(*place),
            [] => {
                // A view is called by its bare name too.
                let bare = |label: &'_ str| label.split_once('@').map(|(view, _)| view.to_owned());
                let all: Vec<Cow<'_, str>> = self.places().map(|place| self.label(place)).collect();
                let bare: Vec<String> = all.iter().filter_map(|label| bare(label)).collect();
                let labels = bare.iter().map(String::as_str).chain(all.iter().map(AsRef::as_ref));
                let hint = nearest(plain, labels).map(|near| format!(" (did you mean `{near}`?)"));
                Err(NameError::Unknown { name: name.to_owned(), hint: hint.unwrap_or_default() })
            }
            several => {
                let nodes = several.iter().map(|place| {
                    let node = self.node(*place);
                    format!("{}:{node}", node.kind())
                });
                Err(NameError::Ambiguous { name: name.to_owned(), nodes: nodes.take(5).collect() })
            }
        }
    }

    fn candidates(&self, state: &State, name: &str) -> Vec<u32> {
        let registry = state.registry();
        let mut nodes: Vec<Node> = Vec::new();
        if let Some(id) = registry.run(name) {
            nodes.push(Node::Run(id));
        }
        if let Some(id) = registry.experiment(name) {
            nodes.push(Node::Experiment(id));
        }
        if let Some(id) = registry.model_version_named(name, self.at) {
            nodes.push(Node::ModelVersion(id));
        }
        nodes.extend(self.of_view(state, name));
        nodes.extend(of_id(name));
        nodes.push(Node::Principal(name.to_owned()));
        let mut places: Vec<u32> = nodes.iter().filter_map(|node| self.place(node)).collect();
        let is_it = |(place, label): &(&u32, &String)| {
            *label == name || matches!(self.node(**place), Node::Deployment(_) if deployed_as(label, name))
        };
        places.extend(self.labels.iter().filter(is_it).map(|(place, _)| *place));
        places
    }

    fn places(&self) -> impl Iterator<Item = u32> + use<> {
        0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)
    }

    /// `fraud.weather@3.temp`: project and version may be left out, and the feature is left out for the version.
    fn of_view(&self, state: &State, name: &str) -> Option<Node> {
        let parts: Vec<&str> = name.split('.').collect();
        let numbered = |part: &str| -> Option<(String, Option<u32>)> {
            match part.split_once('@') {
                Some((view, number)) => Some((view.to_owned(), Some(number.parse().ok()?))),
                None => Some((part.to_owned(), None)),
            }
        };
        let version = |project: &str, part: &str| {
            let (view, number) = numbered(part)?;
            state.view(project, &view, number, self.at)
        };
        let feature = |version: &catalog::state::ViewVersion, feature: &str| {
            Node::Feature(version.version, feature.to_owned())
        };
        match parts.as_slice() {
            [view] => version("default", view).map(|version| Node::ViewVersion(version.version)),
            [first, second] => version("default", first)
                .map(|version| feature(version, second))
                .filter(|node| self.place(node).is_some())
                .or_else(|| version(first, second).map(|version| Node::ViewVersion(version.version))),
            [project, view, name] => version(project, view).map(|version| feature(version, name)),
            _ => None,
        }
    }
}

/// Whatever is written as this id or digest.
fn of_id(name: &str) -> Vec<Node> {
    let mut nodes = Vec::new();
    let written = |id: &Uuid| id.hyphenated().to_string() == name;
    if let Some(id) = Uuid::try_parse(name).ok().filter(written) {
        nodes.extend([
            Node::Batch(id.into()),
            Node::ViewVersion(id.into()),
            Node::Service(id.into()),
            Node::TrainingSet(id.into()),
            Node::Experiment(id.into()),
            Node::Run(id.into()),
            Node::Model(id.into()),
            Node::ModelVersion(id.into()),
            Node::Deployment(id.into()),
        ]);
    }
    nodes.extend(name.parse().ok().map(Node::Source));
    if let Some((version, feature)) = name.split_once('.') {
        nodes.extend(version.parse().ok().map(|version| Node::Feature(version, feature.to_owned())));
    }
    nodes
}

/// A deployment's label is `delay in production`; its name alone is enough where it is in one environment.
fn deployed_as(label: &str, name: &str) -> bool {
    label.strip_prefix(name).is_some_and(|rest| rest.starts_with(" in "))
}
