//! `lineament export`

use std::process::ExitCode;

use clap::Args;
use feature::TrainingSetId;
use serving::{ExportFiles, ExportTo, Result};

use crate::memory_limits::MemoryLimits;
use crate::progress;
use crate::served_set::ServerOptions;
use crate::session::Place;
use crate::table::grouped;

/// Write a training set as Parquet files into a folder or a bucket, rebuilt from its id and proved; goes on where it was cut
#[derive(Args)]
pub struct Arguments {
    training_set: TrainingSetId,
    /// A folder, or s3://, gs:// or az:// with a prefix: new, empty, or that of an earlier export of the same set
    folder: String,
    /// Rows of each file but the last
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    rows_per_file: u32,
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    memory: MemoryLimits,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let Arguments { training_set, folder, rows_per_file, server, memory } = arguments;
    let to = ExportTo::parse(&folder)?;
    let author = place.author();
    let per_file = usize::try_from(rows_per_file).unwrap_or(usize::MAX);
    let bar = progress::rows("export");
    let shown = |done: u64, of: u64| {
        bar.set_length(of.max(1));
        bar.set_position(done);
    };
    let exported = async {
        match &server.server {
            Some(url) => {
                let set = server.open(url, training_set, &author).await?;
                let files = ExportFiles::look(training_set, set.rows, &to, per_file).await?;
                files.write(set.read(), shown).await
            }
            None => {
                let serving = memory.of(place.open().await?);
                serving.export(training_set, &to, per_file, &author, shown).await
            }
        }
    };
    let report = exported.await;
    bar.finish_and_clear();
    let report = report?;
    let kept = if report.kept > 0 {
        format!(", {} of them from before", grouped(report.kept))
    } else {
        String::new()
    };
    println!(
        "{} rows in {} files{kept}, in {}; read back: {}",
        grouped(report.rows),
        grouped(report.files),
        to,
        report.digest
    );
    Ok(ExitCode::SUCCESS)
}
