//! Random cases: how many, from which seed, and what is told of one that fails.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// The cases of the law of retrieval. `LINEAMENT_CASES` asks for more of them, and of all others in proportion.
pub const CASES: usize = 2_000;

/// Strategies are run so often at a time; between these rounds the cases are counted.
const ROUND: u32 = 8;

fn number(variable: &str) -> Option<usize> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

/// How many cases a test runs that has so many by itself.
pub fn asked_for(usual: usize) -> usize {
    number("LINEAMENT_CASES").map_or(usual, |cases| usual.max(usual * cases / CASES))
}

/// Does work on all cores at once: each asks for the next number of the range until there is none.
pub fn on_all_cores(numbers: Range<u64>, work: impl Fn(&dyn Fn() -> Option<u64>) + Sync) {
    let next = AtomicU64::new(numbers.start);
    let next = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < numbers.end);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| work(&next));
        }
    });
}

/// Tries values of a strategy until there were enough cases; `test` says how many a value made. The seeds are fixed;
/// `LINEAMENT_SEED` sets others. What fails is made smaller as long as that takes less than a minute.
pub fn run<S: Strategy>(
    name: &str,
    usual: usize,
    strategy: &S,
    test: impl FnMut(&S::Value) -> Result<usize, String>,
) -> usize {
    let seed = number("LINEAMENT_SEED").unwrap_or(0) as u64;
    let wanted = asked_for(usual);
    let (cases, test) = (Cell::new(0), RefCell::new(test));
    let mut round = 0u64;
    while cases.get() < wanted {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&round.to_le_bytes());
        // Tests of different names see different values.
        for (place, letter) in name.bytes().enumerate() {
            bytes[16 + place % 16] ^= letter;
        }
        let config = Config {
            cases: ROUND,
            failure_persistence: None,
            max_shrink_iters: 10_000,
            max_shrink_time: 60_000,
            ..Config::default()
        };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        let outcome = runner.run(strategy, |value| match (test.borrow_mut())(&value) {
            Ok(made) => {
                cases.set(cases.get() + made);
                Ok(())
            }
            Err(why) => Err(TestCaseError::fail(why)),
        });
        match outcome {
            Ok(()) => {}
            Err(TestError::Fail(why, _)) => panic!("{name}, seed {seed}, round {round}: {why}"),
            Err(TestError::Abort(why)) => panic!("{name}: no values could be made: {why}"),
        }
        round += 1;
        assert!(round < 10 + wanted as u64, "{name}: {round} rounds made only {} cases", cases.get());
    }
    cases.get()
}
