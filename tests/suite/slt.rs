//! The executable specification of what SQL shows: every file of `sql/slt`, on a store in memory and on one in a folder.
//!
//! SQL can only read, so the files set their stores up by statements of this runner; `sql/slt/README.md` lists them.
//! With `LINEAMENT_COMPLETE=1` the expected answers are rewritten to what comes: read every one before it is kept.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow::array::{Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use catalog::Author;
use catalog::compaction::Eagerness;
use catalog::ingest::stream::Target;
use catalog::ingest::{Claim, Input, Request, read_file};
use catalog::records::{How, Role};
use catalog::state::producers::Place;
use feature::Name;
use feature::policy::PolicyFile;
use futures::TryStreamExt;
use serving::{
    CompactRequest, DeprecateRequest, Due, EraseRequest, HistoricalRequest, QuarantineAction,
    QuarantineRequest, RefreshRequest, RetainRequest, RollbackRequest, Serving, Spine,
};
use sqllogictest::{AsyncDB, ColumnType, DBOutput, QueryExpect, Record, Runner, StatementExpect};
use storage::environment::TestClock;

use super::stores;

/// Where the clock stands when a file begins. It moves only by `clock`.
const BEGINNING: &str = "2024-06-01T00:00:00Z";

/// One named test a file.
macro_rules! specification {
    ($($name:ident,)*) => {
        const FILES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                check(stringify!($name)).await;
            }
        )*
    };
}

specification![
    access,
    asof_join,
    asof_join_explain,
    asof_join_feature_view,
    changes,
    column_edges,
    dangling,
    decisions,
    deprecation,
    derived_views,
    erasure,
    errors,
    experiments,
    feature_view_as_table,
    historical_features,
    history,
    lineage,
    mending,
    null_reasons,
    nulls_and_nan,
    policies,
    projects,
    quality,
    read_only,
    reads,
    retention,
    rollback,
    rollback_version,
    sampling,
    search,
    streams,
    sweep,
    system_views,
    table_filters,
    time_travel,
    times_and_zones,
    versions,
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/slt")
}

#[test]
fn every_file_has_its_test() {
    let mut found: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "slt"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    found.sort();
    assert_eq!(found, FILES, "sql/slt/*.slt on the left, the tests of slt.rs on the right");
}

async fn check(name: &str) {
    let file = folder().join(format!("{name}.slt"));
    refuse_vague_errors(&file);
    if std::env::var_os("LINEAMENT_COMPLETE").is_some_and(|value| value == "1") {
        let connection = connect(None).await;
        runner(&connection)
            .update_test_file(
                &file,
                " ",
                sqllogictest::default_validator,
                exact,
                sqllogictest::strict_column_validator,
            )
            .await
            .unwrap();
    }
    let root = tempfile::tempdir().unwrap();
    for (place, root) in [("memory", None), ("a folder", Some(root.path()))] {
        let connection = connect(root).await;
        if let Err(error) = runner(&connection).run_file_async(&file).await {
            panic!("on a store in {place}: {error}");
        }
    }
}

/// An error that is expected without its words would be met by any other.
fn refuse_vague_errors(file: &Path) {
    for record in sqllogictest::parse_file::<Kind>(file).unwrap() {
        let (expected, loc) = match &record {
            Record::Query { expected: QueryExpect::Error(expected), loc, .. }
            | Record::Statement { expected: StatementExpect::Error(expected), loc, .. } => (expected, loc),
            _ => continue,
        };
        assert!(
            matches!(expected, sqllogictest::ExpectedError::Multiline(_)),
            "{loc}: write the error's words under ----"
        );
    }
}

fn runner(
    connection: &Connection,
) -> Runner<Connection, impl sqllogictest::MakeConnection<Conn = Connection>> {
    let connection = connection.clone();
    let mut runner = Runner::new(move || {
        let connection = connection.clone();
        async move { Ok(connection) }
    });
    runner.with_normalizer(exact);
    runner.with_column_validator(sqllogictest::strict_column_validator);
    runner
}

