//! The match: for each spine row the best candidate, from key and time columns alone.

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, UInt32Array};
use arrow::compute::{SortColumn, lexsort_to_indices, take};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use catalog::VisibleFile;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};

use super::{Cut, Direction, Lookup, NullReason, SpineOrder};
use crate::data_files::DataFiles;

/// The best candidate of a spine row so far.
#[derive(Clone, Copy, Debug)]
struct Best {
    valid_at: i64,
    known_at: i64,
    file: u32,
    row: u32,
    retracted: bool,
}

/// What a spine row gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A row of one of the files.
    Row { file: u32, row: u32, valid_at: i64 },
    /// No candidate, or a retraction that won.
    None(NullReason),
}

/// Matches a spine against the files of a lookup. One answer a spine row, in the spine's order.
pub async fn match_files(files: &DataFiles, lookup: &Lookup, spine: &SpineOrder) -> Result<Vec<Answer>> {
    let mut matching = Matching::new(spine, lookup.direction, lookup.cut);
    let keys: Vec<&str> = lookup.version.keys().iter().map(|key| key.name.as_str()).collect();
    let types: Vec<DataType> = lookup.version.keys().iter().map(|key| key.data_type.arrow()).collect();
    let mut names = keys.clone();
    names.extend(["valid_at", "known_at", "_retracted"]);
    for (index, file) in lookup.files.iter().enumerate() {
        let columns = files.columns(file, &names, None).await?;
        let key_columns = keys
            .iter()
            .zip(&types)
            .map(|(name, kind)| {
                let column = columns.column_by_name(name).ok_or_else(|| lacks(file, name))?;
                Ok(arrow::compute::cast(column, kind)?)
            })
            .collect::<Result<Vec<ArrayRef>>>()?;
        let times = |name: &str| {
            columns
                .column_by_name(name)
                .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
        };
        let valid_at = times("valid_at").ok_or_else(|| lacks(file, "valid_at"))?;
        let known_at = times("known_at").map(|column| column.values().as_ref());
        let retracted = columns.column_by_name("_retracted").and_then(|column| column.as_boolean_opt());
        let side = Side {
            file: index as u32,
            keys: &key_columns,
            valid_at: valid_at.values(),
            known_at,
            arrival: file.batch.by.committed_at.micros(),
            retracted,
        };
        matching.add(&side)?;
    }
    Ok(matching.finish(lookup.ttl.map(feature::Span::micros)))
}

/// Matches against rows in memory that are in any order. Among equals the last wins. `times` order as the spine's do.
pub fn in_memory(
    spine: &SpineOrder,
    keys: &[ArrayRef],
    times: &Int64Array,
    direction: Direction,
) -> Result<Vec<Option<u32>>> {
    let rows = times.len();
    let mut usable = Vec::with_capacity(rows);
    for row in 0..rows {
        if times.is_valid(row) && keys.iter().all(|key| key.is_valid(row)) {
            usable.push(row as u32);
        }
    }
    let usable = UInt32Array::from(usable);
    let mut columns = keys.iter().map(|key| take(key, &usable, None)).collect::<Result<Vec<_>, _>>()?;
    columns.push(take(times, &usable, None)?);
    // The original position comes last, so that the order is total and stable.
    columns.push(std::sync::Arc::new(usable));
    let order: Vec<SortColumn> =
        columns.iter().map(|values| SortColumn { values: values.clone(), options: None }).collect();
    let order = lexsort_to_indices(&order, None)?;
    let mut sorted =
        columns.iter().map(|column| take(column, &order, None)).collect::<Result<Vec<_>, _>>()?;
    let (Some(original), Some(times)) = (sorted.pop(), sorted.pop()) else {
        return Ok(vec![None; spine.rows()]);
    };
    let original = original.as_primitive::<arrow::datatypes::UInt32Type>().clone();
    let times = times.as_primitive::<arrow::datatypes::Int64Type>().clone();

    let mut matching = Matching::new(spine, direction, Cut::None);
    matching.add(&Side {
        file: 0,
        keys: &sorted,
        valid_at: times.values(),
        known_at: None,
        arrival: i64::MIN,
        retracted: None,
    })?;
    let answers = matching.finish(None);
    Ok(answers
        .into_iter()
        .map(|answer| match answer {
            Answer::Row { row, .. } => Some(original.value(row as usize)),
            Answer::None(_) => None,
        })
        .collect())
}

