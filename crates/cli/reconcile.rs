//! `lineament reconcile`

use std::process::ExitCode;

use clap::Args;
use serving::{Problem, ReconcileReport, Result};

use crate::report::{self, Format};
use crate::session::Place;
use crate::table::{aligned, grouped};

/// Check that all that training sets, runs, models and deployments refer to is there, and name what is not
#[derive(Args)]
pub struct Arguments {
    /// Read every object and compare digests; else only that it is there, with its size
    #[arg(long)]
    deep: bool,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let report = place.open().await?.reconcile(arguments.deep).await?;
    report::print(&report, arguments.format, print)?;
    // A model in use that stands on something wrong is a failure; a run without a training set is a hint.
    let grave = report.broken > 0 || report.deployed() > 0;
    Ok(if grave { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(report: &ReconcileReport) {
    let checked = if report.deep { "read and compared" } else { "there, with their sizes" };
    println!(
        "sequence {}: {} objects looked at ({checked}), {} bytes; {} problems, {} under what is deployed",
        report.sequence,
        grouped(report.objects),
        grouped(report.bytes),
        grouped(report.problems.len() as u64),
        grouped(report.deployed() as u64)
    );
    if report.problems.is_empty() {
        return;
    }
    let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "–".to_owned());
    let mut lines = vec![["blocks", "kind", "id", "problem", "since"].map(str::to_owned).to_vec()];
    lines.extend(report.problems.iter().map(|problem: &Problem| {
        vec![
            dash(&problem.blocks),
            problem.kind.replace('_', " "),
            problem.id.clone(),
            problem.problem.clone(),
            dash(&problem.since),
        ]
    }));
    println!("\n{}", aligned(&lines, &[false; 5]).trim_end());
}
