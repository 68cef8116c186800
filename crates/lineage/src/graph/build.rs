//! The graph as the log's fold tells it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use catalog::records::{Parent, Role, Selected};
use catalog::state::{BatchOrigin, State, TrainingSet};
use feature::{Sequence, TrainingSetId, VersionId};
use foldhash::fast::RandomState;

use super::{Edge, Graph, Node, Relation};

impl Graph {
    /// The graph at a sequence. `selected` gives what a training set was selected from where its entry does not say it.
    pub fn of(state: &State, at: Sequence, selected: &HashMap<TrainingSetId, Vec<Selected>>) -> Self {
        let mut build = Build::default();
        build.versions(state, at);
        build.services(state, at);
        build.batches(state, at);
        build.runs(state, at);
        for set in state.training_sets().filter(|set| set.by.sequence <= at) {
            let taken = set.record.selected.as_deref();
            let taken = taken.or_else(|| selected.get(&set.record.training_set).map(Vec::as_slice));
            build.training_set(state, set, taken.unwrap_or_default());
        }
        build.uses(state, at);
        build.models(state, at);
        build.deployments(state, at);
        build.finish(at)
    }
}

#[derive(Default)]
struct Build {
    nodes: Vec<Node>,
    labels: HashMap<u32, String, RandomState>,
    places: HashMap<Node, u32, RandomState>,
    /// Those of `places`, so that a login need not be copied to be found.
    principals: HashMap<String, u32, RandomState>,
    edges: Vec<Edge>,
    in_force: HashSet<(u32, u32)>,
    /// What has an edge already from something that it is made of.
    derives: HashSet<(u32, u32), RandomState>,
    /// Versions and what was derived of them, where some batch says which feature bears on which.
    traced: HashSet<(VersionId, u32), RandomState>,
    /// Features that a derived version reads, with their version, by batches that do not say it.
    untraced: BTreeMap<(u32, u32), (VersionId, Sequence)>,
    /// Places of a version's features, by name.
    features: HashMap<VersionId, HashMap<String, u32, RandomState>, RandomState>,
}

impl Build {
    fn node(&mut self, node: Node, label: impl FnOnce() -> String) -> u32 {
        let known = self.nodes.len();
        let place = self.unnamed(node);
        if self.nodes.len() > known {
            self.labels.insert(place, label());
        }
        place
    }

    /// The place of a node that is called by its id.
    fn unnamed(&mut self, node: Node) -> u32 {
        match self.places.entry(node) {
            Entry::Occupied(place) => *place.get(),
            Entry::Vacant(free) => {
                let place = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
                self.nodes.push(free.key().clone());
                *free.insert(place)
            }
        }
    }

    fn principal(&mut self, login: &str) -> u32 {
        if let Some(place) = self.principals.get(login) {
            return *place;
        }
        let place = self.unnamed(Node::Principal(login.to_owned()));
        self.principals.insert(login.to_owned(), place);
        place
    }

    fn edge(&mut self, from: u32, relation: Relation, to: u32, sequence: Sequence) -> &mut Edge {
        let role = Role::Unknown;
        self.edges.push(Edge { from, to, relation, sequence, selected: from, rows: 0, columns: 0, role });
        let last = self.edges.len() - 1;
        &mut self.edges[last]
    }

    fn versions(&mut self, state: &State, at: Sequence) {
        let mut before: HashMap<feature::ViewId, u32> = HashMap::new();
        for version in state.views().filter(|version| version.by.sequence <= at) {
            let sequence = version.by.sequence;
            let label = version.label();
            let place = self.node(Node::ViewVersion(version.version), || label.clone());
            if let Some(earlier) = before.insert(version.view, place) {
                self.edge(earlier, Relation::Superseded, place, sequence);
            }
            let mut features = HashMap::default();
            for feature in &version.definition.features {
                let name = feature.name.to_string();
                let node = Node::Feature(version.version, name.clone());
                let feature = self.node(node, || format!("{label}.{name}"));
                self.edge(place, Relation::Declares, feature, sequence);
                features.insert(name, feature);
            }
            self.features.insert(version.version, features);
        }
    }

    fn services(&mut self, state: &State, at: Sequence) {
        for service in state.services().filter(|service| service.by.sequence <= at) {
            let definition = &service.definition;
            let (project, name) = (&definition.project, &definition.name);
            let place = self.node(Node::Service(service.service), || name.to_string());
            for reference in &definition.features {
                let view = state.view(project.as_str(), reference.view.as_str(), reference.version, at);
                let Some(known) = view.and_then(|view| self.features.get(&view.version)) else { continue };
                let listed: Vec<u32> = match &reference.feature {
                    Some(feature) => known.get(feature.as_str()).copied().into_iter().collect(),
                    None => known.values().copied().collect(),
                };
                for feature in listed {
                    self.edge(feature, Relation::Lists, place, service.by.sequence);
                }
            }
        }
    }

