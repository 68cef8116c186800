//! What `EXPLAIN ANALYZE` says of a join, on stores of which it can be counted by hand; and which files the ttl leaves unread.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray};
use catalog::ingest::Claim;
use engine::Memory;
use futures::TryStreamExt;
use serving::{HistoricalRequest, Query, Serving};
use storage::environment::TestClock;
use storage::partition::Layout;

use super::lanes::{table, times};
use crate::suite::stores::{self, author, claimed, files, ingest, instant, memory};

const DAY: f64 = 86_400_000_000.0;
/// Ten keys of a hundred rows each, so that a page holds a key.
const KEYS: i64 = 10;
const OF_A_KEY: i64 = 100;

/// Four files: the days 0 to 9.9, 30 to 39.9, 60 to 69.9 and 90 to 99.9, a row of each key every tenth of a day. `acts` has a ttl of twenty
/// days, `ever` none.
async fn store() -> Serving {
    let serving = memory(&TestClock::new(instant("2026-01-01T00:00:00Z"))).await;
    let user = "kind = \"entity\"\nname = \"user\"\n[[keys]]\nname = \"user_id\"\ntype = \"int64\"\n";
    let view = |name: &str, ttl: &str| {
        format!(
            "kind = \"feature_view\"\nname = \"{name}\"\nentity = \"user\"\n{ttl}\
             [time]\nvalid_at = \"at\"\nknown_at = \"assumed\"\n[[features]]\nname = \"f\"\ntype = \"float64\"\n[[features]]\nname = \"n\"\ntype = \"int64\"\n"
        )
    };
    let (acts, ever) = (view("acts", "ttl = \"20d\"\n"), view("ever", ""));
    let definitions = files(&[("user.toml", user), ("acts.toml", &acts), ("ever.toml", &ever)]);
    serving.apply(definitions, &author()).await.unwrap();
    for month in 0..4 {
        let rows = || 0..KEYS * OF_A_KEY;
        let at = |row: i64| ((month * 30) as f64 * DAY + (row % OF_A_KEY) as f64 * DAY / 10.0) as i64;
        let value = |row: i64| (month * 10_000 + row) as f64 + 0.25;
        let batch = table(vec![
            ("user_id".into(), Arc::new(Int64Array::from_iter_values(rows().map(|row| row / OF_A_KEY)))),
            ("at".into(), times(rows().map(at))),
            ("f".into(), Arc::new(Float64Array::from_iter_values(rows().map(value)))),
            ("n".into(), Arc::new(Int64Array::from_iter_values(rows().map(|row| row * row)))),
        ]);
        for view in ["acts", "ever"] {
            let mut request = claimed(stores::rows(view, vec![batch.clone()]), Claim::BackFill);
            request.layout = Layout { page_rows: OF_A_KEY as usize, ..Layout::default() };
            ingest(&serving, request).await.unwrap();
        }
    }
    serving
}

/// Keys, and times in days.
fn spine(asked: &[(i64, f64)]) -> RecordBatch {
    table(vec![
        ("user_id".into(), Arc::new(Int64Array::from_iter_values(asked.iter().map(|(key, _)| *key)))),
        ("at".into(), times(asked.iter().map(|(_, day)| (day * DAY) as i64))),
    ])
}

async fn plan(serving: &Serving, tables: &[(&str, RecordBatch)], sql: &str) -> String {
    let session = serving.session(&catalog::Author::default()).await.unwrap();
    for (name, table) in tables {
        session.register(name, table.schema(), vec![table.clone()]).unwrap();
    }
    let query = Query::sql(format!("EXPLAIN ANALYZE {sql}"));
    let rows = serving.retrieve_in(&session, query, &author()).await.unwrap().collect().await.unwrap();
    arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string()
}

/// What the join says under some names.
fn said<const N: usize>(plan: &str, names: [&str; N]) -> [String; N] {
    let line = plan.lines().find(|line| line.contains("PointInTimeExec:"));
    let line = line.unwrap_or_else(|| panic!("{plan}"));
    let (_, metrics) = line.rsplit_once("metrics=[").unwrap();
    let (metrics, _) = metrics.split_once(']').unwrap();
    names.map(|name| {
        let mut metrics = metrics.split(", ");
        let value = metrics.find_map(|metric| metric.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("`{name}` is not said: {line}")).to_owned()
    })
}

const COUNTS: [&str; 10] = [
    "output_rows",
    "rows_matched",
    "files_matched",
    "files_pruned",
    "files_out_of_time",
    "pages_fetched",
    "pages_pruned",
    "values_decoded",
    "lanes",
    "spine_parts",
];