fn lacks(file: &VisibleFile, column: &str) -> DataFusionError {
    exec_datafusion_err!("data file `{}` has no column `{column}` of the right type", file.file.path)
}

/// The key and time columns of one file, sorted by (key, valid_at, known_at, arrival).
struct Side<'a> {
    file: u32,
    keys: &'a [ArrayRef],
    valid_at: &'a [i64],
    /// Absent where the whole file became known when its batch arrived.
    known_at: Option<&'a [i64]>,
    arrival: i64,
    retracted: Option<&'a BooleanArray>,
}

struct Matching<'a> {
    spine: &'a SpineOrder,
    direction: Direction,
    cut: Cut,
    best: Vec<Option<Best>>,
    /// How far the candidate that came furthest got, of rows that have no best yet.
    furthest: Vec<NullReason>,
}

impl<'a> Matching<'a> {
    fn new(spine: &'a SpineOrder, direction: Direction, cut: Cut) -> Self {
        let furthest = (0..spine.rows())
            .map(|row| if spine.is_null(row) { NullReason::NullKeyOrTime } else { NullReason::UnknownEntity })
            .collect();
        Self { spine, direction, cut, best: vec![None; spine.rows()], furthest }
    }

    fn add(&mut self, side: &Side<'_>) -> Result<()> {
        let known = side.known_at.map(KnownTimes::new);
        for (from, until, rows) in self.spine.runs(side.keys, side.valid_at.len())? {
            let run = Run { side, known: known.as_ref(), from, until };
            if self.direction.looks_back() {
                self.back(&run, rows);
            } else {
                self.forward(&run, rows);
            }
        }
        Ok(())
    }

    /// The spine's times ascend, so the end of what is not later only moves on.
    fn back(&mut self, run: &Run<'_>, rows: &[(i64, u32)]) {
        let strict = self.direction == Direction::Before;
        let mut end = run.from;
        for &(at, row) in rows {
            end = run.advance(end, |valid_at| if strict { valid_at < at } else { valid_at <= at });
            if end == run.from {
                self.reached(row, NullReason::Later);
                continue;
            }
            match run.last_known(end, self.cut_at(at)) {
                Some(found) => self.offer(run.best(found), row),
                None => self.reached(row, NullReason::NotYetKnown),
            }
        }
    }

    fn forward(&mut self, run: &Run<'_>, rows: &[(i64, u32)]) {
        let strict = self.direction == Direction::After;
        let mut start = run.from;
        for &(at, row) in rows {
            start = run.advance(start, |valid_at| if strict { valid_at <= at } else { valid_at < at });
            if start == run.until {
                self.reached(row, NullReason::Later);
                continue;
            }
            match run.first_known(start, self.cut_at(at)) {
                Some(found) => self.offer(run.best(found), row),
                None => self.reached(row, NullReason::NotYetKnown),
            }
        }
    }

    fn cut_at(&self, at: i64) -> i64 {
        match self.cut {
            Cut::Row => at,
            Cut::Instant(instant) => instant.micros(),
            Cut::None => i64::MAX,
        }
    }

    fn reached(&mut self, row: u32, reason: NullReason) {
        let furthest = &mut self.furthest[row as usize];
        *furthest = (*furthest).max(reason);
    }

    /// Files come in the order of the log, so among equals the one that comes later has the greater sequence.
    fn offer(&mut self, candidate: Best, row: u32) {
        let best = &mut self.best[row as usize];
        let wins = match best {
            None => true,
            Some(best) if self.direction.looks_back() => {
                (candidate.valid_at, candidate.known_at) >= (best.valid_at, best.known_at)
            }
            Some(best) => {
                candidate.valid_at < best.valid_at
                    || candidate.valid_at == best.valid_at && candidate.known_at >= best.known_at
            }
        };
        if wins {
            *best = Some(candidate);
        }
    }

