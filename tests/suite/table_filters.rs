//! A condition on a feature view's table, or on its history, gives the rows that it gives of a full copy: whatever files and pages are
//! left unread for it, and whatever was corrected or retracted.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::DataType;
use catalog::ingest::Claim;
use feature::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use serving::{Query, Serving};

use super::coverage::Coverage;
use super::point_in_time::scenario::{self, Batch, View};
use super::point_in_time::world::{Known, World, beginning, key_name, key_type, time_type};
use super::stores::{author, claimed, files, ingest, memory, rows, select};
use super::values::{Value, column, read};
use super::{cases, one_view};

/// A condition in small numbers, given their meaning by the columns of the table.
#[derive(Clone, Debug)]
enum Condition {
    Compare {
        column: u8,
        operator: u8,
        value: u8,
    },
    Between {
        column: u8,
        from: u8,
        until: u8,
        not: bool,
    },
    Listed {
        column: u8,
        values: Vec<u8>,
        not: bool,
    },
    Null {
        column: u8,
        not: bool,
    },
    /// Something that a scan does not compare row by row.
    Computed {
        column: u8,
        value: u8,
    },
    /// Two columns, the same one perhaps.
    Columns {
        one: u8,
        other: u8,
    },
    Not(Box<Condition>),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
}

fn condition() -> impl Strategy<Value = Condition> {
    // Mostly the first columns, which are keys and times.
    let column = || prop_oneof![3 => 0..4u8, 1 => any::<u8>()];
    let value = || 0..12u8;
    let plain = prop_oneof![
        6 => (column(), 0..8u8, value())
            .prop_map(|(column, operator, value)| Condition::Compare { column, operator, value }),
        2 => (column(), value(), value(), prop::bool::weighted(0.3))
            .prop_map(|(column, from, until, not)| Condition::Between { column, from, until, not }),
        2 => (column(), vec(value(), 1..5), prop::bool::weighted(0.3))
            .prop_map(|(column, values, not)| Condition::Listed { column, values, not }),
        // Longer than what is compared value by value.
        1 => (column(), vec(value(), 24..30))
            .prop_map(|(column, values)| Condition::Listed { column, values, not: false }),
        1 => (column(), any::<bool>()).prop_map(|(column, not)| Condition::Null { column, not }),
        1 => (column(), value()).prop_map(|(column, value)| Condition::Computed { column, value }),
        1 => (column(), column()).prop_map(|(one, other)| Condition::Columns { one, other }),
    ];
    plain.prop_recursive(3, 12, 2, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            1 => inner.prop_map(|of| Condition::Not(Box::new(of))),
            3 => pair.clone().prop_map(|(one, other)| Condition::And(Box::new(one), Box::new(other))),
            2 => pair.prop_map(|(one, other)| Condition::Or(Box::new(one), Box::new(other))),
        ]
    })
}

/// A column that a condition may name.
struct Column {
    name: String,
    kind: DataType,
}

fn columns_of(view: &Known, history: bool) -> Vec<Column> {
    let column = |name: &str, kind: DataType| Column { name: name.to_owned(), kind };
    let mut columns: Vec<Column> =
        view.keys.iter().map(|key| column(key_name(*key), key_type(*key).1)).collect();
    columns.push(column("valid_at", time_type()));
    if view.has_occurrence() {
        columns.push(column("occurrence", DataType::Int64));
    }
    if history {
        columns.push(column("known_at", time_type()));
        columns.push(column("sequence", DataType::UInt64));
        columns.push(column("retracted", DataType::Boolean));
        columns.push(column("row", DataType::UInt64));
    }
    for feature in &view.newest().features {
        columns.push(Column { name: view.feature_name(*feature), kind: view.feature_arrow(*feature) });
    }
    columns
}

