//! What policies cost: one decision, and the point-in-time workloads of a store that is governed and masks nothing.
//!
//!     cargo bench --bench policies -- [--rounds N] [--rows N] [--spine N] [--store URL] [--only WORDS]
//!
//! A decision: of a feature, by twenty policies, for a user of five roles. The bar is 20 µs.
//!
//! The workloads: every query is asked of the same store with policies in force and without, one right after the other and each first
//! in turn; policies are lifted and applied between, which is not timed, and neither is the query that is asked first after it, in which they
//! are compiled and decide. The table tells the median of the rounds' ratios, and an interval that holds it in 95 of 100 draws of as many
//! rounds. The bar is +1 %. `control` is the same with both ways without policies: it says how much of a figure is noise. Masks and filters stand
//! below, for who has them; no bar is theirs.

#![allow(clippy::unwrap_used, reason = "it stops at the first fault")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use catalog::ingest::{Claim, Input, Request, Rows};
use catalog::{Author, Catalog};
use clap::Parser;
use feature::definition::{Definitions, parse_files};
use feature::policy::{Action, Asker, Policies, PolicyFile, Resource};
use lineament_serving::{HistoricalRequest, Query, Serving, Spine};
use storage::{Clock, SplitMix, Store};

mod paired;
use paired::{median, overhead, shown};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VIEW: &str = "kind = \"feature_view\"\nname = \"weather\"\nentity = \"airport\"\ntags = [\"hourly\"]\n\
    [time]\nvalid_at = \"time_hour\"\nknown_at = \"arrival\"\n[[features]]\nname = \"temp\"\ntype = \"float64\"\ntags = [\"measured\"]\n";
const ENTITY: &str =
    "kind = \"entity\"\nname = \"airport\"\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n";
const DECISIONS: u32 = 20_000;

/// Keys of the wide view; each has the same number of observations.
const KEYS: usize = 10_000;
const FEATURES: usize = 10;
/// The time of the first observation, in microseconds.
const BEGIN: i64 = 1_704_067_200_000_000;
const HOUR: i64 = 3_600_000_000;

#[derive(Parser)]
struct Arguments {
    /// Pairs of each workload
    #[arg(long, default_value_t = 40)]
    rounds: usize,
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
    decisions();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(workloads(&arguments));
}

/// One permits everything; nineteen are of roles that the asker has or not, and mask for another purpose.
fn twenty_policies() -> String {
    let mut text = String::from("permit(principal, action, resource);\n");
    for number in 0..19 {
        let _ = writeln!(
            text,
            "@mask(\"round:{}\") permit(principal in Role::\"role {number}\", action == Action::\"read\", resource)\n\
             when {{ resource.tags.contains(\"measured\") && context.purpose == Purpose::\"train\" }};",
            number + 1
        );
    }
    text
}

fn decisions() {
    let files = [("airport.toml", ENTITY), ("weather.toml", VIEW)];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let definitions = parse_files(files.to_vec()).unwrap();
    let view = &definitions.views[0].definition;
    let policies = policy::compile(&[file(twenty_policies())]).unwrap();
    let roles = (0..5).map(|number| format!("role {number}")).collect();
    let asker = Asker { principal: "ann".to_owned(), roles, ..Asker::default() };
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let started = Instant::now();
        for _ in 0..DECISIONS {
            let of = Resource::Feature(view, &view.features[0]);
            black_box(policies.decide(black_box(&asker), Action::Read, of));
        }
        best = best.min(started.elapsed().as_secs_f64() / f64::from(DECISIONS));
    }
    println!("one decision of {} policies: {:.2} µs (bar: 20)\n", policies.ids().len(), best * 1e6);
}

fn file(text: String) -> PolicyFile {
    PolicyFile { name: "base.cedar".to_owned(), text }
}

/// A point-in-time workload.
#[derive(Clone, Copy)]
enum Workload {
    /// Three rows of a spine, four features.
    Few,
    /// All features for a large spine, reduced to a row.
    Reduced,
    /// The same, row by row.
    Whole,
    /// The same by `ASOF JOIN`.
    AsOf,
    /// A training set, recorded.
    Recorded,
}

impl Workload {
    const ALL: [Self; 5] = [Self::Few, Self::Reduced, Self::Whole, Self::AsOf, Self::Recorded];

