//! Search at the size of a large catalogue: 10,000 features of 1,000 views, in 100 services.
//!
//!     cargo bench --bench search
//!
//! Prints the time that the index takes, once after names or uses changed, and the median and slowest of each kind of query, each
//! over 200 calls of `Serving::search`. The bar is 50 ms.

#![allow(clippy::disallowed_methods, reason = "it measures time")]
#![allow(clippy::unwrap_used, reason = "it stops at the first fault")]

use std::time::Instant;

use catalog::{Author, Catalog};
use lineament_serving::{SearchRequest, Serving};
use storage::{Clock, Store};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VIEWS: usize = 1_000;
const FEATURES: usize = 10;
const CALLS: usize = 200;
const ENTITY: &str = "kind = \"entity\"\nname = \"thing\"\n[[keys]]\nname = \"k\"\ntype = \"int64\"\n";

const WHAT: [&str; 20] = [
    "amount",
    "balance",
    "clicks",
    "orders",
    "refunds",
    "sessions",
    "visits",
    "distance",
    "speed",
    "temperature",
    "pressure",
    "humidity",
    "delay",
    "latency",
    "salary",
    "age",
    "tenure",
    "rating",
    "stock",
    "price",
];
const HOW: [&str; 12] = [
    "mean", "sum", "greatest", "least", "count", "share", "trend", "spread", "median", "last", "first",
    "change",
];
const OVER: [&str; 10] =
    ["hour", "day", "week", "month", "quarter", "year", "visit", "trip", "shift", "season"];
const OF: [&str; 15] = [
    "customer", "merchant", "airport", "station", "driver", "vehicle", "store", "product", "campaign",
    "device", "account", "branch", "route", "supplier", "patient",
];

#[tokio::main]
async fn main() {
    let serving = Serving::new(
        Catalog::create(Store::open("memory://", Clock::System).unwrap(), &author()).await.unwrap(),
    );
    let mut files = vec![("thing.toml".to_owned(), ENTITY.to_owned())];
    for view in 0..VIEWS {
        files.push((format!("view_{view}.toml"), definition(view)));
    }
    for service in 0..100 {
        let listed: Vec<String> =
            (0..10).map(|view| format!("\"{}.*\"", name(service * 10 + view))).collect();
        let text = format!(
            "kind = \"feature_service\"\nname = \"model_{service}\"\nfeatures = [{}]\n",
            listed.join(", ")
        );
        files.push((format!("service_{service}.toml"), text));
    }
    serving.apply(files, &author()).await.unwrap();
    let started = Instant::now();
    search(&serving, "speed").await;
    println!(
        "{} features of {VIEWS} views; the first search, with the index: {:.0} ms",
        VIEWS * FEATURES,
        millis(started)
    );
    println!("{:<44} {:>8} {:>10} {:>10}", "words", "found", "median ms", "slowest ms");
    for words in [
        "speed",
        "mean speed of a vehicle",
        "temprature staton",
        "amuont mrechant wekk",
        "tag:pii owner:team-7 salary",
        "use:model_42 rating",
        "zzzzzz qqqqqq",
        "a",
        "the mean of each thing over the whole of a season of the airport",
    ] {
        let mut times = Vec::new();
        let mut found = 0;
        for _ in 0..CALLS {
            let started = Instant::now();
            found = search(&serving, words).await;
            times.push(millis(started));
        }
        times.sort_by(f64::total_cmp);
        println!(
            "{words:.42} {:>w$} {:>10.2} {:>10.2}",
            found,
            times[CALLS / 2],
            times[CALLS - 1],
            w = 52 - words.len().min(42)
        );
    }
}

async fn search(serving: &Serving, words: &str) -> usize {
    let request = SearchRequest { words: words.to_owned(), ..SearchRequest::default() };
    serving.search(&request, &author()).await.unwrap().found.len()
}

fn millis(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1_000.0
}

fn pick<const N: usize>(of: [&'static str; N], number: usize) -> &'static str {
    // A number that shares no factor with the lengths, so that the words mix.
    of[(number * 7_919 + number / N) % N]
}

fn name(view: usize) -> String {
    format!("{}_{}_{view}", pick(OF, view), pick(OVER, view / 3))
}

fn definition(view: usize) -> String {
    let name = name(view);
    let mut text = format!(
        "kind = \"feature_view\"\nname = \"{name}\"\nentity = \"thing\"\nowner = \"team-{}\"\ntags = [\"{}\", \"{}\"]\n\
         description = \"What is known of each {} over the {}\"\n[time]\nvalid_at = \"t\"\nknown_at = \"arrival\"\n",
        view % 40,
        if view.is_multiple_of(9) { "pii" } else { "open" },
        pick(OVER, view),
        pick(OF, view),
        pick(OVER, view / 3),
    );
    for place in 0..FEATURES {
        let number = view * FEATURES + place;
        let (what, how, over) = (pick(WHAT, number), pick(HOW, number / 2), pick(OVER, number / 5));
        text.push_str(&format!(
            "[[features]]\nname = \"{what}_{how}_{over}_{place}\"\ntype = \"float64\"\nunit = \"{}\"\n\
             description = \"The {how} of the {what} over one {over}, without what was cancelled\"\n",
            ["mph", "usd", "degF", "pieces"][number % 4],
        ));
    }
    text
}

fn author() -> Author {
    Author { principal: "bench".to_owned(), program: "bench".to_owned(), ..Author::default() }
}
