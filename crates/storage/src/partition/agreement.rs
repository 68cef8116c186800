//! Whether a data file is what its manifest says of it: bytes, rows, order, statistics, place and content digest.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};
use arrow::row::{OwnedRow, RowConverter, SortField};
use bytes::Bytes;
use feature::digest::{TableDigest, hash};
use feature::key::statistic::{Bounds, StatisticValue, bounds_of};
use feature::key::{bucket_of_rows, key_hashes};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{BATCH, KNOWN_AT, VALID_AT};
use crate::manifest::{ColumnStatistics, DataFile};

/// Rows that are decoded at a time.
const ROWS: usize = 16_384;

/// Where the bytes of a data file differ from its manifest, in words; nothing where they are what was written.
///
/// `keys` are the columns of the entity's keys, in their order. Without them the order of the rows, their bucket and the
/// hashes of their keys are not looked at.
pub fn disagreements(file: &DataFile, keys: Option<&[String]>, bytes: &Bytes) -> Vec<String> {
    let altered = altered(file, bytes);
    if !altered.is_empty() {
        // What was altered is not what was written; what else follows from that is of no use.
        return altered;
    }
    // The Parquet reader panics on some damaged pages.
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| contents(file, keys, bytes)));
    match read {
        Ok(Ok(found)) => found,
        Ok(Err(why)) => vec![why],
        Err(_) => vec!["a page of it cannot be decoded".to_owned()],
    }
}

fn altered(file: &DataFile, bytes: &Bytes) -> Vec<String> {
    let mut found = Vec::new();
    if bytes.len() as u64 != file.bytes {
        found.push(format!("it has {} bytes, and its manifest says {}", bytes.len(), file.bytes));
        return found;
    }
    let blocks = bytes.chunks(file.block_bytes as usize).zip(&file.blocks).enumerate();
    let wrong: Vec<String> = blocks
        .filter(|(_, (block, expected))| hash(expected.algorithm(), block) != **expected)
        .map(|(number, _)| number.to_string())
        .collect();
    if !wrong.is_empty() {
        found
            .push(format!("it was altered: not the digest of its manifest gives block {}", wrong.join(", ")));
    } else if hash(file.digest.algorithm(), bytes) != file.digest {
        found.push("its blocks give the digests of its manifest, and the whole file does not".to_owned());
    }
    found
}

fn contents(file: &DataFile, keys: Option<&[String]>, bytes: &Bytes) -> Result<Vec<String>, String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("it is not a readable Parquet file ({error})");
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).map_err(|error| unreadable(&error))?;
    // Which batch a row is of stands beside the columns that the batches had.
    let of_one = builder.schema().column_with_name(BATCH).is_none();
    let own: Vec<usize> = (0..builder.schema().fields().len())
        .filter(|column| builder.schema().field(*column).name() != BATCH)
        .collect();
    let schema: SchemaRef = Arc::new(builder.schema().project(&own).map_err(|error| unreadable(&error))?);
    let mut wrong = Vec::new();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let stated: Vec<&str> = file.statistics.iter().map(|column| column.column.as_str()).collect();
    if names != stated {
        wrong.push(format!(
            "its columns are {}, and its manifest says {}",
            names.join(", "),
            stated.join(", ")
        ));
        return Ok(wrong);
    }
    let mut order = keys.map(|keys| Order::new(&schema, keys, of_one)).transpose()?;
    let mut digest =
        TableDigest::new(file.digest.algorithm(), &schema).map_err(|error| unreadable(&error))?;
    let mut merged: Vec<Merged> =
        schema.fields().iter().map(|field| Merged::new(field.data_type().clone())).collect();
    let (mut rows, mut outside) = (0u64, 0u64);
    let reader = builder.with_batch_size(ROWS).build().map_err(|error| unreadable(&error))?;
    for batch in reader {
        let batch = batch.and_then(|batch| batch.project(&own));
        let batch = batch.map_err(|error| format!("it cannot be decoded ({error})"))?;
        digest.update(&batch).map_err(|error| unreadable(&error))?;
        for (merged, column) in merged.iter_mut().zip(batch.columns()) {
            merged.add(column)?;
        }
        outside += outside_of(file, &batch)?;
        if let Some(order) = &mut order {
            order.add(file, &batch, rows)?;
        }
        rows += batch.num_rows() as u64;
    }
    if rows != file.rows {
        wrong.push(format!("it has {rows} rows, and its manifest says {}", file.rows));
    }
    if outside > 0 {
        wrong.push(format!("{outside} of its rows are outside of the time that its manifest says"));
    }
    if let Some(order) = order {
        wrong.extend(order.found);
        if file.key_hashes.as_ref().is_some_and(|told| !told.iter().eq(&order.hashes)) {
            wrong.push("it has other keys than its manifest says".to_owned());
        }
    }
    for (merged, stated) in merged.into_iter().zip(&file.statistics) {
        if ColumnStatistics::new(&stated.column, merged.bounds) != *stated {
            wrong.push(format!("its column `{}` has other statistics than its manifest says", stated.column));
        }
    }
    // A file with rows of several pieces, or of a part of one, does not have them in the order of the digest; one that was written
    // anew may have columns of its neighbours.
    if let ([piece], true) = (file.pieces.as_slice(), of_one) {
        let place = (piece.from, piece.until, piece.bucket, piece.buckets);
        let whole = place == (file.from, file.until, file.bucket, file.buckets);
        let content = digest.finish().digest;
        if whole && piece.rows == file.rows && content != piece.digest {
            wrong.push(format!("its content digest is {content}, and its manifest says {}", piece.digest));
        }
    }
    Ok(wrong)
}

