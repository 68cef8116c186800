//! A spine that a caller gives: all at hand, or as it comes.

use std::pin::Pin;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use engine::SpoolWriter;
use engine::spines::{SpineFile, SpineWriter};
use feature::digest::TableDigestResult;
use futures::{Stream, StreamExt, TryStreamExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::error::{Error, Kind, Result};
use crate::historical::Spine;
use crate::retrieve::Serving;

/// Batches that may wait for their reader.
const BATCHES_AHEAD: usize = 2;

/// Rows that want features, from a caller.
pub enum GivenSpine {
    /// All of them.
    Whole(Spine),
    /// As they come. They are read once, and more of them may come than memory holds.
    Streamed(SendableRecordBatchStream),
}

impl From<Spine> for GivenSpine {
    fn from(spine: Spine) -> Self {
        Self::Whole(spine)
    }
}

impl GivenSpine {
    /// Rows that are read as they are wanted, on a thread of their own.
    pub fn read(
        schema: SchemaRef,
        batches: impl Iterator<Item = Result<RecordBatch>> + Send + 'static,
    ) -> Self {
        let mut read = RecordBatchReceiverStream::builder(schema, BATCHES_AHEAD);
        let rows = read.tx();
        read.spawn_blocking(move || {
            for batch in batches {
                let batch = batch.map_err(|error| DataFusionError::External(Box::new(error)));
                if rows.blocking_send(batch).is_err() {
                    break;
                }
            }
            Ok(())
        });
        Self::Streamed(read.build())
    }

    /// The same, which has rows: waits for the first of those that are to come. `what` names it in errors.
    ///
    /// # Errors
    /// `Invalid` where there are none; what went wrong with them.
    pub(crate) async fn with_rows(self, what: &str) -> Result<Self> {
        match self {
            Self::Whole(spine) if spine.rows() > 0 => Ok(Self::Whole(spine)),
            Self::Whole(_) => Err(no_rows(what)),
            Self::Streamed(mut rows) => loop {
                match rows.try_next().await? {
                    None => return Err(no_rows(what)),
                    Some(batch) if batch.num_rows() == 0 => {}
                    Some(first) => {
                        let schema = rows.schema();
                        let all = futures::stream::once(std::future::ready(Ok(first))).chain(rows);
                        return Ok(Self::Streamed(Box::pin(RecordBatchStreamAdapter::new(schema, all))));
                    }
                }
            },
        }
    }
}

impl Serving {
    /// Where the rows of a spine wait between their sender and the lookup: in memory up to a share of the limit, else on disk.
    ///
    /// # Errors
    /// The machine has no place for temporary files.
    pub fn spool(&self, schema: SchemaRef) -> Result<(SpoolWriter, SendableRecordBatchStream)> {
        Ok(self.engine.spool(schema)?)
    }
}

fn no_rows(what: &str) -> Error {
    Error::new(Kind::Invalid, format!("{what} has no rows; features are looked up for the rows of a spine"))
}

/// A spine that was written to a file as it passed by: the file, and what its rows are. It is there when the last row has passed.
pub(crate) type PassedBy = oneshot::Receiver<(SpineFile, TableDigestResult)>;

/// The same rows, which are written to a file as they pass by, one batch beside what is done with the next.
pub(crate) fn kept_in_passing(
    rows: SendableRecordBatchStream,
    writer: SpineWriter,
) -> (SendableRecordBatchStream, PassedBy) {
    let (tell, passed_by) = oneshot::channel();
    let schema = rows.schema();
    let writing = tokio::spawn(std::future::ready(Ok(writer)));
    let rows = passing(Passing { rows, writing, tell });
    (Box::pin(RecordBatchStreamAdapter::new(schema, rows)), passed_by)
}

struct Passing {
    rows: SendableRecordBatchStream,
    writing: JoinHandle<Result<SpineWriter, DataFusionError>>,
    tell: oneshot::Sender<(SpineFile, TableDigestResult)>,
}

fn passing(passing: Passing) -> Pin<Box<dyn Stream<Item = Result<RecordBatch, DataFusionError>> + Send>> {
    let stopped = |error: tokio::task::JoinError| DataFusionError::External(Box::new(error));
    let rows = futures::stream::try_unfold(Some(passing), move |passing| async move {
        let Some(Passing { mut rows, writing, tell }) = passing else { return Ok(None) };
        let next = rows.try_next().await?;
        let mut writer = writing.await.map_err(stopped)??;
        let Some(batch) = next else {
            let finished = tokio::task::spawn_blocking(move || writer.finish()).await.map_err(stopped)??;
            // Whoever left asks for none.
            let _ = tell.send(finished);
            return Ok(None);
        };
        let passed = batch.clone();
        let writing = tokio::task::spawn_blocking(move || {
            writer.write(&batch)?;
            Ok(writer)
        });
        Ok(Some((passed, Some(Passing { rows, writing, tell }))))
    });
    rows.boxed()
}
