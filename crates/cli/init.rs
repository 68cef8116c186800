//! `lineament init`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use feature::inference::Inference;
use serving::{Error, Kind, Result};

use crate::session::file_error;

/// Write first definitions from a data file: inferred types, observed ranges, null rules
#[derive(Args)]
pub struct Arguments {
    /// A Parquet, CSV or Arrow file
    #[arg(long)]
    from: PathBuf,
    /// The key column; several by commas
    #[arg(long, value_delimiter = ',', required = true)]
    key: Vec<String>,
    /// The column that says when a row's values are true
    #[arg(long)]
    time: String,
    /// The feature view's name; the file's name where none is given
    #[arg(long)]
    name: Option<feature::Name>,
    /// The folder to write to
    #[arg(long, default_value = "features")]
    folder: PathBuf,
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    let invalid = |error: &dyn std::fmt::Display| Error::new(Kind::Invalid, error.to_string());
    let rows = catalog::ingest::read_file(&arguments.from, None)?;
    let mut inference = Inference::new(rows.schema.clone(), &arguments.key, &arguments.time)
        .map_err(|error| invalid(&error))?;
    let stem = arguments.from.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    inference = inference.view_name(match arguments.name {
        Some(name) => name,
        None => feature::definition::valid_name(&stem),
    });
    std::fs::create_dir_all(&arguments.folder).map_err(|error| file_error(&arguments.folder, error))?;
    let source = std::path::absolute(&arguments.from).map_err(|error| file_error(&arguments.from, error))?;
    inference = inference.source(&source.display().to_string(), None);
    for batch in &rows.batches {
        inference.observe(batch).map_err(|error| invalid(&error))?;
    }
    let (entity, view) = inference.names();
    let entity_file = arguments.folder.join(format!("entity_{entity}.toml"));
    let view_file = arguments.folder.join(format!("{view}.toml"));
    let inferred = inference.finish();
    for (path, text) in [(&entity_file, &inferred.entity_toml), (&view_file, &inferred.view_toml)] {
        if path.exists() {
            return Err(Error::new(
                Kind::Invalid,
                format!("`{}` exists; it was not touched: give another --name or --folder", path.display()),
            ));
        }
        std::fs::write(path, text).map_err(|error| file_error(path, error))?;
        println!("wrote {}", path.display());
    }
    for warning in &inferred.warnings {
        println!("warning: {warning}");
    }
    println!("read them, then: lineament apply {}", arguments.folder.display());
    Ok(ExitCode::SUCCESS)
}
