//! What can keep a server from starting or running.

use std::net::SocketAddr;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address can be reached from other machines, and calls would not be encrypted, or callers not known.
    #[error(
        "`{address}` can be reached from other machines, so calls must be encrypted and callers known: give {missing} (docs/security.md), or use a loopback address, as 127.0.0.1:{port}",
        port = .address.port()
    )]
    NotLoopback { address: SocketAddr, missing: String },
    /// What is said of who may call cannot be used.
    #[error("{0}")]
    Access(String),
    /// The address cannot be listened at.
    #[error(
        "cannot listen at `{address}`: {source}; is another server running there? port 0 takes any that is free"
    )]
    Bind { address: SocketAddr, source: std::io::Error },
    /// Metrics would be given out to other machines, and nobody said that this is meant.
    #[error(
        "`{0}` can be reached from other machines, and metrics and health are given out without a login; use a loopback address, or say that it is meant by `--http-exposed`"
    )]
    Exposed(SocketAddr),
    /// What the environment says of OpenTelemetry cannot be done.
    #[error("{0}")]
    Telemetry(String),
    #[error("the server stopped: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// Reads that were answered could not be recorded in the log at shutdown.
    #[error("the reads of the last moments could not be recorded: {0}")]
    Flush(#[source] serving::Error),
}
