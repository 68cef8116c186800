//! `lineament bias`

use std::process::ExitCode;

use clap::Args;
use feature::{Timestamp, TrainingSetId};
use serving::{BiasReport, BiasRequest, Result, ViewBias};

use crate::measures;
use crate::report::{self, Format};
use crate::session::Place;
use crate::table::grouped;

/// Whether the population of a training set is the one that is served: its entities and values against those that had features in force.
/// Nothing is written
#[derive(Args)]
pub struct Arguments {
    /// The training set
    training_set: TrainingSetId,
    /// Against the population of this moment; else of several that fall as the set's times do
    #[arg(long, conflicts_with = "moments")]
    at: Option<Timestamp>,
    /// Against the population of so many moments (12)
    #[arg(long)]
    moments: Option<usize>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let Arguments { training_set, at, moments, format } = arguments;
    let request = BiasRequest { training_set, at, moments };
    let report = place.open().await?.bias(&request, &place.author()).await?;
    report::print(&report, format, print)?;
    Ok(ExitCode::SUCCESS)
}

pub fn print(report: &BiasReport) {
    println!(
        "training set {} ({} rows) against the served population: {}",
        report.training_set,
        grouped(report.rows),
        report.verdict.name()
    );
    report.views.iter().for_each(of_view);
}

fn of_view(view: &ViewBias) {
    let between = match view.moments.as_slice() {
        [] => String::new(),
        [only] => format!(" at {only}"),
        [first, .., last] => format!(" at {} moments from {first} to {last}", view.moments.len()),
    };
    println!(
        "{}: {} entities in the set, {} served{between}, {} in both",
        view.version,
        grouped(view.spine_entities),
        grouped(view.served_entities),
        grouped(view.shared_entities)
    );
    measures::print(&view.measures, "(entities)");
}
