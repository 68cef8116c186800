//! Column lineage: what the trace says of queries, that it is never less than the truth, and what is recorded of reads.

mod expected;
pub(super) mod generator;
mod mutation;
mod recorded;
pub(super) mod store;
