//! The match: for each spine row the best candidate, from key and time columns alone.
//!
//! Each file is sorted by key and time, and meets the spine's groups in one galloping pass; of all candidates of a spine row the best is
//! kept. Manifests rule files out by bucket, by the keys of files of few, by the bounds of keys, and by times and the ttl where nobody asks why
//! a value is null. Files are read ahead side by side, and met from the newest to the oldest: spine rows that found an observation which
//! nothing older can beat are done. Many files of overlapping times are merged first.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, BooleanArray, BooleanBufferBuilder};
use arrow::buffer::ScalarBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use catalog::VisibleFile;
use catalog::records::KnownAtSource;
use catalog::state::{Batch, ViewVersion};
use datafusion::common::{
    DataFusionError, Result, exec_datafusion_err, internal_datafusion_err, internal_err,
};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use feature::Timestamp;
use feature::definition::KnownAt;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};

use super::cores::{apart, cores};
use super::keys::{KeyRun, gallop};
use super::merging::{Merging, OfKey};
use super::meters::Meters;
use super::pages::PageSelection;
use super::pauses::{ROWS_AT_ONCE, pause, stretches};
use super::spine::Entry;
use super::working_memory::WorkingMemory;
use super::{Cut, Direction, Lookup, NullReason, SpineOrder};
use crate::data_files::DataFiles;
use crate::row_batches::{CountedRows, batches_of};

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
pub async fn match_files(
    files: &DataFiles,
    lookup: &Lookup,
    spine: &Arc<SpineOrder>,
    meters: &Meters,
    memory: &WorkingMemory,
    shares: usize,
) -> Result<Matched> {
    let matchings = matching(files, lookup, spine, meters, memory, shares).await?;
    Ok(finish(spine, matchings, lookup).await)
}

/// The row that wins for each spine row, retractions among them, or why there is none.
pub async fn winners(
    files: &DataFiles,
    lookup: &Lookup,
    spine: &Arc<SpineOrder>,
) -> Result<Vec<Result<Winner, NullReason>>> {
    let meters = Meters::new(&ExecutionPlanMetricsSet::new());
    let matchings = matching(files, lookup, spine, &meters, &WorkingMemory::free(), 1).await?;
    let oldest = oldest(lookup);
    let mut found: Vec<Result<Best, NullReason>> =
        (0..spine.rows()).map(|row| Err(spine.without_group(row))).collect();
    for matching in matchings {
        matching.each_entry(matching.entries(), |entry, at, row, seen| {
            found[row as usize] = matching.answer(entry, at, seen, &oldest);
        });
    }
    let batches = batches_of_winners(files, &lookup.files, &found).await?;
    let winner = |(best, batch): (Best, Option<Arc<Batch>>)| {
        let batch = batch.ok_or_else(|| internal_datafusion_err!("a winner is of no batch"))?;
        Ok::<_, DataFusionError>(Winner {
            batch,
            valid_at: Timestamp(best.valid_at),
            known_at: Timestamp(best.known_at),
            retracted: best.retracted,
        })
    };
    let winners = found.into_iter().zip(batches);
    winners
        .map(|(found, batch)| {
            found.map(|best| winner((best, batch))).map_or_else(|why| Ok(Err(why)), |won| won.map(Ok))
        })
        .collect()
}

/// By spine row, the batch of what it found.
async fn batches_of_winners(
    data: &DataFiles,
    files: &[VisibleFile],
    found: &[Result<Best, NullReason>],
) -> Result<Vec<Option<Arc<Batch>>>> {
    let mut of_files: BTreeMap<u32, Vec<(u32, usize)>> = BTreeMap::new();
    for (place, best) in found.iter().enumerate() {
        if let Ok(best) = best {
            of_files.entry(best.file).or_default().push((best.row, place));
        }
    }
    let mut batches = vec![None; found.len()];
    for (file, mut hits) in of_files {
        let Some(visible) = files.get(file as usize) else { continue };
        hits.sort_unstable();
        let rows: Vec<u32> = hits.iter().map(|(row, _)| *row).collect();
        for ((_, place), batch) in hits.iter().zip(batches_of(data, visible, &rows).await?) {
            batches[*place] = visible.batches().get(batch as usize).cloned();
        }
    }
    Ok(batches)
}

