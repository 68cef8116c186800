//! How good batches were: counts by version, week and experiment. The first who asks in a process has all batches counted, whoever asks
//! later what came since.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use feature::quality::Verdict;
use feature::{BatchId, Sequence, Timestamp, TrainingSetId, VersionId};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::selection::selected;
use crate::state::{CountedBatch, State, Which};

const DAY: i64 = 24 * 60 * 60 * 1_000_000;
/// Scoreboards that are kept: who asks at the same time asks of snapshots a little apart. They share what is equal.
const KEPT: usize = 8;

/// What some batches came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    pub batches: u64,
    pub passed: u64,
    pub warned: u64,
    pub failed: u64,
    /// Of the batches, those that wait.
    pub quarantined: u64,
    /// Offered and refused whole; they are none of the batches.
    pub refused: u64,
    /// Of the batches, those of derived views whose columns were not traced.
    pub untraced: u64,
    pub rows: u64,
    /// Those of what was refused too.
    pub rejected: u64,
    /// The greatest.
    pub drift: Option<f64>,
    pub age_hours: Option<f64>,
    /// When the last batch came.
    pub last_at: Option<Timestamp>,
}

impl Score {
    /// Batches that were written while their view declared no checks.
    pub fn unjudged(&self) -> u64 {
        self.batches.saturating_sub(self.passed + self.warned + self.failed)
    }

    pub fn merge(&mut self, other: &Self) {
        self.batches += other.batches;
        self.passed += other.passed;
        self.warned += other.warned;
        self.failed += other.failed;
        self.quarantined += other.quarantined;
        self.refused += other.refused;
        self.untraced += other.untraced;
        self.rows += other.rows;
        self.rejected += other.rejected;
        self.drift = greatest(self.drift, other.drift);
        self.age_hours = greatest(self.age_hours, other.age_hours);
        self.last_at = self.last_at.max(other.last_at);
    }

    fn add(&mut self, batch: &CountedBatch<'_>) {
        self.batches += 1;
        self.untraced += u64::from(batch.untraced);
        self.rows += batch.rows;
        self.rejected += batch.rejected;
        self.last_at = self.last_at.max(Some(batch.committed_at));
        let Some(checks) = &batch.checks else { return };
        match checks.verdict {
            Verdict::Pass => self.passed += 1,
            Verdict::Warn => self.warned += 1,
            Verdict::Fail => self.failed += 1,
        }
        self.drift = greatest(self.drift, checks.drift);
        self.age_hours = greatest(self.age_hours, checks.age_hours);
    }
}

fn greatest(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.max(other)),
        (one, other) => one.or(other),
    }
}

/// The Monday that its week begins with, in UTC.
fn week(of: Timestamp) -> Timestamp {
    let days = of.micros().div_euclid(DAY);
    // 1970 began on a Thursday.
    Timestamp((days - (days + 3).rem_euclid(7)) * DAY)
}

/// By week and by the experiment that batches were written for.
type Weeks = BTreeMap<(Timestamp, Option<String>), Score>;

/// By version and week.
pub type VersionWeeks = BTreeMap<(VersionId, Timestamp), Score>;

/// All batches by a sequence. Cheap to clone: what does not change is shared.
#[derive(Clone, Debug, Default)]
pub struct Scoreboard {
    /// The last entry that is counted.
    at: Option<Sequence>,
    versions: HashMap<VersionId, Arc<Weeks>>,
}

impl Scoreboard {
    /// Of the batches that were written under a version, week after week, those of each experiment.
    pub fn weeks(&self, version: VersionId) -> impl Iterator<Item = (Timestamp, Option<&str>, &Score)> {
        let weeks = self.versions.get(&version).into_iter().flat_map(|weeks| weeks.iter());
        weeks.map(|((week, experiment), score)| (*week, experiment.as_deref(), score))
    }

    fn score(&mut self, version: VersionId, at: Timestamp, experiment: Option<&str>) -> &mut Score {
        let weeks = Arc::make_mut(self.versions.entry(version).or_default());
        weeks.entry((week(at), experiment.map(str::to_owned))).or_default()
    }

    /// With what came up to a sequence of that which never changes: what was admitted, and what was refused.
    fn extended(mut self, state: &State, until: Sequence) -> Self {
        let after = self.at;
        state.count_batches(Which::Between { after, until }, |batch| {
            self.score(batch.version, batch.committed_at, batch.experiment).add(&batch);
        });
        let refused = state.refused();
        let first = refused.partition_point(|batch| Some(batch.by.sequence) <= after);
        let later = refused.get(first..).unwrap_or_default().iter();
        for batch in later.take_while(|batch| batch.by.sequence <= until) {
            let by = &batch.by;
            let score = self.score(batch.record.version, by.committed_at, by.experiment.as_deref());
            score.refused += 1;
            score.rejected += batch.record.rejected;
        }
        self.at = Some(until);
        self
    }

    /// With the batches that wait or were dropped. One that is released counts where it was admitted.
    fn with_held(mut self, state: &State, at: Sequence) -> Self {
        for held in state.quarantine().all() {
            let end = held.end_at(at);
            if held.batch.by.sequence > at || end.is_some_and(|end| end.released) {
                continue;
            }
            let batch = CountedBatch::of(&held.batch);
            let score = self.score(batch.version, batch.committed_at, batch.experiment);
            score.add(&batch);
            score.quarantined += u64::from(end.is_none());
        }
        self
    }
}

