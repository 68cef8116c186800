//! The integration tests: one binary, so that the engine is linked once. Each file in `suite` has one subject.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

mod suite;