/// An observation that answers a spine row. Of one key and batch, its times tell it from all others that can win.
#[derive(Clone, Debug)]
pub struct Winner {
    pub batch: Arc<Batch>,
    pub valid_at: Timestamp,
    pub known_at: Timestamp,
    pub retracted: bool,
}

/// From so many files of overlapping times on, the rows of an entity are merged first: else each file would be met by every spine row.
const MERGE_FROM: usize = 4;

/// Files are met from the newest to the oldest, so that a spine row that found its observation looks no further. Keys are shared out, so
/// that so many cores have each their own.
async fn matching(
    files: &DataFiles,
    lookup: &Lookup,
    spine: &Arc<SpineOrder>,
    meters: &Meters,
    memory: &WorkingMemory,
    shares: usize,
) -> Result<Vec<Matching>> {
    let _candidates = memory.hold(spine.entries().len() * CANDIDATE_BYTES);
    let mut matchings = Matching::shares(spine, lookup, shares);
    let meetings = candidates(lookup, spine, meters).await?;
    meters.files_pruned.add(lookup.files.len() - meetings.len());
    let reads = meetings.iter().map(|meeting| {
        let (files, lookup, spine, file) = (files.clone(), lookup.clone(), spine.clone(), meeting.file);
        let memory = memory.clone();
        apart(async move { side_of(&files, &lookup, file, &spine, &memory).await })
    });
    let reads: Vec<_> = reads.collect();
    let mut sides = stream::iter(reads).buffered(cores());
    for cluster in clusters(&meetings) {
        let next = meetings.get(cluster.start);
        if matchings.iter().all(|matching| matching.is_settled(next)) {
            meters.files_pruned.add(meetings.len() - cluster.start);
            break;
        }
        meters.files_matched.add(cluster.len());
        let together = cluster.len() > 1;
        let mut met = Vec::with_capacity(cluster.len());
        for place in cluster {
            let Some(side) = sides.try_next().await? else { break };
            if together && let Some(held) = &side.held {
                // Sides that wait for others can be many, and may be refused.
                held.try_grow(held.free())?;
            }
            // No row of a file to come is newer. Forward, what is older may still be nearer.
            let older = meetings.get(place + 1).filter(|_| lookup.direction.looks_back());
            met.push(Met { side, older: older.map(|next| next.newest) });
        }
        if let [matching] = matchings.as_mut_slice() {
            matching.meet(&met).await;
            continue;
        }
        let met = Arc::new(met);
        let met_by = matchings.into_iter().map(|mut matching| {
            let met = met.clone();
            apart(async move {
                matching.meet(&met).await;
                Ok(matching)
            })
        });
        matchings = try_join_all(met_by).await?;
    }
    Ok(matchings)
}

/// A file's side, and the time that no row of a file to come is later than; where it is not known, or does not matter, none.
struct Met {
    side: Side,
    older: Option<i64>,
}

/// A file that may answer, and the times that its rows may have.
struct Meeting {
    file: usize,
    oldest: i64,
    newest: i64,
    /// All its rows are later than the whole spine: it can only tell that an entity exists.
    too_late: bool,
}

/// The least and the greatest valid_at that can answer a row of the spine. What is beyond the ttl of the oldest spine row is so for all: where
/// it is the newest that is known, the value is null as it is without it, for what it hides is older still.
fn answering(lookup: &Lookup, times: Option<(i64, i64)>) -> (i64, i64) {
    match (times, lookup.direction.looks_back()) {
        (None, _) => (i64::MAX, i64::MIN),
        (Some((earliest, latest)), true) => (oldest(lookup)(earliest), latest),
        (Some((earliest, _)), false) => (earliest, i64::MAX),
    }
}

