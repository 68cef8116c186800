//! A scenario's store, and beside it what the reference knows of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use catalog::Intent;
use catalog::compaction::Eagerness;
use catalog::ingest::Claim;
use catalog::records::RowsExpired;
use feature::{Timestamp, TrainingSetId};
use serving::{CompactRequest, RollbackRequest, Serving};
use storage::environment::TestClock;
use storage::partition::{Compression, Layout};

use super::reference::Observation;
use super::scenario::{Batch, FEATURES, FeatureKind, KeyKind, KnownRule, Row, Version, View};
use crate::suite::coverage::Coverage;
use crate::suite::stores::{author, claimed, files, ingest, memory, rows};
use crate::suite::values::{Value, column, cut};

pub struct World {
    pub serving: Serving,
    clock: TestClock,
    /// Units since the beginning.
    now: i64,
    unit: i64,
    pub views: Vec<Known>,
    received: usize,
    pub recorded: Vec<Recorded>,
    pub coverage: Coverage,
}

/// A view as the reference knows it.
pub struct Known {
    raw: View,
    pub name: String,
    pub keys: Vec<KeyKind>,
    pub versions: Vec<Numbered>,
    observations: Vec<Written>,
    /// Rows that are valid before this do not count any more.
    since: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Numbered {
    pub number: usize,
    /// The number of the version that its line began with.
    pub line: usize,
    pub features: Vec<usize>,
    pub ttl: Option<i64>,
    pub defaults: [Option<u8>; FEATURES],
    pub rule: KnownRule,
}

struct Written {
    /// Whether its batch does not count now.
    withdrawn: bool,
    line: usize,
    under: usize,
    features: Vec<usize>,
    row: Observation,
}

/// A recorded set, to be made again at the end.
pub struct Recorded {
    pub id: TrainingSetId,
    pub digest: String,
    pub batches: Vec<RecordBatch>,
}

pub fn key_name(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Text => "k_text",
        KeyKind::Int8 => "k_int8",
        KeyKind::Int16 => "k_int16",
        KeyKind::Int32 => "k_int32",
        KeyKind::Int64 => "k_int64",
        KeyKind::Uint8 => "k_uint8",
        KeyKind::Uint16 => "k_uint16",
        KeyKind::Uint32 => "k_uint32",
        KeyKind::Uint64 => "k_uint64",
        KeyKind::Bool => "k_bool",
        KeyKind::Date => "k_date",
        KeyKind::Instant => "k_instant",
        KeyKind::Money => "k_money",
        KeyKind::Bytes => "k_bytes",
    }
}

/// As a definition spells it, and as Arrow holds it.
pub fn key_type(kind: KeyKind) -> (&'static str, DataType) {
    match kind {
        KeyKind::Text => ("string", DataType::Utf8),
        KeyKind::Int8 => ("int8", DataType::Int8),
        KeyKind::Int16 => ("int16", DataType::Int16),
        KeyKind::Int32 => ("int32", DataType::Int32),
        KeyKind::Int64 => ("int64", DataType::Int64),
        KeyKind::Uint8 => ("uint8", DataType::UInt8),
        KeyKind::Uint16 => ("uint16", DataType::UInt16),
        KeyKind::Uint32 => ("uint32", DataType::UInt32),
        KeyKind::Uint64 => ("uint64", DataType::UInt64),
        KeyKind::Bool => ("bool", DataType::Boolean),
        KeyKind::Date => ("date", DataType::Date32),
        KeyKind::Instant => ("timestamp", time_type()),
        KeyKind::Money => ("decimal(6,2)", DataType::Decimal128(6, 2)),
        KeyKind::Bytes => ("binary", DataType::Binary),
    }
}

pub fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// 2024-01-01T00:00:00Z
pub const BEGINNING: i64 = 1_704_067_200_000_000;

