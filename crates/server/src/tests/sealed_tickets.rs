//! Tickets and handles: sealed for their caller, for a while, and by this server's key.

use std::time::Duration;

use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandPreparedStatementQuery, ProstMessageExt};
use arrow_flight::{FlightDescriptor, FlightEndpoint, Ticket};
use catalog::{Author, Catalog};
use feature::Timestamp;
use futures::TryStreamExt;
use prost::Message;
use serde_json::json;
use serving::Serving;
use storage::Store;
use storage::environment::{Clock, TestClock};
use tonic::Code;

use super::callers::{bearing, by_tokens, token};
use super::fixture::{Running, all, command, empty_store, options, path, read, refused, weather};
use crate::{AccessOptions, ServeOptions};

const SQL: &str = "SELECT temp FROM weather";

async fn ticket(server: &mut Running, descriptor: FlightDescriptor) -> FlightEndpoint {
    let info = server.client.get_flight_info(descriptor).await.unwrap().into_inner();
    info.endpoint[0].clone()
}

fn bytes(endpoint: &FlightEndpoint) -> Vec<u8> {
    endpoint.ticket.clone().unwrap().ticket.to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_for_its_caller() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens.toml");
    let (ada, bob) = (token(&file, "ada"), token(&file, "bob"));
    let open = Running::with_weather().await;
    let server = Running::over(open.serving.clone(), by_tokens(&folder)).await;
    let (mut ada, mut bob) = (bearing(server.address, &ada).await, bearing(server.address, &bob).await);
    for descriptor in [command(SQL), path("weather")] {
        let info = ada.get_flight_info(descriptor).await.unwrap().into_inner();
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let stolen = bob.do_get(ticket.clone()).await;
        refused(stolen.map(drop), Code::PermissionDenied, &["another caller than `bob`"]);
        let rows = ada.do_get(ticket).await.unwrap().into_inner();
        assert_eq!(read(rows).await.unwrap().rows(), 24);
    }
    let listed = all(ada.list_flights(arrow_flight::Criteria::default()).await).await;
    let ticket = listed[0].endpoint[0].ticket.clone().unwrap();
    refused(bob.do_get(ticket).await.map(drop), Code::PermissionDenied, &["another caller"]);

    // A prepared statement, by hand: arrow-flight's client hides its handle.
    let wanted = arrow_flight::sql::ActionCreatePreparedStatementRequest {
        query: SQL.to_owned(),
        transaction_id: None,
    };
    let action = arrow_flight::Action::new("CreatePreparedStatement", wanted.as_any().encode_to_vec());
    let made = ada.do_action(action).await.unwrap().into_inner().message().await.unwrap().unwrap();
    let any = arrow_flight::sql::Any::decode(made.body).unwrap();
    let made: arrow_flight::sql::ActionCreatePreparedStatementResult = any.unpack().unwrap().unwrap();
    assert!(!String::from_utf8_lossy(&made.prepared_statement_handle).contains("weather"));
    let statement =
        CommandPreparedStatementQuery { prepared_statement_handle: made.prepared_statement_handle };
    let descriptor = FlightDescriptor::new_cmd(statement.as_any().encode_to_vec());
    let stolen = bob.get_flight_info(descriptor.clone()).await;
    refused(stolen, Code::PermissionDenied, &["statement's handle was given to another"]);
    let info = ada.get_flight_info(descriptor.clone()).await.unwrap().into_inner();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let rows = ada.do_get(ticket.clone()).await.unwrap().into_inner();
    assert_eq!(read(rows).await.unwrap().rows(), 24);
    refused(bob.do_get(ticket).await.map(drop), Code::PermissionDenied, &["another caller"]);
    // The command itself is a ticket too, as before.
    let rows = ada.do_get(Ticket::new(statement.as_any().encode_to_vec())).await.unwrap().into_inner();
    assert_eq!(read(rows).await.unwrap().rows(), 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_expires_and_says_when() {
    let hand = TestClock::new(Timestamp(1_700_000_000_000_000));
    let store = Store::open("memory://", Clock::Test(hand.clone())).unwrap();
    let author = Author { principal: "ada".to_owned(), program: "test".to_owned(), ..Author::default() };
    let serving = Serving::new(Catalog::create(store, &author).await.unwrap());
    let access = AccessOptions { ticket_lifetime: Duration::from_secs(60), ..AccessOptions::default() };
    let mut server = Running::over(serving, ServeOptions { access, ..options("127.0.0.1:0") }).await;
    server = server.and_weather().await;
    let endpoint = ticket(&mut server, command(SQL)).await;
    let until = endpoint.expiration_time.as_ref().unwrap();
    let now = server.serving.catalog().store().clock().now().micros();
    assert_eq!(until.seconds * 1_000_000 + i64::from(until.nanos) / 1_000, now + 60_000_000);
    hand.advance("1m".parse().unwrap());
    assert_eq!(server.get(bytes(&endpoint)).await.unwrap().rows(), 24);
    hand.advance("1us".parse().unwrap());
    refused(
        server.get(bytes(&endpoint)).await,
        Code::InvalidArgument,
        &["expired at 2023-", "FlightInfo again"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_outlive_a_server_that_keeps_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("ticket.key");
    let keeping = || {
        let access = AccessOptions { ticket_key: Some(key.clone()), ..AccessOptions::default() };
        ServeOptions { access, ..options("127.0.0.1:0") }
    };
    let serving = empty_store().await;
    let mut first = Running::over(serving.clone(), keeping()).await.and_weather().await;
    let kept = bytes(&ticket(&mut first, command(SQL)).await);
    let mut second = Running::over(serving.clone(), keeping()).await;
    assert_eq!(second.get(kept.clone()).await.unwrap().rows(), 24);

    // Without one, a ticket ends with its server, and that of a training set does not.
    let mut third = Running::over(serving.clone(), options("127.0.0.1:0")).await;
    refused(third.get(kept).await, Code::InvalidArgument, &["another key", "--ticket-key"]);
    let features = json!({ "historical_features": { "features": ["weather.temp"] } });
    let spine = weather(3).project(&[0, 1]).unwrap();
    let report = first.exchange(&features, vec![spine]).await.unwrap().report.unwrap();
    let set = json!({ "training_set": report["training_set"] }).to_string();
    assert_eq!(third.get(set).await.unwrap().rows(), 6);
    // What anybody may ask for by hand has no seal, and no end.
    let tables = arrow_flight::sql::CommandGetCatalogs {}.as_any().encode_to_vec();
    let endpoint = ticket(&mut first, FlightDescriptor::new_cmd(tables)).await;
    assert!(endpoint.expiration_time.is_none());
    assert_eq!(third.get(bytes(&endpoint)).await.unwrap().rows(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_bit_of_a_ticket_can_be_turned() {
    let mut server = Running::with_weather().await;
    let good = bytes(&ticket(&mut server, command("SELECT 1 AS one")).await);
    assert!(!String::from_utf8_lossy(&good).contains("SELECT"), "it can be read");
    let mut tried = 0;
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut turned = good.clone();
            turned[at] ^= 1 << bit;
            let answer = server.client.do_get(Ticket::new(turned)).await;
            let status = answer.map(drop).expect_err("a changed ticket");
            assert_eq!(status.code(), Code::InvalidArgument, "byte {at}, bit {bit}: {status:?}");
            tried += 1;
        }
        let cut = server.client.do_get(Ticket::new(good[..at].to_vec())).await;
        assert!(cut.is_err(), "{at}");
    }
    assert!(tried > 600, "{tried}");
    let longer = [good.as_slice(), b"x"].concat();
    refused(
        server.client.do_get(Ticket::new(longer)).await.map(drop),
        Code::InvalidArgument,
        &["cannot be opened"],
    );
    assert_eq!(server.get(good.clone()).await.unwrap().rows(), 1);

    // A ticket is no handle.
    let misused = CommandPreparedStatementQuery { prepared_statement_handle: good.into() };
    let misused = Ticket::new(misused.as_any().encode_to_vec());
    refused(
        server.client.do_get(misused).await.map(drop),
        Code::InvalidArgument,
        &["statement's handle cannot"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_bound_into_a_sealed_handle() {
    let server = Running::with_weather().await;
    let mut client = FlightSqlServiceClient::new_from_inner(server.connect().await);
    let mut statement =
        client.prepare("SELECT count(*) AS n FROM weather WHERE temp > ?".to_owned(), None).await.unwrap();
    for (least, count) in [(25.5, 6), (30.5, 1)] {
        let values = super::fixture::batch(vec![(
            "$1",
            std::sync::Arc::new(arrow::array::Float64Array::from(vec![least])),
        )]);
        statement.set_parameters(values).unwrap();
        let info = statement.execute().await.unwrap();
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let rows: Vec<_> = client.do_get(ticket).await.unwrap().try_collect().await.unwrap();
        let counted = arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string();
        assert!(counted.contains(&format!("| {count} ")), "{counted}");
    }
}
