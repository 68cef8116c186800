//! Who calls: each call's bearer token checked, once and in one place, before anything else looks at the call.

mod bearer;
mod gate;
mod jwt;
mod key_set;
mod options;
mod ticket_key;
mod token_file;
mod watched_file;

use std::collections::BTreeMap;

pub(crate) use gate::{Authenticated, Gate};
pub use jwt::{JwtKeys, JwtOptions};
pub(crate) use options::Access;
pub use options::{AccessOptions, Authentication, TlsFiles};
pub(crate) use ticket_key::TicketKey;
pub use token_file::{NewToken, create as create_token};

/// Who makes a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Caller {
    /// In whose name the log keeps what the call writes and reads.
    pub principal: String,
    /// What the token says that the principal is; policies decide by it.
    pub roles: Vec<String>,
    /// Other claims of the token that are texts or lists of texts.
    pub claims: BTreeMap<String, Vec<String>>,
}

/// The longest name of a principal or a role.
const NAME_BYTES: usize = 256;

/// A name that the log can keep: not empty, not long, of one line.
fn is_name(name: &str) -> bool {
    !name.trim().is_empty() && name.len() <= NAME_BYTES && !name.chars().any(char::is_control)
}

/// The bytes of as many hexadecimal digits as there must be.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// Why a call is not let in, in words for its caller. They never hold the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal(pub String);

impl Refusal {
    fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}
