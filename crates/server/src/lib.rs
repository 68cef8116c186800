//! Who may call, and how: Arrow Flight and Flight SQL over gRPC.
//!
//! Everything that a call asks for is answered by `serving`; this crate reads requests, refuses uploads that would harm the
//! process, and turns answers and errors into messages. The conventions are written in `docs/flight.md`.

mod actions;
mod admission;
pub mod alerts;
mod answer;
mod call;
mod callers;
mod endpoints;
mod error;
mod exchange;
mod flight_sql;
mod http;
mod measured_calls;
mod metrics;
pub mod mlflow;
pub mod openlineage;
mod outgoing;
mod parameters;
mod policies;
mod put;
mod reports;
mod request;
mod running;
mod sealed;
mod sealed_statements;
mod server;
mod service;
mod statement;
mod status;
mod stream_put;
mod telemetry;
#[cfg(test)]
mod tests;
mod trace_context;
mod upload;
mod whole_uploads;

pub use admission::AdmissionLimits;
pub use callers::{AccessOptions, Authentication, JwtKeys, JwtOptions, NewToken, TlsFiles, create_token};
pub use error::{Error, Result};
pub use http::HttpOptions;
pub use server::{ServeOptions, Server, serve};
pub use telemetry::Telemetry;
