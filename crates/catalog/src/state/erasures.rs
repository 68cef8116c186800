//! What was erased, and what is read in its place.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use feature::{BatchId, Sequence, TrainingSetId, ViewId};

use super::{ApplyError, Batch, Provenance, State, repeated, unresolved};
use crate::records::{Erased, ErasedSet, Object, Record, Replacement};

/// An erasure that was recorded.
#[derive(Clone, Debug)]
pub struct Erasure {
    pub record: Erased,
    pub by: Arc<Provenance>,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Erasures {
    /// In the order of the log.
    all: Vec<Erasure>,
    /// By the path that an entry or an earlier erasure names, what lies in its place.
    replaced: HashMap<String, Object>,
    /// Paths of other objects that went.
    gone: HashSet<String>,
    /// The last of each view.
    of_views: HashMap<ViewId, Sequence>,
    /// Rows of the files of manifests, by the path of what lies in their place.
    rows: HashMap<String, u64>,
}

/// Numbers of records that bring objects in which values of an entity may lie.
const BRING_VALUES: [u32; 10] = [20, 21, 30, 31, 33, 60, 67, 70, 83, 84];

impl Erasures {
    /// In the order of the log.
    pub fn all(&self) -> &[Erasure] {
        &self.all
    }

    /// The last of all.
    pub fn last(&self) -> Option<Sequence> {
        self.all.last().map(|one| one.by.sequence)
    }

    /// The last by which something of a view may have gone.
    pub fn last_of(&self, view: ViewId) -> Option<Sequence> {
        self.of_views.get(&view).copied()
    }

    /// Those of a view, in the order of the log.
    pub fn of_view(&self, view: ViewId) -> impl Iterator<Item = &Erasure> {
        self.all.iter().filter(move |one| one.record.views.contains(&view))
    }

    /// What was erased of a training set, by each erasure that met it, in the order of the log.
    pub fn of_set(&self, set: TrainingSetId) -> impl Iterator<Item = (&Erasure, &ErasedSet)> {
        self.all.iter().filter_map(move |one| {
            let of_set = one.record.sets.iter().find(|found| found.training_set == set)?;
            Some((one, of_set))
        })
    }

    /// What is read where an entry names this object: another one, if something of it was erased.
    pub fn in_force<'a>(&'a self, object: &'a Object) -> &'a Object {
        let mut found = object;
        // No object is replaced twice, so that this ends.
        while let Some(after) = self.replaced.get(&found.path) {
            found = after;
        }
        found
    }

    /// Whether an object is read no more, since something of it was erased.
    pub fn took(&self, path: &str) -> bool {
        self.gone.contains(path) || self.replaced.contains_key(path)
    }

    /// How many rows the files of a manifest have, where some of them were erased.
    pub fn rows_of(&self, manifest: &Object) -> Option<u64> {
        self.rows.get(&self.in_force(manifest).path).copied()
    }

    /// Takes one in that was found right.
    pub(super) fn recorded(&mut self, record: &Erased, by: &Arc<Provenance>) {
        for one in &record.replaced {
            if let Replacement::Manifest { rows, .. } | Replacement::Compaction { rows, .. } = one.of {
                self.rows.insert(one.after.path.clone(), rows);
            }
            self.replaced.insert(one.before.clone(), one.after.clone());
        }
        self.gone.extend(record.gone.iter().cloned());
        self.of_views.extend(record.views.iter().map(|view| (*view, by.sequence)));
        self.all.push(Erasure { record: record.clone(), by: by.clone() });
    }

    /// Those after a sequence, as records.
    pub(super) fn records_after(&self, after: Option<Sequence>) -> impl Iterator<Item = (Sequence, Record)> {
        let from = self.all.partition_point(|one| Some(one.by.sequence) <= after);
        let later = self.all.get(from..).unwrap_or_default();
        later.iter().map(|one| (one.by.sequence, one.record.clone().into()))
    }
}

/// Of [`State::derived_batches`] those of other views than these that were computed from rows of `lost` as they were before an entry, over however
/// many views. What they were computed from is known by batches, so that some may have nothing of it.
pub fn computed_from<'a>(
    derived: &[&'a Arc<Batch>],
    lost: &BTreeSet<BatchId>,
    views: &[ViewId],
    before: Sequence,
) -> Vec<&'a Arc<Batch>> {
    let mut found: BTreeSet<BatchId> = BTreeSet::new();
    let mut batches = Vec::new();
    for batch in derived.iter().filter(|batch| !views.contains(&batch.record.view)) {
        let Some(derivation) = &batch.record.derivation else { continue };
        let mut parents = derivation.parents.iter().flat_map(|parent| &parent.batches);
        let had_them = derivation.sequence < before;
        if parents.any(|parent| found.contains(parent) || (had_them && lost.contains(parent))) {
            found.insert(batch.record.batch);
            batches.push(*batch);
        }
    }
    batches
}

impl State {
    /// What was erased.
    pub fn erasures(&self) -> &Erasures {
        &self.erasures
    }

    /// The first entry after a sequence that brings an object in which values of an entity may lie; none where there is none.
    pub fn brought_after(&self, seen: Sequence) -> Option<Sequence> {
        let later = self.log().iter().rev().take_while(|line| line.by.sequence > seen);
        let brings = |number: &u32| BRING_VALUES.contains(number);
        let brought = later.filter(|line| line.records.iter().any(|(number, _)| brings(number)));
        brought.last().map(|line| line.by.sequence)
    }

    /// Every batch that a query made, in the order of the log; those that were kept back, too.
    pub fn derived_batches(&self) -> Vec<&Arc<Batch>> {
        let held = self.quarantine().all().iter().map(|held| &held.batch);
        let held = held.filter(|batch| self.batch(batch.record.batch).is_none());
        let all = self.batches().chain(held);
        let mut derived: Vec<_> = all.filter(|batch| batch.record.derivation.is_some()).collect();
        derived.sort_by_key(|batch| batch.by.sequence);
        derived
    }

    pub(super) fn erase(&mut self, body: &Erased, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let wrong = |why: String| Err(ApplyError::Erasure { sequence: by.sequence, why });
        if self.erasures.all.iter().any(|one| one.record.erasure == body.erasure) {
            return Err(repeated(by, "erasure", body.erasure.to_string()));
        }
        for view in &body.views {
            if self.views().all(|version| version.view != *view) {
                return Err(unresolved(by, "feature view", view.to_string()));
            }
        }
        if let Some(set) = body.sets.iter().find(|set| self.training_set(set.training_set).is_none()) {
            return Err(unresolved(by, "training set", set.training_set.to_string()));
        }
        if body.seen >= by.sequence {
            return wrong("it has seen entries that come after it".to_owned());
        }
        if let Some(brought) = self.brought_after(body.seen) {
            return wrong(format!(
                "it had looked at the log up to {}, and entry {brought} brings objects that may hold what it erases",
                body.seen
            ));
        }
        let mut paths = HashSet::new();
        let before = body.replaced.iter().map(|one| &one.before).chain(&body.gone);
        for path in before {
            if self.erasures.took(path) || !paths.insert(path) {
                return wrong(format!("`{path}` went before"));
            }
        }
        if let Some(one) = body.replaced.iter().find(|one| paths.contains(&one.after.path)) {
            return wrong(format!("`{}` is to be read, and to go", one.after.path));
        }
        Arc::make_mut(&mut self.erasures).recorded(body, by);
        Ok(())
    }
}
