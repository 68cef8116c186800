//! Reading feature views as tables: what of a query's conditions a scan takes over, which files and pages they leave, and the rows
//! of these.

mod dealing;
mod pages;
mod predicate;
mod pruning;
mod rows;
mod runs;
mod shown;
mod survivors;

pub use dealing::deal;
pub use predicate::{Predicate, is_plain, taken_over_guarded};
pub use pruning::may_hold;
pub use rows::{BATCH, FILE, FileRows, Meters, RETRACTED, ROW, SEQUENCE};
pub use shown::Shown;
pub use survivors::{Wanted, plan};
