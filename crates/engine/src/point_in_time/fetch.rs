//! The fetch: feature values of the rows that were hit, put into spine order.
//!
//! Files and groups of their columns are read side by side. Most columns give the values of single rows (`page_values`); the others are
//! decoded batch by batch, and of each batch only the hit rows are kept. Then each column is put together on its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array, Float64Array,
    Int64Array, PrimitiveArray, StringArray, TimestampMicrosecondArray, UInt32Array, UInt64Array,
    downcast_primitive, new_null_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::compute::{cast, concat, interleave, take};
use arrow::datatypes::{ArrowPrimitiveType, DataType};
use catalog::{FileBatches, VisibleFile};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, internal_datafusion_err};
use datafusion::parquet::arrow::arrow_reader::ArrowReaderMetadata;
use feature::FeatureType;
use feature::definition::Constant;
use futures::{StreamExt, TryStreamExt, stream};

use super::cores::{apart, cores};
use super::matching::{Hits, Matched};
use super::meters::Meters;
use super::page_values::{self, ColumnRows, GroupRows};
use super::pages::{self, PageSelection};
use super::pauses::{ROWS_AT_ONCE, pause};
use super::working_memory::WorkingMemory;
use super::{FeatureReport, Found, Lookup, LookupReport, NullReason, Output};
use crate::data_files::{DataFiles, chunk_bytes, unreadable};
use crate::row_batches::batches_of;

/// Below this share of pages hit, reading only those costs less than decoding the columns whole (docs/performance.md).
const SELECT_BELOW: f64 = 0.5;
/// Columns that one task decodes: few enough that a batch of all of them stays in a core's cache.
const COLUMNS_AT_ONCE: usize = 16;
/// Rows of a batch, for the same reason.
const BATCH_ROWS: usize = 16_384;

/// Values of some rows of a spine, not yet in its order.
pub struct Gathered {
    report: LookupReport,
    /// By row: why it found no value; none where it did.
    reasons: Vec<Option<NullReason>>,
    /// The rows' places in the whole spine; none where they are the whole.
    places: Option<Arc<Vec<u32>>>,
    /// By output, the pieces that it is put together from.
    pieces: Vec<Vec<Piece>>,
}

impl Gathered {
    /// Bytes that it holds.
    pub fn memory(&self) -> usize {
        let pieces = self.pieces.iter().flatten();
        let values: usize =
            pieces.filter_map(|piece| Some(piece.values.as_ref()?.get_array_memory_size())).sum();
        // Rows and places of the hits are shared by all columns.
        values + self.reasons.len() + self.report.matched as usize * 8
    }
}

