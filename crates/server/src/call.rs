//! One call: who makes it, for which run, and the span that it is logged in.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use catalog::Author;
use catalog::external::{self, RunName};
use catalog::records::{How, Role};
use feature::policy::Purpose;
use feature::{Sequence, TrainingSetId};
use futures::{FutureExt, Stream};
use prometheus_client::metrics::counter::Counter;
use tokio::task::JoinHandle;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tracing::{Instrument, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::admission::{Admission, Permit, Work};
use crate::flight_sql::session::Session;
use crate::metrics::{Method, Metrics};
use crate::status;
use crate::trace_context;

const RUN: &str = "lineament-run";
const EXPERIMENT: &str = "lineament-experiment";
const ROLE: &str = "lineament-role";
/// What rows are wanted for, as policies ask: explore, train or serve.
const PURPOSE: &str = "lineament-purpose";
const HOW: &str = "lineament-how";
const ROWS: &str = "lineament-rows";
/// The longest run or experiment name.
const NAME_BYTES: usize = 512;

/// A call in progress. It is logged when it is dropped, with what became of it.
pub struct Call {
    pub author: Author,
    /// What the client said for all its calls.
    pub session: Session,
    span: Span,
    started: Instant,
    rows: Rows,
    outcome: Option<Code>,
    /// Its place among those that run, held until it has ended.
    permit: Option<Permit>,
    /// Until when its answer must have been sent.
    until: Option<Until>,
}

/// What a call may take, and when that is over.
#[derive(Clone, Copy)]
struct Until {
    takes: Duration,
    end: tokio::time::Instant,
}

impl Until {
    fn passed(self) -> Status {
        status::status(
            Code::DeadlineExceeded,
            format!(
                "it took longer than {:?}, which is what one call may take here (`lineament serve --max-time`); ask for less at once",
                self.takes
            ),
        )
    }
}

/// Counts the rows that a call moves, for itself and for all calls of its method.
#[derive(Clone, Default)]
pub struct Rows {
    received: Moved,
    sent: Moved,
}

#[derive(Clone, Default)]
struct Moved {
    by_call: Arc<AtomicU64>,
    by_all: Counter,
}

impl Moved {
    fn new(by_all: &Counter) -> Self {
        Self { by_call: Arc::default(), by_all: by_all.clone() }
    }

    fn add(&self, rows: usize) {
        self.by_call.fetch_add(rows as u64, Ordering::Relaxed);
        self.by_all.inc_by(rows as u64);
    }

    fn rows(&self) -> u64 {
        self.by_call.load(Ordering::Relaxed)
    }
}

impl Rows {
    /// The client has sent them.
    pub fn received(&self, rows: usize) {
        self.received.add(rows);
    }

    /// They are sent to the client.
    pub fn sent(&self, rows: usize) {
        self.sent.add(rows);
    }
}

/// Says on the span of the call at which sequence it reads, and which training set it made or read.
pub fn reads_at(sequence: Sequence, training_set: Option<TrainingSetId>) {
    let span = Span::current();
    span.record("sequence", signed(sequence.0));
    if let Some(id) = training_set {
        span.record("training_set", tracing::field::display(id));
    }
}

/// A number as OpenTelemetry has them: what is unsigned would become text there.
fn signed(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

impl Call {
    /// Begins a call: the server's author, with the run and experiment that the headers name.
    pub fn begin(
        method: &'static str,
        author: &Author,
        headers: &MetadataMap,
        metrics: &Metrics,
    ) -> Result<Self, Status> {
        let mut author = author.clone();
        let session = Session::of(headers)?;
        author.run = header(headers, RUN)?.or_else(|| session.run.clone());
        author.experiment = header(headers, EXPERIMENT)?.or_else(|| session.experiment.clone());
        author.how = how(headers)?;
        author.purpose = purpose(headers)?;
        author.role = role(headers)?.or(session.role).unwrap_or(Role::Unknown);
        let wrong = |error: catalog::Error| status::invalid(format!("the header of the call: {error}"));
        author.run.as_deref().map(RunName::parse).transpose().map_err(wrong)?;
        author.experiment.as_deref().map(external::experiment).transpose().map_err(wrong)?;
        let span = tracing::info_span!(
            "call",
            method,
            otel.name = method,
            otel.kind = "server",
            otel.status_code = tracing::field::Empty,
            principal = %author.principal,
            trace = tracing::field::Empty,
            sequence = tracing::field::Empty,
            training_set = tracing::field::Empty,
            received_rows = tracing::field::Empty,
            rows = tracing::field::Empty,
            waited_ms = tracing::field::Empty,
            duration_ms = tracing::field::Empty,
            outcome = tracing::field::Empty,
        );
        // For OpenTelemetry alone, by the names that it has for them.
        span.set_attribute("rpc.system", "grpc");
        span.set_attribute("rpc.service", "arrow.flight.protocol.FlightService");
        span.set_attribute("rpc.method", method);
        if let Some(trace) = trace_context::join(&span, headers) {
            span.record("trace", tracing::field::display(trace));
        }
        let of_all = metrics.method(Method::of(method));
        let rows = Rows { received: Moved::new(&of_all.received_rows), sent: Moved::new(&of_all.sent_rows) };
        Ok(Self {
            author,
            session,
            span,
            started: Instant::now(),
            rows,
            outcome: None,
            permit: None,
            until: None,
        })
    }

    /// Waits for the call's turn, where it is work.
    ///
    /// # Errors
    /// Those of [`Admission::enter`].
    pub async fn admitted(mut self, admission: &Admission, work: Option<Work>) -> Result<Self, Status> {
        let Some(work) = work else { return Ok(self) };
        let since = Instant::now();
        match admission.enter(&self.author.principal).await {
            Ok(permit) => {
                self.permit = Some(permit);
                let takes = admission.limits().max_time.filter(|_| work == Work::Reads);
                self.until = takes.map(|takes| Until { takes, end: tokio::time::Instant::now() + takes });
                self.span.record("waited_ms", signed(since.elapsed().as_millis()));
                Ok(self)
            }
            Err(status) => {
                self.outcome = Some(status.code());
                Err(status)
            }
        }
    }

    /// Does what is to be done before it is known what the call is, within its span.
    pub async fn before<T>(
        mut self,
        work: impl AsyncFnOnce(&Author, &Rows) -> Result<T, Status>,
    ) -> Result<(Self, T), Status> {
        match self.work(work).await {
            Ok(done) => Ok((self, done)),
            Err(status) => {
                self.outcome = Some(status.code());
                Err(status)
            }
        }
    }

    /// Does the work of a call that answers at once, within its span.
    pub async fn answer<T>(
        mut self,
        work: impl AsyncFnOnce(&Author, &Rows) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let answer = self.work(work).await;
        self.outcome = Some(answer.as_ref().map_or_else(Status::code, |_| Code::Ok));
        answer
    }

    /// Does the first part of a call whose answer is a stream; the call ends with the stream.
    pub async fn stream<S, T>(
        mut self,
        work: impl AsyncFnOnce(&Author, &Rows) -> Result<S, Status>,
    ) -> Result<Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>, Status>
    where
        S: Stream<Item = Result<T, Status>> + Send + 'static,
        T: 'static,
    {
        match self.work(work).await {
            Ok(stream) => {
                let held = Arc::new(Mutex::new(Some(Held {
                    stream: Box::pin(stream),
                    _permit: self.permit.take(),
                    waiting: None,
                })));
                let over = self.until.map(|until| Over::at(until, held.clone()));
                Ok(Box::pin(InCall { held, call: self, over, failed: false }))
            }
            Err(status) => {
                self.outcome = Some(status.code());
                Err(status)
            }
        }
    }

    async fn work<T>(
        &mut self,
        work: impl AsyncFnOnce(&Author, &Rows) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let span = self.span.clone();
        let work = work(&self.author, &self.rows).instrument(span);
        // A call ends with its own fault, and no other with it.
        let work = AssertUnwindSafe(work).catch_unwind();
        let done = match self.until {
            None => work.await,
            Some(until) => match tokio::time::timeout_at(until.end, work).await {
                Ok(done) => done,
                Err(_) => return Err(until.passed()),
            },
        };
        done.unwrap_or_else(|panic| Err(fault(panic.as_ref())))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // A call that is dropped without an outcome was left by its client.
        let outcome =
            self.outcome.map_or_else(|| "left by the client".to_owned(), |code| format!("{code:?}"));
        let code = self.outcome.unwrap_or(Code::Cancelled);
        if !matches!(code, Code::Ok | Code::Cancelled) {
            self.span.record("otel.status_code", "ERROR");
        }
        self.span.set_attribute("rpc.grpc.status_code", i64::from(i32::from(code)));
        self.span
            .record("received_rows", signed(self.rows.received.rows()))
            .record("rows", signed(self.rows.sent.rows()))
            .record("duration_ms", signed(self.started.elapsed().as_millis()))
            .record("outcome", outcome.as_str());
        self.span.in_scope(|| tracing::info!("ended"));
    }
}

/// What a call holds while its answer is on its way.
struct Held<S> {
    stream: Pin<Box<S>>,
    /// Its place among those that run; the stream is gone before it is given back.
    _permit: Option<Permit>,
    /// Whoever waits for more of the stream.
    waiting: Option<Waker>,
}

/// How often to look whether a stream that has taken too long can be ended.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Ends a stream when it has taken as long as it may, also where nobody asks it for more; until it is dropped.
struct Over(JoinHandle<()>);

impl Over {
    fn at<S: Send + 'static>(until: Until, held: Arc<Mutex<Option<Held<S>>>>) -> Self {
        Self(tokio::spawn(async move {
            tokio::time::sleep_until(until.end).await;
            let ended = loop {
                match held.try_lock() {
                    Ok(mut held) => break held.take(),
                    Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner().take(),
                    // It is asked for more now, which may take long: no worker of the runtime waits for that.
                    Err(TryLockError::WouldBlock) => {}
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            };
            if let Some(waiting) = ended.and_then(|mut ended| ended.waiting.take()) {
                waiting.wake();
            }
        }))
    }
}

impl Drop for Over {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A stream that belongs to a call.
struct InCall<S> {
    /// None once it was ended.
    held: Arc<Mutex<Option<Held<S>>>>,
    call: Call,
    over: Option<Over>,
    /// It panicked or took too long, and must not be asked again.
    failed: bool,
}

impl<S> Drop for InCall<S> {
    fn drop(&mut self) {
        // At once, though the task that waits for its time has a hold of it.
        drop(self.held.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl<S, T> Stream for InCall<S>
where
    S: Stream<Item = Result<T, Status>>,
{
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let mut held = this.held.lock().unwrap_or_else(PoisonError::into_inner);
        let polled = match (held.as_mut(), this.call.until) {
            (Some(held), _) => {
                held.waiting = Some(context.waker().clone());
                let polled =
                    AssertUnwindSafe(|| this.call.span.in_scope(|| held.stream.as_mut().poll_next(context)));
                catch_unwind(polled).unwrap_or_else(|panic| {
                    this.failed = true;
                    Poll::Ready(Some(Err(fault(panic.as_ref()))))
                })
            }
            (None, Some(until)) => {
                this.failed = true;
                Poll::Ready(Some(Err(until.passed())))
            }
            (None, None) => Poll::Ready(None),
        };
        drop(held);
        match &polled {
            Poll::Ready(None) => {
                this.over = None;
                this.call.outcome.get_or_insert(Code::Ok);
            }
            Poll::Ready(Some(Err(status))) => this.call.outcome = Some(status.code()),
            _ => {}
        }
        polled
    }
}

/// What a panic becomes. None is known that a client can cause; this is for those that are not known.
fn fault(panic: &(dyn Any + Send)) -> Status {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    status::internal("the server met a fault of its own, and goes on; please report it", text)
}

/// When a client says how many rows its upload has. A client that fails between them may end its upload as one does that has sent
/// all (pyarrow does, whatever the reason), and only the number tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// Before the first of them.
    Rows(u64),
    /// After the last, in a message of its own whose metadata is `{"rows": 3}`: it makes them as it goes.
    Last,
}

pub fn announced_rows(headers: &MetadataMap) -> Result<Option<Announced>, Status> {
    let Some(text) = header(headers, ROWS)? else { return Ok(None) };
    if text == "last" {
        return Ok(Some(Announced::Last));
    }
    let rows = text.parse().map_err(|_| {
        status::invalid(format!(
            "the header `{ROWS}` is `{text}`, and must be the number of rows that are sent, or `last` where it comes after them"
        ))
    })?;
    Ok(Some(Announced::Rows(rows)))
}

/// What the run uses training sets for.
fn role(headers: &MetadataMap) -> Result<Option<Role>, Status> {
    let Some(text) = header(headers, ROLE)? else { return Ok(None) };
    serde_json::from_value(serde_json::Value::String(text.clone())).map(Some).map_err(|_| {
        status::invalid(format!(
            "the header `{ROLE}` is `{text}`; it is train, validate, test, score or unknown"
        ))
    })
}

/// What rows are wanted for.
fn purpose(headers: &MetadataMap) -> Result<Purpose, Status> {
    let Some(text) = header(headers, PURPOSE)? else { return Ok(Purpose::default()) };
    text.parse().map_err(|error| status::invalid(format!("the header `{PURPOSE}`: {error}")))
}

/// How the client knows the run.
fn how(headers: &MetadataMap) -> Result<How, Status> {
    let Some(text) = header(headers, HOW)? else { return Ok(How::Explicit) };
    serde_json::from_value(serde_json::Value::String(text.clone())).map_err(|_| {
        status::invalid(format!(
            "the header `{HOW}` is `{text}`; it is explicit, thread, environment, pending, tag, artifact or reconciliation"
        ))
    })
}

fn header(headers: &MetadataMap, name: &'static str) -> Result<Option<String>, Status> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes())
        .map_err(|_| status::invalid(format!("the header `{name}` is not UTF-8 text")))?;
    if text.len() > NAME_BYTES {
        return Err(status::invalid(format!(
            "the header `{name}` has {} bytes; at most {NAME_BYTES} are allowed",
            text.len()
        )));
    }
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}