/// What stands there is what is meant, but for spaces at a line's end, which editors take away.
#[allow(clippy::ptr_arg)]
fn exact(text: &String) -> String {
    text.trim_end().to_owned()
}

async fn connect(root: Option<&Path>) -> Connection {
    let clock = TestClock::new(stores::instant(BEGINNING));
    let serving = match root {
        None => stores::memory(&clock).await,
        Some(root) => stores::folder(root, &clock).await,
    };
    let author = Arc::new(Mutex::new(stores::author()));
    let reader = Arc::new(Mutex::new(stores::author()));
    let (training_set, spine, hold) = Default::default();
    Connection { serving, clock, author, reader, training_set, spine, hold }
}

/// A store and its clock.
#[derive(Clone)]
struct Connection {
    serving: Serving,
    clock: TestClock,
    author: Arc<Mutex<Author>>,
    /// Who asks.
    reader: Arc<Mutex<Author>>,
    /// The last one recorded.
    training_set: Arc<Mutex<Option<feature::TrainingSetId>>>,
    /// The last one that was put up by itself.
    spine: Arc<Mutex<Option<String>>>,
    /// The last one placed.
    hold: Arc<Mutex<Option<feature::HoldId>>>,
}

#[derive(Debug)]
struct Failure(String);

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<serving::Error> for Failure {
    fn from(error: serving::Error) -> Self {
        Self(error.to_string())
    }
}

#[async_trait]
impl AsyncDB for Connection {
    type Error = Failure;
    type ColumnType = Kind;

