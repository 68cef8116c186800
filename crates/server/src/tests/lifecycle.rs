//! Starting, stopping, leaving.

use std::time::Duration;

use arrow_flight::{Action, Ticket};
use futures::StreamExt;
use serde_json::json;
use tonic::Code;

use super::fixture::{Running, connect, empty_store, options, refused};
use super::metrics::{becomes, get, sample, watched};
use crate::{Error, ServeOptions, Server, serve};

// A cross join gives a batch for each row of its left side: the right one is the long one.
const MANY: &str = "SELECT a.temp, b.wind_dir, b.temp AS t FROM weather a CROSS JOIN weather b CROSS JOIN generate_series(1, 2304) e";
const MANY_ROWS: usize = 24 * 24 * 2304;

#[tokio::test]
async fn only_loopback_is_served() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "10.0.0.1:8815"] {
        let refused = Server::bind(empty_store().await, options(address)).await.err().unwrap();
        assert!(matches!(refused, Error::NotLoopback { .. }));
        for part in ["loopback", "--tls-cert and --tls-key, and --tokens"] {
            assert!(refused.to_string().contains(part), "{refused}");
        }
    }
    let first = Server::bind(empty_store().await, options("127.0.0.1:0")).await.unwrap();
    assert_ne!(first.address().port(), 0);
    let taken =
        serve(empty_store().await, options(&first.address().to_string()), async {}).await.unwrap_err();
    assert!(matches!(taken, Error::Bind { .. }), "{taken}");
    assert!(taken.to_string().contains("another server"), "{taken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn running_streams_finish_after_shutdown_began() {
    let mut server = Running::with_weather().await;
    let address = server.address;
    let mut rows =
        server.client.do_get(Ticket::new(json!({ "sql": MANY }).to_string())).await.unwrap().into_inner();
    let mut count = 0;
    let schema = rows.message().await.unwrap().unwrap();
    assert!(!schema.data_header.is_empty());
    let done = server.begin_to_stop();
    while let Some(message) = rows.message().await.unwrap() {
        let header = arrow::ipc::root_as_message(&message.data_header).unwrap();
        count += usize::try_from(header.header_as_record_batch().unwrap().length()).unwrap();
    }
    assert_eq!(count, MANY_ROWS);
    tokio::time::timeout(Duration::from_secs(10), done).await.unwrap().unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn work_stops_when_a_client_leaves() {
    let server = Running::with_weather().await;
    let mut leaving = server.connect().await;
    // Far more rows than anybody could send in the time that this test has.
    let endless = "SELECT a.temp, b.value FROM weather a CROSS JOIN generate_series(1, 100000000) b";
    let rows = leaving.do_get(Ticket::new(json!({ "sql": endless }).to_string())).await.unwrap().into_inner();
    let mut rows = Box::pin(rows);
    for _ in 0..3 {
        assert!(rows.next().await.unwrap().is_ok());
    }
    drop(rows);
    drop(leaving);
    let started = std::time::Instant::now();
    let done = server.begin_to_stop();
    tokio::time::timeout(Duration::from_secs(20), done).await.unwrap().unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_are_on_record_after_shutdown() {
    let mut server = Running::with_weather().await;
    let serving = server.serving.clone();
    server.sql("SELECT temp FROM weather").await.unwrap();
    let done = server.begin_to_stop();
    done.await.unwrap().unwrap();
    let state = serving.catalog().refresh().await.unwrap();
    let recorded =
        state.log().iter().filter(|line| line.records.iter().any(|(_, name)| *name == "reads_recorded"));
    assert_eq!(recorded.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_are_recorded_while_it_runs() {
    let mut server = Running::with_weather().await;
    server.sql("SELECT temp FROM weather").await.unwrap();
    for _ in 0..100 {
        let state = server.serving.catalog().refresh().await.unwrap();
        if state.log().iter().any(|line| line.records.iter().any(|(_, name)| *name == "reads_recorded")) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no read was recorded within ten seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_stops_it_is_not_ready_and_takes_no_calls() {
    let server = Running::over(empty_store().await, watched()).await.and_weather().await;
    let http = server.http.unwrap();
    let mut client = server.connect().await;
    let mut rows = client.do_get(Ticket::new(json!({ "sql": MANY }).to_string())).await.unwrap().into_inner();
    assert!(rows.message().await.unwrap().is_some());
    assert_eq!(get(http, "/readyz").await.0, 200);
    let mut server = server;
    let mut other = server.connect().await;
    let address = server.address;
    server.act("lineament.status", &json!({})).await.unwrap();
    let done = server.begin_to_stop();
    for _ in 0..500 {
        if get(http, "/readyz").await.0 != 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(get(http, "/readyz").await, (503, "stopping: no new calls are taken\n".to_owned()));
    assert_eq!(get(http, "/healthz").await.0, 200);
    // On the connection that has a stream, on another, and on a new one.
    let mut new = connect(address).await;
    for client in [&mut client, &mut other, &mut new] {
        let refusal = client.do_action(Action::new("lineament.status", "{}")).await;
        refused(refusal, Code::Unavailable, &["the server is stopping"]);
    }
    // What ran goes on to its end.
    let mut messages = 0;
    while rows.message().await.unwrap().is_some() {
        messages += 1;
    }
    assert!(messages > 10, "{messages}");
    tokio::time::timeout(Duration::from_secs(10), done).await.unwrap().unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

/// A query that computes for long and has no row to give yet ends when its client leaves.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_without_rows_ends_when_its_client_leaves() {
    let options = ServeOptions { memory_limit: Some(1 << 30), ..watched() };
    let server = Running::over(empty_store().await, options).await;
    let http = server.http.unwrap();
    let mut leaving = server.connect().await;
    let long = "SELECT count(DISTINCT a.value * b.value) FROM generate_series(1, 2000) a CROSS JOIN generate_series(1, 100000000) b";
    let asked = tokio::spawn(async move {
        let rows = leaving.do_get(Ticket::new(json!({ "sql": long }).to_string())).await.unwrap();
        let mut rows = rows.into_inner();
        while rows.message().await.unwrap().is_some() {}
    });
    let memory = server.serving.memory().clone();
    while memory.held() < 1 << 20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(!asked.is_finished());
    }
    asked.abort();
    becomes(http, "lineament_queries_running", 0.0).await;
    for _ in 0..500 {
        if memory.held() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} bytes are held five seconds after the client left", memory.held());
}

/// A client that does not read makes the server wait, and hold no more than what is on its way.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_makes_the_server_wait() {
    let server = Running::over(empty_store().await, watched()).await.and_weather().await;
    let http = server.http.unwrap();
    let sent = r#"lineament_sent_bytes_total{method="DoGet"}"#;
    let mut client = server.connect().await;
    let mut rows = client.do_get(Ticket::new(json!({ "sql": MANY }).to_string())).await.unwrap().into_inner();
    assert!(rows.message().await.unwrap().is_some());
    let mut before = -1.0;
    for _ in 0..100 {
        let now = sample(http, sent).await;
        if (now - before).abs() < 0.5 {
            break;
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(sample(http, sent).await, before, "it goes on sending to one that does not read");
    assert!(before < 16e6, "{before} bytes are on their way of some 27 MB");
    assert!(server.serving.memory().held() < 32 << 20, "{}", server.serving.memory().held());
    assert_eq!(sample(http, "lineament_queries_running").await, 1.0);
    let mut count = 1;
    while rows.message().await.unwrap().is_some() {
        count += 1;
    }
    assert!(count > 50, "{count} messages");
    becomes(http, "lineament_queries_running", 0.0).await;
}