/// Files that may hold a key of the spine, told from manifests: from the newest to the oldest, those that are too late for the spine last.
/// Files out of its time tell no more than why a value is null, and are left out where that is not asked.
async fn candidates(lookup: &Lookup, spine: &SpineOrder, meters: &Meters) -> Result<Vec<Meeting>> {
    let mut meetings = Vec::with_capacity(lookup.files.len());
    let mut buckets: Vec<(u32, Vec<bool>)> = Vec::new();
    let keys = spine.sought_keys(&lookup.files)?;
    let first = lookup.version.keys().first();
    let (least, greatest) = answering(lookup, spine.times());
    let says_why = lookup.says_why();
    for (file, visible) in lookup.files.iter().enumerate() {
        let (oldest, newest) = visible.file.valid_at_range().unwrap_or((i64::MIN, i64::MAX));
        if !says_why && (newest < least || oldest > greatest) {
            meters.files_out_of_time.add(1);
            continue;
        }
        let of = visible.file.buckets;
        if of > 1 {
            let place = match buckets.iter().position(|(number, _)| *number == of) {
                Some(place) => place,
                None => {
                    buckets.push((of, spine.buckets(of).await?));
                    buckets.len() - 1
                }
            };
            if !buckets[place].1.get(visible.file.bucket as usize).copied().unwrap_or(true) {
                continue;
            }
        }
        if let (Some(keys), Some(first)) = (&keys, first)
            && !keys.may_be_in(&visible.file, first)
        {
            continue;
        }
        let too_late = lookup.direction.looks_back() && oldest > greatest;
        meetings.push(Meeting { file, oldest, newest, too_late });
    }
    meetings.sort_by_key(|meeting| (meeting.too_late, std::cmp::Reverse(meeting.newest)));
    Ok(meetings)
}

/// Stretches of files whose times overlap.
fn clusters(meetings: &[Meeting]) -> Vec<Range<usize>> {
    let mut clusters: Vec<Range<usize>> = Vec::new();
    let mut oldest = i64::MAX;
    for (place, meeting) in meetings.iter().enumerate() {
        match clusters.last_mut() {
            Some(last) if meeting.newest >= oldest && meetings[last.start].too_late == meeting.too_late => {
                last.end = place + 1;
                oldest = oldest.min(meeting.oldest);
            }
            _ => {
                clusters.push(place..place + 1);
                oldest = meeting.oldest;
            }
        }
    }
    clusters
}

/// The times of one file's rows, and where the spine's keys are among them.
pub(super) struct Side {
    pub valid_at: ScalarBuffer<i64>,
    pub known: Known,
    pub retracted: Option<BooleanArray>,
    /// In the order of the rows.
    pub runs: Vec<KeyRun>,
    pub rows: Origin,
    /// What it is charged for, where it stays longer than a few rows do.
    pub held: Option<MemoryReservation>,
}

/// Which rows of which files a side's rows are.
pub(super) enum Origin {
    /// All rows of a file.
    Whole(usize),
    /// Rows of some pages of a file.
    Pages(usize, PageSelection),
    /// Rows of several files: file and row.
    Several(Vec<(u32, u32)>),
}

impl Origin {
    pub(super) fn of(&self, row: usize) -> (u32, u32) {
        match self {
            Self::Whole(file) => (*file as u32, row as u32),
            Self::Pages(file, pages) => (*file as u32, pages.row(row)),
            Self::Several(rows) => rows[row],
        }
    }
}

