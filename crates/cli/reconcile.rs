//! `lineament reconcile`

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use server::mlflow::{Follower, PassReport};
use serving::{Problem, ReconcileReport, Result};

use crate::report::{self, Format};
use crate::session::Place;
use crate::table::{aligned, grouped};
use crate::tracking::Tracking;

/// Check that all that training sets, runs, models and deployments refer to is there, and name what is not
#[derive(Args)]
pub struct Arguments {
    /// Read every object and compare digests; else only that it is there, with its size
    #[arg(long)]
    deep: bool,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Ask this MLflow server first what it knows of runs, models and aliases, as http://tracking:5000, and take it into the log.
    /// Nothing is written there. It is not taken from the environment, since a check alone leaves the log as it is
    #[arg(long, value_name = "URL", help_heading = "MLflow")]
    mlflow: Option<String>,
    #[command(flatten, next_help_heading = "MLflow")]
    tracking: Tracking,
}

#[derive(Serialize)]
struct Reconciled {
    #[serde(flatten)]
    store: ReconcileReport,
    /// Where it was asked and answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    mlflow: Option<PassReport>,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let serving = place.open().await?;
    // First, so that the store is looked through with what it tells.
    let passed = match &arguments.mlflow {
        Some(address) => {
            let options = arguments.tracking.options(address);
            Some(Follower::new(serving.clone(), options, place.author())?.pass().await)
        }
        None => None,
    };
    // The store is looked through and told of whatever became of the pass.
    let (mlflow, failed) = match passed {
        Some(Ok(pass)) => (Some(pass), None),
        Some(Err(error)) => (None, Some(error)),
        None => (None, None),
    };
    let reconciled = Reconciled { store: serving.reconcile(arguments.deep).await?, mlflow };
    report::print(&reconciled, arguments.format, print)?;
    if let Some(error) = failed {
        return Err(error);
    }
    // A model in use that stands on something wrong is a failure; a run without a training set is a hint.
    let grave = reconciled.store.broken > 0 || reconciled.store.deployed() > 0;
    Ok(if grave { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(reconciled: &Reconciled) {
    if let Some(pass) = &reconciled.mlflow {
        print_pass(pass);
    }
    print_store(&reconciled.store);
}

fn print_pass(pass: &PassReport) {
    println!(
        "{}: {} experiments, runs, models, versions and aliases; {} taken into the log, {} do not agree",
        pass.authority,
        grouped(pass.found),
        grouped(pass.taken() as u64),
        grouped(pass.disagreeing() as u64)
    );
    let line = |kind: &str, id: &str, what: String| vec![kind.replace('_', " "), id.to_owned(), what];
    let mut lines = vec![line("kind", "id", "what".to_owned())];
    for used in &pass.linked {
        let what = format!("taken: {} used it", used.run);
        lines.push(line("training_set", &used.training_set.to_string(), what));
    }
    for moved in &pass.moved {
        let means = moved.version.as_deref().unwrap_or("nothing");
        let id = format!("{}@{}", moved.model, moved.alias);
        lines.push(line("alias", &id, format!("taken: it means {means} now")));
    }
    for model in &pass.renamed {
        lines.push(line("model", &model.before, format!("taken: it is called {} now", model.now)));
    }
    for gone in &pass.gone {
        lines.push(line(gone.kind, &gone.id, "taken: it is there no more".to_owned()));
    }
    for used in &pass.foreign {
        let what = format!("{} names it, and this store has no such set", used.run);
        lines.push(line("training_set", &used.training_set.to_string(), what));
    }
    for used in &pass.unnamed {
        let what = format!("it used training set {}, and MLflow does not name it", used.training_set);
        lines.push(line("run", &used.run, what));
    }
    if lines.len() > 1 {
        println!("\n{}\n", aligned(&lines, &[false; 3]).trim_end());
    }
}

fn print_store(report: &ReconcileReport) {
    let checked = if report.deep { "read and compared" } else { "there, with their sizes" };
    println!(
        "sequence {}: {} objects looked at ({checked}), {} bytes; {} problems, {} under what is deployed",
        report.sequence,
        grouped(report.objects),
        grouped(report.bytes),
        grouped(report.problems.len() as u64),
        grouped(report.deployed() as u64)
    );
    if report.problems.is_empty() {
        return;
    }
    let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "–".to_owned());
    let mut lines = vec![["blocks", "kind", "id", "problem", "since"].map(str::to_owned).to_vec()];
    lines.extend(report.problems.iter().map(|problem: &Problem| {
        vec![
            dash(&problem.blocks),
            problem.kind.replace('_', " "),
            problem.id.clone(),
            problem.problem.clone(),
            dash(&problem.since),
        ]
    }));
    println!("\n{}", aligned(&lines, &[false; 5]).trim_end());
}
