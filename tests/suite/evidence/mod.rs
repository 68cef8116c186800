//! Evidence: packs that are the same each time, that can be checked without the store, and that nobody alters unnoticed.

mod altered_packs;
mod pack;
mod program;
pub mod story;
