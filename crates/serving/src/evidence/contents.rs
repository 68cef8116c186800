//! What a pack says, derived from the log and from the objects that it names. The maker of a pack and the one who checks it
//! derive it by this same code, so that nothing in a pack rests on its maker's word.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use catalog::records::{Object, Selected};
use catalog::state::registry::{ModelVersionNow, Noted};
use catalog::state::{Batch, Provenance, ViewVersion};
use catalog::{Catalog, State};
use feature::definition::{Definition, canonical};
use feature::digest::{ContentDigest, hash};
use feature::{BatchId, ModelVersionId, Sequence, Timestamp, TrainingSetId};
use lineage::Graph;
use lineage::Manifest;
use lineage::graph::{Direction, Node, Relation};
use serde::Serialize;
use serde_json::{Value, json};

use super::statement::Subject;
use crate::error::{Error, Kind, Result};

/// Where the objects lie that entries name.
pub enum Source<'a> {
    Store(&'a Catalog),
    /// The files of a pack.
    Pack(&'a BTreeMap<String, Vec<u8>>),
}

/// The path in a pack of an object of the store.
pub fn packed(path: &str) -> String {
    format!("objects/{path}")
}

/// The part of a pack that follows from the log and its objects.
pub struct Contents {
    /// `model_version` or `training_set`, its id, and how people call it.
    pub about: (String, String, String),
    pub subjects: Vec<Subject>,
    /// Tables in JSON, by file name.
    pub tables: BTreeMap<String, Value>,
    /// Objects of the store, by their path there.
    pub objects: BTreeMap<String, Bytes>,
}

/// Derives what a pack about a model version or a training set holds, at the head of this state.
///
/// # Errors
/// `Invalid` for a node of another kind, and for a model that nothing leads to. `Damaged` names an object that is missing, was
/// altered, or says other than the log.
pub async fn derive(state: &State, about: &Node, source: Source<'_>) -> Result<Contents> {
    let mut objects = Objects { source, read: BTreeMap::new() };
    let scope = Scope::find(state, about, &mut objects).await?;
    let mut pack = Pack { state, scope, objects, bodies: BTreeMap::new() };
    pack.read_bodies().await?;
    pack.check_cells()?;
    let mut tables = BTreeMap::new();
    let mut add = |name: &str, rows: Value| drop(tables.insert(name.to_owned(), rows));
    add("graph.json", pack.graph());
    add("training_sets.json", pack.training_sets());
    add("column_edges.json", pack.column_edges()?);
    add("definitions.json", pack.definitions()?);
    add("runs.json", pack.runs());
    add("models.json", pack.models());
    add("aliases.json", pack.aliases());
    add("deployments.json", pack.deployments());
    add("verifications.json", pack.verifications());
    let files = pack.files().await?;
    add("files.json", files);
    let subjects = pack.subjects()?;
    let start = pack.scope.start;
    let node = pack.scope.graph.node(start);
    let label = pack.scope.graph.label(start).into_owned();
    let about = (node.kind().to_owned(), node.to_string(), label);
    Ok(Contents { about, subjects, tables, objects: pack.objects.read })
}

struct Objects<'a> {
    source: Source<'a>,
    read: BTreeMap<String, Bytes>,
}

impl Objects<'_> {
    /// The bytes of an object, checked against the digest that an entry holds.
    async fn get(&mut self, object: &Object) -> Result<Bytes> {
        if let Some(bytes) = self.read.get(&object.path) {
            return Ok(bytes.clone());
        }
        let bytes = match &self.source {
            Source::Store(catalog) => {
                if catalog.in_force(object) != *object {
                    let why = format!(
                        "something of `{}` was erased, so that it is not what the log vouches for; no pack of evidence can be made of it any more \
                         (`SELECT * FROM lineament.erasures`)",
                        object.path
                    );
                    return Err(Error::new(Kind::Invalid, why));
                }
                catalog.object(object).await?
            }
            Source::Pack(files) => {
                let name = packed(&object.path);
                let Some(bytes) = files.get(&name) else {
                    return Err(damaged(format!("`{name}` is missing, and the log refers to it")));
                };
                if hash(object.digest.algorithm(), bytes) != object.digest {
                    let why = format!("`{name}` was altered: it does not give the digest that the log holds");
                    return Err(damaged(why));
                }
                Bytes::copy_from_slice(bytes)
            }
        };
        self.read.insert(object.path.clone(), bytes.clone());
        Ok(bytes)
    }
}

