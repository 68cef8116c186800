//! A spine that is ingested once and asked for many times.

use engine::spines;
use feature::digest::ContentDigest;
use serde::Serialize;

use crate::error::{Error, Kind, Result};
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
    /// Keeps a spine under the digest of its content. It is a training set's as soon as one is retrieved for it.
    ///
    /// # Errors
    /// A spine without rows, or with a column that cannot be digested; those of the object storage.
    pub async fn ingest_spine(&self, spine: Spine) -> Result<SpineReport> {
        let rows = spine.rows();
        if rows == 0 {
            return Err(Error::new(
                Kind::Invalid,
                "the spine has no rows; features are looked up for the rows of a spine",
            ));
        }
        let columns = spine.schema.fields().iter().map(|field| field.name().clone()).collect();
        let algorithm = self.catalog().state().hash;
        let encoded =
            tokio::task::spawn_blocking(move || encode_spine(spine.schema, &spine.batches, algorithm));
        let (bytes, digest) =
            encoded.await.map_err(|error| Error::internal("writing the spine stopped", error))??;
        let content: ContentDigest =
            digest.parse().map_err(|error| Error::internal("a digest cannot be read back", error))?;
        let new = spines::keep(self.catalog(), &content, bytes.into()).await?;
        Ok(SpineReport { spine: digest, rows: rows as u64, columns, repeated: !new })
    }
}
