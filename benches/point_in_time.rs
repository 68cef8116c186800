//! The point-in-time join on the workloads of bench/point_in_time.py, which generates them, runs the peers and compares answers.
//!
//!     point_in_time ingest --data DIR --store DIR [--batches N --deal turn|time|rows] [--corrections]
//!     point_in_time run    --data DIR --store DIR --spine NAME --mode agg|rows|parquet|digest --out FILE [--features N] [--memory GIB]
//!
//! `run` does what a user's query does: it opens the store, reads the spine's file, plans, joins, and reduces every
//! column that was asked for in SQL (`agg`), or takes the rows in the spine's order and reduces them as they come (`rows`), or writes them
//! in that order (`parquet`). It ends by printing `RESULT` and
//! one JSON object, where `recording_s` is what it took to write the read to the log, on top of `wall_s`. `digest` records a training set, with
//! its content digest, which no peer has.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, SchemaRef, TimestampMicrosecondType};
use catalog::ingest::{Claim, Input, Request, Rows};
use catalog::{Author, Catalog};
use clap::{Args, Parser, Subcommand, ValueEnum};
use futures::StreamExt;
use lineament_serving::{self as serving, HistoricalRequest, Query, Serving, Spine};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use serde::Deserialize;
use storage::{Clock, Store};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// Given by `cargo bench`.
    #[arg(long, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Verb {
    Ingest(Ingest),
    Run(Run),
}