async fn side_of(
    files: &DataFiles,
    lookup: &Lookup,
    file: usize,
    spine: &SpineOrder,
    memory: &WorkingMemory,
) -> Result<Side> {
    let Some(visible) = lookup.files.get(file) else {
        return internal_err!("a point-in-time join lost a file");
    };
    let keys: Vec<&str> = lookup.version.keys().iter().map(|key| key.name.as_str()).collect();
    let mut names = keys.clone();
    names.extend(["valid_at", "_retracted"]);
    let offset = offset_of(&lookup.version, visible);
    if offset.is_none() {
        names.push("known_at");
    }
    let pages = spine.key_pages(&files.footer(&visible.file).await?, lookup.version.keys())?;
    let selection = pages.as_ref().map(PageSelection::selection);
    let counted = CountedRows::read(files, visible, &names, selection, false).await?;
    let columns = &counted.columns;
    let held = memory.hold(columns.get_array_memory_size());
    let key_columns = keys
        .iter()
        .zip(lookup.version.keys())
        .map(|(name, key)| {
            let column = columns.column_by_name(name).ok_or_else(|| lacks(visible, name))?;
            // Text stays as it was read; the spine's keys are compared run by run.
            let kind = key.data_type.arrow();
            let text = matches!(column.data_type(), DataType::Utf8View | DataType::BinaryView);
            Ok(if text || *column.data_type() == kind { column.clone() } else { cast(column, &kind)? })
        })
        .collect::<Result<Vec<ArrayRef>>>()?;
    let times = |name: &str| {
        columns.column_by_name(name).and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
    };
    let valid_at = times("valid_at").ok_or_else(|| lacks(visible, "valid_at"))?.values().clone();
    let known = match (offset, times("known_at")) {
        (Some(offset), _) => Known::Offset(offset),
        (None, Some(column)) => Known::Column(KnownTimes::new(column.values().clone())),
        (None, None) => Known::Arrival(visible.first().by.committed_at.micros()),
    };
    let retracted = columns.column_by_name("_retracted").and_then(|column| column.as_boolean_opt()).cloned();
    pause().await;
    let runs = spine.keys().runs(&key_columns, valid_at.len())?;
    let rows = match pages {
        pages if counted.lacks_some() => {
            let row = |row| pages.as_ref().map_or(row as u32, |pages| pages.row(row));
            Origin::Several((0..valid_at.len()).map(|at| (file as u32, row(counted.place(at)))).collect())
        }
        Some(pages) => Origin::Pages(file, pages),
        None => Origin::Whole(file),
    };
    // The keys themselves are let go.
    held.resize(
        valid_at.len() * size_of::<i64>()
            + known.memory()
            + retracted.as_ref().map_or(0, Array::get_array_memory_size)
            + runs.capacity() * size_of::<KeyRun>(),
    );
    Ok(Side { valid_at, known, retracted, runs, rows, held: Some(held) })
}

/// How long after valid_at the rows of a file became known, where that follows from a rule and need not be read. All batches of a
/// line have one rule, for a version with another starts a line.
pub(super) fn offset_of(version: &ViewVersion, file: &VisibleFile) -> Option<i64> {
    let (source, offset) = match &version.definition.time.known_at {
        KnownAt::Assumed => (KnownAtSource::Assumed, 0),
        KnownAt::Delay(delay) => (KnownAtSource::Delay, delay.micros()),
        _ => return None,
    };
    file.batches().iter().all(|batch| batch.record.known_at == source).then_some(offset)
}

fn lacks(file: &VisibleFile, column: &str) -> DataFusionError {
    exec_datafusion_err!("data file `{}` has no column `{column}` of the right type", file.file.path)
}

/// When the rows of a side became known.
pub(super) enum Known {
    /// So long after valid_at.
    Offset(i64),
    Column(KnownTimes),
    /// All of them when their batch arrived.
    Arrival(i64),
}

impl Known {
    pub(super) fn of(&self, row: usize, valid_at: i64) -> i64 {
        match self {
            Self::Offset(offset) => valid_at.saturating_add(*offset),
            Self::Column(known) => known.times[row],
            Self::Arrival(arrival) => *arrival,
        }
    }

