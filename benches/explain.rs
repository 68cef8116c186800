//! Explaining one value where very many batches might have it.
//!
//!     cargo bench --bench explain -- [BATCHES]
//!
//! A view of so many batches (100,000 where nothing is said), each a file of two rows in memory: batch n has the entity 0, which all have,
//! and the entity n, which no other has. Prints what the first question of a process costs, which reads a manifest a batch, and the median,
//! the least and the most of those after it; then the same after all batches were merged, the first of them by who has just opened the store.

#![allow(clippy::disallowed_methods, reason = "it measures time")]
#![allow(clippy::unwrap_used, reason = "it stops at the first fault")]

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use catalog::records::{BatchCommitted, KnownAtSource, Record};
use catalog::state::ViewVersion;
use catalog::{Author, Catalog, Intent};
use feature::{BatchId, BodyId, FileId, Timestamp};
use futures::StreamExt;
use lineament_serving::{CompactRequest, ExplainValueRequest, Serving};
use storage::environment;
use storage::manifest;
use storage::partition::{self, Columns, Layout, Target};
use storage::{Clock, Store};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ENTITY: &str = "kind = \"entity\"\nname = \"thing\"\n[[keys]]\nname = \"k\"\ntype = \"int64\"\n";
const VIEW: &str = "kind = \"feature_view\"\nname = \"v\"\nentity = \"thing\"\n[time]\nvalid_at = \"ts\"\n\
                    known_at = { column = \"seen\" }\n[[features]]\nname = \"x\"\ntype = \"int64\"\n";
const BATCHES: i64 = 100_000;
const OF_AN_ENTRY: usize = 1_000;
/// Questions of each kind.
const TIMES: usize = 9;
const BEGINNING: i64 = 1_704_067_200_000_000;
const MINUTE: i64 = 60_000_000;

#[tokio::main]
async fn main() {
    let asked = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let batches = asked.map_or(BATCHES, |batches| batches.parse().unwrap());
    let store = Store::open("memory://", Clock::System).unwrap();
    let serving = Serving::new(Catalog::create(store, &author()).await.unwrap());
    let files =
        [("thing.toml", ENTITY), ("v.toml", VIEW)].map(|(name, text)| (name.to_owned(), text.to_owned()));
    serving.apply(files.to_vec(), &author()).await.unwrap();
    write_batches(&serving, batches).await;
    let middle = batches / 2;
    let questions = [
        ("an entity of one batch", middle, batches, -middle),
        ("an entity of all batches, in their middle", 0, middle, middle),
        ("an entity of all batches, at their end", 0, batches, batches),
    ];
    println!("{batches} batches");
    println!("{:<52} {:>10} {:>10} {:>10}", "", "median ms", "least ms", "most ms");
    measure(&serving, "each in a file of its own", &questions).await;
    let merged = serving.compact(&CompactRequest::all(None), &author()).await.unwrap();
    let opened = Serving::new(Catalog::open(serving.catalog().store().clone()).await.unwrap());
    measure(&opened, &format!("merged {} times", merged.len()), &questions).await;
}

/// Asks each question some times. The first of all is told apart.
async fn measure(serving: &Serving, how: &str, questions: &[(&str, i64, i64, i64)]) {
    println!("{how}");
    for (what, key, at, expected) in questions {
        let mut times = Vec::new();
        for _ in 0..TIMES {
            let started = Instant::now();
            let found = ask(serving, *key, *at).await;
            times.push(started.elapsed().as_secs_f64() * 1e3);
            assert_eq!(found, Some(expected.to_string()));
        }
        let first = times[0];
        times.sort_by(f64::total_cmp);
        let (median, least, most) = (times[TIMES / 2], times[0], times[TIMES - 1]);
        println!("  {what:<50} {median:>10.1} {least:>10.1} {most:>10.1}   the first {first:.1}");
    }
}

async fn ask(serving: &Serving, key: i64, at: i64) -> Option<String> {
    let request = ExplainValueRequest {
        feature: "v.x".to_owned(),
        key: [("k".to_owned(), key.into())].into(),
        at: Timestamp(BEGINNING + at * MINUTE),
        known_by: None,
        sequence: None,
        exhaustive: false,
    };
    serving.explain_value(request, &author()).await.unwrap().value
}

fn author() -> Author {
    Author { principal: "bench".to_owned(), program: "bench".to_owned(), ..Author::default() }
}

/// Many in one entry; the files of some entries are written side by side.
async fn write_batches(serving: &Serving, batches: i64) {
    let state = serving.catalog().state();
    let version = state.view("default", "v", None, state.head.sequence).unwrap().clone();
    let all: Vec<i64> = (1..=batches).collect();
    let parts: Vec<Vec<i64>> = all.chunks(OF_AN_ENTRY).map(<[i64]>::to_vec).collect();
    let written = futures::stream::iter(parts).map(|part| {
        let (catalog, version) = (serving.catalog().clone(), version.clone());
        let write = async move {
            let mut records = Vec::new();
            for n in part {
                records.push(Record::from(write_batch(&catalog, &version, n).await));
            }
            records
        };
        async { tokio::spawn(write).await.unwrap() }
    });
    let mut written = std::pin::pin!(written.buffered(4));
    while let Some(records) = written.next().await {
        let intent = |_: &catalog::State| Ok(Intent::Append(records.clone()));
        serving.catalog().commit::<()>(&author(), None, intent).await.unwrap();
    }
}

async fn write_batch(catalog: &Catalog, version: &ViewVersion, n: i64) -> BatchCommitted {
    let (batch, hash): (BatchId, _) = (environment::mint(), catalog.state().hash);
    let times = || -> ArrayRef {
        let at = BEGINNING + n * MINUTE;
        Arc::new(TimestampMicrosecondArray::from(vec![at, at]).with_timezone("UTC"))
    };
    let table = RecordBatch::try_from_iter([
        ("k", Arc::new(Int64Array::from(vec![0, n])) as ArrayRef),
        ("valid_at", times()),
        ("known_at", times()),
        ("x", Arc::new(Int64Array::from(vec![n, -n]))),
    ]);
    let columns =
        Columns { keys: vec!["k".to_owned()], occurrence: None, has_known_at: true, has_retracted: false };
    let target = Target { view: version.view, version: version.number, batch, hash };
    let mut mint = || environment::mint::<FileId>();
    let objects = catalog.store().objects();
    let files = partition::write(&objects, &target, table.unwrap(), &columns, &Layout::default(), &mut mint)
        .await
        .unwrap();
    let id: BodyId = environment::mint();
    let manifest = manifest::encode(&files).unwrap();
    BatchCommitted {
        batch,
        view: version.view,
        version: version.version,
        rows: 2,
        rejected: 0,
        known_at: KnownAtSource::Column,
        digest: partition::batch_digest(hash, &files),
        manifest: catalog.put_object(format!("manifests/{id}.parquet"), manifest).await.unwrap(),
        quarantine: None,
        sources: Vec::new(),
        body: None,
        derivation: None,
        profile: None,
        judged: None,
    }
}
