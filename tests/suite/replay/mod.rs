//! Replay: a recorded training set is the same for ever, or what was altered is named.

mod altered_bytes;
mod causes;
mod histories;
mod retention;
