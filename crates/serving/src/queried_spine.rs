//! A spine whose rows a query of the caller gives: they go from the one to the other, and never over the wire.

use std::sync::Arc;

use arrow::array::RecordBatch;
use catalog::Author;
use datafusion::common::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use engine::Snapshot;
use engine::column_lineage::Traced;
use feature::{ReadId, VersionId};
use futures::StreamExt;
use lineage::manifest::{SpineQuery, SpineSource};
use lineage::{Edge, Source};

use crate::column_edges::{SPINE, edges_of};
use crate::deprecation::DeprecationNotice;
use crate::error::{Error, Result};
use crate::given_spine::GivenSpine;
use crate::retrieve::{Query, Serving, TracedRetrieval};

/// What the query of a spine reads.
pub(crate) struct Queried {
    /// What of it will go.
    pub deprecations: Vec<DeprecationNotice>,
    read: ReadId,
    traced: Arc<Traced>,
}

impl Serving {
    /// The rows of a spine's query, which is a statement like any other of its caller, over the snapshot of the retrieval.
    ///
    /// # Errors
    /// Those of [`Serving::retrieve`], which name the query; one without rows.
    pub(crate) async fn query_spine(
        &self,
        sql: &str,
        snapshot: &Snapshot,
        author: &Author,
    ) -> Result<(GivenSpine, Queried)> {
        let session = self.engine.session(snapshot.clone())?;
        let asked = self.retrieve_traced(&session, Query::sql(sql), author).await;
        let TracedRetrieval { retrieval, read, traced } = asked.map_err(of_query)?;
        let schema = retrieval.schema.clone();
        // Batches of a union may be named as the part that they are of.
        let rows = retrieval.stream.map(move |batch| match batch {
            Ok(batch) => {
                RecordBatch::try_new(schema.clone(), batch.columns().to_vec()).map_err(DataFusionError::from)
            }
            Err(error) => Err(DataFusionError::External(Box::new(of_query(error)))),
        });
        let rows = RecordBatchStreamAdapter::new(retrieval.schema, rows);
        let spine = GivenSpine::Streamed(Box::pin(rows)).with_rows("the query of the spine").await?;
        Ok((spine, Queried { deprecations: retrieval.deprecations, read, traced }))
    }
}

impl Queried {
    /// What a manifest says of it; none where it read no features, for such reads are not on record.
    pub fn recorded(&self) -> Option<SpineQuery> {
        if self.traced.scans.is_empty() {
            return None;
        }
        let sources = self.traced.scans.iter().map(|scan| SpineSource {
            version: scan.version,
            label: scan.label.clone(),
            sequence: scan.sequence,
            columns: scan.columns.clone(),
        });
        Some(SpineQuery { read: self.read, sources: sources.collect() })
    }

    pub fn versions(&self) -> impl Iterator<Item = VersionId> {
        self.traced.scans.iter().map(|scan| scan.version)
    }

    /// What the spine's columns are made of; nothing where that cannot be traced.
    pub fn edges(&self) -> Vec<Edge> {
        let mut edges = edges_of(&self.traced);
        for edge in &mut edges {
            // Not of the spine that it gives, but of one that it reads.
            if let Source::Spine { column } = &edge.source {
                edge.source = Source::Given { table: SPINE.to_owned(), column: column.clone() };
            }
        }
        edges
    }
}

/// A denial is on record by the query's own read, so that it is none of the retrieval's.
fn of_query(error: Error) -> Error {
    Error::new(error.kind(), format!("the query of the spine: {error}"))
}
