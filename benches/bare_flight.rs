//! A Flight server and nothing else: arrow-rs' own encoder over batches in memory. What exports are measured beside.
//!
//!     cargo bench --bench bare_flight -- --from http://127.0.0.1:8815 --ticket '{"training_set": "…"}'
//!
//! It fetches the rows of a ticket from another server, holds them, prints its address, and gives them to whoever asks, until its standard
//! input ends. A ticket `2/4` asks for the second quarter of the batches; any other for all.

#![allow(clippy::unwrap_used, reason = "it stops at the first fault")]

use std::pin::Pin;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightClient, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::{Stream, StreamExt, TryStreamExt};
use tokio::net::TcpListener;
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status, Streaming};

/// The one that the program has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

struct Bare {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl Bare {
    /// The batches of the part `2/4`, or all.
    fn part(&self, ticket: &[u8]) -> Vec<RecordBatch> {
        let parts = std::str::from_utf8(ticket).ok().and_then(|ticket| ticket.split_once('/'));
        let parts =
            parts.and_then(|(part, of)| Some((part.parse::<usize>().ok()?, of.parse::<usize>().ok()?)));
        let Some((part, of)) = parts.filter(|(part, of)| (1..=*of).contains(part)) else {
            return self.batches.clone();
        };
        let at = |part: usize| self.batches.len() * part / of;
        self.batches[at(part - 1)..at(part)].to_vec()
    }
}

fn no<T>() -> Result<T, Status> {
    Err(Status::unimplemented("it only answers DoGet"))
}

#[tonic::async_trait]
impl FlightService for Bare {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;
    type DoExchangeStream = Answers<FlightData>;

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let batches = futures::stream::iter(self.part(&request.into_inner().ticket).into_iter().map(Ok));
        let messages = FlightDataEncoderBuilder::new().with_schema(self.schema.clone()).build(batches);
        Ok(Response::new(messages.map_err(Status::from).boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        no()
    }
    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        no()
    }
    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        no()
    }
    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        no()
    }
    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        no()
    }
    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        no()
    }
    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        no()
    }
    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        no()
    }
    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        no()
    }
}

fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)
}

#[tokio::main]
async fn main() {
    // Where benchmarks are only listed or tried, there is nobody to fetch from.
    let (Some(from), Some(ticket)) = (argument("--from"), argument("--ticket")) else {
        println!("bare_flight: needs --from and --ticket");
        return;
    };
    let channel = Endpoint::from_shared(from).unwrap().connect().await.unwrap();
    let service = FlightServiceClient::new(channel).max_decoding_message_size(64 << 20);
    let mut client = FlightClient::new_from_inner(service);
    let mut rows = client.do_get(Ticket::new(ticket)).await.unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = rows.try_next().await.unwrap() {
        if batch.num_rows() > 0 {
            batches.push(batch);
        }
    }
    let bare = Bare { schema: rows.schema().unwrap().clone(), batches };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("listening on grpc://{}", listener.local_addr().unwrap());
    let connections = futures::stream::unfold(listener, |listener| async move {
        let connection = listener.accept().await.map(|(stream, _)| {
            stream.set_nodelay(true).unwrap();
            stream
        });
        Some((connection, listener))
    });
    let ended = async {
        let input = || std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = tokio::task::spawn_blocking(input).await;
    };
    tonic::transport::Server::builder()
        .http2_adaptive_window(Some(true))
        .add_service(FlightServiceServer::new(bare))
        .serve_with_incoming_shutdown(connections, ended)
        .await
        .unwrap();
}
