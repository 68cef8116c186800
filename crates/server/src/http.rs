//! Metrics and health over HTTP, on an address of its own: for Prometheus, and for whoever starts and stops servers.
//!
//! Nothing of the store's content goes out here, nor who asks for it. There are no logins.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use serving::Serving;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::admission::Admission;
use crate::error::{Error, Result};
use crate::metrics::{Metrics, OPENMETRICS, PROMETHEUS};

/// Connections that are open at once; further ones wait.
const CONNECTIONS: usize = 64;
/// How long a connection may say nothing.
const IDLE: Duration = Duration::from_secs(90);
/// How long the store may take to answer before the server is not ready.
const STORE_TAKES: Duration = Duration::from_secs(2);
/// How long an answer of the store holds: those who ask often ask the store no oftener.
const HOLDS: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Where metrics and health are asked for.
#[derive(Clone, Copy, Debug)]
pub struct HttpOptions {
    /// Port 0 takes any that is free.
    pub address: SocketAddr,
    /// Whether the address may be one that other machines reach. There are no logins.
    pub exposed: bool,
}

/// Listens, and does not answer yet.
pub struct Http {
    listener: TcpListener,
    address: SocketAddr,
}

#[derive(Clone)]
struct Watched {
    serving: Serving,
    metrics: Metrics,
    admission: Admission,
    /// What the store answered last, and when.
    store: Arc<Mutex<Option<(Instant, bool)>>>,
}

impl Http {
    /// Listens at the address.
    ///
    /// # Errors
    /// `Exposed` for an address that is not loopback where that is not said to be meant, and `Bind`.
    pub async fn bind(options: HttpOptions) -> Result<Self> {
        let HttpOptions { address, exposed } = options;
        if !address.ip().is_loopback() && !exposed {
            return Err(Error::Exposed(address));
        }
        let failed = |source| Error::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// The address with its real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until it is dropped.
    pub async fn run(self, serving: Serving, metrics: Metrics, admission: Admission) {
        let watched = Watched { serving, metrics, admission, store: Arc::default() };
        let routes = Router::new()
            .route("/metrics", get(metrics_text))
            .route("/healthz", get(async || said(StatusCode::OK, "the process answers")))
            .route("/readyz", get(readiness))
            .with_state(watched);
        let listener = Connections { listener: self.listener, free: Arc::new(Semaphore::new(CONNECTIONS)) };
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::warn!(%error, "metrics and health are not answered any more");
        }
    }
}

async fn metrics_text(State(watched): State<Watched>, headers: HeaderMap) -> Response {
    let accepts = headers.get_all(ACCEPT).iter().filter_map(|accepts| accepts.to_str().ok());
    let openmetrics = accepts.into_iter().any(|accepts| accepts.contains("application/openmetrics-text"));
    match watched.metrics.text(openmetrics) {
        Ok(text) => {
            let kind = if openmetrics { OPENMETRICS } else { PROMETHEUS };
            ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], text).into_response()
        }
        Err(error) => {
            tracing::warn!(%error, "the metrics could not be written");
            said(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written")
        }
    }
}

/// Ready to take calls: not stopping, and the store answers.
async fn readiness(State(watched): State<Watched>) -> Response {
    if watched.admission.is_closed() {
        return said(StatusCode::SERVICE_UNAVAILABLE, "stopping: no new calls are taken");
    }
    if !watched.store_answers().await {
        return said(
            StatusCode::SERVICE_UNAVAILABLE,
            "the store does not answer; what it said is in the server's log",
        );
    }
    said(StatusCode::OK, "ready")
}

impl Watched {
    /// Whether the store says how far its log goes, within the time that it has for it.
    async fn store_answers(&self) -> bool {
        let mut last = self.store.lock().await;
        if let Some((at, answered)) = *last
            && at.elapsed() < HOLDS
        {
            return answered;
        }
        let answered = match tokio::time::timeout(STORE_TAKES, self.serving.catalog().refresh()).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "not ready: the store cannot be read");
                false
            }
            Err(_) => {
                tracing::warn!("not ready: the store took more than {} s to answer", STORE_TAKES.as_secs());
                false
            }
        };
        *last = Some((Instant::now(), answered));
        answered
    }
}

fn said(code: StatusCode, text: &'static str) -> Response {
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    (code, headers, format!("{text}\n")).into_response()
}

/// Connections, of which so many are open at once.
struct Connections {
    listener: TcpListener,
    free: Arc<Semaphore>,
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed.
        let place = self.free.clone().acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let idle = Box::pin(tokio::time::sleep(IDLE));
                    return (Connection { stream, idle, _place: place }, address);
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection for metrics could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when its client says nothing for long.
struct Connection {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        if read.is_ready() {
            self.idle.as_mut().reset(tokio::time::Instant::now() + IDLE);
            return read;
        }
        self.idle.as_mut().poll(context).map(|()| Err(std::io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
