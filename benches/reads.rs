//! What it costs that every block is compared with its digest, and how much is read for little, before and
//! after batches were merged.
//!
//!     cargo bench --bench reads -- [--batches N] [--rows N] [--runs N]
//!
//! A view of ten floats in so many batches of so many rows each, on local disk. *Digests*: all columns of all
//! rows are summed up by a handle that was just opened, which compares each block that it reads, and then by
//! the same handle, which has compared them; and the time that hashing the files takes by itself, on one
//! core, as blocks of 16 KiB. *Amplification*: features for a spine of 100 keys, from objects that count what
//! is asked of them, before and after `compact --everything`.

#![allow(clippy::disallowed_methods, reason = "it measures time")]
#![allow(clippy::unwrap_used, reason = "it stops at the first fault")]

use std::fmt;
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use bytes::Bytes;
use catalog::compaction::Eagerness;
use catalog::ingest::{Claim, Input, Request, Rows};
use catalog::{Author, Catalog};
use clap::Parser;
use feature::digest::{HashAlgorithm, hash};
use futures::TryStreamExt;
use futures::stream::BoxStream;
use lineament_serving::{CompactRequest, HistoricalRequest, Query, Serving, Spine};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use storage::{Clock, Store};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ENTITY: &str = "kind = \"entity\"\nname = \"meter\"\n[[keys]]\nname = \"meter\"\ntype = \"int64\"\n";
const FEATURES: usize = 10;
const KEYS: i64 = 10_000;
const BLOCK: usize = 16 << 10;

#[derive(Parser)]
struct Arguments {
    /// Batches of the view
    #[arg(long, default_value_t = 64)]
    batches: usize,
    /// Rows of each
    #[arg(long, default_value_t = 100_000)]
    rows: usize,
    /// Runs of each figure
    #[arg(long, default_value_t = 7)]
    runs: usize,
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(digests(&arguments));
    runtime.block_on(amplification(&arguments));
}

fn author() -> Author {
    Author { principal: "bench".to_owned(), program: "bench".to_owned(), ..Author::default() }
}

async fn filled(store: Store, arguments: &Arguments) -> Serving {
    let serving = Serving::new(Catalog::create(store, &author()).await.unwrap());
    let mut view =
        "kind = \"feature_view\"\nname = \"tick\"\nentity = \"meter\"\n[time]\nvalid_at = \"time\"\n\
                    known_at = { delay = \"1s\" }\n"
            .to_owned();
    for number in 0..FEATURES {
        view.push_str(&format!("[[features]]\nname = \"f{number}\"\ntype = \"float64\"\n"));
    }
    let files = [("meter.toml".to_owned(), ENTITY.to_owned()), ("tick.toml".to_owned(), view)];
    serving.apply(files.to_vec(), &author()).await.unwrap();
    for number in 0..arguments.batches {
        let rows = batch(number, arguments.rows);
        let input = Input::Rows(Rows::from_batches("bench", rows.schema(), vec![rows]));
        let mut request = Request::new("tick", input);
        request.claim = Some(Claim::BackFill);
        serving.ingest(request, &author(), Arc::new(|_| ())).await.unwrap();
    }
    serving
}

/// An hour of each key, the hour after that of the batch before.
fn batch(number: usize, rows: usize) -> RecordBatch {
    let all = || (0..rows as i64).map(|row| scattered(row + (number * rows) as i64));
    let hour = 3_600_000_000 * number as i64;
    let time = TimestampMicrosecondArray::from_iter_values(all().map(|row| hour + row % 3_600_000_000));
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("meter".to_owned(), Arc::new(Int64Array::from_iter_values(all().map(|row| row % KEYS)))),
        ("time".to_owned(), Arc::new(time.with_timezone("UTC"))),
    ];
    for feature in 0..FEATURES as i64 {
        let values = all().map(|row| (scattered(row ^ feature) % 100_000) as f64 / 100.0);
        columns.push((format!("f{feature}"), Arc::new(Float64Array::from_iter_values(values))));
    }
    RecordBatch::try_from_iter(columns).unwrap()
}

/// A number that looks random and is the same each time; never negative.
fn scattered(number: i64) -> i64 {
    ((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31) >> 1) as i64
}