/// The part of the graph that leads to the subject, and what came of it.
struct Scope {
    graph: Graph,
    start: u32,
    places: BTreeSet<u32>,
    manifests: BTreeMap<TrainingSetId, Manifest>,
}

impl Scope {
    async fn find(state: &State, about: &Node, objects: &mut Objects<'_>) -> Result<Self> {
        let mut manifests: BTreeMap<TrainingSetId, Manifest> = BTreeMap::new();
        // The entries of old sets leave to the manifest what these were selected from; only those in scope are read.
        let mut selected: HashMap<TrainingSetId, Vec<Selected>> = HashMap::new();
        loop {
            let graph = Graph::of(state, state.head.sequence, &selected);
            let Some(start) = graph.place(about) else {
                let why = format!("there is no {} {about} in the log", about.kind().replace('_', " "));
                return Err(Error::new(Kind::NotFound, why));
            };
            let places = places(&graph, start);
            let sets = places.iter().filter_map(|place| match graph.node(*place) {
                Node::TrainingSet(id) => Some(*id),
                _ => None,
            });
            let unread: Vec<TrainingSetId> = sets.filter(|id| !manifests.contains_key(id)).collect();
            if unread.is_empty() {
                return Ok(Self { graph, start, places, manifests });
            }
            for id in unread {
                let manifest = manifest(state, id, objects).await?;
                if state.training_set(id).is_some_and(|set| set.record.selected.is_none()) {
                    selected.insert(id, crate::historical::selected(&manifest));
                }
                manifests.insert(id, manifest);
            }
        }
    }

    fn nodes(&self) -> impl Iterator<Item = (&Node, Cow<'_, str>)> {
        let node = |place: &u32| (self.graph.node(*place), self.graph.label(*place));
        let mut nodes: Vec<_> = self.places.iter().map(node).collect();
        nodes.sort();
        nodes.into_iter()
    }

    fn has(&self, node: &Node) -> bool {
        self.graph.place(node).is_some_and(|place| self.places.contains(&place))
    }
}

fn places(graph: &Graph, start: u32) -> BTreeSet<u32> {
    let mut places = BTreeSet::new();
    for direction in [Direction::Up, Direction::Down] {
        let walk = graph.walk(start, direction, u32::MAX, usize::MAX);
        places.extend(walk.steps.iter().map(|step| step.place));
    }
    // Where things belong: a run to its experiment, a batch to the version that it was written under.
    let belongs = |relation| matches!(relation, Relation::PartOf | Relation::Belongs);
    let mut open: Vec<u32> = places.iter().copied().collect();
    while let Some(place) = open.pop() {
        for edge in graph.leaving(place).iter().filter(|edge| belongs(edge.relation)) {
            if places.insert(edge.to) {
                open.push(edge.to);
            }
        }
    }
    places
}

/// The manifest of a set, which must say what the log says.
async fn manifest(state: &State, id: TrainingSetId, objects: &mut Objects<'_>) -> Result<Manifest> {
    let Some(set) = state.training_set(id) else {
        return Err(Error::new(Kind::NotFound, format!("there is no training set {id} in the log")));
    };
    let record = &set.record;
    let path = &record.manifest.path;
    let bytes = objects.get(&record.manifest).await?;
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|error| damaged(format!("`{path}`: {error}")))?;
    let says = [
        ("id", manifest.id.to_string(), id.to_string()),
        ("digest", manifest.digest.clone(), record.digest.clone()),
        ("rows", manifest.rows.to_string(), record.rows.to_string()),
        ("sequence", manifest.sequence.to_string(), record.sequence.to_string()),
    ];
    for (what, found, logged) in says {
        if found != logged {
            let entry = set.by.sequence;
            return Err(damaged(format!("`{path}` has {what} {found}, and log entry {entry} says {logged}")));
        }
    }
    Ok(manifest)
}

struct Pack<'a> {
    state: &'a State,
    scope: Scope,
    objects: Objects<'a>,
    /// Parameters, metrics, tags and names of sources, by the path of the object.
    bodies: BTreeMap<String, Value>,
}

