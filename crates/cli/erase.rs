//! `lineament erase`

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use serving::{DerivedBatch, EraseReport, EraseRequest, ErasedTrainingSet, Error, Kind, Result};

use crate::report::{self, Format};
use crate::session::Place;
use crate::table::grouped;

/// Erase an entity: its values go from data files, spines, rejected rows and what else holds them, from earlier snapshots too, for good. The
/// log says that it was done and names nobody
#[derive(Args)]
pub struct Arguments {
    /// plane, or fraud.card
    entity: String,
    /// Its key: tailnum=N102UW, one for each of its columns
    #[arg(required = true)]
    key: Vec<String>,
    /// Why; it stands in the log for ever, so name nobody in it
    #[arg(long)]
    reason: Option<String>,
    /// What the request is called by whoever keeps such requests
    #[arg(long)]
    request: Option<String>,
    /// Say what would go, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let Arguments { entity, key, reason, request, dry_run, format } = arguments;
    let key = parts(&key)?;
    let request = EraseRequest { entity, key, reason, request, dry_run };
    let report = place.open().await?.erase(&request, &place.author()).await?;
    report::print(&report, format, print)?;
    Ok(ExitCode::SUCCESS)
}

fn parts(key: &[String]) -> Result<BTreeMap<String, String>> {
    let mut parts = BTreeMap::new();
    for part in key {
        let Some((column, value)) = part.split_once('=') else {
            return Err(Error::new(
                Kind::Invalid,
                format!("`{part}` is no part of a key; write it as column=value"),
            ));
        };
        if parts.insert(column.to_owned(), value.to_owned()).is_some() {
            return Err(Error::new(Kind::Invalid, format!("the key has `{column}` twice")));
        }
    }
    Ok(parts)
}

fn print(report: &EraseReport) {
    let verb = if report.dry_run { "would go" } else { "gone" };
    for batch in &report.batches {
        println!("{verb:<9} {:>13} rows of batch {} ({})", grouped(batch.rows), batch.batch, batch.version);
    }
    let counted = [
        (report.rejected, "reasons of rejected rows"),
        (report.reads, "recorded reads that speak of it"),
        (report.spines, "spines that clients put up"),
        (report.samples, "profiles of samples among whose entities it is"),
    ];
    for (number, what) in counted.into_iter().filter(|(number, _)| *number > 0) {
        println!("{verb:<9} {:>13} {what}", grouped(number));
    }
    for ErasedTrainingSet { training_set, name, rows, provable } in &report.training_sets {
        let name = name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
        let proof = match provable {
            Some(false) => "; what is left of it can be proved no more",
            _ => "",
        };
        println!("{verb:<9} {:>13} rows of training set {training_set}{name}{proof}", grouped(*rows));
    }
    for DerivedBatch { batch, version } in &report.derived_left {
        println!("stays     batch {batch} ({version}), computed from batches with such rows");
    }
    if !report.derived_left.is_empty() {
        println!(
            "values of these batches that were computed from it are not erased: `lineament rollback BATCH` takes them out of sight, `lineament \
             refresh` makes them again of what is left, and their bytes go where the keys of their own entity are erased"
        );
    }
    if report.samples_left > 0 {
        let more = grouped(report.samples_left);
        println!("{more} more profiles of samples do not fit into one entry: erase it again");
    }
    for kept in &report.kept_for {
        println!("made of it: {kept}");
    }
    let rows = grouped(report.rows);
    match (report.dry_run, report.sequence) {
        (true, _) => println!("{rows} rows of {} would go; nothing was written", report.entity),
        (false, Some(sequence)) => {
            println!("{rows} rows of {} are gone, at every sequence: entry {sequence}", report.entity);
        }
        (false, None) => println!("there is nothing of it"),
    }
}
