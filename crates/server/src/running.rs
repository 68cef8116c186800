//! Queries whose rows are on their way, so that their caller can stop them.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{Stream, StreamExt};
use tokio::sync::watch;
use tonic::{Code, Status};

use crate::status;

/// All that run now, by caller and ticket.
#[derive(Clone, Default)]
pub struct RunningQueries(Arc<Mutex<Running>>);

/// Caller and ticket.
type Key = (String, Vec<u8>);
/// The number of a query, and how it is stopped.
type Begun = (u64, watch::Sender<bool>);

#[derive(Default)]
struct Running {
    queries: HashMap<Key, Vec<Begun>>,
    begun: u64,
}

/// One that runs; it is forgotten when it is dropped.
pub struct RunningQuery {
    all: RunningQueries,
    caller: String,
    ticket: Vec<u8>,
    number: u64,
    stopped: watch::Receiver<bool>,
}

impl RunningQueries {
    pub fn begin(&self, caller: &str, ticket: &[u8]) -> RunningQuery {
        let (stop, stopped) = watch::channel(false);
        let mut running = self.running();
        running.begun += 1;
        let number = running.begun;
        let (caller, ticket) = (caller.to_owned(), ticket.to_vec());
        running.queries.entry((caller.clone(), ticket.clone())).or_default().push((number, stop));
        RunningQuery { all: self.clone(), caller, ticket, number, stopped }
    }

    /// Stops the queries of this caller that run by a ticket. How many there were.
    pub fn cancel(&self, caller: &str, ticket: &[u8]) -> usize {
        let running = self.running();
        let found = running.queries.get(&(caller.to_owned(), ticket.to_vec()));
        let stop = |(_, stop): &&Begun| stop.send(true).is_ok();
        found.map_or(0, |queries| queries.iter().filter(stop).count())
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunningQuery {
    /// What comes of the work, unless the query is stopped first.
    pub async fn or_stopped<T>(&self, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        tokio::select! {
            biased;
            () = stopped(self.stopped.clone()) => Err(cancelled()),
            done = work => done,
        }
    }

    /// The stream, which ends with an error when the query is stopped.
    pub fn until_stopped<S, T>(self, stream: S) -> Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>
    where
        S: Stream<Item = Result<T, Status>> + Send + 'static,
        T: Send + 'static,
    {
        let state = Some((self, stream.boxed()));
        Box::pin(futures::stream::unfold(state, |state| async move {
            let (query, mut stream) = state?;
            let next = tokio::select! {
                biased;
                () = stopped(query.stopped.clone()) => None,
                next = stream.next() => Some(next),
            };
            match next {
                // What feeds the stream stops when it is dropped.
                None => Some((Err(cancelled()), None)),
                Some(None) => None,
                Some(Some(item)) => Some((item, Some((query, stream)))),
            }
        }))
    }
}

impl Drop for RunningQuery {
    fn drop(&mut self) {
        let key = (std::mem::take(&mut self.caller), std::mem::take(&mut self.ticket));
        let mut running = self.all.running();
        let Some(queries) = running.queries.get_mut(&key) else { return };
        queries.retain(|(number, _)| *number != self.number);
        if queries.is_empty() {
            running.queries.remove(&key);
        }
    }
}

async fn stopped(mut stopped: watch::Receiver<bool>) {
    // The sender lives as long as the query.
    if stopped.wait_for(|stopped| *stopped).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn cancelled() -> Status {
    status::status(Code::Cancelled, "the query was cancelled by its caller")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_query_of_its_caller_is_stopped() {
        let running = RunningQueries::default();
        let endless = || futures::stream::repeat_with(|| Ok(1));
        let mut hers = running.begin("ada", b"t").until_stopped(endless());
        let mut his = running.begin("bob", b"t").until_stopped(endless());
        assert_eq!(hers.next().await.unwrap().unwrap(), 1);
        assert_eq!((running.cancel("ada", b"u"), running.cancel("eve", b"t")), (0, 0));
        assert_eq!(running.cancel("ada", b"t"), 1);
        assert_eq!(hers.next().await.unwrap().unwrap_err().code(), Code::Cancelled);
        assert!(hers.next().await.is_none());
        assert_eq!(his.next().await.unwrap().unwrap(), 1);
        drop((hers, his));
        assert!(running.running().queries.is_empty());
    }

    #[tokio::test]
    async fn work_before_the_first_row_is_stopped_too() {
        let running = RunningQueries::default();
        let query = running.begin("ada", b"t");
        assert_eq!(running.cancel("ada", b"t"), 1);
        let work = query.or_stopped(std::future::pending::<Result<(), Status>>());
        assert_eq!(work.await.unwrap_err().code(), Code::Cancelled);
    }
}
