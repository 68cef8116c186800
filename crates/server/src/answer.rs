//! Rows on their way to a client: encoded as they come, in messages of a size that clients take.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::FlightData;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use serving::{DeprecationNotice, HistoricalStream, ReplayStream, Replayed, Reserved, Retrieval};
use tonic::Status;
use tonic::metadata::{Ascii, MetadataValue};

use crate::call::{Rows, reads_at};
use crate::reports;
use crate::status;

/// The size of data that a message is cut to. Clients refuse messages over 4 MiB unless they are told otherwise.
const MESSAGE_BYTES: usize = 2 << 20;

/// The header that names what was read and is deprecated.
pub const DEPRECATED: &str = "lineament-deprecated";
/// The longest that its text grows.
const HEADER_BYTES: usize = 2 << 10;

/// What is to be said after the last row, made when that row is gone.
type Report = BoxFuture<'static, Result<Bytes, Status>>;

/// Rows, and what is to be said after the last of them.
pub struct Answer {
    schema: SchemaRef,
    rows: BoxStream<'static, Result<RecordBatch, Status>>,
    report: Option<Report>,
    /// Bytes of rows that are in memory already; those of a query come as they are asked for.
    bytes: usize,
    /// What was read and will go.
    deprecations: Vec<DeprecationNotice>,
}

impl Answer {
    /// Rows of a query. There is a report where something of them is deprecated, and none else.
    pub fn retrieval(retrieval: Retrieval) -> Self {
        let rows = retrieval.stream.map(|batch| batch.map_err(|error| status::of(&error)));
        let deprecations = retrieval.deprecations;
        let report = (!deprecations.is_empty()).then(|| {
            let report = reports::json(&serde_json::json!({ "deprecations": deprecations })).map(Bytes::from);
            futures::future::ready(report).boxed()
        });
        Self { schema: retrieval.schema, rows: rows.boxed(), report, bytes: 0, deprecations }
    }

    /// The names of what was read and will go, for the header of the answer; none where nothing does.
    pub fn deprecated(&self) -> Option<MetadataValue<Ascii>> {
        let mut names = String::new();
        for notice in &self.deprecations {
            // Names have no blanks, and a header has its bounds.
            if names.len() + notice.of.len() > HEADER_BYTES {
                names.push_str(", ...");
                break;
            }
            if !names.is_empty() {
                names.push_str(", ");
            }
            names.push_str(&notice.of);
        }
        if names.is_empty() { None } else { names.parse().ok() }
    }

    pub fn batches(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        let bytes = batches.iter().flat_map(RecordBatch::columns).map(size).sum();
        let rows = futures::stream::iter(batches.into_iter().map(Ok)).boxed();
        Self { schema, rows, report: None, bytes, deprecations: Vec::new() }
    }

    /// A retrieval as it runs; its report is there after its last row.
    pub fn historical(stream: HistoricalStream) -> Self {
        let HistoricalStream { schema, deprecations, rows, report } = stream;
        let rows = rows.map(|batch| batch.map_err(|error| status::of(&error))).boxed();
        let report = async move {
            let report = report.await;
            let report = report.map_err(|error| status::internal("the retrieval has no report", error))?;
            reads_at(report.sequence, report.training_set);
            Ok(reports::json(&report)?.into())
        };
        Self { schema, rows, report: Some(report.boxed()), bytes: 0, deprecations }
    }

    /// A recorded set as it is made again; its report is there after its last row.
    pub fn replay(stream: ReplayStream) -> Self {
        let ReplayStream { schema, rows, report } = stream;
        let rows = rows.map(|batch| batch.map_err(|error| status::of(&error))).boxed();
        let report = async move {
            let replayed = report.await;
            let Replayed { report, set } =
                replayed.map_err(|error| status::internal("the replay has no report", error))?;
            reads_at(set.sequence, set.training_set);
            Ok(reports::json(&report)?.into())
        };
        Self { schema, rows, report: Some(report.boxed()), bytes: 0, deprecations: Vec::new() }
    }

    /// Holds memory for something beside the rows until the last of them is sent.
    pub fn beside(mut self, held: Arc<Reserved>) -> Self {
        self.rows = self.rows.inspect(move |_| _ = &held).boxed();
        self
    }

    /// Holds memory for rows that are there already until the last of them is sent.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` where there is none for them.
    pub fn holding(self, held: Arc<Reserved>) -> Result<Self, Status> {
        held.grow(self.bytes as u64).map_err(|error| status::of(&error.into()))?;
        Ok(self.beside(held))
    }

