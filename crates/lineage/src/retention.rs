//! Referential retention: what must stay, since something that is kept needs it.
//!
//! A training set is made again of every batch that counted for the versions that it was selected from, at its snapshot:
//! a replay reads them and checks their files, whether a cell came from them or not. So each of these batches is needed
//! by the set, by the model versions that were made of it, and by the deployments that serve those. Of a derived view it
//! is the derived batches that a replay reads, and not those that they were made of.

use std::collections::{BTreeSet, HashMap};

use catalog::State;
use catalog::records::HeldKind;
use catalog::state::{Batch, ViewVersion};
use feature::{HoldId, Id, VersionId};
use uuid::Uuid;

use crate::dangling::Blocks;
use crate::graph::{Graph, Node, Relation, Used};

/// Something that is kept and needs a thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeper {
    /// What it is: a hold, a deployment in force, a model version that none serves, or a training set of which no model is known.
    pub kept_for: Blocks,
    /// From the thing to what is kept, as places in the graph: batch, training set, run, model version, deployment. To what is held, where
    /// it is a hold that keeps it: a batch, a version, a training set, a model version; the thing itself, or what needs it.
    pub path: Vec<u32>,
    pub hold: Option<HoldId>,
}

/// What needs what, at a graph's sequence.
pub struct Retention<'a> {
    state: &'a State,
    graph: &'a Graph,
    /// Versions that read the same batches, by the first of them.
    lines: HashMap<VersionId, Vec<&'a ViewVersion>>,
    /// Holds in force, by what they hold.
    holds: HashMap<(HeldKind, Uuid), Vec<HoldId>>,
}

impl<'a> Retention<'a> {
    /// `state` is one that has read at least as far as the graph.
    pub fn of(state: &'a State, graph: &'a Graph) -> Self {
        let mut lines: HashMap<VersionId, Vec<&ViewVersion>> = HashMap::new();
        for version in state.views().filter(|version| version.by.sequence <= graph.sequence()) {
            lines.entry(version.line).or_default().push(version);
        }
        let mut holds: HashMap<(HeldKind, Uuid), Vec<HoldId>> = HashMap::new();
        for hold in state.holds().all().iter().filter(|hold| hold.is_in_force(graph.sequence())) {
            holds.entry((hold.record.kind, hold.record.id)).or_default().push(hold.record.hold);
        }
        Self { state, graph, lines, holds }
    }

    /// What is kept and needs this, holds first, then deployments in force, by the shortest way. None: nothing that is kept needs it.
    /// A feature is kept with its version, and a source file is needed no more once its rows are in a batch.
    pub fn kept_by(&self, place: u32) -> Vec<Keeper> {
        let mut keepers = match self.graph.node(place) {
            Node::Batch(_) | Node::ViewVersion(_) | Node::Feature(..) => {
                self.sets_of(place).into_iter().flat_map(|set| self.through(Some(place), set)).collect()
            }
            Node::TrainingSet(_) => self.through(None, place),
            Node::Run(_) => self.of_models(&[place], self.graph.made_by(place)),
            Node::ModelVersion(_) => {
                let served = self.graph.served_by(place).into_iter().map(|deployment| (place, deployment));
                let served = served.filter(|(_, deployment)| deployment.is_some()).collect();
                self.of_models(&[], served)
            }
            Node::Source(_)
            | Node::Principal(_)
            | Node::Service(_)
            | Node::Experiment(_)
            | Node::Model(_)
            | Node::Deployment(_) => Vec::new(),
        };
        keepers.extend(self.held(place));
        let labels = |keeper: &Keeper| -> Vec<String> {
            keeper.path.iter().map(|place| self.graph.label(*place).into_owned()).collect()
        };
        keepers
            .sort_by_cached_key(|keeper| (keeper.kept_for, keeper.path.len(), labels(keeper), keeper.hold));
        keepers.dedup();
        keepers
    }

    /// The training sets that are made again of a batch, whatever keeps them, some of them twice perhaps. For who asks this of very many
    /// batches: no way is built.
    pub fn sets_of_batch(&self, batch: u32) -> impl Iterator<Item = u32> {
        let batch = match self.graph.node(batch) {
            Node::Batch(id) => self.state.batch(*id),
            _ => None,
        };
        batch.into_iter().flat_map(move |batch| self.sets_that_read(batch))
    }

    /// Whether a model was made of a training set, or a hold is on it.
    pub fn is_used(&self, set: u32) -> bool {
        let of_model = |used: &Used| used.run.is_some() && used.model_version.is_some();
        self.holds_on(set).is_some() || self.graph.used_by(set).iter().any(of_model)
    }

    /// Whether a hold is on a batch, or on the version that it was written under.
    pub fn is_held(&self, batch: u32) -> bool {
        let held = |place: u32| self.holds_on(place).is_some();
        !self.holds.is_empty() && (held(batch) || self.version_of(batch).is_some_and(held))
    }

    /// The version that a batch or a feature is of.
    fn version_of(&self, place: u32) -> Option<u32> {
        let version = match self.graph.node(place) {
            Node::Batch(id) => self.state.batch(*id)?.record.version,
            Node::Feature(version, _) => *version,
            _ => return None,
        };
        self.graph.place(&Node::ViewVersion(version))
    }

