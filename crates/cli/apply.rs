//! `lineament apply`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serving::Result;

use crate::session::Place;
use crate::{definitions_folder, plan};

/// Apply definitions as one entry of the log; makes the store where there is none
#[derive(Args)]
pub struct Arguments {
    /// The folder of definitions
    #[arg(default_value = "features")]
    folder: PathBuf,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let definitions = definitions_folder::read(&arguments.folder)?;
    let serving = place.open_or_create().await?;
    let applied = serving.apply_definitions(&definitions, &place.author()).await?;
    plan::print(&applied.plan);
    match applied.sequence {
        Some(sequence) => {
            println!("applied at sequence {sequence} of {}", serving.catalog().store().location())
        }
        None => println!("nothing to do"),
    }
    Ok(ExitCode::SUCCESS)
}
