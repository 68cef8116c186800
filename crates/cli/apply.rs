//! `lineament apply`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serving::Result;

use crate::session::Place;
use crate::{definitions_folder, plan, policy_folder};

/// Apply definitions as one entry of the log; makes the store where there is none
#[derive(Args)]
pub struct Arguments {
    /// The folder of definitions
    #[arg(default_value = "features")]
    folder: PathBuf,
    /// Why; it stands in the log for ever. What breaks those who read something needs it
    #[arg(long)]
    reason: Option<String>,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let definitions = definitions_folder::read(&arguments.folder)?;
    let serving = place.open_or_create().await?;
    let author = place.author();
    // Policies come first, so that nothing new is open in between.
    if let Some(files) = policy_folder::beside(&arguments.folder)? {
        let (change, sequence) = serving.apply_policies(&files, &definitions, &author).await?;
        println!("{change}");
        if let Some(sequence) = sequence {
            println!("policies are in force from sequence {sequence} on");
        }
    }
    let applied = serving.apply_definitions(&definitions, arguments.reason.as_deref(), &author).await?;
    plan::print(&applied.plan);
    if let Some(error) = serving::waits_for_approval(&applied) {
        return Err(error);
    }
    match applied.sequence {
        Some(sequence) => {
            println!("applied at sequence {sequence} of {}", serving.catalog().store().location())
        }
        None => println!("nothing to do"),
    }
    Ok(ExitCode::SUCCESS)
}
