//! The token of a call, as its header carries it.

use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{HeaderMap, HeaderValue};

use super::Refusal;

/// The longest token. Those of identity providers have one or two thousand bytes.
const TOKEN_BYTES: usize = 8 << 10;
const HOW: &str = "send the header `authorization: Bearer <token>`; in Python, lineament.connect(url, token=…) or the environment's LINEAMENT_TOKEN";

/// A token that nobody has checked yet. It has neither `Debug` nor `Display`, so that no log can hold it.
#[derive(Clone, Copy)]
pub struct Bearer<'a>(&'a str);

impl<'a> Bearer<'a> {
    /// The token of a call.
    ///
    /// # Errors
    /// No token, more than one, one of another scheme, or one that holds what no token does.
    pub fn of(headers: &'a HeaderMap<HeaderValue>) -> Result<Self, Refusal> {
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = given.next() else {
            return Err(Refusal::new(format!("this server needs a token, and the call has none: {HOW}")));
        };
        if given.next().is_some() {
            return Err(Refusal::new("the call has more than one `authorization` header; send one"));
        }
        let Some((scheme, token)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else {
            return Err(Refusal::new(format!("the `authorization` header is not a token: {HOW}")));
        };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Refusal::new(format!(
                "the `authorization` header is of another scheme than `Bearer`, and no other is supported: {HOW}"
            )));
        }
        let token = token.trim_matches(' ');
        if token.len() > TOKEN_BYTES {
            return Err(Refusal::new(format!(
                "the token has {} bytes; at most {TOKEN_BYTES} are allowed",
                token.len()
            )));
        }
        let signs = |sign: char| sign.is_ascii_alphanumeric() || "-._~+/=".contains(sign);
        if token.is_empty() || !token.chars().all(signs) {
            return Err(Refusal::new(format!(
                "the token is empty, or holds signs that no token does: {HOW}"
            )));
        }
        Ok(Self(token))
    }

    /// The token itself, for who checks it.
    pub fn secret(self) -> &'a str {
        self.0
    }
}
