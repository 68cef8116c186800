//! The queue before work begins: who is let in, who waits, who is told to come back.

use std::time::Duration;

use arrow_flight::{FlightData, Ticket};
use serde_json::json;
use tokio::task::JoinHandle;
use tonic::{Code, Status, Streaming};

use super::fixture::{Running, empty_store, read, refused};
use super::metrics::{becomes, sample, watched};
use crate::{AdmissionLimits, ServeOptions};

const RUNNING: &str = "lineament_queries_running";
const WAITING: &str = "lineament_queries_waiting";
const ENDLESS: &str =
    "SELECT a.value FROM generate_series(1, 100000000) a CROSS JOIN generate_series(1, 1000) b";

/// As long, whoever reads it as fast as it comes: the other is refused after ten million rows.
const LONG: &str =
    "SELECT a.value FROM generate_series(1, 1000000) a CROSS JOIN generate_series(1, 1000000) b";

fn sql(text: &str) -> Ticket {
    Ticket::new(json!({ "sql": text }).to_string())
}

async fn limited(max_running: usize, max_queued: usize, max_wait: Duration) -> Running {
    let otherwise = AdmissionLimits::default();
    let admission = AdmissionLimits { max_running, max_queued, max_wait, ..otherwise };
    Running::over(empty_store().await, ServeOptions { admission, ..watched() }).await
}

/// A stream that runs until it is dropped.
async fn endless(server: &Running) -> Streaming<FlightData> {
    let mut rows = server.connect().await.do_get(sql(ENDLESS)).await.unwrap().into_inner();
    assert!(rows.message().await.unwrap().is_some());
    rows
}

async fn ask(server: &Running) -> JoinHandle<Result<usize, Status>> {
    let mut client = server.connect().await;
    tokio::spawn(async move {
        let rows = client.do_get(sql("SELECT 1")).await?.into_inner();
        Ok(read(rows).await?.batches.iter().map(arrow::array::RecordBatch::num_rows).sum())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_limits_one_waits_and_the_next_is_told_to_come_back() {
    let mut server = limited(1, 1, Duration::from_secs(60)).await;
    let http = server.http.unwrap();
    let running = endless(&server).await;
    let waiting = ask(&server).await;
    becomes(http, WAITING, 1.0).await;
    let status = refused(
        server.sql("SELECT 1").await,
        Code::ResourceExhausted,
        &["1 running, 1 waiting of at most 1", "try again in 0.2 s"],
    );
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "200");
    assert_eq!(sample(http, r#"lineament_queries_refused_total{reason="queue_full"}"#).await, 1.0);
    // What is no work passes at once, and an upload waits as a query does.
    server.act("lineament.status", &json!({})).await.unwrap();
    let erase = json!({ "entity": "origin", "key": { "origin": "EWR" }, "dry_run": true });
    refused(server.act("lineament.erase", &erase).await, Code::ResourceExhausted, &["try again"]);
    refused(
        server.put(super::fixture::path("weather"), vec![super::fixture::weather(1)]).await,
        Code::ResourceExhausted,
        &["try again"],
    );
    assert!(!waiting.is_finished());
    drop(running);
    assert_eq!(waiting.await.unwrap().unwrap(), 1);
    becomes(http, RUNNING, 0.0).await;
    assert_eq!(sample(http, WAITING).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_the_queue_gives_back_its_place() {
    let server = limited(1, 1, Duration::from_secs(60)).await;
    let http = server.http.unwrap();
    let running = endless(&server).await;
    let leaves = ask(&server).await;
    becomes(http, WAITING, 1.0).await;
    leaves.abort();
    becomes(http, WAITING, 0.0).await;
    let stays = ask(&server).await;
    becomes(http, WAITING, 1.0).await;
    drop(running);
    assert_eq!(stays.await.unwrap().unwrap(), 1);
    becomes(http, RUNNING, 0.0).await;
    assert_eq!(sample(http, r#"lineament_calls_total{method="DoGet",code="CANCELLED"}"#).await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_ever() {
    let mut server = limited(1, 8, Duration::from_secs(1)).await;
    let running = endless(&server).await;
    refused(server.sql("SELECT 1").await, Code::ResourceExhausted, &["waited 1 s", "1 running, 0 waiting"]);
    drop(running);
    server.sql("SELECT 1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_when_the_server_stops_is_told_so() {
    let server = limited(1, 8, Duration::from_secs(60)).await;
    let running = endless(&server).await;
    let waiting = ask(&server).await;
    becomes(server.http.unwrap(), WAITING, 1.0).await;
    let done = server.begin_to_stop();
    refused(waiting.await.unwrap(), Code::Unavailable, &["stopping"]);
    drop(running);
    tokio::time::timeout(Duration::from_secs(10), done).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_much_memory_is_held_one_runs_at_a_time() {
    let server = limited(8, 8, Duration::from_secs(60)).await;
    let http = server.http.unwrap();
    let memory = server.serving.memory().clone();
    let held = memory.reserve("something else");
    held.grow(memory.limit() / 2 + 1).unwrap();
    let first = endless(&server).await;
    let second = ask(&server).await;
    becomes(http, WAITING, 1.0).await;
    assert_eq!(sample(http, RUNNING).await, 1.0);
    // Memory that is given back lets the next one in, though nothing has ended.
    drop(held);
    assert_eq!(second.await.unwrap().unwrap(), 1);
    drop(first);
    becomes(http, RUNNING, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_runs_as_many_as_one_may_waits_for_its_own() {
    let admission = AdmissionLimits { max_each: 1, ..AdmissionLimits::default() };
    let server = Running::over(empty_store().await, ServeOptions { admission, ..watched() }).await;
    let http = server.http.unwrap();
    let running = endless(&server).await;
    let waiting = ask(&server).await;
    becomes(http, WAITING, 1.0).await;
    drop(running);
    assert_eq!(waiting.await.unwrap().unwrap(), 1);
}

/// The work ends with it, and the place is given back.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_longer_than_one_may_is_ended() {
    let max_time = Some(Duration::from_secs(3));
    let admission = AdmissionLimits { max_time, ..AdmissionLimits::default() };
    let mut server = Running::over(empty_store().await, ServeOptions { admission, ..watched() }).await;
    let http = server.http.unwrap();
    // One that nobody reads on from.
    let mut stalled = endless(&server).await;
    let mut rows = server.connect().await.do_get(sql(LONG)).await.unwrap().into_inner();
    let ended = async |rows: &mut Streaming<FlightData>| loop {
        match rows.message().await {
            Ok(message) => assert!(message.is_some(), "it ended as if it had given all"),
            Err(status) => break status,
        }
    };
    let status = ended(&mut rows).await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(
        status.message().contains("longer than 3s") && status.message().contains("--max-time"),
        "{status}"
    );
    becomes(http, RUNNING, 0.0).await;
    assert_eq!(ended(&mut stalled).await.code(), Code::DeadlineExceeded);
    assert_eq!(server.sql("SELECT 1").await.unwrap().num_rows(), 1);
}