    fn batches(&mut self, state: &State, at: Sequence) {
        state.batch_origins(|origin| {
            if origin.sequence <= at {
                self.batch(state, origin);
            }
        });
        for ((feature, derived), (version, sequence)) in std::mem::take(&mut self.untraced) {
            if !self.traced.contains(&(version, derived)) {
                self.derives(feature, derived, sequence);
            }
        }
    }

    fn batch(&mut self, state: &State, origin: BatchOrigin<'_>) {
        let BatchOrigin { batch, version, sequence, principal, run, sources, derivation } = origin;
        let place = self.unnamed(Node::Batch(batch));
        let belongs = self.places.get(&Node::ViewVersion(version)).copied();
        if let Some(belongs) = belongs {
            self.edge(place, Relation::Belongs, belongs, sequence);
        }
        for source in sources {
            let from = self.unnamed(Node::Source(*source));
            self.edge(from, Relation::Provided, place, sequence);
        }
        for parent in derivation.iter().flat_map(|derivation| &derivation.parents) {
            for of in &parent.batches {
                let from = self.unnamed(Node::Batch(*of));
                self.edge(from, Relation::MaterialisedFrom, place, sequence);
            }
            if let Some(belongs) = belongs {
                self.parent(parent, version, belongs, sequence);
            }
        }
        let writer = self.principal(principal);
        self.edge(writer, Relation::Wrote, place, sequence);
        if let Some(run) = run.and_then(|run| state.registry().run(run)) {
            let run = self.run(state, run);
            self.edge(run, Relation::Wrote, place, sequence);
        }
    }

    /// The edges from a version that a batch was derived of, and from its features, to the batch's version.
    fn parent(&mut self, parent: &Parent, derived: VersionId, place: u32, sequence: Sequence) {
        if let Some(from) = self.places.get(&Node::ViewVersion(parent.version)).copied() {
            self.derives(from, place, sequence);
        }
        let feature = |build: &Self, version: VersionId, name: &str| -> Option<u32> {
            build.features.get(&version)?.get(name).copied()
        };
        let Some(bears_on) = &parent.bears_on else {
            for name in &parent.features {
                let Some(from) = feature(self, parent.version, name) else { continue };
                self.untraced.entry((from, place)).or_insert((parent.version, sequence));
            }
            return;
        };
        self.traced.insert((parent.version, place));
        for (name, outputs) in bears_on {
            let Some(from) = feature(self, parent.version, name) else { continue };
            for output in outputs {
                let to = if output == Parent::ROWS { Some(place) } else { feature(self, derived, output) };
                if let Some(to) = to {
                    self.derives(from, to, sequence);
                }
            }
        }
    }

    /// One edge for each pair, at the first sequence that tells of it.
    fn derives(&mut self, from: u32, to: u32, sequence: Sequence) {
        if self.derives.insert((from, to)) {
            self.edge(from, Relation::Derives, to, sequence);
        }
    }

    fn run(&mut self, state: &State, id: feature::RunId) -> u32 {
        self.node(Node::Run(id), || {
            state.registry().external(id).map_or_else(|| id.to_string(), |external| external.id.clone())
        })
    }

    fn runs(&mut self, state: &State, at: Sequence) {
        let registry = state.registry();
        for link in registry.links().iter().filter(|link| link.by.sequence <= at) {
            match link.external.kind {
                catalog::records::Kind::Experiment => {
                    let now = registry.experiment_at(link.id.into(), at);
                    let name = now.and_then(|now| now.name).unwrap_or_else(|| link.external.id.clone());
                    self.node(Node::Experiment(link.id.into()), || name);
                }
                catalog::records::Kind::Run => {
                    self.run(state, link.id.into());
                }
                catalog::records::Kind::Model | catalog::records::Kind::ModelVersion => {}
            }
        }
        for (id, seen) in registry.runs() {
            let (Some(now), Some(last)) = (registry.run_at(id, at), seen.last()) else { continue };
            let (run, sequence) = (self.run(state, id), last.by.sequence);
            if let Some(experiment) = now.experiment {
                let experiment = self.node(Node::Experiment(experiment), || experiment.to_string());
                self.edge(run, Relation::PartOf, experiment, sequence);
            }
            if let Some(parent) = now.parent {
                let parent = self.run(state, parent);
                self.edge(run, Relation::PartOf, parent, sequence);
            }
        }
    }

