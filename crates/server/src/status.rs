//! Errors as gRPC statuses.

use arrow::error::ArrowError;
use arrow_flight::error::FlightError;
use serving::Kind;
use tonic::{Code, Status};

/// How long a message may be as it travels. It goes in a header, and clients refuse headers over 8 KiB.
const MESSAGE_BYTES: usize = 6_000;

/// The status of an error, by what the caller can do about it.
pub fn of(error: &serving::Error) -> Status {
    let code = match error.kind() {
        Kind::Invalid => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::Refused => Code::FailedPrecondition,
        Kind::Forbidden => Code::PermissionDenied,
        Kind::Damaged => Code::DataLoss,
        Kind::Exhausted => Code::ResourceExhausted,
        Kind::Unavailable => Code::Unavailable,
        Kind::Internal => Code::Internal,
    };
    status(code, error.to_string())
}

/// The caller must mend the request.
pub fn invalid(message: impl Into<String>) -> Status {
    status(Code::InvalidArgument, message)
}

/// What this server does not do, and what to do in its place.
pub fn unsupported(message: impl Into<String>) -> Status {
    status(Code::Unimplemented, message)
}

/// A fault of ours, or of a library.
pub fn internal(what: &str, error: impl std::fmt::Display) -> Status {
    status(Code::Internal, format!("{what}: {error}"))
}

/// An answer could not be encoded.
pub fn encoding(error: &ArrowError) -> Status {
    internal("the answer could not be encoded", error)
}

/// What a client sent could not be decoded.
pub fn decoding(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => invalid(format!("the rows that were sent cannot be read: {other}")),
    }
}

pub fn status(code: Code, message: impl Into<String>) -> Status {
    Status::new(code, shortened(message.into()))
}

/// Cuts a message that would not fit into a header. gRPC writes most signs that are not letters or digits in three bytes.
fn shortened(message: String) -> String {
    let mut length = 0;
    for (at, sign) in message.char_indices() {
        length += if sign.is_ascii_alphanumeric() { 1 } else { 3 * sign.len_utf8() };
        if length > MESSAGE_BYTES {
            return format!("{} …", message.get(..at).unwrap_or_default());
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_to_fit_a_header() {
        assert_eq!(invalid("short").message(), "short");
        for sign in ["a", " ", "é", "→", "\n"] {
            let status = invalid(sign.repeat(20_000));
            let travels: usize = status
                .message()
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { 1 } else { 3 * c.len_utf8() })
                .sum();
            assert!(travels < 6_100, "{sign:?}: {travels}");
            assert!(status.message().ends_with('…'));
        }
    }
}
