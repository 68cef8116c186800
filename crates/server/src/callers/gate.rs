//! The one place that lets calls in. It stands before the service, so that no method can forget it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::Code;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response};
use tonic::server::NamedService;

use super::bearer::Bearer;
use super::jwt::Jwt;
use super::options::Authentication;
use super::token_file::TokenFile;
use super::{Caller, Refusal};
use crate::error::{Error, Result};
use crate::sealed::Now;
use crate::status;

/// Knows callers by their tokens.
pub struct Gate {
    known_by: KnownBy,
    now: Now,
}

enum KnownBy {
    /// Nobody is asked: all are this one.
    Nothing(Caller),
    Tokens(TokenFile),
    Jwt(Box<Jwt>),
}

impl Gate {
    /// # Errors
    /// `Access` where tokens or keys cannot be read.
    pub async fn open(authentication: &Authentication, principal: &str, now: Now) -> Result<Self> {
        let said = |option: &str| {
            let option = option.to_owned();
            move |why: String| Error::Access(format!("{option}: {why}"))
        };
        let known_by = match authentication {
            Authentication::None => {
                KnownBy::Nothing(Caller { principal: principal.to_owned(), ..Caller::default() })
            }
            Authentication::Tokens(file) => KnownBy::Tokens(TokenFile::open(file).map_err(said("--tokens"))?),
            Authentication::Jwt(options) => {
                KnownBy::Jwt(Box::new(Jwt::open(options).await.map_err(said("keys of tokens (--jwt-…)"))?))
            }
        };
        Ok(Self { known_by, now })
    }

    /// Who makes the call.
    async fn admit(&self, headers: &HeaderMap<HeaderValue>) -> Result<Caller, Refusal> {
        match &self.known_by {
            KnownBy::Nothing(caller) => Ok(caller.clone()),
            KnownBy::Tokens(file) => file.caller(Bearer::of(headers)?, (self.now)()),
            KnownBy::Jwt(jwt) => jwt.caller(Bearer::of(headers)?).await,
        }
    }
}

/// A service whose calls have a [`Caller`] in their extensions, and which gets no others.
#[derive(Clone)]
pub struct Authenticated<S> {
    pub service: S,
    pub gate: Arc<Gate>,
}

impl<S: NamedService> NamedService for Authenticated<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Authenticated<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The one that is ready goes with the call, and its copy stays for the next.
        let copy = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, copy);
        let gate = self.gate.clone();
        Box::pin(async move {
            match gate.admit(request.headers()).await {
                Ok(caller) => {
                    tracing::debug!(principal = caller.principal, roles = ?caller.roles, "a call was let in");
                    // Nothing behind here has a use for the token, and what is not there cannot be logged.
                    request.headers_mut().remove(AUTHORIZATION);
                    request.extensions_mut().insert(caller);
                    service.call(request).await
                }
                Err(Refusal(why)) => {
                    tracing::info!(method = request.uri().path(), why, "a call was not let in");
                    Ok(status::status(Code::Unauthenticated, why).into_http())
                }
            }
        })
    }
}