impl Pack<'_> {
    fn at(&self) -> Sequence {
        self.state.head.sequence
    }

    /// Every batch that counted for a set of the pack, whether a cell came from it or not.
    fn batches(&self) -> BTreeSet<BatchId> {
        let of_set = |manifest: &Manifest| -> Vec<BatchId> {
            manifest.views.iter().flat_map(|view| view.batches.iter().copied()).collect()
        };
        let counted = self.scope.manifests.values().flat_map(of_set);
        let in_graph = self.scope.places.iter().filter_map(|place| match self.scope.graph.node(*place) {
            Node::Batch(id) => Some(*id),
            _ => None,
        });
        counted.chain(in_graph).collect()
    }

    fn batch(&self, id: BatchId) -> Result<&Batch> {
        let batch = self.state.batch(id).map(AsRef::as_ref);
        batch.ok_or_else(|| damaged(format!("a manifest names the batch {id}, which the log does not know")))
    }

    async fn read_bodies(&mut self) -> Result<()> {
        let registry = self.state.registry();
        let at = self.at();
        let mut wanted: Vec<Object> = Vec::new();
        for (node, _) in self.scope.nodes() {
            let body = match node {
                Node::Run(id) => registry.run_at(*id, at).and_then(|now| now.body),
                Node::Experiment(id) => registry.experiment_at(*id, at).and_then(|now| now.body),
                Node::ModelVersion(id) => registry.model_version_at(*id, at).and_then(|now| now.body),
                _ => None,
            };
            wanted.extend(body);
        }
        for id in self.batches() {
            wanted.extend(self.batch(id)?.record.body.clone());
        }
        for object in wanted {
            let bytes = self.objects.get(&object).await?;
            let body = serde_json::from_slice(&bytes)
                .map_err(|error| damaged(format!("`{}`: {error}", object.path)))?;
            self.bodies.insert(object.path, body);
        }
        Ok(())
    }

    fn body(&self, object: Option<&Object>) -> Value {
        object.and_then(|object| self.bodies.get(&object.path)).cloned().unwrap_or(Value::Null)
    }

    /// The graph has the log's word for how many cells came from a batch; the manifests must have the same.
    fn check_cells(&self) -> Result<()> {
        for (id, manifest) in &self.scope.manifests {
            let graph = &self.scope.graph;
            let Some(place) = graph.place(&Node::TrainingSet(*id)) else { continue };
            let mut drawn: BTreeMap<(String, String), u64> = BTreeMap::new();
            for edge in graph.reaching(place).filter(|edge| edge.relation == Relation::Hit) {
                let ends = (graph.node(edge.selected).to_string(), graph.node(edge.from).to_string());
                *drawn.entry(ends).or_default() += edge.cells();
            }
            let mut stated: BTreeMap<(String, String), u64> = BTreeMap::new();
            for view in &manifest.views {
                let of_view =
                    |reference: &&lineage::manifest::ReferenceManifest| reference.version == view.version;
                let columns = manifest.references.iter().filter(of_view).count() as u64;
                for hit in &view.hits {
                    let ends = (view.version.to_string(), hit.batch.to_string());
                    *stated.entry(ends).or_default() += hit.rows * columns;
                }
            }
            let ends: BTreeSet<_> = drawn.keys().chain(stated.keys()).collect();
            for end in ends {
                let (in_log, in_manifest) = (drawn.get(end).copied(), stated.get(end).copied());
                if in_log != in_manifest {
                    return Err(damaged(format!(
                        "the manifest of the training set {id} has {} cells from the batch {}, and the log has {}",
                        in_manifest.unwrap_or(0),
                        end.1,
                        in_log.unwrap_or(0)
                    )));
                }
            }
        }
        Ok(())
    }

    fn graph(&self) -> Value {
        let graph = &self.scope.graph;
        let nodes: Vec<Value> = self
            .scope
            .nodes()
            .map(|(node, label)| json!({ "kind": node.kind(), "id": node.to_string(), "label": label }))
            .collect();
        let mut edges = Vec::new();
        for place in &self.scope.places {
            for edge in graph.leaving(*place).iter().filter(|edge| self.scope.places.contains(&edge.to)) {
                let hit = (edge.relation == Relation::Hit).then_some(edge);
                let used = (edge.relation == Relation::Used).then_some(edge.role);
                let (from, to) = (graph.node(edge.from), graph.node(edge.to));
                let row = json!({
                    "edge": edge.relation.name(),
                    "from_kind": from.kind(), "from": from.to_string(),
                    "to_kind": to.kind(), "to": to.to_string(),
                    "role": used,
                    "selected": hit.map(|edge| graph.node(edge.selected).to_string()),
                    "rows": hit.map(|edge| edge.rows),
                    "cells": hit.map(lineage::graph::Edge::cells),
                    "sequence": edge.sequence,
                });
                edges.push((edge.relation.name(), from, to, edge.sequence, row.to_string(), row));
            }
        }
        edges.sort_by(|one, other| {
            (one.0, one.1, one.2, one.3, &one.4).cmp(&(other.0, other.1, other.2, other.3, &other.4))
        });
        let edges: Vec<Value> = edges.into_iter().map(|edge| edge.5).collect();
        json!({ "sequence": self.at(), "nodes": nodes, "edges": edges })
    }

    fn training_sets(&self) -> Value {
        let row = |(id, manifest): (&TrainingSetId, &Manifest)| {
            let set = self.state.training_set(*id)?;
            Some(json!({
                "training_set": id,
                "name": set.record.name,
                "snapshot": set.record.sequence,
                "rows": set.record.rows,
                "columns": set.record.columns,
                "digest": set.record.digest,
                "manifest": packed(&set.record.manifest.path),
                "spine": { "path": manifest.spine.object.path, "bytes": manifest.spine.object.bytes,
                           "object_digest": manifest.spine.object.digest, "digest": manifest.spine.digest },
                "by": by(&set.by),
            }))
        };
        self.scope.manifests.iter().filter_map(row).collect()
    }

    fn column_edges(&self) -> Result<Value> {
        let mut rows = Vec::new();
        for (id, manifest) in &self.scope.manifests {
            for edge in &manifest.lineage {
                let edge = serde_json::to_value(edge)
                    .map_err(|error| Error::internal("an edge cannot be written", error))?;
                rows.push(json!({ "training_set": id, "edge": edge }));
            }
        }
        Ok(rows.into())
    }

    fn definitions(&self) -> Result<Value> {
        let mut versions: Vec<&ViewVersion> = Vec::new();
        for (node, _) in self.scope.nodes() {
            if let Node::ViewVersion(id) = node {
                versions.extend(self.state.view_version(*id));
            }
        }
        versions.sort_by_key(|version| (version.label(), version.version));
        let mut rows = Vec::new();
        for version in versions {
            let found = canonical::digest(&*version.definition);
            if found != version.digest {
                return Err(damaged(format!(
                    "the definition of {} gives {found}, and log entry {} says {}",
                    version.label(),
                    version.by.sequence,
                    version.digest
                )));
            }
            rows.push(json!({
                "view_version": version.label(),
                "id": version.version,
                "line": version.line,
                "digest": version.digest,
                "definition": Definition::FeatureView((*version.definition).clone()).to_json(),
                "entity": Definition::Entity((*version.entity).clone()).to_json(),
                "by": by(&version.by),
            }));
        }
        Ok(rows.into())
    }

    async fn files(&mut self) -> Result<Value> {
        let mut rows = Vec::new();
        let mut batches =
            self.batches().into_iter().map(|id| self.batch(id).cloned()).collect::<Result<Vec<_>>>()?;
        batches.sort_by_key(|batch| (batch.by.sequence, batch.record.batch));
        for batch in batches {
            let record = &batch.record;
            let bytes = self.objects.get(&record.manifest).await?;
            let files =
                storage::manifest::decode(&record.manifest.path, &bytes).map_err(catalog::Error::from)?;
            let listed: Vec<Value> = files
                .iter()
                .map(|file| json!({ "path": file.path, "rows": file.rows, "bytes": file.bytes, "digest": file.digest }))
                .collect();
            let version = self.state.view_version(record.version).map(ViewVersion::label);
            rows.push(json!({
                "batch": record.batch,
                "view_version": version,
                "rows": record.rows,
                "known_at": record.known_at,
                "digest": record.digest,
                "manifest": packed(&record.manifest.path),
                "files": listed,
                "sources": record.sources,
                "origin": self.body(record.body.as_ref()),
                "by": by(&batch.by),
            }));
        }
        Ok(rows.into())
    }

    fn runs(&self) -> Value {
        let registry = self.state.registry();
        let external = |id: &dyn Fn() -> Option<Value>| id().unwrap_or(Value::Null);
        let (mut runs, mut experiments) = (Vec::new(), Vec::new());
        for (node, _) in self.scope.nodes() {
            match node {
                Node::Run(id) => {
                    let now = registry.run_at(*id, self.at()).unwrap_or_default();
                    runs.push(json!({
                        "run": id,
                        "external": external(&|| registry.external(*id).map(external_id)),
                        "name": now.name,
                        "experiment": now.experiment,
                        "parent": now.parent,
                        "status": now.status,
                        "lifecycle": now.lifecycle,
                        "started_at": now.started_at.map(instant),
                        "ended_at": now.ended_at.map(instant),
                        "body": self.body(now.body.as_ref()),
                    }));
                }
                Node::Experiment(id) => {
                    let now = registry.experiment_at(*id, self.at()).unwrap_or_default();
                    experiments.push(json!({
                        "experiment": id,
                        "external": external(&|| registry.external(*id).map(external_id)),
                        "name": now.name,
                        "hypothesis": now.hypothesis,
                        "owner": now.owner,
                        "lifecycle": now.lifecycle,
                        "body": self.body(now.body.as_ref()),
                    }));
                }
                _ => {}
            }
        }
        let uses = registry.uses().iter().filter(|noted| {
            self.scope.has(&Node::TrainingSet(noted.record.training_set))
                && self.scope.has(&Node::Run(noted.record.run))
        });
        let uses: Vec<Value> = uses
            .map(|noted| {
                let used = &noted.record;
                json!({ "training_set": used.training_set, "run": used.run, "role": used.role, "how": used.how,
                        "by": by(&noted.by) })
            })
            .collect();
        json!({ "experiments": experiments, "runs": runs, "uses": uses })
    }

    fn model_version(&self, id: ModelVersionId, now: &ModelVersionNow) -> Value {
        let registry = self.state.registry();
        json!({
            "model_version": id,
            "external": registry.external(id).map(external_id),
            "model": registry.model_at(now.model, self.at()).map(|model| model.name),
            "version": now.version,
            "run": now.run,
            "created_at": now.created_at.map(instant),
            "status": now.status,
            "lifecycle": now.lifecycle,
            "body": self.body(now.body.as_ref()),
        })
    }

    fn model_versions(&self) -> impl Iterator<Item = (ModelVersionId, ModelVersionNow, Cow<'_, str>)> {
        self.scope.nodes().filter_map(|(node, label)| match node {
            Node::ModelVersion(id) => {
                let now = self.state.registry().model_version_at(*id, self.at())?;
                Some((*id, now, label))
            }
            _ => None,
        })
    }

    fn models(&self) -> Value {
        self.model_versions().map(|(id, now, _)| self.model_version(id, &now)).collect()
    }

    /// Every move of every alias of the pack's models. A move was after `not_before` and not later than `seen_at`.
    fn aliases(&self) -> Value {
        let registry = self.state.registry();
        let moves = registry.aliases();
        let ours = |noted: &&Noted<catalog::records::AliasObserved>| {
            self.scope.has(&Node::Model(noted.record.model))
        };
        let row = |noted: &Noted<catalog::records::AliasObserved>| {
            let moved = &noted.record;
            let next = moves.iter().find(|later| {
                later.by.sequence > noted.by.sequence
                    && later.record.model == moved.model
                    && later.record.alias == moved.alias
            });
            json!({
                "model": registry.model_at(moved.model, self.at()).map(|model| model.name),
                "alias": moved.alias,
                "model_version": moved.model_version,
                "not_before": moved.previous_seen_at.map(instant),
                "seen_at": instant(moved.seen_at),
                "until_not_before": next.and_then(|next| next.record.previous_seen_at).map(instant),
                "until_seen_at": next.map(|next| instant(next.record.seen_at)),
                "by": by(&noted.by),
            })
        };
        moves.iter().filter(ours).map(row).collect()
    }

    /// Every change of every deployment that ever served a model version of the pack.
    fn deployments(&self) -> Value {
        let served = |noted: &Noted<catalog::records::DeploymentChanged>| {
            noted.record.model_version.is_some_and(|version| self.scope.has(&Node::ModelVersion(version)))
        };
        let mut rows = Vec::new();
        for (id, changes) in self.state.registry().deployments() {
            let Some(first) = changes.first().filter(|_| changes.iter().any(served)) else { continue };
            let untils = changes.iter().skip(1).map(|next| Some(instant(next.record.from))).chain([None]);
            let changes: Vec<Value> = changes
                .iter()
                .zip(untils)
                .map(|(noted, until)| {
                    let change = &noted.record;
                    json!({ "model_version": change.model_version, "from": instant(change.from), "until": until,
                            "evidence": change.evidence, "service": change.service, "endpoint": change.endpoint,
                            "by": by(&noted.by) })
                })
                .collect();
            let (name, environment) = (&first.record.name, &first.record.environment);
            rows.push(
                json!({ "deployment": id, "name": name, "environment": environment, "changes": changes }),
            );
        }
        rows.into()
    }

    fn verifications(&self) -> Value {
        let ours = self
            .state
            .verifications()
            .iter()
            .filter(|verified| self.scope.manifests.contains_key(&verified.record.training_set));
        ours.map(|verified| {
            let record = &verified.record;
            json!({ "training_set": record.training_set, "verdict": record.verdict, "digest": record.digest,
                    "at": instant(record.at), "by": by(&verified.by) })
        })
        .collect()
    }

    /// The training sets that the model's run used, or the one that is asked for; and the model version.
    fn subjects(&self) -> Result<Vec<Subject>> {
        let graph = &self.scope.graph;
        let mut subjects = Vec::new();
        let mut sets = BTreeSet::new();
        match graph.node(self.scope.start) {
            Node::TrainingSet(id) => drop(sets.insert(*id)),
            Node::ModelVersion(id) => {
                let produced = |edge: &&lineage::graph::Edge| edge.relation == Relation::Produced;
                for run in graph.reaching(self.scope.start).filter(produced).map(|edge| edge.from) {
                    for used in graph.reaching(run).filter(|edge| edge.relation == Relation::Used) {
                        if let Node::TrainingSet(id) = graph.node(used.from) {
                            sets.insert(*id);
                        }
                    }
                }
                let label = graph.label(self.scope.start);
                if sets.is_empty() {
                    return Err(Error::new(
                        Kind::Invalid,
                        format!(
                            "no training set leads to the model version {label}: name its run (`lineament model {label} --run …`), and what that used (`lineament use TRAINING_SET --run …`)"
                        ),
                    ));
                }
                for (version, now, label) in self.model_versions().filter(|(version, ..)| version == id) {
                    let record = self.model_version(version, &now).to_string();
                    subjects.push(Subject::model_version(&label, record.as_bytes()));
                }
            }
            other => {
                return Err(Error::new(
                    Kind::Invalid,
                    format!(
                        "`{}` is a {}; evidence is of a model version (delay/3, delay@champion) or of a training set",
                        graph.label(self.scope.start),
                        other.kind().replace('_', " ")
                    ),
                ));
            }
        }
        for id in sets {
            let Some(manifest) = self.scope.manifests.get(&id) else { continue };
            let digest: ContentDigest = manifest
                .digest
                .parse()
                .map_err(|error| damaged(format!("the manifest of the training set {id}: {error}")))?;
            subjects.push(Subject::training_set(id, &digest));
        }
        Ok(subjects)
    }
}

fn damaged(why: impl Into<String>) -> Error {
    Error::new(Kind::Damaged, why)
}

fn instant(time: Timestamp) -> String {
    time.to_string()
}

fn by(by: &Provenance) -> Value {
    json!({
        "sequence": by.sequence,
        "committed_at": instant(by.committed_at),
        "principal": by.principal,
        "program": by.program,
        "run": by.run,
        "experiment": by.experiment,
    })
}

fn external_id(external: &catalog::external::External) -> Value {
    json!({ "system": external.system, "authority": external.authority, "id": external.id })
}

/// A table as a file: one way to write it, so that equal stores give equal bytes.
pub fn written(table: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(table)
        .map_err(|error| Error::internal("a table of the pack cannot be written", error))?;
    bytes.push(b'\n');
    Ok(bytes)
}
