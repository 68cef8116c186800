//! Starting, stopping, leaving.

use std::time::Duration;

use arrow_flight::Ticket;
use futures::StreamExt;
use serde_json::json;

use super::fixture::{Running, empty_store, options};
use crate::{Error, Server, serve};

const MANY: &str = "SELECT a.temp, b.wind_dir, c.temp AS t FROM weather a CROSS JOIN weather b CROSS JOIN weather c CROSS JOIN weather d CROSS JOIN weather e";
const MANY_ROWS: usize = 24 * 24 * 24 * 24 * 24;

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
