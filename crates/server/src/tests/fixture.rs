//! A server over a store in memory, with one small feature view, and the calls that tests make.

use std::net::SocketAddr;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, FlightData, FlightDescriptor, Ticket};
use catalog::{Author, Catalog};
use futures::{Stream, StreamExt, TryStreamExt};
use serde_json::{Value, json};
use serving::Serving;
use storage::Store;
use storage::environment::Clock;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::{AccessOptions, Result, ServeOptions, Server};

pub const AIRPORT: &str = r#"
kind = "entity"
name = "airport"
[[keys]]
name = "origin"
type = "string"
"#;

pub const WEATHER: &str = r#"
kind = "feature_view"
name = "weather"
entity = "airport"
ttl = "3h"
reject_above = 0.5

[time]
valid_at = "at"
known_at = { delay = "30m" }

[keys]
origin = "origin"

[[features]]
name = "temp"
type = "float64"
range = [-40, 130]

[[features]]
name = "wind_dir"
type = "int32"
range = [0, 360]
"#;

pub const HOUR: i64 = 3_600_000_000;

pub struct Running {
    pub address: SocketAddr,
    pub http: Option<SocketAddr>,
    pub serving: Serving,
    pub client: FlightServiceClient<Channel>,
    stop: oneshot::Sender<()>,
    done: JoinHandle<Result<()>>,
}

pub fn options(address: &str) -> ServeOptions {
    ServeOptions {
        address: address.parse().unwrap(),
        principal: "ada".to_owned(),
        program: "lineament test".to_owned(),
        memory_limit: None,
        query_memory: None,
        spill_limit: None,
        reconcile_every: None,
        admission: crate::AdmissionLimits::default(),
        http: None,
        access: AccessOptions::default(),
        compact_every: None,
        sweep_every: None,
        sample_every: None,
    }
}

pub async fn empty_store() -> Serving {
    let author =
        Author { principal: "ada".to_owned(), program: "lineament test".to_owned(), ..Author::default() };
    let store = Store::open("memory://", Clock::System).unwrap();
    Serving::new(Catalog::create(store, &author).await.unwrap())
}

pub async fn connect(address: SocketAddr) -> FlightServiceClient<Channel> {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    FlightServiceClient::new(channel)
}

impl Running {
    /// A server over an empty store.
    pub async fn empty() -> Self {
        Self::over(empty_store().await, options("127.0.0.1:0")).await
    }

    /// A server over a store.
    pub async fn over(serving: Serving, options: ServeOptions) -> Self {
        let server = Server::bind(serving, options).await.unwrap();
        // With the server's own limit on memory.
        let serving = server.serving().clone();
        let (address, http) = (server.address(), server.http_address());
        let (stop, stopped) = oneshot::channel::<()>();
        let done = tokio::spawn(server.run(async move {
            let _ = stopped.await;
        }));
        let client = connect(address).await;
        Self { address, http, serving, client, stop, done }
    }

    /// A server with the view `weather`: twelve hours of two airports, at 10 + hour and 20 + hour degrees.
    pub async fn with_weather() -> Self {
        Self::empty().await.and_weather().await
    }

    pub async fn and_weather(mut self) -> Self {
        let running = &mut self;
        let files = json!({ "files": { "airport.toml": AIRPORT, "weather.toml": WEATHER } });
        running.act("lineament.apply", &files).await.unwrap();
        running.put(path("weather"), vec![weather(12)]).await.unwrap();
        self
    }

    pub async fn connect(&self) -> FlightServiceClient<Channel> {
        connect(self.address).await
    }

    pub fn begin_to_stop(self) -> JoinHandle<Result<()>> {
        self.stop.send(()).unwrap();
        self.done
    }

    pub async fn act(&mut self, name: &str, body: &Value) -> Result<Value, Status> {
        let action = Action::new(name.to_owned(), body.to_string());
        let mut results = self.client.do_action(action).await?.into_inner();
        let result = results.message().await?.expect("an action that answers");
        assert!(results.message().await?.is_none(), "one answer");
        Ok(serde_json::from_slice(&result.body).unwrap())
    }

    pub async fn put(&mut self, to: FlightDescriptor, batches: Vec<RecordBatch>) -> Result<Value, Status> {
        self.put_messages(upload(to, batches)).await
    }

    pub async fn put_messages(
        &mut self,
        messages: impl Stream<Item = FlightData> + Send + 'static,
    ) -> Result<Value, Status> {
        let mut results = self.client.do_put(messages).await?.into_inner();
        let result = results.message().await?.expect("an answer to an upload");
        Ok(serde_json::from_slice(&result.app_metadata).unwrap())
    }

