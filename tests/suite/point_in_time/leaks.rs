//! The law against leaks: what lies beyond a spine row's time, by either clock, has no say in its answer.
//!
//! Some rows of a random view are moved beyond an instant. Then their values are changed, and then they are taken away
//! altogether. Whoever asks at that instant or before must not notice; whoever asks long after it must.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use feature::{Span, Timestamp};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serving::{HistoricalRequest, TrainingSet};

use super::scenario::{Batch, FEATURES, KnownRule, Row, Spine, UNITS, View, batch, spine, view};
use super::spine::{Rows, build};
use super::tables;
use super::world::World;
use crate::suite::cases;
use crate::suite::coverage::Coverage;
use crate::suite::stores::{author, spine as given};

const LEAKS: usize = 300;

/// A row that is moved, and what its values become.
#[derive(Clone, Debug)]
struct Move {
    batch: u8,
    row: u8,
    clock: ByClock,
    /// Whole units; none is a single microsecond.
    beyond: u8,
    values: [Option<u8>; FEATURES],
    retracts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByClock {
    Valid,
    Known,
}

#[derive(Clone, Debug)]
struct Case {
    unit: u8,
    view: View,
    batches: Vec<Batch>,
    moves: Vec<Move>,
    /// The instant: units, and microseconds beside them.
    at: (u8, i8),
    known_by: Option<u8>,
    spine: Spine,
}

fn case() -> impl Strategy<Value = Case> {
    let clock = prop_oneof![Just(ByClock::Valid), Just(ByClock::Known)];
    let values = prop::array::uniform4(option::weighted(0.85, 0..4u8));
    let one = (any::<u8>(), any::<u8>(), clock, 0..4u8, values, any::<bool>()).prop_map(
        |(batch, row, clock, beyond, values, retracts)| Move { batch, row, clock, beyond, values, retracts },
    );
    let at = (1..UNITS, -1..2i8);
    (0..4u8, view(), vec(batch(), 0..3), vec(one, 1..6), at, option::weighted(0.2, any::<u8>()), spine())
        .prop_map(|(unit, mut view, batches, moves, at, known_by, spine)| {
            // Rows say themselves when they were known.
            view.rule = KnownRule::Column;
            Case { unit, view, batches, moves, at, known_by, spine }
        })
}

/// What becomes of a row that was moved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Moved,
    Changed,
    Gone,
}

fn moved(row: &Row, by: &Move, at: (u8, i8)) -> Row {
    let mut row = row.clone();
    // A single microsecond is the least that is beyond.
    row.jitter = at.1 + i8::from(by.beyond == 0);
    match by.clock {
        ByClock::Valid => row.valid_at = at.0 + by.beyond,
        ByClock::Known => row.known = (at.0 + by.beyond) as i8 - row.valid_at as i8,
    }
    row
}

/// The batches after the moves. Moves that meet the same row again are left out.
fn batches(case: &Case, fate: Fate) -> Vec<Batch> {
    let mut batches: Vec<Batch> = std::iter::once(&case.view.first).chain(&case.batches).cloned().collect();
    let mut places: Vec<(usize, usize)> = Vec::new();
    for by in &case.moves {
        let batch = usize::from(by.batch) % batches.len();
        let place = (batch, usize::from(by.row) % batches[batch].rows.len());
        if places.contains(&place) {
            continue;
        }
        places.push(place);
        let row = &mut batches[place.0].rows[place.1];
        *row = moved(row, by, case.at);
        if fate == Fate::Changed {
            row.values = by.values;
            row.retracted ^= by.retracts;
        }
    }
    if fate == Fate::Gone {
        places.sort_unstable();
        for (batch, row) in places.into_iter().rev() {
            batches[batch].rows.remove(row);
        }
    }
    batches
}

async fn world(case: &Case, fate: Fate) -> World {
    let mut all = batches(case, fate);
    let mut view = case.view.clone();
    view.first = all.remove(0);
    let mut world = World::new(case.unit, &[view]).await;
    for batch in &all {
        world.ingest(0, batch).await;
    }
    world
}

async fn ask(
    world: &World,
    rows: &Rows,
    known_by: Option<i64>,
    ttl: Option<Span>,
) -> Result<TrainingSet, String> {
    let mut request = HistoricalRequest::new(["v0.*"]);
    request.at = rows.name_at.then(|| rows.at.clone());
    request.known_by = known_by.map(Timestamp);
    request.ttl = ttl.map(|ttl| ("v0".to_owned(), ttl)).into_iter().collect();
    request.record = false;
    let answer = world.serving.historical(given(rows.batches.clone()), request, &author()).await;
    answer.map_err(|error| format!("{error}\n{}\n{}", tables::spine(rows), tables::view(&world.views[0])))
}

