//! Small files become large ones, and nothing that can be asked has another answer.

pub mod files;
mod races;
mod twins;
