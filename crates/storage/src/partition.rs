//! Writing a batch as immutable, sorted Parquet files, and the digest of what was written.

mod agreement;
mod arrange;
mod encode;
mod encodings;
mod layout;
mod merge;
mod pieces;
mod places;
mod without;

#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::sync::Arc;

use arrow::array::RecordBatch;
use feature::digest::{Digest, HashAlgorithm, hash};
use feature::{BatchId, FileId, ViewId};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

pub use agreement::disagreements;
pub use layout::{Compression, Layout};
pub use merge::{Merged, write_merged};
pub use pieces::{digest_of_piece, piece_of_rows, reproduces};
pub use places::{Place, Stretch, places, stretches};
pub use without::{Left, write_left};

use crate::manifest::DataFile;
use crate::{Error, Result};

/// What the files belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub view: ViewId,
    /// The number of the view's version.
    pub version: u32,
    pub batch: BatchId,
    /// The store's hash.
    pub hash: HashAlgorithm,
}

/// Which columns of the rows are what. All others are features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// In the order of the entity.
    pub keys: Vec<String>,
    pub occurrence: Option<String>,
    /// Whether there is a column `known_at`; without, the rows are known from their commit on.
    pub has_known_at: bool,
    /// Whether there is a column `_retracted`.
    pub has_retracted: bool,
}

/// The name of the column that says when a value is true.
pub(crate) const VALID_AT: &str = "valid_at";
/// The name of the column that says when a value could be known.
pub(crate) const KNOWN_AT: &str = "known_at";
/// The name of the column that marks retractions.
pub(crate) const RETRACTED: &str = "_retracted";
/// The name of the column that says which batch a row is of, in files of several.
pub const BATCH: &str = "_batch";

/// Writes the rows, which stand in the order of their arrival, as files under `data/{view}/v{version}/`, and gives
/// the files in the order of the manifest: by partition, then by bucket.
///
/// The files' columns are the keys, the occurrence, `valid_at`, `known_at`, the features in their order, and
/// `_retracted` where a row is a retraction. They are sorted by key, valid_at and known_at, equals in the order of
/// arrival. Nothing refers to the files yet: they count once a log entry names their manifest, and after an error
/// those that were already put are swept.
///
/// # Errors
/// [`Error::Invalid`] if a column is missing, has a type that it cannot have, or has nulls where none may be;
/// [`Error::Unavailable`] if the object storage fails.
pub async fn write(
    objects: &Arc<dyn ObjectStore>,
    target: &Target,
    rows: RecordBatch,
    columns: &Columns,
    layout: &Layout,
    mint: &mut (dyn FnMut() -> FileId + Send),
) -> Result<Vec<DataFile>> {
    let (target, layout) = (*target, *layout);
    let what = format!("batch {}", target.batch);
    let columns = columns.clone();
    let arranged = {
        let what = what.clone();
        blocking(&what.clone(), move || arrange::arrange(&rows, &columns, &layout, &what)).await?
    };
    let arranged = Arc::new(arranged);
    let mut files = Vec::with_capacity(arranged.groups.len());
    for index in 0..arranged.groups.len() {
        let (id, arranged, what) = (mint(), arranged.clone(), what.clone());
        files.push(async move {
            let (file, bytes) = blocking(&what.clone(), move || {
                encode::encode(&arranged, index, id, &target, &layout, &what)
            })
            .await?;
            objects.put(&Path::from(file.path.as_str()), bytes.into()).await?;
            Ok::<_, Error>(file)
        });
    }
    // One file a core is encoded, and one more is on its way out.
    let at_once = std::thread::available_parallelism().map_or(1, NonZeroUsize::get) + 1;
    futures::stream::iter(files).buffered(at_once).try_collect().await
}

/// The digest of a batch: the hash over the 32-byte digests of its pieces, in the order of the manifest.
pub fn batch_digest(algorithm: HashAlgorithm, files: &[DataFile]) -> Digest {
    let mut pieces = Vec::with_capacity(files.len() * 32);
    for file in files {
        for piece in &file.pieces {
            pieces.extend_from_slice(piece.digest.bytes());
        }
    }
    hash(algorithm, &pieces)
}

/// Runs what keeps a core busy where it delays no other task.
async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(invalid(what, "the program is shutting down")),
        },
    }
}

fn invalid(what: &str, why: impl Into<String>) -> Error {
    Error::Invalid { what: what.to_owned(), why: why.into() }
}
