//! The scoreboard of a large store that was opened from its checkpoint: what the first question of a process costs, and those after it.
//!
//!     cargo bench --bench scoreboard                           10,000 views of 20 batches, a day from one to the next
//!     cargo bench --bench scoreboard -- VIEWS BATCHES [HOURS]  so many views, batches of each, and hours from one to the next
//!
//! The bar is 200 ms at `10000 1000 1`, for every question but the first of a process, which has all batches read and counted. That store's log
//! takes some 10 GB below the folder for temporary files, and its fold more memory than most machines have. What a later question costs follows the lines
//! that there are, views times weeks, and not the batches: `10000 7 168` has about as many of them.
//!
//! Half of the views have training sets, of five each; runs used them for ten experiments, and made models. Prints milliseconds: the first
//! question of each kind, and the least, median and slowest of later ones; last those of questions that each follow a commit of one batch.

#![allow(clippy::disallowed_methods, reason = "it measures time")]
#![allow(clippy::unwrap_used, reason = "it stops at the first fault")]

mod large_store;

use std::path::Path;
use std::time::Instant;

use catalog::records::{BatchCommitted, ExternalLinked, How, Kind, Record, RunObserved};
use catalog::{Author, Catalog, Intent};
use feature::definition::Measure;
use feature::digest::HashAlgorithm;
use feature::quality::{Finding, Judged, Verdict};
use feature::{CommitId, Sequence, Timestamp};
use large_store::{LargeStore, RUN, id, store_id};
use lineament_serving::{Query, Serving};
use storage::entry::{Entry, FORMAT, RawRecord};
use storage::{Clock, Store};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CALLS: usize = 21;
const EXPERIMENTS: usize = 10;
/// Kinds of ids beside those of the large store.
const EXPERIMENT: u128 = 20;
const LATER_BATCH: u128 = 21;
const BEGIN: i64 = 1_704_067_200_000_000;
const HOUR: i64 = 3_600_000_000;

const NUMBERS: &str = "sum(batches) AS batches, sum(passed) AS passed, sum(warned) AS warned, sum(failed) AS failed, \
    sum(\"rows\") AS \"rows\", sum(rejected) AS rejected, max(drift) AS drift, max(age_hours) AS age_hours, \
    bool_and(lineage_complete) AS lineage_complete";

