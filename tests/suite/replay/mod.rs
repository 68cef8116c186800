//! Replay: a recorded training set is the same for ever, or what was altered is named.

mod altered_bytes;
mod causes;
pub mod histories;
mod retention;
