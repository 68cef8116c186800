//! The rows of an upload as they come.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::decode::FlightRecordBatchStream;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use serving::{Kind, Reserved};
use tonic::{Code, Status};

use super::message::MessageCheck;
use super::{Messages, Received};
use crate::call::{Announced, Rows};
use crate::status;

/// Batches that have been checked and decoded one by one.
pub struct Incoming {
    /// What `rows` reads.
    pub(super) messages: Arc<tokio::sync::Mutex<Messages>>,
    pub(super) rows: FlightRecordBatchStream,
    pub(super) check: Arc<Mutex<MessageCheck>>,
    pub(super) held: Arc<Reserved>,
    pub(super) announced: Option<Announced>,
    pub(super) received: u64,
    pub(super) counted: Rows,
}

impl Incoming {
    /// The next batch; none where the upload has ended as it should.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>, Status> {
        if let Some(batch) = self.rows.next().await {
            let batch = batch.map_err(status::decoding)?;
            self.counted.received(batch.num_rows());
            self.received += batch.num_rows() as u64;
            return Ok(Some(batch));
        }
        let received = self.received;
        let announced = match self.announced {
            None => return Ok(None),
            Some(Announced::Rows(announced)) => announced,
            Some(Announced::Last) => self.check().sent().ok_or_else(|| {
                status::invalid(format!(
                    "the upload was to say after its last row how many rows it had, as `{{\"rows\": 3}}`, and ended after {received} rows without; nothing of it is kept: send it again"
                ))
            })?,
        };
        if announced == received {
            return Ok(None);
        }
        Err(status::invalid(format!(
            "the upload was said to have {announced} rows and ended after {received}; nothing of it is kept: send it again"
        )))
    }

    fn schema(&self) -> Result<SchemaRef, Status> {
        let none = "no schema was sent; send the rows' schema first, even if there are no rows";
        self.rows.schema().cloned().ok_or_else(|| status::invalid(none))
    }

    /// All batches that came, with the memory that they take.
    pub(super) fn received(self, batches: Vec<RecordBatch>) -> Result<Received, Status> {
        Ok(Received { schema: self.schema()?, batches, held: self.held })
    }

    /// Bytes that are held for the batches that came.
    pub(super) fn held_for_rows(&self) -> u64 {
        self.check().of_rows()
    }

    fn check(&self) -> MutexGuard<'_, MessageCheck> {
        self.check.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An upload of which some batches have come.
pub struct Rest {
    schema: SchemaRef,
    came: std::vec::IntoIter<RecordBatch>,
    incoming: Incoming,
}

impl Rest {
    pub(super) fn new(came: Vec<RecordBatch>, incoming: Incoming) -> Result<Self, Status> {
        Ok(Self { schema: incoming.schema()?, came: came.into_iter(), incoming })
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next batch, those that have come first. Its memory is charged to whoever takes it.
    ///
    /// # Errors
    /// Those of an upload, as errors of the rows.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, DataFusionError> {
        let batch = match self.came.next() {
            Some(batch) => Some(batch),
            None => self.incoming.next().await.map_err(|status| of_rows(&status))?,
        };
        if self.came.len() == 0 {
            self.incoming.check().let_go_of_rows();
        }
        Ok(batch)
    }

    /// All batches, as they come.
    pub fn into_stream(self) -> SendableRecordBatchStream {
        let schema = self.schema.clone();
        let rows = futures::stream::try_unfold(self, |mut rest| async move {
            Ok(rest.next().await?.map(|batch| (batch, rest)))
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }

    /// Reads to the end, and keeps nothing. A client that sends all before it reads one message would otherwise wait for ever, and never
    /// come to read why.
    pub async fn drain(self) {
        let Incoming { messages, rows, check, .. } = self.incoming;
        drop((rows, check, self.came));
        let mut messages = messages.lock().await;
        while let Some(Ok(_)) = messages.next().await {}
    }
}

/// What befell an upload, as an error of the rows that a query reads.
fn of_rows(status: &Status) -> DataFusionError {
    let kind = match status.code() {
        Code::InvalidArgument => Kind::Invalid,
        Code::ResourceExhausted => Kind::Exhausted,
        Code::Aborted | Code::Cancelled | Code::Unavailable => Kind::Unavailable,
        _ => Kind::Internal,
    };
    DataFusionError::External(Box::new(serving::Error::new(kind, status.message())))
}
