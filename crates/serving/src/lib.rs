//! How features leave: the one way out.
//!
//! Every read goes through [`Serving::retrieve`] or [`Serving::historical`]: decide, plan, stream, record. Rebuilding a recorded training
//! set and explaining a cell of it stand on the same. This crate knows no protobuf and no HTTP.

mod audit;
mod diff;
mod error;
mod explain;
mod export;
mod graph;
mod historical;
mod judgement;
mod reads;
mod recorded;
mod refresh;
mod registry;
mod replay;
mod retrieve;

pub use audit::{
    Audit, AuditBatch, AuditClass, AuditExample, AuditRequest, AuditSetRequest, ColumnAudit, FullAudit,
    JudgedBy, Lead,
};
pub use diff::{
    Cause, CellCount, CellExample, Class, ColumnChanges, Compared, Diff, DiffRequest, DiffSide, EntryCount,
    FullDiff, Retyped, RowChange, RowCounts, RowExample,
};
pub use engine::{Memory, Reserved, TEXT_BYTES as SQL_BYTES};
pub use error::{Error, Kind, Result};
pub use explain::{Candidate, ExplainRequest, ExplainValueRequest, Explanation};
pub use export::write_parquet;
pub use graph::{ImpactReport, ImpactRow, LineageReport, LineageRequest, LineageStep};
pub use historical::{FeatureNulls, HistoricalReport, HistoricalRequest, Spine, TrainingSet, ViewMatches};
pub use lineage::Manifest;
pub use refresh::{RefreshReport, RefreshRequest};
pub use replay::{Difference, ReplayReport, Suspect};
pub use retrieve::{Query, Retrieval, Serving};
