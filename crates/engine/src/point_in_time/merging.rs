//! Several files of overlapping times as one side, some keys at a time: the rows of each key sorted as they would be in one file.

use std::iter::Peekable;
use std::vec::IntoIter;

use arrow::array::BooleanArray;

use super::keys::KeyRun;
use super::matching::{Known, KnownTimes, Origin, Side};

/// Rows that are merged at once, about: few enough to stay near their core.
const ROWS_AT_ONCE: usize = 1 << 16;

/// A row that may answer. Ordered as the rule ranks candidates: by valid_at, known_at, and then as the log and the file have them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    valid_at: i64,
    known_at: i64,
    file: u32,
    row: u32,
    retracted: bool,
}

/// Runs of sides on their way to be merged; each side's ascend by key.
pub(super) struct Merging<'a> {
    sides: Vec<(&'a Side, Peekable<IntoIter<KeyRun>>)>,
}

impl<'a> Merging<'a> {
    pub(super) fn new(sides: impl Iterator<Item = (&'a Side, Vec<KeyRun>)>) -> Self {
        Self { sides: sides.map(|(side, runs)| (side, runs.into_iter().peekable())).collect() }
    }

    /// The next keys' rows; none where there are no more.
    pub(super) fn next(&mut self) -> Option<Side> {
        let mut rows: Vec<Row> = Vec::with_capacity(ROWS_AT_ONCE * 2);
        let mut runs = Vec::new();
        while rows.len() < ROWS_AT_ONCE {
            let next = self.sides.iter_mut().filter_map(|(_, runs)| Some(runs.peek()?.group)).min();
            let Some(group) = next else { break };
            let from = rows.len();
            for (side, runs) in &mut self.sides {
                if let Some(run) = runs.next_if(|run| run.group == group) {
                    rows.extend((run.from..run.until).map(|row| row_of(side, row)));
                }
            }
            // Each file's rows are sorted already, which a stable sort makes use of.
            rows[from..].sort();
            runs.push(KeyRun { group, from, until: rows.len() });
        }
        if runs.is_empty() {
            return None;
        }
        let retracted = rows.iter().any(|row| row.retracted);
        Some(Side {
            valid_at: rows.iter().map(|row| row.valid_at).collect(),
            known: Known::Column(KnownTimes::new(rows.iter().map(|row| row.known_at).collect())),
            retracted: retracted
                .then(|| BooleanArray::from(rows.iter().map(|row| row.retracted).collect::<Vec<bool>>())),
            runs,
            rows: Origin::Several(rows.into_iter().map(|row| (row.file, row.row)).collect()),
        })
    }
}

fn row_of(side: &Side, row: usize) -> Row {
    let (file, file_row) = side.rows.of(row);
    let valid_at = side.valid_at[row];
    Row {
        valid_at,
        known_at: side.known.of(row, valid_at),
        file,
        row: file_row,
        retracted: side.retracted.as_ref().is_some_and(|retracted| retracted.value(row)),
    }
}
