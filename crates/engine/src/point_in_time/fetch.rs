//! The fetch: feature values of the rows that were hit, put into spine order.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray, UInt64Array, new_null_array,
};
use arrow::compute::{cast, interleave};
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use feature::FeatureType;
use feature::definition::Constant;

use super::matching::Answer;
use super::{FeatureReport, Found, Lookup, LookupReport, NullReason, Output};
use crate::data_files::DataFiles;

/// Below this share of pages hit, selecting rows costs less than decoding the column whole (docs/performance.md).
const SELECT_BELOW: f64 = 0.22;

/// Where rows of a file went: their positions in what was decoded of it.
enum Decoded {
    Nothing,
    /// Every row is at its own place.
    Whole,
    /// Only these rows, ascending.
    Selected(Vec<u32>),
}

pub async fn fetch(files: &DataFiles, lookup: &Lookup, answers: Vec<Answer>) -> Result<Found> {
    let mut hits: Vec<Vec<u32>> = vec![Vec::new(); lookup.files.len()];
    for answer in &answers {
        if let Answer::Row { file, row, .. } = answer {
            hits[*file as usize].push(*row);
        }
    }
    let mut report = LookupReport { version: lookup.version.label(), ..LookupReport::default() };
    let mut batches: BTreeMap<_, u64> = BTreeMap::new();
    for (file, rows) in lookup.files.iter().zip(&hits) {
        if !rows.is_empty() {
            *batches.entry(file.batch.record.batch).or_default() += rows.len() as u64;
            report.matched += rows.len() as u64;
        }
    }
    report.hits = batches.into_iter().collect();

    let wanted: Vec<Option<&str>> = lookup.outputs.iter().map(|output| column_of(lookup, *output)).collect();
    let names: Vec<&str> = wanted.iter().flatten().copied().collect();
    let mut decoded = Vec::with_capacity(lookup.files.len());
    let mut contents = Vec::with_capacity(lookup.files.len());
    for (file, mut rows) in lookup.files.iter().zip(hits) {
        rows.sort_unstable();
        rows.dedup();
        if rows.is_empty() || names.is_empty() {
            decoded.push(Decoded::Nothing);
            contents.push(None);
            continue;
        }
        let select = share_of_pages_hit(files, file, &rows).await? < SELECT_BELOW;
        let selection = select.then(|| selection(&rows));
        contents.push(Some(files.columns(file, &names, selection).await?));
        decoded.push(if select { Decoded::Selected(rows) } else { Decoded::Whole });
    }

    // Source 0 is null, source 1 the default; the files' columns follow.
    let mut places: Vec<(usize, usize)> = Vec::with_capacity(answers.len());
    for answer in &answers {
        places.push(match answer {
            Answer::None(NullReason::Retracted) => (0, 0),
            Answer::None(_) => (1, 0),
            Answer::Row { file, row, .. } => {
                let file = *file as usize;
                let position = match &decoded[file] {
                    Decoded::Selected(rows) => rows.partition_point(|hit| hit < row),
                    Decoded::Whole | Decoded::Nothing => *row as usize,
                };
                (file + 2, position)
            }
        });
    }

    let mut columns = Vec::with_capacity(lookup.outputs.len());
    for (output, name) in lookup.outputs.iter().zip(&wanted) {
        let Some(name) = name else {
            columns.push(valid_at(&answers));
            continue;
        };
        let kind = type_of(lookup, *output);
        let default = default_of(lookup, *output, &kind)?;
        let has_default = default.is_some();
        let null = new_null_array(&kind, 1);
        let mut sources: Vec<ArrayRef> = vec![null.clone(), default.unwrap_or(null)];
        let mut lacking = vec![false; lookup.files.len()];
        for (file, content) in contents.iter().enumerate() {
            let column = content.as_ref().and_then(|content| content.column_by_name(name));
            sources.push(match (column, content) {
                (Some(column), _) => cast(column, &kind)?,
                (None, Some(content)) => {
                    lacking[file] = true;
                    new_null_array(&kind, content.num_rows())
                }
                (None, None) => new_null_array(&kind, 0),
            });
        }
        let views: Vec<&dyn arrow::array::Array> = sources.iter().map(AsRef::as_ref).collect();
        let column = interleave(&views, &places)?;
        if let Output::Feature(_) = output {
            report.features.push(count_nulls(name, &column, &answers, &lacking, has_default));
        }
        columns.push(column);
    }
    Ok(Found { columns, report })
}

