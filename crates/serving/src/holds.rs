//! Holds: what must stay because somebody says so, by name.

use std::collections::BTreeSet;

use async_recursion::async_recursion;
use catalog::records::{HeldKind, HoldPlaced};
use catalog::state::ViewVersion;
use catalog::{Author, State, holds};
use feature::policy::Action;
use feature::{HoldId, Id, Sequence, VersionId};
use lineage::Graph;
use lineage::graph::{Node, Relation};
use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::graph::find;
use crate::retrieve::Serving;

/// A hold that was placed or lifted.
#[derive(Clone, Debug, Serialize)]
pub struct HoldReport {
    pub hold: HoldId,
    /// `batch`, `version`, `training_set` or `model_version`.
    pub kind: &'static str,
    pub id: String,
    pub reason: String,
    /// Of the entry.
    pub sequence: Sequence,
}

impl Serving {
    /// Holds a batch, a version of a feature view, a training set or a model version, with all that it needs.
    ///
    /// # Errors
    /// `NotFound` for a name of nothing; `Forbidden` for who may not hold what the views of it have; `Invalid` for what cannot be held,
    /// and for no reason.
    #[async_recursion]
    pub async fn place_hold(&self, name: &str, reason: &str, author: &Author) -> Result<HoldReport> {
        let (state, graph) = self.graph(None).await?;
        let node = graph.node(find(&graph, &state, name)?);
        let (kind, id) = match node {
            Node::Batch(id) => (HeldKind::Batch, id.uuid()),
            Node::ViewVersion(id) => (HeldKind::Version, id.uuid()),
            Node::TrainingSet(id) => (HeldKind::TrainingSet, id.uuid()),
            Node::ModelVersion(id) => (HeldKind::ModelVersion, id.uuid()),
            other => {
                return Err(Error::new(
                    Kind::Invalid,
                    format!(
                        "`{name}` is a {}; what can be held is a batch (its id), a version (weather@2), a training set or a model version (delay/3)",
                        other.kind().replace('_', " ")
                    ),
                ));
            }
        };
        let allowed = self.may_hold(&state, &graph, node, author);
        self.on_record(author, Action::Hold, None, || format!("hold {name}"), allowed).await?;
        let (hold, sequence) = holds::place(self.catalog(), kind, id, reason, author).await?;
        Ok(HoldReport { hold, kind: kind.name(), id: id.to_string(), reason: reason.to_owned(), sequence })
    }

    /// Lifts a hold. What it held may go as soon as nothing else needs it.
    ///
    /// # Errors
    /// `NotFound` for one that is not known; `Forbidden` for who could not place it; `Invalid` for one that was lifted, and for no reason.
    #[async_recursion]
    pub async fn lift_hold(&self, hold: HoldId, reason: &str, author: &Author) -> Result<HoldReport> {
        let (state, graph) = self.graph(None).await?;
        // One that is not there is told of by the lifting.
        if let Some(found) = state.holds().find(hold) {
            let node = held(&found.record);
            let allowed = self.may_hold(&state, &graph, &node, author);
            self.on_record(author, Action::Hold, None, || format!("lift hold {hold}"), allowed).await?;
        }
        let sequence = holds::lift(self.catalog(), hold, reason, author).await?;
        let state = self.catalog().state();
        let of =
            state.holds().find(hold).map(|found| (found.record.kind.name(), found.record.id.to_string()));
        let (kind, id) = of.unwrap_or_default();
        Ok(HoldReport { hold, kind, id, reason: reason.to_owned(), sequence })
    }

    /// Asked of every view that a thing has rows of; where there is none, as of a model without training sets, it needs the right to govern.
    ///
    /// # Errors
    /// `Forbidden` names the first view, or the project.
    async fn may_hold(&self, state: &State, graph: &Graph, node: &Node, author: &Author) -> Result<()> {
        let versions = versions_of(state, graph, node).into_iter();
        let versions: Vec<&ViewVersion> = versions.filter_map(|id| state.view_version(id)).collect();
        if versions.is_empty() {
            return self.require_govern(state, author).await;
        }
        for version in versions {
            self.require(state, author, Action::Hold, &version.definition).await?;
        }
        Ok(())
    }
}

fn held(hold: &HoldPlaced) -> Node {
    match hold.kind {
        HeldKind::Batch => Node::Batch(hold.id.into()),
        HeldKind::Version => Node::ViewVersion(hold.id.into()),
        HeldKind::TrainingSet => Node::TrainingSet(hold.id.into()),
        HeldKind::ModelVersion => Node::ModelVersion(hold.id.into()),
    }
}

/// The versions that a thing has rows of: of a model version those that its training sets were selected from.
fn versions_of(state: &State, graph: &Graph, node: &Node) -> BTreeSet<VersionId> {
    let from = |place: u32, relation: Relation| {
        let edges = graph.reaching(place).filter(move |edge| edge.relation == relation);
        edges.map(|edge| edge.from)
    };
    let selected = |set: u32| {
        from(set, Relation::Selected).filter_map(move |version| match graph.node(version) {
            Node::ViewVersion(id) => Some(*id),
            _ => None,
        })
    };
    match (node, graph.place(node)) {
        (Node::Batch(id), _) => state.batch(*id).map(|batch| batch.record.version).into_iter().collect(),
        (Node::ViewVersion(id), _) => BTreeSet::from([*id]),
        (Node::TrainingSet(_), Some(set)) => selected(set).collect(),
        (Node::ModelVersion(_), Some(model)) => {
            let runs = from(model, Relation::Produced);
            runs.flat_map(|run| from(run, Relation::Used)).flat_map(selected).collect()
        }
        _ => BTreeSet::new(),
    }
}
