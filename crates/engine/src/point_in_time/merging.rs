//! Several files of overlapping times as one side: rows of the spine's keys alone, sorted as they would be in one file.

use arrow::array::BooleanArray;

use super::keys::KeyRun;
use super::matching::{Known, KnownTimes, Origin, Side};

/// A row that may answer. Ordered as the rule ranks candidates: by valid_at, known_at, and then as the log and the file have them.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    valid_at: i64,
    known_at: i64,
    file: u32,
    row: u32,
    retracted: bool,
}

/// Takes the runs of keys that so many sides have out of the sides, and gives them back by side. `groups` is the number of the spine's keys.
pub(super) fn split(sides: &mut [Side], groups: usize, from: usize) -> Vec<Vec<KeyRun>> {
    let mut files = vec![0usize; groups];
    for run in sides.iter().flat_map(|side| &side.runs) {
        files[run.group as usize] += 1;
    }
    sides
        .iter_mut()
        .map(|side| side.runs.extract_if(.., |run| files[run.group as usize] >= from).collect())
        .collect()
}

/// Merges these runs of sides.
pub(super) fn merge(sides: Vec<Side>, runs: Vec<Vec<KeyRun>>, groups: usize) -> Side {
    let mut starts = vec![0usize; groups + 1];
    for run in runs.iter().flatten() {
        starts[run.group as usize + 1] += run.until - run.from;
    }
    for group in 0..groups {
        starts[group + 1] += starts[group];
    }
    let mut rows = vec![Row::default(); starts[groups]];
    let mut next = starts.clone();
    let any_retracted = sides.iter().any(|side| side.retracted.is_some());
    for (side, runs) in sides.into_iter().zip(runs) {
        for run in runs {
            let place = &mut next[run.group as usize];
            for row in run.from..run.until {
                let (file, file_row) = side.rows.of(row);
                let valid_at = side.valid_at[row];
                rows[*place] = Row {
                    valid_at,
                    known_at: side.known.of(row, valid_at),
                    file,
                    row: file_row,
                    retracted: side.retracted.as_ref().is_some_and(|retracted| retracted.value(row)),
                };
                *place += 1;
            }
        }
    }
    let mut runs = Vec::new();
    for (group, bounds) in (0u32..).zip(starts.windows(2)) {
        let (from, until) = (bounds[0], bounds[1]);
        if from < until {
            // Each file's rows are sorted already, which a stable sort makes use of.
            rows[from..until].sort();
            runs.push(KeyRun { group, from, until });
        }
    }
    Side {
        valid_at: rows.iter().map(|row| row.valid_at).collect(),
        known: Known::Column(KnownTimes::new(rows.iter().map(|row| row.known_at).collect())),
        retracted: any_retracted
            .then(|| BooleanArray::from(rows.iter().map(|row| row.retracted).collect::<Vec<bool>>())),
        runs,
        rows: Origin::Several(rows.into_iter().map(|row| (row.file, row.row)).collect()),
    }
}
