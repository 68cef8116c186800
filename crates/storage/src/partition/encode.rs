//! One file: its rows sorted, described, digested and encoded.

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{take, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use bytes::Bytes;
use feature::digest::{Digest, HashAlgorithm, digest_batches, hash};
use feature::key::hashes_of_few_keys;
use feature::key::statistic::{StatisticError, bounds_of};
use feature::{FileId, ViewId};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;

use super::arrange::{Arranged, Group};
use super::layout::Layout;
use super::{Target, encodings, invalid};
use crate::Result;
use crate::manifest::{BLOCK_BYTES, ColumnStatistics, DataFile, KEYS_TOLD, Piece};

pub(super) fn encode(
    arranged: &Arranged,
    index: usize,
    id: FileId,
    target: &Target,
    layout: &Layout,
    what: &str,
) -> Result<(DataFile, Bytes)> {
    let group = &arranged.groups[index];
    let rows = sorted(arranged, group).map_err(|error| invalid(what, error.to_string()))?;
    let statistics = statistics(&rows).map_err(|(column, error)| {
        invalid(what, format!("its column `{column}` cannot be stored: {error}"))
    })?;
    let key_hashes = key_hashes(&rows, &arranged.sort[..arranged.keys], what)?;
    let content = digest_batches(target.hash, rows.schema_ref(), [&rows])
        .map_err(|error| invalid(what, error.to_string()))?;
    let bytes = parquet(&rows, &arranged.sort, layout).map_err(|error| invalid(what, error.to_string()))?;

    let Group { partition, bucket, buckets, rows: taken } = group;
    let time = partition_time(arranged, group);
    let path = path(target.view, target.version, &arranged.granularity.name(time), (*bucket, *buckets), id);
    let piece = Piece {
        batch: target.batch,
        from: partition.from,
        until: partition.until,
        bucket: *bucket,
        buckets: *buckets,
        rows: taken.len() as u64,
        digest: content.digest,
    };
    let file = DataFile {
        id,
        path,
        version: target.version,
        from: partition.from,
        until: partition.until,
        bucket: *bucket,
        buckets: *buckets,
        rows: taken.len() as u64,
        bytes: bytes.len() as u64,
        key_hashes,
        statistics,
        pieces: vec![piece],
        digest: hash(target.hash, &bytes),
        block_bytes: BLOCK_BYTES,
        blocks: blocks(target.hash, &bytes),
    };
    Ok((file, bytes))
}

/// Where a file lies. `time` is for people.
pub(super) fn path(
    view: ViewId,
    version: u32,
    time: &str,
    (bucket, buckets): (u32, u32),
    id: FileId,
) -> String {
    format!("data/{view}/v{version}/{time}/{bucket}-of-{buckets}/{id}.parquet")
}

/// The digest of each block of a file's bytes.
pub(super) fn blocks(algorithm: HashAlgorithm, bytes: &[u8]) -> Vec<Digest> {
    bytes.chunks(BLOCK_BYTES as usize).map(|block| hash(algorithm, block)).collect()
}

/// An instant within the partition, to name it by. Its beginning would not do: at the end of time it is cut short.
fn partition_time(arranged: &Arranged, group: &Group) -> i64 {
    let times = arranged.rows.column(arranged.sort[arranged.keys]);
    let row = group.rows.first().map_or(0, |row| *row as usize);
    times
        .as_primitive_opt::<TimestampMicrosecondType>()
        .map_or(group.partition.from, |times| times.value(row))
}

/// The rows of the group by key, valid_at and known_at; equals stay in the order of arrival.
fn sorted(arranged: &Arranged, group: &Group) -> Result<RecordBatch, ArrowError> {
    let all = group.rows.len() == arranged.rows.num_rows();
    let arrived = UInt32Array::from(group.rows.clone());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(arranged.sort.len());
    let mut fields = Vec::with_capacity(arranged.sort.len());
    for position in &arranged.sort {
        let column = arranged.rows.column(*position);
        fields.push(SortField::new(column.data_type().clone()));
        columns.push(if all { column.clone() } else { take(column.as_ref(), &arrived, None)? });
    }
    let mut order = order(&columns, fields)?;
    if all && order.is_sorted() {
        return Ok(arranged.rows.clone());
    }
    for place in &mut order {
        *place = group.rows[*place as usize];
    }
    take_record_batch(&arranged.rows, &UInt32Array::from(order))
}

/// The places of the rows in sorted order.
pub(super) fn order(columns: &[ArrayRef], fields: Vec<SortField>) -> Result<Vec<u32>, ArrowError> {
    let values = RowConverter::new(fields)?.convert_columns(columns)?;
    // The first bytes of each row are compared where they are moved; the rest, far away, only decides between equals.
    let mut rows = Vec::with_capacity(values.num_rows());
    for (place, row) in values.iter().enumerate() {
        let bytes = row.data();
        let mut first = [0; 16];
        let length = bytes.len().min(16);
        first[..length].copy_from_slice(&bytes[..length]);
        rows.push((u128::from_be_bytes(first), place as u32));
    }
    // Stable, because places differ; linear for rows that arrive sorted.
    rows.sort_unstable_by(|(first, place), (other_first, other)| {
        first
            .cmp(other_first)
            .then_with(|| values.row(*place as usize).cmp(&values.row(*other as usize)))
            .then_with(|| place.cmp(other))
    });
    Ok(rows.into_iter().map(|(_, place)| place).collect())
}

/// What the manifest tells of the keys of sorted rows.
pub(super) fn key_hashes(rows: &RecordBatch, keys: &[usize], what: &str) -> Result<Option<Vec<u32>>> {
    let keys: Vec<ArrayRef> = keys.iter().map(|key| rows.column(*key).clone()).collect();
    hashes_of_few_keys(&keys, KEYS_TOLD).map_err(|error| invalid(what, error.to_string()))
}

pub(super) fn statistics(rows: &RecordBatch) -> Result<Vec<ColumnStatistics>, (String, StatisticError)> {
    let mut statistics = Vec::with_capacity(rows.num_columns());
    for (field, array) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        let bounds = bounds_of(array).map_err(|error| (field.name().clone(), error))?;
        statistics.push(ColumnStatistics::new(field.name(), bounds));
    }
    Ok(statistics)
}

/// `sort` holds the positions of the columns that the rows are sorted by.
pub(super) fn parquet(rows: &RecordBatch, sort: &[usize], layout: &Layout) -> Result<Bytes, ParquetError> {
    // The types of Arrow are not embedded: what Parquet says of a column is all that a reader needs, and the files
    // then do not depend on how a writer held its text.
    let options = ArrowWriterOptions::new()
        .with_properties(encodings::choose(rows, sort, layout)?)
        .with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), rows.schema(), options)?;
    writer.write(rows)?;
    Ok(writer.into_inner()?.into())
}
