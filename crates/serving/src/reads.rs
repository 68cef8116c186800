//! What ad-hoc reads leave behind: who read which columns of which versions and what was made of them, flushed together.
//!
//! Reads wait in memory and go to `reads/{id}.parquet` with one entry a flush. A full queue refuses reads rather than forget them. What
//! waits is lost with its process, unless no answer may end before its read is on record ([`ReadRecords`]).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_recursion::async_recursion;
use catalog::records::{ReadsRecorded, Record};
use catalog::{Author, Intent, recorded_reads};
use engine::column_lineage::Traced;
use feature::policy::{Action, Purpose};
use feature::{BodyId, ReadId, Sequence, Timestamp};
use storage::environment;

use crate::error::{Error, Kind, Result};
use crate::read_rows;
use crate::retrieve::{Parameters, Serving};

/// Reads that may wait for a flush.
const QUEUE: usize = 100_000;

/// Edges that take one place in the queue.
const EDGES: usize = 50;
/// Reads of one object.
const OBJECT_READS: usize = 10_000;
/// … and edges, as long as there is more than one read.
const OBJECT_EDGES: usize = 1_000_000;

/// When a read is on record.
#[derive(Clone, Debug, Default)]
pub enum ReadRecords {
    /// With the next flush, which whoever runs the process calls for.
    #[default]
    Flushed,
    /// Before its answer ends, in entries by this author: an answer that came whole is on record whatever happens to the process, and
    /// one whose record cannot be written ends with an error. Answers that end at the same time share an entry.
    BeforeTheEnd(Author),
}

/// By which call somebody read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadKind {
    Sql,
    HistoricalFeatures,
    Explain,
    Audit,
    Diff,
    TrainingSet,
    Bias,
}

impl ReadKind {
    /// As `lineament.reads` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sql => "sql",
            Self::HistoricalFeatures => "historical_features",
            Self::Explain => "explain",
            Self::Audit => "audit",
            Self::Diff => "diff",
            Self::TrainingSet => "training_set",
            Self::Bias => "bias",
        }
    }
}

/// What somebody asked for and did not get.
#[derive(Clone, Debug)]
pub struct DeniedRead {
    pub action: Action,
    /// `weather@1.temp`, `weather@1.*`; of an action on a project its name.
    pub asked: String,
}

/// One read, as it will stand on record; or one that was denied.
#[derive(Clone, Debug)]
pub struct Read {
    pub(crate) id: ReadId,
    pub(crate) principal: String,
    pub(crate) program: String,
    pub(crate) run: Option<String>,
    pub(crate) experiment: Option<String>,
    /// What the principal was, and what it read for, as policies ask.
    pub(crate) roles: Vec<String>,
    pub(crate) purpose: Purpose,
    /// The snapshot of the session that read.
    pub(crate) session: Sequence,
    pub(crate) kind: Option<ReadKind>,
    /// What was asked for: the statement, or a call in its words.
    pub(crate) sql: String,
    /// Bound parameters by name, as JSON.
    pub(crate) parameters: Option<String>,
    /// What was read, and what the output was made of.
    pub(crate) traced: Arc<Traced>,
    pub(crate) denied: Option<DeniedRead>,
    pub(crate) at: Timestamp,
    pub rows: u64,
    pub micros: u64,
    pub error: Option<String>,
}

impl Read {
    pub fn new(author: &Author, session: Sequence, at: Timestamp, traced: Arc<Traced>) -> Self {
        Self {
            id: environment::mint(),
            principal: author.principal.clone(),
            program: author.program.clone(),
            run: author.run.clone(),
            experiment: author.experiment.clone(),
            roles: author.roles.clone(),
            purpose: author.purpose,
            session,
            kind: None,
            sql: String::new(),
            parameters: None,
            traced,
            denied: None,
            at,
            rows: 0,
            micros: 0,
            error: None,
        }
    }

    pub fn asked(&mut self, kind: ReadKind, words: impl Into<String>) {
        self.kind = Some(kind);
        self.sql = words.into();
    }

