//! The fetch: feature values of the rows that were hit, put into spine order.
//!
//! Files and groups of their columns are decoded side by side, batch by batch; of each batch only the hit rows are kept. Then
//! each column is put together on its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array, Float64Array,
    Int64Array, PrimitiveArray, StringArray, TimestampMicrosecondArray, UInt32Array, UInt64Array,
    downcast_primitive, new_null_array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::{cast, interleave, take};
use arrow::datatypes::{ArrowPrimitiveType, DataType};
use catalog::VisibleFile;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, internal_datafusion_err};
use feature::FeatureType;
use feature::definition::Constant;
use futures::{StreamExt, TryStreamExt, stream};

use super::matching::{Hits, Matched, cores};
use super::pages::{self, PageSelection};
use super::{FeatureReport, Found, Lookup, LookupReport, NullReason, Output};
use crate::data_files::DataFiles;

/// Below this share of pages hit, reading only those costs less than decoding the columns whole (docs/performance.md).
const SELECT_BELOW: f64 = 0.5;
/// Columns that one task decodes: few enough that a batch of all of them stays in a core's cache.
const COLUMNS_AT_ONCE: usize = 16;
/// Rows of a batch, for the same reason.
const BATCH_ROWS: usize = 16_384;

/// Fetches what was matched. `rows` is the number of spine rows.
pub async fn fetch(files: &DataFiles, lookup: &Lookup, matched: Matched) -> Result<Found> {
    let Matched { hits, reasons } = matched;
    let rows = reasons.len();
    let mut wanted: Vec<&str> = Vec::with_capacity(lookup.outputs.len());
    for output in &lookup.outputs {
        let column = column_of(lookup, *output);
        wanted.push(column.ok_or_else(|| internal_datafusion_err!("{output:?} is no column of the view"))?);
    }
    let mut report = LookupReport { version: lookup.version.label(), ..LookupReport::default() };
    let mut batches: BTreeMap<_, u64> = BTreeMap::new();
    for (file, hits) in lookup.files.iter().zip(&hits) {
        if !hits.rows.is_empty() {
            *batches.entry(file.batch.record.batch).or_default() += hits.rows.len() as u64;
            report.matched += hits.rows.len() as u64;
        }
    }
    report.hits = batches.into_iter().collect();

    let mut tasks = Vec::new();
    for (file, hits) in lookup.files.iter().zip(hits) {
        let hits = Arc::new(hits);
        if hits.rows.is_empty() {
            continue;
        }
        let footer = files.footer(&file.file).await?;
        let selection = pages::with_rows(&footer, &hits.rows, SELECT_BELOW).map(Arc::new);
        for (chunk, names) in wanted.chunks(COLUMNS_AT_ONCE).enumerate() {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let (files, file, hits, selection) =
                (files.clone(), file.clone(), hits.clone(), selection.clone());
            let read = async move { read(&files, &file, names, hits, selection).await };
            tasks.push(
                async move { Ok::<_, DataFusionError>((chunk, joined(SpawnedTask::spawn(read)).await?)) },
            );
        }
    }
    // By output, the pieces that it is put together from.
    let mut pieces: Vec<Vec<Piece>> = vec![Vec::new(); wanted.len()];
    let mut read = stream::iter(tasks).buffer_unordered(cores());
    while let Some((chunk, columns)) = read.try_next().await? {
        for (column, found) in columns.into_iter().enumerate() {
            pieces[chunk * COLUMNS_AT_ONCE + column].extend(found);
        }
    }
    drop(read);

    let frame = Arc::new(Frame::new(&reasons, rows));
    let mut assembling = Vec::with_capacity(pieces.len());
    for (output, pieces) in lookup.outputs.iter().zip(pieces) {
        let kind = type_of(lookup, *output);
        let default = default_of(lookup, *output, &kind)?;
        let (frame, has_default) = (frame.clone(), default.is_some());
        let assemble = async move {
            let lacking = pieces.iter().filter(|piece| piece.values.is_none());
            let not_in_batch: u64 = lacking.map(|piece| piece.rows() as u64).sum();
            let stored = pieces.iter().filter_map(|piece| piece.values.as_ref());
            let at_source: u64 = stored.map(|values| values.logical_null_count() as u64).sum();
            let column = frame.assemble(&kind, pieces, default)?;
            Ok::<_, DataFusionError>((column, not_in_batch, at_source, has_default))
        };
        assembling.push(joined(SpawnedTask::spawn(assemble)));
    }
    let mut assembled = stream::iter(assembling).buffered(cores());
    let mut columns = Vec::with_capacity(lookup.outputs.len());
    for (output, name) in lookup.outputs.iter().zip(&wanted) {
        let Some((column, not_in_batch, at_source, has_default)) = assembled.try_next().await? else {
            return Err(internal_datafusion_err!("a column of a point-in-time join was lost"));
        };
        if let Output::Feature(_) = output {
            report.features.push(frame.report(name, not_in_batch, at_source, has_default));
        }
        columns.push(column);
    }
    Ok(Found { columns, report })
}

/// Bytes that a spine row's outputs take about, twice over while they are put together.
pub fn row_bytes(lookup: &Lookup) -> usize {
    let width = |output: &Output| type_of(lookup, *output).primitive_width().unwrap_or(TEXT_BYTES);
    lookup.outputs.iter().map(width).sum()
}

/// What a text takes about.
const TEXT_BYTES: usize = 32;

async fn joined<T: Send + 'static>(task: SpawnedTask<Result<T>>) -> Result<T> {
    task.join().await.map_err(|error| DataFusionError::External(Box::new(error)))?
}

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

/// Reads some columns of a file at its hit rows. By column, its pieces.
async fn read(
    files: &DataFiles,
    file: &VisibleFile,
    names: Vec<String>,
    hits: Arc<Hits>,
    selection: Option<Arc<PageSelection>>,
) -> Result<Vec<Vec<Piece>>> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut pieces: Vec<Vec<Piece>> = vec![Vec::new(); names.len()];
    let selected = selection.as_ref().map(|selection| selection.selection());
    let mut batches = files.stream(file, &names, selected, BATCH_ROWS).await?;
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
        if indices.is_empty() {
            continue;
        }
        let indices = UInt32Array::from(indices);
        for (name, pieces) in names.iter().zip(&mut pieces) {
            if let Some(column) = batch.column_by_name(name) {
                let values = Some(take(column, &indices, None)?);
                pieces.push(Piece { hits: hits.clone(), from, until: next, values });
            }
        }
    }
    let rows = hits.rows.len();
    for pieces in &mut pieces {
        if pieces.is_empty() {
            pieces.push(Piece { hits: hits.clone(), from: 0, until: rows, values: None });
        }
    }
    Ok(pieces)
}

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
    fn assemble(&self, kind: &DataType, pieces: Vec<Piece>, default: Option<ArrayRef>) -> Result<ArrayRef> {
        macro_rules! scatter {
            ($kind:ty) => {
                self.scatter::<$kind>(kind, pieces, default)
            };
        }
        downcast_primitive! {
            kind => (scatter),
            _ => self.interleave(kind, &pieces, default)
        }
    }

    fn scatter<T: ArrowPrimitiveType>(
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
        for piece in pieces {
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
    fn interleave(&self, kind: &DataType, pieces: &[Piece], default: Option<ArrayRef>) -> Result<ArrayRef> {
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
        Ok(interleave(&sources, &places)?)
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
        Output::Feature(index) => view.features.get(index).map(|feature| feature.name.as_str()),
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
