//! Which old rows may be deleted, and what keeps the others.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_recursion::async_recursion;
use catalog::records::RowsDeleted;
use catalog::state::{Expiry, TrainingSet};
use catalog::{Catalog, State};
use feature::{BatchId, Sequence, Span, Timestamp, ViewId};
use lineage::graph::Node;
use lineage::{Blocks, Graph, Keeper, Retention};
use storage::manifest::DataFile;

use super::with_expired_rows;
use crate::error::Result;

/// Before all rows: none may go.
const NEVER: Timestamp = Timestamp(i64::MIN);

/// What keeps the old rows of batches.
pub(crate) struct Keeping<'a> {
    state: &'a State,
    graph: &'a Graph,
    retention: Retention<'a>,
    now: Timestamp,
    /// For how long training sets of no model keep the rows of a view, where it says so.
    unused_sets: HashMap<ViewId, Span>,
}

impl<'a> Keeping<'a> {
    /// `graph` is that of the state's head.
    pub fn of(state: &'a State, graph: &'a Graph, now: Timestamp) -> Self {
        let in_force = state.views_in_force(state.head.sequence);
        let unused_sets = in_force
            .filter_map(|version| Some((version.view, version.definition.retention.as_ref()?.unused_sets?)))
            .collect();
        Self { state, graph, retention: Retention::of(state, graph), now, unused_sets }
    }

    /// Rows of a batch that are valid before `target` may go as far as nothing that is kept needs them: up to this. A training set that was taken
    /// when rows did not count any more has no need of those; and one of which no model is known keeps its rows for as long as
    /// the view says. Asked of every batch, also while an entry is written: only reports ask for the [`Keeper`].
    fn bound(&self, view: ViewId, batch: BatchId, target: Timestamp) -> Timestamp {
        let Some(place) = self.graph.place(&Node::Batch(batch)) else { return target };
        if self.retention.is_held(place) {
            return NEVER;
        }
        let mut bound = target;
        for set in self.retention.sets_of_batch(place) {
            let seen = self.seen(view, set);
            if seen < bound && !self.lets_go(view, set) {
                bound = seen;
            }
            if bound == NEVER {
                break;
            }
        }
        bound
    }

    /// What stands in the way of deleting the rows of a batch that are valid before `target`: of several the one that keeps most.
    pub fn keeper(&self, view: ViewId, batch: BatchId, target: Timestamp) -> Option<Keeper> {
        let place = self.graph.place(&Node::Batch(batch))?;
        let bound = |keeper: &Keeper| {
            let is_set = |place: &u32| matches!(self.graph.node(*place), Node::TrainingSet(_));
            let Some(set) = keeper.path.iter().copied().find(is_set) else { return Some(NEVER) };
            let goes = keeper.kept_for == Blocks::TrainingSet && self.lets_go(view, set);
            (!goes).then(|| self.seen(view, set))
        };
        let keepers = self.retention.kept_by(place).into_iter();
        let bounds = keepers.filter_map(|keeper| Some((bound(&keeper)?, keeper)));
        let in_the_way = bounds.filter(|(bound, _)| *bound < target);
        in_the_way.min_by_key(|(bound, _)| *bound).map(|(_, keeper)| keeper)
    }

    /// The way from what needs a batch to what is kept, without the batch: it is the same for many.
    pub fn way(&self, keeper: &Keeper) -> String {
        let places = keeper.path.iter().skip(1);
        let mut labels: Vec<String> = places.map(|place| self.graph.label(*place).into_owned()).collect();
        let hold = keeper.hold.and_then(|hold| self.state.holds().find(hold));
        labels.extend(hold.map(|hold| format!("hold: {}", hold.record.reason)));
        labels.join(" > ")
    }

    fn set(&self, place: u32) -> Option<&TrainingSet> {
        match self.graph.node(place) {
            Node::TrainingSet(id) => self.state.training_set(*id),
            _ => None,
        }
    }

    /// Rows of a view that are valid before this did not count when a training set was taken.
    fn seen(&self, view: ViewId, set: u32) -> Timestamp {
        let before = self.set(set).and_then(|set| self.state.expiry().before(view, set.record.sequence));
        before.unwrap_or(NEVER)
    }

    /// Whether a training set is of no model and so old that it keeps no rows of a view.
    fn lets_go(&self, view: ViewId, set: u32) -> bool {
        let (Some(span), Some(of)) = (self.unused_sets.get(&view), self.set(set)) else { return false };
        let until = of.by.committed_at.micros().saturating_add(span.micros());
        until < self.now.micros() && !self.retention.is_used(set)
    }
}

/// Old rows of a file that stay.
#[derive(Clone, Debug)]
pub(crate) struct Staying {
    pub batch: BatchId,
    pub rows: u64,
    pub bytes: u64,
    /// Whether it is for younger rows in the file, and not for what needs the batch.
    pub young: bool,
}