/// The three values of a key that stores know.
pub fn key_value(kind: KeyKind, code: u8) -> Value {
    let code = usize::from(code);
    match kind {
        KeyKind::Text => Value::text(["a", "", "ab"][code]),
        KeyKind::Int8 | KeyKind::Int16 | KeyKind::Int32 | KeyKind::Int64 => Value::Int([7, 0, -1][code]),
        KeyKind::Uint8 | KeyKind::Uint16 | KeyKind::Uint32 => Value::Int([7, 0, 200][code]),
        KeyKind::Uint64 => Value::Int([7, 0, u64::MAX.into()][code]),
        KeyKind::Bool => Value::Bool([false, true, false][code]),
        KeyKind::Date => Value::Date([0, 19_800, -1][code]),
        KeyKind::Instant => Value::Instant([BEGINNING, BEGINNING + 1, -1][code]),
        KeyKind::Money => Value::Decimal([123, 50, -100][code], 2),
        KeyKind::Bytes => Value::Bytes([vec![1], vec![], vec![1, 0xff]][code].clone()),
    }
}

fn feature_type(kind: FeatureKind) -> (&'static str, DataType) {
    match kind {
        FeatureKind::Int => ("int64", DataType::Int64),
        FeatureKind::Small => ("int8", DataType::Int8),
        FeatureKind::Float => ("float64", DataType::Float64),
        FeatureKind::Text => ("string", DataType::Utf8),
        FeatureKind::Flag => ("bool", DataType::Boolean),
        FeatureKind::Money => ("decimal(6,2)", DataType::Decimal128(6, 2)),
        FeatureKind::Instant => ("timestamp", time_type()),
        FeatureKind::Day => ("date", DataType::Date32),
    }
}

fn feature_value(kind: FeatureKind, code: u8) -> Value {
    let code = usize::from(code);
    match kind {
        FeatureKind::Int => Value::Int([1, -5, 0, i64::MAX.into()][code]),
        FeatureKind::Small => Value::Int([1, -5, 0, 127][code]),
        FeatureKind::Float => Value::float([0.5, -0.0, 0.0, f64::NAN][code]),
        FeatureKind::Text => {
            Value::text(["x", "", "é", "a longer text, beyond what a view holds inline"][code])
        }
        FeatureKind::Flag => Value::Bool([true, false, true, false][code]),
        FeatureKind::Money => Value::Decimal([100, -250, 0, 999_999][code], 2),
        FeatureKind::Instant => Value::Instant([BEGINNING, -1, 0, BEGINNING + 1][code]),
        FeatureKind::Day => Value::Date([19_000, -1, 0, 1][code]),
    }
}

/// A default, as the reference sees it and as a definition writes it. Different codes are different defaults.
fn default_of(kind: FeatureKind, code: u8) -> (Value, &'static str) {
    let place = usize::from(code);
    match kind {
        FeatureKind::Int | FeatureKind::Small => (Value::Int([1, -5, 0][place]), ["1", "-5", "0"][place]),
        FeatureKind::Float => (Value::float([0.5, -1.5, 0.0][place]), ["0.5", "-1.5", "0.0"][place]),
        FeatureKind::Text => (Value::text(["x", "", "é"][place]), ["\"x\"", "\"\"", "\"é\""][place]),
        FeatureKind::Flag => (Value::Bool([true, false, true][place]), ["true", "false", "true"][place]),
        FeatureKind::Money => {
            (Value::Decimal([100, -250, 0][place], 2), ["\"1.00\"", "\"-2.50\"", "\"0\""][place])
        }
        FeatureKind::Instant => (
            Value::Instant([BEGINNING, -1, 0][place]),
            ["\"2024-01-01T00:00:00Z\"", "\"1969-12-31T23:59:59.999999Z\"", "\"1970-01-01T00:00:00Z\""]
                [place],
        ),
        FeatureKind::Day => (
            Value::Date([19_000, -1, 0][place]),
            ["\"2022-01-08\"", "\"1969-12-31\"", "\"1970-01-01\""][place],
        ),
    }
}

impl Known {
    pub fn newest(&self) -> &Numbered {
        self.versions.last().unwrap()
    }

