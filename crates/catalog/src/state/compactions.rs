//! Which batches lie in files of their own, and which were written anew together.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use feature::{Sequence, VersionId, ViewId};

use super::{ApplyError, Batch, Provenance, State, unresolved};
use crate::records::Compacted;

/// A write of neighbouring batches of a line into other files.
#[derive(Clone, Debug)]
pub struct Compaction {
    pub record: Compacted,
    pub line: VersionId,
    pub by: Arc<Provenance>,
}

impl Compaction {
    /// The batches, by their places in the line.
    pub fn places(&self) -> Range<usize> {
        let place = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let from = place(self.record.place);
        from..from.saturating_add(place(self.record.batches))
    }
}

/// A stretch of a line's batches whose rows lie in files of their own.
#[derive(Clone, Copy, Debug)]
pub enum Run<'a> {
    /// One batch, as it was written.
    Batch(&'a Arc<Batch>),
    /// Batches that were written anew, in the order of the log; never none.
    Compacted(&'a Arc<Compaction>, &'a [Arc<Batch>]),
}

impl<'a> Run<'a> {
    /// In the order of the log.
    pub fn batches(&self) -> &'a [Arc<Batch>] {
        match self {
            Self::Batch(batch) => std::slice::from_ref(*batch),
            Self::Compacted(_, batches) => batches,
        }
    }
}

/// Every compaction, and those whose files are read.
#[derive(Clone, Debug, Default)]
pub(super) struct Compactions {
    /// In the order of the log.
    all: Vec<Arc<Compaction>>,
    /// By line, in the order of their batches. No two share a batch.
    in_force: HashMap<VersionId, Vec<Arc<Compaction>>>,
    latest: HashMap<ViewId, Sequence>,
}

impl Compactions {
    /// Takes one in, if the state that whoever wrote it looked at allows it.
    ///
    /// # Errors
    /// Why not.
    pub fn take(&mut self, record: &Compacted, line: VersionId, by: &Arc<Provenance>) -> Result<(), String> {
        let latest = self.latest.get(&record.view).copied();
        if record.after != latest {
            let told =
                |sequence: Option<Sequence>| sequence.map_or("none".to_owned(), |at| format!("that of {at}"));
            return Err(format!(
                "its view's last compaction is {}, and it was written after {}",
                told(latest),
                told(record.after)
            ));
        }
        let taken = Arc::new(Compaction { record: record.clone(), line, by: by.clone() });
        let places = taken.places();
        if places.is_empty() {
            return Err("it holds no batch".to_owned());
        }
        let of_line = self.in_force.entry(line).or_default();
        let from = of_line.partition_point(|one| one.places().end <= places.start);
        let until = of_line.partition_point(|one| one.places().start < places.end);
        let replaced = &of_line[from..until.max(from)];
        let within =
            |one: &Arc<Compaction>| places.start <= one.places().start && one.places().end <= places.end;
        if !replaced.iter().all(within) {
            return Err("it holds some batches of an earlier compaction and not all".to_owned());
        }
        if !replaced.iter().map(|one| one.record.compaction).eq(record.replaces.iter().copied()) {
            return Err("it does not name the compactions that it replaces".to_owned());
        }
        if self.all.iter().any(|one| one.record.compaction == record.compaction) {
            return Err(format!("compaction {} is there already", record.compaction));
        }
        of_line.splice(from..until.max(from), [taken.clone()]);
        self.latest.insert(record.view, by.sequence);
        self.all.push(taken);
        Ok(())
    }
}

impl State {
    /// Takes in neighbouring batches of one version.
    pub(super) fn compact(&mut self, body: &Compacted, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let version = self
            .view_version(body.version)
            .ok_or_else(|| unresolved(by, "feature view version", body.version.to_string()))?;
        let (line, view) = (version.line, version.view);
        let wrong = |why: String| ApplyError::Compaction { sequence: by.sequence, why };
        let of_line = self.batches_of_line(line);
        let place = usize::try_from(body.place).unwrap_or(usize::MAX);
        let end = place.saturating_add(usize::try_from(body.batches).unwrap_or(usize::MAX));
        let ends =
            of_line.get(place..end).and_then(|batches| Some((batches.first()?, batches.last()?, batches)));
        let Some((first, last, batches)) = ends else {
            return Err(wrong(format!("the line has {} batches", of_line.len())));
        };
        if (first.record.batch, last.record.batch) != (body.first, body.last) || body.view != view {
            return Err(wrong("its batches do not stand where it says".to_owned()));
        }
        if body.erased != self.erasures.last_of(view) {
            return Err(wrong("something of its view was erased since it read the rows".to_owned()));
        }
        if batches.iter().any(|batch| batch.record.version != body.version) {
            return Err(wrong("its batches are of several versions".to_owned()));
        }
        Arc::make_mut(&mut self.compactions).take(body, line, by).map_err(wrong)
    }

    /// Every compaction, in the order of the log, those that were replaced since among them.
    pub fn compactions(&self) -> impl Iterator<Item = &Arc<Compaction>> {
        self.compactions.all.iter()
    }

    /// The sequence of a view's last compaction.
    pub fn last_compaction(&self, view: ViewId) -> Option<Sequence> {
        self.compactions.latest.get(&view).copied()
    }

    /// All batches of a line as they lie in files at the head, in the order of the log.
    pub fn runs_of_line(&self, line: VersionId) -> Vec<Run<'_>> {
        let batches = self.batches_of_line(line);
        let compacted = self.compactions.in_force.get(&line).map(Vec::as_slice).unwrap_or_default();
        let mut runs = Vec::new();
        let mut next = 0;
        for one in compacted {
            let places = one.places();
            let (Some(before), Some(within)) = (batches.get(next..places.start), batches.get(places.clone()))
            else {
                break;
            };
            runs.extend(before.iter().map(Run::Batch));
            runs.push(Run::Compacted(one, within));
            next = places.end;
        }
        runs.extend(batches.get(next..).unwrap_or_default().iter().map(Run::Batch));
        runs
    }
}
