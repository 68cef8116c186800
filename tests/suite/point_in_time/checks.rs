//! Questions to the product, and the comparison of each answer with the reference's.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use feature::{Span, Timestamp};
use futures::TryStreamExt;
use serving::{HistoricalRequest, Query, TrainingSet};

use super::reference::{self, Cell, Direction, Observation, Question, Reason};
use super::scenario::{Ask, How, Knowledge};
use super::situations;
use super::spine::{Rows, build};
use super::tables;
use super::world::{Known, Numbered, Recorded, World, all_keys, key_name};
use crate::suite::coverage::Coverage;
use crate::suite::stores::{author, select, spine};
use crate::suite::values::{Value, read};

/// One feature that is asked for.
pub struct Wanted {
    pub view: usize,
    /// Position in the view's versions.
    pub version: usize,
    pub feature: usize,
    pub output: String,
}

/// A question, with everything in it given its meaning.
pub struct Asked {
    pub references: Vec<String>,
    pub wanted: Vec<Wanted>,
    pub rows: Rows,
    pub ttls: BTreeMap<String, Span>,
    pub knowledge: reference::Knowledge,
    pub full_names: bool,
    pub null_reasons: bool,
}

impl Asked {
    pub fn new(world: &World, ask: &Ask) -> Self {
        let (references, wanted) = wanted(world, ask);
        let ttls = ttls(world, ask, &wanted);
        let knowledge = match ask.knowledge {
            Knowledge::AtRow => reference::Knowledge::AtRow,
            Knowledge::By(units) => reference::Knowledge::By(world.time(units, 0)),
            Knowledge::Unlimited => reference::Knowledge::Unlimited,
        };
        let views: BTreeSet<usize> = wanted.iter().map(|wanted| wanted.view).collect();
        let rows = build(world, &ask.spine, &all_keys(views.iter().map(|view| &world.views[*view])));
        let null_reasons = ask.spine.extras % 3 == 1;
        Self { references, wanted, rows, ttls, knowledge, full_names: ask.full_names, null_reasons }
    }

    pub fn views(&self) -> BTreeSet<usize> {
        self.wanted.iter().map(|wanted| wanted.view).collect()
    }

    pub fn ttl(&self, view: &Known, version: &Numbered) -> Option<i64> {
        self.ttls.get(&view.name).map_or(version.ttl, |ttl| Some(ttl.micros()))
    }
}

type Outcome = Result<(), String>;

macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+));
        }
    };
}

pub async fn ask(world: &mut World, ask: &Ask) -> Outcome {
    let asked = Asked::new(world, ask);
    let mut coverage = Coverage::default();
    let outcome = match ask.how {
        How::Call { record } => call(world, &asked, record, &mut coverage).await,
        How::Function => function(world, &asked, ask.spine.extras % 2 == 1, &mut coverage).await,
        How::Join(operator) => join(world, &asked, operator, &mut coverage).await,
        How::Tables => tables_of(world, &asked).await,
    };
    world.coverage.merge(coverage);
    outcome.map_err(|why| {
        let views: Vec<String> = asked.views().iter().map(|view| tables::view(&world.views[*view])).collect();
        let spine = if why.contains(tables::WRONG) { String::new() } else { tables::spine(&asked.rows) };
        format!("{why}\n\n{}\n{spine}", views.join("\n"))
    })
}

/// What is asked for, as references and as the reference knows it. No feature is named twice.
fn wanted(world: &World, ask: &Ask) -> (Vec<String>, Vec<Wanted>) {
    let mut references = Vec::new();
    let mut all: Vec<Wanted> = Vec::new();
    let mut names = BTreeSet::new();
    for pick in &ask.picks {
        let index = usize::from(pick.view) % world.views.len();
        let view = &world.views[index];
        let newest = view.versions.len() - 1;
        let version = pick.version.map_or(newest, |version| usize::from(version) % view.versions.len());
        let features = &view.versions[version].features;
        let chosen = usize::from(pick.feature) % features.len();
        let picked = if pick.star { features.clone() } else { vec![features[chosen]] };
        if picked.iter().any(|feature| names.contains(&(index, *feature))) {
            continue;
        }
        let number = view.versions[version].number;
        let label = match pick.version {
            Some(_) => format!("{}@{number}", view.name),
            None => view.name.clone(),
        };
        let separator = if pick.feature % 3 == 0 && !pick.star { ":" } else { "." };
        references.push(match pick.star {
            true => format!("{label}.*"),
            false => format!("{label}{separator}{}", view.feature_name(picked[0])),
        });
        for feature in picked {
            names.insert((index, feature));
            let name = view.feature_name(feature);
            let output = if ask.full_names { format!("{}__{name}", view.name) } else { name };
            all.push(Wanted { view: index, version, feature, output });
        }
    }
    (references, all)
}