/// Reads the values of the rows that were matched.
pub async fn gather(
    files: &DataFiles,
    lookup: &Lookup,
    matched: Matched,
    places: Option<Arc<Vec<u32>>>,
    meters: &Meters,
    memory: &WorkingMemory,
) -> Result<Gathered> {
    let Matched { hits, reasons } = matched;
    let mut wanted: Vec<&str> = Vec::with_capacity(lookup.outputs.len());
    for output in fetched(lookup) {
        let column = column_of(lookup, output);
        wanted.push(column.ok_or_else(|| internal_datafusion_err!("{output:?} is no column of the view"))?);
    }
    let mut report = LookupReport { version: lookup.version.label(), ..LookupReport::default() };
    let mut batches: BTreeMap<_, u64> = BTreeMap::new();
    for (file, hits) in lookup.files.iter().zip(&hits).filter(|(_, hits)| !hits.rows.is_empty()) {
        report.matched += hits.rows.len() as u64;
        let FileBatches::Several(_) = &file.batches else {
            *batches.entry(file.first().record.batch).or_default() += hits.rows.len() as u64;
            continue;
        };
        let mut counts = vec![0; file.batches().len()];
        for place in batches_of(files, file, &hits.rows).await? {
            let count = counts.get_mut(place as usize);
            *count.ok_or_else(|| internal_datafusion_err!("a row that does not count was matched"))? += 1;
        }
        for (batch, count) in file.batches().iter().zip(counts).filter(|(_, count)| *count > 0) {
            *batches.entry(batch.record.batch).or_default() += count;
        }
    }
    report.hits = batches.into_iter().collect();

    let mut tasks = Vec::new();
    for (file, mut hits) in lookup.files.iter().zip(hits) {
        if hits.rows.is_empty() {
            continue;
        }
        if let Some(places) = &places {
            hits.spine.iter_mut().for_each(|row| *row = places[*row as usize]);
        }
        let footer = files.footer(&file.file).await?;
        let schema = footer.schema();
        let is_decoded = |name: &&str| {
            schema.index_of(name).is_ok_and(|column| !page_values::has_direct_values(&footer, column))
        };
        let selection = match wanted.iter().any(is_decoded) {
            true => pages::with_rows(&footer, &hits.rows, SELECT_BELOW).map(Arc::new),
            false => None,
        };
        let reading = Arc::new(Reading {
            files: files.clone(),
            file: file.clone(),
            footer,
            hits: Arc::new(hits),
            selection,
            meters: meters.clone(),
            memory: memory.clone(),
        });
        for (chunk, names) in wanted.chunks(COLUMNS_AT_ONCE).enumerate() {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let reading = reading.clone();
            let read = async move { read(&reading, names).await };
            tasks.push(async move { Ok::<_, DataFusionError>((chunk, apart(read).await?)) });
        }
    }
    let mut pieces: Vec<Vec<Piece>> = vec![Vec::new(); wanted.len()];
    let mut read = stream::iter(tasks).buffer_unordered(cores());
    while let Some((chunk, columns)) = read.try_next().await? {
        for (column, found) in columns.into_iter().enumerate() {
            pieces[chunk * COLUMNS_AT_ONCE + column].extend(found);
        }
    }
    drop(read);
    Ok(Gathered { report, reasons, places, pieces })
}

/// Puts what was gathered for all rows of a spine, in parts, into its order. `rows` is the number of the spine's rows.
pub async fn assemble(lookup: &Lookup, parts: Vec<Gathered>, rows: usize) -> Result<Found> {
    let mut report = LookupReport { version: lookup.version.label(), ..LookupReport::default() };
    let mut reasons: Vec<Option<NullReason>> = Vec::new();
    let fetched = fetched(lookup);
    let mut pieces: Vec<Vec<Piece>> = vec![Vec::new(); fetched.len()];
    for part in parts {
        report.add(&part.report);
        match part.places {
            None => reasons = part.reasons,
            Some(places) => {
                reasons.resize(rows, None);
                for (place, reason) in places.iter().zip(part.reasons) {
                    reasons[*place as usize] = reason;
                }
            }
        }
        for (column, of_part) in pieces.iter_mut().zip(part.pieces) {
            column.extend(of_part);
        }
    }
    let frame = Arc::new(Frame::new(&reasons, rows));
    let mut why = why_null(lookup, &fetched, &pieces, reasons)?;
    let mut assembling = Vec::with_capacity(pieces.len());
    let asked = lookup.outputs.iter().filter(|output| !is_reason(**output)).count();
    for (output, pieces) in fetched.iter().zip(pieces).take(asked) {
        let kind = type_of(lookup, *output);
        let default = default_of(lookup, *output, &kind)?;
        let (frame, has_default) = (frame.clone(), default.is_some());
        let assemble = async move {
            let lacking = pieces.iter().filter(|piece| piece.values.is_none());
            let not_in_batch: u64 = lacking.map(|piece| piece.rows() as u64).sum();
            let stored = pieces.iter().filter_map(|piece| piece.values.as_ref());
            let at_source: u64 = stored.map(|values| values.logical_null_count() as u64).sum();
            let column = frame.assemble(&kind, pieces, default).await?;
            Ok::<_, DataFusionError>((column, not_in_batch, at_source, has_default))
        };
        assembling.push(apart(assemble));
    }
    let mut assembled = stream::iter(assembling).buffered(cores());
    let mut columns = Vec::with_capacity(lookup.outputs.len());
    for output in &lookup.outputs {
        if let Output::NullReason(feature) = output {
            let column = why.remove(feature);
            columns.push(column.ok_or_else(|| internal_datafusion_err!("a null reason was lost"))?);
            continue;
        }
        let Some((column, not_in_batch, at_source, has_default)) = assembled.try_next().await? else {
            return Err(internal_datafusion_err!("a column of a point-in-time join was lost"));
        };
        if let (Output::Feature(_), Some(name)) = (output, column_of(lookup, *output)) {
            report.features.push(frame.report(name, not_in_batch, at_source, has_default));
        }
        columns.push(column);
    }
    Ok(Found { columns, report })
}

