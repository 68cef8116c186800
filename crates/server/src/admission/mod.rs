//! Who may begin: at most so many queries run at once, at most so many wait, and those that wait are let in by fair turns.
//!
//! A place is held from before the work begins until its answer has been sent or its client has left. Nothing new begins while
//! much of the memory is held, so that what runs can end in what is left; a query that asks for more than there is fails by itself.

mod turns;
mod work;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use serving::Memory;
use tokio::sync::oneshot;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::status;
use turns::{Arrival, Ticket, Turns};
pub use work::{Work, ticket_is_work};

/// A new query begins while less than this part of the memory is held.
const ROOM: (u64, u64) = (1, 2);
/// How often those who wait look whether memory was given back.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a query took that just ended counts this much in what a query is expected to take.
const NEWEST: f64 = 0.1;
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// The header by which gRPC clients are told when to try again.
const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// Queries for each core that run at once where nothing else is said, and the least of them.
const RUNNING_PER_CORE: usize = 8;
const LEAST_RUNNING: usize = 32;

/// How many queries may run and wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Queries, uploads and the like that run at once; at least one.
    pub max_running: usize,
    /// Of these, those of one principal.
    pub max_each: usize,
    /// Those that wait for their turn.
    pub max_queued: usize,
    /// How long one waits before it is refused.
    pub max_wait: Duration,
    /// How long one that reads may take from its turn until its answer is sent; for ever, for none.
    pub max_time: Option<Duration>,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let max_running = (RUNNING_PER_CORE * cores).max(LEAST_RUNNING);
        Self {
            max_running,
            max_each: max_running,
            max_queued: 1_000,
            max_wait: Duration::from_secs(60),
            max_time: None,
        }
    }
}

/// Why one was not let in, for whoever counts; the names are a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// No place to wait was left.
    Full,
    /// Another principal's took its place.
    Displaced,
    /// It waited too long.
    Waited,
    /// The server stops.
    Stopping,
}

impl Refusal {
    const ALL: [Self; 4] = [Self::Full, Self::Displaced, Self::Waited, Self::Stopping];

    fn label(self) -> [(&'static str, &'static str); 1] {
        let reason = match self {
            Self::Full => "queue_full",
            Self::Displaced => "displaced",
            Self::Waited => "waited_too_long",
            Self::Stopping => "stopping",
        };
        [("reason", reason)]
    }
}

/// The one gate of a server; cheap to clone.
#[derive(Clone)]
pub struct Admission(Arc<Gate>);

struct Gate {
    limits: AdmissionLimits,
    memory: Memory,
    state: Mutex<State>,
    waited: Histogram,
    refused: Family<[(&'static str, &'static str); 1], Counter>,
}

struct State {
    turns: Turns,
    /// Those that wait, with whose they are.
    calls: HashMap<Ticket, (String, oneshot::Sender<Result<Permit, Refusal>>)>,
    tickets: Ticket,
    closed: bool,
    /// What a query takes, in seconds, as those that ended lately did.
    seconds: f64,
}

/// A place among those that run, until it is dropped.
pub struct Permit {
    /// None once it is void.
    gate: Option<Arc<Gate>>,
    principal: String,
    since: Instant,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(gate) = self.gate.take() else { return };
        let mut state = gate.state();
        state.turns.end(&self.principal);
        state.seconds += NEWEST * (self.since.elapsed().as_secs_f64() - state.seconds);
        gate.let_in(&mut state);
    }
}

/// A place among those that wait, given up when it is dropped.
struct Place<'a> {
    gate: &'a Gate,
    principal: &'a str,
    ticket: Ticket,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        if state.calls.remove(&self.ticket).is_some() {
            state.turns.give_up(self.principal, self.ticket);
        }
    }
}

impl Admission {
    pub fn new(limits: AdmissionLimits, memory: Memory) -> Self {
        let state = State {
            turns: Turns::new(limits.max_running, limits.max_each, limits.max_queued),
            calls: HashMap::new(),
            tickets: 0,
            closed: false,
            seconds: 0.0,
        };
        let refused = Family::default();
        for refusal in Refusal::ALL {
            drop(refused.get_or_create_owned(&refusal.label()));
        }
        let waited = Histogram::new(crate::metrics::seconds());
        Self(Arc::new(Gate { limits, memory, state: Mutex::new(state), waited, refused }))
    }

    pub fn limits(&self) -> AdmissionLimits {
        self.0.limits
    }

    /// How many run and how many wait.
    pub fn now(&self) -> (usize, usize) {
        let state = self.0.state();
        (state.turns.running(), state.turns.waiting())
    }

    /// How long those waited that were let in, in seconds.
    pub fn waited(&self) -> &Histogram {
        &self.0.waited
    }

    /// Those that were refused, by reason.
    pub fn refused(&self) -> &Family<[(&'static str, &'static str); 1], Counter> {
        &self.0.refused
    }

