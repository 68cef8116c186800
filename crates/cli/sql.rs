//! `lineament sql`

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use feature::AsOf;
use serving::{Error, Kind, Query, Result};

use crate::session::Place;
use crate::table;

/// Ask in SQL: feature views are tables, `lineament.*` says what the log knows
#[derive(Args)]
pub struct Arguments {
    /// A statement that reads
    statement: String,
    /// The store as it was: after this entry of the log, or at this time, as in 2013-07-01T00:00:00Z
    #[arg(long, value_name = "SEQUENCE|TIME")]
    as_of: Option<AsOf>,
    #[arg(long, default_value = "table")]
    format: Format,
    /// Rows to show of a table
    #[arg(long, default_value_t = 100)]
    rows: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Csv,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let serving = place.open().await?;
    let author = place.author();
    let query = Query::sql(arguments.statement).with_as_of(arguments.as_of);
    let retrieval = serving.retrieve(query, &author).await?;
    for notice in &retrieval.deprecations {
        eprintln!("warning: {notice}");
    }
    let schema = retrieval.schema.clone();
    let batches = retrieval.collect().await?;
    // What was read is on record before it is shown.
    serving.flush(&author).await?;
    match arguments.format {
        Format::Table => table::print(&schema, &batches, arguments.rows)?,
        Format::Csv => {
            let wrong = |error: arrow::error::ArrowError| Error::new(Kind::Invalid, error.to_string());
            let mut writer = arrow::csv::Writer::new(std::io::stdout().lock());
            for batch in &batches {
                writer.write(batch).map_err(wrong)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
