//! What a cache of this process has been good for, for whoever watches it.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheUse {
    /// Questions that it answered, and those that it could not, since the process began.
    pub hits: u64,
    pub misses: u64,
    /// What it holds now.
    pub entries: u64,
    pub bytes: u64,
}

/// Counts the questions of a cache.
#[derive(Debug, Default)]
pub struct Questions {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Questions {
    pub fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub fn miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// With what the cache holds now.
    pub fn with(&self, entries: usize, bytes: u64) -> CacheUse {
        let (hits, misses) = (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed));
        CacheUse { hits, misses, entries: entries as u64, bytes }
    }
}