    pub fn feature_name(&self, feature: usize) -> String {
        format!("f{}_{feature}", self.name.trim_start_matches('v'))
    }

    pub fn feature_arrow(&self, feature: usize) -> DataType {
        feature_type(self.raw.kinds[feature]).1
    }

    pub fn default(&self, version: &Numbered, feature: usize) -> Option<Value> {
        version.defaults[feature].map(|code| default_of(self.raw.kinds[feature], code).0)
    }

    pub fn has_occurrence(&self) -> bool {
        self.raw.occurrence
    }

    /// The rows that count for a version: those of its line, of later versions only batches with all of its features.
    pub fn seen(&self, version: &Numbered) -> Vec<&Observation> {
        let counts = |written: &&Written| {
            !written.withdrawn
                && written.row.valid_at >= self.since
                && written.line == version.line
                && (written.under <= version.number
                    || version.features.iter().all(|feature| written.features.contains(feature)))
        };
        self.observations.iter().filter(counts).map(|written| &written.row).collect()
    }

    /// Every row that counts, with the line that it is of.
    pub fn rows(&self) -> impl Iterator<Item = (usize, &Observation)> {
        self.observations
            .iter()
            .filter(|written| !written.withdrawn && written.row.valid_at >= self.since)
            .map(|written| (written.line, &written.row))
    }

    fn files(&self, version: &Numbered, unit: i64) -> Vec<(String, String)> {
        let name = &self.name;
        let mut entity = format!("kind = \"entity\"\nname = \"e_{name}\"\n");
        for key in &self.keys {
            entity += &format!("[[keys]]\nname = \"{}\"\ntype = \"{}\"\n", key_name(*key), key_type(*key).0);
        }
        let mut view = format!("kind = \"feature_view\"\nname = \"{name}\"\nentity = \"e_{name}\"\n");
        if let Some(ttl) = version.ttl {
            view += &format!("ttl = \"{ttl}us\"\n");
        }
        let known_at = match version.rule {
            KnownRule::Column => "{ column = \"seen\" }".to_owned(),
            KnownRule::Delay(units) => format!("{{ delay = \"{}us\" }}", i64::from(units) * unit),
            KnownRule::Arrival => "\"arrival\"".to_owned(),
            KnownRule::Assumed => "\"assumed\"".to_owned(),
        };
        view += &format!("[time]\nvalid_at = \"ts\"\nknown_at = {known_at}\n");
        if self.raw.occurrence {
            view += "[occurrence]\nname = \"occurrence\"\ntype = \"int64\"\n";
        }
        for feature in &version.features {
            let kind = self.raw.kinds[*feature];
            let (text, _) = feature_type(kind);
            view += &format!("[[features]]\nname = \"{}\"\ntype = \"{text}\"\n", self.feature_name(*feature));
            if let Some(code) = version.defaults[*feature] {
                view += &format!("default = {}\n", default_of(kind, code).1);
            }
        }
        files(&[(&format!("e_{name}.toml"), &entity), (&format!("{name}.toml"), &view)])
    }
}

fn numbered(
    view: &View,
    version: &Version,
    (number, line): (usize, usize),
    rule: KnownRule,
    unit: i64,
) -> Numbered {
    let features: Vec<usize> = (0..FEATURES).filter(|bit| version.features & (1 << bit) != 0).collect();
    let mut defaults = version.defaults;
    for (feature, default) in defaults.iter_mut().enumerate() {
        if !features.contains(&feature) {
            *default = None;
        }
        // There are only two flags.
        if view.kinds[feature] == FeatureKind::Flag {
            *default = default.map(|code| code % 2);
        }
    }
    Numbered { number, line, features, ttl: version.ttl.map(|units| i64::from(units) * unit), defaults, rule }
}

/// The clock of a world that begins.
pub fn beginning() -> TestClock {
    TestClock::new(Timestamp(BEGINNING))
}

