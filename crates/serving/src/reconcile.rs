//! Reconciliation: that everything which training sets, runs, models and deployments refer to is there, and is what it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Instant;

use async_recursion::async_recursion;
use catalog::State;
use catalog::records::Object;
use catalog::state::{Batch, Run, TrainingSet};
use feature::{BatchId, Sequence, Timestamp, VersionId};
use futures::StreamExt;
use lineage::dangling::Standing;
use lineage::graph::Node;
use lineage::{Blocks, Dangling, Graph, Manifest, dangling};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::Serialize;
use storage::manifest::DataFile;

use crate::error::{Error, Kind, Result};
use crate::retrieve::Serving;
use crate::whole_files;

/// Objects that are asked for at a time.
const AT_A_TIME: usize = 16;

/// What a pass over a store found.
#[derive(Clone, Debug, Serialize)]
pub struct ReconcileReport {
    pub sequence: Sequence,
    /// RFC 3339.
    pub at: String,
    /// Whether bytes were compared with digests, or only sizes.
    pub deep: bool,
    /// Objects that were looked at, and their bytes.
    pub objects: u64,
    pub bytes: u64,
    /// How many of the problems are of objects and batches that are gone or altered.
    pub broken: u64,
    /// Worst first: what is deployed.
    pub problems: Vec<Problem>,
    pub seconds: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    pub kind: &'static str,
    pub id: String,
    pub problem: String,
    /// RFC 3339; none where it is not known since when.
    pub since: Option<String>,
    /// `deployment`, `model_version` or `training_set`: the worst that stands on it.
    pub blocks: Option<String>,
    /// Whether a link was never made, rather than leads to what is gone.
    #[serde(skip)]
    pub unlinked: bool,
}

impl ReconcileReport {
    /// Problems that a deployment in force stands on.
    pub fn deployed(&self) -> usize {
        let deployed = Blocks::Deployment.to_string();
        self.problems.iter().filter(|problem| problem.blocks.as_deref() == Some(&deployed)).count()
    }
}

/// What is kept of the last pass of this process, for its status.
#[derive(Clone, Debug, Serialize)]
pub struct LastReconciliation {
    pub at: String,
    pub sequence: Sequence,
    pub deep: bool,
    pub objects: u64,
    pub broken: u64,
    pub problems: usize,
    /// Those that a deployment in force stands on.
    pub deployed: usize,
}

impl Serving {
    /// Goes over all that training sets, runs, models and deployments refer to. Objects are asked for with their sizes; `deep` reads
    /// them and compares digests. What dangles by the log alone is told beside it (`lineament.dangling`).
    ///
    /// # Errors
    /// Where the log cannot be read, or the store does not answer. What is missing or altered is no error but what was looked for.
    #[async_recursion]
    pub async fn reconcile(&self, deep: bool) -> Result<ReconcileReport> {
        let started = Instant::now();
        let state = self.catalog().refresh().await?;
        let mut pass = Pass::new(self, &state);
        // Manifests of sets come first: without them some entries do not say what a set was selected from.
        pass.training_sets().await?;
        let graph = Graph::of(&state, state.head.sequence, &pass.selected);
        pass.bodies();
        pass.batches().await?;
        pass.look(deep).await?;
        let mut found = dangling(&state, &graph);
        let standing = Standing::of(&graph);
        let broken = pass.wrong.len() as u64;
        found.extend(pass.wrong.into_iter().map(|wrong| Dangling {
            kind: wrong.kind,
            id: wrong.id,
            problem: wrong.problem,
            since: None,
            blocks: wrong.owners.iter().filter_map(|owner| standing.on(&graph, owner)).min(),
            unlinked: false,
        }));
        found.extend(self.doubtful_deprecations(&state, &graph, &standing).await?);
        Dangling::sort(&mut found);
        let report = ReconcileReport {
            sequence: state.head.sequence,
            at: self.catalog().store().clock().now().to_string(),
            deep,
            objects: pass.objects,
            bytes: pass.bytes,
            broken,
            problems: found.into_iter().map(Problem::from).collect(),
            seconds: started.elapsed().as_secs_f64(),
        };
        let last = LastReconciliation {
            at: report.at.clone(),
            sequence: report.sequence,
            deep,
            objects: report.objects,
            broken,
            problems: report.problems.len(),
            deployed: report.deployed(),
        };
        *self.reconciled.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
        Ok(report)
    }

