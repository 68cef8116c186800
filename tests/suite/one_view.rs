//! A store with one view, of which everything may change, and beside it what a reference knows of it. Diff, audit and explain
//! are compared with one loop over its history.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use feature::{Span, Timestamp, TrainingSetId};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serving::{CompactRequest, HistoricalRequest, Serving};
use storage::environment::TestClock;

use super::stores::{author, files, ingest, memory, rows, spine};

/// 2024-01-01T00:00:00Z, and what a unit of time is.
pub const BEGINNING: i64 = 1_704_067_200_000_000;
pub const UNIT: i64 = 1_000_000;

pub const ENTITY: &str = "kind = \"entity\"\nname = \"thing\"\n[[keys]]\nname = \"k\"\ntype = \"int64\"\n";

/// A version of the view, by what may be other in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    pub ttl: Option<u8>,
    pub default: Option<u8>,
    /// Whether it has the feature `z`.
    pub has_z: bool,
    /// Whether `x` is float32, which starts the view anew.
    pub narrow: bool,
}

#[derive(Clone, Debug)]
pub struct Row {
    pub key: u8,
    pub valid_at: u8,
    pub known: u8,
    pub retracted: bool,
    pub x: Option<u8>,
    pub y: Option<u8>,
    pub z: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    Row,
    By(u8),
    None,
}

#[derive(Clone, Debug)]
pub struct Ask {
    pub version: Option<u8>,
    pub limit: Limit,
    pub ttl: Option<u8>,
    pub all: bool,
    pub order: u8,
    pub relabelled: bool,
}

#[derive(Clone, Debug)]
pub enum Step {
    Ingest(Vec<Row>),
    Define(Shape),
    Ask(Ask),
}

#[derive(Clone, Debug)]
pub struct Case {
    pub first: Shape,
    pub rows: Vec<Row>,
    /// Key and time of each row of the spine.
    pub spine: Vec<(Option<u8>, Option<u8>)>,
    pub steps: Vec<Step>,
}

pub fn shape() -> impl Strategy<Value = Shape> {
    (option::of(2..12u8), option::of(0..3u8), any::<bool>(), prop::bool::weighted(0.15))
        .prop_map(|(ttl, default, has_z, narrow)| Shape { ttl, default, has_z, narrow })
}

pub fn row() -> impl Strategy<Value = Row> {
    let code = || option::weighted(0.85, 0..5u8);
    (0..2u8, 0..20u8, 0..8u8, prop::bool::weighted(0.15), code(), code(), code()).prop_map(
        |(key, valid_at, known, retracted, x, y, z)| Row { key, valid_at, known, retracted, x, y, z },
    )
}

pub fn case() -> impl Strategy<Value = Case> {
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
pub struct Version {
    pub number: usize,
    pub line: usize,
    pub shape: Shape,
}

#[derive(Clone, Debug)]
pub struct Observation {
    pub line: usize,
    pub under: usize,
    pub has_z: bool,
    pub sequence: u64,
    pub received: usize,
    pub row: Row,
}

impl Observation {
    pub fn valid_at(&self) -> i64 {
        i64::from(self.row.valid_at)
    }

    pub fn known_at(&self) -> i64 {
        i64::from(self.row.valid_at) + i64::from(self.row.known)
    }
}

#[derive(Clone, Debug)]
pub struct Set {
    pub id: TrainingSetId,
    pub sequence: u64,
    pub version: Version,
    pub limit: Limit,
    pub ttl: Option<u8>,
    pub features: Vec<char>,
    /// Key, time and label.
    pub rows: Vec<(Option<u8>, Option<u8>, i64)>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    X(f64, bool),
    Y(i64),
    Z(&'static str),
}

pub const XS: [f64; 5] = [1.5, -0.0, 0.0, f64::NAN, 2.5];
pub const ZS: [&str; 5] = ["a", "b", "", "é", "long enough to lie outside of a view"];
pub const DEFAULTS: [i64; 3] = [7, -1, 0];

pub fn counts(version: &Version, row: &Observation) -> bool {
    row.line == version.line && (row.under <= version.number || !version.shape.has_z || row.has_z)
}

pub fn cut(set: &Set, at: i64) -> i64 {
    match set.limit {
        Limit::Row => at,
        Limit::By(instant) => i64::from(instant),
        Limit::None => i64::MAX,
    }
}

pub fn oldest(set: &Set, at: i64) -> i64 {
    set.ttl.map_or(i64::MIN, |ttl| at - i64::from(ttl))
}

pub fn winner<'a>(history: &'a [Observation], set: &Set, row: usize) -> Option<&'a Observation> {
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

pub fn value(history: &[Observation], set: &Set, row: usize, feature: char) -> Option<Value> {
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

// ----------------------------------------------------------------------------------------------------- the store

pub struct World {
    pub serving: Serving,
    pub clock: TestClock,
    pub versions: Vec<Version>,
    pub history: Vec<Observation>,
    pub sets: Vec<Set>,
}

pub fn definition(shape: &Shape) -> Vec<(String, String)> {
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

pub fn times(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    let values = values.map(|value| value.map(|units| BEGINNING + units * UNIT));
    Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

pub fn batch_of(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

impl World {
    pub async fn new(case: &Case) -> Self {
        let clock = TestClock::new(Timestamp(BEGINNING));
        let serving = memory(&clock).await;
        serving.apply(definition(&case.first), &author()).await.unwrap();
        let version = Version { number: 1, line: 1, shape: case.first.clone() };
        let mut world =
            Self { serving, clock, versions: vec![version], history: Vec::new(), sets: Vec::new() };
        world.ingest(&case.rows).await;
        world
    }

    pub fn newest(&self) -> Version {
        self.versions.last().unwrap().clone()
    }

    pub async fn define(&mut self, shape: &Shape) {
        let newest = self.newest();
        if *shape == newest.shape {
            return;
        }
        self.serving.apply_for(definition(shape), Some("it changed"), &author()).await.unwrap();
        let number = newest.number + 1;
        let line = if shape.narrow == newest.shape.narrow { newest.line } else { number };
        self.versions.push(Version { number, line, shape: shape.clone() });
    }

    pub async fn ingest(&mut self, given: &[Row]) {
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
        // By what was given, so that a case is the same each time.
        if given.len().is_multiple_of(3) {
            self.serving.compact(&CompactRequest::all(None), &author()).await.unwrap();
        }
    }

    pub async fn ask(&mut self, case: &Case, ask: &Ask) {
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
        let label = |row: usize| row as i64 + i64::from(ask.relabelled && row.is_multiple_of(4));
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
