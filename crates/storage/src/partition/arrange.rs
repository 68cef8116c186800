//! Checks a batch and deals its rows to files.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit, TimestampMicrosecondType};
use feature::key::bucket_of_rows;
use feature::name::nearest;

use super::layout::{Granularity, Layout, Partition, buckets};
use super::{Columns, KNOWN_AT, RETRACTED, VALID_AT, invalid};
use crate::Result;

/// A batch whose columns stand as in its files, and which of its rows go into which.
pub(super) struct Arranged {
    pub rows: RecordBatch,
    /// How many of the first columns are the key.
    pub keys: usize,
    /// Positions of the columns that rows are sorted by.
    pub sort: Vec<usize>,
    pub granularity: Granularity,
    /// By partition, then by bucket; none is empty.
    pub groups: Vec<Group>,
}

/// The rows of one file.
pub(super) struct Group {
    pub partition: Partition,
    pub bucket: u32,
    pub buckets: u32,
    /// Ascending: in the order of arrival.
    pub rows: Vec<u32>,
}

pub(super) fn arrange(
    rows: &RecordBatch,
    columns: &Columns,
    layout: &Layout,
    what: &str,
) -> Result<Arranged> {
    if u32::try_from(rows.num_rows()).is_err() {
        let why = format!("it has {} rows; write it in parts of less than 4,294,967,295", rows.num_rows());
        return Err(invalid(what, why));
    }
    let (rows, sort) = stored_columns(rows, columns, what)?;
    let keys = columns.keys.len();
    let times = rows
        .column_by_name(VALID_AT)
        .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>().cloned())
        .ok_or_else(|| invalid(what, "its `valid_at` cannot be read"))?;
    // Of the rows alone: they may be a slice of larger buffers.
    let bytes: usize =
        rows.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum();
    let rows_per_file = layout.rows_per_file(rows.num_rows(), bytes);
    let granularity = Granularity::of(times.values(), rows_per_file, layout.longest_partition);
    let groups = groups(&rows.columns()[..keys], times.values(), granularity, rows_per_file)
        .map_err(|error| invalid(what, error.to_string()))?;
    Ok(Arranged { rows, keys, sort, granularity, groups })
}

/// The columns in the order of the files, checked, and the positions of those that rows are sorted by.
fn stored_columns(rows: &RecordBatch, columns: &Columns, what: &str) -> Result<(RecordBatch, Vec<usize>)> {
    let schema = rows.schema_ref();
    let position = |name: &str| -> Result<usize> {
        let mut found = schema.fields().iter().enumerate().filter(|(_, field)| field.name() == name);
        match (found.next(), found.next()) {
            (Some((position, _)), None) => Ok(position),
            (Some(_), Some(_)) => Err(invalid(what, format!("two of its columns are named `{name}`"))),
            (None, _) => {
                let names = schema.fields().iter().map(|field| field.name().as_str());
                let meant =
                    nearest(name, names).map(|meant| format!(" (there is `{meant}`)")).unwrap_or_default();
                Err(invalid(what, format!("it has no column `{name}`{meant}")))
            }
        }
    };
    let mut order: Vec<usize> = Vec::with_capacity(schema.fields().len());
    for key in &columns.keys {
        order.push(position(key)?);
    }
    if order.is_empty() {
        return Err(invalid(what, "it has no key; an entity has at least one key column"));
    }
    let mut sort: Vec<usize> = (0..order.len()).collect();
    if let Some(occurrence) = &columns.occurrence {
        order.push(position(occurrence)?);
    }
    for (name, present) in [(VALID_AT, true), (KNOWN_AT, columns.has_known_at)] {
        if present {
            sort.push(order.len());
            order.push(position(name)?);
        }
    }
    let retracted = columns.has_retracted.then(|| position(RETRACTED)).transpose()?;
    for (other, field) in schema.fields().iter().enumerate() {
        if order.contains(&other) || retracted == Some(other) {
            continue;
        }
        // A column that has a meaning only when it is declared must not be stored as a feature.
        if [KNOWN_AT, RETRACTED].contains(&field.name().as_str()) {
            return Err(invalid(
                what,
                format!("it has a column `{}`, but was declared to have none", field.name()),
            ));
        }
        position(field.name())?;
        order.push(other);
    }
    if let Some(retracted) = retracted
        && is_any_true(rows.column(retracted), what)?
    {
        order.push(retracted);
    }

    let times: Vec<usize> = sort[columns.keys.len()..].to_vec();
    let mut fields = Vec::with_capacity(order.len());
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(order.len());
    for (stored, position) in order.iter().enumerate() {
        let (field, array) = (schema.field(*position), rows.column(*position));
        let required = sort.contains(&stored) || retracted == Some(*position);
        if required && array.logical_null_count() > 0 {
            let row =
                (0..array.len()).find(|row| array.logical_nulls().is_some_and(|nulls| nulls.is_null(*row)));
            let row = row.map(|row| format!(" in row {row}")).unwrap_or_default();
            return Err(invalid(what, format!("its column `{}` is null{row}", field.name())));
        }
        if times.contains(&stored) {
            check_times(array, field.name(), what)?;
        }
        let array = plain(array, field.name(), what)?;
        fields.push(Field::new(field.name(), array.data_type().clone(), !required));
        arrays.push(array);
    }
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
        .map_err(|error| invalid(what, error.to_string()))?;
    Ok((rows, sort))
}

