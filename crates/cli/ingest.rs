//! `lineament ingest`

use std::path::PathBuf;
use std::process::ExitCode;

use catalog::ingest::{Claim, Input, Report, Request, Skipped};
use clap::{Args, ValueEnum};
use feature::definition::FileFormat;
use serving::Result;

use crate::progress;
use crate::session::Place;
use crate::table::grouped;

/// Ingest rows into a feature view: from its source, what it has not had yet, or the files named
#[derive(Args)]
pub struct Arguments {
    /// The feature view
    view: String,
    /// Files to ingest in place of the view's source
    files: Vec<PathBuf>,
    /// The files' format, where their ending does not say it
    #[arg(long)]
    format: Option<Format>,
    /// An idempotency key: the same request sent again gives the first answer
    #[arg(long)]
    key: Option<String>,
    /// These rows reach into times already ingested, and could have been known when the view's rule says
    #[arg(long, conflicts_with = "correction")]
    back_fill: bool,
    /// These rows correct what was known; they are known from now on
    #[arg(long)]
    correction: bool,
    /// A step that made the rows, for lineage; may be given several times, in order
    #[arg(long = "step")]
    steps: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Format {
    Parquet,
    Csv,
    Arrow,
}

impl From<Format> for FileFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Parquet => Self::Parquet,
            Format::Csv => Self::Csv,
            Format::Arrow => Self::Arrow,
        }
    }
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let serving = place.open().await?;
    let input = if arguments.files.is_empty() {
        Input::Source
    } else {
        Input::Files { paths: arguments.files, format: arguments.format.map(Into::into) }
    };
    let mut request = Request::new(&arguments.view, input);
    request.key = arguments.key;
    request.claim = match (arguments.back_fill, arguments.correction) {
        (true, _) => Some(Claim::BackFill),
        (_, true) => Some(Claim::Correction),
        _ => None,
    };
    let mut author = place.author();
    author.steps = arguments.steps;
    let (bar, report) = progress::bar(&arguments.view);
    let done = serving.ingest(request, &author, report).await;
    bar.finish_and_clear();
    print(&done?);
    Ok(ExitCode::SUCCESS)
}

pub fn print(report: &Report) {
    let Some((batch, sequence)) = report.batch.zip(report.sequence) else {
        println!("{}: nothing new", report.version);
        print_left_out(report);
        return;
    };
    let repeated =
        if report.repeated { " (answered before under this key; nothing was written again)" } else { "" };
    println!(
        "{}: {} rows accepted, {} rejected; batch {batch}, sequence {sequence}{repeated}",
        report.version,
        grouped(report.rows),
        grouped(report.rejected)
    );
    print_left_out(report);
    if report.mended > 0 {
        println!("  {} rows that had been rejected are mended", grouped(report.mended));
    }
    if report.quarantined {
        println!(
            "  kept back: its rows count for nobody until `lineament quarantine release {batch} --reason \"why\"`"
        );
    }
    crate::quality::findings(report.judged.as_ref());
    for (reason, column, count) in &report.reasons {
        println!("  {} × {reason} in `{column}`", grouped(*count));
    }
    for example in &report.examples {
        println!("    {example}");
    }
}

fn print_left_out(report: &Report) {
    if report.filtered > 0 {
        println!("  {} rows left out by the source's `where`", grouped(report.filtered));
    }
    let Skipped { taken, refused } = report.skipped;
    if taken > 0 {
        println!("  {} taken before", counted(taken));
    }
    if refused > 0 {
        println!(
            "  {} refused before: mend the file or the definition (`SELECT * FROM lineament.rejected_rows` says what was wrong)",
            counted(refused)
        );
    }
}

fn counted(files: usize) -> String {
    if files == 1 { "1 file was".to_owned() } else { format!("{files} files were") }
}
