//! Of rows that are sorted by key and time, the last of each run of equals, unless it is a retraction.

use std::collections::HashMap;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat, concat_batches, partition, take_record_batch};
use datafusion::common::{Result, internal_err};
use foldhash::fast::RandomState;

use crate::point_in_time::equal_bytes;

/// Takes sorted rows batch by batch. The last run of a batch is held back, for it may go on in the next.
#[derive(Debug)]
pub struct LastOfRuns {
    /// Columns whose values a run has in common come first, so many of them.
    same: usize,
    /// The column that keeps rows of one run apart, if there is one.
    occurrence: Option<usize>,
    retracted: usize,
    /// What has come of the run that may go on.
    held: Vec<RecordBatch>,
}

impl LastOfRuns {
    pub fn new(same: usize, occurrence: Option<usize>, retracted: usize) -> Self {
        Self { same, occurrence, retracted, held: Vec::new() }
    }

    /// What is known to be last now that these rows have come.
    pub fn push(&mut self, rows: &RecordBatch) -> Result<Vec<RecordBatch>> {
        let runs = self.runs(rows)?;
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return Ok(Vec::new()) };
        let mut done = Vec::new();
        let mut start = 0;
        if self.goes_on(rows)? {
            self.hold(rows.slice(0, first.end));
            if runs.len() == 1 {
                return Ok(done);
            }
            start = 1;
        }
        done.extend(self.finish()?);
        done.push(self.last_of(rows, &runs[start..runs.len() - 1])?);
        self.hold(rows.slice(last.start, last.end - last.start));
        done.retain(|batch| batch.num_rows() > 0);
        Ok(done)
    }

    /// What survives of the run that was held back.
    pub fn finish(&mut self) -> Result<Option<RecordBatch>> {
        let held = std::mem::take(&mut self.held);
        let Some(first) = held.first() else { return Ok(None) };
        let run = concat_batches(&first.schema(), &held)?;
        let last = self.last_of(&run, std::slice::from_ref(&(0..run.num_rows())))?;
        Ok((last.num_rows() > 0).then_some(last))
    }

    fn runs(&self, rows: &RecordBatch) -> Result<Vec<Range<usize>>> {
        if rows.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let Some(same) = rows.columns().get(..self.same) else {
            return internal_err!("rows have fewer columns than their runs have in common");
        };
        Ok(partition(same)?.ranges())
    }

    /// Of a run all but the last can be dropped, where nothing keeps them apart.
    fn hold(&mut self, run: RecordBatch) {
        if self.occurrence.is_some() {
            self.held.push(run);
        } else {
            self.held = vec![run.slice(run.num_rows() - 1, 1)];
        }
    }

    /// Whether the first of these rows belongs to the run that is held.
    fn goes_on(&self, rows: &RecordBatch) -> Result<bool> {
        let Some(held) = self.held.last() else { return Ok(false) };
        let pairs = held.columns().iter().zip(rows.columns()).take(self.same);
        let pairs = pairs.map(|(held, rows)| concat(&[&held.slice(held.len() - 1, 1), &rows.slice(0, 1)]));
        let pairs: Vec<ArrayRef> = pairs.collect::<Result<_, _>>()?;
        Ok(partition(&pairs)?.len() == 1)
    }

    /// The rows that survive of some runs.
    fn last_of(&self, rows: &RecordBatch, runs: &[Range<usize>]) -> Result<RecordBatch> {
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return Ok(rows.slice(0, 0)) };
        let mut kept: Vec<u32> = Vec::with_capacity(runs.len());
        match self.occurrence {
            None => kept.extend(runs.iter().map(|run| run.end as u32 - 1)),
            Some(column) => {
                let column = rows.column(column).slice(first.start, last.end - first.start);
                let values = equal_bytes(&[column])?;
                let mut lasts: HashMap<&[u8], u32, RandomState> = HashMap::default();
                for run in runs {
                    if run.len() == 1 {
                        kept.push(run.start as u32);
                        continue;
                    }
                    for row in run.clone() {
                        lasts.insert(values.row(row - first.start).data(), row as u32);
                    }
                    let from = kept.len();
                    kept.extend(lasts.drain().map(|(_, row)| row));
                    kept[from..].sort_unstable();
                }
            }
        }
        if let Some(retracted) = rows.column(self.retracted).as_boolean_opt() {
            kept.retain(|row| !retracted.value(*row as usize));
        }
        if kept.len() == last.end - first.start {
            return Ok(rows.slice(first.start, kept.len()));
        }
        Ok(take_record_batch(rows, &UInt32Array::from(kept))?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Int64Array};

    use super::*;

    /// Key, occurrence, whether it is a retraction, and the row's number.
    fn rows(rows: &[(i64, Option<i64>, bool)]) -> RecordBatch {
        let keys: Int64Array = rows.iter().map(|row| Some(row.0)).collect();
        let occurrences: Int64Array = rows.iter().map(|row| row.1).collect();
        let retracted: BooleanArray = rows.iter().map(|row| Some(row.2)).collect();
        let numbers = Int64Array::from_iter_values(0..rows.len() as i64);
        RecordBatch::try_from_iter([
            ("key", Arc::new(keys) as ArrayRef),
            ("occurrence", Arc::new(occurrences)),
            ("retracted", Arc::new(retracted)),
            ("number", Arc::new(numbers)),
        ])
        .unwrap()
    }

    fn last(rows: &RecordBatch, size: usize, occurrence: Option<usize>) -> Vec<i64> {
        let mut runs = LastOfRuns::new(1, occurrence, 2);
        let mut batches = Vec::new();
        for from in (0..rows.num_rows()).step_by(size) {
            batches.extend(runs.push(&rows.slice(from, size.min(rows.num_rows() - from))).unwrap());
        }
        batches.extend(runs.finish().unwrap());
        assert!(batches.iter().all(|batch| batch.num_rows() > 0));
        let numbers = |batch: &RecordBatch| {
            batch.column(3).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
        };
        batches.iter().flat_map(numbers).collect()
    }

    #[test]
    fn the_last_of_each_run_is_left_wherever_batches_are_cut() {
        let given = [
            (1, None, false),
            (1, Some(1), false),
            (2, Some(1), true),
            (3, Some(1), false),
            (3, None, false),
            (3, Some(1), true),
            (4, None, true),
            (4, None, false),
            (5, Some(2), false),
        ];
        for size in 1..=given.len() {
            let rows = rows(&given);
            assert_eq!(last(&rows, size, None), [1, 7, 8], "{size}");
            // Null is an occurrence of its own.
            assert_eq!(last(&rows, size, Some(1)), [0, 1, 4, 7, 8], "{size}");
        }
        assert_eq!(last(&rows(&[]), 1, None), Vec::<i64>::new());
    }
}
