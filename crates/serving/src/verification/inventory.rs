//! What lies in a store, as its storage lists it, and which of it something names.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_recursion::async_recursion;
use feature::Sequence;
use feature::digest::{HashAlgorithm, hash};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use storage::Store;

use super::report::Orphan;
use super::unavailable;
use crate::error::Result;

/// Orphans that are told of by name.
const TOLD: usize = 10_000;

/// Objects by a digest of their path: millions of paths themselves would be too many to hold.
pub(super) struct Inventory {
    listed: Mutex<HashMap<u128, Listed>>,
    newest_entry: Option<Sequence>,
    /// Objects beside the log.
    others: u64,
}

struct Listed {
    bytes: u64,
    named: bool,
}

impl Inventory {
    /// A list may lag behind, so what it leaves out is asked for by name before it counts as missing.
    #[async_recursion]
    pub async fn list(store: &Store) -> Result<Self> {
        let mut inventory = Self { listed: Mutex::default(), newest_entry: None, others: 0 };
        let mut listed = store.objects().list(None);
        let mut found = HashMap::new();
        while let Some(object) = listed.try_next().await.map_err(unavailable)? {
            match entry(&object.location) {
                Some(sequence) => inventory.newest_entry = inventory.newest_entry.max(Some(sequence)),
                None => inventory.others += 1,
            }
            found.insert(key(object.location.as_ref()), Listed { bytes: object.size, named: false });
        }
        inventory.listed = Mutex::new(found);
        Ok(inventory)
    }

    pub fn newest_entry(&self) -> Option<Sequence> {
        self.newest_entry
    }

    pub fn others(&self) -> u64 {
        self.others
    }

    /// Notes that something names an object, and gives its size; none where there is no such object.
    #[async_recursion]
    pub async fn size(&self, store: &Store, path: &str, expected: Option<u64>) -> Result<Option<u64>> {
        let listed = self.name(path);
        if listed.is_some() && (expected.is_none() || listed == expected) {
            return Ok(listed);
        }
        match store.objects().head(&Path::from(path)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Notes that something names an object; its listed size.
    pub fn name(&self, path: &str) -> Option<u64> {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let object = listed.get_mut(&key(path))?;
        object.named = true;
        Some(object.bytes)
    }

    /// What was listed and nothing named, by path, and how many.
    #[async_recursion]
    pub async fn orphans(&self, store: &Store) -> Result<(Vec<Orphan>, u64)> {
        let now = store.clock().now().micros();
        let mut orphans = Vec::new();
        let mut all = 0;
        let mut listed = store.objects().list(None);
        while let Some(ObjectMeta { location, size, last_modified, .. }) =
            listed.try_next().await.map_err(unavailable)?
        {
            if !self.is_orphan(location.as_ref()) {
                continue;
            }
            all += 1;
            if orphans.len() < TOLD {
                let age_seconds = (now - last_modified.timestamp_micros()) / 1_000_000;
                orphans.push(Orphan { object: location.to_string(), bytes: size, age_seconds });
            }
        }
        orphans.sort_by(|one, other| one.object.cmp(&other.object));
        Ok((orphans, all))
    }

    /// What came after the first list is not judged.
    fn is_orphan(&self, path: &str) -> bool {
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        listed.get(&key(path)).is_some_and(|object| !object.named)
    }
}

fn key(path: &str) -> u128 {
    let digest = hash(HashAlgorithm::Blake3, path.as_bytes());
    digest.bytes().iter().take(16).fold(0, |key, byte| key << 8 | u128::from(*byte))
}

/// The sequence of an entry's object; none for every other name.
fn entry(path: &Path) -> Option<Sequence> {
    let digits = path.as_ref().strip_prefix("log/")?.strip_suffix(".json")?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok().map(Sequence) } else { None }
}

/// The name of an entry's object.
pub(super) fn entry_object(sequence: Sequence) -> String {
    format!("log/{:020}.json", sequence.0)
}
