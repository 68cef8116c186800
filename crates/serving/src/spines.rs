//! A spine that is ingested once and asked for many times.

use async_recursion::async_recursion;
use catalog::Author;
use datafusion::execution::SendableRecordBatchStream;
use engine::spines::{self, Encoded, SpineWriter};
use feature::digest::ContentDigest;
use futures::TryStreamExt;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::given_spine::GivenSpine;
use crate::historical::{Spine, encode_spine};
use crate::retrieve::Serving;

/// What ingesting a spine did.
#[derive(Clone, Debug, Serialize)]
pub struct SpineReport {
    /// The digest by which it is asked for, `lmt1:…`.
    pub spine: String,
    pub rows: u64,
    pub columns: Vec<String>,
    /// Whether the same rows were there already, so that nothing was written.
    pub repeated: bool,
}

impl Serving {
    /// Keeps a spine under the digest of its content. It is a training set's as soon as one is retrieved for it; else it is dropped
    /// when nobody has put it up for as long as the grace.
    ///
    /// # Errors
    /// A spine without rows, or with a column that cannot be digested; those of the object storage; of rows that come as a stream, more
    /// than the disk may take.
    pub async fn ingest_spine(&self, spine: impl Into<GivenSpine>, author: &Author) -> Result<SpineReport> {
        match spine.into().with_rows("the spine").await? {
            GivenSpine::Whole(spine) => self.ingest_whole_spine(spine, author).await,
            GivenSpine::Streamed(rows) => self.ingest_streamed_spine(rows, author).await,
        }
    }

    /// A file of this process's own first: the object's name is known when the last row has come.
    #[async_recursion]
    async fn ingest_streamed_spine(
        &self,
        mut rows: SendableRecordBatchStream,
        author: &Author,
    ) -> Result<SpineReport> {
        let stopped = |error: tokio::task::JoinError| Error::internal("writing the spine stopped", error);
        let schema = rows.schema();
        let environment = self.engine.environment()?;
        let mut writer = SpineWriter::new(self.catalog().state().hash, &schema, &environment)?;
        while let Some(batch) = rows.try_next().await? {
            let written = tokio::task::spawn_blocking(move || {
                writer.write(&batch)?;
                Ok::<_, datafusion::common::DataFusionError>(writer)
            });
            writer = written.await.map_err(stopped)??;
        }
        let finished = tokio::task::spawn_blocking(move || writer.finish()).await.map_err(stopped)?;
        let (file, found) = finished?;
        let bytes = Encoded::File(&file);
        let new =
            spines::keep(self.catalog(), &found.digest, found.rows, bytes, &environment, author).await?;
        let columns = schema.fields().iter().map(|field| field.name().clone()).collect();
        Ok(SpineReport { spine: found.digest.to_string(), rows: found.rows, columns, repeated: !new })
    }

    #[async_recursion]
    async fn ingest_whole_spine(&self, spine: Spine, author: &Author) -> Result<SpineReport> {
        let rows = spine.rows();
        let columns = spine.schema.fields().iter().map(|field| field.name().clone()).collect();
        let algorithm = self.catalog().state().hash;
        let encoded =
            tokio::task::spawn_blocking(move || encode_spine(spine.schema, &spine.batches, algorithm));
        let (bytes, digest) =
            encoded.await.map_err(|error| Error::internal("writing the spine stopped", error))??;
        let content: ContentDigest =
            digest.parse().map_err(|error| Error::internal("a digest cannot be read back", error))?;
        let (bytes, environment) = (Encoded::Memory(bytes.into()), self.engine.environment()?);
        let new = spines::keep(self.catalog(), &content, rows as u64, bytes, &environment, author).await?;
        Ok(SpineReport { spine: digest, rows: rows as u64, columns, repeated: !new })
    }
}
