//! The listening server: bind, run, stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use catalog::Author;
use feature::quality::Verdict;
use futures::Stream;
use serving::{CompactRequest, Due, Memory, RetainRequest, Serving, SweepRequest};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::admission::{Admission, AdmissionLimits};
use crate::callers::{Access, AccessOptions, Authenticated};
use crate::error::{Error, Result};
use crate::http::{Http, HttpOptions};
use crate::measured_calls::MeasuredCalls;
use crate::metrics::Metrics;
use crate::sealed::Now;
use crate::service::Flight;
use crate::whole_uploads::WholeUploads;

/// The greatest message that a client may send. pyarrow sends a record batch as one message, however large it is.
const MESSAGE_BYTES: usize = 64 << 20;
/// The greatest headers that a request may have.
const HEADER_BYTES: u32 = 16 << 10;
/// Calls that one connection may have open.
const CALLS_PER_CONNECTION: u32 = 256;
/// How often the reads that were answered go to the log.
const FLUSH_EVERY: Duration = Duration::from_secs(2);
/// How often it is looked whether the date of a deprecation has come.
const ADVANCE_EVERY: Duration = Duration::from_secs(60);
/// Problems of a pass that are logged one by one; `lineament reconcile` shows all.
const LOGGED: usize = 20;
/// How often a connection that is silent is asked whether its client is still there, and how long it has to say so. One that
/// vanished without a word gives back what it held.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TAKES: Duration = Duration::from_secs(20);
/// How long to wait after a connection could not be taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// How often to look whether calls are running still.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long running streams may take to finish after shutdown began.
const GRACE: Duration = Duration::from_secs(30);

/// Where to listen and in whose name.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Where to listen. Port 0 takes any that is free. One that other machines reach needs more of `access` than its default.
    pub address: SocketAddr,
    /// In whose name calls read and write where callers are not asked who they are.
    pub principal: String,
    /// Name and version of the program, as `lineament 0.1.0`.
    pub program: String,
    /// Bytes that all queries and uploads together may hold in memory; where there is none, half of the machine's. What goes
    /// over it is refused.
    pub memory_limit: Option<u64>,
    /// Of these, the bytes that one query may hold; where there is none, all.
    pub query_memory: Option<u64>,
    /// Bytes that one query may write to disk where memory is short; where there is none, four times the memory limit.
    pub spill_limit: Option<u64>,
    /// How often all that training sets and models refer to is looked at; never where there is none.
    pub reconcile_every: Option<Duration>,
    /// How often small files are merged where that is worth it; never, for none.
    pub compact_every: Option<Duration>,
    /// How often rows that their views keep no longer are let go, and what nobody needs is deleted; never, for none.
    pub sweep_every: Option<Duration>,
    /// How often what was sampled is compared with its baselines; never, for none, and then nothing is sampled.
    pub sample_every: Option<Duration>,
    /// How many queries may run and wait.
    pub admission: AdmissionLimits,
    /// Where metrics and health are asked for; nowhere where there is none.
    pub http: Option<HttpOptions>,
    /// Who may call, and how.
    pub access: AccessOptions,
}

/// A server that listens and does not answer yet.
pub struct Server {
    serving: Serving,
    options: ServeOptions,
    listener: TcpListener,
    address: SocketAddr,
    http: Option<Http>,
    access: Access,
}

impl Server {
    /// Listens at the address.
    ///
    /// # Errors
    /// `NotLoopback`, `Access`, `Exposed`, and `Bind` where an address is taken or is not this machine's.
    pub async fn bind(serving: Serving, options: ServeOptions) -> Result<Self> {
        let address = options.address;
        let clock = serving.catalog().store().clock().clone();
        let now: Now = Arc::new(move || clock.now());
        let access = Access::open(&options.access, address, &options.principal, now).await?;
        let failed = |source| Error::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let http = match options.http {
            Some(options) => Some(Http::bind(options).await?),
            None => None,
        };
        let memory = options.memory_limit.map_or_else(|| serving.memory().clone(), Memory::new);
        let memory = match options.query_memory {
            Some(limit) => memory.with_query_limit(limit),
            None => memory,
        };
        let serving = serving.with_memory(match options.spill_limit {
            Some(limit) => memory.with_spill_limit(limit),
            None => memory,
        });
        Ok(Self { serving, options, listener, address, http, access })
    }

    /// What it answers from.
    #[cfg(test)]
    pub(crate) fn serving(&self) -> &Serving {
        &self.serving
    }

    /// The address with its real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients reach it: `grpc+tls://` where calls are encrypted.
    pub fn url(&self) -> String {
        let scheme = if self.access.tls.is_some() { "grpc+tls" } else { "grpc" };
        format!("{scheme}://{}", self.address)
    }

