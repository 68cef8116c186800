//! Each reason with the value that earns it and the sentence that it gets.

use arrow::array::*;
use arrow::compute::cast;
use arrow::datatypes::*;

use super::*;
use crate::Span;

#[test]
fn the_vocabulary_is_frozen() {
    let words: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(
        words.join(" "),
        "null_key null_time time_too_fine nonexistent_time repeated_time time_without_zone time_out_of_range wrong_type \
         null_value nan below_range above_range not_one_of check"
    );
    for reason in Reason::ALL {
        assert_eq!(reason.as_str().parse::<Reason>().as_ref(), Ok(reason));
        assert_eq!(serde_json::to_string(reason).unwrap(), format!("\"{reason}\""));
    }
    assert!("nulls".parse::<Reason>().unwrap_err().to_string().contains("null_key, null_time"));
}

/// One feature, one column; the rows that are rejected, by index, reason and what the message says after the column.
fn expect(feature: Feature, column: ArrayRef, expected: &[(u64, &str, &str)]) {
    let column_name = feature.column.clone();
    let rows = observed(vec![(column_name.as_str(), column)]);
    let view = in_zone(weather(vec![feature]), "America/New_York", RepeatedHour::Refuse);
    let validated = validated(&view, &rows);
    let expected: Vec<(u64, &str, String)> = expected
        .iter()
        .map(|(row, reason, rest)| (*row, *reason, format!("row {row}, column `{column_name}`: {rest}")))
        .collect();
    assert_eq!(
        found(&validated).iter().map(|(row, reason, text)| (*row, *reason, text.clone())).collect::<Vec<_>>(),
        expected
    );
    // A faulty cell is null in the converted rows.
    for (row, ..) in expected {
        assert!(validated.rows().column(3).is_null(row as usize));
    }
}

#[test]
fn ranges_are_inclusive_and_say_the_unit() {
    let wind = || Feature {
        unit: Some("mph".to_owned()),
        ..ranged("wind_speed", "float64", Some(Literal::Int(0)), Some(Literal::Int(200)))
    };
    expect(
        wind(),
        floats(&[
            Some(0.0),
            Some(-0.0),
            Some(200.0),
            Some(1048.36058),
            Some(-1.0),
            None,
            Some(f64::NAN),
            Some(-f64::NAN),
        ]),
        &[
            (3, "above_range", "1048.36058 mph is above 200 mph, the greatest that `weather` accepts"),
            (4, "below_range", "-1.0 mph is below 0 mph, the least that `weather` accepts"),
        ],
    );
    expect(
        Feature { column: "Wind Speed".to_owned(), unit: None, ..wind() },
        texts(&[Some("1048.36")]),
        &[(0, "above_range", "\"1048.36\" is above 200, the greatest that `weather.wind_speed` accepts")],
    );
    // A float32's bound is a float32 too.
    expect(
        ranged("share", "float32", Some(Literal::Float(0.1)), Some(Literal::Float(0.9))),
        floats(&[Some(0.1), Some(0.9), Some(0.91), Some(f64::INFINITY)]),
        &[
            (2, "above_range", "0.91 is above 0.9, the greatest that `weather` accepts"),
            (3, "above_range", "inf is above 0.9, the greatest that `weather` accepts"),
        ],
    );
    let day = |text: &str| Some(Literal::Text(text.to_owned()));
    expect(
        ranged("built", "date", day("1956-01-01"), None),
        texts(&[Some("1956-01-01"), Some("1955-12-31")]),
        &[(1, "below_range", "\"1955-12-31\" is below 1956-01-01, the least that `weather` accepts")],
    );
    expect(
        ranged("seen", "timestamp", None, day("2013-07-09T12:00:00Z")),
        texts(&[Some("2013-07-09T08:00:00"), Some("2013-07-09T12:00:00.000001Z")]),
        &[(
            1,
            "above_range",
            "\"2013-07-09T12:00:00.000001Z\" is above 2013-07-09T12:00:00Z, the greatest that `weather` accepts",
        )],
    );
    expect(
        ranged("price", "decimal(6,2)", day("0.50"), None),
        texts(&[Some("0.5"), Some("0.49")]),
        &[(1, "below_range", "\"0.49\" is below 0.50, the least that `weather` accepts")],
    );
    expect(
        ranged("big", "uint64", None, day("18446744073709551614")),
        Arc::new(UInt64Array::from(vec![u64::MAX - 1, u64::MAX])),
        &[(
            1,
            "above_range",
            "18446744073709551615 is above 18446744073709551614, the greatest that `weather` accepts",
        )],
    );
}

