//! The log within a pack: the exact bytes of each entry, one a line, and the state that they fold into.

use std::sync::Arc;

use async_recursion::async_recursion;
use bytes::Bytes;
use catalog::{Catalog, State};
use feature::Sequence;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use storage::{Clock, Store};

use crate::error::{Error, Kind, Result};

/// The file of a pack that holds the log.
pub const LOG: &str = "log.jsonl";

/// Entries that are read at a time.
const AT_A_TIME: usize = 32;

/// The bytes of the entries from the first to this one.
#[async_recursion]
pub async fn read(catalog: &Catalog, until: Sequence) -> Result<Vec<Bytes>> {
    let log = catalog.store().log().clone();
    futures::stream::iter(0..=until.0)
        .map(move |sequence| {
            let log = log.clone();
            async move {
                let found = log.read_bytes(Sequence(sequence)).await.map_err(catalog::Error::from)?;
                found.ok_or_else(|| {
                    Error::new(
                        Kind::Damaged,
                        format!("log entry {sequence} is missing, though later entries are there"),
                    )
                })
            }
        })
        .buffered(AT_A_TIME)
        .try_collect()
        .await
}

/// One line an entry.
pub fn lines(entries: &[Bytes]) -> Result<Vec<u8>> {
    let mut lines = Vec::with_capacity(entries.iter().map(|entry| entry.len() + 1).sum());
    for (sequence, entry) in entries.iter().enumerate() {
        // Entries are compact JSON; a line break within one would be taken for its end.
        if entry.contains(&b'\n') {
            let why = format!("log entry {sequence} holds a line break, which no program writes there");
            return Err(Error::new(Kind::Damaged, why));
        }
        lines.extend_from_slice(entry);
        lines.push(b'\n');
    }
    Ok(lines)
}

/// The entries of such lines.
pub fn split(lines: &[u8]) -> Result<Vec<Bytes>> {
    let Some((b'\n', whole)) = lines.split_last() else {
        return Err(Error::new(Kind::Damaged, format!("`{LOG}` does not end with a whole line; it was cut")));
    };
    Ok(whole.split(|byte| *byte == b'\n').map(Bytes::copy_from_slice).collect())
}

/// The state that entries fold into. The chain is checked by the same code that opens a store.
///
/// # Errors
/// `Damaged` names the entry that was altered.
#[async_recursion]
pub async fn fold(entries: &[Bytes]) -> Result<Arc<State>> {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    for (sequence, entry) in entries.iter().enumerate() {
        let path = Path::from(format!("log/{sequence:020}.json"));
        objects
            .put(&path, entry.clone().into())
            .await
            .map_err(|error| Error::internal("the log cannot be held in memory", error))?;
    }
    let store = Store::over("the log of the pack", objects, Clock::System);
    Ok(Catalog::open(store).await?.state())
}
