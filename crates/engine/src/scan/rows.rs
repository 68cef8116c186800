//! Rows of data files as the history shows them: what is stored, and what only the log knows.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, StringArray, TimestampMicrosecondArray,
    UInt64Array, new_null_array,
};
use arrow::compute::{and, cast, filter_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use catalog::{FileBatches, VisibleFile};
use datafusion::common::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::parquet::arrow::arrow_reader::RowSelection;
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::pages;
use super::predicate::{Predicate, RowCondition};
use crate::access::Guard;
use crate::data_files::{DataFiles, chunk_bytes};
use crate::point_in_time::working_memory::WorkingMemory;
use crate::row_batches::{VALID_AT, counted, is_since, known_at, needs_batches, places, untimed};

/// Columns that only the log knows, under names that no key and no feature can have.
pub const RETRACTED: &str = "_retracted";
pub const SEQUENCE: &str = "_sequence";
pub const BATCH: &str = "_batch";
pub const FILE: &str = "_file";
pub const ROW: &str = "_row";

/// What a scan says of itself in `EXPLAIN ANALYZE`.
#[derive(Clone, Debug)]
pub struct Meters {
    pub files_read: Count,
    /// Files that manifests ruled out.
    pub files_pruned: Count,
    /// Rows that were decoded.
    pub rows_read: Count,
    /// Rows of pages of the files read that statistics ruled out.
    pub rows_pruned: Count,
}

impl Meters {
    pub fn new(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let count = |name: &'static str| MetricBuilder::new(metrics).counter(name, partition);
        Self {
            files_read: count("files_read"),
            files_pruned: count("files_pruned"),
            rows_read: count("rows_read"),
            rows_pruned: count("rows_pruned"),
        }
    }
}

/// Which columns of which rows are read; the same for many files.
#[derive(Clone, Debug)]
pub struct FileRows {
    data: DataFiles,
    /// What is given.
    schema: SchemaRef,
    /// What is read for it: the conditions look at more.
    read: SchemaRef,
    predicate: Option<Arc<Predicate>>,
    condition: Option<RowCondition>,
    /// What is kept from the asker; the rows that are hidden are among the conditions.
    guard: Option<Arc<Guard>>,
    /// Whether the numbers of rows are told.
    numbered: bool,
}

impl FileRows {
    /// Rows of `schema`, whose columns are some of `history`, that the predicate holds for.
    ///
    /// # Errors
    /// A condition over columns that the history does not have.
    pub fn new(
        data: DataFiles,
        history: &Schema,
        schema: SchemaRef,
        predicate: Option<Arc<Predicate>>,
        guard: Option<Arc<Guard>>,
    ) -> Result<Self> {
        let mut fields = schema.fields().to_vec();
        if let Some(predicate) = &predicate {
            for field in history.fields() {
                if predicate.looks_at(field.name()) && schema.index_of(field.name()).is_err() {
                    fields.push(field.clone());
                }
            }
        }
        let read = Arc::new(Schema::new(fields));
        let condition = match &predicate {
            Some(predicate) => predicate.on_rows_of(&read)?,
            None => None,
        };
        Ok(Self { data, schema, read, predicate, condition, guard, numbered: true })
    }

    /// The same with no number for any row: where rows are hidden, it counts those before.
    pub fn unnumbered(self) -> Self {
        Self { numbered: false, ..self }
    }

    /// Whether some rows are hidden, so that numbers of rows tell too much.
    pub fn hides(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.rows().is_some())
    }

    /// What rows are held against.
    pub fn predicate(&self) -> Option<&Predicate> {
        self.predicate.as_deref()
    }

    /// The rows of a file in their order, in batches of at most so many.
    pub fn of(
        &self,
        file: VisibleFile,
        batch_rows: usize,
        meters: Meters,
        memory: WorkingMemory,
    ) -> SendableRecordBatchStream {
        let (rows, given) = (self.clone(), self.schema.fields().len());
        let columns: Vec<usize> = (0..given).collect();
        let (condition, guard, numbered) = (self.condition.clone(), self.guard.clone(), self.numbered);
        let batches = stream::once(async move { rows.open(file, batch_rows, meters, memory).await })
            .try_flatten()
            .map(move |batch| {
                let batch = batch?;
                let batch = match &condition {
                    Some(condition) => condition.filter(&batch)?,
                    None => batch,
                };
                let batch = if batch.num_columns() == given { batch } else { batch.project(&columns)? };
                let batch = if numbered { batch } else { without_numbers(batch)? };
                match &guard {
                    Some(guard) => guard.masked(batch),
                    None => Ok(batch),
                }
            })
            .boxed();
        // Where no row is left of many batches, nobody above would give way to other tasks.
        Box::pin(cooperative(RecordBatchStreamAdapter::new(self.schema.clone(), batches)))
    }

    /// The rows of pages that the predicate leaves, with the columns that are read.
    async fn open(
        self,
        file: VisibleFile,
        batch_rows: usize,
        meters: Meters,
        memory: WorkingMemory,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        meters.files_read.add(1);
        let all = file.file.rows;
        let footer = self.data.footer(&file.file).await?;
        let stretches = match &self.predicate {
            Some(predicate) => pages::may_be_true(&footer, predicate)?,
            None => None,
        };
        let selection = stretches.as_ref().map(|stretches| {
            let place = |row: u64| usize::try_from(row).unwrap_or(usize::MAX);
            let ranges = stretches.iter().map(|rows| place(rows.start)..place(rows.end));
            RowSelection::from_consecutive_ranges(ranges, place(all))
        });
        let mut numbers = RowNumbers::new(stretches.unwrap_or_else(|| std::iter::once(0..all).collect()));
        meters.rows_pruned.add(usize::try_from(all.saturating_sub(numbers.left())).unwrap_or(0));
        let mut names: Vec<&str> = self.read.fields().iter().map(|field| field.name().as_str()).collect();
        if (names.contains(&SEQUENCE) || needs_batches(&file, &names)) && !names.contains(&BATCH) {
            names.push(BATCH);
        }
        if file.since.is_some() && !names.contains(&VALID_AT) {
            names.push(VALID_AT);
        }
        let share = numbers.left() as f64 / all.max(1) as f64;
        let held = memory.hold((chunk_bytes(&footer, &names) as f64 * share) as usize);
        let stored = self.data.stream(&file, &names, selection, batch_rows).await?;
        let read = self.read;
        let batches = stored.map(move |stored| {
            let _until_the_end = &held;
            let stored = stored?;
            meters.rows_read.add(stored.num_rows());
            with_log(&stored, &file, &read, &mut numbers)
        });
        Ok(batches.boxed())
    }
}

