//! The integration tests: one binary, so that the engine is linked once. Each file in `suite` has one subject.

mod suite;
