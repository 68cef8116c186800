//! `lineament run`

use std::collections::BTreeMap;
use std::process::ExitCode;

use catalog::registry::{Observations, SeenExperiment, SeenRun, Told};
use clap::Args;
use feature::Timestamp;
use serving::{Error, Kind, Result};

use crate::session::Place;

/// Say what is known of a run: its experiment, parameters, metrics, and how it ended
#[derive(Args)]
pub struct Arguments {
    /// Its name; `--run` of other commands refers to it
    name: String,
    /// The run that it is a part of
    #[arg(long)]
    parent: Option<String>,
    /// As FINISHED or FAILED
    #[arg(long)]
    status: Option<String>,
    /// A parameter, as depth=6; may be given several times
    #[arg(long = "param")]
    params: Vec<String>,
    /// A metric, as auc=0.71; may be given several times
    #[arg(long = "metric")]
    metrics: Vec<String>,
    #[arg(long)]
    started_at: Option<Timestamp>,
    #[arg(long)]
    ended_at: Option<Timestamp>,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let mut author = place.author();
    let experiment = author.experiment.clone();
    let mut metrics = BTreeMap::new();
    for (name, value) in pairs(&arguments.metrics)? {
        let number = value.parse().map_err(|_| {
            Error::new(Kind::Invalid, format!("the metric `{name}` is `{value}`, which is no number"))
        })?;
        metrics.insert(name, number);
    }
    let seen = SeenRun {
        id: arguments.name.clone(),
        experiment: experiment.clone(),
        parent: arguments.parent,
        name: Some(arguments.name.clone()),
        status: arguments.status,
        started_at: arguments.started_at,
        ended_at: arguments.ended_at,
        user: Some(author.principal.clone()),
        params: pairs(&arguments.params)?,
        metrics,
        ..SeenRun::default()
    };
    let experiments = experiment.into_iter().map(|id| SeenExperiment { id, ..SeenExperiment::default() });
    let seen =
        Observations { experiments: experiments.collect(), runs: vec![seen], ..Observations::default() };
    // It is told of, and tells nothing.
    author.run = None;
    let told = place.open().await?.observe(seen, &author).await?;
    println!("run {}{}", arguments.name, at(&told));
    Ok(ExitCode::SUCCESS)
}

/// Where it was recorded.
pub fn at(told: &Told) -> String {
    match told.sequence {
        Some(sequence) => format!(": recorded at sequence {sequence}"),
        None => ": nothing new".to_owned(),
    }
}

fn pairs(texts: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err(Error::new(Kind::Invalid, format!("`{text}` is no name and value, as in depth=6"))),
    };
    texts.iter().map(pair).collect()
}
