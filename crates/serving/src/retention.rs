//! What must stay, as it is asked for: by name, as relations for SQL, as reports.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use async_recursion::async_recursion;
use catalog::State;
use datafusion::common::DataFusionError;
use feature::Sequence;
use lineage::graph::Node;
use lineage::{Blocks, Graph, Keeper, Retention};
use serde::Serialize;

use crate::error::Result;
use crate::graph::{find, table, texts};
use crate::retrieve::Serving;

/// What is kept and needs something.
#[derive(Clone, Debug, Serialize)]
pub struct KeptReport {
    pub node: String,
    pub kind: &'static str,
    pub sequence: Sequence,
    /// Holds first, then deployments in force, then model versions that none serves, then training sets of no model. None: nothing
    /// that is kept needs it.
    pub kept_by: Vec<Kept>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Kept {
    /// `hold`, `deployment`, `model_version` or `training_set`.
    pub kept_for: String,
    /// From what was asked for to what is kept.
    pub path: Vec<KeptStep>,
}

#[derive(Clone, Debug, Serialize)]
pub struct KeptStep {
    pub kind: &'static str,
    pub id: String,
    pub label: String,
}

impl Serving {
    /// What is kept and needs the named thing, so that it must not go; at the newest sequence or at an earlier one.
    ///
    /// # Errors
    /// As of [`Serving::lineage`].
    #[async_recursion]
    pub async fn kept_by(&self, name: &str, at: Option<Sequence>) -> Result<KeptReport> {
        let (state, graph) = self.graph(at).await?;
        let start = find(&graph, &state, name)?;
        let step = |place: &u32| {
            let node = graph.node(*place);
            KeptStep { kind: node.kind(), id: node.to_string(), label: graph.label(*place).into_owned() }
        };
        let held = |keeper: &Keeper| {
            let hold = state.holds().find(keeper.hold?)?;
            let (id, label) = (hold.record.hold.to_string(), hold.record.reason.clone());
            Some(KeptStep { kind: "hold", id, label })
        };
        let kept = |keeper: Keeper| Kept {
            kept_for: keeper.kept_for.to_string(),
            path: keeper.path.iter().map(step).chain(held(&keeper)).collect(),
        };
        Ok(KeptReport {
            node: graph.label(start).into_owned(),
            kind: graph.node(start).kind(),
            sequence: graph.sequence(),
            kept_by: Retention::of(&state, &graph).kept_by(start).into_iter().map(kept).collect(),
        })
    }
}

fn labels(state: &State, graph: &Graph, keeper: &Keeper) -> String {
    let mut labels: Vec<_> = keeper.path.iter().map(|place| graph.label(*place)).collect();
    let hold = keeper.hold.and_then(|hold| state.holds().find(hold));
    labels.extend(hold.map(|hold| format!("hold: {}", hold.record.reason).into()));
    labels.join(" > ")
}

/// The rows of `kept_by('…')`.
pub(crate) fn kept_by(state: &State, graph: &Graph, start: u32) -> Result<RecordBatch, DataFusionError> {
    let keepers = Retention::of(state, graph).kept_by(start);
    let all = || keepers.iter();
    let of_kind = |kind: &'static str| -> ArrayRef {
        let label = |keeper: &Keeper| {
            let found = keeper.path.iter().find(|place| graph.node(**place).kind() == kind);
            found.map(|place| graph.label(*place).into_owned())
        };
        texts(all().map(label))
    };
    table(vec![
        ("kept_for", texts(all().map(|keeper| Some(keeper.kept_for.to_string())))),
        ("training_set", of_kind("training_set")),
        ("run", of_kind("run")),
        ("model_version", of_kind("model_version")),
        ("deployment", of_kind("deployment")),
        ("path", texts(all().map(|keeper| Some(labels(state, graph, keeper))))),
        ("hold", texts(all().map(|keeper| keeper.hold.map(|hold| hold.to_string())))),
    ])
}

/// Every batch with the worst that needs it, and how many of each kind do: what `lineament.retention` shows.
pub(crate) fn batches(state: &State, graph: &Graph) -> Result<RecordBatch, DataFusionError> {
    let retention = Retention::of(state, graph);
    let places = (0..graph.nodes().len()).filter_map(|place| u32::try_from(place).ok());
    let kinds = [Blocks::Deployment, Blocks::ModelVersion, Blocks::TrainingSet, Blocks::Hold];
    // Of each batch the worst and the numbers: all ways of all batches would be very many.
    let of_batch = |place: u32| {
        let kept = retention.kept_by(place);
        let counts = kinds.map(|kind| kept.iter().filter(|keeper| keeper.kept_for == kind).count() as u64);
        (place, kept.into_iter().next(), counts)
    };
    let all: Vec<(u32, Option<Keeper>, [u64; 4])> =
        places.filter(|place| matches!(graph.node(*place), Node::Batch(_))).map(of_batch).collect();
    let first =
        |of: &dyn Fn(&Keeper) -> String| texts(all.iter().map(|(_, worst, _)| worst.as_ref().map(of)));
    let count = |kind: usize| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(all.iter().map(|(_, _, counts)| counts[kind])))
    };
    table(vec![
        ("batch", texts(all.iter().map(|(place, _, _)| Some(graph.node(*place).to_string())))),
        ("kept_for", first(&|keeper| keeper.kept_for.to_string())),
        ("deployments", count(0)),
        ("model_versions", count(1)),
        ("training_sets", count(2)),
        ("path", first(&|keeper| labels(state, graph, keeper))),
        ("holds", count(3)),
    ])
}
