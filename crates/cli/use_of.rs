//! `lineament use`

use std::process::ExitCode;

use catalog::records::Role;
use clap::{Args, ValueEnum};
use feature::TrainingSetId;
use serving::{Error, Kind, Result};

use crate::session::Place;

/// Say that the run of --run used a training set, and what for
#[derive(Args)]
pub struct Arguments {
    training_set: TrainingSetId,
    #[arg(long, value_enum, default_value_t = Purpose::Train)]
    role: Purpose,
}

#[derive(Clone, Copy, ValueEnum)]
enum Purpose {
    Train,
    Validate,
    Test,
    Score,
}

impl From<Purpose> for Role {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Train => Self::Train,
            Purpose::Validate => Self::Validate,
            Purpose::Test => Self::Test,
            Purpose::Score => Self::Score,
        }
    }
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let author = place.author();
    let Some(run) = author.run.clone() else {
        return Err(Error::new(Kind::Invalid, "say which run used it, by --run or LINEAMENT_RUN"));
    };
    let serving = place.open().await?;
    let told =
        serving.record_use(arguments.training_set, &run, arguments.role.into(), author.how, &author).await?;
    println!("run {run} used {}{}", arguments.training_set, crate::run::at(&told));
    Ok(ExitCode::SUCCESS)
}
