//! What is recorded of reads, and the system views that show it.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use feature::Influence;
use lineage::{Edge, Source};
use serving::{
    ExplainRequest, ExplainValueRequest, HistoricalRequest, OpaqueReads, Query, ReadRecords, Serving,
    edges_of,
};

use super::store;
use crate::suite::stalling::stalling;
use crate::suite::stores::{author, instant, select, spine};
use crate::suite::tables::table;

/// The rows of a query as text, cells with `|` between them.
async fn lines(serving: &Serving, sql: &str) -> Vec<String> {
    let (_, batches) = select(serving, sql).await.unwrap();
    let line = |batch: &RecordBatch, row: usize| {
        let cells: Vec<String> =
            batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap()).collect();
        cells.join("|")
    };
    batches
        .iter()
        .flat_map(|batch| (0..batch.num_rows()).map(|row| line(batch, row)).collect::<Vec<_>>())
        .collect()
}

async fn flush(serving: &Serving) {
    serving.flush(&author()).await.unwrap();
}

#[tokio::test]
async fn a_read_is_recorded_with_what_it_read_and_what_that_became() {
    let serving = store::with(|_, rows| rows).await;
    let sql = "SELECT upper(sky) AS s, 1 AS one FROM weather WHERE temp > 38";
    select(&serving, sql).await.unwrap();
    assert_eq!(lines(&serving, "SELECT count(*) FROM lineament.reads").await, ["0"], "not before the flush");
    flush(&serving).await;
    let reads = "SELECT principal, program, sequence, statement, \"columns\", filters, functions, \"rows\", error, status, reason FROM lineament.reads";
    assert_eq!(
        lines(&serving, reads).await,
        [format!(
            "tester|suite 1|5|{sql}|weather@1.sky, weather@1.temp|weather@1.temp > 38|upper|3||complete|"
        )]
    );
    let columns = "SELECT output, expression, feature_view, version, \"column\", sequence, kind, subtype FROM lineament.read_columns ORDER BY output, \"column\"";
    assert_eq!(
        lines(&serving, columns).await,
        [
            "one|1||||||",
            "s|upper(weather@1.sky)|weather|1|sky|5|direct|TRANSFORMATION",
            "||weather|1|temp|5|indirect|FILTER",
        ]
    );
    assert_eq!(lines(&serving, "SELECT subject FROM lineament.untraced").await, [""; 0]);
    // Reads of the system views touch no feature.
    flush(&serving).await;
    assert_eq!(lines(&serving, "SELECT count(*) FROM lineament.reads").await, ["1"]);
}

#[tokio::test]
async fn only_columns_that_are_needed_are_recorded() {
    let serving = store::with(|_, rows| rows).await;
    for (sql, columns) in [
        ("SELECT t FROM (SELECT temp AS t, visib AS v FROM weather)", "weather@1.temp"),
        ("SELECT count(*) FROM weather", "weather@1.*"),
        ("SELECT seats FROM planes ORDER BY valid_at LIMIT 1", "planes@1.seats, planes@1.valid_at"),
        (
            "SELECT d.delay, w.temp FROM departures d ASOF JOIN weather w MATCH_CONDITION (d.valid_at >= w.valid_at) ON d.origin = w.origin",
            "departures@1.delay, departures@1.origin, departures@1.valid_at, weather@1.known_at, weather@1.origin, weather@1.temp, weather@1.valid_at",
        ),
    ] {
        select(&serving, sql).await.unwrap();
        flush(&serving).await;
        let recorded =
            lines(&serving, &format!("SELECT \"columns\" FROM lineament.reads WHERE statement = '{sql}'"))
                .await;
        assert_eq!(recorded, [columns], "{sql}");
    }
}

#[tokio::test]
async fn time_travel_is_recorded_at_the_sequence_that_was_read() {
    let serving = store::with(|_, rows| rows).await;
    select(&serving, "SELECT temp FROM at_sequence('weather', 2)").await.unwrap();
    select(&serving, "SELECT temp FROM weather FOR SYSTEM_TIME AS OF TIMESTAMP '2013-02-01T01:30:00Z'")
        .await
        .unwrap();
    flush(&serving).await;
    assert_eq!(lines(&serving, "SELECT sequence FROM lineament.reads").await, ["2", "2"]);
    assert_eq!(store::EARLY, 2);
}

