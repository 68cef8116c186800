//! Whoever drops a running query is heard: its work ends and gives its memory back long before it would have been done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Int64Array, RecordBatch};
use engine::{Memory, Session};
use futures::TryStreamExt;
use serving::{Query, Retrieval, Serving};
use storage::partition::Layout;

use super::lanes::{drawn, observations, store, table, times};
use crate::suite::stores::author;

const ROWS: i64 = 2_000_000;
/// Ten times what is meant, for machines that do other things meanwhile.
const SOON: Duration = Duration::from_secs(1);

async fn asked(serving: &Serving, tables: &[(&str, RecordBatch)], sql: &str) -> (Session, Retrieval) {
    let session = serving.session(&catalog::Author::default()).await.unwrap();
    for (name, table) in tables {
        let rows = table.num_rows();
        let part = |from: usize| table.slice(from, (rows - from).min(8_192));
        session.register(name, table.schema(), (0..rows).step_by(8_192).map(part).collect()).unwrap();
    }
    let retrieval = serving.retrieve_in(&session, Query::sql(sql), &author()).await.unwrap();
    (session, retrieval)
}

async fn who_leaves_is_heard(serving: Serving, tables: &[(&str, RecordBatch)], sql: &str) {
    let memory = Memory::new(3 << 30);
    let serving = serving.with_memory(memory.clone());
    let begun = Instant::now();
    let (_session, mut whole) = asked(&serving, tables, sql).await;
    let mut rows = 0;
    while let Some(batch) = whole.stream.try_next().await.unwrap() {
        rows += batch.num_rows();
    }
    drop(whole);
    let taken = begun.elapsed();
    assert_eq!(rows, ROWS as usize);
    for eighths in [1, 3, 5] {
        let (_session, mut left) = asked(&serving, tables, sql).await;
        let _ = tokio::time::timeout(taken * eighths / 8, left.stream.try_next()).await;
        let held = memory.held();
        assert!(held > 0, "it was not at work");
        let since = Instant::now();
        drop(left);
        while memory.held() > 0 {
            let most = SOON.max(taken / 4);
            assert!(since.elapsed() < most, "{held} bytes of {taken:?} of work are held after {most:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        println!("left after {eighths} eighths of {taken:?}, given back after {:?}", since.elapsed());
    }
}

/// Keys and times of many rows, and their numbers.
fn drawn_rows(seed: i64) -> RecordBatch {
    let number = |row: i64| row * 3 + seed;
    let key = |row| drawn(number(row), 500);
    let at = |row| drawn(number(row) * 7, 330 * 86_400) * 1_000_000;
    table(vec![
        ("row_id".into(), Arc::new(Int64Array::from_iter_values(0..ROWS))),
        ("user_id".into(), Arc::new(Int64Array::from_iter_values((0..ROWS).map(key)))),
        ("at".into(), times((0..ROWS).map(at))),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_a_retrieval_has_its_work_stopped() {
    let serving = store(Layout::default(), vec![observations(1, 40_000, 0, 330)]).await;
    let sql = "SELECT * FROM historical_features(\
               (SELECT * FROM session.spine), features => ['acts.colour', 'acts.f0'])";
    who_leaves_is_heard(serving, &[("spine", drawn_rows(1))], sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_a_join_of_plain_tables_has_its_work_stopped() {
    let serving = store(Layout::default(), Vec::new()).await;
    let sql = "SELECT l.row_id, r.row_id AS found FROM session.l ASOF JOIN session.r \
               MATCH_CONDITION (l.at >= r.at) ON l.user_id = r.user_id";
    who_leaves_is_heard(serving, &[("l", drawn_rows(1)), ("r", drawn_rows(2))], sql).await;
}