fn is_reason(output: Output) -> bool {
    matches!(output, Output::NullReason(_))
}

/// What is read of the files: the outputs but for null reasons, which stand behind them, and the features that these are of.
fn fetched(lookup: &Lookup) -> Vec<Output> {
    let mut fetched: Vec<Output> =
        lookup.outputs.iter().copied().filter(|output| !is_reason(*output)).collect();
    for output in &lookup.outputs {
        if let Output::NullReason(feature) = output
            && !fetched.contains(&Output::Feature(*feature))
        {
            fetched.push(Output::Feature(*feature));
        }
    }
    fetched
}

/// The columns of null reasons by their features.
fn why_null(
    lookup: &Lookup,
    fetched: &[Output],
    pieces: &[Vec<Piece>],
    reasons: Vec<Option<NullReason>>,
) -> Result<BTreeMap<usize, ArrayRef>> {
    let mut columns = BTreeMap::new();
    for output in &lookup.outputs {
        let Output::NullReason(feature) = *output else { continue };
        let value = Output::Feature(feature);
        let place = fetched.iter().position(|known| *known == value);
        let pieces = place.and_then(|place| pieces.get(place));
        let pieces = pieces.ok_or_else(|| internal_datafusion_err!("{value:?} was not read"))?;
        let has_default = default_of(lookup, value, &type_of(lookup, value))?.is_some();
        // The default stands where there was no candidate.
        let mut of: Vec<Option<NullReason>> = reasons
            .iter()
            .map(|reason| reason.filter(|reason| !has_default || *reason >= NullReason::Retracted))
            .collect();
        for piece in pieces {
            match &piece.values {
                None => {
                    piece.places().iter().for_each(|row| of[*row as usize] = Some(NullReason::NotInBatch))
                }
                Some(values) => {
                    let Some(valid) = values.logical_nulls() else { continue };
                    let null = piece.places().iter().enumerate().filter(|(place, _)| valid.is_null(*place));
                    null.for_each(|(_, row)| of[*row as usize] = Some(NullReason::NullAtSource));
                }
            }
        }
        let texts: StringArray = of.iter().map(|reason| reason.map(NullReason::as_str)).collect();
        columns.insert(feature, Arc::new(texts) as ArrayRef);
    }
    Ok(columns)
}

/// Bytes that a spine row's outputs take about, twice over while they are put together.
pub fn row_bytes(lookup: &Lookup) -> usize {
    let width = |output: &Output| type_of(lookup, *output).primitive_width().unwrap_or(TEXT_BYTES);
    let bytes: usize = lookup.outputs.iter().map(width).sum();
    let is_long = |output: &Output| {
        !is_reason(*output) && matches!(type_of(lookup, *output), DataType::Utf8 | DataType::Binary)
    };
    if !lookup.outputs.iter().any(is_long) {
        return bytes;
    }
    // Texts that are longer show in the files, as far as they do not compress.
    let stored: u64 = lookup.files.iter().map(|file| file.file.bytes).sum();
    let rows: u64 = lookup.files.iter().map(|file| file.file.rows).sum();
    bytes.max(usize::try_from(stored / rows.max(1)).unwrap_or(usize::MAX))
}

/// What a text takes about, at least.
const TEXT_BYTES: usize = 32;