#[tokio::test]
async fn what_cannot_be_traced_is_visible_and_may_be_refused() {
    let serving = store::with(|_, rows| rows).await;
    let sql = "WITH RECURSIVE r AS (SELECT temp AS n FROM weather UNION ALL SELECT n - 1 FROM r WHERE n > 40) SELECT max(n) AS m FROM r";
    assert_eq!(lines(&serving, sql).await, ["44"]);
    flush(&serving).await;
    let untraced = "SELECT subject_kind, node, reason, statement FROM lineament.untraced";
    let reason = "`r` is defined by itself, and what its columns come from changes with each round";
    assert_eq!(lines(&serving, untraced).await, [format!("read|RecursiveQuery|{reason}|{sql}")]);
    // What it read is known all the same.
    let read = "SELECT status, reason, \"columns\" FROM lineament.reads";
    assert_eq!(lines(&serving, read).await, [format!("refused|RecursiveQuery: {reason}|weather@1.temp")]);
    assert_eq!(lines(&serving, "SELECT count(*) FROM lineament.read_columns").await, ["0"]);

    let strict = serving.clone().with_opaque_reads(OpaqueReads::Refuse);
    let refused = select(&strict, sql).await.unwrap_err();
    assert_eq!(refused.kind(), serving::Kind::Forbidden);
    assert!(refused.to_string().contains("RecursiveQuery"), "{refused}");
    assert!(refused.to_string().contains("--opaque-reads record"), "{refused}");
    assert_eq!(lines(&strict, "SELECT max(temp) FROM weather").await, ["44"]);
    flush(&serving).await;
    assert_eq!(lines(&serving, "SELECT count(*) FROM lineament.reads").await, ["2"]);
}

