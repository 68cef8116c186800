//! What each producer has committed of its streams: who sends a part again finds it here, and no entry that
//! repeats or leaves out a part is folded.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use feature::digest::Digest;
use feature::{BatchId, Sequence, ViewId};

use super::chunked::Chunked;
use super::{ApplyError, Provenance, State, unresolved};
use crate::records::{PartRun, StreamPartsCommitted};

/// The greatest epoch and number: JSON holds no greater integer exactly.
pub const GREATEST: u64 = 1 << 53;

/// A place in a producer's stream into a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Raised by a producer that begins anew; whoever still sends under an earlier one is refused.
    pub epoch: u64,
    /// From 1, without a gap, in each epoch.
    pub number: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}, number {}", self.epoch, self.number)
    }
}

/// The last part that a producer committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastPart {
    pub place: Place,
    pub digest: Digest,
}

/// Where a part was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommittedPart {
    pub sequence: Sequence,
    pub batch: BatchId,
}

/// How a part stands to what its producer has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the one that is due.
    Next,
    /// It is there already.
    Committed(CommittedPart),
    /// It can never be taken, or not yet; the text says what to do.
    Refused(String),
}

/// One record, without its single parts.
#[derive(Debug)]
struct Taken {
    record: StreamPartsCommitted,
    by: Arc<Provenance>,
}

/// A run of a record.
#[derive(Clone, Debug)]
struct RunOf {
    taken: Arc<Taken>,
    run: usize,
}

impl RunOf {
    fn run(&self) -> &PartRun {
        &self.taken.record.runs[self.run]
    }
}

/// One producer's parts in one view.
#[derive(Clone, Debug)]
struct ProducerStream {
    last: LastPart,
    /// Of the last epoch, in the order of their numbers.
    runs: Chunked<RunOf>,
}

type StreamKey = (ViewId, Arc<str>);

/// Every producer's streams. Cheap to clone: what is full is shared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Producers {
    /// In the order of the log.
    all: Chunked<Arc<Taken>>,
    streams: Arc<HashMap<StreamKey, Arc<ProducerStream>>>,
}

impl Producers {
    fn stream(&self, view: ViewId, producer: &str) -> Option<&Arc<ProducerStream>> {
        self.streams.get(&(view, Arc::from(producer)))
    }

    /// Takes one in.
    ///
    /// # Errors
    /// Why a run cannot follow what its producer has committed.
    pub fn take(&mut self, record: &StreamPartsCommitted, by: &Arc<Provenance>) -> Result<(), String> {
        let bare = |run: &PartRun| PartRun { parts: Vec::new(), ..run.clone() };
        let bare = StreamPartsCommitted { runs: record.runs.iter().map(bare).collect(), ..record.clone() };
        let taken = Arc::new(Taken { record: bare, by: by.clone() });
        for (place, run) in record.runs.iter().enumerate() {
            if run.first < 1 || run.last < run.first || run.last > GREATEST || run.epoch > GREATEST {
                return Err(format!(
                    "producer `{}` has no parts {} to {}",
                    run.producer, run.first, run.last
                ));
            }
            let first = Place { epoch: run.epoch, number: run.first };
            let before = self.stream(record.view, &run.producer).map(|stream| stream.last.place);
            if !follows(before, first) {
                return Err(format!(
                    "producer `{}` has committed {}, and {first} does not follow",
                    run.producer,
                    told(before)
                ));
            }
            let place = RunOf { taken: taken.clone(), run: place };
            let last = Place { epoch: run.epoch, number: run.last };
            let last = LastPart { place: last, digest: run.digest };
            let key = (record.view, Arc::from(run.producer.as_str()));
            let stream = Arc::make_mut(&mut self.streams)
                .entry(key)
                .or_insert_with(|| Arc::new(ProducerStream { last, runs: Chunked::default() }));
            let stream = Arc::make_mut(stream);
            if stream.last.place.epoch != run.epoch {
                stream.runs = Chunked::default();
            }
            stream.last = last;
            stream.runs.push(place);
        }
        self.all.push(taken);
        Ok(())
    }

    /// The records after a sequence, as a checkpoint has them.
    pub fn records_after(
        &self,
        after: Option<Sequence>,
    ) -> impl Iterator<Item = (Sequence, StreamPartsCommitted)> {
        let from = self.all.partition_point(|taken| Some(taken.by.sequence) <= after);
        self.all.iter_from(from).map(|taken| (taken.by.sequence, taken.record.clone()))
    }

