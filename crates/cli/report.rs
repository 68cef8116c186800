//! Reports, as text for people or as JSON for programs.

use clap::ValueEnum;
use serde::Serialize;
use serving::{Error, Kind, Result};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// Prints a report as it is wanted; `text` prints it for people.
pub fn print<R: Serialize>(report: &R, format: Format, text: impl FnOnce(&R)) -> Result<()> {
    match format {
        Format::Text => text(report),
        Format::Json => json(report)?,
    }
    Ok(())
}

pub fn json(report: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(report)
        .map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
    println!("{json}");
    Ok(())
}
