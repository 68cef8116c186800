//! Whatever comes after, a recorded set is made again the same.
//!
//! Random histories of stores in memory and in folders, by several writers: back-fills, corrections, retractions, versions with other features, another
//! ttl or another rule, and ingests that race with retrievals. Sets are recorded at random moments, and in the end a program
//! that has just opened the store makes all of them again.

use std::sync::Arc;

use catalog::Catalog;
use proptest::collection::vec;
use proptest::prelude::*;
use serving::{Serving, VerifyRequest, verify_store};
use storage::Store;
use storage::environment::TestClock;

use super::super::cases;
use super::super::coverage::Coverage;
use super::super::point_in_time::checks::{self, Asked, request};
use super::super::point_in_time::scenario::{
    Ask, Batch, How, UNITS, Version, View, ask, batch, version, view,
};
use super::super::point_in_time::world::{Recorded, World, beginning};
use super::super::stores::{author, spine};
use super::super::sweep::at_once;

/// Programs that write to the same store.
const WRITERS: usize = 3;

#[derive(Clone, Debug)]
pub enum Step {
    Ingest(u8, Batch),
    Define(u8, Version),
    /// One of the batches is withdrawn, or restored where it is.
    Move(u8),
    /// Rows of a view that are older than so many units do not count any more.
    Expire(u8, u8),
    Record(Ask),
    /// A set is recorded by one program while another ingests.
    Race(Ask, u8, Batch),
    /// All that nobody needs is swept, without a grace.
    Sweep,
    /// One program sweeps, a little later or earlier, while another ingests.
    SweepRace(u8, u8, Batch),
}

#[derive(Clone, Debug)]
pub struct History {
    /// In a folder, where each commit waits for the disk; else in memory.
    on_disk: bool,
    unit: u8,
    pub views: Vec<View>,
    /// Who does it, and what.
    pub steps: Vec<(usize, Step)>,
}

pub fn history() -> impl Strategy<Value = History> {
    let recorded = || ask(Just(How::Call { record: true }).boxed());
    let step = prop_oneof![
        3 => recorded().prop_map(Step::Record),
        4 => (any::<u8>(), batch()).prop_map(|(view, batch)| Step::Ingest(view, batch)),
        3 => (any::<u8>(), version()).prop_map(|(view, version)| Step::Define(view, version)),
        1 => any::<u8>().prop_map(Step::Move),
        1 => (any::<u8>(), 0..20u8).prop_map(|(view, units)| Step::Expire(view, units)),
        2 => (any::<u8>(), UNITS..UNITS + 8).prop_map(|(view, units)| Step::Expire(view, units)),
        2 => (recorded(), any::<u8>(), batch()).prop_map(|(ask, view, batch)| Step::Race(ask, view, batch)),
        3 => Just(Step::Sweep),
        1 => (0..40u8, any::<u8>(), batch())
            .prop_map(|(moment, view, batch)| Step::SweepRace(moment, view, batch)),
    ];
    let on_disk = prop::bool::weighted(0.2);
    (on_disk, 0..4u8, vec(view(), 1..3), recorded(), vec((0..WRITERS, step), 2..11)).prop_map(
        |(on_disk, unit, views, first, mut steps)| {
            // What comes first has the most to come after it.
            steps.insert(0, (0, Step::Record(first)));
            History { on_disk, unit, views, steps }
        },
    )
}

/// Sweeps what nobody needs.
async fn swept(world: &mut World, sweeper: &Serving) -> Result<(), String> {
    sweeper.catalog().refresh().await.unwrap();
    let report = sweeper.sweep(&at_once(sweeper), &author()).await.map_err(|error| error.to_string())?;
    world.coverage.saw_if(report.total().0 > 0, "something that is swept");
    Ok(())
}

/// What a history leaves, where these programs write to one store.
pub async fn lived(history: &History, writers: &[Serving], clock: &TestClock) -> Result<World, String> {
    let mut world = World::over(writers[0].clone(), clock.clone(), history.unit, &history.views).await;
    for (writer, step) in &history.steps {
        world.serving = writers[writer % writers.len()].clone();
        match step {
            Step::Ingest(view, batch) => world.ingest(usize::from(*view), batch).await,
            Step::Define(view, version) => world.define(*view, version).await,
            Step::Move(choice) => world.move_batch(*choice).await,
            Step::Expire(view, units) => world.expire(*view, *units).await,
            Step::Record(ask) => checks::ask(&mut world, ask).await?,
            Step::Race(ask, view, batch) => {
                let other = &writers[(writer + 1) % writers.len()];
                let asked = Asked::new(&world, ask);
                let (given, wanted, asker) =
                    (spine(asked.rows.batches.clone()), request(&asked, true), author());
                let (set, ()) = tokio::join!(
                    other.historical(given, wanted, &asker),
                    world.ingest(usize::from(*view), batch)
                );
                let set = set.map_err(|error| format!("{step:?}: {error}"))?;
                let id = set.report.training_set.unwrap();
                world.recorded.push(Recorded { id, digest: set.report.digest, batches: set.batches });
            }
            Step::Sweep => swept(&mut world, &writers[writer % writers.len()]).await?,
            Step::SweepRace(moment, view, batch) => {
                let other = writers[(writer + 1) % writers.len()].clone();
                let sweeping = async {
                    for _ in 0..*moment {
                        tokio::task::yield_now().await;
                    }
                    other.catalog().refresh().await.unwrap();
                    other.sweep(&at_once(&other), &author()).await.map(|report| report.total().0)
                };
                let (gone, ()) = tokio::join!(sweeping, world.ingest(usize::from(*view), batch));
                let gone = gone.map_err(|error| format!("{step:?}: {error}"))?;
                world.coverage.saw_if(gone > 0, "something that is swept");
            }
        }
    }
    Ok(world)
}