/// Lengths of time for this retrieval alone, of views that are asked for.
fn ttls(world: &World, ask: &Ask, wanted: &[Wanted]) -> BTreeMap<String, Span> {
    let mut ttls = BTreeMap::new();
    for (view, units) in &ask.ttls {
        let view = usize::from(*view) % world.views.len();
        if wanted.iter().any(|wanted| wanted.view == view) {
            ttls.insert(world.views[view].name.clone(), Span::from_micros(world.units(*units)).unwrap());
        }
    }
    ttls
}

/// What each spine row gets of one version of a view.
fn winners<'a>(
    seen: &[&'a Observation],
    view: &Known,
    rows: &Rows,
    direction: Direction,
    ttl: Option<i64>,
    knowledge: reference::Knowledge,
) -> Vec<Result<&'a Observation, Reason>> {
    let winner = |row: usize| {
        let key = rows.key(row, &view.keys);
        let question = Question { key: key.as_deref(), at: rows.times[row], direction, ttl, knowledge };
        reference::winner(seen, &question)
    };
    (0..rows.times.len()).map(winner).collect()
}

/// The cells of one feature.
fn cells(
    winners: &[Result<&Observation, Reason>],
    view: &Known,
    version: &Numbered,
    feature: usize,
) -> Vec<Cell> {
    let default = view.default(version, feature);
    winners.iter().map(|winner| reference::cell(*winner, feature, default.as_ref())).collect()
}

fn compare(what: &str, rows: &Rows, expected: &[Cell], found: &ArrayRef) -> Outcome {
    let found = read(found);
    ensure!(found.len() == expected.len(), "{what}: {} rows for {}", found.len(), expected.len());
    let same = expected.iter().zip(&found).all(|(expected, found)| expected.value() == found.as_ref());
    ensure!(same, "{what} is wrong\n{}", tables::answers(rows, expected, &found));
    Ok(())
}

fn whole(batches: &[RecordBatch]) -> RecordBatch {
    concat_batches(&batches[0].schema(), batches).unwrap()
}

/// The question as the product is asked it.
pub fn request(asked: &Asked, record: bool) -> HistoricalRequest {
    let mut request = HistoricalRequest::new(asked.references.clone());
    request.full_feature_names = asked.full_names;
    request.ttl = asked.ttls.clone();
    request.at = asked.rows.name_at.then(|| asked.rows.at.clone());
    request.record = record;
    request.null_reasons = asked.null_reasons;
    match asked.knowledge {
        reference::Knowledge::AtRow => {}
        reference::Knowledge::By(instant) => request.known_by = Some(Timestamp(instant)),
        reference::Knowledge::Unlimited => request.ignore_known_at = true,
    }
    request
}

async fn call(world: &mut World, asked: &Asked, record: bool, coverage: &mut Coverage) -> Outcome {
    let request = request(asked, record);
    let given = spine(asked.rows.batches.clone());
    let answer = world.serving.historical(given, request.clone(), &author()).await;
    let answer = answer.map_err(|error| format!("{request:?}: {error}"))?;
    check_call(world, asked, &answer, coverage).map_err(|why| format!("{request:?}: {why}"))?;
    situations::of_call(world, asked, coverage);
    if let Some(id) = answer.report.training_set {
        world.recorded.push(Recorded { id, digest: answer.report.digest, batches: answer.batches });
    }
    Ok(())
}

