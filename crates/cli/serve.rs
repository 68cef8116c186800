//! `lineament serve`

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;
use server::{ServeOptions, Server};
use serving::{Error, Kind, Result, Serving};
use tracing_subscriber::EnvFilter;

use crate::session::{PROGRAM, Place};

/// Serve the store over Arrow Flight, on loopback
#[derive(Args)]
pub struct Arguments {
    /// A loopback address
    #[arg(long, default_value = "127.0.0.1")]
    host: std::net::IpAddr,
    /// The port; 0 takes any that is free
    #[arg(long, default_value_t = 8815)]
    port: u16,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let filter = EnvFilter::try_from_env("LINEAMENT_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let serving = place.open_or_create().await?;
    let server = bind(place, serving, SocketAddr::new(arguments.host, arguments.port)).await?;
    println!("listening on grpc://{}", server.address());
    finish(server.run(stop()).await)?;
    Ok(ExitCode::SUCCESS)
}

pub async fn bind(place: &Place, serving: Serving, address: SocketAddr) -> Result<Server> {
    let options = ServeOptions { address, principal: place.author().principal, program: PROGRAM.to_owned() };
    Server::bind(serving, options).await.map_err(|error| Error::new(Kind::Invalid, error.to_string()))
}

pub fn finish(ran: Result<(), server::Error>) -> Result<()> {
    ran.map_err(|error| Error::new(Kind::Unavailable, error.to_string()))
}

/// Done when the user or the system asks the program to stop.
pub async fn stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
