//! `lineament replay`

use std::process::ExitCode;

use catalog::records::Verdict;
use clap::Args;
use feature::TrainingSetId;
use serving::{ReplayReport, Result};

use crate::memory_limits::MemoryLimits;
use crate::session::Place;
use crate::table::grouped;

/// Rebuild a training set from its id and prove that it is the same
#[derive(Args)]
pub struct Arguments {
    training_set: TrainingSetId,
    #[command(flatten)]
    memory: MemoryLimits,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let serving = arguments.memory.of(place.open().await?);
    let report = serving.prove(arguments.training_set, &place.author()).await?;
    print(&report);
    Ok(if report.verdict == Verdict::Differs { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

pub fn print(report: &ReplayReport) {
    match report.verdict {
        Verdict::Equal => {
            println!("equal: {} rows, {}", grouped(report.rows), report.rebuilt);
        }
        Verdict::EqualMinusErasures => {
            println!("equal minus erasures: {} rows, {}", grouped(report.rows), report.rebuilt);
        }
        Verdict::Differs => {
            println!("differs: recorded {}, rebuilt {}", report.digest, report.rebuilt);
            for difference in &report.differences {
                let place = match difference.first_block {
                    Some(block) => {
                        format!(", first in rows {} to {}", block * 65_536, (block + 1) * 65_536 - 1)
                    }
                    None => String::new(),
                };
                println!("  column `{}` differs{place}", difference.column);
            }
            for entry in &report.entries {
                let sequence =
                    entry.sequence.map_or_else(|| "no entry".to_owned(), |at| format!("sequence {at}"));
                println!("  {sequence}, batch {} of {}: {}", entry.batch, entry.version, entry.why);
            }
            if let Some(note) = &report.note {
                println!("  {note}");
            }
        }
    }
}