/// A constant of a type, as SQL writes it: values that stores have among others.
fn constant(world: &World, kind: &DataType, code: u8) -> String {
    let place = usize::from(code);
    let instant = |micros: i64| format!("TIMESTAMP '{}'", Timestamp(micros));
    match kind {
        DataType::Utf8 => ["'a'", "''", "'ab'", "'b'", "'x'", "'é'"][place % 6].to_owned(),
        DataType::Boolean => ["true", "false"][place % 2].to_owned(),
        DataType::Date32 => {
            ["DATE '1970-01-01'", "DATE '2024-03-18'", "DATE '1969-12-31'", "DATE '2022-01-08'"][place % 4]
                .to_owned()
        }
        // Finer than what is stored, too.
        DataType::Timestamp(..) if place == 11 => "TIMESTAMP '2024-01-01T00:00:00.000000001Z'".to_owned(),
        DataType::Timestamp(..) if place == 10 => instant(-1),
        DataType::Timestamp(..) => instant(world.time(code * 3, (code % 3) as i8 - 1)),
        DataType::Decimal128(..) => {
            ["1.23", "0.50", "-1.00", "1.00", "-2.5", "0", "9999.99"][place % 7].to_owned()
        }
        DataType::Binary => ["X'01'", "X''", "X'01ff'", "X'02'"][place % 4].to_owned(),
        DataType::Float64 => ["0.5", "CAST('-0' AS DOUBLE)", "0.0", "CAST('NaN' AS DOUBLE)", "-1.5", "1e300"]
            [place % 6]
            .to_owned(),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            ["7", "0", "200", "1", "2", "3"][place % 6].to_owned()
        }
        _ => ["7", "0", "-1", "1", "-5", "127"][place % 6].to_owned(),
    }
}

fn sql(world: &World, columns: &[Column], condition: &Condition) -> String {
    let column = |code: &u8| &columns[usize::from(*code) % columns.len()];
    let name = |code: &u8| format!("\"{}\"", column(code).name);
    let value = |of: &u8, code: &u8| constant(world, &column(of).kind, *code);
    let not = |not: &bool| if *not { "NOT " } else { "" };
    match condition {
        Condition::Compare { column, operator, value: code } => {
            let operators = ["=", "=", "<>", "<", "<=", ">", ">=", "IS NOT DISTINCT FROM"];
            format!("{} {} {}", name(column), operators[usize::from(*operator) % 8], value(column, code))
        }
        Condition::Between { column, from, until, not: negated } => {
            let (from, until) = (value(column, from), value(column, until));
            format!("{} {}BETWEEN {from} AND {until}", name(column), not(negated))
        }
        Condition::Listed { column, values, not: negated } => {
            let values: Vec<String> = values.iter().map(|code| value(column, code)).collect();
            format!("{} {}IN ({})", name(column), not(negated), values.join(", "))
        }
        Condition::Null { column, not: negated } => format!("{} IS {}NULL", name(column), not(negated)),
        Condition::Computed { column, value: code } => {
            let (name, value) = (name(column), value(column, code));
            format!("CASE WHEN {name} = {value} THEN 1 ELSE 0 END = 1")
        }
        Condition::Columns { one, other } if column(one).kind == column(other).kind => {
            format!("{} <= {}", name(one), name(other))
        }
        Condition::Columns { one, .. } => format!("{0} = {0}", name(one)),
        Condition::Not(of) => format!("NOT ({})", sql(world, columns, of)),
        Condition::And(one, other) => {
            format!("({}) AND ({})", sql(world, columns, one), sql(world, columns, other))
        }
        Condition::Or(one, other) => {
            format!("({}) OR ({})", sql(world, columns, one), sql(world, columns, other))
        }
    }
}

async fn read_rows(serving: &Serving, query: &str) -> Result<Vec<Vec<Option<Value>>>, String> {
    let (_, batches) = select(serving, query).await.map_err(|error| format!("{query}: {error}"))?;
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<Vec<Option<Value>>> = batch.columns().iter().map(read).collect();
        rows.extend(
            (0..batch.num_rows()).map(|row| columns.iter().map(|column| column[row].clone()).collect()),
        );
    }
    rows.sort();
    Ok(rows)
}

/// What a query says of itself when it runs.
async fn analysed(serving: &Serving, query: &str) -> String {
    let answer = serving.retrieve(Query::sql(format!("EXPLAIN ANALYZE {query}")), &author()).await;
    let batches = answer.unwrap().collect().await.unwrap();
    arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string()
}