    /// Where metrics and health are asked for, with the real port.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(Http::address)
    }

    /// Answers calls until `shutdown` is done; then takes no new ones, refuses those that wait for their turn, lets running
    /// streams finish (for half a minute at most) and records the last reads. Metrics and health are answered to the end.
    ///
    /// # Errors
    /// `Transport` where the network fails, `Flush` where the last reads could not be recorded.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<()> {
        let Self { serving, options, listener, address, http, access } = self;
        let admission = Admission::new(options.admission, serving.memory().clone());
        let metrics = Metrics::new(&serving, &admission, &options.program);
        let http =
            http.map(|http| tokio::spawn(http.run(serving.clone(), metrics.clone(), admission.clone())));
        let reconciler = options
            .reconcile_every
            .map(|every| tokio::spawn(reconcile_now_and_then(serving.clone(), metrics.clone(), every)));
        let author = Author { principal: options.principal, program: options.program, ..Author::default() };
        let compacting = (serving.clone(), author.clone());
        let compactor = options
            .compact_every
            .map(|every| tokio::spawn(compact_now_and_then(compacting.0, compacting.1, every)));
        let sweeping = (serving.clone(), author.clone());
        let sweeper =
            options.sweep_every.map(|every| tokio::spawn(sweep_now_and_then(sweeping.0, sweeping.1, every)));
        let judging = (serving.clone(), author.clone());
        let judge = options.sample_every.map(|every| {
            serving.begin_sampling();
            let stop = Arc::new(Notify::new());
            (tokio::spawn(judge_now_and_then(judging.0, judging.1, every, stop.clone())), stop)
        });
        let advancing = tokio::spawn(advance_now_and_then(serving.clone(), author.clone()));
        let flight =
            Flight::new(serving.clone(), author.clone(), access.seals, admission.clone(), metrics.clone());
        let flight = FlightServiceServer::new(flight).max_decoding_message_size(MESSAGE_BYTES);
        let service = Authenticated { service: WholeUploads(flight), gate: Arc::new(access.gate) };
        // Around the gate, so that calls which are not let in are counted too.
        let service = MeasuredCalls { service, metrics: metrics.clone(), admission: admission.clone() };
        let stopping = Arc::new(Notify::new());
        let stopped = stopping.clone();
        let mut builder = tonic::transport::Server::builder();
        if let Some(tls) = access.tls {
            builder = builder.tls_config(tls)?;
        }
        let calls = builder
            .max_concurrent_streams(CALLS_PER_CONNECTION)
            .http2_max_header_list_size(HEADER_BYTES)
            .http2_adaptive_window(Some(true))
            .http2_keepalive_interval(Some(PING_EVERY))
            .http2_keepalive_timeout(Some(PING_TAKES))
            .add_service(service)
            .serve_with_incoming_shutdown(connections(listener), async move { stopped.notified().await });
        tracing::info!(%address, "listening");

        let last_flush = Arc::new(Notify::new());
        let flusher = tokio::spawn(flush_now_and_then(
            serving.clone(),
            author.clone(),
            metrics.clone(),
            last_flush.clone(),
        ));
        let ended = async {
            shutdown.await;
            tracing::info!("stopping: running streams may finish");
            admission.close();
            // Until the last has ended, connections stay open, and new calls are told that the server stops.
            let drained = async {
                while metrics.calls_running() > 0 {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                stopping.notify_one();
                std::future::pending().await
            };
            let _ = tokio::time::timeout(GRACE, drained).await as std::result::Result<(), _>;
        };
        let outcome = tokio::select! {
            outcome = calls => outcome,
            () = ended => {
                tracing::warn!("streams were still running {} s after shutdown began, and were cut off", GRACE.as_secs());
                Ok(())
            }
        };
        // A pass only reads; the next program makes another.
        if let Some(reconciler) = reconciler {
            reconciler.abort();
        }
        // What it has written and not committed is nobody's.
        if let Some(compactor) = compactor {
            compactor.abort();
        }
        // What it has condemned and not deleted is deleted by the next.
        if let Some(sweeper) = sweeper {
            sweeper.abort();
        }
        if let Some((judge, stop)) = judge {
            // As a flush: cut off, it would forget what it holds.
            stop.notify_one();
            if let Err(error) = judge.await {
                tracing::warn!(%error, "the task that compares samples failed");
            }
            if let Err(error) = serving.judge_samples(Due::All, &author).await {
                tracing::warn!(%error, "what was sampled last was not compared");
            }
        }
        // What is due and was not said is said by the next.
        advancing.abort();
        // A flush that runs must end by itself: cut off, it would forget the reads that it holds.
        last_flush.notify_one();
        if let Err(error) = flusher.await {
            tracing::warn!(%error, "the task that records reads failed");
        }
        let flushed = serving.flush(&author).await.map(|_| ()).map_err(Error::Flush);
        if let Some(http) = http {
            http.abort();
        }
        outcome?;
        flushed
    }
}

