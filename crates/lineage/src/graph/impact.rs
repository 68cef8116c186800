//! Blast radius: how many cells of which training set, and of which deployed model, came from something.

use std::collections::{BTreeMap, BTreeSet};

use catalog::records::Role;

use super::{Graph, Node, Relation};

/// What came of something.
#[derive(Clone, Debug)]
pub struct Impact {
    /// One for each training set and what was made of it.
    pub reached: Vec<Reached>,
    /// Cells whose value came from it, in all training sets, each set counted once. Exact.
    pub cells_from: u64,
    /// Cells of what was derived from it. At most so many: not each derived row needs each of the rows that it was made among.
    pub cells_reached: u64,
}

/// A training set that has cells from it, with one model version and one deployment that were made of the set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reached {
    pub training_set: u32,
    /// Cells whose value came from it. Exact.
    pub cells_from: u64,
    /// Cells of what was derived from it; at most.
    pub cells_reached: u64,
    pub run: Option<u32>,
    pub role: Option<Role>,
    pub model_version: Option<u32>,
    /// In force.
    pub deployment: Option<u32>,
}

/// A run that used a training set, with one model version and one deployment that were made of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub run: Option<u32>,
    pub role: Option<Role>,
    pub model_version: Option<u32>,
    /// In force.
    pub deployment: Option<u32>,
}

/// Cells of one training set.
#[derive(Clone, Copy, Debug, Default)]
struct Cells {
    from: u64,
    reached: u64,
}

type Sets = BTreeMap<u32, Cells>;

impl Graph {
    /// What would be touched if this were wrong or gone. From a batch, a source, a run or a principal: the training sets that have cells of
    /// its batches, or of batches that were made of them. From a view version or a feature: those that selected it, or what is derived of it,
    /// also where no cell came of it. From a training set: what was made of it.
    pub fn impact(&self, start: u32) -> Impact {
        let mut sets = Sets::new();
        match self.node(start) {
            Node::Batch(_) => self.hits(&[start], &mut sets),
            Node::Source(_) | Node::Principal(_) | Node::Run(_) => {
                let wrote = |relation| matches!(relation, Relation::Provided | Relation::Wrote);
                let wrote = self.leaving(start).iter().filter(|edge| wrote(edge.relation));
                let batches: BTreeSet<u32> = wrote.map(|edge| edge.to).collect();
                self.hits(&batches.into_iter().collect::<Vec<_>>(), &mut sets);
            }
            Node::ViewVersion(_) => self.selected(start, &mut sets),
            Node::Feature(..) => self.supplied(&[start], &mut sets),
            Node::Service(_) => {
                let lists = self.reaching(start).filter(|edge| edge.relation == Relation::Lists);
                self.supplied(&lists.map(|edge| edge.from).collect::<Vec<_>>(), &mut sets);
            }
            Node::TrainingSet(_) => {
                let hits = self.reaching(start).filter(|edge| edge.relation == Relation::Hit);
                sets.insert(start, Cells { from: hits.map(super::Edge::cells).sum(), reached: 0 });
            }
            Node::Experiment(_) | Node::Model(_) | Node::ModelVersion(_) | Node::Deployment(_) => {}
        }
        let cells_from = sets.values().map(|cells| cells.from).sum();
        let cells_reached = sets.values().map(|cells| cells.reached).sum();
        let mut reached = BTreeSet::new();
        for (set, cells) in sets {
            self.made_of(set, cells, &mut reached);
        }
        Impact { reached: reached.into_iter().collect(), cells_from, cells_reached }
    }

    /// Everything that was made of these over one kind of edge, without them.
    fn made_over(&self, start: &[u32], relation: Relation) -> Vec<u32> {
        let mut seen: BTreeSet<u32> = start.iter().copied().collect();
        let mut open: Vec<u32> = start.to_vec();
        let mut made = Vec::new();
        while let Some(place) = open.pop() {
            for edge in self.leaving(place).iter().filter(|edge| edge.relation == relation) {
                if seen.insert(edge.to) {
                    open.push(edge.to);
                    made.push(edge.to);
                }
            }
        }
        made
    }

    fn hits(&self, batches: &[u32], sets: &mut Sets) {
        let hits = |batch: u32| self.leaving(batch).iter().filter(|edge| edge.relation == Relation::Hit);
        for edge in batches.iter().flat_map(|batch| hits(*batch)) {
            sets.entry(edge.to).or_default().from += edge.cells();
        }
        for edge in self.made_over(batches, Relation::MaterialisedFrom).into_iter().flat_map(hits) {
            sets.entry(edge.to).or_default().reached += edge.cells();
        }
    }

    /// Cells of each training set that selected the version, or one that is derived of it.
    fn selected(&self, version: u32, sets: &mut Sets) {
        for (set, cells) in self.cells_of(version) {
            sets.entry(set).or_default().from += cells;
        }
        self.derived(&[version], sets);
    }

