//! Pages of a data file that are worth reading, as rows.

use std::ops::Range;

use arrow::array::{Array, ArrayRef};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::row::{OwnedRow, RowConverter};
use datafusion::common::Result;
use datafusion::parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use datafusion::parquet::arrow::arrow_reader::{ArrowReaderMetadata, RowSelection, RowSelector};

/// Some stretches of a file's rows, ascending.
#[derive(Debug)]
pub struct PageSelection {
    rows: RowSelection,
    /// First row of each stretch, and how many rows are read before it.
    stretches: Vec<(u32, usize)>,
}

impl PageSelection {
    /// Of a file of so many rows.
    fn new(stretches: impl IntoIterator<Item = Range<u64>>, all: u64) -> Self {
        let mut selectors = Vec::new();
        let mut firsts = Vec::new();
        let (mut next, mut before) = (0u64, 0usize);
        for Range { start, end } in stretches {
            if start > next {
                selectors.push(RowSelector::skip((start - next) as usize));
            }
            let rows = (end - start) as usize;
            selectors.push(RowSelector::select(rows));
            firsts.push((start as u32, before));
            before += rows;
            next = end;
        }
        if all > next {
            selectors.push(RowSelector::skip((all - next) as usize));
        }
        Self { rows: selectors.into(), stretches: firsts }
    }

    pub fn selection(&self) -> RowSelection {
        self.rows.clone()
    }

    /// The place of a row of the file among those that are read.
    pub fn place(&self, row: u32) -> usize {
        let after = self.stretches.partition_point(|(first, _)| *first <= row);
        match self.stretches.get(after.wrapping_sub(1)) {
            Some((first, before)) => before + (row - first) as usize,
            None => 0,
        }
    }

    /// The row of the file that is read at a place.
    pub fn row(&self, place: usize) -> u32 {
        let after = self.stretches.partition_point(|(_, before)| *before <= place);
        match self.stretches.get(after.wrapping_sub(1)) {
            Some((first, before)) => first + (place - before) as u32,
            None => 0,
        }
    }
}

/// Pages that hold one of the rows, which ascend: where they are less than this share of the file. Pages are those of
/// the column with the most.
pub fn with_rows(footer: &ArrowReaderMetadata, rows: &[u32], below: f64) -> Option<PageSelection> {
    let mut rows = rows.iter().copied().map(u64::from).peekable();
    let pages = widest_pages(footer)?.into_iter().filter(|page| {
        let hit = rows.peek().is_some_and(|row| *row < page.end);
        while rows.next_if(|row| *row < page.end).is_some() {}
        hit
    });
    some(footer, pages, below)
}

/// The pages of a column: their rows, and the least and greatest value of each; null where a page does not tell.
pub struct PageBounds {
    pub rows: Vec<Range<u64>>,
    pub least: ArrayRef,
    pub greatest: ArrayRef,
}

/// What statistics say of a column's pages, as values of a type; none where the file has none.
///
/// # Errors
/// Statistics of pages that do not read as the column's type.
pub fn bounds_of_pages(
    footer: &ArrowReaderMetadata,
    column: &str,
    kind: &DataType,
) -> Result<Option<PageBounds>> {
    let metadata = footer.metadata();
    let (Some(statistics), Some(offsets)) = (metadata.column_index(), metadata.offset_index()) else {
        return Ok(None);
    };
    let Ok(position) = footer.schema().index_of(column) else { return Ok(None) };
    let Some(rows) = pages_of(footer, |_| position) else { return Ok(None) };
    let read = StatisticsConverter::try_new(column, footer.schema(), footer.parquet_schema())?;
    let groups: Vec<usize> = (0..metadata.num_row_groups()).collect();
    let least = cast(&read.data_page_mins(statistics, offsets, &groups)?, kind)?;
    let greatest = cast(&read.data_page_maxes(statistics, offsets, &groups)?, kind)?;
    let told = least.len() == rows.len() && greatest.len() == rows.len();
    Ok(told.then_some(PageBounds { rows, least, greatest }))
}

/// Pages that may hold a key whose first column is among these, ascending in Arrow's row format.
///
/// # Errors
/// Statistics of pages that do not read as the column's type.
pub fn with_keys(
    footer: &ArrowReaderMetadata,
    column: &str,
    keys: &[OwnedRow],
    converter: &RowConverter,
    kind: &DataType,
    below: f64,
) -> Result<Option<PageSelection>> {
    let Some(PageBounds { rows, least, greatest }) = bounds_of_pages(footer, column, kind)? else {
        return Ok(None);
    };
    // A page without statistics may hold anything.
    if least.null_count() > 0 || greatest.null_count() > 0 {
        return Ok(None);
    }
    let least = converter.convert_columns(&[least])?;
    let greatest = converter.convert_columns(&[greatest])?;
    let pages = rows.into_iter().enumerate().filter(|(page, _)| {
        let from = keys.partition_point(|key| key.row() < least.row(*page));
        keys.get(from).is_some_and(|key| key.row() <= greatest.row(*page))
    });
    Ok(some(footer, pages.map(|(_, page)| page), below))
}

/// Joins pages that follow each other.
fn some(
    footer: &ArrowReaderMetadata,
    pages: impl Iterator<Item = Range<u64>>,
    below: f64,
) -> Option<PageSelection> {
    let mut stretches: Vec<Range<u64>> = Vec::new();
    let mut rows = 0;
    for page in pages {
        rows += page.end - page.start;
        match stretches.last_mut() {
            Some(last) if last.end == page.start => last.end = page.end,
            _ => stretches.push(page),
        }
    }
    let all = u64::try_from(footer.metadata().file_metadata().num_rows()).unwrap_or(0);
    ((rows as f64) < below * all as f64).then(|| PageSelection::new(stretches, all))
}

fn widest_pages(footer: &ArrowReaderMetadata) -> Option<Vec<Range<u64>>> {
    let index = footer.metadata().offset_index()?;
    pages_of(footer, |group| {
        let widths = index[group].iter().enumerate().max_by_key(|(_, column)| column.page_locations().len());
        widths.map_or(0, |(position, _)| position)
    })
}

/// The rows of each page of one column a row group.
fn pages_of(footer: &ArrowReaderMetadata, column: impl Fn(usize) -> usize) -> Option<Vec<Range<u64>>> {
    let metadata = footer.metadata();
    let index = metadata.offset_index()?;
    let mut pages = Vec::new();
    let mut first_row = 0u64;
    for (group, columns) in metadata.row_groups().iter().zip(index).enumerate() {
        let (group_rows, columns) = (columns.0.num_rows() as u64, columns.1);
        let locations = columns.get(column(group))?.page_locations();
        for (page, location) in locations.iter().enumerate() {
            let end = locations.get(page + 1).map_or(group_rows, |next| next.first_row_index as u64);
            pages.push(first_row + location.first_row_index as u64..first_row + end);
        }
        first_row += group_rows;
    }
    Some(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_rows_are_each_others_inverse() {
        let selection = PageSelection::new([2..4, 7..10], 12);
        for (place, row) in [2, 3, 7, 8, 9].into_iter().enumerate() {
            assert_eq!(selection.place(row), place);
            assert_eq!(selection.row(place), row);
        }
        let selectors: Vec<RowSelector> = selection.selection().into();
        assert_eq!(
            selectors,
            [
                RowSelector::skip(2),
                RowSelector::select(2),
                RowSelector::skip(3),
                RowSelector::select(3),
                RowSelector::skip(2)
            ]
        );
    }
}