    fn name(self) -> &'static str {
        match self {
            Self::Few => "three rows",
            Self::Reduced => "a spine, reduced",
            Self::Whole => "a spine, all rows",
            Self::AsOf => "ASOF JOIN",
            Self::Recorded => "a training set",
        }
    }

    /// How often it is asked in a turn, so that a turn takes long enough to be measured.
    fn times(self) -> usize {
        match self {
            Self::Few => 100,
            _ => 3,
        }
    }

    fn text(self) -> String {
        let names: Vec<String> = (0..FEATURES).map(|at| format!("f{at}")).collect();
        let features: Vec<String> = names.iter().map(|name| format!("'wide.{name}'")).collect();
        let sums: Vec<String> = names.iter().map(|name| format!("count({name}), sum({name})")).collect();
        let (features, sums) = (features.join(", "), sums.join(", "));
        match self {
            Self::Few => format!(
                "SELECT * FROM historical_features((SELECT place, at FROM session.spine LIMIT 3), features => [{features}])"
            ),
            Self::Reduced => format!(
                "SELECT count(*), {sums} FROM historical_features((SELECT place, at FROM session.spine), features => [{features}])"
            ),
            Self::Whole => format!(
                "SELECT * FROM historical_features((SELECT place, at FROM session.spine), features => [{features}])"
            ),
            Self::AsOf => format!(
                "SELECT count(*), {sums} FROM session.spine s ASOF JOIN wide w MATCH_CONDITION (s.at >= w.valid_at) ON s.place = w.place"
            ),
            Self::Recorded => String::new(),
        }
    }
}

struct Bench {
    serving: Serving,
    spine: RecordBatch,
}

async fn workloads(arguments: &Arguments) {
    let store = Store::open(&arguments.store, Clock::System).unwrap();
    let serving = Serving::new(Catalog::open_or_create(store, &author()).await.unwrap())
        .with_policies(Arc::new(policy::Cedar));
    serving.apply(definitions(), &author()).await.unwrap();
    let hours = arguments.rows.div_ceil(KEYS);
    let rows = observations(hours);
    let mut request =
        Request::new("wide", Input::Rows(Rows::from_batches("rows", rows.schema(), vec![rows])));
    request.claim = Some(Claim::BackFill);
    serving.ingest(request, &author(), Arc::new(|_| ())).await.unwrap();
    let bench = Bench { serving, spine: spine(arguments.spine, hours) };
    println!("{:<40} {:>10} {:>10} {:>9} {:>19}", "", "without", "with", "overhead", "95 of 100");
    let everything = twenty_policies();
    let masks = "permit(principal, action, resource);\n\
         @mask(\"round:1\") permit(principal, action == Action::\"read\", resource == Feature::\"default.wide.f0\");";
    let rows = "@rows(\"place < 5000\") permit(principal, action, resource is View);\n\
         permit(principal, action, resource is Feature); permit(principal, action, resource is Project);";
    for workload in Workload::ALL {
        let name = workload.name();
        if arguments.only.as_ref().is_some_and(|words| !name.contains(words.as_str())) {
            continue;
        }
        bench.compare(&format!("control: {name}"), workload, arguments.rounds, None).await;
        bench.compare(&format!("{name} (bar: +1 %)"), workload, arguments.rounds, Some(&everything)).await;
        bench
            .compare(&format!("{name}, one of ten masked"), workload, arguments.rounds / 4, Some(masks))
            .await;
        bench.compare(&format!("{name}, half of the keys"), workload, arguments.rounds / 4, Some(rows)).await;
    }
}

impl Bench {
    /// Puts policies in force, or takes them out; neither is timed.
    async fn govern(&self, policies: Option<&str>) {
        let state = self.serving.catalog().refresh().await.unwrap();
        let governed = state.policies().in_force(state.head.sequence).is_some();
        match policies {
            Some(text) => {
                let none = Definitions::default();
                self.serving.apply_policies(&[file(text.to_owned())], &none, &author()).await.unwrap();
            }
            None if governed => drop(self.serving.lift_policies("the next turn", &author()).await.unwrap()),
            None => {}
        }
    }

