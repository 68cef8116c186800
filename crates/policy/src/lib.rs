//! Who may see what: policies in Cedar, and the decisions that they give.
//!
//! A folder's `.cedar` files are parsed, held against one schema ([`SCHEMA`]) and made ready to decide by [`Cedar`]. Nothing else
//! of the program knows Cedar: it asks through `feature::policy`. [`cases`] are what a folder says should be decided.

pub mod cases;

mod compiled;
mod entities;
mod errors;
mod schema;
mod slices;
mod source;

use std::sync::Arc;

use feature::definition::DefinitionErrors;
use feature::policy::{Policies, PolicyFile, PolicyLanguage};

pub use schema::SCHEMA;

use compiled::Compiled;

/// Policies are written in Cedar.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cedar;

impl PolicyLanguage for Cedar {
    fn compile(&self, files: &[PolicyFile]) -> Result<Arc<dyn Policies>, String> {
        let compiled = compile(files).map_err(|errors| errors.to_string())?;
        Ok(Arc::new(compiled))
    }
}

/// # Errors
/// All that is wrong with the files.
pub fn compile(files: &[PolicyFile]) -> Result<Compiled, DefinitionErrors> {
    Compiled::new(source::parse(files)?)
}

#[cfg(test)]
mod tests;
