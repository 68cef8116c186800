//! `ASOF JOIN` in SQL: over feature views by their whole rule, over anything else the nearest row in time.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use feature::Timestamp;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serving::{Query, Serving};
use storage::environment::TestClock;

use super::cases;
use super::coverage::Coverage;
use super::point_in_time::property;
use super::point_in_time::scenario::How;
use super::stores::{author, memory};
use super::values::{Value, column, cut, read};

const VIEWS: usize = 400;
const PLAIN: usize = 400;

/// In the order of `Case::operator`.
const OPERATORS: [&str; 4] = [">=", ">", "<=", "<"];

#[test]
fn feature_views_are_joined_by_their_whole_rule() {
    let coverage = property("asof join of views", VIEWS, (0..4u8).prop_map(How::Join));
    let reasons = ["null_key_or_time", "unknown_entity", "later", "not_yet_known", "retracted", "found"];
    for reason in reasons {
        coverage.require(5, OPERATORS.map(|operator| format!("{operator} {reason}")));
    }
    coverage.require(10, [">= expired", "> expired"]);
}

/// A row of either side: its key parts and its time.
#[derive(Clone, Debug)]
struct Row {
    keys: [Option<u8>; 2],
    time: Option<u8>,
}

/// Two tables without a view between them.
#[derive(Clone, Debug)]
struct Case {
    left: Vec<Row>,
    right: Vec<Row>,
    /// Key parts that are compared, none to two.
    parts: usize,
    operator: usize,
    using: bool,
    /// How the times of each side lie in memory.
    types: (usize, usize),
    cuts: Vec<u8>,
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let key = || option::weighted(0.93, 0..3u8);
    vec(
        (key(), key(), option::weighted(0.93, 0..10u8)).prop_map(|(a, b, time)| Row { keys: [a, b], time }),
        0..30,
    )
}

fn case() -> impl Strategy<Value = Case> {
    let types = (0..TIMES.len(), 0..TIMES.len());
    (rows(), rows(), 0..3usize, 0..4usize, any::<bool>(), types, vec(any::<u8>(), 0..4)).prop_map(
        |(left, right, parts, operator, using, types, cuts)| Case {
            left,
            right,
            parts,
            operator,
            using,
            types,
            cuts,
        },
    )
}

/// A time in each of these is so many days after 2024-01-01. Integers are compared with integers only.
const TIMES: [fn() -> DataType; 5] = [
    || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    || DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
    || DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
    || DataType::Date32,
    || DataType::Int64,
];

/// 2024-01-01, in days since 1970.
const FIRST_DAY: i64 = 19_723;