fn check_call(world: &World, asked: &Asked, answer: &TrainingSet, coverage: &mut Coverage) -> Outcome {
    let rows = &asked.rows;
    let found = whole(&answer.batches);
    let carried = rows.whole.num_columns();
    let names: Vec<String> = found.schema().fields().iter().map(|field| field.name().clone()).collect();
    let spine_schema = rows.whole.schema();
    let spine_names = spine_schema.fields().iter().map(|field| field.name().clone());
    let mut expected: Vec<String> =
        spine_names.chain(asked.wanted.iter().map(|wanted| wanted.output.clone())).collect();
    let why = asked.wanted.iter().filter(|_| asked.null_reasons);
    expected.extend(why.map(|wanted| format!("{}__null_reason", wanted.output)));
    ensure!(names == expected, "columns {names:?} for {expected:?}");
    for (index, (given, carried)) in rows.whole.columns().iter().zip(found.columns()).enumerate() {
        ensure!(given == carried, "the spine's column {} came back as {carried:?}", names[index]);
    }
    ensure!(answer.report.rows == rows.times.len() as u64, "{} rows reported", answer.report.rows);
    for (index, wanted) in asked.wanted.iter().enumerate() {
        let view = &world.views[wanted.view];
        let version = &view.versions[wanted.version];
        let ttl = asked.ttl(view, version);
        let seen = view.seen(version);
        let winners = winners(&seen, view, rows, Direction::AtOrBefore, ttl, asked.knowledge);
        let cells = cells(&winners, view, version, wanted.feature);
        let column = found.column(carried + index);
        let kind = view.feature_arrow(wanted.feature);
        ensure!(*column.data_type() == kind, "{} is {}", wanted.output, column.data_type());
        compare(&wanted.output, rows, &cells, column)?;
        if asked.null_reasons {
            let why = found.column(carried + asked.wanted.len() + index);
            says_why(&wanted.output, &cells, why)?;
            coverage.saw("asked why cells are null");
        }

        let mut nulls: BTreeMap<String, u64> = BTreeMap::new();
        let mut defaulted = 0;
        for cell in &cells {
            match cell {
                Cell::Null(reason) => *nulls.entry(reason.text().to_owned()).or_default() += 1,
                Cell::Default(_) => defaulted += 1,
                Cell::Value(_) => {}
            }
        }
        let report = &answer.report.features[index];
        let label = format!("{}@{}", view.name, version.number);
        let reference = format!("{label}.{}", view.feature_name(wanted.feature));
        ensure!(
            report.reference == reference && report.output == wanted.output,
            "{report:?} for {reference}"
        );
        ensure!(report.nulls == nulls, "{}: nulls {:?}, expected {nulls:?}", wanted.output, report.nulls);
        ensure!(
            report.defaulted == defaulted,
            "{}: {} defaulted, expected {defaulted}",
            wanted.output,
            report.defaulted
        );
        let matched = winners.iter().filter(|winner| winner.is_ok()).count() as u64;
        let reported = answer.report.views.iter().find(|view| view.version == label).map(|view| view.matched);
        ensure!(reported == Some(matched), "{label}: {reported:?} matched, expected {matched}");
        situations::of_winners(&seen, view, rows, &winners, ttl, asked.knowledge, coverage);
        situations::of_cells(&cells, coverage);
    }
    Ok(())
}

/// Whether a column of null reasons says why each cell is null.
fn says_why(what: &str, cells: &[Cell], found: &ArrayRef) -> Outcome {
    let found = read(found);
    ensure!(found.len() == cells.len(), "{what}: {} null reasons for {}", found.len(), cells.len());
    for (row, (cell, found)) in cells.iter().zip(&found).enumerate() {
        let expected = match cell {
            Cell::Null(reason) => Some(Value::Text(reason.text().to_owned())),
            Cell::Default(_) | Cell::Value(_) => None,
        };
        ensure!(*found == expected, "{what}, row {row}: null because of {found:?}, expected {expected:?}");
    }
    Ok(())
}

