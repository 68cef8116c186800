//! What may be gone: the data files that a compaction replaced, as far as a sweep says so.

use std::collections::{BTreeSet, HashMap};

use catalog::records::{Compacted, Record, Swept};
use feature::{BatchId, CompactionId, Sequence};
use storage::Store;
use storage::entry::Entry;

use super::report::Fault;
use crate::error::Result;

/// Whose files they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    Batch(BatchId),
    Compaction(CompactionId),
}

/// What a compaction put into other files, by its record and its own manifest: that needs no fold.
pub(super) struct Replacement {
    sequence: Sequence,
    owners: Vec<Owner>,
}

impl Replacement {
    pub fn of(sequence: Sequence, record: &Compacted, batches: BTreeSet<BatchId>) -> Self {
        let batches = batches.into_iter().map(Owner::Batch);
        let owners = batches.chain(record.replaces.iter().copied().map(Owner::Compaction)).collect();
        Self { sequence, owners }
    }
}

/// Data files that are not there, until it is known which of them may be gone.
#[derive(Default)]
pub(super) struct Absent {
    missing: Vec<(Owner, Fault)>,
    /// The compaction that replaced each first.
    replaced: HashMap<Owner, Sequence>,
}

impl Absent {
    pub fn missing(&mut self, owner: Owner, fault: Fault) {
        self.missing.push((owner, fault));
    }

    pub fn replaced(&mut self, by: Replacement) {
        for owner in by.owners {
            let first = self.replaced.entry(owner).or_insert(by.sequence);
            *first = by.sequence.min(*first);
        }
    }

    /// The faults that no sweep explains. `swept`: the last compaction that one condemned the replaced files of, as far as the log was read;
    /// a sweep may have come since.
    pub async fn faults(
        self,
        store: &Store,
        swept: Option<Sequence>,
        head: Option<Sequence>,
    ) -> Result<Vec<Fault>> {
        let swept = if self.missing.is_empty() { swept } else { swept.max(swept_since(store, head).await?) };
        let condemned = |owner: &Owner| self.replaced.get(owner).is_some_and(|at| Some(*at) <= swept);
        Ok(self.missing.into_iter().filter(|(owner, _)| !condemned(owner)).map(|(_, fault)| fault).collect())
    }
}

/// The compaction up to which a record says that replaced files may be gone.
pub(super) fn bound(records: &[Record]) -> Option<Sequence> {
    let swept = records.iter().filter_map(|record| match record {
        Record::Swept(Swept { compacted, .. }) => *compacted,
        _ => None,
    });
    swept.max()
}

/// The same of what was appended after the log had been read.
async fn swept_since(store: &Store, head: Option<Sequence>) -> Result<Option<Sequence>> {
    let Some(head) = head else { return Ok(None) };
    let (mut next, mut found) = (head.next(), None);
    while let Some(bytes) = store.log().read_bytes(next).await.map_err(catalog::Error::from)? {
        let Ok(entry) = Entry::decode(next, &bytes) else { break };
        let records: Vec<Record> =
            entry.records.iter().filter_map(|raw| Record::decode(raw.number, &raw.body).ok()).collect();
        found = found.max(bound(&records));
        next = next.next();
    }
    Ok(found)
}
