//! `lineament retrieve`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use feature::Timestamp;
use serving::{Error, HistoricalRequest, Kind, Result, Spine};

use crate::session::{Place, file_error};
use crate::table::{self, grouped};

/// Build a training set: what was known to each row of a spine, recorded and rebuilt from its id
#[derive(Args)]
pub struct Arguments {
    /// Feature references (weather.temp, weather@2.temp, weather.*) and feature services
    #[arg(required = true)]
    features: Vec<String>,
    /// The spine: a Parquet, CSV or Arrow file with key columns and a time column `at`
    #[arg(long)]
    spine: PathBuf,
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
    /// A name for people
    #[arg(long)]
    name: Option<String>,
    /// Do not record it
    #[arg(long)]
    no_record: bool,
    /// Write the set to this Parquet file
    #[arg(long)]
    out: Option<PathBuf>,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let spine = read_spine(&arguments.spine, &arguments.columns)?;
    let mut request = HistoricalRequest::new(arguments.features);
    request.at = arguments.at;
    request.full_feature_names = arguments.full_feature_names;
    request.ttl = engine::ttls(&arguments.ttl).map_err(|why| Error::new(Kind::Invalid, why))?;
    request.known_by = arguments.known_by;
    request.name = arguments.name;
    request.record = !arguments.no_record;
    let serving = place.open().await?;
    let author = place.author();
    let set = serving.historical(spine, request, &author).await?;
    serving.flush(&author).await?;
    table::print(&set.schema, &set.batches, 10)?;
    println!("{} rows, digest {}", grouped(set.report.rows), set.report.digest);
    for feature in &set.report.features {
        let reasons: Vec<String> =
            feature.nulls.iter().map(|(reason, count)| format!("{} {reason}", grouped(*count))).collect();
        if !reasons.is_empty() {
            println!("  {} is null: {}", feature.output, reasons.join(", "));
        }
    }
    if let Some(id) = set.report.training_set {
        println!("training set {id}: `lineament replay {id}` rebuilds and proves it");
    }
    if let Some(path) = arguments.out {
        let file = std::fs::File::create(&path).map_err(|error| file_error(&path, error))?;
        let rows = futures::stream::iter(set.batches.into_iter().map(Ok));
        serving::write_parquet(set.schema, rows, file).await?;
        println!("written to {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// A spine from a file, with some of its columns.
pub fn read_spine(path: &std::path::Path, columns: &[String]) -> Result<Spine> {
    let rows = catalog::ingest::read_file(path, None)?;
    if columns.is_empty() {
        return Ok(Spine { schema: rows.schema, batches: rows.batches });
    }
    let mut indices = Vec::with_capacity(columns.len());
    for column in columns {
        let index = rows.schema.index_of(column).map_err(|_| {
            let names: Vec<&str> = rows.schema.fields().iter().map(|field| field.name().as_str()).collect();
            let hint = catalog::plan::did_you_mean(column, names.iter().copied());
            Error::new(
                Kind::NotFound,
                format!("`{}` has no column `{column}`{hint}; it has {}", path.display(), names.join(", ")),
            )
        })?;
        indices.push(index);
    }
    let wrong = |error: arrow::error::ArrowError| file_error(path, error);
    let schema = std::sync::Arc::new(rows.schema.project(&indices).map_err(wrong)?);
    let batches = rows
        .batches
        .iter()
        .map(|batch| batch.project(&indices))
        .collect::<Result<Vec<_>, _>>()
        .map_err(wrong)?;
    Ok(Spine { schema, batches })
}
