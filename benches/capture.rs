//! What it costs that every read is recorded: the same queries with their lineage and without, in one
//! process, in turns.
//!
//!     cargo bench --bench capture -- [--rounds N] [--rows N] [--at-once N] [--store URL] [--only WORDS]
//!
//! "With" is the product's door: `Serving::retrieve` or `Serving::historical`. "Without" is the same session,
//! plan and rows by the engine's own calls (`plan`, `prepare`, `run`), which trace nothing and leave nothing
//! behind; the product has no such door. Each query is asked in both ways, one right after the other and each
//! first in turn, so that whatever else the machine does meets both. At the end of a round what was recorded
//! is flushed, as the server does every two seconds, and the flush is added to the time of its queries. The
//! table tells the median over the rounds' ratios, and an interval that holds it in 95 of 100 draws of as many
//! rounds. `control` is the same with both ways without: it says how much of a figure is noise.
//!
//! Beside it stands what the two parts of capture take by themselves: `trace` is planning with the trace
//! less planning without it, `write` is a flush divided by its reads.

#![allow(clippy::unwrap_used, reason = "it stops at the first fault")]

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use catalog::ingest::{Claim, Input, Request, Rows};
use catalog::{Author, Catalog};
use clap::Parser;
use engine::{Engine, Session, features};
use feature::digest::{HashAlgorithm, digest_batches};
use futures::TryStreamExt;
use lineament_serving::{HistoricalRequest, Query, Serving, Spine};
use storage::{Clock, Store};

mod paired;
use paired::{median, overhead, scattered, shown};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keys of the wide view; each has the same number of observations.
const KEYS: usize = 10_000;
/// Keys of the small views, with four observations each: a table is read whole, and what is read is not to
/// hide what capture costs.
const SMALL_KEYS: usize = 100;
/// Features of the wide view.
const FEATURES: usize = 10;
/// The time of the first observation, in microseconds.
const BEGIN: i64 = 1_704_067_200_000_000;
const HOUR: i64 = 3_600_000_000;

#[derive(Parser)]
struct Arguments {
    /// Rounds of small queries; of point-in-time retrievals there are as many
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Small queries of a round
    #[arg(long, default_value_t = 200)]
    queries: usize,
    /// Small queries that are under way at a time; as many as there are cores, or fewer
    #[arg(long, default_value_t = 2)]
    at_once: usize,
    /// Rows of the wide view
    #[arg(long, default_value_t = 1_000_000)]
    rows: usize,
    /// Rows of the spine
    #[arg(long, default_value_t = 200_000)]
    spine: usize,
    /// Where the store is made; memory where nothing is said
    #[arg(long, default_value = "memory://")]
    store: String,
    /// Only workloads whose name holds these words
    #[arg(long)]
    only: Option<String>,
    /// Given by `cargo bench`.
    #[arg(long)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(arguments));
}

async fn run(arguments: Arguments) {
    let bench = Bench::new(&arguments).await;
    let wanted = |name: &str| arguments.only.as_ref().is_none_or(|words| name.contains(words.as_str()));
    println!(
        "{:<26} {:>10} {:>10} {:>9} {:>19} {:>9} {:>9} {:>8}",
        "", "without", "with", "overhead", "95 of 100", "trace", "write", "per s"
    );
    for small in [Small::Point, Small::Retrieval, Small::Aggregate, Small::Mixed] {
        if !wanted(small.name()) {
            continue;
        }
        let block = Block { small, queries: arguments.queries, at_once: arguments.at_once };
        if small == Small::Mixed {
            bench.compare("control, small", arguments.rounds, block, [false, false]).await;
        }
        bench.compare(small.name(), arguments.rounds, block, [false, true]).await;
    }
    if wanted("retrieval of a spine") {
        let block = Block { small: Small::Spine, queries: 20, at_once: 1 };
        bench.compare("control, spine", arguments.rounds, block, [false, false]).await;
        bench.compare("retrieval of a spine", arguments.rounds, block, [false, true]).await;
    }
    if wanted("training set") {
        bench.training_sets(arguments.rounds).await;
    }
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq)]
enum Small {
    /// The newest observation of a key.
    Point,
    /// Three rows of a spine, four features of two views.
    Retrieval,
    /// Some keys, reduced to a row.
    Aggregate,
    /// All three in turn.
    Mixed,
    /// All features of two views for a large spine, reduced to a row.
    Spine,
}

