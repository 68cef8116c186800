//! Rows that a client sends: checked message by message before they are decoded.

mod incoming;
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

use crate::call::{Announced, Rows};
use crate::status;
pub use message::MessageCheck;

pub use incoming::{Incoming, Rest};

/// Bytes of all decoded rows of one upload that are held in memory.
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
    /// The rows that it must have, where its client says so.
    announced: Option<Announced>,
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
        announced: Option<Announced>,
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
                    "the command names a spine, by its digest or as a query, and rows came with it; leave one out",
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
        let mut incoming = self.rows(counted, memory);
        let mut batches = Vec::new();
        while let Some(batch) = incoming.next().await? {
            batches.push(batch);
        }
        incoming.received(batches)
    }

    /// Receives the rows as far as they fit into so many bytes.
    ///
    /// # Errors
    /// Those of [`Self::receive`].
    pub async fn receive_up_to(self, bytes: u64, counted: &Rows, memory: &Memory) -> Result<UpTo, Status> {
        let mut incoming = self.rows(counted, memory);
        let mut batches = Vec::new();
        while incoming.held_for_rows() <= bytes {
            match incoming.next().await? {
                Some(batch) => batches.push(batch),
                None => return Ok(UpTo::All(incoming.received(batches)?)),
            }
        }
        Ok(UpTo::More(Box::new(Rest::new(batches, incoming)?)))
    }

    /// The rows, batch by batch.
    fn rows(self, counted: &Rows, memory: &Memory) -> Incoming {
        let held = Arc::new(memory.reserve("upload"));
        let check = Arc::new(Mutex::new(MessageCheck::new(held.clone())));
        let messages = Arc::new(tokio::sync::Mutex::new(self.messages));
        let reading = (messages.clone(), check.clone());
        let checked = futures::stream::unfold(reading, |(messages, check)| async move {
            loop {
                let message = messages.lock().await.next().await?;
                if let Some(checked) = check_message(&check, message).transpose() {
                    return Some((checked, (messages, check)));
                }
            }
        });
        let rows = FlightRecordBatchStream::new_from_flight_data(checked);
        Incoming {
            messages,
            rows,
            check,
            held,
            announced: self.announced,
            received: 0,
            counted: counted.clone(),
        }
    }
}

/// The beginning of an upload.
pub enum UpTo {
    /// It was all.
    All(Received),
    More(Box<Rest>),
}

/// The message to be decoded; none for those without data (clients send a descriptor or metadata alone).
fn check_message(
    check: &Mutex<MessageCheck>,
    message: Result<FlightData, Status>,
) -> Result<Option<FlightData>, FlightError> {
    let message = message?;
    let mut check = check.lock().unwrap_or_else(PoisonError::into_inner);
    if message.data_header.is_empty() && message.data_body.is_empty() {
        check.said(&message.app_metadata);
        return Ok(None);
    }
    check.admit(&message).map_err(|refused| FlightError::from(Status::from(refused)))?;
    Ok(Some(message))
}