/// Asks in SQL over the spine as a table of the session, and puts the answer into the spine's order.
async fn sql(world: &World, rows: &Rows, text: &str) -> Result<RecordBatch, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{text}: {error}");
    let session = world.serving.session(&catalog::Author::default()).await.map_err(|error| wrong(&error))?;
    session.register("spine", rows.whole.schema(), rows.batches.clone()).map_err(|error| wrong(&error))?;
    let answer = world.serving.retrieve_in(&session, Query::sql(text), &author()).await;
    let answer = answer.map_err(|error| wrong(&error))?;
    let schema = answer.schema.clone();
    let batches: Vec<RecordBatch> = answer.stream.try_collect().await.map_err(|error| wrong(&error))?;
    let found = concat_batches(&schema, &batches).map_err(|error| wrong(&error))?;
    let order = arrow::compute::sort_to_indices(found.column_by_name("row_no").unwrap(), None, None).unwrap();
    Ok(arrow::compute::take_record_batch(&found, &order).unwrap())
}

async fn function(world: &World, asked: &Asked, narrow: bool, coverage: &mut Coverage) -> Outcome {
    let quoted: Vec<String> = asked.references.iter().map(|reference| format!("'{reference}'")).collect();
    let mut arguments = format!("features => [{}]", quoted.join(", "));
    if !asked.ttls.is_empty() {
        let texts: Vec<String> = asked.ttls.iter().map(|(view, ttl)| format!("'{view}={ttl}'")).collect();
        arguments += &format!(", ttl => [{}]", texts.join(", "));
    }
    if asked.rows.name_at {
        arguments += &format!(", at => '{}'", asked.rows.at);
    }
    if asked.full_names {
        arguments += ", full_feature_names => true";
    }
    if asked.null_reasons {
        arguments += ", null_reasons => true";
    }
    // SQL has no way to ask for what could not have been known.
    let knowledge = match asked.knowledge {
        reference::Knowledge::Unlimited => reference::Knowledge::AtRow,
        other => other,
    };
    if let reference::Knowledge::By(instant) = knowledge {
        arguments += &format!(", known_by => '{}'", Timestamp(instant));
    }
    // The last feature alone, in every other case: projections must change nothing.
    let last = asked.wanted.last().unwrap();
    let columns = match (narrow, asked.null_reasons) {
        (true, true) => format!("row_no, {}__null_reason", last.output),
        (true, false) => format!("row_no, {}", last.output),
        (false, _) => "*".to_owned(),
    };
    let text =
        format!("SELECT {columns} FROM historical_features((SELECT * FROM session.spine), {arguments})");
    let found = sql(world, &asked.rows, &text).await?;
    for wanted in asked.wanted.iter().filter(|wanted| !narrow || wanted.output == last.output) {
        let view = &world.views[wanted.view];
        let version = &view.versions[wanted.version];
        let ttl = asked.ttl(view, version);
        let winners = winners(&view.seen(version), view, &asked.rows, Direction::AtOrBefore, ttl, knowledge);
        let cells = cells(&winners, view, version, wanted.feature);
        if let Some(found) = found.column_by_name(&wanted.output) {
            compare(&text, &asked.rows, &cells, found)?;
        }
        let why = found.column_by_name(&format!("{}__null_reason", wanted.output));
        ensure!(why.is_some() == asked.null_reasons, "{text}: {}", wanted.output);
        if let Some(why) = why {
            says_why(&text, &cells, why)?;
            coverage.saw("asked in SQL why cells are null");
        }
    }
    coverage.saw("asked in SQL");
    Ok(())
}

/// Operators of `MATCH_CONDITION`, with the spine's time on the left.
const OPERATORS: [(&str, Direction); 4] = [
    (">=", Direction::AtOrBefore),
    (">", Direction::Before),
    ("<=", Direction::AtOrAfter),
    ("<", Direction::After),
];