    /// The holds that keep a thing: on itself, or on what needs it.
    fn held(&self, place: u32) -> Vec<Keeper> {
        if self.holds.is_empty() {
            return Vec::new();
        }
        let mut paths = vec![vec![place]];
        paths.extend(self.version_of(place).map(|version| vec![place, version]));
        let sets: Vec<Vec<u32>> = match self.graph.node(place) {
            Node::TrainingSet(_) => vec![vec![place]],
            _ => self.sets_of(place).into_iter().map(|set| vec![place, set]).collect(),
        };
        for set in sets {
            let last = set.last().copied().unwrap_or(place);
            for Used { run, model_version, .. } in self.graph.used_by(last) {
                if let (Some(run), Some(model_version)) = (run, model_version) {
                    paths.push(set.iter().copied().chain([run, model_version]).collect());
                }
            }
            paths.push(set);
        }
        if let Node::Run(_) = self.graph.node(place) {
            let made = self.graph.made_by(place).into_iter();
            paths.extend(made.map(|(model_version, _)| vec![place, model_version]));
        }
        let keeper = |path: &Vec<u32>, hold: &HoldId| Keeper {
            kept_for: Blocks::Hold,
            path: path.clone(),
            hold: Some(*hold),
        };
        let held = paths.iter().filter_map(|path| Some((path, self.holds_on(*path.last()?)?)));
        held.flat_map(|(path, holds)| holds.iter().map(move |hold| keeper(path, hold))).collect()
    }

    fn holds_on(&self, place: u32) -> Option<&Vec<HoldId>> {
        let held = match self.graph.node(place) {
            Node::Batch(id) => (HeldKind::Batch, id.uuid()),
            Node::ViewVersion(id) => (HeldKind::Version, id.uuid()),
            Node::TrainingSet(id) => (HeldKind::TrainingSet, id.uuid()),
            Node::ModelVersion(id) => (HeldKind::ModelVersion, id.uuid()),
            _ => return None,
        };
        self.holds.get(&held)
    }

    /// The training sets that are made again of a batch, or of some batch of a version, or by its definition.
    fn sets_of(&self, place: u32) -> BTreeSet<u32> {
        let of_version = |version: &VersionId| {
            let mut sets: BTreeSet<u32> = self.sets_that_selected(*version).collect();
            if let Some(version) = self.state.view_version(*version) {
                let at = self.graph.sequence();
                let batches = self.state.batches_of_line(version.line);
                let written = batches.iter().filter(|batch| batch.record.version == version.version);
                for batch in written.filter(|batch| batch.by.sequence <= at) {
                    sets.extend(self.sets_that_read(batch));
                }
            }
            sets
        };
        match self.graph.node(place) {
            Node::Batch(_) => self.sets_of_batch(place).collect(),
            Node::ViewVersion(version) | Node::Feature(version, _) => of_version(version),
            _ => BTreeSet::new(),
        }
    }

    fn sets_that_read(&self, batch: &Batch) -> impl Iterator<Item = u32> {
        let line = self.state.view_version(batch.record.version).map(|version| version.line);
        let versions = line.and_then(|line| self.lines.get(&line)).into_iter().flatten();
        let counted = versions.filter(move |version| self.state.counts_for(batch, version));
        let sets = counted.flat_map(move |version| self.sets_that_selected(version.version));
        let read = move |set: &u32| match self.graph.node(*set) {
            Node::TrainingSet(id) => self.state.training_set(*id).is_some_and(|set| {
                let at = set.record.sequence;
                batch.by.sequence <= at && self.state.counts_at(batch, at)
            }),
            _ => false,
        };
        sets.filter(read)
    }

    fn sets_that_selected(&self, version: VersionId) -> impl Iterator<Item = u32> {
        let place = self.graph.place(&Node::ViewVersion(version));
        let edges = place.map(|place| self.graph.leaving(place)).unwrap_or_default();
        edges.iter().filter(|edge| edge.relation == Relation::Selected).map(|edge| edge.to)
    }

    /// What keeps a training set, and so what it needs; where no model is known, the set itself keeps that.
    fn through(&self, needed: Option<u32>, set: u32) -> Vec<Keeper> {
        let mut keepers = Vec::new();
        for Used { run, model_version, deployment, .. } in self.graph.used_by(set) {
            if let (Some(run), Some(model_version)) = (run, model_version) {
                let before: Vec<u32> = needed.into_iter().chain([set, run]).collect();
                keepers.extend(self.of_models(&before, vec![(model_version, deployment)]));
            }
        }
        if let Some(needed) = needed.filter(|_| keepers.is_empty()) {
            keepers.push(Keeper { kept_for: Blocks::TrainingSet, path: vec![needed, set], hold: None });
        }
        keepers
    }

    fn of_models(&self, before: &[u32], models: Vec<(u32, Option<u32>)>) -> Vec<Keeper> {
        let keeper = |(model_version, deployment): (u32, Option<u32>)| {
            let path = before.iter().copied().chain([model_version]).chain(deployment).collect();
            let kept_for = if deployment.is_some() { Blocks::Deployment } else { Blocks::ModelVersion };
            Keeper { kept_for, path, hold: None }
        };
        models.into_iter().map(keeper).collect()
    }
}
