//! The batches of a file stand by their lines, so that those of one view lie together; in each line, and by `place` all of them, in the
//! order of the log.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{take, take_record_batch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, UInt32Type};
use arrow::error::ArrowError;
use feature::VersionId;
use uuid::Uuid;

use crate::state::Table;

/// The columns of the batches as a state has them, then where each stood, and what was found of its rows.
pub(super) fn schema() -> SchemaRef {
    let optional = |field: &FieldRef| Arc::new(Field::new(field.name(), field.data_type().clone(), true));
    let (batches, profiles) = (Table::Batches.schema(), Table::Profiles.schema());
    let mut fields: Vec<FieldRef> = batches.fields().to_vec();
    fields.push(Arc::new(Field::new("place", DataType::UInt32, false)));
    fields.extend(profiles.fields().iter().skip(2).map(optional));
    Arc::new(Schema::new(fields))
}

/// The rows of a file.
///
/// # Errors
/// Where a batch is of no known version, or a profile of no batch.
pub(crate) fn arranged(
    batches: &RecordBatch,
    profiles: &RecordBatch,
    line_of: &dyn Fn(VersionId) -> Option<VersionId>,
) -> Result<RecordBatch, String> {
    let version = batches.column(3).as_fixed_size_binary();
    let line = |row: usize| {
        let version = VersionId::from(uuid_of(version.value(row)));
        line_of(version).ok_or_else(|| format!("there is a batch of version {version}, and no such version"))
    };
    let lines = (0..batches.num_rows()).map(line).collect::<Result<Vec<_>, _>>()?;
    let mut order: Vec<u32> = (0..).take(batches.num_rows()).collect();
    order.sort_by_key(|row| lines.get(*row as usize));
    // Both are in the order of the log.
    let (batch, profiled) =
        (batches.column(1).as_fixed_size_binary(), profiles.column(1).as_fixed_size_binary());
    let (mut of_batch, mut next) = (Vec::with_capacity(batches.num_rows()), 0);
    for row in 0..batches.num_rows() {
        let is_next = next < profiled.len() && profiled.value(next) == batch.value(row);
        of_batch.push(is_next.then_some(next as u32));
        next += usize::from(is_next);
    }
    if next < profiled.len() {
        return Err("there is a profile of no batch".to_owned());
    }
    let rows = || -> Result<RecordBatch, ArrowError> {
        let order = UInt32Array::from(order);
        let found = take(&UInt32Array::from(of_batch), &order, None)?;
        let mut columns: Vec<ArrayRef> = take_record_batch(batches, &order)?.columns().to_vec();
        columns.push(Arc::new(order));
        for column in profiles.columns().iter().skip(2) {
            columns.push(take(column, &found, None)?);
        }
        RecordBatch::try_new(schema(), columns)
    };
    rows().map_err(|error| error.to_string())
}

/// The rows of a file as a state has them: batches and profiles.
///
/// # Errors
/// Where the places are not those of all rows.
pub(crate) fn in_order(file: &RecordBatch) -> Result<(RecordBatch, RecordBatch), String> {
    let width = Table::Batches.schema().fields().len();
    let place = file.column(width).as_primitive::<UInt32Type>();
    let mut order = vec![None; file.num_rows()];
    for (row, place) in (0u32..).zip(place.values()) {
        match order.get_mut(*place as usize) {
            Some(of @ None) => *of = Some(row),
            _ => return Err("its batches do not say where they stood".to_owned()),
        }
    }
    let rows = || -> Result<(RecordBatch, RecordBatch), ArrowError> {
        let all = take_record_batch(file, &UInt32Array::from(order))?;
        let columns: Vec<ArrayRef> = all.columns().iter().take(width).cloned().collect();
        let batches = RecordBatch::try_new(Table::Batches.schema(), columns)?;
        let profile = all.column(width + 1);
        let with: UInt32Array =
            (0u32..).take(all.num_rows()).filter(|row| profile.is_valid(*row as usize)).collect();
        let columns =
            [0, 1, width + 1, width + 2].into_iter().map(|column| take(all.column(column), &with, None));
        let profiles = RecordBatch::try_new(Table::Profiles.schema(), columns.collect::<Result<_, _>>()?)?;
        Ok((batches, profiles))
    };
    rows().map_err(|error| error.to_string())
}

fn uuid_of(bytes: &[u8]) -> Uuid {
    Uuid::from_slice(bytes).unwrap_or_default()
}
