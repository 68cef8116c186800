//! OpenLineage events on their way out: the log, told to one consumer, in order.
//!
//! The log itself is the queue. An [`Emission`] stands somewhere in it and sends what comes next; a
//! [`Cursor`] keeps where that is over restarts. So a consumer that is slow or dead loses nothing, and nobody
//! who writes or reads waits for it. Events come at least once: after a crash those since the cursor was last
//! kept come again, the same byte for byte.

mod around;
mod cursor;
mod file;
mod material;

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_recursion::async_recursion;
use async_trait::async_trait;
use catalog::{Followed, Following};
use feature::{Sequence, StoreId};
use lineage::openlineage::{Event, Namespace, Translator};
use tokio::time::Instant;

use crate::error::{Error, Kind, Result};
use crate::retrieve::Serving;

pub use around::EventsAround;
pub use cursor::{Cursor, Position};
pub use file::FileSink;

/// The first pause after a failed attempt; each later one is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The longest that a consumer may ask to be left alone.
const LONGEST_ASKED: Duration = Duration::from_secs(300);
/// How often the end of the log is looked at for more.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Events after which the cursor is kept, where the log has still more.
const KEEP_EVERY: u64 = 100;
/// How often a consumer that does not take events is spoken of.
const SPEAK_EVERY: Duration = Duration::from_secs(60);

/// Why a consumer did not take an event.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// It may take it later; `after` where it said when.
    NotNow { why: String, after: Option<Duration> },
    /// It never will.
    Never { why: String },
}

/// Where events go.
#[async_trait]
pub trait Sink: Send {
    /// How it is named in messages and in the cursor; without credentials.
    fn place(&self) -> &str;

    /// Hands over one event.
    async fn send(&mut self, event: &Event) -> Result<(), Refusal>;

    /// Done when everything that was handed over is kept there.
    async fn settle(&mut self) -> Result<(), Refusal>;
}

/// Where to begin, and how to name things.
#[derive(Clone, Debug, Default)]
pub struct EmissionOptions {
    /// Begin at this sequence, whatever the cursor says.
    pub from: Option<Sequence>,
    /// The file that keeps the position; without one, each emission begins at the first entry.
    pub cursor: Option<PathBuf>,
    /// The authority of the namespace `lineament://…`; the store's id where none is given.
    pub authority: Option<String>,
    /// Whether ad-hoc reads are told as well, each as a run.
    pub reads: bool,
}

/// How far a consumer is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Lag {
    /// The entry that is sent next.
    pub next: Sequence,
    /// The newest entry.
    pub head: Sequence,
    /// Entries that are still to be sent.
    pub entries: u64,
}

impl Lag {
    pub fn between(next: Sequence, head: Sequence) -> Self {
        Self { next, head, entries: (head.0 + 1).saturating_sub(next.0) }
    }
}

impl fmt::Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} entries behind: {} is sent next, and {} is the newest",
            self.entries, self.next, self.head
        )
    }
}

/// What a call of [`Emission::drain`] sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub events: u64,
}

/// An entry that is translated record by record: one of reads can have very many events.
struct Opened {
    entry: Followed,
    /// The record that is next.
    record: usize,
    /// Events of the records before it.
    events: usize,
}

/// Hears of what is in the way, and how far behind the consumer is.
type OnTrouble = dyn Fn(&str, Lag) + Send;

/// The log on its way to one consumer.
pub struct Emission {
    following: Following,
    translator: Translator,
    store: StoreId,
    sink: Box<dyn Sink>,
    cursor: Option<Cursor>,
    /// The event that is sent next.
    next: Position,
    with_reads: bool,
    /// An entry of which not all records are translated yet.
    entry: Option<Opened>,
    /// Events of the record that was translated last.
    waiting: VecDeque<Event>,
    /// Events since the cursor was last kept.
    unkept: u64,
    /// Told of troubles that pass, with the lag.
    trouble: Box<OnTrouble>,
}

