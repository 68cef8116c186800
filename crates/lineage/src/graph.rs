//! The graph of what came from what: a reading of the log's records, never stored.
//!
//! Edges point the way that data flows: from a source over its batches to training sets, runs, models and deployments.
//! Each carries the sequence of the record that it was read from.

mod build;
mod impact;
mod name;
mod walk;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

use catalog::records::Role;
use feature::digest::Digest;
use feature::{
    BatchId, DeploymentId, ExperimentId, ModelId, ModelVersionId, RunId, Sequence, ServiceId, TrainingSetId,
    VersionId,
};
use foldhash::fast::RandomState;
use serde::Serialize;

pub(crate) use impact::Used;
pub use impact::{Impact, Reached};
pub use name::NameError;
pub use walk::{Direction, Step, Walk};

/// Something that data passes through.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Node {
    /// A file that was ingested, by the digest of its bytes.
    Source(Digest),
    /// A person or a service, by login.
    Principal(String),
    Batch(BatchId),
    ViewVersion(VersionId),
    /// A column of a view version.
    Feature(VersionId, String),
    Service(ServiceId),
    TrainingSet(TrainingSetId),
    Experiment(ExperimentId),
    Run(RunId),
    Model(ModelId),
    ModelVersion(ModelVersionId),
    Deployment(DeploymentId),
}

impl Node {
    /// The kind, in the words of `lineament.edges`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Source(_) => "source",
            Self::Principal(_) => "principal",
            Self::Batch(_) => "batch",
            Self::ViewVersion(_) => "view_version",
            Self::Feature(..) => "feature",
            Self::Service(_) => "service",
            Self::TrainingSet(_) => "training_set",
            Self::Experiment(_) => "experiment",
            Self::Run(_) => "run",
            Self::Model(_) => "model",
            Self::ModelVersion(_) => "model_version",
            Self::Deployment(_) => "deployment",
        }
    }
}

/// The id, without its kind.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(digest) => digest.fmt(f),
            Self::Principal(login) => login.fmt(f),
            Self::Batch(id) => id.fmt(f),
            Self::ViewVersion(id) => id.fmt(f),
            Self::Feature(version, feature) => write!(f, "{version}.{feature}"),
            Self::Service(id) => id.fmt(f),
            Self::TrainingSet(id) => id.fmt(f),
            Self::Experiment(id) => id.fmt(f),
            Self::Run(id) => id.fmt(f),
            Self::Model(id) => id.fmt(f),
            Self::ModelVersion(id) => id.fmt(f),
            Self::Deployment(id) => id.fmt(f),
        }
    }
}

/// What one thing has to do with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// Source → batch.
    Provided,
    /// Run or principal → batch.
    Wrote,
    /// Batch → view version.
    Belongs,
    /// View version → feature.
    Declares,
    /// Feature → service.
    Lists,
    /// View version → training set.
    Selected,
    /// Feature → training set.
    Supplies,
    /// Batch → training set, with rows.
    Hit,
    /// Training set → run, with a role.
    Used,
    /// Run → experiment, run → its parent, model version → model.
    PartOf,
    /// Run → model version.
    Produced,
    /// Model version → deployment that serves it, or once did.
    Serves,
    /// View version → the next one of its name.
    Superseded,
    /// Batch → batch of a derived view, which was made of its rows.
    MaterialisedFrom,
    /// View version → version of a derived view whose query reads it. Feature → feature of a derived view whose value it
    /// bears on; → the version, where it bears on which rows there are, or it is not known on which features.
    Derives,
}

impl Relation {
    pub fn name(self) -> &'static str {
        match self {
            Self::Provided => "provided",
            Self::Wrote => "wrote",
            Self::Belongs => "belongs",
            Self::Declares => "declares",
            Self::Lists => "lists",
            Self::Selected => "selected",
            Self::Supplies => "supplies",
            Self::Hit => "hit",
            Self::Used => "used",
            Self::PartOf => "part_of",
            Self::Produced => "produced",
            Self::Serves => "serves",
            Self::Superseded => "superseded",
            Self::MaterialisedFrom => "materialised_from",
            Self::Derives => "derives",
        }
    }

    /// Whether what is wrong at one end is wrong at the other. The rest says where a thing belongs.
    pub fn flows(self) -> bool {
        matches!(
            self,
            Self::Provided
                | Self::Wrote
                | Self::Selected
                | Self::Supplies
                | Self::Hit
                | Self::Used
                | Self::Produced
                | Self::Serves
                | Self::MaterialisedFrom
                | Self::Derives
        )
    }
}

/// An edge of the graph; its ends are places in [`Graph::nodes`].
#[derive(Clone, Copy, Debug)]
pub struct Edge {
    pub from: u32,
    pub to: u32,
    pub relation: Relation,
    pub sequence: Sequence,
    /// Of a hit: the view version that the set selected, the set's rows that the batch answered, and how many columns each has of
    /// that version.
    pub selected: u32,
    pub rows: u64,
    pub columns: u32,
    /// Of a use.
    pub role: Role,
}

impl Edge {
    pub fn cells(&self) -> u64 {
        self.rows * u64::from(self.columns)
    }
}

/// The graph at one sequence.
pub struct Graph {
    at: Sequence,
    nodes: Vec<Node>,
    /// How people call a node, where that is not its id.
    labels: HashMap<u32, String, RandomState>,
    places: HashMap<Node, u32, RandomState>,
    /// By the node that they leave.
    edges: Vec<Edge>,
    /// Where each node's edges begin; one more at the end.
    leaving: Vec<u32>,
    /// Edges by the node that they reach.
    by_end: Vec<u32>,
    reaching: Vec<u32>,
    /// Model versions and the deployments that serve them now.
    in_force: HashSet<(u32, u32)>,
}

impl Graph {
    pub fn sequence(&self) -> Sequence {
        self.at
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    pub fn node(&self, place: u32) -> &Node {
        &self.nodes[place as usize]
    }

    /// How people call a node: `weather@3`, `delay/3`, a run's foreign id.
    pub fn label(&self, place: u32) -> Cow<'_, str> {
        match self.labels.get(&place) {
            Some(label) => Cow::Borrowed(label),
            None => Cow::Owned(self.node(place).to_string()),
        }
    }

    pub fn place(&self, node: &Node) -> Option<u32> {
        self.places.get(node).copied()
    }

    pub fn leaving(&self, place: u32) -> &[Edge] {
        let place = place as usize;
        &self.edges[self.leaving[place] as usize..self.leaving[place + 1] as usize]
    }

    pub fn reaching(&self, place: u32) -> impl Iterator<Item = &Edge> {
        let place = place as usize;
        let ends = &self.by_end[self.reaching[place] as usize..self.reaching[place + 1] as usize];
        ends.iter().map(|edge| &self.edges[*edge as usize])
    }

    /// Model versions and deployments, where one serves the other now.
    pub fn in_force(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.in_force.iter().copied()
    }

    /// Whether a deployment serves a model version now, and not only did once.
    pub fn is_in_force(&self, model_version: u32, deployment: u32) -> bool {
        self.in_force.contains(&(model_version, deployment))
    }
}
