//! `lineament quarantine`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use catalog::ingest::{Claim, Input};
use clap::{Args, Subcommand};
use feature::BatchId;
use serving::{
    Error, Kind, QuarantineAction, QuarantineReport, QuarantineRequest, QuarantinedBatch, RejectedRows,
    Result,
};

use crate::progress;
use crate::quality::findings;
use crate::report::{self, Format};
use crate::session::{Place, file_error};
use crate::table::grouped;

/// Batches that failed their checks and were kept back: list them, release one, so that it counts from here on, or drop it; and rejected
/// rows: write them out, and take them in mended
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
    /// Write the rejected rows of a batch to a file, to be mended: those that nobody has mended yet, as they came
    Export {
        /// The batch that rejected them, or that was refused for them
        batch: BatchId,
        /// The file: .csv or .parquet
        #[arg(long)]
        to: PathBuf,
    },
    /// Ingest rejected rows of a batch that were mended
    Mend {
        /// The batch that had rejected them
        batch: BatchId,
        /// The mended file, with the columns `rejected_origin` and `rejected_row` as they were exported
        file: PathBuf,
        /// Their times are covered by other batches, and they could have been known when the view's rule says
        #[arg(long, conflicts_with = "correction")]
        back_fill: bool,
        /// They correct what was known; they are known from now on
        #[arg(long)]
        correction: bool,
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
            let waiting = serving.quarantined(view.as_deref(), &place.author()).await?;
            report::print(&waiting, format, |waiting| list(waiting))?;
            return Ok(ExitCode::SUCCESS);
        }
        Verb::Release { batch, reason, back_fill, format } => {
            (QuarantineRequest { batch, action: QuarantineAction::Release, reason, back_fill }, format)
        }
        Verb::Export { batch, to } => {
            let rejected = serving.rejected_rows(batch, &place.author()).await?;
            write(&rejected, &to).await?;
            let RejectedRows { version, rows, mended, .. } = &rejected;
            println!(
                "{} rejected rows of batch {batch} of {version} written to {} ({} are mended already)",
                grouped(rows.num_rows() as u64),
                to.display(),
                grouped(*mended as u64)
            );
            println!(
                "mend it, keep the columns rejected_origin and rejected_row, and `lineament quarantine mend {batch} {}`",
                to.display()
            );
            return Ok(ExitCode::SUCCESS);
        }
        Verb::Mend { batch, file, back_fill, correction } => {
            let claim = match (back_fill, correction) {
                (true, _) => Some(Claim::BackFill),
                (_, true) => Some(Claim::Correction),
                _ => None,
            };
            let input = Input::Files { paths: vec![file], format: None };
            let (bar, progress) = progress::bar("mended rows");
            let done = serving.mend(batch, input, claim, &place.author(), progress).await;
            bar.finish_and_clear();
            crate::ingest::print(&done?);
            return Ok(ExitCode::SUCCESS);
        }
        Verb::Drop { batch, reason, format } => {
            (QuarantineRequest { batch, action: QuarantineAction::Drop, reason, back_fill: false }, format)
        }
    };
    let done = serving.end_quarantine(&request, &place.author()).await?;
    report::print(&done, format, ended)?;
    Ok(ExitCode::SUCCESS)
}

/// By the file's ending.
async fn write(rejected: &RejectedRows, to: &Path) -> Result<()> {
    let ending = to.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    if !["csv", "parquet"].contains(&ending.as_str()) {
        return Err(Error::new(
            Kind::Invalid,
            format!(
                "`{}` does not say by its ending what it is to be; endings are .csv and .parquet",
                to.display()
            ),
        ));
    }
    let file = std::fs::File::create(to).map_err(|error| file_error(to, error))?;
    if ending == "parquet" {
        let rows = futures::stream::iter([Ok(rejected.rows.clone())]);
        serving::write_parquet(rejected.rows.schema(), rows, file).await?;
        return Ok(());
    }
    arrow::csv::Writer::new(file).write(&rejected.rows).map_err(|error| file_error(to, error))
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
            held.rows.map_or_else(|| "–".to_owned(), grouped),
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
