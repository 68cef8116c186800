//! `lineament compact`

use std::process::ExitCode;

use catalog::compaction::{Candidate, Eagerness, Merge};
use clap::Args;
use serving::{CompactRequest, Result};

use crate::session::Place;
use crate::table::grouped;

/// Write the rows of many small files into few large ones; no answer changes by it, at any sequence
#[derive(Args)]
pub struct Arguments {
    /// Of this view; of all views where none is named
    view: Option<String>,
    /// Also what lies in large files already
    #[arg(long, conflicts_with = "check")]
    everything: bool,
    /// Say what would be merged, and write nothing
    #[arg(long, conflicts_with = "check")]
    dry_run: bool,
    /// Write nothing: prove that what was merged before is what was written
    #[arg(long)]
    check: bool,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let serving = place.open().await?;
    if arguments.check {
        let checked = serving.check_compactions(arguments.view.as_deref()).await?;
        for (version, found) in &checked {
            let (rows, files) = (grouped(found.rows), counted(found.files));
            println!("{version}: {rows} rows of {} pieces in {files} are what was written", found.pieces);
        }
        if checked.is_empty() {
            println!("nothing was merged yet");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut request = CompactRequest::all(arguments.view);
    if arguments.everything {
        request.eagerness = Eagerness::Everything;
    }
    if arguments.dry_run {
        let found = serving.compaction_candidates(&request).await?;
        for candidate in &found {
            println!("{} would be merged", before(candidate));
        }
        if found.is_empty() {
            println!("there is nothing to merge");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let done = serving.compact(&request, &place.author()).await?;
    for merge in &done {
        println!("{}", told(merge));
    }
    if done.is_empty() {
        println!("there is nothing to merge");
    }
    Ok(ExitCode::SUCCESS)
}

fn before(of: &Candidate) -> String {
    format!(
        "{}: {} batches, {} rows, in {} of {} bytes",
        of.version,
        grouped(of.batches as u64),
        grouped(of.rows),
        counted(of.files),
        grouped(of.bytes)
    )
}

fn told(merge: &Merge) -> String {
    let before = before(&merge.of);
    match merge.sequence {
        Some(sequence) => format!(
            "{before}, are in {} of {} bytes now (sequence {sequence})",
            counted(merge.files),
            grouped(merge.bytes)
        ),
        None => format!("{before}, were merged by somebody else meanwhile"),
    }
}

fn counted(files: usize) -> String {
    if files == 1 { "1 file".to_owned() } else { format!("{} files", grouped(files as u64)) }
}
