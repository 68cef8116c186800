//! How long, deep and wide a statement may be.
//!
//! Parser and planner recurse, go back and try again, and write out what is named twice, so that a short text can take hours,
//! all memory, or more stack than there is. What does so is told three times, each before it can do harm: from the tokens before
//! anything is parsed, from the statement before it is planned, and from the plan before it is optimised. None of it asks how
//! much stack there is; `deep_stack` is the second line.

mod plan;
mod relations;
mod tokens;

pub use plan::{verify as verify_plan, verify_constants, verify_physical};
pub use relations::verify as verify_relations;
pub use tokens::verify as verify_text;

use datafusion::common::DataFusionError;

/// The longest SQL text, in bytes.
pub const TEXT_BYTES: usize = 1 << 20;

/// A measure of a statement that is over its limit. The text says which, how far, and what to write in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the statement has {found} {what}; at most {limit} are allowed: {instead}")]
pub struct TooMuch {
    pub what: &'static str,
    pub found: u64,
    pub limit: u64,
    pub instead: &'static str,
}

impl From<TooMuch> for DataFusionError {
    fn from(too_much: TooMuch) -> Self {
        DataFusionError::Plan(too_much.to_string())
    }
}

/// What is measured, how far it may go, and what to do where it goes further.
struct Limit {
    what: &'static str,
    most: u64,
    instead: &'static str,
}

impl Limit {
    fn verify(&self, found: u64) -> Result<(), TooMuch> {
        if found <= self.most {
            return Ok(());
        }
        Err(TooMuch { what: self.what, found, limit: self.most, instead: self.instead })
    }
}