/// Values of one column for some of the spine's rows.
#[derive(Clone)]
struct Piece {
    hits: Arc<Hits>,
    /// Which of the hits.
    from: usize,
    /// In the order of the hits; none where the file lacks the column.
    values: Option<ArrayRef>,
    until: usize,
}

impl Piece {
    fn rows(&self) -> usize {
        self.until - self.from
    }

    /// The spine rows that the values belong to.
    fn places(&self) -> &[u32] {
        &self.hits.spine[self.from..self.until]
    }
}

/// A file with hits.
struct Reading {
    files: DataFiles,
    file: VisibleFile,
    footer: ArrowReaderMetadata,
    hits: Arc<Hits>,
    /// Pages with hits, where columns are decoded and these are few.
    selection: Option<Arc<PageSelection>>,
    meters: Meters,
    memory: WorkingMemory,
}

/// Reads some columns of a file at its hit rows. By column, its pieces.
async fn read(reading: &Reading, names: Vec<String>) -> Result<Vec<Vec<Piece>>> {
    let Reading { footer, hits, .. } = reading;
    let mut pieces: Vec<Vec<Piece>> = vec![Vec::new(); names.len()];
    let mut direct: Vec<(usize, usize)> = Vec::new();
    for (name, column) in names.iter().enumerate() {
        match footer.schema().index_of(column) {
            Err(_) => {
                let until = hits.rows.len();
                pieces[name].push(Piece { hits: hits.clone(), from: 0, until, values: None });
            }
            Ok(column) if page_values::has_direct_values(footer, column) => direct.push((name, column)),
            Ok(_) => {}
        }
    }
    read_values(reading, direct, &mut pieces).await?;
    let others: Vec<usize> = (0..names.len()).filter(|name| pieces[*name].is_empty()).collect();
    if !others.is_empty() {
        let names: Vec<&str> = others.iter().map(|name| names[*name].as_str()).collect();
        for (name, decoded) in others.into_iter().zip(decode(reading, &names).await?) {
            pieces[name] = decoded;
        }
    }
    Ok(pieces)
}

/// Bytes that are read at once, where they belong to several columns.
const BYTES_AT_ONCE: u64 = 8 << 20;

/// The values of single rows. `columns` are places among the pieces and in the file; columns that cannot be had so get no pieces.
async fn read_values(
    Reading { files, file, footer, hits, meters, memory, .. }: &Reading,
    columns: Vec<(usize, usize)>,
    pieces: &mut [Vec<Piece>],
) -> Result<()> {
    let mut first = 0u64;
    let mut from = 0;
    for (group, rows) in
        footer.metadata().row_groups().iter().map(|group| group.num_rows() as u64).enumerate()
    {
        let until = from + hits.rows[from..].partition_point(|row| u64::from(*row) < first + rows);
        let mut of_group = GroupRows::new(group, &hits.rows[from..until], first);
        let mut waiting = columns.iter().copied().peekable();
        while until > from && waiting.peek().is_some() {
            // As many columns as are worth one call to the store.
            let (mut at_once, mut ranges, mut bytes) = (Vec::new(), Vec::new(), 0);
            while let Some((name, column)) = waiting.next_if(|_| bytes < BYTES_AT_ONCE) {
                let Some(rows) = ColumnRows::new(footer, column, &mut of_group) else { continue };
                let (hit, all) = rows.pages();
                meters.pages_fetched.add(hit);
                meters.pages_pruned.add(all - hit);
                let stretches = rows.stretches();
                bytes += stretches.iter().map(|stretch| stretch.end - stretch.start).sum::<u64>();
                at_once.push((name, rows, stretches.len()));
                ranges.extend(stretches);
            }
            meters.bytes_fetched.add(bytes as usize);
            let _held = memory.hold(bytes as usize);
            let starts: Vec<u64> = ranges.iter().map(|range| range.start).collect();
            let mut read = starts.into_iter().zip(files.stretches(&file.file, ranges).await?);
            for (name, rows, stretches) in at_once {
                let bytes = read.by_ref().take(stretches).collect();
                let values = rows.values(bytes).map_err(|error| unreadable(&file.file, &error))?;
                if let Some(values) = values {
                    let hits = hits.clone();
                    pieces[name].push(Piece { hits, from, until, values: Some(values) });
                }
                pause().await;
            }
        }
        (first, from) = (first + rows, until);
    }
    // What is left out in one row group is left to Parquet's reader in all.
    for (name, _) in columns {
        let rows: usize = pieces[name].iter().map(Piece::rows).sum();
        if rows < hits.rows.len() {
            pieces[name].clear();
        }
    }
    Ok(())
}

