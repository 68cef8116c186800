//! The law of retrieval: whatever was ingested and whatever is asked, each cell is what the reference says.
//!
//! Random stores are made through the real doors, some fifteen questions are asked of each, and every cell, every count
//! and the order of rows are compared. A question is one case.

mod beyond_memory;
pub mod checks;
mod counters;
mod examples;
mod lanes;
mod leaks;
mod leaving;
mod reference;
pub mod scenario;
mod situations;
mod spine;
mod tables;
pub mod world;

use proptest::prelude::*;

use crate::suite::cases::{self, CASES};
use crate::suite::coverage::Coverage;
use scenario::{How, Scenario, Step, scenario};
use world::World;

/// Tries random stores until there were enough cases, and gives back what they met.
pub fn property(name: &str, usual: usize, how: impl Strategy<Value = How> + 'static) -> Coverage {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut coverage = Coverage::default();
    let cases = cases::run(name, usual, &scenario(how), |scenario| {
        let (met, asked) = runtime.block_on(run(scenario))?;
        coverage.merge(met);
        Ok(asked)
    });
    assert!(cases >= usual, "only {cases} cases");
    coverage
}

/// What was met and the number of spines asked for, or what was wrong with an answer.
async fn run(scenario: &Scenario) -> Result<(Coverage, usize), String> {
    let mut world = World::new(scenario.unit, &scenario.views).await;
    let mut asked = 0;
    for step in &scenario.steps {
        match step {
            Step::Ingest(view, batch) => world.ingest(usize::from(*view), batch).await,
            Step::Define(view, version) => world.define(*view, version).await,
            Step::Move(choice) => world.move_batch(*choice).await,
            Step::Expire(view, units) => world.expire(*view, *units).await,
            Step::Ask(ask) => {
                checks::ask(&mut world, ask).await?;
                asked += usize::from(ask.how != How::Tables);
            }
        }
    }
    checks::replay_all(&mut world).await?;
    Ok((world.coverage, asked))
}

/// A fourth of the law's cases, so that they run side by side.
fn law(part: &str) {
    let how = prop_oneof![
        8 => prop::bool::weighted(0.1).prop_map(|record| How::Call { record }),
        2 => Just(How::Function),
        1 => Just(How::Tables),
    ];
    let coverage = property(part, CASES / 4, how);
    coverage.require(5, situations::all());
    coverage.require(3, situations::keys());
}

#[test]
fn retrieval_is_as_the_reference_says_1() {
    law("law 1");
}

#[test]
fn retrieval_is_as_the_reference_says_2() {
    law("law 2");
}

#[test]
fn retrieval_is_as_the_reference_says_3() {
    law("law 3");
}

#[test]
fn retrieval_is_as_the_reference_says_4() {
    law("law 4");
}
