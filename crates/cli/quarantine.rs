//! `lineament quarantine`

use std::process::ExitCode;

use clap::{Args, Subcommand};
use feature::BatchId;
use serving::{QuarantineAction, QuarantineReport, QuarantineRequest, QuarantinedBatch, Result};

use crate::quality::findings;
use crate::report::{self, Format};
use crate::session::Place;
use crate::table::grouped;

/// Batches that failed their checks and were kept back: list them, release one, so that it counts from here on, or drop it
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Batches that wait
    List {
        /// Of this feature view alone
        view: Option<String>,
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Let a batch count, from here on
    Release {
        batch: BatchId,
        /// Why; it stands in the log for ever
        #[arg(long)]
        reason: String,
        /// Its rows could have been known when the view's rule says, although others of their time came since
        #[arg(long)]
        back_fill: bool,
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Let a batch never count
    Drop {
        batch: BatchId,
        /// Why; it stands in the log for ever
        #[arg(long)]
        reason: String,
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let serving = place.open().await?;
    let (request, format) = match arguments.verb {
        Verb::List { view, format } => {
            let waiting = serving.quarantined(view.as_deref()).await?;
            report::print(&waiting, format, |waiting| list(waiting))?;
            return Ok(ExitCode::SUCCESS);
        }
        Verb::Release { batch, reason, back_fill, format } => {
            (QuarantineRequest { batch, action: QuarantineAction::Release, reason, back_fill }, format)
        }
        Verb::Drop { batch, reason, format } => {
            (QuarantineRequest { batch, action: QuarantineAction::Drop, reason, back_fill: false }, format)
        }
    };
    let done = serving.end_quarantine(&request, &place.author()).await?;
    report::print(&done, format, ended)?;
    Ok(ExitCode::SUCCESS)
}

fn list(waiting: &[QuarantinedBatch]) {
    if waiting.is_empty() {
        println!("no batch is in quarantine");
    }
    for held in waiting {
        println!(
            "batch {} of {}: {} rows, kept back at sequence {} ({})",
            held.batch,
            held.version,
            grouped(held.rows),
            held.since,
            held.principal
        );
        findings(held.judged.as_ref());
    }
    if !waiting.is_empty() {
        println!("`lineament quarantine release|drop BATCH --reason \"why\"` ends it");
    }
}

fn ended(report: &QuarantineReport) {
    let QuarantineReport { batch, version, rows, action, sequence } = report;
    let what = match action {
        QuarantineAction::Release => "released: it counts from here on",
        QuarantineAction::Drop => "dropped: it will never count",
    };
    println!("batch {batch} of {version} ({} rows) was {what}; sequence {sequence}", grouped(*rows));
}