    /// Waits for a place to run in.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` where no place to wait is left, where one waited too long, and for the last of one principal's that
    /// take all places while another comes; `UNAVAILABLE` where the server stops.
    pub async fn enter(&self, principal: &str) -> Result<Permit, Status> {
        let gate = &self.0;
        let since = Instant::now();
        match gate.enter(principal, since).await {
            Ok(permit) => {
                gate.waited.observe(since.elapsed().as_secs_f64());
                Ok(permit)
            }
            Err(refusal) => {
                gate.refused.get_or_create(&refusal.label()).inc();
                Err(gate.status(refusal))
            }
        }
    }

    /// Lets nobody in any more; those that wait are refused.
    pub fn close(&self) {
        let mut state = self.0.state();
        state.closed = true;
        let calls = std::mem::take(&mut state.calls);
        state.turns = std::mem::replace(&mut state.turns, Turns::new(1, 1, 0)).without_waiting();
        drop(state);
        for (_, call) in calls.into_values() {
            let _ = call.send(Err(Refusal::Stopping));
        }
    }

    pub fn is_closed(&self) -> bool {
        self.0.state().closed
    }
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn room(&self) -> bool {
        let (part, of) = ROOM;
        (self.memory.held() as u64) < self.memory.limit() / of * part
    }

    fn permit(self: &Arc<Self>, principal: String) -> Permit {
        Permit { gate: Some(self.clone()), principal, since: Instant::now() }
    }

    /// Lets in as many as there are places for. What is told is the permit itself: where nobody hears it any more, it ends.
    fn let_in(self: &Arc<Self>, state: &mut State) {
        while let Some(next) = state.turns.next(self.room()) {
            let Some((principal, call)) = state.calls.remove(&next) else { continue };
            if let Err(Ok(mut unheard)) = call.send(Ok(self.permit(principal))) {
                // Its drop would wait for the lock that is held here.
                unheard.gate = None;
                state.turns.end(&unheard.principal);
            }
        }
    }

    async fn enter(self: &Arc<Self>, principal: &str, since: Instant) -> Result<Permit, Refusal> {
        // The place is dropped first, so that no permit is sent to one that is gone.
        let (mut told, place) = {
            let mut state = self.state();
            if state.closed {
                return Err(Refusal::Stopping);
            }
            state.tickets += 1;
            let ticket = state.tickets;
            match state.turns.arrive(principal, ticket, self.room()) {
                Arrival::Runs => return Ok(self.permit(principal.to_owned())),
                Arrival::Refused => return Err(Refusal::Full),
                Arrival::Waits => {}
                Arrival::Displaces(last) => {
                    if let Some((_, call)) = state.calls.remove(&last) {
                        let _ = call.send(Err(Refusal::Displaced));
                    }
                }
            }
            let (tell, told) = oneshot::channel();
            state.calls.insert(ticket, (principal.to_owned(), tell));
            (told, Place { gate: self, principal, ticket })
        };
        let until = tokio::time::Instant::from_std(since + self.limits.max_wait);
        loop {
            let look = (tokio::time::Instant::now() + LOOK_EVERY).min(until);
            tokio::select! {
                biased;
                told = &mut told => return told.unwrap_or(Err(Refusal::Stopping)),
                () = tokio::time::sleep_until(look) => {}
            }
            let mut state = self.state();
            self.let_in(&mut state);
            drop(state);
            if tokio::time::Instant::now() >= until {
                // It may have been told in this very moment.
                if let Ok(told) = told.try_recv() {
                    return told;
                }
                drop(place);
                return Err(Refusal::Waited);
            }
        }
    }

    fn status(&self, refusal: Refusal) -> Status {
        let (running, waiting, seconds) = {
            let state = self.state();
            (state.turns.running(), state.turns.waiting(), state.seconds)
        };
        let AdmissionLimits { max_queued, max_wait, .. } = self.limits;
        let waves = (waiting + 1).div_ceil(self.limits.max_running.max(1)) as f64;
        let (least, most) = RETRY_AFTER;
        let after = Duration::try_from_secs_f64(waves * seconds).unwrap_or(most).clamp(least, most);
        let shown = format!("{:.1} s", after.as_secs_f64());
        let busy = format!("{running} running, {waiting} waiting of at most {max_queued}");
        let why = match refusal {
            Refusal::Full => {
                format!("the server is busy ({busy}); try again in {shown}, or ask for less at once")
            }
            Refusal::Displaced => format!(
                "the server is busy ({busy}), and this query made place for one of a principal that has fewer waiting; try again in {shown}"
            ),
            Refusal::Waited => format!(
                "the query waited {} s for its turn ({busy}); try again in {shown}, or ask for less at once",
                max_wait.as_secs()
            ),
            Refusal::Stopping => return stopping(),
        };
        let mut status = status::status(Code::ResourceExhausted, why);
        let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        status.metadata_mut().insert(PUSHBACK, MetadataValue::from(millis));
        status
    }
}

/// What new calls are told while the server stops.
pub fn stopping() -> Status {
    status::status(
        Code::Unavailable,
        "the server is stopping and takes no new calls: try again when it is back, or at another",
    )
}
