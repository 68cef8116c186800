//! The match: for each spine row the best candidate, from key and time columns alone.
//!
//! Each file is sorted by key and time, and meets the spine's groups in one galloping pass. Files are met side by side; each
//! gives what it has to offer, and of all offers to a spine row the best is kept.

use std::num::NonZeroUsize;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, UInt32Array};
use arrow::compute::{SortColumn, lexsort_to_indices, take};
use arrow::datatypes::TimestampMicrosecondType;
use catalog::VisibleFile;
use catalog::records::KnownAtSource;
use catalog::state::ViewVersion;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use feature::Timestamp;
use feature::definition::KnownAt;
use futures::{StreamExt, stream};

use super::pages::PageSelection;
use super::{Cut, Direction, Lookup, NullReason, SpineOrder};
use crate::data_files::DataFiles;

/// What a spine found in the files of a view.
#[derive(Debug)]
pub struct Matched {
    /// By file: the rows that were hit, ascending, and the spine row of each.
    pub hits: Vec<Hits>,
    /// By spine row: why it found no value; `None` where a row of a file answers.
    pub reasons: Vec<Option<NullReason>>,
}

/// Rows of one file and the spine rows that they answer, side by side.
#[derive(Debug, Default)]
pub struct Hits {
    /// Ascending; a row that answers several spine rows stands here as often.
    pub rows: Vec<u32>,
    pub spine: Vec<u32>,
}

/// Matches a spine against the files of a lookup.
pub async fn match_files(files: &DataFiles, lookup: &Lookup, spine: &Arc<SpineOrder>) -> Result<Matched> {
    let matching = matching(files, lookup, spine).await?;
    Ok(matching.finish(lookup.direction, lookup.ttl.map(feature::Span::micros)))
}

/// The row that wins for each spine row, retractions among them, or why there is none.
pub async fn winners(
    files: &DataFiles,
    lookup: &Lookup,
    spine: &Arc<SpineOrder>,
) -> Result<Vec<Result<Winner, NullReason>>> {
    let matching = matching(files, lookup, spine).await?;
    Ok(matching.winners(lookup.direction, lookup.ttl.map(feature::Span::micros)))
}

/// A row of a file that answers a spine row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Winner {
    /// Position in the lookup's files.
    pub file: usize,
    /// Row in the file; the first is 0.
    pub row: u64,
    pub valid_at: Timestamp,
    pub known_at: Timestamp,
    pub retracted: bool,
}

async fn matching(files: &DataFiles, lookup: &Lookup, spine: &Arc<SpineOrder>) -> Result<Matching> {
    let mut matching = Matching::new(spine.clone(), lookup.files.len());
    let tasks = (0..lookup.files.len()).map(|file| {
        let (files, lookup, spine) = (files.clone(), lookup.clone(), spine.clone());
        SpawnedTask::spawn(async move {
            Ok::<_, DataFusionError>((file, offers_of(&files, &lookup, file, &spine).await?))
        })
        .join()
    });
    let mut offered = stream::iter(tasks).buffer_unordered(cores());
    while let Some(done) = offered.next().await {
        let (file, offers) = done.map_err(|error| DataFusionError::External(Box::new(error)))??;
        matching.take(file, offers, lookup.direction);
    }
    drop(offered);
    Ok(matching)
}

/// How much work of one query is done side by side.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

async fn offers_of(files: &DataFiles, lookup: &Lookup, file: usize, spine: &SpineOrder) -> Result<Offers> {
    let Some(visible) = lookup.files.get(file) else { return Ok(Offers::default()) };
    let keys: Vec<&str> = lookup.version.keys().iter().map(|key| key.name.as_str()).collect();
    let mut names = keys.clone();
    names.extend(["valid_at", "_retracted"]);
    let offset = known_offset(lookup, visible);
    if offset.is_none() {
        names.push("known_at");
    }
    let pages = spine.key_pages(&files.footer(&visible.file).await?, lookup.version.keys())?;
    let selection = pages.as_ref().map(PageSelection::selection);
    let columns = files.columns(visible, &names, selection).await?;
    let key_columns = keys
        .iter()
        .zip(lookup.version.keys())
        .map(|(name, key)| {
            let column = columns.column_by_name(name).ok_or_else(|| lacks(visible, name))?;
            // Text stays as it was read; the spine's keys are compared run by run.
            let kind = key.data_type.arrow();
            let text = matches!(
                column.data_type(),
                arrow::datatypes::DataType::Utf8View | arrow::datatypes::DataType::BinaryView
            );
            Ok(if text || *column.data_type() == kind {
                column.clone()
            } else {
                arrow::compute::cast(column, &kind)?
            })
        })
        .collect::<Result<Vec<ArrayRef>>>()?;
    let times = |name: &str| {
        columns.column_by_name(name).and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
    };
    let valid_at = times("valid_at").ok_or_else(|| lacks(visible, "valid_at"))?;
    let known = match (offset, times("known_at")) {
        (Some(offset), _) => Known::Offset(offset),
        (None, Some(column)) => Known::Column(KnownTimes::new(column.values())),
        (None, None) => Known::Arrival(visible.batch.by.committed_at.micros()),
    };
    let retracted = columns.column_by_name("_retracted").and_then(|column| column.as_boolean_opt());
    let side = Side { valid_at: valid_at.values(), known, retracted };
    let mut offers = side.offers(&key_columns, spine, lookup.direction, lookup.cut)?;
    if let Some(pages) = pages {
        for offer in &mut offers.offers {
            offer.row = pages.row(offer.row as usize);
        }
    }
    Ok(offers)
}