#[tokio::main]
async fn main() {
    let arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let sizes: Vec<usize> = arguments.map(|argument| argument.parse().unwrap()).collect();
    let (views, each, hours) = match sizes.as_slice() {
        [] => (10_000, 20, 24),
        [views, each] => (*views, *each, 1),
        [views, each, hours] => (*views, *each, *hours),
        other => panic!("give views, batches of each and the hours between them, and not {other:?}"),
    };
    let sets = (views / 10).clamp(1, 10_000);
    let models = (sets / 10).max(1);
    let store = LargeStore { views, batches: views * each, batches_of_an_entry: 1_000, sets, models };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let begun = Instant::now();
    let first = write_log(&path, store, i64::try_from(hours).unwrap());
    open(&path).await.checkpoint().await.unwrap();
    println!("{views} views of {each} batches, made in {:.1} s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let catalog = open(&path).await;
    assert!(catalog.last_checkpoint().is_some());
    println!("opened from its checkpoint in {:.0} ms", millis(begun));
    let serving = Serving::new(catalog);

    let board = "SELECT * FROM lineament.quality".to_owned();
    let of = |by: &str, view: &str| format!("SELECT {by}, {NUMBERS} FROM lineament.{view} GROUP BY {by}");
    println!(
        "{:<30} {:>8} {:>10} {:>10} {:>10} {:>10}",
        "milliseconds, by", "lines", "first", "least", "median", "slowest"
    );
    for (name, sql) in [
        ("version and week", board.clone()),
        ("view", of("project, feature_view", "quality")),
        ("week", of("week", "quality")),
        ("week, of one view", format!("{board} WHERE feature_view = 'view_7'")),
        ("experiment", of("experiment, name, role", "quality_by_experiment")),
        ("model version", of("model_version, label", "quality_by_model")),
    ] {
        let (lines, first) = ask(&serving, &sql).await;
        let mut times = Vec::new();
        for _ in 0..CALLS {
            times.push(ask(&serving, &sql).await.1);
        }
        report(name, lines, first, &mut times);
    }
    let mut times = Vec::new();
    let mut lines = 0;
    for number in 0..=CALLS {
        let record = Record::from(BatchCommitted { batch: id(LATER_BATCH, number), ..first.clone() });
        let append = |_: &catalog::State| Ok(Intent::<()>::Append(vec![record.clone()]));
        serving.catalog().commit(&author(), None, append).await.unwrap();
        let (found, time) = ask(&serving, &board).await;
        lines = found;
        times.push(time);
    }
    let first = times.remove(0);
    report("version and week, after a batch", lines, first, &mut times);
}

async fn open(path: &Path) -> Catalog {
    Catalog::open(Store::open(path.to_str().unwrap(), Clock::System).unwrap()).await.unwrap()
}

fn report(name: &str, lines: usize, first: f64, times: &mut [f64]) {
    times.sort_by(f64::total_cmp);
    println!(
        "{name:<30} {lines:>8} {first:>10.1} {:>10.1} {:>10.1} {:>10.1}",
        times[0],
        times[times.len() / 2],
        times[times.len() - 1]
    );
}

/// How many lines an answer has, and the milliseconds to its last.
async fn ask(serving: &Serving, sql: &str) -> (usize, f64) {
    let begun = Instant::now();
    let answer = serving.retrieve(Query::sql(sql), &author()).await.unwrap().collect().await.unwrap();
    let time = millis(begun);
    (answer.iter().map(|batch| batch.num_rows()).sum(), time)
}

/// A store's log as its entries would have been committed, one file after the other and never synced. Gives the first batch.
fn write_log(path: &Path, store: LargeStore, hours: i64) -> BatchCommitted {
    std::fs::create_dir_all(path.join("log")).unwrap();
    let (mut previous, mut batches, mut first) = (None, 0, None);
    let entries = store.entries().chain(std::iter::once_with(|| experiments(store.models)));
    for (mut records, sequence) in entries.zip(0u64..) {
        for record in &mut records {
            if let Record::BatchCommitted(batch) = record {
                judge(batch, batches);
                first.get_or_insert_with(|| batch.clone());
                batches += 1;
            }
        }
        let raw = |record: &Record| RawRecord { number: record.number(), body: record.body().unwrap() };
        let round = i64::try_from(batches / store.views).unwrap();
        let entry = Entry {
            format: FORMAT,
            store: store_id(),
            sequence: Sequence(sequence),
            previous,
            commit: id::<CommitId>(10, sequence as usize),
            committed_at: Timestamp(BEGIN + round * hours * HOUR + sequence as i64),
            principal: format!("writer-{}", sequence % 50),
            program: "bench".to_owned(),
            request: None,
            run: None,
            experiment: None,
            records: records.iter().map(raw).collect(),
        };
        let bytes = entry.encode().unwrap();
        previous = Some(storage::entry::digest(HashAlgorithm::Blake3, &bytes));
        std::fs::write(path.join(format!("log/{sequence:020}.json")), bytes).unwrap();
    }
    first.unwrap()
}

/// A batch that was profiled and compared: most pass, each tenth warns, each hundredth fails.
fn judge(batch: &mut BatchCommitted, number: usize) {
    let verdict = match number {
        number if number.is_multiple_of(100) => Verdict::Fail,
        number if number.is_multiple_of(10) => Verdict::Warn,
        _ => Verdict::Pass,
    };
    let finding = Finding {
        measure: Measure::Psi,
        feature: Some("a".to_owned()),
        verdict,
        value: 0.75 + (number % 7) as f64,
        threshold: 0.5,
    };
    batch.rejected = (number % 3) as u64;
    batch.profile = Some(batch.manifest.clone());
    batch.judged = Some(Judged {
        verdict,
        baseline_batches: 30,
        baseline_rows: 30_000,
        checks: 16,
        drift: Some(0.125 * (number % 11) as f64),
        age_hours: Some(0.5 * (number % 13) as f64),
        findings: if verdict == Verdict::Pass { Vec::new() } else { vec![finding] },
    });
}

/// Some experiments, and which each run is of.
fn experiments(runs: usize) -> Vec<Record> {
    let link = |number: usize| ExternalLinked {
        id: id(EXPERIMENT, number),
        kind: Kind::Experiment,
        system: "lineament".to_owned(),
        authority: String::new(),
        external_id: format!("experiment-{number}"),
        how: How::Explicit,
    };
    let run = |number: usize| RunObserved {
        run: id(RUN, number),
        experiment: Some(id(EXPERIMENT, number % EXPERIMENTS)),
        parent: None,
        name: None,
        status: None,
        started_at: None,
        ended_at: None,
        lifecycle: None,
        seen_at: Timestamp(0),
        body: None,
    };
    let links = (0..EXPERIMENTS).map(|number| Record::from(link(number)));
    links.chain((0..runs).map(|number| Record::from(run(number)))).collect()
}

fn millis(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1_000.0
}

fn author() -> Author {
    Author { principal: "bench".to_owned(), program: "bench".to_owned(), ..Author::default() }
}
