//! The side objects that an entry's events need, read from the store and checked against the digests in the
//! log.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{TimestampMicrosecondType, UInt64Type};
use bytes::Bytes;
use catalog::records::{BatchCommitted, Object, Record};
use catalog::{Catalog, Followed, Following, recorded_reads};
use feature::key::statistic::StatisticValue;
use feature::{FeatureType, Sequence, Timestamp};
use lineage::openlineage::{ColumnProfile, Material, Profile, RecordedRead};
use parquet::errors::ParquetError;
use serde::de::DeserializeOwned;
use serde_json::Number;
use storage::manifest::DataFile;

use crate::error::{Error, Kind, Result};

/// What the events of a whole entry need, but for its reads.
pub(super) async fn of(following: &Following, entry: &Followed) -> Result<Material> {
    let mut material = Material::default();
    for record in &entry.records {
        add(following, record, false, &mut material).await?;
    }
    Ok(material)
}

/// What the events of one record need.
pub(super) async fn of_record(
    following: &Following,
    record: Option<&Record>,
    with_reads: bool,
) -> Result<Material> {
    let mut material = Material::default();
    if let Some(record) = record {
        add(following, record, with_reads, &mut material).await?;
    }
    Ok(material)
}

async fn committed(following: &Following, body: &BatchCommitted, material: &mut Material) -> Result<()> {
    if let Some(object) = &body.body {
        let said = parsed(following.catalog(), object, "what was said of a batch").await?;
        material.bodies.insert(body.batch, said);
    }
    material.profiles.insert(body.batch, profile(following, body).await?);
    Ok(())
}

async fn add(
    following: &Following,
    record: &Record,
    with_reads: bool,
    material: &mut Material,
) -> Result<()> {
    let catalog = following.catalog();
    match record {
        Record::BatchCommitted(body) => committed(following, body, material).await?,
        Record::BatchReleased(released) => {
            let batch = following.state().and_then(|state| state.batch(released.batch)).cloned();
            if let Some(batch) = batch {
                committed(following, &batch.record, material).await?;
            }
        }
        Record::BatchRefused(body) => {
            if let Some(object) = &body.body {
                let said = parsed(catalog, object, "what was said of a batch").await?;
                material.bodies.insert(body.batch, said);
            }
        }
        Record::TrainingSetRecorded(body) => {
            let manifest = parsed(catalog, &body.manifest, "the manifest of a training set").await?;
            material.manifests.insert(body.training_set, manifest);
        }
        Record::ReadsRecorded(body) if with_reads => {
            let bytes = catalog.object(&body.object).await?;
            let damaged = |error: ParquetError| {
                Error::new(Kind::Damaged, format!("`{}` is no file of reads: {error}", body.object.path))
            };
            let read = recorded(bytes).map_err(damaged)?;
            material.reads.insert(body.object.path.clone(), read);
        }
        _ => {}
    }
    Ok(())
}

/// The reads of an object, without their statements and edges.
fn recorded(bytes: Bytes) -> std::result::Result<Vec<RecordedRead>, ParquetError> {
    const ONLY: [&str; 15] = [
        "read",
        "at",
        "principal",
        "program",
        "run",
        "experiment",
        "sequence",
        "columns",
        "rows",
        "micros",
        "error",
        "status",
        "node",
        "reason",
        "kind",
    ];
    let mut reads = Vec::new();
    for batch in recorded_reads::decode(bytes, &ONLY)? {
        let batch = batch?;
        let column = |name: &str| -> std::result::Result<&ArrayRef, ParquetError> {
            batch.column_by_name(name).ok_or_else(|| ParquetError::General(format!("it has no {name}")))
        };
        let text = |name: &str| -> std::result::Result<Vec<Option<String>>, ParquetError> {
            let values = column(name)?.as_string::<i32>().iter();
            Ok(values.map(|value| value.map(str::to_owned)).collect())
        };
        let number = |name: &str| -> std::result::Result<Vec<u64>, ParquetError> {
            let values = column(name)?.as_primitive::<UInt64Type>().iter();
            Ok(values.map(Option::unwrap_or_default).collect())
        };
        let at = column("at")?.as_primitive::<TimestampMicrosecondType>();
        let [mut id, mut principal, mut program] = [text("read")?, text("principal")?, text("program")?];
        let [mut run, mut experiment, mut kind] = [text("run")?, text("experiment")?, text("kind")?];
        let [columns, error, node, reason] =
            [text("columns")?, text("error")?, text("node")?, text("reason")?];
        let status = text("status")?;
        let [sequence, rows, micros] = [number("sequence")?, number("rows")?, number("micros")?];
        // What was denied was not read.
        let read = |row: &usize| status[*row].as_deref() != Some("denied");
        for row in (0..batch.num_rows()).filter(read) {
            let untraced = match (&node[row], &reason[row]) {
                (Some(node), Some(reason)) => Some(format!("{node}: {reason}")),
                (node, reason) => node.clone().or_else(|| reason.clone()),
            };
            let names = columns[row].as_deref().unwrap_or_default().split(", ");
            reads.push(RecordedRead {
                id: id[row].take().unwrap_or_default(),
                kind: kind[row].take(),
                at: Timestamp(if at.is_valid(row) { at.value(row) } else { 0 }),
                principal: principal[row].take().unwrap_or_default(),
                program: program[row].take().unwrap_or_default(),
                run: run[row].take(),
                experiment: experiment[row].take(),
                sequence: Sequence(sequence[row]),
                columns: names.filter(|name| !name.is_empty()).map(str::to_owned).collect(),
                rows: rows[row],
                micros: micros[row],
                failed: error[row].is_some(),
                untraced,
            });
        }
    }
    Ok(reads)
}

