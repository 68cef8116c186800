//! Several files of overlapping times as one side, some keys at a time: the rows of each key sorted as they would be in one file.

use arrow::array::BooleanArray;

use super::keys::KeyRun;
use super::matching::{Known, KnownTimes, Origin, Side};

/// Rows that are merged at once, about: few enough to stay near their core.
const ROWS_AT_ONCE: usize = 1 << 16;

/// A row that may answer. Ordered as the rule ranks candidates: by valid_at, known_at, and then as the log and the file have them.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    valid_at: i64,
    known_at: i64,
    file: u32,
    row: u32,
    retracted: bool,
}

/// What files of overlapping times have of one key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OfKey {
    pub files: usize,
    pub rows: usize,
}

/// Sides on their way to be merged.
pub(super) struct Merging<'a> {
    /// Each side's runs that are still to come, ascending by key.
    sides: Vec<(&'a Side, &'a [KeyRun])>,
    /// By key, from the number `first` on. Keys without rows are left out.
    keys: Vec<OfKey>,
    first: u32,
    /// How many keys are done.
    done: usize,
}

impl<'a> Merging<'a> {
    /// `keys` are as many as the runs', counted from the number `first` on; those that are not to be merged have no rows.
    pub(super) fn new(
        sides: impl Iterator<Item = (&'a Side, &'a [KeyRun])>,
        keys: Vec<OfKey>,
        first: u32,
    ) -> Self {
        Self { sides: sides.collect(), keys, first, done: 0 }
    }

    /// The next keys' rows; none where there are no more.
    pub(super) fn next(&mut self) -> Option<Side> {
        let from = self.done;
        // Where each key's rows begin among those that are merged now.
        let mut places: Vec<usize> = Vec::new();
        let mut count = 0;
        while count < ROWS_AT_ONCE && self.done < self.keys.len() {
            places.push(count);
            count += self.keys[self.done].rows;
            self.done += 1;
        }
        if count == 0 {
            return None;
        }
        let mut rows = vec![Row::default(); count];
        let mut next = places.clone();
        for (side, runs) in &mut self.sides {
            while let Some((run, rest)) = runs.split_first() {
                let key = (run.group - self.first) as usize;
                if key >= self.done {
                    break;
                }
                *runs = rest;
                if self.keys[key].rows == 0 {
                    continue;
                }
                let place = &mut next[key - from];
                for row in run.from..run.until {
                    rows[*place] = row_of(side, row);
                    *place += 1;
                }
            }
        }
        let mut runs = Vec::with_capacity(places.len());
        for (key, place) in (from..).zip(places) {
            let OfKey { files, rows: count } = self.keys[key];
            let until = place + count;
            if count > 0 {
                let rows = &mut rows[place..until];
                // Each file's rows are sorted already. A stable sort makes use of it where there are enough of them.
                if count > files * LONG_RUN {
                    rows.sort()
                } else {
                    rows.sort_unstable()
                }
                runs.push(KeyRun { group: self.first + key as u32, from: place, until });
            }
        }
        let retracted = rows.iter().any(|row| row.retracted);
        Some(Side {
            valid_at: rows.iter().map(|row| row.valid_at).collect(),
            known: Known::Column(KnownTimes::new(rows.iter().map(|row| row.known_at).collect())),
            retracted: retracted
                .then(|| BooleanArray::from(rows.iter().map(|row| row.retracted).collect::<Vec<bool>>())),
            runs,
            rows: Origin::Several(rows.into_iter().map(|row| (row.file, row.row)).collect()),
            held: None,
        })
    }
}

/// From so many rows of a key a file on, on average.
const LONG_RUN: usize = 8;

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