/// What this process has counted.
#[derive(Default)]
pub(crate) struct Scoreboards {
    /// As of the newest sequences that were asked for, in their order.
    kept: Mutex<Vec<Scoreboard>>,
    used: Mutex<Used>,
}

/// What was counted of training sets.
#[derive(Default)]
struct Used {
    /// Version, week and counts of each batch that any of them had rows of.
    batches: HashMap<BatchId, (VersionId, Timestamp, Score)>,
    consumers: HashMap<Uuid, (Vec<TrainingSetId>, Arc<VersionWeeks>)>,
}

/// Somebody who used training sets: an experiment, or a model version.
#[derive(Clone, Debug)]
pub struct Consumer {
    pub id: Uuid,
    /// Each once, in the order of their ids.
    pub sets: Vec<TrainingSetId>,
}

impl Catalog {
    /// The batches that came by a sequence, of which the state must know. Before the last few sequences that were asked for they are
    /// counted from the beginning.
    ///
    /// # Errors
    /// `Internal` where the checkpoint that the state rests on cannot be read any more.
    pub async fn scoreboard(&self, state: &Arc<State>, at: Sequence) -> Result<Scoreboard> {
        let mut kept = self.scoreboards().kept.lock().await;
        let place = kept.partition_point(|board| board.at <= Some(at));
        let before = place.checked_sub(1).and_then(|before| kept.get(before)).cloned();
        let state = state.clone();
        if before.is_none() && !kept.is_empty() {
            // Of long ago: whoever asks of now need not wait for it.
            drop(kept);
            return beside(move || Scoreboard::default().extended(&state, at).with_held(&state, at)).await;
        }
        let mut board = before.unwrap_or_default();
        if board.at < Some(at) {
            let since = state.clone();
            board = beside(move || board.extended(&since, at)).await?;
            kept.insert(place, board.clone());
            if kept.len() > KEPT {
                kept.remove(0);
            }
        }
        drop(kept);
        Ok(board.with_held(&state, at))
    }

    /// The batches that the training sets of each consumer had rows of, each batch once.
    ///
    /// # Errors
    /// `Storage` where the manifest of an old set is missing or was altered; `Internal` as of [`Self::scoreboard`].
    pub async fn scores_of_sets(
        &self,
        state: &Arc<State>,
        consumers: &[Consumer],
    ) -> Result<Vec<Arc<VersionWeeks>>> {
        let mut used = self.scoreboards().used.lock().await;
        let mut changed = Vec::new();
        for consumer in consumers {
            if used.consumers.get(&consumer.id).is_some_and(|(sets, _)| *sets == consumer.sets) {
                continue;
            }
            let mut batches = HashSet::new();
            for set in &consumer.sets {
                let Some(set) = state.training_set(*set) else { continue };
                for taken in selected(self, set).await?.iter() {
                    batches.extend(taken.hits.iter().map(|hit| hit.batch));
                }
            }
            changed.push((consumer, batches));
        }
        let mut unknown: HashSet<BatchId> =
            changed.iter().flat_map(|(_, batches)| batches).copied().collect();
        unknown.retain(|batch| !used.batches.contains_key(batch));
        if !unknown.is_empty() {
            let state = state.clone();
            used.batches.extend(beside(move || counted(&state, &unknown)).await?);
        }
        for (consumer, batches) in changed {
            let mut weeks = VersionWeeks::new();
            for (version, week, score) in batches.iter().filter_map(|batch| used.batches.get(batch)) {
                weeks.entry((*version, *week)).or_default().merge(score);
            }
            used.consumers.insert(consumer.id, (consumer.sets.clone(), Arc::new(weeks)));
        }
        let weeks = consumers.iter().map(|consumer| used.consumers.get(&consumer.id));
        Ok(weeks.map(|known| known.map(|(_, weeks)| weeks.clone()).unwrap_or_default()).collect())
    }
}

/// What takes long, while others go on.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::internal("the batches cannot be counted", error))
}

/// Version, week and counts of each of these batches.
fn counted(state: &State, batches: &HashSet<BatchId>) -> Vec<(BatchId, (VersionId, Timestamp, Score))> {
    let mut found = Vec::with_capacity(batches.len());
    state.count_batches(Which::These(batches), |batch| {
        let mut score = Score::default();
        score.add(&batch);
        found.push((batch.batch, (batch.version, week(batch.committed_at), score)));
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_begins_on_its_monday_also_before_1970() {
        for (day, monday) in [
            ("1970-01-01T00:00:00Z", "1969-12-29T00:00:00Z"),
            ("1969-12-28T23:59:59.999999Z", "1969-12-22T00:00:00Z"),
            ("2024-05-27T00:00:00Z", "2024-05-27T00:00:00Z"),
            ("2024-06-02T23:59:59Z", "2024-05-27T00:00:00Z"),
            ("2024-06-03T00:00:00Z", "2024-06-03T00:00:00Z"),
        ] {
            let (day, monday): (Timestamp, Timestamp) = (day.parse().unwrap(), monday.parse().unwrap());
            assert_eq!(week(day), monday, "{day}");
        }
    }
}
