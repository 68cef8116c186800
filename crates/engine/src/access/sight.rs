//! What of the numbers about a version may be told to an asker: system views, lineage and impact tell no more than queries would.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use catalog::state::{Batch, State, TrainingSet, ViewVersion};
use feature::{TrainingSetId, VersionId};

use super::Guard;
use crate::snapshot::Snapshot;

/// How much of a version an asker sees.
#[derive(Clone, Debug)]
pub enum Sight {
    /// All of it.
    Whole,
    /// Every row, and some features not, or not as they are.
    Rows(Arc<Guard>),
    /// Not every row, or nothing.
    Part,
}

impl Sight {
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Whole)
    }

    /// Whether numbers of rows, and the bounds of their times, may be told: `count(*)` would tell them too.
    pub fn counts(&self) -> bool {
        !matches!(self, Self::Part)
    }

    /// Whether what is known of a feature's values may be told.
    pub fn shows(&self, feature: &str) -> bool {
        match self {
            Self::Whole => true,
            Self::Rows(guard) => !guard.veils(feature),
            Self::Part => false,
        }
    }
}

/// What the asker of a snapshot sees of its versions, each decided once.
pub struct Sights<'a> {
    snapshot: &'a Snapshot,
    known: Mutex<HashMap<VersionId, Sight>>,
}

impl<'a> Sights<'a> {
    pub fn of_snapshot(snapshot: &'a Snapshot) -> Self {
        Self { snapshot, known: Mutex::default() }
    }

    pub fn of(&self, version: &ViewVersion) -> Sight {
        if self.snapshot.guards.is_none() {
            return Sight::Whole;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let decided = || match self.snapshot.guard(version) {
            Ok(None) => Sight::Whole,
            Ok(Some(guard)) if guard.rows().is_none() => Sight::Rows(guard),
            Ok(Some(_)) | Err(_) => Sight::Part,
        };
        known.entry(version.version).or_insert_with(decided).clone()
    }

    /// Of a version that the store may not know: of those nothing is told.
    pub fn of_id(&self, version: VersionId) -> Sight {
        match self.state().view_version(version) {
            Some(version) => self.of(version),
            None if self.snapshot.guards.is_none() => Sight::Whole,
            None => Sight::Part,
        }
    }

    /// Whether the version that a batch was written under is seen whole, and all that a refresh made it of: a literal of its query may be
    /// a value of either.
    pub fn of_batch(&self, batch: &Batch) -> bool {
        let parents = batch.record.derivation.iter().flat_map(|made| &made.parents);
        let mut versions = parents.map(|parent| parent.version).chain([batch.record.version]);
        versions.all(|version| self.of_id(version).is_whole())
    }

    /// Whether a recorded set's digest and cells may be told: to whoever recorded it, and to whoever sees all that it was selected from.
    pub fn of_set(&self, set: &TrainingSet) -> bool {
        let Some(guards) = &self.snapshot.guards else { return true };
        if guards.is_asker(&set.by.principal) {
            return true;
        }
        // Entries of the first programs do not say what they were selected from.
        let selected = set.record.selected.as_deref();
        selected.is_some_and(|selected| selected.iter().all(|one| self.of_id(one.version).is_whole()))
    }

    /// The same of a set by its id; of one that is not known nothing is told.
    pub fn of_set_id(&self, set: TrainingSetId) -> bool {
        self.snapshot.guards.is_none() || self.state().training_set(set).is_some_and(|set| self.of_set(set))
    }

    fn state(&self) -> &State {
        &self.snapshot.state
    }
}
