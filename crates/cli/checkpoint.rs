//! `lineament checkpoint`

use std::process::ExitCode;

use clap::Args;
use serving::Result;

use crate::session::Place;
use crate::table::grouped;

/// Write down the state of the store, so that it opens without reading its whole log; it is done in the
/// background too
#[derive(Args)]
pub struct Arguments {
    /// Write nothing: fold the whole log, and compare with the newest checkpoint
    #[arg(long)]
    check: bool,
}

/// As of all damage.
const DAMAGED: u8 = 4;

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let serving = place.open().await?;
    let catalog = serving.catalog();
    if !arguments.check {
        let written = catalog.checkpoint().await?;
        println!("checkpoint {}: {}", written.sequence, written.state);
        return Ok(ExitCode::SUCCESS);
    }
    let Some(checked) = catalog.check_checkpoint().await? else {
        println!("there is no checkpoint that could be used; `lineament checkpoint` writes one");
        let none = catalog.passed_over().is_empty();
        return Ok(if none { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) });
    };
    let sequence = checked.sequence;
    if checked.holds() {
        println!(
            "checkpoint {sequence} holds: {} entries fold to {}",
            grouped(sequence.0 + 1),
            checked.folded
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!("checkpoint {sequence} is wrong, and the log is right: delete checkpoints/{:020}", sequence.0);
    println!("the log folds to        {}", checked.folded);
    println!("the checkpoint says     {}", checked.named);
    println!("and its tables hold     {}", checked.held);
    Ok(ExitCode::from(DAMAGED))
}
