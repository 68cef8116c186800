//! Blast radius: how many cells of which training set, and of which deployed model, came from something.

use std::collections::{BTreeMap, BTreeSet};

use catalog::records::Role;

use super::{Graph, Node, Relation};

/// What came of something.
#[derive(Clone, Debug)]
pub struct Impact {
    /// One for each training set and what was made of it.
    pub reached: Vec<Reached>,
    /// Cells in all training sets, each set counted once.
    pub cells: u64,
}

/// A training set that has cells from it, with one model version and one deployment that were made of the set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reached {
    pub training_set: u32,
    /// Cells whose value came from it. Exact.
    pub cells_from: u64,
    pub run: Option<u32>,
    pub role: Option<Role>,
    pub model_version: Option<u32>,
    /// In force.
    pub deployment: Option<u32>,
}

impl Graph {
    /// What would be touched if this were wrong or gone. From a batch, a source, a run or a principal: the training sets that have cells of
    /// its batches. From a view version or a feature: those that selected it, also where no cell came of it. From a training set, a run, a model version:
    /// what was made of it, for a run also of what it wrote.
    pub fn impact(&self, start: u32) -> Impact {
        let mut sets: BTreeMap<u32, u64> = BTreeMap::new();
        match self.node(start) {
            Node::Batch(_) => self.hits(start, &mut sets),
            Node::Source(_) | Node::Principal(_) => self.written(start, &mut sets),
            Node::ViewVersion(_) => self.selected(start, &mut sets),
            Node::Feature(..) => self.supplied(start, &mut sets),
            Node::Service(_) => {
                for edge in self.reaching(start).filter(|edge| edge.relation == Relation::Lists) {
                    self.supplied(edge.from, &mut sets);
                }
            }
            Node::TrainingSet(_) => {
                let cells = self.reaching(start).filter(|edge| edge.relation == Relation::Hit);
                sets.insert(start, cells.map(super::Edge::cells).sum());
            }
            Node::Run(_) => self.written(start, &mut sets),
            Node::Experiment(_) | Node::Model(_) | Node::ModelVersion(_) | Node::Deployment(_) => {}
        }
        let cells = sets.values().sum();
        let mut reached = BTreeSet::new();
        for (set, cells) in sets {
            self.made_of(set, cells, &mut reached);
        }
        Impact { reached: reached.into_iter().collect(), cells }
    }

    fn hits(&self, batch: u32, sets: &mut BTreeMap<u32, u64>) {
        for edge in self.leaving(batch).iter().filter(|edge| edge.relation == Relation::Hit) {
            *sets.entry(edge.to).or_default() += edge.cells();
        }
    }

    fn written(&self, writer: u32, sets: &mut BTreeMap<u32, u64>) {
        let wrote = |relation| matches!(relation, Relation::Provided | Relation::Wrote);
        for edge in self.leaving(writer).iter().filter(|edge| wrote(edge.relation)) {
            self.hits(edge.to, sets);
        }
    }

    /// Cells of each training set that selected the version.
    fn selected(&self, version: u32, sets: &mut BTreeMap<u32, u64>) {
        for edge in self.leaving(version).iter().filter(|edge| edge.relation == Relation::Selected) {
            *sets.entry(edge.to).or_default() +=
                self.rows_of(version, edge.to).map(|hit| hit.cells()).sum::<u64>();
        }
    }

    fn supplied(&self, feature: u32, sets: &mut BTreeMap<u32, u64>) {
        let declares = self.reaching(feature).find(|edge| edge.relation == Relation::Declares);
        let Some(version) = declares.map(|edge| edge.from) else { return };
        for edge in self.leaving(feature).iter().filter(|edge| edge.relation == Relation::Supplies) {
            *sets.entry(edge.to).or_default() +=
                self.rows_of(version, edge.to).map(|hit| hit.rows).sum::<u64>();
        }
    }

    /// Hits of a training set by what it selected of a version. The batch may have been written under another version of the line.
    fn rows_of(&self, version: u32, set: u32) -> impl Iterator<Item = &super::Edge> {
        self.reaching(set).filter(move |hit| hit.relation == Relation::Hit && hit.selected == version)
    }

    fn made_of(&self, training_set: u32, cells_from: u64, reached: &mut BTreeSet<Reached>) {
        let bare = Reached {
            training_set,
            cells_from,
            run: None,
            role: None,
            model_version: None,
            deployment: None,
        };
        // A role that somebody stated is told, and not beside it that it was unknown before.
        let mut runs: BTreeMap<u32, BTreeSet<Role>> = BTreeMap::new();
        for edge in self.leaving(training_set).iter().filter(|edge| edge.relation == Relation::Used) {
            runs.entry(edge.to).or_default().insert(edge.role);
        }
        if runs.is_empty() {
            reached.insert(bare);
            return;
        }
        for (run, mut roles) in runs {
            if roles.len() > 1 {
                roles.remove(&Role::Unknown);
            }
            let models: Vec<u32> = self
                .leaving(run)
                .iter()
                .filter(|edge| edge.relation == Relation::Produced)
                .map(|edge| edge.to)
                .collect();
            for role in roles {
                let used = Reached { run: Some(run), role: Some(role), ..bare.clone() };
                if models.is_empty() {
                    reached.insert(used);
                    continue;
                }
                for model in &models {
                    let made = Reached { model_version: Some(*model), ..used.clone() };
                    let serving: Vec<u32> = self
                        .leaving(*model)
                        .iter()
                        .filter(|edge| edge.relation == Relation::Serves)
                        .map(|edge| edge.to)
                        .collect();
                    if serving.is_empty() {
                        reached.insert(made.clone());
                    }
                    for deployment in serving {
                        reached.insert(Reached { deployment: Some(deployment), ..made.clone() });
                    }
                }
            }
        }
    }
}
