//! Diff against a reference: random histories of one view, sets of them recorded in between, and every pair of sets compared
//! by one loop over rows and columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::UInt64Type;
use feature::TrainingSetId;
use serving::{DiffRequest, HistoricalRequest, Kind, RowChange};
use storage::environment::TestClock;

use super::cases;
use super::coverage::Coverage;
use super::one_view::{
    Case, ENTITY, Observation, Row, Set, Shape, Step, Value, World, batch_of, case, counts, cut, oldest,
    times, value, winner,
};
use super::stores::{author, count, files, instant, memory, spine};

const CASES: usize = 120;

fn class(a: Option<&Value>, b: Option<&Value>) -> Option<&'static str> {
    match (a, b) {
        (None, None) => None,
        (None, Some(_)) => Some("null_to_value"),
        (Some(_), None) => Some("value_to_null"),
        (Some(Value::X(one, narrow)), Some(Value::X(other, other_narrow))) => {
            if one.is_nan() != other.is_nan() {
                Some("nan")
            } else if !one.is_nan() && one != other {
                Some("value")
            } else if !one.is_nan() && one.to_bits() != other.to_bits() {
                Some("zero_sign")
            } else if narrow != other_narrow {
                Some("type")
            } else {
                None
            }
        }
        (Some(one), Some(other)) => (one != other).then_some("value"),
    }
}

/// Why a set could not take an observation that another took.
fn excluded(set: &Set, row: usize, seen: &Observation, rival: Option<&Observation>) -> Option<&'static str> {
    let at = i64::from(set.rows[row].1?);
    if seen.line != set.version.line {
        Some("other_version")
    } else if seen.sequence > set.sequence {
        let corrects = rival.is_some_and(|rival| rival.valid_at() == seen.valid_at());
        Some(if corrects { "correction" } else { "newer_data" })
    } else if !counts(&set.version, seen) {
        Some("other_version")
    } else if seen.known_at() > cut(set, at) {
        Some("knowledge")
    } else if seen.valid_at() < oldest(set, at) {
        Some("ttl")
    } else {
        None
    }
}

fn cause(history: &[Observation], (a, b): (&Set, &Set), (row_a, row_b): (usize, usize)) -> &'static str {
    let (one, other) = (winner(history, a, row_a), winner(history, b, row_b));
    if one.map(|seen| seen.received) == other.map(|seen| seen.received) {
        return "definition";
    }
    let why = other.and_then(|seen| excluded(a, row_a, seen, one));
    why.or_else(|| one.and_then(|seen| excluded(b, row_b, seen, other))).unwrap_or("unexplained")
}

type Cell = (u64, u64, String, String, String);

#[derive(Debug, Default, PartialEq)]
struct Expected {
    matched: u64,
    added: u64,
    removed: u64,
    moved: u64,
    cells: Vec<Cell>,
}

fn expected(history: &[Observation], a: &Set, b: &Set) -> Expected {
    let mut expected = Expected::default();
    let mut met = vec![false; b.rows.len()];
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for (row, (key, at, _)) in a.rows.iter().enumerate() {
        let found = (0..b.rows.len())
            .find(|other| !met[*other] && (b.rows[*other].0, b.rows[*other].1) == (*key, *at));
        match found {
            Some(other) => {
                met[other] = true;
                pairs.push((row, other));
            }
            None => expected.removed += 1,
        }
    }
    expected.matched = pairs.len() as u64;
    expected.added = met.iter().filter(|met| !**met).count() as u64;
    // The longest ascending run that ends with each pair.
    let mut longest = vec![1u64; pairs.len()];
    for end in 0..pairs.len() {
        for before in 0..end {
            if pairs[before].1 < pairs[end].1 {
                longest[end] = longest[end].max(longest[before] + 1);
            }
        }
    }
    expected.moved = pairs.len() as u64 - longest.iter().copied().max().unwrap_or(0);
    for (row_a, row_b) in pairs {
        let mut add = |column: &str, class: &str, cause: &str| {
            let cell = (row_a as u64, row_b as u64, column.to_owned(), class.to_owned(), cause.to_owned());
            expected.cells.push(cell);
        };
        if a.rows[row_a].2 != b.rows[row_b].2 {
            add("label", "value", "spine");
        }
        for feature in a.features.iter().filter(|feature| b.features.contains(feature)) {
            let one = value(history, a, row_a, *feature);
            let other = value(history, b, row_b, *feature);
            if let Some(class) = class(one.as_ref(), other.as_ref()) {
                add(&feature.to_string(), class, cause(history, (a, b), (row_a, row_b)));
            }
        }
    }
    expected.cells.sort();
    expected
}

fn texts(batch: &RecordBatch, name: &str) -> Vec<String> {
    let column = batch.column_by_name(name).unwrap().as_string::<i32>();
    column.iter().map(|text| text.unwrap().to_owned()).collect()
}

fn numbers(batch: &RecordBatch, name: &str) -> Vec<u64> {
    batch.column_by_name(name).unwrap().as_primitive::<UInt64Type>().values().to_vec()
}