async fn parsed<T: DeserializeOwned>(catalog: &Catalog, object: &Object, what: &str) -> Result<T> {
    let bytes = catalog.object(object).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::new(Kind::Damaged, format!("`{}` is not {what}: {error}", object.path)))
}

/// Counts over a batch's files. Its manifest is read past the cache: an emission sees each once.
async fn profile(following: &Following, body: &BatchCommitted) -> Result<Profile> {
    let bytes = following.catalog().object(&body.manifest).await?;
    let files = storage::manifest::decode(&body.manifest.path, &bytes).map_err(catalog::Error::from)?;
    let version = following.state().and_then(|state| state.view_version(body.version));
    let features = version.map(|version| version.definition.features.as_slice()).unwrap_or_default();
    Ok(Profile {
        rows: files.iter().map(|file| file.rows).sum(),
        bytes: files.iter().map(|file| file.bytes).sum(),
        files: files.len() as u64,
        columns: features
            .iter()
            .map(|feature| column_profile(feature.name.as_str(), feature.data_type, &files))
            .collect(),
    })
}

fn column_profile(column: &str, data_type: FeatureType, files: &[DataFile]) -> ColumnProfile {
    let mut nulls = 0;
    // None once a file does not say what its bounds are.
    let mut bounds: Option<Option<(StatisticValue, StatisticValue)>> = Some(None);
    for file in files {
        let Some(statistics) = file.column(column) else {
            nulls += file.rows;
            continue;
        };
        nulls += statistics.nulls;
        if statistics.nulls + statistics.nans == file.rows {
            continue;
        }
        let read =
            |bytes: &Option<Vec<u8>>| StatisticValue::decode(&data_type.arrow(), bytes.as_deref()?).ok();
        bounds = match (bounds, read(&statistics.least), read(&statistics.greatest)) {
            (Some(None), Some(least), Some(greatest)) => Some(Some((least, greatest))),
            (Some(Some((least, greatest))), Some(other_least), Some(other_greatest)) => {
                let is_less = other_least.compare(&least) == Some(Ordering::Less);
                let is_greater = other_greatest.compare(&greatest) == Some(Ordering::Greater);
                let least = if is_less { other_least } else { least };
                Some(Some((least, if is_greater { other_greatest } else { greatest })))
            }
            _ => None,
        };
    }
    let (least, greatest) = match bounds.flatten() {
        Some((least, greatest)) => (number(&least, data_type), number(&greatest, data_type)),
        None => (None, None),
    };
    ColumnProfile { column: column.to_owned(), nulls, least, greatest }
}

/// A value as a number of JSON; none for what is no number, and for infinities.
fn number(value: &StatisticValue, data_type: FeatureType) -> Option<Number> {
    // A negative zero is a bound among floats, and puzzles readers.
    let float = |value: f64| Number::from_f64(value + 0.0);
    match (value, data_type) {
        (StatisticValue::Signed(value), _) => Some((*value).into()),
        (StatisticValue::Unsigned(value), _) => Some((*value).into()),
        (StatisticValue::Float32(value), _) => float((*value).into()),
        (StatisticValue::Float64(value), _) => float(*value),
        (StatisticValue::Decimal(value), FeatureType::Decimal { scale, .. }) => {
            // By its text, so that 0.1 is 0.1.
            format!("{value}e-{scale}").parse().ok().and_then(float)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_json_can() {
        let number = |value, data_type| super::number(&value, data_type).map(|number| number.to_string());
        let decimal = FeatureType::Decimal { precision: 5, scale: 2 };
        assert_eq!(number(StatisticValue::Decimal(-110), decimal).as_deref(), Some("-1.1"));
        assert_eq!(number(StatisticValue::Float64(-0.0), FeatureType::Float64).as_deref(), Some("0.0"));
        assert_eq!(number(StatisticValue::Float64(f64::INFINITY), FeatureType::Float64), None);
        let most = u64::MAX.to_string();
        assert_eq!(number(StatisticValue::Unsigned(u64::MAX), FeatureType::Uint64), Some(most));
        assert_eq!(number(StatisticValue::Text("a".to_owned()), FeatureType::String), None);
        assert_eq!(number(StatisticValue::Timestamp(3), FeatureType::Timestamp), None);
    }
}