#[test]
fn sets_nulls_and_nan() {
    let text = |text: &str| Literal::Text(text.to_owned());
    expect(
        Feature { one_of: Some(vec![text("N"), text("S")]), ..plain("side", "string") },
        texts(&[Some("N"), None, Some("n"), Some("")]),
        &[
            (2, "not_one_of", "\"n\" is not among the values that `weather` accepts: \"N\", \"S\""),
            (3, "not_one_of", "\"\" is not among the values that `weather` accepts: \"N\", \"S\""),
        ],
    );
    expect(
        Feature { one_of: Some((0..20).map(Literal::Int).collect()), ..plain("count", "int16") },
        Arc::new(Int64Array::from(vec![0, 19, 20])),
        &[(
            2,
            "not_one_of",
            "20 is not among the values that `weather` accepts: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 8 more",
        )],
    );
    expect(
        Feature { one_of: Some(vec![Literal::Bool(true)]), ..plain("flag", "bool") },
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        &[(1, "not_one_of", "false is not among the values that `weather` accepts: true")],
    );
    expect(
        Feature { one_of: Some(vec![Literal::Int(0), Literal::Float(0.5)]), ..plain("half", "float64") },
        floats(&[Some(-0.0), Some(0.5), Some(f64::NAN), Some(0.25)]),
        &[(3, "not_one_of", "0.25 is not among the values that `weather` accepts: 0, 0.5")],
    );
    expect(
        Feature { nullable: false, ..plain("temp", "float64") },
        floats(&[Some(1.0), None]),
        &[(1, "null_value", "null is not accepted by `weather`, which declares nullable = false")],
    );
    expect(
        Feature { nullable: false, ..plain("temp", "float64") },
        new_null_array(&DataType::Null, 1),
        &[(0, "null_value", "null is not accepted by `weather`, which declares nullable = false")],
    );
    // NaN is judged once: neither null nor out of range.
    expect(
        Feature { nan: false, nullable: false, ..ranged("temp", "float32", None, Some(Literal::Int(1))) },
        floats(&[Some(f64::NAN), Some(1.0)]),
        &[(0, "nan", "NaN is not accepted by `weather`, which declares nan = false")],
    );
    // Two rules, two reasons.
    expect(
        Feature { one_of: Some(vec![Literal::Int(1)]), ..ranged("n", "int32", None, Some(Literal::Int(5))) },
        Arc::new(Int32Array::from(vec![1, 9])),
        &[
            (1, "above_range", "9 is above 5, the greatest that `weather` accepts"),
            (1, "not_one_of", "9 is not among the values that `weather` accepts: 1"),
        ],
    );
}

