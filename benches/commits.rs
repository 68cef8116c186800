//! What a commit costs, and what a group of them does not.
//!
//!     cargo bench --bench commits -- [--seconds N] [--folder PATH] [--address URL]
//!
//! Commits: writers that share a store, each with a handle of its own as a process has, append entries of one
//! small record as fast as they can. Group commit: producers in one process, each with a number of parts on
//! their way, send parts of some rows as fast as they are acknowledged. `memory` is a store in memory, `file`
//! one on local disk, synced, below the folder that is given (a temporary one else), `bucket` one below the
//! address that is given (`s3://…`, with the variables of its service in the environment). A sync is what a commit
//! cannot do without: a file of an entry's size is written and synced, and its folder too.

#![allow(clippy::disallowed_methods, reason = "it measures time")]
#![allow(clippy::unwrap_used, reason = "it stops at the first fault")]

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use catalog::ingest::stream::{StreamSettings, Target};
use catalog::records::{Object, ReadsRecorded};
use catalog::state::producers::Place as PartPlace;
use catalog::{Author, Catalog, Intent};
use clap::Parser;
use feature::Name;
use feature::digest::{HashAlgorithm, hash};
use lineament_serving::{Query, Serving};
use storage::{Clock, Store};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ENTITY: &str = "kind = \"entity\"\nname = \"meter\"\n[[keys]]\nname = \"meter\"\ntype = \"int64\"\n";
const VIEW: &str = "kind = \"feature_view\"\nname = \"tick\"\nentity = \"meter\"\n[time]\nvalid_at = \"time\"\n\
                    known_at = \"arrival\"\n[[features]]\nname = \"value\"\ntype = \"float64\"\nrange = [0, 1e9]\n";
/// Producers of the group commit, the parts that each has on its way, and their rows.
const PRODUCERS: u64 = 32;
const ON_THE_WAY: usize = 400;
const ROWS: usize = 10;
/// Bytes of an entry with one small record.
const ENTRY_BYTES: usize = 600;

#[derive(Parser)]
struct Arguments {
    /// Seconds that each figure is measured for
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Where stores on disk are made
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Where stores in a bucket are made, if they are to be measured: every run makes new ones, and leaves them
    #[arg(long)]
    address: Option<String>,
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let temporary = tempfile::tempdir().unwrap();
    let folder = arguments.folder.clone().unwrap_or_else(|| temporary.path().to_owned());
    let lasting = Duration::from_secs(arguments.seconds);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let sync = quantiles(syncs(&folder, lasting));
    println!("one sync of {ENTRY_BYTES} bytes and its folder: {sync}\n");
    println!("{:<8} {:>8} {:>12}   {:<40}", "store", "writers", "commits/s", "one commit");
    let places = || {
        let bucket = arguments.address.as_deref().map(Place::Bucket);
        [Place::Memory, Place::File(&folder)].into_iter().chain(bucket)
    };
    for kind in places() {
        for writers in [1, 4, 32] {
            let (taken, elapsed) = runtime.block_on(commits(kind.store(), writers, lasting));
            let rate = taken.len() as f64 / elapsed.as_secs_f64();
            println!("{:<8} {writers:>8} {rate:>12.0}   {:<40}", kind.name(), quantiles(taken));
        }
    }
    println!(
        "\n{:<8} {:>10} {:>12} {:>10}   {:<44} acknowledged to readable",
        "store", "parts/s", "rows/s", "entries", "sent to acknowledged"
    );
    for kind in places() {
        let grouped = runtime.block_on(grouped(kind.store(), lasting));
        let rate = grouped.acknowledged.len() as f64 / grouped.elapsed.as_secs_f64();
        println!(
            "{:<8} {rate:>10.0} {:>12.0} {:>10}   {:<44} {}",
            kind.name(),
            rate * ROWS as f64,
            grouped.entries,
            quantiles(grouped.acknowledged),
            quantiles(grouped.readable)
        );
    }
}

/// The median and the 99th percentile.
fn quantiles(mut taken: Vec<Duration>) -> String {
    taken.sort_unstable();
    let at = |part: f64| taken[((taken.len() - 1) as f64 * part) as usize].as_secs_f64() * 1_000.0;
    format!("p50 {:.3} ms, p99 {:.3} ms (n = {})", at(0.5), at(0.99), taken.len())
}

fn syncs(folder: &Path, lasting: Duration) -> Vec<Duration> {
    let folder = tempfile::tempdir_in(folder).unwrap();
    let begun = Instant::now();
    let mut taken = Vec::new();
    while begun.elapsed() < lasting {
        let once = Instant::now();
        let mut file = File::create(folder.path().join(taken.len().to_string())).unwrap();
        file.write_all(&[b' '; ENTRY_BYTES]).unwrap();
        file.sync_all().unwrap();
        File::open(folder.path()).unwrap().sync_all().unwrap();
        taken.push(once.elapsed());
    }
    taken
}