async fn compare(world: &World, a: &Set, b: &Set, coverage: &mut Coverage) -> Result<(), String> {
    let expected = expected(&world.history, a, b);
    let found = world.serving.diff(DiffRequest::new(a.id, b.id), true, &author()).await;
    let found = found.map_err(|error| error.to_string())?;
    let report = &found.report;
    let mut cells: Vec<Cell> = Vec::new();
    for batch in &found.batches {
        let (row_a, row_b) = (numbers(batch, "row_a"), numbers(batch, "row_b"));
        let [column, class, cause] = ["column", "class", "cause"].map(|name| texts(batch, name));
        for row in 0..batch.num_rows() {
            let cell = (row_a[row], row_b[row], column[row].clone(), class[row].clone(), cause[row].clone());
            cells.push(cell);
        }
    }
    cells.sort();
    let got = Expected {
        matched: report.rows.matched,
        added: report.rows.added,
        removed: report.rows.removed,
        moved: report.rows.moved,
        cells,
    };
    let told = || format!("{a:?}\n{b:?}\n{:#?}", world.history);
    if got != expected {
        return Err(format!("expected {expected:#?}\ngot {got:#?}\n{}", told()));
    }
    let mut counted: BTreeMap<(String, String, String), u64> = BTreeMap::new();
    for (_, _, column, class, cause) in &expected.cells {
        coverage.saw(class);
        coverage.saw(cause);
        *counted.entry((column.clone(), class.clone(), cause.clone())).or_default() += 1;
    }
    let summary: BTreeMap<_, _> = report
        .changes
        .iter()
        .map(|change| {
            let key =
                (change.column.clone(), change.class.as_str().to_owned(), change.cause.as_str().to_owned());
            (key, change.cells)
        })
        .collect();
    if summary != counted || report.changes.len() != counted.len() {
        return Err(format!("counted {counted:?}, reported {summary:?}\n{}", told()));
    }
    // A batch is named for each cell that has one to blame.
    let blamed =
        |cause: &str| matches!(cause, "newer_data" | "correction" | "other_version" | "ttl" | "knowledge");
    let due = expected.cells.iter().filter(|(.., cause)| blamed(cause)).count() as u64;
    let named: u64 = report.entries.iter().map(|entry| entry.cells).sum();
    if named != due {
        return Err(format!("{named} cells have a batch, {due} should\n{}", told()));
    }
    let equal = expected.cells.is_empty()
        && (expected.added, expected.removed, expected.moved) == (0, 0, 0)
        && a.features == b.features
        && (a.version.shape.narrow == b.version.shape.narrow || !a.features.contains(&'x'));
    if report.equal != equal {
        return Err(format!("equal is {}, not {equal}\n{}", report.equal, told()));
    }
    coverage.saw_if(equal, "equal");
    coverage.saw_if(expected.moved > 0, "moved");
    coverage.saw_if(expected.removed > 0, "removed");
    coverage.saw_if(report.columns.added.contains(&"x".to_owned()), "column added");
    Ok(())
}

async fn check(case: &Case) -> Result<(Coverage, usize), String> {
    let mut world = World::new(case).await;
    let mut coverage = Coverage::default();
    for step in &case.steps {
        match step {
            Step::Ingest(rows) => world.ingest(rows).await,
            Step::Define(shape) => world.define(shape).await,
            Step::Ask(ask) => world.ask(case, ask).await,
        }
    }
    let mut compared = 0;
    for a in &world.sets {
        for b in &world.sets {
            compare(&world, a, b, &mut coverage).await?;
            compared += 1;
        }
    }
    Ok((coverage, compared))
}

#[test]
fn every_pair_of_sets_differs_as_the_reference_says() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut coverage = Coverage::default();
    cases::run("diff", CASES, &case(), |case| {
        let (met, _) = runtime.block_on(check(case))?;
        coverage.merge(met);
        Ok(1)
    });
    coverage.require(
        10,
        [
            "value",
            "null_to_value",
            "value_to_null",
            "type",
            "nan",
            "zero_sign",
            "equal",
            "moved",
            "removed",
            "column added",
        ],
    );
    coverage.require(
        10,
        ["newer_data", "correction", "other_version", "ttl", "knowledge", "definition", "spine"],
    );
}

