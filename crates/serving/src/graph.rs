//! The lineage graph as it is asked for: by name, as relations for SQL, as reports.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array};
use arrow::datatypes::{Field, Schema};
use async_recursion::async_recursion;
use async_trait::async_trait;
use catalog::records::{Role, Selected};
use catalog::selection::selected;
use catalog::{Author, Catalog, State};
use datafusion::common::DataFusionError;
use engine::access::Sights;
use engine::{LineageRelations, Snapshot};
use feature::{Sequence, TrainingSetId};
use futures::{StreamExt, TryStreamExt};
use lineage::Graph;
use lineage::graph::{Direction, Edge, Node, Walk};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::retention;
use crate::retrieve::Serving;
use crate::search::{self, Searches};

/// Nodes that one walk may reach.
const MOST: usize = 100_000;
/// Manifests that are read at a time.
const AT_A_TIME: usize = 16;

/// The graphs that were built last: of the head, and of one earlier sequence.
#[derive(Default)]
pub(crate) struct Graphs {
    built: Mutex<Vec<Arc<Graph>>>,
    /// Of sets whose entries do not say what they were selected from.
    selected: Mutex<HashMap<TrainingSetId, Vec<Selected>>>,
    /// What is found by words.
    pub(crate) searches: Searches,
}

impl Graphs {
    pub(crate) async fn of(
        &self,
        catalog: &Catalog,
        state: &Arc<State>,
        at: Sequence,
    ) -> catalog::Result<Arc<Graph>> {
        let built = self.built.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(graph) = built.iter().find(|graph| graph.sequence() == at) {
            return Ok(graph.clone());
        }
        self.read_manifests(catalog, state).await?;
        let known = self.selected.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let graph = Arc::new(Graph::of(state, at, &known));
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        built.insert(0, graph.clone());
        built.truncate(2);
        Ok(graph)
    }

    /// The graph of a state's head. Sets whose entries do not say what they were selected from are those that an earlier call has read.
    pub(crate) fn at_head(&self, state: &State) -> Graph {
        let known = self.selected.lock().unwrap_or_else(PoisonError::into_inner);
        Graph::of(state, state.head.sequence, &known)
    }

    async fn read_manifests(&self, catalog: &Catalog, state: &State) -> catalog::Result<()> {
        let missing: Vec<_> = {
            let known = self.selected.lock().unwrap_or_else(PoisonError::into_inner);
            let sets = state.training_sets().filter(|set| set.record.selected.is_none());
            sets.filter(|set| !known.contains_key(&set.record.training_set)).cloned().collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        let catalog = catalog.clone();
        let read: Vec<_> = futures::stream::iter(missing)
            .map(move |set| {
                let catalog = catalog.clone();
                async move {
                    let taken = selected(&catalog, &set).await?.into_owned();
                    Ok::<_, catalog::Error>((set.record.training_set, taken))
                }
            })
            .buffered(AT_A_TIME)
            .try_collect()
            .await?;
        self.selected.lock().unwrap_or_else(PoisonError::into_inner).extend(read);
        Ok(())
    }
}

/// What came of something, or where it came from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineageRequest {
    /// A name or id, as [`Graph::find`] reads it.
    pub node: String,
    /// Against the data's way: where it came from.
    #[serde(default)]
    pub up: bool,
    /// How many edges far; all where it is left out.
    #[serde(default)]
    pub depth: Option<u32>,
    /// As of an earlier sequence.
    #[serde(default)]
    pub sequence: Option<Sequence>,
}