    fn finish(self, ttl: Option<i64>) -> Vec<Answer> {
        let mut answers: Vec<Answer> = self.furthest.into_iter().map(Answer::None).collect();
        for &(at, row) in self.spine.grouped() {
            let Some(best) = self.best[row as usize] else { continue };
            // The newest known candidate is too old: then all are.
            let expired =
                self.direction.looks_back() && ttl.is_some_and(|ttl| best.valid_at < at.saturating_sub(ttl));
            answers[row as usize] = if expired {
                Answer::None(NullReason::Expired)
            } else if best.retracted {
                Answer::None(NullReason::Retracted)
            } else {
                Answer::Row { file: best.file, row: best.row, valid_at: best.valid_at }
            };
        }
        answers
    }
}

/// The rows of one key in one file.
struct Run<'a> {
    side: &'a Side<'a>,
    known: Option<&'a KnownTimes<'a>>,
    from: usize,
    until: usize,
}

impl Run<'_> {
    /// The first row from `start` on that the condition does not hold for; it holds for a prefix. Gallops, so that a dense
    /// spine costs a step a row and a sparse one a logarithm.
    fn advance(&self, start: usize, holds: impl Fn(i64) -> bool) -> usize {
        let times = &self.side.valid_at[start..self.until];
        let mut bound = 1;
        while bound <= times.len() && holds(times[bound - 1]) {
            bound *= 2;
        }
        let low = bound / 2;
        let high = times.len().min(bound);
        start + low + times[low..high].partition_point(|valid_at| holds(*valid_at))
    }

    /// The last row before `end` that was known by the cut.
    fn last_known(&self, end: usize, cut: i64) -> Option<usize> {
        match self.known {
            Some(known) => known.last(self.from, end, cut),
            None => (self.side.arrival <= cut).then(|| end - 1),
        }
    }

    /// Of the rows from `start` on that were known by the cut, those with the least valid_at; of these the last.
    fn first_known(&self, start: usize, cut: i64) -> Option<usize> {
        let first = match self.known {
            Some(known) => known.first(start, self.until, cut)?,
            None if self.side.arrival <= cut => start,
            None => return None,
        };
        let valid_at = self.side.valid_at[first];
        let end = self.advance(first, |time| time <= valid_at);
        self.last_known(end, cut).filter(|last| *last >= first)
    }

    fn best(&self, row: usize) -> Best {
        Best {
            valid_at: self.side.valid_at[row],
            known_at: self.side.known_at.map_or(self.side.arrival, |known| known[row]),
            file: self.side.file,
            row: row as u32,
            retracted: self.side.retracted.is_some_and(|retracted| retracted.value(row)),
        }
    }
}

/// Finds the nearest row that was known by a cut, with the least time of every block so that a long stretch of rows
/// which became known late is crossed block by block.
struct KnownTimes<'a> {
    times: &'a [i64],
    least: Vec<i64>,
}

const KNOWN_BLOCK: usize = 64;

impl<'a> KnownTimes<'a> {
    fn new(times: &'a [i64]) -> Self {
        let least =
            times.chunks(KNOWN_BLOCK).map(|block| block.iter().copied().min().unwrap_or(i64::MAX)).collect();
        Self { times, least }
    }

    fn last(&self, from: usize, end: usize, cut: i64) -> Option<usize> {
        let mut end = end;
        while end > from {
            let block = (end - 1) / KNOWN_BLOCK;
            let start = (block * KNOWN_BLOCK).max(from);
            if self.least[block] <= cut
                && let Some(found) = self.times[start..end].iter().rposition(|known| *known <= cut)
            {
                return Some(start + found);
            }
            end = start;
        }
        None
    }

    fn first(&self, start: usize, until: usize, cut: i64) -> Option<usize> {
        let mut start = start;
        while start < until {
            let block = start / KNOWN_BLOCK;
            let end = ((block + 1) * KNOWN_BLOCK).min(until);
            if self.least[block] <= cut
                && let Some(found) = self.times[start..end].iter().position(|known| *known <= cut)
            {
                return Some(start + found);
            }
            start = end;
        }
        None
    }
}
