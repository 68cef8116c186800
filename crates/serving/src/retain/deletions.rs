//! Which old rows may be deleted, and what keeps the others.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use catalog::records::RowsDeleted;
use catalog::state::Expiry;
use catalog::{Catalog, State};
use feature::{BatchId, Sequence, Span, Timestamp, ViewId};
use lineage::graph::Node;
use lineage::{Blocks, Graph, Keeper, Retention};
use storage::manifest::DataFile;

use super::with_expired_rows;
use crate::error::Result;

/// The most batches that one entry names.
const MOST_BATCHES: usize = 50_000;

/// What keeps the old rows of batches.
pub(crate) struct Keeping<'a> {
    state: &'a State,
    graph: &'a Graph,
    retention: Retention<'a>,
    now: Timestamp,
}

/// Up to when the rows of a batch may be deleted, and what stands in the way of more.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub before: Timestamp,
    pub kept_by: Option<Keeper>,
}

impl<'a> Keeping<'a> {
    /// `graph` is that of the state's head.
    pub fn of(state: &'a State, graph: &'a Graph, now: Timestamp) -> Self {
        Self { state, graph, retention: Retention::of(state, graph), now }
    }

    /// Rows of a batch that are valid before `target` may go as far as nothing that is kept needs them. A training set that was taken
    /// when rows did not count any more has no need of those; and one of which no model is known keeps its rows for as long as
    /// the view says.
    fn bound(&self, view: ViewId, batch: BatchId, target: Timestamp) -> Bound {
        let mut bound = Bound { before: target, kept_by: None };
        let Some(place) = self.graph.place(&Node::Batch(batch)) else { return bound };
        for keeper in self.retention.kept_by(place) {
            let set = keeper.path.iter().find_map(|place| match self.graph.node(*place) {
                Node::TrainingSet(id) => self.state.training_set(*id),
                _ => None,
            });
            let unused = keeper.kept_for == Blocks::TrainingSet;
            if unused && let (Some(set), Some(span)) = (set, self.unused_sets(view)) {
                let until = set.by.committed_at.micros().saturating_add(span.micros());
                if until < self.now.micros() {
                    continue;
                }
            }
            let had = set.and_then(|set| self.state.expiry().before(view, set.record.sequence));
            let before = had.unwrap_or(Timestamp(i64::MIN));
            if before < bound.before {
                bound = Bound { before, kept_by: Some(keeper) };
            }
        }
        bound
    }

    fn unused_sets(&self, view: ViewId) -> Option<Span> {
        let mut in_force = self.state.views_in_force(self.state.head.sequence);
        in_force.find(|version| version.view == view)?.definition.retention.as_ref()?.unused_sets
    }
}

/// Old rows of a file that stay.
#[derive(Clone, Debug)]
pub(crate) struct Staying {
    pub batch: BatchId,
    pub rows: u64,
    pub bytes: u64,
    /// None where younger rows lie in the file.
    pub kept_by: Option<Keeper>,
}

/// The files of a view with rows that are valid before an instant: which may go, and why the others stay.
#[derive(Default)]
pub(crate) struct Ages {
    /// Up to when rows of a batch are to be gone, for files of which all may go.
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
        let mut bounds: HashMap<BatchId, Bound> = HashMap::new();
        let lines: BTreeSet<_> =
            state.views().filter(|version| version.view == view).map(|version| version.line).collect();
        for run in lines.into_iter().flat_map(|line| state.runs_of_line(line)) {
            for visible in catalog.run_files(state, run, run.batches()).await? {
                found.judge(&visible.file, target, |batch| {
                    bounds.entry(batch).or_insert_with(|| keeping.bound(view, batch, target)).clone()
                });
            }
        }
        Ok(found)
    }

    fn judge(&mut self, file: &DataFile, target: Timestamp, mut bound: impl FnMut(BatchId) -> Bound) {
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
                kept_by: None,
            }));
            return;
        }
        let mut of_file = BTreeMap::new();
        for piece in &file.pieces {
            let Bound { before, kept_by } = bound(piece.batch);
            if before.micros() <= newest {
                self.staying.push(Staying {
                    batch: piece.batch,
                    rows: file.rows,
                    bytes: file.bytes,
                    kept_by,
                });
                return;
            }
            of_file.insert(piece.batch, before);
        }
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
}

impl Deletions {
    /// What may go of the rows that expired up to a sequence.
    ///
    /// # Errors
    /// Manifests that cannot be read.
    pub async fn due(
        catalog: &Catalog,
        state: &State,
        graph: &Graph,
        expired: Option<Sequence>,
        now: Timestamp,
    ) -> Result<Self> {
        let mut found = Self::default();
        let Some(expired) = expired else { return Ok(found) };
        let keeping = Keeping::of(state, graph, now);
        for view in with_expired_rows(state) {
            let Some(target) = state.expiry().before(view, expired) else { continue };
            let ages = Ages::of(catalog, state, view, target, &keeping).await?;
            let left = MOST_BATCHES.saturating_sub(found.batches.len());
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
            .filter(|(batch, (view, before))| keeping.bound(*view, **batch, *before).before >= *before);
        Self { batches: due.map(|(batch, of)| (*batch, *of)).collect() }
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
