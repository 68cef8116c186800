//! What may be gone: the data files that a compaction replaced and the spines that clients put up, as far as a sweep says so, and data
//! files of which a record says that all rows are gone.

use std::collections::{BTreeSet, HashMap};

use async_recursion::async_recursion;
use catalog::records::{Compacted, Record, Swept};
use feature::{BatchId, CompactionId, Sequence, SpineId, Timestamp};
use storage::Store;
use storage::entry::Entry;

use super::report::Fault;
use crate::error::Result;

/// Whose files they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    Batch(BatchId),
    Compaction(CompactionId),
    KeptSpine(SpineId),
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

/// What records say that may be gone.
#[derive(Default)]
pub(super) struct Bound {
    /// The last compaction of which the replaced files may be.
    swept: Option<Sequence>,
    /// Rows of a batch that are valid before the instant.
    deleted: HashMap<BatchId, Timestamp>,
    /// Spines that were dropped.
    spines: BTreeSet<SpineId>,
    /// Paths of objects that an erasure let go.
    erased: BTreeSet<String>,
}

impl Bound {
    pub fn of(records: &[Record]) -> Self {
        let mut bound = Self::default();
        for record in records {
            match record {
                Record::Swept(Swept { compacted, .. }) => bound.swept = bound.swept.max(*compacted),
                Record::RowsDeleted(body) => {
                    for batch in &body.batches {
                        let before = bound.deleted.entry(*batch).or_insert(body.before);
                        *before = body.before.max(*before);
                    }
                }
                Record::SpinesDropped(dropped) => bound.spines.extend(&dropped.spines),
                Record::Erased(body) => {
                    let before = body.replaced.iter().map(|one| &one.before);
                    bound.erased.extend(before.chain(&body.gone).cloned());
                }
                _ => {}
            }
        }
        bound
    }

    pub fn join(&mut self, other: Self) {
        self.swept = self.swept.max(other.swept);
        self.spines.extend(other.spines);
        self.erased.extend(other.erased);
        for (batch, before) in other.deleted {
            let known = self.deleted.entry(batch).or_insert(before);
            *known = before.max(*known);
        }
    }

    /// Whether an erasure let an object go, by its path.
    pub fn erases(&self, object: &str) -> bool {
        self.erased.contains(object)
    }

    /// Whether all rows of a file are gone.
    fn deletes(&self, file: &Missing) -> bool {
        file.newest.is_some_and(|newest| {
            file.batches
                .iter()
                .all(|batch| self.deleted.get(batch).is_some_and(|before| newest < before.micros()))
        })
    }
}

/// A data file that is not there.
pub(super) struct Missing {
    pub owner: Owner,
    pub batches: Vec<BatchId>,
    /// The greatest valid_at of its rows.
    pub newest: Option<i64>,
    pub fault: Fault,
}

/// Data files that are not there, until it is known which of them may be gone.
#[derive(Default)]
pub(super) struct Absent {
    missing: Vec<Missing>,
    /// The compaction that replaced each first.
    replaced: HashMap<Owner, Sequence>,
}

impl Absent {
    pub fn missing(&mut self, file: Missing) {
        self.missing.push(file);
    }

    pub fn replaced(&mut self, by: Replacement) {
        for owner in by.owners {
            let first = self.replaced.entry(owner).or_insert(by.sequence);
            *first = by.sequence.min(*first);
        }
    }

    /// The faults that no record explains. `bound`: what records say as far as the log was read; more may have come since.
    #[async_recursion]
    pub async fn faults(self, store: &Store, mut bound: Bound, head: Option<Sequence>) -> Result<Vec<Fault>> {
        if !self.missing.is_empty() {
            bound.join(bound_since(store, head).await?);
        }
        let replaced = |owner: &Owner| match owner {
            Owner::KeptSpine(spine) => bound.spines.contains(spine),
            owner => self.replaced.get(owner).is_some_and(|at| Some(*at) <= bound.swept),
        };
        let unexplained = |file: &Missing| {
            !replaced(&file.owner) && !bound.deletes(file) && !bound.erases(&file.fault.object)
        };
        Ok(self.missing.into_iter().filter(unexplained).map(|file| file.fault).collect())
    }
}

/// What was appended after the log had been read.
pub(super) async fn bound_since(store: &Store, head: Option<Sequence>) -> Result<Bound> {
    let mut found = Bound::default();
    let Some(head) = head else { return Ok(found) };
    let mut next = head.next();
    while let Some(bytes) = store.log().read_bytes(next).await.map_err(catalog::Error::from)? {
        let Ok(entry) = Entry::decode(next, &bytes) else { break };
        let records: Vec<Record> =
            entry.records.iter().filter_map(|raw| Record::decode(raw.number, &raw.body).ok()).collect();
        found.join(Bound::of(&records));
        next = next.next();
    }
    Ok(found)
}
