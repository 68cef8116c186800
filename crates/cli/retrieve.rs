//! `lineament retrieve`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use catalog::ingest::FileRows;
use clap::Args;
use feature::{AsOf, Timestamp};
use futures::{Stream, StreamExt, TryStreamExt};
use serving::{Error, GivenSpine, HistoricalRequest, HistoricalStream, Kind, Result, Spine};

use crate::memory_limits::MemoryLimits;
use crate::session::{Place, file_error};
use crate::table::{self, grouped};

/// Build a training set: what was known to each row of a spine, recorded and rebuilt from its id
#[derive(Args)]
pub struct Arguments {
    /// Feature references (weather.temp, weather@2.temp, weather.*) and feature services
    #[arg(required = true)]
    features: Vec<String>,
    /// The spine: a Parquet, CSV or Arrow file with key columns and a time column `at`
    #[arg(long, required_unless_present = "spine_sql")]
    spine: Option<PathBuf>,
    /// A query that gives the spine, in place of a file
    #[arg(long, value_name = "SQL", conflicts_with_all = ["spine", "columns"])]
    spine_sql: Option<String>,
    /// Columns of the spine to use; all where none is given
    #[arg(long, value_delimiter = ',')]
    columns: Vec<String>,
    /// The spine's time column, where it is not `at`
    #[arg(long)]
    at: Option<String>,
    /// Name columns view__feature
    #[arg(long)]
    full_feature_names: bool,
    /// A ttl for this retrieval alone, as weather=2h; may be given several times
    #[arg(long)]
    ttl: Vec<String>,
    /// As we knew it then: one instant in place of each row's own time
    #[arg(long)]
    known_by: Option<Timestamp>,
    /// The store as it was: after this entry of the log, or at this time; a set that is recorded is of that state
    #[arg(long, value_name = "SEQUENCE|TIME")]
    as_of: Option<AsOf>,
    /// A name for people
    #[arg(long)]
    name: Option<String>,
    /// Add for each feature a column `<feature>__null_reason` that says why it is null
    #[arg(long)]
    null_reasons: bool,
    /// Do not record it
    #[arg(long)]
    no_record: bool,
    /// Say whether its population is the one that is served, as `lineament bias`
    #[arg(long, conflicts_with = "no_record")]
    bias: bool,
    /// Write the set to this Parquet file
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    memory: MemoryLimits,
}

/// Rows that are shown.
const SHOWN: usize = 10;

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let spine = match &arguments.spine {
        Some(path) => {
            let file = SpineFile::open(path, &arguments.columns)?;
            Some(GivenSpine::read(file.schema.clone(), file))
        }
        None => None,
    };
    let mut request = HistoricalRequest::new(arguments.features);
    request.spine_sql = arguments.spine_sql;
    request.at = arguments.at;
    request.full_feature_names = arguments.full_feature_names;
    request.ttl = engine::ttls(&arguments.ttl).map_err(|why| Error::new(Kind::Invalid, why))?;
    request.known_by = arguments.known_by;
    request.as_of = arguments.as_of;
    request.name = arguments.name;
    request.null_reasons = arguments.null_reasons;
    request.record = !arguments.no_record;
    request.bias = arguments.bias;
    let serving = arguments.memory.of(place.open().await?);
    let author = place.author();
    let HistoricalStream { schema, rows, report, .. } =
        serving.historical_stream(spine, request, &author).await?;
    let mut first = Vec::new();
    let mut left = SHOWN;
    let mut rows = rows.inspect_ok(|batch| {
        let rows = left.min(batch.num_rows());
        if rows > 0 {
            first.push(batch.slice(0, rows));
            left -= rows;
        }
    });
    match &arguments.out {
        Some(path) => write(path, schema.clone(), &mut rows).await?,
        None => rows.by_ref().try_for_each(async |_| Ok(())).await?,
    }
    drop(rows);
    let report = report.await.map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
    serving.flush(&author).await?;
    let total = usize::try_from(report.rows).unwrap_or(usize::MAX);
    table::print_of(total, &schema, &first, SHOWN)?;
    println!("{} rows, digest {}", grouped(report.rows), report.digest);
    for feature in &report.features {
        let reasons: Vec<String> =
            feature.nulls.iter().map(|(reason, count)| format!("{} {reason}", grouped(*count))).collect();
        if !reasons.is_empty() {
            println!("  {} is null: {}", feature.output, reasons.join(", "));
        }
    }
    for notice in &report.deprecations {
        eprintln!("warning: {notice}");
    }
    if let Some(id) = report.training_set {
        println!("training set {id}: `lineament replay {id}` rebuilds and proves it");
    }
    if let Some(bias) = &report.bias {
        crate::bias::print(bias);
    }
    if let Some(why) = &report.bias_error {
        eprintln!(
            "warning: the set was not compared with the served population: {why}; `lineament bias` does it again"
        );
    }
    if let Some(path) = arguments.out {
        println!("written to {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The file has its name when it is whole.
async fn write(
    path: &Path,
    schema: SchemaRef,
    rows: impl Stream<Item = Result<RecordBatch>> + Unpin,
) -> Result<()> {
    let unfinished = PathBuf::from(format!("{}.unfinished", path.display()));
    let file = std::fs::File::create(&unfinished).map_err(|error| file_error(&unfinished, error))?;
    let written = serving::write_parquet(schema, rows, file).await;
    if let Err(error) = written {
        // What matters is why.
        let _ = std::fs::remove_file(&unfinished);
        return Err(error);
    }
    std::fs::rename(&unfinished, path).map_err(|error| file_error(path, error))
}

/// A spine's file with some of its columns, read a batch at a time.
pub struct SpineFile {
    pub schema: SchemaRef,
    rows: FileRows,
    columns: Vec<usize>,
}

impl SpineFile {
    /// All columns where none is named.
    pub fn open(path: &Path, columns: &[String]) -> Result<Self> {
        let rows = FileRows::open(path, None)?;
        let mut places: Vec<usize> = Vec::with_capacity(columns.len());
        for column in columns {
            let place = rows.schema.index_of(column).map_err(|_| {
                let names: Vec<&str> =
                    rows.schema.fields().iter().map(|field| field.name().as_str()).collect();
                let hint = catalog::plan::did_you_mean(column, names.iter().copied());
                Error::new(
                    Kind::NotFound,
                    format!(
                        "`{}` has no column `{column}`{hint}; it has {}",
                        path.display(),
                        names.join(", ")
                    ),
                )
            })?;
            places.push(place);
        }
        if columns.is_empty() {
            places = (0..rows.schema.fields().len()).collect();
        }
        let schema = rows.schema.project(&places).map_err(|error| file_error(path, error))?;
        Ok(Self { schema: Arc::new(schema), rows, columns: places })
    }
}

impl Iterator for SpineFile {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.rows.next()?.map_err(Error::from);
        Some(batch.and_then(|batch| {
            batch.project(&self.columns).map_err(|error| Error::new(Kind::Internal, error.to_string()))
        }))
    }
}

/// A whole spine from a file, with some of its columns.
pub fn read_spine(path: &Path, columns: &[String]) -> Result<Spine> {
    let file = SpineFile::open(path, columns)?;
    let schema = file.schema.clone();
    let batches = file.collect::<Result<Vec<_>>>()?;
    Ok(Spine { schema, batches })
}
