//! Group commit: parts of many streams, staged side by side and committed by one entry.
//!
//! A producer numbers its parts (epoch, number) without a gap. Parts that come within a window are validated
//! as any rows are, written as one batch a view and claim, and one entry makes all of them visible; each is
//! acknowledged after that, and not before. What a producer committed stands in the fold, so a part that is
//! sent again gets its first answer, whoever sent it and whichever process took it.

mod checked_parts;
mod first_answers;
mod group;
mod part_records;
mod queue;
mod staging;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use feature::digest::{TableDigest, hash};
use feature::{BatchId, Name, Sequence};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use queue::Queued;

use super::{Claim, checking, resolve};
use crate::author::Author;
use crate::catalog::Catalog;
use crate::conditions::Conditions;
use crate::error::{Error, Result};
use crate::state::ViewVersion;
use crate::state::producers::{GREATEST, LastPart, Place};

/// When a group is committed, and how much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    /// How long the first part of a group waits for others.
    pub window: Duration,
    /// Bytes in memory of a group's rows; it is committed as soon as it has so many.
    pub bytes: usize,
    /// Bytes of the parts that were sent and not acknowledged. Who sends more waits.
    pub waiting_bytes: usize,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self { window: Duration::from_millis(250), bytes: 8 << 20, waiting_bytes: 64 << 20 }
    }
}

/// Where a producer's rows go.
#[derive(Clone, Debug)]
pub struct Target {
    pub project: Name,
    /// `weather`, or `fraud.weather`.
    pub view: String,
    /// One name for whatever numbers the parts: a station, a shard, a job.
    pub producer: String,
    /// Rows are known from their arrival, where the view has no column that says when; as back-fill, when its
    /// rule says.
    pub claim: Option<Claim>,
}

/// What became of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    pub place: Place,
    /// `weather@2`.
    pub version: String,
    /// The entry that holds it, from which its rows are visible where they are not kept back.
    pub sequence: Sequence,
    pub batch: BatchId,
    /// Rows that were taken.
    pub rows: u64,
    pub rejected: u64,
    /// More of its rows were rejected than the view bears, so that none was taken. It counts as committed.
    pub refused: bool,
    /// The batch that holds it failed its checks and was kept back: the rows are there, and count for nobody until it is
    /// released.
    pub quarantined: bool,
    /// It was committed before; this is what it was answered then.
    pub repeated: bool,
    /// The first few rejections, in words.
    pub examples: Vec<String>,
}

/// A part that was sent, until it is acknowledged.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Result<Acknowledged>>);

impl Pending {
    /// Waits for the commit of the part's group.
    ///
    /// # Errors
    /// `Invalid` for rows that do not fit, a gap in the numbers, an epoch that is over, or other content
    /// under a number that is committed; `Contended` and storage's errors where the outcome is open: send the
    /// part again.
    pub async fn acknowledged(self) -> Result<Acknowledged> {
        self.0.await.unwrap_or_else(|_| Err(stopped()))
    }
}

fn stopped() -> Error {
    Error::Contended("the group commit stopped before this part was committed; send it again".to_owned())
}

/// The streams that come into one store through this process. Cheap to clone; all clones share one window.
#[derive(Clone)]
pub struct Streams(Arc<Inner>);

struct Inner {
    catalog: Catalog,
    conditions: Arc<dyn Conditions>,
    settings: StreamSettings,
    /// One permit a KiB.
    room: Arc<Semaphore>,
    /// To the task that commits groups, from the first part on.
    queue: Mutex<Option<mpsc::UnboundedSender<Queued>>>,
}

impl Streams {
    pub fn new(catalog: Catalog, conditions: Arc<dyn Conditions>, settings: StreamSettings) -> Self {
        let room = Arc::new(Semaphore::new(kibibytes(settings.waiting_bytes) as usize));
        Self(Arc::new(Inner { catalog, conditions, settings, room, queue: Mutex::new(None) }))
    }

    pub fn settings(&self) -> StreamSettings {
        self.0.settings
    }

    /// What a producer committed last into a view; none before its first part.
    ///
    /// # Errors
    /// `NotFound` where there is no such view; those of the storage.
    pub async fn last_part(&self, target: &Target) -> Result<Option<LastPart>> {
        let state = self.0.catalog.refresh().await?;
        let version = resolve(&state, &target.project, &target.view)?;
        Ok(state.last_part(version.view, &target.producer))
    }

    /// Begins or goes on with a stream.
    ///
    /// # Errors
    /// `NotFound` where there is no such view; `Invalid` for one that is derived, and for a name that no
    /// producer has.
    pub async fn open(&self, target: Target, author: Author) -> Result<ProducerStream> {
        verify_producer(&target.producer)?;
        let state = self.0.catalog.refresh().await?;
        let version = resolve(&state, &target.project, &target.view)?;
        if version.definition.derived.is_some() {
            return Err(Error::Invalid(format!(
                "`{0}` is derived, so that its rows come from its query: `lineament refresh {0}` brings it up to date",
                version.definition.name
            )));
        }
        Ok(ProducerStream {
            streams: self.clone(),
            target: Arc::new(target),
            author: Arc::new(author),
            version,
        })
    }