async fn check(
    view: &View,
    later: &[Batch],
    asked: &[(bool, Condition)],
) -> Result<(Coverage, usize), String> {
    let mut world = World::new(1, std::slice::from_ref(view)).await;
    for batch in later {
        world.ingest(0, batch).await;
    }
    let mut coverage = Coverage::default();
    for (history, condition) in asked {
        let known = &world.views[0];
        let columns = columns_of(known, *history);
        let table = if *history { format!("history('{}')", known.name) } else { known.name.clone() };
        let names: Vec<String> = columns.iter().map(|column| format!("\"{}\"", column.name)).collect();
        let (names, filter) = (names.join(", "), sql(&world, &columns, condition));
        let filtered = format!("SELECT {names} FROM {table} WHERE {filter}");
        // No condition goes below a number that all rows get.
        let copy = format!(
            "SELECT {names} FROM (SELECT *, row_number() OVER () AS numbered FROM {table}) WHERE {filter}"
        );
        let (found, expected) =
            (read_rows(&world.serving, &filtered).await?, read_rows(&world.serving, &copy).await?);
        if found != expected {
            return Err(format!("{filtered}\ngave {found:?}\nof the copy {expected:?}"));
        }
        // A column that the condition alone names need not be given, and the first rows are some of all.
        let some = read_rows(&world.serving, &format!("SELECT count(*) FROM {table} WHERE {filter}")).await?;
        if some != [[Some(Value::Int(expected.len() as i128))]] {
            return Err(format!("count(*) of {filtered} gave {some:?}, not {}", expected.len()));
        }
        let first = read_rows(&world.serving, &format!("{filtered} LIMIT 2")).await?;
        if first.len() != expected.len().min(2) || !first.iter().all(|row| expected.contains(row)) {
            return Err(format!("{filtered} LIMIT 2 gave {first:?} of {expected:?}"));
        }
        let told = analysed(&world.serving, &filtered).await;
        let some = |meter: &str| {
            told.split(meter).skip(1).any(|rest| rest.starts_with(|digit: char| ('1'..='9').contains(&digit)))
        };
        coverage.saw_if(some("files_pruned="), "files that manifests rule out");
        coverage.saw_if(some("rows_pruned="), "pages that statistics rule out");
        coverage.saw_if(told.contains("FilterExec"), "a condition that stays above");
        coverage.saw_if(
            !expected.is_empty() && some("files_pruned="),
            "rows in spite of files that are ruled out",
        );
        coverage.saw_if(*history, "a history");
        coverage.saw_if(known.has_occurrence() && !expected.is_empty(), "occurrences");
    }
    Ok((coverage, asked.len()))
}

/// What only the log knows is called so in a history, and features may be called so too.
#[tokio::test(flavor = "multi_thread")]
async fn features_may_have_the_names_of_what_the_log_knows() {
    let serving = memory(&beginning()).await;
    let mut view = "kind = \"feature_view\"\nname = \"v\"\nentity = \"thing\"\n".to_owned();
    view += "[time]\nvalid_at = \"ts\"\nknown_at = \"assumed\"\n";
    let names = ["row", "file", "batch", "retracted"];
    for name in names {
        view += &format!("[[features]]\nname = \"{name}\"\ntype = \"int64\"\n");
    }
    let definitions = files(&[("thing.toml", one_view::ENTITY), ("v.toml", &view)]);
    serving.apply(definitions, &author()).await.unwrap();
    for first in [0, 100] {
        let numbers = |from: i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values([from, from + 1])) };
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("k", numbers(1)),
            ("ts", column(&[Some(Value::Instant(0)), Some(Value::Instant(0))], &time_type())),
        ];
        columns.extend(names.into_iter().zip(0..).map(|(name, place)| (name, numbers(first + 10 * place))));
        let request = claimed(rows("v", vec![one_view::batch_of(columns)]), Claim::BackFill);
        ingest(&serving, request).await.unwrap();
    }
    let found = read_rows(&serving, "SELECT \"row\", file, batch, retracted FROM v WHERE k = 2").await;
    let expected = [101, 111, 121, 131].map(|value| Some(Value::Int(value)));
    assert_eq!(found.unwrap(), [expected]);
}

