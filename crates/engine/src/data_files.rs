//! Reading data files: only the columns and pages that are asked for, and never a byte that was changed.
//!
//! Every block that is touched is checked against the manifest: in a folder of this machine once per process, elsewhere
//! each time, since what comes over a network may be altered on any way. The page index is loaded with the footer and
//! both are kept, since files never change: only then does a row selection save any reading.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::{Bytes, BytesMut};
use catalog::cache_use::Questions;
use catalog::{CacheUse, VisibleFile};
use datafusion::common::{DataFusionError, Result};
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use datafusion::parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use feature::FileId;
use feature::digest::hash;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use storage::Store;
use storage::manifest::DataFile;

/// How many footers are kept; a footer with its page index takes some ten to hundred KiB.
const FOOTERS: usize = 4096;
/// Most rows of a batch where a whole column is wanted at once.
const MOST_BATCH_ROWS: usize = 1 << 24;

/// Opens data files; cheap to clone, and shared by all queries of a process.
#[derive(Clone)]
pub struct DataFiles {
    objects: Arc<dyn ObjectStore>,
    known: Arc<Mutex<Known>>,
    asked: Arc<Questions>,
    /// Whether a block that was compared once may be read without.
    once: bool,
}

#[derive(Default)]
struct Known {
    footers: HashMap<FileId, ArrowReaderMetadata>,
    footer_bytes: u64,
    /// Blocks whose bytes were compared with the manifest, where once is enough.
    checked: HashMap<FileId, HashSet<u64>>,
}

impl std::fmt::Debug for DataFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataFiles").finish_non_exhaustive()
    }
}

impl DataFiles {
    pub fn new(store: &Store) -> Self {
        let (known, asked) = Default::default();
        Self { objects: store.objects(), known, asked, once: store.is_local() }
    }

    /// The footer of a file, with its page index.
    pub async fn footer(&self, file: &Arc<DataFile>) -> Result<ArrowReaderMetadata> {
        if let Some(footer) = self.known().footers.get(&file.id) {
            self.asked.hit();
            return Ok(footer.clone());
        }
        self.asked.miss();
        let mut reader = self.reader(file);
        let metadata = ParquetMetaDataReader::new()
            .with_offset_index_policy(PageIndexPolicy::Required)
            .with_column_index_policy(PageIndexPolicy::Optional)
            .with_prefetch_hint(Some(64 * 1024))
            .load_and_finish(&mut reader, file.bytes)
            .await
            .map_err(|error| unreadable(file, &error))?;
        let metadata = Arc::new(metadata);
        let footer = ArrowReaderMetadata::try_new(metadata.clone(), ArrowReaderOptions::new())
            .and_then(|footer| {
                let options = ArrowReaderOptions::new().with_schema(viewed(footer.schema()));
                ArrowReaderMetadata::try_new(metadata, options)
            })
            .map_err(|error| unreadable(file, &error))?;
        let mut known = self.known();
        if known.footers.len() >= FOOTERS {
            known.footers.clear();
            known.footer_bytes = 0;
        }
        if known.footers.insert(file.id, footer.clone()).is_none() {
            known.footer_bytes += footer.metadata().memory_size() as u64;
        }
        Ok(footer)
    }

    /// How the cache of footers is used; its bytes are those that they take in memory.
    pub fn footer_cache(&self) -> CacheUse {
        let known = self.known();
        self.asked.with(known.footers.len(), known.footer_bytes)
    }

    /// Some columns of a file as one batch, in the order of the file's schema; columns that the file lacks are left out.
    /// With a selection, only the selected rows. Text and bytes come as views.
    pub async fn columns(
        &self,
        file: &VisibleFile,
        names: &[&str],
        selection: Option<RowSelection>,
    ) -> Result<RecordBatch> {
        let projected = self.projection(&file.file, names).await?.1;
        let rows = usize::try_from(file.file.rows).unwrap_or(usize::MAX).clamp(1, MOST_BATCH_ROWS);
        let batches: Vec<RecordBatch> =
            self.stream(file, names, selection, rows).await?.try_collect().await?;
        match batches.as_slice() {
            [whole] => Ok(whole.clone()),
            several => Ok(concat_batches(&projected, several)?),
        }
    }

