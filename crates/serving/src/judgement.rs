//! Which observation of a key wins, and why each of the others does not: the rule of retrieval, told row by row.

use std::cmp::Reverse;
use std::collections::HashSet;

use catalog::VisibleFile;
use engine::point_in_time::{CandidateRow, Cut, NullReason};
use feature::{BatchId, Sequence, Span, Timestamp};

/// What a value is asked for at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judgement {
    /// The snapshot.
    pub sequence: Sequence,
    /// None where the spine has no time there.
    pub at: Option<Timestamp>,
    pub cut: Cut,
    pub ttl: Option<Span>,
}

/// The files of a key, by the positions that candidates name.
#[derive(Default)]
pub(crate) struct Known {
    pub files: Vec<VisibleFile>,
    /// Whether each file's batches count for the version.
    pub counts: Vec<bool>,
    /// Those of them that are withdrawn at the snapshot.
    pub withdrawn: HashSet<BatchId>,
    /// Those of them that were kept back and not released.
    pub quarantined: HashSet<BatchId>,
    /// Rows that are valid before this do not count at the snapshot, by the view's retention; none where all do.
    pub since: Option<Timestamp>,
    /// The same of rows that came after the snapshot, at the newest.
    pub since_now: Option<Timestamp>,
}

/// Whether a batch counts for a version at a snapshot that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counts {
    Yes,
    /// It lacks features of the version.
    OtherVersion,
    /// It was withdrawn.
    Withdrawn,
    /// It waits in quarantine, or was dropped from there.
    Quarantined,
    /// It counts, and the row is too old to.
    PastRetention,
}

impl Known {
    fn counts(&self, row: &CandidateRow) -> Counts {
        if !self.counts.get(row.file).copied().unwrap_or(false) {
            Counts::OtherVersion
        } else if self.quarantined.contains(&row.batch.record.batch) {
            Counts::Quarantined
        } else if self.withdrawn.contains(&row.batch.record.batch) {
            Counts::Withdrawn
        } else if Some(row.valid_at) < self.since {
            Counts::PastRetention
        } else {
            Counts::Yes
        }
    }
}

impl Judgement {
    pub fn cut_at(&self) -> Timestamp {
        match (self.cut, self.at) {
            (Cut::Row, Some(at)) => at,
            (Cut::Row, None) => Timestamp(i64::MIN),
            (Cut::Instant(instant), _) => instant,
            (Cut::None, _) => Timestamp(i64::MAX),
        }
    }

    /// The least valid_at that is not too old.
    pub fn oldest(&self) -> i64 {
        self.at.zip(self.ttl).map_or(i64::MIN, |(at, ttl)| at.micros().saturating_sub(ttl.micros()))
    }

    /// Why a row cannot win whatever others there are: the first reason that applies.
    fn excludes(&self, row: &CandidateRow, known: &Known) -> Option<&'static str> {
        if row.batch.by.sequence > self.sequence {
            // One that has become too old counts for nobody, before and after it is deleted.
            Some(if Some(row.valid_at) < known.since_now { "past_retention" } else { "after_sequence" })
        } else if known.counts(row) == Counts::OtherVersion {
            Some("other_version")
        } else if known.counts(row) == Counts::Withdrawn {
            Some("withdrawn")
        } else if known.counts(row) == Counts::Quarantined {
            Some("quarantined")
        } else if known.counts(row) == Counts::PastRetention {
            Some("past_retention")
        } else if row.known_at > self.cut_at() {
            Some("not_yet_known")
        } else if self.at.is_none_or(|at| row.valid_at > at) {
            Some("later")
        } else if row.valid_at.micros() < self.oldest() {
            Some("expired")
        } else {
            None
        }
    }

    /// The place of the winner.
    pub fn best(&self, rows: &[CandidateRow], known: &Known) -> Option<usize> {
        let order =
            |row: &CandidateRow| (row.valid_at, row.known_at, row.batch.by.sequence, row.file, row.row);
        (0..rows.len())
            .filter(|place| self.excludes(&rows[*place], known).is_none())
            .max_by_key(|place| order(&rows[*place]))
    }

    /// Every candidate with the first reason for which it lost; the winner has none. Those nearest to the asked time come first, for
    /// a reader would have expected them to win.
    pub fn judge<'a>(
        &self,
        rows: &'a [CandidateRow],
        known: &Known,
    ) -> Vec<(&'a CandidateRow, Option<&'static str>)> {
        let best = self.best(rows, known);
        let winner = best.map(|best| &rows[best]);
        let mut judged: Vec<(&CandidateRow, Option<&'static str>)> = Vec::with_capacity(rows.len());
        for (place, row) in rows.iter().enumerate() {
            let lost = match (self.excludes(row, known), winner) {
                (Some(reason), _) => Some(reason),
                (None, _) if best == Some(place) => None,
                (None, Some(winner)) if row.valid_at < winner.valid_at => Some("older"),
                (None, Some(winner)) if row.known_at < winner.known_at => Some("corrected"),
                (None, _) => Some("tie"),
            };
            judged.push((row, lost));
        }
        let at = self.at.map_or(0, Timestamp::micros);
        judged.sort_by_key(|(row, _)| {
            (
                row.valid_at.micros().abs_diff(at),
                Reverse((row.valid_at, row.known_at, row.batch.by.sequence, row.row)),
            )
        });
        judged
    }

    /// Where nothing wins: of all candidates of the snapshot, the reason of the one that came furthest.
    pub fn furthest(&self, null_key: bool, rows: &[CandidateRow], known: &Known) -> NullReason {
        let Some(at) = self.at.filter(|_| !null_key) else { return NullReason::NullKeyOrTime };
        let mut reason = NullReason::UnknownEntity;
        let counted =
            |row: &&CandidateRow| row.batch.by.sequence <= self.sequence && known.counts(row) == Counts::Yes;
        for row in rows.iter().filter(counted) {
            let reached = if row.valid_at > at {
                NullReason::Later
            } else if row.known_at > self.cut_at() {
                NullReason::NotYetKnown
            } else {
                NullReason::Expired
            };
            reason = reason.max(reached);
        }
        reason
    }
}
