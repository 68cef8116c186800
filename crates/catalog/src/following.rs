//! The log read from its beginning, entry by entry, each with the state right after it.
//!
//! The state of a [`Catalog`] answers for its head, and a few things in it (descriptions) are as they are
//! there. Who tells of each entry what was true at that entry, whenever it is asked, follows the log with a
//! state of its own.

use std::collections::VecDeque;

use feature::Sequence;
use feature::digest::Digest;
use futures::StreamExt;
use storage::entry::Entry;

use crate::catalog::{Catalog, decoded, fold, provenance};
use crate::error::{Error, Result};
use crate::records::Record;
use crate::state::{Provenance, State};

/// Entries that are read at a time.
const AT_A_TIME: usize = 16;

/// An entry of the log, decoded.
#[derive(Clone, Debug)]
pub struct Followed {
    pub by: Provenance,
    pub records: Vec<Record>,
}

/// The entries after one up to another, decoded and not folded, each checked for itself.
///
/// # Errors
/// Those of the storage, and `Damaged` for an entry that is missing or cannot be read.
pub async fn entries_between(catalog: &Catalog, after: Sequence, until: Sequence) -> Result<Vec<Followed>> {
    let read = |sequence: u64| {
        let log = catalog.store().log().clone();
        async move { (Sequence(sequence), log.read(Sequence(sequence)).await) }
    };
    let numbers = after.0.saturating_add(1)..=until.0;
    let read: Vec<_> = futures::stream::iter(numbers.map(read)).buffered(AT_A_TIME).collect().await;
    let mut entries = Vec::with_capacity(read.len());
    for (sequence, entry) in read {
        let missing = || Error::Damaged { sequence, why: "the entry is missing".to_owned() };
        let (entry, _) = entry?.ok_or_else(missing)?;
        entries.push(Followed { by: provenance(&entry), records: decoded(&entry)? });
    }
    Ok(entries)
}

/// A reader on its way through the log.
pub struct Following {
    catalog: Catalog,
    state: Option<State>,
    waiting: VecDeque<(Entry, Digest)>,
}

impl Following {
    /// A reader that stands before the first entry.
    pub fn new(catalog: Catalog) -> Self {
        Self { catalog, state: None, waiting: VecDeque::new() }
    }

    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The state after the entry that was given last; none before the first.
    pub fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// The newest sequence that is known here, given or not.
    pub fn known_head(&self) -> Sequence {
        let read = self.waiting.back().map(|(entry, _)| entry.sequence);
        let given = self.state.as_ref().map(|state| state.head.sequence);
        read.or(given).unwrap_or(Sequence::ZERO).max(self.catalog.state().head.sequence)
    }

    /// The next entry; none where the log ends for now. [`Self::state`] holds it afterwards.
    ///
    /// # Errors
    /// Those of the storage, and `Damaged` for an entry that cannot be folded. After an error the reader
    /// begins again at the first entry.
    pub async fn next(&mut self) -> Result<Option<Followed>> {
        if self.waiting.is_empty() {
            let head = self.state.as_ref().map(|state| (state.head.sequence, state.head.digest));
            self.waiting = self.catalog.store().log().entries_after(head).await?.into();
        }
        let Some((entry, digest)) = self.waiting.pop_front() else { return Ok(None) };
        match fold(&mut self.state, &entry, digest) {
            Ok(records) => Ok(Some(Followed { by: provenance(&entry), records })),
            Err(error) => {
                // What was half folded is worth nothing.
                self.state = None;
                self.waiting.clear();
                Err(error)
            }
        }
    }
}
