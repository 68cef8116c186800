//! `lineament audit`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use feature::{Span, TrainingSetId};
use serving::{Audit, AuditClass, AuditRequest, AuditSetRequest, Error, JudgedBy, Kind, Result};

use crate::diff::key;
use crate::retrieve::read_spine;
use crate::session::{Place, file_error};
use crate::table::{aligned, grouped};

/// Find cells that hold what could not be known at their row's time; exits with 1 where there are any
#[derive(Args)]
#[command(override_usage = "lineament audit <TRAINING_SET>\n       \
    lineament audit --table <FILE> [--features <REFERENCE>...] [--map <COLUMN=REFERENCE>...]")]
pub struct Arguments {
    #[arg(required_unless_present = "table")]
    training_set: Option<TrainingSetId>,
    /// A table that was joined elsewhere: a Parquet, CSV or Arrow file with key columns, a time, and features
    #[arg(long, conflicts_with = "training_set")]
    table: Option<PathBuf>,
    /// What the table's columns hold: weather.temp is looked for as `temp` and as `weather__temp`
    #[arg(long, value_delimiter = ',', requires = "table")]
    features: Vec<String>,
    /// A column that is called otherwise, as in temperature=weather.temp; may be given several times
    #[arg(long, requires = "table", value_parser = mapped)]
    map: Vec<(String, String)>,
    /// The table's time column, where it is not `at`
    #[arg(long, requires = "table")]
    at: Option<String>,
    /// A ttl in place of the version's own, as weather=2h; may be given several times
    #[arg(long, requires = "table")]
    ttl: Vec<String>,
    /// Examples of each kind and column
    #[arg(long, default_value_t = 5)]
    examples: usize,
    /// Write every cell that is not what was knowable to this Parquet file
    #[arg(long)]
    full: Option<PathBuf>,
}

fn mapped(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((column, reference)) if !column.is_empty() && !reference.is_empty() => {
            Ok((column.to_owned(), reference.to_owned()))
        }
        _ => Err("write the column and the feature that it holds, as in temperature=weather.temp".to_owned()),
    }
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let serving = place.open().await?;
    let author = place.author();
    let full = arguments.full.is_some();
    let audit = match (arguments.training_set, arguments.table) {
        (Some(training_set), _) => {
            let mut request = AuditSetRequest::new(training_set);
            request.examples = arguments.examples;
            serving.audit_set(request, full, &author).await?
        }
        (None, Some(path)) => {
            let table = read_spine(&path, &[])?;
            let mut request = AuditRequest::new(arguments.features);
            let mut columns = BTreeMap::new();
            for (column, reference) in arguments.map {
                if columns.insert(column.clone(), reference).is_some() {
                    return Err(Error::new(Kind::Invalid, format!("the column `{column}` is mapped twice")));
                }
            }
            request.columns = columns;
            request.at = arguments.at;
            request.ttl = engine::ttls(&arguments.ttl).map_err(|why| Error::new(Kind::Invalid, why))?;
            request.examples = arguments.examples;
            serving.audit_table(table, request, full, &author).await?
        }
        (None, None) => return Err(Error::new(Kind::Invalid, "name a training set or a --table to audit")),
    };
    // What was read is on record before it is shown.
    serving.flush(&author).await?;
    print(&audit.report);
    if let Some(path) = arguments.full {
        let file = std::fs::File::create(&path).map_err(|error| file_error(&path, error))?;
        let rows = futures::stream::iter(audit.batches.into_iter().map(Ok));
        let written = serving::write_parquet(audit.schema, rows, file).await?;
        println!("{} cells written to {}", grouped(written), path.display());
    }
    Ok(if audit.report.clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(audit: &Audit) {
    let how = match audit.judged_by {
        JudgedBy::Provenance => "by where each value came from",
        JudgedBy::Value => "by value",
    };
    if audit.clean {
        println!("no leak in {} rows, judged {how} at sequence {}", grouped(audit.rows), audit.sequence);
    } else {
        println!(
            "{} of {} rows hold what could not be known at their `{}`, judged {how} at sequence {}",
            grouped(audit.leaked_rows),
            grouped(audit.rows),
            audit.at,
            audit.sequence
        );
    }
    let head = ["column", "feature", "knowable", "leaked", "ambiguous", "stale", "missing", "unexplained"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for column in &audit.columns {
        let mut line = vec![column.column.clone(), column.reference.clone()];
        line.extend(
            [
                column.knowable,
                column.leaked,
                column.ambiguous,
                column.stale,
                column.missing,
                column.unexplained,
            ]
            .map(grouped),
        );
        lines.push(line);
    }
    let right = [false, false, true, true, true, true, true, true];
    println!("\n{}", aligned(&lines, &right).trim_end());
    for column in &audit.columns {
        if let Some(lead) = &column.lead {
            println!(
                "\n`{}` holds values {} to {} before they could be known, half of them {} or less",
                column.column,
                length(lead.least),
                length(lead.greatest),
                length(lead.median)
            );
            for batch in column.batches.iter().take(5) {
                println!(
                    "  {} from batch {}, sequence {}",
                    grouped(batch.cells),
                    batch.batch,
                    batch.sequence
                );
            }
            if column.batches.len() > 5 {
                println!("  … and from {} more batches", grouped(column.batches.len() as u64 - 5));
            }
        }
        for example in &column.examples {
            let value = example.value.as_deref().unwrap_or("null");
            let knowable = example.knowable.as_deref().unwrap_or("null");
            let at = example.at.as_deref().unwrap_or("null");
            let start = format!("  row {}, {} at {at}: {value}", example.row, key(&example.key));
            match (example.class, &example.valid_at, &example.known_at) {
                (AuditClass::Leaked, Some(valid_at), Some(known_at)) => println!(
                    "{start} is of {valid_at}, known at {known_at}, {} later; {knowable} was knowable",
                    length(example.lead.unwrap_or_default())
                ),
                (class, _, _) => println!("{start} is {}; {knowable} was knowable", class.as_str()),
            }
        }
    }
}

fn length(micros: i64) -> String {
    Span::from_micros(micros).map_or_else(|| format!("{micros} µs"), |span| span.to_string())
}
