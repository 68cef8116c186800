//! `lineament quality`

use std::process::ExitCode;

use clap::Args;
use feature::name::split_project;
use feature::quality::{Judged, Verdict};
use serving::{Query, Result};

use crate::session::Place;
use crate::table;

/// How good the batches were: verdicts by feature view, version and week, and of one view what was found
#[derive(Args)]
pub struct Arguments {
    /// Of this feature view alone: `weather`, `fraud.cards`
    view: Option<String>,
    /// Lines to show of each table
    #[arg(long, default_value_t = 100)]
    rows: usize,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let wanted = match &arguments.view {
        Some(view) => format!("WHERE {}", of_view(view)),
        None => String::new(),
    };
    let board = format!(
        "SELECT feature_view, version, CAST(week AS DATE) AS week, batches, passed, warned, failed, unjudged, quarantined, \"rows\", \
         rejected, round(drift, 2) AS drift, round(age_hours, 1) AS age_hours FROM lineament.quality {wanted}"
    );
    show(place, board, arguments.rows).await?;
    if arguments.view.is_some() {
        let found = format!(
            "SELECT sequence, batch, status, feature, measure, verdict, round(value, 3) AS value, round(threshold, 3) AS threshold \
             FROM lineament.quality_findings {wanted} ORDER BY sequence DESC, verdict, measure"
        );
        println!();
        show(place, found, arguments.rows).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A condition on the columns of a view's name.
pub fn of_view(view: &str) -> String {
    let (project, name) = split_project(view);
    let quoted = |text: &str| text.replace('\'', "''");
    format!("project = '{}' AND feature_view = '{}'", quoted(project), quoted(name))
}

/// Asks, and prints the answer once it is on record that it was asked.
pub async fn show(place: &Place, statement: String, rows: usize) -> Result<()> {
    let serving = place.open().await?;
    let author = place.author();
    let retrieval = serving.retrieve(Query::sql(statement), &author).await?;
    let schema = retrieval.schema.clone();
    let batches = retrieval.collect().await?;
    serving.flush(&author).await?;
    table::print(&schema, &batches, rows)
}

/// What was found of a batch, a line each.
pub fn findings(judged: Option<&Judged>) {
    let Some(judged) = judged else { return };
    println!(
        "  checks: {} of {} against {} batches",
        match judged.verdict {
            Verdict::Pass => "passed, all",
            Verdict::Warn => "warned by some",
            Verdict::Fail => "failed by some",
        },
        judged.checks,
        judged.baseline_batches
    );
    for found in &judged.findings {
        let of = found.feature.as_deref().map_or("the batch".to_owned(), |feature| format!("`{feature}`"));
        println!(
            "  {}: {} of {of} is {:.3}, above {:.3}",
            found.verdict.name(),
            found.measure.name(),
            found.value,
            found.threshold
        );
    }
}
