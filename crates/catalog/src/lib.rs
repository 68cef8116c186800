//! What exists at each sequence, and the one way in.
//!
//! The log's records are folded into a [`State`]; every change of it is an entry that [`Catalog::commit`]
//! appends; every row comes in through [`ingest::ingest`]. This crate knows no query engine (conditions
//! written in SQL come in through [`Conditions`]) and no network. A store opens from a [`checkpoint`] of its
//! state where there is one.

pub mod alerts;
pub mod approval;
pub mod author;
pub mod cache_use;
pub mod checkpoint;
pub mod compaction;
pub mod conditions;
pub mod deprecation;
pub mod descriptions;
pub mod erasure;
pub mod external;
pub mod following;
pub mod holds;
pub mod ingest;
pub mod kept_spines;
pub mod plan;
pub mod policies;
pub mod quality;
pub mod recorded_reads;
pub mod records;
pub mod registry;
pub mod release;
pub mod retention;
pub mod sampling;
pub mod scoreboard;
pub mod selection;
pub mod state;
pub mod withdrawal;

mod catalog;
mod error;
mod folding;
mod large_object;
mod visible_file;

pub use author::Author;
pub use cache_use::CacheUse;
pub use catalog::{Catalog, Intent, Outcome, RequestBinding};
pub use conditions::{Condition, Conditions};
pub use error::{Error, Result};
pub use folding::Fold;
pub use following::{Followed, Following};
pub use state::State;
pub use visible_file::{FileBatches, Several, VisibleFile};