#[test]
fn numbers_stay_what_they_are_or_are_refused() {
    expect(
        plain("n", "int64"),
        floats(&[
            Some(3.0),
            Some(3.5),
            Some(f64::NAN),
            Some(9.3e18),
            Some(i64::MIN as f64),
            Some(f64::INFINITY),
            Some(-0.0),
        ]),
        &[
            (1, "wrong_type", "3.5 is not a whole number, and `weather.n` is int64"),
            (2, "wrong_type", "NaN is not a whole number, and `weather.n` is int64"),
            (
                3,
                "wrong_type",
                "9.3e18 is outside of int64, the type of `weather.n`: -9223372036854775808 to 9223372036854775807",
            ),
            (
                5,
                "wrong_type",
                "inf is outside of int64, the type of `weather.n`: -9223372036854775808 to 9223372036854775807",
            ),
        ],
    );
    expect(
        plain("n", "int8"),
        Arc::new(Int64Array::from(vec![127, 128, -128, -129])),
        &[
            (1, "wrong_type", "128 is outside of int8, the type of `weather.n`: -128 to 127"),
            (3, "wrong_type", "-129 is outside of int8, the type of `weather.n`: -128 to 127"),
        ],
    );
    expect(
        plain("n", "uint64"),
        floats(&[Some(18446744073709549568.0), Some(18446744073709551616.0), Some(-1.0)]),
        &[
            (
                1,
                "wrong_type",
                "1.8446744073709552e19 is outside of uint64, the type of `weather.n`: 0 to 18446744073709551615",
            ),
            (
                2,
                "wrong_type",
                "-1.0 is outside of uint64, the type of `weather.n`: 0 to 18446744073709551615",
            ),
        ],
    );
    let rounded = "would be rounded: float64, the type of `weather.x`, is exact for whole numbers up to 9007199254740992; declare int64";
    expect(
        plain("x", "float64"),
        Arc::new(Int64Array::from(vec![1 << 53, (1 << 53) + 1, (1 << 53) + 2, i64::MAX, i64::MIN])),
        &[
            (1, "wrong_type", &format!("9007199254740993 {rounded}")),
            (3, "wrong_type", &format!("9223372036854775807 {rounded}")),
        ],
    );
    expect(
        plain("x", "float32"),
        Arc::new(UInt32Array::from(vec![1 << 24, (1 << 24) + 1])),
        &[(
            1,
            "wrong_type",
            "16777217 would be rounded: float32, the type of `weather.x`, is exact for whole numbers up to 16777216; declare int64",
        )],
    );
    expect(
        plain("x", "float32"),
        floats(&[Some(0.1), Some(1e39), Some(f64::INFINITY)]),
        &[(1, "wrong_type", "1e39 is outside of float32, the type of `weather.x`")],
    );
    expect(
        plain("n", "int32"),
        texts(&[
            Some("12"),
            Some("12.0"),
            Some("+5"),
            Some("12.5"),
            Some("abc"),
            Some(""),
            Some(" 7"),
            Some("3000000000"),
            None,
        ]),
        &[
            (3, "wrong_type", "\"12.5\" is not a whole number, and `weather.n` is int32"),
            (4, "wrong_type", "\"abc\" is not a number, and `weather.n` is int32"),
            (5, "wrong_type", "\"\" is not a number, and `weather.n` is int32"),
            (6, "wrong_type", "\" 7\" is not a number, and `weather.n` is int32"),
            (
                7,
                "wrong_type",
                "\"3000000000\" is outside of int32, the type of `weather.n`: -2147483648 to 2147483647",
            ),
        ],
    );
    expect(
        plain("x", "float64"),
        texts(&[Some("1e5"), Some("NaN"), Some("inf"), Some("1e999"), Some("1,5"), Some("NA")]),
        &[
            (3, "wrong_type", "\"1e999\" is outside of float64, the type of `weather.x`"),
            (4, "wrong_type", "\"1,5\" is not a number, and `weather.x` is float64"),
            (5, "wrong_type", "\"NA\" is not a number, and `weather.x` is float64"),
        ],
    );
    expect(
        plain("flag", "bool"),
        texts(&[Some("True"), Some("false"), Some("1"), Some("yes")]),
        &[(3, "wrong_type", "\"yes\" is neither true nor false")],
    );
    expect(
        plain("flag", "bool"),
        Arc::new(Int32Array::from(vec![0, 1, 2, -1])),
        &[
            (2, "wrong_type", "2 is neither true nor false"),
            (3, "wrong_type", "-1 is neither true nor false"),
        ],
    );
    expect(
        plain("name", "string"),
        Arc::new(BinaryArray::from(vec![&b"ok"[..], &b"\xff"[..]])),
        &[(1, "wrong_type", "ff is not text in UTF-8")],
    );
}

