//! A retrieval that runs: rows leave as they are put together, and are digested on their way. What it was is on record before its
//! last row is followed by the report.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_recursion::async_recursion;
use catalog::Author;
use catalog::records::Role;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use engine::column_lineage::Traced;
use engine::features::{self, Resolved};
use engine::point_in_time::exec;
use engine::spines::{self, KeptSpine, SpineWriter};
use engine::{Prepared, Session, StreamedRows};
use feature::digest::TableDigest;
use feature::policy::Action;
use feature::{Sequence, SpineId};
use futures::{Stream, StreamExt, TryStreamExt};
use lineage::manifest::SpineManifest;
use storage::environment;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::bias::BiasRequest;
use crate::column_edges::SPINE;
use crate::deprecation::{DeprecationNotice, Met, Reading};
use crate::digesting::Digesting;
use crate::error::{Error, Kind, Result};
use crate::given_spine::{GivenSpine, PassedBy, kept_in_passing};
use crate::historical::{
    HistoricalReport, HistoricalRequest, LookedUp, Spine, TrainingSet, refuse_naive, report, verify_split,
};
use crate::queried_spine::Queried;
use crate::reads::{Place, Read, ReadKind};
use crate::retrieve::{Emit, Serving, async_stream};
use crate::sampled_reads::{ReadSample, Sampling};

/// A retrieval on its way out: the spine's columns as they came, then the features, in the spine's order.
pub struct HistoricalStream {
    pub schema: SchemaRef,
    /// What is read and will go.
    pub deprecations: Vec<DeprecationNotice>,
    pub rows: Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>,
    /// What it was; there when all rows were given, and never where one of them was an error.
    pub report: oneshot::Receiver<HistoricalReport>,
}

/// The read that a retrieval leaves where no training set comes of it. Its place in the queue was taken before the first row.
struct LeftRead {
    place: Place,
    traced: Arc<Traced>,
    serving: Serving,
    author: Author,
    /// The snapshot that is read.
    sequence: Sequence,
    words: String,
    started: Instant,
}

impl LeftRead {
    async fn record(self, rows: u64, error: Option<String>) -> Result<()> {
        let now = self.serving.catalog().store().clock().now();
        let mut read = Read::new(&self.author, self.sequence, now, self.traced);
        read.asked(ReadKind::HistoricalFeatures, self.words);
        read.rows = rows;
        read.micros = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        read.error = error;
        self.serving.record_read(self.place, read).await
    }
}

/// How the spine of a training set comes to be in the store.
enum SpineKeeping {
    /// It is being encoded: rows, and then bytes and digest.
    Encoding(usize, JoinHandle<Result<(Vec<u8>, String)>>),
    /// It is written to a file as its rows go by.
    InPassing(PassedBy),
    /// It was ingested before.
    Kept(KeptSpine),
}

/// A retrieval that is planned.
struct Planned {
    serving: Serving,
    session: Session,
    /// The spine's columns.
    spine: SchemaRef,
    at: String,
    request: HistoricalRequest,
    resolved: Resolved,
    plan: LogicalPlan,
    physical: Arc<dyn ExecutionPlan>,
    /// Where it is recorded as a training set.
    keeping: Option<SpineKeeping>,
    /// Where a query gives the spine.
    queried: Option<Queried>,
    /// What of it is profiled on its way out.
    sample: Option<ReadSample>,
    author: Author,
    deprecations: Vec<DeprecationNotice>,
    started: Instant,
}

/// A retrieval in the words of its record.
fn features_asked(request: &HistoricalRequest) -> String {
    format!("historical_features: {}", request.features.join(", "))
}

impl Serving {
    /// Retrieves historical features for a spine, and records them as a training set unless told not to.
    ///
    /// # Errors
    /// An empty spine, one without time or key columns or with times that carry no zone; unknown features; two features
    /// of one name.
    #[async_recursion]
    pub async fn historical(
        &self,
        spine: Spine,
        request: HistoricalRequest,
        author: &Author,
    ) -> Result<TrainingSet> {
        let HistoricalStream { schema, rows, report, .. } =
            self.historical_stream(Some(spine.into()), request, author).await?;
        let batches = rows.try_collect().await?;
        let report = report.await.map_err(|error| Error::internal("the retrieval has no report", error))?;
        Ok(TrainingSet { schema, batches, report })
    }

