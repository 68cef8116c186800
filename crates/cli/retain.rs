//! `lineament retain`

use std::process::ExitCode;

use clap::Args;
use serving::{KeptRows, Result, RetainReport, RetainRequest, RetainedView};

use crate::report::{self, Format};
use crate::session::Place;
use crate::table::grouped;

/// Let rows go that are older than their view keeps them, as its definition says in `[retention]`. From one log entry on they do not count;
/// `lineament sweep` deletes their files later, but for what a training set, a model or a hold needs
#[derive(Args)]
pub struct Arguments {
    /// A feature view; not said: all that declare how long they keep their rows
    view: Option<String>,
    /// Say what would go and what stays, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let Arguments { view, dry_run, format } = arguments;
    let serving = place.open().await?;
    let report = serving.retain(&RetainRequest { view, dry_run }, &place.author()).await?;
    report::print(&report, format, print)?;
    Ok(ExitCode::SUCCESS)
}

fn print(report: &RetainReport) {
    for version in &report.untold {
        println!("{version}: some of its rows are hidden from you, and how many would go is not told");
    }
    if report.views.is_empty() && !report.untold.is_empty() {
        return;
    }
    if report.views.is_empty() {
        println!("no feature view says for how long it keeps its rows; all are kept for ever");
        return;
    }
    for view in &report.views {
        print_view(view, report.dry_run);
    }
    let rows = grouped(report.views.iter().map(|view| view.rows).sum());
    match (report.dry_run, report.sequence) {
        (true, _) => println!("{rows} rows would not count any more; nothing was written"),
        (false, Some(sequence)) => println!(
            "{rows} rows do not count from sequence {sequence} on; `lineament sweep` deletes their files when that is older than {}",
            report.grace
        ),
        (false, None) => println!("there is nothing to let go"),
    }
}

fn print_view(view: &RetainedView, dry_run: bool) {
    let RetainedView { version, keep, before, batches, rows, files, file_rows, bytes, kept } = view;
    let verb = if dry_run { "would go" } else { "gone" };
    println!("{version} keeps rows for {keep}: those that are valid from {before} on");
    for batch in batches {
        println!("  {verb:<9} {:>13} rows of batch {} ({})", grouped(batch.rows), batch.batch, batch.version);
    }
    if batches.is_empty() && *rows == 0 {
        println!("  no row that counts is older");
    }
    let of = |files: u64, rows: u64, bytes: u64| {
        format!("{:>13} files of {} rows, {} bytes", grouped(files), grouped(rows), grouped(bytes))
    };
    if *files > 0 {
        println!("  {:<9} {}: nothing that is kept needs them", "to sweep", of(*files, *file_rows, *bytes));
    }
    for KeptRows { kept_for, path, batches, files, rows, bytes } in kept {
        let why = match path.as_str() {
            "" => "younger rows lie in them too".to_owned(),
            path => format!("{} {path}", kept_for.replace('_', " ")),
        };
        println!("  {:<9} {} ({} batches): {why}", "stays", of(*files, *rows, *bytes), grouped(*batches));
    }
}
