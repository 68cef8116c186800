//! Which batch each row of a file is of, whether it counts, and when it was known where its batch alone says that.
//!
//! Files of one batch cost nothing here. In files of several, rows say in `_batch`, which is opened only where something follows from it.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::{Field, Schema, TimestampMicrosecondType};
use catalog::records::KnownAtSource;
use catalog::state::Batch;
use catalog::{FileBatches, Several, VisibleFile};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::parquet::arrow::arrow_reader::RowSelection;
use feature::{FeatureType, Timestamp};

use crate::data_files::{DataFiles, unreadable};
use crate::point_in_time::page_values::{ColumnRows, GroupRows, has_direct_values};

/// The column of files of several batches.
pub(crate) const BATCH: &str = "_batch";
const KNOWN_AT: &str = "known_at";
pub(crate) const VALID_AT: &str = "valid_at";
/// The place of a batch that does not count.
const NOT_COUNTED: u32 = u32::MAX;

/// Whether `_batch` must be read for what is read beside it to be right.
pub(crate) fn needs_batches(visible: &VisibleFile, names: &[&str]) -> bool {
    match &visible.batches {
        FileBatches::One(_) => false,
        FileBatches::Several(several) => {
            several.is_partial() || names.contains(&KNOWN_AT) && has_arrivals(visible)
        }
    }
}

/// Whether some rows are known by when their batch came.
pub(crate) fn has_arrivals(visible: &VisibleFile) -> bool {
    visible.batches().iter().any(|batch| batch.record.known_at == KnownAtSource::Arrival)
}

/// Columns of the rows of a file that count.
pub(crate) struct CountedRows {
    /// In files of several batches `known_at` is there where it was asked for, and has no null. In those of one it is as it is stored.
    pub columns: RecordBatch,
    /// Their places among the rows that were read; none where all count.
    kept: Option<Vec<u32>>,
    /// Places among the file's batches; none in a file of one, or where they were not asked for.
    batches: Option<Vec<u32>>,
}

impl CountedRows {
    /// Reads some columns of a file. Where `with_batches`, each row's batch is known.
    ///
    /// # Errors
    /// Those of the file; rows of a batch that its manifest does not name.
    pub async fn read(
        data: &DataFiles,
        visible: &VisibleFile,
        names: &[&str],
        selection: Option<RowSelection>,
        with_batches: bool,
    ) -> Result<Self> {
        let Some(since) = visible.since else {
            return Self::of_all_times(data, visible, names, selection, with_batches).await;
        };
        // Some of its rows are too old to count.
        let mut wanted = names.to_vec();
        wanted.push(VALID_AT);
        let rows = Self::of_all_times(data, visible, &wanted, selection, with_batches).await?;
        let late = is_since(&rows.columns, since).ok_or_else(|| untimed(visible))?;
        rows.only(&late)
    }

    async fn of_all_times(
        data: &DataFiles,
        visible: &VisibleFile,
        names: &[&str],
        selection: Option<RowSelection>,
        with_batches: bool,
    ) -> Result<Self> {
        let FileBatches::Several(several) = &visible.batches else {
            let columns = data.columns(visible, names, selection).await?;
            return Ok(Self { columns, kept: None, batches: None });
        };
        if !with_batches && !needs_batches(visible, names) {
            let columns = data.columns(visible, names, selection).await?;
            return Ok(Self { columns, kept: None, batches: None });
        }
        let mut wanted = names.to_vec();
        wanted.push(BATCH);
        let stored = data.columns(visible, &wanted, selection).await?;
        let mut places = places(visible, several, &stored)?;
        let mut columns = match names.contains(&KNOWN_AT) {
            true => with_known_at(visible, &stored, &places)?,
            false => stored,
        };
        let mut kept = None;
        if let Some(counted) = counted(several, &places) {
            columns = filter_record_batch(&columns, &counted)?;
            let rows = (0..).zip(counted.values().iter()).filter(|(_, counts)| *counts);
            kept = Some(rows.map(|(row, _)| row).collect());
            places.retain(|place| *place != NOT_COUNTED);
        }
        Ok(Self { columns, kept, batches: Some(places) })
    }

    /// Some of the rows.
    fn only(self, counted: &BooleanArray) -> Result<Self> {
        if counted.true_count() == counted.len() {
            return Ok(self);
        }
        let left = || (0..).zip(counted.values().iter()).filter(|(_, counts)| *counts).map(|(row, _)| row);
        Ok(Self {
            kept: Some(left().map(|row| self.place(row) as u32).collect()),
            batches: self.batches.is_some().then(|| left().map(|row| self.batch_place(row)).collect()),
            columns: filter_record_batch(&self.columns, counted)?,
        })
    }

    /// The place among the rows that were read.
    pub fn place(&self, row: usize) -> usize {
        self.kept.as_ref().and_then(|kept| kept.get(row)).map_or(row, |place| *place as usize)
    }

    /// Whether rows that were read do not count.
    pub fn lacks_some(&self) -> bool {
        self.kept.is_some()
    }

    /// The place of a row's batch among those that count in the file; it must have been asked for.
    pub fn batch_place(&self, row: usize) -> u32 {
        self.batches.as_ref().and_then(|batches| batches.get(row)).copied().unwrap_or(0)
    }

    /// The batch of a row, which must have been asked for.
    pub fn batch<'a>(&self, visible: &'a VisibleFile, row: usize) -> &'a Arc<Batch> {
        visible.batches().get(self.batch_place(row) as usize).unwrap_or_else(|| visible.first())
    }
}