impl Small {
    fn name(self) -> &'static str {
        match self {
            Self::Point => "point lookup",
            Self::Retrieval => "retrieval of three rows",
            Self::Aggregate => "aggregate",
            Self::Mixed => "the three in turn",
            Self::Spine => "retrieval of a spine",
        }
    }

    /// Each asks for something else, as clients do.
    fn text(self, number: usize) -> String {
        let key = number * 7_919 % SMALL_KEYS;
        match self {
            Self::Point => format!(
                "SELECT valid_at, f0, f1 FROM small WHERE place = {key} ORDER BY valid_at DESC LIMIT 1"
            ),
            Self::Retrieval => {
                let row = |of: usize| {
                    let at = sql_time(BEGIN + (number % 23) as i64 * HOUR);
                    format!("({}, TIMESTAMP '{at}')", (key + of) % SMALL_KEYS)
                };
                format!(
                    "SELECT * FROM historical_features((SELECT * FROM (VALUES {}, {}, {}) AS s(place, at)), \
                     features => ['small.f0', 'small.f1', 'other.g0', 'other.g1'])",
                    row(0),
                    row(1),
                    row(2)
                )
            }
            Self::Aggregate => format!(
                "SELECT count(*), avg(f0), max(f1) FROM small WHERE place BETWEEN {key} AND {} AND f0 > 0.1",
                key + 20
            ),
            Self::Mixed => [Self::Point, Self::Retrieval, Self::Aggregate][number % 3].text(number),
            Self::Spine => {
                let names: Vec<String> = (0..FEATURES).map(|at| format!("f{at}")).collect();
                let features: Vec<String> = names.iter().map(|name| format!("'wide.{name}'")).collect();
                let sums: Vec<String> =
                    names.iter().map(|name| format!("count({name}), sum({name})")).collect();
                format!(
                    "SELECT count(*), {} FROM historical_features((SELECT place, at FROM session.spine), \
                     features => [{}])",
                    sums.join(", "),
                    features.join(", ")
                )
            }
        }
    }
}

/// The time as SQL writes it.
fn sql_time(micros: i64) -> String {
    feature::Timestamp(micros).to_string()
}

#[derive(Clone, Copy)]
struct Block {
    small: Small,
    queries: usize,
    at_once: usize,
}

#[derive(Clone)]
struct Bench {
    serving: Serving,
    engine: Engine,
    spine: RecordBatch,
}

impl Bench {
    async fn new(arguments: &Arguments) -> Self {
        let store = Store::open(&arguments.store, Clock::System).unwrap();
        let serving = Serving::new(Catalog::open_or_create(store, &author()).await.unwrap());
        serving.apply(definitions(), &author()).await.unwrap();
        let hours = arguments.rows.div_ceil(KEYS);
        for (view, letter, features, keys) in
            [("small", 'f', 4, SMALL_KEYS), ("other", 'g', 4, SMALL_KEYS), ("wide", 'f', FEATURES, KEYS)]
        {
            let hours = if keys == KEYS { hours } else { 4 };
            let rows = observations(letter, features, keys, hours);
            let mut request =
                Request::new(view, Input::Rows(Rows::from_batches("rows", rows.schema(), vec![rows])));
            request.claim = Some(Claim::BackFill);
            serving.ingest(request, &author(), Arc::new(|_| ())).await.unwrap();
        }
        let engine = Engine::new(serving.catalog().clone());
        Self { serving, engine, spine: spine(arguments.spine, hours) }
    }

    /// A session as each query has one.
    async fn session(&self, block: Block) -> Session {
        let session = self.serving.session(&catalog::Author::default()).await.unwrap();
        if block.small == Small::Spine {
            session.register("spine", self.spine.schema(), vec![self.spine.clone()]).unwrap();
        }
        session
    }

    async fn without(&self, block: Block, number: usize) {
        let session = self.session(block).await;
        let plan = session.plan(&block.small.text(number)).await.unwrap();
        let physical = session.prepare(&plan).await.unwrap();
        let rows: Vec<RecordBatch> = session.run(physical).unwrap().try_collect().await.unwrap();
        assert!(rows.iter().any(|batch| batch.num_rows() > 0));
    }

