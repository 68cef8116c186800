//! `lineament drift`

use std::process::ExitCode;

use clap::Args;
use feature::definition::Baseline;
use feature::{BatchId, Timestamp};
use serving::{DriftReport, DriftRequest, Result};

use crate::measures;
use crate::report::{self, Format};
use crate::session::Place;
use crate::table::grouped;

/// Measure a batch against a baseline, by profiles alone: the declared one, or what is named here. Nothing is written
#[derive(Args)]
pub struct Arguments {
    /// The feature view
    view: String,
    /// The batch; the latest where none is named, one in quarantine included
    #[arg(long)]
    batch: Option<BatchId>,
    /// Against so many batches before it
    #[arg(long, group = "baseline")]
    batches: Option<u32>,
    /// Against the batches of a time from here on: 2013-06-01T00:00:00Z
    #[arg(long, group = "baseline", requires = "until")]
    from: Option<Timestamp>,
    /// … and before here
    #[arg(long, requires = "from")]
    until: Option<Timestamp>,
    /// Against what the deployed versions of this model were trained on
    #[arg(long, group = "baseline")]
    model: Option<String>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let Arguments { view, batch, batches, from, until, model, format } = arguments;
    let between = from.zip(until).map(|(from, until)| Baseline::Between { from, until });
    let baseline = batches.map(Baseline::Batches).or(between).or(model.map(Baseline::Model));
    let request = DriftRequest { view, batch, baseline };
    let found = place.open().await?.drift(&request, &place.author()).await?;
    report::print(&found, format, print)?;
    Ok(ExitCode::SUCCESS)
}

fn print(report: &DriftReport) {
    println!(
        "batch {} of {} ({} rows) against {} batches ({} rows)",
        report.batch,
        report.version,
        grouped(report.rows),
        report.baseline_batches,
        grouped(report.baseline_rows)
    );
    measures::print(&report.measures, "(batch)");
}
