//! `lineament quality`

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use feature::name::split_project;
use feature::quality::{Judged, Verdict};
use serving::{Query, Result};

use crate::session::Place;
use crate::table;

/// How good the batches were: verdicts by feature view, version and week, or by one of them, by experiment or model; of one view what was found
#[derive(Args)]
pub struct Arguments {
    /// Of this feature view alone: `weather`, `fraud.cards`
    view: Option<String>,
    /// What a line is of; each version and week where it is left out
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Lines to show of each table
    #[arg(long, default_value_t = 100)]
    rows: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum By {
    View,
    Version,
    /// Of the batches that were written for it, and of those that training sets of its runs had rows of
    Experiment,
    /// Model versions: of the batches that training sets of the run had rows of
    Model,
    Week,
}

/// What a feature view is called in SQL.
const VIEW: &str =
    "CASE WHEN project = 'default' THEN feature_view ELSE project || '.' || feature_view END AS feature_view";

impl By {
    /// The system view that tells it, the columns that tell lines apart, and those that order them.
    fn told(self) -> (&'static str, &'static [&'static str], &'static str) {
        match self {
            Self::View => ("quality", &[VIEW], "1"),
            Self::Version => ("quality", &[VIEW, "version"], "1, 2"),
            Self::Experiment => ("quality_by_experiment", &["experiment", "name", "role"], "2, 1, 3"),
            Self::Model => ("quality_by_model", &["model_version", "label"], "2, 1"),
            Self::Week => ("quality", &["CAST(week AS DATE) AS week"], "1"),
        }
    }

    fn statement(self, wanted: &str) -> String {
        let (view, columns, order) = self.told();
        let places: Vec<String> = (1..=columns.len()).map(|place| place.to_string()).collect();
        format!(
            "SELECT {}, sum(batches) AS batches, sum(passed) AS passed, sum(warned) AS warned, sum(failed) AS failed, \
             sum(unjudged) AS unjudged, sum(quarantined) AS quarantined, sum(refused) AS refused, sum(\"rows\") AS \"rows\", \
             sum(rejected) AS rejected, round(max(drift), 2) AS drift, round(max(age_hours), 1) AS age_hours, \
             bool_and(lineage_complete) AS lineage_complete, max(last_batch_at) AS last_batch_at \
             FROM lineament.{view} {wanted} GROUP BY {} ORDER BY {order}",
            columns.join(", "),
            places.join(", ")
        )
    }
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let wanted = match &arguments.view {
        Some(view) => format!("WHERE {}", of_view(view)),
        None => String::new(),
    };
    let board = match arguments.by {
        Some(by) => by.statement(&wanted),
        None => format!(
            "SELECT feature_view, version, CAST(week AS DATE) AS week, batches, passed, warned, failed, unjudged, quarantined, refused, \
             \"rows\", rejected, round(drift, 2) AS drift, round(age_hours, 1) AS age_hours, lineage_complete \
             FROM lineament.quality {wanted}"
        ),
    };
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
