//! The log: entries numbered without a gap, each made once and never changed, each holding the digest of the
//! one before.

mod append;
mod read;

#[cfg(test)]
pub(crate) mod fault_store;
#[cfg(test)]
pub(crate) mod simulation;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use bytes::Bytes;
use feature::Sequence;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

pub use append::Appended;

use crate::durable_local::DurableLocal;
use crate::entry::MAX_BYTES;
use crate::error::{Error, Result};

const FOLDER: &str = "log";

/// The log of one store; cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    objects: Arc<dyn ObjectStore>,
    /// Where the log lies in local files: what another process wrote there may not be durable yet.
    local: Option<DurableLocal>,
    /// Whether bytes come over a network, on which they may be altered.
    is_remote: bool,
}

impl Log {
    pub(crate) fn new(objects: Arc<dyn ObjectStore>, local: Option<DurableLocal>, is_remote: bool) -> Self {
        Self { objects, local, is_remote }
    }

    /// The exact bytes of an entry; `None` where the log does not reach so far.
    pub async fn read_bytes(&self, sequence: Sequence) -> Result<Option<Bytes>> {
        let found = match self.objects.get(&path(sequence)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if found.meta.size > MAX_BYTES as u64 {
            let why =
                format!("log entry {sequence} has {} bytes, and {MAX_BYTES} are allowed", found.meta.size);
            return Err(Error::corrupt_entry(sequence, why));
        }
        Ok(Some(found.bytes().await?))
    }

    /// Makes what was read durable before anybody acts on it.
    async fn settle(&self) -> Result<()> {
        match &self.local {
            Some(local) => Ok(local.settle(&Path::from(FOLDER)).await?),
            None => Ok(()),
        }
    }
}

/// The name of an entry's object: twenty digits, so that names sort as sequences do.
pub(crate) fn object_name(sequence: Sequence) -> String {
    format!("{FOLDER}/{:020}.json", sequence.0)
}

fn path(sequence: Sequence) -> Path {
    Path::from(object_name(sequence))
}

/// The sequence in an object's name; `None` for every name that is not exactly an entry's.
pub(crate) fn sequence_of(path: &Path) -> Option<Sequence> {
    let digits = path.as_ref().strip_prefix(FOLDER)?.strip_prefix('/')?.strip_suffix(".json")?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(Sequence)
}
