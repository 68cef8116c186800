//! A large spine is dealt into lanes, and where memory is short they wait on disk. Whichever way it goes, each row has the answer that it has in a
//! small spine, which goes through as one and is what the law compares with the reference.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimestampMicrosecondType};
use catalog::ingest::{Claim, Request};
use engine::Memory;
use feature::Timestamp;
use futures::TryStreamExt;
use object_store::ObjectStore;
use serving::{Query, Serving};
use storage::environment::TestClock;
use storage::partition::Layout;

use crate::suite::stores::{author, claimed, files, ingest, instant, memory, rows};

const ENTITIES: i64 = 500;
const FEATURES: usize = 12;
const SPINE: usize = 60_000;
/// Rows of a spine that goes through as one.
const SMALL: usize = 4_000;

/// Numbers that look random, below a bound.
pub fn drawn(number: i64, below: i64) -> i64 {
    let mut state = (number as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((state ^ (state >> 27)) >> 8) as i64 % below
}

pub fn times(micros: impl Iterator<Item = i64>) -> ArrayRef {
    let start = instant("2025-01-01T00:00:00Z").micros();
    let times = arrow::array::TimestampMicrosecondArray::from_iter_values(micros.map(|at| start + at));
    Arc::new(times.with_timezone("UTC"))
}

pub fn table(columns: Vec<(String, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, column)| Field::new(name, column.data_type().clone(), column.null_count() > 0))
        .collect();
    let arrays = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

/// Observations of a stretch of days; some values are null, and some are the same many times.
pub fn observations(seed: i64, count: i64, from_day: i64, days: i64) -> RecordBatch {
    let day = 86_400_000_000;
    let at = |row: i64| from_day * day + drawn(row * 7 + seed, days * 1440) * 60_000_000;
    let mut columns: Vec<(String, ArrayRef)> = vec![
        (
            "user_id".into(),
            Arc::new(Int64Array::from_iter_values((0..count).map(|row| drawn(row * 3 + seed, ENTITIES)))),
        ),
        ("at_time".into(), times((0..count).map(at))),
        ("known".into(), times((0..count).map(|row| at(row) + drawn(row + seed, 3) * 3_600_000_000))),
        (
            "colour".into(),
            Arc::new(StringArray::from_iter(
                (0..count)
                    .map(|row| (drawn(row + seed, 9) > 0).then(|| format!("colour {}", drawn(row, 40)))),
            )),
        ),
    ];
    for feature in 0..FEATURES as i64 {
        let value = |row: i64| match feature % 3 {
            0 => Some(drawn(row * 11 + feature, 1 << 40) as f64),
            1 => Some(drawn(row + feature, 20) as f64),
            _ => (drawn(row + feature, 5) > 0).then(|| drawn(row * 5 + feature, 100_000) as f64 / 4.0),
        };
        columns.push((format!("f{feature}"), Arc::new(Float64Array::from_iter((0..count).map(value)))));
    }
    table(columns)
}

pub async fn store(layout: Layout, batches: Vec<RecordBatch>) -> Serving {
    let clock = TestClock::new(instant("2026-01-01T00:00:00Z"));
    let serving = memory(&clock).await;
    let mut features = "[[features]]\nname = \"colour\"\ntype = \"string\"\n".to_owned();
    for feature in 0..FEATURES {
        features += &format!("[[features]]\nname = \"f{feature}\"\ntype = \"float64\"\n");
    }
    let view = format!(
        "kind = \"feature_view\"\nname = \"acts\"\nentity = \"user\"\nttl = \"20d\"\n\
         [time]\nvalid_at = \"at_time\"\nknown_at = {{ column = \"known\" }}\n{features}"
    );
    let user = "kind = \"entity\"\nname = \"user\"\n[[keys]]\nname = \"user_id\"\ntype = \"int64\"\n";
    serving.apply(files(&[("user.toml", user), ("acts.toml", &view)]), &author()).await.unwrap();
    for batch in batches {
        let mut request: Request = claimed(rows("acts", vec![batch]), Claim::BackFill);
        request.layout = layout;
        ingest(&serving, request).await.unwrap();
    }
    serving
}

/// Unsorted, with unknown users, null keys and null times, and times before and after all observations.
fn spine() -> RecordBatch {
    let rows = 0..SPINE as i64;
    let keys = rows.clone().map(|row| (drawn(row, 50) > 0).then(|| drawn(row * 13, ENTITIES + 20)));
    let start = instant("2025-01-01T00:00:00Z").micros();
    let at = rows.clone().map(|row| {
        (drawn(row + 5, 60) > 0)
            .then(|| start + (drawn(row * 17, 400) - 20) * 86_400_000_000 + drawn(row, 86_400_000_000))
    });
    let at = arrow::array::TimestampMicrosecondArray::from_iter(at).with_timezone("UTC");
    table(vec![
        ("row_id".into(), Arc::new(Int64Array::from_iter_values(rows))),
        ("user_id".into(), Arc::new(Int64Array::from_iter(keys))),
        ("at".into(), Arc::new(at)),
    ])
}

async fn ask(serving: &Serving, spine: &[RecordBatch], select: &str) -> RecordBatch {
    let session = serving.session(&catalog::Author::default()).await.unwrap();
    session.register("spine", spine[0].schema(), spine.to_vec()).unwrap();
    let sql = format!(
        "SELECT {select} FROM historical_features((SELECT row_id, user_id, at FROM session.spine ORDER BY row_id), features => ['acts.*'])"
    );
    let retrieval = serving.retrieve_in(&session, Query::sql(sql), &author()).await.unwrap();
    let schema = retrieval.schema.clone();
    concat_batches(&schema, &retrieval.collect().await.unwrap()).unwrap()
}

/// The same rows in small spines.
async fn in_small_spines(serving: &Serving, spine: &RecordBatch) -> RecordBatch {
    let mut parts = Vec::new();
    for from in (0..SPINE).step_by(SMALL) {
        parts.push(ask(serving, &[spine.slice(from, SMALL.min(SPINE - from))], "*").await);
    }
    concat_batches(&parts[0].schema(), &parts).unwrap()
}

fn count_and_sum(rows: &RecordBatch, column: &str) -> (u64, f64) {
    let values = rows.column_by_name(column).unwrap().as_primitive::<Float64Type>();
    (values.len() as u64 - values.null_count() as u64, values.iter().flatten().sum())
}

/// Names the first row that differs, for there are very many.
fn assert_equal(found: &RecordBatch, expected: &RecordBatch, what: &str) {
    assert_eq!(found.schema(), expected.schema(), "{what}");
    assert_eq!(found.num_rows(), expected.num_rows(), "{what}");
    for row in 0..expected.num_rows() {
        let (found, expected) = (found.slice(row, 1), expected.slice(row, 1));
        assert_eq!(found, expected, "{what}: row {row}");
    }
}

async fn every_way_gives_the_same(serving: Serving) {
    let spine = spine();
    let expected = in_small_spines(&serving, &spine).await;
    // In batches as a client would send them.
    let batches: Vec<RecordBatch> =
        (0..SPINE).step_by(7_000).map(|from| spine.slice(from, 7_000.min(SPINE - from))).collect();
    assert_equal(&ask(&serving, &batches, "*").await, &expected, "together in memory");

    // In no order, for an aggregate: of each feature as many values as before, and their sum.
    let select: Vec<String> = (0..FEATURES)
        .map(|feature| format!("count(f{feature}) AS c{feature}, sum(f{feature}) AS s{feature}"))
        .collect();
    let totals = ask(&serving, &batches, &select.join(", ")).await;
    for feature in 0..FEATURES {
        let (count, sum) = count_and_sum(&expected, &format!("f{feature}"));
        let found =
            totals.column_by_name(&format!("c{feature}")).unwrap().as_primitive::<Int64Type>().value(0);
        let total =
            totals.column_by_name(&format!("s{feature}")).unwrap().as_primitive::<Float64Type>().value(0);
        assert_eq!(found as u64, count, "f{feature}");
        assert!((total - sum).abs() <= 1e-9 * sum.abs(), "f{feature}: {total} and {sum}");
    }
    let matched = SPINE - expected.column_by_name("f0").unwrap().null_count();
    assert!(matched > SPINE / 4 && matched < SPINE * 9 / 10, "{matched} rows found something");
    let at = spine.column_by_name("at").unwrap().as_primitive::<TimestampMicrosecondType>();
    assert!(at.null_count() > 100 && Timestamp(at.value(0)).micros() != 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_batch_in_buckets() {
    let layout = Layout { target_rows: 5_000, page_rows: 256, ..Layout::default() };
    every_way_gives_the_same(store(layout, vec![observations(1, 40_000, 0, 330)]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_one_month_each() {
    let months = (0..11).map(|month| observations(month, 4_000, month * 30, 30)).collect();
    every_way_gives_the_same(store(Layout::default(), months).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_batches_of_overlapping_times() {
    let batches = (0..24).map(|batch| observations(batch, 1_500, 0, 330)).collect();
    every_way_gives_the_same(store(Layout::default(), batches).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_and_later_corrections() {
    let layout = Layout { target_rows: 5_000, page_rows: 256, ..Layout::default() };
    let batches =
        vec![observations(1, 40_000, 0, 330), observations(2, 4_000, 0, 330), observations(1, 3_000, 0, 330)];
    every_way_gives_the_same(store(layout, batches).await).await;
}

/// The rows take more than the limit.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_into_memory_waits_on_disk_and_keeps_its_order() {
    let layout = Layout { target_rows: 5_000, page_rows: 256, ..Layout::default() };
    let serving = store(layout, vec![observations(1, 40_000, 0, 330)]).await;
    let spine = spine();
    // The same rows twelve times, under numbers of their own.
    let large: Vec<RecordBatch> = (0..12)
        .map(|part| {
            let numbers = (0..SPINE).map(|row| (part * SPINE + row) as i64);
            let mut columns = spine.columns().to_vec();
            columns[0] = Arc::new(Int64Array::from_iter_values(numbers));
            RecordBatch::try_new(spine.schema(), columns).unwrap()
        })
        .collect();
    let expected = ask(&serving, std::slice::from_ref(&spine), "*").await;
    let memory = Memory::new(96 << 20);
    let serving = serving.with_memory(memory.clone());
    let found = ask(&serving, &large, "*").await;
    assert_eq!(memory.held(), 0, "all that was charged is given back");
    assert_eq!(found.num_rows(), 12 * SPINE);
    for part in 0..12 {
        let mut part_found = found.slice(part * SPINE, SPINE);
        let numbers = part_found.remove_column(0);
        assert_eq!(numbers.as_primitive::<Int64Type>().value(0), (part * SPINE) as i64);
        let mut part_expected = expected.clone();
        part_expected.remove_column(0);
        assert_equal(&part_found, &part_expected, &format!("part {part}"));
    }
    let plan = ask_plan(&serving, &large).await;
    assert!(plan.contains("spilled_rows=") && !plan.contains("spill_count=0,"), "{plan}");
}

const NOTED: i64 = 76_000;

/// A thousand letters that do not compress.
fn note(row: i64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";
    let word = |at: u64| {
        let state = (row as u64 * 100 + at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state ^ (state >> 27)
    };
    let letters = |word: u64| (0..10).map(move |at| char::from(LETTERS[(word >> (6 * at)) as usize & 63]));
    (0..100).map(word).flat_map(letters).collect()
}

/// The observations of a view take more than the limit, as they are stored and in memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_is_larger_than_memory_streams() {
    let serving = memory(&TestClock::new(instant("2026-01-01T00:00:00Z"))).await;
    let user = "kind = \"entity\"\nname = \"user\"\n[[keys]]\nname = \"user_id\"\ntype = \"int64\"\n";
    let view = "kind = \"feature_view\"\nname = \"notes\"\nentity = \"user\"\n\
                [time]\nvalid_at = \"at\"\nknown_at = \"arrival\"\n[[features]]\nname = \"note\"\ntype = \"string\"\n";
    serving.apply(files(&[("user.toml", user), ("notes.toml", view)]), &author()).await.unwrap();
    for part in 0..4 {
        let mine = || (0..NOTED).filter(move |row| row % 4 == part);
        let batch = table(vec![
            ("user_id".into(), Arc::new(Int64Array::from_iter_values(mine().map(|row| row % ENTITIES)))),
            ("at".into(), times(mine().map(|row| row * 60_000_000))),
            ("note".into(), Arc::new(StringArray::from_iter_values(mine().map(note)))),
        ]);
        let mut request = rows("notes", vec![batch]);
        request.layout = Layout { target_rows: 6_000, ..Layout::default() };
        ingest(&serving, request).await.unwrap();
    }
    let limit = 64 << 20;
    let objects = serving.catalog().store().objects();
    let stored: Vec<_> = objects.list(Some(&"data".into())).try_collect().await.unwrap();
    let bytes: u64 = stored.iter().map(|object| object.size).sum();
    assert!(bytes > limit, "{bytes} bytes are stored");

    // Few rows, and all of them: these take more than the limit too.
    let small = serving.clone().with_memory(Memory::new(limit));
    for step in [60, 1] {
        let asked = || (0..NOTED).step_by(step);
        let spine = table(vec![
            ("user_id".into(), Arc::new(Int64Array::from_iter_values(asked().map(|row| row % ENTITIES)))),
            // What was known when it came, and is asked for in another order than it is stored.
            ("at".into(), times(asked().map(|row| 400 * 86_400_000_000 + row * 7_919 % NOTED))),
            ("seen".into(), times(asked().map(|row| row * 7_919 % NOTED * 60_000_000))),
        ]);
        let mut answers = Vec::new();
        for serving in [&serving, &small] {
            let session = serving.session(&catalog::Author::default()).await.unwrap();
            session.register("spine", spine.schema(), vec![spine.clone()]).unwrap();
            let sql = "SELECT n.note FROM session.spine s ASOF JOIN history('notes') n \
                       MATCH_CONDITION (s.seen >= n.valid_at) ON s.user_id = n.user_id";
            let view = "SELECT note FROM historical_features(\
                        (SELECT user_id, at FROM session.spine), features => ['notes.note'])";
            for sql in [sql, view] {
                let answer = serving.retrieve_in(&session, Query::sql(sql), &author()).await;
                let mut rows = answer.unwrap().stream;
                let mut digest = std::hash::DefaultHasher::new();
                let mut count = 0;
                while let Some(batch) = rows.try_next().await.unwrap() {
                    let notes = arrow::compute::cast(batch.column(0), &DataType::Utf8).unwrap();
                    for note in notes.as_string::<i32>() {
                        count += usize::from(note.is_some());
                        note.hash(&mut digest);
                    }
                }
                answers.push((count, digest.finish()));
            }
        }
        assert!(answers[0].0 > 0 && answers[1].0 == spine.num_rows(), "{answers:?}");
        assert_eq!(answers[..2], answers[2..]);
    }
    assert_eq!(small.memory().held(), 0);
}

async fn ask_plan(serving: &Serving, spine: &[RecordBatch]) -> String {
    let session = serving.session(&catalog::Author::default()).await.unwrap();
    session.register("spine", spine[0].schema(), spine.to_vec()).unwrap();
    let sql = "EXPLAIN ANALYZE SELECT * FROM historical_features(\
               (SELECT row_id, user_id, at FROM session.spine ORDER BY row_id), features => ['acts.*'])";
    let retrieval = serving.retrieve_in(&session, Query::sql(sql), &author()).await.unwrap();
    arrow::util::pretty::pretty_format_batches(&retrieval.collect().await.unwrap()).unwrap().to_string()
}