    /// The same as a stream, over rows that are given or over a spine that the request names, by its digest or as a query. Neither the
    /// answer nor a copy of it is held beside what the join holds, and a spine beyond a share of the memory goes by in parts: the first
    /// features leave before the last of a spine's rows has come. A stream that is left before its end, or fails, is recorded as a read and
    /// not as a training set.
    ///
    /// # Errors
    /// Those of [`Serving::historical`]; no spine, or two; those of the query that gives one.
    #[async_recursion]
    pub async fn historical_stream(
        &self,
        given: Option<GivenSpine>,
        request: HistoricalRequest,
        author: &Author,
    ) -> Result<HistoricalStream> {
        let words = features_asked(&request);
        let answer = self.answer_historical(given, request, author);
        self.on_record(author, Action::Read, Some(ReadKind::HistoricalFeatures), || words, answer).await
    }

    async fn answer_historical(
        &self,
        given: Option<GivenSpine>,
        request: HistoricalRequest,
        author: &Author,
    ) -> Result<HistoricalStream> {
        let started = Instant::now();
        let snapshot = self.snapshot_for(None, author).await?.at(request.as_of)?;
        let session = self.engine.ordered_session(snapshot)?;
        let (asked_for, queried) = self.spine_of(given, &request, &session, author).await?;
        let cut = request.cut()?;
        if request.bias && !request.record {
            return Err(Error::new(
                Kind::Invalid,
                "the bias of a set is told of one that is recorded; record it, or leave `bias` out",
            ));
        }
        let mut asked = features::Request::new(request.features.clone());
        asked.full_feature_names = request.full_feature_names;
        asked.ttl = request.ttl.clone();
        asked.cut = cut;
        asked.null_reasons = request.null_reasons;
        let resolved = features::resolve(session.snapshot(), &asked).await?;
        let mut deprecations = self.met_by(&session, &resolved, &request, author).await?;
        for notice in queried.iter().flat_map(|queried| &queried.deprecations) {
            if !deprecations.contains(notice) {
                deprecations.push(notice.clone());
            }
        }
        let (rows, spine, keeping) = self.rows_of(asked_for, &session, request.record)?;
        let at = features::time_column(rows.schema(), request.at.as_deref())?;
        refuse_naive(&spine, &at)?;
        if let Some(split) = &request.split {
            verify_split(split, &spine, request.record)?;
        }
        let plan = features::plan(rows, &at, &resolved)?;
        let Prepared { physical, traced } = session.prepare_traced(&plan).await?;
        self.refuse_opaque(&traced)?;
        let schema = physical.schema();
        let digest = TableDigest::new(session.snapshot().state.hash, &schema)
            .map_err(|error| Error::new(Kind::Invalid, format!("the spine cannot be digested: {error}")))?;
        // A full queue refuses a retrieval rather than forget it. What is to be a training set may be left before it is one.
        let read = LeftRead {
            place: self.reads.reserve(&traced)?,
            traced,
            serving: self.clone(),
            author: author.clone(),
            sequence: session.snapshot().sequence,
            words: features_asked(&request),
            started,
        };
        let makes_set = keeping.is_some();
        let sample = ReadSample::of(&session, &resolved, &request, author, &schema);
        let (serving, author) = (self.clone(), author.clone());
        let planned = Planned {
            serving,
            session,
            spine,
            at,
            request,
            resolved,
            plan,
            physical,
            keeping,
            queried,
            sample,
            author,
            deprecations: deprecations.clone(),
            started,
        };
        let (tell, report) = oneshot::channel();
        let rows = async_stream(move |mut emit| async move {
            let mut sent = 0;
            let outcome = planned.run(digest, &mut emit, &mut sent).await;
            let recorded = match &outcome {
                // The set is what is on record; of what showed nothing there is none.
                Ok(Some(_)) if makes_set => Ok(()),
                _ if makes_set && sent == 0 => Ok(()),
                Ok(_) => read.record(sent, None).await,
                Err(error) => read.record(sent, Some(error.to_string())).await,
            };
            match outcome.and_then(|report| recorded.map(|()| report)) {
                // Whoever left asks for no report.
                Ok(Some(report)) => drop(tell.send(report)),
                Ok(None) => {}
                Err(error) => {
                    emit.send(Err(error)).await;
                }
            }
        });
        Ok(HistoricalStream { schema, deprecations, rows, report })
    }

