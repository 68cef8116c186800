//! What is kept because somebody says so, at each sequence.

use std::collections::HashMap;
use std::sync::Arc;

use feature::{HoldId, Sequence};

use super::{ApplyError, Provenance, State, repeated, unresolved};
use crate::records::{HeldKind, HoldLifted, HoldPlaced, Record};

/// A hold, in force or lifted.
#[derive(Clone, Debug)]
pub struct Hold {
    pub record: HoldPlaced,
    pub by: Arc<Provenance>,
    /// When it was lifted and why; none while it is in force.
    pub lifted: Option<(HoldLifted, Arc<Provenance>)>,
}

impl Hold {
    /// Whether it was in force at a sequence.
    pub fn is_in_force(&self, at: Sequence) -> bool {
        self.by.sequence <= at && self.lifted.as_ref().is_none_or(|(_, by)| by.sequence > at)
    }
}

/// All holds.
#[derive(Clone, Debug, Default)]
pub struct Holds {
    /// In the order of the log.
    all: Vec<Hold>,
    places: HashMap<HoldId, usize>,
}

impl Holds {
    /// In the order of the log, those that were lifted among them.
    pub fn all(&self) -> &[Hold] {
        &self.all
    }

    pub fn find(&self, hold: HoldId) -> Option<&Hold> {
        self.all.get(*self.places.get(&hold)?)
    }

    pub(super) fn place(&mut self, record: &HoldPlaced, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        if self.places.insert(record.hold, self.all.len()).is_some() {
            return Err(repeated(by, "hold", record.hold.to_string()));
        }
        self.all.push(Hold { record: record.clone(), by: by.clone(), lifted: None });
        Ok(())
    }

    pub(super) fn lift(&mut self, record: &HoldLifted, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let missing = || unresolved(by, "hold", record.hold.to_string());
        let place = *self.places.get(&record.hold).ok_or_else(missing)?;
        let hold = self.all.get_mut(place).ok_or_else(missing)?;
        if hold.lifted.is_some() {
            return Err(repeated(by, "the lifting of hold", record.hold.to_string()));
        }
        hold.lifted = Some((record.clone(), by.clone()));
        Ok(())
    }

    /// Those after a sequence, as records.
    pub(super) fn records_after(&self, after: Option<Sequence>) -> impl Iterator<Item = (Sequence, Record)> {
        let placed = self.all.iter().map(|hold| (hold.by.sequence, Record::from(hold.record.clone())));
        let lifted = self.all.iter().filter_map(|hold| hold.lifted.as_ref());
        let lifted = lifted.map(|(record, by)| (by.sequence, Record::from(record.clone())));
        placed.chain(lifted).filter(move |(sequence, _)| Some(*sequence) > after)
    }
}

impl State {
    /// What is kept because somebody says so.
    pub fn holds(&self) -> &Holds {
        &self.holds
    }

    pub(super) fn place_hold(&mut self, body: &HoldPlaced, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let is_there = match body.kind {
            HeldKind::Batch => self.batch(body.id.into()).is_some(),
            HeldKind::Version => self.view_version(body.id.into()).is_some(),
            HeldKind::TrainingSet => self.training_set(body.id.into()).is_some(),
            HeldKind::ModelVersion => self.registry.has_model_version(body.id.into()),
        };
        if !is_there {
            return Err(unresolved(by, "what is held,", body.id.to_string()));
        }
        Arc::make_mut(&mut self.holds).place(body, by)
    }
}
