//! Rows that a client sends: checked message by message before they are decoded.

mod message;

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::{FlightData, FlightDescriptor};
use catalog::ingest::arrow_messages;
use futures::{Stream, StreamExt};
use serving::{Memory, Reserved};
use tonic::Status;

use crate::call::Rows;
use crate::status;
pub use message::MessageCheck;

/// Bytes of all decoded rows of one upload, which are held in memory.
const UPLOAD_BYTES: u64 = 4 << 30;

/// Why an upload was refused. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Its messages are not what they must be.
    #[error(transparent)]
    Messages(#[from] arrow_messages::Refused),
    #[error("the upload has more than {} GiB; send it in several, or ingest files with `lineament ingest`", UPLOAD_BYTES >> 30)]
    TooMuch,
    /// There is no memory for it.
    #[error("{0}")]
    Memory(serving::Error),
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Messages(_) | Refused::TooMuch => status::invalid(refused.to_string()),
            Refused::Memory(error) => status::of(&error),
        }
    }
}

pub type Messages = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>;

/// An upload whose first message has been read, for what it says of the rest.
pub struct Upload {
    pub descriptor: FlightDescriptor,
    messages: Messages,
    /// The rows that it must have, where its client has said so.
    announced: Option<u64>,
}

/// All rows of an upload.
#[derive(Debug)]
pub struct Received {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    /// The memory that they take, held until this is dropped.
    pub held: Arc<Reserved>,
}

impl Upload {
    /// Reads the first message, which must have a descriptor.
    pub async fn begin(
        messages: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
        announced: Option<u64>,
    ) -> Result<Self, Status> {
        let mut messages: Messages = Box::pin(messages);
        let Some(first) = messages.next().await else {
            return Err(status::invalid("nothing was sent; the first message must have a descriptor"));
        };
        let mut first = first?;
        let Some(descriptor) = first.flight_descriptor.take() else {
            return Err(status::invalid(
                "the first message has no descriptor; give a path (a feature view's name) or a command",
            ));
        };
        let messages = Box::pin(futures::stream::iter([Ok(first)]).chain(messages));
        Ok(Self { descriptor, messages, announced })
    }

    /// Its messages from the first on, which nobody has checked.
    pub fn into_messages(self) -> Messages {
        self.messages
    }

    /// Reads to the end of an upload that must have no rows; a schema may come.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` where rows come.
    pub async fn receive_nothing(mut self) -> Result<(), Status> {
        while let Some(message) = self.messages.next().await {
            if !message?.data_body.is_empty() {
                return Err(status::invalid(
                    "the command names a spine by its digest, and rows came with it; leave one out",
                ));
            }
        }
        Ok(())
    }

    /// Receives the rows, to the end of the upload.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for messages that would harm the process, and for those that are not Arrow; `RESOURCE_EXHAUSTED` where
    /// there is no memory for them.
    pub async fn receive(self, counted: &Rows, memory: &Memory) -> Result<Received, Status> {
        let held = Arc::new(memory.reserve("upload"));
        let check = Arc::new(Mutex::new(MessageCheck::new(held.clone())));
        let checked = self.messages.filter_map(move |message| {
            let checked = check_message(&check, message);
            async move { checked.transpose() }
        });
        let mut rows = FlightRecordBatchStream::new_from_flight_data(checked);
        let mut batches = Vec::new();
        let mut received = 0;
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(status::decoding)?;
            counted.received(batch.num_rows());
            received += batch.num_rows() as u64;
            batches.push(batch);
        }
        if let Some(announced) = self.announced
            && announced != received
        {
            return Err(status::invalid(format!(
                "the upload was said to have {announced} rows and ended after {received}; nothing of it is kept: send it again"
            )));
        }
        match rows.schema() {
            Some(schema) => Ok(Received { schema: schema.clone(), batches, held }),
            None => Err(status::invalid(
                "no schema was sent; send the rows' schema first, even if there are no rows",
            )),
        }
    }
}

/// The message to be decoded; none for those without data (clients send a descriptor or metadata alone).
fn check_message(
    check: &Mutex<MessageCheck>,
    message: Result<FlightData, Status>,
) -> Result<Option<FlightData>, FlightError> {
    let message = message?;
    if message.data_header.is_empty() && message.data_body.is_empty() {
        return Ok(None);
    }
    let mut check = check.lock().unwrap_or_else(PoisonError::into_inner);
    check.admit(&message).map_err(|refused| FlightError::from(Status::from(refused)))?;
    Ok(Some(message))
}
