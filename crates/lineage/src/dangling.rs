//! References that lead nowhere, as far as the log alone tells: what a model stands on and is gone, and what nothing links.

use std::collections::{HashMap, HashSet};
use std::fmt;

use catalog::State;
use catalog::records::{Lifecycle, ModelVersionObserved, RunObserved, Verdict};
use catalog::state::registry::Noted;
use catalog::state::{ViewVersion, Withdrawable, computed_from};
use feature::{ModelVersionId, RunId, Sequence, Timestamp, TrainingSetId};

use crate::graph::{Graph, Node, Relation};

/// What stands on a thing; the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Blocks {
    /// Somebody said that it must stay. Told of retention alone.
    Hold,
    /// A deployment in force.
    Deployment,
    ModelVersion,
    TrainingSet,
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hold => "hold",
            Self::Deployment => "deployment",
            Self::ModelVersion => "model_version",
            Self::TrainingSet => "training_set",
        })
    }
}

/// Something that dangles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dangling {
    /// The kind of a node, or `alias`, or a kind of object: `data_file`, `manifest`, `spine`, `body`.
    pub kind: &'static str,
    /// The node's id; `delay@champion` of an alias; the path of an object.
    pub id: String,
    pub problem: String,
    /// When the entry was committed from which on this holds; none where that is not known.
    pub since: Option<Timestamp>,
    /// The worst that stands on it; none where nothing does.
    pub blocks: Option<Blocks>,
    /// Whether a link was never made, rather than leads to what is gone, altered or withdrawn.
    pub unlinked: bool,
}

impl Dangling {
    /// Worst first: what is deployed, then by age.
    pub fn sort(all: &mut [Self]) {
        let rank = |one: &Self| (one.blocks.map_or(u8::MAX, |blocks| blocks as u8), one.since);
        all.sort_by(|one, other| {
            let names = |one: &Self| (one.kind, one.id.clone(), one.problem.clone());
            rank(one).cmp(&rank(other)).then_with(|| names(one).cmp(&names(other)))
        });
    }
}

/// What stands on each node of a graph.
pub struct Standing {
    deployed: HashSet<u32>,
    modelled: HashSet<u32>,
    selected: HashSet<u32>,
}

impl Standing {
    pub fn of(graph: &Graph) -> Self {
        let all = || (0..graph.nodes().len()).filter_map(|place| u32::try_from(place).ok());
        let of_kind = |is_it: fn(&Node) -> bool| all().filter(move |place| is_it(graph.node(*place)));
        let mut deployed = under(graph, graph.in_force().map(|(model_version, _)| model_version));
        deployed.extend(graph.in_force().map(|(_, deployment)| deployment));
        Self {
            deployed,
            modelled: under(graph, of_kind(|node| matches!(node, Node::ModelVersion(_)))),
            selected: under(graph, of_kind(|node| matches!(node, Node::TrainingSet(_)))),
        }
    }

    /// The worst that stands on a node, or is it.
    pub fn on(&self, graph: &Graph, node: &Node) -> Option<Blocks> {
        let place = graph.place(node)?;
        if self.deployed.contains(&place) {
            Some(Blocks::Deployment)
        } else if self.modelled.contains(&place) {
            Some(Blocks::ModelVersion)
        } else if self.selected.contains(&place) {
            Some(Blocks::TrainingSet)
        } else {
            None
        }
    }
}

/// The nodes that data flows from to any of these, themselves among them.
fn under(graph: &Graph, tops: impl Iterator<Item = u32>) -> HashSet<u32> {
    let mut open: Vec<u32> = tops.collect();
    let mut found: HashSet<u32> = open.iter().copied().collect();
    while let Some(place) = open.pop() {
        for edge in graph.reaching(place).filter(|edge| edge.relation.flows()) {
            if found.insert(edge.from) {
                open.push(edge.from);
            }
        }
    }
    found
}

/// All that dangles at the graph's sequence, worst first. Objects are not looked at: that takes a pass over the store.
pub fn dangling(state: &State, graph: &Graph) -> Vec<Dangling> {
    let mut search = Search {
        state,
        graph,
        at: graph.sequence(),
        standing: Standing::of(graph),
        runs: state.registry().runs().collect(),
        model_versions: state.registry().model_versions().collect(),
        found: Vec::new(),
    };
    search.training_sets();
    search.batches();
    search.runs();
    search.model_versions();
    search.deployments();
    search.aliases();
    Dangling::sort(&mut search.found);
    search.found
}

struct Search<'a> {
    state: &'a State,
    graph: &'a Graph,
    at: Sequence,
    standing: Standing,
    runs: HashMap<RunId, &'a [Noted<RunObserved>]>,
    model_versions: HashMap<ModelVersionId, &'a [Noted<ModelVersionObserved>]>,
    found: Vec<Dangling>,
}