impl World {
    /// In memory.
    pub async fn new(unit: u8, views: &[View]) -> Self {
        let clock = beginning();
        Self::over(memory(&clock).await, clock, unit, views).await
    }

    /// Over a store that is empty, whose clock this is.
    pub async fn over(serving: Serving, clock: TestClock, unit: u8, views: &[View]) -> Self {
        let mut world = Self {
            serving,
            clock,
            now: 0,
            unit: [1, 1_000_000, 6 * 3_600_000_000, 20 * 86_400_000_000][usize::from(unit)],
            views: Vec::new(),
            received: 0,
            recorded: Vec::new(),
            coverage: Coverage::default(),
        };
        for (index, view) in views.iter().enumerate() {
            let version = numbered(view, &view.version, (1, 1), view.rule, world.unit);
            let known = Known {
                raw: view.clone(),
                name: format!("v{index}"),
                keys: view.keys.clone(),
                versions: vec![version],
                observations: Vec::new(),
                since: i64::MIN,
            };
            world.serving.apply(known.files(known.newest(), world.unit), &author()).await.unwrap();
            world.views.push(known);
            world.ingest(index, &view.first).await;
        }
        world
    }

    pub fn time(&self, units: u8, jitter: i8) -> i64 {
        BEGINNING + i64::from(units) * self.unit + i64::from(jitter)
    }

    pub fn units(&self, units: u8) -> i64 {
        i64::from(units) * self.unit
    }

    pub async fn define(&mut self, view: u8, version: &Version) {
        let index = usize::from(view) % self.views.len();
        let unit = self.unit;
        let known = &mut self.views[index];
        let current = known.newest().clone();
        let rule = version.rule.unwrap_or(current.rule);
        let mut next = numbered(&known.raw, version, (current.number, current.line), rule, unit);
        if next == current {
            return;
        }
        next.number = current.number + 1;
        if next.rule != current.rule {
            next.line = next.number;
        }
        let applied =
            self.serving.apply_for(known.files(&next, unit), Some("it changed"), &author()).await.unwrap();
        assert!(applied.sequence.is_some(), "{next:?} is no change of {current:?}");
        known.versions.push(next);
    }