async fn join(world: &World, asked: &Asked, operator: u8, coverage: &mut Coverage) -> Outcome {
    let Wanted { view, version, feature, .. } = &asked.wanted[0];
    let view = &world.views[*view];
    let version = &view.versions[*version];
    let rows = &asked.rows;
    let (operator, direction) = OPERATORS[usize::from(operator)];
    let on: Vec<String> = view
        .keys
        .iter()
        .enumerate()
        .map(|(place, key)| {
            let key = key_name(*key);
            if place % 2 == 0 { format!("l.{key} = r.{key}") } else { format!("r.{key} = l.{key}") }
        })
        .collect();
    let name = view.feature_name(*feature);
    let text = format!(
        "SELECT l.row_no, r.{name}, r.valid_at FROM session.spine l ASOF JOIN \"{}@{}\" r \
         MATCH_CONDITION (l.\"{}\" {operator} r.valid_at) ON {}",
        view.name,
        version.number,
        rows.at,
        on.join(" AND ")
    );
    let found = sql(world, rows, &text).await?;
    let seen = view.seen(version);
    let knowledge = reference::Knowledge::AtRow;
    let winners = winners(&seen, view, rows, direction, version.ttl, knowledge);
    let cells = cells(&winners, view, version, *feature);
    compare(&text, rows, &cells, found.column(1))?;
    let times: Vec<_> =
        winners.iter().map(|winner| winner.ok().map(|row| Value::Instant(row.valid_at))).collect();
    ensure!(times == read(found.column(2)), "{text}: valid_at {times:?} expected, got {:?}", found.column(2));
    for cell in &cells {
        let found = if let Cell::Null(reason) = cell { reason.text() } else { "found" };
        coverage.saw(format!("{operator} {found}"));
    }
    Ok(())
}

/// A row of a table as comparable values.
type Line = Vec<Option<Value>>;

fn lines(batches: &[RecordBatch]) -> Vec<Line> {
    let mut all = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch.columns().iter().map(read).collect();
        for row in 0..batch.num_rows() {
            all.push(columns.iter().map(|column| column[row].clone()).collect());
        }
    }
    all.sort();
    all
}

async fn tables_of(world: &World, asked: &Asked) -> Outcome {
    let view = &world.views[asked.wanted[0].view];
    let version = &view.versions[asked.wanted[0].version];
    let seen = view.seen(version);
    let mut names: Vec<String> = view.keys.iter().map(|key| key_name(*key).to_owned()).collect();
    if view.has_occurrence() {
        names.push("occurrence".to_owned());
    }
    names.push("valid_at".to_owned());
    names.extend(version.features.iter().map(|feature| view.feature_name(*feature)));
    let line = |row: &Observation, with_history: bool| -> Line {
        let mut line: Line = row.key.iter().cloned().map(Some).collect();
        if let Some(occurrence) = row.occurrence {
            line.push(Some(Value::Int(occurrence.into())));
        }
        line.push(Some(Value::Instant(row.valid_at)));
        let value =
            |feature: &usize| if row.retracted { None } else { row.values.get(feature).cloned().flatten() };
        line.extend(version.features.iter().map(value));
        if with_history {
            line.push(Some(Value::Instant(row.known_at)));
            line.push(Some(Value::Int(row.sequence.into())));
            line.push(Some(Value::Bool(row.retracted)));
        }
        line
    };
    let label = format!("{}@{}", view.name, version.number);
    for (text, history) in [
        (format!("SELECT {} FROM \"{label}\"", names.join(", ")), false),
        (format!("SELECT {}, known_at, sequence, retracted FROM history('{label}')", names.join(", ")), true),
    ] {
        let rows = if history { seen.clone() } else { reference::surviving(&seen) };
        let mut expected: Vec<Line> = rows.into_iter().map(|row| line(row, history)).collect();
        expected.sort();
        let (_, batches) = select(&world.serving, &text).await.map_err(|error| format!("{text}: {error}"))?;
        let found = lines(&batches);
        ensure!(
            found == expected,
            "{text}\nexpected\n{}\ngot\n{}",
            tables::lines(&expected),
            tables::lines(&found)
        );
    }
    Ok(())
}

/// Every recorded set, made again after all that came later: the store as it was at an earlier sequence.
pub async fn replay_all(world: &mut World) -> Outcome {
    for recorded in &world.recorded {
        let (report, set) = world
            .serving
            .replay(recorded.id, &author())
            .await
            .map_err(|error| format!("replay of {}: {error}", recorded.id))?;
        ensure!(
            report.rebuilt == recorded.digest
                && report.digest == recorded.digest
                && report.differences.is_empty(),
            "{report:?}, recorded as {}",
            recorded.digest
        );
        let (made, again) = (whole(&recorded.batches), whole(&set.batches));
        ensure!(made.columns() == again.columns(), "the replay of {} has other rows", recorded.id);
        world.coverage.saw("made again from its id");
    }
    Ok(())
}