/// How long after valid_at the rows of a file became known, where that follows from a rule and need not be read. All batches of a
/// line have one rule, for a version with another starts a line.
fn known_offset(lookup: &Lookup, file: &VisibleFile) -> Option<i64> {
    offset_of(&lookup.version, file)
}

/// The same, of a version.
pub(super) fn offset_of(version: &ViewVersion, file: &VisibleFile) -> Option<i64> {
    match (file.batch.record.known_at, &version.definition.time.known_at) {
        (KnownAtSource::Assumed, KnownAt::Assumed) => Some(0),
        (KnownAtSource::Delay, KnownAt::Delay(delay)) => Some(delay.micros()),
        _ => None,
    }
}

fn lacks(file: &VisibleFile, column: &str) -> DataFusionError {
    exec_datafusion_err!("data file `{}` has no column `{column}` of the right type", file.file.path)
}

/// Matches against rows in memory that are in any order: the row that answers each spine row. Among equals the last wins. `times` order
/// as the spine's do.
pub fn in_memory(
    spine: &Arc<SpineOrder>,
    keys: &[ArrayRef],
    times: &Int64Array,
    direction: Direction,
) -> Result<Vec<Option<u32>>> {
    let mut answers = vec![None; spine.rows()];
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
    columns.push(Arc::new(usable));
    let order: Vec<SortColumn> =
        columns.iter().map(|values| SortColumn { values: values.clone(), options: None }).collect();
    let order = lexsort_to_indices(&order, None)?;
    let mut sorted =
        columns.iter().map(|column| take(column, &order, None)).collect::<Result<Vec<_>, _>>()?;
    let (Some(original), Some(times)) = (sorted.pop(), sorted.pop()) else { return Ok(answers) };
    let original = original.as_primitive::<arrow::datatypes::UInt32Type>().clone();
    let times = times.as_primitive::<arrow::datatypes::Int64Type>().clone();

    let side = Side { valid_at: times.values(), known: Known::Arrival(i64::MIN), retracted: None };
    let offers = side.offers(&sorted, spine, direction, Cut::None)?;
    let mut matching = Matching::new(spine.clone(), 1);
    matching.take(0, offers, direction);
    for hits in matching.finish(direction, None).hits {
        for (row, spine_row) in hits.rows.into_iter().zip(hits.spine) {
            answers[spine_row as usize] = Some(original.value(row as usize));
        }
    }
    Ok(answers)
}

/// A row of a file that could answer a spine row.
#[derive(Clone, Copy, Debug)]
struct Offer {
    valid_at: i64,
    known_at: i64,
    /// The place of the spine row among the entries.
    entry: u32,
    row: u32,
    retracted: bool,
}

/// What one file has for a spine.
#[derive(Debug, Default)]
struct Offers {
    /// Ascending by row; at most one an entry.
    offers: Vec<Offer>,
    /// Entries whose key the file has, without an offer, and how far the key's rows came.
    reached: Vec<(u32, NullReason)>,
}

/// The time columns of one file, sorted by (key, valid_at, known_at, arrival).
struct Side<'a> {
    valid_at: &'a [i64],
    known: Known<'a>,
    retracted: Option<&'a BooleanArray>,
}

/// When the rows of a file became known.
enum Known<'a> {
    /// So long after valid_at.
    Offset(i64),
    Column(KnownTimes<'a>),
    /// All of them when their batch arrived.
    Arrival(i64),
}

