//! Diff against a reference: random histories of one view, sets of them recorded in between, and every pair of sets compared
//! by one loop over rows and columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, UInt64Type};
use feature::{Span, Timestamp, TrainingSetId};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serving::{DiffRequest, HistoricalRequest, Kind, RowChange, Serving};
use storage::environment::TestClock;

use super::cases;
use super::coverage::Coverage;
use super::stores::{author, count, files, ingest, instant, memory, rows, spine};

const CASES: usize = 120;
/// 2024-01-01T00:00:00Z, and what a unit of time is.
const BEGINNING: i64 = 1_704_067_200_000_000;
const UNIT: i64 = 1_000_000;

const ENTITY: &str = "kind = \"entity\"\nname = \"thing\"\n[[keys]]\nname = \"k\"\ntype = \"int64\"\n";

/// A version of the view, by what may be other in it.
#[derive(Clone, Debug, PartialEq)]
struct Shape {
    ttl: Option<u8>,
    default: Option<u8>,
    /// Whether it has the feature `z`.
    has_z: bool,
    /// Whether `x` is float32, which starts the view anew.
    narrow: bool,
}

#[derive(Clone, Debug)]
struct Row {
    key: u8,
    valid_at: u8,
    known: u8,
    retracted: bool,
    x: Option<u8>,
    y: Option<u8>,
    z: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    Row,
    By(u8),
    None,
}

#[derive(Clone, Debug)]
struct Ask {
    version: Option<u8>,
    limit: Limit,
    ttl: Option<u8>,
    all: bool,
    order: u8,
    relabelled: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Ingest(Vec<Row>),
    Define(Shape),
    Ask(Ask),
}

#[derive(Clone, Debug)]
struct Case {
    first: Shape,
    rows: Vec<Row>,
    /// Key and time of each row of the spine.
    spine: Vec<(Option<u8>, Option<u8>)>,
    steps: Vec<Step>,
}

fn shape() -> impl Strategy<Value = Shape> {
    (option::of(2..12u8), option::of(0..3u8), any::<bool>(), prop::bool::weighted(0.15))
        .prop_map(|(ttl, default, has_z, narrow)| Shape { ttl, default, has_z, narrow })
}

fn row() -> impl Strategy<Value = Row> {
    let code = || option::weighted(0.85, 0..5u8);
    (0..2u8, 0..20u8, 0..8u8, prop::bool::weighted(0.15), code(), code(), code()).prop_map(
        |(key, valid_at, known, retracted, x, y, z)| Row { key, valid_at, known, retracted, x, y, z },
    )
}

fn case() -> impl Strategy<Value = Case> {
    let limit =
        prop_oneof![4 => Just(Limit::Row), 1 => (0..30u8).prop_map(Limit::By), 1 => Just(Limit::None)];
    let ask = (
        option::weighted(0.3, any::<u8>()),
        limit,
        option::weighted(0.2, 1..12u8),
        prop::bool::weighted(0.8),
        0..6u8,
        prop::bool::weighted(0.2),
    )
        .prop_map(|(version, limit, ttl, all, order, relabelled)| Ask {
            version,
            limit,
            ttl,
            all,
            order,
            relabelled,
        });
    let step = prop_oneof![
        4 => ask.prop_map(Step::Ask),
        3 => vec(row(), 1..10).prop_map(Step::Ingest),
        2 => shape().prop_map(Step::Define),
    ];
    let place = (option::weighted(0.95, 0..3u8), option::weighted(0.95, 0..28u8));
    (shape(), vec(row(), 1..20), vec(place, 1..24), vec(step, 4..14))
        .prop_map(|(first, rows, spine, steps)| Case { first, rows, spine, steps })
}

// ------------------------------------------------------------------------------------------------- the reference

#[derive(Clone, Debug)]
struct Version {
    number: usize,
    line: usize,
    shape: Shape,
}

#[derive(Clone, Debug)]
struct Observation {
    line: usize,
    under: usize,
    has_z: bool,
    sequence: u64,
    received: usize,
    row: Row,
}

impl Observation {
    fn valid_at(&self) -> i64 {
        i64::from(self.row.valid_at)
    }

    fn known_at(&self) -> i64 {
        i64::from(self.row.valid_at) + i64::from(self.row.known)
    }
}

