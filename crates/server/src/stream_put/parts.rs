//! The messages of a stream, each checked before it is decoded, and the parts that they are.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow_flight::FlightData;
use arrow_flight::decode::{DecodedFlightData, DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use catalog::ingest::stream::ProducerStream;
use catalog::state::producers::Place;
use futures::StreamExt;
use serde::Deserialize;
use serving::{Memory, Reserved};
use tokio::sync::mpsc;
use tonic::Status;

use super::Read;
use crate::admission::{Admission, stopping};
use crate::call::Rows;
use crate::request;
use crate::status;
use crate::upload::{MessageCheck, Messages};

/// How often a stream that waits for its client looks whether the server stops.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What a batch says of itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    epoch: u64,
    number: u64,
}

pub struct Reader {
    pub stream: ProducerStream,
    pub messages: Messages,
    pub memory: Memory,
    pub counted: Rows,
    pub admission: Admission,
}

/// The check of messages, and the memory of the rows that were checked last.
struct Checked {
    check: MessageCheck,
    rows: Arc<Reserved>,
}

impl Reader {
    /// Reads until the client ends, something is wrong, nobody waits for results any more, or the server
    /// stops.
    pub async fn run(self, read: mpsc::Sender<Read>) {
        let Self { stream, messages, memory, counted, admission } = self;
        let check = MessageCheck::new(Arc::new(memory.reserve("stream")));
        let checked = Arc::new(Mutex::new(Checked { check, rows: Arc::new(memory.reserve("stream rows")) }));
        let (of_messages, room) = (checked.clone(), memory.clone());
        let messages = messages.filter_map(move |message| {
            let admitted = admit(&of_messages, &room, message);
            async move { admitted.transpose() }
        });
        let mut decoded = FlightDataDecoder::new(messages);
        loop {
            if admission.is_closed() {
                let _ = read.send(Read::Failed(stopping())).await;
                return;
            }
            let message = tokio::select! {
                biased;
                () = read.closed() => return,
                message = decoded.next() => message,
                () = tokio::time::sleep(LOOK_EVERY) => continue,
            };
            let Some(message) = message else { return };
            let part = match message {
                Ok(message) => part(&stream, message, &checked, &memory, &counted).await,
                Err(error) => Err(status::decoding(error)),
            };
            match part {
                Ok(None) => {}
                Ok(Some(part)) => {
                    if read.send(part).await.is_err() {
                        return;
                    }
                }
                Err(status) => {
                    let _ = read.send(Read::Failed(status)).await;
                    return;
                }
            }
        }
    }
}

/// The message to be decoded; none for those without data.
fn admit(
    checked: &Mutex<Checked>,
    memory: &Memory,
    message: Result<FlightData, Status>,
) -> Result<Option<FlightData>, FlightError> {
    let message = message?;
    if message.data_header.is_empty() && message.data_body.is_empty() {
        return Ok(None);
    }
    let mut checked = checked.lock().unwrap_or_else(PoisonError::into_inner);
    let rows = Arc::new(memory.reserve("stream rows"));
    let admitted = checked.check.admit_part(&message, &rows);
    admitted.map_err(|refused| FlightError::from(Status::from(refused)))?;
    checked.rows = rows;
    Ok(Some(message))
}

async fn part(
    stream: &ProducerStream,
    message: DecodedFlightData,
    checked: &Mutex<Checked>,
    memory: &Memory,
    counted: &Rows,
) -> Result<Option<Read>, Status> {
    let of = |error: catalog::Error| status::of(&serving::Error::from(error));
    let rows = match message.payload {
        DecodedPayload::None => return Ok(None),
        DecodedPayload::Schema(schema) => {
            stream.fit(&schema).map_err(of)?;
            return Ok(None);
        }
        DecodedPayload::RecordBatch(rows) => rows,
    };
    let held = {
        let mut checked = checked.lock().unwrap_or_else(PoisonError::into_inner);
        let none = Arc::new(memory.reserve("stream rows"));
        std::mem::replace(&mut checked.rows, none)
    };
    let said = &message.inner.app_metadata;
    if said.is_empty() {
        return Err(status::invalid(
            "a batch of the stream has no metadata; say with each which part it is: {\"epoch\": 1, \"number\": 1}",
        ));
    }
    let Said { epoch, number } = request::json("the metadata of a batch", said)?;
    counted.received(rows.num_rows());
    // Their memory is held until they are committed, whether or not the client reads its results.
    let pending = stream.send_holding(Place { epoch, number }, rows, held).await.map_err(of)?;
    Ok(Some(Read::Part(pending)))
}