    async fn with(&self, block: Block, number: usize) {
        let session = self.session(block).await;
        let query = Query::sql(block.small.text(number));
        let rows =
            self.serving.retrieve_in(&session, query, &author()).await.unwrap().collect().await.unwrap();
        assert!(rows.iter().any(|batch| batch.num_rows() > 0));
    }

    /// How long the queries of a round took in each of the two ways, and then the flush.
    async fn round(&self, block: Block, sides: [bool; 2], first: usize) -> ([f64; 2], f64) {
        let tasks = (0..block.at_once).map(|task| {
            let bench = self.clone();
            tokio::spawn(async move {
                let mut took = [0.0, 0.0];
                for number in (task..block.queries).step_by(block.at_once) {
                    for turn in 0..2 {
                        let side = (number / block.at_once + turn) % 2;
                        let started = Instant::now();
                        if sides[side] {
                            bench.with(block, first + number).await;
                        } else {
                            bench.without(block, first + number).await;
                        }
                        took[side] += seconds(started.elapsed());
                    }
                }
                took
            })
        });
        let tasks: Vec<_> = tasks.collect();
        let mut took = [0.0, 0.0];
        for task in tasks {
            let [one, other] = task.await.unwrap();
            took = [took[0] + one, took[1] + other];
        }
        let flush = Instant::now();
        self.serving.flush(&author()).await.unwrap();
        (took, seconds(flush.elapsed()))
    }

    async fn compare(&self, name: &str, rounds: usize, block: Block, sides: [bool; 2]) {
        // Files are opened and code is warm before anything is measured.
        self.round(block, sides, 0).await;
        let (mut pairs, mut flushed) = (Vec::new(), 0.0);
        let started = Instant::now();
        for round in 0..rounds {
            let ([one, other], flush) = self.round(block, sides, round * block.queries).await;
            let flush = if sides[1] { flush } else { 0.0 };
            pairs.push((one, other + flush));
            flushed += flush;
        }
        let rate = (2 * rounds * block.queries) as f64 / seconds(started.elapsed());
        let each = |time: f64| time / block.queries as f64;
        let without = median(pairs.iter().map(|(without, _)| each(*without)).collect());
        let with = median(pairs.iter().map(|(_, with)| each(*with)).collect());
        let mut line = figures(name, without, with, &pairs);
        if sides[1] {
            let written = flushed / (rounds * block.queries) as f64;
            let _ = write!(line, " {:>9} {:>9}", shown(self.trace(block).await), shown(written));
        } else {
            let _ = write!(line, " {:>9} {:>9}", "", "");
        }
        println!("{line} {rate:>8.0}");
    }

    /// What planning takes longer for the trace, in the median of many turns.
    async fn trace(&self, block: Block) -> f64 {
        let mut longer = Vec::new();
        for number in 0..400 {
            let session = self.session(block).await;
            let plan = session.plan(&block.small.text(number)).await.unwrap();
            let mut took = [0.0, 0.0];
            for turn in 0..4 {
                let traced = (number + turn / 2 + turn % 2) % 2;
                let started = Instant::now();
                if traced == 1 {
                    session.prepare_traced(&plan).await.unwrap();
                } else {
                    session.prepare(&plan).await.unwrap();
                }
                took[traced] += seconds(started.elapsed()) / 2.0;
            }
            longer.push(took[1] - took[0]);
        }
        median(longer)
    }

    /// A training set that is recorded, beside the same rows and nothing else; the content digest apart.
    async fn training_sets(&self, rounds: usize) {
        let rounds = rounds.min(20);
        let (mut pairs, mut digests) = (Vec::new(), Vec::new());
        self.rows_of_a_set().await;
        self.recorded_set().await;
        for _ in 0..rounds {
            let (before, _) = self.rows_of_a_set().await;
            let with = self.recorded_set().await + self.recorded_set().await;
            let (after, digest) = self.rows_of_a_set().await;
            digests.push(seconds(digest));
            // A recorded set has the digest of its rows and of its spine; this is without that of its rows.
            pairs.push((seconds(before + after), seconds(with) - 2.0 * seconds(digest)));
        }
        let without = median(pairs.iter().map(|(without, _)| without / 2.0).collect());
        let with = median(pairs.iter().map(|(_, with)| with / 2.0).collect());
        println!("{}", figures("training set, recorded", without, with, &pairs));
        let digest = median(digests);
        println!("  its content digest, on top: {} ({:.1} %)", shown(digest), 100.0 * digest / without);
    }

