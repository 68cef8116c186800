//! What came from what.
//!
//! A training set's [`Manifest`] says what it was made of, whole enough to make it again; its column [`Edge`]s say which
//! column of which version each of its columns comes from. This crate knows no query engine and no network: what was
//! read and matched is handed to it.

pub mod dangling;
pub mod edges;
pub mod graph;
pub mod manifest;
pub mod openlineage;
pub mod retention;
pub mod split;

pub use dangling::{Blocks, Dangling, dangling};
pub use edges::{Edge, Source};
pub use graph::Graph;
pub use manifest::Manifest;
pub use retention::{Keeper, Retention};
pub use split::Split;
