//! The lineage graph at the size of a large store: built from the folded log, then asked for the impact of any node.
//!
//!     cargo bench --bench lineage_graph
//!
//! 10,000 views, 100,000 batches, 10,000 training sets of five views each, 1,000 models of which half are deployed. Prints milliseconds: the
//! fold of the records, the building of the graph, and the impact of 5,000 nodes of each kind, and what keeps a batch.

#![allow(clippy::disallowed_methods, reason = "it measures time")]
#![allow(clippy::unwrap_used, reason = "it stops at the first fault")]

mod large_store;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use catalog::State;
use catalog::records::Record;
use catalog::state::{Applied, Provenance};
use feature::{Sequence, Timestamp};
use large_store::{LargeStore, MODEL_VERSION, digest, id};
use lineament_lineage::graph::{Direction, Node};
use lineament_lineage::{Graph, Retention};

/// Batches of one entry: a store has one an entry; the fold is the same.
const STORE: LargeStore =
    LargeStore { views: 10_000, batches: 100_000, batches_of_an_entry: 100, sets: 10_000, models: 1_000 };
const NODES_ASKED: usize = 5_000;

fn main() {
    let entries: Vec<_> = STORE.entries().collect();
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
    for model in 0..STORE.models {
        let place = graph.place(&Node::ModelVersion(id(MODEL_VERSION, model))).unwrap();
        let (walk, time) = timed(|| graph.walk(place, Direction::Up, u32::MAX, 100_000));
        most = most.max(walk.steps.len());
        times.push(time);
    }
    report("model, up", &mut times, most);
    let (retention, gathered) = timed(|| Retention::of(&state, &graph));
    let batches: Vec<u32> =
        (0..graph.nodes().len() as u32).filter(|at| graph.node(*at).kind() == "batch").collect();
    let (kept, whole) =
        timed(|| batches.iter().filter(|batch| !retention.kept_by(**batch).is_empty()).count());
    let mut times = Vec::new();
    let mut most = 0;
    for batch in batches.iter().step_by(batches.len().div_ceil(NODES_ASKED)) {
        let (keepers, time) = timed(|| retention.kept_by(*batch));
        most = most.max(keepers.len());
        times.push(time);
    }
    report("kept by", &mut times, most);
    println!(
        "what keeps each of {} batches: {:.0} ms and {:.0} ms, of which {kept} are kept",
        batches.len(),
        millis(gathered),
        millis(whole)
    );
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
