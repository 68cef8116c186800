//! Every call is counted where it enters and leaves, whatever answers it, and new ones are refused while the server stops.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body::{Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::{Code, Status};

use crate::admission::{Admission, stopping};
use crate::metrics::{Method, MethodMetrics, Metrics};

/// A service that is measured.
#[derive(Clone)]
pub struct MeasuredCalls<S> {
    pub service: S,
    pub metrics: Metrics,
    pub admission: Admission,
}

impl<S: NamedService> NamedService for MeasuredCalls<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for MeasuredCalls<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let metrics = self.metrics.method(Method::of(request.uri().path())).clone();
        let mut measured = Measured::begin(metrics);
        if self.admission.is_closed() {
            let refused = stopping();
            measured.code = Some(refused.code());
            return async move {
                drop(measured);
                Ok(refused.into_http())
            }
            .boxed();
        }
        let bytes = measured.metrics.received_bytes.clone();
        let answer = self.service.call(request.map(|body| Body::new(Received { body, bytes })));
        async move {
            let response = answer.await?;
            // An answer without messages says how it ended where others begin.
            if let Some(code) = code_of(response.headers()) {
                measured.code = Some(code);
            }
            Ok(response.map(|body| Body::new(Sent { body, measured: Some(measured) })))
        }
        .boxed()
    }
}

fn code_of(headers: &http::HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()))
}

/// A call that is counted when it is dropped. One that has no code by then was left by its client.
struct Measured {
    metrics: MethodMetrics,
    begun: Instant,
    answered: bool,
    code: Option<Code>,
}

impl Measured {
    fn begin(metrics: MethodMetrics) -> Self {
        metrics.running.inc();
        Self { metrics, begun: Instant::now(), answered: false, code: None }
    }

    fn first_message(&mut self) {
        if !self.answered {
            self.answered = true;
            self.metrics.first_byte.observe(self.begun.elapsed().as_secs_f64());
        }
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.metrics.running.dec();
        self.metrics.whole.observe(self.begun.elapsed().as_secs_f64());
        self.metrics.ended(self.code.unwrap_or(Code::Cancelled));
    }
}

/// What a client sends.
struct Received {
    body: Body,
    bytes: Counter,
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            self.bytes.inc_by(data_bytes(frame));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What is sent to a client, with the call that it belongs to until it has ended.
struct Sent {
    body: Body,
    measured: Option<Measured>,
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(measured) = &mut self.measured {
            match &frame {
                Some(Ok(frame)) => match frame.trailers_ref() {
                    Some(trailers) => measured.code = code_of(trailers).or(measured.code),
                    None => {
                        measured.first_message();
                        measured.metrics.sent_bytes.inc_by(data_bytes(frame));
                    }
                },
                Some(Err(status)) => measured.code = Some(status.code()),
                None => {}
            }
            if measured.code.is_some() || frame.is_none() {
                self.measured = None;
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn data_bytes(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, Buf::remaining) as u64
}