    /// What of a retrieval will go.
    async fn met_by(
        &self,
        session: &Session,
        resolved: &Resolved,
        request: &HistoricalRequest,
        author: &Author,
    ) -> Result<Vec<DeprecationNotice>> {
        let is_scored = request.role == Role::Score || author.role == Role::Score;
        let reading = match (request.record, is_scored) {
            (false, _) => Reading::Look,
            (true, true) => Reading::Score,
            (true, false) => Reading::TrainingSet,
        };
        let versions = resolved.views.iter().map(|view| view.table.version().version).collect();
        let met = Met { versions, services: &resolved.services, reading };
        self.meet_deprecations(&session.snapshot().state, &met, author).await
    }

    /// The spine that is given, or the one that the request names; of a query also what it reads.
    async fn spine_of(
        &self,
        given: Option<GivenSpine>,
        request: &HistoricalRequest,
        session: &Session,
        author: &Author,
    ) -> Result<(AskedFor, Option<Queried>)> {
        match (given, &request.spine, &request.spine_sql) {
            (Some(spine), None, None) => Ok((AskedFor::Given(spine.with_rows("the spine").await?), None)),
            (None, Some(digest), None) => {
                let kept = spines::find(self.catalog(), digest, session.environment()).await?;
                Ok((AskedFor::Kept(kept), None))
            }
            (None, None, Some(sql)) => {
                let (rows, queried) = self.query_spine(sql, session.snapshot(), author).await?;
                Ok((AskedFor::Given(rows), Some(queried)))
            }
            (None, None, None) => Err(Error::new(
                Kind::Invalid,
                "there are neither rows of a spine nor the digest of one; send rows, name a spine that was ingested by `spine`, or \
                 give a query by `spine_sql`",
            )),
            _ => Err(Error::new(
                Kind::Invalid,
                "the spine is given twice: it is rows, the digest of one that was ingested (`spine`) or a query (`spine_sql`); leave one out",
            )),
        }
    }

    /// The spine as a plan, its columns, and how it is kept where the retrieval is recorded.
    fn rows_of(
        &self,
        spine: AskedFor,
        session: &Session,
        record: bool,
    ) -> Result<(LogicalPlan, SchemaRef, Option<SpineKeeping>)> {
        match spine {
            AskedFor::Kept(kept) => {
                let rows = session.scan(SPINE, kept.table())?;
                Ok((rows, kept.schema.clone(), record.then_some(SpineKeeping::Kept(kept))))
            }
            AskedFor::Given(GivenSpine::Whole(spine)) => {
                let rows = session.rows(SPINE, spine.schema.clone(), spine.batches.clone())?;
                // What is to be kept of the spine is made while its features are looked up.
                let keeping = record.then(|| SpineKeeping::Encoding(spine.rows(), self.encode_spine(&spine)));
                Ok((rows, spine.schema, keeping))
            }
            AskedFor::Given(GivenSpine::Streamed(rows)) => {
                let schema = rows.schema();
                let (rows, keeping) = if record {
                    let algorithm = session.snapshot().state.hash;
                    let writer = SpineWriter::new(algorithm, &schema, session.environment())?;
                    let (rows, passed_by) = kept_in_passing(rows, writer);
                    (rows, Some(SpineKeeping::InPassing(passed_by)))
                } else {
                    (rows, None)
                };
                let rows = session.scan(SPINE, Arc::new(StreamedRows::once(rows)?))?;
                Ok((rows, schema, keeping))
            }
        }
    }
}