    pub fn with_parameters(&mut self, parameters: Option<&Parameters>) {
        self.parameters = parameters.map(|parameters| serde_json::json!(parameters).to_string());
    }

    /// The newest snapshot that rows were read from, which with time travel is not the session's.
    pub(crate) fn sequence(&self) -> Sequence {
        self.traced.scans.iter().map(|scan| scan.sequence).max().unwrap_or(self.session)
    }
}

/// Reads that wait for the next flush.
#[derive(Default)]
pub struct Reads {
    waiting: Mutex<Vec<(Read, usize)>>,
    reserved: AtomicUsize,
    /// Held while a flush writes: what it took is on record, or waits again, when the next one looks.
    flushing: tokio::sync::Mutex<()>,
}

/// A place in the queue, held from before the first row until the read is on record or given up.
pub struct Place {
    reads: Arc<Reads>,
    size: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.reads.reserved.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// How much of the queue a read takes.
fn size_of(traced: &Traced) -> usize {
    1 + traced.edges().count() / EDGES
}

impl Reads {
    /// A place for a read with these edges.
    ///
    /// # Errors
    /// `Unavailable` where the queue is full: no read goes unrecorded.
    pub fn reserve(self: &Arc<Self>, traced: &Traced) -> Result<Place> {
        let size = size_of(traced);
        if self.reserved.fetch_add(size, Ordering::Relaxed) >= QUEUE {
            self.reserved.fetch_sub(size, Ordering::Relaxed);
            return Err(Error::new(
                Kind::Unavailable,
                format!("{QUEUE} reads wait to be recorded; no read goes unrecorded: try again in a moment"),
            ));
        }
        Ok(Place { reads: self.clone(), size })
    }

    /// Reads that touched no feature are not kept: system views and constants have no lineage. Gives whether this one is.
    fn record(&self, mut place: Place, read: Read) -> bool {
        if read.traced.scans.is_empty() && read.traced.refused.is_none() && read.denied.is_none() {
            return false;
        }
        let size = std::mem::take(&mut place.size);
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((read, size));
        true
    }

    /// Reads that wait, and what of the queue is taken by them and by those that run, from 0 to 1.
    fn waiting(&self) -> (usize, f64) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).len();
        (waiting, self.reserved.load(Ordering::Relaxed) as f64 / QUEUE as f64)
    }

    fn take(&self) -> Vec<(Read, usize)> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put_back(&self, mut reads: Vec<(Read, usize)>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        reads.append(&mut waiting);
        *waiting = reads;
    }
}

impl Serving {
    /// Reads that wait to be recorded, and what of their queue is taken, from 0 to 1: a full one refuses reads.
    pub fn reads_waiting(&self) -> (usize, f64) {
        self.reads.waiting()
    }

    /// Does what policies may deny, and puts a denial on record: who asked for what by which words, and the policies that said no.
    ///
    /// # Errors
    /// Those of the work; `Unavailable` where the queue is full: no denial goes unrecorded.
    pub(crate) async fn on_record<T>(
        &self,
        author: &Author,
        action: Action,
        kind: Option<ReadKind>,
        words: impl FnOnce() -> String,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let error = match work.await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let Some(asked) = error.denied().map(str::to_owned) else { return Err(error) };
        let place = self.reads.reserve(&Traced::default())?;
        let state = self.catalog().state();
        let now = self.catalog().store().clock().now();
        let mut read = Read::new(author, state.head.sequence, now, Arc::default());
        read.kind = kind;
        read.sql = words();
        read.error = Some(error.to_string());
        read.denied = Some(DeniedRead { action, asked });
        self.record_read(place, read).await?;
        Err(error)
    }