#[derive(Clone, Debug)]
struct Set {
    id: TrainingSetId,
    sequence: u64,
    version: Version,
    limit: Limit,
    ttl: Option<u8>,
    features: Vec<char>,
    /// Key, time and label.
    rows: Vec<(Option<u8>, Option<u8>, i64)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    X(f64, bool),
    Y(i64),
    Z(&'static str),
}

const XS: [f64; 5] = [1.5, -0.0, 0.0, f64::NAN, 2.5];
const ZS: [&str; 5] = ["a", "b", "", "é", "long enough to lie outside of a view"];
const DEFAULTS: [i64; 3] = [7, -1, 0];

fn counts(version: &Version, row: &Observation) -> bool {
    row.line == version.line && (row.under <= version.number || !version.shape.has_z || row.has_z)
}

fn cut(set: &Set, at: i64) -> i64 {
    match set.limit {
        Limit::Row => at,
        Limit::By(instant) => i64::from(instant),
        Limit::None => i64::MAX,
    }
}

fn oldest(set: &Set, at: i64) -> i64 {
    set.ttl.map_or(i64::MIN, |ttl| at - i64::from(ttl))
}

fn winner<'a>(history: &'a [Observation], set: &Set, row: usize) -> Option<&'a Observation> {
    let (Some(key), Some(at), _) = set.rows[row] else { return None };
    let at = i64::from(at);
    history
        .iter()
        .filter(|seen| {
            seen.row.key == key
                && seen.sequence <= set.sequence
                && counts(&set.version, seen)
                && seen.valid_at() <= at
                && seen.known_at() <= cut(set, at)
                && seen.valid_at() >= oldest(set, at)
        })
        .max_by_key(|seen| (seen.valid_at(), seen.known_at(), seen.sequence, seen.received))
}

fn value(history: &[Observation], set: &Set, row: usize, feature: char) -> Option<Value> {
    match winner(history, set, row) {
        Some(seen) if seen.row.retracted => None,
        Some(seen) => match feature {
            'x' => seen.row.x.map(|code| Value::X(XS[usize::from(code)], set.version.shape.narrow)),
            'y' => seen.row.y.map(|code| Value::Y(i64::from(code))),
            _ if seen.has_z => seen.row.z.map(|code| Value::Z(ZS[usize::from(code)])),
            _ => None,
        },
        None if feature == 'y' => set.version.shape.default.map(|code| Value::Y(DEFAULTS[usize::from(code)])),
        None => None,
    }
}

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

// ----------------------------------------------------------------------------------------------------- the store

struct World {
    serving: Serving,
    clock: TestClock,
    versions: Vec<Version>,
    history: Vec<Observation>,
    sets: Vec<Set>,
}

fn definition(shape: &Shape) -> Vec<(String, String)> {
    let mut view = "kind = \"feature_view\"\nname = \"v\"\nentity = \"thing\"\n".to_owned();
    if let Some(ttl) = shape.ttl {
        view += &format!("ttl = \"{ttl}s\"\n");
    }
    view += "[time]\nvalid_at = \"ts\"\nknown_at = { column = \"seen\" }\n";
    let kind = if shape.narrow { "float32" } else { "float64" };
    view += &format!("[[features]]\nname = \"x\"\ntype = \"{kind}\"\n");
    view += "[[features]]\nname = \"y\"\ntype = \"int64\"\n";
    if let Some(code) = shape.default {
        view += &format!("default = {}\n", DEFAULTS[usize::from(code)]);
    }
    if shape.has_z {
        view += "[[features]]\nname = \"z\"\ntype = \"string\"\n";
    }
    files(&[("thing.toml", ENTITY), ("v.toml", &view)])
}