    async fn run(&mut self, text: &str) -> Result<DBOutput<Kind>, Failure> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["clock", instant] => self.clock.set(stores::instant(instant)),
            ["apply", folder] => self.apply(folder, None).await?,
            ["apply", folder, "because", reason @ ..] => self.apply(folder, Some(&reason.join(" "))).await?,
            [verb @ ("deprecate" | "undeprecate"), of @ ..] => {
                let request = deprecation_request(*verb == "undeprecate", of)?;
                self.serving.deprecate(&request, &self.author()).await?;
            }
            ["due", anyway @ ..] => {
                let despite = (anyway == ["anyway"]).then_some("it is wrong");
                self.serving.advance_deprecations(despite, &self.author()).await?;
            }
            [verb @ ("approve" | "decline")] => self.vote(*verb == "approve").await?,
            ["by", principal, roles @ ..] => {
                let mut author = self.author.lock().unwrap();
                author.principal = (*principal).to_owned();
                author.roles = roles.iter().map(|role| (*role).to_owned()).collect();
            }
            ["ingest", view, file, claim @ ..] => self.ingest(view, file, claim).await?,
            ["stream", view, producer, files @ ..] => self.stream(view, producer, files).await?,
            ["spine", file] => self.put_up(file).await?,
            ["record", features @ .., "for", "put_up"] => self.record_put_up(features).await?,
            ["record", features @ .., "for", spine] => self.record(features, spine).await?,
            ["read", features @ .., "for", spine] => self.read(features, spine).await?,
            ["sampling"] => self.serving.begin_sampling(),
            ["judge"] => _ = self.serving.judge_samples(Due::Enough, &stores::author()).await?,
            ["mend", origin, file, claim @ ..] => self.mend(origin, file, claim).await?,
            ["refresh", view @ ..] => {
                let view = view.first().map(|view| (*view).to_owned());
                let request = RefreshRequest { view, full: false };
                self.serving.refresh(&request, &self.author()).await?;
            }
            [verb @ ("rollback" | "undo"), of @ ..] => self.roll_back(*verb == "undo", of).await?,
            ["compact"] => {
                let request =
                    CompactRequest { eagerness: Eagerness::Everything, ..CompactRequest::all(None) };
                self.serving.compact(&request, &stores::author()).await?;
            }
            ["sweep"] => {
                self.serving.sweep(&super::sweep::at_once(&self.serving), &stores::author()).await?;
            }
            ["retain", view @ ..] => {
                let view = view.first().map(|view| (*view).to_owned());
                self.serving.retain(&RetainRequest { view, dry_run: false }, &self.author()).await?;
            }
            ["erase", entity, key @ ..] => {
                let part = |part: &&str| {
                    let (column, value) = part.split_once('=')?;
                    Some((column.to_owned(), value.to_owned()))
                };
                let key = key.iter().filter_map(part).collect();
                let (entity, reason) = ((*entity).to_owned(), Some("it was asked for".to_owned()));
                let request = EraseRequest { entity, key, reason, request: None, dry_run: false };
                self.serving.erase(&request, &self.author()).await?;
            }
            ["hold", of @ ..] => {
                let node = match of {
                    [] => self.recorded()?.to_string(),
                    of => self.named(of).await?,
                };
                let placed = self.serving.place_hold(&node, "an audit", &self.author()).await?;
                *self.hold.lock().unwrap() = Some(placed.hold);
            }
            ["lift"] => {
                let hold = *self.hold.lock().unwrap();
                let hold = hold.ok_or_else(|| Failure("nothing is held yet".to_owned()))?;
                self.serving.lift_hold(hold, "it is over", &self.author()).await?;
            }
            [verb @ ("release" | "drop"), view, number] => self.end_quarantine(verb, view, number).await?,
            ["replay"] => self.replay().await?,
            ["run", run @ ..] => self.author.lock().unwrap().run = run.first().map(|run| (*run).to_owned()),
            ["experiment", name @ ..] => {
                self.author.lock().unwrap().experiment = name.first().map(|name| (*name).to_owned());
            }
            ["tell", ..] => {
                self.serving.observe(json(text, "tell")?, &self.author()).await?;
            }
            ["deploy", ..] => {
                self.serving.deploy(json(text, "deploy")?, &self.author()).await?;
            }
            ["used", run, role] => {
                let role: Role = json(&format!("\"{role}\""), "")?;
                let set = self.recorded()?;
                self.serving.record_use(set, run, role, How::Explicit, &self.author()).await?;
            }
            ["govern", folder] => self.govern(folder).await?,
            ["ungovern"] => _ = self.serving.lift_policies("no longer wanted", &stores::author()).await?,
            ["as", principal, roles @ ..] => {
                let roles = roles.iter().map(|role| (*role).to_owned()).collect();
                let asks = Author { principal: (*principal).to_owned(), roles, ..stores::author() };
                *self.reader.lock().unwrap() = asks;
            }
            ["purpose", purpose] => {
                let purpose = purpose.parse().map_err(|error| Failure(format!("{error}")))?;
                self.reader.lock().unwrap().purpose = purpose;
            }
            ["flush"] => _ = self.serving.flush(&stores::author()).await?,
            _ => return self.select(text).await,
        }
        Ok(DBOutput::StatementComplete(0))
    }

    async fn shutdown(&mut self) {}
}

