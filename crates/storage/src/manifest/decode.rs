//! Reading manifests. Nothing in them is taken on trust: what the format rules out is an error that names the object.

use std::str::FromStr;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Int64Type, UInt32Type, UInt64Type};
use bytes::Bytes;
use feature::digest::{ContentDigest, Digest};
use feature::{BatchId, FileId};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use uuid::Uuid;

use super::{
    ColumnStatistics, DataFile, FORMAT, FORMAT_KEY, FORMAT_OF_LARGE_BLOCKS, LARGE_BLOCK_BYTES, Piece,
};
use crate::{Error, Result};

/// Reads the manifest that lies at `object`; columns that are not known are passed over.
///
/// # Errors
/// [`Error::Corrupt`] if the bytes are no manifest or contradict themselves, [`Error::Newer`] if they are of a later
/// format; both name `object`.
pub fn decode(object: &str, bytes: &Bytes) -> Result<Vec<DataFile>> {
    // The Parquet reader panics on some damaged pages.
    std::panic::catch_unwind(|| decode_parquet(object, bytes))
        .unwrap_or_else(|_| Err(Error::corrupt(object, "it is damaged: a page of it cannot be decoded")))
}

fn decode_parquet(object: &str, bytes: &Bytes) -> Result<Vec<DataFile>> {
    let corrupt = |why: String| Error::corrupt(object, why);
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone())
        .map_err(|error| corrupt(format!("it is not a readable Parquet file ({error})")))?;
    let metadata = reader.metadata().file_metadata();
    let format = metadata
        .key_value_metadata()
        .and_then(|pairs| pairs.iter().find(|pair| pair.key == FORMAT_KEY))
        .and_then(|pair| pair.value.clone());
    let format = match format.as_deref().map(u32::from_str) {
        Some(Ok(known @ (FORMAT | FORMAT_OF_LARGE_BLOCKS))) => known,
        Some(Ok(newer)) if newer > FORMAT => {
            let why = format!("it has manifest format {newer}, this program knows {FORMAT}");
            return Err(Error::Newer { object: object.to_owned(), why });
        }
        _ => return Err(corrupt(format!("it is a Parquet file but no manifest: it has no `{FORMAT_KEY}`"))),
    };
    let rows = usize::try_from(metadata.num_rows()).unwrap_or(0);
    let reader = reader.build().map_err(|error| corrupt(format!("it cannot be read ({error})")))?;
    let mut files = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|error| corrupt(format!("it cannot be read ({error})")))?;
        read(&batch, format, &mut files).map_err(corrupt)?;
    }
    if files.len() != rows {
        return Err(corrupt(format!("it says that it has {rows} files but has {}", files.len())));
    }
    for file in &files {
        check(file).map_err(corrupt)?;
    }
    Ok(files)
}

/// What must be true of every data file.
pub(super) fn check(file: &DataFile) -> Result<(), String> {
    let wrong = |why: String| Err(format!("file {}: {why}", file.id));
    let part = |part: &str| part.is_empty() || part == "." || part == "..";
    if file.path.split('/').any(part) || !file.path.ends_with(&format!("/{}.parquet", file.id)) {
        return wrong(format!("`{}` is not its path", file.path));
    }
    check_place("it", file.from, file.until, file.bucket, file.buckets)
        .or_else(|why| wrong(why).map(|_: ()| ()))?;
    let mut rows = 0u64;
    for piece in &file.pieces {
        let name = format!("its piece of batch {}", piece.batch);
        check_place(&name, piece.from, piece.until, piece.bucket, piece.buckets)
            .or_else(|why| wrong(why).map(|_: ()| ()))?;
        if piece.digest.algorithm() != file.digest.algorithm() {
            return wrong(format!("{name} has a digest of another algorithm"));
        }
        rows = rows.saturating_add(piece.rows);
    }
    if rows != file.rows {
        return wrong(format!("it has {} rows, its pieces have {rows}", file.rows));
    }
    if !file.block_bytes.is_power_of_two() {
        return wrong(format!("its blocks have {} bytes, which is no power of two", file.block_bytes));
    }
    let blocks = file.bytes.div_ceil(u64::from(file.block_bytes));
    if blocks != file.blocks.len() as u64 {
        return wrong(format!("its {} bytes are {blocks} blocks, not {}", file.bytes, file.blocks.len()));
    }
    if file.blocks.iter().any(|block| block.algorithm() != file.digest.algorithm()) {
        return wrong("its blocks have digests of another algorithm".to_owned());
    }
    if let Some(hashes) = &file.key_hashes {
        if !hashes.is_sorted_by(|one, next| one < next) {
            return wrong("the hashes of its keys do not ascend".to_owned());
        }
        if hashes.len() as u64 > file.rows || hashes.is_empty() != (file.rows == 0) {
            return wrong(format!("its {} rows have {} keys", file.rows, hashes.len()));
        }
    }
    for (position, column) in file.statistics.iter().enumerate() {
        let known = column.nulls.saturating_add(column.nans);
        if known > file.rows || column.least.is_some() != column.greatest.is_some() {
            return wrong(format!("the statistics of `{}` contradict themselves", column.column));
        }
        if file.statistics.iter().take(position).any(|earlier| earlier.column == column.column) {
            return wrong(format!("it has statistics of `{}` twice", column.column));
        }
    }
    Ok(())
}

