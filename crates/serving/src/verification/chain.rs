//! The log, entry by entry, as a chain and as a fold. Unlike who opens a store it does not stop at what is wrong.

use std::collections::{BTreeSet, VecDeque};

use async_recursion::async_recursion;
use bytes::Bytes;
use catalog::records::{Named, Object, Record, Replacement, TrainingSetRecorded};
use catalog::{Fold, State};
use feature::digest::{Digest, HashAlgorithm, hash};
use feature::{Sequence, StoreId, Timestamp, TrainingSetId};
use futures::{StreamExt, TryStreamExt};
use storage::Store;
use storage::entry::Entry;

use super::checkpoints::Descriptions;
use super::condemned::{Bound, Owner};
use super::inventory::{Inventory, entry_object};
use super::objects::{Reference, Role};
use super::report::{Fault, Harm, StoreVerification};
use crate::error::Result;

/// Entries asked for at once.
const AT_ONCE: u64 = 32;

/// A training set of the log.
pub(super) struct RecordedTrainingSet {
    pub id: TrainingSetId,
    pub manifest: Object,
}

pub(super) struct Walk<'a> {
    store: &'a Store,
    inventory: &'a Inventory,
    descriptions: &'a Descriptions,
    /// Whether every checkpoint is compared with the fold, or the newest alone.
    full: bool,
    next: Sequence,
    read: VecDeque<(Sequence, Option<Bytes>)>,
    last: Option<Last>,
    /// None from the first entry on that cannot be folded, or that is not what was written.
    fold: Option<Fold>,
    /// What the entries since the last call name.
    pub references: Vec<Reference>,
    pub training_sets: Vec<RecordedTrainingSet>,
    /// Descriptions of states that a program which knows more has folded.
    pub of_later_programs: BTreeSet<String>,
    /// What may be gone.
    pub bound: Bound,
    pending_bound: Bound,
    /// What the last entry names, which counts once the next one vouches for it.
    pending: Vec<Reference>,
}

/// The entry before.
struct Last {
    sequence: Sequence,
    digest: Digest,
    /// None where it cannot be read, and is a fault already.
    known: Option<(StoreId, Timestamp)>,
}

impl<'a> Walk<'a> {
    pub fn new(
        store: &'a Store,
        inventory: &'a Inventory,
        descriptions: &'a Descriptions,
        full: bool,
    ) -> Self {
        Self {
            store,
            inventory,
            descriptions,
            full,
            next: Sequence::ZERO,
            read: VecDeque::new(),
            last: None,
            fold: Some(Fold::default()),
            references: Vec::new(),
            training_sets: Vec::new(),
            of_later_programs: BTreeSet::new(),
            bound: Bound::default(),
            pending_bound: Bound::default(),
            pending: Vec::new(),
        }
    }

    /// Looks at the next so many entries; false where the log ends.
    #[async_recursion]
    pub async fn entries(&mut self, most: u64, report: &mut StoreVerification) -> Result<bool> {
        for _ in 0..most {
            let sequence = self.next;
            match self.take().await? {
                Some(bytes) => self.entry(sequence, &bytes, report).await?,
                None if self.ends_at(sequence) => {
                    self.settle(report);
                    return Ok(false);
                }
                None => self.missing(sequence, report),
            }
            self.next = sequence.next();
        }
        Ok(true)
    }

    /// What is to be said when the log was read to its end.
    pub fn conclude(&mut self, report: &mut StoreVerification) {
        if let Some(last) = &self.last {
            report.head = Some(last.sequence);
            report.head_digest = Some(last.digest);
            if self.descriptions.of_entry(last.sequence).next().is_none() {
                report.notes.push(format!(
                    "nothing vouches for the newest entry, {}: compare its digest with one that you noted, or write a checkpoint",
                    last.sequence
                ));
            }
        }
        if self.fold.is_none() {
            report.notes.push(
                "the log could not be folded to its end, so no checkpoint was compared with it after that"
                    .to_owned(),
            );
        }
    }

    async fn take(&mut self) -> Result<Option<Bytes>> {
        if self.read.is_empty() {
            let log = self.store.log();
            let asked = (0..AT_ONCE).map(|offset| {
                let sequence = Sequence(self.next.0 + offset);
                async move {
                    // An entry that is too large to be one is a fault and no failure.
                    match log.read_bytes(sequence).await {
                        Err(storage::Error::Corrupt { .. }) => Ok((sequence, Some(Bytes::new()))),
                        other => other.map(|bytes| (sequence, bytes)),
                    }
                }
            });
            let found: std::result::Result<Vec<_>, storage::Error> =
                futures::stream::iter(asked).buffered(AT_ONCE as usize).try_collect().await;
            self.read = found.map_err(catalog::Error::from)?.into();
        }
        Ok(self.read.pop_front().and_then(|(_, bytes)| bytes))
    }

