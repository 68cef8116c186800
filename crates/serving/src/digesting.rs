//! Rows digested as they go by.

use arrow::array::RecordBatch;
use async_recursion::async_recursion;
use feature::digest::{TableDigest, TableDigestResult};
use tokio::task::JoinHandle;

use crate::error::{Error, Kind, Result};

/// Digests batches in their order, a batch at a time beside what else is done. No thread waits for the next one, for that may be
/// as long in coming as its reader likes.
pub(crate) struct Digesting(JoinHandle<Result<TableDigest>>);

impl Digesting {
    pub fn begin(table: TableDigest) -> Self {
        Self(tokio::spawn(std::future::ready(Ok(table))))
    }

    /// Begins to digest a batch once the one before it is done.
    #[async_recursion]
    pub async fn add(&mut self, batch: RecordBatch) -> Result<()> {
        let mut table = self.done().await?;
        self.0 = tokio::task::spawn_blocking(move || match table.update(&batch) {
            Ok(()) => Ok(table),
            Err(error) => Err(Error::new(Kind::Invalid, format!("the rows cannot be digested: {error}"))),
        });
        Ok(())
    }

    /// What the digest says so far.
    pub async fn look<T>(&mut self, at: impl FnOnce(&TableDigest) -> T) -> Result<T> {
        let table = self.done().await?;
        let seen = at(&table);
        self.0 = tokio::spawn(std::future::ready(Ok(table)));
        Ok(seen)
    }

    #[async_recursion]
    pub async fn finish(mut self) -> Result<TableDigestResult> {
        Ok(self.done().await?.finish())
    }

    async fn done(&mut self) -> Result<TableDigest> {
        (&mut self.0).await.map_err(|error| Error::internal("digesting stopped", error))?
    }
}
