//! What the profile of a batch costs of its ingest.
//!
//!     cargo bench --bench profiles -- [FOLDER]
//!
//! A million rows of five floats, two integers and two texts, of which one is a category and the other nearly a key. Prints the time
//! of the profile alone, of the whole ingest (the profile in it), and the share. The store lies in FOLDER, which must not be one yet; in memory
//! without it. The median of five.

#![allow(clippy::disallowed_methods, reason = "it measures time")]
#![allow(clippy::unwrap_used, reason = "it stops at the first fault")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use catalog::ingest::{Input, Request, Rows};
use catalog::{Author, Catalog};
use feature::Definition;
use feature::profile::BatchProfile;
use lineament_serving::Serving;
use storage::{Clock, Store};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: usize = 1_000_000;
const BATCH: usize = 65_536;
const TIMES: usize = 5;

const ENTITY: &str = "kind = \"entity\"\nname = \"thing\"\n[[keys]]\nname = \"k\"\ntype = \"int64\"\n";
const VIEW: &str = "kind = \"feature_view\"\nname = \"wide\"\nentity = \"thing\"\n[time]\nvalid_at = \"t\"\nknown_at = \"assumed\"\n";
const FEATURES: [(&str, &str); 9] = [
    ("f0", "float64"),
    ("f1", "float64"),
    ("f2", "float64"),
    ("f3", "float64"),
    ("f4", "float64"),
    ("i0", "int64"),
    ("i1", "int64"),
    ("s0", "string"),
    ("s1", "string"),
];

#[tokio::main]
async fn main() {
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let place = folder.as_ref().map_or("memory://".to_owned(), Clone::clone);
    let mut view = VIEW.to_owned();
    for (name, kind) in FEATURES {
        view.push_str(&format!("[[features]]\nname = \"{name}\"\ntype = \"{kind}\"\n"));
    }
    let Definition::FeatureView(declared) = feature::definition::parse("wide.toml", &view).unwrap() else {
        return;
    };
    let serving =
        Serving::new(Catalog::create(Store::open(&place, Clock::System).unwrap(), &author()).await.unwrap());
    let files = vec![("thing.toml".to_owned(), ENTITY.to_owned()), ("wide.toml".to_owned(), view.clone())];
    serving.apply(files, &author()).await.unwrap();
    let (mut profiles, mut ingests) = (Vec::new(), Vec::new());
    for time in 0..TIMES {
        let rows: Vec<RecordBatch> =
            (0..ROWS).step_by(BATCH).map(|from| batch(time * ROWS + from, BATCH.min(ROWS - from))).collect();
        let started = Instant::now();
        let mut profile = BatchProfile::of(&declared.features);
        rows.iter().for_each(|rows| profile.add(rows).unwrap());
        let bytes = profile.to_json().len();
        profiles.push(started.elapsed());
        let rows = Rows::from_batches("rows", rows[0].schema(), rows);
        let started = Instant::now();
        serving.ingest(Request::new("wide", Input::Rows(rows)), &author(), Arc::new(|_| ())).await.unwrap();
        ingests.push(started.elapsed());
        println!("profile of {bytes} bytes: {:?}; ingest: {:?}", profiles[time], ingests[time]);
    }
    let (profile, ingest) = (median(profiles), median(ingests));
    println!(
        "{ROWS} rows, {} features: profile {profile:?}, ingest {ingest:?}: {:.1} %",
        FEATURES.len(),
        100.0 * profile.as_secs_f64() / ingest.as_secs_f64()
    );
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Numbers that look random, and are the same each time.
fn mixed(row: usize, column: u64) -> u64 {
    let mut x = (row as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ column.wrapping_mul(0xD1B5_4A32_D192_ED03);
    x ^= x >> 31;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^ (x >> 29)
}

fn batch(from: usize, rows: usize) -> RecordBatch {
    let each = from..from + rows;
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("k".to_owned(), Arc::new(Int64Array::from_iter_values(each.clone().map(|row| row as i64 % 10_000)))),
        (
            "t".to_owned(),
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(each.clone().map(|row| row as i64 * 1_000_000))
                    .with_timezone("UTC"),
            ),
        ),
    ];
    for (place, (name, kind)) in (0u64..).zip(FEATURES) {
        let of = |row: usize| mixed(row, place);
        let array: ArrayRef = match (kind, name) {
            ("float64", _) => Arc::new(Float64Array::from_iter(
                each.clone()
                    .map(|row| (of(row) % 50 > 0).then(|| (of(row) % 1_000_003) as f64 / 97.0 - 4_000.0)),
            )),
            ("int64", _) => {
                Arc::new(Int64Array::from_iter_values(each.clone().map(|row| (of(row) % 5_000) as i64)))
            }
            (_, "s0") => Arc::new(StringArray::from_iter_values(
                each.clone().map(|row| format!("kind {}", of(row) % 20)),
            )),
            _ => Arc::new(StringArray::from_iter_values(
                each.clone().map(|row| format!("{:x}", of(row) % 900_000)),
            )),
        };
        columns.push((name.to_owned(), array));
    }
    RecordBatch::try_from_iter(columns).unwrap()
}

fn author() -> Author {
    Author { principal: "bench".to_owned(), program: "bench".to_owned(), ..Author::default() }
}
