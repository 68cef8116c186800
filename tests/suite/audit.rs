//! The leak audit against a reference, of recorded sets by provenance and of other tables by value.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, UInt64Type};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serving::{Audit, AuditRequest, AuditSetRequest, HistoricalRequest, Kind, Serving};
use storage::environment::TestClock;

use super::cases;
use super::coverage::Coverage;
use super::one_view::{
    Case, ENTITY, Limit, Observation, Set, Step, Value, World, XS, batch_of, case, counts, oldest, times,
    value, winner,
};
use super::stores::{author, count, files, instant, memory, spine};

const SETS: usize = 60;
const TABLES: usize = 60;

async fn world(case: &Case) -> World {
    let mut world = World::new(case).await;
    for step in &case.steps {
        match step {
            Step::Ingest(rows) => world.ingest(rows).await,
            Step::Define(shape) => world.define(shape).await,
            Step::Ask(ask) => world.ask(case, ask).await,
        }
    }
    world
}

/// Zeros are equal, and so are all NaN.
fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(Value::X(one, _)), Some(Value::X(other, _))) => one == other || one.is_nan() && other.is_nan(),
        (one, other) => one == other,
    }
}

/// Leaked, stale and missing cells of a recorded set's column.
fn of_set(history: &[Observation], set: &Set, feature: char) -> [u64; 3] {
    let knowable = Set { limit: Limit::Row, ..set.clone() };
    let mut counts = [0; 3];
    for row in 0..set.rows.len() {
        let won = winner(history, set, row);
        let differs = !same(
            value(history, set, row, feature).as_ref(),
            value(history, &knowable, row, feature).as_ref(),
        );
        let unknown = won
            .zip(set.rows[row].1)
            .is_some_and(|(won, at)| won.valid_at() > i64::from(at) || won.known_at() > i64::from(at));
        if unknown && (differs || set.limit == Limit::Row) {
            counts[0] += 1;
        } else if differs {
            counts[if won.is_some() { 1 } else { 2 }] += 1;
        }
    }
    counts
}

async fn check_sets(case: &Case) -> Result<Coverage, String> {
    let mut coverage = Coverage::default();
    let world = world(case).await;
    for set in &world.sets {
        let audit = world.serving.audit_set(AuditSetRequest::new(set.id), false, &author()).await;
        let audit = audit.map_err(|error| error.to_string())?.report;
        for (feature, column) in set.features.iter().zip(&audit.columns) {
            let expected = of_set(&world.history, set, *feature);
            let found = [column.leaked, column.stale, column.missing];
            let whole = column.knowable + found.iter().sum::<u64>();
            if found != expected || column.unexplained != 0 || whole != set.rows.len() as u64 {
                return Err(format!("{column:?}\nexpected {expected:?}\n{set:?}\n{:#?}", world.history));
            }
            for (count, what) in found.into_iter().zip(["leaked", "stale", "missing"]) {
                coverage.saw_if(count > 0, what);
            }
            let named: u64 = column.batches.iter().map(|batch| batch.cells).sum();
            if named != column.leaked || column.lead.is_some() != (column.leaked > 0) {
                return Err(format!("{named} leaked cells have a batch: {column:?}"));
            }
        }
        if set.limit == Limit::Row && !audit.clean {
            return Err(format!("a set under the limit leaks: {audit:?}"));
        }
        coverage.saw_if(set.limit == Limit::Row, "proved clean");
    }
    Ok(coverage)
}

#[test]
fn recorded_sets_leak_as_the_reference_says() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut coverage = Coverage::default();
    cases::run("audit of sets", SETS, &case(), |case| {
        coverage.merge(runtime.block_on(check_sets(case))?);
        Ok(1)
    });
    coverage.require(10, ["leaked", "stale", "missing", "proved clean"]);
}

/// A table: for each row of the spine the place of the observation that it copies, or a value by its code.
type Cells = Vec<(Option<u8>, Option<u8>)>;

