//! Batches from end to end: retractions, what is kept of rejected rows, and how long it takes.

use arrow::array::*;
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::*;
use arrow::util::pretty::pretty_format_batches;

use super::*;

#[test]
fn rejected_rows_keep_what_the_source_had() {
    let view = weather(vec![ranged("wind", "float64", None, Some(Literal::Int(200)))]);
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1)]),
        Some(vec![Some(2), None]),
        None,
    ]);
    let rows = batch(vec![
        ("origin", texts(&[Some("EWR"), None, Some("LGA")])),
        ("time_hour", utc(&["2013-07-09T12:00:00Z"; 3])),
        ("wind", texts(&[Some("1"), Some("1048.36"), Some("calm")])),
        ("extra", Arc::new(list)),
        ("_row", floats(&[Some(0.0); 3])),
        (
            "carrier",
            cast(
                &texts(&[Some("UA"); 3]),
                &DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)),
            )
            .unwrap(),
        ),
    ]);
    let validator = Validator::new(&airport(), &view, &rows.schema()).unwrap();
    let split = validator.validate(&rows, 1000).unwrap().split().unwrap();
    assert_eq!(split.accepted.num_rows(), 1);
    assert_eq!(split.rejected.schema(), validator.rejected_schema());
    let expected = "\
+--------+----------------------+---------+-------+---------+------+
| origin | time_hour            | wind    | extra | carrier | _row |
+--------+----------------------+---------+-------+---------+------+
|        | 2013-07-09T12:00:00Z | 1048.36 | [2, ] | UA      | 1001 |
| LGA    | 2013-07-09T12:00:00Z | calm    |       | UA      | 1002 |
+--------+----------------------+---------+-------+---------+------+";
    let shown = split.rejected.project(&[0, 1, 2, 3, 4, 5]).unwrap();
    assert_eq!(pretty_format_batches(&[shown]).unwrap().to_string(), expected);
    let reasons = split.rejected.column(6).as_list::<i32>();
    assert_eq!(reasons.value(0).len(), 2);
    let first = reasons.values().as_struct();
    let text = |column: &str| -> Vec<String> {
        let column = first.column_by_name(column).unwrap().as_string::<i32>();
        column.iter().map(|text| text.unwrap().to_owned()).collect()
    };
    assert_eq!(text("reason"), ["null_key", "above_range", "wrong_type"]);
    assert_eq!(text("column"), ["origin", "wind", "wind"]);
    assert_eq!(text("value"), ["null", "\"1048.36\"", "\"calm\""]);
    assert_eq!(
        text("message")[1],
        "row 1001, column `wind`: \"1048.36\" is above 200, the greatest that `weather` accepts"
    );
}

#[test]
fn a_retraction_needs_no_values() {
    let wind = Feature { nullable: false, ..ranged("wind", "float64", None, Some(Literal::Int(200))) };
    let view = weather(vec![wind]);
    let rows = observed(vec![
        ("wind", texts(&[Some("1"), None, Some("calm"), Some("999"), None])),
        ("_retracted", texts(&[Some("false"), Some("true"), Some("True"), Some("1"), None])),
    ]);
    let validated = validated(&view, &rows);
    assert_eq!(
        found(&validated),
        [
            (4, "null_value", "row 4, column `wind`: null is not accepted by `weather`, which declares nullable = false".to_owned()),
            (
                4,
                "null_value",
                "row 4, column `_retracted`: null says neither true nor false; leave the column out where nothing is retracted".to_owned()
            ),
        ]
    );
    let accepted = validated.split().unwrap().accepted;
    assert_eq!(accepted.column(3), &floats(&[Some(1.0), None, None, None]));
    assert_eq!(accepted.column(4).as_boolean(), &BooleanArray::from(vec![false, true, true, true]));
}

#[test]
fn a_source_of_retractions_alone_needs_no_feature_columns() {
    let view = weather(vec![plain("temp", "float64"), plain("wind", "int32")]);
    let rows = observed(vec![("_retracted", Arc::new(BooleanArray::from(vec![true, false])))]);
    let validated = validated(&view, &rows);
    assert_eq!(
        found(&validated),
        [(1, "null_value", "row 1, column `_retracted`: false is not a retraction, and the source has none of the feature columns of `weather`".to_owned())]
    );
    assert_eq!(validated.split().unwrap().accepted.num_columns(), 6);
}

#[test]
fn a_batch_of_another_schema_is_an_error() {
    let view = weather(vec![plain("temp", "float64")]);
    let validator =
        Validator::new(&airport(), &view, &observed(vec![("temp", floats(&[None]))]).schema()).unwrap();
    let error = validator.validate(&observed(vec![("temp", texts(&[None]))]), 0).unwrap_err().to_string();
    assert_eq!(
        error,
        "column `temp` is `temp`, Utf8 in this batch and Float64 in the source's schema; a source has one schema"
    );
    assert!(validator.validate(&observed(vec![]), 0).unwrap_err().to_string().contains("2 columns"));
}

#[test]
fn an_empty_batch_has_no_rejections() {
    let validated =
        validated(&weather(vec![plain("temp", "float64")]), &observed(vec![("temp", floats(&[]))]));
    assert_eq!(validated.split().unwrap().accepted.num_rows(), 0);
}