    /// A last message without rows that carries the report.
    pub fn with_report(mut self, report: &impl serde::Serialize) -> Result<Self, Status> {
        let report: Bytes = reports::json(report)?.into();
        self.report = Some(futures::future::ready(Ok(report)).boxed());
        Ok(self)
    }

    /// The messages: the schema, the rows, the report.
    pub fn encode(self, counted: Rows) -> impl Stream<Item = Result<FlightData, Status>> + Send + use<> {
        let state = Encoding {
            encoder: Encoder::default(),
            columns: self.schema.clone(),
            schema: Some(self.schema),
            rows: self.rows,
            parts: None,
            report: self.report,
            ready: VecDeque::new(),
            counted,
            ended: false,
        };
        futures::stream::try_unfold(state, |mut state| async move {
            loop {
                if let Some(message) = state.ready.pop_front() {
                    return Ok(Some((message, state)));
                }
                if state.ended {
                    return Ok(None);
                }
                state.advance().await?;
            }
        })
    }
}

struct Encoding {
    encoder: Encoder,
    columns: SchemaRef,
    /// Until it is announced.
    schema: Option<SchemaRef>,
    rows: BoxStream<'static, Result<RecordBatch, Status>>,
    /// What is left of the batch that is being sent.
    parts: Option<Box<dyn Iterator<Item = RecordBatch> + Send>>,
    report: Option<Report>,
    ready: VecDeque<FlightData>,
    counted: Rows,
    ended: bool,
}

impl Encoding {
    async fn advance(&mut self) -> Result<(), Status> {
        if let Some(schema) = self.schema.take() {
            self.ready.push_back(self.encoder.schema(&schema));
            return Ok(());
        }
        // A part at a time: a client that reads slowly has one message waiting for it, however large the batch.
        if let Some(part) = self.parts.as_mut().and_then(Iterator::next) {
            self.counted.sent(part.num_rows());
            return self.encoder.batch(&part, &mut self.ready).map_err(|error| status::encoding(&error));
        }
        self.parts = None;
        match self.rows.next().await {
            Some(batch) => {
                let batch = batch?;
                self.parts = Some(Box::new(parts(&batch)));
            }
            None => {
                self.ended = true;
                if let Some(report) = self.report.take() {
                    let report = report.await?;
                    // A batch without rows carries it: not every client takes a message that is metadata alone.
                    let empty = RecordBatch::new_empty(self.columns.clone());
                    self.encoder.batch(&empty, &mut self.ready).map_err(|error| status::encoding(&error))?;
                    if let Some(last) = self.ready.pop_back() {
                        self.ready.push_back(last.with_app_metadata(report));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Encodes a schema and its batches. arrow-flight's own encoder either unfolds dictionaries, which changes the schema that was
/// announced, or announces large lists as small ones; this one sends what there is.
struct Encoder {
    generator: IpcDataGenerator,
    dictionaries: DictionaryTracker,
    options: IpcWriteOptions,
    context: IpcWriteContext,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            generator: IpcDataGenerator::default(),
            dictionaries: DictionaryTracker::new(false),
            options: IpcWriteOptions::default(),
            context: IpcWriteContext::default(),
        }
    }
}

impl Encoder {
    fn schema(&mut self, schema: &SchemaRef) -> FlightData {
        self.generator
            .schema_to_bytes_with_dictionary_tracker(schema, &mut self.dictionaries, &self.options)
            .into()
    }

    fn batch(&mut self, batch: &RecordBatch, out: &mut VecDeque<FlightData>) -> Result<(), ArrowError> {
        let (dictionaries, rows) =
            self.generator.encode(batch, &mut self.dictionaries, &self.options, &mut self.context)?;
        out.extend(dictionaries.into_iter().map(FlightData::from));
        out.push_back(rows.into());
        Ok(())
    }
}

/// A batch in parts that fit a message, by its average row. One row is never cut.
fn parts(batch: &RecordBatch) -> impl Iterator<Item = RecordBatch> + use<> {
    let rows = batch.num_rows();
    let bytes: usize = batch.columns().iter().map(size).sum();
    let count = bytes.div_ceil(MESSAGE_BYTES).max(1);
    let step = rows.div_ceil(count).max(1);
    let batch = batch.clone();
    // A batch without rows is sent too: it is as good as none, and costs nothing.
    (0..rows.max(1)).step_by(step).map(move |start| batch.slice(start, step.min(rows - start)))
}

/// The bytes of the rows themselves, without what their buffers hold beside them.
fn size(column: &Arc<dyn Array>) -> usize {
    column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_buffer_memory_size())
}