    async fn recorded_set(&self) -> Duration {
        let started = Instant::now();
        let spine = Spine { schema: self.spine.schema(), batches: vec![self.spine.clone()] };
        self.serving.historical(spine, HistoricalRequest::new(wide()), &author()).await.unwrap();
        started.elapsed()
    }

    /// How long the rows of a set take, and then their digest.
    async fn rows_of_a_set(&self) -> (Duration, Duration) {
        let started = Instant::now();
        let session = self.engine.ordered_session(self.engine.snapshot(None).await.unwrap()).unwrap();
        let resolved = features::resolve(session.snapshot(), &features::Request::new(wide())).await.unwrap();
        let rows = session.rows("spine", self.spine.schema(), vec![self.spine.clone()]).unwrap();
        let plan = features::plan(rows, "at", &resolved).unwrap();
        let physical = session.prepare(&plan).await.unwrap();
        let schema = physical.schema();
        let rows: Vec<RecordBatch> = session.run(physical).unwrap().try_collect().await.unwrap();
        let took = started.elapsed();
        let digest = Instant::now();
        digest_batches(HashAlgorithm::Blake3, &schema, &rows).unwrap();
        (took, digest.elapsed())
    }
}

fn wide() -> Vec<String> {
    (0..FEATURES).map(|at| format!("wide.f{at}")).collect()
}

fn author() -> Author {
    Author { principal: "bench".to_owned(), program: "bench".to_owned(), ..Author::default() }
}

fn definitions() -> Vec<(String, String)> {
    let entity = "kind = \"entity\"\nname = \"place\"\n[[keys]]\nname = \"place\"\ntype = \"int64\"\n";
    let mut files = vec![("place.toml".to_owned(), entity.to_owned())];
    for (view, letter, features) in [("small", 'f', 4), ("other", 'g', 4), ("wide", 'f', FEATURES)] {
        let mut text = format!(
            "kind = \"feature_view\"\nname = \"{view}\"\nentity = \"place\"\n[time]\nvalid_at = \"valid_at\"\n\
             known_at = \"assumed\"\n"
        );
        for at in 0..features {
            let _ = writeln!(text, "[[features]]\nname = \"{letter}{at}\"\ntype = \"float64\"");
        }
        files.push((format!("{view}.toml"), text));
    }
    files
}

/// Every key has an observation each hour.
fn observations(letter: char, features: usize, keys: usize, hours: usize) -> RecordBatch {
    let rows = keys * hours;
    let times = (0..rows).map(|row| BEGIN + (row / keys) as i64 * HOUR);
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows).map(|row| (row % keys) as i64)));
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"));
    let mut columns = vec![("place".to_owned(), keys), ("valid_at".to_owned(), times)];
    for at in 0..features {
        let values = (0..rows).map(|row| scattered(row * FEATURES + at) as f64 / u64::MAX as f64);
        columns.push((format!("{letter}{at}"), Arc::new(Float64Array::from_iter_values(values))));
    }
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Keys and times that are spread over all of them.
fn spine(rows: usize, hours: usize) -> RecordBatch {
    let keys = (0..rows).map(|row| (scattered(row) % KEYS as u64) as i64);
    let times = (0..rows).map(|row| BEGIN + (scattered(row + rows) % hours as u64) as i64 * HOUR + 1);
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(keys));
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"));
    RecordBatch::try_from_iter([("place", keys), ("at", times)]).unwrap()
}

fn figures(name: &str, without: f64, with: f64, pairs: &[(f64, f64)]) -> String {
    let (overhead, least, most) = overhead(pairs);
    let percent = |ratio: f64| 100.0 * (ratio - 1.0);
    let interval = format!("{:+.2} … {:+.2} %", percent(least), percent(most));
    format!(
        "{name:<26} {:>10} {:>10} {:>+7.2} % {interval:>19}",
        shown(without),
        shown(with),
        percent(overhead)
    )
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}