    pub async fn get(&mut self, ticket: impl Into<bytes::Bytes>) -> Result<Answer, Status> {
        let messages = self.client.do_get(Ticket::new(ticket)).await?.into_inner();
        read(messages).await
    }

    /// The rows of a query, by its ticket alone.
    pub async fn sql(&mut self, text: &str) -> Result<RecordBatch, Status> {
        let answer = self.get(json!({ "sql": text }).to_string()).await?;
        Ok(arrow::compute::concat_batches(&answer.schema, &answer.batches).unwrap())
    }

    pub async fn exchange(&mut self, command: &Value, spine: Vec<RecordBatch>) -> Result<Answer, Status> {
        let to = FlightDescriptor::new_cmd(command.to_string());
        let messages = self.client.do_exchange(upload(to, spine)).await?.into_inner();
        read(messages).await
    }

    /// What GetFlightInfo says of a query, and the rows that its ticket gives.
    pub async fn planned(&mut self, descriptor: FlightDescriptor) -> Result<(Schema, Answer), Status> {
        let info = self.client.get_flight_info(descriptor).await?.into_inner();
        let [endpoint] = info.endpoint.as_slice() else { panic!("one endpoint") };
        assert!(endpoint.location.is_empty());
        let ticket = endpoint.ticket.clone().unwrap();
        let answer = self.get(ticket.ticket).await?;
        Ok((info.try_decode_schema().unwrap(), answer))
    }
}

#[derive(Debug)]
pub struct Answer {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    pub report: Option<Value>,
}

impl Answer {
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// Reads an answer: rows, and a last message without rows that carries the report.
pub async fn read(messages: Streaming<FlightData>) -> Result<Answer, Status> {
    let messages: Vec<FlightData> = messages.try_collect().await?;
    let (last, earlier) = messages.split_last().expect("at least the schema");
    assert!(
        earlier.iter().all(|message| message.app_metadata.is_empty()),
        "only the last message has metadata"
    );
    let report = (!last.app_metadata.is_empty()).then(|| serde_json::from_slice(&last.app_metadata).unwrap());
    let mut stream =
        FlightRecordBatchStream::new_from_flight_data(futures::stream::iter(messages.into_iter().map(Ok)));
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        batches.push(batch.unwrap());
    }
    if report.is_some() {
        assert_eq!(batches.pop().map(|batch| batch.num_rows()), Some(0));
    }
    Ok(Answer { schema: stream.schema().unwrap().clone(), batches, report })
}

pub fn path(view: &str) -> FlightDescriptor {
    FlightDescriptor::new_path(vec![view.to_owned()])
}

pub fn command(text: &str) -> FlightDescriptor {
    FlightDescriptor::new_cmd(text.to_owned())
}

pub fn upload(
    to: FlightDescriptor,
    batches: Vec<RecordBatch>,
) -> impl Stream<Item = FlightData> + Send + 'static {
    let schema = batches[0].schema();
    FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_flight_descriptor(Some(to))
        .build(futures::stream::iter(batches.into_iter().map(Ok::<_, FlightError>)))
        .map(|message| message.unwrap())
}

pub fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .unwrap()
}

pub fn times(hours: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(hours.map(|hour| hour * HOUR)).with_timezone("UTC"))
}

/// The first hours of two airports.
pub fn weather(hours: i64) -> RecordBatch {
    weather_from(0, hours)
}

/// Hours of two airports from a certain one on.
pub fn weather_from(first: i64, hours: i64) -> RecordBatch {
    let both = || (0..2 * hours).map(|row| (row % 2, first + row / 2));
    batch(vec![
        (
            "origin",
            Arc::new(StringArray::from_iter_values(both().map(|(at, _)| ["EWR", "JFK"][at as usize]))),
        ),
        ("at", times(both().map(|(_, hour)| hour))),
        (
            "temp",
            Arc::new(Float64Array::from_iter_values(both().map(|(at, hour)| (10 * (at + 1) + hour) as f64))),
        ),
        (
            "wind_dir",
            Arc::new(Int32Array::from_iter_values(both().map(|(_, hour)| ((hour * 10) % 360) as i32))),
        ),
    ])
}

/// All messages of an answer.
pub async fn all<T>(answer: Result<Response<Streaming<T>>, Status>) -> Vec<T> {
    answer.unwrap().into_inner().try_collect().await.unwrap()
}

#[track_caller]
pub fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, parts: &[&str]) -> Status {
    let status = answer.expect_err("must be refused");
    assert_eq!(status.code(), code, "{status:?}");
    for part in parts {
        assert!(status.message().contains(part), "`{part}` is not in `{}`", status.message());
    }
    status
}

/// A request with a header.
pub fn with_header<T>(message: T, name: &'static str, value: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(name, value.parse().unwrap());
    request
}