/// Where stores lie.
#[derive(Clone, Copy)]
enum Place<'a> {
    Memory,
    File(&'a Path),
    Bucket(&'a str),
}

impl Place<'_> {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::File(_) => "file",
            Self::Bucket(_) => "bucket",
        }
    }

    /// A new store.
    fn store(self) -> Store {
        let address = match self {
            Self::Memory => "memory://".to_owned(),
            Self::File(folder) => {
                let folder = tempfile::tempdir_in(folder).unwrap().keep();
                format!("file://{}", folder.join("store").display())
            }
            Self::Bucket(address) => {
                let name = tempfile::tempdir().unwrap();
                let name =
                    name.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
                format!("{}/{name}", address.trim_end_matches('/'))
            }
        };
        Store::open(&address, Clock::System).unwrap()
    }
}

fn author() -> Author {
    Author { principal: "bench".to_owned(), program: "bench".to_owned(), ..Author::default() }
}

/// The time of each commit.
async fn commits(store: Store, writers: u64, lasting: Duration) -> (Vec<Duration>, Duration) {
    Catalog::create(store.clone(), &author()).await.unwrap();
    let mut running = Vec::new();
    let begun = Instant::now();
    for writer in 0..writers {
        let store = store.clone();
        running.push(tokio::spawn(async move {
            let catalog = Catalog::open(store).await.unwrap();
            let path = format!("reads/{writer}.parquet");
            let object = Object { digest: hash(HashAlgorithm::Blake3, path.as_bytes()), path, bytes: 1 };
            let mut taken = Vec::new();
            while begun.elapsed() < lasting {
                let once = Instant::now();
                let record = ReadsRecorded { reads: 1, object: object.clone() };
                catalog
                    .commit::<()>(&author(), None, |_| Ok(Intent::Append(vec![record.clone().into()])))
                    .await
                    .unwrap();
                taken.push(once.elapsed());
            }
            taken
        }));
    }
    let mut all = Vec::new();
    for writer in running {
        all.extend(writer.await.unwrap());
    }
    (all, begun.elapsed())
}

struct Grouped {
    /// From sending a part to its receipt.
    acknowledged: Vec<Duration>,
    /// From a receipt to a query that has seen the batch's rows.
    readable: Vec<Duration>,
    entries: u64,
    elapsed: Duration,
}

fn part(producer: u64, number: u64) -> RecordBatch {
    let first = number as i64 * ROWS as i64;
    let rows = || first..first + ROWS as i64;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("meter", Arc::new(Int64Array::from_value(producer as i64, ROWS))),
        (
            "time",
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(rows().map(|row| row * 1_000_000))
                    .with_timezone("UTC"),
            ),
        ),
        ("value", Arc::new(Float64Array::from_iter_values(rows().map(|row| row as f64)))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

async fn grouped(store: Store, lasting: Duration) -> Grouped {
    let catalog = Catalog::create(store, &author()).await.unwrap();
    let serving = Serving::new(catalog).with_stream_settings(StreamSettings::default());
    let files = [("meter.toml", ENTITY), ("tick.toml", VIEW)];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec();
    serving.apply(files, &author()).await.unwrap();
    let before = serving.catalog().state().head.sequence.0;
    let begun = Instant::now();
    let mut running = Vec::new();
    for producer in 0..PRODUCERS {
        let serving = serving.clone();
        running.push(tokio::spawn(async move {
            let target = Target {
                project: Name::default_project(),
                view: "tick".to_owned(),
                producer: format!("producer {producer}"),
                claim: None,
            };
            let stream = serving.open_stream(target, &author()).await.unwrap();
            let mut waiting = VecDeque::new();
            let mut taken = Vec::new();
            let mut number = 0;
            while begun.elapsed() < lasting || !waiting.is_empty() {
                if begun.elapsed() < lasting && waiting.len() < ON_THE_WAY {
                    number += 1;
                    let sent = Instant::now();
                    let pending = stream.send(PartPlace { epoch: 1, number }, part(producer, number)).await;
                    waiting.push_back((sent, pending.unwrap()));
                    continue;
                }
                if let Some((sent, pending)) = waiting.pop_front() {
                    assert_eq!(pending.acknowledged().await.unwrap().rows, ROWS as u64);
                    taken.push(sent.elapsed());
                }
            }
            taken
        }));
    }
    let mut acknowledged = Vec::new();
    for producer in running {
        acknowledged.extend(producer.await.unwrap());
    }
    let elapsed = begun.elapsed();
    let entries = serving.catalog().state().head.sequence.0 - before;
    // One producer that nobody crowds, and a reader that waits for its rows.
    let target = Target {
        project: Name::default_project(),
        view: "tick".to_owned(),
        producer: "alone".to_owned(),
        claim: None,
    };
    let stream = serving.open_stream(target, &author()).await.unwrap();
    let mut readable = Vec::new();
    let begun = Instant::now();
    for number in 1.. {
        if begun.elapsed() > lasting {
            break;
        }
        let meter = 1_000 + number;
        let pending = stream.send(PartPlace { epoch: 1, number }, part(meter, number)).await.unwrap();
        pending.acknowledged().await.unwrap();
        let told = Instant::now();
        let query = Query::sql(format!("SELECT count(*) FROM tick WHERE meter = {meter}"));
        let batches = serving.retrieve(query, &author()).await.unwrap().collect().await.unwrap();
        let counts = batches[0].column(0).as_any().downcast_ref::<Int64Array>().unwrap();
        assert_eq!(counts.value(0), ROWS as i64, "what was acknowledged can be read");
        readable.push(told.elapsed());
    }
    Grouped { acknowledged, readable, entries, elapsed }
}
