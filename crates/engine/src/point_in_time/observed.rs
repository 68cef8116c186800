//! Where a value can have come from: every observation of a spine row's key that has it.
//!
//! An audit asks this of rows whose value is not the one that was known at their time. Files are met side by side, and each
//! key's rows once, whatever number of spine rows ask for its values.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use catalog::VisibleFile;
use catalog::state::ViewVersion;
use datafusion::common::{Result, exec_datafusion_err};
use feature::Timestamp;
use foldhash::fast::RandomState;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};

use super::cores::cores;
use super::matching::offset_of;
use super::{SpineOrder, equal_bytes};
use crate::data_files::DataFiles;
use crate::row_batches::CountedRows;

/// A row of a file that has a value that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    pub valid_at: Timestamp,
    pub known_at: Timestamp,
    /// Position in the files that were given.
    pub file: usize,
    /// Position in the file's batches.
    pub batch: u32,
    /// Row in the file; the first is 0.
    pub row: u64,
}

/// The observations of each key and value that spine rows asked for.
#[derive(Debug, Default)]
pub struct Observed {
    /// By spine row: which of `found`; none where the row was not asked about, or has no key or value.
    asked: Vec<Option<u32>>,
    found: Vec<Times>,
}

/// The observations of one key and value.
#[derive(Debug, Default)]
struct Times {
    /// Ascending by valid_at.
    rows: Vec<Observation>,
    /// Of each block of rows, the earliest and the latest known_at.
    known: Vec<(Timestamp, Timestamp)>,
}

/// Rows of a block, so that a long stretch of what was known is crossed block by block.
const BLOCK: usize = 64;

impl Observed {
    /// The observations of the row's key that have the row's value, ascending by valid_at.
    pub fn of(&self, row: usize) -> &[Observation] {
        self.times(row).map_or(&[], |times| &times.rows)
    }

    /// Of those that were true and known at an instant, the one with the greatest valid_at.
    pub fn latest_knowable(&self, row: usize, at: Timestamp) -> Option<&Observation> {
        self.times(row).and_then(|times| times.latest_knowable(at))
    }

    /// Of those that were not true or not known yet, the one whose valid_at is nearest to the instant; the earlier of two.
    pub fn nearest_unknown(&self, row: usize, at: Timestamp) -> Option<&Observation> {
        self.times(row).and_then(|times| times.nearest_unknown(at))
    }

    fn times(&self, row: usize) -> Option<&Times> {
        self.found.get(self.asked.get(row).copied().flatten()? as usize)
    }
}

impl Times {
    fn sort(&mut self) {
        self.rows.sort_unstable_by_key(|found| (found.valid_at, found.known_at, found.file, found.row));
        let known = |block: &[Observation]| {
            let times = block.iter().map(|row| row.known_at);
            Some((times.clone().min()?, times.max()?))
        };
        self.known = self.rows.chunks(BLOCK).filter_map(known).collect();
    }

    /// How many were true at an instant.
    fn true_at(&self, at: Timestamp) -> usize {
        self.rows.partition_point(|row| row.valid_at <= at)
    }

    fn latest_knowable(&self, at: Timestamp) -> Option<&Observation> {
        let holds = |(earliest, _): &(Timestamp, Timestamp)| *earliest <= at;
        self.last_before(self.true_at(at), holds, |row| row.known_at <= at)
    }

    fn nearest_unknown(&self, at: Timestamp) -> Option<&Observation> {
        let end = self.true_at(at);
        let later = self.rows.get(end);
        let holds = |(_, latest): &(Timestamp, Timestamp)| *latest > at;
        let earlier = self.last_before(end, holds, |row| row.known_at > at);
        match (earlier, later) {
            (Some(earlier), Some(later)) => {
                let since = at.micros().abs_diff(earlier.valid_at.micros());
                Some(if since <= later.valid_at.micros().abs_diff(at.micros()) { earlier } else { later })
            }
            (earlier, later) => earlier.or(later),
        }
    }

    /// The last row before `end` that is wanted; `holds` says whether a block may have one.
    fn last_before(
        &self,
        end: usize,
        holds: impl Fn(&(Timestamp, Timestamp)) -> bool,
        wanted: impl Fn(&Observation) -> bool,
    ) -> Option<&Observation> {
        let mut end = end;
        while end > 0 {
            let block = (end - 1) / BLOCK;
            let start = block * BLOCK;
            if self.known.get(block).is_some_and(&holds)
                && let Some(found) = self.rows[start..end].iter().rev().find(|row| wanted(row))
            {
                return Some(found);
            }
            end = start;
        }
        None
    }
}

type Asked = HashMap<Box<[u8]>, u32, RandomState>;