#[derive(Clone, Debug, Serialize)]
pub struct LineageReport {
    pub sequence: Sequence,
    /// The start first; each step names the one that it was reached from.
    pub steps: Vec<LineageStep>,
    /// Whether everything was reached.
    pub complete: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct LineageStep {
    pub kind: &'static str,
    pub id: String,
    pub label: String,
    pub depth: u32,
    /// The place in `steps` that it was reached from.
    pub from: Option<usize>,
    pub edge: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Of a hit: cells of the training set that came from the batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cells: Option<u64>,
    pub sequence: Option<Sequence>,
}

/// How far something reaches.
#[derive(Clone, Debug, Serialize)]
pub struct ImpactReport {
    pub node: String,
    pub kind: &'static str,
    pub sequence: Sequence,
    /// Cells in all training sets whose value came from it. Exact. None where policies keep some of them from the asker.
    pub cells_from: Option<u64>,
    /// Cells in all training sets of what was derived from it. At most.
    pub cells_reached: Option<u64>,
    pub training_sets: usize,
    pub model_versions: usize,
    pub deployments: usize,
    pub rows: Vec<ImpactRow>,
}

/// A training set with cells of it, and one model version and deployment in force that were made of the set.
#[derive(Clone, Debug, Serialize)]
pub struct ImpactRow {
    pub training_set: String,
    pub name: String,
    /// None where something that the set was selected from is kept from the asker.
    pub cells_from: Option<u64>,
    pub cells_reached: Option<u64>,
    pub run: Option<String>,
    pub role: Option<Role>,
    pub model_version: Option<String>,
    pub deployment: Option<String>,
}

impl Serving {
    /// The graph at the newest sequence, or at an earlier one.
    #[async_recursion]
    pub async fn graph(&self, at: Option<Sequence>) -> Result<(Arc<State>, Arc<Graph>)> {
        let state = self.catalog().refresh().await?;
        let head = state.head.sequence;
        let at = at.unwrap_or(head);
        if at > head {
            return Err(Error::new(
                Kind::Invalid,
                format!("the log ends at sequence {head}; there is no {at} yet"),
            ));
        }
        let graph = self.graphs.of(self.catalog(), &state, at).await?;
        Ok((state, graph))
    }

    /// Walks the graph from a node. What came from what is no secret; cells are counted for those who may read what they are of.
    ///
    /// # Errors
    /// `NotFound` for a name of nothing, with the nearest; `Invalid` for one of several things.
    #[async_recursion]
    pub async fn lineage(&self, request: &LineageRequest, author: &Author) -> Result<LineageReport> {
        let (graph, walk) = self.walk(request).await?;
        let snapshot = self.snapshot_for(None, author).await?;
        let sights = Sights::of_snapshot(&snapshot);
        let step = |step: &lineage::graph::Step| {
            let node = graph.node(step.place);
            let edge = step.by.map(|(edge, _)| edge);
            let relation = edge.map(|edge| edge.relation);
            LineageStep {
                kind: node.kind(),
                id: node.to_string(),
                label: graph.label(step.place).into_owned(),
                depth: step.depth,
                from: step.by.map(|(_, from)| from),
                edge: relation.map(lineage::graph::Relation::name),
                role: edge.filter(is_use).map(|edge| edge.role),
                cells: edge
                    .filter(|edge| is_hit(edge) && told(&graph, edge.to, &sights))
                    .map(|edge| edge.cells()),
                sequence: edge.map(|edge| edge.sequence),
            }
        };
        Ok(LineageReport {
            sequence: graph.sequence(),
            steps: walk.steps.iter().map(step).collect(),
            complete: walk.cut_at.is_none(),
        })
    }

    pub(crate) async fn walk(&self, request: &LineageRequest) -> Result<(Arc<Graph>, Walk)> {
        let (state, graph) = self.graph(request.sequence).await?;
        let start = find(&graph, &state, &request.node)?;
        let direction = if request.up { Direction::Up } else { Direction::Down };
        let walk = graph.walk(start, direction, request.depth.unwrap_or(u32::MAX), MOST);
        Ok((graph, walk))
    }