    /// Bytes that it holds.
    fn memory(&self) -> usize {
        match self {
            Self::Column(known) => (known.times.len() + known.least.len()) * size_of::<i64>(),
            Self::Offset(_) | Self::Arrival(_) => 0,
        }
    }
}

fn cut_at(cut: Cut, at: i64) -> i64 {
    match cut {
        Cut::Row => at,
        Cut::Instant(instant) => instant.micros(),
        Cut::None => i64::MAX,
    }
}

impl Side {
    /// The first row from `start` to before `until` that the condition does not hold for; it holds for a prefix.
    fn advance(&self, start: usize, until: usize, holds: impl Fn(i64) -> bool) -> usize {
        gallop(&self.valid_at[..until], start, |valid_at| holds(*valid_at))
    }

    /// The last row from `from` to before `end` that was known by the cut.
    fn last_known(&self, from: usize, end: usize, cut: i64) -> Option<usize> {
        match &self.known {
            Known::Column(known) => known.last(from, end, cut),
            Known::Arrival(arrival) => (*arrival <= cut && from < end).then(|| end - 1),
            Known::Offset(offset) => {
                let latest = cut.saturating_sub(*offset);
                if end > from && self.valid_at[end - 1] <= latest {
                    return Some(end - 1);
                }
                let known = self.valid_at[from..end].partition_point(|valid_at| *valid_at <= latest);
                (known > 0).then(|| from + known - 1)
            }
        }
    }

    /// Of the rows from `start` to before `until` that were known by the cut, those with the least valid_at; of these the last.
    fn first_known(&self, start: usize, until: usize, cut: i64) -> Option<usize> {
        let first = match &self.known {
            Known::Column(known) => known.first(start, until, cut)?,
            Known::Arrival(arrival) => (*arrival <= cut).then_some(start)?,
            Known::Offset(offset) => {
                (self.valid_at[start] <= cut.saturating_sub(*offset)).then_some(start)?
            }
        };
        let valid_at = self.valid_at[first];
        let end = self.advance(first, until, |time| time <= valid_at);
        self.last_known(first, end, cut)
    }
}

/// The best candidate of a spine row so far.
#[derive(Clone, Copy, Debug)]
struct Best {
    valid_at: i64,
    known_at: i64,
    file: u32,
    row: u32,
    retracted: bool,
}

const NO_FILE: u32 = u32::MAX;
/// What an entry's best candidate takes, and where it was found.
const CANDIDATE_BYTES: usize = size_of::<Best>() + size_of::<(u32, u32)>();

/// The spine's rows of some of its keys, and what they found.
struct Matching {
    spine: Arc<SpineOrder>,
    /// The keys, by number.
    groups: Range<u32>,
    /// Place of the first entry of these keys.
    first: usize,
    /// By entry.
    best: Vec<Best>,
    /// By entry: whether there was a candidate that was not known yet.
    not_yet_known: BooleanBufferBuilder,
    /// By group: whether a file has its key.
    seen: Vec<bool>,
    /// By group: the end of its entries that may still find a better candidate. Entries ascend by time, and newer files come first.
    open: Vec<u32>,
    /// How many entries that are.
    still_open: usize,
    /// By file: entries and rows of its candidates.
    offered: Vec<Vec<(u32, u32)>>,
    direction: Direction,
    cut: Cut,
}

impl Matching {
    /// The spine's keys in so many shares of about as many rows each.
    fn shares(spine: &Arc<SpineOrder>, lookup: &Lookup, shares: usize) -> Vec<Self> {
        let groups = spine.keys().len() as u32;
        let entries = spine.entries().len();
        let mut from = 0;
        let mut all = Vec::with_capacity(shares);
        for share in 1..=shares {
            let until = match share == shares {
                true => groups,
                false => spine.group_at(entries * share / shares).max(from),
            };
            all.push(Self::new(spine.clone(), lookup, from..until));
            from = until;
        }
        all
    }

