//! `lineament explain`

use std::process::ExitCode;

use clap::Args;
use feature::{Sequence, Timestamp, TrainingSetId};
use serving::{Candidate, Error, ExplainRequest, ExplainValueRequest, Explanation, Kind, Result};

use crate::session::Place;
use crate::table::grouped;

/// Say why one cell of a training set, or the value of a feature at a time, is what it is
#[derive(Args)]
#[command(override_usage = "lineament explain <TRAINING_SET> <ROW> <COLUMN>\n       \
    lineament explain --feature <REFERENCE> --key <KEY=VALUE>... --at <INSTANT>")]
pub struct Arguments {
    #[arg(requires = "row", required_unless_present = "feature")]
    training_set: Option<TrainingSetId>,
    /// The row; the first is 0
    #[arg(requires = "column")]
    row: Option<u64>,
    /// The feature's column
    column: Option<String>,
    /// A feature, as in weather.temp or weather@1.temp, in place of a training set's cell
    #[arg(long, conflicts_with = "training_set", requires = "at")]
    feature: Option<String>,
    /// A part of the entity's key, as in origin=JFK; once for each part
    #[arg(long, requires = "feature", value_parser = key_part)]
    key: Vec<(String, String)>,
    /// When the value is wanted, as in 2013-01-01T10:00:00Z
    #[arg(long, requires = "feature")]
    at: Option<Timestamp>,
    /// One instant in place of --at as the limit on what was known
    #[arg(long, requires = "feature")]
    known_by: Option<Timestamp>,
    /// The state of the store after this entry of the log; the newest where none is given
    #[arg(long, requires = "feature")]
    sequence: Option<u64>,
    /// Open every file that may hold the key, so that all that lost are counted however many they are
    #[arg(long)]
    exhaustive: bool,
}

fn key_part(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write the key's column and its value, as in origin=JFK".to_owned()),
    }
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let serving = place.open().await?;
    let author = place.author();
    let explanation = match (arguments.training_set, arguments.row, arguments.column) {
        (Some(training_set), Some(row), Some(column)) => {
            let mut request = ExplainRequest::new(training_set, row, column);
            request.exhaustive = arguments.exhaustive;
            serving.explain(request, &author).await?
        }
        _ => {
            let (Some(feature), Some(at)) = (arguments.feature, arguments.at) else {
                return Err(Error::new(
                    Kind::Invalid,
                    "name a training set, a row and a column, or a --feature",
                ));
            };
            let key = arguments.key.into_iter().map(|(name, value)| (name, value.into())).collect();
            let request = ExplainValueRequest {
                feature,
                key,
                at,
                known_by: arguments.known_by,
                sequence: arguments.sequence.map(Sequence),
                exhaustive: arguments.exhaustive,
            };
            serving.explain_value(request, &author).await?
        }
    };
    // What was read is on record before it is shown.
    serving.flush(&author).await?;
    print(&explanation, "");
    Ok(ExitCode::SUCCESS)
}

pub fn print(explanation: &Explanation, indent: &str) {
    let key: Vec<String> = explanation
        .key
        .iter()
        .map(|(name, value)| format!("{name} = {}", value.as_deref().unwrap_or("null")))
        .collect();
    let value = explanation.value.as_deref().unwrap_or("null");
    let cell = match (explanation.row, &explanation.column) {
        (Some(row), Some(column)) => format!("row {row}, `{column}`"),
        _ => "value".to_owned(),
    };
    println!(
        "{indent}{cell} = {value}   ({} for {} at {})",
        explanation.reference,
        key.join(", "),
        explanation.at.as_deref().unwrap_or("null")
    );
    if let Some(withdrawn) = &explanation.withdrawn {
        println!("{indent}  that version is withdrawn, {withdrawn}");
    }
    if let Some(reason) = &explanation.null_reason {
        println!("{indent}  null because: {reason}");
    }
    if explanation.defaulted {
        println!("{indent}  no observation; this is the declared default");
    }
    if let Some(winner) = &explanation.winner {
        println!("{indent}  won    {}", times(winner));
        println!("{indent}         file    {}", winner.file);
        let row = winner.row.map_or("(hidden)".to_owned(), |row| row.to_string());
        println!("{indent}         row     {row} of that file, written under {}", winner.version);
        println!("{indent}         batch   {}, sequence {}", winner.batch, winner.sequence);
        let run = winner.run.as_ref().map(|run| format!(", run {run}")).unwrap_or_default();
        println!("{indent}         writer  {} with {}{run}", winner.principal, winner.program);
        if let Some(origin) = &winner.origin {
            println!("{indent}         origin  {origin}");
        }
        for (number, line) in winner.sql.iter().flat_map(|sql| sql.trim().lines()).enumerate() {
            let word = if number == 0 { "query" } else { "" };
            println!("{indent}         {word:<7} {line}");
        }
        for step in &winner.steps {
            println!("{indent}         step    {step}");
        }
    }
    for loser in explanation.losers.iter().take(4) {
        println!("{indent}  lost   {}   {}", times(loser), loser.reason.as_deref().unwrap_or_default());
    }
    let counts: Vec<String> = explanation
        .losers_by_reason
        .iter()
        .map(|(reason, count)| format!("{} {reason}", grouped(*count)))
        .collect();
    if !counts.is_empty() {
        let at_least = if explanation.unopened_files > 0 { "at least" } else { "in all" };
        println!("{indent}  {at_least} {}", counts.join(", "));
    }
    if explanation.unopened_files > 0 {
        println!(
            "{indent}  {} more files may hold others that lost; --exhaustive counts them",
            grouped(explanation.unopened_files)
        );
    }
}

fn times(candidate: &Candidate) -> String {
    format!(
        "{:<10} valid {}  known {}",
        candidate.value.as_deref().unwrap_or("null"),
        candidate.valid_at,
        candidate.known_at
    )
}
