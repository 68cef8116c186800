//! HTTP that the server speaks to others.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, redirect};
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
