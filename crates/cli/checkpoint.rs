//! `lineament checkpoint`

use std::process::ExitCode;

use clap::Args;
use serving::Result;

use crate::session::Place;
use crate::table::grouped;

/// Write down the state of the store, so that it opens without reading its whole log; it is done in the background too
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
    let Some(checkpoint) = catalog.last_checkpoint() else {
        println!("there is no checkpoint that could be used; `lineament checkpoint` writes one");
        return Ok(if catalog.passed_over().is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(DAMAGED)
        });
    };
    let folded = catalog.state_digest_at(checkpoint.sequence).await?;
    if folded == checkpoint.state {
        let entries = grouped(checkpoint.sequence.0 + 1);
        println!("checkpoint {} holds: {entries} entries fold to {folded}", checkpoint.sequence);
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "checkpoint {} is wrong: it says {}, and the log folds to {folded}; delete its folder in checkpoints/",
        checkpoint.sequence, checkpoint.state
    );
    Ok(ExitCode::from(DAMAGED))
}
