//! Clocks and chance, here and nowhere else: whoever needs the time is handed a [`Clock`], and ids are minted here.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the one place that may ask the machine for the time and for random bits"
)]

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use feature::{Horizon, Id, Span, Timestamp};
use uuid::{Builder, Uuid};

use crate::splitmix::SplitMix;

/// A source of the present instant; cheap to clone.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's wall clock. It may jump either way.
    #[default]
    System,
    /// A clock that moves only when told to.
    Test(TestClock),
}

impl Clock {
    /// Microseconds since 1970 in UTC; negative before.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp(match SystemTime::now().duration_since(UNIX_EPOCH) {
                Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
                Err(before) => {
                    i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros)
                }
            }),
            Self::Test(clock) => Timestamp(clock.micros.load(Ordering::SeqCst)),
        }
    }
}

/// A clock for tests; its clones show the same time.
#[derive(Clone, Debug)]
pub struct TestClock {
    micros: Arc<AtomicI64>,
}

impl TestClock {
    pub fn new(at: Timestamp) -> Self {
        Self { micros: Arc::new(AtomicI64::new(at.micros())) }
    }

    /// May also move back.
    pub fn set(&self, at: Timestamp) {
        self.micros.store(at.micros(), Ordering::SeqCst);
    }

    pub fn advance(&self, by: Span) {
        self.micros.fetch_add(by.micros(), Ordering::SeqCst);
    }
}

impl From<TestClock> for Clock {
    fn from(clock: TestClock) -> Self {
        Self::Test(clock)
    }
}

/// A new id: a UUID of version 7, greater than every id that this process minted before, also where the wall clock
/// went back meanwhile. It follows the machine's time, never a test clock.
pub fn mint<I: Id>() -> I {
    I::from(SeededIds::next().map_or_else(Uuid::now_v7, |(number, bits)| {
        let mut random = [0; 10];
        random[2..].copy_from_slice(&bits.to_be_bytes());
        Builder::from_unix_timestamp_millis(number, &random).into_uuid()
    }))
}

/// The bound below which ids are that were minted before this instant, by the clock of whoever minted them.
pub fn horizon(at: Timestamp) -> Horizon {
    let millis = u64::try_from(at.micros() / 1_000).unwrap_or(0);
    Horizon::from(Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid())
}

/// A random id: a UUID of version 4, for commits, which must be told apart and have no order.
pub fn random<I: Id>() -> I {
    I::from(SeededIds::next().map_or_else(Uuid::new_v4, |(number, bits)| {
        Builder::from_random_bytes((u128::from(bits) << 64 | u128::from(number)).to_be_bytes()).into_uuid()
    }))
}

thread_local! {
    /// How many ids this thread made of a seed, and the chance that goes on from there.
    static SEEDED: Cell<Option<(u64, SplitMix)>> = const { Cell::new(None) };
}

/// For as long as this lives, ids that this thread makes come from a seed and increase: for tests whose histories must
/// come again. Never for a store that is kept, since two threads of one seed make the same ids.
#[derive(Debug)]
pub struct SeededIds(());

impl SeededIds {
    pub fn new(seed: u64) -> Self {
        SEEDED.set(Some((0, SplitMix::new(seed))));
        Self(())
    }

    fn next() -> Option<(u64, u64)> {
        let (number, mut chance) = SEEDED.get()?;
        let bits = chance.next();
        SEEDED.set(Some((number + 1, chance)));
        Some((number + 1, bits))
    }
}

impl Drop for SeededIds {
    fn drop(&mut self) {
        SEEDED.set(None);
    }
}

/// Random bits for names that live only as long as the process.
pub(crate) fn chance() -> u64 {
    Uuid::new_v4().as_u64_pair().1
}

#[cfg(test)]
mod tests {
    use super::*;
    use feature::{BatchId, CommitId, FileId};

    #[test]
    fn minted_ids_are_version_7_and_increase_over_all_threads() {
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..10_000).map(|_| mint::<FileId>()).collect::<Vec<_>>()))
            .collect();
        let mut all = Vec::new();
        for thread in threads {
            let minted = thread.join().unwrap();
            assert!(minted.windows(2).all(|pair| pair[0] < pair[1]));
            all.extend(minted);
        }
        let last: BatchId = mint();
        assert_eq!(last.uuid().get_version_num(), 7);
        assert!(all.iter().all(|id| id.uuid() < last.uuid()));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 40_000);
    }

    #[test]
    fn random_ids_are_version_4_and_differ() {
        let (one, other): (CommitId, CommitId) = (random(), random());
        assert_eq!(one.uuid().get_version_num(), 4);
        assert_ne!(one, other);
    }

    #[test]
    fn a_horizon_parts_what_was_minted_before_it_from_what_comes_after() {
        let before: FileId = mint();
        let bound = horizon(Timestamp(Clock::System.now().micros() + 5_000));
        assert!(before.uuid() < bound.uuid());
        std::thread::sleep(std::time::Duration::from_millis(10));
        assert!(mint::<FileId>().uuid() > bound.uuid());
        assert_eq!(horizon(Timestamp(-1)), horizon(Timestamp(0)));
    }

    #[test]
    fn a_test_clock_moves_only_when_told_to() {
        let hand = TestClock::new(Timestamp(5));
        let clock = Clock::from(hand.clone());
        let copy = clock.clone();
        assert_eq!(clock.now(), Timestamp(5));
        hand.advance("3s".parse().unwrap());
        assert_eq!(copy.now(), Timestamp(3_000_005));
        hand.set(Timestamp(-1));
        assert_eq!(clock.now(), Timestamp(-1));
        assert!(Clock::System.now() > "2024-01-01T00:00:00Z".parse().unwrap());
    }

    #[test]
    fn seeded_ids_come_again_and_only_in_their_thread() {
        let some = || {
            let _seeded = SeededIds::new(7);
            let ids: Vec<FileId> = (0..100).map(|_| mint()).collect();
            (ids, random::<CommitId>())
        };
        let (ids, commit) = some();
        assert_eq!((ids.clone(), commit), some());
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!((ids[0].uuid().get_version_num(), commit.uuid().get_version_num()), (7, 4));
        let _seeded = SeededIds::new(7);
        let elsewhere: FileId = std::thread::spawn(mint).join().unwrap();
        assert!(!ids.contains(&elsewhere));
    }
}
