//! `lineament diff`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use feature::TrainingSetId;
use serving::{Class, Diff, DiffRequest, Result, RowChange};

use crate::session::{Place, file_error};
use crate::table::{aligned, grouped};

/// Compare two training sets cell by cell, and say why each cell changed
#[derive(Args)]
pub struct Arguments {
    a: TrainingSetId,
    b: TrainingSetId,
    /// Examples of each kind of change
    #[arg(long, default_value_t = 3)]
    examples: usize,
    /// Write every changed cell to this Parquet file
    #[arg(long)]
    full: Option<PathBuf>,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let serving = place.open().await?;
    let author = place.author();
    let mut request = DiffRequest::new(arguments.a, arguments.b);
    request.examples = arguments.examples;
    let diff = serving.diff(request, arguments.full.is_some(), &author).await?;
    // What was read is on record before it is shown.
    serving.flush(&author).await?;
    print(&diff.report);
    if let Some(path) = arguments.full {
        let file = std::fs::File::create(&path).map_err(|error| file_error(&path, error))?;
        let rows = futures::stream::iter(diff.batches.into_iter().map(Ok));
        let written = serving::write_parquet(diff.schema, rows, file).await?;
        println!("{} changed cells written to {}", grouped(written), path.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn print(diff: &Diff) {
    if diff.equal {
        println!("equal: {} rows, {}", grouped(diff.a.rows), diff.a.digest);
        return;
    }
    for (letter, side) in [("a", &diff.a), ("b", &diff.b)] {
        let name = side.name.as_ref().map(|name| format!(", {name}")).unwrap_or_default();
        println!(
            "{letter}  {}{name}: {} rows at sequence {}",
            side.training_set,
            grouped(side.rows),
            side.sequence
        );
    }
    let rows = &diff.rows;
    println!(
        "rows, by {}: {} in both, {} added, {} removed, {} moved",
        diff.aligned_on.join(", "),
        grouped(rows.matched),
        grouped(rows.added),
        grouped(rows.removed),
        grouped(rows.moved)
    );
    let columns = &diff.columns;
    for (what, names) in [("added", &columns.added), ("removed", &columns.removed)] {
        if !names.is_empty() {
            println!("columns {what}: {}", names.join(", "));
        }
    }
    for retyped in &columns.retyped {
        println!("column `{}` was {} and is {}", retyped.column, retyped.a, retyped.b);
    }
    if columns.reordered {
        println!("columns stand in another order");
    }
    if diff.changes.is_empty() {
        println!("no cell of the rows and columns that both have has changed");
    } else {
        let mut lines = vec![["column", "change", "cause", "cells"].map(str::to_owned).to_vec()];
        for change in &diff.changes {
            lines.push(vec![
                change.column.clone(),
                class(change.class).to_owned(),
                spelled(change.cause.as_str()),
                grouped(change.cells),
            ]);
        }
        println!("\n{}", aligned(&lines, &[false, false, false, true]).trim_end());
    }
    for entry in diff.entries.iter().take(10) {
        println!(
            "  {} cells: {} by batch {} of {}, sequence {}",
            grouped(entry.cells),
            spelled(entry.cause.as_str()),
            entry.batch,
            entry.version,
            entry.sequence
        );
    }
    if diff.entries.len() > 10 {
        println!("  … and {} more batches", grouped(diff.entries.len() as u64 - 10));
    }
    if !diff.examples.is_empty() || !diff.row_examples.is_empty() {
        println!();
    }
    for example in &diff.examples {
        println!(
            "  `{}` of {} at {}: {} → {}   ({})",
            example.column,
            key(&example.key),
            example.at.as_deref().unwrap_or("null"),
            example.a.as_deref().unwrap_or("null"),
            example.b.as_deref().unwrap_or("null"),
            spelled(example.cause.as_str())
        );
    }
    for example in &diff.row_examples {
        let change = match example.change {
            RowChange::Added => "added",
            RowChange::Removed => "removed",
            RowChange::Moved => "moved",
        };
        let place = match (example.row_a, example.row_b) {
            (Some(a), Some(b)) => format!("row {a} → row {b}"),
            (Some(row), None) | (None, Some(row)) => format!("row {row}"),
            (None, None) => String::new(),
        };
        println!("  {change}: {place}, {} at {}", key(&example.key), example.at.as_deref().unwrap_or("null"));
    }
}

fn class(class: Class) -> &'static str {
    match class {
        Class::Value => "value",
        Class::NullToValue => "null → value",
        Class::ValueToNull => "value → null",
        Class::Type => "type",
        Class::Nan => "NaN",
        Class::ZeroSign => "sign of zero",
    }
}

fn spelled(code: &str) -> String {
    code.replace('_', " ")
}

pub fn key(key: &std::collections::BTreeMap<String, Option<String>>) -> String {
    let parts: Vec<String> =
        key.iter().map(|(name, value)| format!("{name} = {}", value.as_deref().unwrap_or("null"))).collect();
    parts.join(", ")
}
