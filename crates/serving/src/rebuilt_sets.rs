//! Training sets that were rebuilt and are shared by those who read them side by side.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_recursion::async_recursion;
use catalog::Author;
use engine::{Memory, Reserved};
use feature::TrainingSetId;
use futures::TryStreamExt;
use tokio::sync::OnceCell;

use crate::error::{Error, Result};
use crate::replay::ReplayStream;
use crate::retrieve::Serving;
use crate::stretches::bytes_of;

/// Of all memory, the part that rebuilt sets may hold: one in so many.
const SHARE: u64 = 4;
/// How long a set that nobody asks for is kept.
const IDLE: Duration = Duration::from_secs(30);

/// A set that was rebuilt and is equal to what was recorded.
pub(crate) struct RebuiltSet {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    bytes: u64,
    /// Its memory, until the last reader is done.
    _held: Reserved,
}

/// Sets by their ids, each rebuilt once however many ask for it at a time.
#[derive(Clone, Default)]
pub(crate) struct RebuiltSets(Arc<Mutex<Sets>>);

#[derive(Default)]
struct Sets {
    /// And by their spines: an erasure puts another in the place of a set's.
    slots: HashMap<Key, Slot>,
    /// Counts what was asked for, to tell what was asked for last.
    asked: u64,
}

/// A set that is at hand; none where it is larger than what may be held, which is not tried again at each of its stretches.
type AtHand = OnceCell<Option<Arc<RebuiltSet>>>;

type Key = (TrainingSetId, String);

struct Slot {
    set: Arc<AtHand>,
    asked: u64,
}

impl Slot {
    fn bytes(&self) -> u64 {
        self.set.get().and_then(Option::as_ref).map_or(0, |set| set.bytes)
    }
}

impl RebuiltSets {
    /// Bytes that all sets together may hold.
    pub fn share(&self, memory: &Memory) -> u64 {
        memory.limit() / SHARE
    }

    /// The set, rebuilt where it is not at hand; none where it is larger than its share of the memory, or than what is left.
    ///
    /// # Errors
    /// Those of a replay; `Damaged` where it does not give what was recorded.
    #[async_recursion]
    pub async fn get(
        &self,
        serving: &Serving,
        id: TrainingSetId,
        author: &Author,
    ) -> Result<Option<Arc<RebuiltSet>>> {
        // Also who finds it at hand.
        let manifest = serving.manifest(id).await?;
        serving.require_as_recorded(&manifest, author).await?;
        let key = (id, manifest.spine.object.path);
        let share = self.share(serving.memory());
        let (cell, asked) = self.slot(&key);
        let set = cell.get_or_try_init(|| rebuild(serving, id, share, author)).await?.clone();
        self.make_room(&key, share);
        self.forget_idle(key, asked);
        Ok(set)
    }

    fn slot(&self, key: &Key) -> (Arc<AtHand>, u64) {
        let mut sets = self.sets();
        sets.asked += 1;
        let asked = sets.asked;
        let slot = sets.slots.entry(key.clone()).or_insert_with(|| Slot { set: Arc::default(), asked });
        slot.asked = asked;
        (slot.set.clone(), asked)
    }

    /// Forgets those that were asked for longest ago, until the rest fits. Who reads one keeps it until he is done.
    fn make_room(&self, newest: &Key, share: u64) {
        let mut sets = self.sets();
        while sets.slots.values().map(Slot::bytes).sum::<u64>() > share {
            let others = sets.slots.iter().filter(|(key, slot)| *key != newest && slot.bytes() > 0);
            let oldest = others.min_by_key(|(_, slot)| slot.asked).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { return };
            sets.slots.remove(&oldest);
        }
    }

    /// Forgets a set when it was not asked for again for a while.
    fn forget_idle(&self, key: Key, asked: u64) {
        let sets = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(IDLE).await;
            let mut sets = sets.sets();
            if sets.slots.get(&key).is_some_and(|slot| slot.asked == asked) {
                sets.slots.remove(&key);
            }
        });
    }

    fn sets(&self) -> MutexGuard<'_, Sets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// None where it takes more than may be held, which only its rows show: a spine may take many times what its object has.
async fn rebuild(
    serving: &Serving,
    id: TrainingSetId,
    share: u64,
    author: &Author,
) -> Result<Option<Arc<RebuiltSet>>> {
    let held = serving.memory().reserve("training set");
    let then = format!("its rows are not given; `lineament replay {id}` reports on it");
    let ReplayStream { schema, mut rows, report } = serving.replay_stream(id, then, author).await?;
    let (mut batches, mut bytes) = (Vec::new(), 0);
    while let Some(batch) = rows.try_next().await? {
        let more = bytes_of(std::slice::from_ref(&batch));
        bytes += more;
        if bytes > share || held.grow(more).is_err() {
            return Ok(None);
        }
        batches.push(batch);
    }
    report.await.map_err(|error| Error::internal("the replay has no report", error))?;
    Ok(Some(Arc::new(RebuiltSet { schema, batches, bytes, _held: held })))
}