/// Binds and runs in one, for those who know their port.
///
/// # Errors
/// Those of [`Server::bind`] and [`Server::run`].
pub async fn serve(
    serving: Serving,
    options: ServeOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    Server::bind(serving, options).await?.run(shutdown).await
}

/// Connections as they come. One that fails is no reason to stop; where there are too many for the system, it waits.
fn connections(listener: TcpListener) -> impl Stream<Item = std::io::Result<TcpStream>> {
    futures::stream::unfold(listener, |listener| async move {
        loop {
            match listener.accept().await {
                Ok((connection, _)) => {
                    // Without it, small answers wait for each other. One that is gone already says so later.
                    let _ = connection.set_nodelay(true);
                    return Some((Ok(connection), listener));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

async fn reconcile_now_and_then(serving: Serving, metrics: Metrics, every: Duration) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match serving.reconcile(false).await {
            Ok(report) if report.problems.is_empty() => {
                tracing::info!(objects = report.objects, "reconciled: nothing dangles");
            }
            Ok(report) => {
                let deployed = report.deployed();
                tracing::warn!(
                    problems = report.problems.len(),
                    deployed,
                    "reconciled: references lead nowhere"
                );
                for wrong in report.problems.iter().take(LOGGED) {
                    let blocks = wrong.blocks.as_deref().unwrap_or("nothing");
                    tracing::warn!(kind = wrong.kind, id = %wrong.id, blocks, "{}", wrong.problem);
                }
            }
            Err(error) => {
                metrics.reconciliation_failed();
                tracing::warn!(%error, "the store could not be reconciled; it is tried again");
            }
        }
    }
}

async fn compact_now_and_then(serving: Serving, author: Author, every: Duration) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match serving.compact(&CompactRequest::levels(), &author).await {
            Ok(done) => {
                for merge in done.iter().filter(|merge| merge.sequence.is_some()) {
                    let (version, before, after) = (&merge.of.version, merge.of.files, merge.files);
                    tracing::info!(%version, rows = merge.of.rows, before, after, "small files were merged");
                }
            }
            Err(error) => tracing::warn!(%error, "files could not be merged; it is tried again"),
        }
    }
}

async fn sweep_now_and_then(serving: Serving, author: Author, every: Duration) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match serving.retain(&RetainRequest::default(), &author).await {
            Ok(report) => {
                for view in report.views.iter().filter(|view| view.rows > 0) {
                    let (version, before) = (&view.version, view.before.to_string());
                    tracing::info!(
                        version,
                        before,
                        rows = view.rows,
                        "rows are kept no longer, and do not count"
                    );
                }
            }
            Err(error) => tracing::warn!(%error, "old rows could not be let go; it is tried again"),
        }
        match serving.sweep(&SweepRequest::default(), &author).await {
            Ok(report) => {
                let (objects, bytes) = report.total();
                if objects > 0 {
                    let sequence = report.sequence.map(|sequence| sequence.0);
                    tracing::info!(objects, bytes, sequence, "what nobody needs was swept");
                }
            }
            Err(error) => tracing::warn!(%error, "the store could not be swept; it is tried again"),
        }
    }
}

async fn judge_now_and_then(serving: Serving, author: Author, every: Duration, stop: Arc<Notify>) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.notified() => return,
        }
        match serving.judge_samples(Due::Enough, &author).await {
            Ok(samples) => {
                for sample in samples.iter().filter(|sample| sample.judged.verdict != Verdict::Pass) {
                    let (id, of, verdict) = (sample.sample, sample.of.name(), sample.judged.verdict.name());
                    tracing::warn!(sample = %id, version = %sample.version, of, verdict, "what passes by is not as the baseline is");
                }
            }
            Err(error) => tracing::warn!(%error, "what was sampled could not be compared; it is tried again"),
        }
    }
}

/// Takes the steps of deprecations whose dates have come.
async fn advance_now_and_then(serving: Serving, author: Author) {
    let mut ticks = tokio::time::interval(ADVANCE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match serving.advance_deprecations(None, &author).await {
            Ok(report) => {
                for taken in &report.taken {
                    tracing::info!(of = %taken.of, sequence = taken.sequence.0, "deprecated: {} now", taken.step);
                }
                for put_off in &report.put_off {
                    let deployments = put_off.deployments.join(", ");
                    tracing::warn!(of = %put_off.of, due = %put_off.due, %deployments, "not withdrawn: it is in use");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "deprecations that are due could not be advanced; it is tried again")
            }
        }
    }
}

async fn flush_now_and_then(serving: Serving, author: Author, metrics: Metrics, stop: Arc<Notify>) {
    let mut ticks = tokio::time::interval(FLUSH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.notified() => return,
        }
        match serving.flush(&author).await {
            Ok(0) => {}
            Ok(_) => metrics.flushed(serving.catalog().store().clock().now().micros() / 1_000_000),
            Err(error) => {
                metrics.flush_failed();
                tracing::warn!(%error, "reads could not be recorded yet; they are kept and tried again");
            }
        }
    }
}