    fn cells_of(&self, version: u32) -> impl Iterator<Item = (u32, u64)> {
        let selected = self.leaving(version).iter().filter(|edge| edge.relation == Relation::Selected);
        selected.map(move |edge| (edge.to, self.rows_of(version, edge.to).map(super::Edge::cells).sum()))
    }

    /// Cells of what was derived of these: of whole versions, and of features of other versions.
    fn derived(&self, of: &[u32], sets: &mut Sets) {
        let made = self.made_over(of, Relation::Derives);
        let (features, versions): (BTreeSet<u32>, BTreeSet<u32>) =
            made.into_iter().partition(|place| matches!(self.node(*place), Node::Feature(..)));
        for version in &versions {
            for (set, cells) in self.cells_of(*version) {
                sets.entry(set).or_default().reached += cells;
            }
        }
        for feature in features {
            let Some(version) = self.declared_by(feature).filter(|of| !versions.contains(of)) else {
                continue;
            };
            for (set, cells) in self.cells_of_feature(feature, version) {
                sets.entry(set).or_default().reached += cells;
            }
        }
    }

    fn supplied(&self, features: &[u32], sets: &mut Sets) {
        for feature in features {
            let Some(version) = self.declared_by(*feature) else { continue };
            for (set, cells) in self.cells_of_feature(*feature, version) {
                sets.entry(set).or_default().from += cells;
            }
        }
        self.derived(features, sets);
    }

    fn declared_by(&self, feature: u32) -> Option<u32> {
        self.reaching(feature).find(|edge| edge.relation == Relation::Declares).map(|edge| edge.from)
    }

    fn cells_of_feature(&self, feature: u32, version: u32) -> impl Iterator<Item = (u32, u64)> {
        let supplies = self.leaving(feature).iter().filter(|edge| edge.relation == Relation::Supplies);
        supplies.map(move |edge| (edge.to, self.rows_of(version, edge.to).map(|hit| hit.rows).sum()))
    }

    /// Hits of a training set by what it selected of a version. The batch may have been written under another version of the line.
    fn rows_of(&self, version: u32, set: u32) -> impl Iterator<Item = &super::Edge> {
        self.reaching(set).filter(move |hit| hit.relation == Relation::Hit && hit.selected == version)
    }

    fn made_of(&self, training_set: u32, cells: Cells, reached: &mut BTreeSet<Reached>) {
        for used in self.used_by(training_set) {
            let Used { run, role, model_version, deployment } = used;
            let (cells_from, cells_reached) = (cells.from, cells.reached);
            reached.insert(Reached {
                training_set,
                cells_from,
                cells_reached,
                run,
                role,
                model_version,
                deployment,
            });
        }
    }

    /// What was made of a training set: one for each run, role, model version and deployment in force. Of a set that
    /// no run used, one that is empty.
    pub(crate) fn used_by(&self, training_set: u32) -> Vec<Used> {
        // A role that somebody stated is told, and not beside it that it was unknown before.
        let mut runs: BTreeMap<u32, BTreeSet<Role>> = BTreeMap::new();
        for edge in self.leaving(training_set).iter().filter(|edge| edge.relation == Relation::Used) {
            runs.entry(edge.to).or_default().insert(edge.role);
        }
        if runs.is_empty() {
            return vec![Used::default()];
        }
        let mut all = Vec::new();
        for (run, mut roles) in runs {
            if roles.len() > 1 {
                roles.remove(&Role::Unknown);
            }
            for role in roles {
                let used = Used { run: Some(run), role: Some(role), ..Used::default() };
                let made = self.made_by(run);
                if made.is_empty() {
                    all.push(used);
                    continue;
                }
                let of_model = |(model_version, deployment)| Used {
                    model_version: Some(model_version),
                    deployment,
                    ..used
                };
                all.extend(made.into_iter().map(of_model));
            }
        }
        all
    }

    /// The model versions that a run made, each with every deployment in force that serves it, or with none.
    pub(crate) fn made_by(&self, run: u32) -> Vec<(u32, Option<u32>)> {
        let made = self.leaving(run).iter().filter(|edge| edge.relation == Relation::Produced);
        made.flat_map(|edge| self.served_by(edge.to).into_iter().map(|place| (edge.to, place))).collect()
    }

    /// The deployments in force that serve a model version; one that is none where there are none.
    pub(crate) fn served_by(&self, model_version: u32) -> Vec<Option<u32>> {
        let serves = self.leaving(model_version).iter().filter(|edge| edge.relation == Relation::Serves);
        let in_force = serves.filter(|edge| self.is_in_force(model_version, edge.to));
        let deployments: BTreeSet<u32> = in_force.map(|edge| edge.to).collect();
        if deployments.is_empty() { vec![None] } else { deployments.into_iter().map(Some).collect() }
    }
}