    /// Whether no later entry is known.
    fn ends_at(&self, sequence: Sequence) -> bool {
        self.inventory.newest_entry().is_none_or(|newest| newest < sequence)
            && self.read.iter().all(|(_, bytes)| bytes.is_none())
    }

    fn missing(&mut self, sequence: Sequence, report: &mut StoreVerification) {
        self.settle(report);
        self.last = None;
        self.fold = None;
        let why = "it is missing, though later entries are there; entries are never deleted";
        report.faults.push(log_fault(sequence, why));
    }

    async fn entry(
        &mut self,
        sequence: Sequence,
        bytes: &Bytes,
        report: &mut StoreVerification,
    ) -> Result<()> {
        self.inventory.name(&entry_object(sequence));
        report.entries += 1;
        let algorithm = self.algorithm(bytes);
        let digest = hash(algorithm, bytes);
        let entry = match Entry::decode(sequence, bytes) {
            Ok(entry) => entry,
            Err(error) => {
                let why = match error {
                    storage::Error::Corrupt { why, .. } => why,
                    storage::Error::Newer { why, .. } => {
                        format!("a newer Lineament wrote it, or it was altered: {why}")
                    }
                    other => other.to_string(),
                };
                self.settle(report);
                report.faults.push(log_fault(sequence, why));
                self.last = Some(Last { sequence, digest, known: None });
                self.fold = None;
                return Ok(());
            }
        };
        let faults = report.faults.len();
        self.link(sequence, &entry, digest, report).await?;
        self.compare_with_checkpoints(sequence, digest, report).await?;
        let altered = |sequence| {
            let object = entry_object(sequence);
            report.faults.iter().skip(faults).any(|fault| fault.object == object)
        };
        // What an altered entry names was never written.
        if self.last.as_ref().is_some_and(|last| altered(last.sequence)) {
            self.pending.clear();
            self.pending_bound = Bound::default();
        }
        let altered = altered(sequence);
        self.settle(report);
        self.last = Some(Last { sequence, digest, known: Some((entry.store, entry.committed_at)) });
        if report.store.is_none() {
            report.store = Some(entry.store);
        }
        let records = self.records(&entry, digest, report);
        if !altered {
            self.pending = self.named_by(sequence, &records);
            self.pending_bound = Bound::of(&records);
        }
        self.compare_states(sequence, report)
    }

    /// The hash of the chain: as the entry names the one before, and in the first entry as it says.
    fn algorithm(&self, bytes: &Bytes) -> HashAlgorithm {
        if let Some(last) = &self.last {
            return last.digest.algorithm();
        }
        let first = Entry::decode(Sequence::ZERO, bytes).ok();
        let named =
            first.and_then(|entry| entry.records.first()?.body.get("hash")?.as_str().map(str::to_owned));
        let known = |name: &String| HashAlgorithm::ALL.into_iter().find(|known| known.name() == name);
        named.as_ref().and_then(known).unwrap_or(HashAlgorithm::Blake3)
    }

    /// Whether the entry follows the one before.
    async fn link(
        &mut self,
        sequence: Sequence,
        entry: &Entry,
        digest: Digest,
        report: &mut StoreVerification,
    ) -> Result<()> {
        let Some(Last { sequence: before, digest: actual, known }) = self.last else { return Ok(()) };
        // What cannot be read is named already; that the next does not fit it follows.
        let Some((store, committed_at)) = known else { return Ok(()) };
        if entry.previous != Some(actual) {
            let expected = entry.previous.map_or_else(|| "none".to_owned(), |digest| digest.to_string());
            let misfit = format!(
                "entry {sequence} expects digest {expected} of entry {before}, whose bytes give {actual}"
            );
            let fault = match self.sound(sequence, digest, before, actual).await? {
                Some(true) => log_fault(before, format!("it was altered: {misfit}")),
                Some(false) => log_fault(sequence, format!("it was altered: {misfit}")),
                None => log_fault(
                    before,
                    format!(
                        "it was altered: {misfit}; or else {} was, the newest, which no other vouches for",
                        entry_object(sequence)
                    ),
                ),
            };
            report.faults.push(fault);
            self.fold = None;
        } else if entry.store != store {
            let why = format!("it is of store {}, and the entry before of store {store}", entry.store);
            report.faults.push(log_fault(sequence, why));
            self.fold = None;
        } else if entry.committed_at <= committed_at {
            let why =
                format!("it is dated {}, not after the entry before ({committed_at})", entry.committed_at);
            report.faults.push(log_fault(sequence, why));
        }
        Ok(())
    }

