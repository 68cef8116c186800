//! `lineament impact`

use std::process::ExitCode;

use clap::Args;
use serving::{ImpactReport, Result};

use crate::report::{self, Format};
use crate::session::Place;
use crate::table::{aligned, grouped};

/// Say what would be touched if something were wrong: cells, training sets, models, deployments
#[derive(Args)]
pub struct Arguments {
    /// A batch, a source file, a view version (weather@1), a feature (weather@1.temp), a run, a person: by name or id
    node: String,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let report = place.open().await?.impact(&arguments.node, &place.author()).await?;
    report::print(&report, arguments.format, print)?;
    Ok(ExitCode::SUCCESS)
}

pub fn print(report: &ImpactReport) {
    // What policies keep from the asker is not told, and not guessed at.
    let cells = |cells: Option<u64>| cells.map_or_else(|| "–".to_owned(), grouped);
    println!(
        "{} {}: {} cells{} of {}, {}, {} in force (as of sequence {})",
        report.kind.replace('_', " "),
        report.node,
        cells(report.cells_from),
        match report.cells_reached {
            Some(0) | None => String::new(),
            Some(cells) => format!(", and at most {} of what is derived,", grouped(cells)),
        },
        counted(report.training_sets, "training set"),
        counted(report.model_versions, "model version"),
        counted(report.deployments, "deployment"),
        report.sequence
    );
    if report.rows.is_empty() {
        return;
    }
    let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "–".to_owned());
    let role = |role: &Option<catalog::records::Role>| role.map_or("–", |role| role.as_str()).to_owned();
    let head = ["training set", "cells", "derived, at most", "run", "role", "model version", "deployment"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for row in &report.rows {
        lines.push(vec![
            row.name.clone(),
            cells(row.cells_from),
            cells(row.cells_reached),
            dash(&row.run),
            role(&row.role),
            dash(&row.model_version),
            dash(&row.deployment),
        ]);
    }
    println!("\n{}", aligned(&lines, &[false, true, true, false, false, false, false]).trim_end());
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{} {what}s", grouped(count as u64)),
    }
}
