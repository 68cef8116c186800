//! `lineament profile`

use std::process::ExitCode;

use clap::Args;
use feature::BatchId;
use serving::Result;

use crate::quality::{of_view, show};
use crate::session::Place;

/// What the values of a feature view are like, batch by batch, the latest first
#[derive(Args)]
pub struct Arguments {
    /// The feature view
    view: String,
    /// Of this feature alone
    #[arg(long)]
    feature: Option<String>,
    /// Of this batch alone
    #[arg(long)]
    batch: Option<BatchId>,
    /// Lines to show
    #[arg(long, default_value_t = 40)]
    rows: usize,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let Arguments { view, feature, batch, rows } = arguments;
    let mut wanted = of_view(&view);
    if let Some(feature) = feature {
        wanted.push_str(&format!(" AND feature = '{}'", feature.replace('\'', "''")));
    }
    if let Some(batch) = batch {
        wanted.push_str(&format!(" AND batch = '{batch}'"));
    }
    let statement = format!(
        "SELECT sequence, status, feature, \"rows\", nulls, nans, distinct_values AS \"distinct\", least, p05, median, p95, greatest, \
         round(mean, 4) AS mean, round(spread, 4) AS spread, frequent FROM lineament.profiles WHERE {wanted} ORDER BY sequence DESC"
    );
    show(place, statement, rows).await?;
    Ok(ExitCode::SUCCESS)
}