    fn training_set(&mut self, state: &State, set: &TrainingSet, taken: &[Selected]) {
        let (record, sequence) = (&set.record, set.by.sequence);
        let label = || record.name.clone().unwrap_or_else(|| record.training_set.to_string());
        let place = self.node(Node::TrainingSet(record.training_set), label);
        for taken in taken {
            let version = self.node(Node::ViewVersion(taken.version), || {
                let version = state.view_version(taken.version);
                version.map_or_else(|| taken.version.to_string(), |version| version.label())
            });
            self.edge(version, Relation::Selected, place, sequence);
            let known = self.features.get(&taken.version);
            let supplies: Vec<u32> = taken
                .features
                .iter()
                .filter_map(|name| known.and_then(|known| known.get(name)).copied())
                .collect();
            for feature in supplies {
                self.edge(feature, Relation::Supplies, place, sequence);
            }
            let columns = u32::try_from(taken.features.len()).unwrap_or(u32::MAX);
            for hit in &taken.hits {
                let batch = self.unnamed(Node::Batch(hit.batch));
                let edge = self.edge(batch, Relation::Hit, place, sequence);
                edge.selected = version;
                edge.rows = hit.rows;
                edge.columns = columns;
            }
        }
    }

    fn uses(&mut self, state: &State, at: Sequence) {
        for noted in state.registry().uses().iter().filter(|noted| noted.by.sequence <= at) {
            let used = &noted.record;
            let Some(set) = self.places.get(&Node::TrainingSet(used.training_set)).copied() else { continue };
            let run = self.run(state, used.run);
            self.edge(set, Relation::Used, run, noted.by.sequence).role = used.role;
        }
    }

    fn models(&mut self, state: &State, at: Sequence) {
        let registry = state.registry();
        for (id, seen) in registry.models() {
            let (Some(now), Some(_)) = (registry.model_at(id, at), seen.last()) else { continue };
            self.node(Node::Model(id), || now.name);
        }
        for (id, seen) in registry.model_versions() {
            let (Some(now), Some(last)) = (registry.model_version_at(id, at), seen.last()) else { continue };
            let model =
                registry.model_at(now.model, at).map_or_else(|| now.model.to_string(), |model| model.name);
            let place = self.node(Node::ModelVersion(id), || format!("{model}/{}", now.version));
            let model = self.node(Node::Model(now.model), || model);
            self.edge(place, Relation::PartOf, model, last.by.sequence);
            if let Some(run) = now.run {
                let run = self.run(state, run);
                self.edge(run, Relation::Produced, place, last.by.sequence);
            }
        }
    }

    /// Each deployment hangs on what it serves, and on what it served before, at the sequence of that.
    fn deployments(&mut self, state: &State, at: Sequence) {
        for (id, changes) in state.registry().deployments() {
            let changes: Vec<_> = changes.iter().take_while(|noted| noted.by.sequence <= at).collect();
            let Some(first) = changes.first() else { continue };
            let label = format!("{} in {}", first.record.name, first.record.environment);
            let place = self.node(Node::Deployment(id), || label);
            for (number, change) in changes.iter().enumerate() {
                let Some(version) = change.record.model_version else { continue };
                let version = self.node(Node::ModelVersion(version), || version.to_string());
                self.edge(version, Relation::Serves, place, change.by.sequence);
                if number + 1 == changes.len() {
                    self.in_force.insert((version, place));
                }
            }
        }
    }

    fn finish(self, at: Sequence) -> Graph {
        let Self { nodes, labels, places, edges, in_force, .. } = self;
        let (leaving, order) = by_place(nodes.len(), &edges, |edge| edge.from);
        let edges: Vec<Edge> = order.into_iter().map(|edge| edges[edge as usize]).collect();
        let (reaching, by_end) = by_place(nodes.len(), &edges, |edge| edge.to);
        Graph { at, nodes, labels, places, edges, leaving, by_end, reaching, in_force }
    }
}

/// Where each place's edges begin, with one more at the end, and the edges by place, each place's in their
/// order.
fn by_place(places: usize, edges: &[Edge], of: impl Fn(&Edge) -> u32) -> (Vec<u32>, Vec<u32>) {
    let mut starts = vec![0u32; places + 1];
    for edge in edges {
        starts[of(edge) as usize + 1] += 1;
    }
    for place in 1..starts.len() {
        starts[place] += starts[place - 1];
    }
    let mut next = starts.clone();
    let mut order = vec![0u32; edges.len()];
    for (edge, number) in edges.iter().zip(0..) {
        let place = &mut next[of(edge) as usize];
        order[*place as usize] = number;
        *place += 1;
    }
    (starts, order)
}