#[test]
fn decimals_are_exact() {
    expect(
        plain("price", "decimal(5,2)"),
        floats(&[
            Some(0.1),
            Some(12.34),
            Some(0.125),
            Some(999.99),
            Some(1000.0),
            Some(f64::NAN),
            Some(1e300),
        ]),
        &[
            (2, "wrong_type", "0.125 has more than 2 decimals, and `weather.price` is decimal(5,2)"),
            (4, "wrong_type", "1000.0 is outside of decimal(5,2), the type of `weather.price`"),
            (5, "wrong_type", "NaN is outside of decimal(5,2), the type of `weather.price`"),
            (6, "wrong_type", "1e300 is outside of decimal(5,2), the type of `weather.price`"),
        ],
    );
    // A float32 is the decimal of its own shortest digits.
    expect(plain("price", "decimal(5,2)"), Arc::new(Float32Array::from(vec![0.1, 12.34])), &[]);
    expect(
        plain("price", "decimal(5,2)"),
        Arc::new(
            Decimal128Array::from(vec![12_500, 12_505, 99_999_000]).with_precision_and_scale(20, 3).unwrap(),
        ),
        &[
            (1, "wrong_type", "12.505 has more than 2 decimals, and `weather.price` is decimal(5,2)"),
            (2, "wrong_type", "99999.000 is outside of decimal(5,2), the type of `weather.price`"),
        ],
    );
    expect(
        plain("n", "int64"),
        Arc::new(Decimal128Array::from(vec![1200, 1250]).with_precision_and_scale(10, 2).unwrap()),
        &[(1, "wrong_type", "12.50 is not a whole number, and `weather.n` is int64")],
    );
    expect(
        plain("price", "decimal(5,2)"),
        texts(&[Some("1.10"), Some("1.101"), Some("x")]),
        &[
            (1, "wrong_type", "\"1.101\" has more than 2 decimals, and `weather.price` is decimal(5,2)"),
            (2, "wrong_type", "\"x\" is not a number, and `weather.price` is decimal(5,2)"),
        ],
    );
    let rows = observed(vec![("price", floats(&[Some(0.29), Some(-1.005)]))]);
    let converted = validated(&weather(vec![plain("price", "decimal(20,3)")]), &rows);
    assert_eq!(converted.rows().column(3).as_primitive::<Decimal128Type>().values(), &[290, -1005]);
    let rows = observed(vec![(
        "x",
        Arc::new(Decimal128Array::from(vec![1, 29]).with_precision_and_scale(4, 1).unwrap()),
    )]);
    let converted = validated(&weather(vec![plain("x", "float64")]), &rows);
    assert_eq!(converted.rows().column(3).as_primitive::<Float64Type>().values(), &[0.1, 2.9]);
}

#[test]
fn dates_and_times_of_features() {
    expect(
        plain("day", "date"),
        texts(&[
            Some("2013-07-09"),
            Some("2013-07-09 00:00:00"),
            Some("2013-07-09T12:00:00"),
            Some("9.7.2013"),
            Some("2013-07-09T00:00:00Z"),
        ]),
        &[
            (
                2,
                "wrong_type",
                "\"2013-07-09T12:00:00\" is a time within a day, where a date belongs; write it as 2013-07-09",
            ),
            (3, "wrong_type", "\"9.7.2013\" is not a date; write it as 2013-07-09"),
            (
                4,
                "wrong_type",
                "\"2013-07-09T00:00:00Z\" is a time within a day, where a date belongs; write it as 2013-07-09",
            ),
        ],
    );
    expect(
        plain("day", "date"),
        Arc::new(TimestampNanosecondArray::from(vec![86_400_000_000_000, 1_000_000_000])),
        &[(
            1,
            "wrong_type",
            "1970-01-01T00:00:01 is a time within a day, where a date belongs; write it as 2013-07-09",
        )],
    );
    expect(
        plain("day", "date"),
        Arc::new(Date32Array::from(vec![0, i32::MAX])),
        &[(1, "time_out_of_range", "2147483647 is outside of the years 1 to 9999")],
    );
    expect(
        plain("seen", "timestamp"),
        Arc::new(TimestampNanosecondArray::from(vec![1_000, 1_001]).with_timezone("Asia/Tokyo")),
        &[(
            1,
            "time_too_fine",
            "1970-01-01T09:00:00.000001001+09:00 is finer than a microsecond; round it up in the source, for rounding down can leak the future",
        )],
    );
    expect(
        plain("seen", "timestamp"),
        texts(&[Some("soon")]),
        &[(0, "wrong_type", "\"soon\" is not a time; write it as 2013-07-09T12:30:00Z")],
    );
}

