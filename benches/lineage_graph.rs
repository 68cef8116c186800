//! The lineage graph at the size of a large store: built from the folded log, then asked for the impact of any node.
//!
//!     cargo bench --bench lineage_graph
//!
//! 10,000 views, 100,000 batches, 10,000 training sets of five views each, 1,000 models of which half are deployed. Prints milliseconds: the
//! fold of the records, the building of the graph, and the impact of 5,000 nodes of each kind.

#![allow(clippy::disallowed_methods, reason = "it measures time")]
#![allow(clippy::unwrap_used, reason = "it stops at the first fault")]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use catalog::State;
use catalog::records::{
    BatchCommitted, BatchHit, DeploymentChanged, EntityDefined, Evidence, ExternalLinked, How, Kind,
    KnownAtSource, ModelObserved, ModelVersionObserved, Object, Record, Role, Selected, SourceFile,
    StoreCreated, TrainingSetRecorded, UseRecorded, ViewVersionDefined,
};
use catalog::state::{Applied, Provenance};
use feature::definition::{Definition, parse_files};
use feature::digest::{Digest, HashAlgorithm, hash};
use feature::{Id, ModelId, ModelVersionId, RunId, Sequence, Timestamp};
use lineament_lineage::Graph;
use lineament_lineage::graph::{Direction, Node};

const VIEWS: usize = 10_000;
const BATCHES: usize = 100_000;
const SETS: usize = 10_000;
const VIEWS_OF_A_SET: usize = 5;
const MODELS: usize = 1_000;
/// Batches of one entry. A store has one an entry; the fold is the same.
const BATCHES_AT_A_TIME: usize = 100;
const NODES_ASKED: usize = 5_000;

const VERSION: u128 = 1;
const BATCH: u128 = 2;
const SET: u128 = 3;
const RUN: u128 = 4;
const MODEL_VERSION: u128 = 5;
const DEPLOYMENT: u128 = 6;
const VIEW: u128 = 7;
const ENTITY: u128 = 8;

fn main() {
    let entries = entries();
    let (state, fold) = timed(|| fold(&entries));
    let (graph, build) = timed(|| Graph::of(&state, state.head.sequence, &HashMap::new()));
    println!(
        "{} nodes, {} edges: fold {:.0} ms, graph {:.0} ms",
        graph.nodes().len(),
        graph.edges().len(),
        millis(fold),
        millis(build)
    );
    println!(
        "{:<14} {:>8} {:>12} {:>12} {:>14}",
        "impact of", "nodes", "median ms", "slowest ms", "training sets"
    );
    for kind in ["source", "principal", "batch", "view_version", "feature", "training_set", "run"] {
        let places: Vec<u32> =
            (0..graph.nodes().len() as u32).filter(|at| graph.node(*at).kind() == kind).collect();
        let step = places.len().div_ceil(NODES_ASKED).max(1);
        let mut times = Vec::new();
        let mut most = 0;
        for place in places.iter().step_by(step) {
            let (impact, time) = timed(|| graph.impact(*place));
            most = most.max(impact.reached.len());
            times.push(time);
        }
        report(kind, &mut times, most);
    }
    let mut times = Vec::new();
    let mut most = 0;
    for model in 0..MODELS {
        let place = graph.place(&Node::ModelVersion(id(MODEL_VERSION, model))).unwrap();
        let (walk, time) = timed(|| graph.walk(place, Direction::Up, u32::MAX, 100_000));
        most = most.max(walk.steps.len());
        times.push(time);
    }
    report("model, up", &mut times, most);
}

fn report(kind: &str, times: &mut [Duration], most: usize) {
    times.sort_unstable();
    let median = times[times.len() / 2];
    let slowest = times[times.len() - 1];
    println!("{kind:<14} {:>8} {:>12.3} {:>12.3} {most:>14}", times.len(), millis(median), millis(slowest));
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let done = work();
    (done, started.elapsed())
}

fn id<I: From<uuid::Uuid>>(kind: u128, number: usize) -> I {
    I::from(uuid::Uuid::from_u128((kind << 64) + number as u128))
}

fn digest(text: String) -> Digest {
    hash(HashAlgorithm::Blake3, text.as_bytes())
}

fn object(path: String) -> Object {
    Object { digest: digest(path.clone()), bytes: 1, path }
}

/// A number that looks random and is the same each time.
fn scattered(number: usize) -> usize {
    (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31) as usize
}

fn fold(entries: &[Vec<Record>]) -> State {
    let mut state: Option<State> = None;
    for (number, records) in entries.iter().enumerate() {
        let entry = Applied {
            by: Provenance {
                sequence: Sequence(number as u64),
                committed_at: Timestamp(number as i64),
                principal: format!("writer-{}", number % 50),
                program: "bench".to_owned(),
                run: None,
                experiment: None,
            },
            digest: digest(format!("entry {number}")),
            request: None,
            records,
        };
        match &mut state {
            Some(state) => state.apply_entry(&entry).unwrap(),
            None => state = Some(State::begin(&entry).unwrap()),
        }
    }
    state.unwrap()
}

