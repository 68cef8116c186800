//! Memory that a join takes while it reads: keys and times while they are met, candidates, bytes of pages.

use std::sync::Arc;

use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryPool, MemoryReservation, UnboundedMemoryPool,
};

/// Charges a query for what a join takes while it reads.
///
/// It is charged even where that goes over the query's limit, and nothing is refused for it: it is given back soon, while what the query holds
/// for long is refused or spilled the sooner.
#[derive(Clone, Debug)]
pub(crate) struct WorkingMemory(Arc<MemoryReservation>);

impl WorkingMemory {
    /// Charged where the reservation is.
    pub fn beside(reservation: &MemoryReservation) -> Self {
        Self(Arc::new(reservation.new_empty()))
    }

    /// Charged to a pool, under a name of its own.
    pub fn of(pool: &Arc<dyn MemoryPool>, name: impl Into<String>) -> Self {
        Self(Arc::new(MemoryConsumer::new(name).register(pool)))
    }

    /// Charged to nobody.
    pub fn free() -> Self {
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        Self::of(&pool, "PointInTime")
    }

    /// Charges some bytes until what it gives is dropped.
    pub fn hold(&self, bytes: usize) -> MemoryReservation {
        let held = self.0.new_empty();
        held.grow(bytes);
        held
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    use super::*;

    #[test]
    fn it_is_charged_over_the_limit_and_then_others_are_refused_until_it_is_dropped() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1_000));
        let query = MemoryConsumer::new("query").register(&pool);
        let memory = WorkingMemory::beside(&query);
        let held = memory.clone().hold(1_500);
        assert_eq!((pool.reserved(), query.size()), (1_500, 0));
        query.try_grow(1).unwrap_err();
        held.resize(600);
        query.try_grow(400).unwrap();
        drop(held);
        assert_eq!(pool.reserved(), 400);
    }
}