/// Dictionaries and runs are Parquet's to choose.
fn plain(array: &ArrayRef, name: &str, what: &str) -> Result<ArrayRef> {
    let value_type = match array.data_type() {
        DataType::Dictionary(_, value) => value.as_ref(),
        DataType::RunEndEncoded(_, value) => value.data_type(),
        _ => return Ok(array.clone()),
    };
    arrow::compute::cast(array, value_type)
        .map_err(|error| invalid(what, format!("its column `{name}` cannot be read: {error}")))
}

fn is_any_true(array: &ArrayRef, what: &str) -> Result<bool> {
    let Some(bits) = array.as_boolean_opt() else {
        return Err(invalid(what, format!("its column `{RETRACTED}` is {}, not boolean", array.data_type())));
    };
    Ok(bits.null_count() > 0 || bits.has_true())
}

fn check_times(array: &ArrayRef, name: &str, what: &str) -> Result<()> {
    if !matches!(array.data_type(), DataType::Timestamp(TimeUnit::Microsecond, Some(_))) {
        let why =
            format!("its column `{name}` is {}, not a timestamp in microseconds of UTC", array.data_type());
        return Err(invalid(what, why));
    }
    let times = array.as_primitive_opt::<TimestampMicrosecondType>();
    if times.is_some_and(|times| times.values().contains(&i64::MAX)) {
        let why = format!(
            "its column `{name}` has the last instant that 64 bits can count, which is the end of time"
        );
        return Err(invalid(what, why));
    }
    Ok(())
}

fn groups(
    keys: &[ArrayRef],
    times: &[i64],
    granularity: Granularity,
    rows_per_file: usize,
) -> std::result::Result<Vec<Group>, feature::key::KeyError> {
    // The partition of every row, as its place among the partitions in order of first sight.
    let mut places: BTreeMap<Partition, usize> = BTreeMap::new();
    let mut partition_of_rows: Vec<usize> = Vec::with_capacity(times.len());
    let mut rows_of_partitions: Vec<usize> = Vec::new();
    let mut last: Option<(Partition, usize)> = None;
    for time in times {
        let place = match last {
            Some((partition, place)) if partition.from <= *time && *time < partition.until => place,
            _ => {
                let partition = granularity.partition(*time);
                let place = *places.entry(partition).or_insert(rows_of_partitions.len());
                if place == rows_of_partitions.len() {
                    rows_of_partitions.push(0);
                }
                last = Some((partition, place));
                place
            }
        };
        partition_of_rows.push(place);
        rows_of_partitions[place] += 1;
    }
    let buckets_of_partitions: Vec<u32> =
        rows_of_partitions.iter().map(|rows| buckets(*rows, rows_per_file)).collect();
    // A bucket of few is the top bits of a bucket of many, so each key is hashed once.
    let most = buckets_of_partitions.iter().copied().max().unwrap_or(1);
    let bucket_of_rows = bucket_of_rows(keys, most)?;

    // Dealt in the order of arrival, so each group keeps it.
    let mut dealt: Vec<Vec<Vec<u32>>> =
        buckets_of_partitions.iter().map(|buckets| vec![Vec::new(); *buckets as usize]).collect();
    for (row, (place, bucket)) in partition_of_rows.into_iter().zip(bucket_of_rows).enumerate() {
        let bucket = bucket / (most / buckets_of_partitions[place]);
        dealt[place][bucket as usize].push(row as u32);
    }
    let mut groups = Vec::new();
    for (partition, place) in places {
        let buckets = buckets_of_partitions[place];
        for (bucket, rows) in std::mem::take(&mut dealt[place]).into_iter().enumerate() {
            if !rows.is_empty() {
                groups.push(Group { partition, bucket: bucket as u32, buckets, rows });
            }
        }
    }
    Ok(groups)
}