async fn counts(serving: &Serving, view: &str, asked: &[(i64, f64)]) -> [usize; COUNTS.len()] {
    let sql = format!(
        "SELECT f, n FROM historical_features(\
         (SELECT user_id, at FROM session.spine), features => ['{view}.f', '{view}.n'])"
    );
    let plan = plan(serving, &[("spine", spine(asked))], &sql).await;
    for phase in said(&plan, ["order_time", "match_time", "fetch_time", "assemble_time"]) {
        assert_ne!(phase, "NOT RECORDED", "{plan}");
    }
    let [rows, bytes] = said(&plan, ["rows_matched", "bytes_fetched"]);
    assert_eq!(rows == "0", bytes == "0", "{plan}");
    said(&plan, COUNTS).map(|count| count.parse().unwrap_or_else(|_| panic!("{count}: {plan}")))
}

#[tokio::test]
async fn explain_analyze_counts_rows_files_pages_and_values() {
    let serving = store().await;
    // Three rows find something in two pages of the third file, and nobody is the user 99. The other files end before day 45, or begin
    // after day 66.5.
    let found = counts(&serving, "acts", &[(3, 65.0), (99, 65.0), (3, 66.5), (7, 65.0)]).await;
    assert_eq!(found, [4, 3, 1, 3, 3, 2, 8, 200, 1, 1]);
    // Nothing is too old. All have found something in the third file, and the older ones are not read; the last is later than the spine.
    let found = counts(&serving, "ever", &[(3, 65.0), (3, 66.5), (7, 65.0)]).await;
    assert_eq!(found, [3, 3, 1, 3, 1, 2, 8, 200, 1, 1]);
    // Whoever has found nothing has the older ones read.
    let found = counts(&serving, "ever", &[(3, 65.0), (99, 65.0)]).await;
    assert_eq!(found[..5], [2, 1, 3, 1, 1]);
}

/// The newest observation is of day 69.9. A row that is beyond the ttl hides nothing, whether its file is read or not.
#[tokio::test]
async fn files_beyond_the_ttl_are_read_only_to_say_why() {
    let serving = store().await;
    for (day, matched, out_of_time, why) in [(89.85, 1, 3, None), (89.95, 0, 4, Some("expired"))] {
        let asked = [(3, day)];
        let [_, found, files_matched, _, files_out_of_time, ..] = counts(&serving, "acts", &asked).await;
        assert_eq!((found, files_matched, files_out_of_time), (matched, matched, out_of_time), "{day}");
        let mut request = HistoricalRequest::new(["acts.f"]);
        request.record = false;
        let given = stores::spine(vec![spine(&asked)]).into();
        let answer = serving.historical_stream(Some(given), request, &author()).await.unwrap();
        answer.rows.try_collect::<Vec<_>>().await.unwrap();
        let report = answer.report.await.unwrap();
        assert_eq!(report.views[0].matched, matched as u64);
        let expected: BTreeMap<String, u64> = why.map(|why: &str| (why.to_owned(), 1)).into_iter().collect();
        assert_eq!(report.features[0].nulls, expected, "{day}");
    }
}

/// The right side is twenty rows of a mebibyte, of which an eighth of the limit holds seven.
#[tokio::test(flavor = "multi_thread")]
async fn a_plain_right_side_waits_on_disk_where_it_is_more_than_its_share() {
    let serving = memory(&TestClock::new(instant("2026-01-01T00:00:00Z"))).await;
    let letters = |row: i64| "abcdefghij".repeat(1 << 17)[..1 << 20].replace('j', &(row % 10).to_string());
    let right = table(vec![
        ("user_id".into(), Arc::new(Int64Array::from_iter_values((0..20).map(|row| row % 3)))),
        ("at".into(), times((0..20).map(|row| row * 1_000))),
        ("note".into(), Arc::new(StringArray::from_iter_values((0..20).map(letters)))),
    ]);
    let left = spine(&[(0, 1.0), (1, 1.0), (7, 1.0)]);
    let tables = [("l", left), ("r", right)];
    let sql = "SELECT l.user_id, r.note FROM session.l ASOF JOIN session.r \
               MATCH_CONDITION (l.at >= r.at) ON l.user_id = r.user_id";
    for (limit, spilled) in [(1 << 30, ["0", "0"]), (64 << 20, ["3", "20"])] {
        let limit = Memory::new(limit);
        let plan = plan(&serving.clone().with_memory(limit.clone()), &tables, sql).await;
        assert_eq!(said(&plan, ["spill_count", "spilled_rows"]), spilled, "{limit:?}");
        assert_eq!(limit.held(), 0);
    }
}