/// Finds the observations that have the value of each spine row that `rows` names. `values` is a value a spine row; a stored
/// value is cast to its type before they are compared. Retractions have no value.
///
/// # Errors
/// Those of the files; a type that values cannot be compared in.
pub async fn observed(
    data: &DataFiles,
    version: &Arc<ViewVersion>,
    files: &[VisibleFile],
    spine: &Arc<SpineOrder>,
    feature: &str,
    values: &ArrayRef,
    rows: &[u32],
) -> Result<Observed> {
    let mut wanted = vec![false; spine.rows()];
    for row in rows {
        if let Some(wanted) = wanted.get_mut(*row as usize) {
            *wanted = values.is_valid(*row as usize);
        }
    }
    let mut observed = Observed { asked: vec![None; spine.rows()], found: Vec::new() };
    let mut groups: Vec<Asked> = Vec::new();
    groups.resize_with(spine.keys().len(), HashMap::default);
    let encoded = equal_bytes(std::slice::from_ref(values))?;
    for (group, asked) in groups.iter_mut().enumerate() {
        for (_, row) in &spine.entries()[spine.group(group as u32)] {
            if wanted[*row as usize] {
                let next = observed.found.len() as u32;
                let number = *asked.entry(encoded.row(*row as usize).data().into()).or_insert(next);
                if number == next {
                    observed.found.push(Times::default());
                }
                observed.asked[*row as usize] = Some(number);
            }
        }
    }
    if observed.found.is_empty() {
        return Ok(observed);
    }
    let groups = Arc::new(groups);
    let mut reads = Vec::with_capacity(files.len());
    for (index, file) in files.iter().enumerate() {
        let question = Question {
            data: data.clone(),
            version: version.clone(),
            file: file.clone(),
            index,
            spine: spine.clone(),
            feature: feature.to_owned(),
            kind: values.data_type().clone(),
            groups: groups.clone(),
        };
        reads.push(question.answer().boxed());
    }
    let mut answers = stream::iter(reads).buffer_unordered(cores());
    while let Some(answer) = answers.try_next().await? {
        for (number, observation) in answer {
            observed.found[number as usize].rows.push(observation);
        }
    }
    drop(answers);
    for found in &mut observed.found {
        found.sort();
    }
    Ok(observed)
}

/// What is asked of one file.
struct Question {
    data: DataFiles,
    version: Arc<ViewVersion>,
    file: VisibleFile,
    index: usize,
    spine: Arc<SpineOrder>,
    feature: String,
    kind: DataType,
    groups: Arc<Vec<Asked>>,
}

impl Question {
    async fn answer(self) -> Result<Vec<(u32, Observation)>> {
        let keys: Vec<&str> = self.version.keys().iter().map(|key| key.name.as_str()).collect();
        let mut names = keys.clone();
        names.extend(["valid_at", "known_at", "_retracted", &self.feature]);
        let pages = self.spine.key_pages(&self.data.footer(&self.file.file).await?, self.version.keys())?;
        let selection = pages.as_ref().map(|pages| pages.selection());
        let counted = CountedRows::read(&self.data, &self.file, &names, selection, true).await?;
        let columns = &counted.columns;
        let lacks = |name: &str| {
            exec_datafusion_err!(
                "data file `{}` has no column `{name}` of the right type",
                self.file.file.path
            )
        };
        let mut key_columns = Vec::with_capacity(keys.len());
        for (name, key) in keys.iter().zip(self.version.keys()) {
            let column = columns.column_by_name(name).ok_or_else(|| lacks(name))?;
            key_columns.push(cast(column, &key.data_type.arrow())?);
        }
        let times = |name: &str| {
            columns
                .column_by_name(name)
                .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
        };
        let valid_at = times("valid_at").ok_or_else(|| lacks("valid_at"))?;
        let known_at = times("known_at");
        let offset = offset_of(&self.version, &self.file);
        let retracted = columns.column_by_name("_retracted").and_then(|column| column.as_boolean_opt());
        // A batch that lacks the feature has no value of it.
        let Some(stored) = columns.column_by_name(&self.feature) else { return Ok(Vec::new()) };
        let stored = cast(stored, &self.kind)?;
        let encoded = equal_bytes(std::slice::from_ref(&stored))?;
        let mut found = Vec::new();
        for run in self.spine.keys().runs(&key_columns, columns.num_rows())? {
            let Some(asked) = self.groups.get(run.group as usize).filter(|asked| !asked.is_empty()) else {
                continue;
            };
            for row in run.from..run.until {
                if stored.is_null(row) || retracted.is_some_and(|retracted| retracted.value(row)) {
                    continue;
                }
                let Some(number) = asked.get(encoded.row(row).data()) else { continue };
                let valid = valid_at.value(row);
                let known = match (offset, known_at) {
                    (Some(offset), _) => valid.saturating_add(offset),
                    (None, Some(known)) => known.value(row),
                    (None, None) => self.file.first().by.committed_at.micros(),
                };
                let read = counted.place(row);
                let place = pages.as_ref().map_or(read as u64, |pages| u64::from(pages.row(read)));
                let observation = Observation {
                    valid_at: Timestamp(valid),
                    known_at: Timestamp(known),
                    file: self.index,
                    batch: counted.batch_place(row),
                    row: place,
                };
                found.push((*number, observation));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_nearest_are_found(
            rows in prop::collection::vec((0i64..40, 0i64..60), 0..300),
            at in 0i64..60,
        ) {
            let at = Timestamp(at);
            let row = |(place, (valid, known)): (usize, &(i64, i64))| Observation {
                valid_at: Timestamp(*valid), known_at: Timestamp(*known), file: 0, batch: 0, row: place as u64,
            };
            let mut times = Times { rows: rows.iter().enumerate().map(row).collect(), ..Times::default() };
            times.sort();
            let unknown = |row: &&Observation| row.valid_at > at || row.known_at > at;
            let distance = |row: &Observation| row.valid_at.micros().abs_diff(at.micros());
            let nearest = times.rows.iter().filter(unknown).map(distance).min();
            let found = times.nearest_unknown(at);
            prop_assert_eq!(found.map(distance), nearest);
            prop_assert!(found.as_ref().is_none_or(unknown));
            let latest = times.rows.iter().filter(|row| !unknown(row)).map(|row| row.valid_at).max();
            prop_assert_eq!(times.latest_knowable(at).map(|row| row.valid_at), latest);
        }
    }
}
