//! `lineament rollback`

use std::process::ExitCode;

use clap::Args;
use serving::{Result, RollbackReport, RollbackRequest, RolledBack};

use crate::impact;
use crate::report::{self, Format};
use crate::session::Place;
use crate::table::grouped;

/// Take back a batch or a version, from here on: one log entry, no data is copied or deleted, and it can be undone. Without --reason it
/// only says what that would touch
#[derive(Args)]
pub struct Arguments {
    /// A batch (its id) or a version (weather@2)
    node: String,
    /// Why; it stands in the log for ever
    #[arg(long)]
    reason: Option<String>,
    /// Put back what was taken back
    #[arg(long)]
    undo: bool,
    /// The batches of derived views that were made of it too
    #[arg(long)]
    derived: bool,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let Arguments { node, reason, undo, derived, format } = arguments;
    let request = RollbackRequest { node, undo, derived, reason };
    let report = place.open().await?.rollback(&request, &place.author()).await?;
    report::print(&report, format, print)?;
    Ok(ExitCode::SUCCESS)
}

fn print(report: &RollbackReport) {
    impact::print(&report.impact);
    println!();
    let one = |moved: &RolledBack| match moved.kind {
        "batch" => {
            let rows = moved.rows.map_or(String::new(), |rows| format!(" ({} rows)", grouped(rows)));
            format!("batch {} of {}{rows}", moved.id, moved.version)
        }
        _ => moved.version.clone(),
    };
    let what = match (report.sequence, report.undo) {
        (Some(_), false) => "withdrawn",
        (Some(_), true) => "restored",
        (None, false) => "would be withdrawn",
        (None, true) => "would be restored",
    };
    let at = report.sequence.map_or(String::new(), |sequence| format!(", at sequence {sequence}"));
    for moved in &report.moved {
        println!("{what}{at}: {}", one(moved));
    }
    if let Some(version) = &report.in_force_after {
        println!("in force {}: {version}", if report.sequence.is_some() { "now" } else { "then" });
    }
    for left in &report.derived_left {
        println!("made of it and left as it is: {}", one(left));
    }
    if !report.derived_left.is_empty() {
        println!("--derived moves these with it; `lineament refresh` then makes their rows again");
    }
    match (report.sequence, report.undo) {
        (None, _) => println!("nothing was done; give --reason \"why\" to do it"),
        (Some(_), false) => {
            println!("recorded training sets can be made again as before; --undo puts it back")
        }
        (Some(_), true) => {}
    }
}
