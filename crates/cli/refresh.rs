//! `lineament refresh`

use std::process::ExitCode;

use clap::Args;
use serving::{RefreshReport, RefreshRequest, Result};

use crate::session::Place;
use crate::table::grouped;

/// Bring derived feature views up to date with what they are made of
#[derive(Args)]
pub struct Arguments {
    /// The view; all derived views where none is named
    view: Option<String>,
    /// Read everything again, not only what came since the last refresh
    #[arg(long)]
    full: bool,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let request = RefreshRequest { view: arguments.view, full: arguments.full };
    let reports = place.open().await?.refresh(&request, &place.author()).await?;
    if reports.is_empty() {
        println!("no feature view is derived");
    }
    reports.iter().for_each(print);
    Ok(ExitCode::SUCCESS)
}

fn print(report: &RefreshReport) {
    let parents = report.parents.join(", ");
    let read = match report.since {
        Some(since) => format!("what came to {parents} after sequence {since}"),
        None => format!("all of {parents}"),
    };
    match report.sequence {
        Some(sequence) => println!(
            "{}: {} rows of {read} gave {} new rows, at sequence {sequence}",
            report.version,
            grouped(report.computed),
            grouped(report.rows)
        ),
        None => println!("{}: nothing new in {read}", report.version),
    }
    if report.rejected > 0 {
        println!(
            "  {} rejected; `SELECT * FROM lineament.rejected_rows` lists them",
            grouped(report.rejected)
        );
        report.examples.iter().for_each(|example| println!("  {example}"));
    }
    if report.kept > 0 {
        println!(
            "  {} rows stay as they were computed: {parents} had rows then that are kept no longer",
            grouped(report.kept)
        );
    }
    if let Some(vanished) = report.vanished.filter(|vanished| *vanished > 0) {
        println!(
            "  {} observations are given no more, and stay: retract them if they were never true",
            grouped(vanished)
        );
    }
}