impl Side<'_> {
    fn offers(
        &self,
        keys: &[ArrayRef],
        spine: &SpineOrder,
        direction: Direction,
        cut: Cut,
    ) -> Result<Offers> {
        let mut found = Offers::default();
        for run in spine.keys().runs(keys, self.valid_at.len())? {
            let run = Run { side: self, from: run.from, until: run.until, entries: spine.group(run.group) };
            if direction.looks_back() {
                run.back(spine, direction, cut, &mut found);
            } else {
                run.forward(spine, direction, cut, &mut found);
            }
        }
        Ok(found)
    }
}

fn cut_at(cut: Cut, at: i64) -> i64 {
    match cut {
        Cut::Row => at,
        Cut::Instant(instant) => instant.micros(),
        Cut::None => i64::MAX,
    }
}

/// The rows of one key in one file, and the entries of that key.
struct Run<'a> {
    side: &'a Side<'a>,
    from: usize,
    until: usize,
    entries: std::ops::Range<usize>,
}

impl Run<'_> {
    /// The spine's times ascend, so the end of what is not later only moves on.
    fn back(&self, spine: &SpineOrder, direction: Direction, cut: Cut, found: &mut Offers) {
        let strict = direction == Direction::Before;
        let mut end = self.from;
        for entry in self.entries.clone() {
            let (at, _) = spine.entries()[entry];
            end = self.advance(end, |valid_at| if strict { valid_at < at } else { valid_at <= at });
            if end == self.from {
                found.reached.push((entry as u32, NullReason::Later));
                continue;
            }
            match self.last_known(self.from, end, cut_at(cut, at)) {
                Some(row) => found.offers.push(self.offer(entry, row)),
                None => found.reached.push((entry as u32, NullReason::NotYetKnown)),
            }
        }
    }

    fn forward(&self, spine: &SpineOrder, direction: Direction, cut: Cut, found: &mut Offers) {
        let strict = direction == Direction::After;
        let mut start = self.from;
        for entry in self.entries.clone() {
            let (at, _) = spine.entries()[entry];
            start = self.advance(start, |valid_at| if strict { valid_at <= at } else { valid_at < at });
            if start == self.until {
                found.reached.push((entry as u32, NullReason::Later));
                continue;
            }
            match self.first_known(start, cut_at(cut, at)) {
                Some(row) => found.offers.push(self.offer(entry, row)),
                None => found.reached.push((entry as u32, NullReason::NotYetKnown)),
            }
        }
    }

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

    /// The last row from `from` to before `end` that was known by the cut.
    fn last_known(&self, from: usize, end: usize, cut: i64) -> Option<usize> {
        match &self.side.known {
            Known::Column(known) => known.last(from, end, cut),
            Known::Arrival(arrival) => (*arrival <= cut && from < end).then(|| end - 1),
            Known::Offset(offset) => {
                let latest = cut.saturating_sub(*offset);
                if end > from && self.side.valid_at[end - 1] <= latest {
                    return Some(end - 1);
                }
                let known = self.side.valid_at[from..end].partition_point(|valid_at| *valid_at <= latest);
                (known > 0).then(|| from + known - 1)
            }
        }
    }

    /// Of the rows from `start` on that were known by the cut, those with the least valid_at; of these the last.
    fn first_known(&self, start: usize, cut: i64) -> Option<usize> {
        let first = match &self.side.known {
            Known::Column(known) => known.first(start, self.until, cut)?,
            Known::Arrival(arrival) => (*arrival <= cut).then_some(start)?,
            Known::Offset(offset) => {
                (self.side.valid_at[start] <= cut.saturating_sub(*offset)).then_some(start)?
            }
        };
        let valid_at = self.side.valid_at[first];
        let end = self.advance(first, |time| time <= valid_at);
        self.last_known(first, end, cut)
    }

    fn offer(&self, entry: usize, row: usize) -> Offer {
        let valid_at = self.side.valid_at[row];
        Offer {
            valid_at,
            known_at: match &self.side.known {
                Known::Offset(offset) => valid_at.saturating_add(*offset),
                Known::Column(known) => known.times[row],
                Known::Arrival(arrival) => *arrival,
            },
            entry: entry as u32,
            row: row as u32,
            retracted: self.side.retracted.is_some_and(|retracted| retracted.value(row)),
        }
    }
}

/// The best offer to a spine row so far.
#[derive(Clone, Copy, Debug)]
struct Best {
    valid_at: i64,
    known_at: i64,
    file: u32,
    retracted: bool,
}

const NO_FILE: u32 = u32::MAX;

struct Matching {
    spine: Arc<SpineOrder>,
    /// By entry.
    best: Vec<Best>,
    /// By entry: how far the candidate that came furthest got, where there is no best.
    furthest: Vec<NullReason>,
    /// By file: entries and rows of its offers, ascending by row.
    offered: Vec<Vec<(u32, u32)>>,
}