    fn new(spine: Arc<SpineOrder>, lookup: &Lookup, groups: Range<u32>) -> Self {
        let (first, end) = match groups.is_empty() {
            true => (0, 0),
            false => (spine.group(groups.start).start, spine.group(groups.end - 1).end),
        };
        let entries = end - first;
        let none = Best { valid_at: 0, known_at: 0, file: NO_FILE, row: 0, retracted: false };
        let mut not_yet_known = BooleanBufferBuilder::new(entries);
        not_yet_known.append_n(entries, false);
        Self {
            best: vec![none; entries],
            not_yet_known,
            seen: vec![false; groups.len()],
            open: groups.clone().map(|group| spine.group(group).end as u32).collect(),
            still_open: entries,
            offered: vec![Vec::new(); lookup.files.len()],
            direction: lookup.direction,
            cut: lookup.cut,
            groups,
            first,
            spine,
        }
    }

    /// Whether no file from this one on can change an answer, or the reason of a null.
    fn is_settled(&self, next: Option<&Meeting>) -> bool {
        // A file of later rows only tells that an entity exists.
        self.still_open == 0 || next.is_some_and(|next| next.too_late) && self.seen.iter().all(|seen| *seen)
    }

    /// Takes what files of overlapping times offer.
    async fn meet(&mut self, files: &[Met]) {
        let mine = |side: &Met| {
            let runs = &side.side.runs;
            let from = runs.partition_point(|run| run.group < self.groups.start);
            from..runs.partition_point(|run| run.group < self.groups.end)
        };
        let mine: Vec<Range<usize>> = files.iter().map(mine).collect();
        if files.len() < MERGE_FROM {
            for (met, mine) in files.iter().zip(mine) {
                self.meet_runs(&met.side, &met.side.runs[mine], met.older).await;
                pause().await;
            }
            return;
        }
        // Entities that are in few of the files are met in each; of the others the rows are merged.
        let first = self.groups.start;
        let mut keys = vec![OfKey::default(); self.groups.len()];
        for (met, mine) in files.iter().zip(&mine) {
            for run in &met.side.runs[mine.clone()] {
                let key = &mut keys[(run.group - first) as usize];
                key.files += 1;
                key.rows += run.until - run.from;
            }
        }
        for key in keys.iter_mut().filter(|key| key.files < MERGE_FROM) {
            key.rows = 0;
        }
        for (met, mine) in files.iter().zip(&mine) {
            let mut of_few = met.side.runs[mine.clone()].to_vec();
            of_few.retain(|run| keys[(run.group - first) as usize].rows == 0);
            self.meet_runs(&met.side, &of_few, met.older).await;
            pause().await;
        }
        let older = files.last().and_then(|last| last.older);
        let sides = files.iter().zip(&mine).map(|(met, mine)| (&met.side, &met.side.runs[mine.clone()]));
        let mut merging = Merging::new(sides, keys, first);
        while let Some(merged) = merging.next() {
            self.meet_runs(&merged, &merged.runs, older).await;
            pause().await;
        }
    }

    /// Takes what some runs of a side offer, in their order.
    async fn meet_runs(&mut self, side: &Side, runs: &[KeyRun], older: Option<i64>) {
        // Shared with the other shares: counting its holders anew for each run would move its cache line between the cores.
        let spine = self.spine.clone();
        let back = self.direction.looks_back();
        let mut since = 0;
        for run in runs {
            self.seen[(run.group - self.groups.start) as usize] = true;
            let entries = if back { self.reached(side, run, &spine) } else { spine.group(run.group) };
            let looked = !entries.is_empty();
            let mut place = run.from;
            for part in stretches(entries) {
                since += part.len();
                place = match back {
                    true => self.back(side, run, &spine, part, place),
                    false => self.forward(side, run, &spine, part, place),
                };
                if since >= ROWS_AT_ONCE {
                    pause().await;
                    since = 0;
                }
            }
            since += 1;
            if let Some(older) = older.filter(|_| back && looked) {
                self.close(run.group, &spine, older);
            }
        }
    }

