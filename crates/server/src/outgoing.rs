//! HTTP that the server speaks to others.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode, redirect};
use serving::emission::Refusal;
use serving::{Error, Kind, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that sends `key`, which errors call `what`, as a bearer token. An answer may take `timeout`.
///
/// # Errors
/// `Invalid` for a key that no header can hold.
pub fn client(what: &str, key: Option<&str>, timeout: Duration) -> Result<Client> {
    let mut headers = HeaderMap::new();
    if let Some(key) = key {
        let invalid =
            |_| Error::new(Kind::Invalid, format!("{what} holds characters that no header can hold"));
        let mut bearer = HeaderValue::from_str(&format!("Bearer {key}")).map_err(invalid)?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    Client::builder()
        .default_headers(headers)
        .timeout(timeout)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        // A redirected POST may arrive as a GET, which a server may answer without having taken anything.
        .redirect(redirect::Policy::none())
        .build()
        .map_err(|error| Error::new(Kind::Internal, format!("HTTP cannot be spoken: {error}")))
}

/// Sends a JSON text. None when it was taken, else the answer that refuses it.
///
/// # Errors
/// `NotNow` where there was no answer, for reasons without the address, which may be a secret.
pub async fn post(request: RequestBuilder, json: String) -> std::result::Result<Option<Response>, Refusal> {
    let answer = match request.header(CONTENT_TYPE, "application/json").body(json).send().await {
        Ok(answer) => answer,
        Err(error) => return Err(Refusal::NotNow { why: causes(&error.without_url()), after: None }),
    };
    if !answer.status().is_success() {
        return Ok(Some(answer));
    }
    // Read to its end, so that the connection serves the next message.
    let _ = answer.bytes().await;
    Ok(None)
}

/// Whether who answers so may take the same later.
pub fn passes(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

/// For how long an answer asks to be left alone.
pub fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// An error with what is below it: "connection refused" is what one wants to know.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(below) = cause {
        let text = below.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        cause = below.source();
    }
    said
}
