//! `lineament experiment`

use std::process::ExitCode;

use catalog::registry::{Observations, SeenExperiment};
use clap::Args;
use serving::Result;

use crate::session::Place;

/// Say what an experiment is to find out, and who owns it
#[derive(Args)]
pub struct Arguments {
    /// Its name; `--experiment` of other commands refers to it
    name: String,
    /// What it is to find out
    #[arg(long)]
    hypothesis: Option<String>,
    /// Who answers for it
    #[arg(long)]
    owner: Option<String>,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let Arguments { name, hypothesis, owner } = arguments;
    let seen = SeenExperiment {
        id: name.clone(),
        name: Some(name.clone()),
        hypothesis,
        owner,
        lifecycle: Some(catalog::records::Lifecycle::Active),
        ..SeenExperiment::default()
    };
    let seen = Observations { experiments: vec![seen], ..Observations::default() };
    let told = place.open().await?.observe(seen, &place.author()).await?;
    println!("experiment {name}{}", crate::run::at(&told));
    Ok(ExitCode::SUCCESS)
}
