//! Spines that are kept under the digest of their rows, and until when.

use std::collections::HashMap;
use std::sync::Arc;

use feature::{Sequence, SpineId, Timestamp};

use super::{ApplyError, Provenance, State, repeated, unresolved};
use crate::records::{Record, SpineKept, SpineUsed, SpinesDropped};

/// A spine that was kept.
#[derive(Clone, Debug)]
pub struct Spine {
    pub record: SpineKept,
    /// Each time that it was put up.
    pub kept: Vec<Arc<Provenance>>,
    /// The first training set that was made for it, and when.
    pub used: Option<(SpineUsed, Arc<Provenance>)>,
    pub dropped: Option<Arc<Provenance>>,
}

impl Spine {
    /// When it was put up last.
    pub fn kept_at(&self) -> Timestamp {
        self.kept.last().map_or(Timestamp(0), |by| by.committed_at)
    }

    /// Whether it is kept and no training set was made for it, so that it may be dropped.
    pub fn is_idle(&self) -> bool {
        self.used.is_none() && self.dropped.is_none()
    }
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Spines {
    /// In the order of the log.
    all: Vec<Spine>,
    by_id: HashMap<SpineId, usize>,
    /// Those that are kept.
    by_digest: HashMap<String, usize>,
}

impl Spines {
    /// In the order of the log, those that were dropped among them.
    pub fn all(&self) -> &[Spine] {
        &self.all
    }

    pub fn find(&self, spine: SpineId) -> Option<&Spine> {
        self.all.get(*self.by_id.get(&spine)?)
    }

    /// The one of this digest that is kept.
    pub fn of_digest(&self, digest: &str) -> Option<&Spine> {
        self.all.get(*self.by_digest.get(digest)?)
    }

    /// Those that were put up last at an instant or before, and that no training set was made for.
    pub fn idle_since(&self, until: Timestamp) -> Vec<SpineId> {
        let idle = self.all.iter().filter(|spine| spine.is_idle() && spine.kept_at() <= until);
        idle.map(|spine| spine.record.spine).collect()
    }

    /// Takes in that one is kept.
    ///
    /// # Errors
    /// Where another of its digest is, or it was dropped, or was said to be another before.
    pub(super) fn keep(&mut self, record: &SpineKept, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let known = self.by_id.get(&record.spine).and_then(|place| self.all.get_mut(*place));
        if let Some(spine) = known {
            if spine.dropped.is_some() || spine.record != *record {
                return Err(repeated(by, "spine", record.spine.to_string()));
            }
            spine.kept.push(by.clone());
            return Ok(());
        }
        if self.by_digest.insert(record.digest.clone(), self.all.len()).is_some() {
            return Err(repeated(by, "a spine of digest", record.digest.clone()));
        }
        self.by_id.insert(record.spine, self.all.len());
        let kept = vec![by.clone()];
        self.all.push(Spine { record: record.clone(), kept, used: None, dropped: None });
        Ok(())
    }

    /// Takes in that some are dropped.
    ///
    /// # Errors
    /// Where one is not kept, or a training set needs it.
    pub(super) fn drop(&mut self, record: &SpinesDropped, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        for id in &record.spines {
            let found = self.by_id.get(id).and_then(|place| self.all.get_mut(*place));
            let spine = found.ok_or_else(|| unresolved(by, "spine", id.to_string()))?;
            if !spine.is_idle() {
                let why = format!("spine {id} was dropped before, or a training set is made again of it");
                return Err(ApplyError::Sweep { sequence: by.sequence, why });
            }
            spine.dropped = Some(by.clone());
            self.by_digest.remove(&spine.record.digest);
        }
        Ok(())
    }

    /// Takes in that a training set was made for one.
    ///
    /// # Errors
    /// Where it is not kept.
    pub(super) fn need(&mut self, record: &SpineUsed, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let found = self.by_id.get(&record.spine).and_then(|place| self.all.get_mut(*place));
        let spine = found.filter(|spine| spine.dropped.is_none());
        let spine = spine.ok_or_else(|| unresolved(by, "spine", record.spine.to_string()))?;
        spine.used.get_or_insert_with(|| (record.clone(), by.clone()));
        Ok(())
    }

    /// Those after a sequence, as records. That a second training set was made for one changes nothing, and is said by the set.
    pub(super) fn records_after(&self, after: Option<Sequence>) -> Vec<(Sequence, Record)> {
        let mut found = Vec::new();
        let mut dropped: Vec<(Sequence, SpinesDropped)> = Vec::new();
        for spine in &self.all {
            let kept = spine.kept.iter().map(|by| (by.sequence, Record::from(spine.record.clone())));
            let used = spine.used.iter().map(|(used, by)| (by.sequence, Record::from(used.clone())));
            found.extend(kept.chain(used));
            dropped.extend(
                spine
                    .dropped
                    .iter()
                    .map(|by| (by.sequence, SpinesDropped { spines: vec![spine.record.spine] })),
            );
        }
        // In the order of the log; those of one entry by where they were kept first.
        dropped.sort_by_key(|(sequence, _)| *sequence);
        found.extend(dropped.into_iter().map(|(sequence, record)| (sequence, record.into())));
        found.retain(|(sequence, _)| Some(*sequence) > after);
        found.sort_by_key(|(sequence, _)| *sequence);
        found
    }
}

impl State {
    /// Spines that are and were kept.
    pub fn spines(&self) -> &Spines {
        &self.spines
    }

    /// Whether a record keeps one again that is kept already: that brings nothing new.
    pub(super) fn keeps_again(&self, record: &Record) -> bool {
        match record {
            Record::SpineKept(kept) => {
                self.spines.find(kept.spine).is_some_and(|spine| spine.dropped.is_none())
            }
            _ => false,
        }
    }

    /// Why a training set cannot be made of a spine any more; none where it can.
    pub(super) fn spine_gone(&self, record: &Record) -> Option<String> {
        let Record::SpineUsed(used) = record else { return None };
        let spine = self.spines.find(used.spine)?;
        let dropped = spine.dropped.as_ref()?;
        Some(format!(
            "the spine {} was dropped by the sweep at sequence {}, since nobody had put it up for long; put its rows up again",
            spine.record.digest, dropped.sequence
        ))
    }
}
