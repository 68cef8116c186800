//! `lineament model`

use std::process::ExitCode;

use catalog::registry::{Observations, SeenAlias, SeenModelVersion};
use clap::Args;
use serving::{Error, Kind, Result};

use crate::session::Place;

/// Register a model version that a run made, or move an alias to it
#[derive(Args)]
pub struct Arguments {
    /// Name and version, as delay/3
    version: String,
    /// An alias that means this version from now on, as champion; may be given several times
    #[arg(long = "alias")]
    aliases: Vec<String>,
    /// Where its files are
    #[arg(long)]
    source: Option<String>,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let Some((model, version)) = arguments.version.rsplit_once('/') else {
        return Err(Error::new(
            Kind::Invalid,
            format!("`{}` is no model version; write name and version, as delay/3", arguments.version),
        ));
    };
    let author = place.author();
    let seen = SeenModelVersion {
        model: model.to_owned(),
        version: version.to_owned(),
        run: author.run.clone(),
        source_uri: arguments.source,
        ..SeenModelVersion::default()
    };
    let alias =
        |alias| SeenAlias { model: model.to_owned(), alias, version: Some(arguments.version.clone()) };
    let seen = Observations {
        aliases: arguments.aliases.into_iter().map(alias).collect(),
        model_versions: vec![seen],
        ..Observations::default()
    };
    let told = place.open().await?.observe(seen, &author).await?;
    println!("model version {}{}", arguments.version, crate::run::at(&told));
    Ok(ExitCode::SUCCESS)
}