fn times(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    let values = values.map(|value| value.map(|units| BEGINNING + units * UNIT));
    Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn batch_of(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

impl World {
    async fn new(case: &Case) -> Self {
        let clock = TestClock::new(Timestamp(BEGINNING));
        let serving = memory(&clock).await;
        serving.apply(definition(&case.first), &author()).await.unwrap();
        let version = Version { number: 1, line: 1, shape: case.first.clone() };
        let mut world =
            Self { serving, clock, versions: vec![version], history: Vec::new(), sets: Vec::new() };
        world.ingest(&case.rows).await;
        world
    }

    fn newest(&self) -> Version {
        self.versions.last().unwrap().clone()
    }

    async fn define(&mut self, shape: &Shape) {
        let newest = self.newest();
        if *shape == newest.shape {
            return;
        }
        self.serving.apply(definition(shape), &author()).await.unwrap();
        let number = newest.number + 1;
        let line = if shape.narrow == newest.shape.narrow { newest.line } else { number };
        self.versions.push(Version { number, line, shape: shape.clone() });
    }

    async fn ingest(&mut self, given: &[Row]) {
        self.clock.advance("1h".parse().unwrap());
        let version = self.newest();
        let x: ArrayRef = Arc::new(
            given.iter().map(|row| row.x.map(|code| XS[usize::from(code)])).collect::<Float64Array>(),
        );
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("k", Arc::new(given.iter().map(|row| Some(i64::from(row.key))).collect::<Int64Array>())),
            ("ts", times(given.iter().map(|row| Some(row.valid_at.into())))),
            ("seen", times(given.iter().map(|row| Some(i64::from(row.valid_at) + i64::from(row.known))))),
            (
                "x",
                if version.shape.narrow { arrow::compute::cast(&x, &DataType::Float32).unwrap() } else { x },
            ),
            ("y", Arc::new(given.iter().map(|row| row.y.map(i64::from)).collect::<Int64Array>())),
        ];
        if version.shape.has_z {
            let z = given.iter().map(|row| row.z.map(|code| ZS[usize::from(code)]));
            columns.push(("z", Arc::new(z.collect::<StringArray>())));
        }
        columns.push((
            "_retracted",
            Arc::new(given.iter().map(|row| Some(row.retracted)).collect::<BooleanArray>()),
        ));
        let report = ingest(&self.serving, rows("v", vec![batch_of(columns)])).await.unwrap();
        assert_eq!((report.rows, report.rejected), (given.len() as u64, 0));
        for row in given {
            self.history.push(Observation {
                line: version.line,
                under: version.number,
                has_z: version.shape.has_z,
                sequence: report.sequence.unwrap().0,
                received: self.history.len(),
                row: row.clone(),
            });
        }
    }

    async fn ask(&mut self, case: &Case, ask: &Ask) {
        let version = match ask.version {
            Some(code) => self.versions[usize::from(code) % self.versions.len()].clone(),
            None => self.newest(),
        };
        let mut features = vec!['x', 'y'];
        if version.shape.has_z {
            features.push('z');
        }
        if !ask.all {
            features.remove(0);
        }
        let mut order: Vec<usize> = (0..case.spine.len()).collect();
        match ask.order {
            1 => order.reverse(),
            2 => order.rotate_left(case.spine.len() / 2),
            3 => order.retain(|row| row % 3 != 1),
            _ => {}
        }
        let label = |row: usize| row as i64 + i64::from(ask.relabelled && row % 4 == 0);
        let given: Vec<_> =
            order.into_iter().map(|row| (case.spine[row].0, case.spine[row].1, label(row))).collect();
        if given.is_empty() {
            return;
        }
        let table = batch_of(vec![
            ("k", Arc::new(given.iter().map(|(key, _, _)| key.map(i64::from)).collect::<Int64Array>())),
            ("at", times(given.iter().map(|(_, at, _)| at.map(i64::from)))),
            ("label", Arc::new(given.iter().map(|(_, _, label)| Some(*label)).collect::<Int64Array>())),
        ]);
        let references = features.iter().map(|feature| format!("v@{}.{feature}", version.number));
        let mut request = HistoricalRequest::new(references);
        match ask.limit {
            Limit::Row => {}
            Limit::By(units) => request.known_by = Some(Timestamp(BEGINNING + i64::from(units) * UNIT)),
            Limit::None => request.ignore_known_at = true,
        }
        if let Some(ttl) = ask.ttl {
            request.ttl.insert("v".to_owned(), Span::from_micros(i64::from(ttl) * UNIT).unwrap());
        }
        let set = self.serving.historical(spine(vec![table]), request, &author()).await.unwrap();
        self.sets.push(Set {
            id: set.report.training_set.unwrap(),
            sequence: set.report.sequence.0,
            ttl: ask.ttl.or(version.shape.ttl),
            version,
            limit: ask.limit,
            features,
            rows: given,
        });
    }
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