/// Decodes columns batch by batch, and takes the hit rows. By column, its pieces.
async fn decode(
    Reading { files, file, footer, hits, selection, meters, memory }: &Reading,
    names: &[&str],
) -> Result<Vec<Vec<Piece>>> {
    let _chunks = memory.hold(chunk_bytes(footer, names));
    let mut pieces: Vec<Vec<Piece>> = vec![Vec::new(); names.len()];
    let selected = selection.as_ref().map(|selection| selection.selection());
    let mut batches = files.stream(file, names, selected, BATCH_ROWS).await?;
    // Of the rows that are read: how many have come, and which hit is the next.
    let mut read = 0usize;
    let mut next = 0usize;
    while let Some(batch) = batches.try_next().await? {
        let end = read + batch.num_rows();
        let from = next;
        let mut indices = Vec::new();
        while let Some(row) = hits.rows.get(next) {
            let place = selection.as_ref().map_or(*row as usize, |selection| selection.place(*row));
            if place >= end {
                break;
            }
            indices.push((place - read) as u32);
            next += 1;
        }
        read = end;
        meters.values_decoded.add(batch.num_rows() * names.len());
        pause().await;
        if indices.is_empty() {
            continue;
        }
        let indices = UInt32Array::from(indices);
        for (name, pieces) in names.iter().zip(&mut pieces) {
            if let Some(column) = batch.column_by_name(name) {
                let values = Some(let_go(take(column, &indices, None)?));
                pieces.push(Piece { hits: hits.clone(), from, until: next, values });
            }
        }
    }
    Ok(pieces)
}

/// Texts hold the pages that they were decoded in, which may be all of a file for a few of its rows: then they are copied.
fn let_go(values: ArrayRef) -> ArrayRef {
    let held = |buffers: &[Buffer]| buffers.iter().map(Buffer::len).sum::<usize>();
    if let Some(texts) = values.as_string_view_opt() {
        if held(texts.data_buffers()) > 2 * texts.total_buffer_bytes_used() {
            return Arc::new(texts.gc());
        }
    } else if let Some(bytes) = values.as_binary_view_opt()
        && held(bytes.data_buffers()) > 2 * bytes.total_buffer_bytes_used()
    {
        return Arc::new(bytes.gc());
    }
    values
}

/// Rows of text that are put together between two pauses: more would not pay for being put behind each other again.
const INTERLEAVED_AT_ONCE: usize = 4 * ROWS_AT_ONCE;

/// What all columns of a lookup share: which spine rows were hit, and why the others were not.
struct Frame {
    rows: usize,
    hit: BooleanBuffer,
    /// Rows that a retraction won: they take no default. None where there are none.
    retracted: Option<BooleanBuffer>,
    reasons: [u64; NullReason::ALL.len()],
}

impl Frame {
    fn new(reasons: &[Option<NullReason>], rows: usize) -> Self {
        let hit = BooleanBuffer::collect_bool(rows, |row| reasons[row].is_none());
        let mut counts = [0u64; NullReason::ALL.len()];
        for reason in reasons.iter().flatten() {
            counts[*reason as usize] += 1;
        }
        let retracted = (counts[NullReason::Retracted as usize] > 0)
            .then(|| BooleanBuffer::collect_bool(rows, |row| reasons[row] == Some(NullReason::Retracted)));
        Self { rows, hit, retracted, reasons: counts }
    }

