//! `lineament hold`

use std::process::ExitCode;

use clap::{Args, Subcommand};
use feature::HoldId;
use serving::{HoldReport, Result};

use crate::report::{self, Format};
use crate::session::Place;

/// Keep a batch, a version, a training set or a model version, with all that it needs, until the hold is lifted. What is kept is in
/// `lineament.holds`
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Nothing that it needs is deleted from here on
    Place {
        /// A batch (its id), a version (weather@2), a training set or a model version (delay/3)
        node: String,
        /// Why; it stands in the log for ever
        #[arg(long)]
        reason: String,
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Let it go, as far as nothing else needs it
    Lift {
        /// The id of the hold
        hold: HoldId,
        /// Why; it stands in the log for ever
        #[arg(long)]
        reason: String,
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let serving = place.open().await?;
    let author = place.author();
    match arguments.verb {
        Verb::Place { node, reason, format } => {
            let report = serving.place_hold(&node, &reason, &author).await?;
            report::print(&report, format, |report| print("placed on", report))?;
        }
        Verb::Lift { hold, reason, format } => {
            let report = serving.lift_hold(hold, &reason, &author).await?;
            report::print(&report, format, |report| print("lifted from", report))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(what: &str, report: &HoldReport) {
    let HoldReport { hold, kind, id, sequence, .. } = report;
    println!("hold {hold} {what} {} {id}, at sequence {sequence}", kind.replace('_', " "));
}
