//! Uploads that end before their client has said so.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow_flight::{FlightData, FlightDescriptor};
use futures::{Stream, StreamExt};
use serde_json::json;

use tonic::Code;

use super::fixture::{Running, all, command, path, upload, weather, weather_from, with_header};

/// Long enough for a few kilobytes to go over loopback and be received.
const SENT: Duration = Duration::from_millis(500);

fn to_a_view() -> FlightDescriptor {
    path("weather")
}

fn to_features() -> FlightDescriptor {
    command(&json!({ "historical_features": { "features": ["weather.temp"] } }).to_string())
}

/// All messages of an upload, and no end.
async fn without_end(to: FlightDescriptor, rows: RecordBatch) -> impl Stream<Item = FlightData> + Send {
    let messages: Vec<FlightData> = upload(to, vec![rows]).collect().await;
    futures::stream::iter(messages).chain(futures::stream::pending())
}

fn spine() -> RecordBatch {
    weather(2).project(&[0, 1]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_cancels_leaves_nothing() {
    let server = Running::with_weather().await;
    let mut client = server.connect().await;
    let mut other = server.connect().await;
    let messages = without_end(to_a_view(), weather_from(12, 2)).await;
    let mut put = Box::pin(client.do_put(messages));
    let messages = without_end(to_features(), spine()).await;
    let mut exchange = Box::pin(other.do_exchange(messages));
    tokio::time::timeout(SENT, &mut put).await.map(|_| ()).expect_err("it was not ended");
    tokio::time::timeout(SENT, &mut exchange).await.map(|_| ()).expect_err("it was not ended");
    drop((put, exchange));
    nothing_came_of_it(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_sends_before_it_dies_leaves_nothing() {
    let server = Running::with_weather().await;
    let address = server.address;
    for to in [to_a_view(), to_features()] {
        // Its connections are closed with its runtime, as the kernel closes those of a process.
        let dying = tokio::runtime::Runtime::new().unwrap();
        let rows = if to == to_a_view() { weather_from(12, 2) } else { spine() };
        let is_put = to == to_a_view();
        dying.spawn(async move {
            let mut client = super::fixture::connect(address).await;
            let messages = without_end(to, rows).await;
            if is_put {
                let _ = client.do_put(messages).await;
            } else {
                let _ = client.do_exchange(messages).await;
            }
        });
        tokio::time::sleep(SENT).await;
        dying.shutdown_background();
    }
    nothing_came_of_it(server).await;
}

async fn nothing_came_of_it(server: Running) {
    // What would be taken is taken by then.
    tokio::time::sleep(SENT).await;
    let serving = server.serving.clone();
    server.begin_to_stop().await.unwrap().unwrap();
    let state = serving.catalog().refresh().await.unwrap();
    assert_eq!(state.batches().count(), 1, "only the fixture's own");
    assert_eq!(state.training_sets().count(), 0);
    assert_eq!(serving.memory().held(), 0, "what was received is given back");
}

/// A client that fails between its rows may end them as if they were all; the number that it said before tells.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_announced_must_come() {
    let mut server = Running::with_weather().await;
    let cases =
        [("4", true), ("5", false), ("3", false), ("0", false), ("-4", false), ("four", false), ("", true)];
    for (first, (said, taken)) in (12..).step_by(2).zip(cases) {
        let put = with_header(upload(to_a_view(), vec![weather_from(first, 2)]), "lineament-rows", said);
        let put = server.client.do_put(put).await.map(|_| ());
        let exchange = with_header(upload(to_features(), vec![spine()]), "lineament-rows", said);
        let exchange = match server.client.do_exchange(exchange).await {
            // What is not read to its end is no training set.
            Ok(answer) => {
                all(Ok(answer)).await;
                Ok(())
            }
            Err(status) => Err(status),
        };
        for answer in [put, exchange] {
            match answer {
                Ok(()) => assert!(taken, "{said}"),
                Err(status) => {
                    assert!(!taken && status.code() == Code::InvalidArgument, "{said}: {status:?}");
                    assert!(status.message().contains("rows"), "{said}: {status:?}");
                }
            }
        }
    }
    let state = server.serving.catalog().refresh().await.unwrap();
    assert_eq!((state.batches().count(), state.training_sets().count()), (3, 2));
}

/// One that makes its rows as it goes says after them how many they were.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_counted_after_them_must_have_come() {
    let mut server = Running::with_weather().await;
    let cases = [
        (Some("{\"rows\": 4}"), true),
        (Some("{\"rows\": 5}"), false),
        (Some("{\"rows\": 0}"), false),
        (Some("{\"rows\": -4}"), false),
        (Some("{}"), false),
        (Some("4"), false),
        (None, false),
    ];
    for (said, taken) in cases {
        for (to, rows) in [(command(r#"{"spine": {}}"#), spine()), (to_features(), spine())] {
            let end = said.map(|said| FlightData { app_metadata: said.into(), ..FlightData::default() });
            let messages = upload(to.clone(), vec![rows]).chain(futures::stream::iter(end));
            let messages = with_header(messages, "lineament-rows", "last");
            let answer = match to == to_features() {
                false => server.client.do_put(messages).await.map(|_| ()),
                true => match server.client.do_exchange(messages).await {
                    Ok(answer) => {
                        all(Ok(answer)).await;
                        Ok(())
                    }
                    Err(status) => Err(status),
                },
            };
            match answer {
                Ok(()) => assert!(taken, "{said:?}"),
                Err(status) => {
                    assert!(!taken && status.code() == Code::InvalidArgument, "{said:?}: {status:?}");
                    assert!(status.message().contains("rows"), "{said:?}: {status:?}");
                }
            }
        }
    }
    let state = server.serving.catalog().refresh().await.unwrap();
    assert_eq!(state.training_sets().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_ends_is_taken() {
    let mut server = Running::with_weather().await;
    assert_eq!(server.put(to_a_view(), vec![weather_from(12, 2)]).await.unwrap()["rows"], 4);
    let wanted = json!({ "historical_features": { "features": ["weather.temp"] } });
    assert_eq!(server.exchange(&wanted, vec![spine()]).await.unwrap().rows(), 4);
    let state = server.serving.catalog().refresh().await.unwrap();
    assert_eq!((state.batches().count(), state.training_sets().count()), (2, 1));
}
