//! The law of retention: the sets that need a batch are those that cannot be made again without its files. So what no live
//! model needs can go, and every replay of what a live model was made of is still the same.

use std::collections::BTreeSet;
use std::sync::Arc;

use catalog::Catalog;
use catalog::records::{How, Role, Verdict};
use catalog::registry::{Deployment, Observations, SeenModelVersion};
use catalog::state::Run;
use feature::TrainingSetId;
use lineage::graph::Node;
use lineage::{Blocks, Retention};
use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, path::Path as ObjectPath};
use proptest::prelude::*;
use serving::{Kind, Serving};
use storage::Store;

use super::super::cases;
use super::super::coverage::Coverage;
use super::super::fixture::over;
use super::super::point_in_time::world::{World, beginning};
use super::super::stores::author;
use super::histories::{History, Step, history, lived};

/// Of a set: whether a model was made of it, and where that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Nothing,
    Model,
    Served,
    /// Served once, and another model does now.
    Retired,
}

const FATES: [Fate; 4] = [Fate::Served, Fate::Model, Fate::Retired, Fate::Nothing];

/// Makes models of the sets, and deploys some of them.
async fn models(world: &World) -> Vec<(TrainingSetId, Fate)> {
    let serving = &world.serving;
    let sets: Vec<TrainingSetId> = world.recorded.iter().map(|recorded| recorded.id).collect();
    let fates: Vec<(TrainingSetId, Fate)> = sets.into_iter().zip(FATES.into_iter().cycle()).collect();
    let model_version = |number: usize| SeenModelVersion {
        model: "model".to_owned(),
        version: number.to_string(),
        run: Some(format!("run-{number}")),
        ..SeenModelVersion::default()
    };
    for (number, (set, fate)) in fates.iter().enumerate() {
        if *fate == Fate::Nothing {
            continue;
        }
        let run = format!("run-{number}");
        serving.record_use(*set, &run, Role::Train, How::Explicit, &author()).await.unwrap();
        let model_versions = vec![model_version(number)];
        serving.observe(Observations { model_versions, ..Observations::default() }, &author()).await.unwrap();
        let deploy = async |model_version: Option<String>| {
            let name = format!("place-{number}");
            let deployment = Deployment { name, model_version, ..Deployment::default() };
            serving.deploy(deployment, &author()).await.unwrap();
        };
        if matches!(fate, Fate::Served | Fate::Retired) {
            deploy(Some(format!("model/{number}"))).await;
        }
        if *fate == Fate::Retired {
            deploy(None).await;
        }
    }
    fates
}

async fn live(history: &History) -> Result<Coverage, String> {
    let clock = beginning();
    let objects = Arc::new(InMemory::new());
    let store = Store::over("memory", objects.clone(), clock.clone().into());
    let first = Serving::new(Catalog::open_or_create(store.clone(), &author()).await.unwrap());
    let second = Serving::new(Catalog::open(store).await.unwrap());
    let mut world = lived(history, &[first, second], &clock).await?;
    let fates = models(&world).await;
    let (state, graph) = world.serving.graph(None).await.unwrap();
    let retention = Retention::of(&state, &graph);
    for batch in state.batches() {
        let place = graph.place(&Node::Batch(batch.record.batch)).unwrap();
        let keepers = retention.kept_by(place);
        let needed_by = |keeper: &lineage::Keeper| match graph.node(keeper.path[1]) {
            Node::TrainingSet(id) => *id,
            other => panic!("a batch is needed by {other:?}"),
        };
        let kept_by: BTreeSet<TrainingSetId> = keepers.iter().map(needed_by).collect();
        for keeper in &keepers {
            let set = needed_by(keeper);
            let fate = fates.iter().find(|(id, _)| *id == set).unwrap().1;
            let expected = match fate {
                Fate::Served => Blocks::Deployment,
                Fate::Model | Fate::Retired => Blocks::ModelVersion,
                Fate::Nothing => Blocks::TrainingSet,
            };
            if keeper.kept_for != expected {
                return Err(format!("{set}, of which came {fate:?}, keeps as {:?}", keeper.kept_for));
            }
            world.coverage.saw(format!("{fate:?}"));
        }
        if !keepers.is_sorted_by_key(|keeper| keeper.kept_for) {
            return Err(format!("what is deployed is not first: {keepers:?}"));
        }
        world.coverage.saw_if(keepers.is_empty(), "a batch that nothing needs");
        // Without one of its files, those that need it are made again no more, and all others are.
        // Files of several batches are needed by whoever needs one of these.
        let merged = |run: &Run<'_>| {
            matches!(run, Run::Compacted(..))
                && run.batches().iter().any(|other| other.record.batch == batch.record.batch)
        };
        if state.runs_of_line(batch.line).iter().any(merged) {
            world.coverage.saw("a batch whose rows lie in a file of several");
            continue;
        }
        let files = world.serving.catalog().batch_files(batch).await.unwrap();
        let Some(file) = files.first() else { continue };
        let rest = objects.fork();
        rest.delete(&ObjectPath::from(file.path.as_str())).await.unwrap();
        let opened = Serving::new(Catalog::open(over(rest, clock.clone().into())).await.unwrap());
        for (set, _) in &fates {
            match (kept_by.contains(set), opened.replay(*set, &author()).await) {
                (false, Ok((report, _))) if report.verdict == Verdict::Equal => {
                    world.coverage.saw("made again without what it does not need");
                }
                (true, Err(error))
                    if matches!(error.kind(), Kind::Damaged | Kind::NotFound)
                        && error.to_string().contains(&file.path) =>
                {
                    world.coverage.saw("not made again without what it needs");
                }
                (kept, found) => {
                    let found = found.map(|(report, _)| report.verdict);
                    return Err(format!(
                        "{} of batch {} is gone, which {set} {}: {found:?}",
                        file.path,
                        batch.record.batch,
                        if kept { "needs" } else { "does not need" }
                    ));
                }
            }
        }
    }
    Ok(std::mem::take(&mut world.coverage))
}

/// What expired a set does not read, though its batch counted.
fn nothing_expires() -> impl Strategy<Value = History> {
    history().prop_map(|mut history| {
        history.steps.retain(|(_, step)| !matches!(step, Step::Expire(..)));
        history
    })
}

#[test]
fn what_no_live_model_needs_can_go() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut coverage = Coverage::default();
    let usual = 32;
    let cases = cases::run("retention", usual, &nothing_expires(), |history| {
        coverage.merge(runtime.block_on(live(history))?);
        Ok(1)
    });
    assert!(cases >= usual, "only {cases} histories");
    coverage.require(
        10,
        [
            "a batch that nothing needs",
            "made again without what it does not need",
            "not made again without what it needs",
            "Served",
            "Model",
            "Retired",
            "Nothing",
        ],
    );
}
