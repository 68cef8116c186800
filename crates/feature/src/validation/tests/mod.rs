//! Views and sources that the tests share.

mod batches;
mod property;
mod reasons;
mod sources;

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};

use super::*;
use crate::datatype::FeatureType;
use crate::definition::{About, Feature, Key, KeySource, Literal, Occurrence, Range, RepeatedHour};
use crate::{Name, Timestamp};

pub(super) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(super) fn data_type(text: &str) -> FeatureType {
    text.parse().unwrap()
}

pub(super) fn airport() -> Entity {
    Entity {
        project: Name::default_project(),
        name: name("airport"),
        keys: vec![Key { name: name("origin"), data_type: FeatureType::String }],
        about: About::default(),
    }
}

/// A feature without rules.
pub(super) fn plain(feature: &str, of: &str) -> Feature {
    Feature {
        name: name(feature),
        data_type: data_type(of),
        unit: None,
        column: feature.to_owned(),
        range: None,
        one_of: None,
        nullable: true,
        nan: true,
        default: None,
        about: About::default(),
    }
}

pub(super) fn ranged(feature: &str, of: &str, least: Option<Literal>, greatest: Option<Literal>) -> Feature {
    Feature { range: Some(Range { least, greatest }), ..plain(feature, of) }
}

/// Of airports, read from `origin` and `time_hour`, with no zone.
pub(super) fn weather(features: Vec<Feature>) -> FeatureView {
    FeatureView {
        project: Name::default_project(),
        name: name("weather"),
        entity: name("airport"),
        ttl: None,
        time: TimeRule {
            valid_at: "time_hour".to_owned(),
            known_at: KnownAt::Assumed,
            zone: None,
            repeated_hour: RepeatedHour::Refuse,
        },
        occurrence: None,
        keys: vec![KeySource { key: name("origin"), column: "origin".to_owned() }],
        features,
        checks: vec![],
        source: None,
        derived: None,
        reject_above: None,
        quality: None,
        sampling: None,
        retention: None,
        hypothesis: None,
        about: About::default(),
    }
}

pub(super) fn in_zone(mut view: FeatureView, zone: &str, repeated_hour: RepeatedHour) -> FeatureView {
    view.time.zone = Some(zone.to_owned());
    view.time.repeated_hour = repeated_hour;
    view
}

pub(super) fn micros(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().micros()
}

pub(super) fn utc(times: &[&str]) -> ArrayRef {
    let times: Vec<i64> = times.iter().map(|text| micros(text)).collect();
    Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
}

pub(super) fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

pub(super) fn floats(values: &[Option<f64>]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

pub(super) fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .unwrap()
}

/// A batch with good keys and times, and these columns.
pub(super) fn observed(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let rows = columns.first().map_or(1, |(_, array)| array.len());
    let hours: Vec<i64> =
        (0..rows as i64).map(|row| micros("2013-07-09T12:00:00Z") + row * 3_600_000_000).collect();
    let mut all: Vec<(&str, ArrayRef)> = vec![
        ("origin", texts(&vec![Some("EWR"); rows])),
        ("time_hour", Arc::new(TimestampMicrosecondArray::from(hours).with_timezone("UTC"))),
    ];
    all.extend(columns);
    batch(all)
}

pub(super) fn validated(view: &FeatureView, rows: &RecordBatch) -> Validated {
    let validator = Validator::new(&airport(), view, &rows.schema()).unwrap();
    let validated = validator.validate(rows, 0).unwrap();
    let split = validated.clone().split().unwrap();
    // What holds of every outcome, whatever the test is about.
    assert_eq!(split.accepted.schema(), validator.output_schema());
    assert_eq!(split.rejected.schema(), validator.rejected_schema());
    assert_eq!(split.accepted.num_rows() + split.rejected.num_rows(), rows.num_rows());
    assert_eq!(validated.rows().num_rows(), rows.num_rows());
    validated
}

/// Row, reason and the rest of the message of each rejection.
pub(super) fn found(validated: &Validated) -> Vec<(u64, &'static str, String)> {
    validated.rejections().iter().map(|found| (found.row, found.reason.as_str(), found.message())).collect()
}

pub(super) fn occurrence(column: &str) -> Option<Occurrence> {
    Some(Occurrence { name: name(column), data_type: FeatureType::Int64, column: column.to_owned() })
}