/// The spine of a request.
enum AskedFor {
    Given(GivenSpine),
    Kept(KeptSpine),
}

impl Planned {
    /// Sends the rows off and counts them, and records them where they make a training set. None where the reader left before the end.
    async fn run(
        mut self,
        table: TableDigest,
        emit: &mut Emit,
        sent: &mut u64,
    ) -> Result<Option<HistoricalReport>> {
        let mut digesting = Digesting::begin(table);
        let mut sampling = Sampling::begin(self.sample.take());
        let mut rows = self.session.run(self.physical.clone())?;
        let mut left = true;
        // Also what has not given a row yet ends where nobody waits for it any more.
        while let Some(next) = emit.unless_left(rows.next()).await {
            let Some(batch) = next else {
                left = false;
                break;
            };
            let batch = batch?;
            digesting.add(batch.clone()).await?;
            sampling.add(&batch).await;
            *sent += batch.num_rows() as u64;
            if !emit.send(Ok(batch)).await {
                break;
            }
        }
        drop(rows);
        sampling.finish().await;
        if left {
            return Ok(None);
        }
        let digest = digesting.finish().await?;
        let reports = exec::find(&self.physical).map(exec::PointInTimeExec::reports).unwrap_or_default();
        let found = LookedUp {
            schema: self.physical.schema(),
            batches: Vec::new(),
            digest,
            reports,
            plan: self.plan.clone(),
        };
        let mut report = report(&found, &self.resolved, self.session.snapshot().sequence);
        report.deprecations.clone_from(&self.deprecations);
        let started = self.started;
        let asked = self.request.bias.then(|| (self.serving.clone(), self.author.clone()));
        report.training_set = self.record(found).await?;
        if let (Some((serving, author)), Some(training_set)) = (asked, report.training_set) {
            let request = BiasRequest { training_set, at: None, moments: None };
            // The set is on record by now: whoever asked must learn of it.
            match serving.bias(&request, &author).await {
                Ok(bias) => report.bias = Some(bias),
                Err(error) => report.bias_error = Some(error.to_string()),
            }
        }
        report.seconds = started.elapsed().as_secs_f64();
        Ok(Some(report))
    }

    /// Records the training set, where it is to be one.
    async fn record(self, found: LookedUp) -> Result<Option<feature::TrainingSetId>> {
        let Some(keeping) = self.keeping else { return Ok(None) };
        // Before its first object, so that no sweep takes that for nobody's and lets the set pass.
        let id: feature::TrainingSetId = environment::mint();
        let kept_before = match &keeping {
            SpineKeeping::Kept(kept) => Some(kept.record.spine),
            SpineKeeping::Encoding(..) | SpineKeeping::InPassing(_) => None,
        };
        let kept = match keeping {
            SpineKeeping::Encoding(rows, encoded) => self.serving.keep_spine(encoded, rows, &self.at).await?,
            SpineKeeping::InPassing(passed_by) => {
                let passed_by = passed_by.await;
                let (file, rows) =
                    passed_by.map_err(|error| Error::internal("the spine was not written", error))?;
                let path = format!("spines/{}.parquet", environment::mint::<SpineId>());
                let object = self.serving.catalog().put_file(path, file.path().to_owned()).await?;
                SpineManifest {
                    object,
                    digest: rows.digest.to_string(),
                    rows: rows.rows,
                    at: self.at.clone(),
                    query: None,
                }
            }
            SpineKeeping::Kept(kept) => SpineManifest {
                rows: kept.record.rows,
                digest: kept.record.digest,
                object: kept.record.object,
                at: self.at.clone(),
                query: None,
            },
        };
        let (serving, session) = (&self.serving, &self.session);
        let recorded = serving.record(
            id,
            session,
            &self.spine,
            kept,
            kept_before,
            self.queried.as_ref(),
            &self.request,
            &self.resolved,
            &found,
            &self.author,
        );
        recorded.await.map(Some)
    }
}