    /// Of two entries that do not fit: whether the later is what was written, as far as others vouch for either.
    async fn sound(
        &self,
        later: Sequence,
        digest: Digest,
        before: Sequence,
        before_digest: Digest,
    ) -> Result<Option<bool>> {
        if self.descriptions.of_entry(before).any(|checkpoint| checkpoint.entry == before_digest) {
            return Ok(Some(false));
        }
        if let Some(checkpoint) = self.descriptions.of_entry(later).next() {
            return Ok(Some(checkpoint.entry == digest));
        }
        let after = later.next();
        let bytes = match self.store.log().read_bytes(after).await {
            Ok(bytes) => bytes,
            Err(storage::Error::Corrupt { .. }) => None,
            Err(error) => return Err(catalog::Error::from(error).into()),
        };
        let witness = bytes.and_then(|bytes| Entry::decode(after, &bytes).ok());
        Ok(witness.map(|witness| witness.previous == Some(digest)))
    }

    /// Whether the checkpoints of an entry are of this one.
    async fn compare_with_checkpoints(
        &mut self,
        sequence: Sequence,
        digest: Digest,
        report: &mut StoreVerification,
    ) -> Result<()> {
        let Some(strange) =
            self.descriptions.of_entry(sequence).find(|checkpoint| checkpoint.entry != digest)
        else {
            return Ok(());
        };
        let why =
            format!("it names digest {} of log entry {sequence}, whose bytes give {digest}", strange.entry);
        let object = self.descriptions.object_of(strange);
        let after = sequence.next();
        let next = self.store.log().read_bytes(after).await.map_err(catalog::Error::from)?;
        let next = next.and_then(|bytes| Entry::decode(after, &bytes).ok());
        if next.is_some_and(|next| next.previous == Some(digest)) {
            report.faults.push(
                Fault::new(object, format!("{why}: it is of another history"))
                    .harming(Harm::Opening)
                    .advising("mend the store: the log gives the checkpoint again"),
            );
        } else {
            let why = format!(
                "it was altered: its bytes give {digest}, and {object} names digest {} of it",
                strange.entry
            );
            report.faults.push(log_fault(sequence, why));
            self.fold = None;
        }
        Ok(())
    }

    /// The records of an entry, folded where all before could be.
    fn records(&mut self, entry: &Entry, digest: Digest, report: &mut StoreVerification) -> Vec<Record> {
        if let Some(fold) = &mut self.fold {
            match fold.apply(entry, digest) {
                Ok(records) => return records,
                Err(error) => {
                    let why = match error {
                        catalog::Error::Damaged { why, .. } => why,
                        other => other.to_string(),
                    };
                    report.faults.push(log_fault(entry.sequence, format!("it cannot be folded: {why}")));
                    self.fold = None;
                }
            }
        }
        // What they name is there all the same.
        entry.records.iter().filter_map(|raw| Record::decode(raw.number, &raw.body).ok()).collect()
    }

    /// What the last entry names counts.
    fn settle(&mut self, report: &mut StoreVerification) {
        self.bound.join(std::mem::take(&mut self.pending_bound));
        for reference in std::mem::take(&mut self.pending) {
            match &reference.role {
                Role::Manifest { .. } => report.batches += 1,
                Role::TrainingSet(record) => {
                    report.training_sets += 1;
                    let (id, manifest) = (record.training_set, reference.object.clone());
                    self.training_sets.push(RecordedTrainingSet { id, manifest });
                }
                Role::LeftSet(record) => {
                    let (id, manifest) = (record.training_set, reference.object.clone());
                    self.training_sets.push(RecordedTrainingSet { id, manifest });
                }
                _ => {}
            }
            self.references.push(reference);
        }
    }

