//! SQL: what is added to DataFusion's, and what is taken away.

mod access_call;
mod accounted;
mod asof_join;
mod bounded_functions;
mod calls;
mod deep_stack;
mod dialect;
mod limits;
mod parameter_types;
mod planning;
mod read_only;
mod time_travel;
mod unread;
mod walk;

pub use calls::ttls;
pub use limits::{TEXT_BYTES, TooMuch};
pub use parameter_types::parameter_types;
pub use planning::LineamentQueryPlanner;
pub use read_only::{verify as verify_read_only, verify_statement};

pub(crate) use asof_join::{feature_view, fold_asof_joins};
pub(crate) use bounded_functions::bound_functions;
pub(crate) use calls::{TableFunctions, collect};
pub(crate) use deep_stack::{on_deep_stack, with_deep_stack};
pub(crate) use dialect::parse;
pub(crate) use limits::{verify_physical, verify_plan, verify_relations, verify_text};
pub(crate) use unread::verify_all_read;