    /// The entries of a run's key that may still find a better candidate, without those before its first row: they find nothing there.
    fn reached(&self, side: &Side, run: &KeyRun, spine: &SpineOrder) -> Range<usize> {
        let strict = self.direction == Direction::Before;
        let first = side.valid_at[run.from];
        let open = self.open[(run.group - self.groups.start) as usize] as usize;
        let times = &spine.entries()[spine.group(run.group).start..open];
        // Counted from the end: as many steps as there are rows to answer.
        let finds = |(at, _): &&Entry| if strict { *at > first } else { *at >= first };
        open - times.iter().rev().take_while(finds).count()..open
    }

    /// What some entries of a key find in a run. The spine's times ascend, so the end of what is not later only moves on; it was at `end`.
    fn back(
        &mut self,
        side: &Side,
        run: &KeyRun,
        spine: &SpineOrder,
        entries: Range<usize>,
        mut end: usize,
    ) -> usize {
        let strict = self.direction == Direction::Before;
        for (entry, (at, _)) in entries.clone().zip(&spine.entries()[entries]) {
            let not_later = |valid_at| if strict { valid_at < *at } else { valid_at <= *at };
            end = side.advance(end, run.until, not_later);
            match side.last_known(run.from, end, cut_at(self.cut, *at)) {
                Some(row) => self.offer(side, entry, row, true),
                None => self.not_yet_known.set_bit(entry - self.first, true),
            }
        }
        end
    }

    /// The same, looking forward: the start of what is not earlier moves on.
    fn forward(
        &mut self,
        side: &Side,
        run: &KeyRun,
        spine: &SpineOrder,
        entries: Range<usize>,
        mut start: usize,
    ) -> usize {
        let strict = self.direction == Direction::After;
        for (entry, (at, _)) in entries.clone().zip(&spine.entries()[entries]) {
            let earlier = |valid_at| if strict { valid_at <= *at } else { valid_at < *at };
            start = side.advance(start, run.until, earlier);
            if start == run.until {
                break;
            }
            match side.first_known(start, run.until, cut_at(self.cut, *at)) {
                Some(row) => self.offer(side, entry, row, false),
                None => self.not_yet_known.set_bit(entry - self.first, true),
            }
        }
        start
    }

    /// The order in which candidates come makes no difference: among equals the file that comes later in the log has the greater
    /// sequence, and wins.
    fn offer(&mut self, side: &Side, entry: usize, row: usize, looks_back: bool) {
        let valid_at = side.valid_at[row];
        let known_at = side.known.of(row, valid_at);
        let (file, file_row) = side.rows.of(row);
        let rank = |valid_at: i64, known_at: i64, file: u32| {
            // Looking forward, the least valid_at wins.
            (if looks_back { valid_at } else { !valid_at }, known_at, file)
        };
        let best = &mut self.best[entry - self.first];
        if best.file == NO_FILE
            || rank(valid_at, known_at, file) > rank(best.valid_at, best.known_at, best.file)
        {
            let retracted = side.retracted.as_ref().is_some_and(|retracted| retracted.value(row));
            *best = Best { valid_at, known_at, file, row: file_row, retracted };
            self.offered[file as usize].push((entry as u32, file_row));
        }
    }

    /// Closes the last entries of a group, which have what nothing older can beat.
    fn close(&mut self, group: u32, spine: &SpineOrder, older: i64) {
        let start = spine.group(group).start;
        let open = &mut self.open[(group - self.groups.start) as usize];
        let before = *open;
        while *open as usize > start
            && let best = &self.best[*open as usize - 1 - self.first]
            && best.file != NO_FILE
            && best.valid_at > older
        {
            *open -= 1;
        }
        self.still_open -= (before - *open) as usize;
    }

