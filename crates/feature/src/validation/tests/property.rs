//! Random batches against a reference that looks at one row at a time, in plain words.

use arrow::array::*;
use arrow::datatypes::*;
use chrono::{DateTime, MappedLocalTime, TimeZone};
use chrono_tz::America::New_York;
use proptest::prelude::*;

use super::*;
use crate::Span;

/// What a source row holds, before it is put into columns.
#[derive(Clone, Debug)]
struct Row {
    origin: Option<&'static str>,
    /// A clock reading in New York, in minutes since 1970.
    local: Option<i64>,
    /// Nanoseconds since 1970.
    seen: Option<i64>,
    level: Option<f64>,
    count: Option<f64>,
    side: Option<&'static str>,
    price: Option<&'static str>,
    retracted: Option<bool>,
}

#[derive(Clone, Debug)]
struct Rulebook {
    known_at: KnownAt,
    repeated: RepeatedHour,
    nullable: bool,
    nan: bool,
    retractions: bool,
}

/// What the reference expects of one row: everything that is wrong, and the values where nothing is.
#[derive(Clone, PartialEq, Debug, Default)]
struct Verdict {
    wrong: Vec<(&'static str, Reason)>,
    valid_at: Option<i64>,
    known_at: Option<i64>,
    level: Option<f64>,
    count: Option<i8>,
    side: Option<String>,
    price: Option<i128>,
}

fn reference(row: &Row, rules: &Rulebook) -> Verdict {
    let mut verdict = Verdict::default();
    let wrong = &mut verdict.wrong;
    if row.origin.is_none() {
        wrong.push(("origin", Reason::NullKey));
    }
    match row.local {
        None => wrong.push(("time_hour", Reason::NullTime)),
        Some(minutes) => {
            let naive = DateTime::from_timestamp(minutes * 60, 0).unwrap().naive_utc();
            match (New_York.from_local_datetime(&naive), rules.repeated) {
                (MappedLocalTime::Single(at), _) => verdict.valid_at = Some(at.timestamp_micros()),
                (MappedLocalTime::None, _) => wrong.push(("time_hour", Reason::NonexistentTime)),
                (MappedLocalTime::Ambiguous(..), RepeatedHour::Refuse) => {
                    wrong.push(("time_hour", Reason::RepeatedTime))
                }
                (MappedLocalTime::Ambiguous(at, _), RepeatedHour::Earlier)
                | (MappedLocalTime::Ambiguous(_, at), RepeatedHour::Later) => {
                    verdict.valid_at = Some(at.timestamp_micros())
                }
            }
        }
    }
    verdict.known_at = match (&rules.known_at, row.seen) {
        (KnownAt::Column(_), None) => {
            wrong.push(("seen", Reason::NullTime));
            None
        }
        (KnownAt::Column(_), Some(nanos)) if nanos % 1000 != 0 => {
            wrong.push(("seen", Reason::TimeTooFine));
            None
        }
        (KnownAt::Column(_), Some(nanos)) => Some(nanos / 1000),
        (KnownAt::Delay(delay), _) => verdict.valid_at.map(|at| at + delay.micros()),
        (KnownAt::Assumed, _) => verdict.valid_at,
        (KnownAt::Arrival, _) => None,
    };
    if rules.retractions && row.retracted == Some(true) {
        return verdict;
    }
    let null = |wrong: &mut Vec<(&'static str, Reason)>, column: &'static str| {
        if !rules.nullable {
            wrong.push((column, Reason::NullValue));
        }
    };
    match row.level {
        None => null(wrong, "level"),
        Some(level) if level.is_nan() && !rules.nan => wrong.push(("level", Reason::Nan)),
        Some(level) if level < 0.0 => wrong.push(("level", Reason::BelowRange)),
        Some(level) if level > 10.0 => wrong.push(("level", Reason::AboveRange)),
        Some(level) => verdict.level = Some(level),
    }
    match row.count {
        None => null(wrong, "count"),
        Some(count) if count.is_nan() || count != count.trunc() || !(-128.0..=127.0).contains(&count) => {
            wrong.push(("count", Reason::WrongType));
        }
        Some(count) if count > 5.0 => wrong.push(("count", Reason::AboveRange)),
        Some(count) => verdict.count = Some(count as i8),
    }
    match row.side {
        None => null(wrong, "side"),
        Some(side) if side != "N" && side != "S" => wrong.push(("side", Reason::NotOneOf)),
        Some(side) => verdict.side = Some(side.to_owned()),
    }
    match row.price {
        None => null(wrong, "price"),
        Some("1.5") => verdict.price = Some(15),
        Some("-20") => verdict.price = Some(-200),
        Some(_) => wrong.push(("price", Reason::WrongType)),
    }
    if rules.retractions && row.retracted.is_none() {
        wrong.push(("_retracted", Reason::NullValue));
    }
    verdict
}

/// Mostly good values, so that some rows are accepted.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    use proptest::sample::select;
    let spring = micros("2013-03-10T00:00:00Z") / 60_000_000;
    let autumn = micros("2013-11-03T00:00:00Z") / 60_000_000;
    let local = prop_oneof![
        1 => Just(None),
        8 => (0..300i64).prop_map(move |minute| Some(spring + minute)),
        8 => (0..300i64).prop_map(move |minute| Some(autumn + minute)),
        20 => (0..200_000i64).prop_map(move |minute| Some(spring + 600 + minute)),
    ];
    let floats = || {
        select(vec![
            None,
            Some(f64::NAN),
            Some(-1.0),
            Some(-0.0),
            Some(3.5),
            Some(5.0),
            Some(10.0),
            Some(10.1),
            Some(300.0),
        ])
    };
    let row = (
        prop_oneof![1 => Just(None), 9 => select(vec![Some("EWR"), Some("JFK")])],
        local,
        prop_oneof![1 => Just(None), 1 => Just(Some(1_001)), 8 => (0..1_000_000i64).prop_map(|n| Some(n * 1000))],
        prop_oneof![2 => floats(), 3 => Just(Some(1.0))],
        prop_oneof![2 => floats(), 3 => Just(Some(2.0))],
        prop_oneof![1 => select(vec![None, Some("n"), Some("")]), 4 => select(vec![Some("N"), Some("S")])],
        prop_oneof![1 => select(vec![None, Some("1.55"), Some("x"), Some("1000")]), 4 => select(vec![Some("1.5"), Some("-20")])],
        prop_oneof![1 => Just(None), 8 => any::<bool>().prop_map(Some)],
    );
    let row = row.prop_map(|(origin, local, seen, level, count, side, price, retracted)| Row {
        origin,
        local,
        seen,
        level,
        count,
        side,
        price,
        retracted,
    });
    proptest::collection::vec(row, 0..40)
}

fn rulebooks() -> impl Strategy<Value = Rulebook> {
    let known_at = prop_oneof![
        Just(KnownAt::Column("seen".to_owned())),
        Just(KnownAt::Delay("30m".parse::<Span>().unwrap())),
        Just(KnownAt::Assumed),
        Just(KnownAt::Arrival),
    ];
    let repeated =
        prop_oneof![Just(RepeatedHour::Refuse), Just(RepeatedHour::Earlier), Just(RepeatedHour::Later)];
    (known_at, repeated, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(known_at, repeated, nullable, nan, retractions)| Rulebook {
            known_at,
            repeated,
            nullable,
            nan,
            retractions,
        },
    )
}

fn view_of(rules: &Rulebook) -> FeatureView {
    let text = |text: &str| Literal::Text(text.to_owned());
    let mut features = vec![
        Feature {
            nan: rules.nan,
            ..ranged("level", "float64", Some(Literal::Int(0)), Some(Literal::Int(10)))
        },
        ranged("count", "int8", None, Some(Literal::Int(5))),
        Feature { one_of: Some(vec![text("N"), text("S")]), ..plain("side", "string") },
        plain("price", "decimal(4,1)"),
    ];
    for feature in &mut features {
        feature.nullable = rules.nullable;
    }
    let mut view = in_zone(weather(features), "America/New_York", rules.repeated);
    view.time.known_at = rules.known_at.clone();
    view
}

fn source_of(rows: &[Row], rules: &Rulebook) -> RecordBatch {
    let local: TimestampSecondArray = rows.iter().map(|row| row.local.map(|minutes| minutes * 60)).collect();
    let seen: TimestampNanosecondArray = rows.iter().map(|row| row.seen).collect();
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("price", Arc::new(rows.iter().map(|row| row.price).collect::<LargeStringArray>())),
        ("level", Arc::new(rows.iter().map(|row| row.level).collect::<Float64Array>())),
        ("count", Arc::new(rows.iter().map(|row| row.count).collect::<Float64Array>())),
        ("seen", Arc::new(seen.with_timezone("Asia/Tokyo"))),
        ("time_hour", Arc::new(local)),
        ("origin", Arc::new(rows.iter().map(|row| row.origin).collect::<StringArray>())),
        ("side", Arc::new(rows.iter().map(|row| row.side).collect::<DictionaryArray<Int8Type>>())),
    ];
    if rules.retractions {
        columns
            .push(("_retracted", Arc::new(rows.iter().map(|row| row.retracted).collect::<BooleanArray>())));
    }
    batch(columns)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn rows_are_judged_as_one_by_one(rows in rows(), rules in rulebooks(), first_row in 0u64..1000) {
        // A slice of a longer batch, as readers often hand over.
        let before = Row {
            origin: None, local: None, seen: None, level: None, count: None, side: Some("X"), price: Some("x"), retracted: Some(true),
        };
        let padded: Vec<Row> = std::iter::once(before).chain(rows.iter().cloned()).collect();
        let source = source_of(&padded, &rules).slice(1, rows.len());
        let validator = Validator::new(&airport(), &view_of(&rules), &source.schema()).unwrap();
        let validated = validator.validate(&source, first_row).unwrap();
        let converted = validated.rows().clone();
        let split = validated.split().unwrap();

        let verdicts: Vec<Verdict> = rows.iter().map(|row| reference(row, &rules)).collect();
        let mut expected = Vec::new();
        for (index, verdict) in verdicts.iter().enumerate() {
            for (column, reason) in &verdict.wrong {
                expected.push((first_row + index as u64, index, (*column).to_owned(), *reason));
            }
        }
        let found: Vec<_> =
            split.rejections.iter().map(|found| (found.row, found.index, found.column.to_string(), found.reason)).collect();
        prop_assert_eq!(found, expected);

        // Every row is on one side, in its order.
        let rejected = split.rejected.column_by_name(ROW).unwrap().as_primitive::<UInt64Type>().values().to_vec();
        let wrong: Vec<u64> =
            (0..rows.len()).filter(|index| !verdicts[*index].wrong.is_empty()).map(|index| first_row + index as u64).collect();
        prop_assert_eq!(rejected, wrong);
        let accepted: Vec<usize> = (0..rows.len()).filter(|index| verdicts[*index].wrong.is_empty()).collect();
        prop_assert_eq!(split.accepted.num_rows(), accepted.len());

        // Values, of accepted rows and of the others too: what is faulty is null, what is not is kept.
        for (batch, indexes) in [(&split.accepted, accepted), (&converted, (0..rows.len()).collect())] {
            for (position, index) in indexes.into_iter().enumerate() {
                let cell = |column: &str| batch.column_by_name(column).unwrap().slice(position, 1);
                let time = |column: &str| cell(column).as_primitive::<TimestampMicrosecondType>().iter().next().flatten();
                let verdict = &verdicts[index];
                let text = |column: &str| {
                    cell(column).as_string::<i32>().iter().next().flatten().map(str::to_owned)
                };
                prop_assert_eq!(text("origin"), rows[index].origin.map(str::to_owned));
                prop_assert_eq!(time("valid_at"), verdict.valid_at);
                if rules.known_at == KnownAt::Arrival {
                    prop_assert!(batch.column_by_name("known_at").is_none());
                } else {
                    prop_assert_eq!(time("known_at"), verdict.known_at);
                }
                let level = cell("level").as_primitive::<Float64Type>().iter().next().flatten();
                prop_assert_eq!(level.map(f64::to_bits), verdict.level.map(f64::to_bits));
                prop_assert_eq!(cell("count").as_primitive::<Int8Type>().iter().next().flatten(), verdict.count);
                prop_assert_eq!(text("side"), verdict.side.clone());
                prop_assert_eq!(cell("price").as_primitive::<Decimal128Type>().iter().next().flatten(), verdict.price);
            }
        }
    }
}
