//! Where a store's bytes lie: objects, the ordered log over them, and the files that hold features.
//!
//! - [`Store`] is one root in object storage; [`Log`](log::Log) its numbered, hash-chained entries.
//! - [`checkpoint`] keeps the folded state beside the log, so that opening costs no replay of history.
//! - [`DurableLocal`] makes local files as safe as object storage is.
//! - [`conformance`] proves that a store can hold a log before one is written to it.
//! - [`environment`] is the one place of clocks and chance.

pub mod checkpoint;
pub mod conformance;
pub mod durable_local;
pub mod entry;
pub mod environment;
pub mod error;
pub mod log;
pub mod manifest;
pub mod partition;
pub mod store;

mod splitmix;

pub use checkpoint::Checkpoint;
pub use durable_local::DurableLocal;
pub use environment::Clock;
pub use error::{Error, Result};
pub use splitmix::SplitMix;
pub use store::Store;
