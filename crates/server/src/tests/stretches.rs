//! A recorded set that is read from several endpoints.

use std::sync::Arc;

use arrow::array::{AsArray, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use arrow_flight::{FlightData, FlightInfo, Ticket};
use futures::TryStreamExt;
use serde_json::json;
use tonic::Code;

use super::fixture::{Running, batch, command, options, refused, times};

/// More than one stretch, and the last of them is no whole block.
const ROWS: usize = 300_000;

fn spine() -> RecordBatch {
    let rows = || 0..ROWS;
    batch(vec![
        ("origin", Arc::new(StringArray::from_iter_values(rows().map(|row| ["EWR", "JFK", "LGA"][row % 3])))),
        ("at", times(rows().map(|row| (row % 14) as i64))),
        ("label", Arc::new(Float64Array::from_iter_values(rows().map(|row| row as f64)))),
    ])
}

async fn info(server: &mut Running, id: &str) -> FlightInfo {
    let descriptor = command(&json!({ "training_set": id }).to_string());
    server.client.get_flight_info(descriptor).await.unwrap().into_inner()
}

async fn messages(server: &mut Running, ticket: &Ticket) -> Vec<FlightData> {
    server.client.do_get(ticket.clone()).await.unwrap().into_inner().try_collect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_give_the_set_in_order_and_the_same_bytes_whenever_they_are_read() {
    let mut server = Running::with_weather().await;
    let wanted = json!({ "historical_features": { "features": ["weather.temp"] } });
    let set = server.exchange(&wanted, vec![spine()]).await.unwrap();
    let whole = arrow::compute::concat_batches(&set.schema, &set.batches).unwrap();
    let report = set.report.unwrap();
    let id = report["training_set"].as_str().unwrap().to_owned();

    let planned = info(&mut server, &id).await;
    assert_eq!((planned.endpoint.len(), planned.ordered, planned.total_records), (2, true, ROWS as i64));
    let tickets: Vec<Ticket> = planned.endpoint.iter().map(|e| e.ticket.clone().unwrap()).collect();
    let mut parts = Vec::new();
    let mut bytes = Vec::new();
    for ticket in &tickets {
        let part = server.get(ticket.ticket.clone()).await.unwrap();
        let told = part.report.unwrap();
        assert_eq!((&told["verdict"], &told["proved_by"]), (&json!("equal"), &json!("digest")), "{told}");
        assert_eq!(told["digest"], report["digest"]);
        parts.extend(part.batches);
        bytes.push(messages(&mut server, ticket).await);
    }
    assert_eq!(arrow::compute::concat_batches(&set.schema, &parts).unwrap(), whole);
    // The set was rebuilt once for all of them, and each is a read on record.
    assert_eq!(messages(&mut server, &tickets[0]).await.len(), bytes[0].len());
    let state = server.serving.catalog().refresh().await.unwrap();
    let rebuilt = state.log().iter().filter(|line| line.records.iter().any(|(_, name)| *name == "verified"));
    assert_eq!(rebuilt.count(), 1);
    let author = catalog::Author::default();
    server.serving.flush(&author).await.unwrap();
    let reads = server.sql("SELECT count(*) FROM lineament.reads WHERE kind = 'training_set'").await.unwrap();
    assert_eq!(reads.column(0).as_primitive::<Int64Type>().value(0), 5);

    // Another server over the same store, too small for the whole: the same tickets, stretch by stretch, the same rows and bytes.
    let small = crate::ServeOptions { memory_limit: Some(64 << 20), ..options("127.0.0.1:0") };
    let mut other = Running::over(server.serving.clone(), small).await;
    assert_eq!(info(&mut other, &id).await.endpoint, planned.endpoint);
    for (ticket, first) in tickets.iter().zip(&bytes).rev() {
        let part = other.get(ticket.ticket.clone()).await.unwrap();
        assert_eq!(part.report.unwrap()["proved_by"], "leaves");
        let second = messages(&mut other, ticket).await;
        let rows = |messages: &[FlightData]| -> Vec<(bytes::Bytes, bytes::Bytes)> {
            let all_but_the_report = messages.iter().take(messages.len() - 1);
            all_but_the_report.map(|m| (m.data_header.clone(), m.data_body.clone())).collect()
        };
        assert!(rows(&second) == rows(first), "other bytes");
    }
}

/// Its spine is some kilobytes in the store, from which nobody can tell what its rows take.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_turns_out_to_be_too_large_to_be_held_is_given_by_the_stretch() {
    let rows = || 0..200_000usize;
    let note = "the same of each row, so that it is hardly anything as a file ".repeat(2);
    let spine = batch(vec![
        ("origin", Arc::new(StringArray::from_iter_values(rows().map(|row| ["EWR", "JFK"][row % 2])))),
        ("at", times(rows().map(|row| (row % 14) as i64))),
        ("note", Arc::new(StringArray::from_iter_values(rows().map(|_| &note)))),
    ]);
    let mut server = Running::with_weather().await;
    let wanted = json!({ "historical_features": { "features": ["weather.temp"] } });
    let set = server.exchange(&wanted, vec![spine]).await.unwrap();
    let whole = arrow::compute::concat_batches(&set.schema, &set.batches).unwrap();
    let id = set.report.unwrap()["training_set"].as_str().unwrap().to_owned();

    let small = crate::ServeOptions { memory_limit: Some(64 << 20), ..options("127.0.0.1:0") };
    let mut small = Running::over(server.serving.clone(), small).await;
    let mut parts = Vec::new();
    for endpoint in info(&mut small, &id).await.endpoint {
        let part = small.get(endpoint.ticket.unwrap().ticket).await.unwrap();
        assert_eq!(part.report.unwrap()["proved_by"], "leaves");
        parts.extend(part.batches);
    }
    assert_eq!(arrow::compute::concat_batches(&set.schema, &parts).unwrap(), whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn stretches_that_are_none_are_refused() {
    let mut server = Running::with_weather().await;
    let wanted = json!({ "historical_features": { "features": ["weather.temp"] } });
    let set = server.exchange(&wanted, vec![spine().slice(0, 10)]).await.unwrap();
    let id = set.report.unwrap()["training_set"].clone();
    let stretch =
        |from: u64, until: u64| json!({ "stretch": { "training_set": id, "from": from, "until": until } });
    assert_eq!(server.get(stretch(0, 10).to_string()).await.unwrap().rows(), 10);
    for (from, until) in
        [(0, 0), (0, 9), (1, 10), (0, 11), (10, 10), (10, 0), (65_536, u64::MAX), (u64::MAX, 0)]
    {
        let answer = server.get(stretch(from, until).to_string()).await;
        refused(answer, Code::InvalidArgument, &["no stretch", "GetFlightInfo"]);
    }
    let nobody = "01890000-0000-7000-8000-000000000000";
    let nowhere = json!({ "stretch": { "training_set": nobody, "from": 0, "until": 1 } });
    refused(server.get(nowhere.to_string()).await, Code::NotFound, &[nobody]);
}