    async fn ask(&self, workload: Workload) {
        if let Workload::Recorded = workload {
            let spine = Spine { schema: self.spine.schema(), batches: vec![self.spine.clone()] };
            let features = (0..FEATURES).map(|at| format!("wide.f{at}"));
            self.serving.historical(spine, HistoricalRequest::new(features), &author()).await.unwrap();
            return;
        }
        let session = self.serving.session(&author()).await.unwrap();
        session.register("spine", self.spine.schema(), vec![self.spine.clone()]).unwrap();
        let query = Query::sql(workload.text());
        let rows =
            self.serving.retrieve_in(&session, query, &author()).await.unwrap().collect().await.unwrap();
        assert!(rows.iter().any(|batch| batch.num_rows() > 0));
    }

    /// Seconds that a query takes in a turn.
    async fn turn(&self, workload: Workload, policies: Option<&str>) -> f64 {
        self.govern(policies).await;
        self.ask(workload).await;
        let started = Instant::now();
        for _ in 0..workload.times() {
            self.ask(workload).await;
        }
        let took = started.elapsed().as_secs_f64() / workload.times() as f64;
        self.serving.flush(&author()).await.unwrap();
        took
    }

    async fn compare(&self, name: &str, workload: Workload, rounds: usize, policies: Option<&str>) {
        // Files are opened and code is warm before anything is measured.
        self.turn(workload, None).await;
        self.turn(workload, policies).await;
        let mut pairs = Vec::with_capacity(rounds);
        for round in 0..rounds.max(4) {
            let pair = if round % 2 == 0 {
                let without = self.turn(workload, None).await;
                (without, self.turn(workload, policies).await)
            } else {
                let with = self.turn(workload, policies).await;
                (self.turn(workload, None).await, with)
            };
            pairs.push(pair);
        }
        let without = median(pairs.iter().map(|(without, _)| *without).collect());
        let with = median(pairs.iter().map(|(_, with)| *with).collect());
        let (overhead, least, most) = overhead(&pairs);
        let percent = |ratio: f64| 100.0 * (ratio - 1.0);
        let interval = format!("{:+.2} … {:+.2} %", percent(least), percent(most));
        println!(
            "{name:<40} {:>10} {:>10} {:>+7.2} % {interval:>19}",
            shown(without),
            shown(with),
            percent(overhead)
        );
    }
}

fn author() -> Author {
    let roles = (0..5).map(|number| format!("role {number}")).collect();
    Author { principal: "bench".to_owned(), program: "bench".to_owned(), roles, ..Author::default() }
}

fn definitions() -> Vec<(String, String)> {
    let entity = "kind = \"entity\"\nname = \"place\"\n[[keys]]\nname = \"place\"\ntype = \"int64\"\n";
    let mut view =
        "kind = \"feature_view\"\nname = \"wide\"\nentity = \"place\"\ntags = [\"hourly\"]\n[time]\n\
                    valid_at = \"valid_at\"\nknown_at = \"assumed\"\n"
            .to_owned();
    for at in 0..FEATURES {
        let _ = writeln!(view, "[[features]]\nname = \"f{at}\"\ntype = \"float64\"\ntags = [\"measured\"]");
    }
    vec![("place.toml".to_owned(), entity.to_owned()), ("wide.toml".to_owned(), view)]
}

/// Every key has an observation each hour.
fn observations(hours: usize) -> RecordBatch {
    let rows = KEYS * hours;
    let times = (0..rows).map(|row| BEGIN + (row / KEYS) as i64 * HOUR);
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows).map(|row| (row % KEYS) as i64)));
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"));
    let mut columns = vec![("place".to_owned(), keys), ("valid_at".to_owned(), times)];
    for at in 0..FEATURES {
        let mut dice = SplitMix::new(at as u64);
        let values = (0..rows).map(|_| dice.below(1 << 40) as f64 / (1u64 << 40) as f64);
        columns.push((format!("f{at}"), Arc::new(Float64Array::from_iter_values(values))));
    }
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Keys and times that are spread over all of them.
fn spine(rows: usize, hours: usize) -> RecordBatch {
    let mut dice = SplitMix::new(77);
    let keys: Vec<i64> = (0..rows).map(|_| dice.below(KEYS as u64) as i64).collect();
    let times = (0..rows).map(|_| BEGIN + dice.below(hours as u64) as i64 * HOUR + 1);
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    let columns: [(&str, ArrayRef); 2] =
        [("place", Arc::new(Int64Array::from(keys))), ("at", Arc::new(times))];
    RecordBatch::try_from_iter(columns).unwrap()
}