/// Leaked, ambiguous, stale, missing and unexplained cells.
fn of_table(history: &[Observation], set: &Set, given: &[Option<f64>]) -> [u64; 5] {
    let mut found = [0; 5];
    for (row, given) in given.iter().enumerate() {
        let narrow = set.version.shape.narrow;
        let given = given.map(|given| Value::X(given, narrow));
        if same(given.as_ref(), value(history, set, row, 'x').as_ref()) {
            continue;
        }
        if given.is_none() {
            found[3] += 1;
            continue;
        }
        let (Some(key), Some(at), _) = set.rows[row] else {
            found[4] += 1;
            continue;
        };
        let at = i64::from(at);
        let having: Vec<&Observation> = history
            .iter()
            .filter(|seen| {
                let held = seen.row.x.map(|code| Value::X(XS[usize::from(code)], narrow));
                seen.row.key == key
                    && counts(&set.version, seen)
                    && !seen.row.retracted
                    && same(held.as_ref(), given.as_ref())
            })
            .collect();
        let unknown = |seen: &&&Observation| seen.valid_at() > at || seen.known_at() > at;
        let leaked = having.iter().any(|seen| unknown(&seen));
        // The latest that was known says whether it could have been taken for the value.
        let known = having.iter().filter(|seen| !unknown(seen)).map(|seen| seen.valid_at()).max();
        if leaked {
            found[0] += 1;
            found[1] += u64::from(known.is_some_and(|valid_at| valid_at >= oldest(set, at)));
        } else {
            found[if known.is_some() { 2 } else { 4 }] += 1;
        }
    }
    found
}

async fn check_table(case: &Case, cells: &Cells) -> Result<Coverage, String> {
    let mut coverage = Coverage::default();
    let world = world(case).await;
    let version = world.versions.last().unwrap().clone();
    let set = Set {
        id: "01890000-0000-7000-8000-000000000000".parse().unwrap(),
        sequence: u64::MAX,
        ttl: version.shape.ttl,
        limit: Limit::Row,
        features: vec!['x'],
        rows: case.spine.iter().map(|(key, at)| (*key, *at, 0)).collect(),
        version,
    };
    let values: Vec<Option<f64>> = (0..set.rows.len())
        .map(|row| {
            let (copied, code) = cells[row % cells.len()];
            let copied = copied.map(|place| &world.history[usize::from(place) % world.history.len()]);
            let code = copied.map_or(code, |seen| seen.row.x);
            code.map(|code| if code == 9 { -77.0 } else { XS[usize::from(code)] })
        })
        .collect();
    let keys = set.rows.iter().map(|(key, _, _)| key.map(i64::from));
    let table = batch_of(vec![
        ("k", Arc::new(keys.collect::<Int64Array>())),
        ("when", times(set.rows.iter().map(|(_, at, _)| at.map(i64::from)))),
        ("copied", Arc::new(Float64Array::from(values.clone()))),
    ]);
    let mut request = AuditRequest::new(Vec::<String>::new());
    request.columns = BTreeMap::from([("copied".to_owned(), "v.x".to_owned())]);
    let audit = world.serving.audit_table(spine(vec![table]), request, true, &author()).await;
    let audit = audit.map_err(|error| error.to_string())?;
    let column = &audit.report.columns[0];
    let expected = of_table(&world.history, &set, &values);
    let found = [column.leaked, column.ambiguous, column.stale, column.missing, column.unexplained];
    let told = || format!("{set:?}\n{values:?}\n{:#?}", world.history);
    if found != expected {
        return Err(format!("{column:?}\nexpected {expected:?}\n{}", told()));
    }
    for (count, what) in found.into_iter().zip(["leaked", "ambiguous", "stale", "missing", "unexplained"]) {
        coverage.saw_if(count > 0, what);
    }
    coverage.saw_if(column.knowable > 0, "knowable");
    let listed: usize = audit.batches.iter().map(RecordBatch::num_rows).sum();
    if listed as u64 != column.cells - column.knowable {
        return Err(format!("{listed} cells are listed, {column:?}\n{}", told()));
    }
    // What is named as the source has the value, is of the key, and was unknown.
    for batch in &audit.batches {
        let classes = batch.column_by_name("class").unwrap().as_string::<i32>();
        let row = batch.column_by_name("row").unwrap().as_primitive::<UInt64Type>();
        let lead = batch.column_by_name("lead_micros").unwrap().as_primitive::<arrow::datatypes::Int64Type>();
        for place in 0..batch.num_rows() {
            if (classes.value(place) == "leaked") != lead.is_valid(place)
                || lead.is_valid(place) && lead.value(place) <= 0
                || row.value(place) >= set.rows.len() as u64
            {
                return Err(format!("a strange finding: {batch:?}\n{}", told()));
            }
        }
    }
    Ok(coverage)
}

