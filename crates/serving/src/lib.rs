//! How features leave: the one way out.
//!
//! Every read goes through [`Serving::retrieve`] or [`Serving::historical`]: decide, plan, stream, record. Rebuilding a recorded training
//! set and explaining a cell of it stand on the same. This crate knows no protobuf and no HTTP.

mod column_edges;
mod error;
mod explain;
mod export;
mod graph;
mod historical;
mod read_rows;
mod reads;
mod refresh;
mod registry;
mod replay;
mod retrieve;

pub use column_edges::edges_of;
pub use engine::{Memory, Reserved, TEXT_BYTES as SQL_BYTES};
pub use error::{Error, Kind, Result};
pub use explain::{Candidate, ExplainRequest, Explanation};
pub use export::write_parquet;
pub use graph::{ImpactReport, ImpactRow, LineageReport, LineageRequest, LineageStep};
pub use historical::{FeatureNulls, HistoricalReport, HistoricalRequest, Spine, TrainingSet, ViewMatches};
pub use lineage::Manifest;
pub use refresh::{RefreshReport, RefreshRequest};
pub use replay::{Difference, ReplayReport};
pub use retrieve::{OpaqueReads, Parameters, Query, Retrieval, Serving};