fn check_place(what: &str, from: i64, until: i64, bucket: u32, buckets: u32) -> Result<(), String> {
    if from >= until {
        return Err(format!("{what} has a partition from {from} until {until}"));
    }
    if !buckets.is_power_of_two() || bucket >= buckets {
        return Err(format!("{what} has the bucket {bucket} of {buckets}"));
    }
    Ok(())
}

/// Columns of a manifest, or children of one of its lists.
trait Columns {
    fn named(&self, name: &str) -> Option<&ArrayRef>;
}

impl Columns for RecordBatch {
    fn named(&self, name: &str) -> Option<&ArrayRef> {
        self.column_by_name(name)
    }
}

impl Columns for StructArray {
    fn named(&self, name: &str) -> Option<&ArrayRef> {
        self.column_by_name(name)
    }
}

fn column<'a, T>(
    columns: &'a impl Columns,
    name: &str,
    nullable: bool,
    typed: impl Fn(&'a ArrayRef) -> Option<T>,
) -> Result<T, String> {
    let found = columns.named(name).ok_or_else(|| format!("the column `{name}` is missing"))?;
    if !nullable && found.null_count() > 0 {
        return Err(format!("the column `{name}` has nulls"));
    }
    typed(found).ok_or_else(|| format!("the column `{name}` has the type {}", found.data_type()))
}

fn ids<T: From<Uuid>>(columns: &impl Columns, name: &str) -> Result<Vec<T>, String> {
    let bytes = column(columns, name, false, |array| array.as_fixed_size_binary_opt())?;
    let mut ids = Vec::with_capacity(bytes.len());
    for value in bytes.iter().flatten() {
        let uuid = Uuid::from_slice(value)
            .map_err(|_| format!("the column `{name}` has ids of {} bytes", value.len()))?;
        ids.push(T::from(uuid));
    }
    Ok(ids)
}

fn parsed<T: FromStr>(columns: &impl Columns, name: &str) -> Result<Vec<T>, String>
where
    T::Err: std::fmt::Display,
{
    let texts = column(columns, name, false, |array| array.as_string_opt::<i32>())?;
    let mut values = Vec::with_capacity(texts.len());
    for text in texts.iter().flatten() {
        values.push(text.parse().map_err(|error: T::Err| format!("the column `{name}`: {error}"))?);
    }
    Ok(values)
}

fn structs<'a>(list: &'a ListArray, name: &str) -> Result<&'a StructArray, String> {
    let values = list.values();
    match values.as_struct_opt() {
        Some(values) if values.null_count() == 0 => Ok(values),
        _ => Err(format!("the column `{name}` has elements of the type {} or null", values.data_type())),
    }
}

/// The part of the flat elements that belongs to a row.
fn elements<'a, T>(list: &ListArray, row: usize, flat: &'a [T], name: &str) -> Result<&'a [T], String> {
    let offsets = list.offsets();
    usize::try_from(offsets[row])
        .ok()
        .zip(usize::try_from(offsets[row + 1]).ok())
        .and_then(|(from, until)| flat.get(from..until))
        .ok_or_else(|| format!("the lists of the column `{name}` are damaged"))
}

fn read(batch: &RecordBatch, format: u32, files: &mut Vec<DataFile>) -> Result<(), String> {
    let list = |name| column(batch, name, false, |array| array.as_list_opt::<i32>());
    let id: Vec<FileId> = ids(batch, "id")?;
    let path: Vec<String> = parsed(batch, "path")?;
    let version = column(batch, "version", false, |array| array.as_primitive_opt::<UInt32Type>())?;
    let from = column(batch, "from", false, |array| array.as_primitive_opt::<Int64Type>())?;
    let until = column(batch, "until", false, |array| array.as_primitive_opt::<Int64Type>())?;
    let bucket = column(batch, "bucket", false, |array| array.as_primitive_opt::<UInt32Type>())?;
    let buckets = column(batch, "buckets", false, |array| array.as_primitive_opt::<UInt32Type>())?;
    let rows = column(batch, "rows", false, |array| array.as_primitive_opt::<UInt64Type>())?;
    let bytes = column(batch, "bytes", false, |array| array.as_primitive_opt::<UInt64Type>())?;
    let mut key_hashes = read_key_hashes(batch)?;
    let statistics_list = list("statistics")?;
    let statistics = read_statistics(structs(statistics_list, "statistics")?)?;
    let pieces_list = list("pieces")?;
    let pieces = read_pieces(structs(pieces_list, "pieces")?)?;
    let digest: Vec<Digest> = parsed(batch, "digest")?;
    let block_bytes = match format {
        FORMAT_OF_LARGE_BLOCKS => None,
        _ => Some(column(batch, "block_bytes", false, |array| array.as_primitive_opt::<UInt32Type>())?),
    };
    let blocks_list = list("blocks")?;
    let blocks = read_blocks(blocks_list.values())?;
    for row in 0..batch.num_rows() {
        files.push(DataFile {
            id: id[row],
            path: path[row].clone(),
            version: version.value(row),
            from: from.value(row),
            until: until.value(row),
            bucket: bucket.value(row),
            buckets: buckets.value(row),
            rows: rows.value(row),
            bytes: bytes.value(row),
            key_hashes: key_hashes[row].take(),
            statistics: elements(statistics_list, row, &statistics, "statistics")?.to_vec(),
            pieces: elements(pieces_list, row, &pieces, "pieces")?.to_vec(),
            digest: digest[row],
            block_bytes: block_bytes.map_or(LARGE_BLOCK_BYTES, |bytes| bytes.value(row)),
            blocks: elements(blocks_list, row, &blocks, "blocks")?
                .iter()
                .map(|block| Digest::new(digest[row].algorithm(), *block))
                .collect(),
        });
    }
    Ok(())
}