/// The batches of some rows of a file, which ascend and may repeat, by their places among those that count.
pub(crate) async fn batches_of(data: &DataFiles, visible: &VisibleFile, rows: &[u32]) -> Result<Vec<u32>> {
    let FileBatches::Several(several) = &visible.batches else { return Ok(vec![0; rows.len()]) };
    let footer = data.footer(&visible.file).await?;
    let column = footer.schema().index_of(BATCH).map_err(|_| unnamed(visible))?;
    let mut found = Vec::with_capacity(rows.len());
    if has_direct_values(&footer, column) {
        let (mut first, mut from) = (0u64, 0);
        for (group, of_group) in footer.metadata().row_groups().iter().enumerate() {
            let end = first + of_group.num_rows() as u64;
            let until = from + rows[from..].partition_point(|row| u64::from(*row) < end);
            if until > from {
                let mut of_group = GroupRows::new(group, &rows[from..until], first);
                let Some(of_column) = ColumnRows::new(&footer, column, &mut of_group) else { break };
                let stretches = of_column.stretches();
                let starts: Vec<u64> = stretches.iter().map(|stretch| stretch.start).collect();
                let bytes = data.stretches(&visible.file, stretches).await?;
                let values = of_column.values(starts.into_iter().zip(bytes).collect());
                let values = values.map_err(|error| unreadable(&visible.file, &error))?;
                let Some(values) = values else { break };
                found.extend(places_in(visible, several, &values)?);
            }
            (first, from) = (end, until);
        }
        if found.len() == rows.len() {
            return Ok(found);
        }
    }
    // Pages of another kind are left to Parquet's own reader.
    let stored = data.columns(visible, &[BATCH], None).await?;
    let column = stored.column_by_name(BATCH).ok_or_else(|| unnamed(visible))?;
    places_in(visible, several, &take(column, &UInt32Array::from(rows.to_vec()), None)?)
}

/// Of each row the place of its batch among those that count.
pub(crate) fn places(visible: &VisibleFile, several: &Several, stored: &RecordBatch) -> Result<Vec<u32>> {
    places_in(visible, several, stored.column_by_name(BATCH).ok_or_else(|| unnamed(visible))?)
}

fn places_in(visible: &VisibleFile, several: &Several, column: &ArrayRef) -> Result<Vec<u32>> {
    let ids =
        column.as_fixed_size_binary_opt().filter(|ids| ids.value_length() == 16 && ids.null_count() == 0);
    let ids = ids.ok_or_else(|| unnamed(visible))?;
    let mut places = Vec::with_capacity(ids.len());
    // Rows of one batch often lie together.
    let mut last: Option<(&[u8], u32)> = None;
    for row in 0..ids.len() {
        let bytes = ids.value(row);
        let place = match last {
            Some((known, place)) if known == bytes => place,
            _ => match several.place(bytes) {
                Some(place) => place,
                None if several.is_partial() => NOT_COUNTED,
                None => return Err(unnamed(visible)),
            },
        };
        last = Some((bytes, place));
        places.push(place);
    }
    Ok(places)
}

fn unnamed(visible: &VisibleFile) -> DataFusionError {
    exec_datafusion_err!(
        "data file `{}` does not say of each row which of the batches in its manifest it is of",
        visible.file.path
    )
}

/// Which rows are valid at an instant or later; none without the column.
pub(crate) fn is_since(rows: &RecordBatch, since: Timestamp) -> Option<BooleanArray> {
    let times = rows.column_by_name(VALID_AT)?.as_primitive_opt::<TimestampMicrosecondType>()?;
    Some(times.values().iter().map(|time| Some(*time >= since.micros())).collect())
}

pub(crate) fn untimed(visible: &VisibleFile) -> DataFusionError {
    exec_datafusion_err!("data file `{}` does not say when its rows are valid", visible.file.path)
}

/// Which rows count; none where all do.
pub(crate) fn counted(several: &Several, places: &[u32]) -> Option<BooleanArray> {
    let all = !several.is_partial() || places.iter().all(|place| *place != NOT_COUNTED);
    (!all).then(|| places.iter().map(|place| Some(*place != NOT_COUNTED)).collect())
}

/// When each row was known: what is stored, and where that is null, when its batch came. Rows that do not count were known at any time.
pub(crate) fn known_at(
    visible: &VisibleFile,
    stored: Option<&ArrayRef>,
    places: &[u32],
) -> TimestampMicrosecondArray {
    let stored = stored.and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    if let Some(stored) = stored.filter(|stored| stored.null_count() == 0) {
        return stored.clone();
    }
    let arrivals: Vec<i64> = visible.batches().iter().map(|batch| batch.by.committed_at.micros()).collect();
    let known = places.iter().enumerate().map(|(row, place)| match stored {
        Some(stored) if stored.is_valid(row) => stored.value(row),
        _ => arrivals.get(*place as usize).copied().unwrap_or(0),
    });
    TimestampMicrosecondArray::from_iter_values(known).with_timezone("UTC")
}

fn with_known_at(visible: &VisibleFile, stored: &RecordBatch, places: &[u32]) -> Result<RecordBatch> {
    let known: ArrayRef = Arc::new(known_at(visible, stored.column_by_name(KNOWN_AT), places));
    let schema = stored.schema();
    let field = Field::new(KNOWN_AT, FeatureType::Timestamp.arrow(), false);
    let (mut fields, mut columns) = (schema.fields().to_vec(), stored.columns().to_vec());
    match schema.index_of(KNOWN_AT) {
        Ok(place) => (fields[place], columns[place]) = (Arc::new(field), known),
        Err(_) => {
            fields.push(Arc::new(field));
            columns.push(known);
        }
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
