//! `lineament deprecate`

use std::process::ExitCode;

use clap::Args;
use serving::{DeprecateRequest, DeprecationReport, DueReport, Error, Kind, Result};

use crate::report::{self, Format};
use crate::session::Place;

/// Announce that a version, a feature view or a feature service will go: who reads it is warned, from a day on nothing new may be made of
/// it, and from another on it is read no more. What is deprecated is in `lineament.deprecations`
#[derive(Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["node", "due"]))]
pub struct Arguments {
    /// A version (weather@1), a feature view (weather), or a feature service (delay)
    node: Option<String>,
    /// Why; it stands in the log for ever
    #[arg(long, required_unless_present = "due")]
    reason: Option<String>,
    /// From when on it makes no new training set, as 2027-01-01
    #[arg(long, value_name = "DAY", required_unless_present_any = ["due", "undo"])]
    closed_on: Option<String>,
    /// From when on it is read no more but by replays; it stays closed where this is left out
    #[arg(long, value_name = "DAY")]
    withdrawn_on: Option<String>,
    /// What takes its place, as weather@2
    #[arg(long, value_name = "OTHER")]
    instead: Option<String>,
    /// Take it back: who was refused is let in again
    #[arg(long, conflicts_with_all = ["closed_on", "withdrawn_on", "instead", "due"])]
    undo: bool,
    /// Take all steps whose days have come; a server does so by itself
    #[arg(long, conflicts_with = "closed_on")]
    due: bool,
    /// Of what is due, withdraw also what a model in force stands on. It needs --reason
    #[arg(long, requires_all = ["due", "reason"])]
    in_use: bool,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let Arguments { node, reason, closed_on, withdrawn_on, instead, undo, due, in_use, format } = arguments;
    let serving = place.open().await?;
    let author = place.author();
    let Some(node) = node.filter(|_| !due) else {
        let despite = reason.as_deref().filter(|_| in_use);
        let report = serving.advance_deprecations(despite, &author).await?;
        report::print(&report, format, taken)?;
        return Ok(ExitCode::SUCCESS);
    };
    let reason = reason.ok_or_else(|| Error::new(Kind::Invalid, "say why (--reason)"))?;
    let request = DeprecateRequest { node, reason, closed_on, withdrawn_on, instead, undo };
    let report = serving.deprecate(&request, &author).await?;
    report::print(&report, format, announced)?;
    Ok(ExitCode::SUCCESS)
}

fn announced(report: &DeprecationReport) {
    let DeprecationReport { of, sequence, .. } = report;
    if report.undo {
        println!("{of} is not deprecated any more, from sequence {sequence} on");
    } else {
        println!("{of} is deprecated, announced at sequence {sequence}");
        if let Some(closed) = &report.closed_at {
            println!("  closed to new training sets: {closed}");
        }
        match &report.withdrawn_at {
            Some(withdrawn) => println!("  read no more: {withdrawn}"),
            None => println!("  it stays closed; no day is set from which on it is read no more"),
        }
        if let Some(instead) = &report.instead {
            println!("  instead: {instead}");
        }
    }
    println!(
        "in use: {}, {}, {} in force",
        counted(report.training_sets, "training set"),
        counted(report.model_versions.len(), "model version"),
        counted(report.deployments.len(), "deployment")
    );
    for deployment in &report.deployments {
        println!("  {deployment}");
    }
    if !report.undo && !report.deployments.is_empty() {
        println!(
            "what a model in force stands on is not withdrawn unless somebody says why (--due --in-use)"
        );
    }
    if let Some(why) = &report.without_right {
        println!("`lineament reconcile` names this where it is in use: {why}");
    }
}

fn counted(number: usize, what: &str) -> String {
    let many = if number == 1 { "" } else { "s" };
    format!("{number} {what}{many}")
}

fn taken(report: &DueReport) {
    for step in &report.taken {
        let done = match step.step {
            "closed" => "closed to new training sets",
            other => other,
        };
        println!("{} is {done}, at sequence {} (due {})", step.of, step.sequence, step.due);
    }
    for put_off in &report.put_off {
        println!(
            "{} was to be withdrawn on {}, and is in use: {}; models that are in force go first, or --in-use --reason \"why\"",
            put_off.of,
            put_off.due,
            put_off.deployments.join(", ")
        );
    }
    if report.taken.is_empty() && report.put_off.is_empty() {
        println!("nothing is due");
    }
}