impl Connection {
    async fn apply(&self, name: &str, reason: Option<&str>) -> Result<(), Failure> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder().join(name)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "toml") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((path.file_name().unwrap().to_str().unwrap().to_owned(), text));
            }
        }
        files.sort();
        let author = Author { run: None, experiment: None, ..self.author() };
        let applied = self.serving.apply_for(files, reason, &author).await;
        applied.map(|_| ()).map_err(|error| {
            // A plan has the ids of versions in it, and its digest is never the same.
            let mut text = error.to_string();
            if let Some((_, rest)) = text.clone().split_once("the plan ")
                && let Some((digest, _)) = rest.split_once(' ')
                && let Some((_, plain)) = digest.split_once(':')
            {
                text = text.replace(digest, "(digest)").replace(&plain[..12], "(plan)");
            }
            Failure(text)
        })
    }

    /// Approves or declines the plan that was proposed last.
    async fn vote(&self, approve: bool) -> Result<(), Failure> {
        let state = self.serving.catalog().refresh().await.map_err(|error| Failure(error.to_string()))?;
        let plan = state.changes().proposals().last().map(|proposal| proposal.record.plan.to_string());
        let plan = plan.ok_or_else(|| Failure("no plan is proposed yet".to_owned()))?;
        self.serving.approve(&plan, approve, "looked at", &self.author()).await?;
        Ok(())
    }

    /// The policies of a store's folder.
    async fn govern(&self, name: &str) -> Result<(), Failure> {
        let path = folder().join(name).join("policies/base.cedar");
        let text = std::fs::read_to_string(path).map_err(|error| Failure(error.to_string()))?;
        let file = PolicyFile { name: "base.cedar".to_owned(), text };
        let none = feature::definition::Definitions::default();
        self.serving.apply_policies(&[file], &none, &stores::author()).await?;
        Ok(())
    }

    async fn ingest(&self, view: &str, file: &str, claim: &[&str]) -> Result<(), Failure> {
        let input = Input::Files { paths: vec![folder().join(file)], format: None };
        let mut request = Request::new(view, input);
        request.claim = claimed(claim)?;
        self.serving.ingest(request, &self.author(), Arc::new(|_| ())).await?;
        Ok(())
    }

    /// Mends rejected rows of the batch that had them of a source of this name.
    async fn mend(&self, origin: &str, file: &str, claim: &[&str]) -> Result<(), Failure> {
        let sql = format!("SELECT batch FROM lineament.rejected_rows WHERE origin = '{origin}'");
        let answer = self.serving.retrieve(serving::Query::sql(sql), &stores::author()).await?;
        let batches = answer.collect().await?;
        let batch = batches.iter().flat_map(render).flatten().next();
        let batch = batch.ok_or_else(|| Failure(format!("no row of {origin} was rejected")))?;
        let batch = batch.parse().map_err(|error| Failure(format!("{error}")))?;
        let input = Input::Files { paths: vec![folder().join(file)], format: None };
        self.serving.mend(batch, input, claimed(claim)?, &self.author(), Arc::new(|_| ())).await?;
        Ok(())
    }

    /// As `record`, and nothing is recorded but that it was read.
    async fn read(&self, features: &[&str], spine: &str) -> Result<(), Failure> {
        let rows = read_file(&folder().join(spine), None).map_err(|error| Failure(error.to_string()))?;
        let spine = Spine { schema: rows.schema, batches: rows.batches };
        let request = HistoricalRequest { record: false, ..HistoricalRequest::new(features.iter().copied()) };
        self.serving.historical(spine, request, &self.author()).await?;
        Ok(())
    }

    /// `weather@2` is a version, `weather 2` the second batch of a view, with `derived` what was made of it too.
    async fn roll_back(&self, undo: bool, of: &[&str]) -> Result<(), Failure> {
        let (of, derived) = match of {
            [of @ .., "derived"] => (of, true),
            of => (of, false),
        };
        let node = self.named(of).await?;
        let request = RollbackRequest { node, undo, derived, reason: Some("a bad sensor".to_owned()) };
        self.serving.rollback(&request, &self.author()).await?;
        Ok(())
    }

    /// `weather@2` is a version, `weather 2` the second batch of a view.
    async fn named(&self, of: &[&str]) -> Result<String, Failure> {
        Ok(match of {
            [version] => (*version).to_owned(),
            [view, number] => {
                let number: usize = number.parse().map_err(|_| Failure(format!("{number} is no number")))?;
                let state =
                    self.serving.catalog().refresh().await.map_err(|error| Failure(error.to_string()))?;
                let of_view = |id| {
                    state.view_version(id).is_some_and(|version| version.definition.name.as_str() == *view)
                };
                let mut batches: Vec<_> =
                    state.batches().filter(|batch| of_view(batch.record.version)).collect();
                batches.sort_by_key(|batch| batch.by.sequence);
                let batch =
                    batches.get(number - 1).ok_or_else(|| Failure("there is no such batch".to_owned()))?;
                batch.record.batch.to_string()
            }
            other => return Err(Failure(format!("{other:?} names no batch and no version"))),
        })
    }

    /// `weather 2` is the second batch of a view that was kept back.
    async fn end_quarantine(&self, verb: &str, view: &str, number: &str) -> Result<(), Failure> {
        let number: usize = number.parse().map_err(|_| Failure(format!("{number} is no number")))?;
        let state = self.serving.catalog().refresh().await.map_err(|error| Failure(error.to_string()))?;
        let of_view = |held: &&catalog::state::Held| {
            let version = state.view_version(held.batch.record.version);
            version.is_some_and(|version| version.definition.name.as_str() == view)
        };
        let held = state.quarantine().all().iter().filter(of_view).nth(number - 1);
        let held = held.ok_or_else(|| Failure("there is no such batch".to_owned()))?;
        let action = match verb {
            "release" => QuarantineAction::Release,
            _ => QuarantineAction::Drop,
        };
        let (batch, reason) = (held.batch.record.batch, "looked at".to_owned());
        let request = QuarantineRequest { batch, action, reason, back_fill: false };
        self.serving.end_quarantine(&request, &self.author()).await?;
        Ok(())
    }

    async fn record(&self, features: &[&str], spine: &str) -> Result<(), Failure> {
        let rows = read_file(&folder().join(spine), None).map_err(|error| Failure(error.to_string()))?;
        let spine = Spine { schema: rows.schema, batches: rows.batches };
        let request = HistoricalRequest::new(features.iter().copied());
        let set = self.serving.historical(spine, request, &self.author()).await?;
        *self.training_set.lock().unwrap() = set.report.training_set;
        Ok(())
    }

    /// Each file is a part, after the last that the producer has committed; all are sent at once.
    async fn stream(&self, view: &str, producer: &str, files: &[&str]) -> Result<(), Failure> {
        let target = Target {
            project: Name::default_project(),
            view: view.to_owned(),
            producer: producer.to_owned(),
            claim: None,
        };
        let stream = self.serving.open_stream(target, &self.author()).await?;
        let mut place = Place { epoch: 1, number: 0 };
        let state = self.serving.catalog().refresh().await.map_err(|error| Failure(error.to_string()))?;
        let id = state.view("default", view, None, state.head.sequence).map(|version| version.view);
        if let Some(last) = id.and_then(|id| state.last_part(id, producer)) {
            place = last.place;
        }
        let mut pending = Vec::new();
        for file in files {
            let rows = read_file(&folder().join(file), None).map_err(|error| Failure(error.to_string()))?;
            let part =
                concat_batches(&rows.schema, &rows.batches).map_err(|error| Failure(error.to_string()))?;
            place.number += 1;
            let sent = stream.send(place, part).await.map_err(serving::Error::from)?;
            pending.push(sent);
        }
        for part in pending {
            part.acknowledged().await.map_err(serving::Error::from)?;
        }
        Ok(())
    }

    /// The last one is `put_up` to those that record a training set for it.
    async fn put_up(&self, file: &str) -> Result<(), Failure> {
        let rows = read_file(&folder().join(file), None).map_err(|error| Failure(error.to_string()))?;
        let spine = Spine { schema: rows.schema, batches: rows.batches };
        let kept = self.serving.ingest_spine(spine, &self.author()).await?;
        *self.spine.lock().unwrap() = Some(kept.spine);
        Ok(())
    }

    async fn record_put_up(&self, features: &[&str]) -> Result<(), Failure> {
        let mut request = HistoricalRequest::new(features.iter().copied());
        request.spine = self.spine.lock().unwrap().clone();
        let set = self.serving.historical_stream(None, request, &self.author()).await?;
        let _: Vec<RecordBatch> = set.rows.try_collect().await?;
        let report = set.report.await.map_err(|error| Failure(error.to_string()))?;
        *self.training_set.lock().unwrap() = report.training_set;
        Ok(())
    }

    async fn replay(&self) -> Result<(), Failure> {
        self.serving.replay(self.recorded()?, &stores::author()).await?;
        Ok(())
    }

    fn recorded(&self) -> Result<feature::TrainingSetId, Failure> {
        let set = *self.training_set.lock().unwrap();
        set.ok_or_else(|| Failure("no training set is recorded yet".to_owned()))
    }

    fn author(&self) -> Author {
        self.author.lock().unwrap().clone()
    }

    async fn select(&self, sql: &str) -> Result<DBOutput<Kind>, Failure> {
        let reader = self.reader.lock().unwrap().clone();
        let answer = self.serving.retrieve(serving::Query::sql(sql), &reader).await?;
        let schema = answer.schema.clone();
        let batches = answer.collect().await?;
        let rows = batches.iter().flat_map(render).collect();
        Ok(DBOutput::Rows { types: kinds(&schema), rows })
    }
}