#[test]
fn long_values_are_shortened() {
    let long = "é".repeat(500);
    let validated =
        validated(&weather(vec![plain("n", "int8")]), &observed(vec![("n", texts(&[Some(&long)]))]));
    assert_eq!(validated.rejections()[0].value, format!("\"{}…\"", "é".repeat(60)));
}

#[test]
fn what_lies_under_a_null_is_not_a_value() {
    let nulls = || Some(NullBuffer::from(vec![true, false]));
    let features = vec![
        plain("n", "int8"),
        Feature { nan: false, ..ranged("x", "float64", Some(Literal::Int(0)), Some(Literal::Int(1))) },
        Feature { one_of: Some(vec![Literal::Int(0)]), ..ranged("k", "int64", None, Some(Literal::Int(5))) },
        plain("seen", "timestamp"),
        Feature { one_of: Some(vec![Literal::Bool(true)]), ..plain("flag", "bool") },
    ];
    let rows = observed(vec![
        ("n", Arc::new(Int64Array::new(vec![0, 1000].into(), nulls()))),
        ("x", Arc::new(Float64Array::new(vec![0.0, f64::NAN].into(), nulls()))),
        ("k", Arc::new(Int64Array::new(vec![0, 1000].into(), nulls()))),
        ("seen", Arc::new(TimestampNanosecondArray::new(vec![0, 1].into(), nulls()).with_timezone("UTC"))),
        ("flag", Arc::new(BooleanArray::new(vec![true, false].into(), nulls()))),
    ]);
    assert_eq!(found(&validated(&weather(features), &rows)), []);
}

#[test]
fn a_batch_in_which_every_cell_is_wrong_is_told_so() {
    const ROWS: usize = 20_000;
    let features: Vec<Feature> =
        ["a", "b", "c"].map(|feature| ranged(feature, "int16", None, Some(Literal::Int(5)))).to_vec();
    let wrong = || texts(&vec![Some("6"); ROWS]);
    let rows = observed(vec![("a", wrong()), ("b", wrong()), ("c", wrong())]);
    let split = validated(&weather(features), &rows).split().unwrap();
    assert_eq!(
        (split.accepted.num_rows(), split.rejected.num_rows(), split.rejections.len()),
        (0, ROWS, 3 * ROWS)
    );
}

/// As many rows as a year of flights, ten columns: all are accepted.
fn all_accepted(view: &FeatureView, rows: &RecordBatch) {
    let validator = Validator::new(&airport(), view, &rows.schema()).unwrap();
    let split = validator.validate(rows, 0).unwrap().split().unwrap();
    assert_eq!(split.accepted.num_rows(), rows.num_rows());
}

#[test]
fn a_year_of_flights_is_accepted_typed_naive_and_as_text() {
    const ROWS: usize = 336_776;
    let airports = ["EWR", "JFK", "LGA"];
    let start = micros("2013-01-01T05:00:00Z");
    let origin: ArrayRef = Arc::new((0..ROWS).map(|row| Some(airports[row % 3])).collect::<StringArray>());
    let hours: Vec<i64> = (0..ROWS as i64).map(|row| start + row * 93_000_000 / 60 * 60).collect();
    let one_of = Some(airports.map(|airport| Literal::Text(airport.to_owned())).to_vec());
    let range = |feature: &str, of: &str| Feature {
        nan: false,
        nullable: false,
        ..ranged(feature, of, Some(Literal::Int(0)), Some(Literal::Int(1000)))
    };
    let features = vec![
        range("f1", "float64"),
        range("f2", "float64"),
        range("f3", "float32"),
        range("i1", "int64"),
        range("i2", "int32"),
        range("i3", "int16"),
        Feature { one_of, ..plain("airport", "string") },
        plain("name", "string"),
    ];
    let float =
        || -> ArrayRef { Arc::new(Float64Array::from_iter_values((0..ROWS).map(|row| (row % 1000) as f64))) };
    let columns = |times: ArrayRef| {
        batch(vec![
            ("origin", Arc::clone(&origin)),
            ("time_hour", times),
            ("f1", float()),
            ("f2", float()),
            ("f3", float()),
            ("i1", float()),
            ("i2", float()),
            ("i3", float()),
            ("airport", Arc::clone(&origin)),
            ("name", Arc::clone(&origin)),
        ])
    };
    let typed = columns(Arc::new(TimestampMicrosecondArray::from(hours.clone()).with_timezone("UTC")));
    all_accepted(&weather(features.clone()), &typed);
    let later = in_zone(weather(features), "America/New_York", RepeatedHour::Later);
    let mut local: Vec<i64> =
        hours.into_iter().filter(|hour| hour % 86_400_000_000 >= 3 * 3_600_000_000).collect();
    local.resize(ROWS, start);
    let naive = columns(Arc::new(TimestampMicrosecondArray::from(local)));
    all_accepted(&later, &naive);
    let mut as_text = Vec::new();
    for (field, column) in naive.schema().fields().iter().zip(naive.columns()) {
        as_text.push((field.name().clone(), cast(column, &DataType::Utf8).unwrap()));
    }
    let as_text = as_text.iter().map(|(name, column)| (name.as_str(), Arc::clone(column))).collect();
    all_accepted(&later, &batch(as_text));
}