async fn digests(arguments: &Arguments) {
    let folder = tempfile::tempdir().unwrap();
    let address = folder.path().join("store");
    let address = address.to_str().unwrap();
    let open = || Store::open(address, Clock::System).unwrap();
    filled(open(), arguments).await;
    let sums: Vec<String> = (0..FEATURES).map(|number| format!("sum(f{number})")).collect();
    let sql = format!("SELECT count(*), {} FROM tick", sums.join(", "));
    let (mut first, mut later) = (Vec::new(), Vec::new());
    for _ in 0..arguments.runs {
        let serving = Serving::new(Catalog::open(open()).await.unwrap());
        first.push(query(&serving, &sql).await);
        later.push(query(&serving, &sql).await);
    }
    let files = files_below(&folder.path().join("store/data"));
    let (mut bytes, mut hashed) = (0, Vec::new());
    for _ in 0..arguments.runs {
        bytes = 0;
        let mut taken = Duration::ZERO;
        for file in &files {
            let file = std::fs::read(file).unwrap();
            let begun = Instant::now();
            for block in file.chunks(BLOCK) {
                std::hint::black_box(hash(HashAlgorithm::Blake3, block));
            }
            taken += begun.elapsed();
            bytes += file.len();
        }
        hashed.push(taken);
    }
    let (first, later, hashed) = (median(first), median(later), median(hashed));
    println!(
        "{} rows, {:.1} MB in {} files",
        arguments.batches * arguments.rows,
        bytes as f64 / 1e6,
        files.len()
    );
    println!("first read {first:?}, again {later:?}; hashing it all by itself {hashed:?} on one core");
    let share = 100.0 * hashed.as_secs_f64() / first.as_secs_f64();
    println!(
        "hashing is {share:.1} % of the first read if it were done on one core, and nothing of the later ones"
    );
}

async fn query(serving: &Serving, sql: &str) -> Duration {
    let begun = Instant::now();
    let answer = serving.retrieve(Query::sql(sql.to_owned()), &author()).await.unwrap();
    let _: Vec<RecordBatch> = answer.stream.try_collect().await.unwrap();
    begun.elapsed()
}

fn files_below(folder: &FilePath) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

fn median(mut taken: Vec<Duration>) -> Duration {
    taken.sort_unstable();
    taken[taken.len() / 2]
}

async fn amplification(arguments: &Arguments) {
    let counting = Arc::new(Counting::default());
    let serving = filled(Store::over("memory", counting.clone(), Clock::System), arguments).await;
    println!("\n{:<8} {:>8} {:>14} {:>12}", "", "requests", "bytes", "one lookup");
    for merged in [false, true] {
        if merged {
            let request = CompactRequest { eagerness: Eagerness::Everything, ..CompactRequest::all(None) };
            serving.compact(&request, &author()).await.unwrap();
        }
        // A handle that has no footer and no manifest yet.
        let fresh = Serving::new(Catalog::open(serving.catalog().store().clone()).await.unwrap());
        counting.requests.store(0, Ordering::Relaxed);
        counting.bytes.store(0, Ordering::Relaxed);
        let begun = Instant::now();
        let last = 3_600_000_000 * arguments.batches as i64;
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("meter", Arc::new(Int64Array::from_iter_values((0..100).map(|key| key * (KEYS / 100))))),
            ("at", Arc::new(TimestampMicrosecondArray::from_value(last, 100).with_timezone("UTC"))),
        ];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let mut request = HistoricalRequest::new(["tick.f0", "tick.f1"]);
        request.record = false;
        let spine = Spine { schema: rows.schema(), batches: vec![rows] };
        fresh.historical(spine, request, &author()).await.unwrap();
        println!(
            "{:<8} {:>8} {:>14} {:>12.1?}",
            if merged { "merged" } else { "batches" },
            counting.requests.load(Ordering::Relaxed),
            counting.bytes.load(Ordering::Relaxed),
            begun.elapsed()
        );
    }
}

/// Objects in memory that count what is read of them.
#[derive(Debug, Default)]
struct Counting {
    inner: InMemory,
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Counting {
    fn count(&self, bytes: u64) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("counting")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Counting {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let found = self.inner.get_opts(path, options).await?;
        self.count(found.range.end - found.range.start);
        Ok(found)
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        for range in ranges {
            self.count(range.end - range.start);
        }
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