fn time_column(rows: &[Row], data_type: &DataType) -> ArrayRef {
    let days = rows.iter().map(|row| row.time.map(|day| FIRST_DAY + i64::from(day)));
    match data_type {
        DataType::Int64 => Arc::new(days.collect::<Int64Array>()),
        _ => {
            let times: Vec<_> = days.map(|day| day.map(|day| Value::Instant(day * 86_400_000_000))).collect();
            let instants = column(&times, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
            cast(&instants, data_type).unwrap()
        }
    }
}

/// The table of one side: `no`, `a`, `b`, `t`. The sides hold the same keys in different types.
fn table(rows: &[Row], times: &DataType, a: &DataType, b: &DataType) -> RecordBatch {
    let of_part = |part: usize, make: fn(u8) -> Value, data_type: &DataType| {
        column(&rows.iter().map(|row| row.keys[part].map(make)).collect::<Vec<_>>(), data_type)
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("no", Arc::new(Int64Array::from_iter_values(0..rows.len() as i64))),
        ("a", of_part(0, |code| Value::text(["x", "", "xy"][usize::from(code)]), a)),
        ("b", of_part(1, |code| Value::Int([0, -1, 7][usize::from(code)]), b)),
        ("t", time_column(rows, times)),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// For each left row the nearest right row, the last of equals. Nulls match nothing.
fn nearest(case: &Case) -> Vec<Option<i128>> {
    let mut answers = Vec::new();
    for left in &case.left {
        let mut best: Option<(u8, usize)> = None;
        for (place, right) in case.right.iter().enumerate() {
            let same =
                (0..case.parts).all(|part| left.keys[part].is_some() && left.keys[part] == right.keys[part]);
            let (Some(at), Some(time)) = (left.time, right.time) else { continue };
            let (holds, back) = match case.operator {
                0 => (at >= time, true),
                1 => (at > time, true),
                2 => (at <= time, false),
                _ => (at < time, false),
            };
            let nearer = best.is_none_or(|(other, _)| if back { time >= other } else { time <= other });
            if same && holds && nearer {
                best = Some((time, place));
            }
        }
        answers.push(best.map(|(_, place)| place as i128));
    }
    answers
}

async fn check(serving: &Serving, case: &Case) -> Result<Coverage, String> {
    let (mut left_time, mut right_time) = (TIMES[case.types.0](), TIMES[case.types.1]());
    if left_time == DataType::Int64 || right_time == DataType::Int64 {
        (left_time, right_time) = (DataType::Int64, DataType::Int64);
    }
    let left = table(&case.left, &left_time, &DataType::Utf8, &DataType::Int16);
    let right = table(&case.right, &right_time, &DataType::Utf8View, &DataType::Int64);
    let on = match (case.parts, case.using) {
        (0, _) => "",
        (1, true) => "USING (a)",
        (1, false) => "ON l.a = r.a",
        (_, true) => "USING (a, b)",
        (_, false) => "ON r.b = l.b AND l.a = r.a",
    };
    let operator = OPERATORS[case.operator];
    let text = format!(
        "SELECT l.no, r.no AS found FROM session.left_side l ASOF JOIN session.right_side r \
         MATCH_CONDITION (l.t {operator} r.t) {on}"
    );
    let told = |why: &str| {
        let table = |batch: &RecordBatch| {
            arrow::util::pretty::pretty_format_batches(std::slice::from_ref(batch)).unwrap()
        };
        format!("{text}: {why}\n{}\n{}", table(&left), table(&right))
    };
    let session =
        serving.session(&catalog::Author::default()).await.map_err(|error| told(&error.to_string()))?;
    session.register("left_side", left.schema(), cut(&left, &case.cuts)).unwrap();
    session.register("right_side", right.schema(), cut(&right, &case.cuts)).unwrap();
    let answer = serving.retrieve_in(&session, Query::sql(&text), &author()).await;
    let answer = answer.map_err(|error| told(&error.to_string()))?;
    let schema = answer.schema.clone();
    let batches = answer.collect().await.map_err(|error| told(&error.to_string()))?;
    let found = concat_batches(&schema, &batches).unwrap();
    let mut found: Vec<_> = read(found.column(0)).into_iter().zip(read(found.column(1))).collect();
    found.sort();
    let expected = nearest(case);
    let expected: Vec<_> = expected
        .into_iter()
        .enumerate()
        .map(|(row, found)| (Some(Value::Int(row as i128)), found.map(Value::Int)))
        .collect();
    if found != expected {
        return Err(told(&format!("expected {expected:?}, got {found:?}")));
    }

    let mut coverage = Coverage::default();
    for (_, found) in &expected {
        coverage.saw(format!("{operator} {}", if found.is_some() { "found" } else { "nothing" }));
    }
    coverage.saw(format!("{} parts", case.parts));
    coverage.saw_if(left_time != right_time, "times of two types");
    let twins = case.right.iter().enumerate().any(|(place, row)| {
        let same = |other: &Row| row.time.is_some() && other.keys == row.keys && other.time == row.time;
        case.right[..place].iter().any(same)
    });
    coverage.saw_if(twins, "right rows of one time");
    coverage.saw_if(case.left.is_empty() || case.right.is_empty(), "an empty side");
    Ok(coverage)
}

#[test]
fn plain_tables_are_joined_to_the_nearest_row_in_time() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let serving = runtime.block_on(memory(&TestClock::new(Timestamp(0))));
    let mut coverage = Coverage::default();
    let cases = cases::run("plain asof joins", PLAIN, &case(), |case| {
        coverage.merge(runtime.block_on(check(&serving, case))?);
        Ok(1)
    });
    assert!(cases >= PLAIN, "only {cases} cases");
    for operator in OPERATORS {
        coverage.require(50, [format!("{operator} found"), format!("{operator} nothing")]);
    }
    let others =
        ["0 parts", "1 parts", "2 parts", "times of two types", "right rows of one time", "an empty side"];
    coverage.require(10, others);
}