/// None where the manifest does not tell, as those of the first programs never do.
fn read_key_hashes(batch: &RecordBatch) -> Result<Vec<Option<Vec<u32>>>, String> {
    let name = "key_hashes";
    if batch.named(name).is_none() {
        return Ok(vec![None; batch.num_rows()]);
    }
    let lists = column(batch, name, true, |array| array.as_list_opt::<i32>())?;
    let hashes = lists.values().as_primitive_opt::<UInt32Type>().filter(|hashes| hashes.null_count() == 0);
    let hashes = hashes.ok_or_else(|| {
        format!("the column `{name}` has elements of the type {} or null", lists.values().data_type())
    })?;
    (0..lists.len())
        .map(|row| match lists.is_valid(row) {
            true => elements(lists, row, hashes.values(), name).map(|hashes| Some(hashes.to_vec())),
            false => Ok(None),
        })
        .collect()
}

fn read_statistics(values: &StructArray) -> Result<Vec<ColumnStatistics>, String> {
    let names: Vec<String> = parsed(values, "column")?;
    let nulls = column(values, "nulls", false, |array| array.as_primitive_opt::<UInt64Type>())?;
    let nans = column(values, "nans", false, |array| array.as_primitive_opt::<UInt64Type>())?;
    let least = column(values, "least", true, |array| array.as_binary_opt::<i32>())?;
    let greatest = column(values, "greatest", true, |array| array.as_binary_opt::<i32>())?;
    let mut statistics = Vec::with_capacity(values.len());
    for (row, name) in names.into_iter().enumerate() {
        statistics.push(ColumnStatistics {
            column: name,
            nulls: nulls.value(row),
            nans: nans.value(row),
            least: least.is_valid(row).then(|| least.value(row).to_vec()),
            greatest: greatest.is_valid(row).then(|| greatest.value(row).to_vec()),
        });
    }
    Ok(statistics)
}

fn read_pieces(values: &StructArray) -> Result<Vec<Piece>, String> {
    let batch: Vec<BatchId> = ids(values, "batch")?;
    let from = column(values, "from", false, |array| array.as_primitive_opt::<Int64Type>())?;
    let until = column(values, "until", false, |array| array.as_primitive_opt::<Int64Type>())?;
    let bucket = column(values, "bucket", false, |array| array.as_primitive_opt::<UInt32Type>())?;
    let buckets = column(values, "buckets", false, |array| array.as_primitive_opt::<UInt32Type>())?;
    let rows = column(values, "rows", false, |array| array.as_primitive_opt::<UInt64Type>())?;
    let digest: Vec<ContentDigest> = parsed(values, "digest")?;
    let mut pieces = Vec::with_capacity(values.len());
    for (row, (batch, digest)) in batch.into_iter().zip(digest).enumerate() {
        pieces.push(Piece {
            batch,
            from: from.value(row),
            until: until.value(row),
            bucket: bucket.value(row),
            buckets: buckets.value(row),
            rows: rows.value(row),
            digest,
        });
    }
    Ok(pieces)
}

fn read_blocks(values: &ArrayRef) -> Result<Vec<[u8; 32]>, String> {
    let wrong = || format!("the column `blocks` has elements of the type {} or null", values.data_type());
    if *values.data_type() != DataType::FixedSizeBinary(32) || values.null_count() > 0 {
        return Err(wrong());
    }
    let bytes = values.as_fixed_size_binary_opt().ok_or_else(wrong)?;
    let mut blocks = Vec::with_capacity(bytes.len());
    for block in bytes.iter().flatten() {
        blocks.push(block.try_into().map_err(|_| wrong())?);
    }
    Ok(blocks)
}
