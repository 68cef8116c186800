//! The gate: every read of features passes [`Serving::retrieve`] or what stands on the same session.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use async_recursion::async_recursion;
use catalog::ingest::stream::{StreamSettings, Streams};
use catalog::plan::{Applied, Plan};
use catalog::{Author, CacheUse, Catalog};
use datafusion::logical_expr::LogicalPlan;
use engine::column_lineage::{Refusal, Traced};
use engine::spines;
use engine::{Engine, KeyFiles, Memory, Prepared, Session, SqlConditions};
use feature::definition::{Definitions, parse_files};
use feature::policy::Action;
use feature::{AsOf, ReadId, Sequence, Timestamp};
use futures::{Stream, StreamExt};

use crate::access::Governance;
use crate::deprecation::{DeprecationNotice, Met, Reading};
use crate::error::{Error, Kind, Result};
use crate::evolution::waits_for_approval;
use crate::graph::Graphs;
use crate::reads::{Read, ReadKind, ReadRecords, Reads};
use crate::rebuilt_sets::RebuiltSets;
use crate::reconcile::LastReconciliation;
use crate::registry::Tracked;
use crate::stored_spines::StoredSpines;

/// An open store, ready to answer. Cheap to clone.
#[derive(Clone)]
pub struct Serving {
    pub(crate) engine: Engine,
    pub(crate) reads: Arc<Reads>,
    pub(crate) read_records: ReadRecords,
    pub(crate) graphs: Arc<Graphs>,
    pub(crate) key_files: KeyFiles,
    pub(crate) reconciled: Arc<Mutex<Option<LastReconciliation>>>,
    pub(crate) tracked: Arc<Mutex<Tracked>>,
    pub(crate) rebuilt_sets: RebuiltSets,
    pub(crate) stored_spines: StoredSpines,
    pub(crate) streams: Streams,
    pub(crate) governance: Arc<Governance>,
    pub(crate) opaque: OpaqueReads,
    /// When it was last looked whether something that was deprecated may be withdrawn.
    pub(crate) withdrawals_looked_at: Arc<Mutex<Option<Timestamp>>>,
}

/// What is done with a read whose columns cannot be traced to their sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpaqueReads {
    /// It is answered, and recorded with what stood in the way and with the versions and columns that it read.
    #[default]
    Record,
    /// It is refused before anything is read.
    Refuse,
}

/// Bound parameters of a statement, by name.
pub type Parameters = serde_json::Map<String, serde_json::Value>;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Query {
    text: String,
    parameters: Option<Parameters>,
    /// Spines by the names that the statement has for them.
    spines: BTreeMap<String, String>,
    /// In place of the newest state.
    as_of: Option<AsOf>,
}

impl Query {
    /// A statement that reads.
    pub fn sql(text: impl Into<String>) -> Self {
        Self { text: text.into(), parameters: None, spines: BTreeMap::new(), as_of: None }
    }

    /// With what was bound to the statement's parameters. The text holds the values already; they are recorded beside it.
    pub fn with_parameters(self, parameters: Option<Parameters>) -> Self {
        Self { parameters, ..self }
    }

    /// With tables of its own, `session.{name}`: spines that were ingested, by their digests.
    pub fn with_spines(self, spines: &BTreeMap<String, String>) -> Self {
        // What the statement does not name need not be read.
        let named = |name: &&String| self.text.contains(name.as_str());
        let names = spines.keys().filter(named);
        let spines = names.filter_map(|name| Some((name.clone(), spines.get(name)?.clone()))).collect();
        Self { spines, ..self }
    }

    /// Of the store as it was: definitions, rows and the log. Policies are those of now.
    pub fn with_as_of(self, as_of: Option<AsOf>) -> Self {
        Self { as_of, ..self }
    }