    /// The last pass of this process; none before the first.
    pub fn last_reconciliation(&self) -> Option<LastReconciliation> {
        self.reconciled.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl From<Dangling> for Problem {
    fn from(dangling: Dangling) -> Self {
        let Dangling { kind, id, problem, since, blocks, unlinked } = dangling;
        let since = since.map(|since: Timestamp| since.to_string());
        Self { kind, id, problem, since, blocks: blocks.map(|blocks| blocks.to_string()), unlinked }
    }
}

/// An object that must be there, and the nodes that need it.
struct Needed {
    kind: &'static str,
    what: What,
    owners: BTreeSet<Node>,
}

#[derive(Clone)]
enum What {
    Object(Object),
    File(DataFile),
}

struct Wrong {
    kind: &'static str,
    id: String,
    problem: String,
    owners: BTreeSet<Node>,
}

struct Pass<'a> {
    serving: &'a Serving,
    state: &'a State,
    selected: std::collections::HashMap<feature::TrainingSetId, Vec<catalog::records::Selected>>,
    /// By path.
    needed: BTreeMap<String, Needed>,
    /// Batches that something refers to.
    referred: BTreeMap<BatchId, BTreeSet<Node>>,
    wrong: Vec<Wrong>,
    objects: u64,
    bytes: u64,
}

impl<'a> Pass<'a> {
    fn new(serving: &'a Serving, state: &'a State) -> Self {
        Self {
            serving,
            state,
            selected: Default::default(),
            needed: BTreeMap::new(),
            referred: BTreeMap::new(),
            wrong: Vec::new(),
            objects: 0,
            bytes: 0,
        }
    }

    fn need(&mut self, kind: &'static str, path: &str, what: What, owners: impl IntoIterator<Item = Node>) {
        let needed = self.needed.entry(path.to_owned());
        needed.or_insert_with(|| Needed { kind, what, owners: BTreeSet::new() }).owners.extend(owners);
    }

    fn need_object(&mut self, kind: &'static str, object: &Object, owners: impl IntoIterator<Item = Node>) {
        self.need(kind, &object.path, What::Object(object.clone()), owners);
    }

    fn is_wrong(&mut self, kind: &'static str, id: &str, owners: &BTreeSet<Node>, problem: String) {
        let (id, owners) = (id.to_owned(), owners.clone());
        self.wrong.push(Wrong { kind, id, problem, owners });
    }

    /// Reads the manifest of every set, and notes what it refers to.
    async fn training_sets(&mut self) -> Result<()> {
        let catalog = self.serving.catalog().clone();
        let sets: Vec<TrainingSet> = self.state.training_sets().cloned().collect();
        let mut read = futures::stream::iter(sets)
            .map(|set| {
                let catalog = catalog.clone();
                async move {
                    let bytes = catalog.object(&set.record.manifest).await;
                    (set, bytes)
                }
            })
            .buffered(AT_A_TIME);
        while let Some((set, bytes)) = read.next().await {
            let record = &set.record;
            let path = record.manifest.path.as_str();
            let owners = BTreeSet::from([Node::TrainingSet(record.training_set)]);
            self.objects += 1;
            let bytes = match bytes {
                Ok(bytes) => bytes,
                Err(error) => {
                    let problem = damage(error.into())?;
                    self.is_wrong("manifest", path, &owners, problem);
                    continue;
                }
            };
            self.bytes += bytes.len() as u64;
            let manifest: Manifest = match serde_json::from_slice(&bytes) {
                Ok(manifest) => manifest,
                Err(error) => {
                    self.is_wrong("manifest", path, &owners, format!("it cannot be read: {error}"));
                    continue;
                }
            };
            // One that lost rows says what is left.
            let erased = self.state.erasures().of_set(record.training_set).next().is_some();
            if (!erased && manifest.digest != record.digest) || manifest.rows != record.rows {
                let entry = set.by.sequence;
                let why = format!("its digest or rows are not those of log entry {entry}");
                self.is_wrong("manifest", path, &owners, why);
            }
            self.need_object("spine", &manifest.spine.object, owners.clone());
            for batch in manifest.views.iter().flat_map(|view| &view.batches) {
                self.referred.entry(*batch).or_default().extend(owners.clone());
            }
            if record.selected.is_none() {
                self.selected.insert(record.training_set, crate::historical::selected(&manifest));
            }
        }
        Ok(())
    }