/// Lives the history, and makes all of its sets again.
async fn live(history: &History) -> Result<Coverage, String> {
    let root = tempfile::tempdir().unwrap();
    let clock = beginning();
    let address = if history.on_disk { root.path().to_str().unwrap() } else { "memory://" };
    // Programs in memory share its objects; those in a folder only the folder.
    let shared = Store::open(address, clock.clone().into()).unwrap();
    let open = async || {
        let store = match history.on_disk {
            true => Store::open(address, clock.clone().into()).unwrap(),
            false => shared.clone(),
        };
        Serving::new(Catalog::open_or_create(store, &author()).await.unwrap())
    };
    let mut writers: Vec<Serving> = Vec::new();
    for _ in 0..WRITERS {
        writers.push(open().await);
    }
    let mut world = lived(history, &writers, &clock).await?;
    world.serving = open().await;
    checks::replay_all(&mut world).await?;
    let request = VerifyRequest { full: true, mend: false };
    let verified = verify_store(world.serving.catalog().store(), request, Arc::new(|_| ())).await;
    let faults = verified.map_err(|error| error.to_string())?.faults;
    if !faults.is_empty() {
        return Err(format!("the store is not whole: {faults:#?}"));
    }
    let mut coverage = std::mem::take(&mut world.coverage);
    let state = world.serving.catalog().state();
    let last = state.training_sets().map(|set| set.by.sequence).max().unwrap();
    let first = state.training_sets().map(|set| set.by.sequence).min().unwrap();
    coverage.saw_if(state.batches().any(|batch| batch.by.sequence > first), "a batch after a set");
    coverage.saw_if(state.views().any(|version| version.by.sequence > first), "a version after a set");
    coverage.saw_if(
        state.views().any(|version| version.by.sequence > first && version.line == version.version),
        "a version that starts empty after a set",
    );
    coverage.saw_if(
        state.views().any(|version| version.by.sequence > first && version.line != version.version),
        "a version that keeps its batches after a set",
    );
    let raced = history.steps.iter().any(|(_, step)| matches!(step, Step::Race(..)));
    coverage.saw_if(raced, "a set recorded while another program ingests");
    coverage.saw_if(!state.expiry().deleted().is_empty(), "old rows that are deleted");
    let later = |set: &catalog::state::TrainingSet| {
        state.expiry().deleted().iter().any(|deleted| deleted.by.sequence > set.by.sequence)
    };
    coverage.saw_if(state.training_sets().any(later), "a set before old rows are deleted");
    coverage.saw_if(history.on_disk, "a store in a folder");
    coverage.saw_if(state.training_sets().count() > 3, "several sets");
    coverage.saw_if(last < state.head.sequence, "something after the last set");
    let rows = || {
        history.steps.iter().filter_map(|(_, step)| match step {
            Step::Ingest(_, batch) | Step::Race(_, _, batch) | Step::SweepRace(_, _, batch) => Some(batch),
            Step::Define(..) | Step::Move(_) | Step::Expire(..) | Step::Record(_) | Step::Sweep => None,
        })
    };
    coverage.saw_if(rows().any(|batch| batch.correction), "a correction");
    coverage.saw_if(rows().any(|batch| !batch.correction), "a back-fill");
    let retracts = |batch: &Batch| batch.retractions && batch.rows.iter().any(|row| row.retracted);
    coverage.saw_if(rows().any(retracts), "a retraction");
    Ok(coverage)
}

/// A thousand histories are `LINEAMENT_CASES=10000`.
#[test]
fn recorded_sets_are_made_again_whatever_came_after() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut coverage = Coverage::default();
    let usual = 200;
    let cases = cases::run("replayed histories", usual, &history(), |history| {
        coverage.merge(runtime.block_on(live(history))?);
        Ok(1)
    });
    assert!(cases >= usual, "only {cases} histories");
    coverage.require(
        10,
        [
            "made again from its id",
            "a batch after a set",
            "a version after a set",
            "a version that starts empty after a set",
            "a version that keeps its batches after a set",
            "a set recorded while another program ingests",
            "a store in a folder",
            "several sets",
            "something after the last set",
            "a correction",
            "a back-fill",
            "a retraction",
            "a batch that is withdrawn",
            "batches that were merged",
            "something that is swept",
            "some rows of a view that expire",
        ],
    );
    // Sets keep what they read, and most histories have one of each view.
    coverage.require(5, ["old rows that are deleted", "a set before old rows are deleted"]);
    // Whether a sweep overtakes a writer hangs on the disk as well: it may not be met here, and `sweep/stalled.rs` makes it so.
}