    /// All of a feature view: `weather`, `weather@1`, `fraud.weather`.
    pub fn view(name: &str) -> Self {
        let quoted: Vec<String> =
            name.splitn(2, '.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
        Self::sql(format!("SELECT * FROM {}", quoted.join(".")))
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn as_of(&self) -> Option<AsOf> {
        self.as_of
    }
}

/// What is told of a query before it runs.
#[derive(Clone, Debug)]
pub struct Described {
    pub schema: SchemaRef,
    /// By placeholder, as `$1`; without those whose type the query does not say.
    pub parameters: BTreeMap<String, DataType>,
}

/// Rows on their way out. The read is on record before the stream ends; a stream that ends with an error has failed.
pub struct Retrieval {
    /// The snapshot that is read.
    pub sequence: Sequence,
    pub schema: SchemaRef,
    /// What was read and will go.
    pub deprecations: Vec<DeprecationNotice>,
    pub stream: Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>,
}

/// A retrieval, and the read that it leaves on record.
pub(crate) struct TracedRetrieval {
    pub retrieval: Retrieval,
    pub read: ReadId,
    pub traced: Arc<Traced>,
}

impl Retrieval {
    #[async_recursion]
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        while let Some(batch) = self.stream.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }
}

impl Serving {
    pub fn new(catalog: Catalog) -> Self {
        let graphs = Arc::new(Graphs::default());
        let governance = Arc::new(Governance::default());
        let streams = Streams::new(catalog.clone(), Arc::new(SqlConditions), StreamSettings::default());
        Self {
            engine: Engine::new(catalog).with_lineage(graphs.clone()).with_access(governance.clone()),
            reads: Arc::default(),
            read_records: ReadRecords::default(),
            graphs,
            key_files: KeyFiles::default(),
            reconciled: Arc::default(),
            tracked: Arc::default(),
            rebuilt_sets: RebuiltSets::default(),
            stored_spines: StoredSpines::default(),
            streams,
            governance,
            opaque: OpaqueReads::default(),
            withdrawals_looked_at: Arc::default(),
        }
    }

    /// The same store with another answer to reads that cannot be traced.
    pub fn with_opaque_reads(self, opaque: OpaqueReads) -> Self {
        Self { opaque, ..self }
    }

    /// The same store with reads on record at another time.
    pub fn with_read_records(self, read_records: ReadRecords) -> Self {
        Self { read_records, ..self }
    }

    /// The same store with another limit on memory.
    pub fn with_memory(self, memory: Memory) -> Self {
        Self { engine: self.engine.with_memory(memory), ..self }
    }

    /// What all queries of this process share.
    pub fn memory(&self) -> &Memory {
        self.engine.memory()
    }

    pub fn catalog(&self) -> &Catalog {
        self.engine.catalog()
    }