/// A spine of two blocks and a few rows more; the last row of each block is of an entity of its own.
fn long_spine() -> RecordBatch {
    let keys = (0..150_000i64).map(|row| match row {
        65_535 => 1,
        131_071 => 2,
        _ => 0,
    });
    batch_of(vec![
        ("k", Arc::new(Int64Array::from_iter_values(keys))),
        ("at", times((0..150_000).map(|_| Some(20)))),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_are_equal_are_not_read() {
    let shape = Shape { ttl: None, default: None, has_z: false, narrow: false };
    let row = |key: u8, x: u8| Row {
        key,
        valid_at: 1,
        known: 0,
        retracted: false,
        x: Some(x),
        y: Some(1),
        z: None,
    };
    let case = Case { first: shape, rows: vec![row(0, 0), row(1, 0)], spine: Vec::new(), steps: Vec::new() };
    let mut world = World::new(&case).await;
    let retrieve = async |world: &World| {
        let request = HistoricalRequest::new(["v.x", "v.y"]);
        let set = world.serving.historical(spine(vec![long_spine()]), request, &author()).await.unwrap();
        set.report.training_set.unwrap()
    };
    let a = retrieve(&world).await;
    world.ingest(&[row(2, 4)]).await;
    let b = retrieve(&world).await;
    let diff = world.serving.diff(DiffRequest::new(a, b), false, &author()).await.unwrap().report;
    let changes: Vec<_> = diff.changes.iter().map(|change| (change.column.as_str(), change.cells)).collect();
    assert_eq!(changes, [("x", 1), ("y", 1)]);
    let example = &diff.examples[0];
    assert_eq!((example.row_a, example.row_b, example.a.as_deref()), (131_071, 131_071, None));
    assert_eq!((example.key["k"].as_deref(), example.cause.as_str()), (Some("2"), "newer_data"));
    // Of three blocks of two columns, the middle one of each was compared.
    assert_eq!((diff.compared.cells, diff.compared.equal_blocks), (2 * 65_536, 4));
    assert_eq!(diff.compared.equal_columns, ["k", "at"]);
    // The diff is on record as a read.
    world.serving.flush(&author()).await.unwrap();
    let reads =
        count(&world.serving, "SELECT count(*) FROM lineament.log WHERE records LIKE '%reads_recorded%'")
            .await;
    assert_eq!(reads, 1);
}

#[tokio::test]
async fn what_cannot_be_compared_is_told() {
    let clock = TestClock::new(instant("2024-02-01T00:00:00Z"));
    let serving = memory(&clock).await;
    let other = ENTITY.replace("thing", "being").replace("\"k\"", "\"b\"");
    let view = |name: &str, entity: &str| {
        format!(
            "kind = \"feature_view\"\nname = \"{name}\"\nentity = \"{entity}\"\n[time]\nvalid_at = \"ts\"\nknown_at = \"arrival\"\n[[features]]\nname = \"x\"\ntype = \"int64\"\n"
        )
    };
    let definitions = [
        ("a.toml", ENTITY),
        ("b.toml", &other),
        ("v.toml", &view("v", "thing")),
        ("w.toml", &view("w", "being")),
    ];
    serving.apply(files(&definitions), &author()).await.unwrap();
    let mut sets = Vec::new();
    for (key, reference) in [("k", "v.x"), ("b", "w.x")] {
        let table = batch_of(vec![
            (key, Arc::new(Int64Array::from(vec![1, 2]))),
            ("at", times([Some(1), Some(2)].into_iter())),
        ]);
        let set =
            serving.historical(spine(vec![table]), HistoricalRequest::new([reference]), &author()).await;
        sets.push(set.unwrap().report.training_set.unwrap());
    }
    let error = serving.diff(DiffRequest::new(sets[0], sets[1]), false, &author()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("no entity key in common"), "{error}");
    let nobody: TrainingSetId = "01890000-0000-7000-8000-000000000000".parse().unwrap();
    let error = serving.diff(DiffRequest::new(sets[0], nobody), false, &author()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test]
async fn rows_are_shown_with_their_keys() {
    let shape = Shape { ttl: None, default: None, has_z: false, narrow: false };
    let row = Row { key: 0, valid_at: 1, known: 0, retracted: false, x: Some(0), y: Some(1), z: None };
    let case = Case { first: shape, rows: vec![row], spine: Vec::new(), steps: Vec::new() };
    let world = World::new(&case).await;
    let mut sets = Vec::new();
    for keys in [[0, 1, 2], [3, 0, 1]] {
        let table = batch_of(vec![
            ("k", Arc::new(Int64Array::from_iter_values(keys))),
            ("at", times((0..3).map(|_| Some(20)))),
        ]);
        let request = HistoricalRequest::new(["v.x"]);
        let set = world.serving.historical(spine(vec![table]), request, &author()).await.unwrap();
        sets.push(set.report.training_set.unwrap());
    }
    let diff = world.serving.diff(DiffRequest::new(sets[0], sets[1]), false, &author()).await.unwrap().report;
    let shown: Vec<_> = diff
        .row_examples
        .iter()
        .map(|row| (row.change, row.row_a, row.row_b, row.key["k"].as_deref(), row.at.as_deref()))
        .collect();
    let at = Some("2024-01-01T00:00:20Z");
    let removed = (RowChange::Removed, Some(2), None, Some("2"), at);
    assert_eq!(shown, [removed, (RowChange::Added, None, Some(0), Some("3"), at)]);
    assert_eq!((diff.rows.moved, diff.changes.len()), (0, 0));
    assert_eq!(diff.aligned_on, ["k", "at"]);
}