/// The numbers of the rows that are read.
struct RowNumbers {
    /// The last stretch first.
    stretches: Vec<Range<u64>>,
}

impl RowNumbers {
    fn new(mut stretches: Vec<Range<u64>>) -> Self {
        stretches.reverse();
        Self { stretches }
    }

    fn left(&self) -> u64 {
        self.stretches.iter().map(|rows| rows.end - rows.start).sum()
    }

    /// The next numbers.
    fn take(&mut self, rows: usize) -> Vec<u64> {
        let mut taken = Vec::with_capacity(rows);
        while taken.len() < rows
            && let Some(stretch) = self.stretches.last_mut()
        {
            let until = stretch.end.min(stretch.start + (rows - taken.len()) as u64);
            taken.extend(stretch.start..until);
            stretch.start = until;
            if stretch.is_empty() {
                self.stretches.pop();
            }
        }
        taken
    }
}

/// Rows of a file with the columns that only the log knows.
fn with_log(
    stored: &RecordBatch,
    file: &VisibleFile,
    schema: &SchemaRef,
    numbers: &mut RowNumbers,
) -> Result<RecordBatch> {
    let rows = stored.num_rows();
    let text = |value: String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, rows)))
    };
    let several = match &file.batches {
        FileBatches::Several(several) if stored.column_by_name(BATCH).is_some() => Some(several),
        _ => None,
    };
    let places = match several {
        Some(several) => places(file, several, stored)?,
        None => Vec::new(),
    };
    let counted = several.and_then(|several| counted(several, &places));
    let counted = match file.since {
        Some(since) => {
            let late = is_since(stored, since).ok_or_else(|| untimed(file))?;
            Some(match counted {
                Some(counted) => and(&counted, &late)?,
                None => late,
            })
        }
        None => counted,
    };
    let of_rows =
        || places.iter().map(|place| file.batches().get(*place as usize).unwrap_or_else(|| file.first()));
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let column: ArrayRef = match (field.name().as_str(), stored.column_by_name(field.name())) {
            (RETRACTED, None) => Arc::new(BooleanArray::from(vec![false; rows])),
            (SEQUENCE, _) if several.is_some() => {
                Arc::new(UInt64Array::from_iter_values(of_rows().map(|batch| batch.by.sequence.0)))
            }
            (SEQUENCE, _) => Arc::new(UInt64Array::from_value(file.first().by.sequence.0, rows)),
            (BATCH, _) if several.is_some() => Arc::new(ids_of(file, &places)),
            (BATCH, _) => text(file.first().record.batch.to_string()),
            (FILE, _) => text(file.file.path.clone()),
            (ROW, _) => Arc::new(UInt64Array::from(numbers.take(rows))),
            ("known_at", known) if several.is_some() => Arc::new(known_at(file, known, &places)),
            ("known_at", None) => {
                let arrival = file.first().by.committed_at.micros();
                Arc::new(TimestampMicrosecondArray::from_value(arrival, rows).with_timezone("UTC"))
            }
            (_, Some(column)) => cast(column, field.data_type())?,
            // A feature that the batch does not have.
            (_, None) => new_null_array(field.data_type(), rows),
        };
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
    Ok(match counted {
        Some(counted) => filter_record_batch(&batch, &counted)?,
        None => batch,
    })
}

fn without_numbers(batch: RecordBatch) -> Result<RecordBatch> {
    let (schema, mut columns, rows) = batch.into_parts();
    if let Some(numbers) = schema.index_of(ROW).ok().and_then(|place| columns.get_mut(place)) {
        *numbers = new_null_array(numbers.data_type(), rows);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

/// The batch of each row as text.
fn ids_of(file: &VisibleFile, places: &[u32]) -> StringArray {
    let texts: Vec<String> = file.batches().iter().map(|batch| batch.record.batch.to_string()).collect();
    StringArray::from_iter_values(
        places.iter().map(|place| texts.get(*place as usize).map_or("", String::as_str)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_numbered_as_they_lie_in_the_file() {
        let mut numbers = RowNumbers::new(vec![2..5, 9..11]);
        assert_eq!(numbers.left(), 5);
        assert_eq!(numbers.take(2), [2, 3]);
        assert_eq!(numbers.take(2), [4, 9]);
        assert_eq!(numbers.take(0), Vec::<u64>::new());
        assert_eq!(numbers.take(9), [10]);
    }
}
