//! Uploads without end: each batch is committed and acknowledged by itself.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow_flight::{FlightData, FlightDescriptor, PutResult};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

use super::fixture::{Running, command, path, refused, upload, weather_from};

fn to(producer: &str) -> FlightDescriptor {
    command(&json!({ "stream": { "view": "weather", "producer": producer } }).to_string())
}

/// A client that is in the middle of a stream.
struct Producing {
    messages: mpsc::UnboundedSender<FlightData>,
    results: Streaming<PutResult>,
    /// Whether the schema was sent.
    begun: bool,
    descriptor: FlightDescriptor,
}

impl Producing {
    async fn begin(server: &Running, descriptor: FlightDescriptor) -> Self {
        let (messages, receiver) = mpsc::unbounded_channel();
        let first = FlightData::new().with_descriptor(descriptor.clone());
        messages.send(first).unwrap();
        let sent = futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|message| (message, receiver))
        });
        let results = server.connect().await.do_put(sent).await.unwrap().into_inner();
        Self { messages, results, begun: false, descriptor }
    }

    async fn send(&mut self, epoch: u64, number: u64, rows: RecordBatch) {
        let said = json!({ "epoch": epoch, "number": number }).to_string();
        self.send_as(&said, rows).await;
    }

    async fn send_as(&mut self, metadata: &str, rows: RecordBatch) {
        let messages: Vec<FlightData> = upload(self.descriptor.clone(), vec![rows]).collect().await;
        for mut message in messages.into_iter().skip(usize::from(self.begun)) {
            message.flight_descriptor = None;
            if !message.data_body.is_empty() {
                message = message.with_app_metadata(metadata.to_owned());
            }
            // A server that has ended the stream does not listen.
            let _ = self.messages.send(message);
        }
        self.begun = true;
    }

    async fn result(&mut self) -> Result<Value, Status> {
        let result = self.results.message().await?.expect("a result");
        Ok(serde_json::from_slice(&result.app_metadata).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_is_acknowledged_after_its_commit_and_can_be_read() {
    let mut server = Running::with_weather().await;
    let mut producing = Producing::begin(&server, to("station-7")).await;
    for number in 1..=3 {
        producing.send(1, number, weather_from(12 + number as i64, 1)).await;
        let told = producing.result().await.unwrap();
        assert_eq!((&told["epoch"], &told["number"]), (&json!(1), &json!(number)));
        assert_eq!(
            (&told["rows"], &told["rejected"], &told["repeated"]),
            (&json!(2), &json!(0), &json!(false))
        );
        assert_eq!(told["view_version"], "weather@1");
        let sequence = told["sequence"].as_u64().unwrap();
        let batch = told["batch"].as_str().unwrap();
        let found = server
            .sql(&format!(
                "SELECT * FROM history('weather') WHERE batch = '{batch}' AND sequence = {sequence}"
            ))
            .await
            .unwrap();
        assert_eq!(found.num_rows(), 2);
    }
    drop(producing.messages);
    assert!(producing.results.message().await.unwrap().is_none());
    let last =
        server.act("lineament.last_part", &json!({ "view": "weather", "producer": "station-7" })).await;
    assert_eq!(last.unwrap(), json!({ "epoch": 1, "number": 3 }));
    let none = server.act("lineament.last_part", &json!({ "view": "weather", "producer": "other" })).await;
    assert_eq!(none.unwrap(), json!({ "epoch": 0, "number": 0 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_sent_again_changes_nothing() {
    let server = Running::with_weather().await;
    let mut answers = Vec::new();
    for _ in 0..2 {
        let mut producing = Producing::begin(&server, to("station-7")).await;
        for number in 1..=20 {
            producing.send(1, number, weather_from(12 + number as i64, 1)).await;
        }
        let mut told = Vec::new();
        for number in 1..=20 {
            let one = producing.result().await.unwrap();
            assert_eq!(one["number"], json!(number), "results come in the order of the parts");
            told.push((one["sequence"].clone(), one["batch"].clone(), one["repeated"].clone()));
        }
        answers.push(told);
    }
    for (first, again) in answers[0].iter().zip(&answers[1]) {
        assert_eq!((&first.0, &first.1), (&again.0, &again.1));
        assert_eq!((&first.2, &again.2), (&json!(false), &json!(true)));
    }
    let state = server.serving.catalog().refresh().await.unwrap();
    let rows: u64 = state.batches().map(|batch| batch.record.rows).sum();
    assert_eq!(rows, 24 + 40);
    assert!(state.batches().count() < 8, "parts that came together are one batch");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_ends_the_stream_with_the_reason() {
    let server = Running::with_weather().await;
    let rows = || weather_from(12, 1);
    let cases: [(&str, RecordBatch, &[&str]); 5] = [
        ("{\"epoch\": 1, \"number\": 3}", rows(), &["leaves a gap", "nothing yet"]),
        ("{\"epoch\": 1}", rows(), &["metadata of a batch", "number"]),
        ("five", rows(), &["metadata of a batch"]),
        ("", rows(), &["has no metadata"]),
        ("{\"epoch\": 1, \"number\": 1}", rows().project(&[1, 2]).unwrap(), &["does not fit"]),
    ];
    for (metadata, rows, parts) in cases {
        let mut producing = Producing::begin(&server, to("station-7")).await;
        producing.send_as(metadata, rows).await;
        refused(producing.result().await, Code::InvalidArgument, parts);
        assert!(producing.results.message().await.is_ok_and(|more| more.is_none()));
    }
    let mut client = server.connect().await;
    for (wanted, code, parts) in [
        (json!({ "view": "wether", "producer": "p" }), Code::NotFound, ["did you mean `weather`"]),
        (json!({ "view": "weather", "producer": "" }), Code::InvalidArgument, ["producer's name"]),
        (json!({ "view": "weather" }), Code::InvalidArgument, ["producer"]),
        (json!({ "view": "weather", "producer": "p", "epoch": 1 }), Code::InvalidArgument, ["epoch"]),
    ] {
        let messages = upload(command(&json!({ "stream": wanted }).to_string()), vec![rows()]);
        refused(client.do_put(messages).await.map(|_| ()), code, &parts);
    }
    assert_eq!(server.serving.catalog().refresh().await.unwrap().batches().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_sent_before_it_died_is_there_once() {
    let server = Running::with_weather().await;
    let mut producing = Producing::begin(&server, to("station-7")).await;
    for number in 1..=5 {
        producing.send(1, number, weather_from(12 + number as i64, 1)).await;
    }
    producing.result().await.unwrap();
    drop(producing);
    let mut producing = Producing::begin(&server, to("station-7")).await;
    for number in 1..=6 {
        producing.send(1, number, weather_from(12 + number as i64, 1)).await;
    }
    for number in 1..=6 {
        assert_eq!(producing.result().await.unwrap()["number"], json!(number));
    }
    let state = server.serving.catalog().refresh().await.unwrap();
    assert_eq!(state.batches().map(|batch| batch.record.rows).sum::<u64>(), 24 + 12);
    drop(producing);
    // What was received is given back.
    for _ in 0..100 {
        if server.serving.memory().held() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} bytes are held", server.serving.memory().held());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_take_no_place_among_queries_and_end_when_the_server_stops() {
    let mut admission = super::fixture::options("127.0.0.1:0");
    admission.admission.max_running = 1;
    let server = Running::over(super::fixture::empty_store().await, admission).await.and_weather().await;
    let mut first = Producing::begin(&server, to("one")).await;
    let mut second = Producing::begin(&server, to("two")).await;
    for producing in [&mut first, &mut second] {
        producing.send(1, 1, weather_from(12, 1)).await;
        producing.result().await.unwrap();
    }
    let mut client = server.connect().await;
    let ingested = client.do_put(upload(path("weather"), vec![weather_from(20, 1)])).await;
    assert!(ingested.is_ok());
    let serving = server.serving.clone();
    let stopped = server.begin_to_stop();
    let status = first.result().await.expect_err("the stream is ended");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    tokio::time::timeout(Duration::from_secs(10), stopped).await.unwrap().unwrap().unwrap();
    assert_eq!(serving.catalog().refresh().await.unwrap().batches().count(), 4);
}
