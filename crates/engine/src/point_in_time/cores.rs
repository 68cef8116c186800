//! Work of one query that is done side by side.

use std::num::NonZeroUsize;

use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result};

/// How much is done at once.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Does work in a task of its own, which ends where nobody waits for it.
pub async fn apart<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    SpawnedTask::spawn(work).join().await.map_err(|error| DataFusionError::External(Box::new(error)))?
}
