//! How much memory all queries and uploads of a process may hold together.

use std::num::NonZeroUsize;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{
    GreedyMemoryPool, MemoryConsumer, MemoryPool, MemoryReservation, TrackConsumersPool,
};

use crate::query_pool::QueryPool;

/// What is taken where the machine does not say what it has.
const UNKNOWN_MACHINE: u64 = 8 << 30;
/// The least that a limit may be: a query takes some tens of mebibytes whatever it does.
const LEAST: u64 = 64 << 20;
/// How many times the limit a query may write to disk, where nothing else was said.
const SPILL: u64 = 4;
/// How many consumers an error names.
const NAMED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2);

/// A limit that is shared by all clones. What is over it is refused, and nothing waits.
#[derive(Clone, Debug)]
pub struct Memory {
    pool: Arc<dyn MemoryPool>,
    limit: u64,
    query_limit: u64,
    spill_limit: u64,
}

/// Half of what the machine has.
impl Default for Memory {
    fn default() -> Self {
        Self::new(machine() / 2)
    }
}

impl Memory {
    pub fn new(limit: u64) -> Self {
        let limit = limit.max(LEAST);
        let bytes = usize::try_from(limit).unwrap_or(usize::MAX);
        let pool = Arc::new(TrackConsumersPool::new(GreedyMemoryPool::new(bytes), NAMED));
        Self { pool, limit, query_limit: limit, spill_limit: limit.saturating_mul(SPILL) }
    }

    /// The same with a limit on what one query may hold of it.
    pub fn with_query_limit(self, query_limit: u64) -> Self {
        Self { query_limit: query_limit.clamp(LEAST, self.limit), ..self }
    }

    /// The same with another limit on what a query may write to disk where memory is short: its sorts, its join, its spine each.
    pub fn with_spill_limit(self, spill_limit: u64) -> Self {
        Self { spill_limit, ..self }
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// What one query may hold.
    pub(crate) fn query_limit(&self) -> u64 {
        self.query_limit
    }

    pub(crate) fn spill_limit(&self) -> u64 {
        self.spill_limit
    }

    /// What one query takes its memory from.
    pub(crate) fn pool_of_query(&self) -> Arc<dyn MemoryPool> {
        if self.query_limit >= self.limit {
            return self.pool.clone();
        }
        let limit = usize::try_from(self.query_limit).unwrap_or(usize::MAX);
        Arc::new(QueryPool::new(self.pool.clone(), limit))
    }

    /// Bytes that are held now.
    pub fn held(&self) -> usize {
        self.pool.reserved()
    }

    /// Memory that is held for something beside queries, until it is dropped.
    pub fn reserve(&self, what: &str) -> Reserved {
        Reserved(MemoryConsumer::new(what).register(&self.pool))
    }
}

/// Memory that is held.
#[derive(Debug)]
pub struct Reserved(MemoryReservation);

impl Reserved {
    /// Holds that much more.
    ///
    /// # Errors
    /// `ResourcesExhausted` where the limit does not allow it.
    pub fn grow(&self, bytes: u64) -> Result<()> {
        let bytes = usize::try_from(bytes)
            .map_err(|_| DataFusionError::ResourcesExhausted(format!("{bytes} bytes cannot be held")))?;
        self.0.try_grow(bytes)
    }

    /// Gives that much back, or all where it holds less.
    pub fn shrink(&self, bytes: u64) {
        self.0.shrink(usize::try_from(bytes).unwrap_or(usize::MAX).min(self.0.size()));
    }
}

/// More would wait on disk than a query may write there.
#[derive(Debug, thiserror::Error)]
#[error("more than {allowed} would wait on disk, which is what one query may write there")]
pub struct OverSpillLimit {
    allowed: String,
}

impl OverSpillLimit {
    /// From the text of an error of DataFusion's, which comes through whoever wrote the file.
    pub fn of(text: &str) -> Option<Self> {
        let (_, after) = text.split_once("during the spilling process")?;
        let allowed = after.split_once("limit of ").map_or(after, |(_, allowed)| allowed);
        let allowed = allowed.split_once(". ").map_or(allowed, |(allowed, _)| allowed);
        Some(Self { allowed: allowed.trim().to_owned() })
    }
}

/// What the machine has, or the control group that the process is in.
fn machine() -> u64 {
    let installed = read("/proc/meminfo").and_then(|text| total(&text));
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let allowed = groups.into_iter().filter_map(|path| read(path)?.trim().parse().ok());
    allowed.chain(installed).min().unwrap_or(UNKNOWN_MACHINE)
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// `MemTotal:       24576000 kB`
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read() {
        assert_eq!(total("MemTotal:       24576000 kB\nMemFree: 1 kB\n"), Some(24_576_000 * 1024));
        assert_eq!(total("MemTotal: lots"), None);
        assert!(machine() >= 256 << 20, "{}", machine());
        assert!(Memory::default().limit() <= machine() / 2);
    }

    #[test]
    fn the_disks_limit_is_told_from_other_errors() {
        let said = "Io error: The used disk space during the spilling process has exceeded the allowable limit of 256.0 MB. \
                    Please try increasing the config: `datafusion.runtime.max_temp_directory_size`.";
        let over = OverSpillLimit::of(said).unwrap().to_string();
        assert!(over.starts_with("more than 256.0 MB would wait on disk"), "{over}");
        assert!(OverSpillLimit::of("No space left on device").is_none());
        let memory = Memory::new(1 << 30);
        assert_eq!((memory.spill_limit(), memory.with_spill_limit(5).spill_limit()), (4 << 30, 5));
    }

    #[test]
    fn one_query_holds_no_more_than_its_part() {
        let memory = Memory::new(400 << 20).with_query_limit(100 << 20);
        let pool = memory.pool_of_query();
        let sort = MemoryConsumer::new("sort").register(&pool);
        let join = MemoryConsumer::new("join").register(&pool);
        sort.try_grow(60 << 20).unwrap();
        let error = join.try_grow(60 << 20).unwrap_err();
        assert!(matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)), "{error}");
        assert!(error.to_string().contains("one query may hold 100.0 MB"), "{error}");
        // What was refused is held by nobody, and another query has a part of its own.
        assert_eq!((memory.held(), pool.reserved()), (60 << 20, 60 << 20));
        let other = MemoryConsumer::new("sort").register(&memory.pool_of_query());
        other.try_grow(100 << 20).unwrap();
        drop((sort, other));
        join.try_grow(100 << 20).unwrap();
        assert_eq!((memory.held(), pool.reserved()), (100 << 20, 100 << 20));
        // What all hold together is bounded all the same.
        let all = memory.reserve("all");
        all.grow(300 << 20).unwrap();
        assert!(MemoryConsumer::new("sort").register(&memory.pool_of_query()).try_grow(1).is_err());
    }

    #[test]
    fn what_is_held_is_shared_and_given_back() {
        let memory = Memory::new(100 << 20);
        let one = memory.clone().reserve("one");
        one.grow(60 << 20).unwrap();
        let other = memory.reserve("other");
        let error = other.grow(60 << 20).unwrap_err();
        assert!(matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)), "{error}");
        drop(one);
        other.grow(60 << 20).unwrap();
        assert_eq!(memory.held(), 60 << 20);
    }
}