    /// What runs, experiments and model versions left beside the log.
    fn bodies(&mut self) {
        let (registry, at) = (self.state.registry(), self.state.head.sequence);
        let mut found: Vec<(Object, Node)> = Vec::new();
        for (id, _) in registry.runs() {
            found.extend(registry.run_at(id, at).and_then(|now| now.body).map(|body| (body, Node::Run(id))));
        }
        for (id, _) in registry.experiments() {
            let body = registry.experiment_at(id, at).and_then(|now| now.body);
            found.extend(body.map(|body| (body, Node::Experiment(id))));
        }
        for (id, _) in registry.model_versions() {
            let body = registry.model_version_at(id, at).and_then(|now| now.body);
            found.extend(body.map(|body| (body, Node::ModelVersion(id))));
        }
        for (body, owner) in found {
            self.need_object("body", &body, [owner]);
        }
    }

    /// Batches that a set counted or a run wrote: their manifests, files and bodies.
    async fn batches(&mut self) -> Result<()> {
        let mut batches: Vec<(Batch, BTreeSet<Node>)> = Vec::new();
        for (id, owners) in std::mem::take(&mut self.referred) {
            match self.state.batch(id) {
                Some(batch) => batches.push(((**batch).clone(), owners)),
                None => self.is_wrong("batch", &id.to_string(), &owners, "it is not in the log".to_owned()),
            }
        }
        let known: BTreeSet<BatchId> = batches.iter().map(|(batch, _)| batch.record.batch).collect();
        for batch in self.state.batches() {
            let of_run = batch.by.run.as_deref().and_then(|run| self.state.registry().run(run));
            if let Some(run) = of_run.filter(|_| !known.contains(&batch.record.batch)) {
                batches.push(((**batch).clone(), BTreeSet::from([Node::Run(run)])));
            }
        }
        let moved = self.runs(&batches).await?;
        let catalog = self.serving.catalog().clone();
        let mut read = futures::stream::iter(batches)
            .map(|(batch, owners)| {
                let catalog = catalog.clone();
                async move {
                    // Not from what this process has read before: it is asked whether it is there now.
                    let bytes = catalog.object(&batch.record.manifest).await;
                    let path = &batch.record.manifest.path;
                    let files = bytes.and_then(|bytes| Ok(storage::manifest::decode(path, &bytes)?));
                    (batch, owners, files)
                }
            })
            .buffered(AT_A_TIME);
        while let Some((batch, owners, files)) = read.next().await {
            let record = &batch.record;
            self.objects += 1;
            self.bytes += record.manifest.bytes;
            let owners: BTreeSet<Node> = owners.into_iter().chain([Node::Batch(record.batch)]).collect();
            if let Some(body) = &record.body {
                self.need_object("body", body, owners.clone());
            }
            // What was first written may be swept where its rows lie in other files; what tells of it stays.
            let files = if moved.contains(&record.batch) { files.map(|_| Vec::new()) } else { files };
            self.need_files(&record.manifest, files, &owners)?;
        }
        Ok(())
    }