/// The files of a view with rows that are valid before an instant: which may go, and why the others stay.
#[derive(Default)]
pub(crate) struct Ages {
    /// Up to when rows of a batch are to be gone, for files of which all may go, where no entry said so before.
    pub batches: BTreeMap<BatchId, Timestamp>,
    pub files: u64,
    pub rows: u64,
    pub bytes: u64,
    pub staying: Vec<Staying>,
}

impl Ages {
    /// # Errors
    /// Manifests that cannot be read.
    pub async fn of(
        catalog: &Catalog,
        state: &State,
        view: ViewId,
        target: Timestamp,
        keeping: &Keeping<'_>,
    ) -> Result<Self> {
        let mut found = Self::default();
        let mut bounds: HashMap<BatchId, Timestamp> = HashMap::new();
        let lines: BTreeSet<_> =
            state.views().filter(|version| version.view == view).map(|version| version.line).collect();
        for run in lines.into_iter().flat_map(|line| state.runs_of_line(line)) {
            for visible in catalog.run_files(state, run, run.batches()).await? {
                found.judge(&visible.file, target, state.expiry(), |batch| {
                    *bounds.entry(batch).or_insert_with(|| keeping.bound(view, batch, target))
                });
            }
        }
        Ok(found)
    }

    fn judge(
        &mut self,
        file: &DataFile,
        target: Timestamp,
        expiry: &Expiry,
        mut bound: impl FnMut(BatchId) -> Timestamp,
    ) {
        let Some((oldest, newest)) = file.valid_at_range() else { return };
        if oldest >= target.micros() {
            return;
        }
        if newest >= target.micros() {
            let batch = file.pieces.first().map(|piece| piece.batch);
            self.staying.extend(batch.map(|batch| Staying {
                batch,
                rows: file.rows,
                bytes: file.bytes,
                young: true,
            }));
            return;
        }
        let mut of_file = BTreeMap::new();
        for piece in &file.pieces {
            let before = bound(piece.batch);
            if before.micros() <= newest {
                let (batch, rows, bytes) = (piece.batch, file.rows, file.bytes);
                self.staying.push(Staying { batch, rows, bytes, young: false });
                return;
            }
            of_file.insert(piece.batch, before);
        }
        // What is said is not said again: a file of more batches than one entry names goes after several entries, however the instant rises.
        of_file.retain(|batch, _| expiry.gone(*batch).is_none_or(|before| before.micros() <= newest));
        self.batches.extend(of_file);
        self.files += 1;
        self.rows += file.rows;
        self.bytes += file.bytes;
    }
}

/// Old rows that are to be deleted, of all views.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deletions {
    batches: BTreeMap<BatchId, (ViewId, Timestamp)>,
    /// Whether there are more than one entry may name.
    pub more: bool,
}

impl Deletions {
    /// What may go of the rows that expired up to a sequence, of so many batches at most.
    ///
    /// # Errors
    /// Manifests that cannot be read.
    #[async_recursion]
    pub async fn due(
        catalog: &Catalog,
        state: &State,
        graph: &Graph,
        expired: Option<Sequence>,
        now: Timestamp,
        most: usize,
    ) -> Result<Self> {
        let mut found = Self::default();
        let Some(expired) = expired else { return Ok(found) };
        let keeping = Keeping::of(state, graph, now);
        for view in with_expired_rows(state) {
            let Some(target) = state.expiry().before(view, expired) else { continue };
            let ages = Ages::of(catalog, state, view, target, &keeping).await?;
            let left = most.saturating_sub(found.batches.len());
            found.more |= ages.batches.len() > left;
            let of_view = ages.batches.into_iter().take(left);
            found.batches.extend(of_view.map(|(batch, before)| (batch, (view, before))));
        }
        Ok(found)
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Whether a file is gone, or would be.
    pub fn is_gone(&self, file: &DataFile, expiry: &Expiry) -> bool {
        let gone =
            |batch: BatchId| expiry.gone(batch).max(self.batches.get(&batch).map(|(_, before)| *before));
        file.valid_at_range().is_some_and(|(_, newest)| {
            file.pieces.iter().all(|piece| gone(piece.batch).is_some_and(|before| newest < before.micros()))
        })
    }

    /// What of it nothing needs that came since.
    #[must_use]
    pub fn still_due(&self, state: &State, graph: &Graph, now: Timestamp) -> Self {
        let keeping = Keeping::of(state, graph, now);
        let due = self
            .batches
            .iter()
            .filter(|(batch, (view, before))| keeping.bound(*view, **batch, *before) >= *before);
        Self { batches: due.map(|(batch, of)| (*batch, *of)).collect(), more: self.more }
    }

    /// The records that say so.
    pub fn records(&self) -> Vec<RowsDeleted> {
        let mut records: BTreeMap<(ViewId, Timestamp), Vec<BatchId>> = BTreeMap::new();
        for (batch, of) in &self.batches {
            records.entry(*of).or_default().push(*batch);
        }
        let record = |((view, before), batches)| RowsDeleted { view, before, batches };
        records.into_iter().map(record).collect()
    }
}