fn claimed(claim: &[&str]) -> Result<Option<Claim>, Failure> {
    match claim {
        [] => Ok(None),
        ["back_fill"] => Ok(Some(Claim::BackFill)),
        ["correction"] => Ok(Some(Claim::Correction)),
        other => Err(Failure(format!("{other:?} is no claim"))),
    }
}

/// `weather@1 closed 2024-07-01 withdrawn 2024-08-01 instead weather@2`
fn deprecation_request(undo: bool, of: &[&str]) -> Result<DeprecateRequest, Failure> {
    let [node, options @ ..] = of else { return Err(Failure("name what is deprecated".to_owned())) };
    let reason = if undo { "it is needed" } else { "it is measured elsewhere" };
    let mut request = DeprecateRequest {
        node: (*node).to_owned(),
        reason: reason.to_owned(),
        undo,
        ..DeprecateRequest::default()
    };
    for option in options.chunks(2) {
        let [name, value] = option else { return Err(Failure(format!("{option:?} has no value"))) };
        let value = Some((*value).to_owned());
        match *name {
            "closed" => request.closed_on = value,
            "withdrawn" => request.withdrawn_on = value,
            "instead" => request.instead = value,
            other => return Err(Failure(format!("`{other}` is nothing that a deprecation has"))),
        }
    }
    Ok(request)
}

