//! How features leave: the one way out.
//!
//! Every read goes through [`Serving::retrieve`] or [`Serving::historical`]: decide, plan, stream, record. Rebuilding a recorded training
//! set and explaining a cell of it stand on the same. This crate knows no protobuf and no HTTP.

mod access;
pub mod alerts;
mod audit;
mod bias;
mod column_edges;
mod compaction;
mod deprecation;
mod derived_columns;
mod diff;
mod digesting;
mod drift;
pub mod emission;
mod erase;
mod erased_rows;
mod error;
mod evidence;
mod evolution;
mod explain;
mod export;
mod export_set;
mod export_to;
mod given_spine;
mod graph;
mod historical;
mod historical_stream;
mod holds;
mod judgement;
mod looked_at;
mod mending;
mod policies;
mod quarantine;
mod queried_spine;
mod read_rows;
mod reads;
mod rebuilding;
mod rebuilt_sets;
mod reconcile;
mod recorded;
mod refresh;
mod registry;
mod replay;
mod retain;
mod retention;
mod retrieve;
mod rollback;
mod rulings;
mod sampled_reads;
mod search;
mod spines;
mod stored_spines;
mod streams;
mod stretches;
mod sweep;
mod verification;
mod whole_files;

pub use audit::{
    Audit, AuditBatch, AuditClass, AuditExample, AuditRequest, AuditSetRequest, ColumnAudit, FullAudit,
    JudgedBy, Lead,
};
pub use bias::{BiasReport, BiasRequest, ViewBias};
pub use catalog::sampling::Due;
pub use column_edges::edges_of;
pub use compaction::CompactRequest;
pub use deprecation::{DeprecateRequest, DeprecationNotice, DeprecationReport, DueReport, PutOff, StepTaken};
pub use diff::{
    Cause, CellCount, CellExample, Class, ColumnChanges, Compared, Diff, DiffRequest, DiffSide, EntryCount,
    FullDiff, Retyped, RowChange, RowCounts, RowExample,
};
pub use drift::{DriftReport, DriftRequest, Measured};
pub use engine::{Memory, Reserved, SpoolWriter, TEXT_BYTES as SQL_BYTES};
pub use erase::{DerivedBatch, EraseReport, EraseRequest, ErasedBatch, ErasedTrainingSet};
pub use error::{Error, Kind, Result};
pub use evidence::{
    Evidence, EvidenceRequest, PublicKey, SigningKey, Verification, verify as verify_evidence,
};
pub use evolution::{ApprovalReport, waits_for_approval};
pub use explain::{Candidate, ExplainRequest, ExplainValueRequest, Explanation};
pub use export::write_parquet;
pub use export_set::{ExportFiles, ExportReport, ExportedRows};
pub use export_to::ExportTo;
pub use given_spine::GivenSpine;
pub use graph::{ImpactReport, ImpactRow, LineageReport, LineageRequest, LineageStep};
pub use historical::{FeatureNulls, HistoricalReport, HistoricalRequest, Spine, TrainingSet, ViewMatches};
pub use historical_stream::HistoricalStream;
pub use holds::HoldReport;
pub use lineage::{Manifest, Split};
pub use mending::RejectedRows;
pub use policies::Ruling;
pub use quarantine::{QuarantineAction, QuarantineReport, QuarantineRequest, QuarantinedBatch};
pub use reads::ReadRecords;
pub use reconcile::{LastReconciliation, Problem, ReconcileReport};
pub use refresh::{RefreshReport, RefreshRequest};
pub use registry::{LastTrackingPass, TrackingPasses};
pub use replay::{Difference, ReplayReport, ReplayStream, Replayed, Suspect};
pub use retain::{ExpiredBatch, KeptRows, RetainReport, RetainRequest, RetainedView};
pub use retention::{Kept, KeptReport, KeptStep};
pub use retrieve::{Described, OpaqueReads, Parameters, Query, Retrieval, Serving};
pub use rollback::{RollbackReport, RollbackRequest, RolledBack};
pub use search::{Found, FoundKind, SearchReport, SearchRequest, Thing};
pub use spines::SpineReport;
pub use stretches::{StretchReport, Stretches};
pub use sweep::{Bounds, SweepGroup, SweepReport, SweepRequest};
pub use verification::{Fault, Harm, Orphan, StoreVerification, VerifyProgress, VerifyRequest, verify_store};
