//! Rows that a caller gives as a stream, as a table that plans can scan.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;

/// A table of one partition, whose rows are made as they are read.
#[derive(Debug)]
pub struct StreamedRows(StreamingTable);

impl StreamedRows {
    /// A table whose source can be read as often as a plan likes.
    ///
    /// # Errors
    /// None that is known: the schema is the source's own.
    pub fn new(source: Arc<dyn PartitionStream>) -> Result<Self> {
        Ok(Self(StreamingTable::try_new(source.schema().clone(), vec![source])?))
    }

    /// Rows that come once: a plan that reads them a second time fails.
    ///
    /// # Errors
    /// As above.
    pub fn once(rows: SendableRecordBatchStream) -> Result<Self> {
        Self::new(Arc::new(Once { schema: rows.schema(), rows: Mutex::new(Some(rows)) }))
    }
}

#[async_trait]
impl TableProvider for StreamedRows {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.0.scan(session, projection, filters, limit).await
    }
}

/// A stream until it is taken.
struct Once {
    schema: SchemaRef,
    rows: Mutex<Option<SendableRecordBatchStream>>,
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Once")
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner).take();
        rows.unwrap_or_else(|| {
            let again = DataFusionError::Internal("rows that come once were read a second time".to_owned());
            let failed = futures::stream::once(std::future::ready(Err(again)));
            Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), failed))
        })
    }
}
