//! How features are asked for: tables, the point-in-time join, and SQL over them.
//!
//! A [`Session`] sees the store at one snapshot. Feature views are its tables; [`features::plan`] and SQL's `ASOF JOIN` and
//! `historical_features` are the point-in-time join. [`column_lineage`] tells what
//! each output column comes from. This crate knows no Flight and keeps no lineage: `serving` records it.

pub mod access;
pub mod column_lineage;
pub mod conditions;
pub mod data_files;
pub mod derived;
pub mod feature_view;
pub mod features;
pub mod history;
pub mod point_in_time;
pub mod row_bytes;
pub mod spines;
pub mod sql;

mod as_of;
mod key_files;
mod longest_read;
mod memory;
mod query_pool;
mod recorded_reads;
mod row_batches;
mod scan;
mod session;
mod snapshot;
mod spool;
mod streamed_rows;
mod system;

pub use conditions::SqlConditions;
pub use key_files::{KeyFile, KeyFiles};
pub use memory::{Memory, OverSpillLimit, Reserved};
pub use session::{CATALOG, Engine, Prepared, SYSTEM_SCHEMA, Session};
pub use snapshot::{LineageRelations, Snapshot, split_name};
pub use spool::SpoolWriter;
pub use sql::{TEXT_BYTES, parameter_types, ttls};
pub use streamed_rows::StreamedRows;