    /// How the caches of this process are used, by their names.
    pub fn caches(&self) -> [(&'static str, CacheUse); 2] {
        [("footers", self.engine.footer_cache()), ("manifests", self.catalog().manifest_cache())]
    }

    /// The columns that a query would give. Nothing is read.
    #[async_recursion]
    pub async fn describe(&self, query: &Query) -> Result<SchemaRef> {
        let plan = self.plan_alone(query).await?;
        Ok(Arc::new(plan.schema().as_arrow().clone()))
    }

    /// The columns that a query would give, and the types that it wants the parameters to have that are not bound yet. Nothing is read.
    ///
    /// # Errors
    /// Also where it can be planned with its parameters only.
    #[async_recursion]
    pub async fn describe_unbound(&self, query: &Query) -> Result<Described> {
        let plan = self.plan_alone(query).await?;
        let parameters = engine::parameter_types(&plan)?;
        Ok(Described { schema: Arc::new(plan.schema().as_arrow().clone()), parameters })
    }

    /// A query's plan, by nobody: names and types alone are no secret.
    async fn plan_alone(&self, query: &Query) -> Result<LogicalPlan> {
        let snapshot = self.engine.snapshot(None).await?.at(query.as_of)?;
        let session = self.with_spines(self.engine.session(snapshot)?, query).await?;
        Ok(session.plan(&query.text).await?)
    }

    /// Answers a query: plan, stream, record.
    #[async_recursion]
    pub async fn retrieve(&self, query: Query, author: &Author) -> Result<Retrieval> {
        let snapshot = self.snapshot_for(None, author).await?.at(query.as_of)?;
        let session = self.with_spines(self.engine.session(snapshot)?, &query).await?;
        self.retrieve_in(&session, query, author).await
    }

    /// Answers a query in a session that has tables of its own, and so a state of the store.
    #[async_recursion]
    pub async fn retrieve_in(&self, session: &Session, query: Query, author: &Author) -> Result<Retrieval> {
        Ok(self.retrieve_traced(session, query, author).await?.retrieval)
    }

    /// The same, with what its rows are made of.
    #[async_recursion]
    pub(crate) async fn retrieve_traced(
        &self,
        session: &Session,
        query: Query,
        author: &Author,
    ) -> Result<TracedRetrieval> {
        let words = query.text.clone();
        let answer = self.answer(session, query, author);
        self.on_record(author, Action::Read, Some(ReadKind::Sql), || words, answer).await
    }

    async fn answer(&self, session: &Session, query: Query, author: &Author) -> Result<TracedRetrieval> {
        let started = Instant::now();
        let plan = session.plan(&query.text).await?;
        let Prepared { physical, traced } = session.prepare_traced(&plan).await?;
        self.refuse_opaque(&traced)?;
        let versions = traced.scans.iter().map(|scan| scan.version).collect();
        let met = Met { versions, services: &[], reading: Reading::Look };
        let deprecations = self.meet_deprecations(&session.snapshot().state, &met, author).await?;
        // A full queue refuses the read rather than forget it.
        let place = self.reads.reserve(&traced)?;
        let now = self.catalog().store().clock().now();
        let mut read = Read::new(author, session.snapshot().sequence, now, traced.clone());
        let id = read.id;
        read.asked(ReadKind::Sql, query.text);
        read.with_parameters(query.parameters.as_ref());
        let schema = physical.schema();
        let rows = session.run(physical)?;
        let serving = self.clone();
        let mut rows = Box::pin(rows);
        let stream = async_stream(move |mut emit| async move {
            // Also what has not given a row yet ends where nobody waits for it any more.
            while let Some(Some(batch)) = emit.unless_left(rows.next()).await {
                match batch {
                    Ok(batch) => {
                        read.rows += batch.num_rows() as u64;
                        if !emit.send(Ok(batch)).await {
                            break;
                        }
                    }
                    Err(error) => {
                        let error = Error::from(error);
                        read.error = Some(error.to_string());
                        emit.send(Err(error)).await;
                        break;
                    }
                }
            }
            read.micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            if let Err(error) = serving.record_read(place, read).await {
                emit.send(Err(error)).await;
            }
        });
        let retrieval = Retrieval { sequence: session.snapshot().sequence, schema, deprecations, stream };
        Ok(TracedRetrieval { retrieval, read: id, traced })
    }

    /// Where opaque reads are refused, refuses one.
    pub(crate) fn refuse_opaque(&self, traced: &Traced) -> Result<()> {
        match &traced.refused {
            Some(refusal) => self.refuse_untraced("this statement", refusal),
            None => Ok(()),
        }
    }

    /// Where opaque reads are refused, refuses what would be one.
    pub(crate) fn refuse_untraced(&self, what: &str, refusal: &Refusal) -> Result<()> {
        match self.opaque {
            OpaqueReads::Record => Ok(()),
            OpaqueReads::Refuse => Err(Error::new(
                Kind::Forbidden,
                format!(
                    "what the columns of {what} come from cannot be traced ({refusal}), and such reads are refused here; write it \
                     without `{}`, or let them be recorded with what stands in the way (`lineament serve --opaque-reads record`)",
                    refusal.node
                ),
            )),
        }
    }

    /// A session over the newest snapshot that shows what its author may see.
    #[async_recursion]
    pub async fn session(&self, author: &Author) -> Result<Session> {
        Ok(self.engine.session(self.snapshot_for(None, author).await?)?)
    }

    /// A session that shows everything: for names and types, and for what the store does by itself.
    pub(crate) async fn open_session(&self) -> Result<Session> {
        Ok(self.engine.session(self.engine.snapshot(None).await?)?)
    }

    async fn with_spines(&self, session: Session, query: &Query) -> Result<Session> {
        for (name, digest) in &query.spines {
            let spine = spines::find(self.catalog(), digest, session.environment()).await?;
            session.register_table(name, spine.table())?;
        }
        Ok(session)
    }

    /// What definition files (name and text) would change.
    #[async_recursion]
    pub async fn plan(&self, files: Vec<(String, String)>) -> Result<Plan> {
        self.plan_definitions(&parse(files)?).await
    }

    #[async_recursion]
    pub async fn plan_definitions(&self, definitions: &Definitions) -> Result<Plan> {
        let state = self.catalog().refresh().await?;
        self.planned(&state, definitions, &Author::default()).await
    }

    /// Applies definition files as one entry of the log.
    ///
    /// # Errors
    /// Those of [`Serving::apply_definitions`] without a reason.
    #[async_recursion]
    pub async fn apply(&self, files: Vec<(String, String)>, author: &Author) -> Result<Applied> {
        self.apply_for(files, None, author).await
    }

    /// Applies definition files as one entry of the log, and says why.
    ///
    /// # Errors
    /// Those of [`Serving::apply_definitions`]; `Forbidden` where they wait for an approval.
    #[async_recursion]
    pub async fn apply_for(
        &self,
        files: Vec<(String, String)>,
        reason: Option<&str>,
        author: &Author,
    ) -> Result<Applied> {
        let applied = self.apply_definitions(&parse(files)?, reason, author).await?;
        waits_for_approval(&applied).map_or(Ok(applied), Err)
    }

    /// Ingests rows; see [`catalog::ingest::ingest`].
    #[async_recursion]
    pub async fn ingest(
        &self,
        request: catalog::ingest::Request,
        author: &Author,
        progress: Arc<dyn Fn(catalog::ingest::Progress) + Send + Sync>,
    ) -> Result<catalog::ingest::Report> {
        let state = self.catalog().refresh().await?;
        // One that is not there is told of by the ingest.
        if let Ok(version) = catalog::ingest::resolve(&state, &request.project, &request.view) {
            let allowed = self.require(&state, author, Action::Ingest, &version.definition);
            let words = || format!("ingest {}", request.view);
            self.on_record(author, Action::Ingest, None, words, allowed).await?;
        }
        Ok(catalog::ingest::ingest(self.catalog(), request, Arc::new(SqlConditions), author, progress)
            .await?)
    }
}

fn parse(files: Vec<(String, String)>) -> Result<Definitions> {
    parse_files(files).map_err(|errors| Error::new(Kind::Invalid, errors.to_string()))
}

/// The sending side of a stream that a task feeds.
pub(crate) struct Emit(tokio::sync::mpsc::Sender<Result<RecordBatch>>);

impl Emit {
    /// False when nobody listens any more.
    pub(crate) async fn send(&mut self, item: Result<RecordBatch>) -> bool {
        self.0.send(item).await.is_ok()
    }

