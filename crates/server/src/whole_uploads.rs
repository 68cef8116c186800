//! An upload that is cut short is an error, and not its end.
//!
//! tonic ends a request's stream without an error where the client has reset it, as one does that is cancelled or killed; hyper
//! does so for a reset without a reason. What came until then would be taken for all.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::{Code, Status};

use crate::status;

/// A service whose requests end properly or with an error.
#[derive(Clone)]
pub struct WholeUploads<S>(pub S);

impl<S: NamedService> NamedService for WholeUploads<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<http::Request<Body>>> Service<http::Request<Body>> for WholeUploads<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> S::Future {
        self.0.call(request.map(|body| Body::new(Whole(body))))
    }
}

struct Whole(Body);

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.0).poll_frame(context).map(|frame| match frame {
            Some(Err(status)) if status.code() == Code::Cancelled => Some(Err(cut_short())),
            None if !self.0.is_end_stream() => Some(Err(cut_short())),
            other => other,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

fn cut_short() -> Status {
    status::status(
        Code::Aborted,
        "the client left before it had sent all, and nothing of what it sent is kept; send it again",
    )
}