    /// How a part stands to what its producer has committed.
    pub fn standing(&self, view: ViewId, producer: &str, asked: Place) -> Standing {
        let Some(stream) = self.stream(view, producer) else {
            return match follows(None, asked) {
                true => Standing::Next,
                false => Standing::Refused(why_refused(producer, None, asked)),
            };
        };
        let last = stream.last.place;
        if follows(Some(last), asked) {
            return Standing::Next;
        }
        let at = stream.runs.partition_point(|run| run.run().last < asked.number);
        match stream.runs.get(at) {
            Some(run) if asked.epoch == last.epoch && run.run().first <= asked.number => {
                let (sequence, batch) = (run.taken.by.sequence, run.taken.record.batch);
                Standing::Committed(CommittedPart { sequence, batch })
            }
            _ => Standing::Refused(why_refused(producer, Some(last), asked)),
        }
    }

    /// Each producer's last part in each view, by view and name.
    pub fn lasts(&self) -> Vec<(ViewId, &str, LastPart)> {
        let mut all: Vec<_> =
            self.streams.iter().map(|((view, producer), stream)| (*view, &**producer, stream.last)).collect();
        all.sort_by_key(|(view, producer, _)| (*view, *producer));
        all
    }
}

/// Whether a part is due after the last one that was committed.
pub fn follows(last: Option<Place>, next: Place) -> bool {
    match last {
        Some(last) if last.epoch == next.epoch => last.number + 1 == next.number,
        Some(last) => next.epoch > last.epoch && next.number == 1,
        None => next.number == 1,
    }
}

fn told(last: Option<Place>) -> String {
    last.map_or_else(|| "nothing yet".to_owned(), |last| last.to_string())
}

/// Why a part that neither follows nor is there is refused.
pub fn why_refused(producer: &str, last: Option<Place>, asked: Place) -> String {
    match last {
        Some(last) if asked.epoch < last.epoch => format!(
            "producer `{producer}` has begun epoch {}, so that epoch {} is over and its part {} is refused; what it committed last is {last}: \
             another instance took over, or ask for what was committed last and go on in that epoch",
            last.epoch, asked.epoch, asked.number
        ),
        _ => format!(
            "part {} of producer `{producer}` (epoch {}) leaves a gap: what it committed last is {}; send the parts after that, in their order, without one missing",
            asked.number,
            asked.epoch,
            told(last)
        ),
    }
}

impl State {
    pub(super) fn commit_parts(
        &mut self,
        body: &StreamPartsCommitted,
        by: &Arc<Provenance>,
    ) -> Result<(), ApplyError> {
        let refused = || {
            let of_entry = self.refused.iter().rev().take_while(|refused| refused.by.sequence == by.sequence);
            of_entry.map(|refused| &refused.record).find(|refused| refused.batch == body.batch)
        };
        let held = || self.quarantine.of(body.batch).map(|held| &held.batch);
        let committed = self.batch(body.batch).or_else(held).filter(|batch| batch.by.sequence == by.sequence);
        let view = committed.map(|batch| batch.record.view).or_else(|| refused().map(|refused| refused.view));
        let Some(view) = view else {
            return Err(unresolved(by, "batch", body.batch.to_string()));
        };
        let wrong = |why: String| ApplyError::Stream { sequence: by.sequence, why };
        if view != body.view {
            return Err(wrong(format!("batch {} is of another view", body.batch)));
        }
        for run in &body.runs {
            let sum = |of: fn(&crate::records::StreamPart) -> u64| {
                run.parts.iter().map(of).fold(0, u64::saturating_add)
            };
            let whole = run.last.checked_sub(run.first) == (run.parts.len() as u64).checked_sub(1)
                && run.parts.last().is_some_and(|last| last.digest == run.digest)
                && (sum(|part| part.rows), sum(|part| part.rejected)) == (run.rows, run.rejected);
            if !whole {
                return Err(wrong(format!(
                    "the parts {} to {} of producer `{}` are not what is said of them",
                    run.first, run.last, run.producer
                )));
            }
        }
        self.producers.take(body, by).map_err(wrong)
    }

    /// What a producer committed last into a view; none before its first part.
    pub fn last_part(&self, view: ViewId, producer: &str) -> Option<LastPart> {
        self.producers.stream(view, producer).map(|stream| stream.last)
    }

    /// How a part stands to what its producer has committed.
    pub fn part_standing(&self, view: ViewId, producer: &str, asked: Place) -> Standing {
        self.producers.standing(view, producer, asked)
    }

    /// Every record of parts, in the order of the log; what it says of single parts is left out.
    pub fn stream_parts(&self) -> impl Iterator<Item = (&StreamPartsCommitted, &Arc<Provenance>)> {
        self.producers.all.iter_from(0).map(|taken| (&taken.record, &taken.by))
    }

    /// Each producer's last part in each view, by view and name.
    pub fn producers(&self) -> Vec<(ViewId, &str, LastPart)> {
        self.producers.lasts()
    }
}