    fn named_by(&self, sequence: Sequence, records: &[Record]) -> Vec<Reference> {
        let state = self.fold.as_ref().and_then(Fold::state);
        let keys = |version| {
            let version = state.and_then(|state| state.view_version(version))?;
            Some(version.keys().iter().map(|key| key.name.to_string()).collect::<Vec<_>>())
        };
        let reference = |(named, object): (Named<'_>, &Object)| {
            let role = match named {
                Named::Manifest(record) => {
                    Role::Manifest { record: Box::new(record.clone()), keys: keys(record.version) }
                }
                Named::Compaction(record) => {
                    Role::Compaction { record: Box::new(record.clone()), keys: keys(record.version) }
                }
                Named::Quarantine { batch, rejected } => Role::Quarantine { batch, rejected },
                Named::BatchBody(batch) => Role::BatchBody(batch),
                Named::Profile(batch) => Role::Profile(batch),
                Named::SampleProfile(sample) => Role::SampleProfile(sample),
                Named::Mended(record) => Role::Mended { batch: record.batch, rows: record.rows },
                Named::TrainingSet(record) => Role::TrainingSet(Box::new(record.clone())),
                Named::Reads(record) => Role::Reads { reads: record.reads },
                Named::KeptSpine(record) => Role::KeptSpine(Box::new(record.clone())),
                Named::Observation => Role::Observation,
                Named::MaskKey => Role::MaskKey,
                Named::ErasureSecret => Role::Plain,
                Named::Erased(left) => self.left(left),
            };
            Reference { sequence, object: object.clone(), role }
        };
        records.iter().flat_map(Record::objects).map(reference).collect()
    }

    /// What lies in the place of an object of which something was erased. Where the log could not be folded so far, its bytes alone are looked
    /// at of what only the fold can tell.
    fn left(&self, left: &Replacement) -> Role {
        let state = self.fold.as_ref().and_then(Fold::state);
        let keys = |version| {
            let version = state.and_then(|state| state.view_version(version))?;
            Some(version.keys().iter().map(|key| key.name.to_string()).collect::<Vec<_>>())
        };
        match left {
            Replacement::Manifest { batch, version, rows, digest } => Role::Left {
                owner: Owner::Batch(*batch),
                rows: *rows,
                digest: Some(*digest),
                keys: keys(*version),
                merged: None,
            },
            Replacement::Compaction { compaction, version, rows } => {
                let merged = state.and_then(|state| {
                    let one = state.compactions().find(|one| one.record.compaction == *compaction)?;
                    let batches = state.batches_of_line(one.line).get(one.places()).unwrap_or_default();
                    let batches = batches.iter().map(|batch| batch.record.batch).collect();
                    Some(Box::new((one.by.sequence, one.record.clone(), batches)))
                });
                let (owner, keys) = (Owner::Compaction(*compaction), keys(*version));
                Role::Left { owner, rows: *rows, digest: None, keys, merged }
            }
            Replacement::Quarantine { batch, rejected } => {
                Role::Quarantine { batch: *batch, rejected: *rejected }
            }
            Replacement::Profile { batch } => Role::Profile(*batch),
            Replacement::TrainingSet { training_set, digest } => {
                let record = state.and_then(|state| state.training_set(*training_set)).map(|set| &set.record);
                match record {
                    Some(record) => {
                        let digest = digest.clone();
                        Role::LeftSet(Box::new(TrainingSetRecorded { digest, ..record.clone() }))
                    }
                    None => Role::Plain,
                }
            }
            Replacement::Reads { reads } => Role::Reads { reads: *reads },
        }
    }

    /// Whether the checkpoints at an entry hold the state that the log gives there.
    fn compare_states(&mut self, sequence: Sequence, report: &mut StoreVerification) -> Result<()> {
        let Some(fold) = &mut self.fold else { return Ok(()) };
        let newest = self.descriptions.newest();
        if !self.full && newest != Some(sequence) {
            return Ok(());
        }
        let mut folded = None;
        for checkpoint in self.descriptions.of_entry(sequence) {
            let folded = match folded {
                Some(folded) => folded,
                None => *folded.insert(fold.state_digest()?),
            };
            if checkpoint.state == folded {
                report.checkpoints += 1;
                continue;
            }
            // Who knew fields that are passed over here has them in the state.
            let unread = fold.state().map(State::unread).unwrap_or_default();
            let passed_over = &checkpoint.unread;
            if passed_over.len() < unread.len() && passed_over.iter().all(|one| unread.contains(one)) {
                let name = self.descriptions.object_of(checkpoint);
                report.notes.push(format!(
                    "{name}: its writer knew fields of records that this program does not: it was not compared"
                ));
                self.of_later_programs.insert(name);
                continue;
            }
            let why = format!(
                "it holds a wrong state: it names {}, and the log folds to {folded}",
                checkpoint.state
            );
            report.faults.push(
                Fault::new(self.descriptions.object_of(checkpoint), why)
                    .harming(Harm::Log { sequence })
                    .advising("mend the store: the log gives the checkpoint again"),
            );
        }
        Ok(())
    }
}

fn log_fault(sequence: Sequence, why: impl Into<String>) -> Fault {
    Fault::new(entry_object(sequence), why)
        .at(sequence)
        .harming(Harm::Log { sequence })
        .advising("restore this one object from a copy of the store; write nothing to the store before")
}