/// How many rows are not of the file's partition.
fn outside_of(file: &DataFile, batch: &RecordBatch) -> Result<u64, String> {
    let times = column(batch, VALID_AT)?.as_primitive_opt::<TimestampMicrosecondType>();
    let times = times.ok_or_else(|| format!("its column `{VALID_AT}` is no time"))?;
    // The end of all time is within the partition that has none.
    let within = |time: i64| time >= file.from && (time < file.until || file.until == i64::MAX);
    Ok(times.iter().filter(|time| !time.is_some_and(within)).count() as u64)
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, String> {
    batch.column_by_name(name).ok_or_else(|| format!("it has no column `{name}`"))
}

/// The bounds of a column whose values come in parts.
struct Merged {
    data_type: DataType,
    bounds: Bounds,
}

impl Merged {
    fn new(data_type: DataType) -> Self {
        Self { data_type, bounds: Bounds::default() }
    }

    fn add(&mut self, values: &ArrayRef) -> Result<(), String> {
        let more = bounds_of(values).map_err(|error| error.to_string())?;
        self.bounds.nulls += more.nulls;
        self.bounds.nans += more.nans;
        let (least, greatest) = (self.bounds.least.take(), self.bounds.greatest.take());
        self.bounds.least = self.outer(least, more.least, std::cmp::Ordering::Less)?;
        self.bounds.greatest = self.outer(greatest, more.greatest, std::cmp::Ordering::Greater)?;
        Ok(())
    }

    fn outer(
        &self,
        one: Option<Vec<u8>>,
        other: Option<Vec<u8>>,
        wanted: std::cmp::Ordering,
    ) -> Result<Option<Vec<u8>>, String> {
        let (one, other) = match (one, other) {
            (Some(one), Some(other)) => (one, other),
            (one, other) => return Ok(one.or(other)),
        };
        let value =
            |bytes: &[u8]| StatisticValue::decode(&self.data_type, bytes).map_err(|error| error.to_string());
        let keeps = value(&one)?.compare(&value(&other)?) != Some(wanted.reverse());
        Ok(Some(if keeps { one } else { other }))
    }
}

/// Whether rows come by key, valid_at and known_at, and all of the file's bucket; and which keys they have.
struct Order {
    keys: usize,
    columns: Vec<String>,
    rows: RowConverter,
    last: Option<OwnedRow>,
    /// Of the keys, where the manifest tells them.
    hashes: BTreeSet<u32>,
    found: Vec<String>,
}

impl Order {
    fn new(schema: &SchemaRef, keys: &[String], of_one: bool) -> Result<Self, String> {
        let mut columns = keys.to_vec();
        columns.push(VALID_AT.to_owned());
        // In a file of several batches it may be null for the arrival of a row's batch, which the file does not say.
        if of_one {
            columns.extend(schema.column_with_name(KNOWN_AT).map(|_| KNOWN_AT.to_owned()));
        }
        let mut fields = Vec::with_capacity(columns.len());
        for name in &columns {
            let field = schema.field_with_name(name).map_err(|_| format!("it has no column `{name}`"))?;
            fields.push(SortField::new(field.data_type().clone()));
        }
        let rows = RowConverter::new(fields).map_err(|error| error.to_string())?;
        Ok(Self { keys: keys.len(), columns, rows, last: None, hashes: BTreeSet::new(), found: Vec::new() })
    }

    fn add(&mut self, file: &DataFile, batch: &RecordBatch, before: u64) -> Result<(), String> {
        let columns = self.columns.iter().map(|name| column(batch, name).cloned());
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let keys = &columns[..self.keys];
        if file.key_hashes.is_some() {
            self.hashes.extend(key_hashes(keys).map_err(|error| error.to_string())?);
        }
        if file.buckets > 1 {
            let buckets = bucket_of_rows(keys, file.buckets).map_err(|error| error.to_string())?;
            let strange = buckets.iter().filter(|bucket| **bucket != file.bucket).count();
            if strange > 0 {
                self.found.push(format!("{strange} of its rows are of another bucket than {}", file.bucket));
            }
        }
        let rows = self.rows.convert_columns(&columns).map_err(|error| error.to_string())?;
        for (number, row) in rows.iter().enumerate() {
            let sorted = match number.checked_sub(1) {
                Some(earlier) => rows.row(earlier) <= row,
                None => self.last.as_ref().is_none_or(|last| last.row() <= row),
            };
            if !sorted {
                let row = before + number as u64;
                self.found.push(format!("its rows are not in their order: row {row} belongs before"));
                break;
            }
        }
        self.last = rows.iter().next_back().map(|row| row.owned());
        Ok(())
    }
}
