//! The fold, an entry at a time, for who reads the log in a way of its own.

use feature::digest::Digest;
use storage::entry::Entry;

use crate::catalog::fold;
use crate::checkpoint::state_digest;
use crate::error::{Error, Result};
use crate::records::Record;
use crate::state::State;

/// A state on its way through the log.
#[derive(Default)]
pub struct Fold {
    state: Option<State>,
    /// Digests of the blocks of entries that are full.
    blocks: Vec<Digest>,
}

impl Fold {
    /// Takes in the next entry, which is the first for a fold that is new, and gives its records.
    ///
    /// # Errors
    /// `Damaged` where a record is unknown or cannot be applied. What was half folded is worth nothing: the fold is
    /// new again after that.
    pub fn apply(&mut self, entry: &Entry, digest: Digest) -> Result<Vec<Record>> {
        let folded = fold(&mut self.state, entry, digest);
        if folded.is_err() {
            *self = Self::default();
        }
        folded
    }

    /// The state after the entry that was taken in last; none before the first.
    pub fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// The digest of the state, as a checkpoint of it names it. What full blocks give is kept, so that asking again costs
    /// as much as was folded since.
    ///
    /// # Errors
    /// `Internal` where the state cannot be written as tables, or nothing was folded yet.
    pub fn state_digest(&mut self) -> Result<Digest> {
        let failed = |error: String| Error::internal("the state has no digest", error);
        let state = self.state.as_ref().ok_or_else(|| failed("nothing was folded".to_owned()))?;
        let first = state_digest::begin(self.blocks.len());
        let after = first.0.checked_sub(1).map(feature::Sequence);
        let tables = state.tables_after(after).map_err(|error| failed(error.to_string()))?;
        let known = std::mem::take(&mut self.blocks);
        let blocks = state_digest::blocks(state.hash, &tables, known, state.head.sequence);
        let blocks = blocks.map_err(|error| failed(error.to_string()))?;
        let digest = blocks.digest(&tables).map_err(|error| failed(error.to_string()))?;
        self.blocks = blocks.whole;
        Ok(digest)
    }
}
