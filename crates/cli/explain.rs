//! `lineament explain`

use std::process::ExitCode;

use clap::Args;
use feature::TrainingSetId;
use serving::{Candidate, ExplainRequest, Explanation, Result};

use crate::session::Place;
use crate::table::grouped;

/// Say why one cell of a training set has its value
#[derive(Args)]
pub struct Arguments {
    training_set: TrainingSetId,
    /// The row; the first is 0
    row: u64,
    /// The feature's column
    column: String,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let serving = place.open().await?;
    let request =
        ExplainRequest { training_set: arguments.training_set, row: arguments.row, column: arguments.column };
    let author = place.author();
    let explanation = serving.explain(request, &author).await?;
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
    println!(
        "{indent}row {}, `{}` = {value}   ({} for {} at {})",
        explanation.row,
        explanation.column,
        explanation.reference,
        key.join(", "),
        explanation.at.as_deref().unwrap_or("null")
    );
    if let Some(reason) = &explanation.null_reason {
        println!("{indent}  null because: {reason}");
    }
    if explanation.defaulted {
        println!("{indent}  no observation; this is the declared default");
    }
    if let Some(winner) = &explanation.winner {
        println!("{indent}  won    {}", times(winner));
        println!("{indent}         file    {}", winner.file);
        println!("{indent}         row     {} of that file, written under {}", winner.row, winner.version);
        println!("{indent}         batch   {}, sequence {}", winner.batch, winner.sequence);
        let run = winner.run.as_ref().map(|run| format!(", run {run}")).unwrap_or_default();
        println!("{indent}         writer  {} with {}{run}", winner.principal, winner.program);
        if let Some(origin) = &winner.origin {
            println!("{indent}         origin  {origin}");
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
        println!("{indent}  in all {}", counts.join(", "));
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