    /// The places of its entries.
    fn entries(&self) -> Range<usize> {
        self.first..self.first + self.best.len()
    }

    /// Calls with the place of each of some entries, its time and spine row, and whether its key is in a file.
    fn each_entry(&self, entries: Range<usize>, mut each: impl FnMut(usize, i64, u32, bool)) {
        let mut group = self.spine.group_at(entries.start);
        for (entry, (at, row)) in entries.clone().zip(&self.spine.entries()[entries]) {
            while self.spine.group(group).end <= entry {
                group += 1;
            }
            each(entry, *at, *row, self.seen[(group - self.groups.start) as usize]);
        }
    }

    fn answer(
        &self,
        entry: usize,
        at: i64,
        seen: bool,
        oldest: &impl Fn(i64) -> i64,
    ) -> Result<Best, NullReason> {
        let best = self.best[entry - self.first];
        if best.file == NO_FILE {
            Err(if self.not_yet_known.get_bit(entry - self.first) {
                NullReason::NotYetKnown
            } else if seen {
                NullReason::Later
            } else {
                NullReason::UnknownEntity
            })
        } else if best.valid_at < oldest(at) {
            // The newest known candidate is too old: then all are.
            Err(NullReason::Expired)
        } else {
            Ok(best)
        }
    }
}

/// Puts the shares together.
async fn finish(spine: &SpineOrder, matchings: Vec<Matching>, lookup: &Lookup) -> Matched {
    let oldest = oldest(lookup);
    let mut reasons: Vec<Option<NullReason>> =
        (0..spine.rows()).map(|row| Some(spine.without_group(row))).collect();
    let mut hits: Vec<Hits> = lookup.files.iter().map(|_| Hits::default()).collect();
    for mut matching in matchings {
        for part in stretches(matching.entries()) {
            let mut refused = Vec::new();
            matching.each_entry(part, |entry, at, row, seen| {
                let reason = match matching.answer(entry, at, seen, &oldest) {
                    Err(reason) => Some(reason),
                    Ok(best) => best.retracted.then_some(NullReason::Retracted),
                };
                if reason.is_some() {
                    refused.push(entry - matching.first);
                }
                reasons[row as usize] = reason;
            });
            for entry in refused {
                matching.best[entry].file = NO_FILE;
            }
            pause().await;
        }
        for (file, (hits, offered)) in (0..).zip(hits.iter_mut().zip(&mut matching.offered)) {
            // What was met on its own and what was merged come one after the other.
            if !offered.is_sorted_by_key(|(_, row)| *row) {
                offered.sort_unstable_by_key(|(entry, row)| (*row, *entry));
            }
            for part in offered.chunks(ROWS_AT_ONCE) {
                for (entry, row) in part {
                    let best = &matching.best[*entry as usize - matching.first];
                    // A file that was overtaken still has its candidates.
                    if best.file == file && best.row == *row {
                        hits.rows.push(*row);
                        hits.spine.push(spine.entries()[*entry as usize].1);
                    }
                }
                if part.len() == ROWS_AT_ONCE {
                    pause().await;
                }
            }
        }
    }
    Matched { hits, reasons }
}

/// The oldest valid_at that counts at a time.
fn oldest(lookup: &Lookup) -> impl Fn(i64) -> i64 + use<> {
    let ttl = lookup.ttl.filter(|_| lookup.direction.looks_back()).map(feature::Span::micros);
    move |at| ttl.map_or(i64::MIN, |ttl| at.saturating_sub(ttl))
}

/// Finds the nearest row that was known by a cut, with the least time of every block so that a long stretch of rows
/// which became known late is crossed block by block.
pub(super) struct KnownTimes {
    times: ScalarBuffer<i64>,
    least: Vec<i64>,
}

const KNOWN_BLOCK: usize = 64;

impl KnownTimes {
    pub(super) fn new(times: ScalarBuffer<i64>) -> Self {
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