impl Emission {
    /// An emission that stands where its cursor, or `from`, says. Nothing is sent yet.
    ///
    /// # Errors
    /// A cursor that is of another store or consumer, or cannot be read; an authority that is none; a
    /// beginning beyond the end of the log.
    pub async fn open(serving: &Serving, sink: Box<dyn Sink>, options: EmissionOptions) -> Result<Self> {
        let state = serving.catalog().refresh().await?;
        let namespace = match &options.authority {
            Some(authority) => Namespace::of_authority(authority)
                .map_err(|error| Error::new(Kind::Invalid, error.to_string()))?,
            None => Namespace::of_store(state.store),
        };
        let cursor = options.cursor.map(|path| Cursor::new(path, state.store, sink.place()));
        let kept = match (&cursor, options.from) {
            (_, Some(from)) => Some(Position { sequence: from, part: 0 }),
            (Some(cursor), None) => cursor.read()?,
            (None, None) => None,
        };
        let next = kept.unwrap_or_default();
        if next.sequence > state.head.sequence.next() {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "events are to begin at sequence {}, but the log ends at {}; begin at {} or earlier",
                    next.sequence,
                    state.head.sequence,
                    state.head.sequence.next()
                ),
            ));
        }
        Ok(Self {
            following: Following::new(serving.catalog().clone()),
            translator: Translator::new(namespace),
            store: state.store,
            sink,
            cursor,
            next,
            with_reads: options.reads,
            entry: None,
            waiting: VecDeque::new(),
            unkept: 0,
            trouble: Box::new(|_, _| {}),
        })
    }

    /// Whom to tell of troubles that pass: what is wrong, and how far the consumer is behind.
    #[must_use]
    pub fn on_trouble(self, trouble: impl Fn(&str, Lag) + Send + 'static) -> Self {
        Self { trouble: Box::new(trouble), ..self }
    }

    pub fn store(&self) -> StoreId {
        self.store
    }

    pub fn place(&self) -> &str {
        self.sink.place()
    }

    pub fn lag(&self) -> Lag {
        Lag::between(self.next.sequence, self.following.known_head())
    }

    /// Sends all that the log holds now.
    ///
    /// # Errors
    /// `Refused` names the event that the consumer will never take, `Unavailable` says that it took none for
    /// as long as `patience`; both leave everything from that event on for the next call. Those of the store.
    #[async_recursion]
    pub async fn drain(&mut self, patience: Option<Duration>) -> Result<Sent> {
        let mut sent = Sent::default();
        let outcome = loop {
            match self.step(patience).await {
                Ok(Some(events)) => sent.events += events,
                Ok(None) => break Ok(sent),
                Err(error) => break Err(error),
            }
        };
        // What was taken need not be sent again, whatever came after it.
        let kept = self.keep(patience).await;
        outcome.and_then(|sent| kept.map(|()| sent))
    }

    /// Sends what the log holds and what comes, until `stop` is done.
    ///
    /// # Errors
    /// `Refused` as for [`drain`](Self::drain); called again, it begins with that event. Troubles that pass
    /// are waited out.
    pub async fn follow(&mut self, stop: impl Future<Output = ()>) -> Result<()> {
        tokio::select! {
            outcome = self.send_for_ever() => match outcome {
                Ok(never) => match never {},
                Err(error) => Err(error),
            },
            () = stop => self.keep(Some(Duration::ZERO)).await,
        }
    }

    async fn send_for_ever(&mut self) -> Result<std::convert::Infallible> {
        let mut pauses = Pauses::default();
        loop {
            match self.drain(None).await {
                Ok(_) => {
                    pauses = Pauses::default();
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                // The object storage may be away for a while as well.
                Err(error) if error.kind() == Kind::Unavailable => {
                    (self.trouble)(&error.to_string(), self.lag());
                    tokio::time::sleep(pauses.next(None)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends the events of one record, and gives how many; none at the end of the log.
    async fn step(&mut self, patience: Option<Duration>) -> Result<Option<u64>> {
        if self.waiting.is_empty() {
            if self.entry.is_none() {
                let entry = self.following.next().await?;
                self.entry = entry.map(|entry| Opened { entry, record: 0, events: 0 });
            }
            let Some(opened) = &mut self.entry else { return Ok(None) };
            let sequence = opened.entry.by.sequence;
            // Those before the beginning are read for the state alone.
            if sequence < self.next.sequence {
                self.entry = None;
                return Ok(Some(0));
            }
            let record = opened.entry.records.get(opened.record);
            let material = material::of_record(&self.following, record, self.with_reads).await?;
            if let Some(state) = self.following.state() {
                let Opened { entry, record, events } = opened;
                let told = self.translator.translate_record(entry, *record, *events, state, &material);
                *events += told.len();
                let first = if sequence == self.next.sequence { self.next.part } else { 0 };
                self.waiting = told.into_iter().filter(|event| event.part >= first).collect();
            }
            opened.record += 1;
            if opened.record >= opened.entry.records.len() {
                self.entry = None;
            }
            if self.waiting.is_empty() {
                if self.entry.is_none() {
                    self.passed(sequence);
                }
                return Ok(Some(0));
            }
        }
        let mut sent = 0;
        while let Some(event) = self.waiting.front().cloned() {
            self.deliver(&event, patience).await?;
            self.waiting.pop_front();
            sent += 1;
            self.unkept += 1;
            self.next = Position { sequence: event.sequence, part: event.part + 1 };
            if self.waiting.is_empty() && self.entry.is_none() {
                self.passed(event.sequence);
            }
        }
        if self.unkept >= KEEP_EVERY {
            self.keep(patience).await?;
        }
        Ok(Some(sent))
    }

    fn passed(&mut self, sequence: Sequence) {
        self.next = self.next.max(Position { sequence: sequence.next(), part: 0 });
    }

    async fn deliver(&mut self, event: &Event, patience: Option<Duration>) -> Result<()> {
        let mut waiting = Waiting::new(patience);
        loop {
            let refusal = match self.sink.send(event).await {
                Ok(()) => return Ok(()),
                Err(refusal) => refusal,
            };
            let what = format!("{event}");
            self.wait_out(refusal, &what, &mut waiting).await?;
        }
    }

    /// Keeps what was sent, and then the place after it.
    async fn keep(&mut self, patience: Option<Duration>) -> Result<()> {
        let mut waiting = Waiting::new(patience);
        loop {
            match self.sink.settle().await {
                Ok(()) => break,
                Err(refusal) => self.wait_out(refusal, "what was sent last", &mut waiting).await?,
            }
        }
        if let Some(cursor) = &mut self.cursor {
            cursor.keep(self.next)?;
        }
        self.unkept = 0;
        Ok(())
    }

    async fn wait_out(&mut self, refusal: Refusal, what: &str, waiting: &mut Waiting) -> Result<()> {
        let place = self.sink.place().to_owned();
        match refusal {
            Refusal::Never { why } => Err(Error::new(
                Kind::Refused,
                format!(
                    "{place} does not take {what}: {why}; nothing after it was sent. Mend the consumer and send again, or go on behind it with --from {}",
                    self.next.sequence.next()
                ),
            )),
            Refusal::NotNow { why, after } => {
                let said = format!("{place} does not take {what} now: {why}");
                let Some(pause) = waiting.next(after) else {
                    return Err(Error::new(
                        Kind::Unavailable,
                        format!("{said}; {}. Send again, and it goes on from there", self.lag()),
                    ));
                };
                if waiting.is_time_to_speak() {
                    (self.trouble)(&said, self.lag());
                }
                tokio::time::sleep(pause).await;
                Ok(())
            }
        }
    }
}

/// How long one event has been waited for.
struct Waiting {
    patience: Option<Duration>,
    since: Instant,
    spoke: Option<Instant>,
    pauses: Pauses,
}

impl Waiting {
    fn new(patience: Option<Duration>) -> Self {
        Self { patience, since: Instant::now(), spoke: None, pauses: Pauses::default() }
    }

    /// The next pause; none where patience would end before it does.
    fn next(&mut self, asked: Option<Duration>) -> Option<Duration> {
        let pause = self.pauses.next(asked);
        let ends = self.since.elapsed() + pause;
        self.patience.is_none_or(|patience| ends <= patience).then_some(pause)
    }

    fn is_time_to_speak(&mut self) -> bool {
        let is_time = self.spoke.is_none_or(|spoke| spoke.elapsed() >= SPEAK_EVERY);
        if is_time {
            self.spoke = Some(Instant::now());
        }
        is_time
    }
}

/// Pauses that grow.
struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pauses {
    fn next(&mut self, asked: Option<Duration>) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        asked.map_or(pause, |asked| asked.min(LONGEST_ASKED).max(pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_hear_the_consumer() {
        let mut pauses = Pauses::default();
        let first: Vec<u128> = (0..4).map(|_| pauses.next(None).as_millis()).collect();
        assert_eq!(first, [100, 200, 400, 800]);
        assert_eq!(pauses.next(Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(pauses.next(Some(Duration::from_secs(7_000))), LONGEST_ASKED);
        for _ in 0..20 {
            pauses.next(None);
        }
        assert_eq!(pauses.next(Some(Duration::ZERO)), LONGEST_PAUSE);
    }

    #[test]
    fn lag_counts_entries_that_are_to_be_sent() {
        assert_eq!(Lag::between(Sequence(0), Sequence(0)).entries, 1);
        assert_eq!(Lag::between(Sequence(1), Sequence(0)).entries, 0);
        assert_eq!(Lag::between(Sequence(3), Sequence(17)).entries, 15);
    }
}