#[test]
fn tables_leak_as_the_reference_says() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut coverage = Coverage::default();
    let code = prop_oneof![9 => 0..5u8, 1 => Just(9u8)];
    let cells = vec((option::weighted(0.7, any::<u8>()), option::weighted(0.8, code)), 24);
    cases::run("audit of tables", TABLES, &(case(), cells), |(case, cells)| {
        coverage.merge(runtime.block_on(check_table(case, cells))?);
        Ok(1)
    });
    coverage.require(10, ["knowable", "leaked", "ambiguous", "stale", "missing", "unexplained"]);
}

/// Two views of one entity, with a feature of the same name.
async fn two_views() -> Serving {
    let clock = TestClock::new(instant("2024-02-01T00:00:00Z"));
    let serving = memory(&clock).await;
    let view = |name: &str| {
        format!(
            "kind = \"feature_view\"\nname = \"{name}\"\nentity = \"thing\"\n[time]\nvalid_at = \"ts\"\nknown_at = {{ delay = \"5s\" }}\n[[features]]\nname = \"x\"\ntype = \"int32\"\n"
        )
    };
    serving
        .apply(files(&[("thing.toml", ENTITY), ("v.toml", &view("v")), ("w.toml", &view("w"))]), &author())
        .await
        .unwrap();
    for (name, first) in [("v", 10i64), ("w", 20)] {
        let table = batch_of(vec![
            ("k", Arc::new(Int64Array::from(vec![1, 1, 1]))),
            ("ts", times([Some(0), Some(10), Some(20)].into_iter())),
            ("x", Arc::new(Int64Array::from(vec![first, first + 1, first + 2]))),
        ]);
        super::stores::ingest(&serving, super::stores::rows(name, vec![table])).await.unwrap();
    }
    serving
}

fn joined(name: &str, values: Vec<Option<f64>>) -> RecordBatch {
    batch_of(vec![
        ("k", Arc::new(Int64Array::from(vec![1, 1, 1]))),
        ("at", times([Some(8), Some(12), Some(30)].into_iter())),
        (name, Arc::new(Float64Array::from(values))),
    ])
}

async fn audited(serving: &Serving, table: RecordBatch, request: AuditRequest) -> serving::Result<Audit> {
    Ok(serving.audit_table(spine(vec![table]), request, false, &author()).await?.report)
}

#[tokio::test]
async fn a_value_is_followed_to_its_batch() {
    let serving = two_views().await;
    // At 8 only 10 is known; at 12 the 11 of 10 is true, and known three seconds later; 12 is known from 25 on.
    let table = joined("x", vec![Some(10.0), Some(11.0), Some(12.0)]);
    let audit = audited(&serving, table, AuditRequest::new(["v.x"])).await.unwrap();
    assert_eq!((audit.leaked_rows, audit.clean, audit.rows), (1, false, 3));
    let column = &audit.columns[0];
    assert_eq!((column.knowable, column.leaked, column.ambiguous), (2, 1, 0));
    let example = &column.examples[0];
    assert_eq!(
        (example.row, example.value.as_deref(), example.knowable.as_deref()),
        (1, Some("11.0"), Some("10"))
    );
    assert_eq!(example.lead, Some(3_000_000));
    assert_eq!(example.known_at.as_deref(), Some("2024-01-01T00:00:15Z"));
    let state = serving.catalog().state();
    let batch = state.batches().find(|batch| batch.by.sequence == column.batches[0].sequence).unwrap();
    assert_eq!(batch.record.batch, column.batches[0].batch);
    serving.flush(&author()).await.unwrap();
    let reads = "SELECT count(*) FROM lineament.log WHERE records LIKE '%reads_recorded%'";
    assert_eq!(count(&serving, reads).await, 1);
    // With a ttl the first of the two would be gone, and so would nothing else.
    let mut request = AuditRequest::new(["v.x"]);
    request.ttl.insert("v".to_owned(), "6s".parse().unwrap());
    let table = joined("x", vec![Some(10.0), None, Some(12.0)]);
    let audit = audited(&serving, table, request).await.unwrap();
    let column = &audit.columns[0];
    assert_eq!((column.knowable, column.stale, column.leaked), (1, 2, 0));
}

