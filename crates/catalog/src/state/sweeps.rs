//! What sweeps condemned, and the fence that keeps everybody from naming it again.

use std::sync::Arc;

use feature::{Horizon, Id, Sequence, Span};

use super::{ApplyError, Provenance, State};
use crate::records::{Record, RetentionSet, Swept};

/// A sweep that was recorded.
#[derive(Clone, Debug)]
pub struct Sweep {
    pub record: Swept,
    pub by: Arc<Provenance>,
}

/// How long things are kept, from an entry on.
#[derive(Clone, Debug)]
pub struct Setting {
    pub record: RetentionSet,
    pub by: Arc<Provenance>,
}

/// All sweeps, and how long things are kept.
#[derive(Clone, Debug, Default)]
pub struct Sweeps {
    /// In the order of the log.
    all: Vec<Sweep>,
    /// Where in it the greatest horizon is.
    fence: usize,
    settings: Vec<Setting>,
}

/// Where nothing else was set: a week.
const GRACE_MICROS: i64 = 7 * 24 * 3_600 * 1_000_000;
/// Where nothing else was set: a day.
const LONGEST_READ_MICROS: i64 = 24 * 3_600 * 1_000_000;

impl Sweeps {
    /// In the order of the log.
    pub fn all(&self) -> &[Sweep] {
        &self.all
    }

    /// What was set, in the order of the log.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// How long things are kept now.
    pub fn retention(&self) -> RetentionSet {
        let span = |micros| Span::from_micros(micros).unwrap_or(Span::ZERO);
        self.settings.last().map_or_else(
            || RetentionSet { grace: span(GRACE_MICROS), longest_read: span(LONGEST_READ_MICROS) },
            |setting| setting.record.clone(),
        )
    }

    /// The sweep with the greatest horizon: nothing new may have a lesser id.
    pub fn fence(&self) -> Option<&Sweep> {
        self.all.get(self.fence)
    }

    /// Whether an object with this id is condemned, if no entry names it.
    pub fn condemns(&self, id: Horizon) -> bool {
        self.fence().is_some_and(|sweep| id < sweep.record.before)
    }

    /// The last compaction of which the replaced files are condemned.
    pub fn compacted(&self) -> Option<Sequence> {
        self.all.iter().filter_map(|sweep| sweep.record.compacted).max()
    }

    /// Takes in one more sweep.
    ///
    /// # Errors
    /// `Sweep` for one whose grace is less than the longest read, or that condemns what came after it.
    pub(super) fn sweep(&mut self, record: &Swept, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let wrong = |why: String| Err(ApplyError::Sweep { sequence: by.sequence, why });
        let longest = self.retention().longest_read;
        if record.grace < longest {
            return wrong(format!("its grace, {}, is less than the longest read, {longest}", record.grace));
        }
        if record.compacted.is_some_and(|compacted| compacted >= by.sequence) {
            return wrong("it condemns files that were replaced after it".to_owned());
        }
        self.recorded(record.clone(), by)
    }

    /// Takes in what was found right when it was folded: the settings of its time are not at hand.
    pub(super) fn recorded(&mut self, record: Swept, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        if self.fence().is_none_or(|fence| record.before >= fence.record.before) {
            self.fence = self.all.len();
        }
        self.all.push(Sweep { record, by: by.clone() });
        Ok(())
    }

    /// Takes in another setting.
    ///
    /// # Errors
    /// `Sweep` for a grace that is less than the longest read, and a read that may not last at all.
    pub(super) fn set(&mut self, record: &RetentionSet, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        check(record).map_err(|why| ApplyError::Sweep { sequence: by.sequence, why })?;
        self.settings.push(Setting { record: record.clone(), by: by.clone() });
        Ok(())
    }

    /// Those after a sequence, as records.
    pub(super) fn records_after(&self, after: Option<Sequence>) -> impl Iterator<Item = (Sequence, Record)> {
        let swept = self.all.iter().map(|sweep| (sweep.by.sequence, Record::from(sweep.record.clone())));
        let set = self.settings.iter().map(|one| (one.by.sequence, Record::from(one.record.clone())));
        swept.chain(set).filter(move |(sequence, _)| Some(*sequence) > after)
    }
}

/// Whether these can be.
pub(crate) fn check(record: &RetentionSet) -> Result<(), String> {
    if record.longest_read == Span::ZERO {
        return Err("no read can end in no time; the longest read must last something".to_owned());
    }
    if record.grace < record.longest_read {
        return Err(format!(
            "the grace, {}, is less than the longest read, {}: a read would lose its files",
            record.grace, record.longest_read
        ));
    }
    Ok(())
}

impl State {
    /// What was swept, and how long things are kept.
    pub fn sweeps(&self) -> &Sweeps {
        &self.sweeps
    }

    /// Why a record cannot be appended any more: what it brings was begun before the fence, and may be gone. None where it can.
    pub fn fenced(&self, record: &Record) -> Option<String> {
        if let Some(why) = self.lacks_rows(record) {
            return Some(why);
        }
        if let Some(why) = self.spine_gone(record) {
            return Some(why);
        }
        let fence = self.sweeps.fence()?;
        if self.keeps_again(record) {
            return None;
        }
        let id = record.minted().filter(|id| *id < fence.record.before.uuid())?;
        // An observation may name again what was said before.
        let known = |path: &str| self.registry.has_body(path) || self.policies.has_key(path);
        let below = |object: &crate::records::Object| {
            object.id().is_some_and(|id| id < fence.record.before.uuid()) && !known(&object.path)
        };
        let observed = matches!(
            record,
            Record::ExperimentObserved(_)
                | Record::RunObserved(_)
                | Record::ModelVersionObserved(_)
                | Record::PoliciesApplied(_)
        );
        if observed && !record.objects().into_iter().any(|(_, object)| below(object)) {
            return None;
        }
        Some(format!(
            "what was written as {id} ({}) was begun before {}, from which on the sweep at sequence {} keeps what nobody named: it may be \
             gone, and nothing of it counts; send it again (where that does not help, this machine's clock is slow)",
            record.name(),
            fence.record.before,
            fence.by.sequence
        ))
    }
}
