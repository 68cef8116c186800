//! Opening a store, with and without a checkpoint, each in a new process.
//!
//!     cargo bench --bench open                    stores of 1,000, 10,000 and 120,000 entries
//!     cargo bench --bench open -- 1000000         one of a million; needs some 5 GB below the folder for temporary files
//!     cargo bench --bench open -- make PATH 1000  a store to look at
//!
//! A store has up to 10,000 views, 10,000 training sets and 1,000 models; the other entries are batches, one
//! an entry. Its log is written straight to local files, and read through the page cache. Prints the median
//! of some processes, in milliseconds: the opening, the batches of one view after it, the lineage graph, the
//! impact of one node; and the most memory that the process had, when it had opened and in all.

#![allow(clippy::disallowed_methods, reason = "it measures time")]
#![allow(clippy::unwrap_used, reason = "it stops at the first fault")]

mod large_store;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use catalog::Catalog;
use feature::digest::HashAlgorithm;
use feature::{CommitId, Sequence, Timestamp};
use large_store::{LargeStore, id, store_id};
use lineament_lineage::Graph;
use storage::entry::{Entry, FORMAT, RawRecord};
use storage::{Clock, Store};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Processes of each kind.
const PROCESSES: usize = 7;
/// A store with more entries is folded from its log once.
const LONG: usize = 20_000;
/// And one with more only to make its checkpoint.
const LONGEST: usize = 200_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["child", how, path] => child(how, path),
        ["make", path, entries] => write_log(Path::new(path), entries.parse().unwrap()),
        [] => [1_000, 10_000, 120_000].into_iter().for_each(measure),
        sizes => sizes.iter().for_each(|size| measure(size.parse().unwrap())),
    }
}

fn measure(entries: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (_, made) = timed(|| write_log(&path, entries));
    println!("\n{entries} entries (written in {:.1} s)", made.as_secs_f64());
    println!(
        "{:<22} {:>9} {:>10} {:>10} {:>10} {:>10} {:>9} {:>9}",
        "", "open ms", "view ms", "graph ms", "impact ms", "in all ms", "opened MB", "peak MB"
    );
    if entries <= LONGEST {
        report("from the log", &path, "log", if entries > LONG { 1 } else { 3 });
    }
    report("and a checkpoint made", &path, "write", 1);
    report("from the checkpoint", &path, "checkpoint", PROCESSES);
    let bytes = size_of(&path.join("checkpoints"));
    println!("the checkpoint has {:.1} MB", bytes as f64 / 1e6);
}

/// Medians of what some processes say of themselves.
fn report(name: &str, path: &Path, how: &str, processes: usize) {
    let mut columns: Vec<Vec<f64>> = vec![Vec::new(); 7];
    for _ in 0..processes {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["child", how, path.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        for (column, value) in columns.iter_mut().zip(text.split_whitespace()) {
            column.push(value.parse().unwrap());
        }
    }
    let median = |column: &mut Vec<f64>| {
        column.sort_by(f64::total_cmp);
        column[column.len() / 2]
    };
    let medians: Vec<f64> = columns.iter_mut().map(median).collect();
    println!(
        "{name:<22} {:>9.1} {:>10.3} {:>10.1} {:>10.3} {:>10.1} {:>9.0} {:>9.0}",
        medians[0], medians[1], medians[2], medians[3], medians[4], medians[5], medians[6]
    );
}

/// Opens the store and says how long each step took.
fn child(how: &str, path: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let begun = Instant::now();
        let store = Store::open(path, Clock::System).unwrap();
        let catalog = match how {
            "checkpoint" => Catalog::open(store).await.unwrap(),
            _ => Catalog::open_from_log(store).await.unwrap(),
        };
        let opened = begun.elapsed();
        let opened_megabytes = peak_megabytes();
        assert_eq!(catalog.last_checkpoint().is_some(), how == "checkpoint");
        if how == "write" {
            let begun = Instant::now();
            catalog.checkpoint().await.unwrap();
            let (written, opened) = (millis(begun.elapsed()), millis(opened));
            println!(
                "{written:.3} 0 0 0 {:.3} {opened_megabytes:.3} {:.3}",
                written + opened,
                peak_megabytes()
            );
            return;
        }
        let state = catalog.state();
        let head = state.head.sequence;
        let (batches, view) = timed(|| {
            let version = state.view("default", "view_7", None, head).unwrap();
            state.batches_of(version, head)
        });
        let (graph, built) = timed(|| Graph::of(&state, head, &HashMap::new()));
        let name = batches[0].record.batch.to_string();
        let (impact, impacted) = timed(|| graph.impact(graph.find(&state, &name).unwrap()));
        assert!(impact.cells_from > 0 || head.0 < 100_000);
        let in_all = begun.elapsed();
        println!(
            "{:.3} {:.3} {:.3} {:.3} {:.3} {opened_megabytes:.3} {:.3}",
            millis(opened),
            millis(view),
            millis(built),
            millis(impacted),
            millis(in_all),
            peak_megabytes()
        );
    });
}

/// A store's log as its entries would have been committed, one file after the other and never synced.
fn write_log(path: &Path, entries: usize) {
    let sets = (entries / 12).clamp(1, 10_000);
    let models = (sets / 10).max(1);
    let views = (entries / 12).clamp(10, 10_000);
    let store = LargeStore { views, batches: entries - sets - 4, batches_of_an_entry: 1, sets, models };
    std::fs::create_dir_all(path.join("log")).unwrap();
    let mut previous = None;
    for (records, sequence) in store.entries().zip(0..) {
        let raw = |record: &catalog::records::Record| RawRecord {
            number: record.number(),
            body: record.body().unwrap(),
        };
        let entry = Entry {
            format: FORMAT,
            store: store_id(),
            sequence: Sequence(sequence),
            previous,
            commit: id::<CommitId>(10, sequence as usize),
            committed_at: Timestamp(sequence as i64),
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
}

fn size_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { size_of(&entry.path()) } else { metadata.len() }
        })
        .sum()
}

/// The most memory that this process had, as the system counts it.
fn peak_megabytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.and_then(|peak| peak.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kilobytes.map_or(f64::NAN, |kilobytes| kilobytes / 1e3)
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let done = work();
    (done, started.elapsed())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
