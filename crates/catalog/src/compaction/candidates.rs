//! Which runs are worth merging.

use std::collections::HashSet;
use std::ops::Range;

use feature::VersionId;
use storage::partition::Layout;

use super::{Candidate, PieceKey};
use crate::catalog::Catalog;
use crate::error::Result;
use crate::state::{Run, State};
use crate::visible_file::VisibleFile;

/// How many neighbours are wanted before anything is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eagerness {
    /// As many as make a level: each row is written anew about once a level.
    Levels,
    /// Two: what is small is merged.
    All,
    /// Two, and runs of large files too.
    Everything,
}

/// Runs of like size that make one of the next level.
const OF_A_LEVEL: usize = 8;
/// Most runs that are merged at once.
const MOST_RUNS: usize = 512;
/// Files of so many encoded bytes are no small ones, however few rows they have.
const LARGE_BYTES: u64 = 64 << 20;
/// Runs of fewer rows than this part of a file's have small files, whatever these are.
const SURELY_SMALL: u64 = 16;

pub(super) async fn of_line(
    catalog: &Catalog,
    state: &State,
    line: VersionId,
    eagerness: Eagerness,
    layout: &Layout,
) -> Result<Vec<Candidate>> {
    let runs = state.runs_of_line(line);
    let target = layout.target_rows as u64;
    let mut sized = Vec::with_capacity(runs.len());
    for run in &runs {
        let rows = rows_of(run);
        let large = eagerness != Eagerness::Everything
            && rows >= target / SURELY_SMALL
            && is_large(catalog, state, run, rows, target).await?;
        let stays = large || is_partly_gone(catalog, state, run).await?;
        let version = run.batches().first().map(|batch| batch.record.version);
        sized.push(Sized { rows, version: version.filter(|_| !stays) });
    }
    let mut places = Vec::with_capacity(runs.len());
    let mut place = 0;
    for run in &runs {
        places.push(place);
        place += run.batches().len();
    }
    let mut found = Vec::new();
    for chosen in choose(&sized, eagerness) {
        for part in alike(catalog, state, &runs[chosen.clone()]).await? {
            let (from, until) = (chosen.start + part.start, chosen.start + part.end);
            let of = &runs[from..until];
            let Some(version) = of.first().and_then(|run| run.batches().first()) else { continue };
            let mut candidate = Candidate {
                version: state.view_version(version.record.version).map(|of| of.label()).unwrap_or_default(),
                place: places[from],
                batches: of.iter().map(|run| run.batches().len()).sum(),
                runs: of.len(),
                files: 0,
                rows: 0,
                bytes: 0,
                written_under: version.record.version,
                line,
            };
            for run in of {
                for visible in catalog.run_files(state, *run, run.batches()).await? {
                    candidate.files += 1;
                    candidate.rows += visible.file.rows;
                    candidate.bytes += visible.file.bytes;
                }
            }
            found.push(candidate);
        }
    }
    Ok(found)
}

/// A run, as the choice sees it.
#[derive(Clone, Copy, Debug)]
struct Sized {
    rows: u64,
    /// None where it stays as it is.
    version: Option<VersionId>,
}

fn rows_of(run: &Run<'_>) -> u64 {
    match run {
        Run::Batch(batch) => batch.record.rows,
        Run::Compacted(one, _) => one.record.rows,
    }
}

/// Whether the files are about as large as new ones would be.
async fn is_large(catalog: &Catalog, state: &State, run: &Run<'_>, rows: u64, target: u64) -> Result<bool> {
    let files = catalog.run_files(state, *run, run.batches()).await?;
    let number = (files.len() as u64).max(1);
    let bytes: u64 = files.iter().map(|visible| visible.file.bytes).sum();
    Ok(rows / number >= target / 2 || bytes / number >= LARGE_BYTES)
}

/// Whether of some piece a part is gone and a part is there: what is left of it can be proved no more, and so is not moved.
async fn is_partly_gone(catalog: &Catalog, state: &State, run: &Run<'_>) -> Result<bool> {
    if run.batches().iter().all(|batch| state.expiry().gone(batch.record.batch).is_none()) {
        return Ok(false);
    }
    let all = catalog.all_run_files(*run, run.batches()).await?;
    let gone = |visible: &&VisibleFile| state.expiry().is_gone(&visible.file);
    let (gone, there): (Vec<_>, Vec<_>) = all.iter().partition(gone);
    let keys = |files: Vec<&VisibleFile>| -> HashSet<PieceKey> {
        files.iter().flat_map(|visible| &visible.file.pieces).map(PieceKey::of).collect()
    };
    Ok(!keys(gone).is_disjoint(&keys(there)))
}

