//! Which rows of a file a predicate leaves, told from the statistics of its pages.

use std::ops::Range;

use datafusion::common::Result;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderMetadata;
use datafusion::physical_expr::utils::collect_columns;

use super::predicate::Predicate;
use super::pruning::{Bounds, Containers, pruning};
use super::rows::BATCH;
use crate::point_in_time::{PageBounds, bounds_of_pages};

/// Stretches of rows that the predicate may be true of, ascending and apart; none where that may be all of them.
///
/// # Errors
/// Statistics of pages that do not read as the column's type.
pub fn may_be_true(footer: &ArrowReaderMetadata, predicate: &Predicate) -> Result<Option<Vec<Range<u64>>>> {
    let rows = u64::try_from(footer.metadata().file_metadata().num_rows()).unwrap_or(0);
    let mut left: Vec<Range<u64>> = std::iter::once(0..rows).collect();
    for condition in predicate.compiled() {
        let columns = collect_columns(condition);
        let mut columns = columns.iter();
        // Pages of two columns are not of the same rows.
        let (Some(column), None) = (columns.next(), columns.next()) else { continue };
        let kind = predicate.schema().field(column.index()).data_type();
        // Bounds of pages leave NaN out, and do not say whether there is one.
        if kind.is_floating() || says_otherwise(footer, column.name()) {
            continue;
        }
        let Some(PageBounds { rows: pages, least, greatest }) = bounds_of_pages(footer, column.name(), kind)?
        else {
            continue;
        };
        let Some(pruning) = pruning(condition.clone(), predicate.schema()) else { continue };
        let bounds = Bounds { least, greatest, nulls: None };
        let containers = Containers::new(pages.len(), None).with(column.name(), bounds);
        let Ok(kept) = pruning.prune(&containers) else { continue };
        let kept = pages.into_iter().zip(kept).filter_map(|(page, kept)| kept.then_some(page));
        left = common(&left, &kept.collect::<Vec<_>>());
    }
    Ok((left.iter().map(|rows| rows.end - rows.start).sum::<u64>() < rows).then_some(left))
}

/// Whether a column is stored as something else than what is shown of it: batches are ids, and times that are null are those of batches.
fn says_otherwise(footer: &ArrowReaderMetadata, column: &str) -> bool {
    let Ok(place) = footer.schema().index_of(column) else { return false };
    column == BATCH || column == "known_at" && footer.schema().field(place).is_nullable()
}

/// Rows that are in both, each ascending and apart. Stretches that touch become one.
fn common(one: &[Range<u64>], other: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut both: Vec<Range<u64>> = Vec::new();
    let (mut at, mut of) = (0, 0);
    while let (Some(first), Some(second)) = (one.get(at), other.get(of)) {
        let rows = first.start.max(second.start)..first.end.min(second.end);
        if !rows.is_empty() {
            match both.last_mut() {
                Some(last) if last.end == rows.start => last.end = rows.end,
                _ => both.push(rows),
            }
        }
        if first.end <= second.end {
            at += 1;
        } else {
            of += 1;
        }
    }
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_rows_are_those_in_both() {
        let stretches = |of: &[(u64, u64)]| of.iter().map(|(from, until)| *from..*until).collect::<Vec<_>>();
        for (one, other, both) in [
            (stretches(&[(0, 10)]), stretches(&[(2, 4), (4, 6), (8, 12)]), stretches(&[(2, 6), (8, 10)])),
            (
                stretches(&[(0, 3), (5, 9)]),
                stretches(&[(1, 6), (7, 8)]),
                stretches(&[(1, 3), (5, 6), (7, 8)]),
            ),
            (stretches(&[(0, 3)]), stretches(&[(3, 5)]), Vec::new()),
            (Vec::new(), stretches(&[(0, 5)]), Vec::new()),
        ] {
            assert_eq!(common(&one, &other), both, "{one:?} and {other:?}");
        }
    }
}