    /// A column in spine order.
    async fn assemble(
        &self,
        kind: &DataType,
        pieces: Vec<Piece>,
        default: Option<ArrayRef>,
    ) -> Result<ArrayRef> {
        macro_rules! scatter {
            ($kind:ty) => {
                self.scatter::<$kind>(kind, pieces, default).await
            };
        }
        downcast_primitive! {
            kind => (scatter),
            _ => self.interleave(kind, &pieces, default).await
        }
    }

    async fn scatter<T: ArrowPrimitiveType>(
        &self,
        kind: &DataType,
        pieces: Vec<Piece>,
        default: Option<ArrayRef>,
    ) -> Result<ArrayRef> {
        let fill = default.as_ref().and_then(|default| default.as_primitive_opt::<T>());
        let fill = fill.map(|default| default.value(0));
        let mut values: Vec<T::Native> = vec![fill.unwrap_or_default(); self.rows];
        // Rows whose observation is null; most columns have none and share one bitmap.
        let mut nulls: Vec<u32> = Vec::new();
        let mut since = 0;
        for piece in pieces {
            since += piece.rows();
            if since >= ROWS_AT_ONCE {
                pause().await;
                since = 0;
            }
            let Some(stored) = &piece.values else {
                nulls.extend_from_slice(piece.places());
                continue;
            };
            let stored = if stored.data_type() == kind { stored.clone() } else { cast(stored, kind)? };
            let Some(stored) = stored.as_primitive_opt::<T>() else {
                return Err(internal_datafusion_err!("a column of {kind} came as {}", stored.data_type()));
            };
            for (place, value) in piece.places().iter().zip(stored.values()) {
                values[*place as usize] = *value;
            }
            if let Some(valid) = stored.nulls().filter(|valid| valid.null_count() > 0) {
                let null = piece.places().iter().enumerate().filter(|(row, _)| valid.is_null(*row));
                nulls.extend(null.map(|(_, place)| *place));
            }
        }
        let nulls = self.nulls(fill.is_some(), &nulls);
        let array = PrimitiveArray::<T>::new(values.into(), nulls).with_data_type(kind.clone());
        Ok(Arc::new(array))
    }

    fn nulls(&self, has_default: bool, null: &[u32]) -> Option<NullBuffer> {
        let mut valid = match (&self.retracted, has_default) {
            (Some(retracted), true) => !retracted,
            (None, true) => BooleanBuffer::new_set(self.rows),
            (_, false) => self.hit.clone(),
        };
        if !null.is_empty() {
            let mut builder = BooleanBufferBuilder::new(self.rows);
            builder.append_buffer(&valid);
            for row in null {
                builder.set_bit(*row as usize, false);
            }
            valid = builder.finish();
        }
        Some(NullBuffer::new(valid)).filter(|nulls| nulls.null_count() > 0)
    }

    /// Columns whose values have no fixed width.
    async fn interleave(
        &self,
        kind: &DataType,
        pieces: &[Piece],
        default: Option<ArrayRef>,
    ) -> Result<ArrayRef> {
        // Source 0 is null, source 1 the default; the pieces follow.
        let null = new_null_array(kind, 1);
        let mut sources: Vec<ArrayRef> = vec![null.clone(), default.unwrap_or(null)];
        let mut places = vec![(1usize, 0usize); self.rows];
        if let Some(retracted) = &self.retracted {
            for row in retracted.set_indices() {
                places[row] = (0, 0);
            }
        }
        for piece in pieces {
            match &piece.values {
                Some(values) => {
                    for (row, place) in piece.places().iter().enumerate() {
                        places[*place as usize] = (sources.len(), row);
                    }
                    sources.push(cast(values, kind)?);
                }
                None => piece.places().iter().for_each(|place| places[*place as usize] = (0, 0)),
            }
        }
        let sources: Vec<&dyn Array> = sources.iter().map(AsRef::as_ref).collect();
        let mut parts = Vec::new();
        for part in places.chunks(INTERLEAVED_AT_ONCE) {
            parts.push(interleave(&sources, part)?);
            pause().await;
        }
        match parts.as_slice() {
            [] => Ok(interleave(&sources, &[])?),
            [whole] => Ok(whole.clone()),
            several => Ok(concat(&several.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>())?),
        }
    }