fn entries() -> Vec<Vec<Record>> {
    let created =
        StoreCreated { store: id(0, 0), hash: HashAlgorithm::Blake3, format: 1, put_if_absent_proved: true };
    let mut entries = vec![vec![created.into()], definitions()];
    for first in (0..BATCHES).step_by(BATCHES_AT_A_TIME) {
        entries.push((first..first + BATCHES_AT_A_TIME).map(|number| batch(number).into()).collect());
    }
    entries.push(
        (0..MODELS).map(|run| link(id::<RunId>(RUN, run).uuid(), Kind::Run, format!("run-{run}"))).collect(),
    );
    for number in 0..SETS {
        let used = UseRecorded {
            training_set: id(SET, number),
            run: id(RUN, number % MODELS),
            role: Role::Train,
            how: How::Thread,
        };
        entries.push(vec![set(number).into(), used.into()]);
    }
    let model: ModelId = id(9, 0);
    let seen_at = Timestamp(0);
    let mut models = vec![
        link(model.uuid(), Kind::Model, "model".to_owned()),
        ModelObserved { model, name: "model".to_owned(), lifecycle: None, seen_at }.into(),
    ];
    for number in 0..MODELS {
        let model_version: ModelVersionId = id(MODEL_VERSION, number);
        models.push(link(model_version.uuid(), Kind::ModelVersion, format!("model/{number}")));
        let seen = ModelVersionObserved {
            model_version,
            model,
            version: number.to_string(),
            run: Some(id(RUN, number)),
            created_at: None,
            status: None,
            lifecycle: None,
            seen_at,
            body: None,
        };
        models.push(seen.into());
        if number % 2 == 0 {
            let deployed = DeploymentChanged {
                deployment: id(DEPLOYMENT, number),
                name: format!("place-{number}"),
                environment: "production".to_owned(),
                model_version: Some(model_version),
                service: None,
                endpoint: None,
                from: seen_at,
                evidence: Evidence::Declared,
            };
            models.push(deployed.into());
        }
    }
    entries.push(models);
    entries
}

fn link(id: uuid::Uuid, kind: Kind, external_id: String) -> Record {
    let (system, authority) = ("lineament".to_owned(), String::new());
    ExternalLinked { id, kind, system, authority, external_id, how: How::Explicit }.into()
}

fn definitions() -> Vec<Record> {
    let entity = "kind = \"entity\"\nname = \"thing\"\n[[keys]]\nname = \"k\"\ntype = \"int64\"\n";
    let view = "kind = \"feature_view\"\nname = \"v\"\nentity = \"thing\"\n[time]\nvalid_at = \"t\"\nknown_at = \"arrival\"\n\
         [[features]]\nname = \"a\"\ntype = \"float64\"\n[[features]]\nname = \"b\"\ntype = \"float64\"\n";
    let files = [("thing.toml", entity), ("v.toml", view)];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec();
    let definitions = parse_files(files).unwrap_or_else(|errors| panic!("{errors}"));
    let entity = definitions.entities[0].definition.clone();
    let mut view = definitions.views[0].definition.clone();
    view.keys = view.resolve_keys(&entity).unwrap();
    let mut records = vec![Record::from(EntityDefined {
        entity: id(ENTITY, 0),
        version: id(ENTITY, 1),
        number: 1,
        digest: "entity".to_owned(),
        definition: Definition::Entity(entity).to_json(),
    })];
    for number in 0..VIEWS {
        view.name = format!("view_{number}").parse().unwrap();
        let defined = ViewVersionDefined {
            view: id(VIEW, number),
            version: id(VERSION, number),
            number: 1,
            line: id(VERSION, number),
            entity: id(ENTITY, 0),
            entity_version: id(ENTITY, 1),
            digest: format!("view {number}"),
            definition: Definition::FeatureView(view.clone()).to_json(),
        };
        records.push(defined.into());
    }
    records
}

fn batch(number: usize) -> BatchCommitted {
    BatchCommitted {
        batch: id(BATCH, number),
        view: id(VIEW, number % VIEWS),
        version: id(VERSION, number % VIEWS),
        rows: 1_000,
        rejected: 0,
        known_at: KnownAtSource::Arrival,
        manifest: object(format!("manifests/{number}.parquet")),
        digest: digest(format!("batch {number}")),
        quarantine: None,
        sources: vec![SourceFile { digest: digest(format!("source {}", number / 3)), bytes: 1 }],
        body: None,
        derivation: None,
    }
}

/// Of five views, and of each the cells of all its batches.
fn set(number: usize) -> TrainingSetRecorded {
    let selected = |place: usize| {
        let view = scattered(number * VIEWS_OF_A_SET + place) % VIEWS;
        Selected {
            version: id(VERSION, view),
            features: vec!["a".to_owned(), "b".to_owned()],
            hits: (view..BATCHES)
                .step_by(VIEWS)
                .map(|batch| BatchHit { batch: id(BATCH, batch), rows: 100 })
                .collect(),
        }
    };
    let mut taken: Vec<Selected> = (0..VIEWS_OF_A_SET).map(selected).collect();
    taken.dedup_by_key(|taken| taken.version);
    TrainingSetRecorded {
        training_set: id(SET, number),
        sequence: Sequence(1),
        rows: 1_000,
        columns: 10,
        digest: format!("lmt1:{number}"),
        manifest: object(format!("training_sets/{number}/manifest.json")),
        name: None,
        selected: Some(taken),
    }
}