#[derive(Args)]
struct Ingest {
    #[arg(long)]
    data: PathBuf,
    #[arg(long)]
    store: PathBuf,
    /// Into how many batches each view's rows are dealt
    #[arg(long, default_value_t = 1)]
    batches: usize,
    /// How they are dealt
    #[arg(long, default_value = "turn")]
    deal: Deal,
    /// A tenth of the rows comes once more, in a batch of its own
    #[arg(long)]
    corrections: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Deal {
    /// Row by row in turn: every batch has all entities and all times
    Turn,
    /// By equal stretches of time
    Time,
    /// By stretches of rows as they lie: every batch has some entities
    Rows,
}

#[derive(Args)]
struct Run {
    #[arg(long)]
    data: PathBuf,
    #[arg(long)]
    store: PathBuf,
    #[arg(long, default_value = "spine")]
    spine: String,
    #[arg(long, default_value = "agg")]
    mode: Mode,
    #[arg(long)]
    out: Option<PathBuf>,
    /// Only the first so many features of each view
    #[arg(long)]
    features: Option<usize>,
    /// Memory for the query, in GiB
    #[arg(long)]
    memory: Option<f64>,
    /// Say where the time went
    #[arg(long)]
    explain: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Mode {
    Agg,
    Rows,
    Parquet,
    Digest,
}

/// What the generator says of its files.
#[derive(Deserialize)]
struct Manifest {
    views: Vec<View>,
    spines: BTreeMap<String, SpineFile>,
    /// The key, where it is not one whole number.
    #[serde(default = "whole_number")]
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    name: String,
    /// As a definition writes it.
    r#type: String,
}

fn whole_number() -> Vec<Key> {
    vec![Key { name: "entity_id".to_owned(), r#type: "int64".to_owned() }]
}

#[derive(Deserialize)]
struct View {
    file: String,
    floats: Vec<String>,
    strings: Vec<String>,
    ttl_us: Option<i64>,
}

#[derive(Deserialize)]
struct SpineFile {
    file: String,
}

impl Manifest {
    fn read(data: &Path) -> Outcome<Self> {
        Ok(serde_json::from_reader(BufReader::new(File::open(data.join("manifest.json"))?))?)
    }
}

fn main() -> Outcome {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match arguments.verb {
            Verb::Ingest(ingest) => ingest.run().await,
            Verb::Run(run) => run.run().await,
        }
    })
}

fn author() -> Author {
    Author { principal: "bench".to_owned(), program: "bench".to_owned(), ..Author::default() }
}

/// The row groups of a file side by side, as the readers of other systems do it.
fn read(path: &Path) -> Outcome<(SchemaRef, Vec<RecordBatch>)> {
    let metadata = ArrowReaderMetadata::load(&File::open(path)?, ArrowReaderOptions::new())?;
    let groups = metadata.metadata().num_row_groups();
    let read = |group: usize| -> Result<Vec<RecordBatch>, ParquetError> {
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(File::open(path)?, metadata.clone());
        let rows = builder.with_row_groups(vec![group]).with_batch_size(1 << 16).build()?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    let threads = std::thread::available_parallelism()?.get();
    let mut parts: Vec<Vec<RecordBatch>> = Vec::with_capacity(groups);
    for first in (0..groups).step_by(threads) {
        let read: Vec<_> = std::thread::scope(|scope| {
            let at_once = first..groups.min(first + threads);
            let reading: Vec<_> = at_once.map(|group| scope.spawn(move || read(group))).collect();
            reading.into_iter().map(|part| part.join()).collect()
        });
        for part in read {
            parts.push(part.map_err(|_| "a reader stopped")??);
        }
    }
    Ok((metadata.schema().clone(), parts.into_iter().flatten().collect()))
}

impl Ingest {
    async fn run(self) -> Outcome {
        let manifest = Manifest::read(&self.data)?;
        let store = Store::open(&self.store.to_string_lossy(), Clock::System)?;
        let serving = Serving::new(Catalog::open_or_create(store, &author()).await?);
        serving.apply(definitions(&manifest), &author()).await?;
        let started = Instant::now();
        for (index, view) in manifest.views.iter().enumerate() {
            let (schema, batches) = read(&self.data.join(&view.file))?;
            for turn in 0..self.batches {
                self.put(&serving, index, &schema, self.share(&batches, turn)?).await?;
            }
            if self.corrections {
                let tenth = batches.iter().map(|batch| every(batch, 0, 10)).collect::<Result<_, _>>()?;
                self.put(&serving, index, &schema, tenth).await?;
            }
        }
        println!("ingested in {:.2} s", started.elapsed().as_secs_f64());
        Ok(())
    }
}

impl Ingest {
    async fn put(
        &self,
        serving: &Serving,
        view: usize,
        schema: &SchemaRef,
        share: Vec<RecordBatch>,
    ) -> Outcome {
        let mut request =
            Request::new(format!("v{view}"), Input::Rows(Rows::from_batches("rows", schema.clone(), share)));
        request.claim = Some(Claim::BackFill);
        serving.ingest(request, &author(), Arc::new(|_| ())).await?;
        Ok(())
    }

    /// The rows of one of the batches.
    fn share(&self, batches: &[RecordBatch], turn: usize) -> Outcome<Vec<RecordBatch>> {
        let of = self.batches;
        if of == 1 {
            return Ok(batches.to_vec());
        }
        match self.deal {
            Deal::Turn => Ok(batches.iter().map(|batch| every(batch, turn, of)).collect::<Result<_, _>>()?),
            Deal::Rows => {
                let share = batches.len().div_ceil(of);
                Ok(batches.iter().skip(turn * share).take(share).cloned().collect())
            }
            Deal::Time => {
                let (first, last) = span(batches)?;
                let width = (last - first) / of as i64 + 1;
                let mut shares = Vec::with_capacity(batches.len());
                for batch in batches {
                    let times = times(batch)?.values().iter();
                    let mine: BooleanArray =
                        times.map(|time| Some((time - first) / width == turn as i64)).collect();
                    shares.push(arrow::compute::filter_record_batch(batch, &mine)?);
                }
                Ok(shares)
            }
        }
    }
}

/// The first and the last of the times.
fn span(batches: &[RecordBatch]) -> Outcome<(i64, i64)> {
    let (mut first, mut last) = (i64::MAX, i64::MIN);
    for batch in batches {
        let times = times(batch)?;
        first = first.min(arrow::compute::min(times).unwrap_or(first));
        last = last.max(arrow::compute::max(times).unwrap_or(last));
    }
    Ok((first, last))
}

fn times(batch: &RecordBatch) -> Outcome<&TimestampMicrosecondArray> {
    let column = batch.column_by_name("valid_at").ok_or("no column `valid_at`")?;
    Ok(column.as_primitive_opt::<TimestampMicrosecondType>().ok_or("`valid_at` is not in microseconds")?)
}

/// Every `of`th row from `turn` on.
fn every(batch: &RecordBatch, turn: usize, of: usize) -> Result<RecordBatch, arrow::error::ArrowError> {
    let rows = (turn..batch.num_rows()).step_by(of).map(|row| row as u64);
    arrow::compute::take_record_batch(batch, &UInt64Array::from_iter_values(rows))
}

fn definitions(manifest: &Manifest) -> Vec<(String, String)> {
    let mut entity = "kind = \"entity\"\nname = \"entity\"\n".to_owned();
    for key in &manifest.keys {
        let _ = writeln!(entity, "[[keys]]\nname = \"{}\"\ntype = \"{}\"", key.name, key.r#type);
    }
    let mut files = vec![("entity.toml".to_owned(), entity)];
    for (index, view) in manifest.views.iter().enumerate() {
        let mut text = format!("kind = \"feature_view\"\nname = \"v{index}\"\nentity = \"entity\"\n");
        if let Some(ttl) = view.ttl_us {
            let _ = writeln!(text, "ttl = \"{ttl}us\"");
        }
        text.push_str("[time]\nvalid_at = \"valid_at\"\nknown_at = \"assumed\"\n");
        for (names, kind) in [(&view.floats, "float64"), (&view.strings, "string")] {
            for name in names {
                let _ = writeln!(text, "[[features]]\nname = \"{name}\"\ntype = \"{kind}\"");
            }
        }
        files.push((format!("v{index}.toml"), text));
    }
    files
}

impl Run {
    async fn run(self) -> Outcome {
        let manifest = Manifest::read(&self.data)?;
        let (started, cpu) = (Instant::now(), cpu_seconds()?);
        let store = Store::open(&self.store.to_string_lossy(), Clock::System)?;
        let serving = Serving::new(Catalog::open(store).await?);
        let file = &manifest.spines.get(&self.spine).ok_or("the manifest has no such spine")?.file;
        let (schema, batches) = read(&self.data.join(file))?;
        let (floats, strings, features) = self.asked(&manifest);
        let check = if self.mode == Mode::Digest {
            let (spine, author) = (Spine { schema, batches }, author());
            let set = serving.historical(spine, HistoricalRequest::new(features), &author).await?;
            serde_json::json!({ "exact": [set.report.rows], "sum": 0.0, "digest": set.report.digest })
        } else {
            let session = serving.session(&catalog::Author::default()).await?;
            session.register("spine", schema, batches)?;
            let list = features.iter().map(|feature| format!("'{feature}'")).collect::<Vec<_>>().join(", ");
            let keys = manifest.keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>().join(", ");
            let joined = format!(
                "historical_features((SELECT row_id, {keys}, at, label FROM session.spine), features => [{list}])"
            );
            match self.mode {
                Mode::Parquet => self.write(&serving, &session, &joined).await?,
                Mode::Rows => reduce(&serving, &session, &joined, floats.len(), strings.len()).await?,
                _ => {
                    let counts = floats.iter().chain(&strings).map(|name| format!("count({name})"));
                    let sums = floats.iter().map(|name| format!("sum({name})"));
                    let columns = counts.chain(sums).collect::<Vec<_>>().join(", ");
                    let explain = if self.explain { "EXPLAIN ANALYZE " } else { "" };
                    let sql = format!("{explain}SELECT count(*), {columns} FROM {joined}");
                    let answer =
                        serving.retrieve_in(&session, Query::sql(sql), &author()).await?.collect().await?;
                    if self.explain {
                        println!("{}", arrow::util::pretty::pretty_format_batches(&answer)?);
                        return Ok(());
                    }
                    checksum(&answer, floats.len() + strings.len())?
                }
            }
        };
        let (wall, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
        // A server writes what was read to the log every two seconds, for all reads together; here it is for one.
        let recording = Instant::now();
        serving.flush(&author()).await?;
        let result = serde_json::json!({
            "wall_s": wall,
            "cpu_s": cpu,
            "recording_s": recording.elapsed().as_secs_f64(),
            "version": concat!("lineament ", env!("CARGO_PKG_VERSION")),
            "check": check,
        });
        println!("RESULT {result}");
        Ok(())
    }

    /// Columns by kind, and references to all.
    fn asked(&self, manifest: &Manifest) -> (Vec<String>, Vec<String>, Vec<String>) {
        let (mut floats, mut strings, mut features) = (Vec::new(), Vec::new(), Vec::new());
        for (index, view) in manifest.views.iter().enumerate() {
            let wanted = self.features.unwrap_or(view.floats.len()).min(view.floats.len());
            let texts = if self.features.is_some() { &[] } else { view.strings.as_slice() };
            for name in &view.floats[..wanted] {
                floats.push(name.clone());
                features.push(format!("v{index}.{name}"));
            }
            for name in texts {
                strings.push(name.clone());
                features.push(format!("v{index}.{name}"));
            }
        }
        (floats, strings, features)
    }

    async fn write(
        &self,
        serving: &Serving,
        session: &engine::Session,
        joined: &str,
    ) -> Outcome<serde_json::Value> {
        let out = self.out.as_ref().ok_or("--mode parquet needs --out")?;
        let query = Query::sql(format!("SELECT * FROM {joined}"));
        let mut retrieval = serving.retrieve_in(session, query, &author()).await?;
        serving::write_parquet(retrieval.schema.clone(), &mut retrieval.stream, File::create(out)?).await?;
        Ok(serde_json::Value::Null)
    }
}

/// The same as `checksum`, of rows as they come: floats, then texts.
async fn reduce(
    serving: &Serving,
    session: &engine::Session,
    joined: &str,
    floats: usize,
    texts: usize,
) -> Outcome<serde_json::Value> {
    let query = Query::sql(format!("SELECT * FROM {joined}"));
    let mut retrieval = serving.retrieve_in(session, query, &author()).await?;
    let (mut rows, mut cells, mut sum) = (0, 0, 0.0);
    while let Some(batch) = retrieval.stream.next().await {
        let batch = batch?;
        rows += batch.num_rows();
        // The spine's columns come first.
        let asked = &batch.columns()[batch.num_columns() - floats - texts..];
        for column in asked {
            cells += column.len() - column.null_count();
            if let Some(values) = column.as_primitive_opt::<Float64Type>() {
                sum += arrow::compute::sum(values).unwrap_or(0.0);
            }
        }
    }
    Ok(serde_json::json!({ "exact": [rows, cells], "sum": sum }))
}

/// Output rows, cells that are not null, and the sum of all floats.
fn checksum(answer: &[RecordBatch], counted: usize) -> Outcome<serde_json::Value> {
    let row = answer.iter().find(|batch| batch.num_rows() == 1).ok_or("the query gave no row")?;
    let number = |column: usize| -> Outcome<f64> {
        let value = cast(row.column(column), &DataType::Float64)?;
        let value = value.as_primitive::<Float64Type>();
        Ok(value.iter().flatten().next().unwrap_or(0.0))
    };
    let mut cells = 0.0;
    for column in 1..=counted {
        cells += number(column)?;
    }
    let mut sum = 0.0;
    for column in counted + 1..row.num_columns() {
        sum += number(column)?;
    }
    Ok(serde_json::json!({ "exact": [number(0)? as u64, cells as u64], "sum": sum }))
}

/// Of this process, all threads, user and system.
fn cpu_seconds() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| -> Outcome<f64> { Ok(fields.get(index).ok_or("no such field")?.parse()?) };
    // utime and stime are fields 14 and 15 of the line, in ticks of a hundredth of a second.
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}
