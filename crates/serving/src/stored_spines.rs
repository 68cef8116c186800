//! Spines of recorded sets that lie on this machine's disk for a while, shared by those who read stretches of a set side by side.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use engine::spines::StoredSpine;
use engine::{Reserved, Session};
use futures::TryStreamExt;
use lineage::Manifest;
use tokio::sync::OnceCell;

use crate::column_edges::SPINE;
use crate::error::{Error, Kind, Result};
use crate::historical::Spine;
use crate::retrieve::Serving;

/// Spines that are on disk at once, beside those that are being read.
const KEPT: usize = 4;
/// How long one that nobody asks for is kept.
const IDLE: Duration = Duration::from_secs(30);

/// Spines by the objects that they lie in, each fetched once however many ask for it at a time.
#[derive(Clone, Default)]
pub(crate) struct StoredSpines(Arc<Mutex<Spines>>);

#[derive(Default)]
struct Spines {
    slots: HashMap<String, Slot>,
    /// Counts what was asked for, to tell what was asked for last.
    asked: u64,
}

struct Slot {
    spine: Arc<OnceCell<StoredSpine>>,
    asked: u64,
}

impl StoredSpines {
    /// The spine of an object, opened where it is not at hand.
    ///
    /// # Errors
    /// Those of opening it.
    async fn get(&self, path: &str, open: impl Future<Output = Result<StoredSpine>>) -> Result<StoredSpine> {
        let (cell, asked) = self.slot(path);
        self.make_room();
        let opened = cell.get_or_try_init(|| open).await.cloned();
        // From now on: fetching it may take longer than it is kept.
        self.forget_idle(path.to_owned(), asked);
        opened
    }

    fn slot(&self, path: &str) -> (Arc<OnceCell<StoredSpine>>, u64) {
        let mut spines = self.spines();
        spines.asked += 1;
        let asked = spines.asked;
        let slot =
            spines.slots.entry(path.to_owned()).or_insert_with(|| Slot { spine: Arc::default(), asked });
        slot.asked = asked;
        (slot.spine.clone(), asked)
    }

    /// Forgets those that were asked for longest ago. Who reads one keeps it until he is done.
    fn make_room(&self) {
        let mut spines = self.spines();
        while spines.slots.len() > KEPT {
            let oldest = spines.slots.iter().min_by_key(|(_, slot)| slot.asked).map(|(path, _)| path.clone());
            let Some(oldest) = oldest else { return };
            spines.slots.remove(&oldest);
        }
    }

    /// Forgets a spine when it was not asked for again for a while.
    fn forget_idle(&self, path: String, asked: u64) {
        let spines = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(IDLE).await;
            let mut spines = spines.spines();
            if spines.slots.get(&path).is_some_and(|slot| slot.asked == asked) {
                spines.slots.remove(&path);
            }
        });
    }

    fn spines(&self) -> MutexGuard<'_, Spines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Serving {
    /// The spine of a recorded set as it was given, proved.
    ///
    /// # Errors
    /// One that was changed or is gone; the disk has no room for a large one.
    pub(crate) async fn stored_spine(&self, manifest: &Manifest) -> Result<StoredSpine> {
        let (object, environment) = (&manifest.spine.object, self.engine.environment()?);
        // One in memory would keep others waiting for what nobody uses.
        if StoredSpine::is_small(object, &environment) {
            return Ok(StoredSpine::open(self.catalog(), object, &environment).await?);
        }
        let open =
            async { StoredSpine::open(self.catalog(), object, &environment).await.map_err(Error::from) };
        self.stored_spines.get(&object.path, open).await
    }

    /// All rows of it at once. They are charged as they are decoded, since compressed they may be a hundredth of what they take.
    ///
    /// # Errors
    /// `Exhausted` where there is no memory for them.
    pub(crate) async fn whole_spine(
        &self,
        session: &Session,
        manifest: &Manifest,
        held: &Reserved,
    ) -> Result<Spine> {
        let spine = self.stored_spine(manifest).await?;
        let plan = session.scan(SPINE, spine.table(0..spine.rows())?)?;
        let mut rows = session.run(session.prepare(&plan).await?)?;
        let mut batches = Vec::new();
        while let Some(batch) = rows.try_next().await? {
            held.grow(batch.get_array_memory_size() as u64).map_err(|_| too_large(manifest))?;
            batches.push(batch);
        }
        Ok(Spine { schema: spine.schema().clone(), batches })
    }

    /// One row of it; none where it has not so many. Only the pages with the row are decoded.
    pub(crate) async fn stored_row(&self, manifest: &Manifest, row: u64) -> Result<Option<RecordBatch>> {
        let spine = self.stored_spine(manifest).await?;
        let rows = spine.read(row..row.saturating_add(1), 1).await?;
        Ok(rows.into_iter().find(|batch| batch.num_rows() == 1))
    }

    /// The columns of it.
    pub(crate) async fn stored_schema(&self, manifest: &Manifest) -> Result<SchemaRef> {
        Ok(self.stored_spine(manifest).await?.schema().clone())
    }
}

fn too_large(manifest: &Manifest) -> Error {
    Error::new(
        Kind::Exhausted,
        format!(
            "the spine of the training set {} has {} rows, which take more memory than is left; ask again when less is going on, or let the program take more (`lineament serve --memory-limit`)",
            manifest.id, manifest.spine.rows
        ),
    )
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
    use catalog::{Author, Catalog};
    use datafusion::execution::runtime_env::RuntimeEnv;
    use storage::{Clock, Store};

    use super::*;
    use crate::export::write_parquet;

    async fn spine() -> StoredSpine {
        let author =
            Author { principal: "ada".to_owned(), program: "lineament test".to_owned(), ..Author::default() };
        let store = Store::open("memory://", Clock::System).unwrap();
        let catalog = Catalog::create(store, &author).await.unwrap();
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let rows = RecordBatch::try_from_iter([("number", numbers)]).unwrap();
        let mut bytes = Vec::new();
        write_parquet(rows.schema(), futures::stream::iter([Ok(rows)]), &mut bytes).await.unwrap();
        let object = catalog.put_object("spines/one.parquet".to_owned(), bytes.into()).await.unwrap();
        StoredSpine::open(&catalog, &object, &Arc::new(RuntimeEnv::default())).await.unwrap()
    }

    #[tokio::test]
    async fn one_that_took_long_to_fetch_is_kept_for_a_while_and_then_forgotten() {
        let (spines, spine) = (StoredSpines::default(), spine().await);
        tokio::time::pause();
        let slowly = async {
            tokio::time::sleep(2 * IDLE).await;
            Ok(spine)
        };
        assert_eq!(spines.get("one", slowly).await.unwrap().rows(), 3);
        tokio::time::sleep(IDLE / 2).await;
        assert_eq!(spines.spines().slots.len(), 1);
        tokio::time::sleep(IDLE).await;
        assert!(spines.spines().slots.is_empty());
    }
}