/// Neighbours that are to become one, each at least two.
fn choose(runs: &[Sized], eagerness: Eagerness) -> Vec<Range<usize>> {
    if eagerness != Eagerness::Levels {
        return stretches(runs, u32::MAX).into_iter().flat_map(parts).collect();
    }
    for top in 0..=level(u64::MAX) {
        let worth = |stretch: &Range<usize>| {
            let rows = runs[stretch.clone()].iter().map(|run| run.rows);
            let (all, largest) = (rows.clone().sum::<u64>(), rows.max().unwrap_or(0));
            stretch.len() >= OF_A_LEVEL && all >= largest.saturating_mul(2)
        };
        let found: Vec<Range<usize>> =
            stretches(runs, top).into_iter().flat_map(parts).filter(worth).collect();
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

/// Stretches of one version, of no higher level.
fn stretches(runs: &[Sized], top: u32) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut version = None;
    for (place, run) in runs.iter().enumerate() {
        if run.version.is_none() || level(run.rows) > top {
            version = None;
            continue;
        }
        match found.last_mut().filter(|_| version == run.version) {
            Some(last) => last.end = place + 1,
            None => found.push(place..place + 1),
        }
        version = run.version;
    }
    found
}

/// Parts of a stretch that can be merged at once, of about as many each.
fn parts(stretch: Range<usize>) -> Vec<Range<usize>> {
    let number = stretch.len().div_ceil(MOST_RUNS).max(1);
    let cut = |part: usize| stretch.start + stretch.len() * part / number;
    (0..number).map(|part| cut(part)..cut(part + 1)).filter(|part| part.len() > 1).collect()
}

/// The logarithm to base 8.
fn level(rows: u64) -> u32 {
    rows.max(1).ilog2() / OF_A_LEVEL.ilog2()
}

/// Stretches of runs whose files have the same columns, but for those that a batch may do without.
async fn alike(catalog: &Catalog, state: &State, runs: &[Run<'_>]) -> Result<Vec<Range<usize>>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut last: Option<Vec<String>> = None;
    for (place, run) in runs.iter().enumerate() {
        let files = catalog.run_files(state, *run, run.batches()).await?;
        // One without rows is like any other.
        let columns = files.first().map(|visible| super::input::common_columns(&visible.file));
        let same = columns.is_none() || last.is_none() || columns == last;
        match found.last_mut().filter(|_| same) {
            Some(stretch) => stretch.end = place + 1,
            None => found.push(place..place + 1),
        }
        last = columns.or(last);
    }
    found.retain(|stretch| stretch.len() > 1);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn runs(rows: &[u64]) -> Vec<Sized> {
        rows.iter().map(|rows| Sized { rows: *rows, version: Some(VersionId::from(Uuid::nil())) }).collect()
    }

    #[test]
    fn neighbours_of_like_size_are_merged() {
        assert!(choose(&runs(&[5; 7]), Eagerness::Levels).is_empty());
        assert_eq!(choose(&runs(&[5; 8]), Eagerness::Levels), vec![0..8; 1]);
        // A large one is not written anew for some small ones, also where it stands among them.
        let mut among = vec![5; 7];
        among.insert(3, 100_000);
        assert!(choose(&runs(&among), Eagerness::Levels).is_empty());
        among.extend([5; 8]);
        assert_eq!(choose(&runs(&among), Eagerness::Levels), vec![4..16; 1]);
        assert_eq!(choose(&runs(&among), Eagerness::All), vec![0..16; 1]);
        // What stays as it is parts what is beside it.
        let mut parted = runs(&[5; 17]);
        parted[8].version = None;
        assert_eq!(choose(&parted, Eagerness::Levels), [0..8, 9..17]);
        parted[12].version = Some(VersionId::from(Uuid::from_u128(1)));
        assert_eq!(choose(&parted, Eagerness::All), [0..8, 9..12, 13..17]);
        assert_eq!(choose(&runs(&[5; 1025]), Eagerness::All).len(), 3);
        assert!(choose(&runs(&[5]), Eagerness::All).is_empty());
    }

    proptest! {
        /// However batches come, the runs stay few, and what is written anew is a few times what there is.
        #[test]
        fn runs_stay_few_and_rewrites_too(batches in prop::collection::vec(1u64..2000, 1..600)) {
            let mut held: Vec<u64> = Vec::new();
            let mut written = 0;
            for rows in &batches {
                held.push(*rows);
                loop {
                    let chosen = choose(&runs(&held), Eagerness::Levels);
                    if chosen.is_empty() {
                        break;
                    }
                    for stretch in chosen.into_iter().rev() {
                        let merged: u64 = held[stretch.clone()].iter().sum();
                        written += merged;
                        held.splice(stretch, [merged]);
                    }
                }
            }
            let all: u64 = batches.iter().sum();
            prop_assert_eq!(held.iter().sum::<u64>(), all);
            let levels = u64::from(level(all)) + 1;
            prop_assert!(held.len() as u64 <= 3 * 8 * levels, "{} runs: {held:?}", held.len());
            prop_assert!(written <= 3 * levels * all, "{written} of {all} rows in {levels} levels");
        }
    }
}