/// Times of the row itself, one column `time_hour` beside a good key.
fn expect_times(view: &FeatureView, times: ArrayRef, expected: &[(u64, &str, &str)]) -> Vec<Option<String>> {
    let rows = batch(vec![("origin", texts(&vec![Some("EWR"); times.len()])), ("time_hour", times)]);
    let validated = validated(view, &rows);
    let expected: Vec<(u64, &str, String)> = expected
        .iter()
        .map(|(row, reason, rest)| (*row, *reason, format!("row {row}, column `time_hour`: {rest}")))
        .collect();
    assert_eq!(found(&validated), expected);
    let valid_at = validated.rows().column(1).as_primitive::<TimestampMicrosecondType>().clone();
    valid_at.iter().map(|time| time.map(|time| Timestamp(time).to_string())).collect()
}

fn some(times: &[&str]) -> Vec<Option<String>> {
    times.iter().map(|time| (!time.is_empty()).then(|| (*time).to_owned())).collect()
}

#[test]
fn naive_times_in_the_declared_zone() {
    let naive = |texts: &[&str]| -> ArrayRef {
        let micros: Vec<i64> = texts.iter().map(|text| micros(&format!("{text}Z"))).collect();
        Arc::new(TimestampMicrosecondArray::from(micros))
    };
    let times = [
        "2013-03-10T01:30:00",
        "2013-03-10T02:30:00",
        "2013-03-10T03:30:00",
        "2013-11-03T01:30:00",
        "2013-11-03T02:30:00",
    ];
    let skipped = (
        1,
        "nonexistent_time",
        "2013-03-10T02:30:00 never was in America/New_York, whose clocks skipped it; write it with its offset, or in UTC",
    );
    for (rule, repeated) in [
        (RepeatedHour::Refuse, ""),
        (RepeatedHour::Earlier, "2013-11-03T05:30:00Z"),
        (RepeatedHour::Later, "2013-11-03T06:30:00Z"),
    ] {
        let view = in_zone(weather(vec![]), "America/New_York", rule);
        let mut expected = vec![skipped];
        if rule == RepeatedHour::Refuse {
            expected.push((
                3,
                "repeated_time",
                "2013-11-03T01:30:00 was twice in America/New_York, whose clocks went back; write it with its offset, or declare repeated_hour = \"earlier\" or \"later\"",
            ));
        }
        let instants =
            some(&["2013-03-10T06:30:00Z", "", "2013-03-10T07:30:00Z", repeated, "2013-11-03T07:30:00Z"]);
        assert_eq!(expect_times(&view, naive(&times), &expected), instants);
        // As text, the same times mean the same, in quotes.
        let quoted: Vec<(u64, &str, String)> = expected
            .iter()
            .map(|(row, reason, rest)| {
                let (value, rest) = rest.split_once(' ').unwrap();
                (*row, *reason, format!("{value:?} {rest}"))
            })
            .collect();
        let quoted: Vec<(u64, &str, &str)> =
            quoted.iter().map(|(row, reason, rest)| (*row, *reason, rest.as_str())).collect();
        assert_eq!(expect_times(&view, texts(&times.map(Some)), &quoted), instants);
    }
}

