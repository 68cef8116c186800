//! `lineament deploy`

use std::process::ExitCode;

use catalog::registry::Deployment;
use clap::Args;
use feature::Timestamp;
use serving::{Error, Kind, Result};

use crate::session::Place;

/// Say which model version a deployment serves, or that it serves none any more
#[derive(Args)]
pub struct Arguments {
    /// The deployment's name
    name: String,
    /// The model version, as delay/3 or delay@champion
    #[arg(long, conflicts_with = "end")]
    model: Option<String>,
    /// It serves no model any more
    #[arg(long)]
    end: bool,
    #[arg(long, default_value = "production")]
    environment: String,
    /// The feature service that it reads
    #[arg(long)]
    service: Option<String>,
    /// Where it answers
    #[arg(long)]
    endpoint: Option<String>,
    /// Since when, where that is not now
    #[arg(long)]
    from: Option<Timestamp>,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let Arguments { name, model, end, environment, service, endpoint, from } = arguments;
    if model.is_none() && !end {
        return Err(Error::new(
            Kind::Invalid,
            "say which model version it serves, by --model delay/3, or that it serves none, by --end",
        ));
    }
    let wanted = Deployment {
        name: name.clone(),
        environment: Some(environment.clone()),
        model_version: model,
        service,
        endpoint,
        from,
    };
    let told = place.open().await?.deploy(wanted, &place.author()).await?;
    println!("deployment {name} in {environment}{}", crate::run::at(&told));
    Ok(ExitCode::SUCCESS)
}