#[tokio::test]
async fn parameters_are_recorded_beside_the_statement() {
    let serving = store::with(|_, rows| rows).await;
    let parameters = serde_json::json!({"$1": 38});
    let query = Query::sql("SELECT temp FROM weather WHERE temp > 38")
        .with_parameters(parameters.as_object().cloned());
    serving.retrieve(query, &author()).await.unwrap().collect().await.unwrap();
    flush(&serving).await;
    assert_eq!(lines(&serving, "SELECT parameters FROM lineament.reads").await, [r#"{"$1":38}"#]);
}

#[tokio::test]
async fn a_query_that_fails_while_it_runs_is_recorded_with_its_error() {
    let serving = store::with(|_, rows| rows).await;
    let failed = select(&serving, "SELECT 1 / (temp - temp) AS x FROM weather WHERE temp IS NOT NULL").await;
    assert!(failed.is_err());
    flush(&serving).await;
    let recorded = lines(&serving, "SELECT status, error FROM lineament.reads").await;
    assert_eq!(recorded.len(), 1);
    assert!(
        recorded[0].starts_with("complete|") && recorded[0].to_lowercase().contains("zero"),
        "{recorded:?}"
    );
}

/// A process that is killed loses what waits for its flush. Of one that waits for its records, nothing waits.
#[tokio::test]
async fn an_answer_that_came_whole_is_on_record_where_none_may_end_before() {
    let serving = store::with(|_, rows| rows).await;
    let careful = serving.clone().with_read_records(ReadRecords::BeforeTheEnd(author()));
    let recorded = async || lines(&serving, "SELECT kind FROM lineament.reads ORDER BY kind").await;
    select(&careful, "SELECT temp FROM weather").await.unwrap();
    assert_eq!(recorded().await, ["sql"]);
    let mut unrecorded = HistoricalRequest::new(["weather.temp"]);
    unrecorded.record = false;
    careful.historical(spine(vec![table(SPINE)]), unrecorded, &author()).await.unwrap();
    assert_eq!(recorded().await, ["historical_features", "sql"]);
    let asked = ExplainValueRequest {
        feature: "weather.temp".to_owned(),
        key: [("origin".to_owned(), "EWR".into())].into(),
        at: instant("2013-01-01T06:45:00Z"),
        known_by: None,
        sequence: None,
        exhaustive: false,
    };
    careful.explain_value(asked, &author()).await.unwrap();
    assert_eq!(recorded().await, ["explain", "historical_features", "sql"]);
    // What failed is on record when it is told.
    select(&careful, "SELECT 1 / (temp - temp) AS x FROM weather WHERE temp IS NOT NULL").await.unwrap_err();
    assert_eq!(recorded().await.len(), 4);
}

#[tokio::test]
async fn no_answer_ends_while_its_record_is_being_written_and_those_that_wait_share_an_entry() {
    let serving = store::with(|_, rows| rows).await;
    let (slow, objects) = stalling(&serving, "reads/").await;
    let careful = slow.with_read_records(ReadRecords::BeforeTheEnd(author()));
    let ask = || {
        let careful = careful.clone();
        tokio::spawn(async move { select(&careful, "SELECT temp FROM weather").await.map(|_| ()) })
    };
    let first = ask();
    objects.reached.notified().await;
    let others: Vec<_> = (0..5).map(|_| ask()).collect();
    while careful.reads_waiting().0 < others.len() {
        tokio::task::yield_now().await;
    }
    assert!(!first.is_finished() && others.iter().all(|other| !other.is_finished()));
    objects.go.notify_one();
    for answer in others.into_iter().chain([first]) {
        answer.await.unwrap().unwrap();
    }
    let state = serving.catalog().refresh().await.unwrap();
    let entries: Vec<u64> = state.reads().iter().map(|recorded| recorded.record.reads).collect();
    assert_eq!(entries, [1, 5]);
}

const SPINE: &str = "
    origin string | at timestamp         | label int64
    EWR           | 2013-01-01T06:45:00Z | 1
    JFK           | 2013-01-01T06:45:00Z | 0";

/// A retrieval's edges as it records them, and as the engine traces the plan of it, are the same.
#[tokio::test]
async fn a_training_set_and_the_trace_of_its_plan_have_the_same_edges() {
    let serving = store::with(|_, rows| rows).await;
    let features = ["weather.temp", "departures.carrier"];
    let rows = spine(vec![table(SPINE)]);
    let set = serving.historical(rows.clone(), HistoricalRequest::new(features), &author()).await.unwrap();
    let manifest = serving.manifest(set.report.training_set.unwrap()).await.unwrap();

    let session = serving.session(&catalog::Author::default()).await.unwrap();
    let asked = engine::features::Request::new(features);
    let resolved = engine::features::resolve(session.snapshot(), &asked).await.unwrap();
    let plan = session.rows("spine", rows.schema, rows.batches).unwrap();
    let plan = engine::features::plan(plan, "at", &resolved).unwrap();
    let traced = session.prepare_traced(&plan).await.unwrap().traced;
    let text =
        |edges: &[Edge]| -> BTreeSet<String> { edges.iter().map(|edge| format!("{edge:?}")).collect() };
    let edges = edges_of(&traced);
    assert_eq!(text(&edges), text(&manifest.lineage));
    let direct = |edge: &&Edge| edge.kind.is_direct();
    assert_eq!(edges.iter().filter(direct).count(), 5);
    assert!(edges.iter().filter(direct).all(|edge| edge.kind == Influence::Identity));
    assert!(edges.iter().any(|edge| matches!(&edge.source, Source::Spine { column } if column == "label")));
}

#[tokio::test]
async fn calls_that_are_no_sql_are_recorded_alike() {
    let serving = store::with(|_, rows| rows).await;
    let rows = spine(vec![table(SPINE)]);
    let recorded =
        serving.historical(rows.clone(), HistoricalRequest::new(["weather.temp"]), &author()).await.unwrap();
    let request = HistoricalRequest { record: false, ..HistoricalRequest::new(["weather.temp"]) };
    serving.historical(rows, request, &author()).await.unwrap();
    let request = ExplainRequest {
        exhaustive: false,
        training_set: recorded.report.training_set.unwrap(),
        row: 0,
        column: "temp".to_owned(),
    };
    serving.explain(request, &author()).await.unwrap();
    flush(&serving).await;
    let columns = "weather@1.known_at, weather@1.origin, weather@1.temp, weather@1.valid_at";
    assert_eq!(
        lines(&serving, "SELECT \"columns\", status FROM lineament.reads").await,
        vec![format!("{columns}|complete"); 2]
    );
    let values = "SELECT DISTINCT output, feature_view, \"column\" FROM lineament.read_columns WHERE output = 'temp' AND kind = 'direct'";
    assert_eq!(lines(&serving, values).await, ["temp|weather|temp"]);
}

/// Many reads, each from several tasks, are all there and each once.
#[tokio::test(flavor = "multi_thread")]
async fn every_read_is_recorded_once_whoever_reads() {
    let serving = store::with(|_, rows| rows).await;
    let serving = Arc::new(serving);
    let tasks = (0..8).map(|task| {
        let serving = serving.clone();
        tokio::spawn(async move {
            for read in 0..5 {
                select(&serving, &format!("SELECT temp, {task} AS t, {read} AS r FROM weather"))
                    .await
                    .unwrap();
                if read == 2 {
                    flush(&serving).await;
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    flush(&serving).await;
    let counted = "SELECT count(*), count(DISTINCT read), count(DISTINCT statement), sum(\"rows\") FROM lineament.reads";
    assert_eq!(lines(&serving, counted).await, ["40|40|40|320"]);
}