#[test]
fn times_that_are_null_too_fine_too_far_or_without_zone() {
    let view = weather(vec![]);
    assert_eq!(
        expect_times(
            &view,
            texts(&[
                Some("2013-07-09T12:00:00-04:00"),
                Some("2013-07-09T12:00:00"),
                None,
                Some("2013-07-09"),
                Some("2013-07-09T12:00:00.0000001Z")
            ]),
            &[
                (
                    1,
                    "time_without_zone",
                    "\"2013-07-09T12:00:00\" has no zone; write it as 2013-07-09T12:30:00Z, or declare zone in the [time] table"
                ),
                (2, "null_time", "null is not a time; every row of `weather` needs its valid_at"),
                (
                    4,
                    "time_too_fine",
                    "\"2013-07-09T12:00:00.0000001Z\" is finer than a microsecond; round it up in the source, for rounding down can leak the future"
                ),
            ],
        ),
        some(&["2013-07-09T16:00:00Z", "", "", "2013-07-09T00:00:00Z", ""])
    );
    // Nanoseconds are fine where the values are whole microseconds.
    expect_times(
        &view,
        Arc::new(TimestampNanosecondArray::from(vec![1_000, -1_000]).with_timezone("UTC")),
        &[],
    );
    expect_times(
        &view,
        Arc::new(TimestampSecondArray::from(vec![0, i64::MAX, 253_402_300_800]).with_timezone("UTC")),
        &[
            (1, "time_out_of_range", "9223372036854775807 is outside of the years 1 to 9999"),
            (2, "time_out_of_range", "+10000-01-01T00:00:00Z is outside of the years 1 to 9999"),
        ],
    );
    let days = || -> ArrayRef { Arc::new(Date32Array::from(vec![Some(15_895), None])) };
    let null = (1, "null_time", "null is not a time; every row of `weather` needs its valid_at");
    assert_eq!(expect_times(&view, days(), &[null]), some(&["2013-07-09T00:00:00Z", ""]));
    let new_york = in_zone(view.clone(), "America/New_York", RepeatedHour::Refuse);
    assert_eq!(expect_times(&new_york, days(), &[null]), some(&["2013-07-09T04:00:00Z", ""]));
    let millis: ArrayRef = Arc::new(Date64Array::from(vec![15_895 * 86_400_000, 1]));
    assert_eq!(
        expect_times(
            &new_york,
            millis,
            &[(
                1,
                "wrong_type",
                "1970-01-01T00:00:00.001 is a time within a day, where a date belongs; write it as 2013-07-09"
            )]
        ),
        some(&["2013-07-09T04:00:00Z", ""])
    );
}