impl Matching {
    fn new(spine: Arc<SpineOrder>, files: usize) -> Self {
        let entries = spine.entries().len();
        let none = Best { valid_at: 0, known_at: 0, file: NO_FILE, retracted: false };
        Self {
            spine,
            best: vec![none; entries],
            furthest: vec![NullReason::UnknownEntity; entries],
            offered: vec![Vec::new(); files],
        }
    }

    /// Takes what a file offers. The order in which files are taken makes no difference: among equals the one that comes later in
    /// the log has the greater sequence, and wins.
    fn take(&mut self, file: usize, offers: Offers, direction: Direction) {
        for (entry, reason) in offers.reached {
            let furthest = &mut self.furthest[entry as usize];
            *furthest = (*furthest).max(reason);
        }
        let mut offered = Vec::with_capacity(offers.offers.len());
        for offer in offers.offers {
            let best = &mut self.best[offer.entry as usize];
            let rank = |valid_at: i64, known_at: i64, file: u32| {
                // Looking forward, the least valid_at wins.
                (if direction.looks_back() { valid_at } else { !valid_at }, known_at, file)
            };
            let wins = best.file == NO_FILE
                || rank(offer.valid_at, offer.known_at, file as u32)
                    > rank(best.valid_at, best.known_at, best.file);
            if wins {
                *best = Best {
                    valid_at: offer.valid_at,
                    known_at: offer.known_at,
                    file: file as u32,
                    retracted: offer.retracted,
                };
                offered.push((offer.entry, offer.row));
            }
        }
        self.offered[file] = offered;
    }

    /// By spine row.
    fn winners(self, direction: Direction, ttl: Option<i64>) -> Vec<Result<Winner, NullReason>> {
        let mut winners: Vec<Result<Winner, NullReason>> = (0..self.spine.rows())
            .map(|row| {
                Err(if self.spine.is_null(row) {
                    NullReason::NullKeyOrTime
                } else {
                    NullReason::UnknownEntity
                })
            })
            .collect();
        // A file that was overtaken still has its offers; the rows of the best are wanted.
        let mut rows = vec![0u32; self.best.len()];
        for (file, offered) in (0u32..).zip(&self.offered) {
            for (entry, row) in offered {
                if self.best[*entry as usize].file == file {
                    rows[*entry as usize] = *row;
                }
            }
        }
        let entries = self.spine.entries().iter().zip(&self.best).zip(&self.furthest).zip(rows);
        for ((((at, spine_row), best), furthest), row) in entries {
            let expired = |ttl: i64| best.valid_at < at.saturating_sub(ttl);
            winners[*spine_row as usize] = if best.file == NO_FILE {
                Err(*furthest)
            } else if direction.looks_back() && ttl.is_some_and(expired) {
                Err(NullReason::Expired)
            } else {
                Ok(Winner {
                    file: best.file as usize,
                    row: u64::from(row),
                    valid_at: Timestamp(best.valid_at),
                    known_at: Timestamp(best.known_at),
                    retracted: best.retracted,
                })
            };
        }
        winners
    }

    fn finish(self, direction: Direction, ttl: Option<i64>) -> Matched {
        let mut reasons: Vec<Option<NullReason>> = (0..self.spine.rows())
            .map(|row| {
                Some(if self.spine.is_null(row) {
                    NullReason::NullKeyOrTime
                } else {
                    NullReason::UnknownEntity
                })
            })
            .collect();
        let mut best = self.best;
        for ((best, furthest), (at, row)) in best.iter_mut().zip(self.furthest).zip(self.spine.entries()) {
            let reason = if best.file == NO_FILE {
                Some(furthest)
            } else if direction.looks_back() && ttl.is_some_and(|ttl| best.valid_at < at.saturating_sub(ttl))
            {
                // The newest known candidate is too old: then all are.
                Some(NullReason::Expired)
            } else if best.retracted {
                Some(NullReason::Retracted)
            } else {
                None
            };
            if reason.is_some() {
                best.file = NO_FILE;
            }
            reasons[*row as usize] = reason;
        }
        let hits = (0..).zip(self.offered).map(|(file, offered)| {
            let mut hits = Hits::default();
            for (entry, row) in offered {
                if best[entry as usize].file == file {
                    hits.rows.push(row);
                    hits.spine.push(self.spine.entries()[entry as usize].1);
                }
            }
            hits
        });
        Matched { hits: hits.collect(), reasons }
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