impl Search<'_> {
    fn add(&mut self, node: &Node, since: Option<Timestamp>, problem: impl Into<String>) {
        let blocks = self.standing.on(self.graph, node);
        let (kind, id) = (node.kind(), node.to_string());
        self.found.push(Dangling { kind, id, problem: problem.into(), since, blocks, unlinked: false });
    }

    /// Adds a link that was never made.
    fn add_unlinked(&mut self, node: &Node, since: Option<Timestamp>, problem: impl Into<String>) {
        self.add(node, since, problem);
        if let Some(last) = self.found.last_mut() {
            last.unlinked = true;
        }
    }

    fn leads(&self, node: &Node, relation: Relation) -> bool {
        let place = self.graph.place(node);
        place.is_some_and(|place| self.graph.leaving(place).iter().any(|edge| edge.relation == relation))
    }

    fn is_led_to(&self, node: &Node, relation: Relation) -> bool {
        let place = self.graph.place(node);
        place.is_some_and(|place| self.graph.reaching(place).any(|edge| edge.relation == relation))
    }

    fn ended_model(&self, id: ModelVersionId) -> Option<(Lifecycle, Timestamp)> {
        ended(self.model_versions.get(&id)?, self.at, |record| record.lifecycle)
    }

    fn training_sets(&mut self) {
        let (state, at) = (self.state, self.at);
        for set in state.training_sets().filter(|set| set.by.sequence <= at) {
            let id = set.record.training_set;
            let node = Node::TrainingSet(id);
            let since = Some(set.by.committed_at);
            if !self.leads(&node, Relation::Used) {
                self.add_unlinked(&node, since, "no run used it");
            }
            for taken in set.record.selected.iter().flatten() {
                let version = state.view_version(taken.version).filter(|known| known.by.sequence <= at);
                let Some(version) = version else {
                    self.add(
                        &node,
                        since,
                        format!("the view version {} that it selected is not in the log", taken.version),
                    );
                    continue;
                };
                let admitted: HashSet<_> = state
                    .batches_of(version, set.record.sequence)
                    .iter()
                    .map(|batch| batch.record.batch)
                    .collect();
                for hit in taken.hits.iter().filter(|hit| !admitted.contains(&hit.batch)) {
                    let (batch, label) = (hit.batch, version.label());
                    let why = match state.batch(batch) {
                        None => format!("the batch {batch} that it has cells of is not in the log"),
                        Some(_) => format!(
                            "the batch {batch} that it has cells of did not count for {label} at its snapshot"
                        ),
                    };
                    self.add(&node, since, why);
                }
                let gone = state.gone_of(version, set.record.sequence).filter(|gone| gone.at <= at);
                if let Some(gone) = gone {
                    let deleted = state.expiry().deleted().iter().find(|one| one.by.sequence == gone.at);
                    let why = format!(
                        "it cannot be made again: rows of {} that it was made of are gone, by the view's retention, since sequence {}",
                        version.label(),
                        gone.at
                    );
                    self.add(&node, deleted.map(|one| one.by.committed_at), why);
                }
                for hit in &taken.hits {
                    let withdrawal = state.withdrawals().at(Withdrawable::Batch(hit.batch), at);
                    let Some(withdrawal) = withdrawal else { continue };
                    let why = format!(
                        "{} of its rows have values of {} from batch {}, which {} withdrew: {}",
                        hit.rows,
                        version.label(),
                        hit.batch,
                        withdrawal.by.principal,
                        withdrawal.reason
                    );
                    self.add(&node, Some(withdrawal.by.committed_at), why);
                }
            }
            self.replays(id);
        }
    }

    /// Batches of derived views that count, and were computed from rows that were erased since.
    fn batches(&mut self) {
        let (state, at) = (self.state, self.at);
        let erasures = state.erasures().all();
        let derived = if erasures.is_empty() { Vec::new() } else { state.derived_batches() };
        for erasure in erasures.iter().filter(|one| one.by.sequence <= at) {
            let record = &erasure.record;
            let sequence = erasure.by.sequence;
            for batch in computed_from(&derived, &record.batches(), &record.views, sequence) {
                let is_known = state.batch(batch.record.batch).is_some();
                if !is_known || batch.by.sequence > at || !state.counts_at(batch, at) {
                    continue;
                }
                let label = state.view_version(batch.record.version).map(ViewVersion::label);
                let why = format!(
                    "it is of {}, computed from rows that were erased at sequence {sequence}: roll it back and refresh",
                    label.unwrap_or_default()
                );
                self.add(&Node::Batch(batch.record.batch), Some(erasure.by.committed_at), why);
            }
        }
    }

    fn replays(&mut self, id: TrainingSetId) {
        let of_set = |verified: &&catalog::state::Verification| {
            verified.record.training_set == id && verified.by.sequence <= self.at
        };
        let last = self.state.verifications().iter().rev().find(of_set);
        if let Some(differs) = last.filter(|last| last.record.verdict == Verdict::Differs) {
            let since = Some(differs.by.committed_at);
            self.add(&Node::TrainingSet(id), since, "its last replay gave other content than was recorded");
        }
    }

    fn runs(&mut self) {
        let (registry, at) = (self.state.registry(), self.at);
        for link in registry.links().iter().filter(|link| link.by.sequence <= at) {
            if link.external.kind != catalog::records::Kind::Run {
                continue;
            }
            let id = RunId::from(link.id);
            let node = Node::Run(id);
            let seen = self.runs.get(&id).copied().unwrap_or_default();
            let links = [Relation::Wrote, Relation::Produced];
            let parent = self.is_led_to(&node, Relation::PartOf);
            if !parent
                && !links.iter().any(|link| self.leads(&node, *link))
                && !self.is_led_to(&node, Relation::Used)
            {
                let why = "it used no training set, wrote no batch and made no model";
                self.add_unlinked(&node, Some(link.by.committed_at), why);
                continue;
            }
            let gone = ended(seen, at, |record| record.lifecycle);
            if let Some((lifecycle, since)) = gone {
                self.add(&node, Some(since), format!("its tracking server {}", lost_it(lifecycle)));
            }
        }
    }

    fn model_versions(&mut self) {
        let registry = self.state.registry();
        for (id, seen) in registry.model_versions() {
            let Some(now) = registry.model_version_at(id, self.at) else { continue };
            let node = Node::ModelVersion(id);
            let since = seen.first().map(|first| first.by.committed_at);
            match now.run.map(Node::Run) {
                None => self.add_unlinked(&node, since, "no run is named that made it"),
                Some(run) if !self.is_led_to(&run, Relation::Used) => {
                    self.add_unlinked(
                        &node,
                        since,
                        "the run that made it used no training set that is known here",
                    );
                }
                Some(_) => {}
            }
            if let Some((lifecycle, since)) = ended(seen, self.at, |record| record.lifecycle) {
                self.add(&node, Some(since), format!("its registry {}", lost_it(lifecycle)));
            }
        }
    }

    fn deployments(&mut self) {
        let registry = self.state.registry();
        for (id, changes) in registry.deployments() {
            let known: Vec<_> = changes.iter().take_while(|noted| noted.by.sequence <= self.at).collect();
            let (Some(first), Some(last)) = (known.first(), known.last()) else { continue };
            let node = Node::Deployment(id);
            if known.iter().all(|noted| noted.record.model_version.is_none()) {
                self.add_unlinked(
                    &node,
                    Some(first.by.committed_at),
                    "no model version is named that it serves",
                );
            }
            let Some(serves) = last.record.model_version else { continue };
            let gone = self.ended_model(serves);
            if let Some((lifecycle, since)) = gone {
                let since = since.max(last.by.committed_at);
                let why = format!("it serves a model version that its registry {}", lost(lifecycle));
                self.add(&node, Some(since), why);
            }
        }
    }

    fn aliases(&mut self) {
        let registry = self.state.registry();
        for moved in registry.aliases().iter().filter(|noted| noted.by.sequence <= self.at) {
            let record = &moved.record;
            let newest = registry.alias(record.model, &record.alias, self.at);
            if newest.is_none_or(|newest| newest.by.sequence != moved.by.sequence) {
                continue;
            }
            let Some(version) = record.model_version else { continue };
            let Some((lifecycle, since)) = self.ended_model(version) else { continue };
            let model = registry.model_at(record.model, self.at);
            let model = model.map_or_else(|| record.model.to_string(), |model| model.name);
            self.found.push(Dangling {
                kind: "alias",
                id: format!("{model}@{}", record.alias),
                problem: format!("it means a model version that its registry {}", lost(lifecycle)),
                since: Some(since.max(moved.by.committed_at)),
                blocks: self.standing.on(self.graph, &Node::ModelVersion(version)),
                unlinked: false,
            });
        }
    }
}

/// Whether a thing is deleted or gone at a sequence, and since when.
fn ended<T>(
    seen: &[Noted<T>],
    at: Sequence,
    of: impl Fn(&T) -> Option<Lifecycle>,
) -> Option<(Lifecycle, Timestamp)> {
    let mut ended: Option<(Lifecycle, Timestamp)> = None;
    for noted in seen.iter().take_while(|noted| noted.by.sequence <= at) {
        ended = match (of(&noted.record), ended) {
            (None, before) => before,
            (Some(Lifecycle::Active), _) => None,
            (Some(now), Some((before, since))) if now == before => Some((before, since)),
            (Some(now), _) => Some((now, noted.by.committed_at)),
        };
    }
    ended
}

fn lost_it(lifecycle: Lifecycle) -> &'static str {
    match lifecycle {
        Lifecycle::Deleted => "has deleted it",
        Lifecycle::Gone => "does not have it any more",
        Lifecycle::Active => "has it",
    }
}

fn lost(lifecycle: Lifecycle) -> &'static str {
    match lifecycle {
        Lifecycle::Deleted => "has deleted",
        Lifecycle::Gone => "does not have any more",
        Lifecycle::Active => "has",
    }
}