    /// What would be touched if the named thing were wrong or gone.
    ///
    /// # Errors
    /// As of [`Serving::lineage`].
    #[async_recursion]
    pub async fn impact(&self, name: &str, author: &Author) -> Result<ImpactReport> {
        let (state, graph) = self.graph(None).await?;
        let start = find(&graph, &state, name)?;
        let snapshot = self.snapshot_for(None, author).await?;
        Ok(impact(&graph, start, &Sights::of_snapshot(&snapshot)))
    }
}

pub(crate) fn find(graph: &Graph, state: &State, name: &str) -> Result<u32> {
    graph.find(state, name).map_err(|error| {
        let kind = match &error {
            lineage::graph::NameError::Unknown { .. } => Kind::NotFound,
            lineage::graph::NameError::Ambiguous { .. } => Kind::Invalid,
        };
        Error::new(kind, error.to_string())
    })
}

fn is_hit(edge: &Edge) -> bool {
    edge.relation == lineage::graph::Relation::Hit
}

fn is_use(edge: &Edge) -> bool {
    edge.relation == lineage::graph::Relation::Used
}

/// Whether an asker is told how many cells of a training set came from where.
fn told(graph: &Graph, set: u32, sights: &Sights<'_>) -> bool {
    match graph.node(set) {
        Node::TrainingSet(id) => sights.of_set_id(*id),
        _ => true,
    }
}

pub(crate) fn impact(graph: &Graph, start: u32, sights: &Sights<'_>) -> ImpactReport {
    let impact = graph.impact(start);
    let told = |cells: u64, set: u32| told(graph, set, sights).then_some(cells);
    let all = impact.reached.iter().all(|reached| told(0, reached.training_set).is_some());
    let label = |place: Option<u32>| place.map(|place| graph.label(place).into_owned());
    let rows: Vec<ImpactRow> = impact
        .reached
        .iter()
        .map(|reached| ImpactRow {
            training_set: graph.node(reached.training_set).to_string(),
            name: graph.label(reached.training_set).into_owned(),
            cells_from: told(reached.cells_from, reached.training_set),
            cells_reached: told(reached.cells_reached, reached.training_set),
            run: label(reached.run),
            role: reached.role,
            model_version: label(reached.model_version),
            deployment: label(reached.deployment),
        })
        .collect();
    let distinct = |of: &dyn Fn(&lineage::graph::Reached) -> Option<u32>| {
        let places: std::collections::BTreeSet<u32> = impact.reached.iter().filter_map(of).collect();
        places.len()
    };
    ImpactReport {
        node: graph.label(start).into_owned(),
        kind: graph.node(start).kind(),
        sequence: graph.sequence(),
        cells_from: Some(impact.cells_from).filter(|_| all),
        cells_reached: Some(impact.cells_reached).filter(|_| all),
        training_sets: distinct(&|reached| Some(reached.training_set)),
        model_versions: distinct(&|reached| reached.model_version),
        deployments: distinct(&|reached| reached.deployment),
        rows,
    }
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

pub(crate) fn texts(values: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

pub(crate) fn table(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch, DataFusionError> {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns
        .into_iter()
        .map(|(name, array)| (Field::new(name, array.data_type().clone(), true), array))
        .unzip();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

#[async_trait]
impl LineageRelations for Graphs {
    async fn edges(&self, snapshot: &Snapshot) -> Result<RecordBatch, DataFusionError> {
        let graph = self.of(&snapshot.catalog, &snapshot.state, snapshot.sequence).await.map_err(external)?;
        let all = || graph.edges().iter();
        let sights = Sights::of_snapshot(snapshot);
        let hits = |of: fn(&Edge) -> u64| -> ArrayRef {
            let counted = |edge: &Edge| is_hit(edge) && told(&graph, edge.to, &sights);
            Arc::new(all().map(|edge| counted(edge).then(|| of(edge))).collect::<UInt64Array>())
        };
        let kind = |place: u32| Some(graph.node(place).kind().to_owned());
        let id = |place: u32| Some(graph.node(place).to_string());
        let label = |place: u32| Some(graph.label(place).into_owned());
        table(vec![
            ("edge", texts(all().map(|edge| Some(edge.relation.name().to_owned())))),
            ("from_kind", texts(all().map(|edge| kind(edge.from)))),
            ("from", texts(all().map(|edge| id(edge.from)))),
            ("from_label", texts(all().map(|edge| label(edge.from)))),
            ("to_kind", texts(all().map(|edge| kind(edge.to)))),
            ("to", texts(all().map(|edge| id(edge.to)))),
            ("to_label", texts(all().map(|edge| label(edge.to)))),
            ("rows", hits(|edge| edge.rows)),
            ("cells", hits(Edge::cells)),
            ("role", texts(all().map(|edge| is_use(edge).then(|| edge.role.as_str().to_owned())))),
            ("sequence", Arc::new(all().map(|edge| Some(edge.sequence.0)).collect::<UInt64Array>())),
        ])
    }

    async fn dangling(&self, snapshot: &Snapshot) -> Result<RecordBatch, DataFusionError> {
        let graph = self.of(&snapshot.catalog, &snapshot.state, snapshot.sequence).await.map_err(external)?;
        let found = lineage::dangling(&snapshot.state, &graph);
        let all = || found.iter();
        let since: TimestampMicrosecondArray =
            all().map(|one| one.since.map(feature::Timestamp::micros)).collect();
        table(vec![
            ("kind", texts(all().map(|one| Some(one.kind.to_owned())))),
            ("id", texts(all().map(|one| Some(one.id.clone())))),
            ("problem", texts(all().map(|one| Some(one.problem.clone())))),
            ("since", Arc::new(since.with_timezone("UTC"))),
            ("blocks", texts(all().map(|one| one.blocks.map(|blocks| blocks.to_string())))),
        ])
    }

    async fn retention(&self, snapshot: &Snapshot) -> Result<RecordBatch, DataFusionError> {
        let graph = self.of(&snapshot.catalog, &snapshot.state, snapshot.sequence).await.map_err(external)?;
        retention::batches(&snapshot.state, &graph)
    }

    async fn kept_by(&self, snapshot: &Snapshot, name: &str) -> Result<RecordBatch, DataFusionError> {
        let graph = self.of(&snapshot.catalog, &snapshot.state, snapshot.sequence).await.map_err(external)?;
        let start =
            graph.find(&snapshot.state, name).map_err(|error| DataFusionError::Plan(error.to_string()))?;
        retention::kept_by(&snapshot.state, &graph, start)
    }

    async fn search(&self, snapshot: &Snapshot, words: &str) -> Result<RecordBatch, DataFusionError> {
        search::relation(self, snapshot, words).await
    }

    async fn impact(&self, snapshot: &Snapshot, name: &str) -> Result<RecordBatch, DataFusionError> {
        let graph = self.of(&snapshot.catalog, &snapshot.state, snapshot.sequence).await.map_err(external)?;
        let start =
            graph.find(&snapshot.state, name).map_err(|error| DataFusionError::Plan(error.to_string()))?;
        let report = impact(&graph, start, &Sights::of_snapshot(snapshot));
        let all = || report.rows.iter();
        table(vec![
            ("training_set", texts(all().map(|row| Some(row.training_set.clone())))),
            ("name", texts(all().map(|row| Some(row.name.clone())))),
            ("cells_from", Arc::new(all().map(|row| row.cells_from).collect::<UInt64Array>())),
            ("cells_reached", Arc::new(all().map(|row| row.cells_reached).collect::<UInt64Array>())),
            ("run", texts(all().map(|row| row.run.clone()))),
            ("role", texts(all().map(|row| row.role.map(|role| role.as_str().to_owned())))),
            ("model_version", texts(all().map(|row| row.model_version.clone()))),
            ("deployment", texts(all().map(|row| row.deployment.clone()))),
        ])
    }
}