    pub async fn ingest(&mut self, view: usize, batch: &Batch) {
        let view = view % self.views.len();
        if batch.rows.is_empty() {
            return;
        }
        self.now += i64::from(batch.later);
        self.clock.set(Timestamp(BEGINNING + self.now * self.unit));
        let known = &self.views[view];
        let version = known.newest().clone();
        let retractions = batch.retractions && !known.raw.occurrence;
        let first = !known.observations.iter().any(|written| written.line == version.line);
        let claim = match version.rule {
            KnownRule::Delay(_) | KnownRule::Assumed if !first => {
                Some(if batch.correction { Claim::Correction } else { Claim::BackFill })
            }
            _ => None,
        };
        let mut request = rows(&known.name, self.record_batches(known, &version, batch, retractions));
        request.layout = layout(batch.layout);
        if let Some(claim) = claim {
            request = claimed(request, claim);
        }
        let report = loop {
            match ingest(&self.serving, request.clone()).await {
                Ok(report) => break report,
                // A sweep took what was staged before it was committed.
                Err(error) if error.to_string().contains("send it again") => {
                    self.coverage.saw("a writer that a sweep overtook");
                }
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!((report.rows, report.rejected), (batch.rows.len() as u64, 0));
        let sequence = report.sequence.unwrap();
        let state = self.serving.catalog().state();
        let arrival =
            state.log().iter().find(|line| line.by.sequence == sequence).unwrap().by.committed_at.micros();

        let mut written = Vec::with_capacity(batch.rows.len());
        for row in &batch.rows {
            let retracted = retractions && row.retracted;
            let valid_at = self.time(row.valid_at, row.jitter);
            let known_at = match (version.rule, claim) {
                (_, Some(Claim::Correction)) | (KnownRule::Arrival, _) => arrival,
                (KnownRule::Column, _) => self.known_column(row),
                (KnownRule::Delay(units), _) => valid_at + self.units(units),
                (KnownRule::Assumed, _) => valid_at,
            };
            let value = |feature: usize| {
                row.values[feature].map(|code| feature_value(known.raw.kinds[feature], code))
            };
            let values: BTreeMap<_, _> =
                version.features.iter().map(|feature| (*feature, value(*feature))).collect();
            self.received += 1;
            let row = Observation {
                key: key_of(known, row),
                occurrence: known.raw.occurrence.then_some(i64::from(row.occurrence)),
                valid_at,
                known_at,
                sequence: sequence.0,
                received: self.received,
                retracted,
                values,
            };
            written.push(Written {
                withdrawn: false,
                line: version.line,
                under: version.number,
                features: version.features.clone(),
                row,
            });
        }
        let known = &mut self.views[view];
        let keys = |rows: &[Written]| -> BTreeSet<Vec<Value>> {
            rows.iter().map(|written| written.row.key.clone()).collect()
        };
        let shared = !keys(&known.observations).is_disjoint(&keys(&written));
        self.coverage.saw_if(shared, "a batch with keys of an earlier one");
        self.coverage.saw_if(claim == Some(Claim::Correction), "a batch that corrects");
        self.coverage.saw_if(claim == Some(Claim::BackFill), "a batch that fills back");
        known.observations.extend(written);
        if let Some(layout) = batch.compacted {
            self.compact(layout).await;
        }
    }

    /// Merges whatever can be, into files that are cut in one of the ways that batches are.
    pub async fn compact(&mut self, cut: u8) {
        let eagerness = Eagerness::Everything;
        let request = CompactRequest { view: None, eagerness, layout: layout(cut) };
        let mut overtaken = 0;
        let done = loop {
            match self.serving.compact(&request, &author()).await {
                Ok(done) => break done,
                // What it has staged may be swept before it reads that again, or before its entry.
                Err(error)
                    if overtaken < 5
                        && ["send it again", "is gone from the store"]
                            .iter()
                            .any(|told| error.to_string().contains(told)) =>
                {
                    overtaken += 1;
                    self.coverage.saw("a merge that a sweep overtook");
                }
                Err(error) => panic!("{error}"),
            }
        };
        assert!(done.iter().all(|merge| merge.sequence.is_some()));
        self.coverage.saw_if(!done.is_empty(), "batches that were merged");
        self.coverage
            .saw_if(done.iter().any(|merge| merge.of.runs < merge.of.batches), "a run that was merged again");
        self.coverage.saw_if(done.iter().any(|merge| merge.files > 1), "a run of several files");
    }

    /// Withdraws one of the batches that count, or restores one that does not.
    pub async fn move_batch(&mut self, choice: u8) {
        let state = self.serving.catalog().refresh().await.unwrap();
        let batches: Vec<_> = state.batches().collect();
        let Some(batch) = batches.get(usize::from(choice) % batches.len().max(1)) else { return };
        let undo = !state.counts_at(batch, state.head.sequence);
        let request = RollbackRequest {
            node: batch.record.batch.to_string(),
            undo,
            derived: false,
            reason: Some("a bad sensor".to_owned()),
        };
        let report = self.serving.rollback(&request, &author()).await.unwrap();
        assert!(report.sequence.is_some());
        let sequence = batch.by.sequence.0;
        let written = self.views.iter_mut().flat_map(|view| &mut view.observations);
        written
            .filter(|written| written.row.sequence == sequence)
            .for_each(|written| written.withdrawn = !undo);
        self.coverage.saw(if undo { "a batch that is restored" } else { "a batch that is withdrawn" });
    }

    /// Rows of a view that are valid before a time count no more.
    pub async fn expire(&mut self, view: u8, units: u8) {
        let index = usize::from(view) % self.views.len();
        let since = self.time(units, 0);
        let known = &mut self.views[index];
        if since <= known.since {
            return;
        }
        known.since = since;
        let catalog = self.serving.catalog();
        let state = catalog.refresh().await.unwrap();
        let version = state.view("default", &known.name, None, state.head.sequence).unwrap();
        let (before, keep) = (Timestamp(since), feature::Span::from_micros(1).unwrap());
        let record = RowsExpired { view: version.view, before, keep };
        let append = |_: &catalog::State| Ok(Intent::<()>::Append(vec![record.clone().into()]));
        catalog.commit(&author(), None, append).await.unwrap();
        let some = known.observations.iter().any(|written| written.row.valid_at < since);
        let others = known.observations.iter().any(|written| written.row.valid_at >= since);
        self.coverage.saw_if(some && others, "some rows of a view that expire");
    }

    fn known_column(&self, row: &Row) -> i64 {
        self.time(row.valid_at, row.jitter) + i64::from(row.known) * self.unit
    }

    fn record_batches(
        &self,
        known: &Known,
        version: &Numbered,
        batch: &Batch,
        retractions: bool,
    ) -> Vec<RecordBatch> {
        let mut fields = Vec::new();
        let mut columns: Vec<ArrayRef> = Vec::new();
        let mut add = |name: String, column: ArrayRef| {
            fields.push(Field::new(name, column.data_type().clone(), true));
            columns.push(column);
        };
        let each = |value: &dyn Fn(&Row) -> Option<Value>, data_type: &DataType| {
            column(&batch.rows.iter().map(value).collect::<Vec<_>>(), data_type)
        };
        for (place, key) in known.keys.iter().enumerate() {
            let value = |row: &Row| Some(key_value(*key, row.key[place]));
            add(key_name(*key).to_owned(), each(&value, &key_type(*key).1));
        }
        if known.raw.occurrence {
            let values = batch.rows.iter().map(|row| i64::from(row.occurrence));
            add("occurrence".to_owned(), Arc::new(Int64Array::from_iter_values(values)));
        }
        let valid_at = |row: &Row| Some(Value::Instant(self.time(row.valid_at, row.jitter)));
        add("ts".to_owned(), each(&valid_at, &time_type()));
        if version.rule == KnownRule::Column {
            add("seen".to_owned(), each(&|row| Some(Value::Instant(self.known_column(row))), &time_type()));
        }
        for feature in &version.features {
            let kind = known.raw.kinds[*feature];
            let value = |row: &Row| row.values[*feature].map(|code| feature_value(kind, code));
            add(known.feature_name(*feature), each(&value, &feature_type(kind).1));
        }
        if retractions {
            let marks = batch.rows.iter().map(|row| Some(row.retracted)).collect::<BooleanArray>();
            add("_retracted".to_owned(), Arc::new(marks));
        }
        let whole = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        cut(&whole, &batch.cuts)
    }
}

fn key_of(known: &Known, row: &Row) -> Vec<Value> {
    known.keys.iter().enumerate().map(|(place, key)| key_value(*key, row.key[place])).collect()
}

/// Mostly layouts so small that a handful of rows makes several partitions, buckets and pages.
pub fn layout(code: u8) -> Layout {
    let usual = Layout::default();
    match code {
        0 | 1 => usual,
        2 => Layout { target_rows: 1, page_rows: 1, ..usual },
        3 => Layout { target_rows: 2, page_rows: 2, compression: Compression::None, ..usual },
        4 => Layout { target_rows: 3, page_rows: 1, compression: Compression::Zstd, ..usual },
        5 => Layout { target_rows: 8, page_rows: 3, ..usual },
        6 => Layout { page_rows: 1, ..usual },
        _ => Layout { target_rows: 20, page_rows: 4, ..usual },
    }
}

/// The kinds of key that several views have between them.
pub fn all_keys<'a>(views: impl Iterator<Item = &'a Known>) -> Vec<KeyKind> {
    let kinds: BTreeSet<KeyKind> = views.flat_map(|view| view.keys.iter().copied()).collect();
    kinds.into_iter().collect()
}