    /// Keeps a read that ended, and where no answer may end before, waits until it is on record.
    ///
    /// # Errors
    /// Where it must be and cannot be written now: it waits, and the answer must not end as if it were written.
    pub(crate) async fn record_read(&self, place: Place, read: Read) -> Result<()> {
        let is_kept = self.reads.record(place, read);
        let ReadRecords::BeforeTheEnd(author) = &self.read_records else { return Ok(()) };
        if !is_kept {
            return Ok(());
        }
        // A task of its own: a flush that is cut off forgets what it holds.
        let (serving, author) = (self.clone(), author.clone());
        let flushed = tokio::spawn(async move { serving.flush(&author).await }).await;
        let flushed = flushed.map_err(|failed| Error::internal("the read could not be recorded", failed))?;
        flushed.map(|_| ()).map_err(|error| {
            let why = format!(
                "the read could not be recorded, and no answer ends without its record here: {error}"
            );
            Error::new(Kind::Unavailable, why)
        })
    }

    /// Writes what ad-hoc reads left to the log: one entry for all of them, and one object for as many as go into one. Until then
    /// `lineament.reads` does not show them. Gives how many were written.
    #[async_recursion]
    pub async fn flush(&self, author: &Author) -> Result<usize> {
        let _turn = self.reads.flushing.lock().await;
        let reads = self.reads.take();
        if reads.is_empty() {
            return Ok(0);
        }
        match self.write(&reads, author).await {
            Ok(()) => {
                let size = reads.iter().map(|(_, size)| size).sum();
                self.reads.reserved.fetch_sub(size, Ordering::Relaxed);
                Ok(reads.len())
            }
            Err(error) => {
                self.reads.put_back(reads);
                Err(error)
            }
        }
    }

    async fn write(&self, reads: &[(Read, usize)], author: &Author) -> Result<()> {
        let mut records = Vec::new();
        let state = self.catalog().state();
        for part in parts(reads) {
            let id: BodyId = environment::mint();
            let wrong = |error: &dyn std::fmt::Display| Error::internal("reads cannot be written", error);
            let rows = read_rows::of(part, state.policies()).map_err(|error| wrong(&error))?;
            let bytes = recorded_reads::encode(&rows).map_err(|error| wrong(&error))?;
            let object = self.catalog().put_object(format!("reads/{id}.parquet"), bytes).await?;
            records.push(Record::from(ReadsRecorded { reads: part.len() as u64, object }));
        }
        self.catalog().commit::<()>(author, None, |_| Ok(Intent::Append(records.clone()))).await?;
        Ok(())
    }
}

/// Reads in the parts that are one object each.
fn parts(reads: &[(Read, usize)]) -> Vec<&[(Read, usize)]> {
    let mut parts = Vec::new();
    let mut rest = reads;
    while !rest.is_empty() {
        let mut edges = 0;
        let fits = |(read, _): &&(Read, usize)| {
            edges += read.traced.edges().count();
            edges <= OBJECT_EDGES
        };
        let many = rest.iter().take(OBJECT_READS).take_while(fits).count().max(1);
        let (part, after) = rest.split_at(many);
        parts.push(part);
        rest = after;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read() -> (Read, usize) {
        let read = Read::new(&Author::default(), Sequence(3), Timestamp(0), Arc::default());
        (read, 1)
    }

    #[test]
    fn no_object_holds_more_reads_than_it_may() {
        let reads: Vec<_> = (0..OBJECT_READS + 1).map(|_| read()).collect();
        let sizes: Vec<usize> = parts(&reads).iter().map(|part| part.len()).collect();
        assert_eq!(sizes, [OBJECT_READS, 1]);
        assert!(parts(&[]).is_empty());
    }

    #[test]
    fn a_place_that_is_given_up_is_free_again() {
        let reads = Arc::new(Reads::default());
        let places: Vec<Place> = (0..QUEUE).map(|_| reads.reserve(&Traced::default()).unwrap()).collect();
        let refused = reads.reserve(&Traced::default()).err().unwrap();
        assert_eq!(refused.kind(), Kind::Unavailable);
        drop(places);
        let place = reads.reserve(&Traced::default()).unwrap();
        // A read of no feature is not kept, and its place is free.
        reads.record(place, read().0);
        assert_eq!(reads.reserved.load(Ordering::Relaxed), 0);
        assert!(reads.take().is_empty());
    }
}
