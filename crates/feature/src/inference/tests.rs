use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array,
    Float64Array, Int8Array, Int64Array, LargeStringArray, NullArray, StringArray, TimestampMicrosecondArray,
    TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use arrow::datatypes::{Int32Type, Schema};
use proptest::prelude::*;

use super::*;
use crate::definition::{Constant, Definition, Definitions, FeatureView, Literal, parse, parse_files};

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array)| array).collect())
        .unwrap()
}

fn inferred(batch: &RecordBatch, keys: &[&str], time: &str) -> Result<InferredDefinition, InferenceError> {
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    let mut inference = Inference::new(batch.schema(), &keys, time)?;
    inference.observe(batch)?;
    Ok(inference.finish())
}

fn parsed(definition: &InferredDefinition) -> Definitions {
    let files = vec![
        ("entity.toml".to_owned(), definition.entity_toml.clone()),
        ("view.toml".to_owned(), definition.view_toml.clone()),
    ];
    parse_files(files)
        .unwrap_or_else(|errors| panic!("{errors}\n{}\n{}", definition.entity_toml, definition.view_toml))
}

fn visits() -> RecordBatch {
    let utc = |micros: Vec<i64>| TimestampMicrosecondArray::from(micros).with_timezone("UTC");
    batch(vec![
        ("user_id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("ts", Arc::new(utc(vec![1, 2, 3]))),
        ("Page Views", Arc::new(Int8Array::from(vec![Some(-3), None, Some(9)]))),
        ("score", Arc::new(Float64Array::from(vec![0.25, f64::NAN, -1e300]))),
        ("at", Arc::new(Float32Array::from(vec![0.1, 0.2, 0.3]))),
        ("serial", Arc::new(UInt64Array::from(vec![0, u64::MAX, 5]))),
        ("price", Arc::new(Decimal128Array::from(vec![-5, 1250, 0]).with_precision_and_scale(8, 2).unwrap())),
        ("born", Arc::new(Date32Array::from(vec![0, -1, 15_895]))),
        ("active", Arc::new(BooleanArray::from(vec![true, false, true]))),
        ("nothing", Arc::new(NullArray::new(3))),
    ])
}

#[test]
fn a_definition_is_written_from_data() {
    let found = inferred(&visits(), &["user_id"], "ts").unwrap();
    assert_eq!(
        found.entity_toml,
        "kind = \"entity\"\nname = \"user\"\n# description = \"…\"  who or what it is\n\n[[keys]]\nname = \"user_id\"\ntype = \"int64\"\n"
    );
    assert_eq!(found.view_toml, include_str!("../../../../testdata/golden/inferred-visits.toml"));
    assert_eq!(
        found.warnings,
        [
            "known_at is \"assumed\": values are taken as known at their valid_at; if they were published later, say so under [time], or training sees them too early",
            "column `Page Views` is called `page_views` in the store",
            "column `at` is called `at_value` in the store",
            "column `nothing` is left out: no feature type holds Null; it holds nothing",
        ]
    );
    let definitions = parsed(&found);
    let view = &definitions.views[0].definition;
    let feature = |name: &str| view.features.iter().find(|feature| feature.name.as_str() == name).unwrap();
    assert_eq!(feature("page_views").column, "Page Views");
    assert!(feature("page_views").nullable && !feature("score").nullable);
    assert!(feature("score").nan && !feature("at_value").nan);
    let bounds = feature("at_value").bounds().unwrap();
    assert_eq!(
        bounds.0,
        Some(Constant::Float(f64::from(0.1f32))),
        "the range holds the very floats that were seen"
    );
    assert_eq!(feature("serial").bounds().unwrap().1, Some(Constant::Int(u64::MAX.into())));
    assert_eq!(
        feature("price").bounds().unwrap(),
        (Some(Constant::Decimal(-5)), Some(Constant::Decimal(1250)))
    );
}

#[test]
fn batches_add_up_and_must_agree() {
    let visits = visits();
    let keys = ["user_id".to_owned()];
    let mut apart = Inference::new(visits.schema(), &keys, "ts").unwrap();
    for row in 0..visits.num_rows() {
        apart.observe(&visits.slice(row, 1)).unwrap();
    }
    assert_eq!(apart.finish(), inferred(&visits, &["user_id"], "ts").unwrap());
    let mut other = Inference::new(visits.schema(), &keys, "ts").unwrap();
    let error = other.observe(&visits.project(&[0, 1]).unwrap()).unwrap_err().to_string();
    assert!(
        error.starts_with(
            "this batch has other columns than the first: user_id (Int64), ts (Timestamp(µs, \"UTC\")) where"
        ),
        "{error}"
    );
}

#[test]
fn small_sets_of_text_are_listed_when_they_come_again() {
    let sky = |distinct: usize, rows: usize| {
        let values: Vec<String> = (0..rows).map(|row| format!("sky \"{}\"", row % distinct)).collect();
        let batch = batch(vec![
            ("k", Arc::new(Int64Array::from(vec![1; rows]))),
            ("t", Arc::new(TimestampMicrosecondArray::from(vec![0; rows]).with_timezone("UTC"))),
            ("sky", Arc::new(LargeStringArray::from(values))),
        ]);
        let found = inferred(&batch, &["k"], "t").unwrap();
        parsed(&found).views[0].definition.features[0].one_of.clone()
    };
    assert_eq!(sky(2, 30), Some(vec![Literal::Text("sky \"0\"".into()), Literal::Text("sky \"1\"".into())]));
    assert_eq!(sky(12, 120).unwrap().len(), 12);
    assert_eq!(sky(12, 119), None, "too few rows to tell");
    assert_eq!(sky(13, 1300), None, "too many values");
}

#[test]
fn times_are_warned_of() {
    let with = |time: ArrayRef| {
        let batch = batch(vec![
            ("k", Arc::new(Int64Array::from(vec![1, 1]))),
            ("t", time),
            ("x", Arc::new(Int64Array::from(vec![1, 1]))),
        ]);
        let found = inferred(&batch, &["k"], "t").unwrap();
        parsed(&found);
        found.warnings
    };
    let start =
        |warnings: &[String]| warnings[0].split(';').next().unwrap().split(',').next().unwrap().to_owned();
    let warnings = with(Arc::new(Date32Array::from(vec![1, 2])));
    assert_eq!(start(&warnings), "time column `t` is a date");
    assert!(warnings[0].contains("a day's aggregate dated by its own day leaks"));
    let warnings = with(Arc::new(TimestampSecondArray::from(vec![1, 2])));
    assert_eq!(start(&warnings), "time column `t` carries no zone");
    let utc = |nanos: Vec<i64>| Arc::new(TimestampNanosecondArray::from(nanos).with_timezone("UTC"));
    let warnings = with(utc(vec![1_000, 2_001]));
    assert_eq!(start(&warnings), "time column `t` is finer than a microsecond in 1 of 2 rows");
    assert_eq!(with(utc(vec![1_000, 2_000])).len(), 1, "whole microseconds in nanoseconds are fine");
    let warnings = with(Arc::new(StringArray::from(vec!["a", "b"])));
    assert_eq!(start(&warnings), "time column `t` is text: ingest reads 2013-07-09T12:30:00Z");
}

#[test]
fn what_cannot_be_a_definition_is_refused() {
    let visits = visits();
    for (keys, time, message) in [
        (
            vec!["userid"],
            "ts",
            "the data has no column `userid` (did you mean `user_id`?); its columns are user_id, ts, Page Views, score, at, serial, price, born, active, nothing",
        ),
        (
            vec!["user_id"],
            "tz",
            "the data has no column `tz` (did you mean `ts`?); its columns are user_id, ts, Page Views, score, at, serial, price, born, active, nothing",
        ),
        (
            vec!["score"],
            "ts",
            "key column `score` is Float64; a key is whole numbers, text, bool, a date, a timestamp or a decimal, so cast it first or name another column",
        ),
        (
            vec!["user_id"],
            "serial",
            "time column `serial` is UInt64; a time is a timestamp, a date or text in RFC 3339, so cast it first, or name one that is: ts, born",
        ),
        (vec!["ts"], "ts", "column `ts` is named twice; name each key once, and the time apart from them"),
    ] {
        assert_eq!(inferred(&visits, &keys, time).unwrap_err().to_string(), message);
    }
    assert!(matches!(inferred(&visits, &[], "ts"), Err(InferenceError::NoKey { .. })));
    let nameless = batch(vec![("k", visits.column(0).clone()), (" ", visits.column(1).clone())]);
    assert_eq!(
        inferred(&nameless, &["k"], " ").unwrap_err().to_string(),
        "column 2 has no name, and so no definition can read it; give it a name first"
    );
    let bare = visits.project(&[0, 1, 9]).unwrap();
    assert_eq!(
        inferred(&bare, &["user_id"], "ts").unwrap_err().to_string(),
        "no column is left to be a feature: beside keys and time there is column `nothing` is left out: no feature type holds Null; it holds nothing"
    );
}

#[test]
fn names_and_files_can_be_given() {
    let visits = visits();
    let inference = Inference::new(visits.schema(), &["user_id".to_owned()], "ts")
        .unwrap()
        .entity_name("visitor".parse().unwrap())
        .view_name("visits".parse().unwrap())
        .source("../a \"b\".csv", Some(FileFormat::Csv));
    assert_eq!(inference.names().0.as_str(), "visitor");
    let found = inference.finish();
    let definitions = parsed(&found);
    let view = &definitions.views[0].definition;
    assert_eq!((view.name.as_str(), view.entity.as_str()), ("visits", "visitor"));
    assert_eq!(view.source.as_ref().unwrap().files, "../a \"b\".csv");
    assert!(found.warnings.last().unwrap().starts_with("there were no rows"));
}

/// Columns of every type that a feature may have, and some that none has.
fn column(rows: usize) -> impl Strategy<Value = ArrayRef> {
    let vector =
        move |least: i64, greatest: i64| prop::collection::vec(prop::option::of(least..=greatest), rows);
    let text = prop::collection::vec(prop::option::of(any::<String>()), rows);
    prop_oneof![
        prop::collection::vec(prop::option::of(any::<i64>()), rows)
            .prop_map(|values| Arc::new(Int64Array::from(values)) as ArrayRef),
        prop::collection::vec(prop::option::of(any::<u64>()), rows)
            .prop_map(|values| Arc::new(UInt64Array::from(values)) as ArrayRef),
        prop::collection::vec(prop::option::of(any::<f64>()), rows)
            .prop_map(|values| Arc::new(Float64Array::from(values)) as ArrayRef),
        prop::collection::vec(prop::option::of(any::<f32>()), rows)
            .prop_map(|values| Arc::new(Float32Array::from(values)) as ArrayRef),
        text.clone().prop_map(|values| Arc::new(StringArray::from(values)) as ArrayRef),
        text.prop_map(|values| {
            let values: DictionaryArray<Int32Type> = values.iter().map(|value| value.as_deref()).collect();
            Arc::new(values) as ArrayRef
        }),
        vector(0, 1).prop_map(|values| {
            let values: BooleanArray = values.iter().map(|value| value.map(|value| value == 1)).collect();
            Arc::new(values) as ArrayRef
        }),
        vector(-100_000, 100_000).prop_map(|values| {
            let values: Date32Array = values.iter().map(|value| value.map(|value| value as i32)).collect();
            Arc::new(values) as ArrayRef
        }),
        vector(-60_000_000_000_000_000, 200_000_000_000_000_000)
            .prop_map(|values| Arc::new(TimestampMicrosecondArray::from(values)) as ArrayRef),
        vector(-999_999_999, 999_999_999).prop_map(|values| {
            let values: Decimal128Array = values.iter().map(|value| value.map(i128::from)).collect();
            Arc::new(values.with_precision_and_scale(9, 3).unwrap()) as ArrayRef
        }),
        vector(0, 9).prop_map(|values| {
            let values: BinaryArray =
                values.iter().map(|value| value.map(|value| value.to_le_bytes())).collect();
            Arc::new(values) as ArrayRef
        }),
        Just(Arc::new(NullArray::new(rows)) as ArrayRef),
    ]
}

/// Whether the view takes every value that it was inferred from.
fn takes(view: &FeatureView, batch: &RecordBatch) {
    for feature in &view.features {
        let column = batch.column_by_name(&feature.column).unwrap();
        let plain = match column.data_type() {
            DataType::Dictionary(_, values) => arrow::compute::cast(column, values).unwrap(),
            _ => column.clone(),
        };
        assert!(feature.nullable || plain.null_count() == 0);
        let (least, greatest) = feature.bounds().unwrap();
        if feature.data_type.is_float() {
            let values = arrow::compute::cast(&plain, &DataType::Float64).unwrap();
            let values = values.as_any().downcast_ref::<Float64Array>().unwrap();
            for value in values.iter().flatten() {
                assert!(feature.nan || !value.is_nan());
                if !value.is_nan() {
                    let value = Constant::Float(value);
                    assert!(least.as_ref().is_none_or(|least| value >= *least), "{value:?} {least:?}");
                    assert!(
                        greatest.as_ref().is_none_or(|greatest| value <= *greatest),
                        "{value:?} {greatest:?}"
                    );
                }
            }
        }
        if let Some(set) = feature.accepted().unwrap() {
            let values = arrow::compute::cast(&plain, &DataType::Utf8).unwrap();
            let values = values.as_any().downcast_ref::<StringArray>().unwrap();
            assert!(values.iter().flatten().all(|value| set.contains(&Constant::Text(value.to_owned()))));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn what_is_inferred_parses_and_takes_its_own_data(
        (names, columns) in (1usize..6, 0usize..40).prop_flat_map(|(count, rows)| (
            prop::collection::vec(prop_oneof!["[a-cA-C_ ]{0,4}", "\\PC{0,80}", any::<String>(), Just("valid_at".to_owned())], count),
            prop::collection::vec(column(rows), count),
        )),
    ) {
        let rows = columns.first().map_or(0, |column| column.len());
        let mut all: Vec<(String, ArrayRef)> = vec![
            ("key \"of\" it".to_owned(), Arc::new(Int64Array::from(vec![1; rows]))),
            ("the\ntime".to_owned(), Arc::new(TimestampMicrosecondArray::from(vec![0; rows]))),
        ];
        for (name, column) in names.into_iter().zip(columns) {
            // Tables have columns of different names.
            if !all.iter().any(|(other, _)| *other == name) {
                all.push((name, column));
            }
        }
        let batch = batch(all.iter().map(|(name, column)| (name.as_str(), column.clone())).collect());
        match inferred(&batch, &["key \"of\" it"], "the\ntime") {
            Ok(found) => {
                let definitions = parsed(&found);
                takes(&definitions.views[0].definition, &batch);
                prop_assert!(found.warnings.iter().all(|warning| !warning.contains('\n')));
                prop_assert!(matches!(parse("view.toml", &found.view_toml), Ok(Definition::FeatureView(_))));
            }
            Err(InferenceError::NoFeature { .. }) => {
                let unfit = |(name, column): &(String, ArrayRef)| {
                    name.trim().is_empty() || column.data_type() == &DataType::Null
                };
                prop_assert!(all.iter().skip(2).all(unfit));
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