fn whole(set: &TrainingSet) -> RecordBatch {
    concat_batches(&set.schema, &set.batches).unwrap()
}

/// The spine with no time after the instant, and with all times long after it.
fn spines(world: &World, case: &Case) -> (Rows, Rows) {
    let (mut before, mut after) = (case.spine.clone(), case.spine.clone());
    let last = world.time(case.at.0, case.at.1);
    for row in &mut before.rows {
        row.at = row.at.map(|(units, jitter, nanos)| match world.time(units, jitter) < last {
            true => (units, jitter, nanos),
            false => (case.at.0, case.at.1, 999),
        });
    }
    for row in &mut after.rows {
        row.at = row.at.map(|(units, jitter, nanos)| (units + 4 * UNITS, jitter, nanos));
    }
    let keys = &world.views[0].keys;
    (build(world, &before, keys), build(world, &after, keys))
}

async fn check(case: &Case) -> Result<Coverage, String> {
    let mut coverage = Coverage::default();
    let (first, changed, gone) =
        (world(case, Fate::Moved).await, world(case, Fate::Changed).await, world(case, Fate::Gone).await);
    let (before, after) = spines(&first, case);
    let last = first.time(case.at.0, case.at.1);
    let known_by = case.known_by.map(|units| first.time(units % case.at.0, 0));

    let sets = [
        ask(&first, &before, known_by, None).await?,
        ask(&changed, &before, known_by, None).await?,
        ask(&gone, &before, known_by, None).await?,
    ];
    let answers = sets.each_ref().map(whole);
    let told = |what: &str, other: usize, world: &World| {
        let table = |set: &RecordBatch| {
            arrow::util::pretty::pretty_format_batches(std::slice::from_ref(set)).unwrap()
        };
        format!(
            "{what} beyond {} changed what was known before\n{}\n{}\nbefore\n{}\nafter\n{}",
            Timestamp(last),
            tables::view(&first.views[0]),
            tables::view(&world.views[0]),
            table(&answers[0]),
            table(&answers[other])
        )
    };
    let reasons = |set: &TrainingSet| -> Vec<_> {
        set.report.features.iter().map(|feature| (feature.nulls.clone(), feature.defaulted)).collect()
    };
    if answers[0] != answers[1] || reasons(&sets[0]) != reasons(&sets[1]) {
        return Err(told("another value", 1, &changed));
    }
    // Without the row, the reason of a null may be another one.
    if answers[0].columns() != answers[2].columns() {
        return Err(told("a row", 2, &gone));
    }

    // Long after, and looking back as far.
    let ttl = Span::from_micros(first.units(u8::MAX));
    let later = [ask(&first, &after, None, ttl).await?, ask(&changed, &after, None, ttl).await?];
    coverage.saw_if(whole(&later[0]) != whole(&later[1]), "a value that shows later");
    let instant = before.times.iter().flatten().any(|at| *at == last);
    coverage.saw_if(instant, "asked at the instant itself");
    for by in &case.moves {
        let clock = match by.clock {
            ByClock::Valid => "valid_at",
            ByClock::Known => "known_at",
        };
        coverage.saw(format!("{clock} beyond the instant"));
        coverage.saw_if(by.beyond == 0, "a microsecond beyond the instant");
    }
    let matched: u64 = sets[0].report.views.iter().map(|view| view.matched).sum();
    coverage.saw_if(matched > 0, "something else was known");
    coverage.saw_if(known_by.is_some(), "known by an instant");
    Ok(coverage)
}

#[test]
fn what_lies_beyond_a_row_has_no_say_in_its_answer() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut coverage = Coverage::default();
    let cases = cases::run("leaks", LEAKS, &case(), |case| {
        coverage.merge(runtime.block_on(check(case))?);
        Ok(1)
    });
    assert!(cases >= LEAKS, "only {cases} cases");
    coverage.require(
        LEAKS as u64 / 20,
        [
            "a value that shows later",
            "asked at the instant itself",
            "valid_at beyond the instant",
            "known_at beyond the instant",
            "a microsecond beyond the instant",
            "something else was known",
            "known by an instant",
        ],
    );
}