/// Bounds of a file or a page say nothing of what a cast makes of the values between them.
#[tokio::test(flavor = "multi_thread")]
async fn casts_that_do_not_keep_the_order_leave_nothing_out() {
    let serving = memory(&beginning()).await;
    let mut view = "kind = \"feature_view\"\nname = \"v\"\nentity = \"thing\"\n".to_owned();
    view +=
        "[time]\nvalid_at = \"ts\"\nknown_at = \"assumed\"\n[[features]]\nname = \"x\"\ntype = \"int64\"\n";
    let definitions = files(&[("thing.toml", one_view::ENTITY), ("v.toml", &view)]);
    serving.apply(definitions, &author()).await.unwrap();
    // From five in the morning to four in the morning, with an afternoon between.
    let hour = 3_600_000_000;
    let times = [5, 14, 28].map(|hours| Some(Value::Instant(hours * hour)));
    let numbers = |of: [i64; 3]| -> ArrayRef { Arc::new(Int64Array::from_iter_values(of)) };
    let batch = one_view::batch_of(vec![
        ("k", numbers([1, 2, 3])),
        ("ts", column(&times, &time_type())),
        ("x", numbers([-1, 0, 100_000])),
    ]);
    ingest(&serving, claimed(rows("v", vec![batch]), Claim::BackFill)).await.unwrap();
    for (condition, key) in [
        ("CAST(valid_at AS TIME) >= TIME '12:00:00'", 2),
        ("CAST(x AS BOOLEAN) IS NOT TRUE", 2),
        ("TRY_CAST(x AS SMALLINT) IS NULL", 3),
        // These keep it.
        ("CAST(valid_at AS DATE) > DATE '1970-01-01'", 3),
        ("CAST(x AS DOUBLE) > 0.5", 3),
    ] {
        for table in ["v", "history('v')"] {
            let found = read_rows(&serving, &format!("SELECT k FROM {table} WHERE {condition}")).await;
            assert_eq!(found.unwrap(), [[Some(Value::Int(key))]], "{table}: {condition}");
        }
    }
}

/// More batches than files are held open for.
#[tokio::test(flavor = "multi_thread")]
async fn many_small_batches_give_what_the_rule_says_of_their_history() {
    let shape = one_view::Shape { ttl: None, default: None, has_z: false, narrow: false };
    let row = |batch: u8, place: u8| one_view::Row {
        key: (batch + place) % 3,
        valid_at: batch % 7 + place,
        known: (batch / 7 + place * 3) % 5,
        retracted: (batch + place).is_multiple_of(5),
        x: Some(place % 3),
        y: Some(batch % 5),
        z: None,
    };
    let case = one_view::Case { first: shape, rows: vec![row(0, 0)], spine: Vec::new(), steps: Vec::new() };
    let mut world = one_view::World::new(&case).await;
    for batch in 1..150 {
        world.ingest(&[row(batch, 0), row(batch, 1), row(batch, 2), row(batch, 3)]).await;
    }
    let survivors = "SELECT k, valid_at, x, y FROM (SELECT *, row_number() OVER (PARTITION BY k, valid_at \
                     ORDER BY known_at DESC, sequence DESC, \"row\" DESC) AS newest_first FROM history('v')) \
                     WHERE newest_first = 1 AND NOT retracted";
    for condition in ["true", "k = 1", "valid_at >= TIMESTAMP '2024-01-01T00:00:08Z'"] {
        let table = format!("SELECT k, valid_at, x, y FROM v WHERE {condition}");
        let found = read_rows(&world.serving, &table).await.unwrap();
        let expected = read_rows(&world.serving, &format!("{survivors} AND {condition}")).await.unwrap();
        assert!(!found.is_empty());
        assert_eq!(found, expected, "{condition}");
    }
}

#[test]
fn a_condition_gives_the_rows_that_it_gives_of_a_full_copy() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let strategy =
        (scenario::view(), vec(scenario::batch(), 0..4), vec((prop::bool::weighted(0.3), condition()), 1..8));
    let mut coverage = Coverage::default();
    cases::run("table filters", 300, &strategy, |(view, later, asked)| {
        let (met, cases) = runtime.block_on(check(view, later, asked))?;
        coverage.merge(met);
        Ok(cases)
    });
    coverage.require(
        10,
        [
            "files that manifests rule out",
            "pages that statistics rule out",
            "a condition that stays above",
            "rows in spite of files that are ruled out",
            "a history",
            "occurrences",
        ],
    );
}