    fn enqueue(&self, queued: Queued) {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let unsent = match &*queue {
            Some(sender) => match sender.send(queued) {
                Ok(()) => return,
                Err(mpsc::error::SendError(unsent)) => unsent,
            },
            None => queued,
        };
        // Nobody listens yet, or who did ended with its runtime.
        let (sender, parts) = mpsc::unbounded_channel();
        let worker = queue::Worker::new(self.0.catalog.clone(), self.0.conditions.clone(), self.0.settings);
        tokio::spawn(worker.run(parts));
        // The receiver is held by the task, or its drop tells whoever waits.
        let _ = sender.send(unsent);
        *queue = Some(sender);
    }
}

/// One producer's stream into one view.
#[derive(Clone)]
pub struct ProducerStream {
    streams: Streams,
    target: Arc<Target>,
    author: Arc<Author>,
    version: ViewVersion,
}

impl ProducerStream {
    /// The version that was in force when the stream was opened.
    pub fn version(&self) -> &ViewVersion {
        &self.version
    }

    /// Whether rows of these columns can be sent.
    ///
    /// # Errors
    /// `Invalid`, with what does not fit.
    pub fn fit(&self, schema: &Schema) -> Result<()> {
        let rows = super::Rows::from_batches("the stream", Arc::new(schema.clone()), Vec::new());
        checking::fit(&self.version, &rows).map(drop)
    }

    /// Sends a part; waits while too much is not acknowledged yet. Parts of one producer must be sent in
    /// their order.
    ///
    /// # Errors
    /// `Invalid` for a part without rows, and for an epoch or number that there cannot be.
    pub async fn send(&self, place: Place, rows: RecordBatch) -> Result<Pending> {
        self.send_holding(place, rows, ()).await
    }

    /// As [`Self::send`]; what is held is dropped when the part is answered.
    ///
    /// # Errors
    /// Those of [`Self::send`].
    pub async fn send_holding(
        &self,
        place: Place,
        rows: RecordBatch,
        held: impl Send + Sync + 'static,
    ) -> Result<Pending> {
        let invalid = |why: String| {
            Error::Invalid(format!("a part of producer `{}` ({place}): {why}", self.target.producer))
        };
        if !(1..=GREATEST).contains(&place.epoch) || !(1..=GREATEST).contains(&place.number) {
            return Err(invalid(format!("epochs and numbers are from 1 to {GREATEST}")));
        }
        if rows.num_rows() == 0 {
            return Err(invalid("it has no rows; send none where there is nothing to send".to_owned()));
        }
        let inner = &self.streams.0;
        let algorithm = inner.catalog.state().hash;
        let mut table =
            TableDigest::new(algorithm, rows.schema_ref()).map_err(|error| invalid(error.to_string()))?;
        table.update(&rows).map_err(|error| invalid(error.to_string()))?;
        // Part of what is kept, so that the words may not change.
        let claim = match self.target.claim {
            None => "none",
            Some(Claim::BackFill) => "back_fill",
            Some(Claim::Correction) => "correction",
        };
        let content = format!("part {} {claim} {}", self.version.view, table.finish().digest);
        let bytes = rows.get_array_memory_size();
        let most = kibibytes(inner.settings.waiting_bytes);
        let room = inner.room.clone().acquire_many_owned(kibibytes(bytes).min(most)).await;
        let (answer, pending) = oneshot::channel();
        self.streams.enqueue(Queued {
            target: self.target.clone(),
            author: self.author.clone(),
            view: self.version.view,
            place,
            digest: hash(algorithm, content.as_bytes()),
            rows,
            bytes,
            answer,
            since: Instant::now(),
            _room: room.ok(),
            _held: Box::new(held),
        });
        Ok(Pending(pending))
    }
}

fn kibibytes(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).clamp(1, 1 << 28)
}

/// The longest name of a producer; it stands in the log with each run of parts.
const PRODUCER_BYTES: usize = 256;

fn verify_producer(name: &str) -> Result<()> {
    let why = match name {
        "" => "it is empty".to_owned(),
        name if name.len() > PRODUCER_BYTES => {
            format!("it has {} bytes, and at most {PRODUCER_BYTES} are allowed", name.len())
        }
        name if name.chars().any(char::is_control) => "it has control characters".to_owned(),
        _ => return Ok(()),
    };
    Err(Error::Invalid(format!("the producer's name cannot be taken: {why}; choose another, as `station-7`")))
}