    /// The files that a manifest names, if it can be read.
    fn need_files(
        &mut self,
        manifest: &Object,
        files: catalog::Result<Vec<DataFile>>,
        owners: &BTreeSet<Node>,
    ) -> Result<()> {
        match files {
            Ok(files) => {
                let state = self.state;
                for file in files.into_iter().filter(|file| !state.expiry().is_gone(file)) {
                    let path = file.path.clone();
                    self.need("data_file", &path, What::File(file), owners.clone());
                }
            }
            Err(error) => self.is_wrong("manifest", &manifest.path, owners, damage(error.into())?),
        }
        Ok(())
    }

    /// The files that some of these batches were written into since; gives those.
    async fn runs(&mut self, batches: &[(Batch, BTreeSet<Node>)]) -> Result<BTreeSet<BatchId>> {
        let mut moved = BTreeSet::new();
        let wanted: BTreeMap<BatchId, &BTreeSet<Node>> =
            batches.iter().map(|(batch, owners)| (batch.record.batch, owners)).collect();
        let catalog = self.serving.catalog().clone();
        let lines: BTreeSet<VersionId> = batches.iter().map(|(batch, _)| batch.line).collect();
        let state = self.state;
        for run in lines.into_iter().flat_map(|line| state.runs_of_line(line)) {
            let Run::Compacted(compaction, held) = run else { continue };
            let held = held.iter().map(|batch| batch.record.batch).filter(|batch| wanted.contains_key(batch));
            moved.extend(held.clone());
            let owners: BTreeSet<Node> =
                held.flat_map(|batch| wanted[&batch].iter().cloned().chain([Node::Batch(batch)])).collect();
            if owners.is_empty() {
                continue;
            }
            let manifest = &compaction.record.manifest;
            self.objects += 1;
            self.bytes += manifest.bytes;
            let bytes = catalog.object(manifest).await;
            let files = bytes.and_then(|bytes| Ok(storage::manifest::decode(&manifest.path, &bytes)?));
            self.need_files(manifest, files, &owners)?;
        }
        Ok(moved)
    }

    /// Asks for every object that is needed.
    async fn look(&mut self, deep: bool) -> Result<()> {
        let serving = self.serving.clone();
        let needed = std::mem::take(&mut self.needed);
        let mut looked = futures::stream::iter(needed)
            .map(|(path, needed)| {
                let serving = serving.clone();
                async move {
                    let found = look_at(&serving, &path, &needed.what, deep).await;
                    (path, needed, found)
                }
            })
            .buffered(AT_A_TIME);
        while let Some((path, needed, found)) = looked.next().await {
            self.objects += 1;
            match found {
                Ok(bytes) => self.bytes += bytes,
                Err(error) => {
                    let problem = damage(error)?;
                    self.is_wrong(needed.kind, &path, &needed.owners, problem);
                }
            }
        }
        Ok(())
    }
}

async fn look_at(serving: &Serving, path: &str, what: &What, deep: bool) -> Result<u64> {
    let catalog = serving.catalog();
    match what {
        What::File(file) if deep => {
            whole_files::check(catalog, file).await?;
            Ok(file.bytes)
        }
        What::Object(object) if deep => Ok(catalog.object(object).await?.len() as u64),
        What::File(DataFile { bytes, .. }) | What::Object(Object { bytes, .. }) => {
            let found = catalog.store().objects().head(&Path::from(path)).await;
            let found = found.map_err(|error| catalog::Error::from(storage::Error::from(error)))?.size;
            if found == *bytes {
                return Ok(found);
            }
            Err(Error::new(Kind::Damaged, format!("it has {found} bytes, and {bytes} are on record")))
        }
    }
}

/// Damage is what a pass looks for; any other error ends it.
fn damage(error: Error) -> Result<String> {
    match error.kind() {
        Kind::Damaged => Ok(error.to_string()),
        _ => Err(error),
    }
}