/// What stands behind a command's word.
fn json<T: serde::de::DeserializeOwned>(text: &str, word: &str) -> Result<T, Failure> {
    serde_json::from_str(text.trim_start_matches(word)).map_err(|error| Failure(error.to_string()))
}

/// The letter of a column after `query`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kind(char);

impl ColumnType for Kind {
    fn from_char(value: char) -> Option<Self> {
        "BDIPRT?".contains(value).then_some(Self(value))
    }

    fn to_char(&self) -> char {
        self.0
    }
}

fn kinds(schema: &Schema) -> Vec<Kind> {
    let kind = |kind: &DataType| match kind {
        DataType::Boolean => 'B',
        DataType::Date32 => 'D',
        DataType::Timestamp(..) => 'P',
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => 'T',
        kind if kind.is_integer() => 'I',
        kind if kind.is_floating() || kind.is_decimal() => 'R',
        _ => '?',
    };
    schema.fields().iter().map(|field| Kind(kind(field.data_type()))).collect()
}

/// Rows as text: `NULL`, `(empty)`, times as RFC 3339, and a text of several lines as numbered lines of their own.
fn render(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
        .collect();
    let mut rows = Vec::new();
    for row in 0..batch.num_rows() {
        let mut cells = Vec::new();
        let mut lines = Vec::new();
        for (formatter, column) in columns.iter().zip(batch.columns()) {
            let text = formatter.value(row).to_string();
            if text.is_empty() && column.is_valid(row) {
                cells.push("(empty)".to_owned());
            } else if text.contains('\n') {
                lines.extend(text.lines().enumerate().map(|(number, line)| numbered(number + 1, line)));
            } else {
                cells.push(text);
            }
        }
        rows.push(cells);
        rows.extend(lines.into_iter().map(|line| vec![line]));
    }
    rows
}

/// `02)--TableScan: weather`: the answers of sqllogictest lose spaces at a line's beginning.
fn numbered(number: usize, line: &str) -> String {
    let text = line.trim_start();
    // Plans are written as on two cores.
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let text = if text.starts_with("RepartitionExec") {
        text.replace(&format!("Batch({cores})"), "Batch(2)").replace(&format!("], {cores})"), "], 2)")
    } else {
        text.to_owned()
    };
    let indent = "-".repeat(line.len() - line.trim_start().len());
    format!("{number:02}){indent}{text}")
}