    fn report(&self, name: &str, not_in_batch: u64, at_source: u64, has_default: bool) -> FeatureReport {
        let mut report = FeatureReport { name: name.to_owned(), ..FeatureReport::default() };
        for reason in NullReason::ALL {
            let count = match reason {
                NullReason::NotInBatch => not_in_batch,
                NullReason::NullAtSource => at_source,
                other => self.reasons[other as usize],
            };
            let defaulted = has_default && reason < NullReason::Retracted;
            if defaulted {
                report.defaulted += count;
            } else if count > 0 {
                report.nulls.insert(reason, count);
            }
        }
        report
    }
}

fn column_of(lookup: &Lookup, output: Output) -> Option<&str> {
    let view = &lookup.version.definition;
    match output {
        Output::Key(index) => lookup.version.keys().get(index).map(|key| key.name.as_str()),
        Output::Occurrence => view.occurrence.as_ref().map(|occurrence| occurrence.name.as_str()),
        Output::ValidAt => Some("valid_at"),
        Output::Feature(index) | Output::NullReason(index) => {
            view.features.get(index).map(|feature| feature.name.as_str())
        }
    }
}

/// The Arrow type of an output.
pub(crate) fn type_of(lookup: &Lookup, output: Output) -> DataType {
    let view = &lookup.version.definition;
    let declared = match output {
        Output::Key(index) => lookup.version.keys().get(index).map(|key| key.data_type),
        Output::Occurrence => view.occurrence.as_ref().map(|occurrence| occurrence.data_type),
        Output::ValidAt => Some(feature::FeatureType::Timestamp),
        Output::Feature(index) => view.features.get(index).map(|feature| feature.data_type),
        Output::NullReason(_) => Some(feature::FeatureType::String),
    };
    declared.map_or(DataType::Null, feature::FeatureType::arrow)
}

fn default_of(lookup: &Lookup, output: Output, kind: &DataType) -> Result<Option<ArrayRef>> {
    let Output::Feature(index) = output else { return Ok(None) };
    let Some(feature) = lookup.version.definition.features.get(index) else { return Ok(None) };
    let default = feature
        .default_constant()
        .map_err(|error| exec_datafusion_err!("default of `{}`: {error}", feature.name))?;
    default.map(|default| constant(&default, feature.data_type, kind)).transpose()
}

/// A constant as an array of one value.
fn constant(constant: &Constant, data_type: FeatureType, kind: &DataType) -> Result<ArrayRef> {
    let out_of_range = || exec_datafusion_err!("the default is out of the range of {data_type}");
    let array: ArrayRef = match constant {
        Constant::Bool(value) => Arc::new(BooleanArray::from(vec![*value])),
        Constant::Int(value) if data_type == FeatureType::Uint64 => {
            Arc::new(UInt64Array::from(vec![u64::try_from(*value).map_err(|_| out_of_range())?]))
        }
        Constant::Int(value) => {
            Arc::new(Int64Array::from(vec![i64::try_from(*value).map_err(|_| out_of_range())?]))
        }
        Constant::Float(value) => Arc::new(Float64Array::from(vec![*value])),
        Constant::Text(value) => Arc::new(StringArray::from(vec![value.as_str()])),
        Constant::Date(days) => Arc::new(Date32Array::from(vec![*days])),
        Constant::Timestamp(at) => {
            Arc::new(TimestampMicrosecondArray::from(vec![at.micros()]).with_timezone("UTC"))
        }
        Constant::Decimal(unscaled) => {
            Arc::new(Decimal128Array::from(vec![*unscaled]).with_data_type(kind.clone()))
        }
    };
    Ok(cast(&array, kind)?)
}