fn column_of(lookup: &Lookup, output: Output) -> Option<&str> {
    let view = &lookup.version.definition;
    match output {
        Output::Key(index) => lookup.version.keys().get(index).map(|key| key.name.as_str()),
        Output::Occurrence => view.occurrence.as_ref().map(|occurrence| occurrence.name.as_str()),
        Output::ValidAt => None,
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

fn valid_at(answers: &[Answer]) -> ArrayRef {
    let times = answers.iter().map(|answer| match answer {
        Answer::Row { valid_at, .. } => Some(*valid_at),
        Answer::None(_) => None,
    });
    Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn count_nulls(
    name: &str,
    column: &ArrayRef,
    answers: &[Answer],
    lacking: &[bool],
    has_default: bool,
) -> FeatureReport {
    let mut report = FeatureReport { name: name.to_owned(), ..FeatureReport::default() };
    let mut counts = [0u64; NullReason::ALL.len()];
    for (row, answer) in answers.iter().enumerate() {
        let reason = match answer {
            Answer::None(reason) if *reason != NullReason::Retracted && has_default => {
                report.defaulted += 1;
                continue;
            }
            Answer::None(reason) => *reason,
            Answer::Row { .. } if column.is_valid(row) => continue,
            Answer::Row { file, .. } if lacking[*file as usize] => NullReason::NotInBatch,
            Answer::Row { .. } => NullReason::NullAtSource,
        };
        counts[reason as usize] += 1;
    }
    report.nulls = NullReason::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect();
    report
}

/// The share of a file's data pages that hold a hit row, taken over the pages of its widest column.
async fn share_of_pages_hit(files: &DataFiles, file: &catalog::VisibleFile, rows: &[u32]) -> Result<f64> {
    let footer = files.footer(&file.file).await?;
    let metadata = footer.metadata();
    let Some(index) = metadata.offset_index() else { return Ok(1.0) };
    let mut pages = 0usize;
    let mut hit = 0usize;
    let mut first_row = 0u64;
    let mut cursor = 0usize;
    for (group, group_index) in metadata.row_groups().iter().zip(index) {
        let group_rows = group.num_rows() as u64;
        if let Some(column) = group_index.iter().max_by_key(|column| column.page_locations().len()) {
            let locations = column.page_locations();
            for (page, location) in locations.iter().enumerate() {
                pages += 1;
                let end = locations.get(page + 1).map_or(group_rows, |next| next.first_row_index as u64);
                let start = first_row + location.first_row_index as u64;
                let end = first_row + end;
                while rows.get(cursor).is_some_and(|row| u64::from(*row) < start) {
                    cursor += 1;
                }
                if rows.get(cursor).is_some_and(|row| u64::from(*row) < end) {
                    hit += 1;
                }
            }
        }
        first_row += group_rows;
    }
    Ok(if pages == 0 { 1.0 } else { hit as f64 / pages as f64 })
}

fn selection(rows: &[u32]) -> RowSelection {
    let mut selectors: Vec<RowSelector> = Vec::new();
    let mut next = 0usize;
    let mut index = 0;
    while index < rows.len() {
        let start = rows[index] as usize;
        let mut end = start + 1;
        index += 1;
        while index < rows.len() && rows[index] as usize == end {
            end += 1;
            index += 1;
        }
        if start > next {
            selectors.push(RowSelector::skip(start - next));
        }
        selectors.push(RowSelector::select(end - start));
        next = end;
    }
    selectors.into()
}