#[test]
fn known_at_by_each_rule() {
    let last = "9999-12-31T23:59:59.999999Z";
    let rows = batch(vec![
        ("origin", texts(&[Some("EWR"), Some("JFK"), None])),
        ("time_hour", utc(&["2013-07-09T12:00:00Z", last, "2013-07-09T12:00:00Z"])),
        ("seen", texts(&[Some("2013-07-09T11:00:00Z"), None, Some("x")])),
    ]);
    let key = (
        2,
        "null_key",
        "row 2, column `origin`: null is not a key of `airport`; every row needs one".to_owned(),
    );
    let known = |rule: KnownAt, rejected: &[(u64, &'static str, String)]| {
        let mut view = weather(vec![]);
        view.time.known_at = rule;
        let validated = validated(&view, &rows);
        assert_eq!(found(&validated), rejected);
        let accepted = validated.split().unwrap().accepted;
        accepted
            .column_by_name("known_at")
            .map(|known| Timestamp(known.as_primitive::<TimestampMicrosecondType>().value(0)).to_string())
    };
    assert_eq!(known(KnownAt::Arrival, std::slice::from_ref(&key)), None);
    assert_eq!(known(KnownAt::Assumed, std::slice::from_ref(&key)).unwrap(), "2013-07-09T12:00:00Z");
    let far = (
        1,
        "time_out_of_range",
        format!(
            "row 1, column `time_hour`: {last} plus the declared delay is outside of the years 1 to 9999"
        ),
    );
    assert_eq!(
        known(KnownAt::Delay("30m".parse::<Span>().unwrap()), &[far, key.clone()]).unwrap(),
        "2013-07-09T12:30:00Z"
    );
    // Known before it was valid: a forecast or a timetable.
    let null = (
        1,
        "null_time",
        "row 1, column `seen`: null is not a time; every row of `weather` needs its known_at".to_owned(),
    );
    let text = (
        2,
        "wrong_type",
        "row 2, column `seen`: \"x\" is not a time; write it as 2013-07-09T12:30:00Z".to_owned(),
    );
    assert_eq!(
        known(KnownAt::Column("seen".to_owned()), &[null, key, text]).unwrap(),
        "2013-07-09T11:00:00Z"
    );
}

#[test]
fn keys_and_occurrences() {
    let mut view = weather(vec![]);
    view.occurrence = occurrence("flight");
    let rows = batch(vec![
        (
            "origin",
            cast(
                &texts(&[Some("EWR"), Some("EWR"), None]),
                &DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)),
            )
            .unwrap(),
        ),
        ("time_hour", utc(&["2013-07-09T12:00:00Z"; 3])),
        ("flight", floats(&[Some(1.0), None, Some(1.5)])),
    ]);
    let validated = validated(&view, &rows);
    assert_eq!(
        found(&validated),
        [
            (1, "null_key", "row 1, column `flight`: null does not tell occurrences of `weather` apart; every row needs a value".to_owned()),
            (2, "null_key", "row 2, column `origin`: null is not a key of `airport`; every row needs one".to_owned()),
            (2, "wrong_type", "row 2, column `flight`: 1.5 is not a whole number, and `weather.flight` is int64".to_owned()),
        ]
    );
}

#[test]
fn checks_reject_what_is_false() {
    let view =
        weather(vec![plain("gust", "float64"), ranged("wind", "float64", None, Some(Literal::Int(200)))]);
    let rows = observed(vec![
        ("gust", floats(&[Some(5.0), Some(3.0), None, Some(1.0), Some(9.0)])),
        ("wind", floats(&[Some(4.0), Some(4.0), Some(4.0), Some(1048.0), Some(9.0)])),
        ("_retracted", Arc::new(BooleanArray::from(vec![false, false, false, false, true]))),
    ]);
    let mut validated = validated(&view, &rows);
    let check = crate::definition::Check { name: name("gusts"), sql: " gust >= \"wind\" ".to_owned() };
    validated
        .check(&check, &BooleanArray::from(vec![Some(true), Some(false), None, Some(false), Some(false)]))
        .unwrap();
    let other = crate::definition::Check { name: name("later"), sql: "valid_at > now()".to_owned() };
    validated.check(&other, &BooleanArray::from(vec![true, false, true, false, true])).unwrap();
    assert_eq!(
        found(&validated),
        [
            (
                1,
                "check",
                "row 1, check `gusts`: `gust >= \"wind\"` is false, with gust = 3.0, wind = 4.0".to_owned()
            ),
            (
                1,
                "check",
                "row 1, check `later`: `valid_at > now()` is false, with valid_at = 2013-07-09T13:00:00Z"
                    .to_owned()
            ),
            (
                3,
                "above_range",
                "row 3, column `wind`: 1048.0 is above 200, the greatest that `weather` accepts".to_owned()
            ),
            (
                3,
                "check",
                "row 3, check `later`: `valid_at > now()` is false, with valid_at = 2013-07-09T15:00:00Z"
                    .to_owned()
            ),
        ]
    );
    let error = validated.check(&check, &BooleanArray::from(vec![true])).unwrap_err().to_string();
    assert_eq!(error, "the check `gusts` gave 1 results for 5 rows");
    let split = validated.split().unwrap();
    assert_eq!((split.accepted.num_rows(), split.rejected.num_rows(), split.rejections.len()), (3, 2, 4));
}
