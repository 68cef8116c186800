//! SQL: what is added to DataFusion's, and what is taken away.

mod asof_join;
mod calls;
mod planning;
mod read_only;

pub use calls::ttls;
pub use planning::LineamentQueryPlanner;
pub use read_only::{verify as verify_read_only, verify_statement};

pub(crate) use asof_join::fold_asof_joins;
pub(crate) use calls::{TableFunctions, collect};