    /// What the work gives; none where the reader has left before, and the work is dropped.
    pub(crate) async fn unless_left<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.0.closed() => None,
            done = work => Some(done),
        }
    }
}

/// A stream fed by a task of its own, one batch ahead. The task finishes its record even when the reader leaves. Where the task
/// fails, the stream ends with an error: rows without it would look like all.
pub(crate) fn async_stream<F, W>(work: W) -> Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>
where
    F: Future<Output = ()> + Send + 'static,
    W: FnOnce(Emit) -> F,
{
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let task = tokio::spawn(work(Emit(sender)));
    Box::pin(futures::stream::unfold((receiver, Some(task)), |(mut receiver, mut task)| async move {
        if let Some(item) = receiver.recv().await {
            return Some((item, (receiver, task)));
        }
        let failed = task.take()?.await.err()?;
        Some((Err(Error::internal("the query stopped", failed)), (receiver, None)))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_query_that_stops_amid_its_rows_ends_with_an_error() {
        let rows = RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty()));
        let sent = rows.clone();
        let stream = async_stream(move |mut emit| async move {
            emit.send(Ok(sent)).await;
            panic!("a fault of a library");
        });
        let answers: Vec<_> = stream.collect().await;
        let [Ok(first), Err(last)] = answers.as_slice() else { panic!("{answers:?}") };
        assert_eq!(first, &rows);
        assert!(last.to_string().contains("a fault of a library"), "{last}");
        assert_eq!(last.kind(), Kind::Internal);
        let whole: Vec<_> = async_stream(|mut emit| async move {
            emit.send(Ok(rows)).await;
        })
        .collect()
        .await;
        assert!(matches!(whole.as_slice(), [Ok(_)]));
    }
}