#[tokio::test]
async fn columns_are_found_by_name_or_told() {
    let serving = two_views().await;
    let values = vec![Some(10.0), None, Some(12.0)];
    for name in ["x", "v__x"] {
        let audit =
            audited(&serving, joined(name, values.clone()), AuditRequest::new(["v.x"])).await.unwrap();
        assert_eq!((audit.columns[0].column.as_str(), audit.columns[0].missing), (name, 1));
    }
    let both =
        audited(&serving, joined("x", values.clone()), AuditRequest::new(["v.x", "w.x"])).await.unwrap_err();
    assert!(both.to_string().contains("would be both `v@1.x` and `w@1.x`"), "{both}");
    let nowhere =
        audited(&serving, joined("xx", values.clone()), AuditRequest::new(["v.x"])).await.unwrap_err();
    assert_eq!(nowhere.kind(), Kind::NotFound);
    assert!(nowhere.to_string().contains("say which column holds it, as in --map"), "{nowhere}");
    let mut mapped = AuditRequest::new(["v.x"]);
    mapped.columns = BTreeMap::from([("xx".to_owned(), "v.x".to_owned())]);
    assert_eq!(audited(&serving, joined("xx", values.clone()), mapped).await.unwrap().columns.len(), 1);
    let mut missing = AuditRequest::new(Vec::<String>::new());
    missing.columns = BTreeMap::from([("y".to_owned(), "v.x".to_owned())]);
    let error = audited(&serving, joined("xx", values.clone()), missing).await.unwrap_err();
    assert!(error.to_string().contains("the table has no column `y`"), "{error}");
    let mut star = AuditRequest::new(Vec::<String>::new());
    star.columns = BTreeMap::from([("xx".to_owned(), "v.*".to_owned())]);
    let error = audited(&serving, joined("xx", values), star).await.unwrap_err();
    assert!(error.to_string().contains("holds one feature"), "{error}");
}

#[tokio::test]
async fn tables_that_cannot_be_audited_are_refused() {
    let serving = two_views().await;
    let text = batch_of(vec![
        ("k", Arc::new(Int64Array::from(vec![1]))),
        ("at", times([Some(8)].into_iter())),
        ("x", Arc::new(StringArray::from(vec!["ten"]))),
    ]);
    let error = audited(&serving, text.clone(), AuditRequest::new(["v.x"])).await.unwrap_err();
    assert!(error.to_string().contains("cannot be compared"), "{error}");
    let no_key = text.project(&[1, 2]).unwrap();
    let error = audited(&serving, no_key, AuditRequest::new(["v.x"])).await.unwrap_err();
    assert!(error.to_string().contains('k'), "{error}");
    let error = audited(&serving, text.slice(0, 0), AuditRequest::new(["v.x"])).await.unwrap_err();
    assert!(error.to_string().contains("no rows"), "{error}");
    let error = audited(&serving, text, AuditRequest::new(Vec::<String>::new())).await.unwrap_err();
    assert!(error.to_string().contains("no features are named"), "{error}");
    let naive = joined("x", vec![None, None, None]);
    let at = arrow::compute::cast(
        naive.column(1),
        &DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None),
    );
    let naive =
        batch_of(vec![("k", naive.column(0).clone()), ("at", at.unwrap()), ("x", naive.column(2).clone())]);
    let error = audited(&serving, naive, AuditRequest::new(["v.x"])).await.unwrap_err();
    assert!(error.to_string().contains("without a zone"), "{error}");
    let nobody = AuditSetRequest::new("01890000-0000-7000-8000-000000000000".parse().unwrap());
    assert_eq!(serving.audit_set(nobody, false, &author()).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn one_set_with_and_without_the_limit() {
    let serving = two_views().await;
    let table = joined("label", vec![None, None, None]);
    let mut request = HistoricalRequest::new(["v.x"]);
    request.ignore_known_at = true;
    let set = serving.historical(spine(vec![table]), request, &author()).await.unwrap();
    let id = set.report.training_set.unwrap();
    let audit = serving.audit_set(AuditSetRequest::new(id), true, &author()).await.unwrap();
    assert_eq!((audit.report.leaked_rows, audit.report.columns[0].leaked), (1, 1));
    let found = &audit.batches[0];
    assert_eq!(found.num_rows(), 1);
    assert_eq!(found.column_by_name("value").unwrap().as_string::<i32>().value(0), "11");
    assert_eq!(found.column_by_name("knowable").unwrap().as_string::<i32>().value(0), "10");
}
