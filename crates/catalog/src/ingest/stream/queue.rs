//! The parts that wait, and the windows in which they are taken together.

use std::any::Any;
use std::sync::Arc;

use arrow::array::RecordBatch;
use feature::ViewId;
use feature::digest::Digest;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::{Acknowledged, StreamSettings, Target, group};
use crate::author::Author;
use crate::catalog::Catalog;
use crate::conditions::Conditions;
use crate::error::Result;
use crate::state::producers::Place;

/// Parts of one group: so many that its entry is far below the greatest that there may be.
const PARTS: usize = 10_000;

/// A part that waits for its commit.
pub struct Queued {
    pub target: Arc<Target>,
    pub author: Arc<Author>,
    pub view: ViewId,
    pub place: Place,
    /// Of what was asked: view, claim and content.
    pub digest: Digest,
    pub rows: RecordBatch,
    pub bytes: usize,
    /// When it came.
    pub since: Instant,
    pub answer: oneshot::Sender<Result<Acknowledged>>,
    /// Its share of what may wait, and whatever else is to be given back when it is answered.
    pub _room: Option<OwnedSemaphorePermit>,
    pub _held: Box<dyn Any + Send + Sync>,
}

impl Queued {
    /// Answers. Nobody may be there any more to hear it.
    pub fn answer(self, answer: Result<Acknowledged>) {
        let _ = self.answer.send(answer);
    }

    /// What people call it.
    pub fn origin(&self) -> String {
        format!("producer `{}`, {}", self.target.producer, self.place)
    }
}

/// The task that commits one group after another.
pub struct Worker {
    catalog: Catalog,
    conditions: Arc<dyn Conditions>,
    settings: StreamSettings,
}

impl Worker {
    pub fn new(catalog: Catalog, conditions: Arc<dyn Conditions>, settings: StreamSettings) -> Self {
        Self { catalog, conditions, settings }
    }

    /// Until nobody can send any more and all was answered.
    pub async fn run(self, mut parts: mpsc::UnboundedReceiver<Queued>) {
        while let Some(first) = parts.recv().await {
            // While a group is committed the next one gathers; what has waited long enough by then is taken
            // at once.
            let until = first.since + self.settings.window;
            let mut bytes = first.bytes;
            let mut group = vec![first];
            while bytes < self.settings.bytes && group.len() < PARTS {
                match timeout_at(until, parts.recv()).await {
                    Ok(Some(part)) => {
                        bytes += part.bytes;
                        group.push(part);
                    }
                    Ok(None) | Err(_) => break,
                }
            }
            for parts in by_author(group) {
                group::commit(&self.catalog, &self.conditions, parts).await;
            }
        }
    }
}

/// An entry has one author; those of several are committed one after another, in the order of their first
/// parts.
fn by_author(parts: Vec<Queued>) -> Vec<Vec<Queued>> {
    let mut groups: Vec<Vec<Queued>> = Vec::new();
    for part in parts {
        let same = |group: &&mut Vec<Queued>| group.first().is_some_and(|first| first.author == part.author);
        match groups.iter_mut().find(same) {
            Some(group) => group.push(part),
            None => groups.push(vec![part]),
        }
    }
    groups
}