    /// The same, batch by batch.
    pub async fn stream(
        &self,
        file: &VisibleFile,
        names: &[&str],
        selection: Option<RowSelection>,
        batch_rows: usize,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let file = file.file.clone();
        let (wanted, _) = self.projection(&file, names).await?;
        let footer = self.footer(&file).await?;
        let mask = ProjectionMask::roots(footer.parquet_schema(), wanted);
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.reader(&file), footer)
            .with_projection(mask)
            .with_batch_size(batch_rows);
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        let stream = builder.build().map_err(|error| unreadable(&file, &error))?;
        Ok(stream.map_err(move |error| unreadable(&file, &error)).boxed())
    }

    /// Stretches of a file's bytes, checked as all reads are. Those that lie close together are read at once.
    pub async fn stretches(&self, file: &Arc<DataFile>, ranges: Vec<Range<u64>>) -> Result<Vec<Bytes>> {
        self.reader(file).get_byte_ranges(ranges).await.map_err(|error| unreadable(file, &error))
    }

    /// Positions of columns, ascending, and the schema that they make.
    async fn projection(&self, file: &Arc<DataFile>, names: &[&str]) -> Result<(BTreeSet<usize>, SchemaRef)> {
        let schema = self.footer(file).await?.schema().clone();
        let wanted: BTreeSet<usize> = names.iter().filter_map(|name| schema.index_of(name).ok()).collect();
        let projected = schema.project(&wanted.iter().copied().collect::<Vec<_>>())?;
        Ok((wanted, Arc::new(projected)))
    }

    fn reader(&self, file: &Arc<DataFile>) -> CheckedReader {
        CheckedReader { files: self.clone(), file: file.clone() }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The schema with text and bytes as views: what a dictionary page holds is then not copied row by row.
fn viewed(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let kind = match field.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
            DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
            _ => return field.clone(),
        };
        Arc::new(Field::clone(field).with_data_type(kind))
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Reads whole blocks, compares each with the manifest, and hands out the part that was asked for.
struct CheckedReader {
    files: DataFiles,
    file: Arc<DataFile>,
}

impl CheckedReader {
    /// Some stretches of the file, in one call to the store.
    async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ParquetError> {
        let block = self.block();
        // Where a block was not compared yet, whole blocks are read.
        let asked: Vec<(Range<u64>, bool)> = {
            let known = self.files.known();
            let checked = known.checked.get(&self.file.id);
            let unchecked = |index: &u64| !checked.is_some_and(|checked| checked.contains(index));
            let asked = ranges.iter().map(|range| {
                let blocks = range.start / block..range.end.div_ceil(block);
                if blocks.clone().any(|index| unchecked(&index)) {
                    (blocks.start * block..(blocks.end * block).min(self.file.bytes), true)
                } else {
                    (range.clone(), false)
                }
            });
            asked.collect()
        };
        let path = Path::from(self.file.path.as_str());
        let whole: Vec<Range<u64>> = asked.iter().map(|(range, _)| range.clone()).collect();
        let read = self.files.objects.get_ranges(&path, &whole).await;
        let read = read.map_err(|error| ParquetError::External(Box::new(error)))?;
        let mut parts = Vec::with_capacity(ranges.len());
        let mut compared = Vec::new();
        for ((range, (whole, unchecked)), bytes) in ranges.iter().zip(asked).zip(read) {
            let first = whole.start / block;
            if bytes.len() as u64 != whole.end - whole.start {
                return Err(self.damaged(first));
            }
            if unchecked {
                for (index, content) in (first..).zip(bytes.chunks(block as usize)) {
                    let expected = usize::try_from(index).ok().and_then(|index| self.file.blocks.get(index));
                    if expected != Some(&hash(self.file.digest.algorithm(), content)) {
                        return Err(self.damaged(index));
                    }
                    compared.push(index);
                }
            }
            let from = (range.start - whole.start) as usize;
            parts.push(bytes.slice(from..from + (range.end - range.start) as usize));
        }
        if self.files.once && !compared.is_empty() {
            self.files.known().checked.entry(self.file.id).or_default().extend(compared);
        }
        Ok(parts)
    }

    fn block(&self) -> u64 {
        u64::from(self.file.block_bytes)
    }

    fn damaged(&self, block: u64) -> ParquetError {
        ParquetError::General(format!(
            "`{}` was changed after it was written: block {block} ({} bytes each) does not give the digest in its manifest; \
             restore the file from a copy of the store",
            self.file.path, self.file.block_bytes
        ))
    }
}

impl AsyncFileReader for CheckedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            let mut parts = self.read(std::slice::from_ref(&range)).await?;
            parts.pop().ok_or_else(|| self.damaged(range.start / self.block()))
        }
        .boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move {
            let merged = merge(&ranges, self.block());
            let fetched = self.read(&merged).await?;
            let mut parts = Vec::with_capacity(ranges.len());
            for range in ranges {
                let index = merged.partition_point(|whole| whole.end < range.end);
                let Some((whole, bytes)) = merged.get(index).zip(fetched.get(index)) else {
                    parts.push(BytesMut::new().freeze());
                    continue;
                };
                let from = (range.start - whole.start) as usize;
                parts.push(bytes.slice(from..from + (range.end - range.start) as usize));
            }
            Ok(parts)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let footer =
                self.files.footer(&self.file).await.map_err(|error| ParquetError::External(error.into()))?;
            Ok(footer.metadata().clone())
        }
        .boxed()
    }
}

/// Ranges that lie within a block of each other become one, sorted: the blocks between are read and compared anyway.
fn merge(ranges: &[Range<u64>], block: u64) -> Vec<Range<u64>> {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.start <= last.end + block => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// Bytes that Parquet's reader holds of some columns at once: all of a row group.
pub(crate) fn chunk_bytes(footer: &ArrowReaderMetadata, names: &[&str]) -> usize {
    let columns: Vec<usize> = names.iter().filter_map(|name| footer.schema().index_of(name).ok()).collect();
    let groups = footer.metadata().row_groups().iter();
    let of_group =
        groups.map(|group| columns.iter().map(|column| group.column(*column).compressed_size()).sum());
    usize::try_from(of_group.max().unwrap_or(0i64)).unwrap_or(0)
}

pub(crate) fn unreadable(file: &DataFile, error: &ParquetError) -> DataFusionError {
    DataFusionError::Execution(format!("data file `{}` cannot be read: {error}", file.path))
}
