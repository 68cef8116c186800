//! Actions that Flight defines: cancelling, renewing, sessions.

use arrow::array::RecordBatch;
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, Any, CommandStatementIngest, ProstMessageExt,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, FlightDescriptor, FlightEndpoint, FlightInfo,
    RenewFlightEndpointRequest, Ticket,
};
use prost::Message;
use serde_json::json;
use tonic::{Code, Request, Status};

use super::fixture::{Running, all, command, refused, upload, weather};
use crate::flight_sql::session::{CloseResult, OptionValue, SetOptions, SetOptionsResult, Value};

async fn act(
    server: &mut Running,
    name: &str,
    body: Vec<u8>,
    cookie: &str,
) -> Result<(Vec<u8>, String), Status> {
    let mut request = Request::new(Action::new(name.to_owned(), body));
    if !cookie.is_empty() {
        request.metadata_mut().insert("cookie", cookie.parse().unwrap());
    }
    let response = server.client.do_action(request).await?;
    let cookie = response.metadata().get("set-cookie").map(|text| text.to_str().unwrap().to_owned());
    let result = response.into_inner().message().await?.unwrap();
    Ok((result.body.to_vec(), cookie.unwrap_or_default()))
}

/// Endless as far as the test is concerned.
const LONG: &str = "SELECT a.temp, b.value FROM weather a CROSS JOIN generate_series(1, 100000000) b";

async fn running(server: &mut Running) -> (FlightInfo, tonic::Streaming<arrow_flight::FlightData>) {
    let info = server.client.get_flight_info(command(LONG)).await.unwrap().into_inner();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let mut rows = server.client.do_get(ticket).await.unwrap().into_inner();
    for _ in 0..2 {
        assert!(rows.message().await.unwrap().is_some());
    }
    (info, rows)
}

async fn end(mut rows: tonic::Streaming<arrow_flight::FlightData>) -> Status {
    loop {
        match rows.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the rows ended as if they were all"),
            Err(status) => return status,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_query_is_cancelled() {
    let mut server = Running::with_weather().await;
    let (info, rows) = running(&mut server).await;
    let body = CancelFlightInfoRequest::new(info.clone()).encode_to_vec();
    let (answer, _) = act(&mut server, "CancelFlightInfo", body.clone(), "").await.unwrap();
    assert_eq!(CancelFlightInfoResult::decode(&*answer).unwrap().status, 1);
    assert_eq!(end(rows).await.code(), Code::Cancelled);
    let over = act(&mut server, "CancelFlightInfo", body, "").await;
    refused(over, Code::NotFound, &["nothing of this query is running"]);

    let (info, rows) = running(&mut server).await;
    let body = ActionCancelQueryRequest { info: info.encode_to_vec().into() }.as_any().encode_to_vec();
    let (answer, _) = act(&mut server, "CancelQuery", body, "").await.unwrap();
    let result: ActionCancelQueryResult = Any::decode(&*answer).unwrap().unpack().unwrap().unwrap();
    assert_eq!(result.result, 1);
    assert_eq!(end(rows).await.code(), Code::Cancelled);

    for name in ["CancelFlightInfo", "CancelQuery", "RenewFlightEndpoint", "SetSessionOptions"] {
        let wrong = act(&mut server, name, vec![0xff; 9], "").await;
        refused(wrong, Code::InvalidArgument, &[name]);
    }
    let empty = act(&mut server, "CancelFlightInfo", Vec::new(), "").await;
    refused(empty, Code::InvalidArgument, &["not named"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_renewed() {
    let mut server = Running::with_weather().await;
    let info = server.client.get_flight_info(command("SELECT 1 AS one")).await.unwrap().into_inner();
    let renewed = RenewFlightEndpointRequest::new(info.endpoint[0].clone()).encode_to_vec();
    let (answer, _) = act(&mut server, "RenewFlightEndpoint", renewed, "").await.unwrap();
    let endpoint = FlightEndpoint::decode(&*answer).unwrap();
    assert_eq!(server.get(endpoint.ticket.unwrap().ticket).await.unwrap().rows(), 1);
    let nothing = act(&mut server, "RenewFlightEndpoint", Vec::new(), "").await;
    refused(nothing, Code::InvalidArgument, &["no ticket"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_speaks_for_its_calls_and_names_temporary_tables() {
    let mut server = Running::with_weather().await;
    let value = |text: &str| OptionValue { value: Some(Value::Text(text.to_owned())) };
    let session_options = [("run".to_owned(), value("churn-7")), ("colour".to_owned(), value("red"))].into();
    let body = SetOptions { session_options }.encode_to_vec();
    let (answer, cookie) = act(&mut server, "SetSessionOptions", body, "").await.unwrap();
    let errors = SetOptionsResult::decode(&*answer).unwrap().errors;
    assert_eq!(errors.keys().collect::<Vec<_>>(), ["colour"]);
    let (answer, _) = act(&mut server, "GetSessionOptions", Vec::new(), &cookie).await.unwrap();
    assert_eq!(SetOptions::decode(&*answer).unwrap().session_options["run"], value("churn-7"));

    // Rows under a name of the session.
    let ingest = CommandStatementIngest {
        table: "labels".to_owned(),
        temporary: true,
        ..CommandStatementIngest::default()
    };
    let to = FlightDescriptor::new_cmd(ingest.as_any().encode_to_vec());
    let mut request = Request::new(upload(to, vec![weather(2)]));
    request.metadata_mut().insert("cookie", cookie.parse().unwrap());
    let response = server.client.do_put(request).await.unwrap();
    let cookie = response.metadata().get("set-cookie").unwrap().to_str().unwrap().to_owned();
    response.into_inner().message().await.unwrap().unwrap();

    let sql = "SELECT h.* FROM historical_features((SELECT origin, at FROM session.labels), features => ['weather.temp']) h";
    let ticket = Ticket::new(json!({ "sql": sql }).to_string());
    let mut request = Request::new(ticket.clone());
    request.metadata_mut().insert("cookie", cookie.parse().unwrap());
    let answer =
        super::fixture::read(server.client.do_get(request).await.unwrap().into_inner()).await.unwrap();
    assert_eq!(answer.batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 4);
    // Without the session there is no such table.
    refused(server.get(ticket.ticket).await, Code::NotFound, &["session.labels"]);
    // What it read is on record, in the session's run.
    let author = catalog::Author::default();
    server.serving.flush(&author).await.unwrap();
    let runs = server.sql("SELECT DISTINCT run FROM lineament.reads WHERE run IS NOT NULL").await.unwrap();
    assert_eq!(runs.num_rows(), 1, "{runs:?}");

    let (answer, cookie) = act(&mut server, "CloseSession", Vec::new(), &cookie).await.unwrap();
    assert_eq!(CloseResult::decode(&*answer).unwrap().status, 1);
    assert!(cookie.ends_with("=; Max-Age=0"), "{cookie}");
    let mut foreign = Request::new(Action::new("lineament.status", "{}"));
    foreign.metadata_mut().insert("cookie", "lineament-session=forged".parse().unwrap());
    refused(server.client.do_action(foreign).await, Code::InvalidArgument, &["lineament-session"]);
    let listed = all(server.client.list_actions(arrow_flight::Empty {}).await).await;
    for name in
        ["CancelFlightInfo", "RenewFlightEndpoint", "SetSessionOptions", "GetSessionOptions", "CloseSession"]
    {
        assert!(listed.iter().any(|action| action.r#type == name), "{name}");
    }
}
