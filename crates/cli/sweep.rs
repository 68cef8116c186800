//! `lineament sweep`

use std::process::ExitCode;

use catalog::records::RetentionSet;
use clap::Args;
use feature::Span;
use serving::{Result, SweepGroup, SweepReport, SweepRequest};

use crate::report::{self, Format};
use crate::session::Place;
use crate::table::grouped;

/// Delete what nobody needs any more: files that were written and never named, files that a compaction replaced, old checkpoints. One log entry
/// says first what may go; no answer changes by it, at any sequence
#[derive(Args)]
pub struct Arguments {
    /// Say what would go and what stays, and write and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// How long something has been of no use before it goes, as 7d; not said: as it is set in the log
    #[arg(long, value_name = "SPAN")]
    grace: Option<Span>,
    /// Set the grace in the log, for all sweeps from here on; nothing is swept
    #[arg(long, value_name = "SPAN", conflicts_with_all = ["dry_run", "grace"])]
    set_grace: Option<Span>,
    /// Set in the log how long a read may last, which the grace is never less than; nothing is swept
    #[arg(long, value_name = "SPAN", conflicts_with_all = ["dry_run", "grace"])]
    set_longest_read: Option<Span>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let Arguments { dry_run, grace, set_grace, set_longest_read, format } = arguments;
    let serving = place.open().await?;
    if set_grace.is_some() || set_longest_read.is_some() {
        let before = serving.catalog().refresh().await?.sweeps().retention();
        let wanted = RetentionSet {
            grace: set_grace.unwrap_or(before.grace),
            longest_read: set_longest_read.unwrap_or(before.longest_read),
        };
        let sequence = catalog::retention::set(serving.catalog(), &wanted, &place.author()).await?;
        report::print(&wanted, format, |set| {
            let at = sequence.map_or("as it was".to_owned(), |at| format!("at sequence {at}"));
            println!("grace {}, longest read {}: set, {at}", set.grace, set.longest_read);
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let request = SweepRequest { dry_run, grace, ..SweepRequest::default() };
    let report = serving.sweep(&request, &place.author()).await?;
    report::print(&report, format, print)?;
    Ok(ExitCode::SUCCESS)
}

fn print(report: &SweepReport) {
    let line = |verb: &str, group: &SweepGroup| {
        let kind = group.kind.replace('_', " ");
        let (objects, bytes) = (grouped(group.objects), grouped(group.bytes));
        println!("{verb:<9} {kind:<13} {objects:>11} objects {bytes:>17} bytes   {}", group.why);
    };
    let verb = if report.dry_run { "would go" } else { "gone" };
    report.gone.iter().for_each(|group| line(verb, group));
    report.kept.iter().for_each(|group| line("stays", group));
    let (objects, bytes) = report.total();
    let (objects, bytes) = (grouped(objects), grouped(bytes));
    match (report.dropped, report.dry_run) {
        (0, _) => {}
        (spines, true) => println!("{spines} spines that clients put up would be dropped"),
        (spines, false) => {
            println!("{spines} spines that clients put up are dropped; their objects go in a later sweep");
        }
    }
    match (report.dry_run, report.sequence) {
        _ if report.gone.is_empty() && (report.dropped > 0 || report.more) => {}
        _ if report.gone.is_empty() => {
            println!("there is nothing to sweep, with a grace of {}", report.grace)
        }
        (true, _) => println!("{objects} objects of {bytes} bytes would go; nothing was written or deleted"),
        (false, Some(sequence)) => {
            println!(
                "{objects} objects of {bytes} bytes were condemned at sequence {sequence}, and are deleted"
            );
        }
        (false, None) => println!("{objects} objects of {bytes} bytes, condemned before, are deleted"),
    }
    if report.more {
        println!("there is more than one log entry names; the next sweep goes on with it");
    }
}
