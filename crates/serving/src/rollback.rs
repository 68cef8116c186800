//! Taking back a batch or a version, and undoing that: what it touches is known before it is done.

use std::collections::BTreeSet;

use async_recursion::async_recursion;
use catalog::Author;
use catalog::state::{State, Withdrawable};
use catalog::withdrawal::{self, Move};
use engine::access::Sights;
use feature::Sequence;
use feature::policy::Action;
use lineage::Graph;
use lineage::graph::{Node, Relation};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::graph::{ImpactReport, find, impact};
use crate::retrieve::Serving;

/// What is to be taken back, or put back.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RollbackRequest {
    /// A batch or a version of a feature view, by name (`weather@2`) or id.
    pub node: String,
    /// Restores what was withdrawn.
    pub undo: bool,
    /// The batches of derived views that were made of it too: those that count, or for `undo` those that are withdrawn.
    pub derived: bool,
    /// Why; it stands in the log. Without one nothing is done, and what would be is told.
    pub reason: Option<String>,
}

/// What is or would be taken back.
#[derive(Clone, Debug, Serialize)]
pub struct RollbackReport {
    /// What stands on it, whether it counts or not.
    pub impact: ImpactReport,
    /// The version in force before and after, of a version; of a batch, its version.
    pub version: String,
    pub in_force_after: Option<String>,
    /// None where policies keep rows of it from the asker.
    pub rows: Option<u64>,
    /// Batches of derived views that were made of it and are not moved with it.
    pub derived_left: Vec<RolledBack>,
    /// All that is moved, the named thing first.
    pub moved: Vec<RolledBack>,
    pub undo: bool,
    /// Where it stands in the log; none where nothing was done.
    pub sequence: Option<Sequence>,
}

#[derive(Clone, Debug, Serialize)]
pub struct RolledBack {
    /// `batch` or `version`.
    pub kind: &'static str,
    pub id: String,
    /// The view version that it is or belongs to.
    pub version: String,
    /// Of a batch; none where policies keep rows of it from the asker.
    pub rows: Option<u64>,
}

impl Serving {
    /// Withdraws a batch or a version, so that no snapshot has it from here on, or restores it: one entry, and no data is copied.
    /// Recorded training sets are made again as before, for they read the snapshots that they were taken at.
    ///
    /// # Errors
    /// `NotFound` for a name of nothing; `Invalid` for what is neither a batch nor a version, is as it is asked to be already, or is
    /// the last version of its view.
    #[async_recursion]
    pub async fn rollback(&self, request: &RollbackRequest, author: &Author) -> Result<RollbackReport> {
        let words = || format!("rollback {}", request.node);
        self.on_record(author, Action::Withdraw, None, words, self.moved(request, author)).await
    }

    async fn moved(&self, request: &RollbackRequest, author: &Author) -> Result<RollbackReport> {
        let (state, graph) = self.graph(None).await?;
        let start = find(&graph, &state, &request.node)?;
        let of = match graph.node(start) {
            Node::Batch(id) => Withdrawable::Batch(*id),
            Node::ViewVersion(id) => Withdrawable::Version(*id),
            other => {
                return Err(Error::new(
                    Kind::Invalid,
                    format!(
                        "`{}` is a {}; what can be rolled back is a batch (its id) or a version (weather@2)",
                        request.node,
                        other.kind().replace('_', " ")
                    ),
                ));
            }
        };
        let derived = derived_of(&graph, start);
        let as_it_is =
            |of: &Withdrawable| state.withdrawals().at(*of, state.head.sequence).is_some() == request.undo;
        let derived: Vec<Withdrawable> = derived.into_iter().filter(as_it_is).collect();
        let (with, left) = if request.derived { (derived, Vec::new()) } else { (Vec::new(), derived) };
        let moved: Vec<Withdrawable> = std::iter::once(of).chain(with).collect();
        for of in moved.iter().filter(|_| request.reason.is_some()) {
            let version = match of {
                Withdrawable::Batch(id) => {
                    state.batch(*id).and_then(|batch| state.view_version(batch.record.version).cloned())
                }
                Withdrawable::Version(id) => state.view_version(*id).cloned(),
            };
            if let Some(version) = version {
                self.require(&state, author, Action::Withdraw, &version.definition).await?;
            }
        }
        let way = if request.undo { Move::Restore } else { Move::Withdraw };
        withdrawal::check(&state, &moved, way)?;
        let sequence = match &request.reason {
            Some(reason) => Some(withdrawal::withdraw(self.catalog(), &moved, way, reason, author).await?),
            None => None,
        };
        let snapshot = self.snapshot_for(None, author).await?;
        let sights = Sights::of_snapshot(&snapshot);
        let told = |of: &Withdrawable| told(&state, *of, &sights);
        Ok(RollbackReport {
            impact: impact(&graph, start, &sights),
            version: told(&of).version,
            in_force_after: in_force_after(&state, of, way),
            rows: told(&of).rows,
            derived_left: left.iter().map(told).collect(),
            moved: moved.iter().map(told).collect(),
            undo: request.undo,
            sequence,
        })
    }
}

/// The batches of derived views that were made of a batch's rows, over however many views, in the order of the graph.
fn derived_of(graph: &Graph, start: u32) -> Vec<Withdrawable> {
    let mut found = BTreeSet::new();
    let mut open = vec![start];
    while let Some(place) = open.pop() {
        for edge in graph.leaving(place).iter().filter(|edge| edge.relation == Relation::MaterialisedFrom) {
            if found.insert(edge.to) {
                open.push(edge.to);
            }
        }
    }
    let batches = found.into_iter().filter_map(|place| match graph.node(place) {
        Node::Batch(id) => Some(Withdrawable::Batch(*id)),
        _ => None,
    });
    batches.collect()
}

fn told(state: &State, of: Withdrawable, sights: &Sights<'_>) -> RolledBack {
    let (version, rows) = match of {
        Withdrawable::Batch(id) => match state.batch(id) {
            Some(batch) => (state.view_version(batch.record.version), batch.record.rows),
            None => (None, 0),
        },
        Withdrawable::Version(id) => (state.view_version(id), 0),
    };
    let rows = version.is_none_or(|version| sights.of(version).counts()).then_some(rows);
    let version = version.map(catalog::state::ViewVersion::label).unwrap_or_default();
    RolledBack { kind: of.kind(), id: of.to_string(), version, rows }
}

/// Of a version: which one is in force once it is moved.
fn in_force_after(state: &State, of: Withdrawable, way: Move) -> Option<String> {
    let Withdrawable::Version(id) = of else { return None };
    let definition = &state.view_version(id)?.definition;
    let versions = state.versions_of(&definition.project, &definition.name).iter().rev();
    let counts = |version: &&catalog::state::ViewVersion| {
        let other = Withdrawable::Version(version.version);
        match other == of {
            true => way == Move::Restore,
            false => state.withdrawals().at(other, state.head.sequence).is_none(),
        }
    };
    versions.into_iter().find(counts).map(catalog::state::ViewVersion::label)
}
